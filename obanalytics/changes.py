"""Find since when backups take longer or shorter, and whether size or throughput is why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.breaks import MIN_SIZE, change_points_many
from obanalytics.recovery import NAT, labels, times
from obanalytics.series import DONE, runs_of, spans
from obanalytics.wording import format_span, mode_name, plain, tenant_labels

if TYPE_CHECKING:
    from obanalytics.schema import BackupSets, Instant
    from obanalytics.series import Runs

    Floats: TypeAlias = Any
    Ints: TypeAlias = Any

CAUSES = ("size", "throughput", "both", "unknown")
MIN_EFFECT = 0.15
"""A change by a smaller share than this is none, however sure it is."""
MIN_GIB = 0.1
"""Under this the server's rounding to 0.01 GiB is too much of a size to tell a cause [GiB]."""
NEAR = 14
"""How many runs on either side of a change are compared: farther ones have grown [runs]."""
WEEK = 7 * 86_400_000_000
"""Changes that are no farther apart happened together [µs]."""
_SHARE = 2 / 3  # of the change, in logarithms: what carries as much is its cause
_ALIKE = float(np.log(1.05))  # what differs by less is called unchanged
_LEAST_SPAN = 500_000.0  # half of what the service rounds durations to [µs]
_LOOK = 0.5  # of the least effect: steps smaller than this over whole levels are not looked at
_UNITS = {
    "factor": "1",
    "n_before": "runs",
    "n_after": "runs",
    "size_factor": "1",
    "throughput_factor": "1",
    "tenants_changed": "tenants",
    "tenants_in_cluster": "tenants",
}


def duration_changes(
    sets: BackupSets | pd.DataFrame,
    *,
    min_size: int = MIN_SIZE,
    alpha: float = 0.05,
    min_effect: float = MIN_EFFECT,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Find where the duration of each tenant's sets changes for good, full and incremental apart.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    min_size : int
        The fewest runs between two changes, and before the first and after the last [runs].
    alpha : float
        About how often a series without a change may be said to have one, at most.
    min_effect : float
        The least change, as a share: 0.15 is 15 % longer, or as many times shorter.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        One row per change, by series and time: instance_id, tenant_id, tenant_name (the newest),
        full (NA: unknown mode), at (start of the first run after it) and last_before (start of the
        run before that) [UTC], factor (after / before), before, after (median durations), n_before,
        n_after (runs they are of), size_factor, throughput_factor (> 1: slower per GiB; NA where
        not split), cause (size, throughput, both, unknown), tenants_changed (of the cluster, in the
        same direction within 7 days, itself included), tenants_in_cluster (that have a timed run),
        set_before, set_after (the two sets around it), sentence. `attrs`: units, min_size, alpha,
        min_effect.

    Raises
    ------
    ValueError
        When `min_size` is under 2, `alpha` not between 0 and 1, or `min_effect` negative.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    The changes are those that `trend.change_points` finds in the log durations of the done runs of
    the window: stuck runs, drifts and noise that wanders are none. Medians are of the 14 runs next
    to the change on either side (two weeks of daily ones), or as many as there are up to the next
    change: a series that grows is another one far away.

    size_factor = median size after / median size before; throughput_factor = factor / size_factor,
    so that size_factor times throughput_factor is factor. Duration counts as proportional to size:
    an exponent cannot be fitted, since between two changes sizes vary by less than durations do by
    chance, and anything else than the ratio is not "per GiB". The part of log factor that log
    size_factor makes up tells the cause: two thirds and more is `size`, a third and less
    `throughput`, else `both`. Not split (`unknown`) where a median size is under 0.1 GiB or fewer
    than half of the sizes are known.
    """
    if not min_effect >= 0:
        raise ValueError(f"min_effect must be 0 or more, not {min_effect!r}")
    runs = runs_of(sets, as_of)
    runs = runs.where(runs.inside & (runs.state == DONE) & (runs.length != NAT))
    logs = np.log(np.maximum(runs.length.astype(np.float64), _LEAST_SPAN))
    least = float(np.log1p(min_effect))
    series, first = change_points_many(
        logs, runs.bounds, min_size=min_size, alpha=alpha, min_effect=_LOOK * least
    )
    series, first, low, high = _near(logs, runs.bounds, series, first, least)
    table = _table(runs, _heads(runs, series), _measured(runs, first, low, high))
    table = table.join(_together(runs, series, first, table["factor"].to_numpy()))
    table = table.assign(set_before=_ids(runs, first - 1), set_after=_ids(runs, first))
    table["sentence"] = pd.array(sentences(table), dtype="string")
    table.attrs = {
        "units": dict(_UNITS),
        "min_size": min_size,
        "alpha": alpha,
        "min_effect": min_effect,
    }
    return table


def _near(
    logs: Floats, bounds: Ints, series: Ints, first: Ints, least: float
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the changes that are large enough beside them, and the runs around each."""
    kept, low, high = [], [], []
    for number in np.unique(series):
        mine = np.flatnonzero(series == number)
        while len(mine):
            edges = np.concatenate([bounds[[number]], first[mine], bounds[[number + 1]]])
            begin = np.maximum(edges[:-2], edges[1:-1] - NEAR)
            after = np.minimum(edges[2:], edges[1:-1] + NEAR)
            parts = zip(begin, edges[1:-1], after, strict=True)
            apart = [
                abs(float(np.median(logs[at:end]) - np.median(logs[start:at])))
                for start, at, end in parts
            ]
            smallest = int(np.argmin(apart))
            if apart[smallest] >= least:
                kept.append(mine)
                low.append(begin)
                high.append(after)
                break
            mine = np.delete(mine, smallest)
    none = np.zeros(0, np.int64)
    rows = np.concatenate([none, *kept])
    return series[rows], first[rows], np.concatenate([none, *low]), np.concatenate([none, *high])


def _heads(runs: Runs, series: Ints) -> pd.DataFrame:
    """Return the series of the changes, with no category that is not there."""
    heads = runs.heads.take(series).reset_index(drop=True)
    for name in heads.columns[heads.dtypes == "category"]:
        heads[name] = heads[name].cat.remove_unused_categories()
    return heads


def _measured(runs: Runs, first: Ints, low: Ints, high: Ints) -> dict[str, Any]:
    """Return the medians before and after each change."""
    length, size = runs.length.astype(np.float64), runs.size
    sides = {
        "before": list(zip(low, first, strict=True)),
        "after": [*zip(first, high, strict=True)],
    }
    made: dict[str, Any] = {"first": first}
    for name, parts in sides.items():
        spent = [float(np.median(length[start:end])) for start, end in parts]
        made[name] = np.array(spent, np.float64)
        made[f"n_{name}"] = np.array([end - start for start, end in parts], np.int64)
        made[f"size_{name}"] = np.array([_size(size[start:end]) for start, end in parts], float)
    return made


def _size(sizes: Floats) -> float:
    """Return the median size; NaN where it is too small to be told, or too few are known [GiB]."""
    known = sizes[np.isfinite(sizes)]
    if 2 * len(known) < len(sizes):
        return np.nan
    middle = float(np.median(known))
    return middle if middle >= MIN_GIB else np.nan


def _table(runs: Runs, heads: pd.DataFrame, measured: dict[str, Any]) -> pd.DataFrame:
    """Return what each change is, without what happened around it."""
    first, before, after = measured["first"], measured["before"], measured["after"]
    factor = np.maximum(after, _LEAST_SPAN) / np.maximum(before, _LEAST_SPAN)
    size = measured["size_after"] / measured["size_before"]
    return heads.assign(
        at=times(runs.start[first]),
        last_before=times(runs.start[first - 1]),
        factor=factor,
        before=spans(before),
        after=spans(after),
        n_before=measured["n_before"],
        n_after=measured["n_after"],
        size_factor=size,
        throughput_factor=factor / size,
    ).assign(cause=labels(_causes(factor, size), CAUSES).cat.remove_unused_categories())


def _causes(factor: Floats, size: Floats) -> Ints:
    """Return what carries most of each change, as its position in `CAUSES`."""
    whole = np.log(factor)
    share = np.log(size) / np.where(whole == 0, np.nan, whole)
    code = np.where(share >= _SHARE, 0, np.where(share <= 1 - _SHARE, 1, 2))
    return np.where(np.isnan(share), 3, code)


def _together(runs: Runs, series: Ints, first: Ints, factor: Floats) -> pd.DataFrame:
    """Count the tenants of each change's cluster that changed with it, and all of them."""
    instance, tenant = (runs.heads[name].array.codes for name in ("instance_id", "tenant_id"))
    timed = np.diff(runs.bounds) > 0
    there = np.unique(np.stack([instance[timed], tenant[timed]]), axis=1)
    when, slower = runs.start[first], factor > 1
    cluster, who = instance[series], tenant[series]
    changed = np.zeros(len(first), np.int64)
    for each in np.unique(cluster):
        mine = np.flatnonzero(cluster == each)
        for row in mine:
            near = mine[np.abs(when[mine] - when[row]) <= WEEK]
            changed[row] = len(np.unique(who[near[slower[near] == slower[row]]]))
    lives = np.bincount(there[0] + 1, minlength=int(instance.max(initial=-1)) + 2)
    counts = lives[cluster + 1].astype(np.int64)
    return pd.DataFrame({"tenants_changed": changed, "tenants_in_cluster": counts})


def _ids(runs: Runs, entries: Ints) -> Any:  # noqa: ANN401 - an array of texts
    """Return the ids of sets."""
    ids = runs.frame["backup_set_id"].array.take(runs.rows[entries])
    return pd.array(ids.astype(object), dtype="string")


def sentences(table: pd.DataFrame) -> list[str]:
    """Say of each change what it is.

    Parameters
    ----------
    table : DataFrame
        What `duration_changes` returns, before that.

    Returns
    -------
    list of str
        Tenants are called so that those of the table can be told apart.
    """
    names = tenant_labels(table) if len(table) else []
    rows = zip(names, table.itertuples(index=False), strict=True)
    return [_sentence(name, row) for name, row in rows]


def _sentence(name: str, row: Any) -> str:  # noqa: ANN401 - a named tuple
    """Say what a change is."""
    much = _times(row.factor, "slower", "faster", 0)
    spent = f"{format_span(row.before)} -> {format_span(row.after)}"
    parts = [f"{name}, {mode_name(row.full)}: {much} since {row.at:%Y-%m-%d} ({spent})"]
    if row.cause == "unknown":
        parts.append(", sizes too small or unknown to say why")
    else:
        speed = _times(row.throughput_factor, "slower per GiB", "faster per GiB")
        parts.append(f", {speed or 'as fast per GiB'}")
        parts.append(f", {_times(row.size_factor, 'larger', 'smaller') or 'size unchanged'}")
    if row.tenants_in_cluster > 1:
        count = f"{row.tenants_changed:,} of {row.tenants_in_cluster:,} tenants"
        parts.append(f"; {count} changed in the same week")
    ids = f"; last set before {plain(row.set_before)}, first after {plain(row.set_after)}"
    return "".join([*parts, ids])


def _times(factor: float, more: str, less: str, alike: float = _ALIKE) -> str:
    """Say how many times more or less; nothing where it is about the same."""
    apart = float(np.log(factor))
    if abs(apart) < alike:
        return ""
    times_ = float(np.exp(abs(apart)))
    number = f"{times_:,.0f}" if times_ >= 100 else f"{times_:.3g}"  # noqa: PLR2004 - no 1e+02
    return f"{number} x {more if apart > 0 else less}"
