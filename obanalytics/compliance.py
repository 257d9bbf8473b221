"""Sum up how well tenants were covered: shares of time, worst exposure, what is so now, days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.curve import (
    gaps_of,
    limits,
    micro,
    newest_at,
    pieces_of,
    scene_of,
    unknown_in,
    who,
)
from obanalytics.recovery import NAT, NEVER, integers, labels, search, spans, times
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from obanalytics.curve import Gaps, Limits, Pieces, View
    from obanalytics.recovery import Chains, Ints
    from obanalytics.schema import BackupSets, Instant

_P95 = 0.95


def rpo_compliance(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    rpo: Limits,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
    grace: Limits = "0h",
    trust_unknown: bool = False,
    total: bool = False,
) -> pd.DataFrame:
    """Say of every tenant how much of the time it was inside its RPO.

    Parameters
    ----------
    sets, rpo, start, end, as_of, grace, trust_unknown
        As in `coverage_gaps`.
    total : bool
        Add a row for all tenants together, time-weighted; its `tenant_id` is NA.

    Returns
    -------
    DataFrame
        A row per tenant: `instance_id`, `tenant_id`, `tenant_name`, `time_in_rpo` (share of the
        known time; NA where nothing is known), `time_in_rpo_worst` (unknown time counted as out),
        `gaps` (int64), `gap_total`, `unknown` [timedelta], `worst_exposure` [timedelta; NA where
        unbounded], `worst_at` [UTC], `unbounded` (bool), `exposure_now` [timedelta; at `as_of`, or
        at the end of the facts' own window where that is earlier], `exposure_mean` (time-weighted),
        `exposure_p95` [timedelta], `restore_points` (int64, begun in the window),
        `last_checkpoint`, `last_attempt` [UTC], `last_attempt_state` (category), `rpo_ratio`
        (exposure now / RPO; inf where unbounded). `attrs["model"]` as in `exposure`.

    Raises
    ------
    ValueError
        When a tenant has no RPO, or the window ends before it starts.

    Notes
    -----
    ``time_in_rpo = 1 - (gaps - unknown) / (window - unknown)``;
    ``time_in_rpo_worst = 1 - gaps / window``.
    """
    asked: Any = (start, end, as_of)
    made = watched(sets, rpo, asked, grace=grace, trust_unknown=trust_unknown)
    return summed(made, total=total)


def watched(
    sets: BackupSets | pd.DataFrame,
    rpo: Limits,
    asked: tuple[Instant | None, Instant | None, Instant | None] = (None, None, None),
    *,
    grace: Limits = "0h",
    trust_unknown: bool = False,
) -> pd.DataFrame:
    """Measure every tenant, and how long it was watched.

    Parameters
    ----------
    sets, rpo, grace, trust_unknown
        As in `rpo_compliance`.
    asked : tuple of instant or None
        `start`, `end` and `as_of`, as there.

    Returns
    -------
    DataFrame
        As `rpo_compliance` returns it, and `window` [µs].
    """
    scene = scene_of(sets, *asked)
    limit = limits(rpo, scene.tenants)
    bound = limit + limits(grace, scene.tenants, "grace")
    parts, newest = [], []
    for view in scene.views():
        mine = slice(view.part.first, view.part.first + view.part.count)
        chains = view.trusting if trust_unknown else view.certain
        gaps = gaps_of(view, chains, bound[mine])
        columns = _sums(view, gaps, bound[mine], trust_unknown=trust_unknown)
        columns |= _worst(view, pieces_of(view, chains)) | _now(view, chains, limit[mine])
        parts.append(columns | _counts(view, chains))
        newest.append(view.newest_row)
    made = who(scene, newest)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in _NUMBERS if parts}
    whole = whole or {name: np.zeros(0, kind) for name, kind in _NUMBERS.items()}
    made = made.assign(**_columns(whole))[[name for name, _ in COMPLIANCE]]
    made["window"] = whole["window"]
    made.attrs["model"] = scene.model
    return made


def summed(made: pd.DataFrame, *, total: bool) -> pd.DataFrame:
    """Return compliance as it is told, with the row of all tenants where it is wanted.

    Parameters
    ----------
    made : DataFrame
        What `watched` returned.
    total : bool
        Whether it is wanted.

    Returns
    -------
    DataFrame
        As `rpo_compliance` returns it.
    """
    tenants = made.drop(columns="window")
    if not total:
        return tenants
    whole = _with_total(tenants, made["window"].to_numpy())
    whole.attrs = dict(made.attrs)
    return whole


COMPLIANCE = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("time_in_rpo", "float64"),
    ("time_in_rpo_worst", "float64"),
    ("gaps", "int64"),
    ("gap_total", "span"),
    ("unknown", "span"),
    ("worst_exposure", "span"),
    ("worst_at", "instant"),
    ("unbounded", "bool"),
    ("exposure_now", "span"),
    ("exposure_mean", "span"),
    ("exposure_p95", "span"),
    ("restore_points", "int64"),
    ("last_checkpoint", "instant"),
    ("last_attempt", "instant"),
    ("last_attempt_state", "category"),
    ("rpo_ratio", "float64"),
)


_NUMBERS: dict[str, type] = {
    **dict.fromkeys(("window", "out", "unknown", "gaps", "restore_points", "state"), np.int64),
    **dict.fromkeys(("worst", "worst_at", "mean", "p95", "now", "newest", "attempt"), np.int64),
    "unbounded": bool,
    "ratio": float,
}


def _columns(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers as the columns that are told."""
    out, unknown, window = whole["out"], whole["unknown"], whole["window"]
    return {
        "time_in_rpo": _share(out - unknown, window - unknown),
        "time_in_rpo_worst": _share(out, window),
        "gaps": whole["gaps"],
        "gap_total": spans(out),
        "unknown": spans(unknown),
        "worst_exposure": spans(whole["worst"]),
        "worst_at": times(whole["worst_at"]),
        "unbounded": whole["unbounded"],
        "exposure_now": spans(whole["now"]),
        "exposure_mean": spans(whole["mean"]),
        "exposure_p95": spans(whole["p95"]),
        "restore_points": whole["restore_points"],
        "last_checkpoint": times(whole["newest"]),
        "last_attempt": times(whole["attempt"]),
        "last_attempt_state": labels(whole["state"], STATES),
        "rpo_ratio": whole["ratio"],
    }


def _sums(view: View, gaps: Gaps, bound: Ints, *, trust_unknown: bool) -> dict[str, Any]:
    """Return how long each tenant was watched, out of its RPO, and unknown."""
    count, where = view.part.count, (gaps.group, gaps.start, gaps.end)
    unknown = unknown_in(view, gaps, bound, where, trust_unknown=trust_unknown)
    sums = {"out": np.zeros(count, np.int64), "unknown": np.zeros(count, np.int64)}
    np.add.at(sums["out"], gaps.group, gaps.end - gaps.start)
    np.add.at(sums["unknown"], gaps.group, unknown)
    return sums | {
        "window": view.windows,
        "gaps": np.bincount(gaps.group, minlength=count).astype(np.int64),
    }


def _share(out: Any, whole: Any) -> Any:  # noqa: ANN401 - arrays or numbers
    """Return one minus a part of a whole; NA of nothing."""
    whole = np.asarray(whole, np.float64)
    return np.where(whole > 0, 1 - out / np.where(whole > 0, whole, 1), np.nan)


def _worst(view: View, pieces: Pieces) -> dict[str, Any]:
    """Return the highest, the mean and the 95th percentile of exposure."""
    count = view.part.count
    highest, length = pieces.exposure(pieces.end), pieces.end - pieces.start
    worst = np.full(count, NAT)
    np.maximum.at(worst, pieces.group, highest)
    at = np.full(count, NAT)
    is_worst = highest == worst[pieces.group]
    first = np.flatnonzero(is_worst)[::-1]
    at[pieces.group[first]] = pieces.end[first]
    unbounded = np.bincount(pieces.group[pieces.unbounded], minlength=count) > 0
    # An exposure without bound is worst as soon as it begins.
    endless = np.flatnonzero(pieces.unbounded)[::-1]
    at[pieces.group[endless]] = pieces.start[endless]
    middle = np.where(pieces.unbounded | pieces.flat, 0, highest - length / 2)
    area = np.bincount(pieces.group, weights=middle * length, minlength=count)
    nothing = unbounded | (view.windows == 0)
    mean = np.where(nothing, 0, area) / np.where(nothing, 1, view.windows)
    return {
        "worst": np.where(unbounded, NAT, worst),
        "worst_at": at,
        "unbounded": unbounded,
        "mean": np.where(nothing, NAT, np.round(mean).astype(np.int64)),
        "p95": _percentile(view, pieces),
    }


def _percentile(view: View, pieces: Pieces) -> Ints:
    """Return the exposure that is not exceeded 95 % of the time.

    The time spent at or below x grows with slope one for every piece that x is inside of; so it is
    summed up over the pieces' lowest and highest exposures in order. Flat pieces are all at zero.
    """
    count, length = view.part.count, pieces.end - pieces.start
    flat = np.bincount(pieces.group, weights=length * pieces.flat, minlength=count)
    sloped = ~pieces.unbounded & ~pieces.flat
    high = pieces.exposure(pieces.end)[sloped]
    level = np.concatenate([high - length[sloped], high])
    slope = np.repeat([1, -1], sloped.sum())
    group = np.tile(pieces.group[sloped], 2)
    order = np.lexsort((-slope, level, group))
    group, level, slope = group[order], level[order], slope[order]
    running = np.cumsum(slope)
    is_last = np.append(group[1:] != group[:-1], [True])[: len(group)]
    spent = np.cumsum(running * np.where(is_last, 0, np.diff(level, append=0)))
    before = np.append([0], spent)[:-1]
    heads = np.searchsorted(group, np.arange(count))
    base = np.append(before, [0])[np.minimum(heads, len(before))]
    target = np.ceil(view.windows * _P95).astype(np.int64)
    total = flat + np.bincount(pieces.group[sloped], weights=length[sloped], minlength=count)
    known = (view.windows > 0) & (total >= target) & (target > 0)
    result = np.where(known, 0, NAT)
    target -= flat.astype(np.int64)
    rising = known & (target > 0)
    if rising.any():
        at = search(group, spent, np.flatnonzero(rising), (base + target)[rising])
        at = np.minimum(at, len(group) - 1)
        missing = (base + target)[rising] - before[at]
        steps = np.round(missing / np.maximum(running[at], 1)).astype(np.int64)
        result[rising] = level[at] + steps
    return result


def _now(view: View, chains: Chains, limit: Ints) -> dict[str, Any]:
    """Return what is so at `as_of`, or at the end of the facts' own window."""
    newest, exposed = _exposed(view, chains)
    return {"now": exposed, "newest": newest, "ratio": ratios(exposed, limit)}


def ratios(exposed: Ints, limit: Ints) -> Any:  # noqa: ANN401 - an array
    """Return how much of what may be lost would be.

    Parameters
    ----------
    exposed : ndarray of int
        What would be lost; `NAT` where that is unbounded [µs].
    limit : ndarray of int
        What may be [µs].

    Returns
    -------
    ndarray of float
        Infinite where unbounded.
    """
    lost = np.where(exposed == NAT, 0, exposed)
    ratio = np.where(
        limit > 0, lost / np.where(limit > 0, limit, 1), np.where(lost > 0, np.inf, 0.0)
    )
    return np.where(exposed == NAT, np.inf, ratio)


def trusted_now(sets: BackupSets | pd.DataFrame, as_of: Instant | None) -> tuple[Any, Ints]:
    """Return what would be lost now if what is unknown of sets were trusted.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    tuple of DataFrame, ndarray of int
        The tenants; `exposure_now` of each, `NAT` where it is unbounded [µs].
    """
    scene = scene_of(sets, None, None, as_of)
    parts = [_exposed(view, view.trusting)[1] for view in scene.views()]
    return scene.tenants, np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _exposed(view: View, chains: Chains) -> tuple[Ints, Ints]:
    """Return the newest checkpoint, and what would be lost without what is behind it."""
    known = view.scene.known
    # Where the facts are those of a window, what began after it is not among them.
    seen = [each for each in (known.as_of, known.window.end) if each is not None]
    now = NAT if known.as_of is None else micro(min(seen))
    newest, never, _ = newest_at(view, chains, now)
    origin = np.where(never, view.first, newest) if view.scene.begin is None else newest
    unbounded = (origin == NAT) | (origin == NEVER)
    # A tenant set begins after its cluster set, so it may begin after the window's end.
    return newest, np.where(unbounded, NAT, np.maximum(now - origin, 0))


def _counts(view: View, chains: Chains) -> dict[str, Any]:
    """Return the restore points of the window and the last attempt."""
    count, begin = view.part.count, view.begin[chains.group]
    in_window = view.scene.known.tenants["in_window"].array[view.part.row]
    inside = (chains.start >= begin) & (chains.start < view.end) & in_window
    counted = chains.group[chains.restorable & inside]
    last = np.full(count, -1)
    begun = np.flatnonzero(chains.start != NEVER)
    last[chains.group[begun]] = begun
    starts = np.append(chains.start, [NAT])
    return {
        "restore_points": np.bincount(counted, minlength=count).astype(np.int64),
        "attempt": starts[last],
        "state": np.append(view.part.state, np.int8(-1))[last].astype(np.int64),
    }


def _with_total(made: pd.DataFrame, windows: Ints) -> pd.DataFrame:
    """Add the row of all tenants together."""
    lengths = integers(made["gap_total"]), integers(made["unknown"]), windows
    out, unknown, window = (int(each.sum()) for each in lengths)
    unbounded = bool(made["unbounded"].any())
    known_worst = not unbounded and len(made) > 0 and made["worst_exposure"].notna().any()
    worst = int(made["worst_exposure"].argmax()) if known_worst else None
    row: dict[str, Any] = {
        "time_in_rpo": float(_share(out - unknown, window - unknown)),
        "time_in_rpo_worst": float(_share(out, window)),
        "gaps": int(made["gaps"].sum()),
        "gap_total": pd.Timedelta(out, "us"),
        "unknown": pd.Timedelta(unknown, "us"),
        "unbounded": unbounded,
        "worst_exposure": pd.NaT if worst is None else made["worst_exposure"].iloc[worst],
        "worst_at": pd.NaT if worst is None else made["worst_at"].iloc[worst],
        "exposure_now": pd.NaT if made["exposure_now"].isna().any() else made["exposure_now"].max(),
        "restore_points": int(made["restore_points"].sum()),
        "last_checkpoint": made["last_checkpoint"].min(skipna=False),
        "last_attempt": made["last_attempt"].max(),
        "rpo_ratio": float(made["rpo_ratio"].max()) if len(made) else float("nan"),
    }
    weights = windows / window if window else np.zeros(len(made))
    means = integers(made["exposure_mean"])
    if window and not made.loc[weights > 0, "exposure_mean"].isna().any():
        mean = np.sum(np.where(weights > 0, means, 0) * weights)
        row["exposure_mean"] = pd.Timedelta(int(mean), "us")
    last = pd.DataFrame(
        {name: pd.array([row.get(name)], dtype=kind) for name, kind in made.dtypes.items()}
    )
    return pd.concat([made, last], ignore_index=True)
