"""Table 1, image inversion: ``python -m eval.table1`` measures, prints the tables and writes them in four forms.

Without options it measures what ``dvc repro`` made: the test sets ``data/test/SET`` against the inversions
``data/inversions/METHOD/SET``; inversions that are not there are made first, so that of the pipeline the stage `data`
is enough. ``--images`` measures a folder of your own. The two halves, :func:`evaluate` (pictures to measurements) and
:func:`render` (measurements to tables), also serve the pipeline's stages `evaluate` and `report`. Stopped, it goes on
where it was when it is called again.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from eval import costs, measurement, own_pictures
from eval.absent import Absent
from eval.contest import METHODS as METHODS
from eval.contest import SETS as SETS
from eval.contest import Places as Places
from eval.inversions import Order, invert_missing, invert_pictures
from eval.measurement import Parts, SetMeasurements
from eval.metrics.distribution import SUBSETS, TO_REFERENCE, subset_sizes
from eval.metrics.paper_suite import DECIMALS as OFFICIAL_DECIMALS
from eval.metrics.suite import EXTRAPOLATED
from eval.orderings import published_orderings
from eval.processes import processes_for
from eval.profile import Profile
from eval.provenance import code_sha256, provenance, sha256
from eval.set_table import Judged as Judged
from eval.set_table import for_readers, set_table, write_forms
from eval.set_table import published as published_table
from eval.tables import Table, TextTable
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.pictures import list_pictures
from fse.refusal import Refusal, exit_on_refusal
from fse.registry import method_names

DECIMALS = {"psnr": 2, "mse": 4, "id_same": 2}  # the others have 3
DISTRIBUTIONS = {"fd_effnet": 2, "fid": 2}
DECIMALS |= (
    OFFICIAL_DECIMALS | DISTRIBUTIONS | {key + EXTRAPOLATED: decimals for key, decimals in DISTRIBUTIONS.items()}
)
MEAN_DESCRIPTOR = "mean_descriptor.json"
NO_FACES = ("cars", "cats", "dogs")
"""Sets of which the paper prints no numbers."""


def evaluate(
    places: Places,
    profile: Profile,
    *,
    sets: Sequence[str] = tuple(SETS),
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    subsets: Mapping[str, int] | None = None,
    batch: int = 8,
    processes: int = 1,
) -> None:
    """Measure the inversions of each set and write ``measurements/SET.{csv,json}``.

    ``methods`` None takes every method that has inversions of the set; ``limit`` the first so many pictures by name;
    ``subsets`` (METHOD -> number) so many of these for a method that is too slow for all; ``processes`` share the
    work, whose numbers do not depend on how many they are. A run that was stopped is continued.
    """
    for name in sets:
        folders = {method: places.inversions / method / name for method in methods or _inverted(places, name)}
        for method, folder in folders.items():
            if not folder.is_dir():
                raise Refusal(f"there are no inversions by {method!r} in {folder}: run `make repro`, which makes them")
        sources = _sources(places, name, limit)
        suite = profile.suite(places.test / MEAN_DESCRIPTOR)
        basis = f"{code_sha256()} {sha256(places.test / MEAN_DESCRIPTOR)} {profile.measured} {profile.device}"
        options: dict[str, Any] = {
            "resolution": profile.measured,
            "batch": batch,
            "subsets": subsets,
            "parts": Parts(places.measurements / ".parts" / name, basis),
            "progress": f"measuring {name}",
        }
        build = functools.partial(profile.suite, places.test / MEAN_DESCRIPTOR)
        measurement.measure_ahead(sources, folders, build, processes=processes, **options)
        measurement.measure(sources, folders, suite, **options)
        measurement.write(suite, name, places.measurements)
        options["parts"].remove()


def invert_test_sets(
    places: Places,
    profile: Profile,
    *,
    sets: Sequence[str],
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    subsets: Mapping[str, int] | None = None,
    processes: int = 1,
) -> None:
    """Make the inversions that are not there, as the pipeline's stages do; arguments as of :func:`evaluate`.

    ``methods`` None takes the contest's that have trained weights.
    """
    chosen = methods or [name for name in METHODS if name in method_names() and profile.has_weights(name)]
    orders = [
        Order(method, _sources(places, name, limit)[: (subsets or {}).get(method)], places.inversions / method / name)
        for method in chosen
        for name in sets
    ]
    invert_missing(orders, profile, processes=processes)


def _sources(places: Places, name: str, limit: int | None) -> list[Path]:
    try:
        return list_pictures(places.test / name)[:limit]
    except Refusal as refusal:
        raise Refusal(
            f"the test set {name!r} is missing ({refusal}): run `dvc repro data`, which makes it"
        ) from refusal


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
    suite = profile.suite(places.test / MEAN_DESCRIPTOR)
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
class Rendered:
    """A table a set, with its comparisons and orderings under it, and the methods' costs."""

    tables: list[Table]
    costs: TextTable


def render(
    places: Places,
    origin: Mapping[str, Any],
    *,
    sets: Sequence[str] = tuple(SETS),
    profile: str = "embedded",
    titles: Mapping[str, str] = SETS,
) -> Rendered:
    """Write ``table1.{json,md,csv,tex}`` from the measurements of ``sets``; ``origin`` is the provenance.

    ``titles`` are the sets' names in print.
    """
    absent = Absent.read(places.measurements)
    judged = [judged_of(name, places) for name in sets]
    tables = [table_of(each, titles, absent) for each in judged]
    measured = [each.results for each in judged]
    known = {row.key: row.label for table in tables for row in table.rows}
    cost = costs.read_costs(places.training, known)
    rendered = Rendered(tables, costs.costs_table(cost, known))
    results = {
        "metrics": {key: value for each in measured for key, value in each.metrics.items()},
        "profile": profile,
        "provenance": dict(origin),
        "costs": costs.as_json(cost),
        "sets": {each.results.name: each.as_json() for each in judged},
    }
    write_forms(places.reports / "table1", results, tables, [rendered.costs])
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
    return provenance({**profile.inputs, **pictures}, parameters)


def judged_of(name: str, places: Places) -> Judged:
    """A set's measurements and what follows; of the many columns of the official protocol those for readers."""
    results, values = measurement.read(name, places.measurements)
    return Judged.of(for_readers(results), values, published_orderings())


def table_of(
    judged: Judged,
    titles: Mapping[str, str] = SETS,
    absent: Absent | None = None,
) -> Table:
    """The table of one set, with the paper's rows of the same methods beside it if these are faces."""
    results = judged.results

    def bias(metric: str) -> Sequence[str]:
        known = any(cells[metric]["mean"] is not None for cells in results.methods.values() if metric in cells)
        if metric.startswith(TO_REFERENCE) and known:
            return [_counts_of_both(results, metric)]
        return [_bias(results, metric)] if metric in DISTRIBUTIONS and known else []

    return set_table(
        judged,
        title=f"{titles.get(results.name, results.name)}: {results.n} picture{'s' * (results.n != 1)}",
        decimals=DECIMALS,
        beside=published() if results.name not in NO_FACES else None,
        metric_notes=bias,
        absent=absent,
    )


def published() -> Table:
    """The paper's Table 1, as printed there."""
    return published_table("table1")


def _counts_of_both(results: SetMeasurements, metric: str) -> str:
    """How many pictures stand on either side of a distance to another set; its label has theirs."""
    used = max(cells[metric]["used"] for cells in results.methods.values() if metric in cells)
    label = results.metrics[metric]["label"]
    return f"{label}: of {used} reconstructions, to these n other pictures and not to their sources."


def _bias(results: SetMeasurements, metric: str) -> str:
    """That a Fréchet distance depends on the number of pictures, and by how much here."""
    label = results.metrics[metric]["label"]
    note = f"{label} is lower the more pictures there are: compare it at {results.n} only."
    pairs = [(cells.get(metric), cells.get(metric + EXTRAPOLATED)) for cells in results.methods.values()]
    known = [(cell, beyond) for cell, beyond in pairs if cell and beyond and beyond["mean"] is not None]
    if not known:
        return note
    sizes = subset_sizes(max(cell["used"] for cell, _ in known), fewest=1)  # there were enough
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
        "--methods",
        metavar="A,B",
        help="default: all with weights or inversions; with --images all of the paper's",
    )
    parser.add_argument("--sets", metavar="A,B", default=",".join(SETS), help="test sets (default: %(default)s)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="measure your own pictures instead of the test sets")
    parser.add_argument("--align", action="store_true", help="with --images: cut the faces out first, as in FFHQ")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures by name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: reports; with --images runs/own")
    parser.add_argument("--processes", type=int, metavar="N", help="that share the work (default: one a core, or GPU)")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    arguments = parser.parse_args()
    for option in ("limit", "processes"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            raise Refusal(f"--{option} is {value}: give at least 1")
    keep_freed_memory()
    profile = Profile(device=usable_device(arguments.device))
    processes = processes_for(profile.device, arguments.processes)
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
        options = {"limit": arguments.limit, "subsets": subsets, "processes": processes}
        invert_test_sets(places, profile, sets=sets, methods=methods, **options)
        evaluate(places, profile, sets=sets, methods=methods, **options)
    images = {"images": arguments.images} if own else None
    origin = origin_of(places, profile, sets, parameters, images)
    rendered = render(places, origin, sets=sets, profile=profile.name)
    console = Console()
    for table in rendered.tables:
        console.print(table.rich(console.width), "")
    console.print(rendered.costs.rich(), "")
    console.print(f"written: {places.reports}/table1.{{md,csv,tex,json}}, {places.measurements}/", style="dim")


def read_parameters(path: Path = Path("params.yaml")) -> dict[str, Any] | None:
    """The parameters in force, for the provenance; None away from the repository."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    main()
