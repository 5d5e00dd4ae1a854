"""In-domain inversion as a method: the encoder's codes, then a regularised optimisation (section 3.2, Eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from baselines.idinvert.encoder import InDomainEncoder
from baselines.idinvert.vgg16 import VGG16
from baselines.wplus import mean_square, optimised
from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.network_file import read_network
from fse.checkpoints.reader import read_checkpoint
from fse.editing import move_codes
from fse.generators.families import read_generator
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.losses import reduce
from fse.perceptual import STLPIPS
from fse.refusal import Refusal

Network = TypeVar("Network", InDomainEncoder, VGG16)

PERCEPTUAL = 0.8
"""Weight of ST-LPIPS where it stands for VGG16's 5e-5; that of the training."""


@dataclass(frozen=True)
class InDomainWeights:
    """Official weights of the optimisation's three terms."""

    pixel: float = 1.0
    perceptual: float = 5e-5
    domain: float = 2.0


class InDomainLosses(NamedTuple):
    """The optimisation's terms, unweighted, each a mean square for every picture (B,).

    Attributes
    ----------
    pixel : Tensor
        Of G(w) - x.
    perceptual : Tensor
        Of the feature network's outputs.
    domain : Tensor
        Of w - E(G(w)): what the encoder would not have given is not of the domain.
    """

    pixel: Tensor
    perceptual: Tensor
    domain: Tensor


class CodesFromOffsets(nn.Module):
    """An encoder of offsets from the mean code, as pSp's kind are, made one of codes."""

    mean_code: Tensor

    def __init__(self, encoder: nn.Module, mean_code: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean_code", mean_code, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        codes: Tensor = self.encoder(pictures) + self.mean_code
        return codes


class InDomainInverter:
    """G(w), with w from the encoder and then fitted to the picture by Adam.

    Each picture's optimisation is its own: losses are summed over the batch, and Adam works on single entries.

    Parameters
    ----------
    encoder : nn.Module
        pictures (B, 3, R, R) -> codes (B, N, 512); one of offsets goes into :class:`CodesFromOffsets`. Put into
        evaluation mode, as batch statistics would tie the pictures of a batch together.
    generator : StyleGenerator
        On the same device.
    features : nn.Module
        pictures (B, 3, R, R) -> the features (B, ...) that the perceptual term compares. Put into evaluation mode.
    steps : int
        Of the optimisation; 0 gives the encoder's codes.
    learning_rate : float
        Adam's, in units of the codes.
    weights : InDomainWeights
        Of the terms.
    """

    def __init__(
        self,
        encoder: nn.Module,
        generator: StyleGenerator,
        features: nn.Module,
        *,
        steps: int = 100,
        learning_rate: float = 0.01,
        weights: InDomainWeights | None = None,
    ) -> None:
        self.encoder = encoder.eval()
        self.generator = generator
        self.features = features.eval()
        self.steps = steps
        self.learning_rate = learning_rate
        self.weights = weights or InDomainWeights()

    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes and G(w). Works within ``no_grad`` and ``inference_mode``, too.

        Pictures of another side are resized as by OpenCV in the official script: bilinear, not antialiased.
        """
        with torch.inference_mode(False), torch.no_grad():
            pictures = pictures.detach().clone()  # gradients cannot pass by a tensor born in inference mode
            side = self.generator.resolution
            if pictures.shape[-1] != side:
                pictures = interpolate(pictures, size=(side, side), mode="bilinear")
            codes = self.encoder(pictures)
            if self.steps:
                features = self.features(pictures)
                rates = [self.learning_rate] * self.steps
                codes = optimised(codes, lambda codes: self.total(self.losses(codes, pictures, features)), rates)
            return Inversion(codes, None, self.generator.synthesize(codes))

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction)."""
        return self.generator.synthesize(move_codes(inversion.codes, direction, strength))

    def losses(self, codes: Tensor, pictures: Tensor, features: Tensor) -> InDomainLosses:
        """Of codes (B, N, 512) for pictures (B, 3, R, R), whose features are known; gradients reach the codes."""
        found = self.generator.synthesize(codes)
        return InDomainLosses(
            mean_square(found, pictures),
            mean_square(self.features(found), features),
            mean_square(codes, self.encoder(found)),
        )

    def total(self, losses: InDomainLosses) -> Tensor:
        """The weighted sum of the terms (B,)."""
        weights = self.weights
        return weights.pixel * losses.pixel + weights.perceptual * losses.perceptual + weights.domain * losses.domain


class PerceptualFeatures(nn.Module):
    """ST-LPIPS' features of a picture, flat (B, D), so scaled that their mean squared difference is its distance.

    Parameters
    ----------
    perceptual : STLPIPS
        Frozen.
    side : int
        To which larger pictures are reduced, in pixels.
    """

    def __init__(self, perceptual: STLPIPS, side: int = 128) -> None:
        super().__init__()
        self.perceptual = perceptual
        self.side = side

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.perceptual.features(reduce(pictures, min(self.side, pictures.shape[-1])))
        weighted = [
            each * (getattr(self.perceptual, f"linear{layer}") / each[0, 0].numel()).sqrt()
            for layer, each in enumerate(maps, start=1)
        ]
        flat = torch.cat([each.flatten(1) for each in weighted], 1)
        return flat * sqrt(flat.shape[1])


def load_idinvert(generator: StyleGenerator, weights: Path, assets: Path, steps: int = 50) -> InDomainInverter:
    """In-domain inversion with the trained ``idinvert.safetensors`` of ``weights``, and ST-LPIPS from ``assets``."""
    device = generator.mean_code.device
    encoder = read_network(weights / "idinvert.safetensors", InDomainEncoder).to(device)
    perceptual = STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth").to(device)
    features = PerceptualFeatures(perceptual)
    return InDomainInverter(encoder, generator, features, steps=steps, weights=InDomainWeights(perceptual=PERCEPTUAL))


def load_official_idinvert(generator_path: Path, encoder_path: Path, vgg_path: Path) -> InDomainInverter:
    """The official method out of ``styleganinv_X_generator.pth``, ``styleganinv_X_encoder.pth`` and ``vgg16.pth``.

    Raises
    ------
    Refusal
        When a file cannot be read, holds another network, or encoder and generator do not belong together.
    """
    generator = read_generator(generator_path)
    encoder = _load(InDomainEncoder, encoder_path, "obtain styleganinv_ffhq256_encoder.pth again")
    features = _load(VGG16, vgg_path, "obtain vgg16.pth of idinvert_pytorch again")
    made, taken = (encoder.size.resolution, encoder.size.num_codes), (generator.resolution, generator.num_codes)
    if made != taken:
        raise Refusal(
            f"{encoder_path} encodes {made[0]} px to {made[1]} codes and {generator_path} generates {taken[0]} px "
            f"from {taken[1]}; choose an encoder and a generator of one model"
        )
    return InDomainInverter(encoder, generator, features)


def _load(kind: type[Network], path: Path, remedy: str) -> Network:
    checkpoint = read_checkpoint(path)
    return official_network(kind, checkpoint.tensors, checkpoint.options, path, remedy)
