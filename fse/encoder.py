"""The Feature-Style Encoder (paper, section 3.2 and Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.trunk import Trunk, TrunkSize, iresnet_size


@dataclass(frozen=True)
class EncoderSize:
    """Size of a Feature-Style Encoder; the defaults are the official ones.

    Attributes
    ----------
    num_codes, code_dim : int
        N, codes in W+ that the generator takes, and their length.
    trunk : TrunkSize
        Width and depth.
    pooling : int
        Side of the average pooling of each stage's output.
    feature_channels, feature_stride : int
        Channels of F, and the stride of the feature branch's second convolution. The branch starts after the
        third stage, so F has 1 / (8 * stem_stride * feature_stride) of the picture's side.
    feature_layer : int
        K, the generator's convolution whose output F replaces; the network does not depend on it, its use does.
    """

    num_codes: int = 18
    code_dim: int = 512
    trunk: TrunkSize = field(default_factory=TrunkSize)
    pooling: int = 3
    feature_channels: int = 512
    feature_stride: int = 2
    feature_layer: int = 5


class FeatureStyleEncoder(Trunk):
    """Picture (B, C, 256, 256) in [-1, 1] -> (offsets of the codes (B, N, 512), F (B, C, H, W)).

    The codes are the offsets plus the generator's mean code, which is added outside, as in every published
    encoder. Parameter names are the official release's (``143_enc.pth``); at the default size there are
    113,920,704 of them. C is 3, and 6 in the video form.
    """

    Size = EncoderSize
    size: EncoderSize

    def __init__(self, size: EncoderSize | None = None) -> None:
        size = size or EncoderSize()
        super().__init__(size.trunk)
        self.size = size
        channels, width = size.feature_channels, size.trunk.widths[2]
        self.content_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Conv2d(width, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, size.feature_stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        pooled = sum(size.trunk.widths) * size.pooling**2
        self.styles = nn.ModuleList(nn.Linear(pooled, size.code_dim) for _ in range(size.num_codes))

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> EncoderSize:
        """Size of the official encoder with the parameters ``tensors``; raises Refusal naming one that is missing.

        The feature branch's stride leaves no trace in them: it is taken to be 2, the published configuration's.
        """
        trunk = iresnet_size(tensors)
        code_dim, pooled = kernel_shape(tensors, "styles.0.weight", 2)
        return EncoderSize(
            num_codes=consecutive(tensors, "styles.{}.weight"),
            code_dim=code_dim,
            trunk=trunk,
            pooling=isqrt(pooled // sum(trunk.widths)),
            feature_channels=kernel_shape(tensors, "content_layer.1.weight")[0],
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.stages(pictures)
        pooled = torch.cat([adaptive_avg_pool2d(output, self.size.pooling) for output in outputs], 1).flatten(1)
        codes = torch.stack([style(pooled) for style in self.styles], 1)
        return codes, self._feature(outputs[2])

    def _feature(self, third: Tensor) -> Tensor:
        """Output of the third stage -> F."""
        feature: Tensor = self.content_layer(third)
        return feature

    def picture_side(self, feature_side: int) -> int:
        """Of the pictures that the network has to see, for its F to have ``feature_side``."""
        return feature_side * 8 * self.size.feature_stride * self.size.trunk.stem_stride

    @property
    def feature_norm(self) -> nn.BatchNorm2d:
        """The feature branch's last layer; its weight is the scale of F."""
        return cast(nn.BatchNorm2d, self.content_layer[-1])

    @torch.no_grad()
    def start_from(self, feature_mean: Tensor, feature_std: Tensor) -> None:
        """Set the scale of F before training to the generator's own.

        feature_mean and feature_std (C,) are those of ``generator.feature`` over random codes: the channels
        of a trained generator differ in scale by a factor of 30, and the last batch normalisation carries
        their statistics from the first step on.
        """
        self.feature_norm.weight.copy_(feature_std)
        self.feature_norm.bias.copy_(feature_mean)


@dataclass(frozen=True)
class MarginEncoderSize(EncoderSize):
    """Size of a :class:`MarginEncoder`; the defaults are for StyleGAN3 at 1024 px in configuration T, K = 5.

    Attributes
    ----------
    rate, margin : int
        Samples of F across the picture, and beyond it on every side.
    """

    num_codes: int = 16
    feature_stride: int = 1
    rate: int = 64
    margin: int = 10


class MarginEncoder(FeatureStyleEncoder):
    """For a generator whose feature tensor reaches beyond the picture: StyleGAN3, whose F is 84x84 with a margin of 10.

    The paper says of StyleGAN3 that it is inverted, and not how F is brought there. The feature branch's map covers the
    picture alone: here it is interpolated to F's rate, corners not aligned, and its border is repeated over the margin
    (:class:`fse.generators.stylegan3.StyleGAN3` says why).
    """

    Size = MarginEncoderSize
    size: MarginEncoderSize

    def __init__(self, size: MarginEncoderSize | None = None) -> None:
        super().__init__(size or MarginEncoderSize())

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> MarginEncoderSize:
        """There are no official files of it."""
        raise NotImplementedError(f"{cls.__name__} has no official files")

    def _feature(self, third: Tensor) -> Tensor:
        rate, margin = self.size.rate, self.size.margin
        feature = interpolate(super()._feature(third), size=(rate, rate), mode="bilinear", align_corners=False)
        return pad(feature, (margin,) * 4, mode="replicate")

    def picture_side(self, feature_side: int) -> int:
        """A map of half F's rate holds the band of K = 5."""
        return super().picture_side((feature_side - 2 * self.size.margin) // 2)
