"""e4e's training: the schedule of its rows, its two regularisers, its critic, and the loop with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import softplus

from baselines.e4e import E4EObjective, E4EWeights, load_e4e
from baselines.latent_discriminator import LatentCritic, LatentDiscriminator
from baselines.psp import PyramidEncoder, PyramidSize
from fse.checkpoints.network_file import write_network
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.inversion import InversionMethod
from fse.objective import Batch, Estimate, Objective
from fse.perceptual import STLPIPS
from fse.training import Validation, batch_at, curve_rows, train
from tests.tiny import ASSETS, SETTINGS, TRUNK, tiny_coarse, tiny_generator, tiny_renders

SHORT = replace(SETTINGS, steps=8, warm_steps=4, validate_every=4)


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@pytest.fixture(scope="module")
def perceptual(assets: Path) -> STLPIPS:
    return STLPIPS.load(ASSETS / "stlpips/alex_shift_tolerant.pth")


def tiny_rows(generator: MobileStyleGAN, progressive: bool, channels: int = 3) -> PyramidEncoder:
    """An encoder of the family; with six channels, ReStyle's."""
    torch.manual_seed(2)
    trunk = replace(TRUNK, input_channels=channels)
    pyramid = channels == 3
    size = PyramidSize(
        generator.num_codes, 512, trunk, 8, generator.resolution, pyramid=pyramid, progressive=progressive
    )
    return PyramidEncoder(size)


def tiny_e4e(generator: MobileStyleGAN, perceptual: STLPIPS) -> E4EObjective:
    return E4EObjective(tiny_rows(generator, progressive=True), generator, perceptual, [32], E4EWeights())


def tiny_batch(generator: MobileStyleGAN, progress: float) -> Batch:
    """One render with its codes, and a picture of noise."""
    torch.manual_seed(5)
    codes = generator.map(torch.randn(1, 512))
    pictures = torch.cat((generator.synthesize(codes), torch.rand(1, 3, 64, 64) * 2 - 1))
    return Batch(pictures, codes, progress)


def learns_and_resumes(
    objectives: Iterator[Objective], generator: MobileStyleGAN, perceptual: STLPIPS, folder: Path
) -> list[dict[str, float]]:
    """Trains one objective undisturbed, and an equal one that is cut off on its way; returns the log of a run.

    Their states and logs must be the same, bit for bit, and what they learn must show.
    """
    torch.set_num_threads(1)  # sums in another order would differ in their last bits
    coarse, fabric = tiny_coarse(generator), Fabric(accelerator="cpu", devices=1)
    renders = tiny_renders(generator, folder)
    validation = Validation(tiny_renders(generator, folder, 11, 2)[range(2)], perceptual)

    def run(objective: Objective, name: str) -> tuple[list[dict[str, float]], Any]:
        train(objective, coarse, generator, renders, validation, SHORT, fabric, folder / name)
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in curve_rows(folder / name)]
        return rows, torch.load(folder / name / "last.pt", weights_only=True)

    trained = next(objectives)
    whole, state = run(trained, "whole")
    cut = next(objectives)
    with pytest.raises(InterruptedError):
        run(interrupted(cut, 5 * cut.passes), "cut")
    assert torch.load(folder / "cut/last.pt", weights_only=True)["step"] == 8
    resumed, resumed_state = run(next(objectives), "cut")

    assert resumed == whole
    assert same(resumed_state, {**state, "seconds": resumed_state["seconds"]})

    batch = batch_at(renders, SHORT, SHORT.total - 1, fabric)
    before, after = (objective.train()(batch, coarse).terms["loss"].item() for objective in (next(objectives), trained))
    assert after < 0.95 * before
    return whole


def interrupted(objective: Objective, passes: int) -> Objective:
    """The objective, which raises InterruptedError after so many ordinary passes."""
    assert isinstance(objective, nn.Module)
    forward, done = objective.forward, 0

    def counted(batch: Batch, generator: Any, before: Any = None) -> Any:
        nonlocal done
        done += generator is not None
        if done > passes:
            raise InterruptedError
        return forward(batch, generator, before)

    objective.forward = counted
    return objective


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


class TestCritic:
    def test_learns_to_tell_w_from_other_codes(self, generator: MobileStyleGAN) -> None:
        torch.manual_seed(0)
        critic = LatentCritic(LatentDiscriminator(), generator)
        rows = generator.map(torch.randn(4, 512)) + 1.0
        estimate = Estimate(rows, torch.zeros(4, 3, 64, 64))
        optimiser = torch.optim.Adam(critic.parameters(), 1e-3, (0.0, 0.99))
        losses = []
        for step in range(40):
            terms = critic(Batch(estimate.picture, rows, step / 40), estimate)
            optimiser.zero_grad()
            terms["loss"].backward()
            optimiser.step()
            losses.append(terms["loss"].item())
        assert losses[0] == pytest.approx(2 * np.log(2), abs=0.1)
        assert losses[-1] < 0.5 * losses[0]
        with torch.no_grad():
            others = generator.map(torch.randn(16, 512))[:, 0]
            assert critic.discriminator(others).min() > critic.discriminator(others + 1.0).max()

    def test_terms_of_a_linear_discriminator(self, generator: MobileStyleGAN) -> None:
        """Its R1 is the square of its weights, whose gradient is known; the fresh codes are W's."""
        torch.manual_seed(0)
        discriminator = LatentDiscriminator(depth=1)
        critic = LatentCritic(discriminator, generator, r1=10.0)
        batch = tiny_batch(generator, 0.25)
        estimate = Estimate(torch.randn(2, 8, 512), batch.pictures)
        seen: list[Tensor] = []
        discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        terms = critic(batch, estimate)

        weight = discriminator[0].weight
        torch.testing.assert_close(terms["r1"], weight.square().sum())
        (slope,) = torch.autograd.grad(terms["r1"], weight, retain_graph=True)
        torch.testing.assert_close(slope, 2 * weight)
        real, fake = seen
        assert torch.equal(fake, estimate.codes.flatten(0, 1))
        assert real.shape == fake.shape
        torch.testing.assert_close(terms["real"], softplus(-discriminator(real)).mean())
        torch.testing.assert_close(terms["fake"], softplus(discriminator(fake)).mean())
        torch.testing.assert_close(terms["loss"], terms["real"] + terms["fake"] + 5 * terms["r1"])
        # W's mean and spread, of 16 codes against 512.
        many = generator.map(torch.randn(512, 512))[:, 0]
        assert real.std() == pytest.approx(many.std().item(), rel=0.1)

    def test_fresh_codes_depend_on_the_step_alone(self, generator: MobileStyleGAN) -> None:
        torch.manual_seed(0)
        critic = LatentCritic(LatentDiscriminator(), generator)
        estimate = Estimate(torch.randn(2, 8, 512), torch.zeros(2, 3, 64, 64))
        real = {}
        for progress in (0.0, 1 / 1600, 2 / 1600, 0.5):
            batch = Batch(estimate.picture, estimate.codes, progress)
            real[progress] = critic(batch, estimate)["real"].item()
            torch.rand(1)  # whatever happens between
            assert critic(batch, estimate)["real"].item() == real[progress]
        assert len(set(real.values())) == 4

    def test_trains_the_discriminator_only_and_in_float32(self, generator: MobileStyleGAN) -> None:
        torch.manual_seed(0)
        critic = LatentCritic(LatentDiscriminator(), generator)
        assert set(critic.parameters()) == set(critic.discriminator.parameters())
        estimate = Estimate(torch.randn(2, 8, 512), torch.zeros(2, 3, 64, 64))
        batch = Batch(estimate.picture, estimate.codes, 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = critic(batch, estimate)
        for name, value in critic(batch, estimate).items():
            assert torch.equal(mixed[name], value), name


class TestObjective:
    @pytest.mark.parametrize(
        ("progress", "free"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.1099, 1), (0.11, 2), (0.15, 6), (0.16, 7), (0.9, 7)]
    )
    def test_rows_are_freed_by_progress(
        self, generator: MobileStyleGAN, perceptual: STLPIPS, progress: float, free: int
    ) -> None:
        objective = tiny_e4e(generator, perceptual)
        _, estimate = objective(tiny_batch(generator, progress), tiny_coarse(generator))
        equal = (estimate.codes == estimate.codes[:, :1]).all(2)
        assert equal.tolist() == [[True, *(row > free for row in range(1, 8))]] * 2

    def test_warm_start_regresses_by_a_single_w(self, generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
        objective, batch = tiny_e4e(generator, perceptual), tiny_batch(generator, 0.0)
        terms, estimate = objective(batch, None)
        assert estimate is None
        assert objective.network.free_rows == 0
        w = objective.network(batch.pictures)[:1] + generator.mean_code
        torch.testing.assert_close(terms["loss"], (w[:, :1] - batch.codes).square().mean())

    def test_delta_is_the_sum_of_the_rows_offsets(self, generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
        objective, coarse = tiny_e4e(generator, perceptual), tiny_coarse(generator)
        none = objective(tiny_batch(generator, 0.0), coarse).terms
        assert none["delta"] == 0
        none["loss"].backward()
        assert all(p.grad.isfinite().all() for p in objective.network.parameters() if p.grad is not None)
        terms, estimate = objective(tiny_batch(generator, 0.12), coarse)
        offsets = estimate.codes - estimate.codes[:, :1]
        expected = sum(offsets[:, row].square().sum(1).sqrt().mean() for row in range(1, 8))
        torch.testing.assert_close(terms["delta"], expected)

    def test_loss_is_the_weighted_sum(self, generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
        objective = tiny_e4e(generator, perceptual)
        terms, _ = objective(tiny_batch(generator, 0.5), tiny_coarse(generator))
        sum_ = terms["mse"] + 0.8 * terms["perceptual"] + 2e-4 * terms["delta"] + 0.1 * terms["adversarial"]
        torch.testing.assert_close(terms["loss"], sum_)

    def test_adversaries_do_not_train_each_other(self, generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
        objective, batch = tiny_e4e(generator, perceptual), tiny_batch(generator, 0.5)
        critic = objective.critic
        assert isinstance(critic, LatentCritic)
        critic.requires_grad_(False)  # as the loop has it, but for the critic's own step
        terms, estimate = objective(batch, tiny_coarse(generator))
        terms["adversarial"].backward()
        assert all(style.linear.weight.grad.any() for style in objective.network.styles)
        assert all(parameter.grad is None for parameter in critic.parameters())

        # The encoder's step against the critic makes its codes look more like W's.
        step = torch.optim.SGD(objective.network.parameters(), 1e-2)
        step.step()
        assert objective(batch, tiny_coarse(generator)).terms["adversarial"] < terms["adversarial"]

        step.zero_grad()
        critic.requires_grad_(True)
        critic(batch, estimate)["loss"].backward()
        assert all(parameter.grad is None for parameter in objective.network.parameters())
        assert all(parameter.grad is not None for parameter in critic.parameters())


def test_training_learns_and_resumes(generator: MobileStyleGAN, perceptual: STLPIPS, tmp_path: Path) -> None:
    def objectives() -> Iterator[Objective]:
        while True:
            torch.manual_seed(7)
            yield tiny_e4e(generator, perceptual)

    rows = learns_and_resumes(objectives(), generator, perceptual, tmp_path)
    critic = [row["train/critic_loss"] for row in rows if "train/critic_loss" in row]
    assert len(critic) == SHORT.steps
    assert "critic_optimiser" in torch.load(tmp_path / "cut/last.pt", weights_only=True)


def written(network: PyramidEncoder, path: Path) -> None:
    """Write it after rounding it as the file will, so that what is read can be compared closely."""
    torch.manual_seed(6)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data = (parameter + 0.01 * torch.randn_like(parameter)).data.half().float()
    write_network(path, network, {})


def test_loader_reads_what_a_training_writes(generator: MobileStyleGAN, perceptual: STLPIPS, tmp_path: Path) -> None:
    objective = tiny_e4e(generator, perceptual)
    written(objective.network, tmp_path / "e4e.safetensors")
    method = load_e4e(generator, tmp_path)
    assert isinstance(method, InversionMethod)
    pictures = tiny_batch(generator, 0.0).pictures
    objective.network.eval()
    inversion = method.invert(pictures)
    assert not torch.equal(inversion.codes[:, 1], inversion.codes[:, 0])
    torch.testing.assert_close(inversion.picture, objective.reconstructions(pictures)["codes"])
