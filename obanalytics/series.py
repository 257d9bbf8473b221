"""Sort backup sets into series of one tenant and mode each, in order of time, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.frames import PARTS_OF_A_TENANT
from obanalytics.recovery import NAT, NEVER, integers
from obanalytics.schema import STATES, BackupSets, facts

if TYPE_CHECKING:
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import Instant

DONE, RUNNING = STATES.index("done"), STATES.index("running")
_OVER = [STATES.index(name) for name in ("done", "failed", "cancelled")]
_MODES = 3  # full, incremental, unknown
LEVELS = ("tenant", "cluster")


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of some series: an entry per backup set, by series, start and id.

    Parameters
    ----------
    heads : DataFrame
        A row per series, sorted by instance, tenant and mode (full, incremental, unknown):
        `instance_id`, `tenant_id`, `tenant_name` (the newest), `full`.
    bounds : ndarray of int
        Where each series begins among the entries, and the number of entries behind the last.
    rows : ndarray of int
        The row of `frame` that each entry is from.
    start, end : ndarray of int
        UTC since 1970 [µs]; `NAT` where there is none (starts: such entries come last).
    state : ndarray of int
        Position in `STATES`.
    size : ndarray of float
        [GiB]; NaN where there is none.
    inside : ndarray of bool
        Whether the set is in the window.
    frame : DataFrame
        The rows' frame.
    as_of : Timestamp or None
        The instant that was looked from [UTC].
    """

    heads: pd.DataFrame
    bounds: Ints
    rows: Ints
    start: Ints
    end: Ints
    state: Ints
    size: Any
    inside: Bools
    frame: pd.DataFrame
    as_of: pd.Timestamp | None

    @property
    def series(self) -> Ints:
        """The series of every entry."""
        return np.repeat(np.arange(len(self.heads)), np.diff(self.bounds))

    @property
    def length(self) -> Ints:
        """How long each run took; `NAT` where it has no start or end, or an end before it [µs]."""
        known = (self.start != NAT) & (self.end != NAT) & (self.end >= self.start)
        return np.where(known, self.end - np.where(known, self.start, 0), NAT)

    def where(self, wanted: Bools) -> Runs:
        """Return some of the entries; every series stays, if it be empty.

        Parameters
        ----------
        wanted : ndarray of bool
            Which entries.

        Returns
        -------
        Runs
            Those, in order.
        """
        if wanted.all():
            return self
        before = np.concatenate([[0], np.cumsum(wanted, dtype=np.int64)])
        names = ("rows", "start", "end", "state", "size", "inside")
        parts = {name: getattr(self, name)[wanted] for name in names}
        return replace(self, bounds=before[self.bounds], **parts)

    def where_state(self, state: int) -> Runs:
        """Return the entries of one state; every series stays.

        Parameters
        ----------
        state : int
            Position in `STATES`.

        Returns
        -------
        Runs
            Those, in order.
        """
        return self.where(self.state == state)

    def without_empty(self) -> Runs:
        """Return the series that have an entry.

        Returns
        -------
        Runs
            The same entries.
        """
        some = np.flatnonzero(np.diff(self.bounds))
        if len(some) == len(self.heads):
            return self
        heads = self.heads.take(some).reset_index(drop=True)
        for name in ("instance_id", "tenant_id", "tenant_name"):
            heads[name] = heads[name].cat.remove_unused_categories()
        bounds = np.append(self.bounds[some], self.bounds[-1])
        return replace(self, heads=heads, bounds=bounds)

    def column(self, name: str) -> Any:  # noqa: ANN401 - an array of pandas
        """Return a column of the frame, entry by entry.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        array
            In the order of the entries.
        """
        return self.frame[name].array.take(self.rows)


def runs_of(
    sets: BackupSets | pd.DataFrame, as_of: Instant | None = None, *, level: str = "tenant"
) -> Runs:
    """Sort backup sets into series.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].
    level : {"tenant", "cluster"}
        Whose sets: those of every tenant, or those of every cluster (its `tenant_id` is NA); the
        size of a cluster's set is the sum of its tenants'.

    Returns
    -------
    Runs
        Sets of databases and tables left out; copies of one set in several storage classes are one:
        of its copies that are done, else over, else of the others, the one that started, then
        ended, first, and of equal ones the smallest.

    Raises
    ------
    ValueError
        When the clusters' sets are asked of a plain tenants frame.
    DataError
        When a plain frame is no tenants frame.
    """
    known = facts(sets, as_of)
    frame = known.tenants if level == "tenant" else known.clusters
    if frame is None:
        raise ValueError(
            'by="cluster" needs backup sets: a plain tenants frame has no cluster sets'
        )
    chosen = _chosen(frame, level, plain=not isinstance(sets, BackupSets))
    code, heads = _series(frame, chosen, level)
    rows, code = _in_order(frame, chosen, code, _mode(heads["full"].array))
    kept = np.flatnonzero(np.bincount(code, minlength=len(heads)))
    if len(kept) < len(heads):
        number = np.zeros(len(heads), np.int64)
        number[kept] = np.arange(len(kept))
        heads, code = heads.take(kept).reset_index(drop=True), number[code]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(heads)))])
    if level == "tenant":
        heads = _named(heads, frame, rows, bounds)
    state = _states(frame["state"])
    return Runs(
        heads=heads,
        bounds=bounds.astype(np.int64),
        rows=rows,
        start=integers(frame["start_time"], copy=False)[rows],
        end=integers(frame["end_time"], copy=False)[rows],
        state=state[rows],
        size=frame["size_gib"].to_numpy(dtype=np.float64)[rows],
        inside=frame["in_window"].to_numpy(dtype=bool)[rows],
        frame=frame,
        as_of=known.as_of,
    )


def _states(column: pd.Series) -> Ints:
    """Return each row's position in `STATES`, whatever categories a slice has left."""
    if list(column.cat.categories) != list(STATES):
        column = column.cat.set_categories(list(STATES))
    return column.array.codes


def _chosen(frame: pd.DataFrame, level: str, *, plain: bool) -> Ints | None:
    """Return the rows that are of whole tenants, one a set; None: all of them."""
    rows = None
    kinds = frame["backup_object_type"].array
    partial = [str(each).strip().upper() in PARTS_OF_A_TENANT for each in kinds.categories]
    if level == "tenant" and any(partial):
        rows = np.flatnonzero(~np.array([*partial, False])[kinds.codes])
    storage = frame["storage_class"].array.codes
    several = len(storage) > 0 and storage.min() != storage.max()
    # Backup sets hold no row twice; a frame that was put together by hand may.
    if several or (plain and frame.duplicated(["instance_id", "tenant_id", "backup_set_id"]).any()):
        rows = _one_copy(frame if rows is None else frame.take(rows), rows, level)
    return rows


def _one_copy(frame: pd.DataFrame, rows: Ints | None, level: str) -> Ints:
    """Return one row per backup set."""
    place = np.where(frame["state"].eq("done"), 0, 2)
    place[(place > 0) & frame["state"].isin([STATES[code] for code in _OVER]).to_numpy()] = 1
    key = ["instance_id", *(["tenant_id"] if level == "tenant" else []), "backup_set_id"]
    small = frame[[*key, "start_time", "end_time", "size_gib"]].reset_index(drop=True)
    order = ["place", "start_time", "end_time", "size_gib"]
    small = small.assign(place=place).sort_values(order, kind="stable", na_position="last")
    kept = np.sort(small.index[~small.duplicated(key)].to_numpy())
    return kept if rows is None else rows[kept]


def _series(frame: pd.DataFrame, rows: Ints | None, level: str) -> tuple[Ints, pd.DataFrame]:
    """Return each row's series, and what the series are; some may have no row."""
    instance, tenant = frame["instance_id"].array, frame["tenant_id"].array
    mode = _mode(frame["full"].array)
    parts = [_ranked(instance), _ranked(tenant)] if level == "tenant" else [_ranked(instance)]
    place = parts[0][0]
    for rank, names in parts[1:]:
        place = place * np.int64(len(names)) + rank
    place = place * np.int64(_MODES) + mode
    place = place if rows is None else place[rows]
    width = int(np.prod([len(names) for _, names in parts])) * _MODES
    if width <= max(4 * len(place), 1 << 16):
        there = np.flatnonzero(np.bincount(place, minlength=width))
        number = np.zeros(width, np.int32)
        number[there] = np.arange(len(there), dtype=np.int32)
        code: Ints = number[place]
    else:
        there, code = np.unique(place, return_inverse=True)
    full = pd.array(np.array([True, False, None], object)[there % _MODES], dtype="boolean")
    left, columns = there // _MODES, {}
    for name, (_, names) in zip(("tenant_id", "instance_id"), reversed(parts), strict=False):
        if len(parts) == 1:
            name = "instance_id"  # noqa: PLW2901 - a cluster's series have no tenant
        columns[name] = _category(left % len(names), names)
        left = left // len(names)
    nobody = pd.Categorical([None] * len(there))
    heads = pd.DataFrame(
        {
            "instance_id": columns["instance_id"],
            "tenant_id": columns.get("tenant_id", nobody),
            "tenant_name": nobody,
            "full": full,
        }
    )
    return code, heads


def _ranked(values: Any) -> tuple[Ints, list[Any]]:  # noqa: ANN401 - a categorical
    """Return each row's rank among the sorted labels, NA last, and the labels."""
    order = np.argsort(values.categories.astype(str), kind="stable")
    rank = np.empty(len(order) + 1, np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = len(order)
    return rank[values.codes], [*values.categories[order], None]


def _category(codes: Ints, names: list[Any]) -> pd.Categorical:
    """Return a categorical that holds only the labels that are there."""
    there = np.unique(codes)
    there = there[there < len(names) - 1]
    number = np.full(len(names), -1)
    number[there] = np.arange(len(there))
    return pd.Categorical.from_codes(
        number[codes], pd.Index([names[i] for i in there], dtype="str")
    )


def _mode(full: Any) -> Ints:  # noqa: ANN401 - a boolean array of pandas
    """Return 0 for a full set, 1 for an incremental, 2 where it is not known."""
    known, value = ~np.asarray(full.isna()), full.to_numpy(dtype=bool, na_value=False)
    return np.where(known, np.where(value, 0, 1), 2).astype(np.int8)


def _in_order(
    frame: pd.DataFrame, chosen: Ints | None, code: Ints, mode: Ints
) -> tuple[Ints, Ints]:
    """Return the rows by series, start and id, and their series."""
    start = integers(frame["start_time"], copy=False)
    start = start if chosen is None else start[chosen]
    start = np.where(start == NAT, NEVER, start)
    by = _scattered(code, start, mode)
    by = _sorted(code, start) if by is None else by
    code, start = code[by], start[by]
    tied = np.zeros(len(by), bool)
    tied[1:] = (code[1:] == code[:-1]) & (start[1:] == start[:-1])
    if tied.any():
        tied[:-1] |= tied[1:]
        at = np.flatnonzero(tied)
        mine = by[at] if chosen is None else chosen[by[at]]
        ids = frame["backup_set_id"].array.take(mine).astype(object)
        again = sorted(range(len(at)), key=lambda i: (code[at[i]], start[at[i]], str(ids[i])))
        by[at] = by[at[again]]
    return (by if chosen is None else chosen[by]), code


def _scattered(code: Ints, start: Ints, mode: Ints) -> Ints | None:
    """Return the order by series and start of rows that come by tenant and start, else None.

    Such rows, as they mostly are, come in order in each of their tenant's series too: every row
    goes to the next place of its series, and nothing is sorted.
    """
    first = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(mode)))])
    by, of_row = np.empty(len(code), np.int64), mode[code]
    for each in range(_MODES):
        at = np.flatnonzero(of_row == each)
        mine, when = code[at], start[at]
        step = np.diff(mine)
        if (step < 0).any() or ((step == 0) & (when[1:] < when[:-1])).any():
            return None
        before = np.searchsorted(mine, np.arange(len(mode)))
        by[(first[:-1] - before)[mine] + np.arange(len(at))] = at
    return by


def _sorted(code: Ints, start: Ints) -> Ints:
    """Return the order by series and start."""
    known = start[start != NEVER]
    if not len(known):
        return np.argsort(code, kind="stable")
    least, unit = int(known.min()), 1_000_000
    unit = 1 if ((known - least) % unit).any() else unit
    bits = ((int(known.max()) - least) // unit + 1).bit_length()
    if bits + int(code.max()).bit_length() > 62:  # noqa: PLR2004 - what an int64 holds
        return np.lexsort((start, code))
    place = np.where(start == NEVER, (1 << bits) - 1, (start - least) // unit)
    return np.argsort((code.astype(np.int64) << bits) | place, kind="stable")


def _named(heads: pd.DataFrame, frame: pd.DataFrame, rows: Ints, bounds: Ints) -> pd.DataFrame:
    """Return the heads with each series' newest name."""
    last = bounds[1:] - 1
    names = frame["tenant_name"].array
    named = pd.Categorical(names.take(rows[last])).remove_unused_categories()
    return heads.assign(tenant_name=named)


def fleet_series(series: Ints, start: Ints, size: Any, *, stock: bool) -> tuple[Ints, Any]:  # noqa: ANN401
    """Return the sizes of many series as one.

    Parameters
    ----------
    series, start, size : array
        The sets by series and start [µs, GiB].
    stock : bool
        Whether the newest size of each series is added up, every 7 days back from the newest start,
        while it is less than three of its usual intervals (medians; 7 days of a single set) old,
        from when all series have begun that did so within their usual interval from the very
        first start; else what was written in each whole day is, without the first and the last.

    Returns
    -------
    start : array of int
        The instants that were looked at, or the days' begins [µs].
    size : array of float
        [GiB]
    """
    day = 86_400_000_000
    if not len(start):
        return np.zeros(0, np.int64), np.zeros(0)
    if not stock:
        low, number = int(start.min()) // day, start // day
        made = np.bincount(number - low, size)
        # The first and the last day may be cut off.
        return ((np.arange(len(made)) + low) * day)[1:-1], made[1:-1]
    new = np.append(True, series[1:] != series[:-1])
    heads = np.flatnonzero(new)
    gaps = pd.Series(np.where(new, np.nan, np.diff(start, prepend=0))).groupby(series).median()
    usual = gaps.reindex(series[heads]).fillna(7.0 * day).to_numpy()
    # Those that were there from the beginning come one by one, which is no growth.
    from_the_beginning = start[heads] <= start.min() + usual
    begin = int(start[heads][from_the_beginning].max())
    whole = np.arange(int(start.max()), begin - 1, -7 * day)[::-1]
    number = np.cumsum(new) - 1
    until = np.append(start[1:], np.iinfo(np.int64).max)
    until[np.append(heads[1:], len(start)) - 1] = np.iinfo(np.int64).max
    until = np.minimum(until, start + (3.0 * usual[number]).astype(np.int64))
    # A size counts from its start until the next: it comes at the first, it goes at the last.
    change = np.bincount(np.searchsorted(whole, start), size, len(whole) + 1)
    change -= np.bincount(np.searchsorted(whole, until), size, len(whole) + 1)
    return whole, np.cumsum(change[:-1])


def spans(micro: Any) -> pd.Series:  # noqa: ANN401 - numbers
    """Return microseconds as durations.

    Parameters
    ----------
    micro : ndarray
        Integers or floats; `NAT` or NaN is NA [µs].

    Returns
    -------
    Series
        Durations.
    """
    numbers = np.asarray(micro)
    if numbers.dtype.kind == "f":
        known = np.isfinite(numbers)
        numbers = np.where(known, np.round(np.where(known, numbers, 0)), NAT).astype(np.int64)
    return pd.Series(numbers.astype(np.int64).view("m8[us]"))
