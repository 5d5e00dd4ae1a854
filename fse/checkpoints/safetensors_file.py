"""safetensors files: what everything is converted to. A header in JSON, then the tensors' bytes; no code to run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fse.checkpoints.checkpoint import Checkpoint
from fse.refusal import Refusal

_DTYPES = {  # in the order in which the library writes them, the strictest alignment first
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_tensors(path: Path, remedy: str = "obtain it again") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, which stay in the file and are mapped into memory, and the texts of the header.

    Raises
    ------
    Refusal
        When the file is none of safetensors, is damaged or is cut short.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception as error:  # the library has one of its own, and others for types that PyTorch has not
        raise Refusal(f"{path} is no safetensors file ({error}); {remedy}") from error


def read_safetensors(path: Path) -> Checkpoint:
    """A converted file with the options that the original had; any other file with its header as options.

    Raises
    ------
    Refusal
        When the file is none of safetensors, or its header is not what this project writes.
    """
    tensors, header = read_tensors(path)
    try:
        if "options" in header:
            options = json.loads(header["options"])
        else:
            options = {
                name: json.loads(text) if name in ("size", "provenance") else text for name, text in header.items()
            }
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path}: the options in its header are no JSON ({error}); convert the original again") from error
    if not isinstance(options, dict):
        raise Refusal(f"{path}: the options in its header are no dictionary; convert the original again")
    return Checkpoint(path, "safetensors", tensors, options)


def write_checkpoint(path: Path, checkpoint: Checkpoint, kind: str, provenance: Mapping[str, Any]) -> None:
    """Convert: all tensors under their own names, and in the header what the file was and where it came from."""
    header = {
        "format": checkpoint.format,
        "kind": kind,
        "options": json.dumps(dict(checkpoint.options), sort_keys=True),
        "provenance": json.dumps(dict(provenance), sort_keys=True),
    }
    write_tensors(path, checkpoint.tensors, header)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write ``tensors`` with ``header``; equal content gives equal bytes, and the file appears whole or not at all.

    The library's own writer puts the header in another order every time and builds the file in memory; this
    one goes tensor by tensor, in the library's order.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES or tensor.layout != torch.strided:
            raise Refusal(f"{path} was not written: safetensors has no place for {name}, a tensor of {tensor.dtype}")
    ranks = {dtype: rank for rank, dtype in enumerate(_DTYPES)}
    order = sorted(tensors, key=lambda name: (ranks[tensors[name].dtype], name))
    description: dict[str, Any] = {"__metadata__": dict(header)} if header else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.itemsize
        description[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name in order:
                flat = tensors[name].detach().cpu().contiguous().reshape(-1)
                file.write(flat.view(torch.uint8).numpy().data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
