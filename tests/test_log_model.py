"""The log model: coverage by the vendor's restorable intervals, against the slow oracle."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import pandas as pd
import pytest
from effort import examples
from histories import (
    GAP,
    STEP,
    SUMS,
    at,
    check_gaps,
    check_steps,
    check_sums,
    crowds,
    facts,
    frame,
    histories,
    hours,
    intervals,
    questions,
    restorable,
    rows_of,
    who,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Set
from test_coverage import daily, sets_of

import obanalytics as ob
from obanalytics import simulator
from obanalytics.frames import conform, empty
from obanalytics.schema import BackupSets, Window
from obanalytics.simulator import Plant, Scenario

if TYPE_CHECKING:
    from histories import Interval
    from oracle import Ask

LISTS = st.lists(intervals(), min_size=7, max_size=7)
RPOS = st.lists(st.integers(0, 14), min_size=7, max_size=7)


def model(tenants: list[list[Set]], lists: list[Any], now: int) -> str:
    """Return by what a result is measured."""
    named = [
        intervals is not None
        for sets, intervals in zip(tenants, lists, strict=False)
        if oracle.known_at(sets, now)
    ]
    if not any(named):
        return "point"
    return "log" if all(named) else "mixed"


@settings(max_examples=examples(500), report_multiple_bugs=False)
@given(crowds(), LISTS, questions())
def test_exposure_agrees_with_the_oracle(
    tenants: list[list[Set]],
    lists: list[list[Interval] | None],
    question: tuple[Ask, dict[str, Any]],
) -> None:
    ask, options = replace(question[0], trust=False), question[1]
    table = ob.exposure(facts(tenants, lists, instances=2), **options)
    found = rows_of(table, STEP)
    for number, sets in enumerate(tenants):
        if known := oracle.known_at(sets, ask.now):
            own = replace(ask, intervals=lists[number])
            check_steps(found.pop(who(number, 2), []), known, own, number)
    assert not found


@settings(max_examples=examples(700), report_multiple_bugs=False)
@given(crowds(), LISTS, questions(), RPOS, st.booleans())
def test_gaps_and_compliance_agree_with_the_oracle(
    tenants: list[list[Set]],
    lists: list[list[Interval] | None],
    question: tuple[Ask, dict[str, Any]],
    bounds: list[int],
    by_window: bool,  # noqa: FBT001
) -> None:
    ask, options = question
    sets = facts(tenants, lists, instances=2)
    now = ask.now
    if by_window and "end" in options:
        tenants = [[s for s in history if (s.start or 0) < ask.end] for history in tenants]
        sets = facts(tenants, lists, instances=2)
        # The same bounds, but as the window that the facts were asked for.
        sets = replace(sets, window=Window(options.pop("start"), options.pop("end")))
        now = min(ask.now, ask.end)
    rpo = {who(number, 2): f"{bound}h" for number, bound in enumerate(bounds)}
    options |= {"grace": f"{ask.grace}h", "trust_unknown": ask.trust}
    tables = ob.coverage_gaps(sets, rpo, **options), ob.rpo_compliance(sets, rpo, **options)
    assert {t.attrs["model"] for t in tables} == {model(tenants, lists, ask.now)}
    gaps, sums = rows_of(tables[0], GAP), rows_of(tables[1], SUMS)
    for number, history in enumerate(tenants):
        known = oracle.known_at(history, ask.now)
        if known:
            own = replace(ask, rpo=bounds[number], intervals=lists[number])
            check_gaps(gaps.pop(who(number, 2), []), known, own, number)
            (row,) = sums.pop(who(number, 2))
            check_sums(row, known, own, now)
    assert not gaps
    assert not sums


def steps(sets: BackupSets, **options: Any) -> list[tuple[Any, ...]]:
    """Return start, end, checkpoint, set, exposure at both ends."""
    (rows,) = rows_of(ob.exposure(sets, **options), STEP).values()
    return [tuple(row[column] for column in STEP[:-1]) for row in rows]


def bounds(sets: BackupSets, rpo: str, **options: Any) -> list[tuple[Any, Any]]:
    gaps = ob.coverage_gaps(sets, rpo, **options)
    return [(hours(a), hours(b)) for a, b in zip(gaps["gap_start"], gaps["gap_end"], strict=True)]


def full(name: str, start: int, **changes: Any) -> Set:
    """Return a full set that is done two hours later, and can be restored from the first on."""
    return Set(name, start=start, **{"checkpoint": start + 1, "end": start + 2, **changes})


VENDOR = [full("a", 299), full("b", 899)]


def test_the_vendors_worked_example() -> None:
    """Two rounds of archiving and sets at 300 and 900 make [300, 500] and [900, 1500]."""
    sets = facts([VENDOR], [[(100, 500), (800, 1500)]], as_of=at(1600))
    assert steps(sets) == [
        (299, 300, None, None, 0, 1),
        (300, 500, 500, "0-a", 0, 0),
        (500, 900, 500, "0-a", 0, 400),
        (900, 1500, 1500, "0-b", 0, 0),
        (1500, 1600, 1500, "0-b", 0, 100),
    ]
    assert bounds(sets, "24h") == [(524, 900), (1524, 1600)]
    first, second = ob.coverage_gaps(sets, "24h").to_dict("records")
    assert (first["cause"], first["causes"], first["position"]) == (
        *("log_break", "log_break"),
        "interior",
    )
    assert (second["cause"], second["position"]) == ("log_break", "tail")
    assert hours(first["worst_exposure"]) == 400
    assert hours(first["excess"]) == 376
    assert hours(first["last_checkpoint"]) == 500
    assert hours(first["next_checkpoint"]) == 900
    assert (first["last_backup_set_id"], first["next_backup_set_id"]) == ("0-a", "0-b")
    assert pd.isna(second["next_checkpoint"])
    table = ob.rpo_compliance(sets, "24h").iloc[0]
    assert hours(table["gap_total"]) == 376 + 76
    assert hours(table["exposure_now"]) == 100
    assert hours(table["last_checkpoint"]) == 1500
    # 800 of 1301 hours at zero, three slopes up to 1, 100 and 400.
    assert hours(table["exposure_mean"]) == pytest.approx((0.5 + 5000 + 80000) / 1301)
    assert hours(table["exposure_p95"]) == pytest.approx(400 - 0.05 * 1301)


def test_now_inside_an_interval_there_is_nothing_to_lose() -> None:
    sets = facts([VENDOR], [[(100, 500), (800, 5000)]], as_of=at(1600))
    table = ob.rpo_compliance(sets, "24h").iloc[0]
    assert hours(table["exposure_now"]) == 0
    assert hours(table["last_checkpoint"]) == 1600
    assert table["rpo_ratio"] == 0
    # The end of the interval that was still to come does not exist yet.
    assert steps(sets)[-1] == (900, 1600, 1600, "0-b", 0, 0)


def test_a_break_shorter_than_the_rpo_is_no_gap() -> None:
    sets = facts([daily(range(4))], [[(0, 40), (49, 96)]], as_of=at(96))
    assert bounds(sets, "8h") == [(48, 49)]
    assert bounds(sets, "9h") == []
    assert ob.rpo_compliance(sets, "9h")["time_in_rpo"].tolist() == [1.0]
    assert hours(ob.rpo_compliance(sets, "9h")["worst_exposure"].iloc[0]) == 9


def test_logs_before_the_first_set_restore_nothing() -> None:
    sets = facts([[full("a", 39)]], [[(0, 100)]], as_of=at(100))
    assert steps(sets, start=at(0)) == [
        (0, 40, None, None, None, None),
        (40, 100, 100, "0-a", 0, 0),
    ]
    (gap,) = ob.coverage_gaps(sets, "9h", start=at(0)).to_dict("records")
    assert (hours(gap["gap_start"]), hours(gap["gap_end"])) == (0, 40)
    # Before the first row nothing is known; in the hour of the run it is unbounded for certain.
    assert (hours(gap["unknown"]), gap["certainty"], gap["unbounded"]) == (39, "partly", True)
    assert "log_break" not in gap["causes"], "there was no log that broke"
    assert pd.isna(gap["last_checkpoint"])


@pytest.mark.parametrize(
    "history",
    [
        [],
        [full("a", 39, state="failed", checkpoint=None)],
        [full("a", 39, validity="INVALID")],
        [full("a", 39, full=False)],
        [full("a", 39, gone=60)],
        [full("a", 101)],
    ],
    ids=["none", "failed", "not valid", "no base", "gone", "after it"],
)
def test_an_interval_without_a_set_to_begin_from_does_not_count(history: list[Set]) -> None:
    known = [full("z", -9, state="failed"), *history]
    sets = facts([known], [[(0, 100)]], as_of=at(120))
    assert steps(sets, start=at(0), end=at(99)) == [(0, 99, None, None, None, None)]


@pytest.mark.parametrize(("late", "counts"), [(1, True), (1.000001, False), (0, True), (-9, True)])
def test_a_second_is_let_pass_between_a_checkpoint_and_the_interval(
    late: float,
    counts: bool,  # noqa: FBT001
) -> None:
    """A checkpoint is told in whole seconds, and so is the start of what is restorable."""
    table = restorable([(40, 100)])
    table["start"] = at(40) + pd.Timedelta(late, "s")
    sets = BackupSets(empty("clusters"), frame([full("a", 39)]), restorable=table)
    found = ob.exposure(sets, start=at(0), end=at(100), as_of=at(120))
    assert found["unbounded"].tolist() == ([True, False] if counts else [True])
    if counts:
        assert found["start"].iloc[1] == at(40) + max(pd.Timedelta(late, "s"), pd.Timedelta(0))


def test_an_incremental_is_as_good_a_base_as_a_full() -> None:
    history = [full("a", 0), full("i", 30, full=False), full("b", 60)]
    sets = facts([history], [[(10, 80)]], as_of=at(90))
    assert steps(sets)[1:3] == [(31, 80, 80, "0-i", 0, 0), (80, 90, 80, "0-b", 0, 10)]


def test_intervals_of_all_storage_classes_are_one() -> None:
    history = [full("a", 0), full("b", 30)]
    lists = [(1, 20), (20, 40), (35, 50), (52, 60), (9, 8), (None, None)]
    sets = facts([history], [lists], as_of=at(70))  # type: ignore[list-item]
    assert len(set(sets.restorable["storage_class"])) == 2  # type: ignore[index]
    # The last one holds no set.
    assert [step[:3] for step in steps(sets)] == [(0, 1, None), (1, 50, 50), (50, 70, 50)]


def test_an_instant_is_an_interval_too() -> None:
    sets = facts([[full("a", 0), full("b", 30)]], [[(1, 1), (31, 31)]], as_of=at(40))
    assert [step[:3] for step in steps(sets)] == [(0, 1, None), (1, 31, 1), (31, 40, 31)]
    assert bounds(sets, "20h") == [(21, 31)]


def test_a_listed_tenant_without_an_interval_cannot_be_restored() -> None:
    history = daily(range(4))
    listed, unlisted = facts([history], [[]], as_of=at(96)), facts([history], [None], as_of=at(96))
    assert bounds(unlisted, "26h") == []
    assert bounds(listed, "26h") == [(26, 96)]
    (gap,) = ob.coverage_gaps(listed, "26h", start=at(0)).to_dict("records")
    assert (hours(gap["gap"]), gap["unbounded"]) == (96, True)
    assert "log_break" not in gap["causes"]


def test_the_model_is_told_and_a_tenant_that_is_not_named_keeps_the_point_model() -> None:
    tenants, named = [daily(range(5)), daily(range(5))], [(1, 60), (97, 120)]
    functions = (
        ob.exposure,
        lambda sets, **o: ob.coverage_gaps(sets, "4h", **o),
        lambda sets, **o: ob.rpo_compliance(sets, "4h", **o),
        lambda sets, **o: ob.coverage_calendar(sets, "4h", **o),
    )
    for function in functions:
        point = function(frame(*tenants), as_of=at(120))
        mixed = function(facts(tenants, [named, None]), as_of=at(120))
        logs = function(facts(tenants, [named, named]), as_of=at(120))
        none = function(facts(tenants, [None, None]), as_of=at(120))
        models = [table.attrs["model"] for table in (point, mixed, logs, none)]
        assert models == ["point", "mixed", "log", "point"]
        for table, tenant, other in [
            (mixed, "t1", point),
            (mixed, "t0", logs),
            (none, "t0", point),
        ]:
            pd.testing.assert_frame_equal(
                table[table["tenant_id"] == tenant].reset_index(drop=True),
                other[other["tenant_id"] == tenant].reset_index(drop=True),
                check_categorical=False,
            )


def test_a_namesake_of_another_instance_is_another_tenant() -> None:
    sets = facts([daily(range(3)), daily(range(3))], [None, [(1, 72)]], instances=2)
    table = ob.exposure(sets, as_of=at(72))
    assert table.attrs["model"] == "mixed"
    assert table["instance_id"].tolist() == ["ob1"] * 4 + ["ob2"] * 2


def test_unknown_sets_that_are_trusted_are_bases() -> None:
    history = [full("a", 0), full("u", 50, validity=None), full("b", 90)]
    sets = facts([history], [[(1, 20), (45, 100)]], as_of=at(100))
    assert bounds(sets, "10h") == [(30, 91)]
    assert bounds(sets, "10h", trust_unknown=True) == [(30, 51)]
    (gap,) = ob.coverage_gaps(sets, "10h").to_dict("records")
    assert (hours(gap["unknown"]), gap["certainty"]) == (40, "partly")
    assert gap["causes"] == "log_break,unusable"
    assert (gap["attempts"], gap["failed"]) == (1, 0)


def with_logs(history: simulator.History) -> BackupSets:
    """Return the facts with the simulator's restorable intervals."""
    rows = [
        {
            "instance_id": instance.instance_id,
            "tenant_id": tenant["tenantId"],
            "start": pd.to_datetime(each.get("startTime"), utc=True),
            "end": pd.to_datetime(each.get("endTime"), utc=True),
            "storage_class": each.get("storageType"),
        }
        for instance in history.instances
        for tenant in history.restorable(instance.instance_id)
        for each in tenant["timeIntervalList"] or [{}]
    ]
    return replace(sets_of(history), restorable=conform(pd.DataFrame(rows), "restorable"))


NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_break_of_the_log_is_found_with_its_bounds(seed: int) -> None:
    plants = (Plant("log_break", 0, 1, 20.3, 2.5), Plant("log_break", 1, None, 40.1, 1.2))
    history = simulator.simulate(
        Scenario(NOW, seed=seed, days=70, instances=2, tenants=3, plants=plants)
    )
    sets = with_logs(history)
    gaps = ob.coverage_gaps(sets, "2h")
    assert gaps.attrs["model"] == "log"
    assert set(gaps["cause"]) == {"log_break"}
    expected = []
    for fact in history.truth:
        tenants = sets.tenants[sets.tenants["instance_id"] == fact.instance_id]
        for tenant, own in tenants.groupby("tenant_id", observed=True):
            if fact.tenant_id in {None, tenant}:
                # After a break only the next full set can be restored to.
                fulls = own[own["full"].fillna(value=False) & (own["checkpoint"] > fact.end)]
                begin = pd.Timestamp(fact.start).floor("s") + pd.Timedelta("2h")
                expected.append((fact.instance_id, tenant, begin, fulls["checkpoint"].min()))
    found = gaps[["instance_id", "tenant_id", "gap_start", "gap_end"]]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(expected)
    # The point model does not see them: the sets are all there.
    assert ob.coverage_gaps(replace(sets, restorable=None), "27h").empty


def test_a_clean_history_has_no_gap() -> None:
    history = simulator.simulate(Scenario(NOW, seed=3, days=60, instances=2, tenants=3))
    sets = with_logs(history)
    assert ob.coverage_gaps(sets, "2h").empty
    table = ob.rpo_compliance(sets, "2h")
    assert set(table["time_in_rpo"]) == {1.0}
    assert set(table["exposure_now"]) == {pd.Timedelta("2min")}


@settings(max_examples=examples(120))
@given(histories(), intervals(), st.integers(0, 9))
def test_more_of_the_log_never_covers_less(
    sets: list[Set], listed: list[Interval] | None, rpo: int
) -> None:
    options: dict[str, Any] = {"start": at(0), "end": at(60), "as_of": at(1000)}
    fewer, more = ([*(listed or [])], [*(listed or []), (10, 30)])
    gaps = [
        ob.coverage_gaps(facts([sets], [some]), f"{rpo}h", **options)["gap"].sum()
        for some in (fewer, more)
    ]
    assert gaps[1] <= gaps[0]
