"""Findings against the simulator's truth: what was planted is found, and nothing else is.

What must be found is worked out here from the rows that the service lists, with lists and loops
over the definitions in docs/findings.md; nothing of it is taken from an analysis.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from dataclasses import replace
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import findings_oracle as second
import pandas as pd
import pytest
from findings_oracle import H
from test_coverage import sets_of

import obanalytics as ob
from obanalytics import simulator
from obanalytics.findings import findings
from obanalytics.frames import conform
from obanalytics.kinds import KINDS
from obanalytics.policy import Policy
from obanalytics.schema import Window
from obanalytics.simulator import Plant, Scenario

if TYPE_CHECKING:
    from findings_oracle import Listing

    from obanalytics.simulator import History

NOW = dt.datetime(2026, 6, 30, 12, tzinfo=dt.UTC)
DAY = 24 * H
JITTER = dt.timedelta(seconds=90 + 3 * 12)
"""The simulator begins a run up to 90 s after its hour, and a tenant 12 s after the one before."""


class Claim(NamedTuple):
    """A finding that must be there."""

    kind: str
    tenant: str
    start: dt.datetime
    end: dt.datetime
    measured: float
    ids: tuple[str, ...]
    severity: str
    certainty: str


def world(history: History, *, inventory: bool = False, restorable: bool = False) -> ob.BackupSets:
    """Return what the service tells of a history, with the tables that are asked for."""
    sets, now = sets_of(history), history.now
    if inventory:
        rows = [
            {
                "instance_id": instance.instance_id,
                "instance_name": instance.name,
                "instance_status": "ONLINE",
                "tenant_id": tenant.tenant_id,
                "tenant_name": tenant.name_at(now),
                "tenant_status": "ONLINE",
                "created_time": tenant.created,
            }
            for instance in history.instances
            for tenant in instance.tenants
            if tenant.lives(now)
        ]
        sets = replace(sets, inventory=conform(pd.DataFrame(rows), "inventory"))
    if restorable:
        rows = [
            {
                "instance_id": instance.instance_id,
                "tenant_id": row["tenantId"],
                "start": each.get("startTime"),
                "end": each.get("endTime"),
                "storage_class": "standard",
            }
            for instance in history.instances
            for row in history.restorable(instance.instance_id)
            for each in row["timeIntervalList"] or [{}]
        ]
        sets = replace(sets, restorable=conform(pd.DataFrame(rows), "restorable"))
    return sets


def history_of(*plants: Plant, seed: int = 3, now: dt.datetime = NOW, **changes: Any) -> History:
    options = {"days": 120, "tenants": 3} | changes
    return simulator.simulate(Scenario(now, seed, plants=plants, **options))


def found_in(sets: ob.BackupSets, policy: Policy | None = None, as_of: Any = None) -> list[Claim]:
    table = findings(sets, policy, as_of)
    return [
        Claim(
            str(row.kind),
            str(row.tenant_id),
            row.start.to_pydatetime(),
            row.end.to_pydatetime(),
            round(row.measured, 5),
            tuple(row.backup_set_ids),
            str(row.severity),
            str(row.certainty),
        )
        for row in table.itertuples()
    ]


def hours(span: dt.timedelta) -> float:
    return round(span / H, 5)


# --- what must be found, tenant by tenant ---------------------------------------------------------


class Life:
    """A tenant, its listed sets, and the cluster sets of its instance at an instant."""

    def __init__(
        self, history: History, key: tuple[str, str], rows: list[Listing], now: Any
    ) -> None:
        self.instance_id, self.tenant = key
        self.rows, self.now = rows, now
        whole = second.listed(history, history.now)
        self.comes_back = any(row.start > now for row in whole[key])
        self.clusters = [
            top
            for top in reversed(history.sets(self.instance_id, now))
            if top["status"] == "DONE" and top["triggerMode"] != "BACKUP_NOW"
        ]
        instance = history.instance(self.instance_id)
        assert instance is not None
        self.hour, self.weekday = instance.hour, instance.full_weekday
        self.good = [row for row in rows if row.usable_from is not None]

    def without(self) -> list[tuple[dict[str, Any], str]]:
        """Return every later done cluster set, and what of the tenant it has: a done set, or what.

        Empty where it has a done one.
        """
        began = self.rows[0].start
        done = {row.cluster for row in self.rows if row.status == "DONE"}
        held = {row.cluster for row in self.rows}
        whole = [top for top in self.clusters if moment(top["endTime"]) >= began]
        ids = [top["backupSetId"] for top in whole]
        lacks = ["" if name in done else "failed" if name in held else "none" for name in ids]
        return list(zip(whole, lacks, strict=True))

    def sure(self, *, listed: bool | None) -> str:
        """Tell how certain it is that the tenant owes backups."""
        return "unknown" if listed is None and self.is_gone() else "inferred"

    def absences(self) -> list[list[dict[str, Any]]]:
        """Return the runs of cluster sets without the tenant, or with a failed set of it."""
        runs = groupby(self.without(), lambda each: each[1])
        return [[top for top, _ in run] for lacks, run in runs if lacks]

    def is_gone(self) -> bool:
        """Tell whether it is in none of the newest three or more cluster sets, nor in a later."""
        if self.comes_back:
            return False
        held = {row.cluster for row in self.rows}
        newest = [top["backupSetId"] for top in self.clusters[-3:]]
        return len(newest) == 3 and not held.intersection(newest)


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def gap_claims(life: Life, owes_until: dt.datetime, sure: str) -> list[Claim]:
    """Work out G3 to G6 and G21."""
    made = []
    index = {row.id: row for row in life.rows}
    for gap in second.gaps(life.rows, owes_until):
        lasts = gap.after is None and owes_until == life.now
        around = tuple(each for each in (gap.before, gap.after) if each)
        kind, grade = ("G3", "critical") if lasts else ("G4", "warning")
        bounds = gap.start, gap.end, hours(gap.worst)
        doubt = sure if lasts else "inferred"
        made.append(Claim(kind, life.tenant, *bounds, around, grade, doubt))
        assert gap.before is not None
        after = index[gap.before].start
        tried = [row for row in life.rows if after < row.start < gap.end and row.id != gap.after]
        left_out = [
            top
            for top, lacks in life.without()
            if lacks and after < moment(top["startTime"]) < gap.end
        ]
        if tried and all(row.usable_from is None for row in tried):
            ids = tuple(row.id for row in tried)
            made.append(Claim("G5", life.tenant, *bounds, ids, grade, doubt))
        # The run that ended the gap was begun before it: it was late, nobody was silent.
        late = gap.after is not None and index[gap.after].start < gap.start
        if not tried and not left_out and not late:
            made.append(Claim("G6", life.tenant, *bounds, around, grade, doubt))
    if owes_until == life.now and life.good:
        best = max((row for row in life.good if row.usable_from <= life.now), key=point)
        lost = life.now - point(best)
        if lost > 26 * H:
            grade = "critical" if lost > 28 * H else "warning"
            own = (best.id,)
            made.append(
                Claim("G21", life.tenant, point(best), life.now, hours(lost), own, grade, sure)
            )
    return made


def point(row: Listing) -> dt.datetime:
    assert row.checkpoint is not None
    return row.checkpoint


def missed_claims(life: Life, owes_until: dt.datetime, sure: str) -> list[Claim]:
    """Work out G7: a run is due every day, and a full one every week, at the instance's hour."""
    made = []
    for full in (False, True):
        wanted = [row for row in life.good if row.full or not full]
        met = {row.start.date() for row in wanted}
        first = min(row.start for row in life.rows if row.full or not full)
        slot = first.replace(hour=0, minute=0, second=0) + life.hour * H
        missed: list[list[dt.datetime]] = [[]]
        while slot + 2 * H < owes_until:
            if not full or (slot.toordinal() - life.weekday) % 7 == 0:
                if slot.date() not in met:
                    missed[-1].append(slot)
                elif missed[-1]:
                    missed.append([])
            slot += DAY
        for run in filter(None, missed):
            before = [row.id for row in wanted if row.start < run[0] - JITTER][-1:]
            after = [row.id for row in wanted if row.start > run[-1] + DAY / 2][:1]
            ids = (*before, *after)
            bounds = run[0], run[-1], float(len(run))
            doubt = "inferred" if run[-1] < life.rows[-1].start else sure
            # Sets whose base is not known may have been restorable.
            may = [row for row in unbased(life) if row.full or not full]
            near = [row for row in may if run[0] - 6 * H <= row.start <= run[-1] + 6 * H]
            if near:
                doubt = "unknown" if len(near) >= len(run) else "partly"
            made.append(Claim("G7", life.tenant, *bounds, ids, "warning", doubt))
    return made


def unbased(life: Life) -> list[Listing]:
    """Return the sound incrementals before a tenant's first done set that is full or not sound."""
    done = [row for row in life.rows if row.status == "DONE"]
    return list(takewhile(lambda row: row.validity == "VALID" and not row.full, done))


def chain_claims(life: Life) -> list[Claim]:
    """Work out G16, and G11 and G12: incrementals behind what is not sound."""
    made = []
    done = [row for row in life.rows if row.status == "DONE"]
    bad: list[list[Listing]] = [[]]
    for row in done:
        if row.validity != "VALID":
            bad[-1].append(row)
        elif bad[-1]:
            bad.append([])
    for run in filter(None, bad):
        ids = tuple(row.id for row in run)
        made.append(claim_of("G16", life.tenant, run, len(run), ids, "proved"))
    lost: list[tuple[str, list[Listing]]] = [("", [])]
    base: Listing | None = None
    for row in done:
        base = row if row.full else base
        if row.validity == "VALID" and row.usable_from is None:
            lost[-1][1].append(row)
            lost[-1] = ("G11" if base is None or base.validity != "VALID" else "G12", lost[-1][1])
        elif lost[-1][1]:
            lost.append(("", []))
    for kind, run in lost:
        if run:
            base_is_known = any(row.full and row.start < run[0].start for row in done)
            sure = "inferred" if base_is_known else "unknown"
            ids = tuple(row.id for row in run)
            made.append(claim_of(kind, life.tenant, run, len(run), ids, sure))
    return made


def claim_of(
    kind: str, tenant: str, run: list[Listing], count: float, ids: tuple[str, ...], sure: str
) -> Claim:
    assert run[-1].end is not None
    return Claim(kind, tenant, run[0].start, run[-1].end, float(count), ids, "warning", sure)


def absence_claims(
    life: Life, *, listed: bool | None, created: dt.datetime | None = None
) -> list[Claim]:
    """Work out G24 and G25; `listed` is what the inventory says, None where there is none."""
    made = []
    for run in life.absences():
        bounds = moment(run[0]["startTime"]), moment(run[-1]["endTime"]), float(len(run))
        ids = tuple(dict.fromkeys((run[0]["backupSetId"], run[-1]["backupSetId"])))
        is_last = run[-1] is life.clusters[-1]
        if is_last and (listed is False or (listed is None and life.is_gone())):
            grade, sure = ("info", "proved") if listed is False else ("warning", "unknown")
            made.append(Claim("G25", life.tenant, *bounds, ids, grade, sure))
        else:
            made.append(Claim("G24", life.tenant, *bounds, ids, "warning", "proved"))
    first = moment(life.clusters[0]["startTime"])
    began = life.rows[0]
    if began.start > first + DAY / 2:
        fulls = [row for row in life.rows if row.full and row.status == "DONE"]
        grade = "info" if fulls else "warning"
        (top,) = [top for top in life.clusters if top["backupSetId"] == began.cluster]
        when = created or moment(top["startTime"])
        made.append(Claim("G25", life.tenant, when, when, 1.0, (began.id,), grade, "proved"))
    return made


def implied(history: History, now: dt.datetime | None = None, *, inventory: bool = False) -> Any:
    """Work out what the definitions say of the rows at an instant, for policies of defaults."""
    at = history.now if now is None else now
    alive = {
        tenant.tenant_id: tenant.created
        for instance in history.instances
        for tenant in instance.tenants
        if tenant.lives(at)
    }
    made = []
    for key, rows in second.listed(history, at).items():
        life = Life(history, key, rows, at)
        listed = key[1] in alive if inventory else None
        newest = rows[-1].end or rows[-1].start
        owes_until = newest if listed is False else at
        sure = life.sure(listed=listed)
        made += gap_claims(life, owes_until, sure) + missed_claims(life, owes_until, sure)
        created = alive.get(key[1]) if inventory else None
        made += chain_claims(life) + absence_claims(life, listed=listed, created=created)
    return made


def agree(found: list[Claim], expected: list[Claim]) -> None:
    """Compare: slots to the simulator's jitter, everything else to the second."""
    assert Counter(each.kind for each in found) == Counter(each.kind for each in expected)
    for mine, theirs in zip(in_order(found), in_order(expected), strict=True):
        if mine.kind == "G7":
            assert abs(mine.start - theirs.start) <= JITTER
            assert abs(mine.end - theirs.end) <= JITTER
            mine = mine._replace(start=theirs.start, end=theirs.end)  # noqa: PLW2901
        if mine.kind in {"G11", "G12"}:  # what broke the chain is named before what it broke
            assert mine.ids[-len(theirs.ids) :] == theirs.ids
            mine = mine._replace(ids=theirs.ids)  # noqa: PLW2901
        if mine.kind == "G30":
            continue
        assert mine == theirs


def in_order(claims: list[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda each: (*each[:2], each.measured, each.ids[-1:], each.start))


def tenants_of(history: History, number: int | None = None) -> set[str]:
    (instance,) = history.instances
    chosen = instance.tenants if number is None else [instance.tenants[number]]
    return {tenant.tenant_id for tenant in chosen}


def check(
    history: History,
    kinds: str,
    tenants: set[str],
    *,
    extra: tuple[Claim, ...] = (),
    inventory: bool = False,
    now: dt.datetime | None = None,
    each: int | None = None,
) -> list[Claim]:
    """Check that a plant gives these kinds, of these tenants, and what the rows imply."""
    found = found_in(world(history, inventory=inventory), as_of=now)
    assert {claim.kind for claim in found} == set(kinds.split())
    assert {claim.tenant for claim in found} == tenants
    per_kind = Counter((claim.kind, claim.tenant) for claim in found)
    if each is not None:
        assert set(per_kind.values()) == {each}
    agree(found, [*implied(history, now, inventory=inventory), *extra])
    return found


# --- nothing wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "tables"), [(1, False), (2, True), (3, False), (11, True)])
def test_a_clean_year_of_50_tenants_has_no_finding(seed: int, tables: bool) -> None:  # noqa: FBT001
    history = simulator.simulate(Scenario(NOW, seed, days=365, tenants=50))
    table = findings(world(history, inventory=tables, restorable=tables))
    assert table.empty, table["sentence"].tolist()
    assert ("G22" in table.attrs["not_judged"]) is not tables


@pytest.mark.parametrize("hour", [0, 3, 18, 19, 20, 21, 22, 23])
def test_a_clean_history_has_no_finding_at_any_hour(hour: int) -> None:
    """Runs begin between 18:00 and 21:30, so that some are not finished then."""
    now = NOW.replace(hour=hour, minute=20)
    history = history_of(seed=hour, now=now, days=40, instances=3)
    for tables in (False, True):
        table = findings(world(history, inventory=tables, restorable=tables))
        assert table.empty, table["sentence"].tolist()


def test_a_clean_history_has_no_finding_under_a_strict_policy() -> None:
    """A full each week, seven weeks kept by the service, and limits a little over that."""
    history = history_of(days=120, retention_days=49)
    policy = Policy(
        rpo="25h",
        rto="6h",
        full_every="7D",
        retention_days=49,
        min_redundancy=7,
        max_running="3h",
        grace="2h",
        max_chain=6,
        checkpoint_lag="1min",
        copies=["standard"],
        copy_within="2D",
        schedule={"any": "1D", "full": "7D"},
    )
    table = findings(world(history), policy)
    assert table.empty, table["sentence"].tolist()


@pytest.mark.parametrize("days", [1, 2, 3, 5, 8, 15])
def test_a_clean_short_history_has_no_finding(days: int) -> None:
    table = findings(sets_of(history_of(days=days)))
    assert table.empty, table["sentence"].tolist()


# --- a plant at a time ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_silent(seed: int) -> None:
    """No run of four days: a gap, without a run, and four slots; a full one may be among them."""
    history = history_of(Plant("silent", 0, None, 40.2, 4.0), seed=seed)
    found = check(history, "G4 G6 G7", tenants_of(history))
    (truth,) = history.truth
    for claim in found:
        # The gap begins 28 h after the last restore point, at most a day before the silence.
        assert truth.start - DAY < claim.start < truth.start + 28 * H
        assert claim.end < truth.end + DAY
    any_mode = [claim for claim in found if claim.kind == "G7" and claim.measured == 4]
    assert len(any_mode) == 3


def test_silent_now() -> None:
    history = history_of(Plant("silent", 0, None, 2.7, 9.0))
    found = check(history, "G3 G6 G7 G21", tenants_of(history))
    assert {claim.severity for claim in found if claim.kind in {"G3", "G6", "G21"}} == {"critical"}


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_missing(seed: int) -> None:
    """It is in no cluster set: that is no silence of the scheduler."""
    history = history_of(Plant("missing", 0, 1, 40.2, 4.0), seed=seed)
    check(history, "G4 G7 G24", tenants_of(history, 1))
    (truth,) = history.truth
    (absent,) = [claim for claim in found_in(world(history)) if claim.kind == "G24"]
    assert truth.start < absent.start < absent.end < truth.end
    assert absent.measured == len(truth.backup_set_ids) == 4
    assert {f"{name}-1004" for name in absent.ids} <= set(truth.backup_set_ids)


def test_missing_now() -> None:
    """Two cluster sets: too few to call it gone; with the inventory's word any number."""
    history = history_of(Plant("missing", 0, 1, 2.7, 9.0))
    check(history, "G3 G7 G21 G24", tenants_of(history, 1))
    longer = history_of(Plant("missing", 0, 1, 5.7, 9.0))
    check(longer, "G3 G7 G21 G25", tenants_of(longer, 1))
    check(longer, "G3 G7 G21 G24", tenants_of(longer, 1), inventory=True)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_failed_of_one_tenant(seed: int) -> None:
    """Its cluster sets say done: that is a finding of its own."""
    history = history_of(Plant("failed", 0, 1, 40.2, 3.0), seed=seed)
    found = check(history, "G4 G5 G7 G24", tenants_of(history, 1))
    (truth,) = history.truth
    (tried,) = [claim for claim in found if claim.kind == "G5"]
    assert tried.ids == truth.backup_set_ids


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_failed_of_all_tenants(seed: int) -> None:
    history = history_of(Plant("failed", 0, None, 40.2, 3.0), seed=seed)
    found = check(history, "G4 G5 G7", tenants_of(history))
    (truth,) = history.truth
    for claim in found:
        if claim.kind == "G5":
            assert tuple(name.rpartition("-")[0] for name in claim.ids) == truth.backup_set_ids


def test_failed_now() -> None:
    history = history_of(Plant("failed", 0, 1, 2.7, 9.0))
    found = check(history, "G3 G5 G7 G21 G24", tenants_of(history, 1))
    assert {claim.severity for claim in found if claim.kind == "G5"} == {"critical"}


@pytest.mark.parametrize("seed", range(3, 10))
def test_invalid(seed: int) -> None:
    """What is behind an unsound incremental is broken (G12), behind an unsound full orphaned."""
    history = history_of(Plant("invalid", 0, 1, 40.2, 3.0), seed=seed)
    found = found_in(world(history))
    behind = {claim.kind for claim in implied(history)} & {"G11", "G12"}
    check(history, " ".join({"G4", "G5", "G7", "G16"} | behind), tenants_of(history, 1))
    (bad,) = [claim for claim in found if claim.kind == "G16"]
    assert bad.ids == history.truth[0].backup_set_ids


def test_invalid_gives_every_kind_of_broken_chain() -> None:
    """So that the test above sees all three: of a full, of an incremental, before a full."""
    seen = set()
    for seed in range(3, 10):
        history = history_of(Plant("invalid", 0, 1, 40.2, 3.0), seed=seed)
        seen.add(frozenset({claim.kind for claim in implied(history)} & {"G11", "G12"}))
    assert {frozenset({"G11"}), frozenset({"G12"})} <= seen


def test_orphaned() -> None:
    """The first full of a tenant is gone from the list: its incrementals have no base."""
    plants = (Plant("created", 0, 1, 40.0), Plant("orphaned", 0, 1, 40.0, 1.0))
    history = history_of(*plants)
    (mine,) = tenants_of(history, 1)
    found = found_in(world(history))
    assert {claim.tenant for claim in found} == {mine}
    # Without the full nobody knows whether they could be restored: no gap is proved (G30).
    assert {claim.kind for claim in found} == {"G7", "G11", "G25", "G30"}
    (rows,) = [rows for key, rows in second.listed(history, NOW).items() if key[1] == mine]
    orphans = rows[: next(at for at, row in enumerate(rows) if row.full)]
    assert orphans
    (lost,) = [claim for claim in found if claim.kind == "G11"]
    assert lost.ids == tuple(row.id for row in orphans)
    assert (lost.start, lost.end) == (orphans[0].start, orphans[-1].end)
    assert (lost.measured, lost.certainty) == (len(orphans), "unknown")
    (blind,) = [claim for claim in found if claim.kind == "G30"]
    assert blind.start == rows[0].start + 28 * H
    assert blind.end == rows[len(orphans)].end
    (new,) = [claim for claim in found if claim.kind == "G25"]
    assert abs(new.start - rows[0].start) < JITTER


def test_a_full_that_is_gone_later() -> None:
    """Nothing tells that incrementals had another base: the tenant is missing from a set."""
    history = history_of(Plant("orphaned", 0, 1, 40.2, 7.0))
    check(history, "G4 G7 G24", tenants_of(history, 1))


def stuck(days: float = 1.0) -> tuple[History, dt.datetime, dt.timedelta]:
    """Return a history with a run of more than a day, when it began, and its length."""
    history = history_of(Plant("stuck", 0, 1, 40.2, days, 900.0))
    (truth,) = history.truth
    ((_, rows),) = [
        (key, rows)
        for key, rows in second.listed(history, NOW).items()
        if key[1] == truth.tenant_id
    ]
    (slow,) = [row for row in rows if row.id == truth.backup_set_ids[0]]
    assert slow.end is not None
    assert slow.end - slow.start > 30 * H
    return history, slow.start, slow.end - slow.start


def test_stuck_while_it_runs() -> None:
    """Ordinary runs take minutes: six hours are too long, and nothing less."""
    history, began, _ = stuck()
    (mine,) = tenants_of(history, 1)
    sets, name = world(history), history.truth[0].backup_set_ids
    assert found_in(sets, as_of=began + 1.9 * H) == []
    for after in (6.0, 6.25):
        now = began + after * H
        found = [claim for claim in found_in(sets, as_of=now) if claim.kind in {"G18", "G19"}]
        long = Claim("G18", mine, began, now, after, name, "warning", "inferred")
        assert found == ([long] if after > 6 else [])


def test_stuck_though_a_later_run_ended() -> None:
    history, began, _ = stuck()
    now = began + 27 * H
    sets, name = world(history), history.truth[0].backup_set_ids
    found = found_in(sets, as_of=now)
    kinds = Counter(claim.kind for claim in found)
    assert kinds["G18"] == kinds["G19"] == 1
    (over,) = [claim for claim in found if claim.kind == "G19"]
    assert (over.start, over.end, over.measured) == (began, now, 27.0)
    assert over.ids[0] == name[0]
    (after,) = [
        row
        for key, rows in second.listed(history, now).items()
        if key[1] == over.tenant
        for row in rows
        if row.start > began
    ]
    assert over.ids[1] == after.id


def test_stuck_when_all_is_over() -> None:
    """It overlaps the runs behind it."""
    history, began, took = stuck()
    found = found_in(world(history))
    over = [claim for claim in found if claim.kind == "G19"]
    assert over
    assert over[0].ids[0] == history.truth[0].backup_set_ids[0]
    assert over[0].start == began + DAY or abs(over[0].start - began - DAY) <= JITTER
    assert max(claim.end for claim in over) <= began + took
    assert not [claim for claim in found if claim.kind == "G18"]


def unfinished(history: History) -> dict[str, list[dt.datetime]]:
    """Return when the runs began that are not finished, by tenant."""
    return {
        key[1]: [row.start for row in rows if row.status == "DOING"]
        for key, rows in second.listed(history, history.now).items()
    }


def test_running_for_half_an_hour_is_no_finding() -> None:
    history = history_of(Plant("running", 0, None, 0.02, 0.0))
    assert [len(begun) for begun in unfinished(history).values()] == [1, 1, 1]
    assert found_in(world(history)) == []


def test_two_unfinished_runs_at_once() -> None:
    """The second began before the first had ended, which alone runs for longer than six hours."""
    now = NOW.replace(hour=23, minute=30)
    history = history_of(Plant("running", 0, None, 0.55, 0.0), now=now)
    found = found_in(world(history))
    for tenant, (first, then) in unfinished(history).items():
        assert now - then < 6 * H < now - first
        (long,) = [c for c in found if (c.kind, c.tenant) == ("G18", tenant)]
        assert (long.start, long.end, long.measured) == (first, now, hours(now - first))
        (over,) = [c for c in found if (c.kind, c.tenant) == ("G19", tenant)]
        assert over.end == now
        assert over.start in {first, then}


def test_by_hand_that_rescues() -> None:
    """Two days without a run, and one by hand in them: within the RPO by that alone."""
    history = history_of(Plant("silent", 0, None, 40.2, 1.0), Plant("by_hand", 0, None, 39.9, 0.0))
    found = found_in(world(history))
    rescued = [claim for claim in found if claim.kind == "G28"]
    assert {claim.tenant for claim in rescued} == tenants_of(history)
    for key, rows in second.listed(history, NOW).items():
        (claim,) = [claim for claim in rescued if claim.tenant == key[1]]
        scheduled = [row for row in rows if not row.manual]
        second.link(scheduled)
        (lacking,) = second.gaps(scheduled, NOW)
        second.link(rows)
        gaps = second.gaps(rows, NOW)
        until = min([lacking.end, *(gap.start for gap in gaps)])
        assert (claim.start, claim.end) == (lacking.start, until)
        assert claim.ids == tuple(row.id for row in rows if row.manual)
        assert claim.measured == hours(until - lacking.start)
    assert {claim.kind for claim in found} <= {"G28", "G7", "G4"}


def test_by_hand_that_rescues_nothing() -> None:
    history = history_of(Plant("by_hand", 0, None, 40.2, 0.0))
    assert found_in(world(history)) == []
    logs = findings(world(history, restorable=True))
    assert logs.empty
    assert "G28" in logs.attrs["not_judged"]


@pytest.mark.parametrize("inventory", [False, True])
def test_created(inventory: bool) -> None:  # noqa: FBT001
    history = history_of(Plant("created", 0, 1, 40.0))
    (claim,) = check(history, "G25", tenants_of(history, 1), inventory=inventory)
    assert claim.severity == "info"


def test_dropped_with_an_inventory() -> None:
    history = history_of(Plant("dropped", 0, 1, 40.0))
    (claim,) = check(history, "G25", tenants_of(history, 1), inventory=True)
    assert (claim.severity, claim.certainty) == ("info", "proved")


def test_dropped_without_an_inventory() -> None:
    history = history_of(Plant("dropped", 0, 1, 40.0))
    found = check(history, "G3 G7 G21 G25", tenants_of(history, 1))
    assert {claim.certainty for claim in found} == {"unknown"}


@pytest.mark.parametrize("inventory", [False, True])
def test_renamed(inventory: bool) -> None:  # noqa: FBT001
    history = history_of(Plant("renamed", 0, 1, 40.0))
    assert found_in(world(history, inventory=inventory)) == []


@pytest.mark.parametrize("tenant", [None, 1])
def test_log_break(tenant: int | None) -> None:
    """From the last instant before the break to the next full, as the service's list says."""
    history = history_of(Plant("log_break", 0, tenant, 40.0, 6.0))
    found = found_in(world(history, restorable=True))
    assert found_in(world(history)) == []
    (truth,) = history.truth
    (instance,) = history.instances
    breaks = {}
    for row in history.restorable(instance.instance_id):
        intervals = row["timeIntervalList"]
        if len(intervals) == 2:
            breaks[row["tenantId"]] = (
                moment(intervals[0]["endTime"]),
                moment(intervals[1]["startTime"]),
            )
    assert set(breaks) == tenants_of(history, tenant)
    lost = [claim for claim in found if claim.kind == "G22"]
    assert {claim.tenant: (claim.start, claim.end) for claim in lost} == breaks
    for claim in lost:
        assert claim.start == truth.start
        assert claim.end > truth.end
        assert claim.measured == hours(claim.end - claim.start)
        assert (claim.severity, claim.certainty) == ("warning", "proved")
    # In the log model the same time is a gap, in which runs were begun.
    assert {claim.kind for claim in found} == {"G4", "G22"}
    for claim in found:
        if claim.kind == "G4":
            begin, end = breaks[claim.tenant]
            assert claim.start == begin + 28 * H
            assert end <= claim.end < end + H


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        ("silent", {"G7"}),
        ("missing", {"G7", "G24"}),
        ("failed", {"G7", "G24"}),
        ("invalid", {"G7", "G16"}),
    ],
)
def test_where_the_service_has_logs_there_is_no_gap(kind: str, kinds: set[str]) -> None:
    """Any instant can be restored to, though runs were missed; chains are as broken as ever."""
    tenant = None if kind == "silent" else 1
    history = history_of(Plant(kind, 0, tenant, 40.2, 3.0))
    sets = world(history, restorable=True)
    assert findings(sets).attrs["model"] == "log"
    assert {claim.kind for claim in found_in(sets)} - {"G11", "G12"} == kinds


@pytest.mark.parametrize("factor", [0.2, 0.4])
def test_anomaly(factor: float) -> None:
    history = history_of(Plant("anomaly", 0, 1, 40.2, 1.0, factor))
    (mine,) = tenants_of(history, 1)
    (claim,) = found_in(world(history))
    (rows,) = [rows for key, rows in second.listed(history, NOW).items() if key[1] == mine]
    (name,) = history.truth[0].backup_set_ids
    (row,) = [row for row in rows if row.id == name]
    assert claim == claim_of("G29", mine, [row], row.size, (name,), "inferred")
    limit = findings(world(history))["limit"].item()
    eight = sorted([e.size for e in rows if not e.full and e.start < row.start][-8:])
    assert limit == pytest.approx((eight[3] + eight[4]) / 4)


@pytest.mark.parametrize("factor", [0.7, 1.5, 4.0])
def test_an_anomaly_that_is_not_hollow(factor: float) -> None:
    assert found_in(world(history_of(Plant("anomaly", 0, 1, 40.2, 1.0, factor)))) == []


@pytest.mark.parametrize("kind", ["slower", "step"])
def test_growth_and_slowness_are_no_findings(kind: str) -> None:
    """They are trends, which other analyses tell of."""
    assert found_in(world(history_of(Plant(kind, 0, 1, 60.0, 60.0, 1.8)))) == []


# --- several at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(24))
def test_any_faults_at_any_time(seed: int) -> None:
    """Up to three faults that touch or overlap, looked at from now or from the past."""
    chance = random.Random(seed)
    plants = tuple(
        Plant(
            chance.choice(["silent", "missing", "failed", "invalid"]),
            0,
            chance.choice([None, 0, 1, 2]),
            round(chance.uniform(0, 60), 1),
            chance.choice([0.3, 1.0, 2.0, 3.0, 8.0]),
        )
        for _ in range(chance.choice([1, 2, 3]))
    )
    history = history_of(*plants, seed=seed)
    now = (NOW - chance.choice([0, chance.uniform(0, 20)]) * DAY).replace(microsecond=0)
    agree(found_in(world(history), as_of=now), implied(history, now))


# --- everything at once ---------------------------------------------------------------------------

DEMO_NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
KIND_OF = {
    "silent": {"G4", "G6", "G7"},
    "missing": {"G4", "G7", "G24"},
    "failed": {"G4", "G5", "G7", "G24"},
    "invalid": {"G4", "G5", "G7", "G16"},
    "orphaned": {"G7", "G11", "G30"},
    "created": {"G25"},
    "dropped": {"G3", "G7", "G21", "G25"},
    "anomaly": {"G29"},
}
"""What each plant of the demonstration gives. Its stuck run is over within hours, its unfinished
one is half an hour old, its run by hand is a spare one: they break no rule."""


def holding(found: list[Claim], fact: Any) -> set[str]:
    """Return the kinds that are found of a fact's tenants at its time."""
    return {
        claim.kind
        for claim in found
        if (fact.tenant_id is None or claim.tenant == fact.tenant_id)
        and claim.start <= fact.end + 3 * DAY
        and claim.end >= fact.start
    }


def implied_with_orphans(history: History, tenant: str) -> list[Claim]:
    """Work out what is implied; the gap of the tenant without its first full is a blind spot."""
    made = []
    for key, rows in second.listed(history, history.now).items():
        life = Life(history, key, rows, history.now)
        sure, whole = life.sure(listed=None), life
        if key[1] == tenant:
            full = next(at for at, row in enumerate(rows) if row.full)
            whole = Life(history, key, rows[full:], history.now)
        made += gap_claims(whole, history.now, sure) + missed_claims(life, history.now, sure)
        made += chain_claims(life) + absence_claims(life, listed=None)
    return made


# Seeds by how many incrementals there are before the next full of the tenant without its first.
@pytest.mark.parametrize("seed", [7, 8, 9, 10])
def test_every_fault_of_the_demonstration_is_found(seed: int) -> None:
    history = simulator.demo(DEMO_NOW, seed)
    found = found_in(world(history))
    facts = {fact.kind: fact for fact in history.truth}
    lost = facts["orphaned"].tenant_id
    (rows,) = [rows for key, rows in second.listed(history, DEMO_NOW).items() if key[1] == lost]
    full = next(at for at, row in enumerate(rows) if row.full)
    is_blind = rows[full].end - rows[0].start > 28 * H
    for kind, kinds in KIND_OF.items():
        if kind != "orphaned" or full:
            wanted = kinds - (set() if is_blind else {"G30"})
            assert wanted <= holding(found, facts[kind]), kind
    assert [claim.tenant for claim in found if claim.kind == "G30"] == [lost] * is_blind
    hollow = [claim.tenant for claim in found if claim.kind == "G29"]
    assert hollow == [facts["anomaly"].tenant_id]
    others = [claim for claim in found if claim.kind not in {"G29", "G30"}]
    agree(others, implied_with_orphans(history, lost))


def test_the_demonstration_with_all_tables() -> None:
    history = simulator.demo(DEMO_NOW)
    sets = world(history, inventory=True, restorable=True)
    found = found_in(sets)
    (gone,) = [fact for fact in history.truth if fact.kind == "dropped"]
    assert [(c.kind, c.severity) for c in found if c.tenant == gone.tenant_id] == [("G25", "info")]
    (broken,) = [fact for fact in history.truth if fact.kind == "log_break"]
    (claim,) = [claim for claim in found if claim.kind == "G22"]
    assert (claim.tenant, claim.start) == (broken.tenant_id, broken.start)
    assert not [claim for claim in found if claim.severity == "critical"]


def test_the_same_from_the_service() -> None:
    """Through paging and flattening, with a window of the last 40 days and its lookback."""
    history = history_of(Plant("failed", 0, 1, 30.2, 3.0), Plant("dropped", 0, 2, 20.0))
    with simulator.SimulatorServer(history) as server:
        client = ob.Client(*simulator.KEY, endpoint=server.url, project_id="p")
        with client:
            ids = [instance.instance_id for instance in history.instances]
            sets = ob.load(
                ids,
                start=NOW - 40 * DAY,
                client=client,
                inventory=True,
                restorable=False,
                progress=False,
            )
    found = found_in(sets)
    whole = found_in(world(history, inventory=True))
    assert {(claim.kind, claim.start, claim.ids) for claim in found if claim.kind != "G7"} == {
        (claim.kind, claim.start, claim.ids) for claim in whole if claim.kind != "G7"
    }
    assert "G2" not in findings(sets).attrs["not_judged"]


def test_a_tenant_created_in_the_window_owes_nothing_before() -> None:
    """The window begins before it was there: that is no gap at its head."""
    history = history_of(Plant("created", 0, 1, 20.0))
    window = Window(pd.Timestamp(NOW - 40 * DAY), pd.Timestamp(NOW))
    for inventory in (True, False):
        sets = replace(world(history, inventory=inventory), window=window)
        kinds = {claim.kind for claim in found_in(sets)}
        assert kinds - {"G30"} == {"G25"}, inventory


def test_every_kind_is_known() -> None:
    assert {kind for kinds in KIND_OF.values() for kind in kinds} <= set(KINDS)


@pytest.mark.parametrize("days_ago", [3.0, 37.3, 38.0, 39.0, 39.5])
def test_a_past_instant_sees_what_was_known_then(days_ago: float) -> None:
    """With the sets of all days, looked at from inside and from after a gap of four days."""
    history = history_of(Plant("silent", 0, None, 40.2, 4.0))
    now = NOW - days_ago * DAY
    found = found_in(world(history), as_of=now)
    agree(found, implied(history, now))
    assert found
