"""pSp, e4e and ReStyle: encoders and iteration against the official ones, their files, and the progressive training."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from baselines.e4e import E4E, free_rows_at, load_official_e4e
from baselines.psp import PyramidEncoder, PyramidSize, load_official_psp
from baselines.psp_checkpoint import read_psp_family
from baselines.restyle import (
    RESTYLE_E4E,
    RESTYLE_PSP,
    IterativeInverter,
    average_picture,
    load_official_restyle,
    refine,
)
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inversion import InversionMethod
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from tests.golden.fill import image, normal
from tests.golden.vectors import Golden
from tests.tiny import tiny_generator

TRUNK = TrunkSize((8, 12, 16, 20), (1, 2, 1, 1), 8, form="ir_se")
LIGHT = PyramidSize(8, 512, TRUNK, 8, 64, 2, 4)
SIX_CHANNELS = replace(LIGHT, trunk=replace(TRUNK, input_channels=6), pyramid=False, coarse=3, middle=7)


def picture(name: str, channels: int = 3) -> Tensor:
    return torch.from_numpy(image(f"input:{name}", (1, channels, 256, 256)))


def filled(size: PyramidSize, state: dict[str, Tensor]) -> PyramidEncoder:
    """The encoder on the vector's own tensors: the official one is a gigabyte, and its initialisation takes seconds."""
    with torch.device("meta"):
        encoder = PyramidEncoder(size)
    encoder.load_state_dict(state, assign=True)
    return encoder.eval()


def inner_outputs(network: nn.Module, golden: Golden) -> dict[str, Tensor]:
    """Filled at the network's next call with what the vector stores of its inside."""
    inner: dict[str, Tensor] = {}
    for output in golden.manifest["outputs"]:
        if output.startswith("mid/"):
            network.get_submodule(output.removeprefix("mid/")).register_forward_hook(
                lambda _, __, value, output=output: inner.__setitem__(output, value)
            )
    return inner


def states(independent: Golden, progressive: Golden) -> dict[str, Tensor]:
    """The state of both: the fill depends on names and shapes alone, and theirs are the same."""
    assert independent.manifest["state_dict"] == progressive.manifest["state_dict"]
    return independent.state()


@pytest.mark.parametrize(
    "sizes",
    [
        {"psp_gradual_style_encoder": PyramidSize(), "e4e_encoder4editing": E4E},
        {"restyle_psp_backbone_encoder": RESTYLE_PSP, "restyle_e4e_progressive_backbone_encoder": RESTYLE_E4E},
    ],
    ids=["of one picture", "of two pictures"],
)
@torch.no_grad()
def test_encoders_reproduce_the_official_outputs(sizes: dict[str, PyramidSize]) -> None:
    goldens = [Golden(name) for name in sizes]
    state = states(*goldens)
    for golden in goldens:
        encoder = filled(sizes[golden.name], state)
        channels = encoder.size.trunk.input_channels
        pictures = picture("image256") if channels == 3 else picture("image256_6ch", 6)
        inner = inner_outputs(encoder, golden)
        golden.check("codes", encoder(pictures))
        assert len(inner) == 8
        for output, value in inner.items():
            golden.check(output, value)
        for output in golden.manifest["outputs"]:
            if output.startswith("codes_stage"):
                encoder.free_rows = int(output.removeprefix("codes_stage"))
                golden.check(output, encoder(pictures))


def test_restyle_reproduces_the_official_iterations() -> None:
    goldens = [Golden(f"restyle_{name}_iterative_64") for name in ("psp", "e4e")]
    state = states(*goldens)
    generator = StyleGAN2(StyleGAN2Size(64)).eval()
    generator.load_state_dict(_part(state, "decoder."))
    generator.set_mean_code(torch.from_numpy(normal("input:latent_avg", (1, 512))[0] * 0.3))
    for golden, size in zip(goldens, (RESTYLE_PSP, RESTYLE_E4E), strict=True):
        inverter = IterativeInverter(filled(replace(size, num_codes=10), _part(state, "encoder.")), generator)
        golden.check("avg_image", inverter.average)
        iterations = inverter.iterate(picture("image256"))
        assert len(iterations) == 5
        for i, inversion in enumerate(iterations, start=1):
            golden.check(f"iter{i}/latent", inversion.codes)
            golden.check(f"iter{i}/image", inversion.picture)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("size", "encoder_type"),
    [
        (PyramidSize(), "GradualStyleEncoder"),
        (replace(LIGHT, coarse=3, middle=5), "GradualStyleEncoder"),
        (E4E, "Encoder4Editing"),
        (RESTYLE_PSP, "BackboneEncoder"),
        (RESTYLE_E4E, "ProgressiveBackboneEncoder"),
        (replace(SIX_CHANNELS, trunk=replace(SIX_CHANNELS.trunk, form="ir")), "BackboneEncoder"),
    ],
)
def test_the_size_is_read_off_the_parameters(size: PyramidSize, encoder_type: str) -> None:
    with torch.device("meta"):
        tensors = PyramidEncoder(size).state_dict()
    assert PyramidEncoder.size_of(tensors, {"encoder_type": encoder_type}) == size
    missing = {
        "styles.0.linear.weight": "the parameter styles.0.linear.weight is missing",
        "styles.0.convs.0.weight": "the parameter styles.0.convs.0.weight is missing",
        "body.0.res_layer.1.weight": "have 0 widths and not 4",
    }
    for name, message in missing.items():
        with pytest.raises(Refusal, match=message):
            PyramidEncoder.size_of({key: tensor for key, tensor in tensors.items() if key != name}, {})


class TestProgressiveRows:
    def test_rows_join_one_by_one(self) -> None:
        torch.manual_seed(0)
        encoder = PyramidEncoder(replace(LIGHT, progressive=True)).eval()
        pictures = torch.rand(2, 3, 64, 64) * 2 - 1
        everything = encoder(pictures)
        for free in range(8):
            encoder.free_rows = free
            codes = encoder(pictures)
            torch.testing.assert_close(codes[:, : free + 1], everything[:, : free + 1])
            torch.testing.assert_close(codes[:, free + 1 :], everything[:, :1].expand(-1, 7 - free, -1))

    def test_they_are_offsets_from_the_first(self) -> None:
        torch.manual_seed(0)
        independent = PyramidEncoder(LIGHT).eval()
        progressive = PyramidEncoder(replace(LIGHT, progressive=True)).eval()
        progressive.load_state_dict(independent.state_dict())
        pictures = torch.rand(2, 3, 64, 64) * 2 - 1
        rows = independent(pictures)
        torch.testing.assert_close(progressive(pictures), torch.cat((rows[:, :1], rows[:, :1] + rows[:, 1:]), 1))

    def test_schedule_of_the_paper(self) -> None:
        steps = [0, 19_999, 20_000, 21_999, 22_000, 52_000, 200_000]
        assert [free_rows_at(step, 18) for step in steps] == [0, 0, 1, 1, 2, 17, 17]
        assert [free_rows_at(step, 12, 4, 1) for step in range(7)] == [0, 0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("size", [LIGHT, replace(LIGHT, progressive=True), SIX_CHANNELS])
def test_codes_have_the_gradient_of_finite_differences(size: PyramidSize) -> None:
    torch.manual_seed(0)
    size = replace(size, side=32, code_dim=4, num_codes=5)
    encoder = PyramidEncoder(size).double().eval()
    pictures = torch.randn(1, size.trunk.input_channels, 32, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(encoder, pictures, fast_mode=True)


class TestIteration:
    @pytest.fixture(scope="class")
    def inverter(self) -> IterativeInverter:
        torch.manual_seed(0)
        generator = tiny_generator()
        size = replace(SIX_CHANNELS, num_codes=generator.num_codes)
        return IterativeInverter(PyramidEncoder(size), generator, 3)

    def test_each_iteration_corrects_the_codes_of_the_one_before(self, inverter: IterativeInverter) -> None:
        assert isinstance(inverter, InversionMethod)
        pictures = torch.rand(2, 3, 64, 64) * 2 - 1
        iterations = inverter.iterate(pictures)
        codes, estimate = inverter.generator.mean_code, inverter.average.expand(2, -1, -1, -1)
        for inversion in iterations:
            codes = codes + inverter.encoder(torch.cat((pictures, estimate), 1))
            torch.testing.assert_close(inversion.codes, codes)
            estimate = inverter.generator.synthesize(codes)
            torch.testing.assert_close(inversion.picture, estimate)
        final = inverter.invert(pictures)
        assert len(iterations) == 3
        assert torch.equal(final.picture, iterations[-1].picture)
        assert final.feature is None
        still = inverter.edit(final, torch.randn(512), 0.0)
        torch.testing.assert_close(still, final.picture)

    def test_pictures_of_another_side_are_reduced_first(self, inverter: IterativeInverter) -> None:
        pictures = torch.rand(1, 3, 128, 128) * 2 - 1
        reduced = interpolate(pictures, size=(64, 64), mode="bilinear", antialias=True)
        assert torch.equal(inverter.invert(pictures).codes, inverter.invert(reduced).codes)

    def test_in_training_gradients_stay_within_an_iteration(self, inverter: IterativeInverter) -> None:
        encoder = PyramidEncoder(inverter.encoder.size)
        pictures = torch.rand(2, 3, 64, 64) * 2 - 1
        average = average_picture(inverter.generator, 64)
        losses = []
        for inversion in refine(encoder, inverter.generator, pictures, average, 2):
            loss = (inversion.picture - pictures).square().mean()
            loss.backward()  # a second time through the first iteration's graph would raise
            losses.append(loss.item())
        assert len(losses) == 2
        assert all(parameter.grad is not None for parameter in encoder.parameters())


def official_file(path: Path, size: PyramidSize, encoder_type: str, **changes: Any) -> PyramidEncoder:
    """Write what the official training writes, of light networks; returns the encoder."""
    torch.manual_seed(0)
    encoder = PyramidEncoder(size).eval()
    generator = StyleGAN2(StyleGAN2Size(32, (12, 10, 8, 6)))
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state |= {f"decoder.{name}": tensor for name, tensor in generator.state_dict().items()}
    content = {
        "state_dict": state,
        "opts": {"encoder_type": encoder_type, "device": "cuda", "lr": 1e-4},
        "latent_avg": torch.randn(8, 512),
    }
    torch.save({key: value for key, value in (content | changes).items() if value is not None}, path)
    return encoder


class TestOfficialFiles:
    @pytest.mark.parametrize(
        ("load", "size", "encoder_type"),
        [
            (load_official_psp, LIGHT, "GradualStyleEncoder"),
            (load_official_e4e, replace(LIGHT, progressive=True), "Encoder4Editing"),
            (load_official_restyle, SIX_CHANNELS, "BackboneEncoder"),
            (load_official_restyle, replace(SIX_CHANNELS, progressive=True), "ProgressiveBackboneEncoder"),
        ],
    )
    @torch.no_grad()
    def test_the_method_is_read(self, load: Any, size: PyramidSize, encoder_type: str, tmp_path: Path) -> None:
        path = tmp_path / "official.pt"
        encoder = official_file(path, size, encoder_type)
        method = load(path)
        assert isinstance(method, InversionMethod)
        pictures = torch.rand(2, 3, 128, 128) * 2 - 1
        inversion = method.invert(pictures)
        reduced = interpolate(pictures, size=(64, 64), mode="bilinear", antialias=True)
        if size.trunk.input_channels == 3:
            expected = encoder(reduced) + torch.load(path)["latent_avg"]
        else:
            average = average_picture(method.generator, 64)
            *_, last = refine(encoder, method.generator, reduced, average, 5)
            expected = last.codes
        torch.testing.assert_close(inversion.codes, expected)
        assert inversion.picture.shape == (2, 3, 32, 32)
        torch.testing.assert_close(inversion.picture, method.generator.synthesize(inversion.codes))

    def test_one_mean_code_serves_all_rows_and_options_may_be_a_namespace(self, tmp_path: Path) -> None:
        path, mean = tmp_path / "official.pt", torch.randn(512)
        options = Namespace(encoder_type="GradualStyleEncoder", learn_in_w=False)
        official_file(path, LIGHT, "GradualStyleEncoder", latent_avg=mean, opts=options)
        _, generator, found = read_psp_family(path, feature_layer=2)
        assert torch.equal(generator.mean_code, mean.expand(8, -1))
        assert found == {"encoder_type": "GradualStyleEncoder", "learn_in_w": False}
        assert generator.feature_layer == 2

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "official.pt"
        official_file(path, LIGHT, "GradualStyleEncoder")
        with pytest.raises(Refusal, match=r"official\.pt: its encoder is a GradualStyleEncoder and not a Encoder4Edit"):
            load_official_e4e(path)
        official_file(path, LIGHT, "GradualStyleEncoder", opts=None)
        with pytest.raises(Refusal, match="network of unknown kind"):
            load_official_psp(path)
        official_file(path, LIGHT, "GradualStyleEncoder", latent_avg=None)
        with pytest.raises(Refusal, match="latent_avg, the mean code, is missing"):
            load_official_psp(path)
        official_file(path, LIGHT, "GradualStyleEncoder", latent_avg=torch.randn(7, 512))
        with pytest.raises(Refusal, match=r"latent_avg, the mean code, is \(7, 512\) and not \(8, 512\)"):
            load_official_psp(path)
        state = torch.load(path)["state_dict"]
        del state["encoder.body.2.res_layer.4.running_var"]
        official_file(path, LIGHT, "GradualStyleEncoder", state_dict=state)
        with pytest.raises(Refusal, match=r"the parameter body\.2\.res_layer\.4\.running_var is missing"):
            load_official_psp(path)
        official_file(path, replace(LIGHT, num_codes=7), "GradualStyleEncoder")
        with pytest.raises(Refusal, match="its encoder gives 7 codes, and its generator takes 8"):
            load_official_psp(path)
