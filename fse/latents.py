"""Random latents that are the same on every machine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fse.generators.style_generator import StyleGenerator


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


def truncate(codes: Tensor, mean_code: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
    """Move codes (B, N, 512) towards the mean code (512,) or (N, 512): mean + psi * (w - mean).

    The truncation trick (Karras et al. 2019, "A Style-Based Generator Architecture", section 2 and appendix B). With
    ``cutoff``, only the first ``cutoff`` codes of each sample move.
    """
    moved = mean_code + psi * (codes - mean_code)
    return moved if cutoff is None else torch.cat([moved[:, :cutoff], codes[:, cutoff:]], 1)


def mean_code(generator: StyleGenerator, z: Tensor) -> Tensor:
    """Mean of ``map(z)`` over z (M, 512), as one code (512,), summed in float64.

    For files that do not hold it: e4e takes 10,000 z, pSp 100,000.
    """
    with torch.no_grad():
        return generator.map(z)[:, 0].double().mean(0).float()
