"""Figure 4's counterpart: source, every method's reconstruction, where each is wrong, and one patch enlarged.

A block a picture. Under every reconstruction are its error map, ``mean over channels of |source - reconstruction| / 2``
in units of the full range from black to white, all on one scale, and the patch that is framed in the source, the same
for all methods of a block (:mod:`eval.figures.zoom`). The figures below are the measured ones of the table, read from
the same file. The pictures are the first by name: nobody chose them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from eval.figures import zoom
from eval.figures.panel import (
    LINE,
    MINUTE,
    Picture,
    above,
    below,
    blank,
    measured_values,
    place,
    read_array,
    shortened,
    show,
)
from eval.figures.style import COLUMN, SMALLEST, STYLE
from eval.figures.zoom import Patch, differing_patch
from fse.pictures import list_pictures
from fse.refusal import Refusal

RULE = "the first {count} by name"
ERROR_SCALE = 0.25  # a quarter of the range from black to white saturates the map
COLOURS = "inferno"  # perceptually uniform, and ordered by lightness for every kind of colour vision
ACROSS = 6  # methods in a line
FRAME = "#ffe14d"  # of the patch: stands out from skin, hair and sky, and has a dark line around it
HEADING = 0.14  # inches


def error_grid(
    sources: Path,
    inversions: Mapping[str, Path],
    labels: Mapping[str, str],
    pictures: pd.DataFrame,
    metrics: Mapping[str, tuple[str, int]],
    *,
    resolution: int,
    count: int = 3,
) -> Figure:
    """The grid for the first ``count`` pictures of ``sources``.

    Parameters
    ----------
    inversions, labels : mapping
        METHOD -> folder of its reconstructions, in the order of printing; METHOD -> its name in print.
    pictures : DataFrame
        Rows of single pictures, as in ``SET.csv``: the values under each reconstruction.
    metrics : mapping
        METRIC column -> (label, decimals) of the values to print, e.g. ``{"mse": ("MSE", 4)}``.

    A reconstruction that cannot be read, or that a method was not run for, leaves its place empty with the words
    "no picture".
    """
    paths = list_pictures(sources)[:count]
    if not paths:
        raise Refusal(f"{sources} has no pictures to draw: run `make repro`")
    rows = pictures.set_index(["picture", "method"])
    lines = max(1, math.ceil(len(inversions) / ACROSS))
    across = math.ceil(len(inversions) / lines) if inversions else 1
    large = 0.26 * COLUMN if lines > 1 else 0.2 * COLUMN  # inches: of the source
    side = min(large, (COLUMN - large) / across - MINUTE)
    cell = HEADING + side + MINUTE + side / 2 + 0.03 + LINE * max(1, len(metrics)) + 0.06
    block = max(cell * lines, HEADING + large + MINUTE + large / 2)
    with matplotlib.rc_context(STYLE):
        figure = blank(COLUMN, block * len(paths) + 0.4)
        for number, path in enumerate(paths):
            top = number * block
            source = read_array(path, resolution)
            found = {
                method: read_array(folder / f"{path.stem}.png", resolution) for method, folder in inversions.items()
            }
            known = [picture for picture in found.values() if picture is not None]
            patch = differing_patch(known) if known else None
            _source(figure, path.stem, source, patch, top + HEADING, large, block - HEADING - large - MINUTE)
            for index, (method, picture) in enumerate(found.items()):
                x = large + MINUTE + (index % across) * (side + MINUTE)
                y = top + (index // across) * cell + HEADING
                values = measured_values(rows, path.stem, method, metrics) or ["not measured"]
                _method(figure, labels[method], source, picture, patch, values, (x, y, side))
        _colour_bar(figure)
    return figure


def caption(title: str, sources: Path, count: int, metrics: Sequence[str]) -> str:
    """What the grid shows, by which rule its pictures were chosen, and what the colours mean."""
    shown = min(count, len(list_pictures(sources)))
    return (
        f"{title}: {RULE.format(count=shown)}, not chosen by hand. Beside each source its reconstruction by every "
        f"method; under that its absolute error (mean of the channels; bright is wrong; one scale for all), the framed "
        f"patch enlarged, and {' and '.join(metrics)} as measured. The patch is {zoom.RULE}."
    )


def _source(
    figure: Figure, name: str, source: Picture | None, patch: Patch | None, y: float, side: float, below_it: float
) -> None:
    """The source with the patch framed, and the patch under it as large as there is room."""
    axes = show(place(figure, 0, y, side, side), source)
    above(axes, f"source {shortened(name)}")
    if source is None or patch is None:
        return
    corner, width = (patch.column - 0.5, patch.row - 0.5), patch.side
    for colour, line in (("black", 1.8), (FRAME, 0.9)):
        axes.add_patch(Rectangle(corner, width, width, fill=False, edgecolor=colour, linewidth=line))
    enlarged = min(side, below_it - 0.1)
    show(place(figure, 0, y + side + MINUTE, enlarged, enlarged), patch.of(source))


def _method(
    figure: Figure,
    label: str,
    source: Picture | None,
    picture: Picture | None,
    patch: Patch | None,
    values: Sequence[str],
    where: tuple[float, float, float],
) -> None:
    x, y, side = where
    half = (side - MINUTE / 2) / 2
    above(show(place(figure, x, y, side, side), picture), label, size=6 if len(label) < 14 else SMALLEST)
    y += side + MINUTE / 2
    if picture is not None and source is not None:
        error = np.abs(source - picture).mean(axis=2)
        show(place(figure, x, y, half, half), error, vmin=0, vmax=ERROR_SCALE, cmap=COLOURS)
    if picture is not None and patch is not None:
        show(place(figure, x + half + MINUTE / 2, y, half, half), patch.of(picture))
    below(place(figure, x, y, side, half), "\n".join(values))


def _colour_bar(figure: Figure) -> None:
    height = figure.get_figheight()
    axes = place(figure, 1.2, height - 0.32, COLUMN - 2.4, 0.07)
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, ERROR_SCALE), COLOURS)
    bar = figure.colorbar(scale, cax=axes, extend="max", orientation="horizontal")
    bar.set_label("absolute error, 1 = from black to white", fontsize=SMALLEST, labelpad=1)
    bar.ax.tick_params(labelsize=SMALLEST, length=2, pad=1)
    bar.outline.set_visible(False)
