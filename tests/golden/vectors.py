"""Reference vectors of the official networks: fill by name, compare, and remember the largest deviation of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.golden.fill import fill_state

FOLDER = Path(__file__).parent
TOLERANCE = 1e-4  # of the output's standard deviation

deviations: dict[str, dict[str, float]] = {}
"""Vector -> output -> largest deviation in standard deviations, of every comparison of this run (see conftest)."""


class Golden:
    """One vector, ``NAME.json`` and ``NAME.npz`` (``README.md`` of the vectors, section 1)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifest: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        with np.load(FOLDER / f"{name}.npz") as stored:
            self.stored = {key: stored[key] for key in stored.files}

    @property
    def construction(self) -> dict[str, Any]:
        """Facts needed to build the network."""
        construction: dict[str, Any] = self.manifest["construction"]
        return construction

    def state(self) -> dict[str, Tensor]:
        """The official state dict, filled."""
        filled = fill_state(self.manifest, self.stored)
        return {key: torch.from_numpy(np.asarray(value, order="C")) for key, value in filled.items()}

    def names_and_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the official state dict."""
        return {key: tuple(shape) for key, shape, *_ in self.manifest["state_dict"]}

    def check(self, output: str, value: Tensor, tolerance: float = TOLERANCE) -> float:
        """Compare with a stored output, in units of its standard deviation; returns the largest deviation."""
        facts = self.manifest["outputs"][output]
        assert list(value.shape) == facts["shape"], f"{self.name}, {output}: {list(value.shape)}, not {facts['shape']}"
        flat = value.detach().float().cpu().contiguous().numpy().ravel()
        mine = flat[:: facts["step"]] if facts["stored"] == "samples" else flat
        theirs = self.stored[output].ravel().astype(np.float64)
        deviation = float(np.abs(mine - theirs).max() / facts["mean_std_min_max"][1])
        deviations.setdefault(self.name, {})[output] = deviation
        assert deviation <= tolerance, f"{self.name}, {output}: deviates by {deviation:.2e} standard deviations"
        return deviation
