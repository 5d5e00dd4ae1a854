"""The adaptive distortion alignment (ADA) of HFGI: moves the residual to where the edited picture needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fse.checkpoints.shapes import kernel_shape
from fse.sized_network import SizedNetwork
from fse.trunk import ResidualBlock, stage


@dataclass(frozen=True)
class ResidualAlignerSize:
    """Size of an aligner; the defaults are the official ones.

    Attributes
    ----------
    widths : tuple of int
        Channels at the side of the pictures, its half, its quarter and its eighth.
    """

    widths: tuple[int, int, int, int] = (16, 32, 48, 64)


class ResidualAligner(SizedNetwork):
    """Residual and picture that it belongs to (B, 3 + 3, S, S) -> aligned residual (B, 3, S, S).

    A U-Net of residual blocks. S is any multiple of 8, 256 officially. Parameter names are those under
    ``grid_align.`` in the official ``ckpt.pt``.
    """

    Size = ResidualAlignerSize
    size: ResidualAlignerSize

    def __init__(self, size: ResidualAlignerSize | None = None) -> None:
        super().__init__()
        self.size = size = size or ResidualAlignerSize()
        first, second, third, fourth = size.widths
        self.conv_layer1 = nn.Sequential(
            nn.Conv2d(6, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        self.conv_layer2 = nn.Sequential(*stage(first, second, 3, "ir"))
        self.conv_layer3 = nn.Sequential(*stage(second, third, 3, "ir"))
        self.conv_layer4 = nn.Sequential(*stage(third, fourth, 3, "ir"))
        self.dconv_layer1 = _rise(fourth, third, second)
        self.dconv_layer2 = _rise(second, second, first)
        self.dconv_layer3 = _rise(first, first, 3)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> ResidualAlignerSize:
        """The size of the network whose parameters ``tensors`` are.

        Raises
        ------
        Refusal
            Naming the parameter that an aligner has and ``tensors`` lack.
        """
        names = ("conv_layer1.0", *(f"conv_layer{i}.0.res_layer.1" for i in (2, 3, 4)))
        first, second, third, fourth = (kernel_shape(tensors, f"{name}.weight")[0] for name in names)
        return ResidualAlignerSize((first, second, third, fourth))

    def forward(self, residual_and_picture: Tensor) -> Tensor:
        full = self.conv_layer1(residual_and_picture)
        half = self.conv_layer2(full)
        quarter = self.conv_layer3(half)
        x = self.dconv_layer1(_beside(self.conv_layer4(quarter), quarter))
        x = self.dconv_layer2(_beside(x, half))
        aligned: Tensor = self.dconv_layer3(_beside(x, full))
        return aligned


def _rise(c_below: int, c_beside: int, c_out: int) -> nn.Sequential:
    """The blocks after an enlarged map and the map beside it are joined."""
    return nn.Sequential(
        ResidualBlock(c_below + c_beside, c_below, 1, "ir"),
        ResidualBlock(c_below, c_out, 1, "ir"),
        ResidualBlock(c_out, c_out, 1, "ir"),
    )


def _beside(below: Tensor, beside: Tensor) -> Tensor:
    """Enlarge the one map to the side of the other, and join them."""
    return torch.cat((interpolate(below, size=beside.shape[2:], mode="bilinear"), beside), 1)
