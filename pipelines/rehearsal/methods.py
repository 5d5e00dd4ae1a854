"""Stand-ins of the methods' checkpoints: encoders that fit the stand-ins of the generators, at the official 256 px."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from torch import Tensor

from baselines.hfgi.residual_aligner import ResidualAligner, ResidualAlignerSize
from baselines.hfgi.residual_encoder import ResidualEncoder, ResidualEncoderSize
from baselines.hyperstyle.hypernetwork import HyperNetwork, HyperNetworkSize
from baselines.hyperstyle.w_encoder import WEncoder, WEncoderSize
from baselines.idinvert.encoder import InDomainEncoder, InDomainEncoderSize
from baselines.idinvert.vgg16 import VGG16, VGG16Size
from baselines.psp import PyramidEncoder, PyramidSize
from baselines.styleres.transformation import Transformation, TransformationSize
from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.generators.stylegan2 import StyleGAN2
from fse.sized_network import SizedNetwork
from fse.trunk import TrunkSize
from pipelines.rehearsal.filling import fill_network
from pipelines.rehearsal.generators import FACES, ada_state, stylegan1
from pipelines.rehearsal.networks import IR_DEPTHS, IR_WIDTHS, TRUNK
from pipelines.rehearsal.pytorch_file_writer import write_pytorch

_HEAD_WIDTH = 16

_ENCODERS = {
    "psp": "GradualStyleEncoder",
    "e4e": "Encoder4Editing",
    "restyle_psp": "BackboneEncoder",
    "restyle_e4e": "ProgressiveBackboneEncoder",
}
_HYPERNETWORK = HyperNetworkSize(
    FACES.channels, (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15), (0, 2, 3, 5, 6, 8, 9), 6, IR_WIDTHS, IR_DEPTHS, 16, 16, 32
)
"""All convolutions of :data:`~pipelines.rehearsal.generators.FACES`; those from 32 channels to 32 share a head."""

_OLD = ("psp_ffhq_encode.pt",)
"""From before PyTorch 1.6, by its date and its environment."""


def write_methods(folder: Path, faces: StyleGAN2, cars: StyleGAN2) -> None:
    """Every encoder's file; that of pSp's family holds the generator, ``faces`` or ``cars``, too."""
    for name, encoder_type in _ENCODERS.items():
        for domain, generator in (("ffhq", faces), ("cars", cars)):
            _write_psp_family(folder / f"{name}_{domain}_encode.pt", encoder_type, generator)
    _write_psp_family(folder / "ckpt.pt", _ENCODERS["e4e"], faces, _consultation(faces))

    size = EncoderSize(faces.num_codes, trunk=TRUNK, feature_channels=faces.feature_shape[0])
    _write(FeatureStyleEncoder(size), folder / "143_enc.pth")

    in_domain = stylegan1("styleganinv_ffhq256_generator.pth")
    write_pytorch(in_domain.state_dict(), folder / "styleganinv_ffhq256_generator.pth", modern=False)
    of_domain = InDomainEncoderSize(in_domain.resolution, in_domain.num_codes, 16, 16)
    _write(InDomainEncoder(of_domain), folder / "styleganinv_ffhq256_encoder.pth", modern=False)
    _write(VGG16(VGG16Size((16, 16, 16, 16, 16))), folder / "vgg16.pth", modern=False)


def write_newer_methods(folder: Path, faces: StyleGAN2) -> None:
    """HyperStyle's two files, and StyleRes's."""
    networks = {"hypernet": HyperNetwork(_HYPERNETWORK), "encoder": WEncoder(WEncoderSize(trunk=_ir_se(3)))}
    paths = {"hypernet": folder / "hyperstyle_ffhq.pt", "encoder": folder / "faces_w_encoder.pt"}
    for part, network in networks.items():
        fill_network(network, paths[part].name)
        state = {f"{part}.{name}": tensor for name, tensor in network.state_dict().items()}
        if part == "hypernet":  # its shared head is there again under each block that uses it
            for layer, name in product(_HYPERNETWORK.shared, ("w1", "b1", "w2", "b2")):
                head = state[f"hypernet.shared_weight_hypernet.{name}"]
                state[f"hypernet.refinement_blocks.{layer}.hypernet.{name}"] = head
        options = {"encoder_type": "WEncoder" if part == "encoder" else "SharedWeightsHyperNetResNet"}
        write_pytorch(_with_generator(state, faces, options), paths[part], modern=True)

    path = folder / "styleres_ffhq.pth"
    encoder = PyramidEncoder(PyramidSize(faces.num_codes, trunk=_ir_se(3), head_width=_HEAD_WIDTH, progressive=True))
    transformation = Transformation(TransformationSize(IR_WIDTHS[1], faces.size.channels[4], 16))
    for part, added in (("e4e", encoder), ("transformation", transformation)):
        fill_network(added, f"{path.name} {part}")
    inserted = {f"synthesis.b64.{name}": tensor for name, tensor in transformation.state_dict().items()}
    content = {
        "e4e": encoder.state_dict(),
        "generator_smooth": ada_state(faces) | inserted,
        "latent_avg": faces.mean_code.clone(),
    }
    write_pytorch(content, path, modern=True)


def _ir_se(input_channels: int) -> TrunkSize:
    return TrunkSize(IR_WIDTHS, IR_DEPTHS, 16, input_channels=input_channels, form="ir_se")


def _with_generator(
    state: Mapping[str, Tensor], generator: StyleGAN2, options: Mapping[str, object]
) -> dict[str, object]:
    """As the trainings of pSp's family save: ``state_dict``, ``latent_avg`` (N, 512) and ``opts``, a dictionary."""
    decoder = {f"decoder.{name}": tensor for name, tensor in generator.state_dict().items()}
    shared = {"exp_dir": "stand-in", "output_size": generator.resolution, "device": "cuda:0", "checkpoint_path": None}
    return {
        "state_dict": dict(state) | decoder,
        "latent_avg": generator.mean_code.clone(),
        "opts": shared | dict(options),
    }


def _write_psp_family(
    path: Path, encoder_type: str, generator: StyleGAN2, others: Mapping[str, Tensor] | None = None
) -> None:
    iterative = "Backbone" in encoder_type
    trunk = _ir_se(6 if iterative else 3)
    encoder = PyramidEncoder(
        PyramidSize(generator.num_codes, trunk=trunk, head_width=_HEAD_WIDTH, pyramid=not iterative)
    )
    fill_network(encoder, path.name)
    options = {
        "encoder_type": encoder_type, "dataset_type": f"{'cars' if 'cars' in path.name else 'ffhq'}_encode",
        "start_from_latent_avg": True, "input_nc": trunk.input_channels, "stylegan_size": generator.resolution,
        "learn_in_w": False, "n_iters_per_batch": 5 if iterative else 1,
    }  # fmt: skip
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()} | dict(others or {})
    write_pytorch(_with_generator(state, generator, options), path, modern=path.name not in _OLD)


def _consultation(generator: StyleGAN2) -> dict[str, Tensor]:
    """HFGI's two networks, for the convolution that reaches 64 px."""
    channels = generator.size.channels[4]
    networks = {
        "residue": ResidualEncoder(ResidualEncoderSize((16, 24, 32), (channels, 64, 64))),
        "grid_align": ResidualAligner(ResidualAlignerSize((16, 24, 32, 48))),
    }
    state: dict[str, Tensor] = {}
    for prefix, network in networks.items():
        fill_network(network, f"ckpt.pt {prefix}")
        state |= {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
    return state


def _write(network: SizedNetwork, path: Path, *, modern: bool = True) -> None:
    fill_network(network, path.name)
    write_pytorch(network.state_dict(), path, modern=modern)
