"""Random latents that are the same on every machine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sample_z(seed: int, count: int, dim: int = 512) -> Tensor:
    """(count, dim) float32 standard normal, from NumPy's PCG64: bit-identical across CPUs and GPUs."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32))


def mix_codes(codes: Tensor, random: np.random.Generator, last: int | None = None) -> Tensor:
    """Style mixing: each (N, 512) row of the batch takes its codes from a random index on from the next sample.

    codes (B, N, 512) -> (B, N, 512); the index is uniform in 1..last, by default N - 1. Mixed codes leave W
    for W+, where the encoders' codes lie too.
    """
    start = torch.from_numpy(random.integers(1, (last or codes.shape[1] - 1) + 1, len(codes))).to(codes.device)
    later = torch.arange(codes.shape[1], device=codes.device)[None] >= start[:, None]
    return torch.where(later[..., None], codes.roll(-1, 0), codes)
