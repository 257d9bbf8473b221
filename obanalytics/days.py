"""Cut coverage into days: a calendar of what was outside the RPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from obanalytics.curve import gaps_of, limits, micro, pieces_of, scene_of, unknown_in, who
from obanalytics.recovery import NAT, search, spans, times
from obanalytics.schema import as_duration

if TYPE_CHECKING:
    from obanalytics.curve import Limits, Pieces, View
    from obanalytics.recovery import Chains, Ints
    from obanalytics.schema import BackupSets, Duration, Instant

CALENDAR = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("day", "date"),
    ("start", "instant"),
    ("end", "instant"),
    ("gap", "span"),
    ("unknown", "span"),
    ("time_in_rpo", "float64"),
    ("worst_exposure", "span"),
    ("unbounded", "bool"),
    ("restore_points", "int64"),
)


def coverage_calendar(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    rpo: Limits,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
    grace: Duration = "0h",
    trust_unknown: bool = False,
    tz: str = "UTC",
) -> pd.DataFrame:
    """Say of every tenant and day how much of it was outside the RPO.

    Parameters
    ----------
    sets, rpo, start, end, as_of, grace, trust_unknown
        As in `coverage_gaps`.
    tz : str
        The zone whose days are told, such as ``Asia/Shanghai``.

    Returns
    -------
    DataFrame
        A row per tenant and day that its window touches: `instance_id`, `tenant_id`,
        `tenant_name`, `day` (the date in that zone, without a zone), `start`, `end` (the part of
        the day in the window [UTC]), `gap`, `unknown` [timedelta; outside the RPO, and the part of
        it of which nothing is known], `time_in_rpo` (share of the known time; NA where nothing is
        known), `worst_exposure` [timedelta; NA where unbounded], `unbounded` (bool),
        `restore_points` (int64, restorable sets with a checkpoint on that day).
        `attrs["model"]` as in `exposure`, `attrs["tz"]` the zone.

    Raises
    ------
    ValueError
        When there is no such zone, a tenant has no RPO, or the window ends before it starts.

    Notes
    -----
    Gaps, unknown time and exposure are those of `coverage_gaps` and `exposure`, cut at midnight; a
    day has 23 or 25 hours where the zone's clocks change.
    """
    zone = _zone(tz)
    scene = scene_of(sets, start, end, as_of)
    bound = limits(rpo, scene.tenants) + micro(as_duration(grace, "grace"))
    parts: list[dict[str, Any]] = []
    newest = []
    for view in scene.views():
        mine = bound[view.part.first : view.part.first + view.part.count]
        parts.append(_days(view, mine, zone, trust_unknown=trust_unknown))
        newest.append(view.newest_row)
    whole = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if parts
        else _NO_DAYS
    )
    made = who(scene, newest).take(whole["tenant"]).reset_index(drop=True)
    known = whole["end"] - whole["start"] - whole["unknown"]
    out = whole["gap"] - whole["unknown"]
    columns = {
        "day": pd.Series(whole["day"].view("M8[us]")),
        "start": times(whole["start"]),
        "end": times(whole["end"]),
        "gap": spans(whole["gap"]),
        "unknown": spans(whole["unknown"]),
        "time_in_rpo": np.where(known > 0, 1 - out / np.where(known > 0, known, 1), np.nan),
        "worst_exposure": spans(np.where(whole["unbounded"], NAT, whole["worst"])),
        "unbounded": whole["unbounded"],
        "restore_points": whole["restore_points"],
    }
    made = made.assign(**columns)[[name for name, _ in CALENDAR]]
    made.attrs |= {"model": scene.model, "tz": tz}
    return made


_NO_DAYS: dict[str, Any] = {
    **dict.fromkeys(
        ("tenant", "day", "start", "end", "gap", "unknown", "worst", "restore_points"),
        np.zeros(0, np.int64),
    ),
    "unbounded": np.zeros(0, bool),
}


def _zone(name: str) -> ZoneInfo:
    """Return a time zone by its name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"tz is no time zone: {name!r} (expected e.g. 'Asia/Shanghai')") from error


def _days(view: View, bound: Ints, zone: ZoneInfo, *, trust_unknown: bool) -> dict[str, Any]:
    """Return the days of some tenants, as numbers."""
    watched = np.flatnonzero(view.windows > 0)
    if not len(watched):
        return _NO_DAYS
    midnights, dates = _midnights(int(view.begin[watched].min()), view.end, zone)
    low = np.searchsorted(midnights, view.begin[watched], "right") - 1
    count = np.searchsorted(midnights, view.end, "left") - low
    group = np.repeat(watched, count)
    day = np.arange(len(group)) - np.repeat(np.cumsum(count) - count - low, count)
    start = np.maximum(midnights[day], view.begin[group])
    end = np.minimum(midnights[day + 1], view.end)
    # A zone that moved over the date line has a date without a day.
    there = start < end
    group, day, start, end = group[there], day[there], start[there], end[there]
    chains = view.trusting if trust_unknown else view.certain
    gaps = gaps_of(view, chains, bound)
    where = (group, start, end)
    worst, unbounded = _worst(pieces_of(view, chains), *where)
    return {
        "tenant": group + view.part.first,
        "day": dates[day],
        "start": start,
        "end": end,
        "gap": gaps.overlap(*where),
        "unknown": unknown_in(view, gaps, bound, where, trust_unknown=trust_unknown),
        "worst": worst,
        "unbounded": unbounded,
        "restore_points": _points(chains, *where),
    }


def _midnights(first: int, last: int, zone: ZoneInfo) -> tuple[Ints, Ints]:
    """Return when the days of a zone begin, one more than there are, and their dates [µs]."""
    ends = pd.DatetimeIndex(np.array([first, last], "M8[us]")).tz_localize("UTC").tz_convert(zone)
    begin, end = (each.tz_localize(None).normalize() for each in ends)
    dates = pd.date_range(begin, end + pd.Timedelta(1, "D"), freq="D", unit="us")
    # Where the clocks change at midnight, a day begins when the first of two midnights comes, or
    # when the clocks go on from a midnight that is left out.
    at = dates.tz_localize(zone, ambiguous=np.ones(len(dates), bool), nonexistent="shift_forward")
    begins = at.tz_convert("UTC").tz_localize(None).to_numpy("M8[us]").view(np.int64)
    # A date that was left out begins, and ends, when the next one does.
    begins = np.minimum.accumulate(begins[::-1])[::-1]
    return begins, dates.to_numpy("M8[us]").view(np.int64)


def _worst(pieces: Pieces, group: Ints, start: Ints, end: Ints) -> tuple[Ints, Any]:
    """Return the highest exposure of each day, and whether it has no bound."""
    first = search(pieces.group, pieces.start, group, start, "right") - 1
    last = search(pieces.group, pieces.start, group, end) - 1
    # The day's last piece counts as far as the day goes, those before it to their ends.
    origin, flat = pieces.origin[last], pieces.flat[last]
    worst = np.where(flat, 0, end - np.where(origin == NAT, end, origin))
    edges = np.column_stack([first, last]).ravel()
    whole = np.maximum.reduceat(np.append(pieces.exposure(pieces.end), [NAT]), edges)[::2]
    worst = np.where(first < last, np.maximum(worst, whole), worst)
    totals = np.append([0], np.cumsum(pieces.unbounded))
    return worst, totals[last + 1] > totals[first]


def _points(chains: Chains, group: Ints, start: Ints, end: Ints) -> Ints:
    """Return how many restorable sets have their checkpoint in each day."""
    good = np.flatnonzero(chains.restorable)
    good = good[np.lexsort((chains.checkpoint[good], chains.group[good]))]
    whose, at = chains.group[good], chains.checkpoint[good]
    return search(whose, at, group, end) - search(whose, at, group, start)
