"""Values for stand-ins: drawn by the parameters' names, so that they depend on no order and no library's release."""

from __future__ import annotations

import math
import re
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.hfgi.residual_encoder import EqualConv2d
from baselines.hyperstyle.hypernetwork import SharedHead
from fse.generators.mapping import EqualLinear

_MAPPING = re.compile(r"(style\.\d+|mapping\.(fc|dense)\d+(\.fc)?)\.weight")
"""Weights of the mapping networks, used a hundredth as large (learning rate multiplier 0.01)."""

_BUILT = re.compile(r"kernel|.*_filter|bias|truncation|transform|freqs|.*noise_strength")
_SMALL = re.compile(r"^styles\.\d+$|output\.\d$|res_layer\.2$")
"""Layers out of which come offsets of codes (FSE) or weights (HyperStyle), and ends of branches (StyleRes)."""

_END_OF_BRANCH = re.compile(r"res_layer\.4$|bn3$|content_layer\.5$")
_SHORTCUT = re.compile(r"(shortcut_layer|downsample)\.0$")


def normal(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal numbers that depend on ``name`` and ``shape`` alone."""
    random = np.random.Generator(np.random.PCG64(crc32(name.encode())))
    return random.standard_normal(shape, np.float32)


@torch.no_grad()
def fill_generator(network: nn.Module, key: str) -> None:
    """Draw a generator's weights and noise pictures; ``key`` tells stand-ins from each other.

    All layers have an equalised learning rate, so weights are of unit size; StyleGAN3's styles vary less, because their
    effects multiply over fourteen layers. Noise has a strength of 0.1. Biases and filters stay as they are built.
    """
    for name, tensor in network.state_dict().items():
        last = name.rpartition(".")[2]
        if name.startswith("synthesis.input.") and last in ("freqs", "phases"):
            tensor.copy_(_waves(f"{key} {name}", tensor))
        elif name.endswith("noise.weight"):
            tensor.fill_(0.1)
        elif tensor.ndim >= 2 and not _BUILT.fullmatch(last) and name != "synthesis.input.affine.weight":
            scale = 100 if _MAPPING.fullmatch(name) else 0.3 if name.endswith("affine.weight") else 1
            tensor.copy_(_drawn(f"{key} {name}", tensor) * scale)


def _waves(name: str, like: Tensor) -> Tensor:
    """Frequencies up to 2 cycles a picture's width (StyleGAN3's first signal), or phases."""
    drawn = _drawn(name, like)
    return 2 * drawn / drawn.norm(dim=1, keepdim=True).clamp_min(1) if like.ndim == 2 else drawn.frac() - 0.5


@torch.no_grad()
def fill_network(network: nn.Module, key: str) -> None:
    """Draw the weights of a network of convolutions and linear layers; ``key`` tells stand-ins from each other.

    Weights keep the scale of what passes through (He et al. 2015), except where codes come out, as small offsets. What
    has one axis stays as it is built, so that normalisations do nothing, and biases are 0. Residual branches end small:
    deep sums would grow without bounds.
    """
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim >= 2:
                drawn = _drawn(f"{key} {path}.{name}", parameter)
                parameter.copy_(drawn * _scale(path, module, parameter[0].numel()))
            elif name == "bias" or isinstance(module, SharedHead):
                parameter.zero_()
            elif _END_OF_BRANCH.search(path):
                parameter.fill_(0.3)


def _scale(path: str, module: nn.Module, fan_in: int) -> float:
    if isinstance(module, EqualLinear | EqualConv2d):  # which scale themselves
        return 0.5 if isinstance(module, EqualLinear) else 0.3
    if isinstance(module, SharedHead):
        return 0.03
    if _SMALL.search(path):
        return 0.1 / math.sqrt(fan_in)
    return math.sqrt((1 if _SHORTCUT.search(path) else 2) / fan_in)


def _drawn(name: str, like: Tensor) -> Tensor:
    return torch.from_numpy(normal(name, tuple(like.shape)))
