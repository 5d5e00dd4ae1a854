"""Intervals, paired tests and their correction: coverage, error rates, the stated special cases."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval import statistics
from eval.statistics import holm, mean_interval, paired_difference, smallest_p

measured = st.floats(-50, 50, allow_nan=False)


def test_interval_is_scipys() -> None:
    sample = np.random.default_rng(1).exponential(size=40)
    found = mean_interval(sample)
    reference = stats.bootstrap((sample,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-12)


@pytest.mark.parametrize("draw", ["normal", "gamma"])
def test_intervals_cover_the_mean_in_about_95_percent(draw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 samples of 60: 95 % is 380, three deviations are 13. The gamma is as skew as MSE over pictures (2)."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1999)
    rng = np.random.default_rng(7)
    shape = (400, 60)
    samples = rng.normal(size=shape) if draw == "normal" else rng.gamma(1.0, size=shape) - 1
    intervals = [mean_interval(sample) for sample in samples]
    covered = sum(each.low <= 0 <= each.high for each in intervals)
    assert 367 <= covered <= 393
    too_high, too_low = (sum(each.low > 0 for each in intervals), sum(each.high < 0 for each in intervals))
    assert min(too_high, too_low) >= 2  # both ends miss now and then: neither is far too wide


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


def test_the_test_agrees_with_students_on_normal_differences() -> None:
    rng = np.random.default_rng(3)
    baseline = rng.normal(20, 5, size=80)
    for shift in (0.0, 0.05, 0.1, 0.2):
        method = baseline + rng.normal(shift, 0.5, size=80)
        assert paired_difference(method, baseline).p == pytest.approx(
            stats.ttest_rel(method, baseline).pvalue, abs=0.02
        )


def test_without_a_difference_p_is_below_5_percent_in_5_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 samples of 9 skew, symmetrically swapped differences, tested exactly: 20 expected, 4.4 a deviation."""
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    rng = np.random.default_rng(4)
    differences = rng.exponential(size=(400, 9)) * rng.choice((-1, 1), size=(400, 9))
    assert 7 <= sum(paired_difference(each, np.zeros(9)).p < 0.05 for each in differences) <= 33


def test_effect_and_share_have_closed_forms() -> None:
    found = paired_difference([3.0, 1.0, 5.0, 4.0], [1.0, 2.0, 5.0, 0.0])  # differences 2, -1, 0, 4
    assert found.difference.mean == 1.25
    assert found.effect == pytest.approx(1.25 / np.std([2, -1, 0, 4], ddof=1))
    assert found.above == (2 + 0.5) / 4
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).effect is None
    rng = np.random.default_rng(5)
    shifted = paired_difference(rng.normal(0.5, 1, size=800), np.zeros(800))
    assert shifted.effect == pytest.approx(0.5, abs=0.1)
    assert shifted.above == pytest.approx(stats.norm.cdf(0.5), abs=0.05)


def test_the_smallest_p_is_reached_and_no_smaller_one() -> None:
    for pictures in (2, 7, 13, 14, 256):
        certain = paired_difference(np.arange(1.0, pictures + 1), np.zeros(pictures))
        assert certain.p == pytest.approx(smallest_p(pictures), rel=1e-9)


def test_holm_on_a_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, math.nan])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_bonferroni_test(p: list[float]) -> None:
    """A hypothesis falls with every intersection that it is in, each tested by Bonferroni: Holm's own derivation."""
    indices = range(len(p))
    subsets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(indices, size)]
    closed = [max(min(1.0, len(s) * min(p[i] for i in s)) for s in subsets if index in s) for index in indices]
    assert holm(p) == pytest.approx(closed, rel=1e-12)


def test_holm_bounds_the_chance_of_any_false_rejection() -> None:
    rng = np.random.default_rng(6)
    families = rng.uniform(size=(2000, 10))
    assert np.mean([min(holm(family)) < 0.05 for family in families.tolist()]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([min(family) < 0.05 for family in families.tolist()]) > 0.35  # what it is there for


def test_different_pictures_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        paired_difference([1.0, 2.0], [1.0])
