"""Fitting picture heads to the full network's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.picture_head import HEAD_SIDES, PictureHead, cut
from fse.latents import mix_codes, sample_z

Progress = Callable[[Iterable[int], str], Iterable[int]]


def head_codes(full: MobileStyleGAN, seed: int, count: int) -> Tensor:
    """(count, N, 512) codes to fit or test heads with: odd ones from W, even ones mixed (W+).

    Mixing stops at the code that the smallest head reads, so that no picture depends on a code that the cut
    generators do not have.
    """
    codes = full.map(sample_z(seed, count))
    mixed = mix_codes(codes, np.random.default_rng(seed), last=2 * min(HEAD_SIDES).bit_length() - 7)
    return torch.where(torch.arange(count)[:, None, None] % 2 == 0, mixed, codes)


@torch.no_grad()
def render_targets(
    full: MobileStyleGAN, codes: Tensor, sides: Iterable[int], folder: Path, progress: Progress
) -> dict[int, Tensor]:
    """Full pictures of ``codes``, reduced with antialiasing to each side: {side: (count, 3, side, side)}.

    A full picture takes seconds on a CPU, so each is kept in ``folder`` (float16) and not computed twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sides = sorted(sides)
    targets = {side: torch.empty(len(codes), 3, side, side, dtype=torch.float16) for side in sides}
    for i in progress(range(len(codes)), "rendering at 1024 px"):
        path = folder / f"{i:05}.npz"
        if not path.is_file():
            picture = full.synthesize(codes[i : i + 1])
            small: dict[str, Any] = {str(side): _reduce(picture, side)[0].half().numpy() for side in sides}
            part = path.with_suffix(".part.npz")
            np.savez(part, **small)
            part.replace(path)
        with np.load(path) as stored:
            for side in sides:
                targets[side][i] = torch.from_numpy(stored[str(side)])
    return targets


def _reduce(picture: Tensor, side: int) -> Tensor:
    return interpolate(picture, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def fit_head(
    full: MobileStyleGAN,
    codes: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    progress: Progress,
) -> PictureHead:
    """Fit a head by Adam on the mean squared error.

    Parameters
    ----------
    full : MobileStyleGAN
        The whole network, frozen.
    codes : Tensor
        (count, N, 512) codes of the full network.
    targets : Tensor
        (count, 3, R, R) their pictures at R = 128 or 256.
    steps, batch, learning_rate, seed
        Adam steps with a cosine schedule, pictures a step, first learning rate, random seed.
    """
    torch.manual_seed(seed)
    side = targets.shape[-1] // 2
    head = PictureHead(full, 2 * side)
    trunk = cut(full, 2 * side, head)
    with torch.no_grad():
        features = torch.cat([trunk.features(codes[i : i + 1]).bfloat16() for i in range(len(codes))])
    depthwise = [parameter for name, parameter in head.named_parameters() if name.endswith("depthwise")]
    rest = [
        parameter
        for name, parameter in head.named_parameters()
        if parameter.requires_grad and not name.endswith("depthwise")
    ]
    # Depthwise kernels are some thirty times larger than the rest.
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": depthwise, "lr": 30 * learning_rate}]
    optimiser = torch.optim.Adam(groups, learning_rate, (0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    random = np.random.default_rng(seed)
    for _ in progress(range(steps), f"fitting the {2 * side} px head"):
        picked = random.integers(0, len(codes), batch)
        x = features[picked].float()
        y = targets[picked].float()
        loss = mse_loss(head(x, codes[picked, trunk.num_codes - 1]), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def head_psnr(full: MobileStyleGAN, head: PictureHead, codes: Tensor, targets: Tensor) -> Tensor:
    """PSNR (count,) in dB on [0, 1], pictures clamped, of the cut generator against the reduced full pictures."""
    generator = cut(full, targets.shape[-1], head)
    scores = []
    for i in range(len(codes)):
        picture = generator.synthesize(codes[i : i + 1, : generator.num_codes]).clamp(-1, 1)
        error = (picture - targets[i : i + 1].float().clamp(-1, 1)).square().mean() / 4
        scores.append(-10 * torch.log10(error))
    return torch.stack(scores)
