"""What is in store: by hand, by plain loops, in SQL, and by what the simulator's server lists."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections import defaultdict
from dataclasses import replace
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from histories import HOUR, T0, at, frame, histories
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Set
from test_coverage import sets_of

import obanalytics as ob
from obanalytics import simulator, stored
from obanalytics.errors import DataError
from obanalytics.frames import conform, empty
from obanalytics.recovery import NAT, NEVER
from obanalytics.retention import retention
from obanalytics.schema import BackupSets, Source, Window
from obanalytics.simulator import Plant, Scenario
from obanalytics.stock import goes_by_rule, held_at
from obanalytics.stored import stored_size

NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
DAY = 24 * HOUR
COLUMNS = (
    *("instance_id", "tenant_id", "tenant_name", "full", "storage_class", "time", "stored_gib"),
    *("sets", "unsized", "written_gib", "basis", "cost_per_month"),
)


def day(number: str, begun: float, size: float | None, *, full: bool = True, **more: Any) -> Set:
    """Return a set that began on a day after T0 at midnight and took an hour."""
    start = int(24 * begun)
    return replace(
        Set(number, "done", full, "VALID", start, start + 1, start + 1), **more | {"size": size}
    )


def series(table: pd.DataFrame, name: str, *, full: bool = True) -> list[Any]:
    """Return a column of one mode, as plain values."""
    return table.loc[table["full"].eq(full).fillna(value=False), name].tolist()


def midnights(*days: float) -> list[pd.Timestamp]:
    return [T0 + number * DAY for number in days]


# --- by hand --------------------------------------------------------------------------------------


def test_what_comes_is_held_from_its_end_to_its_going() -> None:
    """A full of 10 GiB on day 0 that goes at 2 days, one of 12 on day 1, an incremental of 0.5."""
    one = [
        day("a", 0, 10.0, gone=48),
        day("b", 1, 12.0),
        day("c", 2, 0.5, full=False),
    ]
    table = stored_size(frame(one), as_of=at(2.5 * 24))
    assert tuple(table.columns) == COLUMNS
    assert series(table, "time") == midnights(1, 2, 2.5)
    # The second one ends at one o'clock of day 1; at midnight of day 2 the first one is gone.
    assert series(table, "stored_gib") == [10.0, 12.0, 12.0]
    assert series(table, "written_gib") == [10.0, 12.0, 0.0]
    assert series(table, "sets") == [1, 1, 1]
    # The incremental ended at 49 hours: its rows begin with it.
    assert series(table, "time", full=False) == midnights(2.5)
    assert series(table, "stored_gib", full=False) == [0.5]


def test_running_failed_and_unsized_sets() -> None:
    one = [
        day("a", 0, 4.0),
        day("b", 0.5, None),
        day("c", 0.5, None, state="failed"),
        day("d", 0.5, 0.25, state="failed"),
        day("e", 0.5, 9.0, state="running", end=None, checkpoint=None),
        day("f", 0.5, 2.0, state="expired", validity="INVALID"),
        day("g", 0.5, 1.0, end=None),
        day("h", 0.5, 1.0, end=None, checkpoint=None),
    ]
    table = stored_size(frame(one), as_of=at(24))
    # 4 + 0.25 + 2 + 1 (ended at its checkpoint) + 1 (at its start); one more without a size.
    assert series(table, "stored_gib") == [8.25]
    assert series(table, "sets") == [6]
    assert series(table, "unsized") == [1]
    assert any("1 sets have not ended" in note for note in table.attrs["notes"])
    assert any("1 sets have no size" in note for note in table.attrs["notes"])


def test_without_an_archive_only_the_last_instant_is_exact() -> None:
    table = stored_size(frame([day("a", 0, 1.0), day("b", 1, 1.0)]), as_of=at(60))
    assert table["basis"].tolist() == ["lower_bound", "lower_bound", "exact"]
    # An instant before the list's: what went in between is not in it.
    early = stored_size(frame([day("a", 0, 1.0), day("b", 1, 1.0)]), as_of=at(20))
    assert early["basis"].tolist() == ["lower_bound"]
    assert early["stored_gib"].tolist() == [1.0]


def test_the_vendor_s_worked_example() -> None:
    """Fulls on 1, 7 and 14 January, incrementals on 4 and 11; a window of 7 days.

    On 15 January 3, 4 and 5 are kept, 1 and 2 have expired: the full of the 7th, which ended at
    1 o'clock, came of age on the 14th at 1 o'clock, and whatever is older went with that.
    """
    sizes = {"1": 1.0, "2": 0.125, "3": 2.0, "4": 0.25, "5": 4.0}
    begun = {"1": 0, "2": 3, "3": 6, "4": 10, "5": 13}
    one = [day(n, begun[n], sizes[n], full=n not in "24") for n in sizes]
    table = stored_size(frame(one), retention_days=7, as_of=at(14 * 24))
    fulls = dict(zip(series(table, "time"), series(table, "stored_gib"), strict=True))
    parts = dict(
        zip(series(table, "time", full=False), series(table, "stored_gib", full=False), strict=True)
    )
    expected = [1.0] * 6 + [3.0] * 7 + [2.0 + 4.0]  # midnight of the 2nd to the 7th, ..., the 15th
    assert list(fulls) == midnights(*range(1, 15))
    assert list(fulls.values()) == expected
    assert list(parts.values()) == [0.125] * 7 + [0.375] * 3 + [0.25]
    # A set before the first full would have gone by 8 January, 1 o'clock: 7 days after its end.
    # That "1" and "2" are still listed says that this is another window than the server's.
    wanted = ["lower_bound"] * 7 + ["modelled"] * 7
    assert series(table, "basis") == wanted
    # With what the server keeps, the last one is a fact.
    kept = stored_size(
        frame([s for s in one if s.id in "345"]), retention_days=7, as_of=at(14 * 24)
    )
    assert series(kept, "stored_gib")[-1] == 6.0
    assert series(kept, "basis") == ["lower_bound"] * 7 + ["exact"]


def test_the_rule_by_hand() -> None:
    """Three tenants; a window of 10."""
    group = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2])
    end = np.array([1, 2, 3, NAT, 5, 6, 1, 2, 9, 4, 6])
    full = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1], bool)
    good = np.array([1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1], bool)
    failed = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], bool)
    made = goes_by_rule(group, end, full, good, failed, 10)
    # The full that ended at 5 lets go what is before it at 15, the failed one goes at 13 by itself;
    # the one without an end, the newest full and what is behind it stay. The second tenant has no
    # full. The third's runs overlapped: the first one ended last, at 9.
    assert made.tolist() == [15, 15, 13, NEVER, NEVER, NEVER, NEVER, NEVER, 19, 16, NEVER]
    windows = np.where(group == 2, 100, 10)
    assert goes_by_rule(group, end, full, good, failed, windows)[8:].tolist() == [109, 106, NEVER]
    none = np.zeros(0, np.int64)
    assert goes_by_rule(none, none, none > 0, none > 0, none > 0, 10).tolist() == []


def test_held_at_by_hand() -> None:
    made = held_at(
        np.array([0, 10, 20, 25]),
        born=np.array([0, 10, 11, NAT, 30]),
        gone=np.array([10, NEVER, 20, NEVER, NAT]),
        size=np.array([1.0, 0.1, 7.0, 5.0, 5.0]),
        group=np.array([0, 2, 2, 0, 0]),
        count=4,
    )
    assert made.tolist() == [[1, 0, 0, 0], [0] * 4, [0, 0.1, 0.1, 0.1], [0] * 4]
    assert held_at(
        np.zeros(0, int), *(np.zeros(0, int),) * 2, np.zeros(0), np.zeros(0, int)
    ).shape == (0, 0)


PRICED = [
    # Instance, tenant, storage class, full, size
    ("ob1", "t1", "standard", True, 60.0),
    ("ob1", "t1", "archive", True, 20.0),
    ("ob1", "t2", "standard", False, 20.0),
    ("ob2", "t3", "standard", True, 30.0),
]


def priced() -> pd.DataFrame:
    made = pd.DataFrame(
        PRICED, columns=["instance_id", "tenant_id", "storage_class", "full", "size_gib"]
    )
    made = made.assign(state="done", start_time=T0, end_time=T0 + HOUR)
    return conform(made.assign(backup_set_id=list("abcd")), "tenants")


def test_costs_by_hand() -> None:
    """ob1 holds 100 GiB, of which 40 are free: 60 % of each row are paid; ob2 pays nothing.

    standard at 0.10: 60 x 0.6 x 0.10 = 3.60 and 20 x 0.6 x 0.10 = 1.20; archive at 0.05:
    20 x 0.6 x 0.05 = 0.60.
    """
    price = {"standard": 0.10, "archive": 0.05}
    options: dict[str, Any] = {"price_per_gib_month": price, "free_gib": 40, "as_of": at(5)}
    table = stored_size(priced(), **options).set_index(["tenant_id", "storage_class"])
    cost = table["cost_per_month"]
    assert cost["t1", "standard"] == pytest.approx(3.60)
    assert cost["t1", "archive"] == pytest.approx(0.60)
    assert cost["t2", "standard"] == pytest.approx(1.20)
    assert cost["t3", "standard"] == 0.0
    cluster = stored_size(priced(), by="cluster", **options)
    assert cluster.groupby("instance_id", observed=True)["cost_per_month"].sum().tolist() == [
        pytest.approx(5.40),
        0.0,
    ]
    fleet = stored_size(priced(), by="fleet", **options).set_index(["full", "storage_class"])
    assert fleet["cost_per_month"].to_dict() == {
        (True, "archive"): pytest.approx(0.60),
        (True, "standard"): pytest.approx(3.60),
        (False, "standard"): pytest.approx(1.20),
    }
    assert fleet["stored_gib"].to_dict() == {
        (True, "archive"): 20.0,
        (True, "standard"): 90.0,
        (False, "standard"): 20.0,
    }


def test_costs_without_a_quota_and_with_one_by_instance() -> None:
    flat = stored_size(priced(), price_per_gib_month=0.5, as_of=at(5))
    assert flat["cost_per_month"].tolist() == [10.0, 30.0, 10.0, 15.0]
    assert stored_size(priced(), as_of=at(5))["cost_per_month"].isna().all()
    own = stored_size(priced(), price_per_gib_month=1, free_gib={"ob2": 10}, as_of=at(5))
    assert own["cost_per_month"].tolist() == pytest.approx([20.0, 60.0, 20.0, 20.0])
    assert stored_size(
        priced(), price_per_gib_month=1, free_gib=pd.Series({"ob2": 10}), by="fleet", as_of=at(5)
    )["cost_per_month"].sum() == pytest.approx(120.0)


def test_retention_by_storage_class_and_tenant() -> None:
    """The same fulls in two classes; the archive keeps them for 20 days, the other for 2."""
    one = [day(str(n), n, 1.0) for n in range(10)]
    both = pd.concat([frame(one), frame(one, storage="archive")], ignore_index=True)
    held = stored_size(both, retention_days={"standard": 2, "archive": 20}, as_of=at(240))
    last = held[held["time"] == at(240)].set_index("storage_class")
    # The full of day 7 ended on day 7 at 1, two days and 23 hours before: it, 8 and 9 are held.
    assert last["stored_gib"].to_dict() == {"archive": 10.0, "standard": 3.0}
    only = stored_size(both, retention_days={"standard": 2}, as_of=at(240))
    assert only.loc[only["time"] == at(240), "stored_gib"].tolist() == [10.0, 3.0]
    assert (
        only.loc[only["storage_class"] == "archive", "basis"].isin(["lower_bound", "exact"]).all()
    )
    mine = stored_size(both, retention_days={("ob1", "t0"): 4, "archive": 20}, as_of=at(240))
    assert mine.loc[mine["time"] == at(240), "stored_gib"].tolist() == [5.0, 5.0]


# --- by plain loops -------------------------------------------------------------------------------


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    names = [*table.columns]
    return [
        {name: None if pd.isna(value) else value for name, value in zip(names, row, strict=True)}
        for row in table.astype(object).itertuples(index=False, name=None)
    ]


def as_known(rows: list[dict[str, Any]], now: Any) -> list[dict[str, Any]]:
    """Return what is known of the sets at an instant."""
    made = []
    for each in rows:
        if each["start_time"] is not None and each["start_time"] > now:
            continue
        row = dict(each)
        if row["end_time"] is not None and row["end_time"] > now:
            row |= {"state": "running", "end_time": None, "checkpoint": None, "size_gib": None}
        if row.get("gone_time") is not None and row["gone_time"] > now:
            row["gone_time"] = None
        made.append(row)
    return made


def job(sets: list[dict[str, Any]], now: Any, window: Any) -> list[int]:
    """Run the server's hourly job once on the sets of a tenant: what it deletes."""
    delete, keep = [], False
    never = pd.Timestamp.max.tz_localize("UTC")
    order = sorted(sets, key=lambda s: (s["start_time"] or never, s["backup_set_id"]), reverse=True)
    for each in order:
        if (
            each["state"] == "running"
            or each["end_time"] is None
            or each["end_time"] > now - window
        ):
            continue
        if keep or each["state"] in {"failed", "cancelled"}:
            delete.append(each["row"])
        elif each["full"] and each["state"] == "done":
            keep = True
    return delete


def departures(rows: list[dict[str, Any]], window: Any) -> dict[int, Any]:
    """Let the job run whenever a set comes of age, each storage class of a tenant apart."""
    shelves: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        shelves[row["instance_id"], row["tenant_id"], row["storage_class"]].append(row)
    gone = {}
    for there in shelves.values():
        for moment in sorted({r["end_time"] + window for r in there if r["end_time"] is not None}):
            left = [row for row in there if row["row"] not in gone]
            gone |= dict.fromkeys(job(left, moment, window), moment)
    return gone


def by_loop(
    rows: list[dict[str, Any]], now: Any, every: Any, window: Any = None
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return stored, sets, unsized and written by series and instant."""
    rows = [row | {"row": number} for number, row in enumerate(as_known(rows, now))]
    left = {} if window is None else departures(rows, window)
    held = []
    for row in rows:
        born = row["end_time"] or row["checkpoint"] or row["start_time"] or now
        size = row["size_gib"]
        if row["state"] != "running" and (
            size is not None or row["state"] not in {"failed", "cancelled"}
        ):
            gone = [g for g in (row.get("gone_time"), left.get(row["row"])) if g is not None]
            held.append((row, born, min(gone, default=None), size))
    if not held:
        return {}
    first = min(born for _, born, _, _ in held)
    instants = [now]
    when = pd.Timestamp(0, tz="UTC") + (now - pd.Timestamp(0, tz="UTC")) // every * every
    while when >= first:
        instants += [when] if when != now else []
        when -= every
    made = {}
    instants.sort()
    for before, when in zip([None, *instants], instants, strict=False):
        for row, born, gone, size in held:
            if born > when:
                continue
            key = row["instance_id"], row["tenant_id"], row["full"], row["storage_class"], when
            stored_, sets, unsized, written = made.get(key, (0.0, 0, 0, 0.0))
            if gone is None or gone > when:
                stored_, sets, unsized = stored_ + (size or 0), sets + 1, unsized + (size is None)
            if row["in_window"] and (before is None or born > before):
                written += size or 0
            made[key] = stored_, sets, unsized, written
    return made


def told(table: pd.DataFrame) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    return {
        (r["instance_id"], r["tenant_id"], r["full"], r["storage_class"], r["time"]): (
            *(r[name] for name in ("stored_gib", "sets", "unsized", "written_gib")),
        )
        for r in plain_rows(table)
    }


def same(table: pd.DataFrame, expected: dict[tuple[Any, ...], tuple[Any, ...]]) -> None:
    found = told(table)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, abs=1e-9), key


@st.composite
def nasty(draw: Any, *, gone: bool) -> pd.DataFrame:
    """Draw tenants with copies in two storage classes, some of them from before the window."""
    tenants = draw(st.lists(histories(gone=gone), min_size=1, max_size=4))
    made = frame(*tenants, instances=draw(st.sampled_from([1, 2])))
    raw = draw(st.binary(min_size=3, max_size=3))
    chance = np.random.default_rng(list(raw))
    twice = made[chance.random(len(made)) < 0.3].assign(
        storage_class=None if raw[0] % 3 == 0 else "archive"
    )
    made = conform(pd.concat([made, twice], ignore_index=True), "tenants")
    made["in_window"] = chance.random(len(made)) < 0.8
    return made.sample(frac=1, random_state=raw[1]) if raw[2] % 2 else made


@settings(max_examples=40, deadline=None, report_multiple_bugs=False)
@given(nasty(gone=True), st.integers(20, 80), st.sampled_from([5, 6, 24]))
def test_any_history_against_loops(sets: pd.DataFrame, now: int, every: int) -> None:
    table = stored_size(sets, freq=f"{every}h", as_of=at(now))
    same(table, by_loop(plain_rows(sets), at(now), every * HOUR))


@settings(max_examples=40, deadline=None, report_multiple_bugs=False)
@given(nasty(gone=False), st.integers(20, 80), st.sampled_from([3, 10, 24]))
def test_any_history_against_the_server_s_job_in_loops(
    sets: pd.DataFrame, now: int, window: int
) -> None:
    table = stored_size(sets, freq="4h", retention_days=window / 24, as_of=at(now))
    same(table, by_loop(plain_rows(sets), at(now), 4 * HOUR, window * HOUR))
    plain = stored_size(sets, freq="4h", as_of=at(now))
    assert (table["stored_gib"] <= plain["stored_gib"]).all()


@settings(max_examples=20, deadline=None, report_multiple_bugs=False)
@given(nasty(gone=True), st.integers(20, 80))
def test_levels_add_up_and_the_flow_is_what_was_written(sets: pd.DataFrame, now: int) -> None:
    options: dict[str, Any] = {"freq": "7h", "as_of": at(now), "retention_days": 0.5}
    options |= {"price_per_gib_month": 2.0, "free_gib": 1.5}
    tables = {by: stored_size(sets, by=by, **options) for by in ("tenant", "cluster", "fleet")}
    keys = {"cluster": ["instance_id"], "fleet": []}
    names = ["stored_gib", "sets", "unsized", "written_gib", "cost_per_month"]
    for by, key in keys.items():
        whole = [*key, "full", "storage_class", "time"]
        fine = (
            tables["tenant"].groupby(whole, observed=True, dropna=False)[names].sum().reset_index()
        )
        coarse = tables[by].groupby(whole, observed=True, dropna=False)[names].sum().reset_index()
        pd.testing.assert_frame_equal(fine, coarse, check_categorical=False)
    ended = [
        r for r in as_known(plain_rows(sets), at(now)) if r["state"] != "running" and r["in_window"]
    ]
    # Of a set without an end its checkpoint counts: it may be later than what is looked at.
    born = [r["end_time"] or r["checkpoint"] or r["start_time"] or at(now) for r in ended]
    total = sum(r["size_gib"] or 0 for r, when in zip(ended, born, strict=True) if when <= at(now))
    for table in tables.values():
        assert table["written_gib"].sum() == pytest.approx(total)


@settings(max_examples=40, deadline=None, report_multiple_bugs=False)
@given(
    st.lists(histories(), min_size=1, max_size=3), st.integers(20, 80), st.sampled_from([3, 10, 24])
)
def test_what_is_held_last_is_what_retention_does_not_call_due(
    tenants: list[list[Set]], now: int, window: int
) -> None:
    sets = frame(*tenants)
    table = stored_size(sets, retention_days=window / 24, as_of=at(now))
    last = table[table["time"] == at(now)].groupby("tenant_id", observed=True)["stored_gib"].sum()
    verdicts = retention(sets, window / 24, as_of=at(now))
    rows = {row["backup_set_id"]: row for row in as_known(plain_rows(sets), at(now))}
    held: dict[str, float] = defaultdict(float)
    for row in plain_rows(verdicts[~verdicts["verdict"].isin(["due", "running"])]):
        each = rows[row["backup_set_id"]]
        # What has no end, but a checkpoint that is still to come, has not ended.
        if (each["end_time"] or each["checkpoint"] or at(0)) <= at(now):
            held[row["tenant_id"]] += each["size_gib"] or 0
    for tenant in {*held, *last.index}:
        assert last.get(tenant, 0.0) == pytest.approx(held[tenant])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(*(st.integers(-5, 40),) * 2, st.integers(0, 3), st.floats(0, 1e6)), max_size=20
    ),
    st.lists(st.integers(-10, 50), max_size=12, unique=True),
)
def test_held_at_against_loops(sets: list[tuple[int, int, int, float]], when: list[int]) -> None:
    instants = np.array(sorted(when), np.int64)
    born, gone, group, size = (np.array([s[k] for s in sets]) for k in range(4))
    if not sets:
        born = gone = group = np.zeros(0, np.int64)
    made = held_at(instants, born, gone, size.astype(float), group, count=4)
    for g in range(4):
        for number, instant in enumerate(instants):
            there = [s[3] for s in sets if s[2] == g and s[0] <= instant < s[1]]
            assert made[g, number] == pytest.approx(sum(there), abs=1e-6)


def test_what_came_and_went_leaves_nothing() -> None:
    chance = np.random.default_rng(1)
    size = np.round(chance.gamma(2.0, 50.0, 10_000), 2)
    born = chance.integers(0, 1000, 10_000)
    made = held_at(np.array([500, 3000]), born, born + 900, size, np.zeros(10_000, int))
    assert made[0, 1] == 0.0
    assert made[0, 0] == round(size[born <= 500].sum(), 2)
    large = held_at(
        np.array([1]),
        np.array([0, 0]),
        np.array([9, 9]),
        np.array([1e300, 2e300]),
        np.zeros(2, int),
    )
    assert large[0, 0] == pytest.approx(3e300)


# --- by what the server lists ---------------------------------------------------------------------


@cache
def past(keep: int | None, *plants: Plant) -> simulator.History:
    return simulator.simulate(
        Scenario(NOW, 11, days=150, instances=2, tenants=3, retention_days=keep, plants=plants)
    )


def truth(history: simulator.History, when: pd.Timestamp) -> dict[tuple[Any, ...], float]:
    """Return the sizes that are listed at an instant, by tenant and mode."""
    held: dict[tuple[Any, ...], float] = defaultdict(float)
    for instance in history.instances:
        for row in history.sets(instance.instance_id, when.to_pydatetime()):
            for each in row["tenantBackupSetList"]:
                full = each["dataBackupMode"] == "FULL_BACKUP"
                held[instance.instance_id, each["tenantId"], full] += each["dataBackupSize"]
    return held


def compared(table: pd.DataFrame, history: simulator.History, step: int = 1) -> pd.DataFrame:
    """Return the rows of some instants with what was listed at them."""
    instants = table["time"].drop_duplicates().sort_values().iloc[::-step]
    rows = table[table["time"].isin(instants)]
    lists = {when: truth(history, when) for when in instants}
    return rows.assign(
        truth=[
            lists[when].get((instance, tenant, full), 0.0)
            for when, instance, tenant, full in zip(
                *(rows[name] for name in ("time", "instance_id", "tenant_id", "full")), strict=True
            )
        ]
    )


KEEP = 14
FAILED = (Plant("failed", 0, None, 60.2, 2.0), Plant("silent", 1, None, 50.2, 9.0))


@pytest.mark.parametrize("plants", [(), FAILED])
def test_the_rule_gives_the_stock_that_the_server_lists(plants: tuple[Plant, ...]) -> None:
    """Everything that ever was, let go by the rule, is what the server with a window lists.

    Its rule goes by the end of cluster sets, minutes after the tenants': not told apart at noon and
    midnight, when nothing ends.
    """
    table = stored_size(sets_of(past(None, *plants)), freq="12h", retention_days=KEEP)
    rows = compared(table.iloc[:], past(KEEP, *plants), 5)
    np.testing.assert_allclose(rows["stored_gib"], rows["truth"], rtol=0, atol=1e-6)
    assert rows["time"].nunique() > 50
    assert (rows["truth"] > 0).all()


def test_what_is_listed_at_the_end_is_a_lower_bound_before() -> None:
    sets = sets_of(past(KEEP))
    rows = compared(stored_size(sets, freq="12h"), past(KEEP))
    last = rows["time"] == pd.Timestamp(NOW)
    assert (rows["stored_gib"] <= rows["truth"] + 1e-6).all()
    assert (rows["basis"].eq("exact") == last).all()
    np.testing.assert_allclose(
        rows.loc[last, "stored_gib"], rows.loc[last, "truth"], rtol=0, atol=1e-6
    )
    assert (rows["stored_gib"] < rows["truth"] - 1).any()


def test_modelled_is_only_what_is_surely_all() -> None:
    """A tenant of ten days: what it held is told from its first set on, for others had more."""
    plants = (Plant("created", 0, 1, 10.0),)
    history = past(KEEP, *plants)
    # The list reaches 14 days and up to a full back: of a longer history less would be told.
    rows = compared(stored_size(sets_of(history), freq="12h", retention_days=KEEP), history)
    sure = rows["basis"] != "lower_bound"
    np.testing.assert_allclose(
        rows.loc[sure, "stored_gib"], rows.loc[sure, "truth"], rtol=0, atol=1e-6
    )
    assert (rows["stored_gib"] <= rows["truth"] + 1e-6).all()
    assert (rows.loc[~sure, "stored_gib"] < rows.loc[~sure, "truth"] - 1).any()
    young = rows["tenant_id"] == history.instances[0].tenants[1].tenant_id
    assert sure[young].all()
    assert rows[young]["time"].nunique() > 15
    # A window that the list does not reach back to is no longer the server's: nothing is sure.
    long = stored_size(sets_of(history), retention_days=60)
    assert set(long["basis"]) == {"lower_bound", "exact"}


def archived(history: simulator.History, everything: BackupSets, days: int) -> BackupSets:
    """Return what an archive holds that fetched the list every day at six."""
    seen: dict[str, Any] = {}
    gone: dict[str, Any] = {}
    for back in range(days, -1, -1):
        when = NOW - dt.timedelta(days=back)
        there = {
            row["backupSetId"]
            for i in history.instances
            for row in history.sets(i.instance_id, when)
        }
        for each in there:
            seen.setdefault(each, when)
        gone |= {each: when for each in seen if each not in there and each not in gone}
    frame_ = everything.tenants
    rows = frame_[frame_["cluster_backup_set_id"].isin(seen)]
    columns = {"first_seen": seen, "gone_time": gone}
    rows = rows.assign(
        **{name: rows["cluster_backup_set_id"].map(d) for name, d in columns.items()}
    )
    return replace(everything, tenants=conform(rows.reset_index(drop=True), "tenants"))


def test_an_archive_is_exact_from_its_first_fetch_on() -> None:
    history = past(KEEP)
    sets = archived(history, sets_of(past(None)), 40)
    table = stored_size(sets, freq="6h")
    first = pd.Timestamp(NOW) - pd.Timedelta(days=40)
    assert table["basis"].eq("exact").equals(table["time"] >= first)
    fetches = table[(table["time"].dt.hour == 6)]
    rows = compared(fetches, history)
    exact = rows["basis"] == "exact"
    assert exact.sum() == 41 * 2 * 3 * 2
    np.testing.assert_allclose(
        rows.loc[exact, "stored_gib"], rows.loc[exact, "truth"], rtol=0, atol=1e-6
    )
    assert (rows["stored_gib"] <= rows["truth"] + 1e-6).all()
    # At an instant before the last fetch the archive knows as well.
    early = stored_size(sets, as_of=first + pd.Timedelta(days=3))
    assert early["basis"].iloc[-1] == "exact"
    # A window as long as the server's changes nothing that was fetched, a shorter one does.
    again = stored_size(sets, freq="6h", retention_days=KEEP)
    late = again[(again["time"] >= first + pd.Timedelta(days=1)) & (again["time"].dt.hour == 12)]
    assert late["basis"].eq("exact").all()
    short = stored_size(sets, freq="6h", retention_days=7)
    assert short.loc[short["time"] == pd.Timestamp(NOW), "basis"].eq("modelled").any()


SQL = """
WITH sets AS (
    SELECT instance_id AS i, tenant_id AS t, "full" AS f, storage_class AS c, size_gib AS size,
           end_time AS born, coalesce(gone_time, 'infinity'::TIMESTAMPTZ) AS gone
    FROM tenants WHERE state <> 'running' AND (state = 'done' OR size_gib IS NOT NULL)
), days AS (
    SELECT unnest(range((SELECT date_trunc('day', min(born)) + INTERVAL 1 DAY FROM sets),
                        $now::TIMESTAMPTZ, INTERVAL 1 DAY)) AS moment
    UNION ALL SELECT $now::TIMESTAMPTZ
), instants AS (
    SELECT moment, coalesce(lag(moment) OVER (ORDER BY moment), '-infinity') AS before FROM days
)
SELECT i, t, f, c, moment, coalesce(sum(size) FILTER (gone > moment), 0) AS stored,
       count(*) FILTER (gone > moment) AS sets,
       coalesce(sum(size) FILTER (born > before), 0) AS written
FROM sets JOIN instants ON born <= moment GROUP BY ALL ORDER BY i, t, f DESC, c, moment
"""


def test_a_fleet_in_sql() -> None:
    sets = archived(past(KEEP, *FAILED), sets_of(past(None, *FAILED)), 60)
    table = stored_size(sets)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("tenants", sets.tenants)
        query = connection.execute(SQL, {"now": NOW})
        other = query.fetchdf()
    assert len(table) == len(other) > 500
    names = {
        "instance_id": "i",
        "tenant_id": "t",
        "full": "f",
        "storage_class": "c",
        "time": "moment",
    }
    for mine, theirs in names.items():
        assert table[mine].tolist() == other[theirs].tolist()
    for mine, theirs in {"stored_gib": "stored", "sets": "sets", "written_gib": "written"}.items():
        np.testing.assert_allclose(table[mine], other[theirs], rtol=0, atol=1e-6)


# --- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freq", "expected"),
    [
        ("D", ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02", "2026-02-02T12:00"]),
        ("1d", ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02", "2026-02-02T12:00"]),
        ("W", ["2026-02-02", "2026-02-02T12:00"]),  # a Monday: the week ends with Sunday
        ("MS", ["2026-02-01", "2026-02-02T12:00"]),
        ("ME", ["2026-02-01", "2026-02-02T12:00"]),
        ("36h", ["2026-01-31", "2026-02-01T12:00", "2026-02-02T12:00"]),
        (
            pd.Timedelta("2D"),
            ["2026-01-31", "2026-02-02", "2026-02-02T12:00"],
        ),  # day 20,484 of 1970
        (pd.offsets.YearEnd(), ["2026-02-02T12:00"]),
        (dt.timedelta(days=400), ["2026-02-02T12:00"]),
    ],
)
def test_periods_are_utc_ones_and_the_last_ends_with_the_facts(
    freq: Any, expected: list[str]
) -> None:
    one = [day("a", 28.5, 1.0)]  # ended on 29 January at 13
    table = stored_size(frame(one), freq=freq, as_of="2026-02-02T12:00")
    assert table["time"].tolist() == [pd.Timestamp(each, tz="UTC") for each in expected]
    assert table["written_gib"].tolist() == [1.0] + [0.0] * (len(expected) - 1)


@pytest.mark.parametrize("freq", ["fortnight", "", "0D", "-1D", None, 5, "1ns", pd.NaT, object()])
def test_what_is_no_frequency(freq: Any) -> None:
    with pytest.raises(ValueError, match="freq must be a frequency") as caught:
        stored_size(frame([day("a", 0, 1.0)]), freq=freq)
    assert repr(freq) in str(caught.value)


def test_a_table_that_would_be_too_long() -> None:
    sets = frame([day("a", 0, 1.0), day("b", 300, 1.0)])
    with pytest.raises(
        ValueError, match=r"rows, and at most 5,000,000 are made: take a coarser freq"
    ):
        stored_size(sets, freq="1s")
    many = frame(*[[day("a", 0, 1.0), day("b", 30, 1.0)]] * 4)
    with pytest.raises(ValueError, match=r'than \'2s\', by="cluster" or by="fleet"'):
        stored_size(many, freq="2s")
    assert len(stored_size(many, freq="2min", by="fleet")) == 30 * 720 + 1


def test_sets_from_before_the_window_are_held_and_not_written() -> None:
    one = [day("a", 0, 1.0), day("b", 9.99, 2.0, end=242), day("c", 12, 4.0)]
    sets = BackupSets(empty("clusters"), frame(one), as_of=at(13 * 24)).between(at(240))
    assert sets.tenants["in_window"].tolist() == [False, False, True]
    table = stored_size(sets)
    # The second one began before the window and ended in it.
    assert table["time"].tolist() == midnights(10, 11, 12, 13)
    assert table["stored_gib"].tolist() == [1.0, 3.0, 3.0, 7.0]
    assert table["written_gib"].tolist() == [0.0, 0.0, 0.0, 4.0]
    assert table["basis"].tolist() == ["lower_bound"] * 3 + ["exact"]


def test_a_window_that_ends_before_the_facts_ends_the_table() -> None:
    one = [day("a", 0, 1.0), day("b", 1, 2.0), day("c", 5, 4.0)]
    sets = BackupSets(empty("clusters"), frame(one), as_of=at(240))
    table = stored_size(sets.between(None, at(60)))
    assert table["time"].tolist() == midnights(1, 2, 2.5)
    assert table["basis"].tolist() == ["lower_bound"] * 3
    assert any("between the last instant" in note for note in table.attrs["notes"])
    assert stored_size(sets.between(None, at(500)))["time"].iloc[-1] == at(240)


def test_what_was_not_asked_for_is_not_called_exact() -> None:
    rule = "cluster sets by start_time in [start, end); lookback to 2026-01-01T00:00:00+00:00"
    one = frame([day("a", 8, 1.0), day("b", 9, 2.0)])
    whole = BackupSets(empty("clusters"), one, Window(at(200), None), as_of=at(240))
    cut = replace(whole, source=Source(window_rule=rule))
    assert stored_size(whole)["basis"].iloc[-1] == "exact"
    table = stored_size(cut)
    assert table["basis"].iloc[-1] == "lower_bound"
    assert any("load without a start" in note for note in table.attrs["notes"])
    assert stored_size(cut, retention_days=1)["basis"].iloc[-1] == "modelled"


def test_the_loader_says_what_it_left_out() -> None:
    """`stored_size` reads it in the rule of the window: the words must stay the same."""
    history = past(KEEP)
    server = simulator.SimulatorServer(history)
    keys = dict(zip(("access_key_id", "access_key_secret"), simulator.KEY, strict=True))
    with server, ob.Client(**keys, endpoint=server.url, project_id="p") as client:
        sets = ob.load("all", start="2026-10-30", lookback="1D", client=client, progress=False)
        assert stored._CUT in sets.source.window_rule
        assert set(stored_size(sets)["basis"]) == {"lower_bound"}
        sets = ob.load("all", client=client, progress=False)
        assert set(stored_size(sets)["basis"]) == {"lower_bound", "exact"}


def test_a_fleet_that_lacks_instances_is_never_exact() -> None:
    one = BackupSets(empty("clusters"), frame([day("a", 0, 1.0)]), as_of=at(24))
    short = replace(one, source=Source(failed={"ob9": "503"}))
    assert stored_size(short)["basis"].tolist() == ["exact"]
    table = stored_size(short, by="fleet")
    assert table["basis"].tolist() == ["lower_bound"]
    assert any("1 instances failed" in note for note in table.attrs["notes"])


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["tenant", "cluster", "fleet"])
@pytest.mark.parametrize("kind", ["frame", "sets", "running"])
def test_nothing_has_the_same_columns(by: str, kind: str) -> None:
    full = stored_size(frame([day("a", 0, 1.0)]), by=by)
    nothing: Any = empty("tenants")
    if kind == "sets":
        nothing = BackupSets(empty("clusters"), nothing)
    elif kind == "running":
        nothing = frame([day("a", 0, None, state="running", end=None, checkpoint=None)])
    options: dict[str, Any] = {
        "retention_days": 3,
        "price_per_gib_month": {"x": 1},
        "free_gib": {"y": 1},
    }
    made = stored_size(nothing, by=by, **options)
    assert made.empty
    for name, dtype in full.dtypes.items():
        assert made[name].dtype == dtype or isinstance(dtype, pd.CategoricalDtype), name
    assert made.attrs["units"] == full.attrs["units"]


def test_it_survives_files_slices_and_copies(tmp_path: Any) -> None:
    one = pd.concat([frame([day("a", 0, 1.0)]), frame([day("a", 0, 2.0)], storage="archive")])
    table = stored_size(
        one,
        retention_days={("ob1", "t0"): 9},
        price_per_gib_month={"standard": 0.1, "archive": 0.2},
        free_gib={"ob1": 1},
        freq="6h",
        as_of=at(13),
    )
    attrs = table.attrs
    assert attrs["retention_days"] == {"ob1/t0": 9.0}
    assert attrs["price"] == {"standard": 0.1, "archive": 0.2}
    assert attrs["free"] == {"ob1": 1.0}
    assert (attrs["by"], attrs["freq"]) == ("tenant", "6h")
    assert set(attrs["units"]) == set(table.select_dtypes("number").columns)
    assert json.loads(json.dumps(attrs)) == attrs
    table.to_parquet(tmp_path / "table.parquet")
    back = pd.read_parquet(tmp_path / "table.parquet")
    assert back.attrs == attrs
    assert back["stored_gib"].tolist() == table["stored_gib"].tolist()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(table)), table)  # noqa: S301 - our own
    assert table[table["storage_class"] == "archive"].head(2).attrs == attrs
    assert table["storage_class"].cat.categories.tolist() == ["archive", "standard"]


def test_rows_come_by_tenant_mode_storage_class_and_time() -> None:
    tenants = [[day("a", 0, 1.0), day("b", 0, 2.0, full=False), day("c", 0, 4.0)]] * 3
    both = pd.concat(
        [frame(*tenants, instances=2), frame(*tenants, instances=2, storage="archive")]
    )
    both.loc[both["backup_set_id"].str.endswith("c"), "full"] = pd.NA
    table = stored_size(both.sample(frac=1, random_state=1), as_of=at(30))
    keys = [
        (
            r["instance_id"],
            r["tenant_id"],
            {True: 0, False: 1, None: 2}[r["full"]],
            r["storage_class"],
            r["time"],
        )
        for r in plain_rows(table)
    ]
    assert keys == sorted(keys)
    assert len(keys) == 3 * 3 * 2 * 2
    assert table["tenant_name"].tolist() == ["same"] * len(table)


def test_the_newest_name_is_taken_and_the_input_left_alone() -> None:
    sets = frame([day("a", 0, 1.0), day("b", 1, 1.0)])
    sets["tenant_name"] = pd.Categorical(["old", "new"], categories=["unused", "new", "old"])
    before = sets.copy(deep=True)
    table = stored_size(sets, retention_days=1)
    assert table["tenant_name"].cat.categories.tolist() == ["new"]
    pd.testing.assert_frame_equal(sets, before)


def test_ids_that_other_instances_share() -> None:
    made = frame([day("a", 0, 1.0)], [day("a", 0, 2.0)], [day("a", 0, 4.0)], instances=2)
    table = stored_size(made, as_of=at(5))
    assert [(r["instance_id"], r["tenant_id"], r["stored_gib"]) for r in plain_rows(table)] == [
        ("ob1", "t0", 1.0),
        ("ob1", "t1", 4.0),
        ("ob2", "t0", 2.0),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "region"}, 'by must be "tenant", "cluster" or "fleet", not \'region\''),
        ({"price_per_gib_month": -1}, "price_per_gib_month must be a number zero or more, not -1"),
        ({"price_per_gib_month": "1"}, "price_per_gib_month must be a number"),
        ({"price_per_gib_month": {"standard": float("nan")}}, "of 'standard' must be a number"),
        (
            {"price_per_gib_month": {"Standard": 1}},
            "names 'Standard', which is not a storage class .*: 'standard'",
        ),
        ({"price_per_gib_month": {}}, "has no price for 'standard'; it has none"),
        (
            {"free_gib": {"ob7": 1}},
            "free_gib names 'ob7', which is not an instance in the data: 'ob1'",
        ),
        ({"free_gib": True}, "free_gib must be a number"),
        ({"retention_days": 0}, "retention_days must be a number above 0, not 0"),
        ({"retention_days": {"t9": 3}}, "names 't9', which is not a tenant or a storage class"),
        (
            {"retention_days": {"t0": None}},
            "retention_days of 't0' must be a number above 0, not None",
        ),
        ({"as_of": 5}, "as_of must be a date"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        stored_size(frame([day("a", 0, 1.0)]), **options)


def test_what_is_no_frame() -> None:
    with pytest.raises(DataError):
        stored_size(pd.DataFrame({"x": [1]}))
    with pytest.raises(TypeError):
        stored_size([1])  # type: ignore[arg-type]


def test_sets_of_databases_stay_and_are_never_modelled() -> None:
    one = frame([day(str(n), n, 1.0) for n in range(10)])
    one["backup_object_type"] = pd.Categorical(
        ["DATABASE" if n == 0 else "TENANT" for n in range(10)]
    )
    table = stored_size(one, retention_days=2, as_of=at(240))
    assert table["stored_gib"].iloc[-1] == 4.0  # the fulls of the days 7 to 9, and the database
    assert not table["basis"].eq("modelled").any()
    assert any("databases and tables" in note for note in table.attrs["notes"])
