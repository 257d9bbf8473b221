"""Robust lines against scipy, and every helper against a plain loop."""

from __future__ import annotations

import datetime as dt
import math
from itertools import combinations
from statistics import NormalDist, median
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from obanalytics.trend import (
    days_of,
    percents_per_30d,
    theil_sen,
)

T0 = pd.Timestamp("2026-01-01", tz="UTC")
DAY = pd.Timedelta("1D")
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - naive on purpose
DAYS_BEFORE_T0 = 20454.0  # 2026-01-01 is 56 years after 1970: 56 * 365 + 14 leap days

LEVELS = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
TIED = st.lists(
    st.tuples(st.integers(0, 12).map(float), st.integers(-5, 5).map(float)), max_size=25
)
FREE = st.lists(st.tuples(st.floats(0, 400, width=32), st.floats(-1e6, 1e6, width=32)), max_size=25)


def unpacked(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def plain_theil_sen(
    points: list[tuple[float, float]], level: float = 0.95
) -> tuple[float, float, float, float]:
    """Return slope, intercept, low, high by Sen (1968), pair by pair."""
    slopes = sorted(
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0]
    )
    if not slopes:
        return (math.nan,) * 4
    n, pairs = len(points), len(slopes)
    variance = n * (n - 1) * (2 * n + 5)
    for axis in (0, 1):
        values = [point[axis] for point in points]
        for value in set(values):
            k = values.count(value)
            variance -= k * (k - 1) * (2 * k + 5)
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(max(variance, 0) / 18)
    low = max(round((pairs - reach) / 2) - 1, 0)
    high = max(min(round((pairs + reach) / 2), pairs - 1), low)
    slope = median(slopes)
    intercept = median(p[1] for p in points) - slope * median(p[0] for p in points)
    return slope, intercept, slopes[low], slopes[high]


@settings(max_examples=200)
@given(st.one_of(TIED, FREE), LEVELS)
@example([(0.0, 1.0), (1.0, 2.0)], 0.999)
def test_theil_sen_agrees_with_scipy(points: list[tuple[float, float]], level: float) -> None:
    times, values = unpacked(points)
    mine = theil_sen(times, values, level)
    if len(set(times)) < 2:
        assert np.isnan(mine).all()
        return
    with np.errstate(invalid="ignore"):
        theirs = stats.theilslopes(values, times, alpha=level)
    scale = max(1.0, float(np.abs(values).max()))
    assert mine.slope == pytest.approx(theirs.slope, rel=1e-12)
    assert mine.intercept == pytest.approx(theirs.intercept, rel=1e-9, abs=1e-9 * scale)
    if np.isnan(theirs.low_slope):  # with many ties in both the variance comes out below zero
        assert mine.low <= mine.slope <= mine.high
        return
    assert mine.low == pytest.approx(theirs.low_slope, rel=1e-12)
    assert mine.high == pytest.approx(theirs.high_slope, rel=1e-12)


@settings(max_examples=100)
@given(st.one_of(TIED, FREE), LEVELS)
def test_theil_sen_agrees_with_a_loop_over_all_pairs(
    points: list[tuple[float, float]], level: float
) -> None:
    times, values = unpacked(points)
    scale = max(1.0, float(np.abs(values).max(initial=0)))
    assert list(theil_sen(times, values, level)) == pytest.approx(
        list(plain_theil_sen(points, level)), rel=1e-9, abs=1e-9 * scale, nan_ok=True
    )


def test_the_line_through_four_points_by_hand() -> None:
    # Slopes of the pairs of (0, 0), (1, 1), (2, 4), (3, 3): 1, 2, 1, 3, 1, -1; sorted -1 1 1 1 2 3.
    # Median 1. Intercept: median(0, 1, 3, 4) - 1 * median(0, 1, 2, 3) = 2 - 1.5 = 0.5.
    # Variance of S: 4 * 3 * 13 / 18 = 8.667, sigma 2.944; at 50 % z = 0.6745, so the ranks are
    # (6 - 1.986) / 2 = 2.007, rounded to 2, the second; (6 + 1.986) / 2 = 3.99, 4, the fifth.
    assert theil_sen([0, 1, 2, 3], [0, 1, 4, 3], 0.5) == (1.0, 0.5, 1.0, 2.0)
    # At 95 % z = 1.96: (6 - 5.77) / 2 rounds to 0, the lowest; (6 + 5.77) / 2 to 6, the highest.
    assert theil_sen([0, 1, 2, 3], [0, 1, 4, 3]) == (1.0, 0.5, -1.0, 3.0)


@settings(max_examples=60)
@given(TIED, st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=5))
def test_points_that_are_no_numbers_are_left_out(
    points: list[tuple[float, float]], bad: list[float]
) -> None:
    spoilt = list(points)
    for number, value in enumerate(bad):
        point = (value, 1.0) if number % 2 else (1.0, value)
        spoilt.insert(number * 3 % (len(spoilt) + 1), point)
    assert theil_sen(*unpacked(spoilt)) == pytest.approx(theil_sen(*unpacked(points)), nan_ok=True)


@settings(max_examples=60)
@given(TIED, st.sampled_from(["s", "ms", "us", "ns"]), st.sampled_from([None, "UTC", "Asia/Tokyo"]))
def test_instants_count_in_days_whatever_their_unit_and_zone(
    points: list[tuple[float, float]], unit: str, zone: str | None
) -> None:
    days, values = unpacked(points)
    instants = pd.Series(T0.tz_localize(None) + pd.to_timedelta(days, unit="D")).dt.as_unit(unit)
    if zone is not None:
        instants = instants.dt.tz_localize("UTC").dt.tz_convert(zone)
    mine, plain = theil_sen(instants, values), theil_sen(days + DAYS_BEFORE_T0, values)
    assert mine == pytest.approx(plain, rel=1e-9, abs=1e-6, nan_ok=True)


def test_an_instant_that_is_missing_takes_its_point_along() -> None:
    instants = pd.Series([T0, T0 + DAY, pd.NaT, T0 + 3 * DAY])
    line = theil_sen(instants, [1.0, 3.0, 1e9, 7.0])
    assert line.slope == pytest.approx(2.0)
    assert line.intercept == pytest.approx(1.0 - 2.0 * DAYS_BEFORE_T0)
    naive = theil_sen(instants.dt.tz_convert(None).to_numpy(), [1.0, 3.0, 1e9, 7.0])
    assert naive == line


@pytest.mark.parametrize(
    ("times", "values"),
    [([], []), ([1.0], [2.0]), ([1.0, 1.0], [2.0, 3.0]), ([math.inf, 1.0], [2.0, 3.0])],
)
def test_under_two_different_times_there_is_no_line(times: Any, values: Any) -> None:
    assert np.isnan(theil_sen(times, values)).all()


def test_two_points_and_equal_values() -> None:
    assert theil_sen([1.0, 3.0], [10.0, 20.0]) == (5.0, 5.0, 5.0, 5.0)
    assert theil_sen([0.0, 1.0, 2.0], [4.0, 4.0, 4.0]) == (0.0, 4.0, 0.0, 0.0)


def test_missing_values_of_pandas_are_missing_values() -> None:
    values = pd.Series([1.0, None, 3.0], dtype="Float64")
    assert theil_sen(pd.Series([0, 1, 2], dtype="Int64"), values).slope == 1.0


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95.0, math.nan])
def test_a_level_outside_0_and_1_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        theil_sen([0, 1], [0, 1], level)


def test_arrays_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 times but 2 values"):
        theil_sen([0, 1, 2], [0, 1])


@settings(max_examples=60)
@given(TIED, st.floats(0.1, 9), st.floats(-9, 9), st.integers(0, 10))
def test_a_line_turns_and_shifts_with_its_points(
    points: list[tuple[float, float]], factor: float, tilt: float, swap: int
) -> None:
    times, values = unpacked(points)
    before = theil_sen(times, values)
    turned = np.roll(np.arange(len(times)), swap)
    after = theil_sen(times[turned], (factor * values + tilt * times)[turned])
    expected = factor * np.array(before) + [tilt, 0.0, tilt, tilt]
    # Ties in the values may be broken by the tilt, which changes the interval and not the slope.
    assert after.slope == pytest.approx(expected[0], abs=1e-9, nan_ok=True)
    assert after.intercept == pytest.approx(
        float(np.median(factor * values + tilt * times) - expected[0] * np.median(times))
        if len(times)
        else math.nan,
        abs=1e-9,
        nan_ok=True,
    )


def noisy_line(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    days = np.sort(chance.uniform(0, 300, count))
    return days, 100 + 0.25 * days + chance.normal(0, 2, count)


def _percent(slope: float) -> float:
    return float(percents_per_30d(np.array([slope]))[0])


def test_percent_per_30d_by_hand() -> None:
    assert _percent(0.0) == 0.0
    # Twice as much after 30 days is a hundred percent more.
    assert _percent(math.log(2) / 30) == pytest.approx(100.0)
    assert _percent(-math.log(2) / 30) == pytest.approx(-50.0)
    assert _percent(math.log(1.03) / 30) == pytest.approx(3.0)
    assert math.isnan(_percent(math.nan))
    assert math.isfinite(_percent(1e300))
    assert _percent(-1e300) == -100.0


@settings(max_examples=100)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_percent_per_30d_keeps_the_order(one: float, other: float) -> None:
    if one <= other:
        assert _percent(one) <= _percent(other)
    expected = 100 * (math.exp(30 * one) - 1)
    assert _percent(one) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=100)
@given(
    st.lists(st.one_of(st.none(), st.datetimes()), max_size=8),
    st.sampled_from(["s", "ms", "us"]),
    st.booleans(),
)
def test_days_of_counts_from_1970(instants: list[Any], unit: str, aware: bool) -> None:  # noqa: FBT001
    series = pd.Series(instants, dtype="datetime64[us]").dt.as_unit(unit)
    micro = [
        None if pd.isna(value) else (value.to_pydatetime() - EPOCH) // dt.timedelta(microseconds=1)
        for value in series.dt.as_unit("us")
    ]
    found = days_of(series.dt.tz_localize("UTC") if aware else series)
    expected = [math.nan if value is None else value / 86_400_000_000 for value in micro]
    assert list(found) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_days_of_by_hand() -> None:
    series = pd.Series(pd.to_datetime(["1970-01-02T12:00Z", "2026-01-01T00:00Z", None]))
    assert list(days_of(series)) == pytest.approx([1.5, DAYS_BEFORE_T0, math.nan], nan_ok=True)
