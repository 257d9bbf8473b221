"""Frames, and random histories of tenants, for the tests of coverage; an hour is the unit of time.

A history is drawn as bytes, eight for a set: that is many times faster than a choice at a time.
"""

from __future__ import annotations

from typing import Any

import oracle
import pandas as pd
import pytest
from hypothesis import strategies as st
from oracle import Ask, Set

from obanalytics.frames import STATES, conform, empty
from obanalytics.schema import BackupSets

T0 = pd.Timestamp("2026-01-01", tz="UTC")
HOUR = pd.Timedelta("1h")


def at(hours: float | None) -> Any:
    return pd.NaT if hours is None else T0 + hours * HOUR


def hours(value: Any) -> Any:
    if pd.isna(value):
        return None
    return (value - T0 if isinstance(value, pd.Timestamp) else value) / HOUR


def plain(values: pd.Series, unit: pd.Timedelta = HOUR, origin: pd.Timestamp = T0) -> list[Any]:
    """Return a column as plain values: times and durations in units, None for what is missing."""
    if values.dtype.kind == "M":
        values = (values - origin) / unit
    elif values.dtype.kind == "m":
        values = values / unit
    return [None if pd.isna(v) else v for v in values.tolist()]


def rows_of(
    table: pd.DataFrame,
    columns: list[str],
    unit: pd.Timedelta = HOUR,
    origin: pd.Timestamp = T0,
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the rows of every tenant, in their order, as plain values."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    values = [plain(table[column], unit, origin) for column in columns]
    who = zip(table["instance_id"], table["tenant_id"], strict=True)
    for key, row in zip(who, zip(*values, strict=True), strict=True):
        found.setdefault(key, []).append(dict(zip(columns, row, strict=True)))
    return found


def who(number: int, instances: int = 1) -> tuple[str, str]:
    """Return instance and tenant id of a tenant of a frame."""
    return f"ob{1 + number % instances}", f"t{number // instances}"


def frame(
    *tenants: list[Set],
    storage: str = "standard",
    instances: int = 1,
    unit: pd.Timedelta = HOUR,
    origin: pd.Timestamp = T0,
) -> pd.DataFrame:
    """Return a tenants frame; all tenants share a name, and ids when there are more instances."""
    each = [
        (who(number, instances), number, s) for number, sets in enumerate(tenants) for s in sets
    ]
    if not each:
        return empty("tenants")

    def times(values: list[int | None]) -> Any:
        steps = pd.to_timedelta(pd.Series(values, dtype="float64") * (unit / HOUR), unit="h")
        return (origin + steps).astype("datetime64[us, UTC]")

    made = pd.DataFrame(
        {
            "instance_id": [whose[0] for whose, _, _ in each],
            "cluster_backup_set_id": [s.cluster for _, _, s in each],
            "backup_set_id": [f"{number}-{s.id}" for _, number, s in each],
            "tenant_id": [whose[1] for whose, _, _ in each],
            "tenant_name": "same",
            "full": [s.full for _, _, s in each],
            "state": pd.Categorical([s.state for _, _, s in each], categories=list(STATES)),
            "validity": [s.validity for _, _, s in each],
            "start_time": times([s.start for _, _, s in each]),
            "end_time": times([s.end for _, _, s in each]),
            "checkpoint": times([s.checkpoint for _, _, s in each]),
            "size_gib": [s.size for _, _, s in each],
            "storage_class": storage,
        }
    )
    made["size_gib"] = made["size_gib"].astype("float64")
    made["duration"] = made["end_time"] - made["start_time"]
    if any(s.gone is not None for _, _, s in each):
        made["gone_time"] = times([s.gone for _, _, s in each])
    return conform(made, "tenants")


Interval = tuple[int | None, int | None]


def restorable(
    *tenants: list[Interval] | None,
    instances: int = 1,
    unit: pd.Timedelta = HOUR,
    origin: pd.Timestamp = T0,
) -> pd.DataFrame:
    """Return the vendor's table; a tenant of None is not named, one of [] has no interval."""

    def time(value: int | None) -> Any:
        return pd.NaT if value is None else origin + value * unit

    rows = [
        (*who(number, instances), time(a), time(b), ("standard", "archive")[turn % 2])
        for number, intervals in enumerate(tenants)
        if intervals is not None
        for turn, (a, b) in enumerate(intervals or [(None, None)])
    ]
    columns = ["instance_id", "tenant_id", "start", "end", "storage_class"]
    return (
        conform(pd.DataFrame(rows, columns=columns), "restorable") if rows else empty("restorable")
    )


def facts(
    tenants: list[list[Set]],
    intervals: list[list[Interval] | None],
    **changes: Any,
) -> BackupSets:
    """Return sets with the vendor's intervals."""
    where = {name: changes.pop(name) for name in ("instances", "unit", "origin") if name in changes}
    return BackupSets(
        empty("clusters"),
        frame(*tenants, **where),
        restorable=restorable(*intervals, **where),
        **changes,
    )


WIDTH = 8
RUNS = ("running", "failed", "cancelled", "expired", "unknown")


def a_set(raw: bytes, name: str, span: int, *, gone: bool, healthy: bool = False) -> Set:
    """Read a set, most of them as they should be, nearly all of a healthy tenant."""
    state = RUNS[raw[0] % 5] if raw[0] % (97 if healthy else 13) in {1, 2, 3, 4, 5} else "done"
    made = Set(name, state, start=raw[1] % span, end=None, checkpoint=None)
    made.full = None if raw[2] % 7 == 6 and not healthy else raw[2] % 7 in {0, 2, 4, 6}
    made.validity = {9: "INVALID", 10: None}.get(raw[3] % (41 if healthy else 11), "VALID")
    if state not in {"running", "failed"} or raw[0] >= 128:
        made.checkpoint = (made.start or 0) + raw[4] % 5
        made.end = made.checkpoint + raw[5] % 4
    match raw[6] % (97 if healthy else 24):
        case 20:
            made.end = None
        case 21:
            made.checkpoint = None
        case 22:
            made.checkpoint = (made.start or 0) - 1
        case 23:
            made.start = None
    if gone and raw[7] % 6 == 1:
        made.gone = raw[7] % 64
    made.size = (0.0, 0.02, 0.09, 0.1, 0.5, 1.0, 2.0, 8.0, None)[(raw[5] // 4 + raw[7]) % 9]
    return made


@st.composite
def histories(draw: Any, most: int = 9, *, least: int = 0, gone: bool = False) -> list[Set]:
    """Draw the sets of one tenant; the shorter the span, the more of their instants are equal."""
    count = draw(st.integers(least, most))
    raw = draw(st.binary(min_size=1 + WIDTH * count, max_size=1 + WIDTH * count))
    span, healthy = (49, 6, 25, 49)[raw[0] % 4], raw[0] % 5 > 2
    chunks = [raw[1 + WIDTH * n : 1 + WIDTH * (n + 1)] for n in range(count)]
    # The ids sort otherwise than the sets come.
    return [
        a_set(chunk, f"{sum(chunk) % 16:x}{turn}", span, gone=gone, healthy=healthy)
        for turn, chunk in enumerate(chunks)
    ]


def crowds(most: int = 7) -> Any:
    """Draw the histories of several tenants: any, with many sets, or with sets that are gone."""
    each = (histories(), histories(least=5), histories(gone=True))
    return st.one_of(*(st.lists(kind, min_size=1, max_size=most) for kind in each))


@st.composite
def intervals(draw: Any) -> list[Interval] | None:
    """Draw what the vendor lists of a tenant."""
    count = draw(st.sampled_from([None, 0, 1, 2, 3, 3, 4, 4]))
    if count is None:
        return None
    raw = draw(st.binary(min_size=3 * count, max_size=3 * count))
    made: list[Interval] = []
    for low, length, odd in zip(raw[::3], raw[1::3], raw[2::3], strict=True):
        start = low % 46 - 5
        end = start + length % 26 - 2
        made.append((None, None) if odd % 12 == 7 else (start, end))
    return made


@st.composite
def questions(draw: Any) -> tuple[Ask, dict[str, Any]]:
    """Draw what is asked, for the oracle and for the package; the RPO is the caller's."""
    start = draw(st.one_of(st.none(), st.integers(-10, 60)))
    end = (20 if start is None else start) + draw(st.integers(0, 45))
    # Mostly what is known much later, when nothing is dropped or turned into running.
    now = draw(st.sampled_from([1000, 1000, 40, 25, 10]))
    if draw(st.integers(0, 3)) == 0:
        now = end
    ask = Ask(end, start, now, grace=draw(st.sampled_from([0, 0, 2])), trust=draw(st.booleans()))
    options = {"start": None if start is None else at(start), "as_of": at(now)}
    # An end that is not given is `as_of`.
    return ask, options | ({} if now == end else {"end": at(end)})


GAP = [
    *("gap_start", "gap_end", "gap", "unknown", "position", "cause", "causes", "worst_exposure"),
    *("unbounded", "excess", "last_checkpoint", "last_backup_set_id", "next_checkpoint"),
    *("next_backup_set_id", "attempts", "failed", "certainty"),
]
STEP = [
    *("start", "end", "checkpoint", "backup_set_id", "exposure_start", "exposure_end"),
    "unbounded",
]
SUMS = [
    *("time_in_rpo", "time_in_rpo_worst", "gaps", "gap_total", "unknown", "worst_exposure"),
    *("worst_at", "unbounded", "exposure_now", "exposure_mean", "exposure_p95", "restore_points"),
    *("last_checkpoint", "last_attempt", "last_attempt_state", "rpo_ratio"),
]


def check_steps(found: list[dict[str, Any]], sets: list[Set], ask: Ask, number: int) -> None:
    """Compare the steps of one tenant's curve."""
    expected = [
        {
            "start": each["start"],
            "end": each["end"],
            "checkpoint": each["checkpoint"],
            "backup_set_id": each["set"] and f"{number}-{each['set']}",
            "exposure_start": each["from"],
            "exposure_end": each["to"],
            "unbounded": each["from"] is None,
        }
        for each in oracle.steps_of(sets, ask)
    ]
    assert found == expected


def check_gaps(found: list[dict[str, Any]], sets: list[Set], ask: Ask, number: int) -> None:
    """Compare one tenant's gaps."""
    expected = oracle.gaps_of(sets, ask)
    for each in expected:
        for column in ("last_backup_set_id", "next_backup_set_id"):
            each[column] = each[column] and f"{number}-{each[column]}"
    assert found == expected


def check_sums(row: dict[str, Any], sets: list[Set], ask: Ask, now: int) -> None:
    """Compare one tenant's compliance."""
    expected = oracle.compliance(sets, ask, now)
    among = {"worst_at", "last_attempt_state"}
    for name in expected.keys() - among:
        assert row[name] == pytest.approx(expected[name]), name
    for name in among:
        assert row[name] in (expected[name] or [None]), name
    pieces = oracle.curve(sets, ask)
    assert row["exposure_mean"] == pytest.approx(oracle.mean_exposure(pieces))
    spread = oracle.p95(pieces)
    assert (row["exposure_p95"] is None) == (spread is None)
    if spread is not None:
        assert spread[0] - 1e-6 <= row["exposure_p95"] <= spread[1] + 1e-6
    if expected["exposure_now"] is None:
        assert row["rpo_ratio"] == float("inf")
    elif ask.rpo:
        assert row["rpo_ratio"] == pytest.approx(expected["exposure_now"] / ask.rpo)
