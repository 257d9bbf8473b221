"""Draw finished numbers as cells, a row per tenant: which sets it is in, which slots it met."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path

from obanalytics.canvas import (
    INK,
    date_axis,
    dates,
    dress,
    expect,
    finish_rows,
    keys_of,
    new_axes,
    nothing,
    on_face,
    room_for,
    row_labels,
    style,
)
from obanalytics.letters import drawable
from obanalytics.wording import (
    cap_sentence,
    cells,
    format_span,
    plain,
    plural,
    tenant_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types
    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]
    Kinds: TypeAlias = "Sequence[_Kind]"
    Worse: TypeAlias = Sequence[Sequence[int]]

MAX_CELL_ROWS = 60
"""More tenants than this are not drawn: the worst are, and the note says so."""


class _Kind(NamedTuple):
    """How a label is drawn: by colour, and by how much of a row's height it fills."""

    label: str
    light: str
    dark: str
    top: float = 1.0  # from the middle of the row, as a share of its reach
    low: float = -1.0
    fill: str = "whole"  # or hatch, hollow, or mark: on a cell of the best kind


# From the best to the worst: of several in one cell the last is drawn. Okabe-Ito, as in timelines.
PRESENCE = (
    _Kind("present", "#C9E4DA", "#1E4638", 0.74, -0.74),
    _Kind("new", "#009E73", "#009E73", -0.1, -0.74),
    _Kind("gone", "#8C8C8C", "#8C8C8C", 0.14, -0.14),
    _Kind("running", "#56B4E9", "#56B4E9", 0.4, -0.4),
    _Kind("not known", "#ECEEF1", "#2B3138", 0.74, -0.74, "hatch"),
    _Kind("failed", "#CC79A7", "#CC79A7", 1.0, 0.0),
    _Kind("missing", "#0072B2", "#F0E442"),
)
OUTCOMES = (
    _Kind("met", "#C9E4DA", "#1E4638"),
    _Kind("pending", "#8C8C8C", "#8C8C8C", fill="hollow"),
    _Kind("not known", "#ECEEF1", "#2B3138", fill="hatch"),
    _Kind("late", "#E69F00", "#E69F00", top=0.0, fill="mark"),
    _Kind("missed", "#D55E00", "#D55E00"),
)
_NEW, _GONE, _RUNNING, _UNKNOWN, _FAILED, _MISSING = range(1, 7)
_PENDING, _DOUBT, _LATE, _MISSED = range(1, 5)
_SOFT = ("#59636E", "#AAB3BD")
_LONG, _SHORT = 0.42, 0.21  # half the height of a cell, in rows
# Inches: cells of one moment are wider, those of a span of time; what shows seams, what is seen.
_LEAST, _BIN, _SEAMS, _SEEN = 1 / 18, 1 / 55, 1 / 24, 1 / 36
# Days that a cell may span.
_UNITS = (1 / 24, 0.25, 0.5, 1.0, 2.0, 7.0, 14.0, 28.0, 91.0, 364.0, 3640.0)
_POINT = 5.5  # points that a cell of a text beside the rows takes
_MONDAY = 4.0  # 1970-01-05, as matplotlib counts days
_WHO = ("instance_id", "tenant_id", "tenant_name")
_SETS = (*_WHO, "cluster_backup_set_id", "start_time", "presence", "cluster_state")
_SLOTS = (*_WHO, "mode", "slot", "outcome")
_CADENCE = (*_WHO[:2], "mode", "since", "every", "weekdays", "hour", "tz")
_SET = ["instance_id", "cluster_backup_set_id"]


def plot_parity(parity: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw which tenants each cluster set holds, and which it should hold and does not.

    Parameters
    ----------
    parity : DataFrame
        What `tenant_parity` returned.
    ax : Axes or None
        Where to draw; None makes a figure. A user's ax is made smaller where labels need room.

    Returns
    -------
    Axes
        The ax: a row per tenant, the worst on top, those of an instance together; a cell per
        cluster set where it began, or, where that is too narrow, for the worst of a span of time.

    Raises
    ------
    ValueError
        When the frame is not what its function returned.
    """
    expect(parity, "parity", "tenant_parity", _SETS)
    with style(ax):
        if parity.empty:
            return nothing(ax, "No cluster set in this window")
        kind = _severity(parity["presence"], PRESENCE, _UNKNOWN)
        is_long = np.ones(len(parity), bool)
        things = _Things(parity["start_time"], kind, _group(parity, _WHO[:1]), is_long)
        fleet = _fleet(parity, things, ((_FAILED, _MISSING), (_GONE,), (_UNKNOWN,)), PRESENCE)
        found, several = _parity_found(parity, kind, fleet), "cell: the worst of up to {} sets"
        said = (found, "Worst first", several, ZoneInfo("UTC"))
        return _grid(ax, things, fleet, _parity_columns, said)


def plot_schedule(
    runs: pd.DataFrame,
    ax: Axes | None = None,
    *,
    schedule: pd.DataFrame | None = None,
    tz: str = "UTC",
) -> Axes:
    """Draw which slots of their schedules the tenants met, and which they missed.

    Parameters
    ----------
    runs : DataFrame
        What `missed_runs` returned.
    ax : Axes or None
        Where to draw; None makes a figure. A user's ax is made smaller where labels need room.
    schedule : DataFrame or None
        What `schedule` returned: then each tenant's newest cadence stands beside its row.
    tz : str
        The time zone of the axis and of the title.

    Returns
    -------
    Axes
        The ax: a row per tenant, the worst on top, those of an instance together; a tick per slot,
        long for full sets, or, where that is too narrow, for the worst of a span of time.

    Raises
    ------
    ValueError
        When a frame is not what its function returned, or the time zone is none.
    """
    expect(runs, "runs", "missed_runs", _SLOTS)
    if schedule is not None:
        expect(schedule, "schedule", "schedule", _CADENCE)
    try:
        zone = ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"tz is no time zone: {tz!r} (expected e.g. 'Asia/Shanghai')") from error
    with style(ax):
        if runs.empty:
            return nothing(ax, "No slot is expected in this window")
        kind = _severity(runs["outcome"], OUTCOMES, _DOUBT)
        is_long = (runs["mode"] == "full").fillna(value=False).to_numpy(bool)
        lane = 2 * _group(runs, _WHO[:2]) + is_long
        things = _Things(runs["slot"], kind, lane, is_long)
        fleet = _fleet(runs, things, ((_MISSED,), (_LATE,), (_DOUBT,)), OUTCOMES)
        origins = set(runs["origin"].dropna().astype(str)) if "origin" in runs else set()
        note = "Schedule inferred from the sets. " if origins == {"inferred"} else ""
        found = _schedule_found(runs, kind, fleet, zone)
        said = (found, note + "Most missed first", "tick: the worst of up to {} slots", zone)
        return _grid(ax, things, fleet, lambda a, b: _slot_columns(a, b, schedule), said)


class _Things(NamedTuple):
    """What is drawn: sets of tenants, or slots."""

    moment: pd.Series
    kind: Ints
    lane: Ints  # what shares its times: of one lane no two cells overlap
    is_long: Bools

    def of(self, chosen: Bools) -> _Things:
        """Return some of them."""
        return _Things(*(each[chosen] for each in self))  # type: ignore[arg-type]


class _Fleet(NamedTuple):
    """The tenants of a frame, the worst first."""

    tenants: pd.DataFrame  # as each was called last
    counts: Ints  # how often each has each kind
    rank: Ints  # the number of the tenant of each row of the frame
    kinds: Kinds


def _severity(labels: pd.Series, kinds: Kinds, unknown: int) -> Ints:
    """Return the number of each row's kind; a label that is none of them is not known."""
    number = {kind.label: place for place, kind in enumerate(kinds)}
    known = labels.astype("category").cat
    table = np.array([*(number.get(str(each), unknown) for each in known.categories), unknown])
    return np.asarray(table[known.codes.to_numpy()], np.int64)


def _group(frame: pd.DataFrame, columns: Sequence[str]) -> Ints:
    """Return what rows have in common, numbered as it comes."""
    grouped = frame.groupby(list(columns), observed=True, sort=False, dropna=False)
    return np.asarray(grouped.ngroup(), np.int64)


def _micros(moment: pd.Series) -> Ints:
    """Return instants as integers; what is missing is the earliest."""
    return np.asarray(moment.dt.as_unit("us").to_numpy("M8[us]").view(np.int64))


def _fleet(frame: pd.DataFrame, things: _Things, worse: Worse, kinds: Kinds) -> _Fleet:
    """Return the tenants, sorted by what is the worse the more there is of it, then by ids."""
    group, width = _group(frame, _WHO[:2]), len(kinds)
    size = int(group.max()) + 1
    counts = np.bincount(group * width + things.kind, minlength=size * width).reshape(size, width)
    order = np.argsort(_micros(things.moment), kind="stable")
    newest = np.empty(size, np.int64)
    newest[group[order]] = order
    tenants = frame[list(_WHO)].iloc[newest].astype("object").reset_index(drop=True)
    ids = [np.unique(tenants[c].astype(str), return_inverse=True)[1] for c in _WHO[1::-1]]
    bad = [-counts[:, list(each)].sum(axis=1) for each in reversed(worse)]
    order = np.lexsort((*ids, *bad))
    place = np.empty(size, np.int64)
    place[order] = np.arange(size)
    return _Fleet(tenants.iloc[order].reset_index(drop=True), counts[order], place[group], kinds)


class _Columns(NamedTuple):
    """Where cells are."""

    cell: Ints  # the number of the cell of each thing
    left: Floats  # of each cell [days]
    right: Floats
    span: tuple[float, float]  # of the chart [days]
    per_inch: float  # what an inch of it spans [days]
    unit: float  # what a cell spans [days]; 0 where each is for one moment


def _columns(inches: float, things: _Things) -> _Columns:
    """Find cells that can be told apart: one per moment, or per span of time where these cannot."""
    days = np.asarray(dates.date2num(things.moment.dt.tz_convert(None).to_numpy()), np.float64)
    order = np.lexsort((days, things.lane))
    lane, days = things.lane[order], days[order]
    new = _changes(lane, days)
    cell = np.empty(len(days), np.int64)
    cell[order] = np.cumsum(new) - 1
    lane, days = lane[new], days[new]
    gaps = np.diff(days)[lane[1:] == lane[:-1]]
    whole = float(np.ptp(days)) if len(days) else 0.0
    usual = float(np.quantile(gaps, 0.75)) if len(gaps) else (whole or 1.0)
    per_inch, unit = (whole + usual) / inches, 0.0
    if not len(gaps) or gaps.min() >= _LEAST * per_inch:
        near = np.where(lane[1:] == lane[:-1], np.diff(days), np.inf)
        most = min(usual, 0.42 * per_inch)
        left = days - np.minimum(most, np.append([np.inf], near)[: len(days)]) / 2
        right = days + np.minimum(most, np.append(near, [np.inf])[: len(days)]) / 2
    else:
        least = max(min(0.75 * usual, 0.42 * per_inch), _BIN * per_inch)
        unit = next((each for each in _UNITS if each >= least), float(np.ceil(least)))
        anchor = _MONDAY if unit > 1.5 * usual else _usual(lane, days, unit) - unit / 2
        left = anchor + unit * np.floor((days - anchor) / unit)
        new = _changes(lane, left)
        cell, left = (np.cumsum(new) - 1)[cell], left[new]
        right = left + unit
    first, last = (float(left.min()), float(right.max())) if len(left) else (0.0, 1.0)
    wider = max((usual - last + first) / 2, 0.006 * (last - first))
    per_inch = (last - first + 2 * wider) / inches
    return _Columns(cell, left, right, (first - wider, last + wider), per_inch, unit)


def _changes(lane: Ints, days: Floats) -> Bools:
    """Tell where what is sorted is not what it was before."""
    return np.append([True], (np.diff(lane) != 0) | (np.diff(days) != 0))[: len(lane)]


def _usual(lane: Ints, days: Floats, unit: float) -> Floats:
    """Return the usual place of each lane in a span of time: what jitters stays in its cell."""
    turn = 2 * np.pi * (days % unit) / unit
    sums = (np.bincount(lane, each(turn)) for each in (np.sin, np.cos))
    return np.asarray((np.arctan2(*sums) / (2 * np.pi) * unit)[lane], np.float64)


def _draw_cells(
    ax: Axes, columns: _Columns, row: Ints, kind: Ints, look: tuple[Kinds, float, float]
) -> list[Any]:
    """Draw the worst of every cell of every row, an artist per kind; return marks of the kinds."""
    kinds, reach, zorder = look
    count, size, marks = len(kinds), len(columns.left), []
    packed = np.unique((row * size + columns.cell) * count + kind)
    packed = packed[np.append(np.diff(packed // count) != 0, [True])[: len(packed)]]
    worst, place = packed % count, packed // count
    row, left, right = place // size, columns.left[place % size], columns.right[place % size]
    seam = np.where(right - left > _SEAMS * columns.per_inch, 0.07 * (right - left), 0.0)
    seen = (right - left - _SEEN * columns.per_inch) / 2  # what is not as it should be must be
    marked = [number for number, each in enumerate(kinds) if each.fill == "mark"]
    for number, each in enumerate(kinds):
        mine = (worst == number) if number else np.isin(worst, [0, *marked])
        if not mine.any():
            continue
        inset = (np.minimum(seam, seen) if number else seam)[mine]
        boxes: Any = np.empty((len(inset), 4, 2))
        boxes[:, :2, 0] = (left[mine] + inset)[:, None]
        boxes[:, 2:, 0] = (right[mine] - inset)[:, None]
        boxes[:, ::3, 1] = row[mine, None] - reach * each.top
        boxes[:, 1:3, 1] = row[mine, None] - reach * each.low
        how, mark = _look(each, smooth=number > 0)
        ax.add_collection(PolyCollection(boxes, zorder=zorder + number / 100, **how))
        marks.append(mark)
    return marks


def _look(kind: _Kind, *, smooth: bool) -> tuple[dict[str, Any], Any]:
    """Return how cells of a kind look, and what stands for them in a legend."""
    color, name = on_face(kind.light, kind.dark), kind.label
    look: dict[str, Any] = {"facecolor": color, "edgecolor": on_face(*_SOFT), "label": name}
    if kind.fill == "hatch":
        look |= {"hatch": "////", "lw": 0}
    elif kind.fill == "hollow":
        look |= {"facecolor": "none", "lw": 0.8}
    else:
        top, low = 0.8 * kind.top, 0.8 * kind.low  # under 1: it is the width that fills the mark
        box = Path([(-1, low), (-1, top), (1, top), (1, low), (-1, low)], closed=True)
        mark = Line2D([], [], ls="", marker=box, ms=11, mec="none", mfc=color, label=name)
        # Without smoothing cells that touch show no seams; with it none is too thin to be seen.
        return look | {"edgecolor": "none", "antialiased": smooth}, mark
    return look, Patch(**look)


def _draw_lanes(ax: Axes, columns: _Columns, row: Ints, things: _Things, kinds: Kinds) -> list[Any]:
    """Draw long cells, and short ones on them, and return their marks."""
    is_long = things.is_long
    if is_long.all() or not is_long.any():
        return _draw_cells(ax, columns, row, things.kind, (kinds, _LONG, 2.0))
    marks: dict[str, Any] = {}
    for mine, reach, order in ((is_long, _LONG, 2.0), (~is_long, _SHORT, 3.0)):
        part = columns._replace(cell=columns.cell[mine])
        found = _draw_cells(ax, part, row[mine], things.kind[mine], (kinds, reach, order))
        marks |= {mark.get_label(): mark for mark in found}
    look: Any = {"color": on_face(*_SOFT), "ls": "", "marker": "|"}
    ticks = (("long: full slot", 11), ("short: any other slot", 5))
    long_and_short = [Line2D([], [], ms=size, label=label, **look) for label, size in ticks]
    return [marks[kind.label] for kind in kinds if kind.label in marks] + long_and_short


class _Beside(NamedTuple):
    """A column of texts beside the rows."""

    head: str
    texts: list[str]
    bold: Bools


def _taken(beside: list[_Beside]) -> float:
    """Return how wide columns are [points]."""
    return sum(_POINT * max(map(cells, [each.head, *each.texts])) + 10 for each in beside)


def _grid(
    ax: Axes | None,
    things: _Things,
    fleet: _Fleet,
    columns_of: Callable[[pd.DataFrame, Ints], list[_Beside]],
    said: tuple[str, str, str, ZoneInfo],
) -> Axes:
    """Draw cells in rows, and what stands around them."""
    found, note, several, zone = said
    room, fit = room_for(ax, MAX_CELL_ROWS), ax is not None
    shown = fleet.tenants.head(room.rows)
    group = _group(shown, _WHO[:1])
    shown = shown.iloc[np.argsort(group, kind="stable")]
    note += ", by instance." if group.any() else "."
    names = row_labels(shown, room.cells)
    beside = columns_of(shown, fleet.counts[shown.index]) if room.aside else []
    ax, beside, wide = _axes(ax, names, beside)
    rows = np.full(len(fleet.tenants), -1, np.int64)
    rows[shown.index] = np.arange(len(shown))
    drawn = (rows[fleet.rank] >= 0) & things.moment.notna().to_numpy()
    row, undated = rows[fleet.rank[drawn]], int(things.moment.isna().sum())
    things = things.of(drawn)
    columns = _columns(wide, things)
    handles = _draw_lanes(ax, columns, row, things, fleet.kinds)
    handles = handles if room.aside else [mark for mark in handles if ":" not in mark.get_label()]
    finish_rows(ax, names)
    ax.set_xlim(columns.span)
    for each in np.flatnonzero(np.diff(np.sort(group))):
        ax.axhline(each + 0.5, color=mpl.rcParams["axes.edgecolor"], lw=0.8, zorder=1)
    _write_beside(ax, beside)
    date_axis(ax, f"time [{zone.key}]")
    locator = ax.xaxis.get_major_locator()
    locator.set_tzinfo(zone)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone, show_offset=False))
    lane = (2 * row + things.is_long) * max(len(columns.left), 1)
    most = int(np.unique(lane + columns.cell, return_counts=True)[1].max(initial=0))
    unit = format_span(pd.Timedelta(round(24 * columns.unit), "h"))
    note += f" Each {several.format(most)} in {unit}." if most > 1 else ""
    note += f" Without a time, not drawn: {undated:,}." if undated else ""
    note += cap_sentence(len(shown), len(fleet.tenants))
    dress(ax, found, note, handles=handles, columns=7, lift=14 if beside else 0, fit=fit)
    return ax


def _axes(
    ax: Axes | None, names: list[str], beside: list[_Beside]
) -> tuple[Axes, list[_Beside], float]:
    """Return an ax, what there is room for beside it, and how wide it will be [inches]."""
    if ax is None:
        height = 0.29 if len(names) <= 12 else 0.19  # noqa: PLR2004 - inches
        right, top = 0.25 + _taken(beside) / 72, 0.98 if beside else 0.8
        ax = new_axes(len(names), names, right=right, top=top, row=height)
        return ax, beside, ax.bbox.width / ax.figure.dpi
    wide = max(ax.bbox.width / ax.figure.dpi, 0.1)
    left = wide - _POINT / 72 * max(map(cells, names))  # as `dress` will narrow it
    while beside and left - _taken(beside) / 72 < 0.4 * wide:
        beside = beside[:-1]
    return ax, beside, max(left - _taken(beside) / 72, wide / 3)


def _write_beside(ax: Axes, beside: list[_Beside]) -> None:
    """Write a column that ends, and one that begins, at a line beside the rows."""
    rc = mpl.rcParams
    bad = "#B34700" if rc["text.color"] == INK else "#FF9A57"  # it stands beside the ax
    for number, column in enumerate(beside):
        at = _taken(beside[:1]) + (10 if number else 0)
        look = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
        look |= {"xytext": (at, 0), "ha": "left" if number else "right", "parse_math": False}
        for y, (text, bold) in enumerate(zip(column.texts, column.bold, strict=True)):
            more = {"color": bad, "fontweight": "bold"} if bold else {}
            ax.annotate(text, (1, y), fontsize=8.5, va="center", **look, **more)
        look |= {"color": rc["axes.labelcolor"], "fontsize": 8, "va": "bottom"}
        ax.annotate(column.head, (1, -0.62), **look)


def _of(parts: Ints, wholes: Ints) -> list[str]:
    """Return how many of how many."""
    return [f"{a:,} of {b:,}" if b else "n/a" for a, b in zip(parts, wholes, strict=True)]


def _called(fleet: _Fleet, some: Ints) -> list[str]:
    """Name some tenants so that they cannot be taken for others of the fleet."""
    names = tenant_labels(fleet.tenants)
    return [names[number] for number in some]


def _parity_columns(_: pd.DataFrame, counts: Ints) -> list[_Beside]:
    """Return from how many of the sets that should hold it each tenant is missing; failures."""
    owed = counts.sum(axis=1) - counts[:, _NEW] - counts[:, _GONE]
    missing, failed = counts[:, _MISSING], counts[:, _FAILED]
    made = [_Beside("missing", _of(missing, owed), missing > 0)]
    if failed.any():
        made.append(_Beside("failed", [f"{n:,}" for n in failed], failed > 0))
    return made


def _parity_found(parity: pd.DataFrame, kind: Ints, fleet: _Fleet) -> str:
    """Say in one sentence what is missing, and whether the cluster sets say so."""
    is_bad, whole = kind >= _FAILED, plural(len(fleet.tenants), "tenant")
    if not is_bad.any():
        return _parity_clean(parity, fleet)
    is_told = is_bad & (parity["cluster_state"] == "done").fillna(value=False).to_numpy(bool)
    chosen = is_told if is_told.any() else is_bad
    times = np.bincount(fleet.rank[chosen], minlength=len(fleet.tenants))
    order = np.argsort(-times, kind="stable")[: np.count_nonzero(times)]
    one = int(_group(parity[chosen], _SET).max()) == 0
    what = "a cluster set" if one else "cluster sets"
    tail = f"; {'it does not say' if one else 'none of them says'} done"
    if is_told.any():
        what += " that says done" if one else " that say done"
        more = np.count_nonzero(np.bincount(fleet.rank[is_bad])) - len(order)
        tail = f"; {more:,} more in sets that do not" if more else ""
    gone = np.count_nonzero(fleet.counts[:, _GONE])
    tail += f"; {gone:,}\u00a0gone" if gone else ""
    pairs = (("missing from", _MISSING), ("failed in", _FAILED))
    verbs = [verb for verb, number in pairs if number in kind[chosen]]
    called = _called(fleet, order[:3])
    who = [f"{a} ({plural(int(n), 'set')})" for a, n in zip(called, times[order], strict=False)]
    who += ["…"] if len(order) > len(who) else []
    are = "is" if len(order) == 1 else "are"
    return f"{len(order):,} of {whole} {are} {' or '.join(verbs)} {what}: {', '.join(who)}{tail}"


def _parity_clean(parity: pd.DataFrame, fleet: _Fleet) -> str:
    """Say that nothing is missing, and what there is that is neither missing nor present."""
    sets = parity.drop_duplicates(_SET)["instance_id"].astype("object")
    whole, count = plural(len(fleet.tenants), "tenant"), plural(len(sets), "cluster set")
    named = {"gone": _GONE, "new": _NEW, "running": _RUNNING, "not known": _UNKNOWN}
    having = {name: np.count_nonzero(fleet.counts[:, each]) for name, each in named.items()}
    others = [f"{n:,} {name}" for name, n in having.items() if n]
    if others:
        none = "No tenant is known to be" if fleet.counts[:, _UNKNOWN].any() else "No tenant is"
        return f"{none} missing from a cluster set: {whole}, {count}; {', '.join(others)}"
    every = fleet.tenants["instance_id"].map(sets.value_counts()) == fleet.counts.sum(axis=1)
    head = f"All {whole} are" if len(fleet.tenants) > 1 else "The only tenant is"
    if not every.all():
        return f"{head} in all of {count} that should hold them"
    return f"{head} in " + ("the only cluster set" if len(sets) == 1 else f"all {count}")


def _slot_columns(shown: pd.DataFrame, counts: Ints, schedule: Any) -> list[_Beside]:  # noqa: ANN401
    """Return how many of the due slots each tenant missed; its cadence, or the late."""
    missed, late = counts[:, _MISSED], counts[:, _LATE]
    due = counts.sum(axis=1) - counts[:, _PENDING]
    made = [_Beside("missed", _of(missed, due), missed > 0)]
    if schedule is not None:
        zones = sorted(set(schedule["tz"].dropna().astype(str)))
        head = drawable(plain(f"cadence [{', '.join(zones)}]", _ASIDE)) if zones else "cadence"
        made.append(_Beside(head, _cadences(schedule, shown), missed < 0))
    elif late.any():
        made.append(_Beside("late", [f"{n:,}" for n in late], missed < 0))
    return made


_ASIDE = 28  # cells of a cadence, at most
_MODES = {"any": "", "incremental": "incr. ", "full": "full "}
_NAMED = (("daily", 0.9, 1.1), ("weekly", 6.5, 7.5))  # days


def _cadences(schedule: pd.DataFrame, shown: pd.DataFrame) -> list[str]:
    """Return each tenant's newest cadence in words."""
    rows = schedule.assign(cron=schedule.get("cron", pd.NA))
    rows = rows[rows["tenant_id"].isin(set(shown["tenant_id"]))]
    said: dict[Any, dict[str, str]] = {key: {} for key in keys_of(shown)}
    for row in rows.sort_values("since", kind="stable", na_position="first").itertuples():
        said.get((row.instance_id, row.tenant_id), {})[str(row.mode)] = _cadence(row)
    made = []
    for mine in said.values():
        parts = [_MODES[mode] + mine[mode] for mode in _MODES if mode in mine]
        if len(parts) > 1 and ":" in parts[0]:
            parts[1:] = [part.removesuffix(parts[0][-6:]) for part in parts[1:]]
        made.append(drawable(plain(", ".join(parts) or "none known", _ASIDE)))
    return made


def _cadence(row: Any) -> str:  # noqa: ANN401 - a row of `schedule`
    """Return how often a schedule is due, and at what time where it is a time of the day."""
    if pd.isna(row.every):
        return "not known" if pd.isna(row.cron) else str(row.cron)
    days = pd.Timedelta(row.every) / pd.Timedelta(1, "D")
    names = [name for name, low, high in _NAMED if low <= days <= high]
    weekdays = [] if pd.isna(row.weekdays) else re.findall("[A-Z][a-z]{2}", str(row.weekdays))
    if 0 < len(weekdays) < 7:  # noqa: PLR2004 - all of them are daily
        names = [" ".join(weekdays)]
    minutes = 0 if pd.isna(row.hour) else round(row.hour * 60) % 1440
    at = "" if pd.isna(row.hour) or not names else f" {minutes // 60:02}:{minutes % 60:02}"
    return (names[0] if names else f"every {format_span(row.every)}") + at


def _schedule_found(runs: pd.DataFrame, kind: Ints, fleet: _Fleet, zone: ZoneInfo) -> str:
    """Say in one sentence how many slots were missed, by how many tenants, and the longest row."""
    met, pending, doubt, late, missed = (int(n) for n in fleet.counts.sum(axis=0))
    due, whole = plural(len(runs) - pending, "slot"), plural(len(fleet.tenants), "tenant")
    tail = f"; {doubt:,} not known" if doubt else ""
    if len(runs) == pending:
        return f"No slot was due yet: {pending:,} pending"
    if not missed + late:
        return f"No slot is known to be missed: {met:,} of {due} met" if doubt else f"All {due} met"
    bad = np.count_nonzero(fleet.counts[:, [_LATE, _MISSED]].sum(axis=1))
    head = f"{missed:,} of {due} missed" if missed else f"None of {due} missed"
    head += (f", {late:,} late" if late else "") + f", in {bad:,} of {whole}"
    return head + (_longest(runs, kind, fleet, zone) if missed else "") + tail


def _longest(runs: pd.DataFrame, kind: Ints, fleet: _Fleet, zone: ZoneInfo) -> str:
    """Name the most slots in a row that a tenant missed."""
    mode = _group(runs, ["mode"])
    moment = _micros(runs["slot"])
    chosen = np.flatnonzero((kind != _PENDING) & (fleet.counts[:, _MISSED] > 0)[fleet.rank])
    lane = fleet.rank[chosen] * (int(mode.max()) + 1) + mode[chosen]
    order = np.lexsort((moment[chosen], lane))
    chosen, lane = chosen[order], lane[order]
    is_missed = kind[chosen] == _MISSED
    begin = np.flatnonzero(np.append([True], (np.diff(lane) != 0) | (np.diff(is_missed) != 0)))
    length = np.where(is_missed[begin], np.diff(np.append(begin, len(chosen))), 0)
    most = int(length.max())
    if most == 1:
        return "; never two in a row"
    first = chosen[begin[length == most]]  # of several as long the newest
    best = first[np.lexsort((-fleet.rank[first], moment[first]))[-1]]
    who = _called(fleet, fleet.rank[[best]])[0]
    since = pd.Timestamp(runs["slot"].iloc[best]).tz_convert(zone)
    return f"; longest: {who}, {most:,} in a row from {since:%Y-%m-%d}"
