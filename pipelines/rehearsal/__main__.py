"""``python -m pipelines.rehearsal`` (``make rehearse``): all of the `paper` pipeline on stand-ins, in its own folder.

It proves that the wiring is whole: every stage runs, every official format is read, every row that was ever released
has numbers, every table, figure and page comes out. The numbers mean nothing, and every page says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from eval.absent import Absent
from eval.metrics.distribution import TO_REFERENCE
from eval.profile import Profile
from eval.set_table import REHEARSED
from fse.refusal import Refusal, exit_on_refusal
from pipelines.official_assets import CATALOGUE, read_official_catalogue
from pipelines.paper.domains import DOMAINS, assets_of
from pipelines.paper.stand_ins import is_finished
from pipelines.rehearsal.build import build

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "paper"
PRINTED = (
    "table1.md",
    "table1.tex",
    "table2.md",
    "editing.md",
    "ablation.md",
    "protocol.md",
    "protocol_clips.md",
    "noise.md",
)
DISTANCES = ("fid", "kid")
DRAWN = (
    "figure1",
    "figure4_faces",
    "figure4_cars",
    "figure4_cats",
    "figure4_dogs",
    "figure7",
    "figure8",
    "figure9",
    "figure_ablation",
)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with those of ``changes``, sections into sections."""
    found = dict(values)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def lay_out(folder: Path) -> None:
    """The folder that the pipeline runs in: stand-ins, ``dvc.yaml``, parameters, and a DVC repository of its own."""
    official = folder / "data/official"
    if not is_finished(official):
        build(official, Profile(ROOT / "data/assets", ROOT / "weights"), ROOT / "directions/generator.safetensors")
    shutil.copy(PAPER / "dvc.yaml", folder / "dvc.yaml")
    read = [yaml.safe_load((PAPER / name).read_text(encoding="utf-8")) for name in ("params.yaml", "rehearsal.yaml")]
    here = {"code": os.path.relpath(ROOT, folder), "official": "data/official"}
    here["assets"] = os.path.relpath(ROOT / "data/assets", folder)
    values = merged(merged(*read), here)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    _dvc(folder, "init", "--no-scm", "--quiet", "--force")  # the folder may lie where Git looks away
    for name in ("analytics", "check_update"):
        _dvc(folder, "config", f"core.{name}", "false")


def _dvc(folder: Path, *arguments: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, env={**os.environ, "PATH": path})
    if done.returncode:
        raise Refusal(f"`dvc {' '.join(arguments)}` in {folder} ended with {done.returncode}; its messages stand above")


def lacking(folder: Path) -> list[str]:
    """What should have come out and has not."""
    reports, found = folder / "reports", []
    released = {asset.id for asset in read_official_catalogue(CATALOGUE).assets if asset.status != "never released"}
    absent = Absent.read(reports / "measurements")
    found += [f"set {name}: {reason}" for name, reason in absent.sets.items()]
    for name, rows in absent.rows.items():
        for row, reason in rows.items():
            needed = assets_of(name, row) if name in DOMAINS else ()
            if all(asset in released for asset in needed):
                found.append(f"row {row} of {name}: {reason}")
    found += [
        f"column {column} of {name}: {why}" for name, each in absent.columns.items() for column, why in each.items()
    ]
    found += without_numbers(folder)
    for name in PRINTED:
        path = reports / name
        if not path.is_file():
            found.append(f"{path} was not written")
        elif REHEARSED not in path.read_text(encoding="utf-8"):
            found.append(f"{path} does not say that it is a rehearsal")
    found += [f"{reports / name}.png was not drawn" for name in DRAWN if not (reports / f"{name}.png").is_file()]
    page = reports / "index.html"
    if not page.is_file() or REHEARSED not in page.read_text(encoding="utf-8"):
        found.append(f"{page} is missing, or does not say that it is a rehearsal")
    return found


def without_numbers(folder: Path) -> list[str]:
    """Distances between sets that no row of Table 1 has. Extrapolated ones need more pictures than were rehearsed."""
    path = folder / "reports/table1.json"
    sets = json.loads(path.read_text(encoding="utf-8"))["sets"] if path.is_file() else {}
    wanted = {name: [*DISTANCES, *(TO_REFERENCE + each.set for each in DOMAINS[name].references)] for name in sets}
    return [
        f"column {column} of {name} has no numbers"
        for name, columns in wanted.items()
        for column in columns
        if all(cells.get(column, {}).get("mean") is None for cells in sets[name]["methods"].values())
    ]


@exit_on_refusal
def main() -> None:
    """Lay out, run, look at what came out; exit code 2 where anything is lacking."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.rehearsal", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/rehearsal"), help="default: %(default)s")
    folder = parser.parse_args().folder.resolve()
    begun = time.monotonic()
    lay_out(folder)
    print(f"stand-ins: {time.monotonic() - begun:.0f} s")
    _dvc(folder, "repro")
    if missing := lacking(folder):
        raise Refusal("the rehearsal is not whole: " + "; ".join(missing))
    results = json.loads((folder / "reports/table1.json").read_text(encoding="utf-8"))["sets"]
    rows = {name: len(values["methods"]) for name, values in results.items()}
    print(f"whole: {rows} rows measured; {time.monotonic() - begun:.0f} s; {folder / 'reports/index.html'}")


if __name__ == "__main__":
    main()
