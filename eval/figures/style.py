"""How every figure looks, and how it is written.

Figures are drawn at :data:`COLUMN`, the width that they are printed at, so that a letter has its true size: nothing
below :data:`SMALLEST` points. A method has one colour, line and marker everywhere; colour alone never tells methods
apart.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

COLUMN = 4.8  # inches: the text width of LNCS, the paper's own layout
SMALLEST = 5.5  # points

STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 7, "pdf.fonttype": 42, "svg.hashsalt": "fse"}

COLOURS: Mapping[str, str] = {
    "wplus": "#666666",
    "idinvert": "#cc79a7",
    "psp": "#56b4e9",
    "e4e": "#0072b2",
    "restyle_psp": "#000000",
    "restyle_e4e": "#332288",
    "hfgi": "#009e73",
    "hfgi_long": "#00484c",
    "fse_long_w": "#5e2c2a",
    "fse_long": "#a62900",
    "fse_w": "#e69f00",
    "fse": "#d55e00",
}
"""METHOD -> colour: Okabe and Ito's, without their yellow, which white paper swallows, with an indigo and a grey, and
HFGI's and FSE's darkened for the longer trainings. A test holds every pair apart for the three kinds of dichromatic
vision."""

_LINES: Mapping[str, tuple[str, Any]] = {  # marker, dashes
    "wplus": ("x", (0, (1, 1))),
    "idinvert": ("v", (0, (4, 1, 1, 1))),
    "psp": ("s", "-"),
    "e4e": ("D", "-"),
    "restyle_psp": ("s", (0, (3, 1.5))),
    "restyle_e4e": ("D", (0, (3, 1.5))),
    "hfgi": ("^", "-"),
    "hfgi_long": ("^", (0, (3, 1.5))),
    "fse_long_w": ("*", (0, (3, 1.5))),  # as FSE's: dashed for G(w)
    "fse_long": ("*", "-"),
    "fse_w": ("o", (0, (3, 1.5))),
    "fse": ("o", "-"),
}
_OTHERS = ("#882255", "#117733", "#999933", "#44aa99", "#aa4499", "#ddcc77")  # Tol's muted ones, for a user's methods


def colours(methods: Iterable[str]) -> dict[str, str]:
    """METHOD -> its colour; those that are none of the contest's take further colours in the order given."""
    others = cycle(_OTHERS)
    return {method: COLOURS[method] if method in COLOURS else next(others) for method in methods}


def line(method: str) -> dict[str, Any]:
    """Keywords of ``Axes.plot`` for a method's line, but for its colour: dashes and a marker that is its own."""
    marker, dashes = _LINES.get(method, ("P", "-"))
    return {"marker": marker, "linestyle": dashes, "markersize": 3, "linewidth": 1.2}


def save(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write ``path`` as PNG and PDF (suffix replaced), the same bytes in every run: no date, no version in them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi)
        # Figures are opaque: without their fourth channel, and packed as well as zlib can, an eighth less.
        with Image.open(buffer) as drawn:
            drawn.convert("RGB").save(path.with_suffix(".png"), dpi=(dpi, dpi), compress_level=9)
        figure.savefig(path.with_suffix(".pdf"), metadata={"Creator": None, "Producer": None, "CreationDate": None})
