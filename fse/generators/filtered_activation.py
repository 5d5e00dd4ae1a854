"""StyleGAN3's nonlinearity without aliasing (Karras et al. 2021, "Alias-Free Generative Adversarial Networks", section
3, configuration F), and the design of its low-pass filters (appendix C)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.special import j1
from torch import Tensor
from torch.nn.functional import leaky_relu_

from fse.generators.resampling import upfirdn

TILE_CHANNELS, TILE_BYTES = 32, 2**24
"""Of the upsampled picture. Up to 32 MB the C library gives memory out again; beyond, it asks the kernel for new."""


def low_pass_filter(taps: int, cutoff: float, half_width: float, rate: float, radial: bool = False) -> Tensor:
    """A Kaiser-windowed low-pass filter of unit sum: (taps,) to be applied along both axes, or radial (taps, taps).

    Parameters
    ----------
    taps : int
        Length, even in StyleGAN3.
    cutoff, half_width : float
        Middle and half width of the transition band, in cycles of the unit that ``rate`` counts samples of.
    rate : float
        Sampling rate that the filter runs at.
    radial : bool
        Rotationally symmetric: a jinc, the transform of a disc, under a separable window.
    """
    if not radial:
        return torch.from_numpy(firwin(taps, cutoff, width=2 * half_width, fs=rate)).float()
    position = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.pi * np.hypot(position, position[:, None])  # never 0, since taps is even
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, 2 * half_width / (rate / 2))))
    kernel: NDArray[np.float64] = j1(2 * cutoff * radius) / radius * np.outer(window, window)
    return torch.from_numpy(kernel / kernel.sum()).float()


def filtered_leaky_relu(
    x: Tensor,
    up_filter: Tensor,
    down_filter: Tensor,
    bias: Tensor,
    *,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
    gain: float = 2**0.5,
    slope: float = 0.2,
    clamp: float | None = None,
) -> Tensor:
    """Add the bias, upsample, apply ``clamp(gain * leaky_relu(x))``, low-pass filter and decimate.

    Where no gradient is wanted and the upsampled picture is large, a CPU works through it in tiles: the memory of a
    tile is reused by the next, while fresh memory for the whole costs more than the arithmetic. A tile recomputes its
    border, and nothing else changes.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    up_filter, down_filter : Tensor
        (k,) or (k, l); see :func:`~fse.generators.resampling.upfirdn`.
    bias : Tensor
        (C,), added before the zeros of ``padding``.
    up, down : int
        Factors of the sampling rate before and after the nonlinearity.
    padding : tuple of int
        Left, right, above, below; samples of the upsampled picture, negative to crop, less than the up filter's k.
    gain, slope : float
        Positive: factor of the nonlinearity, and its slope below zero.
    clamp : float, optional
        Limit of the nonlinearity's absolute value.

    Returns
    -------
    Tensor
        (B, C, H', W') with H' = ceil((H * up + above + below - k_up + 1 - (k_down - 1)) / down).
    """

    def apply(x: Tensor, bias: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        x = upfirdn(x + bias.to(x.dtype)[:, None, None], up_filter, up=up, padding=padding, gain=up**2)
        if clamp is not None:
            # What enters is limited, at the values that leave at the limits: the nonlinearity is monotone, and after
            # it, its own gain and in-place form, nothing is left to do. The down filter takes the gain.
            x = x.clamp(-clamp / (gain * slope), clamp / gain)
        return upfirdn(leaky_relu_(x, slope), down_filter, down=down, gain=gain)

    left, right, above, below = padding
    height = x.shape[2] * up + above + below - len(up_filter) + 1  # of the upsampled picture
    width = x.shape[3] * up + left + right - up_filter.shape[-1] + 1
    row_bytes = min(x.shape[1], TILE_CHANNELS) * width * x.element_size()
    small = x.shape[0] * x.shape[1] * height * width * x.element_size() <= TILE_BYTES
    if small or x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return apply(x, bias, padding)

    taps = len(down_filter)
    side = (height - taps) // down + 1, (width - down_filter.shape[-1]) // down + 1
    rows = max((TILE_BYTES // row_bytes - taps) // down + 1, taps)
    channels_last = torch.channels_last
    y = torch.empty(*x.shape[:2], *side, dtype=x.dtype, device=x.device, memory_format=channels_last)
    for sample, channels, first, last in _tiles(y.shape, rows):
        # Rows first..last - 1 come from rows start..stop - 1 of the upsampled picture, and those from rows of x.
        start, stop = first * down, (last - 1) * down + taps
        begin = min(max(-(-(start - above) // up), 0), x.shape[2] - 1)
        end = max(min((stop + len(up_filter) - 2 - above) // up + 1, x.shape[2]), begin + 1)
        tile_above = above + begin * up - start
        tile_below = stop - start + len(up_filter) - 1 - (end - begin) * up - tile_above
        tile = x[sample, channels, begin:end].contiguous(memory_format=channels_last)
        y[sample, channels, first:last] = apply(tile, bias[channels], (left, right, tile_above, tile_below))
    return y


def _tiles(shape: torch.Size, rows: int) -> Iterator[tuple[slice, slice, int, int]]:
    """Sample, channels, and first and last row + 1 of the tiles of (B, C, H, W)."""
    for sample in range(shape[0]):
        for channel in range(0, shape[1], TILE_CHANNELS):
            for row in range(0, shape[2], rows):
                tile = slice(sample, sample + 1), slice(channel, channel + TILE_CHANNELS)
                yield *tile, row, min(row + rows, shape[2])
