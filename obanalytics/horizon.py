"""Forecast a regular series with bands that its own past errors prove, and say how good they were.

Several simple methods forecast the series from thirty past instants; the one whose errors were
smallest is taken. The bands come from those same errors: their size grows with the distance as it
did in the past, and they are widened where few independent errors are known.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.guesses import guesses_of, slow_guesses, slow_methods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

LEAST = 20
"""Fewer points than this are not forecast."""
CANDIDATES = ("core", "all")
_ORIGINS, _FIRST_LOOK, _SLOW_ORIGINS = 30, 4, 12
_TRAIN = 10  # the fewest points that a past forecast is made from
_AROUND = 7  # values before and after a step
_WANDERS = 0.2  # the power of the distance with which errors of a random walk grow is a half
_LEAST_FREE = 2.5  # degrees of freedom
_FEW = 2.0  # the method was chosen by the same errors: widened by this over their instants
_STEP, _STEPS = 8.0, 2  # deviations that a step has; more steps than this belong to the series
_ODD, _UNLIKE = 4.0, 5.0  # changes over so many medians, and local scales so far apart, are cut
_MOST_ALIKE = 0.8  # autocorrelation of the changes
_PATHS = 4000


class Record(NamedTuple):
    """How a method did in the past, on the series itself."""

    mase: float
    """Mean absolute error, by that of the naive forecast of the next point."""
    mase_naive: float
    """The same of the naive forecast over the same distances."""
    coverage: float
    """Share of past values inside bands that were made of the errors at the other instants."""
    origins: int
    """From how many past instants was forecast."""
    n: int
    """Points of the series."""


class Forecast(NamedTuple):
    """A forecast: arrays with an entry per step."""

    value: Floats
    half: Floats
    """Half the width of the band."""
    level: float
    method: str
    record: Record
    candidates: dict[str, float]
    """The MASE of every method that was tried."""
    shared: float = 0.0
    """What share of the variance all steps of one forecast have in common: its level was off."""
    steps: tuple[int, ...] = ()
    """The first points after steps that were taken out of the history."""
    odd: Floats | None = None
    """Past errors by the deviation that the band stands for; None: they wander, or are normal."""


class Crossing(NamedTuple):
    """When a series reaches a threshold."""

    by: Floats
    """The probability that it has, an entry per step."""
    first: dict[int, int | None]
    """By percent (10, 50, 90): the first step by which it has, so likely; None: not within them."""
    never: float
    """The probability that it does not within the steps."""


class _Past(NamedTuple):
    """A series and the instants that it is forecast from, the last of which is its end."""

    series: Floats
    origins: Ints
    """How many points are known at each."""
    horizon: int
    season: int | None
    scale: Floats
    """How much the series changed lately at each instant, by how much at its end."""

    def errors(self, guess: Floats) -> Floats:
        """Return the errors of past forecasts by the scale of then; NaN: not known yet."""
        count, at = len(self.series), self.origins[:-1, None] + np.arange(self.horizon)
        truth = np.where(at < count, self.series[np.minimum(at, count - 1)], np.nan)
        return np.asarray((truth - guess[:-1]) / self.scale[:-1, None], np.float64)

    def mean_error(self, errors: Floats) -> float:
        """Return the mean absolute error."""
        return float(np.nanmean(np.abs(errors) * self.scale[:-1, None]))

    def at(self, rows: Ints) -> _Past:
        """Return the series with some of the past instants only, and its end."""
        kept = np.append(rows, len(self.origins) - 1)
        return self._replace(origins=self.origins[kept], scale=self.scale[kept])


def forecast_values(
    values: Sequence[float] | Floats,
    horizon: int,
    *,
    level: float = 0.9,
    season: int | None = None,
    candidates: str = "all",
) -> pd.DataFrame:
    """Forecast a regular series.

    Parameters
    ----------
    values : array of float
        The series, a value a step, in any unit; NaN inside are filled in on a line.
    horizon : int
        How many steps; at most half as many as there are values.
    level : float
        Share of the future values that the bands are to hold.
    season : int or None
        Steps after which a pattern comes again, such as 7; it must have come twice.
    candidates : {"all", "core"}
        Whether the methods of `statsmodels` are tried too, where it is installed.

    Returns
    -------
    DataFrame
        step (from 1), value, lower, upper [the unit of the values]. `attrs` hold `method` (the one
        chosen), `record` (mase, mase_naive, coverage, origins, n), `candidates` (the MASE of
        each), `level`, `season`, `steps` (places of steps that were taken out).

    Raises
    ------
    ValueError
        Under 20 values, beyond half of the history, or for a level or season that makes no sense.

    Notes
    -----
    The methods: the last value; a random walk with drift, of all values and of the last quarter;
    the median of the last values; a Theil-Sen line through the median of what the last seven leave;
    of positive values the drift and the line of their logarithms; with a season the former with the
    usual difference of each place in it, and the value one season ago; from `statsmodels` damped
    exponential smoothing and Theta. The one with the least mean absolute error from thirty past
    instants is taken. Its band is split conformal: the quantile of its absolute errors, each by how
    much the series then changed from value to value, and by the typical error at its distance (a
    power of the distance, never falling); widened as Student's t where few forecasts over that
    distance do not overlap. Where errors grow with the distance a random walk of the same changes,
    and of their autocorrelation, is the least. One or two abrupt steps are taken out of the history
    first: bands do not foresee the next one. MASE divides by the mean change from one value to the
    next (or to that one season ago).

    References
    ----------
    Hyndman, R. J. & Koehler, A. B. (2006). Another look at measures of forecast accuracy.
    International Journal of Forecasting 22, 679-688. Vovk, V., Gammerman, A. & Shafer, G. (2005).
    Algorithmic Learning in a Random World. Springer.
    """
    series = filled(np.asarray(values, dtype=np.float64))
    made = forecast(series, horizon, level=level, season=season, candidates=candidates)
    frame = pd.DataFrame(
        {
            "step": np.arange(1, horizon + 1),
            "value": made.value,
            "lower": made.value - made.half,
            "upper": made.value + made.half,
        }
    )
    frame.attrs = {
        "method": made.method,
        "record": made.record._asdict(),
        "candidates": made.candidates,
        "level": level,
        "season": season,
        "steps": list(made.steps),
    }
    return frame


def forecast(
    series: Floats, horizon: int, *, level: float, season: int | None, candidates: str
) -> Forecast:
    """Forecast a series without gaps; as `forecast_values`.

    Parameters
    ----------
    series : array of float
        The values, none of them NaN.
    horizon, level, season, candidates : int, float, int or None, str
        As in `forecast_values`.

    Returns
    -------
    Forecast
        The forecast and its record.
    """
    _check(series, horizon, level, season, candidates)
    series, steps = _without_steps(series)
    past = _past(series, horizon, season)
    period = season or 1
    unit = float(np.mean(np.abs(series[period:] - series[:-period])))
    unit = unit or max(float(np.ptp(series)), abs(float(series[-1])), 1.0) * 1e-9
    guesses = guesses_of(series, past.origins, horizon, season)
    errors = {name: past.errors(guess) for name, guess in guesses.items()}
    scores = {name: past.mean_error(each) / unit for name, each in errors.items()}
    values = {name: guess[-1] for name, guess in guesses.items()}
    if candidates == "all":
        _try_slow(past, scores, errors, values)
    best = min(errors, key=lambda name: scores[name])
    own, walk = errors[best], _walk_of(series)
    record = Record(
        scores[best],
        scores["season" if season else "last"],
        _own_coverage(own, level, walk),
        len(own),
        len(series),
    )
    half = _half_width(own, level, walk)
    like = _like_past(own, half, level)
    return Forecast(values[best], half, level, best, record, scores, like[0], steps, like[1])


def filled(series: Floats) -> Floats:
    """Return a series whose missing values are on the line between their neighbours.

    Parameters
    ----------
    series : array of float
        NaN are missing; those before the first and after the last known value are cut off.

    Returns
    -------
    array of float
        Without NaN.
    """
    known = np.flatnonzero(np.isfinite(series))
    if not len(known):
        return np.zeros(0)
    place = np.arange(known[0], known[-1] + 1)
    return np.asarray(np.interp(place, known, series[known]), np.float64)


def paths(made: Forecast, count: int = _PATHS, seed: int = 0) -> Floats:
    """Return possible courses of a series.

    Parameters
    ----------
    made : Forecast
        The forecast.
    count : int
        How many.
    seed : int
        The same seed makes the same courses.

    Returns
    -------
    array of float, count x steps
        Around the forecast, as wide as its bands. What of the variance grows with the distance
        wanders from step to step, what grows with its square is a slope that was off; of the rest,
        which is all where errors do not grow, a part is common to all steps of a course, as it was
        to past errors, and a part new at every step: drawn from those, outliers and all.
    """
    deviation = made.half / _normal(made.level)
    step = np.arange(1, len(deviation) + 1, dtype=np.float64)
    noise, wander, tilt = (1.0, 0.0, 0.0) if made.odd is not None else _parts(deviation**2)
    chance, course = np.random.default_rng(seed), np.zeros((count, len(step)))
    if wander > 0:
        course += np.cumsum(chance.normal(size=course.shape), axis=1) * np.sqrt(wander)
    if noise > 0:
        draw = chance.normal if made.odd is None else partial(chance.choice, made.odd)
        course += draw(size=course.shape) * np.sqrt(noise * (1.0 - made.shared))
        course += chance.normal(size=(count, 1)) * np.sqrt(noise * made.shared)
    if tilt > 0:
        course += chance.normal(size=(count, 1)) * np.sqrt(tilt) * step
    spread = np.sqrt(noise + wander * step + tilt * step**2)
    course *= deviation / np.where(spread > 0, spread, 1.0)
    return np.asarray(course + made.value)


def crossed(courses: Floats, threshold: float) -> Floats:
    """Return how likely a threshold is reached by each step.

    Parameters
    ----------
    courses : array of float
        What `paths` returned.
    threshold : float
        The value.

    Returns
    -------
    array of float
        Share of the courses that were at or above it at the step or before.
    """
    return np.asarray(np.mean(np.maximum.accumulate(courses, axis=1) >= threshold, axis=0))


def crossing(made: Forecast, threshold: float, *, count: int = _PATHS, seed: int = 0) -> Crossing:
    """Return when a series reaches a threshold.

    Parameters
    ----------
    made : Forecast
        The forecast.
    threshold : float
        The value.
    count, seed : int
        As in `paths`.

    Returns
    -------
    Crossing
        The probability by each step, the steps by which it is 10, 50 and 90 %, and that of not
        reaching it.
    """
    by = crossed(paths(made, count, seed), threshold)
    first = {
        share: int(np.argmax(by >= share / 100)) + 1 if by[-1] >= share / 100 else None
        for share in (10, 50, 90)
    }
    return Crossing(by, first, 1.0 - float(by[-1]))


def _parts(variance: Floats) -> tuple[float, float, float]:
    """Return the variance of every step, that which each step adds, and that of the slope."""
    share, least = np.array([float(variance[0]), 0.0, 0.0]), np.inf
    for powers, solve in _sums(len(variance)):
        fit = solve @ variance
        off = float(np.sum((powers @ fit - variance) ** 2))
        # The simpler sum, unless another is clearly closer.
        if (fit >= 0).all() and off < least * 0.99:
            share, least = fit, off
    return float(share[0]), float(share[1]), float(share[2])


@lru_cache(maxsize=16)
def _sums(steps: int) -> list[tuple[Floats, Floats]]:
    """Return every sum of a constant, the distance and its square, the simplest first.

    Each with the matrix that fits it.
    """
    powers = np.arange(1, steps + 1, dtype=np.float64)[:, None] ** np.arange(3)
    made = []
    for many in range(1, min(steps, 3) + 1):
        for some in combinations(range(3), many):
            solve = np.zeros((3, steps))
            solve[list(some)] = np.linalg.pinv(powers[:, list(some)])
            made.append((powers, solve))
    return made


def _check(series: Floats, horizon: int, level: float, season: int | None, candidates: str) -> None:
    """Refuse what cannot be forecast, with the reason."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level!r}")
    if horizon < 1:
        raise ValueError(f"horizon must be at least one step, not {horizon!r}")
    if candidates not in CANDIDATES:
        raise ValueError(f"candidates must be one of {', '.join(CANDIDATES)}, not {candidates!r}")
    if len(series) < LEAST:
        raise ValueError(f"{len(series)} points: a forecast needs {LEAST}")
    if 2 * horizon > len(series):
        raise ValueError(
            f"{horizon} steps ahead: {len(series)} points allow {len(series) // 2} at most"
        )
    if season is not None and not 1 < season <= len(series) // 2:
        raise ValueError(f"season must be from 2 to half of the {len(series)} points, not {season}")


def _without_steps(series: Floats) -> tuple[Floats, tuple[int, ...]]:
    """Return a series whose rare abrupt steps are taken out, at its newest level, and where."""
    made, found = series.copy(), list[int]()
    while (step := _step_of(made)) is not None:
        if len(found) == _STEPS:  # so many are how this series goes
            return series, ()
        at, size = step
        made[:at] += size
        found.append(at)
    return made, tuple(sorted(found))


def _step_of(series: Floats) -> tuple[int, float] | None:
    """Return the first point after a step, and its size.

    A step is a difference of the medians before and after that is far from the usual ones, and made
    by one change: those of a random walk are all alike, and an outlier moves no median.
    """
    wide = _AROUND
    if len(series) < 4 * wide:
        return None
    middle = np.median(np.lib.stride_tricks.sliding_window_view(series, wide), axis=1)
    rise = middle[wide:] - middle[:-wide]
    rise -= np.median(rise)
    usual = 1.4826 * float(np.median(np.abs(rise)))
    change = np.diff(series)[wide - 1 : len(series) - wide]
    top = int(np.argmax(np.abs(rise)))
    first = max(top - wide // 2, 0)
    at = first + int(np.argmax(np.abs(change[first : top + wide // 2 + 1])))
    size = float(rise[at])
    if not abs(size) > _STEP * usual > 0 or not 0.6 < change[at] / size < 1.6:  # noqa: PLR2004
        return None
    return at + wide, size


def _past(series: Floats, horizon: int, season: int | None) -> _Past:
    """Return a series with the instants that it is forecast from."""
    count, period = len(series), season or 1
    first = min(max(_TRAIN, count // 3, 2 * period), count - 1)
    last = max(count - max(horizon // 4, 1), first)
    places = np.unique(np.linspace(first, last, _ORIGINS).round().astype(np.int64))
    origins = np.append(places, count)
    return _Past(series, origins, horizon, season, _local_scale(series, origins, period))


def _local_scale(series: Floats, origins: Ints, period: int) -> Floats:
    """Return how much a series changed before each instant, by how much before the last.

    Errors of a series that grows, or got calmer, are not those of the past.
    """
    change = np.abs(series[period:] - series[:-period])
    usual = float(np.median(change))
    if usual > 0:
        change = np.minimum(change, _ODD * usual)
    total = np.concatenate([[0.0], np.cumsum(change)])
    known = origins - period
    many = np.minimum(known, max(LEAST, len(series) // 3))
    lately = (total[known] - total[known - many]) / many
    whole = total[-1] / len(change)
    # Sums of tiny changes leave rounding errors, even below 0.
    lately = np.where(lately > 1e-9 * whole, lately, whole)
    if not whole > 0:
        return np.ones(len(origins))
    return np.asarray(np.clip(lately / lately[-1], 1 / _UNLIKE, _UNLIKE), np.float64)


class _Walk(NamedTuple):
    """A random walk that changes from value to value as a series does."""

    deviation: float
    """Of its changes."""
    alike: float
    """Autocorrelation of its changes, from 0."""
    points: int
    """Of the series."""

    def variance(self, steps: Floats) -> Floats:
        """Return the variance of the sum of so many changes."""
        rest = 1.0 - self.alike
        grown = steps * (1.0 + self.alike) / rest
        grown -= 2.0 * self.alike * (1.0 - self.alike**steps) / rest**2
        return np.asarray(self.deviation**2 * grown, np.float64)


def _walk_of(series: Floats) -> _Walk:
    """Return the random walk that changes as a series does."""
    change = np.diff(series) - np.mean(np.diff(series))
    square = float(np.sum(change**2))
    alike = float(np.sum(change[1:] * change[:-1])) / square if square > 0 else 0.0
    alike += (1.0 + 3.0 * alike) / len(change)  # the estimate of a short series is too small
    return _Walk(float(np.std(change)), min(max(alike, 0.0), _MOST_ALIKE), len(series))


def _half_width(errors: Floats, level: float, walk: _Walk) -> Floats:
    """Return half the width of the band at each step."""
    typical, power = _typical(errors)
    scaled = np.abs(errors) / np.where(typical > 0, typical, 1.0)
    known = np.sort(scaled[np.isfinite(scaled)])
    rank = min(int(np.ceil((len(known) + 1) * level)), len(known)) - 1
    # What hardly ever changes may yet: a band of no width would be sure of it.
    half, steps = (known[rank] or 1.0) * typical, errors.shape[1]
    if power > _WANDERS:
        # What wanders goes on to wander: its past errors overlap too much to tell how far.
        step = np.arange(1, steps + 1, dtype=np.float64)
        drift = walk.variance(np.array([float(walk.points)])) * (step / walk.points) ** 2
        reach = np.sqrt(walk.variance(step) + drift) * _normal(level)
        half = np.maximum(half, reach) * _widened(steps, walk.points, 1.0, level)
    else:
        half = half * _widened(steps, 2 * len(errors), 0.5, level)
    return np.asarray(half * (1.0 + _FEW / len(errors)), np.float64)


def _typical(errors: Floats) -> tuple[Floats, float]:
    """Return the typical error at each step, a power of the distance, and that power."""
    step = np.arange(1, errors.shape[1] + 1, dtype=np.float64)
    count = np.isfinite(errors).sum(axis=0).astype(np.float64)
    # Roots, so that outliers do not make up how errors grow.
    total = np.sqrt(np.abs(np.nan_to_num(errors))).sum(axis=0)
    mean = (total / np.maximum(count, 1)) ** 2
    good = (count > 0) & (mean > 0)
    if not good.any():
        return np.zeros(len(step)), 0.0
    # Few forecasts reach far, and they overlap: the first steps tell how errors grow.
    weight = count[good] / step[good]
    weight /= weight.sum()
    x, y = np.log(step[good]), np.log(mean[good])
    middle = float(weight @ x)
    power = float(weight @ ((x - middle) * y)) / max(float(weight @ (x - middle) ** 2), 1e-12)
    power = min(max(power, 0.0), 1.0)
    return np.exp(float(weight @ (y - power * x)) + power * np.log(step)), power


def _like_past(errors: Floats, half: Floats, level: float) -> tuple[float, Floats | None]:
    """Return what share of its variance a course has in common, and the past errors to draw from.

    Errors of a series that wanders are alike without a common cause: none are drawn.
    """
    typical, power = _typical(errors)
    if power > _WANDERS or not typical.any():
        return 0.0, None
    scaled = errors / typical
    known = np.sort(scaled[np.isfinite(scaled)])
    known -= known[len(known) // 2]
    reach = float(np.quantile(np.abs(known), level)) or 1.0
    whole, steps = scaled[np.isfinite(scaled).all(axis=1)], scaled.shape[1]
    share = 0.0
    if len(whole) > 1 and steps > 1:  # the mean of independent errors varies too
        alike = np.mean(whole.mean(axis=1) ** 2) / np.mean(whole**2)
        share = float(min(max((alike * steps - 1.0) / (steps - 1.0), 0.0), 1.0))
    # What bands are wider than past errors is doubt of the level.
    wider = max(float(np.mean(half / (reach * typical))), 1.0)
    return 1.0 - (1.0 - share) / wider**2, known * (_normal(level) / reach)


def _own_coverage(errors: Floats, level: float, walk: _Walk) -> float:
    """Return the share of past values inside bands made of the errors at the other instants."""
    inside = known = 0
    folds = np.arange(len(errors)) * 4 // max(len(errors), 1)
    for fold in np.unique(folds):
        rest, mine = errors[folds != fold], errors[folds == fold]
        if not np.isfinite(rest).any():
            continue
        half = _half_width(rest, level, walk)
        good = np.isfinite(mine)
        known += int(good.sum())
        inside += int((np.abs(mine) <= half + 1e-12)[good].sum())
    return inside / known if known else float("nan")


@lru_cache(maxsize=64)
def _normal(level: float) -> float:
    """Return how many standard deviations a band reaches."""
    from scipy.special import ndtri  # noqa: PLC0415 - importing scipy costs

    return float(ndtri((1.0 + level) / 2.0))


@lru_cache(maxsize=256)
def _widened(steps: int, count: int, power: float, level: float) -> Floats:
    """Return the quantiles of Student's t by those of the normal distribution.

    So many values hold fewer errors that do not overlap, the farther they reach.
    """
    from scipy.special import stdtrit  # noqa: PLC0415

    free = np.maximum(count / np.arange(1, steps + 1) ** power, _LEAST_FREE)
    return np.asarray(stdtrit(free, (1.0 + level) / 2.0) / _normal(level), np.float64)


def _try_slow(
    past: _Past, scores: dict[str, float], errors: dict[str, Floats], values: dict[str, Floats]
) -> None:
    """Add the methods of statsmodels, where it is there.

    They are slow: they forecast from few instants first, and from a dozen only if one of them was
    the best there.
    """
    best = min(scores, key=lambda name: scores[name])
    for name in slow_methods():
        label = f"{name}_season" if past.season else name
        for count in (_FIRST_LOOK, _SLOW_ORIGINS):
            rows = np.linspace(0, len(past.origins) - 2, count).round().astype(np.int64)
            few = past.at(np.unique(rows))
            guess = slow_guesses(name, few.series, few.origins, few.horizon, few.season)
            own, rival = few.errors(guess), few.mean_error(errors[best][np.unique(rows)])
            if not rival > 0:  # nothing is better than no error
                break
            # Compared at the same instants: the others are known at all of them.
            scores[label] = scores[best] * few.mean_error(own) / rival
            if not scores[label] < scores[best]:
                break
        else:
            errors[label], values[label] = own, guess[-1]
