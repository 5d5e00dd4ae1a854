"""Whom the figures of pictures show: the contest. A column holds no more; tables, curves and the browser show all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from eval.contest import OUT_OF_CONTEST, ROWS

Value = TypeVar("Value")


def contestants(methods: Mapping[str, Value]) -> dict[str, Value]:
    """METHOD -> anything, without the rows whose training had a larger budget."""
    return {method: value for method, value in methods.items() if method not in OUT_OF_CONTEST}


def left_out(methods: Iterable[str]) -> str:
    """The end of a caption that says who is not drawn, with a space in front; nothing where all are."""
    labels = [ROWS[method] for method in methods if method in OUT_OF_CONTEST]
    return f" Not drawn, as out of the contest: {'; '.join(labels)}." if labels else ""
