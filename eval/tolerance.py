"""The gate: does a fresh run reproduce the values that are on record? ``python -m eval.tolerance``.

Compares two files of the form of ``reports/table1.json`` (Table 2 and the ablations use the same form), mean by mean.
The tolerance of a metric is ``absolute + relative * |expected|``; both default to 0, and a metric without an entry
is a mistake in the parameters, never a free pass. Counts are compared exactly: the number of pictures of a set and,
where the record has them, the pictures expected, used and failed behind every mean. What the record has and the run
lacks (set, method, metric, picture) is outside; what the run has in addition is shown and passes.

A form that measures fewer pictures has a record of its own (``reports/expected/short.json``): means over
different pictures are not comparable, so that two files whose counts differ never agree.
To accept new values, copy the measured file over the expected one and say why in the commit.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eval.tables import ABSENT
from fse.refusal import Refusal, exit_on_refusal

COUNTS = ("expected", "used", "failed")


@dataclass(frozen=True)
class Tolerance:
    """How far a mean may move, in the metric's own unit and as a fraction of the expected value."""

    absolute: float = 0.0
    relative: float = 0.0

    def allowed(self, expected: float) -> float:
        return self.absolute + self.relative * abs(expected)


@dataclass(frozen=True)
class Difference:
    """One compared quantity. ``reason`` says what is wrong; empty when it is inside."""

    where: str
    quantity: str
    expected: float | None
    measured: float | None
    allowed: float = 0.0
    reason: str = ""

    @property
    def inside(self) -> bool:
        return not self.reason

    @property
    def used(self) -> float | None:
        """Which part of its tolerance a mean moved by; None of what has no tolerance, or no two numbers."""
        if not self.allowed or self.expected is None or self.measured is None:
            return None
        return abs(self.measured - self.expected) / self.allowed


def compare(
    expected: Mapping[str, Any], measured: Mapping[str, Any], tolerances: Mapping[str, Tolerance]
) -> list[Difference]:
    """Every quantity of the record against the run, in the record's order.

    Raises
    ------
    Refusal
        A recorded metric has no tolerance, or either side is not of the form of ``table1.json``.
    """
    try:
        return list(_compare(expected["sets"], measured["sets"], tolerances))
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise Refusal(f"the files are not of the form of table1.json ({reason}): render them anew") from error


def _compare(expected: Any, measured: Any, tolerances: Mapping[str, Tolerance]) -> Iterator[Difference]:
    for set_name, record in expected.items():
        run = measured.get(set_name)
        if run is None:
            yield Difference(set_name, "set", None, None, reason="missing")
            continue
        yield _count(set_name, "pictures", record["n"], run["n"])
        for method, metrics in record["methods"].items():
            where = f"{set_name} / {method}"
            if method not in run["methods"]:
                yield Difference(where, "method", None, None, reason="missing")
                continue
            for metric, value in metrics.items():
                if metric not in tolerances:
                    raise Refusal(f"the tolerances have no entry for {metric!r}: add {metric}: {{absolute: ...}}")
                found = run["methods"][method].get(metric)
                if found is None:
                    yield Difference(where, metric, value["mean"], None, reason="missing")
                    continue
                yield _mean(where, metric, value["mean"], found["mean"], tolerances[metric])
                counted = (key for key in COUNTS if key in value)
                yield from (_count(where, f"{metric}, {key}", value[key], found.get(key)) for key in counted)


def _count(where: str, quantity: str, expected: int, measured: int | None) -> Difference:
    return Difference(where, quantity, expected, measured, reason="" if expected == measured else "count")


def _mean(where: str, metric: str, expected: Any, measured: Any, tolerance: Tolerance) -> Difference:
    """``None`` stands for "nothing finite", which agrees with itself only."""
    if expected is None or measured is None:
        reason = "" if expected is measured else "not finite"
        return Difference(where, metric, expected, measured, reason=reason)
    allowed = tolerance.allowed(expected)
    inside = math.isfinite(measured) and abs(measured - expected) <= allowed
    return Difference(where, metric, expected, measured, allowed, "" if inside else "moved")


def nearest(differences: Sequence[Difference]) -> dict[str, Difference]:
    """METRIC -> the mean that moved by the largest part of its tolerance, where that is above 0."""
    moved = [difference for difference in differences if difference.used is not None]
    return {
        metric: max((each for each in moved if each.quantity == metric), key=lambda each: each.used or 0.0)
        for metric in dict.fromkeys(difference.quantity for difference in moved)
    }


def additions(expected: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """``SET / METHOD / METRIC`` of the run's values that the record does not have."""

    def names(results: Mapping[str, Any]) -> list[str]:
        return [
            f"{set_name} / {method} / {metric}"
            for set_name, measured_set in results["sets"].items()
            for method, metrics in measured_set["methods"].items()
            for metric in metrics
        ]

    recorded = set(names(expected))
    return [name for name in names(measured) if name not in recorded]


def read_tolerances(path: Path) -> dict[str, Tolerance]:
    """The key ``tolerance`` of a YAML file: a mapping METRIC -> ``{absolute: x}``, ``{relative: x}`` or both."""
    entries = (_read(path, yaml.safe_load, "give the file with --params") or {}).get("tolerance")
    if not isinstance(entries, dict) or not entries:
        raise Refusal(f"{path} has no mapping 'tolerance': add METRIC: {{absolute: x, relative: y}} under that key")
    found = {}
    for metric, entry in entries.items():
        numbers = entry.values() if isinstance(entry, dict) else ()
        if not numbers or not all(isinstance(x, int | float) and 0 <= x < math.inf for x in numbers):
            raise Refusal(f"{path}: tolerance.{metric} is {entry!r}: write {{absolute: x, relative: y}}, both >= 0")
        if unknown := set(entry) - {"absolute", "relative"}:
            raise Refusal(f"{path}: tolerance.{metric} has the unknown key {min(unknown)!r}: use absolute, relative")
        found[str(metric)] = Tolerance(**entry)
    return found


def _read(path: Path, parse: Any, remedy: str) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise Refusal(f"{path} cannot be understood ({str(error).splitlines()[0]}): {remedy}") from error


def table(differences: Sequence[Difference]) -> Table:
    """What moved beyond tolerance, for the terminal."""

    def number(value: float | None) -> str:
        return ABSENT if value is None else f"{value:.5g}"

    grid = Table(title="Outside the tolerance", title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    for heading in ("Where", "Quantity"):
        grid.add_column(heading, no_wrap=True)
    for heading in ("expected", "measured", "moved by", "allowed"):
        grid.add_column(heading, justify="right")
    grid.add_column("")
    for d in differences:
        moved = None if d.expected is None or d.measured is None else d.measured - d.expected
        numbers = (number(d.expected), number(d.measured), number(moved), number(d.allowed))
        grid.add_row(d.where, d.quantity, *numbers, d.reason)
    return grid


def nearest_table(found: Mapping[str, Difference]) -> Table:
    """What moved most of each metric, for the terminal."""
    grid = Table(title="The largest move of each metric", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    grid.add_column("Metric", no_wrap=True)
    grid.add_column("Where", no_wrap=True)
    for heading in ("expected", "moved by", "of its tolerance"):
        grid.add_column(heading, justify="right")
    for metric, d in found.items():
        moved = (d.measured or 0) - (d.expected or 0)
        grid.add_row(metric, d.where, f"{d.expected:.5g}", f"{moved:+.2g}", f"{d.used:.1%}")
    return grid


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.tolerance", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--expected", type=Path, default=Path("reports/expected/table1.json"), help="%(default)s")
    parser.add_argument("--measured", type=Path, default=Path("reports/table1.json"), help="%(default)s")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="YAML with `tolerance`; %(default)s")
    arguments = parser.parse_args()
    expected = _read(arguments.expected, json.loads, "record it by copying a measured file there")
    measured = _read(arguments.measured, json.loads, "measure first, with `make repro`")
    differences = compare(expected, measured, read_tolerances(arguments.params))
    outside = [difference for difference in differences if not difference.inside]
    console = Console()
    for name in additions(expected, measured):
        console.print(f"not on record, not compared: {name}", style="dim")
    if outside:
        console.print(table(outside))
        console.print(f"{len(outside)} of {len(differences)} quantities of {arguments.expected} are not reproduced")
        sys.exit(1)
    console.print(nearest_table(nearest(differences)))
    console.print(f"all {len(differences)} quantities of {arguments.expected} are reproduced")


if __name__ == "__main__":
    main()
