"""The residual trunk that every encoder and face recognition network here shares.

Two families of names and small differences: iResNet (Duta et al. 2020; ArcFace's release, and FSE's encoder), and IR,
with or without squeeze-and-excitation (ArcFace's earlier blocks; pSp, e4e, ReStyle, HFGI and CurricularFace).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from fse.checkpoints.checkpoint import check_parameters
from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

Form = Literal["iresnet", "ir", "ir_se"]


@dataclass(frozen=True)
class TrunkSize:
    """Width and depth of a trunk; the defaults are iResNet-50's, with stride 1 at the start as in FSE.

    Attributes
    ----------
    widths, depths : tuple of int
        Output channels and residual blocks of the four halving stages.
    stem_width, stem_stride : int
        Channels and stride of the first convolution. Light trunks halve the picture there at once.
    input_channels : int
        3; 6 in FSE's video form and in ReStyle.
    form : {"iresnet", "ir", "ir_se"}
        Kind of :class:`ResidualBlock`, and the parameters' names.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    depths: tuple[int, int, int, int] = (3, 4, 14, 3)
    stem_width: int = 64
    stem_stride: int = 1
    input_channels: int = 3
    form: Form = "iresnet"


class SqueezeExcitation(nn.Module):
    """A gate for each channel out of all channels' means (Hu et al. 2018), with a hidden width of C / 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x * gate


class ResidualBlock(nn.Module):
    """BN, 3x3 conv, (BN,) PReLU, 3x3 conv with the stride, BN (, SE); plus the input. No activation after the sum.

    ``iresnet`` has the middle normalisation, and projects the input by a 1x1 convolution and BN when stride or width
    change; ``ir`` has neither gate nor middle normalisation, and projects only when the width changes: with equal
    widths a stride merely drops pixels; ``ir_se`` ends in :class:`SqueezeExcitation`. Parameters are named as in the
    official networks: bn1 .. bn3 and ``downsample``, or ``res_layer`` and ``shortcut_layer``.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1, form: Form = "iresnet") -> None:
        super().__init__()
        self.form, self.stride = form, stride
        first = nn.BatchNorm2d(c_in)
        conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        prelu = nn.PReLU(c_out)
        conv2 = nn.Conv2d(c_out, c_out, 3, stride, padding=1, bias=False)
        last = nn.BatchNorm2d(c_out)
        projection: nn.Module | None = None
        if c_in != c_out or (form == "iresnet" and stride != 1):
            projection = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        if form == "iresnet":
            self.bn1, self.conv1, self.bn2, self.prelu = first, conv1, nn.BatchNorm2d(c_out), prelu
            self.conv2, self.bn3, self.downsample = conv2, last, projection
        else:
            gate = [SqueezeExcitation(c_out)] if form == "ir_se" else []
            self.res_layer = nn.Sequential(first, conv1, prelu, conv2, last, *gate)
            self.shortcut_layer = projection

    def forward(self, x: Tensor) -> Tensor:
        identity = self._shortcut(x)
        if self.form == "iresnet":
            x = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        else:
            x = self.res_layer(x)
        return identity + x

    def _shortcut(self, x: Tensor) -> Tensor:
        projection = self.downsample if self.form == "iresnet" else self.shortcut_layer
        if projection is not None:
            projected: Tensor = projection(x)
            return projected
        return x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]


def stage(c_in: int, c_out: int, depth: int, form: Form) -> list[ResidualBlock]:
    """One stage of a trunk: ``depth`` blocks, the first of which halves the map."""
    return [ResidualBlock(c_in, c_out, 2, form), *(ResidualBlock(c_out, c_out, 1, form) for _ in range(depth - 1))]


class Trunk(SizedNetwork):
    """Picture (B, C, R, R) -> outputs of the four stages, each half the size of the one before.

    The parameters are named as in the official release of FSE (``iresnet``: ``conv``, ``block_1`` to ``block_4``) or
    as in those of the pSp family (``input_layer``, and all stages in a row in ``body``).
    """

    block_1: nn.Sequential
    block_2: nn.Sequential
    block_3: nn.Sequential
    block_4: nn.Sequential

    def __init__(self, size: TrunkSize) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(size.input_channels, size.stem_width, 3, size.stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(size.stem_width),
            nn.PReLU(size.stem_width),
        )
        widths = pairwise((size.stem_width, *size.widths))
        stages = [stage(*pair, depth, size.form) for pair, depth in zip(widths, size.depths, strict=True)]
        self.form, self.ends = size.form, tuple(accumulate(size.depths))
        if size.form == "iresnet":
            self.conv = stem
            self.block_1, self.block_2, self.block_3, self.block_4 = (nn.Sequential(*blocks) for blocks in stages)
        else:
            self.input_layer = stem
            self.body = nn.Sequential(*chain.from_iterable(stages))

    def stages(self, pictures: Tensor) -> list[Tensor]:
        """Outputs of the four stages."""
        outputs = []
        if self.form == "iresnet":
            x = self.conv(pictures)
            for block in (self.block_1, self.block_2, self.block_3, self.block_4):
                x = block(x)
                outputs.append(x)
        else:
            x = self.input_layer(pictures)
            for number, layer in enumerate(self.body, start=1):
                x = layer(x)
                if number in self.ends:
                    outputs.append(x)
        return outputs


def start_from_arcface(trunk: Trunk, arcface: Mapping[str, Tensor], source: Path | str) -> None:
    """Give an iResNet trunk the weights of ArcFace's (``backbone.pth``), where the FSE release begins its training.

    Raises
    ------
    Refusal
        Naming the parameter that ``arcface``, of the file ``source``, lacks or has in another shape.
    """
    names = {}
    for name in trunk.state_dict():
        part, _, rest = name.partition(".")
        if part == "conv":
            number, _, kind = rest.partition(".")
            names[name] = f"{('conv1', 'bn1', 'prelu')[int(number)]}.{kind}"
        elif part.startswith("block_"):
            names[name] = f"layer{part.removeprefix('block_')}.{rest}"
    wanted = {official: tuple(trunk.state_dict()[name].shape) for name, official in names.items()}
    check_parameters(wanted, arcface, source, "give ArcFace's backbone.pth")
    trunk.load_state_dict({name: arcface[official] for name, official in names.items()}, strict=False)


def iresnet_size(tensors: Mapping[str, Tensor], stem: str = "conv.0", stages: str = "block_{}") -> TrunkSize:
    """Size of the iResNet-form trunk whose parameters are among ``tensors``; the stem's stride, 1, leaves no trace.

    ``stem`` and ``stages`` are the names of the first convolution and of the stages, numbered from 1. Raises Refusal
    naming the parameter that is missing.
    """
    channels, inputs = kernel_shape(tensors, f"{stem}.weight")[:2]
    names = [stages.format(i) for i in range(1, 5)]
    w1, w2, w3, w4 = (kernel_shape(tensors, f"{name}.0.conv1.weight")[0] for name in names)
    d1, d2, d3, d4 = (consecutive(tensors, name + ".{}.conv1.weight") for name in names)
    return TrunkSize((w1, w2, w3, w4), (d1, d2, d3, d4), channels, input_channels=inputs)


def ir_size(tensors: Mapping[str, Tensor]) -> TrunkSize:
    """Size of the IR-form trunk whose parameters are among ``tensors``; its stages are told apart by their widths.

    Raises Refusal naming the parameter that is missing.
    """
    channels, inputs = kernel_shape(tensors, "input_layer.0.weight")[:2]
    kernel = "body.{}.res_layer.1.weight"
    blocks = [kernel_shape(tensors, kernel.format(i))[0] for i in range(consecutive(tensors, kernel))]
    stages = [(width, len(list(run))) for width, run in groupby(blocks)]
    if len(stages) != 4:
        raise Refusal(f"the blocks {kernel.format('*')} have {len(stages)} widths and not 4; choose another file")
    (w1, d1), (w2, d2), (w3, d3), (w4, d4) = stages
    form: Form = "ir_se" if "body.0.res_layer.5.fc1.weight" in tensors else "ir"
    return TrunkSize((w1, w2, w3, w4), (d1, d2, d3, d4), channels, input_channels=inputs, form=form)
