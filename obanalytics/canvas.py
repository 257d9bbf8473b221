"""Prepare what charts are drawn on: our style, fonts, margins, axes, titles."""

from __future__ import annotations

import base64
import html
import io
import math
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import dates as _dates
from matplotlib import font_manager
from matplotlib.axes import Axes as PlainAxes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from obanalytics.wording import NAME_CELLS, cells, format_span, plain, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types

dates: Any = _dates  # it has no types, alone in matplotlib
INK, SOFT, GRID = "#1F2328", "#59636E", "#DDE1E5"
_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "Noto Emoji"),
)
_WIDTH, _ROW, _CELL = 9.6, 0.29, 0.077  # inches: figure, one tenant's row, one cell of a label
_TIGHT_ROW, _AROUND = 0.17, 1.6  # inches: a row in the user's ax, what stands above and below it
_SMALL = 5.0  # inches: a user's ax without room for more than its rows
_EDGE, _APART = 0.11, 0.62  # inches: from a figure's edge to its title, from a tick to the next
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS = (
    *(1, 5, 15, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR),
    *(_DAY, 3 * _DAY, 10 * _DAY, 30 * _DAY, 100 * _DAY),
)


def png(draw: Callable[[], Axes]) -> bytes:
    """Draw a chart and return it as a picture.

    Parameters
    ----------
    draw : callable
        Returns the ax to save the figure of.

    Returns
    -------
    bytes
        A PNG, the same for the same numbers.
    """
    buffer = io.BytesIO()
    with style():  # tick labels come into being while saving: that must happen in here
        draw().figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


class _Shown:
    """What a notebook shows without pyplot, which would keep every figure alive."""

    def _repr_png_(self) -> bytes:
        """Return the picture."""
        own: Any = self
        return png(lambda: own.axes[0] if isinstance(own, Figure) else own)

    def _repr_html_(self) -> str:
        """Return the picture with its title for those who cannot see it."""
        own: Any = self
        axes: Any = own.axes[0] if isinstance(own, Figure) else own
        alt = html.escape(" ".join(axes.get_title(loc="left").split()) or "chart")
        data = base64.b64encode(png(lambda: axes)).decode()
        width = round(axes.figure.get_figwidth() * 96)
        return f'<img alt="{alt}" width="{width}" src="data:image/png;base64,{data}">'


class _Figure(_Shown, Figure):
    """A figure that no global state knows of."""


class _Axes(_Shown, PlainAxes):
    """The ax of such a figure; shows all of it."""


@contextmanager
def style() -> Iterator[None]:
    """Draw in our style and leave the user's settings as they were.

    Yields
    ------
    None
        Nothing; tick labels come into being while a figure is saved, so saving belongs in here.
    """
    rc: Any = {
        "text.parse_math": False,  # two $ in a tenant's name are no mathematics
        "font.family": list(_families()),
        "font.size": 9.0,
        "text.color": INK,
        "axes.edgecolor": GRID,
        "axes.labelcolor": SOFT,
        "xtick.color": SOFT,
        "ytick.color": INK,
        "axes.facecolor": "white",
        "figure.facecolor": "white",
    }
    with mpl.rc_context(rc):
        yield


@cache
def _families() -> tuple[str, ...]:
    """Return those of our font families that this machine has."""
    there = set(font_manager.get_font_names())
    return tuple(name for name in _FAMILIES if name in there) or ("sans-serif",)


@cache
def glyphs(weight: str = "normal") -> frozenset[int]:
    """Return the characters that our fonts can draw.

    Parameters
    ----------
    weight : {"normal", "bold"}
        Of the fonts: a bold face may have fewer.

    Returns
    -------
    frozenset of int
        Code points.
    """
    faces = (font_manager.FontProperties(family=name, weight=weight) for name in _families())
    paths = (font_manager.findfont(face) for face in faces)
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


def drawable(text: str, weight: str = "normal") -> str:
    """Return a text with a box for every character that our fonts lack.

    Parameters
    ----------
    text : str
        The text.
    weight : {"normal", "bold"}
        How it will be written.

    Returns
    -------
    str
        What can be drawn without a warning.
    """
    known = glyphs(weight)
    return "".join(char if ord(char) in known else "□" for char in text)


class Room(NamedTuple):
    """What a chart has room for."""

    rows: int
    cells: int
    """Of a row's label."""
    aside: bool
    """Whether there is room for numbers beside the rows."""


def room_for(ax: Axes | None, most: int) -> Room:
    """Return what a chart has room for.

    Parameters
    ----------
    ax : Axes or None
        The user's ax; None means that the figure is made to measure.
    most : int
        The most rows that any chart has.

    Returns
    -------
    Room
        At least one row, and 8 cells.
    """
    if ax is None:
        return Room(most, NAME_CELLS, aside=True)
    room, dpi = _room(ax), ax.figure.dpi
    high, wide = room.height / dpi, room.width / dpi
    rows = int(max(high - _AROUND, 0.4 * high) / _TIGHT_ROW)
    letters = int(0.4 * wide / _CELL)
    return Room(max(min(rows, most), 1), max(min(letters, NAME_CELLS), 8), aside=wide > _SMALL)


def new_axes(
    rows: int,
    names: list[str],
    *,
    right: float = 0.25,
    bottom: float = 0.82,
    top: float = 0.8,
) -> Axes:
    """Make a figure with room for its labels, and return its ax.

    Parameters
    ----------
    rows : int
        How many rows of labels the chart has.
    names : list of str
        The labels.
    right, bottom, top : float
        Margins [inches].

    Returns
    -------
    Axes
        The ax of a new figure, which no global state knows of.
    """
    left = 0.25 + _CELL * max(cells(name) for name in names)
    height = rows * _ROW + 0.15
    whole = top + height + bottom
    figure = _Figure(figsize=(_WIDTH, whole))
    FigureCanvasAgg(figure)  # measures texts with one renderer; others make one per text
    wide = _WIDTH - left - right
    place = (left / _WIDTH, bottom / whole, wide / _WIDTH, height / whole)
    return figure.add_axes(place, axes_class=_Axes)


def nothing(ax: Axes | None, text: str) -> Axes:
    """Say in an otherwise empty chart why it is empty.

    Parameters
    ----------
    ax : Axes or None
        Where to write; None makes a small figure.
    text : str
        Why there is nothing to draw.

    Returns
    -------
    Axes
        The ax.
    """
    if ax is None:
        ax = _Figure(figsize=(_WIDTH, 1.1)).add_axes((0, 0, 1, 1), axes_class=_Axes)
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=ax.transAxes)
    return ax


def finish_rows(ax: Axes, names: list[str]) -> None:
    """Write the labels of the rows, the first on top.

    Parameters
    ----------
    ax : Axes
        The ax.
    names : list of str
        The labels, that of row 0 first.
    """
    ax.set_yticks(range(len(names)), labels=names, parse_math=False)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.grid(axis="x", color=GRID, lw=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


class _Dates(dates.AutoDateLocator):  # type: ignore[misc] # it has no types
    """Find dates for an axis, as many as it has room for when it is drawn."""

    def get_locator(self, dmin: Any, dmax: Any) -> Any:  # noqa: ANN401 - inherited
        """Return the locator for a span, which picks the unit by how many ticks there may be."""
        axes: Any = self.axis.axes
        most = min(max(int(axes.bbox.width / axes.figure.dpi / _APART), 3), 9)
        self.maxticks = dict.fromkeys(range(8), most)  # by unit, from years to microseconds
        self.minticks = (most - 1) // 2  # with more it finds no unit for some spans
        return super().get_locator(dmin, dmax)


class _Apart(FixedLocator):
    """Give those of some ticks whose labels do not touch when they are drawn."""

    locs: Any

    def __call__(self) -> list[float]:
        """Return ticks, of two that are too close the first."""
        axes: Any = getattr(self.axis, "axes", None)
        kept: list[float] = []
        last = -math.inf
        for step in map(float, self.locs):
            pixel = float(axes.transData.transform((step, 0))[0])
            if pixel - last >= _APART * axes.figure.dpi:
                kept.append(step)
                last = pixel
        return kept


def date_axis(ax: Axes) -> None:
    """Label the dates.

    Parameters
    ----------
    ax : Axes
        The ax; its x is days as matplotlib counts them.
    """
    locator = _Dates()
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, show_offset=False))
    ax.set_xlabel("time [UTC]", color=SOFT)


def duration_axis(ax: Axes, seconds: NDArray[np.float64]) -> None:
    """Label durations; logarithmic where the longest is many times the shortest.

    Parameters
    ----------
    ax : Axes
        The ax; its x is seconds.
    seconds : array of float
        Every duration that is drawn [s].
    """
    low, high = max(float(seconds.min()), 1.0), max(float(seconds.max()), 1.0)
    if high / low > 15:  # noqa: PLR2004 - the short ones would be crushed
        ax.set_xscale("log")
        ax.set_xlim(low / 1.25, high * 1.25)
    else:
        ax.set_xlim(0, high * 1.06)
    bottom, top = ax.get_xlim()
    steps: list[float] = [s for s in _STEPS if bottom <= s <= top]
    if ax.get_xscale() != "log":
        step = next((s for s in _STEPS if top / s <= 7), _STEPS[-1])  # noqa: PLR2004 - ticks
        steps = list(np.arange(0, top, step))
    ax.xaxis.set_major_locator(_Apart(steps))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda s, _: format_span(pd.Timedelta(s, "s")) if s else "0")
    )


def day(moment: pd.Timestamp) -> float:
    """Return an instant as matplotlib counts it [days].

    Parameters
    ----------
    moment : Timestamp
        The instant [UTC].

    Returns
    -------
    float
        Days since matplotlib's epoch.
    """
    return float(dates.date2num(moment.tz_convert(None)))


def dress(  # noqa: PLR0913 - what stands around a chart
    ax: Axes,
    found: str,
    note: str,
    *,
    handles: Sequence[Any],
    columns: int,
    lift: int = 0,
    fit: bool = False,
) -> None:
    """Write what was found over the chart, and its legend under it.

    Parameters
    ----------
    ax : Axes
        The ax.
    found : str
        What was found; two lines of it are shown.
    note : str
        What a reader should know; one line of it is shown.
    handles : sequence of artists
        What the legend explains.
    columns : int
        How many entries a line of the legend has, at most.
    lift : int
        How much higher than usual the title stands [points].
    fit : bool
        Whether the ax is a user's, to be narrowed until all labels are inside its figure.
    """
    room, managed = _room(ax), ax.figure.get_layout_engine() is not None
    if managed:
        ax.figure.figure.draw_without_rendering()  # so that it is known where the ax will be
    left = ax.get_window_extent().x0 if managed else room.x0 + _EDGE * ax.figure.dpi
    wide = room.x1 - _EDGE * ax.figure.dpi - left
    look = {"fontsize": 11, "fontweight": "bold", "parse_math": False}
    head = ax.set_title("", loc="left", pad=24 + lift, **look)
    _fill(head, drawable(found, "bold"), wide, lines=2)
    look = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    under = ax.annotate("", (0, 1), xytext=(0, 9 + lift), color=SOFT, fontsize=8.5, **look)
    _fill(under, drawable(note), wide, lines=1)
    below, begin, legend = ax.get_xlabel(), ax.get_position(), True
    for _ in range(6):  # ticks, and with them labels, change with the size
        place = ax.get_window_extent()
        start = (left - place.x0) / place.width
        head.set_x(start)
        under.xy = (start, 1)
        _fill(ax.xaxis.label, below, min(wide, 1.3 * place.width), lines=2)
        if legend:
            _legend(ax, handles, columns, left=left, right=left + wide)
        if managed or not fit or _fits(ax, room):
            break
        if not _narrow(ax, room) and legend:
            legend = False  # the chart itself is worth more
            ax.get_legend().remove()
            ax.set_position(begin)
    ax.set_in_layout(True)  # what setting a position by hand switches off


def _room(ax: Axes) -> Bbox:
    """Return the part of the figure that an ax may fill with its labels [pixels]."""
    whole, mine = ax.figure.bbox, ax.get_window_extent()
    left, low, right, high = whole.extents
    for other in ax.figure.axes:
        if other is ax:
            continue
        its, full = other.get_window_extent(), other.get_tightbbox() or other.get_window_extent()
        if its.y0 < mine.y1 and mine.y0 < its.y1:
            if its.x1 <= mine.x0:
                left = max(left, full.x1, (its.x1 + mine.x0) / 2)
            elif mine.x1 <= its.x0:
                right = min(right, full.x0, (its.x0 + mine.x1) / 2)
        elif its.x0 < mine.x1 and mine.x0 < its.x1:
            if its.y1 <= mine.y0:
                low = max(low, full.y1, (its.y1 + mine.y0) / 2)
            else:
                high = min(high, full.y0, (its.y0 + mine.y1) / 2)
    return Bbox.from_extents(left, low, right, high)


def _fits(ax: Axes, room: Bbox) -> bool:
    """Tell whether an ax is in its room with all its labels."""
    full = ax.get_tightbbox()
    x, y = (room.x0 <= full.x0, full.x1 <= room.x1), (room.y0 <= full.y0, full.y1 <= room.y1)
    return all((*x, *y))


def _narrow(ax: Axes, room: Bbox) -> bool:
    """Make an ax so small that its labels are in its room, and tell whether it is large enough."""
    place, full = ax.get_window_extent(), ax.get_tightbbox()
    x0 = place.x0 + max(room.x0 + 4 - full.x0, 0)
    y0 = place.y0 + max(room.y0 + 4 - full.y0, 0)
    x1 = place.x1 - max(full.x1 - room.x1 + 4, 0)
    y1 = place.y1 - max(full.y1 - room.y1 + 4, 0)
    large = x1 - x0 > room.width / 3 and y1 - y0 > room.height / 3
    x1, y1 = max(x1, x0 + room.width / 3), max(y1, y0 + room.height / 3)
    pixels = Bbox.from_extents(x0, y0, x1, y1)
    ax.set_position(pixels.transformed(ax.figure.transSubfigure.inverted()))
    return bool(large)


def _legend(ax: Axes, handles: Sequence[Any], columns: int, *, left: float, right: float) -> None:
    """Put the legend under the chart, from the ax or else the left edge on, as wide as can be."""
    lines = ax.get_xlabel().count("\n")
    drop = ScaledTranslation(0, -0.5 - 0.15 * lines, ax.figure.dpi_scale_trans)
    place = ax.get_window_extent()
    for number in range(min(columns, len(handles)), 0, -1):
        legend = ax.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.0, 0.0),
            bbox_transform=ax.transAxes + drop,
            borderaxespad=0.0,
            ncols=number,
            frameon=False,
            fontsize=8.5,
            handlelength=1.4,
        )
        wide = legend.get_window_extent().width
        if place.x0 + wide <= right:
            return
        if left + wide <= right:
            legend.set_bbox_to_anchor(((left - place.x0) / place.width, 0.0), ax.transAxes + drop)
            return


def _fill(text: Any, words: str, wide: float, *, lines: int) -> None:  # noqa: ANN401 - an artist
    """Write so much of a text that it fits into so many lines of that width [pixels]."""
    room = max(int(wide / 4), 8)
    while True:
        parts = wrapped(words, room)
        cut = parts[:lines]
        if len(parts) > lines:
            cut[-1] = plain(cut[-1], room - 1).rstrip("…") + "…"
        text.set_text("\n".join(cut))
        extent = text.get_window_extent().width
        if extent <= wide or room <= 8:  # noqa: PLR2004 - less says nothing
            return
        room = max(min(room - 1, int(room * wide / extent) + 1), 8)
