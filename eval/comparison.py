"""Methods against each other, picture by picture, and every method against the best baseline of its set and metric.

A baseline is every method that is no row of ours. The best one of a metric has the best mean of those measured on the
whole set; it is chosen on the same pictures that it is then compared on, which favours the baseline. Two methods are
compared on the pictures that both have a finite value of. The p-values of a set, over all methods and metrics, are one
family, corrected by Holm's method. Distances between distributions have no value a picture and take no part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from eval.measurement import SetMeasurements
from eval.statistics import holm, paired_difference, smallest_p
from eval.tables import ABSENT, Column, TextTable
from eval.wording import PICTURES, Wording

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """A method against another one, by one metric of single pictures.

    Attributes
    ----------
    n : int
        Pictures that both have a value of.
    difference, low, high : float
        Mean of method minus other in the metric's unit, and its 95 % interval.
    p, p_holm : float
        Two-sided, of "no difference": of this comparison alone, and corrected for its family.
    effect : float or None
        Cohen's d_z of the difference, positive where the method is the better one.
    better : float
        Share of the pictures on which the method is the better one, ties counted half.
    """

    metric: str
    method: str
    other: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float | None
    better: float

    @property
    def verdict(self) -> int:
        """1 where the method is better after correction, -1 where it is worse, 0 where the two do not separate."""
        if self.p_holm >= SIGNIFICANT:
            return 0
        return 1 if (self.effect if self.effect is not None else self.better - 0.5) > 0 else -1


class Pairs:
    """Comparisons of a set's methods, by the values of single pictures.

    Parameters
    ----------
    results, pictures
        As :func:`eval.measurement.read` gives them.
    """

    def __init__(self, results: SetMeasurements, pictures: pd.DataFrame) -> None:
        self.metrics = {key: described for key, described in results.metrics.items() if key in pictures}
        self._values = {
            key: pictures.pivot(index="picture", columns="method", values=key).astype(float) for key in self.metrics
        }

    def compare(self, metric: str, method: str, other: str) -> Comparison | None:
        """Not corrected yet. None where fewer than two pictures have a value by both methods."""
        values = self._values[metric]
        if method not in values or other not in values:
            return None
        both = values[[method, other]].to_numpy()
        both = both[np.isfinite(both).all(1)]
        if len(both) < 2:
            return None
        found = paired_difference(both[:, 0], both[:, 1])
        higher = bool(self.metrics[metric]["higher_is_better"])
        return Comparison(
            metric=metric,
            method=method,
            other=other,
            n=len(both),
            difference=found.difference.mean,
            low=found.difference.low,
            high=found.difference.high,
            p=found.p,
            p_holm=found.p,
            effect=found.effect if higher or found.effect is None else -found.effect,
            better=found.above if higher else 1 - found.above,
        )


def corrected(family: Iterable[Comparison]) -> list[Comparison]:
    """The same comparisons, with ``p_holm`` for all of them as one family."""
    compared = list(family)
    adjusted = holm([each.p for each in compared])
    return [replace(each, p_holm=p) for each, p in zip(compared, adjusted, strict=True)]


def best_baseline(results: SetMeasurements, metric: str, ours: Collection[str]) -> str | None:
    """The baseline with the best mean, of those measured on the whole set; None without any."""
    means = {
        method: cells[metric]["mean"]
        for method, cells in results.methods.items()
        if method not in ours and metric in cells and cells[metric]["expected"] == results.n
    }
    known = {method: mean for method, mean in means.items() if mean is not None}
    best = max if results.metrics[metric]["higher_is_better"] else min
    return best(known, key=known.__getitem__) if known else None


def against_the_best_baseline(
    results: SetMeasurements, pictures: pd.DataFrame, ours: Collection[str]
) -> list[Comparison]:
    """Every method by every metric of single pictures; in the order of the results, metric by metric."""
    pairs = Pairs(results, pictures)
    baselines = {metric: best_baseline(results, metric, ours) for metric in pairs.metrics}
    found = (
        pairs.compare(metric, method, baseline)
        for metric, baseline in baselines.items()
        for method in results.methods
        if baseline is not None and method != baseline
    )
    return corrected(each for each in found if each is not None)


def comparisons_table(
    comparisons: Sequence[Comparison],
    columns: Sequence[Column],
    labels: Mapping[str, str],
    ours: Collection[str],
    name: str,
    wording: Wording = PICTURES,
) -> TextTable:
    """The rows of ours among the comparisons of the set ``name``, method by method."""
    printed = {column.key: column for column in columns}
    shown = [each for method in labels for each in comparisons if each.method == method and method in ours]
    rows = []
    for each in shown:
        column = printed[each.metric]
        decimals = column.decimals
        rows.append(
            [
                labels[each.method],
                column.heading,
                labels.get(each.other, each.other),
                f"{each.difference:+.{decimals}f} [{each.low:+.{decimals}f}, {each.high:+.{decimals}f}]",
                printed_p(each.p_holm),
                ABSENT if each.effect is None else f"{each.effect:+.2f}",
                f"{100 * each.better:.0f} %",
                str(each.n),
            ]
        )
    headings = ["Method", "Metric", "Best baseline", "Difference", "p (Holm)", "d_z", "Better", "n"]
    many = wording.many
    notes = [
        f"Method minus the best baseline (by the mean, on the same {many}, of those measured on the whole set), with "
        f"its 95 % bootstrap interval over {many}; Cohen's d_z, positive where the method is better; the share of the "
        f"n {many} on which it is better."
    ]
    if wording is PICTURES:
        notes[0] += " Fréchet distances have no value a picture, so no such test."
    if comparisons:
        n = max(each.n for each in comparisons)
        least = min(1.0, len(comparisons) * smallest_p(n))
        notes.append(
            f"p of a paired permutation test, Holm's correction over all {len(comparisons)} comparisons of the set, "
            f"baselines included ({wording.record} has them all). With {n} {many} none can be below {printed_p(least)}"
            + (", so that none can be significant: read the intervals." if least >= SIGNIFICANT else ".")
        )
    return TextTable(f"{name}-comparisons", "FSE against the best baseline", headings, rows, notes)


def printed_p(p: float) -> str:
    """Two significant digits."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def csv_columns(comparisons: Iterable[Comparison]) -> dict[str, dict[str, str]]:
    """METHOD -> ``METRIC_best_baseline``, ``METRIC_difference`` ... -> value."""
    found: dict[str, dict[str, str]] = {}
    for each in comparisons:
        values = {"difference": each.difference, "difference_low": each.low, "difference_high": each.high}
        values |= {"p_holm": each.p_holm, "share_better": each.better}
        line = found.setdefault(each.method, {})
        line[f"{each.metric}_best_baseline"] = each.other
        line |= {f"{each.metric}_{name}": f"{value:.7g}" for name, value in values.items()}
        line[f"{each.metric}_effect"] = "" if each.effect is None else f"{each.effect:.7g}"
        line[f"{each.metric}_pairs"] = str(each.n)
    return found
