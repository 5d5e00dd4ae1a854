"""Training curves: one small axes a quantity, one line a method; and when the order of the methods was decided."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eval.figures.style import STYLE, colours, line

STEP = "step"
SECONDS = "seconds"
SCORE = "validation/score"  # of the method's own result, lower is better; `fse.training.Validation`
NOT_DRAWN = (STEP, SECONDS, "epoch")
OVERVIEW = ("validation/", "train/loss")  # what is drawn of a method's many terms; the CSV files have them all
TITLES = {"lr": "learning rate", "loss": "loss", "mse": "MSE (Eq. 2)", "lpips": "perceptual (Eq. 3)",
          "feature": "feature (Eq. 4)", "val_psnr_w": "validation PSNR of G(w), dB",
          "val_psnr_fw": "validation PSNR of G(F, w), dB", "val_psnr": "validation PSNR, dB",
          "train/loss": "training loss, of each method its own", SCORE: "validation: MSE + 0.2 ST-LPIPS",
          "validation/psnr_codes": "validation PSNR of G(w), dB",
          "validation/psnr_feature": "validation PSNR of G(F, w), dB",
          "validation/st_lpips_codes": "validation ST-LPIPS of G(w)",
          "validation/st_lpips_feature": "validation ST-LPIPS of G(F, w)"}  # fmt: skip
POINTS = 300  # a line; more are averaged in groups of neighbours
INK = "#010203"  # stands for the page's text colour while Matplotlib draws


def training_curves(training: Mapping[str, pd.DataFrame], labels: Mapping[str, str]) -> Figure | None:
    """METHOD -> its table (column ``step``, any others, gaps) -> one figure, or None when nothing was logged."""
    columns = dict.fromkeys(c for frame in training.values() for c in frame.columns if c not in NOT_DRAWN)
    if any(c.startswith(OVERVIEW) for c in columns):
        columns = dict.fromkeys(sorted((c for c in columns if c.startswith(OVERVIEW)), key=_place))
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
        palette = colours(training)
        for axes, column in zip(grid.flat, drawn, strict=False):
            for method, frame in training.items():
                if column in frame:
                    points = _thinned(frame[[STEP, column]].dropna())
                    drawn_as = {**line(method), "markevery": max(1, len(points) // 8)}
                    label = labels.get(method, method)
                    axes.plot(points[STEP], points[column], color=palette[method], label=label, **drawn_as)
            if _spans_decades(training, column):
                axes.set_yscale("log")
            axes.set_title(TITLES.get(column, column), fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, lw=0.5)
        for axes in grid.flat[max(0, len(drawn) - across) : len(drawn)]:  # the lowest of each column
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
        legend = {
            name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        names = [name for method in training if (name := labels.get(method, method)) in legend]
        handles = [legend[name] for name in names]
        figure.legend(handles, names, loc="outside upper right", ncols=min(5, len(names)), frameon=False)
    return figure


def _place(column: str) -> tuple[bool, str]:
    """The score first, then by name, so that the measures of G(w) and of G(F, w) are neighbours."""
    return column != SCORE, column


@dataclass(frozen=True)
class Settled:
    """When the methods came into the order, by the validation score, that they end in.

    Attributes
    ----------
    order : list of str
        Methods at the end of the shortest training, the best first.
    since : float
        Least budget, in the unit of the axis, from which on the order was this one; of the validations made.
    first_since : float
        From which on the first of the order was the first.
    end : float
        Budget that all methods have reached.
    """

    order: list[str]
    since: float
    first_since: float
    end: float


def settled(training: Mapping[str, pd.DataFrame], by: str = STEP) -> Settled | None:
    """When the order of the methods stopped changing, at equal budgets of ``by``, a column that grows.

    At a budget a method counts with its last validation within it. None for fewer than two methods with scores.
    """
    frames = {method: frame[[by, SCORE]].dropna() for method, frame in training.items() if {by, SCORE} <= {*frame}}
    scores = {method: frame.set_index(by)[SCORE] for method, frame in frames.items() if len(frame)}
    if len(scores) < 2:
        return None
    begin, end = max(each.index[0] for each in scores.values()), min(each.index[-1] for each in scores.values())
    budgets = sorted({value for each in scores.values() for value in each.index if begin <= value <= end})
    if not budgets:
        return None
    orders = [sorted(scores, key=lambda method: scores[method].loc[:budget].iloc[-1]) for budget in budgets]

    def unchanged(places: int) -> float:
        """The budget after the last one at which the first ``places`` were others than in the end."""
        others = [at for at, order in enumerate(orders) if order[:places] != orders[-1][:places]]
        return float(budgets[others[-1] + 1 if others else 0])

    return Settled(orders[-1], unchanged(len(scores)), unchanged(1), float(end))


def settled_sentences(training: Mapping[str, pd.DataFrame], labels: Mapping[str, str]) -> list[str]:
    """What :func:`settled` found, by steps and by time; nothing where there is nothing to compare."""
    sentences = []
    for by, unit, scale, first in ((STEP, "steps", 1, 1), (SECONDS, "minutes of training", 60, 0)):
        if (found := settled(training, by)) is None:
            continue
        since, first_since, end = (
            f"{value / scale + first:.0f}" for value in (found.since, found.first_since, found.end)
        )  # steps are counted from 0 in the log
        when = (
            f"still changed at {end}, the last that all have"
            if found.since == found.end
            else f"did not change any more from {since} on, of {end} that all have"
        )
        names = [labels.get(method, method) for method in found.order]
        sentences.append(
            f"At an equal number of {unit} the order of the methods by the validation score, {' > '.join(names)}, "
            f"{when}; {names[0]} is the first from {first_since} on."
        )
    if sentences:
        sentences.append(
            "These are validations along one training a method, whose learning rate falls towards its end: a training "
            "planned for fewer steps would end elsewhere."
        )
    return sentences


def svg(figure: Figure) -> str:
    """An ``<svg>`` element for HTML, transparent, whose text and axes take the colour of the text around it.

    It holds no style but attributes, so that a page may forbid styles that it did not bring itself, and may set other
    colours by a rule such as ``svg [stroke="#332288"]``.
    """
    text = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    drawn = text.getvalue()
    drawn = re.sub(r"<style.*?</style>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = re.sub(r'style="([^"]*)"', _attributes, drawn.replace(INK, "currentColor"))
    return drawn.replace("<svg", '<svg stroke-linejoin="round" stroke-linecap="butt"', 1)


def _attributes(style: re.Match[str]) -> str:
    """Declarations of CSS as attributes of the same names; of a font only its size, the rest is the page's."""
    declared = (entry.partition(":")[::2] for entry in style[1].split(";") if entry.strip())
    found: dict[str, str] = {}
    for name, value in ((name.strip(), value.strip()) for name, value in declared):
        if name == "font":
            found["font-size"] = next(part for part in value.split() if part.endswith("px"))
        elif name != "font-family":
            found[name] = value
    return " ".join(f'{name}="{value}"' for name, value in found.items())


def _thinned(line: pd.DataFrame) -> pd.DataFrame:
    if len(line) <= POINTS:
        return line
    return line.groupby(np.arange(len(line)) * POINTS // len(line)).mean()


def _spans_decades(training: Mapping[str, pd.DataFrame], column: str) -> bool:
    values = pd.concat([frame[column].dropna() for frame in training.values() if column in frame])
    return bool(values.min() > 0 and values.max() > 50 * values.min())
