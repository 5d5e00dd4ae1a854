"""The training of the domain-guided encoder (section 3.1, Eq. 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from baselines.idinvert.discriminator import PictureCritic
from baselines.idinvert.encoder import InDomainEncoder
from fse.generators.style_generator import StyleGenerator
from fse.losses import MultiScalePerceptualLoss, pixel_loss, reduce
from fse.objective import Batch, Estimate, Pass, codes_for
from fse.perceptual import STLPIPS


@dataclass(frozen=True)
class InDomainTrainingWeights:
    """Weights of the encoder's losses: pixels 1.0 and adversarial 0.08 as in the release's training script.

    Its perceptual weight, 5e-5, is for VGG16; ST-LPIPS has the 0.8 that it has in pSp's kind of training.
    """

    pixel: float = 1.0
    perceptual: float = 0.8
    adversarial: float = 0.08


class InDomainObjective(nn.Module):
    """The encoder's losses, all on every picture: officially, too, no codes are known, and all pictures are real.

    Parameters
    ----------
    encoder : InDomainEncoder
        The network to train, after :meth:`~baselines.idinvert.encoder.InDomainEncoder.start_from`.
    generator : StyleGenerator
        Frozen, at the pictures' resolution.
    perceptual : STLPIPS
        Frozen.
    sides : sequence of int
        Scales of the perceptual loss, in pixels.
    weights : InDomainTrainingWeights
        Of the terms.
    critic : PictureCritic
        The adversary.
    """

    passes = 1

    def __init__(
        self,
        encoder: InDomainEncoder,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        sides: Sequence[int],
        weights: InDomainTrainingWeights,
        critic: PictureCritic,
    ) -> None:
        super().__init__()
        self.network = encoder
        self.generator = generator
        self.perceptual = perceptual
        self.scales = MultiScalePerceptualLoss(perceptual, sides)
        self.weights = weights
        self.critic = critic

    def forward(self, batch: Batch, generator: StyleGenerator | None, before: Estimate | None = None) -> Pass:
        codes = self._codes(batch.pictures)
        if generator is None:
            loss = mse_loss(codes[batch.synthetic], batch.codes)
            return Pass({"codes": loss, "loss": loss})
        target = reduce(batch.pictures, generator.resolution)
        picture = generator.synthesize(codes_for(generator, codes)).float()
        terms = {
            "mse": pixel_loss(picture, target),
            "perceptual": self.scales(picture, self.scales.target(target)),
            "adversarial": self.critic.deception(picture),
        }
        weights = self.weights
        terms["loss"] = (
            weights.pixel * terms["mse"]
            + weights.perceptual * terms["perceptual"]
            + weights.adversarial * terms["adversarial"]
        )
        return Pass(terms, Estimate(codes.detach(), picture.detach()))

    def _codes(self, pictures: Tensor) -> Tensor:
        # The last normalisation is left an affine layer: over four pictures, not the official sixteen a process, the
        # statistics of each entry would tell more of the other pictures than of this one.
        self.network.last.bn.eval()
        codes: Tensor = self.network(pictures).float()
        return codes

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """G(w) as ``codes``."""
        return {"codes": self.generator.synthesize(self._codes(pictures)).float()}
