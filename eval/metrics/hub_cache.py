"""Weights that other libraries have already put into torch hub's cache on this machine; nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from fse.refusal import Refusal


def cached_weights(name: str, sha256: str) -> Path | None:
    """The cached file ``name``, or None if it is not there. ``sha256`` may be the beginning of the digest.

    Raises Refusal if the file is damaged.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        return None
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    digest = hasher.hexdigest()
    if not digest.startswith(sha256):
        raise Refusal(f"{path} is damaged (its SHA-256 begins with {digest[:8]}, not {sha256[:8]}); delete it")
    return path
