"""Weights files of other projects: read as plain tensors, never as code, and checked name by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fse.refusal import Refusal


def read_weights(
    path: Path | str,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    remedy: str = "run `python -m pipelines.assets`",
) -> dict[str, Tensor]:
    """The entries ``shapes`` of a PyTorch state dict (.pth), on the CPU; further entries are left out.

    Raises Refusal naming the file, and the parameter that is missing or has another shape.
    """
    if not Path(path).is_file():
        raise Refusal(f"there is no weights file {path}; {remedy}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle can end in any exception
        reason = str(error).strip().partition("\n")[0]
        raise Refusal(f"{path} is no PyTorch weights file ({reason}); {remedy}") from error
    if not isinstance(weights, Mapping):
        raise Refusal(f"{path} holds a {type(weights).__name__} where a state dict is needed; {remedy}")
    for name, shape in shapes.items():
        if not isinstance(weights.get(name), Tensor):
            raise Refusal(f"{path} holds other weights, the parameter {name} is missing; {remedy}")
        if weights[name].shape != shape:
            found = tuple(weights[name].shape)
            raise Refusal(f"{path}: the parameter {name} is {found} and not {tuple(shape)}; {remedy}")
    return {name: weights[name] for name in shapes}
