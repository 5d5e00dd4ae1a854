"""The residual trunk that the encoders share: iResNet (Duta et al. 2020; ArcFace's release of it)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fse.sized_network import SizedNetwork


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
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    depths: tuple[int, int, int, int] = (3, 4, 14, 3)
    stem_width: int = 64
    stem_stride: int = 1
    input_channels: int = 3


class ResidualBlock(nn.Module):
    """BN, 3x3 conv, BN, PReLU, 3x3 conv with the stride, BN; plus the input, or its 1x1 projection.

    Parameter names are those of the official iResNet-50. No activation follows the sum.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.prelu = nn.PReLU(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        result: Tensor = identity + self.bn3(self.conv2(x))
        return result


class Trunk(SizedNetwork):
    """Picture (B, C, R, R) -> outputs of the four stages, each half the size of the one before.

    The parameters ``conv`` and ``block_1`` to ``block_4`` bear the names of the official FSE release.
    """

    block_1: nn.Sequential
    block_2: nn.Sequential
    block_3: nn.Sequential
    block_4: nn.Sequential

    def __init__(self, size: TrunkSize) -> None:
        super().__init__()
        width = size.stem_width
        self.conv = nn.Sequential(
            nn.Conv2d(size.input_channels, width, 3, size.stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
        )
        for i, (c_out, depth) in enumerate(zip(size.widths, size.depths, strict=True), start=1):
            blocks = [ResidualBlock(width, c_out, 2), *(ResidualBlock(c_out, c_out) for _ in range(depth - 1))]
            setattr(self, f"block_{i}", nn.Sequential(*blocks))
            width = c_out

    def stages(self, pictures: Tensor) -> list[Tensor]:
        """Outputs of block_1 .. block_4."""
        x = self.conv(pictures)
        outputs = []
        for block in (self.block_1, self.block_2, self.block_3, self.block_4):
            x = block(x)
            outputs.append(x)
        return outputs
