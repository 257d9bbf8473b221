"""Draw exposure: what would be lost if everything failed at an instant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obanalytics.canvas import (
    INK,
    date_axis,
    dates,
    dress,
    expect,
    finish,
    keys_of,
    new_axes,
    nothing,
    on_face,
    row_labels,
    style,
)
from obanalytics.ticks import DAY, LIMIT, LINES, STEPS, duration_ticks
from obanalytics.wording import (
    NAME_CELLS,
    format_share,
    format_span,
    model_sentence,
    plain,
    plural,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Axes: TypeAlias = Any  # matplotlib ships no types
    Floats: TypeAlias = NDArray[np.float64]
    Limits: TypeAlias = Any  # what pandas.Timedelta takes, by tenant or not, or None

MAX_LINES = 6
"""More tenants than this have no line each: a summary and the worst are drawn."""


def plot_exposure(steps: pd.DataFrame, ax: Axes | None = None, *, rpo: Limits = None) -> Axes:
    """Draw how much would be lost if everything failed at an instant, and where that is too much.

    Parameters
    ----------
    steps : DataFrame
        What `exposure` returned.
    ax : Axes or None
        Where to draw; None makes a figure.
    rpo : duration, mapping, Series or None
        The recovery point objective: one, or one by tenant_id or (instance_id, tenant_id); None
        draws no limit.

    Returns
    -------
    Axes
        The ax: a saw-tooth per tenant, or where there are many what they have in common and the
        worst; logarithmic above its first tick where the worst is many times the typical.

    Raises
    ------
    ValueError
        When the frame is not what `exposure` returned, or a tenant has no RPO.
    """
    expect(steps, "steps", "exposure", _EXPOSED)
    curves = _curves(steps, rpo)
    with style(ax):
        if steps.empty:
            return nothing(ax, "No tenant has a backup set in this window")
        fit, ax = ax is not None, ax if ax is not None else new_axes(11, [" " * 10])
        ax.set_xlim(curves.start.min(), curves.end.max())
        order, several = curves.worst_first(), len(curves.limits) > MAX_LINES
        shown = curves.outstanding(order) if several else order
        grid = _bins(ax, curves, shown, several=several)
        lanes = _draw_unbounded(ax, curves, shown, several=several)
        log = _exposure_axis(ax, curves, 0.02 + 0.04 * lanes if lanes else 0.0)
        handles = _draw_summary(ax, grid) if several and grid is not None else []
        peaks = grid if grid is not None and _is_crowded(ax, curves, shown) else None
        handles += _draw_curves(ax, curves, shown, grid=peaks, log=log)
        handles += _draw_limits(ax, curves.limits if several else curves.limits[shown])
        face, edge = on_face("white", INK), on_face("#59636E", "#AAB3BD")
        mark = Patch(fc=face, ec=edge, hatch="////", label="no restore point")
        handles += [mark] if lanes else []
        finish(ax, along="y")
        date_axis(ax)
        ax.set_ylabel("exposure" if fit else "exposure: what would be lost")
        note = model_sentence(steps)
        if several:
            note += f" Summary of {plural(len(order), 'tenant')}, and the worst {len(shown)}."
        if grid is not None:
            note += f" Peak of each {format_span(pd.Timedelta(grid[0][1] - grid[0][0], 'D'))}."
        dress(ax, _exposure_found(curves), note, handles=handles, columns=4, fit=fit)
    return ax


_WHO = ("instance_id", "tenant_id", "tenant_name")
_EXPOSED = (*_WHO, "start", "end", "exposure_start", "exposure_end", "unbounded")


class _Curves(NamedTuple):
    """The curves of some tenants: instants in days as matplotlib counts them, exposure in seconds.

    Steps are in order; `high` is infinite where exposure has no bound. `limits` are NaN without.
    """

    tenants: pd.DataFrame
    limits: Floats
    tenant: NDArray[np.intp]
    start: Floats
    end: Floats
    low: Floats
    high: Floats

    def worst_first(self) -> NDArray[np.intp]:
        """Return the tenants: who is longest without a restore point, then who is most exposed."""
        return np.lexsort((-self.peaks(), -self.unbounded()))

    def unbounded(self) -> Floats:
        """Return how long each tenant has no restore point [days]."""
        lengths = np.where(np.isinf(self.high), self.end - self.start, 0.0)
        return np.bincount(self.tenant, lengths, len(self.limits)).astype(np.float64)

    def peaks(self) -> Floats:
        """Return each tenant's highest exposure that has a bound [s]."""
        most = np.zeros(len(self.limits))
        np.maximum.at(most, self.tenant, np.where(np.isinf(self.high), 0.0, self.high))
        return most

    def outstanding(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the one to three worst tenants that stand out: over their RPO, or the others."""
        peaks = self.peaks()
        limits = np.where(np.isnan(self.limits), 1.5 * np.median(peaks), self.limits)
        is_out = (peaks > limits) | (self.unbounded() > 0)
        return order[: min(max(int(is_out[order].cumprod().sum()), 1), 3)]

    def over(self) -> Floats:
        """Return how long each step is over its tenant's RPO [s]."""
        limit, length = self.limits[self.tenant], (self.end - self.start) * DAY
        above = np.clip(self.high - limit, 0, length)
        return np.where(np.isinf(self.high), length, above)


def _curves(steps: pd.DataFrame, rpo: Limits) -> _Curves:
    """Return the steps as numbers, by tenant and in order."""
    group = steps.groupby(list(_WHO[:2]), observed=True, sort=False).ngroup().to_numpy()
    tenants = steps.drop_duplicates(list(_WHO[:2])).reset_index(drop=True)
    start, end = (
        dates.date2num(steps[name].dt.tz_convert(None).to_numpy()).astype(np.float64)
        for name in ("start", "end")
    )
    low, high = (
        steps[name].dt.total_seconds().to_numpy(np.float64)
        for name in ("exposure_start", "exposure_end")
    )
    is_open = steps["unbounded"].to_numpy(bool) | np.isnan(high)
    low, high = (np.where(is_open, np.inf, each) for each in (low, high))
    by = np.lexsort((start, group))
    return _Curves(tenants, _limits(rpo, tenants), *(x[by] for x in (group, start, end, low, high)))


def _limits(rpo: Limits, tenants: pd.DataFrame) -> Floats:
    """Return every tenant's RPO [s]; NaN without one."""
    if rpo is None:
        return np.full(len(tenants), np.nan)
    keys = keys_of(tenants)
    given = dict(rpo.items() if isinstance(rpo, Mapping | pd.Series) else dict.fromkeys(keys, rpo))
    limits = []
    for instance, tenant in keys:
        value = given.get((instance, tenant), given.get(tenant))
        if value is None:
            raise ValueError(f"no rpo for tenant {tenant!r} of instance {instance!r}")
        limits.append(pd.Timedelta(value).total_seconds())
        if not limits[-1] >= 0:
            raise ValueError(f"rpo must be a duration that is not negative, not {value!r}")
    return np.array(limits, np.float64)


def _inches(ax: Axes) -> float:
    """Return how wide an ax is [inches]."""
    return float(max(ax.bbox.width / ax.figure.dpi, 0.1))


def _is_crowded(ax: Axes, curves: _Curves, shown: NDArray[np.intp]) -> bool:
    """Tell whether the teeth of a curve are too close to be seen."""
    most = np.bincount(curves.tenant, minlength=len(curves.limits))[shown].max()
    return bool(most > 18 * _inches(ax))  # to the inch: four points apart


def _bins(
    ax: Axes, curves: _Curves, shown: NDArray[np.intp], *, several: bool
) -> tuple[Floats, Floats] | None:
    """Return the bounds of what is one point of a summary, and every tenant's highest in each.

    A bin holds a whole tooth or a small part of one: between, peaks and valleys would beat.
    """
    if not several and not _is_crowded(ax, curves, shown):
        return None
    first, last = curves.start.min(), curves.end.max()
    least, tooth = (last - first) / (33 * _inches(ax)), float(np.median(curves.end - curves.start))
    width = least if tooth > 6 * least else max(least, 1.05 * tooth)
    bounds = np.linspace(first, last, max(int((last - first) / width), 1) + 1)
    return bounds, _highest(curves, bounds)


def _highest(curves: _Curves, bounds: Floats) -> Floats:
    """Return the highest exposure of every tenant in every bin; NaN where none is known."""
    most = np.full((len(curves.limits), len(bounds) - 1), -np.inf)
    into = np.clip(np.searchsorted(bounds, curves.end, "left") - 1, 0, len(bounds) - 2)
    np.maximum.at(most, (curves.tenant, into), curves.high)
    # At the end of a bin most tenants are in the middle of a step; tenants lie one behind another.
    reach = bounds[-1] - bounds[0] + 1
    begins = curves.tenant * reach + (curves.start - bounds[0])
    rows = np.arange(len(curves.limits))[:, None]
    asked = rows * reach + (bounds[1:] - bounds[0])
    step = np.maximum(np.searchsorted(begins, asked, "left") - 1, 0)
    inside = (curves.tenant[step] == rows) & (bounds[1:] <= curves.end[step])
    # Where any instant can be restored it does not grow.
    rate = np.where(curves.high > curves.low, float(DAY), 0.0)[step]
    there = curves.low[step] + (bounds[1:] - curves.start[step]) * rate
    most = np.where(inside, np.maximum(most, there), most)
    return np.where(np.isneginf(most), np.nan, most)


def _draw_unbounded(ax: Axes, curves: _Curves, shown: NDArray[np.intp], *, several: bool) -> int:
    """Draw at the top where there is no restore point, and return how many lanes that takes."""
    is_open = np.isinf(curves.high)
    colors = zip(shown, LINES, strict=False)
    lanes = [(is_open & (curves.tenant == number), color) for number, color in colors]
    lanes = [(is_open, on_face("#59636E", "#AAB3BD"))] if several else lanes
    lanes = [(chosen, color) for chosen, color in lanes if chosen.any()]
    least = (curves.end.max() - curves.start.min()) / 350
    for lane, (chosen, color) in enumerate(lanes):
        order = np.argsort(curves.start[chosen], kind="stable")
        begin, end = curves.start[chosen][order], np.maximum.accumulate(curves.end[chosen][order])
        new = np.append([True], begin[1:] > end[:-1])
        left, right = begin[new], end[np.append(np.flatnonzero(new)[1:] - 1, len(end) - 1)]
        right, high = np.maximum(right, left + least), 0.99 - 0.04 * lane
        corners = [
            [(a, high), (b, high), (b, high - 0.034), (a, high - 0.034)]
            for a, b in zip(left, right, strict=True)
        ]
        look: Any = {"facecolor": on_face("white", INK), "edgecolor": color}
        look |= {"hatch": "////", "lw": 0.8, "transform": ax.get_xaxis_transform()}
        band = PolyCollection(corners, zorder=4, **look)
        ax.add_collection(band, autolim=False)
    return len(lanes)


def _exposure_axis(ax: Axes, curves: _Curves, above: float) -> bool:
    """Scale the durations, leave the share above them free, and tell whether they are logarithmic.

    Under the first tick even that axis is linear, so that zero has a place.
    """
    peaks, limits = curves.high[np.isfinite(curves.high)], curves.limits[curves.limits > 0]
    top = max(peaks.max(initial=0.0), limits.max(initial=0.0), 1.0)
    typical = float(np.median(peaks[peaks > 0])) if (peaks > 0).any() else top
    log = bool(top > 15 * typical)  # the teeth would be crushed
    steps: list[float] = [s for s in STEPS if s <= top]
    if log:
        small = min(typical / 20, limits.min(initial=np.inf) / 4)
        bend = max([s for s in steps if s <= small], default=1)
        ax.set_yscale("symlog", linthresh=bend, linscale=0.5)
        steps = [0, *(s for s in steps if s >= bend)]
    else:
        step = next((s for s in STEPS if top / s <= 7), STEPS[-1])  # noqa: PLR2004 - ticks
        steps = list(np.arange(0, top, step))
    scale = ax.yaxis.get_transform()
    whole = float(scale.transform([top])[0]) * 1.06 / (1 - above)
    ax.set_ylim(0, float(scale.inverted().transform([whole])[0]))
    duration_ticks(ax.yaxis, steps)
    return log


def _draw_summary(ax: Axes, grid: tuple[Floats, Floats]) -> list[Any]:
    """Draw what is usual over many tenants, and return the marks of it."""
    bounds, highest = grid
    ranked = np.sort(highest, axis=0)  # infinite ones, then NaN last
    known = np.isfinite(ranked).sum(axis=0) + np.isinf(ranked).sum(axis=0)
    x = np.repeat(bounds, 2)[1:-1]

    def at(share: float) -> Floats:
        row = np.maximum(np.ceil(share * known).astype(int) - 1, 0)
        value = np.take_along_axis(ranked, row[None, :], axis=0)[0]
        return np.repeat(np.where(np.isinf(value), ax.get_ylim()[1], value), 2)

    top = np.repeat(np.fmax.reduce(np.where(np.isinf(highest), np.nan, highest), axis=0), 2)
    grey, soft = on_face("#B8C0C8", "#59636E"), on_face("#59636E", "#AAB3BD")
    ax.fill_between(x, at(0.1), at(0.9), color=grey, alpha=0.55, lw=0, zorder=1.5)
    ax.plot(x, at(0.5), color=on_face(INK, "white"), lw=1.4, zorder=3, label="median")
    ax.plot(x, top, color=soft, lw=0.8, ls=":", zorder=2, label="highest")
    marks = [*ax.lines[-2:], Patch(facecolor=grey, alpha=0.55, label="10 to 90 % of tenants")]
    return [marks[0], marks[2], marks[1]]


def _draw_curves(
    ax: Axes,
    curves: _Curves,
    shown: NDArray[np.intp],
    *,
    grid: tuple[Floats, Floats] | None,
    log: bool,
) -> list[Any]:
    """Draw some tenants' curves, shaded where over the RPO, and return the marks of it."""
    names = row_labels(curves.tenants.iloc[shown], NAME_CELLS)
    marks, breached = [], False
    for rank, (number, name) in enumerate(zip(shown, names, strict=True)):
        if grid is None:
            x, y = _teeth(curves, int(number), log=log)
        else:
            x, y = np.repeat(grid[0], 2)[1:-1], np.repeat(grid[1][number], 2)
            y = np.where(np.isinf(y), np.nan, y)
        limit, color = curves.limits[number], LINES[rank]
        if (y > limit).any():
            breached = True
            # The instants at which it rises past the limit are corners of the area.
            up = np.flatnonzero((y[:-1] < limit) & (y[1:] > limit) & (x[1:] > x[:-1]))
            part = (limit - y[up]) / (y[up + 1] - y[up])
            at = np.insert(x, up + 1, x[up] + part * (x[up + 1] - x[up]))
            high = np.insert(y, up + 1, limit)
            look: Any = {"color": LIMIT, "alpha": 0.25, "lw": 0}
            ax.fill_between(at, high, limit, where=high >= limit, **look)
        label = " " * name.startswith("_") + name  # some matplotlibs would hide it
        marks += ax.plot(x, y, color=color, lw=1.3, zorder=5 - 0.1 * rank, label=label)
    shade = Patch(facecolor=LIMIT, alpha=0.25, label="over the RPO")
    return [*marks, shade] if breached else marks


def _teeth(curves: _Curves, number: int, *, log: bool) -> tuple[Floats, Floats]:
    """Return the corners of a tenant's curve; a logarithm bends what lies between them."""
    mine = curves.tenant == number
    start, end, low, high = (x[mine, None] for x in curves[3:])
    share = np.concatenate([[0.0], np.geomspace(1e-3, 1, 12)]) if log else np.array([0.0, 1.0])
    x = start + (end - start) * share
    low, high = (np.where(np.isinf(each), np.nan, each) for each in (low, high))
    y = low + (high - low) * share
    is_end = np.append(start[1:] > end[:-1] + 1e-9, [[False]], axis=0)  # nothing known between
    x, y = np.hstack([x, end]), np.hstack([y, np.where(is_end, np.nan, y[:, -1:])])
    return x.ravel(), y.ravel()


def _draw_limits(ax: Axes, limits: Floats) -> list[Any]:
    """Draw the RPO, or the least and the most of it, and return the mark of it."""
    there = np.unique(limits[~np.isnan(limits)])
    several = len(there) > 3  # noqa: PLR2004 - lines that can be told apart
    there = there[[0, -1]] if several else there
    look: Any = {"color": on_face(INK, "white"), "lw": 1.1, "ls": (0, (5, 2))}
    for limit in there:
        ax.axhline(limit, zorder=4.5, **look)
    spans = [format_span(pd.Timedelta(limit, "s")) for limit in there]
    name = "RPO " + (" to " if several else ", ").join(spans)
    return [Line2D([], [], label=name, **look)] if spans else []


def _exposure_found(curves: _Curves) -> str:
    """Say in one sentence what the curves show."""
    peaks, lengths = curves.peaks(), curves.unbounded()
    names = [plain(name, NAME_CELLS) for name in curves.tenants["tenant_name"]]
    top, longest = int(peaks.argmax()), int(lengths.argmax())
    head = f"Worst exposure {format_span(pd.Timedelta(peaks[top], 's'))} ({names[top]})"
    if lengths[longest]:
        span = format_span(pd.Timedelta(lengths[longest], "D"))
        other = f"; else {head[0].lower()}{head[1:]}" if peaks[top] else ""
        head = f"No restore point for {span} ({names[longest]}){other}"
    limits = np.unique(curves.limits)
    if np.isnan(limits).any():
        return head
    share = float(curves.over().sum() / ((curves.end - curves.start).sum() * DAY))
    one = len(limits) == 1
    what = f"the RPO of {format_span(pd.Timedelta(limits[0], 's'))}" if one else "the RPOs"
    if not share:
        return f"{head}, never over {what}"
    text = format_share(share) if share >= 1e-4 else "less than 0.01 %"  # noqa: PLR2004 - else 0.00
    return f"{head}; over {what} for {text} of the time"
