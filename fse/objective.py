"""What a method minimises, as the training loop sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fse.encoder import FeatureStyleEncoder
from fse.generators.style_generator import StyleGenerator
from fse.losses import FeatureStyleWeights, MultiScalePerceptualLoss, feature_loss, pixel_loss, reduce
from fse.perceptual import STLPIPS
from fse.sized_network import SizedNetwork


class Batch(NamedTuple):
    """Pictures (B, 3, R, R) in [-1, 1], the synthetic ones first, and the codes (S, N, 512) of those."""

    pictures: Tensor
    codes: Tensor

    @property
    def synthetic(self) -> slice:
        """Which pictures are synthetic, that is, unchanged renders of ``codes``."""
        return slice(0, len(self.codes))


Terms = dict[str, Tensor]


class Objective(Protocol):
    """A trainable method: its network, its losses, its reconstructions. Implementations are nn.Modules.

    Attributes
    ----------
    network : SizedNetwork
        What is trained, and shipped. Everything else inside is frozen.
    """

    @property
    def network(self) -> SizedNetwork: ...

    def forward(self, batch: Batch, generator: StyleGenerator | None) -> Terms:
        """Loss terms by name; ``loss`` is the one to minimise.

        ``generator`` says at which resolution the losses are taken: the full generator, or one with fewer
        codes and the same first layers. None asks for the warm start: the known codes of the synthetic
        pictures are regressed, and no picture is generated.
        """
        ...

    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """Pictures (B, 3, R, R) -> their reconstructions by name, the method's own result last."""
        ...


def codes_for(generator: StyleGenerator, codes: Tensor) -> Tensor:
    """The leading codes that a smaller generator with the same first layers reads."""
    return codes[:, : generator.num_codes]


class FeatureStyleObjective(nn.Module):
    """Eq. (5) for the Feature-Style Encoder; the warm start regresses codes and feature tensor.

    Parameters
    ----------
    encoder : FeatureStyleEncoder
        The network to train.
    generator : StyleGenerator
        Frozen, at the pictures' resolution.
    perceptual : STLPIPS
        V of Eq. (3), frozen.
    sides : sequence of int
        Scales of Eq. (3), in pixels.
    weights : FeatureStyleWeights
        Of Eq. (5).
    """

    def __init__(
        self,
        encoder: FeatureStyleEncoder,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        sides: Sequence[int],
        weights: FeatureStyleWeights,
    ) -> None:
        super().__init__()
        self.network = encoder
        self.generator = generator
        self.perceptual = perceptual
        self.multi_scale = MultiScalePerceptualLoss(perceptual, sides)
        self.weights = weights

    def forward(self, batch: Batch, generator: StyleGenerator | None) -> Terms:
        offsets, feature = self.network(batch.pictures)
        codes = offsets.float() + self.generator.mean_code
        if generator is None:
            return self._warm_start(batch, codes, feature)
        codes = codes_for(generator, codes)
        target = reduce(batch.pictures, generator.resolution)
        # One pass for both reconstructions; G(w^{1:K}) also serves Eq. (4).
        generator_feature = generator.feature(codes)
        both = generator.synthesize(codes.repeat(2, 1, 1), torch.cat((generator_feature, feature)))
        from_codes, from_feature = both.float().chunk(2)

        target_features = self.multi_scale.target(target)
        synthetic = batch.synthetic
        terms = {
            "mse": pixel_loss(from_codes[synthetic], target[synthetic]),
            "mse_feature": pixel_loss(from_feature, target),
            "perceptual": self.multi_scale(from_codes, target_features),
            "perceptual_feature": self.multi_scale(from_feature, target_features),
            "feature": feature_loss(feature, generator_feature),
        }
        weights = self.weights
        terms["loss"] = (
            weights.pixel * terms["mse"]
            + weights.pixel_feature * terms["mse_feature"]
            + weights.perceptual * (terms["perceptual"] + terms["perceptual_feature"])
            + weights.feature * terms["feature"]
        )
        return terms

    def _warm_start(self, batch: Batch, codes: Tensor, feature: Tensor) -> Terms:
        with torch.no_grad():
            known = self.generator.feature(batch.codes).float()
        scale = self.network.feature_norm.weight.detach().float()[:, None, None]
        synthetic = batch.synthetic
        terms = {
            "codes": mse_loss(codes[synthetic], batch.codes),
            "feature": mse_loss(feature[synthetic].float() / scale, known / scale),
        }
        terms["loss"] = terms["codes"] + terms["feature"]
        return terms

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """G(w) as ``codes`` and G(F, w) as ``feature``."""
        offsets, feature = self.network(pictures)
        codes = offsets.float() + self.generator.mean_code
        return {
            "codes": self.generator.synthesize(codes).float(),
            "feature": self.generator.synthesize(codes, feature).float(),
        }
