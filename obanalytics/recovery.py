"""Sort the backup sets of every tenant into chains: which can be restored, and from when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.frames import PARTS_OF_A_TENANT, SPAN, TIME
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Ints: TypeAlias = Any  # int64 arrays: numpy's stubs lose track of them
Bools: TypeAlias = Any

NAT = int(np.iinfo(np.int64).min)  # no time, among integers
NEVER = int(np.iinfo(np.int64).max)  # later than every time

REASONS = (
    "partial_object",
    "not_done",
    "expired",
    "state_unknown",
    "no_end",
    "no_checkpoint",
    "bad_times",
    "not_valid",
    "validity_unknown",
    "mode_unknown",
    "base_missing",
    "chain_broken",
)
SOUND = len(REASONS)  # beyond all reasons
_CODE = {reason: code for code, reason in enumerate(REASONS)}
_SKIPPED = _CODE["not_done"]  # up to here they write no link: a chain passes them by
# With `trust_unknown` sets from here on count as sound by themselves.
_TRUSTED = _CODE["validity_unknown"]
# A row's labels in eight bits: what is wrong with it, whether it is full, its state.
_REASON, _FULL, _STATE = 15, 1 << 4, 5
_ROUND = 1_000_000  # a second [µs]
_TIMES = ("start_time", "end_time", "checkpoint")
PART_ROWS = 1 << 17  # what is made of so many rows stays in a processor's cache


@dataclass(slots=True)
class Roll:
    """Who the tenants are, and which rows of a frame are theirs.

    Parameters
    ----------
    frame : DataFrame
        The tenants frame.
    tenants : DataFrame
        A row per tenant, sorted: `instance_id`, `tenant_id`.
    counts : ndarray of int
        How many rows each tenant has.
    group : ndarray of int or None
        Each row's tenant; None where the rows come tenant by tenant.
    labels : ndarray of int
        What each row's labels say: what is wrong by them (a position in `REASONS`, or beyond
        them), whether it is a full set, and its state.
    copies : bool
        Whether there are several storage classes.
    table : ndarray of int or None
        Where rows come in any order: the numbers of each side by side, to be fetched at once.
    """

    frame: pd.DataFrame
    tenants: pd.DataFrame
    counts: Ints
    group: Ints | None
    labels: Ints
    copies: bool
    table: Ints | None

    def parts(self) -> Iterator[Part]:
        """Yield about `PART_ROWS` rows or more at a time, all of a tenant at once.

        Yields
        ------
        Part
            In the order of the tenants.
        """
        ends = np.cumsum(self.counts)
        # Rows in any order are fetched from everywhere, once a part: then a few dozen at most.
        size = PART_ROWS if self.table is None else max(PART_ROWS, len(self.table) // 32)
        place, heads = np.unique((ends - self.counts) // size, return_index=True)
        firsts, order = np.append(heads, len(ends)), None
        if self.group is not None:
            part_of = np.repeat(np.arange(len(place)), np.diff(firsts))
            # Numbers of eight bits are sorted in one pass.
            order = np.argsort(part_of.astype(np.uint8)[self.group], kind="stable")
        for first, after in pairwise(firsts):
            low, high = ends[first] - self.counts[first], ends[after - 1]
            counts = self.counts[first:after]
            if self.group is None or order is None:
                group = np.repeat(np.arange(len(counts)), counts)
                yield Part(self, int(first), len(counts), slice(low, high), group)
            else:
                rows = order[low:high]
                yield Part(self, int(first), len(counts), rows, self.group[rows] - first)


def roll_of(frame: pd.DataFrame) -> Roll:
    """Give the tenants numbers, by instance and tenant.

    Parameters
    ----------
    frame : DataFrame
        A tenants frame.

    Returns
    -------
    Roll
        The tenants and their rows.
    """
    instance, tenant = frame["instance_id"].array, frame["tenant_id"].array
    places = (np.argsort(np.argsort(each.categories)) for each in (instance, tenant))
    ranks = [np.append(each, [len(each)]) for each in places]
    width, number = len(tenant.categories) + 1, tenant.codes
    owner = np.full(width, -1, instance.codes.dtype)
    owner[number] = instance.codes
    if (owner[number] == instance.codes).all():
        place = ranks[0][owner] * np.int64(width) + ranks[1]
    else:  # a tenant's id does not tell its instance
        place = (ranks[0] * np.int64(width))[instance.codes] + ranks[1][number]
        number, place = pd.factorize(place)
    if len(number) and number.min() < 0:
        number = np.where(number < 0, len(place) - 1, number)
    found = np.bincount(number, minlength=len(place))
    by = np.flatnonzero(found)
    by = by[np.argsort(place[by])]
    rank = np.empty(len(place), np.int32)
    rank[by] = np.arange(len(by), dtype=np.int32)
    changes = number[1:] != number[:-1]
    in_order = bool(np.count_nonzero(changes) + 1 <= max(len(by), 1))
    if in_order:  # each tenant's rows are together: are the tenants in order as well?
        heads = np.append(number[:1], number[1:][changes])
        in_order = bool((np.diff(rank[heads]) > 0).all())
    group = None if in_order else rank[number]
    names = [each.categories.sort_values() for each in (instance, tenant)]
    who = {
        "instance_id": pd.Categorical.from_codes(place[by] // width, names[0]),
        "tenant_id": pd.Categorical.from_codes(place[by] % width, names[1]),
    }
    storage, labels = frame["storage_class"].array.codes, _labels(frame)
    copies = len(storage) > 0 and storage.min() != storage.max()
    table = None
    if group is not None:
        table = np.empty((len(group), len(_TIMES) + 1), np.int64)
        for column, name in enumerate(_TIMES):
            table[:, column] = integers(frame[name], copy=False)
        table[:, -1] = labels
    return Roll(frame, pd.DataFrame(who), found[by], group, labels, copies, table)


class Part:
    """The rows of some tenants, with the order of their sets; copies of one set are one.

    Parameters
    ----------
    roll : Roll
        All tenants.
    first : int
        The number of the first of these tenants among all.
    count : int
        How many tenants.
    rows : slice or ndarray of int
        Which rows of the frame.
    group : ndarray of int
        Each row's tenant, counted from `first`.
    """

    def __init__(self, roll: Roll, first: int, count: int, rows: slice | Ints, group: Ints) -> None:
        if roll.table is None:
            self.start, self.end, self.point = (
                integers(roll.frame[name].array[rows]) for name in _TIMES
            )
            self.labels = roll.labels[rows]
        else:
            # All numbers of a row are fetched at once.
            block = roll.table.take(rows, axis=0)
            by = _sorted(group, block[:, 0].copy())
            rows, group = np.asarray(rows)[by], group[by]
            self.start, self.end, self.point, labels = block.take(by, axis=0).T.copy()
            self.labels = labels.astype(np.uint8)
        self.roll, self.first, self.count, self.rows, self.group = roll, first, count, rows, group
        self.full = (self.labels & _FULL) != 0
        self.own = _own_reasons(self, (self.labels & _REASON).astype(np.int8))
        self.start[self.start == NAT] = NEVER
        gone = roll.frame.get("gone_time")
        self.gone = None if gone is None else integers(gone.array[rows])
        self.order: Any = slice(None)
        """The rows that stand for a set each, by tenant and start."""
        self.set_of_row: Ints | None = None
        """Each row's set, where sets have several rows."""
        _arrange(self)

    @cached_property
    def row(self) -> Ints:
        """The row of the frame that each set is from."""
        rows = self.rows
        return (np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows)[self.order]

    def rows_of(self, sets: Ints) -> Ints:
        """Return the rows of the frame that some sets are from.

        Parameters
        ----------
        sets : ndarray of int
            Numbers of sets; -1 is none.

        Returns
        -------
        ndarray of int
            Rows; -1 is none.
        """
        if isinstance(self.order, slice) and isinstance(self.rows, slice):
            rows = sets + self.rows.start
        else:
            rows = self.row[sets] if len(sets) else sets
        return np.where(sets >= 0, rows, -1)

    @property
    def sets(self) -> Ints:
        """The set of every row."""
        if self.set_of_row is not None:
            return self.set_of_row
        of = np.empty(len(self.own), np.int64)
        of[self.order] = np.arange(len(of))
        return of

    @property
    def state(self) -> Ints:
        """The state of every set, as its position in `STATES`."""
        return (self.labels >> _STATE)[self.order]

    @cached_property
    def columns(self) -> Any:  # noqa: ANN401 - arrays
        """What chains are made of, set by set: tenant, start, end, checkpoint, own reason, full."""
        columns = (self.group, self.start, self.end, self.point, self.own, self.full)
        return tuple(each[self.order] for each in columns)

    def chains(self, *, trust_unknown: bool = False) -> Chains:
        """Sort the sets into chains.

        Parameters
        ----------
        trust_unknown : bool
            As in `restore_points`.

        Returns
        -------
        Chains
            Set by set, sorted by tenant and start.
        """
        trusted = _TRUSTED if trust_unknown else SOUND
        made = Chains(self, self.columns, trust_unknown=trust_unknown)
        of = alike = None
        if self.gone is not None or self.set_of_row is not None:
            of = self.sets
            # Rows that are as good as the copy that stands for their set.
            alike = (self.own == made.own[of]) | ((self.own >= trusted) & made.ok[of])
            if self.set_of_row is not None:
                _merge_copies(made, self.end, of, alike)
        if self.gone is not None and (self.gone != NAT).any():
            _limit(made, self.gone, of, alike)
        return made


class Chains:
    """The sets of some tenants, by tenant and start, with what can be restored of them.

    Parameters
    ----------
    part : Part
        The rows that they are made of.
    columns : sequence of ndarray
        Set by set, as in `Part.columns`: tenant (counted from the part's first), start, end,
        checkpoint (of the earliest sound copy; `NAT` where unknown, start: `NEVER`) [µs], what is
        wrong with the set by itself (a position in `REASONS`, or beyond them), whether it is full.
    trust_unknown : bool
        As in `restore_points`.
    """

    def __init__(self, part: Part, columns: Sequence[Ints], *, trust_unknown: bool = False) -> None:
        self.part, self.trusting = part, trust_unknown
        self.group, self.start, self.end, self.checkpoint, self.own, self.full = columns
        self.ok = self.own >= (_TRUSTED if trust_unknown else SOUND)
        self.usable_until: Ints | None = None
        """When the chain is gone; None where nothing is known to go."""
        self.mark = _marks(self)
        """Twice the last full or broken set so far, and one more if a chain goes on from there."""
        self.restorable = self.ok & ((self.mark & 1) != 0)
        """Whether each set can be restored."""

    @cached_property
    def links(self) -> Bools:
        """Whether a chain goes through each set, or breaks there."""
        return self.own > _SKIPPED

    @cached_property
    def usable_from(self) -> Ints:
        """The latest end along the chain; meaningful where `restorable` [µs]."""
        good = np.flatnonzero(self.restorable)
        ends, chain = self.end[good], self.mark[good]
        if not ((ends[1:] >= ends[:-1]) | (chain[1:] != chain[:-1])).all():
            ends = pd.Series(ends).groupby(chain).cummax().to_numpy()
        usable = self.end.copy()
        usable[good] = ends
        return usable

    @property
    def doubtable(self) -> bool:
        """Whether trusting what is unknown of the sets could make a difference."""
        if self.part.set_of_row is not None:
            return True  # of a sound set, a copy that is trusted may have been there earlier
        doubt = ~self.restorable & (self.own >= _TRUSTED)
        if not doubt.any():
            return False
        # Sound and yet lost: for good, where what broke the chain is nothing that trust would mend.
        cause = self.own[self.mark[doubt] >> 1]
        return bool((~self.ok[doubt] | (cause >= _TRUSTED) | (cause <= _SKIPPED)).any())

    @property
    def until(self) -> Ints:
        """When each chain is gone; `NEVER` where it is not known to go [µs]."""
        gone = self.usable_until
        return np.full(len(self.own), NEVER) if gone is None else gone


def integers(values: Any, *, copy: bool = True) -> Ints:  # noqa: ANN401 - a series or its array
    """Return instants or durations as microseconds, `NAT` where there is none.

    Parameters
    ----------
    values : Series or array
        Times or durations of any resolution.
    copy : bool
        Whether the array must be a new one.

    Returns
    -------
    ndarray of int
        Instants since 1970, or durations [µs].
    """
    array = values.array if isinstance(values, pd.Series) else values
    if array.unit == "us":
        return array.asi8.copy() if copy else array.asi8
    kind = "M8[us]" if array.dtype.kind == "M" else "m8[us]"
    return np.array(array.to_numpy(dtype=kind)).view(np.int64)


def times(values: Ints, index: pd.Index | None = None) -> pd.Series:
    """Return microseconds since 1970 as instants.

    Parameters
    ----------
    values : ndarray of int
        Instants [µs]; `NAT` is NA.
    index : Index or None
        The index to give them.

    Returns
    -------
    Series
        UTC instants.
    """
    return pd.Series(pd.DatetimeIndex(values.view("M8[us]")).tz_localize("UTC"), index, dtype=TIME)


def spans(values: Ints) -> pd.Series:
    """Return microseconds as durations.

    Parameters
    ----------
    values : ndarray of int
        Durations [µs]; `NAT` is NA.

    Returns
    -------
    Series
        Durations.
    """
    return pd.Series(values.view("m8[us]"), dtype=SPAN)


def labels(codes: Any, names: tuple[str, ...], index: pd.Index | None = None) -> pd.Series:  # noqa: ANN401
    """Return codes as a category column.

    Parameters
    ----------
    codes : ndarray of int
        Positions in `names`; -1 is NA.
    names : tuple of str
        The categories.
    index : Index or None
        The index to give them.

    Returns
    -------
    Series
        Categories.
    """
    dtype = pd.CategoricalDtype(pd.Index(names, dtype="str"))
    return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype), index)


def search(groups: Ints, values: Ints, group: Ints, value: Ints, side: str = "left") -> Ints:
    """Return where a tenant's value would stand among those sorted by tenant and value.

    Parameters
    ----------
    groups, values : ndarray of int
        Tenants and their values, sorted.
    group, value : ndarray of int
        What to look for.
    side : {"left", "right"}
        Before or behind equal values.

    Returns
    -------
    ndarray of int
        Positions.
    """
    low: Ints = np.searchsorted(groups, group, "left")
    high: Ints = np.searchsorted(groups, group, "right")
    while (low < high).any():
        middle = (low + high) // 2
        at = values[np.minimum(middle, len(values) - 1)]
        before = (at < value) if side == "left" else (at <= value)
        open_ = low < high
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low


def _own_reasons(part: Part, own: Ints) -> Ints:
    """Return what is wrong with each row by itself, the first that applies, given its labels."""
    start, checkpoint, end = part.start, part.point, part.end
    # No time is below every time: where these hold, all three are known.
    bad = np.flatnonzero(~((start > NAT) & (start <= checkpoint) & (checkpoint <= end)))
    by_times = np.full(len(bad), _CODE["bad_times"], np.int8)
    by_times[checkpoint[bad] == NAT] = _CODE["no_checkpoint"]
    by_times[end[bad] == NAT] = _CODE["no_end"]
    own[bad] = np.minimum(own[bad], by_times)
    return own


def _labels(frame: pd.DataFrame) -> Ints:
    """Return state, mode, and what is wrong with each row by its labels, the first that applies."""
    unknown, invalid = _CODE["state_unknown"], _CODE["not_valid"]
    state = _coded(
        frame["state"].array,
        lambda text: _OF_STATE.get(text, unknown) | (_PLACE.get(text, _OTHER) << _STATE),
        unknown | _OTHER << _STATE,
    )
    validity = _coded(
        frame["validity"].array,
        lambda text: SOUND if text.upper() == "VALID" else invalid,
        _CODE["validity_unknown"],
    )
    parts = _coded(
        frame["backup_object_type"].array,
        lambda text: _CODE["partial_object"] if text.upper() in PARTS_OF_A_TENANT else SOUND,
        SOUND,
    )
    own = np.minimum(np.minimum(state & _REASON, validity), parts)
    full = frame["full"].array
    own[full.isna() & (own > _CODE["mode_unknown"])] = _CODE["mode_unknown"]
    is_full = full.to_numpy(dtype=bool, na_value=False)
    return (state & ~np.uint8(_REASON)) | own | is_full * np.uint8(_FULL)


_PLACE, _OTHER = {name: place for place, name in enumerate(STATES)}, STATES.index("unknown")
_OF_STATE = {
    **dict.fromkeys(("running", "failed", "cancelled"), _CODE["not_done"]),
    "done": SOUND,
    "expired": _CODE["expired"],
}


def _coded(values: Any, code_of: Callable[[str], int], missing: int) -> Ints:  # noqa: ANN401
    """Return a code for every value of a Categorical; an empty text is a missing one."""
    texts = [str(each).strip() for each in values.categories]
    codes = [code_of(text) if text else missing for text in texts]
    return np.array([*codes, missing], np.uint8)[values.codes]


def _arrange(part: Part) -> None:
    """Find one row per set, by tenant, start and set id; and the set of every row."""
    rows = len(part.own)
    if part.roll.copies:
        storage = part.roll.frame["storage_class"].array[part.rows].codes
        if storage.min() != storage.max():
            _arrange_copies(part)
            return
    if _ascend(part.group, part.start):
        return
    by = _sorted(part.group, part.start)
    if _ascend(part.group[by], part.start[by]):
        part.order = by
        return
    ids, found = pd.factorize(part.roll.frame["backup_set_id"].array[part.rows], sort=True)
    if len(pd.unique(part.group * (len(found) + 1) + ids)) < rows:
        # A frame that was put together by hand may hold a set twice: it is one.
        _arrange_copies(part)
        return
    part.order = np.lexsort((ids, part.start, part.group))


def _ascend(group: Ints, start: Ints) -> bool:
    """Tell whether rows stand by tenant and start, and no two alike."""
    return bool(((start[1:] > start[:-1]) | (group[1:] > group[:-1])).all())


def _sorted(group: Ints, start: Ints) -> Ints:
    """Return the order by tenant and start; of equal ones any."""
    if not len(start):
        return np.arange(0)
    low, high = int(start.min()), int(start.max())
    if low == NAT or high == NEVER:  # unknown ones come last
        known = start[(start != NAT) & (start != NEVER)]
        low, high = (int(known.min()), int(known.max()) + 1) if len(known) else (0, 0)
        start = np.where((start == NAT) | (start == NEVER), high, start)
    if (int(group.max()) + 1) * (high - low + 1) >= 1 << 62:
        return np.lexsort((start, group))
    since, width = start - low, high - low + 1
    seconds, room = since // _ROUND, (len(start) - 1).bit_length()
    few = width // _ROUND + 1
    if (int(group.max()) + 1) * few << room < 1 << 62 and (seconds * _ROUND == since).all():
        # Numbers alone are sorted three times as fast as their places. The service tells whole
        # seconds, which leave room for the place in the lowest bits.
        key = (group * np.int64(few) + seconds << room) + np.arange(len(start))
        return np.sort(key) & (1 << room) - 1
    return np.argsort(group * np.int64(width) + since)  # the start in the low bits


def _arrange_copies(part: Part) -> None:
    """Find the set of every row where sets have several rows, and the row that stands for each.

    It is the one that is nearest to sound and was there first; of those that are not done, one that
    has ended rather than one that still runs. A set began when the first of its rows did.
    """
    rows, group = len(part.own), part.group
    ids, _ = pd.factorize(part.roll.frame["backup_set_id"].array[part.rows], sort=True)
    key = group * np.int64(rows + 1) + ids
    ends = np.where(part.end == NAT, NEVER, part.end)
    by = np.lexsort((ends, -part.own, key))
    leads = np.sort(by[np.append([True], key[by][1:] != key[by][:-1])])
    _, number = np.unique(key, return_inverse=True)
    earliest = np.full(len(leads), NEVER)
    np.minimum.at(earliest, number, part.start)
    part.start = earliest[number]
    part.order = leads[np.lexsort((ids[leads], part.start[leads], group[leads]))]
    place = np.empty(len(leads), np.int64)
    place[number[part.order]] = np.arange(len(leads))
    part.set_of_row = place[number]


def _merge_copies(chains: Chains, ends: Ints, of: Ints, alike: Bools) -> None:
    """Let a set that has several sound copies be there from the first of them."""
    sound = alike & (ends != NAT)
    earliest = np.full(len(chains.group), NEVER)
    np.minimum.at(earliest, of[sound], ends[sound])
    chains.end = np.where(earliest == NEVER, chains.end, earliest)


def _marks(chains: Chains) -> Ints:
    """Return the last full or broken set up to each set, and whether a chain goes on from there.

    A tenant's first set begins no chain, unless a base that is not in the data is trusted.
    """
    sets, group = len(chains.group), chains.group
    mark = np.zeros(sets, np.int32 if sets < 1 << 30 else np.int64)
    heads = np.flatnonzero(group[1:] != group[:-1]) + 1
    mark[heads] = 2 * heads + chains.trusting
    mark[:1] = chains.trusting
    broken = np.flatnonzero(~chains.ok & (chains.own > _SKIPPED))
    mark[broken] = 2 * broken
    begins = np.flatnonzero(chains.ok & chains.full)
    mark[begins] = 2 * begins + 1
    return np.maximum.accumulate(mark)


def _limit(chains: Chains, gone: Ints, of: Ints, alike: Bools) -> None:
    """End a set's use when the first of its chain is gone: the last sound copy of that set."""
    until = np.where(gone == NAT, NEVER, gone)
    last = np.full(len(chains.group), NAT)
    np.maximum.at(last, of[alike], until[alike])
    linked = np.flatnonzero(chains.links)
    segment = chains.mark[linked]
    chains.usable_until = np.full(len(last), NEVER)
    chains.usable_until[linked] = pd.Series(last[linked]).groupby(segment).cummin().to_numpy()
