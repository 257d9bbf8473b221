"""Draw what another policy would have meant, beside what was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from obanalytics.canvas import (
    dress,
    expect,
    finish_rows,
    nothing,
    on_face,
    room_for,
    row_labels,
    style,
)
from obanalytics.strips import MAX_LANES, fitting, lane_axes, part_lanes, write_columns
from obanalytics.wording import cap_sentence, format_number, format_share, plural

if TYPE_CHECKING:
    from obanalytics.canvas import Axes

_WAS, _NOW, _LINE = "#7A8794", "#1F6FB2", "#B6BFC8"
_WHO = ("instance_id", "tenant_id", "tenant_name")
_NEEDED = (*_WHO, "scenario", "time_in_rpo", "stored_gib", "cost_per_month")
_SCENARIOS = ("as it was", "what if")


def plot_what_if(replayed: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what another policy would have meant for time in the RPO, store and cost.

    Parameters
    ----------
    replayed : DataFrame
        What `what_if` returned.
    ax : Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The ax: GiB in store as it was and as it would be, a lane per tenant, the largest change on
        top; the time inside the RPO and the cost of both beside it.

    Raises
    ------
    ValueError
        When the frame is not what `what_if` returned.
    """
    expect(replayed, "replayed", "what_if", _NEEDED)
    was, now = (
        replayed[replayed["scenario"] == name].set_index(list(_WHO[:2])) for name in _SCENARIOS
    )
    with style(ax):
        if was.empty:
            return nothing(ax, "No tenant has a backup set to replay")
        change = (now["stored_gib"] - was["stored_gib"]).abs().fillna(-1.0)
        order = change.sort_values(ascending=False, kind="stable").index
        room = room_for(ax, MAX_LANES)
        shown = order[: min(room.rows, MAX_LANES)]
        before, after = was.loc[shown], now.loc[shown]
        names = row_labels(before.reset_index(), room.cells)
        fit, columns = ax is not None, fitting(ax, _columns(before, after))
        ax = ax if ax is not None else lane_axes(names, columns)
        finish_rows(ax, names)
        part_lanes(ax, len(names))
        _draw(ax, before["stored_gib"], after["stored_gib"])
        lift = write_columns(ax, columns)
        note = "Mean of the last quarter. " + cap_sentence(len(shown), len(order))
        found = what_if_sentence(replayed)
        dress(ax, found, note, handles=_legend(), columns=2, lift=lift, fit=fit)
    return ax


def what_if_sentence(replayed: pd.DataFrame) -> str:
    """Say in one sentence what another policy would have meant.

    Parameters
    ----------
    replayed : DataFrame
        What `what_if` returned.

    Returns
    -------
    str
        The store, the cost, and how many tenants would have been inside their RPO for longer or
        for less time.
    """
    was, now = (replayed[replayed["scenario"] == name] for name in _SCENARIOS)
    if was.empty:
        return "There is no history to replay"
    parts = [f"In store {_both(was['stored_gib'], now['stored_gib'], 0)} GiB"]
    if now["cost_per_month"].notna().any():
        parts.append(f"{_both(was['cost_per_month'], now['cost_per_month'], 2)} a month")
    step = (now["time_in_rpo"].to_numpy() - was["time_in_rpo"].to_numpy()).round(6)
    less, more = int((step < 0).sum()), int((step > 0).sum())
    if less or more:
        parts.append(f"{plural(less, 'tenant')} less time inside the RPO, {more:,} more")
    else:
        parts.append("as much time inside the RPO")
    return "; ".join(parts)


def _both(was: pd.Series, now: pd.Series, digits: int) -> str:
    """Return two sums."""
    sums = [each.sum(min_count=1) for each in (was, now)]
    return " → ".join(format_number(each, digits) for each in sums)


def _columns(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Return what is written beside the lanes."""
    shares = zip(before["time_in_rpo"], after["time_in_rpo"], strict=True)
    costs = zip(before["cost_per_month"], after["cost_per_month"], strict=True)
    made = [("in RPO", [" → ".join(map(format_share, pair)) for pair in shares])]
    if after["cost_per_month"].notna().any():
        texts = [" → ".join(format_number(each, 2) for each in pair) for pair in costs]
        made.insert(0, ("a month", texts))
    return made


def _draw(ax: Axes, before: pd.Series, after: pd.Series) -> None:
    """Draw both amounts of every lane, and the way from one to the other."""
    for y, (was, now) in enumerate(zip(before, after, strict=True)):
        if pd.notna(was) and pd.notna(now):
            ax.plot([was, now], [y, y], color=_LINE, lw=2, zorder=2)
    rows = range(len(before))
    ax.plot(before, rows, zorder=3, **_look("was"))
    ax.plot(after, rows, zorder=4, **_look("now"))
    highest = pd.concat([before, after]).max()
    ax.set_xlim(0, 1.05 * highest if highest > 0 else 1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}"))
    ax.set_xlabel("in store [GiB]")


def _look(which: str) -> dict[str, Any]:
    """Return how an amount is marked."""
    if which == "was":
        return {"ls": "", "marker": "o", "ms": 7, "mfc": "none", "mec": on_face(_WAS, _LINE)}
    return {"ls": "", "marker": "o", "ms": 7, "color": on_face(_NOW, "#79B8FF")}


def _legend() -> list[Line2D]:
    """Return what the marks mean."""
    return [
        Line2D([], [], label=label, **_look(which))
        for label, which in zip(_SCENARIOS, ("was", "now"), strict=True)
    ]
