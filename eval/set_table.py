"""A set's measurements as a printed table: what Table 1 and Table 2 have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from eval import measurement
from eval.absent import Absent
from eval.comparison import Comparison, against_the_best_baseline, comparisons_table, csv_columns
from eval.contest import OURS, OUT_OF_CONTEST, ROWS, Places
from eval.measurement import SetMeasurements
from eval.metrics.paper_suite import PRINTED
from eval.orderings import Ordering, evaluate_orderings, orderings_table, published_orderings
from eval.orderings import as_json as orderings_json
from eval.tables import Column, Estimate, Row, Table, TextTable, to_csv
from eval.wording import PICTURES, Wording

REHEARSAL = "rehearsal"
"""The profile that runs the `paper` pipeline on stand-ins."""

REHEARSED = "REHEARSAL on small stand-ins for the official files: the numbers on this page mean nothing."

FULL_PROTOCOL = "ssim_256"
"""A column that :mod:`eval.metrics.paper_suite` alone has."""

MetricNotes = Callable[[str], Sequence[str]]
"""METRIC -> what is to be said of it under a table."""


def for_readers(results: SetMeasurements) -> SetMeasurements:
    """Of the many columns of the official protocol those that are printed; other measurements as they are."""
    if FULL_PROTOCOL not in results.metrics:
        return results
    hidden = {f"{key}:" for key in results.metrics if key not in PRINTED}
    failures = [
        each for each in results.failures if not all(part.split()[0] in hidden for part in each["reason"].split("; "))
    ]
    metrics = {key: results.metrics[key] for key in PRINTED if key in results.metrics}
    return replace(results, metrics=metrics, failures=failures)


@dataclass(frozen=True)
class Judged:
    """A set's measurements, and what follows from them."""

    results: SetMeasurements
    comparisons: Sequence[Comparison]
    orderings: Sequence[Ordering]

    @classmethod
    def of(cls, results: SetMeasurements, values: pd.DataFrame, orderings: Mapping[str, Mapping[str, Any]]) -> Judged:
        """``values`` has a row a picture (or clip) and method; ``orderings`` are the paper's."""
        contest = {method: cells for method, cells in results.methods.items() if method not in OUT_OF_CONTEST}
        own = values[values["method"].isin([*contest])]
        compared = against_the_best_baseline(replace(results, methods=contest), own, OURS)
        return cls(results, compared, evaluate_orderings(results, values, orderings))

    @classmethod
    def read(cls, name: str, places: Places) -> Judged:
        """Of a set of pictures, from what :func:`eval.measurement.write` wrote."""
        return cls.of(*measurement.read(name, places.measurements), published_orderings())

    def as_json(self) -> dict[str, Any]:
        """In the form that :mod:`eval.tolerance` compares."""
        return {
            "n": self.results.n,
            "methods": self.results.methods,
            "failures": self.results.failures,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "orderings": orderings_json(self.orderings),
        }


def set_table(
    judged: Judged,
    *,
    title: str,
    decimals: Mapping[str, int],
    beside: Table | None = None,
    references: Sequence[Row] = (),
    metric_notes: MetricNotes = lambda _: (),
    notes: Sequence[str] = (),
    wording: Wording = PICTURES,
    absent: Absent | None = None,
) -> Table:
    """Methods by metrics, with comparisons and orderings under it.

    Parameters
    ----------
    decimals : mapping
        METRIC -> digits after the point, 3 unless it says otherwise.
    beside : Table, optional
        Published values of the same methods.
    references : sequence of Row, optional
        Rows above the methods' that take no part in the contest.
    metric_notes, notes
        Sentences on single metrics, and on all of it, after those on counts and subsets.
    absent : Absent, optional
        Rows and columns that could not be measured: the rows stand there without numbers.
    """
    results, absent = judged.results, absent or Absent()
    columns = [
        Column(key, metric["label"], metric["higher_is_better"], decimals.get(key, 3))
        for key, metric in results.metrics.items()
    ]
    order = {method: place for place, method in enumerate(ROWS)}
    measured = {**results.methods, **{key: {} for key in absent.rows.get(results.name, {})}}
    further = csv_columns(judged.comparisons)
    rows = [
        Row(
            method,
            ROWS.get(method, method),
            {key: estimate(value) for key, value in cells.items() if key in results.metrics},
            subset_of(results, method) if cells else None,
            further.get(method, {}),
            competes=method not in OUT_OF_CONTEST,
        )
        for method, cells in sorted(measured.items(), key=lambda item: order.get(item[0], -1))
    ]
    labels = {row.key: row.label for row in rows}
    under = [
        comparisons_table(judged.comparisons, columns, labels, OURS, results.name, wording),
        orderings_table(results, judged.orderings, ROWS, wording),
    ]
    return Table(
        key=results.name,
        title=title,
        columns=columns,
        rows=[*references, *rows],
        notes=[
            *_notes(results, metric_notes, wording),
            *absent.notes(results.name, ROWS),
            *notes,
            *(beside.notes if beside else ()),
        ],
        failures=_failures(results),
        beside=beside,
        under=[table for table in under if table.rows],
    )


def published(table: str) -> Table:
    """The paper's ``table1`` or ``table2``, as printed there."""
    paper = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))[table]
    columns = [Column(key, **metric) for key, metric in paper["metrics"].items()]
    rows = [
        Row(method, ROWS.get(method, method), {key: Estimate(value) for key, value in values.items()})
        for method, values in paper["methods"].items()
    ]
    return Table("paper", f"As published ({paper['label']})", columns, rows, notes=[paper["note"]])


def write_forms(
    stem: Path, results: Mapping[str, Any], tables: Sequence[Table], further: Sequence[TextTable] = ()
) -> None:
    """``STEM.json`` of the results, and the tables as ``.md``, ``.csv`` and ``.tex``; ``further`` ones, which have no
    numbers for a sheet, not in the second. Those of a rehearsal (``results["profile"]``) begin by saying so.
    """
    notice = REHEARSED if results.get("profile") == REHEARSAL else ""
    printed: list[Table | TextTable] = [*tables, *further]
    texts = {
        "json": json.dumps(results, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n",
        "md": f"**{notice}**\n\n" * bool(notice) + "\n".join(table.markdown() for table in printed),
        "csv": f"# {notice}\n" * bool(notice) + to_csv(tables),
        "tex": "% needs \\usepackage{array,booktabs,graphicx}\n"
        + f"\\textbf{{{notice}}}\n\n" * bool(notice)
        + "\n".join(table.latex() for table in printed),
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        stem.with_name(f"{stem.name}.{suffix}").write_text(text, encoding="utf-8")


def estimate(value: Mapping[str, Any]) -> Estimate:
    """Of a :class:`eval.metrics.suite.Cell`."""
    return Estimate(value["mean"], value.get("low"), value.get("high"))


def subset_of(results: SetMeasurements, method: str) -> int | None:
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
        everyone = len(methods) > 1 and set(methods) >= {m for m in results.methods if subset_of(results, m) is None}
        labels = "every method" if everyone else "; ".join(ROWS.get(method, method) for method in methods)
        lines.setdefault((labels, reason), []).append(picture)
    return [f"{', '.join(pictures)} by {labels}: {reason}" for (labels, reason), pictures in lines.items()]


def _notes(results: SetMeasurements, metric_notes: MetricNotes, wording: Wording) -> list[str]:
    """What the cells are, how many pictures stand behind them, and which of them say less than they seem to."""
    notes = [f"Mean, and 95 % bootstrap interval over {wording.many}; the best mean of a column is bold."]
    groups: dict[tuple[int, int, int], dict[str, list[str]]] = {}
    for method, cells in results.methods.items():
        for metric, described in results.metrics.items():
            if (cell := cells.get(metric)) is not None:
                counts = cell["expected"], cell["used"], cell["failed"]
                labels = groups.setdefault(counts, {}).setdefault(ROWS.get(method, method), [])
                labels.append(described["label"])
    usual = max(groups, key=lambda counts: sum(map(len, groups[counts].values())))
    elsewhere = " unless said otherwise" if len(groups) > 1 else ""
    notes.append("{} {} expected, {} used, {} failed{}.".format(usual[0], wording.many, *usual[1:], elsewhere))
    for counts, methods in groups.items():
        if counts != usual and not (counts[2] == 0 and counts[0] < results.n):
            where = "; ".join(f"{method}: {', '.join(labels)}" for method, labels in methods.items())
            notes.append("{} expected, {} used, {} failed for {}.".format(*counts, where))
    for method in results.methods:
        if (subset := subset_of(results, method)) is not None:
            notes.append(
                f"{ROWS.get(method, method)} {wording.slow} and was run on the first {subset} by name only: its "
                f"means do not compare with the column's and are never bold; tests pair the same {wording.many}."
            )
    if larger := [ROWS[method] for method in OUT_OF_CONTEST if method in results.methods]:
        notes.append(f"{'; '.join(larger)} had a larger budget than the others: never bold, and in no comparison.")
    for metric, described in results.metrics.items():
        cells_of = [cells[metric] for cells in results.methods.values() if metric in cells]
        reasons = dict.fromkeys(cell["reason"] for cell in cells_of if "reason" in cell)
        notes += [f"{described['label']} {reason}." for reason in reasons]
        notes += metric_notes(metric)
    return notes
