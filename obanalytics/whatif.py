"""Replay what tenants were backed up with under another policy: RPO, cadence, retention, price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.compliance import rpo_compliance
from obanalytics.curve import limits, micro, newest_at, scene_of, who
from obanalytics.frames import concat, conform, empty
from obanalytics.recovery import NAT, NEVER, integers, labels, spans, times
from obanalytics.replay import DAY, FAILED, Course, frame_of, keys_of
from obanalytics.schema import BackupSets, as_duration, facts
from obanalytics.stock import Listing, Rule, gib, held_at, held_of, numbers, parts
from obanalytics.stored import stored_size
from obanalytics.wording import plural

if TYPE_CHECKING:
    from obanalytics.curve import Limits
    from obanalytics.recovery import Ints
    from obanalytics.schema import Duration, Facts, Instant
    from obanalytics.stock import Held

    Floats: TypeAlias = Any
    Price: TypeAlias = "float | Mapping[str, float] | pd.Series | None"

SCENARIOS = ("as it was", "what if")
BASES = ("measured", "modelled", "replayed")
_REPLAYED = BASES.index("replayed")
ASSUMPTIONS = tuple(
    """
A tenant keeps its own rhythm: runs of another cadence start at its own starts, or in proportion \
between two of them; one begun again within half a period is one run, and none is begun by hand.
An outage stays an outage: from a run of its own that failed or did not come to the next one that \
worked, every run of another cadence fails too.
A full is as large, and takes as long, as the tenant's own fulls around it, on a line between them.
An incremental holds what changed since the run before it, so much an hour as the tenant's own \
incrementals around it, but never more than a full; it takes as long as they did.
No run begins while another one of its tenant runs; the full that would have is the next run.
The server lets sets go by its own rule: the newest full before the recovery window and all that \
is newer stays; without a retention, sets stay as the facts tell.
The sets of whole tenants are replayed, once: copies in another storage class are not.
Log backups went on as they did, where the vendor tells of them.
The cost is that of the GiB in store, without what is free, requests and traffic.
""".strip().splitlines()
)
"""What a replay takes for granted."""
COLUMNS = (
    *("instance_id", "tenant_id", "tenant_name", "scenario", "rpo", "full_every"),
    *("incremental_every", "retention_days", "sets", "written_gib", "time_in_rpo"),
    *("worst_exposure", "gaps", "stored_gib", "stored_gib_end", "stored_gib_max"),
    *("cost_per_month", "chain_max", "restore_gib", "basis", "notes"),
)
_UNITS = {
    "retention_days": "days",
    "sets": "sets",
    "written_gib": "GiB",
    "time_in_rpo": "share",
    "gaps": "gaps",
    "stored_gib": "GiB",
    "stored_gib_end": "GiB",
    "stored_gib_max": "GiB",
    "cost_per_month": "money/month",
    "chain_max": "sets",
    "restore_gib": "GiB",
}
_CENTURY = 36525  # days: beyond it instants plus limits would leave what numbers hold


def what_if(  # noqa: PLR0913 - a policy has that many parts
    sets: BackupSets | pd.DataFrame,
    *,
    rpo: Limits | None = None,
    full_every: Duration | None = None,
    incremental_every: Duration | None = None,
    retention_days: float | None = None,
    price_per_gib_month: Price = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Replay every tenant's own history under another policy, beside what it was.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration, mapping or Series, or None
        The recovery point objective of the replay: one, or one by `tenant_id` or (`instance_id`,
        `tenant_id`). None: as it was, see Notes.
    full_every : duration or None
        From full to full: the first run in each such period is one. One that is not longer than
        `incremental_every` makes every run a full. None: as it was.
    incremental_every : duration or None
        From run to run, of whatever mode. None: as it was.
    retention_days : float or None
        The server's recovery window [days]. None: as it was.
    price_per_gib_month : float, mapping or Series, or None
        What a GiB costs a month: one price, or one by `storage_class` [money/GiB/month].
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        Two rows per tenant, `scenario` (category) "as it was" and "what if": instance_id,
        tenant_id, tenant_name, rpo, full_every, incremental_every [timedelta; NA: cannot be said],
        retention_days [days; NA: sets stay as the facts say], sets (int64, done and begun in the
        window), written_gib [GiB; in the window], time_in_rpo [share], worst_exposure [timedelta;
        NA where unbounded], gaps (int64), stored_gib [GiB; the mean over the last quarter of the
        time, day by day], stored_gib_end [GiB; at `as_of`], stored_gib_max [GiB], cost_per_month
        [money/month; of stored_gib, NA without a price], chain_max (int64, the most sets that a
        restore needs), restore_gib [GiB; the full and the incrementals that the newest restore
        point needs], basis (category: `measured` as it was; `modelled` the tenant's own sets, let
        go by the server's rule or against another RPO; `replayed` sets that the policy would have
        made), notes (string; what to know of the row, empty: nothing). `attrs`: assumptions (list
        of sentences), units, model (as in `exposure`).

    Raises
    ------
    ValueError
        When an argument is zero or negative, or the replay would have more than 5 million sets.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    "As it was" is what `rpo_compliance` and `stored_size` say of the facts. Its RPO is not in the
    facts: it is the distance between a tenant's runs plus what 95 % of them took, rounded up to
    hours, and one hour more, as `draft` would propose (26 hours where that cannot be said);
    `Replay` takes another. Retention is told only by sets that were seen to go.

    The mean of the last quarter is that of a steady state when whatever the rule holds there was
    written in the time looked at: that is a full cadence and a retention before it; `notes` says
    where it is not. The assumptions are in `attrs["assumptions"]` and in `ASSUMPTIONS`.
    """
    return Replay(sets, as_of=as_of).at(
        rpo=rpo,
        full_every=full_every,
        incremental_every=incremental_every,
        retention_days=retention_days,
        price_per_gib_month=price_per_gib_month,
    )


class Replay:
    """Hold what `what_if` needs of a history, to ask again and again.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration, mapping or Series, or None
        The RPO as it was; None infers it as `what_if` says.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].
    """

    def __init__(
        self,
        sets: BackupSets | pd.DataFrame,
        *,
        rpo: Limits | None = None,
        as_of: Instant | None = None,
    ) -> None:
        known = facts(sets, as_of)
        plain = BackupSets(empty("clusters"), known.tenants, as_of=known.as_of)
        self._sets = sets if isinstance(sets, BackupSets) else plain
        self._as_of = known.as_of
        scene = scene_of(self._sets, None, None, self._as_of)
        newest = [view.newest_row for view in scene.views()]
        self._who, self._tenants = who(scene, newest), scene.tenants
        self._number = {key: number for number, key in enumerate(keys_of(scene.tenants))}
        self._newest = np.concatenate(newest) if newest else np.zeros(0, np.int64)
        self._frame, self._model, self._bounds = known.tenants, scene.model, known.window
        fleet = stored_size(self._sets, by="fleet", as_of=self._as_of)
        self._instants = np.unique(integers(fleet["time"]))
        self._last = scene.end if known.as_of is None else min(scene.end, micro(known.as_of))
        self._course = Course(self._sets, self._as_of, self._number)
        self._rpo = self._course.usual_rpo if rpo is None else _rpo(rpo, scene.tenants)
        held = self._held(known)
        self._window = self._of_tenants(held, _seen_to_go(held))
        self._was = self._measured(self._sets, self._rpo, held, None)

    def at(
        self,
        *,
        rpo: Limits | None = None,
        full_every: Duration | None = None,
        incremental_every: Duration | None = None,
        retention_days: float | None = None,
        price_per_gib_month: Price = None,
    ) -> pd.DataFrame:
        """Replay the history under a policy, beside what it was.

        Parameters
        ----------
        rpo, full_every, incremental_every, retention_days, price_per_gib_month
            As in `what_if`; None: as it was.

        Returns
        -------
        DataFrame
            As `what_if` says.

        Raises
        ------
        ValueError
            As `what_if` says.
        """
        asked = _Asked(
            self._rpo if rpo is None else _rpo(rpo, self._tenants),
            _period(full_every, "full_every"),
            _period(incremental_every, "incremental_every"),
            NAT if retention_days is None else _days(retention_days),
        )
        price = _prices(price_per_gib_month)
        was = _Asked(self._rpo, NAT, NAT, NAT)
        same = asked[1:] == was[1:] and rpo is None
        found = self._was if same else self._replayed(asked)
        rows = [self._rows(self._was, was, price), self._rows(found, asked, price)]
        made = pd.concat(rows, ignore_index=True)
        scenario = np.repeat([0, 1], len(self._who))
        made["scenario"] = labels(scenario, SCENARIOS)
        order = np.arange(len(made)).reshape(2, -1).T.ravel()
        made = made.take(order).reset_index(drop=True)[list(COLUMNS)]
        made.attrs = {
            "assumptions": list(ASSUMPTIONS),
            "units": dict(_UNITS),
            "model": self._model,
        }
        return made

    def _replayed(self, asked: _Asked) -> _Found:
        """Return what another policy would have made of the history."""
        if asked.full == NAT and asked.each == NAT:
            held = self._held(facts(self._sets, self._as_of))
            if asked.window == NAT:
                return self._measured(self._sets, asked.rpo, held, None)
            return self._expiring(self._sets, asked)
        slots = self._course.under(asked.full, asked.each, self._last)
        frame = frame_of(slots, self._frame, self._newest, self._bounds)
        if not (able := self._course.able).all():
            frame = concat([frame, self._standing[frame.columns]])
        sets = replace(self._sets, tenants=conform(frame, "tenants"), clusters=empty("clusters"))
        failing = np.bincount(slots.tenant[slots.state == FAILED], minlength=len(able))
        return self._expiring(sets, asked)._replace(basis=_REPLAYED, failing=failing)

    @cached_property
    def _standing(self) -> pd.DataFrame:
        """The sets of the tenants that cannot be replayed."""
        number = np.array([self._number[key] for key in keys_of(self._frame)], np.int64)
        return self._frame[~self._course.able[number]]

    def _expiring(self, sets: BackupSets, asked: _Asked) -> _Found:
        """Measure some sets that the server lets go by its rule alone."""
        if "gone_time" in sets.tenants:
            sets = replace(sets, tenants=sets.tenants.drop(columns="gone_time"))
        known = facts(sets, self._as_of)
        sets, held = replace(sets, tenants=known.tenants), self._held(known)
        windows = np.full(len(held.shelves.there), asked.window)
        if asked.window == NAT:
            windows = self._shelves(held, self._window)
        return self._measured(_with_expiry(sets, held, windows), asked.rpo, held, windows)

    def _held(self, known: Facts) -> Held:
        """Return what is in store of some facts."""
        last = int(self._instants[-1]) if len(self._instants) else NAT
        return held_of(known, Listing(last, last, NAT, whole=True, failed=0))

    def _of_tenants(self, held: Held, values: Ints) -> Ints:
        """Return what is said of each tenant that has a shelf, tenant by tenant."""
        made = np.full(len(self._number), NAT)
        made[[self._number[key] for key in keys_of(held.shelves.tenants)]] = values
        return made

    def _shelves(self, held: Held, values: Ints) -> Ints:
        """Return what is said of each tenant, shelf by shelf."""
        mine = [self._number[key] for key in keys_of(held.shelves.tenants)]
        return np.repeat(values[mine], len(held.shelves.classes))

    def _measured(
        self,
        sets: BackupSets,
        rpo: Ints,
        held: Held,
        windows: Ints | None,
    ) -> _Found:
        """Measure some sets as the house does."""
        limit = dict(zip(keys_of(self._tenants), pd.to_timedelta(rpo, unit="us"), strict=True))
        coverage = rpo_compliance(sets, limit, as_of=self._as_of)
        stored, written, unsized, sized = self._stored(held, windows)
        count, owner = len(self._number), self._owner(held)
        last = self._instants[-1] if len(self._instants) else NAT
        done = held.frame["state"].eq("done") & held.frame["in_window"]
        there = done.to_numpy(dtype=bool)[held.rows] & (held.born <= last)
        chain, restore = _restores(sets, self._as_of, len(self._number))
        return _Found(
            coverage=coverage,
            classes=held.shelves.classes,
            stored=stored,
            written=written,
            unsized=unsized,
            sized=sized,
            sets=np.bincount(owner[there], minlength=count),
            failing=np.zeros(count, np.int64),
            chain=chain,
            restore=restore,
            basis=0 if windows is None and rpo is self._rpo else 1,
        )

    def _owner(self, held: Held) -> Ints:
        """Return the tenant of every set that is or was in store."""
        mine = np.array([self._number[key] for key in keys_of(held.shelves.tenants)], np.int64)
        return mine[held.shelf // len(held.shelves.classes)] if len(mine) else held.shelf

    def _stored(self, held: Held, windows: Ints | None) -> tuple[Any, Any, Ints, Ints]:
        """Return what is in store: tenant x storage class x instant; and what was written."""
        width, count = len(held.shelves.classes), len(self._number)
        gone = held.gone if windows is None else np.minimum(Rule(held, windows).goes, held.gone)
        owner = self._owner(held)
        place = owner * width + held.shelf % width
        stored = held_at(
            self._instants, held.born, gone, held.size, place, count=count * width
        ).reshape(count, width, len(self._instants))
        comes, _ = numbers(self._instants, held.born, gone)
        inside = held.frame["in_window"].to_numpy(dtype=bool)[held.rows]
        inside &= comes < len(self._instants)
        amount = parts(held.size)
        written = np.zeros(count, amount.dtype)
        np.add.at(written, owner[inside], amount[inside])
        known = np.isfinite(held.size)
        unsized, sized = (np.bincount(owner[each], minlength=count) for each in (~known, known))
        return stored, gib(written), unsized, sized

    def _rows(self, found: _Found, asked: _Asked, price: Any) -> pd.DataFrame:  # noqa: ANN401
        """Return a row per tenant of what was found."""
        coverage, count = found.coverage, len(self._who)
        stored = found.stored.sum(axis=1)
        late = self._instants >= self._steady()
        money = _money(found, price)[:, late]
        window = self._window if asked.window == NAT else np.full(count, asked.window)
        basis = np.where(self._course.able | (found.basis < _REPLAYED), found.basis, 1)
        known = (found.unsized == 0) | ((basis < _REPLAYED) & (found.sized > 0))
        known &= len(self._instants) > 0

        def gib_of(values: Any) -> Any:  # noqa: ANN401 - an array of float
            """Return sizes, NaN where they are not known."""
            return np.where(known, values, np.nan)

        some = stored if stored.shape[1] else np.full((count, 1), np.nan)
        each, full = (
            np.full(count, given) if given != NAT else self._course.every[mode]
            for given, mode in ((asked.each, "any"), (asked.full, "full"))
        )
        return self._who.assign(
            rpo=spans(asked.rpo),
            full_every=spans(full),
            incremental_every=spans(each),
            retention_days=np.where(window == NAT, np.nan, window / DAY),
            sets=found.sets.astype(np.int64),
            written_gib=gib_of(found.written),
            time_in_rpo=coverage["time_in_rpo"].to_numpy(),
            worst_exposure=coverage["worst_exposure"].array,
            gaps=coverage["gaps"].to_numpy(),
            stored_gib=gib_of(_mean(stored[:, late])),
            stored_gib_end=gib_of(some[:, -1]),
            stored_gib_max=gib_of(some.max(axis=1)),
            cost_per_month=gib_of(_mean(money)),
            chain_max=found.chain,
            restore_gib=found.restore,
            basis=labels(basis, BASES),
            notes=pd.Series(self._notes(found, asked, (window, full)), dtype="string"),
        )

    def _steady(self) -> int:
        """Return when the last quarter of the time begins."""
        if not len(self._instants):
            return 0
        first, last = int(self._instants[0]), int(self._instants[-1])
        return last - (last - first) // 4

    def _notes(self, found: _Found, asked: _Asked, kept: tuple[Ints, Ints]) -> list[str]:
        """Say what to know of each row."""
        made, steady, course = found.basis == _REPLAYED, self._steady(), self._course
        changed, told = asked.full != NAT or asked.each != NAT, []
        whole = zip(
            course.begun, *kept, found.unsized, found.sized, found.failing, course.able, strict=True
        )
        for first, window, full, unsized, sized, failing, able in whole:
            notes, replayed = [], made and able
            if changed and not able:
                notes.append("no rhythm or no sound run to replay: its own sets stand")
            if failing and replayed:
                notes.append(f"{plural(failing, 'run')} would have met an outage of its own")
            if unsized and (replayed or not sized):
                notes.append(f"no size to tell that of {plural(unsized, 'set')} by: GiB not known")
            elif unsized:
                notes.append(f"{plural(unsized, 'set')} without a size count as nothing")
            if window == NAT:
                notes.append("nothing tells when sets go: what is in store only grows")
            elif first != NEVER and first + window + max(full, 0) > steady:
                notes.append("less time than retention and full cadence: no steady state yet")
            told.append("; ".join(notes))
        return told


class _Asked(NamedTuple):
    """A policy: RPO by tenant, from full to full, run to run, recovery window; `NAT`: as it was."""

    rpo: Ints
    full: int
    each: int
    window: int


class _Found(NamedTuple):
    """What was measured, an entry per tenant; `stored` is tenant x storage class x instant."""

    coverage: pd.DataFrame
    classes: list[Any]
    stored: Any
    written: Any
    unsized: Ints
    sized: Ints
    sets: Ints
    failing: Ints
    chain: Ints
    restore: Any
    basis: int


# --- what the caller says ------------------------------------------------------------------------


def _rpo(given: Limits, tenants: pd.DataFrame) -> Ints:
    """Return the RPO of every tenant [µs]."""
    made = limits(given, tenants)
    one = not isinstance(given, Mapping | pd.Series)
    if (made <= 0).any() or (one and not as_duration(given, "rpo")):
        raise ValueError(f"rpo must be above zero, not {given!r}")
    return made


def _period(given: Duration | None, name: str) -> int:
    """Return a period; `NAT`: none is given [µs]."""
    if given is None:
        return NAT
    made = micro(as_duration(given, name))
    if not 0 < made <= _CENTURY * DAY:
        raise ValueError(f"{name} must be above zero and up to 100 years, not {given!r}")
    return made


def _days(given: Any) -> int:  # noqa: ANN401
    """Return a recovery window [µs]."""
    number = isinstance(given, int | float | np.number) and not isinstance(given, bool)
    if not number or not 0 < given <= _CENTURY:
        raise ValueError(f"retention_days must be days above zero, not {given!r}")
    return max(round(float(given) * DAY), 1)


def _prices(given: Any) -> Any:  # noqa: ANN401 - a price, prices by storage class, or None
    """Return prices that are numbers."""
    if given is None:
        return None
    several = isinstance(given, Mapping | pd.Series)
    table = dict(given.items()) if several else {"": given}
    for key, value in table.items():
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not 0 <= value < np.inf:
            whose = f" of {key!r}" if several else ""
            raise ValueError(
                f"price_per_gib_month{whose} must be a number zero or more, not {value!r}"
            )
    return table if several else float(given)


def _money(found: _Found, price: Any) -> Any:  # noqa: ANN401 - arrays
    """Return what each tenant's GiB cost a month at each instant; NaN without a price."""
    if not isinstance(price, dict):
        return found.stored.sum(axis=1) * (np.nan if price is None else price)
    there = found.stored.any(axis=(0, 2))
    pairs = zip(found.classes, there, strict=True)
    each = [price.get(name, np.nan if some else 0.0) for name, some in pairs]
    return np.einsum("nct,c->nt", found.stored, np.array(each))


def _mean(values: Any) -> Any:  # noqa: ANN401 - arrays
    """Return the mean of every row; NaN of nothing."""
    return values.mean(axis=1) if values.shape[1] else np.full(len(values), np.nan)


# --- what comes of it ----------------------------------------------------------------------------


def _seen_to_go(held: Held) -> Ints:
    """Return the recovery window that each tenant's sets went by; `NAT`: none was seen to go."""
    width = len(held.shelves.classes)
    made = np.full(len(held.shelves.tenants), NAT)
    base = Rule(held, np.zeros(len(held.shelves.there), np.int64)).goes
    some = np.flatnonzero((held.gone != NEVER) & (base != NEVER) & (held.gone > base))
    if len(some):
        stayed = pd.Series(held.gone[some] - base[some]).groupby(held.shelf[some] // width).median()
        # It is found gone a while after it went.
        window = stayed.to_numpy(np.int64)
        made[stayed.index] = np.where(window >= DAY, window // DAY * DAY, window)
    return made


def _with_expiry(sets: BackupSets, held: Held, windows: Ints) -> BackupSets:
    """Return sets with when the rule lets them go, where that can take what is of use.

    The server counts a full that is done, of use or not; behind one that is of use, what goes is
    older than what is there.
    """
    frame, validity = held.frame, held.frame["validity"].array
    valid = [str(each).strip().upper() == "VALID" for each in validity.categories]
    sound = np.array([*valid, False])[validity.codes] & frame["checkpoint"].notna().to_numpy()
    is_full = frame["full"].array.to_numpy(dtype=bool, na_value=False)
    if not (is_full & frame["state"].eq("done").to_numpy() & ~sound).any():
        return sets
    goes = np.full(len(frame), NAT)
    when = Rule(held, windows).goes
    goes[held.rows] = np.where(when == NEVER, NAT, when)
    return replace(sets, tenants=frame.assign(gone_time=times(goes, frame.index)))


def _restores(sets: BackupSets, as_of: Instant | None, count: int) -> tuple[Ints, Any]:
    """Return the most sets a restore of each tenant needs, and the GiB that its newest does."""
    scene = scene_of(sets, None, None, as_of)
    chain, restore = np.zeros(count, np.int64), np.full(count, np.nan)
    sizes = scene.known.tenants["size_gib"].to_numpy(np.float64)
    now = NAT if scene.known.as_of is None else micro(scene.known.as_of)
    for view in scene.views():
        chains, first = view.certain, view.part.first
        size = np.where(chains.links, sizes[view.part.row], 0.0)
        links, base = np.cumsum(chains.links), chains.mark >> 1
        good = np.flatnonzero(chains.restorable)
        np.maximum.at(chain, chains.group[good] + first, (links - links[base] + 1)[good])
        total, lacks = np.cumsum(parts(size)), np.cumsum(np.isnan(size))
        which = newest_at(view, chains, now)[2]
        mine = np.flatnonzero(which >= 0)
        last = which[mine]
        low = base[last] - 1
        before, none = (np.where(low >= 0, e[low], 0) for e in (total, lacks))
        needs = gib(total[last] - before)
        restore[mine + first] = np.where(lacks[last] > none, np.nan, needs)
    return chain, restore
