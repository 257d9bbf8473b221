"""Forecast how large backups will be, and when a threshold is crossed, with the method's record."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.carry import Carried
from obanalytics.curve import micro
from obanalytics.flows import DAY, Asked, Sets, flow_of, stock_at, store_of, store_record
from obanalytics.horizon import CANDIDATES, Record, crossed, forecast_values, paths
from obanalytics.recovery import NAT, times
from obanalytics.schema import STATES, BackupSets, as_duration
from obanalytics.series import DONE, fleet_series, runs_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from obanalytics.flows import Flow, Store
    from obanalytics.recovery import Ints
    from obanalytics.schema import Instant
    from obanalytics.series import Runs

    Floats: TypeAlias = NDArray[np.float64]

__all__ = ["forecast_size", "forecast_values"]

LEVELS = ("tenant", "cluster", "fleet")
WHAT = ("full_size", "incremental_size", "stored")
_FAILED = [STATES.index("failed"), STATES.index("cancelled")]
_WHOSE = ("instance_id", "tenant_id", "tenant_name")
_SHARES = (10, 50, 90)
_MOST_BACK = 400  # days of what was in store that a chart gets
_MOST_DAYS = 36_525
_UNITS = {
    "median_gib": "GiB",
    "lower_gib": "GiB",
    "upper_gib": "GiB",
    "p_crossed": "probability",
    "n": "points",
    "origins": "past forecasts",
    "mase": "mean absolute error by that of the naive forecast of the next point",
    "mase_naive": "the same of the naive forecast over these distances",
    "coverage": "share",
    "p_not_crossed": "probability",
}


class _Owner(NamedTuple):
    """Whose sets are forecast together."""

    names: tuple[Any, Any, Any]
    flows: dict[str, Flow]
    sets: tuple[Sets, ...]
    """One element; of the fleet those of every cluster or tenant."""


class _Piece(NamedTuple):
    """The rows of one series of the result."""

    names: tuple[Any, Any, Any]
    what: int
    times: Ints
    bands: tuple[Floats, Floats, Floats]
    method: str
    record: Record
    crossing: Floats | None
    refused: str


def forecast_size(  # noqa: PLR0913 - what is asked, of whom, and how sure
    sets: BackupSets | pd.DataFrame,
    horizon: Any = "90D",  # noqa: ANN401 - what pandas.Timedelta takes
    *,
    level: float = 0.9,
    threshold: Any = None,  # noqa: ANN401 - a number or a mapping
    retention_days: float | None = None,
    by: str = "tenant",
    candidates: str = "all",
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Forecast the sizes of coming backup sets, and what will be in store.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    horizon : duration
        How far ahead, from `as_of`; at most half of the history.
    level : float
        Share of the future values that the bands are to hold.
    threshold : float, mapping or None
        A size: one, or one by tenant_id, (instance_id, tenant_id) or (of clusters) instance_id
        [GiB]. It is of what is in store where that is forecast, else of the full sets.
    retention_days : float or None
        The server's recovery window [days]; without it what is in store is not forecast.
    by : {"tenant", "cluster", "fleet"}
        What makes a series, as in `size_growth`.
    candidates : {"all", "core"}
        Whether damped exponential smoothing and Theta are tried too, where `statsmodels` is
        installed (the extra `forecast`); they take a second a series. What is in store is always
        forecast by the others.
    as_of : instant or None
        The instant to look from; None takes that of the facts, or the end of their window where
        that is earlier: what comes after it is not looked at, and so no silence [UTC].

    Returns
    -------
    DataFrame
        A row per series and step: instance_id, tenant_id, tenant_name (NA where they do not
        apply), what (full_size, incremental_size, stored), time [UTC], median_gib, lower_gib,
        upper_gib [GiB], p_crossed (the probability that the threshold is reached by then; NA
        without one), method, n, origins, mase, mase_naive, coverage (the record of the method on
        this series: from so many past instants, its error, that of the naive forecast, and how
        often its own bands held), cross_10, cross_50, cross_90 (when the threshold is reached with
        so many percent [UTC]; NA: not within the horizon), p_not_crossed, refused (why a series is
        not forecast: it has one row, without a time). `attrs` hold the units, level, threshold,
        horizon, notes and the `history`.

    Raises
    ------
    ValueError
        When an argument makes no sense.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    Sizes are put on regular slots, the median interval apart, and forecast by `forecast_values`,
    which takes rare steps out of the history. What is in store is a thousand courses of the coming
    full and incremental sets, run through the server's rule together with those in the list.
    Probabilities count the courses that have reached the threshold by an instant.

    References
    ----------
    Hyndman, R. J. & Koehler, A. B. (2006). Another look at measures of forecast accuracy.
    International Journal of Forecasting 22, 679-688.
    """
    _check(by, level, candidates, retention_days)
    if not isinstance(threshold, Mapping | pd.Series):
        _limit(threshold, (None, None, None))  # a slip is told before anything is computed
    runs = runs_of(sets, _looked_from(sets, as_of), level=_level(sets, by))
    asked = Asked(
        NAT if runs.as_of is None else micro(runs.as_of),
        max(micro(as_duration(horizon, "horizon")), 1),
        level,
        candidates,
    )
    window = None if retention_days is None else round(retention_days * DAY)
    owners = _owners(runs, by, asked)
    pieces: list[_Piece] = []
    for owner in owners:
        limit = _limit(threshold, owner.names)
        stored = _stored(owner, window, asked, limit)
        is_stored = not stored.refused
        pieces += [
            _sizes(owner.names, what, flow, None if is_stored else limit)
            for what, flow in owner.flows.items()
        ]
        pieces.append(stored)
    made = _table(pieces)
    made.attrs = {
        "units": dict(_UNITS),
        "level": level,
        "threshold": _plain(threshold),
        "horizon": str(pd.Timedelta(asked.horizon, "us")),
        "retention_days": retention_days,
        "by": by,
        "history": Carried(partial(_history, _slots(owners, pieces, window, asked))),
    }
    return made


def _check(by: str, level: float, candidates: str, retention_days: float | None) -> None:
    """Refuse what makes no sense."""
    if by not in LEVELS:
        raise ValueError(f"by must be one of {', '.join(LEVELS)}, not {by!r}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level!r}")
    if candidates not in CANDIDATES:
        raise ValueError(f"candidates must be one of {', '.join(CANDIDATES)}, not {candidates!r}")
    if retention_days is not None and not 0 < retention_days <= _MOST_DAYS:
        raise ValueError(
            f"retention_days must be days from above 0 to {_MOST_DAYS}, not {retention_days!r}"
        )


def _looked_from(sets: BackupSets | pd.DataFrame, as_of: Instant | None) -> Instant | None:
    """Return the instant to forecast from: a window that ended has no present beyond its end."""
    if as_of is not None or not isinstance(sets, BackupSets) or sets.window is None:
        return as_of
    now, end = sets.as_of, sets.window.end
    return end if end is not None and now is not None and end < now else as_of


def _level(sets: BackupSets | pd.DataFrame, by: str) -> str:
    """Return whose sets are read: of the fleet those of clusters, where they are there."""
    if by == "tenant" or (by == "fleet" and not isinstance(sets, BackupSets)):
        return "tenant"
    return "cluster"


def _owners(runs: Runs, by: str, asked: Asked) -> list[_Owner]:
    """Return who has sets in the window, with what they will write."""
    heads, made = runs.heads, []
    keys = heads.groupby(["instance_id", "tenant_id"], observed=True, dropna=False, sort=False)
    number = keys.ngroup().to_numpy()
    entries = number[runs.series]
    for each in range(int(number.max(initial=-1)) + 1):
        mine = entries == each if len(heads) > 1 else np.ones(len(entries), bool)
        if not (runs.inside & mine).any():
            continue
        own = _sets(runs, np.flatnonzero(mine))
        last = np.flatnonzero(number == each)[-1]
        names = tuple(heads[name].iloc[last] for name in _WHOSE)
        flows = {} if by == "fleet" else _flows(own, asked)
        made.append(_Owner(names, flows, (own,)))
    if by != "fleet" or not made:
        return made
    return [_Owner((None, None, None), _fleet(runs, asked), tuple(o.sets[0] for o in made))]


def _sets(runs: Runs, entries: Ints) -> Sets:
    """Return the sets of some entries in order of start."""
    start = runs.start[entries]
    at = entries[np.argsort(np.where(start == NAT, np.iinfo(np.int64).max, start), kind="stable")]
    full = runs.heads["full"].to_numpy(dtype="float64", na_value=np.nan)
    return Sets(
        start=runs.start[at],
        end=runs.end[at],
        size=runs.size[at],
        full=full[runs.series[at]],
        state=runs.state[at],
        failed=np.isin(runs.state[at], _FAILED),
        inside=runs.inside[at],
    )


def _flows(sets: Sets, asked: Asked) -> dict[str, Flow]:
    """Return the series of sizes, full and incremental."""
    good = (sets.state == DONE) & sets.inside & np.isfinite(sets.size) & (sets.start != NAT)
    return {
        what: flow_of(sets.start[mine], sets.size[mine], asked)
        for what, mode in (("full_size", 1.0), ("incremental_size", 0.0))
        if (mine := good & (sets.full == mode)).any()
    }


def _fleet(runs: Runs, asked: Asked) -> dict[str, Flow]:
    """Return the sizes of everything together."""
    full = runs.heads["full"].to_numpy(dtype="float64", na_value=np.nan)[runs.series]
    good = (runs.state == DONE) & runs.inside & np.isfinite(runs.size) & (runs.start != NAT)
    made = {}
    for what, mode in (("full_size", 1.0), ("incremental_size", 0.0)):
        mine = runs.where(good & (full == mode))
        start, size = fleet_series(mine.series, mine.start, mine.size, stock=mode == 1.0)
        if len(start):
            made[what] = flow_of(start, size, asked)
    return made


def _limit(threshold: Any, names: tuple[Any, Any, Any]) -> float | None:  # noqa: ANN401
    """Return the threshold of a series; None: it has none."""
    if threshold is None:
        return None
    found = threshold
    if isinstance(threshold, Mapping | pd.Series):
        table = dict(threshold.items())
        instance, tenant, _ = names
        found = table.get((instance, tenant), table.get(tenant, table.get(instance)))
        if found is None:
            return None
    is_number = isinstance(found, int | float | np.number) and not isinstance(found, bool)
    if not is_number or not 0 < float(found) < np.inf:
        raise ValueError(f"threshold must be a size above 0 [GiB], not {found!r}")
    return float(found)


_NO_RECORD = Record(np.nan, np.nan, np.nan, 0, 0)
_NOTHING = np.zeros(0)


def _sizes(names: tuple[Any, Any, Any], what: str, flow: Flow, limit: float | None) -> _Piece:
    """Return the rows of a series of sizes."""
    code = WHAT.index(what)
    if flow.made is None:
        record = _NO_RECORD._replace(n=len(flow.gib))
        none = (_NOTHING, _NOTHING, _NOTHING)
        return _Piece(names, code, flow.times[:0], none, "", record, None, flow.refused)
    value, half = flow.made.value, flow.made.half
    bands = tuple(np.maximum(each, 0.0) for each in (value, value - half, value + half))
    crossing = None
    if limit is not None and what == "full_size":
        crossing = crossed(paths(flow.made), limit)
    return _Piece(names, code, flow.ahead, bands, flow.made.method, flow.made.record, crossing, "")  # type: ignore[arg-type]


def _stored(owner: _Owner, window: int | None, asked: Asked, limit: float | None) -> _Piece:
    """Return the rows of what is in store."""
    none = (_NOTHING, _NOTHING, _NOTHING)
    refused = "" if window is not None else "retention_days is not given: what goes is not known"
    stores: list[Store] = []
    for number, sets in enumerate(owner.sets if window is not None else ()):
        store, why = store_of(sets, window or 0, asked, 2 * number)
        if store is None:
            refused = why if len(owner.sets) == 1 else f"one of {len(owner.sets)}: {why}"
            break
        stores.append(store)
    if refused or not stores or window is None:
        nowhen = np.zeros(0, np.int64)
        return _Piece(owner.names, 2, nowhen, none, "", _NO_RECORD, None, refused)
    courses = np.sum([store.courses for store in stores], axis=0)
    low, middle, high = np.quantile(
        courses, [(1 - asked.level) / 2, 0.5, (1 + asked.level) / 2], axis=0
    )
    record = _NO_RECORD
    if len(owner.sets) == 1:
        record = store_record(owner.sets[0], window, asked)
    crossing = None if limit is None else crossed(courses, limit)
    when = stores[0].times
    return _Piece(owner.names, 2, when, (middle, low, high), "flows_and_rule", record, crossing, "")


def _table(pieces: list[_Piece]) -> pd.DataFrame:
    """Return the rows of all series."""
    counts = np.array([max(len(piece.times), 1) for piece in pieces], np.int64)
    owner = np.repeat(np.arange(len(pieces)), counts)
    made = pd.DataFrame(
        {
            name: pd.Categorical([piece.names[place] for piece in pieces]).take(owner)
            for place, name in enumerate(_WHOSE)
        }
    )
    what = np.array([piece.what for piece in pieces], np.int64)
    made["what"] = pd.Categorical.from_codes(what[owner], list(WHAT))
    made["time"] = times(_flat(pieces, lambda piece: piece.times, NAT).astype(np.int64))
    for place, name in enumerate(("median_gib", "lower_gib", "upper_gib")):
        made[name] = _flat(pieces, lambda piece, place=place: piece.bands[place], np.nan)
    made["p_crossed"] = _flat(pieces, _crossing_steps, np.nan)
    methods = [piece.method or None for piece in pieces]
    made["method"] = pd.Categorical(methods, sorted({m for m in methods if m})).take(owner)
    for name, dtype in (
        ("n", "int64"),
        ("origins", "int64"),
        ("mase", "float64"),
        ("mase_naive", "float64"),
        ("coverage", "float64"),
    ):
        each = np.array([getattr(piece.record, name) for piece in pieces], dtype)
        made[name] = each[owner]
    for share in _SHARES:
        when = np.array([_crossed_at(piece, share / 100) for piece in pieces], np.int64)
        made[f"cross_{share}"] = times(when[owner])
    left = [np.nan if p.crossing is None else 1.0 - p.crossing[-1] for p in pieces]
    made["p_not_crossed"] = np.array(left, np.float64)[owner]
    made["refused"] = pd.array([piece.refused or None for piece in pieces], "string").take(owner)
    return made


def _crossing_steps(piece: _Piece) -> Floats:
    """Return the probability of every step; NaN without a threshold."""
    return np.full(len(piece.times), np.nan) if piece.crossing is None else piece.crossing


def _flat(pieces: list[_Piece], take: Any, missing: Any) -> Any:  # noqa: ANN401 - arrays
    """Return the values of all series behind each other; one is missing where a series has none."""
    parts = [take(piece) if len(piece.times) else np.array([missing]) for piece in pieces]
    return np.concatenate([*parts, np.zeros(0, type(missing))])


def _crossed_at(piece: _Piece, share: float) -> int:
    """Return the first step by which the threshold is reached with a probability."""
    if piece.crossing is None:
        return NAT
    at = int(np.searchsorted(piece.crossing, share))
    return int(piece.times[at]) if at < len(piece.times) else NAT


def _plain(threshold: Any) -> Any:  # noqa: ANN401 - what JSON takes
    """Return the threshold as JSON takes it."""
    if isinstance(threshold, Mapping | pd.Series):
        return {
            "/".join(map(str, key)) if isinstance(key, tuple) else str(key): float(value)
            for key, value in threshold.items()
        }
    return threshold


class _Slots(NamedTuple):
    """What is known of one series until now."""

    names: tuple[Any, Any, Any]
    what: int
    times: Ints
    gib: Floats


def _slots(
    owners: list[_Owner], pieces: list[_Piece], window: int | None, asked: Asked
) -> list[_Slots]:
    """Return what every series is forecast from; of what is in store what the rule tells."""
    made = [
        _Slots(owner.names, WHAT.index(what), flow.times, flow.gib)
        for owner in owners
        for what, flow in owner.flows.items()
    ]
    stored = [piece for piece in pieces if piece.what == WHAT.index("stored")]
    for owner, piece in zip(owners, stored, strict=True):
        if piece.refused or window is None:
            continue
        first = max(int(sets.end[sets.end != NAT].min()) for sets in owner.sets) + window
        back = min(max((asked.now - first) // DAY, 0), _MOST_BACK)
        when = asked.now - DAY * np.arange(back, -1, -1)
        gib = np.sum([stock_at(sets, window, when) for sets in owner.sets], axis=0)
        made.append(_Slots(owner.names, piece.what, when, gib))
    return made


def _history(rows: list[_Slots]) -> pd.DataFrame:
    """Return what is known of all series as a frame."""
    owner = np.repeat(np.arange(len(rows)), [len(row.times) for row in rows])
    made = pd.DataFrame(
        {
            name: pd.Categorical([row.names[place] for row in rows]).take(owner)
            for place, name in enumerate(_WHOSE)
        }
    )
    what = np.array([row.what for row in rows], np.int64)
    made["what"] = pd.Categorical.from_codes(what[owner], list(WHAT))
    made["time"] = times(np.concatenate([np.zeros(0, np.int64), *(row.times for row in rows)]))
    made["gib"] = np.concatenate([np.zeros(0), *(row.gib[-len(row.times) :] for row in rows)])
    return made
