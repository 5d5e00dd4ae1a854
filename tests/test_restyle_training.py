"""ReStyle's training: how its passes chain, on pSp's and on e4e's losses, and the loop with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from baselines.e4e import E4EWeights
from baselines.latent_discriminator import LatentCritic
from baselines.psp import PSPWeights
from baselines.restyle import (
    IterativeInverter,
    ReStyleObjective,
    average_picture,
    load_restyle_e4e,
    load_restyle_psp,
)
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.inversion import InversionMethod
from fse.objective import Objective
from fse.perceptual import STLPIPS
from tests.test_e4e_training import SHORT, learns_and_resumes, tiny_batch, tiny_rows, written
from tests.tiny import ASSETS, tiny_coarse, tiny_generator


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@pytest.fixture(scope="module")
def perceptual(assets: Path) -> STLPIPS:
    return STLPIPS.load(ASSETS / "stlpips/alex_shift_tolerant.pth")


def tiny_restyle(generator: MobileStyleGAN, perceptual: STLPIPS, weights: PSPWeights) -> ReStyleObjective:
    encoder = tiny_rows(generator, progressive=isinstance(weights, E4EWeights), channels=6)
    return ReStyleObjective(encoder, generator, perceptual, [32], weights, 2, 3)


BOTH = pytest.mark.parametrize("weights", [PSPWeights(), E4EWeights()], ids=["psp", "e4e"])


@BOTH
def test_passes_chain(generator: MobileStyleGAN, perceptual: STLPIPS, weights: PSPWeights) -> None:
    objective, batch, coarse = (
        tiny_restyle(generator, perceptual, weights),
        tiny_batch(generator, 0.5),
        tiny_coarse(generator),
    )
    seen: list[Tensor] = []
    offsets: list[Tensor] = []
    objective.network.register_forward_hook(
        lambda _, inputs, output: (seen.append(inputs[0]), offsets.append(output.detach()), None)[-1]
    )
    terms, first = objective(batch, coarse)
    terms["loss"].backward()
    once = [parameter.grad.clone() for parameter in objective.network.parameters()]
    terms, second = objective(batch, coarse, first)
    terms["loss"].backward()  # would raise if it led back into the first pass
    assert first is not None
    assert second is not None

    average = average_picture(generator, 64)
    torch.testing.assert_close(seen[0], torch.cat((batch.pictures, average.expand(2, -1, -1, -1)), 1))
    assert torch.equal(seen[1], torch.cat((batch.pictures, first.picture), 1))
    torch.testing.assert_close(first.codes, generator.mean_code + offsets[0])
    torch.testing.assert_close(second.codes, first.codes + offsets[1])
    for estimate in (first, second):
        assert not estimate.codes.requires_grad
        assert not estimate.picture.requires_grad
        small = coarse.synthesize(estimate.codes[:, : coarse.num_codes])
        torch.testing.assert_close(estimate.picture, interpolate(small, size=(64, 64), mode="bilinear"))
    twice = [parameter.grad for parameter in objective.network.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(once, twice, strict=True) if b is not None and b.any())

    _, fine = objective(batch, generator, first)
    assert fine is not None
    torch.testing.assert_close(fine.picture, generator.synthesize(fine.codes))


@BOTH
def test_warm_start_is_the_first_iteration(generator: MobileStyleGAN, perceptual: STLPIPS, weights: PSPWeights) -> None:
    objective, batch = tiny_restyle(generator, perceptual, weights), tiny_batch(generator, 0.0)
    terms, estimate = objective(batch, None)
    assert estimate is None
    codes = objective(batch, tiny_coarse(generator)).estimate.codes[:1]
    torch.testing.assert_close(terms["loss"], (codes - batch.codes).square().mean())


def test_e4e_losses_are_added_after_every_pass(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    coarse = tiny_coarse(generator)
    plain = tiny_restyle(generator, perceptual, PSPWeights())
    assert plain.critic is None
    assert set(plain(tiny_batch(generator, 0.5), coarse).terms) == {"mse", "perceptual", "unread", "loss"}

    objective = tiny_restyle(generator, perceptual, E4EWeights())
    assert isinstance(objective.critic, LatentCritic)
    for progress, free in ((0.0, 0), (0.12, 3), (0.5, 7)):
        batch, before = tiny_batch(generator, progress), None
        for _ in range(2):
            terms, before = objective(batch, coarse, before)
            assert before is not None
            offsets = before.codes - before.codes[:, :1]
            assert offsets.any(2).sum(1).tolist() == [free, free]
            torch.testing.assert_close(terms["delta"], offsets.square().sum(2).sqrt().sum(1).mean())
            total = terms["mse"] + 0.8 * terms["perceptual"] + 2e-4 * terms["delta"] + 0.1 * terms["adversarial"]
            unread = (before.codes[:1, 6:] - batch.codes[:, 6:]).square().mean()
            torch.testing.assert_close(terms["unread"], unread)
            torch.testing.assert_close(terms["loss"], total + unread)
    assert "unread" not in objective(batch, generator).terms


@BOTH
@pytest.mark.parametrize("iterations", [1, 3])
def test_reconstructions_are_the_inverters(
    generator: MobileStyleGAN, perceptual: STLPIPS, weights: PSPWeights, iterations: int
) -> None:
    objective, pictures = tiny_restyle(generator, perceptual, weights), tiny_batch(generator, 0.0).pictures
    objective.iterations = iterations
    objective.network.eval()
    inversions = IterativeInverter(objective.network, generator, iterations).iterate(pictures)
    assert len(inversions) == iterations
    reconstructions = objective.reconstructions(pictures)
    assert list(reconstructions) == ["first", "codes"]
    torch.testing.assert_close(reconstructions["first"], inversions[0].picture)
    torch.testing.assert_close(reconstructions["codes"], inversions[-1].picture)


@BOTH
def test_training_learns_and_resumes(
    generator: MobileStyleGAN, perceptual: STLPIPS, weights: PSPWeights, tmp_path: Path
) -> None:
    def objectives() -> Iterator[Objective]:
        while True:
            torch.manual_seed(7)
            yield tiny_restyle(generator, perceptual, weights)

    rows = learns_and_resumes(objectives(), generator, perceptual, tmp_path)
    critic = sum("train/critic_loss" in row for row in rows)
    assert critic == (SHORT.steps if isinstance(weights, E4EWeights) else 0)


@BOTH
def test_loader_reads_what_a_training_writes(
    generator: MobileStyleGAN, perceptual: STLPIPS, weights: PSPWeights, tmp_path: Path
) -> None:
    objective = tiny_restyle(generator, perceptual, weights)
    objective.iterations = 5
    is_e4e = isinstance(weights, E4EWeights)
    written(objective.network, tmp_path / f"restyle_{'e4e' if is_e4e else 'psp'}.safetensors")
    method = (load_restyle_e4e if is_e4e else load_restyle_psp)(generator, tmp_path)
    assert isinstance(method, InversionMethod)
    pictures = tiny_batch(generator, 0.0).pictures
    objective.network.eval()
    torch.testing.assert_close(method.invert(pictures).picture, objective.reconstructions(pictures)["codes"])
