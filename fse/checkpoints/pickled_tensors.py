"""Tensors in a parsed pickle: the storages that it names, and which part of a storage a tensor is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fse.checkpoints.pickle_tree import Call, Name, Persistent
from fse.refusal import Refusal

DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
"""The element type of each kind of storage."""

TENSOR_NAMES = {
    *DTYPES,
    *(str(dtype) for dtype in DTYPES.values()),
    *("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"),
    *("torch.Size", "torch.device", "collections.OrderedDict", "collections.Counter", "builtins.set", "_codecs.encode"),
}
"""What tensors, and the dictionaries around them, are made of; files may name them."""


@dataclass(frozen=True)
class StorageRecord:
    """A flat array outside the pickle: its key there, the type and the number of its elements."""

    key: str
    dtype: torch.dtype
    elements: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class TensorRecord:
    """The part of a storage that a tensor is; ``storage`` is what the pickle has in its place."""

    storage: Any
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def elements(self) -> int:
        """As many as the tensor shows, which can be more than the storage has, if it repeats them."""
        count = 1
        for side in self.shape:
            count *= side
        return count

    def fits(self, elements: int) -> bool:
        """Whether a storage of so many elements holds all that the tensor shows."""
        if self.elements == 0:
            return True
        return self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)) < elements


def storage_record(node: Persistent, path: Path, remedy: str) -> StorageRecord:
    """The storage that a persistent identifier ``("storage", type, key, device, elements[, None])`` means."""
    match node.identifier:
        case ("storage", Name(full=kind), str(key), str(), int(elements), *rest) if (
            kind in DTYPES and 0 <= elements < 2**48 and rest in ([], [None])
        ):
            return StorageRecord(key, DTYPES[kind], elements)
    raise Refusal(f"{path} was not read: its pickle refers to something outside that is no storage; {remedy}")


def tensor_record(call: Call, path: Path, remedy: str) -> TensorRecord | None:
    """The tensor that ``call`` would rebuild, or None if it would rebuild none.

    Parameters are the tensors in them. Nothing is allocated, whatever the sizes say.
    """
    if call.name == "torch._utils._rebuild_parameter" and call.arguments and isinstance(call.arguments[0], Call):
        call = call.arguments[0]
    if not call.name.startswith("torch._utils._rebuild_"):
        return None
    match call.arguments:
        case (storage, int(offset), shape, stride, *_) if "_tensor" in call.name and call.state is None:
            sides, steps = integers(shape), integers(stride)
            if sides is not None and steps is not None and len(sides) == len(steps) <= 16 and offset >= 0:
                return TensorRecord(storage, offset, sides, steps)
    raise Refusal(f"{path} was not read: its pickle has a tensor whose size makes no sense; {remedy}")


def integers(value: Any) -> tuple[int, ...] | None:
    """Sizes or strides, which are a tuple or a ``torch.Size``; None if ``value`` is neither."""
    if isinstance(value, Call) and value.name == "torch.Size" and len(value.arguments) == 1:
        value = value.arguments[0]
    if not isinstance(value, tuple | list) or not all(type(item) is int and 0 <= item < 2**48 for item in value):
        return None
    return tuple(value)


def nodes(tree: Any) -> Iterator[Call | Persistent]:
    """Every call and persistent identifier in ``tree``, each once, however often it is shared."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, Call | Persistent | dict | list | tuple) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        else:
            yield value
            if isinstance(value, Call):
                waiting += [value.arguments, value.state, value.items]
            else:
                waiting.append(value.identifier)


def refuse_unfolding(tensors: Mapping[str, Tensor], size: int, path: Path, remedy: str) -> None:
    """Refuse tensors that repeat one storage (strides of 0, many names) to far more than the file's ``size``."""
    unfolded = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    if unfolded > 4 * size + 2**20:
        raise Refusal(f"{path} was not read: its {size} bytes unfold to tensors of {unfolded} bytes; {remedy}")
