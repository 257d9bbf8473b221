"""Share what charts of sizes and durations have in common: whose they are, modes, ticks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from obanalytics.canvas import dates, keys_of
from obanalytics.wording import format_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types
    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.intp]

MAX_ROWS = 30
"""More series than this are not drawn: the worst are, and the note says so."""
# Okabe-Ito, which readers who are colour-blind can tell apart; its vermillion is for limits.
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C8C8C")
LIMIT = "#D55E00"
MODES = (
    (True, "full", "#0072B2", "o"),
    (False, "incremental", "#D98200", "^"),
    (None, "unknown mode", "#8C8C8C", "s"),
)
MINUTE, HOUR, DAY = 60, 3600, 86_400
STEPS = (
    *(1, 5, 15, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR),
    *(DAY, 3 * DAY, 10 * DAY, 30 * DAY, 100 * DAY, 300 * DAY, 1000 * DAY),
)
"""Durations that an axis is labelled at [s]."""
NUMBERS = tuple(float(f"{digit}e{power}") for power in range(-6, 12) for digit in (1, 2, 5))
"""Numbers that a logarithmic axis is labelled at."""
UP = Path(
    [(-0.18, 0), (-0.18, 0.5), (-0.5, 0.5), (0, 1.1), (0.5, 0.5), (0.18, 0.5), (0.18, 0), (0, 0)],
    [1, 2, 2, 2, 2, 2, 2, 79],
)
"""The marker of what is at least so much: an arrow up from there."""
_APART, _LINE = 0.62, 0.22  # inches: from a tick to the next, along x and along y
FLOOR = 0.05
"""What is under the zero of an axis, of its height: the label would touch those of the dates."""
_CRUSHED = 15  # times the shortest: then the short ones would be crushed on a linear axis


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose rows say whose they are, also where that is a cluster or the fleet.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id and tenant_id; both or the second may be NA.

    Returns
    -------
    DataFrame
        A copy: no id is NA, and a cluster is called by its id.
    """
    ids = {name: frame[name].astype("object") for name in ("instance_id", "tenant_id")}
    is_whole = ids["tenant_id"].isna()
    if not is_whole.any():
        return frame.assign(**{name: each.astype("str") for name, each in ids.items()})
    cluster = ids["instance_id"].where(ids["instance_id"].notna(), "fleet").astype("str")
    made = {
        "instance_id": cluster.where(~is_whole, ""),
        "tenant_id": ids["tenant_id"].where(~is_whole, cluster).astype("str"),
    }
    if "tenant_name" in frame:
        made["tenant_name"] = frame["tenant_name"].astype("object").where(~is_whole, cluster)
    return frame.assign(**made)


def riders(frame: pd.DataFrame | None, table: pd.DataFrame, who: pd.DataFrame) -> pd.DataFrame:
    """Return what of a frame is of some series, as `named` names them.

    Parameters
    ----------
    frame : DataFrame or None
        What rides on a table; None is empty.
    table : DataFrame
        The table, as it came.
    who : DataFrame
        The named table; only its series are kept.

    Returns
    -------
    DataFrame
        Their rows.
    """
    if frame is None or frame.empty:
        return who.head(0)
    kept = np.ones(len(frame), bool)
    for name in ("instance_id", "tenant_id"):  # labels are compared once, not in every row
        there = table[name].dropna().unique()
        kept &= (frame[name].isin(there) | frame[name].isna()).to_numpy(bool)
    mine = named(frame[kept])
    keys = set(keys_of(who))
    return mine[np.fromiter((key in keys for key in keys_of(mine)), bool, len(mine))]


def places(full: pd.Series) -> Ints:
    """Return the place among `MODES` of every row.

    Parameters
    ----------
    full : Series
        True for a full set, False for an incremental one; NA is unknown.

    Returns
    -------
    ndarray
        0, 1 or 2.
    """
    known = full.notna().to_numpy(bool)
    is_full = full.where(full.notna(), other=False).to_numpy(bool)
    return np.where(known, np.where(is_full, 0, 1), 2).astype(np.intp)


def tenants_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per tenant.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id and tenant_id.

    Returns
    -------
    DataFrame
        The first row of each.
    """
    return frame.drop_duplicates(["instance_id", "tenant_id"])


def worst(frame: pd.DataFrame, column: str, most: int) -> pd.DataFrame:
    """Return one row per tenant, that with the highest value first, and no more than are drawn.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id and tenant_id.
    column : str
        What is sorted by.
    most : int
        The most rows.

    Returns
    -------
    DataFrame
        Those rows.
    """
    return tenants_of(frame.sort_values(column, ascending=False, kind="stable")).head(most)


def mode_rows(frame: pd.DataFrame, order: pd.DataFrame) -> Iterator[tuple[float, Any, str, str]]:
    """Yield every series that is drawn, with its height, colour and marker.

    Parameters
    ----------
    frame : DataFrame
        A row per series, with full.
    order : DataFrame
        The tenants that are drawn, the first on top.

    Yields
    ------
    tuple
        Height [rows], row, colour, marker.
    """
    rows = {key: y for y, key in enumerate(keys_of(order))}
    there = places(frame["full"])
    several = len(np.unique(there)) > 1
    for row, place in zip(frame.itertuples(), there, strict=True):
        y = rows.get((row.instance_id, row.tenant_id))
        if y is None:
            continue
        shift = (-0.19, 0.19, 0.0)[place] if several else 0.0
        yield y + shift, row, *MODES[place][2:]


def mode_legend(frame: pd.DataFrame) -> list[Line2D]:
    """Return the marks of the modes there are.

    Parameters
    ----------
    frame : DataFrame
        Has full.

    Returns
    -------
    list of Line2D
        A mark per mode.
    """
    there = set(places(frame["full"]).tolist())
    return [
        Line2D([], [], color=color, marker=marker, ls="", ms=6, label=name)
        for place, (_, name, color, marker) in enumerate(MODES)
        if place in there
    ]


class Apart(FixedLocator):
    """Give those of some ticks whose labels do not touch when they are drawn."""

    locs: Any

    def __call__(self) -> list[float]:
        """Return ticks, of two that are too close the first."""
        axes: Any = getattr(self.axis, "axes", None)
        upright = self.axis is axes.yaxis
        least = _LINE if upright else _APART
        kept: list[float] = []
        last = -math.inf
        for step in map(float, self.locs):
            pixel = float(axes.transData.transform((step, step))[int(upright)])
            if pixel - last >= least * axes.figure.dpi:
                kept.append(step)
                last = pixel
        return kept


def label_at(axis: Any, steps: Sequence[float], text: Callable[[float], str]) -> None:  # noqa: ANN401 - of matplotlib
    """Label an axis at those of the steps that stay apart.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        The axis.
    steps : sequence of float
        Where, in order.
    text : callable
        Returns the label of a step.
    """
    axis.set_major_locator(Apart(steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def duration_ticks(axis: Any, steps: Sequence[float]) -> None:  # noqa: ANN401 - of matplotlib
    """Label an axis of seconds at those of the steps that stay apart.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        The axis.
    steps : sequence of float
        Where, in order [s].
    """
    label_at(axis, steps, lambda s: format_span(pd.Timedelta(s, "s")) if s else "0")


def value_axis(ax: Axes, along: str, values: Floats, *, seconds: bool) -> None:
    """Scale and label an axis of values; logarithmic where the largest is many times the smallest.

    Parameters
    ----------
    ax : Axes
        The ax.
    along : {"x", "y"}
        Which axis.
    values : array of float
        What is drawn, all above zero.
    seconds : bool
        Whether they are durations [s] or plain numbers.
    """
    low, high = float(values.min()), float(values.max())
    axis, set_lim = getattr(ax, f"{along}axis"), getattr(ax, f"set_{along}lim")
    log = high / low > _CRUSHED
    if log:
        getattr(ax, f"set_{along}scale")("log")
        bottom, top = low / 1.25, high * 1.25
    else:
        top = high * 1.06
        bottom = -FLOOR * top if along == "y" else 0.0
    set_lim(bottom, top)
    ladder: Sequence[float] = STEPS if seconds else NUMBERS
    steps = [float(s) for s in ladder if bottom <= s <= top]
    if seconds:
        if not log:
            step = next((s for s in STEPS if top / s <= 7), STEPS[-1])  # noqa: PLR2004 - ticks
            steps = list(np.arange(0, top, step))
        duration_ticks(axis, steps)
    else:
        label_at(axis, steps if log else round_steps(top, 6), "{:,.12g}".format)


def round_steps(top: float, most: int) -> list[float]:
    """Return round numbers from zero on.

    Parameters
    ----------
    top : float
        What they do not exceed.
    most : int
        How many parts they make of it, at most.

    Returns
    -------
    list of float
        The numbers.
    """
    found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(0, top)
    return [float(f"{each:.12g}") for each in found if 0 <= each <= top * (1 + 1e-9)]


def short(value: float) -> str:
    """Return a number with three digits or all that are before the point.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        Such as ``1,204``, ``31.4``, ``0.052``; ``n/a`` for NaN.
    """
    if pd.isna(value):
        return "n/a"
    size = abs(float(value))
    if size < 1:
        return f"{value:.2g}" if size >= 1e-3 or not size else "<0.001"  # noqa: PLR2004 - a MiB
    digits = next(n for n, least in ((0, 99.95), (1, 9.995), (2, 0)) if size >= least)
    return f"{value:,.{digits}f}"


def days(moments: pd.Series) -> Floats:
    """Return instants as matplotlib counts them.

    Parameters
    ----------
    moments : Series
        Instants [UTC].

    Returns
    -------
    ndarray
        Days; NaN for NA.
    """
    return np.asarray(dates.date2num(moments.dt.tz_convert(None).to_numpy()), np.float64)


def seconds(spans: pd.Series) -> Floats:
    """Return durations in seconds, at least one so that a logarithm has them.

    Parameters
    ----------
    spans : Series
        Durations.

    Returns
    -------
    ndarray
        Seconds; NaN for NA.
    """
    known = spans.dt.total_seconds().to_numpy(np.float64, na_value=np.nan)
    return np.asarray(np.maximum(known, 1.0), np.float64)


def span_of(ax: Axes, *moments: Floats) -> None:
    """Let the time axis span some instants, with a little room at both ends.

    Parameters
    ----------
    ax : Axes
        The ax.
    *moments : array of float
        Days as matplotlib counts them.
    """
    known = np.concatenate([each[np.isfinite(each)] for each in moments])
    first, last = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    room = max(0.02 * (last - first), 1 / 24)
    ax.set_xlim(first - room, last + room)


def placed(frame: pd.DataFrame, rows: Mapping[tuple[Any, Any], int]) -> pd.DataFrame:
    """Return what is of the tenants that have a row, with that row's height as `y`.

    Parameters
    ----------
    frame : DataFrame
        Has `instance_id` and `tenant_id`.
    rows : mapping of (instance_id, tenant_id) to int
        The heights.

    Returns
    -------
    DataFrame
        Some of its rows.
    """
    (one, ones), (tenant, tenants) = (frame[n].factorize() for n in ("instance_id", "tenant_id"))
    place = np.full((len(ones) + 1, len(tenants) + 1), np.nan)  # the last of each is NA's
    where = {key: n for n, key in enumerate(ones)}, {key: n for n, key in enumerate(tenants)}
    for (instance, name), y in rows.items():
        if instance in where[0] and name in where[1]:
            place[where[0][instance], where[1][name]] = y
    heights = place[one, tenant]
    kept = ~np.isnan(heights)
    return frame[kept].assign(y=heights[kept])
