"""NVIDIA's pickles of StyleGAN2-ADA and StyleGAN3 (.pkl), without their code.

Such a file is a dictionary with the networks G, D and G_ema. Each network carries the source code of its class,
which the official loader executes. The layout (``torch_utils/persistence.py`` of stylegan2-ada-pytorch and
stylegan3): a persistent object is a call of ``torch_utils.persistence._reconstruct_persistent_obj`` with one
dictionary of ``type`` ("class"), ``version``, ``module_src`` (the source), ``class_name`` and ``state``, which is
what ``torch.nn.Module`` keeps in its ``__dict__``, the constructor's arguments among it. Here it is parsed by
:mod:`fse.checkpoints.pickle_tree`, and the parameters, buffers and arguments of G_ema are taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fse.checkpoints.checkpoint import Checkpoint
from fse.checkpoints.pickle_tree import Call, Persistent, parse_pickle
from fse.checkpoints.pickled_options import OPTION_NAMES, items_of, pickled_bytes, plain_options
from fse.checkpoints.pickled_tensors import TENSOR_NAMES, refuse_unfolding, storage_record, tensor_record
from fse.checkpoints.pytorch_file import LEGACY_MAGIC, legacy_layout, map_file
from fse.refusal import Refusal

_PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
_STORAGE = "torch.storage._load_from_bytes"
_NAMES = TENSOR_NAMES | OPTION_NAMES | {_PERSISTENT, _STORAGE, "dnnlib.util.EasyDict", "dnnlib.EasyDict"}
_REMEDY = "obtain the file again from its authors"
_MOST_ENTRIES, _DEEPEST = 200_000, 32


def read_nvidia_pickle(path: Path) -> Checkpoint:
    """G_ema of an official pickle: its tensors by the names of its state dict, its constructor's arguments.

    Parameters
    ----------
    path : Path
        Only G_ema's storages are copied out of it, one at a time.

    Returns
    -------
    Checkpoint
        Options are the keyword arguments that the network was built with, and its ``class_name``.

    Raises
    ------
    Refusal
        When it is TensorFlow's kind of file, has no G_ema, is damaged, or asks for anything else than networks,
        tensors and plain data.
    """

    def allowed(name: str) -> bool:
        if name.startswith("dnnlib.tflib."):
            raise Refusal(
                f"{path} is the TensorFlow version of this network; obtain the PyTorch version, which NVIDIA publishes "
                "for StyleGAN2-ADA and StyleGAN3, or for StyleGAN2 rosinality's conversion (.pt)"
            )
        return name in _NAMES or name.startswith("torch.nn.modules.")  # these, too, are only ever records

    tree, _ = parse_pickle(map_file(path), 0, allowed, path, _REMEDY)
    networks = items_of(tree)
    if networks is None or "G_ema" not in networks:
        raise Refusal(f"{path} has no network G_ema, so it is no pickle of StyleGAN2-ADA or StyleGAN3; {_REMEDY}")
    meta = _persistent_object(networks["G_ema"])
    if meta is None or not isinstance(meta.get("class_name"), str):
        raise Refusal(f"{path}: its G_ema is no network as StyleGAN2-ADA and StyleGAN3 write it; {_REMEDY}")

    tensors: dict[str, Tensor] = {}
    storages: dict[int, Tensor] = {}
    for name, call in _Modules(path).entries(networks["G_ema"]):
        tensors[name] = _tensor(call, storages, path)
    refuse_unfolding(tensors, path.stat().st_size, path, _REMEDY)
    state = items_of(meta["state"]) or {}
    options = plain_options(items_of(state.get("_init_kwargs")) or {}, path)
    return Checkpoint(path, "nvidia-pickle", tensors, options | {"class_name": meta["class_name"]})


def _persistent_object(value: Any) -> dict[Any, Any] | None:
    """The description of a persistent object, or None if ``value`` is none."""
    if not isinstance(value, Call) or value.name != _PERSISTENT or len(value.arguments) != 1:
        return None
    meta = items_of(value.arguments[0])
    if meta is None or meta.get("type") != "class" or items_of(meta.get("state")) is None:
        return None
    return meta


class _Modules:
    """Walks a network's modules as ``Module.state_dict`` does."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, _MOST_ENTRIES

    def entries(self, module: Any, prefix: str = "") -> Iterator[tuple[str, Call]]:
        """Names and calls of the parameters and persistent buffers of ``module`` and the modules in it."""
        where = prefix.removesuffix(".") or "G_ema"
        meta = _persistent_object(module)
        state = items_of(meta["state"] if meta is not None else module.state if isinstance(module, Call) else None)
        if state is None:
            raise self._refusal(where, "no module")
        buffers = self._named(state, "_buffers", where)
        for name in self._unsaved(state):
            buffers.pop(name, None)
        for name, value in (self._named(state, "_parameters", where) | buffers).items():
            if value is None:
                continue
            if not isinstance(value, Call):
                raise self._refusal(prefix + name, "no tensor")
            yield prefix + name, value
        for name, value in self._named(state, "_modules", where).items():
            if value is not None:
                yield from self.entries(value, f"{prefix}{name}.")

    def _named(self, state: dict[Any, Any], entry: str, where: str) -> dict[str, Any]:
        items = items_of(state.get(entry))
        self._count(1 + len(items or ()), where)
        if items is None or not all(isinstance(name, str) and name and "." not in name for name in items):
            raise self._refusal(where, f"a module without proper {entry}")
        return dict(items)

    def _unsaved(self, state: dict[Any, Any]) -> list[str]:
        names = state.get("_non_persistent_buffers_set")
        if isinstance(names, Call) and names.arguments:  # protocols up to 3: builtins.set([...])
            names = names.arguments[0]
        if not isinstance(names, set | list):
            return []
        self._count(len(names), "_non_persistent_buffers_set")
        return [name for name in names if isinstance(name, str)]

    def _count(self, entries: int, where: str) -> None:
        self.left -= entries
        if where.count(".") > _DEEPEST or self.left < 0:
            raise Refusal(f"{self.path} was not read: its modules contain themselves, or repeat endlessly; {_REMEDY}")

    def _refusal(self, name: str, what: str) -> Refusal:
        return Refusal(f"{self.path} was not read: its {name[:200]!a} is {what}; {_REMEDY}")


def _tensor(call: Call, storages: dict[int, Tensor], path: Path) -> Tensor:
    """A tensor out of the pickle; ``storages`` holds those read before, by the identity of their record."""
    record = tensor_record(call, path, _REMEDY)
    source = record.storage if record is not None else None
    if record is None or not isinstance(source, Call) or source.name != _STORAGE or len(source.arguments) != 1:
        raise Refusal(f"{path} was not read: its pickle has a parameter that is no tensor; {_REMEDY}")
    if id(source) not in storages:
        storages[id(source)] = _storage(source.arguments[0], path)
    flat = storages[id(source)]
    if not record.fits(flat.numel()):
        raise Refusal(f"{path} was not read: its pickle has a tensor that exceeds its storage; {_REMEDY}")
    return (
        flat.as_strided(record.shape, record.stride, record.offset) if record.elements else flat.new_empty(record.shape)
    )


def _storage(value: Any, path: Path) -> Tensor:
    """A storage, which is pickled as a whole file of PyTorch's older form inside a byte string."""
    content = pickled_bytes(value)
    if content is None or bytes(content[: len(LEGACY_MAGIC)]) != LEGACY_MAGIC:
        raise Refusal(f"{path} was not read: its pickle has a storage that is no file of PyTorch; {_REMEDY}")
    tree, storages = legacy_layout(memoryview(content), path)
    if not isinstance(tree, Persistent):
        raise Refusal(f"{path} was not read: its pickle has a storage that is something else; {_REMEDY}")
    record = storage_record(tree, path, _REMEDY)
    raw = storages.get(record.key)
    if raw is None or len(raw) != record.size:
        raise Refusal(f"{path} is damaged or cut short: a storage is smaller than its pickle says; {_REMEDY}")
    return (
        torch.frombuffer(bytearray(raw), dtype=record.dtype) if record.elements else torch.empty(0, dtype=record.dtype)
    )
