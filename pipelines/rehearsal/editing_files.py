"""Stand-ins of the published directions and of FSE's seeds: right in form, and without any meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.rehearsal.filling import normal

BOUNDARIES = ("Smiling", "Eyeglasses", "Heavy_Makeup")
DIRECTIONS = ("age", "smile", "pose")
SEEDS = 100_000


def write_editing_files(folder: Path, num_codes: int) -> None:
    """FSE's boundaries, its seeds, and the directions that e4e, ReStyle and HFGI ship.

    Boundaries are unit vectors, (1, N * 512) float32: 1 x 9216 officially; directions are (1, 512), as these methods
    add them to every row; the seeds are 100,000 different integers, as float64.
    """
    (folder / "boundaries_ours").mkdir(parents=True, exist_ok=True)
    for name in BOUNDARIES:
        vector = normal(f"boundary {name}", (1, num_codes * 512))
        np.save(folder / "boundaries_ours" / f"{name}_boundary.npy", vector / np.linalg.norm(vector))
    (folder / "interfacegan_directions").mkdir(parents=True, exist_ok=True)
    for name in DIRECTIONS:
        direction = torch.from_numpy(normal(f"direction {name}", (1, 512)))
        torch.save(direction / direction.norm(), folder / "interfacegan_directions" / f"{name}.pt")
    np.save(folder / "seeds_pytorch_1.8.1.npy", np.random.default_rng(0).permutation(SEEDS).astype(np.float64))
