"""The typed decoder: every shape, every fault located, nothing lost."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import cluster_set, page, tenant_set

from obanalytics import wire
from obanalytics.errors import DataError
from obanalytics.frames import COLUMNS


def micros(text: str) -> int:
    return int(np.datetime64(text, "us").astype(np.int64))


def test_documented_example() -> None:
    decoded = wire.decode_page(page(cluster_set(tenant_set())))
    assert decoded.total == 1
    assert decoded.success is True
    assert decoded.request_id == "df209ed9-ae31-4e9e-bf75-76385afaadf9"
    (row,) = decoded.sets
    assert row.tenant_backup_set_list is not None
    assert row.tenant_backup_set_list[0].backup_set_id == "bak-7aqvtc4ugvuo-1002"
    assert row.data_backup_size == 0.04


@pytest.mark.parametrize(
    ("body", "ids", "has_data"),
    [
        (b'[{"backupSetId":"x"}]', ["x"], True),
        (b'{"backupSetId":"x","status":"DONE"}', ["x"], True),
        (b'{"data":{"backupSetId":"x","tenantBackupSetList":[{"backupSetId":"y"}]}}', ["x"], True),
        (b'{"dataList":[{"backupSetId":"x"}],"total":3}', ["x"], True),
        (b'{"data":[{"backupSetId":"x"}]}', ["x"], True),
        (b'{"data":null}', [], True),
        (b'{"data":{"dataList":null}}', [], True),
        (b'{"data":{"dataList":[]}}', [], True),
        (b"[]", [], True),
        (b"{}", [], False),
        (b'{"data":{}}', [], False),
        (b'{"success":false,"errorCode":"E001R000"}', [], False),
    ],
)
def test_every_shape(body: bytes, ids: list[str], has_data: bool) -> None:  # noqa: FBT001
    decoded = wire.decode_page(body)
    assert [row.backup_set_id for row in decoded.sets] == ids
    assert decoded.has_data is has_data


def test_error_envelope_keeps_code_and_message() -> None:
    body = b'{"success":false,"errorCode":"E001R000","errorMessage":"Unknown Error"}'
    decoded = wire.decode_page(body)
    assert decoded.success is False
    assert decoded.error == "E001R000 Unknown Error"


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("dataBackupSize", "0.04", '"0.04"'),
        ("tenantId", 3, "3"),
        ("downloadEnabled", "true", '"true"'),
        ("dataVersion", 1.5, "1.5"),
        ("status", ["DONE"], '["DONE"]'),
        ("startTime", True, "true"),
    ],
)
def test_impossible_type_names_instance_page_set_field_and_value(
    field: str, value: Any, shown: str
) -> None:
    body = page(cluster_set(), cluster_set(tenant_set(), tenant_set(1004, **{field: value})))
    with pytest.raises(DataError) as caught:
        wire.decode_page(body, instance_id="ob1", where="page 7")
    message = str(caught.value)
    for part in ("instance ob1", "page 7", "set bak-7aqvtc4ugvuo-1004", f"field {field}", shown):
        assert part in message
    assert caught.value.instance_id == "ob1"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff\xfe", b"<html>busy</html>", b"null", b"3", b'"x"', b'{"data":3}'),
        b"[" * 5000,
        page(None),
        page(3),
        page(cluster_set(3)),  # type: ignore[arg-type]
        page(cluster_set())[:-40],
        page(cluster_set(tenant_set(tenantBackupSetList=[{}]))),
    ],
)
def test_whatever_is_no_page_is_a_data_error(body: bytes) -> None:
    with pytest.raises(DataError):
        wire.decode_page(body)


def test_unknown_fields_are_kept_and_learned_once() -> None:
    body = page(
        cluster_set(tenant_set(b={"x": [1, None]}), tenant_set(1004, c="ü"), a=1, tenantName=None)
    )
    for _ in range(2):
        (row,) = wire.decode_page(body).sets
        assert json.loads(row.extra() or "") == {"a": 1}
        nested = row.tenant_backup_set_list or []
        assert [json.loads(each.extra() or "null") for each in nested] == [
            {"b": {"x": [1, None]}},
            {"c": "ü"},
        ]


def test_more_new_names_than_there_can_be_fields() -> None:
    for start in range(0, 300, 100):
        fields = {f"id-{number}": number for number in range(start, start + 100)}
        (row,) = wire.decode_page(page(cluster_set(**fields))).sets
        assert json.loads(row.extra() or "") == fields
    assert len(wire._shared.extras) <= wire.MAX_SHARED_EXTRAS


def test_words_are_learned_as_one_string_each_and_many_words_are_any_text() -> None:
    body = page(cluster_set(tenant_set(status="NEW_WORD"), tenant_set(1004, status="NEW_WORD")))
    for _ in range(2):
        one, other = wire.decode_page(body).sets[0].tenant_backup_set_list or []
        assert one.status is other.status
        assert one.status == "NEW_WORD"
    for start in range(0, 900, 300):
        names = [f"tenant {number}" for number in range(start, start + 300)]
        rows = [tenant_set(number, tenantName=name) for number, name in enumerate(names)]
        (row,) = wire.decode_page(page(cluster_set(*rows))).sets
        assert [each.tenant_name for each in row.tenant_backup_set_list or []] == names
    assert len([w for name, w in wire._shared.words if name == "tenant_name"]) == 33
    with pytest.raises(DataError, match=r"field tenantName: impossible value 3"):
        wire.decode_page(page(cluster_set(tenant_set(tenantName=3))))


def test_nested_list_of_a_tenant_row_may_be_null_or_empty() -> None:
    body = page(cluster_set(tenant_set(tenantBackupSetList=None), tenant_set(1004)))
    assert len(wire.decode_page(body).sets[0].tenant_backup_set_list or []) == 2


def test_table_of_columns_and_struct_agree() -> None:
    attributes = {f.encode_name: f.name for f in wire.msgspec.structs.fields(wire.ClusterSet)}
    mapped = {c.field for level in ("clusters", "tenants") for c in COLUMNS[level] if c.field}
    assert set(attributes) == mapped
    names = {c.field: c.name for c in COLUMNS["tenants"] if c.field}
    for field in set(names) - {"dataBackupSize"}:
        assert attributes[field] == names[field]
    assert wire.LABELS[-1] == "download_task_id"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-12-03T12:55:35Z", "2025-12-03T12:55:35"),
        ("2025-12-03T12:55:35.25Z", "2025-12-03T12:55:35.25"),
        ("2025-12-03T12:55:35.123456789Z", "2025-12-03T12:55:35.123456"),
        ("2021-09-16T15:14:51.397+08:00", "2021-09-16T07:14:51.397"),
        ("2021-09-16T15:14:51+0800", "2021-09-16T07:14:51"),
        ("2024-01-01'T'12:10:10.000'Z'", "2024-01-01T12:10:10"),
        ("2026-02-25 15:40:43+00:00", "2026-02-25T15:40:43"),
        ("2024-02-29T23:59:59-12:00", "2024-03-01T11:59:59"),
    ],
)
def test_times_of_every_form(text: str, expected: str) -> None:
    times, zoneless = wire.parse_times([text, "2025-12-03T12:55:35Z"])
    assert times.tolist() == [micros(expected), micros("2025-12-03T12:55:35")]
    assert zoneless == 0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        0,
        "1970-01-01T00:00:00Z",
        "1970-12-31T23:59:59Z",
        "0000-00-00 00:00:00",
        "0001-01-01T00:00:00Z",
        "1970-01-01T08:00:00+08:00",
        " ",
    ],
)
def test_no_time(text: Any) -> None:
    for others in ([], ["2025-12-03T12:55:35Z"]):
        assert wire.parse_times([text, *others])[0][0] == wire.NO_TIME


def test_zoneless_times_are_utc_and_counted() -> None:
    times, zoneless = wire.parse_times(["2020-05-22T17:04:18", "2025-12-25 16:23:49.0", ""])
    assert times[:2].tolist() == [micros("2020-05-22T17:04:18"), micros("2025-12-25T16:23:49")]
    assert zoneless == 2


@pytest.mark.parametrize(
    "text", ["yesterday", "2025-02-30T00:00:00Z", "2025-12-03T25:00:00Z", 1764766535, "12:00Z"]
)
def test_what_is_no_time_is_an_error_with_the_value(text: Any) -> None:
    with pytest.raises(wire.FieldError) as caught:
        wire.parse_times(["2025-12-03T12:55:35Z", text])
    assert caught.value.value == text


@given(
    st.lists(
        st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(9999, 12, 30)),  # noqa: DTZ001
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["Z", "+00:00", "+0000", "+08:00", "-0330"]),
    st.sampled_from(["T", " "]),
)
def test_times_equal_the_standard_library(
    moments: list[dt.datetime], zone: str, separator: str
) -> None:
    texts = [moment.isoformat(separator) + zone for moment in moments]
    unix = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    expected = [
        (dt.datetime.fromisoformat(t) - unix) // dt.timedelta(microseconds=1) for t in texts
    ]
    assert wire.parse_times(texts)[0].tolist() == [
        time if time >= micros("1971-01-01") else wire.NO_TIME for time in expected
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((s, "done") for s in ("DONE", "done", " Completed ", "SUCCESS", "SUCCESSFUL")),
        *((s, "running") for s in ("BEGINNING", "INIT", "INITIALIZING", "DOING", "RUNNING")),
        *((s, "running") for s in ("CANCELING", "BACKUP_DATA_MINOR", "BEFORE_BACKUP_LOG")),
        ("FAILED", "failed"),
        ("CANCELED", "cancelled"),
        ("cancelled", "cancelled"),
        ("OVERDUE", "expired"),
        *((s, "unknown") for s in ("UNKNOWN", "", None, "NEW_THING", "NOT_DONE")),
    ],
)
def test_states(status: str | None, state: str) -> None:
    assert wire.state_of(status) == state


@pytest.mark.parametrize(
    ("mode", "full"),
    [
        ("FULL_BACKUP", True),
        ("full", True),
        ("D", True),
        ("INCREMENTAL_BACKUP", False),
        ("inc", False),
        ("I", False),
        ("LOG_BACKUP", None),
        ("", None),
        (None, None),
    ],
)
def test_modes(mode: str | None, full: bool | None) -> None:  # noqa: FBT001
    assert wire.is_full(mode) is full


SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "0", "DONE", "2025-12-03T12:55:35Z", "x", "\ud83d\ude00", "'"])
)
JSON = (
    SCALAR
    | st.lists(SCALAR, max_size=2)
    | st.dictionaries(st.sampled_from(["a", "data", "dataList", "backupSetId"]), SCALAR, max_size=2)
)
FIELDS = st.sampled_from([*tenant_set(), "tenantBackupSetList", "new", "x y"])


@settings(max_examples=400)
@given(
    st.lists(st.dictionaries(FIELDS, JSON, max_size=6), max_size=3),
    st.lists(st.dictionaries(FIELDS, JSON, max_size=6), max_size=2),
)
def test_no_json_makes_anything_but_data_or_our_error(rows: list[Any], nested: list[Any]) -> None:
    rows = [{**cluster_set(), **row} for row in rows]
    if rows and nested:
        rows[0]["tenantBackupSetList"] = nested
    with contextlib.suppress(DataError):
        assert len(wire.decode_page(page(*rows)).sets) == len(rows)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["data", "dataList", "total", "success"]), JSON) | JSON)
def test_no_document_makes_anything_but_a_page_or_our_error(document: Any) -> None:
    with contextlib.suppress(DataError):
        wire.decode_page(json.dumps(document).encode())
