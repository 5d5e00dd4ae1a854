"""The paper's domains: which pictures, which generator, which rows (sections 4.2 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from baselines.official_methods import OFFICIAL
from fse.refusal import Refusal

Part = Literal["train", "test"]


@dataclass(frozen=True)
class Pictures:
    """A set of ``eval/datasets/official.py``, and the asset of the catalogue that holds it."""

    set: str
    asset: str


@dataclass(frozen=True)
class Domain:
    """One of Table 1's kind of contests.

    Attributes
    ----------
    title : str
        In print.
    test, train : Pictures
        Measured on, and trained on.
    generator : str
        The asset that holds the generator which FSE is trained for.
    rows : sequence of str
        Methods by their names in print order (:data:`eval.contest.METHODS`), those without official weights too.
    size, measured : (int, int)
        Height and width of the pictures as the methods take and give them, and as the metrics do (protocol of pSp's
        family, whose numbers the paper's agree with).
    faces : bool
        Whether there are identity metrics and the losses of Eq. (6) and (7).
    limit : int, optional
        The first pictures only: a domain that the paper shows and does not measure.
    references : sequence of Pictures
        Sets besides the sources that FID can be taken to, which the paper leaves open.
    """

    title: str
    test: Pictures
    train: Pictures
    generator: str
    rows: Sequence[str]
    size: tuple[int, int]
    measured: tuple[int, int]
    faces: bool = False
    limit: int | None = None
    references: Sequence[Pictures] = ()


TRAINED = ("fse_trained_w", "fse_trained")
"""Rows of the encoder that is trained here."""

_CELEBA = Pictures("celeba_hq_1000", "celeba_hq")
_CELEBA_TEST = Pictures("celeba_hq_test", "celeba_hq")
_FFHQ = Pictures("ffhq", "ffhq")

DOMAINS: Mapping[str, Domain] = {
    "faces": Domain(
        "CelebA-HQ",
        _CELEBA,
        _FFHQ,
        "psp_ffhq",
        (
            "idinvert", "psp", "e4e", "restyle_psp", "restyle_e4e", "hfgi", "hyperstyle", "styleres", "fse_w", "fse",
            *TRAINED,
        ),
        (1024, 1024),
        (256, 256),
        faces=True,
        references=(_FFHQ, _CELEBA_TEST),
    ),
    "cars": Domain(
        "Stanford Cars",
        Pictures("stanford_cars_test_full", "stanford_cars_test"),
        Pictures("stanford_cars_train", "stanford_cars_train"),
        "stylegan2_car",
        ("psp", "e4e", "restyle_psp", "restyle_e4e", "fse_w", "fse", *TRAINED),
        (384, 512),
        (192, 256),
    ),
    "cats": Domain(
        "AFHQ cats",
        Pictures("afhq_cat_test", "afhq"),
        Pictures("afhq_cat_train", "afhq"),
        "afhqcat",
        ("psp", "e4e", "restyle_psp", "restyle_e4e", "fse_w", "fse", *TRAINED),
        (512, 512),
        (256, 256),
    ),
    "dogs": Domain(
        "AFHQ dogs",
        Pictures("afhq_dog_test", "afhq"),
        Pictures("afhq_dog_train", "afhq"),
        "afhqdog",
        ("psp", "e4e", "restyle_psp", "restyle_e4e", "fse_w", "fse", *TRAINED),
        (512, 512),
        (256, 256),
    ),
    "stylegan3": Domain(
        "StyleGAN3 faces", _CELEBA, _FFHQ, "stylegan3_t_ffhq", TRAINED, (1024, 1024), (256, 256), faces=True, limit=8
    ),
}  # fmt: skip


def domain(name: str) -> Domain:
    """Raises Refusal if there is none of this name."""
    if name not in DOMAINS:
        raise Refusal(f"there is no domain {name!r}; choose from {', '.join(DOMAINS)}")
    return DOMAINS[name]


REFERENCES: Mapping[str, tuple[str, Pictures]] = {
    pictures.set: (name, pictures) for name, each in DOMAINS.items() for pictures in each.references
}
"""SET that FID can be taken to -> the domain that it belongs to, and what it is."""


ROWS = tuple(dict.fromkeys(row for each in DOMAINS.values() for row in each.rows))
"""Of any domain."""


def domains_of(row: str) -> list[str]:
    """The domains that have a row; raises Refusal if none has."""
    if row not in ROWS:
        raise Refusal(f"there is no row {row!r}; choose from {', '.join(ROWS)}")
    return [name for name, each in DOMAINS.items() if row in each.rows]


def assets_of(name: str, row: str) -> tuple[str, ...]:
    """The official assets that a row of a domain is made of; one that was never released where there are none."""
    if row in TRAINED:
        return (domain(name).generator,)
    if row in OFFICIAL.get(name, {}):
        return OFFICIAL[name][row].assets
    return ("fse_others",) if row.startswith("fse") else ("restyle_afhq",)
