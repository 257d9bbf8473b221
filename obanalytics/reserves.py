"""Find what is wrong with what could be fallen back on: full sets, chains, copies, downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from obanalytics.kinds import CERTAINTIES, HOUR, SEVERITIES, Claims
from obanalytics.phrases import counted, either, say, spelled, times_over, words_of
from obanalytics.recovery import NAT, NEVER, REASONS, SOUND
from obanalytics.retention import hopes_of, reserves_in

if TYPE_CHECKING:
    from obanalytics.curve import View
    from obanalytics.kinds import Ages, Terms
    from obanalytics.phrases import Phrase
    from obanalytics.recovery import Bools, Ints
    from obanalytics.retention import Reserves

_PROVED, _INFERRED, _PARTLY, _UNKNOWN = range(len(CERTAINTIES))
_CRITICAL, _WARNING, _INFO = range(len(SEVERITIES))
_DOUBTED = REASONS.index("validity_unknown")


def reserve_faults(view: View, terms: Terms, ages: Ages) -> list[Claims]:
    """Find what is wrong with the reserves of some tenants.

    Parameters
    ----------
    view : View
        The tenants.
    terms : Terms
        The limits of all tenants.
    ages : Ages
        How old they are.

    Returns
    -------
    list of Claims
        `G9`, `G10`, `G13`, `G14`, `G15`, `G17`, `G26`, `G27`.
    """
    shelf = _Shelf(view, terms, ages)
    return [
        shelf.old_fulls(),
        shelf.deep(),
        shelf.few(),
        shelf.short(),
        shelf.overdue(),
        shelf.expiring(),
        *shelf.copies(),
        shelf.exports(),
    ]


class _Shelf:
    """Some tenants, what they could fall back on, and their limits."""

    def __init__(self, view: View, terms: Terms, ages: Ages) -> None:
        self.view, self.terms, self.chains = view, terms, view.certain
        self.first, self.count = view.part.first, view.part.count
        mine = slice(self.first, self.first + self.count)
        limits = terms.limits
        self.limits = {name: getattr(limits, name)[mine] for name in _LIMITS}
        self.since, self.dated, self.asked = ages.since[mine], ages.dated[mine], ages.asked
        self.new = ages.new[mine]
        self.owing = terms.owing(np.arange(self.first, self.first + self.count))
        self.reserves: Reserves = reserves_in(
            view, self.limits["retention"], self.limits["full_every"]
        )
        self.hopes = _Hopes(view)

    def _claims(self, kind: str, some: Ints, rows: Ints, **more: Any) -> Claims:  # noqa: ANN401
        """Return claims about tenants, each proved by one set, or by none where it is -1."""
        there = rows >= 0
        tenant = some + self.first
        usual: dict[str, Any] = {
            "end": np.full(len(some), self.terms.now),
            "rows": rows[there],
            "counts": there.astype(np.int64),
            "certainty": np.full(len(some), _INFERRED),
        }
        if "key" in more:
            usual["origin"] = self.terms.origin(more.pop("key"), tenant)
        return Claims(kind, tenant, **(usual | more))

    def _row(self, sets: Ints) -> Ints:
        """Return the rows of sets; -1 is none."""
        return self.view.part.rows_of(sets)

    def old_fulls(self) -> Claims:
        """Find every time in which the newest restorable full was too old."""
        chains, terms = self.chains, self.terms
        every = self.limits["full_every"]
        if (every == NAT).all():
            return self._none("G9")
        fulls = np.flatnonzero(chains.restorable & chains.full)
        fulls = fulls[every[chains.group[fulls]] != NAT]
        by = np.lexsort((chains.checkpoint[fulls], chains.group[fulls]))
        fulls = fulls[by]
        group, point = chains.group[fulls], chains.checkpoint[fulls]
        last = np.append(group[1:] != group[:-1], [True])[: len(group)]
        usable = np.append(chains.usable_from[fulls][1:], [NEVER])[: len(group)]
        end = np.minimum(np.where(last, NEVER, usable), terms.until[group + self.first])
        end = np.minimum(end, terms.now)
        limit = every[group] + self.limits["grace"][group]
        start = np.maximum(point + limit, self.view.begin[group])
        some = np.flatnonzero(start < end)
        tenants, age, allowed = group[some], (end - point)[some], every[group[some]]
        still = end[some] == terms.now
        return self._claims(
            "G9",
            tenants,
            self._row(fulls[some]),
            start=start[some],
            end=end[some],
            text=say(
                "the newest full set that can be restored ",
                words_of(still.astype(np.int64), ["came to be ", "is "]),
                spelled(age),
                " old, over the limit ",
                terms.zone.between(start[some], end[some]),
                "; at most ",
                spelled(allowed),
                " allowed",
                times_over(age, allowed),
            ),
            measured=age / HOUR,
            limit=allowed / HOUR,
            key="full_every",
            certainty=self.hopes.fulls_after(tenants, point[some], start[some], end[some]),
        )

    def _best(self) -> Ints:
        """Return every tenant's newest set that can be restored; -1 where there is none."""
        chains, best = self.chains, np.full(self.count, -1)
        good = np.flatnonzero(chains.restorable)
        by = good[np.argsort(chains.checkpoint[good], kind="stable")]
        best[chains.group[by]] = by  # the last one written has the newest checkpoint
        return best

    def _chain(self, some: Ints, best: Ints) -> tuple[Ints, Ints]:
        """Return the first set of the chain of some tenants, and how many are in it."""
        chains, base = self.chains, self.chains.mark[best].astype(np.int64) >> 1
        total = np.cumsum(chains.restorable)
        return base, total[best] - total[base] + 1 + 0 * some

    def deep(self) -> Claims:
        """Find tenants whose newest restore point takes too many sets, or too long, to restore."""
        chains, most, rto = self.chains, self.limits["max_chain"], self.limits["rto"]
        if (most < 0).all() and (rto == NAT).all():
            return self._none("G10")
        best = self._best()
        some = np.flatnonzero((best >= 0) & ((most >= 0) | (rto != NAT)) & self.owing)
        base, sets = self._chain(some, best[some])
        total = np.cumsum(np.where(chains.restorable, chains.end - chains.start, 0))
        took = total[best[some]] - total[base] + (chains.end - chains.start)[base]
        deep = (most[some] >= 0) & (sets - 1 > most[some])
        slow = (rto[some] != NAT) & (took > rto[some])
        some, base, sets, took, deep, slow = (
            each[deep | slow] for each in (some, base, sets, took, deep, slow)
        )
        tenant = some + self.first
        return self._claims(
            "G10",
            some,
            self._row(best[some]),
            start=chains.checkpoint[base],
            text=self._costly(base, sets, took, (deep, slow), (most[some], rto[some])),
            measured=np.where(deep, sets - 1, sets),
            limit=np.where(deep, most[some], np.nan),
            origin=np.where(
                deep, self.terms.origin("max_chain", tenant), self.terms.origin("rto", tenant)
            ),
            certainty=np.where(self.hopes.newer(best)[some], _UNKNOWN, _INFERRED),
        )

    def _costly(
        self, base: Ints, sets: Ints, took: Ints, why: tuple[Bools, Bools], most: tuple[Ints, Ints]
    ) -> Phrase:
        """Say that a restore takes too many sets, too long, or both."""
        many, (deep, slow), (chain, rto) = sets - 1, why, most
        needs = say(
            "the newest restore point needs ",
            counted(many, "incremental"),
            " on top of its full set of ",
            self.terms.zone.at(self.chains.checkpoint[base]),
            "; at most ",
            counted(chain, "incremental"),
            " allowed",
            times_over(many, chain),
        )
        lasts = say(
            "the ",
            counted(sets, "set"),
            " of the newest restore point took ",
            spelled(took),
            " to write; a restore may take ",
            spelled(np.where(slow, rto, 0)),
            " (RTO)",
            times_over(took, rto),
        )
        return say(either(deep, needs, ""), either(deep & slow, "; ", ""), either(slow, lasts, ""))

    def few(self) -> Claims:
        """Find tenants with fewer full sets to fall back on than are required."""
        least, there = self.limits["min_redundancy"], self.reserves.usable_fulls
        # Before its first full a new tenant has as long as for its first restore point.
        patience = self.limits["rpo"] + self.limits["grace"]
        young = self.new & (self.terms.now - self.since <= patience)
        short = self.owing & (there < least)
        if (short & young).any():
            short &= ~(young & (self._best() < 0))
        some = np.flatnonzero(short)
        unsure = (there + self.hopes.fulls >= least)[some]
        return self._claims(
            "G13",
            some,
            self._row(self.reserves.newest_full[some]),
            start=np.full(len(some), self.terms.now),
            text=say(
                counted(there[some], "full set"),
                f" can be restored{self.terms.zone.when('', ' ')}; at least ",
                counted(least[some], "full set"),
                " required",
                either(unsure, _HOPE, ""),
            ),
            measured=there[some],
            limit=least[some],
            key="min_redundancy",
            certainty=np.where(unsure, _UNKNOWN, _INFERRED),
            severity=np.where(unsure, _WARNING, _CRITICAL),
        )

    def short(self) -> Claims:
        """Find tenants that cannot be brought back as far as sets are to be kept."""
        days, lack = self.limits["retention"], self.reserves.shortfall
        reach = self.terms.now - days
        # What was not asked for may be there all the same.
        judged = (days != NAT) & self.owing & ((self.asked == NAT) | (self.asked <= reach))
        young = self.since > reach
        some = np.flatnonzero(judged & (lack > 0) & ~(young & self.dated))
        unsure = young[some]
        oldest = self.chains.checkpoint[self.reserves.oldest_full[some]]
        doubt = say("", words_of(unsure.astype(np.int64), ["", _MAY_BE_NEW]))
        return self._claims(
            "G14",
            some,
            self._row(self.reserves.oldest_full[some]),
            start=reach[some],
            end=oldest,
            text=say(
                "the oldest full set that can be restored is of ",
                self.terms.zone.at(oldest),
                ", ",
                spelled(lack[some]),
                " short of the ",
                spelled(days[some]),
                " that sets are to be kept",
                doubt,
            ),
            measured=(self.terms.now - oldest) / HOUR,
            limit=days[some] / HOUR,
            key="retention_days",
            certainty=np.where(unsure | self.hopes.before(reach)[some], _UNKNOWN, _INFERRED),
            severity=np.where(unsure, _INFO, _WARNING),
        )

    def overdue(self) -> Claims:
        """Find tenants with sets that the recovery window needs no longer."""
        many = self.reserves.overdue
        some = np.flatnonzero((many > 0) & self.owing)
        oldest = self.reserves.oldest_overdue[some]
        since = self.reserves.overdue_since[some]
        # The server looks every hour.
        late = self.terms.now - since > HOUR
        some, oldest, since, days = (
            some[late],
            oldest[late],
            since[late],
            self.limits["retention"][some][late],
        )
        begun = self.chains.start[oldest]
        begun = np.where(begun == NEVER, NAT, begun)
        return self._claims(
            "G15",
            some,
            self._row(oldest),
            start=since,
            text=say(
                counted(many[some], "set"),
                " kept for longer than the recovery window needs, the oldest of ",
                self.terms.zone.at(begun),
                "; at most ",
                spelled(days),
                " expected, and back to the full set before that",
            ),
            measured=many[some],
            limit=0,
            key="retention_days",
        )

    def expiring(self) -> Claims:
        """Find tenants whose base goes before the next full set has ended."""
        reserves = self.reserves
        some = np.flatnonzero(reserves.at_risk & self.owing)
        goes, ended = reserves.risk_at[some], reserves.next_full[some]
        unsure = reserves.may_be_safe[some]
        return self._claims(
            "G17",
            some,
            self._row(reserves.risk_set[some]),
            start=goes,
            end=np.maximum(ended, goes),
            text=say(
                "what the newest restore point is based on goes at ",
                self.terms.zone.at(goes),
                ", ",
                either(
                    ended == NAT,
                    self.terms.zone.dated(ended),
                    say(spelled(np.where(ended == NAT, 0, ended - goes)), " before the next full"),
                ),
                " set is expected to have ended at ",
                self.terms.zone.at(ended),
                "; expected a full set that can be restored before the old one goes",
                either(unsure, _HOPE, ""),
            ),
            certainty=np.where(unsure, _UNKNOWN, _INFERRED),
            severity=np.where(unsure, _WARNING, _CRITICAL),
            measured=np.where(ended == NAT, np.nan, (ended - goes) / HOUR),
            limit=0,
            key="retention_days",
        )

    def copies(self) -> list[Claims]:
        """Find storage classes that must hold a copy and do not, or only an old one."""
        mine = self.terms.limits.copies[self.first : self.first + self.count]
        return [
            self._copy(name, np.array([name in each for each in mine]))
            for name in sorted({name for each in mine for name in each})
        ]

    def _copy(self, name: str, wanted: Bools) -> Claims:
        """Find the tenants that lack a copy in a storage class."""
        part, frame = self.view.part, self.view.scene.known.tenants
        storage = frame["storage_class"].array
        code = next(
            (n for n, each in enumerate(storage.categories) if str(each).lower() == name.lower()),
            -2,
        )
        there = storage.codes[part.rows] == code
        here = there & (part.own == SOUND) & self.chains.restorable[part.sets]
        newest, rows = self._newest(here)
        within, now = self.limits["copy_within"], self.terms.now
        age = np.where(newest == NAT, NAT, now - newest)
        old = (newest != NAT) & (within != NAT) & (age > within)
        some = np.flatnonzero(wanted & self.owing & ((newest == NAT) | old))
        none, age, allowed = newest[some] == NAT, age[some], within[some]
        known = np.where(none, 0, age)
        text = either(
            none,
            words_of(np.zeros(len(some), np.int64), [f"no copy in {name} can be restored"]),
            say(f"the newest copy in {name} that can be restored is ", spelled(known), " old"),
        )
        limit = np.where(allowed == NAT, 0, allowed)
        expected = either(
            allowed == NAT, words_of(0 * some, ["one"]), say("one of at most ", spelled(limit))
        )
        return self._claims(
            "G26",
            some,
            rows[some],
            start=newest[some],
            text=say(text, "; expected ", expected, times_over(known, np.where(none, 0, limit))),
            measured=np.where(none, np.nan, age / HOUR),
            limit=np.where(allowed == NAT, np.nan, allowed / HOUR),
            key="copies",
            certainty=self._doubt(there & (part.own >= _DOUBTED), some, allowed, _INFERRED),
        )

    def _doubt(self, may: Bools, some: Ints, allowed: Ints, sure: int) -> Ints:
        """Return how certain it is of some tenants that no set of certain rows is new enough."""
        made = np.full(len(some), sure)
        if not len(self.hopes.sets) and self.view.part.set_of_row is None:
            return made
        newest, _ = self._newest(may & self.view.trusting.restorable[self.view.part.sets])
        newest = newest[some]
        fresh = (allowed == NAT) | (self.terms.now - np.where(newest == NAT, 0, newest) <= allowed)
        return np.where((newest != NAT) & fresh, _UNKNOWN, made)

    def _newest(self, here: Bools) -> tuple[Ints, Ints]:
        """Return the newest checkpoint of some rows, by tenant, and its row; `NAT`, -1: none."""
        newest, row, part = np.full(self.count, NAT), np.full(self.count, -1), self.view.part
        some = np.flatnonzero(here)
        some = some[np.lexsort((some, part.point[some]))]
        newest[part.group[some]] = part.point[some]  # the last one written has the newest
        rows = part.rows
        row[part.group[some]] = some + rows.start if isinstance(rows, slice) else rows[some]
        return newest, row

    def exports(self) -> Claims:
        """Find tenants that have had no set to download for too long."""
        within, part = self.limits["export_within"], self.view.part
        if (within == NAT).all():
            return self._none("G27")
        enabled = self.view.scene.known.tenants["download_enabled"].array[part.rows]
        checked = np.zeros(self.count, bool)
        checked[part.group[~np.asarray(enabled.isna())]] = True
        offered = enabled.to_numpy(dtype=bool, na_value=False)
        newest, rows = self._newest(offered & self.chains.restorable[part.sets])
        age = np.where(newest == NAT, NEVER, self.terms.now - newest)
        some = np.flatnonzero(checked & self.owing & (within != NAT) & (age > within))
        none, allowed = newest[some] == NAT, within[some]
        age = np.where(none, 0, age[some])
        text = either(
            none,
            words_of(0 * some, ["no set that can be restored can be downloaded"]),
            say("the newest set that can be downloaded is ", spelled(age), " old"),
        )
        return self._claims(
            "G27",
            some,
            rows[some],
            start=newest[some],
            text=say(
                text, "; one of at most ", spelled(allowed), " expected", times_over(age, allowed)
            ),
            measured=np.where(none, np.nan, age / HOUR),
            limit=allowed / HOUR,
            key="export_within_days",
            certainty=self._doubt(offered, some, allowed, _PROVED),
        )

    def _none(self, kind: str) -> Claims:
        """Return no claims."""
        empty = np.zeros(0, np.int64)
        return self._claims(kind, empty, empty, start=empty, text=spelled(empty), measured=empty)


class _Hopes:
    """What could be restored besides, if what is not known of sets were well."""

    def __init__(self, view: View) -> None:
        self.sets, self.count, certain = hopes_of(view), view.part.count, view.certain
        chains = certain if not len(self.sets) else view.trusting
        if view.part.gone is not None:
            self.sets = self.sets[chains.until[self.sets] == NEVER]
        self.chains, self.group = chains, chains.group[self.sets]
        self.point = chains.checkpoint[self.sets]
        modes = view.scene.known.tenants["full"].array
        self.full = chains.full[self.sets].copy()
        self.full |= np.asarray(modes[view.part.rows_of(self.sets)].isna(), bool)
        # The full of a chain that begins with none is not in the data.
        self.baseless = ~chains.full[chains.mark[self.sets].astype(np.int64) >> 1]

    @property
    def fulls(self) -> Ints:
        """How many full sets of each tenant there may be besides."""
        many = np.bincount(self.group[self.full], minlength=self.count)
        return many + (np.bincount(self.group[self.baseless], minlength=self.count) > 0)

    def newer(self, best: Ints) -> Bools:
        """Tell which tenants may have a newer restore point than the one that is known."""
        return np.bincount(self.group[self.sets > best[self.group]], minlength=self.count) > 0

    def before(self, reach: Ints) -> Bools:
        """Tell which tenants may have a full set that reaches far enough back."""
        old = (self.full & (self.point <= reach[self.group])) | self.baseless
        return np.bincount(self.group[old], minlength=self.count) > 0

    def fulls_after(self, tenant: Ints, point: Ints, start: Ints, end: Ints) -> Ints:
        """Return how certain it is that there was no newer full set than one, from when to when."""
        made = np.full(len(tenant), _INFERRED)
        if not self.full.any():
            return made
        usable = self.chains.usable_from[self.sets]
        for turn, who in enumerate(tenant):
            mine = self.full & (self.group == who) & (self.point > point[turn])
            if mine.any() and (first := usable[mine].min()) < end[turn]:
                made[turn] = _UNKNOWN if first <= start[turn] else _PARTLY
        return made


_HOPE = "; of some sets it is not known whether they can be restored"
_MAY_BE_NEW = ", unless the tenant is new: nobody tells when it was created"
_LIMITS = (
    *(
        "rpo",
        "full_every",
        "grace",
        "max_chain",
        "rto",
        "min_redundancy",
        "retention",
        "copy_within",
    ),
    "export_within",
)
