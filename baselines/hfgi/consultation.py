"""What HFGI trains on top of e4e: aligner and consultation encoder, in one file of weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from baselines.hfgi.residual_aligner import ResidualAligner, ResidualAlignerSize
from baselines.hfgi.residual_encoder import EqualConv2d, ResidualEncoder, ResidualEncoderSize
from fse.sized_network import SizedNetwork


@dataclass(frozen=True)
class ConsultationSize:
    """Size of both networks; the defaults are the official ones.

    Attributes
    ----------
    residue, grid_align : ResidualEncoderSize, ResidualAlignerSize
        Their own sizes.
    feature_layer : int
        K: the convolution of the generator whose output is consulted. Officially the first one at a quarter of
        ``side``, where the maps of scale and shift are.
    side : int
        S, in pixels, at which picture and G(w) are compared.
    """

    residue: ResidualEncoderSize = field(default_factory=ResidualEncoderSize)
    grid_align: ResidualAlignerSize = field(default_factory=ResidualAlignerSize)
    feature_layer: int = 8
    side: int = 256


class Consultation(SizedNetwork):
    """Residual and picture that it is to fit (B, 3, S, S) -> aligned residual, and (scale, shift) of F.

    Parameter names are those of the official ``ckpt.pt``: ``residue.`` and ``grid_align.``. Before training scale and
    shift are zero, so that the method begins as the encoder below it; the official one begins with random ones.
    """

    Size = ConsultationSize
    size: ConsultationSize

    def __init__(self, size: ConsultationSize | None = None) -> None:
        super().__init__()
        self.size = size = size or ConsultationSize()
        self.residue = ResidualEncoder(size.residue)
        self.grid_align = ResidualAligner(size.grid_align)
        for condition in (self.residue.condition_scale3, self.residue.condition_shift3):
            nn.init.zeros_(cast(EqualConv2d, condition[-1]).weight)

    def align(self, residual: Tensor, picture: Tensor) -> Tensor:
        """The residual (B, 3, S, S) where ``picture`` (B, 3, S, S) needs it."""
        aligned: Tensor = self.grid_align(torch.cat((residual, picture), 1))
        return aligned

    def forward(self, residual: Tensor, picture: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        aligned = self.align(residual, picture)
        return aligned, self.residue(aligned)
