"""Say of every backup set whether it can be restored, and which would bring a tenant back."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.recovery import NAT, NEVER, REASONS, SOUND, integers, labels, roll_of, spans, times
from obanalytics.schema import as_instant, facts
from obanalytics.vendor import intervals_of

if TYPE_CHECKING:
    from obanalytics.recovery import Bools, Chains, Ints
    from obanalytics.schema import BackupSets, Facts, Instant

CERTAINTIES = ("inferred", "proved", "unknown")
REJECTIONS = (*REASONS, "gone", "after_when", "no_restore_point")
ESTIMATES = ("size_unknown", "too_few_runs")
_LEAST_GIB = 0.1  # a smaller set's time is all overhead: it has no throughput
_LEAST_RUNS = 3
_LOW, _HIGH = 0.1, 0.9  # of the observed throughput


def restore_points(
    sets: BackupSets | pd.DataFrame,
    *,
    as_of: Instant | None = None,
    trust_unknown: bool = False,
) -> pd.DataFrame:
    """Tell of every tenant backup set whether it can be restored, from when, and if not, why.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].
    trust_unknown : bool
        Count sets of unknown validity or mode, and incrementals whose base is not in the data, as
        sound.

    Returns
    -------
    DataFrame
        The tenants frame with `restorable` (bool), `usable_from`, `usable_until` [UTC; NA while
        nothing of the chain is gone], `chain_id` (the base full's set id), `chain_depth` (Int64,
        links from the base), `reason` (category, NA where restorable: `partial_object` for sets of
        databases or tables, then as in the design), `certainty` (`inferred`, `proved`, `unknown`).

    Raises
    ------
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    A full stands alone. An incremental needs the done set before it, and that one its own, back to
    a full; failed, cancelled and running sets are passed by; a done set that is not sound breaks
    the chain up to the next sound full. `usable_from` is the latest end along the chain.

    References
    ----------
    OceanBase, `ob_backup_data_store.cpp` (which sets a restore needs).
    """
    known = facts(sets, as_of)
    roll = roll_of(known.tenants)
    vendor = None if known.restorable is None else intervals_of(known.restorable, known.as_of, roll)
    frame = known.tenants
    rows = len(frame)
    good, doubtful, proved = (np.zeros(rows, bool) for _ in range(3))
    usable_from, usable_until = np.full(rows, NAT), np.full(rows, NAT)
    base, depth, reason = np.full(rows, -1), np.zeros(rows, np.int64), np.zeros(rows, np.int8)
    for part in roll.parts():
        chains, here, of = part.chains(trust_unknown=trust_unknown), part.rows, part.sets
        links = _Links(chains)
        good[here], doubtful[here] = chains.restorable[of], links.doubtful[of]
        usable_from[here] = chains.usable_from[of]
        until = chains.until[of]
        usable_until[here] = np.where(until == NEVER, NAT, until)
        base[here] = part.rows_of(links.base)[of]
        depth[here], reason[here] = links.depth[of], links.reason[of]
        if vendor is not None:
            mine = vendor.of(part.first, part.count)
            proved[here] = mine.holds(chains.group, chains.checkpoint)[of]
    index, ids = frame.index, frame["backup_set_id"].array
    # What the vendor says outweighs what is inferred of chains.
    certainty = np.where(proved, 1, np.where(doubtful & good, 2, 0))
    return frame.assign(
        restorable=good,
        usable_from=times(np.where(good, usable_from, NAT), index),
        usable_until=times(np.where(good, usable_until, NAT), index),
        chain_id=pd.Series(ids.take(np.where(good, base, -1), allow_fill=True), index=index),
        chain_depth=pd.Series(depth, index=index).astype("Int64").where(good),
        reason=labels(np.where(good, -1, reason), REASONS, index),
        certainty=labels(certainty, CERTAINTIES, index),
    )


def restore_options(
    sets: BackupSets | pd.DataFrame,
    tenant_id: str,
    when: Instant,
    *,
    as_of: Instant | None = None,
    instance_id: str | None = None,
) -> pd.DataFrame:
    """Say which backup sets would bring a tenant back to an instant, or why none would.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    tenant_id : str
        The tenant.
    when : instant
        What it is to be brought back to [UTC].
    as_of : instant or None
        When the restore would begin; None takes that of the facts [UTC].
    instance_id : str or None
        The tenant's instance; needed where several have a tenant of that id.

    Returns
    -------
    DataFrame
        First the answer, then the sets that would have been nearer, the nearest first, each with
        the reason why it is not taken: `instance_id`, `tenant_id`, `tenant_name`, `chosen` (bool),
        `backup_set_id`, `full`, `checkpoint`, `restored_to` [UTC], `loss` [timedelta; `when` less
        `restored_to`], `backup_set_ids` (tuple: the chain in the order of the restore), `size_gib`
        (of the chain [GiB]), `restore_low`, `restore_high` [timedelta], `reason` (category; those
        of `restore_points`, `gone`, `after_when`; `no_restore_point` where there is no answer: the
        row is NA then), `estimate_reason` (why there is no size or time: `size_unknown`,
        `too_few_runs`), `certainty` (as in `restore_points`).

    Raises
    ------
    ValueError
        When there is no such tenant, several instances have it, or `when` is no instant.

    Notes
    -----
    The answer is the set with the newest checkpoint at or before `when` among those usable at
    `as_of`; `restored_to` is that checkpoint, or `when` itself where one of the vendor's restorable
    intervals holds both (else that interval's end). The time is that of reading the chain at the
    tenant's own observed throughput, full and incremental apart: between the 90th and the 10th
    percentile of size / duration of its restorable sets, at least three of a mode; for sets under
    0.1 GiB, the percentiles of such runs' durations. Applying logs takes more, of which nothing is
    known here.
    """
    moment = _micro(as_instant(when, "when"))
    known = _only(facts(sets, as_of), tenant_id, instance_id)
    part = next(roll_of(known.tenants).parts())
    chains = part.chains()
    now = NEVER if known.as_of is None else _micro(known.as_of)
    every = np.arange(len(chains.group))
    here = chains.restorable & (chains.usable_from <= now) & (now < chains.until)
    fits = np.flatnonzero(here & (chains.checkpoint <= moment))
    by = np.lexsort((fits, chains.usable_from[fits], -chains.checkpoint[fits]))
    chosen = int(fits[by[0]]) if len(fits) else -1
    unfinished = chains.checkpoint == NAT
    place: Any = np.where(unfinished, chains.start, chains.checkpoint)
    floor = NAT if chosen < 0 else chains.checkpoint[chosen]
    begun = (chains.start <= moment) | (place <= moment)
    nearer = (place > floor) & (place != NEVER) & begun & ~(here & (place <= moment))
    nearer = np.flatnonzero(nearer & (every != chosen))
    nearer = nearer[np.argsort(np.abs(place[nearer] - moment), kind="stable")]
    return _options(known, chains, chosen, nearer, moment)


class _Links:
    """How the sets of chains hang together, as a restore must know it."""

    def __init__(self, chains: Chains) -> None:
        self.chains = chains

    @cached_property
    def first(self) -> Ints:
        """The first set of each set's tenant."""
        return np.searchsorted(self.chains.group, self.chains.group)

    @cached_property
    def base(self) -> Ints:
        """The full set that the chain begins with; -1 where there is none."""
        base = (self.chains.mark >> 1).astype(np.int64)
        return np.where(
            self.chains.restorable & self.chains.ok[base] & self.chains.full[base], base, -1
        )

    @cached_property
    def depth(self) -> Ints:
        """Links from the base; meaningful where `restorable`."""
        links = np.cumsum(self.chains.links)
        begin = np.where(self.base >= 0, self.base, self.first)
        return links - (links - self.chains.links)[begin] - 1 if len(links) else links

    @cached_property
    def reason(self) -> Ints:
        """What is wrong with each set and its chain: a position in `REASONS`, or beyond them."""
        reason = self.chains.own.copy()
        reason[self.chains.restorable] = SOUND
        lost = np.flatnonzero(self.chains.ok & ~self.chains.restorable)
        if len(lost):
            done = self.chains.own > REASONS.index("state_unknown")
            fulls = np.where(self.chains.full & done, np.arange(len(reason)), -1)
            known = np.maximum.accumulate(fulls)[lost] >= self.first[lost]
            broken, missing = REASONS.index("chain_broken"), REASONS.index("base_missing")
            reason[lost] = np.where(known | self.chains.trusting, broken, missing)
        return reason

    @cached_property
    def doubtful(self) -> Bools:
        """Whether some parent in the chain ended after its child started."""
        sets = np.arange(len(self.chains.group))
        parent = np.maximum.accumulate(np.where(self.chains.links, sets, -1))
        # A parent is the link before; a base has none, nor has a tenant's first link.
        child = np.flatnonzero(self.chains.restorable & (self.base != sets))
        child = child[child > self.first[child]]
        late = child[self.chains.end[parent[child - 1]] > self.chains.start[child]]
        late = late[parent[late - 1] >= self.first[late]]
        totals = np.cumsum(np.bincount(late, minlength=len(sets)))
        return totals > totals[np.where(self.base >= 0, self.base, self.first)]


def _micro(moment: pd.Timestamp) -> int:
    """Return an instant in microseconds since 1970."""
    return int(moment.as_unit("us").asm8.astype(np.int64))


def _only(known: Facts, tenant_id: str, instance_id: str | None) -> Facts:
    """Return what is known of one tenant."""
    frame = known.tenants
    frame = frame[frame["tenant_id"] == tenant_id]
    instances = sorted(frame["instance_id"].unique())
    if instance_id is not None:
        frame = frame[frame["instance_id"] == instance_id]
    if frame.empty:
        where = "" if instance_id is None else f" of instance {instance_id!r}"
        others = f"; it is known of {', '.join(instances)}" if instances else ""
        raise ValueError(f"no backup set of tenant {tenant_id!r}{where}{others}")
    if instance_id is None and len(instances) > 1:
        raise ValueError(
            f"tenant {tenant_id!r} is in several instances: {', '.join(instances)}; "
            "name one by instance_id="
        )
    return known._replace(tenants=frame)


def _options(known: Facts, chains: Chains, chosen: int, nearer: Ints, moment: int) -> pd.DataFrame:
    """Make the table of the answer and the sets that were not taken."""
    sets = np.append([chosen], nearer)
    frame, part = known.tenants, chains.part
    rows = np.where(sets >= 0, part.row[sets], -1)
    who = frame[["instance_id", "tenant_id", "tenant_name"]].iloc[[part.row[-1]] * len(sets)]
    made = who.reset_index(drop=True)
    links = _Links(chains)
    reason = links.reason[sets].astype(np.int64)
    good = chains.restorable[sets]
    reason[good] = REJECTIONS.index("gone")
    reason[good & (chains.checkpoint[sets] > moment)] = REJECTIONS.index("after_when")
    reason[0] = -1 if chosen >= 0 else REJECTIONS.index("no_restore_point")
    checkpoint = np.where(sets >= 0, chains.checkpoint[sets], NAT)
    reached, proved = _reached(known, chains, chosen, moment)
    chain = _chain(chains, chosen)
    size, low, high, missing = _estimate(frame, chains, chain)
    ids = frame["backup_set_id"].array
    first = np.arange(len(sets)) == 0
    certainty = np.where(links.doubtful[sets] & good, 2, np.where(first & proved, 1, 0))
    names = tuple(ids.take(part.row[chain])) if len(chain) else None
    empty: list[Any] = [None] * len(nearer)
    return made.assign(
        chosen=first & (chosen >= 0),
        backup_set_id=pd.Series(ids.take(rows, allow_fill=True)),
        full=pd.Series(frame["full"].array.take(rows, allow_fill=True)),
        checkpoint=times(checkpoint),
        restored_to=times(np.where(first, reached, NAT)),
        loss=spans(np.where(first & (reached != NAT), moment - reached, NAT)),
        backup_set_ids=pd.Series([names, *empty], dtype="object"),
        size_gib=np.where(first, size, np.nan),
        restore_low=spans(np.where(first, low, NAT)),
        restore_high=spans(np.where(first, high, NAT)),
        reason=labels(reason, REJECTIONS),
        estimate_reason=labels(np.where(first, missing, -1), ESTIMATES),
        certainty=labels(np.where(sets >= 0, certainty, -1), CERTAINTIES),
    )


def _reached(known: Facts, chains: Chains, chosen: int, moment: int) -> tuple[int, bool]:
    """Return the instant that a restore would reach, and whether the vendor proves it."""
    if chosen < 0:
        return NAT, False
    checkpoint = int(chains.checkpoint[chosen])
    if known.restorable is None:
        return checkpoint, False
    vendor = intervals_of(known.restorable, known.as_of, roll_of(known.tenants))
    at = int(np.searchsorted(vendor.start, checkpoint, "right")) - 1
    if at < 0 or checkpoint > vendor.end[at]:
        return checkpoint, False
    return min(moment, int(vendor.end[at])), True


def _chain(chains: Chains, chosen: int) -> Ints:
    """Return the sets that a restore of one needs, in order."""
    if chosen < 0:
        return np.zeros(0, np.int64)
    between = np.arange(_Links(chains).base[chosen], chosen + 1)
    return between[chains.restorable[between]]


def _estimate(frame: pd.DataFrame, chains: Chains, chain: Ints) -> tuple[float, int, int, int]:
    """Return GiB to read, shortest and longest time [µs], and why there is none."""
    if not len(chain):
        return np.nan, NAT, NAT, -1
    row = chains.part.row
    gib = frame["size_gib"].to_numpy()[row]
    taken = integers(frame["duration"])[row].astype(np.float64)
    full = frame["full"].to_numpy(dtype=bool, na_value=False)[row]
    if np.isnan(gib[chain]).any():
        return np.nan, NAT, NAT, ESTIMATES.index("size_unknown")
    whole, low, high = float(gib[chain].sum()), 0.0, 0.0
    seen = chains.restorable & (taken > 0) & ~np.isnan(gib)
    for mode in (True, False):
        for tiny in (True, False):
            alike = (full == mode) & ((gib < _LEAST_GIB) == tiny)
            mine = chain[alike[chain]]
            if not len(mine):
                continue
            runs = seen & alike
            if runs.sum() < _LEAST_RUNS:
                return whole, NAT, NAT, ESTIMATES.index("too_few_runs")
            if tiny:
                low += len(mine) * float(np.quantile(taken[runs], _LOW))
                high += len(mine) * float(np.quantile(taken[runs], _HIGH))
            else:
                speed = gib[runs] / taken[runs]
                low += float(gib[mine].sum() / np.quantile(speed, _HIGH))
                high += float(gib[mine].sum() / np.quantile(speed, _LOW))
    return whole, round(low), round(high), -1
