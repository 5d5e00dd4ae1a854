"""HFGI as an inversion method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from baselines.hfgi.consultation import Consultation
from baselines.hfgi.residual_aligner import ResidualAligner
from baselines.hfgi.residual_encoder import ResidualEncoder
from baselines.psp import PyramidEncoder
from baselines.psp_checkpoint import REMEDY, psp_family
from fse.checkpoints.checkpoint import load_parameters
from fse.checkpoints.network_file import read_network
from fse.checkpoints.reader import read_checkpoint
from fse.checkpoints.safetensors_file import read_safetensors
from fse.checkpoints.shapes import of_file
from fse.editing import move_codes
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.refusal import Refusal

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
        pictures (B, 3, encoder_side, encoder_side) -> offsets (B, N, 512); officially e4e.
    generator : StyleGenerator
        On the same device; officially StyleGAN2 with K = 8.
    residual_encoder, aligner : ResidualEncoder, ResidualAligner
        The former made for the generator's feature tensor.
    side : int
        S, in pixels, at which the pictures and G(w) are compared.
    encoder_side : int, optional
        Side of the pictures that the encoder sees; S officially, and by default.

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
        encoder_side: int | None = None,
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
        self.encoder_side = encoder_side or side

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> ConsultedInversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes, F, and G(F, w^{K+1:N})."""
        codes = self.encoder(resized(pictures, self.encoder_side)) + self.generator.mean_code
        initial = shown(self.generator.synthesize(codes), self.side)
        residual = resized(pictures, self.side) - initial
        feature = self._consult(codes, initial, residual)
        return ConsultedInversion(codes, feature, self.generator.synthesize(codes, feature), residual)

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """Move the codes, align the residual to the picture that they give, consult it again, render."""
        if not isinstance(inversion, ConsultedInversion):
            raise ValueError("this inversion has no residual; it was made by another method")
        codes = move_codes(inversion.codes, direction, strength)
        initial = shown(self.generator.synthesize(codes), self.side)
        feature = self._consult(codes, initial, inversion.residual)
        return self.generator.synthesize(codes, feature)

    def _consult(self, codes: Tensor, picture: Tensor, residual: Tensor) -> Tensor:
        """F for the codes (B, N, 512) of ``picture`` = G(w) and the residual, both (B, 3, S, S)."""
        aligned = self.aligner(torch.cat((residual, picture), 1))
        return consulted(self.generator.feature(codes), self.residual_encoder(aligned))


def resized(pictures: Tensor, side: int) -> Tensor:
    """Pictures (B, 3, side, side) as networks see them: reduced like Pillow, with which the official scripts do it."""
    return interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)


def shown(picture: Tensor, side: int) -> Tensor:
    """G(w) (B, 3, side, side) as the picture is compared to it: clamped, and reduced without antialiasing."""
    return interpolate(picture.clamp(-1, 1), size=(side, side), mode="bilinear")


def consulted(feature: Tensor, condition: tuple[Tensor, Tensor]) -> Tensor:
    """F = G(w^{1:K}) * (1 + scale) + shift, all (B, C, H, W)."""
    scale, shift = condition
    return feature * (1 + scale) + shift


def load_hfgi(generator: MobileStyleGAN, weights: Path) -> HFGIInverter:
    """HFGI with the trained weights ``hfgi.safetensors`` and ``e4e.safetensors`` of the folder ``weights``.

    Raises
    ------
    Refusal
        When a file is missing or another network's, or the consultation was trained on other weights of e4e.
    """
    return _trained(generator, weights / "hfgi.safetensors", weights / "e4e.safetensors")


def load_hfgi_long(generator: MobileStyleGAN, weights: Path) -> HFGIInverter:
    """HFGI with the longer training's weights, ``hfgi_long.safetensors``, as :func:`load_hfgi` reads the others."""
    return _trained(generator, weights / "hfgi_long.safetensors", weights / "e4e.safetensors")


def _trained(generator: MobileStyleGAN, path: Path, encoder_path: Path) -> HFGIInverter:
    encoder, consultation = read_network(encoder_path, PyramidEncoder), read_network(path, Consultation)
    check_first_stage(path, encoder_path)
    device, size = generator.mean_code.device, consultation.size
    consultation.to(device)
    return HFGIInverter(
        encoder.to(device),
        generator.with_feature_layer(size.feature_layer),
        consultation.residue,
        consultation.grid_align,
        size.side,
        encoder.size.side,
    )


def check_first_stage(path: Path, encoder_path: Path) -> None:
    """Refuse a consultation that was trained on other weights of e4e."""
    if read_safetensors(path).options["provenance"].get("e4e") != fingerprint(encoder_path):
        raise Refusal(f"{path} was trained on another {encoder_path}; train HFGI again after e4e, with `dvc repro`")


def fingerprint(path: Path) -> str:
    """What tells the weights of one training from another's; HFGI's file names that of its e4e (``e4e``)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


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
