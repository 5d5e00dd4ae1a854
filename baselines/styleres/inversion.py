"""StyleRes as an inversion method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from baselines.psp import PyramidEncoder, PyramidSize
from baselines.styleres.transformation import Transformation
from fse.checkpoints.checkpoint import load_parameters, official_network
from fse.checkpoints.reader import read_checkpoint
from fse.checkpoints.shapes import of_file
from fse.editing import move_codes
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.generators.stylegan2_ada import stylegan2_from_ada
from fse.inversion import Inversion
from fse.refusal import Refusal

FEATURE_LAYER = 8
"""K: the convolution that reaches 64x64, whose output is transformed."""

CLAMP = 256.0
"""The official generator's limit of every layer's output, which its file does not tell."""

BLOCK, INSERTED = "synthesis.b64.", "synthesis.b64.modify_feature_"


@dataclass(frozen=True)
class SkippedInversion(Inversion):
    """An inversion with what an edit of it needs of the picture.

    Attributes
    ----------
    skip : Tensor
        (B, C', H, W) the encoder's feature map.
    """

    skip: Tensor


class StyleResInverter:
    """G(F, w): e4e's codes, and F = G(w^{1:K}) transformed by what the encoder saw and the codes missed.

    Parameters
    ----------
    encoder : PyramidEncoder
        e4e's; the output of its second stage is the skip.
    generator : StyleGAN2
        On the same device, with K = 8, the first convolution at a quarter of the encoder's side.
    transformation : Transformation
        Made for both.

    Raises
    ------
    ValueError
        When the three do not fit each other.
    """

    def __init__(self, encoder: PyramidEncoder, generator: StyleGAN2, transformation: Transformation) -> None:
        side = encoder.size.side // (4 * encoder.size.trunk.stem_stride)
        made = (encoder.size.trunk.widths[1], (transformation.size.channels, side, side))
        if encoder.size.num_codes != generator.num_codes:
            codes = f"{encoder.size.num_codes} codes, and the generator takes {generator.num_codes}"
            raise ValueError(f"the encoder gives {codes}")
        if made != (transformation.size.skip_channels, generator.feature_shape):
            raise ValueError(
                f"the encoder gives a map of {made[0]} channels at {side} px, the transformation takes "
                f"{transformation.size.skip_channels} and F of {transformation.size.channels}, "
                f"and the generator's F is {generator.feature_shape}"
            )
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.transformation = transformation.eval().requires_grad_(False)

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> SkippedInversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes, F, and G(F, w)."""
        stages = self.encoder.stages(bicubic(pictures, self.encoder.size.side))
        codes = self.encoder.offsets(stages) + self.generator.mean_code
        feature = self.generator.feature(codes)
        transformed = self.transformation(torch.cat((stages[1], feature, feature), 1))
        return SkippedInversion(codes, transformed, self.generator.synthesize(codes, transformed), stages[1])

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """Move the codes, transform what was missed to fit them, render."""
        if not isinstance(inversion, SkippedInversion):
            raise ValueError("this inversion has no feature map of the encoder; it was made by another method")
        codes = move_codes(inversion.codes, direction, strength)
        features = (self.generator.feature(inversion.codes), self.generator.feature(codes))
        return self.generator.synthesize(codes, self.transformation(torch.cat((inversion.skip, *features), 1)))


def bicubic(pictures: Tensor, side: int) -> Tensor:
    """Pictures of ``side``, as Pillow's default filter gives them to the official script; bytes cannot overshoot."""
    if pictures.shape[2:] == (side, side):
        return pictures
    return interpolate(pictures, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def encoder_size(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> PyramidSize:
    """Of the e4e in the official file, which does not say of itself that its rows are progressive."""
    return replace(PyramidEncoder.size_of(tensors, options), progressive=True)


def generator_in_styleres(
    tensors: Mapping[str, Tensor], options: Mapping[str, Any]
) -> tuple[StyleGAN2Size, dict[str, Tensor]]:
    """Size and state of the generator in the official file: NVIDIA's layout, without what StyleRes put into it."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(INSERTED)}
    return stylegan2_from_ada(own, {"synthesis_kwargs": {"conv_clamp": CLAMP}})


def load_official_styleres(path: Path) -> StyleResInverter:
    """StyleRes with its encoder, generator and mean code, from the official file (``styleres_ffhq.pth``).

    Raises
    ------
    Refusal
        When the file cannot be read, or a part of it is missing or another network's; the message names the parameter.
    """
    checkpoint = read_checkpoint(path)
    remedy = "obtain styleres_ffhq.pth again"
    generator_tensors, encoder_tensors = checkpoint.part("generator_smooth."), checkpoint.part("e4e.")
    with of_file(path):
        size, state = generator_in_styleres(generator_tensors, checkpoint.options)
        encoder = PyramidEncoder(encoder_size(encoder_tensors, checkpoint.options))
    try:
        generator = StyleGAN2(size, FEATURE_LAYER)
    except ValueError as error:  # the largest map is smaller than 64x64
        raise Refusal(
            f"{path}: its generator of {size.resolution} px has no convolution {FEATURE_LAYER}; {remedy}"
        ) from error
    load_parameters(generator, state, path, remedy)
    load_parameters(encoder, encoder_tensors, path, remedy)
    transformation = official_network(
        Transformation, checkpoint.part(f"generator_smooth.{BLOCK}"), checkpoint.options, path, remedy
    )
    mean = checkpoint.tensors.get("latent_avg")
    if mean is None:  # which the encoder's offsets start from
        raise Refusal(f"{path}: latent_avg, the mean code, is missing; {remedy}")
    if mean.shape not in ((generator.code_dim,), generator.mean_code.shape):
        found, wanted = tuple(mean.shape), tuple(generator.mean_code.shape)
        raise Refusal(f"{path}: latent_avg, the mean code, is {found} and not {wanted}; {remedy}")
    generator.set_mean_code(mean)
    try:
        return StyleResInverter(encoder, generator.eval().requires_grad_(False), transformation)
    except ValueError as error:
        raise Refusal(f"{path}: {error}; {remedy}") from error
