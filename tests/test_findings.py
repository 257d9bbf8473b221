"""Every kind of finding by a small history whose numbers are worked out by hand.

An hour is the unit of time. Unless a test says otherwise a set takes an hour and restores to its
end, so that daily sets leave 24 hours between a checkpoint and the end of the next set.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from effort import examples
from findings_oracle import (
    Cluster,
    Found,
    Listed,
    Row,
    facts,
    found,
    kinds,
    restorable,
    tenants,
)
from histories import T0, at
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import obanalytics as ob
from obanalytics.findings import findings
from obanalytics.frames import Source
from obanalytics.kinds import CERTAINTIES, KINDS, SEVERITIES
from obanalytics.policy import Acknowledged, Exclude, Maintenance, Override, Policy
from obanalytics.schema import Window

if TYPE_CHECKING:
    from obanalytics.schema import BackupSets

DOCS = Path(__file__).parent.parent / "docs" / "findings.md"
DEFAULT = 26.0
"""The RPO where nobody gave one; with the grace of two hours 28 are allowed."""


def daily(days: int, tenant: str = "t0", **changes: Any) -> list[Row]:
    return [Row(24 * day, tenant, **changes) for day in range(days)]


def without(rows: list[Row], *gone: tuple[str, int]) -> list[Row]:
    return [row for row in rows if (row.tenant, row.start) not in gone]


def changed(rows: list[Row], begun: int, **changes: Any) -> list[Row]:
    return [replace(row, **changes) if row.start == begun else row for row in rows]


def the(kind: str, rows: list[Found]) -> Found:
    (one,) = [each for each in rows if each.kind == kind]
    return one


def f(  # noqa: PLR0917 - as the columns of the table
    kind: str,
    start: Any,
    end: Any,
    measured: Any,
    limit: Any,
    origin: str = "default",
    ids: tuple[str, ...] = (),
    certainty: str = "inferred",
    severity: str = "",
    **changes: Any,
) -> Found:
    grade = severity or KINDS[kind].severity
    return Found(kind, start, end, measured, limit, origin, ids, certainty, grade, **changes)


def check(sets: Any, expected: list[Found], policy: Policy | None = None, now: Any = None) -> None:
    """Compare everything that is found, whatever its order."""
    key = str
    assert sorted(found(sets, policy, now), key=key) == sorted(expected, key=key)


# --- G1 to G6: gaps -------------------------------------------------------------------------------


def test_clean() -> None:
    check(facts(daily(8), 188), [])


def test_never_protected() -> None:
    """29 hours from the first run on nothing can be restored; 28 are allowed."""
    rows = [Row(0, state="failed"), Row(24, state="failed")]
    ids = ("t0@0", "t0@24")
    expected = [
        f("G1", 28, 29, 29, DEFAULT),
        f("G5", 28, 29, 29, DEFAULT, ids=ids, severity="critical"),
        f("G13", 29, 29, 0, 1),
    ]
    check(facts(rows, 29), expected)
    assert not {"G1", "G5"}.intersection(kinds(facts(rows, 28)))


def test_never_in_a_set_but_in_the_inventory() -> None:
    """Created at 100, now is 188."""
    listed = [Listed("t0"), Listed("t1", created=100)]
    own = {"tenant": "t1", "certainty": "proved"}
    check(facts(daily(8), 188, listed=listed), [f("G1", 100, 188, 88, DEFAULT, **own)])
    assert kinds(facts(daily(8), 188, listed=listed)) == ["G1"]
    listed[1] = Listed("t1", created=160)
    check(facts(daily(8), 188, listed=listed), [])
    listed[1] = Listed("t1", created=159.99)
    assert kinds(facts(daily(8), 188, listed=listed)) == ["G1"]
    listed[1] = Listed("t1")
    (one,) = found(facts(daily(8), 188, listed=listed))
    assert (one.kind, one.start, one.measured) == ("G1", None, None)


def test_never_protected_and_gone() -> None:
    """By the inventory it is gone: a warning up to its last row, and nothing after it."""
    rows = daily(8) + [Row(24 * day, "t1", state="failed") for day in range(3)]
    expected = [
        f("G1", 28, 49, 49, DEFAULT, severity="warning"),
        f("G5", 28, 49, 49, DEFAULT, ids=("t1@0", "t1@24", "t1@48")),
        f("G24", 0, 49, 3, 0, "data", ("c0", "c48"), "proved"),
        f("G25", 72, 169, 5, 0, "data", ("c72", "c168"), "proved"),
    ]
    sets = facts(rows, 188, listed=[Listed("t0")])
    check(sets, [replace(each, tenant="t1") for each in expected])


def test_head_gap() -> None:
    """The window begins at 50; the last checkpoint before is 1, the next set ends at 73."""
    rows = [Row(0, inside=False), *daily(8)[3:]]
    ids = ("t0@0", "t0@72")
    head = [f("G2", 50, 73, 72, DEFAULT, ids=ids), f("G6", 50, 73, 72, DEFAULT, ids=ids)]
    check(facts(rows, 188, start=50), head)
    # Exposure is 28 at the start: the gap begins with the window, or after it.
    assert "G2" in kinds(facts(rows, 188, start=29.01))
    assert "G2" not in kinds(facts(rows, 188, start=28.99))
    assert {"G4", "G6"} <= set(kinds(facts(rows, 188, start=28.99)))


def test_no_head_gap_of_a_tenant_that_was_not_there() -> None:
    """By the inventory it was created in the window, three hours before its first restore point."""
    sets = facts(daily(8)[3:], 188, start=10, listed=[Listed(created=70)])
    check(sets, [])


def test_no_head_gap_of_a_tenant_of_which_nothing_is_known() -> None:
    """Whether it was there when the window began is in no row: an unknown head is no gap."""
    assert set(kinds(facts(daily(8)[3:], 188, start=10))) <= {"G30"}


def test_head_gap_of_a_tenant_that_was_there() -> None:
    assert "G2" in kinds(facts(daily(8)[3:], 188, start=10, listed=[Listed(created=0)]))


def test_stale_and_lost_now() -> None:
    """The newest checkpoint is 169."""
    ids = ("t0@168",)
    policy = Policy(schedule="1D", grace="9h")
    late = Policy(schedule={"full": "30D"})

    def now(hour: float) -> list[Found]:
        return found(facts(daily(8), hour), late)

    assert now(169 + 26) == []
    warned = f("G21", 169, 195.5, 26.5, DEFAULT, ids=ids, severity="warning")
    assert now(195.5) == [warned]
    assert now(169 + 28) == [replace(warned, end=197.0, measured=28.0)]
    check(
        facts(daily(8), 197.5),
        [
            f("G3", 197, 197.5, 28.5, DEFAULT, ids=ids),
            f("G6", 197, 197.5, 28.5, DEFAULT, ids=ids, severity="critical"),
            f("G21", 169, 197.5, 28.5, DEFAULT, ids=ids),
        ],
        late,
    )
    # With nine hours of grace it is within them.
    assert [(e.kind, e.severity) for e in found(facts(daily(8), 197.5), policy)] == [
        ("G21", "warning")
    ]


def test_stale_ends_with_the_set_that_ends() -> None:
    """Now is the very instant from which the newest set can be restored: the gap is over.

    That is the rule for files: their `as_of` is the newest time in them.
    """
    rows = [Row(0), Row(24), Row(72)]
    ids = ("t0@24", "t0@72")
    closed = [f("G4", 53, 73, 48, DEFAULT, ids=ids), f("G6", 53, 73, 48, DEFAULT, ids=ids)]
    check(facts(rows, 73.01), closed)
    check(facts(rows, 73), closed)
    check(tenants(rows), closed)


def test_of_what_was_not_asked_for_nothing_is_said() -> None:
    """Sets were asked for up to 100, and that was done at 1000: what came after is not known."""
    sets = facts([Row(-24, inside=False), *daily(5)], 1000, start=0)
    sets = replace(sets, window=Window(at(0), at(100)))
    check(sets, [], Policy(schedule="1D"))


def test_a_window_that_ends_later_than_now() -> None:
    """Sets were asked for up to 450, and it is asked of 100: nothing reaches beyond that."""
    rows = [Row(0, full=False, trigger="BACKUP_NOW"), Row(24)]
    late = found(facts(rows, 450, start=0), None, at(100))
    assert {each.end for each in late if each.kind in {"G3", "G21"}} == {100}
    assert all(each.end is None or each.end <= 100 for each in late)
    assert "G28" not in {each.kind for each in late}


def test_everything_is_gone() -> None:
    """By the archive the sets were gone at 50: nothing can be restored, and no run was begun."""
    sets = facts([Row(0, gone=50), Row(24, gone=50)], 100)
    by_kind = {each.kind: each for each in found(sets)}
    assert by_kind.keys() == {"G3", "G6", "G13", "G21"}
    assert {(each.severity, each.end) for each in by_kind.values()} == {("critical", 100)}
    assert by_kind["G3"].start == 50


def test_gap_between_restore_points() -> None:
    """Usable at 55 is what restores to 55; before that 25 is the newest."""
    ids = ("t0@24", "t0@54")
    gap = [f("G4", 53, 55, 30, DEFAULT, ids=ids), f("G6", 53, 55, 30, DEFAULT, ids=ids)]
    check(facts([Row(0), Row(24), Row(54)], 60), gap)
    check(facts([Row(0), Row(24), Row(52)], 60), [])
    # A minute more; begun at 52, so that somebody was late, but not silent.
    assert kinds(facts([Row(0), Row(24), Row(52 + 1 / 60)], 60)) == ["G4"]


def test_gap_counts_to_the_end_not_to_the_checkpoint() -> None:
    """The set that ends the gap restores to 49 and can be restored from 54 on."""
    rows = [Row(0), Row(24), Row(48, checkpoint=49, end=54), Row(72)]
    check(facts(rows, 75), [f("G4", 53, 54, 29, DEFAULT, ids=("t0@24", "t0@48"))])


def test_failed_only_gap() -> None:
    """A run was begun at 24, and failed: the gap is not silent."""
    rows = [Row(0), Row(24, state="failed"), Row(48), Row(72)]
    expected = [
        f("G4", 29, 49, 48, DEFAULT, ids=("t0@0", "t0@48")),
        f("G5", 29, 49, 48, DEFAULT, ids=("t0@24",)),
    ]
    check(facts(rows, 73.5), expected)
    check(facts(changed(rows, 24, state="cancelled"), 73.5), expected)


def test_gap_with_a_run_that_was_late() -> None:
    """The run that ended it began at 24, in time, and took six hours: nothing failed."""
    rows = [Row(0), Row(24, end=30), Row(48)]
    check(facts(rows, 50), [f("G4", 29, 30, 29, DEFAULT, ids=("t0@0", "t0@24"))])


# --- G7 and G8: schedules -------------------------------------------------------------------------

EVERY_DAY = Policy(schedule="0 0 * * *", rpo="60h")


def test_missed_run() -> None:
    """Midnight of the third day, hour 48: filled by what begins from 47 to 50."""
    missed = f("G7", 48, 48, 1, 0, "policy", ("t0@24", "t0@72"), "proved")
    check(facts([Row(0), Row(24), Row(72)], 74), [missed], EVERY_DAY)
    for start in (47, 48, 50):
        check(facts([Row(0), Row(24), Row(start), Row(72)], 74), [], EVERY_DAY)
    early = replace(missed, ids=("t0@46.98", "t0@72"))
    check(facts([Row(0), Row(24), Row(46.98), Row(72)], 74), [early], EVERY_DAY)


def test_missed_runs_in_a_row() -> None:
    """With a failed one among them; apart from that of day 6."""
    rows = [Row(0), Row(24, state="failed"), *daily(6)[3:], Row(168)]
    expected = [
        f("G7", 24, 48, 2, 0, "policy", ("t0@0", "t0@72"), "proved"),
        f("G7", 144, 144, 1, 0, "policy", ("t0@120", "t0@168"), "proved"),
    ]
    check(facts(rows, 169.5), expected, replace(EVERY_DAY, rpo="90h"))


def test_late_run() -> None:
    """By the default grace of two hours."""
    rows = [Row(0), Row(24), Row(50.25), Row(72)]
    check(
        facts(rows, 74),
        [f("G8", 48, 50.25, 2.25, 2, ids=("t0@50.25",), certainty="proved")],
        EVERY_DAY,
    )
    assert kinds(facts([Row(0), Row(24), Row(50), Row(72)], 74), EVERY_DAY) == []


def test_missed_run_of_an_inferred_schedule() -> None:
    rows = without(daily(12), ("t0", 144))
    ids = ("t0@120", "t0@168")
    missed = f("G7", 144, 144, 1, 0, "inferred", ids)
    check(facts(rows, 267), [missed], Policy(rpo="60h"))


def test_a_slot_is_owed_until_its_grace_is_over() -> None:
    rows = daily(8)
    assert "G7" not in kinds(facts(rows, 193.9), EVERY_DAY)
    assert "G7" in kinds(facts(rows, 194.1), EVERY_DAY)


BERLIN = "Europe/Berlin"


def wall(text: str, zone: str = BERLIN, *, summer: bool = False) -> float:
    """Return an instant by a clock on the wall, in hours."""
    stamp = pd.Timestamp(text).tz_localize(zone, ambiguous=summer)
    return (stamp - T0) / pd.Timedelta("1h")


@pytest.mark.parametrize("schedule", ["0 12 * * *", "1D", None])
@pytest.mark.parametrize(("month", "changes"), [("03", 29), ("10", 25)])
def test_days_of_23_and_25_hours(schedule: str | None, month: str, changes: int) -> None:
    """Runs at noon by the clock in Berlin, and five minutes of grace; then one of them missing."""
    days = [f"2026-{month}-{day} 12:00" for day in range(changes - 6, changes + 3)]
    now = wall(f"2026-{month}-{changes + 2} 13:30")
    policy = Policy(tz=BERLIN, schedule=schedule, grace="5min", rpo="60h")
    check(facts([Row(wall(day)) for day in days], now), [], policy)
    noon = wall(f"2026-{month}-{changes} 12:00")
    rows = [Row(wall(day)) for day in days if wall(day) != noon]
    (missed,) = found(facts(rows, now), policy)
    assert (missed.kind, missed.start, missed.end, missed.measured) == ("G7", noon, noon, 1)


def test_the_hour_that_does_not_exist_and_the_one_that_comes_twice() -> None:
    """02:30 in Berlin: on March 29th the clock shows 03:30, on October 25th it is shown twice."""
    policy = Policy(tz=BERLIN, schedule="30 2 * * *")
    spring = [wall(f"2026-03-{day} 0{3 if day == 29 else 2}:30") for day in range(25, 32)]
    check(facts([Row(hour) for hour in spring], spring[-1] + 3), [], policy)
    autumn = [wall(f"2026-10-{day} 02:30", summer=True) for day in range(21, 29)]
    check(facts([Row(hour) for hour in autumn], autumn[-1] + 3), [], policy)


# --- G9 and G10: full sets and chains -------------------------------------------------------------


def test_full_set_too_old() -> None:
    """The full's checkpoint is 1; 168 and 2 hours of grace are over at 171."""
    weekly = Policy(full_every="7D", schedule={"full": "30D"})
    rows = [Row(0), *[Row(24 * day, full=False) for day in range(1, 8)], Row(192)]
    then = f("G9", 171, 193, 192, 168, "policy", ("t0@0",))
    check(facts(rows, 200), [then], weekly)
    check(facts(changed(rows, 192, start=170), 190), [], weekly)
    check(facts(rows[:-1], 171), [], weekly)
    now = f("G9", 171, 171.5, 170.5, 168, "policy", ("t0@0",))
    check(facts(rows[:-1], 171.5), [now], weekly)
    assert kinds(facts(rows[:-1], 190)) == []


CHAIN = [Row(0), *[Row(24 * day, full=False) for day in range(1, 8)]]


def test_chain_too_deep() -> None:
    """Seven incrementals on a full; the eight sets took eight hours to write."""
    deep = f("G10", 1, 172, 7, 6, "policy", ("t0@168",))
    check(facts(CHAIN, 172), [deep], Policy(max_chain=6))
    check(facts(CHAIN, 172), [], Policy(max_chain=7))
    check(facts(CHAIN, 172), [], Policy(rto="8h"))
    (slow,) = found(facts(CHAIN, 172), Policy(rto="479min"))
    assert (slow.kind, slow.origin, slow.severity) == ("G10", "policy", "warning")


def test_a_chain_counts_up_to_the_newest_restore_point_only() -> None:
    rows = [*CHAIN, Row(192)]
    check(facts(rows, 195), [], Policy(max_chain=6))


# --- G11 and G12: chains that are broken ----------------------------------------------------------

LONG = Policy(rpo="500h", schedule={"full": "60D"})


def test_orphans_without_a_full() -> None:
    rows = [Row(0, full=False), Row(24, full=False), Row(48)]
    lost = f("G11", 0, 25, 2, 0, "data", ("t0@0", "t0@24"), "unknown")
    check(facts(rows, 50), [lost], LONG)


def test_orphans_of_a_full_that_is_not_valid() -> None:
    rows = [Row(0), Row(24, validity="INVALID"), Row(48, full=False), Row(72, full=False), Row(96)]
    expected = [
        f("G11", 48, 73, 2, 0, "data", ("t0@24", "t0@48", "t0@72")),
        f("G16", 24, 25, 1, 0, "data", ("t0@24",), "proved"),
    ]
    check(facts(rows, 98), expected, LONG)


def test_orphans_of_a_full_that_failed_do_not_exist() -> None:
    """What failed writes no link: the incrementals are on the full before."""
    rows = [Row(0), Row(24, state="failed"), Row(48, full=False)]
    check(facts(rows, 50), [], LONG)


def test_broken_chain() -> None:
    """The incremental of 24 is bad, its full is fine; the sets of 48 and 72 hang on it."""
    bad = {"full": False, "validity": "INVALID"}
    rows = [Row(0), Row(24, **bad), Row(48, full=False), Row(72, full=False), Row(96)]
    expected = [
        f("G12", 48, 73, 2, 0, "data", ("t0@24", "t0@48", "t0@72")),
        f("G16", 24, 25, 1, 0, "data", ("t0@24",), "proved"),
    ]
    check(facts(rows, 98), expected, LONG)


def test_behind_a_bad_full_and_a_bad_incremental_is_orphaned() -> None:
    """G12 is for those whose full is fine; here it is not."""
    rows = [
        Row(0),
        Row(24, validity="INVALID"),
        Row(48, full=False, validity="INVALID"),
        Row(72, full=False),
        Row(96),
    ]
    assert kinds(facts(rows, 98), LONG) == ["G11", "G16"]


# --- G13 to G15, G17: what is kept ----------------------------------------------------------------


def test_too_few_full_sets() -> None:
    few = f("G13", 188, 188, 8, 9, "policy", ("t0@168",))
    check(facts(daily(8), 188), [few], Policy(min_redundancy=9))
    check(facts(daily(8), 188), [], Policy(min_redundancy=8))
    orphans = [Row(0, full=False), Row(24, full=False)]
    assert "G13" in kinds(facts(orphans, 28.5))  # RPO and grace after its first run
    check(
        facts([Row(0, full=False)], 2),
        [f("G11", 0, 1, 1, 0, "data", ("t0@0",), "unknown")],
        Policy(min_redundancy=0),
    )


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_new_tenant_is_given_time_for_its_first_full(state: str) -> None:
    """It appeared an hour and a half ago: that is told (G25), but nothing critical happened."""
    rows = [*daily(8), Row(168.5, "t1", state=state)]
    assert "critical" not in {each.severity for each in found(facts(rows, 170))}


def test_recovery_window_too_short() -> None:
    """Now is 188: seven days ago was 20. The oldest full's checkpoint is 25."""
    week = Policy(retention_days=7)
    rows = daily(8)[1:]
    short = f("G14", 20, 25, 163, 168, "policy", ("t0@24",))
    check(facts(rows, 188, listed=[Listed(created=0)]), [short], week)
    doubted = replace(short, certainty="unknown", severity="info")
    check(facts(rows, 188), [doubted], week)
    # Younger than its retention, or a full of long ago.
    check(facts(rows, 188, listed=[Listed(created=20.5)]), [], week)
    check(facts(rows, 193, listed=[Listed(created=0)]), [], week)
    check(
        facts(rows, 192.9, listed=[Listed(created=0)]),
        [f("G14", 24.9, 25, 167.9, 168, "policy", ("t0@24",))],
        week,
    )


def test_kept_too_long() -> None:
    """The full of 24 came of age at 25 + 120: for an hour the service may be late."""
    rows, policy = [Row(0), Row(24)], replace(LONG, retention_days=5)
    check(facts(rows, 146), [], policy)
    kept = f("G15", 145, 146.5, 1, 0, "policy", ("t0@0",))
    check(facts(rows, 146.5), [kept], policy)


def january(day: float, **changes: Any) -> Row:
    return Row(24 * (day - 1), **changes)


def test_the_vendors_example_of_retention() -> None:
    """On January 15th, with seven days: up to the 8th the full of the 7th is the newest.

    It stays with what is behind it; the sets of the 1st and the 4th go.
    """
    vendor = [
        january(1),
        january(4, full=False),
        january(7),
        january(11, full=False),
        january(14),
    ]
    policy = replace(LONG, retention_days=7)
    (over,) = found(facts(vendor, 24 * 14), policy)
    assert (over.kind, over.measured, over.ids[0]) == ("G15", 2, "t0@0")
    assert (over.start, over.end) == (24 * 6 + 1 + 24 * 7, 24 * 14)
    # Once they are gone nothing is wrong: the full of the 7th reaches back to before the 8th.
    check(facts(vendor[2:], 24 * 14, listed=[Listed(created=0)]), [], policy)


EXPIRING = [Row(0), Row(168), Row(336, validity="INVALID")]
"""The service counts the full of 336, which is of no use: with a window of five days that of 168
goes at 337 + 120 = 457. A full each week: the next is to end at 337 + 168 = 505."""


@pytest.mark.parametrize(
    "told",
    [{"full_every": "7D"}, {"schedule": {"full": "7D"}}, {}],
    ids=["full_every", "schedule", "inferred"],
)
def test_coverage_about_to_expire(told: dict[str, Any]) -> None:
    policy = Policy(rpo="500h", retention_days=5, min_redundancy=1, **told)
    going = the("G17", found(facts(EXPIRING, 340), policy))
    assert (going.start, going.end, going.measured, going.severity) == (457, 505, 48, "critical")
    assert going.ids == ("t0@168",)
    later = replace(policy, retention_days=8)  # 337 + 192 = 529: after the next full
    assert "G17" not in kinds(facts(EXPIRING, 340), later)
    assert "G17" not in kinds(facts(changed(EXPIRING, 336, validity="VALID"), 340), policy)


# --- G16 to G20, G29, G32: what is wrong with a set -----------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sure", "end"),
    [
        ({"validity": "INVALID"}, "proved", 73),
        ({"validity": None}, "unknown", 73),
        ({"checkpoint": None}, "proved", 73),
        ({"end": None, "checkpoint": None}, "proved", 72),
    ],
)
def test_done_but_not_usable(wrong: dict[str, Any], sure: str, end: float) -> None:
    rows = [*daily(3), Row(72, **wrong), Row(74), Row(96)]
    check(facts(rows, 98), [f("G16", 72, end, 1, 0, "data", ("t0@72",), sure)], LONG)


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired", "unknown"])
def test_what_is_not_done_is_no_hollow_promise(state: str) -> None:
    rows = [*daily(3), Row(72, state=state), Row(74), Row(96)]
    assert "G16" not in kinds(facts(rows, 98), LONG)


def test_running_too_long_by_policy() -> None:
    rows, policy = [*daily(3), Row(50, state="running")], Policy(max_running="6h")
    check(facts(rows, 56), [], policy)
    check(facts(rows, 56.5), [f("G18", 50, 56.5, 6.5, 6, "policy", ("t0@50",), "proved")], policy)


def test_running_too_long_by_its_past() -> None:
    """Six runs of an hour: at least six hours are allowed. Of four nothing can be told: 24."""
    rows = [*daily(6), Row(140, state="running")]
    check(facts(rows, 146), [])
    check(facts(rows, 146.5), [f("G18", 140, 146.5, 6.5, 6, "inferred", ("t0@140",))])
    rows = [*daily(4), Row(75, state="running")]
    assert "G18" not in kinds(facts(rows, 99), LONG)
    few = the("G18", found(facts(rows, 99.5), LONG))
    assert (few.measured, few.limit) == (24.5, 24)


def test_running_too_long_by_a_past_that_varies() -> None:
    """Runs of 1, 2, 4, 8, 16 h: exp(median + 5 deviations of the logs), median 4 h."""
    took = [1, 2, 4, 8, 16]
    rows = [Row(24 * day, end=24 * day + hours) for day, hours in enumerate(took)]
    deviation = 1.4826 * np.median(np.abs(np.log(took) - np.log(4)))
    limit = 4 * np.exp(5 * deviation)
    rows += [Row(118, state="running")]
    slow = Policy(rpo="5000h", schedule={"full": "900D"})
    assert "G18" not in kinds(facts(rows, 118 + limit - 0.1), slow)
    long = the("G18", found(facts(rows, 118 + limit + 0.1), slow))
    assert long.limit == pytest.approx(limit)


def test_a_limit_that_nobody_gave_is_not_inferred() -> None:
    """With four runs there is no past to infer a limit from: 24 hours are a default."""
    rows = [*daily(4), Row(75, state="running")]
    assert the("G18", found(facts(rows, 99.5), LONG)).origin == "default"


def test_stuck() -> None:
    """Unfinished since 24, though that of 48 ended at 49."""
    rows = [Row(0), Row(24, state="running"), Row(48)]
    stuck = the("G19", found(facts(rows, 50), LONG))
    assert stuck == f("G19", 24, 50, 26, 0, "data", ("t0@24", "t0@48"), "proved")
    assert "G19" not in kinds(facts([Row(0), Row(24, state="running")], 50), LONG)


def test_overlapping() -> None:
    rows = [Row(0), Row(24, end=26.5), Row(26), Row(48)]
    check(facts(rows, 50), [f("G19", 26, 26.5, 0.5, 0, "data", ("t0@24", "t0@26"), "proved")], LONG)
    check(facts(changed(rows, 24, end=26), 50), [], LONG)


def test_overlapping_and_both_unfinished() -> None:
    rows = [Row(0), Row(24, state="running"), Row(26, state="running")]
    assert the("G19", found(facts(rows, 27), LONG)).ids == ("t0@24", "t0@26")


def test_checkpoint_lag() -> None:
    """A quarter of 26 hours is 6.5."""
    rows = [Row(0), Row(12, checkpoint=12.5, end=19.25), Row(24)]
    lag = f("G20", 12.5, 19.25, 6.75, 6.5, "default", ("t0@12",), "proved")
    check(facts(rows, 26), [lag])
    check(facts(changed(rows, 12, end=19), 26), [])
    policy = Policy(checkpoint_lag="7h")
    check(facts(rows, 26), [], policy)
    check(
        facts(rows, 26), [replace(lag, limit=0.5, origin="policy")], Policy(checkpoint_lag="30min")
    )


def lagging(last: float) -> list[Row]:
    """Return 20 sets that end 12 minutes after their checkpoints, and 10 that end later."""
    lags = [0.2] * 20 + [last] * 10
    return [
        Row(24 * day, end=24 * day + 1, checkpoint=24 * day + 1 - lag)
        for day, lag in enumerate(lags)
    ]


def test_checkpoint_lag_that_grew() -> None:
    """Three times 12 minutes are 36."""
    grown = f("G20", 480, 697, 0.65, 0.6, "inferred", ("t0@480", "t0@696"))
    check(facts(lagging(0.65), 698), [grown])
    check(facts(lagging(0.55), 698), [])
    short = [replace(row, checkpoint=row.end) for row in lagging(0.45)[:20]]
    assert kinds(facts([*short, *lagging(0.45)[20:]], 698)) == []


SIZES = [10, 10.1, 9.9, 10.05, 9.95, 10, 10.1, 9.9]


def test_hollow_success() -> None:
    """The median of the eight before is 10."""

    def sized(last: float) -> list[Row]:
        return [Row(24 * day, size=size) for day, size in enumerate([*SIZES, last])]

    hollow = f("G29", 192, 193, 4.75, 5, "inferred", ("t0@192",))
    check(facts(sized(4.75), 194), [hollow])
    check(facts(sized(5.0), 194), [])
    check(facts(sized(5.25), 194), [])
    # Of no size at all it is whatever was before it.
    nothing = replace(hollow, measured=0.0, limit=0.01, origin="data")
    check(facts(sized(0), 194), [nothing])
    few = [Row(24 * day, size=size) for day, size in enumerate([*SIZES[:7], 0.1])]
    check(facts(few, 170), [])


def test_what_varies_much_is_not_hollow() -> None:
    """Sizes that double and halve: less than half is within six deviations of their logs."""
    sizes = [10, 3, 20, 5, 12, 9, 2, 30, 4]
    rows = [Row(24 * day, size=size) for day, size in enumerate(sizes)]
    check(facts(rows, 194), [])


def test_an_incremental_is_not_hollow_against_full_sets() -> None:
    rows = [Row(24 * day, size=size) for day, size in enumerate(SIZES)]
    check(facts([*rows, Row(192, full=False, size=0.1)], 194), [], LONG)


def test_clock_faults() -> None:
    """An end before the start, and a checkpoint after the end."""
    rows = [*daily(3), Row(72, end=71.5, checkpoint=71.25), Row(74), Row(96)]
    clock = f("G32", 72, 72, 1, 0, "data", ("t0@72",), "proved")
    expected = {"G16", "G32"}
    assert set(kinds(facts(rows, 98), LONG)) == expected
    assert the("G32", found(facts(rows, 98), LONG)) == clock
    rows = changed(rows, 72, end=73, checkpoint=73.5)
    assert set(kinds(facts(rows, 98), LONG)) == expected
    check(facts(changed(rows, 72, end=73, checkpoint=72), 98), [], LONG)
    check(facts(changed(rows, 72, state="failed", end=71.5, checkpoint=None), 98), [clock], LONG)


def test_no_finding_ends_before_it_begins() -> None:
    rows = [*daily(3), Row(72, end=71.5, checkpoint=71.25), Row(74), Row(96)]
    for each in found(facts(rows, 98), LONG):
        assert each.start <= each.end, each


# --- G22 and G23: logs ----------------------------------------------------------------------------


def test_log_break() -> None:
    """13 hours that no interval of the service holds; the gap in them is within the RPO."""
    broken = f("G22", 60, 73, 13, 0, "data", (), "proved")
    intervals = [("t0", 1, 60), ("t0", 73, 188)]
    check(facts(daily(8), 188, intervals=intervals), [broken])
    check(facts(daily(8), 188, intervals=[("t0", 1, 73), ("t0", 73, 188)]), [])
    check(facts(daily(8), 188, intervals=[("t0", 1, 80), ("t0", 73, 188)]), [])
    check(facts(daily(8), 188, intervals=[("t0", 1, 188)]), [])


def test_what_is_lost_now_names_the_set_that_restores() -> None:
    """The interval ends at 100: there the set of 96 is the base, newer ones are in no interval."""
    sets = facts(daily(8), 188, intervals=[("t0", 1, 100)])
    lost = [each for each in found(sets) if each.kind in {"G3", "G21"}]
    assert [(each.measured, each.ids) for each in lost] == [(88, ("t0@96",))] * 2


def test_log_without_base() -> None:
    """The run of 0 failed, that of 24 restores to 25: logs from before restore nothing."""
    rows = [Row(0, state="failed"), Row(24), Row(48)]
    bare = f("G23", 0, 25, 25, 0, "data")
    check(facts(rows, 60, intervals=[("t0", 0, 60)]), [bare])
    check(facts(rows, 60, intervals=[("t0", 24, 60)]), [])
    check(facts(rows, 60, intervals=[("t0", 23.5, 60)]), [replace(bare, start=23.5, measured=1.5)])


# --- G24, G25, G34: cluster sets ------------------------------------------------------------------

TWO = [*daily(8), *daily(8, "t1")]


def test_missing_from_a_cluster_set() -> None:
    missing = f("G24", 96, 97, 1, 0, "data", ("c96",), "proved", tenant="t1")
    check(facts(without(TWO, ("t1", 96)), 188), [missing], LONG)
    failed = [
        replace(row, state="failed") if (row.tenant, row.start) == ("t1", 96) else row
        for row in TWO
    ]
    check(facts(failed, 188), [missing], LONG)
    two = without(TWO, ("t1", 96), ("t1", 120))
    check(facts(two, 188), [replace(missing, end=121.0, measured=2.0, ids=("c96", "c120"))], LONG)
    apart = without(TWO, ("t1", 48), ("t1", 120))
    check(
        facts(apart, 188),
        [
            replace(missing, start=48.0, end=49.0, ids=("c48",)),
            replace(missing, start=120.0, end=121.0, ids=("c120",)),
        ],
        LONG,
    )


def test_a_cluster_set_that_is_not_done_owes_nobody() -> None:
    rows = without(TWO, ("t1", 96))
    for state in ("failed", "running", "cancelled"):
        check(facts(rows, 188, extra=(Cluster("c96", 96, state, 97),)), [], LONG)


def test_a_set_by_hand_of_one_tenant_expects_no_other() -> None:
    by_hand = Row(170, trigger="BACKUP_NOW")
    check(facts([*TWO, by_hand], 188), [])
    others = [replace(row, trigger="BACKUP_NOW") for row in without(TWO, ("t1", 96))]
    assert kinds(facts(others, 188), LONG) == ["G24"]  # all are: they expect everybody


def test_a_tenant_that_appeared() -> None:
    rows = [*daily(8), *daily(8, "t1")[4:]]
    new = f("G25", 96, 96, 1, 0, "data", ("t1@96",), "proved", tenant="t1")
    check(facts(rows, 188), [new])
    running = [*daily(8), Row(168, "t1", state="running")]
    told = the(
        "G25", found(facts(running, 169.5, extra=(Cluster("c168", 168, end=169, size=1.0),)))
    )
    assert (told.severity, told.start, told.tenant) == ("warning", 168, "t1")
    check(facts(TWO, 188), [])  # both are in the first set that there is


def test_when_a_tenant_appeared_in_the_sets_is_told() -> None:
    """By the inventory it was created at 90, and the first set that holds it began at 96."""
    rows = [*daily(8), *daily(8, "t1")[4:]]
    (row,) = findings(
        facts(rows, 188, listed=[Listed("t0"), Listed("t1", created=90)])
    ).itertuples()
    assert row.kind == "G25"
    assert "cluster sets at 2026-01-04 18:00" not in row.sentence


def test_a_tenant_that_is_gone() -> None:
    """In none of the newest three: gone, though nobody says so; in two of them: missing."""
    three = without(TWO, *(("t1", 24 * day) for day in (5, 6, 7)))
    gone = f("G25", 120, 169, 3, 0, "data", ("c120", "c168"), "unknown", "warning", tenant="t1")
    assert the("G25", found(facts(three, 173))) == gone
    assert "G24" not in kinds(facts(three, 173))
    two = without(TWO, ("t1", 144), ("t1", 168))
    assert "G25" not in kinds(facts(two, 173))
    assert the("G24", found(facts(two, 173))).measured == 2
    # The inventory has the last word.
    there = facts(three, 173, listed=[Listed("t0"), Listed("t1")])
    assert the("G24", found(there)).measured == 3
    assert "G25" not in kinds(there)
    dropped = facts(three, 173, listed=[Listed("t0")])
    check(dropped, [replace(gone, certainty="proved", severity="info")])


def test_doubt_is_of_the_time_after_it_was_last_seen() -> None:
    """Not in the newest three; that a run was missed before, at 96, is as sure as ever."""
    rows = [*daily(12), *without(daily(9, "t1"), ("t1", 96))]
    missed = [each for each in found(facts(rows, 270)) if each.kind == "G7"]
    assert {each.start: each.certainty for each in missed} == {96: "inferred", 216: "unknown"}


def test_what_is_stopped_owes_nothing() -> None:
    three = without(TWO, *(("t1", 24 * day) for day in (5, 6, 7)))
    check(facts(three, 173, listed=[Listed("t0"), Listed("t1", status="STOPPED")]), [])
    stopped = [Listed(name, instance_status="STOPPED") for name in ("t0", "t1")]
    check(facts(TWO, 1000, listed=stopped), [])
    check(facts(daily(8), 188, listed=[Listed(), Listed("t9", status="STOPPED", created=0)]), [])
    assert "G3" in kinds(facts(TWO, 1000, listed=[Listed("t0"), Listed("t1")]))


@pytest.mark.parametrize("listed", [[], [Listed("t1", status="STOPPED")]], ids=["gone", "stopped"])
def test_after_its_last_row_nothing_is_owed(listed: list[Listed]) -> None:
    """Its last run never ended: that is over with the tenant."""
    rows = [*daily(9), *daily(3, "t1"), Row(60, "t1", state="running")]
    sets = facts(rows, 200, listed=[Listed("t0"), *listed])
    assert set(kinds(sets, Policy(rpo="60h"))) <= {"G25"}


def test_what_was_wrong_before_it_was_dropped_stays() -> None:
    """A gap from 29 to 73, then it is dropped; nothing is owed after its last row."""
    rows = [*daily(9), Row(0, "t1"), Row(72, "t1"), Row(96, "t1")]
    listed = [Listed("t0")]
    expected = [
        f("G4", 29, 73, 72, DEFAULT, ids=("t1@0", "t1@72"), tenant="t1"),
        f("G24", 24, 49, 2, 0, "data", ("c24", "c48"), "proved", tenant="t1"),
        f("G25", 120, 193, 4, 0, "data", ("c120", "c192"), "proved", tenant="t1"),
    ]
    check(facts(rows, 200, listed=listed), expected)


def test_a_rename_is_nothing() -> None:
    rows = [replace(row, name="old" if row.start < 96 else "new") for row in daily(8)]
    check(facts(rows, 188), [])
    assert findings(facts(rows, 500))["tenant_name"].unique().tolist() == ["new"]


def test_dropped_and_created_again_under_the_same_name() -> None:
    """Two ids, two tenants: the first one is gone, the second one is new, and has no gap."""
    rows = [*daily(8), *daily(4, "x1", name="n"), *daily(8, "x2", name="n")[4:]]
    expected = [
        f("G25", 96, 169, 4, 0, "data", ("c96", "c168"), "proved", tenant="x1"),
        f("G25", 96, 96, 1, 0, "data", ("x2@96",), "proved", tenant="x2"),
    ]
    check(facts(rows, 188, listed=[Listed("t0"), Listed("x2")]), expected)
    unknown = found(facts(rows, 188))
    assert {each.tenant: each.certainty for each in unknown if each.kind == "G3"} == {
        "x1": "unknown"
    }


def test_two_clusters_that_share_names_and_ids() -> None:
    rows = [*daily(8), *[replace(row, instance="ob2") for row in daily(8)]]
    check(facts(rows, 188), [])
    lacking = [row for row in rows if (row.instance, row.start) != ("ob2", 96)]
    ids = ("t0@72", "t0@120")
    expected = [
        f("G4", 101, 121, 48, DEFAULT, ids=ids, instance="ob2"),
        f("G6", 101, 121, 48, DEFAULT, ids=ids, instance="ob2"),
        f("G7", 96, 96, 1, 0, "inferred", ids, instance="ob2"),
    ]
    check(facts(lacking, 188), expected)


def test_sizes_that_do_not_add_up() -> None:
    """Two tenants of 1 GiB: up to 2.015 may be rounding."""
    rows = [*daily(3), *daily(3, "t1")]
    odd = facts(rows, 60, extra=(Cluster("c24", 24, end=25, size=2.02),))
    check(odd, [f("G34", 24, 25, 2.02, 2, "data", ("c24",), "proved", tenant=None)])
    check(facts(rows, 60, extra=(Cluster("c24", 24, end=25, size=2.015),)), [])
    check(facts(rows, 60, extra=(Cluster("c24", 24, "failed", end=25, size=9.0),)), [])


# --- G26 to G28, G30, G31 -------------------------------------------------------------------------


def test_copy_missing() -> None:
    both = Policy(copies=["standard", "archive"], copy_within="3D")
    (none,) = found(facts(daily(8), 188), both)
    assert (none.kind, none.measured, none.origin) == ("G26", None, "policy")
    rows = [*daily(8), *daily(5, storage="archive")]  # the newest copy's checkpoint is 97
    check(facts(rows, 169), [], both)
    (old,) = found(facts(rows, 169.5), both)
    assert (old.kind, old.start, old.end, old.measured, old.limit) == ("G26", 97, 169.5, 72.5, 72)
    check(facts(rows, 188), [], replace(both, copy_within=None))
    bad = [*daily(8), *daily(8, storage="archive", validity="INVALID")]
    assert kinds(facts(bad, 188), Policy(copies="archive")) == ["G26"]


def test_copies_in_two_storage_classes_are_one_set() -> None:
    check(facts([*daily(8), *daily(8, storage="archive")], 188), [])
    for wrong in ({"validity": "INVALID"}, {"state": "failed"}):
        check(facts([*daily(8), *daily(8, storage="archive", **wrong)], 188), [])


def test_not_exportable() -> None:
    three = Policy(export_within_days=3)
    rows = [replace(row, downloadable=row.start <= 96) for row in daily(8)]
    check(facts(rows, 97 + 72), [], three)
    (old,) = found(facts(rows, 97 + 72.5), three)
    assert (old.kind, old.start, old.end, old.measured) == ("G27", 97, 169.5, 72.5)
    assert (old.limit, old.origin, old.severity) == (72, "policy", "warning")
    (none,) = found(facts([replace(row, downloadable=False) for row in daily(8)], 188), three)
    assert (none.kind, none.measured) == ("G27", None)
    unasked = findings(facts(daily(8), 188), three)
    assert unasked.empty
    assert "G27" in unasked.attrs["not_judged"]


def test_rescued_by_hand() -> None:
    """Without the set of 71 there would be a gap from 77 to 97."""
    rows = [Row(0), Row(24), Row(48), Row(71, trigger="BACKUP_NOW"), Row(96), Row(120)]
    check(facts(rows, 125), [f("G28", 77, 97, 20, 0, "default", ("t0@71",))])
    check(facts([*rows, Row(72)], 125), [])
    all_by_hand = [replace(row, trigger="BACKUP_NOW") for row in rows]
    check(facts(all_by_hand, 125), [])
    check(facts(rows[:4], 90), [f("G28", 77, 90, 13, 0, "default", ("t0@71",))])
    logs = facts(rows, 125, intervals=[("t0", 1, 125)])
    assert "G28" in findings(logs).attrs["not_judged"]
    check(logs, [])


def test_what_failed_by_hand_rescues_nobody() -> None:
    """It is the set of 71 that does."""
    hand = [Row(71, trigger="BACKUP_NOW"), Row(74, trigger="BACKUP_NOW", state="failed")]
    rows = [Row(0), Row(24), Row(48), *hand, Row(96), Row(120)]
    assert the("G28", found(facts(rows, 125))).ids == ("t0@71",)
    same_time = [Row(71, trigger="BACKUP_NOW", id=name, cluster="h") for name in ("a", "b")]
    rows = [Row(0), Row(24), Row(48), *same_time, Row(96), Row(120)]
    one, other = (the("G28", found(facts(each, 125))).ids for each in (rows, rows[::-1]))
    assert one == other


def test_a_full_by_hand_that_carries_what_is_automatic() -> None:
    """Without the full of 80 the incremental of 96 would be on the one before: no gap."""
    rows = [Row(0), *[Row(24 * day, full=False) for day in range(1, 8)]]
    rows.insert(4, Row(80, trigger="BACKUP_NOW"))
    check(facts(rows, 170), [])


def test_blind_spots() -> None:
    unread = replace(facts(daily(8), 188), source=Source(failed={"ob9": "HTTP 500"}))
    (blind,) = found(unread)
    assert (blind.kind, blind.severity, blind.instance) == ("G30", "warning", "ob9")
    assert blind.tenant is None
    # Of the sets of 24 to 120 nobody says whether they are valid.
    rows = [Row(0), *daily(6, validity=None)[1:], Row(144)]
    policy = Policy(schedule={"full": "60D"})
    blind = the("G30", found(facts(rows, 146), policy))
    assert blind == f("G30", 29, 145, 144, DEFAULT, "default", ("t0@0", "t0@144"), "unknown")
    assert not {"G4", "G5", "G6"}.intersection(kinds(facts(rows, 146), policy))


def test_retention_shorter_than_a_fault() -> None:
    """The gap is from 53 to 97: 44 hours."""
    rows = [Row(0), Row(24), Row(96), Row(120)]
    lasted = [e for e in found(facts(rows, 125), Policy(retention_days=44 / 24)) if e.kind == "G31"]
    assert {(e.start, e.end, e.measured, e.limit) for e in lasted} == {(53, 97, 44, 44)}
    assert "G31" not in kinds(facts(rows, 125), Policy(retention_days=44.1 / 24))
    assert findings(facts(rows, 125)).attrs["not_judged"].keys() >= {"G31", "G33"}


# --- the policy -----------------------------------------------------------------------------------

GAP = [Row(0), Row(72)]
"""A gap from 1 + RPO + grace to 73; by default from 29."""


def bounds(policy: Policy, rows: list[Row] | None = None) -> list[tuple[Any, ...]]:
    listed = found(facts(rows or GAP, 80), policy)
    return [
        (each.tenant, each.start, each.limit, each.origin) for each in listed if each.kind == "G4"
    ]


def test_where_limits_come_from() -> None:
    assert bounds(Policy()) == [("t0", 29, 26, "default")]
    assert bounds(Policy(rpo="26h")) == [("t0", 29, 26, "policy")]
    assert bounds(Policy(rpo="30h", grace="0h")) == [("t0", 31, 30, "policy")]
    both = [*GAP, Row(0, "t1"), Row(72, "t1")]
    policy = Policy(
        rpo="40h",
        override=[Override(tenant="t1", rpo="30h"), Override(name="t*", instance="ob1", rpo="50h")],
    )
    assert sorted(bounds(policy, both)) == [
        ("t0", 53, 50, "override 2"),
        ("t1", 53, 50, "override 2"),
    ]
    policy = replace(policy, override=policy.override[::-1])
    assert sorted(bounds(policy, both)) == [
        ("t0", 53, 50, "override 1"),
        ("t1", 33, 30, "override 2"),
    ]


def test_the_policy_is_told() -> None:
    told = findings(facts(GAP, 80), Policy(rpo="30h")).attrs["policy"]
    assert told["rpo"] == ("30h", "policy")
    assert told["grace"] == ("2h", "default")


def test_exclusions() -> None:
    rows = [*GAP, Row(0, "t1"), Row(72, "t1")]
    policy = Policy(exclude=[Exclude(tenant="t0")])
    table = findings(facts(rows, 80), policy)
    assert set(table["tenant_id"]) == {"t1"}
    assert table.attrs["excluded"] == 1
    listed = [Listed("t0"), Listed("t1"), Listed("t9", created=0)]
    nobody = Policy(exclude=[Exclude(instance="ob1")])
    assert findings(facts(rows, 80, listed=listed), nobody).empty


JAN = "2026-01-{:02} {}"


def test_maintenance() -> None:
    """The gap is from 05:00 of January 2nd to 01:00 of the 4th."""

    def resting(start: str, end: str, **whose: Any) -> list[str]:
        policy = Policy(maintenance=[Maintenance(start=start, end=end, **whose)])
        return kinds(facts(GAP, 80), policy)

    assert resting("2026-01-02 05:00", "2026-01-04 01:00") == []
    assert resting("2026-01-02 05:01", "2026-01-04 01:00") == ["G4", "G6"]
    assert resting("2026-01-02 05:00", "2026-01-04 00:59") == ["G4", "G6"]
    assert resting("2026-01-02 05:00", "2026-01-04 01:00", tenant="t9") == ["G4", "G6"]
    assert resting("2026-01-02 05:00", "2026-01-04 01:00", name="t0") == []
    split = [
        Maintenance(start="2026-01-02", end="2026-01-03 12:00"),
        Maintenance(start="2026-01-03 12:00", end="2026-01-05"),
    ]
    assert kinds(facts(GAP, 80), Policy(maintenance=split)) == []


def test_maintenance_by_the_clock_of_the_policy() -> None:
    """Midnight in New York is 05:00 UTC; the gap ends at 20:00 of the 3rd there."""
    window = Maintenance(start="2026-01-02 00:00", end="2026-01-03 20:00")
    sets = facts(GAP, 80)
    assert kinds(sets, Policy(maintenance=[window], tz="America/New_York")) == []
    assert kinds(sets, Policy(maintenance=[window])) == ["G4", "G6"]


def test_maintenance_in_which_nothing_runs_now() -> None:
    """Everything that is wrong lies in it, from the last set on."""
    window = Maintenance(start="2026-01-03", end="2026-01-20")
    check(facts(daily(3), 120), [], Policy(maintenance=[window]))


def test_what_is_excused_is_no_reason_for_longer_retention() -> None:
    """The gap of 44 hours lies in a maintenance window, so that it is no fault (G31)."""
    window = Maintenance(start="2026-01-02", end="2026-01-05")
    policy = Policy(maintenance=[window], retention_days=1)
    assert "G31" in kinds(facts(GAP, 80), replace(policy, maintenance=()))
    assert "G31" not in kinds(facts(GAP, 80), policy)


def test_acknowledgements() -> None:
    """Now is hour 80, 08:00 of January 4th; what is known stays in the table."""

    def known(**entry: Any) -> list[bool]:
        policy = Policy(acknowledge=[Acknowledged(**entry)])
        table = findings(facts(GAP, 80), policy)
        assert table["kind"].tolist() == ["G4", "G6"]
        return table["acknowledged"].tolist()

    assert known(kind="G4", tenant="t0", until="2026-01-04 08:01") == [True, False]
    assert known(kind=["G4", "G6"], until="2026-02-01") == [True, True]
    assert known(kind="any", tenant="t0", until="2026-02-01") == [True, True]
    assert known(kind="any", tenant="t1", until="2026-02-01") == [False, False]
    assert known(kind="G4", until="2026-01-04 08:00") == [False, False]
    assert known(kind="G4", until="2026-02-01", start="2026-01-02 05:01") == [False, False]
    assert known(kind="G4", until="2026-02-01", start="2026-01-02 05:00") == [True, False]


def test_an_acknowledgement_that_ran_out_is_told() -> None:
    policy = Policy(acknowledge=[Acknowledged(kind="G4", until="2026-01-04 08:00", reason="why")])
    (note,) = findings(facts(GAP, 80), policy).attrs["notes"]
    assert "ran out" in note
    assert "why" in note
    assert findings(facts(GAP, 80), policy, at(79)).attrs["notes"] == ()


# --- sentences ------------------------------------------------------------------------------------


def test_sentences_tell_times_in_the_zone_of_the_policy() -> None:
    policy = Policy(tz="America/New_York")
    for sentence in findings(facts(GAP, 80), policy)["sentence"]:
        assert "2026-01-02 00:00 to 2026-01-03 20:00 America/New_York" in sentence
    for sentence in findings(facts(GAP, 80))["sentence"]:
        assert "2026-01-02 05:00 to 2026-01-04 01:00 UTC" in sentence


HOSTILE = [
    "a\nb",
    "{0}{name!r}",
    "%s%(x)d",
    "\u202egnp",
    "\x1b[31mred",
    "",
    "$x_1$",
    "<b>&",
    "a" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_change_what_a_sentence_says(name: str) -> None:
    table = findings(facts([replace(row, name=name) for row in GAP], 80))
    plain = findings(facts(GAP, 80))
    assert table["tenant_name"].tolist() == [name, name]
    for sentence, other in zip(table["sentence"], plain["sentence"], strict=True):
        assert sentence.endswith(other.removeprefix("t0"))
        assert sentence.isprintable()
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", sentence)


def test_what_a_server_answers_cannot_change_what_a_sentence_says() -> None:
    """A reason is text of the service."""
    failed = {"ob9": "HTTP\n500 \x1b[31m\u202e"}
    table = findings(replace(facts(daily(8), 188), source=Source(failed=failed)))
    assert table["sentence"].item().isprintable()


def test_sentences_tell_apart_who_shares_a_name() -> None:
    """Of two tenants of a name in an instance one has a gap: it is told which."""
    rows = [*daily(8, "x1", name="n"), *without(daily(8, "x2", name="n"), ("x2", 96))]
    for sentence in findings(facts(rows, 188))["sentence"]:
        assert "x2" in sentence.split(":")[0]


def test_instances_are_told_by_name() -> None:
    listed = [Listed(instance_name="prod")]
    table = findings(facts(GAP, 80, listed=listed))
    assert table["instance_name"].unique().tolist() == ["prod"]
    assert all(sentence.startswith("t0 of prod") for sentence in table["sentence"])


# --- the table ------------------------------------------------------------------------------------

DTYPES = {
    **dict.fromkeys(
        ("kind", "severity", "instance_id", "instance_name", "tenant_id", "tenant_name"),
        "category",
    ),
    **dict.fromkeys(("start", "end"), "datetime64[us, UTC]"),
    "sentence": "string",
    **dict.fromkeys(("measured", "limit"), "float64"),
    "limit_origin": "category",
    "backup_set_ids": "object",
    "certainty": "category",
    "acknowledged": "bool",
}
TABLES = {
    "some": facts([*GAP, Row(0, "t1", state="failed")], 80),
    "none": facts(daily(8), 188),
    "no rows": facts([], 80),
    "a plain frame": tenants(GAP),
    "an empty frame": tenants([]),
    "an instance unread": replace(facts([], 80), source=Source(failed={"ob9": "x"})),
    "one set": facts([Row(0)], 5),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_as_documented(name: str) -> None:
    table = findings(TABLES[name])
    assert {column: str(dtype) for column, dtype in table.dtypes.items()} == DTYPES
    assert table.index.equals(pd.RangeIndex(len(table)))
    assert table.attrs.keys() >= {"not_judged", "policy", "units", "model", "excluded", "notes"}
    assert table.attrs["units"] == {kind: row.unit for kind, row in KINDS.items()}
    assert set(table["severity"]) <= set(SEVERITIES)
    assert set(table["certainty"]) <= set(CERTAINTIES)
    assert all(isinstance(ids, tuple) for ids in table["backup_set_ids"])
    assert table["sentence"].notna().all()
    order = [SEVERITIES.index(each) for each in table["severity"]]
    assert order == sorted(order)


def test_a_history_of_one_set() -> None:
    check(facts([Row(0)], 5), [])
    check(facts([Row(0)], 1), [])
    check(tenants([Row(0)]), [])


def test_what_cannot_be_judged_is_said() -> None:
    sets = facts(daily(8), 188)
    given_ = findings(sets).attrs["not_judged"]
    limits = {"G9", "G10", "G14", "G15", "G17", "G26", "G27", "G31"}
    assert given_.keys() == {"G2", "G22", "G23", "G33"} | limits
    plain = findings(tenants(daily(8))).attrs["not_judged"]
    assert plain.keys() == given_.keys() | {"G24", "G25", "G34"}
    assert all(isinstance(reason, str) and reason for reason in plain.values())
    policy = Policy(
        full_every="7D", rto="9h", retention_days=9, copies="standard", export_within_days=2
    )
    rows = [replace(row, downloadable=True) for row in daily(8)]
    all_ = facts(rows, 188, start=-100, intervals=[("t0", 1, 188)])
    assert findings(all_, policy).attrs["not_judged"].keys() == {"G28", "G33"}


def test_a_kind_that_is_not_judged_is_not_found() -> None:
    for sets in TABLES.values():
        table = findings(sets)
        assert not set(table["kind"]).intersection(table.attrs["not_judged"])


def test_the_model_is_told() -> None:
    assert findings(facts(daily(8), 188)).attrs["model"] == "point"
    assert findings(facts(daily(8), 188, intervals=[("t0", 1, 188)])).attrs["model"] == "log"


def test_the_argument_is_never_changed() -> None:
    rows = [*without(TWO, ("t1", 96)), Row(170, "t2", state="failed")]
    sets = facts(rows, 500, listed=[Listed("t0")], intervals=[("t0", 1, 60), ("t0", 80, 120)])
    frames = [sets.clusters, sets.tenants, sets.inventory, sets.restorable]
    before = [frame.copy(deep=True) for frame in frames if frame is not None]
    for now in (None, at(100)):
        findings(sets, Policy(retention_days=3, copies="archive"), now)
    for frame, was in zip(frames, before, strict=True):
        pd.testing.assert_frame_equal(frame, was)


def test_an_instant_in_the_past_knows_nothing_later() -> None:
    """At 60 the set of 72 was not there, and the one of 48 was running."""
    rows = [Row(0), Row(24), Row(48, end=61), Row(72)]
    ids = ("t0@24",)
    policy = Policy(schedule={"full": "60D"})
    expected = [
        f("G3", 53, 60, 35, DEFAULT, ids=ids),
        f("G5", 53, 60, 35, DEFAULT, ids=("t0@48",), severity="critical"),
        f("G21", 25, 60, 35, DEFAULT, ids=ids),
    ]
    check(facts(rows, 80), expected, policy, at(60))


# --- what is promised in writing ------------------------------------------------------------------


def test_the_documentation_has_every_kind_as_it_is() -> None:
    """Id, title, severity and unit, row by row."""
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| G")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [tuple(row[:4]) for row in rows] == [
        (name, kind.title, kind.severity, kind.unit) for name, kind in KINDS.items()
    ]
    assert all(row[4] for row in rows)
    assert list(KINDS) == [f"G{number}" for number in range(1, 35)]


# --- properties -----------------------------------------------------------------------------------

# An example that is as small as can be takes minutes to find.
QUICK = {"phases": [Phase.explicit, Phase.reuse, Phase.generate]}

RAW = st.tuples(
    st.integers(0, 400),  # start
    st.integers(0, 40),  # length
    st.sampled_from(["done"] * 6 + ["failed", "running", "unknown"]),
    st.sampled_from(["VALID"] * 5 + ["INVALID", None]),
    st.sampled_from([True, True, False]),
    st.sampled_from(["AUTO", "AUTO", "BACKUP_NOW"]),
    st.sampled_from(["t0", "t1", "t2"]),
    st.floats(0, 4),
)


def rows_of(raw: list[Any]) -> list[Row]:
    """Make sets of what was drawn, in quarters of a day's hours; ids sort otherwise than starts."""
    made = []
    for turn, (start, took, state, validity, full, trigger, tenant, size) in enumerate(raw):
        done = state == "done"
        made.append(
            Row(
                start,
                tenant,
                full,
                state,
                start + took if state != "running" else None,
                start + took if done else None,
                validity if done else None,
                round(size, 2),
                f"{(turn * 7) % 16:x}{turn}",
                f"c{start // 8}",
                trigger=trigger,
            )
        )
    return made


CROWD = st.lists(RAW, max_size=24).map(rows_of)
STRICT = Policy(
    rpo="20h",
    rto="5h",
    full_every="2D",
    retention_days=3,
    min_redundancy=2,
    max_chain=1,
    checkpoint_lag="1h",
    max_running="9h",
    copies=["standard", "archive"],
    schedule={"any": "1D"},
)
POLICIES = st.sampled_from([Policy(), STRICT])
LISTS = st.sampled_from(
    [None, [Listed("t0"), Listed("t1", created=30)], [Listed(n, created=9) for n in ("t2", "t9")]]
)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Compare two tables whatever the order of their categories."""
    wide = {column: "object" for column, dtype in DTYPES.items() if dtype == "category"}
    pd.testing.assert_frame_equal(one.astype(wide), other.astype(wide))


@settings(max_examples=examples(80), **QUICK)
@given(CROWD, POLICIES, LISTS, st.integers(0, 99))
def test_the_order_of_rows_is_irrelevant(
    rows: list[Row], policy: Policy, listed: list[Listed] | None, seed: int
) -> None:
    sets = facts(rows, 450, listed=listed)
    mixed = replace(
        sets,
        clusters=sets.clusters.sample(frac=1, random_state=seed),
        tenants=sets.tenants.sample(frac=1, random_state=seed + 1),
    )
    one, other = findings(sets, policy), findings(mixed, policy)
    same(one, other)
    assert one.attrs == other.attrs


def test_the_order_of_the_inventory_is_irrelevant() -> None:
    listed = [Listed(f"t{number}", created=10) for number in range(5)]
    one = findings(facts(daily(8), 188, listed=listed))
    assert len(one) == 4
    same(one, findings(facts(daily(8), 188, listed=listed[::-1])))


def as_known_at(sets: BackupSets, now: pd.Timestamp) -> BackupSets:
    """Return what a reader would have been given then: later rows do not exist."""
    frames = []
    for frame in (sets.clusters, sets.tenants):
        kept = frame[frame["start_time"] <= now].copy()
        late = kept["end_time"] > now
        kept.loc[late, "state"] = "running"
        kept.loc[late, ["end_time", "checkpoint", "duration"]] = pd.NaT
        kept.loc[late, "size_gib"] = float("nan")
        kept.loc[late, "validity"] = None
        frames.append(kept)
    return replace(sets, clusters=frames[0], tenants=frames[1], as_of=now)


@settings(max_examples=examples(80), **QUICK)
@given(CROWD, POLICIES, st.integers(0, 450))
def test_a_past_instant_does_not_depend_on_later_rows(
    rows: list[Row], policy: Policy, hour: int
) -> None:
    """But for one thing: a row of later proves that its tenant was still there.

    So whether it is gone (G25, G24), and how sure what hangs on that is, may differ.
    """
    sets, now = facts(rows, 450), at(hour)
    then, known = findings(sets, policy, now), findings(as_known_at(sets, now), policy)
    alive = set(sets.tenants.loc[sets.tenants["start_time"] > now, "tenant_id"])

    def plain(table: pd.DataFrame) -> list[tuple[Any, ...]]:
        mine = table[~table["kind"].isin(["G24", "G25", "G31"])]
        shown = mine.drop(columns=["sentence"])
        shown.loc[mine["tenant_id"].isin(alive), "certainty"] = None
        return sorted(map(str, shown.itertuples(index=False, name=None)))

    assert plain(then) == plain(known)
    others = ~then["tenant_id"].isin(alive), ~known["tenant_id"].isin(alive)
    same(*(t[o].reset_index(drop=True) for t, o in zip((then, known), others, strict=True)))


INTERVALS = st.none() | st.lists(
    st.tuples(st.sampled_from(["t0", "t1", "t8"]), st.integers(-20, 400), st.integers(0, 200)).map(
        lambda each: (each[0], each[1], min(each[1] + each[2], 450))
    ),
    min_size=1,
    max_size=6,
)
STATUSES = st.sampled_from(["ONLINE", "STOPPED", None])
INVENTORY = st.none() | st.lists(
    st.builds(
        Listed,
        tenant=st.sampled_from([None, "t0", "t1", "t2", "t9"]),
        instance=st.sampled_from(["ob1", "ob1", "ob5"]),
        status=STATUSES,
        instance_status=STATUSES,
        created=st.none() | st.integers(-50, 440),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda each: (each.instance, each.tenant),
)
RESTING = replace(
    STRICT,
    tz="America/New_York",
    schedule=None,
    maintenance=[
        Maintenance(weekdays=["fri", "sat"]),
        Maintenance(start="2026-01-04", end="2026-01-09", name="t1"),
    ],
    exclude=[Exclude(name="t2")],
    acknowledge=[Acknowledged(kind="any", tenant="t0", until="2027-01-01")],
)


@settings(max_examples=examples(100), **QUICK)
@given(
    CROWD,
    st.sampled_from([Policy(), STRICT, RESTING]),
    INVENTORY,
    INTERVALS,
    st.none() | st.integers(-20, 300),
    st.booleans(),
)
def test_every_finding_is_well_formed(
    rows: list[Row],
    policy: Policy,
    listed: list[Listed] | None,
    intervals: list[Any] | None,
    start: int | None,
    some_gone: bool,  # noqa: FBT001
) -> None:
    if some_gone:
        rows = [replace(row, gone=(row.start or 0) + 40 * turn) for turn, row in enumerate(rows)]
    sets = facts(rows, 450, listed=listed, start=start, intervals=intervals)
    table = findings(sets, policy)
    assert {column: str(dtype) for column, dtype in table.dtypes.items()} == DTYPES
    assert not set(table["kind"]).intersection(table.attrs["not_judged"])
    names = {*sets.tenants["backup_set_id"], *sets.clusters["backup_set_id"]}
    for row in table.itertuples():
        assert pd.isna(row.start) or pd.isna(row.end) or row.start <= row.end, row
        assert set(row.backup_set_ids) <= names
        assert len(set(row.backup_set_ids)) == len(row.backup_set_ids)
        assert re.fullmatch(r"default|policy|inferred|data|override \d+", str(row.limit_origin))
        assert row.kind in KINDS
        assert row.sentence.isprintable()
        # What may be told only before now and what the service will do later (G17).
        assert row.kind == "G17" or pd.isna(row.end) or row.end <= at(450)


def gaps(rows: list[Row], tenant: str) -> list[tuple[float, float]]:
    """Return the gaps of a tenant in an explicit window, as bounds."""
    table = ob.coverage_gaps(tenants(rows), "30h", start=at(0), as_of=at(500))
    mine = table[table["tenant_id"] == tenant]
    return [
        ((a - T0) / pd.Timedelta("1h"), (b - T0) / pd.Timedelta("1h"))
        for a, b in zip(mine["gap_start"], mine["gap_end"], strict=True)
    ]


def covers(outer: list[tuple[float, float]], inner: list[tuple[float, float]]) -> bool:
    """Tell whether every interval is inside one of others, which are maximal."""
    return all(any(a <= low and high <= b for a, b in outer) for low, high in inner)


STEPS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 30), st.booleans(), st.booleans()),
    min_size=1,
    max_size=12,
)


def in_turn(steps: list[Any]) -> list[Row]:
    """Make runs one after another: each begins after the one before it has ended."""
    rows, now = [], 0
    for wait, took, full, valid in steps:
        start = now + wait
        now = start + took
        validity = "VALID" if valid else "INVALID"
        rows.append(Row(start, full=full, end=now, validity=validity))
    return [row for row in rows if row.end <= 500]


def usable(rows: list[Row]) -> list[Row]:
    """Return the sets that can be restored, of runs that came in turn."""
    good, sound = [], False
    for row in rows:
        sound = row.validity == "VALID" and (bool(row.full) or sound)
        good += [row] if sound else []
    return good


@settings(max_examples=examples(100), **QUICK)
@given(STEPS, st.data())
def test_removing_a_restorable_set_never_shrinks_the_gaps(steps: list[Any], data: Any) -> None:
    """Where runs came in turn: then what hangs on a set can be restored no earlier without it.

    A set that could not be restored may be one too many: behind it is another base. And a base
    that ended after what is on it began holds that up, see the last of these tests.
    """
    rows = in_turn(steps)
    good = usable(rows)
    if good and len(rows) > 1:
        lost = data.draw(st.sampled_from(good))
        rest = [row for row in rows if row is not lost]
        assert covers(gaps(rest, "t0"), gaps(rows, "t0"))


@settings(max_examples=examples(100), **QUICK)
@given(STEPS, st.integers(0, 480), st.integers(0, 20))
def test_adding_a_good_full_never_grows_the_gaps(steps: list[Any], start: int, took: int) -> None:
    """Where it has ended before the next run begins: else that one, if it is an incremental,
    is on the new set and can be restored no earlier than it.
    """
    rows = in_turn(steps)
    later = [row.start for row in rows if row.start is not None and row.start >= start]
    new = Row(start, end=min([start + took, *later]), id="new")
    before, after = gaps(rows, "t0"), gaps([*rows, new], "t0")
    if rows:
        assert covers(before, after)


def test_a_full_that_ends_late_may_grow_the_gaps() -> None:
    """So that the condition above is needed: the incremental of 24 then waits for it."""
    rows = [Row(0), Row(24, full=False), Row(48, full=False)]
    late = Row(23, end=60, id="new")
    assert gaps(rows, "t0") == [(0, 1), (79, 500)]
    assert gaps([*rows, late], "t0") == [(0, 1), (31, 60), (90, 500)]
    assert not covers(gaps(rows, "t0"), gaps([*rows, late], "t0"))
    # And without it, though it can be restored, the gap from 31 to 60 is not there; the restore
    # point of 60 is missed later.


def test_bad_arguments() -> None:
    with pytest.raises(ob.errors.DataError):
        findings(pd.DataFrame({"a": [1]}))
    with pytest.raises(TypeError):
        findings([1])  # type: ignore[arg-type]
    assert restorable(("t0", 1, 2)).shape == (1, 5)
