"""The Haar wavelet transform, by whose inverse MobileStyleGAN doubles a picture's or a feature's size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


def inverse_haar(low: Tensor, high: Tensor) -> Tensor:
    """One level of the 2-d inverse Haar transform.

    Parameters
    ----------
    low : Tensor
        (B, C, H, W) approximation band.
    high : Tensor
        (B, 3 C, H, W) detail bands, for each channel in the order lh, hl, hh of pytorch_wavelets.

    Returns
    -------
    Tensor
        (B, C, 2 H, 2 W).

    Notes
    -----
    Each output pixel is a signed half sum of the four bands, so the transform is four sums and a pixel
    shuffle; transposed convolutions with 2-tap filters compute the same several times slower.
    """
    lh, hl, hh = high.unflatten(1, (-1, 3)).unbind(2)
    top, bottom = low + lh, low - lh
    left, right = hl + hh, hl - hh
    quads = torch.stack((top + left, top - left, bottom + right, bottom - right), dim=2)
    return pixel_shuffle(quads.flatten(1, 2), 2) * 0.5


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """The transform that :func:`inverse_haar` inverts: (B, C, 2 H, 2 W) -> (B, C, H, W), (B, 3 C, H, W)."""
    a, b, c, d = pixel_unshuffle(x, 2).unflatten(1, (-1, 4)).unbind(2)
    top, bottom, left, right = a + b, c + d, a - b, c - d
    high = torch.stack((top - bottom, left + right, left - right), dim=2)
    return (top + bottom) * 0.5, high.flatten(1, 2) * 0.5
