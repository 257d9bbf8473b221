"""Say of gaps in coverage what kinds they are: never, head, stale, failed, silent, log breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.kinds import CERTAINTIES, HOUR, SEVERITIES, Claims
from obanalytics.phrases import counted, either, say, spelled, times_over, words_of
from obanalytics.recovery import NAT, NEVER, search
from obanalytics.schema import STATES

if TYPE_CHECKING:
    from obanalytics.curve import View
    from obanalytics.kinds import Ages, Standing, Terms
    from obanalytics.phrases import Phrase
    from obanalytics.recovery import Bools, Chains, Ints
    from obanalytics.vendor import Intervals

_HEAD, _TAIL, _WHOLE = 0, 2, 3  # positions of `coverage_gaps`
_CRITICAL, _WARNING = SEVERITIES.index("critical"), SEVERITIES.index("warning")
_PROVED, _INFERRED, _PARTLY, _UNKNOWN = range(len(CERTAINTIES))
# What became of the runs of a gap, by their states.
_FATES = {
    "failed": ("failed", "cancelled"),
    "unfinished": ("running",),
    "expired": ("expired",),
    "of unknown state": ("unknown",),
    "done and of no use": ("done",),
}
_FATE_OF = np.array([[state in told for told in _FATES.values()].index(True) for state in STATES])
_HOPE = "; of some sets it is not known whether they can be restored"
_ROUNDED = HOUR  # logs a little older than their base are no finding [µs]


class Breaches:
    """Gaps beyond RPO and grace, and the names that backup tools have for them.

    Parameters
    ----------
    found : dict of str to ndarray
        What `coverage.gaps_in` returned, of all tenants.
    standing : Standing
        What each tenant could be restored to now.
    terms : Terms
        What they are held against.
    ages : Ages or None
        When each tenant is first known; None where no start was asked for.
    silent : ndarray of bool
        Which gaps no run was started in.
    runs : tuple of ndarray of int
        When each row of the frame began [µs], and its state, as its position in `STATES`.
    """

    def __init__(
        self,
        found: dict[str, Any],
        standing: Standing,
        terms: Terms,
        ages: Ages | None,
        silent: Bools,
        runs: tuple[Ints, Ints],
    ) -> None:
        tenant, start = found["tenant"], found["start"]
        until, bound = terms.until[tenant], (terms.limits.rpo + terms.limits.grace)[tenant]
        self.heads, late = np.zeros(0, np.int64), np.zeros(len(tenant), bool)
        if ages is not None:
            # Nothing was owed before a tenant was there; then it is given time for its first.
            since = ages.since[tenant]
            late = (since > start) & (since < NEVER)
            self.heads = np.flatnonzero(late & ~ages.dated[tenant] & (since - start > bound))
            self.head_start, self.head_end = start[self.heads], since[self.heads]
            self.head_tenant = tenant[self.heads]
            start = np.where(late, since + bound, start)
        # What ends before a tenant was given up is owed; what begins after it is not.
        keep = np.flatnonzero(start < np.minimum(until, found["end"]))
        self.runs, self.standing, (self.begun, self.state) = found["runs"], standing, runs
        self.run_from = (np.cumsum(found["attempts"]) - found["attempts"])[keep]
        self.found = {name: values[keep] for name, values in found.items() if name != "runs"}
        self.silent, self.terms, self.tenant = silent[keep], terms, self.found["tenant"]
        self.late = late[keep]
        self.start, self.whole_end = start[keep], self.found["end"]
        self.end = np.minimum(self.whole_end, until[keep])
        self.unknown = self.found["unknown"] - (self.start - self.found["start"])
        if ages is not None:
            # What is known of the time that a new tenant was given is nothing of the gap.
            known = self.whole_end - self.found["start"] - self.found["unknown"] - bound[keep]
            least = self.whole_end - self.start - np.maximum(known, 0)
            mine = self.late & ~ages.dated[self.tenant]
            self.unknown = np.where(mine, np.maximum(self.unknown, least), self.unknown)
        self.spent = standing.spent[self.tenant]
        self._close(standing, bound[keep])
        self._doubt()

    def _close(self, standing: Standing, bound: Ints) -> None:
        """Tell which gaps last: at their very end a set may have become usable."""
        newest = standing.newest[self.tenant]
        over = (newest == NAT) | (self.terms.now - newest > bound)
        is_last = np.isin(self.found["position"], (_TAIL, _WHOLE)) & (self.end == self.whole_end)
        self.open = is_last & over
        closed = is_last & ~over
        best = standing.best[self.tenant]
        self.found["next_row"] = np.where(closed, best, self.found["next_row"])
        # What closes a gap is no attempt in it.
        self.attempts, self.good = (self.found[name] - closed for name in ("attempts", "good"))
        self.silent |= closed & (self.attempts == 0)
        self.doubted = self.open & self.terms.doubted[self.tenant]
        hoped = standing.hoped[self.tenant]
        # It lasts, whatever may be true of the sets of which not all is known.
        self.surely = self.open & ((hoped == NAT) | (self.terms.now - hoped > bound))
        self.hoped = self.open & (hoped != newest)
        # Who may have been protected, and is not any more in any case, is out of date.
        self.never = standing.never[self.tenant] & ~(self.hoped & self.surely)

    def _doubt(self) -> None:
        """Tell of which gaps it is not known whether runs in them could be restored."""
        self.owner = np.repeat(np.arange(len(self.tenant)), self.attempts)
        inside = np.arange(len(self.owner)) - (np.cumsum(self.attempts) - self.attempts)[self.owner]
        self.rows = self.runs[self.run_from[self.owner] + inside]
        self.hopeful, lapsed = (
            np.bincount(self.owner[flags[self.rows]], minlength=len(self.tenant)) > 0
            for flags in (self.standing.hopes, self.standing.lapsed)
        )
        # What has expired since may have been there when a gap is said to have been.
        self.lapsed = lapsed & ~self.open
        following = self.found["next_row"]
        point = np.where(following >= 0, self.begun[following], NAT)
        self.ended = ~self.open & (point >= self.start) & (point < self.end)

    def claims(self) -> list[Claims]:
        """Return what was found.

        Returns
        -------
        list of Claims
            `G1` to `G6`, and `G30` where nothing is known of a whole gap, or of its beginning.
        """
        known = self.unknown < self.whole_end - self.start
        head = np.isin(self.found["position"], (_HEAD, _WHOLE)) & ~self.open
        kinds = {
            "G1": known & self.never,
            "G2": known & ~self.never & head,
            "G3": known & ~self.never & self.open,
            "G4": known & ~self.never & ~head & ~self.open,
        }
        made = [self._breach(kind, np.flatnonzero(which)) for kind, which in kinds.items()]
        tried = known & (self.attempts > 0) & (self.good == 0)
        made.append(self._failed(np.flatnonzero(tried)))
        made.append(self._silent(np.flatnonzero(known & self.silent)))
        made.append(self._unknown(np.flatnonzero(~known)))
        if len(self.heads):
            made.append(self._unknown_heads())
        return made

    def _unknown_heads(self) -> Claims:
        """Say of which tenants it is not known whether they were there from the start."""
        start, end, whose = self.head_start, self.head_end, self.head_tenant
        return Claims(
            "G30",
            whose,
            start,
            end,
            say(
                "whether the tenant was there is not known, ",
                self.terms.zone.between(start, end),
                ": no set is known from before, and no inventory tells when it was created",
            ),
            (end - start) / HOUR,
            (self.terms.limits.rpo / HOUR)[whose],
            self.terms.origin("rpo", whose),
            certainty="unknown",
        )

    def _worst(self, some: Ints) -> Ints:
        """Return the worst exposure while the tenant owed [µs]; `NAT`: unbounded."""
        worst = np.where(self.spent[some], NAT, self.found["worst"][some])
        cut = self.whole_end[some] - self.end[some]
        return np.where(worst == NAT, NAT, worst - np.where(cut > 0, cut, 0))

    def _claims(self, kind: str, some: Ints, text: Phrase, **more: Any) -> Claims:  # noqa: ANN401
        """Return claims over some gaps, proved by the sets around them."""
        around = np.column_stack([self.found["last_row"][some], self.found["next_row"][some]])
        there = around >= 0
        partly = (self.unknown[some] > 0) | self.spent[some]
        worst = self._worst(some)
        unsure = self.doubted[some] | self.lapsed[some]
        limit = self.terms.limits.rpo[self.tenant[some]] / HOUR
        usual = {
            "measured": np.where(worst == NAT, np.nan, worst / HOUR),
            "limit": limit,
            "origin": self.terms.origin("rpo", self.tenant[some]),
            "rows": around[there],
            "counts": there.sum(axis=1),
            "certainty": np.where(unsure, _UNKNOWN, np.where(partly, _PARTLY, _INFERRED)),
        }
        whose = self.tenant[some], self.start[some], self.end[some]
        return Claims(kind, *whose, text, **(usual | more))

    def _breach(self, kind: str, some: Ints) -> Claims:
        """Say how much would have been lost."""
        worst, rpo = self._worst(some), self.terms.limits.rpo[self.tenant[some]]
        allowed = say(
            "; at most ",
            spelled(rpo),
            " (RPO) and ",
            spelled(self.terms.limits.grace[self.tenant[some]]),
            " of grace allowed",
            times_over(np.where(worst == NAT, 0, worst), rpo),
        )
        text = say(self._lost(kind, some), allowed)
        if kind not in {"G1", "G3"}:
            return self._claims(kind, some, text)
        more = either(self.hoped[some], _HOPE, "")
        made = self._claims(kind, some, say(text, more), severity=self._grade(some))
        vague = np.where(self.surely[some], _PARTLY, _UNKNOWN)
        made.certainty = np.where(
            self.hoped[some], np.maximum(made.certainty, vague), made.certainty
        )
        return made

    def _lost(self, kind: str, some: Ints) -> Phrase:
        """Say what would have been lost."""
        worst, zone = self._worst(some), self.terms.zone
        if kind == "G3":
            point, since = self.found["last_checkpoint"][some], zone.at(self.start[some])
            then, lost = zone.when("any more", "any more "), f" would be lost {zone.when('now')}"
            newest = say(": the newest restore point is of ", zone.at(point))
            stale = either(point == NAT, ": no set is known to be restorable", newest)
            nothing = either(
                self.spent[some],
                say(f"nothing can be restored {then}: what could be has expired"),
                say(f"nothing can be restored {then}, since ", since),
            )
            much = say(spelled(worst), lost, stale, ", over the limit since ", since)
            return either(worst == NAT, nothing, much)
        between = zone.between(self.start[some], self.end[some])
        if kind == "G1":
            return say("nothing could ever be restored, ", between)
        head = " as the time looked at begins, " if kind == "G2" else ", "
        much = say("up to ", spelled(worst), f" would have been lost{head}")
        nothing = either(
            self.late[some],
            "nothing of a new tenant could be restored, ",
            f"nothing could be restored{head}",
        )
        return say(either((worst == NAT) | self.late[some], nothing, much), between)

    def _failed(self, some: Ints) -> Claims:
        """Say that runs were started in a gap, but brought nothing."""
        attempts, hopeful = self.attempts[some], self.hopeful[some]
        text = say(
            counted(attempts, "run"),
            " begun",
            either(self.ended[some], " beside the one that ended it", ""),
            self._fates(some),
            ", none can be restored",
            either(self.spent[some], " any more, ", ", "),
            self.terms.zone.between(self.start[some], self.end[some]),
            self._expected(some),
            either(hopeful, _HOPE, ""),
        )
        mine = np.zeros(len(self.tenant), bool)
        mine[some] = True
        rows = self.rows[mine[self.owner]]
        made = self._claims("G5", some, text, rows=rows, counts=attempts)
        made.severity = np.where(hopeful, _WARNING, self._grade(some))
        made.certainty = np.where(hopeful, _UNKNOWN, made.certainty)
        return made

    def _fates(self, some: Ints) -> Phrase:
        """Say what became of the runs that were started in some gaps."""
        fates, count = _FATE_OF[self.state[self.rows]], len(self.tenant)
        many = np.bincount(self.owner * len(_FATES) + fates, minlength=count * len(_FATES))
        many = many.reshape(count, len(_FATES))[some]
        alike = np.zeros(len(some), np.int64)
        for column in many.T:  # what reads the same is written once
            alike, _ = pd.factorize(alike * (column.max(initial=0) + 1) + column)
        _, first = np.unique(alike, return_index=True)
        texts = [
            "".join(f", {n:,} of them {name}" for n, name in zip(row, _FATES, strict=True) if n)
            for row in many[first].tolist()
        ]
        return words_of(alike, texts)

    def _silent(self, some: Ints) -> Claims:
        """Say that no run was started in a gap."""
        text = say(
            "no run was begun",
            either(self.ended[some], " but the one that ended it, ", ", "),
            self.terms.zone.between(self.start[some], self.end[some]),
            self._expected(some),
        )
        return self._claims("G6", some, text, severity=self._grade(some))

    def _expected(self, some: Ints) -> Phrase:
        """Say what would have been right."""
        worst, rpo = self._worst(some), self.terms.limits.rpo[self.tenant[some]]
        return say(
            "; a restore point every ",
            spelled(rpo),
            " (RPO) was expected",
            times_over(np.where(worst == NAT, 0, worst), rpo),
        )

    def _grade(self, some: Ints) -> Ints:
        """Return a gap's severity: what lasts, for all that is known, is critical."""
        return np.where(self.surely[some], _CRITICAL, _WARNING)

    def _unknown(self, some: Ints) -> Claims:
        """Say that it cannot be known."""
        text = say(
            "whether anything could be restored is not known, ",
            self.terms.zone.between(self.start[some], self.end[some]),
            ": no set is known from before, or their soundness is unknown",
            self._expected(some),
        )
        return self._claims("G30", some, text, certainty="unknown")


def loss_now(standing: Standing, terms: Terms) -> Claims:
    """Say of every tenant that is outside its RPO now how much would be lost.

    Parameters
    ----------
    standing : Standing
        What each tenant could be restored to now.
    terms : Terms
        What they are held against.

    Returns
    -------
    Claims
        `G21`.
    """
    newest, tenants = standing.newest, np.arange(len(standing.newest))
    limit = terms.limits
    loss = np.where(newest == NAT, NEVER, terms.now - newest)
    some = np.flatnonzero(
        terms.owing(tenants) & ~standing.never & (loss > limit.rpo[: len(newest)])
    )
    loss, rpo, point, rows = loss[some], limit.rpo[some], newest[some], standing.best[some]
    all_, zone = loss == NEVER, terms.zone
    # So much is lost, however the sets are of which not all is known.
    hoped, doubted = standing.hoped[some], standing.doubted[some]
    least = np.where(hoped == NAT, NEVER, terms.now - hoped)
    vague = np.where(least > rpo, _PARTLY, _UNKNOWN)
    known = np.where(all_, 0, loss)
    there = rows >= 0
    much = say(spelled(known), " would be lost, back to ", terms.zone.at(point))
    return Claims(
        "G21",
        some,
        point,
        np.full(len(some), terms.now),
        say(
            f"if everything {zone.when('failed now', 'had failed ')}, ",
            either(all_, "nothing could be restored", much),
            "; at most ",
            spelled(rpo),
            " (RPO) allowed",
            times_over(known, rpo),
            either(doubted, _HOPE, ""),
        ),
        np.where(all_, np.nan, known / HOUR),
        rpo / HOUR,
        terms.origin("rpo", some),
        rows[there],
        there.astype(np.int64),
        certainty=np.where(terms.doubted[some], _UNKNOWN, np.where(doubted, vague, _INFERRED)),
        severity=np.where(least > rpo + limit.grace[some], _CRITICAL, _WARNING),
    )


def log_faults(view: View, terms: Terms) -> list[Claims]:
    """Find breaks of the log, and logs that have no base.

    Parameters
    ----------
    view : View
        Some tenants.
    terms : Terms
        What they are held against.

    Returns
    -------
    list of Claims
        `G22` and `G23`; none where the service names no intervals.

    Notes
    -----
    What the service calls restorable is a list of intervals: between two of them is no log.
    """
    vendor = view.vendor
    if vendor is None:
        return []
    group, first = vendor.group, view.part.first
    inner = np.flatnonzero(group[1:] == group[:-1])
    start = np.maximum(vendor.end[inner], view.begin[group[inner]])
    end = np.minimum(vendor.start[inner + 1], view.end)
    keep = start < end
    inner, start, end = inner[keep], start[keep], end[keep]
    broken = Claims(
        "G22",
        group[inner] + first,
        start,
        end,
        say(
            "no instant can be restored for ",
            spelled(end - start),
            ", ",
            terms.zone.between(start, end),
            ": the service lists no interval there; expected logs without a break",
        ),
        (end - start) / HOUR,
        0.0,
    )
    return [broken, _baseless(vendor, view, terms)]


def _baseless(vendor: Intervals, view: View, terms: Terms) -> Claims:
    """Find intervals that begin before the first set in them that can be restored."""
    base, hoped = _bases(vendor, view.certain), _bases(vendor, view.trusting)
    # Of what was before a tenant's first known set it cannot be said whether there was a base.
    known = view.first[vendor.group] <= vendor.start
    some = np.flatnonzero(known & (base - vendor.start > _ROUNDED))
    start, end = vendor.start[some], base[some]
    return Claims(
        "G23",
        vendor.group[some] + view.part.first,
        start,
        end,
        say(
            "the service lists as restorable what no known set is a base of, ",
            terms.zone.between(start, end),
            " (",
            spelled(end - start),
            "); expected a set that can be restored at its beginning",
        ),
        (end - start) / HOUR,
        0.0,
        certainty=np.where(hoped[some] - start > _ROUNDED, _INFERRED, _UNKNOWN),
    )


def _bases(vendor: Intervals, chains: Chains) -> Ints:
    """Return the first restorable checkpoint in each interval; its end where there is none [µs]."""
    good = np.flatnonzero(chains.restorable)
    good = good[np.lexsort((chains.checkpoint[good], chains.group[good]))]
    group, point = chains.group[good], chains.checkpoint[good]
    at = search(group, point, vendor.group, vendor.start)
    base = np.append(point, [NAT])[at]
    base = np.where(np.append(group, [-1])[at] == vendor.group, base, NAT)
    return np.where((base == NAT) | (base > vendor.end), vendor.end, base)
