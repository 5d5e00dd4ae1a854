"""A drawing in a table's cell: where its mean and interval lie in the range of the column."""

from __future__ import annotations

from dataclasses import dataclass

from eval.tables import Column, Estimate, Table


@dataclass(frozen=True)
class Whisker:
    """Ends and middle in percent of the column's range, from the lowest end of all its intervals to the highest."""

    low: float
    mean: float
    high: float


def whiskers(table: Table) -> dict[tuple[str, str], Whisker]:
    """(ROW, COLUMN) -> its drawing; nothing for cells without an interval, and for columns with fewer than two."""
    found = {}
    for column in table.columns:
        cells = {row.key: ends for row in table.rows if (ends := _ends(row.cells.get(column.key)))}
        lowest = min((low for low, _, _ in cells.values()), default=0.0)
        reach = max((high for _, _, high in cells.values()), default=0.0) - lowest
        if len(cells) > 1 and reach > 0:
            for key, ends in cells.items():
                found[key, column.key] = Whisker(*(round(100 * (end - lowest) / reach, 1) for end in ends))
    return found


def zero(table: Table, column: Column) -> float | None:
    """Where nothing is, in percent of the column's range; None where all its intervals lie on one side of it."""
    ends = [ends for row in table.rows if (ends := _ends(row.cells.get(column.key)))]
    lowest, highest = min((low for low, *_ in ends), default=0.0), max((high for *_, high in ends), default=0.0)
    return round(100 * -lowest / (highest - lowest), 1) if lowest < 0 < highest else None


def _ends(estimate: Estimate | None) -> tuple[float, float, float] | None:
    if estimate is None or estimate.mean is None or estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.mean, estimate.high
