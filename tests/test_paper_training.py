"""Training as published (section 4.2): its losses, its data, its optimisers, its recipes, and all of it together.

Official files are stand-ins of the official structure at a small size (:mod:`tests.tiny_paper`).
"""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.models import alexnet

from eval.ablation import PAPER_METRICS, read_runs, render
from fse.bisenet import BiSeNet
from fse.checkpoints.network_file import read_network, write_network
from fse.encoder import EncoderSize, FeatureStyleEncoder, MarginEncoder
from fse.face_losses import FaceLosses
from fse.face_recognition import ArcFace, FaceRecognitionSize
from fse.generators.stylegan2 import StyleGAN2
from fse.generators.stylegan3 import StyleGAN3, StyleGAN3Size
from fse.inverter import side_for
from fse.latents import sample_z
from fse.losses import FeatureStyleWeights
from fse.lpips_alexnet import LPIPS
from fse.objective import Batch, FeatureStyleObjective
from fse.ranger import Ranger
from fse.refusal import Refusal
from fse.renders import JPEGRenders
from fse.training import _State
from fse.training_data import RealAndSynthetic, RenderedOnTheFly, Share, rendered
from pipelines.paper import ablate, train
from pipelines.paper.recipes import RECIPES, Training
from pipelines.paper.training import encoder_for, fabric_for, settings_for
from tests.tiny_paper import (
    ARCFACE,
    BISENET,
    CHANGES,
    FILES,
    PICTURES,
    STYLEGAN2,
    TRAINING,
    Here,
    official_files,
    tiny_ingredients,
    tiny_paper_training,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_files(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(STYLEGAN2).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise.weight"):
            parameter.data.fill_(0.1)
    return generator


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class TestLPIPS:
    @pytest.fixture(scope="class")
    def trunk(self) -> dict[str, Tensor]:
        torch.manual_seed(3)
        return alexnet().state_dict()

    @pytest.fixture(scope="class")
    def package(self, trunk: dict[str, Tensor]) -> Any:
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        own = network.net.state_dict()
        network.net.load_state_dict({name: trunk[f"features.{name.split('.', 1)[1]}"] for name in own})
        return network.requires_grad_(False)

    @pytest.mark.parametrize("side", [256, 129, 64, 33])
    def test_is_the_package(self, trunk: dict[str, Tensor], package: Any, side: int) -> None:
        x, y = pictures(2, side).requires_grad_(), pictures(2, side, 1)
        own = LPIPS(trunk)
        found, expected = own.distance(own.features(x), own.features(y)), package(x, y).flatten()
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-7)
        gradients = [torch.autograd.grad(each.sum(), x)[0] for each in (found, expected)]
        assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()

    def test_gradient_is_finite_where_maps_are_zero(self, trunk: dict[str, Tensor]) -> None:
        silent = LPIPS({name: -value.abs() if name.endswith("bias") else 0 * value for name, value in trunk.items()})
        x = pictures(1, 64).requires_grad_()
        (gradient,) = torch.autograd.grad(silent(x, pictures(1, 64, 1)).sum(), x)
        assert gradient.isfinite().all()

    def test_half_precision_changes_little(self, trunk: dict[str, Tensor]) -> None:
        own, x, y = LPIPS(trunk), pictures(1, 128), pictures(1, 128, 1)
        with torch.autocast("cpu", torch.bfloat16):
            assert own.features(x)[2].dtype == torch.bfloat16
            found = own(x, y)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(own(x, y).item(), rel=0.02)

    def test_another_file_is_refused(self, trunk: dict[str, Tensor], tmp_path: Path) -> None:
        torch.save({name: value for name, value in trunk.items() if name != "features.8.bias"}, tmp_path / "a.pth")
        with pytest.raises(Refusal, match=r"a\.pth: the parameter features\.8\.bias is missing"):
            LPIPS.load(tmp_path / "a.pth")


class Answers(torch.nn.Module):
    """A network whose parameters are its answers, so that their gradients are those of the losses."""

    def __init__(self, generator: StyleGAN2, count: int) -> None:
        super().__init__()
        codes = generator.map(sample_z(21, count))
        self.offsets = torch.nn.Parameter(codes - generator.mean_code)
        self.feature = torch.nn.Parameter(generator.feature(codes.flip(0)))

    def forward(self, seen: Tensor) -> Any:
        self.seen = seen
        return self.offsets, self.feature


class Counting(ArcFace):
    """Counts how often pictures are looked at."""

    looks = 0

    def levels(self, pictures: Tensor) -> list[Tensor]:
        self.looks += len(pictures)
        return super().levels(pictures)


class TestFaceLosses:
    @pytest.fixture(scope="class")
    def recognition(self) -> ArcFace:
        torch.manual_seed(1)
        return Counting(ARCFACE).eval()

    @pytest.fixture(scope="class")
    def parsing(self) -> BiSeNet:
        torch.manual_seed(2)
        return BiSeNet(BISENET).eval()

    @pytest.fixture(scope="class")
    def lpips_network(self) -> LPIPS:
        torch.manual_seed(3)
        return LPIPS(alexnet().state_dict())

    def direct(self, recognition: ArcFace, parsing: BiSeNet, x: Tensor, y: Tensor) -> dict[str, float]:
        """Eq. (6) and (7) as printed: a sum of 1 minus a cosine, in double precision, averaged over pictures."""

        def losses(levels: list[tuple[Tensor, Tensor]]) -> float:
            total = 0.0
            for a, b in levels:
                for u, v in zip(a.double().flatten(1), b.double().flatten(1), strict=True):
                    total += 1 - (u @ v / u.norm() / v.norm()).item()
            return total / len(x)

        maps = [parsing(parsing.prepare(each)) for each in (x, y)]
        levels = [ArcFace.levels(recognition, each) for each in (x, y)]
        return {
            "identity": losses(list(zip(*levels, strict=True))),
            "parsing": losses(list(zip(*maps, strict=True))),
        }

    @torch.no_grad()
    def test_are_the_equations(self, recognition: ArcFace, parsing: BiSeNet) -> None:
        x, y = pictures(2, 64), pictures(2, 64, 1)
        losses = FaceLosses(recognition, parsing)
        assert len(recognition.levels(x)) == 5
        found = losses(x, losses.target(y))
        assert {name: value.item() for name, value in found.items()} == pytest.approx(
            self.direct(recognition, parsing, x, y), rel=1e-3
        )
        zero = losses(y, losses.target(y))
        assert max(value.item() for value in zero.values()) < 1e-5
        with torch.autocast("cpu", torch.bfloat16):
            half = losses(x, losses.target(y))
        for name, value in half.items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(found[name].item(), rel=0.05)

    def test_eq8_on_both_reconstructions(
        self, recognition: Counting, parsing: BiSeNet, generator: StyleGAN2, lpips_network: LPIPS
    ) -> None:
        weights = FeatureStyleWeights(identity=0.3, parsing=0.7)
        answers: Any = Answers(generator, 4)
        codes = generator.map(sample_z(20, 2))
        batch = Batch(torch.cat((generator.synthesize(codes).clamp(-1, 1), pictures(2, 64))), codes)

        def terms_with(faces: FaceLosses | None) -> dict[str, Tensor]:
            objective = FeatureStyleObjective(
                answers, generator, lpips_network, [64, 32], weights, faces=faces, side=128
            )
            terms: dict[str, Tensor] = objective(batch, generator).terms
            return terms

        without, recognition.looks = terms_with(None), 0
        terms = terms_with(FaceLosses(recognition, parsing))
        assert answers.seen.shape[-1] == 128
        assert recognition.looks == 4 * 3  # the pictures once, for both reconstructions
        of_codes = generator.synthesize(answers.offsets + generator.mean_code)
        of_feature = generator.synthesize(answers.offsets + generator.mean_code, answers.feature)
        with torch.no_grad():
            first = self.direct(recognition, parsing, of_codes, batch.pictures)
            second = self.direct(recognition, parsing, of_feature, batch.pictures)
        expected = {**first, **{f"{name}_feature": value for name, value in second.items()}}
        assert {name: terms[name].item() for name in expected} == pytest.approx(expected, rel=1e-3)
        added = 0.3 * (first["identity"] + second["identity"]) + 0.7 * (first["parsing"] + second["parsing"])
        assert terms["loss"].item() - without["loss"].item() == pytest.approx(added, rel=1e-3)

        k = generator.feature_codes
        for term, early, feature in (("identity", True, False), ("parsing_feature", False, True)):
            answers.zero_grad()
            terms[term].backward(retain_graph=True)
            # The RGB outputs of the levels up to F's own still read codes, so only these are untouched: none.
            assert (
                bool((answers.feature.grad != 0).any()) == feature if answers.feature.grad is not None else not feature
            )
            assert (answers.offsets.grad[:, k:] != 0).any()
            if early:
                assert (answers.offsets.grad[:, :k] != 0).any()

    def test_one_of_them_alone(self, recognition: ArcFace) -> None:
        losses = FaceLosses(recognition, None)
        assert set(losses(pictures(1, 64), losses.target(pictures(1, 64, 1)))) == {"identity"}


class TestReleasedPasses:
    """Both passes receive F; the first has noise drawn anew, of each picture's own seed; F comes in over a ramp."""

    @pytest.fixture(scope="class")
    def lpips_network(self) -> LPIPS:
        torch.manual_seed(3)
        return LPIPS(alexnet().state_dict())

    def test(self, generator: StyleGAN2, lpips_network: LPIPS) -> None:
        answers: Any = Answers(generator, 2)
        objective = FeatureStyleObjective(
            answers, generator, lpips_network, [64], FeatureStyleWeights(), 2, fresh_noise=True, ramp=0.1
        )
        batch = Batch(pictures(2, 64), torch.empty(0, 0, 0), 0.025, (5, 6))
        terms = objective(batch, generator).terms
        codes = answers.offsets + generator.mean_code
        feature = 0.75 * generator.feature(codes) + 0.25 * answers.feature
        drawn = [generator.fresh_noise(torch.Generator().manual_seed(seed)) for seed in (5, 6)]
        one_by_one = [
            generator.synthesize(codes[i : i + 1], feature[i : i + 1], noise=noise) for i, noise in enumerate(drawn)
        ]
        expected = lpips_network(torch.cat(one_by_one), batch.pictures).mean()
        assert terms["perceptual"].item() == pytest.approx(expected.item(), rel=1e-4)
        stored = lpips_network(generator.synthesize(codes, feature), batch.pictures).mean()
        assert terms["perceptual_feature"].item() == pytest.approx(stored.item(), rel=1e-4)
        assert terms["perceptual"].item() != pytest.approx(stored.item(), rel=1e-4)
        whole = objective(batch._replace(progress=0.5), generator).terms["perceptual_feature"]
        expected = lpips_network(generator.synthesize(codes, answers.feature), batch.pictures).mean()
        assert whole.item() == pytest.approx(expected.item(), rel=1e-4)

    def test_a_generator_without_noise_is_refused(self, lpips_network: LPIPS) -> None:
        network: Any = torch.nn.Identity()
        without: Any = StyleGAN3(StyleGAN3Size(16, 64, 16))
        with pytest.raises(ValueError, match="adds no noise"):
            FeatureStyleObjective(network, without, lpips_network, [64], FeatureStyleWeights(), fresh_noise=True)


class Numbers:
    """A data set whose picture i is of the grey i."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        self.read.append(index)
        return f"{index}", Image.new("RGB", (16, 16), (index, index, index))


def numbers_of(batch: Tensor) -> list[int]:
    return [round(value) for value in ((batch[:, 0, 0, 0] + 1) * 127.5).tolist()]


class TestData:
    def data(self, generator: StyleGAN2, count: int = 10) -> RealAndSynthetic:
        return RealAndSynthetic(Numbers(count), RenderedOnTheFly(generator), 64, torch.device("cpu"), readers=2)

    def test_every_real_picture_is_seen_once_before_any_is_again(self, generator: StyleGAN2) -> None:
        data = self.data(generator)
        seen = [n for step in range(10) for n in numbers_of(data.batch(Share(3, step, 0, 3))[0])]
        for start in (0, 10, 20):
            assert sorted(seen[start : start + 10]) == list(range(10))
        assert seen[:10] != seen[10:20]

    @hypothesis_settings(deadline=None, max_examples=15)
    @given(st.integers(0, 1000), st.integers(0, 2**31), st.sampled_from([1, 2, 4]))
    def test_shares_are_the_whole(self, generator: StyleGAN2, step: int, seed: int, count: int) -> None:
        data = self.data(generator)
        whole = Share(seed, step, 4, 4)
        pictures, codes = data.batch(whole)
        shares = [Share(seed, step, 4, 4, index, count) for index in range(count)]
        parts = [data.batch(share) for share in shares]
        torch.testing.assert_close(torch.cat([part for _, part in parts]), codes)
        s = 4 // count
        both = torch.cat([*(part[:s] for part, _ in parts), *(part[s:] for part, _ in parts)])
        torch.testing.assert_close(both, pictures, rtol=0, atol=1e-4)
        assert {seed for share in shares for seed in share.seeds} == set(whole.seeds)
        assert len(set(whole.seeds)) == 8

    def test_depend_on_seed_and_step_alone(self, generator: StyleGAN2) -> None:
        forwards = {step: self.data(generator).batch(Share(1, step, 2, 2)) for step in (0, 1, 40, 7)}
        one = self.data(generator)
        for step in (7, 0, 40, 1, 0):  # jumps, as after a resumed state
            for again, before in zip(one.batch(Share(1, step, 2, 2)), forwards[step], strict=True):
                assert torch.equal(again, before)
        others = [self.data(generator).batch(Share(2, 0, 2, 2)), forwards[1]]
        for pictures, codes in others:
            assert not torch.equal(codes, forwards[0][1])
            assert not torch.equal(pictures, forwards[0][0])

    def test_synthetic_pictures_are_those_of_their_codes(self, generator: StyleGAN2) -> None:
        pictures, codes = self.data(generator).batch(Share(0, 5, 2, 1))
        assert pictures.shape == (3, 3, 64, 64)
        assert torch.equal(pictures[:2], generator.synthesize(codes).clamp(-1, 1))
        assert (codes == codes[:, :1]).all()  # of W

    def test_pictures_are_read_ahead_and_not_twice(self, generator: StyleGAN2) -> None:
        data = self.data(generator, 100)
        for step in range(6):
            data.batch(Share(0, step, 0, 2))
        data._pool.shutdown()
        real: Any = data.real
        assert len(real.read) == len(set(real.read)) == 2 * (6 + data.ahead)

    def test_renders_of_fixed_seeds(self, generator: StyleGAN2, tmp_path: Path) -> None:
        renders = JPEGRenders(generator, tmp_path, 6, 5)
        for process in (1, 0):
            renders.render(lambda items, name: items, process, 2)
        times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        assert sorted(times) == [f"{i:06}.jpg" for i in range(6)]
        renders.render(lambda items, name: items)
        assert times == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        drawn = [renders.draw(Share(0, step, 2, 0)) for step in range(5)]
        seen = torch.cat([codes[:, 0] for _, codes in drawn])
        assert len(torch.unique(seen, dim=0)) == 5  # ten draws: each of the first five twice, the sixth never
        for step, (pictures, codes) in enumerate(drawn):
            for seed, picture, code in zip(rendered(Share(0, step, 2, 0), 5), pictures, codes, strict=True):
                noise = generator.fresh_noise(torch.Generator().manual_seed(seed))
                made, stored = (generator.synthesize(code[None], noise=each)[0].clamp(-1, 1) for each in (noise, None))
                assert (picture - made).abs().mean() < 0.1 < (picture - stored).abs().mean()  # JPEG's error, or noise's


class TestRanger:
    def test_is_its_three_papers(self) -> None:
        """Step by step in double precision, for a matrix and a vector."""
        random = np.random.default_rng(0)
        start = {"matrix": random.normal(size=(3, 4)), "vector": random.normal(size=4)}
        gradients = [{name: random.normal(size=value.shape) + 1 for name, value in start.items()} for _ in range(30)]
        parameters = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
        optimiser = Ranger(parameters.values(), 0.01)
        for step in gradients:
            for name, parameter in parameters.items():
                parameter.grad = torch.from_numpy(step[name].copy())
            optimiser.step()

        beta1, beta2, longest = 0.95, 0.999, 2 / (1 - 0.999) - 1
        for name, value in start.items():
            fast, slow, first, second = value.copy(), value.copy(), 0.0, 0.0
            for t, step in enumerate(gradients, 1):
                g = step[name] - (step[name].mean(1, keepdims=True) if name == "matrix" else 0)
                first, second = beta1 * first + (1 - beta1) * g, beta2 * second + (1 - beta2) * g * g
                corrected = first / (1 - beta1**t)
                length = longest - 2 * t * beta2**t / (1 - beta2**t)
                if length > 5:
                    rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
                    scale = math.sqrt(rectified * (1 - beta2**t))
                    fast = fast - 0.01 * corrected * scale / (np.sqrt(second) + 1e-5)
                else:
                    fast = fast - 0.01 * corrected
                if t % 6 == 0:
                    slow = slow + 0.5 * (fast - slow)
                    fast = slow.copy()
            np.testing.assert_allclose(parameters[name].detach().numpy(), fast, rtol=1e-9)

    def test_goes_on_from_its_state(self) -> None:
        def steps(optimiser: Ranger, parameter: Tensor, first: int, last: int) -> None:
            for t in range(first, last):
                parameter.grad = torch.full_like(parameter, math.sin(t)) * torch.arange(4.0)
                optimiser.step()

        one = torch.nn.Parameter(torch.ones(2, 4))
        whole = Ranger([one], 0.1)
        steps(whole, one, 0, 4)
        other = torch.nn.Parameter(one.detach().clone())
        again = Ranger([other], 0.1)
        again.load_state_dict(copy.deepcopy(whole.state_dict()))
        steps(whole, one, 4, 15)
        steps(again, other, 4, 15)
        assert torch.equal(one, other)


class TestRecipes:
    def test_paper_is_the_text(self) -> None:
        """Section 4.2, number by number."""
        settings = settings_for(RECIPES["paper"], Training())
        assert (settings.total, settings.batch, settings.share(0).synthetic) == (120_000, 4, 2)
        rates = {step: settings.rate(step) for step in (0, 1, 99_999, 100_000, 119_999)}
        assert rates == pytest.approx({0: 1e-4, 1: 1e-4, 99_999: 1e-4, 100_000: 1e-5, 119_999: 1e-5})
        assert settings.is_fine(0)
        assert not settings.is_norm_frozen(119_999)

    def test_released_is_the_code(self) -> None:
        settings = settings_for(RECIPES["released"], Training(recipe="released"))
        assert (settings.batch, settings.share(0).synthetic, settings.optimiser) == (2, 1, "ranger")
        assert settings.rate(100_000) == pytest.approx(1e-5)
        assert [settings.is_norm_frozen(step) for step in (9_999, 10_000)] == [False, True]

    def test_changes(self) -> None:
        recipe = Training.model_validate({"changes": {"epochs": 1, "betas": [0.5, 0.9]}}).in_force
        assert (recipe.epochs, recipe.betas, recipe.iterations) == (1, (0.5, 0.9), 10_000)
        for wrong in ({"epoch": 1}, {"epochs": 0}, {"real": 0, "synthetic": 0}):
            with pytest.raises(ValueError, match=r"training\.changes: "):
                Training.model_validate({"changes": wrong})


class TestEncoders:
    def test_official_size(self) -> None:
        """For a StyleGAN2 of 1024 px and ArcFace's iResNet-50, at every K that the ablation takes."""
        with torch.device("meta"):
            recognition = ArcFace()
            for layer, stride in ((3, 4), (5, 2), (7, 1)):
                generator = StyleGAN2(feature_layer=layer)
                encoder = encoder_for(generator, recognition)
                assert encoder.size == EncoderSize(feature_stride=stride, feature_layer=layer)
                assert side_for(encoder, generator) == 256
            with pytest.raises(Refusal, match=r"K = 1 has 4 x 4 samples"):
                encoder_for(StyleGAN2(feature_layer=1), recognition)

    @torch.no_grad()
    def test_feature_of_stylegan3_has_its_margin(self, tmp_path: Path) -> None:
        size = StyleGAN3Size(64, 512, 16, mapping_depth=1)
        generator = StyleGAN3(size, 5).eval()
        encoder = encoder_for(generator, ArcFace(ARCFACE)).eval()
        side = side_for(encoder, generator)
        codes, feature = encoder(pictures(2, side))
        assert feature.shape[1:] == generator.feature_shape
        assert generator.synthesize(codes + generator.mean_code, feature).shape[-1] == 64
        margin = size.margin_size
        inside = feature[..., margin:-margin, margin:-margin]
        assert inside.shape[-1] == size.signal(4).rate
        assert torch.equal(feature[..., 0, margin:-margin], inside[..., 0, :])
        write_network(tmp_path / "e.safetensors", encoder, {})
        again = read_network(tmp_path / "e.safetensors", FeatureStyleEncoder)
        assert isinstance(again, MarginEncoder)
        assert again.size == encoder.size
        with torch.device("meta"):
            official = encoder_for(StyleGAN3(), ArcFace())
            assert side_for(official, StyleGAN3()) == 256

    def test_trunk_is_arcfaces(self, files: Path) -> None:
        made = tiny_ingredients(files, Training.model_validate(TRAINING))
        recognition = ArcFace(ARCFACE)
        recognition.load_state_dict(torch.load(files / FILES["arcface_iresnet50"], weights_only=True))
        x = pictures(2, 32)
        made.encoder.eval()
        for own, official in zip(made.encoder.stages(x), recognition.eval().levels(x), strict=False):
            assert torch.equal(own, official)

    @pytest.mark.parametrize("asset", ["psp_ffhq", "arcface_iresnet50", "bisenet", "alexnet", "ffhq"])
    def test_what_is_missing_is_named(self, files: Path, tmp_path: Path, asset: str) -> None:
        for name in FILES.values():
            if name != FILES[asset]:
                (tmp_path / name).symlink_to(files / name)
        with pytest.raises(Refusal, match=asset):
            tiny_ingredients(tmp_path, Training.model_validate(TRAINING))

    def test_another_width_is_refused(self, files: Path, tmp_path: Path) -> None:
        for name in FILES.values():
            (tmp_path / name).symlink_to(files / name)
        (tmp_path / FILES["bisenet"]).unlink()
        torch.save(ArcFace(FaceRecognitionSize()).state_dict(), tmp_path / FILES["bisenet"])
        with pytest.raises(Refusal, match=r"79999_iter\.pth: the parameter conv_out\.conv_out\.weight is missing"):
            tiny_ingredients(tmp_path, Training.model_validate(TRAINING))


FAST = {**CHANGES, "parsing": 0, "scales": 1}
RELEASED = {
    **FAST, "frozen_norm_from": 1, "ramp": 4, "renders": 8, "real_part": 0.7, "iterations": 2, "epochs": 2,
    "lower_from": 1,
}  # fmt: skip


class TestTraining:
    def test_broken_off_goes_on_as_if_nothing_had_been(self, files: Path, tmp_path: Path) -> None:
        """The released recipe, which has the most that could be forgotten: Ranger's slow weights, noise, the ramp."""
        options = {"recipe": "released", "changes": RELEASED, "save_every": 3, "validate_every": 4}
        whole, _ = tiny_paper_training(files, tmp_path / "whole", **options)
        runs = tmp_path / "broken"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fse.training._State.save", stop_after(3))
            with pytest.raises(KeyboardInterrupt):
                tiny_paper_training(files, runs, **options)
        again, _ = tiny_paper_training(files, runs, **options)
        strip = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.curve]
        assert [{k: v for k, v in row.items() if k != "seconds"} for row in again.curve] == strip
        assert [row["step"] for row in strip] == [0, 1, 2, 3]
        rates = [row["train/learning_rate"] for row in strip]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
        for name, tensor in whole.objective.network.state_dict().items():
            assert torch.equal(tensor, again.objective.network.state_dict()[name]), name
        norm = whole.objective.network.state_dict()["conv.1.num_batches_tracked"]
        assert norm == 2  # one epoch of two iterations, and none after it

    def test_command(self, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The stage in a folder of its own, with every loss; then a variant, and a domain whose files are missing."""
        monkeypatch.chdir(tmp_path)
        survey(tmp_path, files)
        monkeypatch.setattr(sys, "argv", ["train", "faces"])
        train.main()
        folder = tmp_path / "weights/faces"
        encoder = read_network(folder / "fse.safetensors", FeatureStyleEncoder)
        assert encoder.size.num_codes == 10
        summary = json.loads((folder / "training.json").read_text())
        assert (summary["step"], summary["batch"]) == (2, 4)
        header = (folder / "training.csv").read_text().splitlines()[0]
        for term in ("identity", "identity_feature", "parsing", "parsing_feature", "perceptual", "feature", "mse"):
            assert f"train/{term}" in header
        assert "validation/lpips_feature" in header

        monkeypatch.setattr(sys, "argv", ["train", "cats"])
        train.main()
        reason = json.loads((tmp_path / "weights/cats/absent.json").read_text())["reason"]
        assert "afhqcat" in reason

        for variant in ("full", "no_eq7"):
            monkeypatch.setattr(sys, "argv", ["ablate", variant])
            ablate.main()
        (tmp_path / "both").mkdir()
        for path in (tmp_path / "data/ablation").glob("*/*.json"):
            path.rename(tmp_path / "both" / path.name)
        runs = read_runs(tmp_path / "both")
        assert [variant for variant, _ in runs] == ["full", "no_eq7"]
        for run in runs.values():
            assert list(run.pictures) == ["codes", "feature"]
            assert {key: len(values) for key, values in run.of("result").items()} == dict.fromkeys(PAPER_METRICS, 3)
        assert runs["no_eq7", 0].changes == {"parsing": 0.0}
        render(tmp_path / "both", tmp_path / "reports")
        assert "LPIPS" in (tmp_path / "reports/ablation.md").read_text()

    def test_too_few_pictures(self, files: Path) -> None:
        with pytest.raises(Refusal, match=f"has {PICTURES} pictures, of which {PICTURES - 1} are held out"):
            tiny_ingredients(files, Training.model_validate({**TRAINING, "validation": PICTURES - 1}))

    def test_batch_that_cannot_be_shared_out(self, files: Path, tmp_path: Path) -> None:
        with pytest.raises(Refusal, match=r"2 synthetic and 2 other pictures .* 1 processes with 4 micro-batches"):
            tiny_paper_training(files, tmp_path, accumulate=4, changes=FAST)


def test_processes_that_parameters_do_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun sets it
    with pytest.raises(Refusal, match=r"2 processes were started, and training\.devices \* training\.nodes = 1"):
        fabric_for(RECIPES["paper"], Training(), torch.device("cpu"))


def stop_after(step: int) -> Any:
    """As ``_State.save``, but the process is stopped once the state of ``step`` is on disk."""
    save = _State.save

    def stopped(state: Any, path: Path) -> None:
        save(state, path)
        if state.step >= step:
            raise KeyboardInterrupt

    return stopped


def survey(folder: Path, files: Path) -> None:
    """What the stages before would have left, and ``params.yaml``."""
    here = Here(files)
    assets = {name: {"state": "here", "reason": "", "path": str(here(name)), "files": {}, "sets": {}} for name in FILES}
    for name in ("afhqcat", "afhq", "stylegan2_ffhq"):
        reason = f"the official asset {name} is missing; fetch it"
        assets[name] = {"state": "missing", "reason": reason, "path": None, "files": {}, "sets": {}}
    (folder / "data/survey").mkdir(parents=True)
    (folder / "data/survey/assets.json").write_text(json.dumps({"rehearsal": True, "assets": assets}))
    attributes = {"smile": "Smiling"}
    parameters = {
        "code": "..", "official": str(files), "assets": "data/assets", "device": "cpu", "allow_partial": True,
        "training": {**TRAINING, "changes": {**CHANGES, "epochs": 1}},
        "references": {"ffhq": 0, "celeba_hq_test": 0},
        "evaluate": {"batch": 1, "limit": None, "processes": 1, "fewest": 32},
        "noise": {"pictures": 1, "draws": 2},
        "clips": {"count": 1, "seed": 0, "frames": 3, "batch": 1},
        "directions": {"pictures": 4, "attributes": attributes, "train": 0.7, "cost": 1, "seed": 0, "batch": 1},
        "editing": {"pictures": 1, "strengths": [1.5], "batch": 1},
    }  # fmt: skip
    (folder / "params.yaml").write_text(json.dumps(parameters))
