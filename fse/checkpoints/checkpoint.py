"""What a file of weights holds, whatever its format: plain tensors by official name, and a few plain options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fse.refusal import Refusal


@dataclass(frozen=True)
class Checkpoint:
    """The content of one file.

    Attributes
    ----------
    path : Path
        Where it was read, for messages.
    format : str
        ``pytorch``, ``nvidia-pickle``, ``safetensors`` or ``openvino-ir``.
    tensors : mapping of str to Tensor
        Flat, by the names of the file, nested dictionaries joined by dots: ``g_ema.conv1.conv.weight``,
        ``state_dict.encoder.input_layer.0.weight``, ``latent_avg``. On the CPU.
    options : mapping of str to Any
        What else the file says of itself (training options, constructor arguments): numbers, strings, booleans,
        None, lists and dictionaries of them.
    """

    path: Path
    format: str
    tensors: Mapping[str, Tensor]
    options: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with ``prefix``, without it: ``part("state_dict.encoder.")``."""
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def load_parameters(network: nn.Module, tensors: Mapping[str, Tensor], source: Path | str, remedy: str) -> None:
    """Put ``tensors`` into ``network``, all of it and by name; tensors that it has no place for are left out.

    Raises
    ------
    Refusal
        Naming the first parameter that is missing, or has another shape (and which instead of which). The
        network is then unchanged.
    """
    expected = network.state_dict()
    for name, tensor in expected.items():
        if not isinstance(tensors.get(name), Tensor):
            raise Refusal(f"{source}: the parameter {name} is missing, so it holds another network; {remedy}")
        if tensors[name].shape != tensor.shape:
            found = tuple(tensors[name].shape)
            raise Refusal(
                f"{source}: the parameter {name} has shape {found} instead of {tuple(tensor.shape)}; {remedy}"
            )
    with torch.no_grad():
        network.load_state_dict({name: tensors[name] for name in expected})
