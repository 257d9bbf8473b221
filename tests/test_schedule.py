"""Schedules, given and inferred, and what was missed of them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import findings_oracle as oracle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import obanalytics as ob
from obanalytics import simulator
from obanalytics.curve import scene_of
from obanalytics.frames import STATES, conform, empty
from obanalytics.schedule import (
    MODES,
    SCHEDULE,
    SLOTS,
    SUMS,
    missed_in,
    missed_runs,
    schedule,
    schedule_compliance,
)
from obanalytics.schema import BackupSets

HOUR = pd.Timedelta("1h")
MINUTE = pd.Timedelta("1min")
TIME = "datetime64[us, UTC]"
DTYPES = {
    "category": "category",
    "instant": TIME,
    "span": "timedelta64[us]",
    "string": "string",
    "int64": "int64",
    "float64": "float64",
}


RUN = ("first", "last", "count", "attempts")


class Run(NamedTuple):
    """A backup set."""

    start: Any
    full: bool | None = True
    state: str = "done"
    trigger: str = "AUTO"
    minutes: float = 10


def frame(*tenants: list[Run]) -> pd.DataFrame:
    """Return a tenants frame of tenants t0, t1, ... of one instance."""
    rows = [
        {
            "instance_id": "ob1",
            "tenant_id": f"t{number:03}",
            "tenant_name": "same",
            "backup_set_id": f"{number}-{turn}",
            "cluster_backup_set_id": f"c{number}-{turn}",
            "full": run.full,
            "state": run.state,
            "validity": "VALID" if run.state == "done" else None,
            "start_time": pd.Timestamp(run.start),
            "end_time": pd.Timestamp(run.start) + run.minutes * MINUTE,
            "checkpoint": pd.Timestamp(run.start) + run.minutes * MINUTE,
            "size_gib": 1.0,
            "storage_class": "standard",
            "trigger_mode": run.trigger,
        }
        for number, runs in enumerate(tenants)
        for turn, run in enumerate(runs)
    ]
    if not rows:
        return empty("tenants")
    made = pd.DataFrame(rows)
    for name in ("start_time", "end_time", "checkpoint"):
        made[name] = pd.to_datetime(made[name], utc=True).astype(TIME)
    made["full"] = made["full"].astype("boolean")
    made["state"] = pd.Categorical(made["state"], categories=list(STATES))
    return conform(made, "tenants")


def stamps(first: str, count: int, freq: str = "D", tz: str = "UTC") -> list[pd.Timestamp]:
    """Return instants, days of the wall clock; a time left out is when the clocks go on."""
    naive = pd.date_range(first, periods=count, freq=freq)
    at = naive.tz_localize(tz, ambiguous=np.ones(count, bool), nonexistent="shift_forward")
    return list(at.tz_convert("UTC"))


def daily(first: str, count: int, tz: str = "UTC") -> list[Run]:
    """Return daily runs, a full every seventh."""
    return [Run(at, turn % 7 == 0) for turn, at in enumerate(stamps(first, count, tz=tz))]


def brief(table: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns as plain values, times as short texts."""

    def plain(value: Any) -> Any:
        if isinstance(value, pd.Timestamp):
            return f"{value:%m-%d %H:%M}"
        return None if pd.isna(value) else value

    return [tuple(map(plain, row)) for row in table[list(columns)].itertuples(index=False)]


def of_mode(table: pd.DataFrame, mode: str) -> pd.DataFrame:
    return table[table["mode"].eq(mode)].reset_index(drop=True)


def outcomes(table: pd.DataFrame) -> Counter[str]:
    return Counter(table["outcome"].astype(str))


def found_in(
    sets: BackupSets | pd.DataFrame, given: Any = None, *, tz: str = "UTC", grace: str = "2h"
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return what `missed_in` finds: slots that were missed, and late ones, tenant by tenant."""
    scene = scene_of(sets, None, None, None)
    missed: list[tuple[Any, ...]] = []
    late: list[tuple[Any, ...]] = []
    ids = scene.known.tenants["backup_set_id"].array
    for view in scene.views():
        count, first = view.part.count, view.part.first
        made = missed_in(
            view,
            None if given is None else [given] * count,
            until=np.full(count, view.end),
            grace=np.full(count, int(pd.Timedelta(grace) / MINUTE) * 60_000_000),
            tz=tz,
        )
        for row in range(len(made.group)):
            who = (int(made.group[row]) + first, MODES[made.mode[row]])
            missed.append(
                (
                    *who,
                    *(int(getattr(made, n)[row]) for n in ("first", "last", "count", "attempts")),
                )
            )
        for row in range(len(made.late_group)):
            who = (int(made.late_group[row]) + first, MODES[made.late_mode[row]])
            at = view.part.rows_of(made.late_set[row : row + 1])
            late.append((*who, int(made.late_slot[row]), ids[at[0]], int(made.late_delay[row])))
    return missed, late


def runs_of(table: pd.DataFrame, tenants: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    """Return the same from the table of slots, row by row."""
    number = {
        key: place
        for place, key in enumerate(
            sorted(set(tenants[["instance_id", "tenant_id"]].itertuples(index=False, name=None)))
        )
    }
    missed: list[Any] = []
    late: list[Any] = []
    before = None
    for row in table.itertuples():
        who = (number[row.instance_id, row.tenant_id], row.mode)
        slot = row.slot.value // 1000
        if row.outcome == "late":
            late.append((*who, slot, row.backup_set_id, int(row.delay / MINUTE * 60_000_000)))
        if row.outcome == "missed":
            if before == who:
                last = missed[-1]
                missed[-1] = (*last[:3], slot, last[4] + 1, last[5] + row.attempts)
            else:
                missed.append((*who, slot, slot, 1, row.attempts))
        before = who if row.outcome == "missed" else None
    return missed, late


def check_agreement(sets: BackupSets | pd.DataFrame, given: Any = None, **how: Any) -> None:
    tenants = sets if isinstance(sets, pd.DataFrame) else sets.tenants
    table = missed_runs(sets, given, **how)
    for one, other in zip(found_in(sets, given, **how), runs_of(table, tenants), strict=True):
        assert sorted(one) == sorted(other)


# --- schedule ------------------------------------------------------------------------------------


def test_a_daily_cadence_with_a_weekly_full() -> None:
    found = schedule(frame(daily("2026-05-04T02:15", 30)))
    columns = ("mode", "since", "until", "weekdays", "hour", "runs", "confidence", "cron", "tz")
    assert brief(found, *columns) == [
        ("any", "05-04 02:15", None, "daily", 2.25, 30, 1.0, "15 2 * * *", "UTC"),
        ("full", "05-04 02:15", None, "Mon", 2.25, 5, 1.0, "15 2 * * 1", "UTC"),
    ]
    assert found["every"].tolist() == [pd.Timedelta("1D"), pd.Timedelta("7D")]
    assert found["dispersion"].tolist() == [pd.Timedelta(0)] * 2
    # The zone that is asked for is that of hours and weekdays.
    there = schedule(frame(daily("2026-05-03T20:15", 30)), tz="Asia/Shanghai")
    assert brief(there, "weekdays", "hour", "cron", "tz") == [
        ("daily", 4.25, "15 4 * * *", "Asia/Shanghai"),
        ("Mon", 4.25, "15 4 * * 1", "Asia/Shanghai"),
    ]


def test_hours_around_midnight_have_a_median() -> None:
    minutes = [-20, 5, -5, 20, 0, -10, 10, 0]
    runs = [
        Run(at + each * MINUTE) for at, each in zip(stamps("2026-05-04", 8), minutes, strict=True)
    ]
    found = schedule(frame(runs))
    assert found["hour"].tolist() == [0.0, 0.0]
    # The distances are 0 0 5 5 10 10 20 20: the lower median is 5.
    assert found["dispersion"].tolist() == [pd.Timedelta("444.78s")] * 2


def test_few_runs_are_unknown() -> None:
    one, two, three, four = (daily("2026-05-04T02:00", count) for count in range(1, 5))
    found = of_mode(schedule(frame(one, two, three, four)), "any")
    assert brief(found, "runs", "confidence", "weekdays", "hour", "cron") == [
        (1, 0.0, None, None, None),
        (2, 0.0, None, None, None),
        (3, 0.5, "daily", 2.0, "0 2 * * *"),
        (4, 0.75, "daily", 2.0, "0 2 * * *"),
    ]
    day = pd.Timedelta("1D")
    assert [None if pd.isna(each) else each for each in found["every"]] == [None, None, day, day]
    table = missed_runs(frame(one, two, three, four), as_of="2026-06-01")
    assert table.empty
    # The full ones: a single one, of which all but that it was is unknown.
    full = of_mode(schedule(frame(four)), "full")
    assert brief(full, "since", "runs", "confidence") == [("05-04 02:00", 1, 0.0)]


def test_a_tenant_without_full_runs_or_starts() -> None:
    runs = [Run(at, full=False) for at in stamps("2026-05-04T02:00", 6)]
    made = frame(runs, [Run("2026-05-04T02:00", full=None)])
    made.loc[made["tenant_id"].eq("t001"), "start_time"] = pd.NaT
    found = schedule(made)
    assert brief(found, "tenant_id", "mode", "since", "runs") == [
        ("t000", "any", "05-04 02:00", 6),
        ("t000", "full", None, 0),
        ("t001", "any", None, 0),
        ("t001", "full", None, 0),
    ]
    assert missed_runs(made, "1D")["tenant_id"].eq("t000").all()


def test_runs_by_hand_tell_no_cadence_unless_all_are() -> None:
    hand = [Run(at, trigger="backup_now") for at in stamps("2026-05-04T14:00", 20, "36h")]
    found = of_mode(schedule(frame(daily("2026-05-04T02:00", 30) + hand, hand)), "any")
    assert brief(found, "runs", "hour") == [(30, 2.0), (20, None)]
    assert found["every"].tolist() == [pd.Timedelta("1D"), pd.Timedelta("36h")]
    assert found["confidence"].tolist() == [1.0, 1.0]


def test_failures_are_no_change_of_cadence() -> None:
    runs = daily("2026-05-04T02:00", 30)
    runs[10:20] = [run._replace(state="failed") for run in runs[10:20]]
    found = of_mode(schedule(frame(runs)), "any")
    assert brief(found, "runs", "confidence", "hour") == [(30, 1.0, 2.0)]
    table = of_mode(missed_runs(frame(runs)), "any")
    assert outcomes(table) == {"met": 20, "missed": 10}
    assert table.loc[table["outcome"].eq("missed"), "attempts"].tolist() == [1] * 10


@pytest.mark.parametrize("days", ["Mon Wed Fri", "Mon Thu", "Mon Tue Wed Thu Fri"])
def test_patterns_of_weekdays_owe_nothing_on_other_days(days: str) -> None:
    at = [each for each in stamps("2026-01-01T02:00", 100) if f"{each:%a}" in days.split()]
    runs = [Run(each, each.weekday() == 0) for each in at]
    runs = [run._replace(full=True) if turn == 0 else run for turn, run in enumerate(runs)]
    sets = frame(runs)
    found = of_mode(schedule(sets), "any")
    assert brief(found, "weekdays", "hour", "confidence") == [(days, 2.0, 1.0)]
    assert outcomes(missed_runs(sets)).keys() == {"met"}
    # A silent week is missed, on its days alone.
    gone = [
        run
        for run in runs
        if not pd.Timestamp("2026-03-02", tz="UTC")
        <= run.start
        < pd.Timestamp("2026-03-09", tz="UTC")
    ]
    table = of_mode(missed_runs(frame(gone)), "any")
    missed = table.loc[table["outcome"].eq("missed"), "slot"]
    assert [f"{each:%a}" for each in missed] == days.split()
    check_agreement(frame(gone))


def test_a_run_that_goes_on_is_waited_for() -> None:
    runs = daily("2026-05-04T02:00", 30)
    runs[-1] = runs[-1]._replace(state="running", minutes=600)
    sets = frame(runs)
    for given_ in (None, "0 2 * * *"):
        table = of_mode(missed_runs(sets, given_, as_of="2026-06-02T08:00"), "any")
        assert outcomes(table) == {"met": 29, "pending": 1}
        # The next day's is due, and nothing came of this one.
        table = of_mode(missed_runs(sets, given_, as_of="2026-06-03T08:00"), "any")
        assert outcomes(table) == {"met": 29, "missed": 2}
        check_agreement(sets, given_)


# --- changes -------------------------------------------------------------------------------------


def test_a_planned_change_is_no_hundred_missed_slots() -> None:
    first, weekly = daily("2026-01-01T02:00", 60), stamps("2026-03-08T02:00", 20, "7D")
    back = daily("2026-07-20T02:00", 40)
    sets = frame(first + [Run(at) for at in weekly] + back)
    found = of_mode(schedule(sets), "any")
    assert brief(found, "since", "until", "weekdays", "runs", "cron") == [
        ("01-01 02:00", "03-01 02:00", "daily", 60, "0 2 * * *"),
        ("03-08 02:00", "07-19 02:00", "Sun", 20, "0 2 * * 0"),
        ("07-20 02:00", None, "daily", 40, "0 2 * * *"),
    ]
    table = of_mode(missed_runs(sets), "any")
    assert outcomes(table) == {"met": 120}
    check_agreement(sets)


def test_a_moved_hour_is_a_new_cadence_and_no_endless_lateness() -> None:
    sets = frame(daily("2026-01-01T02:00", 60) + daily("2026-03-02T09:00", 60))
    found = of_mode(schedule(sets), "any")
    assert brief(found, "since", "until", "hour") == [
        ("01-01 02:00", "03-01 02:00", 2.0),
        ("03-02 09:00", None, 9.0),
    ]
    assert outcomes(of_mode(missed_runs(sets), "any")) == {"met": 120}
    check_agreement(sets)
    # For two days it is but late.
    runs = daily("2026-01-01T02:00", 60)
    for turn in (30, 31):
        runs[turn] = runs[turn]._replace(start=runs[turn].start + 7 * HOUR)
    table = of_mode(missed_runs(frame(runs)), "any")
    assert outcomes(table) == {"met": 58, "late": 2}
    assert set(table.loc[table["outcome"].eq("late"), "delay"]) == {7 * HOUR}
    check_agreement(frame(runs))


def test_an_outage_is_missed_slots() -> None:
    runs = daily("2026-01-01T02:00", 60)
    sets = frame(runs[:20] + runs[40:])
    assert len(of_mode(schedule(sets), "any")) == 1
    table = of_mode(missed_runs(sets), "any")
    assert outcomes(table) == {"met": 40, "missed": 20}
    assert table.loc[table["outcome"].eq("missed"), "slot"].tolist() == [
        run.start for run in runs[20:40]
    ]
    sums = of_mode(schedule_compliance(sets), "any")
    columns = ("expected", "met", "missed", "available", "longest_missed", "longest_missed_start")
    assert brief(sums, *columns) == [(60, 40, 20, 40, 20, "01-21 02:00")]
    assert sums["share_met"].tolist() == [40 / 60]
    check_agreement(sets)


def test_an_outage_up_to_now_is_missed() -> None:
    sets = BackupSets(
        empty("clusters"),
        frame(daily("2026-01-01T02:00", 30)),
        as_of=pd.Timestamp("2026-02-09T03:00", tz="UTC"),
    )
    table = of_mode(missed_runs(sets), "any")
    assert outcomes(table) == {"met": 30, "missed": 9, "pending": 1}  # grace until 04:00
    check_agreement(sets)


@pytest.mark.parametrize("every", [15, 60, 120])
def test_short_periods_clip_grace(every: int) -> None:
    at = stamps("2026-05-04T00:10", 200, f"{every}min")
    late = at[50] + 0.45 * every * MINUTE
    runs = [Run(each, minutes=1) for turn, each in enumerate(at) if turn not in {50, 80, 81}]
    sets = frame([*runs, Run(late, minutes=1)])
    assert schedule(sets)["every"].tolist() == [every * MINUTE] * 2
    for rule in (None, f"{every}min"):
        table = of_mode(missed_runs(sets, rule), "any")
        assert outcomes(table) == {"met": 197, "late": 1, "missed": 2}
        assert table.loc[table["outcome"].eq("late"), "slot"].tolist() == [at[50]]
        check_agreement(sets, rule)


# --- given ---------------------------------------------------------------------------------------


def test_a_weekday_cron_hand_computed() -> None:
    # Mondays to Fridays at 02:00 from Friday 1 May; the 4th failed, the 5th four hours late, the
    # 6th not there, and by hand on Saturday.
    runs = [
        Run("2026-05-01T02:10Z"),
        Run("2026-05-02T12:00Z", trigger="BACKUP_NOW"),
        Run("2026-05-04T02:00Z", state="failed"),
        Run("2026-05-05T06:00Z"),
        Run("2026-05-07T01:30Z"),
        Run("2026-05-08T02:00Z", state="running"),
    ]
    table = missed_runs(frame(runs), "0 2 * * 1-5", as_of="2026-05-08T03:00")
    assert brief(table, "slot", "outcome", "backup_set_id", "attempts", "origin") == [
        ("05-01 02:00", "met", "0-0", 0, "given"),
        ("05-04 02:00", "missed", None, 1, "given"),
        ("05-05 02:00", "late", "0-3", 0, "given"),
        ("05-06 02:00", "missed", None, 0, "given"),
        ("05-07 02:00", "met", "0-4", 0, "given"),
        ("05-08 02:00", "pending", None, 1, "given"),
    ]
    delays = [None if pd.isna(each) else each / MINUTE for each in table["delay"]]
    assert delays == [10, None, 240, None, -30, None]
    sums = schedule_compliance(frame(runs), "0 2 * * 1-5", as_of="2026-05-08T03:00")
    columns = ("expected", "met", "late", "missed", "pending", "available", "share_met")
    assert brief(sums, *columns) == [(5, 2, 1, 2, 1, 4, 0.4)]
    assert brief(sums, "longest_missed", "longest_missed_start") == [(1, "05-04 02:00")]
    told = schedule(frame(runs), "0 2 * * 1-5")
    assert brief(told, "mode", "origin", "weekdays", "hour", "confidence", "cron") == [
        ("any", "given", "Mon Tue Wed Thu Fri", 2.0, 1.0, "0 2 * * 1-5")
    ]


def test_full_and_incremental_durations() -> None:
    # A full on Sundays from 3 May, the others incremental; the full of the 10th is missing.
    runs = [Run(at, at.weekday() == 6) for at in stamps("2026-05-03T02:00", 15)]
    del runs[7]
    sets = frame(runs)
    table = missed_runs(sets, {"full": "7D", "incremental": "1D"}, as_of="2026-05-17T12:00")
    full, other = of_mode(table, "full"), of_mode(table, "incremental")
    assert brief(full, "slot", "outcome") == [
        ("05-03 02:00", "met"),
        ("05-10 02:00", "missed"),
        ("05-17 02:00", "met"),
    ]
    # From the first incremental on, and a full one fills a slot, too.
    assert outcomes(other) == {"met": 13, "missed": 1}
    assert brief(other, "slot", "backup_set_id")[12:] == [
        ("05-16 02:00", "0-12"),
        ("05-17 02:00", "0-13"),
    ]
    # Of a mode that is left out nothing is owed.
    assert set(missed_runs(sets, {"full": "7D"})["mode"]) == {"full"}
    check_agreement(sets, {"full": "7D", "incremental": "1D"})


def test_a_first_full_at_another_time_does_not_move_the_slots() -> None:
    # Created on a Tuesday afternoon: its first set is a full one; the cluster's are on Sundays.
    runs = [Run("2026-05-05T14:00Z"), *(Run(at) for at in stamps("2026-05-10T02:00", 8, "7D"))]
    table = missed_runs(frame(runs), {"full": "7D"})
    assert outcomes(table) == {"met": 8}
    assert table["slot"].iloc[0] == pd.Timestamp("2026-05-10T02:00", tz="UTC")


@pytest.mark.parametrize(
    ("tz", "first", "changes"),
    [
        ("Europe/Berlin", "2026-03-20T02:30", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-10-16T02:30", "2026-10-25T00:30"),
        ("America/New_York", "2026-03-01T02:30", "2026-03-08T07:00"),
        ("America/New_York", "2026-10-24T01:30", "2026-11-01T05:30"),
        ("America/New_York", "2026-10-24T02:30", "2026-11-01T07:30"),
    ],
)
def test_one_slot_on_days_on_which_clocks_change(tz: str, first: str, changes: str) -> None:
    sets = frame([Run(at) for at in stamps(first, 20, tz=tz)])
    hour, minute = int(first[11:13]), int(first[14:16])
    for rule in (None, f"{minute} {hour} * * *", "1D"):
        table = of_mode(missed_runs(sets, rule, tz=tz, grace="10min", early="10min"), "any")
        assert outcomes(table) == {"met": 20}
        assert (table["delay"] == pd.Timedelta(0)).all()
        days = table["slot"].dt.tz_convert(tz).dt.date
        assert days.is_unique
        assert len(days) == 20
        assert pd.Timestamp(changes, tz="UTC") in set(table["slot"])
        told = of_mode(schedule(sets, rule, tz=tz), "any")
        assert brief(told, "hour", "tz") == [(hour + minute / 60, tz)]
        check_agreement(sets, rule, tz=tz, grace="10min")
    # That day's run is missing: one slot is missed.
    lost = sets[sets["start_time"] != pd.Timestamp(changes, tz="UTC")]
    table = of_mode(missed_runs(lost, tz=tz), "any")
    assert table.loc[table["outcome"].eq("missed"), "slot"].tolist() == [
        pd.Timestamp(changes, tz="UTC")
    ]


def test_an_explicit_start_owes_given_slots_from_there_on() -> None:
    sets = frame(daily("2026-05-04T02:00", 5))
    table = missed_runs(sets, "0 2 * * *", start="2026-05-01", end="2026-05-06")
    assert brief(table, "slot", "outcome") == [
        ("05-01 02:00", "missed"),
        ("05-02 02:00", "missed"),
        ("05-03 02:00", "missed"),
        ("05-04 02:00", "met"),
        ("05-05 02:00", "met"),
    ]
    # What was asked for when the facts were fetched is no promise that the tenant was there.
    window = BackupSets(empty("clusters"), sets).between("2026-05-01", "2026-05-06")
    assert brief(missed_runs(window, "0 2 * * *", as_of="2026-05-09"), "slot", "outcome") == [
        ("05-04 02:00", "met"),
        ("05-05 02:00", "met"),
    ]


def test_bad_questions_are_refused() -> None:
    sets = frame(daily("2026-05-04T02:00", 5))
    with pytest.raises(ValueError, match="4 fields, not 5"):
        missed_runs(sets, "0 2 * *")
    for call in (missed_runs, schedule, schedule_compliance):
        with pytest.raises(ValueError, match="tz is no time zone: 'Mars'"):
            call(sets, tz="Mars")
        with pytest.raises(ValueError, match="tz is no time zone: 'Mars'"):
            call(frame(), "0 2 * * *", tz="Mars")
    with pytest.raises(ValueError, match="lacks the columns"):
        missed_runs(sets, pd.DataFrame({"mode": ["any"]}))
    with pytest.raises(ValueError, match="grace"):
        missed_runs(sets, grace="-1h")


def test_copies_expired_sets_and_clusters_that_share_names() -> None:
    runs = daily("2026-05-04T02:00", 30)
    runs[3] = runs[3]._replace(state="failed")
    sets = frame(runs)
    expected = missed_runs(sets, "0 2 * * *")
    assert outcomes(expected) == {"met": 29, "missed": 1}
    # A copy in another storage class is no other run.
    copies = conform(pd.concat([sets, sets.assign(storage_class="archive")]), "tenants")
    pd.testing.assert_frame_equal(missed_runs(copies, "0 2 * * *"), expected)
    pd.testing.assert_frame_equal(schedule(copies), schedule(sets))
    # What has expired since, up to the next full, was there.
    old = sets.copy()
    old.loc[:6, "state"] = "expired"
    table = missed_runs(old, "0 2 * * *")
    assert outcomes(table) == {"met": 30}
    # Another cluster with a tenant of the same id and name.
    both = conform(pd.concat([sets, sets[14:].assign(instance_id="ob2")]), "tenants")
    table = missed_runs(both, "0 2 * * *").astype({"instance_id": "str"})
    counts = table.groupby("instance_id")["outcome"].value_counts()
    assert counts["ob1", "met"] == 29
    assert counts["ob2", "met"] == 16
    check_agreement(both)


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "columns"),
    [(schedule, SCHEDULE), (missed_runs, SLOTS), (schedule_compliance, SUMS)],
)
def test_frames_have_the_same_columns_when_empty(call: Any, columns: Any) -> None:
    expected = [(name, DTYPES[kind]) for name, kind in columns]
    for sets in (frame(daily("2026-05-04T02:00", 20)), frame(), frame([Run("2026-05-04T02:00Z")])):
        for rule in (None, "0 2 * * *", {"full": "7D"}, {}):
            made = call(sets, rule)
            assert [(name, str(made[name].dtype)) for name in made] == expected
            assert made.index.equals(pd.RangeIndex(len(made)))
    assert call(frame()).empty
    assert call(frame(daily("2026-05-04T02:00", 20)), {}).empty


def test_a_schedule_that_was_told_is_one_that_can_be_given() -> None:
    runs = daily("2026-01-01T02:00", 60) + daily("2026-03-02T09:00", 60)
    del runs[80:84]
    days = [Run(at) for at in stamps("2026-01-01T02:00", 100) if at.weekday() in {0, 2, 4}]
    sets = frame(runs, days, daily("2026-01-01T02:00", 3), daily("2026-01-01T02:30", 200))
    pd.testing.assert_frame_equal(missed_runs(sets, schedule(sets)), missed_runs(sets))
    for rule in ("0 2 * * *", {"full": "7D", "incremental": "1D"}, ["0 2 * * 1-5", "0 4 * * 6"]):
        told = schedule(sets, rule, tz="Europe/Berlin")
        pd.testing.assert_frame_equal(
            missed_runs(sets, told), missed_runs(sets, rule, tz="Europe/Berlin")
        )


@pytest.mark.parametrize("given", [None, "0 2 * * *", {"full": "7D", "incremental": "1D"}])
def test_order_of_rows_does_not_matter_and_nothing_is_changed(given: Any) -> None:
    runs = daily("2026-01-01T02:00", 60) + daily("2026-03-02T09:00", 60)
    sets = frame(runs, runs[:30] + runs[50:], runs[5:], daily("2026-01-01T22:00", 9))
    mixed = sets.sample(frac=1, random_state=3)
    copy = mixed.copy(deep=True)
    for call in (schedule, missed_runs, schedule_compliance):
        pd.testing.assert_frame_equal(call(sets, given), call(mixed, given))
    assert found_in(sets, given) == found_in(mixed.reset_index(drop=True), given)
    pd.testing.assert_frame_equal(mixed, copy)


# --- truth ---------------------------------------------------------------------------------------


def simulated(tmp_path: Any, **how: Any) -> tuple[simulator.History, BackupSets]:
    now = dt.datetime(2026, 6, 30, 12, tzinfo=dt.UTC)
    history = simulator.simulate(simulator.Scenario(now, 5, **how))
    for path, body in simulator.pages_as_files(history):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(body if isinstance(body, bytes) else body.encode())
    return history, ob.read(tmp_path)


def test_a_clean_history_misses_nothing(tmp_path: Any) -> None:
    _, sets = simulated(tmp_path, days=365, instances=5, tenants=10)
    assert len(sets.tenants) > 50 * 360
    for tz in ("UTC", "Asia/Shanghai", "Europe/Berlin"):
        assert found_in(sets, tz=tz) == ([], [])
    assert outcomes(missed_runs(sets)).keys() <= {"met", "pending"}
    found = of_mode(schedule(sets), "any")
    assert (found["every"] == pd.Timedelta("1D")).all()
    assert found["confidence"].min() == 1.0


@pytest.mark.parametrize("kind", ["silent", "failed", "missing"])
def test_planted_days_are_missed_and_no_others(tmp_path: Any, kind: str) -> None:
    plants = (simulator.Plant(kind, 0, None if kind == "silent" else 1, 40.0, 5.0),)
    history, sets = simulated(tmp_path, days=120, instances=2, tenants=3, plants=plants)
    (truth,) = history.truth
    missed, late = found_in(sets)
    assert late == []
    touched = {truth.tenant_id} - {None} or {t.tenant_id for t in history.instances[0].tenants}
    who = sorted(set(sets.tenants[["instance_id", "tenant_id"]].itertuples(index=False, name=None)))
    daily_ones = [each for each in missed if each[1] == "any"]
    assert {who[each[0]][1] for each in daily_ones} == touched
    for _, _, first, last, count, attempts in daily_ones:
        assert count == 5
        assert attempts == (5 if kind == "failed" else 0)
        begin, end = (pd.Timestamp(each, unit="us", tz="UTC") for each in (first, last))
        assert truth.start - dt.timedelta(minutes=5) <= begin < truth.start + dt.timedelta(days=1)
        assert truth.end - dt.timedelta(days=1) < end <= truth.end + dt.timedelta(minutes=5)
    check_agreement(sets)


# --- by brute force ------------------------------------------------------------------------------

BEGIN = pd.Timestamp("2026-03-20", tz="UTC")
RULES: dict[str, tuple[str, Any]] = {
    "0 2 * * *": ("Europe/Berlin", lambda at: (at.hour, at.minute) == (2, 0)),
    "30 1 * * 1-5": ("UTC", lambda at: (at.hour, at.minute, at.weekday() < 5) == (1, 30, True)),
    "0 */6 * * *": ("UTC", lambda at: at.minute == 0 and at.hour % 6 == 0),
    "15 3 1,25 * *": ("UTC", lambda at: at.day in {1, 25} and (at.hour, at.minute) == (3, 15)),
}


def slots_of(text: str, tz: str, low: pd.Timestamp, high: pd.Timestamp) -> list[pd.Timestamp]:
    """Return the slots by looking at every minute of the wall clock."""
    minutes = pd.date_range(low - pd.Timedelta("40D"), high + pd.Timedelta("40D"), freq="min")
    shown = minutes.tz_convert(tz)
    found = [at for at, wall in zip(minutes, shown, strict=True) if RULES[text][1](wall)]
    if tz != "UTC":  # 02:00 is left out on the 29th: when the clocks are put forward
        found.append(pd.Timestamp("2026-03-29T01:00", tz="UTC"))
    return sorted(found)


@cache
def table_of(text: str) -> list[pd.Timestamp]:
    """Return the slots of a rule in the time that histories are drawn from."""
    return slots_of(text, RULES[text][0], BEGIN, BEGIN + pd.Timedelta("12D"))


def expected_rows(
    runs: list[Run], text: str, as_of: pd.Timestamp, grace: pd.Timedelta, early: pd.Timedelta
) -> list[tuple[Any, ...]]:
    """Match runs and slots one by one."""
    table = table_of(text)
    known = [(turn, run) for turn, run in enumerate(runs) if run.start <= as_of]
    if not known:
        return []
    first = min(run.start for _, run in known)
    rows: list[tuple[Any, ...]] = []
    waits = None  # the last slot of which something is known, if the newest run is its and goes on
    for place, slot in enumerate(table[1:-1], 1):
        before, behind = slot - table[place - 1], table[place + 1] - slot
        opens = slot - min(early, 0.4 * before)
        next_opens = table[place + 1] - min(early, 0.4 * behind)
        closes = slot + min(grace, 0.4 * behind)
        if slot < first - grace or next_opens <= first or slot >= as_of:
            continue
        mine = [(run.start, turn, run) for turn, run in known if opens <= run.start < next_opens]
        good = min((each for each in mine if each[2].state == "done"), default=None)
        tries = sum(each[2].state != "done" for each in mine)
        if good is None:
            rows.append((slot, "pending" if closes > as_of else "missed", None, tries))
        else:
            outcome = "met" if good[0] <= closes else "late"
            rows.append((slot, outcome, f"0-{good[1]}", tries))
        if closes <= as_of:
            newest = max(known, key=lambda each: each[1].start)[1]
            waits = (
                len(rows) - 1
                if newest.state == "running" and newest in [each[2] for each in mine]
                else None
            )
    if rows and waits is not None and rows[waits][1] == "missed":
        rows[waits] = (rows[waits][0], "pending", *rows[waits][2:])
    return rows


@settings(max_examples=80)
@given(
    st.sampled_from(sorted(RULES)),
    st.lists(
        st.tuples(st.integers(0, 10 * 96), st.sampled_from(["done"] * 3 + ["failed", "running"])),
        min_size=1,
        max_size=25,
        unique_by=lambda each: each[0],
    ),
    st.sampled_from([0, 30, 120, 600]),
    st.sampled_from([0, 20, 60]),
    st.integers(0, 11 * 96),
)
def test_slots_are_matched_as_one_by_one(
    text: str, drawn: list[tuple[int, str]], grace: int, early: int, now: int
) -> None:
    runs = [Run(BEGIN + 15 * each * MINUTE, state=state, minutes=0) for each, state in drawn]
    as_of = BEGIN + 15 * now * MINUTE
    tz = RULES[text][0]
    table = missed_runs(
        frame(runs),
        text,
        tz=tz,
        grace=f"{grace}min",
        early=f"{early}min",
        as_of=as_of,
    )
    found = list(
        zip(
            table["slot"],
            table["outcome"],
            [None if pd.isna(each) else each for each in table["backup_set_id"]],
            table["attempts"],
            strict=True,
        )
    )
    assert found == expected_rows(runs, text, as_of, grace * MINUTE, early * MINUTE)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-15, 15), min_size=60, max_size=60),
    st.sets(st.integers(1, 58), max_size=3),
    st.sets(st.integers(1, 58), max_size=5),
    st.sampled_from(["UTC", "America/New_York"]),
)
def test_lost_days_are_missed_and_only_they(
    jitter: list[int], lost: set[int], failed: set[int], tz: str
) -> None:
    runs = [
        Run(at + wide * MINUTE, state="failed" if turn in failed else "done")
        for turn, (at, wide) in enumerate(
            zip(stamps("2026-02-20T05:00", 60, tz=tz), jitter, strict=True)
        )
        if turn not in lost
    ]
    found = of_mode(missed_runs(frame(runs), tz=tz), "any")
    assert found["outcome"].ne("late").all()
    missed = found.loc[found["outcome"].eq("missed"), "slot"].dt.tz_convert(tz)
    first = pd.Timestamp("2026-02-20")
    assert [(at.tz_localize(None).normalize() - first).days for at in missed] == sorted(
        lost | failed
    )
    assert missed.dt.hour.isin([4, 5]).all()


@settings(max_examples=40)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 30 * 24),
                st.booleans(),
                st.sampled_from(["done"] * 4 + ["failed", "running", "expired"]),
                st.sampled_from(["AUTO"] * 5 + ["BACKUP_NOW"]),
            ),
            max_size=30,
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 29), max_size=6),
    st.sampled_from([None, "0 2 * * *", "1D", "12h", {"full": "7D", "incremental": "0 2 * * *"}]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
)
def test_both_ways_agree_on_any_history(
    drawn: list[Any], lost: list[int], given: Any, tz: str
) -> None:
    regular = [
        run for turn, run in enumerate(daily("2026-03-15T02:00", 30, tz)) if turn not in lost
    ]
    odd = [
        [Run(BEGIN + hour * HOUR, full, state, trigger) for hour, full, state, trigger in each]
        for each in drawn
    ]
    sets = frame(*(regular + each for each in odd), *odd)
    check_agreement(sets, given, tz=tz)
    mixed = sets.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(missed_runs(sets, given, tz=tz), missed_runs(mixed, given, tz=tz))


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 29), max_size=20),
    st.lists(st.integers(0, 29), max_size=8),
    st.sampled_from([None, "0 2 * * *", "0 2 * * 1-5", {"full": "7D", "any": "1D"}]),
)
def test_excused_slots_are_not_missed_whatever_is_around_them(
    lost: list[int], excused: list[int], given: Any
) -> None:
    sets = frame(
        [run for turn, run in enumerate(daily("2026-03-01T02:00", 30)) if turn not in lost]
    )
    days = {pd.Timestamp("2026-03-01T00:00Z") + turn * 24 * HOUR for turn in excused}

    def quiet(_: Any, moments: Any) -> Any:
        at = pd.DatetimeIndex(moments.view("M8[us]")).tz_localize("UTC")
        return at.floor("D").isin(list(days))

    table = missed_runs(sets, given)
    expected: list[list[Any]] = []
    before: Any = None
    for turn, row in enumerate(table.itertuples()):
        is_missed = row.outcome == "missed" and row.slot.floor("D") not in days
        if is_missed and before == (turn - 1, row.mode):
            expected[-1] = [*expected[-1][:2], row.slot, expected[-1][3] + 1]
        elif is_missed:
            expected.append([row.mode, row.slot, row.slot, 1])
        before = (turn, row.mode) if is_missed else before
    (view,) = scene_of(sets, None, None, None).views()
    found = missed_in(
        view,
        None if given is None else [given],
        until=np.array([view.end]),
        grace=np.array([2 * 3_600_000_000]),
        excused=quiet,
    )
    first, last = (pd.to_datetime(each, unit="us", utc=True) for each in (found.first, found.last))
    rows = zip((MODES[mode] for mode in found.mode), first, last, found.count, strict=True)
    assert sorted(map(list, rows)) == sorted(expected)


def test_who_is_gone_or_stopped_by_the_inventory_owes_no_slots(tmp_path: Any) -> None:
    plants = (simulator.Plant("dropped", 0, 0, 10.0),)
    history, sets = simulated(tmp_path, days=60, tenants=2, plants=plants)
    left = history.instances[0].tenants[1]
    listed = pd.DataFrame(
        {"instance_id": [history.instances[0].instance_id], "tenant_id": [left.tenant_id]}
    )
    assert outcomes(missed_runs(sets))["missed"] > 9
    there = replace(sets, inventory=conform(listed, "inventory"))
    assert outcomes(missed_runs(there))["missed"] == 0
    stopped = listed.assign(tenant_status="STOPPED")
    table = missed_runs(replace(sets, inventory=conform(stopped, "inventory")))
    assert set(table["outcome"]) == {"met"}


def test_a_grace_of_several_periods_owes_no_slot_before_the_first_run() -> None:
    """Hourly by cron with two hours of grace: the first run filled its own slot."""
    for cron, every, grace in (("0 * * * *", 1, "2h"), ("*/15 * * * *", 0.25, "2h")):
        rows = [oracle.Row(each * every, end=each * every + 0.05) for each in range(300)]
        sets = oracle.facts(rows, 300 * every)
        told = ob.schedule_compliance(sets, cron, grace=grace).iloc[0]
        assert (told["expected"], told["missed"]) == (300, 0), cron
        assert (
            ob.missed_runs(sets, cron, grace=grace)["slot"].min()
            >= sets.tenants["start_time"].min()
        )
