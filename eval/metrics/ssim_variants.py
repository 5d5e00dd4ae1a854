"""What else is called SSIM: the paper does not say which one it printed, and others print MS-SSIM.

Its environment has two packages. pytorch-msssim 0.2.1 is :class:`eval.metrics.pixel.SSIM` exactly: a Gaussian window of
11 px and sigma 1.5, and only windows inside the picture. scikit-image 0.17 by default is :class:`UniformSSIM`.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from eval.metrics.metric import Column, Outcome

_C1, _C2 = 0.01**2, 0.03**2
_WINDOW = 7
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class UniformSSIM:
    """SSIM of [0, 1] pictures with a uniform window of 7 x 7 and sample covariances, in float64.

    scikit-image's default since 0.16, of pictures of 8 bits (``data_range`` 255, windows inside the picture).
    """

    key: ClassVar[str] = "ssim_uniform"
    label: ClassVar[str] = "SSIM (uniform 7x7)"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = ()

    def features(self, pictures: Tensor) -> Tensor:
        return (pictures.double() + 1) / 2

    def compare(self, source: Tensor, reconstructions: Tensor) -> Outcome:
        return Outcome({self.key: uniform_ssim(source, self.features(reconstructions)).tolist()})


def uniform_ssim(x: Tensor, y: Tensor) -> Tensor:
    """(B, C, H, W) twice, float64 in [0, 1] -> (B,). Raises ValueError for less than 7 x 7 pixels."""
    if min(x.shape[2:]) < _WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {_WINDOW} x {_WINDOW} pixels, got {tuple(x.shape[2:])}")
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    mean_x, mean_y = _box(x), _box(y)
    variances = unbiased * (_box(x * x) - mean_x.square() + _box(y * y) - mean_y.square())
    covariance = unbiased * (_box(x * y) - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    return (luminance * (2 * covariance + _C2) / (variances + _C2)).mean((1, 2, 3))


def _box(x: Tensor) -> Tensor:
    return avg_pool2d(x, _WINDOW, stride=1)


class MSSSIM:
    """Multi-scale SSIM by the script of HyperStyle, which StyleRes and StyleFeatureEditor took over; see ``ms_ssim``.

    For comparison with what they published, at 256 px.
    """

    key: ClassVar[str] = "ms_ssim"
    label: ClassVar[str] = "MS-SSIM"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = ()

    def features(self, pictures: Tensor) -> Tensor:
        return pictures

    def compare(self, source: Tensor, reconstructions: Tensor) -> Outcome:
        values = ms_ssim(reconstructions, source).tolist()
        failures = {
            i: "a scale's contrast is negatively correlated" for i, value in enumerate(values) if value != value
        }
        return Outcome({self.key: values}, failures)


def ms_ssim(result: Tensor, source: Tensor) -> Tensor:
    """Two batches (B, C, H, W) in [-1, 1], at least 16 px -> (B,), NaN where a factor is negative.

    Five scales of Gaussian windows (11 px, or as many as fit), halved by 2 x 2 means. Unlike the definition (Wang et
    al., 2003) it works on [-1, 1], and takes the dynamic range, anew at each scale, from the *result*: 2 where a value
    lies below -.5 and 1 elsewhere. HyperStyle's script leaves pictures without a value out of the mean.
    """
    x, y = result.double(), source.double()
    product = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for scale, weight in enumerate(_WEIGHTS):
        similarity, contrast = _similarities(x, y)
        product = product * (similarity if scale == len(_WEIGHTS) - 1 else contrast) ** weight
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    return product


def _similarities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means of SSIM and of its contrast factor alone, (B,) each."""
    window = _gaussian(min(11, *x.shape[2:])).to(x).expand(x.shape[1], 1, -1, -1)

    def mean(z: Tensor) -> Tensor:
        return conv2d(z, window, groups=z.shape[1])

    span = torch.where(x.amin((1, 2, 3)) < -0.5, 2.0, 1.0).square()[:, None, None, None].double()
    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x.square() + mean(y * y) - mean_y.square()
    contrast = (2 * (mean(x * y) - mean_x * mean_y) + _C2 * span) / (variances + _C2 * span)
    luminance = (2 * mean_x * mean_y + _C1 * span) / (mean_x.square() + mean_y.square() + _C1 * span)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _gaussian(side: int) -> Tensor:
    """(1, 1, side, side), of sum 1; sigma 1.5 about the pixel side // 2."""
    line = torch.tensor([math.exp(-((i - side // 2) ** 2) / (2 * 1.5**2)) for i in range(side)], dtype=torch.float64)
    return (line[:, None] * line / line.sum() ** 2)[None, None]
