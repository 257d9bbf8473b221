"""Find what is wrong with backup sets themselves: orphans, broken chains, overlaps, hollow ones."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from obanalytics.kinds import CERTAINTIES, HOUR, Claims
from obanalytics.phrases import counted, either, numbered, say, spelled, times_over, words_of
from obanalytics.recovery import NAT, NEVER, REASONS, SOUND
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from obanalytics.curve import View
    from obanalytics.kinds import Terms
    from obanalytics.recovery import Bools, Chains, Ints

_NOT_DONE, _UNKNOWN_STATE = REASONS.index("not_done"), REASONS.index("state_unknown")
_BAD_TIMES, _UNKNOWN = REASONS.index("bad_times"), REASONS.index("validity_unknown")
_RUNNING = STATES.index("running")
_WRONG = {
    "no_end": "has no end",
    "no_checkpoint": "has no checkpoint",
    "bad_times": "has times that cannot be",
    "not_valid": "is not VALID",
    "validity_unknown": "is of unknown validity",
}
_INFERRED, _DOUBTED = CERTAINTIES.index("inferred"), CERTAINTIES.index("unknown")
_PROVED = CERTAINTIES.index("proved")
# A set is hollow against the median of so many before it, of its tenant and mode.
PAST = 8
HOLLOW = 0.5
_DEVIATIONS, _HOLLOW_DEVIATIONS = 5.0, 6.0
_LEAST_GIB = 0.1
_LEAST_TOLD = 0.01  # the server rounds to this [GiB]
_LEAST_SPREAD = 0.1  # of logs: a series that never moved does not make every change a fault
_MAD = 1.4826
# From the second smallest to the second largest of eight normal values it is so many deviations.
_SPREAD_OF_EIGHT = 1.704
# Without a limit a run may take so long as the tenant's own past makes likely, and at least this.
_LEAST_RUN, _UNSEEN_RUN, _FEW_RUNS, _LOOKED_BACK = 6 * HOUR, 24 * HOUR, 5, 40
_SHARE_OF_RPO = 4  # so much of the RPO a set may end after its checkpoint, if nobody says more
_DRIFTED, _LATELY, _BEFORE, _DRIFT = HOUR // 2, 10, 20, 3


def faults_in(view: View, terms: Terms) -> list[Claims]:
    """Find the faults of the sets of some tenants.

    Parameters
    ----------
    view : View
        The tenants.
    terms : Terms
        The limits of all tenants.

    Returns
    -------
    list of Claims
        `G11`, `G12`, `G16`, `G18`, `G19`, `G20`, `G29`, `G32`.

    Notes
    -----
    A set is hollow when it is smaller than half the median of the eight before it of its tenant
    and mode, and its logarithm more than six deviations below that median's. The deviation is the
    spread from the second smallest to the second largest of the eight, over 1.704; at least 0.1.
    So is a full set of no size, which is none of the eight either.
    """
    room = _Room(view, terms)
    return [
        *_orphans(room),
        _unusable(room),
        *_overlong(room),
        _overlapping(room),
        _lagging(room),
        _drifting(room),
        _hollow(room),
        _empty(room),
        _clock(room),
    ]


class _Room:
    """Some tenants' sets, and how a claim is made of them."""

    def __init__(self, view: View, terms: Terms) -> None:
        self.view, self.terms, self.chains = view, terms, view.certain
        self.first = view.part.first

    @cached_property
    def heads(self) -> Ints:
        """Each tenant's first set."""
        return np.searchsorted(self.chains.group, np.arange(self.view.part.count))

    def runs_of(self, sets: Ints, apart: Bools) -> tuple[Ints, Ints]:
        """Return the first and last of neighbours that belong together.

        `apart` says of each but the first whether it does not belong to the one before.
        """
        heads = np.flatnonzero(np.append([True], apart)) if len(sets) else sets
        return heads, np.append(heads[1:], len(sets)) - 1 if len(sets) else sets

    def over(self, sets: Ints) -> Ints:
        """Return when each set ended, or else began; the later, where the clock was wrong."""
        return np.maximum(self.chains.end[sets], self.begun(sets))

    def begun(self, sets: Ints) -> Ints:
        """Return when each set began."""
        start = self.chains.start[sets]
        return np.where(start == NEVER, NAT, start)

    def claims(self, kind: str, sets: Ints, counts: Ints | None = None, **more: Any) -> Claims:  # noqa: ANN401
        """Return claims that are proved by sets: one each, or so many as counts tells."""
        firsts = sets if counts is None else sets[np.cumsum(counts) - counts]
        tenant = self.chains.group[firsts] + self.first
        return Claims(kind, tenant, rows=self.view.part.rows_of(sets), counts=counts, **more)


def _orphans(room: _Room) -> list[Claims]:
    """Find incrementals whose chain does not reach back to a sound full."""
    chains = room.chains
    lost = np.flatnonzero(chains.ok & ~chains.restorable)
    if not len(lost):
        return []
    group, breaker = chains.group[lost], _first_break(chains, lost)
    apart = (group[1:] != group[:-1]) | (breaker[1:] != breaker[:-1])
    heads, tails = room.runs_of(lost, apart)
    breaker, group, first = breaker[heads], group[heads], room.heads[group[heads]]
    fulls = np.flatnonzero(chains.full & (chains.own > _UNKNOWN_STATE))
    before = np.append([-1], fulls)[np.searchsorted(fulls, lost[heads])]
    based = before >= first  # some done full is before them
    bad = ~chains.ok[breaker] & (chains.own[breaker] > _NOT_DONE)
    middle = based & bad & ~chains.full[breaker]
    doubted = ~based | (chains.own[breaker] >= _UNKNOWN)
    why = np.where(based, chains.own[breaker], SOUND).astype(np.int64)
    # What broke a chain proves it, where it is known.
    extra, surety = np.where(bad & based, breaker, -1), np.where(doubted, _DOUBTED, _INFERRED)
    made = []
    for kind, which in (("G11", ~middle), ("G12", middle)):
        some = np.flatnonzero(which)
        runs = _Runs(lost, heads[some], tails[some], extra[some])
        made.append(_lost(room, kind, runs, why[some], surety[some]))
    return made


def _first_break(chains: Chains, lost: Ints) -> Ints:
    """Return the first set that broke the chain of each: others behind it may be bad, too."""
    breaker = chains.mark[lost].astype(np.int64) >> 1
    while True:
        before = np.maximum(breaker - 1, 0)
        again = ~chains.full[breaker] & (breaker > 0)
        again &= (chains.mark[before] & 1 == 0) & (chains.group[before] == chains.group[breaker])
        earlier = chains.mark[before].astype(np.int64) >> 1
        again &= earlier < breaker
        if not again.any():
            return breaker
        breaker = np.where(again, earlier, breaker)


class _Runs(NamedTuple):
    """Runs of neighbours among some sets, each perhaps with one more set before it (else -1)."""

    sets: Ints
    heads: Ints
    tails: Ints
    extra: Ints

    @property
    def many(self) -> Ints:
        """How many there are in each, without the one before it."""
        return self.tails - self.heads + 1

    def whole(self) -> tuple[Ints, Ints]:
        """Return all sets, run by run, and how many there are in each."""
        wanted = self.extra >= 0
        counts = self.many + wanted
        owner = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner] - wanted[owner]
        inside = self.sets[np.clip(self.heads[owner] + place, 0, len(self.sets) - 1)]
        return np.where(place < 0, self.extra[owner], inside), counts


def _lost(room: _Room, kind: str, runs: _Runs, why: Ints, surety: Ints) -> Claims:
    """Say of runs of incrementals that they have lost their base."""
    start, end = room.begun(runs.sets[runs.heads]), room.over(runs.sets[runs.tails])
    rows, counts = runs.whole()
    return room.claims(
        kind,
        rows,
        counts,
        start=start,
        end=end,
        text=say(
            counted(runs.many, "incremental"),
            " that cannot be restored, ",
            room.terms.zone.between(start, end),
            ": ",
            words_of(why, [*(_broken_by(kind, reason) for reason in REASONS), _NO_BASE]),
        ),
        measured=runs.many,
        limit=0,
        certainty=surety,
    )


_NO_BASE = "no done full set is before it in the data; expected one as the base"


def _broken_by(kind: str, reason: str) -> str:
    """Say what broke a chain."""
    what = "the incremental before" if kind == "G12" else "the full set before"
    return f"{what} {_WRONG.get(reason, 'is ' + reason.replace('_', ' '))}; expected a sound one"


def _unusable(room: _Room) -> Claims:
    """Find sets that are done and yet cannot be used by themselves."""
    chains = room.chains
    own = chains.own
    bad = np.flatnonzero((own > _UNKNOWN_STATE) & (own <= _UNKNOWN))
    # Between two of one run there is no done set that is fine.
    fine = np.cumsum(own > _UNKNOWN, dtype=np.int32)[bad]
    group, reason = chains.group[bad], own[bad].astype(np.int64)
    apart = (group[1:] != group[:-1]) | (fine[1:] != fine[:-1]) | (reason[1:] != reason[:-1])
    heads, tails = room.runs_of(bad, apart)
    many = tails - heads + 1
    start, end = room.begun(bad[heads]), room.over(bad[tails])
    texts = [_WRONG.get(each, each) for each in REASONS]
    return room.claims(
        "G16",
        bad,
        many,
        start=start,
        end=end,
        text=say(
            counted(many, "set"),
            " of status done that cannot be used, ",
            room.terms.zone.between(start, end),
            ": the set ",
            words_of(reason[heads], texts),
            "; expected a VALID set with all its times",
        ),
        measured=many,
        limit=0,
        certainty=np.where(reason[heads] == _UNKNOWN, _DOUBTED, _PROVED),
    )


def _overlong(room: _Room) -> list[Claims]:
    """Find unfinished runs that take too long, and those that a later set has overtaken."""
    chains, terms = room.chains, room.terms
    open_ = np.flatnonzero((room.view.part.state == _RUNNING) & (chains.own > 0))
    open_ = open_[(chains.end[open_] == NAT) & (chains.start[open_] < terms.now)]
    open_ = open_[terms.owing(chains.group[open_] + room.first)]
    tenant, age = chains.group[open_] + room.first, terms.now - chains.start[open_]
    given = terms.limits.max_running[tenant]
    inferred, (usual, seen) = given == NAT, _usual(room, open_)
    limit = np.where(inferred, usual, given)
    late = np.flatnonzero(age > limit)
    sets = open_[late]
    origin = np.where(inferred & seen, "inferred", terms.origin("max_running", tenant))[late]
    since = terms.zone.at(chains.start[sets])
    running = room.claims(
        "G18",
        sets,
        start=chains.start[sets],
        end=np.full(len(sets), terms.now),
        text=say(
            "unfinished after ",
            spelled(age[late]),
            ", since ",
            since,
            "; at most ",
            spelled(limit[late]),
            " expected",
            times_over(age[late], limit[late]),
        ),
        measured=age[late] / HOUR,
        limit=limit[late] / HOUR,
        origin=origin,
        certainty=np.where(inferred[late], _INFERRED, _PROVED),
    )
    return [running, _stuck(room, open_)]


def _usual(room: _Room, runs: Ints) -> tuple[Ints, Bools]:
    """Return how long runs may take, by those before them of their tenant and mode [µs].

    And whether there were enough of them; else it is what a run may take of which nothing is known.
    """
    chains = room.chains
    if not len(runs):
        return runs, runs > 0
    past = runs[:, None] - np.arange(1, _LOOKED_BACK + 1)
    same = past >= room.heads[chains.group[runs]][:, None]
    past = np.maximum(past, 0)
    same &= (chains.own[past] > _BAD_TIMES) & (chains.full[past] == chains.full[runs][:, None])
    took = chains.end[past] - chains.start[past]
    same &= took > 0
    logs = np.log(np.where(same, took, 1))
    middle = _medians(logs, same)
    spread = _MAD * _medians(np.abs(logs - middle[:, None]), same)
    upper = np.exp(middle + _DEVIATIONS * np.maximum(spread, _LEAST_SPREAD))
    enough = same.sum(axis=1) >= _FEW_RUNS
    usual = np.maximum(np.where(enough, upper, 0), _LEAST_RUN).astype(np.int64)
    return np.where(enough, usual, _UNSEEN_RUN), enough


def _medians(values: Any, known: Bools) -> Any:  # noqa: ANN401 - arrays of numbers
    """Return the median of the known values of every row; 0 where there is none."""
    ordered = np.sort(np.where(known, values, np.inf), axis=1)
    count, row = known.sum(axis=1), np.arange(len(values))
    middle = (ordered[row, np.maximum(count - 1, 0) // 2] + ordered[row, count // 2]) / 2
    return np.where(count > 0, middle, 0.0)


def _stuck(room: _Room, open_: Ints) -> Claims:
    """Find unfinished runs though a later set of the tenant has finished."""
    chains, terms = room.chains, room.terms
    done = np.flatnonzero(chains.own > _BAD_TIMES) if len(open_) else open_
    place = np.searchsorted(done, open_, "right")
    later = np.append(done, [-1])[place]
    overtaken = (later >= 0) & (chains.group[later] == chains.group[open_])
    sets, later = open_[overtaken], later[overtaken]
    age = terms.now - chains.start[sets]
    return room.claims(
        "G19",
        np.column_stack([sets, later]).ravel(),
        np.full(len(sets), 2),
        start=chains.start[sets],
        end=np.full(len(sets), terms.now),
        text=say(
            "a run is unfinished since ",
            terms.zone.at(chains.start[sets]),
            " (",
            spelled(age),
            "), though a later one ended at ",
            terms.zone.at(chains.end[later]),
            "; expected one at a time",
        ),
        measured=age / HOUR,
        limit=0,
    )


def _overlapping(room: _Room) -> Claims:
    """Find runs that had not ended when the tenant's next began."""
    chains = room.chains
    both = (chains.start[1:] < chains.end[:-1]) & (chains.group[1:] == chains.group[:-1])
    # One that is unfinished runs up to now; where a later one has ended it is stuck, and told so.
    state, now = room.view.part.state, room.terms.now
    open_ = (state[:-1] == _RUNNING) & (chains.end[:-1] == NAT) & (chains.end[1:] == NAT)
    open_ &= (chains.group[1:] == chains.group[:-1]) & (chains.start[1:] < NEVER)
    first = np.flatnonzero(both | open_)
    first = first[(chains.own[first] > 0) & (chains.own[first + 1] > 0)]
    ends = [np.where(each == NAT, now, each) for each in (chains.end[first], chains.end[first + 1])]
    first = first[(keep := chains.start[first] <= ends[0])]
    until = np.maximum(np.minimum(ends[0][keep], ends[1][keep]), chains.start[first + 1])
    length = until - chains.start[first + 1]
    return room.claims(
        "G19",
        np.column_stack([first, first + 1]).ravel(),
        np.full(len(first), 2),
        start=chains.start[first + 1],
        end=until,
        text=say(
            "two runs at once ",
            room.terms.zone.between(chains.start[first + 1], until),
            " (",
            spelled(length),
            "): one had not ended when the next began; expected one at a time",
        ),
        measured=length / HOUR,
        limit=0,
    )


def _lagging(room: _Room) -> Claims:
    """Find sets that ended long after the instant they restore to."""
    chains, terms = room.chains, room.terms
    mine = slice(room.first, room.first + room.view.part.count)
    given = terms.limits.checkpoint_lag[mine]
    limit = np.where(given == NAT, terms.limits.rpo[mine] // _SHARE_OF_RPO, given)
    timed = np.flatnonzero(chains.end - chains.checkpoint > limit.min(initial=NEVER))
    timed = timed[(chains.own[timed] > _BAD_TIMES)]
    lag = chains.end[timed] - chains.checkpoint[timed]
    over = lag > limit[chains.group[timed]]
    sets, lag = timed[over], lag[over]
    allowed, tenant = limit[chains.group[sets]], chains.group[sets] + room.first
    origin = np.where(
        given[chains.group[sets]] == NAT, "default", terms.origin("checkpoint_lag", tenant)
    )
    return room.claims(
        "G20",
        sets,
        start=chains.checkpoint[sets],
        end=chains.end[sets],
        text=say(
            "a set ended at ",
            terms.zone.at(chains.end[sets]),
            ", ",
            spelled(lag),
            " after the instant it restores to; at most ",
            spelled(allowed),
            " expected",
            times_over(lag, allowed),
        ),
        measured=lag / HOUR,
        limit=allowed / HOUR,
        origin=origin,
    )


def _drifting(room: _Room) -> Claims:
    """Find tenants whose sets have come to end much longer after their checkpoints."""
    chains = room.chains
    slow = np.flatnonzero(chains.end - chains.checkpoint > _DRIFTED)
    slow = slow[chains.own[slow] > _BAD_TIMES]
    found: list[tuple[int, int, int, int]] = []
    for group in np.unique(chains.group[slow]):
        low = room.heads[group]
        sets = np.arange(low, np.searchsorted(chains.group, group, "right"))
        sets = sets[chains.own[sets] > _BAD_TIMES][-_LATELY - _BEFORE :]
        if len(sets) < _LATELY + _BEFORE:
            continue
        lag = chains.end[sets] - chains.checkpoint[sets]
        was, now = int(np.median(lag[:_BEFORE])), int(np.median(lag[_BEFORE:]))
        if now > max(_DRIFTED, _DRIFT * was):
            found.append((sets[_BEFORE], sets[-1], was, now))
    first, last, before, lately = np.array(found, np.int64).reshape(-1, 4).T
    return room.claims(
        "G20",
        np.column_stack([first, last]).ravel(),
        np.full(len(first), 2),
        start=room.begun(first),
        end=room.over(last),
        text=say(
            f"the last {_LATELY} sets ended ",
            spelled(lately),
            f" after the instants they restore to (median); {_DRIFT} times the ",
            spelled(before),
            f" of the {_BEFORE} sets before them was expected at most",
            times_over(lately, before),
        ),
        measured=lately / HOUR,
        limit=_DRIFT * before / HOUR,
        origin="inferred",
        certainty=_INFERRED + np.zeros(len(first), np.int64),
    )


def _hollow(room: _Room) -> Claims:
    """Find sets that are done and far smaller than those before them."""
    chains = room.chains
    sizes = room.view.scene.known.tenants["size_gib"].to_numpy()[room.view.part.row]
    done = chains.own > _BAD_TIMES
    # What is full and of no size is told by itself; without its mode a set is no measure.
    full, other = chains.full & (sizes > 0), ~chains.full
    part, modes = room.view.part, room.view.scene.known.tenants["full"].array
    if modes[part.rows].isna().any():
        other &= ~np.asarray(modes[part.row].isna(), bool)
    found = [_small(chains, sizes, np.flatnonzero(done & mode)) for mode in (full, other)]
    sets, usual = (np.concatenate(each) for each in zip(*found, strict=True))
    by = np.argsort(sets)
    sets, usual = sets[by], usual[by]
    size, limit = sizes[sets], HOLLOW * usual
    mode = words_of(chains.full[sets].astype(np.int64), ["an incremental", "a full"])
    with np.errstate(divide="ignore"):
        share = np.where(usual > 0, size / usual, 0.0)
    return room.claims(
        "G29",
        sets,
        start=room.begun(sets),
        end=room.over(sets),
        text=say(
            mode,
            " set of ",
            numbered(size, 2),
            " GiB at ",
            room.terms.zone.at(room.begun(sets)),
            f", against a median of the {PAST} before it of ",
            numbered(usual, 2),
            " GiB; at least half of it was expected, ",
            numbered(share, 2),
            " times as much",
        ),
        measured=size,
        limit=limit,
        origin="inferred",
        certainty=_INFERRED + np.zeros(len(sets), np.int64),
    )


def _empty(room: _Room) -> Claims:
    """Find full sets that are done and so small that their size is told as zero."""
    chains = room.chains
    sizes = room.view.scene.known.tenants["size_gib"].to_numpy()[room.view.part.row]
    fulls = np.flatnonzero(chains.full & (chains.own > _BAD_TIMES))
    empty = sizes[fulls] == 0
    sets = fulls[empty]
    # Between two of one run there is no full set with a size.
    sized = np.cumsum(~empty & ~np.isnan(sizes[fulls]))[empty]
    group = chains.group[sets]
    heads, tails = room.runs_of(sets, (group[1:] != group[:-1]) | (sized[1:] != sized[:-1]))
    many, start, end = tails - heads + 1, room.begun(sets[heads]), room.over(sets[tails])
    return room.claims(
        "G29",
        sets,
        many,
        start=start,
        end=end,
        text=say(
            counted(many, "full set"),
            " of status done and of 0.00 GiB, ",
            room.terms.zone.between(start, end),
            f"; at least {_LEAST_TOLD} GiB expected of a tenant with anything in it",
        ),
        measured=0.0,
        limit=_LEAST_TOLD,
        certainty=np.full(len(heads), _INFERRED),
    )


def _small(chains: Chains, sizes: Any, sets: Ints) -> tuple[Ints, Any]:  # noqa: ANN401
    """Return those of one mode that are hollow, and the medians of the sets before each."""
    size, group = sizes[sets], chains.group[sets]
    if len(sets) <= PAST:
        return sets[:0], size[:0]
    least = size[PAST:] / HOLLOW
    larger = np.zeros(len(least), np.int8)
    for back in range(1, PAST + 1):
        larger += size[PAST - back : len(size) - back] > least
    # What is below half the median has half of the sets before it, or more, twice as large.
    some = np.flatnonzero(larger >= PAST // 2) + PAST
    some = some[group[some - PAST] == group[some]]
    past = np.sort(size[some[:, None] - np.arange(1, PAST + 1)], axis=1)
    usual = (past[:, PAST // 2 - 1] + past[:, PAST // 2]) / 2
    # Sizes are told to 0.01 GiB: what is that small is no set to compare with. No size is last.
    keep = (size[some] < HOLLOW * usual) & (usual >= _LEAST_GIB) & ~np.isnan(past[:, -1])
    some, past, usual = some[keep], past[keep], usual[keep]
    with np.errstate(divide="ignore"):
        logs, own = np.log(np.maximum(past, _LEAST_GIB / 10)), np.log(size[some])
    spread = np.maximum((logs[:, -2] - logs[:, 1]) / _SPREAD_OF_EIGHT, _LEAST_SPREAD)
    low = own < np.log(usual) - _HOLLOW_DEVIATIONS * spread
    return sets[some[low]], usual[low]


def _clock(room: _Room) -> Claims:
    """Find sets whose times cannot be."""
    chains = room.chains
    odd = (chains.end < chains.start) & (chains.end != NAT) & (chains.start != NEVER)
    sets = np.flatnonzero(odd | (chains.own == _BAD_TIMES))
    backwards = odd[sets]
    start, end = room.begun(sets), chains.end[sets]
    point = chains.checkpoint[sets]
    zone = room.terms.zone
    before = say(
        "a set that ended at ",
        zone.dated(end),
        ", before it began at ",
        zone.at(start),
    )
    beside = say(
        "a set whose checkpoint, ",
        zone.dated(point),
        ", is not between its start and end, ",
        zone.between(start, end),
    )
    return room.claims(
        "G32",
        sets,
        start=start,
        end=np.maximum(start, end),
        text=say(
            either(backwards, before, beside), "; expected start, checkpoint and end in this order"
        ),
        measured=1.0,
        limit=0.0,
    )
