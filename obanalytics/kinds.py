"""Name the kinds of findings, and hold what a rule found until all is put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.policy import PolicyLimits
    from obanalytics.recovery import Bools, Ints

SEVERITIES = ("critical", "warning", "info")
CERTAINTIES = ("proved", "inferred", "partly", "unknown")
ORIGINS = ("policy", "default", "inferred", "data")
"""Where a limit comes from, beside `override 2`: rules of the data itself have no limit to set."""
HOUR = 3_600_000_000
"""An hour [µs]."""


class Kind(NamedTuple):
    """A kind of finding."""

    title: str
    severity: str
    unit: str
    """Of `measured` and `limit`."""
    rule: str


_ROWS = (
    ("G1", "never protected", "critical", "h", "no set that could be restored was ever seen"),
    ("G2", "head gap", "warning", "h", "the window begins with more than RPO + grace"),
    ("G3", "stale", "critical", "h", "exposure is over RPO + grace now"),
    ("G4", "RPO gap", "warning", "h", "exposure was over RPO + grace"),
    ("G5", "failed-only gap", "warning", "h", "runs were started in a gap, none can be restored"),
    ("G6", "silent gap", "warning", "h", "no run was started in a gap"),
    ("G7", "missed run", "warning", "slots", "no restorable set began at the time it was due"),
    ("G8", "late run", "info", "h", "the run began later than due + grace"),
    ("G9", "full set too old", "warning", "h", "the newest restorable full was over `full_every`"),
    ("G10", "chain too deep", "warning", "sets", "a restore needs more than `max_chain`, or `rto`"),
    ("G11", "orphaned incrementals", "warning", "sets", "their full is missing or not sound"),
    ("G12", "broken chain", "warning", "sets", "an incremental between them and the full is bad"),
    ("G13", "too few full sets", "critical", "sets", "restorable fulls under `min_redundancy`"),
    ("G14", "recovery window too short", "warning", "h", "the oldest full is newer than retention"),
    ("G15", "kept too long", "info", "sets", "older than the newest full before the window"),
    ("G16", "done, but not usable", "warning", "sets", "done, yet not valid or without its times"),
    ("G17", "coverage about to expire", "critical", "h", "the base goes before the next full ends"),
    ("G18", "running too long", "warning", "h", "unfinished for longer than allowed or usual"),
    ("G19", "stuck or overlapping", "warning", "h", "it ran into the next run of the tenant"),
    ("G20", "checkpoint lag", "warning", "h", "a set ended long after its checkpoint"),
    ("G21", "would be lost now", "critical", "h", "exposure at `as_of` is over the RPO"),
    ("G22", "log break", "warning", "h", "between two restorable intervals of the service"),
    ("G23", "log without base", "info", "h", "an interval begins before its first restorable set"),
    (
        "G24",
        "missing from cluster sets",
        "warning",
        "sets",
        "done, but the tenant is not, or failed",
    ),
    ("G25", "tenants changed", "info", "sets", "a tenant appeared or is no longer in the sets"),
    ("G26", "copy missing", "warning", "h", "no restorable copy in a storage class of `copies`"),
    ("G27", "not exportable", "warning", "h", "nothing to download within `export_within_days`"),
    ("G28", "rescued by hand", "warning", "h", "inside the RPO only by sets made by hand"),
    ("G29", "hollow success", "warning", "GiB", "done, but far smaller than the sets before it"),
    ("G30", "blind spot", "info", "h", "it cannot be known"),
    ("G31", "retention too short", "warning", "h", "a fault lasted longer than sets are kept"),
    ("G32", "clock fault", "warning", "sets", "times that cannot be: an end before its start"),
    ("G33", "never test-restored", "warning", "h", "needs a record of restores: never judged"),
    ("G34", "sizes do not add up", "info", "GiB", "a cluster set is not the sum of its tenants"),
)
KINDS = {row[0]: Kind(*row[1:]) for row in _ROWS}
"""Every kind by its id: `G1` to `G33` as backup tools know them, `G34` is ours."""


class Standing(NamedTuple):
    """What each tenant that has sets could be restored to now.

    Parameters
    ----------
    newest : ndarray of int
        The newest instant; `NAT`: none [µs].
    never : ndarray of bool
        Whether there never was one.
    best : ndarray of int
        The row of the set that it is restored from; -1: none.
    hoped : ndarray of int
        The newest instant, if all were well that is not known of sets; `NAT`: none [µs].
    hopes : ndarray of bool
        Of every row, whether its set can be restored only then.
    lapsed : ndarray of bool
        Of every row, whether its set has expired, and may have been restorable before that.
    spent : ndarray of bool
        Of which tenants nothing but what has lapsed could ever be restored.
    """

    newest: Ints
    never: Bools
    best: Ints
    hoped: Ints
    hopes: Bools
    lapsed: Bools
    spent: Bools

    @property
    def doubted(self) -> Bools:
        """Of which tenants it is not known to what they could be restored now."""
        return self.hoped != self.newest


class Ages(NamedTuple):
    """How old the tenants that have sets are.

    Parameters
    ----------
    since : ndarray of int
        When each is first known; `NEVER` where it is not [µs].
    dated : ndarray of bool
        Whether that is its creation, as the inventory tells it.
    new : ndarray of bool
        Whether others of its instance are known from before.
    asked : int
        Since when sets were asked for; `NAT`: all [µs].
    """

    since: Ints
    dated: Bools
    new: Bools
    asked: int


@dataclass(slots=True)
class Terms:
    """What tenants are held against.

    Parameters
    ----------
    now : int
        The instant of which it is asked [µs].
    zone : Zone
        For the sentences.
    limits : PolicyLimits
        The limits, tenant by tenant.
    until : ndarray of int
        Until when each tenant owes backups; `NEVER` where it still does [µs].
    doubted : ndarray of bool
        Of which tenants it is not known whether they are still there.
    seen : ndarray of int
        When each was last seen [µs].
    excused : callable or None
        Tells of tenants and instants [µs] whether nothing is owed then; None: it always is.
    """

    now: int
    zone: Any
    limits: PolicyLimits
    until: Ints
    doubted: Bools
    seen: Ints
    excused: Callable[[Ints, Ints], Bools] | None = None

    def owing(self, tenants: Ints) -> Bools:
        """Tell which tenants owe backups now.

        Parameters
        ----------
        tenants : ndarray of int
            Their numbers.

        Returns
        -------
        ndarray of bool
            One each.
        """
        return self.until[tenants] >= self.now

    def origin(self, key: str, tenants: Ints) -> Any:  # noqa: ANN401 - an array of texts
        """Return where a limit of tenants comes from.

        Parameters
        ----------
        key : str
            The limit.
        tenants : ndarray of int
            Their numbers.

        Returns
        -------
        array of str
            One each.
        """
        return self.limits.origins[key][tenants]


@dataclass(slots=True)
class Claims:
    """What one rule found: a row each.

    Parameters
    ----------
    kind : str
        Of `KINDS`.
    tenant : ndarray of int
        Whose it is: a number among the tenants, or beyond them of one that no set is of, or of a
        whole instance.
    start, end : ndarray of int
        From when to when [µs]; `NAT` where it is not known.
    text : Phrase
        The sentence, without the name.
    measured, limit : ndarray of float
        In the kind's unit; NaN where there is none.
    origin : str or array of str
        Where the limit comes from.
    rows : ndarray of int
        The rows of the sets that prove it, one finding's after the other's.
    counts : ndarray of int
        How many of them each finding has.
    clusters : bool
        Whether they are rows of cluster sets.
    certainty : str or ndarray of int
        One of `CERTAINTIES`, or positions in it.
    severity : ndarray of int or None
        Positions in `SEVERITIES`; None is the kind's own.
    """

    kind: str
    tenant: Ints
    start: Ints
    end: Ints
    text: Any
    measured: Any
    limit: Any = np.nan
    origin: Any = "data"
    rows: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: Ints | None = None
    clusters: bool = False
    certainty: Any = "proved"
    severity: Ints | None = None

    def __len__(self) -> int:
        """Return how many were found."""
        return len(self.tenant)

    @property
    def grades(self) -> Ints:
        """The severity of each, as a position in `SEVERITIES`."""
        if self.severity is not None:
            return self.severity
        return np.full(len(self), SEVERITIES.index(KINDS[self.kind].severity))

    @property
    def surety(self) -> Ints:
        """The certainty of each, as a position in `CERTAINTIES`."""
        if isinstance(self.certainty, str):
            return np.full(len(self), CERTAINTIES.index(self.certainty))
        return self.certainty

    def floats(self, name: str) -> Any:  # noqa: ANN401 - an array
        """Return `measured` or `limit`, one for each.

        Parameters
        ----------
        name : str
            Which.

        Returns
        -------
        ndarray of float
            In the kind's unit.
        """
        return np.broadcast_to(np.asarray(getattr(self, name), np.float64), len(self))

    @property
    def sizes(self) -> Ints:
        """How many sets prove each."""
        if self.counts is not None:
            return self.counts
        return np.full(len(self), len(self.rows) // max(len(self), 1))

    def take(self, keep: Ints) -> Claims:
        """Return some of them.

        Parameters
        ----------
        keep : ndarray of int
            Which.

        Returns
        -------
        Claims
            Those.
        """
        sizes = self.sizes
        firsts = np.cumsum(sizes) - sizes
        some = sizes[keep]
        inside = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
        return Claims(
            self.kind,
            self.tenant[keep],
            self.start[keep],
            self.end[keep],
            self.text.take(keep),
            self.floats("measured")[keep],
            self.floats("limit")[keep],
            self.origin if isinstance(self.origin, str) else np.asarray(self.origin)[keep],
            self.rows[np.repeat(firsts[keep], some) + inside],
            some,
            self.clusters,
            self.surety[keep],
            self.grades[keep],
        )
