"""Trained encoders on disk: safetensors with the network's size in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fse.refusal import Refusal

class SizedNetwork(nn.Module):
    """A network built from one dataclass, ``Size``, that it keeps as ``size``."""

    Size: ClassVar[type[Any]]
    size: Any


Network = TypeVar("Network", bound=SizedNetwork)


def write_encoder(path: Path, network: SizedNetwork, provenance: Mapping[str, Any]) -> None:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, header)
    part.replace(path)


def read_encoder(path: Path, kind: type[Network]) -> Network:
    """The network that :func:`write_encoder` wrote, in single precision, on the CPU.

    Raises
    ------
    Refusal
        When the file is missing, is no safetensors file, or holds another kind or size of network.
    """
    remedy = f"restore it with `git checkout -- {path}` or train it with `dvc repro`"
    if not path.is_file():
        raise Refusal(f"{path} is missing; {remedy}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise Refusal(f"{path} is no safetensors file ({error}); {remedy}") from error
    if header.get("network") != kind.__name__:
        raise Refusal(f"{path} holds a {header.get('network', 'network of unknown kind')}, not a {kind.__name__}; {remedy}")
    try:
        size = _dataclass_from(kind.Size, json.loads(header["size"]))
        network = kind(size)
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{path}: its header does not say a size that {kind.__name__} understands ({error}); {remedy}") from error
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name not in tensors:
            raise Refusal(f"{path}: parameter {name} is missing; {remedy}")
        if tensors[name].shape != tensor.shape:
            found = tuple(tensors[name].shape)
            raise Refusal(f"{path}: parameter {name} has shape {found} instead of {tuple(tensor.shape)}; {remedy}")
    network.load_state_dict({name: tensors[name].to(tensor.dtype) for name, tensor in expected.items()})
    return network.eval()


def _dataclass_from(kind: type, values: Mapping[str, Any]) -> Any:
    nested = {f.name: f.default_factory for f in fields(kind) if is_dataclass(f.default_factory)}  # type: ignore[arg-type]
    return kind(
        **{
            name: _dataclass_from(nested[name], value) if name in nested  # type: ignore[arg-type]
            else tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )
