"""Measure how long backups take, per series and mode, whether they get slower, and until when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.carry import Carried
from obanalytics.recovery import NAT, PART_ROWS, labels, search, times
from obanalytics.series import DONE, LEVELS, RUNNING, runs_of, spans
from obanalytics.trend import MIN_POINTS, lines_of, percents_per_30d, weekdays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obanalytics.recovery import Ints
    from obanalytics.schema import BackupSets, Instant
    from obanalytics.series import Runs

    Frequency: TypeAlias = str | pd.DateOffset | pd.Timedelta

Floats: TypeAlias = Any  # float64 arrays: numpy's stubs lose track of them

MIN_GIB = 0.1
"""Under this the server's rounding to 0.01 GiB spoils a throughput [GiB]."""
VERDICTS = ("slower", "faster", "steady", "too_little_history")
MOST_DAYS = 36_525
"""No trend is drawn on for longer than a hundred years [days]."""
_SLOWER, _FASTER, _STEADY, _UNKNOWN = range(4)
_DAY = 86_400_000_000  # [µs]
_HOUR = 3_600e6  # [µs]
_MONDAY = 4  # days from 1970-01-01, a Thursday
_FEW = 8  # so many are sorted by exchanging neighbours
_PERCENTS = ("percent_per_30d", "percent_per_30d_low", "percent_per_30d_high")
_UNITS = {
    "sets": "sets",
    "n": "sets",
    "untimed": "sets",
    **dict.fromkeys(_PERCENTS, "% in 30 days"),
    "throughput_gib_per_h": "GiB/h",
    "running": "runs",
    "headroom": "x",
}


def duration_trends(
    sets: BackupSets | pd.DataFrame,
    *,
    by: str = "tenant",
    freq: Frequency = "W",
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Measure how long each tenant's backups take, full and incremental apart.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    by : {"tenant", "cluster"}
        Whose sets: those of every tenant, or those of every cluster (tenant_id and tenant_name are
        NA).
    freq : str, DateOffset or Timedelta
        The periods of `weekly`, of UTC: "W" (from Monday to Sunday; "W-MON" ends with Monday), "D",
        "MS" (months), "6h", "30D" and the like. Days and hours count from 1970-01-01, two or more
        weeks from the first week of 1970 that is whole.
    as_of : instant or None
        The instant to look from; None takes that of `sets` [UTC].

    Returns
    -------
    DataFrame
        One row per instance, tenant and mode, in that order: instance_id, tenant_id, tenant_name
        (the newest), full (NA: unknown mode), sets (done ones in the window, copies counted once),
        n (those of them that are timed), untimed (the others: no start or end, or an end before the
        start), p50, p95, max (timedelta, with unfinished runs as at least their age), last (the
        newest timed set's, timedelta), at_least (whether max is an unfinished run's age; so may be
        p50 and p95), percent_per_30d with percent_per_30d_low and percent_per_30d_high [% in 30
        days, 95 % interval], throughput_gib_per_h (median of size / duration over sets
        of 0.1 GiB and more), running (unfinished runs at `as_of`, also those from before the
        window), oldest_running (the age of the oldest of them, timedelta), usual_interval (median
        time from the start of a set, done or running, to that of the next, timedelta), headroom
        (usual_interval / p95), headroom_gone (when the trend brings p95 to the usual interval; NA
        unless slower [UTC]), thinned (whether the trend is of some points only), verdict (slower,
        faster, steady, too_little_history; from the interval).
        `attrs`: units, by, freq; `weekly`, a row per series and period with a timed set:
        instance_id, tenant_id, full, start (the period's begin [UTC]), n, p50, p95 (timedelta),
        throughput_gib_per_h, of sets by their start; `points`, a row per timed set or unfinished
        run: instance_id, tenant_id, tenant_name, full, backup_set_id, start_time, duration (an
        unfinished run's age), size_gib, running (bool).

    Raises
    ------
    ValueError
        When `by` or `freq` is something else, or clusters are asked of a plain tenants frame.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    p50 and p95 are quantiles of the Kaplan-Meier estimate F, in which an unfinished run is known
    to last longer than its age (finished ones of the same length come before it). In order of
    length, finished run i stands at (F_i - F_1) / (1 - F_1), and between two of them a straight
    line is drawn: without unfinished runs these are the usual linear order statistics
    (`numpy.percentile`), and a run that has only just begun moves nothing. A quantile that F does
    not reach, as the longest are unfinished, is the largest age. Throughput, the trend, `last` and
    `weekly` are of finished runs alone.

    percent_per_30d is 100 (exp(30 b) - 1), b the Theil-Sen slope of log duration over start, as
    `trend.lines_of` fits it: within weekdays where a series has a week, widened where neighbours
    are correlated (so that a step, which `duration_changes` tells, is seldom called a trend); 8
    sets over 6 days at least; long series thinned to 150 points. headroom_gone is as_of +
    ln(headroom) / b days, and `as_of` where headroom is 1 or less; NA beyond a hundred years.

    References
    ----------
    Kaplan, E. L. & Meier, P. (1958). Nonparametric estimation from incomplete observations. Journal
    of the American Statistical Association 53, 457-481. Sen, P. K. (1968). Estimates of the
    regression coefficient based on Kendall's tau. Same journal 63, 1379-1389.
    """
    if by not in LEVELS:
        raise ValueError(f'by must be "tenant" or "cluster", not {by!r}')
    offset = _offset(freq)
    runs = runs_of(sets, as_of, level=by)
    periods, now = _periods(offset, runs.start), _micro(runs.as_of)
    measured = [
        _measure(_part(runs, each), _rest(runs, each, now), periods) for each in _parts(runs.bounds)
    ]
    numbers, weeks = (_joined([each[place] for each in measured]) for place in (0, 1))
    kept = np.flatnonzero((numbers["inside"] > 0) | (numbers["running"] > 0))
    heads, numbers = _heads(runs.heads, kept), {name: numbers[name][kept] for name in numbers}
    weekly = _weekly(heads, numbers["periods"], weeks)
    if isinstance(sets, pd.DataFrame):
        sets = sets.copy(deep=False)  # what its owner changes later does not show in the points
    made = _table(heads, numbers, now)
    made.attrs = {
        "units": dict(_UNITS),
        "by": by,
        "freq": offset.freqstr,
        "weekly": Carried(partial(pd.DataFrame.copy, weekly, deep=False)),
        "points": Carried(partial(_points, sets, by, runs.as_of)),
    }
    return made


def _micro(moment: pd.Timestamp | None) -> int:
    """Return an instant as microseconds."""
    return NAT if moment is None else int(moment.as_unit("us").asm8.astype(np.int64))


# --- some series at a time -----------------------------------------------------------------------


class _Part(NamedTuple):
    """The sets of some series that are done and timed, in the window."""

    start: Ints
    """[µs]"""
    took: Floats
    """[µs]"""
    size: Floats
    """[GiB]"""
    bounds: Ints
    """Where the sets of each series begin, and how many there are."""


class _Rest(NamedTuple):
    """What else is asked of some series."""

    ages: Floats
    """Of the unfinished runs, each series' oldest first [µs]."""
    age_bounds: Ints
    gaps: Floats
    """From start to start [µs]."""
    gap_bounds: Ints
    counts: dict[str, Ints]


def _parts(bounds: Ints) -> Iterator[slice]:
    """Yield some series at a time, as many as stay in a processor's cache; at least none once."""
    cuts = np.flatnonzero(np.diff(bounds[:-1] // PART_ROWS, prepend=-1))
    for first, after in pairwise([*(cuts.tolist() or [0]), len(bounds) - 1]):
        yield slice(first, after)


def _part(runs: Runs, series: slice) -> _Part:
    """Return the timed sets of some series."""
    edges = runs.bounds[series.start : series.stop + 1]
    part = slice(edges[0], edges[-1])
    start, end = runs.start[part], runs.end[part]
    good = end >= start
    good &= runs.state[part] == DONE
    good &= runs.inside[part]
    good &= start != NAT
    timed = np.flatnonzero(good)
    start = start[timed]
    took = (end[timed] - start).astype(np.float64)
    return _Part(start, took, runs.size[part][timed], np.searchsorted(timed, edges - edges[0]))


def _rest(runs: Runs, series: slice, now: int) -> _Rest:
    """Return what else is counted of some series."""
    edges = runs.bounds[series.start : series.stop + 1]
    part, edges = slice(edges[0], edges[-1]), edges - edges[0]
    start, state, inside = (each[part] for each in (runs.start, runs.state, runs.inside))
    known, done, unfinished = start != NAT, (state == DONE) & inside, state == RUNNING
    old = np.flatnonzero(unfinished & known & (start <= now))
    began = np.flatnonzero((done | (unfinished & inside)) & known)
    masks = {"sets": done, "running": unfinished, "inside": inside}
    there = {name: np.searchsorted(np.flatnonzero(mask), edges) for name, mask in masks.items()}
    return _Rest(
        (now - start[old]).astype(np.float64),
        np.searchsorted(old, edges),
        *_gaps(start[began], np.searchsorted(began, edges)),
        {name: np.diff(edges) for name, edges in there.items()},
    )


def _gaps(start: Ints, bounds: Ints) -> tuple[Floats, Ints]:
    """Return the times from start to start within each series, and the series' bounds."""
    counts = np.diff(bounds)
    inner = np.ones(len(start), bool)
    inner[bounds[:-1][counts > 0]] = False
    gaps = np.diff(start, prepend=0)[inner].astype(np.float64)
    return gaps, np.concatenate([[0], np.cumsum(np.maximum(counts - 1, 0))])


def _measure(part: _Part, rest: _Rest, periods: _Periods) -> tuple[Any, Any]:
    """Return the numbers of every series, and those of their periods."""
    ordered = _ordered(part.took, part.bounds)
    n = np.diff(part.bounds)
    last = np.where(n > 0, np.append(part.took, np.nan)[part.bounds[1:] - 1], np.nan)
    longest = _at(ordered, part.bounds, n - 1.0)
    age = np.append(rest.ages, np.nan)[rest.age_bounds[:-1]]
    oldest = np.where(np.diff(rest.age_bounds) > 0, age, np.nan)
    at_least = (oldest >= longest) | (~np.isnan(oldest) & (n == 0))
    numbers = {
        **rest.counts,
        "n": n,
        "untimed": rest.counts["sets"] - n,
        "max": np.where(at_least, oldest, longest),
        "last": last,
        "at_least": at_least,
        "oldest_running": oldest,
        "usual_interval": _medians(rest.gaps, rest.gap_bounds),
    }
    for name, places in _places(part, rest, ordered).items():
        value = _at(ordered, part.bounds, np.where(np.isinf(places), 0.0, places))
        numbers[name] = np.where(np.isinf(places), oldest, value)
    rates, before = _rates(part)
    numbers["throughput_gib_per_h"] = _medians(rates, before[part.bounds])
    number, bounds, numbers["periods"] = _periods_of(part, periods)
    return numbers | _trend(part), {
        "start": periods.begin(number),
        "n": np.diff(bounds),
        **_spans_of(part, bounds),
        "throughput_gib_per_h": _medians(rates, before[bounds]),
    }


def _rates(part: _Part) -> tuple[Floats, Ints]:
    """Return the throughputs [GiB/h], and how many there are before each timed set."""
    rated = (part.size >= MIN_GIB) & (part.took > 0)
    before = np.concatenate([[0], np.cumsum(rated, dtype=np.int64)])
    return part.size[rated] / (part.took[rated] / _HOUR), before


def _periods_of(part: _Part, periods: _Periods) -> tuple[Ints, Ints, Ints]:
    """Return the periods in which a timed set began: their numbers, bounds, and each series'."""
    number = periods.number(part.start)
    opens = np.ones(len(number), bool)
    np.not_equal(number[1:], number[:-1], out=opens[1:])
    opens[part.bounds[:-1][np.diff(part.bounds) > 0]] = True
    heads = np.flatnonzero(opens)
    counts = np.diff(np.searchsorted(heads, part.bounds))
    return number[heads], np.append(heads, len(number)), counts


def _spans_of(part: _Part, bounds: Ints) -> dict[str, Ints]:
    """Return the quantiles of every period [µs]."""
    found = _quantiles(part.took, bounds, (0.5, 0.95))
    return dict(zip(("p50", "p95"), np.rint(found).astype(np.int64), strict=True))


def _trend(part: _Part) -> dict[str, Any]:
    """Return the slopes of the logarithms of durations, of series that are long enough."""
    took = np.flatnonzero(part.took > 0)
    bounds: Ints = np.searchsorted(took, part.bounds)
    days, logs = part.start[took] / _DAY, np.log(part.took[took])
    names = ("slope", "slope_low", "slope_high")
    made = {name: np.full(len(bounds) - 1, np.nan) for name in names}
    made["thinned"] = np.zeros(len(bounds) - 1, bool)
    long = np.diff(bounds) >= MIN_POINTS
    if not long.any():
        return made
    week = weekdays(days, bounds)
    # Series without a week are fitted apart: within one stratum all pairs are made at once.
    for some in (long & week.there, long & ~week.there):
        if some.any():
            mine, counts = np.repeat(some, np.diff(bounds)), np.diff(bounds)[some]
            edges = np.concatenate([[0], np.cumsum(counts)])
            lines = lines_of(days[mine], logs[mine], edges, week.day[mine])
            for name, found in zip(made, (*lines[:3], lines.thinned), strict=True):
                made[name][some] = found
    return made


# --- order statistics of many series at once -----------------------------------------------------


def _ordered(values: Floats, bounds: Ints) -> Floats:
    """Return the values, each series' own in order."""
    made = np.empty_like(values)
    for mine, size in _alike(bounds):
        place = bounds[mine][:, None] + np.arange(size)
        made[place] = np.sort(values[place], axis=1)
    return made


def _quantiles(values: Floats, bounds: Ints, shares: tuple[float, ...]) -> Floats:
    """Return quantiles of each series, a row per share; NaN where it is empty."""
    made = np.full((len(shares), len(bounds) - 1), np.nan)
    for mine, size in _alike(bounds):
        columns = _columns(values, bounds[mine], size)
        for row, share in zip(made, shares, strict=True):
            low, rest = divmod(share * (size - 1), 1)
            below, above = columns[int(low)], columns[min(int(low) + 1, size - 1)]
            row[mine] = _between(below, above, rest)
    return made


def _medians(values: Floats, bounds: Ints) -> Floats:
    """Return the median of each series; NaN where it is empty."""
    return _quantiles(values, bounds, (0.5,))[0]


def _alike(bounds: Ints) -> Iterator[tuple[Ints, int]]:
    """Yield the series of each size: what is alike is sorted at once."""
    counts = np.diff(bounds)
    for size in np.flatnonzero(np.bincount(counts)).tolist():
        if size:
            yield np.flatnonzero(counts == size), size


def _columns(values: Floats, heads: Ints, size: int) -> Any:  # noqa: ANN401 - arrays
    """Return the values of series of one size: the least of each, those after them, and so on."""
    if size > _FEW:
        return np.sort(values[heads[:, None] + np.arange(size)], axis=1).T
    columns = [values[heads + place] for place in range(size)]
    # Neighbours change places until all are in order: of a few, faster than sorting row by row.
    for turn in range(size):
        for place in range(turn % 2, size - 1, 2):
            one, other = columns[place : place + 2]
            columns[place : place + 2] = np.minimum(one, other), np.maximum(one, other)
    return columns


def _between(below: Floats, above: Floats, share: Floats) -> Floats:
    """Return what is so far from one value to the next, as `numpy.percentile`."""
    apart = above - below
    return np.where(share < 0.5, below + apart * share, above - apart * (1 - share))  # noqa: PLR2004


def _at(ordered: Floats, bounds: Ints, place: Floats) -> Floats:
    """Return what stands at a place of each series, or between two values; NaN if it is empty."""
    some = np.diff(bounds) > 0
    place = np.where(some, place, 0.0)
    low = np.floor(place).astype(np.int64)
    values = np.append(ordered, np.nan)
    first = np.where(some, bounds[:-1] + low, -1)
    second = np.where(some, np.minimum(first + 1, bounds[1:] - 1), -1)
    return _between(values[first], values[second], place - low)


def _places(part: _Part, rest: _Rest, ordered: Floats) -> dict[str, Floats]:
    """Return where among its values in order p50 and p95 of each series stand.

    Infinity: beyond the longest, as too many of the longer runs are unfinished.
    """
    events, open_runs = np.diff(part.bounds), np.diff(rest.age_bounds)
    shares = {"p50": 0.5, "p95": 0.95}
    made = {name: share * np.maximum(events - 1.0, 0.0) for name, share in shares.items()}
    some = np.flatnonzero(open_runs)
    if len(some):
        whose = np.repeat(np.arange(len(open_runs)), open_runs)
        of_value = np.repeat(np.arange(len(events)), events)
        passed = search(of_value, ordered, whose, rest.ages, "right") - part.bounds[whose]
        shorter = _Censored(events[some], open_runs[some], passed, rest.age_bounds[1:][some] - 1)
        for name, share in shares.items():
            made[name][some] = shorter.place(share)
    return made


@dataclass(frozen=True, slots=True)
class _Censored:
    """How many runs ended, and are unfinished, in each series, and what the latter outlived."""

    events: Ints
    open_runs: Ints
    passed: Ints
    """How many ended runs were not longer than each unfinished one is old."""
    youngest: Ints
    """Where in `passed` the youngest of each series is; the older ones are before it."""

    def place(self, share: float) -> Floats:
        """Return where the share is reached, infinity where it is not.

        From one unfinished run's age to the next as many go at each step: survival falls in a
        straight line with the number of ended runs, from S at R runs to S (R - k) / R behind k.
        """
        survival, gone = np.ones(len(self.events)), np.zeros(len(self.events), np.int64)
        made, wanted = np.full(len(self.events), np.inf), np.full(len(self.events), -1.0)
        for turn in range(int(self.open_runs.max()) + 1):
            at = np.flatnonzero(self.open_runs >= turn)
            more = self.open_runs[at] > turn
            until = self.events[at]
            until[more] = self.passed[self.youngest[at[more]] - turn]
            steps = until - gone[at]
            at, until, steps = at[steps > 0], until[steps > 0], steps[steps > 0]
            risk = self.events[at] + self.open_runs[at] - turn - gone[at]
            first = gone[at] == 0
            wanted[at[first]] = (1 - share) * (1 - 1 / risk[first])
            left = survival[at] * (risk - steps) / risk
            found = np.isinf(made[at]) & (wanted[at] >= left - 1e-12)
            hit = at[found]
            fallen = risk[found] * (1 - wanted[hit] / survival[hit])
            made[hit] = np.clip(gone[hit] + fallen - 1, 0, self.events[hit] - 1)
            survival[at], gone[at] = left, until
        return made


# --- periods -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Periods:
    """Periods of one width, or those between edges."""

    width: int
    """[µs]; 0 where there are edges."""
    origin: int
    """When a period of one width began [µs]."""
    edges: Ints | None

    def number(self, moments: Ints) -> Ints:
        """Return the number of the period that each instant is in."""
        if self.edges is None:
            return (moments - self.origin) // self.width
        return np.searchsorted(self.edges, moments, "right") - 1

    def begin(self, numbers: Ints) -> Ints:
        """Return when periods begin."""
        if self.edges is None:
            return numbers * self.width + self.origin
        return self.edges[numbers]


def _offset(freq: Frequency) -> pd.DateOffset:
    """Return a frequency as pandas knows it."""
    # pandas is giving up 1d for 1D; people are not.
    text = re.sub(r"(?<![a-zA-Z])d(?![a-zA-Z])", "D", freq) if isinstance(freq, str) else freq
    probe = pd.Timestamp("2026-01-01")
    try:
        offset = pd.tseries.frequencies.to_offset(text)
        step = probe + offset - probe
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"freq must be a frequency such as 'W', 'D' or 'MS', not {freq!r}"
        ) from error
    if step < pd.Timedelta(1, "us"):
        raise ValueError(f"freq must be a frequency above zero, not {freq!r}")
    return offset


def _periods(offset: pd.DateOffset, starts: Ints) -> _Periods:
    """Return the periods of a frequency; of calendar ones those that the starts need."""
    if isinstance(offset, pd.offsets.Week):
        day = _MONDAY if offset.weekday is None else (offset.weekday + 1 - 3) % 7
        return _Periods(7 * _DAY * offset.n, day * _DAY, None)
    if isinstance(offset, pd.offsets.Day):
        return _Periods(_DAY * offset.n, 0, None)
    if isinstance(offset, pd.offsets.Tick):
        return _Periods(pd.Timedelta(offset).value // 1000, 0, None)
    known = starts[starts != NAT]
    low, high = (int(known.min()), int(known.max())) if len(known) else (0, 0)
    first, last = (pd.Timestamp(each, unit="us") for each in (low, high))
    begin = offset.rollback(min(first, pd.Timestamp("1969-01-01")).normalize()) - offset
    dates = pd.date_range(begin, last, freq=offset, unit="us")
    if type(offset).__name__.endswith("End"):
        dates = dates + pd.Timedelta(1, "D")  # what ends with a day is followed on the next
    return _Periods(0, 0, dates.to_numpy("M8[us]").view(np.int64))


# --- frames --------------------------------------------------------------------------------------


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the columns of all parts behind each other."""
    return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}


def _heads(heads: pd.DataFrame, kept: Ints) -> pd.DataFrame:
    """Return some series; their categories hold only what is there."""
    if len(kept) == len(heads):
        return heads
    made = heads.take(kept).reset_index(drop=True)
    for name in ("instance_id", "tenant_id", "tenant_name"):
        made[name] = made[name].cat.remove_unused_categories()
    return made


def _table(heads: pd.DataFrame, numbers: dict[str, Any], now: int) -> pd.DataFrame:
    """Return the result."""
    percents = {
        name: percents_per_30d(numbers[slope])
        for name, slope in zip(_PERCENTS, ("slope", "slope_low", "slope_high"), strict=True)
    }
    low, high = percents["percent_per_30d_low"], percents["percent_per_30d_high"]
    verdict = np.select([np.isnan(low), low > 0, high < 0], [_UNKNOWN, _SLOWER, _FASTER], _STEADY)
    usual, p95 = numbers["usual_interval"], np.round(numbers["p95"])
    some = p95 > 0
    headroom = np.where(some, np.round(usual) / np.where(some, p95, 1.0), np.nan)
    gone = _gone(headroom, np.where(verdict == _SLOWER, numbers["slope"], np.nan), now)
    return heads.assign(
        **{name: numbers[name].astype(np.int64) for name in ("sets", "n", "untimed")},
        **{name: spans(numbers[name]) for name in ("p50", "p95", "max", "last")},
        at_least=numbers["at_least"],
        **percents,
        throughput_gib_per_h=numbers["throughput_gib_per_h"],
        running=numbers["running"].astype(np.int64),
        oldest_running=spans(numbers["oldest_running"]),
        usual_interval=spans(usual),
        headroom=headroom,
        headroom_gone=times(gone),
        thinned=numbers["thinned"],
        verdict=labels(verdict, VERDICTS),
    )


def _gone(headroom: Floats, slope: Floats, now: int) -> Ints:
    """Return when the headroom is used up [µs]; `NAT` where it is not, or not in sight."""
    made = np.full(len(headroom), NAT)
    rising = np.flatnonzero((slope > 0) & ~np.isnan(headroom))
    if now == NAT or not len(rising):
        return made
    with np.errstate(over="ignore"):  # a slope of next to nothing takes for ever
        days = np.log(np.maximum(headroom[rising], 1.0)) / slope[rising]
    near = days <= MOST_DAYS
    made[rising[near]] = now + np.round(days[near] * _DAY).astype(np.int64)
    return made


def _weekly(heads: pd.DataFrame, counts: Ints, weeks: dict[str, Any]) -> pd.DataFrame:
    """Return the numbers of the periods as a frame; they come series by series."""
    full = heads["full"].array
    known, is_full = np.asarray(~full.isna()), full.to_numpy(dtype=bool, na_value=False)
    columns: dict[str, Any] = {
        name: pd.Categorical.from_codes(
            heads[name].array.codes.repeat(counts), dtype=heads[name].dtype, validate=False
        )
        for name in ("instance_id", "tenant_id")
    }
    columns["full"] = pd.arrays.BooleanArray(is_full.repeat(counts), ~known.repeat(counts))
    columns["start"] = times(weeks["start"])
    columns["n"] = weeks["n"]
    columns |= {name: weeks[name].view("m8[us]") for name in ("p50", "p95")}
    columns["throughput_gib_per_h"] = weeks["throughput_gib_per_h"]
    made = pd.DataFrame(columns, copy=False)
    made.attrs["units"] = {name: _UNITS[name] for name in ("n", "throughput_gib_per_h")}
    return made


def _points(sets: BackupSets | pd.DataFrame, by: str, as_of: pd.Timestamp | None) -> pd.DataFrame:
    """Return a row per timed set or unfinished run."""
    runs = runs_of(sets, as_of, level=by)
    now, length, running = _micro(runs.as_of), runs.length, runs.state == RUNNING
    running &= (runs.start != NAT) & (runs.start <= now)
    took = np.where(running, now - np.where(running, runs.start, 0), length)
    shown = np.flatnonzero(running | ((runs.state == DONE) & runs.inside & (length != NAT)))
    series, rows = runs.series[shown], runs.rows[shown]
    names = ("instance_id", "tenant_id", "tenant_name", "full")
    made = pd.DataFrame(
        {
            **{name: runs.heads[name].array.take(series) for name in names},
            "backup_set_id": runs.frame["backup_set_id"].array.take(rows),
            "start_time": times(runs.start[shown]),
            "duration": spans(took[shown]),
            "size_gib": runs.size[shown],
            "running": running[shown],
        }
    )
    for name in names[:3]:
        made[name] = made[name].cat.remove_unused_categories()
    made.attrs["units"] = {"size_gib": "GiB"}
    return made
