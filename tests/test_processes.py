"""Training on several processes: Lightning Fabric starts them, and together they are one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing, nn

from fse.synchronised_norm import SynchronisedBatchNorm2d, synchronise
from fse.training import curve_rows
from tests.conftest import ROOT
from tests.tiny import SETTINGS
from tests.tiny_paper import CHANGES, official_files, tiny_paper_training
from tests.two_norms import on_one_of_two, two_steps

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(module: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=check, capture_output=True, timeout=300)


def run_two(files: Path, *jobs: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Jobs of ``tests.tiny_paper`` by two processes that torchrun starts."""
    processes = ("--standalone", "--nproc-per-node", "2")
    return run("torch.distributed.run", *processes, "-m", "tests.tiny_paper", files, *jobs, check=check)


@pytest.mark.usefixtures("assets")
def test_two_processes_train_together(tmp_path: Path) -> None:
    run("tests.tiny", tmp_path, "2", "2")
    rows = curve_rows(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(SETTINGS.warm_steps + 2))
    assert rows[SETTINGS.warm_steps - 1]["train/loss"] < rows[0]["train/loss"]
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert state["step"] == SETTINGS.warm_steps + 2
    assert not any(name.startswith("module.") for name in state["network"])  # a single process may go on with it

    shares = [torch.load(tmp_path / f"share{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [len(codes) for codes in shares] == [SETTINGS.warm_batch // 2] * 2
    assert not torch.equal(*shares)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_files(tmp_path_factory.mktemp("official"))


JOBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # The paper's recipe; batch normalisation is over both processes' pictures.
    "paper": ({"recipe": "paper"}, {}),
    # The released one, in micro-batches too: with batch normalisation frozen, which then knows no batch.
    "released": (
        {"recipe": "released", "changes": {"real": 4, "synthetic": 4, "renders": 8, "frozen_norm_from": 0}},
        {"accumulate": 2},
    ),
}
"""Options of a training, and further ones for two processes."""


def options_of(together: dict[str, Any]) -> dict[str, Any]:
    short = {"parsing": 0, "scales": 1, "epochs": 2, "iterations": 1, "lower_from": 1}
    return {**together, "changes": {**CHANGES, **short, **together.get("changes", {})}, "precision": "64-true"}


RESUMED = {
    **options_of(
        {"recipe": "released", "changes": {"real": 2, "synthetic": 2, "renders": 8, "frozen_norm_from": 1, "ramp": 4,
                                           "iterations": 2}}
    ),
    "save_every": 2, "devices": 2,
}  # fmt: skip
"""Four steps with the most that could be forgotten: Ranger's slow weights, noise, the ramp, the norm of both."""


@pytest.fixture(scope="module")
def two(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes that torchrun started made of all jobs."""
    out = tmp_path_factory.mktemp("two")
    arguments: list[str | Path] = []
    for name, (together, apart) in JOBS.items():
        arguments += [out / name, json.dumps({**options_of(together), **apart, "devices": 2})]
    run_two(files, *arguments, out / "whole", json.dumps(RESUMED))
    return out


@pytest.mark.parametrize("name", list(JOBS))
def test_two_processes_are_one(files: Path, two: Path, tmp_path: Path, name: str) -> None:
    """The same losses and weights as one process with the same batch, in double precision: but for the order of sums.

    The log rounds losses to single precision.
    """
    one, _ = tiny_paper_training(files, tmp_path, **options_of(JOBS[name][0]))
    rows = json.loads((two / name / "curve.json").read_text())
    assert [row["step"] for row in rows] == [0, 1]
    for row, alone in zip(rows, one.curve, strict=True):
        terms = [term for term in alone if term.startswith(("train/", "validation/"))]
        assert {term: row[term] for term in terms} == pytest.approx({term: alone[term] for term in terms}, rel=1e-6)
    state = torch.load(two / name / "trained.pt", weights_only=True)
    for key, tensor in one.objective.network.state_dict().items():
        assert (state[key] - tensor).abs().max() <= 1e-7 * tensor.abs().max(), key


def test_two_processes_killed_go_on_as_if_nothing_had_been(files: Path, two: Path, tmp_path: Path) -> None:
    """``kill -9`` in the fourth step, when the state of the second is on disk and the third is in the log."""
    out = tmp_path / "broken"
    killed = run_two(files, out, json.dumps({**RESUMED, "killed_at": 3}), check=False)
    assert killed.returncode != 0
    assert b"Signal 9 (SIGKILL)" in killed.stderr
    (state,) = out.glob("train/*/last.pt")
    assert torch.load(state, weights_only=True)["step"] == 2
    assert not (out / "trained.pt").exists()
    run_two(files, out, json.dumps(RESUMED))
    whole, again = (json.loads((folder / "curve.json").read_text()) for folder in (two / "whole", out))
    for row in (*whole, *again):
        del row["seconds"]
    assert [row["step"] for row in whole] == [0, 1, 2, 3]
    assert whole == again
    ours, theirs = (torch.load(folder / "trained.pt", weights_only=True) for folder in (two / "whole", out))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


class TestBatchNorm:
    x = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 7
    weight = torch.arange(1.0, 7)

    def test_two_processes_have_one_batch(self, tmp_path: Path) -> None:
        """Values, gradients and running statistics are those of ``nn.BatchNorm2d`` on all pictures."""
        multiprocessing.spawn(on_one_of_two, (str(tmp_path), self.x, self.weight), nprocs=2)
        parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
        for name, expected in two_steps(nn.BatchNorm2d(3).double(), self.x, self.weight).items():
            a, b = (part[name] for part in parts)
            if name.startswith("gradient/"):  # of parameters, which processes add up themselves
                torch.testing.assert_close(a + b, expected)
            elif name.startswith("state/"):
                torch.testing.assert_close(a, expected)
                assert torch.equal(a, b), name
            else:
                torch.testing.assert_close(torch.cat((a, b)), expected)

    def test_one_process_has_the_same(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, momentum=0.3)).double()
        before = dict(network.named_parameters()) | dict(network.named_buffers())
        synchronise(network)
        assert isinstance(network[1], SynchronisedBatchNorm2d)
        after = dict(network.named_parameters()) | dict(network.named_buffers())
        assert list(before) == list(after)
        assert all(before[name] is after[name] for name in before)
        expected = two_steps(nn.BatchNorm2d(3, momentum=0.3).double(), self.x, self.weight)
        for name, value in two_steps(network[1], self.x, self.weight).items():
            assert torch.equal(value, expected[name]), name
