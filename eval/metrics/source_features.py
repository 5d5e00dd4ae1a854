"""What metrics need of source pictures, kept between calls: the same originals are measured against many methods."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class SourceFeatures:
    """A folder of features, a file a metric and batch of sources.

    A file's name is the hash of the pictures' values and of ``basis``. It is of whole batches, because a network's last
    digit depends on which pictures go through it together.

    Parameters
    ----------
    folder : Path
        Made when it is needed; it may be removed at any time.
    basis : str
        What else the features depend on: code, weights, device.
    keys : collection of str
        The metrics that are worth it; their features are tensors, or lists of tensors and None.
    """

    def __init__(self, folder: Path, basis: str, keys: Collection[str]) -> None:
        self.folder, self.basis, self.keys = folder, basis, frozenset(keys)

    def get(self, key: str, pictures: Tensor, compute: Callable[[Tensor], Any]) -> Any:
        """``compute(pictures)``, or what it gave for pictures of the same values before."""
        if key not in self.keys:
            return compute(pictures)
        path = self._path(key, pictures)
        try:
            return torch.load(path, weights_only=True)
        except Exception:  # absent or damaged, which can end in any exception: computing again is always right
            pass
        features = compute(pictures)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        torch.save(features, unfinished)
        unfinished.replace(path)
        return features

    def _path(self, key: str, pictures: Tensor) -> Path:
        digest = hashlib.sha256(f"{self.basis}\n{key} {pictures.dtype} {tuple(pictures.shape)}\n".encode())
        digest.update(pictures.contiguous().cpu().numpy().data)
        return self.folder / f"{digest.hexdigest()}.pt"
