"""Divide an ax into strips and lanes, and write on them and beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np

from obanalytics.canvas import INK, finish, new_axes, on_face, room_for
from obanalytics.ticks import FLOOR, label_at, round_steps
from obanalytics.wording import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    Axes: TypeAlias = Any  # matplotlib ships no types
    Columns: TypeAlias = Sequence[tuple[str, Sequence[str]]]

MAX_LANES = 8
"""More series than this have no lane each."""
_POINT = 5.5  # points that a cell of a text beside the lanes takes
_BESIDE = 0.42  # of a user's ax: the most that columns beside its lanes take
_LOW = 2.2  # inches: an ax too low for the label of its values
_LANE, _LEAST_LANE, _TIGHT = 0.66, 0.36, 0.17  # inches: a lane, in a user's ax; a row there


class Strip(NamedTuple):
    """Where in an ax the values of a series are drawn."""

    base: float
    """The height of zero."""
    scale: float
    """The height of a unit; negative where rows are counted downwards."""
    top: float
    """The value at its top."""

    def at(self, values: Any) -> Any:  # noqa: ANN401 - a number or an array
        """Return the heights of values."""
        return self.base + self.scale * np.asarray(values, np.float64)


def strips(y: float, tops: Sequence[float], shares: Sequence[float]) -> list[Strip]:
    """Divide a lane into strips, each scaled to its own series.

    Parameters
    ----------
    y : float
        The row.
    tops : sequence of float
        The largest value of each strip, the upper first.
    shares : sequence of float
        How much of the lane each has.

    Returns
    -------
    list of Strip
        Strips, the upper first.
    """
    gap, room = 0.06, 0.82
    high = room - gap * (len(tops) - 1)
    made, above = [], y - room / 2
    for top, share in zip(tops, shares, strict=True):
        part = high * share / sum(shares)
        top = top if top > 0 else 1.0  # noqa: PLW2901 - nothing but zeros lies on the ground
        made.append(Strip(above + part, -part / top, top))
        above += part + gap
    return made


def lanes_for(ax: Axes | None) -> int:
    """Return how many lanes there is room for.

    Parameters
    ----------
    ax : Axes or None
        The user's ax; None means that the figure is made to measure.

    Returns
    -------
    int
        At least one.
    """
    if ax is None:
        return MAX_LANES
    return min(max(int(room_for(ax, 1000).rows * _TIGHT / _LEAST_LANE), 1), MAX_LANES)


def two_scales(ax: Axes, top: float, most: float | None) -> tuple[Strip, Strip]:
    """Scale and label an axis for values, and a strip under it for others that would vanish there.

    Parameters
    ----------
    ax : Axes
        The ax.
    top : float
        The largest value.
    most : float or None
        The largest of the others; None makes no strip.

    Returns
    -------
    tuple of Strip
        Where the values, and where the others are drawn.
    """
    top = top if top > 0 else 1.0
    ticks, main = {each: f"{each:,.12g}" for each in round_steps(top, 5)}, Strip(0.0, 1.0, top)
    below = main
    if most is not None:
        most = most if most > 0 else 1.0
        below = Strip(-0.4 * top, 0.28 * top / most, most)
        small = round_steps(most, 2)[1:]  # the label of its zero would touch those of the dates
        ticks |= {float(below.at(each)): f"{each:,.12g}" for each in small}
        ax.axhline(0, color=on_face("#59636E", "#AAB3BD"), lw=0.8, zorder=1.2)
    ax.set_ylim(-FLOOR * top if most is None else below.base, 1.16 * top)
    label_at(ax.yaxis, sorted(ticks), lambda at: ticks.get(at, ""))
    finish(ax, along="y")
    return main, below


def unit_label(ax: Axes, label: str, unit: str, *, fit: bool) -> None:
    """Label the values of an ax; where it is low only with their unit.

    Parameters
    ----------
    ax : Axes
        The ax.
    label, unit : str
        The label, and the unit alone.
    fit : bool
        Whether the ax is a user's.
    """
    ax.set_ylabel(unit if fit and ax.bbox.height / ax.figure.dpi < _LOW else label)


def fitting(ax: Axes | None, columns: Columns) -> Columns:
    """Return the last of some columns: as many as there is room for beside the lanes.

    Parameters
    ----------
    ax : Axes or None
        The user's ax; None means that the figure is made to measure.
    columns : sequence of (head, texts)
        The columns, the most important one last.

    Returns
    -------
    sequence of (head, texts)
        Some of them.
    """
    if ax is None:
        return columns
    if not room_for(ax, 1).aside:
        return []
    wide = _BESIDE * 72 * ax.bbox.width / ax.figure.dpi
    while columns and sum(map(_taken, columns)) > wide:
        columns = columns[1:]
    return columns


def lane_axes(names: list[str], columns: Columns) -> Axes:
    """Make a figure with room for lanes and for columns beside them.

    Parameters
    ----------
    names : list of str
        The lanes' labels.
    columns : sequence of (head, texts)
        What will be written beside them.

    Returns
    -------
    Axes
        The ax of a new figure.
    """
    right = 0.25 + sum(map(_taken, columns)) / 72
    return new_axes(len(names), names, right=right, top=0.98 if columns else 0.8, row=_LANE)


def legend_cells(ax: Axes, *, fit: bool) -> int:
    """Return how long the label of a mark in the legend may be.

    Parameters
    ----------
    ax : Axes
        The ax.
    fit : bool
        Whether it is a user's; its neighbours are then not to be written on.

    Returns
    -------
    int
        Cells.
    """
    wide = 0.9 * ax.bbox.width if fit else 0.93 * ax.figure.bbox.width
    return max(int(wide / ax.figure.dpi * 72 / _POINT), 24)


def part_lanes(ax: Axes, count: int) -> None:
    """Part lanes by thin lines, in place of a grid.

    Parameters
    ----------
    ax : Axes
        The ax.
    count : int
        How many lanes it has.
    """
    ax.grid(visible=False)
    look: Any = {"color": mpl.rcParams["grid.color"], "lw": 0.7, "zorder": 1}
    ax.hlines(np.arange(count - 1) + 0.5, 0, 1, transform=ax.get_yaxis_transform(), **look)


def write_columns(ax: Axes, columns: Columns) -> int:
    """Write columns of texts beside the rows, each ending at its right edge.

    Parameters
    ----------
    ax : Axes
        The ax.
    columns : sequence of (head, texts)
        The columns from left to right.

    Returns
    -------
    int
        How much higher than usual the title has to stand [points].
    """
    rc, at = mpl.rcParams, 0.0
    for column in columns:
        head, texts = column
        at += _taken(column)
        look: Any = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
        look |= {"xytext": (at, 0), "ha": "right", "parse_math": False}
        for y, text in enumerate(texts):
            ax.annotate(text, (1, y), fontsize=8.5, va="center", **look)
        look |= {"color": rc["axes.labelcolor"], "fontsize": 8, "va": "bottom"}
        ax.annotate(head, (1, -0.62), **look)
    return 14 if columns else 0


def _taken(column: tuple[str, Sequence[str]]) -> float:
    """Return how much room a column takes [points]."""
    head, texts = column
    return 10 + _POINT * max(cells(text) for text in (head, *texts))


class Mark(NamedTuple):
    """A vertical mark at an instant, with a short label."""

    x: float
    label: str
    color: str
    low: float
    high: float
    """From where to where it goes."""
    beside: str = ""
    """Where its label stands: right of its lower or upper end, or else on its upper end."""


def draw_marks(ax: Axes, marks: Sequence[Mark]) -> None:
    """Draw vertical marks, and those of their labels that do not touch, the first ones first.

    Parameters
    ----------
    ax : Axes
        The ax, as large as it will be.
    marks : sequence of Mark
        The marks, the most important first.
    """
    face, placed = mpl.rcParams["axes.facecolor"], list[Any]()
    bounds = ax.get_window_extent()
    box: Any = {"boxstyle": "round,pad=0.15", "fc": face, "ec": "none", "alpha": 0.85}
    for mark in marks:
        ends: Any = ([mark.x, mark.x], [mark.low, mark.high])
        ax.plot(*ends, color=mark.color, lw=1.1, ls=(0, (3, 2)), zorder=4.2)
        is_low = mark.beside == "low"
        look: Any = {"xytext": (3 if mark.beside else 0, 2 if is_low else -1)}
        look |= {"ha": "left" if mark.beside else "center", "va": "bottom" if is_low else "top"}
        look |= {"textcoords": "offset points", "fontsize": 7.5, "parse_math": False, "zorder": 5}
        at = (mark.x, mark.low if is_low else mark.high)
        text = ax.annotate(mark.label, at, bbox=box, color=on_face(INK, "white"), **look)
        its = text.get_window_extent().padded(2)
        # The saved picture has other pixels: some room between, and no label across the edge.
        if its.x0 < bounds.x0 or its.x1 > bounds.x1 or any(its.overlaps(it) for it in placed):
            text.remove()
        else:
            placed.append(its)
