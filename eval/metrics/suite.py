"""All metrics in one pass over the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
import torch
from torch import Tensor

from eval.metrics.at_size import Size, resized, size_of
from eval.metrics.distribution import FEWEST_PICTURES, FID, FDEffNet, PairedFeatures
from eval.metrics.efficientnet_lite0 import EfficientNetLite0
from eval.metrics.identity import FaceDescriptor, Identity, MeanDescriptor
from eval.metrics.metric import (
    PICTURE_RANGE,
    Column,
    Described,
    DistributionMetric,
    PictureMetric,
    SetValue,
    check_range,
)
from eval.metrics.perceptual import LPIPSDistance, STLPIPSDistance
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.source_features import SourceFeatures
from eval.statistics import mean_interval
from fse.perceptual import STLPIPS

OK = "ok"
EXTRAPOLATED = "_inf"
"""Ending of the keys of distances extrapolated to infinitely many pictures."""


class _Reason(TypedDict, total=False):
    reason: str


class Cell(_Reason):
    """A metric of a method: mean (or distance) with its 95 % interval, and the pictures behind it.

    ``expected`` are all pictures of the set, or of the method's subset of it, ``used`` those that have a value,
    ``failed`` the rest. Without a value the three numbers are None, and ``reason`` says why. Extrapolated distances,
    and those to another set of pictures, have no interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    expected: int
    used: int
    failed: int


@dataclass(frozen=True)
class Measurements:
    """What a suite has measured.

    Attributes
    ----------
    pictures : DataFrame
        One row a picture and method: ``picture``, ``method``, a column a picture metric (and companion, such
        as ``id_same``), NaN where there is no value, and ``status``: ``ok``, or what failed and why.
    distributions : dict
        METHOD -> METRIC -> cell, of the distribution metrics.
    """

    pictures: pd.DataFrame
    distributions: Mapping[str, Mapping[str, Cell]]

    def summary(self) -> dict[str, dict[str, Cell]]:
        """METHOD -> METRIC -> cell, for every metric; intervals are over pictures."""
        result = {}
        for method, rows in self.pictures.groupby("method", sort=False):
            cells = {key: mean_cell(rows[key]) for key in rows.columns if key not in ("picture", "method", "status")}
            result[str(method)] = cells | dict(self.distributions[str(method)])
        return result


@dataclass
class Part:
    """What was measured of a batch: plain numbers and tensors, so that it can be kept in a file.

    Attributes
    ----------
    rows : dict
        (PICTURE, METHOD) -> column -> value; ``status`` only where something failed.
    features : dict
        (METRIC, METHOD) -> features of sources and reconstructions (2, B, D), of the distribution metrics.
    """

    rows: dict[tuple[str, str], dict[str, float | str]]
    features: dict[tuple[str, str], Tensor] = field(default_factory=dict)


class Suite:
    """Receives pictures batch by batch and computes every metric on them.

    The source's features are computed once for all methods. Of a picture only its row of values stays in
    memory; the features that distribution metrics need wait in temporary files. Metrics of another size than the
    pictures' (:mod:`eval.metrics.at_size`) get them resized, once for all metrics of that size.

    ``metrics`` are all metrics, and companion columns, in printing order, each with ``key``, ``label``,
    ``higher_is_better``, ``unit`` and ``range``.
    """

    def __init__(
        self,
        metrics: Sequence[PictureMetric],
        distributions: Sequence[DistributionMetric] = (),
        device: str | torch.device = "cpu",
        source_features: SourceFeatures | None = None,
        fewest: int = FEWEST_PICTURES,
    ) -> None:
        """``source_features``: where what is computed of the sources is kept for the next call; ``fewest``: of pictures
        that a distribution metric is stated for, at least 3.
        """
        self._source_features = source_features
        self._fewest = fewest
        self._pictures = tuple(metrics)
        self._distributions = tuple(distributions)
        self._device = torch.device(device)
        self._rows: dict[tuple[str, str], dict[str, float | str]] = {}
        self._features: dict[tuple[str, str], PairedFeatures] = {}
        self._left_out: set[tuple[str, str]] = set()
        self._columns: list[Described] = []
        for metric in self._pictures:
            self._columns += [metric, *metric.companions]
        of_sets: list[Described] = []
        for distribution in self._distributions:
            of_sets += [distribution, _extrapolated(distribution), *distribution.companions]
        self.metrics: tuple[Described, ...] = (*self._columns, *of_sets)

    @property
    def picture_metrics(self) -> tuple[PictureMetric, ...]:
        """Those that compare picture with picture."""
        return self._pictures

    def update(self, names: Sequence[str], source: Tensor, reconstructions: Mapping[str, Tensor]) -> None:
        """Measure a batch, :meth:`measure`, and keep the outcome."""
        self.add(self.measure(names, source, reconstructions))

    @torch.inference_mode()
    def measure(self, names: Sequence[str], source: Tensor, reconstructions: Mapping[str, Tensor]) -> Part:
        """The outcome of a batch, which :meth:`add` takes.

        names: one a picture; source: (B, 3, H, W) in [-1, 1]; reconstructions: METHOD -> the same shape and
        range. Raises ValueError for other shapes or values, and for a picture that is given twice.
        """
        if source.ndim != 4 or source.shape[1] != 3 or len(names) != len(source):
            raise ValueError(f"{len(names)} names need pictures (B, 3, H, W), got {tuple(source.shape)}")
        check_range(source, PICTURE_RANGE, "sources")
        for method, found in reconstructions.items():
            if found.shape != source.shape:
                raise ValueError(f"{method}: shape {tuple(found.shape)} for sources {tuple(source.shape)}")
            check_range(found, PICTURE_RANGE, method)
        rows = {(name, method): dict[str, float | str]() for method in reconstructions for name in names}
        if len(rows) < len(names) * len(reconstructions):
            raise ValueError("a picture was given twice for one method")

        sizes = {*map(size_of, self._pictures), *map(size_of, self._distributions)}
        views = {size: self._view(source, reconstructions, size) for size in sizes}
        for metric in self._pictures:
            source, reconstructions = views[size_of(metric)]
            features = self._features_of(metric, source)
            for method, found in reconstructions.items():
                outcome = metric.compare(features, found)
                for index, name in enumerate(names):
                    row = rows[name, method]
                    row.update({key: values[index] for key, values in outcome.values.items()})
                    if index in outcome.failures:
                        reason = f"{metric.key}: {outcome.failures[index]}"
                        row["status"] = f"{row['status']}; {reason}" if "status" in row else reason
        kept: dict[tuple[str, str], Tensor] = {}
        for distribution in self._distributions:
            source, reconstructions = views[size_of(distribution)]
            features = self._features_of(distribution, source)
            for method, found in reconstructions.items():
                kept[distribution.key, method] = torch.stack((features, distribution.features(found))).float().cpu()
        return Part(rows, kept)

    def _view(
        self, source: Tensor, reconstructions: Mapping[str, Tensor], size: Size | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All pictures at a size, on the device of the networks."""

        def placed(pictures: Tensor) -> Tensor:
            return (pictures if size is None else resized(pictures, size)).to(self._device)

        return placed(source), {method: placed(found) for method, found in reconstructions.items()}

    def _features_of(self, metric: PictureMetric | DistributionMetric, source: Tensor) -> Any:
        if self._source_features is None:
            return metric.features(source)
        return self._source_features.get(metric.key, source, metric.features)

    def add(self, part: Part) -> None:
        """Keep the outcome of a batch. Raises ValueError for a picture and method that were seen before."""
        if part.rows.keys() & self._rows.keys():
            raise ValueError("a picture was given twice for one method")
        self._rows.update(part.rows)
        for key, (sources, reconstructions) in part.features.items():
            self._features.setdefault(key, PairedFeatures(sources.shape[1])).update(sources, reconstructions)

    def fail(self, name: str, method: str, reason: str) -> None:
        """Record that a picture could not be read or inverted."""
        self.add(Part({(name, method): {"status": reason}}))

    def leave_out(self, name: str, method: str) -> None:
        """Record that a method is not measured on a picture, as stated beforehand: no row, and no failure."""
        self._left_out.add((name, method))

    def compute(self) -> Measurements:
        """All rows and distances so far. A picture that a method was never given counts as failed, unless it was
        left out."""
        names = list(dict.fromkeys(name for name, _ in self._rows))
        methods = list(dict.fromkeys(method for _, method in self._rows))
        absent: dict[str, float | str] = {"status": "no reconstruction was given"}
        rows = [
            {"picture": name, "method": method, "status": OK, **self._rows.get((name, method), absent)}
            for name in names
            for method in methods
            if (name, method) not in self._left_out
        ]
        columns = [metric.key for metric in self._columns]
        pictures = pd.DataFrame(rows, columns=["picture", "method", *columns, "status"])
        pictures = pictures.astype(dict.fromkeys(columns, float))
        if "id_same" in pictures:
            pictures["id_same"] = pictures["id_same"].astype("boolean")
        expected = pictures["method"].value_counts()
        distributions: dict[str, dict[str, Cell]] = {method: {} for method in methods}
        for method in methods:
            for metric in self._distributions:
                distributions[method] |= self._distances(metric, method, int(expected[method]))
        return Measurements(pictures, distributions)

    def _distances(self, metric: DistributionMetric, method: str, expected: int) -> dict[str, Cell]:
        """The distance at this number of pictures, the extrapolated one, and the companions."""
        key, pairs = metric.key, self._features.get((metric.key, method))
        used = 0 if pairs is None else len(pairs)
        if pairs is None or used < self._fewest:
            cell = _too_few(expected, used, self._fewest)
            companions = {column.key: cell for column in metric.companions}
            return {key: cell, key + EXTRAPOLATED: _too_few(expected, used, 2 * self._fewest), **companions}
        further = {name: _cell(value, expected, used) for name, value in metric.further(pairs).items()}
        distance = pairs.distance()
        cell = _cell(SetValue(distance, *pairs.interval(distance)), expected, used)
        extrapolated = pairs.extrapolated(distance, fewest=self._fewest)
        beside = (
            _too_few(expected, used, 2 * self._fewest)
            if extrapolated is None
            else _cell(SetValue(extrapolated), expected, used)
        )
        return {key: cell, key + EXTRAPOLATED: beside, **further}


def _extrapolated(metric: DistributionMetric) -> Column:
    return Column(metric.key + EXTRAPOLATED, f"{metric.label} ∞", metric.higher_is_better, metric.unit, metric.range)


def _cell(found: SetValue, expected: int, used: int) -> Cell:
    failed = expected - used
    return Cell(mean=found.value, low=found.low, high=found.high, expected=expected, used=used, failed=failed)


def _too_few(expected: int, used: int, needed: int) -> Cell:
    return _no_value(expected, used, f"not computed: {used} pictures, at least {needed} needed")


def mean_cell(column: pd.Series, what: str = "pictures") -> Cell:
    """Of one value a picture, NaN where there is none; ``what`` has a value a row, in the plural."""
    values = column.dropna().to_numpy(dtype=float)
    expected, used = len(column), len(values)
    if used == 0:
        return _no_value(expected, used, f"not computed: none of {expected} {what} has a value")
    found = mean_interval(values)
    return Cell(mean=found.mean, low=found.low, high=found.high, expected=expected, used=used, failed=expected - used)


def _no_value(expected: int, used: int, reason: str) -> Cell:
    return Cell(mean=None, low=None, high=None, expected=expected, used=used, failed=expected - used, reason=reason)


def build_suite(assets: Path, mean_descriptor: Path, device: str | torch.device = "cpu") -> Suite:
    """Every metric that this machine has the weights of.

    SSIM, PSNR, MSE, ST-LPIPS, ID and FD-EffNet from ``assets`` (``data/assets``), LPIPS and FID if torch
    hub's cache has their weights. Nothing is downloaded. Raises Refusal if an asset or the mean descriptor is
    absent or damaged.
    """
    mean = MeanDescriptor.read(mean_descriptor)
    stlpips = STLPIPS.load(assets / "stlpips" / "alex_shift_tolerant.pth").to(device)
    efficientnet = EfficientNetLite0.load(assets / "efficientnet_lite0" / "efficientnet-lite0-57934424.pth").to(device)
    metrics: list[PictureMetric] = [
        SSIM(),
        PSNR(),
        MSE(),
        STLPIPSDistance(stlpips),
        Identity(FaceDescriptor(assets / "dlib"), mean),
    ]
    distributions: list[DistributionMetric] = [FDEffNet(efficientnet.to(memory_format=torch.channels_last))]
    if (lpips := LPIPSDistance.cached()) is not None:
        lpips.network.to(device)
        metrics.append(lpips)
    if (fid := FID.cached()) is not None:
        fid.network.to(device)
        distributions.append(fid)
    return Suite(metrics, distributions, device)
