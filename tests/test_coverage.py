"""Coverage against a slow oracle, worked examples, and the simulator's truth."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise
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
    frame,
    histories,
    hours,
    plain,
    questions,
    rows_of,
    who,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Set

import obanalytics as ob
from obanalytics import simulator, wire
from obanalytics.errors import DataError
from obanalytics.flatten import Flattener
from obanalytics.frames import conform, empty
from obanalytics.schema import BackupSets

if TYPE_CHECKING:
    from oracle import Ask, Piece

RPO = st.integers(0, 14)


@settings(max_examples=examples(500), report_multiple_bugs=False)
@given(crowds(most=9), st.booleans(), st.randoms())
def test_restore_points_agree_with_the_oracle(
    tenants: list[list[Set]],
    trust: bool,  # noqa: FBT001
    random: Any,
) -> None:
    rows = frame(*tenants, instances=2)
    shuffled = rows.sample(frac=1, random_state=random.randrange(1000))
    table = ob.restore_points(shuffled, as_of=at(1000), trust_unknown=trust)
    assert list(shuffled["backup_set_id"]) == list(table["backup_set_id"])
    columns = ["restorable", "reason", "usable_from", "chain_depth", "chain_id", "certainty"]
    values = zip(*(plain(table[column]) for column in columns), strict=True)
    found = dict(zip(table["backup_set_id"], values, strict=True))
    for number, sets in enumerate(tenants):
        for each in oracle.restore(sets, trust=trust):
            is_there, reason, usable_from, depth, base, certainty = found[f"{number}-{each.id}"]
            chain = each.found["chain"]
            assert is_there == (chain is not None)
            assert (reason, usable_from) == (each.found["reason"], each.found["usable_from"])
            if chain is not None:
                assert depth == len(chain) - 1
                assert base == (f"{number}-{chain[0].id}" if chain[0].full else None)
                doubt = any(p.end > c.start for p, c in pairwise(chain))
                assert certainty == ("unknown" if doubt else "inferred")


@settings(max_examples=examples(300))
@given(crowds(), st.sampled_from([1000, 40, 25, 10]), st.booleans())
def test_restore_points_then_agree_with_the_oracle(
    tenants: list[list[Set]],
    now: int,
    trust: bool,  # noqa: FBT001
) -> None:
    """Of an instant before the facts, and of sets that are gone."""
    table = ob.restore_points(frame(*tenants), as_of=at(now), trust_unknown=trust)
    columns = ["restorable", "reason", "usable_from", "usable_until"]
    values = zip(*(plain(table[column]) for column in columns), strict=True)
    found = dict(zip(table["backup_set_id"], values, strict=True))
    expected = {}
    for number, sets in enumerate(tenants):
        for each in oracle.restore(oracle.known_at(sets, now), trust=trust):
            its = each.found
            told = (its["chain"] is not None, its["reason"], its["usable_from"])
            expected[f"{number}-{each.id}"] = (*told, its["usable_until"])
    assert found == expected


@settings(max_examples=examples(500), report_multiple_bugs=False)
@given(crowds(), questions())
def test_exposure_agrees_with_the_oracle(
    tenants: list[list[Set]], question: tuple[Ask, dict[str, Any]]
) -> None:
    ask, options = replace(question[0], trust=False), question[1]
    table = ob.exposure(frame(*tenants, instances=2), **options)
    assert table.attrs["model"] == "point"
    found = rows_of(table, STEP)
    for number, sets in enumerate(tenants):
        if known := oracle.known_at(sets, ask.now):
            check_steps(found.pop(who(number, 2), []), known, ask, number)
    assert not found


@settings(max_examples=examples(700), report_multiple_bugs=False)
@given(crowds(), questions(), st.lists(RPO, min_size=7, max_size=7))
def test_gaps_and_compliance_agree_with_the_oracle(
    tenants: list[list[Set]], question: tuple[Ask, dict[str, Any]], bounds: list[int]
) -> None:
    ask, options = question
    rows = frame(*tenants, instances=2)
    rpo = {who(number, 2): f"{bound}h" for number, bound in enumerate(bounds)}
    options |= {"grace": f"{ask.grace}h", "trust_unknown": ask.trust}
    gaps = rows_of(ob.coverage_gaps(rows, rpo, **options), GAP)
    table = ob.rpo_compliance(rows, rpo, total=True, **options)
    fleet = table["tenant_id"].isna()
    sums = rows_of(table[~fleet], SUMS)
    told: list[tuple[dict[str, Any], list[Piece]]] = []
    for number, sets in enumerate(tenants):
        known = oracle.known_at(sets, ask.now)
        if known:
            own = replace(ask, rpo=bounds[number])
            check_gaps(gaps.pop(who(number, 2), []), known, own, number)
            (row,) = sums.pop(who(number, 2))
            check_sums(row, known, own, ask.now)
            told.append((row, oracle.curve(known, own)))
    assert not gaps
    assert not sums
    if told:
        check_total(rows_of(table[fleet], SUMS), told)


def check_total(found: dict[Any, Any], told: list[tuple[dict[str, Any], list[Piece]]]) -> None:
    """Compare the row of all tenants with theirs: it is that of all their time together."""
    ((total,),) = found.values()
    for column in ("gaps", "gap_total", "unknown", "restore_points"):
        assert total[column] == pytest.approx(sum(row[column] for row, _ in told)), column
    pieces = [piece for _, window in told for piece in window]
    unknown, out = total["unknown"], total["gap_total"]
    known = len(pieces) - unknown
    share = 1 - (out - unknown) / known if known else None
    assert total["time_in_rpo"] == pytest.approx(share)
    assert total["time_in_rpo_worst"] == pytest.approx(1 - out / len(pieces) if pieces else None)
    peaks = [each.exposure(each.at + 1) for each in pieces]
    assert total["unbounded"] == (None in peaks)
    known_peaks = [peak for peak in peaks if peak is not None]
    worst = None if None in peaks else max(known_peaks, default=None)
    assert total["worst_exposure"] == worst
    assert total["exposure_mean"] == pytest.approx(oracle.mean_exposure(pieces))


def daily(days: range, **changes: Set | None) -> list[Set]:
    """Return a full a day that takes an hour; `d3=None` leaves day 3 out."""
    sets = [
        changes.get(
            f"d{day}", Set(f"d{day}", start=24 * day, checkpoint=24 * day + 1, end=24 * day + 1)
        )
        for day in days
    ]
    return [each for each in sets if each is not None]


def test_worst_exposure_between_two_good_sets_is_not_the_distance_of_their_ends() -> None:
    sets = [
        Set("a", start=0, checkpoint=0, end=10),
        Set("b", start=24, checkpoint=24, end=34),
    ]
    gaps = ob.coverage_gaps(frame(sets), "26h", end=at(40), as_of=at(40))
    # By finish to finish, 24 h, this is inside an RPO of 26 h; what would be lost at 33:59 is 34 h.
    assert hours(gaps["worst_exposure"].iloc[0]) == 34
    assert [hours(gaps[c].iloc[0]) for c in ("gap_start", "gap_end", "excess")] == [26, 34, 8]


def test_a_clean_history_has_no_gap() -> None:
    gaps = ob.coverage_gaps(frame(daily(range(30))), "26h", as_of=at(24 * 30))
    assert gaps.empty
    table = ob.rpo_compliance(frame(daily(range(30))), "26h", as_of=at(24 * 30))
    assert table["time_in_rpo"].tolist() == [1.0]


def test_an_explicit_start_before_the_first_row_is_unknown_not_covered() -> None:
    table = ob.rpo_compliance(
        frame(daily(range(10, 20))), "26h", start=at(0), end=at(480), as_of=at(480)
    )
    row = table.iloc[0]
    assert hours(row["unknown"]) == 240
    assert row["unbounded"]
    assert row["time_in_rpo"] == pytest.approx(1 - 1 / 240)
    assert row["time_in_rpo_worst"] == pytest.approx(1 - 241 / 480)


def test_rpo_by_tenant() -> None:
    rows = frame(daily(range(9)), daily(range(9)))
    gaps = ob.coverage_gaps(rows, {"t0": "12h", ("ob1", "t1"): "26h"}, as_of=at(24 * 9))
    assert set(gaps["tenant_id"]) == {"t0"}
    assert len(ob.coverage_gaps(rows, pd.Series({"t0": "12h", "t1": "12h"}), as_of=at(216))) == 18
    with pytest.raises(ValueError, match="no rpo for tenant 't1' of instance 'ob1'"):
        ob.coverage_gaps(rows, {"t0": "12h"})


def test_grace_moves_the_bound_and_not_the_excess() -> None:
    sets = daily(range(6), d3=None)
    gaps = ob.coverage_gaps(frame(sets), "24h", grace="2h", as_of=at(24 * 6))
    assert [hours(gaps[c].iloc[0]) for c in ("gap_start", "gap_end", "excess")] == [75, 97, 24]


def test_empty_results_have_columns_and_dtypes() -> None:
    full = frame(daily(range(6), d3=None))
    for function in (ob.coverage_gaps, ob.rpo_compliance):
        none, some = function(empty("tenants"), "26h"), function(full, "26h", as_of=at(144))
        assert none.empty
        assert not some.empty
        assert list(none.columns) == list(some.columns)
        kinds = [(d.kind, e.kind) for d, e in zip(none.dtypes, some.dtypes, strict=True)]
        assert all(one == other for one, other in kinds)
    none, some = ob.exposure(empty("tenants")), ob.exposure(full)
    assert [d.kind for d in none.dtypes] == [d.kind for d in some.dtypes]
    assert ob.rpo_compliance(empty("tenants"), "26h", total=True)["tenant_id"].isna().all()


def test_copies_in_two_storage_classes_are_one_set_sound_if_either_is() -> None:
    bad = frame([Set("x", validity=None, start=0, checkpoint=1, end=1)])
    good = frame([Set("x", start=0, checkpoint=1, end=2)], storage="archive")
    later = frame([Set("x", start=0, checkpoint=1, end=9)], storage="remote")
    rows = conform(pd.concat([bad, good, later], ignore_index=True), "tenants")
    points = ob.restore_points(rows, as_of=at(99))
    assert points["restorable"].all()
    assert points["usable_from"].map(hours).tolist() == [2, 2, 2]
    table = ob.rpo_compliance(rows, "26h", as_of=at(20))
    assert table["restore_points"].tolist() == [1]


def test_a_set_that_is_gone_ends_its_chain() -> None:
    sets = [
        Set("f1", start=0, checkpoint=1, end=1),
        Set("i1", full=False, start=24, checkpoint=25, end=25),
        Set("f2", start=48, checkpoint=49, end=49),
    ]
    rows = frame(sets).assign(
        gone_time=pd.Series([at(30), pd.NaT, at(60)]).astype("datetime64[us, UTC]")
    )
    points = ob.restore_points(rows, as_of=at(99)).set_index("backup_set_id")
    assert points["usable_until"].map(hours).tolist() == [30, 30, 60]
    steps = ob.exposure(rows, start=at(0), end=at(70), as_of=at(99))
    assert [
        (hours(a), hours(b), hours(c))
        for a, b, c in zip(steps["start"], steps["end"], steps["checkpoint"], strict=True)
    ] == [
        (0, 1, None),
        (1, 25, 1),
        (25, 30, 25),
        (30, 49, None),
        (49, 60, 49),
        (60, 70, None),
    ]


def test_sets_of_databases_bring_no_tenant_back_and_break_nothing() -> None:
    rows = frame(daily(range(3)))
    rows.loc[1, "full"] = False
    rows["backup_object_type"] = pd.Categorical(["TENANT", "TENANT", "TENANT"])
    part = rows.iloc[[1]].assign(backup_set_id="part", backup_object_type=pd.Categorical(["table"]))
    points = ob.restore_points(
        conform(pd.concat([rows, part], ignore_index=True), "tenants"), as_of=at(99)
    )
    assert points["restorable"].tolist() == [True, True, True, False]
    assert points["reason"].tolist()[-1] == "partial_object"


def test_server_rule_newest_full_and_the_unbroken_run_of_incrementals() -> None:
    sets = [
        Set("1", full=False, start=0, checkpoint=1, end=1),
        Set("2", start=10, checkpoint=11, end=11),
        Set("3", full=False, start=20, checkpoint=21, end=21),
        Set("4", full=False, state="failed", start=30, checkpoint=None, end=31),
        Set("5", full=False, start=40, checkpoint=41, end=41),
        Set("6", full=False, validity="INVALID", start=50, checkpoint=51, end=51),
        Set("7", full=False, start=60, checkpoint=61, end=61),
        Set("8", start=70, checkpoint=71, end=71),
    ]
    points = ob.restore_points(frame(sets), as_of=at(99))
    assert points["reason"].astype("object").where(points["reason"].notna(), None).tolist() == [
        "base_missing",
        None,
        None,
        "not_done",
        None,
        "not_valid",
        "chain_broken",
        None,
    ]
    assert points["chain_depth"].tolist()[4] == 2


def sets_of(history: simulator.History) -> BackupSets:
    flattener = Flattener()
    for instance in history.instances:
        for body in simulator.dump(history, instance.instance_id, 100):
            flattener.add(wire.decode_page(body).sets, instance.instance_id)
    clusters, tenants = flattener.frames()
    return BackupSets(clusters, tenants, as_of=pd.Timestamp(history.now))


NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
CAUSE_OF = {
    "silent": "silent",
    "missing": "missing_from_cluster_set",
    "failed": "failed",
    "invalid": "unusable",
}


def test_planted_gaps_are_found_with_cause_and_bounds() -> None:
    history = simulator.demo(NOW)
    gaps = ob.coverage_gaps(sets_of(history), "26h")
    for fact in history.truth:
        if fact.kind not in CAUSE_OF:
            continue
        of_tenant = gaps["instance_id"] == fact.instance_id
        if fact.tenant_id is not None:
            of_tenant &= gaps["tenant_id"] == fact.tenant_id
        near = gaps[of_tenant & (gaps["gap_start"] < fact.end) & (gaps["gap_end"] > fact.start)]
        assert not near.empty, fact
        assert set(near["cause"]) == {CAUSE_OF[fact.kind]}, fact
        assert (near["gap_start"] - fact.start <= pd.Timedelta("26h")).all()
        assert (near["gap_end"] - fact.end <= pd.Timedelta("50h")).all()


def test_a_clean_fleet_has_no_gap() -> None:
    history = simulator.simulate(simulator.Scenario(NOW, seed=3, days=120, instances=2, tenants=5))
    assert ob.coverage_gaps(sets_of(history), "27h").empty


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(DataError):
        ob.coverage_gaps(pd.DataFrame({"a": [1]}), "26h")


@settings(max_examples=examples(200))
@given(histories(), st.integers(0, 8), st.integers(1, 12))
def test_less_never_covers_more(sets: list[Set], which: int, rpo: int) -> None:
    """Without a set that no other needs there is no less of a gap; with a newer full no more.

    Of other sets that is not so: an incremental whose full is taken away may be left with an older
    chain that was whole earlier.
    """
    options: dict[str, Any] = {"start": at(0), "end": at(120), "as_of": at(1000)}

    def total(some: list[Set]) -> Any:
        return ob.coverage_gaps(frame(some), f"{rpo}h", **options)["gap"].sum()

    oracle.restore(sets)
    chains = [s.found["chain"] for s in sets if s.found["chain"] is not None]
    needed = {s.id for chain in chains for s in chain[:-1]}
    leaves = [chain[-1] for chain in chains if chain[-1].id not in needed]
    before = total(sets)
    if leaves and len(sets) > 1:
        gone = leaves[which % len(leaves)]
        assert total([s for s in sets if s is not gone]) >= before
    if sets:
        start = 50 + which * 5
        added = Set("new", start=start, checkpoint=start + 1, end=start + 2)
        assert total([*sets, added]) <= before


def clusters_of(*rows: tuple[str, float, str]) -> pd.DataFrame:
    """Return done cluster sets: id, start, storage class."""
    made = pd.DataFrame(
        {
            "instance_id": "ob1",
            "backup_set_id": set_id,
            "tenant_id": "sys",
            "state": "done",
            "start_time": at(start),
            "storage_class": storage,
        }
        for set_id, start, storage in rows
    )
    return conform(made, "clusters")


@pytest.mark.parametrize(
    ("clusters", "cause"),
    [
        ((("c1", 0, "standard"), ("c2", 95.9, "standard"), ("c2", 95.9, "ia")), "silent"),
        ((("c1", 0, "standard"), ("c2", 96.1, "standard")), "silent"),
        ((("c1", 0.1, "standard"), ("c2", 95.9, "standard")), "silent"),
        (
            (("c1", 0, "standard"), ("c9", 48, "standard"), ("c2", 95.9, "standard")),
            "missing_from_cluster_set",
        ),
    ],
    ids=["copies of the closing one", "closing one begins later", "last one begins later", "other"],
)
def test_missing_from_a_cluster_set_is_told_by_who_is_in_it(
    clusters: tuple[tuple[str, float, str], ...], cause: str
) -> None:
    sets = [
        Set("s1", start=0, checkpoint=1, end=1, cluster="c1"),
        Set("s2", start=96, checkpoint=97, end=97, cluster="c2"),
    ]
    facts = BackupSets(clusters_of(*clusters), frame(sets), as_of=at(98))
    assert ob.coverage_gaps(facts, "26h")["cause"].tolist() == [cause]
    # The window may end between the cluster set's start and the tenant set's.
    assert ob.coverage_gaps(facts, "26h", end=at(95.95))["cause"].tolist() == [cause]


def test_when_all_sets_are_gone_nothing_bounds_the_loss() -> None:
    rows = frame([Set("f", start=0, checkpoint=0, end=0)]).assign(
        gone_time=pd.Series([at(24)]).astype("datetime64[us, UTC]")
    )
    gaps = ob.coverage_gaps(rows, "26h", as_of=at(72))
    bounds = zip(gaps["gap_start"].map(hours), gaps["gap_end"].map(hours), strict=True)
    assert list(bounds) == [(24, 72)]
    assert gaps["unbounded"].all()
    table = ob.rpo_compliance(rows, "26h", as_of=at(72))
    assert pd.isna(table["exposure_now"].iloc[0])
    assert table["rpo_ratio"].tolist() == [float("inf")]


def test_a_copy_of_unknown_validity_counts_when_the_unknown_is_trusted() -> None:
    sound = frame([Set("s", start=0, checkpoint=1, end=9)])
    unknown = frame([Set("s", start=0, checkpoint=1, end=2, validity=None)], storage="ia")
    gone = pd.Series([at(12), pd.NaT]).astype("datetime64[us, UTC]")
    rows = conform(pd.concat([sound, unknown], ignore_index=True), "tenants").assign(gone_time=gone)
    trusted = ob.restore_points(rows, as_of=at(20), trust_unknown=True)
    assert trusted["usable_from"].map(hours).tolist() == [2, 2]
    assert trusted["usable_until"].isna().all()
    plain = ob.restore_points(rows, as_of=at(20))
    assert plain["usable_from"].map(hours).tolist() == [9, 9]
    assert plain["usable_until"].map(hours).tolist() == [12, 12]
    (gap,) = ob.coverage_gaps(rows, "30h", start=at(10), as_of=at(27)).to_dict("records")
    assert (hours(gap["gap_start"]), hours(gap["unknown"])) == (12, 15)
    assert gap["certainty"] == "unknown"


def test_a_run_seen_running_and_then_failed_has_failed() -> None:
    good = frame([Set("g", start=0, checkpoint=1, end=1)])
    failed = frame([Set("x", state="failed", start=24, checkpoint=None, end=25, validity=None)])
    running = frame([Set("x", state="running", start=24, checkpoint=None, end=None, validity=None)])
    running["storage_class"] = pd.Categorical([None])
    rows = conform(pd.concat([good, running, failed], ignore_index=True), "tenants")
    (gap,) = ob.coverage_gaps(rows, "26h", as_of=at(90)).to_dict("records")
    assert (gap["causes"], gap["attempts"], gap["failed"]) == ("failed", 1, 1)
    table = ob.rpo_compliance(rows, "26h", as_of=at(90))
    assert table["last_attempt_state"].tolist() == ["failed"]
    assert ob.duration_trends(rows, as_of=at(90))["running"].sum() == 0


def test_a_set_that_a_frame_holds_twice_is_one_set() -> None:
    once = frame(daily(range(8), d3=None))
    twice = pd.concat([once, once], ignore_index=True)
    options: dict[str, Any] = {"rpo": "26h", "as_of": at(24 * 9)}
    for run in (ob.rpo_compliance, ob.coverage_gaps):
        pd.testing.assert_frame_equal(run(twice, **options), run(once, **options))


@settings(max_examples=examples(200))
@given(crowds(), st.booleans(), st.integers(0, 9), st.booleans())
def test_copies_that_are_no_better_change_nothing(
    tenants: list[list[Set]],
    bad: bool,  # noqa: FBT001
    later: int,
    trust: bool,  # noqa: FBT001
) -> None:
    copies = []
    for sets in tenants:
        good = [s for s in oracle.restore(sets) if s.found["chain"] is not None]
        changes: dict[str, Any] = {"validity": "INVALID"} if bad else {}
        copies.append([replace(s, end=(s.end or 0) + later, **changes) for s in good])
    once, more = frame(*tenants), frame(*copies, storage="archive")
    both = conform(pd.concat([more, once], ignore_index=True), "tenants")
    options: dict[str, Any] = {"as_of": at(1000), "trust_unknown": trust}
    points = ob.restore_points(both, **options).iloc[len(more) :].reset_index(drop=True)
    columns = ["backup_set_id", "restorable", "usable_from", "reason", "chain_id", "chain_depth"]
    pd.testing.assert_frame_equal(
        points[columns], ob.restore_points(once, **options)[columns], check_categorical=False
    )
    options |= {"start": at(0), "end": at(60)}
    for function in (ob.coverage_gaps, ob.rpo_compliance):
        pd.testing.assert_frame_equal(
            function(both, "5h", **options), function(once, "5h", **options)
        )


def test_sets_of_tables_say_nothing_of_a_tenants_growth_and_durations() -> None:
    once = frame(daily(range(20))).assign(size_gib=[float(n) for n in range(20)])
    table = once.assign(
        size_gib=0.2,
        backup_set_id=once["backup_set_id"] + "t",
        backup_object_type=pd.Categorical(["TABLE"] * len(once)),
    )
    both = conform(pd.concat([once, table], ignore_index=True), "tenants")
    for run in (ob.size_growth, ob.duration_trends):
        pd.testing.assert_frame_equal(run(both, as_of=at(999)), run(once, as_of=at(999)))
