"""Change points by hand, against exhaustive search, and on simulated series of known truth."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from obanalytics import breaks
from obanalytics.breaks import change_points, change_points_many

SERIES = 500
SD = 0.12
LUCK = 0.067
"""Of the simulator's log durations: 0.06 by themselves, 0.03 of the size that they depend on."""
SHIFT = math.log(1.3)
VALUES = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, 2.0])


def stuck(series: Any, rng: Any) -> Any:
    """Return series of which every twentieth run took 5 to 20 times as long."""
    hit = rng.random(series.shape) < 0.05
    return series + hit * np.log(rng.uniform(5, 20, series.shape))


def noise(rng: Any, count: int, sd: float = SD) -> Any:
    return rng.normal(0, sd, (SERIES, count))


def wandering(rng: Any, count: int, likeness: float = 0.5) -> Any:
    """Return AR(1) noise."""
    fresh = rng.normal(0, 1, (SERIES, count + 50))
    for at in range(1, count + 50):
        fresh[:, at] += likeness * fresh[:, at - 1]
    return fresh[:, 50:] * SD * math.sqrt(1 - likeness**2)


def found(series: Any) -> tuple[Any, Any]:
    """Return the changes of series of the same length: which series, and where in it."""
    bounds = np.arange(len(series) + 1) * series.shape[1]
    which, at = change_points_many(series.ravel(), bounds)
    return which, at - bounds[which]


def share_changed(series: Any) -> float:
    return len(np.unique(found(series)[0])) / len(series)


def share_within_two(series: Any, truth: Any) -> float:
    which, at = found(series)
    return len(np.unique(which[np.abs(at - truth[which]) <= 2])) / len(series)


def steps(rng: Any, count: int, truth: Any, sd: float) -> Any:
    sign = rng.choice([-1, 1], (SERIES, 1))
    return noise(rng, count, sd) + SHIFT * sign * (np.arange(count) >= truth[:, None])


# --- by hand -------------------------------------------------------------------------------------


def test_a_step_is_at_the_first_value_after_it() -> None:
    assert change_points([1.0] * 20 + [2.0] * 20).tolist() == [20]
    assert change_points([3] * 10 + [1] * 9 + [3] * 11).tolist() == [10, 19]


def test_the_dam_at_aswan() -> None:
    # The flow of the Nile fell in 1899 (Cobb 1978): 1898 is the last year, and row 27, before it.
    flow = sm.datasets.nile.load_pandas().data
    at = change_points(flow["volume"].to_numpy(float))
    assert flow["year"].iloc[at].tolist() == [1899.0]


def test_what_is_too_short_or_constant_has_none() -> None:
    for series in ([], [1.0], [0.0] * 7 + [9.0] * 8, [4.2] * 50, [math.nan] * 50):
        assert change_points(series).tolist() == []
        assert change_points(series).dtype == np.int64
    assert change_points([0.0] * 8 + [9.0] * 8).tolist() == [8]
    # What differs by the rounding of numbers alone is constant.
    assert change_points([0.1 + 0.2] * 20 + [0.3] * 20).tolist() == []


def test_a_stuck_run_and_two_of_them_are_no_change() -> None:
    rng = np.random.default_rng(3)
    series = rng.normal(0, SD, 40)
    series[[12, 13, 39]] += 3.0
    assert change_points(series).tolist() == []


def test_nan_are_passed_by_and_positions_are_those_of_the_input() -> None:
    series = [1.0, math.nan, *[1.0] * 11, math.nan, math.nan, *[2.0] * 12]
    assert change_points(series).tolist() == [15]


def test_min_size_is_the_fewest_values_of_a_level() -> None:
    series = [0.0] * 30 + [1.0] * 6
    assert change_points(series, min_size=6).tolist() == [30]
    assert change_points(series, min_size=12).tolist() == []


def test_a_smaller_alpha_finds_no_more() -> None:
    rng = np.random.default_rng(8)
    series = noise(rng, 60)[:200] + 0.2 * (np.arange(60) >= 30)
    counts = [
        sum(len(change_points(each, alpha=alpha)) > 0 for each in series)
        for alpha in (0.2, 0.05, 0.001)
    ]
    assert counts[0] > counts[1] > counts[2] > 0


@pytest.mark.parametrize("options", [{"min_size": 1}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_nonsense_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        change_points([1.0] * 30, **options)
    with pytest.raises(ValueError, match="must be"):
        change_points_many(np.ones(30), np.array([0, 30]), **options)


# --- against an independent way ------------------------------------------------------------------


def charged(y: Any, changes: Any, penalty: float) -> float:
    edges = [0, *changes, len(y)]
    parts = [y[low:high] for low, high in itertools.pairwise(edges)]
    return sum(((part - part.mean()) ** 2).sum() for part in parts) + penalty * len(changes)


def test_the_search_for_levels_is_exact() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        count, least = int(rng.integers(6, 17)), int(rng.integers(2, 4))
        y = rng.normal(0, 1, count) + 2 * (np.arange(count) >= count // 2)
        penalty = float(rng.uniform(0.3, 4))
        ways = [
            each
            for many in range(4 if least == 3 else 3)
            for each in itertools.combinations(range(least, count - least + 1), many)
            if all(b - a >= least for a, b in itertools.pairwise(each))
        ]
        best = min(charged(y, each, penalty) for each in ways)
        mine = breaks._partition(y, penalty, least)
        assert charged(y, mine, penalty) <= best + 1e-9


def test_one_step_explains_what_least_squares_say() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(0, 1, 30)
    y = y - y.mean()
    time = np.arange(30) - 14.5
    flat = np.stack([np.ones(30)])
    line = np.stack([np.ones(30), time])
    cases = (breaks._step_gains(y, 8), flat), (breaks._step_gains(y, 8, time), line)
    for gains, base in cases:
        for at in (8, 15, 22):
            both = np.vstack([base, np.arange(30) >= at])
            rest = [y - each.T @ np.linalg.lstsq(each.T, y, rcond=None)[0] for each in (base, both)]
            assert gains[at] == pytest.approx(rest[0] @ rest[0] - rest[1] @ rest[1])


@cache
def mixed() -> list[Any]:
    """Return series of many kinds and lengths."""
    rng, made = np.random.default_rng(1), []
    for number in range(165):
        count, kind = int(rng.integers(1, 220)), number % 11
        at, height = np.arange(count), rng.uniform(0.7, 4)
        base = np.cumsum(rng.normal(0, 1, count)) if kind == 8 else rng.normal(0, 1, count)
        shapes = {
            1: height * (at >= count // 3),
            2: height * ((at >= count // 3) & (at < count // 3 + 20)),
            3: height * ((at >= count // 3) + 1.0 * (at >= 2 * count // 3)),
            4: np.linspace(0, rng.uniform(-5, 5), count) + height * (at >= count // 2),
            5: height * (at / count * 3) ** 2,
            6: height * (at // 25 % 2),
            7: -1.5 * (at % 7 >= 5) + height * (at >= count // 2),
        }
        series = base + shapes.get(kind, 0.0)
        series[rng.random(count) < 0.05 * (number % 3)] += 20
        series[rng.random(count) < 0.1 * (number % 2)] = math.nan
        made.append(series * 10.0 ** rng.integers(-12, 12))
    return made


def test_many_series_at_once_are_as_each_by_itself() -> None:
    series = mixed()
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in series])])
    which, at = change_points_many(np.concatenate(series), bounds)
    alone = [change_points(each) for each in series]
    assert sum(len(each) > 0 for each in alone) > 50
    assert which.tolist() == [n for n, each in enumerate(alone) for _ in each]
    assert at.tolist() == [bounds[n] + a for n, each in enumerate(alone) for a in each.tolist()]


def test_no_series_and_empty_series() -> None:
    for bounds in ([0], [0, 0, 0]):
        which, at = change_points_many(np.zeros(0), np.array(bounds))
        assert (which.tolist(), at.tolist()) == ([], [])
    values = np.array([0.0] * 20 + [1.0] * 20)
    which, at = change_points_many(values, np.array([0, 0, 40, 40]))
    assert (which.tolist(), at.tolist()) == ([1], [20])


def test_steps_under_the_least_effect_are_left_out() -> None:
    values = np.array([0.0] * 20 + [1.0] * 20 + [1.1] * 20)
    bounds = np.array([0, 60])
    assert change_points_many(values, bounds)[1].tolist() == [20, 40]
    assert change_points_many(values, bounds, min_effect=0.2)[1].tolist() == [20]
    assert change_points_many(values, bounds, min_effect=3.0)[1].tolist() == []


def test_the_screen_passes_most_unchanged_series_by() -> None:
    series = noise(np.random.default_rng(2), 150)
    bounds = np.arange(len(series) + 1) * 150
    looked = breaks._worth_a_look(series.ravel(), bounds, 8, 1.0, np.zeros(len(series)))
    assert len(looked) <= 0.1 * len(series)


# --- any series ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(VALUES, max_size=60), st.integers(2, 9))
def test_any_numbers_have_changes_that_keep_their_distance(values: Any, least: int) -> None:
    at = change_points(values, min_size=least)
    known = np.flatnonzero(np.isfinite(np.asarray(values, float)))
    assert set(at.tolist()) <= set(known.tolist())
    edges = np.array([0, *np.searchsorted(known, at), len(known)])
    assert not len(at) or np.diff(edges).min() >= least
    which, many = change_points_many(
        np.asarray(values, float), np.array([0, len(values)]), min_size=least
    )
    assert (len(which), set(many.tolist()) <= set(at.tolist())) == (len(many), True)


@settings(max_examples=60)
@given(st.integers(0, 164), st.integers(-60, 60), st.booleans())
def test_scale_and_sign_do_not_matter(number: int, power: int, turned: bool) -> None:  # noqa: FBT001
    series = mixed()[number]
    scaled = np.ldexp(-series if turned else series, power)
    assert change_points(scaled).tolist() == change_points(series).tolist()


def test_a_shift_does_not_matter() -> None:
    for series in mixed()[::7]:
        unit = float(np.nanmax(np.abs(series), initial=1e-300))
        assert change_points(series / unit + 1000.0).tolist() == change_points(series).tolist()


# --- truth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("count", [40, 90, 300])
def test_series_without_a_change_have_none(count: int, heavy: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng([1, count, heavy])
    series = noise(rng, count)
    assert share_changed(stuck(series, rng) if heavy else series) <= 0.05


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("count", [40, 90, 300])
def test_a_slow_drift_is_a_trend(count: int, heavy: bool) -> None:  # noqa: FBT001
    # From a half to twice the duration over the span, at 12 % noise.
    rng = np.random.default_rng([2, count, heavy])
    total = rng.uniform(-math.log(2), math.log(2), (SERIES, 1))
    series = noise(rng, count) + total * np.linspace(0, 1, count)
    assert share_changed(stuck(series, rng) if heavy else series) <= 0.05


@pytest.mark.parametrize("count", [40, 90, 300])
def test_noise_that_wanders_is_no_change(count: int) -> None:
    rng = np.random.default_rng([3, count])
    assert share_changed(wandering(rng, count)) <= 0.1


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("count", [40, 90])
def test_a_shift_of_30_percent_is_found_within_two_runs(count: int, middle: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng([4, count, middle])
    truth = np.full(SERIES, count // 2) if middle else rng.integers(8, count - 7, SERIES)
    series = stuck(steps(rng, count, truth, LUCK), rng)
    assert share_within_two(series, truth) >= 0.95
    assert (np.bincount(found(series)[0]) > 1).mean() <= 0.05


def test_twice_the_noise_is_placed_as_well_as_by_one_who_knows_there_is_one_step() -> None:
    # At 12 % noise least squares, told that there is one step, place 95 to 96 % within two runs.
    rng = np.random.default_rng(5)
    truth = rng.integers(8, 113, SERIES)
    series = steps(rng, 120, truth, SD)
    told = [8 + int(np.argmax(breaks._step_gains(each - each.mean(), 8)[8:])) for each in series]
    best = (np.abs(np.array(told) - truth) <= 2).mean()
    assert best <= 0.975
    assert share_within_two(series, truth) >= best - 0.03


def test_a_step_on_a_drift_is_found() -> None:
    rng = np.random.default_rng(6)
    at, truth = np.arange(90), np.full(SERIES, 45)
    series = noise(rng, 90) + 0.3 * at / 90 + 0.5 * rng.choice([-1, 1], (SERIES, 1)) * (at >= 45)
    assert share_within_two(series, truth) >= 0.95


def test_weekends_hide_no_step_and_are_none() -> None:
    rng = np.random.default_rng(7)
    at, truth = np.arange(90), np.full(SERIES, 50)
    series = noise(rng, 90, 0.06) - 0.1 * (at % 7 >= 5)
    assert share_changed(series) <= 0.02
    assert share_within_two(series + SHIFT * (at >= 50), truth) >= 0.95


def test_many_levels_are_all_found() -> None:
    # In a series of many steps, each is a part of what looks like wandering noise to the others.
    rng = np.random.default_rng(9)
    for _ in range(10):
        series = 2.5 * (np.arange(300) // 25 % 2) + rng.normal(0, 1, 300)
        at = change_points(series)
        assert len(at) == 11
        assert np.median(np.abs(at - np.arange(25, 300, 25))) <= 1


def test_a_curve_is_not_a_staircase() -> None:
    rng = np.random.default_rng(10)
    bent = np.maximum(np.arange(120) - 60, 0) * 0.1
    some = [len(change_points(bent + rng.normal(0, 0.5, 120))) for _ in range(50)]
    assert np.mean(np.array(some) > 0) <= 0.1
