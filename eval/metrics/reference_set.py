"""Features of another set of pictures, for a Fréchet distance against more than the sources themselves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from eval.metrics.distribution import GaussianSums, ReferenceSet
from eval.metrics.metric import DistributionMetric
from fse.pictures import open_picture, tensor_from_image


@torch.inference_mode()
def reference_set(
    label: str,
    pictures: Sequence[Path],
    metric: DistributionMetric,
    device: str | torch.device = "cpu",
    *,
    cache: Path | None = None,
    basis: str = "",
) -> ReferenceSet:
    """Mean and covariance of the metric's features of picture files, in memory that does not grow with their number.

    Parameters
    ----------
    label : str
        The set's name in print.
    cache : Path, optional
        A folder where the sums are kept, by the files' content and ``basis``: what else the features depend on, such
        as the digest of the metric's weights.

    Raises
    ------
    Refusal
        A picture cannot be read.
    """
    path = None if cache is None else cache / f"{_digest(pictures, f'{basis} {metric.key}')}.npz"
    sums = GaussianSums(metric.dimensions)
    if path is not None and path.is_file():
        with np.load(path) as kept:
            sums.count, sums.total, sums.outer = int(kept["count"]), kept["total"], kept["outer"]
        return ReferenceSet(label, sums)
    for file in pictures:
        picture = tensor_from_image(open_picture(file))[None].to(device)
        sums.update(metric.features(picture).double().cpu().numpy())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, count=sums.count, total=sums.total, outer=sums.outer)
        unfinished.replace(path)
    return ReferenceSet(label, sums)


def _digest(pictures: Sequence[Path], basis: str) -> str:
    digest = hashlib.sha256(basis.encode())
    for path in pictures:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
