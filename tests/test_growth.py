"""Growth by hand, against plain loops, and against the simulator's truth."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coverage import sets_of
from test_trend import plain_theil_sen

import obanalytics as ob
from obanalytics import simulator
from obanalytics.carry import carried
from obanalytics.errors import DataError
from obanalytics.frames import conform, empty

T0 = pd.Timestamp("2026-01-01", tz="UTC")
HOUR = pd.Timedelta("1h")
NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
NUMBERS = (
    *("first_size_gib", "last_size_gib", "gib_per_day", "gib_per_day_low", "gib_per_day_high"),
    *("percent_per_30d", "percent_per_30d_low", "percent_per_30d_high"),
)


def at(hours: float | None) -> Any:
    return pd.NaT if hours is None else T0 + hours * HOUR


def done_set(day: float, size: float, **changes: Any) -> dict[str, Any]:
    """Return a full set of an hour that is done, with some fields changed."""
    row = {
        "instance_id": "ob1",
        "tenant_id": "t1",
        "tenant_name": "orders",
        "backup_set_id": f"s{24 * day:06.1f}",
        "full": True,
        "state": "done",
        "hour": 24 * day,
        "took": 1.0,
        "size_gib": size,
        "storage_class": "standard",
        "in_window": True,
    }
    return row | changes


def daily(sizes: list[float], **changes: Any) -> list[dict[str, Any]]:
    return [done_set(day, size, **changes) for day, size in enumerate(sizes)]


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a tenants frame of rows whose start is an hour after T0 and whose end is later."""
    if not rows:
        return empty("tenants")
    made = pd.DataFrame(rows).drop(columns=["hour", "took"])
    made["full"] = made["full"].astype("boolean")
    hours = pd.Series([at(row["hour"]) for row in rows], dtype="datetime64[us, UTC]")
    took = [pd.NaT if row["took"] is None else row["took"] * HOUR for row in rows]
    made["start_time"], made["duration"] = hours, pd.Series(took, dtype="timedelta64[us]")
    made["end_time"] = made["start_time"] + made["duration"]
    return conform(made, "tenants")


def one(rows: list[dict[str, Any]], **options: Any) -> Any:
    """Return the only row of the result."""
    table = ob.size_growth(frame_of(rows), **options)
    assert len(table) == 1
    return table.iloc[0]


def test_a_gibibyte_a_day_by_hand() -> None:
    row = one(daily([10, 11, 12, 13, 14, 15, 16, 17]))
    # Every pair of points has the slope 1, so the median and every rank are 1.
    assert (row["gib_per_day"], row["gib_per_day_low"], row["gib_per_day_high"]) == (1, 1, 1)
    assert (row["first_size_gib"], row["last_size_gib"]) == (10, 17)
    assert (row["sets"], row["n"], row["span"]) == (8, 8, pd.Timedelta("7D"))
    assert (row["verdict"], row["full"]) == ("growing", True)


def test_one_percent_a_day_by_hand() -> None:
    row = one(daily([100 * 1.01**day for day in range(10)]))
    # Every pair of logarithms has the slope ln 1.01; 30 days make 1.01^30 = 1.347849.
    for name in NUMBERS[5:]:
        assert row[name] == pytest.approx(34.7849, abs=1e-4)


def test_one_wild_set_moves_the_bound_and_not_the_slope() -> None:
    row = one(daily([10, 11, 12, 13, 14, 15, 16, 99]))
    # 28 pairs: 21 of slope 1, then 89/7 = 12.71, 88/6 = 14.67, 87/5 … 83. Median: 1.
    # Variance 8 * 7 * 21 / 18 = 65.33, sigma 8.083, times 1.96 = 15.84; the ranks are
    # (28 - 15.84) / 2 = 6.08, the 6th: 1; (28 + 15.84) / 2 = 21.92, rounded 22, the 23rd: 88/6.
    assert (row["gib_per_day"], row["gib_per_day_low"]) == (1, 1)
    assert row["gib_per_day_high"] == pytest.approx(88 / 6)


def test_what_neither_grows_nor_shrinks_is_flat() -> None:
    row = one(daily([10, 11, 10, 11, 10, 11, 10, 11, 10, 11]))
    assert row["gib_per_day"] == 0
    assert row["gib_per_day_low"] <= 0 <= row["gib_per_day_high"]
    assert row["verdict"] == "flat"
    assert one(daily([5.0] * 9))["verdict"] == "flat"
    assert one(daily([20.0 - day for day in range(9)]))["verdict"] == "shrinking"


@pytest.mark.parametrize(
    ("days", "verdict"),
    [
        ([0, 1, 2, 3, 4, 5, 6], "too_little_history"),  # seven sets
        ([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4], "too_little_history"),  # four days
        ([0, 1, 2, 3, 4, 5, 5.5, 6], "growing"),  # eight sets over six days
        ([], "none"),
    ],
)
def test_a_verdict_needs_eight_sets_over_six_days(days: list[float], verdict: str) -> None:
    table = ob.size_growth(frame_of([done_set(day, 10 + day) for day in days]))
    assert table["verdict"].tolist() == ([] if verdict == "none" else [verdict])
    is_known = verdict == "growing"
    assert table["gib_per_day"].notna().tolist() == [is_known] * len(table)


def test_full_and_incremental_are_never_pooled() -> None:
    full = daily([100 + day for day in range(9)])
    part = daily([9 - 0.5 * day for day in range(9)], full=False)
    for number, row in enumerate(part):
        row |= {"hour": row["hour"] + 12, "backup_set_id": f"i{number}"}
    table = ob.size_growth(frame_of([*part, *full]))
    assert table["full"].tolist() == [True, False]
    assert table["gib_per_day"].tolist() == [1.0, -0.5]
    assert table["verdict"].tolist() == ["growing", "shrinking"]
    assert table["sets"].tolist() == [9, 9]


def test_sets_of_unknown_mode_are_a_series_of_their_own() -> None:
    rows = daily([100 + day for day in range(8)])
    rows += [done_set(day + 0.5, 3, full=None) for day in range(3)]
    table = ob.size_growth(frame_of(rows))
    assert [None if pd.isna(each) else each for each in table["full"]] == [True, None]
    assert table["sets"].tolist() == [8, 3]
    alone = one([done_set(day, 3 + day, full=None) for day in range(9)])
    assert (pd.isna(alone["full"]), alone["verdict"]) == (True, "growing")


def test_copies_in_two_storage_classes_are_one_set() -> None:
    rows = daily([100 + day for day in range(8)])
    copies = [row | {"storage_class": "archive", "took": 5.0, "size_gib": 1.0} for row in rows]
    with_copies, without = one([*copies, *rows]), one(rows)
    pd.testing.assert_series_equal(with_copies, without)
    # Where only one of the copies is done, that one counts.
    half = [row | {"state": "running", "took": None} for row in rows] + copies
    assert (one(half)["sets"], one(half)["last_size_gib"]) == (8, 1.0)


def test_of_copies_with_the_same_times_one_that_has_a_size_counts() -> None:
    rows = daily([100 + day for day in range(8)])
    copies = [row | {"storage_class": "archive", "size_gib": math.nan} for row in rows]
    for order in ([*rows, *copies], [*copies, *rows]):
        assert one(order)["n"] == 8


@pytest.mark.parametrize("state", ["failed", "running", "cancelled", "expired", "unknown"])
def test_only_sets_that_are_done_count(state: str) -> None:
    rows = daily([100 + day for day in range(8)])
    spoilt = [*rows, *[done_set(day + 0.5, 9999, state=state) for day in range(9)]]
    pd.testing.assert_series_equal(one(spoilt), one(rows))
    lonely = one([done_set(0, 7, state=state)])
    assert (lonely["sets"], lonely["n"], lonely["verdict"]) == (0, 0, "too_little_history")
    assert pd.isna(lonely["span"])
    assert pd.isna(lonely["last_size_gib"])


def test_a_set_without_a_size_or_a_start_is_a_set_and_no_point() -> None:
    rows = daily([100 + day for day in range(8)])
    rows += [done_set(9, math.nan), done_set(10, 500, hour=None)]
    row = one(rows)
    assert (row["sets"], row["n"]) == (10, 8)
    assert (row["last_size_gib"], row["span"]) == (107, pd.Timedelta("7D"))


def test_small_sets_have_no_percentage() -> None:
    # Rounded to 0.01, 0.04 GiB may be anything from 0.035 to 0.045: a quarter of itself.
    row = one(daily([0.01 * day for day in range(1, 10)]))
    assert row["gib_per_day"] == pytest.approx(0.01)
    assert math.isnan(row["percent_per_30d"])
    assert row["verdict"] == "growing"


def test_rows_of_the_lookback_do_not_count() -> None:
    rows = daily([9999.0, 5.0, 1.0], in_window=False)
    rows += [done_set(day, 100 + day) for day in range(3, 12)]
    row = one(rows)
    assert (row["sets"], row["gib_per_day"], row["first_size_gib"]) == (9, 1.0, 103)


def test_a_window_is_half_open() -> None:
    rows = daily([100 + day for day in range(20)])
    row = one(rows, window=(at(24 * 3), "2026-01-15"))
    # From January 4, inside, to January 14; the set that starts on January 15 is outside.
    assert (row["sets"], row["first_size_gib"], row["last_size_gib"]) == (11, 103, 113)
    assert one(rows, window=(None, at(24 * 9)))["sets"] == 9
    assert one(rows, window=(at(24 * 9), None))["sets"] == 11
    # What a window asks for counts, also where another window had left it out.
    outside = [row | {"in_window": row["hour"] > 100} for row in rows]
    assert one(outside, window=(None, None))["sets"] == 20
    with pytest.raises(ValueError, match="ends before it starts"):
        ob.size_growth(frame_of(rows), window=("2026-01-09", "2026-01-08"))


def test_an_earlier_instant_knows_no_later_set() -> None:
    rows = daily([100 + day for day in range(20)])
    # At 12:30 on January 10 the set that started at midnight is done; at 00:30 it runs.
    assert one(rows, as_of=at(24 * 9 + 12.5))["sets"] == 10
    assert one(rows, as_of=at(24 * 9 + 0.5))["sets"] == 9
    assert one(rows, as_of=at(24 * 9 + 0.5))["last_size_gib"] == 108
    assert ob.size_growth(frame_of(rows), as_of="2025-01-01").empty


def test_an_empty_frame_gives_the_same_columns_and_dtypes() -> None:
    none, some = ob.size_growth(empty("tenants")), ob.size_growth(frame_of(daily([1.0] * 9)))
    assert list(none.columns) == list(some.columns)
    for name in none.columns:
        if isinstance(some[name].dtype, pd.CategoricalDtype):
            assert isinstance(none[name].dtype, pd.CategoricalDtype), name
        else:
            assert none[name].dtype == some[name].dtype, name
    assert none.empty


def test_only_tenants_make_series() -> None:
    with pytest.raises(
        ValueError, match=r"by must be one of tenant, cluster, fleet, not 'instance'"
    ):
        ob.size_growth(empty("tenants"), by="instance")
    with pytest.raises(DataError, match="no tenants frame"):
        ob.size_growth(pd.DataFrame({"size_gib": [1.0]}))
    with pytest.raises(TypeError, match="expected BackupSets or a tenants frame"):
        ob.size_growth([1, 2])  # type: ignore[arg-type]


# --- against plain loops -------------------------------------------------------------------------

ROW = st.fixed_dictionaries(
    {
        "instance_id": st.sampled_from(["ob1", "ob1", "ob1", "ob0"]),
        "tenant_id": st.sampled_from(["t1", "t1", "t1", "t0"]),
        "backup_set_id": st.integers(0, 80).map(lambda number: f"s{number}"),
        "state": st.sampled_from([*["done"] * 9, "running", "failed", "unknown"]),
        "hour": st.one_of(*[st.integers(0, 480)] * 9, st.none()),
        "took": st.one_of(*[st.integers(-1, 30)] * 9, st.none()),
        "size_gib": st.one_of(
            st.integers(1, 30).map(lambda c: c / 100),
            *[st.integers(0, 40).map(lambda c: 20 + c / 4)] * 8,
            st.just(math.nan),
        ),
        "storage_class": st.sampled_from(["standard", "archive"]),
        "in_window": st.sampled_from([*[True] * 8, False]),
    }
)
SIZES = st.lists(st.integers(0, 40).map(lambda c: 20 + c / 4), min_size=8, max_size=20)


def named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give all copies of a set one mode, and let tenants be renamed now and then."""
    modes = {"8": False, "9": None}
    for row in rows:
        row["full"] = modes.get(row["backup_set_id"][-1], True)
        row["tenant_name"] = "new" if row["hour"] is None else f"n{row['hour'] // 100}"
    return rows


@st.composite
def histories(draw: Any) -> list[dict[str, Any]]:
    """Draw a series that is long enough for a trend, or none, and odd rows beside it."""
    rows = draw(st.lists(ROW, max_size=10))
    if draw(st.integers(0, 3)):
        step = draw(st.integers(10, 26))
        sizes = enumerate(draw(SIZES))
        rows += [
            done_set(0, size, hour=number * step, backup_set_id=f"b{number}0")
            for number, size in sizes
        ]
    return named(rows)


INSTANT = st.one_of(st.none(), st.integers(0, 520))


def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with copies of one set that differ in nothing but state, size and class."""
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    shared = ("hour", "took", "full", "in_window", "tenant_name")
    made = []
    for row in rows:
        own = first.setdefault((row["instance_id"], row["tenant_id"], row["backup_set_id"]), row)
        # A set without a start is the newest of all: its name is the tenant's.
        undated = {"in_window": True} if own["hour"] is None else {}
        made.append(row | {name: own[name] for name in shared} | undated)
    return made


def plain_growth(
    rows: list[dict[str, Any]], now: int | None, window: tuple[int | None, int | None] | None
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the numbers of every series: dicts and loops only."""
    copies: dict[tuple[str, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    series: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in rows:
        hour, took = row["hour"], row["took"]
        if now is not None and hour is not None and hour > now:
            continue
        inside = row["in_window"]
        if window is not None:
            low, high = (-math.inf if window[0] is None else window[0]), window[1]
            inside = hour is None or low <= hour < (math.inf if high is None else high)
        if not inside:
            continue
        is_full = row["full"]
        tenant = (row["instance_id"], row["tenant_id"])
        name = (*tenant, 2 if is_full is None else int(not is_full))
        newest = (hour if hour is not None else math.inf, row["tenant_name"])
        own = series.setdefault(name, {"sets": 0, "n": [], "newest": newest})
        own["newest"] = max(own["newest"], newest)
        end = None if hour is None or took is None else hour + took
        runs = now is not None and end is not None and end > now
        if row["state"] == "done" and not runs:
            size = math.inf if math.isnan(row["size_gib"]) else row["size_gib"]
            order = [math.inf if each is None else each for each in (hour, end)]
            copies[(*tenant, row["backup_set_id"])].append((*order, size, name))
    for (_, _, set_id), held in copies.items():
        hour, _, size, name = min(held, key=lambda copy: copy[:3])
        series[name]["sets"] += 1
        if hour < math.inf and size < math.inf:
            series[name]["n"].append((hour / 24, set_id, size))
    return {name: plain_numbers(series[name]) for name in sorted(series)}


def plain_numbers(series: dict[str, Any]) -> dict[str, Any]:
    points = [(day, size) for day, _, size in sorted(series["n"])]
    line, log = plain_line(points), plain_line([(d, math.log(s)) for d, s in points if s >= 0.1])
    percent = [100 * (math.exp(30 * each) - 1) for each in (log[0], log[2], log[3])]
    sizes = [points[0][1], points[-1][1]] if points else [math.nan, math.nan]
    verdict = "growing" if line[2] > 0 else "shrinking" if line[3] < 0 else "flat"
    return {
        "sets": series["sets"],
        "n": len(points),
        "days": points[-1][0] - points[0][0] if points else math.nan,
        "name": series["newest"][1],
        "numbers": [*sizes, line[0], line[2], line[3], *percent],
        "verdict": "too_little_history" if math.isnan(line[0]) else verdict,
    }


def plain_line(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    days = [day for day, _ in points]
    if len(points) < 8 or max(days) - min(days) < 6:
        return (math.nan,) * 4
    return plain_theil_sen(points)


def as_plain(table: pd.DataFrame) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the result in the shape of the reference."""
    found = {}
    for row in table.to_dict("records"):
        mode = 2 if pd.isna(row["full"]) else int(not row["full"])
        found[row["instance_id"], row["tenant_id"], mode] = {
            "sets": row["sets"],
            "n": row["n"],
            "days": row["span"] / pd.Timedelta("1D"),
            "name": row["tenant_name"],
            "numbers": [row[name] for name in NUMBERS],
            "verdict": row["verdict"],
            # Steps and correlated neighbours are measured by other tests.
            "steps": row["steps"],
            "plain": row["steps"] == 0 and row["mk_method"] != "autocorrelated",
        }
    return found


def assert_same(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        mine = found[name]
        for part in ("sets", "n", *(["verdict"] if mine["plain"] else [])):
            assert mine[part] == wanted[part], (name, part)
        assert mine["days"] == pytest.approx(wanted["days"], nan_ok=True, abs=1e-9)
        same = [0, 1] if mine["steps"] else [0, 1, 2, 5] + [3, 4] * mine["plain"]
        for place in same:
            assert mine["numbers"][place] == pytest.approx(
                wanted["numbers"][place], rel=1e-8, abs=1e-8, nan_ok=True
            )
        if not mine["steps"]:  # where neighbours are alike, intervals are wider
            for low, high in ((3, 4), (6, 7)):
                slack = 1e-8 * (1 + abs(wanted["numbers"][high]) + abs(wanted["numbers"][low]))
                assert not mine["numbers"][low] > wanted["numbers"][low] + slack
                assert not mine["numbers"][high] < wanted["numbers"][high] - slack


def newest_hour(rows: list[dict[str, Any]]) -> int | None:
    """Return when the last of the sets started or ended."""
    begun = [(row["hour"], row["took"] or 0) for row in rows if row["hour"] is not None]
    return max((hour + max(took, 0) for hour, took in begun), default=None)


@settings(max_examples=50)
@given(histories(), INSTANT, st.randoms(use_true_random=False))
def test_growth_agrees_with_plain_loops(
    rows: list[dict[str, Any]], now: int | None, random: Any
) -> None:
    rows = alike(rows)
    frame = frame_of(rows).sample(frac=1, random_state=random.randrange(10**6))
    before = frame.copy(deep=True)
    table = ob.size_growth(frame, as_of=None if now is None else at(now))
    pd.testing.assert_frame_equal(frame, before)
    newest = newest_hour(rows)
    assert_same(as_plain(table), plain_growth(rows, newest if now is None else now, None))


@settings(max_examples=30)
@given(histories(), INSTANT, INSTANT)
def test_growth_in_a_window_agrees_with_plain_loops(
    rows: list[dict[str, Any]], start: int | None, end: int | None
) -> None:
    if start is not None and end is not None and end < start:
        start, end = end, start
    rows = alike(rows)
    bounds = tuple(None if each is None else at(each) for each in (start, end))
    table = ob.size_growth(frame_of(rows), window=bounds)  # type: ignore[arg-type]
    assert_same(as_plain(table), plain_growth(rows, None, (start, end)))


# --- against the simulator's truth ---------------------------------------------------------------


def history(seed: int, **changes: Any) -> simulator.History:
    options = {"days": 180, "tenants": 20} | changes
    return simulator.simulate(simulator.Scenario(NOW, seed=seed, **options))


@cache
def measured(low: float, high: float) -> pd.DataFrame:
    """Return the growth of 8 fleets of 20 tenants, each row with its tenant's true growth."""
    tables = []
    for seed in range(8):
        past = history(seed, growth_per_30d=(low, high))
        table = ob.size_growth(sets_of(past))
        truth = {t.tenant_id: t for each in past.instances for t in each.tenants}
        own = [truth[tenant] for tenant in table["tenant_id"]]
        table["true_percent"] = [100 * math.expm1(30 * t.growth_per_day) for t in own]
        table["true_gib"] = [true_gib_per_day(t, past) for t in own]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def true_gib_per_day(tenant: Any, past: simulator.History) -> float:
    """Return the mean growth of the tenant's full size over the whole history."""
    days = past.scenario.days
    return float(tenant.size_gib * math.expm1(tenant.growth_per_day * days) / days)


def holds(table: pd.DataFrame, name: str, truth: str) -> float:
    """Return how often an interval holds the truth."""
    return float(
        ((table[f"{name}_low"] <= table[truth]) & (table[truth] <= table[f"{name}_high"])).mean()
    )


@pytest.mark.parametrize("growth", [(0.0, 0.06), (0.0, 0.0), (-0.05, -0.02)])
def test_true_growth_is_recovered_in_every_fleet(growth: tuple[float, float]) -> None:
    """Half a year of weekly fulls and daily incrementals, noise of 3 % of the size, 160 tenants.

    Measured: the farthest full series is off by 0.97 points of percent in 30 days, the farthest
    incremental one, with its weekends, by 0.53.
    """
    table = measured(*growth)
    off = (table["percent_per_30d"] - table["true_percent"]).abs()
    assert table["full"].sum() == 160
    # Of 480 series one of 27 sets has a step on a slope that there is not.
    assert off[table["full"]].quantile(0.99) < 1.2
    assert off[~table["full"]].max() < 0.7


@pytest.mark.parametrize("growth", [(0.0, 0.06), (0.0, 0.0), (-0.05, -0.02)])
def test_the_interval_holds_the_truth_as_often_as_it_says(growth: tuple[float, float]) -> None:
    """Of 160 full series 95 % should, give or take 1.7 %: measured 95.0, 95.0 and 95.0 % for the
    percentage, 94.4, 95.0 and 94.4 % for the size, whose truth is a curve.

    Incremental sets are smaller on weekends: their pairs are of one weekday each.
    """
    table = measured(*growth)
    full, part = table[table["full"]], table[~table["full"]]
    assert 0.91 <= holds(full, "percent_per_30d", "true_percent") <= 0.99
    assert 0.91 <= holds(full, "gib_per_day", "true_gib") <= 0.99
    assert 0.91 <= holds(part, "percent_per_30d", "true_percent") <= 0.99


def test_the_growth_in_gibibytes_is_that_from_end_to_end() -> None:
    """Measured: off by 1.1 % of the size in 30 days at most, at 160 full series of 3 % noise."""
    table = measured(0.0, 0.06)
    full = table[table["full"]]
    off = 30 * (full["gib_per_day"] - full["true_gib"]).abs() / full["last_size_gib"]
    assert off.max() < 0.012


def test_what_does_not_grow_is_rarely_said_to() -> None:
    """Measured: 8 of 160 fulls that do not grow (5 %), none of those that shrink by 2 to 5 %."""
    still = measured(0.0, 0.0)
    assert (still.loc[still["full"], "verdict"] != "flat").mean() <= 0.09
    shrunk, grown = measured(-0.05, -0.02), measured(0.0, 0.06)
    assert (shrunk["verdict"] == "shrinking").mean() >= 0.98
    assert (shrunk["verdict"] != "growing").all()
    assert (grown.loc[grown["true_percent"] > 2, "verdict"] == "growing").mean() >= 0.98
    assert (grown["verdict"] != "shrinking").all()


def test_the_verdict_follows_from_the_interval() -> None:
    table = pd.concat([measured(0.0, 0.06), measured(0.0, 0.0), measured(-0.05, -0.02)])
    low, high = table["gib_per_day_low"], table["gib_per_day_high"]
    expected = np.select([low > 0, high < 0], ["growing", "shrinking"], "flat")
    assert (table["verdict"].astype("str") == expected).all()
    assert ((low <= table["gib_per_day"]) & (table["gib_per_day"] <= high)).all()
    percent = table["percent_per_30d"]
    assert (table["percent_per_30d_low"] <= percent).all()
    assert (percent <= table["percent_per_30d_high"]).all()


def test_the_window_of_backup_sets_goes_by_their_cluster_set() -> None:
    """A tenant set starts up to four minutes after its cluster set and follows it."""
    sets = sets_of(history(3, days=90))
    bound = sets.clusters["start_time"].sort_values().iloc[40]
    follows = sets.tenants["start_time"] > bound
    begins_at = sets.tenants["cluster_backup_set_id"].map(
        sets.clusters.set_index("backup_set_id")["start_time"]
    )
    assert (follows & (begins_at <= bound)).any()
    early = ob.size_growth(sets, window=(None, bound))
    expected = sets.tenants.loc[begins_at < bound]
    pd.testing.assert_frame_equal(early, ob.size_growth(expected))
    late = ob.size_growth(sets, window=(bound, None))
    pd.testing.assert_frame_equal(late, ob.size_growth(sets.between(bound, None)))
    pd.testing.assert_frame_equal(late, ob.size_growth(sets.tenants[begins_at >= bound]))
    assert late["sets"].sum() + early["sets"].sum() == len(sets.tenants)


def test_a_slice_made_with_pandas_gives_the_tenant_the_same_row() -> None:
    sets = sets_of(history(4, days=90, instances=2, tenants=3))
    table, tenant = ob.size_growth(sets), sets.tenants["tenant_id"].iloc[0]
    before = sets.tenants.copy(deep=True)
    sliced = sets.tenants.query("tenant_id == @tenant").sort_values("size_gib")
    own = ob.size_growth(
        sliced[
            [
                "instance_id",
                "tenant_id",
                "tenant_name",
                "backup_set_id",
                "full",
                "state",
                "start_time",
                "end_time",
                "size_gib",
            ]
        ]
    )
    expected = table[table["tenant_id"] == tenant].reset_index(drop=True)
    share = expected["growth_share"]
    assert (own.pop("growth_share") >= expected.pop("growth_share")).all(), share
    pd.testing.assert_frame_equal(own, expected, check_categorical=False)
    pd.testing.assert_frame_equal(sets.tenants, before)
    pd.testing.assert_frame_equal(table, ob.size_growth(sets.tenants))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    sets = sets_of(history(6, days=60, instances=2, tenants=4))
    shuffled = sets.tenants.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(ob.size_growth(sets), ob.size_growth(shuffled))


def test_a_step_is_no_growth_of_a_percentage_a_month() -> None:
    """A size that doubles once, at the middle, has most pairs on one side of it or the other."""
    plants = (simulator.Plant("step", tenant=0, days_ago=10.0, factor=2.0),)
    past = history(5, tenants=2, full_every=1, growth_per_30d=(0.0, 0.0), plants=plants)
    table = ob.size_growth(sets_of(past)).set_index("tenant_id")
    row = table.loc[past.instances[0].tenants[0].tenant_id]
    # A line by least squares would rise by a tenth of the size in a month; the median does not.
    assert abs(row["percent_per_30d"]) < 1
    assert row["last_size_gib"] > 1.7 * row["first_size_gib"]


# --- every other column by hand ------------------------------------------------------------------


def test_doubling_time_by_hand() -> None:
    # One percent a day doubles in ln 2 / ln 1.01 = 69.6607 days.
    row = one(daily([100 * 1.01**day for day in range(12)]))
    assert row["doubling_time"] / pd.Timedelta("1D") == pytest.approx(69.6607, abs=1e-4)
    assert pd.isna(one(daily([20.0 - day for day in range(9)]))["doubling_time"])
    assert pd.isna(one(daily([5.0] * 9))["doubling_time"])


def test_the_share_in_the_growth_by_hand() -> None:
    rows = []
    for tenant, slope in (("t1", 1.0), ("t2", 3.0), ("t3", -2.0)):
        rows += daily([100 + slope * day for day in range(9)], tenant_id=tenant)
    rows += [done_set(day, 9 + day, full=False, backup_set_id=f"i{day}") for day in range(9)]
    rows += daily([1.0, 2.0], tenant_id="t4")
    table = ob.size_growth(frame_of(rows))
    # Fulls grow by 1 and 3 GiB a day: 1 / 4 and 3 / 4; what shrinks has no share; incremental sets
    # are among themselves; two sets have no slope.
    shares = table.set_index(["tenant_id", "full"])["growth_share"]
    assert shares[[("t1", True), ("t2", True), ("t3", True), ("t1", False)]].tolist() == [
        *(0.25, 0.75, 0.0, 1.0)
    ]
    assert math.isnan(shares["t4", True])


def test_churn_by_hand() -> None:
    rows = [done_set(0, 100), done_set(3, 200)]
    for number, (day, size) in enumerate([(-1, 50), (1, 4), (2.5, 3), (4, 4), (6, 8)]):
        rows.append(done_set(day, size, full=False, backup_set_id=f"i{number}"))
    # Of 100 GiB: 4 in a day, 4 %; 3 in 1.5 days, 2 %. Of 200: 4 in a day, 2 %; 8 in 2 days, 2 %.
    # The first has no full set before it. The median of 4, 2, 2 and 2 is 2.
    table = ob.size_growth(frame_of(rows)).set_index("full")
    assert table.loc[False, "churn_percent_per_day"] == pytest.approx(2.0)
    assert math.isnan(table.loc[True, "churn_percent_per_day"])


def test_a_step_by_hand() -> None:
    # From 20 to 32 GiB between the 20th and the 21st set, and half a GiB a day before and after.
    sizes = [20 + 0.5 * day + (12 if day >= 20 else 0) for day in range(24)]
    row = one(daily(sizes))
    assert (row["steps"], row["step_at"]) == (1, at(24 * 20))
    assert (row["gib_per_day"], row["verdict"]) == (pytest.approx(0.5), "growing")
    # Medians of 8 sets before, 26 to 29.5, and 4 after, 42 to 43.5: 27.75 and 42.75, of days 15.5
    # and 21.5; in 6 days it grows by 3: 42.75 - 27.75 - 3 = 12.
    assert row["step_gib"] == pytest.approx(12.0)
    grown = math.log1p(row["percent_per_30d"] / 100) / 30 * 6
    assert row["step_factor"] == pytest.approx(42.75 / 27.75 / math.exp(grown), rel=0.005)
    steps = carried(ob.size_growth(frame_of(daily(sizes))), "steps")
    assert steps is not None
    first = steps.iloc[0]
    assert (first["before_gib"], first["after_gib"]) == (27.75, 42.75)
    assert (first["set_before"], first["set_after"]) == ("s0456.0", "s0480.0")


def test_one_strange_set_is_no_step() -> None:
    sizes = [100 + day + (day % 3) / 4 for day in range(30)]
    spoilt = [*sizes[:14], 20.0, *sizes[15:]]
    assert one(daily(spoilt))["steps"] == 0
    assert one(daily(spoilt))["gib_per_day"] == pytest.approx(1.0, abs=0.02)


def test_what_rides_along_and_survives(tmp_path: Any) -> None:
    sets = sets_of(history(2, days=60, tenants=3))
    table = ob.size_growth(sets)
    assert set(table.attrs["units"]) <= set(table.columns)
    points = carried(table, "points")
    assert points is not None
    assert len(points) == table["n"].sum()
    assert list(points) == [*list(table)[:4], "backup_set_id", "start_time", "size_gib"]
    json.dumps(table.attrs)
    table.to_parquet(tmp_path / "growth.parquet")
    again = pickle.loads(pickle.dumps(table))  # noqa: S301 - its own
    pd.testing.assert_frame_equal(carried(again, "points"), points)
    assert carried(table[table["full"]].head(1), "points") is points


# --- clusters and the fleet ----------------------------------------------------------------------


def test_a_cluster_grows_by_what_its_tenants_do() -> None:
    sets = sets_of(history(3, days=90, tenants=4, noise=0.0, instances=2))
    clusters, tenants = (ob.size_growth(sets, by=by) for by in ("cluster", "tenant"))
    assert clusters["tenant_id"].isna().all()
    assert list(clusters.columns) == list(tenants.columns)
    full = tenants[tenants["full"]].groupby("instance_id", observed=True)["gib_per_day"].sum()
    mine = clusters[clusters["full"]].set_index("instance_id")["gib_per_day"]
    assert mine[full.index].to_numpy() == pytest.approx(full.to_numpy(), rel=0.02)
    with pytest.raises(ValueError, match="a plain tenants frame has no cluster sets"):
        ob.size_growth(sets.tenants, by="cluster")


def plain_fleet(frame: pd.DataFrame) -> list[tuple[pd.Timestamp, float]]:
    """Return the sum of all tenants' newest full sets, every seven days."""
    full = frame[frame["full"] & frame["state"].eq("done")].sort_values("start_time")
    first, last, tenants = full["start_time"].min(), full["start_time"].max(), []
    for _, own in full.groupby(["instance_id", "tenant_id"], observed=True):
        usual = own["start_time"].diff().median()
        usual = pd.Timedelta("7D") if pd.isna(usual) else usual
        tenants.append((list(zip(own["start_time"], own["size_gib"], strict=True)), usual))
    begin = max(own[0][0] for own, usual in tenants if own[0][0] <= first + usual)
    made, now = [], last
    while now >= begin:
        total = 0.0
        for own, usual in tenants:
            held = [(start, size) for start, size in own if start <= now]
            if held and now < held[-1][0] + 3 * usual:
                total += held[-1][1]
        made.append((now, total))
        now -= pd.Timedelta("7D")
    return made[::-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_fleet_agrees_with_plain_loops(seed: int) -> None:
    plants = (
        simulator.Plant("created", tenant=1, days_ago=60.0),
        simulator.Plant("dropped", tenant=2, days_ago=50.0),
    )
    sets = sets_of(history(seed, days=150, tenants=4, instances=2, plants=plants))
    table = ob.size_growth(sets, by="fleet")
    assert table["full"].tolist() == [True, False]
    assert table[["instance_id", "tenant_id"]].isna().all(axis=None)
    points = carried(table, "points")
    assert points is not None
    stock = points[points["full"]]
    expected = plain_fleet(sets.tenants)
    assert stock["start_time"].tolist() == [now for now, _ in expected]
    assert stock["size_gib"].tolist() == pytest.approx([size for _, size in expected])
    part = sets.tenants[~sets.tenants["full"] & sets.tenants["state"].eq("done")]
    daily_sum = part.groupby(part["start_time"].dt.floor("D"))["size_gib"].sum()
    flow = points[~points["full"]].set_index("start_time")["size_gib"]
    known = flow[flow > 0]
    assert known.to_numpy() == pytest.approx(daily_sum.iloc[1:-1].to_numpy())
    assert ob.size_growth(empty("tenants"), by="fleet").empty


# --- the intervals hold the truth ----------------------------------------------------------------


def planted(
    kind: str, days: int, seed: int, *, correlation: float = 0.0, step: float = 1.0
) -> tuple[pd.DataFrame, Any]:
    """Return 600 tenants as the simulator makes them, and the growth of each in percent."""
    count, chance = 600, np.random.default_rng(seed)
    growth = chance.uniform(0, 0.06, count)
    day = np.arange(days)
    is_full = (day - chance.integers(0, 7, count)[:, None]) % 7 == 0
    noise = chance.normal(size=(count, days))
    who, when = np.nonzero(is_full if kind == "full" else ~is_full)
    place = np.concatenate([np.arange(each) for each in np.bincount(who)])
    mine = noise[who, when]
    for number in np.flatnonzero(place > 0) if correlation else ():
        kept = math.sqrt(1 - correlation**2)
        mine[number] = correlation * mine[number - 1] + kept * mine[number]
    age = when + chance.uniform(0.75, 0.9, count)[who]
    log = np.log(chance.uniform(20, 200, count))[who] + np.log1p(growth)[who] / 30 * age
    log += 0.03 * mine
    if kind != "full":
        log += math.log(0.05) + math.log(0.9) * np.isin((T0.weekday() + when) % 7, [5, 6])
    total = np.bincount(who)
    log += math.log(step) * (place >= (total * chance.uniform(0.35, 0.65, count))[who])
    table = pd.DataFrame(
        {
            "instance_id": "ob1",
            "tenant_id": pd.Categorical([f"t{each:03}" for each in who]),
            "backup_set_id": [f"s{number}" for number in range(len(who))],
            "full": pd.array(np.full(len(who), kind == "full"), dtype="boolean"),
            "state": "done",
            "start_time": T0 + pd.to_timedelta((age * 86400).round(), unit="s").as_unit("us"),
            "size_gib": np.round(np.exp(log), 2),
        }
    )
    return conform(table, "tenants"), 100 * growth


@pytest.mark.parametrize(
    ("kind", "days", "options", "least", "most"),
    [
        ("full", 182, {}, 0.93, 0.97),
        ("full", 364, {}, 0.93, 0.97),
        ("part", 182, {}, 0.93, 0.97),
        ("part", 364, {}, 0.93, 0.97),  # thinned
        ("full", 182, {"step": 1.6}, 0.93, 0.97),
        ("full", 364, {"step": 1.6}, 0.93, 0.97),
        ("part", 182, {"step": 1.6}, 0.93, 0.97),
        ("full", 182, {"correlation": 0.5}, 0.88, 0.97),
        ("full", 364, {"correlation": 0.5}, 0.88, 0.97),
        ("part", 182, {"correlation": 0.5}, 0.88, 0.97),
    ],
)
def test_planted_growth_is_in_the_interval_as_often_as_it_says(
    kind: str, days: int, options: dict[str, float], least: float, most: float
) -> None:
    made = [planted(kind, days, seed, **options) for seed in range(1, 2 if options else 5)]
    table = pd.concat([ob.size_growth(frame) for frame, _ in made])
    truth = np.concatenate([growth for _, growth in made])
    held = (table["percent_per_30d_low"] <= truth) & (truth <= table["percent_per_30d_high"])
    assert least <= held.mean() <= most
    assert table["thinned"].all() == (table["n"] > 150).all()
    if "step" in options:
        assert (table["steps"] == 1).mean() > 0.95
        assert (table["step_factor"] - 1.6).abs().median() < 0.05
    else:
        assert (table["steps"] > 0).mean() < 0.02


def test_a_planted_step_leaves_the_slope_alone() -> None:
    plants = tuple(
        simulator.Plant("step", tenant=each, days_ago=150.0, factor=1.6) for each in range(10)
    )
    plants += tuple(
        simulator.Plant("anomaly", tenant=each, days_ago=100.2, factor=0.2) for each in range(10)
    )
    past = history(11, days=330, tenants=10, plants=plants)
    table = ob.size_growth(sets_of(past))
    truth = {
        t.tenant_id: 100 * math.expm1(30 * t.growth_per_day) for t in past.instances[0].tenants
    }
    off = table["percent_per_30d"] - table["tenant_id"].astype("str").map(truth)
    assert off.abs().max() < 1.0
    assert (table["steps"] == 1).all()
    begun = past.scenario.now - dt.timedelta(days=150)
    late = (table["step_at"] - begun) / pd.Timedelta("1D")
    assert late.between(-7, 11).all()  # the first full set after it, or the next
    assert table["step_factor"].between(1.5, 1.72).all()
