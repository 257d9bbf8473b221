"""Forecasts of plain series: by hand, by simulation, and on series that no one here made."""

from __future__ import annotations

import builtins
import re
from itertools import islice
from typing import Any

import accuracy
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, theilslopes

from obanalytics import guesses, horizon
from obanalytics.forecast import forecast_values
from obanalytics.horizon import Forecast, Record, crossed, crossing, filled, forecast, paths

RISING = [100.0 + 2.0 * day for day in range(40)]


def core(values: Any, steps: int, **options: Any) -> pd.DataFrame:
    return forecast_values(values, steps, candidates="core", **options)


def test_a_line_goes_on_as_a_line() -> None:
    made = core(RISING, 5)
    assert made["step"].tolist() == [1, 2, 3, 4, 5]
    assert made["value"].tolist() == pytest.approx([180, 182, 184, 186, 188])
    assert made["lower"].tolist() == pytest.approx(made["value"].tolist(), abs=1e-6)
    record = made.attrs["record"]
    assert (record["n"], record["mase"]) == (40, pytest.approx(0.0, abs=1e-9))
    # The last value is off by 2, 4, 6, 8, 10: 6 on average, by changes of 2; fewer steps at the end
    # of the history.
    assert 2.9 <= record["mase_naive"] <= 3.0
    assert made.attrs["method"] in {"drift", "recent_drift", "line"}


def test_a_constant_stays_and_is_certain() -> None:
    made = core([7.0] * 30, 10)
    assert made[["value", "lower", "upper"]].to_numpy() == pytest.approx(7.0)


def test_a_week_comes_again() -> None:
    week = [10.0, 10.0, 10.0, 10.0, 10.0, 4.0, 3.0]
    made = core(week * 8, 14, season=7)
    assert made["value"].tolist() == pytest.approx(week * 2)
    assert made.attrs["season"] == 7


def test_missing_values_are_on_the_line_between() -> None:
    assert filled(np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])).tolist() == [1, 2, 3, 4]
    gaps = [value if place % 5 else np.nan for place, value in enumerate(RISING)]
    assert core(gaps, 5)["value"].tolist() == pytest.approx([180, 182, 184, 186, 188])


@pytest.mark.parametrize(
    ("values", "steps", "options", "told"),
    [
        (RISING[:19], 3, {}, "19 points: a forecast needs 20"),
        (RISING, 21, {}, "21 steps ahead: 40 points allow 20 at most"),
        (RISING, 0, {}, "at least one step, not 0"),
        (RISING, 3, {"level": 1.0}, "between 0 and 1, not 1.0"),
        (RISING, 3, {"season": 21}, "season must be from 2 to half of the 40 points, not 21"),
        (RISING, 3, {"season": 1}, "season must be"),
        (RISING, 3, {"candidates": "best"}, "one of core, all, not 'best'"),
        ([np.nan] * 40, 3, {}, "0 points"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    values: Any, steps: int, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        forecast_values(values, steps, **({"candidates": "core"} | options))


@settings(max_examples=40)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=60),
    st.sampled_from([None, 7]),
    st.floats(0.5, 0.99),
)
def test_any_series_has_an_ordered_finite_forecast(
    values: list[float], season: int | None, level: float
) -> None:
    made = core(values, len(values) // 2, season=season, level=level)
    assert np.isfinite(made.to_numpy()).all()
    assert (made["lower"] <= made["value"]).all()
    width = (made["upper"] - made["lower"]).to_numpy()
    assert (np.diff(width) >= -1e-9 * (1 + width[:-1])).all(), "monotone in the distance"
    pd.testing.assert_frame_equal(made, core(values, len(values) // 2, season=season, level=level))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 1000), st.floats(-1e4, 1e4))
def test_units_do_not_matter(seed: int, scale: float, shift: float) -> None:
    """Nor does the zero, of values that have no logarithms."""
    values = np.cumsum(np.random.default_rng(seed).normal(1, 3, 40))
    values -= values.max() + 1
    shift = -abs(shift)
    plain, other = core(values, 8), core(values * scale + shift, 8)
    for name in ("value", "lower", "upper"):
        assert other[name].to_numpy() == pytest.approx(
            plain[name].to_numpy() * scale + shift, rel=1e-6, abs=1e-6 * (scale + abs(shift))
        )
    above = values + 1 - values.min()
    plain, other = core(above, 8), core(above * scale, 8)
    assert other["upper"].to_numpy() == pytest.approx(plain["upper"].to_numpy() * scale, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(20, 90), st.sampled_from([None, 2, 5, 7]))
def test_no_method_sees_what_comes_later(seed: int, count: int, season: int | None) -> None:
    """What it forecasts from an instant is what it forecasts when there is nothing after it."""
    chance = np.random.default_rng(seed)
    series = 50 + np.abs(np.cumsum(chance.normal(0, 3, count)))
    origins = np.unique(chance.integers(max(10, 2 * (season or 1)), count + 1, 5))
    whole = guesses.guesses_of(series, origins, 9, season)
    for row, origin in enumerate(origins):
        alone = guesses.guesses_of(series[:origin], np.array([origin]), 9, season)
        assert alone.keys() == whole.keys()
        for name, guess in alone.items():
            assert whole[name][row] == pytest.approx(guess[0], rel=1e-9), name


def test_methods_by_hand() -> None:
    past = np.array([*range(10, 30), 40.0])
    made = {
        name: guess[0] for name, guess in guesses.guesses_of(past, np.array([21]), 2, None).items()
    }
    assert made["last"].tolist() == [40, 40]
    assert made["drift"].tolist() == pytest.approx([40 + 30 / 20, 40 + 60 / 20])
    # The last ten are 20..28, 29, 40 without the first: from 20 to 40 in nine changes.
    assert made["recent_drift"].tolist() == pytest.approx([40 + 19 / 9, 40 + 38 / 9])
    assert made["median"].tolist() == [np.median(past[-14:])] * 2
    # All but one pair rise by 1 a step, the median of what that leaves of the last 7 is on it.
    assert made["line"].tolist() == pytest.approx([31, 32])
    # From 10 to 40 in twenty changes of the logarithm.
    assert made["growth"].tolist() == pytest.approx([40 * 4 ** (1 / 20), 40 * 4 ** (1 / 10)])


def test_slopes_are_near_those_of_all_pairs() -> None:
    """Theil-Sen by scipy takes every pair; ours those that are far apart."""
    chance = np.random.default_rng(2)
    for count in (30, 90, 400):
        values = 0.3 * np.arange(count) + chance.standard_t(2, count)
        values[:: count // 8] += 100  # outliers
        theirs = theilslopes(values)
        mine = guesses._slopes(values[None, :], np.array([count]), 1)[0]
        assert theirs.low_slope <= mine <= theirs.high_slope


def test_the_record_is_that_of_a_rolling_origin() -> None:
    """MASE of the last value and of the drift, one past forecast after the other."""
    series = 100 + np.cumsum(np.random.default_rng(8).normal(0.5, 2, 50))
    steps = 12
    made = forecast(series, steps, level=0.9, season=None, candidates="core")
    # From a third of the history to a quarter of the horizon before its end, thirty instants.
    origins = np.unique(np.linspace(50 // 3, 50 - steps // 4, 30).round().astype(int))
    assert made.record.origins == len(origins)
    unit = np.abs(np.diff(series)).mean()
    for name in ("last", "drift"):
        errors = []
        for known in origins:
            drift = (series[known - 1] - series[0]) / (known - 1) if name == "drift" else 0.0
            for ahead in range(1, min(steps, 50 - known) + 1):
                guess = series[known - 1] + drift * ahead
                errors.append(abs(series[known + ahead - 1] - guess))
        assert made.candidates[name] == pytest.approx(np.mean(errors) / unit)
    assert made.record.mase_naive == made.candidates["last"]
    assert made.record.mase == min(made.candidates.values()) == made.candidates[made.method]


def test_a_step_is_taken_out_and_a_habit_of_steps_is_not() -> None:
    chance = np.random.default_rng(4)
    noise, place = chance.normal(0, 5, 100), np.arange(100)
    stepped = 200 + place + 300 * (place >= 70) + noise
    made = core(stepped, 20)
    assert made.attrs["steps"] == [70]
    truth = 500 + np.arange(100, 120)
    assert made["value"].to_numpy() == pytest.approx(truth, abs=8)
    assert (made["upper"] - made["lower"]).max() < 50
    habit = np.repeat(np.arange(10), 10) * 300 + noise
    assert core(habit, 20).attrs["steps"] == []
    odd = 200 + noise
    odd[[20, 50, 51, 80]] += 300
    assert core(odd, 20).attrs["steps"] == []


def test_walks_and_waves_have_no_steps() -> None:
    chance = np.random.default_rng(6)
    found = 0
    for _ in range(150):
        walk = np.cumsum(chance.normal(0, 1, 80))
        jumpy = np.cumsum(chance.standard_t(3, 80))
        wave = np.sin(np.arange(80) / 5) * 10 + chance.normal(0, 1, 80)
        found += sum(len(horizon._without_steps(each)[1]) > 0 for each in (walk, jumpy, wave))
    assert found <= 9  # of 450


def test_bands_follow_how_much_a_series_changes_now() -> None:
    """Calm at first and wild now is no less certain than wild all the time."""
    noise = np.random.default_rng(9).normal(0, 1, 120)
    wide = [
        np.mean(core(500 + noise * spread, 10).eval("upper - lower"))
        for spread in (8.0, np.where(np.arange(120) < 70, 1.0, 8.0), 1.0)
    ]
    assert 0.6 < wide[1] / wide[0] < 1.6
    assert wide[2] < wide[0] / 6


def test_bands_hold_what_they_promise_on_every_kind_of_series() -> None:
    """Few series here; the page has many."""
    found = list(accuracy.on_simulated(50))
    for kind, count, ours, _, _ in found:
        assert 0.82 <= ours <= 0.98, (kind, count, ours)
    assert 0.88 <= np.mean([row[2] for row in found]) <= 0.95
    walks = [row for row in found if row[0].startswith("accumulating")]
    # What others draw promises as much, and holds about half.
    assert np.mean([row[3] for row in walks]) < 0.65


def test_bands_of_the_fewest_points_are_wider_and_hold() -> None:
    chance = np.random.default_rng(12)
    inside = []
    for _ in range(120):
        noisy, walk = chance.normal(0, 5, 30), np.cumsum(chance.normal(1, 5, 30))
        for series in (noisy, walk):
            made = core(series[:20], 10)
            later = series[20:]
            inside.append(((made["lower"] <= later) & (later <= made["upper"])).mean())
    assert 0.82 <= np.mean(inside) <= 0.97


def test_public_series_are_forecast_better_than_by_the_season() -> None:
    rows = list(accuracy.on_public(windows=4))
    mase, naive, covered = np.mean([row[4:] for row in rows], axis=0)
    assert len(rows) > 40
    assert mase <= naive
    assert 0.85 <= covered <= 0.95


def cells_of(page: str, begin: str) -> list[list[str]]:
    """Return the cells of the first table after a line."""
    rest = page[page.index(begin) :]
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert table is not None
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]
    ]


def test_the_page_keeps_the_promises() -> None:
    page = accuracy.PAGE.read_text(encoding="utf-8")
    simulated = cells_of(page, "## Forecasts of simulated")
    assert len(simulated) == 10
    for row in simulated:
        assert 0.85 <= float(row[2]) <= 0.95, row
    public = np.array(
        [[float(cell) for cell in row[4:]] for row in cells_of(page, "## Forecasts of public")]
    )
    mase, naive, covered = public.mean(axis=0)
    assert mase <= naive
    assert 0.85 <= covered <= 0.95
    for row in cells_of(page, "## Probabilities"):
        assert abs(float(row[2]) - float(row[3])) <= 0.1, row


def test_the_page_has_the_figures_of_the_code() -> None:
    """Some of its lines; the command writes the whole."""
    page = accuracy.PAGE.read_text(encoding="utf-8")
    first = next(islice(accuracy.on_simulated(counts=(60,)), 1))
    assert accuracy.simulated_line(*first) in page
    for line in accuracy.public_lines(islice(accuracy.on_public(), 6)):
        assert line in page
    for kind, count, alone, heavy in islice(accuracy.false_changes(counts=(40,)), 2):
        assert f"| {kind} | {count} | {alone:.3f} | {heavy:.3f} |" in page, kind


def test_statsmodels_is_tried_and_may_win() -> None:
    pytest.importorskip("statsmodels")
    chance = np.random.default_rng(5)
    level, values = 100.0, []
    for _ in range(60):  # exponential smoothing is the best forecast of this
        shock = chance.normal(0, 5)
        values.append(level + shock)
        level += 0.35 * shock
    made = forecast_values(values, 6)
    assert {"ets_damped", "theta"} & set(made.attrs["candidates"])
    assert np.isfinite(made.to_numpy()).all()
    plain = core(values, 6).attrs["candidates"]
    assert {name: made.attrs["candidates"][name] for name in plain} == plain
    assert made.attrs["record"]["mase"] <= min(plain.values())


@pytest.mark.parametrize("season", [None, 7])
def test_warnings_of_statsmodels_stay_inside(season: int | None) -> None:
    pytest.importorskip("statsmodels")
    for values in ([*[0.0] * 29, 1e9], np.exp(np.arange(30.0))):
        made = forecast_values(values, 5, season=season)
        assert np.isfinite(made.to_numpy()).all()


def test_without_statsmodels_the_core_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("statsmodels"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    guesses.slow_methods.cache_clear()
    try:
        made = forecast_values(RISING, 5)
    finally:
        guesses.slow_methods.cache_clear()
    pd.testing.assert_frame_equal(made, core(RISING, 5))


def brownian(drift: float, deviation: float, steps: int) -> Forecast:
    """Return the forecast of a Brownian motion with drift."""
    time = np.arange(1, steps + 1)
    half = deviation * np.sqrt(time) * norm.ppf(0.95)
    return Forecast(drift * time, half, 0.9, "", Record(0, 0, 0, 0, 0), {})


def test_crossing_agrees_with_the_first_passage_of_a_brownian_motion() -> None:
    drift, deviation, limit, steps = 0.5, 2.0, 40.0, 120
    made = crossed(paths(brownian(drift, deviation, steps), 20_000), limit)
    time = np.arange(1, steps + 1)
    # The inverse Gaussian distribution; looked at once a step, the maximum is lower by about 0.58
    # standard deviations of a step.
    bar = limit + 0.5826 * deviation
    spread = deviation * np.sqrt(time)
    exact = norm.cdf((drift * time - bar) / spread) + np.exp(
        2 * drift * bar / deviation**2
    ) * norm.cdf((-bar - drift * time) / spread)
    assert np.abs(made - exact).max() < 0.012


def test_courses_are_as_wide_as_the_bands() -> None:
    chance = np.random.default_rng(0)
    for power in (0.0, 0.3, 0.5, 1.0):
        time = np.arange(1, 31)
        half = 10.0 * time**power
        made = Forecast(np.zeros(30), half, 0.9, "", Record(0, 0, 0, 0, 0), {})
        inside = (np.abs(paths(made, 20_000, int(chance.integers(99)))) <= half).mean(axis=0)
        assert np.abs(inside - 0.9).max() < 0.01


def test_a_crossing_has_steps_and_a_rest() -> None:
    made = forecast(np.array(RISING), 20, level=0.9, season=None, candidates="core")
    # 178 now, 180, 182, ...: 189 is reached by the sixth step, for certain.
    found = crossing(made, 189.0)
    assert found.by.tolist() == [0.0] * 5 + [1.0] * 15
    assert (found.first, found.never) == ({10: 6, 50: 6, 90: 6}, 0.0)
    far = crossing(made, 1000.0)
    assert (far.first, far.never) == ({10: None, 50: None, 90: None}, 1.0)
    wide = forecast(
        np.cumsum(np.random.default_rng(1).normal(1, 4, 80)),
        40,
        level=0.9,
        season=None,
        candidates="core",
    )
    half = crossing(wide, float(wide.value[20]))
    assert half.by.tolist() == sorted(half.by.tolist())
    assert half.never == pytest.approx(1 - half.by[-1])
    assert half.first[10] is not None
    assert half.first[50] is not None
    assert half.first[10] < half.first[50] <= 21
    assert half.by[half.first[10] - 1] >= 0.1 > half.by[half.first[10] - 2]
    assert (half.by == crossing(wide, float(wide.value[20])).by).all()


def test_what_has_outliers_goes_on_to_have_them() -> None:
    """One value in twenty is 350: one of thirty is over 240 in 1 - 0.95^30 = 79 %.

    Of the later values fewer are: 72 %. With the same deviation a normal noise has none.
    """
    chance = np.random.default_rng(3)
    series = 100 + chance.normal(0, 5, 200)
    series[chance.choice(200, 10, replace=False)] += 250
    made = forecast(series, 30, level=0.9, season=None, candidates="core")
    assert 0.6 <= crossing(made, 240.0).by[-1] <= 0.85
    assert crossing(made._replace(odd=None), 240.0).by[-1] < 0.02
    assert crossing(made, 500.0).by[-1] < 0.02


def test_what_hardly_ever_changes_is_not_certain() -> None:
    """Nearly all past errors are 0; a jump is gone on from, a peak was one in forty."""
    jump, peak = [*[0.0] * 39, 100.0], [*[0.0] * 20, 100.0, *[0.0] * 19]
    assert (core(jump, 10)["value"] == 100).all()
    assert (core(jump, 10)["upper"] > 120).all()
    assert (core(peak, 10)["value"] == 0).all()
    assert (core(peak, 10)["upper"] > 0).all()
    made = forecast(np.array(peak), 10, level=0.9, season=None, candidates="core")
    assert crossing(made, 50.0).by[-1] == pytest.approx(1 - (39 / 40) ** 10, abs=0.12)


def test_sums_of_alike_changes_vary_as_all_their_pairs_say() -> None:
    walk = horizon._Walk(2.0, 0.6, 50)
    for steps in (1, 2, 7):
        pairs = sum(0.6 ** abs(i - j) for i in range(steps) for j in range(steps))
        assert walk.variance(np.array([float(steps)]))[0] == pytest.approx(4.0 * pairs)
    # Changes 1, 2, -1, -2, 1, 2, -1, -2, 0: their mean is 0, the sum of squares 20, that of
    # neighbours 2 - 2 + 2 - 2 + 2 - 2 + 2 + 0 = 2, so 0.1, and (1 + 0.3) / 9 for so few.
    made = horizon._walk_of(np.cumsum([0.0, 1, 2, -1, -2, 1, 2, -1, -2, 0]))
    assert made.alike == pytest.approx(0.1 + 1.3 / 9)
    assert made.deviation == pytest.approx(np.sqrt(20 / 9))
    assert made.points == 10


def test_doubt_of_the_level_is_no_noise() -> None:
    """Within a course values differ as past ones do, though the bands are wider than that."""
    chance = np.random.default_rng(10)
    within, whole = [], []
    for _ in range(40):
        series = chance.normal(0, 5, 40)
        made = forecast(series, 15, level=0.9, season=None, candidates="core")
        if made.odd is not None:
            courses = paths(made, 300)
            within.append(np.std(courses, axis=1, ddof=1).mean() / np.std(series))
            whole.append(made.half.mean() / 1.645 / np.std(series))
    assert len(within) > 25
    assert np.mean(whole) > 1.15
    assert np.mean(within) == pytest.approx(1.0, abs=0.07)
