"""What StyleRes puts into the generator at 64 px: E1 finds what the codes missed, E2 fits it to the edited picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fse.checkpoints.shapes import kernel_shape
from fse.sized_network import SizedNetwork


@dataclass(frozen=True)
class TransformationSize:
    """Size of both networks; the defaults are the official ones.

    Attributes
    ----------
    skip_channels : int
        Of the e4e encoder's feature map that E1 sees: its second stage's, at a quarter of the picture's side.
    channels : int
        C of the generator's feature tensor; even.
    width : int
        Channels inside E1.
    """

    skip_channels: int = 128
    channels: int = 512
    width: int = 512


class Residual(nn.Module):
    """3x3 convolution, leaky ReLU 0.2, 3x3 convolution with the stride; plus the input, projected where it must be."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        same = c_in == c_out and stride == 1
        self.shortcut_layer = nn.Identity() if same else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False))
        self.res_layer = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(c_out, c_out, 3, stride, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return out


class Alignment(nn.Module):
    """First half of E1: the encoder's map beside G(w^{1:K}) (B, skip + C, H, W) -> (B, C, H, W), by a U-Net.

    The official file has another pair of blocks, ``dconv3``, which nothing calls.
    """

    def __init__(self, size: TransformationSize) -> None:
        super().__init__()
        width = size.width
        self.first_layer = nn.Conv2d(size.skip_channels + size.channels, width, 1)
        self.conv1 = nn.Sequential(Residual(width, width))
        self.conv2 = nn.Sequential(Residual(width, width, 2), Residual(width, width))
        self.conv3 = nn.Sequential(Residual(width, width, 2), Residual(width, width))
        self.dconv1 = nn.Sequential(Residual(width, width), Residual(width, width))
        self.dconv2 = nn.Sequential(Residual(width, width), Residual(width, width))
        self.out_layer = nn.Conv2d(width, size.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        full = self.conv1(self.first_layer(x))
        half = self.conv2(full)
        quarter = self.conv3(half)
        x = self.dconv1(_enlarged(quarter, half) + half)
        x = self.dconv2(_enlarged(x, full) + full)
        aligned: Tensor = self.out_layer(x)
        return aligned


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class Extraction(nn.Module):
    """Second half of E1: (B, C, H, W) -> what the generator lacks (B, C, H, W)."""

    def __init__(self, size: TransformationSize) -> None:
        super().__init__()
        self.first_layer = nn.Conv2d(size.channels, size.width, 1)
        self.convs = nn.Sequential(
            Residual(size.width, size.width),
            Residual(size.width, size.channels),
            Residual(size.channels, size.channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convs(self.first_layer(x))
        return found


class Gates(nn.Module):
    """E2: G(edited w^{1:K}) and what E1 found, both (B, C, H, W) -> change (B, C, H, W) and gate (B, 1, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.down2 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        blocks = [[Residual(channels, channels), Residual(channels, channels)] for _ in range(2)]
        self.convs = nn.Sequential(*blocks[0], Residual(channels, channels))
        self.convs2 = nn.Sequential(*blocks[1], Residual(channels, 1))

    def forward(self, feature: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat((self.down1(feature), self.down2(found)), 1)
        return self.convs(x), self.convs2(x).sigmoid()


class Transformation(SizedNetwork):
    """The encoder's map, G(w^{1:K}) and G(edited w^{1:K}), side by side -> F of the edited picture (B, C, H, W).

    The input is (B, skip + 2 C, H, W). F is the last of the three plus gate * change, and replaces the output of
    convolution K; without an edit the last two are the same. Parameter names are those under
    ``generator_smooth.synthesis.b64.`` in the official ``styleres_ffhq.pth``.
    """

    Size = TransformationSize
    size: TransformationSize

    def __init__(self, size: TransformationSize | None = None) -> None:
        super().__init__()
        self.size = size = size or TransformationSize()
        self.modify_feature_alignment = Alignment(size)
        self.modify_feature_extraction = Extraction(size)
        self.modify_feature_gates = Gates(size.channels)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> TransformationSize:
        """Size of the networks with the parameters ``tensors``; raises Refusal naming one that is missing."""
        width, inputs = kernel_shape(tensors, "modify_feature_alignment.first_layer.weight")[:2]
        channels = kernel_shape(tensors, "modify_feature_alignment.out_layer.weight")[0]
        return TransformationSize(inputs - channels, channels, width)

    def forward(self, skip_and_features: Tensor) -> Tensor:
        channels = self.size.channels
        skip, feature, edited = skip_and_features.split((self.size.skip_channels, channels, channels), 1)
        found = self.modify_feature_extraction(self.modify_feature_alignment(torch.cat((skip, feature), 1)))
        change, gate = self.modify_feature_gates(edited, found)
        transformed: Tensor = edited + gate * change
        return transformed
