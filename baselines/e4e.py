"""e4e (Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021).

pSp's encoder, whose rows are offsets from the first; in training they are set free one after the other, so that codes
stay close to W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.functional import softplus

from baselines.latent_discriminator import LatentCritic, LatentDiscriminator
from baselines.psp import (
    PSPObjective,
    PSPWeights,
    PyramidEncoder,
    PyramidSize,
    official_inverter,
    read_encoder,
    read_official_encoder,
)
from fse.generators.style_generator import StyleGenerator
from fse.inverter import CodesInverter
from fse.objective import Batch, Pass
from fse.perceptual import STLPIPS

E4E = PyramidSize(progressive=True)
"""The official size, at 1024 px."""

STEPS = 200_000
"""Steps of the official training, to which :func:`free_rows_at` belongs; shorter ones follow it in proportion."""


def free_rows_at(step: int, num_codes: int, start: int = 20_000, every: int = 2_000) -> int:
    """How many rows have their offset at a step of training (``PyramidEncoder.free_rows``, the official "stage").

    None before ``start``, one from then on, and another every ``every`` steps; the defaults are the release's.
    """
    return 0 if step < start else min(1 + (step - start) // every, num_codes - 1)


@dataclass(frozen=True)
class E4EWeights(PSPWeights):
    """The release's loss weights: pSp's, 2e-4 for the rows' offsets and 0.1 for the latent discriminator."""

    delta: float = 2e-4
    adversarial: float = 0.1


class E4EObjective(PSPObjective):
    """pSp's losses, and two that keep the codes in W's neighbourhood (Tov et al. 2021, section 4.2).

    Rows are set free by the fraction of the steps that is done: the second one at 0.1, another every 0.01. The warm
    start comes before, and so regresses the known codes by a single w. At the end all rows are free, as they are in an
    encoder that was loaded.
    """

    weights: E4EWeights

    def __init__(
        self,
        encoder: PyramidEncoder,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        sides: Sequence[int],
        weights: E4EWeights,
    ) -> None:
        super().__init__(encoder, generator, perceptual, sides, weights)
        self.discriminator = LatentDiscriminator(encoder.size.code_dim)
        self.critic = LatentCritic(self.discriminator, generator)
        self.to(generator.mean_code.device)

    def offsets(self, seen: Tensor, progress: float) -> Tensor:
        self.network.free_rows = free_rows_at(round(progress * STEPS), self.network.size.num_codes)
        return super().offsets(seen, progress)

    def judge(self, batch: Batch, generator: StyleGenerator | None, codes: Tensor) -> Pass:
        terms, estimate = super().judge(batch, generator, codes)
        if generator is not None:
            # Rows that are not free yet have no offset, and are judged as the first.
            terms["delta"] = (codes[:, 1:] - codes[:, :1]).norm(dim=2).sum(1).mean()
            terms["adversarial"] = softplus(-self.discriminator(codes)).mean()
            extra = self.weights.delta * terms["delta"] + self.weights.adversarial * terms["adversarial"]
            terms["loss"] = terms["loss"] + extra
        return Pass(terms, estimate)


def load_e4e(generator: StyleGenerator, weights: Path) -> CodesInverter:
    """e4e with the trained weights ``e4e.safetensors`` of the folder ``weights``."""
    return CodesInverter(read_encoder(weights / "e4e.safetensors", generator, progressive=True), generator)


def load_official_e4e(path: Path) -> CodesInverter:
    """e4e with its generator, from the official file (``e4e_ffhq_encode.pt``)."""
    return official_inverter(*read_official_encoder(path, "Encoder4Editing"))
