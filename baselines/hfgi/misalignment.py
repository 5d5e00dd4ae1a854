"""The misaligned residuals that HFGI's aligner learns from without any edited pictures (section 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import perspective


def misalign(residuals: Tensor, random: np.random.Generator, distortion: float = 0.15, rate: float = 0.9) -> Tensor:
    """Residuals (B, 3, S, S), most of them seen in a random perspective.

    Each corner moves inwards by up to ``distortion`` of half the side, in x and in y; what comes from outside is 0.
    The defaults are those of the published training, which draws once for all pictures of a batch.
    """
    side = residuals.shape[-1]
    corners = np.array([[0, 0], [side - 1, 0], [side - 1, side - 1], [0, side - 1]])
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    furthest = int(distortion * (side // 2))
    warped = []
    for residual in residuals.split(1):
        moved = corners + inwards * random.integers(0, furthest, (4, 2), endpoint=True)
        if random.random() < rate:
            residual = perspective(residual, corners.tolist(), moved.tolist())
        warped.append(residual)
    return torch.cat(warped)
