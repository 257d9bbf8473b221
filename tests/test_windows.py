"""Trailing medians and deviations by hand, against pandas and against plain loops."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obanalytics import windows
from obanalytics.windows import median_mad, smallest, trailing


def bounds_of(*lengths: int) -> Any:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def plain(values: Any, bounds: Any, window: int, least: int) -> list[tuple[float, float, int]]:
    """Measure window by window, with what the standard library calls a median."""
    made = []
    for first, after in pairwise(bounds):
        for at in range(first, after):
            held = [float(v) for v in values[max(first, at - window) : at] if np.isfinite(v)]
            if len(held) < least:
                made.append((np.nan, np.nan, len(held)))
                continue
            middle = statistics.median(held)
            made.append((middle, statistics.median(abs(v - middle) for v in held), len(held)))
    return made


def assert_same(values: Any, bounds: Any, window: int, least: int) -> None:
    median, mad, count = trailing(values, bounds, window=window, least=least)
    wanted = plain(values, bounds, window, least)
    assert count.tolist() == [each[2] for each in wanted]
    assert median == pytest.approx([each[0] for each in wanted], rel=1e-12, nan_ok=True)
    # Distances of large numbers: their rounding is that of the numbers.
    size = float(np.abs(values[np.isfinite(values)]).max(initial=1.0))
    assert mad == pytest.approx([each[1] for each in wanted], abs=1e-12 * size, nan_ok=True)


def test_by_hand() -> None:
    values = np.array([3.0, 1.0, 2.0, 10.0, 7.0])
    median, mad, count = trailing(values, [0, 5], window=3, least=2)
    # Before 2: {3, 1}: median 2, distances 1 and 1. Before 10: {3, 1, 2}: 2; distances 1, 1, 0.
    # Before 7: {1, 2, 10}: 2; distances 1, 0, 8: the middle one is 1.
    assert median.tolist()[2:] == [2, 2, 2]
    assert mad.tolist()[2:] == [1, 1, 1]
    assert np.isnan(median[:2]).all()
    assert np.isnan(mad[:2]).all()
    assert count.tolist() == [0, 1, 2, 3, 3]


def test_a_value_is_not_in_its_own_window_and_series_do_not_see_each_other() -> None:
    values = np.array([1.0, 1, 1, 1e6, 5, 5, 5, 5])
    median, _, count = trailing(values, bounds_of(4, 0, 4), window=3, least=1)
    assert median.tolist()[1:4] == [1, 1, 1]
    assert np.isnan(median[4])
    assert median.tolist()[5:] == [5, 5, 5]
    assert count.tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("window", [*range(1, 34), 63, 64, 65, 100])
def test_every_window_is_sorted_as_numpy_sorts_it(window: int) -> None:
    values = np.random.default_rng(window).integers(0, 30, 300).astype(float)
    views = np.sort(np.lib.stride_tricks.sliding_window_view(values, window), axis=1)
    assert np.array_equal(np.column_stack(windows._sorted_windows(values, window)), views)
    for keep in (1, 2, 3, 7):
        least = np.column_stack(windows._sorted_windows(values, window, keep))
        assert np.array_equal(least, views[:, :keep])


@pytest.mark.parametrize("window", [1, 2, 7, 28, 29])
@pytest.mark.parametrize("block", [1, 5, 1 << 13])
def test_long_series_agree_with_plain_loops(
    window: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_BLOCK", block)
    chance = np.random.default_rng(window)
    values = chance.normal(size=330)
    values[chance.random(330) < 0.02] = np.nan
    assert_same(values, bounds_of(100, 0, 3, 150, 1, 76), window, 3)


SOME = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0, -1.0, np.nan, np.inf, -np.inf]),
    st.floats(-1e300, 1e300, allow_subnormal=False),
)


@settings(max_examples=60)
@given(st.lists(st.lists(SOME, max_size=12), max_size=5), st.integers(1, 9), st.integers(1, 5))
def test_any_values_agree_with_plain_loops(
    series: list[list[float]], window: int, least: int
) -> None:
    values = np.array([value for each in series for value in each], np.float64)
    assert_same(values, bounds_of(*map(len, series)), window, least)


def test_agrees_with_the_rolling_windows_of_pandas() -> None:
    chance = np.random.default_rng(3)
    lengths = chance.integers(0, 120, 40)
    values = np.round(chance.normal(size=lengths.sum()), 2)
    values[chance.random(len(values)) < 0.01] = np.nan
    group = np.repeat(np.arange(40), lengths)
    rolling = pd.Series(values).groupby(group).rolling(28, min_periods=8)
    shifted = rolling.median().droplevel(0).groupby(group).shift()

    def deviation(held: Any) -> float:
        return float(np.nanmedian(np.abs(held - np.nanmedian(held))))

    spread = rolling.apply(deviation, raw=True).droplevel(0).groupby(group).shift()
    median, mad, count = trailing(values, bounds_of(*lengths), window=28, least=8)
    np.testing.assert_allclose(median, shifted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mad, spread, rtol=0, atol=1e-12)
    counted = pd.Series(values).groupby(group).rolling(28, min_periods=0).count().droplevel(0)
    assert count.tolist() == counted.groupby(group).shift(fill_value=0).astype(int).tolist()


@settings(max_examples=60)
@given(
    st.lists(st.lists(SOME.filter(lambda v: v != np.inf), max_size=12), max_size=5),
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_the_smallest_agree_with_plain_loops(
    series: list[list[float]], window: int, keep: int
) -> None:
    values = np.array([value for each in series for value in each], np.float64)
    found = smallest(values, bounds_of(*map(len, series)), window=window, keep=keep)
    assert found.shape == (min(keep, window), len(values))
    wanted = []
    for each in series:
        for at in range(len(each)):
            held = sorted(v for v in each[max(0, at - window) : at] if not np.isnan(v))
            wanted.append((held + [np.inf] * keep)[: min(keep, window)])
    assert found.T.tolist() == wanted


def test_stretches_may_overlap_and_may_be_empty() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, 100.0])
    median, mad, count = median_mad(values, np.array([0, 0, 2, 5, 1]), np.array([5, 2, 3, 5, 4]))
    assert count.tolist() == [4, 2, 0, 0, 2]
    assert median[[0, 1, 4]].tolist() == [3.0, 1.5, 3.0]  # {1, 2, 4, 100}, {1, 2}, {2, 4}
    assert mad[[0, 1, 4]].tolist() == [1.5, 0.5, 1.0]  # distances 2, 1, 1, 97: (1 + 2) / 2
    assert np.isnan(median[2:4]).all()


def test_nothing_gives_nothing() -> None:
    for bounds in ([0], [0, 0, 0]):
        median, mad, count = trailing(np.zeros(0), bounds, window=28, least=8)
        assert (len(median), len(mad), len(count)) == (0, 0, 0)
        assert smallest(np.zeros(0), bounds, window=28, keep=3).shape == (3, 0)


def test_the_values_stay_as_they_are() -> None:
    values = np.array([1.0, np.inf, np.nan, 3.0] * 20)
    before = values.copy()
    trailing(values, [0, 80], window=5, least=2)
    smallest(values, [0, 80], window=5, keep=2)
    assert np.array_equal(values, before, equal_nan=True)


def test_windows_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="window and least must be at least 1, not 0 and 8"):
        trailing(np.zeros(3), [0, 3], window=0, least=8)
    with pytest.raises(ValueError, match="window and least must be at least 1, not 28 and 0"):
        trailing(np.zeros(3), [0, 3], window=28, least=0)
    with pytest.raises(ValueError, match="window and keep must be at least 1, not 28 and 0"):
        smallest(np.zeros(3), [0, 3], window=28, keep=0)


def test_more_is_asked_for_than_a_window_holds() -> None:
    median, mad, count = trailing(np.arange(50.0), [0, 50], window=5, least=6)
    assert np.isnan(median).all()
    assert np.isnan(mad).all()
    assert count.tolist() == [0, 1, 2, 3, 4, *[5] * 45]
