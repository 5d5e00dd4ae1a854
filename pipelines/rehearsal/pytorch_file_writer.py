"""Writes PyTorch's files in both forms, the present zip and the one before PyTorch 1.6.

``torch.save`` still writes the older one, but names storages by their addresses in memory, so that no two files are
alike. Here they are numbered; all else is the same.
"""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from torch.storage import TypedStorage

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_SYSTEM = {"protocol_version": _PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def write_pytorch(content: Any, path: Path, *, modern: bool) -> None:
    """Tensors, and plain containers and values around them; the older form unless ``modern``."""
    if modern:
        torch.save(content, path)
    else:
        path.write_bytes(legacy_bytes(content))


def legacy_bytes(content: Any) -> bytes:
    """The older form: magic number, version and system, the pickle, the storages' names, and the storages."""
    file = io.BytesIO()
    for value in (_MAGIC, _PROTOCOL, _SYSTEM):
        pickle.dump(value, file, 2)
    pickler = _LegacyPickler(file, 2)
    pickler.dump(content)
    pickle.dump(list(pickler.storages), file, 2)
    for storage in pickler.storages.values():
        elements = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
        file.write(struct.pack("<q", elements.numel()) + elements.numpy().tobytes())
    return file.getvalue()


class _LegacyPickler(pickle.Pickler):
    """Leaves the storages out, and refers to them by number."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, TypedStorage] = {}
        self._numbers: dict[int, str] = {}

    def persistent_id(self, value: Any) -> Any:
        """Of a storage: its kind, number, place and size."""
        if not isinstance(value, TypedStorage):
            return None
        number = self._numbers.setdefault(value._untyped_storage._cdata, str(len(self._numbers)))
        self.storages.setdefault(number, value)
        return ("storage", getattr(torch, value._pickle_storage_type()), number, "cpu", value._size(), None)
