"""The client: what it asks for, what it takes for an answer, and how it ends."""

from __future__ import annotations

import datetime as dt
import io
import json
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from pages import cluster_set, page, tenant_set
from requests.adapters import HTTPAdapter
from requests_mock import ANY, Mocker

from obanalytics.client import Client, Page
from obanalytics.errors import (
    ApiError,
    ClientWarning,
    CredentialsError,
    DataError,
    ObanalyticsError,
    PagingError,
)
from obanalytics.settings import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

HOST = "https://api.test"
SECRET = "s3cret-of-ours"  # noqa: S105 - of a test
SETS = "/api/v2/instances/ob1/backup/data/sets"
UTC = dt.UTC


def make(**changes: Any) -> Client:
    changes = {"endpoint": HOST, "project_id": "proj-1", **changes}
    client = Client("key-id-of-ours", SECRET, **changes)
    client._transport.sleep = lambda _: None
    return client


@pytest.fixture
def mock() -> Iterator[Mocker]:
    with Mocker() as started:
        yield started


@pytest.fixture
def client() -> Iterator[Client]:
    with make() as made:
        yield made


def serve(mock: Mocker, *bodies: object) -> None:
    """Give these bodies in turn, the last one for ever."""
    packed = (body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies)
    mock.get(ANY, [{"content": each} for each in packed])


def serve_list(mock: Mocker, rows: list[dict[str, Any]], **envelope: Any) -> None:
    """Serve a list in pages as it is asked for."""

    def answer(request: Any, _: object) -> bytes:
        number, size = (int(query_of(request)[name]) for name in ("pageNumber", "pageSize"))
        shown = rows[(number - 1) * size :][:size]
        return page(*shown, total=len(rows), **envelope)

    mock.get(ANY, content=answer)


def query_of(request: Any) -> dict[str, str]:
    parsed = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
    return {name: values[0] for name, values in parsed.items()}


def sets(count: int) -> list[dict[str, Any]]:
    return [cluster_set(tenant_set(), backupSetId=f"bak-{number}") for number in range(count)]


def ids(pages: Any) -> list[str]:
    return [row.backup_set_id for each in pages for row in each]


def ask_everything(client: Client) -> None:
    client.instances()
    client.tenants("ob1")
    client.restorable_windows("ob1")
    assert not any(isinstance(found, Exception) for _, found in client.walk(["ob1", "ob2", "ob3"]))


# What it takes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("page_size", value) for value in (0, 101, -1, 10.0, "10", None)),
        *(("workers", value) for value in (0, 257, 1.5)),
        *(("max_attempts", value) for value in (0, 101, "6")),
    ],
)
def test_number_that_cannot_be_is_refused_with_its_value(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number from 1 to") as caught:
        make(**{name: value})
    assert repr(value) in str(caught.value)


def test_client_without_keys_is_none() -> None:
    with pytest.raises(CredentialsError, match="no keys found"):
        Client()


@pytest.mark.parametrize("name", ["", "  ", ".", "..", None, 3])
def test_id_that_is_none_is_refused_before_anything_is_sent(
    mock: Mocker, client: Client, name: Any
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.tenants(name),
        lambda: client.restorable_windows(name),
        lambda: client.backup_set(name, "bak"),
        lambda: client.backup_set("ob1", name),
        lambda: list(client.backup_sets(name)),
        lambda: list(client.walk(["ob1", name])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is a text that is not empty, not"):
            call()
    assert mock.call_count == 0


def test_ids_are_parts_of_a_path_whatever_they_hold(mock: Mocker, client: Client) -> None:
    serve(mock, {"success": True, "data": {"backupSetId": "x"}})
    client.backup_set("ob/1?", "bak #2%")
    assert urlsplit(mock.last_request.url).path == (
        "/api/v2/instances/ob%2F1%3F/backup/data/sets/bak%20%232%25"
    )


@pytest.mark.parametrize(
    ("start", "end", "sent"),
    [
        (None, None, {}),
        (dt.datetime(2026, 5, 1, tzinfo=UTC), None, {"startTime": "2026-05-01T00:00:00Z"}),
        (None, dt.datetime(2026, 5, 1, tzinfo=UTC), {"endTime": "2026-05-01T00:00:00Z"}),
        (
            dt.datetime(2026, 5, 1, 7, 59, 59, 999_999, dt.timezone(dt.timedelta(hours=8))),
            dt.datetime(2026, 5, 1, 7, 59, 59, 1, dt.timezone(dt.timedelta(hours=8))),
            {"startTime": "2026-04-30T23:59:59Z", "endTime": "2026-05-01T00:00:00Z"},
        ),
    ],
)
def test_window_is_sent_in_utc_and_whole_seconds_and_never_narrowed(
    mock: Mocker,
    client: Client,
    start: dt.datetime | None,
    end: dt.datetime | None,
    sent: dict[str, str],
) -> None:
    serve_list(mock, sets(2))
    assert ids(client.backup_sets("ob1", start, end)) == ["bak-0", "bak-1"]
    query = query_of(mock.last_request)
    assert {n: v for n, v in query.items() if n.endswith("Time")} == sent
    assert mock.last_request.url.count("%3A") == 2 * len(sent)
    assert query.keys() - sent.keys() == {"pageNumber", "pageSize", "requestId"}


@pytest.mark.parametrize("name", ["start", "end"])
def test_instants_without_a_zone_are_utc_and_what_is_none_is_refused(
    mock: Mocker, client: Client, name: str
) -> None:
    serve_list(mock, sets(1))
    naive = dt.datetime(2026, 5, 1)  # noqa: DTZ001 - read as UTC
    for value in ("2026-05-01", "2026-05-01T08:00+08:00", dt.date(2026, 5, 1), naive):
        list(client.backup_sets("ob1", **{name: value}))
        assert query_of(mock.last_request)[f"{name}Time"] == "2026-05-01T00:00:00Z"
    sent = mock.call_count
    for wrong in ("yesterday", "", 0, True):
        with pytest.raises((TypeError, ValueError), match=f"{name} must be a datetime, a date or"):
            next(client.backup_sets("ob1", **{name: wrong}))  # type: ignore[arg-type]
    assert mock.call_count == sent


@pytest.mark.parametrize(("check", "sent"), [(True, "true"), (False, None)])
def test_download_check_is_asked_for_only_when_wanted(
    mock: Mocker,
    client: Client,
    check: bool,  # noqa: FBT001 - a column of the table
    sent: str | None,
) -> None:
    serve_list(mock, sets(1))
    list(client.backup_sets("ob1", check_download=check))
    assert query_of(mock.last_request).get("checkBackupSetDownloadEnable") == sent


# What it returns


def test_backup_sets_come_in_pages_with_the_reply_they_came_in(mock: Mocker) -> None:
    serve_list(mock, sets(5))
    with make(page_size=2) as client:
        pages = list(client.backup_sets("ob1"))
    assert [type(each) for each in pages] == [Page] * 3
    assert [(each.number, len(each), each.total) for each in pages] == [
        (1, 2, 5),
        (2, 2, 5),
        (3, 1, 5),
    ]
    assert ids(pages) == [f"bak-{number}" for number in range(5)]
    assert {each.instance_id for each in pages} == {"ob1"}
    assert json.loads(pages[2].reply.body)["data"]["dataList"][0]["backupSetId"] == "bak-4"
    assert urlsplit(mock.last_request.url).path == SETS
    assert mock.last_request.headers["X-Ob-Project-Id"] == "proj-1"


def test_copies_of_a_set_in_two_storage_classes_are_two_rows(mock: Mocker, client: Client) -> None:
    rows = [cluster_set(storageClass=each) for each in ("standard", "archive")]
    serve_list(mock, rows)
    (only,) = client.backup_sets("ob1")
    assert [row.storage_class for row in only] == ["standard", "archive"]


@pytest.mark.parametrize(
    ("call", "key", "path"),
    [
        (lambda client: client.instances(), "instanceId", "/api/v2/instances"),
        (lambda client: client.tenants("ob1"), "tenantId", "/api/v2/instances/ob1/tenants"),
    ],
)
def test_lists_are_read_whole_as_the_api_sends_them(
    mock: Mocker, call: Any, key: str, path: str
) -> None:
    rows = [{key: f"id-{number}", "status": "ONLINE", "n": number} for number in range(7)]
    serve_list(mock, rows)
    with make(page_size=3) as client:
        assert call(client) == rows
    assert {urlsplit(each.url).path for each in mock.request_history} == {path}


def test_one_set_is_returned_as_sent(mock: Mocker, client: Client) -> None:
    row = cluster_set(tenant_set(), newField=[1])
    serve(mock, {"success": True, "data": row})
    assert client.backup_set("ob1", "bak-1") == row
    assert query_of(mock.last_request).keys() == {"requestId"}


@pytest.mark.parametrize("data", [[], None, "text"])
def test_answer_without_a_set_is_an_error(mock: Mocker, client: Client, data: object) -> None:
    serve(mock, {"success": True, "data": data})
    with pytest.raises(ApiError, match=r"sets/bak-1: no set in the answer") as caught:
        client.backup_set("ob1", "bak-1")
    assert caught.value.instance_id == "ob1"


@pytest.mark.parametrize("wrap", [list, lambda rows: {"dataList": rows}])
def test_restorable_windows_come_bare_or_in_a_list(
    mock: Mocker, client: Client, wrap: Callable[[Any], Any]
) -> None:
    rows = [{"tenantId": "t1", "timeIntervalList": []}, {"tenantId": "t1"}, {}]
    serve(mock, {"success": True, "data": wrap(rows)})
    assert client.restorable_windows("ob1") == rows
    assert urlsplit(mock.last_request.url).path == "/api/v2/instances/ob1/backup/restore/tenants"


EMPTY = [
    {"success": True, "data": None},
    {"success": True},
    {"success": True, "data": []},
    {"success": True, "data": {"dataList": None}},
    {"success": True, "data": {"dataList": None, "total": 0}},
    {"success": True, "data": {"dataList": [], "total": 0}},
    {"success": True, "data": {"dataList": [], "total": None, "hasMore": False}},
]


@pytest.mark.parametrize("body", EMPTY)
def test_every_way_to_say_nothing_is_empty(mock: Mocker, client: Client, body: object) -> None:
    serve(mock, body)
    assert client.instances() == client.tenants("ob1") == client.restorable_windows("ob1") == []
    (only,) = client.backup_sets("ob1")
    assert (only.number, list(only)) == (1, [])
    # Nothing without a count may be a mistake: each of the three lists is asked for twice.
    counted = (
        isinstance(body, dict) and isinstance(body.get("data"), dict) and "'total': 0" in str(body)
    )
    assert mock.call_count == (4 if counted else 7)


@pytest.mark.parametrize(
    "told",
    [
        {"total": 5},
        {"total": "5"},
        {"totalCount": 5},
        {"total": 5, "hasMore": True},
        {"hasMore": True},
        {"total": None, "totalCount": None},
        {},
    ],
)
def test_count_may_have_another_name_or_be_left_out(mock: Mocker, told: dict[str, Any]) -> None:
    rows = [cluster_set(backupSetId=f"x{n}", instanceId=f"x{n}") for n in range(5)]

    def answer(request: Any, _: object) -> dict[str, Any]:
        number, size = (int(query_of(request)[name]) for name in ("pageNumber", "pageSize"))
        return {"success": True, "data": {"dataList": rows[(number - 1) * size :][:size], **told}}

    mock.get(ANY, json=answer)
    for size in (2, 5, 100):
        with make(page_size=size) as client:
            assert client.instances() == rows
            assert ids(client.backup_sets("ob1")) == ["x0", "x1", "x2", "x3", "x4"]


@pytest.mark.parametrize("total", ["many", -1, True, 1.5, [5]])
def test_count_that_is_none_is_said_once_and_not_believed(
    mock: Mocker, client: Client, total: Any
) -> None:
    serve(mock, page(*sets(2), total=total), page(total=total), page(*sets(2), total=total))
    with pytest.warns(ClientWarning, match=r"is no count; lists are read to their end") as caught:
        assert ids(client.backup_sets("ob1")) == ["bak-0", "bak-1"]
    assert len(caught) == 1
    assert repr(total) in str(caught[0].message)


def test_more_rows_than_the_server_counts_are_kept_and_said(mock: Mocker, client: Client) -> None:
    serve(mock, page(*sets(3), total=2), page(total=2), page(*sets(3), total=2))
    with pytest.warns(ClientWarning, match="says 2 rows and sent 3; all were kept"):
        assert len(ids(client.backup_sets("ob1"))) == 3


@pytest.mark.parametrize("name", ["total", "totalCount"])
def test_fewer_instances_than_the_server_counts_are_an_error(
    mock: Mocker, client: Client, name: str
) -> None:
    data = {"dataList": [{"instanceId": "ob1"}], name: 2}
    serve(mock, {"success": True, "data": data})
    with pytest.raises(PagingError, match=r"GET /api/v2/instances: .* the server says 2"):
        client.instances()


def test_fewer_rows_than_the_server_counts_are_an_error(mock: Mocker, client: Client) -> None:
    serve(mock, page(*sets(3), total=4), page(total=4))
    with pytest.raises(PagingError, match=rf"GET {SETS}: .* the server says 4") as caught:
        list(client.backup_sets("ob1"))
    assert caught.value.instance_id == "ob1"


# What it refuses


@pytest.mark.parametrize("body", [{"data": []}, {"data": [], "success": None, "errorCode": None}])
def test_answer_that_does_not_say_success_is_taken_with_one_warning(
    mock: Mocker, client: Client, body: object
) -> None:
    serve(mock, body)
    with pytest.warns(ClientWarning, match="do not say success") as caught:
        ask_everything(client)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "data": [], "errorCode": "E7", "message": "no", "requestId": "theirs"},
        {"errorCode": "E7", "errorMessage": "no", "requestId": "theirs"},
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.tenants("ob1"),
        lambda client: client.restorable_windows("ob1"),
        lambda client: client.backup_set("ob1", "bak"),
        lambda client: list(client.backup_sets("ob1")),
    ],
)
def test_answer_that_says_it_failed_is_an_error_and_not_asked_for_again(
    mock: Mocker, client: Client, body: object, call: Callable[[Client], object]
) -> None:
    serve(mock, body)
    with pytest.raises(ApiError, match=r"status 200, but no success: E7 no \(request ") as caught:
        call(client)
    error = caught.value
    assert mock.call_count == 1
    assert (error.instance_id, error.status, error.code) == ("ob1", 200, "E7")
    assert (error.request_id, error.retryable) == ("theirs", False)
    assert f"request {query_of(mock.last_request)['requestId']}, the server's theirs" in str(error)


def test_row_without_an_id_is_an_error_with_its_place(mock: Mocker) -> None:
    rows = sets(4)
    rows[3]["backupSetId"] = None
    rows[3]["tenantId"] = ""
    serve_list(mock, rows)
    with make(page_size=2) as client:
        with pytest.raises(
            DataError, match="instance ob1, page 2, row 1: field backupSetId is missing"
        ) as caught:
            list(client.backup_sets("ob1"))
        assert (caught.value.instance_id, caught.value.status) == ("ob1", 200)
        with pytest.raises(
            DataError, match=r"ob1/tenants, page 2, row 1: field tenantId"
        ) as caught:
            client.tenants("ob1")
        assert caught.value.instance_id == "ob1"


@pytest.mark.parametrize(
    "data", [5, True, "text", [5], [None], {"dataList": 5}, {"dataList": {"a": {}}}]
)
def test_data_of_another_kind_is_an_error(mock: Mocker, client: Client, data: object) -> None:
    serve(mock, {"success": True, "data": data})
    for call in (
        client.instances,
        lambda: client.restorable_windows("ob1"),
        lambda: list(client.backup_sets("ob1")),
    ):
        with pytest.raises(DataError):
            call()
    assert mock.call_count == 3


def test_impossible_value_is_an_error_with_its_place(mock: Mocker, client: Client) -> None:
    serve(mock, page(*sets(1), cluster_set(tenant_set(dataBackupSize="big"))))
    words = 'instance ob1, page 1, set bak-7aqvtc4ugvuo-1002, field dataBackupSize: .*"big"'
    with pytest.raises(DataError, match=words):
        list(client.backup_sets("ob1"))


# Projects


def test_project_that_the_server_will_choose_is_said_once(mock: Mocker) -> None:
    serve(mock, {"success": True, "data": []})
    with make(project_id=None) as client:
        assert mock.call_count == 0
        with pytest.warns(ClientWarning, match="no project_id") as caught:
            ask_everything(client)
    assert len(caught) == 1
    assert "X-Ob-Project-Id" not in mock.last_request.headers


def test_project_that_is_set_is_sent_without_a_word(mock: Mocker, client: Client) -> None:
    serve_list(mock, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.instances()
    assert mock.last_request.headers["X-Ob-Project-Id"] == "proj-1"


# Several instances


def test_instances_fail_on_their_own(mock: Mocker, client: Client) -> None:
    serve_list(mock, sets(2))
    mock.get(f"{HOST}/api/v2/instances/ob2/backup/data/sets", status_code=404, content=b"{}")
    told: list[tuple[str, int, int]] = []
    found = dict(client.walk(["ob1", "ob2", "ob3"], on_page=lambda *news: told.append(news)))
    assert found.keys() == {"ob1", "ob2", "ob3"}
    assert isinstance(found["ob2"], ApiError)
    assert (found["ob2"].instance_id, found["ob2"].status) == ("ob2", 404)
    assert ids(found["ob1"]) == ids(found["ob3"]) == ["bak-0", "bak-1"]
    assert sorted(told) == [("ob1", 1, 1), ("ob3", 1, 1)]


def test_no_instances_are_no_calls(mock: Mocker, client: Client) -> None:
    assert list(client.walk([])) == []
    assert mock.call_count == 0


def test_error_of_another_kind_reaches_the_caller(mock: Mocker, client: Client) -> None:
    serve_list(mock, sets(1))

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    client._sets = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        list(client.backup_sets("ob1"))


# Threads: this service answers several at once, which the mock does not


class Busy:
    """A service that counts the requests it has in hand, and holds them, after the first `free`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pages: int = 1, free: int = 0) -> None:
        self.lock = threading.Lock()
        self.open = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.in_hand = self.most = self.served = 0
        self.pages = pages
        self.free = free
        monkeypatch.setattr(HTTPAdapter, "send", self.send)

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
        with self.lock:
            self.in_hand += 1
            self.most = max(self.most, self.in_hand)
            self.free -= 1
            is_free = self.free >= 0
        self.arrived.release()
        assert is_free or self.open.wait(10)
        time.sleep(0.002)
        with self.lock:
            self.in_hand -= 1
            self.served += 1
        query = query_of(request)
        number, size = int(query["pageNumber"]), int(query["pageSize"])
        rows = [cluster_set(backupSetId=f"{number}-{n}") for n in range(size)]
        body = page(*(rows if number <= self.pages else []), total=self.pages * size)
        raw = urllib3.HTTPResponse(io.BytesIO(body), status=200, preload_content=False)
        return HTTPAdapter().build_response(request, raw)


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_requests_are_in_flight_than_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    service = Busy(monkeypatch, pages=8)
    service.open.set()
    with make(workers=workers, page_size=2) as client:
        found = dict(client.walk(f"ob{n}" for n in range(4)))
    assert all(len(ids(pages)) == 16 for pages in found.values())
    assert service.most == workers


def wait_for(service: Busy, requests: int) -> None:
    for _ in range(requests):
        assert service.arrived.acquire(timeout=10)


def close_in(pool: ThreadPoolExecutor, client: Client) -> Any:
    """Begin to close a client elsewhere, and return when it has begun."""
    closing = pool.submit(client.close)
    assert client._transport.closing.wait(10)
    return closing


def test_close_ends_every_walk_also_those_that_have_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Busy(monkeypatch, pages=5)
    client = make(workers=2, page_size=2)
    with ThreadPoolExecutor(2) as pool:
        walking = pool.submit(lambda: dict(client.walk(f"ob{n}" for n in range(9))))
        wait_for(service, 2)
        closing = close_in(pool, client)
        service.open.set()
        found = walking.result(10)
        closing.result(10)
    assert len(found) == 9
    assert {type(each) for each in found.values()} == {ApiError}
    assert all("the client was closed" in str(each) for each in found.values())
    assert service.served == 2


def test_a_walk_ends_when_it_must_whatever_the_server_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Busy(monkeypatch, pages=1, free=4)  # then it hangs
    client = make(workers=1, page_size=2)
    try:
        begun = time.monotonic()
        found = dict(client.walk(["ob1", "ob2", "ob3", "ob4"], until=begun + 0.6))
        assert 0.5 < time.monotonic() - begun < 5
        assert 1 <= len(found) <= 2
        assert all(len(ids(pages)) == 2 for pages in found.values())
        served = service.served
        assert dict(client.walk(["ob5"], until=time.monotonic())) == {}
        assert service.served == served
    finally:
        service.open.set()
        client.close()


def test_close_ends_a_list_that_is_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Busy(monkeypatch, pages=50)
    client = make(workers=2, page_size=2)
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(client.instances)
        wait_for(service, 1)
        closing = close_in(pool, client)
        service.open.set()
        with pytest.raises(ObanalyticsError):
            reading.result(10)
        closing.result(10)


def test_close_ends_calls_that_wait_to_be_tried_again(mock: Mocker) -> None:
    client = make()
    client._transport.sleep = client._transport.closing.wait
    waiting = threading.Event()

    def busy(_: object, context: Any) -> bytes:
        context.status_code, context.headers = 503, {"Retry-After": "60"}
        waiting.set()
        return b""

    mock.get(ANY, content=busy)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.backup_set, "ob1", "bak")
        assert waiting.wait(10)
        client.close()
        with pytest.raises(ApiError, match="the client was closed"):
            call.result(10)


def test_closed_client_makes_no_call_and_says_so(mock: Mocker) -> None:
    serve_list(mock, [])
    with make() as client:
        pass
    client.close()
    for call in (
        client.instances,
        lambda: client.tenants("ob1"),
        lambda: client.restorable_windows("ob1"),
        lambda: client.backup_set("ob1", "bak"),
        lambda: list(client.backup_sets("ob1")),
    ):
        with pytest.raises(ApiError, match="the client was closed"):
            call()
    assert mock.call_count == 0


def test_reader_who_leaves_stops_the_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    one_walk = 20 + 1 + 2
    service = Busy(monkeypatch, pages=20, free=one_walk)
    with make(workers=1, page_size=2) as client:
        walk = client.walk(f"ob{n}" for n in range(50))
        next(walk)
        wait_for(service, one_walk + 1)
        walk.close()
        service.open.set()
        client._walkers.shutdown()
    assert service.served == one_walk + 1


# What it shows


def test_no_text_of_a_client_shows_the_secret(mock: Mocker) -> None:
    serve_list(mock, [])
    with make() as client:
        client.instances()
        assert repr(client) == f"<Client {HOST} key key-… project proj-1>"
        shown = (
            f"{client} {vars(client)!r} {vars(client._transport)!r} {client.settings.describe()}"
        )
        assert SECRET not in shown
    with make(project_id=None) as client:
        assert "project chosen by the server" in repr(client)


def test_secret_may_come_wrapped() -> None:
    with Client("id", Secret(SECRET), endpoint=HOST) as client:
        assert client.settings.access_key_secret.reveal() == SECRET
        assert client.endpoint == HOST


def test_error_while_a_client_is_made_holds_no_secret() -> None:
    with pytest.raises(ValueError, match="endpoint must be") as caught:
        make(endpoint="nowhere")
    trace = caught.value.__traceback__
    while trace is not None:
        if "tests" not in trace.tb_frame.f_code.co_filename:
            shown = {n: v for n, v in trace.tb_frame.f_locals.items() if n != "self"}
            assert SECRET not in repr(shown)
        trace = trace.tb_next
