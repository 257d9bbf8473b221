"""Measure what would be lost: exposure at every instant, gaps beyond the RPO, and their causes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.curve import gaps_of, limits, pieces_of, scene_of, unknown_in, who
from obanalytics.recovery import NAT, NEVER, integers, labels, search, spans, times
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from obanalytics.curve import Gaps, Limits, Scene, View
    from obanalytics.recovery import Bools, Chains, Ints
    from obanalytics.schema import BackupSets, Instant

POSITIONS = ("head", "interior", "tail", "whole")
CAUSES = (
    "log_break",
    "unusable",
    "failed",
    "running",
    "state_unknown",
    "late",
    "missing_from_cluster_set",
    "silent",
)
CERTAINTIES = ("inferred", "partly", "unknown")


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
        `checkpoint` (the newest instant that can be restored to), `backup_set_id`,
        `exposure_start`, `exposure_end` [timedelta; NA where unbounded], `unbounded` (bool).
        `attrs["model"]` says by what it is measured: `point`, `log` or `mixed`.

    Raises
    ------
    ValueError
        When the window ends before it starts.

    Notes
    -----
    Point model: exposure at t is t minus the newest checkpoint among the sets usable at t; log
    backups are not considered. Log model, for tenants that the vendor names in `sets.restorable`:
    zero within one of its intervals, else t minus the end of the last one; a part of an interval
    before its first restorable set has no base and does not count. It is what the vendor says at
    `as_of`; for the past it is inferred. Before the first restore point exposure is unbounded when
    a start was asked for, and counts from the tenant's first known row otherwise.
    """
    scene = scene_of(sets, start, end, as_of)
    parts = []
    newest = []
    for view in scene.views():
        pieces = pieces_of(view, view.certain)
        parts.append(
            {
                "tenant": pieces.group + view.part.first,
                "start": pieces.start,
                "end": pieces.end,
                "checkpoint": pieces.checkpoint,
                "row": view.part.rows_of(pieces.set),
                "exposure_start": pieces.exposure(pieces.start),
                "exposure_end": pieces.exposure(pieces.end),
                "unbounded": pieces.unbounded,
            }
        )
        newest.append(view.newest_row)
    whole = joined(parts)
    made = who(scene, newest).take(whole["tenant"]).reset_index(drop=True)
    made["start"], made["end"] = times(whole["start"]), times(whole["end"])
    made["checkpoint"] = times(whole["checkpoint"])
    made["backup_set_id"] = _ids(scene, whole["row"])
    made["exposure_start"] = spans(whole["exposure_start"])
    made["exposure_end"] = spans(whole["exposure_end"])
    made["unbounded"] = whole["unbounded"]
    made.attrs["model"] = scene.model
    return made


def coverage_gaps(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    rpo: Limits,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
    grace: Limits = "0h",
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
    grace : duration, mapping or Series of durations by tenant
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
        `certainty` (`inferred`, `partly`, `unknown`). `attrs["model"]` as in `exposure`.

    Raises
    ------
    ValueError
        When a tenant has no RPO, or the window ends before it starts.

    Notes
    -----
    A gap is a maximal interval with ``t - newest usable checkpoint > rpo + grace``. Between two
    good sets exposure peaks at ``usable_from[i+1] - checkpoint[i]``, not at the distance between
    their ends. In the log model (see `exposure`) it peaks at ``start[i+1] - end[i]`` between two
    intervals, `last_checkpoint` is the end of the interval before the gap, and the cause is
    `log_break`: the logs stopped there.
    """
    scene = scene_of(sets, start, end, as_of)
    limit = limits(rpo, scene.tenants)
    bound = limit + limits(grace, scene.tenants, "grace")
    clusters = Clusters(scene)
    found, newest = [], []
    for view in scene.views():
        mine = slice(view.part.first, view.part.first + view.part.count)
        found.append(gaps_in(view, bound[mine], clusters, trust_unknown=trust_unknown))
        newest.append(view.newest_row)
    return _gap_table(scene, joined(found), limit, newest)


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


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the columns of all parts together.

    Parameters
    ----------
    parts : list of dict of str to ndarray
        The columns, part by part.

    Returns
    -------
    dict of str to ndarray
        The same columns; whatever is asked for, without rows, where there is no part.
    """
    if not parts:
        return _Empty()
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Empty(dict[str, Any]):
    """The columns of no parts."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - an empty array
        """Return a column without rows."""
        return np.zeros(0, bool if name == "unbounded" else np.int64)


def _ids(scene: Scene, rows: Ints) -> pd.Series:
    """Return the set ids of rows; NA for -1."""
    return pd.Series(scene.known.tenants["backup_set_id"].array.take(rows, allow_fill=True))


def gaps_in(
    view: View, bound: Ints, clusters: Clusters, *, trust_unknown: bool = False
) -> dict[str, Any]:
    """Return the gaps of some tenants, as numbers.

    Parameters
    ----------
    view : View
        The tenants.
    bound : ndarray of int
        Their limits, grace included [µs].
    clusters : Clusters
        The cluster sets.
    trust_unknown : bool
        As in `restore_points`.

    Returns
    -------
    dict of str to ndarray
        What `coverage_gaps` makes its columns of: tenants are numbers among all, times and lengths
        microseconds, sets rows of the frame (-1: none), `causes` bits in the order of `CAUSES`;
        `good` counts the attempts that can be restored, `runs` are the rows of all of them, one
        gap's after the other's.
    """
    chains = view.trusting if trust_unknown else view.certain
    gaps = gaps_of(view, chains, bound)
    pieces, where = gaps.pieces, (gaps.group, gaps.start, gaps.end)
    at_start, at_end = gaps.start == view.begin[gaps.group], gaps.end == view.end
    unbounded = _any_in(pieces.unbounded, gaps.first, gaps.last)
    worst = _highest_in(pieces.exposure(pieces.end), gaps.first, gaps.last)
    last, following = pieces.set[gaps.first], gaps.next
    checkpoint = np.append(chains.checkpoint, [NAT])
    return {
        "tenant": gaps.group + view.part.first,
        "start": gaps.start,
        "end": gaps.end,
        "unknown": unknown_in(view, gaps, bound, where, trust_unknown=trust_unknown),
        "position": np.where(at_start, np.where(at_end, 3, 0), np.where(at_end, 2, 1)),
        "worst": np.where(unbounded, NAT, worst),
        "unbounded": unbounded,
        "last_checkpoint": pieces.checkpoint[gaps.first],
        "last_row": view.part.rows_of(last),
        "next_checkpoint": checkpoint[following],
        "next_row": view.part.rows_of(following),
    } | _Causes(view, chains, gaps, last, following).columns(clusters)


def _gap_table(
    scene: Scene, found: dict[str, Any], limit: Ints, newest: list[Ints]
) -> pd.DataFrame:
    """Make the table of gaps."""
    made = who(scene, newest).take(found["tenant"]).reset_index(drop=True)
    length, unknown = found["end"] - found["start"], found["unknown"]
    certainty = np.where(unknown <= 0, 0, np.where(unknown < length, 1, 2))
    excess = found["worst"] - limit[found["tenant"]]
    causes = found["causes"]
    columns = {
        "gap_start": times(found["start"]),
        "gap_end": times(found["end"]),
        "gap": spans(length),
        "unknown": spans(unknown),
        "position": labels(found["position"], POSITIONS),
        "cause": labels(_first_cause(causes), CAUSES),
        "causes": _cause_texts(causes),
        "worst_exposure": spans(found["worst"]),
        "unbounded": found["unbounded"],
        "excess": spans(np.where(found["unbounded"], NAT, excess)),
        "last_checkpoint": times(found["last_checkpoint"]),
        "last_backup_set_id": _ids(scene, found["last_row"]),
        "next_checkpoint": times(found["next_checkpoint"]),
        "next_backup_set_id": _ids(scene, found["next_row"]),
        "attempts": found["attempts"],
        "failed": found["failed"],
        "certainty": labels(certainty, CERTAINTIES),
    }
    made = made.assign(**columns)[[name for name, _ in GAPS]]
    made.attrs["model"] = scene.model
    return made


def _first_cause(causes: Ints) -> Ints:
    """Return the first of the causes that are set as bits."""
    lowest = causes & -causes
    return np.round(np.log2(np.maximum(lowest, 1))).astype(np.int64)


def _cause_texts(causes: Ints) -> pd.Series:
    """Return the causes that are set as bits, joined by commas."""
    present, place = np.unique(causes, return_inverse=True)
    texts = [
        ",".join(name for bit, name in enumerate(CAUSES) if each >> bit & 1) for each in present
    ]
    return pd.Series(pd.array(texts, dtype="string").take(place), dtype="string")


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

    def __init__(self, view: View, chains: Chains, gaps: Gaps, last: Ints, following: Ints) -> None:
        self.view, self.chains, self.gaps = view, chains, gaps
        self.last, self.following = last, following
        starts, ends = np.append(chains.start, [NAT]), np.append(chains.group, [-1])
        self.since = starts[last]
        low = np.where(last >= 0, last + 1, np.searchsorted(chains.group, gaps.group))
        while (equal := (ends[low] == gaps.group) & (starts[low] == self.since)).any():
            low = low + equal  # one that began at the same instant is no later attempt
        high = search(chains.group, chains.start, gaps.group, gaps.end)
        gap, run = _pairs(low, high)
        # A set of a database or a table is no attempt to save the tenant.
        keep = (run != following[gap]) & (chains.own[run] > 0)
        self.gap, self.run = gap[keep], run[keep]

    def columns(self, clusters: Clusters) -> dict[str, Any]:
        """Return causes as bits, attempts, failed, and the rows of the attempts, gap by gap."""
        chains, gaps, gap, run = self.chains, self.gaps, self.gap, self.run
        state = self.view.part.state[run]
        is_state = {name: state == position for position, name in enumerate(STATES)}
        good, end = chains.restorable[run], chains.end[run]
        failed = is_state["failed"] | is_state["cancelled"]
        ends_inside = (end > gaps.start[gap]) & (end <= gaps.end[gap])
        starts = np.append(chains.start, [NEVER])
        attempts = np.bincount(gap, minlength=len(gaps.group)).astype(np.int64)
        applies = {
            "log_break": self._log_break(),
            "unusable": self._any(is_state["done"] & ~good),
            "failed": self._any(failed),
            "running": self._any((is_state["running"] & (end == NAT)) | (end > gaps.end[gap])),
            "state_unknown": self._any(is_state["unknown"] | is_state["expired"]),
            "late": self._any(good & ends_inside) | (starts[self.following] < gaps.start),
            "missing_from_cluster_set": clusters.lack(self, attempts == 0),
        }
        bits = np.zeros(len(gaps.group), np.int64)
        for bit, name in enumerate(CAUSES[:-1]):
            bits |= applies[name].astype(np.int64) << bit
        bits[bits == 0] = 1 << CAUSES.index("silent")
        return {
            "causes": bits,
            "attempts": attempts,
            "failed": np.bincount(gap[failed], minlength=len(gaps.group)).astype(np.int64),
            "good": np.bincount(gap[good], minlength=len(gaps.group)).astype(np.int64),
            "runs": self.view.part.rows_of(run),
        }

    def _log_break(self) -> Bools:
        """Tell which gaps begin after an interval of the vendor, where the logs stopped."""
        gaps, vendor = self.gaps, self.view.vendor
        if vendor is None:
            return np.zeros(len(gaps.group), bool)
        return vendor.named[gaps.group] & (gaps.pieces.checkpoint[gaps.first] != NAT)

    def _any(self, flags: Bools) -> Bools:
        """Tell for every gap whether the flag of any of its runs is set."""
        return np.bincount(self.gap[flags], minlength=len(self.gaps.group)) > 0


def _pairs(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return every pair of an interval and a position in it."""
    count = np.maximum(high - low, 0)
    which = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    return which, np.arange(len(which)) + np.repeat(low - before, count)


class Clusters:
    """The cluster sets that were done, to see which of them lack a tenant.

    Parameters
    ----------
    scene : Scene
        The facts.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene, self.frame = scene, scene.known.clusters

    @cached_property
    def done(self) -> tuple[Ints, Ints, Ints]:
        """Instance, start and row of each, by instance and start."""
        frame: Any = self.frame
        names = self.scene.tenants["instance_id"].cat.categories
        instances = names.get_indexer(frame["instance_id"].cat.categories)
        instance = np.append(instances, [-1])[frame["instance_id"].array.codes]
        start = integers(frame["start_time"])
        is_done = (frame["state"] == "done").to_numpy() & (start != NAT) & (instance >= 0)
        rows = np.flatnonzero(is_done)
        rows = rows[np.lexsort((start[rows], instance[rows]))]
        return instance[rows].astype(np.int64), start[rows], rows

    def lack(self, causes: _Causes, lonely: Bools) -> Bools:
        """Tell which gaps without a run had cluster sets that were done without the tenant.

        Parameters
        ----------
        causes : _Causes
            The gaps.
        lonely : ndarray of bool
            Which of them have no run.

        Returns
        -------
        ndarray of bool
            One each.
        """
        found = np.zeros(len(lonely), bool)
        if self.frame is None or self.frame.empty or not lonely.any():
            return found
        instances, starts, rows = self.done
        gaps, alone = causes.gaps, np.flatnonzero(lonely)
        instance = self.scene.tenants["instance_id"].cat.codes.to_numpy()[causes.view.part.first :]
        of = instance[gaps.group[alone]].astype(np.int64)
        low = search(instances, starts, of, causes.since[alone], "right")
        high = search(instances, starts, of, gaps.end[alone])
        pair, place = _pairs(low, high)
        gap, sets = alone[pair], rows[place]
        # Most often the set that closed the gap, or the last before it, is the one in it.
        ids = self.frame["backup_set_id"].array
        lacks = np.ones(len(gap), bool)
        for near in (causes.following, causes.last):
            open_ = np.flatnonzero(lacks)
            lacks[open_] = ids[sets[open_]] != self._parents(causes, near[gap[open_]])
        open_ = np.flatnonzero(lacks)
        if len(open_):
            lacks[open_] = ~self._held(causes, gaps.group[gap[open_]], ids[sets[open_]])
        found[gap[lacks]] = True
        return found

    def _parents(self, causes: _Causes, sets: Ints) -> Any:  # noqa: ANN401 - an array of texts
        """Return the ids of the cluster sets that hold some sets; an empty text for none."""
        rows = causes.view.part.rows_of(sets)
        ids = self.scene.known.tenants["cluster_backup_set_id"].array
        return ids.take(rows, allow_fill=True).fillna("")

    def _held(self, causes: _Causes, whose: Ints, clusters: Any) -> Bools:  # noqa: ANN401
        """Tell which cluster sets hold a set of the whole tenant."""
        chains = causes.chains
        sets = np.flatnonzero(np.isin(chains.group, whose) & (chains.own > 0))
        texts = pd.concat([pd.Series(self._parents(causes, sets)), pd.Series(clusters)])
        codes, known = pd.factorize(texts)
        width = np.int64(len(known) + 1)
        held = chains.group[sets] * width + codes[: len(sets)]
        return np.isin(whose * width + codes[len(sets) :], held)
