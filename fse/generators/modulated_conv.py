"""The modulated convolution of StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN",
section 2.2), shared by StyleGAN2, StyleGAN2-ADA and StyleGAN3."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    demodulate: bool = True,
    gain: float | Tensor = 1.0,
    padding: int = 0,
    up: bool = False,
    overwrite: bool = False,
) -> Tensor:
    """Convolve with a kernel whose input channels are scaled by ``style``, and normalise each output channel.

    Scaling the kernel's input channels is scaling the picture's, and normalising its output channels is scaling
    the result's, so one convolution serves the whole batch and no kernel is computed for each sample.

    Parameters
    ----------
    x : Tensor
        (B, I, H, W).
    weight : Tensor
        (O, I, k, k); (O, 1, k, k) convolves each channel by itself, without ``demodulate``.
    style : Tensor
        (B, I) factors of the input channels; a constant scale of the weight may be part of it.
    demodulate : bool
        Divide each output channel by the norm of its scaled kernel (with 1e-8 under the root).
    gain : float or Tensor
        A number to multiply the result with.
    padding : int
        On each side.
    up : bool
        Transposed convolution of stride 2, the weight not flipped: side H -> 2 (H - 1) + k - 2 * padding.
    overwrite : bool
        ``x`` may be scaled in place: the caller has no more use for it, and no gradient is wanted. A large picture's
        fresh memory costs a CPU ten times what the multiplication does.

    Returns
    -------
    Tensor
        (B, O, H', W'), in the memory format of ``x`` (channels last is the faster one).
    """
    if not demodulate and weight.shape[2:] == (1, 1):  # to RGB: few outputs, so the scaled kernels are the small thing
        kernels = weight[:, :, 0, 0] * (style * gain)[:, None]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2) @ kernels.transpose(1, 2).to(x.dtype)
        return pixels.reshape(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    factor: float | Tensor = gain
    if demodulate:
        # A common factor of the style cancels but for the epsilon. This one keeps a half-precision result in range when
        # the weights are of unit size; no gradient passes through it because nothing depends on it.
        size = style.detach().abs().amax(1, keepdim=True).clamp_min(1e-8) * weight[0].numel() ** 0.5
        style = style / size
        factor = factor * _demodulation(weight, style, size)[:, :, None, None].to(x.dtype)
    style = style[:, :, None, None].to(x.dtype)
    x = x.mul_(style) if overwrite else x * style
    if up:
        x = conv_transpose2d(x, weight.transpose(0, 1), stride=2, padding=padding)
    else:
        x = conv2d(x, weight, padding=padding, groups=x.shape[1] // weight.shape[1])
    if not demodulate and isinstance(gain, float) and gain == 1:
        return x
    return x * factor if torch.is_grad_enabled() else x.mul_(factor)


def _demodulation(weight: Tensor, style: Tensor, size: Tensor) -> Tensor:
    """Factors (B, O) of the output channels for ``style`` (B, I), which was divided by ``size`` (B, 1).

    rsqrt(sum over I, k, k of (weight * style)^2 + 1e-8 / size^2), by one matrix product and at least in single
    precision.
    """
    precision = torch.promote_types(style.dtype, torch.float32)
    with torch.autocast(style.device.type, enabled=False):
        power = style.to(precision).square() @ weight.to(precision).square().sum((2, 3)).T
    return (power + 1e-8 * size.to(precision) ** -2).rsqrt()
