"""In place of Figure 6: what the face generator's methods make of pictures that are no faces.

The paper inverts cars, cats and dogs by generators trained on them. The embedded profile has the face generator alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from eval.figures.panel import LINE, MINUTE, above, below, blank, measured_values, place, read_array, show
from eval.figures.style import COLUMN, SMALLEST, STYLE

HEADING = 0.15  # inches


def other_domains(
    sources: Sequence[Path],
    inversions: Mapping[str, Path],
    labels: Mapping[str, str],
    pictures: pd.DataFrame,
    metrics: Mapping[str, tuple[str, int]],
    *,
    resolution: int,
) -> Figure:
    """A row a source, a column a method; arguments as for :func:`eval.figures.error_grid.error_grid`.

    Under each reconstruction are the bare values, one a line, whose names stand under the source.
    """
    rows = pictures.set_index(["picture", "method"])
    side = (COLUMN - MINUTE * len(inversions)) / (1 + len(inversions))
    height = side + LINE * len(metrics) + 0.08
    bare = {metric: ("", decimals) for metric, (_, decimals) in metrics.items()}
    with matplotlib.rc_context(STYLE):
        figure = blank(COLUMN, HEADING + height * len(sources))
        for row, path in enumerate(sources):
            y = HEADING + row * height
            axes = show(place(figure, 0, y, side, side), read_array(path, resolution))
            below(axes, "\n".join(label for label, _ in metrics.values()))
            if row == 0:
                above(axes, "source")
            for column, (method, folder) in enumerate(inversions.items(), 1):
                found = read_array(folder / f"{path.stem}.png", resolution)
                axes = show(place(figure, column * (side + MINUTE), y, side, side), found)
                values = measured_values(rows, path.stem, method, bare)
                below(axes, "\n".join(value.strip() for value in values) or "not measured")
                if row == 0:
                    above(axes, labels[method], size=6 if len(labels[method]) < 13 else SMALLEST)
    return figure
