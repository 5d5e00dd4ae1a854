"""What the names and shapes of parameters tell of a network's size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from fse.refusal import Refusal


def kernel_shape(tensors: Mapping[str, Tensor], name: str, axes: int = 4) -> torch.Size:
    """Shape of the weight ``name``; Refusal when it is missing or has not as many axes."""
    if name not in tensors or tensors[name].ndim != axes:
        raise Refusal(f"the parameter {name} is missing or no weight of {axes} axes; choose another file")
    return tensors[name].shape


def consecutive(tensors: Mapping[str, Tensor], names: str, first: int = 0) -> int:
    """How many of the names ``names.format(first)``, and so on, come before the first that is missing."""
    return next(i for i in count(first) if names.format(i) not in tensors) - first


@contextmanager
def of_file(source: Path | str) -> Iterator[None]:
    """Put the file before what a Refusal says of parameters."""
    try:
        yield
    except Refusal as refusal:
        raise Refusal(f"{source}: {refusal}") from refusal
