"""Face parsing with BiSeNet (Yu et al., ECCV 2018; zllrunning's face-parsing.PyTorch), and Eq. (7) on its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, max_pool2d, relu
from torchvision.models.resnet import BasicBlock

from fse.checkpoints.shapes import kernel_shape
from fse.sized_network import SizedNetwork

SIDE = 512  # of the pictures that the published network was trained on
Logits = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class BiSeNetSize:
    """Size of a BiSeNet; the defaults are the published network's (13,300,416 parameters).

    Attributes
    ----------
    classes : int
        Labels; CelebAMask-HQ's 19 are background, skin, left and right brow, left and right eye, glasses, left and
        right ear, earring, nose, mouth, upper and lower lip, neck, necklace, cloth, hair, hat.
    widths : tuple of int
        Channels of the four stages of the ResNet-18 trunk.
    context_width : int
        Channels of the context path, a multiple of 2; the heads on it are half as wide.
    """

    classes: int = 19
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    context_width: int = 128


class _ConvNorm(nn.Module):
    """Convolution of odd kernel that keeps the side, batch normalisation, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


class _ResNet18(nn.Module):
    """Picture -> maps of 1/8, 1/16 and 1/32 of its side; torchvision's blocks at any width, without the classifier."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(widths[0], widths[0], 1)
        self.layer2 = self._stage(widths[0], widths[1], 2)
        self.layer3 = self._stage(widths[1], widths[2], 2)
        self.layer4 = self._stage(widths[2], widths[3], 2)

    @staticmethod
    def _stage(c_in: int, c_out: int, stride: int) -> nn.Sequential:
        projection = None
        if stride != 1:
            projection = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        return nn.Sequential(BasicBlock(c_in, c_out, stride, projection), BasicBlock(c_out, c_out))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _AttentionRefinement(nn.Module):
    """Reduce the channels, then weigh each by a gate that is computed from its mean."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(c_in, c_out, 3)
        self.conv_atten = nn.Conv2d(c_out, c_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate: Tensor = self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True)))
        return x * gate.sigmoid()


class _ContextPath(nn.Module):
    """Picture -> the trunk's 1/8 map, and context carried down from the whole picture to 1/8 and 1/16."""

    def __init__(self, size: BiSeNetSize) -> None:
        super().__init__()
        width = size.context_width
        self.resnet = _ResNet18(size.widths)
        self.arm16 = _AttentionRefinement(size.widths[2], width)
        self.arm32 = _AttentionRefinement(size.widths[3], width)
        self.conv_head32 = _ConvNorm(width, width, 3)
        self.conv_head16 = _ConvNorm(width, width, 3)
        self.conv_avg = _ConvNorm(size.widths[3], width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(x)
        context = self.arm32(last) + self.conv_avg(last.mean((2, 3), keepdim=True))
        context16 = self.conv_head32(interpolate(context, size=sixteenth.shape[2:]))
        context = self.arm16(sixteenth) + context16
        return eighth, self.conv_head16(interpolate(context, size=eighth.shape[2:])), context16


class _FeatureFusion(nn.Module):
    """Two maps of the same side -> one, each channel amplified by a gate that is computed from its mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = _ConvNorm(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x: Tensor = self.convblk(torch.cat((spatial, context), 1))
        gate: Tensor = self.conv2(relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x + x * gate.sigmoid()


class _Head(nn.Module):
    """Map -> logits of the same side."""

    def __init__(self, c_in: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(c_in, width, 3)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv_out(self.conv(x))
        return logits


class BiSeNet(SizedNetwork):
    """Picture -> logits of its parts, three times: from the fused map and from the context at 1/8 and 1/16.

    Parameter names are those of the published ``79999_iter.pth``. The second and third map were deeply supervised
    in training; the first is the result.
    """

    Size = BiSeNetSize
    size: BiSeNetSize
    mean: Tensor
    std: Tensor

    def __init__(self, size: BiSeNetSize | None = None) -> None:
        super().__init__()
        self.size = size = size or BiSeNetSize()
        context, fused = size.context_width, size.widths[1] + size.context_width
        self.cp = _ContextPath(size)
        self.ffm = _FeatureFusion(fused)
        self.conv_out = _Head(fused, fused, size.classes)
        self.conv_out16 = _Head(context, context // 2, size.classes)
        self.conv_out32 = _Head(context, context // 2, size.classes)
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> BiSeNetSize:
        """The size of the network whose parameters ``tensors`` are.

        Raises
        ------
        Refusal
            Naming the parameter that a BiSeNet has and ``tensors`` lack.
        """
        names = ("conv_out.conv_out", *(f"cp.resnet.layer{i}.0.conv1" for i in range(1, 5)), "cp.conv_avg.conv")
        classes, first, second, third, fourth, context = (kernel_shape(tensors, f"{name}.weight")[0] for name in names)
        return BiSeNetSize(classes, (first, second, third, fourth), context)

    def prepare(self, pictures: Tensor) -> Tensor:
        """(B, 3, R, R) in [-1, 1], clamped -> (B, 3, 512, 512) with ImageNet's mean and deviation."""
        unit = (0.5 * pictures + 0.5).clamp(0, 1)
        return (interpolate(unit, size=(SIDE, SIDE), mode="bilinear") - self.mean) / self.std

    def forward(self, prepared: Tensor) -> Logits:
        """(B, 3, H, W) as from :meth:`prepare` -> three maps (B, classes, H, W)."""
        spatial, context8, context16 = self.cp(prepared)
        side = prepared.shape[2:]
        return (
            _enlarge(self.conv_out(self.ffm(spatial, context8)), side),
            _enlarge(self.conv_out16(context8), side),
            _enlarge(self.conv_out32(context16), side),
        )

    def labels(self, pictures: Tensor) -> Tensor:
        """(B, 3, R, R) in [-1, 1] -> (B, 512, 512), the number of each pixel's class (:class:`BiSeNetSize`)."""
        logits: Logits = self(self.prepare(pictures))
        return logits[0].argmax(1)


def _enlarge(logits: Tensor, size: torch.Size) -> Tensor:
    """Corners aligned, as published; :meth:`BiSeNet.prepare` does not align them."""
    return interpolate(logits, size=size, mode="bilinear", align_corners=True)


def parsing_terms(logits: Logits, target: Logits) -> Tensor:
    """The terms 1 - <P_i(x'), P_i(x)> of Eq. (7), in [0, 2]; the loss is their sum, averaged over the batch.

    The paper sums five; the released code, and this, the three logit maps of ``network(network.prepare(pictures))``.

    Parameters
    ----------
    logits, target : tuple of three Tensors
        (B, classes, H, W) of the reconstructions and of the pictures; compute the latter once for several
        reconstructions.

    Returns
    -------
    Tensor
        (3, B), in single precision at least.
    """
    return torch.stack([1 - cosine_similarity(_flat(a), _flat(b)) for a, b in zip(logits, target, strict=True)])


def _flat(logits: Tensor) -> Tensor:
    # The sum runs over five million numbers, and the cosine of a good reconstruction is nearly 1.
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(1)
