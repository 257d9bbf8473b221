"""Judge the facts: every fault that they show, of every kind, with its limit and its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.breaches import Breaches, log_faults, loss_now
from obanalytics.byhand import rescued
from obanalytics.coverage import CAUSES, Clusters, gaps_in, joined
from obanalytics.crowd import Crowd, Told, table_of
from obanalytics.curve import micro, scene_of
from obanalytics.faults import faults_in
from obanalytics.kinds import CERTAINTIES, HOUR, KINDS, Ages, Claims, Terms
from obanalytics.phrases import Zone, say, spelled, times_over
from obanalytics.policy import Policy
from obanalytics.presence import FATES, lives_of, presence_of
from obanalytics.recovery import NAT, NEVER, integers
from obanalytics.reserves import reserve_faults
from obanalytics.rollcall import doubted_runs, presence_faults, unprotected, unread
from obanalytics.rounds import run_faults
from obanalytics.schema import STATES, BackupSets, facts

if TYPE_CHECKING:
    from obanalytics.presence import Lives
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import Instant

FINDINGS = (
    ("kind", "category"),
    ("severity", "category"),
    ("instance_id", "category"),
    ("instance_name", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("start", "instant"),
    ("end", "instant"),
    ("sentence", "string"),
    ("measured", "float64"),
    ("limit", "float64"),
    ("limit_origin", "category"),
    ("backup_set_ids", "object"),
    ("certainty", "category"),
    ("acknowledged", "bool"),
)


def findings(
    sets: BackupSets | pd.DataFrame,
    policy: Policy | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Find every fault that the facts can prove, of every kind that backup tools name.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    policy : Policy or None
        What is owed; None takes the defaults, which `attrs["policy"]` states.
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per finding, the gravest first: `kind` (`G1` to `G34`, see `docs/findings.md`),
        `severity` (`critical`, `warning`, `info`), `instance_id`, `instance_name`, `tenant_id`,
        `tenant_name` (NA where it is of a whole instance), `start`, `end` [UTC], `sentence`,
        `measured`, `limit` (in the kind's unit: `attrs["units"]`; NA where unbounded),
        `limit_origin` (`policy`, `override 2`, `default`, `inferred`, `data`), `backup_set_ids`
        (tuple: the sets that prove it), `certainty` (`proved`, `inferred`, `partly`, `unknown`),
        `acknowledged` (bool). `attrs` hold `not_judged` (kinds that this data or policy cannot
        judge, each with the reason), `policy` (every limit with its origin), `units`, `model`,
        `excluded` (tenants that the policy leaves out) and `notes`.

    Raises
    ------
    DataError
        When a plain frame is no tenants frame.
    ValueError
        When the policy's schedule cannot be read.

    Notes
    -----
    One instant may belong to several kinds: lengths of findings are not to be added up.
    """
    court = _Court(sets, Policy() if policy is None else policy, as_of)
    return court.verdict()


_UNITS = {name: kind.unit for name, kind in KINDS.items()}


class _Court:
    """The facts, the policy, and what is found of them."""

    def __init__(
        self, sets: BackupSets | pd.DataFrame, policy: Policy, as_of: Instant | None
    ) -> None:
        self.sets, self.policy = sets, policy
        until = _until(sets, as_of)
        self.scene = scene_of(sets, None, until, until)
        self.known = self.scene.known
        self.lives: Lives = lives_of(self.scene, sets)
        self.failed = dict(sets.source.failed) if isinstance(sets, BackupSets) else {}
        self.crowd = Crowd(self.scene, self.lives, [*self.failed])
        wanted = policy.override or policy.exclude
        limits = policy.limits(self.crowd.frame(named=bool(wanted)))
        count = len(self.crowd.instance)
        until, doubted, seen = np.full(count, NEVER), np.zeros(count, bool), np.full(count, NAT)
        seen[: len(self.lives.last)] = self.lives.last
        until[: len(self.lives.until)] = self.lives.until
        doubted[: len(self.lives.until)] = self.lives.fate == _UNLISTED
        now = NAT if self.known.as_of is None else micro(self.known.as_of)
        excused = self._excused if policy.maintenance else None
        known = facts(sets, as_of).as_of
        past = known is not None and self.known.as_of is not None and known > self.known.as_of
        zone = Zone(policy.tz, now if past else None)
        self.terms = Terms(now, zone, limits, until, doubted, seen, excused)

    def verdict(self) -> pd.DataFrame:
        """Return the table."""
        claims = [each for each in map(self._judged, self._heard()) if len(each)]
        more = self._judged(self._unnoticed(claims))
        claims += [more] if len(more) else []
        made = table_of(claims, self.scene.known, self.crowd)
        if self.policy.acknowledge and len(made) and self.known.as_of is not None:
            known, _ = self.policy.acknowledged(made, self.known.as_of)
            made["acknowledged"] = known
        made.attrs |= self._attrs()
        return made

    def _heard(self) -> list[Claims]:
        """Return what every rule finds."""
        claims, parts, told = [], [], Told(self.crowd, len(self.scene.tenants))
        clusters, terms = Clusters(self.scene), self.terms
        bound = terms.limits.rpo + terms.limits.grace
        ages = self._ages()
        for view in self.scene.views():
            first = view.part.first
            parts.append(gaps_in(view, bound[first : first + view.part.count], clusters))
            told.hear(view)
            claims += faults_in(view, terms) + log_faults(view, terms)
            claims += [doubted_runs(each, view, terms) for each in run_faults(view, terms)]
            claims += reserve_faults(view, terms, ages)
        gaps = joined(parts)
        standing = told.standing()
        if parts:
            silent = gaps["causes"] >> CAUSES.index("silent") & 1 > 0
            asked = None if self.scene.begin is None else ages
            claims += Breaches(gaps, standing, terms, asked, silent, self._runs()).claims()
        claims.append(loss_now(standing, terms))
        claims += self._called(gaps)
        return claims

    def _runs(self) -> tuple[Ints, Ints]:
        """Return when each set began [µs], and its state."""
        frame = self.known.tenants
        names = [STATES.index(each) for each in frame["state"].array.categories]
        states = np.array([*names, STATES.index("unknown")], np.int8)
        state = states[frame["state"].array.codes]
        return integers(frame["start_time"], copy=False), state

    def _called(self, gaps: dict[str, Any]) -> list[Claims]:
        """Return what is found of who is in which cluster set, and of what is made by hand."""
        first, terms, crowd = len(self.scene.tenants), self.terms, self.crowd
        claims = [unprotected(self.lives.unprotected, first, terms)]
        claims.append(unread(self.failed, crowd.numbers([*self.failed]), terms))
        presence = presence_of(self.scene, self.lives)
        if presence is not None and self.known.clusters is not None:
            frames = self.known.clusters, self.known.tenants
            claims += presence_faults(presence, self.lives, frames, crowd.numbers, terms)
        if self.scene.model == "point":
            claims.append(rescued(self.scene, gaps, terms))
        return claims

    def _ages(self) -> Ages:
        """Return how old the tenants are, and since when sets were asked for."""
        table, dated = self.known.inventory, np.zeros(len(self.scene.tenants), bool)
        if table is not None:
            whose = [
                pd.MultiIndex.from_frame(each[["instance_id", "tenant_id"]].astype("str"))
                for each in (self.scene.tenants, table[table["created_time"].notna()])
            ]
            dated = whose[0].isin(whose[1])
        since, begin = self.lives.since, self.known.window.start
        instance = self.scene.tenants["instance_id"].cat.codes.to_numpy()
        first = np.full(int(instance.max(initial=-1)) + 1, NEVER)
        np.minimum.at(first, instance, since)
        return Ages(since, dated, since > first[instance], NAT if begin is None else micro(begin))

    def _unnoticed(self, claims: list[Claims]) -> Claims:
        """Find tenants of whom a fault lasted for longer than sets are kept."""
        terms, count = self.terms, len(self.crowd.instance)
        days = terms.limits.retention
        length, since = _longest(claims, count, sure=True)
        unsure = (days != NAT) & (length < days)
        if unsure.any():
            more = _longest(claims, count, sure=False)
            length, since = (
                np.where(unsure, *each) for each in zip(more, (length, since), strict=True)
            )
        some = np.flatnonzero((days != NAT) & (length >= days) & (terms.until >= terms.now))
        took, kept, begun = length[some], days[some], since[some]
        return Claims(
            "G31",
            some,
            begun,
            begun + took,
            say(
                "a fault lasted, or lasts, ",
                spelled(took),
                ", ",
                terms.zone.between(begun, begun + took),
                ", and sets are kept for ",
                spelled(kept),
                ": the last good one may go unnoticed; expected sets to be kept for longer",
                times_over(took, kept),
            ),
            took / HOUR,
            kept / HOUR,
            terms.origin("retention_days", some),
            certainty=np.where(unsure[some], _UNKNOWN, _INFERRED),
        )

    def _judged(self, claims: Claims) -> Claims:
        """Leave out what was before the window, and what the policy excuses."""
        excused = self.terms.limits.excluded[claims.tenant]
        if self.scene.begin is not None:  # sets from before it are there as bases of chains
            excused |= (claims.end < self.scene.begin) & (claims.end != NAT)
        if self.policy.maintenance and claims.kind in _TIMED:
            dated = np.flatnonzero((claims.start != NAT) & (claims.end != NAT))
            whose, start, end = (each[dated] for each in (claims.tenant, claims.start, claims.end))
            excused[dated[self._excused(whose, start, end)]] = True
        return claims.take(np.flatnonzero(~excused)) if excused.any() else claims

    def _excused(self, whose: Ints, start: Ints, end: Ints | None = None) -> Bools:
        """Tell which instants, or times, lie wholly in maintenance windows."""
        crowd = self.crowd.frame(named=True)
        left = self.policy.uncovered(crowd, whose, start, start if end is None else end)
        covered = np.ones(len(whose), bool)
        covered[left.index] = False
        return covered

    def _attrs(self) -> dict[str, Any]:
        """Return what must be known to read the table."""
        notes = [] if self.known.as_of is None else [*self.policy.expired(self.known.as_of)]
        return {
            "model": self.scene.model,
            "policy": {key: (value, origin) for key, value, origin in self.policy.describe()},
            "units": _UNITS,
            "not_judged": self._not_judged(),
            "excluded": int(self.terms.limits.excluded[: self.crowd.first].sum()),
            "notes": tuple(notes),
        }

    def _not_judged(self) -> dict[str, str]:
        """Return the kinds that this data, or this policy, cannot judge."""
        limits, known = self.terms.limits, self.known
        no_limit = {
            "G9": ("full_every", (limits.full_every == NAT).all()),
            "G10": ("max_chain or rto", ((limits.max_chain < 0) & (limits.rto == NAT)).all()),
            "G26": ("copies", not any(limits.copies)),
            "G27": ("export_within_days", (limits.export_within == NAT).all()),
        }
        days = (limits.retention == NAT).all()
        no_limit |= dict.fromkeys(("G14", "G15", "G17", "G31"), ("retention_days", days))
        found = {kind: f"the policy has no {key}" for kind, (key, no) in no_limit.items() if no}
        if known.restorable is None:
            found |= dict.fromkeys(
                ("G22", "G23"), "the service's restorable intervals are not there"
            )
        if known.clusters is None:
            found |= dict.fromkeys(("G24", "G25", "G34"), "a tenants frame has no cluster sets")
        if known.window.start is None:
            found |= {
                "G2": "no start was asked for: time counts from each tenant's first known set"
            }
        elif "G14" not in found and self._is_late(known.window.start):
            found |= {"G14": "sets were asked for from a start that is within retention_days"}
        if self.scene.model != "point":
            found |= {"G28": "with the service's logs, sets made by hand rescue nothing"}
        if "G27" not in found and not known.tenants["download_enabled"].notna().any():
            found |= {"G27": "whether sets can be downloaded was not asked (check_download=True)"}
        found["G33"] = "whether a restore was ever tried is in no data of the service"
        return dict(sorted(found.items(), key=lambda item: int(item[0][1:])))

    def _is_late(self, start: pd.Timestamp) -> bool:
        """Tell whether sets were asked for from an instant at which they would be kept."""
        days = self.terms.limits.retention
        return bool((micro(start) > self.terms.now - days[days != NAT]).all())


def _until(sets: BackupSets | pd.DataFrame, as_of: Instant | None) -> pd.Timestamp | None:
    """Return up to when it can be judged: of what was not asked for, or comes, nothing is known."""
    known = facts(sets, as_of)
    ends = [each for each in (known.as_of, known.window.end) if each is not None]
    return min(ends, default=None)


def _longest(claims: list[Claims], count: int, *, sure: bool) -> tuple[Ints, Ints]:
    """Return everybody's longest fault, and since when; of those that are sure, or of all [µs]."""
    length, since = np.full(count, -1), np.full(count, NAT)
    for each in claims:
        if each.kind not in _LASTING:
            continue
        keep = (each.end != NAT) & (each.start != NAT)
        over = np.flatnonzero(keep & (each.surety <= _INFERRED) if sure else keep)
        took = (each.end - each.start)[over]
        by = np.argsort(took)
        tenant, took, start = each.tenant[over][by], took[by], each.start[over][by]
        longer = took > length[tenant]
        length[tenant[longer]], since[tenant[longer]] = took[longer], start[longer]
    return length, since


_INFERRED, _UNKNOWN = CERTAINTIES.index("inferred"), CERTAINTIES.index("unknown")
_LASTING = ("G3", "G4", "G5", "G6", "G11", "G12", "G16", "G24")
_TIMED = ("G2", "G3", "G4", "G5", "G6", "G8", "G9", "G18", "G19", "G21", "G24")
_UNLISTED = FATES.index("unlisted")
