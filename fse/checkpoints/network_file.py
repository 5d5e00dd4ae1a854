"""Networks trained here on disk: safetensors with the network's size in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

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
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(_with_sorted_header(save(tensors, header)))
    part.replace(path)


def read_network(path: Path, kind: type[Network]) -> Network:
    """The network that :func:`write_network` wrote, in single precision, on the CPU.

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
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise Refusal(f"{path} is no safetensors file ({error}); {remedy}") from error
    if header.get("network") != kind.__name__:
        found_kind = header.get("network", "network of unknown kind")
        raise Refusal(f"{path} holds a {found_kind}, not a {kind.__name__}; {remedy}")
    try:
        size = _dataclass_from(kind.Size, json.loads(header["size"]))
        network = kind(size)
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"{path}: its header does not say a size that {kind.__name__} understands ({error}); {remedy}"
        ) from error
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name not in tensors:
            raise Refusal(f"{path}: parameter {name} is missing; {remedy}")
        if tensors[name].shape != tensor.shape:
            found = tuple(tensors[name].shape)
            raise Refusal(f"{path}: parameter {name} has shape {found} instead of {tuple(tensor.shape)}; {remedy}")
    network.load_state_dict({name: tensors[name].to(tensor.dtype) for name, tensor in expected.items()})
    return network.eval()


def _with_sorted_header(content: bytes) -> bytes:
    """safetensors writes metadata in another order every time; equal networks shall be equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _dataclass_from(kind: type, values: Mapping[str, Any]) -> Any:
    factories: dict[str, Any] = {field.name: field.default_factory for field in fields(kind)}
    arguments = {}
    for name, value in values.items():
        inner = factories.get(name)
        if isinstance(inner, type) and is_dataclass(inner):
            arguments[name] = _dataclass_from(inner, value)
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)
