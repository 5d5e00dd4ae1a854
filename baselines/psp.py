"""pSp (Richardson et al., "Encoding in Style", CVPR 2021): a feature pyramid, one map-to-style block a code.

The encoders of e4e, ReStyle and HFGI are the same network at other settings of :class:`PyramidSize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss
from torchvision.transforms import Resize

from baselines.map_to_style import MapToStyle
from baselines.psp_checkpoint import REMEDY, read_psp_family
from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.network_file import read_network
from fse.checkpoints.shapes import consecutive, kernel_shape
from fse.generators.style_generator import StyleGenerator
from fse.inverter import CodesInverter
from fse.losses import MultiScalePerceptualLoss, pixel_loss, reduce
from fse.objective import Batch, Critic, Estimate, Pass, codes_for
from fse.perceptual import STLPIPS
from fse.refusal import Refusal
from fse.trunk import Trunk, TrunkSize, ir_size

T = TypeVar("T")


@dataclass(frozen=True)
class PyramidSize:
    """Size of an encoder of the pSp family; the defaults are pSp's official ones, at 1024 px.

    Attributes
    ----------
    num_codes, code_dim : int
        Codes in W+ that the generator takes, and their length.
    trunk : TrunkSize
        The trunk; the pyramid has its last stage's width. The light encoders take FSE's.
    head_width : int
        Channels inside the map-to-style blocks; 512 officially.
    side : int
        Side of the pictures; fixes the number of convolutions in the blocks.
    coarse, middle : int
        The first code that reads the middle and the fine level of the pyramid; 3 and 7 officially.
    pyramid : bool
        Whether there is a pyramid; without one, as in ReStyle, every code reads the trunk's last stage.
    progressive : bool
        Whether the rows after the first are offsets from it, as in e4e; otherwise they are independent.
    """

    num_codes: int = 18
    code_dim: int = 512
    trunk: TrunkSize = field(default_factory=lambda: TrunkSize(form="ir_se"))
    head_width: int = 512
    side: int = 256
    coarse: int = 3
    middle: int = 7
    pyramid: bool = True
    progressive: bool = False


class PyramidEncoder(Trunk):
    """Picture (B, C, side, side) in [-1, 1] -> offsets of the codes (B, N, 512).

    Codes before ``coarse`` read the trunk's last stage, those before ``middle`` the next pyramid level, the
    rest the finest; levels are added after bilinear enlargement (align_corners, as officially).

    Attributes
    ----------
    free_rows : int
        Of a progressive encoder: how many rows after the first have their offset; the others equal the first. All
        have, unless a training says otherwise (:func:`baselines.e4e.free_rows_at`).
    """

    Size = PyramidSize
    size: PyramidSize

    def __init__(self, size: PyramidSize | None = None) -> None:
        size = size or PyramidSize()
        super().__init__(size.trunk)
        self.size = size
        self.free_rows = size.num_codes - 1
        width = size.trunk.widths[3]
        last = size.side // (16 * size.trunk.stem_stride)
        sides = [last] * size.num_codes
        if size.pyramid:
            self.latlayer1 = nn.Conv2d(size.trunk.widths[2], width, 1)
            self.latlayer2 = nn.Conv2d(size.trunk.widths[1], width, 1)
            sides = _rows(size, last, 2 * last, 4 * last)
        self.styles = nn.ModuleList(MapToStyle(width, size.head_width, side, size.code_dim) for side in sides)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> PyramidSize:
        """Size of the official encoder with the parameters ``tensors``; raises Refusal naming one that is missing.

        Whether its rows are progressive only ``options`` tell, by the ``encoder_type``.
        """
        code_dim = kernel_shape(tensors, "styles.0.linear.weight", 2)[0]
        num_codes = consecutive(tensors, "styles.{}.linear.weight")
        kernels = [name.rpartition(".convs.")[0] for name in tensors if ".convs." in name and name.endswith(".weight")]
        depths = [kernels.count(f"styles.{i}") for i in range(num_codes)]
        pyramid = "latlayer1.weight" in tensors
        levels = (sum(depth <= depths[0] + level for depth in depths) for level in (0, 1))
        coarse, middle = levels if pyramid else (PyramidSize.coarse, PyramidSize.middle)
        return PyramidSize(
            num_codes,
            code_dim,
            ir_size(tensors),
            kernel_shape(tensors, "styles.0.convs.0.weight")[0],
            16 * 2 ** depths[0],
            coarse,
            middle,
            pyramid,
            options.get("encoder_type") in ("Encoder4Editing", "ProgressiveBackboneEncoder"),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return self.offsets(self.stages(pictures))

    def offsets(self, stages: Sequence[Tensor]) -> Tensor:
        """What :meth:`forward` gives, from the outputs of the trunk's four stages."""
        _, fine, middle, coarse = stages
        levels = [coarse] * self.size.num_codes
        if self.size.pyramid:
            p2 = _enlarge(coarse, middle) + self.latlayer1(middle)
            p1 = _enlarge(p2, fine) + self.latlayer2(fine)
            levels = _rows(self.size, coarse, p2, p1)
        rows = self.free_rows + 1 if self.size.progressive else self.size.num_codes
        codes = torch.stack([style(level) for style, level in zip(self.styles, levels[:rows], strict=False)], 1)
        if not self.size.progressive:
            return codes
        first = codes[:, :1]
        return torch.cat((first, first + codes[:, 1:], first.expand(-1, self.size.num_codes - rows, -1)), 1)


def _rows(size: PyramidSize, coarse: T, middle: T, fine: T) -> list[T]:
    """What each row of the codes gets of what belongs to its level of the pyramid."""
    return [coarse if i < size.coarse else middle if i < size.middle else fine for i in range(size.num_codes)]


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

    passes = 1
    critic: Critic | None

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
        self.critic = None

    def forward(self, batch: Batch, generator: StyleGenerator | None, before: Estimate | None = None) -> Pass:
        codes = self.offsets(batch.pictures, batch.progress) + self.generator.mean_code
        return self.judge(batch, generator, codes)

    def offsets(self, seen: Tensor, progress: float) -> Tensor:
        """What the encoder makes of its input at ``progress``: (B, N, 512)."""
        offsets: Tensor = self.network(seen).float()
        return offsets

    def judge(self, batch: Batch, generator: StyleGenerator | None, codes: Tensor) -> Pass:
        """The losses of codes (B, N, 512), and their estimate unless this is the warm start."""
        if generator is None:
            loss = mse_loss(codes[batch.synthetic], batch.codes)
            return Pass({"codes": loss, "loss": loss})
        target = reduce(batch.pictures, generator.resolution)
        picture = generator.synthesize(codes_for(generator, codes)).float()
        terms = {
            "mse": pixel_loss(picture, target),
            "perceptual": self.scales(picture, self.scales.target(target)),
        }
        terms["loss"] = self.weights.pixel * terms["mse"] + self.weights.perceptual * terms["perceptual"]
        return Pass(terms, Estimate(codes.detach(), picture.detach()))

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """G(w) as ``codes``."""
        codes = self.network(pictures).float() + self.generator.mean_code
        return {"codes": self.generator.synthesize(codes).float()}


def load_psp(generator: StyleGenerator, weights: Path) -> CodesInverter:
    """pSp with the trained weights ``psp.safetensors`` of the folder ``weights``."""
    return CodesInverter(read_encoder(weights / "psp.safetensors", generator), generator)


def read_encoder(
    path: Path, generator: StyleGenerator, *, pyramid: bool = True, progressive: bool = False
) -> PyramidEncoder:
    """A trained encoder of the family, on the generator's device.

    Raises
    ------
    Refusal
        When the file is missing or damaged, or holds another encoder of the family, which has the same parameters.
    """
    encoder = read_network(path, PyramidEncoder)
    found, wanted = (encoder.size.pyramid, encoder.size.progressive), (pyramid, progressive)
    if found != wanted:
        names = {
            (True, False): "pSp",
            (True, True): "e4e",
            (False, False): "ReStyle (pSp)",
            (False, True): "ReStyle (e4e)",
        }
        raise Refusal(
            f"{path} holds an encoder of {names[found]}, not of {names[wanted]}; restore it with "
            f"`git checkout -- {path}` or train it with `dvc repro`"
        )
    return encoder.to(generator.mean_code.device)


def read_official_encoder(path: Path, *encoder_types: str) -> tuple[PyramidEncoder, StyleGenerator]:
    """The encoder and the generator of an official checkpoint whose options name one of ``encoder_types``.

    Files of pSp and e4e have the same parameters, so that the type must be checked. Raises Refusal when the file is
    another, naming the type or the parameter.
    """
    tensors, generator, options = read_psp_family(path)
    found = options.get("encoder_type", "network of unknown kind")
    if found not in encoder_types:
        raise Refusal(f"{path}: its encoder is a {found} and not a {' or '.join(encoder_types)}; {REMEDY}")
    encoder = official_network(PyramidEncoder, tensors, options, path, REMEDY)
    if encoder.size.num_codes != generator.num_codes:
        codes = f"its encoder gives {encoder.size.num_codes} codes, and its generator takes {generator.num_codes}"
        raise Refusal(f"{path}: {codes}; {REMEDY}")
    return encoder, generator


def official_inverter(encoder: PyramidEncoder, generator: StyleGenerator) -> CodesInverter:
    """G(w) for pictures of any side, which the official scripts reduce like Pillow: bilinear and antialiased."""
    return CodesInverter(nn.Sequential(Resize([encoder.size.side] * 2), encoder), generator)


def load_official_psp(path: Path) -> CodesInverter:
    """pSp with its generator, from the official file (``psp_ffhq_encode.pt``)."""
    return official_inverter(*read_official_encoder(path, "GradualStyleEncoder"))
