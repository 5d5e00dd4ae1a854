"""Eq. (2) to (5) of the paper: their values by other means, and which way each one's gradient flows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from baselines.psp import PSPObjective, PSPWeights
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.latents import sample_z
from fse.losses import FeatureStyleWeights, MultiScalePerceptualLoss, feature_loss, pixel_loss, reduce
from fse.objective import Batch, FeatureStyleObjective, Terms
from fse.perceptual import STLPIPS
from tests.tiny import tiny_coarse, tiny_encoder, tiny_generator

SIDES = (64, 32)
WEIGHTS = FeatureStyleWeights(pixel=0.7, perceptual=0.3, feature=0.02, pixel_feature=1.3)


@pytest.fixture(scope="module")
def perceptual(assets: Path) -> STLPIPS:
    return STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth")


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@pytest.fixture(scope="module")
def batch(generator: MobileStyleGAN) -> Batch:
    """Four pictures, of which two are synthetic."""
    codes = generator.map(sample_z(20, 4))
    others = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.3
    return Batch(torch.cat((generator.synthesize(codes[:2]), others)).clamp(-1, 1), codes[:2])


class Answers(nn.Module):
    """A network whose parameters are its answers, so that their gradients are those of the losses."""

    def __init__(self, generator: MobileStyleGAN, count: int, *, with_feature: bool = True) -> None:
        super().__init__()
        codes = generator.map(sample_z(21, count))
        self.offsets = nn.Parameter(codes - generator.mean_code)
        self.feature = nn.Parameter(generator.feature(codes.flip(0))) if with_feature else None

    def forward(self, pictures: Tensor) -> Any:
        return self.offsets if self.feature is None else (self.offsets, self.feature)


def mean_square(x: Tensor, y: Tensor) -> float:
    return (x.double() - y.double()).pow(2).sum().item() / x.numel()


@given(st.integers(1, 3), st.sampled_from([1, 2, 4, 8]), st.integers(1, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_pictures_are_reduced_by_averaging_blocks(batch: int, factor: int, side: int, seed: int) -> None:
    pictures = torch.randn(batch, 3, factor * side, factor * side, generator=torch.Generator().manual_seed(seed))
    blocks = pictures.unflatten(3, (side, factor)).unflatten(2, (side, factor))
    torch.testing.assert_close(reduce(pictures, side), blocks.mean((3, 5)))


def test_pixel_loss(batch: Batch) -> None:
    x, y = batch.pictures[:2].clone().requires_grad_(), batch.pictures[2:]
    loss = pixel_loss(x, y)
    assert loss.item() == pytest.approx(mean_square(x, y), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(gradient, 2 * (x - y).detach() / x.numel())
    assert pixel_loss(x.bfloat16(), y).dtype == torch.float32


def test_feature_loss_draws_the_feature_to_the_generator() -> None:
    feature, own = torch.randn(2, 4, 3, 3, requires_grad=True), torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = feature_loss(feature, own)
    assert loss.item() == pytest.approx(mean_square(feature, own), rel=1e-6)
    towards, away = torch.autograd.grad(loss, (feature, own), allow_unused=True)
    torch.testing.assert_close(towards, 2 * (feature - own).detach() / feature.numel())
    assert away is None


class TestMultiScale:
    def test_is_the_sum_over_scales_of_the_mean_over_pictures(self, perceptual: STLPIPS, batch: Batch) -> None:
        x, y = batch.pictures[:2], batch.pictures[2:]
        loss = MultiScalePerceptualLoss(perceptual, SIDES)
        expected = sum(perceptual(reduce(x, side), reduce(y, side)).double().mean() for side in SIDES)
        assert loss(x, loss.target(y)).item() == pytest.approx(float(expected), rel=1e-5)
        assert loss(x, loss.target(x)).item() == pytest.approx(0, abs=1e-6)

    def test_gradient_is_that_of_differences(self, perceptual: STLPIPS, batch: Batch, assets: Path) -> None:
        double = STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth").double()
        loss = MultiScalePerceptualLoss(double, SIDES)
        target = loss.target(batch.pictures[2:3].double().requires_grad_())
        assert not any(feature.requires_grad for features in target for feature in features)
        x = batch.pictures[:1].double().requires_grad_()
        assert torch.autograd.gradcheck(lambda p: loss(p, target), x, fast_mode=True, eps=1e-7, atol=1e-5)


class TestFeatureStyle:
    @pytest.fixture(scope="class")
    def objective(self, generator: MobileStyleGAN, perceptual: STLPIPS) -> FeatureStyleObjective:
        network: Any = Answers(generator, 4)
        return FeatureStyleObjective(network, generator, perceptual, SIDES, WEIGHTS)

    def test_terms_are_the_equations(
        self, objective: FeatureStyleObjective, generator: MobileStyleGAN, perceptual: STLPIPS, batch: Batch
    ) -> None:
        terms = objective(batch, generator).terms
        offsets, feature = objective.network(batch.pictures)
        codes = offsets + generator.mean_code
        of_codes, of_feature = generator.synthesize(codes), generator.synthesize(codes, feature)
        distances = {
            name: sum(perceptual(reduce(p, s), reduce(batch.pictures, s)).mean().item() for s in SIDES)
            for name, p in {"perceptual": of_codes, "perceptual_feature": of_feature}.items()
        }
        expected = {
            "mse": mean_square(of_codes[:2], batch.pictures[:2]),  # Eq. (2): the synthetic half
            "mse_feature": mean_square(of_feature, batch.pictures),
            **distances,  # Eq. (3)
            "feature": mean_square(feature, generator.feature(codes)),  # Eq. (4)
        }
        expected["loss"] = (  # Eq. (5)
            0.7 * expected["mse"]
            + 1.3 * expected["mse_feature"]
            + 0.3 * (expected["perceptual"] + expected["perceptual_feature"])
            + 0.02 * expected["feature"]
        )
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize(
        ("term", "early", "late", "feature"),
        [
            # Which pictures' answers a term moves: "half" is the synthetic one.
            ("mse", "half", "half", "none"),
            ("mse_feature", "none", "all", "all"),
            ("perceptual", "all", "all", "none"),
            ("perceptual_feature", "none", "all", "all"),
            ("feature", "none", "none", "all"),
        ],
    )
    def test_gradients_flow_as_they_should(
        self,
        objective: FeatureStyleObjective,
        generator: MobileStyleGAN,
        batch: Batch,
        term: str,
        early: str,
        late: str,
        feature: str,
    ) -> None:
        """early and late are the codes w^{1:K} and w^{K+1:N}: G(F, w^{K+1:N}) does not read the first."""
        answers = list(objective.network.parameters())
        loss = objective(batch, generator).terms[term]
        of_offsets, of_feature = torch.autograd.grad(loss, answers, allow_unused=True, materialize_grads=True)
        k = generator.feature_codes
        pictures = {"none": [False] * 4, "half": [True, True, False, False], "all": [True] * 4}
        assert (of_offsets[:, :k] != 0).flatten(1).any(1).tolist() == pictures[early]
        assert (of_offsets[:, k:] != 0).flatten(1).any(1).tolist() == pictures[late]
        assert (of_feature != 0).flatten(1).any(1).tolist() == pictures[feature]

    @pytest.mark.parametrize("name", ["pixel", "pixel_feature", "perceptual", "feature"])
    def test_weight_zero_leaves_a_term_out(
        self, objective: FeatureStyleObjective, generator: MobileStyleGAN, batch: Batch, name: str
    ) -> None:
        others = FeatureStyleObjective(objective.network, generator, objective.perceptual, SIDES, WEIGHTS)
        others.weights = replace(WEIGHTS, **{name: 0.0})
        only = FeatureStyleObjective(objective.network, generator, objective.perceptual, SIDES, WEIGHTS)
        only.weights = replace(FeatureStyleWeights(0, 0, 0, 0), **{name: getattr(WEIGHTS, name)})
        total, without, alone = (o(batch, generator).terms["loss"].item() for o in (objective, others, only))
        assert alone > 0
        assert without + alone == pytest.approx(total, rel=1e-5)

    def test_paper_leaves_the_pixels_of_the_feature_out(self) -> None:
        assert FeatureStyleWeights().pixel_feature == 0

    def test_coarse_generator(
        self, objective: FeatureStyleObjective, generator: MobileStyleGAN, perceptual: STLPIPS, batch: Batch
    ) -> None:
        """Targets are reduced to its size, and the codes that it does not have are left alone."""
        coarse = tiny_coarse(generator)
        at_32 = FeatureStyleObjective(objective.network, generator, perceptual, [32], WEIGHTS)
        terms = at_32(batch, coarse).terms
        codes = objective.network(batch.pictures)[0] + generator.mean_code
        picture = coarse.synthesize(codes[:, : coarse.num_codes])
        expected = mean_square(picture[:2], reduce(batch.pictures, 32)[:2])
        assert terms["mse"].item() == pytest.approx(expected, rel=1e-4)
        (gradient,) = torch.autograd.grad(terms["loss"], [objective.network.offsets])
        moved = (gradient != 0).any(2).any(0)
        assert moved.tolist() == [True] * coarse.num_codes + [False] * (generator.num_codes - coarse.num_codes)

    def test_warm_start_regresses_what_is_known(
        self, generator: MobileStyleGAN, perceptual: STLPIPS, batch: Batch
    ) -> None:
        """Codes as they are, F in units of its channels' standard deviations; the other half plays no part."""
        objective = FeatureStyleObjective(tiny_encoder(generator), generator, perceptual, SIDES, WEIGHTS)
        offsets, feature = objective.network(batch.pictures)
        known, scale = generator.feature(batch.codes), objective.network.feature_norm.weight[:, None, None]
        expected = {
            "codes": mean_square(offsets[:2] + generator.mean_code, batch.codes),
            "feature": mean_square(feature[:2] / scale, known / scale),
        }
        terms: Terms = objective(batch, None).terms
        loss = terms.pop("loss")
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)
        assert loss.item() == pytest.approx(sum(expected.values()), rel=1e-4)

        network: Any = objective.network
        loss.backward()
        assert all(parameter.grad is not None for parameter in network.styles.parameters())
        assert network.feature_norm.bias.grad.abs().max() > 0


def test_psp_takes_both_losses_on_every_picture(generator: MobileStyleGAN, perceptual: STLPIPS, batch: Batch) -> None:
    network: Any = Answers(generator, 4, with_feature=False)
    objective = PSPObjective(network, generator, perceptual, SIDES, PSPWeights(0.9, 0.6))
    terms = objective(batch, generator).terms
    picture = generator.synthesize(network.offsets + generator.mean_code)
    distance = sum(perceptual(reduce(picture, s), reduce(batch.pictures, s)).mean().item() for s in SIDES)
    expected = {"mse": mean_square(picture, batch.pictures), "perceptual": distance}
    expected["loss"] = 0.9 * expected["mse"] + 0.6 * expected["perceptual"]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)
    terms["loss"].backward()
    assert (network.offsets.grad != 0).any(2).all()
    warm = objective(batch, None).terms["loss"].item()
    assert warm == pytest.approx(mean_square(network.offsets[:2] + generator.mean_code, batch.codes), rel=1e-4)
