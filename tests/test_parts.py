"""Tenants are worked on part by part, rows come in any order: no result may depend on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coverage import at, frame, histories

import obanalytics as ob
from obanalytics import recovery
from obanalytics.frames import conform, empty
from obanalytics.schema import BackupSets

if TYPE_CHECKING:
    from collections.abc import Callable

    from oracle import Set

ANALYSES: dict[str, Callable[[Any], pd.DataFrame]] = {
    "exposure": ob.exposure,
    "gaps": lambda sets: ob.coverage_gaps(sets, "5h"),
    "gaps, trusting": lambda sets: ob.coverage_gaps(sets, "5h", trust_unknown=True),
    "gaps of a window": lambda sets: ob.coverage_gaps(sets, "5h", start=at(-3), end=at(40)),
    "compliance": lambda sets: ob.rpo_compliance(sets, "5h", total=True),
    "calendar": lambda sets: ob.coverage_calendar(sets, "5h", tz="Asia/Kathmandu"),
}


def answers(sets: Any) -> dict[str, pd.DataFrame]:
    return {name: run(sets) for name, run in ANALYSES.items()}


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, other[name], obj=name)


@settings(max_examples=examples(80))
@given(st.lists(histories(), min_size=1, max_size=6), st.sampled_from([1, 2, 5, 11]), st.randoms())
def test_nothing_depends_on_the_parts_or_the_order_of_rows(
    tenants: list[list[Set]], most: int, random: Any
) -> None:
    rows = frame(*tenants)
    sets = BackupSets(empty("clusters"), rows, as_of=at(60))
    whole, points = answers(sets), ob.restore_points(sets)
    shuffled = rows.sample(frac=1, random_state=random.randrange(1000))
    by_time = rows.sort_values(["start_time", "backup_set_id"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "PART_ROWS", most)
        for again in (rows, shuffled, by_time):
            other = replace(sets, tenants=again)
            same(whole, answers(other))
            pd.testing.assert_frame_equal(ob.restore_points(other).sort_index(), points)


def test_a_fleet_with_copies_and_repeats_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = ob.sample()
    copies = sets.tenants.iloc[::3].assign(storage_class="archive")
    rows = pd.concat([sets.tenants, copies, sets.tenants.iloc[::7]], ignore_index=True)
    sets = replace(sets, tenants=conform(rows, "tenants"))
    whole = answers(sets)
    assert len(whole["gaps"]) > 100
    monkeypatch.setattr(recovery, "PART_ROWS", 300)
    same(whole, answers(sets))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(rows))
        same(whole, answers(replace(sets, tenants=sets.tenants.take(order))))


def test_times_too_far_apart_to_be_packed_into_one_number_are_sorted_all_the_same() -> None:
    rows = pd.concat(
        [one_day("t1", "1971-01-01"), one_day("t2", "9998-01-01"), one_day("t1", "2026-01-01")]
    )
    many = [one_day(f"x{number:03}", "2026-01-01") for number in range(300)]
    rows = conform(pd.concat([rows, *many], ignore_index=True), "tenants")
    start, group = np.array([1 << 60, 3, 1 << 61, 2, -(1 << 61)]), np.array([9, 900, 0, 9, 9])
    assert recovery._sorted(group, start).tolist() == [2, 4, 3, 0, 1]
    start[0], start[3] = recovery.NAT, recovery.NEVER
    assert recovery._sorted(group, start).tolist()[1] == 4
    assert set(recovery._sorted(group, start).tolist()[2:4]) == {0, 3}
    straight = ob.restore_points(rows)
    back = ob.restore_points(rows.iloc[::-1])
    assert straight["restorable"].all()
    pd.testing.assert_frame_equal(straight, back.sort_index())


def one_day(tenant: str, day: str) -> pd.DataFrame:
    """Return a full set of a tenant."""
    begin = pd.Timestamp(day, tz="UTC")
    return pd.DataFrame(
        {
            "instance_id": ["ob1"],
            "backup_set_id": [f"{tenant} {day}"],
            "tenant_id": [tenant],
            "tenant_name": ["same"],
            "full": [True],
            "state": ["done"],
            "validity": ["VALID"],
            "start_time": [begin],
            "end_time": [begin + pd.Timedelta("1h")],
            "checkpoint": [begin + pd.Timedelta("1h")],
        }
    )


def test_a_state_that_nobody_knows_is_unknown_whatever_the_frame_calls_it() -> None:
    rows = pd.concat([one_day("t1", "2026-01-01"), one_day("t1", "2026-01-02")], ignore_index=True)
    rows["state"] = pd.Categorical(["done", "weird"])
    points = ob.restore_points(conform(rows, "tenants"))
    assert points["restorable"].tolist() == [True, False]
    assert points["reason"].tolist()[1] == "state_unknown"
    gaps = ob.coverage_gaps(conform(rows, "tenants"), "2h", as_of="2026-01-03")
    assert gaps["causes"].tolist() == ["state_unknown"]
