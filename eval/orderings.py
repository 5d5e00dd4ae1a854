"""Do the paper's orders of methods hold here? ``python -m eval.orderings`` reads the measurements and says.

The paper's Table 1 orders six methods by LPIPS, ID, PSNR and FID, its Table 2 five of them by every metric
(``published.yaml``); ours are measured by the metric that stands for each. Every pair of an order is a claim, "a is
better than b", with one of four verdicts:

- ``held``: a is better, significantly;
- ``not held``: b is better, significantly;
- ``not separable``: the pictures do not tell;
- ``not measured``: a method has no values, or the two have no pictures in common.

By metrics of single pictures, "significantly" is p < .05 in a paired test on the pictures that both methods have,
corrected by Holm's method over all claims of the set. A distance between distributions has no value a picture: there
two methods separate where their 95 % bootstrap intervals do not overlap, which is the stricter rule; at different
numbers of pictures distances do not compare.

Of some metrics the paper says no more than that its method beats the others; then every pair with it is a claim.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console

from eval import measurement
from eval.comparison import Comparison, Pairs, corrected
from eval.contest import METHODS, SETS, Places
from eval.measurement import SetMeasurements
from eval.metrics.suite import EXTRAPOLATED
from eval.tables import ABSENT, TextTable
from eval.wording import PICTURES, Wording
from fse.refusal import exit_on_refusal

HELD, NOT_HELD, NOT_SEPARABLE, NOT_MEASURED = "held", "not held", "not separable", "not measured"
VERDICTS = (HELD, NOT_HELD, NOT_SEPARABLE, NOT_MEASURED)


@dataclass(frozen=True)
class Claim:
    """``better`` is better than ``worse``, says the paper; ``verdict`` is ours.

    ``difference`` is the mean of better minus worse in our metric's unit on their ``n`` common pictures; ``p_holm``
    the corrected p-value, None for distances.
    """

    better: str
    worse: str
    verdict: str
    difference: float | None = None
    p_holm: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Ordering:
    """An order of the paper's, and ours.

    Attributes
    ----------
    key, printed, metric, note : str
        Its name, the paper's metric, our column for it, a remark on the paper's own values.
    paper : list of str
        Methods, the best first.
    measured : list of str
        The same methods by our means, the best first; only those measured on the whole set, as means over fewer
        pictures do not compare.
    claims : list of Claim
        Every pair, or every pair with the first method where ``first_only``.
    """

    key: str
    printed: str
    metric: str
    note: str
    paper: list[str]
    measured: list[str]
    claims: list[Claim]
    first_only: bool = False

    def by_verdict(self, verdict: str) -> list[Claim]:
        return [claim for claim in self.claims if claim.verdict == verdict]

    @property
    def unmeasured(self) -> list[str]:
        """Methods none of whose claims could be measured."""
        known = {method for each in self.claims if each.verdict != NOT_MEASURED for method in (each.better, each.worse)}
        return [method for method in self.paper if method not in known]


def published_orderings(table: str = "table1") -> dict[str, dict[str, Any]]:
    """KEY -> ``{"printed", "measured_by", "official"?, "order", "note"?, "first_only"?}`` of a table of the paper's, or
    of ``stability``, its claims on video that no table has."""
    text = Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["orderings"][table]
    return found


def _metric(ordering: Mapping[str, Any], results: SetMeasurements) -> str:
    """Our column for the paper's: its very own where that was measured, and else the one that stands for it."""
    official = ordering.get("official")
    return str(official if official in results.metrics else ordering["measured_by"])


def _claims(ordering: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of methods, the better one first."""
    order = ordering["order"]
    return [(order[0], other) for other in order[1:]] if ordering.get("first_only") else list(combinations(order, 2))


def evaluate_orderings(
    results: SetMeasurements, pictures: pd.DataFrame, orderings: Mapping[str, Mapping[str, Any]]
) -> list[Ordering]:
    """Every ordering, claim by claim; those of metrics that were not measured have ``not measured`` claims only."""
    pairs = Pairs(results, pictures)
    claims = {key: _claims(each) for key, each in orderings.items()}
    metrics = {key: _metric(each, results) for key, each in orderings.items()}
    wanted = dict.fromkeys(
        (metrics[key], *claim) for key in orderings for claim in claims[key] if metrics[key] in pairs.metrics
    )
    family = (pairs.compare(*claim) for claim in wanted)
    tested = {(each.metric, each.method, each.other): each for each in corrected(x for x in family if x is not None)}
    found = []
    for key, each in orderings.items():
        metric = metrics[key]
        judged = [
            _by_test(claim, tested.get((metric, *claim))) if metric in pairs.metrics else _apart(claim, results, metric)
            for claim in claims[key]
        ]
        ours = _measured_order(results, metric, each["order"])
        order, first_only = list(each["order"]), bool(each.get("first_only"))
        found.append(Ordering(key, each["printed"], metric, each.get("note", ""), order, ours, judged, first_only))
    return found


def _by_test(claim: tuple[str, str], comparison: Comparison | None) -> Claim:
    if comparison is None:
        return Claim(*claim, NOT_MEASURED)
    verdict = {1: HELD, -1: NOT_HELD, 0: NOT_SEPARABLE}[comparison.verdict]
    return Claim(*claim, verdict, comparison.difference, comparison.p_holm, comparison.n)


def _apart(claim: tuple[str, str], results: SetMeasurements, metric: str) -> Claim:
    """By the intervals of two distances; the lower one is better."""
    absent = {"mean": None, "used": 0}
    better, worse = (results.methods.get(method, {}).get(metric, absent) for method in claim)
    if better["mean"] is None or worse["mean"] is None or better["used"] != worse["used"]:
        return Claim(*claim, NOT_MEASURED)
    held, not_held = better["high"] < worse["low"], worse["high"] < better["low"]
    verdict = HELD if held else NOT_HELD if not_held else NOT_SEPARABLE
    return Claim(*claim, verdict, better["mean"] - worse["mean"], None, better["used"])


def _measured_order(results: SetMeasurements, metric: str, methods: Sequence[str]) -> list[str]:
    cells = {method: results.methods.get(method, {}).get(metric) for method in methods}
    means = {
        method: cell["mean"]
        for method, cell in cells.items()
        if cell and cell["mean"] is not None and cell["expected"] == results.n
    }
    return sorted(means, key=means.__getitem__, reverse=metric in results.metrics and _higher(results, metric))


def _higher(results: SetMeasurements, metric: str) -> bool:
    return bool(results.metrics[metric]["higher_is_better"])


def orderings_table(
    results: SetMeasurements, orderings: Sequence[Ordering], labels: Mapping[str, str], wording: Wording = PICTURES
) -> TextTable:
    """A row an ordering: both orders, and the claims that did not hold, by name."""

    def names(methods: Sequence[str]) -> str:
        return " > ".join(labels.get(method, method) for method in methods) or ABSENT

    def named(claims: Sequence[Claim]) -> str:
        return "; ".join(names([claim.better, claim.worse]) for claim in claims) or ABSENT

    def stated(each: Ordering) -> str:
        if not each.first_only:
            return names(each.paper)
        return f"{labels.get(each.paper[0], each.paper[0])} > each of {', '.join(names([m]) for m in each.paper[1:])}"

    rows = []
    for each in orderings:
        label = results.metrics.get(each.metric, {}).get("label", each.metric)
        held = f"{len(each.by_verdict(HELD))} of {len(each.claims)}"
        others = (named(each.by_verdict(verdict)) for verdict in (NOT_HELD, NOT_SEPARABLE))
        row = [f"{each.printed}, here {label}", stated(each), names(each.measured), held, *others]
        missing = each.by_verdict(NOT_MEASURED)
        absent = [labels.get(method, method) for method in each.unmeasured]
        rows.append([*row, f"{len(missing)}: those of {'; '.join(absent)}" if absent else named(missing)])
    distances = "; a Fréchet distance where the two intervals do not overlap" if wording is PICTURES else ""
    notes = [
        "Read > as: better than. Every pair of the paper's order is a claim; it held, or did not, where p < .05 in a "
        f"paired test, Holm's correction over all claims of the set{distances}. What the {wording.many} cannot tell "
        "apart is not separable.",
        *(f"{each.printed}: {each.note}." for each in orderings if each.note),
    ]
    for each in orderings:
        beyond = each.metric + EXTRAPOLATED
        if order := _measured_order(results, beyond, each.paper):
            notes.append(f"By {results.metrics[beyond]['label']} the order here is {names(order)}.")
    headings = ["Metric", "Order in the paper", "Order here", "Held", "Not held", "Not separable", "Not measured"]
    return TextTable(f"{results.name}-orderings", "The paper's orders of methods", headings, rows, notes)


def as_json(orderings: Sequence[Ordering]) -> dict[str, Any]:
    """KEY -> the fields of :class:`Ordering`, and how many claims have each verdict."""
    counts = {each.key: {verdict: len(each.by_verdict(verdict)) for verdict in VERDICTS} for each in orderings}
    return {each.key: {**asdict(each), "counts": counts[each.key]} for each in orderings}


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.orderings", description="The paper's orders of methods against the measured ones."
    )
    parser.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="%(default)s")
    parser.add_argument("--sets", metavar="A,B", default=",".join(SETS), help="test sets (default: %(default)s)")
    arguments = parser.parse_args()
    console = Console()
    for name in arguments.sets.split(","):
        results, pictures = measurement.read(name, Places(reports=arguments.reports).measurements)
        found = evaluate_orderings(results, pictures, published_orderings())
        console.print(f"[bold]{SETS.get(name, name)}: {results.n} pictures[/bold]")
        console.print(orderings_table(results, found, METHODS).rich(), "")


if __name__ == "__main__":
    main()
