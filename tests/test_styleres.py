"""StyleRes: structure against the official list of parameters, the insertion against its definition, the method.

No golden vectors of the official network exist here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu

from baselines.e4e import E4E
from baselines.psp import PyramidEncoder, PyramidSize
from baselines.styleres.inversion import StyleResInverter, bicubic, load_official_styleres
from baselines.styleres.transformation import Transformation, TransformationSize
from fse.checkpoints.checkpoint import Checkpoint
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inversion import Inversion, InversionMethod, joined, rows
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from pipelines.official import check, recognise
from tests.fake_gpu import fake_gpu, move
from tests.golden.fill import image
from tests.golden.vectors import Golden

CHANNELS = (16, 16, 16, 12, 10)
ENCODER = PyramidSize(
    10, trunk=TrunkSize((6, 8, 10, 12), (1, 1, 1, 1), 6, form="ir_se"), head_width=8, side=256, progressive=True
)
TRANSFORMATION = TransformationSize(8, 10, 12)
Shapes = dict[str, tuple[int, ...]]


def conv(name: str, c_out: int, c_in: int, kernel: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (c_out, c_in, kernel, kernel)} | ({f"{name}.bias": (c_out,)} if bias else {})


def residual(name: str, c_in: int, c_out: int, stride: int) -> Shapes:
    shapes = conv(f"{name}.res_layer.0", c_out, c_in, 3) | conv(f"{name}.res_layer.2", c_out, c_out, 3)
    projected = c_in != c_out or stride != 1
    return shapes | (conv(f"{name}.shortcut_layer.0", c_out, c_in, 1, bias=False) if projected else {})


def official_transformation() -> Shapes:
    """Names and shapes of what the official code puts into the block of 64 px, without the unused ``dconv3``."""
    e1, e2, e3 = (f"modify_feature_{part}" for part in ("alignment", "extraction", "gates"))
    shapes = conv(f"{e1}.first_layer", 512, 640, 1) | conv(f"{e1}.out_layer", 512, 512, 1)
    for part, strides in {"conv1": [1], "conv2": [2, 1], "conv3": [2, 1], "dconv1": [1, 1], "dconv2": [1, 1]}.items():
        for i, stride in enumerate(strides):
            shapes |= residual(f"{e1}.{part}.{i}", 512, 512, stride)
    shapes |= conv(f"{e2}.first_layer", 512, 512, 1)
    for i in range(3):
        shapes |= residual(f"{e2}.convs.{i}", 512, 512, 1) | residual(f"{e3}.convs.{i}", 512, 512, 1)
        shapes |= residual(f"{e3}.convs2.{i}", 512, 1 if i == 2 else 512, 1)
    return shapes | conv(f"{e3}.down1", 256, 512, 3) | conv(f"{e3}.down2", 256, 512, 3)


def test_names_shapes_and_size_are_the_official_ones() -> None:
    with torch.device("meta"):
        state = Transformation().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == official_transformation()
    assert Transformation.size_of(state, {}) == TransformationSize()
    del state["modify_feature_alignment.out_layer.weight"]
    with pytest.raises(Refusal, match=r"modify_feature_alignment\.out_layer\.weight is missing"):
        Transformation.size_of(state, {})


def test_the_official_file_is_recognised_and_whole() -> None:
    """Names and shapes of e4e and of NVIDIA's generator, at 1024 px, with what StyleRes adds; nothing is allocated."""
    shapes = {f"e4e.{name}": shape for name, shape in Golden("e4e_encoder4editing").names_and_shapes().items()}
    shapes |= {f"generator_smooth.{name}": shape for name, shape in nvidia_shapes(1024).items()}
    unused = [residual(f"modify_feature_alignment.dconv3.{i}", 512, 512, 1) for i in (0, 1)]
    for part in (official_transformation(), *unused):
        shapes |= {f"generator_smooth.synthesis.b64.{name}": shape for name, shape in part.items()}
    shapes["latent_avg"] = (18, 512)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    checkpoint = Checkpoint(Path("x.pth"), "pytorch", tensors, {})
    assert recognise(checkpoint) == "styleres"
    assert check(checkpoint, "styleres") > 300_000_000
    for name in (
        "e4e.styles.3.convs.2.weight",
        "generator_smooth.synthesis.b64.conv1.affine.bias",
        "generator_smooth.synthesis.b64.modify_feature_gates.convs2.2.shortcut_layer.0.weight",
        "latent_avg",
    ):
        less = Checkpoint(Path("x.pth"), "pytorch", {k: v for k, v in tensors.items() if k != name}, {})
        with pytest.raises(Refusal, match="is missing"):
            check(less, "styleres")


def nvidia_shapes(resolution: int) -> Shapes:
    """NVIDIA's generator of configuration F, as its code names it."""
    shapes: Shapes = {"mapping.w_avg": (512,), "synthesis.b4.const": (512, 4, 4)}
    for i in range(8):
        shapes |= {f"mapping.fc{i}.weight": (512, 512), f"mapping.fc{i}.bias": (512,)}
    below, side = 512, 4
    while side <= resolution:
        here, block = min(512, 32768 // side), f"synthesis.b{side}"
        shapes[f"{block}.resample_filter"] = (4, 4)
        for layer, c_in, c_out, kernel in (
            ("conv0", below, here, 3), ("conv1", here, here, 3), ("torgb", here, 3, 1)
        ):  # fmt: skip
            if layer == "conv0" and side == 4:
                continue
            name = f"{block}.{layer}"
            shapes |= conv(name, c_out, c_in, kernel)
            shapes |= {f"{name}.affine.weight": (c_in, 512), f"{name}.affine.bias": (c_in,)}
            if layer != "torgb":
                shapes |= {f"{name}.noise_const": (side, side), f"{name}.noise_strength": ()}
                shapes |= {f"{name}.resample_filter": (4, 4)}
        below, side = here, 2 * side
    return shapes


@pytest.fixture
def generator() -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Size(64, CHANNELS, mapping_depth=2), 8).eval().requires_grad_(False)
    generator.set_mean_code(torch.randn(512))
    return generator


@pytest.fixture
def method(generator: StyleGAN2) -> StyleResInverter:
    torch.manual_seed(1)
    return StyleResInverter(PyramidEncoder(ENCODER), generator, Transformation(TRANSFORMATION))


def pictures(count: int = 2, side: int = 256) -> Tensor:
    return torch.from_numpy(image("input:styleres", (count, 3, side, side)))


@torch.no_grad()
def test_the_insertion_is_the_official_one() -> None:
    """Written out from the official order of operations, on the parameters by their names."""
    torch.manual_seed(0)
    network = Transformation(TRANSFORMATION).eval()
    state = network.state_dict()
    skip, feature, edited = torch.randn(2, 8, 32, 32), torch.randn(2, 10, 32, 32), torch.randn(2, 10, 32, 32)

    def conv2(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"modify_feature_{name}.weight"]
        bias = state.get(f"modify_feature_{name}.bias")
        return conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def block(x: Tensor, name: str, stride: int = 1) -> Tensor:
        y = conv2(leaky_relu(conv2(x, f"{name}.res_layer.0"), 0.2), f"{name}.res_layer.2", stride)
        same = f"modify_feature_{name}.shortcut_layer.0.weight" not in state
        return y + (x if same else conv2(x, f"{name}.shortcut_layer.0", stride))

    def up(x: Tensor, side: int) -> Tensor:
        return interpolate(x, size=(side, side), mode="bilinear", align_corners=True)

    x = conv2(torch.cat((skip, feature), 1), "alignment.first_layer")
    f1 = block(x, "alignment.conv1.0")
    f2 = block(block(f1, "alignment.conv2.0", 2), "alignment.conv2.1")
    f3 = block(block(f2, "alignment.conv3.0", 2), "alignment.conv3.1")
    assert f3.shape[-1] == 8
    d = block(block(up(f3, 16) + f2, "alignment.dconv1.0"), "alignment.dconv1.1")
    d = block(block(up(d, 32) + f1, "alignment.dconv2.0"), "alignment.dconv2.1")
    y = conv2(conv2(d, "alignment.out_layer"), "extraction.first_layer")
    for i in range(3):
        y = block(y, f"extraction.convs.{i}")
    z = torch.cat((conv2(edited, "gates.down1"), conv2(y, "gates.down2")), 1)
    change = gate = z
    for i in range(3):
        change, gate = block(change, f"gates.convs.{i}"), block(gate, f"gates.convs2.{i}")
    gate = gate.sigmoid()
    found = network(torch.cat((skip, feature, edited), 1))
    torch.testing.assert_close(found, edited * (1 - gate) + (edited + change) * gate)
    assert (found - edited).std() > 1e-2


def test_inverts_and_edits(method: StyleResInverter, generator: StyleGAN2) -> None:
    assert isinstance(method, InversionMethod)
    inversion = method.invert(pictures())
    assert inversion.codes.shape == (2, 10, 512)
    assert inversion.skip.shape == (2, 8, 64, 64)
    assert inversion.feature is not None
    assert inversion.feature.shape == (2, *generator.feature_shape) == (2, 10, 64, 64)
    assert torch.equal(inversion.codes, method.encoder(pictures()) + generator.mean_code)
    assert torch.equal(inversion.picture, generator.synthesize(inversion.codes, inversion.feature))
    plain = generator.synthesize(inversion.codes)
    assert (inversion.picture - plain).abs().mean() > 1e-2

    direction = torch.randn(512, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(method.edit(inversion, direction, 0.0), inversion.picture)
    edited = method.edit(inversion, direction, 0.5)
    codes = inversion.codes + 0.5 * direction
    before, after = generator.feature(inversion.codes), generator.feature(codes)
    transformed = method.transformation(torch.cat((inversion.skip, before, after), 1))
    torch.testing.assert_close(edited, generator.synthesize(codes, transformed))
    # E1 goes on from the picture as it was: with the edited feature in its place the result is another.
    other = method.transformation(torch.cat((inversion.skip, after, after), 1))
    assert (transformed - other).abs().mean() > 1e-3


def test_a_batch_equals_its_pictures(method: StyleResInverter) -> None:
    batch = method.invert(pictures())
    singles = joined([method.invert(single) for single in pictures().split(1)])
    for name in ("codes", "feature", "picture", "skip"):
        torch.testing.assert_close(getattr(batch, name), getattr(singles, name), rtol=1e-4, atol=1e-4)
    direction = torch.ones(512)
    second = method.edit(rows(batch, slice(1, 2)), direction, 0.3)
    torch.testing.assert_close(second, method.edit(batch, direction, 0.3)[1:], rtol=1e-4, atol=1e-4)


def test_the_official_size_runs_on_a_gpu() -> None:
    """Shapes and devices of a batch of two at 1024 px; nothing is computed."""
    with fake_gpu():
        encoder, generator, transformation = PyramidEncoder(E4E), StyleGAN2(feature_layer=8), Transformation()
        for network in (encoder, generator, transformation):
            move(network)
        method = StyleResInverter(encoder, generator, transformation)
        inversion = method.invert(torch.empty(2, 3, 1024, 1024, device="cuda"))
        assert (inversion.codes.shape, inversion.skip.shape) == ((2, 18, 512), (2, 128, 64, 64))
        edited = method.edit(inversion, torch.empty(18, 512, device="cuda"), 1.0)
        for picture in (inversion.picture, edited):
            assert (picture.shape, picture.device.type) == ((2, 3, 1024, 1024), "cuda")


def test_pictures_are_reduced_as_by_pillows_default() -> None:
    """Bicubic; within the rounding to bytes of its two passes, which also cut what overshoots black and white."""
    noise = np.random.default_rng(0).integers(64, 192, (512, 512, 3), dtype=np.uint8)
    wanted = np.array(Image.fromarray(noise).resize((256, 256))) / 127.5 - 1
    found = bicubic(torch.from_numpy(noise / 127.5 - 1).permute(2, 0, 1)[None], 256)
    assert np.abs(found[0].permute(1, 2, 0).numpy() - wanted).max() < 1.2 / 127.5
    edge = torch.ones(1, 3, 512, 512)
    edge[..., :255] = -1
    assert bicubic(edge, 256).abs().max() == 1


class TestOfficialFile:
    """In the layout of ``styleres_ffhq.pth``, at a light size."""

    @pytest.fixture
    def content(self, generator: StyleGAN2) -> dict[str, Any]:
        torch.manual_seed(2)
        encoder, transformation = PyramidEncoder(ENCODER), Transformation(TRANSFORMATION)
        smooth = nvidia_state(generator)
        smooth |= {f"synthesis.b64.{name}": value for name, value in transformation.state_dict().items()}
        smooth["synthesis.b64.modify_feature_alignment.dconv3.0.res_layer.0.weight"] = torch.zeros(12, 12, 3, 3)
        return {
            "e4e": encoder.state_dict(),
            "generator_smooth": smooth,
            "latent_avg": torch.randn(10, 512),
            "discriminator": {"b4.fc.weight": torch.zeros(2, 2)},
        }

    def test_is_read(self, content: dict[str, Any], generator: StyleGAN2, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "s.pth")
        method = load_official_styleres(tmp_path / "s.pth")
        assert (method.generator.feature_layer, method.generator.size.clamp) == (8, 256)
        assert method.generator.size.raw_weights
        assert method.encoder.size == ENCODER
        for name, value in generator.state_dict().items():
            torch.testing.assert_close(method.generator.state_dict()[name], value)
        for name, value in method.encoder.state_dict().items():
            assert torch.equal(value, content["e4e"][name])
        for name, value in method.transformation.state_dict().items():
            assert torch.equal(value, content["generator_smooth"][f"synthesis.b64.{name}"])
        assert torch.equal(method.generator.mean_code, content["latent_avg"])
        assert not method.encoder.training
        assert not method.transformation.training
        assert method.invert(pictures(1, 512)).picture.shape == (1, 3, 64, 64)

    @pytest.mark.parametrize(
        "name",
        [
            "e4e.latlayer1.bias",
            "generator_smooth.synthesis.b32.conv1.noise_strength",
            "generator_smooth.synthesis.b64.modify_feature_gates.down2.weight",
            "latent_avg",
        ],
    )
    def test_what_is_missing_is_named(self, name: str, content: dict[str, Any], tmp_path: Path) -> None:
        part, _, rest = name.partition(".")
        (content[part] if rest else content).pop(rest or part)
        torch.save(content, tmp_path / "s.pth")
        ours = {"synthesis.b32.conv1.noise_strength": "convs.5.noise.weight"}
        wanted = ours.get(rest, rest.removeprefix("synthesis.b64.") or part).replace(".", "[.]")
        with pytest.raises(Refusal, match=rf"s\.pth: .*{wanted}.* is missing"):
            load_official_styleres(tmp_path / "s.pth")

    def test_parts_of_different_models_are_refused(
        self, content: dict[str, Any], generator: StyleGAN2, tmp_path: Path
    ) -> None:
        changes: list[tuple[dict[str, Any], str]] = [
            ({"latent_avg": torch.randn(9, 512)}, r"latent_avg, the mean code, is \(9, 512\) and not \(10, 512\)"),
            ({"e4e": PyramidEncoder(replace(ENCODER, num_codes=9)).state_dict()}, "gives 9 codes, and .* takes 10"),
            ({"e4e": PyramidEncoder(replace(ENCODER, side=128)).state_dict()}, r"8 channels at 32 px"),
        ]
        for change, message in changes:
            torch.save(content | change, tmp_path / "s.pth")
            with pytest.raises(Refusal, match=rf"s\.pth: .*{message}"):
                load_official_styleres(tmp_path / "s.pth")


def nvidia_state(generator: StyleGAN2) -> dict[str, Tensor]:
    """The generator's state by NVIDIA's names: the other way round than ``stylegan2_from_ada``."""
    ours = generator.state_dict()
    state = {"mapping.w_avg": torch.zeros(512), "synthesis.b4.const": ours["input.input"][0]}
    for i in range(generator.size.mapping_depth):
        state |= {f"mapping.fc{i}.{part}": ours[f"style.{i + 1}.{part}"] for part in ("weight", "bias")}
    layers = {"synthesis.b4.conv1": ("conv1", 0), "synthesis.b4.torgb": ("to_rgb1", None)}
    for level in range(1, len(generator.size.channels)):
        block = f"synthesis.b{4 << level}"
        layers |= {f"{block}.conv{j}": (f"convs.{2 * level - 2 + j}", 2 * level - 1 + j) for j in (0, 1)}
        layers[f"{block}.torgb"] = (f"to_rgbs.{level - 1}", None)
        state[f"{block}.resample_filter"] = ours[f"to_rgbs.{level - 1}.upsample.kernel"] / 4
        state[f"{block}.conv0.resample_filter"] = ours[f"convs.{2 * level - 2}.conv.blur.kernel"] / 4
    for theirs, (name, noise) in layers.items():
        state[f"{theirs}.weight"] = ours[f"{name}.conv.weight"][0]
        for part in ("weight", "bias"):
            state[f"{theirs}.affine.{part}"] = ours[f"{name}.conv.modulation.{part}"]
        state[f"{theirs}.bias"] = ours[f"{name}.bias" if noise is None else f"{name}.activate.bias"].flatten()
        if noise is not None:
            state[f"{theirs}.noise_const"] = ours[f"noises.noise_{noise}"][0, 0]
            state[f"{theirs}.noise_strength"] = ours[f"{name}.noise.weight"][0]
    return state


def test_refuses_what_does_not_belong_together(method: StyleResInverter, generator: StyleGAN2) -> None:
    inversion = method.invert(pictures(1))
    with pytest.raises(ValueError, match="made by another method"):
        method.edit(Inversion(inversion.codes, inversion.feature, inversion.picture), torch.zeros(512), 1.0)
    assert E4E.trunk.widths[1] == TransformationSize().skip_channels
    with pytest.raises(ValueError, match="takes 8 and F of 16"):
        StyleResInverter(method.encoder, generator, Transformation(TransformationSize(8, 16, 12)))
