"""Figure 9's counterpart: frames of one clip over time, the source above, every method's reconstruction below.

The paper's last two columns are extreme poses; so are ours, where the clip has them. Nobody chooses: the clip is the
first by name that has extreme poses, the other frames are evenly spaced over what was measured of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eval.clips import SourceClip, number_of
from eval.figures.panel import LINE, above, below, blank, measured_values, place, read_array, show
from eval.figures.style import COLUMN, STYLE
from fse.refusal import Refusal

COUNT = 6  # frames
EXTREMES = 2  # of them, at most, with an extreme pose
MARGIN = 0.16  # inches: a label on its side
GAP = 0.03
HEADING = 0.16


def clip_with_extremes(clips: Sequence[SourceClip]) -> SourceClip:
    """The first clip that has frames of an extreme pose, or the first of all. Raises Refusal for none."""
    if not clips:
        raise Refusal("there are no clips to draw: run `make repro`")
    return next((clip for clip in clips if clip.extreme), clips[0])


def shown_frames(clip: SourceClip, count: int = COUNT) -> list[Path]:
    """``count`` frames in order of time, as far as there are so many: the last ``EXTREMES`` of an extreme pose, and
    others from the first on, evenly spaced."""
    extreme = [path for path in clip.frames if path.stem in clip.extreme][-EXTREMES:]
    others = [path for path in clip.frames if path.stem not in clip.extreme]
    wanted = min(count - len(extreme), len(others))
    even = np.linspace(0, len(others) - 1, wanted).round().astype(int).tolist() if wanted > 0 else []
    return sorted([*(others[index] for index in even), *extreme], key=lambda path: number_of(path.stem))


def filmstrip(
    clip: SourceClip,
    inversions: Mapping[str, Path],
    labels: Mapping[str, str],
    frames: pd.DataFrame,
    metrics: Mapping[str, tuple[str, int]],
    *,
    resolution: int,
    count: int = COUNT,
) -> Figure:
    """The strip of one clip.

    Parameters
    ----------
    inversions, labels : mapping
        METHOD -> folder of its frames, in the order of the rows; METHOD -> its name in print.
    frames : DataFrame
        Rows of single frames, as in ``clips.csv``: the values under each picture.
    metrics : mapping
        METRIC column -> (label, decimals) of the values to print.

    A frame that a method was not run for, or that cannot be read, leaves its place with the words "no picture".
    """
    shown = shown_frames(clip, count)
    values = frames.set_index(["picture", "method"])
    side = (COLUMN - MARGIN - GAP * (len(shown) - 1)) / len(shown)
    under = LINE * max(1, len(metrics)) + 0.05
    with matplotlib.rc_context(STYLE):
        figure = blank(COLUMN, HEADING + side + GAP + (side + under + GAP) * len(inversions))
        y = HEADING
        for column, path in enumerate(shown):
            axes = show(place(figure, _left(column, side), y, side, side), read_array(path, resolution))
            extreme = ", extreme" if path.stem in clip.extreme else ""
            above(axes, f"{number_of(path.stem) / clip.rate:.2f} s{extreme}", size=6)
        _label(figure, "source", y, side)
        y += side + GAP
        for method, folder in inversions.items():
            for column, path in enumerate(shown):
                found = read_array(folder / f"{path.stem}.png", resolution)
                axes = show(place(figure, _left(column, side), y, side, side), found)
                printed = measured_values(values, path.stem, method, metrics)
                below(axes, "\n".join(printed) or ("not measured" if found is not None else ""))
            _label(figure, labels[method], y, side)
            y += side + under + GAP
    return figure


def caption(metrics: Sequence[tuple[str, int]]) -> str:
    """What the strip shows, and by which rule."""
    printed = " and ".join(label for label, _ in metrics)
    return (
        "Frames of the first clip by name that has extreme poses, which are its last columns; the others are evenly "
        "spaced over the frames that were measured. From above: source, then each method's reconstruction of each "
        f"frame by itself, with {printed} as measured."
    )


def _left(column: int, side: float) -> float:
    return MARGIN + column * (side + GAP)


def _label(figure: Figure, text: str, y: float, side: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        MARGIN / 2 / width, 1 - (y + side / 2) / height, text, rotation=90, ha="center", va="center", fontsize=6
    )
