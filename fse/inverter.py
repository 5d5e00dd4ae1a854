"""Encoders as inversion methods: FSE with its feature tensor, and codes alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fse.checkpoints.network_file import read_network
from fse.editing import edited_feature, move_codes
from fse.encoder import FeatureStyleEncoder
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.refusal import Refusal


class CodesInverter:
    """G(w): a network that predicts offsets from the mean code; pSp's and e4e's kind of method.

    Parameters
    ----------
    network : nn.Module
        pictures (B, 3, R, R) -> offsets (B, N, 512).
    generator : StyleGenerator
        On the same device.
    """

    def __init__(self, network: nn.Module, generator: StyleGenerator) -> None:
        self.network = network.eval().requires_grad_(False)
        self.generator = generator

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes and G(w)."""
        codes = self.network(pictures) + self.generator.mean_code
        return Inversion(codes, None, self.generator.synthesize(codes))

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction)."""
        return self.generator.synthesize(move_codes(inversion.codes, direction, strength))


class FeatureStyleInverter:
    """G(F, w^{K+1:N}): the paper's method."""

    def __init__(self, encoder: FeatureStyleEncoder, generator: StyleGenerator) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes, F, and G(F, w^{K+1:N})."""
        offsets, feature = self.encoder(pictures)
        codes = offsets + self.generator.mean_code
        return Inversion(codes, feature, self.generator.synthesize(codes, feature))

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """Move the codes, carry the change of the early layers into F by Eq. (1), render."""
        if inversion.feature is None:
            raise ValueError("this inversion has no feature tensor; it was made by another method")
        codes = move_codes(inversion.codes, direction, strength)
        feature = edited_feature(self.generator, inversion.feature, inversion.codes, codes)
        return self.generator.synthesize(codes, feature)


class _CodesOf(nn.Module):
    """The code branch of a Feature-Style Encoder."""

    def __init__(self, encoder: FeatureStyleEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: Tensor) -> Tensor:
        codes: Tensor = self.encoder(pictures)[0]
        return codes


def load_fse(generator: StyleGenerator, weights: Path) -> FeatureStyleInverter:
    """FSE with the trained weights ``fse.safetensors`` of the folder ``weights``."""
    return FeatureStyleInverter(read_fse(generator, weights), generator)


def load_fse_codes(generator: StyleGenerator, weights: Path) -> CodesInverter:
    """FSE's first reconstruction, G(w): the same encoder without its feature tensor."""
    return CodesInverter(_CodesOf(read_fse(generator, weights)), generator)


def read_fse(generator: StyleGenerator, weights: Path) -> FeatureStyleEncoder:
    """The trained encoder, on the generator's device."""
    path = weights / "fse.safetensors"
    encoder = read_network(path, FeatureStyleEncoder)
    if encoder.size.feature_layer != generator.feature_layer:
        raise Refusal(
            f"{path} was trained for K = {encoder.size.feature_layer} and the generator is set to "
            f"K = {generator.feature_layer}; load the generator with that feature_layer"
        )
    return encoder.to(generator.mean_code.device)
