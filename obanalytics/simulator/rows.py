"""Write runs as the API lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt


def row(run: dict[str, Any], at: dt.datetime) -> dict[str, Any]:
    """Write a run as the API lists it at an instant.

    Parameters
    ----------
    run : dict
        A run of a history.
    at : datetime
        The instant [UTC].

    Returns
    -------
    dict
        A cluster row with its tenant rows.
    """
    children = [c for c in run["children"] if c["start"] <= at and not c.get("gone")]
    nested = [_tenant_row(run, child, at) for child in children]
    size = round(sum(child["dataBackupSize"] for child in nested), 2)
    shown = {
        "backupObjectType": "CLUSTER",
        "backupSetId": run["id"],
        "dataVersion": 1,
        "tenantBackupSetList": nested,
        "tenantId": "sys",
        "tenantName": "*",
        "validity": "VALID",
    }
    return _common(run, run["mode"], run["trigger"], at) | shown | {"dataBackupSize": size}


def _tenant_row(run: dict[str, Any], child: dict[str, Any], at: dt.datetime) -> dict[str, Any]:
    """Write a tenant's set as the API lists it at an instant."""
    row = _common(child, child["mode"], run["trigger"], at)
    unfinished = row["status"] != "DONE"
    return row | {
        "backupObjectType": "TENANT",
        "backupSetId": child["id"],
        "dataBackupSize": 0 if unfinished else round(child["size"], 2),
        "dataVersion": 123000325,
        "tenantId": child["tenant"].tenant_id,
        "tenantName": child["tenant"].name_at(child["start"]),
        "validity": None if unfinished else child["validity"],
    }


def _common(each: dict[str, Any], mode: str, trigger: str, at: dt.datetime) -> dict[str, Any]:
    """Write what both levels have; what is not finished has no checkpoint and no end."""
    running = each["end"] > at
    status = "DOING" if running else each["status"]
    return {
        "backupMode": "PHYSICAL_BACKUP",
        "checkpoint": stamp(each["checkpoint"]) if status == "DONE" else None,
        "dataBackupMode": mode,
        "downloadEnabled": False,
        "downloadTaskId": -1,
        "endTime": None if running else stamp(each["end"]),
        "startTime": stamp(each["start"]),
        "status": status,
        "storageClass": "standard",
        "triggerMode": trigger,
    }


def stamp(moment: dt.datetime) -> str:
    """Return an instant as the API writes it.

    Parameters
    ----------
    moment : datetime
        The instant [UTC].

    Returns
    -------
    str
        ``YYYY-MM-DDThh:mm:ssZ``.
    """
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
