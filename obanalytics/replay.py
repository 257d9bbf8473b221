"""Begin the runs of tenants again under another cadence, in their own rhythm and fate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from obanalytics.frames import is_inside
from obanalytics.recovery import NAT, NEVER, integers, search, times
from obanalytics.schedule import schedule
from obanalytics.schema import STATES
from obanalytics.series import runs_of

if TYPE_CHECKING:
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import BackupSets, Instant, Window

MOST_SETS = 5_000_000
"""More are not made: they may not fit into memory."""
DAY, HOUR = 86_400_000_000, 3_600_000_000
"""[µs]"""
FAILED = STATES.index("failed")
_DONE, _RUNNING = STATES.index("done"), STATES.index("running")
_LATE, _REST = 1.5, 1.25  # so many periods, or days of rest, without a run: one did not come
_P95, _RPO = 0.95, 26 * HOUR
_NUMBERS = 1 << 62
_BY_HAND = "BACKUP_NOW"
_WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Course:
    """The course of some tenants' backups, to be begun again.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].
    number : dict
        The number of each tenant, by instance and tenant id.
    """

    def __init__(self, sets: BackupSets, as_of: Instant | None, number: dict[Any, int]) -> None:
        self._own = own = _own_of(sets, as_of, number)
        self._cadence = cadence = _Cadence(schedule(sets, as_of=as_of), number)
        self._knots, self._tracks = _knots_of(own, cadence), _tracks_of(own)
        good = np.bincount(self._knots.tenant, self._knots.good, minlength=len(number))
        self.able: Bools = good > 0
        """Whether each tenant has a rhythm, and a run that is sound."""
        self.begun = np.full(len(number), NEVER)
        """When each tenant's first run began [µs]."""
        np.minimum.at(self.begun, own.tenant, own.start)

    @property
    def every(self) -> dict[str, Ints]:
        """The newest period of each tenant, of `any` run and of `full` ones; `NAT`: none [µs]."""
        return self._cadence.last

    @property
    def usual_rpo(self) -> Ints:
        """The RPO that each tenant's own runs would keep [µs]."""
        own, every = self._own, self.every["any"]
        length = pd.Series((own.end - own.start)[own.timed]).groupby(own.tenant[own.timed])
        took = length.quantile(_P95).reindex(range(len(every))).fillna(0).to_numpy(np.int64)
        usual = -(-(np.where(every == NAT, 0, every) + took) // HOUR) * HOUR + HOUR
        return np.where(every == NAT, _RPO, usual)

    def under(self, full_every: int, each: int, last: int) -> Slots:
        """Return the runs that a cadence would have begun, and what they would have made.

        Parameters
        ----------
        full_every, each : int
            From full to full, and from run to run; `NAT`: as it was [µs].
        last : int
            Until when [µs].

        Returns
        -------
        Slots
            Those of the tenants that are able to.

        Raises
        ------
        ValueError
            When there would be more than 5 million of them.
        """
        knots = self._knots.of(self.able)
        slots = _own_slots(knots) if each == NAT else _laid(knots, each, last)
        wanted = _wanted(knots, slots, full_every)
        kinds = [track.at(slots.tenant, slots.start) for track in self._tracks.times]
        took = [_lengths(kinds, mode) for mode in (0, 1)]
        keep, full = _one_at_a_time(slots, wanted, (took[0][0], took[1][0]))
        slots, full = slots.of(keep), full[keep]
        length, lag = (np.where(full, took[0][n][keep], took[1][n][keep]) for n in (0, 1))
        size = _sizes(slots, full, self._tracks)
        return slots._replace(full=full, end=slots.start + length, lag=lag, size=size)


def keys_of(tenants: pd.DataFrame) -> list[tuple[Any, Any]]:
    """Return instance and tenant id of every row.

    Parameters
    ----------
    tenants : DataFrame
        Any frame that has them.

    Returns
    -------
    list of tuple
        Pairs of ids.
    """
    return list(zip(tenants["instance_id"], tenants["tenant_id"], strict=True))


class _Own(NamedTuple):
    """Runs by tenant and start: mode (0 full, 1 incremental, 2 not known), whether sound [µs]."""

    tenant: Ints
    start: Ints
    end: Ints
    lag: Ints
    size: Any
    mode: Ints
    state: Ints
    validity: Ints
    timed: Bools
    sound: Bools
    by_hand: Bools


def _own_of(sets: BackupSets, as_of: Instant | None, number: dict[Any, int]) -> _Own:
    """Return the runs of all tenants."""
    runs = runs_of(sets, as_of)
    whose = np.array([number[key] for key in keys_of(runs.heads)], np.int64)
    full = runs.heads["full"].array
    modes = np.where(full.isna(), 2, np.where(full.to_numpy(bool, na_value=False), 0, 1))
    validity, point = runs.column("validity"), integers(runs.column("checkpoint"))
    sound = [str(each).strip().upper() == "VALID" for each in validity.categories]
    trigger = runs.column("trigger_mode")
    hand = [str(each).strip().upper() == _BY_HAND for each in trigger.categories]
    mode = modes[runs.series]
    known = (runs.start != NAT) & (runs.start <= point) & (point <= runs.end)
    timed = known & (runs.state == _DONE) & (mode < 2)  # noqa: PLR2004 - not known
    columns = (
        whose[runs.series],
        runs.start,
        runs.end,
        np.where(known, runs.end - np.where(known, point, 0), NAT),
        runs.size,
        mode,
        runs.state,
        validity.codes,
        timed,
        timed & np.array([*sound, False])[validity.codes],
        np.array([*hand, False])[trigger.codes],
    )
    begun = np.flatnonzero(runs.start != NAT)
    by = begun[np.lexsort((runs.start[begun], columns[0][begun]))]
    return _Own(*(np.asarray(each)[by] for each in columns))


class _Cadence:
    """The inferred periods of all tenants."""

    def __init__(self, table: pd.DataFrame, number: dict[Any, int]) -> None:
        which = np.array([number[key] for key in keys_of(table)], np.int64)
        every, since = integers(table["every"]), integers(table["since"])
        self.last = {mode: np.full(len(number), NAT) for mode in ("any", "full")}
        for mode, last in self.last.items():
            mine = np.flatnonzero(table["mode"].eq(mode) & (every != NAT))
            last[which[mine]] = every[mine]  # they come in order of time
        some = np.flatnonzero(table["mode"].eq("any") & (every != NAT) & (since != NAT))
        self.tenant, self.every, self.since = which[some], every[some], since[some]
        days = [table["weekdays"].iloc[at] for at in some]
        self.rest = np.array([_rest(each) for each in days], np.int64)

    def at(self, tenant: Ints, start: Ints) -> tuple[Ints, Ints]:
        """Return period and longest rest at some starts; `NAT`: there is none [µs]."""
        if not len(self.tenant):
            return np.full(len(tenant), NAT), np.zeros(len(tenant), np.int64)
        at, mine = _before(self.tenant, self.since - self.every // 2, tenant, start)
        return np.where(mine, self.every[at], NAT), np.where(mine, self.rest[at], 0)


def _rest(weekdays: Any) -> int:  # noqa: ANN401 - a text or NA
    """Return the longest time from one to the next of some weekdays [µs]."""
    days = [] if pd.isna(weekdays) else [_WEEK.index(e) for e in weekdays.split() if e in _WEEK]
    apart = [(b - a - 1) % 7 + 1 for a, b in zip(days, days[1:] + days[:1], strict=True)]
    return max(apart, default=0) * DAY


class _Knots(NamedTuple):
    """The runs that a tenant's rhythm is made of, with their places in even time [µs].

    What became of a run holds for whatever would begin from its place to before `reach`.
    """

    tenant: Ints
    place: Ints
    start: Ints
    every: Ints
    usual: Ints
    reach: Ints
    mode: Ints
    state: Ints
    validity: Ints
    good: Bools

    def of(self, able: Bools) -> _Knots:
        """Return the knots of some tenants."""
        mine = able[self.tenant]
        return _Knots(*(each[mine] for each in self))


def _knots_of(own: _Own, cadence: _Cadence) -> _Knots:
    """Return the rhythm of every tenant that has one."""
    every, rest = cadence.at(own.tenant, own.start)
    # Runs by hand are no part of a rhythm, unless it is kept by hand.
    timed = np.bincount(own.tenant, ~own.by_hand, minlength=1)
    mine = (every != NAT) & ~(own.by_hand & (timed[own.tenant] > 0))
    own, every, rest = _Own(*(each[mine] for each in own)), every[mine], rest[mine]
    same = own.tenant[1:] == own.tenant[:-1]
    gap = np.where(same, np.diff(own.start), 0)
    step = np.maximum(-(-(2 * gap - every[1:]) // (2 * every[1:])), 1) * every[1:]
    again = same & (2 * gap < np.minimum(every[1:], every[:-1]))
    slot = np.append([0], np.cumsum(~again))[: len(own.tenant)]
    place = np.append([0], np.cumsum(np.where(same & ~again, step, 0)))[: len(own.tenant)]
    # Of runs that are one, the first that is sound stands for them.
    by = np.lexsort((np.arange(len(slot)), ~own.sound, slot))
    by = by[np.append([True], np.diff(slot[by]) > 0)[: len(by)]]
    heads = np.searchsorted(own.tenant, own.tenant[by])
    tenant, start, every, rest = own.tenant[by], own.start[by], every[by], rest[by]
    place = place[by] - place[heads]
    usual = np.maximum((_LATE * every).astype(np.int64), (_REST * rest).astype(np.int64))
    follows = np.append(tenant[1:] == tenant[:-1], [False])[: len(by)]
    follows &= np.append(np.diff(start), [NEVER])[: len(by)] <= usual
    reach = np.where(follows, np.append(place[1:], [0])[: len(by)], place + every)
    state = np.where(own.timed[by], _DONE, FAILED)
    state[own.state[by] == _RUNNING] = _RUNNING
    columns = (own.mode[by], state, own.validity[by], own.sound[by])
    return _Knots(tenant, place, start, every, usual, reach, *columns)


class _Track(NamedTuple):
    """Values of tenants in time."""

    tenant: Ints
    start: Ints
    values: tuple[Any, ...]

    def at(self, tenant: Ints, start: Ints) -> list[Any]:
        """Return the values at other times, on lines between them; NaN where a tenant has none."""
        if not len(self.tenant):
            return [np.full(len(tenant), np.nan) for _ in self.values]
        low, mine = _before(self.tenant, self.start, tenant, start)
        high = np.minimum(low + 1, len(self.tenant) - 1)
        high = np.where((self.tenant[high] == tenant) & (self.start[low] <= start), high, low)
        width = self.start[high] - self.start[low]
        part = (start - self.start[low]) / np.where(width > 0, width, 1)
        part[width == 0] = 0.0
        return [
            np.where(mine, values[low] + part * (values[high] - values[low]), np.nan)
            for values in self.values
        ]


class _Tracks(NamedTuple):
    """Lengths and lags by mode, sizes of fulls, and growth of incrementals [GiB/µs]."""

    times: tuple[_Track, _Track]
    size: _Track
    rate: _Track


def _tracks_of(own: _Own) -> _Tracks:
    """Return how long and how large runs were."""
    modes = [np.flatnonzero(own.timed & (own.mode == mode)) for mode in (0, 1)]
    length = (own.end - own.start).astype(np.float64)
    lag = own.lag.astype(np.float64)
    full, part = (
        _Track(own.tenant[mine], own.start[mine], (length[mine], lag[mine])) for mine in modes
    )
    done = np.flatnonzero(own.timed)
    since = np.full(len(own.tenant), 0)
    since[done[1:]] = np.diff(own.start[done]) * (np.diff(own.tenant[done]) == 0)
    sized = modes[0][np.isfinite(own.size[modes[0]])]
    size = _Track(own.tenant[sized], own.start[sized], (own.size[sized],))
    grown = modes[1][np.isfinite(own.size[modes[1]]) & (since[modes[1]] > 0)]
    rate = _Track(own.tenant[grown], own.start[grown], (own.size[grown] / since[grown],))
    return _Tracks((full, part), size, rate)


def _before(tenants: Ints, values: Ints, tenant: Ints, value: Ints) -> tuple[Ints, Bools]:
    """Return the last place of each tenant that is not behind a value, else its first.

    And whether the tenant has any.
    """
    at = np.maximum(_behind(tenants, values, tenant, value) - 1, 0)
    at = np.where(tenants[at] < tenant, np.minimum(at + 1, len(tenants) - 1), at)
    return at, tenants[at] == tenant


def _behind(tenants: Ints, values: Ints, tenant: Ints, value: Ints) -> Ints:
    """Return the place behind the last of each tenant's that is not behind a value."""
    if not len(values) or not len(value):
        return np.zeros(len(value), np.int64)
    least = min(int(values.min()), int(value.min()))
    width = max(int(values.max()), int(value.max())) - least + 1
    most = max(int(tenants[-1]), int(tenant.max())) + 1
    if most * width >= _NUMBERS:
        return search(tenants, values, tenant, value, "right")
    # As one number, those that are looked for in order are found many times faster.
    return np.searchsorted(
        tenants * np.int64(width) + (values - least),
        tenant * np.int64(width) + (value - least),
        "right",
    )


# --- the replay ----------------------------------------------------------------------------------


class Slots(NamedTuple):
    """The runs of a replay, by tenant and start [µs, GiB]."""

    tenant: Ints
    place: Ints
    start: Ints
    every: Ints
    state: Ints
    validity: Ints
    full: Any = None
    end: Any = None
    lag: Any = None
    size: Any = None

    def of(self, some: Ints) -> Slots:
        """Return some of the runs.

        Parameters
        ----------
        some : ndarray of int
            Which.

        Returns
        -------
        Slots
            Those, in order.
        """
        return Slots(*(each if each is None else each[some] for each in self))


def _own_slots(knots: _Knots) -> Slots:
    """Return runs at the tenants' own starts."""
    columns = (knots.tenant, knots.place, knots.start, knots.every, knots.state, knots.validity)
    return Slots(*columns)


def _laid(knots: _Knots, each: int, last: int) -> Slots:
    """Return runs that are evenly apart in the tenants' own rhythm, up to an instant."""
    ends = np.flatnonzero(np.append(np.diff(knots.tenant) > 0, [True])[: len(knots.tenant)])
    whose = knots.tenant[ends]
    count = (knots.place[ends] + np.maximum(last - knots.start[ends], 0)) // each + 1
    if count.sum() > MOST_SETS:
        raise ValueError(
            f"incremental_every makes {count.sum():,} sets, and at most {MOST_SETS:,} are made: "
            f"take a longer one than {pd.Timedelta(each, 'us')}, fewer tenants or a later window"
        )
    tenant = np.repeat(whose, count)
    place = (np.arange(len(tenant)) - np.repeat(np.cumsum(count) - count, count)) * np.int64(each)
    at, _ = _before(knots.tenant, knots.place, tenant, place)
    later = np.minimum(at + 1, len(knots.tenant) - 1)
    inner = knots.tenant[later] == tenant
    inner &= later > at
    wide = np.where(inner, knots.place[later] - knots.place[at], 1)
    long = np.where(inner, knots.start[later] - knots.start[at], 1)
    beyond = (place - knots.place[at]) * (long / wide)
    start = knots.start[at] + np.rint(beyond).astype(np.int64)
    # One that is not yet late by more than usual is still waited for.
    reach = knots.reach.copy()
    reach[ends[last - knots.start[ends] <= knots.usual[ends]]] = NEVER
    met = place < reach[at]
    state = np.where(met, knots.state[at], FAILED)
    validity = np.where(met, knots.validity[at], -1)
    return Slots(tenant, place, start, np.full(len(tenant), each), state, validity)


def _wanted(knots: _Knots, slots: Slots, full_every: int) -> Bools:
    """Return which runs are the first since a full fell due."""
    fulls = np.flatnonzero(knots.mode == 0)
    heads = np.append([True], np.diff(slots.tenant) > 0)[: len(slots.tenant)]
    whose, places = knots.tenant[fulls], knots.place[fulls]
    so_far = _behind(whose, places, slots.tenant, slots.place)
    so_far -= np.searchsorted(whose, slots.tenant)
    if full_every == NAT:
        return np.where(heads, so_far > 0, np.diff(so_far, prepend=0) > 0)
    # They keep the phase of the tenant's newest full; its first one, that all hang on, stays.
    anchor = np.zeros(int(slots.tenant.max(initial=0)) + 1, np.int64)
    anchor[whose] = places
    since = slots.place - anchor[slots.tenant]
    due, is_due = since // full_every, since % full_every == 0
    begins = (so_far > 0) & (heads | np.append([True], so_far[:-1] == 0)[: len(heads)])
    falls_due = np.diff(due, prepend=0) > 0
    if slots.place is knots.place:  # a full that was due while nothing ran is not made up for
        falls_due &= is_due | np.append([True], knots.reach[:-1] >= knots.place[1:])[: len(heads)]
    return begins | np.where(heads, is_due, falls_due)


def _lengths(kinds: list[list[Any]], mode: int) -> tuple[Ints, Ints]:
    """Return length and lag of runs of a mode; those of the other where there is none."""
    length, lag = (
        np.where(np.isfinite(one), one, other)
        for one, other in zip(kinds[mode], kinds[1 - mode], strict=True)
    )
    long = np.rint(np.nan_to_num(length)).astype(np.int64)
    return long, np.minimum(np.rint(np.nan_to_num(lag)).astype(np.int64), long)


def _one_at_a_time(slots: Slots, wanted: Bools, took: tuple[Ints, Ints]) -> tuple[Ints, Bools]:
    """Return which runs begin when none of their tenant runs, and which of them are full."""
    works = slots.state == _DONE
    length = np.where(works, np.where(wanted, *took), 0)
    same = slots.tenant[1:] == slots.tenant[:-1]
    clash = same & (slots.start[1:] < (slots.start + length)[:-1])
    if not clash.any():
        return np.arange(len(wanted)), wanted
    keep = np.ones(len(wanted), bool)
    full = wanted.copy()
    for tenant in np.unique(slots.tenant[1:][clash]):
        low, high = np.searchsorted(slots.tenant, [tenant, tenant + 1])
        start, due = slots.start[low:high], np.cumsum(wanted[low:high])
        nexts = [
            np.searchsorted(start, start + np.where(works, each, 1)[low:high]).tolist()
            for each in (np.maximum(took[1], 1), np.maximum(took[0], 1))
        ]
        kept, at, seen, owed = [], 0, 0, due.tolist()
        while at < len(start):
            kept.append(at)
            at, seen = nexts[owed[at] > seen][at], owed[at]
        keep[low:high] = False
        keep[low:high][kept] = True
        full[low:high][kept] = np.diff(due[kept], prepend=0) > 0
    return np.flatnonzero(keep), full


def _sizes(slots: Slots, full: Bools, tracks: _Tracks) -> Any:  # noqa: ANN401 - floats
    """Return the size of each run; NaN where it does not work, or nothing tells it."""
    (whole,) = tracks.size.at(slots.tenant, slots.start)
    (rate,) = tracks.rate.at(slots.tenant, slots.start)
    works = np.flatnonzero(slots.state == _DONE)
    since = slots.every.copy()
    same = np.diff(slots.tenant[works]) == 0
    since[works[1:]] = np.where(same, np.diff(slots.start[works]), since[works[1:]])
    part = rate * since
    size = np.where(full, whole, np.where(part > whole, whole, part))
    return np.where(slots.state == _DONE, size, np.nan)


def frame_of(slots: Slots, frame: pd.DataFrame, newest: Ints, window: Window) -> pd.DataFrame:
    """Return runs as a tenants frame.

    Parameters
    ----------
    slots : Slots
        The runs.
    frame : DataFrame
        The tenants frame of the facts.
    newest : ndarray of int
        A row of each tenant in it.
    window : Window
        What was asked for.

    Returns
    -------
    DataFrame
        What `conform` makes a tenants frame of.
    """
    rows, done = newest[slots.tenant], slots.state == _DONE
    place = np.arange(len(rows)) - np.searchsorted(slots.tenant, slots.tenant)
    pool = pd.array([f"{each:08}" for each in range(int(place.max(initial=-1)) + 1)], "string")
    end = np.where(done, slots.end, NAT)
    begun = times(slots.start)
    made = {
        name: frame[name].array.take(rows)
        for name in ("instance_id", "tenant_id", "tenant_name", "storage_class")
    }
    made |= {
        "backup_set_id": pool.take(place),
        "full": pd.array(slots.full, "boolean"),
        "state": pd.Categorical.from_codes(slots.state, list(STATES)),
        "validity": pd.Categorical.from_codes(slots.validity, dtype=frame["validity"].dtype),
        "start_time": begun,
        "end_time": times(end),
        "checkpoint": times(np.where(done, end - slots.lag, NAT)),
        "size_gib": slots.size,
        "in_window": is_inside(begun, window),
    }
    return pd.DataFrame(made)
