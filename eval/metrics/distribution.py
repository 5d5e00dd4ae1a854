"""Fréchet distances between the features of source pictures and those of their reconstructions.

FD-EffNet on EfficientNet-Lite0, and FID on pytorch-fid's Inception where its weights are on the machine, with KID
(:mod:`eval.metrics.kernel_distance`) on the same features beside it. The
formula is pytorch-fid's, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) with unbiased covariances; the trace of
the root comes from eigenvalues or singular values in float64 instead of ``scipy.linalg.sqrtm``.

A Fréchet distance grows as the pictures become fewer, so it compares only at an equal number of pictures. Beside it
stands what it would be for infinitely many, by Chong and Forsyth's extrapolation (CVPR 2020).
"""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from eval.metrics import efficientnet_lite0
from eval.metrics.efficientnet_lite0 import EfficientNetLite0
from eval.metrics.hub_cache import cached_weights
from eval.metrics.inception import FIDInception
from eval.metrics.kernel_distance import kernel_distance
from eval.metrics.metric import Column, SetValue

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

FEWEST_PICTURES = 32
"""With fewer, no Fréchet or kernel distance is stated, unless a suite is given another number."""

TO_REFERENCE = "fid_to_"
"""Beginning of the keys of distances to another set than the sources."""

SUBSETS = 10
"""Random subsets at each number of pictures that the extrapolation averages over."""


def subset_sizes(pictures: int, fewest: int = FEWEST_PICTURES) -> list[int]:
    """The numbers of pictures that the extrapolation's line goes through: eight, from half of them to all, evenly
    spaced in 1/n. Empty where the smallest subset would have less than ``fewest``.
    """
    if pictures < 2 * fewest:
        return []
    return [round(1 / inverse) for inverse in np.linspace(2 / pictures, 1 / pictures, 8)]


def frechet_distance(
    mean1: Array,
    covariance1: Array,
    mean2: Array,
    covariance2: Array,
    *,
    factor: Callable[[Array], Array] | None = None,
) -> float:
    """Squared Fréchet distance of two Gaussians, means (D,), covariances (D, D); at least 0.

    ``factor`` finds an L with L L^T = covariance, by default from eigenvalues.
    """
    factor = factor or _factor
    cross = float(np.linalg.svd(factor(covariance1).T @ factor(covariance2), compute_uv=False).sum())
    return _assemble(mean1 - mean2, float(np.trace(covariance1)), float(np.trace(covariance2)), cross)


def frechet_distance_of_samples(x: Array, y: Array) -> float:
    """The same from the samples (N, D) and (M, D) themselves, cheap where N and M are below D.

    With X and Y the centred samples, the eigenvalues of C1 C2 are the squared singular values of the N x M
    matrix X Y^T / sqrt((N - 1) (M - 1)).
    """
    mean1, mean2 = x.mean(0), y.mean(0)
    x, y = (x - mean1) / math.sqrt(len(x) - 1), (y - mean2) / math.sqrt(len(y) - 1)
    cross = float(np.linalg.svd(x @ y.T, compute_uv=False).sum())
    return _assemble(mean1 - mean2, float(np.square(x).sum()), float(np.square(y).sum()), cross)


def _assemble(difference: Array, trace1: float, trace2: float, cross: float) -> float:
    return max(float(difference @ difference) + trace1 + trace2 - 2 * cross, 0.0)


def _factor(covariance: Array) -> Array:
    """L (D, rank) with L L^T = covariance; eigenvalues within rounding of zero count as zero.

    The squared singular values of L1^T L2 are the eigenvalues of C1 C2 other than 0.
    """
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values.max() * len(values) * np.finfo(np.float64).eps
    factor: Array = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def _triangular(covariance: Array) -> Array:
    """The same by Cholesky, ten times as fast, where the covariance has full rank."""
    try:
        triangle: Array = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        return triangle
    except np.linalg.LinAlgError:
        return _factor(covariance)


class GaussianSums:
    """Mean and unbiased covariance of features (D,) from running float64 sums; memory D^2, whatever the
    number.
    """

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.total = np.zeros(dimensions)
        self.outer = np.zeros((dimensions, dimensions))

    def update(self, features: Array) -> None:
        """features: (B, D) float64."""
        self.count += len(features)
        self.total += features.sum(0)
        self.outer += features.T @ features

    def state(self) -> dict[str, Array]:
        """What :meth:`resume` goes on from."""
        return {"count": np.array(self.count, dtype=np.float64), "total": self.total, "outer": self.outer}

    def resume(self, count: Array, total: Array, outer: Array) -> None:
        """Go on from the sums of pictures seen earlier."""
        self.count, self.total, self.outer = int(count), total, outer

    @property
    def mean(self) -> Array:
        return self.total / self.count

    @property
    def covariance(self) -> Array:
        """Of at least two pictures."""
        return (self.outer - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


class PairedFeatures:
    """Features of sources and reconstructions: running sums in memory, the features themselves in a temporary
    file.

    The file (unnamed, gone with the process) serves the bootstrap only: 8 D bytes a pair of pictures.
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.sources = GaussianSums(dimensions)
        self.reconstructions = GaussianSums(dimensions)
        self._file = tempfile.TemporaryFile(prefix="features-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.sources.count

    def update(self, sources: Tensor, reconstructions: Tensor) -> None:
        """(B, D) each."""
        pairs = [features.detach().float().cpu().numpy() for features in (sources, reconstructions)]
        self.sources.update(pairs[0].astype(np.float64))
        self.reconstructions.update(pairs[1].astype(np.float64))
        self._file.write(np.stack(pairs, axis=1).tobytes())

    def distance(self) -> float:
        """Between all sources and all reconstructions."""
        if len(self) < FEWEST_PICTURES:  # nearly all of a D x D covariance is 0, and its eigenvalues take seconds
            x_, y_ = self.pairs().astype(np.float64).swapaxes(0, 1)
            return frechet_distance_of_samples(x_, y_)
        x, y = self.sources, self.reconstructions
        return frechet_distance(x.mean, x.covariance, y.mean, y.covariance)

    def interval(self, distance: float, *, resamples: int | None = None, seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap interval around ``distance``, resampling pairs of pictures 200 times.

        It says how much the distance *at this number of pictures* varies with the choice of pictures. A
        resample has only about 63 % distinct pictures, so its distance is biased upwards and plain
        percentiles often miss the estimate altogether; the percentiles are therefore moved by the difference
        of the resamples' mean from the estimate (in simulations of 64 to 256 pairs they then cover the
        expected distance in 88 to 100 %, where plain percentiles do in 0 to 92 %).

        Where pictures outnumber the features a resample takes seconds, and so many pictures make the distance nearly
        normal: there 25 resamples give its standard deviation, of which the interval is 1.96 on each side.
        """
        many = len(self) >= self.dimensions
        distance_of, rng = self._resampler(), np.random.default_rng(seed)
        distances = np.empty(resamples or (25 if many else 200))
        for index in range(len(distances)):
            distances[index] = distance_of(np.bincount(rng.integers(len(self), size=len(self)), minlength=len(self)))
        if many:
            margin = 1.96 * float(distances.std(ddof=1))
            return max(distance - margin, 0.0), distance + margin
        low, high = np.percentile(distances, (2.5, 97.5)) - distances.mean() + distance
        return max(float(low), 0.0), float(high)

    def extrapolated(self, distance: float, *, fewest: int = FEWEST_PICTURES, seed: int = 0) -> float | None:
        """The distance for infinitely many pictures, at least 0: the intercept of a line through the distances of
        subsets against 1/n. None where the smallest subset would have less than ``fewest``.

        Chong and Forsyth extrapolate from 5,000 to 50,000 pictures; here subsets have half of the pictures to all of
        them (``distance``). On Gaussians that removes most of the bias, all of it where pictures outnumber the
        dimensions that matter. On EfficientNet features of 576 renders and their inversions, whose spectra fall
        slowly, the value from n = 64, 128 and 256 was the plain distance at about 2n: nearer, and still too high.
        """
        sizes = subset_sizes(len(self), fewest)
        if not sizes:
            return None
        distance_of, rng = self._resampler(), np.random.default_rng(seed)
        means = [distance] * len(sizes)
        for place, size in enumerate(sizes[:-1]):
            subsets = [np.isin(np.arange(len(self)), rng.permutation(len(self))[:size]) for _ in range(SUBSETS)]
            means[place] = float(np.mean([distance_of(subset.astype(np.int64)) for subset in subsets]))
        _, intercept = np.polyfit(1 / np.array(sizes), means, 1)
        return max(float(intercept), 0.0)

    def pairs(self) -> NDArray[np.float32]:
        """All features so far, (N, 2, D): source and reconstruction; in the file, not in memory."""
        self._file.flush()
        return np.memmap(self._file, np.float32, mode="r", shape=(len(self), 2, self.dimensions))

    def _resampler(self) -> Callable[[Counts], float]:
        """How often each of the pairs so far is drawn (N,) -> distance."""
        pairs = self.pairs()
        return resampled_by_gram(pairs) if len(self) < self.dimensions else resampled_directly(pairs)


def resampled_by_gram(pairs: NDArray[np.float32]) -> Callable[[Counts], float]:
    """How often each pair is drawn (N,) -> Fréchet distance, from N x N inner products computed once; for N <
    D.
    """
    x, y = pairs[:, 0].astype(np.float64), pairs[:, 1].astype(np.float64)
    centre = (x.mean(0) + y.mean(0)) / 2  # changes no distance, saves digits
    x, y = x - centre, y - centre
    xx, xy, yy = x @ x.T, x @ y.T, y @ y.T

    def distance(counts: Counts) -> float:
        total = int(counts.sum())
        share = counts / total
        unbiased = total / (total - 1)
        means = float(share @ (xx - 2 * xy + yy) @ share)
        traces = [float(share @ each.diagonal() - share @ each @ share) for each in (xx, yy)]
        drawn = counts > 0
        centred = xy - (xy @ share)[:, None] - share @ xy + share @ xy @ share
        weight = np.sqrt(share[drawn])
        weighted = weight[:, None] * centred[np.ix_(drawn, drawn)] * weight
        cross = float(np.linalg.svd(weighted, compute_uv=False).sum())
        return max(means + unbiased * (sum(traces) - 2 * cross), 0.0)

    return distance


def resampled_directly(pairs: NDArray[np.float32], chunk: int = 1024) -> Callable[[Counts], float]:
    """The same through D x D covariances, for N >= D; reads the pairs piece by piece."""

    def distance(counts: Counts) -> float:
        sums = GaussianSums(pairs.shape[2]), GaussianSums(pairs.shape[2])
        for start in range(0, len(pairs), chunk):
            drawn = np.repeat(pairs[start : start + chunk].astype(np.float64), counts[start : start + chunk], axis=0)
            for side, each in enumerate(sums):
                each.update(drawn[:, side])
        return frechet_distance(sums[0].mean, sums[0].covariance, sums[1].mean, sums[1].covariance, factor=_triangular)

    return distance


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) of features, and a factor L (D, R) of their unbiased covariance L L^T."""

    mean: Array
    factor: Array

    @classmethod
    def of_sums(cls, sums: GaussianSums) -> Gaussian:
        """Of at least two pictures."""
        return cls(sums.mean, _factor(sums.covariance))

    @classmethod
    def of_samples(cls, x: Array) -> Gaussian:
        """(N, D), N >= 2; cheaper where N is below D."""
        mean = x.mean(0)
        return cls(mean, (x - mean).T / math.sqrt(len(x) - 1))

    def distance(self, other: Gaussian) -> float:
        """Squared Fréchet distance, at least 0."""
        trace1, trace2 = (float(np.square(each.factor).sum()) for each in (self, other))
        cross = float(np.linalg.svd(self.factor.T @ other.factor, compute_uv=False).sum())
        return _assemble(self.mean - other.mean, trace1, trace2, cross)


@dataclass(frozen=True)
class ReferenceSet:
    """Features of another set of pictures, which reconstructions are held against in the place of their sources.

    Attributes
    ----------
    name, label : str
        In the column's key, and in print.
    count : int
        Number of its pictures.
    features : Gaussian
    """

    name: str
    label: str
    count: int
    features: Gaussian


class FDEffNet:
    """Fréchet distance on pooled EfficientNet-Lite0 features."""

    key: ClassVar[str] = "fd_effnet"
    label: ClassVar[str] = "FD-EffNet"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    companions: ClassVar[tuple[Column, ...]] = ()
    dimensions: ClassVar[int] = efficientnet_lite0.FEATURES

    def __init__(self, network: EfficientNetLite0) -> None:
        self.network = network

    def features(self, pictures: Tensor) -> Tensor:
        return self.network.features(pictures)

    def further(self, pairs: PairedFeatures) -> Mapping[str, SetValue]:
        return {}


class FID:
    """Fréchet Inception distance with pytorch-fid's network and resizing, and the kernel distance beside it."""

    key: ClassVar[str] = "fid"
    label: ClassVar[str] = "FID"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    dimensions: ClassVar[int] = 2048

    def __init__(self, network: nn.Module, references: Sequence[ReferenceSet] = ()) -> None:
        """``network``: pictures (B, 3, H, W) in [0, 1] -> a list that begins with features (B, 2048, 1, 1), as
        pytorch-fid's ``InceptionV3`` with its default output block; ``references``: further sets to compare with.
        """
        self.network = network.eval()
        self.references = tuple(references)
        beside = [Column("kid", "KID", False, "", (-math.inf, math.inf))]
        for each in self.references:
            label = f"FID to {each.label} (n = {each.count})"
            beside.append(Column(TO_REFERENCE + each.name, label, False, "", self.range))
        self.companions: Sequence[Column] = tuple(beside)

    @classmethod
    def load(cls, weights: Path) -> FID:
        """From pytorch-fid's file of weights. Raises Refusal if it is missing or another network's."""
        return cls(FIDInception.load(weights))

    @classmethod
    def cached(cls) -> FID | None:
        """With the weights in torch hub's cache, or None if they are not there."""
        name = "pt_inception-2015-12-05-6726825d.pth"
        path = cached_weights(name, "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2")
        return None if path is None else cls.load(path)

    def features(self, pictures: Tensor) -> Tensor:
        pooled: Tensor = self.network((pictures + 1) / 2)[0]
        return pooled.flatten(1)

    def further(self, pairs: PairedFeatures) -> Mapping[str, SetValue]:
        found = {"kid": kernel_distance(pairs.pairs())}
        if self.references:
            few = len(pairs) < self.dimensions
            ours = (
                Gaussian.of_samples(pairs.pairs()[:, 1].astype(np.float64))
                if few
                else Gaussian.of_sums(pairs.reconstructions)
            )
            found |= {TO_REFERENCE + each.name: SetValue(each.features.distance(ours)) for each in self.references}
        return found
