"""Tell when backups are due, by a given schedule or an inferred cadence, and which were missed."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.cadence import LEAST
from obanalytics.clock import (
    ANY,
    DAY,
    FULL,
    HOUR,
    MINUTE,
    MODES,
    WEEK,
    Regime,
    clock_of,
    cron_slots,
    rules_of,
    zone_of,
)
from obanalytics.curve import micro, scene_of, who
from obanalytics.presence import lives_of
from obanalytics.recovery import NAT, NEVER, integers, labels, spans, times
from obanalytics.schema import as_duration, as_instant
from obanalytics.slots import (
    EARLY,
    GRACE,
    ORIGINS,
    OUTCOMES,
    Missed,
    Plan,
    ask_of,
    filled,
    missed_in,
    plans_of,
)

if TYPE_CHECKING:
    from obanalytics.clock import Rule
    from obanalytics.curve import Scene, View
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import BackupSets, Duration, Instant

    Given = Any

__all__ = ["MODES", "Missed", "missed_in", "missed_runs", "schedule", "schedule_compliance"]

_MET, _LATE, _MISSED, _PENDING = range(len(OUTCOMES))
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BETWEEN = "; "  # cron texts in one cell

SCHEDULE = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("mode", "category"),
    ("origin", "category"),
    ("since", "instant"),
    ("until", "instant"),
    ("every", "span"),
    ("weekdays", "string"),
    ("hour", "float64"),
    ("dispersion", "span"),
    ("runs", "int64"),
    ("confidence", "float64"),
    ("cron", "string"),
    ("tz", "string"),
)
SLOTS = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("mode", "category"),
    ("slot", "instant"),
    ("outcome", "category"),
    ("delay", "span"),
    ("backup_set_id", "string"),
    ("attempts", "int64"),
    ("origin", "category"),
)
SUMS = (
    ("instance_id", "category"),
    ("tenant_id", "category"),
    ("tenant_name", "category"),
    ("mode", "category"),
    ("expected", "int64"),
    ("met", "int64"),
    ("late", "int64"),
    ("missed", "int64"),
    ("pending", "int64"),
    ("available", "int64"),
    ("share_met", "float64"),
    ("longest_missed", "int64"),
    ("longest_missed_start", "instant"),
)


def schedule(
    sets: BackupSets | pd.DataFrame,
    given: Given = None,
    *,
    tz: str = "UTC",
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Tell by which cadence every tenant is backed up: inferred from its runs, or as it is given.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    given : str, timedelta, list of str, mapping, or None
        The schedule of all tenants; None infers each tenant's own. A cron text of five fields
        (``"0 2 * * 6"``), several of them, or a duration (``"7D"``, ``"12h"``: slots so far apart,
        from the tenant's first run of that mode on); or these by mode, ``{"full": "7D",
        "incremental": "1D"}``: a mode that is left out owes nothing. Without modes, and for
        ``any``, a run of any mode fills a slot; one for an incremental is filled by a full, too.
    tz : str
        The zone whose clocks cron texts mean, and whose weekdays and hours are told. Durations of
        whole days are days of its calendar: the hour of the wall clock stays the same.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per tenant, mode and cadence: `instance_id`, `tenant_id`, `tenant_name`, `mode`
        (category: inferred are `any`, of all runs, and `full`), `origin` (category: `inferred`,
        `given`), `since`, `until` [UTC; its first and last slot, NA while it holds], `every`
        [timedelta; the median interval, or the nice period within 2 % of it; NA with fewer than 3
        runs], `weekdays` (such as ``Mon Thu``; ``daily`` where it is no matter of weekdays), `hour`
        (the slots' median hour of the wall clock; NA where there are several a day), `dispersion`
        [timedelta; 1.4826 times the median absolute distance of the starts from their slots],
        `runs` (int64), `confidence` (0 to 1), `cron` (a text for it, several joined by ``; ``; NA
        where there is none), `tz` (of the cron text: the zone, or UTC where only that fits).

    Raises
    ------
    ValueError
        When a schedule or the zone cannot be read; it names the value.

    Notes
    -----
    Every run that was begun counts, failed or not, but not those by hand (unless all are): a
    failure is no change of cadence. `confidence` is the share of steps from a run to one of a later
    slot that lead to the very next slot and are within 20 % of the distance between the two;
    with fewer than 5 runs it is multiplied by (runs - 1) / 4, with fewer than 3 it is zero. Of a
    tenant with more than 31 runs in an even cadence the medians are those of 31, evenly spread. A
    new cadence needs three intervals in a row that agree on it (within 20 %), a new hour the same;
    one at the same times of every week more than three weeks. An outage is no new cadence.
    """
    scene = scene_of(sets, None, None, as_of)
    rules = None if given is None else rules_of(given)
    zone_of(tz)
    rows: list[_Row] = []
    newest = []
    for view in scene.views():
        newest.append(view.newest_row)
        rows += _inferred(view, tz) if rules is None else _given(view, rules, tz)
    return _schedule_table(scene, newest, rows)


class _Row:
    """A row of the schedule: whose, of which mode, which cadence, and what is told of it."""

    __slots__ = ("cron", "every", "hour", "mode", "regime", "tenant", "weekdays")

    def __init__(self, tenant: int, mode: int, regime: Regime) -> None:
        self.tenant, self.mode, self.regime = tenant, mode, regime
        known = regime.given or regime.runs >= LEAST
        self.every = regime.every if known and regime.every > 0 else NAT
        self.weekdays, self.hour, self.cron = None, np.nan, None
        if self.every != NAT or regime.crons:
            since = None if regime.since == NAT else int(_wall(regime.tz, regime.since))
            told = _told(regime.crons, regime.every, None if since is None else since % WEEK)
            self.weekdays, self.hour, self.cron = told
            if regime.given and not regime.crons:
                self.cron = None
            if since is not None and not regime.crons and regime.every % DAY == 0:
                self.hour = since % DAY / HOUR


def _wall(tz: str, at: int) -> int:
    """Return what the clocks on the wall show at an instant [µs]."""
    return int(clock_of(tz, at, at).wall(np.array([at]))[0])


@lru_cache(maxsize=4096)
def _told(crons: tuple[str, ...], every: int, since: int | None) -> tuple[Any, float, Any]:
    """Return weekdays, hour and cron text of a cadence; `since` counts from a Thursday [µs]."""
    if crons:
        week = cron_slots(crons, "UTC", 52 * WEEK, 104 * WEEK)
        days = sorted(set(((week // DAY + 3) % 7).tolist()))
        times_of_day = np.sort(week % DAY)
        many = len(np.unique(week // DAY)) < len(week)
        hour = np.nan if many else float(times_of_day[(len(week) - 1) // 2] / HOUR)
        return _days(days), hour, _BETWEEN.join(crons)
    if since is None:
        return None, np.nan, None
    minute, hour = since // MINUTE % 60, since // HOUR % 24
    weekday = (since // DAY + 3) % 7
    text = None
    if every == DAY:
        text = f"{minute} {hour} * * *"
    elif every == WEEK:
        text = f"{minute} {hour} * * {(weekday + 1) % 7}"
    elif every >= HOUR and every % HOUR == 0 and DAY % every == 0:
        step = every // HOUR
        hours = "*" if step == 1 else ",".join(map(str, range(hour % step, 24, step)))
        text = f"{minute} {hours} * * *"
    elif HOUR % every == 0 and every % MINUTE == 0:
        step = every // MINUTE
        text = f"{','.join(map(str, range(minute % step, 60, step)))} * * * *"
    return _days([weekday] if every % WEEK == 0 else list(range(7))), np.nan, text


def _days(days: list[int]) -> str:
    """Return weekdays as a text."""
    return "daily" if len(days) == len(_WEEKDAYS) else " ".join(_WEEKDAYS[day] for day in days)


def _inferred(view: View, tz: str) -> list[_Row]:
    """Return the inferred cadences of some tenants."""
    count, first = view.part.count, view.part.first
    zero = np.zeros(count, np.int64)
    ask = ask_of(view, (zero, zero, EARLY), tz, forced=None)
    rows: list[_Row] = []
    if ask is None:
        return rows
    for mode in (ANY, FULL):
        plan = Plan(view, mode, ask)
        regimes = plan.infer(np.ones(count, bool))
        grids = plan.grids
        plan.close()
        since = plan.instants(np.arange(count), grids.first)
        since = np.where(grids.runs > 0, since, NAT)
        columns = (since, grids.every, grids.dispersion, grids.runs, grids.confidence)
        utc = bool(len(ask.clock.at)) & ~grids.local
        whole = zip(*(each.tolist() for each in (*columns, utc)), strict=True)
        for tenant, (at, every, spread, runs, sure, by_utc) in enumerate(whole):
            spread_ = spread if runs >= LEAST else NAT
            one = Regime(at, NEVER, every, spread_, runs, sure, "UTC" if by_utc else tz)
            each = regimes.get(tenant, [one])
            rows += [_Row(first + tenant, mode, regime) for regime in each]
    return rows


def _given(view: View, rules: dict[int, Rule], tz: str) -> list[_Row]:
    """Return the given cadence of some tenants, with what their runs make of it."""
    count, rows = view.part.count, []
    until = np.full(count, view.end)
    # The grace is what `missed_runs` takes by itself: what is told can be given to it.
    ask = ask_of(view, (until, np.full(count, GRACE), EARLY), tz, forced=None)
    for plan in [] if ask is None else plans_of(view, [rules] * count, ask):
        rule = rules[plan.mode]
        mine = plan.runs if plan.runs is not None else np.ones(len(plan.group), bool)
        runs = np.bincount(plan.group[mine], minlength=count)
        inside = mine if plan.there is None else mine & plan.there
        off = pd.Series(np.abs(plan.delay[inside])).groupby(plan.group[inside]).median()
        spread = (1.4826 * off.reindex(range(count))).round()
        every = rule.every
        if rule.crons:
            year = np.diff(cron_slots(rule.crons, "UTC", 52 * WEEK, 157 * WEEK))
            every = int(np.sort(year)[(len(year) - 1) // 2]) if len(year) else 0
        owed = plan.high > plan.low
        since = np.where(owed, plan.instants(np.arange(count), plan.low), NAT)
        whole = zip(since.tolist(), spread.tolist(), runs.tolist(), strict=True)
        for tenant, (at, wide, many) in enumerate(whole):
            wide_ = NAT if wide != wide else int(wide)  # noqa: PLR0124 - NaN
            one = Regime(at, NEVER, every, wide_, many, 1.0, tz, rule.crons, given=True)
            rows.append(_Row(view.part.first + tenant, plan.mode, one))
    return rows


def _schedule_table(scene: Scene, newest: list[Ints], rows: list[_Row]) -> pd.DataFrame:
    """Make the table of cadences."""
    rows = sorted(rows, key=lambda row: (row.tenant, row.mode, row.regime.since))
    regimes = [row.regime for row in rows]
    made = who(scene, newest).take(np.array([row.tenant for row in rows], np.int64))
    until = _ints(each.until for each in regimes)

    def text(values: Any) -> pd.Series:  # noqa: ANN401 - texts or None
        """Return a column of texts."""
        return pd.Series(list(values), dtype="string")

    columns = {
        "mode": labels(_ints(row.mode for row in rows), MODES),
        "origin": labels(_ints(each.given for each in regimes), ORIGINS),
        "since": times(_ints(each.since for each in regimes)),
        "until": times(np.where(until == NEVER, NAT, until)),
        "every": spans(_ints(row.every for row in rows)),
        "weekdays": text(row.weekdays for row in rows),
        "hour": pd.Series([row.hour for row in rows], dtype="float64"),
        "dispersion": spans(_ints(each.dispersion for each in regimes)),
        "runs": _ints(each.runs for each in regimes),
        "confidence": pd.Series([each.confidence for each in regimes], dtype="float64"),
        "cron": text(row.cron for row in rows),
        "tz": text(each.tz for each in regimes),
    }
    return made.reset_index(drop=True).assign(**columns)[[name for name, _ in SCHEDULE]]


def _ints(values: Any) -> Ints:  # noqa: ANN401 - an iterable of numbers
    """Return numbers as an array."""
    return np.array(list(values), np.int64)


def missed_runs(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    schedule: Given = None,
    *,
    grace: Duration = "2h",
    early: Duration = "1h",
    tz: str = "UTC",
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Say of every slot of the schedule whether it was met, met late, or missed.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    schedule : str, timedelta, list of str, mapping, DataFrame or None
        As `given` in `obanalytics.schedule.schedule`, or what that returned; None: inferred. Of
        inferred cadences only those with 5 runs and a confidence of 0.5 owe slots, and full runs
        none of their own where all runs are full.
    grace : duration
        How long after its slot a run is in time; at most two fifths of the interval. After an
        inferred slot at least four times the dispersion.
    early : duration
        How long before its slot a run fills it; at most two fifths of the interval. An inferred
        slot is filled from a quarter of the interval before it on.
    tz : str
        As in `obanalytics.schedule.schedule`.
    start, end : instant or None
        The half-open window of the slots; None takes that of the facts, and no slot before the
        one of each tenant's first row, or after `as_of` [UTC]. A tenant that the inventory says
        is gone or stopped owes none after its last row.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per slot: `instance_id`, `tenant_id`, `tenant_name`, `mode` (category), `slot` [UTC],
        `outcome` (category: `met`, `late`, `missed`, `pending`), `delay` [timedelta; the start
        after the slot; NA where nothing filled it], `backup_set_id` (the first usable set that did
        so), `attempts` (int64, sets of the slot that are not usable), `origin` (category).

    Raises
    ------
    ValueError
        When a schedule, a duration or the zone cannot be read, or the window ends before it starts.

    Notes
    -----
    A set can be restored, or was until it expired, to be usable. ``met``: one began between
    ``slot - early`` and ``slot + grace``; ``late``: later, but before the next slot opens;
    ``missed``: none did; ``pending``: none did so far, and ``slot + grace`` is after `as_of`, or
    the tenant's newest run was begun for it, goes on, and nothing is known of a later slot.
    """
    scene, newest, whole, _ = _slots(sets, schedule, (grace, early, tz), (start, end, as_of))
    made = who(scene, newest).take(whole["tenant"]).reset_index(drop=True)
    columns = {
        "mode": labels(whole["mode"], MODES),
        "slot": times(whole["slot"]),
        "outcome": labels(whole["outcome"], OUTCOMES),
        "delay": spans(whole["delay"]),
        "backup_set_id": pd.Series(
            scene.known.tenants["backup_set_id"].array.take(whole["row"], allow_fill=True)
        ),
        "attempts": whole["attempts"],
        "origin": labels(whole["origin"], ORIGINS),
    }
    return made.assign(**columns)[[name for name, _ in SLOTS]]


_COLUMNS = ("tenant", "mode", "slot", "outcome", "delay", "row", "attempts", "origin")


def _slots(
    sets: BackupSets | pd.DataFrame,
    schedule: Given,
    how: tuple[Duration, Duration, str],
    when: tuple[Instant | None, Instant | None, Instant | None],
) -> tuple[Scene, list[Ints], dict[str, Ints], list[tuple[Ints, ...]]]:
    """Return the slots of all tenants as numbers, and of each mode how many points there are."""
    start, end, as_of = when
    scene = scene_of(sets, start, end, as_of)
    grace, early = (
        micro(as_duration(each, name)) for each, name in zip(how, ("grace", "early"), strict=False)
    )
    zone_of(how[2])
    wanted = _wanted(scene, schedule, how[2])
    until = lives_of(scene, sets).until  # who is gone or stopped owes nothing any more
    forced = None if start is None else micro(as_instant(start, "start"))
    parts: list[tuple[Ints, ...]] = []
    points: list[tuple[Ints, ...]] = []
    newest = []
    for view in scene.views():
        count, first = view.part.count, view.part.first
        newest.append(view.newest_row)
        owed = np.minimum(until[first : first + count], view.end)
        limits = owed, np.full(count, grace), early
        ask = ask_of(view, limits, how[2], forced=forced)
        for plan in [] if ask is None else plans_of(view, wanted[first : first + count], ask):
            parts.append(_rows(plan))
            points.append(_points(plan))
    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
    whole = columns or [np.zeros(0, np.int64)] * len(_COLUMNS)
    by = np.lexsort((whole[2], whole[1], whole[0]))
    table = {name: each[by] for name, each in zip(_COLUMNS, whole, strict=True)}
    return scene, newest, table, points


def _rows(plan: Plan) -> tuple[Ints, ...]:
    """Return every slot of a plan."""
    many = plan.high - plan.low
    base = np.cumsum(many) - many - plan.low
    group = np.repeat(np.arange(len(many)), many)
    number = np.arange(len(group)) - base[group]
    slot = plan.instants(group, number)
    good, over = filled(plan, plan.high)
    at = base[plan.group[good]] + plan.number[good]
    by = np.full(len(group), -1)
    by[at] = good
    outcome = np.where(number < plan.decided[group], _MISSED, _PENDING)
    outcome[at] = np.where(over, _LATE, _MET)
    delay = np.full(len(group), NAT)
    delay[at] = plan.start[good] - slot[at]
    bad = np.flatnonzero(~plan.usable if plan.there is None else ~plan.usable & plan.there)
    whose, place = plan.group[bad], plan.number[bad]
    inside = (place >= plan.low[whose]) & (place < plan.high[whose])
    attempts = np.bincount((base[whose] + place)[inside], minlength=len(group))
    row = plan.view.part.rows_of(plan.numbers(by))
    given = plan.given[group].astype(np.int64)
    mode = np.full(len(group), plan.mode)
    return group + plan.view.part.first, mode, slot, outcome, delay, row, attempts, given


def _points(plan: Plan) -> tuple[Ints, ...]:
    """Return tenants, mode, and how many restorable sets were begun in the window."""
    view, count = plan.view, len(plan.low)
    good = view.certain.restorable[plan.sets] & (plan.start < view.end)
    good &= plan.start >= view.begin[plan.group]
    points = np.bincount(plan.group[good], minlength=count)
    told = np.flatnonzero(plan.asked)
    return told + view.part.first, np.full(len(told), plan.mode), points[told]


def _wanted(scene: Scene, schedule: Given, tz: str) -> list[Any]:
    """Return what is wanted of each tenant, as `plans_of` takes it."""
    count = len(scene.tenants)
    if not isinstance(schedule, pd.DataFrame):
        return [None if schedule is None else rules_of(schedule)] * count
    if missing := [name for name, _ in SCHEDULE if name not in schedule.columns]:
        raise ValueError(
            f"schedule lacks the columns {', '.join(missing)} (expected: a frame that "
            "obanalytics.schedule returned)"
        )
    found: dict[tuple[str, str], dict[int, list[Regime]]] = {}
    ints = {name: integers(schedule[name]) for name in ("since", "until", "every", "dispersion")}
    texts = schedule[["instance_id", "tenant_id", "mode", "origin", "weekdays", "cron", "tz"]]
    sure = schedule[["runs", "confidence"]].fillna(0)
    columns = (*ints.values(), sure["runs"].to_numpy(), sure["confidence"].to_numpy())
    for row, numbers in zip(texts.itertuples(index=False), zip(*columns, strict=True), strict=True):
        since, until, every, spread, runs, confidence = numbers
        given = row.origin == ORIGINS[1]
        crons = () if pd.isna(row.cron) else tuple(row.cron.split(_BETWEEN))
        week = "" if pd.isna(row.weekdays) else row.weekdays
        uneven = len(crons) > 1 or 1 < len(week.split()) < len(_WEEKDAYS)
        crons = crons if given or uneven else ()
        zone = tz if pd.isna(row.tz) else row.tz
        one = Regime(
            int(since),
            NEVER if until == NAT else int(until),
            int(every),
            max(int(spread), 0),
            int(runs),
            float(confidence) if every != NAT else 0.0,
            zone,
            crons,
            given,
        )
        modes = found.setdefault((row.instance_id, row.tenant_id), {})
        modes.setdefault(MODES.index(row.mode), []).append(one)
    whose = zip(scene.tenants["instance_id"], scene.tenants["tenant_id"], strict=True)
    return [found.get(key, {}) for key in whose]


def schedule_compliance(  # noqa: PLR0913 - the question has that many parts
    sets: BackupSets | pd.DataFrame,
    schedule: Given = None,
    *,
    grace: Duration = "2h",
    early: Duration = "1h",
    tz: str = "UTC",
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Sum up how every tenant kept to its schedule.

    Parameters
    ----------
    sets, schedule, grace, early, tz, start, end, as_of
        As in `missed_runs`.

    Returns
    -------
    DataFrame
        A row per tenant and mode: `instance_id`, `tenant_id`, `tenant_name`, `mode` (category),
        `expected` (slots of which it is known what became of them), `met`, `late`, `missed` (they
        add up to it), `pending`, `available` (int64; restorable sets of the mode begun in the
        window), `share_met` (met / expected; NA where nothing was expected), `longest_missed`
        (int64; the most missed slots in a row), `longest_missed_start` [UTC; the first of them].

    Raises
    ------
    ValueError
        As `missed_runs`.
    """
    scene, newest, whole, points = _slots(sets, schedule, (grace, early, tz), (start, end, as_of))
    heads = [np.concatenate(each) for each in zip(*points, strict=True)]
    tenant, mode, available = heads or [np.zeros(0, np.int64)] * 3
    by = np.lexsort((mode, tenant))
    tenant, mode, available = tenant[by], mode[by], available[by]
    width = len(MODES)
    place = np.searchsorted(tenant * width + mode, whole["tenant"] * width + whole["mode"])
    counts = np.zeros((len(OUTCOMES), len(tenant)), np.int64)
    np.add.at(counts, (whole["outcome"], place), 1)
    longest, since = _longest(place, whole["outcome"] == _MISSED, whole["slot"], len(tenant))
    expected = counts[:_PENDING].sum(axis=0)
    share = np.where(expected > 0, counts[_MET] / np.maximum(expected, 1), np.nan)
    columns = {
        "mode": labels(mode, MODES),
        "expected": expected,
        **dict(zip(OUTCOMES, counts, strict=True)),
        "available": available,
        "share_met": share,
        "longest_missed": longest,
        "longest_missed_start": times(since),
    }
    made = who(scene, newest).take(tenant).reset_index(drop=True).assign(**columns)
    return made[[name for name, _ in SUMS]]


def _longest(place: Ints, missed: Bools, slot: Ints, count: int) -> tuple[Ints, Ints]:
    """Return the longest run of missed slots of each row, and when it began."""
    begins = missed & np.append([True], (place[1:] != place[:-1]) | ~missed[:-1])[: len(place)]
    heads = np.flatnonzero(begins)
    run = np.cumsum(begins)[missed] - 1
    length = np.bincount(run, minlength=len(heads))
    # The longest last; of equal ones the first.
    by = np.lexsort((-heads, length))
    longest, since = np.zeros(count, np.int64), np.full(count, NAT)
    longest[place[heads[by]]] = length[by]
    since[place[heads[by]]] = slot[heads[by]]
    return longest, since
