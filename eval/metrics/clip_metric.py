"""What a metric of a clip is: frames over time, beside those of the source, become one number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from eval.metrics.metric import Described


@dataclass(frozen=True)
class Clip:
    """Frames of a clip, or of its reconstruction, in order of time.

    Attributes
    ----------
    frames : Tensor
        (T, 3, R, R) in [-1, 1].
    numbers : tuple of int
        Of the frames in the clip, rising. Only neighbouring numbers are consecutive in time.
    present : tuple of bool
        False where a frame could not be read; its values are without meaning.
    """

    frames: Tensor
    numbers: tuple[int, ...]
    present: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.numbers) == len(self.present):
            raise ValueError(f"{len(self.frames)} frames, {len(self.numbers)} numbers, {len(self.present)} present")
        if any(after <= before for before, after in zip(self.numbers, self.numbers[1:], strict=False)):
            raise ValueError(f"the numbers of frames must rise: {self.numbers}")

    @classmethod
    def whole(cls, frames: Tensor) -> Clip:
        """All frames present and consecutive."""
        return cls(frames, tuple(range(len(frames))), (True,) * len(frames))

    def runs(self, length: int) -> list[tuple[int, ...]]:
        """Places (not numbers) of every ``length`` frames that are consecutive in time, present or not."""
        starts = range(len(self.numbers) - length + 1)
        return [
            tuple(range(start, start + length))
            for start in starts
            if self.numbers[start + length - 1] - self.numbers[start] == length - 1
        ]


@dataclass(frozen=True)
class ClipOutcome:
    """What a metric says of a clip.

    Attributes
    ----------
    values : mapping
        Column -> number, NaN where nothing could be used.
    expected, used : int
        Pairs (or triples) of frames that the clip has, and those behind the values.
    failures : mapping
        Number of a frame -> why pairs with it could not be used.
    """

    values: Mapping[str, float]
    expected: int
    used: int
    failures: Mapping[int, str] = field(default_factory=dict)


class ClipMetric(Described, Protocol):
    """Compares a reconstructed clip with its source.

    Of a clip compared with itself, the value is the ideal one, or the source's own where nothing better can be had.
    """

    @property
    def companions(self) -> Iterable[Described]:
        """Further columns of the outcome."""
        ...

    @property
    def measured_on(self) -> str:
        """What is counted in ``expected`` and ``used``, in the plural."""
        ...

    def features(self, source: Clip) -> Any:
        """What the comparison needs of the source; computed once for all methods."""
        ...

    def compare(self, source: Any, reconstruction: Clip) -> ClipOutcome:
        """``features`` of the source, and frames of the same numbers."""
        ...


def mean_of(values: Iterable[float]) -> float:
    """NaN for none."""
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan


def absent_frames(source: Clip, reconstruction: Clip) -> dict[int, str]:
    """Number -> whose frame could not be read. Raises ValueError where the two have other numbers."""
    if source.numbers != reconstruction.numbers:
        raise ValueError("source and reconstruction have other frames")
    absent = {}
    for number, ours, theirs in zip(source.numbers, reconstruction.present, source.present, strict=True):
        if not (ours and theirs):
            absent[number] = f"no frame of the {'source' if not theirs else 'reconstruction'}"
    return absent
