"""Draw a figure or two of each of many series as dots, a row per tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.lines import Line2D

from obanalytics.canvas import (
    INK,
    dress,
    finish_rows,
    new_axes,
    on_face,
    room_for,
    row_labels,
)
from obanalytics.ticks import (
    MAX_ROWS,
    mode_legend,
    mode_rows,
    places,
    seconds,
    tenants_of,
    value_axis,
    worst,
)
from obanalytics.wording import cap_sentence, plural

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types
    Floats: TypeAlias = NDArray[np.float64]
    Series: TypeAlias = set[tuple[object, object, int]]

SPANS = ("p50", "p95", "max", "last")
"""The durations of a series that are drawn."""


def draw_rates(ax: Axes | None, growth: pd.DataFrame, found: str) -> Axes:
    """Draw rates of growth with their intervals, the fastest on top.

    Parameters
    ----------
    ax : Axes or None
        Where to draw; None makes a figure.
    growth : DataFrame
        What `size_growth` returned, named, with at least one rate.
    found : str
        The title.

    Returns
    -------
    Axes
        The ax.
    """
    rated = growth[growth["percent_per_30d"].notna()]
    order = worst(rated, "percent_per_30d", room_for(ax, MAX_ROWS).rows)
    ax, names, fit = _rows(ax, order)
    rings = _Rings(ax, "with a step", _with_steps(rated))
    for y, row, color, marker in mode_rows(rated, order):
        bounds = [row.percent_per_30d_low, row.percent_per_30d_high]
        ax.plot(bounds, [y, y], color=color, lw=2.2, alpha=0.55, solid_capstyle="round")
        _dot(ax, row.percent_per_30d, y, color, marker)
        rings.draw(row, row.percent_per_30d, y)
    ax.axvline(0, color=on_face(INK, "white"), lw=0.9, zorder=1)
    finish_rows(ax, names)
    ax.set_xlim(*_reach(rated))
    ax.set_xlabel("change of set size [% in 30 days], line: 95 % interval")
    left_out = int(growth["percent_per_30d"].isna().sum())
    note = "Fastest first." + cap_sentence(len(order), len(tenants_of(rated)))
    note += f" Without {plural(left_out, 'series')} of too little history." if left_out else ""
    handles = [*mode_legend(rated), *rings.mark()]
    dress(ax, found, note, handles=handles, columns=4, fit=fit)
    return ax


def draw_spans(ax: Axes | None, timed: pd.DataFrame, changed: pd.DataFrame, found: str) -> Axes:
    """Draw the median, 95th percentile, longest and last duration, the longest p95 on top.

    Parameters
    ----------
    ax : Axes or None
        Where to draw; None makes a figure.
    timed : DataFrame
        What `duration_trends` returned, named, all with a median.
    changed : DataFrame
        What `duration_changes` returned, named; such series are marked.
    found : str
        The title.

    Returns
    -------
    Axes
        The ax.
    """
    order = worst(timed, "p95", room_for(ax, MAX_ROWS).rows)
    ax, names, fit = _rows(ax, order)
    rings, ink = _Rings(ax, "with a change", _series(changed)), on_face(INK, "white")
    drawn = timed.assign(**{name: seconds(timed[name]) for name in SPANS})
    for y, row, color, marker in mode_rows(drawn, order):
        ax.plot([row.p95, row.max], [y, y], color=color, lw=0.9, alpha=0.7)
        ax.plot([row.p50, row.p95], [y, y], color=color, lw=5, alpha=0.35, solid_capstyle="butt")
        _dot(ax, row.p50, y, color, marker)
        ax.plot(row.last, y, "|", color=ink, ms=8, mew=1.3)
        rings.draw(row, row.p50, y)
    finish_rows(ax, names)
    values = drawn[list(SPANS)].to_numpy(np.float64)
    value_axis(ax, "x", values[np.isfinite(values)], seconds=True)
    last = Line2D([], [], color=ink, marker="|", ls="", ms=8, mew=1.3, label="last run")
    handles = [*mode_legend(timed), last, *rings.mark()]
    ax.set_xlabel("duration; bar: median to p95, line: to the longest run")
    note = "Longest p95 first." + _counted(timed)
    note += cap_sentence(len(order), len(tenants_of(timed)))
    dress(ax, found, note, handles=handles, columns=4, fit=fit)
    return ax


def draw_flows(ax: Axes | None, rated: pd.DataFrame, changed: pd.DataFrame, found: str) -> Axes:
    """Draw the median throughput, the slowest on top.

    Parameters
    ----------
    ax : Axes or None
        Where to draw; None makes a figure.
    rated : DataFrame
        What `duration_trends` returned, named, all with a throughput, and with slow: its negative.
    changed : DataFrame
        What `duration_changes` returned, named; such series are marked.
    found : str
        The title.

    Returns
    -------
    Axes
        The ax.
    """
    order = worst(rated, "slow", room_for(ax, MAX_ROWS).rows)
    ax, names, fit = _rows(ax, order)
    rings = _Rings(ax, "with a change", _series(changed))
    value = rated["throughput_gib_per_h"].to_numpy(np.float64)
    rows = [*mode_rows(rated, order)]
    value_axis(ax, "x", value[value > 0] if (value > 0).any() else np.ones(1), seconds=False)
    for y, row, color, marker in rows:
        ax.plot([ax.get_xlim()[0], row.throughput_gib_per_h], [y, y], color=color, lw=1, alpha=0.4)
        _dot(ax, row.throughput_gib_per_h, y, color, marker)
        rings.draw(row, row.throughput_gib_per_h, y)
    finish_rows(ax, names)
    ax.set_xlabel("median throughput [GiB/h]")
    note = "Slowest first." + cap_sentence(len(order), len(tenants_of(rated)))
    handles = [*mode_legend(rated), *rings.mark()]
    dress(ax, found, note, handles=handles, columns=4, fit=fit)
    return ax


class _Rings:
    """Draw a ring around the dots of some series, and keep whether there was any."""

    def __init__(self, ax: Axes, label: str, series: Series) -> None:
        self._ax, self._label, self._series, self._any = ax, label, series, False
        edge = on_face(INK, "white")
        self._look: Any = {"marker": "D", "ls": "", "ms": 10, "mfc": "none", "mec": edge}

    def draw(self, row: Any, x: float, y: float) -> None:  # noqa: ANN401 - a named tuple of pandas
        """Draw a ring if the row's series is among them."""
        place = 2 if row.full is None or row.full != row.full else 1 - bool(row.full)
        if (row.instance_id, row.tenant_id, place) in self._series:
            self._any = True
            self._ax.plot([x], [y], mew=0.9, zorder=4, **self._look)

    def mark(self) -> list[Line2D]:
        """Return the mark of a ring if there is any."""
        look = self._look | {"ms": 7}
        return [Line2D([], [], mew=0.9, label=self._label, **look)] if self._any else []


def _rows(ax: Axes | None, order: pd.DataFrame) -> tuple[Axes, list[str], bool]:
    """Return the ax, the labels of its rows, and whether it is a user's."""
    names = row_labels(order, room_for(ax, MAX_ROWS).cells)
    return (ax, names, True) if ax is not None else (new_axes(len(order), names), names, False)


def _dot(ax: Axes, x: float, y: float, color: str, marker: str) -> None:
    """Draw a series' figure."""
    ax.plot(x, y, marker, color=color, ms=5.5, mec=on_face("white", INK), mew=0.6)


def _series(frame: pd.DataFrame) -> Series:
    """Return which series a frame has rows of."""
    if frame.empty:
        return set()
    there = places(frame["full"]).tolist()
    return set(zip(frame["instance_id"], frame["tenant_id"], there, strict=True))


def _with_steps(growth: pd.DataFrame) -> Series:
    """Return which series have a step; a frame of before they were looked for has none."""
    return _series(growth[growth["steps"] > 0]) if "steps" in growth else set()


def _counted(timed: pd.DataFrame) -> str:
    """Say what unfinished runs count for, where the frame says so."""
    known = "at_least" in timed
    return " Unfinished runs count with their age." if known else " Finished runs only."


def _reach(rated: pd.DataFrame) -> tuple[float, float]:
    """Return what an axis of rates spans: all rates, and intervals that do not dwarf them."""
    rates = rated["percent_per_30d"]
    low, high = min(float(rates.min()), 0.0), max(float(rates.max()), 0.0)
    room = max(high - low, 1.0)
    low = max(float(rated["percent_per_30d_low"].min()), low - 0.6 * room)
    high = min(float(rated["percent_per_30d_high"].max()), high + 0.6 * room)
    return min(low, 0.0) - 0.05 * room, max(high, 0.0) + 0.05 * room
