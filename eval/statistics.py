"""How far a mean can be trusted, and whether and by how much two methods differ; everything over pictures, everything
seeded.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 9999

Sample = NDArray[np.float64]


@dataclass(frozen=True)
class MeanInterval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, *, seed: int = 0) -> MeanInterval:
    """Mean of one value a picture (N,), with its bias-corrected and accelerated (BCa) bootstrap interval.

    For N < 3, and where all values are equal, the interval is their range: nothing more is known. Where BCa
    is not defined it is the 2.5 and 97.5 percentiles of the resampled means; that is so for infinite values
    (PSNR of a perfect copy), whose mean is infinite, and with it each end that enough of the resampled means
    share.

    Raises ValueError for no values, and for NaN: what could not be measured must be counted, not averaged.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) == 0 or np.isnan(sample).any():
        raise ValueError("a mean needs at least one value a picture, and no NaN")
    mean, lowest, highest = float(sample.mean()), float(sample.min()), float(sample.max())
    if len(sample) < 3 or lowest == highest:
        return MeanInterval(mean, lowest, highest)
    ends = _bca(sample, seed) if np.isfinite(sample).all() else None
    return MeanInterval(mean, *(ends or _percentiles(sample, seed)))


def _bca(sample: Sample, seed: int) -> tuple[float, float] | None:
    """None where the correction is not defined: the values differ by rounding only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN is looked for below
        low, high = stats.bootstrap(
            (sample,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=500,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return (float(low), float(high)) if np.isfinite((low, high)).all() else None


def _percentiles(sample: Sample, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    means = np.sort([rng.choice(sample, len(sample)).mean() for _ in range(RESAMPLES)])
    low, high = (float(means[round(share * (RESAMPLES - 1))]) for share in (0.025, 0.975))
    return low, high


@dataclass(frozen=True)
class PairedDifference:
    """Two methods on the same pictures.

    Attributes
    ----------
    difference : MeanInterval
        Mean of method minus baseline, and its interval.
    p : float
        Two-sided, of "no difference"; for this comparison alone, see :func:`holm`.
    effect : float or None
        Cohen's d_z, the mean difference in units of the differences' standard deviation; None where that is 0.
    above : float
        Share of the pictures on which the method's value is the higher one, ties counted half: .5 is chance.
    """

    difference: MeanInterval
    p: float
    effect: float | None
    above: float


def paired_difference(method: ArrayLike, baseline: ArrayLike, *, seed: int = 0) -> PairedDifference:
    """Compare two methods on the same pictures, (N,) and (N,) in one order; finite values.

    The test is a permutation test that swaps the two methods picture by picture (exact up to 13 pictures,
    9,999 random swaps beyond), on the mean difference: the very quantity that is printed.
    """
    x, y = np.asarray(method, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"the two methods need the same pictures, got {x.shape} and {y.shape}")
    differences = x - y
    interval = mean_interval(differences, seed=seed)
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=500,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    effect = interval.mean / deviation if deviation > 0 else None
    above = float((np.sign(differences) + 1).mean() / 2)
    return PairedDifference(interval, float(test.pvalue), effect, above)


def smallest_p(pictures: int) -> float:
    """The least p that :func:`paired_difference` can give for a number of pictures, before any correction."""
    return 2.0 / min(1 << pictures, RESAMPLES + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Scand. J. Statist. 6, 1979), in the order given.

    Rejecting what is below alpha bounds the chance of any false rejection in the family by alpha, whatever the
    dependence between the tests. Raises ValueError for a p outside [0, 1] and for NaN.
    """
    if not all(0 <= each <= 1 for each in p):
        raise ValueError("p-values lie in [0, 1]")
    adjusted, highest = [math.nan] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return adjusted
