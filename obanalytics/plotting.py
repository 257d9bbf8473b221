"""Draw finished numbers: a result frame and an ax in, the ax out. Nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obanalytics.canvas import (
    INK,
    SOFT,
    date_axis,
    dates,
    day,
    drawable,
    dress,
    duration_axis,
    finish_rows,
    new_axes,
    nothing,
    room_for,
    style,
)
from obanalytics.wording import (
    coverage_sentence,
    duration_sentence,
    format_share,
    format_span,
    gap_sentence,
    growth_sentence,
    most_gaps_first,
    plain,
    plural,
    tenant_labels,
    words,
    worst_first,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Axes: TypeAlias = Any  # matplotlib ships no types

MAX_ROWS = 30
"""More tenants than this are not drawn: the worst are, and the note says so."""
# Okabe-Ito, which readers who are colour-blind can tell apart.
CAUSE_COLORS = {
    "silent": "#D55E00",
    "failed": "#CC79A7",
    "unusable": "#E69F00",
    "running": "#56B4E9",
    "late": "#F0E442",
    "missing_from_cluster_set": "#0072B2",
    "state_unknown": "#8C8C8C",
}
_INSIDE, _TRACK, _BAD = "#C9E4DA", "#F0F2F4", "#B34700"
_MODES = (
    (True, "full", "#0072B2", "o"),
    (False, "incremental", "#D98200", "^"),
    (None, "unknown mode", "#8C8C8C", "s"),
)


def plot_coverage(
    gaps: pd.DataFrame,
    ax: Axes | None = None,
    *,
    compliance: pd.DataFrame | None = None,
    points: pd.DataFrame | None = None,
    window: tuple[pd.Timestamp | None, pd.Timestamp | None] = (None, None),
) -> Axes:
    """Draw a timeline per tenant: inside the RPO, gaps by cause, restore points as ticks.

    Parameters
    ----------
    gaps : DataFrame
        What `coverage_gaps` returned; enough by itself, then the rows are the tenants with gaps.
    ax : Axes or None
        Where to draw; None makes a figure. An ax of a figure without a layout engine is made
        smaller where its labels would not fit into the figure.
    compliance : DataFrame or None
        What `rpo_compliance` returned: then all tenants are shown, with their share of the time and
        their exposure; a fleet row is left out.
    points : DataFrame or None
        What `restore_points` returned; None draws no ticks.
    window : (start, end)
        What the chart spans; None takes what the frames span [UTC].

    Returns
    -------
    Axes
        The ax, the worst tenant on top. Titles say what was found.

    Raises
    ------
    ValueError
        When a frame is not what its function returned.
    """
    _expect(gaps, "gaps", "coverage_gaps", _GAPS)
    if points is not None:
        _expect(points, "points", "restore_points", _POINTS)
    if compliance is None:
        tenants, found = most_gaps_first(gaps), gap_sentence(gaps)
        note = "Open gaps first, then most time in gaps. "
    else:
        _expect(compliance, "compliance", "rpo_compliance", _SHARES)
        tenants = worst_first(compliance[compliance["instance_id"].notna()])
        found, note = coverage_sentence(compliance, gaps), "Worst first. "
    with style():
        if tenants.empty:
            return nothing(ax, found)
        room = room_for(ax, MAX_ROWS)
        shown = tenants.head(room.rows)
        names = _labels(shown, room.cells)
        rows = {key: y for y, key in enumerate(_keys(shown))}
        mine = _of(gaps, rows)
        fit = ax is not None
        if ax is None:
            lines = (mine["cause"].nunique() + 6) // 4
            right, top = (0.25, 0.8) if compliance is None else (1.65, 0.98)
            ax = new_axes(len(shown), names, right=right, bottom=0.62 + 0.2 * lines, top=top)
        bare = compliance is None and points is None  # then only the gaps are known
        used = _draw_gaps(ax, mine, rows, _draw_base(ax, rows, mine, points, window, bare=bare))
        handles = _coverage_legend(used, ticks=_draw_points(ax, points, rows), bare=bare)
        lift = 14 if compliance is not None and room.aside else 0
        if lift:
            _write_shares(ax, shown)
        finish_rows(ax, names)
        date_axis(ax)
        note += "Point model: log backups not considered." + _cap(shown, tenants)
        dress(ax, found, note, handles=handles, columns=4, lift=lift, fit=fit)
    return ax


def plot_growth(growth: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each tenant's growth with its interval, full and incremental apart.

    Parameters
    ----------
    growth : DataFrame
        What `size_growth` returned.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax, the fastest growing tenant on top [% in 30 days].
    """
    _expect(growth, "growth", "size_growth", _RATES)
    rated = growth[growth["percent_per_30d"].notna()]
    with style():
        if rated.empty:
            return nothing(ax, "Too little history for a growth rate: 8 sets over 6 days needed")
        room = room_for(ax, MAX_ROWS)
        order = _worst(rated, "percent_per_30d", room.rows)
        names, fit = _labels(order, room.cells), ax is not None
        ax = ax if ax is not None else new_axes(len(order), names)
        for y, row, color, marker in _mode_rows(rated, order):
            bounds = [row.percent_per_30d_low, row.percent_per_30d_high]
            ax.plot(bounds, [y, y], color=color, lw=2.2, alpha=0.55, solid_capstyle="round")
            ax.plot(row.percent_per_30d, y, marker, color=color, ms=5.5, mec="white", mew=0.6)
        ax.axvline(0, color=INK, lw=0.9, zorder=1)
        finish_rows(ax, names)
        ax.set_xlim(*_reach(rated))
        ax.set_xlabel("change of set size [% in 30 days], line: 95 % interval", color=SOFT)
        short = int(growth["percent_per_30d"].isna().sum())
        note = "Fastest first." + _cap(order, _tenants(rated))
        note += f" Without {plural(short, 'series')} of too little history." if short else ""
        handles = _mode_legend(rated)
        dress(ax, growth_sentence(growth), note, handles=handles, columns=3, fit=fit)
    return ax


def plot_durations(durations: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how long each tenant's backups take: median, 95th percentile, longest and last run.

    Parameters
    ----------
    durations : DataFrame
        What `duration_trends` returned.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax, the longest p95 on top; logarithmic where durations differ much.
    """
    _expect(durations, "durations", "duration_trends", _TIMES)
    timed = durations[durations["p50"].notna()]
    with style():
        if timed.empty:
            return nothing(ax, "No finished backup set has a duration")
        room = room_for(ax, MAX_ROWS)
        order = _worst(timed, "p95", room.rows)
        names, fit = _labels(order, room.cells), ax is not None
        ax = ax if ax is not None else new_axes(len(order), names)
        for y, row, color, marker in _mode_rows(timed, order):
            p50, p95, top, last = (_seconds(row, name) for name in ("p50", "p95", "max", "last"))
            ax.plot([p95, top], [y, y], color=color, lw=0.9, alpha=0.7)
            ax.plot([p50, p95], [y, y], color=color, lw=5, alpha=0.35, solid_capstyle="butt")
            ax.plot(p50, y, marker, color=color, ms=5.5, mec="white", mew=0.6)
            ax.plot(last, y, "|", color=INK, ms=8, mew=1.3)
        finish_rows(ax, names)
        drawn = timed[["p50", "p95", "max", "last"]].apply(lambda c: c.dt.total_seconds())
        duration_axis(ax, drawn.to_numpy(dtype=np.float64))
        marks = (Line2D([], [], color=INK, marker="|", ls="", ms=8, mew=1.3, label="last run"),)
        handles = [*_mode_legend(timed), *marks]
        ax.set_xlabel("duration; bar: median to p95, line: to the longest run", color=SOFT)
        note = "Longest p95 first. Finished runs only." + _cap(order, _tenants(timed))
        dress(ax, duration_sentence(durations), note, handles=handles, columns=4, fit=fit)
    return ax


_WHO = ("instance_id", "tenant_id", "tenant_name")
_GAPS = (*_WHO, "gap_start", "gap_end", "gap", "position", "cause", "certainty")
_SHARES = (*_WHO, "time_in_rpo", "exposure_now", "rpo_ratio")
_POINTS = (*_WHO[:2], "full", "start_time", "checkpoint", "restorable")
_RATES = (
    *_WHO,
    "full",
    "percent_per_30d",
    "percent_per_30d_low",
    "percent_per_30d_high",
    "verdict",
)
_TIMES = (*_WHO, "full", "p50", "p95", "max", "last", "running", "percent_per_30d_low")


def _expect(frame: object, name: str, function: str, columns: tuple[str, ...]) -> None:
    """Refuse what is not the frame that a function returned."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(  # noqa: TRY004 - one error for all that is no such frame
            f"{name} must be the frame that {function} returned, not {type(frame).__name__}"
        )
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(
            f"{name} must be the frame that {function} returned; it has no {', '.join(missing)}"
        )


def _labels(frame: pd.DataFrame, limit: int) -> list[str]:
    """Return labels that our fonts can draw: the id where a name has characters they lack."""
    names = frame["tenant_name"].astype("object")
    drawn = [drawable(plain(name)) == plain(name) for name in names]
    names = names.where(drawn, frame["tenant_id"].astype("object"))
    return [drawable(label) for label in tenant_labels(frame.assign(tenant_name=names), limit)]


def _keys(frame: pd.DataFrame) -> list[tuple[object, object]]:
    """Return whose each row is."""
    return list(zip(frame["instance_id"], frame["tenant_id"], strict=True))


def _of(frame: pd.DataFrame, rows: dict[tuple[object, object], int]) -> pd.DataFrame:
    """Return what is of the tenants that have a row."""
    return frame[np.array([key in rows for key in _keys(frame)], dtype=bool)]


def _draw_base(
    ax: Axes,
    rows: dict[tuple[object, object], int],
    gaps: pd.DataFrame,
    points: pd.DataFrame | None,
    window: tuple[pd.Timestamp | None, pd.Timestamp | None],
    *,
    bare: bool,
) -> tuple[float, float]:
    """Draw every tenant's bar from where it is known, and return what the chart spans [days]."""
    stretches = [gaps[["instance_id", "tenant_id", "gap_start", "gap_end"]]]
    if points is not None:
        times = ["instance_id", "tenant_id", "start_time", "checkpoint"]
        stretches.append(points.loc[points["restorable"], times])
    known = pd.concat(
        each.set_axis(_FROM, axis=1).astype(dict.fromkeys(_FROM[:2], "object"))
        for each in stretches
    )
    if known.empty and None in window:
        window = (pd.Timestamp("1970-01-01", tz="UTC"), pd.Timestamp("1970-01-02", tz="UTC"))
    first = known["from"].min() if window[0] is None else window[0]
    last = known["to"].max() if window[1] is None else window[1]
    begins = known.groupby(["instance_id", "tenant_id"])["from"].min()
    spans = (day(first), max(day(last), day(first) + 1 / 24))
    whole, color = bare or window[0] is not None, _TRACK if bare else _INSIDE
    left = np.array([spans[0] if whole else day(begins.get(key, first)) for key in rows])
    ax.barh([*rows.values()], spans[1] - left, left=left, height=0.62, color=color, zorder=1)
    ax.set_xlim(spans)
    return spans


_FROM = ["instance_id", "tenant_id", "from", "to"]


def _draw_gaps(
    ax: Axes,
    gaps: pd.DataFrame,
    rows: dict[tuple[object, object], int],
    spans: tuple[float, float],
) -> list[str]:
    """Draw the gaps by cause, each wide enough to be seen, and return the causes there are."""
    least = (spans[1] - spans[0]) / 350
    boxes: dict[str, list[list[tuple[float, float]]]] = {}
    for row in gaps.itertuples():
        y, begin, end = rows[row.instance_id, row.tenant_id], day(row.gap_start), day(row.gap_end)
        end = max(end, begin + least)
        kind = _UNKNOWN if row.certainty == "unknown" else row.cause
        corners = [(begin, y - 0.31), (begin, y + 0.31), (end, y + 0.31), (end, y - 0.31)]
        boxes.setdefault(kind, []).append(corners)
    for kind, outlines in boxes.items():
        hatch = "////" if kind == _UNKNOWN else None
        ax.add_collection(
            PolyCollection(
                outlines, facecolor=_color(kind), edgecolor="none", hatch=hatch, zorder=3
            )
        )
    return sorted(boxes, key=[*CAUSE_COLORS, _UNKNOWN].index)


_UNKNOWN = "not known"


def _color(cause: str) -> str:
    """Return the colour of a cause."""
    return CAUSE_COLORS.get(cause, "#E8EAED")


def _draw_points(
    ax: Axes, points: pd.DataFrame | None, rows: dict[tuple[object, object], int]
) -> bool:
    """Draw the checkpoints of full sets as ticks, and of the others while they stay apart."""
    if points is None:
        return False
    good = points[points["restorable"] & points["checkpoint"].notna()]
    good = _of(good, rows)
    days = dates.date2num(good["checkpoint"].dt.tz_convert(None).to_numpy())
    first, last = ax.get_xlim()
    good = good[(days >= first) & (days <= last)]
    crowded = len(good) > 130 * len(rows)  # closer than three pixels they are a grey band
    full = good["full"].fillna(value=False).astype(bool)
    for chosen, reach in ((good[full], 0.31), (good[~full], 0.12)):
        if chosen.empty or (crowded and reach < 0.2):  # noqa: PLR2004 - the short ticks
            continue
        x = dates.date2num(chosen["checkpoint"].dt.tz_convert(None).to_numpy())
        y = np.array([rows[key] for key in _keys(chosen)])
        lines = [((a, b - reach), (a, b + reach)) for a, b in zip(x, y, strict=True)]
        ax.add_collection(
            LineCollection(lines, colors="#3F6F60", linewidths=0.7, alpha=0.75, zorder=2)
        )
    return bool(full.any()) or not (crowded or good.empty)


def _write_shares(ax: Axes, shown: pd.DataFrame) -> None:
    """Write each tenant's share and exposure beside its bar."""
    look = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    left, right = {"xytext": (45, 0), "ha": "right"}, {"xytext": (53, 0), "ha": "left"}
    look |= {"fontsize": 8.5, "va": "center"}
    for y, row in enumerate(shown.itertuples()):
        outside = bool(row.rpo_ratio > 1)
        now = "unbounded" if pd.isna(row.exposure_now) else format_span(row.exposure_now)
        bold = {"color": _BAD, "fontweight": "bold"} if outside else {}
        ax.annotate(format_share(row.time_in_rpo), (1, y), **left, **look)
        ax.annotate(now, (1, y), **right, **look, **bold)
    look |= {"color": SOFT, "fontsize": 8, "va": "bottom"}
    ax.annotate("in RPO", (1, -0.62), **left, **look)
    ax.annotate("exposed now", (1, -0.62), **right, **look)


def _seconds(row: Any, name: str) -> float:  # noqa: ANN401 - a named tuple of pandas
    """Return a duration of a row, at least a second so that a logarithm has it."""
    return max(float(getattr(row, name).total_seconds()), 1.0)


def _tenants(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per tenant."""
    return frame.drop_duplicates(["instance_id", "tenant_id"])


def _worst(frame: pd.DataFrame, column: str, most: int) -> pd.DataFrame:
    """Return one row per tenant, that with the highest value first, and no more than are drawn."""
    return _tenants(frame.sort_values(column, ascending=False, kind="stable")).head(most)


def _mode_rows(frame: pd.DataFrame, order: pd.DataFrame) -> Iterator[tuple[float, Any, str, str]]:
    """Yield every series that is drawn, with its height, colour and marker."""
    rows = {key: y for y, key in enumerate(_keys(order))}
    several = len({str(full) for full in frame["full"]}) > 1
    for row in frame.itertuples():
        y = rows.get((row.instance_id, row.tenant_id))
        if y is None:
            continue
        place = 2 if pd.isna(row.full) else 0 if row.full else 1
        shift = (-0.19, 0.19, 0.0)[place] if several else 0.0
        yield y + shift, row, *_MODES[place][2:]


def _mode_legend(frame: pd.DataFrame) -> list[Line2D]:
    """Return the marks of the modes there are."""
    there = {None if pd.isna(full) else bool(full) for full in frame["full"]}
    return [
        Line2D([], [], color=color, marker=marker, ls="", ms=6, label=name)
        for full, name, color, marker in _MODES
        if full in there
    ]


def _coverage_legend(causes: list[str], *, ticks: bool, bare: bool) -> list[Any]:
    """Return the marks of what a timeline shows."""
    marks: list[Any] = [] if bare else [Patch(facecolor=_INSIDE, label="inside RPO")]
    marks += [
        Patch(
            facecolor=_color(cause),
            hatch="////" if cause == _UNKNOWN else None,
            label=f"gap: {words(cause)}",
        )
        for cause in causes
    ]
    tick = Line2D([], [], color="#3F6F60", marker="|", ls="", ms=9, label="restore point")
    return [*marks, tick] if ticks else marks


def _reach(rated: pd.DataFrame) -> tuple[float, float]:
    """Return what an axis of rates spans: all rates, and intervals that do not dwarf them."""
    rates = rated["percent_per_30d"]
    low, high = min(float(rates.min()), 0.0), max(float(rates.max()), 0.0)
    room = max(high - low, 1.0)
    low = max(float(rated["percent_per_30d_low"].min()), low - 0.6 * room)
    high = min(float(rated["percent_per_30d_high"].max()), high + 0.6 * room)
    return min(low, 0.0) - 0.05 * room, max(high, 0.0) + 0.05 * room


def _cap(shown: pd.DataFrame, whole: pd.DataFrame) -> str:
    """Say how many tenants are not drawn."""
    return f" Shown: {len(shown)} of {len(whole)} tenants." if len(shown) < len(whole) else ""
