"""HFGI's training: consultation and alignment on a frozen encoder (sections 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from baselines.hfgi.consultation import Consultation
from baselines.hfgi.inversion import consulted, resized, shown
from baselines.hfgi.misalignment import misalign
from baselines.psp import PyramidEncoder
from fse.generators.style_generator import StyleGenerator
from fse.losses import MultiScalePerceptualLoss, pixel_loss, reduce
from fse.objective import Batch, Estimate, Pass, codes_for
from fse.perceptual import STLPIPS


@dataclass(frozen=True)
class HFGIWeights:
    """HFGI's loss weights: L2 1.0, perceptual 0.8, alignment 0.1, as in the published training command.

    Its identity term (0.1, ArcFace) needs a network that the embedded profile does not have. The paper's adversarial
    term is not in the released training code, and not here.
    """

    pixel: float = 1.0
    perceptual: float = 0.8
    align: float = 0.1


class HFGIObjective(nn.Module):
    """HFGI's losses. The aligner gets each residual in a random perspective, and is to put it back.

    Parameters
    ----------
    consultation : Consultation
        The networks to train.
    encoder : PyramidEncoder
        e4e, trained; frozen here.
    generator : StyleGenerator
        Frozen, at the pictures' resolution, its K the consultation's. So is that of the generators in ``forward``.
    perceptual : STLPIPS
        Frozen.
    sides : sequence of int
        Scales of the perceptual loss, in pixels.
    weights : HFGIWeights
        Of the terms.

    Raises
    ------
    ValueError
        When the consultation is made for another K or another shape of F than the generator's.
    """

    passes = 1
    critic = None

    def __init__(
        self,
        consultation: Consultation,
        encoder: PyramidEncoder,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        sides: Sequence[int],
        weights: HFGIWeights,
    ) -> None:
        super().__init__()
        size = consultation.size
        made = (size.feature_layer, size.residue.feature_shape)
        if made != (generator.feature_layer, generator.feature_shape):
            raise ValueError(
                f"the consultation is made for K = {made[0]} with F of {made[1]}, and the generator has "
                f"K = {generator.feature_layer} with F of {generator.feature_shape}"
            )
        self.network = consultation
        self.encoder = encoder.eval().requires_grad_(False)
        self.generator = generator
        self.perceptual = perceptual
        self.scales = MultiScalePerceptualLoss(perceptual, sides)
        self.weights = weights

    def forward(self, batch: Batch, generator: StyleGenerator | None, before: Estimate | None = None) -> Pass:
        # Drawn from the batch itself: a training that goes on from its last state sees the same perspectives.
        random = np.random.default_rng(crc32(batch.codes[:, 0].float().cpu().numpy().tobytes()))
        pictures = resized(batch.pictures.float(), self.network.size.side)
        if generator is None:
            return self._warm_start(pictures, random)
        with torch.no_grad():
            codes = codes_for(generator, self.encoder(batch.pictures).float() + self.generator.mean_code)
            feature = generator.feature(codes)
            initial = shown(generator.synthesize(codes, feature).float(), self.network.size.side)
            residual = pictures - initial
            warped = misalign(residual, random)
        aligned, condition = self.network(warped, initial)
        picture = generator.synthesize(codes, consulted(feature, condition)).float()

        target = reduce(batch.pictures, generator.resolution)
        terms = {
            "mse": pixel_loss(picture, target),
            "perceptual": self.scales(picture, self.scales.target(target)),
            "align": l1_loss(aligned.float(), residual),
        }
        weights = self.weights
        terms["loss"] = (
            weights.pixel * terms["mse"] + weights.perceptual * terms["perceptual"] + weights.align * terms["align"]
        )
        return Pass(terms)

    def _warm_start(self, pictures: Tensor, random: np.random.Generator) -> Pass:
        """The alignment alone, without a generated picture: the next picture of the batch stands for G(w)."""
        others = pictures.roll(1, 0)
        residual = pictures - others
        aligned = self.network.align(misalign(residual, random), others)
        loss = l1_loss(aligned.float(), residual)
        return Pass({"align": loss, "loss": loss})

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """e4e's G(w) as ``codes`` and the consulted G(F, w^{K+1:N}) as ``feature``."""
        network, side = self.network, self.encoder.size.side
        codes = self.encoder(resized(pictures, side)).float() + self.generator.mean_code
        found = self.generator.synthesize(codes).float()
        initial = shown(found, network.size.side)
        _, condition = network(resized(pictures, network.size.side) - initial, initial)
        feature = consulted(self.generator.feature(codes), condition)
        return {"codes": found, "feature": self.generator.synthesize(codes, feature).float()}
