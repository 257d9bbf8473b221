"""What a review holds is what the functions say; its summary once more by plain loops; its JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from oracle import Set
from test_coverage import NOW, at, daily, frame, sets_of

import obanalytics as ob
from obanalytics import simulator
from obanalytics.frames import conform, empty
from obanalytics.schema import BackupSets, Source

HOUR = pd.Timedelta("1h")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")


def fleet() -> BackupSets:
    """Return a year of three clusters with one of most things that go wrong, and a failed one."""
    sets = sets_of(simulator.demo(NOW))
    source = Source(
        instances=tuple(sets.tenants["instance_id"].unique()),
        endpoint="http://127.0.0.1:8080/api",
        failed={"obdown": "ApiError: 503"},
    )
    return replace(sets, source=source)


@pytest.fixture(scope="module")
def sets() -> BackupSets:
    return fleet()


@pytest.fixture(scope="module")
def found(sets: BackupSets) -> ob.Review:
    return ob.review(sets, rpo="26h")


def test_the_tables_are_those_of_the_functions(sets: BackupSets, found: ob.Review) -> None:
    coverage = found.tables["coverage"].drop(columns="rpo_state")
    pd.testing.assert_frame_equal(coverage, ob.rpo_compliance(sets, "26h", total=True))
    pd.testing.assert_frame_equal(found.tables["gaps"], ob.coverage_gaps(sets, "26h"))
    pd.testing.assert_frame_equal(found.tables["growth"], ob.size_growth(sets))
    pd.testing.assert_frame_equal(found.tables["durations"], ob.duration_trends(sets))
    stored = ob.stored_size(sets, freq="W", by="cluster")
    pd.testing.assert_frame_equal(found.tables["stored"], stored)
    ahead = ob.forecast_size(sets, "90D", candidates="core")
    ahead = ahead[ahead["what"] != "stored"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.tables["forecast"], ahead)
    pd.testing.assert_frame_equal(found.tables["changes"], ob.duration_changes(sets))
    pd.testing.assert_frame_equal(found.tables["anomalies"], ob.anomalies(sets))
    pd.testing.assert_frame_equal(found.tables["parity"], ob.tenant_parity(sets))
    pd.testing.assert_frame_equal(found.tables["schedule"], ob.schedule(sets))
    findings = ob.findings(sets, ob.Policy(rpo="26h"))
    pd.testing.assert_frame_equal(found.findings, findings)
    reasons = dict(found.tables["not_judged"][["kind", "reason"]].itertuples(index=False))
    assert reasons == findings.attrs["not_judged"]
    assert list(found.tables) == [
        *("coverage", "gaps", "growth", "stored", "forecast", "durations", "changes"),
        *("anomalies", "parity", "schedule", "not_judged"),
    ]


def test_the_tables_follow_as_of_and_window(sets: BackupSets) -> None:
    month = sets.between("2026-07-20", "2026-08-20")
    for part, as_of in ((month, None), (month, "2026-08-01"), (sets.tenants, "2026-08-01T12:00")):
        found = ob.review(part, rpo="30h", as_of=as_of)
        coverage = found.tables["coverage"].drop(columns="rpo_state")
        again = ob.rpo_compliance(part, "30h", as_of=as_of, total=True)
        pd.testing.assert_frame_equal(coverage, again)
        gaps = ob.coverage_gaps(part, "30h", as_of=as_of)
        pd.testing.assert_frame_equal(found.tables["gaps"], gaps)
        pd.testing.assert_frame_equal(found.tables["growth"], ob.size_growth(part, as_of=as_of))
        durations = ob.duration_trends(part, as_of=as_of)
        pd.testing.assert_frame_equal(found.tables["durations"], durations)
        assert found.summary == plain_summary(part, "30h", as_of) | {
            name: found.summary[name] for name in ("worst_tenant", "failed_instances", "instances")
        } | {"model": "point", "without_logs": None}


class Never:
    """No instant: NaT is not equal to itself."""

    def __eq__(self, other: object) -> bool:
        return pd.isna(other)  # type: ignore[call-overload, no-any-return]

    __hash__ = None  # type: ignore[assignment]


# --- the summary by plain loops ------------------------------------------------------------------


def plain_summary(sets: Any, rpo: str, as_of: Any = None) -> dict[str, Any]:
    """Return the numbers of the summary from restore points and gaps, one row at a time."""
    points = ob.restore_points(sets, as_of=as_of).to_dict("records")
    gaps = ob.coverage_gaps(sets, rpo, as_of=as_of).to_dict("records")
    start, end, now = bounds(sets, as_of)
    limit, begun, newest, states = pd.Timedelta(rpo), {}, {}, {}
    listed, restorable, done, running = set(), set(), set(), set()
    for row in points:
        tenant = (row["instance_id"], row["tenant_id"])
        key = (*tenant, row["backup_set_id"])
        begun[tenant] = min(begun.get(tenant, row["start_time"]), row["start_time"])
        if row["in_window"]:
            listed.add(key)
        if row["state"] == "done":
            done.add(key)
        if row["state"] == "running":
            running.add(key)
        if row["restorable"] and row["in_window"] and (start is None or row["start_time"] >= start):
            restorable.add(key)
        if row["restorable"] and row["usable_from"] <= now:
            newest[tenant] = max(newest.get(tenant, row["checkpoint"]), row["checkpoint"])
    for tenant, first in begun.items():
        origin = newest.get(tenant, first if start is None else None)
        states[tenant] = "outside" if origin is None or now - origin > limit else "inside"
    lost = [gap["gap"] - gap["unknown"] for gap in gaps]
    unknown = sum((gap["unknown"] for gap in gaps), pd.Timedelta(0))
    watched = sum((end - (begun[each] if start is None else start) for each in begun), -unknown)
    return {
        "tenants": len(begun),
        "sets": len(listed),
        "restore_points": len(restorable),
        "time_in_rpo": pytest.approx(1 - sum(lost, pd.Timedelta(0)) / watched),
        "time_in_rpo_worst": pytest.approx(
            1 - sum((gap["gap"] for gap in gaps), pd.Timedelta(0)) / (watched + unknown)
        ),
        "tenants_inside": list(states.values()).count("inside"),
        "tenants_outside": list(states.values()).count("outside"),
        "tenants_unknown": 0,
        "gaps": len(gaps),
        "tenants_without_sets": None,
        "longest_gap": max(lost),
        "newest_restore_point": max(newest.values()),
        "running": len(running - done),
        **more_of_summary(sets, rpo, as_of, points),
    }


def more_of_summary(
    sets: Any, rpo: str, as_of: Any, points: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what of the summary is counted from findings, growth, changes, sizes."""
    found = ob.findings(sets, ob.Policy(rpo=rpo), as_of=as_of)
    by = [row["severity"] for row in found.to_dict("records")]
    growth = [row for row in ob.size_growth(sets, as_of=as_of).to_dict("records") if row["full"]]
    rates = {row["tenant_id"]: row["percent_per_30d"] for row in growth}
    rates = {who: rate for who, rate in rates.items() if not math.isnan(rate)}
    slower = [
        row["at"]
        for row in ob.duration_changes(sets, as_of=as_of).to_dict("records")
        if row["after"] > row["before"]
    ]
    tenants = sets if isinstance(sets, pd.DataFrame) else sets.tenants
    held = {
        (row["instance_id"], row["backup_set_id"], row["storage_class"]): row["size_gib"]
        for row in tenants.to_dict("records")
        if row["state"] == "done" and row["end_time"] <= bounds_now(sets, as_of)
    }
    assert len(points) <= len(tenants)
    return {
        "critical": by.count("critical"),
        "warnings": by.count("warning"),
        "notes_found": by.count("info"),
        "acknowledged": 0,
        "stored_gib": pytest.approx(sum(held.values())),
        "unsized": sum(map(math.isnan, held.values())),
        "tenants_measured": len(rates),
        "tenants_growing": sum(row["verdict"] == "growing" for row in growth),
        "fastest_growth": max(rates.values(), default=pytest.approx(math.nan, nan_ok=True)),
        "slower": len(slower),
        "newest_slower": max(slower, default=Never()),
        "anomalies": len(ob.anomalies(sets, as_of=as_of)),
        "not_judged": len(found.attrs["not_judged"]),
        "excluded": 0,
    }


def bounds_now(sets: Any, as_of: Any) -> pd.Timestamp:
    """Return the instant at which the facts are looked at."""
    given = sets.as_of if as_of is None and isinstance(sets, BackupSets) else as_of
    moment = pd.Timestamp(given)
    return moment if moment.tzinfo else moment.tz_localize("UTC")


def bounds(sets: Any, as_of: Any) -> tuple[Any, pd.Timestamp, pd.Timestamp]:
    """Return the window's start or None, its end, and the instant that is called now."""
    given = sets.as_of if as_of is None else pd.Timestamp(as_of, tz="UTC")
    if not isinstance(sets, BackupSets) or sets.window is None:
        return None, given, given
    return sets.window.start, sets.window.end, min(given, sets.window.end)


def test_the_summary_by_plain_loops(sets: BackupSets, found: ob.Review) -> None:
    expected = plain_summary(sets, "26h")
    assert {name: found.summary[name] for name in expected} == expected
    assert found.summary["instances"] == 3
    assert found.summary["failed_instances"] == ("obdown",)
    assert (expected["tenants"], expected["running"]) == (12, 4)
    assert expected["tenants_outside"] == 1
    # In the demonstration one tenant was dropped: it is the only one outside, and so the worst.
    dropped = next(fact for fact in simulator.demo(NOW).truth if fact.kind == "dropped")
    worst = found.summary["worst_tenant"]
    assert (worst["instance_id"], worst["tenant_id"]) == (dropped.instance_id, dropped.tenant_id)
    assert set(worst) == {"instance_id", "tenant_id", "tenant_name"}


def test_the_state_says_whether_what_would_be_lost_is_within_the_limit(found: ob.Review) -> None:
    for row in found.tables["coverage"].to_dict("records"):
        inside = not pd.isna(row["exposure_now"]) and row["exposure_now"] <= 26 * HOUR
        assert row["rpo_state"] == ("inside" if inside else "outside")
        assert row["rpo_ratio"] == pytest.approx(row["exposure_now"] / (26 * HOUR))


def test_the_worst_tenant_is_who_is_outside_and_else_who_was_longest() -> None:
    worse, bad, good = daily(range(9), d3=None, d4=None), daily(range(9), d3=None), daily(range(9))
    found = ob.review(frame(bad, worse, good), rpo="26h", as_of=at(24 * 8 + 2))
    assert found.summary["worst_tenant"]["tenant_id"] == "t1"
    assert (found.summary["tenants_inside"], found.summary["gaps"]) == (3, 2)
    # A gap from 74 h (26 h after the second day's point at 48 h + 1 h) to 121 h is one of 46 h.
    assert found.summary["longest_gap"] == (5 * 24 + 1 - (2 * 24 + 1 + 26)) * HOUR
    late = ob.review(frame(bad, worse, good[:7]), rpo="26h", as_of=at(24 * 8 + 2))
    assert late.summary["worst_tenant"]["tenant_id"] == "t2"
    assert (late.summary["tenants_inside"], late.summary["tenants_outside"]) == (2, 1)
    assert ob.review(frame(good), rpo="26h").summary["worst_tenant"] is None


def test_a_tenant_whose_sets_may_be_sound_is_neither_inside_nor_outside() -> None:
    """Nothing says whether the first tenant's sets are valid; the second's are known not to be."""
    unknown, spoilt = daily(range(9)), daily(range(9))
    for one, other in zip(unknown, spoilt, strict=True):
        one.validity, other.validity = None, "INVALID"
    found = ob.review(frame(unknown, spoilt, daily(range(9))), rpo="26h")
    states = found.tables["coverage"].set_index("tenant_id")["rpo_state"].iloc[:3]
    assert states.to_dict() == {"t0": "unknown", "t1": "outside", "t2": "inside"}
    summary = found.summary
    assert [summary[f"tenants_{name}"] for name in ("inside", "outside", "unknown")] == [1, 1, 1]
    # What is unknown does not count against it; after the first 26 hours nothing of it is known.
    assert found.tables["coverage"].set_index("tenant_id").loc["t0", "time_in_rpo"] == 1.0
    assert summary["worst_tenant"]["tenant_id"] == "t1"


def test_of_a_past_window_nobody_is_outside_for_what_came_after_it(sets: BackupSets) -> None:
    """Sets after the window are not in its facts, so that "now" is the end of the window."""
    end = pd.Timestamp("2026-06-01T12:00Z")
    past = ob.review(sets.between("2026-05-01", end), rpo="26h")
    then = ob.review(sets, rpo="26h", as_of=end)
    assert past.summary["tenants_outside"] == then.summary["tenants_outside"] == 0
    assert past.summary["newest_restore_point"] == then.summary["newest_restore_point"]
    columns = ["tenant_id", "exposure_now", "rpo_ratio", "last_checkpoint"]
    before, after = (
        each.tables["coverage"].dropna(subset="tenant_id").set_index("tenant_id")[columns[1:]]
        for each in (past, then)
    )
    pd.testing.assert_frame_equal(before, after.loc[before.index], check_index_type=False)
    # A window that ends later than the facts says nothing of the time after them.
    later = ob.review(sets.between("2026-05-01", "2027-01-01"), rpo="26h")
    assert later.summary["tenants_outside"] == 1


def test_nothing_is_lost_less_than_nothing(sets: BackupSets) -> None:
    """A tenant's set starts seconds after its cluster set, here just after the window's end."""
    first = sets.clusters["start_time"].min()
    found = ob.review(sets.between(None, first + pd.Timedelta("13s")), rpo="26h")
    assert (found.summary["tenants"], found.summary["tenants_inside"]) == (4, 4)
    lost = found.tables["coverage"]["exposure_now"].iloc[:4]
    assert sorted(lost // pd.Timedelta("1s")) == [0, 0, 1, 13]


def test_what_is_lost_may_be_just_the_limit() -> None:
    rows = frame(daily(range(1)))
    just, over = (ob.review(rows, rpo="26h", as_of=at(hour)) for hour in (27, 27.001))
    assert (just.summary["tenants_inside"], just.summary["gaps"]) == (1, 0)
    assert (over.summary["tenants_outside"], over.summary["gaps"]) == (1, 1)


def test_copies_of_a_set_count_once_in_every_number() -> None:
    rows = frame(daily(range(9)))
    copies = frame(daily(range(9)), storage="archive")
    both = pd.concat([rows, copies], ignore_index=True)
    one, two = ob.review(rows, rpo="26h"), ob.review(both, rpo="26h")
    assert (one.summary["unsized"], two.summary["unsized"]) == (9, 18)  # a copy takes room, too
    for found in (one, two):
        found.summary.pop("unsized")
    assert json.dumps(one.to_json()["summary"]) == json.dumps(two.to_json()["summary"])
    assert two.summary["sets"] == two.summary["restore_points"] == 9


# --- JSON ----------------------------------------------------------------------------------------


def as_json(value: Any, dtype: Any) -> Any:
    """Return what JSON should have for a cell of a column."""
    if pd.isna(value) or (isinstance(value, float) and math.isinf(value)):
        return None
    if dtype.kind == "m":
        return value / pd.Timedelta("1s")
    if dtype.kind == "M":
        return (
            value.strftime("%Y-%m-%dT%H:%M:%S")
            + (f".{value.microsecond:06}" * bool(value.microsecond))
            + "Z"
        )
    return {"b": bool, "i": int, "f": float}.get(dtype.kind, str)(value)


def test_json_has_every_cell_in_its_documented_type(found: ob.Review) -> None:
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data == found.to_json()
    for name, table in found.tables.items():
        rows = data["tables"][name]
        if name == "parity":
            table = table[table["presence"] != "present"]  # noqa: PLW2901
        assert len(rows) == len(table)
        for column in table.columns:
            dtype = table[column].dtype
            expected = [as_json(value, dtype) for value in table[column]]
            mine = [row[column] for row in rows]
            assert mine == expected, (name, column)
            assert [type(each) for each in mine] == [type(each) for each in expected], column


def test_json_has_the_summary_and_what_was_asked(sets: BackupSets, found: ob.Review) -> None:
    data = found.to_json()
    assert list(data) == [
        *("format", "summary", "rpo", "grace", "rpo_origin", "policy", "as_of", "window"),
        *("provenance", "findings", "tables"),
    ]
    summary = data["summary"]
    assert list(summary) == list(found.summary)
    assert summary["longest_gap"] == found.summary["longest_gap"].total_seconds()
    assert INSTANT.fullmatch(summary["newest_restore_point"])
    assert summary["failed_instances"] == ["obdown"]
    assert {
        type(summary[name]) for name in ("instances", "tenants", "sets", "gaps", "running")
    } == {int}
    assert (data["format"], data["rpo"], data["rpo_origin"]) == (2, 93_600.0, "given")
    assert data["as_of"] == "2026-11-01T06:00:00Z"
    assert data["window"] == {"start": None, "end": "2026-11-01T06:00:00Z"}
    assert data["provenance"]["endpoint"] == "127.0.0.1"
    assert data["provenance"]["failed"] == {"obdown": "ApiError: 503"}
    window = ob.review(sets.between("2026-05-01", "2026-06-01"), rpo="26h").to_json()["window"]
    assert window == {"start": "2026-05-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"}


def test_an_exposure_without_bound_is_null(sets: BackupSets) -> None:
    long_before = ob.review(sets.between("2024-01-01", "2024-02-01"), rpo="26h")
    assert long_before.to_json()["summary"]["tenants"] == 0
    found = ob.review(sets.between("2025-10-01"), rpo="26h")
    assert found.tables["coverage"]["unbounded"].all()
    rows = found.to_json()["tables"]["coverage"]
    assert {row["worst_exposure"] for row in rows} == {None}
    row = ob.review(replace(sets, tenants=sets.tenants.head(0)), rpo="26h").to_json()["summary"]
    assert (row["tenants"], row["time_in_rpo"], row["longest_gap"]) == (0, None, None)


@pytest.mark.parametrize("kind", [dict, pd.Series])
def test_a_limit_by_tenant(kind: Any) -> None:
    rows = frame(daily(range(9)), daily(range(9)))
    limits = {"t0": "12h", ("ob1", "t1"): dt.timedelta(hours=26)}
    limits = kind({"t0": "12h", "t1": dt.timedelta(hours=26)}) if kind is pd.Series else limits
    found = ob.review(rows, rpo=limits)
    assert set(found.tables["gaps"]["tenant_id"]) == {"t0"}
    ratios = found.tables["coverage"].set_index("tenant_id")["rpo_ratio"]
    assert ratios.iloc[:2].tolist() == [0.0, 0.0]
    # Durations are seconds here as everywhere.
    assert list(found.to_json()["rpo"].values()) == [43_200.0, 93_600.0]
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(ValueError, match="no rpo for tenant 't1' of instance 'ob1'"):
        ob.review(rows, rpo={"t0": "12h"})
    with pytest.raises(ValueError, match="no rpo for tenant 't1'"):
        ob.review(rows, rpo={"t0": "12h", "t1": None})  # type: ignore[dict-item]


def test_a_limit_that_nobody_gave_is_said_to_be_assumed() -> None:
    rows = frame(daily(range(9)))
    found = ob.review(rows)
    assert (found.rpo, found.rpo_origin) == (pd.Timedelta("26h"), "default")
    assert (found.to_json()["rpo"], found.to_json()["rpo_origin"]) == (93_600.0, "default")
    assert "No RPO was given: 26 h is assumed" in found.to_text()
    given = ob.review(rows, rpo="26h")
    assert given.rpo_origin == "given"
    assert "No RPO was given" not in given.to_text()
    assert given.summary == found.summary
    with pytest.raises(TypeError, match="rpo must be a duration"):
        ob.review(rows, rpo=26)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="policy is a Policy"):
        ob.review(rows, policy={"rpo": "26h"})  # type: ignore[arg-type]


# --- little or nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(empty("tenants"), id="a frame"),
        pytest.param(BackupSets(empty("clusters"), empty("tenants")), id="sets"),
        pytest.param(
            BackupSets(
                empty("clusters"),
                empty("tenants"),
                as_of=at(0),
                source=Source(failed={"ob9": "AuthenticationError: refused"}),
            ),
            id="only failed instances",
        ),
    ],
)
def test_a_review_of_nothing(nothing: Any) -> None:
    found = ob.review(nothing, rpo="26h")
    summary = found.summary
    counts = ("instances", "tenants", "sets", "restore_points", "gaps", "running")
    assert [summary[name] for name in counts] == [0] * 6
    assert [summary[f"tenants_{name}"] for name in ("inside", "outside", "unknown")] == [0] * 3
    assert math.isnan(summary["time_in_rpo"])
    assert pd.isna(summary["longest_gap"])
    assert pd.isna(summary["newest_restore_point"])
    assert summary["worst_tenant"] is None
    failed = () if isinstance(nothing, pd.DataFrame) else tuple(nothing.source.failed)
    assert summary["failed_instances"] == failed
    data = found.to_json()
    json.dumps(data, allow_nan=False)
    assert data["summary"]["time_in_rpo"] is None
    full = ob.review(frame(daily(range(9), d3=None)), rpo="26h")
    for name, table in found.tables.items():
        assert list(table.columns) == list(full.tables[name].columns)
    # The fleet's row is there, and nobody else's.
    assert [name for name, table in found.tables.items() if len(table)] == [
        "coverage",
        "not_judged",
    ]
    assert len(found.tables["coverage"]) == 1
    assert isinstance(found.to_text(), str)


def test_a_review_of_one_set() -> None:
    found = ob.review(frame(daily(range(1))), rpo="26h", as_of=at(31))
    # It started at 0:00 and ended at 1:00, its checkpoint: of 31 hours the last 4 are too long.
    assert found.summary == {
        "instances": 1,
        "tenants": 1,
        "sets": 1,
        "restore_points": 1,
        "time_in_rpo": pytest.approx(1 - 4 / 31),
        "time_in_rpo_worst": pytest.approx(1 - 4 / 31),
        "tenants_inside": 0,
        "tenants_outside": 1,
        "tenants_unknown": 0,
        "gaps": 1,
        "longest_gap": 4 * HOUR,
        "worst_tenant": {"instance_id": "ob1", "tenant_id": "t0", "tenant_name": "same"},
        "newest_restore_point": at(1),
        "running": 0,
        "tenants_without_sets": None,
        "failed_instances": (),
        "critical": sum(found.findings["severity"] == "critical"),
        "warnings": sum(found.findings["severity"] == "warning"),
        "notes_found": 0,
        "acknowledged": 0,
        "stored_gib": pytest.approx(math.nan, nan_ok=True),
        "unsized": 1,
        "tenants_measured": 0,
        "tenants_growing": 0,
        "fastest_growth": pytest.approx(math.nan, nan_ok=True),
        "slower": 0,
        "newest_slower": Never(),
        "anomalies": 0,
        "not_judged": len(found.findings.attrs["not_judged"]),
        "excluded": 0,
        "model": "point",
        "without_logs": None,
    }
    assert found.tables["coverage"]["exposure_now"].iloc[0] == 30 * HOUR
    assert found.points["checkpoint"].tolist() == [at(1)]
    json.dumps(found.to_json(), allow_nan=False)


def test_a_review_of_one_run_of_which_no_time_is_known() -> None:
    lone = [Set("x", state="running", start=None, end=None, checkpoint=None)]
    found = ob.review(frame(lone), rpo="26h")
    assert (found.summary["tenants_outside"], found.summary["running"]) == (1, 1)
    assert found.to_json()["as_of"] is None
    json.dumps(found.to_json(), allow_nan=False)


def test_the_points_are_those_of_the_restore_points(sets: BackupSets, found: ob.Review) -> None:
    expected = ob.restore_points(sets).reset_index(drop=True)
    pd.testing.assert_frame_equal(found.points, expected[list(found.points.columns)])
    assert found.steps.empty


def intervals(*rows: tuple[str, float | None, float | None]) -> pd.DataFrame:
    """Return what the vendor says can be restored to; an hour is the unit of time."""
    names = {"tenant_id": [r[0] for r in rows], "instance_id": "ob1", "storage_class": "standard"}
    times = {"start": [at(r[1]) for r in rows], "end": [at(r[2]) for r in rows]}
    return conform(pd.DataFrame(names | times), "restorable")


def test_with_the_vendors_intervals_a_review_says_what_it_would_be_without() -> None:
    rows = frame(daily(range(9), d3=None, d4=None), daily(range(9)))
    vendor = intervals(("t0", 1, 100), ("t0", 145, 216), ("t1", 1, 216))
    found = ob.review(
        BackupSets(empty("clusters"), rows, restorable=vendor, as_of=at(216)), rpo="26h"
    )
    assert found.summary["model"] == "log"
    # Restorable to any instant but from 100:00 to 145:00: 26 hours later that is a gap.
    (gap,) = found.tables["gaps"].to_dict("records")
    assert (gap["cause"], gap["gap_start"], gap["gap_end"]) == ("log_break", at(126), at(145))
    # By sets alone from 49:00 + 26 hours to 121:00.
    alone = {"time_in_rpo": pytest.approx(1 - 46 / 432), "gaps": 1, "tenants_outside": 0}
    assert found.summary["without_logs"] == alone
    assert found.steps["end"].tolist() == [at(100), at(216), at(216)]
    text = found.to_text()
    assert "Log model" in text
    assert "89.35 % inside the RPO, 1 gap, 0 tenants outside" in " ".join(text.split())
    assert found.provenance["notes"] == ()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_tenant_that_the_vendor_does_not_list_is_judged_by_its_sets_and_named() -> None:
    rows = frame(daily(range(9)), daily(range(9)))
    for named, model in ((("t0", 1, 216), "mixed"), (("t9", 1, 216), "point")):
        sets = BackupSets(empty("clusters"), rows, restorable=intervals(named), as_of=at(216))
        found = ob.review(sets, rpo="26h")
        assert found.summary["model"] == model
    sets = BackupSets(empty("clusters"), rows, restorable=intervals(("t0", 1, 216)), as_of=at(216))
    (note,) = ob.review(sets, rpo="26h").provenance["notes"]
    assert note == (
        "the service lists no restorable intervals of same of ob1: "
        "judged by their backup sets alone"
    )
    # Listed without an interval: nothing can be restored, whatever the sets say.
    vendor = intervals(("t0", 1, 216), ("t1", None, None))
    found = ob.review(
        BackupSets(empty("clusters"), rows, restorable=vendor, as_of=at(216)), rpo="26h"
    )
    assert (found.summary["model"], found.summary["tenants_outside"]) == ("log", 1)


def test_who_is_outside_and_not_in_the_inventory_is_named_and_counted() -> None:
    sets = ob.sample()
    who = sets.tenants[["instance_id", "tenant_id", "tenant_name"]].drop_duplicates()
    dropped = (who["tenant_name"] == "identity") & (who["instance_id"] == "obnwqwwvume0")
    inventory = conform(who[~dropped].reset_index(drop=True), "inventory")
    found = ob.review(replace(sets, inventory=inventory), rpo="27h")
    (note,) = found.provenance["notes"]
    assert note == (
        "outside the RPO, but no longer in the inventory: identity of obnwqwwvume0; "
        "counted all the same"
    )
    assert found.summary["tenants_outside"] == 1
    assert not ob.review(sets, rpo="27h").provenance["notes"]


@pytest.mark.parametrize(
    ("created", "due"),
    [
        ("2026-10-31T04:00Z", False),
        ("2026-10-31T02:00Z", True),
        (None, True),
        ("2027-01-01", False),
    ],
)
@pytest.mark.parametrize("by_tenant", [False, True])
def test_a_tenant_without_sets_is_named_once_a_backup_is_due(
    created: str | None,
    due: bool,  # noqa: FBT001
    by_tenant: bool,  # noqa: FBT001
) -> None:
    sets = ob.sample()  # as of 2026-11-01 06:00
    row = {"instance_id": "ob7f8bc13geh", "tenant_id": "tnew", "tenant_name": "payroll"}
    made = pd.to_datetime([created], utc=True)
    inventory = conform(pd.DataFrame([row]).assign(created_time=made), "inventory")
    rpo: Any = dict.fromkeys(sets.tenants["tenant_id"].unique(), "27h") if by_tenant else "27h"
    found = ob.review(replace(sets, inventory=inventory), rpo=rpo)
    # Limits by tenant have none for a tenant without sets: it is due when it is there.
    expected = due or (by_tenant and created == "2026-10-31T04:00Z")
    assert found.summary["tenants_without_sets"] == int(expected)
    named = [note for note in found.provenance["notes"] if "payroll of ob7f8bc13geh" in note]
    assert len(named) == int(expected)
