"""Renders with known codes, made once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fse.generators.style_generator import HasNoise, StyleGenerator
from fse.latents import mix_codes, sample_z
from fse.offmanifold import push_off_manifold
from fse.pictures import read_picture, write_picture
from fse.training_data import Share, rendered

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

    As :class:`~fse.training_data.TrainingData`, the synthetic pictures are renders as they are, and the others are
    renders pushed off the manifold.
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

    def batch(self, share: Share) -> tuple[Tensor, Tensor]:
        """The share's pictures and the codes of its synthetic ones, on the CPU.

        Pictures that are pushed off the manifold lend each other texture, so every process makes the whole batch.
        """
        random = np.random.default_rng([share.seed, share.step, 0])
        picked = random.choice(self.count, share.synthetic + share.others, replace=False)
        pictures = self[picked]
        if share.others:
            others = push_off_manifold(pictures[share.synthetic :], random)
            pictures = torch.cat((pictures[: share.synthetic], others))
        synthetic = torch.from_numpy(picked[: share.synthetic])[share.of(share.synthetic)]
        return pictures[share.rows], self.codes[synthetic]

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:06}.npy"


class JPEGRenders:
    """G(map(z)) of fixed seeds, rendered once to JPEG: the synthetic pictures of the released code.

    Render i is of the z of seed i, ``sample_z(i, 1)``. Where the generator has noise, it is drawn anew for each render,
    of seed i too. A file is written whole or not at all, so that rendering can be killed and resumed.

    Parameters
    ----------
    generator : StyleGenerator
    folder : Path
        One for each generator; the caller chooses it.
    count, used : int
        How many are rendered, and how many of them, the first ones, are drawn from: officially nine tenths.
    """

    def __init__(self, generator: StyleGenerator, folder: Path, count: int, used: int | None = None) -> None:
        self.generator, self.folder, self.count, self.used = generator, folder, count, used or count

    @torch.no_grad()
    def render(self, progress: Progress, index: int = 0, processes: int = 1) -> None:
        """Make those of every ``processes``-th file, from ``index`` on, that are missing."""
        device = self.generator.mean_code.device
        missing = [i for i in range(index, self.count, processes) if not self._path(i).is_file()]
        for i in progress(missing, "rendering training pictures") if missing else []:
            codes = self._codes([i])
            if isinstance(self.generator, HasNoise):
                noise = self.generator.fresh_noise(torch.Generator(device).manual_seed(i))
                picture = self.generator.synthesize(codes, noise=noise)
            else:
                picture = self.generator.synthesize(codes)
            write_picture(picture[0].float().clamp(-1, 1), self._path(i))

    @torch.no_grad()
    def draw(self, share: Share) -> tuple[Tensor, Tensor]:
        """The share's pictures (S, 3, R, R), on the CPU, and their codes; see :class:`fse.training_data.Synthetic`."""
        chosen = rendered(share, self.used)
        return torch.stack([read_picture(self._path(i)) for i in chosen]), self._codes(chosen)

    def _codes(self, seeds: Sequence[int]) -> Tensor:
        z = torch.cat([sample_z(seed, 1, self.generator.code_dim) for seed in seeds])
        return self.generator.map(z.to(self.generator.mean_code))

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06}.jpg"
