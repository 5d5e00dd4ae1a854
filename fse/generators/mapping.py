"""The mapping network of StyleGAN2, and the linear layer of equalised learning rate that it is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear


class EqualLinear(nn.Module):
    """Linear layer whose weight is scaled by ``rate`` / sqrt(c_in), and its bias by ``rate``, at run time.

    Equalised learning rate (Karras et al. 2018, "Progressive Growing of GANs", section 4.1).
    """

    def __init__(self, c_in: int, c_out: int, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in) / rate)
        self.bias = nn.Parameter(torch.full((c_out,), bias / rate))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * (self.rate * self.weight.shape[1] ** -0.5), self.bias * self.rate)


class PixelNorm(nn.Module):
    """Divide (B, C) by the root of the mean square over C."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class MappingLayer(EqualLinear):
    """An equalised linear layer of learning rate 0.01, leaky ReLU 0.2 and a gain of sqrt(2)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(super().forward(x), 0.2) * 2**0.5


class Mapping(nn.Sequential):
    """z (B, D) ~ N(0, I) -> w (B, D); the layers' names are those of rosinality's release: 1, 2, ..."""

    def __init__(self, code_dim: int = 512, depth: int = 8) -> None:
        super().__init__(PixelNorm(), *(MappingLayer(code_dim, code_dim) for _ in range(depth)))
