"""Make pages as the service sends them, one field at a time under the test's control."""

from __future__ import annotations

import json
from typing import Any

DAY = 86_400


def tenant_set(number: int = 1002, **fields: Any) -> dict[str, Any]:
    """Return one tenant row of the documented example, with some fields changed."""
    row = {
        "backupMode": "PHYSICAL_BACKUP",
        "backupObjectType": "TENANT",
        "backupSetId": f"bak-7aqvtc4ugvuo-{number}",
        "checkpoint": "2025-12-03T12:57:32Z",
        "dataBackupMode": "FULL_BACKUP",
        "dataBackupSize": 0.04,
        "dataVersion": 123000325,
        "downloadEnabled": True,
        "downloadTaskId": -1,
        "endTime": "2025-12-03T12:57:42Z",
        "startTime": "2025-12-03T12:55:47Z",
        "status": "DONE",
        "storageClass": "standard",
        "tenantId": "t7amdemq4iu9s",
        "tenantName": "gyh",
        "triggerMode": "BACKUP_NOW",
        "validity": "VALID",
    }
    return row | fields


def cluster_set(*tenants: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return one cluster row of the documented example, with some fields changed."""
    row = tenant_set() | {
        "backupObjectType": "CLUSTER",
        "backupSetId": "bak-7aqvtc4ugvuo",
        "dataVersion": 1,
        "endTime": "2025-12-03T12:58:07Z",
        "startTime": "2025-12-03T12:55:35Z",
        "tenantBackupSetList": list(tenants),
        "tenantId": "sys",
        "tenantName": "*",
    }
    return row | fields


def page(*rows: Any, total: Any = None, **envelope: Any) -> bytes:
    """Return one response's body."""
    body = {
        "data": {"dataList": list(rows), "total": len(rows) if total is None else total},
        "requestId": "df209ed9-ae31-4e9e-bf75-76385afaadf9",
        "success": True,
    }
    return json.dumps(body | envelope).encode()
