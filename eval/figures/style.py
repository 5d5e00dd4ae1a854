"""How every figure looks, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 7, "pdf.fonttype": 42, "svg.hashsalt": "fse"}


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write ``path`` as PNG and PDF (suffix replaced), the same bytes in every run: no date, no version in them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path.with_suffix(".png"), dpi=dpi, metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"Creator": None, "Producer": None, "CreationDate": None})
