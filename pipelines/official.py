"""What the official files of weights hold, and the networks that they are checked against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from baselines.hfgi.residual_aligner import ResidualAligner
from baselines.hfgi.residual_encoder import ResidualEncoder
from baselines.hyperstyle.hypernetwork import HyperNetwork
from baselines.hyperstyle.w_encoder import WEncoder
from baselines.idinvert.encoder import InDomainEncoder
from baselines.idinvert.vgg16 import VGG16
from baselines.psp import PyramidEncoder
from baselines.styleres.inversion import BLOCK, INSERTED, encoder_size, generator_in_styleres
from baselines.styleres.transformation import Transformation
from fse.bisenet import BiSeNet
from fse.checkpoints.checkpoint import Checkpoint, check_parameters
from fse.encoder import FeatureStyleEncoder
from fse.face_recognition import ArcFace, IRFace
from fse.generators.families import FAMILIES, Family
from fse.generators.stylegan2 import StyleGAN2
from fse.refusal import Refusal

Build = Callable[[Mapping[str, Tensor], Mapping[str, Any]], tuple[nn.Module, Mapping[str, Tensor]]]
"""A network's tensors and options in a file -> the network, and its state by its own names."""


def _sized(network: Any) -> Build:
    return lambda tensors, options: (network(network.size_of(tensors, options)), tensors)


@dataclass(frozen=True)
class Kind:
    """One kind of official file.

    Attributes
    ----------
    holds : str
        For people: which network, in which official file.
    marks : tuple of str
        Parameters that files of this kind have, whatever the size of the network.
    networks : mapping of str to Build
        Prefix of a network's parameters in the file -> how to build it.
    others : tuple of str
        Further tensors that the file must have.
    encoder_types : tuple of str
        ``opts.encoder_type`` of such files, where parameters alone do not tell.
    unread : tuple of str
        Parameters of the network that the official code does not take from the file either.
    """

    holds: str
    marks: tuple[str, ...]
    networks: Mapping[str, Build]
    others: tuple[str, ...] = ()
    encoder_types: tuple[str, ...] = ()
    unread: tuple[str, ...] = field(default=())


def _psp_family(holds: str, encoder_types: tuple[str, ...], marks: tuple[str, ...]) -> Kind:
    networks = {"state_dict.encoder.": _sized(PyramidEncoder), "state_dict.decoder.": _sized(StyleGAN2)}
    return Kind(holds, ("state_dict.encoder.input_layer.0.weight", *marks), networks, ("latent_avg",), encoder_types)


def _generator(family: Family, prefix: str) -> Kind:
    def build(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Tensor]]:
        size, state = family.size_and_state(tensors, options)
        return family.network(size, 1), state

    return Kind(family.holds, tuple(prefix + mark for mark in family.marks), {prefix: build}, unread=family.rebuilt)


def _styleres() -> Kind:
    def e4e(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Tensor]]:
        return PyramidEncoder(encoder_size(tensors, options)), tensors

    def generator(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Tensor]]:
        size, state = generator_in_styleres(tensors, {})
        return StyleGAN2(size, 1), state

    networks = {"e4e.": e4e, "generator_smooth.": generator, f"generator_smooth.{BLOCK}": _sized(Transformation)}
    marks = ("e4e.input_layer.0.weight", f"generator_smooth.{INSERTED}gates.down1.weight")
    return Kind("StyleRes (styleres_ffhq.pth)", marks, networks, ("latent_avg",))


_LATERAL = ("state_dict.encoder.latlayer1.weight",)
KINDS = {
    "fse-encoder": Kind(
        "the Feature-Style Encoder (143_enc.pth)",
        ("content_layer.1.weight", "styles.0.weight"),
        {"": _sized(FeatureStyleEncoder)},
    ),
    "fse-training": Kind(
        "the Feature-Style Encoder, saved in training (checkpoint.pth)",
        ("enc_state_dict.content_layer.1.weight", "enc_state_dict.styles.0.weight"),
        {"enc_state_dict.": _sized(FeatureStyleEncoder)},
    ),
    "hfgi": Kind(
        "HFGI (ckpt.pt)",
        ("state_dict.residue.conv_layer1.0.weight", "state_dict.grid_align.conv_layer1.0.weight"),
        {
            "state_dict.encoder.": _sized(PyramidEncoder),
            "state_dict.decoder.": _sized(StyleGAN2),
            "state_dict.residue.": _sized(ResidualEncoder),
            "state_dict.grid_align.": _sized(ResidualAligner),
        },
        ("latent_avg",),
    ),
    "psp": _psp_family("pSp (psp_ffhq_encode.pt)", ("GradualStyleEncoder",), _LATERAL),
    "e4e": _psp_family("e4e (e4e_ffhq_encode.pt)", ("Encoder4Editing",), _LATERAL),
    "restyle-psp": _psp_family("ReStyle on pSp (restyle_psp_ffhq_encode.pt)", ("BackboneEncoder",), ()),
    "restyle-e4e": _psp_family("ReStyle on e4e (restyle_e4e_ffhq_encode.pt)", ("ProgressiveBackboneEncoder",), ()),
    "hyperstyle": Kind(
        "HyperStyle (hyperstyle_ffhq.pt)",
        ("state_dict.hypernet.conv1.weight", "state_dict.hypernet.shared_weight_hypernet.w1"),
        {"state_dict.hypernet.": _sized(HyperNetwork), "state_dict.decoder.": _sized(StyleGAN2)},
        ("latent_avg",),
    ),
    "w-encoder": Kind(
        "the encoder into W that HyperStyle starts from (faces_w_encoder.pt)",
        ("state_dict.encoder.input_layer.0.weight", "state_dict.encoder.linear.weight"),
        {"state_dict.encoder.": _sized(WEncoder)},
    ),
    "styleres": _styleres(),
    "idinvert-encoder": Kind(
        "the encoder of in-domain inversion (styleganinv_ffhq256_encoder.pth)",
        ("block0.conv.weight", "block1.conv1.weight"),
        {"": _sized(InDomainEncoder)},
    ),
    "vgg16": Kind(
        "VGG-16 of in-domain inversion (vgg16.pth)",
        ("layer0.weight", "layer2.weight", "layer5.weight"),
        {"": _sized(VGG16)},
    ),
    "arcface": Kind(
        "ArcFace iResNet-50 (backbone.pth)", ("conv1.weight", "prelu.weight", "fc.weight"), {"": _sized(ArcFace)}
    ),
    "ir-se-50": Kind(
        "IR-SE-50 (model_ir_se50.pth)",
        ("input_layer.0.weight", "output_layer.3.weight", "body.0.res_layer.5.fc1.weight"),
        {"": _sized(IRFace)},
    ),
    "curricularface": Kind(
        "CurricularFace IR-101 (CurricularFace_Backbone.pth)",
        ("input_layer.0.weight", "output_layer.3.weight"),
        {"": _sized(IRFace)},
    ),
    "bisenet": Kind(
        "BiSeNet face parsing (79999_iter.pth)",
        ("cp.resnet.conv1.weight", "conv_out.conv_out.weight"),
        {"": _sized(BiSeNet)},
    ),
}
KINDS |= {name: _generator(family, family.prefixes[0]) for name, family in FAMILIES.items()}
"""Every kind by its name, more special ones before those whose marks they share: files of encoders hold generators."""


def recognise(checkpoint: Checkpoint) -> str:
    """The name of the first kind whose marks the file has.

    Raises
    ------
    Refusal
        Listing the kinds, when it is none of them.
    """
    for name, kind in KINDS.items():
        if all(mark in checkpoint.tensors for mark in kind.marks) and (
            not kind.encoder_types or _options(checkpoint).get("encoder_type") in kind.encoder_types
        ):
            return name
    first = ", ".join(list(checkpoint.tensors)[:3])
    raise Refusal(
        f"{checkpoint.path} holds {len(checkpoint.tensors)} tensors ({first}, ...) of no network that is known here "
        f"({', '.join(KINDS)}); give --expect any to convert them all the same"
    )


def check(checkpoint: Checkpoint, name: str) -> int:
    """Compare names and shapes with the networks of kind ``name``, which are built without memory for their weights.

    Returns
    -------
    parameters : int
        How many numbers the networks have, buffers included.

    Raises
    ------
    Refusal
        Naming the parameter that is missing, or has which shape instead of which.
    """
    kind = KINDS[name]
    remedy = f"it is no {name}, give another file or another --expect"
    found = _options(checkpoint).get("encoder_type")
    if kind.encoder_types and found not in kind.encoder_types:
        raise Refusal(f"{checkpoint.path}: its encoder_type is {found!r} and not {kind.encoder_types[0]!r}; {remedy}")
    parameters = 0
    for prefix, build in kind.networks.items():
        tensors = checkpoint.part(prefix)
        try:
            with torch.device("meta"):
                network, state = build(tensors, _options(checkpoint))
        except ValueError as error:  # refusals, and sizes that no network can have
            raise Refusal(f"{checkpoint.path}, {prefix or name}: {error}") from error
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if key not in kind.unread}
        check_parameters(shapes, state, f"{checkpoint.path}, {prefix or name}", remedy)
        parameters += sum(state[key].numel() for key in shapes)
    for other in kind.others:
        if other not in checkpoint.tensors:
            raise Refusal(f"{checkpoint.path}: {other} is missing; {remedy}")
    return parameters


def _options(checkpoint: Checkpoint) -> Mapping[str, Any]:
    found = checkpoint.options.get("opts", checkpoint.options)
    return found if isinstance(found, Mapping) else {}
