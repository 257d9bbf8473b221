"""Forecast what a series of backup sets will write, and what of it the server will still hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from obanalytics.horizon import LEAST, Record, filled, forecast, paths
from obanalytics.recovery import NAT
from obanalytics.series import DONE
from obanalytics.stock import goes_by_rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from obanalytics.horizon import Forecast
    from obanalytics.recovery import Bools, Ints

    Floats: TypeAlias = NDArray[np.float64]

DAY = 86_400_000_000
"""[µs]"""
_STALE = 3  # usual intervals without a set: nothing more is expected
_GAPS = 0.5  # at least so many of the slots must have a set
_DRAWS = 1000
_TESTS = 4  # past instants that the stock is forecast from


class Flow(NamedTuple):
    """A series of sizes at regular instants, and its forecast or why there is none."""

    times: Ints
    """The slots of the history [µs]."""
    gib: Floats
    every: int
    """From slot to slot [µs]."""
    made: Forecast | None
    refused: str

    @property
    def ahead(self) -> Ints:
        """The slots of the forecast [µs]."""
        steps = 0 if self.made is None else len(self.made.value)
        return self.times[-1] + self.every * np.arange(1, steps + 1)


class Asked(NamedTuple):
    """What is asked of a forecast."""

    now: int
    """[µs]"""
    horizon: int
    """[µs]"""
    level: float
    candidates: str


class Sets(NamedTuple):
    """The sets of one tenant or cluster, in order of start."""

    start: Ints
    """[µs]"""
    end: Ints
    """`NAT`: it runs or is not known [µs]."""
    size: Floats
    """[GiB]"""
    full: Floats
    """1: full, 0: incremental, NaN: not known."""
    state: Ints
    failed: Bools
    inside: Bools

    def until(self, when: int) -> Sets:
        """Return the sets that had ended by an instant.

        Parameters
        ----------
        when : int
            The instant [µs].

        Returns
        -------
        Sets
            Those.
        """
        there = (self.end != NAT) & (self.end <= when) & (self.start != NAT)
        return Sets(*(each[there] for each in self))


class Store(NamedTuple):
    """Possible courses of what is in store."""

    times: Ints
    """[µs]"""
    courses: Floats
    """Draws x instants [GiB]."""


def flow_of(start: Ints, size: Floats, asked: Asked) -> Flow:
    """Put sizes on regular slots and forecast them.

    Parameters
    ----------
    start : array of int
        In order [µs].
    size : array of float
        [GiB]
    asked : Asked
        From when, how far, how sure.

    Returns
    -------
    Flow
        The slots are the median interval apart and end at the newest set; a slot without a set is
        filled in on a line, of several sets the last counts. `forecast` takes rare steps out.
    """
    if len(start) < LEAST:
        return Flow(start, size, DAY, None, f"{len(start)} sets: a forecast needs {LEAST}")
    every = int(np.median(np.diff(start)))
    if every <= 0:
        return Flow(start, size, DAY, None, "its sets all began at one instant")
    place = -np.round((start[-1] - start) / every).astype(np.int64)
    slots = np.full(int(-place[0]) + 1, np.nan)
    slots[place - place[0]] = size
    times = start[-1] - every * np.arange(len(slots) - 1, -1, -1)
    values = filled(slots)
    if np.isfinite(slots).mean() < _GAPS:
        return Flow(times, values, every, None, "its sets come too irregularly")
    if asked.now - start[-1] > max(_STALE * every, 2 * DAY):
        days = (asked.now - start[-1]) / DAY
        return Flow(times, values, every, None, f"no set for {days:.0f} days: none is expected")
    steps = max(int(np.ceil((asked.now + asked.horizon - start[-1]) / every)), 1)
    if 2 * steps > len(values):
        most = (times[-1] + every * (len(values) // 2) - asked.now) / DAY
        reason = f"{len(values)} sets allow a horizon of {max(int(most), 0)} days at most"
        return Flow(times, values, every, None, reason)
    season = 7 if 0.9 < every / DAY < 1.1 and len(values) >= 28 else None  # noqa: PLR2004 - daily
    made = forecast(values, steps, level=asked.level, season=season, candidates=asked.candidates)
    return Flow(times, values, every, made, "")


def store_of(sets: Sets, window: int, asked: Asked, seed: int) -> tuple[Store | None, str]:
    """Forecast what of some sets and of those to come the server will hold.

    Parameters
    ----------
    sets : Sets
        All known sets, whatever their state.
    window : int
        The server's recovery window [µs].
    asked : Asked
        From when, how far, how sure.
    seed : int
        The same seed makes the same courses.

    Returns
    -------
    store : Store or None
        Daily instants to the horizon.
    refused : str
        Why there is none.
    """
    asked = asked._replace(candidates="core")  # forecast many times over
    known = sets.until(asked.now)
    length = np.median((known.end - known.start)[known.state == DONE]) if len(known.start) else 0
    starts: list[Ints] = []
    sizes: list[Floats] = []
    fulls: list[Floats] = []
    for mode in (1.0, 0.0):
        mine = (known.full == mode) & (known.state == DONE) & known.inside
        mine &= np.isfinite(known.size)
        if not mine.any():
            continue
        flow = flow_of(known.start[mine], known.size[mine], asked)
        if flow.made is None:
            what = "full" if mode else "incremental"
            return None, f"its {what} sets are not forecast: {flow.refused}"
        ahead, later = flow.ahead, flow.ahead > asked.now
        if not mode and starts:  # where a full set is due there is no incremental one
            nearest = np.abs(ahead[:, None] - starts[0]).min(axis=1, initial=flow.every)
            later &= nearest >= flow.every / 2
        starts.append(ahead[later])
        sizes.append(paths(flow.made, _DRAWS, seed + int(mode))[:, later])
        fulls.append(np.full(int(later.sum()), mode))
    if not starts or 1.0 not in {float(each[0]) for each in fulls if len(each)}:
        return None, "no full set is to be expected"
    coming = np.concatenate(starts)
    return _held(known, (coming, coming + int(length)), (sizes, fulls), window, asked), ""


def _held(
    known: Sets,
    coming: tuple[Ints, Ints],
    drawn: tuple[list[Floats], list[Floats]],
    window: int,
    asked: Asked,
) -> Store:
    """Return what is held of known and coming sets."""
    sizes, full = np.concatenate(drawn[0], axis=1), np.concatenate(drawn[1])
    sizes = np.maximum(sizes, 0.0)
    start, end = np.append(known.start, coming[0]), np.append(known.end, coming[1])
    is_full = np.append(known.full == 1.0, full == 1.0)
    good = np.append(known.state == DONE, np.ones(len(full), bool))
    failed = np.append(known.failed, np.zeros(len(full), bool))
    order = np.argsort(start, kind="stable")
    goes = np.empty(len(start), np.int64)
    group = np.zeros(len(start), np.int64)
    goes[order] = goes_by_rule(
        group, end[order], is_full[order], good[order], failed[order], window
    )
    instants = asked.now + DAY * np.arange(1, max(int(np.ceil(asked.horizon / DAY)), 1) + 1)
    there = (end <= instants[:, None]) & (instants[:, None] < goes)
    old = there[:, : len(known.start)] @ np.nan_to_num(known.size)
    new = sizes @ there[:, len(known.start) :].T.astype(np.float64)
    return Store(instants, old + new)


def stock_at(sets: Sets, window: int, instants: Ints) -> Floats:
    """Return what the server held of some sets by its rule.

    Parameters
    ----------
    sets : Sets
        All known sets.
    window : int
        The server's recovery window [µs].
    instants : array of int
        [µs]

    Returns
    -------
    array of float
        [GiB]
    """
    group = np.zeros(len(sets.start), np.int64)
    is_good = sets.state == DONE
    goes = goes_by_rule(group, sets.end, sets.full == 1.0, is_good, sets.failed, window)
    there = (sets.end != NAT) & (sets.end <= instants[:, None]) & (instants[:, None] < goes)
    return np.asarray(there @ np.nan_to_num(sets.size), np.float64)


def store_record(sets: Sets, window: int, asked: Asked) -> Record:
    """Return how forecasts of what is in store would have done in the past.

    Parameters
    ----------
    sets : Sets
        All known sets.
    window : int
        The server's recovery window [µs].
    asked : Asked
        From when, how far, how sure.

    Returns
    -------
    Record
        From up to four past instants, the whole horizon each; NaN where none has history enough.
        The naive forecast is what was in store at the instant.
    """
    errors, naive, inside, count = [], [], [], 0
    first = int(sets.start.min()) + 2 * window if len(sets.start) else asked.now
    for back in range(_TESTS, 0, -1):
        then = asked._replace(now=asked.now - asked.horizon * (back + 1) // 2)
        if then.now <= first:
            continue
        store, _ = store_of(sets, window, then, 0)
        if store is None:
            continue
        count += 1
        truth = stock_at(sets, window, store.times)
        low, high = np.quantile(
            store.courses, [(1 - asked.level) / 2, (1 + asked.level) / 2], axis=0
        )
        errors.append(np.abs(truth - np.median(store.courses, axis=0)).mean())
        naive.append(np.abs(truth - stock_at(sets, window, np.array([then.now]))).mean())
        inside.append(((low <= truth) & (truth <= high)).mean())
    if not count:
        return Record(np.nan, np.nan, np.nan, 0, len(sets.start))
    days = np.arange(first, asked.now, DAY)
    scale = float(np.abs(np.diff(stock_at(sets, window, days))).mean()) or 1.0
    mean = [float(np.mean(each)) for each in (errors, naive, inside)]
    return Record(mean[0] / scale, mean[1] / scale, mean[2], count, len(sets.start))
