"""Editing in pictures: curves of effect against identity, Figure 7's edits, and section 5.5's limitation.

What is shown is chosen by rules: the first pictures by name, every method, every direction; the example of the
limitation is the edit that plain Eq. (1) made strangest, of those that are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.attributes import ATTRIBUTES
from eval.edit_measurement import MASKED, attribute_of, edit_folder
from eval.figures.panel import LINE, MINUTE, above, below, blank, place, read_array, shortened, show
from eval.figures.style import COLUMN, SMALLEST, STYLE, colours, line

PLAIN = "fse"
MARGIN = 0.16  # inches: a label on its side
HEADING = 0.16
PANEL = 1.75  # inches: height of a panel of curves
GRAPHS = 1.95  # inches: height of the upper half of the figure of the limitation

Curves = Mapping[str, Mapping[str, Mapping[float, Mapping[str, Any]]]]
"""DIRECTION -> METHOD -> STRENGTH -> MEASURE -> cell with ``mean``, ``low`` and ``high``."""


def curves(values: Curves, labels: Mapping[str, str], directions: Mapping[str, str]) -> Figure:
    """Identity kept against the change of the attribute, a panel a direction, a line a method, a mark a strength.

    Lines meet at strength 0, where nothing has changed. Bars are 95 % intervals over pictures, both ways. Better is
    higher: more identity at the same change.
    """
    across = min(2, len(directions))
    down = -(-len(directions) // across)
    found = colours(labels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, PANEL * down + 0.45), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes in grid.flat[len(directions) :]:
            axes.remove()
        for axes, (direction, title) in zip(grid.flat, directions.items(), strict=False):
            for method, label in labels.items():
                _curve(axes, values[direction].get(method, {}), found[method], label, line(method))
            axes.set_title(title, fontsize=7.5)
            axes.axhline(1, color="0.7", lw=0.5, zorder=0)
            axes.axvline(0, color="0.7", lw=0.5, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, lw=0.5)
            axes.tick_params(labelsize=6)
        figure.supxlabel("change of the attribute, standard deviations over renders", fontsize=6.5)
        figure.supylabel("identity kept (centred dlib cosine)", fontsize=6.5)
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False, fontsize=6)
    return figure


def _curve(
    axes: Axes, by_strength: Mapping[float, Mapping[str, Any]], colour: str, label: str, style: Mapping[str, Any]
) -> None:
    cells = {float(strength): cell for strength, cell in by_strength.items()}
    cells = {
        s: cell for s, cell in cells.items() if cell["change"]["mean"] is not None and cell["id"]["mean"] is not None
    }
    points = sorted([(s, cell["change"], cell["id"]) for s, cell in cells.items()], key=lambda point: point[0])
    nothing = {"mean": 0.0, "low": 0.0, "high": 0.0}, {"mean": 1.0, "low": 1.0, "high": 1.0}
    points = sorted([*points, (0.0, *nothing)], key=lambda point: point[0])
    x, y = (np.array([[each[k] for k in ("mean", "low", "high")] for each in column], float).T
            for column in list(zip(*points, strict=True))[1:])  # fmt: skip
    axes.plot(x[0], y[0], color=colour, label=label, **{**style, "linewidth": 1.0, "markersize": 2.5})
    axes.errorbar(x[0], y[0], xerr=_errors(x), yerr=_errors(y), fmt="none", ecolor=colour, elinewidth=0.4, alpha=0.45)


def _errors(values: np.ndarray) -> np.ndarray:
    """Of mean, low and high (3, K): how far the bars reach down and up."""
    return np.maximum([values[0] - values[1], values[2] - values[0]], 0)


def edits(
    pictures: Path,
    name: str,
    labels: Mapping[str, str],
    directions: Mapping[str, str],
    measured: pd.DataFrame,
    *,
    strength: float,
    resolution: int,
) -> Figure:
    """Figure 7: the picture ``name`` edited by every method along every direction, at one strength.

    Parameters
    ----------
    pictures : Path
        ``source/NAME.png``, ``METHOD/inversion/NAME.png`` and ``METHOD/DIRECTION/STRENGTH/NAME.png``.
    labels, directions : mapping
        METHOD -> its name in print, in the order of the rows; DIRECTION -> heading of its column.
    measured : DataFrame
        Rows of ``edits.csv``: what stands under each edit.
    strength : float
        Positive, and one that was measured.
    """
    rows = measured[(measured["picture"] == name) & (measured["strength"] == strength)]
    rows = rows.set_index(["method", "direction"])
    columns = 1 + len(directions)
    side = (COLUMN - MARGIN - MINUTE * (columns - 1)) / columns
    step = side + 2 * LINE + 0.07
    with matplotlib.rc_context(STYLE):
        figure = blank(COLUMN, HEADING + side + MINUTE + HEADING + step * len(labels))
        source = show(
            place(figure, MARGIN, HEADING, side, side), read_array(pictures / f"source/{name}.png", resolution)
        )
        above(source, "source")
        text = figure.add_axes((0, 0, 1, 1))
        text.axis("off")
        top = 1 - (HEADING + side / 2) / figure.get_figheight()
        said = (
            f"Each method's own edit at strength {strength:g}\n(standard deviations of its codes).\n"
            "Under an edit: the change of its attribute in\nstandard deviations, and identity to the\nreconstruction."
        )
        text.text((MARGIN + side + 0.12) / COLUMN, top, said, va="center", fontsize=6.5, linespacing=1.35)
        y = HEADING + side + MINUTE + HEADING
        for number, (method, label) in enumerate(labels.items()):
            folders = {"reconstruction": "inversion", **{title: key for key, title in directions.items()}}
            for column, (title, folder) in enumerate(folders.items()):
                x = MARGIN + column * (side + MINUTE)
                kept = folder if folder == "inversion" else edit_folder(folder, strength)
                array = read_array(pictures / method / kept / f"{name}.png", resolution)
                axes = show(place(figure, x, y, side, side), array)
                if number == 0:
                    above(axes, title)
                if folder != "inversion":
                    below(axes, _values(rows, method, folder))
            _label(figure, label, y, side)
            y += step
    return figure


def _values(rows: pd.DataFrame, method: str, direction: str) -> str:
    if (method, direction) not in rows.index:
        return "not measured"
    row = rows.loc[(method, direction)]
    change, identity = row[attribute_of(direction)], row["id"]
    texts = [f"{change:+.1f} s.d." if np.isfinite(change) else "no face", f"ID {identity:.2f}"]
    return "\n".join(texts if np.isfinite(identity) else texts[:1])


def _label(figure: Figure, text: str, y: float, side: float) -> None:
    """On its side, left of a row."""
    height = figure.get_figheight()
    figure.text(
        0.5 * MARGIN / COLUMN, 1 - (y + side / 2) / height, text, rotation=90, ha="center", va="center", fontsize=6
    )


def limitation(
    pictures: Path,
    shown: Sequence[str],
    measured: pd.DataFrame,
    directions: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    resolution: int,
) -> Figure:
    """Identity lost by Eq. (1) against the change of the feature tensor and against its gap, and an example.

    Parameters
    ----------
    pictures : Path
        As for :func:`edits`, and ``fse_masked/mask/DIRECTION/NAME.png``.
    shown : sequence of str
        Names of the pictures that are kept.
    measured : DataFrame
        Rows of ``edits.csv`` by plain and masked Eq. (1), with ``excess``: identity lost beyond the same edit of G(w).

    The left panel has a point an edit; its lines are means of sixths of the edits by ``feature_change``. The right one
    has a point a picture, the mean of its edits. The example is the kept edit with the greatest ``excess``.
    """
    values = measured.dropna(subset=["excess"])
    found = colours([PLAIN, MASKED])
    with matplotlib.rc_context(STYLE):
        side = (COLUMN - 4 * MINUTE) / 5
        height = GRAPHS + HEADING + side + 2 * LINE + 0.1
        figure = blank(COLUMN, height)
        panels = [
            figure.add_axes((0.42 / COLUMN + i * 0.51, 1 - (GRAPHS - 0.35) / height, 1.85 / COLUMN, 1.35 / height))
            for i in (0, 1)
        ]
        for method in (PLAIN, MASKED):
            own = values[values["method"] == method]
            style = {**line(method), "linewidth": 1.2, "color": found[method], "label": labels[method]}
            panels[0].scatter(own["feature_change"], own["excess"], s=2.5, color=found[method], alpha=0.35, lw=0)
            shares = own.groupby(pd.qcut(own["feature_change"], 6, duplicates="drop"), observed=True)
            means = shares[["feature_change", "excess"]].mean()
            panels[0].plot(means["feature_change"], means["excess"], **style)
            each = own.groupby("picture")[["feature_gap", "excess"]].mean()
            panels[1].plot(each["feature_gap"], each["excess"], **{**style, "linestyle": "none"})
        panels[0].set_xlabel("change of the feature tensor, |G(edited w) - G(w)| / |G(w)|", fontsize=SMALLEST)
        panels[1].set_xlabel("gap of the feature tensor, |F - G(w)| / |G(w)|", fontsize=SMALLEST)
        panels[0].set_ylabel("identity lost beyond G(w)'s", fontsize=6)
        for axes in panels:
            axes.axhline(0, color="0.7", lw=0.5, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, lw=0.5)
            axes.tick_params(labelsize=SMALLEST)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, frameon=False, fontsize=6.5, loc="upper center", ncols=2, borderaxespad=0.1)
        _example(figure, pictures, shown, values, directions, side, resolution)
    return figure


def worst(shown: Sequence[str], measured: pd.DataFrame) -> tuple[str, str] | None:
    """Picture and direction of the strongest kept edit by plain Eq. (1) that lost most identity; None without one."""
    kept = measured[
        (measured["method"] == PLAIN)
        & measured["picture"].isin(list(shown))
        & (measured["strength"] == measured["strength"].max())
    ]
    if kept.empty:
        return None
    row = kept.sort_values(["excess", "picture", "direction"]).iloc[-1]
    return str(row["picture"]), str(row["direction"])


def _example(
    figure: Figure,
    pictures: Path,
    shown: Sequence[str],
    measured: pd.DataFrame,
    directions: Mapping[str, str],
    side: float,
    resolution: int,
) -> None:
    found = worst(shown, measured)
    if found is None:
        return
    name, direction = found
    strongest = measured["strength"].max()
    rows = measured[
        (measured["picture"] == name) & (measured["direction"] == direction) & (measured["strength"] == strongest)
    ].set_index("method")
    folder = edit_folder(direction, strongest)
    attribute = ATTRIBUTES[attribute_of(direction)]
    files = {
        f"source, {shortened(name, 10)}": pictures / f"source/{name}.png",
        "reconstruction": pictures / f"{PLAIN}/inversion/{name}.png",
        f"{directions[direction]}, plain": pictures / f"{PLAIN}/{folder}/{name}.png",
        f"{directions[direction]}, masked": pictures / f"{MASKED}/{folder}/{name}.png",
        "mask M, white is 1": pictures / f"{MASKED}/mask/{direction}/{name}.png",
    }
    for column, (title, path) in enumerate(files.items()):
        axes = show(place(figure, column * (side + MINUTE), GRAPHS + HEADING, side, side), read_array(path, resolution))
        above(axes, title, size=SMALLEST)
        method = {2: PLAIN, 3: MASKED}.get(column)
        if method in rows.index:
            change = rows.loc[method, attribute.key]
            said = f"{change:+.1f} s.d." if np.isfinite(change) else "no face"
            below(axes, f"{said}, ID {rows.loc[method, 'id']:.2f}")
