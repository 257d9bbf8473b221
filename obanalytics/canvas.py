"""Prepare what charts are drawn on: our style, fonts, margins, axes, titles."""

from __future__ import annotations

import base64
import html
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import pandas as pd
from matplotlib import dates as _dates
from matplotlib.axes import Axes as PlainAxes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, ScaledTranslation

from obanalytics.letters import drawable, families, new_canvas, picture_of, quickly
from obanalytics.wording import NAME_CELLS, cells, plain, tenant_labels, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Axes: TypeAlias = Any  # matplotlib ships no types

dates: Any = _dates  # it has no types, alone in matplotlib
INK = "#1F2328"
_LIGHT, _DARK = (INK, "#59636E", "#DDE1E5"), ("#E9ECEF", "#AAB3BD", "#434B54")  # ink, soft, grid
_WIDTH, _ROW, _CELL = 9.6, 0.29, 0.077  # inches: figure, one tenant's row, one cell of a label
_TIGHT_ROW, _AROUND, _SMALL = 0.17, 1.6, 5.0  # inches: a row in the user's ax, what is around it
_FILE: Any = {"format": "png", "dpi": 120, "metadata": {"Software": None}}
_EDGE, _APART = 0.11, 0.62  # inches: from an edge to the title, from a tick to the next


def png(draw: Callable[[], Axes], *, quick: bool = False) -> bytes:
    """Draw a chart and return it as a picture.

    Parameters
    ----------
    draw : callable
        Returns the ax to save the figure of.
    quick : bool
        Draw for a screen that is waiting: fewer dots, letters as they come, little compression.

    Returns
    -------
    bytes
        A PNG; the same for the same.
    """
    if quick:
        with quickly(), style(light=True):
            return picture_of(draw().figure)
    buffer = io.BytesIO()
    with style(light=True):  # a file looks the same whoever makes it
        ax = draw()
    with style(ax):  # tick labels come into being while saving: in here
        ax.figure.savefig(buffer, **_FILE)
    return buffer.getvalue()


class _Shown:
    """What a notebook shows without pyplot, which would keep every figure alive."""

    def _repr_png_(self) -> bytes:
        """Return the picture."""
        return png(lambda: self.axes[0] if isinstance(self, Figure) else self)

    def _repr_html_(self) -> str:
        """Return the picture with its title for those who cannot see it."""
        axes: Any = self.axes[0] if isinstance(self, Figure) else self
        alt = html.escape(" ".join(axes.get_title(loc="left").split()) or "chart")
        data = base64.b64encode(png(lambda: axes)).decode()
        width = round(axes.figure.get_figwidth() * 96)
        return f'<img alt="{alt}" width="{width}" src="data:image/png;base64,{data}">'


class _Figure(_Shown, Figure):
    """A figure that no global state knows of."""


class _Axes(_Shown, PlainAxes):
    """The ax of such a figure; shows all of it."""


@contextmanager
def style(ax: Axes | None = None, *, light: bool = False) -> Iterator[None]:
    """Draw in our style and leave the user's settings as they were.

    Parameters
    ----------
    ax : Axes or None
        Where is drawn: what is written is light where that is dark. None takes the user's settings.
    light : bool
        Draw on white whatever the user's settings.

    Yields
    ------
    None
        Nothing; tick labels come into being while a figure is saved, so saving belongs in here.
    """
    around, inside = ("white", "white") if light else _faces(ax)
    ink, soft, edge = _DARK if _is_dark(around) else _LIGHT
    line, _, grid = _DARK if _is_dark(inside) else _LIGHT
    rc: Any = {
        "text.parse_math": False,  # two $ in a tenant's name are no mathematics
        "font.family": list(families()),
        "font.size": 9.0,
        "text.color": ink,
        "axes.edgecolor": edge,
        "axes.labelcolor": soft,
        "xtick.color": soft,
        "ytick.color": ink,
        "lines.color": line,
        "grid.color": grid,
        "axes.facecolor": inside,
        "figure.facecolor": around,
    }
    with mpl.rc_context(rc):
        yield


def _faces(ax: Axes | None) -> tuple[Any, Any]:
    """Return what is behind a figure and an ax; white unless it is dark."""
    if ax is None:
        whole, own = mpl.rcParams["figure.facecolor"], mpl.rcParams["axes.facecolor"]
    else:
        whole, own = ax.figure.figure.get_facecolor(), ax.get_facecolor()
    own = own if to_rgba(own)[3] else whole
    whole = whole if to_rgba(whole)[3] else own
    around, inside = (face if _is_dark(face) else "white" for face in (whole, own))
    return around, inside


def _is_dark(face: Any) -> bool:  # noqa: ANN401 - a colour
    """Tell whether dark letters could not be read on a colour; nothing at all is white."""
    red, green, blue, alpha = to_rgba(face)
    return bool(alpha * (1 - (0.3 * red + 0.59 * green + 0.11 * blue)) > 0.5)  # noqa: PLR2004


def on_face(light: str, dark: str) -> str:
    """Return the colour that stands out from what is drawn on.

    Parameters
    ----------
    light, dark : str
        The colours for a light and for a dark ax.

    Returns
    -------
    str
        One of them.
    """
    return dark if _is_dark(mpl.rcParams["axes.facecolor"]) else light


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


def expect(frame: object, name: str, function: str, columns: tuple[str, ...]) -> None:
    """Refuse what is not the frame that a function returned.

    Parameters
    ----------
    frame : object
        What was given.
    name : str
        The argument's name.
    function : str
        The function whose result is expected.
    columns : tuple of str
        What such a frame has.

    Raises
    ------
    ValueError
        When it is no frame, or lacks one of the columns.
    """
    must = f"{name} must be the frame that {function} returned"
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{must}, not {type(frame).__name__}")  # noqa: TRY004 - one error for all
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"{must}; it has no {', '.join(missing)}")


def row_labels(frame: pd.DataFrame, limit: int) -> list[str]:
    """Return labels that our fonts can draw: the id where a name has characters they lack.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id, tenant_id and tenant_name.
    limit : int
        The most cells a label may take.

    Returns
    -------
    list of str
        A label per row.
    """
    names = frame["tenant_name"].astype("object")
    drawn = [drawable(plain(name)) == plain(name) for name in names]
    names = names.where(drawn, frame["tenant_id"].astype("object"))
    return [drawable(label) for label in tenant_labels(frame.assign(tenant_name=names), limit)]


def keys_of(frame: pd.DataFrame) -> list[tuple[object, object]]:
    """Return whose each row is.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id and tenant_id.

    Returns
    -------
    list of tuple
        Both, per row.
    """
    return list(zip(frame["instance_id"], frame["tenant_id"], strict=True))


def new_axes(
    rows: int,
    names: list[str],
    *,
    right: float = 0.25,
    top: float = 0.8,
    row: float = _ROW,
) -> Axes:
    """Make a figure with room for its labels, and return its ax.

    Parameters
    ----------
    rows : int
        How many rows of labels the chart has.
    names : list of str
        The labels.
    right, top : float
        Margins [inches]; `dress` makes the figure high enough for what is under the chart.
    row : float
        The height of a row [inches].

    Returns
    -------
    Axes
        The ax of a new figure, which no global state knows of.
    """
    left = 0.25 + _CELL * max(cells(name) for name in names)
    height, bottom = rows * row + 0.15, 0.82
    whole = top + height + bottom
    figure = _Figure(figsize=(_WIDTH, whole))
    new_canvas(figure)  # measures texts with one renderer; others make one per text
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
    look = {"color": mpl.rcParams["axes.labelcolor"], "parse_math": False}
    ax.text(0.5, 0.5, drawable(text), **look, ha="center", va="center", transform=ax.transAxes)
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
    finish(ax)


def finish(ax: Axes, *, along: str = "x") -> None:
    """Take away what a chart can do without.

    Parameters
    ----------
    ax : Axes
        The ax.
    along : {"x", "y"}
        The axis whose values have grid lines.
    """
    rc: Any = mpl.rcParams  # an ax of the user's brought its own colours
    for axis, name in ((ax.xaxis, "xtick.color"), (ax.yaxis, "ytick.color")):
        axis.set_tick_params(length=0, labelcolor=rc[name])
        axis.label.set_color(rc["axes.labelcolor"])
    ax.grid(axis=along, color=rc["grid.color"], lw=0.7)
    ax.set_axisbelow(True)
    ax.spines["bottom"].set_color(rc["axes.edgecolor"])
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


def date_axis(ax: Axes, label: str = "time [UTC]") -> None:
    """Label the dates.

    Parameters
    ----------
    ax : Axes
        The ax; its x is days as matplotlib counts them.
    label : str
        What they are.
    """
    locator = _Dates()
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, show_offset=False))
    ax.set_xlabel(drawable(label), parse_math=False)


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


class Said(NamedTuple):
    """What is written over a chart."""

    head: Any
    under: Any
    wide: float
    """How wide it may be [pixels]."""

    def say(self, found: str, note: str) -> None:
        """Write something else.

        Parameters
        ----------
        found : str
            What was found.
        note : str
            What a reader should know.
        """
        _fill(self.head, drawable(found, "bold"), self.wide, lines=2)
        _fill(self.under, drawable(note), self.wide, lines=1)


def dress(  # noqa: PLR0913 - what stands around a chart
    ax: Axes,
    found: str,
    note: str,
    *,
    handles: Sequence[Any],
    columns: int,
    lift: int = 0,
    fit: bool = False,
) -> Said:
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

    Returns
    -------
    Said
        What was written over it.
    """
    room, managed = _room(ax), ax.figure.get_layout_engine() is not None
    if managed:
        ax.figure.figure.draw_without_rendering()  # so that it is known where the ax will be
    left = ax.get_window_extent().x0 if managed else room.x0 + _EDGE * ax.figure.dpi
    wide = room.x1 - _EDGE * ax.figure.dpi - left
    rc, look = mpl.rcParams, {"fontsize": 11, "fontweight": "bold", "parse_math": False}
    look["color"] = rc["text.color"]
    head = ax.set_title("", loc="left", pad=24 + lift, **look)
    look = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    look |= {"color": rc["axes.labelcolor"], "fontsize": 8.5}
    under = ax.annotate("", (0, 1), xytext=(0, 9 + lift), **look)
    said = Said(head, under, wide)
    said.say(found, note)
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
    if isinstance(ax.figure, _Figure) and not fit:
        _make_room(ax)
    ax.set_in_layout(True)  # what setting a position by hand switches off
    return said


def _make_room(ax: Axes) -> None:
    """Make a figure of ours so high that what is under its chart ends at its edge."""
    figure, lowest = ax.figure, ax.get_legend() or ax.xaxis.label
    height, dpi = figure.get_figheight(), figure.dpi
    more = _EDGE - lowest.get_window_extent().y0 / dpi
    place = ax.get_position()
    figure.set_figheight(height + more)
    y0, high = (place.y0 * height + more) / (height + more), place.height * height / (height + more)
    ax.set_position((place.x0, y0, place.width, high))


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
    rc, lines = mpl.rcParams, ax.get_xlabel().count("\n")
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
            # Its marks have the colours of what is inside the ax, so that has to be behind them.
            frameon=rc["lines.color"] != rc["text.color"],
            facecolor=rc["axes.facecolor"],
            labelcolor=rc["lines.color"],
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
    wide *= 0.97  # letters are up to so much wider at the resolution that a picture is saved with
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
