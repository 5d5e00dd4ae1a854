"""What a metric is: a name, a direction, and how two pictures or two sets of pictures become numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

PICTURE_RANGE = (-1.0, 1.0)
"""Values of every picture that the suite receives."""


class Described(Protocol):
    """What tables print of a metric; class attributes of the metrics.

    ``key`` names the column, ``label`` is printed. ``range`` is the lowest and highest possible value in
    ``unit`` (empty: a pure number).
    """

    @property
    def key(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def unit(self) -> str: ...
    @property
    def range(self) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Column:
    """A further column that a metric fills besides its own."""

    key: str
    label: str
    higher_is_better: bool
    unit: str
    range: tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """Values of a batch: column -> one number a picture, NaN where ``failures`` gives the reason."""

    values: Mapping[str, Sequence[float]]
    failures: Mapping[int, str] = field(default_factory=dict)


class PictureMetric(Described, Protocol):
    """Compares a reconstruction with its source, picture by picture."""

    @property
    def companions(self) -> Sequence[Column]:
        """Further columns of the outcome."""
        ...

    def features(self, pictures: Tensor) -> Any:
        """What the comparison needs of the source (B, 3, H, W) in [-1, 1]; computed once for all methods."""
        ...

    def compare(self, source: Any, reconstructions: Tensor) -> Outcome:
        """``features`` of the source and (B, 3, H, W) in [-1, 1] -> one value a picture."""
        ...


@dataclass(frozen=True)
class SetValue:
    """What is found of a whole set of pictures, with its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class DistributionMetric(Described, Protocol):
    """A Fréchet distance between the features of two sets of pictures, and what else their features tell."""

    @property
    def dimensions(self) -> int:
        """D, the length of a picture's features."""
        ...

    @property
    def companions(self) -> Sequence[Column]:
        """Further columns, whose values :meth:`further` gives."""
        ...

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D)."""
        ...

    def further(self, pairs: Any) -> Mapping[str, SetValue]:
        """Companion -> value, from the :class:`eval.metrics.distribution.PairedFeatures` of a method."""
        ...


def check_range(pictures: Tensor, value_range: tuple[float, float], name: str) -> None:
    """Raises ValueError if a value lies outside ``value_range`` or is NaN."""
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range must be (low, high) with low < high, got {value_range}")
    if not bool(((pictures >= low) & (pictures <= high)).all()):
        found = f"[{pictures.min().item():.4g}, {pictures.max().item():.4g}]"
        raise ValueError(f"{name}: values are in {found}, stated was [{low:g}, {high:g}]")
