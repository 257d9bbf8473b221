"""Who is in which cluster set, against a slow second way: dicts and loops over the definitions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pytest
from effort import examples
from histories import T0, at
from hypothesis import given, settings
from hypothesis import strategies as st

from obanalytics import presence
from obanalytics.curve import scene_of
from obanalytics.frames import STATES, conform, empty
from obanalytics.schema import BackupSets

HOUR = 3_600_000_000
ORIGIN = int(T0.timestamp()) * 1_000_000
BEST = ["failed", "cancelled", "unknown", "expired", "running", "done"]


# --- facts, as plain values; an hour is the unit of time -----------------------------------------


@dataclass
class Cluster:
    id: str
    start: int | None
    state: str = "done"
    instance: str = "ob1"
    end: int | None = None
    trigger: str | None = "AUTO"
    storage: str | None = "standard"
    inside: bool = True
    size: float | None = None
    listed: int = 0


@dataclass
class Child:
    cluster: str | None
    tenant: str
    start: int | None
    state: str = "done"
    instance: str = "ob1"
    end: int | None = None
    name: str = "same"
    full: bool | None = True
    kind: str | None = "TENANT"
    storage: str | None = "standard"
    size: float | None = None
    id: str = ""
    validity: str = "VALID"
    trigger: str | None = None


@dataclass
class Listed:
    tenant: str | None
    instance: str = "ob1"
    status: str | None = "ONLINE"
    instance_status: str | None = "ONLINE"
    created: int | None = None


@dataclass
class History:
    clusters: list[Cluster]
    children: list[Child]
    inventory: list[Listed] | None = None
    now: int = 1000
    start: int | None = None
    end: int | None = None
    facts_now: int | None = None

    def sets(self, seed: int | None = None) -> BackupSets:
        """Return the frames, in this order or in any."""
        clusters, tenants = cluster_frame(self.clusters), tenant_frame(self.children)
        if seed is not None:
            clusters = clusters.sample(frac=1, random_state=seed)
            tenants = tenants.sample(frac=1, random_state=seed + 1)
        listed = None if self.inventory is None else inventory_frame(self.inventory)
        now = at(self.now if self.facts_now is None else self.facts_now)
        return BackupSets(clusters, tenants, inventory=listed, as_of=now)

    def asked(self) -> dict[str, Any]:
        bounds = {"start": self.start, "end": self.end}
        given_ = {name: at(value) for name, value in bounds.items() if value is not None}
        return {"as_of": at(self.now), **given_}


def times(values: list[int | None]) -> Any:
    steps = pd.to_timedelta(pd.Series(values, dtype="float64"), unit="h")
    return (T0 + steps).astype("datetime64[us, UTC]")


def column(rows: list[Any], name: str) -> list[Any]:
    return [getattr(row, name) for row in rows]


def cluster_frame(rows: list[Cluster]) -> pd.DataFrame:
    if not rows:
        return empty("clusters")
    made = {
        "instance_id": column(rows, "instance"),
        "backup_set_id": column(rows, "id"),
        "tenant_id": "sys",
        "state": pd.Categorical(column(rows, "state"), categories=list(STATES)),
        "start_time": times(column(rows, "start")),
        "end_time": times(column(rows, "end")),
        "size_gib": np.array(column(rows, "size"), float),
        "trigger_mode": column(rows, "trigger"),
        "storage_class": column(rows, "storage"),
        "tenant_sets": column(rows, "listed"),
        "in_window": column(rows, "inside"),
    }
    return conform(pd.DataFrame(made), "clusters")


def tenant_frame(rows: list[Child]) -> pd.DataFrame:
    if not rows:
        return empty("tenants")
    made = {
        "instance_id": column(rows, "instance"),
        "cluster_backup_set_id": pd.array(column(rows, "cluster"), dtype="string"),
        "backup_set_id": [row.id or f"b{n}" for n, row in enumerate(rows)],
        "tenant_id": column(rows, "tenant"),
        "tenant_name": column(rows, "name"),
        "full": pd.array(column(rows, "full"), dtype="boolean"),
        "state": pd.Categorical(column(rows, "state"), categories=list(STATES)),
        "validity": column(rows, "validity"),
        "start_time": times(column(rows, "start")),
        "end_time": times(column(rows, "end")),
        "size_gib": np.array(column(rows, "size"), float),
        "backup_object_type": column(rows, "kind"),
        "trigger_mode": column(rows, "trigger"),
        "storage_class": column(rows, "storage"),
    }
    return conform(pd.DataFrame(made), "tenants")


def inventory_frame(rows: list[Listed]) -> pd.DataFrame:
    made = {
        "instance_id": column(rows, "instance"),
        "instance_name": "i",
        "instance_status": column(rows, "instance_status"),
        "tenant_id": column(rows, "tenant"),
        "tenant_name": "same",
        "tenant_status": column(rows, "status"),
        "created_time": times(column(rows, "created")),
    }
    return conform(pd.DataFrame(made), "inventory") if rows else empty("inventory")


# --- the second way ------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What is expected of a tenant."""

    since: int | None = None
    until: int | None = None
    fate: str = "alive"
    rows: list[dict[str, Any]] = field(default_factory=list)
    runs: list[tuple[Any, ...]] = field(default_factory=list)
    new: bool = False
    appeared: int | None = None


def known_rows(rows: list[Any], now: int) -> list[Any]:
    """Return rows as they were known at an instant."""
    kept = [row for row in rows if row.start is None or row.start <= now]
    return [
        replace(row, state="running", end=None, size=None)
        if row.end is not None and row.end > now
        else row
        for row in kept
    ]


def numbered(children: list[Child]) -> list[Child]:
    return [replace(row, id=row.id or f"b{n}") for n, row in enumerate(children)]


def merged_sets(history: History, instance: str) -> list[dict[str, Any]]:
    """Return the cluster sets of an instance, copies as one; undated ones last."""
    by_id: dict[str, list[Cluster]] = {}
    for row in known_rows(history.clusters, history.now):
        if row.instance == instance:
            by_id.setdefault(row.id, []).append(row)
    made = []
    for name, copies in by_id.items():
        best = max(copies, key=lambda c: BEST.index(c.state))
        starts = [c.start for c in copies if c.start is not None]
        one: dict[str, Any] = {"id": name, "state": best.state, "start": min(starts, default=None)}
        one["hand"] = any((c.trigger or "").upper() == "BACKUP_NOW" for c in copies)
        one["inside"] = any(c.inside for c in copies)
        if one["start"] is not None:
            late = history.end is not None and history.end < history.now
            one["inside"] &= history.start is None or one["start"] >= history.start
            one["inside"] &= not late or one["start"] < history.end
        made.append(one)
    all_by_hand = all(one["hand"] for one in made)
    for one in made:
        dated = one["start"] is not None
        one["regular"] = one["state"] == "done" and dated and (all_by_hand or not one["hand"])
    return sorted(made, key=lambda s: (s["start"] is None, s["start"] or 0, s["id"]))


def held_by(rows: list[Child], sets: list[dict[str, Any]]) -> dict[str, Child]:
    """Return the child that tells in every cluster set that holds the tenant."""
    there: dict[str, list[Child]] = {}
    for row in rows:
        if (row.kind or "").upper() not in {"DATABASE", "TABLE"}:
            there.setdefault(row.cluster or "", []).append(row)
    ids = {one["id"] for one in sets}

    def rank(row: Child) -> Any:
        start = -(10**9) if row.start is None else row.start
        return BEST.index(row.state), start, row.storage or "", row.id

    return {name: max(these, key=rank) for name, these in there.items() if name in ids}


def fate_of(history: History, key: tuple[str, str], absent: int) -> str:
    """Return what became of a tenant."""
    here = [row for row in history.inventory or [] if row.instance == key[0]]
    lists = any(row.tenant is not None for row in here)
    own = [row for row in here if row.tenant == key[1]]
    words = {"stopped", "offline", "pending_delete", "deleted"}
    words |= {"arrears_closed", "prepaid_expire_closed"}
    later = any(
        (row.instance, row.tenant) == key and row.start is not None and row.start > history.now
        for row in history.children
    )
    if later:
        return "alive"
    if lists and not own and key[1] != "sys":
        return "gone"
    if any((row.instance_status or "").lower() in words for row in here) or (
        own and all((row.status or "").lower() in words for row in own)
    ):
        return "stopped"
    return "unlisted" if not lists and absent >= 3 else "alive"


def verdicts(history: History) -> dict[tuple[str, str], Verdict]:
    """Return what is expected of all tenants."""
    children = known_rows(numbered(history.children), history.now)
    keys = sorted({(row.instance, row.tenant) for row in children})
    return {key: verdict(history, key, children) for key in keys}


def verdict(  # noqa: C901 - a rule a branch
    history: History, key: tuple[str, str], children: list[Child]
) -> Verdict:
    sets = merged_sets(history, key[0])
    rows = [row for row in children if (row.instance, row.tenant) == key]
    held = held_by(rows, sets)
    starts = [row.start for row in rows if row.start is not None]
    own = [row for row in history.inventory or [] if (row.instance, row.tenant) == key]
    known = starts + [row.created for row in own if row.created is not None]
    dated = [one for one in sets if one["start"] is not None]
    in_sets = [one["start"] for one in dated if one["id"] in held]
    made = Verdict(since=min(known, default=None))
    made.appeared = appeared = min(known + in_sets, default=None)
    seen = -1
    for place, one in enumerate(dated):
        if one["id"] in held or (starts and one["start"] <= max(starts)):
            seen = place
    owed = [
        one["inside"] and one["regular"] and appeared is not None and one["start"] >= appeared
        for one in dated
    ]
    made.fate = fate_of(history, key, sum(owed[seen + 1 :]))
    if made.fate in {"gone", "stopped"}:
        newest = max(starts, default=None)
        ends = [row.end for row in rows if row.start == newest and row.end is not None]
        made.until = max(ends + [newest] * (newest is not None), default=None)
    regular = [one["start"] for one in dated if one["regular"]]
    made.new = appeared is not None and bool(regular) and min(regular) < appeared
    fulls = [o["start"] for o in dated if o["id"] in held and is_full(rows, o["id"])]
    grace = min(fulls, default=max(in_sets, default=None)) if made.new else None
    absent = {"gone": "gone", "unlisted": "gone", "alive": "missing", "stopped": None}[made.fate]
    for place, one in enumerate(dated):
        child = held.get(one["id"])
        if child is not None and one["inside"]:
            what = told(child)
            if what == "present" and grace is not None and one["start"] <= grace:
                what = "new"
        elif child is None and owed[place]:
            early = grace is not None and one["start"] < grace
            what = absent if place > seen else "new" if early else "missing"
        else:
            continue
        if what is not None:
            made.rows.append({"set": one, "presence": what, "child": child})
    made.runs = runs_of(made.rows)
    for one in sets:
        if one["start"] is None and one["inside"] and one["id"] in held:
            child = held[one["id"]]
            made.rows.append({"set": one, "presence": told(child), "child": child})
    return made


def is_full(rows: list[Child], cluster: str) -> bool:
    kinds = {"DATABASE", "TABLE"}
    return any(
        row.cluster == cluster and row.state == "done" and row.full is True
        for row in rows
        if (row.kind or "").upper() not in kinds
    )


def told(child: Child) -> str:
    words = {"done": "present", "cancelled": "failed", "expired": "unknown"}
    return words.get(child.state, child.state)


def runs_of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    judged = [row for row in rows if row["set"]["state"] == "done"]
    made = []
    for kind, group in groupby(judged, key=lambda row: row["presence"]):
        run = [row["set"] for row in group]
        if kind in {"missing", "failed", "gone"}:
            made.append((kind, run[0]["id"], run[-1]["id"], len(run), run[0]["start"]))
    return made


# --- random histories ----------------------------------------------------------------------------


def pick(random: Any, *choices: Any) -> Any:
    return choices[random.randrange(len(choices))]


@st.composite
def histories(draw: Any) -> History:
    """Draw two instances that may share ids, with most kinds of trouble."""
    random = draw(st.randoms(use_true_random=False))
    calm = random.random() < 0.3
    share = random.random() < 0.5
    clusters, children = [], []
    for instance in ("ob1", "ob2")[: 1 + (random.random() < 0.6)]:
        mark = "" if share else instance
        hand = pick(random, 0.0, 0.0, 0.3, 1.0)
        made = [
            random_cluster(random, f"{mark}c{random.randrange(100)}-{n}", instance, hand, calm)
            for n in range(random.randrange(9))
        ]
        clusters += made
        for tenant in ("t1", "t2", "sys", f"{instance}x")[: 1 + random.randrange(4)]:
            life = random.randrange(-9, 12), random.randrange(4, 40)
            ill = random.random() < 0.4
            for one in made:
                when = one.start or 0
                if calm and life[0] <= when <= life[1]:
                    start = one.start
                    children.append(Child(one.id, tenant, start, instance=instance, end=when + 1))
                elif not calm and life[0] <= when <= life[1] and random.random() < 0.85:
                    rows = random_children(random, one, tenant)
                    children += [replace(row, state="failed") if ill else row for row in rows]
    clusters += [
        replace(one, storage="archive", state=pick(random, "done", one.state))
        for one in clusters
        if not calm and random.random() < 0.15
    ]
    now = pick(random, 1000, 1000, 15)
    start, end = pick(random, None, None, 5), pick(random, None, None, 15)
    listed = random_inventory(random, children) if random.random() < 0.6 else None
    return History(clusters, children, listed, now, start, end, 1000)


def random_cluster(random: Any, name: str, instance: str, hand: float, calm: Any) -> Cluster:
    start = None if not calm and random.random() < 0.04 else random.randrange(24)
    state = "done" if calm or random.random() < 0.8 else pick(random, *STATES)
    trigger = pick(random, "BACKUP_NOW", "backup_now") if random.random() < hand else None
    end = pick(random, None, (start or 0) + random.randrange(3))
    trigger = trigger or pick(random, "AUTO", None)
    inside = calm or (random.random() < 0.7 if start is None else start >= 3)
    return Cluster(name, start, state, instance, end, trigger, inside=inside)


def random_children(random: Any, one: Cluster, tenant: str) -> list[Child]:
    made = []
    for _ in range(pick(random, 1, 1, 1, 1, 2)):
        start = None if one.start is None else one.start + pick(random, 0, 0, 0, 1, -1, 4)
        start = None if random.random() < 0.04 else start
        state = "done" if random.random() < 0.75 else pick(random, *STATES)
        cluster = pick(random, *[one.id] * 12, None, "elsewhere")
        child = Child(cluster, tenant, start, state, one.instance)
        child.end = pick(random, None, (start or 0) + random.randrange(4))
        child.full = pick(random, *[True, False, False, None])
        child.kind = pick(random, *["TENANT"] * 8, None, "table", "DATABASE")
        child.storage = pick(random, "standard", "standard", "archive", None)
        child.name = pick(random, "one", "other")
        made.append(child)
    return made


def random_inventory(random: Any, children: list[Child]) -> list[Listed]:
    whose = sorted({(row.instance, row.tenant) for row in children} | {("ob1", "never")})
    stopped = pick(random, None, None, "ob1", "ob2")
    hidden = pick(random, None, None, None, "ob1", "ob2")
    bare = pick(random, None, None, None, "ob1")
    made = []
    for instance, tenant in whose:
        if instance not in {hidden, bare} and random.random() < 0.75:
            status = pick(random, "ONLINE", "online", "odd", None, "Stopped", "PENDING_DELETE")
            cluster = "STOPPED" if instance == stopped else pick(random, "ONLINE", None)
            created = pick(random, None, None, random.randrange(-5, 24))
            made.append(Listed(tenant, instance, status, cluster, created))
    for row in made:  # an instance's status is one
        if row.instance == stopped:
            row.instance_status = "STOPPED"
    return made + ([Listed(None, bare)] if bare else [])


# --- the kernel ----------------------------------------------------------------------------------


def hours(values: Any) -> list[int | None]:
    ends = (presence.NAT, presence.NEVER)
    return [None if int(v) in ends else (int(v) - ORIGIN) // HOUR for v in values]


def kernel(history: History, seed: int | None = None) -> tuple[Any, ...]:
    """Return scene, lives and presence."""
    sets, asked = history.sets(seed), history.asked()
    scene = scene_of(sets, asked.get("start"), asked.get("end"), asked["as_of"])
    lives = presence.lives_of(scene, sets)
    return scene, lives, presence.presence_of(scene, lives)


def told_runs(scene: Any, found: presence.Presence) -> dict[tuple[str, str], list[Any]]:
    keys = list(scene.tenants.astype("str").itertuples(index=False, name=None))
    ids = scene.known.clusters["backup_set_id"].array
    made: dict[tuple[str, str], list[Any]] = {key: [] for key in keys}
    rows = zip(found.tenant, found.kind, found.first, found.last, found.count, strict=True)
    for (tenant, kind, first, last, count), start in zip(rows, hours(found.start), strict=True):
        what = presence.KINDS[kind]
        made[keys[tenant]].append((what, ids[first], ids[last], int(count), start))
    return made


def inside(history: History, when: Any) -> bool:
    late = history.end is not None and history.end < history.now and when >= history.end
    return not late and (history.start is None or when >= history.start)


@settings(max_examples=examples(200), deadline=None)
@given(histories(), st.integers(0, 50))
def test_the_kernel_agrees_with_the_second_way(history: History, seed: int) -> None:
    scene, lives, found = kernel(history, seed)
    expected = verdicts(history)
    keys = list(scene.tenants.astype("str").itertuples(index=False, name=None))
    assert keys == list(expected)
    assert hours(lives.since) == [each.since for each in expected.values()]
    assert hours(lives.until) == [each.until for each in expected.values()]
    fates = [presence.FATES[code] for code in lives.fate]
    assert fates == [each.fate for each in expected.values()]
    assert told_runs(scene, found) == {key: each.runs for key, each in expected.items()}
    new = {k: e.appeared for k, e in expected.items() if e.new and inside(history, e.appeared)}
    named = [keys[tenant] for tenant in found.new_tenant]
    assert dict(zip(named, hours(found.new_start), strict=True)) == new


@settings(max_examples=50, deadline=None)
@given(histories(), st.integers(0, 50))
def test_the_order_of_rows_does_not_matter(history: History, seed: int) -> None:
    history.children = numbered(history.children)
    one, other = kernel(history), kernel(history, seed)
    assert told_runs(one[0], one[2]) == told_runs(other[0], other[2])
    for name in ("new_tenant", "new_start", "new_full", "old_tenant", "again_tenant"):
        assert getattr(one[2], name).tolist() == getattr(other[2], name).tolist()
    for name in ("since", "until", "fate", "listed", "last"):
        assert getattr(one[1], name).tolist() == getattr(other[1], name).tolist()


def test_the_drawn_histories_hold_every_kind_of_trouble() -> None:
    """A second way that is never asked anything agrees with everything."""
    seen: set[str] = set()

    @settings(max_examples=2000, deadline=None, database=None, derandomize=True)
    @given(histories())
    def look(history: History) -> None:
        for each in verdicts(history).values():
            seen.update([each.fate], (row["presence"] for row in each.rows))
            seen.update(f"run of {kind}" for kind, _, _, count, _ in each.runs if count > 1)

    look()
    presences = {"present", "failed", "missing", "new", "gone", "running", "unknown"}
    assert seen >= presences | set(presence.FATES) | {f"run of {kind}" for kind in presence.KINDS}


# --- cases worked by hand ------------------------------------------------------------------------


def two(days: int = 6) -> History:
    """Return a cluster set a day that holds both of two tenants."""
    clusters = [Cluster(f"c{day}", 24 * day, end=24 * day + 2, listed=2) for day in range(days)]
    children = [
        Child(f"c{day}", tenant, 24 * day, end=24 * day + 1, size=1.0)
        for tenant in ("a", "b")
        for day in range(days)
    ]
    return History(clusters, children)


def without(history: History, tenant: str, day: int) -> Child:
    """Take a tenant's set out of a cluster set, and return it."""
    child = next(c for c in history.children if (c.tenant, c.start) == (tenant, 24 * day))
    history.children.remove(child)
    return child


def test_nothing_wrong_is_nothing_said() -> None:
    _, lives, found = kernel(two())
    for name in ("tenant", "new_tenant", "sized_row", "old_tenant"):
        assert not len(getattr(found, name))
    assert list(lives.fate) == [presence.ALIVE] * 2
    assert hours(lives.since) == [0, 0]
    assert hours(lives.until) == [None, None]
    assert hours(lives.last) == [120, 120]
    assert lives.unprotected.empty


def test_no_duplicate_and_no_missing_id_hides_a_lack() -> None:
    for instead in ("c1", None, "elsewhere"):
        history = two()
        child = without(history, "b", 3)
        history.children.append(replace(child, cluster=instead, id="again"))
        scene, _, found = kernel(history)
        assert told_runs(scene, found)["ob1", "b"] == [("missing", "c3", "c3", 1, 72)]


def test_runs_begin_and_end_with_their_cluster_sets() -> None:
    history = two()
    for day in (1, 2):
        without(history, "b", day)
    history.clusters[2].end = None
    _, _, found = kernel(history)
    assert hours(found.start) == [24]
    assert hours(found.end) == [48]  # where no end is known, the last one's start
    history.clusters[2].end = 50
    assert hours(kernel(history)[2].end) == [50]


def test_a_set_by_hand_that_holds_it_ends_a_run() -> None:
    history = two()
    for day in (2, 3):
        without(history, "b", day)
    scene, _, found = kernel(history)
    assert told_runs(scene, found)["ob1", "b"] == [("missing", "c2", "c3", 2, 48)]
    history.clusters.append(Cluster("hand", 60, trigger="BACKUP_NOW"))
    scene, _, found = kernel(history)
    assert told_runs(scene, found)["ob1", "b"] == [("missing", "c2", "c3", 2, 48)]
    history.children.append(Child("hand", "b", 60))
    scene, _, found = kernel(history)
    assert told_runs(scene, found)["ob1", "b"] == [
        ("missing", "c2", "c2", 1, 48),
        ("missing", "c3", "c3", 1, 72),
    ]


@pytest.mark.parametrize(("size", "told"), [(2.015, False), (2.0149, False), (2.016, True)])
def test_a_size_within_rounding_is_the_sum(size: float, told: bool) -> None:  # noqa: FBT001
    history = two()
    history.clusters[1].size = size
    history.clusters[2].size = 4 - size
    _, _, found = kernel(history)
    assert len(found.sized_row) == (2 if told else 0)
    if told:
        assert found.sized_row.tolist() == [1, 2]
        assert found.sized.tolist() == [size, 4 - size]
        assert found.sized_sum.tolist() == [2.0, 2.0]
        assert found.sized_number.tolist() == [2, 2]


def test_a_size_is_judged_only_where_all_of_the_sum_is_known() -> None:
    def sized(history: History) -> int:
        history.clusters[1].size = 9.0
        return len(kernel(history)[2].sized_row)

    assert sized(two()) == 1
    for change in ({"state": "failed"}, {"size": None}, {"kind": "TABLE"}):
        history = two()
        history.children[1] = replace(history.children[1], **change)
        assert sized(history) == 0, change
    for change in ({"state": "running"}, {"inside": False}):
        history = two()
        history.clusters[1] = replace(history.clusters[1], **change)
        assert sized(history) == 0, change
    history = two()
    history.clusters[1].size = 2.0
    history.clusters[1].listed = 2
    picked = history.sets().select(tenants="a")  # the sizes are those of all tenants
    scene = scene_of(picked, None, None, None)
    found = presence.presence_of(scene, presence.lives_of(scene, picked))
    assert found is not None
    assert not len(found.sized_row)


def test_copies_have_a_size_each() -> None:
    history = two()
    history.children = numbered(history.children)
    for one in history.clusters:
        one.size = 2.0
    history.clusters += [replace(one, storage="archive", size=1.0) for one in history.clusters]
    history.children += [replace(c, storage="archive", size=0.5) for c in history.children]
    assert not len(kernel(history)[2].sized_row)
    history.clusters[8].size = 2.0
    assert kernel(history)[2].sized_row.tolist() == [8]


@given(st.lists(st.integers(0, 900), min_size=1, max_size=12), st.randoms())
def test_sums_of_rounded_sizes_are_within_rounding(parts: list[int], random: Any) -> None:
    exact = [part / 100 + random.uniform(-0.005, 0.005) for part in parts]
    one = Cluster("c", 0, size=round(sum(exact), 2), listed=len(parts))
    children = [Child("c", f"t{n}", 0, size=part / 100) for n, part in enumerate(parts)]
    assert not len(kernel(History([one], children))[2].sized_row)


def test_newcomers_are_told_with_their_first_row_and_full() -> None:
    history = two()
    history.children += [Child(f"c{day}", "n", 24 * day, full=False) for day in (3, 4, 5)]
    scene, _, found = kernel(history, seed=3)
    assert found.new_tenant.tolist() == [2]
    assert hours(found.new_start) == [72]
    assert found.new_full.tolist() == [False]
    row = scene.known.tenants.iloc[found.new_row[0]]
    assert (row["tenant_id"], row["cluster_backup_set_id"]) == ("n", "c3")
    history.children[-1].full = True
    assert kernel(history)[2].new_full.tolist() == [True]
    history.start = 80  # it came before the window
    assert not len(kernel(history)[2].new_tenant)


def test_grace_ends_with_the_start_of_the_first_full() -> None:
    history = two()
    history.children += [Child(f"c{day}", "n", 24 * day) for day in (3, 4, 5)]
    history.clusters.append(Cluster("twin", 72))
    scene, _, found = kernel(history)
    assert told_runs(scene, found)["ob1", "n"] == [("missing", "twin", "twin", 1, 72)]


def test_created_again_is_told_while_the_old_one_is_only_missing() -> None:
    history = two(4)
    gone = without(history, "b", 3)
    history.children.append(replace(gone, tenant="c"))
    for child in history.children:
        child.name = "same" if child.tenant in {"b", "c"} else "other"
    _, lives, found = kernel(history)
    assert [presence.KINDS[kind] for kind in found.kind] == ["missing"]
    assert (found.old_tenant.tolist(), found.again_tenant.tolist()) == ([1], [2])
    history.inventory = [Listed("a"), Listed("b"), Listed("c")]  # both are there: two tenants
    assert not len(kernel(history)[2].old_tenant)
    history.inventory = [Listed("a"), Listed("c")]
    scene, lives, found = kernel(history)
    assert [presence.FATES[fate] for fate in lives.fate] == ["alive", "gone", "alive"]
    assert told_runs(scene, found)["ob1", "b"] == [("gone", "c3", "c3", 1, 72)]
    assert found.old_tenant.tolist() == [1]


def test_lives_end_with_the_last_row() -> None:
    history = two()
    history.children = [c for c in history.children if c.tenant != "b" or (c.start or 0) < 50]
    history.inventory = [Listed("a", status="Offline", created=-7)]
    _, lives, _ = kernel(history)
    assert [presence.FATES[fate] for fate in lives.fate] == ["stopped", "gone"]
    assert hours(lives.since) == [-7, 0]
    assert hours(lives.until) == [121, 49]
    assert lives.listed.tolist() == [True, False]
    for child in history.children:
        child.end = None
    assert hours(kernel(history)[1].until) == [120, 48]


def test_stand_ins_are_never_gone() -> None:
    history = two()
    for child in history.children:
        child.tenant = "sys" if child.tenant == "a" else child.tenant
    history.inventory = [Listed("other")]
    _, lives, _ = kernel(history)
    assert [presence.FATES[fate] for fate in lives.fate] == ["gone", "alive"]


def test_who_is_in_no_set_at_all_is_unprotected() -> None:
    history = two()
    history.inventory = [
        *(Listed("a"), Listed("b"), Listed(None, "ob9"), Listed("sys")),
        *(Listed("idle", status="STOPPED"), Listed("shut", "ob8", instance_status="stopped")),
        *(Listed("future", created=2000), Listed("bare", created=5), Listed("bare", "ob7")),
    ]
    table = kernel(history)[1].unprotected
    assert list(zip(table["instance_id"], table["tenant_id"], strict=True)) == [
        ("ob1", "bare"),
        ("ob7", "bare"),
    ]
    assert hours(presence.integers(table["created_time"])) == [5, None]
    blank = kernel(two())[1].unprotected
    assert blank.dtypes.astype("str").equals(table.dtypes.astype("str"))
    # Of one that has rows only later, an older `as_of` does not know whether it was there.
    history.children.append(Child("c5", "late", 120))
    history.inventory.append(Listed("late"))
    history.now = 100
    assert "late" not in list(kernel(history)[1].unprotected["tenant_id"])


def test_without_cluster_sets_nothing_is_said_of_presence() -> None:
    rows = two().sets().tenants
    scene = scene_of(rows, None, None, None)
    lives = presence.lives_of(scene, rows)
    assert presence.presence_of(scene, lives) is None
    assert list(lives.fate) == [presence.ALIVE] * 2


def test_empty_frames_have_nothing_to_say() -> None:
    for tenants in (empty("tenants"), two().sets().tenants):
        sets = BackupSets(empty("clusters"), tenants)
        scene = scene_of(sets, None, None, None)
        found = presence.presence_of(scene, presence.lives_of(scene, sets))
        assert found is not None
        assert not any(len(getattr(found, name)) for name in found.__slots__)
