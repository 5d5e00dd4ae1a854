"""pSp (Richardson et al., "Encoding in Style", CVPR 2021): a feature pyramid, one map-to-style block a code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from baselines.map_to_style import MapToStyle
from fse.checkpoints.network_file import read_network
from fse.generators.style_generator import StyleGenerator
from fse.inverter import CodesInverter
from fse.losses import MultiScalePerceptualLoss, pixel_loss, reduce
from fse.objective import Batch, Terms, codes_for
from fse.perceptual import STLPIPS
from fse.trunk import Trunk, TrunkSize


@dataclass(frozen=True)
class PyramidSize:
    """Size of a pSp encoder.

    Attributes
    ----------
    num_codes, code_dim : int
        Codes in W+ that the generator takes, and their length.
    trunk : TrunkSize
        The trunk; the pyramid has its last stage's width.
    head_width : int
        Channels inside the map-to-style blocks; 512 officially.
    side : int
        Side of the pictures; fixes the number of convolutions in the blocks.
    coarse, middle : int
        The first code that reads the middle and the fine level of the pyramid; 3 and 7 officially.
    """

    num_codes: int = 18
    code_dim: int = 512
    trunk: TrunkSize = field(default_factory=TrunkSize)
    head_width: int = 512
    side: int = 256
    coarse: int = 3
    middle: int = 7


class PyramidEncoder(Trunk):
    """Picture (B, 3, side, side) in [-1, 1] -> offsets of the codes (B, N, 512).

    Codes before ``coarse`` read the trunk's last stage, those before ``middle`` the next pyramid level, the
    rest the finest; levels are added after bilinear enlargement (align_corners, as officially).
    """

    Size = PyramidSize
    size: PyramidSize

    def __init__(self, size: PyramidSize | None = None) -> None:
        size = size or PyramidSize()
        super().__init__(size.trunk)
        self.size = size
        width = size.trunk.widths[3]
        self.latlayer1 = nn.Conv2d(size.trunk.widths[2], width, 1)
        self.latlayer2 = nn.Conv2d(size.trunk.widths[1], width, 1)
        last = size.side // (16 * size.trunk.stem_stride)
        sides = [last if i < size.coarse else 2 * last if i < size.middle else 4 * last for i in range(size.num_codes)]
        self.styles = nn.ModuleList(MapToStyle(width, size.head_width, side, size.code_dim) for side in sides)

    def forward(self, pictures: Tensor) -> Tensor:
        _, fine, middle, coarse = self.stages(pictures)
        p2 = _enlarge(coarse, middle) + self.latlayer1(middle)
        p1 = _enlarge(p2, fine) + self.latlayer2(fine)
        levels = [
            coarse if i < self.size.coarse else p2 if i < self.size.middle else p1 for i in range(self.size.num_codes)
        ]
        return torch.stack([style(level) for style, level in zip(self.styles, levels, strict=True)], 1)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


@dataclass(frozen=True)
class PSPWeights:
    """pSp's loss weights: L2 1.0 and perceptual 0.8 on every picture.

    Its identity term (0.1, ArcFace) needs a network that the embedded profile does not have.
    """

    pixel: float = 1.0
    perceptual: float = 0.8


class PSPObjective(nn.Module):
    """pSp's losses, with the same warm start, data and perceptual network as every method here."""

    def __init__(
        self,
        encoder: PyramidEncoder,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        sides: Sequence[int],
        weights: PSPWeights,
    ) -> None:
        super().__init__()
        self.network = encoder
        self.generator = generator
        self.perceptual = perceptual
        self.scales = MultiScalePerceptualLoss(perceptual, sides)
        self.weights = weights

    def forward(self, batch: Batch, generator: StyleGenerator | None) -> Terms:
        codes = self.network(batch.pictures).float() + self.generator.mean_code
        if generator is None:
            loss = mse_loss(codes[batch.synthetic], batch.codes)
            return {"codes": loss, "loss": loss}
        target = reduce(batch.pictures, generator.resolution)
        picture = generator.synthesize(codes_for(generator, codes)).float()
        terms = {
            "mse": pixel_loss(picture, target),
            "perceptual": self.scales(picture, self.scales.target(target)),
        }
        terms["loss"] = self.weights.pixel * terms["mse"] + self.weights.perceptual * terms["perceptual"]
        return terms

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """G(w) as ``codes``."""
        codes = self.network(pictures).float() + self.generator.mean_code
        return {"codes": self.generator.synthesize(codes).float()}


def load_psp(generator: StyleGenerator, weights: Path) -> CodesInverter:
    """pSp with the trained weights ``psp.safetensors`` of the folder ``weights``."""
    encoder = read_network(weights / "psp.safetensors", PyramidEncoder)
    return CodesInverter(encoder.to(generator.mean_code.device), generator)
