"""The training objective of the Feature-Style Encoder (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss


class PerceptualDistance(Protocol):
    """A learned distance of pictures (B, 3, H, W) in [-1, 1]: V of Eq. (3), ST-LPIPS or LPIPS."""

    def __call__(self, x: Tensor, y: Tensor, /) -> Tensor:
        """(B,) distances, 0 for equal pictures."""
        ...

    def features(self, x: Tensor, /) -> list[Tensor]:
        """What pictures are compared by."""
        ...

    def distance(self, features_x: list[Tensor], features_y: list[Tensor], /) -> Tensor:
        """(B,) distances of two results of ``features``."""
        ...


def pixel_loss(reconstruction: Tensor, picture: Tensor) -> Tensor:
    """Eq. (2): mean squared error on [-1, 1] of pictures (B, 3, R, R); a scalar.

    The paper takes it on the synthetic half of a batch only, and on G(w) only.
    """
    return mse_loss(single(reconstruction), single(picture))


class MultiScalePerceptualLoss:
    """Eq. (3): a perceptual distance summed over scales, averaged over the batch.

    ``sides`` are the scales in pixels: R, R/2, R/4 is the equation as printed. Pictures are reduced by
    averaging. The target's features do not depend on the reconstruction, so they are computed once and
    serve both reconstructions.
    """

    def __init__(self, perceptual: PerceptualDistance, sides: Sequence[int]) -> None:
        self.perceptual = perceptual
        self.sides = tuple(sides)

    def target(self, picture: Tensor) -> list[list[Tensor]]:
        """Features of the target at each scale, without gradient."""
        with torch.no_grad():
            return [self.perceptual.features(reduce(picture, side)) for side in self.sides]

    def __call__(self, reconstruction: Tensor, target: list[list[Tensor]]) -> Tensor:
        distances = [
            self.perceptual.distance(self.perceptual.features(reduce(reconstruction, side)), features).mean()
            for side, features in zip(self.sides, target, strict=True)
        ]
        return torch.stack(distances).sum()


def feature_loss(feature: Tensor, generator_feature: Tensor) -> Tensor:
    """Eq. (4): mean squared difference of F and G(w^{1:K}), both (B, C, H, W); a scalar.

    The generator's side is the target and takes no gradient, as in the released code: F is drawn to the
    generator's feature space, not the codes to F.
    """
    return mse_loss(single(feature), single(generator_feature.detach()))


@dataclass(frozen=True)
class FeatureStyleWeights:
    """Weights of Eq. (5), L_mse + lambda_1 L_m_lpips + lambda_2 L_f_recon, and of what Eq. (8) adds for faces.

    ``perceptual`` and ``feature`` are the paper's lambda_1 and lambda_2; ``identity`` and ``parsing`` its lambda_3 of
    Eq. (6) and lambda_4 of Eq. (7), both 0.1 there for faces. ``pixel_feature`` is ours: the mean squared error of
    G(F, w) on the whole batch, absent from Eq. (5). Where LPIPS gives way to ST-LPIPS, which is built to tolerate
    shifts, nothing else would hold G(F, w) to the picture's pixels; 0 gives Eq. (5).
    """

    pixel: float = 1.0
    perceptual: float = 0.2
    feature: float = 0.01
    pixel_feature: float = 0.0
    identity: float = 0.0
    parsing: float = 0.0


def single(x: Tensor) -> Tensor:
    """In single precision at least: half precision is too coarse to be summed, and double is kept."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def reduce(picture: Tensor, side: int) -> Tensor:
    """(B, 3, R, R) -> (B, 3, side, side) by averaging blocks; unchanged when R = side."""
    return picture if picture.shape[-1] == side else interpolate(picture, size=(side, side), mode="area")
