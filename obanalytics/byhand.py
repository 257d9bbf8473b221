"""Find the time in which only sets that were made by hand kept a tenant inside its RPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.coverage import Clusters, gaps_in, joined
from obanalytics.curve import scene_of
from obanalytics.kinds import CERTAINTIES, HOUR, Claims
from obanalytics.phrases import say, spelled
from obanalytics.presence import BY_HAND
from obanalytics.quiet import Pieces, merged, without

if TYPE_CHECKING:
    from obanalytics.curve import Scene
    from obanalytics.kinds import Terms
    from obanalytics.recovery import Bools, Ints


def rescued(scene: Scene, gaps: dict[str, Any], terms: Terms) -> Claims:
    """Find where automatic sets alone would have left a gap.

    Parameters
    ----------
    scene : Scene
        The facts.
    gaps : dict of str to ndarray
        What `coverage.gaps_in` returned, of all tenants.
    terms : Terms
        What they are held against.

    Returns
    -------
    Claims
        `G28`: the time that is in no gap, but would be without the sets made by hand, as if they
        had never been.
    """
    by_hand, number = _by_hand(scene)
    found: dict[str, Any] = {"tenant": number[:0]}
    if len(number):
        frame = scene.known.tenants
        alone = frame[np.isin(_groups(scene), number) & ~by_hand]
        start, end = scene.known.window.start, pd.Timestamp(scene.end, unit="us", tz="UTC")
        other = scene_of(alone, start, end, scene.known.as_of)
        bound, clusters = (terms.limits.rpo + terms.limits.grace)[number], Clusters(other)
        found = joined(
            [
                gaps_in(view, bound[view.part.first : view.part.first + view.part.count], clusters)
                for view in other.views()
            ]
        )
    whose, start, end, unknown = _beyond(number[found["tenant"]], found, gaps, terms)
    made = _makers(scene, by_hand, (whose, start, end))
    vague = np.where(unknown < end - start, _PARTLY, _UNKNOWN)
    there = made >= 0
    return Claims(
        "G28",
        whose,
        start,
        end,
        say(
            "inside the RPO for ",
            spelled(end - start),
            " only by sets made by hand, ",
            terms.zone.between(start, end),
            "; automatic ones within ",
            spelled(terms.limits.rpo[whose]),
            " (RPO) were expected",
        ),
        (end - start) / HOUR,
        0.0,
        terms.origin("rpo", whose),
        made[there],
        there.astype(np.int64),
        certainty=np.where(unknown > 0, vague, _INFERRED),
    )


_INFERRED, _PARTLY, _UNKNOWN = map(CERTAINTIES.index, ("inferred", "partly", "unknown"))


def _by_hand(scene: Scene) -> tuple[Bools, Ints]:
    """Return which rows were made by hand, and the tenants that have such and others."""
    trigger = scene.known.tenants["trigger_mode"].array
    names = [str(each).strip().upper() == BY_HAND for each in trigger.categories]
    by_hand = np.array([*names, False], bool)[trigger.codes]
    if not by_hand.any() or by_hand.all():
        return by_hand, np.zeros(0, np.int64)
    group, count = _groups(scene), len(scene.tenants)
    some = np.bincount(group[by_hand], minlength=count)
    return by_hand, np.flatnonzero((some > 0) & (some < scene.roll.counts))


def _beyond(
    tenant: Ints, found: dict[str, Any], gaps: dict[str, Any], terms: Terms
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return what of some gaps is in no gap of all sets together.

    Tenant, start, end, and how much of the gap that it is of is not known [µs].
    """
    parts = [(tenant[:0],) * 4]
    for who in np.unique(tenant):
        mine, own = np.flatnonzero(tenant == who), np.flatnonzero(gaps["tenant"] == who)
        end = np.minimum(found["end"][mine], terms.until[who])
        some = Pieces(mine, found["start"][mine], end)
        some = Pieces(*(each[some.start < some.end] for each in some))
        left = without(some, *merged(gaps["start"][own], gaps["end"][own]))
        unknown = found["unknown"][left.index]
        parts.append((np.full(len(left.start), who), left.start, left.end, unknown))
    whose, start, end, vague = (np.concatenate(each) for each in zip(*parts, strict=True))
    return whose, start, end, vague


def _makers(scene: Scene, by_hand: Bools, pieces: tuple[Ints, Ints, Ints]) -> Ints:
    """Return the newest row made by hand that could be restored before the end of each piece."""
    whose, _, end = pieces
    made = np.full(len(whose), -1)
    for view in scene.views() if len(whose) else ():
        chains, first = view.certain, view.part.first
        rows = view.part.rows_of(np.arange(len(chains.group)))
        good = np.flatnonzero(chains.restorable & by_hand[rows])
        for turn in np.flatnonzero((whose >= first) & (whose < first + view.part.count)):
            there = chains.group[good] == whose[turn] - first
            mine = good[there & (chains.usable_from[good] < end[turn])]
            if len(mine):
                made[turn] = rows[mine[np.argmax(chains.checkpoint[mine])]]
    return made


def _groups(scene: Scene) -> Ints:
    """Return the tenant of every row."""
    roll = scene.roll
    return np.repeat(np.arange(len(roll.counts)), roll.counts) if roll.group is None else roll.group
