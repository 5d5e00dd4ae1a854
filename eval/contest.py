"""Who takes part in Table 1: the test sets and the methods, with their names in print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SETS = {"renders": "Renders pushed off the generator's manifold", "photographs": "Real photographs"}

METHODS = {  # rows in the paper's order, the optimisation in front and ours last
    "wplus": "W+ optimisation",
    "idinvert": "In-domain",
    "psp": "pSp",
    "e4e": "e4e",
    "restyle_psp": "ReStyle (pSp)",
    "restyle_e4e": "ReStyle (e4e)",
    "hfgi": "HFGI",
    "fse_w": "FSE, G(w)",
    "fse": "FSE, G(F, w)",
}

OURS = ("fse_w", "fse")
"""Rows that are no baseline."""


@dataclass(frozen=True)
class Places:
    """Where things lie at run time; the defaults are relative to the repository."""

    test: Path = Path("data/test")
    inversions: Path = Path("data/inversions")
    reports: Path = Path("reports")

    @property
    def measurements(self) -> Path:
        return self.reports / "measurements"

    @property
    def training(self) -> Path:
        return self.reports / "training"
