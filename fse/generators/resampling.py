"""Upsample, filter, downsample ("upfirdn"): the resampling of StyleGAN2 and StyleGAN3."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad


def upfirdn(
    x: Tensor,
    kernel: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Insert zeros, pad, filter by true convolution, keep every ``down``-th sample.

    Autocast does not apply: a picture in single precision stays so.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    kernel : Tensor
        (k,) applied along both axes, or (k, l) for rows and columns at once.
    up, down : int
        ``up - 1`` zeros follow each sample of either axis; of the result, samples 0, ``down``, 2 * ``down``... remain.
    padding : tuple of int
        Zeros left, right, above, below, counted after upsampling; negative values crop.
    gain : float
        Factor of the result, positive. ``up ** 2`` keeps the mean.

    Returns
    -------
    Tensor
        (B, C, H', W') with H' = ceil((H * up + above + below - k + 1) / down).
    """
    left, right, above, below = padding
    with torch.autocast(x.device.type, enabled=False):
        if kernel.ndim == 2:
            return _filter(x, kernel * gain, (up, up), (down, down), padding)
        kernel = kernel * gain**0.5
        x = _filter(x, kernel[None, :], (1, up), (1, down), (left, right, 0, 0))
        return _filter(x, kernel[:, None], (up, 1), (down, 1), (0, 0, above, below))


def _filter(
    x: Tensor, kernel: Tensor, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> Tensor:
    """One depthwise convolution; zeros are inserted by its stride where it is transposed, never in memory."""
    channels, (height, width) = x.shape[1], kernel.shape
    weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    left, right, above, below = padding
    if up == (1, 1):
        # Zeros that the convolution adds itself cost nothing; a padded copy does.
        rows, columns = max(min(above, below), 0), max(min(left, right), 0)
        x = _pad(x, (left - columns, right - columns, above - rows, below - rows))
        return conv2d(x, weight.flip((2, 3)), stride=down, padding=(rows, columns), groups=channels)
    rows, more_rows, above, below = _transposed_padding(above, below, height, up[0])
    columns, more_columns, left, right = _transposed_padding(left, right, width, up[1])
    x = conv_transpose2d(
        x,
        weight,
        stride=up,
        padding=(rows, columns),
        output_padding=(more_rows, more_columns),
        groups=channels,
    )
    return _pad(x, (left, right, above, below))[:, :, :: down[0], :: down[1]]


def _transposed_padding(before: int, after: int, taps: int, up: int) -> tuple[int, int, int, int]:
    """Padding of one axis -> ``padding`` and ``output_padding`` of a transposed convolution, and what they leave to do.

    A transposed convolution gives every position that the kernel touches, ``taps`` - 1 more on each side than the
    filter without padding. What is too much it need not compute: ``padding`` positions before, and after
    ``padding + up - 1 - output_padding``.
    """
    before, after = before - taps + 1, after - taps + 1
    crop = max(min(-before, -after), 0)
    more = up - 1 - min(max(-after - crop, 0), up - 1)
    return crop, more, before + crop, after + crop + up - 1 - more


def _pad(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    return pad(x, padding) if any(padding) else x
