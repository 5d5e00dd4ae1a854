"""StyleGAN3 (Karras et al. 2021, "Alias-Free Generative Adversarial Networks"), configurations T and R, under the
parameter names of NVIDIA's release."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from math import ceil, log2, pi
from typing import Any

import torch
from torch import Tensor, nn

from fse.generators.filtered_activation import filtered_leaky_relu, low_pass_filter
from fse.generators.mapping import EqualLinear, MappingLayer, PixelNorm
from fse.generators.modulated_conv import modulated_conv
from fse.generators.style_generator import check_shapes
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

UNTRACED_ARGUMENTS = (
    "channel_base",
    "channel_max",
    "conv_clamp",
    "num_critical",
    "first_cutoff",
    "first_stopband",
    "last_stopband_rel",
    "margin_size",
    "output_scale",
    "filter_size",
    "lrelu_upsampling",
)
"""Of the official constructor: those that the parameters' shapes do not tell, or not alone."""

LAYER_WEIGHT = re.compile(r"synthesis\.(?P<name>L(?P<layer>\d{1,2})_(?P<side>\d{1,5})_\d+)\.weight")


@dataclass(frozen=True)
class Signal:
    """What is sampled between two layers. Frequencies are in cycles, rates in samples, a picture's width.

    Attributes
    ----------
    channels, side : int
        Shape: (channels, side, side). The samples beyond ``rate`` are the margin around the picture.
    rate : int
        Samples across the picture.
    cutoff, half_width : float
        Middle and half width of the transition band of the filter that limited the signal.
    """

    channels: int
    side: int
    rate: int
    cutoff: float
    half_width: float


@dataclass(frozen=True)
class StyleGAN3Size:
    """Size of a StyleGAN3 generator; the defaults are the official FFHQ 1024 network's of configuration T.

    Attributes that are not explained here are arguments of the official constructor under their official names, and
    every published network has their defaults.

    Attributes
    ----------
    resolution : int
        R, a power of two from 16 on.
    channel_base, channel_max : int
        A signal of cutoff f has min(channel_base / 2 / f, channel_max) channels, rounded. Configuration R has 65536
        and 1024 at 1024 px.
    conv_kernel : int
        3 for T, 1 for R.
    use_radial_filters : bool
        True for R: rotationally symmetric low-pass filters, except in the critically sampled layers.
    z_dim, code_dim, mapping_depth : int
        Length of z, of a code, and linear layers of the mapping network.
    conv_clamp : float, optional
        Limit of the absolute value of each layer's nonlinearity.
    """

    resolution: int = 1024
    channel_base: int = 32768
    channel_max: int = 512
    conv_kernel: int = 3
    use_radial_filters: bool = False
    z_dim: int = 512
    code_dim: int = 512
    mapping_depth: int = 2
    conv_clamp: float | None = 256
    num_layers: int = 14
    num_critical: int = 2
    first_cutoff: float = 2
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3
    margin_size: int = 10
    output_scale: float = 0.25
    filter_size: int = 6
    lrelu_upsampling: int = 2

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 16 on, not {self.resolution}")
        ranges = {
            "num_critical": range(1, self.num_layers),
            "margin_size": range(1, 257),
            "filter_size": range(1, 65),
            "lrelu_upsampling": range(2, 9, 2),  # without it there would be no filters; radial ones have even lengths
        }
        for name, allowed in ranges.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must lie in {allowed.start}..{allowed.stop - 1}, not {getattr(self, name)}")

    def signal(self, layer: int) -> Signal:
        """The output of a layer, 0..num_layers, the last to RGB; -1 is the input of layer 0 (configuration T).

        Cutoff and stopband grow geometrically up to the picture's own, which the critically sampled layers have.
        """
        exponent = min(max(layer, 0) / (self.num_layers - self.num_critical), 1)
        last = self.resolution / 2
        cutoff = self.first_cutoff * (last / self.first_cutoff) ** exponent
        stopband = self.first_stopband * (last * self.last_stopband_rel / self.first_stopband) ** exponent
        rate = 2 ** ceil(log2(min(2 * stopband, self.resolution)))
        return Signal(
            channels=3 if layer == self.num_layers else round(min(self.channel_base / 2 / cutoff, self.channel_max)),
            side=self.resolution if layer >= self.num_layers - 1 else rate + 2 * self.margin_size,
            rate=rate,
            cutoff=cutoff,
            half_width=max(stopband, rate / 2) - cutoff,
        )

    def layer_name(self, layer: int) -> str:
        """The official one, which tells its output's side and channels."""
        signal = self.signal(layer)
        return f"L{layer}_{signal.side}_{signal.channels}"


class Mapping(nn.Sequential):
    """z (B, D) ~ N(0, I) -> w (B, code_dim), and the mean w that training kept."""

    w_avg: Tensor

    def __init__(self, size: StyleGAN3Size) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(size.code_dim))
        self.add_module("norm", PixelNorm())
        for i in range(size.mapping_depth):
            self.add_module(f"fc{i}", MappingLayer(size.code_dim if i else size.z_dim, size.code_dim))


class FourierInput(nn.Module):
    """Sine waves over the picture and its margin, rotated and shifted as the code says, then mixed (configuration H).

    ``transform`` is a further rotation and shift, of the user: a 3x3 matrix over homogeneous coordinates, in which the
    picture's width is 1.
    """

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, signal: Signal, code_dim: int) -> None:
        super().__init__()
        self.side, self.rate, self.band = signal.side, signal.rate, signal.cutoff
        self.affine = EqualLinear(code_dim, 4)
        nn.init.zeros_(self.affine.weight)
        nn.init.ones_(self.affine.bias[:1])
        self.weight = nn.Parameter(torch.randn(signal.channels, signal.channels))
        self.register_buffer("transform", torch.eye(3))
        # Uniform over the disc of the frequencies that the signal can have.
        angle, radius = torch.rand(signal.channels) * 2 * pi, torch.rand(signal.channels).sqrt() * self.band
        self.register_buffer("freqs", torch.stack([angle.cos(), angle.sin()], 1) * radius[:, None])
        self.register_buffer("phases", torch.rand(signal.channels) - 0.5)

    def forward(self, code: Tensor) -> Tensor:
        with torch.autocast(code.device.type, enabled=False):  # half precision cannot tell the waves' phases
            t = self.affine(code.to(self.weight.dtype))
            c, s, x, y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(1)
            turn = torch.stack([c, -s, s, c], 1).unflatten(1, (2, 2))
            shift = turn @ -torch.stack([x, y], 1)[:, :, None]
            affine = torch.cat([turn, shift], 2) @ self.transform  # (B, 2, 3)
            phases = self.phases + (self.freqs @ affine[:, :, 2:])[:, :, 0]
            freqs = self.freqs @ affine[:, :, :2]  # (B, C, 2)
            # Waves beyond the band fade out towards half the sampling rate.
            fade = 1 - (freqs.norm(dim=2) - self.band) / (self.rate / 2 - self.band)
            place = (torch.arange(self.side, device=t.device, dtype=t.dtype) + 0.5 - self.side / 2) / self.rate
            horizontal, vertical = (place[:, None] * freqs[:, None, :, axis] for axis in (0, 1))  # (B, side, C)
            waves = torch.sin(2 * pi * (horizontal[:, None] + (vertical + phases[:, None])[:, :, None]))
            waves = waves * fade.clamp(0, 1)[:, None, None]
            mixed: Tensor = waves @ (self.weight.T * len(self.weight) ** -0.5)
            return mixed.permute(0, 3, 1, 2)


class SynthesisLayer(nn.Module):
    """Modulated convolution, bias and filtered leaky ReLU, from one signal to the next.

    The official layer also brings the weight, and the style over the whole batch, to unit power; the demodulation
    undoes that but for its 1e-8, so it is not done here, and a sample does not depend on its batch.

    ``magnitude_ema`` is the mean square of the inputs that training saw.
    """

    up_filter: Tensor
    down_filter: Tensor
    magnitude_ema: Tensor

    def __init__(self, before: Signal, after: Signal, size: StyleGAN3Size, critical: bool) -> None:
        super().__init__()
        kernel, rate = size.conv_kernel, max(before.rate, after.rate) * size.lrelu_upsampling
        self.up, self.down = rate // before.rate, rate // after.rate
        up_taps, down_taps = size.filter_size * self.up, size.filter_size * self.down
        radial = size.use_radial_filters and not critical
        self.affine = EqualLinear(size.code_dim, before.channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(after.channels, before.channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones(()))
        self.register_buffer("up_filter", low_pass_filter(up_taps, before.cutoff, before.half_width, rate))
        self.register_buffer("down_filter", low_pass_filter(down_taps, after.cutoff, after.half_width, rate, radial))
        self.clamp = size.conv_clamp
        # The upsampled picture is as long as the down filter needs to end at ``after.side`` samples; it is cut or
        # padded on both sides alike, as nearly as whole input samples allow.
        inside = (before.side + kernel - 1) * self.up - (up_taps - 1)
        total = (after.side - 1) * self.down + down_taps - inside
        low = (total + self.up) // 2
        self.padding = (low, total - low) * 2

    def forward(self, x: Tensor, code: Tensor, overwrite: bool) -> Tensor:
        x = modulated_conv(
            x,
            self.weight,
            self.affine(code),
            gain=self.magnitude_ema.rsqrt(),
            padding=self.weight.shape[-1] - 1,
            overwrite=overwrite,
        )
        return filtered_leaky_relu(
            x,
            self.up_filter,
            self.down_filter,
            self.bias,
            up=self.up,
            down=self.down,
            padding=self.padding,
            clamp=self.clamp,
        )


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, and bias."""

    magnitude_ema: Tensor

    def __init__(self, before: Signal, size: StyleGAN3Size) -> None:
        super().__init__()
        self.affine = EqualLinear(size.code_dim, before.channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, before.channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("magnitude_ema", torch.ones(()))
        self.clamp = size.conv_clamp

    def forward(self, x: Tensor, code: Tensor, overwrite: bool) -> Tensor:
        gain = self.magnitude_ema.rsqrt() * x.shape[1] ** -0.5
        x = modulated_conv(x, self.weight, self.affine(code), demodulate=False, gain=gain, overwrite=overwrite)
        x = x + self.bias.to(x.dtype)[:, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class StyleGAN3(SizedNetwork):
    """A :class:`~fse.generators.style_generator.StyleGenerator`; parameter names are NVIDIA's.

    The input reads code 0, layer L_i code i + 1, so N = 16 and convolutions 1..K, that is L_0..L_{K-1}, read K + 1
    codes. What is K = 5 in StyleGAN2, the end of the 16x16 level, is here the output of L_4.

    **The feature.** StyleGAN3 has no levels. Its signals are continuous pictures, band-limited and sampled. The output
    of convolution K is ``size.signal(K - 1)``: s = ``rate`` samples across the picture and m = ``margin_size`` = 10
    more on every side, H = W = s + 20. At 1024 px in configuration T, K = 5 gives (512, 84, 84), the middle 64x64 of
    which are the picture; the band ends at 12.7 cycles a picture's width, and softly: the filter reaches its stopband
    at 32, half the sampling rate. Sample (row i, column j) is the signal at ((j + 1/2 - m) / s, (i + 1/2 - m) / s), in
    units of the picture's width from its upper left corner. The margin is what the filters of later layers reach
    beyond the border; the generator knows what is there. Only the last layer before RGB, at the picture's own grid,
    has none.

    **Bringing an encoder's F there.** An encoder's map of side h covers the picture alone, and its sample i lies at
    (i + 1/2) / h. Interpolate it from h to s samples, corners not aligned, and continue it by m samples on every side
    (the border repeated; better, let F be ``feature(codes)`` plus a correction that fades to 0 there, because the codes
    know the margin and the picture does not). A map of side h holds h / 2 cycles: FSE's 32x32 (content stride 1) holds
    the band of K = 5 and 16x16 (stride 2) less than it. Nothing should be put above the band: layers that follow would
    pass it on aliased, and the generator would no longer turn and shift as it was built to.

    Where no gradient is wanted, layers overwrite the outputs of those before them, so a forward hook that keeps one has
    to copy it.

    Parameters
    ----------
    size : StyleGAN3Size, optional
        Default the official FFHQ 1024 network's of configuration T.
    feature_layer : int
        K, in 1..num_layers.
    """

    Size = StyleGAN3Size
    size: StyleGAN3Size
    rgb_skip = False

    def __init__(self, size: StyleGAN3Size | None = None, feature_layer: int = 5) -> None:
        super().__init__()
        self.size = size = size or StyleGAN3Size()
        if not 1 <= feature_layer <= size.num_layers:
            raise ValueError(f"feature_layer must lie in 1..{size.num_layers}, not {feature_layer}")
        self.resolution = size.resolution
        self.code_dim = size.code_dim
        self.num_codes = size.num_layers + 2
        self.feature_layer = feature_layer
        self.feature_codes = feature_layer + 1
        feature = size.signal(feature_layer - 1)
        self.feature_shape = (feature.channels, feature.side, feature.side)

        self.mapping = Mapping(size)
        self.synthesis = nn.Module()
        self.synthesis.add_module("input", FourierInput(size.signal(-1), size.code_dim))
        for i in range(size.num_layers):
            critical = i >= size.num_layers - size.num_critical
            layer = SynthesisLayer(size.signal(i - 1), size.signal(i), size, critical)
            self.synthesis.add_module(size.layer_name(i), layer)
        to_rgb = ToRGB(size.signal(size.num_layers - 1), size)
        self.synthesis.add_module(size.layer_name(size.num_layers), to_rgb)

    @classmethod
    def size_of(cls, tensors: MappingOf[str, Tensor], options: MappingOf[str, Any] | None = None) -> StyleGAN3Size:
        """The size of the generator that an official file holds.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            The generator's, by official names, whose shapes tell most.
        options : mapping of str to Any
            The arguments that the generator was built with, for what leaves no trace there.

        Raises
        ------
        Refusal
            When they are not StyleGAN3's, or those of a kind that is not built here: classes, or channels besides RGB.
        """
        options = options or {}
        kind = "so this is no unconditional StyleGAN3 generator of RGB pictures; give another file"

        def shape(name: str, *expected: int | None) -> tuple[int, ...]:
            if name not in tensors:
                raise Refusal(f"the parameter {name} is missing, {kind}")
            found = tuple(tensors[name].shape)
            if len(found) != len(expected) or any(e not in (None, f) for e, f in zip(expected, found, strict=True)):
                raise Refusal(f"the parameter {name} has shape {found}, {kind}")
            return found

        if options.get("c_dim", 0) != 0:
            raise Refusal(f"the generator takes classes (c_dim is {options['c_dim']!r}), {kind}")
        if (rate := (options.get("mapping_kwargs") or {}).get("lr_multiplier", 0.01)) != 0.01:
            raise Refusal(f"the mapping network's lr_multiplier is {rate!r}, only 0.01 is read; give another file")
        layers = [found for name in tensors if (found := LAYER_WEIGHT.fullmatch(name))]
        if not layers:
            raise Refusal(f"the parameter synthesis.L0_... is missing, {kind}")
        first, last = (pick(layers, key=lambda found: int(found["layer"])) for pick in (min, max))
        resolution, filters = int(last["side"]), tensors.get(f"synthesis.{first['name']}.down_filter")
        traced = {
            "resolution": resolution,
            "num_layers": int(last["layer"]),
            "conv_kernel": shape(first[0], None, None, None, None)[-1],
            "use_radial_filters": filters is not None and filters.ndim == 2,
            "code_dim": shape("mapping.w_avg", None)[0],
            "z_dim": shape("mapping.fc0.weight", None, None)[1],
            "mapping_depth": sum(re.fullmatch(r"mapping\.fc\d+\.weight", name) is not None for name in tensors),
        }
        # What the first and the last signal have, unless the options say it.
        channels = {
            "channel_max": shape("synthesis.input.weight", None, None)[0],
            "channel_base": shape(last[0], 3, None, 1, 1)[1] * resolution,
        }
        given = {name: options[name] for name in UNTRACED_ARGUMENTS if name in options}
        for name, value in given.items():
            if not (isinstance(value, int | float) and value > 0) and (name, value) != ("conv_clamp", None):
                raise Refusal(f"the generator was built with {name}={value!r}, no positive number; give another file")
        try:
            size = StyleGAN3Size(**(traced | channels | given))
            names = [size.layer_name(layer) for layer in range(size.num_layers + 1)]
        except (ArithmeticError, ValueError) as error:
            raise Refusal(f"the generator of this file cannot be built ({error}); give another file") from error
        for name in names:
            shape(f"synthesis.{name}.weight", None, None, None, None)
        return size

    @property
    def mean_code(self) -> Tensor:
        """(N, 512): the mean w that training kept, for every row."""
        return self.mapping.w_avg.expand(self.num_codes, -1)

    def map(self, z: Tensor) -> Tensor:
        """z (B, 512) ~ N(0, I) -> codes (B, N, 512), the same w in every row; not truncated."""
        w: Tensor = self.mapping(z)
        return w[:, None].expand(-1, self.num_codes, -1)

    def feature(self, codes: Tensor) -> Tensor:
        """codes (B, N, 512) -> output of convolution K (B, C, H, W), with the margin: G(w^{1:K+1})."""
        x = self.synthesis.get_submodule("input")(codes[:, 0])
        return self._layers(x, codes, 0, self.feature_layer, owned=True)

    def synthesize(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """codes (B, N, 512) -> picture (B, 3, R, R); ``feature`` replaces the output of convolution K."""
        check_shapes(self, codes, feature)
        x = self.feature(codes) if feature is None else feature.contiguous(memory_format=torch.channels_last)
        x = self._layers(x, codes, self.feature_layer, self.size.num_layers + 1, owned=feature is None)
        return x * self.size.output_scale

    def forward(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """The same as :meth:`synthesize`."""
        return self.synthesize(codes, feature)

    def _layers(self, x: Tensor, codes: Tensor, first: int, end: int, owned: bool) -> Tensor:
        """Layers ``first``..``end - 1``; ``owned`` says that nobody else reads x."""
        for i in range(first, end):
            layer = self.synthesis.get_submodule(self.size.layer_name(i))
            x = layer(x, codes[:, i + 1], (owned or i > first) and not torch.is_grad_enabled())
        return x
