"""Add up what is in store at given instants, and say when the server lets backup sets go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.frames import PARTS_OF_A_TENANT, moved_in
from obanalytics.recovery import NAT, NEVER, PART_ROWS, integers
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import Facts

MODES = 3  # full, incremental, unknown
_DONE, _RUNNING = STATES.index("done"), STATES.index("running")
_FAILED = [STATES.index(name) for name in ("failed", "cancelled")]

# The server rounds sizes to 0.01 GiB. Whole numbers of a part of that, 0.64 bytes, add up without
# a remainder: what came and went leaves nothing.
_PARTS = 100 * float(1 << 24)
_MOST = float(1 << 62) / _PARTS  # [GiB]


def goes_by_rule(
    group: Ints,
    end: Ints,
    is_full: Bools,
    is_good: Bools,
    is_failed: Bools,
    window: Any,  # noqa: ANN401 - a number or an array
) -> Ints:
    """Say when the server's rule lets each set go.

    Parameters
    ----------
    group : ndarray of int
        Each set's tenant, ascending; the sets of a tenant from the oldest to the newest.
    end : ndarray of int
        When each ended; `NAT`: it runs, or it is not known [µs].
    is_full, is_good, is_failed : ndarray of bool
        Whether it is a full one, whether it is done, and whether it failed or was cancelled.
    window : int or ndarray of int
        The recovery window, one or one a set [µs].

    Returns
    -------
    ndarray of int
        From when on it is gone; `NEVER`: it stays [µs].

    Notes
    -----
    Of a tenant's sets with ``end <= now - window``, from the newest to the oldest: running ones
    stay, failed ones go, the first good full stays and what is newer than it; everything older
    goes. So a set goes at ``window + max(own end, earliest end of a good full behind it)``, a
    failed one at ``window + own end``, and the last good full, with what is behind it, stays.
    """
    keep = is_full & is_good & (end != NAT)
    keeps = np.flatnonzero(keep)
    whose, least = np.append(group[keeps], [-1]), np.append(end[keeps], [NEVER])
    # Runs that overlapped may have ended in another order than they began.
    if not ((least[1:] >= least[:-1]) | (whose[1:] != whose[:-1])).all():
        least = pd.Series(least[::-1]).groupby(whose[::-1]).cummin().to_numpy()[::-1]
    goes, before = np.empty(len(group), np.int64), 0
    for part in slices(len(group)):
        at = np.cumsum(keep[part])
        at += before  # how many good fulls are not behind each set: the number of the next one
        before = int(at[-1])
        behind = np.where(whose[at] == group[part], least[at], NEVER)
        own = end[part]
        np.copyto(behind, own, where=is_failed[part])
        leaves = (own != NAT) & (behind != NEVER)
        when = np.maximum(own, behind, out=behind)
        np.add(when, window if np.ndim(window) == 0 else window[part], out=when, where=leaves)
        goes[part] = np.where(leaves, when, NEVER)
    return goes


def slices(count: int) -> list[slice]:
    """Return so many entries at a time as stay in a processor's cache.

    Parameters
    ----------
    count : int
        How many there are.

    Returns
    -------
    list of slice
        In order.
    """
    return [slice(a, min(a + PART_ROWS, count)) for a in range(0, count, PART_ROWS)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the instants of each series stand in one long array, series by series.

    Parameters
    ----------
    first : ndarray of int
        The number of each series' first instant; it has all from there on.
    count : int
        How many instants there are.
    """

    first: Ints
    count: int

    @property
    def bounds(self) -> Ints:
        """Where each series begins, and the length of the whole."""
        return np.concatenate([[0], np.cumsum(self.count - self.first)]).astype(np.int64)

    @property
    def size(self) -> int:
        """How long the array is."""
        return int((self.count - self.first).sum())

    def add(self, made: Any, series: Ints, at: Ints, amount: Any) -> None:  # noqa: ANN401 - numbers
        """Add amounts by series and instant; those behind the last instant are left out.

        Parameters
        ----------
        made : ndarray
            To what, in the layout.
        series, at : ndarray of int
            The series of each amount, and the number of its instant.
        amount : ndarray or int
            What to add.
        """
        inside = at < self.count
        if not inside.all():
            series, at = series[inside], at[inside]
            amount = amount if isinstance(amount, int) else amount[inside]
        place = (self.bounds[:-1] - self.first)[series]
        place += at
        np.add.at(made, place, amount)

    def totals(self, changes: Any) -> Any:  # noqa: ANN401 - numbers
        """Return, at every instant, the sum of a series' changes so far.

        Parameters
        ----------
        changes : ndarray
            In the layout; it is overwritten.

        Returns
        -------
        ndarray
            In the layout.
        """
        bounds = self.bounds[:-1]
        np.cumsum(changes, out=changes)
        before = np.where(bounds > 0, changes[np.maximum(bounds - 1, 0)] if len(changes) else 0, 0)
        changes -= np.repeat(before, self.count - self.first)
        return changes


def held_at(
    instants: Ints,
    born: Ints,
    gone: Ints,
    size: Any,  # noqa: ANN401 - floats
    group: Ints,
    *,
    count: int | None = None,
) -> Any:  # noqa: ANN401 - floats
    """Add up what is in store at each instant.

    Parameters
    ----------
    instants : ndarray of int
        When to look, ascending [µs].
    born, gone : ndarray of int
        From when to before when each set is in store; a `gone` of `NEVER` or `NAT`: for ever, a
        `born` of `NAT`: not at all [µs].
    size : ndarray of float
        Their sizes; NaN counts as nothing [GiB].
    group : ndarray of int
        The series of each, from 0.
    count : int or None
        How many series there are; None: up to the last one that has a set.

    Returns
    -------
    ndarray of float
        Series x instant [GiB].
    """
    if count is None:
        count = int(group.max()) + 1 if len(group) else 0
    layout = Layout(np.zeros(count, np.int64), len(instants))
    (comes, goes), amount = numbers(instants, born, gone), parts(size)
    made = np.zeros(layout.size, amount.dtype)
    layout.add(made, group, comes, amount)
    layout.add(made, group, goes, -amount)
    return gib(layout.totals(made)).reshape(count, len(instants))


def numbers(instants: Ints, born: Ints, gone: Ints) -> tuple[Ints, Ints]:
    """Return the number of the first instant at which each set is there, and no longer is.

    Parameters
    ----------
    instants : ndarray of int
        When it is looked, ascending [µs].
    born, gone : ndarray of int
        As in `held_at` [µs].

    Returns
    -------
    comes, goes : ndarray of int
        `goes` is never less than `comes`; the number of instants: at none of them.
    """
    comes = _number(instants, np.where(born == NAT, NEVER, born))
    goes = np.full(len(comes), len(instants))
    some = np.flatnonzero((gone != NAT) & (gone != NEVER))
    goes[some] = _number(instants, gone[some])
    return comes, np.maximum(comes, goes, out=goes)


def _number(instants: Ints, when: Ints) -> Ints:
    """Return the number of the first instant that is not before each of some times."""
    apart = np.diff(instants)
    if len(apart) < 2 or not (apart[:-1] == apart[0]).all():  # noqa: PLR2004 - nothing to gain
        return np.searchsorted(instants, when, "left")
    # Evenly apart but for the last one: the number is a quotient.
    made = np.clip(when, instants[0], instants[-1])
    made -= instants[0]
    made += apart[0] - 1
    made //= apart[0]
    np.minimum(made, len(instants) - 1, out=made)
    made[when > instants[-1]] = len(instants)
    return made


def parts(size: Any) -> Any:  # noqa: ANN401 - numbers
    """Return sizes as whole numbers that add up exactly, NaN as 0; as they are where too large.

    Parameters
    ----------
    size : ndarray of float
        [GiB].

    Returns
    -------
    ndarray
        Integers [1/2^24 of 0.01 GiB], else floats [GiB].
    """
    known = np.where(np.isfinite(size), size, 0.0)
    if np.abs(known).sum() >= _MOST:
        return known
    known *= _PARTS
    return np.rint(known, out=known).astype(np.int64)


def gib(amount: Any) -> Any:  # noqa: ANN401 - numbers
    """Return what `parts` made, added up, as sizes again.

    Parameters
    ----------
    amount : ndarray
        Sums of `parts`.

    Returns
    -------
    ndarray of float
        [GiB].
    """
    return amount if amount.dtype.kind == "f" else amount / float(1 << 24) / 100.0


@dataclass(frozen=True, slots=True)
class Listing:
    """Of when the list is, and whether it is all that the service had.

    Parameters
    ----------
    made : int
        When [µs]; `NAT` where nothing has a time.
    last : int
        The last instant that is asked for: up to there the frames hold what began [µs].
    first : int
        The start of the window; `NAT`: there is none [µs].
    whole : bool
        Whether nothing older was left out.
    failed : int
        How many instances are missing.
    """

    made: int
    last: int
    first: int
    whole: bool
    failed: int


@dataclass(frozen=True, slots=True)
class Shelves:
    """The tenants' storage classes: an entry for each class of each tenant, in this order.

    Parameters
    ----------
    tenants : DataFrame
        `instance_id`, `tenant_id`, `tenant_name` by tenant.
    instance : ndarray of int
        The number of each tenant's instance.
    classes : list
        The storage classes, NA last.
    there : ndarray of bool
        Whether a shelf has a set.
    """

    tenants: pd.DataFrame
    instance: Ints
    classes: list[Any]
    there: Bools


@dataclass(frozen=True, slots=True)
class Held:
    """The sets that are or were in store; an entry per row of the frame that tells of one.

    Parameters
    ----------
    frame : DataFrame
        The tenants frame.
    rows : ndarray of int
        The row of each entry.
    shelves : Shelves
        Where they stand.
    shelf, mode : ndarray of int
        The shelf of each; 0 full, 1 incremental, 2 unknown.
    born, gone : ndarray of int
        From when to before when it is in store, by the facts [µs].
    size : ndarray of float
        [GiB]; NaN where it is not known.
    partial : ndarray of bool or None
        Whether it is of a database or table; None: none is.
    listing : Listing
        What list they are from.
    running : int
        How many sets are left out because they have not ended.
    """

    frame: pd.DataFrame
    rows: Ints
    shelves: Shelves
    shelf: Ints
    mode: Ints
    born: Ints
    gone: Ints
    size: Any
    partial: Bools | None
    listing: Listing
    running: int

    def combo(self, which: Any) -> Ints:  # noqa: ANN401 - what an array takes
        """Return shelf and mode as one number.

        Parameters
        ----------
        which : slice or ndarray
            Of which entries.

        Returns
        -------
        ndarray of int
            `MODES` for each shelf.
        """
        return self.shelf[which] * np.int64(MODES) + self.mode[which]

    def column(self, name: str) -> Ints:
        """Return times of the frame, entry by entry.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        ndarray of int
            New [µs].
        """
        return integers(self.frame[name], copy=False)[self.rows]


def held_of(known: Facts, listing: Listing) -> Held:
    """Return the sets that are or were in store.

    Parameters
    ----------
    known : Facts
        The facts.
    listing : Listing
        What list they are from.

    Returns
    -------
    Held
        Without running ones, and without failed ones of no size.
    """
    frame = known.tenants
    size, state = frame["size_gib"].to_numpy(dtype=np.float64), _states(frame)
    running = state == _RUNNING
    rows = np.flatnonzero(~running & (np.isfinite(size) | ~np.isin(state, _FAILED)))
    born = integers(frame["end_time"], copy=False)[rows]
    for name in ("checkpoint", "start_time"):
        if (lacks := np.flatnonzero(born == NAT)).size:
            born[lacks] = integers(frame[name], copy=False)[rows[lacks]]
    born[born == NAT] = listing.last
    came = moved_in(frame).reindex(rows)  # what was moved came later to where it lies
    born = np.maximum(born, integers(came))
    gone = np.full(len(rows), NEVER)
    if "gone_time" in frame:
        gone = integers(frame["gone_time"], copy=False)[rows]
        gone = np.maximum(np.where(gone == NAT, NEVER, gone), born)
    number, shelves = _shelves(frame, rows)
    kinds = frame["backup_object_type"].array
    partial = [str(each).strip().upper() in PARTS_OF_A_TENANT for each in kinds.categories]
    return Held(
        frame=frame,
        rows=rows,
        shelves=shelves,
        shelf=number,
        mode=_mode(frame)[rows],
        born=born,
        gone=gone,
        size=size[rows],
        partial=np.array([*partial, False])[kinds.codes[rows]] if any(partial) else None,
        listing=listing,
        running=int(running.sum()),
    )


def _states(frame: pd.DataFrame) -> Ints:
    """Return each row's position in `STATES`; categories may come in another order."""
    state = frame["state"].array
    places = [STATES.index(each) if each in STATES else -1 for each in state.categories]
    return np.array([*places, -1], np.int8)[state.codes]


def _mode(frame: pd.DataFrame) -> Ints:
    """Return 0 for a full set, 1 for an incremental, 2 where it is not known."""
    full = frame["full"].array
    mode = np.where(full.to_numpy(dtype=bool, na_value=False), np.int8(0), np.int8(1))
    mode[np.asarray(full.isna())] = 2
    return mode


def _shelves(frame: pd.DataFrame, rows: Ints) -> tuple[Ints, Shelves]:
    """Return each entry's shelf, and the shelves."""
    (ranks, instances), (tenant_ranks, names) = (
        _ranked(frame[name].array) for name in ("instance_id", "tenant_id")
    )
    width = np.int64(len(tenant_ranks))
    instance, tenant = frame["instance_id"].array.codes, frame["tenant_id"].array.codes
    owner = np.full(len(tenant_ranks), -1, instance.dtype)
    owner[tenant] = instance
    if (owner[tenant] == instance).all():  # a tenant's id tells its instance
        code, place = tenant, ranks[owner] * width + tenant_ranks
        found = np.bincount(tenant + 1, minlength=len(tenant_ranks))  # NA, whose code is -1, first
        place[np.roll(found, -1) == 0] = -1
    else:
        code, place = pd.factorize(ranks[instance] * width + tenant_ranks[tenant])
    order = np.argsort(place, kind="stable")
    order = order[place[order] >= 0]
    number: Ints = np.zeros(len(place), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    whose, place = number[code], place[order]
    tenants = pd.DataFrame(
        {
            "instance_id": _category(place // width, instances),
            "tenant_id": _category(place % width, names),
            "tenant_name": _newest_names(frame, whose, len(order)),
        }
    )
    class_ranks, classes = _ranked(frame["storage_class"].array)
    shelf: Ints = whose[rows]
    shelf *= np.int32(len(class_ranks))
    shelf += class_ranks.astype(np.int32)[frame["storage_class"].array.codes[rows]]
    there = np.bincount(shelf, minlength=len(order) * len(class_ranks)) > 0
    _, number = np.unique(place // width, return_inverse=True)
    return shelf, Shelves(tenants, number, [*classes, None], there)


def _ranked(values: Any) -> tuple[Ints, pd.Index]:  # noqa: ANN401 - a categorical
    """Return each code's rank among the sorted labels, NA last, and the labels."""
    order = values.categories.argsort()
    rank = np.empty(len(order) + 1, np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = len(order)
    return rank, values.categories.take(order)


def _category(codes: Ints, names: pd.Index) -> pd.Categorical:
    """Return codes as a category column of only the labels that are there; one beyond is NA."""
    there = np.flatnonzero(np.bincount(codes, minlength=len(names) + 1)[: len(names)])
    number = np.full(len(names) + 1, -1)
    number[there] = np.arange(len(there))
    return pd.Categorical.from_codes(number[codes], names.take(there))


def _newest_names(frame: pd.DataFrame, tenant: Ints, count: int) -> pd.Categorical:
    """Return the name in the newest row of each tenant."""
    start, codes = integers(frame["start_time"], copy=False), frame["tenant_name"].array.codes
    newest = np.full(count, NAT)
    np.maximum.at(newest, tenant, start)
    last = np.full(count, -1)
    at = np.flatnonzero((start == newest[tenant]) & (codes >= 0))
    last[tenant[at]] = codes[at]
    names = pd.Categorical.from_codes(last, dtype=frame["tenant_name"].dtype)
    return names.remove_unused_categories()


class Rule:
    """When the server lets each set go, and since when that tells all of what is held.

    Parameters
    ----------
    held : Held
        The sets.
    windows : ndarray of int
        The recovery window of each shelf; `NAT`: it has none, nothing goes [µs].

    Attributes
    ----------
    goes : ndarray of int
        From when on each set is gone; `NEVER`: it stays [µs].
    known : ndarray of int
        From when on each shelf lacks nothing that the rule would hold: `NAT` always, `NEVER` it
        cannot be said [µs].
    """

    def __init__(self, held: Held, windows: Ints) -> None:
        self.order = _in_order(held)
        states, end = _states(held.frame), held.column("end_time")
        keeps, good, failed = (np.zeros(len(end), bool) for _ in range(3))
        for part in slices(len(end)):
            mine, ends = windows[held.shelf[part]], end[part]
            none = mine == NAT if held.partial is None else (mine == NAT) | held.partial[part]
            ends[none] = NAT
            state = states[held.rows[part]]
            # Fulls that went before their time do not keep, nor let go, anything.
            waits = np.where(ends == NAT, NAT, ends + np.where(none, 0, mine))
            good[part] = (state == _DONE) & (held.gone[part] > waits)
            keeps[part] = good[part] & (held.mode[part] == 0) & (ends != NAT)
            failed[part] = np.isin(state, _FAILED)
        alike = len(windows) and windows.min() == windows.max()
        columns: Any = [held.shelf, end, keeps, keeps, failed]
        if self.order is not None:
            columns = [each[self.order] for each in columns]
        columns.append(windows[0] if alike else windows[columns[0]])
        self.goes = goes = goes_by_rule(*columns)
        if self.order is not None:
            self.goes = np.empty_like(goes)
            self.goes[self.order] = goes
        self.known = self._known(held, windows, keeps)

    def _known(self, held: Held, windows: Ints, keeps: Bools) -> Ints:
        """Return from when on each shelf is known to lack nothing: `NAT` always, `NEVER` not."""
        rows = np.flatnonzero(keeps) if self.order is None else self.order[keeps[self.order]]
        shelves, first = np.unique(held.shelf[rows], return_index=True)
        known = np.full(len(windows), NEVER)
        known[shelves] = held.born[rows[first]] + windows[shelves]
        if held.listing.whole:
            # Had a tenant had a full that is older than the window, the newest of them were kept.
            reaches = np.flatnonzero(known <= held.listing.made)
            classes = len(held.shelves.classes)
            place = np.repeat(held.shelves.instance, classes) * classes
            place += np.arange(len(place)) % classes
            long = np.isin(place, place[reaches])
            known[long & (known > held.listing.made) & (windows != NAT)] = NAT
        return known


def _in_order(held: Held) -> Ints | None:
    """Return the entries by shelf, start and id; None: they are in that order."""
    shelf, start = held.shelf, held.column("start_time")
    start[start == NAT] = NEVER
    if ((shelf[1:] > shelf[:-1]) | ((shelf[1:] == shelf[:-1]) & (start[1:] > start[:-1]))).all():
        return None
    by = np.lexsort((start, shelf))
    tied = (shelf[by[1:]] == shelf[by[:-1]]) & (start[by[1:]] == start[by[:-1]])
    if tied.any():
        at = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        mine = by[at]
        ids = held.frame["backup_set_id"].array.take(held.rows[mine]).astype(object)
        key = list(zip(shelf[mine], start[mine], map(str, ids), strict=True))
        by[at] = mine[sorted(range(len(at)), key=key.__getitem__)]
    return by
