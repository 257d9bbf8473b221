"""Follow what could be restored to through time: windows, exposure, intervals over a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.recovery import NAT, NEVER, Chains, roll_of, search
from obanalytics.schema import as_duration, facts, span
from obanalytics.vendor import intervals_of, log_course

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obanalytics.recovery import Bools, Ints, Part, Roll
    from obanalytics.schema import BackupSets, Duration, Facts, Instant
    from obanalytics.vendor import Intervals

    Limits: TypeAlias = "Duration | Mapping[Any, Duration] | pd.Series"


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
        named = np.zeros(1, bool) if self.vendor is None else self.vendor.named
        return ("log" if named.all() else "mixed") if named.any() else "point"

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
        bounds = np.searchsorted(self.certain.group, np.arange(part.count + 1))
        self.newest_row = part.rows_of(bounds[1:] - 1)
        """Each tenant's newest row in the frame."""
        self.first = self.certain.start[bounds[:-1]]
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
    def doubts(self) -> tuple[Chains, Ints] | None:
        """The sets as they would be if what is unknown of them were trusted, and until when.

        Of each tenant those that matter to the time until it makes no difference any more; `NAT`
        where it never makes one. None where it makes none to any tenant here.
        """
        if not self.certain.doubtable:
            return None
        one, other, count = self.certain, self.trusting, self.part.count
        if self.part.gone is not None or self.part.set_of_row is not None or self.vendor:
            return other, np.full(count, NEVER)
        more = np.flatnonzero(other.restorable & ~one.restorable)
        newest, until = np.full(count, NAT), np.full(count, NAT)
        np.maximum.at(newest, one.group[more], other.checkpoint[more])
        until[newest != NAT] = NEVER
        # From a restorable set on that is newer than all that hang on trust, all is the same.
        good = np.flatnonzero(one.restorable & (newest != NAT)[one.group])
        good = good[one.checkpoint[good] >= newest[one.group[good]]]
        np.minimum.at(until, one.group[good], one.usable_from[good])
        # Whatever can be restored before an instant was begun before it.
        soon = one.start < until[one.group]
        columns = [each[soon] for each in self.part.columns]
        return Chains(self.part, columns, trust_unknown=True), until

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
    set, next : ndarray of int
        The newest set that can be restored, and that of the piece behind; -1 where there is none.
    """

    group: Ints
    start: Ints
    end: Ints
    checkpoint: Ints
    origin: Ints
    flat: Bools
    set: Ints
    next: Ints

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
    """Maximal intervals over the limit.

    Parameters
    ----------
    group, start, end : ndarray of int
        Whose, from when to when [µs].
    first, last : ndarray of int
        Their first and last piece.
    pieces : Pieces
        The pieces over the limit.
    next : ndarray of int
        The set that closes each; -1 where there is none.
    """

    group: Ints
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    pieces: Pieces
    next: Ints

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
        if group is self.group and start is self.start:
            return np.minimum(end, self.end) - start  # they are the gaps
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
    table = known.restorable
    vendor = None if table is None else intervals_of(table, known.as_of, roll)
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


def limits(rpo: Limits, tenants: pd.DataFrame, name: str = "rpo") -> Ints:
    """Return every tenant's RPO, or another limit.

    Parameters
    ----------
    rpo : duration, mapping or Series
        One, or one by `tenant_id` or (`instance_id`, `tenant_id`).
    tenants : DataFrame
        The tenants.
    name : str
        For errors.

    Returns
    -------
    ndarray of int
        Durations [µs].

    Raises
    ------
    ValueError
        When a tenant has none.
    """
    made = np.empty(len(tenants), np.int64)
    if not isinstance(rpo, Mapping | pd.Series):
        return np.full_like(made, micro(as_duration(rpo, name)))
    given = dict(rpo.items())
    for at, key in enumerate(zip(tenants["instance_id"], tenants["tenant_id"], strict=True)):
        if (value := given.get(key, given.get(key[1]))) is None:
            raise ValueError(f"no {name} for tenant {key[1]!r} of instance {key[0]!r}")
        made[at] = micro(as_duration(value, f"{name} of tenant {key[1]}"))
    return made


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
    course = _course(view, chains)
    return _cut(view, course, np.arange(len(course.group)))


def newest_at(view: View, chains: Chains, moment: int) -> tuple[Ints, Bools, Ints]:
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
    which : ndarray of int
        The set that it is restored from; -1 where there is none.
    """
    course, tenants = _course(view, chains), np.arange(view.part.count)
    at = search(course.group, course.when, tenants, np.full(len(tenants), moment), "right") - 1
    if not len(course.group):
        return np.full(len(tenants), NAT), np.ones(len(tenants), bool), np.full(len(tenants), -1)
    never = (at < 0) | (course.group[at] != tenants)
    newest = course.checkpoint[at]
    newest = np.where(course.flat[at], np.minimum(newest, moment), newest)
    return np.where(never, NAT, newest), never, np.where(never, -1, course.set[at])


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
    course = _course(view, chains)
    # Most are replaced in time: only of the others pieces are cut.
    limit = bound[course.group] if len(bound) and bound.min() < bound.max() else bound[:1]
    late = np.minimum(course.until, view.end) > course.checkpoint + limit
    pieces = _cut(view, course, np.flatnonzero(late & ~course.flat))
    over = np.where(pieces.unbounded, NAT, pieces.origin + bound[pieces.group])
    start = np.maximum(pieces.start, over)
    part = np.flatnonzero(start < pieces.end)
    group, start, end = pieces.group[part], start[part], pieces.end[part]
    joins = np.append([False], (group[1:] == group[:-1]) & (start[1:] == end[:-1]))[: len(part)]
    heads = np.flatnonzero(~joins)
    tails = np.append(heads[1:] - 1, len(part) - 1)[: len(heads)]
    first, last = part[heads], part[tails]
    closing = np.where(end[tails] < view.end, pieces.next[last], -1)
    return Gaps(group[heads], start[heads], end[tails], first, last, pieces, closing)


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
        The intervals: tenant, start, end [µs]; sorted, and none overlaps another.
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
    if trust_unknown or view.doubts is None or not len(group):
        return unknown
    trusting, until = view.doubts
    # What stays a gap when everything unknown is trusted is known to be one.
    some = np.flatnonzero(known < np.minimum(end, until[group]))
    if len(some):
        later = group[some], known[some], np.minimum(end, until[group])[some]
        trusted = gaps_of(view, trusting, bound)
        unknown[some] += gaps.overlap(*later) - trusted.overlap(*later)
    return unknown


@dataclass(slots=True)
class _Course:
    """What can be restored to, from when on; sorted by tenant and time.

    `checkpoint` is the newest instant (`NAT`: none any more), `flat` whether every instant from
    `when` on can be restored to, `set` the newest set.
    """

    group: Ints
    when: Ints
    checkpoint: Ints
    flat: Bools
    set: Ints

    @property
    def until(self) -> Ints:
        """When the next one begins; `NEVER` for a tenant's last."""
        until = np.empty_like(self.when)
        until[:-1], until[-1:] = self.when[1:], NEVER
        until[np.flatnonzero(self.group[1:] != self.group[:-1])] = NEVER
        return until


def _cut(view: View, course: _Course, some: Ints) -> Pieces:
    """Cut pieces from some stretches of a course, and from what is before each tenant's first."""
    count, every = view.part.count, len(course.group)
    tenants = np.arange(count)
    heads = np.searchsorted(course.group, np.arange(count + 1))
    # Before its first there is nothing that could be restored.
    group = np.concatenate([tenants, course.group[some]])
    order = np.argsort(group, kind="stable")
    group, which = group[order], np.concatenate([heads[:-1] - every, some])[order]
    before = np.concatenate([np.ones(count, bool), np.zeros(len(some), bool)])[order]
    when, checkpoint = np.append(course.when, [NEVER]), np.append(course.checkpoint, [NAT])
    sets = np.append(course.set, [-1])
    # The stretch behind: the tenant's first for what is before it.
    behind = np.where(before, which + every, which + 1)
    behind = np.where(behind < heads[group + 1], behind, every)
    start = np.where(before, NAT, when[which])
    start, end = np.maximum(start, view.begin[group]), np.minimum(when[behind], view.end)
    newest = np.where(before, NAT, checkpoint[which])
    # Without a start that was asked for, the time before the first counts from the first row; when
    # all are gone again, nothing bounds the loss.
    origin = newest
    if view.scene.begin is None:
        origin = np.where(before, view.first[group], newest)
    flat = ~before & np.append(course.flat, [False])[which]
    keep = start < end
    columns = (
        group,
        start,
        end,
        newest,
        origin,
        flat,
        np.where(before, -1, sets[which]),
        sets[behind],
    )
    return Pieces(*(each[keep] for each in columns))


def _course(view: View, chains: Chains) -> _Course:
    """Return what can be restored to, from when on."""
    group, when, which = _records(chains)
    checkpoint = np.where(which >= 0, chains.checkpoint[which], NAT) if len(which) else which
    course = _Course(group, when, checkpoint, np.zeros(len(group), bool), which)
    if (vendor := view.vendor) is None:
        return course
    keep = ~vendor.named[group]
    ours = (group, when, checkpoint, course.flat, which)
    joined = [
        np.concatenate([mine[keep], theirs])
        for mine, theirs in zip(ours, log_course(vendor, chains), strict=True)
    ]
    by = np.argsort(joined[0], kind="stable")
    return _Course(*(each[by] for each in joined))


def _records(chains: Chains) -> tuple[Ints, Ints, Ints]:
    """Return when a newer checkpoint became usable: tenant, instant, set.

    Where a set was gone before a newer one was there, older ones take over for that time.
    """
    order = np.flatnonzero(chains.restorable)
    group, when, checkpoint = chains.group[order], chains.end[order], chains.checkpoint[order]
    other = group[1:] != group[:-1]
    plain = ((when[1:] > when[:-1]) & (checkpoint[1:] > checkpoint[:-1])) | other
    if plain.all() and chains.usable_until is None:
        return group, when, order
    when = chains.usable_from[order]
    if not plain.all():
        # Only tenants whose sets do not follow each other need to be sorted.
        those = np.flatnonzero(np.isin(group, group[1:][~plain]))
        some = order[those]
        by = np.lexsort((-chains.checkpoint[some], when[those], group[those]))
        order[those] = some[by]
        when = chains.usable_from[order]
    checkpoint = chains.checkpoint[order]
    newer = (checkpoint[1:] > checkpoint[:-1]) | other
    steps = order
    if not newer.all():
        highest = pd.Series(checkpoint).groupby(group).cummax().to_numpy()
        record = np.append([True], other | (checkpoint[1:] > highest[:-1]))
        steps, group, when = order[record], group[record], when[record]
    if chains.usable_until is None or not len(steps):
        return group, when, steps
    is_last = np.append(group[1:] != group[:-1], [True])
    following = np.where(is_last, NEVER, np.append(when[1:], NEVER))
    early = chains.until[steps] < following
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
    begins, ends = chains.usable_from[sets], chains.until[sets]
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
