"""Networks that several metrics of one pass look through, with a short memory, so that each frame is seen once.

The per-frame and the temporal metrics of a clip need the same faces and the same perceptual features. What is
remembered belongs to a tensor object: whoever changes a picture in place must make a new tensor of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from eval.metrics.identity import Face, FaceDescriptor
from fse.perceptual import STLPIPS

T = TypeVar("T")

PART = 16
"""Pictures that go through a network together, so that a long clip needs no more than its features."""

KEPT = 3
"""Results that stay: the source's, which every method needs in turn, and those of the last two reconstructions."""


class Memory(Generic[T]):
    """The results of the tensors that were asked for last."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, T]] = []

    def get(self, pictures: Tensor, compute: Callable[[Tensor], T]) -> T:
        """``compute(pictures)``, or what it gave for this very tensor object a short while ago."""
        entry = next((each for each in self._kept if each[0] is pictures), None)
        if entry is None:
            entry = (pictures, compute(pictures))
        self._kept = [entry, *(each for each in self._kept if each[0] is not pictures)][:KEPT]
        return entry[1]


class SharedSTLPIPS(STLPIPS):
    """ST-LPIPS that remembers the features it computed last, about 9 MB a picture of 256 px; ``load`` as there."""

    _memory: Memory[list[Tensor]] | None = None

    def features(self, x: Tensor) -> list[Tensor]:
        if self._memory is None:
            self._memory = Memory()
        return self._memory.get(x, self._in_parts)

    def _in_parts(self, x: Tensor) -> list[Tensor]:
        parts = [super(SharedSTLPIPS, self).features(part) for part in x.split(PART)]
        return parts[0] if len(parts) == 1 else [torch.cat(maps) for maps in zip(*parts, strict=True)]


class SharedFaces(FaceDescriptor):
    """dlib's faces, remembered."""

    _memory: Memory[list[Face | None]] | None = None

    def faces(self, pictures: Tensor) -> list[Face | None]:
        if self._memory is None:
            self._memory = Memory()
        return self._memory.get(pictures, super().faces)
