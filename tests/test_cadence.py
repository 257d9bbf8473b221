"""Clocks, given rules, cron slots and inferred cadences, as numbers."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obanalytics.cadence import grids_of, regimes_of, snapped
from obanalytics.clock import (
    ANY,
    DAY,
    FULL,
    HOUR,
    INCREMENTAL,
    MINUTE,
    WEEK,
    Rule,
    clock_of,
    cron_slots,
    rules_of,
)
from obanalytics.recovery import NEVER

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe")
LOW, HIGH = (int(pd.Timestamp(year, tz="UTC").value // 1000) for year in ("2024", "2028"))


def us(text: str, tz: str = "UTC") -> int:
    return int(pd.Timestamp(text, tz=tz).value // 1000)


def local(at: int, tz: str) -> str:
    return f"{pd.Timestamp(at, unit='us', tz='UTC').tz_convert(tz):%m-%d %H:%M %z}"


# --- clocks --------------------------------------------------------------------------------------


@given(st.sampled_from(ZONES), st.integers(LOW, HIGH))
def test_wall_clock_is_what_zoneinfo_says(tz: str, at: int) -> None:
    moment = EPOCH + dt.timedelta(microseconds=at)
    shown = moment.astimezone(ZoneInfo(tz)).replace(tzinfo=dt.UTC)
    found = clock_of(tz, LOW, HIGH).wall(np.array([at]))[0]
    assert found == (shown - EPOCH) // dt.timedelta(microseconds=1)


@given(st.sampled_from(ZONES), st.integers(LOW // MINUTE, HIGH // MINUTE))
def test_wall_times_come_back_as_the_first_instant_or_the_change(tz: str, minute: int) -> None:
    clock, wall = clock_of(tz, LOW, HIGH), minute * MINUTE
    found = int(clock.utc(np.array([wall]))[0])
    # Every minute of a day around it: the first that shows the time, or, where none does, a later.
    near = wall + np.arange(-1500, 1500) * MINUTE
    shown = clock.wall(near)
    exact = near[shown == wall]
    assert found == (exact[0] if len(exact) else near[shown > wall][0])


def test_changes_are_found_to_the_second() -> None:
    clock = clock_of("Europe/Berlin", us("2026-01-01"), us("2026-12-31"))
    assert {us("2026-03-29T01:00"), us("2026-10-25T01:00")} <= set(clock.at.tolist())


# --- given rules ---------------------------------------------------------------------------------


def test_given_schedules_are_read() -> None:
    assert rules_of("0  2 * * 6") == {ANY: Rule(("0 2 * * 6",), 0)}
    assert rules_of("12h") == {ANY: Rule((), 12 * HOUR)}
    assert rules_of("1 day") == {ANY: Rule((), DAY)}
    assert rules_of(pd.Timedelta("7D")) == {ANY: Rule((), WEEK)}
    assert rules_of(["0 2 * * 6", "0 4 * * 1-5"]) == {ANY: Rule(("0 2 * * 6", "0 4 * * 1-5"), 0)}
    assert rules_of({"full": "7D", "incremental": "1d"}) == {
        FULL: Rule((), WEEK),
        INCREMENTAL: Rule((), DAY),
    }
    assert rules_of({}) == {}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("0 25 * * *", "Bad hour.*expected a cron text"),
        ("* * *", "3 fields, not 5"),
        ("0 0 2 * * 6", "6 fields, not 5"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("soon", "'soon'.*a duration such as"),
        ("7", "'7'.*expected"),
        ("0h", "shorter than a minute: '0h'"),
        ("-1D", "'-1D'"),
        (7, "7.*expected"),
        ([], r"\[\]"),
        (["0 2 * * *", 3], "no cron text: 3"),
        ({"fully": "7D"}, "no mode 'fully'.*any, full, incremental"),
        ({"full": None}, "schedule full is no schedule: None"),
    ],
)
def test_bad_schedules_name_the_value(bad: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rules_of(bad)


@pytest.mark.parametrize(
    ("tz", "days", "expected"),
    [
        (
            "Europe/Berlin",
            ("2026-03-28", "2026-03-31"),
            ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"],
        ),
        (
            "Europe/Berlin",
            ("2026-10-24", "2026-10-27"),
            ["10-24 02:30 +0200", "10-25 02:30 +0200", "10-26 02:30 +0100"],
        ),
        (
            "America/New_York",
            ("2026-03-07", "2026-03-10"),
            ["03-07 02:30 -0500", "03-08 03:00 -0400", "03-09 02:30 -0400"],
        ),
        (
            "America/New_York",
            ("2026-10-31", "2026-11-03"),
            ["10-31 02:30 -0400", "11-01 02:30 -0500", "11-02 02:30 -0500"],
        ),
    ],
)
def test_a_daily_slot_comes_once_on_days_on_which_clocks_change(
    tz: str, days: tuple[str, str], expected: list[str]
) -> None:
    low, high = (us(day, tz) for day in days)
    assert [local(at, tz) for at in cron_slots(("30 2 * * *",), tz, low, high)] == expected
    # In New York 01:30 comes twice in autumn: one slot.
    assert len(cron_slots(("30 1 * * *",), tz, low, high)) == len(expected)


def test_cron_texts_are_joined_without_repetition() -> None:
    low, high = us("2026-05-04"), us("2026-05-11")
    slots = cron_slots(("0 2 * * 1-5", "0 2 * * 1", "0 4 * * 6"), "UTC", low, high)
    assert [local(at, "UTC") for at in slots] == [
        *(f"05-0{day} 02:00 +0000" for day in range(4, 9)),
        "05-09 04:00 +0000",
    ]


@given(
    st.sampled_from(ZONES),
    st.integers(0, 59),
    st.integers(0, 23),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.integers(LOW // HOUR, HIGH // HOUR - 24 * 40),
)
def test_plain_cron_texts_are_read_like_all_others(
    tz: str, minute: int, hour: int, days: list[int], low: int
) -> None:
    begin, end = low * HOUR, low * HOUR + 40 * DAY
    week = ",".join(map(str, days))
    plain = cron_slots((f"{minute} {hour} * * {week}",), tz, begin, end)
    # A range of months is not plain.
    other = cron_slots((f"{minute} {hour} * 1-12 {week}",), tz, begin, end)
    assert plain.tolist() == other.tolist()


# --- inferred ------------------------------------------------------------------------------------


def runs(*texts: str, tz: str = "UTC") -> Any:
    return np.array([us(text, tz) for text in texts])


def daily(first: str, days: int, tz: str = "UTC") -> Any:
    naive = pd.date_range(first, periods=days, freq="D", unit="us")
    stamps = naive.tz_localize(tz, ambiguous=np.ones(days, bool), nonexistent="shift_forward")
    return stamps.tz_convert("UTC").tz_localize(None).to_numpy().view(np.int64)


UTC = clock_of("UTC", LOW, HIGH)


def test_periods_near_nice_ones_are_nice() -> None:
    near = np.array([0, DAY * 98 // 100, DAY * 102 // 100, DAY * 97 // 100, 7 * DAY + HOUR])
    assert snapped(near).tolist() == [0, DAY, DAY, DAY * 97 // 100, 7 * DAY]


def test_a_grid_hand_computed() -> None:
    # Starts at 02:00, 02:04, 02:10 (missing a day), 02:04, 02:03.
    start = runs(
        "2026-05-01T02:00",
        "2026-05-02T02:04",
        "2026-05-03T02:10",
        "2026-05-05T02:04",
        "2026-05-06T02:03",
    )
    grids = grids_of(np.zeros(5, np.int64), start, None, 1, UTC)
    assert grids.every.tolist() == [DAY]
    slot = grids.phase[0] + grids.first[0] * DAY
    assert slot == us("2026-05-01T02:04")
    assert (grids.delay // MINUTE).tolist() == [-4, 0, 6, 0, -1]
    assert (grids.number - grids.first[0]).tolist() == [0, 1, 2, 4, 5]
    assert grids.dispersion.tolist() == [round(1.4826 * MINUTE)]  # of 0, 0, 1, 4, 6 minutes
    assert grids.confidence.tolist() == [0.75]  # three of four steps lead to the next slot


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (daily("2026-01-01T02:00", 60), [(DAY, 60)]),
        # A week's outage is no new cadence.
        (
            np.concatenate([daily("2026-01-01T02:00", 30), daily("2026-02-08T02:00", 30)]),
            [(DAY, 60)],
        ),
        # Daily, weekly, daily: the run on the border is the older's.
        (
            np.concatenate(
                [
                    daily("2026-01-01T02:00", 30),
                    daily("2026-01-30T02:00", 70)[7::7],
                    daily("2026-04-04T02:00", 30),
                ]
            ),
            [(DAY, 30), (WEEK, 9), (DAY, 30)],
        ),
        # Hourly, then daily.
        (
            np.concatenate(
                [us("2026-01-01") + HOUR * np.arange(200), daily("2026-01-10T02:00", 12)]
            ),
            [(HOUR, 200), (DAY, 12)],
        ),
        # Another hour of the day, and an outage before it.
        (
            np.concatenate([daily("2026-01-01T02:00", 30), daily("2026-01-31T14:00", 30)]),
            [(DAY, 30), (DAY, 30)],
        ),
    ],
)
def test_new_cadences_are_told_from_outages(start: Any, expected: list[tuple[int, int]]) -> None:
    found = regimes_of(np.sort(start), UTC)
    assert [(each.every, each.runs) for each in found] == expected
    assert found[-1].until == NEVER
    # Every run is at a slot of its cadence, and none is owed in between but in outages.
    slots = np.concatenate([each.slots(int(start.max()) + 1) for each in found])
    assert set(np.sort(start)) <= set(slots.tolist())


def test_two_intervals_are_no_new_cadence_and_three_are() -> None:
    base = daily("2026-01-01T02:00", 30)
    assert len(regimes_of(np.append(base, base[-1] + WEEK * np.array([1, 2])), UTC)) == 1
    assert len(regimes_of(np.append(base, base[-1] + WEEK * np.array([1, 2, 3])), UTC)) == 2


def test_the_same_hole_every_week_is_a_pattern_after_more_than_three_weeks() -> None:
    base = daily("2026-01-01T02:00", 200)  # from a Thursday on
    weeks = base[-1] + DAY * np.arange(1, 36)
    for lost, kinds in ((2, 1), (5, 2)):
        sundays = [at for at in weeks.tolist() if (at // DAY + 3) % 7 == 6][:lost]
        start = np.append(base, weeks[~np.isin(weeks, sundays)])
        assert len(regimes_of(start, UTC)) == kinds
        grids = grids_of(np.zeros(len(start), np.int64), start, None, 1, UTC)
        assert len(grids.doubtful) == kinds - 1


def test_an_outage_before_a_move_is_owed_by_the_old_cadence() -> None:
    start = np.concatenate([daily("2026-01-01T02:00", 30), daily("2026-02-05T14:00", 30)])
    old, new = regimes_of(start, UTC)
    assert old.until == us("2026-02-04T02:00")  # the 31st to the 4th were missed
    assert new.since == us("2026-02-05T14:00")


@pytest.mark.parametrize(
    ("days", "crons"),
    [
        ("Mon Wed Fri", ("0 2 * * 1,3,5",)),
        ("Mon Thu", ("0 2 * * 1,4",)),
        ("Mon Tue Wed Thu Fri", ("0 2 * * 1,2,3,4,5",)),
        ("Sat Sun", ("0 2 * * 0,6",)),
    ],
)
def test_patterns_of_weekdays_are_recognised(days: str, crons: tuple[str, ...]) -> None:
    stamps = pd.date_range("2026-01-01T02:00", periods=100, freq="D", tz="UTC", unit="us")
    start = stamps[stamps.strftime("%a").isin(days.split())].asi8
    (found,) = regimes_of(start, UTC)
    assert found.crons == crons
    assert found.confidence == 1.0
    assert found.slots(int(start[-1]) + 1).tolist() == start.tolist()
    # And so is a change to it.
    whole = np.concatenate([daily("2025-12-01T02:00", 31), start])
    assert [each.crons for each in regimes_of(whole, UTC)] == [(), crons]


def test_days_are_days_of_the_wall_clock() -> None:
    start = daily("2026-01-01T02:30", 330, tz="Europe/Berlin")
    berlin = clock_of("Europe/Berlin", int(start[0]), int(start[-1]))
    (found,) = regimes_of(start, berlin)
    assert found.tz == "Europe/Berlin"
    assert [each.every for each in regimes_of(start, UTC)] == [DAY] * 3
    # And a scheduler that knows no zone is one cadence by UTC.
    (found,) = regimes_of(daily("2026-01-01T02:30", 330), berlin)
    assert found.tz == "UTC"


@given(
    st.sampled_from([HOUR, 4 * HOUR, DAY, WEEK]),
    st.integers(0, 10**6),
    st.integers(8, 90),
    st.lists(st.integers(-30, 30), min_size=90, max_size=90),
)
def test_jitter_makes_no_new_cadence(every: int, phase: int, count: int, jitter: list[int]) -> None:
    wide = every // 2000
    start = LOW + phase * MINUTE + every * np.arange(count) + wide * np.array(jitter)[:count]
    (found,) = regimes_of(np.sort(start), UTC)
    assert (found.every, found.runs, found.confidence) == (every, count, 1.0)
    grids = grids_of(np.zeros(count, np.int64), np.sort(start), None, 1, UTC)
    assert not len(grids.doubtful)
    assert grids.every.tolist() == [every]
