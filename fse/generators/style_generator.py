"""What the suite asks of a style-based generator, whatever its family (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class StyleGenerator(Protocol):
    """A pretrained generator G: codes in W+ (and perhaps a feature tensor) to a picture.

    Attributes
    ----------
    resolution : int
        Side R of the pictures, in pixels.
    num_codes : int
        N, the number of codes a picture takes: one a modulated layer that the family feeds separately.
    code_dim : int
        Length of one code (512 in every published family).
    feature_layer : int
        K, counted in convolutions from 1; the paper uses 5.
    feature_shape : tuple of int
        (C, H, W) of the K-th convolution's output; (512, 16, 16) for K = 5.
    feature_codes : int
        How many leading codes convolutions 1..K read: w^{1:K}. The rest, w^{K+1:N}, finish the picture. Families
        whose input reads a code too (StyleGAN1, StyleGAN3) have K + 1.
    rgb_skip : bool
        Whether the picture is the sum of an RGB output of every level (StyleGAN2). The lower levels' RGB, up to that
        of convolution K's own level, then comes from the codes even when a feature is given, as in the official FSE
        release, so that F and w^{K+1:N} alone do not determine the picture. Where it is False, they do.
    mean_code : Tensor
        (N, 512) mean of ``map(z)`` over z ~ N(0, I): encoders predict offsets from it.
    """

    resolution: int
    num_codes: int
    code_dim: int
    feature_layer: int
    feature_shape: tuple[int, int, int]
    feature_codes: int
    rgb_skip: bool

    @property
    def mean_code(self) -> Tensor: ...

    def map(self, z: Tensor) -> Tensor:
        """z (B, 512) ~ N(0, I) -> codes (B, N, 512): the same w in every row, but for in-domain StyleGAN1."""
        ...

    def synthesize(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """codes (B, N, 512) -> picture (B, 3, R, R), about [-1, 1], not clamped.

        With ``feature`` (B, C, H, W), it replaces the output of convolution K: G(F, w^{K+1:N}). The first K
        convolutions are then computed only where ``rgb_skip`` needs them.
        """
        ...

    def feature(self, codes: Tensor) -> Tensor:
        """codes (B, N, 512) -> output of convolution K (B, C, H, W): G(w^{1:K}) of the paper's Eq. (1), (4)."""
        ...


@runtime_checkable
class HasNoise(Protocol):
    """A generator that adds noise after its convolutions: stored, unless ``synthesize`` is given other noise."""

    def fresh_noise(self, generator: torch.Generator, batch: int = 1) -> list[Tensor]:
        """New noise for ``synthesize``: (batch, 1, H, W) ~ N(0, 1) for each convolution."""
        ...

    def synthesize(
        self, codes: Tensor, feature: Tensor | None = None, *, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """As :meth:`StyleGenerator.synthesize`."""
        ...


def check_shapes(generator: StyleGenerator, codes: Tensor, feature: Tensor | None) -> None:
    """ValueError when codes or feature are not what ``generator.synthesize`` takes."""
    if codes.shape[1:] != (generator.num_codes, generator.code_dim):
        raise ValueError(f"codes must be (B, {generator.num_codes}, {generator.code_dim}), not {tuple(codes.shape)}")
    if feature is not None and feature.shape[1:] != generator.feature_shape:
        raise ValueError(f"feature must be (B, {generator.feature_shape}), not {tuple(feature.shape)}")
