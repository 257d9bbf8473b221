"""Draw sizes, durations and throughput: along time for a few series, as figures for many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obanalytics.canvas import (
    date_axis,
    dress,
    expect,
    finish,
    finish_rows,
    keys_of,
    new_axes,
    nothing,
    on_face,
    room_for,
    row_labels,
    style,
)
from obanalytics.dots import SPANS, draw_flows, draw_rates, draw_spans
from obanalytics.letters import drawable
from obanalytics.strips import (
    MAX_LANES,
    Mark,
    Strip,
    draw_marks,
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
    MODES,
    UP,
    named,
    places,
    short,
    span_of,
    tenants_of,
    value_axis,
    worst,
)
from obanalytics.tracks import (
    MIN_GIB,
    changes_of,
    durations_of,
    run_tracks,
    size_tracks,
    throughput_of,
    times,
)
from obanalytics.wording import (
    NAME_CELLS,
    duration_sentence,
    format_span,
    growth_sentence,
    mode_name,
    plain,
    plural,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from obanalytics.tracks import Track, Tracks

    Axes: TypeAlias = Any  # matplotlib ships no types
    Floats: TypeAlias = NDArray[np.float64]
    Key: TypeAlias = tuple[object, object]

_WHO = ("instance_id", "tenant_id", "tenant_name")
_RATE = ("percent_per_30d", "percent_per_30d_low", "percent_per_30d_high")
_RATES = (*_WHO, "full", *_RATE, "verdict")
_TIMES = (*_WHO, "full", *SPANS, "running", "percent_per_30d_low")
_FLOWS = (*_WHO, "full", "throughput_gib_per_h")
_CROWD = 3  # marks in a legend: with more, those in a user's ax are short
_TOLD = 4  # changes whose sentences are written
_NEVER = "No finished backup set has a duration"


def plot_growth(growth: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how each tenant's sets grow, full and incremental apart.

    Parameters
    ----------
    growth : DataFrame
        What `size_growth` returned.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax. One tenant: full sizes as a line, incremental ones as bars, steps marked [GiB]. Up
        to 8: a lane each, every series to its own scale. More, or a frame that lost its sets on
        the way: rates with their 95 % intervals, the fastest on top [% in 30 days].

    Raises
    ------
    ValueError
        When the frame is not what `size_growth` returned.
    """
    expect(growth, "growth", "size_growth", _RATES)
    table = named(growth)
    order = worst(table, "percent_per_30d", len(table))
    with style(ax):
        tracks = size_tracks(growth, table) if len(order) <= lanes_for(ax) else {}
        if tracks:
            return _draw(ax, order, tracks, _growth_chart(table, one=len(order) == 1))
        rated = table[table["percent_per_30d"].notna()]
        if rated.empty:
            return nothing(ax, "Too little history for a growth rate: 8 sets over 6 days needed")
        return draw_rates(ax, table, _growth_found(table, one=False))


def plot_durations(
    durations: pd.DataFrame, ax: Axes | None = None, *, changes: pd.DataFrame | None = None
) -> Axes:
    """Draw how long each tenant's backups take, full and incremental apart.

    Parameters
    ----------
    durations : DataFrame
        What `duration_trends` returned.
    ax : Axes or None
        Where to draw; None makes a figure.
    changes : DataFrame or None
        What `duration_changes` returned, to be marked.

    Returns
    -------
    Axes
        The ax. One tenant: every run, and the median and 95th percentile of each week. Up to 8: a
        lane each, every series to its own scale. More, or a frame that lost its runs on the way:
        median, 95th percentile, longest and last run, the longest p95 on top. Logarithmic where
        durations differ much.

    Raises
    ------
    ValueError
        When a frame is not what its function returned.
    """
    expect(durations, "durations", "duration_trends", _TIMES)
    table, changed = named(durations), changes_of(changes, durations)
    order = worst(table, "p95", len(table))
    with style(ax):
        tracks: Tracks = {}
        if len(order) <= lanes_for(ax):
            tracks = run_tracks(durations, table, changed, durations_of)
        if tracks:
            chart = _duration_chart(table, changed, one=len(order) == 1)
            return _draw(ax, order, tracks, chart)
        timed = table[table["p50"].notna()]
        if timed.empty:
            return nothing(ax, _NEVER)
        return draw_spans(ax, timed, changed, duration_sentence(table))


def plot_throughput(
    durations: pd.DataFrame, ax: Axes | None = None, *, changes: pd.DataFrame | None = None
) -> Axes:
    """Draw how fast each tenant's backups are written, full and incremental apart.

    Parameters
    ----------
    durations : DataFrame
        What `duration_trends` returned.
    ax : Axes or None
        Where to draw; None makes a figure.
    changes : DataFrame or None
        What `duration_changes` returned; those that are not of size alone are marked.

    Returns
    -------
    Axes
        The ax. One tenant: every run of 0.1 GiB and more, and the median of each week [GiB/h]. Up
        to 8: a lane each, every series to its own scale. More, or a frame that lost its runs on
        the way: medians, the slowest on top.

    Raises
    ------
    ValueError
        When a frame is not what its function returned.
    """
    expect(durations, "durations", "duration_trends", _FLOWS)
    table, changed = named(durations), changes_of(changes, durations)
    changed = changed[~changed["cause"].eq("size").to_numpy(bool)]
    table = table[table["throughput_gib_per_h"].notna()]
    table = table.assign(slow=-table["throughput_gib_per_h"])
    order = worst(table, "slow", len(table))
    with style(ax):
        if table.empty:
            return nothing(ax, f"No finished backup set of {MIN_GIB} GiB or more has a duration")
        tracks: Tracks = {}
        if len(order) <= lanes_for(ax):
            tracks = run_tracks(durations, table, changed, throughput_of)
        if tracks:
            chart = _throughput_chart(table, changed, one=len(order) == 1)
            return _draw(ax, order, tracks, chart)
        return draw_flows(ax, table, changed, _throughput_found(table, one=False))


class _Chart(NamedTuple):
    """What a chart along time says."""

    found: str
    note: str
    unit: str
    """Of the values: GiB, s or GiB/h."""
    handles: list[Any]
    columns: Sequence[tuple[str, Mapping[Key, str]]]
    """What is written beside lanes, by tenant, the most important one last."""
    changed: pd.DataFrame
    """The changes that are told, the newest first."""


# --- drawing along time ------------------------------------------------------------------------


def _draw(ax: Axes | None, order: pd.DataFrame, tracks: Tracks, chart: _Chart) -> Axes:
    """Draw one tenant on axes of its own, or several in a lane each."""
    there = [key in tracks for key in keys_of(order)]
    order, fit = order[there], ax is not None
    one, lift = len(order) == 1, 0
    if one:
        ax = ax if ax is not None else new_axes(11, [" " * 10])
        (mine,) = tracks.values()
        where = {keys_of(order)[0]: _own_axis(ax, mine, chart.unit)}
        label = {"GiB": "size of a set [GiB]", "s": "duration", "GiB/h": "throughput [GiB/h]"}
        unit_label(ax, label[chart.unit], chart.unit if chart.unit != "s" else "", fit=fit)
    else:
        room = room_for(ax, MAX_LANES)
        names = row_labels(order, room.cells)
        keys = keys_of(order)
        every = [(head, [texts.get(key, "") for key in keys]) for head, texts in chart.columns]
        columns = fitting(ax, every)
        ax = ax if ax is not None else lane_axes(names, columns)
        where = {key: _lane(y, tracks[key]) for y, key in enumerate(keys_of(order))}
        finish_rows(ax, names)
        part_lanes(ax, len(names))
        lift = write_columns(ax, columns)
    drawn = [track for key in where for track in tracks[key]]
    span_of(ax, *(each for track in drawn for each in (track.x, track.open_x)))
    for key, its in where.items():
        for track, strip in zip(tracks[key], its, strict=True):
            _draw_track(ax, track, strip, bars=chart.unit == "GiB" and track.place == 1, one=one)
    date_axis(ax)
    handles = _legend(ax, chart, one=one, fit=fit)
    dress(ax, chart.found, chart.note, handles=handles, columns=4 - one, lift=lift, fit=fit)
    draw_marks(ax, _marks(where, tracks, ax, shared=one and chart.unit != "GiB"))
    return ax


def _own_axis(ax: Axes, tracks: Sequence[Track], unit: str) -> list[Strip]:
    """Scale and label an axis for one tenant, and return where its series are drawn on it."""
    if unit != "GiB":
        values = np.concatenate([np.concatenate([t.value, t.open]) for t in tracks])
        value_axis(ax, "y", values[values > 0], seconds=unit == "s")
        finish(ax, along="y")
        return [Strip(0.0, 1.0, ax.get_ylim()[1])] * len(tracks)
    upper = [t.value.max() for t in tracks if t.place != 1]
    lower = [t.value.max() for t in tracks if t.place == 1]
    both = bool(upper and lower)  # on one scale bars would vanish
    main, below = two_scales(ax, float(max(upper or lower)), float(max(lower)) if both else None)
    return [below if track.place == 1 else main for track in tracks]


def _lane(y: float, tracks: Sequence[Track]) -> list[Strip]:
    """Return where the series of a tenant are drawn in its lane: incremental ones are lower."""
    return strips(y, [track.top() for track in tracks], [1 + (t.place == 0) for t in tracks])


def _draw_track(ax: Axes, track: Track, strip: Strip, *, bars: bool, one: bool) -> None:
    """Draw a series: bars, or a band, a line and points."""
    _, _, color, marker = MODES[track.place]
    width = 72 * ax.bbox.width / ax.figure.dpi  # points
    apart = width / max(len(track.x), 1)
    value = track.value if one else np.minimum(track.value, strip.top)
    if bars:
        wide = min(max(0.6 * apart, 0.6), 5.0)
        ax.vlines(track.x, strip.base, strip.at(value), color=color, lw=wide, zorder=2)
        return
    line = track.line if one else np.minimum(track.line, strip.top)
    if len(track.high):
        high = track.high if one else np.minimum(track.high, strip.top)
        look: Any = {"color": color, "alpha": 0.22, "lw": 0, "zorder": 1.5}
        ax.fill_between(track.line_x, strip.at(line), strip.at(high), **look)
    if len(line):
        ax.plot(track.line_x, strip.at(line), color=color, lw=1.6 if one else 1.2, zorder=3)
    size = min(max(0.7 * apart, 1.8), 5.0 if one else 3.0)
    dots: Any = {"color": color, "ls": "", "marker": marker, "ms": size, "mew": 0, "zorder": 2.5}
    same = track.line is track.value
    if len(value) and (
        not same or apart > (5 if one else 8)
    ):  # a line through all sets needs no points
        ax.plot(track.x, strip.at(value), alpha=0.95 if same else 0.5, **dots)
    if len(track.open):  # lines of nothing would count as labels at the figure's corner
        open_ = track.open if one else np.minimum(track.open, strip.top)
        look = {"marker": UP, "ls": "", "ms": 11 if one else 7, "mfc": "none", "mec": color}
        ax.plot(track.open_x, strip.at(open_), mew=1.2, zorder=4, clip_on=not one, **look)


def _marks(
    where: Mapping[Key, list[Strip]], tracks: Tracks, ax: Axes, *, shared: bool
) -> list[Mark]:
    """Return the marks of what changed; on an axis that series share they are numbered."""
    made, (low, high) = [], sorted(ax.get_ylim())
    for key, its in where.items():
        for track, strip in zip(tracks[key], its, strict=True):
            ends = (strip.base, float(strip.at(strip.top)))
            ends = (low, high) if shared else ends
            color = MODES[track.place][2]
            for x, factor in track.marks:
                # Where the line is not: under it after a rise, over it after a fall.
                side = "" if shared else "low" if factor >= 1 else "high"
                made.append(Mark(x, times(factor), color, *ends, side))
    if not shared:
        return made
    made.sort(key=lambda mark: -mark.x)
    return [mark._replace(label=str(n)) for n, mark in enumerate(made, 1)]


def _legend(ax: Axes, chart: _Chart, *, one: bool, fit: bool) -> list[Any]:
    """Return marks for a legend, wrapped, with a sentence for every change, the newest first."""
    made, changed = list(chart.handles), chart.changed if one else chart.changed.head(0)
    if fit and len(made) + len(changed) > _CROWD:
        for handle in made:  # the chart is worth more than figures in its legend
            handle.set_label(str(handle.get_label()).split(": ")[0])
    for number, row in enumerate(changed.head(_TOLD).itertuples(), 1):
        color = MODES[places(pd.Series([row.full]))[0]][2]
        said = _in_short(row, speed=chart.unit == "GiB/h") if fit else plain(row.sentence)
        look: Any = {"color": color, "lw": 1.1, "ls": (0, (3, 2)), "label": f"{number}: {said}"}
        made.append(Line2D([], [], **look))
    if len(changed) > _TOLD:
        made.append(Line2D([], [], ls="", label=f"and {len(changed) - _TOLD} earlier"))
    room = legend_cells(ax, fit=fit)
    for handle in made:
        text = drawable(str(handle.get_label()))
        handle.set_label("\n".join(wrapped(text, room)))
    return made


def _mode_marks(table: pd.DataFrame, texts: Sequence[str], *, bars: bool) -> list[Any]:
    """Return a mark for every mode of one tenant, with what is known of it."""
    made: list[Any] = []
    there = places(table["full"])
    for place, text in sorted(zip(there.tolist(), texts, strict=True)):
        _, name, color, marker = MODES[place]
        label = f"{name}: {text}" if text else name
        if bars and place == 1:
            made.append(Patch(facecolor=color, label=label))
        else:
            made.append(Line2D([], [], color=color, marker=marker, ms=5, lw=1.4, label=label))
    return made


# --- what is said ------------------------------------------------------------------------------


def _heads(table: pd.DataFrame) -> dict[Key, Any]:
    """Return one row per tenant, of full sets where there are any."""
    ordered = table.iloc[np.argsort(places(table["full"]), kind="stable")]
    mine = tenants_of(ordered)
    return dict(zip(keys_of(mine), mine.itertuples(), strict=True))


def _all_full(rows: Mapping[Key, Any]) -> bool:
    """Tell whether all of some rows are of full sets."""
    return all(mode_name(row.full) == "full" for row in rows.values())


def _rate(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Return a change in percent, signed."""
    value = row.percent_per_30d
    if pd.isna(value):
        return "n/a"
    return f"{value:+,.1f} %" if abs(value) < 1e4 else f"{value:+.1e} %"  # noqa: PLR2004 - absurd


def _rate_and_interval(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Return a change in percent with its interval; nothing where there is none."""
    if pd.isna(row.percent_per_30d):
        return "too little history for a rate"
    low, high = (getattr(row, name) for name in _RATE[1:])
    wide = max(abs(low), abs(high)) >= 1e4  # noqa: PLR2004 - absurd
    interval = f" ({low:+.1e} to {high:+.1e})" if wide else f" ({low:+,.1f} to {high:+,.1f})"
    return f"{_rate(row)} in 30 days{interval}"


def _growth_found(table: pd.DataFrame, *, one: bool) -> str:
    """Say in one sentence how sets grow."""
    steps = int((table["steps"] > 0).sum()) if "steps" in table else 0
    if not one:
        found = growth_sentence(table)
        if table.attrs.get("by") == "cluster":
            found = found.replace(" tenants;", " clusters;", 1).replace(" tenant;", " cluster;", 1)
        return f"{found}; {plural(steps, 'series')} with a step" if steps else found
    (row,) = _heads(table).values()
    name, sets = plain(row.tenant_name, NAME_CELLS), f"{mode_name(row.full)} sets"
    sets = "sets of unknown mode" if pd.isna(row.full) else sets
    verbs = {"growing": "grow", "shrinking": "shrink", "flat": "show no clear growth,"}
    verb = verbs.get(str(row.verdict), "have")
    found = f"{name}: {sets} {verb} {_rate_and_interval(row)}"
    if pd.notna(size := getattr(row, "last_size_gib", np.nan)):
        found += f"; the last {short(size)} GiB"
    if steps and pd.notna(getattr(row, "step_at", pd.NaT)):
        found += f"; a step {times(row.step_factor)} on {row.step_at:%Y-%m-%d}"
    return found


def _growth_chart(table: pd.DataFrame, *, one: bool) -> _Chart:
    """Return what a chart of sizes says."""
    heads = _heads(table)
    whose = "full " if _all_full(heads) else ""
    columns = [(f"{whose}% in 30 d", {key: _rate(row) for key, row in heads.items()})]
    if "last_size_gib" in table:
        last = {key: f"{short(row.last_size_gib)} GiB" for key, row in heads.items()}
        columns.insert(0, (f"last {whose}size".replace("full size", "full"), last))
    note = "Line: full sets, bars: incremental ones; dashed: a step."
    note = note if one else f"{note} Fastest first, every series to its own scale."
    if "thinned" in table and table["thinned"].any():
        note += " Rates of long series are from thinned points."
    texts = [_rate_and_interval(row) for row in table.itertuples()]
    if "gib_per_day" in table:
        texts = [_per_day(row, text) for row, text in zip(table.itertuples(), texts, strict=True)]
    handles = _mode_marks(table, texts if one else [""] * len(table), bars=True)
    found, none = _growth_found(table, one=one), pd.DataFrame()
    return _Chart(found, note, "GiB", _once(handles), columns, none)


def _per_day(row: Any, text: str) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Return a rate as GiB in a day too."""
    daily = row.gib_per_day
    return (
        text if pd.isna(daily) else f"{'+' if daily >= 0 else ''}{short(daily)} GiB a day, {text}"
    )


def _once(handles: Sequence[Any]) -> list[Any]:
    """Return those marks of which none has the label of one before."""
    return list({handle.get_label(): handle for handle in handles}.values())


def _duration_chart(table: pd.DataFrame, changed: pd.DataFrame, *, one: bool) -> _Chart:
    """Return what a chart of durations says."""
    heads, whose = _heads(table), "full " if _all_full(_heads(table)) else ""
    columns: list[tuple[str, Mapping[Key, str]]] = [
        (f"{whose}{name}", {key: format_span(getattr(row, name)) for key, row in heads.items()})
        for name in ("last", "p95")
    ]
    texts = [
        f"median {format_span(row.p50)}, p95 {format_span(row.p95)}, last {format_span(row.last)}"
        for row in table.itertuples()
    ]
    handles = _once(_mode_marks(table, texts if one else [""] * len(table), bars=False))
    grey = on_face("#59636E", "#AAB3BD")
    handles.append(Patch(facecolor=grey, alpha=0.4, label="median to p95 of each week"))
    if table["running"].any():
        look: Any = {"marker": UP, "ls": "", "ms": 10, "mfc": "none", "mec": grey}
        handles.append(Line2D([], [], label="not over: at least so long", **look))
    note = "Every run by when it began; line: the week's median."
    if one:
        return _Chart(_spans_found(table, changed), note, "s", handles, columns, changed)
    found = duration_sentence(table)
    found += f"; {plural(len(changed), 'change')} found" if len(changed) else ""
    note = "Longest p95 first, every series to its own scale; line: the week's median."
    return _Chart(found, note, "s", [*handles, *_change_mark(changed)], columns, changed)


def _spans_found(table: pd.DataFrame, changed: pd.DataFrame) -> str:
    """Say in one sentence how long one tenant's backups take."""
    (row,) = _heads(table).values()
    name, runs = plain(row.tenant_name, NAME_CELLS), f"{mode_name(row.full)} backups"
    runs = "backups of unknown mode" if pd.isna(row.full) else runs
    found = f"{name}: no finished backup has a duration"
    if pd.notna(row.p50):
        found = f"{name}: {runs} take {format_span(row.p50)} (p95 {format_span(row.p95)})"
    verdict = str(getattr(row, "verdict", ""))
    if verdict in {"slower", "faster"}:
        found += f", {verdict}: {_rate(row)} in 30 days"
    found += f"; {_in_short(next(changed.itertuples()), speed=False)}" if len(changed) else ""
    running = int(table["running"].sum())
    return found + (f"; {plural(running, 'run')} unfinished now" if running else "")


def _in_short(row: Any, *, speed: bool) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say what a change is: of the duration, or of the throughput."""
    factor, is_worse = 1 / row.throughput_factor if speed else row.factor, row.factor >= 1
    causes = {
        "size": "larger sets" if is_worse else "smaller sets",
        "throughput": "slower per GiB" if is_worse else "faster per GiB",
    }
    why = causes.get(str(row.cause), "by size and by throughput")
    what = "the throughput" if speed else "as long"
    return f"{mode_name(row.full)} {times(factor)} {what} since {row.at:%Y-%m-%d}, {why}"


def _change_mark(changed: pd.DataFrame) -> list[Any]:
    """Return the mark of a change in lanes."""
    look: Any = {"color": on_face("#59636E", "#AAB3BD"), "lw": 1.1, "ls": (0, (3, 2))}
    return [Line2D([], [], label="change, with its factor", **look)] if len(changed) else []


def _throughput_found(table: pd.DataFrame, *, one: bool) -> str:
    """Say in one sentence how fast backups are written."""
    if one:
        (row,) = _heads(table).values()
        name, rate = plain(row.tenant_name, NAME_CELLS), short(row.throughput_gib_per_h)
        return f"{name}: {mode_name(row.full)} backups are written at {rate} GiB/h, the median"
    low, high = (short(each) for each in table["throughput_gib_per_h"].agg(["min", "max"]))
    top = table.iloc[int(table["throughput_gib_per_h"].argmin())]
    name, mode = plain(top["tenant_name"], NAME_CELLS), mode_name(top["full"])
    return f"Backups are written at {low} to {high} GiB/h; the slowest: {name}, {mode}"


def _throughput_chart(table: pd.DataFrame, changed: pd.DataFrame, *, one: bool) -> _Chart:
    """Return what a chart of throughput says."""
    heads = _heads(table)
    whose = "full " if _all_full(heads) else ""
    median = {key: f"{short(row.throughput_gib_per_h)} GiB/h" for key, row in heads.items()}
    texts = [f"median {short(row.throughput_gib_per_h)} GiB/h" for row in table.itertuples()]
    handles = _once(_mode_marks(table, texts if one else [""] * len(table), bars=False))
    handles += [] if one else _change_mark(changed)
    found = _throughput_found(table, one=one)
    if len(changed):
        many = f"; {plural(len(changed), 'change')} found"
        newest = next(changed.itertuples())
        found += f"; {_in_short(newest, speed=True)}" if one else many
    note = f"Finished runs of {MIN_GIB} GiB and more; line: the week's median."
    note += "" if one else " Slowest first, every series to its own scale."
    return _Chart(found, note, "GiB/h", handles, [(f"{whose}median", median)], changed)
