"""What a method minimises, as the training loop sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fse.encoder import FeatureStyleEncoder
from fse.face_losses import FaceLosses
from fse.generators.style_generator import HasNoise, StyleGenerator
from fse.losses import (
    FeatureStyleWeights,
    MultiScalePerceptualLoss,
    PerceptualDistance,
    feature_loss,
    pixel_loss,
    reduce,
    single,
)
from fse.sized_network import SizedNetwork


class Batch(NamedTuple):
    """Pictures (B, 3, R, R) in [-1, 1], the synthetic ones first, and the codes (S, N, 512) of those.

    ``progress`` is the fraction of the ordinary steps that is done, for schedules such as e4e's, and ``seeds`` are one
    for each picture, for what is drawn for it.
    """

    pictures: Tensor
    codes: Tensor
    progress: float = 0.0
    seeds: tuple[int, ...] = ()

    @property
    def synthetic(self) -> slice:
        """Which pictures are synthetic, that is, unchanged renders of ``codes``."""
        return slice(0, len(self.codes))


Terms = dict[str, Tensor]


class Estimate(NamedTuple):
    """Codes (B, N, 512) and their picture (B, 3, R, R), both detached."""

    codes: Tensor
    picture: Tensor


class Pass(NamedTuple):
    """What one forward pass of an objective gives.

    Attributes
    ----------
    terms : dict
        Loss terms by name; ``loss`` is the one to minimise.
    estimate : Estimate, optional
        Of the batch: what the next pass of the same step starts from, and what a critic judges.
    """

    terms: Terms
    estimate: Estimate | None = None


class Critic(Protocol):
    """A network that is trained against the method, after each ordinary step. Implementations are nn.Modules.

    Attributes
    ----------
    learning_rate : float
        Of its own Adam; constant, as its authors have it.
    """

    learning_rate: float

    def forward(self, batch: Batch, estimate: Estimate) -> Terms:
        """Loss terms by name, of real data against ``estimate``; ``loss`` is the one to minimise."""
        ...


class Objective(Protocol):
    """A trainable method: its network, its losses, its reconstructions. Implementations are nn.Modules.

    Attributes
    ----------
    network : SizedNetwork
        What is trained, and shipped. Everything else inside is frozen.
    passes : int
        Forward and backward passes of an ordinary step; their gradients add up. ReStyle has one an iteration.
    critic : Critic or None
        An adversary, of methods that have one; an nn.Module inside this one.
    """

    passes: int

    @property
    def network(self) -> SizedNetwork: ...

    @property
    def critic(self) -> Critic | None: ...

    def forward(self, batch: Batch, generator: StyleGenerator | None, before: Estimate | None = None) -> Pass:
        """One pass. ``before`` is the estimate of the pass before in the same step, None in the first.

        ``generator`` says at which resolution the losses are taken: the full generator, or one with fewer
        codes and the same first layers. None asks for the warm start, always one pass: the known codes of the
        synthetic pictures are regressed, and no picture is generated.
        """
        ...

    def reconstructions(self, pictures: Tensor) -> dict[str, Tensor]:
        """Pictures (B, 3, R, R) -> their reconstructions by name, the method's own result last."""
        ...


def codes_for(generator: StyleGenerator, codes: Tensor) -> Tensor:
    """The leading codes that a smaller generator with the same first layers reads."""
    return codes[:, : generator.num_codes]


class FeatureStyleObjective(nn.Module):
    """Eq. (5), or for faces Eq. (8), for the Feature-Style Encoder; the warm start regresses codes and feature tensor.

    Parameters
    ----------
    encoder : FeatureStyleEncoder
        The network to train.
    generator : StyleGenerator
        Frozen, at the pictures' resolution.
    perceptual : PerceptualDistance
        V of Eq. (3), frozen.
    sides : sequence of int
        Scales of Eq. (3), in pixels.
    weights : FeatureStyleWeights
        Of Eq. (5) and (8). Where ``feature`` is 0, the warm start leaves F out too.
    receive_feature : {1, 0, 2}
        How many of the two reconstructions that the losses see receive F. 1 is the paper's: G(w) and G(F, w).
        0 does without F. 2 is the released code's, whose two passes differ in random noise only: where the
        generator's noise is fixed they are one picture, and no loss sees G(w).
    faces : FaceLosses, optional
        Of Eq. (6) and (7).
    side : int, optional
        Of the pictures that the encoder sees, 256 officially; the generator's resolution by default.
    fresh_noise : bool
        Whether the first reconstruction is made with noise drawn anew, and the second with the stored one, as in the
        released code. Only for a generator that has noise.
    ramp : float
        Fraction of the training over which F, as the reconstructions receive it, goes from G(w^{1:K}) to the
        encoder's; linearly, as in the released code. 0 is the paper's: there is none.
    """

    passes = 1
    critic = None

    def __init__(
        self,
        encoder: FeatureStyleEncoder,
        generator: StyleGenerator,
        perceptual: PerceptualDistance,
        sides: Sequence[int],
        weights: FeatureStyleWeights,
        receive_feature: Literal[0, 1, 2] = 1,
        *,
        faces: FaceLosses | None = None,
        side: int | None = None,
        fresh_noise: bool = False,
        ramp: float = 0.0,
    ) -> None:
        super().__init__()
        if fresh_noise and not isinstance(generator, HasNoise):
            raise ValueError("this generator adds no noise that could be drawn anew")
        self.network = encoder
        self.generator = generator
        self.perceptual = perceptual
        self.multi_scale = MultiScalePerceptualLoss(perceptual, sides)
        self.weights = weights
        self.receive_feature = receive_feature
        self.faces = faces
        self.side = side or generator.resolution
        self.fresh_noise = fresh_noise
        self.ramp = ramp

    def forward(self, batch: Batch, generator: StyleGenerator | None, before: Estimate | None = None) -> Pass:
        offsets, feature = self.network(reduce(batch.pictures, self.side))
        codes = single(offsets) + self.generator.mean_code
        if generator is None:
            return self._warm_start(batch, codes, feature)
        codes = codes_for(generator, codes)
        target = reduce(batch.pictures, generator.resolution)
        # One pass for both reconstructions; G(w^{1:K}) also serves Eq. (4).
        generator_feature = generator.feature(codes)
        given = feature
        if batch.progress < self.ramp:
            given = torch.lerp(generator_feature, feature.to(generator_feature.dtype), batch.progress / self.ramp)
        received = {0: [generator_feature], 1: [generator_feature, given], 2: [given]}[self.receive_feature]
        if self.fresh_noise and isinstance(generator, HasNoise):
            noise = self._noise(batch, generator)
            first = single(generator.synthesize(codes, received[0], noise=noise))
            second = single(generator.synthesize(codes, received[-1]))
        else:
            both = generator.synthesize(codes.repeat(len(received), 1, 1), torch.cat(received))
            reconstructions = single(both).chunk(len(received))
            first, second = reconstructions[0], reconstructions[-1]

        target_features = self.multi_scale.target(target)
        synthetic = batch.synthetic
        terms = {
            "mse": pixel_loss(first[synthetic], target[synthetic]) if len(batch.codes) else target.new_zeros(()),
            "mse_feature": pixel_loss(second, target),
            "perceptual": self.multi_scale(first, target_features),
        }
        terms["perceptual_feature"] = (
            terms["perceptual"] if second is first else self.multi_scale(second, target_features)
        )
        terms["feature"] = feature_loss(feature, generator_feature)
        weights = self.weights
        terms["loss"] = (
            weights.pixel * terms["mse"]
            + weights.pixel_feature * terms["mse_feature"]
            + weights.perceptual * (terms["perceptual"] + terms["perceptual_feature"])
            + weights.feature * terms["feature"]
        )
        if self.faces is not None:
            face_target = self.faces.target(target)
            of_first = self.faces(first, face_target)
            of_second = of_first if second is first else self.faces(second, face_target)
            for name, weight in (("identity", weights.identity), ("parsing", weights.parsing)):
                if name in of_first:
                    terms |= {name: of_first[name], f"{name}_feature": of_second[name]}
                    terms["loss"] = terms["loss"] + weight * (of_first[name] + of_second[name])
        return Pass(terms)

    @staticmethod
    def _noise(batch: Batch, generator: HasNoise) -> list[Tensor]:
        device = batch.pictures.device
        drawn = [generator.fresh_noise(torch.Generator(device).manual_seed(seed)) for seed in batch.seeds]
        return [torch.cat(pictures) for pictures in zip(*drawn, strict=True)]

    def _warm_start(self, batch: Batch, codes: Tensor, feature: Tensor) -> Pass:
        with torch.no_grad():
            known = single(self.generator.feature(batch.codes))
        scale = single(self.network.feature_norm.weight.detach())[:, None, None]
        synthetic = batch.synthetic
        terms = {
            "codes": mse_loss(codes[synthetic], batch.codes),
            "feature": mse_loss(single(feature[synthetic]) / scale, known / scale),
        }
        terms["loss"] = terms["codes"] + (terms["feature"] if self.weights.feature else 0)
        return Pass(terms)

    @torch.no_grad()
    def reconstructions(self, pictures: Tensor, generator: StyleGenerator | None = None) -> dict[str, Tensor]:
        """G(w) as ``codes`` and, unless trained without it, G(F, w) as ``feature``.

        ``generator`` may be a smaller one with the same first layers; its pictures are at its resolution.
        """
        offsets, feature = self.network(reduce(pictures, self.side))
        generator = generator or self.generator
        codes = codes_for(generator, single(offsets) + self.generator.mean_code)
        found = {"codes": single(generator.synthesize(codes))}
        if self.receive_feature:
            found["feature"] = single(generator.synthesize(codes, feature))
        return found
