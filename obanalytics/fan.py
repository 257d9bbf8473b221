"""Draw what will be: forecasts with their bands; and what is in store, which they end in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obanalytics.canvas import (
    INK,
    date_axis,
    day,
    dress,
    expect,
    finish,
    finish_rows,
    new_axes,
    nothing,
    on_face,
    room_for,
    row_labels,
    style,
)
from obanalytics.carry import carried
from obanalytics.letters import drawable
from obanalytics.strips import (
    Strip,
    fitting,
    lane_axes,
    lanes_for,
    legend_cells,
    part_lanes,
    strips,
    two_scales,
    unit_label,
    write_columns,
)
from obanalytics.ticks import (
    FLOOR,
    LIMIT,
    LINES,
    MODES,
    days,
    label_at,
    named,
    riders,
    round_steps,
    short,
    span_of,
    tenants_of,
)
from obanalytics.tracks import stock_of
from obanalytics.wording import NAME_CELLS, plain, plural, words, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from obanalytics.tracks import Stock

    Axes: TypeAlias = Any  # matplotlib ships no types
    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]

_WHO = ("instance_id", "tenant_id", "tenant_name")
_SERIES = ["instance_id", "tenant_id", "what"]
_CROSS = ("cross_10", "cross_50", "cross_90")
_RECORD = ("method", "origins", "mase", "mase_naive", "coverage")
_BAND = ("median_gib", "lower_gib", "upper_gib")
_FORECAST = (*_WHO, "what", "time", *_BAND, "p_crossed", *_RECORD, *_CROSS, "refused")
_STORED = (*_WHO, "full", "storage_class", "time", "stored_gib", "written_gib", "basis")
_NAMES = {"full_size": "full sets", "incremental_size": "incremental sets", "stored": "in store"}
_TAILS = {"full_size": "full", "incremental_size": "incr.", "stored": "store"}
_COLORS = {"full_size": MODES[0][2], "incremental_size": MODES[1][2], "stored": "#009E73"}
_PAST = 6  # times the horizon: as much of the history is drawn
_FAR = 2.5  # times what else is drawn: a threshold above that is not
_GREY = ("#59636E", "#AAB3BD")


def plot_forecast(forecast: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw forecasts with their bands, thresholds, and how the method did on the past.

    Parameters
    ----------
    forecast : DataFrame
        What `forecast_size` returned.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax [GiB]. One series: history, median, band, threshold, and when it is crossed. Several:
        a lane each to its own scale, at most 8, the likeliest to cross its threshold on top, else
        the fastest growing.

    Raises
    ------
    ValueError
        When the frame is not what `forecast_size` returned.
    """
    expect(forecast, "forecast", "forecast_size", _FORECAST)
    table = named(forecast)
    made = table[table["time"].notna() & table["median_gib"].notna()]
    with style(ax):
        if made.empty:
            return nothing(ax, _refusal(table))
        fans = _fans(forecast, made, lanes_for(ax))
        refused = len(table[table["refused"].notna()].drop_duplicates(_SERIES))
        whole = len(made.drop_duplicates(_SERIES))
        left_out = f" Shown: {len(fans)} of {whole}." if len(fans) < whole else ""
        left_out += f" No forecast: {refused}." if refused else ""
        level = forecast.attrs.get("level", 0.9)
        draw = _draw_fan if len(fans) == 1 else _draw_fans
        return draw(ax, fans, (left_out, f"{100 * level:g} %"))


def plot_stored_size(stored: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how much is in store along time, and how much was written.

    Parameters
    ----------
    stored : DataFrame
        What `stored_size` returned.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax [GiB]: areas on one another, by tenant (the largest 6 and the others) or, for one
        tenant, by mode; pale and hatched where they are a lower bound. Bars: written per period.

    Raises
    ------
    ValueError
        When the frame is not what `stored_size` returned.
    """
    expect(stored, "stored", "stored_size", _STORED)
    table = named(stored[stored["time"].notna()])
    with style(ax):
        if table.empty:
            return nothing(ax, "No backup set is known to be in store")
        stock = stock_of(table)
        fit, ax = ax is not None, ax if ax is not None else new_axes(11, [" " * 10])
        _, below = two_scales(ax, float(stock.total.max()), float(stock.written.max()))
        unit_label(ax, "written, in store [GiB]", "GiB", fit=fit)
        span_of(ax, stock.x)
        handles = [*_draw_stack(ax, stock), *_draw_written(ax, stock, below, stored)]
        date_axis(ax)
        found, note = _stock_found(table, stock), _stock_note(stored, table, stock)
        dress(ax, found, note, handles=handles, columns=4, fit=fit)
    return ax


# --- forecasts ---------------------------------------------------------------------------------


class _Fan(NamedTuple):
    """The forecast of one series; days as matplotlib counts them."""

    row: Any
    """The last one of it: a named tuple of pandas."""
    x: Floats
    median: Floats
    low: Floats
    high: Floats
    past_x: Floats
    past: Floats
    limit: float
    """The threshold; NaN without one."""

    @property
    def color(self) -> str:
        """The colour of what it is of."""
        return _COLORS.get(str(self.row.what), LINES[3])

    @property
    def now(self) -> float:
        """The last value that is known, or else the first of the forecast."""
        return float(self.past[-1] if len(self.past) else self.median[0])

    def top(self) -> float:
        """Return the highest value that is drawn."""
        seen = self.past[self.past_x >= self.begin()]
        most = float(np.nanmax(np.concatenate([self.high, self.median, seen])))
        return max(most, self.limit) if self.limit <= _FAR * most else most

    def begin(self) -> float:
        """Return where the chart begins: old history would crush the forecast."""
        first = self.past_x[-1] if len(self.past_x) else self.x[0]
        return float(first - _PAST * max(self.x[-1] - first, 1.0))


def _refusal(table: pd.DataFrame) -> str:
    """Say why there is no forecast: by the most frequent reason."""
    reasons = table["refused"].dropna().astype("str")
    if reasons.empty:
        return "No series to forecast"
    kinds = reasons.value_counts()
    several = f" ({kinds.iloc[0]} of {plural(len(reasons), 'series')})" if len(kinds) > 1 else ""
    return f"No forecast: {plain(kinds.index[0], 110)}{several}"


def _fans(forecast: pd.DataFrame, made: pd.DataFrame, most: int) -> list[_Fan]:
    """Return the forecasts that are drawn: the likeliest to cross, then the fastest growing."""
    made = made.sort_values("time", kind="stable")
    last = made.drop_duplicates(_SERIES, keep="last").set_index(_SERIES, drop=False)
    newest = _newest(forecast, last)
    grown = last["median_gib"] / newest.clip(lower=1e-9)
    likely = last["p_crossed"].astype("float64").fillna(-1.0)
    order = np.lexsort((-grown.to_numpy(np.float64), -likely.to_numpy(np.float64)))
    chosen = last.iloc[order[:most]]
    mine = made.set_index(_SERIES, drop=False)
    past = riders(carried(forecast, "history"), forecast, chosen.reset_index(drop=True))
    fans = []
    for row in chosen.itertuples(index=False):
        key = (row.instance_id, row.tenant_id, row.what)
        rows = mine.loc[[key]]
        median, low, high = (rows[name].to_numpy(np.float64, na_value=np.nan) for name in _BAND)
        limit = _limit(forecast.attrs.get("threshold"), row)
        bands = (days(rows["time"]), median, low, high)
        fans.append(_Fan(row, *bands, *_past(past, row), limit))
    return fans


def _newest(forecast: pd.DataFrame, last: pd.DataFrame) -> pd.Series:
    """Return each series' newest known value, or its first forecast where that was lost."""
    first = forecast[forecast["median_gib"].notna()].drop_duplicates(_SERIES)
    known = first.set_index(_SERIES)["median_gib"].reindex(last.index)
    history = carried(forecast, "history")
    if history is None or "gib" not in history:
        return known
    told = history[history["gib"].notna()].drop_duplicates(_SERIES, keep="last")
    return told.set_index(_SERIES)["gib"].reindex(last.index).fillna(known)


def _past(past: pd.DataFrame, row: Any) -> tuple[Floats, Floats]:  # noqa: ANN401 - a named tuple of pandas
    """Return when and how much a series was."""
    if "gib" not in past:
        return np.empty(0), np.empty(0)
    mine = past[
        past["instance_id"].eq(row.instance_id)
        & past["tenant_id"].eq(row.tenant_id)
        & past["what"].astype("str").eq(str(row.what))
        & past["gib"].notna()
    ].sort_values("time", kind="stable")
    return days(mine["time"]), mine["gib"].to_numpy(np.float64)


def _limit(given: Any, row: Any) -> float:  # noqa: ANN401 - a number or a mapping; a named tuple
    """Return the threshold of a series; NaN where it has none."""
    if pd.isna(row.p_crossed) or given is None:
        return np.nan
    if isinstance(given, Mapping | pd.Series):
        found = dict(given.items())
        value = found.get((row.instance_id, row.tenant_id), found.get(row.tenant_id))
        return np.nan if value is None else float(value)
    return float(given)


def _draw_fan(ax: Axes | None, fans: Sequence[_Fan], said: tuple[str, str]) -> Axes:
    """Draw one series on axes of its own."""
    (fan,), (left_out, level), fit = fans, said, ax is not None
    ax = ax if ax is not None else new_axes(11, [" " * 10])
    top = fan.top() or 1.0
    ax.set_ylim(-FLOOR * top, 1.08 * top)
    label_at(ax.yaxis, round_steps(1.08 * top, 6), "{:,.12g}".format)
    unit_label(ax, "size [GiB]", "GiB", fit=fit)
    _time_span(ax, fans)
    _draw_one(ax, fan, Strip(0.0, 1.0, top), one=True)
    finish(ax, along="y")
    date_axis(ax)
    what = _NAMES.get(str(fan.row.what), words(fan.row.what))
    handles = [
        Line2D([], [], color=fan.color, lw=1.4, label=f"{what}: history"),
        Line2D([], [], color=fan.color, lw=1.6, ls=(0, (4, 2)), label="median forecast"),
        Patch(facecolor=fan.color, alpha=0.25, label=f"{level} band"),
    ]
    handles = handles if len(fan.past) else handles[1:]
    handles += _limit_handles(ax, fan, fit=fit)
    note = f"{_record(fan.row, level)}.{left_out}"
    dress(ax, _fan_found(fan, level), note, handles=handles, columns=3, fit=fit)
    return ax


def _draw_fans(ax: Axes | None, fans: Sequence[_Fan], said: tuple[str, str]) -> Axes:
    """Draw several series in a lane each."""
    (left_out, level), fit, room = said, ax is not None, room_for(ax, len(fans))
    names = _names(fans, room.cells)
    limited = any(np.isfinite(fan.limit) for fan in fans)
    columns = fitting(ax, _fan_columns(fans, limited=limited))
    ax = ax if ax is not None else lane_axes(names, columns)
    finish_rows(ax, names)
    part_lanes(ax, len(names))
    _time_span(ax, fans)
    for y, fan in enumerate(fans):
        (strip,) = strips(y, [fan.top()], [1])
        _draw_one(ax, fan, strip, one=False)
    lift = write_columns(ax, columns)
    date_axis(ax)
    grey = on_face(*_GREY)
    handles = [
        Line2D([], [], color=grey, lw=1.4, label="history"),
        Line2D([], [], color=grey, lw=1.6, ls=(0, (4, 2)), label="median forecast"),
        Patch(facecolor=grey, alpha=0.4, label=f"{level} band"),
    ]
    handles += [Line2D([], [], color=LIMIT, lw=1.1, label="threshold")] if limited else []
    first = "Likeliest to cross first" if limited else "Fastest growing first"
    note = f"{first}.{left_out} {_records(fans, level)}."
    found = _fans_found(fans, limited=limited)
    dress(ax, found, note, handles=handles, columns=4, lift=lift, fit=fit)
    return ax


def _time_span(ax: Axes, fans: Sequence[_Fan]) -> None:
    """Let the time axis span forecasts and what of the history does not crush them."""
    begin = min(fan.begin() for fan in fans)
    span_of(ax, *(fan.x for fan in fans), *(f.past_x[f.past_x >= begin] for f in fans))


def _draw_one(ax: Axes, fan: _Fan, strip: Strip, *, one: bool) -> None:
    """Draw a series: history, band, median, threshold and when it is crossed."""
    joint = len(fan.past) > 0  # the forecast begins where the history ends
    x = np.append(fan.past_x[-1:], fan.x) if joint else fan.x
    median, low, high = (
        np.append(fan.past[-1:], each) if joint else each
        for each in (fan.median, fan.low, fan.high)
    )
    low, past = np.maximum(low, 0.0), np.minimum(fan.past, strip.top)
    shade: Any = {"color": fan.color, "alpha": 0.25, "lw": 0, "zorder": 1.5}
    ax.fill_between(x, strip.at(low), strip.at(high), **shade)
    if joint:
        ax.plot(fan.past_x, strip.at(past), color=fan.color, lw=1.4 if one else 1.2, zorder=3)
    ax.plot(x, strip.at(median), color=fan.color, lw=1.6, ls=(0, (4, 2)), zorder=3.2)
    if one and joint:
        ax.axvline(fan.past_x[-1], color=on_face(*_GREY), lw=0.8, ls=":", zorder=1.2)
    if fan.limit <= strip.top:
        at = float(strip.at(fan.limit))
        ends = ax.get_xlim() if one else (x[0], x[-1])
        ax.plot(ends, [at, at], color=LIMIT, lw=1.1, zorder=2.8)
        look: Any = {"ls": "", "marker": "v", "color": LIMIT, "mec": on_face("white", INK)}
        for _, when in _crossings(fan):
            ax.plot([day(when)], [at], ms=6.5, zorder=4, **look)


def _crossings(fan: _Fan) -> list[tuple[str, pd.Timestamp]]:
    """Return by when the threshold is crossed with which probability, within the horizon."""
    dates = ((f"{name[-2:]} %", getattr(fan.row, name)) for name in _CROSS)
    return [(share, when) for share, when in dates if pd.notna(when)]


def _limit_handles(ax: Axes, fan: _Fan, *, fit: bool) -> list[Any]:
    """Return marks that say where the threshold is and when it is crossed."""
    if not np.isfinite(fan.limit):
        return []
    high = "" if fan.limit <= fan.top() else ", above what is drawn"
    handles = [Line2D([], [], color=LIMIT, lw=1.1, label=f"threshold {short(fan.limit)} GiB{high}")]
    crossed = [f"{share} by {when:%Y-%m-%d}" for share, when in _crossings(fan)]
    never = getattr(fan.row, "p_not_crossed", np.nan)
    crossed += [f"not within the horizon: {_percent(never)}"] if pd.notna(never) else []
    if crossed:
        label = "\n".join(wrapped("crossed: " + ", ".join(crossed), legend_cells(ax, fit=fit)))
        handles.append(Line2D([], [], color=LIMIT, marker="v", ls="", ms=6.5, label=label))
    return handles


def _names(fans: Sequence[_Fan], limit: int) -> list[str]:
    """Return a label per lane: the tenant, and what of it where that differs."""
    whats = [str(fan.row.what) for fan in fans]
    tails = [f" · {_TAILS.get(what, words(what))}" for what in whats]
    tails = tails if len(set(whats)) > 1 else [""] * len(fans)
    frame = pd.DataFrame({name: [getattr(fan.row, name) for fan in fans] for name in _WHO})
    own = limit >= NAME_CELLS  # a figure made to measure has room for both
    labels = row_labels(frame, limit if own else max(limit - max(map(len, tails)), 8))
    return [label + drawable(tail) for label, tail in zip(labels, tails, strict=True)]


def _percent(share: float) -> str:
    """Return a share in whole percent; what is neither none nor all is not rounded to it."""
    if pd.isna(share):
        return "n/a"
    percent = 100 * float(share)
    if 0 < percent < 1:
        return "<1 %"
    return ">99 %" if 99 < percent < 100 else f"{percent:.0f} %"  # noqa: PLR2004 - of a hundred


def _fan_columns(fans: Sequence[_Fan], *, limited: bool) -> list[tuple[str, list[str]]]:
    """Return what is written beside lanes: how much is and will be, and how likely is too much."""
    columns = [
        ("now [GiB]", [short(fan.now) for fan in fans]),
        ("then [GiB]", [short(fan.median[-1]) for fan in fans]),
    ]
    if limited:
        limits = [short(fan.limit) if np.isfinite(fan.limit) else "" for fan in fans]
        columns.insert(1, ("threshold", limits))
        likely = [
            "" if lim == "" else _percent(fan.row.p_crossed)
            for lim, fan in zip(limits, fans, strict=True)
        ]
        columns.append(("P(crossed)", likely))
    return columns


def _record(row: Any, level: str) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say how the method did on the past of its series."""
    method = f"method {words(row.method)}"
    if pd.isna(row.mase):
        return f"No back-test; {method}"
    return (
        f"Back-test: MASE {row.mase:.2f} (seasonal naive {row.mase_naive:.2f}), "
        f"{_percent(row.coverage)} inside its {level} band, "
        f"{plural(int(row.origins), 'origin')}, {method}"
    )


def _records(fans: Sequence[_Fan], level: str) -> str:
    """Say how the methods did on the past of their series, from the best to the worst."""
    tested = [fan.row for fan in fans if pd.notna(fan.row.mase)]
    if not tested:
        return "No back-tests"

    def ends(name: str, text: str) -> str:
        values = sorted(float(getattr(row, name)) for row in tested)
        low, high = text.format(values[0]), text.format(values[-1])
        return low if low == high else f"{low} to {high}"

    return (
        f"Back-tests: MASE {ends('mase', '{:.2f}')} (naive {ends('mase_naive', '{:.2f}')}), "
        f"{ends('coverage', '{:.0%}').replace('%', ' %')} in the {level} bands"
    )


def _fan_found(fan: _Fan, level: str) -> str:
    """Say in one sentence what is to come."""
    row, name = fan.row, plain(fan.row.tenant_name, NAME_CELLS)
    what = _NAMES.get(str(row.what), words(row.what))
    found = (
        f"{name}, {what}: {short(fan.now)} GiB now, {short(fan.median[-1])} GiB on "
        f"{row.time:%Y-%m-%d} ({level}: {short(fan.low[-1])} to {short(fan.high[-1])})"
    )
    if np.isfinite(fan.limit):
        found += f"; over {short(fan.limit)} GiB by then: {_percent(row.p_crossed)}"
    return found


def _fans_found(fans: Sequence[_Fan], *, limited: bool) -> str:
    """Say in one sentence what is to come of several series."""
    top, count = fans[0], len(fans)
    name, then = plain(top.row.tenant_name, NAME_CELLS), f"{top.row.time:%Y-%m-%d}"
    if limited:
        likely = sum(float(fan.row.p_crossed) >= 0.5 for fan in fans if np.isfinite(fan.limit))  # noqa: PLR2004 - a half
        return (
            f"{likely or 'None'} of {count} series shown will more likely than not have crossed "
            f"the threshold by {then}; {name}: {_percent(top.row.p_crossed)}"
        )
    what = _NAMES.get(str(top.row.what), words(top.row.what))
    grown = 100 * (top.median[-1] / max(top.now, 1e-9) - 1)
    if grown <= 0:
        return f"No growth forecast by {then}; {name}, {what}: {grown:,.0f} %"
    return (
        f"Fastest growing: {name}, {what}, from {short(top.now)} to {short(top.median[-1])} GiB "
        f"({grown:+,.0f} %) by {then}"
    )


# --- what is in store --------------------------------------------------------------------------


def _draw_stack(ax: Axes, stock: Stock) -> list[Any]:
    """Draw the areas, pale where they are a lower bound, and return their marks."""
    tops = np.cumsum(stock.parts, axis=0)
    floor, sure, handles = np.zeros(len(stock.x)), ~stock.is_low, list[Any]()
    for top, label, color in zip(tops, stock.labels, stock.colors, strict=True):
        look: Any = {"color": color, "lw": 0}
        ax.fill_between(stock.x, floor, top, alpha=0.45, zorder=1.5, **look)
        ax.fill_between(stock.x, floor, top, where=sure, alpha=0.85, zorder=1.6, **look)
        safe = " " * label.startswith("_") + label  # some matplotlibs would hide it
        handles.append(Patch(facecolor=color, alpha=0.85, label=safe))
        floor = top
    soft = on_face(*_GREY)
    if stock.is_low.any():
        to = stock.is_low | np.append([False], stock.is_low[:-1])  # to where it is known again
        look = {"facecolor": "none", "edgecolor": soft, "hatch": "////", "lw": 0, "alpha": 0.6}
        ax.fill_between(stock.x, 0, stock.total, where=to, zorder=1.8, **look)
        handles.append(Patch(label="at least so much", **look))
    style_ = (0, (4, 2)) if stock.is_modelled.any() else "-"
    ink = on_face(INK, "white")
    ax.plot(stock.x, stock.total, color=ink, lw=1.0, ls=style_, zorder=3)
    ax.plot(stock.x[-1:], stock.total[-1:], "o", color=ink, ms=4.5, zorder=4)
    if stock.is_modelled.any():
        handles.append(Line2D([], [], color=ink, lw=1.0, ls=style_, label="modelled"))
    return handles


def _draw_written(ax: Axes, stock: Stock, below: Strip, stored: pd.DataFrame) -> list[Any]:
    """Draw what was written as bars under the areas, and return their mark."""
    color = on_face(*_GREY)
    apart = 72 * ax.bbox.width / ax.figure.dpi / max(len(stock.x), 1)
    wide = min(max(0.6 * apart, 0.6), 5.0)
    ax.vlines(stock.x, below.base, below.at(stock.written), color=color, lw=wide, zorder=2)
    periods = {"D": "a day", "W": "a week", "ME": "a month", "MS": "a month", "h": "an hour"}
    period = periods.get(str(stored.attrs.get("freq", "")).split("-")[0], "a period")
    return [Patch(facecolor=color, label=f"written in {period}")]


def _stock_found(table: pd.DataFrame, stock: Stock) -> str:
    """Say in one sentence how much is in store, what the largest part is, and what it costs."""
    last, total = table["time"].max(), float(stock.total[-1])
    tenants = tenants_of(table.iloc[::-1])
    top = int(stock.parts[: len(stock.labels) - stock.has_others, -1].argmax())
    share = (
        f"{stock.labels[top].strip()}, {_percent(stock.parts[top, -1] / total)}" if total else ""
    )
    head = "" if len(tenants) > 1 else f"{plain(tenants['tenant_name'].iloc[0], NAME_CELLS)}: "
    least = "at least " if stock.is_low[-1] else ""
    found = f"{head}{least}{short(total)} GiB in store on {last:%Y-%m-%d}"
    found += f"; the largest part: {share}" if share and len(stock.labels) > 1 else ""
    if "cost_per_month" in table and table["cost_per_month"].notna().any():
        cost = table.loc[table["time"].eq(last), "cost_per_month"].sum()
        found += f"; {cost:,.2f} a month at the given prices"
    return found


def _stock_note(stored: pd.DataFrame, table: pd.DataFrame, stock: Stock) -> str:
    """Say what a reader should know."""
    parts = []
    if stock.is_low.any():
        until = pd.Timestamp(table["time"].max())
        known = np.flatnonzero(~stock.is_low)
        if len(known):
            after = np.flatnonzero(stock.is_low)[-1] + 1
            until = pd.Series(np.sort(table["time"].unique())).iloc[min(after, len(stock.x) - 1)]
        parts.append(f"Before {until:%Y-%m-%d} a lower bound: expired sets are not listed.")
    if stock.is_modelled.any():
        kept = stored.attrs.get("retention_days")
        rule = f" of {kept:g} days" if isinstance(kept, int | float) else ""
        parts.append(f"Modelled: sets are let go by the retention{rule}.")
    newest = table["time"].eq(table["time"].max())
    without = int(table.loc[newest, "unsized"].sum()) if "unsized" in table else 0
    parts += [f"{plural(without, 'held set')} without a size."] if without else []
    return " ".join(parts) or "Exact: every set is known from when it was written to when it went."
