"""Draw finished numbers along time, a row per tenant: what is covered, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter

from obanalytics.canvas import (
    date_axis,
    dates,
    day,
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
from obanalytics.letters import is_quick
from obanalytics.marks import (
    INSTANT,
    Marks,
    box,
    boxes_of,
    draw_gaps,
    draw_points,
    gap_mark,
    inches,
    marks_of,
    shares_of,
    write_shares,
)
from obanalytics.ticks import days, placed
from obanalytics.wording import (
    NAME_CELLS,
    cap_sentence,
    coverage_sentence,
    gap_sentence,
    model_sentence,
    most_gaps_first,
    plain,
    plural,
    worst_first,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from obanalytics.canvas import Said
    from obanalytics.marks import Boxes, Share

    Axes: TypeAlias = Any  # matplotlib ships no types
    Floats: TypeAlias = NDArray[np.float64]
    Rows: TypeAlias = dict[tuple[object, object], int]  # the height of each tenant's row

MAX_ROWS = 30
"""More tenants than this are not drawn: the worst are, and the note says so."""
MAX_DAYS_ROWS = 60
"""More tenants than this have no row each in a calendar: the worst have, the others share one."""
_INSIDE = "#C9E4DA"


def plot_coverage(
    gaps: pd.DataFrame,
    ax: Axes | None = None,
    *,
    compliance: pd.DataFrame | None = None,
    points: pd.DataFrame | Marks | None = None,
    steps: pd.DataFrame | None = None,
    window: tuple[pd.Timestamp | None, pd.Timestamp | None] = (None, None),
) -> Axes:
    """Draw a timeline per tenant: inside the RPO, gaps by cause, restore points, failures.

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
    points : DataFrame, Marks or None
        What `restore_points` returned, or `marks_of` read of it: full sets are long ticks,
        incrementals short ones on the line of their chain, runs that brought no restore point are
        marks. What would be too close to be told apart is left out, failures last.
    steps : DataFrame or None
        What `exposure` returned: where it is nothing, any instant can be restored.
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
    _check(gaps, compliance, points, steps)
    marked = marks_of(points) if isinstance(points, pd.DataFrame) else points
    if compliance is None:
        tenants, found = most_gaps_first(gaps), gap_sentence(gaps)
        note = "Open gaps first, then most time in gaps. "
    else:
        tenants = worst_first(compliance[compliance["instance_id"].notna()])
        found, note = coverage_sentence(compliance, gaps), "Worst first. "
    with style(ax):
        if tenants.empty:
            return nothing(ax, found)
        room = room_for(ax, MAX_ROWS)
        shown = tenants.head(room.rows)
        shares = None if compliance is None or not room.aside else shares_of(shown)
        named = row_labels(shown, room.cells), {key: y for y, key in enumerate(keys_of(shown))}
        bare = compliance is None and marked is None and steps is None
        plan = _planned(named, shares, (gaps, marked, steps), window, bare=bare)
        note += model_sentence(gaps, compliance, steps) + cap_sentence(len(shown), len(tenants))
        kept = points.drawn if isinstance(points, Marks) else {}
        quick = ax is None and steps is None and is_quick()
        drawn: _Drawn | None = kept.get(plan.stays) if quick else None
        if drawn is not None:
            drawn.again(plan, found, note)
            return drawn.ax
        drawn = _draw(ax, plan, (marked, steps), found, note)
        if quick and isinstance(points, Marks):
            kept.clear()
            kept[plan.stays] = drawn.moved()
    return drawn.ax


def _check(gaps: Any, compliance: Any, points: Any, steps: Any) -> None:  # noqa: ANN401 - frames
    """Refuse what is not what its function returned."""
    for frame, name, function, columns in (
        (gaps, "gaps", "coverage_gaps", _GAPS),
        (compliance, "compliance", "rpo_compliance", _SHARES),
        (points, "points", "restore_points", _POINTS),
        (steps, "steps", "exposure", _STEPS),
    ):
        if not ((frame is None and name != "gaps") or isinstance(frame, Marks)):
            expect(frame, name, function, columns)


class _Plan(NamedTuple):
    """What will be drawn."""

    names: list[str]
    rows: Rows
    shares: list[Share] | None
    boxes: Boxes
    spans: tuple[float, float]
    """What the chart spans [days]."""
    left: Floats
    """From when on each row is known [days]."""
    bare: bool
    """Whether only gaps are known."""

    @property
    def stays(self) -> tuple[Any, ...]:
        """What a chart that is kept has in common with this."""
        return (*self.rows, *self.names, *self.spans, *self.boxes, self.shares is None, self.bare)


def _planned(
    named: tuple[list[str], Rows],
    shares: list[Share] | None,
    frames: tuple[pd.DataFrame, Marks | None, pd.DataFrame | None],
    window: tuple[pd.Timestamp | None, pd.Timestamp | None],
    *,
    bare: bool,
) -> _Plan:
    """Return what will be drawn."""
    names, rows = named
    mine = _of(frames[0], rows)
    spans, left = _extent(rows, (mine, *frames[1:]), window, bare=bare)
    return _Plan(names, rows, shares, boxes_of(mine, rows, spans), spans, left, bare)


def _draw(
    ax: Axes | None,
    plan: _Plan,
    frames: tuple[Marks | None, pd.DataFrame | None],
    found: str,
    note: str,
) -> _Drawn:
    """Draw rows and what stands around them."""
    fit, has_shares = ax is not None, plan.shares is not None
    if ax is None:
        right, top = (1.65, 0.98) if has_shares else (0.25, 0.8)
        ax = new_axes(len(plan.names), plan.names, right=right, top=top)
    _draw_base(ax, plan.spans, plan.left, bare=plan.bare)
    handles = [] if plan.bare else [Patch(facecolor=_INSIDE, label="inside RPO")]
    finish_rows(ax, plan.names)
    handles += _draw_instants(ax, frames[1], plan.rows) + [gap_mark(kind) for kind in plan.boxes]
    gaps = draw_gaps(ax, plan.boxes)
    marks, left_out = draw_points(ax, frames[0], plan.rows)
    beside = [] if plan.shares is None else write_shares(ax, plan.shares)
    date_axis(ax)
    look: Any = {"handles": handles + marks, "columns": 4, "lift": 14 * has_shares, "fit": fit}
    return _Drawn(ax, gaps, beside, dress(ax, found, note + left_out, **look), left_out)


class _Drawn(NamedTuple):
    """What of a chart changes with the RPO while its rows and causes stay."""

    ax: Axes
    gaps: list[Any]
    shares: list[Any]
    said: Said
    left_out: str

    def moved(self) -> _Drawn:
        """Tell what draws the chart what is to be drawn anew: what changes, and what is on it."""
        ax, said = self.ax, self.said
        rows = (*ax.patches, *ax.collections, *ax.lines)
        ax.figure.canvas.moving = (*rows, *self.shares, said.head, said.under)
        return self

    def again(self, plan: _Plan, found: str, note: str) -> None:
        """Draw what changes."""
        for bar, begin in zip(self.ax.patches, plan.left, strict=True):
            bar.set(x=begin, width=plan.spans[1] - begin)
        for gap in self.gaps:
            gap.remove()
        self.gaps[:] = draw_gaps(self.ax, plan.boxes)
        for number, share in enumerate(plan.shares or []):
            self.shares[2 * number].set_text(share.inside)
            self.shares[2 * number + 1].set(text=share.now, **share.look())
        self.said.say(found, note + self.left_out)
        self.moved()


_WHO = ("instance_id", "tenant_id", "tenant_name")
_GAPS = (*_WHO, "gap_start", "gap_end", "gap", "position", "cause", "certainty")
_SHARES = (*_WHO, "time_in_rpo", "exposure_now", "rpo_ratio")
_POINTS = (*_WHO[:2], "full", "start_time", "checkpoint", "restorable")
_STEPS = (*_WHO[:2], "start", "end", "exposure_start", "exposure_end")
_STRETCHES = (("gap_start", "gap_end"), ("start", "end"))


def _of(frame: pd.DataFrame, rows: Rows) -> pd.DataFrame:
    """Return what is of the tenants that have a row."""
    return frame[np.array([key in rows for key in keys_of(frame)], dtype=bool)]


def _extent(
    rows: Rows,
    frames: tuple[pd.DataFrame, Marks | None, pd.DataFrame | None],
    window: tuple[pd.Timestamp | None, pd.Timestamp | None],
    *,
    bare: bool,
) -> tuple[tuple[float, float], Floats]:
    """Return what the chart spans, and from when on each row is known [days]."""
    first, last, begins = _known(frames, rows)
    first = first if window[0] is None else day(window[0])
    last = last if window[1] is None else day(window[1])
    first = first if np.isfinite(first) else last if np.isfinite(last) else 0.0
    whole = bare or window[0] is not None
    left = np.where(np.isfinite(begins) & (not whole), begins, first)
    return (first, max(last, first + 1 / 24)), left


def _draw_base(ax: Axes, spans: tuple[float, float], left: Floats, *, bare: bool) -> None:
    """Draw every tenant's bar from where it is known."""
    color = on_face("#F0F2F4", "#2B3138") if bare else _INSIDE
    wide = spans[1] - left
    ax.barh(np.arange(len(left)), wide, left=left, height=0.62, color=color, zorder=1)
    ax.set_xlim(spans)


def _known(
    frames: tuple[pd.DataFrame, Marks | None, pd.DataFrame | None], rows: Rows
) -> tuple[float, float, Floats]:
    """Return when anything begins and ends, and when it begins in each row [days; or infinite]."""
    first, last, begins = np.inf, -np.inf, np.full(len(rows), np.inf)
    if frames[1] is not None:
        first, last, begins = frames[1].known(rows)
    for frame, (start, end) in zip(frames[::2], _STRETCHES, strict=True):
        if not isinstance(frame, pd.DataFrame):
            continue
        first = np.nanmin(days(frame[start]), initial=first)
        last = np.nanmax(days(frame[end]), initial=last)
        mine = placed(frame, rows)
        np.fmin.at(begins, mine["y"].to_numpy().astype(int), days(mine[start]))
    return float(first), float(last), begins


def _draw_instants(ax: Axes, steps: pd.DataFrame | None, rows: Rows) -> list[Patch]:
    """Draw where any instant can be restored, and return the mark of it."""
    if steps is None:
        return []
    none = pd.Timedelta(0)
    flat = steps[(steps["exposure_start"] == none) & (steps["exposure_end"] == none)]
    chosen = placed(flat, rows)
    if chosen.empty:
        return []
    y, begin, end = chosen["y"].to_numpy(), days(chosen["start"]), days(chosen["end"])
    by = np.lexsort((begin, y))
    y, begin, end = y[by], begin[by], end[by]
    # Steps that touch are one band: else their seams show.
    new = np.append([True], (y[1:] != y[:-1]) | (begin[1:] > end[:-1] + 1e-9))
    until = end[np.append(np.flatnonzero(new)[1:] - 1, len(end) - 1)]
    bands = [box(*each) for each in zip(begin[new], until, y[new], strict=True)]
    ax.add_collection(PolyCollection(bands, facecolor=INSTANT, edgecolor="none", zorder=1.5))
    return [Patch(facecolor=INSTANT, label="restorable to any instant")]


def plot_coverage_calendar(calendar: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how much of every tenant's every day was outside the RPO.

    Parameters
    ----------
    calendar : DataFrame
        What `coverage_calendar` returned. What `coverage_gaps` returned is taken too: then only
        gaps are known, and days are UTC days.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax: a row per tenant, the worst on top, and one for the mean of those without a row; a
        column per day, or per few days of which the worst counts.

    Raises
    ------
    ValueError
        When the frame is neither.
    """
    bare = isinstance(calendar, pd.DataFrame) and "gap_start" in calendar
    expect(calendar, "calendar", "coverage_calendar", _GAPS if bare else _DAYS)
    year = _year(_days_of_gaps(calendar) if bare else calendar)
    with style(ax):
        found = _calendar_found(year, bare=bare)
        if not len(year.days):
            return nothing(ax, found)
        room = room_for(ax, MAX_DAYS_ROWS)
        single, whole = len(year.tenants), len(year.tenants)
        if whole > room.rows:
            single = max(min(_SINGLE, room.rows - 1), 1)
        names = row_labels(year.tenants.head(single), room.cells)
        names += [f"{whole - single} others: mean"] if single < whole else []
        fit = ax is not None
        if ax is None:
            ax = new_axes(len(names), names, row=0.29 if len(names) <= 12 else 0.19)  # noqa: PLR2004
        note = f" The worst {single} of {whole} tenants, and the rest." if single < whole else ""
        per = max(int(np.ceil(len(year.days) / (_COLUMNS * inches(ax)))), 1)
        note += f" Each column: the worst of {per} days." if per > 1 else ""
        classes = _classes(year, single, per)
        handles = _draw_classes(ax, classes, year.days[0], per, bare=bare)
        finish_rows(ax, names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        _draw_between(ax, single, len(names))
        zone = "UTC" if bare else calendar.attrs.get("tz")
        _day_axis(ax, year.days, f"day [{zone}]" if zone else "day (time zone not recorded)")
        note = "Worst first. " + model_sentence(calendar) + note
        note = "Gaps only. " + note if bare else note
        dress(ax, found, note, handles=handles, columns=4, fit=fit)
    return ax


_DAYS = (*_WHO, "day", "gap", "unknown", "time_in_rpo")
_SINGLE = 40  # rows of a calendar when there are too many for all
_COLUMNS = 60  # days to the inch: a year across a page
_CLASSES = (  # light, dark: on both the worst is farthest from the ground
    ("no data", "#ECEEF1", "#2B3138"),
    ("not known", "#ECEEF1", "#2B3138"),
    ("inside the RPO", "#C9E4DA", "#1E4638"),
    ("up to 10 % of the day outside", "#FCCE25", "#9C3FC8"),
    ("up to 50 %", "#F0804E", "#E0577C"),
    ("under 100 %", "#B12A90", "#F99B45"),
    ("all of it outside", "#2A0593", "#F0F921"),
)
_NO_DATA, _NOT_KNOWN, _IN = range(3)


class _Year(NamedTuple):
    """Days of tenants as a table: the worst first, every day between the first and the last."""

    tenants: pd.DataFrame
    days: NDArray[np.datetime64]
    outside: Floats
    """The share of what is known of the day; NaN where nothing is."""
    there: NDArray[np.bool_]
    """Whether the frame has that day."""


def _year(calendar: pd.DataFrame) -> _Year:
    """Return the days of a frame as a table."""
    keys = list(_WHO[:2])
    group = calendar.groupby(keys, observed=True, sort=False).ngroup().to_numpy()
    tenants = calendar.drop_duplicates(keys).reset_index(drop=True)
    day_of = calendar["day"].to_numpy().astype("datetime64[D]").astype(np.int64)
    first, last = (day_of.min(), day_of.max()) if len(day_of) else (0, -1)
    shape = (len(tenants), int(last - first + 1))
    outside, there = np.full(shape, np.nan), np.zeros(shape, bool)
    outside[group, day_of - first] = 1 - calendar["time_in_rpo"].to_numpy(np.float64)
    there[group, day_of - first] = True
    unknown = calendar["unknown"].dt.total_seconds().to_numpy(np.float64)
    known = calendar["gap"].dt.total_seconds().to_numpy(np.float64) - unknown
    by_known, by_unknown = (np.bincount(group, x, len(tenants)) for x in (known, unknown))
    order = np.lexsort((-by_unknown, -by_known))
    days = np.arange(first, last + 1).astype("datetime64[D]")
    return _Year(tenants.iloc[order], days, outside[order], there[order])


def _days_of_gaps(gaps: pd.DataFrame) -> pd.DataFrame:
    """Cut gaps into UTC days, and return what a calendar has of those days."""
    begin, end = (gaps[c].dt.tz_convert(None).to_numpy("datetime64[us]") for c in _GAPS[3:5])
    first, one = begin.astype("datetime64[D]"), np.timedelta64(1, "D")
    count = ((end - np.timedelta64(1, "us")).astype("datetime64[D]") - first) // one + 1
    count = np.maximum(count, 1)
    row = np.repeat(np.arange(len(gaps)), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    days = first[row] + number
    part = np.minimum(end[row], days + one) - np.maximum(begin[row], days.astype("datetime64[us]"))
    is_unknown = (gaps["certainty"] == "unknown").to_numpy()[row]
    made = gaps[list(_WHO)].astype("object").iloc[row].reset_index(drop=True)
    made["day"], made["gap"] = days.astype("datetime64[us]"), part
    made["unknown"] = np.where(is_unknown, part, np.timedelta64(0, "us"))
    sums = {"tenant_name": "first", "gap": "sum", "unknown": "sum"}
    made = made.groupby([*_WHO[:2], "day"], sort=False, as_index=False).agg(sums)
    whole = pd.Timedelta(1, "D")
    known = (whole - made["unknown"]).where(made["unknown"] < whole)
    return made.assign(time_in_rpo=1 - (made["gap"] - made["unknown"]) / known)


def _classes(year: _Year, single: int, per: int) -> NDArray[np.intp]:
    """Return what is drawn of every row and column: the number of its class."""
    outside, there = year.outside[:single], year.there[:single]
    if single < len(year.tenants):
        others = year.outside[single:]
        known = ~np.isnan(others)
        total, count = np.where(known, others, 0.0).sum(axis=0), known.sum(axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        outside = np.vstack([outside, mean])
        there = np.vstack([there, year.there[single:].max(axis=0)])
    fill = -outside.shape[1] % per
    outside = np.pad(outside, ((0, 0), (0, fill)), constant_values=np.nan)
    there = np.pad(there, ((0, 0), (0, fill)))
    worst = np.fmax.reduce(outside.reshape(len(outside), -1, per), axis=2)
    there = there.reshape(len(there), -1, per).max(axis=2)
    made = _IN + (worst > 0) + (worst > 0.1) + (worst > 0.5) + (worst >= 1)  # noqa: PLR2004
    return np.where(np.isnan(worst), np.where(there, _NOT_KNOWN, _NO_DATA), made)


def _draw_classes(
    ax: Axes, classes: NDArray[np.intp], first: np.datetime64, per: int, *, bare: bool
) -> list[Patch]:
    """Draw the table of classes, and return the marks of them."""
    if bare:  # a day of which no gap is known is not known to be inside the RPO
        classes = np.where(classes == _IN, _NO_DATA, classes)
    colors = [on_face(light, dark) for _, light, dark in _CLASSES]
    begin = float(dates.date2num(first))
    end = begin + per * classes.shape[1]
    look: Any = {"cmap": ListedColormap(colors), "vmin": -0.5, "vmax": len(colors) - 0.5}
    look |= {"aspect": "auto", "interpolation": "nearest", "zorder": 1}
    ax.imshow(classes, extent=(begin, end, len(classes) - 0.5, -0.5), **look)
    hatch: Any = {"facecolor": "none", "hatch": "////", "lw": 0}
    hatch["edgecolor"] = on_face("#59636E", "#AAB3BD")
    hidden = np.pad(classes == _NOT_KNOWN, ((0, 0), (1, 1)))
    y, left = np.nonzero(hidden[:, 1:] & ~hidden[:, :-1])
    _, right = np.nonzero(~hidden[:, 1:] & hidden[:, :-1])
    spans = zip(y, begin + per * left, begin + per * right, strict=True)
    outlines = [[(a, c - 0.5), (b, c - 0.5), (b, c + 0.5), (a, c + 0.5)] for c, a, b in spans]
    if outlines:
        ax.add_collection(PolyCollection(outlines, zorder=1.5, **hatch))
    return _calendar_legend(classes, colors, bare=bare)


def _calendar_legend(classes: NDArray[np.intp], colors: list[str], *, bare: bool) -> list[Patch]:
    """Return the marks of the classes: the scale, and what else there is."""
    marks = []
    for number, ((name, *_), color) in enumerate(zip(_CLASSES, colors, strict=True)):
        if (number < _IN and not (classes == number).any()) or (bare and number == _IN):
            continue
        look: Any = {"label": "no gap" if bare and number == _NO_DATA else name}
        if number == _NOT_KNOWN:
            look |= {"hatch": "////", "lw": 0, "edgecolor": on_face("#59636E", "#AAB3BD")}
        marks.append(Patch(facecolor=color, **look))
    return marks


class _Days(FixedLocator):
    """Give the middles of as many days as there is room for dates when they are drawn."""

    locs: Any

    def __call__(self) -> list[float]:
        """Return every so many of them."""
        room = inches(getattr(self.axis, "axes", None))
        return list(self.locs[:: max(int(np.ceil(1.1 * len(self.locs) / room)), 1)])


def _day_axis(ax: Axes, days: NDArray[np.datetime64], label: str) -> None:
    """Label the days, or the months where there are many."""
    date_axis(ax, label)
    if len(days) <= 60:  # noqa: PLR2004 - a tick at the edge of one would leave open which is meant
        ax.xaxis.set_major_locator(_Days(list(dates.date2num(days) + 0.5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{dates.num2date(x):%Y-%m-%d}"))


def _draw_between(ax: Axes, single: int, rows: int) -> None:
    """Draw lines between the rows, a wide one before what stands for many."""
    face = mpl.rcParams["axes.facecolor"]
    for row in range(1, rows):
        ax.axhline(row - 0.5, color=face, lw=4 if row == single else 1.2, zorder=2)


def _calendar_found(year: _Year, *, bare: bool) -> str:
    """Say in one sentence what a calendar shows."""
    if not len(year.days):
        return "No tenant has a gap" if bare else "No tenant has a day in this window"
    is_out, known = year.outside > 0, int((~np.isnan(year.outside)).sum())
    out, unknown = int(is_out.sum()), int(year.there.sum()) - known
    tail = f"; {plural(unknown, 'day')} not known" if unknown else ""
    if not known:
        return f"Nothing is known of {plural(unknown, 'tenant day')}"
    if not out:
        return f"No tenant outside its RPO on any of {plural(known, 'tenant day')}{tail}"
    name = plain(year.tenants["tenant_name"].iloc[0], NAME_CELLS)
    most = f"the worst: {name}, {plural(int(is_out[0].sum()), 'day')}"
    head = f"Gaps on {plural(out, 'tenant day')}"
    if not bare:
        head = f"Outside the RPO on {out:,} of {plural(known, 'tenant day')}"
    return f"{head}; {most}{tail}"
