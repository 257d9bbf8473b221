"""Two reviews compared: what was planted between them is told, and nothing else is."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_findings_truth import NOW, history_of, world
from test_report import HOSTILE, Page, renamed

import obanalytics as ob
from obanalytics.compare import FATES, comparison
from obanalytics.earlier import side_of
from obanalytics.errors import DataError
from obanalytics.kinds import KINDS, SEVERITIES
from obanalytics.policy import Exclude, Override, Policy
from obanalytics.schema import Window
from obanalytics.simulator import Plant
from obanalytics.verdicts import CHANGES, matched
from obanalytics.wording import cells

if TYPE_CHECKING:
    from pathlib import Path

    from obanalytics.compare import Comparison

WEEK = dt.timedelta(days=7)
HOUR = dt.timedelta(hours=1)


# --- a review made by hand ------------------------------------------------------------------------


def at(hours: float) -> str:
    """Return an instant so many hours before the later review."""
    return (NOW - hours * HOUR).isoformat().replace("+00:00", "Z")


def fault(kind: str = "G4", tenant: str | None = "t1", **changes: Any) -> dict[str, Any]:
    """Return a finding: over, of a day and a half before the later review unless told otherwise."""
    row = {
        "kind": kind,
        "severity": KINDS[kind].severity,
        "instance_id": "ob1",
        "instance_name": "prod",
        "tenant_id": tenant,
        "tenant_name": None if tenant is None else f"name of {tenant}",
        "start": at(300),
        "end": at(290),
        "sentence": f"{tenant}: something of {kind}",
        "measured": 30.0,
        "limit": 26.0,
        "limit_origin": "policy",
        "backup_set_ids": [],
        "certainty": "proved",
        "acknowledged": False,
        "title": KINDS[kind].title,
        "unit": KINDS[kind].unit,
    }
    return row | changes


def told(policy: Policy | None = None) -> dict[str, Any]:
    """Return a policy as a review's JSON has it."""
    rows = (policy or Policy()).describe()
    return {key: {"value": value, "origin": origin} for key, value, origin in rows}


def tenant(name: str = "t1", **changes: Any) -> dict[str, Any]:
    row = {
        "instance_id": "ob1",
        "tenant_id": name,
        "tenant_name": f"name of {name}",
        "time_in_rpo": 1.0,
        "gap_total": 0.0,
        "exposure_now": 3600.0,
        "rpo_ratio": 0.04,
        "rpo_state": "inside",
        "last_checkpoint": at(400),
    }
    return row | changes


def made(*findings: dict[str, Any], hours: float = 0, **changes: Any) -> dict[str, Any]:
    """Return the JSON of a review of so many hours ago."""
    review = {
        "format": 2,
        "summary": {"gaps": 0, "longest_gap": None, "failed_instances": [], "model": "point"},
        "policy": told(changes.pop("policy", None)),
        "as_of": at(hours),
        "window": {"start": changes.pop("begin", None), "end": at(hours)},
        "provenance": {
            "instances": changes.pop("instances", ["ob1"]),
            "failed": changes.pop("failed", {}),
            "versions": {"obanalytics": "1"},
        },
        "findings": [*findings],
        "tables": {
            "coverage": changes.pop("coverage", [tenant("t1"), tenant("t2")]),
            "not_judged": changes.pop("not_judged", []),
        },
    }
    return review | changes


@dataclasses.dataclass
class Stand:
    """What is a review to `comparison`: it has its JSON."""

    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return self.data


def versus(earlier: dict[str, Any], now: dict[str, Any]) -> Comparison:
    return comparison(Stand(now), earlier)


def before(*findings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return made(*findings, hours=168, **changes)


def only(found: Comparison) -> Any:
    assert len(found.findings) == 1
    return found.findings.iloc[0]


def verdict(found: Comparison) -> tuple[str, str]:
    row = only(found)
    return row["change"], row["why"]


# --- what was planted -----------------------------------------------------------------------------


def weeks(*plants: Plant, **changes: Any) -> Comparison:
    """Return the review of now against that of a week ago, of one history."""
    sets = world(history_of(*plants, **changes), inventory=True)
    policy = Policy()
    return comparison(
        ob.review(sets, policy=policy), ob.review(sets, policy=policy, as_of=NOW - WEEK)
    )


@pytest.fixture(scope="module")
def planted() -> tuple[Comparison, list[str]]:
    """Seven tenants over a week: stopped, recovered, new, dropped, one failed, two well."""
    plants = (
        Plant("missing", 0, 0, 5.0, 30.0),
        Plant("missing", 0, 1, 12.0, 9.0),
        Plant("created", 0, 2, 4.0),
        Plant("dropped", 0, 3, 3.0),
        Plant("failed", 0, 4, 2.0, 1.0),
    )
    ids = [each.tenant_id for each in history_of(tenants=7).instances[0].tenants]
    return weeks(*plants, tenants=7), ids


def test_the_planted_differences_are_told_and_nothing_else(
    planted: tuple[Comparison, list[str]],
) -> None:
    found, ids = planted
    stopped, recovered, new, dropped, failed, *well = ids
    rows = found.findings
    by = {}
    for each in ids:
        mine = rows[rows["tenant_id"] == each]
        by[each] = sorted(zip(mine["change"], mine["kind"], strict=True))
    runs = [("new", "G7"), ("new", "G7")]  # those of every day, and the full one of the week
    stale = [("new", kind) for kind in ("G21", "G24", "G3")]
    assert by[stopped] == sorted([*stale, *runs])
    ended = [("closed", kind) for kind in ("G21", "G24", "G4", "G7")]
    assert by[recovered] == [*ended, ("worse", "G7")]  # the next full run is not due yet
    assert by[new] == [("new", "G25")]
    assert by[dropped] == [("new", "G25")]
    assert by[failed] == [("new", kind) for kind in ("G24", "G4", "G5", "G7")]
    assert [by[each] for each in well] == [[], []]
    assert len(rows) == sum(map(len, by.values()))
    assert found.counts == {change: (rows["change"] == change).sum() for change in CHANGES}


def test_tenants_have_the_fate_that_was_planted(planted: tuple[Comparison, list[str]]) -> None:
    found, ids = planted
    fates = dict(zip(found.tenants["tenant_id"], found.tenants["change"], strict=True))
    told = ["worse", "better", "new", "gone", "worse", "same", "same"]
    assert [fates[each] for each in ids] == told
    rows = found.tenants.set_index("tenant_id")
    assert rows.loc[ids[0], ["rpo_state_before", "rpo_state_now"]].tolist() == ["inside", "outside"]
    assert rows.loc[ids[0], "exposure_now"] > pd.Timedelta("5D")
    assert pd.isna(rows.loc[ids[2], "exposure_before"])


def test_a_gap_that_is_over_is_closed_and_no_new_gap(planted: tuple[Comparison, list[str]]) -> None:
    found, ids = planted
    rows = found.findings[found.findings["tenant_id"] == ids[1]].set_index("kind")
    gap = rows.loc["G4"]
    assert (gap["why"], gap["severity_before"]) == ("ended; G3 stale before", "critical")
    assert rows.loc["G21", "why"] == "no longer found"
    assert rows.loc["G24", "why"] == "ended"


def test_an_open_gap_that_got_older_is_worse() -> None:
    found = weeks(Plant("missing", 0, 0, 12.0, 30.0)).findings
    kinds = found[found["kind"].isin(["G3", "G21"])]
    assert kinds["change"].tolist() == ["worse", "worse"]
    longer = (kinds["measured"] - kinds["measured_before"]).round(6).tolist()
    assert longer == [168.0, 168.0]
    assert kinds["why"].str.contains(", was ").all()


def in_window(sets: ob.BackupSets, days: int) -> ob.BackupSets:
    """Return what is known of the week that ended so many days ago."""
    end = pd.Timestamp(NOW) - pd.Timedelta(days, "D")
    begin = end - pd.Timedelta(7, "D")
    began = sets.tenants["start_time"]
    rows = sets.tenants.assign(in_window=(began >= begin) & (began < end))
    return dataclasses.replace(sets, tenants=rows, window=Window(begin, end))


def test_weeks_that_do_not_overlap_are_compared() -> None:
    plants = (
        Plant("missing", 0, 0, 12.0, 30.0),  # in both weeks, and still
        Plant("missing", 0, 1, 12.0, 9.0),  # until the second one
        Plant("missing", 0, 2, 12.0, 3.0),  # in the first one only
    )
    sets = world(history_of(*plants), inventory=True)
    earlier, now = (
        ob.review(in_window(sets, days), policy=Policy(), as_of=NOW - days * WEEK / 7)
        for days in (7, 0)
    )
    found = comparison(now, earlier).findings
    lasts, ended, past = (
        found[found["tenant_id"] == each.tenant_id].set_index("kind")
        for each in history_of().instances[0].tenants
    )
    kinds = ["G3", "G21", "G24"]
    assert lasts.loc[kinds, "change"].tolist() == ["worse"] * 3
    assert lasts.loc["G24", "why"] == "it goes on"
    assert ended.loc["G2", ["change", "why"]].tolist() == ["closed", "ended; G3 stale before"]
    assert ended.loc["G24", ["change", "why"]].tolist() == ["closed", "ended"]
    daily = ended[ended["sentence"].str.contains(" runs due ", na=False)]
    assert daily["change"].tolist() == ["closed"]
    assert not daily["sentence"].str.contains("full").any()
    assert set(past["why"]) == {"past the window"}


def test_a_full_set_that_fails_is_told_with_its_slot() -> None:
    history = history_of()
    fulls = [
        row
        for row in history.sets(history.instances[0].instance_id, NOW)
        if row["dataBackupMode"] == "FULL_BACKUP"
    ]
    newest = max(dt.datetime.fromisoformat(row["startTime"]) for row in fulls)
    days = (NOW - newest) / dt.timedelta(days=1)
    assert days < 7
    plants = (Plant("failed", 0, 1, days + 0.25, 0.5),)
    found = weeks(*plants).findings
    mine = history.instances[0].tenants[1].tenant_id
    assert set(found["tenant_id"]) == {mine}
    assert set(found["change"]) == {"new"}
    assert found["sentence"].str.contains("full run due").any()


def test_growth_and_slow_runs_are_told_in_the_summary_and_are_no_findings() -> None:
    plants = (Plant("step", 0, 0, 6.5, 1.0, 3.0), Plant("slower", 0, 1, 6.5, 1.0, 4.0))
    found = weeks(*plants)
    rows = found.summary.set_index("name")
    assert rows.loc["stored_gib", "now"] > 1.02 * rows.loc["stored_gib", "earlier"]
    assert rows.loc["stored_gib", "change"] == ""
    assert rows.loc["slower", "earlier"] == 0 < rows.loc["slower", "now"]
    assert rows.loc["slower", "change"] == "worse"
    assert not set(found.findings["kind"]) & {"G3", "G4", "G7", "G21", "G24"}


@pytest.mark.parametrize("ago", [0, 7])
def test_a_review_is_the_same_as_itself(ago: int) -> None:
    plants = Plant("missing", 0, 0, 5.0, 30.0), Plant("silent", 0, None, 20.0, 3.0)
    sets = world(history_of(*plants), inventory=True)
    review = ob.review(sets, policy=Policy(retention_days=30), as_of=NOW - ago * WEEK / 7)
    found = comparison(review, review)
    assert len(found.findings) == len(review.findings) > 5
    assert set(found.findings["change"]) == {"same"}
    assert set(found.findings["why"]) == {""}
    assert set(found.tenants["change"]) == {"same"}
    assert set(found.summary["change"]) <= {"same", ""}
    assert found.notes == ()


def test_the_sample_is_the_same_as_itself() -> None:
    review = ob.review(ob.sample())
    found = comparison(review, review)
    assert found.counts["same"] == len(review.findings)
    assert set(found.tenants["change"]) == {"same"}


# --- one rule at a time ---------------------------------------------------------------------------


def test_what_is_found_now_only_is_new_and_the_reverse_is_closed() -> None:
    assert verdict(versus(before(), made(fault()))) == ("new", "")
    assert verdict(versus(before(fault()), made())) == ("closed", "no longer found")


@pytest.mark.parametrize("end", [None, at(168)])
def test_what_was_open_and_is_over_has_ended(end: str | None) -> None:
    was = fault("G6", end=end, severity="critical")
    assert verdict(versus(before(was), made(fault("G6", end=at(100))))) == ("closed", "ended")


def test_what_was_over_then_is_the_same() -> None:
    assert verdict(versus(before(fault("G6")), made(fault("G6")))) == ("same", "")


def test_what_was_over_before_the_window_is_past_it() -> None:
    now = made(begin=at(200))
    assert verdict(versus(before(fault()), now)) == ("closed", "past the window")
    lasts = before(fault(end=at(168)))
    assert verdict(versus(lasts, made(begin=at(100)))) == ("closed", "no longer found")
    for end in (at(200), at(190)):
        was = before(fault(end=end))
        assert verdict(versus(was, now)) == ("closed", "no longer found")


def test_why_a_finding_is_no_longer_found_is_said_where_it_is_known() -> None:
    none = made(coverage=[tenant("t2")])
    why = "no longer found: its tenant has no sets now"
    assert verdict(versus(before(fault()), none)) == ("closed", why)
    lost = made(fault("G25", severity="info", measured=5.0))
    rows = versus(before(fault()), lost).findings.set_index("kind")
    assert rows.loc["G4", "why"] == "no longer found: its tenant was dropped"


def test_what_cannot_be_known_is_not_closed() -> None:
    was = before(fault(end=at(168)), fault(tenant="t2"), instances=["ob1", "ob2"])
    cases = {
        "its instance could not be read now": {"failed": {"ob1": "refused"}},
        "its instance was not asked for now": {"instances": ["ob2"]},
        "could not be judged now: no limit": {
            "not_judged": [{"kind": "G4", "title": "", "reason": "no limit"}]
        },
        "the policy leaves its tenant out now": {
            "policy": Policy(exclude=[Exclude(name=["name of t*"])])
        },
    }
    for why, changes in cases.items():
        found = versus(was, made(**changes)).findings
        assert set(found["change"]) == {"unknown"}
        assert set(found["why"]) == {why}
    part = versus(was, made(policy=Policy(exclude=[Exclude(tenant=["t2"])]))).findings
    fates = dict(zip(part["tenant_id"], part["change"], strict=True))
    assert fates == {"t1": "closed", "t2": "unknown"}


def test_what_is_found_in_both_is_compared_though_an_instance_failed() -> None:
    now = made(fault(), failed={"ob1": "refused"})
    assert verdict(versus(before(fault()), now))[0] == "same"


def test_what_is_new_only_to_us_says_why() -> None:
    now = made(fault())
    cases = {
        "its instance could not be read before": {"failed": {"ob1": "refused"}},
        "could not be judged before: no limit": {
            "not_judged": [{"kind": "G4", "title": "", "reason": "no limit"}]
        },
        "the policy left its tenant out before": {
            "policy": Policy(exclude=[Exclude(tenant=["t1"])])
        },
        "it began before the earlier window": {"begin": at(250)},
        "its tenant was not known before": {"coverage": [tenant("t2")]},
    }
    for why, changes in cases.items():
        assert verdict(versus(before(**changes), now)) == ("new", why)
    both = made(fault(), instances=["ob1", "ob2"])
    assert verdict(versus(before(instances=["ob2"]), both)) == (
        "new",
        "its instance was not asked for before",
    )


@pytest.mark.parametrize(
    ("row", "was", "now", "why"),
    [
        (fault(measured=20.0), {}, {"rpo": "12h"}, "the limit was 26 h, is 12 h"),
        (fault(measured=27.0), {}, {"rpo": "12h"}, "the limit was 26 h, is 12 h"),  # in its grace
        (fault(measured=29.0), {}, {"rpo": "12h"}, ""),
        (fault(measured=None), {}, {"rpo": "12h"}, ""),
        (fault("G21", measured=27.0), {}, {"rpo": "12h"}, ""),
        (fault(measured=27.0), {}, {"grace": "0h"}, "the grace was 2 h, is 0 h"),
        (fault("G13", measured=1), {}, {"min_redundancy": 2}, "the limit was 1 set, is 2 sets"),
        (fault("G13", measured=0), {}, {"min_redundancy": 2}, ""),
        (
            fault("G14", measured=200.0),
            {"retention_days": 7},
            {"retention_days": 30},
            "the limit was 7 d, is 30 d",
        ),
        (
            fault("G14", measured=100.0),
            {"retention_days": 7},
            {"retention_days": 30},
            "",
        ),
        (
            fault("G15", measured=900.0),
            {"retention_days": 30},
            {"retention_days": 7},
            "the limit was 30 d, is 7 d",
        ),
        (fault("G9"), {}, {"full_every": "1D"}, "the limit was none, is 24 h"),
        (fault("G7"), {}, {"schedule": "0 2 * * *"}, "the policy's schedule has changed"),
        (fault("G7"), {}, {"rpo": "12h"}, ""),
        (
            fault(measured=20.0),
            {},
            {"override": [Override(tenant="t1", rpo="12h")]},
            "the limit was 26 h, is 12 h",
        ),
        (fault(measured=20.0), {}, {"override": [Override(tenant="t2", rpo="12h")]}, ""),
    ],
)
def test_what_is_new_by_the_limit_alone_says_so(
    row: dict[str, Any], was: dict[str, Any], now: dict[str, Any], why: str
) -> None:
    policies = Policy(**was), Policy(**now)
    found = versus(before(policy=policies[0]), made(row, policy=policies[1]))
    assert verdict(found) == ("new", why)


def test_what_is_closed_by_the_limit_alone_says_so() -> None:
    was = before(fault(measured=20.0), policy=Policy(rpo="12h"))
    why = "no longer found: the limit was 12 h, is 26 h"
    assert verdict(versus(was, made())) == ("closed", why)
    was = before(fault(measured=29.0), policy=Policy(rpo="12h"))
    assert verdict(versus(was, made())) == ("closed", "no longer found")


@pytest.mark.parametrize(
    ("kind", "was", "now", "change"),
    [
        ("G4", {"measured": 30.0}, {"measured": 31.0}, "worse"),
        ("G4", {"measured": 31.0}, {"measured": 30.0}, "better"),
        ("G4", {"measured": 30.0}, {"measured": 30.0 + 1e-12}, "same"),
        ("G4", {"measured": 30.0}, {"measured": None}, "worse"),
        ("G4", {"measured": None}, {"measured": 1e9}, "better"),
        ("G4", {"measured": None}, {"measured": None}, "same"),
        ("G4", {"limit": 26.0}, {"limit": 12.0}, "same"),  # the same, held against less
        ("G4", {"limit": 12.0}, {"limit": 26.0, "measured": 31.0}, "worse"),
        ("G4", {"limit": None}, {"limit": 12.0}, "same"),
        ("G7", {"limit": 0.0, "measured": 1.0}, {"limit": 0.0, "measured": 2.0}, "worse"),
        ("G13", {"limit": 2.0, "measured": 1.0}, {"limit": 2.0, "measured": 0.0}, "worse"),
        ("G13", {"limit": 2.0, "measured": 0.0}, {"limit": 2.0, "measured": 1.0}, "better"),
        ("G14", {"limit": 720.0}, {"limit": 720.0, "measured": 54.0}, "better"),
        ("G14", {"limit": 720.0}, {"limit": 1440.0}, "same"),
        ("G14", {}, {"measured": None}, "worse"),
        ("G29", {"measured": 2.0}, {"measured": 1.0}, "worse"),
        ("G31", {"measured": 50.0}, {"measured": 60.0}, "worse"),
        ("G34", {"measured": 25.0}, {"measured": 20.0}, "worse"),
        ("G34", {"measured": 30.0}, {"measured": 22.0}, "same"),
        ("G4", {"severity": "warning"}, {"severity": "critical", "measured": 1.0}, "worse"),
        ("G4", {"severity": "critical"}, {"severity": "info", "measured": None}, "better"),
    ],
)
def test_which_way_a_finding_went(
    kind: str, was: dict[str, Any], now: dict[str, Any], change: str
) -> None:
    found = versus(before(fault(kind, **was)), made(fault(kind, **now)))
    assert verdict(found)[0] == change


def test_why_it_went_that_way_is_said() -> None:
    pairs = [
        ({"measured": 30.0}, {"measured": 31.5}, "31 h 30 min, was 30 h"),
        ({"limit": 26.0}, {"limit": 12.0}, "the limit was 26 h, is 12 h"),
        ({}, {"severity": "critical"}, "critical, was warning"),
        ({}, {"measured": None}, "unbounded, was 30 h"),
        ({}, {"acknowledged": True}, "acknowledged since"),
        ({"acknowledged": True}, {}, "no longer acknowledged"),
        ({"limit_origin": "inferred"}, {"limit": 29.9, "measured": 34.5}, ""),
    ]
    for was, now, why in pairs[:-1]:
        assert verdict(versus(before(fault(**was)), made(fault(**now))))[1] == why
    was, now, _ = pairs[-1]
    assert "limit" not in verdict(versus(before(fault(**was)), made(fault(**now))))[1]


def test_acknowledging_is_told_but_neither_better_nor_worse() -> None:
    row = only(versus(before(fault()), made(fault(acknowledged=True))))
    assert row["change"] == "same"
    assert (row["acknowledged"], row["acknowledged_before"]) == (True, False)


@pytest.mark.parametrize(
    ("was", "now", "one"),
    [
        ({}, {}, True),
        ({}, {"end": None}, True),  # the same beginning
        ({"start": at(400), "end": at(390), "backup_set_ids": ["a", "b"]}, {}, False),
        (
            {"start": at(400), "end": at(390), "backup_set_ids": ["a", "b"]},
            {"backup_set_ids": ["b"]},
            True,
        ),
        ({"start": at(310), "end": at(295)}, {}, True),  # their times overlap
        ({"start": at(310), "end": at(300)}, {}, False),  # they touch only
        ({"start": at(295), "end": at(295)}, {}, True),  # an instant in it
        ({"start": at(310), "end": at(305)}, {}, False),
        ({"tenant_id": "t2"}, {}, False),
        ({"instance_id": "ob2"}, {}, False),
        ({"kind": "G7"}, {}, False),
        ({"kind": "G3", "end": None}, {}, True),
        ({"start": None, "end": at(168)}, {"start": None}, True),
    ],
)
def test_which_findings_are_one(was: dict[str, Any], now: dict[str, Any], one: bool) -> None:  # noqa: FBT001
    instances = ["ob1", "ob2"]
    found = versus(
        before(fault() | was, instances=instances), made(fault() | now, instances=instances)
    )
    assert len(found.findings) == (1 if one else 2)


def test_the_likest_are_paired() -> None:
    full, daily = ({"sentence": f"1 {mode} run missed"} for mode in ("full", "daily"))
    was = [
        fault("G7", start=at(300), end=at(200), **daily),
        fault("G7", start=at(250), end=at(200), **full),
    ]
    now = [
        fault("G7", start=at(260), end=at(100), **full),
        fault("G7", start=at(300), end=at(100), **daily),
    ]
    found = versus(before(*was), made(*now)).findings
    assert (found["sentence"] == found["sentence_before"]).all()
    assert len(found) == 2


@pytest.mark.parametrize(
    ("was", "likest", "other"),
    [
        # Of three that overlap, the one that shares more sets, though the other overlaps more.
        (
            {"backup_set_ids": ["a", "b"]},
            {"start": at(291), "end": at(289), "backup_set_ids": ["a", "b"]},
            {"start": at(299), "end": at(280), "backup_set_ids": ["a", "c"]},
        ),
        # Of two of one beginning and the same sets, the one that says the same.
        (
            {"backup_set_ids": ["a"], "sentence": "3 of one"},
            {"backup_set_ids": ["a"], "sentence": "4 of one", "end": at(299)},
            {"backup_set_ids": ["a"], "sentence": "3 of two"},
        ),
        # The same where no set is named.
        (
            {"sentence": "3 of one"},
            {"sentence": "4 of one", "end": at(299)},
            {"sentence": "3 of two"},
        ),
    ],
)
def test_the_likest_of_several_is_the_same_one(
    was: dict[str, Any], likest: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = fault("G16", **likest), fault("G16", **other)
    for rows in ((first, second), (second, first)):
        found = versus(before(fault("G16", **was)), made(*rows)).findings
        lone = found[found["change"] == "new"]
        assert lone["end"].tolist() == [pd.Timestamp(second["end"])]
        assert lone["sentence"].tolist() == [second["sentence"]]


def test_a_state_of_now_is_one_though_its_times_move_and_no_set_proves_it() -> None:
    rows = [fault("G13", start=at(hours), end=None, measured=0) for hours in (168, 0)]
    assert verdict(versus(before(rows[0]), made(rows[1]))) == ("same", "")


def test_missed_runs_and_absences_have_ended_when_there_is_a_set_since() -> None:
    slots = [fault("G7", backup_set_ids=ids, end=at(170)) for ids in (["a"], ["a", "b"])]
    assert verdict(versus(before(slots[0]), made(slots[1]))) == ("closed", "ended")
    assert verdict(versus(before(slots[1]), made(slots[1])))[0] == "same"
    absent = fault("G24", end=at(170))
    back = [tenant(last_checkpoint=at(50))]
    assert verdict(versus(before(absent), made(absent, coverage=back))) == ("closed", "ended")
    assert verdict(versus(before(absent), made(absent)))[0] == "same"


def test_what_is_missed_in_a_row_goes_on_where_a_window_cuts_it() -> None:
    day = {"start": at(288), "end": at(168), "measured": 6.0}
    for kind, begin, one in (("G24", 144, True), ("G24", 120, False), ("G16", 144, False)):
        later = fault(kind, start=at(begin), end=at(begin - 48), measured=3.0)
        found = versus(before(fault(kind, **day)), made(later))
        assert len(found.findings) == (1 if one else 2)
        if one:
            assert verdict(found) == ("worse", "it goes on")


def test_findings_about_two_things_are_two() -> None:
    texts = {
        "G7": ("x: 2 full runs due from", "x: 2 runs due from"),
        "G8": ("x: the full run due at", "x: the incremental run due at"),
        "G26": (
            "x: no copy in cold can be restored",
            "x: the newest copy in warm that can be restored",
        ),
    }
    for kind, sentences in texts.items():
        was, now = (fault(kind, end=None, sentence=each) for each in sentences)
        assert sorted(versus(before(was), made(now)).findings["change"]) == ["closed", "new"]
    none, old = (
        f"x: {text} can be restored" for text in ("no copy in a", "the newest copy in a that")
    )
    was, now = (
        fault("G26", end=None, start=at(n), sentence=each) for n, each in ((9, none), (3, old))
    )
    assert len(versus(before(was), made(now)).findings) == 1


def test_a_gap_at_the_head_of_a_later_window_is_the_gap_it_was() -> None:
    now = made(fault("G2", start=at(295), measured=None), begin=at(295))
    assert verdict(versus(before(fault("G4")), now)) == ("same", "G4 RPO gap before")


def test_the_worst_news_come_first() -> None:
    kinds = ("G3", "G4", "G8", "G13", "G16")
    was = [fault(kind) for kind in kinds[3:]] + [fault("G20"), fault("G7", "t2", severity="info")]
    now = [fault(kind) for kind in kinds[:3]] + [fault("G20", measured=40.0)]
    now += [fault("G13", measured=40.0), fault("G19", acknowledged=True)]
    found = versus(before(*was), made(*now)).findings
    order = list(zip(found["change"], found["kind"], strict=True))
    bad = [("new", "G3"), ("new", "G4"), ("worse", "G20"), ("new", "G8"), ("new", "G19")]
    assert order == [*bad, ("better", "G13"), ("closed", "G16"), ("closed", "G7")]


# --- tenants, numbers, notes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "now", "fate"),
    [
        ({}, {}, "same"),
        ({}, {"rpo_state": "outside"}, "worse"),
        ({"rpo_state": "outside"}, {}, "better"),
        ({}, {"rpo_state": "unknown"}, "unknown"),
        ({"rpo_state": "unknown"}, {"rpo_state": "unknown"}, "same"),
        ({"rpo_state": "outside"}, {"rpo_state": "outside"}, "same"),
        ({"rpo_state": "outside"}, {"rpo_state": "outside", "rpo_ratio": 2.0}, "worse"),
        ({"rpo_state": "outside"}, {"rpo_state": "outside", "rpo_ratio": None}, "worse"),
        ({"rpo_state": "outside", "rpo_ratio": 3.0}, {"rpo_state": "outside"}, "better"),
        ({}, {"time_in_rpo": 0.9, "gap_total": 9.0}, "worse"),
        ({}, {"time_in_rpo": 0.9}, "same"),  # the window has moved, nothing else
        ({"time_in_rpo": 0.9, "gap_total": 9.0}, {}, "better"),
        ({"time_in_rpo": 0.9, "gap_total": 9.0}, {"time_in_rpo": 1.0, "gap_total": 9.0}, "same"),
        ({"time_in_rpo": None}, {}, "same"),
    ],
)
def test_what_becomes_of_a_tenant(was: dict[str, Any], now: dict[str, Any], fate: str) -> None:
    found = versus(before(coverage=[tenant(**was)]), made(coverage=[tenant(**now)])).tenants
    assert found["change"].tolist() == [fate]


def test_tenants_of_one_review_only() -> None:
    one, none = {"coverage": [tenant()]}, {"coverage": []}
    fleet = {"coverage": [tenant() | {"instance_id": None, "tenant_id": None}]}
    left_out = {"policy": Policy(exclude=[Exclude(tenant="t1")]), "coverage": []}
    failed = {"failed": {"ob1": "refused"}, "coverage": []}
    cases = [
        (none, one, "new"),
        (one, none, "gone"),
        (fleet, one, "new"),
        (failed, one, "unknown"),
        (one, failed, "unknown"),
        (left_out, one, "unknown"),
        (one, left_out, "unknown"),
    ]
    for was, now, fate in cases:
        assert versus(before(**was), made(**now)).tenants["change"].tolist() == [fate]


def test_a_tenant_that_the_inventory_lost_is_gone_once() -> None:
    lost = fault("G25", severity="info", measured=5.0)
    assert versus(before(), made(lost)).tenants["change"].tolist() == ["gone", "same"]
    assert versus(before(lost), made(lost)).tenants["change"].tolist() == ["same", "same"]
    perhaps = fault("G25", severity="warning", measured=5.0, certainty="unknown")
    appeared = fault("G25", severity="info", measured=1.0)
    for row in (perhaps, appeared):
        assert set(versus(before(), made(row)).tenants["change"]) == {"same"}


@pytest.mark.parametrize(
    ("name", "was", "now", "change"),
    [
        ("gaps", 1, 2, "worse"),
        ("gaps", 2, 1, "better"),
        ("gaps", 2, 2, "same"),
        ("time_in_rpo", 0.9, 0.95, "better"),
        ("time_in_rpo", None, 0.95, "unknown"),
        ("time_in_rpo", None, None, "same"),
        ("tenants_outside", 1, 0, "better"),
        ("critical", 0, 1, "worse"),
        ("longest_gap", 3600.0, 7200.0, "worse"),
        ("failed_instances", [], ["ob1"], "worse"),
        ("sets", 5, 9, ""),
        ("instances", 5, 9, ""),
    ],
)
def test_which_way_a_number_went(name: str, was: Any, now: Any, change: str) -> None:
    sides = [before(summary={name: was, "gaps": 9}), made(summary={name: now, "gaps": 9})]
    if name == "gaps":
        sides = [before(summary={name: was}), made(summary={name: now})]
    rows = versus(*sides).summary.set_index("name")
    assert rows.loc[name, "change"] == change


def test_no_gap_is_a_longest_gap_of_nothing() -> None:
    none, one = {"gaps": 0, "longest_gap": None}, {"gaps": 1, "longest_gap": 3600.0}
    row = versus(before(summary=none), made(summary=one)).summary.set_index("name")
    assert row.loc["longest_gap"].tolist() == [pd.Timedelta(0), pd.Timedelta("1h"), "worse"]


def test_fewer_faults_of_fewer_instances_are_no_progress() -> None:
    both = ["ob1", "ob2"]
    was = before(summary={"critical": 5}, instances=both)
    now = made(summary={"critical": 1}, instances=both, failed={"ob2": "refused"})
    rows = versus(was, now).summary
    assert rows["change"].tolist() == ["unknown"]


def test_what_else_differs_is_noted() -> None:
    was = before(
        instances=["ob1", "ob0"],
        begin=at(336),
        not_judged=[{"kind": "G9", "title": "", "reason": "no limit"}],
        policy=Policy(rpo="12h"),
    )
    now = made(instances=["ob1", "ob2"], begin=at(24), failed={"ob3": "refused"})
    now["provenance"]["versions"]["obanalytics"] = "2"
    now["summary"]["model"] = "log"
    notes = "\n".join(versus(was, now).notes)
    for text in (
        "instances of the earlier review only: ob0",
        "instances of this review only: ob2",
        "not read now, so nothing is known of them: ob3",
        "not judged earlier, but in the other review: G9",
        "by the point model, now by the log one",
        "7 d earlier, 24 h now",
        "obanalytics 1 and 2",
        "policy, rpo: was 12h, is 26h",
    ):
        assert text in notes, text
    assert versus(before(), made()).notes == ()
    assert "all that there is" in versus(before(), made(begin=at(24))).notes[0]


def test_a_review_without_a_time_is_compared_and_that_is_said() -> None:
    was = before(fault(), as_of=None, window={"start": None, "end": None})
    found = versus(was, made(fault()))
    assert found.counts["same"] == 1
    assert "which is the later one is not known" in " ".join(found.notes)


# --- pairs, whatever is in the reviews ------------------------------------------------------------

_TIMES = st.one_of(st.none(), st.integers(170, 200))


@st.composite
def faults(draw: st.DrawFn) -> dict[str, Any]:
    start, end = draw(_TIMES), draw(_TIMES)
    if start is not None and end is not None and end > start:
        start, end = end, start
    return fault(
        draw(st.sampled_from(["G2", "G3", "G4", "G7", "G13"])),
        draw(st.sampled_from(["t1", "t2", None])),
        start=None if start is None else at(start),
        end=None if end is None else at(end),
        measured=draw(st.sampled_from([None, 1.0, 30.0])),
        severity=draw(st.sampled_from(SEVERITIES)),
        backup_set_ids=draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=2)),
        sentence=draw(st.sampled_from(["1 full run", "2 full runs", "1 run"])),
    )


LISTS = st.lists(faults(), max_size=7)


def keys_of(review: dict[str, Any], other: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    sides = [side_of(each, "it").rows for each in (review, other)]
    pairs = matched(*sides)
    return sorted(
        ((a.key if a else "", b.key if b else "") for a, b in pairs),
    )


@given(LISTS, LISTS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_pairs_are_one_to_one_whole_and_of_any_order(
    was: list[dict[str, Any]], now: list[dict[str, Any]], chance: Any
) -> None:
    pairs = keys_of(made(*was), made(*now))
    for side, rows in enumerate((was, now)):
        keys = sorted(json.dumps(row, sort_keys=True) for row in rows)
        assert sorted(pair[side] for pair in pairs if pair[side]) == keys
    mixed = [chance.sample(rows, len(rows)) for rows in (was, now)]
    assert keys_of(*(made(*rows) for rows in mixed)) == pairs
    swapped = keys_of(made(*now), made(*was))
    assert sorted((b, a) for a, b in swapped) == pairs


@given(LISTS, LISTS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_new_and_closed_are_mirrored_and_order_does_not_matter(
    was: list[dict[str, Any]], now: list[dict[str, Any]], chance: Any
) -> None:
    one, other = versus(made(*was), made(*now)), versus(made(*now), made(*was))
    whole = one.counts["new"] + one.counts["worse"] + one.counts["better"] + one.counts["same"]
    assert whole + sum(one.findings["change"] == "closed") == len(one.findings)
    lone = [
        sorted(each.findings.loc[each.findings[column].isna(), "sentence" + end])
        for each, column, end in (
            (one, "severity_before", ""),
            (other, "severity", "_before"),
            (other, "severity_before", ""),
            (one, "severity", "_before"),
        )
    ]
    assert lone[0] == lone[1]
    assert lone[2] == lone[3]
    assert set(one.findings.loc[one.findings["severity_before"].isna(), "change"]) <= {"new"}
    assert set(one.findings.loc[one.findings["severity"].isna(), "change"]) <= {"closed"}
    mixed = [made(*chance.sample(rows, len(rows))) for rows in (was, now)]
    pd.testing.assert_frame_equal(versus(*mixed).findings, one.findings)


@given(LISTS)
@settings(max_examples=40, deadline=None)
def test_any_review_is_the_same_as_itself(rows: list[dict[str, Any]]) -> None:
    found = versus(made(*rows), made(*rows))
    assert set(found.findings["change"]) <= {"same"}
    assert set(found.findings["why"]) <= {""}


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_file_with_anything_in_it_is_read_or_refused_in_a_sentence(data: st.DataObject) -> None:
    review = before(fault(), fault("G24", None, end=None), fault("G25", backup_set_ids=["a"]))
    review["summary"] |= {"critical": 1, "newest_restore_point": at(200), "time_in_rpo": 0.5}
    place = copy.deepcopy(review)
    here: Any = place
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        if not here[key] or not isinstance(here[key], dict | list) or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(
        st.sampled_from([None, -1, 1e300, True, "x", [], {}, [1], [{}], {"a": 1}])
    )
    found, refused = None, ""
    try:
        found = versus(place, made(fault()))
    except (DataError, ValueError) as error:
        refused = str(error)
    if found is None:
        assert refused.startswith("the earlier review: expected ")
        assert "\n" not in refused
    else:
        assert found.to_text()
        json.dumps(found.to_json(), allow_nan=False)


# --- what is given and shown ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile() -> tuple[ob.Review, ob.Review]:
    plants = Plant("missing", 0, None, 5.0, 30.0), Plant("missing", 0, 1, 12.0, 5.0)
    sets = renamed(world(history_of(*plants, tenants=len(HOSTILE))), HOSTILE)
    failed = {name: f"refused: {name}" for name in HOSTILE if name}
    source = dataclasses.replace(sets.source, notes=HOSTILE, failed=failed, path=HOSTILE[2])
    sets = dataclasses.replace(sets, source=source)
    policy = Policy(exclude=[Exclude(name="none of them", reason=HOSTILE[1])])
    return ob.review(sets, as_of=NOW - WEEK), ob.review(sets, policy=policy)


def test_a_file_a_dict_and_a_review_are_the_same(
    hostile: tuple[ob.Review, ob.Review], tmp_path: Path
) -> None:
    earlier, now = hostile
    path = tmp_path / "earlier.json"
    earlier.write_json(path)
    plainly = tmp_path / "plain.json"
    plainly.write_text(json.dumps(earlier.to_json()), encoding="utf-8-sig")
    found = comparison(now, earlier)
    assert len(found.findings) > 10
    for each in (earlier.to_json(), path, str(path), plainly):
        other = comparison(now, each)
        for name in ("findings", "tenants", "summary"):
            pd.testing.assert_frame_equal(getattr(other, name), getattr(found, name))
        assert (other.counts, other.notes) == (found.counts, found.notes)
        assert other.to_text() == found.to_text()
        one, two = other.to_json(), found.to_json()
        one["earlier"].pop("name")
        two["earlier"].pop("name")
        assert one == two


def test_json_takes_any_writer_and_says_everything(hostile: tuple[ob.Review, ob.Review]) -> None:
    found = comparison(hostile[1], hostile[0])
    read = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert read["format"] == 1
    assert read["now"]["as_of"] == "2026-06-30T12:00:00Z"
    assert len(read["findings"]) == len(found.findings)
    assert len(read["tenants"]) == len(HOSTILE)
    assert read["counts"] == found.counts
    assert {row["change"] for row in read["tenants"]} <= set(FATES)


def test_hostile_names_are_inert(hostile: tuple[ob.Review, ob.Review]) -> None:
    for pair in (hostile, hostile[:1] * 2):
        found = comparison(pair[1], pair[0])
        text = found.to_text()
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert max(map(cells, text.splitlines())) <= 100
        assert repr(found) == text
        page = Page(found._repr_html_())
        allowed = {"table", "caption", "tbody", "tr", "th", "td"}
        assert {tag for tag, _ in page.tags} == allowed
        assert {name for _, attrs in page.tags for name in attrs} <= {"style", "scope"}


def test_a_kind_that_is_not_known_here_is_told_by_its_own_title_and_is_inert() -> None:
    row = fault() | {"kind": HOSTILE[1], "title": f"{HOSTILE[2]}\x1b[31m"}
    found = versus(before(), made(row, not_judged=[{"kind": HOSTILE[1], "reason": HOSTILE[1]}]))
    assert only(found)["title"].startswith(HOSTILE[2])
    page = Page(found._repr_html_())
    assert {tag for tag, _ in page.tags} == {"table", "caption", "tbody", "tr", "th", "td"}
    assert not [c for c in found.to_text() if not c.isprintable() and c != "\n"]


def test_the_text_tells_the_parts_in_their_order(planted: tuple[Comparison, list[str]]) -> None:
    text = planted[0].to_text()
    parts = ("From the review of 2026-06-23 12:00 UTC", "NEW (11)", "WORSE (1)", "CLOSED (4)")
    places = [text.index(part) for part in (*parts, "TENANTS (5)")]
    assert places == sorted(places)
    assert "UNKNOWN" not in text
    assert "-> ended" in text
    assert "time in RPO" in text
    assert "stored GiB" in text
    page = Page(planted[0]._repr_html_())
    assert page.tables[0][0][0] == "new: G3 stale"
    assert page.captions[0].startswith("From the review of")


def test_only_so_many_are_shown_and_that_is_said() -> None:
    rows = [fault("G16", start=at(300 + n), end=at(300 + n)) for n in range(60)]
    found = versus(before(), made(*rows))
    assert found.to_text().count("done, but not usable") == 40
    assert "and 20 more" in found.to_text()
    assert "and 20 more" in found._repr_html_()


def test_nothing_to_compare_has_the_same_types() -> None:
    none = versus(before(coverage=[]), made(coverage=[]))
    some = versus(before(fault()), made(fault(tenant="t2")))
    for name in ("findings", "tenants", "summary"):
        assert getattr(none, name).dtypes.tolist() == getattr(some, name).dtypes.tolist()
    assert "no findings in either" in none.to_text()
    assert none.counts == dict.fromkeys(CHANGES, 0)


BAD = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "too deep": "[" * 100_000,
    "not text": b"\xff\xfe\x00",
    "another format": json.dumps(before() | {"format": 1}),
    "no format": json.dumps({"tables": {}}),
    "no findings": json.dumps({key: v for key, v in before().items() if key != "findings"}),
    "findings of no kind": json.dumps(before({"severity": "info"})),
    "a severity nobody knows": json.dumps(before(fault(severity="fatal"))),
    "no instant": json.dumps(before(fault(start="yesterday"))),
    "an instant without a zone": json.dumps(before() | {"as_of": "2026-06-01T00:00:00"}),
    "a measure that is none": json.dumps(before(fault(measured="30"))),
    "a name that is none": json.dumps(before(fault(tenant_name=3))),
    "a state that is none": json.dumps(before(coverage=[tenant(rpo_state=[])])),
    "no coverage": json.dumps(before() | {"tables": {}}),
    "a part of another type": json.dumps(before() | {"window": []}),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_what_is_no_review_is_refused_with_its_name(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        comparison(Stand(made()), path)
    text = str(caught.value)
    assert text.startswith(f"{path}: expected ")
    assert "review" in text
    assert "\n" not in text


def test_a_number_that_is_not_there_is_read(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(before(fault(measured=float("nan")))))
    assert comparison(Stand(made(fault(measured=None))), path).counts["same"] == 1


def test_what_is_nothing_at_all_is_refused(tmp_path: Path) -> None:
    for each in (3, None, [], object()):
        with pytest.raises(DataError, match="the earlier review: expected a review"):
            comparison(Stand(made()), each)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        comparison(Stand(made()), tmp_path / "none.json")


def test_entirely_other_instances_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same instances; it is of ob8, this review of ob1$"):
        versus(before(instances=["ob8"]), made())


def test_an_instance_that_failed_was_asked_for() -> None:
    now = made(instances=["ob2"], failed={"ob1": "refused"})
    assert verdict(versus(before(fault()), now)) == (
        "unknown",
        "its instance could not be read now",
    )


def test_a_later_review_is_refused() -> None:
    with pytest.raises(ValueError, match="an earlier review; it is as of 2026-06-30 12:00"):
        versus(made(), before())


@pytest.mark.parametrize(("ids", "back"), list(product((True, False), repeat=2)))
def test_a_policy_that_cannot_be_read_back_is_said(ids: bool, back: bool) -> None:  # noqa: FBT001
    was, now = before(fault()), made(fault())
    if ids:
        was["policy"]["exclude 1"] = {"value": "tenant = [\\x1b", "origin": "policy"}
    if back:
        now["policy"] = None
    notes = " ".join(versus(was, now).notes)
    assert ("cannot be read back" in notes) == (ids or back)
