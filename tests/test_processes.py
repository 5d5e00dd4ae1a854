"""Training on several processes: Lightning Fabric starts them, each takes its share of a batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fse.training import curve_rows
from tests.conftest import ROOT
from tests.tiny import SETTINGS


@pytest.mark.usefixtures("assets")
def test_two_processes_train_together(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.tiny", tmp_path, "2", "2"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    rows = curve_rows(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(SETTINGS.warm_steps + 2))
    assert rows[SETTINGS.warm_steps - 1]["train/loss"] < rows[0]["train/loss"]
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert state["step"] == SETTINGS.warm_steps + 2
    assert not any(name.startswith("module.") for name in state["network"])  # a single process may go on with it

    shares = [torch.load(tmp_path / f"share{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [len(codes) for codes in shares] == [SETTINGS.warm_batch // 2] * 2
    assert not torch.equal(*shares)
