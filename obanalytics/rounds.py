"""Find runs that were due and missed, or late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from obanalytics.kinds import CERTAINTIES, HOUR, Claims
from obanalytics.phrases import counted, either, numbered, say, spelled, words_of
from obanalytics.slots import missed_in

if TYPE_CHECKING:
    from obanalytics.curve import View
    from obanalytics.kinds import Terms
    from obanalytics.recovery import Bools, Ints
    from obanalytics.slots import Missed

_PROVED, _INFERRED, _, _UNKNOWN = range(len(CERTAINTIES))
_RUNS = ["run", "full run", "incremental run"]  # by mode


def run_faults(view: View, terms: Terms) -> list[Claims]:
    """Find the missed and the late runs of some tenants.

    Parameters
    ----------
    view : View
        The tenants.
    terms : Terms
        What they are held against.

    Returns
    -------
    list of Claims
        `G7`, one for runs that were missed one after the other, and `G8`.
    """
    first = view.part.first
    mine = slice(first, first + view.part.count)
    given, excused = terms.limits.schedule[mine], terms.excused
    missed = missed_in(
        view,
        None if given.count(None) == len(given) else given,
        until=np.minimum(terms.until[mine], view.end),
        grace=terms.limits.grace[mine],
        tz=terms.zone.name,
        excused=None if excused is None else lambda group, at: excused(group + first, at),
    )
    return [_lost(missed, view, terms), _late(missed, view, terms)]


def _lost(missed: Missed, view: View, terms: Terms) -> Claims:
    """Find runs that were due and never made."""
    tenant, inferred = missed.group + view.part.first, missed.expected_origin == 0
    around = np.column_stack([missed.previous, missed.next])
    there = around >= 0
    runs = words_of(missed.mode, _RUNS)
    due = either(
        missed.count == 1,
        say(runs, " due at ", terms.zone.at(missed.first), " was"),
        say(runs, "s due ", terms.zone.between(missed.first, missed.last), " were"),
    )
    begun = say(counted(missed.attempts, "set"), " begun then cannot be restored")
    why = either(missed.attempts > 0, begun, "no set was begun then")
    doubted = terms.doubted[tenant] & (missed.first > terms.seen[tenant])
    every = say("; one was expected every ", spelled(missed.every))
    return Claims(
        "G7",
        tenant,
        missed.first,
        missed.last,
        say(numbered(missed.count), " ", due, " missed: ", why, every),
        missed.count,
        0,
        np.where(inferred, "inferred", terms.origin("schedule", tenant)),
        view.part.rows_of(around[there]),
        there.sum(axis=1),
        certainty=np.where(doubted, _UNKNOWN, _sure(inferred)),
    )


def _late(missed: Missed, view: View, terms: Terms) -> Claims:
    """Find runs that were made, but too late."""
    tenant, inferred = missed.late_group + view.part.first, missed.late_origin == 0
    grace = terms.limits.grace[tenant]
    return Claims(
        "G8",
        tenant,
        missed.late_slot,
        missed.late_slot + missed.late_delay,
        say(
            "the ",
            words_of(missed.late_mode, _RUNS),
            " due at ",
            terms.zone.at(missed.late_slot),
            " began ",
            spelled(missed.late_delay),
            " late; at most ",
            spelled(grace),
            " of grace expected",
        ),
        missed.late_delay / HOUR,
        grace / HOUR,
        terms.origin("grace", tenant),
        view.part.rows_of(missed.late_set),
        np.ones(len(tenant), np.int64),
        certainty=_sure(inferred),
    )


def _sure(inferred: Bools) -> Ints:
    """Return how certain it is that runs were due."""
    return np.where(inferred, _INFERRED, _PROVED)
