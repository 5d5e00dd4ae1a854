"""Renders with known codes, made once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fse.generators.style_generator import StyleGenerator
from fse.latents import mix_codes, sample_z

Progress = Callable[[Iterable[int], str], Iterable[int]]
CHUNK = 32


def render_codes(generator: StyleGenerator, seed: int, count: int) -> Tensor:
    """(count, N, 512) codes on the CPU: odd ones from W, even ones mixed by layer (W+)."""
    z = sample_z(seed, count)
    codes = torch.cat([generator.map(part.to(generator.mean_code.device)).cpu() for part in z.split(1024)])
    mixed = mix_codes(codes, np.random.default_rng(seed))
    return torch.where(torch.arange(count)[:, None, None] % 2 == 0, mixed, codes)


class Renders:
    """Pictures (count, 3, R, R) of random codes, kept as 8-bit chunks in ``folder``.

    A chunk is written whole or not at all, so that rendering can be killed, resumed, and shared by several
    processes. The folder's name must tell apart generators and seeds; the caller chooses it.
    """

    def __init__(self, generator: StyleGenerator, seed: int, count: int, folder: Path) -> None:
        self.generator, self.folder, self.count = generator, folder, count
        with torch.no_grad():
            self.codes = render_codes(generator, seed, count)

    @torch.no_grad()
    def render(self, progress: Progress, synthesize: Callable[[Tensor], Tensor] | None = None) -> None:
        """Make the chunks that are missing. ``synthesize`` may be a compiled form of the generator's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        synthesize = synthesize or self.generator.synthesize
        starts = [start for start in range(0, self.count, CHUNK) if not self._path(start).is_file()]
        for start in progress(starts, "rendering training pictures") if starts else []:
            codes = self.codes[start : start + CHUNK].to(self.generator.mean_code.device)
            pictures = torch.cat([synthesize(part).float().clamp(-1, 1) for part in codes.split(4)])
            part = self._path(start).with_suffix(f".{os.getpid()}.npy")
            np.save(part, ((pictures + 1) * 127.5).round().byte().cpu().numpy())
            part.replace(self._path(start))

    def __getitem__(self, indices: Iterable[int]) -> Tensor:
        """Pictures (len(indices), 3, R, R) in [-1, 1], float32, on the CPU."""
        rows = [np.load(self._path(i - i % CHUNK), mmap_mode="r")[i % CHUNK] for i in indices]
        return torch.from_numpy(np.stack(rows)).float() / 127.5 - 1

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:06}.npy"
