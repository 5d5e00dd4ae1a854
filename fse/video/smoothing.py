"""Smoothing over time, by a Gaussian, on a stream that is never held as a whole."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Values = NDArray[np.float64]


@lru_cache(maxsize=1024)
def _kernel(before: int, after: int, sigma: float) -> Values:
    """Weights of ``before`` + 1 + ``after`` neighbours: a line fitted with Gaussian weights, at its middle.

    With as many neighbours on either side that is the Gaussian mean itself. Towards an end, where the mean of a moving
    face would lag behind it by up to 0.8 sigma of its motion, the line goes with it.
    """
    offset = np.arange(-before, after + 1, dtype=np.float64)
    weight = np.exp(-0.5 * (offset / sigma) ** 2)
    mean, slope, square = weight.sum(), (weight * offset).sum(), (weight * offset**2).sum()
    if before + after == 0:
        return np.ones(1)
    kernel: Values = weight * (square - slope * offset) / (mean * square - slope**2)
    return kernel


def smooth(
    items: Iterable[T],
    run_of: Callable[[T], Hashable],
    values_of: Callable[[T], Values],
    replaced: Callable[[T, Values], T],
    sigma: float,
) -> Iterator[T]:
    """Every item in order, its values smoothed over the neighbours of its run with ``sigma`` items; 0 smooths nothing.

    ``run_of`` names the run that an item belongs to, None for none: such an item passes as it is, and nothing is
    smoothed across it, nor from one run into the next. The Gaussian ends at 3 sigma, and so many items are held ahead
    of the one that is given out; of those behind it, values only.
    """
    if sigma <= 0:
        yield from items
        return
    radius = math.ceil(3 * sigma)
    behind: deque[tuple[Hashable, Any]] = deque(maxlen=radius)
    ahead: deque[T] = deque()

    def take() -> T:
        item = ahead.popleft()
        run = run_of(item)
        if run is None:
            behind.append((None, None))
            return item
        before = [values for _, values in takewhile(lambda entry: entry[0] == run, reversed(behind))][::-1]
        after = [values_of(other) for other in takewhile(lambda other: run_of(other) == run, ahead)]
        value = values_of(item)
        behind.append((run, value))
        kernel = _kernel(len(before), len(after), sigma)
        return replaced(item, np.tensordot(kernel, np.stack([*before, value, *after]), 1))

    for item in items:
        ahead.append(item)
        if len(ahead) > radius:
            yield take()
    while ahead:
        yield take()
