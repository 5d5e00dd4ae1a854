"""Who takes part in Table 1: the test sets and the methods, with their names in print."""

from __future__ import annotations

from collections.abc import Container
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
    "hfgi_long": "HFGI (2x budget)",
    "fse_long_w": "FSE (4x budget), G(w)",
    "fse_long": "FSE (4x budget), G(F, w)",
    "fse_w": "FSE, G(w)",
    "fse": "FSE, G(F, w)",
}

OUT_OF_CONTEST = ("hfgi_long", "fse_long_w", "fse_long")
"""Rows whose training had a larger budget: shown, but in no comparison, and never the best."""

ROWS = {  # what a table can have besides, in the `paper` profile: newer methods, and the encoder that is trained there
    **{name: label for name, label in METHODS.items() if not name.startswith("fse")},
    "hyperstyle": "HyperStyle",
    "styleres": "StyleRes",
    **{name: label for name, label in METHODS.items() if name.startswith("fse")},
    "fse_trained_w": "FSE trained here, G(w)",
    "fse_trained": "FSE trained here, G(F, w)",
}

OURS = ("fse_w", "fse", "fse_long_w", "fse_long", "fse_trained_w", "fse_trained")
"""Rows that are no baseline."""

ENCODERS = ("psp", "e4e", "fse")
"""Methods with codes of their own that one pass of a network gives; editing directions are found on these codes."""

SHARED_CODES = {
    "hfgi": "e4e",
    "hfgi_long": "e4e",
    "fse_w": "fse",
    "fse_long_w": "fse_long",
    "fse_trained_w": "fse_trained",
}
"""Methods whose codes are those of another."""


def directions_of(method: str, there: Container[str] = ENCODERS) -> str:
    """Along whose directions a method edits: ``directions/NAME.safetensors``, of those that are ``there``.

    Its own, as in the paper (section 5.2), or those of the method that its codes are from. For the others, which
    iterate or optimise and would take hours for thousands of pictures, and for a user's own: the generator's, found
    on the known codes of the same pictures.
    """
    codes = SHARED_CODES.get(method, method)
    return codes if codes in there else "generator"


@dataclass(frozen=True)
class Places:
    """Where things lie at run time; the defaults are relative to the repository."""

    test: Path = Path("data/test")
    inversions: Path = Path("data/inversions")
    reports: Path = Path("reports")
    directions: Path = Path("directions")
    clips: Path = Path("data/clips")
    clip_inversions: Path = Path("data/clip_inversions")

    @property
    def measurements(self) -> Path:
        return self.reports / "measurements"

    @property
    def training(self) -> Path:
        return self.reports / "training"
