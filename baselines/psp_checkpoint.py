"""Official checkpoints of the pSp family (pSp, e4e, ReStyle, HFGI): encoder, generator and mean code in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fse.checkpoints.checkpoint import Checkpoint
from fse.checkpoints.reader import read_checkpoint
from fse.generators.families import generator_in
from fse.generators.style_generator import StyleGenerator
from fse.refusal import Refusal

REMEDY = "obtain the file again, or load it as the method that it belongs to"


def read_psp_family(path: Path, feature_layer: int = 5) -> tuple[dict[str, Tensor], StyleGenerator, dict[str, Any]]:
    """The encoder's parameters, the generator with its mean code, and the training options of the file ``path``.

    ``feature_layer`` is the generator's K; HFGI's is 8.

    Raises
    ------
    Refusal
        When the file cannot be read, or lacks a parameter of the generator or the mean code.
    """
    return psp_family(read_checkpoint(path), feature_layer)


def psp_family(
    checkpoint: Checkpoint, feature_layer: int = 5
) -> tuple[dict[str, Tensor], StyleGenerator, dict[str, Any]]:
    """The same, of a file that is already read."""
    found = checkpoint.options.get("opts")
    options = dict(found) if isinstance(found, Mapping) else {}
    if "latent_avg" not in checkpoint.tensors:  # which the encoder's offsets start from
        raise Refusal(f"{checkpoint.path}: latent_avg, the mean code, is missing; {REMEDY}")
    return checkpoint.part("state_dict.encoder."), generator_in(checkpoint, feature_layer), options
