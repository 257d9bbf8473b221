"""Small histories for the tests of findings, and a slow second way to restore points and gaps.

Nothing here is taken from the analyses; an hour is the unit of time of what is made by hand.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd
from histories import T0, at

from obanalytics.findings import findings
from obanalytics.frames import STATES, conform, empty
from obanalytics.schema import BackupSets, Window

if TYPE_CHECKING:
    from obanalytics.policy import Policy

H = dt.timedelta(hours=1)


# --- facts made by hand --------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A tenant's set; of what is done, `end` is an hour after the start unless it is said."""

    start: float | None
    tenant: str = "t0"
    full: bool | None = True
    state: str = "done"
    end: Any = ...
    checkpoint: Any = ...
    validity: Any = ...
    size: float | None = 1.0
    id: str = ""
    cluster: str = ""
    instance: str = "ob1"
    name: str | None = None
    trigger: str | None = "AUTO"
    storage: str | None = "standard"
    kind: str = "TENANT"
    downloadable: bool | None = None
    inside: bool = True
    gone: float | None = None

    def settled(self) -> Row:
        """Return it with everything that was left open."""
        start, end, checkpoint, validity = self.start, self.end, self.checkpoint, self.validity
        if end is ...:
            end = None if self.state == "running" or start is None else start + 1
        if checkpoint is ...:
            checkpoint = end if self.state == "done" else None
        if validity is ...:
            validity = "VALID" if self.state == "done" else None
        cluster = self.cluster or f"c{start}"
        return replace(
            self,
            end=end,
            checkpoint=checkpoint,
            validity=validity,
            cluster=cluster,
            id=self.id or f"{self.tenant}@{start:g}",
            name=self.tenant if self.name is None else self.name,
        )


@dataclass(frozen=True)
class Cluster:
    """A cluster set, where it is not what its tenants' sets make of it."""

    id: str
    start: float
    state: str = "done"
    end: float | None = None
    size: float | None = None
    instance: str = "ob1"
    trigger: str | None = "AUTO"
    storage: str | None = "standard"
    inside: bool = True


@dataclass(frozen=True)
class Listed:
    """A row of the inventory."""

    tenant: str | None = "t0"
    instance: str = "ob1"
    status: str | None = "ONLINE"
    instance_status: str | None = "ONLINE"
    instance_name: str | None = None
    created: float | None = None


def times(values: list[Any]) -> Any:
    return pd.Series([at(value) for value in values], dtype="datetime64[us, UTC]")


def tenants(rows: list[Row]) -> pd.DataFrame:
    rows = [row.settled() for row in rows]
    if not rows:
        return empty("tenants")
    made: dict[str, Any] = {
        "instance_id": [row.instance for row in rows],
        "cluster_backup_set_id": pd.array([row.cluster for row in rows], dtype="string"),
        "backup_set_id": [row.id for row in rows],
        "tenant_id": [row.tenant for row in rows],
        "tenant_name": [row.name for row in rows],
        "full": pd.array([row.full for row in rows], dtype="boolean"),
        "state": pd.Categorical([row.state for row in rows], categories=list(STATES)),
        "validity": [row.validity for row in rows],
        "start_time": times([row.start for row in rows]),
        "end_time": times([row.end for row in rows]),
        "checkpoint": times([row.checkpoint for row in rows]),
        "size_gib": pd.Series([row.size for row in rows], dtype="float64"),
        "trigger_mode": [row.trigger for row in rows],
        "backup_object_type": [row.kind for row in rows],
        "storage_class": [row.storage for row in rows],
        "download_enabled": pd.array([row.downloadable for row in rows], dtype="boolean"),
        "in_window": [row.inside for row in rows],
    }
    if any(row.gone is not None for row in rows):
        made["gone_time"] = times([row.gone for row in rows])
    return conform(pd.DataFrame(made), "tenants")


def clusters(rows: list[Row], given: tuple[Cluster, ...] = ()) -> pd.DataFrame:
    """Return the cluster sets that the tenants' sets are in: done, unless every set failed."""
    own = {(each.instance, each.id): each for each in given}
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in (each.settled() for each in rows):
        parts.setdefault((row.instance, row.cluster), []).append(row)
    for (instance, name), inside in parts.items():
        if (instance, name) in own:
            continue
        states = {row.state for row in inside}
        state = "running" if "running" in states else states.pop() if len(states) == 1 else "done"
        if state not in {"running", "failed", "cancelled"}:
            state = "done"
        ends = [row.end for row in inside if row.end is not None]
        own[instance, name] = Cluster(
            name,
            min(row.start for row in inside if row.start is not None),
            state,
            None if state == "running" else max(ends, default=None),
            sum(row.size or 0 for row in inside),
            instance,
            inside[0].trigger,
            inside[0].storage,
            inside[0].inside,
        )
    made = list(own.values())
    if not made:
        return empty("clusters")
    count = [len(parts.get((each.instance, each.id), ())) for each in made]
    frame = {
        "instance_id": [each.instance for each in made],
        "backup_set_id": [each.id for each in made],
        "tenant_id": "sys",
        "state": pd.Categorical([each.state for each in made], categories=list(STATES)),
        "start_time": times([each.start for each in made]),
        "end_time": times([each.end for each in made]),
        "size_gib": pd.Series([each.size for each in made], dtype="float64"),
        "trigger_mode": [each.trigger for each in made],
        "storage_class": [each.storage for each in made],
        "tenant_sets": count,
        "in_window": [each.inside for each in made],
    }
    return conform(pd.DataFrame(frame), "clusters")


def inventory(rows: list[Listed]) -> pd.DataFrame:
    made = {
        "instance_id": [each.instance for each in rows],
        "instance_name": pd.array([each.instance_name for each in rows], dtype="string"),
        "instance_status": [each.instance_status for each in rows],
        "tenant_id": [each.tenant for each in rows],
        "tenant_name": pd.array([each.tenant for each in rows], dtype="string"),
        "tenant_status": [each.status for each in rows],
        "created_time": times([each.created for each in rows]),
    }
    return conform(pd.DataFrame(made), "inventory")


def restorable(*rows: tuple[str, float | None, float | None]) -> pd.DataFrame:
    """Return the service's intervals: tenant, from, to."""
    made = {
        "instance_id": ["ob1" for _ in rows],
        "tenant_id": [row[0] for row in rows],
        "start": times([row[1] for row in rows]),
        "end": times([row[2] for row in rows]),
        "storage_class": ["standard" for _ in rows],
    }
    return conform(pd.DataFrame(made), "restorable")


def facts(
    rows: list[Row],
    now: float,
    *,
    extra: tuple[Cluster, ...] = (),
    start: float | None = None,
    listed: list[Listed] | None = None,
    intervals: list[tuple[str, float | None, float | None]] | None = None,
) -> BackupSets:
    """Return backup sets as of an hour."""
    return BackupSets(
        clusters(rows, extra),
        tenants(rows),
        window=None if start is None else Window(at(start), at(now)),
        inventory=None if listed is None else inventory(listed),
        restorable=None if intervals is None else restorable(*intervals),
        as_of=at(now),
    )


def number(value: Any) -> Any:
    """Return a number or an instant [h since T0] without the noise of floats; None for NA."""
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        value = (value - T0) / pd.Timedelta("1h")
    return round(float(value), 6)


@dataclass(frozen=True)
class Found:
    """A finding, as plain values."""

    kind: str
    start: Any
    end: Any
    measured: Any
    limit: Any
    origin: str
    ids: tuple[str, ...]
    certainty: str
    severity: str
    tenant: str | None = "t0"
    instance: str = "ob1"


def found(sets: Any, policy: Policy | None = None, as_of: Any = None) -> list[Found]:
    table = findings(sets, policy, as_of)
    return [
        Found(
            str(row.kind),
            number(row.start),
            number(row.end),
            number(row.measured),
            number(row.limit),
            str(row.limit_origin),
            tuple(row.backup_set_ids),
            str(row.certainty),
            str(row.severity),
            None if pd.isna(row.tenant_id) else str(row.tenant_id),
            str(row.instance_id),
        )
        for row in table.itertuples()
    ]


def kinds(sets: Any, policy: Policy | None = None, as_of: Any = None) -> list[str]:
    """Return the kinds that are found, by number."""
    return sorted(
        (each.kind for each in found(sets, policy, as_of)), key=lambda kind: int(kind[1:])
    )


# --- what the simulator listed, and the second way to gaps ---------------------------------------


@dataclass
class Listing:
    """A tenant's set as the service lists it."""

    id: str
    cluster: str
    start: dt.datetime
    end: dt.datetime | None
    checkpoint: dt.datetime | None
    status: str
    validity: str | None
    full: bool
    size: float
    manual: bool
    usable_from: dt.datetime | None = None


def moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def listed(history: Any, now: dt.datetime) -> dict[tuple[str, str], list[Listing]]:
    """Return what is listed of every tenant at an instant, the oldest first."""
    made: dict[tuple[str, str], list[Listing]] = {}
    for instance in history.instances:
        for top in reversed(history.sets(instance.instance_id, now)):
            for row in top["tenantBackupSetList"]:
                each = Listing(
                    row["backupSetId"],
                    top["backupSetId"],
                    dt.datetime.fromisoformat(row["startTime"]),
                    moment(row["endTime"]),
                    moment(row["checkpoint"]),
                    row["status"],
                    row["validity"],
                    row["dataBackupMode"] == "FULL_BACKUP",
                    row["dataBackupSize"],
                    row["triggerMode"] == "BACKUP_NOW",
                )
                made.setdefault((instance.instance_id, row["tenantId"]), []).append(each)
    for rows in made.values():
        rows.sort(key=lambda each: (each.start, each.id))
        link(rows)
    return made


def link(rows: list[Listing]) -> None:
    """Say from when each set can be restored: an incremental hangs on the done set before it."""
    before: Listing | None = None
    for each in rows:
        if each.status != "DONE":
            continue
        sound = each.validity == "VALID" and each.end is not None and each.checkpoint is not None
        each.usable_from = None
        if sound and each.full:
            each.usable_from = each.end
        elif sound and before is not None and before.usable_from is not None:
            assert each.end is not None
            each.usable_from = max(each.end, before.usable_from)
        before = each


@dataclass(frozen=True)
class Gap:
    """A time in which more could have been lost than was allowed."""

    start: dt.datetime
    end: dt.datetime
    worst: dt.timedelta
    before: str | None
    after: str | None


def gaps(rows: list[Listing], now: dt.datetime, allowed: dt.timedelta = 28 * H) -> list[Gap]:
    """Return the gaps of a tenant from its first row on, in the point model."""
    good = sorted(
        (e for e in rows if e.usable_from is not None), key=lambda e: (e.usable_from, e.start)
    )
    # What would be restored to, from when on: the newest checkpoint so far.
    steps: list[tuple[dt.datetime, dt.datetime, str | None]] = [
        (rows[0].start, rows[0].start, None)
    ]
    for each in good:
        assert each.usable_from is not None
        assert each.checkpoint is not None
        if each.checkpoint > steps[-1][1] or steps[-1][2] is None:
            steps.append((each.usable_from, each.checkpoint, each.id))
    made: list[Gap] = []
    for (since, point, name), (until, _, following) in pairwise([*steps, (now, now, None)]):
        begin = max(since, point + allowed)
        if begin >= until:
            continue
        if made and made[-1].end == begin:
            last = made.pop()
            made.append(
                Gap(last.start, until, max(last.worst, until - point), last.before, following)
            )
        else:
            made.append(Gap(begin, until, until - point, name, following))
    return made
