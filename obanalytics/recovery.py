"""Say which backup sets can be restored, and from when: chains of full and incremental sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.frames import PARTS_OF_A_TENANT, SPAN, TIME
from obanalytics.schema import STATES, facts

if TYPE_CHECKING:
    from obanalytics.schema import BackupSets, Facts, Instant

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
_CODE = {reason: code for code, reason in enumerate(REASONS)}
_SOUND = len(REASONS)
# Sets of these kinds write no link: a chain passes them by.
_SKIPPED = _CODE["not_done"]


@dataclass(slots=True)
class Chains:
    """The sets of all tenants, by tenant and start, with what can be restored of them.

    Times are microseconds since 1970; copies of one set in several storage classes are one set.

    Parameters
    ----------
    tenants : DataFrame
        A row per tenant: `instance_id`, `tenant_id`, `tenant_name` (the newest).
    group : ndarray of int
        Each set's tenant, as a row of `tenants`.
    row : ndarray of int
        A row of the frame that each set is from.
    set_of_row : ndarray of int
        Each frame row's set.
    start, end, checkpoint : ndarray of int
        Of the earliest sound copy; `NAT` where unknown (`start`: `NEVER`).
    state : ndarray of int
        Position in `STATES`, of the copy that is nearest to sound.
    own : ndarray of int
        What is wrong with the set by itself: a position in `REASONS`, or beyond them.
    reason : ndarray of int
        The same with its chain.
    usable_from, usable_until : ndarray of int
        When it can be restored; meaningful where `restorable`.
    base : ndarray of int
        The set that its chain begins with; -1 where there is none.
    depth : ndarray of int
        Links from the base.
    doubtful : ndarray of bool
        Whether some parent in the chain ended after its child started.
    """

    tenants: pd.DataFrame
    group: Ints
    row: Ints
    set_of_row: Ints
    start: Ints
    end: Ints
    checkpoint: Ints
    state: Ints
    own: Ints
    reason: Ints
    usable_from: Ints
    usable_until: Ints
    base: Ints
    depth: Ints
    doubtful: Bools

    @property
    def restorable(self) -> Bools:
        """Whether each set can be restored."""
        return self.reason == _SOUND


def restore_points(
    sets: BackupSets | pd.DataFrame,
    *,
    as_of: Instant | None = None,
    trust_unknown: bool = False,
) -> pd.DataFrame:
    """Tell of every tenant backup set whether it can be restored, from when, and if not, why.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].
    trust_unknown : bool
        Count sets of unknown validity or mode, and incrementals whose base is not in the data, as
        sound.

    Returns
    -------
    DataFrame
        The tenants frame with `restorable` (bool), `usable_from`, `usable_until` [UTC; NA while
        nothing of the chain is gone], `chain_id` (the base full's set id), `chain_depth` (Int64,
        links from the base), `reason` (category, NA where restorable: `partial_object` for sets of
        databases or tables, then as in the design), `certainty` (`inferred`, `proved`, `unknown`).

    Raises
    ------
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    A full stands alone. An incremental needs the done set before it, and that one its own, back to
    a full; failed, cancelled and running sets are passed by; a done set that is not sound breaks
    the chain up to the next sound full. `usable_from` is the latest end along the chain.

    References
    ----------
    OceanBase, `ob_backup_data_store.cpp` (which sets a restore needs).
    """
    known = facts(sets, as_of)
    chains = chains_of(known, trust_unknown=trust_unknown)
    of = chains.set_of_row
    good = chains.restorable[of]
    frame = known.tenants
    ids = frame["backup_set_id"].array
    base = chains.base[of]
    chain_id = ids.take(np.where(good & (base >= 0), chains.row[base], -1), allow_fill=True)
    until = chains.usable_until[of]
    index = frame.index
    return frame.assign(
        restorable=good,
        usable_from=times(np.where(good, chains.usable_from[of], NAT), index),
        usable_until=times(np.where(good & (until != NEVER), until, NAT), index),
        chain_id=pd.Series(chain_id, index=index),
        chain_depth=pd.Series(chains.depth[of], index=index).astype("Int64").where(good),
        reason=labels(np.where(good, -1, chains.reason[of]), REASONS, index),
        certainty=labels(_certainty(known, chains)[of], ("inferred", "proved", "unknown"), index),
    )


def chains_of(known: Facts, *, trust_unknown: bool = False) -> Chains:
    """Sort the sets of every tenant into chains.

    Parameters
    ----------
    known : Facts
        The tenants frame as it was known.
    trust_unknown : bool
        As in `restore_points`.

    Returns
    -------
    Chains
        Set by set, sorted by tenant and start.
    """
    frame = known.tenants
    group, tenants = _groups(frame)
    own = _own_reasons(frame)
    start = integers(frame["start_time"])
    start = np.where(start == NAT, NEVER, start)
    order, set_of_row = _order(frame, group, start, own)
    gone = integers(frame["gone_time"]) if "gone_time" in frame else None
    chains = Chains(
        tenants,
        group[order],
        order,
        set_of_row,
        start[order],
        integers(frame["end_time"])[order],
        integers(frame["checkpoint"])[order],
        _positions(frame["state"], STATES)[order],
        own[order],
        own[order].copy(),
        np.full(len(order), NAT),
        np.full(len(order), NEVER),
        np.full(len(order), -1),
        np.zeros(len(order), np.int64),
        np.zeros(len(order), bool),
    )
    trusted = _trusted(trust_unknown=trust_unknown)
    usable = _like_the_lead(chains, own, trusted)
    if len(order) < len(frame):
        _merge_copies(chains, frame, start, usable)
    full = np.asarray(frame["full"].array.fillna(value=False), bool)[order]
    _link(chains, full, trust_unknown=trust_unknown)
    if gone is not None and (gone != NAT).any():
        _limit(chains, gone, usable)
    if len(chains.group):
        last = np.append(np.flatnonzero(np.diff(chains.group)), len(chains.group) - 1)
        names = frame["tenant_name"].array[chains.row[last]]
        chains.tenants = tenants.assign(tenant_name=names)
    return chains


def integers(values: pd.Series) -> Ints:
    """Return instants or durations as microseconds, `NAT` where there is none.

    Parameters
    ----------
    values : Series
        Times or durations of any resolution.

    Returns
    -------
    ndarray of int
        A new array [µs].
    """
    plain = values.to_numpy(dtype="M8[us]" if values.dtype.kind == "M" else "m8[us]")
    return plain.view(np.int64).copy()


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


def _groups(frame: pd.DataFrame) -> tuple[Ints, pd.DataFrame]:
    """Give the tenants numbers, by instance and tenant, and say who they are."""
    instance, tenant = frame["instance_id"].cat, frame["tenant_id"].cat
    ranks = [np.argsort(np.argsort(each.categories)) for each in (instance, tenant)]
    width = len(tenant.categories) + 1
    code = ranks[0][instance.codes].astype(np.int64) * width + ranks[1][tenant.codes]
    present, group = np.unique(code, return_inverse=True)
    names = [each.categories.sort_values() for each in (instance, tenant)]
    who = pd.DataFrame(
        {
            "instance_id": pd.Categorical.from_codes(present // width, names[0]),
            "tenant_id": pd.Categorical.from_codes(present % width, names[1]),
            "tenant_name": pd.Categorical([None] * len(present)),
        }
    )
    return group.astype(np.int64), who


def _positions(values: pd.Series, names: tuple[str, ...]) -> Ints:
    """Return a category column as positions in a list of names; the last one for all others."""
    place = {name: position for position, name in enumerate(names)}
    of_category = [place.get(str(each), len(names) - 1) for each in values.cat.categories]
    return np.array([*of_category, len(names) - 1], np.int64)[values.cat.codes]


def _own_reasons(frame: pd.DataFrame) -> Ints:
    """Return what is wrong with each row by itself, the first that applies."""
    state = _positions(frame["state"], STATES)
    start, end, checkpoint = (
        integers(frame[name]) for name in ("start_time", "end_time", "checkpoint")
    )
    validity = _upper(frame["validity"])
    is_state = {name: state == position for position, name in enumerate(STATES)}
    tests = {
        "partial_object": _upper(frame["backup_object_type"], PARTS_OF_A_TENANT) == 1,
        "not_done": is_state["running"] | is_state["failed"] | is_state["cancelled"],
        "expired": is_state["expired"],
        "state_unknown": is_state["unknown"],
        "no_end": end == NAT,
        "no_checkpoint": checkpoint == NAT,
        "bad_times": (start == NAT) | (start > checkpoint) | (checkpoint > end),
        "not_valid": validity == 0,
        "validity_unknown": validity == -1,
        "mode_unknown": frame["full"].isna().to_numpy(),
    }
    own = np.full(len(frame), _SOUND)
    for reason in reversed(tests):
        own[tests[reason]] = _CODE[reason]
    return own


def _upper(values: pd.Series, wanted: frozenset[str] = frozenset({"VALID"})) -> Ints:
    """Return 1 where a label is one of those wanted, in any case; 0 where not; -1 for none."""
    codes = [
        -1 if not str(each).strip() else int(str(each).strip().upper() in wanted)
        for each in values.cat.categories
    ]
    return np.array([*codes, -1], np.int64)[values.cat.codes]


def _order(
    frame: pd.DataFrame, group: Ints, start: Ints, own: Ints, *, repeats: bool = False
) -> tuple[Ints, Ints]:
    """Return one row per set, by tenant, start and set id; and the set of every row."""
    rows = len(frame)
    first = np.arange(rows)
    if repeats or len(frame["storage_class"].cat.codes.unique()) > 1:
        ids, _ = pd.factorize(frame["backup_set_id"])
        key = group * (rows + 1) + ids
        # Of the copies of a set the one that is nearest to sound and was there first stands for
        # it; of those that are not done, one that has ended rather than one that still runs.
        ends = integers(frame["end_time"])
        by = np.lexsort((np.where(ends == NAT, NEVER, ends), -own, key))
        leads = np.append([True], key[by][1:] != key[by][:-1]) if rows else np.empty(0, bool)
        first = np.sort(by[leads])
        _, number = np.unique(key, return_inverse=True)
        earliest = np.full(len(first), NEVER)
        np.minimum.at(earliest, number, start)
        start[:] = earliest[number]
    own_group, own_start = group[first], start[first]
    ahead = (own_group[1:] > own_group[:-1]) | (
        (own_group[1:] == own_group[:-1]) & (own_start[1:] > own_start[:-1])
    )
    order = first
    if not ahead.all():
        ids, _ = pd.factorize(frame["backup_set_id"].array[first], sort=True)
        if len(first) == rows and len(pd.unique(own_group * (rows + 1) + ids)) < rows:
            # A frame that was put together by hand may hold a set twice: it is one.
            return _order(frame, group, start, own, repeats=True)
        order = first[np.lexsort((ids, own_start, own_group))]
    set_of_row = np.empty(rows, np.int64)
    set_of_row[order] = np.arange(len(order))
    if len(first) < rows:
        lead_of = np.empty(len(first), np.int64)
        lead_of[number[order]] = np.arange(len(order))
        set_of_row = lead_of[number]
    return order, set_of_row


def _trusted(*, trust_unknown: bool) -> int:
    """Return the first position in `REASONS` that counts as sound by itself."""
    return _CODE["validity_unknown"] if trust_unknown else _SOUND


def _like_the_lead(chains: Chains, own: Ints, trusted: int) -> Bools:
    """Tell which rows are as good as the copy that stands for their set."""
    lead = own[chains.row[chains.set_of_row]]
    return (own == lead) | ((own >= trusted) & (lead >= trusted))


def _merge_copies(chains: Chains, frame: pd.DataFrame, start: Ints, usable: Bools) -> None:
    """Let a set that has several sound copies be there from the first of them."""
    ends = integers(frame["end_time"])
    sound = usable & (ends != NAT)
    earliest = np.full(len(chains.group), NEVER)
    np.minimum.at(earliest, chains.set_of_row[sound], ends[sound])
    chains.end = np.where(earliest == NEVER, chains.end, earliest)
    chains.start = start[chains.row]


def _link(chains: Chains, full: Bools, *, trust_unknown: bool) -> None:
    """Follow every chain from its full on."""
    linked = np.flatnonzero(chains.own > _SKIPPED)
    own, group, full = chains.own[linked], chains.group[linked], full[linked]
    count = np.arange(len(linked))
    begins = np.append([True], group[1:] != group[:-1]) if len(group) else np.empty(0, bool)
    first = np.maximum.accumulate(np.where(begins, count, 0)) if len(group) else count
    trusted = _trusted(trust_unknown=trust_unknown)
    ok = own >= trusted
    base = np.maximum.accumulate(np.where(ok & full, count, -1)) if len(group) else count
    broken = np.maximum.accumulate(np.where(ok, -1, count)) if len(group) else count
    done_full = np.where(full & (own > _CODE["state_unknown"]), count, -1)
    before = np.append([-1], np.maximum.accumulate(done_full)[:-1]) if len(group) else count
    has_base, is_broken = base >= first, broken >= first
    alive = ok & has_base & (~is_broken | (base > broken))
    if trust_unknown:
        alive |= ok & ~has_base & ~is_broken
    lost = np.where(before >= first, _CODE["chain_broken"], _CODE["base_missing"])
    if trust_unknown:
        lost[is_broken] = _CODE["chain_broken"]
    reason = np.where(alive, _SOUND, np.where(ok, lost, own))
    chains.reason[linked] = reason
    head = np.where(has_base, base, first)
    chains.base[linked] = np.where(has_base, linked[head], -1)
    chains.depth[linked] = count - head
    ends = chains.end[linked]
    late = np.append(
        [False], ~begins[1:] & alive[1:] & ~full[1:] & (ends[:-1] > chains.start[linked][1:])
    )
    if (np.append([False], alive[1:] & ~full[1:] & (ends[1:] < ends[:-1]))).any():
        ends = pd.Series(ends).groupby(head).cummax().to_numpy()
    chains.usable_from[linked] = ends
    if len(group) and late.any():
        totals = np.cumsum(late)
        chains.doubtful[linked] = totals > totals[head]


def _limit(chains: Chains, gone: Ints, usable: Bools) -> None:
    """End a set's use when the first of its chain is gone: the last sound copy of that set."""
    until = np.where(gone == NAT, NEVER, gone)
    last = np.full(len(chains.group), NAT)
    np.maximum.at(last, chains.set_of_row[usable], until[usable])
    linked = np.flatnonzero(chains.own > _SKIPPED)
    base = chains.base[linked]
    segment = np.where(base >= 0, base, -1 - chains.group[linked])
    chains.usable_until[linked] = pd.Series(last[linked]).groupby(segment).cummin().to_numpy()


def _certainty(known: Facts, chains: Chains) -> Ints:
    """Return 1 where the vendor's intervals prove a set, 2 where its chain is in doubt, else 0."""
    certainty = np.where(chains.doubtful & chains.restorable, 2, 0)
    if known.restorable is None or known.restorable.empty:
        return certainty
    intervals = known.restorable
    keys = pd.MultiIndex.from_frame(chains.tenants[["instance_id", "tenant_id"]].astype("str"))
    of = keys.get_indexer(
        pd.MultiIndex.from_frame(intervals[["instance_id", "tenant_id"]].astype("str"))
    )
    starts, ends = integers(intervals["start"]), integers(intervals["end"])
    for group, start, end in zip(of, starts, ends, strict=True):
        if group >= 0:
            low, high = np.searchsorted(chains.group, [group, group + 1])
            inside = chains.checkpoint[low:high]
            certainty[low:high][(inside >= start) & (inside <= end)] = 1
    return certainty
