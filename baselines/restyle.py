"""ReStyle (Alaluf et al., ICCV 2021): an encoder that sees picture and last estimate corrects the codes repeatedly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, mse_loss

from baselines.e4e import E4EObjective, E4EWeights
from baselines.psp import PSPObjective, PSPWeights, PyramidEncoder, PyramidSize, read_encoder, read_official_encoder
from fse.editing import move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.objective import Batch, Estimate, Pass
from fse.perceptual import STLPIPS
from fse.trunk import TrunkSize

RESTYLE_PSP = PyramidSize(trunk=TrunkSize(input_channels=6, form="ir_se"), pyramid=False)
"""The official size of ReStyle on pSp, at 1024 px (``BackboneEncoder``)."""

RESTYLE_E4E = replace(RESTYLE_PSP, progressive=True)
"""The official size of ReStyle on e4e, at 1024 px (``ProgressiveBackboneEncoder``)."""


def average_picture(generator: StyleGenerator, side: int | tuple[int, int]) -> Tensor:
    """The first estimate, G(mean code), mean-pooled: (1, 3, side, side), or of ``side`` = (height, width)."""
    return adaptive_avg_pool2d(generator.synthesize(generator.mean_code[None]), side)


def refine(
    encoder: PyramidEncoder, generator: StyleGenerator, pictures: Tensor, average: Tensor, iterations: int
) -> Iterator[Inversion]:
    """The codes and G(w) after each iteration.

    Gradients flow within an iteration only: the next one starts from detached codes and picture, so that a training
    takes its loss and its backward pass between two of them.

    Parameters
    ----------
    pictures : Tensor
        (B, 3, side, side) in [-1, 1], of the encoder's side.
    average : Tensor
        (1, 3, side, side) from :func:`average_picture`.
    """
    codes, estimate = generator.mean_code, average.expand_as(pictures)
    for _ in range(iterations):
        codes = codes.detach() + encoder(torch.cat((pictures, estimate.detach()), 1))
        picture = generator.synthesize(codes)
        yield Inversion(codes, None, picture)
        estimate = adaptive_avg_pool2d(picture, (pictures.shape[2], pictures.shape[3]))


class IterativeInverter:
    """G(w) after several corrections of the codes; nothing is clamped between them.

    Parameters
    ----------
    encoder : PyramidEncoder
        With six input channels, the picture and the estimate.
    generator : StyleGenerator
        On the same device.
    iterations : int
        5 officially.
    shape : tuple of int, optional
        Height and width of the pictures that the encoder sees; its side by its side unless they are cars.
    """

    def __init__(
        self,
        encoder: PyramidEncoder,
        generator: StyleGenerator,
        iterations: int = 5,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.iterations = iterations
        self.shape = shape or (encoder.size.side, encoder.size.side)
        with torch.no_grad():
            self.average = average_picture(generator, self.shape)

    @torch.no_grad()
    def iterate(self, pictures: Tensor) -> list[Inversion]:
        """The inversion after each iteration."""
        if pictures.shape[2:] != self.shape:  # as Pillow does in the official scripts; only the estimate is mean-pooled
            pictures = interpolate(pictures, size=self.shape, mode="bilinear", antialias=True)
        return list(refine(self.encoder, self.generator, pictures, self.average, self.iterations))

    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> the last iteration's codes and G(w)."""
        return self.iterate(pictures)[-1]

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction)."""
        return self.generator.synthesize(move_codes(inversion.codes, direction, strength))


class ReStyleObjective(nn.Module):
    """The losses of pSp or e4e after each iteration of a step; the warm start is the first iteration.

    Gradients flow within an iteration only. An estimate from a generator smaller than the encoder's pictures is
    enlarged to them. Codes that a smaller generator does not read keep the warm start's loss: nothing else would stop
    the iterations from adding the same offset to them again and again.

    Parameters
    ----------
    encoder : PyramidEncoder
        With six input channels; progressive with e4e's losses.
    generator : StyleGenerator
        Frozen, at the pictures' resolution.
    perceptual : STLPIPS
        Frozen.
    sides : sequence of int
        Scales of the perceptual loss, in pixels.
    weights : PSPWeights or E4EWeights
        Which of the two methods' losses, and their weights.
    passes : int
        Iterations of a training step; 5 officially.
    iterations : int
        Of a reconstruction.
    """

    def __init__(
        self,
        encoder: PyramidEncoder,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        sides: Sequence[int],
        weights: PSPWeights | E4EWeights,
        passes: int,
        iterations: int = 5,
    ) -> None:
        super().__init__()
        self.network = encoder
        self.losses: PSPObjective
        if isinstance(weights, E4EWeights):
            self.losses = E4EObjective(encoder, generator, perceptual, sides, weights)
        else:
            self.losses = PSPObjective(encoder, generator, perceptual, sides, weights)
        self.critic = self.losses.critic
        self.generator = generator
        self.passes = passes
        self.iterations = iterations
        with torch.no_grad():
            self.average = nn.Buffer(average_picture(generator, encoder.size.side), persistent=False)

    def forward(self, batch: Batch, generator: StyleGenerator | None, before: Estimate | None = None) -> Pass:
        side, mean = self.network.size.side, self.generator.mean_code
        codes, picture = (before.codes, before.picture) if before else (mean, self.average.expand_as(batch.pictures))
        codes = codes + self.losses.offsets(torch.cat((batch.pictures, picture), 1), batch.progress)
        terms, estimate = self.losses.judge(batch, generator, codes)
        if estimate is not None and generator is not None:
            unread = generator.num_codes
            if unread < codes.shape[1]:
                terms["unread"] = mse_loss(codes[batch.synthetic, unread:], batch.codes[:, unread:])
                terms["loss"] = terms["loss"] + terms["unread"]
            estimate = Estimate(codes.detach(), _at_side(estimate.picture, side))
        return Pass(terms, estimate)

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """G(w) after one iteration as ``first``, and after the last one as ``codes``."""
        inversions = list(refine(self.network, self.generator, pictures, self.average, self.iterations))
        return {"first": inversions[0].picture.float(), "codes": inversions[-1].picture.float()}


def _at_side(picture: Tensor, side: int) -> Tensor:
    if picture.shape[-1] >= side:
        return adaptive_avg_pool2d(picture, side)
    return interpolate(picture, size=(side, side), mode="bilinear")


def load_restyle_psp(generator: StyleGenerator, weights: Path) -> IterativeInverter:
    """ReStyle on pSp with the trained weights ``restyle_psp.safetensors`` of the folder ``weights``."""
    return IterativeInverter(read_encoder(weights / "restyle_psp.safetensors", generator, pyramid=False), generator)


def load_restyle_e4e(generator: StyleGenerator, weights: Path) -> IterativeInverter:
    """ReStyle on e4e with the trained weights ``restyle_e4e.safetensors`` of the folder ``weights``."""
    path = weights / "restyle_e4e.safetensors"
    return IterativeInverter(read_encoder(path, generator, pyramid=False, progressive=True), generator)


def load_official_restyle(path: Path) -> IterativeInverter:
    """ReStyle on pSp or on e4e with its generator, from the official file (``restyle_psp_ffhq_encode.pt``)."""
    return IterativeInverter(*read_official_encoder(path, "BackboneEncoder", "ProgressiveBackboneEncoder"))
