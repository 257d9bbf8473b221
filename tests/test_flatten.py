"""From decoded pages to the two frames: nothing lost, everything typed, any order."""

from __future__ import annotations

import contextlib
import json
from operator import itemgetter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import cluster_set, page, tenant_set

from obanalytics import schema, wire
from obanalytics.errors import DataError
from obanalytics.flatten import Flattener


def frames(*bodies: bytes, instance_id: str = "ob1", **options: Any) -> tuple[Any, Any]:
    flattener = Flattener()
    for body in bodies:
        flattener.add(wire.decode_page(body).sets, instance_id, "page 1")
    return flattener.frames(**options)


def instant(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_documented_example() -> None:
    clusters, tenants = frames(page(cluster_set(tenant_set())))
    schema.check(clusters, "clusters")
    schema.check(tenants, "tenants")
    assert clusters.loc[0].to_dict() | {"extra": None, "download_task_id": None} == {
        "instance_id": "ob1",
        "backup_set_id": "bak-7aqvtc4ugvuo",
        "tenant_id": "sys",
        "tenant_name": "*",
        "data_backup_mode": "FULL_BACKUP",
        "full": True,
        "status": "DONE",
        "state": "done",
        "validity": "VALID",
        "start_time": instant("2025-12-03T12:55:35"),
        "end_time": instant("2025-12-03T12:58:07"),
        "checkpoint": instant("2025-12-03T12:57:32"),
        "duration": pd.Timedelta("152s"),
        "size_gib": 0.04,
        "backup_mode": "PHYSICAL_BACKUP",
        "backup_object_type": "CLUSTER",
        "trigger_mode": "BACKUP_NOW",
        "storage_class": "standard",
        "data_version": 1,
        "download_enabled": True,
        "download_task_id": None,
        "tenant_sets": 1,
        "in_window": True,
        "extra": None,
    }
    assert tenants.loc[0, "cluster_backup_set_id"] == "bak-7aqvtc4ugvuo"
    assert tenants.loc[0, "tenant_id"] == "t7amdemq4iu9s"
    assert pd.isna(tenants.loc[0, "download_task_id"])


def test_empty_results_have_the_same_columns_and_dtypes() -> None:
    full = frames(page(cluster_set(tenant_set())))
    for bodies in ((), (page(),)):
        for made, level, other in zip(frames(*bodies), ("clusters", "tenants"), full, strict=True):
            schema.check(made, level)  # type: ignore[arg-type]
            assert made.empty
            assert list(made.columns) == list(other.columns)


@pytest.mark.parametrize("nothing", [None, "", 0, "0", "1970-01-01T00:00:00Z"])
def test_times_of_an_unfinished_set(nothing: Any) -> None:
    running = tenant_set(
        status="DOING", endTime=nothing, checkpoint=nothing, dataBackupSize=0, validity=None
    )
    absent = {k: v for k, v in running.items() if k not in {"endTime", "checkpoint"}}
    absent["backupSetId"] = "other"
    _, tenants = frames(page(cluster_set(running, absent)))
    assert tenants["state"].tolist() == ["running", "running"]
    for column in ("end_time", "checkpoint", "duration", "size_gib", "validity"):
        assert tenants[column].isna().all(), column


def test_zero_size_is_a_size_only_when_done() -> None:
    sets = [
        tenant_set(n, status=status, dataBackupSize=0.0)
        for n, status in enumerate(("DONE", "FAILED", "DOING"))
    ]
    _, tenants = frames(page(cluster_set(*sets)))
    by_state = tenants.set_index("state")["size_gib"]
    assert by_state["done"] == 0
    assert by_state[["failed", "running"]].isna().all()


def test_size_below_zero_is_unknown_and_noted() -> None:
    flattener = Flattener()
    body = page(cluster_set(tenant_set(dataBackupSize=-1)))
    flattener.add(wire.decode_page(body).sets, "ob1")
    _, tenants = flattener.frames()
    assert tenants["size_gib"].isna().all()
    assert flattener.notes == {"sizes below zero, read as unknown": 1}


def test_notes_on_what_is_not_recognised() -> None:
    flattener = Flattener()
    sets = [tenant_set(1, status="NEW"), tenant_set(2, dataBackupMode="LOG"), tenant_set(3)]
    flattener.add(wire.decode_page(page(cluster_set(*sets, later=1))).sets, "ob1")
    _, tenants = flattener.frames()
    assert tenants["state"].tolist() == ["unknown", "done", "done"]
    assert tenants["full"].isna().tolist() == [False, True, False]
    assert set(flattener.notes) == {
        "sets whose status 'NEW' is not recognised",
        "sets whose mode 'LOG' is not recognised",
        "sets with fields this version does not know",
    }


def test_download_flags_mean_something_only_when_asked() -> None:
    body = page(cluster_set(tenant_set(1, downloadEnabled=False, downloadTaskId=7), tenant_set(2)))
    _, asked = frames(body)
    _, unasked = frames(body, download_checked=False)
    assert asked["download_enabled"].tolist() == [False, True]
    assert unasked["download_enabled"].isna().tolist() == [True, False]
    assert asked["download_task_id"].tolist()[0] == 7


def test_a_tenant_set_at_the_top_is_a_tenant_row() -> None:
    lone = tenant_set(backupSetId="bak-lone")
    nameless = tenant_set(backupSetId="bak-2", backupObjectType=None, tenantBackupSetList=None)
    clusters, tenants = frames(page(cluster_set(tenant_set()), lone, nameless))
    assert clusters["backup_set_id"].tolist() == ["bak-7aqvtc4ugvuo"]
    alone = tenants[tenants["cluster_backup_set_id"].isna()]
    assert alone["backup_set_id"].tolist() == ["bak-2", "bak-lone"]


@pytest.mark.parametrize("nested", ["absent", None, []])
def test_no_nested_list(nested: Any) -> None:
    row = cluster_set(tenantBackupSetList=nested)
    if nested == "absent":
        del row["tenantBackupSetList"]
    clusters, tenants = frames(page(row))
    assert clusters["tenant_sets"].tolist() == [0]
    assert tenants.empty


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (cluster_set(backupSetId=None), ["field backupSetId is missing"]),
        (cluster_set(tenant_set(backupSetId="")), ["field backupSetId is missing"]),
        (cluster_set(tenant_set(tenantId=None)), ["gvuo-1002", "field tenantId is missing"]),
        (cluster_set(tenant_set(startTime="soon")), ["gvuo-1002", "field startTime", "'soon'"]),
        (cluster_set(tenant_set(checkpoint=12)), ["gvuo-1002", "field checkpoint", "12"]),
        (cluster_set(dataVersion=2**63), ["field dataVersion", str(2**63)]),
    ],
)
def test_faults_are_located(row: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        frames(page(cluster_set(tenant_set(7), backupSetId="sound"), row))
    for word in ("instance ob1", "page 1", *words):
        assert word in str(caught.value)


def test_rollback_forgets_an_instance_that_failed() -> None:
    flattener = Flattener()
    good = wire.decode_page(page(cluster_set(tenant_set(extra_field=1)))).sets
    flattener.add(good, "ob1")
    mark = flattener.mark()
    flattener.add(good, "ob2")
    with pytest.raises(DataError):
        flattener.add(wire.decode_page(page(cluster_set(tenant_set(endTime="x")))).sets, "ob2")
    flattener.rollback(mark)
    clusters, tenants = flattener.frames()
    assert clusters["instance_id"].tolist() == ["ob1"]
    assert tenants["extra"].tolist() == ['{"extra_field":1}']
    assert tenants["cluster_backup_set_id"].tolist() == ["bak-7aqvtc4ugvuo"]


def test_window_is_by_the_cluster_set_and_keeps_the_lookback() -> None:
    rows = [
        cluster_set(
            tenant_set(day, startTime=f"2025-12-{day + 1:02}T00:30:00Z"),
            backupSetId=f"c{day}",
            startTime=f"2025-12-{day:02}T23:30:00Z",
        )
        for day in range(1, 9)
    ]
    rows.append(cluster_set(tenant_set(77, startTime=None), backupSetId="c9", startTime=None))
    window = schema.Window(instant("2025-12-04T23:30"), instant("2025-12-07T23:30"))
    clusters, tenants = frames(page(*rows), window=window, since=instant("2025-12-03"))
    assert clusters["backup_set_id"].tolist() == ["c3", "c4", "c5", "c6", "c9"]
    assert clusters["in_window"].tolist() == [False, True, True, True, True]
    assert tenants["cluster_backup_set_id"].tolist() == ["c3", "c4", "c5", "c6", "c9"]
    assert tenants["in_window"].tolist() == [False, True, True, True, True]


def test_of_a_repeated_set_the_most_advanced_stays() -> None:
    running = cluster_set(
        tenant_set(status="DOING", endTime=None, checkpoint=None), status="DOING", endTime=None
    )
    done = cluster_set(tenant_set())
    for bodies in ([running, done], [done, running], [done, running, done]):
        clusters, tenants = frames(*(page(body) for body in bodies))
        assert clusters["state"].tolist() == ["done"]
        assert tenants["state"].tolist() == ["done"]


def test_copies_in_two_storage_classes_are_two_rows() -> None:
    copies = [
        cluster_set(tenant_set(storageClass=s), storageClass=s) for s in ("standard", "archive")
    ]
    clusters, tenants = frames(page(*copies), page(*copies))
    assert clusters["storage_class"].tolist() == ["archive", "standard"]
    assert tenants["storage_class"].tolist() == ["archive", "standard"]


TIMES = st.sampled_from([None, "", *(f"2025-12-0{d}T0{h}:00:00Z" for d in (1, 2) for h in (1, 2))])
ROWS = st.fixed_dictionaries(
    {
        "backupSetId": st.sampled_from(["a", "b", "c"]),
        "tenantId": st.sampled_from(["t1", "t2"]),
        "tenantName": st.sampled_from(["x", "", None]),
        "status": st.sampled_from(["DONE", "DOING", "FAILED", "odd"]),
        "startTime": TIMES,
        "endTime": TIMES,
        "dataBackupSize": st.sampled_from([0, 1.5, None]),
        "storageClass": st.sampled_from(["standard", "archive", None]),
        "validity": st.sampled_from(["VALID", "INVALID", None]),
    }
)


@given(
    st.lists(st.tuples(ROWS, st.lists(ROWS, max_size=3)), max_size=6),
    st.randoms(),
    st.integers(1, 3),
)
def test_order_of_pages_does_not_matter_and_no_key_is_lost(
    made: list[tuple[dict[str, Any], list[dict[str, Any]]]], random: Any, size: int
) -> None:
    rows = [
        cluster_set(**row, tenantBackupSetList=[tenant_set(**each) for each in nested])
        for row, nested in made
    ]
    pages = [rows[at : at + size] for at in range(0, len(rows), size)]
    once = frames(*(page(*each) for each in pages))
    shuffled = [list(each) for each in pages]
    random.shuffle(shuffled)
    again = frames(*(page(*each) for each in shuffled), page(*rows))
    for one, other in zip(once, again, strict=True):
        shared = [c for c in one if c != "cluster_backup_set_id"]
        pd.testing.assert_frame_equal(one[shared], other[shared])
    keys = {(row["backupSetId"], row["storageClass"]) for row in rows}
    assert len(once[0]) == len(keys)
    nested = {
        (n["backupSetId"], n["storageClass"], n["tenantId"])
        for row in rows
        for n in row["tenantBackupSetList"]
    }
    assert len(once[1]) == len(nested)


VALUES = st.sampled_from([None, 0, 3, -1, 2**70, "", "x", "DONE", "2025-12-03T12:55:35Z", "0"])


@given(st.lists(st.dictionaries(st.sampled_from(sorted(tenant_set())), VALUES), max_size=3))
def test_whatever_decodes_becomes_rows_or_our_error(changes: list[dict[str, Any]]) -> None:
    rows = [
        cluster_set(tenant_set(n, **change), backupSetId=f"c{n}")
        for n, change in enumerate(changes)
    ]
    flattener = Flattener()
    with contextlib.suppress(DataError):
        flattener.add(wire.decode_page(json.dumps(rows).encode()).sets, "ob1")
        clusters, tenants = flattener.frames()
        assert len(clusters) == len(rows)
        key = itemgetter("backupSetId", "storageClass", "tenantId")
        assert len(tenants) == len({key(row["tenantBackupSetList"][0]) for row in rows})
        schema.check(tenants, "tenants")


def test_a_page_that_is_refused_leaves_nothing_behind() -> None:
    flattener = Flattener()
    good = wire.decode_page(page(cluster_set(tenant_set()))).sets
    flattener.add(good, "ob1")
    other = cluster_set(tenant_set(tenantId=None), backupSetId="other")
    with pytest.raises(DataError, match="tenantId is missing"):
        flattener.add(wire.decode_page(page(other)).sets, "ob1")
    clusters, tenants = flattener.frames()
    assert clusters["backup_set_id"].tolist() == [good[0].backup_set_id]
    assert len(tenants) == 1
