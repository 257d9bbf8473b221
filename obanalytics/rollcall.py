"""Find tenants that cluster sets lack, that came or went, and sizes that do not add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from obanalytics.kinds import CERTAINTIES, HOUR, SEVERITIES, Claims
from obanalytics.phrases import (
    counted,
    either,
    numbered,
    say,
    says,
    spelled,
    times_over,
    words_of,
)
from obanalytics.presence import FATES, KINDS
from obanalytics.recovery import NAT, integers, search
from obanalytics.retention import hopes_of
from obanalytics.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from obanalytics.curve import View
    from obanalytics.kinds import Terms
    from obanalytics.presence import Lives, Presence
    from obanalytics.recovery import Ints

_GONE = KINDS.index("gone")
_LACKS = [
    " in a row say done and do not have it, ",
    " in a row say done, with a failed set of it, ",
]
_LACKS_ONE = [" says done and does not have it, ", " says done, with a failed set of it, "]
_BY_INVENTORY = FATES.index("gone")
_WARNING, _INFO = SEVERITIES.index("warning"), SEVERITIES.index("info")
_PROVED, _, _PARTLY, _UNKNOWN = range(len(CERTAINTIES))


def presence_faults(
    presence: Presence,
    lives: Lives,
    frames: tuple[pd.DataFrame, pd.DataFrame],
    number_of: Callable[[Any], Ints],
    terms: Terms,
) -> list[Claims]:
    """Find what the cluster sets say of who is in them.

    Parameters
    ----------
    presence : Presence
        What `presence_of` found.
    lives : Lives
        Until when each tenant owes backups.
    frames : tuple of DataFrame
        The cluster sets, and those of the tenants.
    number_of : callable
        Returns the numbers of instances.
    terms : Terms
        For the sentences.

    Returns
    -------
    list of Claims
        `G24`, `G25`, `G34`.
    """
    return [
        _lacking(presence, terms),
        _gone(presence, lives, terms),
        _new(presence, frames[1], terms),
        _sizes(presence, frames[0], number_of, terms),
    ]


def _lacking(presence: Presence, terms: Terms) -> Claims:
    """Find runs of cluster sets that are done without a tenant."""
    some = np.flatnonzero(presence.kind != _GONE)
    count, kind = presence.count[some], presence.kind[some]
    ends = np.column_stack([presence.first[some], presence.last[some]])
    distinct = np.column_stack([ends[:, 0] >= 0, ends[:, 1] != ends[:, 0]])
    return Claims(
        "G24",
        presence.tenant[some],
        presence.start[some],
        presence.end[some],
        say(
            counted(count, "cluster set"),
            either(count == 1, words_of(kind, _LACKS_ONE), words_of(kind, _LACKS)),
            terms.zone.between(presence.start[some], presence.end[some]),
            "; expected a done set of the tenant in each",
        ),
        count,
        0,
        rows=ends[distinct],
        counts=distinct.sum(axis=1),
        clusters=True,
    )


def _gone(presence: Presence, lives: Lives, terms: Terms) -> Claims:
    """Find tenants that the newest cluster sets hold no longer."""
    some = np.flatnonzero(presence.kind == _GONE)
    tenant, count = presence.tenant[some], presence.count[some]
    listed = lives.fate[tenant] == _BY_INVENTORY
    again = np.isin(tenant, presence.old_tenant)
    told = ["", "; a tenant of its name appeared right after: re-created, it seems"]
    ends = np.column_stack([presence.first[some], presence.last[some]])
    distinct = np.column_stack([ends[:, 0] >= 0, ends[:, 1] != ends[:, 0]])
    return Claims(
        "G25",
        tenant,
        presence.start[some],
        np.maximum(presence.end[some], presence.start[some]),
        say(
            "no longer in cluster sets, in none of the newest ",
            numbered(count),
            ", since ",
            terms.zone.at(presence.start[some]),
            words_of(listed.astype(np.int64), _WHERE),
            words_of(again.astype(np.int64), told),
        ),
        count,
        0,
        rows=ends[distinct],
        counts=distinct.sum(axis=1),
        clusters=True,
        certainty=np.where(listed, _PROVED, _UNKNOWN),
        severity=np.where(listed, _INFO, _WARNING),
    )


_WHERE = [
    ": dropped, or silently unprotected; expected in each, as the inventory does not say",
    ", and the inventory does not have it: dropped; it owes nothing any more",
]


def _new(presence: Presence, tenants: pd.DataFrame, terms: Terms) -> Claims:
    """Find tenants that appeared."""
    tenant = presence.new_tenant
    first = integers(tenants["start_time"].array[presence.new_row])
    return Claims(
        "G25",
        tenant,
        presence.new_start,
        presence.new_start,
        say(
            "in the cluster sets since ",
            terms.zone.at(first),
            words_of(presence.new_full.astype(np.int64), _HAS_FULL),
        ),
        np.ones(len(tenant)),
        0,
        rows=presence.new_row,
        counts=np.ones(len(tenant), np.int64),
        severity=np.where(presence.new_full, _INFO, _WARNING),
    )


_HAS_FULL = [
    ", but no full set of it is done yet; expected one as its first",
    ": a new tenant, with a full set since",
]


def _sizes(
    presence: Presence,
    clusters: pd.DataFrame,
    number_of: Callable[[Any], Ints],
    terms: Terms,
) -> Claims:
    """Find cluster sets whose size is not the sum of their tenants'."""
    rows = presence.sized_row
    start, end = (integers(clusters[name].array[rows]) for name in ("start_time", "end_time"))
    size, whole = presence.sized, presence.sized_sum
    return Claims(
        "G34",
        number_of(clusters["instance_id"].array[rows]),
        start,
        np.where(end == NAT, start, end),
        say(
            "a cluster set of ",
            numbered(size, 2),
            " GiB at ",
            terms.zone.at(start),
            ", but its ",
            counted(presence.sized_number, "tenant set"),
            " are ",
            numbered(whole, 2),
            " GiB together; expected the same within rounding",
        ),
        size,
        whole,
        rows=rows,
        counts=np.ones(len(rows), np.int64),
        clusters=True,
    )


def doubted_runs(claims: Claims, view: View, terms: Terms) -> Claims:
    """Say of which missed runs it is not known whether they were missed.

    Parameters
    ----------
    claims : Claims
        What was found of runs.
    view : View
        The tenants.
    terms : Terms
        What they are held against.

    Returns
    -------
    Claims
        `G7` of slots near which sets began that may be restorable: `unknown`, or `partly` where
        they are fewer than the slots.
    """
    hopes = hopes_of(view) if claims.kind == "G7" and len(claims) else claims.rows[:0]
    if not len(hopes):
        return claims
    group, start = view.certain.group[hopes], view.certain.start[hopes]
    modes = view.scene.known.tenants["full"].array[view.part.rows_of(hopes)]
    full = modes.to_numpy(dtype=bool, na_value=True)
    mine = claims.tenant - view.part.first
    wait = np.maximum(terms.limits.grace[claims.tenant], _NEAR)
    low = search(group, start, mine, claims.start - _NEAR)
    high = search(group, start, mine, claims.end + wait, "right")
    # A full run is not made up for by an incremental.
    fulls = np.append([0], np.cumsum(full))
    count = np.where(says(claims.text, "full run"), fulls[high] - fulls[low], high - low)
    vague = np.where(count >= claims.floats("measured"), _UNKNOWN, _PARTLY)
    claims.certainty = np.where(count > 0, np.maximum(claims.surety, vague), claims.surety)
    return claims


_NEAR = 6 * HOUR  # about a quarter of a day


def unprotected(table: pd.DataFrame, first: int, terms: Terms) -> Claims:
    """Find tenants of the inventory that no set is of.

    Parameters
    ----------
    table : DataFrame
        Those tenants, as `Lives.unprotected` has them.
    first : int
        The number of the first of them.
    terms : Terms
        How long each may be without a set: RPO and grace.

    Returns
    -------
    Claims
        `G1`.
    """
    limits, mine = terms.limits, slice(first, first + len(table))
    allowed, created = limits.rpo[mine] + limits.grace[mine], integers(table["created_time"])
    dated = created != NAT
    some = np.flatnonzero(~dated | (terms.now - np.where(dated, created, 0) > allowed))
    dated, created = dated[some], created[some]
    age = np.where(dated, terms.now - np.where(dated, created, 0), 0)
    return Claims(
        "G1",
        some + first,
        created,
        np.full(len(some), terms.now),
        say(
            "in the inventory, but in no backup set",
            either(
                dated,
                say(", though it was created at ", terms.zone.at(created)),
                words_of(0 * some, [""]),
            ),
            "; a first set within ",
            spelled(limits.rpo[some + first]),
            " (RPO) and ",
            spelled(limits.grace[some + first]),
            " of grace was expected",
            times_over(age, limits.rpo[some + first]),
        ),
        np.where(dated, age / HOUR, np.nan),
        limits.rpo[some + first] / HOUR,
        terms.origin("rpo", some + first),
    )


def unread(failed: dict[str, str], tenant: Ints, terms: Terms) -> Claims:
    """Say of instances that could not be read that nothing is known of them.

    Parameters
    ----------
    failed : dict of str to str
        The instances and the reasons.
    tenant : ndarray of int
        Their numbers.
    terms : Terms
        For the instant.

    Returns
    -------
    Claims
        `G30`.
    """
    count = len(failed)
    return Claims(
        "G30",
        tenant,
        np.full(count, NAT),
        np.full(count, terms.now),
        say(
            "the instance could not be read, nothing is known of its backups: ",
            words_of(np.arange(count), [plain(each) for each in failed.values()]),
        ),
        np.full(count, np.nan),
        np.nan,
        certainty="unknown",
        severity=np.full(count, _WARNING),
    )
