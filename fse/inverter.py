"""Encoders as inversion methods: FSE with its feature tensor, and codes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.network_file import read_network
from fse.checkpoints.reader import read_checkpoint
from fse.editing import Mask, edited_feature, move_codes
from fse.encoder import FeatureStyleEncoder
from fse.generators.families import read_generator
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.losses import reduce
from fse.refusal import Refusal


@runtime_checkable
class CodeEncoder(Protocol):
    """A method whose codes need no pass through the generator."""

    def codes(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, R, R) in [-1, 1] -> the codes (B, N, 512) that ``invert`` finds."""
        ...


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
    def codes(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, R, R) in [-1, 1] -> w (B, N, 512)."""
        codes: Tensor = self.network(pictures) + self.generator.mean_code
        return codes

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes and G(w)."""
        codes = self.codes(pictures)
        return Inversion(codes, None, self.generator.synthesize(codes))

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction)."""
        return self.generator.synthesize(move_codes(inversion.codes, direction, strength))


class FeatureStyleInverter:
    """G(F, w^{K+1:N}): the paper's method.

    Parameters
    ----------
    encoder : FeatureStyleEncoder
        For the generator's K.
    generator : StyleGenerator
        On the same device.
    side : int, optional
        Of the pictures that the encoder sees, which are averaged down to it; 256 officially, and by default the
        generator's resolution.
    mask : callable, optional
        M of the masked Eq. (1), e.g. :func:`fse.editing.change_mask`; by default there is none, as in the paper.
    """

    def __init__(
        self,
        encoder: FeatureStyleEncoder,
        generator: StyleGenerator,
        side: int | None = None,
        mask: Mask | None = None,
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.side = side or generator.resolution
        self.mask = mask

    @torch.no_grad()
    def codes(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, R, R) in [-1, 1] -> w (B, N, 512)."""
        codes: Tensor = self.encoder(reduce(pictures, self.side))[0] + self.generator.mean_code
        return codes

    @torch.no_grad()
    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes, F, and G(F, w^{K+1:N})."""
        offsets, feature = self.encoder(reduce(pictures, self.side))
        codes = offsets + self.generator.mean_code
        return Inversion(codes, feature, self.generator.synthesize(codes, feature))

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """Move the codes, carry the change of the early layers into F by Eq. (1), render."""
        if inversion.feature is None:
            raise ValueError("this inversion has no feature tensor; it was made by another method")
        codes = move_codes(inversion.codes, direction, strength)
        feature = edited_feature(self.generator, inversion.feature, inversion.codes, codes, self.mask)
        return self.generator.synthesize(codes, feature)


class _CodesOf(nn.Module):
    """The code branch of a Feature-Style Encoder, which sees pictures of ``side``."""

    def __init__(self, encoder: FeatureStyleEncoder, side: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.side = side

    def forward(self, pictures: Tensor) -> Tensor:
        codes: Tensor = self.encoder(reduce(pictures, self.side))[0]
        return codes


def codes_alone(method: FeatureStyleInverter) -> CodesInverter:
    """FSE's first reconstruction, G(w): the same encoder without its feature tensor."""
    return CodesInverter(_CodesOf(method.encoder, method.side), method.generator)


def load_fse(generator: MobileStyleGAN, weights: Path) -> FeatureStyleInverter:
    """FSE with the trained weights ``fse.safetensors`` of the folder ``weights``; K is what it was trained for."""
    return _trained(generator, weights / "fse.safetensors")


def load_fse_long(generator: MobileStyleGAN, weights: Path) -> FeatureStyleInverter:
    """FSE with the weights of the longer training, ``fse_long.safetensors`` of the folder ``weights``."""
    return _trained(generator, weights / "fse_long.safetensors")


def _trained(generator: MobileStyleGAN, path: Path) -> FeatureStyleInverter:
    encoder = read_network(path, FeatureStyleEncoder).to(generator.mean_code.device)
    return FeatureStyleInverter(encoder, generator.with_feature_layer(encoder.size.feature_layer))


def load_official_fse(encoder: Path, generator: Path) -> FeatureStyleInverter:
    """The official method, out of the encoder's file (``143_enc.pth``) and one with its StyleGAN2 and mean code.

    The release takes the latter from ``psp_ffhq_encode.pt``. It draws fresh noise for every picture, where this
    takes the stored one.

    Raises
    ------
    Refusal
        When a file cannot be read, holds another network, or encoder and generator do not fit each other.
    """
    checkpoint = read_checkpoint(encoder)
    tensors = checkpoint.part("enc_state_dict.") or checkpoint.tensors
    remedy = "obtain 143_enc.pth again"
    network = official_network(FeatureStyleEncoder, tensors, checkpoint.options, encoder, remedy)
    synthesis = read_generator(generator, network.size.feature_layer)
    made = (network.size.num_codes, network.size.feature_channels)
    taken = (synthesis.num_codes, synthesis.feature_shape[0])
    if made != taken:
        raise Refusal(
            f"{encoder} gives {made[0]} codes and a feature of {made[1]} channels, and the generator of {generator} "
            f"takes {taken[0]} and {taken[1]}; choose an encoder and a generator of one model"
        )
    return FeatureStyleInverter(network, synthesis, side_for(network, synthesis))


def side_for(encoder: FeatureStyleEncoder, generator: StyleGenerator) -> int:
    """Of the pictures that the encoder has to see, so that its F has the shape of the generator's."""
    return encoder.picture_side(generator.feature_shape[1])


def load_fse_codes(generator: MobileStyleGAN, weights: Path) -> CodesInverter:
    """G(w) with the trained weights ``fse.safetensors``, as :func:`load_fse` reads them."""
    return codes_alone(load_fse(generator, weights))


def load_fse_long_codes(generator: MobileStyleGAN, weights: Path) -> CodesInverter:
    """G(w) with the weights of the longer training, as :func:`load_fse_long` reads them."""
    return codes_alone(load_fse_long(generator, weights))


def load_official_fse_codes(encoder: Path, generator: Path) -> CodesInverter:
    """G(w) out of the official files, as :func:`load_official_fse` reads them."""
    return codes_alone(load_official_fse(encoder, generator))
