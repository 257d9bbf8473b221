"""Prepare what charts are drawn on: our style, fonts, margins, axes, titles."""

from __future__ import annotations

import io
import textwrap
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import dates as _dates
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from obanalytics.wording import cells, format_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types

dates: Any = _dates  # it has no types, alone in matplotlib
INK, SOFT, GRID = "#1F2328", "#59636E", "#DDE1E5"
_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "Noto Emoji"),
)
_WIDTH, _ROW, _CELL = 9.6, 0.29, 0.077  # inches: figure, one tenant's row, one cell of a label
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
def glyphs() -> frozenset[int]:
    """Return the characters that our fonts can draw.

    Returns
    -------
    frozenset of int
        Code points.
    """
    paths = (font_manager.findfont(name) for name in _families())
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


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
    figure = Figure(figsize=(_WIDTH, whole))
    wide = _WIDTH - left - right
    return figure.add_axes((left / _WIDTH, bottom / whole, wide / _WIDTH, height / whole))


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
        ax = Figure(figsize=(_WIDTH, 1.1)).add_axes((0, 0, 1, 1))
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


def date_axis(ax: Axes) -> None:
    """Label the dates.

    Parameters
    ----------
    ax : Axes
        The ax; its x is days as matplotlib counts them.
    """
    locator = dates.AutoDateLocator(minticks=4, maxticks=9)
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
    ax.xaxis.set_major_locator(FixedLocator(steps))
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


def below(ax: Axes, *, columns: int) -> dict[str, Any]:
    """Return where a legend goes: under the chart and its axis label.

    Parameters
    ----------
    ax : Axes
        The ax.
    columns : int
        How many entries a line of it has.

    Returns
    -------
    dict
        Arguments of `Axes.legend`.
    """
    height = ax.get_position().height * ax.figure.get_figheight()
    return {
        "loc": "upper left",
        "bbox_to_anchor": (0.0, -0.5 / height),
        "borderaxespad": 0.0,
        "ncols": columns,
        "frameon": False,
        "fontsize": 8.5,
        "handlelength": 1.4,
    }


def title(ax: Axes, found: str, note: str, *, lift: int = 0) -> None:
    """Write what was found over the chart, from the left edge of the figure on.

    Parameters
    ----------
    ax : Axes
        The ax.
    found : str
        What was found; two lines of it are shown.
    note : str
        What a reader should know; one line of it is shown.
    lift : int
        How much higher than usual both stand [points].
    """
    place, width = ax.get_position(), ax.figure.get_figwidth()
    start = -(place.x0 - 0.012) / place.width
    room = int((width - 0.25) / 0.096)  # inches a bold letter takes, on average
    text = "\n".join(textwrap.wrap(found, room)[:2])
    look = {"fontsize": 11, "fontweight": "bold", "parse_math": False}
    ax.set_title(text, loc="left", x=start, pad=24 + lift, **look)
    ax.annotate(
        textwrap.shorten(note, int(room * 1.3), placeholder=" …"),
        (start, 1),
        xytext=(0, 9 + lift),
        xycoords="axes fraction",
        textcoords="offset points",
        color=SOFT,
        fontsize=8.5,
    )
