"""Suites that a process builds for itself: pixels, and a Fréchet distance without a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eval.metrics.at_size import PictureAtSize
from eval.metrics.clip_suite import ClipSuite
from eval.metrics.distribution import FID
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.metrics.warping import WarpingError


class Averages:
    """In Inception's place: 4 x 4 mean colours, (B, 48, 1, 1)."""

    def __call__(self, pictures: Tensor) -> list[Tensor]:
        small = torch.nn.functional.adaptive_avg_pool2d(pictures, 4)
        return [small.flatten(1)[:, :, None, None]]


class SmallFID(FID):
    dimensions = 48  # type: ignore[misc]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(nn.Identity(), *arguments)
        self.network = Averages()  # type: ignore[assignment]


def small_suite() -> Suite:
    return Suite([SSIM(), PSNR(), PictureAtSize(MSE(), (24, 24), "_256")], [SmallFID()])


def small_clip_suite() -> ClipSuite:
    return ClipSuite(Suite([PSNR(), MSE()]), [WarpingError()])
