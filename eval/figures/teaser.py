"""Figure 1's counterpart: one picture, and every method beside it with its perceptual distance.

The picture is found by a rule and not by taste: of those that every method was run on, the one whose distance by our
method is the median, so that it is neither our best case nor our worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from eval.figures.panel import LINE, MINUTE, above, below, blank, measured_values, place, read_array, shortened, show
from eval.figures.style import COLUMN, STYLE
from fse.pictures import list_pictures
from fse.refusal import Refusal

ACROSS = 5  # pictures in a line, the source among them
HEADING = 0.15  # inches


def typical(pictures: pd.DataFrame, methods: list[str], metric: str) -> str:
    """The picture with the median of ``metric`` by the last of ``methods``, of those that all have a value of.

    The lower median of an even number. Where the methods share no picture, those of the last method count alone.
    Raises Refusal where it has no value either.
    """
    values = pictures.pivot(index="picture", columns="method", values=metric).astype(float).reindex(columns=methods)
    shared = values.dropna() if len(values.dropna()) else values[methods[-1:]].dropna()
    if shared.empty:
        raise Refusal(f"no picture has a value of {metric} by {methods[-1]}: run `make repro`, which measures them")
    order = shared.reset_index().sort_values([methods[-1], "picture"])
    return str(order["picture"].iloc[(len(order) - 1) // 2])


def teaser(
    sources: Path,
    inversions: Mapping[str, Path],
    labels: Mapping[str, str],
    pictures: pd.DataFrame,
    metric: tuple[str, str, int],
    *,
    resolution: int,
) -> Figure:
    """The typical picture of ``sources``.

    Parameters
    ----------
    inversions, labels, pictures
        As for :func:`eval.figures.error_grid.error_grid`, ours last.
    metric : tuple
        Column of ``pictures``, its label and decimals; the lower the better.
    """
    column, label, decimals = metric
    name = typical(pictures, list(inversions), column)
    path = next((path for path in list_pictures(sources) if path.stem == name), sources / name)
    rows = pictures.set_index(["picture", "method"])
    places = 1 + len(inversions)
    lines = math.ceil(places / ACROSS)
    across = math.ceil(places / lines)
    side = min(COLUMN / 4, (COLUMN - MINUTE * (across - 1)) / across)
    height = HEADING + side + LINE + 0.06
    with matplotlib.rc_context(STYLE):
        figure = blank(COLUMN, height * lines)
        axes = show(place(figure, 0, HEADING, side, side), read_array(path, resolution))
        above(axes, "source", size=7)
        below(axes, shortened(name), size=6)
        for index, (method, folder) in enumerate(inversions.items(), 1):
            x, y = (index % across) * (side + MINUTE), (index // across) * height + HEADING
            axes = show(place(figure, x, y, side, side), read_array(folder / f"{name}.png", resolution))
            above(axes, labels[method], size=7)
            values = measured_values(rows, name, method, {column: (label, decimals)})
            below(axes, "".join(values) or "not measured", size=6)
    return figure


def caption(title: str, pictures: pd.DataFrame, labels: Mapping[str, str], metric: tuple[str, str, int]) -> str:
    """What it shows, and by which rule the picture was chosen."""
    column, label, _ = metric
    name, ours = typical(pictures, list(labels), column), list(labels.values())[-1]
    return (
        f"{title}: the picture {name} and its reconstructions, with {label} (lower is closer). Chosen by a rule: of "
        f"the pictures that every method was run on, the one whose {label} by {ours} is the median."
    )


def alternative(pictures: pd.DataFrame, labels: Mapping[str, str], metric: tuple[str, str, int]) -> str:
    """What can be read off it: the methods by their distance."""
    column, label, decimals = metric
    name = typical(pictures, list(labels), column)
    values = pictures[pictures["picture"] == name].set_index("method")[column].reindex(list(labels)).dropna()
    order = values.sort_values(kind="stable")
    printed = ", ".join(f"{labels[str(method)]} {value:.{decimals}f}" for method, value in order.items())
    return f"A source picture and its reconstructions; by {label}, closest first: {printed}."
