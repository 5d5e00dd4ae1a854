"""Training curves: one small axes a quantity, one line a method."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eval.figures import STYLE

STEP = "step"
NOT_DRAWN = (STEP, "seconds", "epoch")
TITLES = {"lr": "learning rate", "loss": "loss", "mse": "MSE (Eq. 2)", "lpips": "perceptual (Eq. 3)",
          "feature": "feature (Eq. 4)", "val_psnr_w": "validation PSNR of G(w), dB",
          "val_psnr_fw": "validation PSNR of G(F, w), dB", "val_psnr": "validation PSNR, dB"}  # fmt: skip
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: for every colour vision
POINTS = 300  # a line; more are averaged in groups of neighbours
INK = "#010203"  # stands for the page's text colour while Matplotlib draws


def training_curves(training: Mapping[str, pd.DataFrame], labels: Mapping[str, str]) -> Figure | None:
    """METHOD -> its table (column ``step``, any others, gaps) -> one figure, or None when nothing was logged."""
    columns = dict.fromkeys(c for frame in training.values() for c in frame.columns if c not in NOT_DRAWN)
    drawn = [c for c in columns if any(c in frame and frame[c].notna().any() for frame in training.values())]
    if not drawn:
        return None
    with matplotlib.rc_context({**STYLE, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK,
                                "xtick.color": INK, "ytick.color": INK, "svg.fonttype": "none"}):  # fmt: skip
        across = min(3, len(drawn))
        down = math.ceil(len(drawn) / across)
        figure = Figure(figsize=(3.2 * across, 2.1 * down + 0.3), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharex=True)
        for axes in grid.flat[len(drawn) :]:
            axes.remove()
        for axes, column in zip(grid.flat, drawn, strict=False):
            for colour, (method, frame) in zip(PALETTE, training.items(), strict=False):
                if column in frame:
                    line = _thinned(frame[[STEP, column]].dropna())
                    axes.plot(line[STEP], line[column], color=colour, label=labels.get(method, method), lw=1.2)
            if _spans_decades(training, column):
                axes.set_yscale("log")
            axes.set_title(TITLES.get(column, column), fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, lw=0.5)
        for axes in grid.flat[max(0, len(drawn) - across) : len(drawn)]:  # the lowest of each column
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
        handles, names = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=len(names), frameon=False)
    return figure


def svg(figure: Figure) -> str:
    """An ``<svg>`` element for HTML, transparent, whose text and axes take the colour of the text around it."""
    text = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :].replace(INK, "currentColor")


def _thinned(line: pd.DataFrame) -> pd.DataFrame:
    if len(line) <= POINTS:
        return line
    return line.groupby(np.arange(len(line)) * POINTS // len(line)).mean()


def _spans_decades(training: Mapping[str, pd.DataFrame], column: str) -> bool:
    values = pd.concat([frame[column].dropna() for frame in training.values() if column in frame])
    return bool(values.min() > 0 and values.max() > 50 * values.min())
