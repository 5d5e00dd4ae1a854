"""Table 1, image inversion: ``python -m eval.table1`` measures, prints the tables and writes them in four forms.

Without options it measures what ``dvc repro`` made: the test sets ``data/test/SET`` against the inversions
``data/inversions/METHOD/SET``. ``--images`` measures a folder of your own. The two halves, :func:`evaluate` (pictures
to measurements) and :func:`render` (measurements to tables), also serve the pipeline's stages `evaluate` and `report`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from eval import measurement, own_pictures
from eval.inversions import invert_pictures
from eval.measurement import SetMeasurements
from eval.metrics.suite import build_suite
from eval.profile import Profile
from eval.provenance import provenance
from eval.tables import Column, Estimate, Row, Table, to_csv
from fse.pictures import list_pictures
from fse.refusal import Refusal, exit_on_refusal

SETS = {"renders": "Renders pushed off the generator's manifold", "photographs": "Real photographs"}
METHODS = {"psp": "pSp", "fse_w": "FSE, G(w)", "fse": "FSE, G(F, w)"}  # rows in the paper's order: the baselines first
DECIMALS = {"psnr": 2, "mse": 4, "id_same": 2, "fd_effnet": 2, "fid": 2}  # the others have 3
DISTRIBUTIONS = ("fd_effnet", "fid")
MEAN_DESCRIPTOR = "mean_descriptor.json"


@dataclass(frozen=True)
class Places:
    """Where things lie at run time; the defaults are relative to the repository."""

    test: Path = Path("data/test")
    inversions: Path = Path("data/inversions")
    reports: Path = Path("reports")

    @property
    def measurements(self) -> Path:
        return self.reports / "measurements"


def evaluate(
    places: Places,
    profile: Profile,
    *,
    sets: Sequence[str] = tuple(SETS),
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    batch: int = 16,
) -> None:
    """Measure the inversions of each set and write ``measurements/SET.{csv,json}``.

    ``methods`` None takes every method that has inversions of the set; ``limit`` the first so many pictures by name.
    """
    for name in sets:
        folders = {method: places.inversions / method / name for method in methods or _inverted(places, name)}
        for method, folder in folders.items():
            if not folder.is_dir():
                raise Refusal(f"there are no inversions by {method!r} in {folder}: run `make repro`, which makes them")
        try:
            sources = list_pictures(places.test / name)[:limit]
        except Refusal as refusal:
            raise Refusal(f"the test set {name!r} is missing ({refusal}): run `make repro`") from refusal
        suite = build_suite(profile.assets, places.test / MEAN_DESCRIPTOR, profile.device)
        progress = f"measuring {name}"
        measurement.measure(sources, folders, suite, resolution=profile.resolution, batch=batch, progress=progress)
        measurement.write(suite, name, places.measurements)


def evaluate_own(
    folder: Path,
    places: Places,
    profile: Profile,
    *,
    methods: Sequence[str],
    align: bool = False,
    limit: int | None = None,
) -> str:
    """Invert and measure a user's pictures; everything goes under ``places.reports``. Returns the set's name.

    A picture that cannot be used is named in the results and does not stop the others.
    """
    name = folder.resolve().name
    suite = build_suite(profile.assets, places.test / MEAN_DESCRIPTOR, profile.device)
    own = own_pictures.prepare(folder, places.reports / "pictures", profile, align=align, limit=limit)
    inversions = {method: places.reports / "inversions" / method for method in methods}
    for method, target in inversions.items():
        invert_pictures(own.prepared, target, method, profile)
    for picture, reason in own.broken.items():
        for method in methods:
            suite.fail(picture, method, reason)
    measurement.measure(own.prepared, inversions, suite, resolution=profile.resolution)
    measurement.write(suite, name, places.measurements)
    return name


def render(
    places: Places, origin: Mapping[str, Any], *, sets: Sequence[str] = tuple(SETS), profile: str = "embedded"
) -> list[Table]:
    """Write ``table1.{json,md,csv,tex}`` from the measurements of ``sets``; ``origin`` is the provenance."""
    measured = [measurement.read(name, places.measurements)[0] for name in sets]
    tables = [table_of(results) for results in measured]
    results = {
        "metrics": {key: value for each in measured for key, value in each.metrics.items()},
        "profile": profile,
        "provenance": dict(origin),
        "sets": {each.name: {"n": each.n, "methods": each.methods, "failures": each.failures} for each in measured},
    }
    texts = {
        "json": json.dumps(results, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n",
        "md": "\n".join(table.markdown() for table in tables),
        "csv": to_csv(tables),
        "tex": "% needs \\usepackage{booktabs,graphicx}\n" + "\n".join(table.latex() for table in tables),
    }
    places.reports.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        (places.reports / f"table1.{suffix}").write_text(text, encoding="utf-8")
    return tables


def origin_of(
    places: Places,
    profile: Profile,
    sets: Sequence[str],
    parameters: Mapping[str, Any] | None,
    pictures: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Provenance of a table: code, parameters, machine, and the hashes of assets, weights and pictures.

    ``pictures`` (name -> folder) stands for those of the test sets where others were measured.
    """
    pictures = pictures or {f"test/{name}": places.test / name for name in sets}
    return provenance({"assets": profile.assets, "weights": profile.weights, **pictures}, parameters)


def table_of(results: SetMeasurements) -> Table:
    """The table of one set, with the paper's rows of the same methods beside it."""
    beside = published()
    columns = [
        Column(key, metric["label"], metric["higher_is_better"], DECIMALS.get(key, 3))
        for key, metric in results.metrics.items()
    ]
    order = {method: place for place, method in enumerate(METHODS)}
    rows = [
        Row(method, METHODS.get(method, method), {key: _estimate(value) for key, value in cells.items()})
        for method, cells in sorted(results.methods.items(), key=lambda item: order.get(item[0], -1))
    ]
    return Table(
        key=results.name,
        title=f"{SETS.get(results.name, results.name)}: {results.n} picture{'s' * (results.n != 1)}",
        columns=columns,
        rows=rows,
        notes=[*_notes(results), *beside.notes],
        failures=[f"{each['picture']}, {each['method']}: {each['reason']}" for each in results.failures],
        beside=beside,
    )


def published() -> Table:
    """The paper's Table 1, as printed there."""
    paper = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))["table1"]
    columns = [Column(key, **metric) for key, metric in paper["metrics"].items()]
    rows = [
        Row(method, METHODS.get(method, method), {key: Estimate(value) for key, value in values.items()})
        for method, values in paper["methods"].items()
    ]
    return Table("paper", f"As published ({paper['label']})", columns, rows, notes=[paper["note"]])


def _estimate(value: Mapping[str, Any]) -> Estimate:
    return Estimate(value["mean"], value.get("low"), value.get("high"))


def _notes(results: SetMeasurements) -> list[str]:
    """What the cells are, how many pictures stand behind them, and which of them say less than they seem to."""
    notes = ["Mean, and 95 % bootstrap interval over pictures; the best mean of a column is bold."]
    groups: dict[tuple[int, int, int], dict[str, list[str]]] = {}
    for method, cells in results.methods.items():
        for metric, cell in cells.items():
            counts = cell["expected"], cell["used"], cell["failed"]
            labels = groups.setdefault(counts, {}).setdefault(METHODS.get(method, method), [])
            labels.append(results.metrics[metric]["label"])
    usual = max(groups, key=lambda counts: sum(map(len, groups[counts].values())))
    elsewhere = " unless said otherwise" if len(groups) > 1 else ""
    notes.append("{} pictures expected, {} used, {} failed{}.".format(*usual, elsewhere))
    for counts, methods in groups.items():
        if counts != usual:
            where = "; ".join(f"{method}: {', '.join(labels)}" for method, labels in methods.items())
            notes.append("{} expected, {} used, {} failed for {}.".format(*counts, where))
    for metric, described in results.metrics.items():
        found = [cells[metric] for cells in results.methods.values() if metric in cells]
        reasons = dict.fromkeys(cell["reason"] for cell in found if "reason" in cell)
        notes += [f"{described['label']} {reason}." for reason in reasons]
        if metric in DISTRIBUTIONS and any(cell["mean"] is not None for cell in found):
            notes.append(f"{described['label']} is lower the more pictures there are: compare it at {results.n} only.")
    return notes


def _inverted(places: Places, name: str) -> list[str]:
    """Every method that has inversions of a set, in the order of the rows."""
    methods = sorted(path.parent.name for path in places.inversions.glob(f"*/{name}") if path.is_dir())
    if not methods:
        raise Refusal(f"{places.inversions} has no inversions of {name!r}: run `make repro`, which makes them")
    return methods


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.table1",
        description="Measure inversions and print Table 1.",
        epilog="examples:\n  python -m eval.table1 --limit 16 --out runs/quick\n"
        "  python -m eval.table1 --images ~/portraits --align --methods psp,fse --out runs/portraits",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--methods", metavar="A,B", help="default: all that have inversions; with --images psp,fse_w,fse"
    )
    parser.add_argument("--sets", metavar="A,B", default=",".join(SETS), help="test sets (default: %(default)s)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="measure your own pictures instead of the test sets")
    parser.add_argument("--align", action="store_true", help="with --images: cut the faces out first, as in FFHQ")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures by name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: reports; with --images runs/own")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        raise Refusal(f"--limit is {arguments.limit}: give at least 1")
    profile = Profile(device=_device(arguments.device))
    own = arguments.images is not None
    places = Places(reports=arguments.out or Path("runs/own" if own else "reports"))
    methods = arguments.methods.split(",") if arguments.methods else None
    if own:
        options = {"align": arguments.align, "limit": arguments.limit}
        sets = [evaluate_own(arguments.images, places, profile, methods=methods or list(METHODS), **options)]
    else:
        if arguments.align:
            raise Refusal("--align is for your own pictures: give their folder with --images")
        sets = arguments.sets.split(",")
        evaluate(places, profile, sets=sets, methods=methods, limit=arguments.limit)
    images = {"images": arguments.images} if own else None
    origin = origin_of(places, profile, sets, read_parameters(), images)
    tables = render(places, origin, sets=sets, profile=profile.name)
    console = Console()
    for table in tables:
        console.print(table.rich(console.width), "")
    console.print(f"written: {places.reports}/table1.{{md,csv,tex,json}}, {places.measurements}/", style="dim")


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise Refusal(f"--device {name} cannot be used ({str(error).splitlines()[0]}): give cpu, or cuda") from error


def read_parameters(path: Path = Path("params.yaml")) -> dict[str, Any] | None:
    """The parameters in force, for the provenance; None away from the repository."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    main()
