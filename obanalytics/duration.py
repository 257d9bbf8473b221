"""Measure how long backups take, per tenant and mode, and whether they get slower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.schema import facts
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

    from obanalytics.schema import BackupSets, Instant

    Floats: TypeAlias = NDArray[np.float64]

MIN_GIB = 0.1
"""Under this the server's rounding to 0.01 GiB spoils a throughput [GiB]."""
_SPANS = ("p50", "p95", "max", "last")
_NUMBERS = (
    "percent_per_30d",
    "percent_per_30d_low",
    "percent_per_30d_high",
    "throughput_gib_per_h",
)


def duration_trends(
    sets: BackupSets | pd.DataFrame, *, as_of: Instant | None = None
) -> pd.DataFrame:
    """Measure how long each tenant's backups take, full and incremental apart.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    as_of : instant or None
        The instant to look from; None takes that of `sets` [UTC].

    Returns
    -------
    DataFrame
        One row per instance, tenant and mode, in that order: instance_id, tenant_id, tenant_name
        (the newest), full (NA: unknown mode), sets (done ones in the window, copies counted once),
        untimed (those of them without a usable duration: no start or end, or an end before the
        start), p50, p95, max, last (of the timed ones, timedelta), percent_per_30d with
        percent_per_30d_low and percent_per_30d_high [% in 30 days, 95 % interval],
        throughput_gib_per_h (median over the sets of 0.1 GiB and more [GiB/h]), running (unfinished
        runs at `as_of`, also those that began before the window), oldest_running (the age of the
        oldest of them, timedelta).

    Raises
    ------
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    p50 and p95 are linearly interpolated order statistics. percent_per_30d is 100 (exp(30 b) - 1),
    b the Theil-Sen slope of log duration over start; it needs 8 sets over 6 days, and series
    of more than 1,000 points are thinned to as many, evenly. Throughput is size over duration.
    Unfinished runs enter none of these and are counted beside them.

    References
    ----------
    Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. Journal of
    the American Statistical Association 63, 1379-1389.
    """
    known = facts(sets, as_of)
    frame = of_whole_tenants(known.tenants)
    rows = frame[frame["in_window"] | frame["state"].eq("running")]
    heads, codes = series_of(rows)
    rows = rows.assign(series=codes)
    # A set of which one copy is over is over, whatever its other copies say.
    done = one_copy(rows[rows["state"].eq("done")])
    is_over = frame["state"].isin(["done", "failed", "cancelled"])
    open_runs = one_copy(_without(rows[rows["state"].eq("running")], frame[is_over]))
    measured = _measure_all(done, len(heads))
    for name in ("sets", "untimed"):
        heads[name] = pd.Series([each[name] for each in measured], dtype="int64")
    for name in _SPANS:
        heads[name] = _spans([each[name] for each in measured])
    for name in _NUMBERS:
        heads[name] = pd.Series([each[name] for each in measured], dtype="float64")
    parts = split(open_runs["series"].to_numpy(dtype=np.intp), len(heads))
    heads["running"] = pd.Series([len(part) for part in parts], dtype="int64")
    starts = open_runs["start_time"].reset_index(drop=True)
    now = pd.NaT if known.as_of is None else known.as_of
    ages = [now - starts.iloc[part].min() if len(part) else pd.NaT for part in parts]
    heads["oldest_running"] = pd.Series(ages, dtype="timedelta64[us]")
    return heads


def _without(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose set is not among the others."""
    key = ["instance_id", "tenant_id", "backup_set_id"]
    there = pd.MultiIndex.from_frame(others[key].astype("string"))
    return rows[~pd.MultiIndex.from_frame(rows[key].astype("string")).isin(there)]


def _measure_all(done: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Return the numbers of every series of done sets."""
    days, sizes = days_of(done["start_time"]), done["size_gib"].to_numpy(dtype=np.float64)
    micro = done["duration"].to_numpy(dtype="timedelta64[us]")
    lengths = np.where(np.isnat(micro), np.nan, micro.astype(np.float64))
    parts = split(done["series"].to_numpy(dtype=np.intp), count)
    return [_measure(days[part], lengths[part], sizes[part]) for part in parts]


def _measure(days: Floats, lengths: Floats, sizes: Floats) -> dict[str, Any]:
    """Return the numbers of one series in order of time; lengths and spans in microseconds."""
    good = np.isfinite(days) & (np.nan_to_num(lengths, nan=-1.0) >= 0)
    days, lengths, sizes = days[good], lengths[good], sizes[good]
    numbers: dict[str, Any] = {"sets": len(good), "untimed": int((~good).sum())}
    p50, p95 = np.percentile(lengths, [50, 95]) if len(lengths) else (np.nan, np.nan)
    longest, last = (lengths.max(), lengths[-1]) if len(lengths) else (np.nan, np.nan)
    numbers |= dict(zip(_SPANS, (p50, p95, longest, last), strict=True))
    took = lengths > 0
    fit = slope_of(days[took], np.log(lengths[took]))
    rates = sizes[took] / (lengths[took] / 3_600e6)
    rates = rates[sizes[took] >= MIN_GIB]
    trend = [percent_per_30d(each) for each in (fit.slope, fit.low, fit.high)]
    throughput = float(np.median(rates)) if len(rates) else np.nan
    return numbers | dict(zip(_NUMBERS, (*trend, throughput), strict=True))


def _spans(micro: list[float]) -> pd.Series:
    """Return microseconds as durations."""
    return pd.to_timedelta(pd.Series(micro, dtype="float64").round(), unit="us").astype(
        "timedelta64[us]"
    )
