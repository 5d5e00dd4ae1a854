"""SSIM, PSNR and MSE, in float64.

Every function takes two batches (B, C, H, W) and the range of their values as the keyword ``value_range``,
returns (B,) in float64, and raises ValueError for values outside the range or for different shapes. The
result does not depend on the range that the pictures are kept in: MSE is always that of [-1, 1], as the field
prints it, so four times the one of [0, 1]; PSNR has the peak 1 on [0, 1], so 2 on [-1, 1]; SSIM has the
dynamic range L = 1 on [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eval.metrics.metric import PICTURE_RANGE, Column, Outcome, check_range

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def mse(x: Tensor, y: Tensor, *, value_range: tuple[float, float]) -> Tensor:
    """Mean squared error on [-1, 1] over channels and positions."""
    return 4 * _squared_error(*_on_unit_range(x, y, value_range))


def psnr(x: Tensor, y: Tensor, *, value_range: tuple[float, float]) -> Tensor:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures."""
    return -10 * _squared_error(*_on_unit_range(x, y, value_range)).log10()


def ssim(x: Tensor, y: Tensor, *, value_range: tuple[float, float]) -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004): Gaussian window 11 x 11 of sigma 1.5, K = (.01,
    .03), population covariance, mean over channels.

    Only windows that lie inside the picture count, as in Wang's own code. scikit-image gives the same number
    with ``gaussian_weights=True, use_sample_covariance=False``: it extends the border, then cuts 5 pixels off
    the map. torchmetrics 1.9 no longer cuts and comes out about 1 % higher or lower.
    """
    x, y = _on_unit_range(x, y, value_range)
    return _ssim(_moments(x), y)


class SSIM:
    """Structural similarity of [0, 1] pictures, see ``ssim``."""

    key: ClassVar[str] = "ssim"
    label: ClassVar[str] = "SSIM"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = ()

    def features(self, pictures: Tensor) -> _Moments:
        return _moments(_unit(pictures, PICTURE_RANGE))

    def compare(self, source: _Moments, reconstructions: Tensor) -> Outcome:
        return Outcome({self.key: _ssim(source, _unit(reconstructions, PICTURE_RANGE)).tolist()})


class PSNR:
    """Peak signal-to-noise ratio, see ``psnr``.

    A perfect copy has an infinite value, and so has any mean that it enters: the mean is stated as infinite
    rather than capped or computed without it (``eval.statistics.mean_interval``).
    """

    key: ClassVar[str] = "psnr"
    label: ClassVar[str] = "PSNR"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    companions: ClassVar[tuple[Column, ...]] = ()

    def features(self, pictures: Tensor) -> Tensor:
        return pictures

    def compare(self, source: Tensor, reconstructions: Tensor) -> Outcome:
        return Outcome({self.key: psnr(source, reconstructions, value_range=PICTURE_RANGE).tolist()})


class MSE:
    """Mean squared error on [-1, 1], see ``mse``."""

    key: ClassVar[str] = "mse"
    label: ClassVar[str] = "MSE"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, 4.0)
    companions: ClassVar[tuple[Column, ...]] = ()

    def features(self, pictures: Tensor) -> Tensor:
        return pictures

    def compare(self, source: Tensor, reconstructions: Tensor) -> Outcome:
        return Outcome({self.key: mse(source, reconstructions, value_range=PICTURE_RANGE).tolist()})


@dataclass(frozen=True)
class _Moments:
    """A picture on [0, 1] with the local means of itself and of its square, all float64."""

    picture: Tensor
    mean: Tensor
    mean_of_square: Tensor


def _moments(x: Tensor) -> _Moments:
    return _Moments(x, _blur(x), _blur(x * x))


def _ssim(source: _Moments, y: Tensor) -> Tensor:
    other = _moments(y)
    means = source.mean * other.mean
    squares = source.mean.square() + other.mean.square()
    covariance = _blur(source.picture * y) - means
    variances = source.mean_of_square + other.mean_of_square - squares
    similarity = (2 * means + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    return similarity.mean((1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H - 10, W - 10): Gaussian-weighted mean of every 11 x 11 window."""
    if min(x.shape[2:]) <= 2 * _RADIUS:
        raise ValueError(f"SSIM needs pictures of at least 11 x 11 pixels, got {tuple(x.shape[2:])}")
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = (window / window.sum()).tolist()
    for dim in (2, 3):
        size = x.shape[dim] - 2 * _RADIUS
        total = weights[_RADIUS] * x.narrow(dim, _RADIUS, size)
        for tap in range(_RADIUS):  # the two taps at one distance from the centre share a weight
            pair = x.narrow(dim, tap, size) + x.narrow(dim, 2 * _RADIUS - tap, size)
            total.add_(pair, alpha=weights[tap])
        x = total
    return x


def _squared_error(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).mean(1)


def _unit(pictures: Tensor, value_range: tuple[float, float]) -> Tensor:
    low, high = value_range
    return (pictures.double() - low) / (high - low)


def _on_unit_range(x: Tensor, y: Tensor, value_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(f"two batches (B, C, H, W) of one shape are needed, got {tuple(x.shape)} and {tuple(y.shape)}")
    check_range(x, value_range, "first pictures")
    check_range(y, value_range, "second pictures")
    return _unit(x, value_range), _unit(y, value_range)
