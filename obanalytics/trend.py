"""Estimate trends robustly: statistics of one series that several analyses share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.frames import PARTS_OF_A_TENANT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

MIN_POINTS = 8
"""Fewer points than this say nothing about a trend."""
MIN_SPAN_DAYS = 6.0
"""Eight daily sets span a week, less what their start times differ [days]."""
MAX_POINTS = 1000
"""Longer series are thinned: the work and the memory grow with the square [points]."""


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
    each other. Time and memory grow with the square of the number of points; `thin` bounds both.

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


def thin(times: Floats, limit: int = MAX_POINTS) -> NDArray[np.intp]:
    """Choose which points of a series stand for it.

    Parameters
    ----------
    times : array of float
        The points' times, in any order and unit.
    limit : int
        The most points to keep [points].

    Returns
    -------
    array of int
        Positions in order of time: all of them up to `limit`, else `limit` evenly spread ones with
        the first and the last.
    """
    order = np.argsort(times, kind="stable")
    if len(order) <= limit:
        return order
    return order[np.linspace(0, len(order) - 1, limit).round().astype(np.intp)]


def slope_of(days: Floats, values: Floats) -> Slope:
    """Fit a line through a series of sets, or refuse where there is too little history.

    Parameters
    ----------
    days : array of float
        When each set started [days].
    values : array of float
        The sets' values, in any unit.

    Returns
    -------
    Slope
        Per day, with the 95 % interval; all NaN under `MIN_POINTS` points or `MIN_SPAN_DAYS`.
    """
    good = np.isfinite(days) & np.isfinite(values)
    days, values = days[good], values[good]
    if len(days) < MIN_POINTS or np.ptp(days) < MIN_SPAN_DAYS:
        return NO_SLOPE
    chosen = thin(days)
    return theil_sen(days[chosen], values[chosen])


def percent_per_30d(slope: float) -> float:
    """Return a slope of logarithms as a change in percent.

    Parameters
    ----------
    slope : float
        Slope of the natural logarithm [1/day].

    Returns
    -------
    float
        Change in 30 days [%].

    Notes
    -----
    100 (exp(30 slope) - 1), held below 10^300 so that no slope becomes infinite.
    """
    return float(100.0 * np.expm1(min(30.0 * slope, 685.0))) if np.isfinite(slope) else np.nan


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


def of_whole_tenants(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are of whole tenants: sets of a table say nothing of a tenant's.

    Parameters
    ----------
    rows : DataFrame
        Tenant rows.

    Returns
    -------
    DataFrame
        Those that are not of databases or tables.
    """
    kinds = rows["backup_object_type"].cat
    partial = [str(each).strip().upper() in PARTS_OF_A_TENANT for each in kinds.categories]
    if not any(partial):
        return rows
    return rows[~np.array([*partial, False])[kinds.codes]]


def one_copy(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per backup set: copies in several storage classes are one set.

    Parameters
    ----------
    rows : DataFrame
        Tenant rows of one state.

    Returns
    -------
    DataFrame
        Of the copies the one that started, then ended, first, and of equal ones the smallest that
        has a size; in order of `start_time`, then `backup_set_id`.
    """
    order = ["start_time", "backup_set_id", "end_time", "size_gib"]
    rows = rows.sort_values(order, kind="stable", na_position="last")
    return rows[~rows.duplicated(["instance_id", "tenant_id", "backup_set_id"])]


SERIES = ["instance_id", "tenant_id", "full"]
"""What makes a series: full and incremental sets are never pooled."""


def series_of(rows: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Give every row the number of the series it belongs to.

    Parameters
    ----------
    rows : DataFrame
        Tenant rows.

    Returns
    -------
    heads : DataFrame
        One row per series in order of instance, tenant, and mode (full, incremental, unknown):
        instance_id, tenant_id, tenant_name (the newest one), full.
    codes : array of int
        Each row's position in `heads`.
    """
    keys = rows[["instance_id", "tenant_id"]].astype("string")
    keys["mode"] = (1 - rows["full"].astype("Int64")).fillna(2).astype("int64")
    grouped = keys.groupby(list(keys.columns), sort=True, dropna=False)
    codes = grouped.ngroup().to_numpy().astype(np.intp)
    newest = np.lexsort((days_of(rows["start_time"]).argsort(kind="stable").argsort(), codes))
    last = newest[np.flatnonzero(np.diff(codes[newest], append=-1))]
    heads = rows[["instance_id", "tenant_id", "full"]].iloc[last].reset_index(drop=True)
    heads.insert(2, "tenant_name", rows["tenant_name"].iloc[last].reset_index(drop=True))
    return _labels(heads), codes


def split(codes: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """Return the positions of every series' rows.

    Parameters
    ----------
    codes : array of int
        Each row's series.
    count : int
        How many series there are.

    Returns
    -------
    list of array of int
        `count` arrays, in the rows' order.
    """
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, count)))[:count]


def _labels(heads: pd.DataFrame) -> pd.DataFrame:
    """Return the heads with categories that hold only what is there."""
    for name in ("instance_id", "tenant_id", "tenant_name"):
        heads[name] = heads[name].astype("category").cat.remove_unused_categories()
    return heads


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
