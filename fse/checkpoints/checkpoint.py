"""What a file of weights holds, whatever its format: plain tensors by official name, and a few plain options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from fse.checkpoints.shapes import of_file
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

Network = TypeVar("Network", bound=SizedNetwork)


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


def check_parameters(
    expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], source: Path | str, remedy: str
) -> None:
    """Refuse ``tensors`` that lack a parameter of ``expected`` (name -> shape), or have it in another shape.

    Raises
    ------
    Refusal
        Naming the first parameter that is missing, or which shape it has instead of which.
    """
    for name, shape in expected.items():
        if not isinstance(tensors.get(name), Tensor):
            raise Refusal(f"{source}: the parameter {name} is missing, so it holds another network; {remedy}")
        if tensors[name].shape != shape:
            found = tuple(tensors[name].shape)
            raise Refusal(f"{source}: the parameter {name} has shape {found} instead of {tuple(shape)}; {remedy}")


def official_network(
    kind: type[Network], tensors: Mapping[str, Tensor], options: Mapping[str, Any], source: Path | str, remedy: str
) -> Network:
    """The network ``kind`` whose parameters ``tensors`` are, of the size that they tell; frozen, in evaluation mode.

    Raises
    ------
    Refusal
        When a parameter that tells the size is missing, and as :func:`check_parameters` does.
    """
    with of_file(source):
        size = kind.size_of(tensors, options)
    network = kind(size)
    load_parameters(network, tensors, source, remedy)
    return network.eval().requires_grad_(False)


def load_parameters(network: nn.Module, tensors: Mapping[str, Tensor], source: Path | str, remedy: str) -> None:
    """Put ``tensors`` into ``network``, all of it and by name; tensors that it has no place for are left out.

    Raises
    ------
    Refusal
        As :func:`check_parameters` does. The network is then unchanged.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_parameters(expected, tensors, source, remedy)
    network.load_state_dict({name: tensors[name] for name in expected})
