"""Features of another set of pictures, for a Fréchet distance to more than the sources themselves.

They are computed once, by a stage of their own, and kept in a file: the mean and a factor of the covariance at each of
the sizes that FID is measured at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
) -> SetFeatures:
    """The metric's features of the first ``count`` pictures, in memory that does not grow with their number.

    Parameters
    ----------
    sizes : mapping
        SUFFIX -> height and width; None is the size that the pictures have.
    batch : int
        Pictures that are read at once, and go through the network together.

    Raises
    ------
    Refusal
        A picture cannot be read, or there are fewer than two.
    """
    chosen = range(min(count, len(pictures)))
    if len(chosen) < 2:
        raise Refusal(f"{pictures.tree.where}: {len(chosen)} pictures of {pictures.described} have no covariance")
    sums = {suffix: GaussianSums(metric.dimensions) for suffix in sizes}
    starts: Sequence[int] = chosen[::batch]
    with ThreadPoolExecutor(batch) as readers:
        for start in track(starts, f"features of {pictures.name}", console=Console(stderr=True)):
            read = readers.map(pictures.tensor, chosen[start : start + batch])
            native = torch.stack([tensor for _, tensor in read])
            for suffix, size in sizes.items():
                taken = native if size is None else resized(native, size)
                sums[suffix].update(metric.features(taken.to(device)).double().cpu().numpy())
    label = f"{pictures.title}{', PARTIAL' * pictures.is_partial}"
    return SetFeatures(label, len(chosen), {suffix: Gaussian.of_sums(each) for suffix, each in sums.items()})
