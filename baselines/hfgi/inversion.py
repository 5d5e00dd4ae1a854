"""HFGI as an inversion method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from baselines.hfgi.residual_aligner import ResidualAligner
from baselines.hfgi.residual_encoder import ResidualEncoder
from baselines.psp import PyramidEncoder
from baselines.psp_checkpoint import REMEDY, psp_family
from fse.checkpoints.checkpoint import load_parameters
from fse.checkpoints.reader import read_checkpoint
from fse.checkpoints.shapes import of_file
from fse.editing import move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion

FEATURE_LAYER = 8
"""K of the official generator: the convolution that reaches 64x64."""


@dataclass(frozen=True)
class ConsultedInversion(Inversion):
    """An inversion with what an edit of it has to keep.

    Attributes
    ----------
    residual : Tensor
        (B, 3, S, S) picture minus G(w), both at the aligner's side S; not aligned.
    """

    residual: Tensor


class HFGIInverter:
    """Low-rate inversion G(w), then consultation of what it missed: G(F, w) with F = G(w^{1:K}) (1 + scale) + shift.

    Parameters
    ----------
    encoder : nn.Module
        pictures (B, 3, S, S) -> offsets (B, N, 512); officially e4e.
    generator : StyleGenerator
        On the same device; officially StyleGAN2 with K = 8.
    residual_encoder, aligner : ResidualEncoder, ResidualAligner
        The former made for the generator's feature tensor.
    side : int
        S, in pixels, at which the pictures are encoded and compared.

    Raises
    ------
    ValueError
        When the residual encoder was made for a feature tensor of another shape.
    """

    def __init__(
        self,
        encoder: nn.Module,
        generator: StyleGenerator,
        residual_encoder: ResidualEncoder,
        aligner: ResidualAligner,
        side: int = 256,
    ) -> None:
        if residual_encoder.size.feature_shape != generator.feature_shape:
            raise ValueError(
                f"the residual encoder is made for F of {residual_encoder.size.feature_shape}, "
                f"and convolution {generator.feature_layer} of the generator gives {generator.feature_shape}"
            )
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.residual_encoder = residual_encoder.eval().requires_grad_(False)
        self.aligner = aligner.eval().requires_grad_(False)
        self.side = side

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> ConsultedInversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes, F, and G(F, w^{K+1:N})."""
        # Like Pillow, with which the official scripts reduce files; G(w) is reduced without antialiasing.
        pictures = self._resize(pictures, antialias=True)
        codes = self.encoder(pictures) + self.generator.mean_code
        initial = self._shown(codes)
        residual = pictures - initial
        feature = self._consult(codes, initial, residual)
        return ConsultedInversion(codes, feature, self.generator.synthesize(codes, feature), residual)

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """Move the codes, align the residual to the picture that they give, consult it again, render."""
        if not isinstance(inversion, ConsultedInversion):
            raise ValueError("this inversion has no residual; it was made by another method")
        codes = move_codes(inversion.codes, direction, strength)
        feature = self._consult(codes, self._shown(codes), inversion.residual)
        return self.generator.synthesize(codes, feature)

    def _shown(self, codes: Tensor) -> Tensor:
        """G(w) (B, 3, S, S), clamped as a stored picture is."""
        return self._resize(self.generator.synthesize(codes).clamp(-1, 1), antialias=False)

    def _resize(self, pictures: Tensor, antialias: bool) -> Tensor:
        return interpolate(pictures, size=(self.side, self.side), mode="bilinear", antialias=antialias)

    def _consult(self, codes: Tensor, picture: Tensor, residual: Tensor) -> Tensor:
        """F for the codes (B, N, 512) of ``picture`` = G(w) and the residual, both (B, 3, S, S)."""
        scale, shift = self.residual_encoder(self.aligner(torch.cat((residual, picture), 1)))
        feature: Tensor = self.generator.feature(codes) * (1 + scale) + shift
        return feature


def load_official_hfgi(path: Path) -> HFGIInverter:
    """HFGI with its generator, from the official file (``ckpt.pt``).

    Raises
    ------
    Refusal
        When the file cannot be read, or a part of it is missing or another network's; the message names the parameter.
    """
    checkpoint = read_checkpoint(path)
    codes, generator, options = psp_family(checkpoint, FEATURE_LAYER)
    residue, grid_align = checkpoint.part("state_dict.residue."), checkpoint.part("state_dict.grid_align.")
    with of_file(path):
        # Its encoder is always e4e's, whatever the options say.
        encoder = PyramidEncoder(replace(PyramidEncoder.size_of(codes, options), progressive=True))
        size = replace(ResidualEncoder.size_of(residue, options), feature_shape=generator.feature_shape)
        residual_encoder = ResidualEncoder(size)
        aligner = ResidualAligner(ResidualAligner.size_of(grid_align, options))
    for network, tensors in ((encoder, codes), (residual_encoder, residue), (aligner, grid_align)):
        load_parameters(network, tensors, path, REMEDY)
    return HFGIInverter(encoder, generator, residual_encoder, aligner, encoder.size.side)
