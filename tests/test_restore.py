"""Which sets would bring a tenant back: against the slow oracle, and worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import oracle
import pandas as pd
import pytest
from effort import examples
from histories import at, crowds, facts, frame, intervals, plain, who
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Ask, Set

import obanalytics as ob
from obanalytics.frames import conform

if TYPE_CHECKING:
    from histories import Interval

PLAIN = [
    *("chosen", "backup_set_id", "restored_to", "loss", "size_gib", "restore_low"),
    *("restore_high", "reason", "estimate_reason", "certainty"),
]


def told(sets: Any, *args: Any, **options: Any) -> list[dict[str, Any]]:
    """Return the options as plain values."""
    table = ob.restore_options(sets, *args, **options)
    values = zip(*(plain(table[column]) for column in PLAIN), strict=True)
    chains = [None if chain is None else list(chain) for chain in table["backup_set_ids"]]
    return [
        {**dict(zip(PLAIN, row, strict=True)), "chain": chain}
        for row, chain in zip(values, chains, strict=True)
    ]


def check_options(found: list[dict[str, Any]], expected: list[dict[str, Any]], number: int) -> None:
    answer, *nearer = expected
    assert [row["chosen"] for row in found] == [answer["set"] is not None, *[False] * len(nearer)]
    assert [(row["backup_set_id"], row["reason"]) for row in found] == [
        (row["set"] and f"{number}-{row['set']}", row["reason"]) for row in expected
    ]
    own = found[0]
    if answer["set"] is None:
        assert own["chain"] is own["restored_to"] is own["loss"] is own["size_gib"] is None
        return
    assert (own["restored_to"], own["loss"]) == (answer["restored_to"], answer["loss"])
    assert own["chain"] == [f"{number}-{each}" for each in answer["chain"]]
    assert own["size_gib"] == pytest.approx(answer["size"])
    assert own["estimate_reason"] == answer["why"]
    assert own["restore_low"] == pytest.approx(answer["low"], abs=1e-6)
    assert own["restore_high"] == pytest.approx(answer["high"], abs=1e-6)
    for row in found[1:]:
        assert row["chain"] is row["restored_to"] is row["loss"] is row["size_gib"] is None


@settings(max_examples=examples(500), report_multiple_bugs=False)
@given(
    crowds(most=3),
    st.lists(intervals(), min_size=3, max_size=3),
    st.lists(st.integers(-2, 60), min_size=3, max_size=3),
    st.sampled_from([1000, 1000, 40, 25, 10]),
)
def test_options_agree_with_the_oracle(
    tenants: list[list[Set]],
    lists: list[list[Interval] | None],
    instants: list[int],
    now: int,
) -> None:
    sets = facts(tenants, lists, instances=2)
    for number, history in enumerate(tenants):
        if oracle.known_at(history, now):
            instance, tenant = who(number, 2)
            when = instants[number]
            found = told(sets, tenant, at(when), as_of=at(now), instance_id=instance)
            ask = Ask(now, now=now, intervals=lists[number])
            check_options(found, oracle.options_of(history, when, ask), number)


SIZED = st.tuples(st.sampled_from([0.02, 0.05, 0.1, 0.5, 1.0, 4.0]), st.integers(0, 9))


@settings(max_examples=examples(250), report_multiple_bugs=False)
@given(st.lists(st.tuples(st.booleans(), SIZED), min_size=1, max_size=30), st.integers(0, 600))
def test_sizes_and_times_agree_with_the_oracle(
    runs: list[tuple[bool, tuple[float, int]]], when: int
) -> None:
    """Of a tenant whose sets are all good; the first one is a full."""
    history = [
        Set(f"{turn:02}", full=is_full or turn == 0, start=20 * turn, size=size)
        for turn, (is_full, (size, _)) in enumerate(runs)
    ]
    for each, (_, (_, took)) in zip(history, runs, strict=True):
        each.checkpoint = each.end = (each.start or 0) + took
    found = told(frame(history), "t0", at(when), as_of=at(1000))
    check_options(found, oracle.options_of(history, when, Ask(1000)), 0)


def run(name: str, start: int, size: float | None = None, took: int = 2, **changes: Any) -> Set:
    end = start + took
    return Set(name, start=start, size=size, **{"checkpoint": end, "end": end, **changes})


WEEK = [
    run("f1", 0, 10.0, 4),
    run("i1", 24, 1.0, 1, full=False),
    run("i2", 48, 2.0, 1, full=False),
    run("f2", 72, 12.0, 6),
    run("i3", 96, 1.0, 2, full=False),
    run("f3", 120, 9.0, 3),
]


def test_the_chain_comes_in_the_order_of_the_restore() -> None:
    (answer,) = told(frame(WEEK), "t0", at(60), as_of=at(200))
    assert answer["chain"] == ["0-f1", "0-i1", "0-i2"]
    assert (answer["backup_set_id"], answer["chosen"], answer["reason"]) == ("0-i2", True, None)
    assert (answer["restored_to"], answer["loss"]) == (49, 11)
    assert answer["size_gib"] == pytest.approx(13.0)


def test_the_time_is_that_of_the_tenants_own_throughput() -> None:
    """By hand: full sets read 2.5, 2 and 3 GiB/h, incremental ones 1, 2 and 0.5 GiB/h."""
    (answer,) = told(frame(WEEK), "t0", at(60), as_of=at(200))
    # The 90th percentile of 2, 2.5, 3 is 2.9 and the 10th 2.1; of 0.5, 1, 2 they are 1.8 and 0.6.
    assert answer["restore_low"] == pytest.approx(10 / 2.9 + 3 / 1.8)
    assert answer["restore_high"] == pytest.approx(10 / 2.1 + 3 / 0.6)


def test_a_small_set_takes_what_small_ones_took() -> None:
    """A throughput of what is rounded to 0.01 GiB says nothing."""
    history = [run(f"f{n}", 24 * n, 0.05, took) for n, took in enumerate([1, 2, 3])]
    history += [run("big", 100, 50.0, 9)]
    (answer,) = told(frame(history), "t0", at(60), as_of=at(200))
    assert (answer["restore_low"], answer["restore_high"]) == (1.2, 2.8)
    (answer,) = told(frame(history), "t0", at(150), as_of=at(200))
    assert (answer["backup_set_id"], answer["estimate_reason"]) == ("0-big", "too_few_runs")
    assert (answer["size_gib"], answer["restore_low"]) == (50.0, None)


def test_without_a_size_there_is_no_time() -> None:
    history = [*WEEK[:2], run("i2", 48, None, full=False), *WEEK[3:]]
    (answer,) = told(frame(history), "t0", at(60), as_of=at(200))
    assert answer["estimate_reason"] == "size_unknown"
    assert answer["size_gib"] is answer["restore_low"] is answer["restore_high"] is None
    (answer,) = told(frame(history), "t0", at(30), as_of=at(200))
    assert (answer["estimate_reason"], answer["size_gib"]) == ("too_few_runs", 11.0)


@pytest.mark.parametrize(
    ("listed", "when", "reached"),
    [
        (None, 60, 49),
        ([], 60, 49),
        ([(40, 70)], 60, 60),
        ([(40, 55)], 60, 55),
        ([(49, 49)], 60, 49),
        ([(50, 70)], 60, 49),
        ([(0, 48), (50, 70)], 60, 49),
        ([(40, 52), (50, 58)], 60, 58),
        ([(40, 900)], 78, 78),
    ],
    ids=["not named", "listed", "both", "ends", "instant", "later", "break", "joined", "when"],
)
def test_logs_bring_it_nearer(listed: Any, when: int, reached: int) -> None:
    sets = facts([WEEK[:3]], [listed], as_of=at(200))
    (answer,) = told(sets, "t0", at(when))
    assert (answer["restored_to"], answer["loss"]) == (reached, when - reached)
    assert answer["chain"] == ["0-f1", "0-i1", "0-i2"]


def test_logs_that_are_still_to_come_bring_it_no_nearer() -> None:
    (answer,) = told(facts([WEEK[:3]], [[(40, 900)]]), "t0", at(100), as_of=at(80))
    assert (answer["restored_to"], answer["loss"]) == (80, 20)


def reasons(history: list[Set], when: float, **options: Any) -> list[tuple[Any, Any]]:
    found = told(frame(history), "t0", at(when), **{"as_of": at(200), **options})
    return [(row["backup_set_id"], row["reason"]) for row in found]


def test_what_is_nearer_is_told_with_its_reason_the_nearest_first() -> None:
    history = [
        run("f1", 0),
        run("old", 5, state="failed", checkpoint=None),
        run("f2", 10),
        run("i1", 20, full=False, validity="INVALID"),
        run("i2", 30, full=False),
        run("bad", 40, state="failed", checkpoint=None),
        run("gone", 50, gone=150),
        run("now", 60, state="running", end=None, checkpoint=None),
        run("later", 62, took=7),
        run("much later", 90),
    ]
    assert reasons(history, 66) == [
        ("0-f2", None),
        ("0-later", "after_when"),
        ("0-now", "not_done"),
        ("0-gone", "gone"),
        ("0-bad", "not_done"),
        ("0-i2", "chain_broken"),
        ("0-i1", "not_valid"),
    ]
    # Before it was gone it was the answer.
    assert reasons(history, 66, as_of=at(140))[0] == ("0-gone", None)
    # Then the later one had not ended: it was running.
    assert ("0-later", "not_done") in reasons(history, 66, as_of=at(68))


def test_of_two_sets_after_the_instant_the_nearer_one_comes_first() -> None:
    history = [run("far", 0, took=30), run("near", 1, took=4)]
    assert reasons(history, 2) == [
        (None, "no_restore_point"),
        ("0-near", "after_when"),
        ("0-far", "after_when"),
    ]


def test_a_set_without_a_start_is_told_too() -> None:
    """Its checkpoint says that it would have been nearer."""
    history = [run("f1", 0), replace(run("odd", 10), start=None)]
    assert reasons(history, 20) == [("0-f1", None), ("0-odd", "bad_times")]


def test_before_everything_there_is_no_restore_point() -> None:
    table = ob.restore_options(frame(WEEK), "t0", at(-5), as_of=at(200))
    assert reasons(WEEK, -5) == [(None, "no_restore_point")]
    assert table["chosen"].tolist() == [False]
    assert (table["instance_id"].tolist(), table["tenant_id"].tolist()) == (["ob1"], ["t0"])
    empty = table[["checkpoint", "restored_to", "loss", "size_gib", "restore_low", "full"]]
    assert empty.isna().all(axis=None)
    some = ob.restore_options(frame(WEEK), "t0", at(60), as_of=at(200))
    assert list(some.columns) == list(table.columns)
    assert [d.kind for d in some.dtypes] == [d.kind for d in table.dtypes]


def test_an_instant_just_before_a_checkpoint_takes_the_one_before() -> None:
    assert reasons(WEEK, 49)[0] == ("0-i2", None)
    assert reasons(WEEK, 48.999) == [("0-i1", None), ("0-i2", "after_when")]


def test_a_base_that_is_gone_takes_its_chain_along() -> None:
    history = [run("f1", 0, gone=90), run("i1", 24, full=False), run("f2", 100)]
    assert reasons(history, 60) == [
        (None, "no_restore_point"),
        ("0-i1", "gone"),
        ("0-f1", "gone"),
    ]


def test_copies_in_two_storage_classes_are_one_option() -> None:
    copies = [frame(WEEK), frame(WEEK, storage="archive")]
    rows = conform(pd.concat(copies, ignore_index=True), "tenants")
    found = told(rows, "t0", at(60), as_of=at(200))
    assert found == told(frame(WEEK), "t0", at(60), as_of=at(200))
    # One of them is gone, or is not valid: the other one is there.
    gone = rows.assign(gone_time=[at(100)] * len(WEEK) + [pd.NaT] * len(WEEK))
    gone["gone_time"] = gone["gone_time"].astype("datetime64[us, UTC]")
    assert told(conform(gone, "tenants"), "t0", at(60), as_of=at(200)) == found
    bad = frame([replace(each, validity="INVALID") for each in WEEK], storage="archive")
    rows = conform(pd.concat([bad, copies[0]], ignore_index=True), "tenants")
    assert told(rows, "t0", at(60), as_of=at(200)) == found


def test_sets_of_tables_bring_no_tenant_back() -> None:
    rows = frame([run("f1", 0), run("part", 10)])
    rows["backup_object_type"] = pd.Categorical(["TENANT", "table"])
    found = told(rows, "t0", at(60), as_of=at(200))
    assert [(row["backup_set_id"], row["reason"]) for row in found] == [
        ("0-f1", None),
        ("0-part", "partial_object"),
    ]


def test_a_tenant_that_is_not_there_or_not_the_only_one_is_refused() -> None:
    two = frame(WEEK, WEEK, instances=2)
    with pytest.raises(ValueError, match="t9"):
        ob.restore_options(two, "t9", at(60))
    with pytest.raises(ValueError, match=r"ob1.*ob2"):
        ob.restore_options(two, "t0", at(60))
    with pytest.raises(ValueError, match="ob3"):
        ob.restore_options(two, "t0", at(60), instance_id="ob3")
    with pytest.raises(ValueError, match="when"):
        ob.restore_options(two, "t0", "yesterday-ish", instance_id="ob2")
    table = ob.restore_options(two, "t0", at(60), instance_id="ob2")
    assert table["instance_id"].tolist() == ["ob2"]
    assert table["backup_set_id"].tolist() == ["1-i2"]


def test_certainty_of_the_answer() -> None:
    overlapping = [run("f1", 0, took=30), run("i1", 24, full=False, took=10)]
    for sets, certainty in [
        (facts([WEEK], [None]), "inferred"),
        (facts([WEEK], [[(40, 70)]]), "proved"),
        (facts([WEEK], [[(0, 10)]]), "inferred"),
        (facts([overlapping], [None]), "unknown"),
    ]:
        answer = told(sets, "t0", at(60), as_of=at(200))[0]
        assert answer["certainty"] == certainty
