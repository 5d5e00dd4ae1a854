"""The result of an inversion, and what every inversion method can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
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


Kind = TypeVar("Kind", bound=Inversion)


def rows(inversion: Kind, chosen: slice) -> Kind:
    """The inversion of some of its pictures, of whatever kind a method returns."""
    return _each_tensor(lambda tensors: tensors[0][chosen], [inversion])


def joined(inversions: Sequence[Kind]) -> Kind:
    """One inversion of the pictures of several, which one method made."""
    return _each_tensor(torch.cat, inversions)


def _each_tensor(change: Callable[[list[Tensor]], Tensor], inversions: Sequence[Kind]) -> Kind:
    found: dict[str, Any] = {}
    for field in fields(inversions[0]):
        values = [getattr(inversion, field.name) for inversion in inversions]
        if isinstance(values[0], Tensor):
            found[field.name] = change(values)
    return replace(inversions[0], **found)


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
