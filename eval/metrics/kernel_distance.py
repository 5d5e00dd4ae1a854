"""Kernel Inception distance (Binkowski et al., ICLR 2018): squared maximum mean discrepancy of two sets of features.

The kernel is (x . y / D + 1)^3. Other implementations average over random subsets; here the estimator runs over all
pairs of pictures and depends on no seed. It is the one that is unbiased for *pairs*, as sources and their
reconstructions are (Gretton et al., JMLR 2012, Lemma 6): no picture is compared with its own reconstruction. The form
for independent sets, which others use, does compare them, and comes out too low by an amount that goes with 1/n. So,
unlike a Fréchet distance, this one does not depend on the number of pictures.

The 95 % interval is by the jackknife that leaves a picture and its reconstruction out: rough where the distance is near
0, since the estimator is not normal there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval.metrics.metric import SetValue

_BLOCK = 512


def kernel_distance(pairs: NDArray[np.float32]) -> SetValue:
    """Features (N, 2, D) of N >= 3 sources and their reconstructions -> KID, which may be below 0.

    Memory is that of 512 x 512 pairs, whatever N.
    """
    n = len(pairs)
    of_picture = np.zeros(n)  # sums over the pairs of pictures that a picture is part of
    for first in range(0, n, _BLOCK):
        x, y = _features(pairs, first)
        for second in range(0, n, _BLOCK):
            x2, y2 = _features(pairs, second)
            values = _kernel(x, x2) + _kernel(y, y2) - _kernel(x, y2) - _kernel(y, x2)
            if second == first:
                np.fill_diagonal(values, 0)
            of_picture[first : first + len(x)] += values.sum(1)
    total = of_picture.sum()
    value = total / (n * (n - 1))
    left_out = (total - 2 * of_picture) / ((n - 1) * (n - 2))
    error = np.sqrt((n - 1) * np.square(left_out - left_out.mean()).mean())
    return SetValue(float(value), float(value - 1.96 * error), float(value + 1.96 * error))


def _features(pairs: NDArray[np.float32], first: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = pairs[first : first + _BLOCK].astype(np.float64).swapaxes(0, 1)
    return x, y


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return values
