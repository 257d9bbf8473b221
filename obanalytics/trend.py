"""Estimate trends robustly: statistics of one series that several analyses share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.breaks import change_points
from obanalytics.slopes import METHODS, mann_kendall_many, trends_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from obanalytics.slopes import Trends

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

__all__ = [
    "Lines",
    "Slope",
    "change_points",
    "lines_of",
    "mann_kendall",
    "percents_per_30d",
    "theil_sen",
    "weekdays",
]

MIN_POINTS = 8
"""Fewer points than this say nothing about a trend."""
MIN_SPAN_DAYS = 6.0  # eight daily sets span a week, less what their start times differ


class Slope(NamedTuple):
    """A robust line and the interval of its slope; all NaN where there is none."""

    slope: float
    """Units of the values per unit of time."""
    intercept: float
    """Value at time zero."""
    low: float
    """Lower bound of the slope's interval."""
    high: float
    """Upper bound of the slope's interval."""


NO_SLOPE = Slope(np.nan, np.nan, np.nan, np.nan)


def theil_sen(
    times: Sequence[float] | Floats | pd.Series,
    values: Sequence[float] | Floats | pd.Series,
    level: float = 0.95,
) -> Slope:
    """Fit a line through the median of all pairwise slopes.

    Parameters
    ----------
    times : array of float or of datetime64
        When, in any unit; instants count in days.
    values : array of float
        What, in any unit. Points whose time or value is NaN are left out.
    level : float
        Confidence level of the slope's interval, between 0 and 1.

    Returns
    -------
    Slope
        slope, low, high [values per unit of time; per day for instants] and intercept [values; at
        time zero, for instants at 1970-01-01T00:00Z]. All NaN under two different times.

    Raises
    ------
    ValueError
        When the arrays differ in length or `level` is not between 0 and 1.

    Notes
    -----
    slope = median of (y_j - y_i) / (t_j - t_i) over all pairs with t_j > t_i; intercept =
    median(y) - slope median(t). The interval's bounds are the pairwise slopes of rank
    (N ± z sigma) / 2, N the number of pairs and sigma² the variance of Kendall's S, corrected for
    ties. The points count as independent: the interval is too narrow where neighbours resemble
    each other. Time and memory grow with the square of the number of points.

    References
    ----------
    Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. Journal of
    the American Statistical Association 63, 1379-1389.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level!r}")
    t, y = _numbers(times), _numbers(values)
    if len(t) != len(y):
        raise ValueError(f"{len(t)} times but {len(y)} values")
    good = np.isfinite(t) & np.isfinite(y)
    t, y = t[good], y[good]
    later, earlier = np.tril_indices(len(t), -1)
    distance = t[later] - t[earlier]
    apart = distance != 0
    slopes = (y[later] - y[earlier])[apart] / distance[apart]
    if not len(slopes):
        return NO_SLOPE
    lowest, highest = _ranks(t, y, len(slopes), level)
    half = len(slopes) // 2
    slopes = np.partition(slopes, sorted({lowest, half - 1 + len(slopes) % 2, half, highest}))
    slope = float((slopes[half - 1 + len(slopes) % 2] + slopes[half]) / 2)
    intercept = float(np.median(y) - slope * np.median(t))
    return Slope(slope, intercept, float(slopes[lowest]), float(slopes[highest]))


def mann_kendall(
    values: Sequence[float] | Floats, *, period: int = 1, serial: str = "ar1"
) -> tuple[float, float, float, str]:
    """Test whether a series has a trend, whatever its shape.

    Parameters
    ----------
    values : array of float
        The series, evenly spaced; NaN are left out.
    period : int
        Values this far apart are of one season; only those are compared. 1: all are.
    serial : {"ar1", "hamed_rao", "none"}
        What is done about correlation between neighbours, see `slopes.mann_kendall_many`.

    Returns
    -------
    tuple
        S, z, p (two-sided), and the method: plain, autocorrelated or seasonal.
    """
    series = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(series))
    times, bounds = known.astype(np.float64), np.array([0, len(known)])
    strata = None if period == 1 else known % period
    made = mann_kendall_many(times, series[known], bounds, strata=strata, serial=serial)
    return float(made.s[0]), float(made.z[0]), float(made.p[0]), METHODS[int(made.method[0])]


def days_of(times: pd.Series) -> Floats:
    """Return instants as numbers.

    Parameters
    ----------
    times : Series
        Instants of any resolution [UTC].

    Returns
    -------
    array of float
        Days since 1970-01-01T00:00Z; NaN for NA [days].
    """
    naive = times.dt.tz_convert(None) if times.dt.tz is not None else times
    micro = naive.to_numpy(dtype="datetime64[us]")
    days = micro.astype(np.int64) / 86_400_000_000.0
    return np.where(np.isnat(micro), np.nan, days)


MOST_POINTS = 150
"""Longer series are thinned to this before they are fitted by the thousand [points]."""
_WEEKS, _DAYS = 4, 7
_SELDOM, _OFTEN = 2.5 / 7, 1.2  # runs a day of a series that has a week
_LOOKS = 24  # runs of a series whose time of day is looked at
_CHUNK = 1 << 18  # points that are worked at a time


class Thinned(NamedTuple):
    """The points that stand for many series."""

    times: Floats
    values: Floats
    strata: Ints
    bounds: Ints
    thinned: NDArray[np.bool_]


def thin_many(
    times: Floats, values: Floats, bounds: Ints, *, strata: Ints, most: int = 150
) -> Thinned:
    """Let fewer points stand for each of many series: medians of neighbours in their stratum.

    Parameters
    ----------
    times, values, bounds : array
        As in `theil_sen_many`.
    strata : array of int
        Only points of one stratum are put together.
    most : int
        Series of more points are thinned to this, or a few less.

    Returns
    -------
    Thinned
        Each series in order of time: the mean of the times and the median of the values of so many
        neighbours that the series is short enough. Shorter series are as they were.
    """
    counts = np.diff(bounds)
    long = counts > most
    if not long.any():
        return Thinned(times, values, strata, bounds, long)
    parts, edges, low = [], [np.zeros(1, np.int64)], 0
    while low < len(counts):
        high = max(int(np.searchsorted(bounds, bounds[low] + _CHUNK, "right")) - 1, low + 1)
        part, own = slice(bounds[low], bounds[high]), counts[low:high]
        kept = own
        mine = (times[part], values[part], strata[part])
        if long[low:high].any():
            mine, kept = _merged(mine, own, most)
        parts.append(mine)
        edges.append(kept)
        low = high
    t, y, group = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Thinned(t, y, group, np.cumsum(np.concatenate(edges)), long)


def _merged(
    points: tuple[Floats, Floats, Ints], counts: Ints, most: int
) -> tuple[tuple[Floats, Floats, Ints], Ints]:
    """Put neighbours of the long ones of some series together."""
    times, values, strata = points
    series = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((strata, series))
    t, y, group, who = times[order], values[order], strata[order], series[order]
    new = np.append(True, (np.diff(group) != 0) | (np.diff(who) != 0))
    heads = np.flatnonzero(new)
    size = np.diff(np.append(heads, len(t)))
    lines = np.bincount(who[heads], minlength=len(counts))
    room = np.maximum(most - lines, most // 2)  # each stratum may leave a few over
    together = np.where(counts > most, -(-counts // room), 1)
    wanted = -(-size // together[who[heads]])
    run = np.cumsum(new) - 1
    block = ((np.arange(len(t)) - heads[run]) * wanted[run]) // size[run]
    new[1:] |= block[1:] != block[:-1]
    heads = np.flatnonzero(new)
    size = np.diff(np.append(heads, len(t)))
    middle = np.empty(len(heads))
    for each in np.unique(size).tolist():
        mine = np.flatnonzero(size == each)
        table = np.sort(y[heads[mine][:, None] + np.arange(each)], axis=1)
        middle[mine] = (table[:, (each - 1) // 2] + table[:, each // 2]) / 2
    when = t[heads] + np.add.reduceat(t - t[heads][np.cumsum(new) - 1], heads) / size
    by = np.lexsort((when, who[heads]))
    kept = np.bincount(who[heads], minlength=len(counts))
    return (when[by], middle[by], group[heads][by]), kept


class Lines(NamedTuple):
    """Robust lines through many series; NaN where there is too little history."""

    slope: Floats
    """Units of the values per day."""
    low: Floats
    """Of the 95 % interval."""
    high: Floats
    factor: Floats
    """By what serial correlation inflated the variance behind the interval."""
    thinned: NDArray[np.bool_]
    """Whether only some of the points were fitted."""
    fits: Trends


def lines_of(days: Floats, values: Floats, bounds: Any, strata: Any) -> Lines:  # noqa: ANN401
    """Fit a robust line through each of many series, or refuse where there is too little history.

    Parameters
    ----------
    days : array of float
        When, each series in order [days].
    values : array of float
        The values, in any unit, without NaN.
    bounds : array of int
        Where each series begins, and the number of points behind the last.
    strata : array of int
        Only pairs of one stratum count: what differs between weekdays or the stretches between
        steps is no slope.

    Returns
    -------
    Lines
        All NaN under `MIN_POINTS` points or `MIN_SPAN_DAYS`.
    """
    some = thin_many(days, values, bounds, strata=strata, most=MOST_POINTS)
    fits = trends_many(some.times, some.values, some.bounds, strata=some.strata)
    ends = np.append(days, 0.0)
    span = ends[np.maximum(bounds[1:] - 1, 0)] - ends[np.minimum(bounds[:-1], len(days))]
    none = (np.diff(bounds) < MIN_POINTS) | (span < MIN_SPAN_DAYS)
    slope, low, high = (np.where(none, np.nan, each) for each in fits[:3])
    return Lines(slope, low, high, fits.factor, some.thinned, fits)


class Week(NamedTuple):
    """The weekdays of the points of some series."""

    day: Any
    """0 to 6; 0 for all points of a series without a week."""
    there: NDArray[np.bool_]
    """Which series have a week: one run a day or less, at least two a week, for four weeks."""
    bounds: Any
    number: Any
    """The week of each point, from 0; 0 for all points of a series without one."""

    def effect(self, values: Floats) -> Floats:
        """Return by how much each point's weekday is above or below its series.

        Parameters
        ----------
        values : array of float
            The values; NaN are passed by.

        Returns
        -------
        array of float
            The median of the weekday less the median of all weekdays; 0 in a series without a week.
        """
        made, own = np.zeros(len(values)), np.flatnonzero(self.there)
        low = 0
        while low < len(own):
            high = int(np.searchsorted(self.bounds[own], self.bounds[own[low]] + _CHUNK, "right"))
            high = max(high, low + 1)
            counts = np.diff(self.bounds)[own[low:high]]
            series = np.repeat(np.arange(high - low), counts)
            begins = self.bounds[own[low:high]] - np.cumsum(counts) + counts
            at = np.repeat(begins, counts) + np.arange(len(series))
            made[at] = self._of_some(values[at], at, series, high - low)
            low = high
        return made

    def _of_some(self, values: Floats, at: Any, series: Any, count: int) -> Floats:  # noqa: ANN401
        """Return the effect at the points of some series that have a week."""
        known = np.isfinite(values)
        mine, place, day = series[known], at[known], self.day[at]
        # The trend of a week is no difference between its days: each value is told from those of
        # the seven around it.
        own = values[known] - _running_mean(values[known], mine)
        weeks = int(self.number[place].max(initial=0)) + 1
        table = np.full((count, _DAYS, weeks), np.nan)
        # Of two runs of one day the later one stands for it.
        table[mine, day[known], self.number[place]] = own
        middle = _middles(table)
        return np.asarray((middle - _middles(middle)[:, None])[series, day], np.float64)


def _middles(table: Any) -> Any:  # noqa: ANN401 - arrays
    """Return medians along the last axis, NaN passed by; 0 where there is nothing else."""
    there = np.count_nonzero(~np.isnan(table), axis=-1)[..., None]
    ordered = np.sort(table, axis=-1)
    low, high = (np.maximum(each, 0) for each in ((there - 1) // 2, there // 2))
    high = np.minimum(high, table.shape[-1] - 1)
    both = [np.take_along_axis(ordered, each, -1)[..., 0] for each in (low, high)]
    return np.where(there[..., 0] > 0, (both[0] + both[1]) / 2, 0.0)


def _running_mean(values: Floats, series: Any) -> Floats:  # noqa: ANN401 - an array
    """Return the mean of the seven values around each, of those of its series."""
    new = np.flatnonzero(np.diff(series)) + 1
    head = np.zeros(len(series), np.int64)
    head[new] = new
    head = np.maximum.accumulate(head)
    end = np.append(new, len(series))[np.searchsorted(new, np.arange(len(series)), "right")]
    place = np.arange(len(series))
    low, high = np.maximum(place - 3, head), np.minimum(place + 4, end)
    total = np.zeros(len(values))
    for apart in range(-3, 4):  # no running sum: its rounding hangs on the series before
        there = (place + apart >= low) & (place + apart < high)
        total += np.where(there, values[np.clip(place + apart, 0, len(values) - 1)], 0.0)
    return np.asarray(total / (high - low), np.float64)


def weekdays(days: Floats, bounds: Any) -> Week:  # noqa: ANN401 - an array
    """Tell the weekday of every point of the series that have a week.

    Parameters
    ----------
    days : array of float
        When, each series in order [days].
    bounds : array of int
        Where each series begins, and the number of points behind the last.

    Returns
    -------
    Week
        A day begins half a day before the usual time of day of its series, so that runs around
        midnight do not change theirs.
    """
    counts = np.diff(bounds)
    # A few of its runs tell the usual time of day.
    at = bounds[:-1, None] + counts[:, None] * np.arange(_LOOKS) // _LOOKS
    angle = 2.0 * np.pi * (np.append(days, 0.0)[np.minimum(at, len(days))] % 1.0)
    usual = np.arctan2(np.sin(angle).sum(axis=1), np.cos(angle).sum(axis=1)) / (2.0 * np.pi)
    ends = np.append(days, 0.0)
    span = ends[np.maximum(bounds[1:] - 1, 0)] - ends[np.minimum(bounds[:-1], len(days))]
    rate = (counts - 1) / np.maximum(span, 1e-9)
    there = (span >= _WEEKS * _DAYS - 1) & (rate > _SELDOM) & (rate < _OFTEN)
    day, number = np.zeros(len(days), np.int8), np.zeros(len(days), np.int32)
    own = np.repeat(there, counts)
    whole = np.floor(days[own] - np.repeat(usual[there], counts[there]) + 0.5).astype(np.int32)
    first = whole[np.cumsum(counts[there]) - counts[there]]
    day[own] = whole % _DAYS
    number[own] = (whole - np.repeat(first, counts[there])) // _DAYS
    return Week(day, there, bounds, number)


def percents_per_30d(slopes: Floats) -> Floats:
    """Return slopes of logarithms as changes in percent.

    Parameters
    ----------
    slopes : array of float
        Slopes of the natural logarithm [1/day].

    Returns
    -------
    array of float
        Changes in 30 days [%]; as `percent_per_30d`.
    """
    return np.asarray(100.0 * np.expm1(np.minimum(30.0 * slopes, 685.0)), np.float64)


def _numbers(values: Any) -> Floats:  # noqa: ANN401 - whatever numpy can read
    """Return values as floats, instants as days."""
    array = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values))
    if pd.api.types.is_datetime64_any_dtype(array.dtype):
        return days_of(array)
    numbers: Floats = array.to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _ranks(t: Floats, y: Floats, pairs: int, level: float) -> tuple[int, int]:
    """Return the ranks of the pairwise slopes that bound the interval."""
    from scipy.special import ndtri  # noqa: PLC0415 - importing scipy costs; most commands need none

    n = float(len(y))
    ties = [np.unique(x, return_counts=True)[1].astype(np.float64) for x in (t, y)]
    tied = sum(float(np.sum(k * (k - 1) * (2 * k + 5))) for k in ties)
    sigma = np.sqrt(max(n * (n - 1) * (2 * n + 5) - tied, 0.0) / 18.0)
    reach = -float(ndtri((1 - level) / 2)) * sigma
    lowest = max(round((pairs - reach) / 2) - 1, 0)
    return lowest, max(min(round((pairs + reach) / 2), pairs - 1), lowest)
