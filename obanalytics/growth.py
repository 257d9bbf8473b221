"""Measure how fast backup sets grow, full and incremental apart, steps apart from slopes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.breaks import change_points_many
from obanalytics.carry import Carried
from obanalytics.recovery import NAT, labels, times
from obanalytics.schema import BackupSets, as_instant
from obanalytics.series import DONE, fleet_series, runs_of, spans
from obanalytics.slopes import METHODS, medians
from obanalytics.trend import lines_of, percents_per_30d, weekdays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import Instant
    from obanalytics.series import Runs
    from obanalytics.trend import Lines, Week

    Floats: TypeAlias = NDArray[np.float64]

LEVELS = ("tenant", "cluster", "fleet")
VERDICTS = ("growing", "shrinking", "flat", "too_little_history")
MIN_GIB = 0.1
"""Under this the server's rounding to 0.01 GiB is more than a tenth of the size [GiB]."""
STEP = 0.1
"""Smaller steps are none, as a share."""
_SETTLED = 4  # sets before and after a step
_SURE = 0.0005  # a step that is none spoils a slope
_NEAR = 8  # sets on each side of a step that its size is told from
_CHUNK = 1 << 20  # points that are worked at a time
_DAY = 86_400_000_000  # [µs]
_WHOSE = ["instance_id", "tenant_id", "tenant_name", "full"]
_UNITS = {
    "sets": "sets",
    "n": "sets",
    "first_size_gib": "GiB",
    "last_size_gib": "GiB",
    "gib_per_day": "GiB/day",
    "gib_per_day_low": "GiB/day",
    "gib_per_day_high": "GiB/day",
    "percent_per_30d": "% in 30 days",
    "percent_per_30d_low": "% in 30 days",
    "percent_per_30d_high": "% in 30 days",
    "growth_share": "share",
    "churn_percent_per_day": "% of the full set in a day",
    "mk_z": "standard deviations",
    "mk_p": "probability",
    "steps": "steps",
    "step_factor": "ratio",
    "step_gib": "GiB",
}


class _Points(NamedTuple):
    """The sizes of some series in order of time."""

    heads: pd.DataFrame
    bounds: Ints
    start: Ints
    """[µs]"""
    size: Any
    """[GiB]"""
    sets: Ints
    """How many done sets each series has."""
    runs: Runs | None
    """What they were made of; None where a point is of several sets."""

    @property
    def series(self) -> Ints:
        """The series of every point."""
        return np.repeat(np.arange(len(self.heads)), np.diff(self.bounds))

    @property
    def days(self) -> Any:  # noqa: ANN401 - numpy's stubs lose track
        """When each began [days since 1970]."""
        return self.start / _DAY


class _Steps(NamedTuple):
    """Steps, by series and time; positions among the points."""

    series: Ints
    at: Ints
    factor: Any
    gib: Any
    before: Any
    after: Any
    level: Any
    """Log sizes without their weekdays, of all points."""


def size_growth(
    sets: BackupSets | pd.DataFrame,
    *,
    by: str = "tenant",
    window: tuple[Instant | None, Instant | None] | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Measure how the size of backup sets changes, full and incremental apart.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    by : {"tenant", "cluster", "fleet"}
        What makes a series: the sets of a tenant, those of a cluster (whose size is the sum of its
        tenants'), or everything. The fleet's full size is the sum of each tenant's newest full set,
        looked at every 7 days, while it is at most three of its usual intervals old; its
        incremental size is what was written in each whole day.
    window : (start, end) or None
        Half-open bounds on the cluster set's start (of a plain frame: the tenant set's) [UTC];
        None takes the window of `sets`.
    as_of : instant or None
        The instant to look from; None takes that of `sets` [UTC].

    Returns
    -------
    DataFrame
        One row per series and mode, sorted: instance_id, tenant_id, tenant_name (the newest; all NA
        where they do not apply), full (NA: unknown mode), sets (done ones in the window, copies
        counted once), n (the points: those of them with a size and a start, or the instants looked
        at), span (from the first point to the last), first_size_gib, last_size_gib [GiB],
        gib_per_day with gib_per_day_low and gib_per_day_high [GiB/day], percent_per_30d with its
        bounds [% in 30 days], doubling_time (NA unless it surely grows), growth_share (of the
        growth of all series of the mode that grow), churn_percent_per_day (incremental sets: size
        as a share of the newest full set before, by day since the set before; the median [%]),
        mk_z, mk_p, mk_method (the Mann-Kendall test: plain, autocorrelated or seasonal), steps (how
        many), step_at (the start of the first set after the newest one [UTC]), step_factor,
        step_gib [GiB], thinned (whether medians of neighbours, 150 at most, were fitted), verdict
        (growing, shrinking, flat, too_little_history). Bounds are those of a 95 % interval. `attrs`
        hold the units, the `points` and the `steps`.

    Raises
    ------
    ValueError
        When `by` is something else, or the window ends before it starts.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    gib_per_day is the Theil-Sen slope of size over start; percent_per_30d is 100 (exp(30 b) - 1),
    b that of log size over the sets of 0.1 GiB and more: the server rounds to 0.01 GiB. Both need
    8 sets over 6 days. Only pairs of points between the same two steps count, so that a big load
    or a truncate is a step and no slope, and of series of four weeks with a run on most days
    (more than 2.5 a week, at most about one a day) only pairs of the same weekday. Steps are change
    points of log size of 10 % and more with four sets on either side; a step is told from the
    medians of up to 8 sets on either side, less what the slope makes of the time between. Intervals
    are those of Kendall's S, widened where neighbours resemble each other (Hamed and Rao's factor,
    of a first-order autoregression). gib_per_day is that of a line: growth by a percentage is a
    curve, of which it is about the middle. The verdict follows from the interval of gib_per_day:
    above 0, below 0, or around it. doubling_time is ln 2 / b.

    References
    ----------
    Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. Journal of
    the American Statistical Association 63, 1379-1389. Hamed, K. H. & Rao, A. R. (1998). A modified
    Mann-Kendall trend test for autocorrelated data. Journal of Hydrology 204, 182-196.
    """
    if by not in LEVELS:
        raise ValueError(f"by must be one of {', '.join(LEVELS)}, not {by!r}")
    runs = _done(sets, window, as_of, "cluster" if by == "cluster" else "tenant")
    points = _points(runs) if by != "fleet" else _fleet(runs)
    days = points.days
    week = weekdays(days, points.bounds)
    steps = _steps_of(points, week)
    strata = _segments(points, steps) * 7 + week.day
    raw = lines_of(days, points.size, points.bounds, strata)
    large = points.size >= MIN_GIB
    log = lines_of(
        days[large],
        np.log(points.size[large]),
        np.concatenate([[0], np.cumsum(large)])[points.bounds],
        strata[large],
    )
    steps = _measured(points, steps, raw, log)._replace(level=None)
    made = points.heads.assign(sets=points.sets, n=np.diff(points.bounds), **_ends(points))
    made = made.assign(**_rates(raw, log))
    made["growth_share"] = shares(made)
    made["churn_percent_per_day"] = _churn(runs, by, len(made))
    made = made.assign(**_tests(raw, week.there), **_newest_steps(points, steps))
    made["thinned"] = raw.thinned
    made["verdict"] = _verdicts(raw)
    made.attrs = {
        "units": dict(_UNITS),
        "by": by,
        "points": Carried(partial(_points_frame, points)),
        "steps": Carried(partial(_steps_frame, points, steps)),
    }
    return made


def _done(
    sets: BackupSets | pd.DataFrame,
    window: tuple[Instant | None, Instant | None] | None,
    as_of: Instant | None,
    level: str,
) -> Runs:
    """Return the done sets of the window; every series that has a set in it stays."""
    if window is not None and isinstance(sets, BackupSets):
        sets = sets.between(*window)
    runs = runs_of(sets, as_of, level=level)
    inside = runs.inside
    if window is not None and not isinstance(sets, BackupSets):
        inside = _within(runs.start, *window)
    return _present(runs.where(inside)).where_state(DONE)


def _present(runs: Runs) -> Runs:
    """Return the series that have a set."""
    return runs.without_empty()


def _within(starts: Ints, start: Instant | None, end: Instant | None) -> Bools:
    """Tell which starts a half-open window holds."""
    first = None if start is None else as_instant(start, "start")
    last = None if end is None else as_instant(end, "end")
    if first is not None and last is not None and last < first:
        raise ValueError(f"the window ends before it starts: start {first}, end {last}")
    inside = np.ones(len(starts), dtype=bool)
    if first is not None:
        inside &= (starts == NAT) | (starts >= first.value // 1000)
    if last is not None:
        inside &= starts < last.value // 1000
    return inside


def _points(runs: Runs) -> _Points:
    """Return the sets that have a start and a size."""
    some = runs.where((runs.start != NAT) & np.isfinite(runs.size))
    return _Points(some.heads, some.bounds, some.start, some.size, np.diff(runs.bounds), some)


def _fleet(runs: Runs) -> _Points:
    """Return the sizes of everything together."""
    some = runs.where((runs.start != NAT) & np.isfinite(runs.size))
    full = some.heads["full"].to_numpy(dtype="float64", na_value=np.nan)[some.series]
    every = runs.heads["full"].to_numpy(dtype="float64", na_value=np.nan)[runs.series]
    modes = [mode for mode in (1.0, 0.0) if (every == mode).any()]
    starts, sizes, counts = [], [], []
    for mode in modes:
        mine = some.where(full == mode)
        start, size = fleet_series(mine.series, mine.start, mine.size, stock=mode == 1.0)
        starts.append(start)
        sizes.append(size)
        counts.append(int((every == mode).sum()))
    nobody = pd.Categorical([None] * len(modes), categories=pd.Index([], dtype="str"))
    heads = pd.DataFrame(dict.fromkeys(_WHOSE[:3], nobody))
    heads["full"] = pd.array([mode == 1.0 for mode in modes], dtype="boolean")
    none = [np.zeros(0, np.int64)]
    return _Points(
        heads,
        np.concatenate([[0], np.cumsum([len(each) for each in starts])]).astype(np.int64),
        np.concatenate([*none, *starts]),
        np.concatenate([*none, *sizes]).astype(np.float64),
        np.array(counts, np.int64),
        None,
    )


def _steps_of(points: _Points, week: Week) -> _Steps:
    """Find the steps of log size."""
    large = points.size >= MIN_GIB
    level = np.where(large, np.log(np.where(large, points.size, 1.0)), np.nan)
    level -= week.effect(level)
    found = [np.zeros((2, 0), np.int64)]
    for low, high in _parts(points.bounds):
        edges = points.bounds[low : high + 1]
        series, at = change_points_many(
            level[edges[0] : edges[-1]],
            edges - edges[0],
            min_size=_SETTLED,
            alpha=_SURE,
            min_effect=float(np.log1p(STEP)),
        )
        found.append(np.stack([series + low, at + edges[0]]))
    series, at = np.concatenate(found, axis=1)
    none = np.zeros(len(at))
    return _Steps(series, at, none, none, none, none, level)


def _measured(points: _Points, found: _Steps, raw: Lines, log: Lines) -> _Steps:
    """Tell how large the steps are, less what the series grows meanwhile."""
    (series, at), level = found[:2], found.level
    before, after, factor, gib = np.zeros((4, len(at)))
    edges = np.concatenate([[-1], at, [len(level)]])
    for number, place in enumerate(at):
        own = series[number]
        low = max(edges[number], points.bounds[own], place - _NEAR)
        high = min(edges[number + 2], points.bounds[own + 1], place + _NEAR)
        one, other = slice(low, place), slice(place, high)
        days = (np.median(points.start[other]) - np.median(points.start[one])) / _DAY
        grown = days * np.nan_to_num(log.slope[own])
        factor[number] = np.exp(np.nanmedian(level[other]) - np.nanmedian(level[one]) - grown)
        before[number], after[number] = np.median(points.size[one]), np.median(points.size[other])
        gib[number] = after[number] - before[number] - days * np.nan_to_num(raw.slope[own])
    return found._replace(factor=factor, gib=gib, before=before, after=after)


def _parts(bounds: Ints) -> Iterator[tuple[int, int]]:
    """Yield a few series at a time, what comes first and what behind the last."""
    low, count = 0, len(bounds) - 1
    while low < count:
        high = int(np.searchsorted(bounds, bounds[low] + _CHUNK, "right")) - 1
        yield low, max(high, low + 1)
        low = max(high, low + 1)


def _segments(points: _Points, steps: _Steps) -> Ints:
    """Return the number of the stretch between steps that each point is in."""
    new = np.zeros(len(points.size), np.int32)
    new[steps.at] = 1
    return np.cumsum(new, dtype=np.int32)


def _ends(points: _Points) -> dict[str, Any]:
    """Return when a series begins and ends, and how large it is then."""
    first, last = points.bounds[:-1], points.bounds[1:] - 1
    some = last >= first
    start, size = np.append(points.start, 0), np.append(points.size, np.nan)
    low, high = np.where(some, first, -1), np.where(some, last, -1)
    return {
        "span": spans(np.where(some, start[high] - start[low], NAT)),
        "first_size_gib": size[low],
        "last_size_gib": size[high],
    }


def _rates(raw: Lines, log: Lines) -> dict[str, Any]:
    """Return the slopes in all their units."""
    rates = {
        f"{name}{end}": values
        for name, fit, turn in (
            ("gib_per_day", raw, np.asarray),
            ("percent_per_30d", log, percents_per_30d),
        )
        for end, values in (
            ("", turn(fit.slope)),
            ("_low", turn(fit.low)),
            ("_high", turn(fit.high)),
        )
    }
    surely = np.nan_to_num(log.low, nan=-1.0) > 0
    days = np.log(2.0) / np.where(surely, log.slope, np.inf)
    rates["doubling_time"] = spans(np.where(surely & (days < 1e6), days * _DAY, np.nan))  # noqa: PLR2004
    return rates


def shares(made: pd.DataFrame) -> Any:  # noqa: ANN401 - an array
    """Return what share each series has in the growth of those of its mode that grow.

    Parameters
    ----------
    made : DataFrame
        Growth: `full` and `gib_per_day` of every series.

    Returns
    -------
    ndarray of float
        NaN where there is no slope.
    """
    slope = made["gib_per_day"].to_numpy()
    rise = np.where(slope > 0, slope, 0.0)
    mode = made["full"].to_numpy(dtype="float64", na_value=2.0).astype(np.int64)
    whole = np.bincount(mode, rise, 3)[mode]
    return np.where(np.isnan(slope), np.nan, rise / np.where(whole > 0, whole, 1.0))


def _churn(runs: Runs, by: str, count: int) -> Any:  # noqa: ANN401 - an array
    """Return the size of incremental sets as a share of the full set before them, by day [%]."""
    made = np.full(count, np.nan)
    if by == "fleet" or not len(runs.rows):
        return made
    who = runs.heads.groupby(["instance_id", "tenant_id"], observed=True, dropna=False, sort=False)
    tenant = who.ngroup().to_numpy()  # ascending: series come by tenant
    first = np.append(np.flatnonzero(np.diff(tenant, prepend=-1)), count)
    mode = runs.heads["full"].to_numpy(dtype="float64", na_value=np.nan)
    for low, high in _parts(runs.bounds[first]):
        part = slice(first[low], first[high])
        bounds = runs.bounds[first[low] : first[high] + 1]
        sets = slice(bounds[0], bounds[-1])
        made[part] = _churn_of(
            np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)),
            (tenant[part], mode[part]),
            runs.start[sets],
            runs.size[sets],
        )
    return made


def _churn_of(series: Ints, heads: tuple[Any, Any], start: Ints, size: Any) -> Any:  # noqa: ANN401
    """Return the churn of the series of some tenants."""
    dated, count = start != NAT, len(heads[0])
    series, start, size = series[dated], start[dated], size[dated]
    tenant, mode = (each[series] for each in heads)
    full, part = np.flatnonzero(mode == 1.0), np.flatnonzero(mode == 0.0)
    if not len(full) or not len(part):
        return np.full(count, np.nan)
    # A number that sorts by tenant, then by start.
    since, day = start - start.min(), _DAY
    if int(since.max()).bit_length() + count.bit_length() > 62:  # noqa: PLR2004 - an int64
        since, day = since // 1000, _DAY // 1000
    place = (tenant - tenant[0]) * (int(since.max()) + 1) + since
    last = np.searchsorted(place[full], place[part]) - 1
    base = full[np.maximum(last, 0)]
    before = np.where(series[part] == series[part - 1], place[part - 1], place[base])
    days = (place[part] - np.maximum(before, place[base])) / day
    good = (last >= 0) & (tenant[base] == tenant[part]) & (days > 0)
    good &= (size[base] > 0) & np.isfinite(size[part])
    part, base, days = part[good], base[good], days[good]
    each = np.bincount(series[part], minlength=count)
    rate = 100.0 * size[part] / size[base] / days
    return medians(rate, np.concatenate([[0], np.cumsum(each)]))


def _tests(raw: Lines, seasonal: Bools) -> dict[str, Any]:
    """Return the test for a trend, and how it was made."""
    z, p = raw.fits.test()
    known = np.isfinite(raw.slope)
    method = np.where(seasonal, 2, np.where(raw.factor > 1.0, 1, 0))
    return {
        "mk_z": np.where(known, z, np.nan),
        "mk_p": np.where(known, p, np.nan),
        "mk_method": labels(np.where(known, method, -1), METHODS),
    }


def _newest_steps(points: _Points, steps: _Steps) -> dict[str, Any]:
    """Return how many steps each series has, and the newest."""
    count = len(points.heads)
    last = np.full(count, -1)
    last[steps.series] = np.arange(len(steps.series))
    there = last >= 0
    at = np.append(points.start[steps.at], NAT)
    factor, gib = (np.append(each, np.nan) for each in (steps.factor, steps.gib))
    return {
        "steps": np.bincount(steps.series, minlength=count).astype(np.int64),
        "step_at": times(np.where(there, at[last], NAT)),
        "step_factor": factor[last],
        "step_gib": gib[last],
    }


def _verdicts(raw: Lines) -> pd.Categorical:
    """Return what the intervals of the slopes say."""
    codes = np.select([np.isnan(raw.low), raw.low > 0, raw.high < 0], [3, 0, 1], 2)
    return pd.Categorical.from_codes(codes, list(VERDICTS))


def _points_frame(points: _Points) -> pd.DataFrame:
    """Return the points as a frame."""
    frame = points.heads.take(points.series).reset_index(drop=True)
    ids = pd.array([None] * len(frame), dtype="string")
    frame["backup_set_id"] = ids if points.runs is None else points.runs.column("backup_set_id")
    return frame.assign(start_time=times(points.start), size_gib=points.size)


def _steps_frame(points: _Points, steps: _Steps) -> pd.DataFrame:
    """Return the steps as a frame."""
    frame = points.heads.take(steps.series).reset_index(drop=True)
    frame = frame.assign(
        at=times(points.start[steps.at]),
        factor=steps.factor,
        gib=steps.gib,
        before_gib=steps.before,
        after_gib=steps.after,
    )
    none = pd.array([None] * len(frame), dtype="string")
    if points.runs is None:
        return frame.assign(set_before=none, set_after=none)
    ids = points.runs.column("backup_set_id")
    return frame.assign(set_before=ids.take(steps.at - 1), set_after=ids.take(steps.at))
