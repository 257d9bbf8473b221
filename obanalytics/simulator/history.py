"""Make seeded backup histories in the API's own format, with the truth beside them."""

from __future__ import annotations

import datetime as dt
import math
import random
from dataclasses import dataclass, field
from typing import Any

from obanalytics.simulator.rows import row, stamp

DAY = dt.timedelta(days=1)
FULL, INCREMENTAL = "FULL_BACKUP", "INCREMENTAL_BACKUP"
# Only BACKUP_NOW is documented; what a scheduled run carries is not known, so this is invented.
SCHEDULED, BY_HAND = "SCHEDULED", "BACKUP_NOW"
_TO_ONE_TENANT = ("created", "dropped", "renamed")
_TO_RUNS = ("silent", "missing", "failed", "invalid", "stuck", "slower", "step", "anomaly")
PLANTS = (*_TO_ONE_TENANT, *_TO_RUNS, "orphaned", "by_hand", "running", "log_break")
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAMES = ("orders", "billing", "catalog", "identity", "metrics", "archive", "search", "ledger")


@dataclass(frozen=True)
class Plant:
    """A fault to plant.

    Parameters
    ----------
    kind : str
        ``silent`` (no runs), ``missing`` (the tenant is in no set), ``failed`` (the tenant's, or
        without one the cluster's, runs fail), ``invalid`` (done, but not valid), ``stuck`` (a run
        takes `factor` times as long), ``slower`` (throughput divided by `factor` from then on),
        ``step`` (size times `factor` from then on), ``anomaly`` (size times `factor`, those days),
        ``orphaned`` (its full sets of those days are gone from the list; their incrementals are
        not), ``created``, ``dropped``, ``renamed`` (the tenant, then), ``by_hand`` (one more full
        run),
        ``running`` (the newest run is not finished), ``log_break`` (no log of those days).
    instance : int
        Which instance, from 0.
    tenant : int or None
        Which of its tenants, from 0; None means all of them.
    days_ago : float
        When it begins, before now [days].
    days : float
        How long it lasts [days].
    factor : float
        See `kind`.
    """

    kind: str
    instance: int = 0
    tenant: int | None = None
    days_ago: float = 30.0
    days: float = 1.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what would plant nothing."""
        if self.kind not in PLANTS:
            raise ValueError(f"no plant {self.kind!r}; there is: {', '.join(PLANTS)}")
        if self.kind in _TO_ONE_TENANT and self.tenant is None:
            raise ValueError(f"{self.kind} happens to one tenant: say which")


@dataclass(frozen=True)
class Planted:
    """A planted fault, as it came out: the truth that an analysis should find.

    Parameters
    ----------
    kind : str
        The plant's kind.
    instance_id : str
        The instance.
    tenant_id : str or None
        The tenant; None where it is all of them.
    start, end : datetime
        When it held [UTC].
    backup_set_ids : tuple of str
        The tenant (else cluster) sets that it touched.
    factor : float
        How strong it is.
    """

    kind: str
    instance_id: str
    tenant_id: str | None
    start: dt.datetime
    end: dt.datetime
    backup_set_ids: tuple[str, ...]
    factor: float


@dataclass(frozen=True)
class Scenario:
    """What to simulate.

    Parameters
    ----------
    now : datetime
        The end of the history [UTC].
    seed : int
        The same seed makes the same history.
    days : int
        How long the history is [days].
    instances, tenants : int
        How many clusters, and tenants in each.
    full_every : int
        Days from one full run to the next [days].
    growth_per_30d : tuple of float
        Range of the tenants' growth in 30 days, as a share.
    noise : float
        Standard deviation of log size and log duration.
    season : float
        How much smaller weekends are, as a share.
    retention_days : int or None
        The server's recovery window [days]; None keeps every set.
    plants : tuple of Plant
        The faults.
    """

    now: dt.datetime
    seed: int = 0
    days: int = 365
    instances: int = 1
    tenants: int = 4
    full_every: int = 7
    growth_per_30d: tuple[float, float] = (0.0, 0.06)
    noise: float = 0.03
    season: float = 0.1
    retention_days: int | None = None
    plants: tuple[Plant, ...] = ()


@dataclass
class Tenant:
    """A tenant and the truth about it."""

    tenant_id: str
    name: str
    number: int
    size_gib: float
    growth_per_day: float
    churn: float
    gib_per_hour: float
    created: dt.datetime
    dropped: dt.datetime | None = None
    names: list[tuple[dt.datetime, str]] = field(default_factory=list)

    def name_at(self, moment: dt.datetime) -> str:
        """Return the name it had then."""
        return next((name for since, name in reversed(self.names) if since <= moment), self.name)

    def lives(self, moment: dt.datetime) -> bool:
        """Tell whether it existed then."""
        return self.created <= moment and (self.dropped is None or moment < self.dropped)


@dataclass
class Instance:
    """A cluster, its tenants, and its runs."""

    instance_id: str
    name: str
    tenants: list[Tenant]
    hour: float
    full_weekday: int
    runs: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class History:
    """A simulated fleet.

    Parameters
    ----------
    scenario : Scenario
        What was asked for.
    instances : list of Instance
        The clusters with their runs.
    truth : list of Planted
        The faults as they came out.
    """

    scenario: Scenario
    instances: list[Instance]
    truth: list[Planted]

    @property
    def now(self) -> dt.datetime:
        """The end of the history [UTC]."""
        return self.scenario.now

    def instance(self, instance_id: str) -> Instance | None:
        """Return an instance by its id, or None.

        Parameters
        ----------
        instance_id : str
            The id.

        Returns
        -------
        Instance or None
            The cluster.
        """
        return next((each for each in self.instances if each.instance_id == instance_id), None)

    def sets(self, instance_id: str, at: dt.datetime | None = None) -> list[dict[str, Any]]:
        """Return what the API lists of an instance at an instant, newest first.

        Parameters
        ----------
        instance_id : str
            The instance.
        at : datetime or None
            The instant [UTC]; None is the end of the history.

        Returns
        -------
        list of dict
            The top-level rows: what started later is not there, what runs looks it, what expired
            is gone.
        """
        instance = self.instance(instance_id)
        moment = self.now if at is None else at
        runs = [run for run in (instance.runs if instance else []) if run["start"] <= moment]
        gone = expired(runs, moment, self.scenario.retention_days)
        return [row(run, moment) for run in reversed(runs) if run["id"] not in gone]

    def restorable(self, instance_id: str, at: dt.datetime | None = None) -> list[dict[str, Any]]:
        """Return the rows of the list of restorable tenants at an instant.

        Parameters
        ----------
        instance_id : str
            The instance.
        at : datetime or None
            The instant [UTC]; None is the end of the history.

        Returns
        -------
        list of dict
            A row per tenant, with `timeIntervalList`.
        """
        moment = self.now if at is None else at
        rows = self.sets(instance_id, moment)
        instance = self.instance(instance_id)
        return [
            {
                "tenantId": tenant.tenant_id,
                "tenantName": tenant.name_at(moment),
                "tenantMode": "MySQL",
                "status": "ONLINE",
                "obVersion": "4.3.5.3",
                "timeIntervalList": [
                    {"startTime": stamp(a), "endTime": stamp(b), "storageType": "standard"}
                    for a, b in self._intervals(instance_id, tenant, rows, moment)
                ],
            }
            for tenant in (instance.tenants if instance else [])
        ]

    def _intervals(
        self, instance_id: str, tenant: Tenant, rows: list[dict[str, Any]], moment: dt.datetime
    ) -> list[tuple[dt.datetime, dt.datetime]]:
        """Return from the first good full to two minutes ago, less the breaks of the log."""
        good = [
            dt.datetime.fromisoformat(child["checkpoint"])
            for row in rows
            for child in row["tenantBackupSetList"]
            if child["tenantId"] == tenant.tenant_id
            and (child["status"], child["validity"]) == ("DONE", "VALID")
            and child["dataBackupMode"] == FULL
        ]
        if not good:
            return []
        last = min(moment, tenant.dropped or moment) - dt.timedelta(minutes=2)
        intervals, begin = [], min(good)
        here = [t for t in self.truth if t.kind == "log_break" and t.instance_id == instance_id]
        breaks = [t for t in here if t.tenant_id in {None, tenant.tenant_id}]
        for each in sorted(breaks, key=lambda t: t.start):
            if begin < each.end and each.start < last:
                if begin < each.start:
                    intervals.append((begin, each.start))
                # After a break only the next good full can be restored to.
                begin = min((c for c in good if c > each.end), default=last)
        return [*intervals, (begin, last)] if begin < last else intervals


def simulate(scenario: Scenario) -> History:
    """Make a history.

    Parameters
    ----------
    scenario : Scenario
        What to simulate.

    Returns
    -------
    History
        The fleet, its runs and the truth about it.
    """
    instances = [_instance(scenario, number) for number in range(scenario.instances)]
    touched: dict[int, list[str]] = {number: [] for number in range(len(scenario.plants))}
    for number, instance in enumerate(instances):
        _change_tenants(scenario, number, instance)
        _run_all(scenario, number, instance, touched)
    truth = []
    for number, plant in enumerate(scenario.plants):
        instance = instances[plant.instance]
        begin = scenario.now - plant.days_ago * DAY
        tenant = None if plant.tenant is None else instance.tenants[plant.tenant].tenant_id
        lasting = plant.kind in {"slower", "step", "created", "dropped", "renamed", "running"}
        end = scenario.now if lasting else begin + plant.days * DAY
        ids = tuple(dict.fromkeys(touched[number]))
        truth.append(
            Planted(plant.kind, instance.instance_id, tenant, begin, end, ids, plant.factor)
        )
    return History(scenario, instances, truth)


def demo(now: dt.datetime, seed: int = 7) -> History:
    """Make the history that the demonstration and the bundled sample show.

    Parameters
    ----------
    now : datetime
        The end of the history [UTC].
    seed : int
        The same seed makes the same history.

    Returns
    -------
    History
        Three clusters, a year, and one of most things that go wrong.
    """
    plants = (
        Plant("silent", 0, None, 96.2, 4.0),
        Plant("slower", 0, 1, 60.0, 60.0, 1.8),
        Plant("created", 0, 3, 118.0),
        Plant("orphaned", 0, 3, 118.0),
        Plant("missing", 1, 2, 23.2, 9.0),
        Plant("failed", 1, 0, 150.2, 3.0),
        Plant("stuck", 1, None, 200.2, 1.0, 14.0),
        Plant("running", 1, None, 0.02, 0.0),
        Plant("invalid", 2, 1, 44.2, 7.0),
        Plant("dropped", 2, 3, 70.0),
        Plant("step", 2, 0, 180.0, 180.0, 1.6),
        Plant("renamed", 2, 2, 100.0),
        Plant("anomaly", 2, 2, 30.2, 1.0, 0.2),
        Plant("by_hand", 2, None, 12.6, 0.0),
        Plant("log_break", 0, 2, 64.2, 6.0),
    )
    return simulate(Scenario(now, seed, instances=3, tenants=4, plants=plants))


def expired(runs: list[dict[str, Any]], at: dt.datetime, days: int | None) -> set[str]:
    """Return the sets that the server's recovery window lets go.

    Of the sets that ended at or before ``at - days``, from the newest to the oldest: failed ones
    go; the first good full and the incrementals after it stay; whatever is older goes.

    Parameters
    ----------
    runs : list of dict
        Runs with `id`, `end`, `mode` and `status`, oldest first.
    at : datetime
        The instant [UTC].
    days : int or None
        The recovery window [days]; None keeps everything.

    Returns
    -------
    set of str
        The ids that are gone.
    """
    if days is None:
        return set()
    gone: set[str] = set()
    kept_full = False
    for run in sorted(runs, key=lambda each: each["end"], reverse=True):
        if run["end"] > at - days * DAY:
            continue
        if kept_full or run["status"] == "FAILED":
            gone.add(run["id"])
        elif run["mode"] == FULL and run["status"] == "DONE":
            kept_full = True
    return gone


def _word(chance: random.Random, length: int) -> str:
    """Return letters and digits."""
    return "".join(chance.choice(_LETTERS) for _ in range(length))


def _instance(scenario: Scenario, number: int) -> Instance:
    """Make a cluster and its tenants."""
    chance = random.Random(f"{scenario.seed}/{number}")  # noqa: S311 - a seed is the point
    begin = scenario.now - scenario.days * DAY
    tenants = []
    for which in range(scenario.tenants):
        growth = chance.uniform(*scenario.growth_per_30d)
        tenants.append(
            Tenant(
                tenant_id=f"t{_word(chance, 12)}",
                name=_NAMES[which % len(_NAMES)] + (f"_{which}" if which >= len(_NAMES) else ""),
                number=1002 + 2 * which,
                size_gib=chance.uniform(20, 200),
                growth_per_day=math.log1p(growth) / 30,
                churn=chance.uniform(0.02, 0.08),
                gib_per_hour=chance.uniform(150, 400),
                created=begin,
            )
        )
    name = f"{('prod', 'stage', 'report', 'edge')[number % 4]}-{number + 1}"
    hour = chance.choice((18, 19, 20, 21)) + chance.random() / 2
    return Instance(f"ob{_word(chance, 10)}", name, tenants, hour, chance.randrange(7))


def _change_tenants(scenario: Scenario, number: int, instance: Instance) -> None:
    """Create, drop and rename tenants."""
    for plant in scenario.plants:
        if plant.instance != number or plant.tenant is None:
            continue
        tenant, when = instance.tenants[plant.tenant], scenario.now - plant.days_ago * DAY
        if plant.kind == "created":
            tenant.created = when
        elif plant.kind == "dropped":
            tenant.dropped = when
        elif plant.kind == "renamed":
            tenant.names = [(when, f"{tenant.name}_v2")]


def _run_all(
    scenario: Scenario, number: int, instance: Instance, touched: dict[int, list[str]]
) -> None:
    """Run every backup of a cluster."""
    chance = random.Random(f"{scenario.seed}/{number}/runs")  # noqa: S311 - a seed is the point
    midnight = scenario.now.replace(hour=0, minute=0, second=0, microsecond=0)
    plants = [
        (which, plant) for which, plant in enumerate(scenario.plants) if plant.instance == number
    ]
    starts: list[tuple[dt.datetime, str, str]] = []
    for day in range(-scenario.days, 1):
        begin = (
            midnight + day * DAY + dt.timedelta(hours=instance.hour, seconds=chance.randrange(90))
        )
        since = (midnight + day * DAY).toordinal() - instance.full_weekday
        mode = FULL if since % scenario.full_every == 0 else INCREMENTAL
        starts.append((begin, mode, SCHEDULED))
    for which, plant in plants:
        begin = scenario.now - plant.days_ago * DAY
        if plant.kind == "silent":
            starts = [each for each in starts if not begin <= each[0] < begin + plant.days * DAY]
        elif plant.kind == "by_hand":
            starts.append((begin, FULL, BY_HAND))
        elif plant.kind == "running":
            starts.append((begin, INCREMENTAL, SCHEDULED))
        touched[which] += []
    earliest = scenario.now - scenario.days * DAY
    for begin, mode, trigger in sorted(starts):
        if earliest <= begin <= scenario.now:
            run = _run(scenario, instance, plants, (begin, mode, trigger), chance, touched)
            instance.runs.append(run)


def _run(
    scenario: Scenario,
    instance: Instance,
    plants: list[tuple[int, Plant]],
    what: tuple[dt.datetime, str, str],
    chance: random.Random,
    touched: dict[int, list[str]],
) -> dict[str, Any]:
    """Run one backup of a cluster: a set of each of its tenants."""
    begin, mode, trigger = what
    run_id = f"bak-{_word(chance, 12)}"
    here = [
        (which, plant)
        for which, plant in plants
        if (begin - (scenario.now - plant.days_ago * DAY)) / DAY >= 0
    ]
    # A tenant's first set is a full, whatever was asked for.
    children = []
    for position, tenant in enumerate(instance.tenants):
        if not tenant.lives(begin):
            continue
        own_mode = FULL if not _has_full(instance, tenant) else mode
        child = _child(
            scenario, tenant, run_id, begin + dt.timedelta(seconds=12 * position), own_mode
        )
        _noise(scenario, child, tenant, chance)
        missing = False
        for which, plant in here:
            spared = plant.kind == "orphaned" and own_mode != FULL
            if plant.tenant in {None, position} and _hits(scenario, plant, begin) and not spared:
                missing |= plant.kind == "missing"
                _damage(child, plant, tenant)
                touched[which].append(run_id if plant.tenant is None else child["id"])
        if not missing:
            children.append(child)
    end = max((child["end"] for child in children), default=begin + dt.timedelta(minutes=2))
    failed = bool(children) and all(child["status"] == "FAILED" for child in children)
    return {
        "id": run_id,
        "mode": mode,
        "trigger": trigger,
        "start": begin,
        "end": end + dt.timedelta(seconds=25),
        "checkpoint": max((child["checkpoint"] for child in children), default=end),
        "status": "FAILED" if failed else "DONE",
        "children": children,
    }


def _has_full(instance: Instance, tenant: Tenant) -> bool:
    """Tell whether a tenant was in any run so far."""
    return any(c["tenant"] is tenant for run in instance.runs[-3:] for c in run["children"]) or any(
        c["tenant"] is tenant for run in instance.runs for c in run["children"]
    )


def _hits(scenario: Scenario, plant: Plant, begin: dt.datetime) -> bool:
    """Tell whether a plant that has begun still holds for a run."""
    lasting = {"slower", "step"}
    since = (begin - (scenario.now - plant.days_ago * DAY)) / DAY
    return plant.kind in lasting or since < max(plant.days, 1e-9) or plant.kind == "running"


def _child(
    scenario: Scenario, tenant: Tenant, run_id: str, begin: dt.datetime, mode: str
) -> dict[str, Any]:
    """Make a tenant's set, without chance or fault."""
    age = (begin - (scenario.now - scenario.days * DAY)) / DAY
    size = tenant.size_gib * math.exp(tenant.growth_per_day * age)
    if mode == INCREMENTAL:
        saturday = 5
        size *= tenant.churn * (1 - scenario.season * (begin.weekday() >= saturday))
    return {
        "id": f"{run_id}-{tenant.number}",
        "tenant": tenant,
        "mode": mode,
        "start": begin,
        "size": size,
        "slowness": 1.0,
        "status": "DONE",
        "validity": "VALID",
    }


def _noise(
    scenario: Scenario, child: dict[str, Any], tenant: Tenant, chance: random.Random
) -> None:
    """Give a set its chance part, and from its size its duration."""
    child["size"] *= math.exp(chance.gauss(0, scenario.noise))
    child["luck"] = math.exp(chance.gauss(0, scenario.noise * 2))
    _time(child, tenant)


def _time(child: dict[str, Any], tenant: Tenant) -> None:
    """Compute a set's end: two minutes, and its size at the tenant's throughput."""
    hours = child["size"] / tenant.gib_per_hour * child["luck"] * child["slowness"]
    took = dt.timedelta(seconds=round(120 * child["slowness"] + hours * 3600))
    child["end"] = child["start"] + took
    child["checkpoint"] = child["end"] - min(dt.timedelta(seconds=20), took / 4)


def _damage(child: dict[str, Any], plant: Plant, tenant: Tenant) -> None:
    """Do to a set what a plant does."""
    if plant.kind == "failed":
        child["status"] = "FAILED"
    elif plant.kind == "invalid":
        child["validity"] = "INVALID"
    elif plant.kind == "orphaned":
        child["gone"] = True
    elif plant.kind in {"stuck", "slower"}:
        child["slowness"] *= plant.factor
    elif plant.kind in {"step", "anomaly"}:
        child["size"] *= plant.factor
    elif plant.kind == "running":
        child["slowness"] *= 1000
    _time(child, tenant)
