"""Measure how fast backup sets grow, per tenant and mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.schema import BackupSets, as_instant, facts
from obanalytics.trend import (
    days_of,
    of_whole_tenants,
    one_copy,
    percent_per_30d,
    series_of,
    slope_of,
    split,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from obanalytics.schema import Instant

    Floats: TypeAlias = NDArray[np.float64]

VERDICTS = ("growing", "shrinking", "flat", "too_little_history")
MIN_GIB = 0.1
"""Under this the server's rounding to 0.01 GiB is more than a tenth of the size [GiB]."""
_PERCENTS = ("percent_per_30d", "percent_per_30d_low", "percent_per_30d_high")
_NUMBERS = (
    "first_size_gib",
    "last_size_gib",
    "gib_per_day",
    "gib_per_day_low",
    "gib_per_day_high",
    *_PERCENTS,
)


def size_growth(
    sets: BackupSets | pd.DataFrame,
    *,
    by: str = "tenant",
    window: tuple[Instant | None, Instant | None] | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Measure how the size of each tenant's sets changes, full and incremental apart.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    by : {"tenant"}
        What makes a series.
    window : (start, end) or None
        Half-open bounds on the cluster set's start (of a plain frame: the tenant set's) [UTC];
        None takes the window of `sets`.
    as_of : instant or None
        The instant to look from; None takes that of `sets` [UTC].

    Returns
    -------
    DataFrame
        One row per instance, tenant and mode, in that order: instance_id, tenant_id, tenant_name
        (the newest), full (NA: unknown mode), sets (done ones in the window, copies counted once),
        points (those of them with a size and a start), span (from the first to the last of the
        points), first_size_gib, last_size_gib [GiB], gib_per_day with gib_per_day_low and
        gib_per_day_high [GiB/day], percent_per_30d with its bounds [% in 30 days], verdict
        (growing, shrinking, flat, too_little_history). Bounds are those of a 95 % interval.

    Raises
    ------
    ValueError
        When `by` is something else, or the window ends before it starts.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    gib_per_day is the Theil-Sen slope of size over start. percent_per_30d is 100 (exp(30 b) - 1),
    b the Theil-Sen slope of log size over the sets of 0.1 GiB and more: the server rounds to
    0.01 GiB. Both need 8 sets over 6 days. The verdict follows from the interval of gib_per_day:
    above 0, below 0, or around it. Series of more than 1,000 points are thinned to as many, evenly.

    References
    ----------
    Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. Journal of
    the American Statistical Association 63, 1379-1389.
    """
    if by != "tenant":
        raise ValueError(f'by must be "tenant", not {by!r}')
    rows = _rows(sets, window, as_of)
    heads, codes = series_of(rows)
    done = one_copy(rows.assign(series=codes)[rows["state"].eq("done").to_numpy()])
    days, sizes = days_of(done["start_time"]), done["size_gib"].to_numpy(dtype=np.float64)
    parts = split(done["series"].to_numpy(dtype=np.intp), len(heads))
    measured = [_measure(days[part], sizes[part]) for part in parts]
    heads["sets"] = pd.Series([len(part) for part in parts], dtype="int64")
    heads["points"] = pd.Series([each["points"] for each in measured], dtype="int64")
    spans = pd.Series([each["span"] for each in measured], dtype="float64")
    heads["span"] = pd.to_timedelta((spans * 86_400e6).round(), unit="us").astype("timedelta64[us]")
    for name in _NUMBERS:
        heads[name] = pd.Series([each[name] for each in measured], dtype="float64")
    verdicts = [_verdict(each["gib_per_day_low"], each["gib_per_day_high"]) for each in measured]
    heads["verdict"] = pd.Categorical(verdicts, categories=list(VERDICTS))
    return heads


def _rows(
    sets: BackupSets | pd.DataFrame,
    window: tuple[Instant | None, Instant | None] | None,
    as_of: Instant | None,
) -> pd.DataFrame:
    """Return the rows of the window, as they were known at the instant."""
    if window is not None and isinstance(sets, BackupSets):
        sets = sets.between(*window)
    known = facts(sets, as_of)
    inside = known.tenants["in_window"].to_numpy(dtype=bool)
    if window is not None and not isinstance(sets, BackupSets):
        inside = _within(known.tenants["start_time"], *window)
    return of_whole_tenants(known.tenants[inside])


def _within(starts: pd.Series, start: Instant | None, end: Instant | None) -> NDArray[np.bool_]:
    """Tell which starts a half-open window holds."""
    first = None if start is None else as_instant(start, "start")
    last = None if end is None else as_instant(end, "end")
    if first is not None and last is not None and last < first:
        raise ValueError(f"the window ends before it starts: start {first}, end {last}")
    inside = np.ones(len(starts), dtype=bool)
    if first is not None:
        inside &= ~(starts < first).to_numpy(dtype=bool)
    if last is not None:
        inside &= ~(starts >= last).to_numpy(dtype=bool)
    return inside


def _measure(days: Floats, sizes: Floats) -> dict[str, Any]:
    """Return the numbers of one series, whose points are in order of time."""
    good = np.isfinite(days) & np.isfinite(sizes)
    days, sizes = days[good], sizes[good]
    raw = slope_of(days, sizes)
    large = sizes >= MIN_GIB
    log = slope_of(days[large], np.log(sizes[large]))
    percents = (percent_per_30d(each) for each in (log.slope, log.low, log.high))
    return {
        "points": len(days),
        "span": float(np.ptp(days)) if len(days) else np.nan,
        "first_size_gib": float(sizes[0]) if len(sizes) else np.nan,
        "last_size_gib": float(sizes[-1]) if len(sizes) else np.nan,
        "gib_per_day": raw.slope,
        "gib_per_day_low": raw.low,
        "gib_per_day_high": raw.high,
        **dict(zip(_PERCENTS, percents, strict=True)),
    }


def _verdict(low: float, high: float) -> str:
    """Return what an interval of a slope says."""
    if np.isnan(low):
        return "too_little_history"
    if low > 0:
        return "growing"
    return "shrinking" if high < 0 else "flat"
