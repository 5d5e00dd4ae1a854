"""The training loop at a small size: it learns, it survives ``kill -9`` and Ctrl-C, its batches are right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lightning.fabric import Fabric
from PIL import Image
from torch import Tensor

from fse.generators.mobilestylegan import MobileStyleGAN
from fse.offmanifold import push_off_manifold
from fse.refusal import Refusal
from fse.renders import Renders, render_codes
from fse.training import TrainingSettings, batch_at, curve_rows
from pipelines.parameters import read_parameters
from tests.conftest import ROOT
from tests.tiny import SETTINGS, tiny_generator, tiny_renders, tiny_training

pytestmark = pytest.mark.usefixtures("assets")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Sums in another order would differ in their last bits, and a curve in all of them before long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """An undisturbed training of each method."""
    folders = {method: tmp_path_factory.mktemp(method) for method in ("fse", "psp")}
    return {method: Run(folder, tiny_training(folder, method=method)) for method, folder in folders.items()}


@pytest.fixture(params=["fse", "psp"])
def undisturbed(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    return runs[request.param]


class Run:
    """What a finished training left."""

    def __init__(self, folder: Path, best: Mapping[str, float]) -> None:
        self.folder, self.rendered = folder, best["renders_per_picture"]
        self.best = {key: value for key, value in best.items() if key not in ("seconds", "renders_per_picture")}
        self.rows = [
            {key: value for key, value in row.items() if key != "seconds"} for row in curve_rows(folder / "run")
        ]
        self.weights: dict[str, Tensor] = torch.load(folder / "trained.pt", weights_only=True)

    def same_as(self, other: Run) -> None:
        assert self.rows == other.rows
        assert self.best == other.best
        for name, tensor in other.weights.items():
            assert torch.equal(self.weights[name], tensor), name


class TestRun:
    def test_loss_goes_down(self, undisturbed: Run) -> None:
        losses = [row["train/loss"] for row in undisturbed.rows]
        warm = SETTINGS.warm_steps
        coarse = losses[warm : warm + 16]
        assert losses[warm - 1] < losses[0]
        assert np.mean(coarse[-4:]) < 0.8 * np.mean(coarse[:2])

    def test_every_step_is_logged_once(self, undisturbed: Run) -> None:
        each_step_once(undisturbed.folder)

    def test_best_state_is_what_is_left_in_the_network(self, undisturbed: Run) -> None:
        best = torch.load(undisturbed.folder / "run/best.pt", weights_only=True)
        assert undisturbed.best == best["best"]
        scores = {
            row["step"] + 1: row["validation/score"]
            for row in undisturbed.rows
            if "validation/score" in row and row["step"] >= SETTINGS.warm_steps
        }
        assert best["best"]["step"] == min(scores, key=scores.__getitem__)
        for name, tensor in best["network"].items():
            assert torch.equal(undisturbed.weights[name], tensor)

    def test_pictures_that_the_generator_made_are_counted(self, runs: dict[str, Run]) -> None:
        """FSE reconstructs twice; validations and the warm start do not count."""
        assert {method: run.rendered for method, run in runs.items()} == {"fse": 2.0, "psp": 1.0}

    def test_grids_show_source_and_reconstructions(self, undisturbed: Run) -> None:
        grids = sorted((undisturbed.folder / "run/samples").iterdir())
        assert [path.stem for path in grids] == ["000005", "000010", "000015", "000020", "000025", "000026"]
        rows = 3 if "validation/psnr_feature" in undisturbed.rows[4] else 2
        with Image.open(grids[-1]) as grid:
            assert grid.size == (4 * 66 + 2, rows * 66 + 2)


def each_step_once(folder: Path) -> None:
    """In the log of the loss, of the rate and of the time, in order; validations at their steps."""
    metrics = folder / "run/live/plots/metrics"

    def steps(name: str) -> list[int]:
        header, *rows = (metrics / name).read_text().splitlines()
        assert header.split("\t")[0] == "step"
        return [int(row.split("\t")[0]) for row in rows]

    for name in ("train/loss.tsv", "train/learning_rate.tsv", "seconds.tsv"):
        assert steps(name) == list(range(SETTINGS.total))
    assert steps("validation/score.tsv") == [4, 9, 14, 19, 24, 25]


def kill_after_a_state(folder: Path) -> None:
    """Train in another process; kill -9 when it has gone on past a state that it saved."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.tiny", folder, "1", str(SETTINGS.steps)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as training:
        loss = folder / "run/live/plots/metrics/train/loss.tsv"
        while training.poll() is None and not (loss.is_file() and loss.read_text().count("\n") > 10):
            time.sleep(0.01)
        training.kill()
        _, errors = training.communicate()
    assert training.returncode == -signal.SIGKILL, errors.decode()


def interrupt_after_a_state(folder: Path) -> None:
    """Train here; Ctrl-C comes from the side."""

    def press() -> None:
        while not (folder / "run/last.pt").is_file():
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell starts what it puts into the background with Ctrl-C ignored, and the tests may be that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        tiny_training(folder)
    presser.join()
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.parametrize("break_off", [kill_after_a_state, interrupt_after_a_state])
def test_broken_off_training_goes_on_as_if_nothing_had_been(
    break_off: Callable[[Path], None], runs: dict[str, Run], tmp_path: Path
) -> None:
    """Bit for bit: the batch of a step depends on the step alone, and the state holds everything else."""
    break_off(tmp_path)
    saved = torch.load(tmp_path / "run/last.pt", weights_only=True)["step"]
    assert 0 < saved < SETTINGS.total
    # A kill may come while a line or a file is being written; this is what that leaves.
    live = tmp_path / "run/live"
    with (live / "plots/metrics/train/loss.tsv").open("a") as log:
        log.write("1")
    (live / "metrics.json").write_text('{"train": {"lo')
    (tmp_path / "run/last.part").write_bytes(b"PK")

    best = tiny_training(tmp_path)
    each_step_once(tmp_path)
    Run(tmp_path, best).same_as(runs["fse"])


class TestRefusals:
    @pytest.fixture
    def finished(self, runs: dict[str, Run], tmp_path: Path) -> Path:
        """A copy of a finished training's states."""
        (tmp_path / "run").mkdir()
        for name in ("last.pt", "best.pt"):
            shutil.copy(runs["fse"].folder / "run" / name, tmp_path / "run")
        return tmp_path

    def refusal(self, folder: Path, **arguments: Any) -> str:
        state = folder / "run/last.pt"
        before = state.read_bytes()
        with pytest.raises(Refusal) as refusal:
            tiny_training(folder, **arguments)
        assert state.read_bytes() == before
        assert str(refusal.value).startswith(f"{state} ")
        assert f"delete {folder / 'run'} to train anew" in str(refusal.value)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    def test_other_settings(self, finished: Path) -> None:
        sentence = self.refusal(finished, settings=replace(SETTINGS, learning_rate=1e-3, seed=4))
        assert "belongs to a training with learning_rate = 0.004, seed = 3;" in sentence

    def test_another_network(self, finished: Path) -> None:
        assert "holds the state of another network" in self.refusal(finished, method="psp")

    @pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
    def test_truncated(self, finished: Path, keep: float) -> None:
        state = finished / "run/last.pt"
        content = state.read_bytes()
        state.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
        assert "is damaged" in self.refusal(finished)

    def test_saving_more_often_is_no_other_training(self, finished: Path, runs: dict[str, Run]) -> None:
        best = tiny_training(finished, replace(SETTINGS, save_every=1))
        assert best["step"] == runs["fse"].best["step"]


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@pytest.fixture(scope="module")
def renders(generator: MobileStyleGAN, tmp_path_factory: pytest.TempPathFactory) -> Renders:
    return tiny_renders(generator, tmp_path_factory.mktemp("renders"))


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


class TestBatches:
    def test_depend_on_seed_and_step_alone(self, renders: Renders, fabric: Fabric) -> None:
        seen = []
        for seed in (3, 4):
            settings = replace(SETTINGS, seed=seed)
            forwards = {step: batch_at(renders, settings, step, fabric) for step in (0, 5, 6, 7, 25)}
            np.random.default_rng().random()  # whatever happens between
            torch.rand(1)
            for step in reversed(forwards):
                again = batch_at(renders, settings, step, fabric)
                assert torch.equal(again.pictures, forwards[step].pictures)
                assert torch.equal(again.codes, forwards[step].codes)
            seen += [batch.codes[:2] for batch in forwards.values()]
        for i, codes in enumerate(seen):
            assert not any(torch.equal(codes, other) for other in seen[:i])

    def test_half_is_synthetic(self, renders: Renders, fabric: Fabric, generator: MobileStyleGAN) -> None:
        """To the 8 bits of the stored renders. The other half is near no render at all."""
        everything = renders[range(renders.count)]
        for step in range(SETTINGS.warm_steps, SETTINGS.warm_steps + 8):
            batch = batch_at(renders, SETTINGS, step, fabric)
            assert len(batch.pictures) == SETTINGS.batch
            assert batch.synthetic == slice(0, SETTINGS.batch // 2)
            known = generator.synthesize(batch.codes).clamp(-1, 1)
            assert (batch.pictures[batch.synthetic] - known).abs().max() <= 1.01 / 255
            for picture in batch.pictures[SETTINGS.batch // 2 :]:
                assert (everything - picture).square().mean((1, 2, 3)).min() > 1e-4
            assert batch.pictures.abs().max() <= 1

    @pytest.mark.parametrize("step", [SETTINGS.warm_steps - 1, SETTINGS.warm_steps, 25])
    def test_are_those_that_the_shipped_weights_were_trained_on(
        self, renders: Renders, fabric: Fabric, step: int
    ) -> None:
        """Bit for bit, as they were drawn before there were other data and shares: from (seed, step, process 0)."""
        count = SETTINGS.warm_batch if step < SETTINGS.warm_steps else SETTINGS.batch
        random = np.random.default_rng([SETTINGS.seed, step, 0])
        picked = random.choice(renders.count, count, replace=False)
        pictures = renders[picked]
        if count == SETTINGS.batch:
            pictures = torch.cat((pictures[:2], push_off_manifold(pictures[2:], random)))
            picked = picked[:2]
        batch = batch_at(renders, SETTINGS, step, fabric)
        assert torch.equal(batch.pictures, pictures)
        assert torch.equal(batch.codes, renders.codes[torch.from_numpy(picked)])

    @pytest.mark.parametrize("count", [1, 2])
    def test_shares_are_the_whole(self, renders: Renders, count: int) -> None:
        pictures, codes = renders.batch(SETTINGS.share(9))
        parts = [renders.batch(SETTINGS.share(9, index, count)) for index in range(count)]
        assert torch.equal(torch.cat([part for _, part in parts]), codes)
        s = len(codes) // count
        both = [*(part[:s] for part, _ in parts), *(part[s:] for part, _ in parts)]
        assert torch.equal(torch.cat(both), pictures)

    def test_warm_start_is_all_synthetic(self, renders: Renders, fabric: Fabric) -> None:
        batch = batch_at(renders, SETTINGS, SETTINGS.warm_steps - 1, fabric)
        assert len(batch.pictures) == len(batch.codes) == SETTINGS.warm_batch
        assert len(torch.unique(batch.codes, dim=0)) == SETTINGS.warm_batch  # without replacement

    def test_renders_are_half_from_w_and_half_mixed(self, generator: MobileStyleGAN) -> None:
        codes = render_codes(generator, 5, 6)
        of_one_w = (codes == codes[:, :1]).all(2).all(1)
        assert of_one_w.tolist() == [False, True] * 3

    def test_validation_and_test_pictures_are_in_no_training_batch(self, generator: MobileStyleGAN) -> None:
        """The shipped seeds, with the shipped counts, give no code twice."""
        parameters = read_parameters()
        sets = [
            (parameters.train.renders_seed, parameters.train.renders),
            (parameters.train.validation_seed, parameters.train.validation),
            (parameters.data.renders_seed, parameters.data.renders),
            (parameters.data.mean_descriptor_seed, parameters.data.mean_descriptor_count),
        ]
        codes = torch.cat([render_codes(generator, seed, count)[:, 0, :8] for seed, count in sets])
        assert len(torch.unique(codes, dim=0)) == sum(count for _, count in sets)


@hypothesis_settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 60), st.integers(1, 9), st.floats(1e-5, 1e-1), st.floats(1e-5, 1e-1))
def test_learning_rate(warm_steps: int, steps: int, rise: int, warm_rate: float, rate: float) -> None:
    """Each phase rises linearly to its own peak and falls by a cosine towards a hundredth of it."""
    settings = TrainingSettings(
        steps=steps, learning_rate=rate, rise=rise, warm_steps=warm_steps, warm_learning_rate=warm_rate
    )
    for first, length, peak in ((0, warm_steps, warm_rate), (warm_steps, steps, rate)):
        rates = [settings.rate(first + i) for i in range(length)]
        for i, value in enumerate(rates):
            cosine = (1 + np.cos(np.pi * i / length)) / 2
            assert value == pytest.approx(peak * min(1, (i + 1) / rise) * (0.01 + 0.99 * cosine))
        assert all(later <= earlier for earlier, later in zip(rates[rise:], rates[rise + 1 :], strict=False))
    assert settings.total == warm_steps + steps


def test_losses_are_fine_in_the_last_part() -> None:
    settings = TrainingSettings(steps=20, warm_steps=6, fine_from=0.75)
    assert [settings.is_fine(step) for step in range(26)] == [False] * 21 + [True] * 5
    assert not any(replace(settings, fine_from=1.0).is_fine(step) for step in range(26))
