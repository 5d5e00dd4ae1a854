"""PyTorch's own files (.pt, .pth, .pth.tar), the present zip form and the one before PyTorch 1.6.

They are loaded by ``torch.load(weights_only=True)``, which executes nothing. It does allocate what a file asks for,
though (``bytearray(10**11)``, a text encoded in hexadecimal forty times, a storage of any size), and hashes what it
is given. So the pickle is first read by :mod:`fse.checkpoints.pickle_tree`, with far fewer names allowed, and each
call in it is looked at; the same reading yields the options, for which PyTorch gets empty stand-ins.

Optimisers' states are left out: they are twice as large as the networks, and nothing here continues a training.
"""

from __future__ import annotations

import mmap
import re
import struct
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fse.checkpoints.checkpoint import Checkpoint
from fse.checkpoints.pickle_tree import Call, Persistent, is_key, parse_pickle
from fse.checkpoints.pickled_options import OPTION_NAMES, items_of, pickled_bytes, plain_options
from fse.checkpoints.pickled_tensors import (
    TENSOR_NAMES,
    StorageRecord,
    integers,
    nodes,
    refuse_unfolding,
    storage_record,
    tensor_record,
)
from fse.refusal import Refusal

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How the two forms begin; the one before PyTorch 1.6 with the pickle of its magic number."""

_REMEDY = "obtain it again from its authors"
_NAMES = TENSOR_NAMES | OPTION_NAMES
_OPTIMISER = re.compile(r"(.*_)?(optim|optimizer|opt)(_state_dict)?")


class _Ignored:
    """Stands for whatever an option is made of, while PyTorch reads the tensors."""

    def __new__(cls, *_: Any) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


# PyTorch knows a class that it may use by its module and name, and ours say that they are those of the file.
_STAND_INS: list[Any] = [
    type(name.rpartition(".")[2], (_Ignored,), {"__module__": name.rpartition(".")[0]}) for name in sorted(OPTION_NAMES)
]
_stand_ins_in_place = threading.Lock()  # PyTorch's list of allowed classes is one for all threads


def read_pytorch(path: Path) -> Checkpoint:
    """A file of ``torch.save``: tensors by dotted names, the rest as options.

    Tensors of the zip form stay in the file, mapped into memory, and are read when they are used. A file that is
    one tensor gives it the name ``tensor``.

    Raises
    ------
    Refusal
        When the file is damaged, compressed, asks for anything but tensors and plain options, or is larger
        unfolded than on disk.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        mapped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC  # what PyTorch goes by, too
    if mapped:
        tree, sizes = _zip_layout(path)
    else:
        tree, storages = legacy_layout(map_file(path), path)
        sizes = {key: len(storage) for key, storage in storages.items()}
    _check_calls(tree, sizes, path)
    kept = tree if (items := items_of(tree)) is None else _without_optimisers(items)
    options = plain_options(kept, path)  # refuses what nests or repeats without end, before it is walked below

    with _stand_ins_in_place, warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file:  # PyTorch would go by the suffix of a path
                named_otherwise = path.suffix == ".safetensors"
                content = torch.load(
                    file if named_otherwise else str(path),
                    map_location="cpu",
                    weights_only=True,
                    mmap=mapped and not named_otherwise,
                )
        except Exception as error:  # damaged bytes can end in any exception
            reason = str(error).strip().partition("\n")[0][:200]
            raise Refusal(f"{path} is no PyTorch weights file ({reason}); {_REMEDY}") from error
    content = _without_optimisers(content) if isinstance(content, dict) else {"tensor": content}
    tensors: dict[str, Tensor] = {}
    for name, tensor in _named_tensors(content):
        if name in tensors:
            raise Refusal(f"{path} holds two tensors of the name {name}; {_REMEDY}")
        tensors[name] = tensor.detach()
    if not tensors:
        raise Refusal(f"{path} holds no tensors; {_REMEDY}")
    refuse_unfolding(tensors, size, path, _REMEDY)
    return Checkpoint(path, "pytorch", tensors, options if isinstance(options, dict) else {})


def map_file(path: Path) -> memoryview:
    """The content of a file that is not empty, mapped into memory for reading."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def legacy_layout(content: memoryview, path: Path) -> tuple[Any, dict[str, memoryview]]:
    """The form before PyTorch 1.6: the parsed pickle, and the bytes of each storage.

    Five pickles (magic number, version, facts about the machine, the object, the storages' keys), then each
    storage as the number of its elements (int64) and its bytes. Storages inside NVIDIA's pickles have this form too.
    """
    position = 0
    parts = []
    for _ in range(5):
        part, position = parse_pickle(content, position, _NAMES.__contains__, path, _REMEDY)
        parts.append(part)
    _, version, machine, tree, keys = parts
    if version != 1001 or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Refusal(f"{path} was written by an unknown version of PyTorch or on a big-endian machine; {_REMEDY}")
    records = {record.key: record for record in _storage_records(tree, path)}
    storages: dict[str, memoryview] = {}
    for key in keys if isinstance(keys, list) else []:
        record = records.get(key) if isinstance(key, str) else None
        if record is None or content[position : position + 8] != struct.pack("<q", record.elements):
            raise Refusal(f"{path} is damaged or cut short: a storage is not where the pickle says; {_REMEDY}")
        position += 8
        storages[record.key] = content[position : position + record.size]
        position += record.size
    return tree, storages


def _zip_layout(path: Path) -> tuple[Any, dict[str, int]]:
    """The zip form: the parsed pickle ``NAME/data.pkl``, and the sizes of the storages ``NAME/data/KEY``."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                    raise Refusal(
                        f"{path} was not read: its member {member.filename[:200]!a} is compressed, as PyTorch never "
                        f"writes it (a small archive can unfold to any size); {_REMEDY}"
                    )
            names = {member.filename for member in members}
            if sum(member.file_size for member in members) > size or len(names) < len(members):
                raise Refusal(f"{path} was not read: its members overlap or lie beyond its end; {_REMEDY}")
            pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1:
                raise Refusal(f"{path} is a zip archive and no file of weights; unpack it")
            root = pickles[0].removesuffix("data.pkl")
            if root + "constants.pkl" in names:
                raise Refusal(f"{path} is a TorchScript program and no file of weights; {_REMEDY}")
            content = memoryview(archive.read(pickles[0]))
    except Refusal:
        raise
    except Exception as error:  # zipfile has many, for one damaged archive or another
        raise Refusal(f"{path} is damaged or cut short: it is no whole zip archive; {_REMEDY}") from error
    tree, _ = parse_pickle(content, 0, _NAMES.__contains__, path, _REMEDY)
    data = root + "data/"
    return tree, {
        member.filename.removeprefix(data): member.file_size for member in members if member.filename.startswith(data)
    }


def _storage_records(tree: Any, path: Path) -> list[StorageRecord]:
    return [storage_record(node, path, _REMEDY) for node in nodes(tree) if isinstance(node, Persistent)]


def _check_calls(tree: Any, sizes: Mapping[str, int], path: Path) -> None:
    """Refuse what PyTorch would do although no weights need it.

    ``sizes`` are those of the storages in the file, by key, in bytes.
    """
    for record in _storage_records(tree, path):
        if sizes.get(record.key) != record.size:
            raise Refusal(
                f"{path} was not read: the pickle says that storage {record.key[:50]!a} has {record.size} bytes, the "
                f"file has {sizes.get(record.key, 'none')}; {_REMEDY}"
            )
    for call in nodes(tree):
        if not isinstance(call, Call) or call.name in OPTION_NAMES:
            continue
        if (tensor := tensor_record(call, path, _REMEDY)) is not None:
            storage = tensor.storage
            if not isinstance(storage, Persistent) or not tensor.fits(storage_record(storage, path, _REMEDY).elements):
                raise Refusal(f"{path} was not read: its pickle has a tensor that exceeds its storage; {_REMEDY}")
        elif not _is_harmless(call):
            raise Refusal(f"{path} was not read: its pickle calls {call.name} as no weights need it; {_REMEDY}")


def _is_harmless(call: Call) -> bool:
    match call.name, call.arguments:
        case "collections.OrderedDict", ():
            return call.state is None or isinstance(call.state, dict)  # attributes: a state dict's versions
        case "collections.Counter", () | (dict(),):
            return call.state is None
        case "builtins.set", (list(items),):
            return call.state is None and all(map(is_key, items))
        case "torch.Size", (sides,):
            return call.state is None and integers(sides) is not None
        case "torch.device", (str(),) | (str(), int()):
            return call.state is None
    return pickled_bytes(call) is not None and call.state is None


def _without_optimisers(items: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: item for key, item in items.items() if not _OPTIMISER.fullmatch(str(key))}


def _named_tensors(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in dictionaries, lists and tuples, by their keys and places joined by dots."""
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _named_tensors(value, f"{prefix}{key}.")
    elif isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _named_tensors(value, f"{prefix}{place}.")
