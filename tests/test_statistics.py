"""Intervals and paired tests: coverage, the stated special cases, and a difference that is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.statistics import mean_interval, paired_difference

measured = st.floats(-50, 50, allow_nan=False)


def test_interval_is_scipys_and_covers_the_mean() -> None:
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=(60, 40))
    found = [mean_interval(sample) for sample in samples]
    assert sum(each.low <= 1 <= each.high for each in found) >= 52  # 57 expected, 52 is four deviations off
    reference = stats.bootstrap((samples[0],), np.mean, rng=np.random.default_rng(0)).confidence_interval
    assert (found[0].low, found[0].high) == pytest.approx((reference.low, reference.high), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(measured, min_size=1, max_size=30))
def test_interval_is_ordered_finite_and_repeatable(values: list[float]) -> None:
    found = mean_interval(values)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == mean_interval(values)


def test_values_that_rounding_alone_separates_have_an_interval() -> None:
    values = [1.0, 1.0, 1.0, 1.0, np.nextafter(1.0, 2.0)]
    found = mean_interval(values)
    assert 1.0 <= found.low <= found.high <= values[-1]


def test_few_and_equal_values_give_their_range() -> None:
    assert mean_interval([3.0]).low == mean_interval([3.0]).high == 3.0
    pair = mean_interval([1.0, 4.0])
    assert (pair.mean, pair.low, pair.high) == (2.5, 1.0, 4.0)
    constant = mean_interval([0.25] * 9)
    assert (constant.mean, constant.low, constant.high) == (0.25, 0.25, 0.25)


def test_infinite_values_stay_infinite_and_never_become_nan() -> None:
    some = mean_interval([20.0, 21.0, 22.0, 23.0, math.inf])
    assert (some.mean, some.high) == (math.inf, math.inf)
    assert 20 <= some.low < 23
    every = mean_interval([math.inf] * 5)
    assert (every.mean, every.low, every.high) == (math.inf, math.inf, math.inf)


@pytest.mark.parametrize("values", [[], [1.0, math.nan, 2.0], [[1.0, 2.0]]])
def test_nothing_and_nan_have_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no NaN"):
        mean_interval(values)


def test_paired_difference_sees_what_unpaired_means_hide() -> None:
    rng = np.random.default_rng(2)
    baseline = rng.normal(20, 5, size=60)
    better = paired_difference(baseline + rng.normal(0.5, 0.5, size=60), baseline)
    assert better.p < 0.001
    assert 0.2 < better.difference.low < better.difference.mean < better.difference.high < 0.8

    alike = paired_difference(baseline, baseline)
    assert (alike.p, alike.difference.mean) == (1.0, 0.0)
    assert paired_difference(baseline + rng.normal(0, 0.5, size=60), baseline).p > 0.01


def test_small_samples_are_tested_exactly() -> None:
    assert paired_difference([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]).p == pytest.approx(2 / 2**4)


def test_different_pictures_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        paired_difference([1.0, 2.0], [1.0])
