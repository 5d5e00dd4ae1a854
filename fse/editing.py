"""Editing an inversion (paper, section 3.3), and the masked form that section 5.5 proposes as future work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from fse.generators.style_generator import StyleGenerator

Mask = Callable[[Tensor, Tensor, Tensor], Tensor]
"""F, G(w^{1:K}) and G(edited w^{1:K}), each (B, C, H, W) -> M (B, 1, H, W) in [0, 1]."""


def move_codes(codes: Tensor, direction: Tensor, strength: float) -> Tensor:
    """w + strength * direction: codes (B, N, D), direction (N, D) or (D,)."""
    if direction.shape not in (codes.shape[1:], codes.shape[2:]):
        raise ValueError(
            f"direction must be {tuple(codes.shape[1:])} or {tuple(codes.shape[2:])}, not {tuple(direction.shape)}"
        )
    return codes + strength * direction.to(codes)


@torch.no_grad()
def edited_feature(
    generator: StyleGenerator, feature: Tensor, codes: Tensor, edited_codes: Tensor, mask: Tensor | Mask | None = None
) -> Tensor:
    """Eq. (1): F + M * (G(edited w^{1:K}) - G(w^{1:K})), where the paper's own form has M = 1.

    What an edit changes before layer K would be lost when F replaces that layer's output; the difference of the
    generator's own feature tensors brings it back.

    Parameters
    ----------
    feature : Tensor
        (B, C, H, W), the encoded F.
    codes, edited_codes : Tensor
        (B, N, D).
    mask : Tensor or callable, optional
        M, in [0, 1], (1, 1, H, W) or (B, 1, H, W): how much of the difference F takes at a place; or what makes it of
        the three tensors, e.g. :func:`change_mask`.
    """
    before, after = generator.feature(codes), generator.feature(edited_codes)
    if mask is None:
        return feature + after - before
    weights = mask(feature, before, after) if callable(mask) else mask.to(feature)
    if weights.shape[1:] != (1, *feature.shape[2:]) or len(weights) not in (1, len(feature)):
        wanted = f"(1, 1, {feature.shape[2]}, {feature.shape[3]}), or {len(feature)} of them"
        raise ValueError(f"the mask must be {wanted}, not {tuple(weights.shape)}")
    return feature + weights * (after - before)


def change_mask(feature: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """M of (B, C, H, W) tensors: where the edit is stronger than what the generator's tensor got wrong.

    The difference ``after - before`` is what the edit does to the generator's own tensor; it is meant for F only as
    far as F is like that tensor. With d its power at a place and g that of ``feature - before``, each relative to its
    mean over the picture, M = d / (d + g): the gain of a Wiener filter whose signal is the edit and whose noise is the
    gap. So M does not depend on the strength of a small edit. It is near 1 where the edit acts and the encoder's and
    the generator's tensors agree, and near 0 where nothing is to change or where they show different things (a hat, a
    hand, a background). Channels count in units of their deviation over the picture, and powers are smoothed by a
    binomial filter of 3 x 3, because single places of a feature tensor say little.
    """
    scale = before.flatten(2).std(2).clamp_min(1e-6)[:, :, None, None]
    edit, gap = (_power((x - before) / scale) for x in (after, feature))
    return edit / (edit + gap).clamp_min(1e-12)


def _power(difference: Tensor) -> Tensor:
    """Mean square over channels (B, C, H, W) -> (B, 1, H, W), smoothed, relative to its mean over the picture."""
    power = difference.square().mean(1, keepdim=True)
    taps = power.new_tensor([0.25, 0.5, 0.25])
    smooth = conv2d(pad(power, (1, 1, 1, 1), mode="replicate"), torch.outer(taps, taps)[None, None])
    return smooth / smooth.mean((2, 3), keepdim=True).clamp_min(1e-12)
