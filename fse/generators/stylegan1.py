"""StyleGAN (Karras et al. 2019, "A Style-Based Generator Architecture for Generative Adversarial Networks"), as
released in PyTorch with in-domain inversion (Zhu et al. 2020, ``genforce/idinvert_pytorch``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, conv_transpose2d, leaky_relu_, linear

from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.generators.mapping import PixelNorm
from fse.generators.style_generator import check_shapes
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

CODE_DIM = 512
SLOPE = 0.2
MAX_RESOLUTION = 1024
FUSED_FROM = 128
"""The side of an upsampling layer's output from which its weight is stored as (3, 3, c_in, c_out)."""


@dataclass(frozen=True)
class StyleGAN1Size:
    """Size of a StyleGAN generator; the defaults are those of the in-domain release for 256 px.

    Attributes
    ----------
    resolution : int
        Side of the pictures, a power of two, at least 8.
    channels_base, channels_max : int
        A level of side S has min(channels_base / S, channels_max) channels.
    mapping_depth : int
        Layers of the mapping network.
    repeat_w : bool
        Whether the mapping gives one w for all layers, as in the original StyleGAN, or one for each.
    tanh : bool
        Whether the picture passes through tanh.
    """

    resolution: int = 256
    channels_base: int = 16384
    channels_max: int = 512
    mapping_depth: int = 8
    repeat_w: bool = False
    tanh: bool = True

    @property
    def num_layers(self) -> int:
        """Two a level: the constant and one convolution at 4 px, then two convolutions."""
        return 2 * int(log2(self.resolution)) - 2

    def side(self, layer: int) -> int:
        """Of the output of a layer, counted from 0, in pixels."""
        return int(4 * 2 ** (layer // 2))

    def channels(self, layer: int) -> int:
        """Of the output of a layer, counted from 0."""
        return min(self.channels_base // self.side(layer), self.channels_max)


class Dense(nn.Module):
    """Linear layer, equalised: the weight times gain / sqrt(c_in), and both parameters times a learning ``rate``."""

    def __init__(self, c_in: int, c_out: int, gain: float = 1.0, rate: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(c_in, c_out, bias=False)
        self.wscale = nn.ParameterDict({"bias": torch.zeros(c_out)})
        self.scale, self.rate = gain * c_in**-0.5 * rate, rate
        nn.init.normal_(self.fc.weight, std=1 / rate)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.fc.weight * self.scale, self.wscale["bias"] * self.rate)


class MappingNetwork(nn.Sequential):
    """z (B, 512) -> w (B, 512), or one for each of the layers, (B, N * 512)."""

    def __init__(self, size: StyleGAN1Size) -> None:
        super().__init__()
        self.add_module("norm", PixelNorm())
        widths = [CODE_DIM] * size.mapping_depth
        widths.append(CODE_DIM if size.repeat_w else size.num_layers * CODE_DIM)
        for i in range(size.mapping_depth):
            self.add_module(f"dense{i}", Dense(widths[i], widths[i + 1], gain=2**0.5, rate=0.01))
            self.add_module(f"activation{i}", nn.LeakyReLU(SLOPE))


class Truncation(nn.Module):
    """Codes (B, N, 512) moved to the mean w: by 0.3 of the distance in the first eight rows, not at all in the rest.

    ``truncation`` is stored in the release's files, but the release puts its own in place before it reads one.
    """

    truncation: Tensor
    w_avg: Tensor

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(CODE_DIM))
        self.register_buffer("truncation", torch.ones(1, num_layers, 1))
        self.truncation[:, :8] = 0.7

    def forward(self, codes: Tensor) -> Tensor:
        return torch.lerp(self.w_avg.expand_as(codes), codes, self.truncation)


class Noise(nn.Module):
    """Add a constant noise picture, at a strength learned for each channel."""

    noise: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.register_buffer("noise", torch.randn(1, 1, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.noise, self.weight[:, None, None])


class Epilogue(nn.Module):
    """What follows every convolution: noise, bias, leaky ReLU without gain, and the style (AdaIN).

    AdaIN normalises each channel of each picture, then scales and shifts it by an affine function of the code.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.apply_noise = Noise(channels, side)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style_mod = nn.ModuleDict({"dense": Dense(CODE_DIM, 2 * channels)})

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = leaky_relu_(self.apply_noise(x).add_(self.bias[:, None, None]), SLOPE)
        scale, shift = self.style_mod["dense"](code).to(x.dtype).chunk(2, 1)
        # Instance normalisation is batch normalisation of one sample with B * C channels, where each picture can
        # have an affine map of its own: one pass over x.
        channels = x.reshape(1, -1, *x.shape[2:])
        weight, bias = (scale + 1).flatten(), shift.flatten()
        styled: Tensor = batch_norm(channels, None, None, weight, bias, training=True, eps=1e-8)
        return styled.view_as(x)


class ConstantLayer(nn.Module):
    """Layer 0: the learned 4x4 input and its epilogue."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.ones(1, channels, 4, 4))
        self.epilogue = Epilogue(channels, 4)

    def forward(self, code: Tensor) -> Tensor:
        x: Tensor = self.epilogue(self.const.expand(len(code), -1, -1, -1), code)
        return x


class ConvLayer(nn.Module):
    """3x3 convolution and epilogue."""

    def __init__(self, c_in: int, c_out: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, bias=False)
        self.epilogue = Epilogue(c_out, side)
        self.scale = (2 / (9 * c_in)) ** 0.5
        nn.init.normal_(self.conv.weight)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = self.epilogue(conv2d(x, self.conv.weight * self.scale, padding=1), code)
        return x


class Blur(nn.Module):
    """Depthwise [1, 2, 1] x [1, 2, 1] / 16."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (row[:, None] * row / 16).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.kernel.to(x.dtype), padding=1, groups=len(self.kernel))


class UpConvLayer(nn.Module):
    """Nearest-neighbour enlargement by two, 3x3 convolution, blur, epilogue.

    Enlargement and convolution are together one transposed convolution of stride 2, whose 4x4 kernel is the sum of
    the 3x3 one at four shifts of a pixel: 16 products where the two steps take 36. The release does so from 128 px
    on, where it stores the kernel as the transposed convolution reads it, mirrored and as (3, 3, c_in, c_out).
    Here it is so at every size, and only the layout of the parameter differs.
    """

    spread: Tensor

    def __init__(self, c_in: int, c_out: int, side: int) -> None:
        super().__init__()
        self.fused = side >= FUSED_FROM
        if self.fused:
            self.weight = nn.Parameter(torch.randn(3, 3, c_in, c_out))
        else:
            self.conv = nn.Conv2d(c_in, c_out, 3, bias=False)
            nn.init.normal_(self.conv.weight)
        self.blur = Blur(c_out)
        self.epilogue = Epilogue(c_out, side)
        # 3 taps -> 4 along an axis, as a matrix; along both, (9, 16); the equalised learning rate's scale with it.
        shifts = torch.eye(3, 4) + torch.eye(3, 4).roll(1, 1)
        spread = torch.einsum("im,jn->ijmn", shifts, shifts).reshape(9, 16) * (2 / (9 * c_in)) ** 0.5
        self.register_buffer("spread", spread if self.fused else spread.flip(0), persistent=False)

    def kernel(self) -> Tensor:
        """The transposed convolution's, (c_in, c_out, 4, 4)."""
        taps = self.weight.flatten(0, 1).permute(1, 2, 0) if self.fused else self.conv.weight.transpose(0, 1).flatten(2)
        kernel: Tensor = (taps @ self.spread).unflatten(2, (4, 4))
        return kernel

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = self.epilogue(self.blur(conv_transpose2d(x, self.kernel(), stride=2, padding=1)), code)
        return x


class RGBOutput(nn.Module):
    """1x1 convolution to three channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.scale = channels**-0.5
        nn.init.normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.conv.weight * self.scale, self.bias)


class SynthesisNetwork(nn.Module):
    """``layer0`` .. ``layer{N-1}`` and, for the progressive training, an output at every level.

    ``lod`` was the training's position between levels. Released networks are at its end, 0, where only the last
    output counts, and that is what is computed here.
    """

    def __init__(self, size: StyleGAN1Size) -> None:
        super().__init__()
        self.register_buffer("lod", torch.zeros(()))
        self.layer0 = ConstantLayer(size.channels(0))
        for layer in range(1, size.num_layers):
            kind = ConvLayer if layer % 2 else UpConvLayer
            self.add_module(f"layer{layer}", kind(size.channels(layer - 1), size.channels(layer), size.side(layer)))
            if layer % 2:
                self.add_module(f"output{layer // 2}", RGBOutput(size.channels(layer)))


class StyleGAN1(SizedNetwork):
    """A :class:`~fse.generators.style_generator.StyleGenerator` under the release's parameter names.

    Layer 0 is the constant, layer k is convolution k, and each reads its own row of the codes: N = 2 log2(R) - 2,
    14 at 256 px. Convolutions 1..K therefore need rows 0..K, so ``feature_codes`` is K + 1; K = 5 ends at 16x16 with
    512 channels.

    Parameters
    ----------
    size : StyleGAN1Size, optional
        Default: the in-domain release for 256 px.
    feature_layer : int
        K, in 1..N-1; odd values end a level.
    """

    Size = StyleGAN1Size
    size: StyleGAN1Size
    rgb_skip = False

    def __init__(self, size: StyleGAN1Size | None = None, feature_layer: int = 5) -> None:
        super().__init__()
        self.size = size = size or StyleGAN1Size()
        if size.resolution < 8 or size.resolution & (size.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8 on, not {size.resolution}")
        if not 1 <= feature_layer < size.num_layers:
            raise ValueError(f"feature_layer must lie in 1..{size.num_layers - 1}, not {feature_layer}")
        self.resolution = size.resolution
        self.code_dim = CODE_DIM
        self.num_codes = size.num_layers
        self.feature_layer = feature_layer
        self.feature_codes = feature_layer + 1
        self.feature_shape = (size.channels(feature_layer), size.side(feature_layer), size.side(feature_layer))

        self.mapping = MappingNetwork(size)
        self.truncation = Truncation(size.num_layers)
        self.synthesis = SynthesisNetwork(size)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> StyleGAN1Size:
        """The size of a released network, from its parameters' names and shapes.

        Whether it ends in tanh leaves no trace in them; every in-domain network does.

        Raises
        ------
        Refusal
            When a parameter that tells the size is missing.
        """

        depth = consecutive(tensors, "mapping.dense{}.fc.weight")
        levels = consecutive(tensors, "synthesis.output{}.conv.weight")
        last, output = (
            f"mapping.dense{max(0, depth - 1)}.fc.weight",
            f"synthesis.output{max(1, levels - 1)}.conv.weight",
        )
        resolution = 2 * 2**levels
        if resolution > MAX_RESOLUTION:
            raise Refusal(f"{levels} outputs make {resolution} px, more than any StyleGAN's; choose another file")
        return StyleGAN1Size(
            resolution=resolution,
            channels_base=resolution * kernel_shape(tensors, output)[1],
            channels_max=kernel_shape(tensors, "synthesis.layer0.const")[1],
            mapping_depth=depth,
            repeat_w=kernel_shape(tensors, last, 2)[0] == CODE_DIM,
        )

    @property
    def mean_code(self) -> Tensor:
        """(N, 512): the release keeps one mean w for all rows, though its mapping gives each row its own."""
        return self.truncation.w_avg.expand(self.num_codes, -1)

    def map(self, z: Tensor) -> Tensor:
        """z (B, 512) ~ N(0, I) -> codes (B, N, 512), each row its own w unless ``repeat_w``; not truncated."""
        w: Tensor = self.mapping(z).unflatten(1, (-1, CODE_DIM))
        return w.expand(-1, self.num_codes, -1)

    def features(self, codes: Tensor, first: int = 0, last: int | None = None, x: Tensor | None = None) -> Tensor:
        """Run layers ``first``..``last`` (default: to the end); ``x`` is the output of layer ``first - 1``, if any."""
        if (x is None) != (first == 0):
            raise ValueError("features() takes x, the output of layer first - 1, exactly when first > 0")
        for layer in range(first, self.num_codes if last is None else last + 1):
            module = self.synthesis.get_submodule(f"layer{layer}")
            x = module(codes[:, layer]) if x is None else module(x, codes[:, layer])
        return cast(Tensor, x)

    def feature(self, codes: Tensor) -> Tensor:
        """codes (B, N, 512) -> output of convolution K, after its epilogue (B, C, H, W)."""
        return self.features(codes, last=self.feature_layer)

    def synthesize(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """codes (B, N, 512) -> picture (B, 3, R, R); ``feature`` replaces the output of convolution K."""
        check_shapes(self, codes, feature)
        if feature is None:
            feature = self.feature(codes)
        x = self.features(codes, self.feature_layer + 1, x=feature)
        picture: Tensor = self.synthesis.get_submodule(f"output{self.num_codes // 2 - 1}")(x)
        return picture.tanh() if self.size.tanh else picture

    def forward(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        """The same as :meth:`synthesize`."""
        return self.synthesize(codes, feature)
