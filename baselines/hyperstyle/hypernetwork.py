"""The hypernetwork: what it sees of picture and reconstruction, as relative offsets of the generator's weights.

Layers are counted as in the official release, in the order in which the generator computes them: convolution and RGB
output of 4 px, then two convolutions and an RGB output a level. Officially all convolutions are tuned, and no RGB
output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, groupby, pairwise
from math import isqrt, prod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.generators.mapping import EqualLinear
from fse.generators.stylegan2 import published_channels
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork


class Layer(NamedTuple):
    """A modulated convolution of the generator.

    Attributes
    ----------
    name : str
        Of its weight (1, outputs, inputs, kernel, kernel) in :class:`~fse.generators.stylegan2.StyleGAN2`.
    kernel, inputs, outputs : int
        Of the weight; a kernel of 1 is an RGB output.
    """

    name: str
    kernel: int
    inputs: int
    outputs: int


def generator_layers(channels: tuple[int, ...]) -> list[Layer]:
    """All of the layers of a generator with ``channels`` at its levels from 4 px on: 26 for 1024 px."""
    first = channels[0]
    layers = [Layer("conv1.conv.weight", 3, first, first), Layer("to_rgb1.conv.weight", 1, first, 3)]
    for level, (below, here) in enumerate(pairwise(channels)):
        layers += [
            Layer(f"convs.{2 * level}.conv.weight", 3, below, here),
            Layer(f"convs.{2 * level + 1}.conv.weight", 3, here, here),
            Layer(f"to_rgbs.{level}.conv.weight", 1, here, 3),
        ]
    return layers


@dataclass(frozen=True)
class HyperNetworkSize:
    """Size of a hypernetwork; the defaults are the official ones, at 1024 px.

    Attributes
    ----------
    channels : tuple of int
        The generator's, at each level from 4 px on.
    layers : tuple of int
        Which layers are tuned; the official option ``layers_to_tune``.
    shared : tuple of int
        Those whose offsets come from the shared head, one for each number of a kernel; the others have one for each
        pair of channels.
    input_channels : int
        Picture and reconstruction.
    widths, depths : tuple of int
        Channels and basic blocks of the four stages; those of ResNet-34.
    shared_width, own_width : int
        Channels inside the refinement blocks of the shared and of the other layers.
    code_dim : int
        Channels at their end.
    """

    channels: tuple[int, ...] = published_channels(1024)
    layers: tuple[int, ...] = (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24)
    shared: tuple[int, ...] = (0, 2, 3, 5, 6, 8, 9, 11, 12)
    input_channels: int = 6
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    shared_width: int = 128
    own_width: int = 256
    code_dim: int = 512


class SharedHead(nn.Module):
    """A code (B, D) -> the offsets of a layer of C to C channels (B, C, C, 3, 3); one for all such layers.

    Two matrices one after the other (Ha et al., "HyperNetworks", ICLR 2017): the first makes a code of every channel.
    """

    def __init__(self, code_dim: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.w1 = nn.Parameter(torch.randn(code_dim, channels * 9) / 40)
        self.b1 = nn.Parameter(torch.randn(channels * 9) / 40)
        self.w2 = nn.Parameter(torch.randn(code_dim, channels * code_dim) / 40)
        self.b2 = nn.Parameter(torch.randn(channels * code_dim) / 40)

    def forward(self, code: Tensor) -> Tensor:
        codes = (code @ self.w2 + self.b2).unflatten(1, (self.channels, -1))
        kernels: Tensor = codes @ self.w1 + self.b1
        return kernels.reshape(-1, self.channels, self.channels, 3, 3)


class SharedBlock(nn.Module):
    """The map (B, C, 16, 16) -> a code (B, D) for the shared head."""

    def __init__(self, c_in: int, width: int, code_dim: int) -> None:
        super().__init__()
        self.convs = _convolutions([c_in, width, width, width, width, code_dim], first_stride=1)
        self.linear = EqualLinear(code_dim, code_dim)

    def forward(self, x: Tensor) -> Tensor:
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code


class OwnBlock(nn.Module):
    """The map (B, C, 16, 16) -> the offsets of one layer, the same all over a kernel (B, outputs, inputs, 1, 1)."""

    def __init__(self, c_in: int, width: int, code_dim: int, layer: Layer) -> None:
        super().__init__()
        self.shape = (layer.outputs, layer.inputs)
        head = nn.Conv2d(code_dim, layer.outputs * layer.inputs, 1)
        if layer.kernel == 1:
            self.convs = _convolutions([c_in, width, width, width, code_dim])
            self.output = nn.Sequential(head)
        else:
            self.convs = _convolutions([c_in, width, width, code_dim])
            self.output = nn.Sequential(nn.AdaptiveAvgPool2d(1), head)

    def forward(self, x: Tensor) -> Tensor:
        offsets: Tensor = self.output(self.convs(x))
        return offsets.reshape(-1, *self.shape, 1, 1)


def _convolutions(widths: list[int], first_stride: int = 2) -> nn.Sequential:
    """3x3 convolutions that halve the map, but for a first one of another stride; leaky ReLU 0.01 after each."""
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(c_in, c_out, 3, 2 if i else first_stride, padding=1), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


class HyperNetwork(SizedNetwork):
    """Picture and reconstruction (B, 6, S, S) in [-1, 1] -> the offsets of each tuned layer, relative to its weight.

    S is 256 officially, and any multiple of 16 up to it. A shared layer's offsets are (B, outputs, inputs, 3, 3), the
    others' (B, outputs, inputs, 1, 1): the layer's weight becomes ``weight * (1 + offsets)``. The trunk is ResNet-34
    without its pooling, and with a PReLU after the first convolution. Parameter names are those under ``hypernet.`` in
    the official ``hyperstyle_ffhq.pt``, which has the shared head again under each block that uses it.
    """

    Size = HyperNetworkSize
    size: HyperNetworkSize

    def __init__(self, size: HyperNetworkSize | None = None) -> None:
        super().__init__()
        self.size = size = size or HyperNetworkSize()
        stem, last = size.widths[0], size.widths[3]
        self.conv1 = nn.Conv2d(size.input_channels, stem, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.PReLU(stem)
        blocks: list[nn.Module] = []
        below = stem
        for width, depth in zip(size.widths, size.depths, strict=True):
            for i in range(depth):
                blocks.append(_basic_block(below if i == 0 else width, width, halve=i == 0 and len(blocks) > 0))
            below = width
        self.body = nn.Sequential(*blocks)
        self.layers = generator_layers(size.channels)
        shared = {(self.layers[i].inputs, self.layers[i].outputs, self.layers[i].kernel) for i in size.shared}
        if len(shared) != 1 or (channels := next(iter(shared)))[0] != channels[1] or channels[2] != 3:
            raise ValueError(f"layers of one shape alone, C to C, can share a head, and these are {sorted(shared)}")
        self.shared_weight_hypernet = SharedHead(size.code_dim, channels[0])
        # By their official numbers, which leave out the layers that are not tuned.
        self.refinement_blocks = nn.ModuleDict()
        for i in size.layers:
            self.refinement_blocks[str(i)] = (
                SharedBlock(last, size.shared_width, size.code_dim)
                if i in size.shared
                else OwnBlock(last, size.own_width, size.code_dim, self.layers[i])
            )

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> HyperNetworkSize:
        """Size of the official network with the parameters ``tensors``; raises Refusal naming one that is missing.

        The second convolution of every level has to be tuned: its block tells the channels.
        """
        stem, inputs = kernel_shape(tensors, "conv1.weight")[:2]
        kernel = "body.{}.conv1.weight"
        blocks = [kernel_shape(tensors, kernel.format(i))[0] for i in range(consecutive(tensors, kernel))]
        stages = [(width, len(list(run))) for width, run in groupby(blocks)]
        if len(stages) != 4 or stages[0][0] != stem:
            raise Refusal(f"the blocks {kernel.format('*')} are no four stages of a ResNet; choose another file")
        code_dim, kernels = kernel_shape(tensors, "shared_weight_hypernet.w1", 2)
        block = "refinement_blocks.{}.{}"
        tuned = [i for i in range(64) if block.format(i, "convs.0.weight") in tensors]
        shared = [i for i in tuned if block.format(i, "linear.weight") in tensors]
        channels = []
        for level in count():
            layer = 3 * level  # 0, 3, 6, ...: the convolutions from a level's channels to the same
            if layer > max(tuned, default=0):
                break
            if layer in shared:
                channels.append(kernels // 9)
            else:
                channels.append(isqrt(kernel_shape(tensors, block.format(layer, "output.1.weight"))[0]))
        widths = {kind: 0 for kind in ("shared", "own")}
        for i in tuned:
            width = kernel_shape(tensors, block.format(i, "convs.0.weight"))[0]
            widths["shared" if i in shared else "own"] = width
        return HyperNetworkSize(
            tuple(channels),
            tuple(tuned),
            tuple(shared),
            inputs,
            cast(tuple[int, int, int, int], tuple(width for width, _ in stages)),
            cast(tuple[int, int, int, int], tuple(depth for _, depth in stages)),
            widths["shared"],
            widths["own"] or HyperNetworkSize.own_width,
            code_dim,
        )

    @property
    def tuned(self) -> list[Layer]:
        """The generator's layers that the outputs of :meth:`forward` belong to."""
        return [self.layers[i] for i in self.size.layers]

    def parts(self, offsets: Tensor) -> list[Tensor]:
        """(B, P) offsets of all tuned layers in a row -> what :meth:`forward` gives."""
        sides = {i: 3 if i in self.size.shared else 1 for i in self.size.layers}
        shapes = [(self.layers[i].outputs, self.layers[i].inputs, side, side) for i, side in sides.items()]
        parts = offsets.split([prod(shape) for shape in shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def forward(self, picture_and_estimate: Tensor) -> tuple[Tensor, ...]:
        x = self.body(self.relu(self.bn1(self.conv1(picture_and_estimate))))
        outputs = {i: self.refinement_blocks[str(i)](x) for i in self.size.layers}
        return tuple(
            self.shared_weight_hypernet(output) if i in self.size.shared else output for i, output in outputs.items()
        )


def _basic_block(c_in: int, c_out: int, halve: bool) -> BasicBlock:
    stride = 2 if halve else 1
    change = (
        nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)) if c_in != c_out else None
    )
    return BasicBlock(c_in, c_out, stride, change)
