"""The server's expiry rule and what hangs on each set: against its hourly job, and by removal."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pandas as pd
import pytest
from effort import examples
from histories import (
    HOUR,
    T0,
    at,
    crowds,
    facts,
    frame,
    histories,
    hours,
    intervals,
    plain,
    rows_of,
    who,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Ask, Set

import obanalytics as ob
from obanalytics import recovery, simulator, wire
from obanalytics.blast import blast_radius
from obanalytics.curve import scene_of
from obanalytics.flatten import Flattener
from obanalytics.frames import conform, empty
from obanalytics.recovery import NAT
from obanalytics.retention import VERDICTS, coverage_after_expiry, reserves_in, retention
from obanalytics.schema import BackupSets
from obanalytics.simulator import Plant, Scenario
from obanalytics.simulator.server import page_bytes

if TYPE_CHECKING:
    from histories import Interval

    from obanalytics.retention import Reserves

DAY = 24
FUTURE = "the full that is expected next"


def january(number: str, day: int, *, full: bool = True, **changes: Any) -> Set:
    """Return a set that started and ended on a day of January 2026, at midnight and an hour on."""
    start = DAY * (day - 1)
    return replace(Set(number, "done", full, "VALID", start, start + 1, start + 1), **changes)


GOLDEN = [
    january("1", 1),
    january("2", 4, full=False),
    january("3", 7),
    january("4", 11, full=False),
    january("5", 14),
]


# --- the rule, in plain words ---------------------------------------------------------------------


def in_order(sets: list[Set]) -> list[Set]:
    return sorted(sets, key=lambda s: (s.start is None, s.start or 0, s.id))


def job(sets: list[Set], now: float, window: float) -> tuple[set[str], Set | None]:
    """Run the server's hourly job once: what it deletes, and the full that it stops at."""
    delete, keep = set(), None
    for each in reversed(in_order(sets)):  # from the newest to the oldest
        if each.state == "running" or each.end is None or each.end > now - window:
            continue
        if each.state in {"failed", "cancelled"} or keep is not None:
            delete.add(each.id)
        elif each.full and each.state == "done":
            keep = each
    return delete, keep


def good_fulls(sets: list[Set]) -> list[Set]:
    return [s for s in sets if s.full and s.state == "done" and s.end is not None]


def cadence(sets: list[Set]) -> float | None:
    """Return the median interval between the ends of good fulls."""
    ends = sorted({s.end for s in good_fulls(sets) if s.end is not None})
    return median([b - a for a, b in pairwise(ends)]) if ends[1:] else None


def next_full(sets: list[Set], every: float | None, now: int) -> float | None:
    ends = [s.end for s in good_fulls(sets) if s.end is not None]
    if not ends or every is None:
        return None
    newest = max(ends)
    for each in sorted(sets, key=lambda s: (s.start is not None, s.start or 0), reverse=True):
        begun = each.state == "running" and each.full and each.end is None
        if begun and each.start is not None and newest < each.start <= now:
            took = [
                s.end - s.start
                for s in good_fulls(sets)
                if s.start is not None and s.end is not None and s.start <= s.end
            ]
            usual = median(took) if took else 0
            if now - each.start <= max(every / 4, 4 * usual):
                return max(each.start + usual, now)
            break
    expected: float = newest + every
    while expected <= now:
        if now - expected <= every / 12:  # late, but not by a whole interval
            return now
        expected += every
    return expected


def departures(sets: list[Set], expected: float | None, window: int) -> dict[str, float]:
    """Let the job run whenever a set comes of age, and note when each set is deleted."""
    there, gone = list(sets), {}
    if expected is not None:
        there.append(Set("~" + FUTURE, start=None, end=expected, checkpoint=None))  # type: ignore[arg-type]
    for moment in sorted({s.end + window for s in there if s.end is not None}):
        # A minute before nothing is due that was not before: the bound is to the instant.
        assert job(there, moment - 1 / 60, window)[0] == set()
        delete, _ = job(there, moment, window)
        gone |= dict.fromkeys(delete, moment)
        there = [s for s in there if s.id not in delete]
    return gone


def verdict(each: Set, sets: list[Set], now: int, window: int) -> str:
    delete, keep = job(sets, now, window)
    if each.state == "running":
        return "running"
    if each.end is None:
        return "unknown"
    if each.id in delete:
        return "due"
    if each.end > now - window:
        return "in_window"
    if keep is None:
        return "no_keep_point"
    return "keep_point" if each is keep else "after_keep_point"


def listed(sets: list[Set], now: int) -> list[Set]:
    """Return what is in the list at an instant."""
    return [s for s in oracle.known_at(sets, now) if s.gone is None]


def told(sets: list[Set], now: int, window: int, every: float | None) -> list[dict[str, Any]]:
    """Return what `retention` should say of a tenant."""
    there = in_order(listed(sets, now))
    every = cadence(there) if every is None else every
    leave = departures(there, next_full(there, every, now), window)
    rows = [
        {
            "backup_set_id": each.id,
            "state": each.state,
            "end_time": each.end,
            "verdict": verdict(each, there, now, window),
            "expires_at": leave.get(each.id),
        }
        for each in there
    ]
    due = [row["expires_at"] for row in rows if row["expires_at"] is not None]
    soon = min((max(when, now) for when in due), default=None)
    for row in rows:
        when = row["expires_at"]
        row["next"] = when is not None and max(when, now) == soon
    return rows


ROWS = ["backup_set_id", "state", "end_time", "verdict", "expires_at", "next"]
WINDOWS = st.lists(st.integers(1, 40), min_size=9, max_size=9)
NOWS = st.sampled_from([1000, 50, 40, 25, 10])
EVERY = st.sampled_from([None, None, 1, 5, 24])


@settings(max_examples=examples(150), report_multiple_bugs=False)
@given(crowds(most=9), WINDOWS, NOWS, EVERY, st.randoms())
def test_expiry_is_what_the_hourly_job_does(
    tenants: list[list[Set]], windows: list[int], now: int, every: int | None, random: Any
) -> None:
    rows = frame(*tenants, instances=2)
    shuffled = rows.sample(frac=1, random_state=random.randrange(1000))
    days = {who(number, 2): window / DAY for number, window in enumerate(windows)}
    given_every = None if every is None else every * HOUR
    table = retention(shuffled, days, full_every=given_every, as_of=at(now))
    found = rows_of(table, ROWS)
    for number, sets in enumerate(tenants):
        expected = told(sets, now, windows[number], every)
        for row in expected:
            row["backup_set_id"] = f"{number}-{row['backup_set_id']}"
        assert found.pop(who(number, 2), []) == expected
    assert not found


# --- worked by hand -------------------------------------------------------------------------------


def by_id(table: pd.DataFrame, column: str) -> dict[str, Any]:
    names = table["backup_set_id"].str.removeprefix("0-")
    return dict(zip(names, plain(table[column]), strict=True))


def test_the_vendors_worked_example() -> None:
    """Full 1, inc 2, full 3, inc 4, full 5; on January 15, 7 days: 3, 4, 5 stay, 1 and 2 go."""
    table = retention(frame(GOLDEN), 7, as_of="2026-01-15")
    assert by_id(table, "verdict") == {
        "1": "due",
        "2": "due",
        "3": "keep_point",
        "4": "in_window",
        "5": "in_window",
    }
    assert by_id(table, "next") == {"1": True, "2": True, "3": False, "4": False, "5": False}
    # 3 ended on January 7 at 1 h, 5 on the 14th; the next is expected after 6.5 days, the median.
    gone = dict.fromkeys("12", DAY * 13 + 1) | dict.fromkeys("34", DAY * 20 + 1)
    assert by_id(table, "expires_at") == gone | {"5": DAY * 13 + 1 + 6.5 * DAY + 7 * DAY}
    (row,) = coverage_after_expiry(frame(GOLDEN), 7, as_of="2026-01-15").to_dict("records")
    assert (hours(row["reachable_since"]), hours(row["reachable_since_after"])) == (1, 6 * DAY + 1)
    assert (hours(row["lost"]), row["sets_going"]) == (6 * DAY, 2)
    assert hours(row["next_expiry"]) == 13 * DAY + 1
    assert hours(row["next_full_expected"]) == 13 * DAY + 1 + 6.5 * DAY
    assert (row["before_next_full"], row["at_risk"]) == (True, False)
    assert row["last_usable_full_id"] == "0-5"


def test_the_bound_is_inclusive_and_counts_from_the_end() -> None:
    for minutes, expected in ((-1, "in_window"), (0, "keep_point")):
        moment = at(13 * DAY + 1) + pd.Timedelta(minutes=minutes)
        verdicts = by_id(retention(frame(GOLDEN[:4]), 7, as_of=moment), "verdict")
        assert verdicts["3"] == expected
        assert verdicts["1"] == ("keep_point" if minutes < 0 else "due")


def test_the_last_good_full_stays_and_waits_for_the_next_one() -> None:
    only = frame(GOLDEN[:2])
    table = retention(only, 7, as_of="2026-06-01")
    assert by_id(table, "verdict") == {"1": "keep_point", "2": "after_keep_point"}
    assert by_id(table, "expires_at") == {"1": None, "2": None}, "no full is expected"
    assert not table["next"].any()
    table = retention(only, 7, full_every="7D", as_of="2026-01-30")
    # It ended on the 1st at 1 h; of 8, 15, 22, 29 none came: it is due on February 5.
    assert by_id(table, "expires_at") == dict.fromkeys("12", DAY * (35 + 7) + 1)
    assert table["next"].all()


def test_running_sets_stay_and_failed_ones_go_by_themselves() -> None:
    sets = [
        january("1", 1),
        january("2", 2, state="failed", checkpoint=None, validity=None),
        january("3", 3, state="running", end=None, checkpoint=None),
        january("4", 4, state="cancelled", checkpoint=None),
        january("5", 5, end=None),
        january("6", 9, state="failed", end=None, checkpoint=None),
    ]
    table = retention(frame(sets), 7, as_of="2026-01-10")
    assert by_id(table, "verdict") == {
        "1": "keep_point",
        "2": "due",
        "3": "running",
        "4": "in_window",
        "5": "unknown",
        "6": "unknown",
    }
    assert by_id(table, "expires_at") == dict.fromkeys("1356") | {
        "2": DAY * 8 + 1,
        "4": DAY * 10 + 1,
    }


def test_sets_of_tables_and_sets_that_are_gone_are_no_base() -> None:
    rows = frame([january("1", 1), january("2", 5), january("3", 6), january("4", 7, full=False)])
    rows["backup_object_type"] = pd.Categorical(["TENANT", "table", "TENANT", "TENANT"])
    rows["gone_time"] = pd.Series([None, None, T0 + 8 * DAY * HOUR, None]).astype(
        rows["end_time"].dtype
    )
    table = retention(rows, 7, as_of="2026-01-31")
    assert by_id(table, "verdict") == {"1": "keep_point", "2": "unknown", "4": "after_keep_point"}


def test_a_full_that_is_not_valid_puts_the_last_usable_one_at_risk() -> None:
    """Fulls of January 8 and 15 are done but not valid: the server lets the good one go."""
    sets = [
        january("1", 1),
        january("2", 3, full=False),
        january("3", 8, validity="INVALID"),
        january("4", 15, validity=None),
    ]
    (row,) = coverage_after_expiry(frame(sets), 10, as_of="2026-01-16").to_dict("records")
    assert row["at_risk"]
    assert row["last_usable_full_id"] == "0-1"
    assert hours(row["next_expiry"]) == 17 * DAY + 1
    assert hours(row["next_full_expected"]) == 21 * DAY + 1
    assert row["before_next_full"]
    assert row["sets_going"] == 2
    assert pd.isna(row["reachable_since_after"])
    assert pd.isna(row["lost"])
    # With 20 days it would go on January 28: by then there is a new one.
    (row,) = coverage_after_expiry(frame(sets), 20, as_of="2026-01-16").to_dict("records")
    assert not row["at_risk"]
    assert not row["before_next_full"]


def test_the_base_of_the_newest_set_may_be_at_risk_where_the_newest_full_is_not() -> None:
    """A slow incremental on the first full outlasts the second full, by checkpoint."""
    sets = [
        Set("a", start=0, checkpoint=1, end=1),
        Set("b", full=False, start=10, checkpoint=60, end=61),
        Set("c", start=20, checkpoint=30, end=31),
    ]
    for every, at_risk in (("60h", True), ("24h", False)):
        table = coverage_after_expiry(frame(sets), 50 / 24, full_every=every, as_of=at(70))
        assert list(table["last_usable_full_id"]) == ["0-c"]
        assert list(table["at_risk"]) == [at_risk], (
            "a goes at 31 + 50 h, the next is due at 91 or 79"
        )


def test_only_failed_sets_that_go_take_nothing_away() -> None:
    sets = [january("1", 1), january("2", 2, state="failed", checkpoint=None)]
    (row,) = coverage_after_expiry(frame(sets), 7, as_of="2026-01-12").to_dict("records")
    assert pd.isna(row["next_expiry"])
    assert (row["sets_going"], row["before_next_full"], row["at_risk"]) == (0, False, False)
    assert row["reachable_since"] == row["reachable_since_after"]
    assert row["lost"] == pd.Timedelta(0)


def test_two_clusters_may_share_tenant_ids_and_differ_in_retention() -> None:
    rows = frame(GOLDEN, GOLDEN, instances=2)
    days = pd.Series({("ob1", "t0"): 7, ("ob2", "t0"): 30.0})
    table = retention(rows, days, as_of="2026-01-15")
    due = table[table["verdict"] == "due"]
    assert list(due["instance_id"]) == ["ob1", "ob1"]
    everywhere = retention(rows, {"t0": 7}, as_of="2026-01-15")
    assert list(everywhere["verdict"]).count("due") == 4


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf"), "7", None, True])
def test_a_retention_that_is_none_is_refused(days: Any) -> None:
    for ask in (retention, coverage_after_expiry):
        with pytest.raises(ValueError, match="retention_days must be days above zero, not"):
            ask(frame(GOLDEN), days)


def test_a_tenant_without_retention_or_cadence() -> None:
    with pytest.raises(ValueError, match="of tenant 't0' of instance 'ob1' must be days above"):
        retention(frame(GOLDEN), {"t9": 7})
    with pytest.raises(ValueError, match="full_every must be above zero, not '0h'"):
        retention(frame(GOLDEN), 7, full_every="0h")
    # Without one of its own a tenant takes what it was used to.
    plainly = retention(frame(GOLDEN), 7)
    pd.testing.assert_frame_equal(retention(frame(GOLDEN), 7, full_every={"t9": "1D"}), plainly)


def test_facts_without_an_instant_make_nothing_due() -> None:
    table = retention(BackupSets(empty("clusters"), frame(GOLDEN)), 7)
    assert set(table["verdict"]) == {"unknown"}
    assert by_id(table, "expires_at")["1"] == 13 * DAY + 1


def test_a_run_on_no_rows_has_the_same_columns_and_dtypes() -> None:
    full = frame(GOLDEN)
    for ask in (lambda rows: retention(rows, 7), lambda rows: coverage_after_expiry(rows, 7)):
        some, none = ask(full), ask(empty("tenants"))
        assert len(some)
        assert len(none) == 0
        check_alike(some, none)
    check_alike(blast_radius(full), blast_radius(empty("tenants")))
    check_alike(blast_radius(full), blast_radius(frame([january("1", 1, state="failed")])))


def check_alike(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        kinds = [each[name].dtype for each in (one, other)]
        assert kinds[0] == kinds[1] or all(kind.name == "category" for kind in kinds), name


def test_dtypes_are_as_documented() -> None:
    who_ = dict.fromkeys(("instance_id", "tenant_id", "tenant_name"), "category")
    kinds = {"time": "datetime64[us, UTC]", "span": "timedelta64[us]", "label": "category"}
    rows = frame(GOLDEN)
    for table, columns in (
        (
            retention(rows, 7),
            (
                "backup_set_id string, full boolean, state label, end_time time, verdict label, "
                "expires_at time, next bool"
            ),
        ),
        (
            coverage_after_expiry(rows, 7),
            (
                "reachable_since time, next_expiry time, sets_going int64, "
                "reachable_since_after time, lost span, next_full_expected time, "
                "before_next_full bool, "
                "last_usable_full_id string, at_risk bool"
            ),
        ),
        (
            blast_radius(rows),
            (
                "backup_set_id string, full boolean, checkpoint time, chain_id string, "
                "later_sets int64, lost span, share float64, newest_lost bool, falls_back_to time, "
                "copies int64"
            ),
        ),
    ):
        pairs = [each.split(" ") for each in columns.split(", ")]
        expected = who_ | {name: kinds.get(kind, kind) for name, kind in pairs}
        found = {name: str(kind) for name, kind in table.dtypes.items()}
        assert list(found.items()) == list(expected.items())
    assert tuple(retention(rows, 7)["verdict"].cat.categories) == VERDICTS


def test_the_argument_stays_as_it_is() -> None:
    rows = frame(GOLDEN)
    before = rows.copy(deep=True)
    retention(rows, 7), coverage_after_expiry(rows, 7), blast_radius(rows)
    pd.testing.assert_frame_equal(rows, before)


def test_tenants_that_are_looked_at_apart_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [replace(each, state="done", full=True) for each in GOLDEN]
    rows = frame(GOLDEN, others, GOLDEN[2:], instances=2)
    days = {("ob1", "t0"): 7, ("ob1", "t1"): 2, ("ob2", "t0"): 5}
    every = {("ob1", "t0"): "7D", ("ob2", "t0"): "1D"}
    asked = [
        lambda: retention(rows, days, full_every=every),
        lambda: coverage_after_expiry(rows, days, full_every=every),
        lambda: blast_radius(rows),
    ]
    whole = [ask() for ask in asked]
    monkeypatch.setattr(recovery, "PART_ROWS", 1)
    assert len(list(scene_of(rows, None, None, None).views())) == 3
    for ask, expected in zip(asked, whole, strict=True):
        pd.testing.assert_frame_equal(ask(), expected)


# --- the simulator's server -----------------------------------------------------------------------

NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
DAYS = dt.timedelta(days=1)


def seen(history: simulator.History, moment: dt.datetime) -> BackupSets:
    """Return what the simulated service lists at an instant."""
    flattener = Flattener()
    for instance in history.instances:
        rows = history.sets(instance.instance_id, moment)
        flattener.add(wire.decode_page(page_bytes(rows, len(rows))).sets, instance.instance_id)
    clusters, tenants = flattener.frames()
    return BackupSets(clusters, tenants, as_of=pd.Timestamp(moment))


@pytest.mark.parametrize(("seed", "window"), [(1, 7), (2, 10), (3, 17)])
def test_what_the_simulated_server_drops_is_what_was_to_expire(seed: int, window: int) -> None:
    plants = (Plant("failed", 0, None, 20.2, 3.0), Plant("failed", 1, None, 31.2, 8.0))
    scenario = Scenario(NOW, seed=seed, days=60, instances=2, tenants=2, plants=plants)
    keeps = simulator.simulate(scenario)
    drops = simulator.simulate(replace(scenario, retention_days=window))
    dropped = 0
    for days_ago in range(45, 0, -1):
        today, tomorrow = (NOW - (days_ago - more) * DAYS for more in (0, 1))
        before, after = seen(drops, today), seen(drops, tomorrow)
        table = retention(before, window)
        assert not (table["verdict"] == "due").any(), "it is never late"
        going = table.loc[table["expires_at"] <= after.as_of, "backup_set_id"]
        gone = set(before.tenants["backup_set_id"]) - set(after.tenants["backup_set_id"])
        assert set(going) == gone
        dropped += len(gone)
        whole = seen(keeps, tomorrow)
        table = retention(whole, window)
        left = set(table.loc[table["verdict"] != "due", "backup_set_id"])
        assert left == set(after.tenants["backup_set_id"])
    assert dropped > 50


# --- what hangs on each set -----------------------------------------------------------------------


def reaches(sets: list[Set], ask: Ask) -> list[float | None]:
    """Return the nearest restorable instant up to the middle of every hour of the window."""
    oracle.restore(sets)
    found: list[float | None] = []
    for hour in range(oracle.begins(sets, ask), ask.end):
        middle = hour + 0.5
        if ask.intervals is None:
            points = [s.checkpoint for s in oracle.kept(sets) if s.checkpoint is not None]
        else:
            stretches = oracle.stretches(sets, ask)
            if any(each.low <= middle < each.high for each in stretches):
                found.append(middle)
                continue
            points = [each.high for each in stretches]
        found.append(max((point for point in points if point <= middle), default=None))
    return found


def points(sets: list[Set]) -> list[Set]:
    oracle.restore(sets)
    return in_order(oracle.kept(sets))


def without(sets: list[Set], lost: str) -> list[Set]:
    """Return the sets after one of them turned invalid."""
    return [replace(s, found={}, validity="BROKEN" if s.id == lost else s.validity) for s in sets]


def radius(sets: list[Set], ask: Ask) -> list[dict[str, Any]]:
    """Return what `blast_radius` should say of a tenant: each set turns invalid in its turn."""
    rows = []
    whole, before = reaches(sets, ask), points(sets)
    chains = {s.id: s.found["chain"][0].id for s in before}
    for each in before:
        left = without(sets, each.id)
        changed = sum(a != b for a, b in zip(whole, reaches(left, ask), strict=True))
        after = [s.checkpoint for s in points(left) if s.checkpoint is not None]
        older = [c for c in after if each.checkpoint is not None and c <= each.checkpoint]
        newest = max(s.checkpoint for s in before if s.checkpoint is not None)
        rows.append(
            {
                "backup_set_id": each.id,
                "checkpoint": each.checkpoint,
                "chain_id": chains[each.id],
                "later_sets": len(before) - len(after) - 1,
                "lost": changed,
                "share": changed / len(whole) if whole else None,
                "newest_lost": newest not in after,
                "falls_back_to": max(older, default=None),
            }
        )
    return rows


BLAST = [
    *("backup_set_id", "checkpoint", "chain_id", "later_sets", "lost", "share", "newest_lost"),
    "falls_back_to",
]
LISTS = st.lists(intervals(), min_size=7, max_size=7)
SPANS = st.tuples(st.one_of(st.none(), st.integers(-10, 50)), st.integers(0, 45))


def check_radius(table: pd.DataFrame, number: int, sets: list[Set], ask: Ask) -> None:
    found = rows_of(table, BLAST).get(who(number, 2), [])
    expected = radius(sets, ask)
    for row in expected:
        for name in ("backup_set_id", "chain_id"):
            row[name] = f"{number}-{row[name]}"
    assert [{**row, "share": None} for row in found] == [{**row, "share": None} for row in expected]
    assert [r["share"] for r in found] == pytest.approx([r["share"] for r in expected])


@settings(max_examples=examples(150), report_multiple_bugs=False)
@given(crowds(), SPANS, NOWS, st.randoms())
def test_what_is_lost_with_a_set_is_what_its_removal_takes(
    tenants: list[list[Set]], span: tuple[int | None, int], now: int, random: Any
) -> None:
    begin, length = span
    ask = Ask((20 if begin is None else begin) + length, begin, now)
    rows = frame(*tenants, instances=2).sample(frac=1, random_state=random.randrange(1000))
    window = {"start": None if begin is None else at(begin), "end": at(ask.end)}
    table = blast_radius(rows, as_of=at(now), **window)
    assert table.attrs["model"] == "point"
    for number, sets in enumerate(tenants):
        check_radius(table, number, oracle.known_at(sets, now), ask)


@settings(max_examples=examples(150), report_multiple_bugs=False)
@given(crowds(), LISTS, SPANS, NOWS)
def test_what_is_lost_with_a_set_where_logs_are_known(
    tenants: list[list[Set]],
    lists: list[list[Interval] | None],
    span: tuple[int | None, int],
    now: int,
) -> None:
    begin, length = span
    ask = Ask((20 if begin is None else begin) + length, begin, now)
    window = {"start": None if begin is None else at(begin), "end": at(ask.end)}
    table = blast_radius(facts(tenants, lists, instances=2), as_of=at(now), **window)
    for number, sets in enumerate(tenants):
        own = replace(ask, intervals=lists[number])
        check_radius(table, number, oracle.known_at(sets, now), own)


@settings(max_examples=40, report_multiple_bugs=False)
@given(histories(least=3))
def test_restore_points_without_the_set_agree(sets: list[Set]) -> None:
    """The same by the package's own `restore_points` on a frame in which the set is not valid."""
    rows = frame(sets)
    table = blast_radius(rows, as_of=at(1000))
    whole = ob.restore_points(rows, as_of=at(1000))
    good = set(whole.loc[whole["restorable"], "backup_set_id"])
    assert set(table["backup_set_id"]) == good
    for each in table.itertuples():
        broken = rows.assign(
            validity=rows["validity"]
            .astype("str")
            .mask(rows["backup_set_id"] == each.backup_set_id, "INVALID")
            .astype("category")
        )
        left = ob.restore_points(broken, as_of=at(1000))
        left = left[left["restorable"]]
        assert len(left) == len(good) - 1 - each.later_sets
        assert set(left["backup_set_id"]) < good
        assert each.newest_lost == (left["checkpoint"].max() != table["checkpoint"].max())


def test_the_hours_that_hang_on_a_week_of_incrementals() -> None:
    """A full, two incrementals, a full: a day each, and the window ends a day after the last."""
    sets = [january(str(day), day, full=day in {1, 4}) for day in (1, 2, 3, 4)]
    table = blast_radius(frame(sets), end=at(4 * DAY + 1), as_of=at(90))
    assert by_id(table, "lost") == {"1": 72, "2": 48, "3": 24, "4": 24}
    assert by_id(table, "later_sets") == {"1": 2, "2": 1, "3": 0, "4": 0}
    assert by_id(table, "falls_back_to") == {"1": None, "2": 1, "3": 25, "4": 49}
    assert by_id(table, "newest_lost") == {"1": False, "2": False, "3": False, "4": True}
    assert by_id(table, "chain_id") == {"1": "0-1", "2": "0-1", "3": "0-1", "4": "0-4"}
    # The window begins with the first row, an hour before its checkpoint.
    assert by_id(table, "share") == pytest.approx(
        {"1": 72 / 97, "2": 48 / 97, **dict.fromkeys("34", 24 / 97)}
    )


def test_logs_bridge_what_a_lost_incremental_held() -> None:
    sets = [january(str(day), day, full=day in {1, 4}) for day in (1, 2, 3, 4)]
    known = facts([sets], [[(0, 96)]], as_of=at(97))
    table = blast_radius(known, start=at(0))
    assert table.attrs["model"] == "log"
    # Replayed from the full before it; without the first full nothing reaches back to day 1.
    assert by_id(table, "lost") == {"1": 72, "2": 0, "3": 0, "4": 0}
    known = facts([sets], [[(0, 40), (60, 96)]], as_of=at(97))
    # Day 3's own checkpoint, 49, lies in neither: 4 alone is the base of the second interval.
    assert by_id(blast_radius(known, start=at(0)), "lost") == {"1": 72, "2": 0, "3": 0, "4": 24}


@pytest.mark.parametrize(("after", "lost"), [("1s", "23:59:59"), ("2s", "0s")])
def test_a_base_up_to_a_second_before_its_interval_counts(after: str, lost: str) -> None:
    """The vendor rounds its intervals to seconds; what is before one cannot be reached exactly."""
    known = facts([[january("1", 1)]], [[(1, 25)]], as_of=at(25))
    assert known.restorable is not None
    later = known.restorable["start"] + pd.Timedelta(after)
    known = replace(known, restorable=known.restorable.assign(start=later))
    table = blast_radius(known, start=at(0))
    assert list(table["lost"]) == [pd.Timedelta(lost)]


def test_an_incremental_may_have_an_older_checkpoint_than_its_base() -> None:
    sets = [
        Set("a", start=0, checkpoint=20, end=21),
        Set("b", full=False, start=5, checkpoint=10, end=11),
    ]
    for known in (facts([sets], [[(0, 100)]], as_of=at(100)), frame(sets)):
        table = blast_radius(known, start=at(0), end=at(100), as_of=at(100))
        assert by_id(table, "lost") == {"a": 90, "b": 10}
        assert by_id(table, "newest_lost") == {"a": True, "b": False}
        assert by_id(table, "falls_back_to") == {"a": None, "b": None}


def test_a_set_before_the_window_is_told_with_what_it_carries_into_it() -> None:
    sets = [january(str(day), day, full=day == 1) for day in (1, 2, 3)]
    table = blast_radius(frame(sets), start=at(36), end=at(72), as_of=at(100))
    assert by_id(table, "lost") == {"1": 36, "2": 36, "3": 23}
    assert by_id(table, "share") == pytest.approx({"1": 1, "2": 1, "3": 23 / 36})


def test_copies_are_counted_and_are_one_set() -> None:
    sets = [january("1", 1), january("2", 2, full=False)]
    first, second = frame(sets), frame(sets[:1], storage="archive")
    rows = conform(pd.concat([first, second]), "tenants")
    table = blast_radius(rows, as_of=at(100))
    assert by_id(table, "copies") == {"1": 2, "2": 1}
    assert by_id(table, "lost") == by_id(blast_radius(first, as_of=at(100)), "lost")
    verdicts = retention(rows, 1, as_of=at(100))
    assert by_id(verdicts, "verdict") == {"1": "keep_point", "2": "after_keep_point"}
    # A copy that is not valid, or is gone, is none.
    second["validity"] = pd.Categorical(["INVALID"])
    rows = conform(pd.concat([first, second]), "tenants")
    assert by_id(blast_radius(rows, as_of=at(100)), "copies") == {"1": 1, "2": 1}
    gone = frame([replace(sets[0], gone=40)], storage="archive")
    rows = conform(pd.concat([first, gone]), "tenants")
    assert by_id(blast_radius(rows, as_of=at(100)), "copies") == {"1": 1, "2": 1}
    assert len(retention(rows, 1, as_of=at(100))) == 2


def test_one_set_only() -> None:
    only = frame([january("1", 1)])
    (row,) = blast_radius(only, end=at(25), as_of=at(30)).to_dict("records")
    assert (hours(row["lost"]), row["share"], row["newest_lost"]) == (24, 24 / 25, True)
    assert pd.isna(row["falls_back_to"])
    assert by_id(retention(only, 1, as_of=at(100)), "verdict") == {"1": "keep_point"}


# --- what a tenant shrinks to ---------------------------------------------------------------------


def newest_full(sets: list[Set]) -> Set | None:
    """Return the restorable full with the newest checkpoint, of equal ones the last."""
    fulls = [s for s in points(sets) if s.full]
    return max(fulls, key=lambda s: (s.checkpoint, fulls.index(s)), default=None)


def hangs_on(sets: list[Set]) -> list[Set]:
    """Return the newest restorable full, and the base of the newest restorable set."""
    there = points(sets)
    best = max(there, key=lambda s: (s.checkpoint, there.index(s)), default=None)
    base = [] if best is None else [best.found["chain"][0]]
    newest = newest_full(sets)
    return base + ([] if newest is None else [newest])


@dataclass
class Fate:
    """What becomes of a tenant's sets: when each goes, because of which."""

    leave: dict[str, float]
    expected: float | None
    now: int

    def at_risk(self, sets: list[Set]) -> float | None:
        """Return when what it hangs on goes, if before the next full."""
        bound = float("inf") if self.expected is None else self.expected
        early = [self.leave.get(each.id, bound) for each in hangs_on(sets)]
        return min((when for when in early if when < bound), default=None)


AFTER = [
    *("reachable_since", "next_expiry", "sets_going", "reachable_since_after", "lost"),
    *("next_full_expected", "before_next_full", "last_usable_full_id", "at_risk"),
]


def shrinks(sets: list[Set], now: int, window: int, every: float | None) -> dict[str, Any]:
    known = oracle.known_at(sets, now)
    there = listed(sets, now)
    every = cadence(there) if every is None else every
    expected = next_full(there, every, now)
    fate = Fate(departures(there, expected, window), expected, now)
    good = points(known)
    goes = {s.id: min(fate.leave.get(link.id, 1e9) for link in s.found["chain"]) for s in good}
    first = min((when for when in goes.values() if when < 1e9), default=None)
    then = None if first is None else max(first, now)
    left = [s for s in good if then is None or goes[s.id] > then]
    since = min((s.checkpoint for s in good if s.checkpoint is not None), default=None)
    after = min((s.checkpoint for s in left if s.checkpoint is not None), default=None)
    full = newest_full(known)
    return {
        "reachable_since": since,
        "next_expiry": first,
        "sets_going": 0 if then is None else sum(w <= then for w in fate.leave.values()),
        "reachable_since_after": after,
        "lost": None if since is None or after is None else after - since,
        "next_full_expected": expected,
        "before_next_full": first is not None and (expected is None or first < expected),
        "last_usable_full_id": None if full is None else full.id,
        "at_risk": fate.at_risk(known) is not None,
    }


@settings(max_examples=examples(150), report_multiple_bugs=False)
@given(crowds(most=9), WINDOWS, NOWS, EVERY)
def test_what_shrinks_is_what_the_job_takes(
    tenants: list[list[Set]], windows: list[int], now: int, every: int | None
) -> None:
    days = {who(number, 2): window / DAY for number, window in enumerate(windows)}
    given_every = None if every is None else {who(n, 2): every * HOUR for n in range(9)}
    rows = frame(*tenants, instances=2)
    table = coverage_after_expiry(rows, days, full_every=given_every, as_of=at(now))
    found = rows_of(table, AFTER)
    for number, sets in enumerate(tenants):
        if not oracle.known_at(sets, now):
            continue
        expected = shrinks(sets, now, windows[number], every)
        name = expected["last_usable_full_id"]
        expected["last_usable_full_id"] = name and f"{number}-{name}"
        assert found.pop(who(number, 2)) == [expected]
    assert not found


# --- the kernel that findings use -----------------------------------------------------------------


def reserves(rows: Any, days: Any, every: Any, now: Any) -> list[tuple[Any, Reserves]]:
    scene = scene_of(rows, None, None, now)
    return [
        (view, reserves_in(view, days[: view.part.count], every[: view.part.count]))
        for view in scene.views()
    ]


def micro(hours_: float | None) -> int:
    return NAT if hours_ is None else int(hours_ * 3_600_000_000)


def expected_reserves(
    sets: list[Set], now: int, window: int | None, every: int | None
) -> dict[str, Any]:
    """Return the same from the definitions (G13, G14, G15, G17)."""
    known, there = oracle.known_at(sets, now), listed(sets, now)
    fulls = [s for s in points(known) if s.full]
    oldest = min((s.checkpoint for s in fulls if s.checkpoint is not None), default=None)
    made: dict[str, Any] = {
        "usable_fulls": len(fulls),
        "newest_full": max((s.checkpoint for s in fulls if s.checkpoint is not None), default=None),
        "oldest_full": oldest,
        "shortfall": None,
        "overdue": 0,
        "oldest_overdue": None,
        "risk_at": None,
        "next_full": next_full(there, every, now),
    }
    if window is None:
        return made
    if oldest is not None:
        made["shortfall"] = max(oldest - (now - window), 0)
    enough = [s for s in fulls if s.checkpoint is not None and s.checkpoint <= now - window]
    if enough:
        keep = max(enough, key=lambda s: (s.checkpoint, fulls.index(s)))
        ordered = [s.id for s in in_order(known)]
        here = {s.id: s.state for s in there}
        older = [
            i for i in ordered[: ordered.index(keep.id)] if here.get(i, "running") != "running"
        ]
        made |= {"overdue": len(older), "oldest_overdue": older[0] if older else None}
    if every is not None:
        fate = Fate(departures(there, None, window), made["next_full"], now)
        made["risk_at"] = fate.at_risk(known)
    return made


LIMITS = st.lists(st.one_of(st.none(), st.integers(1, 40)), min_size=9, max_size=9)


@settings(max_examples=examples(150), report_multiple_bugs=False)
@given(crowds(most=9), LIMITS, LIMITS, NOWS)
def test_reserves_agree_with_the_definitions(
    tenants: list[list[Set]], windows: list[int | None], everies: list[int | None], now: int
) -> None:
    known = [number for number, sets in enumerate(tenants) if oracle.known_at(sets, now)]
    days, every = (
        np.array([micro(each[n]) for n in known], np.int64) for each in (windows, everies)
    )
    rows = frame(*tenants)
    for view, found in reserves(rows, days, every, at(now)):
        chains, part = view.certain, view.part
        ids = view.scene.known.tenants["backup_set_id"].array

        def point(sets: Any, turn: int, chains: Any = chains) -> int:
            return NAT if sets[turn] < 0 else int(chains.checkpoint[sets[turn]]) - micro_origin()

        for turn, number in enumerate(known):
            every_ = everies[number]
            if every_ is None and windows[number] is not None:  # the median so far
                every_ = cadence(listed(tenants[number], now))
            wanted = expected_reserves(tenants[number], now, windows[number], every_)
            assert found.usable_fulls[turn] == wanted["usable_fulls"]
            assert point(found.newest_full, turn) == micro(wanted["newest_full"])
            assert point(found.oldest_full, turn) == micro(wanted["oldest_full"])
            assert found.shortfall[turn] == micro(wanted["shortfall"])
            assert found.overdue[turn] == wanted["overdue"]
            first = found.oldest_overdue[turn]
            name = None if first < 0 else ids[part.row[first]].removeprefix(f"{number}-")
            assert name == wanted["oldest_overdue"]
            assert (first < 0) == (found.overdue_since[turn] == NAT)
            for column in ("next_full", "risk_at"):
                value = int(getattr(found, column)[turn])
                assert value == NAT or value > 0
                assert (NAT if value == NAT else value - micro_origin()) == micro(wanted[column])
            assert found.at_risk[turn] == (wanted["risk_at"] is not None)
            assert (found.risk_set[turn] >= 0) == found.at_risk[turn]


def micro_origin() -> int:
    return T0.value // 1_000


def test_a_server_that_is_late_and_since_when() -> None:
    window, week = (np.array([micro(n * DAY)]) for n in (7, 7))
    ((_, found),) = reserves(frame(GOLDEN), window, week, "2026-01-15")
    assert (found.usable_fulls[0], found.overdue[0], found.oldest_overdue[0]) == (3, 2, 0)
    # Full 3 ended on January 7 at 1 h: from the 14th on nothing older is needed.
    assert found.overdue_since[0] == micro_origin() + micro(13 * DAY + 1)
    assert found.shortfall[0] == 0
    ((_, found),) = reserves(frame(GOLDEN[2:]), window * 2, week, "2026-01-15")
    assert found.shortfall[0] == micro(6 * DAY + 1)
    assert found.overdue[0] == 0


def test_sets_of_tables_are_not_retained_too_long() -> None:
    rows = frame([january("1", 1), january("2", 5)])
    week = np.array([micro(7 * DAY)])
    for kind, overdue in (("TABLE", 0), ("TENANT", 1)):
        rows["backup_object_type"] = pd.Categorical([kind, "TENANT"])
        ((_, found),) = reserves(rows, week, week, "2026-01-31")
        assert found.overdue[0] == overdue
