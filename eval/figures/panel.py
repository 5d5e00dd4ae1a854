"""Pictures on paper: a figure that is laid out in inches from its upper left corner, and pictures with words in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eval.figures.style import SMALLEST
from fse.pictures import read_picture
from fse.refusal import Refusal

Picture = NDArray[np.float32]
"""(R, R, 3) in [0, 1], or a map (R, R)."""

LINE = 0.095  # inches: a line of the smallest letters
MINUTE = 0.04  # inches between things that belong together


def read_array(path: Path, resolution: int) -> Picture | None:
    """A picture as (R, R, 3) in [0, 1], or None when it cannot be read (the table names it and says why)."""
    try:
        array: Picture = read_picture(path, resolution).add(1).div(2).permute(1, 2, 0).numpy()
        return array
    except Refusal:
        return None


def blank(width: float, height: float) -> Figure:
    """A figure of so many inches."""
    return Figure(figsize=(width, height))


def place(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Bare axes whose upper left corner is ``x`` right of, and ``y`` below, the figure's, in inches."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((x / wide, 1 - (y + height) / high, width / wide, height / high))
    axes.set_facecolor("none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def show(axes: Axes, array: Picture | None, **options: Any) -> Axes:
    """A picture or a map in ``axes``, unsmoothed; the words "no picture" for None."""
    if array is None:
        axes.set_facecolor("0.94")
        axes.text(
            0.5, 0.5, "no picture", ha="center", va="center", transform=axes.transAxes, color="0.35", size=SMALLEST
        )
    elif array.ndim == 3:
        axes.imshow(array, vmin=0, vmax=1, interpolation="none", **options)
    else:
        axes.imshow(array, interpolation="none", **options)
    return axes


def above(axes: Axes, text: str, *, size: float = 6, **options: Any) -> None:
    """A heading over a picture."""
    axes.set_title(text, fontsize=size, pad=2, **options)


def below(axes: Axes, text: str, *, size: float = SMALLEST) -> None:
    """Lines under a picture."""
    axes.set_xlabel(text, fontsize=size, labelpad=2, linespacing=1.15)


def shortened(name: str, length: int = 18) -> str:
    """The name of a picture, cut so that it stays over it."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def measured_values(
    pictures: pd.DataFrame, picture: str, method: str, metrics: Mapping[str, tuple[str, int]]
) -> list[str]:
    """What was measured of a picture, a text a metric.

    Parameters
    ----------
    pictures : DataFrame
        Indexed by picture and method, as in ``SET.csv``.
    metrics : mapping
        METRIC column -> (label, decimals). One that failed on the picture is left out.
    """
    found = pictures.loc[(picture, method)] if (picture, method) in pictures.index else {}
    return [
        f"{label} {found[name]:.{decimals}f}"
        for name, (label, decimals) in metrics.items()
        if np.isfinite(found.get(name, np.nan))
    ]
