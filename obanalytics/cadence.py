"""Tell cadences by numbers: given as cron texts or durations, or inferred from the starts of runs.

A cadence has slots. Those of a grid are a period apart; whole days are days of the calendar, so
their slots keep the hour of the wall clock where clocks change. Others are those of cron texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from obanalytics.clock import (
    DAY,
    HOUR,
    MINUTE,
    SURE,
    WEEK,
    Regime,
    clock_of,
    cron_slots,
    quarter_before,
)
from obanalytics.recovery import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.clock import Clock
    from obanalytics.recovery import Bools, Ints

NICE = np.array(
    [
        *(each * MINUTE for each in (5, 10, 15, 20, 30)),
        *(each * HOUR for each in (1, 2, 3, 4, 6, 8, 12)),
        *(each * DAY for each in (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)),
    ]
)
"""Periods that people choose [µs]."""
SNAP, AGREE = 0.02, 0.2
"""How far a period may be from a nice one, and an interval from its period, as shares."""
LEAST = 3
"""With fewer runs nothing is said of a cadence."""
_MAD = 1.4826
_SAMPLE = 31
_MOVED = 45 * MINUTE
_ODD_SHARE = 0.08
_NEAR = 3 * HOUR  # how much a week from run to run may differ
_MOST = 14  # runs of a week in a pattern of weekdays


class _Sample:
    """At most 31 values of every group, evenly spread, for the medians of many groups at once."""

    def __init__(self, begins: Ints, many: Ints) -> None:
        self.width = width = int(np.clip(many.max(initial=1), 1, _SAMPLE))
        place, few = np.arange(width), many[:, None]
        spread = place * few // width if int(many.max(initial=0)) > width else place
        if int(many.min(initial=width)) < width:
            spread = np.where(few > width, spread, place)
        self.there = place < few
        self.at, self.many = begins[:, None] + spread, many

    def median(self, values: Ints, *, between: bool = False) -> Ints:
        """Return the lower median of each group; zero where it has none.

        `between`: values lie between two of a group, and behind its last there is none.
        """
        if not len(values):
            return np.zeros(len(self.many), np.int64)
        there, few = self.there, np.minimum(self.many, self.width)
        if between:
            there = there & (self.at < (self.at[:, 0] + self.many - 1)[:, None])
            few = there.sum(axis=1)
        table = np.sort(np.where(there, values.take(self.at, mode="clip"), NEVER), axis=1)
        found = table[np.arange(len(table)), np.maximum(few - 1, 0) // 2]
        return np.where(found == NEVER, 0, found)


def snapped(every: Ints) -> Ints:
    """Return periods, or the nice ones that they are near to.

    Parameters
    ----------
    every : ndarray of int
        Periods [µs].

    Returns
    -------
    ndarray of int
        Periods [µs].
    """
    near = NICE[np.searchsorted((NICE[1:] + NICE[:-1]) // 2, every)]
    return np.where(np.abs(every - near) <= SNAP * near, near, every)


@dataclass(slots=True)
class Grids:
    """A grid for the runs of every tenant, and which tenants a single grid may not do.

    Parameters
    ----------
    phase, every, dispersion, runs : ndarray of int
        A slot on the clock of `local` [µs], the period [µs; zero where it is not known], the robust
        standard deviation of the starts from their slots [µs], how many runs.
    first, last : ndarray of int
        The numbers of the slots of the first and the last run.
    confidence : ndarray of float
        As in `schedule`.
    local : ndarray of bool
        Whether slots are on the wall clock.
    number, delay : ndarray of int
        The slot of every set, and how long after it the set started [µs].
    doubtful : ndarray of int
        The tenants to be looked at one by one.
    """

    phase: Ints
    every: Ints
    dispersion: Ints
    runs: Ints
    first: Ints
    last: Ints
    confidence: Any
    local: Bools
    number: Ints
    delay: Ints
    doubtful: Ints

    def take(self, other: Grids, group: Ints) -> None:
        """Take the grids of another clock for the tenants that are doubtful only by this one.

        Parameters
        ----------
        other : Grids
            The other.
        group : ndarray of int
            The tenant of every set.
        """
        better = np.zeros(len(self.every), bool)
        better[self.doubtful] = True
        better[other.doubtful] = False
        sets = better[group]
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name in {"number", "delay"}:
                mine[sets] = theirs[sets]
            elif name != "doubtful":
                mine[better] = theirs[better]
        self.doubtful = self.doubtful[~better[self.doubtful]]


def grids_of(group: Ints, start: Ints, runs: Bools | None, count: int, clock: Clock) -> Grids:
    """Lay a grid through the runs of every tenant.

    Parameters
    ----------
    group, start : ndarray of int
        The sets that are told the slots of, by tenant and start [µs].
    runs : ndarray of bool or None
        Those that tell the cadence; None: all.
    count : int
        How many tenants there are.
    clock : Clock
        The clock of the wall.

    Returns
    -------
    Grids
        The grids.
    """
    mine, at = (group, start) if runs is None else (group[runs], start[runs])
    bounds = np.searchsorted(mine, np.arange(count + 1))
    many = np.diff(bounds)
    steps = np.diff(at)
    sample = _Sample(bounds[:-1], many)
    every = snapped(sample.median(steps, between=True))
    local = (every % DAY == 0) & bool(len(clock.at))
    if local.any():
        start = np.where(local[group], clock.wall(start), start)
        at = start if runs is None else start[runs]
    anchor = np.append(at, [0])[np.minimum(bounds[:-1] + many // 2, len(at))]
    period = np.maximum(every, 1)
    span = _each(period, group)
    turns, rest = _turns(start - _each(anchor, group), span)
    shift = sample.median(rest if runs is None else rest[runs])
    rest -= _each(shift, group)
    off = np.abs(rest if runs is None else rest[runs])
    if 2 * off.max(initial=0) > period.min(initial=NEVER):
        # On a circle: also the way to the slot behind.
        np.minimum(off, np.abs((span if runs is None else span[runs]) - off), out=off)
    dispersion = np.rint(_MAD * sample.median(off)).astype(np.int64)
    quarter = period // 4
    mean = _each(quarter, group)
    if len(other := np.flatnonzero((rest < -mean) | (rest + mean >= span))):
        ahead = np.where(rest[other] < 0, -1, 1)
        turns[other] += ahead
        rest[other] -= ahead * span[other]
    found = Grids(
        anchor + shift, every, dispersion, many, many, many, many, local, turns, rest, many
    )
    _judge(found, (mine, turns if runs is None else turns[runs], at, steps, off), bounds)
    if len(own_delay := rest if runs is None else rest[runs]):
        # A first run that is far behind its slot was not for it.
        found.first += own_delay[np.minimum(bounds[:-1], len(own_delay) - 1)] > quarter
    far = 4 * np.abs(shift) > period
    found.doubtful = np.flatnonzero((found.doubtful | far) & (many >= SURE) & (every > 0))
    return found


def _turns(since: Ints, period: Ints) -> tuple[Ints, Ints]:
    """Return whole periods, to the nearest, and what is left over or lacking."""
    turns = np.rint(since / period).astype(np.int64)
    return turns, since - turns * period


def _judge(found: Grids, runs: tuple[Ints, ...], bounds: Ints) -> None:
    """Tell how far the grids can be relied on, and where they may be more than one cadence."""
    mine, number, at, steps, off = runs
    every, begins, ends = found.every, bounds[:-1], bounds[1:]
    whose, turned, count = mine[1:], np.diff(number), len(bounds) - 1
    odd = np.abs(steps - _each(every, whose)) > _each((AGREE * every).astype(np.int64), whose)
    # All but few lead from one slot to the next.
    other = np.flatnonzero((odd | (turned != 1)) & (whose == mine[:-1]))
    odd_ones = other[odd[other]]
    wrong, stays, strange = (
        np.bincount(whose[each], minlength=count)
        for each in (other, other[turned[other] <= 0], odd_ones)
    )
    inner = np.maximum(found.runs - 1, 0)
    passed, right = inner - stays, inner - wrong
    few = np.clip((found.runs - 1) / (SURE - 1), 0, 1) * (found.runs >= LEAST)
    found.confidence = right / np.maximum(passed, 1) * few
    edge = np.append(number, [0])
    found.first, found.last = edge[np.minimum(begins, len(number))], edge[ends - 1]
    doubtful = (strange >= LEAST - 1) & (strange > _ODD_SHARE * found.runs)
    doubtful[whose[odd_ones[:-2][odd_ones[2:] - odd_ones[:-2] == LEAST - 1]]] = True
    # The same hole every week: it may be a pattern of weekdays.
    weekly = np.abs(np.diff(at[odd_ones]) - WEEK) <= _NEAR
    holes = np.flatnonzero(weekly[1:] & weekly[:-1])
    doubtful[whose[odd_ones[holes[whose[odd_ones[holes]] == whose[odd_ones[holes + 2]]]]]] = True
    least = np.minimum(every // 32, _MOVED)
    tolerance = np.clip(4 * found.dispersion, least, np.maximum(every // 16, least))
    out = np.flatnonzero(off > _each(tolerance, mine))
    moved = out[:-3][(out[3:] - out[:-3] == LEAST) & (mine[out[3:]] == mine[out[:-3]])]
    doubtful[mine[moved]] = True
    found.doubtful = doubtful


def _each(values: Ints, group: Ints) -> Ints:
    """Return every set's value by its tenant; groups are known to be in range."""
    return values.take(group, mode="clip")


def regimes_of(start: Ints, clock: Clock) -> list[Regime]:
    """Find the cadences that the runs of one tenant had, one after the other.

    Parameters
    ----------
    start : ndarray of int
        The starts of its runs, ascending [µs].
    clock : Clock
        The clock of the wall.

    Returns
    -------
    list of Regime
        Told by the wall clock, or by UTC where that takes fewer of them.
    """
    here = _regimes(start, clock)
    if not len(clock.at):
        return here
    there = _regimes(start, clock_of("UTC", 0, 0))
    # Hours are no matter of the wall clock.
    hours = any(each.every % DAY and not each.crons for each in here)
    rank = [
        (len(each), hours and each is here, sum(one.dispersion * one.runs for one in each))
        for each in (here, there)
    ]
    return there if rank[1] < rank[0] else here


def _regimes(start: Ints, clock: Clock) -> list[Regime]:
    """Find the cadences of one tenant by one clock."""
    times = clock.wall(start)
    pieces = _pieces(times)
    made: list[Regime] = []
    for (low, pattern, _), (high, new, apart) in pairwise([*pieces, (len(times), None, False)]):
        if isinstance(pattern, tuple):
            made.append(_weekly(start[low:high], pattern, clock))
            continue
        every = int(pattern or _usual(np.diff(times[low:high])))
        cuts = [low, *(low + cut for cut in _moves(times[low:high], every)), high]
        for one, other in pairwise(cuts):
            # What an outage swallowed before a change is owed by the old cadence.
            ends = None
            if other < high:
                ends = int(times[other])
            elif apart:
                ends = int(times[high]) - max((new if isinstance(new, int) else DAY) - every, 0)
            made.append(_even(times[one:other], every, clock, ends))
    return [*made[:-1], replace(made[-1], until=NEVER)]


def _pieces(times: Ints) -> list[tuple[int, Any, bool]]:
    """Return where cadences begin, what each is, and whether there is a hole before it.

    It is a period, or the times of a week; None where there is no cadence.
    """
    steps = np.diff(times)
    weekly = _weekly_stretches(times, steps)
    stretches = sorted([*weekly, *_even_stretches(steps, weekly)], key=lambda each: each[0])
    kept: list[tuple[int, int, Any]] = []
    for low, high, pattern in stretches:
        before = kept[-1][2] if kept else 0
        if before and (_alike(before, pattern) or _follows(times[low : high + 2], before)):
            kept[-1] = (kept[-1][0], high, before)
        elif kept and _follows(times[kept[-1][0] : kept[-1][1] + 2], pattern):
            kept[-1] = (kept[-1][0], high, pattern)
        else:
            kept.append((low, high, pattern))
    pieces = [(0, kept[0][2], False)] if kept else [(0, None, False)]
    for (_, before, one), (low, _, other) in pairwise(kept):
        # The run between two cadences is the older's, unless it came at neither's time.
        apart = low > before + 1 and not (
            isinstance(one, int) and abs(steps[low - 1] - one) <= AGREE * one
        )
        pieces.append((low if apart else low + 1, other, apart))
    return pieces


def _usual(steps: Ints) -> int:
    """Return the median interval, or the nice one near it."""
    return int(snapped(np.sort(steps))[(len(steps) - 1) // 2]) if len(steps) else DAY


def _alike(one: Any, other: Any) -> bool:  # noqa: ANN401 - a period or the times of a week
    """Tell whether two stretches have the same cadence."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return [at // DAY for at in one] == [at // DAY for at in other]
    if isinstance(one, tuple) or isinstance(other, tuple):
        return False
    return bool(abs(one - other) <= AGREE * max(one, other))


def _follows(times: Ints, pattern: Any) -> bool:  # noqa: ANN401 - a period or the times of a week
    """Tell whether runs keep to the times of a week and leave none out."""
    if not isinstance(pattern, tuple):
        return False
    slots = np.array(pattern)
    week, at = np.divmod(times, WEEK)
    off = (at[:, None] - slots + WEEK // 2) % WEEK - WEEK // 2
    near = np.argmin(np.abs(off), axis=1)
    rest = np.take_along_axis(off, near[:, None], axis=1)[:, 0]
    number = (week + (at - rest - slots[near]) // WEEK) * len(slots) + near
    return bool((np.abs(rest) < DAY // 4).all() and (np.diff(number) == 1).all())


def _weekly_stretches(times: Ints, steps: Ints) -> list[tuple[int, int, tuple[int, ...]]]:
    """Find where the same uneven intervals come again every week: first, last, times of a week."""
    found: list[tuple[int, int, tuple[int, ...]]] = []
    for many in range(2, _MOST + 1):
        ok = np.abs(times[many:] - times[:-many] - WEEK) <= _NEAR
        for low, high in _runs(ok) if np.count_nonzero(ok) > 2 * many else ():
            if high - low <= 2 * many:  # two holes of a week apart are no pattern yet
                continue
            last = high + many - 2
            mine = steps[low : last + 1]
            usual = np.sort(mine)[(len(mine) - 1) // 2]
            odd = np.abs(mine - usual) > AGREE * usual
            if odd.mean() < 0.8 / many or any(a <= last and low <= b for a, b, _ in found):
                continue
            at = times[low : last + 2]
            spots = [_middle(at[turn::many] - at[turn], WEEK) + at[turn] for turn in range(many)]
            found.append((low, last, _times_of(np.array(spots))))
    return found


def _times_of(spots: Ints) -> tuple[int, ...]:
    """Return times of a week, those of the days as one where they are near to each other."""
    apart = (spots - spots[0] + DAY // 2) % DAY - DAY // 2
    if np.ptp(apart) <= _MOVED:
        spots = spots - apart + np.sort(apart)[(len(apart) - 1) // 2]
    return tuple(np.sort(spots // MINUTE * MINUTE % WEEK).tolist())


def _even_stretches(steps: Ints, taken: list[Any]) -> list[tuple[int, int, int]]:
    """Find where at least three intervals agree: first, last, period."""
    free = np.ones(len(steps), bool)
    for low, high, _ in taken:
        free[low : high + 1] = False
    values, found, low = steps.tolist(), [], 0
    while low + LEAST <= len(values):
        usual = sorted(values[low : low + LEAST])[LEAST // 2]
        high = low
        while high < len(values) and free[high] and abs(values[high] - usual) <= AGREE * usual:
            high += 1
        if high - low < LEAST:
            low += 1
            continue
        found.append((low, high - 1, _usual(steps[low:high])))
        low = high
    return found


def _runs(flags: Bools) -> list[tuple[int, int]]:
    """Return where flags are set: from, and up to."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _middle(values: Ints, period: int) -> int:
    """Return the median of values near zero on a circle."""
    near = np.sort((values + period // 2) % period - period // 2)
    return int(near[(len(near) - 1) // 2])


def _moves(times: Ints, every: int) -> list[int]:
    """Return where runs moved to another phase and stayed there for at least three intervals."""
    if len(times) <= LEAST or every <= 0:
        return []

    def wrap(values: Any) -> Any:  # noqa: ANN401 - numbers
        """Return the distance on the circle."""
        return (values + every // 2) % every - every // 2

    jumps = np.abs(wrap(np.diff(times)))
    noise = int(_MAD * np.median(jumps) / np.sqrt(2))
    least = min(every // 32, _MOVED)
    tolerance = min(max(least, 4 * noise), max(every // 8, least))
    near = np.stack([wrap(times[k : len(times) - LEAST + k] - times[:-LEAST]) for k in range(4)])
    steady = np.flatnonzero(near.max(axis=0) - near.min(axis=0) <= tolerance)
    level = times[steady] + np.sort(near[:, steady], axis=0)[1:3].mean(axis=0).astype(np.int64)
    cuts: list[int] = []
    here = None
    for place, phase in zip(steady.tolist(), level.tolist(), strict=True):
        if here is None:
            here = phase
        elif abs(wrap(phase - here)) > tolerance:
            cuts.append(place)
            here = phase
    return cuts


def _even(times: Ints, every: int, clock: Clock, after: int | None) -> Regime:
    """Describe runs that are a period apart; `after` is when those of another phase begin."""
    anchor = int(times[len(times) // 2])
    phase = anchor
    for _ in range(2):  # the second time from near the middle
        phase += _middle(times - phase, every)
    number = (times - phase + every // 4) // every
    delay = times - phase - number * every
    dispersion = int(
        _MAD * np.sort(np.abs((delay + every // 2) % every - every // 2))[(len(times) - 1) // 2]
    )
    steps = np.diff(times)
    confidence = _confidence(np.diff(number), np.abs(steps - every) <= AGREE * every, len(times))
    first, last = (phase + int(number[place]) * every for place in (0, -1))
    first += every * int(delay[0] > every // 4)
    if after is not None:  # an outage before the move is the old cadence's
        last += max((int(after) - last) // every - 1, 0) * every
    whole = every % DAY == 0
    since, until = clock.utc(np.array([first, last])).tolist() if whole else (first, last)
    if not whole:
        shift = int(clock.wall(times[:1])[0] - times[0]) if len(clock.at) else clock.offsets[0]
        since, until = since - int(shift), until - int(shift)
    return Regime(since, until, every, dispersion, len(times), confidence, clock.name)


def _confidence(ahead: Ints, near: Bools, runs: int) -> float:
    """Return the share of steps to a later slot that lead to the next, less for few runs."""
    if runs < LEAST:
        return 0.0
    passed = int((ahead > 0).sum())
    return int(((ahead == 1) & near).sum()) / max(passed, 1) * min(1.0, (runs - 1) / (SURE - 1))


def _weekly(start: Ints, week: tuple[int, ...], clock: Clock) -> Regime:
    """Describe runs that come at the times of a week."""
    crons = _crons(week)
    low, high = int(start[0]) // WEEK * WEEK - WEEK, int(start[-1]) // WEEK * WEEK + 2 * WEEK
    slots = cron_slots(crons, clock.name, low, high)
    number: Ints = np.searchsorted(quarter_before(slots), start, "right") - 1
    delay = start - slots[number]
    taken, expected = np.diff(start), slots[number[1:]] - slots[number[:-1]]
    near = np.abs(taken - expected) <= AGREE * expected
    dispersion = int(_MAD * np.sort(np.abs(delay))[(len(delay) - 1) // 2])
    return Regime(
        int(slots[number[0]]),
        int(slots[number[-1]]),
        int(np.sort(taken)[(len(taken) - 1) // 2]),
        dispersion,
        len(start),
        _confidence(np.diff(number), near, len(start)),
        clock.name,
        crons,
    )


def _crons(week: tuple[int, ...]) -> tuple[str, ...]:
    """Write the times of a week, counted from a Thursday, as cron texts."""
    by_time: dict[int, list[int]] = {}
    for at in week:
        by_time.setdefault(at % DAY, []).append((at // DAY + 4) % 7)
    return tuple(
        f"{time // MINUTE % 60} {time // HOUR} * * "
        + ("*" if len(set(days)) == WEEK // DAY else ",".join(map(str, sorted(set(days)))))
        for time, days in sorted(by_time.items())
    )


def left_of(first: Ints, stop: Ints, excused: Callable[[Ints, Ints], Bools]) -> tuple[Ints, ...]:
    """Return what is left of runs of numbers where some do not count.

    Parameters
    ----------
    first, stop : ndarray of int
        The runs, without their ends.
    excused : callable
        Takes positions of runs and numbers in them, tells which of these do not count.

    Returns
    -------
    tuple of ndarray of int
        Of every run that is left: the position of the one it is of, its first number, its end.
    """
    many = stop - first
    owner = np.repeat(np.arange(len(many)), many)
    number = np.arange(len(owner)) - (np.cumsum(many) - many - first)[owner]
    keep = ~excused(owner, number)
    owner, number = owner[keep], number[keep]
    apart = (owner[1:] != owner[:-1]) | (number[1:] != number[:-1] + 1)
    heads = np.flatnonzero(np.append([True], apart)[: len(owner)])
    tails = np.append(heads[1:], len(owner))[: len(heads)] - 1
    return owner[heads], number[heads], number[tails] + 1


def joined(parts: list[tuple[Any, ...]], kinds: list[Any]) -> list[Any]:
    """Put tables together, by tenant, slot and mode.

    Parameters
    ----------
    parts : list of tuple of ndarray
        Their columns: tenant, mode, slot, …
    kinds : list of type
        Those of the columns, also where there is no part.

    Returns
    -------
    list of ndarray
        The columns of all.
    """
    if not parts:
        return [np.zeros(0, kind) for kind in kinds]
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    by = np.lexsort((whole[1], whole[2], whole[0]))
    return [column[by].astype(kind) for column, kind in zip(whole, kinds, strict=True)]
