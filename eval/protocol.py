"""What the paper leaves open, option by option: ``python -m eval.protocol`` shows which reading gives its numbers.

Everything was measured in one pass (:mod:`eval.metrics.paper_suite`), so that a reading is a choice of columns and of
how they are averaged; no network runs here. A *reading* of a metric is one choice of the options that it depends on, a
*combination* one choice of all options. A cell is reproduced where ours, rounded as the paper prints it, is its number.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from eval import measurement
from eval.clip_measurement import FRAMES, per_clip
from eval.contest import ROWS, Places
from eval.measurement import SetMeasurements
from eval.metrics.distribution import TO_REFERENCE
from eval.section import Section
from eval.set_table import write_forms
from eval.tables import ABSENT, Column, Estimate, Row, Table, TextTable
from eval.verdict import FACES, SAME_COUNT, published_cells
from fse.refusal import Refusal, exit_on_refusal

Choices = Mapping[str, str]
"""OPTION -> one of its choices."""

OPTIONS: Mapping[str, Mapping[str, str]] = {  # option -> choice -> in words; the first one is the default
    "resolution": {"native": "at the native size", "256": "at 256 px, PIL bilinear"},
    "ssim": {"gaussian": "Gaussian 11x11, sigma 1.5 (pytorch-msssim)", "uniform": "uniform 7x7 (scikit-image)"},
    "psnr_mean": {"pictures": "mean of each picture's PSNR", "error": "PSNR of the mean MSE"},
    "mse_range": {"signed": "on [-1, 1]", "unit": "on [0, 1]"},
    "id_network": {"curricularface": "MTCNN and CurricularFace", "arcface": "SCRFD and ArcFace"},
    "id_missing": {"dropped": "pairs without a face left out", "zero": "pairs without a face as 0"},
    "fid_reference": {
        "sources": "against the same pictures",
        "ffhq": "against FFHQ",
        "celeba_hq_test": "against CelebA-HQ's test split",
    },
}

DEPENDS: Mapping[str, Sequence[str]] = {
    "ssim": ("resolution", "ssim"),
    "psnr": ("resolution", "psnr_mean"),
    "mse": ("resolution", "mse_range"),
    "lpips": (),
    "id": ("id_network", "id_missing"),
    "fid": ("resolution", "fid_reference"),
}
"""The paper's metric -> the options that it depends on; LPIPS is settled (AlexNet v0.1 at 256 px)."""

DEFAULT: Choices = {option: next(iter(choices)) for option, choices in OPTIONS.items()}

LISTED = 10
"""Combinations in print; the JSON file has all."""


def column_of(metric: str, choices: Choices) -> str:
    """Our column that a reading averages."""
    suffix = "" if choices.get("resolution") == "native" else "_256"
    match metric:
        case "ssim":
            return {"gaussian": "ssim", "uniform": "ssim_uniform"}[choices["ssim"]] + suffix
        case "psnr" if choices["psnr_mean"] == "error":
            return "mse" + suffix
        case "psnr" | "mse":
            return metric + suffix
        case "id":
            return {"curricularface": "id_curricular", "arcface": "id_arcface"}[choices["id_network"]]
        case "fid":
            reference = choices["fid_reference"]
            return ("fid" if reference == "sources" else TO_REFERENCE + reference) + suffix
        case _:
            return metric


def _psnr_of(mse: float) -> float:
    """Of an MSE on [-1, 1], whose peak is 2."""
    return -10 * math.log10(mse / 4) if mse > 0 else math.inf


@dataclass(frozen=True)
class Reading:
    """One way to read a metric.

    Attributes
    ----------
    metric, column : str
        The paper's metric, and our column.
    choices : mapping
        Of the options that it depends on.
    values : mapping
        METHOD -> ours; methods without a value are not there. Empty where the column was not measured.
    equal : tuple of str
        Methods whose cell is reproduced.
    comparable : bool
        False for a Fréchet distance over another number of pictures than the paper's: no cell of it counts.
    """

    metric: str
    column: str
    choices: Choices
    values: Mapping[str, float]
    equal: tuple[str, ...]
    comparable: bool = True

    @property
    def name(self) -> str:
        """In print: its choices, or that there is none."""
        return ", ".join(OPTIONS[option][choice] for option, choice in self.choices.items()) or "settled"


@dataclass(frozen=True)
class Combination:
    """One choice of all options, and how many of the cells that it gives are the paper's."""

    choices: Choices
    equal: int
    cells: int
    deviation: float
    """Mean distance from the paper's values, in shares of them."""


class Readings:
    """Every reading of a table of the paper's, from one set's measurements.

    Parameters
    ----------
    results, rows
        As :func:`eval.measurement.read` gives them; a row a picture, or a clip, and method.
    table : str
        ``table1`` or ``table2``.
    """

    def __init__(self, results: SetMeasurements, rows: pd.DataFrame, table: str) -> None:
        self.results, self.paper = results, published_cells(table)
        self._by_method = {str(method): found for method, found in rows.groupby("method")}
        self.readings = [
            self._reading(metric, choices)
            for metric in self.paper["metrics"]
            for choices in _choices_of(DEPENDS[metric])
        ]

    def of(self, metric: str, choices: Choices) -> Reading:
        """The one reading of a metric under choices of all options."""
        wanted = {option: choices[option] for option in DEPENDS[metric]}
        return next(each for each in self.readings if (each.metric, each.choices) == (metric, wanted))

    @property
    def options(self) -> list[str]:
        """Those that some metric of the table depends on."""
        used = {option for metric in self.paper["metrics"] for option in DEPENDS[metric]}
        return [option for option in OPTIONS if option in used]

    def combinations(self) -> list[Combination]:
        """All, the one that reproduces the most cells first; among equals the nearer one, then the default's order."""
        found = []
        for choices in _choices_of(self.options):
            readings = [self.of(metric, choices) for metric in self.paper["metrics"]]
            shares = [
                abs(value / self.paper["methods"][method][each.metric] - 1)
                for each in readings
                if each.comparable
                for method, value in each.values.items()
            ]
            deviation = float(np.mean(shares)) if shares else math.inf
            found.append(Combination(choices, sum(len(each.equal) for each in readings), len(shares), deviation))
        return sorted(found, key=lambda each: (-each.equal, each.deviation))

    def moves(self) -> Iterator[tuple[str, str, str, list[float]]]:
        """(option, choice, metric, differences of all methods): of a choice from the default, the others as default."""
        for option in self.options:
            for choice in list(OPTIONS[option])[1:]:
                for metric in self.paper["metrics"]:
                    if option in DEPENDS[metric]:
                        before, after = (
                            self.of(metric, each).values for each in (DEFAULT, {**DEFAULT, option: choice})
                        )
                        yield option, choice, metric, [after[m] - before[m] for m in before if m in after]

    def _reading(self, metric: str, choices: Choices) -> Reading:
        column = column_of(metric, choices)
        found = {method: self._value(metric, method, column, choices) for method in self.paper["methods"]}
        values = {method: value for method, value in found.items() if value is not None and math.isfinite(value)}
        comparable = metric not in SAME_COUNT or self.results.n == self.paper["n"]
        unit = 10.0 ** -self.paper["metrics"][metric]["decimals"]
        equal = tuple(
            method
            for method, value in values.items()
            if comparable and abs(value - self.paper["methods"][method][metric]) <= 0.5 * unit * (1 + 1e-9)
        )
        return Reading(metric, column, choices, values, equal, comparable)

    def _value(self, metric: str, method: str, column: str, choices: Choices) -> float | None:
        if metric == "fid":
            cell = self.results.methods.get(method, {}).get(column)
            return None if cell is None else cell["mean"]
        rows = self._by_method.get(method)
        if rows is None or column not in rows:
            return None
        values = rows[column]
        if choices.get("id_missing") == "zero":  # of pictures that were measured at all
            measured = rows[[key for key in self.results.metrics if key in rows]].notna().any(axis=1)
            values = values.where(values.notna() | ~measured, 0)
        if values.isna().all():
            return None
        mean = float(values.mean())
        if choices.get("psnr_mean") == "error":
            return _psnr_of(mean)
        return mean / 4 if choices.get("mse_range") == "unit" else mean


def _choices_of(options: Sequence[str]) -> Iterator[dict[str, str]]:
    for chosen in product(*(OPTIONS[option] for option in options)):
        yield dict(zip(options, chosen, strict=True))


def read(name: str, folder: Path, table: str) -> Readings:
    """Of a set's measurements in ``folder``; ``clips`` are averaged over the frames of each clip first."""
    results, rows = measurement.read(name, folder)
    if name == FRAMES:
        rows = per_clip(rows)
    return Readings(results, rows, table)


def tables_of(found: Readings) -> list[TextTable]:
    """For each metric its readings beside the paper's values, then the moves, then the best combinations."""
    paper, n = found.paper, found.results.n
    methods = list(paper["methods"])
    tables = []
    for metric, described in paper["metrics"].items():
        decimals = described["decimals"]
        readings = [each for each in found.readings if each.metric == metric]

        def cell(each: Reading, method: str, decimals: int = decimals) -> str:
            if method not in each.values:
                return ABSENT
            return f"{each.values[method]:.{decimals}f}{' =' * (method in each.equal)}"

        rows = [["as published", *(f"{paper['methods'][m][metric]:.{decimals}f}" for m in methods), ABSENT]]
        for each in readings:
            count = f"{len(each.equal)} of {len(each.values)}" if each.values else "not measured"
            rows.append([each.name, *(cell(each, method) for method in methods), count])
        notes = ["= where ours, rounded as in the paper, is its number."]
        if metric == "fid":
            notes.append(f"FIDs compare at equal counts only: {n} pictures here, {paper['n']} in the paper.")
        headings = ["Reading", *(ROWS.get(method, method) for method in methods), "Reproduced"]
        tables.append(
            TextTable(f"protocol-{metric}", f"{described['label']}, read in every way", headings, rows, notes)
        )
    return [*tables, _moves_table(found), _combinations_table(found)]


def _moves_table(found: Readings) -> TextTable:
    rows = []
    for option, choice, metric, differences in found.moves():
        described = found.paper["metrics"][metric]
        words = f"{OPTIONS[option][choice]}, not {OPTIONS[option][DEFAULT[option]]}"
        if differences:
            mean, least, most = float(np.mean(differences)), min(differences), max(differences)
            decimals = described["decimals"] + 1
            numbers = [f"{value:+.{decimals}f}" for value in (mean, least, most)]
        else:
            numbers = ["not measured", ABSENT, ABSENT]
        rows.append([option, words, described["label"], *numbers])
    notes = ["Differences from the default reading, all other options as default; over the methods of the paper."]
    headings = ["Option", "Choice", "Metric", "Mean", "Least", "Most"]
    return TextTable("protocol-moves", "How far each choice moves the numbers", headings, rows, notes)


def _combinations_table(found: Readings) -> TextTable:
    combinations = found.combinations()
    rows = [
        [
            str(place),
            "; ".join(f"{option}: {choice}" for option, choice in each.choices.items()),
            f"{each.equal} of {each.cells}",
            f"{100 * each.deviation:.1f} %" if each.cells else ABSENT,
        ]
        for place, each in enumerate(combinations[:LISTED], 1)
    ]
    notes = [
        f"The best {min(LISTED, len(combinations))} of {len(combinations)} combinations: by the cells that are the "
        "paper's, then by the mean distance of all cells in shares of the paper's values."
    ]
    headings = ["Place", "Combination", "Reproduced", "Mean distance"]
    return TextTable("protocol-combinations", "Which combination gives the paper's table", headings, rows, notes)


def numbers_of(found: Readings) -> Table:
    """Methods by readings, for the sheet."""
    columns, names = [], {}
    for each in found.readings:
        described = found.paper["metrics"][each.metric]
        key = "/".join((each.metric, *each.choices.values()))
        names[key] = each
        label = f"{described['label']} ({', '.join(each.choices.values())})" if each.choices else described["label"]
        columns.append(Column(key, label, described["higher_is_better"], described["decimals"] + 1))
    rows = [
        Row(
            method,
            ROWS.get(method, method),
            {key: Estimate(each.values[method]) for key, each in names.items() if method in each.values},
            competes=False,  # methods are not compared here
        )
        for method in found.paper["methods"]
    ]
    title = f"Every reading of the paper's metrics: {found.results.name}, n = {found.results.n}"
    return Table(f"protocol-{found.results.name}", title, columns, rows)


def as_json(found: Readings) -> dict[str, Any]:
    """Options with their defaults, every reading, every combination, and how far each choice moves the numbers."""
    combinations = found.combinations()
    moves = [
        {"option": option, "choice": choice, "metric": metric, "differences": differences}
        for option, choice, metric, differences in found.moves()
    ]
    return {
        "set": found.results.name,
        "n": found.results.n,
        "paper": {"n": found.paper["n"], "source": found.paper["source"]},
        "options": {option: dict(OPTIONS[option]) for option in found.options},
        "default": {option: DEFAULT[option] for option in found.options},
        "readings": [asdict(each) for each in found.readings],
        "moves": moves,
        "combinations": [
            asdict(each) | {"deviation": each.deviation if math.isfinite(each.deviation) else None}
            for each in combinations
        ],
    }


def render(found: Readings, stem: Path, profile: str, origin: Mapping[str, Any] | None = None) -> None:
    """Write ``STEM.{json,md,csv,tex}``; ``origin`` is the provenance."""
    results = {"profile": profile, "provenance": dict(origin or {}), **as_json(found)}
    write_forms(stem, results, [numbers_of(found)], tables_of(found))


def section(places: Places) -> Section | None:
    """Every reading of Table 1, where the official metrics were measured."""
    if not (places.measurements / f"{FACES}.json").is_file():
        return None
    found = read(FACES, places.measurements, "table1")
    introduction = [
        "The paper does not say at which size its pixel metrics were measured, which SSIM it printed, what became of "
        "pictures without a face, or what FID was measured against. Here is its Table 1 under every reading.",
    ]
    return Section("protocol", "The protocol, read in every way", introduction, tables_of(found))


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.protocol",
        description="The paper's tables under every reading of what it leaves open, from measurements that are there.",
        epilog="examples:\n  python -m eval.protocol --reports paper/reports\n"
        "  python -m eval.protocol --set renders --out /tmp/protocol",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--reports", type=Path, default=Path("reports"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--set", default=FACES, metavar="NAME", help="a set of its measurements (default: %(default)s)")
    parser.add_argument("--table", choices=("table1", "table2"), help="default: table1, of clips table2")
    parser.add_argument("--out", type=Path, metavar="STEM", help="default: protocol in the folder of the reports")
    arguments = parser.parse_args()
    places = Places(reports=arguments.reports)
    table = arguments.table or ("table2" if arguments.set == FRAMES else "table1")
    found = read(arguments.set, places.measurements, table)
    if not any(each.values for each in found.readings):
        raise Refusal(
            f"{places.measurements} has no column of {arguments.set!r} that the paper prints: measure it first"
        )
    stem = arguments.out or places.reports / "protocol"
    render(found, stem, "paper")
    console = Console()
    for each in tables_of(found):
        console.print(each.rich(), "")
    console.print(f"written: {stem}.{{json,md,csv,tex}}", style="dim")


if __name__ == "__main__":
    main()
