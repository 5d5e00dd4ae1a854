"""Features of another set of pictures, for a Fréchet distance to more than the sources themselves.

They are computed once, by a stage of their own, and kept in a file: the mean and a factor of the covariance at each of
the sizes that FID is measured at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from eval.datasets.dataset import DataSet
from eval.metrics.at_size import Size, resized
from eval.metrics.distribution import Gaussian, GaussianSums, ReferenceSet
from eval.metrics.metric import DistributionMetric
from fse.refusal import Refusal


@dataclass(frozen=True)
class SetFeatures:
    """What is kept of a set.

    Attributes
    ----------
    label : str
        Its name in print.
    count : int
        Number of pictures.
    at : mapping
        SUFFIX of the columns at a size, "" at the native one -> features of the pictures at that size.
    """

    label: str
    count: int
    at: Mapping[str, Gaussian]

    def reference(self, name: str, suffix: str) -> ReferenceSet:
        """For the columns with an ending."""
        return ReferenceSet(name, self.label, self.count, self.at[suffix])

    def write(self, path: Path) -> None:
        """To a ``.npz``, D x (D + 1) numbers a size."""
        arrays = {f"{part}{suffix}": getattr(each, part) for suffix, each in self.at.items() for part in _PARTS}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, label=self.label, count=self.count, suffixes=list(self.at), **arrays)

    @classmethod
    def read(cls, path: Path) -> SetFeatures:
        """What ``write`` wrote. Raises Refusal if it is damaged or of another form."""
        try:
            with np.load(path, allow_pickle=False) as kept:
                at = {
                    str(suffix): Gaussian(*(kept[f"{part}{suffix}"] for part in _PARTS)) for suffix in kept["suffixes"]
                }
                return cls(str(kept["label"]), int(kept["count"]), at)
        except Exception as error:  # bytes that are no archive of arrays can end in any exception
            raise Refusal(f"{path} holds no features of a set ({error}); run `dvc repro --force reference`") from error


_PARTS = ("mean", "factor")


@torch.inference_mode()
def set_features(
    pictures: DataSet,
    metric: DistributionMetric,
    sizes: Mapping[str, Size | None],
    *,
    count: int,
    device: str | torch.device = "cpu",
    batch: int = 8,
    unfinished: Path | None = None,
    every: int = 128,
) -> SetFeatures:
    """The metric's features of the first ``count`` pictures, in memory that does not grow with their number.

    Parameters
    ----------
    sizes : mapping
        SUFFIX -> height and width; None is the size that the pictures have.
    batch : int
        Pictures that are read at once, and go through the network together.
    unfinished : Path, optional
        A file (``.npz``) of the sums so far, written every ``every`` batches: a call that was stopped goes on there.
        Its name must tell these pictures, sizes and batches from others.

    Raises
    ------
    Refusal
        A picture cannot be read, or there are fewer than two.
    """
    chosen = range(min(count, len(pictures)))
    if len(chosen) < 2:
        raise Refusal(f"{pictures.tree.where}: {len(chosen)} pictures of {pictures.described} have no covariance")
    sums = {suffix: GaussianSums(metric.dimensions) for suffix in sizes}
    seen = _resume(sums, unfinished) if unfinished else 0
    starts: Sequence[int] = chosen[seen::batch]
    with ThreadPoolExecutor(batch) as readers:
        for turn, start in enumerate(track(starts, f"features of {pictures.name}", console=Console(stderr=True)), 1):
            read = readers.map(pictures.tensor, chosen[start : start + batch])
            native = torch.stack([tensor for _, tensor in read])
            for suffix, size in sizes.items():
                taken = native if size is None else resized(native, size)
                sums[suffix].update(metric.features(taken.to(device)).double().cpu().numpy())
            if unfinished and turn % every == 0:
                _keep(sums, unfinished)
    if unfinished:
        unfinished.unlink(missing_ok=True)
    label = f"{pictures.title}{', PARTIAL' * pictures.is_partial}"
    return SetFeatures(label, len(chosen), {suffix: Gaussian.of_sums(each) for suffix, each in sums.items()})


def _keep(sums: Mapping[str, GaussianSums], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    arrays: dict[str, Any] = {
        f"{name}{suffix}": array for suffix, each in sums.items() for name, array in each.state().items()
    }
    np.savez(part, **arrays)
    part.replace(path)


def _resume(sums: Mapping[str, GaussianSums], path: Path) -> int:
    """How many pictures the sums are of, now; 0 without a file that can be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            states = {suffix: {name: kept[f"{name}{suffix}"] for name in each.state()} for suffix, each in sums.items()}
    except Exception:  # as in SetFeatures.read; beginning anew is always right
        return 0
    for suffix, state in states.items():
        sums[suffix].resume(**state)
    return next(iter(sums.values())).count
