"""Figure 8: the feature tensor of one picture with the codes of another, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eval.figures.panel import LINE, MINUTE, above, below, blank, place, read_array, shortened, show
from eval.figures.style import COLUMN, STYLE

COLUMNS = ("$x_A$", "$G(F_A, w_A)$", "$G(F_A, w_B)$", "$G(F_B, w_A)$", "$G(F_B, w_B)$", "$x_B$")
HEADING = 0.17


def pairs(mixtures: pd.DataFrame, shown: Sequence[str]) -> list[tuple[str, str]]:
    """Of the shown pictures, those that were mixed with each other both ways; the first of every two."""
    mixed = set(zip(mixtures["structure"], mixtures["style"], strict=True))
    couples = zip(shown[::2], shown[1::2], strict=False)
    return [(a, b) for a, b in couples if {(a, b), (b, a)} <= mixed]


def mixing(pictures: Path, mixtures: pd.DataFrame, shown: Sequence[str], *, resolution: int) -> Figure:
    """A row a pair, in the paper's order; under a mixture its identity to either reconstruction.

    Parameters
    ----------
    pictures : Path
        ``source/NAME.png``, ``fse/inversion/NAME.png`` and ``mixing/A+B.png``, which is G(F_A, w_B).
    mixtures : DataFrame
        Rows of ``mixing.csv``.
    shown : sequence of str
        Names of pictures, of which the first and the second, the third and the fourth, ... are a pair.
    """
    rows = mixtures.set_index(["structure", "style"])
    found = pairs(mixtures, shown)
    side = (COLUMN - MINUTE * (len(COLUMNS) - 1)) / len(COLUMNS)
    step = side + 2 * LINE + 0.08
    with matplotlib.rc_context(STYLE):
        figure = blank(COLUMN, HEADING + step * max(1, len(found)))
        for number, (a, b) in enumerate(found):
            files = [
                pictures / f"source/{a}.png",
                pictures / f"fse/inversion/{a}.png",
                pictures / f"mixing/{a}+{b}.png",
                pictures / f"mixing/{b}+{a}.png",
                pictures / f"fse/inversion/{b}.png",
                pictures / f"source/{b}.png",
            ]
            texts = [shortened(a, 14), "", _identity(rows, a, b), _identity(rows, b, a), "", shortened(b, 14)]
            for column, (path, text) in enumerate(zip(files, texts, strict=True)):
                x, y = column * (side + MINUTE), HEADING + number * step
                axes = show(place(figure, x, y, side, side), read_array(path, resolution))
                if number == 0:
                    above(axes, COLUMNS[column], size=7)
                if text:
                    below(axes, text)
    return figure


def _identity(rows: pd.DataFrame, structure: str, style: str) -> str:
    row = rows.loc[(structure, style)]
    lines = {"ID to F's": row["id_structure"], "ID to w's": row["id_style"]}
    return "\n".join(f"{label} {value:.2f}" if np.isfinite(value) else "no face" for label, value in lines.items())
