"""HFGI's training: the residuals that the aligner learns from, what is trained, the loop, and the file it makes."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from baselines.hfgi.consultation import Consultation, ConsultationSize
from baselines.hfgi.inversion import fingerprint, load_hfgi
from baselines.hfgi.misalignment import misalign
from baselines.hfgi.objective import HFGIObjective, HFGIWeights
from baselines.hfgi.residual_aligner import ResidualAlignerSize
from baselines.hfgi.residual_encoder import ResidualEncoderSize
from fse.checkpoints.network_file import write_network
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.latents import sample_z
from fse.objective import Batch, Objective
from fse.perceptual import STLPIPS
from fse.refusal import Refusal
from fse.training import Validation, curve_rows, train
from tests.test_e4e_training import (
    SHORT,
    interrupted,
    same,
    tiny_batch,
    tiny_rows,
    written,
)
from tests.tiny import ASSETS, tiny_coarse, tiny_generator, tiny_renders


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    """K = 2: the first convolution at a quarter of the residual's 32 px."""
    return tiny_generator(2)


@pytest.fixture(scope="module")
def perceptual(assets: Path) -> STLPIPS:
    return STLPIPS.load(ASSETS / "stlpips/alex_shift_tolerant.pth")


def tiny_hfgi(generator: MobileStyleGAN, perceptual: STLPIPS) -> HFGIObjective:
    encoder = tiny_rows(generator, progressive=True)
    size = ConsultationSize(
        ResidualEncoderSize((8, 12, 16), generator.feature_shape, 16), ResidualAlignerSize((4, 6, 8, 8)), 2, 32
    )
    return HFGIObjective(Consultation(size), encoder, generator, perceptual, [32], HFGIWeights())


def resumes(
    objectives: Iterator[Objective], generator: MobileStyleGAN, perceptual: STLPIPS, folder: Path
) -> list[dict[str, float]]:
    """Trains one objective undisturbed, and an equal one that is cut off on its way; returns the log.

    Their states and logs must be the same, bit for bit.
    """
    torch.set_num_threads(1)  # sums in another order would differ in their last bits
    coarse, fabric = tiny_coarse(generator), Fabric(accelerator="cpu", devices=1)
    renders = tiny_renders(generator, folder)
    validation = Validation(tiny_renders(generator, folder, 11, 2)[range(2)], perceptual)

    def run(objective: Objective, name: str) -> tuple[list[dict[str, float]], dict[str, object]]:
        train(objective, coarse, generator, renders, validation, SHORT, fabric, folder / name)
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in curve_rows(folder / name)]
        state = torch.load(folder / name / "last.pt", weights_only=True)
        return rows, {key: value for key, value in state.items() if key != "seconds"}

    whole = run(next(objectives), "whole")
    with pytest.raises(InterruptedError):
        run(interrupted(next(objectives), 5), "cut")
    assert same(run(next(objectives), "cut"), whole)
    return whole[0]


def test_residuals_are_misaligned_by_at_most_the_distortion() -> None:
    ones = torch.ones(8, 3, 64, 64)
    warped = misalign(ones, np.random.default_rng(0), rate=1.0)
    torch.testing.assert_close(warped[..., 6:-6, 6:-6], ones[..., 6:-6, 6:-6])  # 0.15 of 32 px, and one of blending
    borders = [warped[..., 0, :], warped[..., -1, :], warped[..., 0], warped[..., -1]]
    assert all((border < 0.5).flatten(1).any(1).sum() >= 4 for border in borders)
    assert not torch.equal(warped[0], warped[1])
    assert torch.equal(misalign(ones, np.random.default_rng(0), rate=1.0), warped)
    assert torch.equal(misalign(ones, np.random.default_rng(0), rate=0.0), ones)


def test_the_aligner_learns(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    objective = tiny_hfgi(generator, perceptual)
    codes = generator.map(sample_z(3, 8))
    pictures = generator.synthesize(codes).clamp(-1, 1)
    optimiser = torch.optim.Adam(objective.network.grid_align.parameters(), 1e-2)

    def loss(turn: int) -> torch.Tensor:  # the perspectives are another turn's
        return objective(Batch(pictures.roll(turn, 0), codes.roll(turn, 0)), None).terms["loss"]

    before = loss(7).item()
    for step in range(40):
        optimiser.zero_grad()
        loss(step % 7).backward()
        optimiser.step()
    assert loss(7).item() < 0.6 * before


def test_an_untrained_consultation_changes_nothing(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    objective, pictures = tiny_hfgi(generator, perceptual), tiny_batch(generator, 0.0).pictures
    objective.network.eval()
    found = objective.reconstructions(pictures)
    assert list(found) == ["codes", "feature"]
    torch.testing.assert_close(found["feature"], found["codes"])


def test_only_the_consultation_is_trained(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    torch.manual_seed(0)
    objective, codes = tiny_hfgi(generator, perceptual), generator.map(sample_z(3, 3))
    batch = Batch(generator.synthesize(codes).clamp(-1, 1), codes, 0.5)
    encoder, network = objective.encoder.requires_grad_(True), objective.network
    before = deepcopy(encoder.state_dict())
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        terms = objective(batch, generator).terms
        terms["loss"].backward()
        optimiser.step()
        losses.append(terms["loss"].item())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    assert same(encoder.state_dict(), before)
    assert losses[-1] < 0.7 * losses[0]
    torch.testing.assert_close(terms["loss"], terms["mse"] + 0.8 * terms["perceptual"] + 0.1 * terms["align"])


def test_a_consultation_for_another_layer_is_refused(generator: MobileStyleGAN, perceptual: STLPIPS) -> None:
    objective = tiny_hfgi(generator, perceptual)
    with pytest.raises(ValueError, match=r"K = 2 .* K = 3"):
        HFGIObjective(
            objective.network, objective.encoder, generator.with_feature_layer(3), perceptual, [32], HFGIWeights()
        )


def test_training_resumes(generator: MobileStyleGAN, perceptual: STLPIPS, tmp_path: Path) -> None:
    def objectives() -> Iterator[Objective]:
        while True:
            torch.manual_seed(7)
            yield tiny_hfgi(generator, perceptual)

    rows = resumes(objectives(), generator, perceptual, tmp_path)
    assert rows[SHORT.warm_steps - 1]["train/align"] < rows[0]["train/align"]


def test_loader_reads_what_a_training_writes(generator: MobileStyleGAN, perceptual: STLPIPS, tmp_path: Path) -> None:
    torch.manual_seed(0)
    objective = tiny_hfgi(generator, perceptual)
    encoder_path, path = tmp_path / "e4e.safetensors", tmp_path / "hfgi.safetensors"
    for condition in (objective.network.residue.condition_scale3, objective.network.residue.condition_shift3):
        torch.nn.init.normal_(condition[-1].weight)
    written(objective.encoder, encoder_path)
    written(objective.network, path)
    write_network(path, objective.network, {"e4e": fingerprint(encoder_path)})
    method = load_hfgi(tiny_generator(3), tmp_path)
    pictures = tiny_batch(generator, 0.0).pictures
    objective.network.eval()
    found = objective.reconstructions(pictures)
    assert (found["feature"] - found["codes"]).abs().max() > 1e-2
    inversion = method.invert(pictures)
    torch.testing.assert_close(inversion.picture, found["feature"])
    torch.testing.assert_close(method.edit(inversion, torch.zeros(512), 1.0), found["feature"])

    written(objective.encoder, encoder_path)
    with pytest.raises(Refusal, match=r"hfgi\.safetensors was trained on another .*e4e\.safetensors; train HFGI again"):
        load_hfgi(generator, tmp_path)
