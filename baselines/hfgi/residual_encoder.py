"""The consultation encoder E_c of HFGI: what the codes missed, as a scale and a shift of the feature tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu

from fse.checkpoints.shapes import kernel_shape
from fse.sized_network import SizedNetwork
from fse.trunk import stage


@dataclass(frozen=True)
class ResidualEncoderSize:
    """Size of a consultation encoder; the defaults are the official ones.

    Attributes
    ----------
    widths : tuple of int
        Channels at the side of the residual, its half and its quarter.
    feature_shape : tuple of int
        (C, H, W) of the generator's feature tensor; officially of the convolution K = 8, which reaches 64x64.
    condition_width : int, optional
        Channels between the two convolutions that give scale and shift; C officially, which None stands for.
    """

    widths: tuple[int, int, int] = (32, 48, 64)
    feature_shape: tuple[int, int, int] = (512, 64, 64)
    condition_width: int | None = None


class EqualConv2d(nn.Module):
    """3x3 convolution whose weight is scaled by 1 / sqrt(9 c_in) at run time (equalised learning rate)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight * (9 * self.weight.shape[1]) ** -0.5, self.bias, padding=1)


class ScaledLeakyReLU(nn.Module):
    """Leaky ReLU 0.2 times sqrt(2), which keeps the variance."""

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, 0.2) * 2**0.5


class ResidualEncoder(SizedNetwork):
    """Aligned residual (B, 3, S, S) -> scale and shift, each (B, C, H, W): F = G(w^{1:K}) * (1 + scale) + shift.

    The maps are computed at S / 4, which is 64 for the official S = 256, and resized to H x W where that differs.
    Parameter names are those under ``residue.`` in the official ``ckpt.pt``.
    """

    Size = ResidualEncoderSize
    size: ResidualEncoderSize

    def __init__(self, size: ResidualEncoderSize | None = None) -> None:
        super().__init__()
        self.size = size = size or ResidualEncoderSize()
        first, second, third = size.widths
        self.conv_layer1 = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        self.conv_layer2 = nn.Sequential(*stage(first, second, 3, "ir"))
        self.conv_layer3 = nn.Sequential(*stage(second, third, 3, "ir"))
        channels = size.feature_shape[0]
        self.condition_scale3 = _condition(third, size.condition_width or channels, channels)
        self.condition_shift3 = _condition(third, size.condition_width or channels, channels)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> ResidualEncoderSize:
        """The size of the network whose parameters ``tensors`` are; they do not tell H and W, which are 64 at K = 8.

        Raises
        ------
        Refusal
            Naming the parameter that a consultation encoder has and ``tensors`` lack.
        """
        names = ("conv_layer1.0", "conv_layer2.0.res_layer.1", "conv_layer3.0.res_layer.1", "condition_scale3.2")
        first, second, third, channels = (kernel_shape(tensors, f"{name}.weight")[0] for name in names)
        return ResidualEncoderSize((first, second, third), (channels, 64, 64))

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv_layer3(self.conv_layer2(self.conv_layer1(residual)))
        return self._resize(self.condition_scale3(x)), self._resize(self.condition_shift3(x))

    def _resize(self, x: Tensor) -> Tensor:
        return interpolate(x, size=self.size.feature_shape[1:], mode="bilinear")


def _condition(c_in: int, width: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(EqualConv2d(c_in, width), ScaledLeakyReLU(), EqualConv2d(width, c_out))
