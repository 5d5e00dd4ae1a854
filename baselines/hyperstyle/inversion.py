"""HyperStyle as an inversion method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from baselines.hyperstyle.hypernetwork import HyperNetwork, Layer
from baselines.hyperstyle.w_encoder import WEncoder
from baselines.psp_checkpoint import psp_family
from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.reader import read_checkpoint
from fse.editing import move_codes
from fse.generators.stylegan2 import StyleGAN2
from fse.inversion import Inversion
from fse.refusal import Refusal

ITERATIONS = 5
"""Of the official inference."""


@dataclass(frozen=True)
class TunedInversion(Inversion):
    """An inversion by a generator of its own.

    Attributes
    ----------
    offsets : Tensor
        (B, P) relative offsets of the weights, all tuned layers in a row; P is 21.5 million officially, 86 MB a
        picture.
    """

    offsets: Tensor


def synthesize_tuned(generator: StyleGAN2, codes: Tensor, layers: Sequence[Layer], offsets: Sequence[Tensor]) -> Tensor:
    """codes (B, N, 512) -> pictures (B, 3, R, R), each by the generator with its own weights.

    Parameters
    ----------
    layers : sequence of Layer
        Which weights are tuned.
    offsets : sequence of Tensor
        For each of them (B, outputs, inputs, k, k), or 1 for k: the weight becomes ``weight * (1 + offset)``, before
        style and demodulation.
    """
    weights = {layer.name: generator.get_parameter(layer.name) for layer in layers}
    pictures = []
    for i in range(len(codes)):
        own = {name: weight * (1 + offset[i]) for (name, weight), offset in zip(weights.items(), offsets, strict=True)}
        pictures.append(functional_call(generator, own, (codes[i : i + 1],)))
    return torch.cat(pictures)


class HyperStyleInverter:
    """A code in W, then a generator tuned to the picture by several passes of the hypernetwork.

    Parameters
    ----------
    encoder : WEncoder
        pictures (B, 3, side, side) -> offsets of the codes (B, 1, 512).
    generator : StyleGAN2
        On the same device; it is left as it is.
    hypernetwork : HyperNetwork
        Made for the generator.
    iterations : int
        At least 1, 5 officially. Offsets add up; the codes stay.
    side : int
        Of the pictures that the networks see, in pixels; 256 officially.

    Raises
    ------
    ValueError
        When the hypernetwork was made for a generator of other channels.
    """

    def __init__(
        self,
        encoder: WEncoder,
        generator: StyleGAN2,
        hypernetwork: HyperNetwork,
        iterations: int = ITERATIONS,
        side: int = 256,
    ) -> None:
        if hypernetwork.size.channels != generator.size.channels:
            raise ValueError(
                f"the hypernetwork is made for a generator of {hypernetwork.size.channels} channels, "
                f"and this one has {generator.size.channels}"
            )
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.hypernetwork = hypernetwork.eval().requires_grad_(False)
        self.iterations = iterations
        self.side = side

    @torch.no_grad()
    def iterate(self, pictures: Tensor) -> Iterator[TunedInversion]:
        """The inversion after each iteration."""
        if pictures.shape[2:] != (self.side, self.side):  # as Pillow does in the official scripts
            pictures = interpolate(pictures, size=(self.side, self.side), mode="bilinear", antialias=True)
        codes = self.encoder(pictures) + self.generator.mean_code
        picture = self.generator.synthesize(codes)
        offsets: tuple[Tensor, ...] = ()
        for _ in range(self.iterations):
            found = self.hypernetwork(torch.cat((pictures, adaptive_avg_pool2d(picture, self.side)), 1))
            offsets = tuple(one + more for one, more in zip(offsets, found, strict=True)) if offsets else found
            picture = synthesize_tuned(self.generator, codes, self.hypernetwork.tuned, offsets)
            yield TunedInversion(codes, None, picture, torch.cat([each.flatten(1) for each in offsets], 1))

    def invert(self, pictures: Tensor) -> TunedInversion:
        """pictures (B, 3, R, R) in [-1, 1] -> the code in W, in every row, and the tuned generator's picture."""
        for inversion in self.iterate(pictures):
            last = inversion
        return last

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction) by the generator that was tuned to the picture."""
        if not isinstance(inversion, TunedInversion):
            raise ValueError("this inversion has no offsets of the weights; it was made by another method")
        codes = move_codes(inversion.codes, direction, strength)
        offsets = self.hypernetwork.parts(inversion.offsets)
        return synthesize_tuned(self.generator, codes, self.hypernetwork.tuned, offsets)


def load_official_hyperstyle(path: Path, w_encoder_path: Path) -> HyperStyleInverter:
    """HyperStyle with its generator and mean code from ``hyperstyle_ffhq.pt``, its encoder from ``faces_w_encoder.pt``.

    Raises
    ------
    Refusal
        When a file cannot be read, or holds another network; the message names the parameter.
    """
    checkpoint = read_checkpoint(path)
    generator = psp_family(checkpoint)[1]
    remedy = "obtain hyperstyle_ffhq.pt again"
    hypernetwork = official_network(HyperNetwork, checkpoint.part("state_dict.hypernet."), {}, path, remedy)
    encoder = official_network(
        WEncoder, read_checkpoint(w_encoder_path).part("state_dict.encoder."), {}, w_encoder_path,
        "obtain faces_w_encoder.pt again",
    )  # fmt: skip
    if not isinstance(generator, StyleGAN2) or hypernetwork.size.channels != generator.size.channels:
        raise Refusal(f"{path}: its hypernetwork is made for another generator than the file holds; {remedy}")
    if encoder.size.code_dim != generator.code_dim:
        codes = f"{encoder.size.code_dim} numbers, and the generator of {path} takes {generator.code_dim}"
        raise Refusal(f"{w_encoder_path} gives codes of {codes}; choose files of one model")
    return HyperStyleInverter(encoder, generator, hypernetwork)
