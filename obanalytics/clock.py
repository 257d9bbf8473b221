"""Tell when schedules have their slots: those of cron texts, and of periods, by a zone's clock."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from cronsim import CronSim, CronSimError

from obanalytics.recovery import NEVER
from obanalytics.schema import as_duration

if TYPE_CHECKING:
    from obanalytics.recovery import Ints

MODES = ("any", "full", "incremental")
ANY, FULL, INCREMENTAL = range(3)
MINUTE = 60_000_000
HOUR, DAY, WEEK = 60 * MINUTE, 1440 * MINUTE, 10_080 * MINUTE
CLIP = 0.4
"""No slot's time reaches farther than this share of the interval: not into that of the next."""
SURE, TRUSTED = 5, 0.5
"""An inferred cadence of fewer runs, or of less confidence, owes no slots."""
_FAR = 1 << 60  # a step longer than all others [µs]
_FIELDS = 5  # of a cron text
_YEARS = (1990, 2060)


class Clock:
    """A time zone's offsets in some years.

    Parameters
    ----------
    name : str
        The zone, such as ``Europe/Berlin``.
    first, last : int
        The years.
    """

    def __init__(self, name: str, first: int, last: int) -> None:
        self.name, self.zone = name, zone_of(name)
        day, end = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (first, last + 1))
        offsets, at = [self._offset(day)], []
        while day < end:
            after = day + dt.timedelta(days=1)
            if (offset := self._offset(after)) != offsets[-1]:
                at.append(self._change(day, after))
                offsets.append(offset)
            day = after
        self.at, self.offsets = np.array(at, np.int64), np.array(offsets, np.int64)

    def _offset(self, moment: dt.datetime) -> int:
        """Return the offset at an instant [µs]."""
        offset = moment.astimezone(self.zone).utcoffset()
        return 0 if offset is None else round(offset.total_seconds()) * 1_000_000

    def _change(self, low: dt.datetime, high: dt.datetime) -> int:
        """Return the second at which the offset changes between two instants [µs]."""
        before = self._offset(low)
        while high - low > dt.timedelta(seconds=1):
            middle = low + dt.timedelta(seconds=(high - low) // dt.timedelta(seconds=2))
            low, high = (middle, high) if self._offset(middle) == before else (low, middle)
        return round(high.timestamp()) * 1_000_000

    def wall(self, at: Ints) -> Ints:
        """Return what the clocks on the wall show at instants.

        Parameters
        ----------
        at : ndarray of int
            Instants [µs].

        Returns
        -------
        ndarray of int
            Wall times [µs].
        """
        if not len(self.at):
            return at + self.offsets[0]
        return at + self.offsets[np.searchsorted(self.at, at, "right")]

    def utc(self, wall: Ints) -> Ints:
        """Return the instants of wall times.

        Parameters
        ----------
        wall : ndarray of int
            Wall times [µs].

        Returns
        -------
        ndarray of int
            Instants; the first where the clocks show a time twice, and the instant at which they
            are put forward where they never show it [µs].
        """
        if not len(self.at):
            return wall - self.offsets[0]
        change = np.searchsorted(self.at + self.offsets[:-1], wall, "right")
        floor = np.append([np.iinfo(np.int64).min], self.at)[change]
        return np.maximum(wall - self.offsets[change], floor)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name.

    Parameters
    ----------
    name : str
        Such as ``Asia/Shanghai``.

    Returns
    -------
    ZoneInfo
        The zone.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"tz is no time zone: {name!r} (expected e.g. 'Asia/Shanghai')") from error


def clock_of(name: str, low: int, high: int) -> Clock:
    """Return a zone's clock for instants between two.

    Parameters
    ----------
    name : str
        The zone.
    low, high : int
        Instants [µs].

    Returns
    -------
    Clock
        Outside of 1990 to 2060 the offsets are those of the nearest year.
    """
    first, last = (
        int(np.clip(1970 + at // (365 * DAY) + by, *_YEARS)) for at, by in ((low, -2), (high, 2))
    )
    return _clock(name, first, last)


_clock = lru_cache(maxsize=16)(Clock)


@dataclass(frozen=True, slots=True)
class Rule:
    """When slots are, as somebody gave it: cron texts, or a duration.

    Parameters
    ----------
    crons : tuple of str
        Cron texts of five fields; none where there is a duration.
    every : int
        The duration; zero where there are cron texts [µs].
    """

    crons: tuple[str, ...]
    every: int


def rules_of(given: Any) -> dict[int, Rule]:  # noqa: ANN401 - what a user gives
    """Read a given schedule.

    Parameters
    ----------
    given : str, timedelta, collection of str, or mapping
        A cron text of five fields (``"0 2 * * 6"``), a duration (``"1D"``), several cron texts;
        or one of these by mode: ``{"full": "7D", "incremental": "1D"}``. Without a mode, and for
        ``any``, a run of any mode fills a slot. A slot for an incremental run is filled by a full
        one too. A mode that is left out owes nothing.

    Returns
    -------
    dict of int to Rule
        The rules by mode, a position in `MODES`.

    Raises
    ------
    ValueError
        Names the value that is no rule, and what was expected.
    """
    if not isinstance(given, Mapping):
        return {ANY: rule_of(given, "schedule")}
    if unknown := [key for key in given if key not in MODES]:
        raise ValueError(f"schedule has no mode {unknown[0]!r} (expected {', '.join(MODES)})")
    return {MODES.index(mode): rule_of(value, f"schedule {mode}") for mode, value in given.items()}


def rule_of(value: Any, name: str) -> Rule:  # noqa: ANN401 - what a user gives
    """Read a rule.

    Parameters
    ----------
    value : str, timedelta, or collection of str
        A cron text, a duration, or several cron texts.
    name : str
        What it is the rule of, for the error message.

    Returns
    -------
    Rule
        The rule.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    hint = "expected a cron text such as '0 2 * * 6' or a duration such as '1D'"
    if isinstance(value, Collection) and not isinstance(value, str) and len(value):
        return Rule(tuple(_cron(each, name, hint) for each in value), 0)
    if isinstance(value, str) and ("*" in value or len(value.split()) == _FIELDS):
        return Rule((_cron(value, name, hint),), 0)
    try:
        every = as_duration(value, name)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} is no schedule: {value!r} ({hint})") from error
    micro = int(every.as_unit("us").asm8.astype(np.int64))
    if micro < MINUTE:
        raise ValueError(f"{name} is shorter than a minute: {value!r} ({hint})")
    return Rule((), micro)


def _cron(text: Any, name: str, hint: str) -> str:  # noqa: ANN401 - what a user gives
    """Return a cron text that can be read, with single spaces."""
    fields = text.split() if isinstance(text, str) else []
    why = "" if len(fields) == _FIELDS else f"{len(fields)} fields, not {_FIELDS}"
    try:
        if not why:
            next(CronSim(" ".join(fields), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error) or "it never comes"
    if why:
        raise ValueError(f"{name} is no cron text: {text!r}: {why} ({hint})")
    return " ".join(fields)


@lru_cache(maxsize=256)
def cron_slots(crons: tuple[str, ...], tz: str, low: int, high: int) -> Ints:
    """Return the slots of cron texts between two instants.

    Parameters
    ----------
    crons : tuple of str
        Cron texts.
    tz : str
        The zone whose clocks they mean. On a day on which a time is left out, its slot is when the
        clocks are put forward; a time that comes twice has one slot, the first.
    low, high : int
        The instants; the second is not included [µs].

    Returns
    -------
    ndarray of int
        Instants, ascending [µs].
    """
    if (times := _week(crons)) is not None:
        weeks = np.arange(low // WEEK - 1, high // WEEK + 2) * WEEK
        slots = np.unique(clock_of(tz, low, high).utc((weeks[:, None] + times).ravel()))
        return slots[(slots >= low) & (slots < high)]
    zone, epoch = zone_of(tz), dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    begin = epoch + dt.timedelta(seconds=low // 1_000_000 - 2 * 86_400)
    found: list[int] = []
    for text in crons:
        for slot in CronSim(text, begin.astimezone(zone)):
            at = (slot.astimezone(dt.UTC) - epoch) // dt.timedelta(microseconds=1)
            if at >= high:
                break
            found.append(at)
    slots = np.unique(np.array(found, np.int64))
    slots = slots[slots >= low]
    slots.setflags(write=False)
    return slots


def _week(crons: tuple[str, ...]) -> Ints | None:
    """Return the times of a week, from Thursday on, where cron texts name no more than those."""
    found: list[int] = []
    for text in crons:
        plain = re.fullmatch(r"(\d+) (\d+) \* \* (\*|[0-7](?:,[0-7])*)", text)
        if plain is None:
            return None
        days = range(7) if plain[3] == "*" else [int(day) for day in plain[3].split(",")]
        at = int(plain[2]) * HOUR + int(plain[1]) * MINUTE
        found += [(day + 3) % 7 * DAY + at for day in days]
    return np.array(found, np.int64)


def open_of(slots: Ints, early: Ints | int) -> Ints:
    """Return from when on a run belongs to each slot: at most two fifths of the way before.

    Parameters
    ----------
    slots : ndarray of int
        Slots, ascending [µs].
    early : ndarray of int, or int
        How long before [µs].

    Returns
    -------
    ndarray of int
        Instants [µs].
    """
    steps = np.diff(slots, prepend=slots[:1] - _FAR)
    return slots - np.minimum(early, (CLIP * steps).astype(np.int64))


def close_of(slots: Ints, grace: Ints | int) -> Ints:
    """Return until when a run is in time for each slot: at most two fifths of the way to the next.

    Parameters
    ----------
    slots : ndarray of int
        Slots, ascending [µs].
    grace : ndarray of int, or int
        How long after [µs].

    Returns
    -------
    ndarray of int
        Instants [µs].
    """
    steps = np.diff(slots, append=slots[-1:] + _FAR)
    return slots + np.minimum(grace, (CLIP * steps).astype(np.int64))


def grace_of(every: Ints, grace: Ints, dispersion: Ints) -> Ints:
    """Return how long after an inferred slot a run is still in time.

    Parameters
    ----------
    every, grace, dispersion : ndarray of int
        The period, the grace that was asked for, and the robust standard deviation [µs].

    Returns
    -------
    ndarray of int
        The grace, or four times the dispersion; at most two fifths of the period [µs].
    """
    return np.minimum(np.maximum(grace, 4 * dispersion), (CLIP * every).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Regime:
    """A cadence that held for some time.

    Parameters
    ----------
    since, until : int
        Its first and its last slot; `NEVER` while it holds [µs].
    every : int
        The period, or the median interval where it has cron texts [µs].
    dispersion : int
        The robust standard deviation of the starts from their slots [µs].
    runs : int
        How many runs it had.
    confidence : float
        As in `schedule`.
    tz : str
        The zone in which its days are days, and of its cron texts.
    crons : tuple of str
        Its slots, where they are not a period apart.
    given : bool
        Whether somebody gave it.
    """

    since: int
    until: int
    every: int
    dispersion: int
    runs: int
    confidence: float
    tz: str
    crons: tuple[str, ...] = ()
    given: bool = False

    @property
    def trusted(self) -> bool:
        """Whether it owes slots."""
        return self.given or (self.confidence >= TRUSTED and self.runs >= SURE)

    def slots(self, end: int) -> Ints:
        """Return its slots.

        Parameters
        ----------
        end : int
            Up to when, not included [µs].

        Returns
        -------
        ndarray of int
            Instants [µs].
        """
        end = min(end, self.until + 1) if self.until != NEVER else end
        if self.crons:
            # Whole weeks, so that tenants share what is found.
            low, high = self.since // WEEK * WEEK, -(-end // WEEK) * WEEK
            slots = cron_slots(self.crons, self.tz, low, max(low, high))
            return slots[(slots >= self.since) & (slots < end)]
        clock = clock_of(self.tz, self.since, max(end, self.since))
        if self.every % DAY == 0 and len(clock.at):
            # A day longer: where clocks are put forward, a slot comes earlier.
            begin = int(clock.wall(np.array([self.since]))[0])
            slots = clock.utc(np.arange(begin, max(end, self.since) + 2 * DAY, self.every))
            slots[:1] = self.since
            return slots[slots < end]
        return np.arange(self.since, max(end, self.since), self.every)

    def bounds(self, slots: Ints, early: int, grace: int) -> tuple[Ints, Ints]:
        """Return from when to when a run is in time for its slots.

        Parameters
        ----------
        slots : ndarray of int
            Some of its slots, ascending [µs].
        early, grace : int
            How long before and after, as it was asked for [µs].

        Returns
        -------
        opens, closes : ndarray of int
            Instants [µs].
        """
        if self.given:
            return open_of(slots, early), close_of(slots, grace)
        if self.crons:
            spread = max(grace, 4 * self.dispersion)
            return quarter_before(slots), close_of(slots, spread)
        every, near = np.array(self.every), np.array(self.dispersion)
        return slots - self.every // 4, slots + grace_of(every, np.array(grace), near)


def quarter_before(slots: Ints) -> Ints:
    """Return from when on a run belongs to inferred slots that are not evenly apart.

    Parameters
    ----------
    slots : ndarray of int
        Slots, ascending [µs].

    Returns
    -------
    ndarray of int
        A quarter of the way before each, six hours at most [µs].
    """
    return slots - np.minimum(np.diff(slots, prepend=slots[:1] - DAY) // 4, DAY // 4)
