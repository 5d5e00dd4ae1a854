"""The domain-guided encoder of in-domain inversion (section 3.1), under its official parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu_, linear

from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.losses import reduce
from fse.sized_network import SizedNetwork

CODE_DIM = 512
SLOPE = 0.2


@dataclass(frozen=True)
class InDomainEncoderSize:
    """Size of an in-domain encoder; the defaults are the official one's for 256 px.

    Attributes
    ----------
    resolution : int
        Side of the pictures, a power of two, at least 8.
    num_codes : int
        Codes in W+ that the generator takes.
    channels_base, channels_max : int
        Channels at full resolution, doubled with every halving up to the maximum.
    """

    resolution: int = 256
    num_codes: int = 14
    channels_base: int = 64
    channels_max: int = 1024


class BatchNorm(nn.Module):
    """Batch normalisation, one level deeper in the official names: ``bn.bn.weight``."""

    def __init__(self, channels: int, dimensions: int = 2) -> None:
        super().__init__()
        self.bn = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d)(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x)
        return y


class FirstBlock(nn.Module):
    """3x3 convolution, batch normalisation, leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu_(self.bn(self.conv(x)), SLOPE)


class ResidualBlock(nn.Module):
    """Mean pooling by two, then the sum of two 3x3 convolutions and a shortcut; no activation after the sum.

    Each convolution, the shortcut's too, is followed by batch normalisation and leaky ReLU. The shortcut is the
    pooled input itself where the width does not change.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        if c_in != c_out:
            self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
            self.bn = BatchNorm(c_out)
        self.widens = c_in != c_out
        hidden = min(c_in, c_out)
        self.conv1 = nn.Conv2d(c_in, hidden, 3, padding=1, bias=False)
        self.wscale1 = nn.ParameterDict({"bias": torch.zeros(hidden)})
        self.bn1 = BatchNorm(hidden)
        self.conv2 = nn.Conv2d(hidden, c_out, 3, padding=1, bias=False)
        self.wscale2 = nn.ParameterDict({"bias": torch.zeros(c_out)})
        self.bn2 = BatchNorm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = avg_pool2d(x, 2)
        y = leaky_relu_(self.bn1(conv2d(x, self.conv1.weight, self.wscale1["bias"], padding=1)), SLOPE)
        y = leaky_relu_(self.bn2(conv2d(y, self.conv2.weight, self.wscale2["bias"], padding=1)), SLOPE)
        return y + (leaky_relu_(self.bn(self.conv(x)), SLOPE) if self.widens else x)


class LastBlock(nn.Module):
    """The 4x4 map, flattened, through an equalised linear layer without bias, and batch normalisation."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.fc = nn.Linear(c_in, c_out, bias=False)
        self.bn = BatchNorm(c_out, dimensions=1)
        nn.init.normal_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        y: Tensor = self.bn(linear(x * x.shape[1] ** -0.5, self.fc.weight))
        return y


class InDomainEncoder(SizedNetwork):
    """Picture (B, 3, R, R) in [-1, 1], or a larger one, which is averaged down to R -> codes (B, N, 512).

    ``block0`` works at full resolution, ``block1`` and on at half, a quarter ... 4 px, and the last block ends in
    the codes: log2(R) blocks.
    """

    Size = InDomainEncoderSize
    size: InDomainEncoderSize

    def __init__(self, size: InDomainEncoderSize | None = None) -> None:
        super().__init__()
        self.size = size = size or InDomainEncoderSize()
        if size.resolution < 8 or size.resolution & (size.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8 on, not {size.resolution}")
        blocks = int(log2(size.resolution))
        widths = [min(size.channels_base * 2**i, size.channels_max) for i in range(blocks - 1)]
        self.block0 = FirstBlock(widths[0])
        for i in range(1, blocks - 1):
            self.add_module(f"block{i}", ResidualBlock(widths[i - 1], widths[i]))
        self.add_module(f"block{blocks - 1}", LastBlock(widths[-1] * 16, size.num_codes * CODE_DIM))

    @property
    def last(self) -> LastBlock:
        """The block that ends in the codes."""
        return cast(LastBlock, list(self.children())[-1])

    @torch.no_grad()
    def start_from(self, mean_code: Tensor, code_std: Tensor) -> None:
        """Set the codes before training near the generator's mean code, and their scale to the generator's own.

        mean_code and code_std (N, 512) are those of the generator's codes; they become shift and scale of the last
        normalisation, and its input is made small.
        """
        norm = cast(nn.BatchNorm1d, self.last.bn.bn)
        norm.bias.copy_(mean_code.flatten())
        norm.weight.copy_(code_std.flatten())
        self.last.fc.weight *= 0.1

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> InDomainEncoderSize:
        """The size of an official encoder, from its parameters' names and shapes.

        Raises
        ------
        Refusal
            When a parameter that tells the size is missing.
        """
        channels = kernel_shape(tensors, "block0.conv.weight")[0]
        last = 1 + consecutive(tensors, "block{}.conv1.weight", 1)
        rows, columns = kernel_shape(tensors, f"block{last}.fc.weight", 2)
        return InDomainEncoderSize(2 ** (last + 1), rows // CODE_DIM, channels, columns // 16)

    def forward(self, pictures: Tensor) -> Tensor:
        x = reduce(pictures, self.size.resolution)
        for block in self.children():
            x = block(x)
        return x.reshape(-1, self.size.num_codes, CODE_DIM)
