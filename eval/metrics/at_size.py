"""Metrics of pictures that are brought to another size first, as the official scripts do for their 256 px.

The resize is theirs: of the 8-bit picture, by PIL bilinear with antialiasing. The suite does it once for all metrics of
a size, so that one pass over the files gives the numbers at the native size and at 256 px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from eval.metrics.metric import Column, DistributionMetric, Outcome, PictureMetric, SetValue
from fse.pictures import image_from_tensor, tensor_from_image

Size = tuple[int, int]
"""Height and width in pixels."""


def resized(pictures: Tensor, size: Size) -> Tensor:
    """(B, 3, H, W) in [-1, 1], of 8-bit pictures -> (B, 3, *size)."""
    if pictures.shape[2:] == size:
        return pictures
    height, width = size
    images = (image_from_tensor(each).resize((width, height), Image.Resampling.BILINEAR) for each in pictures)
    return torch.stack([tensor_from_image(image) for image in images]).to(pictures.device)


class _AtSize:
    """Another metric's columns, under names of their own: ``suffix`` ends the keys, ``remark`` the labels."""

    def __init__(self, metric: PictureMetric | DistributionMetric, size: Size, suffix: str, remark: str) -> None:
        self.size = size
        self._suffix = suffix
        self.key, self.label = metric.key + suffix, metric.label + remark
        self.higher_is_better, self.unit, self.range = metric.higher_is_better, metric.unit, metric.range
        self.companions: Sequence[Column] = tuple(
            replace(column, key=column.key + suffix, label=column.label + remark) for column in metric.companions
        )

    def _renamed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key + self._suffix: value for key, value in values.items()}


class PictureAtSize(_AtSize):
    """A :class:`~eval.metrics.metric.PictureMetric`; the suite hands over pictures of ``size``."""

    def __init__(self, metric: PictureMetric, size: Size, suffix: str = "", remark: str = "") -> None:
        super().__init__(metric, size, suffix, remark)
        self.metric = metric

    def features(self, pictures: Tensor) -> Any:
        return self.metric.features(pictures)

    def compare(self, source: Any, reconstructions: Tensor) -> Outcome:
        outcome = self.metric.compare(source, reconstructions)
        return Outcome(self._renamed(outcome.values), outcome.failures)


class DistributionAtSize(_AtSize):
    """A :class:`~eval.metrics.metric.DistributionMetric`; the suite hands over pictures of ``size``."""

    def __init__(self, metric: DistributionMetric, size: Size, suffix: str = "", remark: str = "") -> None:
        super().__init__(metric, size, suffix, remark)
        self.metric = metric
        self.dimensions = metric.dimensions

    def features(self, pictures: Tensor) -> Tensor:
        return self.metric.features(pictures)

    def further(self, pairs: Any) -> Mapping[str, SetValue]:
        return self._renamed(self.metric.further(pairs))


def size_of(metric: PictureMetric | DistributionMetric) -> Size | None:
    """The size that a metric wants its pictures in; None for the size they have."""
    return metric.size if isinstance(metric, _AtSize) else None
