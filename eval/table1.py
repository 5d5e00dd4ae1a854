"""Table 1, image inversion: ``python -m eval.table1`` measures, prints the tables and writes them in four forms.

Without options it measures what ``dvc repro`` made: the test sets ``data/test/SET`` against the inversions
``data/inversions/METHOD/SET``. ``--images`` measures a folder of your own. The two halves, :func:`evaluate` (pictures
to measurements) and :func:`render` (measurements to tables), also serve the pipeline's stages `evaluate` and `report`.
Stopped, it goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from eval import costs, measurement, own_pictures
from eval.comparison import Comparison, against_the_best_baseline, comparisons_table, csv_columns
from eval.contest import METHODS as METHODS
from eval.contest import OURS
from eval.contest import SETS as SETS
from eval.contest import Places as Places
from eval.inversions import invert_pictures
from eval.measurement import Parts, SetMeasurements
from eval.metrics.distribution import SUBSETS, subset_sizes
from eval.metrics.suite import EXTRAPOLATED, build_suite
from eval.orderings import Ordering, evaluate_orderings, orderings_table, published_orderings
from eval.orderings import as_json as orderings_json
from eval.profile import Profile
from eval.provenance import code_sha256, provenance, sha256
from eval.tables import Column, Estimate, Row, Table, TextTable, to_csv
from fse.pictures import list_pictures
from fse.refusal import Refusal, exit_on_refusal
from fse.registry import method_names

DECIMALS = {"psnr": 2, "mse": 4, "id_same": 2}  # the others have 3
DISTRIBUTIONS = {"fd_effnet": 2, "fid": 2}
DECIMALS |= DISTRIBUTIONS | {key + EXTRAPOLATED: decimals for key, decimals in DISTRIBUTIONS.items()}
MEAN_DESCRIPTOR = "mean_descriptor.json"


def evaluate(
    places: Places,
    profile: Profile,
    *,
    sets: Sequence[str] = tuple(SETS),
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    subsets: Mapping[str, int] | None = None,
    batch: int = 8,
) -> None:
    """Measure the inversions of each set and write ``measurements/SET.{csv,json}``.

    ``methods`` None takes every method that has inversions of the set; ``limit`` the first so many pictures by name;
    ``subsets`` (METHOD -> number) so many of these for a method that is too slow for all. A run that was stopped is
    continued.
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
        basis = f"{code_sha256()} {sha256(places.test / MEAN_DESCRIPTOR)} {profile.resolution} {profile.device}"
        parts = Parts(places.measurements / ".parts" / name, basis)
        measurement.measure(
            sources,
            folders,
            suite,
            resolution=profile.resolution,
            batch=batch,
            subsets=subsets,
            parts=parts,
            progress=f"measuring {name}",
        )
        measurement.write(suite, name, places.measurements)
        parts.remove()


def evaluate_own(
    folder: Path,
    places: Places,
    profile: Profile,
    *,
    methods: Sequence[str],
    align: bool = False,
    limit: int | None = None,
    subsets: Mapping[str, int] | None = None,
) -> str:
    """Invert and measure a user's pictures; everything goes under ``places.reports``. Returns the set's name.

    A picture that cannot be used is named in the results and does not stop the others. ``subsets`` as for
    :func:`evaluate`.
    """
    subsets = subsets or {}
    name = folder.resolve().name
    suite = build_suite(profile.assets, places.test / MEAN_DESCRIPTOR, profile.device)
    own = own_pictures.prepare(folder, places.reports / "pictures", profile, align=align, limit=limit)
    inversions = {method: places.reports / "inversions" / method for method in methods}
    for method, target in inversions.items():
        invert_pictures(own.prepared[: subsets.get(method)], target, method, profile)
    for picture, reason in own.broken.items():
        for method in methods:
            if method in subsets:
                suite.leave_out(picture, method)
            else:
                suite.fail(picture, method, reason)
    measurement.measure(own.prepared, inversions, suite, resolution=profile.resolution, subsets=subsets)
    measurement.write(suite, name, places.measurements)
    return name


@dataclass(frozen=True)
class Judged:
    """A set's measurements, and what follows from them."""

    results: SetMeasurements
    comparisons: Sequence[Comparison]
    orderings: Sequence[Ordering]

    @classmethod
    def read(cls, name: str, places: Places) -> Judged:
        """Of what :func:`evaluate` wrote."""
        results, pictures = measurement.read(name, places.measurements)
        orderings = evaluate_orderings(results, pictures, published_orderings())
        return cls(results, against_the_best_baseline(results, pictures, OURS), orderings)


@dataclass(frozen=True)
class Rendered:
    """A table a set, with its comparisons and orderings under it, and the methods' costs."""

    tables: list[Table]
    costs: TextTable


def render(
    places: Places, origin: Mapping[str, Any], *, sets: Sequence[str] = tuple(SETS), profile: str = "embedded"
) -> Rendered:
    """Write ``table1.{json,md,csv,tex}`` from the measurements of ``sets``; ``origin`` is the provenance."""
    judged = [Judged.read(name, places) for name in sets]
    tables = [table_of(each) for each in judged]
    measured = [each.results for each in judged]
    known = {row.key: row.label for table in tables for row in table.rows}
    cost = costs.read_costs(places.training, known)
    rendered = Rendered(tables, costs.costs_table(cost, known))
    printed: list[Table | TextTable] = [*tables, rendered.costs]
    results = {
        "metrics": {key: value for each in measured for key, value in each.metrics.items()},
        "profile": profile,
        "provenance": dict(origin),
        "costs": costs.as_json(cost),
        "sets": {
            each.results.name: {
                "n": each.results.n,
                "methods": each.results.methods,
                "failures": each.results.failures,
                "comparisons": [asdict(comparison) for comparison in each.comparisons],
                "orderings": orderings_json(each.orderings),
            }
            for each in judged
        },
    }
    texts = {
        "json": json.dumps(results, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n",
        "md": "\n".join(table.markdown() for table in printed),
        "csv": to_csv(tables),
        "tex": "% needs \\usepackage{array,booktabs,graphicx}\n" + "\n".join(table.latex() for table in printed),
    }
    places.reports.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        (places.reports / f"table1.{suffix}").write_text(text, encoding="utf-8")
    return rendered


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


def table_of(judged: Judged) -> Table:
    """The table of one set, with the paper's rows of the same methods beside it."""
    results, beside = judged.results, published()
    columns = [
        Column(key, metric["label"], metric["higher_is_better"], DECIMALS.get(key, 3))
        for key, metric in results.metrics.items()
    ]
    order = {method: place for place, method in enumerate(METHODS)}
    further = csv_columns(judged.comparisons)
    rows = [
        Row(
            method,
            METHODS.get(method, method),
            {key: _estimate(value) for key, value in cells.items()},
            _subset(results, method),
            further.get(method, {}),
        )
        for method, cells in sorted(results.methods.items(), key=lambda item: order.get(item[0], -1))
    ]
    labels = {row.key: row.label for row in rows}
    under = [
        comparisons_table(judged.comparisons, columns, labels, OURS, results.name),
        orderings_table(results, judged.orderings, METHODS),
    ]
    return Table(
        key=results.name,
        title=f"{SETS.get(results.name, results.name)}: {results.n} picture{'s' * (results.n != 1)}",
        columns=columns,
        rows=rows,
        notes=[*_notes(results), *beside.notes],
        failures=_failures(results),
        beside=beside,
        under=[table for table in under if table.rows],
    )


def _subset(results: SetMeasurements, method: str) -> int | None:
    """How many pictures a method was measured on, where that is not all of the set."""
    expected = max((cell["expected"] for cell in results.methods[method].values()), default=results.n)
    return None if expected == results.n else int(expected)


def _failures(results: SetMeasurements) -> list[str]:
    """A line a reason: the pictures that failed by it, the methods that they failed for, and the reason."""
    failed: dict[tuple[str, str], list[str]] = {}
    for each in results.failures:
        failed.setdefault((each["picture"], each["reason"]), []).append(each["method"])
    lines: dict[tuple[str, str], list[str]] = {}
    for (picture, reason), methods in failed.items():
        everyone = len(methods) > 1 and set(methods) >= {m for m in results.methods if _subset(results, m) is None}
        labels = "every method" if everyone else "; ".join(METHODS.get(method, method) for method in methods)
        lines.setdefault((labels, reason), []).append(picture)
    return [f"{', '.join(pictures)} by {labels}: {reason}" for (labels, reason), pictures in lines.items()]


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
        if counts != usual and not (counts[2] == 0 and counts[0] < results.n):
            where = "; ".join(f"{method}: {', '.join(labels)}" for method, labels in methods.items())
            notes.append("{} expected, {} used, {} failed for {}.".format(*counts, where))
    for method in results.methods:
        if (subset := _subset(results, method)) is not None:
            notes.append(
                f"{METHODS.get(method, method)} optimises every picture and was run on the first {subset} by name "
                "only: its means do not compare with the column's and are never bold; tests pair the same pictures."
            )
    for metric, described in results.metrics.items():
        cells_of = {method: cells[metric] for method, cells in results.methods.items() if metric in cells}
        reasons = dict.fromkeys(cell["reason"] for cell in cells_of.values() if "reason" in cell)
        notes += [f"{described['label']} {reason}." for reason in reasons]
        if metric in DISTRIBUTIONS and any(cell["mean"] is not None for cell in cells_of.values()):
            notes.append(_bias(results, metric))
    return notes


def _bias(results: SetMeasurements, metric: str) -> str:
    """That a Fréchet distance depends on the number of pictures, and by how much here."""
    label = results.metrics[metric]["label"]
    note = f"{label} is lower the more pictures there are: compare it at {results.n} only."
    pairs = [(cells.get(metric), cells.get(metric + EXTRAPOLATED)) for cells in results.methods.values()]
    known = [(cell, beyond) for cell, beyond in pairs if cell and beyond and beyond["mean"] is not None]
    if not known:
        return note
    sizes = subset_sizes(max(cell["used"] for cell, _ in known))
    above = [cell["mean"] - beyond["mean"] for cell, beyond in known]
    return (
        f"{note} {label} ∞ extrapolates it to infinitely many, the intercept of a line against 1/n (Chong and Forsyth, "
        f"2020) at n = {', '.join(map(str, sizes))}, {SUBSETS} random subsets each: by that, the bias at {sizes[-1]} "
        f"is at least {min(above):.1f} to {max(above):.1f}, and not the same for all methods. From so few pictures the "
        "extrapolation is still too high itself: on renders it came out where the plain distance is at twice as many."
    )


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
        "--methods", metavar="A,B", help="default: all that have inversions; with --images all of the paper's"
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
    parameters = read_parameters()
    subsets = ((parameters or {}).get("evaluate") or {}).get("subset") or {}
    if own:
        options = {"align": arguments.align, "limit": arguments.limit, "subsets": subsets}
        methods = methods or [name for name in METHODS if name in method_names()]
        sets = [evaluate_own(arguments.images, places, profile, methods=methods, **options)]
    else:
        if arguments.align:
            raise Refusal("--align is for your own pictures: give their folder with --images")
        sets = arguments.sets.split(",")
        evaluate(places, profile, sets=sets, methods=methods, limit=arguments.limit, subsets=subsets)
    images = {"images": arguments.images} if own else None
    origin = origin_of(places, profile, sets, parameters, images)
    rendered = render(places, origin, sets=sets, profile=profile.name)
    console = Console()
    for table in rendered.tables:
        console.print(table.rich(console.width), "")
    console.print(rendered.costs.rich(), "")
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
