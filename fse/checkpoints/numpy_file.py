"""Arrays that NumPy has saved as one object: a dictionary of arrays in an ``.npy`` file, such as MTCNN's weights.

``numpy.load`` unpickles such a file, which runs what it names. Here the pickle in it is parsed
(:mod:`fse.checkpoints.pickle_tree`), and the arrays are read off the records.
"""

from __future__ import annotations

import io
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fse.checkpoints.pickle_tree import Call, parse_pickle
from fse.checkpoints.pickled_options import items_of, pickled_bytes
from fse.checkpoints.pytorch_file import map_file
from fse.refusal import Refusal

_RECONSTRUCT = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_NAMES = {"numpy.ndarray", "numpy.dtype", "_codecs.encode", *_RECONSTRUCT}
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 4096


def read_numpy_dictionary(path: Path, remedy: str) -> dict[str, Tensor]:
    """The floating-point arrays of a dictionary that ``numpy.save`` wrote, by name, as float32 on the CPU.

    Nothing of the file is executed, whatever it holds.

    Parameters
    ----------
    path : Path
        Versions 1 and 2 of the format, pickled by any protocol up to 4.
    remedy : str
        How the messages end.

    Raises
    ------
    Refusal
        When the file is missing, damaged, is no such dictionary, or asks for code to be run.
    """
    if not path.is_file():
        raise Refusal(f"there is no weights file {path}; {remedy}")
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    if not head.startswith(_MAGIC):
        raise Refusal(f"{path} is no array of NumPy; {remedy}")
    tree, _ = parse_pickle(map_file(path), _start(head, path, remedy), _NAMES.__contains__, path, remedy)
    match tree:
        case Call(name=name, state=(_, (), _, _, [content])) if name in _RECONSTRUCT:
            items = items_of(content)
        case _:
            items = None
    if not items:
        raise Refusal(f"{path} holds no dictionary of arrays; {remedy}")
    return {str(name): _tensor(array, f"{path}: its {str(name)[:200]!a}", remedy) for name, array in items.items()}


def _start(head: bytes, path: Path, remedy: str) -> int:
    """Where the pickle begins, behind a header that says it is one object."""
    stream = io.BytesIO(head)
    try:
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(stream)[0]](stream)
    except (ValueError, KeyError, EOFError) as error:
        raise Refusal(f"{path} is damaged or cut short ({error}); {remedy}") from error
    if not dtype.hasobject or shape != ():
        raise Refusal(f"{path} holds one array and no dictionary of arrays; {remedy}")
    return stream.tell()


def _tensor(array: Any, what: str, remedy: str) -> Tensor:
    """An array from its record: the call that makes it empty, and its state."""
    match array:
        case Call(name=name, state=(_, tuple(shape), Call(name="numpy.dtype") as dtype, bool(fortran), content)) if (
            name in _RECONSTRUCT
        ):
            raw = pickled_bytes(content)
        case _:
            raise Refusal(f"{what} is no array of numbers; {remedy}")
    match dtype.arguments, dtype.state:
        case (("f4" | "f8") as code, *_), (_, ("<" | ">") as order, *_):
            kind = np.dtype(order + code)
        case _:
            raise Refusal(f"{what} is no array of floating-point numbers; {remedy}")
    if (
        not all(type(side) is int and side >= 0 for side in shape)
        or raw is None
        or len(raw) != prod(shape) * kind.itemsize
    ):
        raise Refusal(f"{what} is damaged: its size is not that of its shape; {remedy}")
    values = np.frombuffer(raw, kind).astype(np.float32).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(values))
