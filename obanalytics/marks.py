"""Make what a timeline marks: runs, read once for all its rows; gaps; shares beside the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obanalytics.canvas import INK, keys_of, on_face
from obanalytics.ticks import days
from obanalytics.wording import format_share, format_span, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types
    Boxes: TypeAlias = dict[str, list[list[tuple[float, float]]]]  # corners, by cause
    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.intp]
    Rows: TypeAlias = Mapping[tuple[Any, Any], int]  # the height of each tenant's row

# Okabe-Ito, which readers who are colour-blind can tell apart; its black is a brown that the marks
# on it stand out from.
CAUSE_COLORS = {
    "silent": "#D55E00",
    "failed": "#CC79A7",
    "unusable": "#E69F00",
    "running": "#56B4E9",
    "late": "#F0E442",
    "missing_from_cluster_set": "#0072B2",
    "log_break": "#661100",
    "state_unknown": "#8C8C8C",
}
_UNKNOWN, _OTHER = "not known", "#E8EAED"
_TICK, _BAD = "#3F6F60", ("#B34700", "#FF9A57")
INSTANT = "#7FCDB0"
"""Where any instant can be restored."""
_CLOSE = 18  # marks to the inch: four points apart; closer they would be a grey band


@dataclass(frozen=True, slots=True)
class Marks:
    """What a timeline marks of runs.

    Parameters
    ----------
    keys : tuple of (instance_id, tenant_id)
        Whose runs there are.
    whose : ndarray of int
        Each run's number in them; -1 where it is nobody's.
    start, checkpoint : ndarray of float
        When each began, and what it restores to [days as matplotlib counts them; NaN for NA].
    restorable, full : ndarray of bool
        Whether each can be restored, and is known to be a full set.
    failed, idle : ndarray of bool or None
        Whether each failed or was cancelled; was done and cannot be restored. None where no state
        is told.
    chain_of : ndarray of int
        The same as `whose` for each chain of several sets; nothing where none is told.
    chain_first, chain_last : ndarray of float
        Their first and last checkpoint [days].
    drawn : dict
        The last chart of them that was drawn for a screen, by what stays in it.
    """

    keys: tuple[tuple[Any, Any], ...]
    whose: Ints
    start: Floats
    checkpoint: Floats
    restorable: Bools
    full: Bools
    failed: Bools | None
    idle: Bools | None
    chain_of: Ints
    chain_first: Floats
    chain_last: Floats
    drawn: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def heights(self, rows: Rows) -> Floats:
        """Return the height of everybody's row.

        Parameters
        ----------
        rows : mapping of (instance_id, tenant_id) to int
            The heights.

        Returns
        -------
        ndarray of float
            One for each of `keys`, and one for nobody; NaN where there is no row.
        """
        return np.array([*(rows.get(key, np.nan) for key in self.keys), np.nan], np.float64)

    def known(self, rows: Rows) -> tuple[float, float, Floats]:
        """Return from when to when anything can be restored, and from when on in each row.

        Parameters
        ----------
        rows : mapping of (instance_id, tenant_id) to int
            The heights.

        Returns
        -------
        tuple of float, float, ndarray of float
            Days as matplotlib counts them; infinite where there is nothing.
        """
        start, end = self.start[self.restorable], self.checkpoint[self.restorable]
        begins = np.full(len(rows), np.inf)
        y = self.heights(rows)[self.whose[self.restorable]]
        there = ~np.isnan(y)
        np.fmin.at(begins, y[there].astype(int), start[there])
        return (
            float(np.fmin.reduce(start, initial=np.inf)),
            float(np.fmax.reduce(end, initial=-np.inf)),
            begins,
        )


def marks_of(points: pd.DataFrame) -> Marks:
    """Read what a timeline marks.

    Parameters
    ----------
    points : DataFrame
        What `restore_points` returned.

    Returns
    -------
    Marks
        What `plot_coverage` takes in its place.
    """
    keys, whose = _keys(points)
    restorable = points["restorable"].to_numpy(bool)
    checkpoint = days(points["checkpoint"])
    failed = idle = None
    if "state" in points:
        state = points["state"].to_numpy(dtype=object)
        failed = (state == "failed") | (state == "cancelled")
        idle = (state == "done") & ~restorable
    return Marks(
        keys,
        whose,
        days(points["start_time"]),
        checkpoint,
        restorable,
        points["full"].fillna(value=False).to_numpy(bool),
        failed,
        idle,
        *_chains(points, whose, checkpoint, restorable & ~np.isnan(checkpoint)),
    )


def _keys(points: pd.DataFrame) -> tuple[tuple[tuple[Any, Any], ...], Ints]:
    """Return whose runs there are, and each run's number in them."""
    (one, ones), (tenant, tenants) = (points[n].factorize() for n in ("instance_id", "tenant_id"))
    is_known = (one >= 0) & (tenant >= 0)
    pairs, number = np.unique(one[is_known] * len(tenants) + tenant[is_known], return_inverse=True)
    whose = np.full(len(points), -1, np.intp)
    whose[is_known] = number
    return tuple((ones[p // len(tenants)], tenants[p % len(tenants)]) for p in pairs), whose


def _chains(
    points: pd.DataFrame, whose: Ints, checkpoint: Floats, good: Bools
) -> tuple[Ints, Floats, Floats]:
    """Return whose each chain of several sets is, and from when to when it reaches."""
    if "chain_id" not in points:
        return np.zeros(0, np.intp), np.zeros(0), np.zeros(0)
    told = {"whose": whose, "chain": points["chain_id"].to_numpy(), "at": checkpoint}
    frame = pd.DataFrame(told)[good & (whose >= 0)]  # an id is one of its tenant
    grouped = frame.groupby(["whose", "chain"], sort=False)["at"]
    chains = grouped.agg(first="min", last="max", size="size").reset_index()
    chains = chains[chains["size"] > 1]
    return tuple(chains[name].to_numpy() for name in ("whose", "first", "last"))


def draw_points(ax: Axes, marked: Marks | None, rows: Rows) -> tuple[list[Any], str]:
    """Draw restore points, chains and failures while they stay apart.

    Parameters
    ----------
    ax : Axes
        Where; it spans the time that is shown.
    marked : Marks or None
        The runs.
    rows : mapping of (instance_id, tenant_id) to int
        The heights.

    Returns
    -------
    tuple of list of Artist, str
        What stands for them in a legend, and a note.

    Notes
    -----
    What is crowded in one row is drawn in none: else a row would look as if it had none.
    """
    if marked is None:
        return [], ""
    heights, x = marked.heights(rows), marked.checkpoint
    y, chain = heights[marked.whose], heights[marked.chain_of]
    good = marked.restorable & _within(ax, x) & ~np.isnan(y)
    full, other, chains = good & marked.full, good & ~marked.full, ~np.isnan(chain)
    reach = marked.chain_first[chains], marked.chain_last[chains], chain[chains]
    marks: list[Any] = []
    left_out: list[str] = []
    for name, there, beside in (
        ("full set", (x[full], x[full], y[full]), y[full]),
        ("incremental", (x[other], x[other], y[other]), y[good]),
        ("chain", reach, np.tile(reach[2], 2)),  # both ends of a chain must be seen
    ):
        if not len(there[0]):
            continue
        if np.bincount(beside.astype(int)).max() > _CLOSE * inches(ax):
            left_out.append(f"{name}s")
            continue
        marks.append(_draw_lines(ax, there, name))
    failures, merged = _draw_failures(ax, marked, y, len(rows))
    note = f" Too close to draw: {', '.join(left_out)}." if left_out else ""
    return marks + failures, note + (" A mark may stand for several runs." if merged else "")


def _draw_lines(ax: Axes, there: tuple[Floats, Floats, Floats], name: str) -> Line2D:
    """Draw sets as ticks and chains as lines from the first to the last of them."""
    begin, end, y = there
    if name == "chain":
        reach = 0.0
        mark = Line2D([], [], color=on_face(_TICK, INSTANT), lw=1.1, label="chain")
    else:
        reach = 0.31 if name == "full set" else 0.12
        mark = Line2D([], [], marker="|", ls="", ms=3 + 20 * reach, label=name)
        mark.set_color(on_face(_TICK, INSTANT))
    lines: Any = np.column_stack([begin, y - reach, end, y + reach]).reshape(-1, 2, 2)
    ax.add_collection(
        LineCollection(lines, colors=_TICK, linewidths=0.8, alpha=0.8, zorder=2, label=name)
    )
    return mark


def _within(ax: Axes, moments: Floats) -> NDArray[np.bool_]:
    """Tell what is in the part of the time that is shown."""
    first, last = (float(each) for each in ax.get_xlim())
    return (moments >= first) & (moments <= last)


def _draw_failures(ax: Axes, marked: Marks, y: Floats, count: int) -> tuple[list[Any], bool]:
    """Mark the runs that brought no restore point, and tell whether a mark stands for several."""
    if marked.failed is None or marked.idle is None:
        return [], False
    begun = _within(ax, marked.start) & ~np.isnan(y)
    size = min(5.0, 0.25 * 72 * ax.bbox.height / ax.figure.dpi / count)
    first, last = ax.get_xlim()
    least = (size + 1) / 72 / inches(ax) * (last - first)
    marks, merged = [], False
    for chosen, shift, look, name in (
        (marked.failed, -0.15, {"marker": "X", "mfc": INK, "mec": "white"}, "failed or cancelled"),
        (marked.idle, 0.15, {"marker": "D", "mfc": "white", "mec": INK}, "done, not restorable"),
    ):
        there = np.flatnonzero(begun & chosen)
        if not len(there):
            continue
        x, high = _apart(marked.start[there], y[there], least)
        merged |= len(x) < len(there)
        style: Any = {"ls": "", "mew": 0.7, "label": name, **look}
        small = 0.8 if shift > 0 else 1.25
        ax.plot(x, high + shift, ms=size * small, zorder=4, scalex=False, scaley=False, **style)
        marks.append(Line2D([], [], ms=5.5 * small, **style))
    return marks, merged


def _apart(x: Floats, y: Floats, least: float) -> tuple[Floats, Floats]:
    """Return those places of which none covers another in its row."""
    by = np.lexsort((x, y))
    kept: list[int] = []
    for number in by:
        if not kept or y[kept[-1]] != y[number] or x[number] - x[kept[-1]] >= least:
            kept.append(int(number))
    return x[kept], y[kept]


def inches(ax: Axes) -> float:
    """Return how wide an ax is.

    Parameters
    ----------
    ax : Axes
        The ax.

    Returns
    -------
    float
        At least a tenth [inches].
    """
    return float(max(ax.bbox.width / ax.figure.dpi, 0.1))


def boxes_of(gaps: pd.DataFrame, rows: Rows, spans: tuple[float, float]) -> Boxes:
    """Return where the gaps of each cause are, each wide enough to be seen.

    Parameters
    ----------
    gaps : DataFrame
        What `coverage_gaps` returned, of tenants that have a row.
    rows : mapping of (instance_id, tenant_id) to int
        The heights.
    spans : tuple of float
        What the chart spans [days].

    Returns
    -------
    dict of str to list
        The corners of each, by cause.
    """
    least = (spans[1] - spans[0]) / 350
    boxes: Boxes = {}
    begin, end = days(gaps["gap_start"]), days(gaps["gap_end"])
    causes = gaps["cause"].astype("object").where(gaps["certainty"] != "unknown", _UNKNOWN)
    for key, kind, start, until in zip(keys_of(gaps), causes, begin, end, strict=True):
        corners = box(start, max(until, start + least), rows[key])
        boxes.setdefault(str(kind), []).append(corners)
    order = [*CAUSE_COLORS, *(kind for kind in boxes if kind not in CAUSE_COLORS)]
    return {kind: boxes[kind] for kind in sorted(boxes, key=order.index)}


def _gap_look(kind: str) -> dict[str, Any]:
    """Return how gaps of a cause look."""
    hatch = "////" if kind == _UNKNOWN else None
    return {"facecolor": CAUSE_COLORS.get(kind, _OTHER), "hatch": hatch}


def gap_mark(kind: str) -> Patch:
    """Return the mark of a cause.

    Parameters
    ----------
    kind : str
        The cause.

    Returns
    -------
    Patch
        For a legend.
    """
    return Patch(label=f"gap: {words(kind)}", **_gap_look(kind))


def draw_gaps(ax: Axes, boxes: Boxes) -> list[Any]:
    """Draw gaps.

    Parameters
    ----------
    ax : Axes
        Where.
    boxes : dict of str to list
        What `boxes_of` returned.

    Returns
    -------
    list of PolyCollection
        One by cause.
    """
    look: Any = {"edgecolor": "none", "zorder": 3}
    return [
        ax.add_collection(PolyCollection(each, **look, **_gap_look(kind)))
        for kind, each in boxes.items()
    ]


def box(begin: float, end: float, y: float) -> list[tuple[float, float]]:
    """Return the corners of a part of a row's bar.

    Parameters
    ----------
    begin, end : float
        From when to when [days].
    y : float
        The row's height.

    Returns
    -------
    list of tuple of float
        Four.
    """
    return [(begin, y - 0.31), (begin, y + 0.31), (end, y + 0.31), (end, y - 0.31)]


class Share(NamedTuple):
    """What stands beside a tenant's bar."""

    inside: str
    now: str
    outside: bool

    def look(self) -> dict[str, Any]:
        """Return how the exposure looks.

        Returns
        -------
        dict
            Its colour and weight.
        """
        ink = mpl.rcParams["text.color"]
        bad = _BAD[ink != INK]  # it stands beside the ax
        return {
            "color": bad if self.outside else ink,
            "fontweight": "bold" if self.outside else "normal",
        }


def shares_of(shown: pd.DataFrame) -> list[Share]:
    """Return each tenant's share and exposure.

    Parameters
    ----------
    shown : DataFrame
        What `rpo_compliance` returned, of tenants that have a row.

    Returns
    -------
    list of Share
        In words.
    """
    columns = (shown[name] for name in ("time_in_rpo", "exposure_now", "rpo_ratio"))
    return [
        Share(format_share(share), "unbounded" if pd.isna(now) else format_span(now), ratio > 1)
        for share, now, ratio in zip(*columns, strict=True)
    ]


def write_shares(ax: Axes, shares: list[Share]) -> list[Any]:
    """Write each tenant's share and exposure beside its bar.

    Parameters
    ----------
    ax : Axes
        Where.
    shares : list of Share
        One a row.

    Returns
    -------
    list of Annotation
        Two a row.
    """
    look = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    left, right = {"xytext": (45, 0), "ha": "right"}, {"xytext": (53, 0), "ha": "left"}
    look |= {"fontsize": 8.5, "va": "center"}
    made = []
    for y, share in enumerate(shares):
        made.append(ax.annotate(share.inside, (1, y), **left, **look))
        made.append(ax.annotate(share.now, (1, y), **right, **look, **share.look()))
    look |= {"color": mpl.rcParams["axes.labelcolor"], "fontsize": 8, "va": "bottom"}
    ax.annotate("in RPO", (1, -0.62), **left, **look)
    ax.annotate("exposed now", (1, -0.62), **right, **look)
    return made
