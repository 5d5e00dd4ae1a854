"""Editing an inversion (paper, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from fse.generators.style_generator import StyleGenerator


def move_codes(codes: Tensor, direction: Tensor, strength: float) -> Tensor:
    """w + strength * direction: codes (B, N, D), direction (N, D) or (D,)."""
    if direction.shape not in (codes.shape[1:], codes.shape[2:]):
        raise ValueError(
            f"direction must be {tuple(codes.shape[1:])} or {tuple(codes.shape[2:])}, not {tuple(direction.shape)}"
        )
    return codes + strength * direction.to(codes)


@torch.no_grad()
def edited_feature(generator: StyleGenerator, feature: Tensor, codes: Tensor, edited_codes: Tensor) -> Tensor:
    """Eq. (1): F + G(edited w^{1:K}) - G(w^{1:K}).

    feature (B, C, H, W) is the encoded F; codes and edited_codes are (B, N, D). What an edit changes before
    layer K would be lost when F replaces that layer's output; the difference of the generator's own feature
    tensors brings it back.
    """
    return feature + generator.feature(edited_codes) - generator.feature(codes)
