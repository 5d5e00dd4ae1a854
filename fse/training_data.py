"""What a batch is made of: synthetic pictures, whose codes are known, and others; shared out over processes.

Everything here is a function of the seed and the step. So a run that is resumed sees the batches that it would have
seen, without a stored random state, and any number of processes sees the batch that one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fse.generators.style_generator import StyleGenerator
from fse.pictures import square_tensor

# Streams of random numbers, so that no two draws of a step have the same source.
_ORDER, _LATENTS, _SEEDS, _RENDERS = range(4)


@dataclass(frozen=True)
class Share:
    """One share of a step's batch: that of a process, or of one of its micro-batches.

    Attributes
    ----------
    seed, step : int
        Of the training; they decide the whole batch.
    synthetic, others : int
        Pictures of each kind in the whole batch, both multiples of ``count``.
    index, count : int
        Which of how many shares.
    """

    seed: int
    step: int
    synthetic: int
    others: int
    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.synthetic % self.count or self.others % self.count:
            raise ValueError(f"{self.synthetic} + {self.others} pictures cannot be shared out {self.count} times")

    def of(self, total: int) -> slice:
        """Which of ``total`` things, one for each picture of a kind, are this share's."""
        size = total // self.count
        return slice(self.index * size, (self.index + 1) * size)

    @property
    def rows(self) -> list[int]:
        """Which pictures of the whole batch are this share's; the synthetic ones come first in both."""
        rows = range(self.synthetic + self.others)
        return [*rows[: self.synthetic][self.of(self.synthetic)], *rows[self.synthetic :][self.of(self.others)]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """A seed for each of this share's pictures, for whatever else is drawn for it."""
        drawn = np.random.default_rng([self.seed, _SEEDS, self.step]).integers(2**62, size=self.synthetic + self.others)
        return tuple(int(drawn[row]) for row in self.rows)


class TrainingData(Protocol):
    """Where batches come from."""

    def batch(self, share: Share) -> tuple[Tensor, Tensor]:
        """The share's pictures (B, 3, R, R) in [-1, 1], synthetic ones first, and the codes (S, N, 512) of those."""
        ...


class Pictures(Protocol):
    """A data set: ``pictures[i]`` is (name, RGB image), read at that time. Those of ``eval.datasets`` are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[str, Image.Image]: ...


class Synthetic(Protocol):
    """Where synthetic pictures come from."""

    def draw(self, share: Share) -> tuple[Tensor, Tensor]:
        """The share's synthetic pictures (S, 3, R, R) in [-1, 1] and their codes (S, N, 512)."""
        ...


class RenderedOnTheFly:
    """G(map(z)), z ~ N(0, I) anew for every picture of every step, with the generator's stored noise."""

    def __init__(self, generator: StyleGenerator) -> None:
        self.generator = generator

    @torch.no_grad()
    def draw(self, share: Share) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng([share.seed, _LATENTS, share.step])
        z = random.standard_normal((share.synthetic, self.generator.code_dim), dtype=np.float32)
        codes = self.generator.map(torch.from_numpy(z[share.of(share.synthetic)]).to(self.generator.mean_code))
        return self.generator.synthesize(codes).clamp(-1, 1), codes


class RealAndSynthetic:
    """Real pictures of a data set, and synthetic ones (paper, section 4.2).

    Real pictures are taken in a random order that begins anew, shuffled again, when all have been seen. Threads read
    them ahead of the step that needs them: decoding leaves Python's lock free.

    Parameters
    ----------
    real : Pictures
        Brought to the resolution by PIL's bilinear filter, as the official scripts do.
    synthetic : Synthetic
    resolution : int
        R.
    device : torch.device
        Where batches are wanted.
    readers, ahead : int
        Threads, and for how many steps they read ahead.
    """

    def __init__(
        self,
        real: Pictures,
        synthetic: Synthetic,
        resolution: int,
        device: torch.device,
        *,
        readers: int = 4,
        ahead: int = 4,
    ) -> None:
        self.real, self.synthetic, self.resolution, self.device = real, synthetic, resolution, device
        self.ahead = ahead
        self._pool = ThreadPoolExecutor(readers, "read")
        self._reading: dict[Share, list[Future[Tensor]]] = {}

    def batch(self, share: Share) -> tuple[Tensor, Tensor]:
        steps = range(share.step, share.step + self.ahead + 1)
        self._reading = {key: read for key, read in self._reading.items() if key.step in steps}
        for step in steps:
            wanted = replace(share, step=step)
            if wanted not in self._reading:
                self._reading[wanted] = [self._pool.submit(self._read, index) for index in self.chosen(wanted)]
        real = [picture.result() for picture in self._reading.pop(share)]
        if not share.synthetic:
            return torch.stack(real).to(self.device), torch.empty(0, 0, 0, device=self.device)
        pictures, codes = self.synthetic.draw(share)
        pictures = pictures.to(self.device)
        return torch.cat((pictures, torch.stack(real).to(self.device))) if real else pictures, codes.to(self.device)

    def chosen(self, share: Share) -> list[int]:
        """Which pictures of the data set are real ones of this share."""
        order = shuffled((share.seed, _ORDER), share.step * share.others, share.others, len(self.real))
        return order[share.of(share.others)]

    def _read(self, index: int) -> Tensor:
        name, image = self.real[index]
        return square_tensor(image, name, self.resolution)


def rendered(share: Share, size: int) -> list[int]:
    """Which of ``size`` renders are the synthetic pictures of this share, in a random order as for real ones."""
    order = shuffled((share.seed, _RENDERS), share.step * share.synthetic, share.synthetic, size)
    return order[share.of(share.synthetic)]


def shuffled(seed: Sequence[int], first: int, count: int, size: int) -> list[int]:
    """Places ``first`` to ``first + count - 1`` of the numbers below ``size``, shuffled, shuffled anew, and so on."""
    places = range(first, first + count)
    return [int(_permutation((*seed, place // size), size)[place % size]) for place in places]


@lru_cache(maxsize=8)
def _permutation(seed: tuple[int, ...], size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(seed).permutation(size)
