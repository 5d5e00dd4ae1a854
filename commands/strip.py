"""Pictures side by side in one file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

GAP = 4
"""White pixels between two pictures."""


def strip(first: Tensor, others: Sequence[Tensor], columns: int) -> Tensor:
    """``first`` and ``columns`` of the others side by side, and the next so many under them.

    All are (B, 3, H, W), and the result is as many strips.
    """
    rows = [[first, *others[start : start + columns]] for start in range(0, len(others), columns)]
    lines = [torch.cat([pad(each, (0, GAP, 0, GAP), value=1.0) for each in row], 3) for row in rows]
    return torch.cat(lines, 2)[:, :, :-GAP, :-GAP]
