"""StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"), in rosinality's layout.

That is the layout of the generators that pSp, e4e, ReStyle, HFGI and the Feature-Style Encoder were trained with.
HFGI's is this one with ``feature_layer=8`` and the feature ``generator.feature(codes) * (1 + scale) + shift``.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_

from fse.generators.mapping import EqualLinear, Mapping
from fse.generators.modulated_conv import modulated_conv
from fse.generators.resampling import upfirdn
from fse.generators.style_generator import check_shapes
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

SLOPE, GAIN = 0.2, 2**0.5


def published_channels(resolution: int, multiplier: int = 2) -> tuple[int, ...]:
    """Channels of each level from 4x4 to ``resolution``; ``multiplier`` 2 is the paper's configuration F."""
    return tuple(min(512, multiplier * 2**14 // side) for side in _sides(resolution))


def _sides(resolution: int) -> list[int]:
    return [2**level for level in range(2, int(log2(resolution)) + 1)]


@dataclass(frozen=True)
class StyleGAN2Size:
    """Size of a StyleGAN2 generator; the defaults are the official ones.

    Attributes
    ----------
    resolution : int
        R, a power of two in 8..1024.
    channels : tuple of int
        Of each level from 4x4 on; empty means :func:`published_channels`.
    code_dim, mapping_depth : int
        Length of a code, and linear layers of the mapping network.
    clamp : float, optional
        Limit of the absolute value of each layer's output, as StyleGAN2-ADA's ``conv_clamp``.
    raw_weights : bool
        Whether the 1e-8 under the root of the demodulation is added to the power of the weights as stored (NVIDIA)
        or as scaled by the equalised learning rate (rosinality). Nothing else depends on that scale.
    """

    resolution: int = 1024
    channels: tuple[int, ...] = ()
    code_dim: int = 512
    mapping_depth: int = 8
    clamp: float | None = None
    raw_weights: bool = False

    def __post_init__(self) -> None:
        if self.resolution not in _sides(1024)[1:]:
            raise ValueError(f"resolution must be a power of two in 8..1024, not {self.resolution}")
        if not self.channels:
            object.__setattr__(self, "channels", published_channels(self.resolution))
        if len(self.channels) != len(_sides(self.resolution)):
            raise ValueError(f"{self.resolution} px have {len(_sides(self.resolution))} levels, not {self.channels}")


class ConstantInput(nn.Module):
    """The learned 4x4 picture that every synthesis begins with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.input.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)


class Resample(nn.Module):
    """Filter with [1, 3, 3, 1] along both axes; with ``up`` 2, double the side too."""

    kernel: Tensor

    def __init__(self, up: int, padding: tuple[int, int]) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(taps, taps))
        self.up, self.padding = up, padding

    def forward(self, x: Tensor) -> Tensor:
        return upfirdn(x, self.kernel, up=self.up, padding=(*self.padding, *self.padding))


class ModulatedConv(nn.Module):
    """A modulated convolution whose style is an affine function of the code."""

    def __init__(self, c_in: int, c_out: int, kernel: int, size: StyleGAN2Size, up: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, c_out, c_in, kernel, kernel))
        self.modulation = EqualLinear(size.code_dim, c_in, bias=1.0)
        self.blur = Resample(1, (1, 1)) if up else None
        self.demodulate = kernel == 3
        self.scale = 1.0 if self.demodulate and size.raw_weights else (c_in * kernel**2) ** -0.5

    def forward(self, x: Tensor, code: Tensor, gain: float, overwrite: bool) -> Tensor:
        x = modulated_conv(
            x,
            self.weight[0],
            self.modulation(code) * self.scale,
            demodulate=self.demodulate,
            gain=gain,
            padding=self.weight.shape[-1] // 2 if self.blur is None else 0,
            up=self.blur is not None,
            overwrite=overwrite,
        )
        return x if self.blur is None else cast(Tensor, self.blur(x))


class Noise(nn.Module):
    """The strength of a layer's noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Activation(nn.Module):
    """The bias of a layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class StyledConv(nn.Module):
    """Modulated 3x3 convolution (``up``: to the double side), noise, bias, leaky ReLU 0.2 times sqrt(2)."""

    def __init__(self, c_in: int, c_out: int, size: StyleGAN2Size, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(c_in, c_out, 3, size, up)
        self.noise = Noise()
        self.activate = Activation(c_out)
        self.clamp = size.clamp

    def forward(self, x: Tensor, code: Tensor, noise: Tensor, overwrite: bool) -> Tensor:
        # A positive factor passes through the leaky ReLU, so the three small things take it instead of the large one.
        x = self.conv(x, code, GAIN, overwrite)
        # In place, which the gradients allow: allocation is a good part of the time on a CPU.
        x = x.add_((noise * (self.noise.weight * GAIN)).to(x.dtype))
        x = x.add_((self.activate.bias * GAIN)[:, None, None].to(x.dtype))
        return _clamp(leaky_relu_(x, SLOPE), self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, added to the picture of the level below."""

    def __init__(self, c_in: int, size: StyleGAN2Size, up: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(c_in, 3, 1, size)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Resample(2, (2, 1)) if up else None
        self.clamp = size.clamp

    def forward(self, x: Tensor, code: Tensor, picture: Tensor | None = None) -> Tensor:
        rgb = _clamp(self.conv(x, code, 1.0, False) + self.bias, self.clamp)
        return rgb if picture is None or self.upsample is None else self.upsample(picture).add_(rgb)


def _clamp(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


class StyleGAN2(SizedNetwork):
    """A :class:`~fse.generators.style_generator.StyleGenerator`; parameter names are rosinality's.

    Convolution k (counted from 1) reads code k - 1; the RGB output after each odd convolution reads the next code,
    which it shares with the next convolution. So N = 2 log2(R) - 2. ``synthesize(codes, feature)`` gives ``feature``
    to convolution K + 1 in the place of convolution K's output, which the RGB output of that level still reads.

    Noise is that of the file unless it is given. Where no gradient is wanted, layers overwrite the outputs of those
    before them, so a forward hook that keeps one has to copy it.

    Parameters
    ----------
    size : StyleGAN2Size, optional
        Default the official FFHQ network's.
    feature_layer : int
        K; the last convolution has no successor, so K lies in 1..2 log2(R) - 4.
    """

    Size = StyleGAN2Size
    size: StyleGAN2Size
    rgb_skip = True
    mean_code: Tensor

    def __init__(self, size: StyleGAN2Size | None = None, feature_layer: int = 5) -> None:
        super().__init__()
        self.size = size = size or StyleGAN2Size()
        sides, channels = _sides(size.resolution), size.channels
        if not 1 <= feature_layer <= 2 * len(sides) - 2:
            raise ValueError(f"feature_layer must lie in 1..{2 * len(sides) - 2}, not {feature_layer}")
        self.resolution = size.resolution
        self.code_dim = size.code_dim
        self.num_codes = 2 * len(sides)
        self.feature_layer = self.feature_codes = feature_layer
        level = feature_layer // 2
        self.feature_shape = (channels[level], sides[level], sides[level])

        self.style = Mapping(size.code_dim, size.mapping_depth)
        self.input = ConstantInput(channels[0])
        self.conv1 = StyledConv(channels[0], channels[0], size)
        self.to_rgb1 = ToRGB(channels[0], size, up=False)
        self.convs = nn.ModuleList(
            conv
            for below, here in pairwise(channels)
            for conv in (StyledConv(below, here, size, up=True), StyledConv(here, here, size))
        )
        self.to_rgbs = nn.ModuleList(ToRGB(here, size) for here in channels[1:])
        self.noises = nn.Module()
        for k in range(self.num_codes - 1):
            side = sides[(k + 1) // 2]
            self.noises.register_buffer(f"noise_{k}", torch.randn(1, 1, side, side))
        self.register_buffer("mean_code", torch.zeros(self.num_codes, size.code_dim), persistent=False)

    @classmethod
    def size_of(cls, tensors: MappingOf[str, Tensor], options: MappingOf[str, Any] | None = None) -> StyleGAN2Size:
        """The size of the generator that an official file holds, from the shapes of its parameters.

        Raises
        ------
        Refusal
            Naming the parameter that is missing or that no StyleGAN2 has in that shape.
        """

        def checked(name: str, *shape: int | None) -> tuple[int, ...]:
            if name not in tensors:
                raise Refusal(f"the parameter {name} is missing, so this is no StyleGAN2 generator; give another file")
            found = tuple(tensors[name].shape)
            matches = len(found) == len(shape) and all(s in (None, f) for s, f in zip(shape, found, strict=True))
            if not matches or 0 in found:
                raise Refusal(
                    f"the parameter {name} has shape {found}, which no StyleGAN2 generator has; give another file"
                )
            return found

        channels = [checked("input.input", 1, None, 4, 4)[1]]
        code_dim = checked("conv1.conv.modulation.weight", channels[0], None)[1]
        while (name := f"convs.{2 * len(channels) - 2}.conv.weight") in tensors or len(channels) == 1:
            channels.append(checked(name, 1, None, channels[-1], 3, 3)[1])
        depth = sum(name.startswith("style.") and name.endswith(".weight") for name in tensors)
        for layer in range(1, depth + 1):
            checked(f"style.{layer}.weight", code_dim, code_dim)
        try:
            return StyleGAN2Size(2 ** (len(channels) + 1), tuple(channels), code_dim, depth)
        except ValueError as error:
            raise Refusal(f"the generator of this file cannot be built ({error}); give another file") from error

    def set_mean_code(self, latent_avg: Tensor) -> None:
        """Set ``mean_code`` to ``latent_avg``, (512,) or (N, 512), as official files hold it."""
        self.mean_code.copy_(latent_avg.expand_as(self.mean_code))

    def map(self, z: Tensor) -> Tensor:
        """z (B, 512) ~ N(0, I) -> codes (B, N, 512), the same w in every row."""
        w: Tensor = self.style(z)
        return w[:, None].expand(-1, self.num_codes, -1)

    def fresh_noise(self, generator: torch.Generator, batch: int = 1) -> list[Tensor]:
        """New noise for :meth:`synthesize`: a picture (batch, 1, H, W) ~ N(0, 1) for each convolution."""
        return [
            torch.randn(batch, *noise.shape[1:], generator=generator, device=generator.device).to(noise)
            for noise in self._noise()
        ]

    def feature(self, codes: Tensor, *, noise: Sequence[Tensor] | None = None) -> Tensor:
        """codes (B, N, 512) -> output of convolution K (B, C, H, W): G(w^{1:K})."""
        x = self.input(len(codes))
        for k, (conv, picture) in enumerate(self._convolutions(noise)[: self.feature_layer]):
            x = conv(x, codes[:, k], picture, not torch.is_grad_enabled() and k > 0)
        return cast(Tensor, x)

    def synthesize(
        self, codes: Tensor, feature: Tensor | None = None, *, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """codes (B, N, 512) -> picture (B, 3, R, R); ``feature`` replaces the output of convolution K.

        ``noise`` is a picture for each convolution, to be added in the place of the stored one; each may have any shape
        that broadcasts to (B, 1, H, W), so ``[torch.zeros(1)] * (N - 1)`` is none.
        """
        check_shapes(self, codes, feature)
        x, picture = self.input(len(codes)), None
        owned = False  # x is this method's own, so the next layer may overwrite it
        for k, (conv, noise_picture) in enumerate(self._convolutions(noise), 1):
            replacement = feature if k == self.feature_layer else None
            if replacement is None or k % 2:  # only the next convolution reads what an even one puts out
                x = conv(x, codes[:, k - 1], noise_picture, owned and not torch.is_grad_enabled())
                owned = True
            if k % 2:
                to_rgb = self.to_rgbs[k // 2 - 1] if k > 1 else self.to_rgb1
                picture = to_rgb(x, codes[:, k], picture)
            if replacement is not None:
                x, owned = replacement.contiguous(memory_format=torch.channels_last), False
        return cast(Tensor, picture)

    def forward(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """The same as :meth:`synthesize`."""
        return self.synthesize(codes, feature)

    def _noise(self) -> list[Tensor]:
        return [getattr(self.noises, f"noise_{k}") for k in range(self.num_codes - 1)]

    def _convolutions(self, noise: Sequence[Tensor] | None) -> list[tuple[nn.Module, Tensor]]:
        return list(zip((self.conv1, *self.convs), self._noise() if noise is None else noise, strict=True))
