"""The result of an inversion, and what every inversion method can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Inversion:
    """What a method found for a batch of pictures.

    Attributes
    ----------
    codes : Tensor
        (B, N, 512) codes in W+.
    feature : Tensor or None
        (B, C, H, W) feature tensor that replaces the output of convolution K, for methods that have one.
    picture : Tensor
        (B, 3, R, R) reconstruction, about [-1, 1], not clamped.
    """

    codes: Tensor
    feature: Tensor | None
    picture: Tensor


@runtime_checkable
class InversionMethod(Protocol):
    """FSE, every baseline, and a user's own (entry point group ``fse.methods``, see :mod:`fse.registry`)."""

    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1], at the generator's resolution -> their inversion."""
        ...

    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """Move the codes by ``strength * direction`` and render.

        direction is (N, 512), or (512,) for the same move in every row; returns (B, 3, R, R).
        """
        ...
