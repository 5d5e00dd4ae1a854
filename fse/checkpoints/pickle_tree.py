"""A pickle parsed, and not run: what it would call stands in the result as a record of the call.

A pickle is a program for a stack machine whose instructions import and call whatever they name. Weights need a
small part of that language, so a small machine of our own reads it: it imports nothing and calls nothing, every
name is checked against a list of allowed ones as soon as it is read, and an instruction that no writer of weights
uses is refused. Time and memory are linear in the size of the file; large byte strings stay where they are, as
views of it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fse.refusal import Refusal

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = {  # instructions that push their own argument
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
}
_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}  # bytes of the length before the content
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LONGEST_NAME = 256
_MOST_INSTRUCTIONS = 2_000_000  # some ten seconds; the largest official files have a tenth of it


def is_key(value: Any) -> bool:
    """Whether hashing is harmless: nested tuples take exponential time, and big integers can all collide."""
    return type(value) in (str, float, bool, type(None)) or (type(value) is int and value.bit_length() < 60)


@dataclass(frozen=True)
class Name:
    """Something that the pickle names (a class, a function, a dtype), by ``module.name``."""

    full: str


@dataclass(eq=False)
class Call:
    """A call that the pickle asks for: ``name(*arguments)``, then its ``state`` and its ``items`` are set."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Persistent:
    """A thing kept outside the pickle (in PyTorch's files a storage), by its identifier."""

    identifier: Any


def parse_pickle(
    content: memoryview, start: int, allowed: Callable[[str], bool], path: Path, remedy: str
) -> tuple[Any, int]:
    """The object that the pickle at ``content[start:]`` describes, and where the pickle ends.

    Parameters
    ----------
    content : memoryview
        Of bytes; byte strings of the result are views of it.
    start : int
        Where in ``content`` the pickle begins.
    allowed : callable
        Says of ``module.name`` whether the file may name it.
    path : Path
        For messages.
    remedy : str
        How the messages end.

    Returns
    -------
    tree : object
        Plain data with :class:`Call`, :class:`Name`, :class:`Persistent` and views of ``content`` among it. Parts
        can be shared, and lists and dictionaries can contain themselves.
    end : int

    Raises
    ------
    Refusal
        When it names something that is not allowed, uses an instruction that weights do not need, or is damaged.
    """
    source = _Source(content, start)
    machine = _Machine(content, allowed, path, remedy)
    try:
        instructions = pickletools.genops(source)  # type: ignore[arg-type]
        for count, (instruction, argument, position) in enumerate(instructions):
            if count > _MOST_INSTRUCTIONS:
                raise Refusal(f"{path} was not read: its pickle has more than {count} instructions; {remedy}")
            machine.do(instruction.name, argument, position or 0, source.position)
        (tree,) = machine.stack
    except Refusal:
        raise
    except Exception as error:  # a damaged program fails in any of a machine's ways
        raise Refusal(
            f"{path} is damaged or cut short: its pickle breaks off near byte {source.position}; {remedy}"
        ) from error
    return tree, source.position


class _Source:
    """The part of a binary file's interface that ``pickletools`` reads by."""

    def __init__(self, content: memoryview, position: int) -> None:
        self.content, self.position = content, position

    def read(self, count: int) -> bytes:
        taken = bytes(self.content[self.position : self.position + count])
        self.position += len(taken)
        return taken

    def readline(self) -> bytes:
        line, newline, _ = bytes(self.content[self.position : self.position + _LONGEST_NAME]).partition(b"\n")
        self.position += len(line) + len(newline)
        return line + newline

    def tell(self) -> int:
        return self.position


class _Machine:
    def __init__(self, content: memoryview, allowed: Callable[[str], bool], path: Path, remedy: str) -> None:
        self.content, self.allowed, self.path, self.remedy = content, allowed, path, remedy
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def do(self, instruction: str, argument: Any, position: int, end: int) -> None:
        """One instruction, which lies at ``content[position:end]``."""
        stack = self.stack
        if instruction in _ARGUMENTS:
            stack.append(argument)
        elif instruction in _CONSTANTS:
            stack.append(_CONSTANTS[instruction])
        elif instruction in _BYTES:
            stack.append(self.content[position + 1 + _BYTES[instruction] : end])
        elif instruction in _TUPLES:
            count = _TUPLES[instruction]
            stack[len(stack) - count :] = [tuple(self._last(count))]
        else:
            do = getattr(self, f"_{instruction.lower()}", None)
            if do is None:
                raise self._refusal(f"uses the instruction {instruction}, which no file of weights needs")
            do(argument)

    def _refusal(self, reason: str) -> Refusal:
        return Refusal(f"{self.path} was not read and nothing in it was run: its pickle {reason}; {self.remedy}")

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is too short")
        return self.stack[len(self.stack) - count :]

    def _since_mark(self) -> list[Any]:
        taken, self.stack = self.stack, self.outer.pop()
        return taken

    # Instructions without effect here, by the names of ``pickletools``.
    def _proto(self, _: Any) -> None:
        pass

    _frame = _stop = _proto

    # Containers.
    def _mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_set(self, _: Any) -> None:
        self.stack.append(set())

    def _tuple(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise self._refusal("appends to something that is no list")
        self.stack[-1].extend(items)

    def _additems(self, _: Any) -> None:
        items = self._since_mark()
        if type(self.stack[-1]) is not set or not all(map(is_key, items)):
            raise self._refusal("has a set of something else than numbers and texts")
        self.stack[-1].update(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1].items if type(self.stack[-1]) is Call else self.stack[-1]
        if type(target) is not dict or not all(map(is_key, items[::2])):
            raise self._refusal("has a dictionary whose keys are something else than numbers and texts")
        target.update(zip(items[::2], items[1::2], strict=True))

    # The memo.
    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _long_binput = _binput

    def _binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _long_binget = _binget

    # What would run code.
    def _global(self, argument: str) -> None:
        module, name = argument.split(" ")
        self._push_name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise self._refusal("names something by what is no text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        module = "builtins" if module == "__builtin__" else module  # protocols up to 2 write Python 2's name
        full = f"{module}.{name}"
        if not self.allowed(full):
            raise self._refusal(f"asks for {full[:_LONGEST_NAME]!a}, which no file of weights needs")
        self.stack.append(Name(full))

    def _reduce(self, _: Any) -> None:
        arguments, callee = self.stack.pop(), self.stack.pop()
        if type(callee) is not Name or type(arguments) is not tuple:
            raise self._refusal("calls something that it has computed")
        self.stack.append(Call(callee.full, arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) is not Call:
            raise self._refusal("sets the state of something that has none")
        self.stack[-1].state = state

    def _binpersid(self, _: Any) -> None:
        self.stack.append(Persistent(self.stack.pop()))
