"""Stage: which official files are here. Runs every time, and changes its outputs only where a file has changed.

``data/survey/assets.json`` has everything, with paths. Beside it lies a small file for each row, set and training, of
what they are made of: the stages depend on these, so that a file that arrives makes its own rows anew.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fse.refusal import exit_on_refusal
from pipelines.official_assets import CATALOGUE, read_official_catalogue
from pipelines.official_folder import AssetState, OfficialFolder, how_to_get
from pipelines.paper.domains import DOMAINS, ROWS, assets_of, domains_of
from pipelines.paper.parameters import read_parameters
from pipelines.paper.stand_ins import is_rehearsal
from pipelines.paper.surveyed import FOLDER, INCEPTION, Surveyed

METRICS = ("curricularface", "mtcnn", "buffalo_l", "alexnet", INCEPTION)
LOSSES = ("arcface_iresnet50", "bisenet", "alexnet")


def entry(state: AssetState, unpacked: Sequence[Path], folder: OfficialFolder, here: Path) -> dict[str, Any]:
    """An asset as :class:`~pipelines.paper.surveyed.Surveyed` reads it, paths relative to the folder ``here``.

    ``unpacked`` are files that its archive was unpacked to.
    """
    paths = [each.path for each in state.files if each.path is not None and each.state == "here"]
    wrong = "; ".join(dict.fromkeys(each.how for each in state.files if each.state == "wrong"))
    reason = f"the official asset {state.asset.id} is {state.state}{f' ({wrong})' * bool(wrong)}"
    return {
        "state": state.state,
        "reason": "" if state.state == "here" else f"{reason}; {how_to_get(state.asset)}",
        "path": os.path.relpath(state.path, here) if state.path else None,
        "files": {
            path.name: {"path": os.path.relpath(path, here), "sha256": folder.digests(path).sha256}
            for path in (*paths, *(path for path in unpacked if path.is_file()))
        },
        "sets": dict(state.sets),
    }


def parts(found: Surveyed) -> dict[str, dict[str, Any]]:
    """NAME of a small file -> the states of the assets that it is about."""
    wanted: dict[str, tuple[str, ...]] = {"metrics": METRICS, "ravdess": ("ravdess",)}
    for name, domain in DOMAINS.items():
        losses = LOSSES if domain.faces else ("arcface_iresnet50", "alexnet")
        wanted[f"test-{name}"] = (domain.test.asset,)
        wanted[f"training-{name}"] = (domain.train.asset, domain.generator, *losses)
        for pictures in domain.references:
            wanted[f"reference-{pictures.set}"] = (pictures.asset, INCEPTION)
    for row in ROWS:
        assets = [asset for name in domains_of(row) for asset in assets_of(name, row)]
        wanted[f"row-{row}"] = tuple(dict.fromkeys(assets))
    return {name: {asset: found.state(asset) for asset in assets} for name, assets in wanted.items()}


@exit_on_refusal
def main() -> None:
    """Write ``data/survey`` and print what is missing."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.survey", description=__doc__).parse_args()
    parameters, here = read_parameters(), Path.cwd()
    catalogue = read_official_catalogue(CATALOGUE)
    rehearsal = is_rehearsal(parameters.official)
    expected = catalogue.for_stand_ins() if rehearsal else catalogue
    folder = OfficialFolder(parameters.official, expected, parameters.assets)
    survey = folder.survey(allow_partial=parameters.allow_partial)
    unpacked = {
        asset.id: [parameters.official / each.file for file in asset.files for each in file.unpack]
        for asset in catalogue.assets
    }
    assets = {name: entry(state, unpacked[name], folder, here) for name, state in survey.assets.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = Surveyed(assets, rehearsal)
    for name, values in {"assets": {"rehearsal": rehearsal, "assets": assets}, **parts(found)}.items():
        text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    console = Console(stderr=True)
    missing = [name for name, values in assets.items() if values["state"] != "here"]
    console.print(f"{len(assets) - len(missing)} of {len(assets)} official assets are here; missing: {missing}")


if __name__ == "__main__":
    main()
