"""Fill the slots of schedules with sets: which were missed, which were filled late."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from obanalytics.cadence import grids_of, joined, left_of, regimes_of
from obanalytics.clock import (
    CLIP,
    DAY,
    FULL,
    HOUR,
    INCREMENTAL,
    MODES,
    SURE,
    TRUSTED,
    WEEK,
    Rule,
    clock_of,
    close_of,
    cron_slots,
    grace_of,
    open_of,
    rules_of,
    zone_of,
)
from obanalytics.curve import micro
from obanalytics.recovery import NAT, NEVER, REASONS
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obanalytics.clock import Clock, Regime
    from obanalytics.curve import View
    from obanalytics.recovery import Bools, Ints

ORIGINS = ("inferred", "given")
OUTCOMES = ("met", "late", "missed", "pending")
EARLY, GRACE = HOUR, 2 * HOUR
"""How long before and after its slot a run is in time, unless something else is asked [µs]."""
_BY_HAND = "BACKUP_NOW"
_RUNNING = STATES.index("running")
_EXPIRED = REASONS.index("expired")


@dataclass(slots=True)
class Missed:
    """Slots that no usable set filled, in runs, and slots that were filled late.

    Times are microseconds since 1970; tenants are counted from the view's first.

    Parameters
    ----------
    group, mode : ndarray of int
        Whose, and of which mode (a position in `MODES`), a row per run of consecutive slots.
    first, last : ndarray of int
        The first and the last of them.
    count : ndarray of int
        How many.
    every : ndarray of int
        The period [µs].
    expected_origin : ndarray of int
        A position in `ORIGINS`.
    previous, next : ndarray of int
        The usable sets before and behind; -1 where there is none.
    attempts : ndarray of int
        Sets in them that are not usable.
    confidence : ndarray of float
        How far the cadence can be relied on; 1 where it is given.
    late_group, late_mode, late_slot, late_set, late_delay : ndarray of int
        A row per slot that was filled late: whose, of which mode, when, by which set, how late.
    late_origin : ndarray of int
        A position in `ORIGINS`.
    """

    group: Ints
    mode: Ints
    first: Ints
    last: Ints
    count: Ints
    every: Ints
    expected_origin: Ints
    previous: Ints
    next: Ints
    attempts: Ints
    confidence: Any
    late_group: Ints
    late_mode: Ints
    late_slot: Ints
    late_set: Ints
    late_delay: Ints
    late_origin: Ints


@dataclass(slots=True)
class Ask:
    """From when until when slots are owed, how early and late a run may start, by which clock."""

    low: Ints
    until: Ints
    as_of: int
    early: int
    grace: Ints
    clock: Clock
    by_hand: Bools | None
    excused: Callable[[Ints, Ints], Bools] | None = None


class Plan:
    """The slots of one mode, and which set fills which; numbers count each tenant's slots.

    Sets are those that could fill a slot of the mode, usable or not. Slots from `low` to `high`
    are owed, and up to `decided` it is known what became of them. `place` is where a tenant's
    slots begin in the tables; -1 where they are those of a grid.
    """

    def __init__(self, view: View, mode: int, ask: Ask) -> None:
        chains, count = view.certain, view.part.count
        keep = (chains.own > 0) & (chains.start != NEVER)
        keep = keep & chains.full if mode == FULL else keep
        self.sets: Any = slice(None) if keep.all() else np.flatnonzero(keep)
        self.view, self.mode, self.ask = view, mode, ask
        self.group, self.start = chains.group[self.sets], chains.start[self.sets]
        self.usable = (chains.restorable | (chains.own == _EXPIRED))[self.sets]
        self.runs: Bools | None = None if ask.by_hand is None else ~ask.by_hand[self.sets]
        self.given = np.zeros(count, bool)
        self.low, self.high, self.decided = np.zeros((3, count), np.int64)
        self.place = np.full(count, -1)
        self.asked = self.given
        self.there: Bools | None = None
        self.parts: list[tuple[Any, ...]] = []
        self.size = 0

    def infer(self, mine: Bools) -> dict[int, list[Regime]]:
        """Lay grids through the runs, and return the cadences of those that take several."""
        count, ask = len(mine), self.ask
        grids = grids_of(self.group, self.start, self.runs, count, ask.clock)
        if len(ask.clock.at) and len(grids.doubtful):
            utc = clock_of("UTC", 0, 0)
            grids.take(grids_of(self.group, self.start, self.runs, count, utc), self.group)
        self.grids = grids
        self.number, self.delay = grids.number, grids.delay
        self.closing = grace_of(grids.every, ask.grace, grids.dispersion)
        self.confidence = grids.confidence
        self.over = self.delay > self.closing.take(self.group, mode="clip")
        ours = grids.doubtful[mine[grids.doubtful]]
        regimes = {int(each): regimes_of(self.starts(each), ask.clock) for each in ours}
        owes = (grids.confidence >= TRUSTED) & (grids.runs >= SURE) & (grids.every > 0) & mine
        owes[ours] = False
        self.bound(np.flatnonzero(owes), grids.first)
        return regimes

    def starts(self, group: int) -> Ints:
        """Return the starts of a tenant's runs [µs]."""
        low, high = np.searchsorted(self.group, [group, group + 1])
        start = self.start[low:high]
        return start if self.runs is None else start[self.runs[low:high]]

    def bound(self, who: Ints, first: Ints | None = None) -> None:
        """Say which slots of grids are owed."""
        grids, ask = self.grids, self.ask
        phase, every = grids.phase[who], grids.every[who]

        def behind(at: Ints) -> Ints:
            """Return the number of the first slot from an instant on."""
            if len(ask.clock.at):
                at = np.where(grids.local[who], ask.clock.wall(at), at)
            return -((phase - at) // every)

        low = behind(np.minimum(ask.low[who], ask.until[who]))
        self.low[who] = low if first is None else np.maximum(low, first[who])
        self.high[who] = np.maximum(behind(ask.until[who]), self.low[who])
        known = behind(ask.as_of - self.closing[who] + 1)
        self.decided[who] = np.clip(known, self.low[who], self.high[who])

    def lay(self, every: Ints, first: Ints) -> None:
        """Lay given grids: `every` is zero where there is none, `first` when they begin [µs]."""
        grids, clock = self.grids, self.ask.clock
        mine = np.flatnonzero((every > 0) & (first != NEVER))
        local = (every % DAY == 0) & bool(len(clock.at))
        phase = np.where(local, clock.wall(np.where(first == NEVER, 0, first)), first)
        for name, values in (("phase", phase), ("every", every), ("local", local)):
            getattr(grids, name)[mine] = values[mine]
        self.closing[mine] = np.minimum(self.ask.grace, (CLIP * every).astype(np.int64))[mine]
        self.confidence[mine], self.given[mine] = 1.0, True
        ours = np.zeros(len(every), bool)
        ours[mine] = True
        sets = np.flatnonzero(ours[self.group])
        group, at = self.group[sets], self.start[sets]
        at = np.where(local[group], clock.wall(at), at) - phase[group]
        early = np.minimum(self.ask.early, (CLIP * every).astype(np.int64))[group]
        self.number[sets] = (at + early) // every[group]
        self.delay[sets] = at - self.number[sets] * every[group]
        self.over[sets] = self.delay[sets] > self.closing[group]
        self.bound(mine, np.zeros(len(every), np.int64))

    def enter(self, who: Ints, slots: Ints, near: tuple[Ints, Ints], how: tuple[Any, ...]) -> None:
        """Enter slots into the tables that some tenants share, and find what fills them."""
        (opens, closes), (every, confidence, given) = near, how
        self.low[who] = self.high[who] = self.decided[who] = 0
        sets = self.between(who)
        if self.there is None:
            self.there = np.ones(len(self.group), bool)
        self.there[sets] = False
        if not len(slots):
            return
        ask = self.ask
        self.place[who], self.size = self.size, self.size + len(slots)
        self.given[who] = given
        self.parts.append((slots, closes, every, confidence))
        first, low = self.view.first[who], np.searchsorted(slots, ask.low[who])
        # Where grace is longer than a period, several slots are so near before the first row.
        mine = np.maximum(low, np.searchsorted(opens, first, "right") - 1)
        self.low[who] = np.where(ask.low[who] == first - ask.grace[who], mine, low)
        self.high[who] = np.maximum(np.searchsorted(slots, ask.until[who]), self.low[who])
        known = np.searchsorted(closes, ask.as_of, "right")
        self.decided[who] = np.clip(known, self.low[who], self.high[who])
        start = self.start[sets]
        number = np.searchsorted(opens, start, "right") - 1
        at = np.maximum(number, 0)
        delay = start - slots[at]
        self.number[sets], self.delay[sets] = number, delay
        self.over[sets] = start > closes[at]
        self.there[sets] = (number >= 0) & (delay <= every[at])

    def between(self, who: Ints) -> Any:  # noqa: ANN401 - a slice or places
        """Return the sets of some tenants."""
        if len(who) == 1:
            return slice(*np.searchsorted(self.group, [who[0], who[0] + 1]))
        return np.flatnonzero(np.isin(self.group, who))

    def close(self) -> None:
        """Put the tables together."""
        empty = (np.zeros(0, np.int64),) * 4
        self.table = [np.concatenate(part) for part in zip(empty, *self.parts, strict=True)]

    def wait(self) -> None:
        """Leave the newest slot open while the newest run, which was begun for it, goes on."""
        last = np.searchsorted(self.group, np.arange(len(self.low)), "right") - 1
        some = np.flatnonzero((last >= 0) & (self.decided > self.low))
        some = some[self.group[last[some]] == some]
        last = last[some]
        runs = self.view.part.state[self.numbers(last)] == _RUNNING
        mine = runs & (self.number[last] == self.decided[some] - 1)
        if self.there is not None:
            mine &= self.there[last]
        self.decided[some[mine]] -= 1

    @cached_property
    def good(self) -> tuple[Ints, Ints, Ints]:
        """The usable sets, their tenants and the numbers of their slots."""
        usable = self.usable if self.there is None else self.usable & self.there
        good = np.flatnonzero(usable)
        return good, self.group[good], self.number[good]

    def _value(self, table: int, grid: Any, group: Ints, number: Ints) -> Any:  # noqa: ANN401
        """Return something of slots: from the tables, or else what it is of a grid."""
        if not self.parts:
            return grid
        place = self.place[group]
        return np.where(
            place >= 0, self.table[table][np.where(place >= 0, place + number, 0)], grid
        )

    def instants(self, group: Ints, number: Ints) -> Ints:
        """Return when slots are [µs]."""
        grids = self.grids
        at = grids.phase[group] + number * grids.every[group]
        if grids.local.any():
            at = np.where(grids.local[group], self.ask.clock.utc(at), at)
        return self._value(0, at, group, number)

    def closes(self, group: Ints, number: Ints) -> Ints:
        """Return until when a run is in time for slots [µs]."""
        grid = self.instants(group, number) + self.closing[group]
        return self._value(1, grid, group, number)

    def periods(self, group: Ints, number: Ints) -> Ints:
        """Return how long it is from slots to the next ones [µs]."""
        return self._value(2, self.grids.every[group], group, number)

    def certainty(self, group: Ints, number: Ints) -> Any:  # noqa: ANN401 - an array of float
        """Return how far slots can be relied on."""
        return self._value(3, self.confidence[group], group, number)

    def numbers(self, sets: Ints) -> Ints:
        """Return the numbers that sets have in the view; -1 stays."""
        whole = sets if isinstance(self.sets, slice) else np.append(self.sets, [-1])[sets]
        return np.where(sets >= 0, whole, -1)


def _by_hand(view: View) -> Bools | None:
    """Tell which sets were begun by hand, but of tenants all of whose are; None where none was."""
    trigger = view.scene.known.tenants["trigger_mode"].array
    codes = [
        code
        for code, text in enumerate(trigger.categories)
        if str(text).strip().upper() == _BY_HAND
    ]
    if not codes:
        return None
    chains = view.certain
    counted = chains.own > 0
    hand = np.isin(trigger.codes[view.part.rows_of(np.arange(len(chains.own)))], codes)
    count = view.part.count
    other = np.bincount(chains.group[~hand & counted], minlength=count)
    return hand & (other > 0)[chains.group]


def plans_of(view: View, wanted: list[Any], ask: Ask) -> list[Plan]:
    """Make the plans of all modes of which slots are owed.

    `wanted` holds, tenant by tenant, rules or regimes by mode, or None: inferred.
    """
    given = [(tenant, each) for tenant, each in enumerate(wanted) if each is not None]
    inferred = np.ones(len(wanted), bool)
    inferred[[tenant for tenant, _ in given]] = False
    plans: list[Plan] = []
    for mode in range(len(MODES)):
        mine = inferred if mode != INCREMENTAL else inferred & False
        rules = {tenant: each[mode] for tenant, each in given if mode in each}
        if not mine.any() and not rules:
            continue
        plan = Plan(view, mode, ask)
        regimes = plan.infer(mine) | {k: v for k, v in rules.items() if isinstance(v, list)}
        for tenant, each in regimes.items():
            _enter_regimes(plan, tenant, each)
        _enter_rules(plan, {k: v for k, v in rules.items() if isinstance(v, Rule)})
        plan.asked = mine.copy()
        plan.asked[list(rules)] = True
        if mode == FULL and plans:
            # Where all runs are full ones, inferred full slots are those of any run.
            same = (plan.grids.runs == plans[0].grids.runs) & ~plan.given
            plan.high[same] = plan.decided[same] = plan.low[same]
        plan.close()
        plan.wait()
        plans.append(plan)
    return plans


def _enter_regimes(plan: Plan, tenant: int, regimes: list[Regime]) -> None:
    """Enter the slots of a tenant's cadences, one after the other."""
    ask, rows = plan.ask, []
    for each in regimes:
        if not each.trusted or each.since == NAT:
            continue
        slots = each.slots(int(ask.until[tenant]) + WEEK)
        opens, closes = each.bounds(slots, ask.early, int(ask.grace[tenant]))
        steps = _steps(slots) if each.crons else np.full(len(slots), each.every)
        rows.append((slots, opens, closes, steps, np.full(len(slots), each.confidence)))
    given = any(each.given for each in regimes)
    columns = [np.concatenate(part) for part in zip(*rows, strict=True)]
    slots, opens, closes, steps, sure = columns or [np.zeros(0, np.int64)] * 5
    plan.enter(np.array([tenant]), slots, (opens, closes), (steps, sure, given))


def _steps(slots: Ints) -> Ints:
    """Return how long it is from each slot to the next; for the last as for the one before."""
    steps = np.diff(slots)
    return np.append(steps, steps[-1:] if len(steps) else [NEVER])[: len(slots)]


def _enter_rules(plan: Plan, rules: dict[int, Rule]) -> None:
    """Enter the slots of given rules: each cron text once for all tenants that share it."""
    ask, count = plan.ask, len(plan.low)
    every = np.zeros(count, np.int64)
    shared: dict[tuple[tuple[str, ...], int], list[int]] = {}
    for tenant, rule in rules.items():
        if rule.crons:
            shared.setdefault((rule.crons, int(ask.grace[tenant])), []).append(tenant)
        else:
            every[tenant] = rule.every
    if every.any():
        plan.lay(every, _anchors(plan, every))
    for (crons, grace), tenants in shared.items():
        who = np.array(tenants)
        low = int(np.minimum(ask.low[who], ask.until[who]).min()) // WEEK * WEEK - WEEK
        high = int(ask.until[who].max()) // WEEK * WEEK + 2 * WEEK
        slots = cron_slots(crons, ask.clock.name, low, high)
        near = open_of(slots, ask.early), close_of(slots, grace)
        plan.enter(who, slots, near, (_steps(slots), np.ones(len(slots)), True))


def _first_runs(plan: Plan) -> Ints:
    """Return when each tenant's first run of a mode began; `NEVER` where it has none [µs]."""
    runs = np.ones(len(plan.start), bool) if plan.runs is None else plan.runs
    first = np.full((2, len(plan.low)), NEVER)
    other = ~plan.view.certain.full[plan.sets] if plan.mode == INCREMENTAL else runs
    for place, some in enumerate((runs & other, runs)):
        np.minimum.at(first[place], plan.group[some], plan.start[some])
    return np.where(first[0] == NEVER, first[1], first[0])


def _anchors(plan: Plan, every: Ints) -> Ints:
    """Return when the first slots of durations are: with the first run, or near it [µs].

    A first run that is not at the hour of the others (every tenant's first set is a full one) does
    not tell when slots are, where the others keep to that duration.
    """
    first, grids, ask = _first_runs(plan), plan.grids, plan.ask
    at = np.where(first == NEVER, 0, first)
    at = np.where(grids.local, ask.clock.wall(at), at)
    rest = (at - grids.phase) % np.maximum(every, 1)
    off = np.minimum(rest, every - rest) > ask.grace
    same = (grids.every == every) & (grids.confidence >= TRUSTED) & (grids.runs >= SURE)
    at = at - rest + every
    at = np.where(grids.local, ask.clock.utc(at), at)
    return np.where(same & off & (first != NEVER), at, first)


def missed_in(  # noqa: PLR0913 - the question has that many parts
    view: View,
    given: Sequence[Any] | None = None,
    *,
    until: Ints,
    grace: Ints,
    early: int = EARLY,
    tz: str = "UTC",
    excused: Callable[[Ints, Ints], Bools] | None = None,
) -> Missed:
    """Find the slots of some tenants that were missed, or filled late.

    Parameters
    ----------
    view : View
        The tenants.
    given : sequence or None
        A schedule for each tenant, as in `missed_runs`; None: inferred.
    until : ndarray of int
        Up to when each tenant owes slots; the end of the view at most [µs].
    grace : ndarray of int
        How long after its slot each tenant's run is in time [µs].
    early : int
        How long before a given slot a run may start to fill it [µs].
    tz : str
        The zone whose clocks schedules mean.
    excused : callable or None
        Tells of tenants and instants [µs] whether a slot then may be missed.

    Returns
    -------
    Missed
        By tenant, first slot and mode; a ValueError where a schedule cannot be read.
    """
    wanted = [None] * view.part.count if given is None else _read(given)
    parts, lates = [], []
    ask = ask_of(view, (until, grace, early), tz, forced=None)
    if ask is not None:
        ask.excused = excused
    for plan in [] if ask is None else plans_of(view, wanted, ask):
        parts.append(_holes(plan))
        lates.append(_lates(plan))
    return Missed(*joined(parts, _KINDS[:11]), *joined(lates, _KINDS[11:]))


_KINDS = [np.int64] * 10 + [np.float64] + [np.int64] * 6


def ask_of(view: View, how: tuple[Ints, Ints, int], tz: str, *, forced: int | None) -> Ask | None:
    """Settle what is asked of a view; None where nothing is known."""
    (until, grace, early), as_of = how, view.scene.known.as_of
    zone_of(tz)
    if as_of is None or view.end == NAT:
        return None
    # The slot that a tenant's first row belongs to may be a little before it.
    low = np.where(view.first == NEVER, NEVER, view.first - grace)
    if view.scene.begin is not None:
        low = np.maximum(low, view.scene.begin)
    if forced is not None:
        low = np.full(len(low), forced)
    first = int(min(view.first.min(initial=NEVER), low.min(initial=NEVER), view.end))
    clock = clock_of(tz, first, max(view.end, micro(as_of)))
    until = np.minimum(until, view.end)
    return Ask(low, until, micro(as_of), early, grace, clock, _by_hand(view))


def _read(given: Sequence[Any]) -> list[Any]:
    """Read the schedules of tenants; the same one once."""
    read: dict[int, Any] = {}
    for each in given:
        if id(each) not in read:
            read[id(each)] = None if each is None else rules_of(each)
    return [read[id(each)] for each in given]


def _unfilled(plan: Plan) -> tuple[Ints, ...]:
    """Return the runs of consecutive slots that no usable set filled, and the sets around them."""
    good, group, number = plan.good
    # Between two sets whose slots do not follow each other, and before each tenant's first.
    apart = (np.diff(number) > 1) | (group[1:] != group[:-1])
    hole = np.flatnonzero(np.append([True], apart)[: len(good)])
    heads = (hole == 0) | (group[hole] != group[hole - 1])
    low = plan.low[group[hole]]
    begin = np.where(heads, low, np.maximum(number[hole - 1] + 1, low))
    end = np.minimum(number[hole], plan.decided[group[hole]])
    some = end > begin
    hole, heads, begin, end = hole[some], heads[some], begin[some], end[some]
    # And behind each tenant's last.
    edges = np.searchsorted(group, np.arange(len(plan.low) + 1))
    any_, last = edges[1:] > edges[:-1], edges[1:] - 1
    since = np.where(any_, np.append(number, [0])[last] + 1, plan.low)
    since = np.maximum(since, plan.low)
    tail = np.flatnonzero(plan.decided > since)
    whose = np.concatenate([group[hole], tail])
    first, stop = (
        np.concatenate(each) for each in ((begin, since[tail]), (end, plan.decided[tail]))
    )
    places = np.append(good, [-1])
    before = np.concatenate([np.where(heads, -1, hole - 1), np.where(any_, last, -1)[tail]])
    behind = np.concatenate([hole, np.full(len(tail), -1)])
    return whose, first, stop, plan.numbers(places[before]), plan.numbers(places[behind])


def _holes(plan: Plan) -> tuple[Any, ...]:
    """Return the runs of consecutive slots that were missed, and what is known of them."""
    whose, first, stop, before, behind = _unfilled(plan)
    if (excused := plan.ask.excused) is not None:
        of, first, stop = left_of(
            first, stop, lambda run, at: excused(whose[run], plan.instants(whose[run], at))
        )
        whose, before, behind = whose[of], before[of], behind[of]
    return (
        whose,
        np.full(len(whose), plan.mode),
        plan.instants(whose, first),
        plan.instants(whose, stop - 1),
        stop - first,
        plan.periods(whose, first),
        plan.given[whose].astype(np.int64),
        before,
        behind,
        _tries(plan, whose, first, stop),
        plan.certainty(whose, first),
    )


def _tries(plan: Plan, whose: Ints, first: Ints, stop: Ints) -> Ints:
    """Return how many sets that are not usable each run of slots has, up to `stop`."""
    bad = np.flatnonzero(~plan.usable if plan.there is None else ~plan.usable & plan.there)
    least = int(plan.number.min(initial=0))
    width = int(max(plan.number.max(initial=0), stop.max(initial=0))) - least + 1
    key = plan.group[bad] * width + (plan.number[bad] - least)
    edges = [whose * width + np.maximum(each - least, 0) for each in (first, stop)]
    low, high = (np.searchsorted(key, each) for each in edges)
    return high - low


def filled(plan: Plan, high: Ints, *, late: bool = False) -> tuple[Ints, Bools]:
    """Return the first usable set of every slot that is owed, and whether it was late.

    Parameters
    ----------
    plan : Plan
        The slots.
    high : ndarray of int
        Up to which number slots count.
    late : bool
        Whether only those are wanted that were late.

    Returns
    -------
    sets : ndarray of int
        Numbers among the plan's sets.
    over : ndarray of bool
        Whether the set was late.
    """
    good, group, number = plan.good
    at = np.flatnonzero(plan.over[good]) if late else np.arange(len(good))
    group, number = group[at], number[at]
    again = at[(number >= plan.low[group]) & (number < high[group])]
    before = good[np.maximum(again - 1, 0)]
    mine = good[again]
    other = (plan.group[before] != plan.group[mine]) | (plan.number[before] != plan.number[mine])
    mine = mine[other | (again == 0)]
    over = plan.over[mine]
    some = mine[over]
    # By the wall clock it may seem late where clocks were put forward.
    over[over] = plan.start[some] > plan.closes(plan.group[some], plan.number[some])
    return mine, over


def _lates(plan: Plan) -> tuple[Any, ...]:
    """Return the slots that were filled late."""
    good, over = filled(plan, plan.decided, late=True)
    late = good[over]
    group = plan.group[late]
    slot = plan.instants(group, plan.number[late])
    return (
        group,
        np.full(len(late), plan.mode),
        slot,
        plan.numbers(late),
        plan.start[late] - slot,
        plan.given[group].astype(np.int64),
    )
