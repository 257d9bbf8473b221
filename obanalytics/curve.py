"""Follow what could be restored to through time: windows, exposure, intervals over a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.recovery import NAT, NEVER, roll_of, search
from obanalytics.schema import as_duration, facts, span
from obanalytics.vendor import intervals_of, log_course

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obanalytics.recovery import Bools, Chains, Ints, Part, Roll
    from obanalytics.schema import BackupSets, Facts, Instant
    from obanalytics.vendor import Intervals

MODELS = ("point", "log", "mixed")


@dataclass(slots=True)
class Scene:
    """What every analysis of coverage starts from: facts, tenants, and the window to look at.

    Parameters
    ----------
    known : Facts
        What was known at an instant.
    roll : Roll
        The tenants and their rows.
    begin : int or None
        Where the window begins; None: with each tenant's first known row [µs].
    end : int
        Where it ends; `NAT` where there is nothing [µs].
    vendor : Intervals or None
        What the vendor says can be restored to; None where it was not asked.
    """

    known: Facts
    roll: Roll
    begin: int | None
    end: int
    vendor: Intervals | None

    @property
    def tenants(self) -> pd.DataFrame:
        """The tenants, in order."""
        return self.roll.tenants

    @property
    def model(self) -> str:
        """By what exposure is measured: checkpoints, the vendor's intervals, or both."""
        if self.vendor is None or not self.vendor.named.any():
            return "point"
        return "log" if self.vendor.named.all() else "mixed"

    def views(self) -> Iterator[View]:
        """Yield some tenants at a time.

        Yields
        ------
        View
            In the order of the tenants.
        """
        for part in self.roll.parts():
            yield View(self, part)


class View:
    """Some tenants of a scene: their chains, windows and pieces.

    Parameters
    ----------
    scene : Scene
        The whole.
    part : Part
        The rows of these tenants.
    """

    def __init__(self, scene: Scene, part: Part) -> None:
        self.scene, self.part, self.end = scene, part, scene.end
        self.certain = part.chains()
        last = np.flatnonzero(np.append(np.diff(self.certain.group) > 0, [True]))
        head = np.append([0], last[:-1] + 1)
        self.newest_row = part.row[last]
        """Each tenant's newest row in the frame."""
        self.first = self.certain.start[head]
        """When each tenant is first known of; `NEVER` where no row has a start."""
        # A tenant of which no start is known has no window unless one was asked for.
        self.begin = (
            np.minimum(self.first, scene.end)
            if scene.begin is None
            else np.full(part.count, scene.begin)
        )
        self.windows = np.maximum(self.end - self.begin, 0) if scene.end != NAT else 0 * self.begin

    @cached_property
    def trusting(self) -> Chains:
        """The chains, if what is unknown of sets is trusted."""
        return self.part.chains(trust_unknown=True)

    @cached_property
    def doubted(self) -> Bools:
        """Which tenants would be covered better if what is unknown of sets were trusted."""
        if not self.certain.doubtable:
            return np.zeros(self.part.count, bool)
        one, other = self.certain, self.trusting
        every = np.arange(len(one.group))
        differs = (one.restorable != other.restorable) | (one.usable_from != other.usable_from)
        differs |= one.until(every) != other.until(every)
        return np.bincount(one.group[differs], minlength=self.part.count) > 0

    @cached_property
    def vendor(self) -> Intervals | None:
        """The vendor's intervals of these tenants; None where it names none of them."""
        vendor = self.scene.vendor
        if vendor is None:
            return None
        mine = vendor.of(self.part.first, self.part.count)
        return mine if mine.named.any() else None


@dataclass(slots=True)
class Pieces:
    """Windows in pieces, in each of which exposure is a straight line.

    Times are microseconds since 1970.

    Parameters
    ----------
    group, start, end : ndarray of int
        Whose, from when to when.
    checkpoint : ndarray of int
        The newest instant that can be restored to; `NAT` where there is none.
    origin : ndarray of int
        What exposure counts from; `NAT` where it is unbounded.
    flat : ndarray of bool
        Whether every instant of the piece can be restored to: exposure is zero.
    set : ndarray of int
        The newest set that can be restored; -1 where there is none.
    """

    group: Ints
    start: Ints
    end: Ints
    checkpoint: Ints
    origin: Ints
    flat: Bools
    set: Ints

    @property
    def unbounded(self) -> Bools:
        """Where exposure has no bound."""
        return self.origin == NAT

    def exposure(self, at: Ints) -> Ints:
        """Return exposure at an instant of each piece.

        Parameters
        ----------
        at : ndarray of int
            Instants [µs].

        Returns
        -------
        ndarray of int
            Durations [µs]; `NAT` where unbounded.
        """
        return np.where(self.unbounded, NAT, np.where(self.flat, 0, at - self.origin))


@dataclass(slots=True)
class Gaps:
    """Maximal intervals over the limit; `first` and `last` number their pieces."""

    group: Ints
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    pieces: Pieces

    def overlap(self, group: Ints, start: Ints, end: Ints) -> Ints:
        """Return how much of some intervals lies in any of the gaps.

        Parameters
        ----------
        group, start, end : ndarray of int
            The intervals [µs].

        Returns
        -------
        ndarray of int
            Durations [µs].
        """
        if not len(self.group):
            return np.zeros(len(group), np.int64)
        lengths = np.append([0], np.cumsum(self.end - self.start))

        def inside_before(moment: Ints) -> Ints:
            """Sum the gaps of all tenants up to an instant of one."""
            at = search(self.group, self.start, group, moment)
            own = (at > 0) & (self.group[at - 1] == group)
            reach = np.clip(self.end[at - 1] - moment, 0, None)
            return lengths[at] - np.where(own, reach, 0)

        return inside_before(end) - inside_before(start)


def scene_of(
    sets: BackupSets | pd.DataFrame,
    start: Instant | None,
    end: Instant | None,
    as_of: Instant | None,
) -> Scene:
    """Settle facts, tenants and window.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    start, end : instant or None
        The window [UTC].
    as_of : instant or None
        The instant of which it is asked [UTC].

    Returns
    -------
    Scene
        What an analysis of coverage starts from.
    """
    known = facts(sets, as_of)
    begin, until = span(known, start, end)
    roll = roll_of(known.tenants)
    first, last = None if begin is None else micro(begin), NAT if until is None else micro(until)
    vendor = None if known.restorable is None else intervals_of(known, roll)
    return Scene(known, roll, first, last, vendor)


def micro(value: pd.Timestamp | pd.Timedelta) -> int:
    """Return an instant or a duration in microseconds.

    Parameters
    ----------
    value : Timestamp or Timedelta
        The value.

    Returns
    -------
    int
        Since 1970, where it is an instant [µs].
    """
    return int(value.as_unit("us").asm8.astype(np.int64))


def limits(rpo: Any, tenants: pd.DataFrame) -> Ints:  # noqa: ANN401 - one or many durations
    """Return every tenant's RPO.

    Parameters
    ----------
    rpo : duration, mapping or Series
        One, or one by `tenant_id` or (`instance_id`, `tenant_id`).
    tenants : DataFrame
        The tenants.

    Returns
    -------
    ndarray of int
        Durations [µs].

    Raises
    ------
    ValueError
        When a tenant has none.
    """
    if not isinstance(rpo, Mapping | pd.Series):
        return np.full(len(tenants), micro(as_duration(rpo, "rpo")))
    given = dict(rpo.items())
    limits = []
    for instance, tenant in zip(tenants["instance_id"], tenants["tenant_id"], strict=True):
        value = given.get((instance, tenant), given.get(tenant))
        if value is None:
            raise ValueError(f"no rpo for tenant {tenant!r} of instance {instance!r}")
        limits.append(micro(as_duration(value, f"rpo of tenant {tenant}")))
    return np.array(limits, np.int64)


def who(scene: Scene, newest: list[Ints]) -> pd.DataFrame:
    """Return who the tenants are.

    Parameters
    ----------
    scene : Scene
        The tenants.
    newest : list of ndarray of int
        Each tenant's newest row, part by part.

    Returns
    -------
    DataFrame
        `instance_id`, `tenant_id`, `tenant_name` (the newest).
    """
    names = scene.known.tenants["tenant_name"].array
    rows = np.concatenate(newest) if newest else np.zeros(0, np.int64)
    return scene.tenants.assign(tenant_name=names.take(rows))


def pieces_of(view: View, chains: Chains) -> Pieces:
    """Cut every window where its newest restorable instant changes its course.

    Parameters
    ----------
    view : View
        The tenants.
    chains : Chains
        Their sets, as they are to be trusted.

    Returns
    -------
    Pieces
        By tenant and time.
    """
    group, when, checkpoint, flat, which = _course(view, chains)
    last = np.append(group[1:] != group[:-1], [True])[: len(group)]
    following = np.where(last, NEVER, np.append(when[1:], NEVER)[: len(when)])
    start = np.maximum(when, view.begin[group])
    end = np.minimum(following, view.end)
    keep = np.flatnonzero(start < end)
    group, checkpoint, when = group[keep], checkpoint[keep], when[keep]
    # Without a start that was asked for, the time before the first point counts from the first row;
    # when all are gone again, nothing bounds the loss.
    origin = checkpoint
    if view.scene.begin is None:
        origin = np.where(when == NAT, view.first[group], checkpoint)
    return Pieces(group, start[keep], end[keep], checkpoint, origin, flat[keep], which[keep])


def newest_at(view: View, chains: Chains, moment: int) -> tuple[Ints, Bools]:
    """Return the newest instant that every tenant could be restored to at an instant.

    Parameters
    ----------
    view : View
        The tenants.
    chains : Chains
        Their sets, as they are to be trusted.
    moment : int
        When [µs].

    Returns
    -------
    newest : ndarray of int
        `NAT` where there is none [µs].
    never : ndarray of bool
        Whether there was none before either.
    """
    group, when, checkpoint, flat, _ = _course(view, chains)
    # Each tenant's course begins with the time before all of it.
    at = search(group, when, np.arange(view.part.count), np.full(view.part.count, moment), "right")
    at -= 1
    newest = np.where(flat[at], np.minimum(checkpoint[at], moment), checkpoint[at])
    return newest, when[at] == NAT


def gaps_of(view: View, chains: Chains, bound: Ints) -> Gaps:
    """Join what is over the limit to maximal intervals.

    Parameters
    ----------
    view : View
        The tenants.
    chains : Chains
        Their sets, as they are to be trusted.
    bound : ndarray of int
        Each tenant's limit [µs].

    Returns
    -------
    Gaps
        By tenant and time.
    """
    pieces = pieces_of(view, chains)
    over = np.where(pieces.unbounded, NAT, pieces.origin + bound[pieces.group])
    start = np.maximum(pieces.start, over)
    part = np.flatnonzero((start < pieces.end) & ~pieces.flat)
    group, start, end = pieces.group[part], start[part], pieces.end[part]
    joins = np.append([False], (group[1:] == group[:-1]) & (start[1:] == end[:-1]))[: len(part)]
    heads = np.flatnonzero(~joins)
    tails = np.append(heads[1:] - 1, len(part) - 1)[: len(heads)]
    return Gaps(group[heads], start[heads], end[tails], part[heads], part[tails], pieces)


def unknown_in(
    view: View, gaps: Gaps, bound: Ints, where: tuple[Ints, Ints, Ints], *, trust_unknown: bool
) -> Ints:
    """Return how much of the gaps in some intervals is time of which nothing is known.

    Parameters
    ----------
    view : View
        The tenants.
    gaps : Gaps
        Their gaps.
    bound : ndarray of int
        Each tenant's limit [µs].
    where : tuple of ndarray of int
        The intervals: tenant, start, end [µs].
    trust_unknown : bool
        Whether what is unknown of sets was trusted.

    Returns
    -------
    ndarray of int
        Durations [µs]: before the tenant's first known row, and what trust would close.
    """
    group, start, end = where
    known = np.clip(view.first[group], start, end)
    unknown = gaps.overlap(group, start, known)
    if trust_unknown:
        return unknown
    doubted = np.flatnonzero(view.doubted[group])
    if len(doubted):
        # What stays a gap when everything unknown is trusted is known to be one.
        trusted = gaps_of(view, view.trusting, bound)
        later = group[doubted], known[doubted], end[doubted]
        unknown[doubted] += gaps.overlap(*later) - trusted.overlap(*later)
    return unknown


def _course(view: View, chains: Chains) -> tuple[Ints, Ints, Ints, Bools, Ints]:
    """Return what can be restored to, from when on: tenant, when, newest instant, flat, set.

    Every tenant's begins with `NAT`, when there is nothing yet.
    """
    group, when, which = _records(chains)
    checkpoint = np.where(which >= 0, chains.checkpoint[which], NAT) if len(which) else which
    flat = np.zeros(len(group), bool)
    if (vendor := view.vendor) is not None:
        course = log_course(vendor, chains)
        keep = ~vendor.named[group]
        ours = (group, when, checkpoint, flat, which)
        joined = [
            np.concatenate([mine[keep], theirs]) for mine, theirs in zip(ours, course, strict=True)
        ]
        by = np.argsort(joined[0], kind="stable")
        group, when, checkpoint, flat, which = (each[by] for each in joined)
    tenants = np.arange(view.part.count)
    counts = np.bincount(group, minlength=len(tenants)) + 1
    heads, place = np.cumsum(counts) - counts, np.arange(len(group)) + group + 1

    def filled(values: Ints, nothing: int) -> Ints:
        """Put the beginning of every tenant before its records."""
        whole = np.empty(len(values) + len(tenants), values.dtype)
        whole[place], whole[heads] = values, nothing
        return whole

    columns = filled(when, NAT), filled(checkpoint, NAT), filled(flat, 0), filled(which, -1)
    return np.repeat(tenants, counts), *columns


def _records(chains: Chains) -> tuple[Ints, Ints, Ints]:
    """Return when a newer checkpoint became usable: tenant, instant, set.

    Where a set was gone before a newer one was there, older ones take over for that time.
    """
    order = np.flatnonzero(chains.restorable)
    group, when = chains.group[order], chains.usable_from[order]
    same = np.append([False], group[1:] == group[:-1])[: len(order)]
    tangled = same & (np.append([0], np.diff(when))[: len(order)] <= 0)
    if tangled.any():
        # Only tenants whose sets did not end in the order of their starts need to be sorted.
        those = np.flatnonzero(np.isin(group, group[tangled]))
        some = order[those]
        by = np.lexsort((-chains.checkpoint[some], when[those], group[those]))
        order[those] = some[by]
        when = chains.usable_from[order]
    checkpoint = chains.checkpoint[order]
    behind = same & (np.append([0], np.diff(checkpoint))[: len(order)] <= 0)
    if behind.any():
        highest = pd.Series(checkpoint).groupby(group).cummax().to_numpy()
        record = ~same | (checkpoint > np.append([NAT], highest[:-1]))
        steps, group, when = order[record], group[record], when[record]
    else:
        steps = order
    if chains.usable_until is None or not len(steps):
        return group, when, steps
    is_last = np.append(group[1:] != group[:-1], [True])
    following = np.where(is_last, NEVER, np.append(when[1:], NEVER))
    early = chains.until(steps) < following
    if not early.any():
        return group, when, steps
    swept = np.unique(group[early])
    plain = ~np.isin(group, swept)
    parts = [(group[plain], when[plain], steps[plain])]
    own = chains.group[order]
    parts += [_sweep(chains, int(each), order[own == each]) for each in swept]
    whole = [np.concatenate(part) for part in zip(*parts, strict=True)]
    by = np.argsort(whole[0], kind="stable")
    return whole[0][by], whole[1][by], whole[2][by]


def _sweep(chains: Chains, group: int, sets: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the same for one tenant whose sets went: at every event the newest that is there."""
    begins, ends = chains.usable_from[sets], chains.until(sets)
    events = np.unique(np.concatenate([begins, ends]))
    when: list[int] = []
    which: list[int] = []
    for event in events[events != NEVER]:
        there = sets[(begins <= event) & (event < ends)]
        best = int(there[np.argmax(chains.checkpoint[there])]) if len(there) else -1
        # Before the first that can be used there is nothing to record.
        if (which or best >= 0) and (not which or which[-1] != best):
            when.append(event)
            which.append(best)
    return np.full(len(when), group), np.array(when, np.int64), np.array(which, np.int64)
