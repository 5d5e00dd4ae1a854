"""What every network that looks at pictures keeps: a new one adds a line to ``NETWORKS``, its small instance."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import chain
from pathlib import Path
from pkgutil import walk_packages

import pytest
import torch
from torch import Tensor

import baselines
import fse
from baselines.hfgi.consultation import Consultation
from baselines.hfgi.residual_aligner import ResidualAligner, ResidualAlignerSize
from baselines.hfgi.residual_encoder import ResidualEncoder, ResidualEncoderSize
from baselines.hyperstyle.hypernetwork import HyperNetwork, HyperNetworkSize
from baselines.hyperstyle.w_encoder import WEncoder, WEncoderSize
from baselines.idinvert.encoder import InDomainEncoder, InDomainEncoderSize
from baselines.idinvert.vgg16 import VGG16, VGG16Size
from baselines.psp import PyramidEncoder, PyramidSize
from baselines.styleres.transformation import Transformation, TransformationSize
from fse.bisenet import BiSeNet, BiSeNetSize
from fse.checkpoints.network_file import read_network, write_network
from fse.encoder import EncoderSize, FeatureStyleEncoder, MarginEncoder, MarginEncoderSize
from fse.face_recognition import ArcFace, FaceRecognitionSize, IRFace
from fse.sized_network import SizedNetwork
from fse.trunk import Trunk, TrunkSize
from tests.fake_gpu import fake_gpu, move

WIDTHS, DEPTHS = (16, 20, 24, 32), (1, 2, 1, 1)
IRESNET, IR, IR_SE = (TrunkSize(WIDTHS, DEPTHS, 16, form=form) for form in ("iresnet", "ir", "ir_se"))
SIX = TrunkSize(WIDTHS, DEPTHS, 16, input_channels=6)
SIX_SE = TrunkSize(WIDTHS, DEPTHS, 16, input_channels=6, form="ir_se")

# Name -> network, and the shape of what it takes.
NETWORKS: dict[str, tuple[Callable[[], SizedNetwork], tuple[int, int, int]]] = {
    "fse": (lambda: FeatureStyleEncoder(EncoderSize(6, 16, IRESNET, 3, 24)), (3, 64, 64)),
    "fse-stride1": (lambda: FeatureStyleEncoder(EncoderSize(6, 16, IRESNET, 1, 24, 1)), (3, 64, 64)),
    "fse-video": (lambda: FeatureStyleEncoder(EncoderSize(6, 16, SIX, 3, 24)), (6, 64, 64)),
    "fse-margin": (lambda: MarginEncoder(MarginEncoderSize(6, 16, IRESNET, 3, 24, 1, rate=16, margin=2)), (3, 64, 64)),
    "psp": (lambda: PyramidEncoder(PyramidSize(8, 16, IR_SE, 12, 64)), (3, 64, 64)),
    "psp-light": (lambda: PyramidEncoder(PyramidSize(8, 16, IRESNET, 12, 64)), (3, 64, 64)),
    "e4e": (lambda: PyramidEncoder(PyramidSize(8, 16, IR_SE, 12, 64, progressive=True)), (3, 64, 64)),
    "restyle-psp": (lambda: PyramidEncoder(PyramidSize(8, 16, SIX_SE, 12, 64, pyramid=False)), (6, 64, 64)),
    "restyle-e4e": (
        lambda: PyramidEncoder(PyramidSize(8, 16, SIX_SE, 12, 64, pyramid=False, progressive=True)),
        (6, 64, 64),
    ),
    "hfgi-residual-encoder": (lambda: ResidualEncoder(ResidualEncoderSize((16, 20, 24), (12, 16, 16))), (3, 64, 64)),
    "hfgi-residual-aligner": (lambda: ResidualAligner(ResidualAlignerSize((16, 20, 24, 28))), (6, 64, 64)),
    "hyperstyle-hypernetwork": (
        lambda: HyperNetwork(
            HyperNetworkSize((8, 8, 8, 6), (0, 2, 3, 5, 6, 8, 9), (0, 2, 3, 5, 6), 6, (8, 10, 12, 16), DEPTHS, 6, 7, 12)
        ),
        (6, 64, 64),
    ),
    "hyperstyle-w-encoder": (lambda: WEncoder(WEncoderSize(16, IR_SE)), (3, 64, 64)),
    "idinvert": (lambda: InDomainEncoder(InDomainEncoderSize(32, 8, 16, 32)), (3, 32, 32)),
    "styleres": (lambda: Transformation(TransformationSize(6, 8, 12)), (22, 32, 32)),
    "vgg16": (lambda: VGG16(VGG16Size((16, 16, 20, 24, 24))), (3, 32, 32)),
    "arcface": (lambda: ArcFace(FaceRecognitionSize(IRESNET, 32, 8)), (3, 32, 32)),
    "ir-se-50": (lambda: IRFace(FaceRecognitionSize(IR_SE, 32, 8)), (3, 32, 32)),
    "curricularface": (lambda: IRFace(FaceRecognitionSize(IR, 32, 8, affine=False)), (3, 32, 32)),
    "bisenet": (lambda: BiSeNet(BiSeNetSize(5, (16, 16, 20, 24), 16)), (3, 64, 64)),
}


def tensors(output: Tensor | tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)


def run(network: SizedNetwork, pictures: Tensor) -> tuple[Tensor, ...]:
    return tensors(network(pictures))


def alive(network: SizedNetwork) -> SizedNetwork:
    """Statistics, gains and biases as after some training, so that none of them can be forgotten."""
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if tensor.is_floating_point() and tensor.ndim == 1:
            shift = torch.rand_like(tensor) if name.endswith(("running_var", "weight")) else torch.randn_like(tensor)
            tensor.data.add_(0.1 * shift)
    return network.eval()


Case = tuple[SizedNetwork, Tensor]


def small(name: str) -> Case:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    return alive(build()), torch.randn(3, *shape).clamp(-1, 1)


@pytest.fixture(params=list(NETWORKS))
def case(request: pytest.FixtureRequest) -> Case:
    return small(request.param)


def test_every_official_network_is_here() -> None:
    """All that official files are checked against; generators have a contract of their own."""
    missing = {
        network
        for module in (baselines, fse)
        for info in walk_packages(module.__path__, f"{module.__name__}.")
        for network in vars(import_module(info.name)).values()
        if isinstance(network, type) and issubclass(network, SizedNetwork) and not hasattr(network, "synthesize")
    } - {type(build()) for build, _ in NETWORKS.values()}
    assert missing == {SizedNetwork, Trunk, Consultation}  # the last is two that are here, in one file


def test_batch_equals_singles(case: Case) -> None:
    network, pictures = case
    with torch.no_grad():
        together = run(network, pictures)
        apart = [run(network, picture) for picture in pictures.split(1)]
    for i, output in enumerate(together):
        assert output.shape[0] == len(pictures)
        assert output.isfinite().all()
        single = torch.cat([outputs[i] for outputs in apart])
        torch.testing.assert_close(output, single, rtol=0, atol=1e-4 * float(single.std()))


def test_gradient_is_right(case: Case) -> None:
    """Against central differences in double precision, along a random direction of the picture."""
    network, pictures = case
    network, picture = network.double(), pictures[:1].double()
    weights = [torch.randn_like(output) for output in run(network, picture)]
    move_along = torch.randn_like(picture)

    def value(x: Tensor) -> Tensor:
        pairs = zip(run(network, x), weights, strict=True)
        return torch.stack([(output * weight).sum() for output, weight in pairs]).sum()

    leaf = picture.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(leaf), leaf)
    step = 1e-8  # so short that hardly any activation changes sides on the way
    with torch.no_grad():
        found = (value(picture + step * move_along) - value(picture - step * move_along)) / (2 * step)
    torch.testing.assert_close(found, (slope * move_along).sum(), rtol=1e-3, atol=1e-4)


# VGG16 is never trained, and its files have layers behind the one whose output is compared.
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "vgg16"])
def test_training_reaches_every_parameter(name: str) -> None:
    network, pictures = small(name)
    network.train()
    torch.stack([output.square().sum() for output in run(network, pictures)]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_half_precision_is_close(case: Case) -> None:
    network, pictures = case
    with torch.no_grad():
        exact = run(network, pictures)
        with torch.autocast("cpu", torch.bfloat16):
            half = run(network, pictures)
    for a, b in zip(half, exact, strict=True):
        assert (a.float() - b).square().mean() < 0.01 * b.square().mean()


def test_compiles_whole(case: Case) -> None:
    torch._dynamo.reset()
    network, pictures = case
    with torch.no_grad():
        found = tensors(torch.compile(network, backend="eager", fullgraph=True)(pictures[:1]))
        for a, b in zip(found, run(network, pictures[:1]), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", NETWORKS)
def test_runs_on_a_gpu(name: str) -> None:
    build, shape = NETWORKS[name]
    with fake_gpu():
        network = build()
        move(network.eval())
        pictures = torch.empty(2, *shape, device="cuda")
        with torch.autocast("cuda", torch.float16):
            half = run(network, pictures)
        assert {output.device.type for output in (*run(network, pictures), *half)} == {"cuda"}


# A pSp on FSE's trunk is ours alone: its files say its size.
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("psp-light", "fse-margin")])
def test_state_tells_its_size(name: str) -> None:
    network, pictures = small(name)
    kind = type(network)
    options = {"encoder_type": "Encoder4Editing"} if getattr(network.size, "progressive", False) else {}
    size = kind.size_of(network.state_dict(), options)
    expected = dict(vars(network.size))
    found = dict(vars(size))
    for untold in ("feature_stride", "feature_shape", "coarse", "middle"):  # these leave no trace in the parameters
        expected.pop(untold, None), found.pop(untold, None)
    assert found == expected
    with torch.no_grad():
        again = kind(network.size).eval()
        again.load_state_dict(network.state_dict())
        for a, b in zip(run(again, pictures), run(network, pictures), strict=True):
            assert torch.equal(a, b)


def test_file_goes_round(case: Case, tmp_path: Path) -> None:
    network, pictures = case
    write_network(tmp_path / "n.safetensors", network, {"steps": 3})
    again = read_network(tmp_path / "n.safetensors", type(network))
    assert again.size == network.size
    with torch.no_grad():
        for a, b in zip(run(again, pictures), run(network, pictures), strict=True):
            assert (a - b).abs().max() < 0.02 * b.std()  # kernels are stored in half precision
