"""Options in a parsed pickle as plain data: numbers, texts, booleans, None, and lists and dictionaries of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from fse.checkpoints.pickle_tree import Call, Name
from fse.refusal import Refusal

_PATHS = {
    f"pathlib{module}.{kind}"
    for module in ("", "._local")  # Python 3.13 has moved them
    for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
}
_SCALARS = {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
_ARRAYS = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_BUFFERS = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}  # arrays, from protocol 5
_MAPPINGS = {"collections.OrderedDict", "collections.Counter", "dnnlib.util.EasyDict", "dnnlib.EasyDict"}

OPTION_NAMES = {"argparse.Namespace", "numpy.dtype", "numpy.ndarray", *_PATHS, *_SCALARS, *_ARRAYS, *_BUFFERS}
"""What options are made of, beside the plain things and what PyTorch itself allows; files may name them."""

_DEEPEST, _MOST = 32, 200_000
_ABSENT = object()


def pickled_bytes(value: Any) -> bytes | memoryview | None:
    """A byte string of a pickle, which protocols up to 2 write as an encoded text; None if it is none."""
    if isinstance(value, memoryview):
        return value
    if isinstance(value, Call) and value.name == "_codecs.encode":
        match value.arguments:
            case (str(text), "latin1" | "latin-1"):
                return text.encode("latin-1")
    return None


def items_of(value: Any) -> dict[Any, Any] | None:
    """The items of a dictionary or of a record of one (OrderedDict, EasyDict); None if it is neither."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Call) and value.name in _MAPPINGS:
        match value.arguments:
            case ():
                return value.items
            case (dict(items),):
                return items
    return None


def plain_options(tree: Any, path: Path) -> Any:
    """``tree`` with paths as text and NumPy's numbers as Python's; what is no option (tensors, networks) is left out.

    Raises
    ------
    Refusal
        When the options contain themselves, or are nested or repeated to no end.
    """
    left = _MOST

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth > _DEEPEST or left < 0:
            raise Refusal(
                f"{path} was not read: its options nest deeper than {_DEEPEST} or unfold to more than {_MOST} values, "
                "as no training program writes them; obtain it again from its authors"
            )
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Name):
            return value.full
        if (items := items_of(value)) is not None:
            found = {str(key): plain(item, depth + 1) for key, item in items.items()}
            kept = {key: item for key, item in found.items() if item is not _ABSENT}
            return kept if kept or not found else _ABSENT
        if isinstance(value, list | tuple | set):
            listed = sorted(value, key=repr) if isinstance(value, set) else value
            found_items = [plain(item, depth + 1) for item in listed]
            kept_items = [item for item in found_items if item is not _ABSENT]
            return kept_items if kept_items or not found_items else _ABSENT
        if (content := pickled_bytes(value)) is not None:
            return bytes(content).decode("latin-1")
        return plain_call(value, depth) if isinstance(value, Call) else _ABSENT

    def plain_call(call: Call, depth: int) -> Any:
        if call.name == "argparse.Namespace":
            return plain(call.state or {}, depth + 1)
        if call.name in _PATHS and all(isinstance(part, str) for part in call.arguments):
            return re.sub("^//+", "/", "/".join(call.arguments))
        if call.name in _SCALARS and len(call.arguments) == 2:
            return _number(*call.arguments)
        if call.name in _ARRAYS:
            return _numbers(call.state)
        if call.name in _BUFFERS and len(call.arguments) == 4:
            content, dtype, shape, order = call.arguments
            return _numbers((1, shape, dtype, order == "F", content))
        if call.name == "torch.device":
            return ":".join(str(part) for part in call.arguments)
        if call.name in ("torch.Size", "builtins.set") and call.arguments:
            found = plain(call.arguments[0], depth + 1)
            return sorted(found, key=repr) if call.name == "builtins.set" and isinstance(found, list) else found
        return _ABSENT

    options = plain(tree, 0)
    return {} if options is _ABSENT else options


def _dtype(value: Any) -> np.dtype[Any] | None:
    """The dtype of numbers that ``numpy.dtype('f8', False, True)`` and its state ``(3, '<', ...)`` stand for."""
    if not isinstance(value, Call) or value.name != "numpy.dtype":
        return None
    match value.arguments, value.state:
        case (str(code), *_), (_, "<" | ">" | "|" as order, *_) if re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            dtype: np.dtype[Any] = np.dtype(order + code)
            return dtype
    return None


def _number(dtype: Any, content: Any) -> Any:
    found, raw = _dtype(dtype), pickled_bytes(content)
    if found is None or raw is None or len(raw) != found.itemsize:
        return _ABSENT
    return np.frombuffer(raw, found).item()


def _numbers(state: Any) -> Any:
    """An array's values in nested lists, from its state (version, shape, dtype, Fortran order, content)."""
    match state:
        case (_, tuple(shape), dtype, bool(fortran), content) if all(type(side) is int and side >= 0 for side in shape):
            found, raw = _dtype(dtype), pickled_bytes(content)
            if found is None or raw is None or len(raw) % found.itemsize:
                return _ABSENT
            flat = np.frombuffer(raw, found)
            if len(shape) <= 8 and flat.size == np.prod(shape, dtype=object) and flat.size <= _MOST:
                return flat.reshape(shape, order="F" if fortran else "C").tolist()
    return _ABSENT
