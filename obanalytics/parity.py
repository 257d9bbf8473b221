"""Lay out cluster sets against tenants: who is in which, failed, missing, new or gone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from obanalytics.curve import scene_of
from obanalytics.frames import PARTS_OF_A_TENANT, conform
from obanalytics.presence import (
    BY_HAND,
    DONE,
    GONE,
    RANKED,
    STOPPED,
    UNLISTED,
    first_rows,
    lives_of,
)
from obanalytics.recovery import NAT, NEVER, integers, labels, times
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from obanalytics.curve import Scene
    from obanalytics.presence import Lives
    from obanalytics.recovery import Ints
    from obanalytics.schema import BackupSets, Instant

PRESENCES = ("present", "failed", "missing", "new", "gone", "running", "unknown")
_CODE = {name: code for code, name in enumerate(PRESENCES)}
_OF_RANK = {"": "missing", "cancelled": "failed", "expired": "unknown", "done": "present"}
_OF_STATE = np.array([STATES.index(state) if state else -1 for state in RANKED])
_BY_RANK = np.array([_CODE[_OF_RANK.get(state, state)] for state in RANKED])
PARITY = (
    ("instance_id", "category"),
    ("cluster_backup_set_id", "string"),
    ("start_time", "instant"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("presence", "category"),
    ("state", "category"),
    ("backup_set_id", "string"),
    ("full", "boolean"),
    ("size_gib", "float64"),
    ("size_share", "float64"),
    ("cluster_state", "category"),
)


def tenant_parity(
    sets: BackupSets | pd.DataFrame,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Tell of every cluster set which tenants are in it, and which should be and are not.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame: its cluster sets are those that its rows name.
    start, end : instant or None
        The half-open window of the cluster sets' starts; None takes that of the facts [UTC].
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per cluster set and tenant that is in it or should be, by instance, start, cluster
        set and tenant, sets without a start last: `instance_id`, `cluster_backup_set_id`,
        `start_time` (the cluster set's [UTC]), `tenant_id`, `tenant_name` (the newest),
        `presence` (category), `state`, `backup_set_id`, `full`, `size_gib` (of the tenant's set;
        NA where there is none), `size_share` (of the cluster set's size, 0 to 1; NA where that is
        not known or 0), `cluster_state`.

    Raises
    ------
    ValueError
        When the window ends before it starts.

    Notes
    -----
    `present`: a done set of the tenant, whatever its validity; `failed`: a failed or cancelled
    one; `running`; `unknown`: one of unknown state, or expired. `new`: a tenant that appeared
    after the first cluster set that was to hold every tenant is new up to its first done full set
    (without one: up to its last set), whether it is there or absent.

    Only done cluster sets expect tenants; those by hand (`BACKUP_NOW`) only the tenants that they
    hold, unless all of the instance are by hand. A tenant is expected in the sets that start from
    its creation on, or from its first set. Absent from the newest one or two sets that expect it:
    `missing`; from three or more: `gone`. The inventory overrides both: a tenant that it lists is
    `missing`, one that it lacks among others of its instance is `gone` from the first set on, a
    stopped one is not expected after its last row. Absent and back again later: `missing`.

    Copies of a set in several storage classes are one set. Sets of databases or tables are no sets
    of their tenant. Of several sets of a tenant in one cluster set the best tells.
    """
    scene = scene_of(sets, start, end, as_of)
    if scene.known.clusters is None:
        scene = replace(scene, known=scene.known._replace(clusters=_named(scene)))
    lives = lives_of(scene, sets)
    parts = [_span(lives), _absent(lives), _undated(lives)]
    tenant, place, presence, row = (np.concatenate(each) for each in zip(*parts, strict=True))
    by = np.argsort(place * np.int64(len(scene.tenants) + 1) + tenant)
    return _table(scene, lives, (tenant[by], place[by]), presence[by], row[by])


def _span(lives: Lives) -> tuple[Ints, ...]:
    """Return who is in which set or absent from it, while the tenant was seen."""
    roster: Any = lives.roster
    sets, cells = roster.sets, roster.cells
    row, some = np.full(len(cells.rank), -1), np.arange(len(roster.row))
    if cells.repeats:
        some = _best(lives, cells.of_row, roster.row)
    row[cells.of_row[some]] = roster.row[some]
    tenant, place = cells.locate(np.arange(len(cells.rank)))
    here = np.flatnonzero(np.where(cells.rank > 0, sets.inside[place], sets.expects[place]))
    tenant, place, row, rank = tenant[here], place[here], row[here], cells.rank[here]
    begun, grace = sets.start[place], roster.grace[tenant]
    is_new = np.where(rank == 0, begun < grace, (rank == DONE) & (begun <= grace))
    return tenant, place, np.where(is_new, _CODE["new"], _BY_RANK[rank]), row


def _undated(lives: Lives) -> tuple[Ints, ...]:
    """Return who is in the sets of which no start is known."""
    roster: Any = lives.roster
    sets, group = roster.sets, roster.group
    row = np.flatnonzero(roster.of_row >= sets.heads[-1])
    row = row[sets.inside[roster.of_row[row]]]
    cell = roster.of_row[row] * np.int64(len(lives.fate)) + group[row]
    row = row[_best(lives, cell, row)]
    return group[row], roster.of_row[row], _BY_RANK[roster.state[row]], row


def _best(lives: Lives, cell: Ints, row: Ints) -> Ints:
    """Return which rows tell, one of each cell: of the best state, then of the latest start."""
    if not len(row):
        return np.arange(0)
    roster: Any = lives.roster
    frame, rank = roster.frame, roster.state[row]
    start = integers(frame["start_time"], copy=False)[row]
    classes = frame["storage_class"].array
    ordinal = np.append(np.argsort(np.argsort(classes.categories)), [-1])[classes.codes[row]]
    columns: tuple[Ints, ...] = (ordinal, start, rank, cell)
    by = np.lexsort(columns)
    same = np.logical_and.reduce([each[by][1:] == each[by][:-1] for each in columns])
    if same.any():
        ids, _ = pd.factorize(frame["backup_set_id"].array[row], sort=True)
        by = np.lexsort((ids, *columns))
    return by[np.append(cell[by][1:] != cell[by][:-1], [True])]


def _absent(lives: Lives) -> tuple[Ints, ...]:
    """Return who is absent from the newest sets."""
    roster: Any = lives.roster
    some = np.flatnonzero((roster.absences > 0) & (lives.fate != STOPPED))
    count = roster.absences[some]
    tenant = np.repeat(some, count)
    nth = np.arange(len(tenant)) - np.repeat(np.cumsum(count) - count, count)
    due = np.flatnonzero(roster.sets.expects)
    place = due[roster.sets.before[roster.high[tenant]] + nth]
    over = (lives.fate == GONE) | (lives.fate == UNLISTED)
    presence = np.where(over[tenant], _CODE["gone"], _CODE["missing"])
    return tenant, place, presence, np.full(len(tenant), -1)


def _table(
    scene: Scene, lives: Lives, whose: tuple[Ints, Ints], found: Ints, row: Ints
) -> pd.DataFrame:
    """Make the table."""
    roster: Any = lives.roster
    frame, clusters = scene.known.tenants, cast("pd.DataFrame", scene.known.clusters)
    (tenant, place), there = whose, row >= 0
    cluster, start = roster.sets.row[place], roster.sets.start[place]
    who, newest = scene.tenants, first_rows(scene, np.arange(len(scene.tenants)), newest=True)
    size = frame["size_gib"].array.take(row, allow_fill=True)
    whole = clusters["size_gib"].to_numpy()[cluster]
    columns = {
        "instance_id": who["instance_id"].array.take(tenant),
        "cluster_backup_set_id": clusters["backup_set_id"].array.take(cluster),
        "start_time": times(np.where(start == NEVER, NAT, start)),
        "tenant_id": who["tenant_id"].array.take(tenant),
        "tenant_name": frame["tenant_name"].array.take(newest).take(tenant),
        "presence": labels(found, PRESENCES),
        "state": labels(_OF_STATE[np.where(there, roster.state[row], 0)], STATES),
        "backup_set_id": frame["backup_set_id"].array.take(row, allow_fill=True),
        "full": frame["full"].array.take(row, allow_fill=True),
        "size_gib": size,
        "size_share": size / np.where(whole > 0, whole, np.nan),
        "cluster_state": labels(roster.sets.state[place], STATES),
    }
    return pd.DataFrame(columns)


def _named(scene: Scene) -> pd.DataFrame:
    """Make the cluster sets that the rows of tenants name; of their own size nothing is known."""
    frame = scene.known.tenants
    parts = frame["backup_object_type"].astype("str").str.strip().str.upper()
    frame = frame[~parts.isin(PARTS_OF_A_TENANT) & frame["cluster_backup_set_id"].notna()]
    instance = frame["instance_id"].array
    ids, texts = pd.factorize(frame["cluster_backup_set_id"].array)
    key, names = pd.factorize(instance.codes * np.int64(len(texts) + 1) + ids)
    start, end = integers(frame["start_time"]), integers(frame["end_time"])
    first, last = np.full(len(names), NEVER), np.full(len(names), NAT)
    np.minimum.at(first, key, np.where(start == NAT, NEVER, start))
    np.maximum.at(last, key, end)
    state = [(each, (frame["state"] == each).to_numpy()) for each in STATES]
    has = {each: np.bincount(key[rows], minlength=len(names)) > 0 for each, rows in state}
    order = ("running", "done", "unknown", "expired", "failed", "cancelled")
    by_hand = frame["trigger_mode"].astype("str").str.strip().str.upper().eq(BY_HAND).to_numpy()
    manual, inside = (np.zeros(len(names), bool) for _ in range(2))
    manual[key[by_hand]] = True
    inside[key[frame["in_window"].to_numpy()]] = True
    made = {
        "instance_id": instance.categories.take(names // (len(texts) + 1)),
        "backup_set_id": texts.take(names % (len(texts) + 1)),
        "tenant_id": "sys",
        "state": np.select([has[each] for each in order], order, "unknown"),
        "start_time": times(np.where(first == NEVER, NAT, first)),
        "end_time": times(np.where(has["running"], NAT, last)),
        "trigger_mode": np.where(manual, BY_HAND, "AUTO"),
        "in_window": inside,
    }
    return conform(pd.DataFrame(made), "clusters")
