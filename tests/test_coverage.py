"""Coverage against a slow oracle, worked examples, and the simulator's truth."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import Any

import oracle
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Set

import obanalytics as ob
from obanalytics import simulator, wire
from obanalytics.errors import DataError
from obanalytics.flatten import Flattener
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


def frame(*tenants: list[Set], storage: str = "standard") -> pd.DataFrame:
    """Return a tenants frame; an hour is the unit of time."""
    rows = [
        {
            "instance_id": "ob1",
            "cluster_backup_set_id": each.cluster,
            "backup_set_id": f"{number}-{each.id}",
            "tenant_id": f"t{number}",
            "tenant_name": "same",
            "full": each.full,
            "state": each.state,
            "validity": each.validity,
            "start_time": at(each.start),
            "end_time": at(each.end),
            "checkpoint": at(each.checkpoint),
            "storage_class": storage,
        }
        for number, sets in enumerate(tenants)
        for each in sets
    ]
    if not rows:
        return empty("tenants")
    made = pd.DataFrame(rows)
    made["state"] = pd.Categorical(made["state"], categories=list(STATES))
    return conform(made, "tenants")


TIME = st.integers(0, 48)
SETS = st.builds(
    Set,
    id=st.uuids().map(str),
    state=st.sampled_from([*["done"] * 8, "running", "failed", "cancelled", "expired", "unknown"]),
    full=st.sampled_from([True, True, False, False, False, None]),
    validity=st.sampled_from([*["VALID"] * 9, "INVALID", None]),
    start=st.one_of(TIME, TIME, TIME, st.none()),
    end=st.none(),
    checkpoint=st.none(),
)


@st.composite
def histories(draw: Any) -> list[Set]:
    """Draw the sets of one tenant, most of them as they should be."""
    sets = draw(st.lists(SETS, max_size=9))
    for each in sets:
        start = each.start if each.start is not None else draw(TIME)
        if each.state not in {"running", "failed"} or draw(st.booleans()):
            each.checkpoint = start + draw(st.integers(0, 4))
            each.end = each.checkpoint + draw(st.integers(0, 3))
        match draw(st.integers(0, 15)):
            case 0:
                each.end = None
            case 1:
                each.checkpoint = None
            case 2:
                each.checkpoint = start - 1
    return sets


@settings(max_examples=700)
@given(st.lists(histories(), min_size=1, max_size=3), st.booleans(), st.randoms())
def test_restore_points_agree_with_the_oracle(
    tenants: list[list[Set]],
    trust: bool,  # noqa: FBT001
    random: Any,
) -> None:
    rows = frame(*tenants)
    shuffled = rows.sample(frac=1, random_state=random.randrange(1000))
    found = ob.restore_points(shuffled, as_of=at(1000), trust_unknown=trust).set_index(
        "backup_set_id"
    )
    assert list(shuffled["backup_set_id"]) == list(found.index)
    for number, sets in enumerate(tenants):
        for each in oracle.restore(sets, trust=trust):
            row = found.loc[f"{number}-{each.id}"]
            chain = each.found["chain"]
            assert row["restorable"] == (chain is not None)
            assert (None if pd.isna(row["reason"]) else row["reason"]) == each.found["reason"]
            assert hours(row["usable_from"]) == each.found["usable_from"]
            if chain is not None:
                assert row["chain_depth"] == len(chain) - 1
                base = f"{number}-{chain[0].id}" if chain[0].full else None
                assert (None if pd.isna(row["chain_id"]) else row["chain_id"]) == base
                doubt = any(p.end > c.start for p, c in pairwise(chain))
                assert row["certainty"] == ("unknown" if doubt else "inferred")


@settings(max_examples=900)
@given(
    st.lists(histories(), min_size=1, max_size=2),
    st.one_of(st.none(), st.integers(-10, 60)),
    st.integers(0, 40),
    st.integers(0, 14),
    st.booleans(),
)
def test_gaps_and_compliance_agree_with_the_oracle(
    tenants: list[list[Set]],
    start: int | None,
    length: int,
    rpo: int,
    trust: bool,  # noqa: FBT001
) -> None:
    end = (start or 10) + length
    # What is known at a later instant: nothing is dropped or turned into running.
    options: dict[str, Any] = {"end": at(end), "as_of": at(1000), "trust_unknown": trust}
    options["start"] = None if start is None else at(start)
    rows = frame(*tenants)
    gaps = ob.coverage_gaps(rows, f"{rpo}h", **options)
    table = ob.rpo_compliance(rows, f"{rpo}h", **options).set_index("tenant_id")
    for number, sets in enumerate(tenants):
        if not sets:
            continue
        expected = oracle.gaps_of(sets, rpo, start, end, trust=trust)
        own = gaps[gaps["tenant_id"] == f"t{number}"].to_dict("records")
        assert [
            (
                hours(row["gap_start"]),
                hours(row["gap_end"]),
                hours(row["unknown"]),
                row["position"],
                row["causes"].split(","),
                row["cause"],
                hours(row["worst_exposure"]),
                row["unbounded"],
                None if pd.isna(row["next_checkpoint"]) else row["next_checkpoint"],
                row["attempts"],
                row["failed"],
                row["certainty"],
            )
            for row in own
        ] == [
            (
                each["gap_start"],
                each["gap_end"],
                each["unknown"],
                each["position"],
                each["causes"],
                each["causes"][0],
                each["worst"],
                each["worst"] is None,
                next((at(s.checkpoint) for s in sets if s.id == each["next"]), None),
                each["attempts"],
                each["failed"],
                each["certainty"],
            )
            for each in expected
        ]
        check_compliance(table.loc[f"t{number}"], sets, expected, start, end)


def check_compliance(
    row: Any, sets: list[Set], gaps: list[Any], start: int | None, end: int
) -> None:
    first = oracle.known_since(sets)
    begin = start if start is not None else min(end if first is None else first, end)
    window = max(0, end - begin)
    out = sum(gap["gap_end"] - gap["gap_start"] for gap in gaps)
    unknown = sum(gap["unknown"] for gap in gaps)
    assert row["gaps"] == len(gaps)
    assert (hours(row["gap_total"]), hours(row["unknown"])) == (out, unknown)
    if window > unknown:
        assert row["time_in_rpo"] == pytest.approx(1 - (out - unknown) / (window - unknown))
    else:
        assert pd.isna(row["time_in_rpo"])
    if window:
        assert row["time_in_rpo_worst"] == pytest.approx(1 - out / window)
    mean, p95, worst = oracle.mean_and_p95(sets, start, begin, end)
    assert row["unbounded"] == (mean is None and window > 0)
    assert hours(row["worst_exposure"]) == (worst if window else None)
    if mean is not None:
        assert hours(row["exposure_mean"]) == pytest.approx(mean)
        assert hours(row["exposure_p95"]) == pytest.approx(p95, abs=1.01)


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


@settings(max_examples=100)
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
