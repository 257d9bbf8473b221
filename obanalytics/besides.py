"""Ask instances for what the service lists besides their sets: tenants, restorable intervals."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.errors import DataError, ObanalyticsError
from obanalytics.inventories import WRITTEN, by_instance, listed, packed, written_by
from obanalytics.wire import NO_TIME, FieldError, parse_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obanalytics.client import Client
    from obanalytics.lake import Snapshot


class Inventories(NamedTuple):
    """Which tenants instances list, as an archive keeps it."""

    rows: pa.Table
    """Those of instances that list something else than before."""
    runs: dict[str, int]
    """By which run each instance's rows were written."""
    refused: dict[str, str]
    """Who did not say it, and why."""


def inventories(
    client: Client,
    ids: Sequence[str],
    instances: list[dict[str, Any]] | ObanalyticsError,
    snapshot: Snapshot | None,
    fetches: pa.Table,
    run: int,
) -> Inventories:
    """Ask instances for their tenants, side by side; keep what is not as it was.

    Parameters
    ----------
    client : Client
        Whom to ask.
    ids : sequence of str
        The instances.
    instances : list of dict, or ObanalyticsError
        What the list of instances says; or why it cannot be had.
    snapshot : Snapshot or None
        The archive's table.
    fetches : pyarrow.Table
        The list of fetches before this run.
    run : int
        The number of this run.

    Returns
    -------
    Inventories
        With the rows of those who list something else than last time.
    """
    if isinstance(instances, ObanalyticsError):
        return Inventories(packed([], run), {}, dict.fromkeys(ids, str(instances)))
    by_id = {str(each.get("instanceId")): each for each in instances}
    found = client.side_by_side(partial(inventory_rows, client, instances=by_id), ids)
    answers = dict(zip(ids, found, strict=True))
    refused = {i: str(each) for i, each in answers.items() if isinstance(each, ObanalyticsError)}
    good = [each for each in found if not isinstance(each, ObanalyticsError)]
    rows = [row for each in good for row in each]
    runs = _before(fetches, ids)
    old = {} if snapshot is None else by_instance(listed(snapshot, runs))
    table = packed(rows, run)
    new = by_instance(table)
    same = {i for i in new if i in runs and new[i] == old.get(i)}
    fresh = pc.is_in(table["instance_id"], pa.array(sorted({*new} - same), pa.string()))
    kept = {each: runs[each] if each in same else run for each in new}
    return Inventories(table.filter(fresh), kept, refused)


def _before(fetches: pa.Table, ids: Sequence[str]) -> dict[str, int]:
    """Return by which run the rows were written that are known of instances."""
    asked = pc.is_in(fetches["instance_id"].cast(pa.string()), pa.array(ids, pa.string()))
    told = fetches.filter(pc.and_(asked, fetches[WRITTEN].is_valid()))
    frame = told.select(["run", "instance_id", WRITTEN]).to_pandas()
    frame = frame.sort_values("run", kind="stable")
    return written_by(frame.drop_duplicates("instance_id", keep="last"))


def restorable_rows(client: Client, instance_id: str) -> list[dict[str, Any]]:
    """Return the rows of an instance's restorable intervals.

    Parameters
    ----------
    client : Client
        Whom to ask.
    instance_id : str
        Of whom.

    Returns
    -------
    list of dict
        Keys as the columns of `BackupSets.restorable`.
    """
    rows = []
    for tenant in client.restorable_windows(instance_id):
        intervals = tenant.get("timeIntervalList") or []
        if not isinstance(intervals, list) or not all(isinstance(i, dict) for i in intervals):
            who = f"instance {instance_id}, tenant {tenant.get('tenantId')}"
            what = f"{who}: field timeIntervalList is no list of intervals"
            raise DataError(what, instance_id=instance_id)
        rows += [
            {
                "instance_id": instance_id,
                "tenant_id": tenant.get("tenantId"),
                "start": _time(each, "startTime", instance_id),
                "end": _time(each, "endTime", instance_id),
                "storage_class": each.get("storageType", tenant.get("storageType")),
            }
            # A tenant that is listed without an interval cannot be restored: that is a fact too.
            for each in intervals or [{}]
        ]
    return rows


def _time(row: dict[str, Any], field: str, instance_id: str) -> pd.Timestamp | None:
    """Read a time of an optional table in any of the forms that times come in."""
    try:
        times, _ = parse_times([row.get(field)])
    except FieldError as error:
        what = f"field {field} is impossible: {error.value!r:.80}"
        raise DataError(f"instance {instance_id}: {what}", instance_id=instance_id) from None
    return None if times[0] == NO_TIME else pd.Timestamp(int(times[0]), unit="us", tz="UTC")


def inventory_rows(
    client: Client, instance_id: str, instances: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row per tenant of an instance, or one without a tenant.

    Parameters
    ----------
    client : Client
        Whom to ask.
    instance_id : str
        Of whom.
    instances : dict of str to dict
        What the list of instances says of each.

    Returns
    -------
    list of dict
        Keys as the columns of `BackupSets.inventory`.
    """
    instance = instances.get(instance_id, {})
    return [
        {
            "instance_id": instance_id,
            "instance_name": instance.get("instanceName"),
            "instance_status": instance.get("status"),
            "tenant_id": tenant.get("tenantId"),
            "tenant_name": tenant.get("tenantName"),
            "tenant_status": tenant.get("status"),
            "created_time": _time(tenant, "createTime", instance_id),
            "data_merge_time": tenant.get("dataMergeTime", instance.get("dataMergeTime")),
        }
        for tenant in client.tenants(instance_id) or [{}]
    ]
