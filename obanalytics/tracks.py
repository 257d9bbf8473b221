"""Choose what of the frames that ride on a result is drawn along time: a track per series."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.canvas import expect, row_labels
from obanalytics.carry import carried
from obanalytics.letters import drawable
from obanalytics.ticks import (
    HOUR,
    LINES,
    MODES,
    days,
    named,
    places,
    riders,
    seconds,
    short,
    tenants_of,
)
from obanalytics.wording import NAME_CELLS, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Key: TypeAlias = tuple[object, object]
    Tracks: TypeAlias = Mapping[Key, Sequence["Track"]]

MIN_GIB = 0.1
"""Sets smaller than this have no throughput [GiB]."""
_CHANGES = (
    "instance_id",
    "tenant_id",
    "full",
    "at",
    "factor",
    "throughput_factor",
    "cause",
    "sentence",
)
_ABOVE = 3.0  # times the highest that two in a row have: a value above it is cut in a lane
_NONE: Floats = np.empty(0)
_MOST = 6  # areas on one another; the others are one
_STACK = (*LINES[:5], "#F0E442", LINES[5])


class Track(NamedTuple):
    """One series along time; days as matplotlib counts them."""

    place: int
    """Of its mode among `MODES`."""
    x: Floats
    value: Floats
    open_x: Floats = _NONE
    """Of runs that are not over, and how long they are by now."""
    open: Floats = _NONE
    line_x: Floats = _NONE
    """Of the weekly median, or of the line through all sets."""
    line: Floats = _NONE
    high: Floats = _NONE
    """Weekly 95th percentiles, or nothing."""
    marks: tuple[tuple[float, float], ...] = ()
    """When it changed, and by which factor, the newest first."""

    def top(self) -> float:
        """Return the highest value that a lane shows in full: no single one crushes the others."""
        most = float(np.nanmax(np.concatenate([self.value, self.open]), initial=0.0))
        lasting = np.minimum(self.value[1:], self.value[:-1]).max(initial=0.0)
        return min(most, 1.15 * float(lasting)) if most > _ABOVE * lasting > 0 else most


def _parts(frame: pd.DataFrame) -> dict[tuple[object, object, int], pd.DataFrame]:
    """Return the rows of every series, which is a tenant and the place of a mode."""
    if frame.empty:
        return {}
    by = [frame["instance_id"], frame["tenant_id"], pd.Series(places(frame["full"]), frame.index)]
    return {(key[0], key[1], int(key[2])): rows for key, rows in frame.groupby(by, sort=True)}


def size_tracks(growth: pd.DataFrame, table: pd.DataFrame) -> Tracks:
    """Choose the sizes of all sets.

    Parameters
    ----------
    growth : DataFrame
        What `size_growth` returned.
    table : DataFrame
        The same, named.

    Returns
    -------
    mapping
        Tracks by tenant, those of full sets first; nothing where they were lost on the way.
    """
    points = riders(carried(growth, "points"), growth, table)
    steps = _parts(riders(carried(growth, "steps"), growth, table))
    made: dict[Key, list[Track]] = {}
    for key, mine in _parts(points).items():
        known = mine[mine["size_gib"].notna() & mine["start_time"].notna()]
        known = known.sort_values("start_time", kind="stable")
        x, size = days(known["start_time"]), known["size_gib"].to_numpy(np.float64)
        step = steps.get(key, steps and next(iter(steps.values())).head(0))
        marks = _factors(step, "factor") if len(step) else ()
        if len(x):
            made.setdefault(key[:2], []).append(
                Track(key[2], x, size, line_x=x, line=size, marks=marks)
            )
    return made


def _factors(rows: pd.DataFrame, column: str) -> tuple[tuple[float, float], ...]:
    """Return when something changed, and by which factor, the newest first."""
    rows = rows.sort_values("at", ascending=False, kind="stable")
    factors = rows[column].astype("float64")
    return tuple(zip(days(rows["at"]).tolist(), factors.tolist(), strict=True))


def times(factor: float) -> str:
    """Return a factor as a short text.

    Parameters
    ----------
    factor : float
        The factor.

    Returns
    -------
    str
        A sign of multiplication and three digits.
    """
    return f"\N{MULTIPLICATION SIGN}{short(factor)}"


def changes_of(changes: pd.DataFrame | None, durations: pd.DataFrame) -> pd.DataFrame:
    """Choose the changes of the tenants of a frame.

    Parameters
    ----------
    changes : DataFrame or None
        What `duration_changes` returned; None is empty.
    durations : DataFrame
        What `duration_trends` returned.

    Returns
    -------
    DataFrame
        Their changes, named, the newest first.

    Raises
    ------
    ValueError
        When it is not what its function returned.
    """
    if changes is None:
        empty = pd.DataFrame(columns=[*_CHANGES])
        return empty.astype({"at": "datetime64[us, UTC]", "cause": "str"})
    expect(changes, "changes", "duration_changes", _CHANGES)
    mine = riders(changes, durations, named(durations)) if len(changes) else changes
    mine = mine if len(mine) else named(changes.head(0))
    return mine.sort_values("at", ascending=False, kind="stable")


def durations_of(frame: pd.DataFrame) -> tuple[Floats, str, str]:
    """Return how long runs took.

    Parameters
    ----------
    frame : DataFrame
        Runs.

    Returns
    -------
    tuple
        Durations [s], and the names of the weekly and of the changed column that go with them.
    """
    return seconds(frame["duration"]), "p50", "factor"


def throughput_of(frame: pd.DataFrame) -> tuple[Floats, str, str]:
    """Return how fast sets were written.

    Parameters
    ----------
    frame : DataFrame
        Runs.

    Returns
    -------
    tuple
        Throughputs [GiB/h], NaN for unfinished runs and small sets, and the names of the weekly and
        of the changed column that go with them.
    """
    hours = frame["duration"].dt.total_seconds().to_numpy(np.float64, na_value=np.nan) / HOUR
    size = frame["size_gib"].to_numpy(np.float64, na_value=np.nan)
    good = (hours > 0) & (size >= MIN_GIB) & ~frame["running"].to_numpy(bool)
    rate = np.full(len(frame), np.nan)
    np.divide(size, hours, out=rate, where=good)
    return rate, "throughput_gib_per_h", "speed"


def run_tracks(
    durations: pd.DataFrame,
    table: pd.DataFrame,
    changed: pd.DataFrame,
    value_of: Callable[[pd.DataFrame], tuple[Floats, str, str]],
) -> Tracks:
    """Choose the runs, their weekly figures and their changes.

    Parameters
    ----------
    durations : DataFrame
        What `duration_trends` returned.
    table : DataFrame
        The same, named; only its series are drawn.
    changed : DataFrame
        The changes.
    value_of : callable
        `durations_of` or `throughput_of`.

    Returns
    -------
    mapping
        Tracks by tenant, those of full sets first; nothing where they were lost on the way.
    """
    points = riders(carried(durations, "points"), durations, table)
    weekly = _parts(riders(carried(durations, "weekly"), durations, table))
    changes = _parts(changed.assign(speed=1 / changed["throughput_factor"].astype("float64")))
    made: dict[Key, list[Track]] = {}
    for key, mine in _parts(points).items():
        ordered = mine.sort_values("start_time", kind="stable")
        x, (value, column, factor) = days(ordered["start_time"]), value_of(ordered)
        is_open = ordered["running"].to_numpy(bool)
        known = np.isfinite(x) & np.isfinite(value)
        done, open_ = known & ~is_open, known & is_open
        if not known.any():
            continue
        marks = _factors(changes[key], factor) if key in changes else ()
        lines = _weeks(weekly[key], column) if key in weekly else {}
        track = Track(key[2], x[done], value[done], x[open_], value[open_], marks=marks, **lines)
        made.setdefault(key[:2], []).append(track)
    return made


def _weeks(weekly: pd.DataFrame, column: str) -> dict[str, Floats]:
    """Return the line and the band of a series, as steps: flat along each week."""
    weekly = weekly.sort_values("start", kind="stable")
    begin, middle = days(weekly["start"]), weekly[column]
    if not len(begin):
        return {}
    width = float(np.diff(begin).min()) if len(begin) > 1 else 7.0
    is_span = column == "p50"
    line = seconds(middle) if is_span else middle.to_numpy(np.float64, na_value=np.nan)
    # A week of which nothing is known breaks the line.
    gap = np.append(np.diff(begin), np.inf) > 1.5 * width
    x = np.column_stack([begin, begin + width, begin + width]).ravel()
    kept = np.column_stack([np.ones((len(begin), 2), bool), gap]).ravel()

    def steps(value: Floats) -> Floats:
        spread = np.column_stack([value, value, np.full(len(value), np.nan)])
        return np.asarray(spread.ravel()[kept][:-1], np.float64)

    made = {"line_x": x[kept][:-1], "line": steps(line)}
    return made | {"high": steps(seconds(weekly["p95"]))} if is_span else made


class Stock(NamedTuple):
    """What is in store at every instant; days as matplotlib counts them."""

    x: Floats
    parts: Floats
    """A row per area, the lowest first [GiB]."""
    labels: list[str]
    colors: list[str]
    written: Floats
    is_low: Bools
    """Where it is a lower bound."""
    is_modelled: Bools
    has_others: bool
    """Whether the last area is of several that are not told apart."""

    @property
    def total(self) -> Floats:
        """All that is in store [GiB]."""
        return np.asarray(self.parts.sum(axis=0), np.float64)


def stock_of(table: pd.DataFrame) -> Stock:
    """Choose the areas of what is in store: by tenant, or for one tenant by mode.

    Parameters
    ----------
    table : DataFrame
        What `stored_size` returned, named.

    Returns
    -------
    Stock
        What is drawn.
    """
    moment = table["time"].dt.tz_convert("UTC")
    code, instants = pd.factorize(moment, sort=True)
    tenants = tenants_of(table.iloc[::-1])  # the newest name
    if len(tenants) > 1:
        pairs = pd.MultiIndex.from_frame(table[["instance_id", "tenant_id"]])
        group = pd.MultiIndex.from_frame(tenants[["instance_id", "tenant_id"]]).get_indexer(pairs)
        labels, colors = row_labels(tenants, NAME_CELLS), [""] * len(tenants)
    else:
        group, labels, colors = _by_mode(table)
    count, shape = len(labels) * len(instants), (len(labels), len(instants))
    gib = table["stored_gib"].to_numpy(np.float64, na_value=0.0)
    every = np.bincount(group * len(instants) + code, gib, count).astype(np.float64)
    held, labels, colors, has_others = _largest(every.reshape(shape), labels, colors)
    basis = table["basis"].astype("object")
    low, modelled = (
        np.bincount(code, basis.eq(name).to_numpy(np.float64), len(instants)) > 0
        for name in ("lower_bound", "modelled")
    )
    written = table["written_gib"].to_numpy(np.float64, na_value=0.0)
    flow = np.bincount(code, written, len(instants)).astype(np.float64)
    x = days(pd.Series(instants))
    return Stock(x, held, labels, colors, flow, low, modelled, has_others)


def _by_mode(table: pd.DataFrame) -> tuple[NDArray[np.intp], list[str], list[str]]:
    """Return the areas of one tenant: by mode, and by storage class where there are several."""
    place = places(table["full"])
    shelf, shelves = pd.factorize(table["storage_class"].astype("object").fillna("n/a"), sort=True)
    pairs, group = np.unique(np.column_stack([place, shelf]), axis=0, return_inverse=True)
    modes = [MODES[which] for which, _ in pairs]
    if len(shelves) < 2:  # noqa: PLR2004 - one needs no telling apart
        return group.ravel(), [mode[1] for mode in modes], [mode[2] for mode in modes]
    labels = [
        f"{mode[1]}, {drawable(plain(shelves[which], NAME_CELLS))}"
        for mode, (_, which) in zip(modes, pairs, strict=True)
    ]
    return group.ravel(), labels, [""] * len(labels)


def _largest(
    held: Floats, labels: list[str], colors: list[str]
) -> tuple[Floats, list[str], list[str], bool]:
    """Return the largest areas, those that are the largest at the end first, and the others."""
    order = np.lexsort((-held.max(axis=1), -held[:, -1]))
    top, rest = order[:_MOST], order[_MOST:]
    if len(rest) == 1:
        top, rest = order, order[:0]
    names = [labels[each] for each in top]
    given = [colors[each] or _STACK[place] for place, each in enumerate(top)]
    if not len(rest):
        return held[top], names, given, False
    others = np.vstack([held[top], held[rest].sum(axis=0, keepdims=True)])
    return others, [*names, f"{len(rest)} others"], [*given, _STACK[-1]], True
