"""HyperStyle: structure against the official list of parameters, tuned weights against a direct definition, the method.

No golden vectors of the official network exist here: its hypernetwork alone has 332 million numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, conv_transpose2d, interpolate, leaky_relu

from baselines.hyperstyle.hypernetwork import HyperNetwork, HyperNetworkSize, OwnBlock, SharedBlock, generator_layers
from baselines.hyperstyle.inversion import HyperStyleInverter, load_official_hyperstyle, synthesize_tuned
from baselines.hyperstyle.w_encoder import WEncoder, WEncoderSize
from fse.checkpoints.checkpoint import Checkpoint
from fse.generators.stylegan2 import GAIN, SLOPE, StyleGAN2, StyleGAN2Size
from fse.inversion import Inversion, InversionMethod, joined, rows
from fse.latents import sample_z
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from pipelines.official import check, recognise
from tests.fake_gpu import fake_gpu, move
from tests.golden.fill import image
from tests.golden.vectors import Golden

CHANNELS = (16, 16, 16, 8, 6)
HYPERNETWORK = HyperNetworkSize(
    CHANNELS, (0, 2, 3, 5, 6, 8, 9, 11, 12), (0, 2, 3, 5, 6), 6, (4, 6, 8, 10), (1, 2, 1, 1), 6, 7, 12
)
ENCODER = WEncoderSize(512, TrunkSize((8, 10, 12, 16), (1, 1, 1, 1), 8, form="ir_se"))
Shapes = dict[str, tuple[int, ...]]


def norm(name: str, channels: int) -> Shapes:
    each = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {f"{name}.{part}": shape for part, shape in each.items()} | {f"{name}.num_batches_tracked": ()}


def layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def official_hypernetwork() -> Shapes:
    """Names and shapes of the official FFHQ hypernetwork, as its code builds them; the shared head at its own place."""
    shapes: Shapes = {"conv1.weight": (64, 6, 7, 7), **norm("bn1", 64), "relu.weight": (64,)}
    block = 0
    for width, depth, below in ((64, 3, 64), (128, 4, 64), (256, 6, 128), (512, 3, 256)):
        for i in range(depth):
            before, name = (below if i == 0 else width), f"body.{block}"
            shapes |= {f"{name}.conv1.weight": (width, before, 3, 3), **norm(f"{name}.bn1", width)}
            shapes |= {f"{name}.conv2.weight": (width, width, 3, 3), **norm(f"{name}.bn2", width)}
            if before != width:
                shapes |= {f"{name}.downsample.0.weight": (width, before, 1, 1), **norm(f"{name}.downsample.1", width)}
            block += 1
    shapes |= {"shared_weight_hypernet.w1": (512, 4608), "shared_weight_hypernet.b1": (4608,)}
    shapes |= {"shared_weight_hypernet.w2": (512, 262144), "shared_weight_hypernet.b2": (262144,)}
    for j in (0, 2, 3, 5, 6, 8, 9, 11, 12):
        widths = (512, 128, 128, 128, 128, 512)
        for i in range(5):
            shapes |= layer(f"refinement_blocks.{j}.convs.{2 * i}", widths[i + 1], widths[i], 3, 3)
        shapes |= layer(f"refinement_blocks.{j}.linear", 512, 512)
    products = {14: 512 * 256, 15: 256**2, 17: 256 * 128, 18: 128**2, 20: 128 * 64, 21: 64**2, 23: 64 * 32, 24: 32**2}
    for j, product in products.items():
        widths = (512, 256, 256, 512)
        for i in range(3):
            shapes |= layer(f"refinement_blocks.{j}.convs.{2 * i}", widths[i + 1], widths[i], 3, 3)
        shapes |= layer(f"refinement_blocks.{j}.output.1", product, 512, 1, 1)
    return shapes


def official_w_encoder() -> Shapes:
    """The trunk is that of ArcFace's IR-SE-50, of which there is a vector."""
    trunk = {
        name: shape
        for name, shape in Golden("ir_se50_backbone").names_and_shapes().items()
        if name.startswith(("input_layer", "body"))
    }
    return trunk | layer("linear", 512, 512)


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("kind", "shapes"), [(HyperNetwork, official_hypernetwork), (WEncoder, official_w_encoder)], ids=["hyper", "w"]
)
def test_names_shapes_and_size_are_the_official_ones(kind: Any, shapes: Callable[[], Shapes]) -> None:
    official = shapes()
    with torch.device("meta"):
        network = kind()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == official
    assert kind.size_of(on_meta(official), {}) == kind.Size()


def test_the_official_files_are_recognised_and_whole() -> None:
    """By names and shapes, at 1024 px; the shared head stands under each of its blocks again. Nothing is allocated."""
    decoder = {f"state_dict.decoder.{k}": v for k, v in Golden("stylegan2_rosinality_1024").names_and_shapes().items()}
    hyper = official_hypernetwork()
    for j in (0, 2, 3, 5, 6, 8, 9, 11, 12):
        for part in ("w1", "b1", "w2", "b2"):
            hyper[f"refinement_blocks.{j}.hypernet.{part}"] = hyper[f"shared_weight_hypernet.{part}"]
    files: dict[str, tuple[Shapes, str]] = {
        "hyperstyle": ({f"state_dict.hypernet.{name}": shape for name, shape in hyper.items()}, "output.1.bias"),
        "w-encoder": ({f"state_dict.encoder.{k}": shape for k, shape in official_w_encoder().items()}, "linear.bias"),
    }
    for kind, (shapes, last) in files.items():
        tensors = on_meta(shapes | decoder | {"latent_avg": (18, 512)})
        checkpoint = Checkpoint(Path("x.pt"), "pytorch", tensors, {"opts": {"encoder_type": "WEncoder"}})
        assert recognise(checkpoint) == kind
        assert check(checkpoint, kind) > 30_000_000
        less = {name: tensor for name, tensor in tensors.items() if not name.endswith(last)}
        with pytest.raises(Refusal, match=f"{last} is missing"):
            check(Checkpoint(Path("x.pt"), "pytorch", less, checkpoint.options), kind)


def test_layers_are_the_official_ones() -> None:
    """The official table of kernel, inputs and outputs at 1024 px: 26 layers, and those of smaller generators first."""
    layers = generator_layers(HyperNetworkSize().channels)
    assert len(layers) == 26
    expected = {1: (1, 512, 3), 13: (1, 512, 3), 14: (3, 512, 256), 16: (1, 256, 3), 23: (3, 64, 32), 25: (1, 32, 3)}
    assert {i: layers[i][1:] for i in expected} == expected
    state = StyleGAN2(StyleGAN2Size(64, CHANNELS, mapping_depth=2)).state_dict()
    for each in generator_layers(CHANNELS):
        assert state[each.name].shape == (1, each.outputs, each.inputs, each.kernel, each.kernel)
    weights = [name for name in state if name.endswith("conv.weight")]
    assert sorted(weights) == sorted(each.name for each in generator_layers(CHANNELS))


@pytest.fixture
def generator() -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Size(64, CHANNELS, mapping_depth=2)).eval().requires_grad_(False)
    for name, value in generator.named_parameters():
        if name.endswith(("noise.weight", "activate.bias")):
            value.normal_(0, 0.1)
    generator.set_mean_code(torch.randn(512))
    return generator


@pytest.fixture
def method(generator: StyleGAN2) -> HyperStyleInverter:
    torch.manual_seed(1)
    encoder, hypernetwork = WEncoder(ENCODER), HyperNetwork(HYPERNETWORK)
    for block in hypernetwork.refinement_blocks.values():
        if isinstance(block, OwnBlock):
            block.output[-1].weight.data.mul_(20)  # offsets of about 1, as the shared ones are
    return HyperStyleInverter(encoder, generator, hypernetwork, side=64)


def pictures(count: int = 3, side: int = 64) -> Tensor:
    return torch.from_numpy(image("input:hyperstyle", (count, 3, side, side)))


def direct(generator: StyleGAN2, code: Tensor, offsets: dict[int, Tensor]) -> Tensor:
    """One picture by StyleGAN2's definition with modulated, demodulated kernels (Karras et al. 2020, Eq. 1 and 3).

    The code (N, 512), and the offsets by the number of their layer, as the official code applies them.
    """

    def convolved(x: Tensor, conv: Any, w: Tensor, number: int) -> Tensor:
        style = w @ conv.modulation.weight.T * 512**-0.5 + conv.modulation.bias
        weight = conv.weight[0]
        weight = weight * (1 + offsets.get(number, torch.zeros(1))) * weight[0].numel() ** -0.5 * style[:, None, None]
        if not conv.demodulate:
            return conv2d(x, weight)
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if conv.blur is None:
            return conv2d(x, weight, padding=1)
        x = conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return conv2d(x.transpose(0, 1), conv.blur.kernel[None, None], padding=1).transpose(0, 1)

    def styled(x: Tensor, layer: Any, w: Tensor, number: int, noise: Tensor) -> Tensor:
        x = convolved(x, layer.conv, w, number) + layer.noise.weight * noise + layer.activate.bias[:, None, None]
        return leaky_relu(x, SLOPE) * GAIN

    noise = [getattr(generator.noises, f"noise_{k}") for k in range(9)]
    x = styled(generator.input.input, generator.conv1, code[0], 0, noise[0])
    picture = convolved(x, generator.to_rgb1.conv, code[1], 1) + generator.to_rgb1.bias
    for level in range(4):
        for half in (0, 1):
            i = 2 * level + half
            x = styled(x, generator.convs[i], code[i + 1], 2 + 3 * level + half, noise[i + 1])
        to_rgb: Any = generator.to_rgbs[level]
        picture = to_rgb.upsample(picture) + to_rgb.bias
        picture = picture + convolved(x, to_rgb.conv, code[2 * level + 3], 4 + 3 * level)
    return picture


@torch.no_grad()
def test_tuned_pictures_are_those_of_the_definition(generator: StyleGAN2) -> None:
    """All layers tuned, RGB outputs too; each picture of a batch has its own weights."""
    codes = generator.map(sample_z(3, 2)) + 0.1 * torch.randn(2, 10, 512)
    layers = generator_layers(CHANNELS)
    random = torch.Generator().manual_seed(5)
    offsets = [
        torch.randn(2, each.outputs, each.inputs, *(each.kernel if i % 2 else 1,) * 2, generator=random)
        for i, each in enumerate(layers)
    ]
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    found = synthesize_tuned(generator, codes, layers, offsets)
    for i in range(2):
        wanted = direct(generator, codes[i], {number: offset[i] for number, offset in enumerate(offsets)})
        torch.testing.assert_close(found[i : i + 1], wanted, rtol=1e-4, atol=1e-4)
    plain = generator.synthesize(codes)
    torch.testing.assert_close(direct(generator, codes[0], {}), plain[:1], rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().mean() > 0.05 * plain.std()
    zeros = [torch.zeros_like(offset) for offset in offsets]
    assert torch.equal(
        synthesize_tuned(generator, codes, layers, zeros), torch.cat([generator(code[None]) for code in codes])
    )
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


@torch.no_grad()
def test_the_heads_are_the_official_ones() -> None:
    """The order in which numbers become channels and places of a kernel, by the official reshapes."""
    torch.manual_seed(0)
    network = HyperNetwork(HYPERNETWORK).eval()
    head, code = network.shared_weight_hypernet, torch.randn(2, 12)
    for i in range(2):
        codes = (code[i] @ head.w2 + head.b2).reshape(16, 12)
        assert head.b2.shape == (16 * 12,)
        for o, c, a, b in ((0, 0, 0, 1), (3, 7, 2, 0), (15, 15, 2, 2)):
            # (inputs, outputs * 9) row by row, read as (outputs, inputs, 3, 3): the first axis stays the first.
            value = codes[o] @ head.w1[:, 9 * c + 3 * a + b] + head.b1[9 * c + 3 * a + b]
            torch.testing.assert_close(head(code)[i, o, c, a, b], value)
    x = torch.randn(2, 10, 16, 16)
    own = network.refinement_blocks["9"]
    assert isinstance(own, OwnBlock)
    y = own.convs(x)
    assert y.shape == (2, 12, 2, 2)
    flat = y.mean((2, 3)) @ own.output[1].weight[:, :, 0, 0].T + own.output[1].bias
    torch.testing.assert_close(own(x)[1, 5, 3, 0, 0], flat[1, 5 * 8 + 3])
    shared = network.refinement_blocks["0"]
    assert isinstance(shared, SharedBlock)
    assert [conv.stride for conv in shared.convs[::2]] == [(1, 1), *[(2, 2)] * 4]
    assert shared.convs(x).shape == (2, 12, 1, 1)


def test_rgb_outputs_can_be_tuned_too() -> None:
    size = HyperNetworkSize(CHANNELS, (0, 1, 3, 6, 9, 12, 13), (0, 3, 6), 6, (4, 6, 8, 10), (1, 1, 1, 1), 6, 7, 12)
    network = HyperNetwork(size).eval()
    assert HyperNetwork.size_of(network.state_dict(), {}) == size
    outputs = network(torch.randn(2, 6, 64, 64))
    assert [tuple(each.shape) for each in outputs] == [
        (2, 16, 16, 3, 3), (2, 3, 16, 1, 1), (2, 16, 16, 3, 3), (2, 16, 16, 3, 3),
        (2, 8, 8, 1, 1), (2, 6, 6, 1, 1), (2, 3, 6, 1, 1),
    ]  # fmt: skip


@torch.no_grad()
def test_iterations_follow_the_official_inference(method: HyperStyleInverter, generator: StyleGAN2) -> None:
    """Offsets add up, codes stay, and each pass sees the picture before it, mean-pooled, from the plain one on."""
    shown = pictures(2, 128)
    small = interpolate(shown, (64, 64), mode="bilinear", antialias=True)
    codes = method.encoder(small).expand(-1, 10, -1) + generator.mean_code
    picture, total = generator.synthesize(codes), None
    iterations = list(method.iterate(shown))
    assert len(iterations) == 5
    for inversion in iterations:
        found = method.hypernetwork(torch.cat((small, adaptive_avg_pool2d(picture, 64)), 1))
        total = found if total is None else [one + other for one, other in zip(total, found, strict=True)]
        picture = synthesize_tuned(generator, codes, method.hypernetwork.tuned, total)
        torch.testing.assert_close(inversion.codes, codes)
        torch.testing.assert_close(inversion.picture, picture)
        for one, other in zip(method.hypernetwork.parts(inversion.offsets), total, strict=True):
            torch.testing.assert_close(one, other)
    assert torch.equal(method.invert(shown).offsets, iterations[-1].offsets)
    first, second = iterations[0].offsets, iterations[1].offsets - iterations[0].offsets
    assert (first - second).abs().max() > 1e-4 * first.abs().max()


def test_inverts_and_edits(method: HyperStyleInverter, generator: StyleGAN2) -> None:
    assert isinstance(method, InversionMethod)
    inversion = method.invert(pictures())
    assert inversion.codes.shape == (3, 10, 512)
    assert torch.equal(inversion.codes, inversion.codes[:, :1] - generator.mean_code[0] + generator.mean_code)
    assert (inversion.picture - generator.synthesize(inversion.codes)).abs().mean() > 1e-2
    direction = torch.randn(512, generator=torch.Generator().manual_seed(3))
    assert torch.equal(method.edit(inversion, direction, 0.0), inversion.picture)
    edited = method.edit(inversion, direction, 0.5)
    assert (edited - inversion.picture).abs().mean() > 1e-2
    plain = generator.synthesize(inversion.codes + 0.5 * direction)
    assert (edited - plain).abs().mean() > 1e-2  # the generator that edits is the tuned one

    singles = [method.invert(single) for single in pictures().split(1)]
    again = joined(singles)
    for name in ("codes", "picture", "offsets"):
        torch.testing.assert_close(getattr(again, name), getattr(inversion, name), rtol=1e-4, atol=1e-4)
    second = method.edit(rows(inversion, slice(1, 2)), direction, 0.5)
    torch.testing.assert_close(second, edited[1:2], rtol=1e-4, atol=1e-4)


def test_the_official_size_runs_on_a_gpu() -> None:
    """Shapes and devices at 1024 px; nothing is computed."""
    with fake_gpu():
        encoder, hypernetwork, generator = WEncoder(), HyperNetwork(), StyleGAN2()
        for network in (encoder, hypernetwork, generator):
            move(network)
        method = HyperStyleInverter(encoder, generator, hypernetwork, iterations=2)
        inversion = method.invert(torch.empty(1, 3, 1024, 1024, device="cuda"))
        assert inversion.codes.shape == (1, 18, 512)
        assert inversion.offsets.shape == (1, 21_494_784)
        edited = method.edit(inversion, torch.empty(18, 512, device="cuda"), 1.0)
        for picture in (inversion.picture, edited):
            assert (picture.shape, picture.device.type) == ((1, 3, 1024, 1024), "cuda")


class TestOfficialFiles:
    @pytest.fixture
    def contents(self, generator: StyleGAN2) -> dict[str, dict[str, Any]]:
        torch.manual_seed(2)
        hypernetwork, encoder = HyperNetwork(HYPERNETWORK), WEncoder(ENCODER)
        state = {f"hypernet.{name}": value for name, value in hypernetwork.state_dict().items()}
        for i in HYPERNETWORK.shared:  # as the official module lists its shared head
            for part in ("w1", "b1", "w2", "b2"):
                name = f"hypernet.refinement_blocks.{i}.hypernet.{part}"
                state[name] = state[f"hypernet.shared_weight_hypernet.{part}"]
        decoder = {f"decoder.{name}": value for name, value in generator.state_dict().items()}
        mean = torch.randn(10, 512)
        options = {"encoder_type": "SharedWeightsHyperNetResNet", "layers_to_tune": "0,2,3", "n_iters_per_batch": 5}
        encoder_state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        return {
            "h.pt": {"state_dict": state | decoder, "latent_avg": mean, "opts": options, "global_step": 7},
            "w.pt": {
                "state_dict": encoder_state | decoder,
                "latent_avg": mean[0],
                "opts": {"encoder_type": "WEncoder"},
            },
        }

    @staticmethod
    def load(contents: dict[str, dict[str, Any]], folder: Path) -> HyperStyleInverter:
        for name, content in contents.items():
            torch.save(content, folder / name)
        return load_official_hyperstyle(folder / "h.pt", folder / "w.pt")

    def test_are_read(self, contents: dict[str, dict[str, Any]], generator: StyleGAN2, tmp_path: Path) -> None:
        method = self.load(contents, tmp_path)
        assert (method.iterations, method.side) == (5, 256)
        parts = {"hypernet": method.hypernetwork, "decoder": method.generator}
        for prefix, network in parts.items():
            assert not network.training
            for name, value in network.state_dict().items():
                assert torch.equal(value, contents["h.pt"]["state_dict"][f"{prefix}.{name}"])
        for name, value in method.encoder.state_dict().items():
            assert torch.equal(value, contents["w.pt"]["state_dict"][f"encoder.{name}"])
        assert torch.equal(method.generator.mean_code, contents["h.pt"]["latent_avg"])
        assert method.invert(pictures(1, 256)).picture.shape == (1, 3, 64, 64)

    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("h.pt", "hypernet.refinement_blocks.12.output.1.bias"),
            ("h.pt", "hypernet.shared_weight_hypernet.w1"),
            ("h.pt", "decoder.convs.3.conv.weight"),
            ("h.pt", "latent_avg"),
            ("w.pt", "encoder.linear.weight"),
            ("w.pt", "encoder.body.2.res_layer.4.running_var"),
        ],
    )
    def test_what_is_missing_is_named(
        self, file: str, name: str, contents: dict[str, dict[str, Any]], tmp_path: Path
    ) -> None:
        (contents[file]["state_dict"] if "." in name else contents[file]).pop(name)
        with pytest.raises(Refusal, match=f"{file[0]}.*{(name.partition('.')[2] or name).replace('.', '[.]')}"):
            self.load(contents, tmp_path)

    def test_networks_of_different_models_are_refused(
        self, contents: dict[str, dict[str, Any]], generator: StyleGAN2, tmp_path: Path
    ) -> None:
        other = StyleGAN2(StyleGAN2Size(64, (16, 16, 16, 8, 8), mapping_depth=2))
        state = contents["h.pt"]["state_dict"]
        state |= {f"decoder.{name}": value for name, value in other.state_dict().items()}
        with pytest.raises(Refusal, match=r"h\.pt: its hypernetwork is made for another generator"):
            self.load(contents, tmp_path)
        with pytest.raises(ValueError, match=r"\(16, 16, 16, 8, 6\).*\(16, 16, 16, 8, 8\)"):
            HyperStyleInverter(WEncoder(ENCODER), other, HyperNetwork(HYPERNETWORK))


def test_refuses_what_does_not_belong_together(method: HyperStyleInverter) -> None:
    inversion = method.invert(pictures(1))
    with pytest.raises(ValueError, match="made by another method"):
        method.edit(Inversion(inversion.codes, None, inversion.picture), torch.zeros(512), 1.0)
    with pytest.raises(ValueError, match="can share a head"):
        HyperNetwork(HyperNetworkSize(CHANNELS, (0, 9), (0, 9)))
