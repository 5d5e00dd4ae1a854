"""Is each cell of the paper's Tables 1 and 2 reproduced? A verdict a cell, with its reason.

- ``reproduced``: our 95 % interval, widened by half a unit of the last digit that the paper prints, holds its value;
- ``near``: it does not, and our mean is no further from the paper's value than :data:`NEAR` says;
- ``off``: it is further;
- ``missing``: there is no number to compare, and why: an official file that is not here, a method that failed, or a
  Fréchet distance over another number of pictures, which does not compare.

Only columns that compute what the paper prints are judged: none of another network stands in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from eval import measurement
from eval.absent import Absent
from eval.contest import ROWS, Places
from eval.measurement import SetMeasurements
from eval.published_by_others import published_by_others
from eval.section import Section
from eval.tables import ABSENT, TextTable

REPRODUCED, CLOSE, OFF, MISSING = "reproduced", "near", "off", "missing"
VERDICTS = (REPRODUCED, CLOSE, OFF, MISSING)

COLUMNS = {"ssim": "ssim", "psnr": "psnr", "mse": "mse", "lpips": "lpips", "id": "id_curricular", "fid": "fid"}
"""The paper's metric -> our column that reads the paper's protocol as its numbers suggest (:mod:`eval.protocol`)."""

NEAR = {"ssim": 0.02, "psnr": 0.5, "id": 0.03}
"""Distances that still are near, in the metric's unit; of the others the share :data:`NEAR_SHARE` of the value."""

NEAR_SHARE = 0.1

SAME_COUNT = ("fid",)
"""Metrics that compare at the paper's number of pictures only."""

FACES, CLIPS = "faces", "clips"
"""The sets of the `paper` profile that stand for Table 1 and Table 2."""


@dataclass(frozen=True)
class CellVerdict:
    """One cell of the paper.

    Attributes
    ----------
    method, metric, column : str
        Row and column of the paper, and the column of ours that was judged.
    verdict : str
        One of :data:`VERDICTS`.
    published : float
        As printed.
    mean, low, high : float or None
        Ours, and its 95 % interval where there is one.
    reason : str
        Why it is missing, else nothing.
    """

    method: str
    metric: str
    column: str
    verdict: str
    published: float
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.mean is None else self.mean - self.published


def published_cells(table: str) -> dict[str, Any]:
    """``table1`` or ``table2`` of ``published.yaml``: ``metrics``, ``methods``, ``n`` and ``source``."""
    text = Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)[table]
    return found


def verdicts(
    results: SetMeasurements, table: str, absent: Absent | None = None, columns: Mapping[str, str] = COLUMNS
) -> list[CellVerdict]:
    """Every cell of the paper's ``table1`` or ``table2``, row by row; ``columns`` is METRIC -> ours."""
    paper, absent = published_cells(table), absent or Absent()
    found = []
    for method, values in paper["methods"].items():
        for metric, published in values.items():
            cell = results.methods.get(method, {}).get(columns[metric])
            reason = _reason(results, absent, method, metric, cell, int(paper["n"]), columns)
            if reason or cell is None:
                found.append(CellVerdict(method, metric, columns[metric], MISSING, published, reason=reason))
                continue
            mean, low, high = cell["mean"], cell.get("low"), cell.get("high")
            verdict = judge(metric, published, paper["metrics"][metric]["decimals"], mean, low, high)
            found.append(CellVerdict(method, metric, columns[metric], verdict, published, mean, low, high))
    return found


def judge(
    metric: str, published: float, decimals: int, mean: float, low: float | None = None, high: float | None = None
) -> str:
    """``reproduced``, ``near`` or ``off``; ``decimals`` are those that the paper prints."""
    rounding = 0.5 * 10.0**-decimals * (1 + 1e-9)  # so that a value on the edge counts
    lowest, highest = mean if low is None else low, mean if high is None else high
    if lowest - rounding <= published <= highest + rounding:
        return REPRODUCED
    near = NEAR.get(metric, NEAR_SHARE * abs(published))
    return CLOSE if abs(mean - published) <= near else OFF


def _reason(
    results: SetMeasurements,
    absent: Absent,
    method: str,
    metric: str,
    cell: Mapping[str, Any] | None,
    n: int,
    columns: Mapping[str, str],
) -> str:
    """Why there is nothing to compare; empty where there is."""
    if reason := absent.sets.get(results.name) or absent.rows.get(results.name, {}).get(method):
        return reason
    if method not in results.methods:
        return "the method was not measured"
    if cell is None:
        labels = absent.columns.get(results.name, {})
        return next((labels[label] for label in (metric.upper(), columns[metric]) if label in labels), "not measured")
    if cell["mean"] is None:
        return str(cell.get("reason", "no finite value"))
    if metric in SAME_COUNT and cell["used"] != n:
        return f"of {cell['used']} pictures, which does not compare with the paper's {n}"
    return ""


def counts(judged: Sequence[CellVerdict]) -> dict[str, int]:
    """VERDICT -> cells."""
    found = Counter(each.verdict for each in judged)
    return {verdict: found[verdict] for verdict in VERDICTS}


def as_json(judged: Sequence[CellVerdict]) -> dict[str, Any]:
    """METHOD -> METRIC -> the fields of :class:`CellVerdict`, and the counts."""
    cells: dict[str, dict[str, Any]] = {}
    for each in judged:
        cells.setdefault(each.method, {})[each.metric] = asdict(each) | {"difference": each.difference}
    return {"cells": cells, "counts": counts(judged)}


def verdict_table(judged: Sequence[CellVerdict], results: SetMeasurements, table: str) -> TextTable:
    """A row a method: each cell's verdict, with ours minus the paper's."""
    paper = published_cells(table)
    metrics: Mapping[str, Mapping[str, Any]] = paper["metrics"]
    by_cell = {(each.method, each.metric): each for each in judged}

    def text(method: str, metric: str) -> str:
        each = by_cell.get((method, metric))
        if each is None:
            return ABSENT
        if each.difference is None:
            return each.verdict
        return f"{each.verdict} ({each.difference:+.{metrics[metric]['decimals']}f})"

    rows = [[ROWS.get(method, method), *(text(method, metric) for metric in metrics)] for method in paper["methods"]]
    total = counts(judged)
    notes = [
        "Of {} cells {}.".format(len(judged), ", ".join(f"{total[verdict]} {verdict}" for verdict in VERDICTS)),
        "In brackets: ours minus the paper's. Reproduced: our 95 % interval, widened by half a unit of the paper's "
        "last digit, holds its value. Near: within "
        + ", ".join(f"{value:g} of {metrics[key]['label']}" for key, value in NEAR.items() if key in metrics)
        + f", {100 * NEAR_SHARE:.0f} % of the others. Off: further.",
    ]
    if results.n != paper["n"]:
        notes.append(f"Here n = {results.n}, in the paper {paper['n']}.")
    reasons: dict[str, list[str]] = {}
    for each in judged:
        if each.verdict == MISSING:
            name = f"{ROWS.get(each.method, each.method)} {metrics[each.metric]['label']}"
            reasons.setdefault(each.reason, []).append(name)
    notes += [f"Missing: {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    headings = ["Method", *(each["label"] for each in metrics.values())]
    return TextTable(f"{table}-verdicts", f"Table {table[-1]} of the paper, cell by cell", headings, rows, notes)


def section(places: Places) -> Section | None:
    """Verdicts on both tables, and what others published; None where no official set was measured."""
    absent = Absent.read(places.measurements)
    tables: list[TextTable] = []
    for name, table in ((FACES, "table1"), (CLIPS, "table2")):
        if (places.measurements / f"{name}.json").is_file():
            results, _ = measurement.read(name, places.measurements)
            tables.append(verdict_table(verdicts(results, table, absent), results, table))
    if not (places.measurements / f"{FACES}.json").is_file():
        return None
    others = [each for domain in (FACES, "cars") for each in published_by_others(domain)]
    introduction = [
        "Each cell of the paper's tables against what the official weights give here. What the paper leaves open is "
        "read as its numbers suggest; eval.protocol shows every other reading.",
        "Under it stand the values that others have published of the same methods, on other pictures.",
    ]
    return Section("verdict", "Reproduced?", introduction, [*tables, *others])
