"""Networks trained here on disk: safetensors with the network's size in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch

from fse.checkpoints.checkpoint import load_parameters
from fse.checkpoints.safetensors_file import read_tensors, write_tensors
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork

Network = TypeVar("Network", bound=SizedNetwork)


def write_network(path: Path, network: SizedNetwork, provenance: Mapping[str, Any]) -> None:
    """Write ``network`` with its size and provenance in the header.

    Matrices and kernels are stored in half precision, vectors (biases, normalisation) in single precision:
    half the file, and a change far below what a training step makes.
    """
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.ndim > 1 else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    header = {
        "network": type(network).__name__,
        "size": json.dumps(asdict(network.size), sort_keys=True),
        "provenance": json.dumps(dict(provenance), sort_keys=True),
    }
    write_tensors(path, tensors, header)


def read_network(path: Path, kind: type[Network]) -> Network:
    """The network that :func:`write_network` wrote, a ``kind`` or one derived from it, in single precision, on the CPU.

    Raises
    ------
    Refusal
        When the file is missing, is no safetensors file, or holds another kind or size of network.
    """
    remedy = f"restore it with `git checkout -- {path}` or train it with `dvc repro`"
    if not path.is_file():
        raise Refusal(f"{path} is missing; {remedy}")
    tensors, header = read_tensors(path, remedy)
    found_kind = header.get("network", "network of unknown kind")
    kinds = {each.__name__: each for each in (kind, *kind.__subclasses__())}
    if found_kind not in kinds:
        raise Refusal(f"{path} holds a {found_kind}, not a {kind.__name__}; {remedy}")
    kind = kinds[found_kind]
    try:
        size = _dataclass_from(kind.Size, json.loads(header["size"]))
        network = kind(size)
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"{path}: its header does not say a size that {kind.__name__} understands ({error}); {remedy}"
        ) from error
    load_parameters(network, tensors, path, remedy)
    return network.eval()


def _dataclass_from(kind: type, values: Mapping[str, Any]) -> Any:
    types = get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        inner = types.get(name)
        if isinstance(inner, type) and is_dataclass(inner):
            arguments[name] = _dataclass_from(inner, value)
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)
