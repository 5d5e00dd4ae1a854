"""The in-domain encoder's training: where it starts, its critic, the loop, and the method that its file makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from baselines.idinvert.discriminator import Discriminator, PictureCritic
from baselines.idinvert.encoder import InDomainEncoder, InDomainEncoderSize
from baselines.idinvert.inversion import PerceptualFeatures, load_idinvert
from baselines.idinvert.objective import InDomainObjective, InDomainTrainingWeights
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.latents import sample_z
from fse.losses import reduce
from fse.objective import Batch, Estimate, Objective
from fse.perceptual import STLPIPS
from tests.test_e4e_training import (
    SHORT,
    tiny_batch,
    written,
)
from tests.test_hfgi_training import resumes
from tests.tiny import ASSETS, tiny_generator


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@pytest.fixture(scope="module")
def perceptual(assets: Path) -> STLPIPS:
    return STLPIPS.load(ASSETS / "stlpips/alex_shift_tolerant.pth")


def tiny_idinvert(generator: MobileStyleGAN, perceptual: STLPIPS) -> InDomainObjective:
    encoder = InDomainEncoder(InDomainEncoderSize(32, generator.num_codes, 8, 16))
    encoder.start_from(generator.mean_code, generator.map(sample_z(4, 64)).std(0))
    critic = PictureCritic(Discriminator(16, (8, 8, 8)))
    return InDomainObjective(encoder, generator, perceptual, [32], InDomainTrainingWeights(), critic)


def test_starts_near_the_mean_code(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    objective, batch = tiny_idinvert(generator, perceptual), tiny_batch(generator, 0.0)
    codes = objective.network.eval()(batch.pictures)
    spread = generator.map(sample_z(4, 64)).std(0)
    away = ((codes - generator.mean_code) / spread).square().mean().sqrt()
    assert 0 < away < 0.5


def test_features_are_the_distance(perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    one, other = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    features = PerceptualFeatures(perceptual, 32)
    squares = (features(one) - features(other)).square().mean(1)
    torch.testing.assert_close(squares, perceptual(reduce(one, 32), reduce(other, 32)))


class TestCritic:
    def test_learns_to_tell_pictures(self) -> None:
        torch.manual_seed(0)
        critic = PictureCritic(Discriminator(16, (8, 8, 8)), gamma=0.1)
        batch = Batch(torch.rand(4, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3), torch.zeros(0, 8, 512))
        estimate = Estimate(torch.zeros(4, 8, 512), torch.rand(4, 3, 32, 32))
        optimiser = torch.optim.Adam(critic.parameters(), 5e-3, (0.0, 0.99))
        losses = []
        for _ in range(60):
            optimiser.zero_grad()
            loss = critic(batch, estimate)["loss"]
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]
        assert critic.deception(batch.pictures) < critic.deception(estimate.picture)

    def test_r1_of_a_linear_discriminator(self) -> None:
        torch.manual_seed(0)
        critic = PictureCritic(Discriminator(16, (8, 8, 8)))
        linear = nn.Linear(3 * 16 * 16, 1)
        critic.discriminator.layers = nn.Sequential(nn.Flatten(), linear)
        batch = Batch(torch.rand(2, 3, 32, 32), torch.zeros(0, 8, 512))
        with torch.autocast("cpu", torch.bfloat16):
            terms = critic(batch, Estimate(torch.zeros(2, 8, 512), torch.rand(2, 3, 32, 32)))
        torch.testing.assert_close(terms["r1"], linear.weight.square().sum())
        torch.testing.assert_close(terms["loss"], terms["real"] + terms["found"] + 5 * terms["r1"])
        (slope,) = torch.autograd.grad(terms["r1"], linear.weight)
        torch.testing.assert_close(slope, 2 * linear.weight)

    def test_widths_lead_to_four_pixels(self) -> None:
        with pytest.raises(ValueError, match="from 16 px to 4 px, not from 64"):
            Discriminator(64, (8, 8, 8))


def test_adversaries_do_not_train_each_other(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    objective, batch = tiny_idinvert(generator, perceptual), tiny_batch(generator, 0.5)
    objective.critic.requires_grad_(False)  # as the loop has it, but for the critic's own step
    terms, estimate = objective(batch, generator)
    terms["adversarial"].backward(retain_graph=True)
    assert objective.network.last.fc.weight.grad.any()
    assert all(parameter.grad is None for parameter in objective.critic.parameters())
    assert not estimate.picture.requires_grad
    torch.testing.assert_close(terms["loss"], terms["mse"] + 0.8 * terms["perceptual"] + 0.08 * terms["adversarial"])


def test_the_encoder_learns(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    objective, codes = tiny_idinvert(generator, perceptual), generator.map(sample_z(9, 4))
    batch = Batch(generator.synthesize(codes).clamp(-1, 1), codes, 0.5)
    optimiser = torch.optim.Adam(objective.network.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = objective(batch, generator).terms["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_training_resumes(generator: MobileStyleGAN, perceptual: STLPIPS, tmp_path: Path) -> None:
    def objectives() -> Iterator[Objective]:
        while True:
            torch.manual_seed(7)
            yield tiny_idinvert(generator, perceptual)

    rows = resumes(objectives(), generator, perceptual, tmp_path)
    losses = [row["train/loss"] for row in rows]
    assert losses[SHORT.warm_steps - 1] < losses[0]
    state = torch.load(tmp_path / "cut/last.pt", weights_only=True)
    assert "critic_optimiser" in state
    # The last normalisation kept out of the way: an affine layer.
    last = state["network"]["block4.bn.bn.running_mean"], state["network"]["block4.bn.bn.running_var"]
    assert torch.equal(last[0], torch.zeros_like(last[0]))
    assert torch.equal(last[1], torch.ones_like(last[1]))


def test_loaded_method_lowers_every_pictures_loss(
    generator: MobileStyleGAN, perceptual: STLPIPS, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    encoder = tiny_idinvert(generator, perceptual).network
    written(encoder, tmp_path / "idinvert.safetensors")
    pictures = tiny_batch(generator, 0.0).pictures
    method = load_idinvert(generator, tmp_path, ASSETS, steps=0)
    start = method.invert(pictures).codes
    torch.testing.assert_close(start, encoder.eval()(pictures))
    method.steps = 10
    found = method.invert(pictures).codes
    features = method.features(pictures)
    before, after = (method.total(method.losses(codes, pictures, features)) for codes in (start, found))
    assert (after < before).all()
