"""Foresee which backup sets the server lets go, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.curve import micro, scene_of, who
from obanalytics.recovery import NAT, NEVER, REASONS, labels, search, times
from obanalytics.schema import STATES, as_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.curve import Limits, Scene, View
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import BackupSets, Instant

    Days: TypeAlias = "float | Mapping[Any, float] | pd.Series"

_KEPT = ("in_window", "keep_point", "after_keep_point", "no_keep_point", "running", "unknown")
VERDICTS = (*_KEPT, "due")
_RUNNING, _FAILED = STATES.index("running"), [STATES.index(s) for s in ("failed", "cancelled")]
_PARTIAL, _NOT_KNOWN_DONE = REASONS.index("partial_object"), REASONS.index("state_unknown")
_DAY = 86_400_000_000  # [µs]
_ROUNDED = 1_000_000  # the vendor's intervals begin at whole seconds, a base just before [µs]
_CENTURY = 36525  # days: beyond it instants plus limits would leave what numbers hold
# A full that is late by no more than this part of its interval is still waited for.
_LATE = 12
# One that runs is, up to a quarter of its interval, or four times what fulls took.
_RUNS_ON, _SLOWER = 4, 4


def retention(
    sets: BackupSets | pd.DataFrame,
    retention_days: Days,
    *,
    full_every: Limits | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Say of every tenant backup set whether the server's rule keeps it, and when it goes.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    retention_days : float, mapping or Series
        The server's recovery window: one, or one by `tenant_id` or (`instance_id`, `tenant_id`)
        [days].
    full_every : duration, mapping or Series, or None
        From the end of one full set to that of the next; a tenant without one takes the median
        interval between its own.
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per set in the list, by tenant and start: `instance_id`, `tenant_id`, `tenant_name`,
        `backup_set_id`, `full`, `state`, `end_time` [UTC], `verdict` (`in_window`: it ended less
        than the window ago; `keep_point`: the newest good full that ended before;
        `after_keep_point`: newer than it; `no_keep_point`: there is none, only failed sets go;
        `running`; `unknown`: without an end, or of a database or table; `due`: the rule lets it go
        now, the server checks hourly or is late), `expires_at` [UTC; NA where it cannot be said],
        `next` (bool: it is among those of its tenant that go next).

    Raises
    ------
    ValueError
        When a tenant has no retention, or one that is not above zero.

    Notes
    -----
    Of a tenant's sets with ``end <= now - window``, from the newest to the oldest: running ones
    stay, failed (and cancelled) ones go, the first good full stays and what is newer than it;
    everything older goes. So a set goes at ``window + max(own end, end of the first good full
    behind it)``, a failed one at ``window + own end``; a full still to come is expected a whole
    number of `full_every` after the newest one; one that runs when it is through, by what fulls
    took (median), one that is late by less than a twelfth of `full_every` at once. A full is good
    when it is done, whatever its validity: the engine asks for the status of the set, not of its
    files. Newer servers also ask for logs without a break from the start of its replay to its
    checkpoint, of which the list says nothing: there a set may stay longer. Copies in an archive
    storage class live by other rules.

    References
    ----------
    OceanBase, `ob_backup_clean_scheduler.cpp`, `ob_backup_clean_selector.cpp`.
    """
    scene = scene_of(sets, None, None, as_of)
    days = _by_tenant(retention_days, scene.tenants, _days)
    every = _by_tenant(full_every, scene.tenants, _every)
    made, whole = told(scene, lambda view: _verdicts(_Rule(view, days, every)))
    return made.assign(
        backup_set_id=column_of(scene, "backup_set_id", whole["row"]),
        full=column_of(scene, "full", whole["row"]),
        state=labels(whole["state"], STATES),
        end_time=times(whole["end"]),
        verdict=labels(whole["verdict"], VERDICTS),
        expires_at=times(whole["goes"]),
        next=whole["next"].astype(bool),
    )


def coverage_after_expiry(
    sets: BackupSets | pd.DataFrame,
    retention_days: Days,
    *,
    full_every: Limits | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Say of every tenant what can no longer be restored to after the next expiry.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    retention_days : float, mapping or Series
        As in `retention` [days].
    full_every : duration, mapping or Series, or None
        As in `retention`.
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per tenant: `instance_id`, `tenant_id`, `tenant_name`, `reachable_since` (the oldest
        checkpoint that can be restored), `next_expiry` (when the first restorable set goes, or one
        that it hangs on; before `as_of` where the server is late), `sets_going` (int64: by then or
        now, restorable or not), `reachable_since_after` (NA: nothing is left) [UTC], `lost`
        [timedelta; how much later that is], `next_full_expected` [UTC], `before_next_full` (bool:
        `next_expiry` is before it, or none is expected), `last_usable_full_id` (the restorable full
        with the newest checkpoint), `at_risk` (bool: that one, or the base of the newest restorable
        set, goes before the next full is expected to have ended: for one that is done but of no
        use, which the server counts).

    Raises
    ------
    ValueError
        When a tenant has no retention, or one that is not above zero.
    """
    scene = scene_of(sets, None, None, as_of)
    days = _by_tenant(retention_days, scene.tenants, _days)
    every = _by_tenant(full_every, scene.tenants, _every)
    made, whole = told(scene, lambda view: _shrinking(_Rule(view, days, every)))
    since, after = times(whole["since"]), times(whole["after"])
    return made.assign(
        reachable_since=since,
        next_expiry=times(whole["next"]),
        sets_going=whole["going"],
        reachable_since_after=after,
        lost=after - since,
        next_full_expected=times(whole["expected"]),
        before_next_full=whole["before"].astype(bool),
        last_usable_full_id=column_of(scene, "backup_set_id", whole["last"]),
        at_risk=whole["at_risk"].astype(bool),
    )


@dataclass(slots=True)
class Reserves:
    """The full sets that some tenants can fall back on; an entry per tenant.

    Parameters
    ----------
    usable_fulls : ndarray of int
        How many fulls can be restored.
    newest_full, oldest_full : ndarray of int
        The set with the newest and the oldest checkpoint among them; -1: none.
    shortfall : ndarray of int
        By how much the oldest one's checkpoint is after ``now - days``; `NAT`: not judged [µs].
    overdue : ndarray of int
        How many sets are older than the newest usable full with a checkpoint up to ``now - days``.
    oldest_overdue, overdue_since : ndarray of int
        The oldest of them, and since when the rule lets it go [µs]; -1 and `NAT`: none.
    next_full : ndarray of int
        When the next full is expected to have ended; `NAT`: it cannot be said [µs].
    at_risk : ndarray of bool
        Whether the newest full, or the base of the newest restorable set, goes before that.
    risk_at, risk_set : ndarray of int
        When the first of the two goes [µs], and which; `NAT` and -1: none does.
    may_be_safe : ndarray of bool
        Whether none would, if what is not known of sets were well.
    """

    usable_fulls: Ints
    newest_full: Ints
    oldest_full: Ints
    shortfall: Ints
    overdue: Ints
    oldest_overdue: Ints
    overdue_since: Ints
    next_full: Ints
    at_risk: Bools
    risk_at: Ints
    risk_set: Ints
    may_be_safe: Bools


def reserves_in(view: View, days: Ints, full_every: Ints) -> Reserves:
    """Return what tenants of a view can fall back on, and whether the server will let it go.

    Parameters
    ----------
    view : View
        The tenants.
    days : ndarray of int
        Each one's recovery window; `NAT`: what depends on it is not judged [µs].
    full_every : ndarray of int
        From the end of one full to that of the next; `NAT`: the median so far [µs].

    Returns
    -------
    Reserves
        An entry per tenant of the view.
    """
    stock = _Stock(view)
    limit = np.where((days == NAT) | (stock.now == NAT), NAT, stock.now - np.maximum(days, 0))
    short = np.maximum(view.certain.checkpoint[stock.oldest] - limit, 0)
    overdue, first = stock.overdue(limit)
    if (infer := (full_every == NAT) & (days != NAT)).any():
        full_every = np.where(infer, stock.usual(), full_every)
    expected = stock.expected(full_every)
    risk_at, risk_set = stock.risk(days, expected)
    safe = risk_set < 0
    if not safe.all() and len(hopes_of(view)):
        safe = _Stock(view, trusting=True).risk(days, expected)[1] < 0
    return Reserves(
        usable_fulls=np.diff(stock.heads).astype(np.int64),
        newest_full=stock.newest,
        oldest_full=stock.oldest,
        shortfall=np.where((stock.oldest >= 0) & (limit != NAT), short, NAT),
        overdue=overdue,
        oldest_overdue=first,
        overdue_since=stock.goes(first, days),
        next_full=expected,
        at_risk=risk_set >= 0,
        risk_at=risk_at,
        risk_set=risk_set,
        may_be_safe=safe & (risk_set >= 0),
    )


def hopes_of(view: View) -> Ints:
    """Return which sets can be restored only if what is not known of sets is well.

    Parameters
    ----------
    view : View
        Some tenants.

    Returns
    -------
    ndarray of int
        Their numbers, in order.
    """
    if not view.certain.doubtable:
        return np.zeros(0, np.int64)
    return np.flatnonzero(view.trusting.restorable & ~view.certain.restorable)


class _Stock:
    """The fulls of some tenants: those that can be restored, and those that the server counts."""

    def __init__(self, view: View, *, trusting: bool = False) -> None:
        chains, part, as_of = view.certain, view.part, view.scene.known.as_of
        chains = self.chains = view.trusting if trusting else chains
        self.view, self.now = view, NAT if as_of is None else micro(as_of)
        self.listed, self.there = np.ones(len(chains.group), bool), chains.restorable
        if part.gone is not None:
            self.listed = np.bincount(part.sets[part.gone == NAT], minlength=len(self.there)) > 0
            self.there = self.there & (chains.until == NEVER)
        fulls = np.flatnonzero(chains.full)
        usable = fulls[self.there[fulls]]
        group, checkpoint = chains.group[usable], chains.checkpoint[usable]
        if not ((group[1:] > group[:-1]) | (checkpoint[1:] > checkpoint[:-1])).all():
            usable = usable[np.lexsort((usable, checkpoint, group))]
        self.usable, heads = usable, np.searchsorted(group, np.arange(part.count + 1))
        some, padded, self.heads = heads[1:] > heads[:-1], np.append(usable, [-1]), heads
        self.oldest = np.where(some, padded[heads[:-1]], -1)
        self.newest = np.where(some, padded[heads[1:] - 1], -1)
        done = (chains.own[fulls] > _NOT_KNOWN_DONE) & (chains.end[fulls] != NAT)
        self.good = fulls[done & self.listed[fulls]]
        self.group, self.end = chains.group[self.good], chains.end[self.good]
        self.least = self.end  # the earliest of each and those of its tenant behind it
        if not ((self.end[1:] >= self.end[:-1]) | (self.group[1:] != self.group[:-1])).all():
            backwards = pd.Series(self.end[::-1]).groupby(self.group[::-1])
            self.least = backwards.cummin().to_numpy()[::-1]

    @cached_property
    def base(self) -> Ints:
        """The full that each tenant's newest restorable set hangs on; -1: none."""
        chains = self.chains
        heads = np.searchsorted(chains.group, np.arange(self.view.part.count))
        checkpoint = np.where(self.there, chains.checkpoint, NAT)
        newest = np.maximum.reduceat(checkpoint, heads)
        there = np.append(np.flatnonzero(self.there), [-1])
        last = there[np.searchsorted(there[:-1], np.append(heads[1:], [NEVER])) - 1]
        best = np.where(newest != NAT, last, -1)
        # Most often the last one is the newest; runs that overlapped may have it otherwise.
        odd = (best >= 0) & (checkpoint[best] != newest)
        if odd.any():
            hits = np.flatnonzero(odd[chains.group] & (checkpoint == newest[chains.group]))
            best[chains.group[hits]] = hits
        return np.where(best >= 0, chains.mark[best] >> 1, -1)

    def behind(self, group: Ints, sets: Ints) -> Ints:
        """Return the earliest end of a good full behind each set; `NAT`: there is none."""
        at = np.searchsorted(self.good, sets, "right")
        mine = np.append(self.group, [-1])[at] == group
        return np.where(mine, np.append(self.least, [NAT])[at], NAT)

    def goes(self, sets: Ints, days: Ints) -> Ints:
        """Return when a set of each tenant goes because of a full behind it; `NAT`: it does not."""
        behind = self.behind(np.arange(len(sets)), sets)
        known = (sets >= 0) & (behind != NAT) & (days != NAT)
        end = np.maximum(self.view.certain.end[sets], behind)
        return np.where(known, end + np.where(known, days, 0), NAT)

    def expected(self, every: Ints) -> Ints:
        """Return when each tenant's next good full is expected to have ended."""
        newest = np.full(len(every), NAT)
        np.maximum.at(newest, self.group, self.end)
        known = (newest != NAT) & (every != NAT) & (self.now != NAT)
        if not known.any():
            return np.full(len(every), NAT)
        last, every = np.where(known, newest, 0), np.where(known, every, 1)
        steps = np.maximum((self.now - last) // every, 0)
        due = last + steps * every
        # One that is only just late is not given up for a whole interval.
        late = (steps > 0) & (self.now - due <= every // _LATE)
        made = np.where(late, self.now, due + every)
        ends = self.running(newest, every)
        return np.where(known, np.where(ends == NAT, made, ends), NAT)

    def running(self, newest: Ints, every: Ints) -> Ints:
        """Return when the full that each tenant makes now will have ended; `NAT`: it makes none."""
        chains, made = self.view.certain, np.full(len(newest), NAT)
        sets = np.flatnonzero((self.view.part.state == _RUNNING) & chains.full & self.listed)
        group, start = chains.group[sets], chains.start[sets]
        keep = (chains.end[sets] == NAT) & (start <= self.now) & (start > newest[group])
        group, start = group[keep], start[keep]
        if not len(group):
            return made
        took = pd.Series(self.end - chains.start[self.good])[chains.start[self.good] <= self.end]
        usual = took.groupby(self.group[took.index]).median().reindex(group).fillna(0)
        usual = usual.to_numpy().astype(np.int64)
        fresh = self.now - start <= np.maximum(every[group] // _RUNS_ON, _SLOWER * usual)
        made[group[fresh]] = np.maximum(start + usual, self.now)[fresh]
        return made

    def usual(self) -> Ints:
        """Return each tenant's median interval between good fulls; `NAT` with fewer than two."""
        by = np.lexsort((self.end, self.group))
        group, end = self.group[by], self.end[by]
        apart = np.flatnonzero((group[1:] == group[:-1]) & (end[1:] > end[:-1]))
        middle = pd.Series((end[1:] - end[:-1])[apart]).groupby(group[apart]).median()
        made = np.full(self.view.part.count, NAT)
        made[middle.index] = middle.to_numpy().astype(np.int64)
        return made

    def risk(self, days: Ints, bound: Ints) -> tuple[Ints, Ints]:
        """Return when the newest full, or the base of the newest set, goes too early, and which."""
        when, which = np.full(len(days), NAT), np.full(len(days), -1)
        for sets in (self.newest, self.base):
            goes = self.goes(sets, days)
            sooner = (goes != NAT) & (goes < bound) & ((which < 0) | (goes < when))
            when, which = np.where(sooner, goes, when), np.where(sooner, sets, which)
        return when, which

    def overdue(self, limit: Ints) -> tuple[Ints, Ints]:
        """Return how many sets are older than each tenant needs, and the first of them."""
        chains, tenants = self.view.certain, np.arange(len(limit))
        group, checkpoint = chains.group[self.usable], chains.checkpoint[self.usable]
        at = search(group, checkpoint, tenants, limit, "right") - 1
        keeps = (limit != NAT) & (at >= self.heads[:-1])
        first = np.searchsorted(chains.group, tenants)
        keep = np.where(keeps, np.append(self.usable, [-1])[at], first)
        # What still runs, is gone, or is of a database or table is not to be let go.
        stays = (self.view.part.state == _RUNNING) | (chains.own == _PARTIAL) | ~self.listed
        exempt = np.flatnonzero(stays)
        overdue = keep - np.searchsorted(exempt, keep) - first + np.searchsorted(exempt, first)
        while (skip := (overdue > 0) & stays[first]).any():
            first = first + skip
        return overdue.astype(np.int64), np.where(overdue > 0, first, -1)


class _Rule:
    """When the server lets each set go that is in the list; given what all tenants are given."""

    def __init__(self, view: View, days: Ints, every: Ints) -> None:
        mine = slice(view.part.first, view.part.first + view.part.count)
        self.view, self.stock, self.days, every = view, _Stock(view), days[mine], every[mine]
        chains, stock = view.certain, self.stock
        self.sets = np.flatnonzero(stock.listed)
        self.group, self.end = chains.group[self.sets], chains.end[self.sets]
        self.state = view.part.state[self.sets].astype(np.int64)
        self.expected = stock.expected(np.where(every == NAT, stock.usual(), every))
        self.running = self.state == _RUNNING
        self.untold = (chains.own[self.sets] == _PARTIAL) | (self.end == NAT) | self.running
        behind = stock.behind(self.group, self.sets)
        behind = np.where(behind == NAT, self.expected[self.group], behind)
        behind = np.where(np.isin(self.state, _FAILED), self.end, behind)
        tells = ~self.untold & (behind != NAT)
        self.goes = np.where(tells, np.maximum(self.end, behind) + self.days[self.group], NAT)


def _verdicts(rule: _Rule) -> dict[str, Any]:
    """Return what the rule says of each set of some tenants."""
    part, now, group = rule.view.part, rule.stock.now, rule.group
    old = (now != NAT) & (rule.end != NAT) & (rule.end <= now - rule.days[group])
    late = (rule.goes != NAT) & (rule.goes <= now)
    keep, at = np.full(part.count, -1), np.arange(len(rule.sets))
    good = np.flatnonzero(old & np.isin(rule.sets, rule.stock.good))
    np.maximum.at(keep, group[good], good)
    named = ("running", "unknown", "due", "in_window", "no_keep_point", "keep_point")
    cases = [rule.running, rule.untold | (now == NAT), late, ~old]
    cases += [keep[group] < 0, keep[group] == at]
    codes = [VERDICTS.index(name) for name in named]
    soon = np.where(rule.goes == NAT, NEVER, np.maximum(rule.goes, now))
    return {
        "tenant": group + part.first,
        "row": part.rows_of(rule.sets),
        "state": rule.state,
        "end": rule.end,
        "verdict": np.select(cases, codes, VERDICTS.index("after_keep_point")),
        "goes": rule.goes,
        "next": soon == _least(part.count, group, soon)[group],
    }


def _shrinking(rule: _Rule) -> dict[str, Any]:
    """Return what the next expiry takes from each tenant."""
    chains, stock, count = rule.view.certain, rule.stock, rule.view.part.count
    there = np.flatnonzero(stock.there)
    group, checkpoint = chains.group[there], chains.checkpoint[there]
    until = np.full(len(chains.group), NEVER)
    until[rule.sets] = np.where(rule.goes == NAT, NEVER, rule.goes)
    linked = np.flatnonzero(chains.links)
    until[linked] = pd.Series(until[linked]).groupby(chains.mark[linked]).cummin().to_numpy()
    until = until[there]  # a set is gone with the first of its chain
    first = _least(count, group, until)
    by = np.where(first == NAT, NAT, np.maximum(first, stock.now))
    going = (rule.goes != NAT) & (rule.goes <= by[rule.group])
    left = until > by[group]
    bound = np.where(rule.expected == NAT, NEVER, rule.expected)
    return {
        "since": _least(count, group, checkpoint),
        "next": first,
        "going": np.bincount(rule.group[going], minlength=count).astype(np.int64),
        "after": _least(count, group[left], checkpoint[left]),
        "expected": rule.expected,
        "before": (first != NAT) & (first < bound),
        "last": rule.view.part.rows_of(stock.newest),
        "at_risk": stock.risk(rule.days, bound)[1] >= 0,
    }


def _least(count: int, group: Ints, values: Ints) -> Ints:
    """Return the least value of each tenant; `NAT`: it has none but `NEVER`."""
    made = np.full(count, NEVER)
    np.minimum.at(made, group, values)
    return np.where(made == NEVER, NAT, made)


def _by_tenant(given: Any, tenants: pd.DataFrame, read: Callable[[Any, str], int]) -> Ints:  # noqa: ANN401
    """Return every tenant's number, from one or one by tenant."""
    if not isinstance(given, Mapping | pd.Series):
        return np.full(len(tenants), read(given, ""))
    table = dict(given.items())
    made = [
        read(table.get((where, one), table.get(one)), f" of tenant {one!r} of instance {where!r}")
        for where, one in zip(tenants["instance_id"], tenants["tenant_id"], strict=True)
    ]
    return np.array(made, np.int64)


def _days(value: Any, whose: str) -> int:  # noqa: ANN401
    """Return a recovery window [µs]."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value <= _CENTURY:
        most = f" and up to {_CENTURY}" if number and _CENTURY < value < np.inf else ""
        raise ValueError(f"retention_days{whose} must be days above zero{most}, not {value!r}")
    return round(float(value) * _DAY)


def _every(value: Any, whose: str) -> int:  # noqa: ANN401
    """Return the interval from full to full; `NAT`: none is given [µs]."""
    every = NAT if value is None else micro(as_duration(value, f"full_every{whose}"))
    if every == 0:
        raise ValueError(f"full_every{whose} must be above zero, not {value!r}")
    if every > _CENTURY * _DAY:
        raise ValueError(f"full_every{whose} must be 100 years at most, not {value!r}")
    return every


def told(scene: Scene, tell: Callable[[View], dict[str, Any]]) -> tuple[pd.DataFrame, Any]:
    """Return whose each row is, and what is told of all views together.

    Parameters
    ----------
    scene : Scene
        The facts.
    tell : callable
        Tells columns of a view; those of `tenant` are numbers among all tenants.

    Returns
    -------
    whose : DataFrame
        `instance_id`, `tenant_id`, `tenant_name`.
    whole : dict of str to ndarray
        The columns.
    """
    found, newest = [], []
    for view in scene.views():
        found.append(tell(view))
        newest.append(view.newest_row)
    whole: dict[str, Any] = defaultdict(lambda: np.zeros(0, np.int64))
    for name in found[0] if found else ():
        whole[name] = np.concatenate([part[name] for part in found])
    rows = whole["tenant"] if "tenant" in whole else np.arange(len(scene.tenants))
    return who(scene, newest).take(rows).reset_index(drop=True), whole


def column_of(scene: Scene, name: str, rows: Ints) -> pd.Series:
    """Return a column of the frame for some rows; NA for -1.

    Parameters
    ----------
    scene : Scene
        The facts.
    name : str
        The column.
    rows : ndarray of int
        Rows of the tenants frame.

    Returns
    -------
    Series
        In the order of the rows.
    """
    return pd.Series(scene.known.tenants[name].array.take(rows, allow_fill=True))
