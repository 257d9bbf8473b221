"""Forecast a series by simple methods, from many instants at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]
    Method: TypeAlias = "Callable[[Floats, Ints, int, int], Floats]"
    Slow: TypeAlias = "Callable[[Floats, int], Floats]"

_TRAIN, _RECENT, _LEVEL = 10, 7, 14  # values that a drift, a line's end and a level need
_PAIRS = 256  # so many pairs of either distance tell a slope


def guesses_of(series: Floats, origins: Ints, ahead: int, season: int | None) -> dict[str, Floats]:
    """Return what each method that needs nothing but numpy forecasts.

    Parameters
    ----------
    series : array of float
        Regular, without gaps.
    origins : array of int
        How many values are known at each instant.
    ahead : int
        How many steps.
    season : int or None
        Steps after which a pattern comes again.

    Returns
    -------
    dict of array of float
        By name of the method: a row per instant, a column per step.
    """
    rows, period = np.broadcast_to(series, (len(origins), len(series))), season or 1
    made = {name: method(rows, origins, ahead, period) for name, method in _PLAIN.items()}
    if (series > 0).all():
        logs, top = np.log(rows), float(np.log(series.max())) + 5.0
        for name, method in _OF_LOGS.items():
            made[name] = np.exp(np.minimum(method(logs, origins, ahead, period), top))
    if season is None:
        return made
    effect = _effects(series, origins, period)
    flat = rows - effect[:, np.arange(len(series)) % period]
    later = origins[:, None] + np.arange(ahead)
    again = np.take_along_axis(effect, later % period, axis=1)
    made["season"] = series[origins[:, None] - period + np.arange(ahead) % period]
    for name, method in _PLAIN.items():
        made[f"{name}_season"] = method(flat, origins, ahead, period) + again
    return made


def _ends(rows: Floats, origins: Ints, count: int) -> Floats:
    """Return the last values that are known, so many of each row."""
    at = np.maximum(origins[:, None] - count + np.arange(count), 0)
    return np.asarray(np.take_along_axis(rows, at, axis=1), np.float64)


def _level(value: Floats, ahead: int) -> Floats:
    """Return one value for all steps."""
    return np.repeat(value[:, None], ahead, axis=1)


def _last(rows: Floats, origins: Ints, ahead: int, period: int) -> Floats:
    """Forecast the last value."""
    del period
    return _level(_ends(rows, origins, 1)[:, 0], ahead)


def _walk(rows: Floats, origins: Ints, ahead: int, period: int) -> Floats:
    """Forecast a random walk with drift."""
    del period
    return _drifting(rows, origins, ahead, origins)


def _recent(rows: Floats, origins: Ints, ahead: int, period: int) -> Floats:
    """Forecast a random walk with the drift of its last quarter."""
    del period
    return _drifting(rows, origins, ahead, np.minimum(np.maximum(origins // 4, _TRAIN), origins))


def _drifting(rows: Floats, origins: Ints, ahead: int, many: Ints) -> Floats:
    """Forecast a random walk with the drift of its last values, so many."""
    end = _ends(rows, origins, 1)
    begin = np.take_along_axis(rows, (origins - many)[:, None], axis=1)
    drift = (end - begin) / np.maximum(many - 1, 1)[:, None]
    return np.asarray(end + drift * np.arange(1, ahead + 1), np.float64)


def _middle(rows: Floats, origins: Ints, ahead: int, period: int) -> Floats:
    """Forecast the median of the last values."""
    del period
    return _level(np.median(_ends(rows, origins, _LEVEL), axis=1), ahead)


def _line(rows: Floats, origins: Ints, ahead: int, period: int) -> Floats:
    """Forecast a Theil-Sen line through the median of what the last values leave."""
    slope = _slopes(rows, origins, period)[:, None]
    rest = _ends(rows, origins, _RECENT) - slope * np.arange(-_RECENT, 0)
    return np.asarray(np.median(rest, axis=1)[:, None] + slope * np.arange(ahead), np.float64)


def _slopes(rows: Floats, origins: Ints, period: int) -> Floats:
    """Return the median slope of pairs that are a half and two thirds of what is known apart.

    These are the pairs that tell; with a season they are whole seasons apart.
    """
    made, counts = [], np.zeros(len(origins), np.int64)
    for share in (1 / 2, 2 / 3):
        gap = np.maximum((origins * share).astype(np.int64) // period, 1) * period
        there = origins - gap
        many = np.minimum(there, _PAIRS)
        place = np.arange(int(many.max()))
        first = np.minimum(place * there[:, None] // many[:, None], there[:, None] - 1)
        rise = np.take_along_axis(rows, first + gap[:, None], axis=1)
        rise = (rise - np.take_along_axis(rows, first, axis=1)) / gap[:, None]
        made.append(np.where(place < many[:, None], rise, np.inf))
        counts += many
    return _medians(np.concatenate(made, axis=1), counts, 1)


def _medians(values: Floats, counts: Ints, axis: int) -> Floats:
    """Return medians of values that are filled up with infinity to so many that count."""
    order, counts = np.sort(values, axis=axis), np.expand_dims(np.maximum(counts, 1), axis)
    low, high = ((counts - 1) // 2, counts // 2)
    pair = [np.take_along_axis(order, at, axis=axis) for at in (low, high)]
    return np.asarray(np.squeeze((pair[0] + pair[1]) / 2, axis), np.float64)


def _effects(series: Floats, origins: Ints, period: int) -> Floats:
    """Return by how much each place in the season usually differs from the mean around it."""
    total = np.concatenate([[0.0], np.cumsum(series)])
    begin = np.arange(len(series)) - period // 2
    good = (begin >= 0) & (begin + period <= len(series))
    rest = np.full(-(-len(series) // period) * period, np.inf)
    mean = (total[begin[good] + period] - total[begin[good]]) / period
    rest[: len(series)][good] = series[good] - mean
    # What is around a point is known later than the point.
    known = np.arange(len(rest)) - period // 2 + period <= origins[:, None]
    seasons = np.where(known, rest, np.inf).reshape(len(origins), -1, period)
    counts = np.isfinite(seasons).sum(axis=1)
    effect = np.where(counts > 0, _medians(seasons, counts, 1), 0.0)
    return np.asarray(effect - effect.mean(axis=1, keepdims=True), np.float64)


_PLAIN: dict[str, Method] = {
    "last": _last,
    "drift": _walk,
    "recent_drift": _recent,
    "median": _middle,
    "line": _line,
}
_OF_LOGS: dict[str, Method] = {"growth": _walk, "growth_line": _line}


def slow_guesses(
    name: str, series: Floats, origins: Ints, ahead: int, season: int | None
) -> Floats:
    """Return what a method of statsmodels forecasts.

    Parameters
    ----------
    name : str
        One of `slow_methods`.
    series, origins, ahead, season : array, array, int, int or None
        As in `guesses_of`; the season is taken out before and added again.

    Returns
    -------
    array of float
        A row per instant, a column per step.
    """
    method, made = slow_methods()[name], np.empty((len(origins), ahead))
    for row, origin in enumerate(origins.tolist()):
        known = series[:origin]
        if season is None:
            made[row] = method(known, ahead)
            continue
        effect = _effects(known, np.array([origin]), season)[0]
        flat = known - effect[np.arange(origin) % season]
        made[row] = method(flat, ahead) + effect[np.arange(origin, origin + ahead) % season]
    return made


@lru_cache(maxsize=1)
def slow_methods() -> dict[str, Slow]:
    """Return the methods of statsmodels.

    Returns
    -------
    dict of function
        By name, from a series and a number of steps to the forecast; empty where statsmodels is
        not installed.
    """
    try:
        from statsmodels.tsa.forecasting.theta import ThetaModel  # noqa: PLC0415 - two seconds
        from statsmodels.tsa.holtwinters import ExponentialSmoothing  # noqa: PLC0415
    except ImportError:
        return {}

    def smooth(series: Floats, ahead: int) -> Floats:
        model = ExponentialSmoothing(
            series, trend="add", damped_trend=True, initialization_method="estimated"
        )
        return np.asarray(model.fit().forecast(ahead), np.float64)

    def theta(series: Floats, ahead: int) -> Floats:
        made = ThetaModel(series, period=1, deseasonalize=False).fit().forecast(ahead)
        return np.asarray(made, np.float64)

    return {name: _quiet(each) for name, each in (("ets_damped", smooth), ("theta", theta))}


def _quiet(method: Slow) -> Slow:
    """Return a method without its warnings; it forecasts the last value where it fails."""
    import warnings  # noqa: PLC0415 - with the models only

    def made(series: Floats, ahead: int) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = method(series, ahead)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):
                value = np.full(ahead, np.nan)
        return value if np.isfinite(value).all() else np.full(ahead, series[-1])

    return made
