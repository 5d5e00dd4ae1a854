"""What each trainable method minimises, built from ``params.yaml``: the one place where sizes and weights meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from baselines.e4e import E4EObjective, E4EWeights
from baselines.hfgi.consultation import Consultation, ConsultationSize
from baselines.hfgi.inversion import check_first_stage
from baselines.hfgi.objective import HFGIObjective, HFGIWeights
from baselines.hfgi.residual_encoder import ResidualEncoderSize
from baselines.idinvert.discriminator import Discriminator, PictureCritic
from baselines.idinvert.encoder import InDomainEncoder, InDomainEncoderSize
from baselines.idinvert.objective import InDomainObjective, InDomainTrainingWeights
from baselines.psp import PSPObjective, PSPWeights, PyramidEncoder, PyramidSize
from baselines.restyle import ReStyleObjective
from fse.checkpoints.network_file import read_network
from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.losses import FeatureStyleWeights
from fse.objective import FeatureStyleObjective, Objective
from fse.perceptual import STLPIPS
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from pipelines.parameters import E4E, Parameters, ReStyleE4E, ReStylePSP, Section, Train


@dataclass(frozen=True)
class Ingredients:
    """What every objective is made of.

    Attributes
    ----------
    generator : MobileStyleGAN
        Frozen, at the pictures' resolution and the method's K.
    perceptual : STLPIPS
        Frozen.
    parameters : Parameters
        The whole file.
    weights : Path
        Folder of trained weights, for methods that are trained on top of others.
    """

    generator: MobileStyleGAN
    perceptual: STLPIPS
    parameters: Parameters
    weights: Path

    @property
    def device(self) -> torch.device:
        return self.generator.mean_code.device

    def trunk(self, input_channels: int = 3) -> TrunkSize:
        return TrunkSize(**self.parameters.encoder.model_dump(), input_channels=input_channels)

    def pyramid(self, input_channels: int = 3, pyramid: bool = True, progressive: bool = False) -> PyramidEncoder:
        """An encoder of the pSp family."""
        generator, width = self.generator, self.parameters.pyramid.head_width
        size = PyramidSize(
            generator.num_codes,
            generator.code_dim,
            self.trunk(input_channels),
            width,
            generator.resolution,
            pyramid=pyramid,
            progressive=progressive,
        )
        return PyramidEncoder(size).to(self.device)


def fse(made: Ingredients) -> FeatureStyleObjective:
    """The Feature-Style Encoder at the parameters' size, F's scale set to the generator's."""
    own, generator = made.parameters.fse, made.generator
    size = EncoderSize(
        generator.num_codes,
        generator.code_dim,
        made.trunk(),
        own.pooling,
        generator.feature_shape[0],
        own.feature_stride,
        own.feature_layer,
    )
    side, wanted = (
        generator.resolution // (8 * size.trunk.stem_stride * size.feature_stride),
        generator.feature_shape[1],
    )
    if side != wanted:
        raise Refusal(
            f"params.yaml: with fse.feature_stride = {size.feature_stride} and encoder.stem_stride = "
            f"{size.trunk.stem_stride} the encoder's F is {side} px a side, and the generator's convolution "
            f"fse.feature_layer = {size.feature_layer} has {wanted}; change one of the three"
        )
    encoder = FeatureStyleEncoder(size).to(made.device)
    with torch.no_grad():
        codes = generator.map(torch.randn(128, generator.code_dim, device=made.device))
        features = generator.feature(codes).transpose(0, 1).flatten(1)
    encoder.start_from(features.mean(1), features.std(1))
    weights = FeatureStyleWeights(own.pixel, own.perceptual, own.feature, own.pixel_feature)
    return FeatureStyleObjective(encoder, generator, made.perceptual, own.perceptual_sides, weights)


def fse_long(made: Ingredients) -> FeatureStyleObjective:
    """FSE with the contest's weights, to be trained on."""
    objective = fse(made)
    encoder = read_network(made.weights / "fse.safetensors", FeatureStyleEncoder)
    if encoder.size != objective.network.size:
        raise Refusal(
            f"{made.weights / 'fse.safetensors'} has another size than the sections fse and encoder of params.yaml; "
            "train fse first"
        )
    objective.network.load_state_dict(encoder.state_dict())
    return objective


def hfgi_long(made: Ingredients) -> HFGIObjective:
    """HFGI with the contest's weights, to be trained on; its e4e stays the contest's."""
    objective = hfgi(made)
    path = made.weights / "hfgi.safetensors"
    consultation = read_network(path, Consultation)
    check_first_stage(path, made.weights / "e4e.safetensors")
    if consultation.size != objective.network.size:
        raise Refusal(f"{path} has another size than the section hfgi of params.yaml; train hfgi first")
    objective.network.load_state_dict(consultation.state_dict())
    return objective


def psp(made: Ingredients) -> PSPObjective:
    """pSp on the shared trunk."""
    own = made.parameters.psp
    weights = PSPWeights(own.pixel, own.perceptual)
    return PSPObjective(made.pyramid(), made.generator, made.perceptual, own.perceptual_sides, weights)


def e4e(made: Ingredients) -> E4EObjective:
    """e4e: pSp's network with progressive rows."""
    own = made.parameters.e4e
    encoder = made.pyramid(progressive=True)
    return E4EObjective(encoder, made.generator, made.perceptual, own.perceptual_sides, _e4e_weights(own))


def restyle_psp(made: Ingredients) -> ReStyleObjective:
    """ReStyle with pSp's losses."""
    own = made.parameters.restyle_psp
    return _restyle(made, own, PSPWeights(own.pixel, own.perceptual))


def restyle_e4e(made: Ingredients) -> ReStyleObjective:
    """ReStyle with e4e's losses and progressive rows."""
    own = made.parameters.restyle_e4e
    return _restyle(made, own, _e4e_weights(own))


def _restyle(made: Ingredients, own: ReStylePSP | ReStyleE4E, weights: PSPWeights | E4EWeights) -> ReStyleObjective:
    encoder = made.pyramid(6, pyramid=False, progressive=isinstance(weights, E4EWeights))
    return ReStyleObjective(
        encoder, made.generator, made.perceptual, own.perceptual_sides, weights, own.passes, own.iterations
    )


def _e4e_weights(own: E4E | ReStyleE4E) -> E4EWeights:
    return E4EWeights(own.pixel, own.perceptual, own.delta, own.adversarial)


def hfgi(made: Ingredients) -> HFGIObjective:
    """HFGI on the trained e4e, whose budget comes on top of its own."""
    own, generator = made.parameters.hfgi, made.generator
    size = ConsultationSize(
        ResidualEncoderSize(feature_shape=generator.feature_shape, condition_width=own.condition_width),
        feature_layer=own.feature_layer,
        side=own.side,
    )
    encoder = read_network(made.weights / "e4e.safetensors", PyramidEncoder).to(made.device)
    weights = HFGIWeights(own.pixel, own.perceptual, own.align)
    consultation = Consultation(size).to(made.device)
    return HFGIObjective(consultation, encoder, generator, made.perceptual, own.perceptual_sides, weights)


def idinvert(made: Ingredients) -> InDomainObjective:
    """The in-domain encoder, with its picture discriminator."""
    own, generator = made.parameters.idinvert, made.generator
    size = InDomainEncoderSize(generator.resolution, generator.num_codes, own.channels_base, own.channels_max)
    encoder = InDomainEncoder(size).to(made.device)
    with torch.no_grad():
        codes = generator.map(torch.randn(1024, generator.code_dim, device=made.device))
    encoder.start_from(generator.mean_code, codes.std(0))
    weights = InDomainTrainingWeights(own.pixel, own.perceptual, own.adversarial)
    critic = PictureCritic(Discriminator()).to(made.device)
    return InDomainObjective(encoder, generator, made.perceptual, own.perceptual_sides, weights, critic)


OBJECTIVES: dict[str, Callable[[Ingredients], Objective]] = {
    "fse": fse,
    "fse_long": fse_long,
    "psp": psp,
    "e4e": e4e,
    "restyle_psp": restyle_psp,
    "restyle_e4e": restyle_e4e,
    "hfgi": hfgi,
    "hfgi_long": hfgi_long,
    "idinvert": idinvert,
}


FIRST_STAGES = {"hfgi": ("e4e",), "fse_long": ("fse",), "hfgi_long": ("e4e", "hfgi")}
"""METHOD -> the trained weights that it starts from."""

LONGER = {"fse_long": "fse", "hfgi_long": "hfgi"}
"""A longer training -> the method of the contest that it trains on."""


def budget_of(method: str, parameters: Parameters) -> Train:
    """The contest's; of a longer training, without a warm start, and with losses at the full resolution throughout."""
    if method not in LONGER:
        return parameters.train
    longer = parameters.longer
    own = {"seed": longer.seed, "learning_rate": longer.learning_rate, "steps": getattr(longer, method)}
    return parameters.train.model_copy(update={**own, "warm_steps": 0, "fine_from": 0.0})


def feature_layer_of(method: str, parameters: Parameters) -> int:
    """K of a method; the default, 5, where it has no feature tensor."""
    layer: int = getattr(own_parameters(method, parameters), "feature_layer", 5)
    return layer


def own_parameters(method: str, parameters: Parameters) -> Section:
    """Sizes and weights of losses of a method."""
    own: Section = getattr(parameters, LONGER.get(method, method))
    return own
