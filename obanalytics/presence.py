"""Tell which tenants are in which cluster sets, and from when to when each owes backups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.curve import micro
from obanalytics.frames import PARTS_OF_A_TENANT, STAND_IN, conform, empty
from obanalytics.recovery import NAT, NEVER, integers, search
from obanalytics.schema import STATES, BackupSets

if TYPE_CHECKING:
    from collections.abc import Collection

    from obanalytics.curve import Scene
    from obanalytics.recovery import Bools, Ints

FATES = ("alive", "gone", "stopped", "unlisted")
ALIVE, GONE, STOPPED, UNLISTED = range(len(FATES))
KINDS = ("missing", "failed", "gone")
# No backup is made of what is in one of these. What is about to be stopped or started owes on.
STOPPED_WORDS = frozenset(
    {"stopped", "offline", "pending_delete", "deleted", "arrears_closed", "prepaid_expire_closed"}
)
BY_HAND = "BACKUP_NOW"
GONE_AFTER = 3  # cluster sets without a tenant, of which the inventory says nothing
ROUNDING = 0.005  # what the server's rounding may be off by [GiB]
# Of several rows of a tenant in one cluster set the one whose state comes last here tells.
RANKED = ("", "failed", "cancelled", "unknown", "expired", "running", "done")
FAILED, DONE = RANKED.index("cancelled"), RANKED.index("done")  # failed: up to here
_RANKS = np.array([RANKED.index(state) for state in STATES], np.uint8)
_DONE = STATES.index("done")


@dataclass(slots=True)
class _ClusterSets:
    """The cluster sets, copies of one as one, by instance, start and id; without a start last.

    `instance` is a position among the categories of the tenants' `instance_id`, beyond them where
    there is no start (`NEVER`); `row` stands for each in the clusters frame, each row of which is
    of the set `of_cluster`; `inside` the window, and done there: `judged`; `regular`: done, and due
    to hold every tenant: not by hand, unless all of the instance are; in the window: `expects`.
    `heads`: where each instance's sets begin, and the last ones end. `before`: how many sets that
    expect every tenant are before each, and how many there are.
    """

    instance: Ints
    start: Ints
    end: Ints
    state: Ints
    row: Ints
    of_cluster: Ints
    inside: Bools
    judged: Bools
    regular: Bools
    expects: Bools
    heads: Ints
    before: Ints


@dataclass(slots=True)
class Lives:
    """From when to when each tenant owes backups, in the order of `scene.tenants`.

    Parameters
    ----------
    since : ndarray of int
        When it is first known: its creation by the inventory, or the start of its first row if
        that is earlier; `NEVER` where neither is known [µs].
    until : ndarray of int
        Until when it owes: the end (else start) of its last row, where the inventory says that it
        is gone or stopped; else `NEVER` [µs].
    fate : ndarray of int
        Position in `FATES`.
    listed : ndarray of bool
        Whether it is proved to be there: by the inventory, or by a row later than `as_of`.
    last : ndarray of int
        The start of its newest row; `NAT` where unknown [µs].
    unprotected : DataFrame
        Tenants of the inventory of which there is no row: `instance_id`, `tenant_id`,
        `tenant_name`, `created_time` [UTC].
    roster : object or None
        Who is in which cluster set; None where there are no cluster sets.
    """

    since: Ints
    until: Ints
    fate: Ints
    listed: Bools
    last: Ints
    unprotected: pd.DataFrame
    roster: _Roster | None


def lives_of(scene: Scene, sets: BackupSets | pd.DataFrame | None = None) -> Lives:
    """Say from when to when each tenant owes backups.

    Parameters
    ----------
    scene : Scene
        What was known.
    sets : BackupSets, DataFrame or None
        What the scene was made of: of an `as_of` in the past it proves what was there then,
        whatever a later inventory says. None: nothing is later than `as_of`.

    Returns
    -------
    Lives
        Every tenant's.

    Notes
    -----
    `gone`: the inventory lists tenants of its instance, but not this one. `stopped`: by the status
    of the tenant or its instance. `unlisted`: the inventory says nothing of its instance, and it
    is absent from the newest three or more cluster sets; it owes on. Else `alive`.
    """
    tenants, frame = scene.tenants, scene.known.tenants
    group, start = _groups(scene), integers(frame["start_time"], copy=False)
    first, last = np.full(len(tenants), NEVER), np.full(len(tenants), NAT)
    np.maximum.at(last, group, start)
    np.minimum.at(first, group, np.where(start == NAT, NEVER, start))
    says = _Inventory(scene)
    later = _later(scene, sets)
    proved = np.isin(np.arange(len(tenants)), says.places(later))
    since = np.minimum(first, says.created)
    stopped = says.stopped & ~proved
    gone = says.lists & ~says.listed & ~proved
    roster = None if scene.known.clusters is None else _Roster(scene, group, since, last)
    fate = np.where(gone, GONE, np.where(stopped, STOPPED, ALIVE)).astype(np.int8)
    listed = says.listed | proved
    if roster is not None:
        fate[(roster.absences >= GONE_AFTER) & (fate == ALIVE) & ~listed] = UNLISTED
    until = np.full(len(tenants), NEVER)
    over = (fate == GONE) | (fate == STOPPED)
    if over.any():
        rows = np.flatnonzero(over[group] & (start == last[group]))
        until[over] = last[over]
        np.maximum.at(until, group[rows], integers(frame["end_time"].array[rows]))
    return Lives(since, until, fate, listed, last, says.unprotected(later), roster)


def first_rows(scene: Scene, tenants: Ints, *, newest: bool = False) -> Ints:
    """Return the oldest row of some tenants, or the newest.

    Parameters
    ----------
    scene : Scene
        The tenants and their rows.
    tenants : ndarray of int
        Whose, in order.
    newest : bool
        Whether the newest is wanted.

    Returns
    -------
    ndarray of int
        Rows of the tenants frame; of rows with the same start the one whose id comes last.
    """
    frame, group, count = scene.known.tenants, _groups(scene), len(scene.tenants)
    start = integers(frame["start_time"], copy=False)
    # No time is earlier than every time: as the oldest it would hide the others.
    start = start if newest else -np.where(start == NAT, NEVER, start)
    edge = np.full(count, NAT)
    np.maximum.at(edge, group, start)
    rows = np.flatnonzero(start == edge[group])
    rows = rows[np.isin(group[rows], tenants)]
    if len(rows) == len(tenants):
        return rows[np.argsort(group[rows])]
    ids, _ = pd.factorize(frame["backup_set_id"].array[rows], sort=True)
    rows = rows[np.lexsort((_ordinals(frame["tenant_name"].array[rows]), ids, group[rows]))]
    return rows[np.append(group[rows][1:] != group[rows][:-1], [True])]


def _groups(scene: Scene) -> Ints:
    """Return the tenant of every row."""
    roll = scene.roll
    return np.repeat(np.arange(len(roll.counts)), roll.counts) if roll.group is None else roll.group


def _states(values: pd.Series) -> Ints:
    """Return states as positions in `STATES`; one that is none is unknown."""
    known = [each if each in STATES else "unknown" for each in [*values.cat.categories, ""]]
    return np.array([STATES.index(each) for each in known], np.int8)[values.array.codes]


def _later(scene: Scene, sets: BackupSets | pd.DataFrame | None) -> pd.DataFrame:
    """Return the tenants that have sets later than `as_of`."""
    frame = sets.tenants if isinstance(sets, BackupSets) else sets
    as_of = scene.known.as_of
    if frame is None or as_of is None or len(frame) == len(scene.known.tenants):
        return scene.tenants.iloc[:0]
    frame = conform(frame, "tenants")
    return frame.loc[frame["start_time"] > as_of, ["instance_id", "tenant_id"]].drop_duplicates()


class _Inventory:
    """What the inventory says of the tenants of a scene.

    `lists` (it lists tenants of the tenant's instance), `listed` (this one is among them),
    `stopped`, `created` [µs; `NEVER` where unknown].
    """

    def __init__(self, scene: Scene) -> None:
        self.scene, self.table = scene, scene.known.inventory
        count = len(scene.tenants)
        self.lists, self.listed, self.stopped = (np.zeros(count, bool) for _ in range(3))
        self.created = np.full(count, NEVER)
        if self.table is None or not count:
            return
        table, instance = self.table, scene.tenants["instance_id"].array
        owner = _codes(table["instance_id"], instance.categories)
        # A cluster that runs has tenants: where none is listed, they are hidden, not gone.
        lists, closed = (np.zeros(len(instance.categories) + 1, bool) for _ in range(2))
        lists[owner[table["tenant_id"].notna().to_numpy()]] = True
        closed[owner[_says(table["instance_status"], STOPPED_WORDS)]] = True
        lists[-1] = closed[-1] = False
        self.lists = lists[instance.codes]
        place = self.places(table)
        found, rows = place[place >= 0], np.flatnonzero(place >= 0)
        self.listed[found] = self.stopped[found] = True
        # Where cluster sets stand in for tenants, no list can name them.
        self.listed |= self.lists & (scene.tenants["tenant_id"] == STAND_IN).to_numpy()
        self.stopped[found[~_says(table["tenant_status"], STOPPED_WORDS)[rows]]] = False
        self.stopped |= closed[instance.codes]
        created = integers(table["created_time"].array[rows])
        np.minimum.at(self.created, found, np.where(created == NAT, NEVER, created))

    def places(self, whose: pd.DataFrame) -> Ints:
        """Return the positions of tenants among those of the scene; -1 where they are not there."""
        own = self.scene.tenants
        width = np.int64(len(own["tenant_id"].cat.categories) + 1)
        known, wanted = (
            _codes(each["instance_id"], own["instance_id"].cat.categories) * width
            + _codes(each["tenant_id"], own["tenant_id"].cat.categories)
            for each in (own, whose)
        )
        at = np.searchsorted(known, wanted)  # the tenants are in order
        is_there = np.append(known, [NAT])[at] == wanted
        return np.where(is_there, at, -1)

    def unprotected(self, later: pd.DataFrame) -> pd.DataFrame:
        """Return the tenants that are in the inventory, are not stopped, and have no row."""
        names = ["instance_id", "tenant_id", "tenant_name", "created_time"]
        table, own = empty("inventory") if self.table is None else self.table, self.scene.tenants
        if table.empty:
            return table[names]
        words = [table[name] for name in ("instance_status", "tenant_status")]
        owes = ~(_says(words[0], STOPPED_WORDS) | _says(words[1], STOPPED_WORDS))
        whole = own.loc[own["tenant_id"] == STAND_IN, "instance_id"]
        owes &= (table["tenant_id"].notna() & (table["tenant_id"] != STAND_IN)).to_numpy()
        owes &= ~table["instance_id"].isin(whole).to_numpy()
        if self.scene.known.as_of is not None:
            owes &= ~(table["created_time"] > self.scene.known.as_of).to_numpy()
        if len(later):  # those of which only later rows tell were perhaps not there yet
            seen = set(later.itertuples(index=False, name=None))
            whose = zip(table["instance_id"], table["tenant_id"], strict=True)
            later_only = np.array([each in seen for each in whose], bool)
            owes &= ~later_only | table["created_time"].notna()
        lone = owes & (self.places(table) < 0)
        return table.loc[lone, names].sort_values(names[:2], ignore_index=True)


def _codes(values: pd.Series, names: pd.Index) -> Ints:
    """Return the positions of labels among some names; -1 where they are none of them."""
    found = names.get_indexer(values.cat.categories).astype(np.int32)
    return np.append(found, np.int32(-1))[values.array.codes]


def _says(values: pd.Series, words: Collection[str]) -> Bools:
    """Tell which labels are one of some words in lower case, however they are written."""
    is_one = [str(each).strip().lower() in words for each in values.cat.categories]
    return np.array([*is_one, False], bool)[values.array.codes]


def _ordinals(values: Any) -> Ints:  # noqa: ANN401 - a Categorical
    """Return numbers that sort as the labels do."""
    return np.append(np.argsort(np.argsort(values.categories)), [-1])[values.codes]


def _cluster_sets(scene: Scene) -> tuple[_ClusterSets, Any, Ints]:
    """Return the cluster sets, the ids that there are, and each set's instance and id as a number.

    It is ``instance * len(ids) + id``.
    """
    frame: Any = scene.known.clusters
    names = scene.tenants["instance_id"].cat.categories
    owner = _codes(frame["instance_id"], names)
    ids, texts = pd.factorize(frame["backup_set_id"].array)
    rows = np.flatnonzero((owner >= 0) & (ids >= 0))
    key = owner[rows] * np.int64(len(texts)) + ids[rows]
    start = integers(frame["start_time"])
    start[start == NAT] = NEVER
    by_hand, inside = _says(frame["trigger_mode"], {BY_HAND.lower()}), np.array(frame["in_window"])
    of, every = np.full(len(frame), -1), rows
    if copies := len(pd.unique(key)) < len(key):
        rows = _merged(frame, rows, key, (start, by_hand, inside))
    rows = rows[_order(owner[rows], start[rows], ids[rows], texts)]
    owner, start, by_hand = owner[rows], start[rows], by_hand[rows]
    placed = np.where(start == NEVER, len(names), owner)
    keys = owner * np.int64(len(texts)) + ids[rows]
    of[rows] = np.arange(len(rows))
    if copies:
        of[every] = pd.Index(keys).get_indexer(key)
    state = _states(frame["state"])[rows]
    regular = (state == _DONE) & (start != NEVER)
    regular &= ~by_hand | (np.bincount(owner[~by_hand], minlength=len(names)) == 0)[owner]
    inside = inside[rows] & _in_window(scene, start)
    heads = np.searchsorted(placed, np.arange(len(names) + 1))
    before = np.append([0], np.cumsum(inside & regular))
    flags = inside, inside & (state == _DONE), regular, inside & regular
    ends = integers(frame["end_time"].array[rows])
    return _ClusterSets(placed, start, ends, state, rows, of, *flags, heads, before), texts, keys


def _in_window(scene: Scene, start: Ints) -> Bools:
    """Tell which starts are in the window; an end at or behind `as_of` bounds nothing."""
    inside: Bools = start >= (NAT if scene.begin is None else scene.begin)
    as_of = scene.known.as_of
    if as_of is not None and scene.end < micro(as_of):
        inside &= (start < scene.end) | (start == NEVER)
    return inside


def _merged(frame: Any, rows: Ints, key: Ints, columns: tuple[Any, ...]) -> Ints:  # noqa: ANN401
    """Make one of copies: return the row of the best, with what is to be said of all of them."""
    rank = _RANKS[_states(frame["state"])[rows]].astype(np.int64)
    by = np.lexsort((_ordinals(frame["storage_class"].array)[rows], columns[0][rows], -rank))
    table = {n: each[rows][by] for n, each in enumerate(columns)}
    of = pd.DataFrame(table | {"row": rows[by]}).groupby(key[by])
    leads = of["row"].first().to_numpy()
    for each, values in zip(columns, (of[0].min(), of[1].max(), of[2].max()), strict=True):
        each[leads] = values.to_numpy()
    return leads


def _order(owner: Ints, start: Ints, ids: Ints, texts: Any) -> Ints:  # noqa: ANN401 - texts
    """Return the order by instance, start and id; without a start last."""
    by = np.lexsort((start, owner, start == NEVER))
    tied = np.flatnonzero((np.diff(owner[by]) == 0) & (np.diff(start[by]) == 0))
    if not len(tied):
        return by
    some, rank = np.unique(ids[by[np.append(tied, tied + 1)]]), np.zeros(len(texts), np.int64)
    rank[some] = np.argsort(np.argsort(np.asarray(texts[some], dtype=object)))
    return np.lexsort((rank[ids], start, owner, start == NEVER))


def _places(scene: Scene, texts: Any, keys: Ints) -> Ints:  # noqa: ANN401 - texts
    """Return the cluster set of every tenant row; -1 where it is none of its instance."""
    frame, count = scene.known.tenants, len(texts)
    if not count or not len(frame):
        return np.full(len(frame), -1)
    known = pa.array(texts, type=pa.large_string())
    column = pa.array(frame["cluster_backup_set_id"].array, type=pa.large_string())
    code = pc.fill_null(pc.index_in(column, value_set=known, skip_nulls=True), -1).to_numpy()
    owner = _codes(frame["instance_id"], scene.tenants["instance_id"].cat.categories)
    text = keys % count
    if len(pd.unique(text)) == len(keys):  # no two instances share an id
        place, owners = np.full(count + 1, -1, np.int32), np.full(count + 1, -2, np.int32)
        place[text], owners[text] = np.arange(len(keys)), keys // count
        return np.where(owners[code] == owner, place[code], -1)
    wanted = np.where(code < 0, -1, owner * np.int64(count) + code)
    return pd.Index(keys).get_indexer(wanted)


class _Roster:
    """Which rows are sets of a whole tenant in a cluster set, and the span of each tenant.

    Of each row of `frame`: `group` (whose), `state` (in `RANKED`), `of_row` (its cluster set, -1
    for none); of rows in sets with a start: `row`, `tenant`, `place` (the set). By tenant: `first`
    (set that holds it; beyond all where none does), `low` to `high` (from the first set that it
    owes to behind the last by which it was seen), `absences` (newest sets that expect and lack it),
    `appeared` [µs], `new` (after the first set that was to hold it), `grace` (until when a new one
    may be absent [µs]), `full` (whether a full set of a new one was seen).
    """

    def __init__(self, scene: Scene, group: Ints, since: Ints, last: Ints) -> None:
        self.sets, texts, keys = _cluster_sets(scene)
        sets, frame, placed = self.sets, scene.known.tenants, int(self.sets.heads[-1])
        self.frame, self.group = frame, group
        self.state = _RANKS[_states(frame["state"])]
        self.of_row = of_row = _places(scene, texts, keys)
        parts = _says(frame["backup_object_type"], {each.lower() for each in PARTS_OF_A_TENANT})
        if parts.any():
            of_row[parts] = -1
        self.row = np.flatnonzero((of_row >= 0) & (of_row < placed))
        self.all = len(self.row) == len(of_row)
        self.tenant, self.place = (self.of(x).astype(np.int64) for x in (group, of_row))
        self.first, newest = np.full(len(since), len(sets.start)), np.full(len(since), -1)
        np.minimum.at(self.first, self.tenant, self.place)
        np.maximum.at(newest, self.tenant, self.place)
        instance = scene.tenants["instance_id"].cat.codes.to_numpy().astype(np.int64)
        self.appeared = np.minimum(since, np.append(sets.start, [NEVER])[self.first])
        self.low = search(sets.instance, sets.start, instance, self.appeared)
        seen = search(sets.instance, sets.start, instance, last, "right")
        self.high = np.maximum(np.maximum(newest + 1, seen), self.low)
        tail = sets.heads[instance + 1]
        self.absences = sets.before[tail] - sets.before[self.high]
        due = np.append(np.flatnonzero(sets.regular), [placed])
        due = due[np.searchsorted(due, sets.heads[instance])]
        begun = np.where(due < tail, np.append(sets.start, [NEVER])[due], NEVER)
        self.new = (begun < self.appeared) & (self.appeared < NEVER)
        self._welcome()

    def _welcome(self) -> None:
        """Find the first full set of the new tenants."""
        self.grace, self.full = np.full(len(self.new), NAT), np.zeros(len(self.new), bool)
        some = np.flatnonzero(self.new[self.tenant]) if self.new.any() else self.row[:0]
        start, row = self.sets.start[self.place[some]], self.row[some]
        np.maximum.at(self.grace, self.tenant[some], start)
        is_full = self.frame["full"].array[row].to_numpy(dtype=bool, na_value=False)
        is_full &= self.state[row] == DONE
        self.full[self.tenant[some[is_full]]] = True
        np.minimum.at(self.grace, self.tenant[some[is_full]], start[is_full])

    def of(self, values: Ints) -> Ints:
        """Return what there is of the rows, of what there is of every row of the frame."""
        return values if self.all else values[self.row]

    @cached_property
    def cells(self) -> _Cells:
        """What each cluster set has of each tenant."""
        return _Cells(self)


class _Cells:
    """Every cluster set in the span of every tenant, and what there is of the tenant.

    `of_row`: the cell of each row of the roster; `rank`: what there is, in `RANKED`; `repeats`:
    whether some cell has several rows.
    """

    def __init__(self, roster: _Roster) -> None:
        sizes, state = roster.high - roster.low, roster.of(roster.state)
        self.ends = np.cumsum(sizes)
        self.shift = self.ends - roster.high
        self.of_row = roster.place + self.shift[roster.tenant]
        self.rank = np.zeros(int(sizes.sum()), np.uint8)
        self.rank[self.of_row] = state
        self.repeats = np.count_nonzero(self.rank) < len(state)
        if self.repeats:
            np.maximum.at(self.rank, self.of_row, state)

    def locate(self, cells: Ints) -> tuple[Ints, Ints]:
        """Return whose some cells are, and of which cluster set."""
        tenant = np.searchsorted(self.ends, cells, "right")
        return tenant, cells - self.shift[tenant]


@dataclass(slots=True)
class Presence:
    """What is to be said of the tenants in the cluster sets; rows are those of the frames.

    Parameters
    ----------
    tenant, kind, first, last, count, start, end : ndarray of int
        Runs of done cluster sets, one after another of those that expect or hold the tenant, that
        lack it or hold no more than a failed set of it: whose, position in `KINDS`, first and
        last cluster row, how many, start of the first and end (else start) of the last [µs].
    new_tenant, new_row, new_start : ndarray of int
        Who appeared in the window after a set that was to hold it, its first row, when [µs].
    new_full : ndarray of bool
        Whether a done full set of it was seen.
    sized_row, sized_number : ndarray of int
        Cluster rows whose size is not the sum of their tenants', and the number of tenants.
    sized, sized_sum : ndarray of float
        The size and the sum [GiB].
    old_tenant, again_tenant : ndarray of int
        Who is gone and, under its name, close behind, who is new: likely the same re-created.
    """

    tenant: Ints
    kind: Ints
    first: Ints
    last: Ints
    count: Ints
    start: Ints
    end: Ints
    new_tenant: Ints
    new_row: Ints
    new_start: Ints
    new_full: Bools
    sized_row: Ints
    sized_number: Ints
    sized: Any
    sized_sum: Any
    old_tenant: Ints
    again_tenant: Ints


def presence_of(scene: Scene, lives: Lives) -> Presence | None:
    """Find absent, failed, gone, new and re-created tenants, and sizes that do not add up.

    Parameters
    ----------
    scene : Scene
        What was known.
    lives : Lives
        What `lives_of` said of it.

    Returns
    -------
    Presence or None
        None where there are no cluster sets.
    """
    roster = lives.roster
    if roster is None:
        return None
    who = np.flatnonzero(roster.new & _in_window(scene, roster.appeared))
    rows = first_rows(scene, who) if len(who) else who
    found = [*_runs(roster, lives), who, rows, roster.appeared[who]]
    found += [roster.full[who], *_sizes(scene, roster), *_again(scene, lives, roster, who)]
    return Presence(*found)


def _runs(roster: _Roster, lives: Lives) -> Any:  # noqa: ANN401 - arrays
    """Return the runs of sets without a tenant, or with a failed set of it."""
    sets, cells = roster.sets, roster.cells
    at = np.flatnonzero(cells.rank <= FAILED)
    tenant, place = cells.locate(at)
    failed = cells.rank[at] > 0
    lacks = sets.expects[place] & (sets.start[place] >= roster.grace[tenant])
    keep = np.where(failed, sets.judged[place], lacks)
    at, tenant, place, failed = at[keep], tenant[keep], place[keep], failed[keep]
    absent, over = roster.absences, (lives.fate == GONE) | (lives.fate == UNLISTED)
    some = np.flatnonzero((absent > 0) & (lives.fate != STOPPED))
    due, behind = np.flatnonzero(sets.expects), sets.before[roster.high[some]]
    tenant = np.concatenate([tenant, some])
    first = np.concatenate([place, due[behind]])
    last = np.concatenate([place, due[behind + absent[some] - 1]])
    kind = np.concatenate([failed.astype(np.int64), 2 * over[some]])
    count = np.concatenate([np.ones(len(place), np.int64), absent[some]])
    at = np.concatenate([at, cells.ends[some]])
    by = np.lexsort((first, tenant))
    tenant, first, last, kind, count, at = (x[by] for x in (tenant, first, last, kind, count, at))
    # What is between two of them is what is due between, and what is held though it was not due.
    held = (sets.judged & ~sets.expects)[roster.place]
    extra = np.unique(cells.of_row[held])
    between = sets.before[first[1:]] - sets.before[last[:-1] + 1]
    between += np.searchsorted(extra, at[1:]) - np.searchsorted(extra, at[:-1], "right")
    joins = (tenant[1:] == tenant[:-1]) & (kind[1:] == kind[:-1]) & (between == 0)
    heads = np.flatnonzero(np.append([True], ~joins)[: len(at)])
    last = last[np.append(heads[1:], len(at))[: len(heads)] - 1]
    count = np.add.reduceat(count, heads) if len(heads) else count
    tenant, first, kind = tenant[heads], first[heads], kind[heads]
    ends = np.where(sets.end[last] == NAT, sets.start[last], sets.end[last])
    return tenant, kind, sets.row[first], sets.row[last], count, sets.start[first], ends


def _sizes(scene: Scene, roster: _Roster) -> Any:  # noqa: ANN401 - arrays
    """Return the cluster rows whose size is not the sum of those of their tenants."""
    clusters: Any = scene.known.clusters
    frame, sets = scene.known.tenants, roster.sets
    size = clusters["size_gib"].to_numpy()
    rows = np.flatnonzero(~np.isnan(size) & (_states(clusters["state"]) == _DONE))
    rows = rows[np.append(sets.judged, [False])[sets.of_cluster[rows]]]
    if not len(rows):
        return rows, rows, size[rows], size[rows]
    # Copies in several storage classes have a row each, and each its own tenants' rows.
    classes = frame["storage_class"].cat.categories
    width = len(classes) + 1
    own = roster.of_row * width + frame["storage_class"].array.codes + 1
    part = np.where(roster.state == DONE, frame["size_gib"].to_numpy(), np.nan)
    of_cluster = sets.of_cluster * width + _codes(clusters["storage_class"], classes) + 1
    inside = roster.of_row >= 0
    bins = len(sets.row) * width
    number = np.bincount(own[inside], minlength=bins)[of_cluster[rows]]
    total = np.bincount(own[inside], part[inside], bins)[of_cluster[rows]]
    off = np.abs(size[rows] - total) > ROUNDING * (number + 1) + 1e-9 * np.abs(total) + 1e-9
    # Where some of its tenants were left out, their sizes are not known to be in the sum.
    off &= (number > 0) & (number >= clusters["tenant_sets"].to_numpy()[rows])
    return rows[off], number[off], size[rows][off], total[off]


def _again(scene: Scene, lives: Lives, roster: _Roster, new: Ints) -> tuple[Ints, Ints]:
    """Return pairs of a tenant that is gone and a new one of its name, close behind it."""
    gone = (lives.fate == GONE) | (lives.fate == UNLISTED)
    gone |= (lives.fate == ALIVE) & ~lives.listed & (roster.absences > 0)
    old, new = np.flatnonzero(gone), new[roster.first[new] < len(roster.sets.row)]
    if not len(old) or not len(new):
        return old[:0], old[:0]
    sides = []
    for who, at, newest in ((old, roster.high, True), (new, roster.first, False)):
        names = roster.frame["tenant_name"].array[first_rows(scene, who, newest=newest)]
        instance = scene.tenants["instance_id"].array.codes[who]
        side = {"who": who, "instance": instance, "name": names, "at": at[who]}
        sides.append(pd.DataFrame(side).dropna(subset="name"))
    pairs = sides[0].merge(sides[1], on=["instance", "name"])
    before = roster.sets.before
    pairs["apart"] = before[pairs["at_y"]] - before[pairs["at_x"]]
    pairs = pairs[(pairs["at_y"] >= pairs["at_x"]) & (pairs["apart"] <= GONE_AFTER)]
    pairs = pairs.sort_values(["apart", "who_x", "who_y"])
    pairs = pairs.drop_duplicates("who_y").drop_duplicates("who_x").sort_values("who_x")
    return pairs["who_x"].to_numpy(), pairs["who_y"].to_numpy()
