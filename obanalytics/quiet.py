"""Find times by the clock on the wall, once or every week, and take them out of intervals."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from zoneinfo import ZoneInfo

Ints: TypeAlias = Any  # int64 arrays: numpy's stubs lose track of them
Bools: TypeAlias = Any

_DAY = 86_400_000_000  # [µs]
_LAST = 7_258_118_400_000_000  # the year 2200 [µs]
NAT = int(np.iinfo(np.int64).min)  # no time, among integers
_EPOCH, _TICK = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)
_THURSDAY = 3  # the first day of all, counted from Monday


class Pieces(NamedTuple):
    """Parts of intervals.

    Parameters
    ----------
    index : ndarray of int
        Which interval each is a part of; in order.
    start, end : ndarray of int
        Its half-open bounds [µs since 1970].
    """

    index: Ints
    start: Ints
    end: Ints


def micros(moments: Iterable[dt.datetime], zone: ZoneInfo, *, end: bool = False) -> Ints:
    """Return moments as instants.

    Parameters
    ----------
    moments : iterable of datetime
        Those without an offset are by the clock of a zone.
    zone : ZoneInfo
        The zone.
    end : bool
        What is asked for where the clock changes: the first instant at which it shows so much or
        more, or the end of the last one at which it shows less.

    Returns
    -------
    ndarray of int
        Instants [µs since 1970].
    """
    if not end:
        return np.array([_instant(each, zone, fold=0) for each in moments], np.int64)
    return np.array([_instant(each - _TICK, zone, fold=1) + 1 for each in moments], np.int64)


def _instant(moment: dt.datetime, zone: ZoneInfo, fold: int) -> int:
    """Return the first or the second instant at which a clock shows a moment [µs].

    What it skips is the last instant before its jump, or the first one behind.
    """
    if moment.tzinfo is not None:
        return (moment - _EPOCH) // _TICK
    second, first = ((moment.replace(tzinfo=zone, fold=n) - _EPOCH) // _TICK for n in (1, 0))
    if second >= first:
        return second if fold else first
    before = _offset(second, zone)  # the clock jumps between the two
    while first - second > 1:
        middle = (first + second) // 2
        if _offset(middle, zone) == before:
            second = middle
        else:
            first = middle
    return second if fold else first


def _offset(instant: int, zone: ZoneInfo) -> dt.timedelta | None:
    """Return a clock's offset at an instant [µs]."""
    return (_EPOCH + instant * _TICK).astimezone(zone).utcoffset()


def weekly(
    weekdays: Sequence[int], clock: tuple[int, int], zone: ZoneInfo, start: int, end: int
) -> tuple[Ints, Ints]:
    """Return the times of every week that touch a span.

    Parameters
    ----------
    weekdays : sequence of int
        The days on which they begin, from 0 for Monday.
    clock : tuple of int
        When they begin and end by the clock of the zone [s of the day]; one that ends before it
        begins ends on the next day.
    zone : ZoneInfo
        The zone.
    start, end : int
        The span [µs since 1970].

    Returns
    -------
    start, end : ndarray of int
        At least those that touch the span, in order [µs since 1970]: from the first instant at
        which the clock shows the beginning to the last one before the end.
    """
    since, till = clock
    till += 86_400 if till <= since else 0
    # A clock is up to a day off, and a time that passes midnight began on the day before.
    days = np.arange(max(start, 0) // _DAY - 2, min(end, _LAST) // _DAY + 3)
    days = days[np.isin((days + _THURSDAY) % 7, weekdays)] * _DAY
    first, last = ((days + each * 1_000_000).view("M8[us]").tolist() for each in (since, till))
    return micros(first, zone), micros(last, zone, end=True)


def merged(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return times without overlaps.

    Parameters
    ----------
    start, end : ndarray of int
        Half-open times in any order.

    Returns
    -------
    start, end : ndarray of int
        The same times in order; those that overlap or touch are one.
    """
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    apart = start[1:] > reach[:-1]
    some = np.ones(min(len(start), 1), bool)
    return start[np.append(some, apart)], reach[np.append(apart, some)]


def without(intervals: Pieces, start: Ints, end: Ints) -> Pieces:
    """Return what is left of intervals.

    Parameters
    ----------
    intervals : Pieces
        Of one without a length its instant counts.
    start, end : ndarray of int
        What is taken out: times in order that do not overlap.

    Returns
    -------
    Pieces
        Nothing of an interval that is covered as a whole.
    """
    low: Ints = np.searchsorted(end, intervals.start, "right")
    high = np.maximum(np.searchsorted(start, intervals.end, "left"), low)
    count = high - low + 1
    at = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    behind = low[at] + place  # the time that ends each piece; the one before begins it
    first = np.where(place > 0, np.append(0, end)[behind], intervals.start[at])
    last = np.where(place < count[at] - 1, np.append(start, 0)[behind], intervals.end[at])
    instant = intervals.start == intervals.end
    inside = np.append(start, np.iinfo(np.int64).max)[low] <= intervals.start
    keep = np.where(instant[at], ~inside[at], first < last)
    return Pieces(intervals.index[at[keep]], first[keep], last[keep])
