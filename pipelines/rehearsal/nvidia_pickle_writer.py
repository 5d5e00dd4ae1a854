"""Writes pickles as stylegan2-ada-pytorch and stylegan3 do (``torch_utils/persistence.py``): networks with sources.

The modules ``torch_utils.persistence`` and ``dnnlib.util`` exist while a file is written, and are gone again when it
is read.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.storage import TypedStorage, _load_from_bytes

from pipelines.rehearsal.pytorch_file_writer import legacy_bytes


class EasyDict(dict[str, Any]):
    """A dictionary whose items are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("only its name is written")


class Persistent(nn.Module):
    """A module that is pickled as ``persistence.persistent_class`` has it: with its source, by its state."""

    source = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._init_args = args
        self._init_kwargs = kwargs

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": Persistent.source,
            "class_name": type(self).__name__,
            "state": self.__dict__,
        }
        return (_reconstruct_persistent_obj, (meta,), None)


class Generator(Persistent):
    """The outermost network."""


class Layer(Persistent):
    """Anything inside."""


def grow(tensors: Mapping[str, Tensor], parameters: set[str], options: Mapping[str, Any]) -> Generator:
    """A network with the state ``tensors``, in modules by the dots in the names."""
    network = Generator(**options)
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        module: nn.Module = network
        for parent in parents:
            if parent not in module._modules:
                # a plain module here and there, as the official networks have
                module.add_module(parent, nn.ModuleList() if parent == "plain" else Layer(parent, activation="lrelu"))
            module = module.get_submodule(parent)
        if name in parameters:
            module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
        else:
            module.register_buffer(last, tensor)
    return network


@contextmanager
def official_modules() -> Iterator[None]:
    """The modules that the official classes live in, as far as pickling asks for them."""
    places: dict[Any, str] = {_reconstruct_persistent_obj: "torch_utils.persistence", EasyDict: "dnnlib.util"}
    names = {name for full in places.values() for name in (full.partition(".")[0], full)}
    assert not names & sys.modules.keys()
    before = {item: item.__module__ for item in places}
    try:
        sys.modules.update({name: ModuleType(name) for name in names})
        for item, module in places.items():
            setattr(sys.modules[module], item.__name__, item)
            item.__module__ = module
        yield
    finally:
        for item, module in before.items():
            item.__module__ = module
        for name in names:
            del sys.modules[name]


def write_nvidia_pickle(path: Path, content: Any, source: str, protocol: int = 4) -> None:
    """Pickle ``content``; every network in it carries ``source``, which the official loader runs and ours does not."""
    Persistent.source = source
    with official_modules(), path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol)
        pickler.dispatch_table = copyreg.dispatch_table | {TypedStorage: _reduced}
        pickler.dump(content)


def _reduced(storage: TypedStorage) -> tuple[Any, ...]:
    """As PyTorch pickles a storage: a whole file of its older form inside a byte string."""
    return _load_from_bytes, (legacy_bytes(storage),)


def snapshot(network: nn.Module) -> dict[str, Any]:
    """What the official training saves."""
    return {
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="/data/x.zip"),
        "G": network,
        "D": Layer(nn.BatchNorm1d(2)),
        "G_ema": network,
        "augment_pipe": None,
    }
