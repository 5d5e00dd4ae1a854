"""MobileStyleGAN (Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity
Image Synthesis", 2021), as exported in the package ``random-face``.

The export differs from the training code in three ways: demodulation, which there does not depend on the
code, is folded into the pointwise weights; the noise of each convolution is a constant picture; and only
the last image head is kept. :mod:`fse.generators.picture_head` gives the network a head at 128 or 256 px.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, leaky_relu_, linear

from fse.checkpoints.openvino_ir import Constant, read_constants
from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.generators.modulated_conv import modulated_conv
from fse.generators.style_generator import check_shapes
from fse.generators.wavelet import inverse_haar
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

CODE_DIM = 512
SLOPE = 0.2


class MappingNetwork(nn.Module):
    """z (B, 512) -> w (B, 512): normalisation, then linear layers with leaky ReLU times sqrt(2)."""

    def __init__(self, depth: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(CODE_DIM, CODE_DIM) for _ in range(depth))

    def forward(self, z: Tensor) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.layers:
            w = leaky_relu(layer(w), SLOPE) * 2**0.5
        return w


class Modulation(nn.Module):
    """Code w (B, 512) -> a factor for each input channel (B, C, 1, 1), times a constant scale."""

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, CODE_DIM))
        self.bias = nn.Parameter(torch.ones(channels))
        self.scale = scale

    def forward(self, code: Tensor) -> Tensor:
        return (linear(code, self.weight, self.bias) * self.scale)[:, :, None, None]


class StyledConv(nn.Module):
    """Modulate, convolve (dense 3x3, or depthwise 3x3 then pointwise), add noise and bias, leaky ReLU.

    The scale 1 / sqrt(9 C_in) is the equalised learning rate's; activations have no gain.
    """

    def __init__(self, c_in: int, c_out: int, size: int, separable: bool = True) -> None:
        super().__init__()
        self.modulation = Modulation(c_in, (9 * c_in) ** -0.5)
        self.depthwise = nn.Parameter(torch.zeros(c_in, 1, 3, 3)) if separable else None
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, *((1, 1) if separable else (3, 3))))
        self.noise = nn.Parameter(torch.zeros(1, 1, size, size))
        self.bias = nn.Parameter(torch.zeros(1, c_out, 1, 1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        kernel = self.weight if self.depthwise is None else self.depthwise
        x = modulated_conv(x, kernel, self.modulation(code).flatten(1), demodulate=False, padding=1)
        if self.depthwise is not None:
            x = conv2d(x, self.weight)
        # In place, which the convolutions' gradients allow: allocation is a good part of the time on a CPU.
        return leaky_relu_(x.add_(self.noise).add_(self.bias), SLOPE)


class Up(nn.Module):
    """Modulate, split channels into one low and three high bands, inverse Haar: C -> C / 4, size doubled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.modulation = Modulation(channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = x * self.modulation(code)
        low = x.shape[1] // 4
        return inverse_haar(x[:, :low], x[:, low:])


class Block(nn.Module):
    """Up and two convolutions; Up shares the first convolution's code."""

    def __init__(self, c_in: int, c_out: int, size: int) -> None:
        super().__init__()
        self.up = Up(c_in)
        self.conv1 = StyledConv(c_in // 4, c_out, size)
        self.conv2 = StyledConv(c_out, c_out, size)


class WaveletHead(nn.Module):
    """The network's own last head: modulated 1x1 convolution to 12 channels, inverse Haar to the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.modulation = Modulation(channels, channels**-0.5)
        self.weight = nn.Parameter(torch.zeros(12, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        bands = conv2d(x * self.modulation(code), self.weight, self.bias)
        return inverse_haar(bands[:, :3], bands[:, 3:])


@dataclass(frozen=True)
class MobileStyleGANSize:
    """Size of a MobileStyleGAN; the defaults are the published network's.

    Attributes
    ----------
    channels : tuple of int
        Output channels of the 4x4 convolution and of each block, which doubles the side.
    mapping_depth : int
        Linear layers of the mapping network.
    """

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)
    mapping_depth: int = 8


class MobileStyleGAN(SizedNetwork):
    """A :class:`~fse.generators.style_generator.StyleGenerator` over MobileStyleGAN's layers.

    Convolutions are counted as in StyleGAN2: one at 4x4, then two a block; codes are one a convolution
    and one for the head, so N = 2 * blocks + 2: 16 at 1024 px (seven blocks), 12 at 256 px, 10 at 128 px.
    Convolution K = 5 ends the 16x16 block with 512 channels, as in the paper (section 3.2).

    Parameters
    ----------
    size : MobileStyleGANSize, optional
        Default the published network's.
    feature_layer : int
        K; odd values end a block.
    head : nn.Module, optional
        ``head(features, code)`` -> picture of twice the features' size; default the network's own kind.
    """

    Size = MobileStyleGANSize
    size: MobileStyleGANSize
    rgb_skip = False
    mean_code: Tensor

    def __init__(
        self, size: MobileStyleGANSize | None = None, feature_layer: int = 5, head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.size = size = size or MobileStyleGANSize()
        channels = size.channels
        blocks = len(channels) - 1
        self.resolution = 8 * 2**blocks
        self.code_dim = CODE_DIM
        self.num_codes = 2 * blocks + 2
        self._set_feature_layer(feature_layer)

        self.mapping = MappingNetwork(size.mapping_depth)
        self.constant = nn.Parameter(torch.zeros(1, channels[0], 4, 4))
        self.conv1 = StyledConv(channels[0], channels[0], 4, separable=False)
        self.blocks = nn.ModuleList(Block(*pair, 8 * 2**i) for i, pair in enumerate(pairwise(channels)))
        self.head = WaveletHead(channels[-1]) if head is None else head
        self.register_buffer("mean_code", torch.zeros(self.num_codes, CODE_DIM))

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> MobileStyleGANSize:
        """The size of the network whose parameters ``tensors`` are; raises Refusal naming one that is missing."""
        blocks = consecutive(tensors, "blocks.{}.conv2.bias")
        biases = ["conv1.bias", *(f"blocks.{i}.conv2.bias" for i in range(blocks))]
        depth = consecutive(tensors, "mapping.layers.{}.weight")
        return MobileStyleGANSize(tuple(kernel_shape(tensors, bias)[1] for bias in biases), depth)

    def _set_feature_layer(self, feature_layer: int) -> None:
        last = 2 * len(self.size.channels) - 1
        if not 1 <= feature_layer <= last:
            raise ValueError(f"feature_layer must lie in 1..{last}, not {feature_layer}")
        self.feature_layer = self.feature_codes = feature_layer
        level = feature_layer // 2
        self.feature_shape = (self.size.channels[level], 4 * 2**level, 4 * 2**level)

    def with_feature_layer(self, feature_layer: int) -> MobileStyleGAN:
        """The same generator, its parameters shared, at another K. Methods differ in theirs."""
        other = copy(self)
        other._set_feature_layer(feature_layer)
        return other

    def map(self, z: Tensor) -> Tensor:
        """z (B, 512) ~ N(0, I) -> codes (B, N, 512), the same w in every row."""
        w: Tensor = self.mapping(z)
        return w[:, None].expand(-1, self.num_codes, -1)

    def features(self, codes: Tensor, first: int = 1, last: int | None = None, x: Tensor | None = None) -> Tensor:
        """Run convolutions ``first``..``last`` (counted from 1; default: to the end of the trunk).

        ``x`` is the output of convolution ``first - 1``, wanted when ``first`` > 1. Any prefix of layers is
        ``features(codes, last=k)``. Returns (B, C, H, W).
        """
        last = 2 * len(self.blocks) + 1 if last is None else last
        if (x is None) != (first == 1):
            raise ValueError("features() takes x, the output of convolution first - 1, exactly when first > 1")
        for k in range(first, last + 1):
            code = codes[:, k - 1]
            if k == 1:
                x = self.conv1(self.constant.expand(len(codes), -1, -1, -1), code)
                continue
            block = cast(Block, self.blocks[k // 2 - 1])
            x = block.conv1(block.up(x, code), code) if k % 2 == 0 else block.conv2(x, code)
        assert x is not None
        return x

    def feature(self, codes: Tensor) -> Tensor:
        """codes (B, N, 512) -> output of convolution K (B, C, H, W): G(w^{1:K})."""
        return self.features(codes, last=self.feature_layer)

    def synthesize(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """codes (B, N, 512) -> picture (B, 3, R, R); ``feature`` replaces the output of convolution K."""
        check_shapes(self, codes, feature)
        if feature is None:
            feature = self.feature(codes)
        x = feature
        if self.feature_layer < 2 * len(self.blocks) + 1:
            x = self.features(codes, self.feature_layer + 1, x=feature)
        picture: Tensor = self.head(x, codes[:, -1])
        return picture

    def forward(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """The same as :meth:`synthesize`."""
        return self.synthesize(codes, feature)


def read_mobilestylegan(folder: Path) -> dict[str, Tensor]:
    """The state of a full-size :class:`MobileStyleGAN` out of ``random-face``'s IR files.

    Parameters
    ----------
    folder : Path
        Holds ``MappingNetwork.xml/.bin`` and ``SynthesisNetwork.xml/.bin``.

    Raises
    ------
    Refusal
        When a file is missing or broken, or holds another network (the parameter is named).
    """
    mapping = [c.value for c in read_constants(folder / "MappingNetwork.xml") if c.value.numel() > 1]
    state = {}
    for i, (weight, bias) in enumerate(zip(mapping[::2], mapping[1::2], strict=False)):
        state[f"mapping.layers.{i}.weight"], state[f"mapping.layers.{i}.bias"] = weight, bias
    state |= _synthesis_state(read_constants(folder / "SynthesisNetwork.xml"))

    expected = {k: v for k, v in MobileStyleGAN().state_dict().items() if k != "mean_code"}
    for name, tensor in expected.items():
        if name not in state:
            raise Refusal(f"{folder} holds no MobileStyleGAN: parameter {name} is missing; obtain it again")
        if state[name].shape != tensor.shape:
            raise Refusal(
                f"{folder} holds another network: parameter {name} has shape {tuple(state[name].shape)} "
                f"instead of {tuple(tensor.shape)}; obtain it again"
            )
    return {name: state[name] for name in expected}


def _synthesis_state(constants: list[Constant]) -> dict[str, Tensor]:
    """Name the synthesis network's constants as :class:`MobileStyleGAN` does.

    Named constants carry the training code's names. The folded weights (``Mul_*_copy``) and the noise
    pictures have lost theirs; they stand between their convolution's depthwise weight and its bias.
    """
    state: dict[str, Tensor] = {}
    unnamed: dict[str, Tensor] = {}
    for constant in constants:
        value = constant.value
        if "Convolution" in constant.feeds and re.fullmatch(r"Mul_\d+_copy", constant.name):
            unnamed["weight"] = value
        elif constant.feeds == ("Add",) and value.ndim == 4 and value.shape[:2] == (1, 1) and value.numel() > 1:
            unnamed["noise"] = value
        elif constant.name.startswith("m."):
            name = constant.name.removeprefix("m.").replace("layers.", "blocks.").replace(".conv.", ".")
            name = re.sub(r"blocks\.\d+\.to_img", "head", name).replace("weight_dw", "depthwise")
            name = {"input.input": "constant"}.get(name, name)
            if name.endswith("modulation.bias") or name == "head.bias":
                value = value.flatten()
            elif name.endswith("depthwise"):
                value = value.flatten(1, 2)
            elif name.endswith("bias"):  # the last constant of a convolution
                state |= {name.removesuffix("bias") + key: tensor for key, tensor in unnamed.items()}
                unnamed = {}
            state[name] = value
    return state
