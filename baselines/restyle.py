"""ReStyle (Alaluf et al., ICCV 2021): an encoder that sees picture and last estimate corrects the codes repeatedly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from baselines.psp import PyramidEncoder, PyramidSize, read_official_encoder
from fse.editing import move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.trunk import TrunkSize

RESTYLE_PSP = PyramidSize(trunk=TrunkSize(input_channels=6, form="ir_se"), pyramid=False)
"""The official size of ReStyle on pSp, at 1024 px (``BackboneEncoder``)."""

RESTYLE_E4E = replace(RESTYLE_PSP, progressive=True)
"""The official size of ReStyle on e4e, at 1024 px (``ProgressiveBackboneEncoder``)."""


def average_picture(generator: StyleGenerator, side: int) -> Tensor:
    """The first estimate, G(mean code), mean-pooled: (1, 3, side, side)."""
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
        estimate = adaptive_avg_pool2d(picture, encoder.size.side)


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
    """

    def __init__(self, encoder: PyramidEncoder, generator: StyleGenerator, iterations: int = 5) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.iterations = iterations
        with torch.no_grad():
            self.average = average_picture(generator, encoder.size.side)

    @torch.no_grad()
    def iterate(self, pictures: Tensor) -> list[Inversion]:
        """The inversion after each iteration."""
        side = self.encoder.size.side
        if pictures.shape[-1] != side:  # as Pillow does in the official scripts; only the estimate is mean-pooled
            pictures = interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
        return list(refine(self.encoder, self.generator, pictures, self.average, self.iterations))

    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> the last iteration's codes and G(w)."""
        return self.iterate(pictures)[-1]

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction)."""
        return self.generator.synthesize(move_codes(inversion.codes, direction, strength))


def load_official_restyle(path: Path) -> IterativeInverter:
    """ReStyle on pSp or on e4e with its generator, from the official file (``restyle_psp_ffhq_encode.pt``)."""
    return IterativeInverter(*read_official_encoder(path, "BackboneEncoder", "ProgressiveBackboneEncoder"))
