"""Sort the backup sets of every tenant into chains: which can be restored, and from when."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.frames import PARTS_OF_A_TENANT, SPAN, TIME
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Ints: TypeAlias = Any  # int64 arrays: numpy's stubs lose track of them
Bools: TypeAlias = Any

NAT = int(np.iinfo(np.int64).min)
"""No time, among integers."""
NEVER = int(np.iinfo(np.int64).max)
"""Later than every time, among integers."""

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
SOUND = len(REASONS)
"""Beyond all reasons."""
_CODE = {reason: code for code, reason in enumerate(REASONS)}
# Sets of these kinds write no link: a chain passes them by.
_SKIPPED = _CODE["not_done"]
# With `trust_unknown` sets from here on count as sound by themselves.
_TRUSTED = _CODE["validity_unknown"]
_BASE_MISSING, _CHAIN_BROKEN = _CODE["base_missing"], _CODE["chain_broken"]
PART_ROWS = 1 << 16
"""Rows that are worked on at a time: what is made of so many stays in a processor's cache."""


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
        What is wrong with each row by its labels: a position in `REASONS`, or beyond them.
    copies : bool
        Whether there are several storage classes.
    """

    frame: pd.DataFrame
    tenants: pd.DataFrame
    counts: Ints
    group: Ints | None
    labels: Ints
    copies: bool

    def parts(self, most: int | None = None) -> Iterator[Part]:
        """Yield the rows of some tenants at a time, all of a tenant at once.

        Parameters
        ----------
        most : int or None
            Rows in a part, about, None: `PART_ROWS`; a tenant that has more is in one of its own.

        Yields
        ------
        Part
            In the order of the tenants.
        """
        ends = np.cumsum(self.counts)
        place, heads = np.unique((ends - self.counts) // (most or PART_ROWS), return_index=True)
        firsts, order = np.append(heads, len(ends)), None
        if self.group is not None:
            part_of = np.repeat(np.arange(len(place)), np.diff(firsts))
            # Numbers of sixteen bits are sorted digit by digit, in two passes.
            part_of = part_of.astype(np.uint16 if len(place) <= 1 << 16 else np.int64)
            order = np.argsort(part_of[self.group], kind="stable")
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
    ranks = [np.argsort(np.argsort(each.categories)) for each in (instance, tenant)]
    width = len(tenant.categories) + 1
    code = (ranks[0] * width).astype(np.int64)[instance.codes]
    code += ranks[1][tenant.codes]
    runs = np.flatnonzero(np.append([True], code[1:] != code[:-1])) if len(code) else code
    group: Ints | None = None
    if 4 * len(runs) > len(code):
        # Rows in any order; a table of what was seen is faster than sorting.
        found, present = pd.factorize(code)
        by = np.argsort(present)
        present, rank = present[by], np.empty(len(by), np.int32)
        rank[by] = np.arange(len(by), dtype=np.int32)
        group = rank[found]
        counts = np.bincount(group, minlength=len(present))
    else:
        present, of_run = np.unique(code[runs], return_inverse=True)
        lengths = np.diff(np.append(runs, len(code)))
        counts = np.bincount(of_run, weights=lengths, minlength=len(present)).astype(np.int64)
        if len(present) < len(runs) or (np.diff(of_run) < 0).any():
            group = np.repeat(of_run.astype(np.int32), lengths)
    names = [each.categories.sort_values() for each in (instance, tenant)]
    who = {
        "instance_id": pd.Categorical.from_codes(present // width, names[0]),
        "tenant_id": pd.Categorical.from_codes(present % width, names[1]),
    }
    storage = frame["storage_class"].array.codes
    copies = len(storage) > 0 and storage.min() != storage.max()
    return Roll(frame, pd.DataFrame(who), counts, group, _reasons_by_label(frame), copies)


class Part:
    """The rows of some tenants, with the order of their sets.

    Copies of one set in several storage classes are one set. Times are microseconds since 1970.

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
        self.roll, self.first, self.count, self.rows, self.group = roll, first, count, rows, group
        self.end, self.point = (integers(self.column(each)) for each in ("end_time", "checkpoint"))
        self.start = integers(self.column("start_time"))
        mode = self.column("full")
        self.full = mode.to_numpy(dtype=bool, na_value=False)
        self.own = _own_reasons(self, mode.isna())
        self.start[self.start == NAT] = NEVER
        self.gone = integers(self.column("gone_time")) if "gone_time" in roll.frame else None
        self.order: Any = slice(None)
        """The rows that stand for a set each, by tenant and start."""
        self.set_of_row: Ints | None = None
        """Each row's set, where sets have several rows."""
        _arrange(self)

    def column(self, name: str) -> Any:  # noqa: ANN401 - an array of pandas
        """Return a column's values of these rows.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        array
            Of the column's own kind.
        """
        return self.roll.frame[name].array[self.rows]

    @property
    def row(self) -> Ints:
        """The row of the frame that each set is from."""
        rows = self.rows
        return (np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows)[self.order]

    def sets(self) -> Ints:
        """Return the set of every row.

        Returns
        -------
        ndarray of int
            Numbers of sets.
        """
        if self.set_of_row is not None:
            return self.set_of_row
        of = np.empty(len(self.own), np.int64)
        of[self.order] = np.arange(len(of))
        return of

    def state(self, sets: Ints) -> Ints:
        """Return the states of sets.

        Parameters
        ----------
        sets : ndarray of int
            Numbers of sets.

        Returns
        -------
        ndarray of int
            Positions in `STATES`.
        """
        return _positions(self.roll.frame["state"].array[self.row[sets]], STATES)

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
        made = Chains(self, trusted)
        of = alike = None
        if self.gone is not None or self.set_of_row is not None:
            of = self.sets()
            # Rows that are as good as the copy that stands for their set.
            alike = (self.own == made.own[of]) | ((self.own >= trusted) & made.ok[of])
            if self.set_of_row is not None:
                _merge_copies(made, self.end, of, alike)
        _link(made, trust_unknown=trust_unknown)
        if self.gone is not None and (self.gone != NAT).any():
            _limit(made, self.gone, of, alike)
        return made


class Chains:
    """The sets of some tenants, by tenant and start, with what can be restored of them.

    Parameters
    ----------
    part : Part
        The rows that they are made of.
    trusted : int
        The first position in `REASONS` that counts as sound.
    """

    def __init__(self, part: Part, trusted: int) -> None:
        order = part.order
        self.part, self.group = part, part.group[order]
        self.start, self.end = part.start[order], part.end[order]
        self.checkpoint = part.point[order]
        """Of the earliest sound copy; `NAT` where unknown (start: `NEVER`) [µs]."""
        self.own = part.own[order]
        """What is wrong with the set by itself: a position in `REASONS`, or beyond them."""
        self.ok = self.own >= trusted
        sets = len(self.own)
        self.reason = self.own.copy()
        """What is wrong with the set and its chain."""
        self.usable_from = np.full(sets, NAT)
        self.usable_until: Ints | None = None
        """When the chain is gone; None where nothing is known to go."""
        self.full = part.full[order]
        """Whether each is a full set, as far as is known."""
        self.links = self.own > _SKIPPED
        """Whether a chain goes through it, or breaks there."""
        self.base = np.full(sets, -1)
        """The set that the chain begins with; -1 where there is none."""
        self.doubtful = np.zeros(sets, bool)
        """Whether some parent in the chain ended after its child started."""

    @property
    def restorable(self) -> Bools:
        """Whether each set can be restored."""
        return self.reason == SOUND

    @property
    def depth(self) -> Ints:
        """Links from the base; meaningful where `restorable`."""
        links = np.cumsum(self.links)
        begin = np.where(self.base >= 0, self.base, np.searchsorted(self.group, self.group))
        return links - (links - self.links)[begin] - 1 if len(links) else links

    @property
    def doubtable(self) -> bool:
        """Whether trusting what is unknown could make a difference to any set."""
        trusted = (self.reason >= _TRUSTED) & (self.reason != _CHAIN_BROKEN)
        return self.part.set_of_row is not None or bool((trusted & ~self.restorable).any())

    def until(self, sets: Ints) -> Ints:
        """Return when sets are gone.

        Parameters
        ----------
        sets : ndarray of int
            Numbers of sets.

        Returns
        -------
        ndarray of int
            Instants [µs]; `NEVER` where they are not known to go.
        """
        gone = self.usable_until
        return np.full(len(sets), NEVER) if gone is None else gone[sets]


def integers(values: Any) -> Ints:  # noqa: ANN401 - a series or its array
    """Return instants or durations as microseconds, `NAT` where there is none.

    Parameters
    ----------
    values : Series or array
        Times or durations of any resolution.

    Returns
    -------
    ndarray of int
        A new array [µs].
    """
    kind = "M8[us]" if values.dtype.kind == "M" else "m8[us]"
    return np.array(values.to_numpy(dtype=kind)).view(np.int64)


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


def _positions(values: Any, names: tuple[str, ...]) -> Ints:  # noqa: ANN401 - a Categorical
    """Return categories as positions in a list of names; the last one for all others."""
    place = {name: position for position, name in enumerate(names)}
    of_category = [place.get(str(each), len(names) - 1) for each in values.categories]
    return np.array([*of_category, len(names) - 1], np.int8)[values.codes]


def _own_reasons(part: Part, mode_unknown: Bools) -> Ints:
    """Return what is wrong with each row by itself, the first that applies."""
    start, end, checkpoint = part.start, part.end, part.point
    own = part.roll.labels[part.rows].copy()
    tests = {
        "no_end": end == NAT,
        "no_checkpoint": checkpoint == NAT,
        "bad_times": (start == NAT) | (start > checkpoint) | (checkpoint > end),
        "mode_unknown": mode_unknown,
    }
    for reason, applies in tests.items():
        own[applies & (own > _CODE[reason])] = _CODE[reason]
    return own


def _reasons_by_label(frame: pd.DataFrame) -> Ints:
    """Return what is wrong with each row by its labels, the first that applies."""
    own = _coded(frame["state"].array, lambda state: _OF_STATE.get(state, SOUND), "state_unknown")
    invalid, partial = _CODE["not_valid"], _CODE["partial_object"]
    unlike = _coded(
        frame["validity"].array,
        lambda text: SOUND if text.upper() == "VALID" else invalid,
        "validity_unknown",
    )
    parts = _coded(
        frame["backup_object_type"].array,
        lambda text: partial if text.upper() in PARTS_OF_A_TENANT else SOUND,
        None,
    )
    return np.minimum(np.minimum(own, unlike), parts)


_OF_STATE = {
    **dict.fromkeys(("running", "failed", "cancelled"), _CODE["not_done"]),
    "expired": _CODE["expired"],
    "unknown": _CODE["state_unknown"],
}


def _coded(values: Any, code_of: Callable[[str], int], missing: str | None) -> Ints:  # noqa: ANN401
    """Return a code for every value of a Categorical; an empty text is a missing one."""
    absent = SOUND if missing is None else _CODE[missing]
    texts = [str(each).strip() for each in values.categories]
    codes = [code_of(text) if text else absent for text in texts]
    return np.array([*codes, absent], np.int8)[values.codes]


def _arrange(part: Part) -> None:
    """Find one row per set, by tenant, start and set id; and the set of every row."""
    rows = len(part.own)
    if part.roll.copies:
        storage = part.column("storage_class").codes
        if storage.min() != storage.max():
            _arrange_copies(part)
            return
    key = _packed(part.group, part.start)
    if key is not None:
        if (np.diff(key) > 0).all():
            return
        part.order = np.argsort(key)
        if (np.diff(key[part.order]) > 0).all():
            return
    ids, found = pd.factorize(part.column("backup_set_id"), sort=True)
    if len(pd.unique(part.group * (len(found) + 1) + ids)) < rows:
        # A frame that was put together by hand may hold a set twice: it is one.
        _arrange_copies(part)
        return
    part.order = np.lexsort((ids, part.start, part.group))


def _packed(group: Ints, start: Ints) -> Ints | None:
    """Return tenant and start as one number, the start in its low bits; None if it has too few."""
    known = start[start != NEVER]
    if not len(known):
        return None
    low = int(known.min())
    span = int(known.max()) - low + 2
    if (int(group.max()) + 1) * span >= 1 << 62:
        return None
    return group * np.int64(span) + np.where(start == NEVER, span - 1, start - low)


def _arrange_copies(part: Part) -> None:
    """Find the set of every row where sets have several rows, and the row that stands for each.

    It is the one that is nearest to sound and was there first; of those that are not done, one that
    has ended rather than one that still runs. A set began when the first of its rows did.
    """
    rows, group = len(part.own), part.group
    ids, _ = pd.factorize(part.column("backup_set_id"), sort=True)
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


def _link(chains: Chains, *, trust_unknown: bool) -> None:
    """Follow every chain from its full on."""
    sets, group, own = np.arange(len(chains.group)), chains.group, chains.own
    if not len(sets):
        return
    counts = np.bincount(group)
    first, full, links = np.repeat(np.cumsum(counts) - counts, counts), chains.full, chains.links
    base = np.maximum.accumulate(np.where(chains.ok & full, sets, -1))
    broken = np.maximum.accumulate(np.where(links & ~chains.ok, sets, -1))
    has_base = base >= first
    alive = chains.ok & has_base & (base > broken)
    if trust_unknown:
        alive |= chains.ok & ~has_base & (broken < first)
    chains.reason[alive] = SOUND
    lost = np.flatnonzero(chains.ok & ~alive)
    if len(lost):
        done_full = np.where(full & (own > _CODE["state_unknown"]), sets, -1)
        before = np.maximum.accumulate(done_full)[lost] >= first[lost]
        chains.reason[lost] = np.where(before | trust_unknown, _CHAIN_BROKEN, _BASE_MISSING)
    chains.base = np.where(has_base, base, -1)
    chains.usable_from = ends = chains.end.copy()
    # A parent is the link before; a base has none, nor has a tenant's first link.
    parent = np.append([-1], np.maximum.accumulate(np.where(links, sets, -1))[:-1])
    child = np.flatnonzero(alive & (base != sets) & (parent >= first))
    above = chains.end[parent[child]]
    if (above > ends[child]).any():
        head = np.where(has_base, base, first)[alive]
        chains.usable_from[alive] = pd.Series(ends[alive]).groupby(head).cummax().to_numpy()
    late = child[above > chains.start[child]]
    if len(late):
        totals = np.cumsum(np.bincount(late, minlength=len(sets)))
        chains.doubtful = totals > totals[np.where(has_base, base, first)]


def _limit(chains: Chains, gone: Ints, of: Ints, alike: Bools) -> None:
    """End a set's use when the first of its chain is gone: the last sound copy of that set."""
    until = np.where(gone == NAT, NEVER, gone)
    last = np.full(len(chains.group), NAT)
    np.maximum.at(last, of[alike], until[alike])
    linked = np.flatnonzero(chains.links)
    base = chains.base[linked]
    segment = np.where(base >= 0, base, -1 - chains.group[linked])
    chains.usable_until = np.full(len(last), NEVER)
    chains.usable_until[linked] = pd.Series(last[linked]).groupby(segment).cummin().to_numpy()
