"""What the tests share: the assets that come inside packages, and the trained weights of the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.assets import obtain, read_catalogue
from tests.golden.vectors import deviations

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def assets() -> Path:
    """``data/assets``, obtained first where it is missing."""
    folder = ROOT / "data/assets"
    obtain(read_catalogue(), folder)
    return folder


@pytest.fixture(scope="session")
def weights() -> Path:
    """The shipped weights."""
    return ROOT / "weights"


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in defaults are relative to the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Commands that are called in this process leave it one thread (:func:`eval.processes.processes_for`)."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The largest deviation from each golden vector that this run compared."""
    if deviations:
        terminalreporter.section("golden vectors: largest deviation, in standard deviations of the output")
        for name, outputs in sorted(deviations.items()):
            worst = max(outputs, key=outputs.__getitem__)
            terminalreporter.write_line(f"{outputs[worst]:.1e}  {name}: {worst} (of {len(outputs)} outputs)")
