"""Figure 4's counterpart: source, every method's reconstruction, and where each is wrong.

A column is a picture, so that the reconstructions of one source stand under each other. Under every reconstruction is
its error map, ``mean over channels of |source - reconstruction| / 2``, in units of the full range from black to white;
all maps share one scale. The figures under a map are the measured ones of the table, read from the same file.
The pictures are the first by name: nobody chose them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from eval.figures.style import STYLE
from fse.pictures import list_pictures, read_picture
from fse.refusal import Refusal

RULE = "the first {count} by name"
ERROR_SCALE = 0.25  # a quarter of the range from black to white saturates the map
COLOURS = "inferno"  # perceptually uniform, and ordered by lightness for every kind of colour vision


def error_grid(
    sources: Path,
    inversions: Mapping[str, Path],
    labels: Mapping[str, str],
    pictures: pd.DataFrame,
    metrics: Mapping[str, tuple[str, int]],
    *,
    resolution: int,
    count: int = 6,
) -> Figure:
    """The grid for the first ``count`` pictures of ``sources``.

    Parameters
    ----------
    inversions, labels : mapping
        METHOD -> folder of its reconstructions, in the order of the rows; METHOD -> its name in print.
    pictures : DataFrame
        Rows of single pictures, as in ``SET.csv``: the values under each map.
    metrics : mapping
        METRIC column -> (label, decimals) of the values to print, e.g. ``{"mse": ("MSE", 4)}``.

    A reconstruction that cannot be read, or that a method was not run for, leaves its place empty with the words
    "no picture".
    """
    paths = list_pictures(sources)[:count]
    if not paths:
        raise Refusal(f"{sources} has no pictures to draw: run `make repro`")
    rows = pictures.set_index(["picture", "method"])
    with matplotlib.rc_context(STYLE):
        side, gap = 1.15, 0.2  # inches: of a picture, and of the text under an error map
        heights = [side] + [side, side + gap] * len(inversions)
        figure = Figure(figsize=(0.3 + side * len(paths) + 0.62, 0.2 + sum(heights)))
        grid = GridSpec(len(heights), len(paths), figure, height_ratios=heights, wspace=0.03, hspace=0.02,
                        left=0.3 / figure.get_figwidth(), right=1 - 0.62 / figure.get_figwidth(), bottom=0.0,
                        top=1 - 0.2 / figure.get_figheight())  # fmt: skip
        image = None
        for column, path in enumerate(paths):
            source = _array(path, resolution)
            axes = _picture(figure, grid, 0, column, source, "source")
            axes.set_title(path.stem if len(path.stem) <= 18 else f"{path.stem[:17]}…", fontsize=6, pad=3)
            for place, (method, folder) in enumerate(inversions.items()):
                row = 1 + 2 * place
                found = _array(folder / f"{path.stem}.png", resolution)
                _picture(figure, grid, row, column, found, labels[method])
                error = None if source is None or found is None else np.abs(source - found).mean(axis=2)
                axes = _picture(figure, grid, row + 1, column, error, "error")
                image = axes.images[0] if axes.images else image
                axes.set_anchor("N")
                axes.set_xlabel(_values(rows, (path.stem, method), metrics), fontsize=5.5, labelpad=2)
        if image is not None:
            _colour_bar(figure, image)
    return figure


def caption(title: str, sources: Path, count: int, metrics: Sequence[str]) -> str:
    """What the grid shows, by which rule its pictures were chosen, and what the colours mean."""
    shown = min(count, len(list_pictures(sources)))
    return (
        f"{title}: {RULE.format(count=shown)}, not chosen by hand. From above: source, then each method's "
        f"reconstruction with its absolute error under it (mean of the channels; bright is wrong; one scale for all), "
        f"and {' and '.join(metrics)} as measured."
    )


def _array(path: Path, resolution: int) -> np.ndarray | None:
    """A picture as (R, R, 3) in [0, 1], or None when it cannot be read (the table names it and says why)."""
    try:
        return (read_picture(path, resolution).permute(1, 2, 0).numpy() + 1) / 2
    except Refusal:
        return None


def _picture(figure: Figure, grid: GridSpec, row: int, column: int, array: np.ndarray | None, label: str) -> Axes:
    axes = figure.add_subplot(grid[row, column])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if array is None:
        axes.set_box_aspect(1)
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", transform=axes.transAxes, color="0.4")
    elif array.ndim == 3:
        axes.imshow(array, vmin=0, vmax=1, interpolation="none")
    else:
        axes.imshow(array, vmin=0, vmax=ERROR_SCALE, cmap=COLOURS, interpolation="none")
    if column == 0:
        axes.set_ylabel(label, labelpad=3)
    return axes


def _values(rows: pd.DataFrame, key: tuple[str, str], metrics: Mapping[str, tuple[str, int]]) -> str:
    """What was measured of one picture, in print; a metric that failed on it is left out."""
    found = rows.loc[key] if key in rows.index else {}
    printed = (
        f"{label} {found[name]:.{decimals}f}"
        for name, (label, decimals) in metrics.items()
        if np.isfinite(found.get(name, np.nan))
    )
    return "  ".join(printed) or "not measured"


def _colour_bar(figure: Figure, image: matplotlib.cm.ScalarMappable) -> None:
    width = figure.get_figwidth()
    axes = figure.add_axes((1 - 0.54 / width, 0.25, 0.08 / width, 0.5))
    bar = figure.colorbar(image, cax=axes, extend="max")
    bar.set_label("absolute error, 1 = from black to white", fontsize=6)
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_visible(False)
