"""Measure what would be lost: exposure at every instant, gaps beyond the RPO, and their causes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.recovery import (
    NAT,
    NEVER,
    chains_of,
    integers,
    labels,
    spans,
    times,
)
from obanalytics.schema import STATES, as_duration, facts, span

if TYPE_CHECKING:
    from obanalytics.recovery import Chains, Ints
    from obanalytics.schema import BackupSets, Duration, Facts, Instant

Limits: TypeAlias = "Duration | Mapping[Any, Duration] | pd.Series"

POSITIONS = ("head", "interior", "tail", "whole")
CAUSES = (
    "unusable",
    "failed",
    "running",
    "state_unknown",
    "late",
    "missing_from_cluster_set",
    "silent",
)
CERTAINTIES = ("inferred", "partly", "unknown")
_P95 = 0.95


@dataclass(slots=True)
class _Pieces:
    """The window of every tenant in pieces, in each of which one set is the newest restorable.

    Times are microseconds since 1970. `checkpoint` is `NAT` where nothing can be restored; `origin`
    is what exposure counts from, `NAT` where it is unbounded; `set` is the set's number or -1.
    """

    group: Ints
    start: Ints
    end: Ints
    checkpoint: Ints
    origin: Ints
    set: Ints

    @property
    def unbounded(self) -> Any:  # noqa: ANN401 - a boolean array
        """Where exposure has no bound."""
        return self.origin == NAT

    @property
    def highest(self) -> Ints:
        """Exposure at the end of each piece; `NAT` where unbounded."""
        return np.where(self.unbounded, NAT, self.end - self.origin)


@dataclass(slots=True)
class _Frame:
    """What every coverage analysis starts from."""

    known: Facts
    chains: Chains
    first: Ints
    """When each tenant is first known of."""
    begin: Ints
    """Where each tenant's window begins."""
    end: int
    explicit: bool

    @property
    def tenants(self) -> pd.DataFrame:
        """The tenants, in order."""
        return self.chains.tenants

    @property
    def windows(self) -> Ints:
        """The length of each tenant's window."""
        return np.maximum(self.end - self.begin, 0)


def exposure(
    sets: BackupSets | pd.DataFrame,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Return the exposure curve: how much would be lost if everything failed at an instant.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    start, end : instant or None
        The half-open window; None takes that of the facts, else each tenant's first known row and
        `as_of` [UTC].
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per step: `instance_id`, `tenant_id`, `tenant_name`, `start`, `end` [UTC],
        `checkpoint` (of the newest restorable set), `backup_set_id`, `exposure_start`,
        `exposure_end` [timedelta; NA where unbounded], `unbounded` (bool).

    Raises
    ------
    ValueError
        When the window ends before it starts.

    Notes
    -----
    Point model: exposure at t is t minus the newest checkpoint among the sets usable at t; log
    backups are not considered. Before the first restore point it is unbounded when a start was
    asked for, and counts from the tenant's first known row otherwise.
    """
    frame = _frame(sets, start, end, as_of)
    pieces = _pieces(frame, frame.chains)
    made = _who(frame, pieces.group)
    made["start"], made["end"] = times(pieces.start), times(pieces.end)
    made["checkpoint"] = times(pieces.checkpoint)
    made["backup_set_id"] = _ids(frame, pieces.set)
    made["exposure_start"] = spans(np.where(pieces.unbounded, NAT, pieces.start - pieces.origin))
    made["exposure_end"] = spans(pieces.highest)
    made["unbounded"] = pieces.unbounded
    return made


def coverage_gaps(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    rpo: Limits,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
    grace: Duration = "0h",
    trust_unknown: bool = False,
) -> pd.DataFrame:
    """Find the intervals in which more would be lost than the RPO allows, and say why.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration, mapping or Series
        The recovery point objective: one, or one by `tenant_id` or (`instance_id`, `tenant_id`).
    start, end : instant or None
        The half-open window, as in `exposure` [UTC].
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].
    grace : duration
        How much more is let pass.
    trust_unknown : bool
        As in `restore_points`.

    Returns
    -------
    DataFrame
        A row per maximal gap: `instance_id`, `tenant_id`, `tenant_name`, `gap_start`, `gap_end`
        [UTC], `gap`, `unknown` [timedelta; the part of which nothing is known], `position`,
        `cause` (category), `causes` (all that apply, joined by commas), `worst_exposure`
        [timedelta; NA where unbounded], `unbounded` (bool), `excess` [timedelta, over the RPO],
        `last_checkpoint`, `last_backup_set_id` (newest restore point when it began),
        `next_checkpoint`, `next_backup_set_id` (what closed it), `attempts`, `failed` (int64),
        `certainty` (`inferred`, `partly`, `unknown`).

    Raises
    ------
    ValueError
        When a tenant has no RPO, or the window ends before it starts.

    Notes
    -----
    A gap is a maximal interval with ``t - newest usable checkpoint > rpo + grace``. Between two
    good sets exposure peaks at ``usable_from[i+1] - checkpoint[i]``, not at the distance between
    their ends.
    """
    frame = _frame(sets, start, end, as_of)
    limit = _limits(rpo, frame.tenants)
    bound = limit + _micro(as_duration(grace, "grace"))
    chains = chains_of(frame.known, trust_unknown=True) if trust_unknown else frame.chains
    gaps = _gaps(frame, chains, bound)
    unknown = gaps.unknown(frame, bound, trust_unknown=trust_unknown)
    return _gap_table(frame, chains, gaps, limit, unknown)


def rpo_compliance(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    rpo: Limits,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
    grace: Duration = "0h",
    trust_unknown: bool = False,
    total: bool = False,
) -> pd.DataFrame:
    """Say of every tenant how much of the time it was inside its RPO.

    Parameters
    ----------
    sets, rpo, start, end, as_of, grace, trust_unknown
        As in `coverage_gaps`.
    total : bool
        Add a row for all tenants together, time-weighted; its `tenant_id` is NA.

    Returns
    -------
    DataFrame
        A row per tenant: `instance_id`, `tenant_id`, `tenant_name`, `time_in_rpo` (share of the
        known time; NA where nothing is known), `time_in_rpo_worst` (unknown time counted as out),
        `gaps` (int64), `gap_total`, `unknown` [timedelta], `worst_exposure` [timedelta; NA where
        unbounded], `worst_at` [UTC], `unbounded` (bool), `exposure_now` [timedelta; at `as_of`, or
        at the end of the facts' own window where that is earlier], `exposure_mean` (time-weighted),
        `exposure_p95` [timedelta], `restore_points` (int64, begun in the window),
        `last_checkpoint`, `last_attempt` [UTC], `last_attempt_state` (category), `rpo_ratio`
        (exposure now / RPO; inf where unbounded).

    Raises
    ------
    ValueError
        When a tenant has no RPO, or the window ends before it starts.

    Notes
    -----
    ``time_in_rpo = 1 - (gaps - unknown) / (window - unknown)``;
    ``time_in_rpo_worst = 1 - gaps / window``.
    """
    frame = _frame(sets, start, end, as_of)
    limit = _limits(rpo, frame.tenants)
    bound = limit + _micro(as_duration(grace, "grace"))
    chains = chains_of(frame.known, trust_unknown=True) if trust_unknown else frame.chains
    gaps = _gaps(frame, chains, bound)
    unknown = gaps.unknown(frame, bound, trust_unknown=trust_unknown)
    sums = _Sums(frame, gaps, unknown)
    made = _who(frame, np.arange(len(frame.tenants)))
    columns = sums.shares() | _worst(frame, chains) | _now(frame, chains, limit)
    made = made.assign(**columns)[[name for name, _ in COMPLIANCE]]
    return _with_total(made, sums) if total else made


GAPS = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("gap_start", "instant"),
    ("gap_end", "instant"),
    ("gap", "span"),
    ("unknown", "span"),
    ("position", "category"),
    ("cause", "category"),
    ("causes", "string"),
    ("worst_exposure", "span"),
    ("unbounded", "bool"),
    ("excess", "span"),
    ("last_checkpoint", "instant"),
    ("last_backup_set_id", "string"),
    ("next_checkpoint", "instant"),
    ("next_backup_set_id", "string"),
    ("attempts", "int64"),
    ("failed", "int64"),
    ("certainty", "category"),
)
COMPLIANCE = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("time_in_rpo", "float64"),
    ("time_in_rpo_worst", "float64"),
    ("gaps", "int64"),
    ("gap_total", "span"),
    ("unknown", "span"),
    ("worst_exposure", "span"),
    ("worst_at", "instant"),
    ("unbounded", "bool"),
    ("exposure_now", "span"),
    ("exposure_mean", "span"),
    ("exposure_p95", "span"),
    ("restore_points", "int64"),
    ("last_checkpoint", "instant"),
    ("last_attempt", "instant"),
    ("last_attempt_state", "category"),
    ("rpo_ratio", "float64"),
)


def _frame(
    sets: BackupSets | pd.DataFrame,
    start: Instant | None,
    end: Instant | None,
    as_of: Instant | None,
) -> _Frame:
    """Settle facts, chains and each tenant's window."""
    known = facts(sets, as_of)
    chains = chains_of(known)
    begin, until = span(known, start, end)
    known_since = np.full(len(chains.tenants), NEVER)
    np.minimum.at(known_since, chains.group, chains.start)
    last = NAT if until is None else _micro(until)
    # A tenant of which no start is known has no window unless one was asked for.
    begins = (
        np.minimum(known_since, last) if begin is None else np.full(len(known_since), _micro(begin))
    )
    return _Frame(known, chains, known_since, begins, last, begin is not None)


def _micro(value: pd.Timestamp | pd.Timedelta) -> int:
    """Return an instant or a duration in microseconds."""
    return int(value.as_unit("us").asm8.astype(np.int64))


def _limits(rpo: Limits, tenants: pd.DataFrame) -> Ints:
    """Return every tenant's RPO [µs]."""
    if not isinstance(rpo, Mapping | pd.Series):
        return np.full(len(tenants), _micro(as_duration(rpo, "rpo")))
    given = dict(rpo.items())
    limits = []
    for instance, tenant in zip(tenants["instance_id"], tenants["tenant_id"], strict=True):
        value = given.get((instance, tenant), given.get(tenant))
        if value is None:
            raise ValueError(f"no rpo for tenant {tenant!r} of instance {instance!r}")
        limits.append(_micro(as_duration(value, f"rpo of tenant {tenant}")))
    return np.array(limits, np.int64)


def _who(frame: _Frame, group: Ints) -> pd.DataFrame:
    """Return the columns that say whose rows they are."""
    return frame.tenants.iloc[group].reset_index(drop=True)


def _ids(frame: _Frame, numbers: Ints) -> pd.Series:
    """Return the ids of sets; NA for -1."""
    rows = np.where(numbers >= 0, frame.chains.row[numbers], -1) if len(numbers) else numbers
    ids = frame.known.tenants["backup_set_id"].array
    return pd.Series(ids.take(rows, allow_fill=True))


def _records(chains: Chains) -> tuple[Ints, Ints, Ints]:
    """Return when a newer checkpoint became usable: tenant, instant, set.

    Where a set was gone before a newer one was there, older ones take over for that time.
    """
    good = np.flatnonzero(chains.restorable)
    by = np.lexsort((-chains.checkpoint[good], chains.usable_from[good], chains.group[good]))
    order = good[by]
    group, checkpoint = chains.group[order], chains.checkpoint[order]
    if not len(order):
        return group, group, group
    same = np.append([False], group[1:] == group[:-1])
    record = np.ones(len(order), bool)
    if (same & (np.append([0], np.diff(checkpoint)) <= 0)).any():
        highest = pd.Series(checkpoint).groupby(group).cummax().to_numpy()
        record = ~same | (checkpoint > np.append([NAT], highest[:-1]))
    steps = order[record]
    group, when, until = chains.group[steps], chains.usable_from[steps], chains.usable_until[steps]
    is_last = np.append(group[1:] != group[:-1], [True])
    following = np.where(is_last, NEVER, np.append(when[1:], NEVER))
    early = until < following
    if not early.any():
        return group, when, steps
    swept = np.unique(group[early])
    plain = ~np.isin(group, swept)
    parts = [(group[plain], when[plain], steps[plain])]
    parts += [_sweep(chains, int(each), order[chains.group[order] == each]) for each in swept]
    groups, whens, sets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return groups, whens, sets


def _sweep(chains: Chains, group: int, sets: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the same for one tenant whose sets went: at every event the newest that is there."""
    events = np.unique(np.concatenate([chains.usable_from[sets], chains.usable_until[sets]]))
    when: list[int] = []
    which: list[int] = []
    for event in events[events != NEVER]:
        there = sets[(chains.usable_from[sets] <= event) & (event < chains.usable_until[sets])]
        best = int(there[np.argmax(chains.checkpoint[there])]) if len(there) else -1
        # Before the first that can be used there is nothing to record.
        if (which or best >= 0) and (not which or which[-1] != best):
            when.append(event)
            which.append(best)
    return np.full(len(when), group), np.array(when, np.int64), np.array(which, np.int64)


def _pieces(frame: _Frame, chains: Chains) -> _Pieces:
    """Cut every tenant's window where its newest restorable set changes."""
    group, when, which = _records(chains)
    tenants = np.arange(len(frame.tenants))
    # Before the first record nothing can be restored.
    group = np.concatenate([tenants, group])
    when = np.concatenate([np.full(len(tenants), NAT), when])
    which = np.concatenate([np.full(len(tenants), -1), which])
    order = np.lexsort((when, group))
    group, when, which = group[order], when[order], which[order]
    following = np.append(when[1:], NAT)
    following = np.where(following == NAT, NEVER, following)
    start = np.maximum(when, frame.begin[group])
    end = np.minimum(following, frame.end)
    keep = start < end
    # Only before its first restore point; when all are gone again, nothing bounds the loss.
    before = (when == NAT)[keep]
    group, which = group[keep], which[keep]
    checkpoint = np.where(which >= 0, chains.checkpoint[which] if len(chains.group) else NAT, NAT)
    # Without a start that was asked for, the time before the first point counts from the first row.
    origin = checkpoint if frame.explicit else np.where(before, frame.first[group], checkpoint)
    return _Pieces(group, start[keep], end[keep], checkpoint, origin, which)


@dataclass(slots=True)
class _Gaps:
    """Maximal intervals over the bound; `first` and `last` number their pieces."""

    group: Ints
    start: Ints
    end: Ints
    first: Ints
    last: Ints
    pieces: _Pieces

    def unknown(self, frame: _Frame, bound: Ints, *, trust_unknown: bool) -> Ints:
        """Return the part of each gap of which nothing is known."""
        unknown = np.clip(np.minimum(self.end, frame.first[self.group]) - self.start, 0, None)
        if trust_unknown:
            return unknown
        trusted = _gaps(frame, chains_of(frame.known, trust_unknown=True), bound)
        # What stays a gap when everything unknown is trusted is known to be one.
        begin = np.maximum(self.start, frame.first[self.group])
        later = np.clip(self.end - begin, 0, None)
        certain = _overlap(trusted, self.group, begin, np.maximum(self.end, begin))
        return unknown + later - certain


def _overlap(gaps: _Gaps, group: Ints, start: Ints, end: Ints) -> Ints:
    """Return how much of each interval lies in any of the gaps."""
    if not len(gaps.group):
        return np.zeros(len(group), np.int64)
    lengths = np.append([0], np.cumsum(gaps.end - gaps.start))

    def inside_before(moment: Ints) -> Ints:
        """Sum the gaps of all tenants up to an instant of one."""
        at = _search(gaps.group, gaps.start, group, moment)
        own = np.append([False], [True] * len(gaps.group))[at] & (gaps.group[at - 1] == group)
        reach = np.clip(gaps.end[at - 1] - moment, 0, None)
        return lengths[at] - np.where(own, reach, 0)

    return inside_before(end) - inside_before(start)


def _search(groups: Ints, values: Ints, group: Ints, value: Ints, side: str = "left") -> Ints:
    """Return where a tenant's value would stand among those sorted by tenant and value."""
    low: Ints = np.searchsorted(groups, group, "left")
    high: Ints = np.searchsorted(groups, group, "right")
    while (low < high).any():
        middle = (low + high) // 2
        at = values[np.minimum(middle, len(values) - 1)]
        before = (at < value) if side == "left" else (at <= value)
        open_ = low < high
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low


def _gaps(frame: _Frame, chains: Chains, bound: Ints) -> _Gaps:
    """Join the pieces' parts over the bound to maximal intervals."""
    pieces = _pieces(frame, chains)
    over = np.where(pieces.unbounded, NAT, pieces.origin + bound[pieces.group])
    start = np.maximum(pieces.start, over)
    part = np.flatnonzero(start < pieces.end)
    group, start, end = pieces.group[part], start[part], pieces.end[part]
    joins = np.append([False], (group[1:] == group[:-1]) & (start[1:] == end[:-1]))[: len(part)]
    heads = np.flatnonzero(~joins)
    tails = np.append(heads[1:] - 1, len(part) - 1)[: len(heads)]
    return _Gaps(group[heads], start[heads], end[tails], part[heads], part[tails], pieces)


def _gap_table(
    frame: _Frame, chains: Chains, gaps: _Gaps, limit: Ints, unknown: Ints
) -> pd.DataFrame:
    """Make the table of gaps."""
    pieces = gaps.pieces
    made = _who(frame, gaps.group)
    length = gaps.end - gaps.start
    at_start, at_end = gaps.start == frame.begin[gaps.group], gaps.end == frame.end
    position = np.where(at_start, np.where(at_end, 3, 0), np.where(at_end, 2, 1))
    certainty = np.where(unknown <= 0, 0, np.where(unknown < length, 1, 2))
    highest = pieces.highest
    unbounded = _any_in(pieces.unbounded, gaps.first, gaps.last)
    worst = np.where(unbounded, NAT, _highest_in(highest, gaps.first, gaps.last))
    last = pieces.set[gaps.first]
    # The piece after a gap's last one is the same tenant's, unless the window ended with the gap.
    following = np.where(at_end, -1, np.append(pieces.set, [-1])[gaps.last + 1])
    causes = _Causes(frame, chains, gaps, last, following)
    checkpoint = np.append(chains.checkpoint, [NAT])
    columns: dict[str, Any] = {
        "gap_start": times(gaps.start),
        "gap_end": times(gaps.end),
        "gap": spans(length),
        "unknown": spans(unknown),
        "position": labels(position, POSITIONS),
        "worst_exposure": spans(worst),
        "unbounded": unbounded,
        "excess": spans(np.where(unbounded, NAT, worst - limit[gaps.group])),
        "last_checkpoint": times(checkpoint[last]),
        "last_backup_set_id": _ids(frame, last),
        "next_checkpoint": times(checkpoint[following]),
        "next_backup_set_id": _ids(frame, following),
        "certainty": labels(certainty, CERTAINTIES),
    } | causes.columns()
    return made.assign(**columns)[[name for name, _ in GAPS]]


def _any_in(flags: Any, first: Ints, last: Ints) -> Any:  # noqa: ANN401 - boolean arrays
    """Tell whether any flag from first to last is set."""
    totals = np.append([0], np.cumsum(flags))
    return totals[last + 1] > totals[first] if len(first) else np.zeros(0, bool)


def _highest_in(values: Ints, first: Ints, last: Ints) -> Ints:
    """Return the highest value from first to last, for intervals that do not overlap."""
    if not len(first):
        return first
    edges = np.column_stack([first, last + 1]).ravel()
    # Every second slice is between two intervals; the end of the array is no place to begin.
    return np.maximum.reduceat(np.append(values, [NAT]), edges)[::2]


class _Causes:
    """The runs that could have closed each gap, and what became of them."""

    def __init__(
        self, frame: _Frame, chains: Chains, gaps: _Gaps, last: Ints, following: Ints
    ) -> None:
        self.frame, self.chains, self.gaps = frame, chains, gaps
        starts = np.append(chains.start, [NAT])
        self.since = starts[last]
        low = _search(chains.group, chains.start, gaps.group, self.since, "right")
        high = _search(chains.group, chains.start, gaps.group, gaps.end)
        high = np.maximum(high, low)
        # Every pair of a gap and a run that started after its last good set's start.
        self.gap = np.repeat(np.arange(len(low)), high - low)
        before = np.cumsum(high - low) - (high - low)
        offset = np.arange(len(self.gap)) - before[self.gap]
        self.run = low[self.gap] + offset if len(self.gap) else self.gap
        whole = chains.own[self.run] > 0
        keep = (self.run != following[self.gap]) & whole
        self.gap, self.run = self.gap[keep], self.run[keep]
        self.following = following

    def columns(self) -> dict[str, Any]:
        """Return cause, causes, attempts and failed."""
        chains, gaps, gap, run = self.chains, self.gaps, self.gap, self.run
        state = chains.state[run]
        is_state = {name: state == position for position, name in enumerate(STATES)}
        good, end = chains.restorable[run], chains.end[run]
        failed = is_state["failed"] | is_state["cancelled"]
        ends_inside = (end > gaps.start[gap]) & (end <= gaps.end[gap])
        flags = {
            "unusable": is_state["done"] & ~good,
            "failed": failed,
            "running": (is_state["running"] & (end == NAT)) | (end > gaps.end[gap]),
            "state_unknown": is_state["unknown"] | is_state["expired"],
            "late": good & ends_inside,
        }
        count = len(gaps.group)
        applies = {name: self._any(values) for name, values in flags.items()}
        starts = np.append(chains.start, [NEVER])
        applies["late"] |= starts[self.following] < gaps.start
        attempts = np.bincount(gap, minlength=count)
        lonely = attempts == 0
        applies["missing_from_cluster_set"] = self._missing(lonely)
        some = np.logical_or.reduce(list(applies.values())) if count else np.zeros(0, bool)
        applies["silent"] = ~some
        matrix = np.array([applies[name] for name in CAUSES]).reshape(len(CAUSES), count)
        texts = [
            ",".join(name for name, is_so in zip(CAUSES, column, strict=True) if is_so)
            for column in matrix.T
        ]
        return {
            "cause": labels(matrix.argmax(axis=0) if count else np.zeros(0, np.int64), CAUSES),
            "causes": pd.Series(texts, dtype="string"),
            "attempts": attempts.astype(np.int64),
            "failed": np.bincount(gap[failed], minlength=count).astype(np.int64),
        }

    def _any(self, flags: Any) -> Any:  # noqa: ANN401 - boolean arrays
        """Tell for every gap whether the flag of any of its runs is set."""
        return np.bincount(self.gap[flags], minlength=len(self.gaps.group)) > 0

    def _missing(self, lonely: Any) -> Any:  # noqa: ANN401 - boolean arrays
        """Tell which gaps without a run had cluster sets that were done without the tenant."""
        found = np.zeros(len(lonely), bool)
        clusters = self.frame.known.clusters
        if clusters is None or not lonely.any():
            return found
        done = clusters[(clusters["state"] == "done") & clusters["start_time"].notna()]
        # A cluster set in several storage classes is one.
        done = done.sort_values("start_time").drop_duplicates(["instance_id", "backup_set_id"])
        by_instance = {
            instance: (integers(rows["start_time"]), rows["backup_set_id"].to_numpy(dtype=object))
            for instance, rows in done.groupby("instance_id", observed=True)
        }
        instances = self.frame.tenants["instance_id"].array
        parents: dict[int, set[object]] = {}
        for number in np.flatnonzero(lonely):
            group = int(self.gaps.group[number])
            if (those := by_instance.get(instances[group])) is None:
                continue
            starts, ids = those
            low = np.searchsorted(starts, self.since[number], "right")
            high = np.searchsorted(starts, self.gaps.end[number], "left")
            if low < high:
                if group not in parents:
                    parents[group] = self._parents(group)
                found[number] = any(each not in parents[group] for each in ids[low:high])
        return found

    def _parents(self, group: int) -> set[object]:
        """Return the ids of the cluster sets that hold a set of the whole tenant."""
        chains = self.chains
        low, high = np.searchsorted(chains.group, [group, group + 1])
        rows = chains.row[low:high][chains.own[low:high] > 0]
        return set(self.frame.known.tenants["cluster_backup_set_id"].array[rows]) - {pd.NA}


class _Sums:
    """How long each tenant was watched, out of its RPO, and unknown."""

    def __init__(self, frame: _Frame, gaps: _Gaps, unknown: Ints) -> None:
        count = len(frame.tenants)
        self.window = frame.windows
        self.count = np.bincount(gaps.group, minlength=count).astype(np.int64)
        self.out, self.unknown = np.zeros(count, np.int64), np.zeros(count, np.int64)
        np.add.at(self.out, gaps.group, gaps.end - gaps.start)
        np.add.at(self.unknown, gaps.group, unknown)

    def shares(self) -> dict[str, Any]:
        """Return the columns."""
        return {
            "time_in_rpo": _share(self.out - self.unknown, self.window - self.unknown),
            "time_in_rpo_worst": _share(self.out, self.window),
            "gaps": self.count,
            "gap_total": spans(self.out),
            "unknown": spans(self.unknown),
        }


def _share(out: Any, whole: Any) -> Any:  # noqa: ANN401 - arrays or numbers
    """Return one minus a part of a whole; NA of nothing."""
    whole = np.asarray(whole, np.float64)
    return np.where(whole > 0, 1 - out / np.where(whole > 0, whole, 1), np.nan)


def _worst(frame: _Frame, chains: Chains) -> dict[str, Any]:
    """Return the highest, the mean and the 95th percentile of exposure."""
    pieces, count = _pieces(frame, chains), len(frame.tenants)
    highest, length = pieces.highest, pieces.end - pieces.start
    worst = np.full(count, NAT)
    np.maximum.at(worst, pieces.group, highest)
    at = np.full(count, NAT)
    is_worst = highest == worst[pieces.group]
    first = np.flatnonzero(is_worst)[::-1]
    at[pieces.group[first]] = pieces.end[first]
    unbounded = np.bincount(pieces.group[pieces.unbounded], minlength=count) > 0
    # An exposure without bound is worst as soon as it begins.
    endless = np.flatnonzero(pieces.unbounded)[::-1]
    at[pieces.group[endless]] = pieces.start[endless]
    middle = np.where(pieces.unbounded, 0, highest - length / 2)
    area = np.bincount(pieces.group, weights=middle * length, minlength=count)
    nothing = unbounded | (frame.windows == 0)
    mean = np.where(nothing, NAT, np.round(area / np.where(nothing, 1, frame.windows)))
    return {
        "worst_exposure": spans(np.where(unbounded, NAT, worst)),
        "worst_at": times(at),
        "unbounded": unbounded,
        "exposure_mean": spans(mean.astype(np.int64)),
        "exposure_p95": spans(_percentile(frame, pieces)),
    }


def _percentile(frame: _Frame, pieces: _Pieces) -> Ints:
    """Return the exposure that is not exceeded 95 % of the time.

    The time spent at or below x grows with slope one for every piece that x is inside of; so it is
    summed up over the pieces' lowest and highest exposures in order.
    """
    length = pieces.end - pieces.start
    bounded = ~pieces.unbounded
    group = np.tile(pieces.group[bounded], 2)
    high = pieces.highest[bounded]
    level = np.concatenate([high - length[bounded], high])
    slope = np.repeat([1, -1], bounded.sum())
    order = np.lexsort((-slope, level, group))
    group, level, slope = group[order], level[order], slope[order]
    running = np.cumsum(slope)
    is_last = np.append(group[1:] != group[:-1], [True])[: len(group)]
    steps = np.where(is_last, 0, np.diff(level, append=0))
    spent = np.cumsum(running * steps)
    before = np.append([0], spent)[:-1]
    heads = np.searchsorted(group, np.arange(len(frame.tenants)))
    base = np.append(before, [0])[np.minimum(heads, len(before))]
    target = np.ceil(frame.windows * _P95).astype(np.int64)
    total = np.bincount(pieces.group[bounded], weights=length[bounded], minlength=len(base))
    result = np.full(len(base), NAT)
    reached = _search(group, spent, np.arange(len(base)), base + target) if len(group) else heads
    known = (frame.windows > 0) & (total >= target) & (target > 0)
    at = np.minimum(reached, max(len(group) - 1, 0))[known]
    if len(at):
        missing = (base + target)[known] - before[at]
        result[known] = level[at] + np.round(missing / np.maximum(running[at], 1)).astype(np.int64)
    return result


def _now(frame: _Frame, chains: Chains, limit: Ints) -> dict[str, Any]:
    """Return what is so at `as_of` or the end of the facts, and the counts of the window."""
    count, ends = len(frame.tenants), frame.known.window.end
    # Where the facts are those of a window, what began after it is not among them.
    seen = [each for each in (frame.known.as_of, ends) if each is not None]
    now = NAT if frame.known.as_of is None else _micro(min(seen))
    there = np.flatnonzero(
        chains.restorable & (chains.usable_from <= now) & (now < chains.usable_until)
    )
    newest = np.full(count, NAT)
    np.maximum.at(newest, chains.group[there], chains.checkpoint[there])
    had = chains.restorable & (chains.usable_from <= now)
    had &= chains.usable_from < chains.usable_until
    never = np.bincount(chains.group[had], minlength=count) == 0
    origin = newest if frame.explicit else np.where(never, frame.first, newest)
    unbounded = (origin == NAT) | (origin == NEVER)
    # A tenant set begins after its cluster set, so it may begin after the window's end.
    exposed = np.where(unbounded, NAT, np.maximum(now - origin, 0))
    in_window = frame.known.tenants["in_window"].to_numpy()[chains.row]
    inside = (chains.start >= frame.begin[chains.group]) & (chains.start < frame.end)
    counted = chains.restorable & in_window & inside
    last = np.full(count, -1)
    begun = np.flatnonzero(chains.start != NEVER)
    last[chains.group[begun]] = begun
    starts, states = np.append(chains.start, [NAT]), np.append(chains.state, [-1])
    bound = np.where(limit > 0, limit, 1)
    ratio = np.where(unbounded, np.inf, np.where(limit > 0, exposed / bound, np.inf))
    return {
        "exposure_now": spans(exposed),
        "restore_points": np.bincount(chains.group[counted], minlength=count).astype(np.int64),
        "last_checkpoint": times(newest),
        "last_attempt": times(starts[last]),
        "last_attempt_state": labels(states[last], STATES),
        "rpo_ratio": ratio,
    }


def _with_total(made: pd.DataFrame, sums: _Sums) -> pd.DataFrame:
    """Add the row of all tenants together."""
    out, unknown, window = (int(v.sum()) for v in (sums.out, sums.unknown, sums.window))
    unbounded = bool(made["unbounded"].any())
    known_worst = not unbounded and len(made) > 0 and made["worst_exposure"].notna().all()
    worst = made.loc[made["worst_exposure"].idxmax()] if known_worst else None
    row: dict[str, Any] = {
        "time_in_rpo": float(_share(out - unknown, window - unknown)),
        "time_in_rpo_worst": float(_share(out, window)),
        "gaps": int(sums.count.sum()),
        "gap_total": pd.Timedelta(out, "us"),
        "unknown": pd.Timedelta(unknown, "us"),
        "unbounded": unbounded,
        "worst_exposure": pd.NaT if worst is None else worst["worst_exposure"],
        "worst_at": pd.NaT if worst is None else worst["worst_at"],
        "exposure_now": pd.NaT if made["exposure_now"].isna().any() else made["exposure_now"].max(),
        "restore_points": int(made["restore_points"].sum()),
        "last_checkpoint": made["last_checkpoint"].min(skipna=False),
        "last_attempt": made["last_attempt"].max(),
        "rpo_ratio": float(made["rpo_ratio"].max()) if len(made) else float("nan"),
    }
    weights = sums.window / window if window else np.zeros(len(made))
    means = integers(made["exposure_mean"])
    if window and not made.loc[weights > 0, "exposure_mean"].isna().any():
        mean = np.sum(np.where(weights > 0, means, 0) * weights)
        row["exposure_mean"] = pd.Timedelta(int(mean), "us")
    last = pd.DataFrame(
        {name: pd.Series([row.get(name)], dtype=made[name].dtype) for name in made.columns}
    )
    return pd.concat([made, last], ignore_index=True)
