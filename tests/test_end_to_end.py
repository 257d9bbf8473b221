"""Fetch over real HTTP: the facts come whole, or there is one error that says all."""

from __future__ import annotations

import copy
import datetime as dt
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import obanalytics as ob
from obanalytics import simulator, wire
from obanalytics.errors import (
    ApiError,
    AuthenticationError,
    ClientWarning,
    DataError,
    DataWarning,
    ObanalyticsError,
    PagingError,
)
from obanalytics.flatten import Flattener
from obanalytics.frames import COLUMNS, check
from obanalytics.schema import Window
from obanalytics.simulator.faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ALWAYS = 10**6
DAYS = 35  # a run a day: three pages of ten sets and one of five
Rows = list[dict[str, Any]]


@cache
def history(instances: int = 1) -> simulator.History:
    return simulator.simulate(simulator.Scenario(NOW, 5, DAYS, instances, tenants=2))


ONE = history().instances[0].instance_id
PART = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
LIST = f"/api/v2/instances/{ONE}/backup/data/sets"


@contextmanager
def service(
    past: simulator.History | None = None, *, client: dict[str, Any] | None = None, **options: Any
) -> Iterator[tuple[simulator.SimulatorServer, ob.Client]]:
    """Run a simulator and a client of it that never waits."""
    server = simulator.SimulatorServer(past or history(), **options)
    settings = {"endpoint": server.url, "project_id": "p", "page_size": 10} | (client or {})
    keys = dict(zip(("access_key_id", "access_key_secret"), simulator.KEY, strict=True))
    with server, ob.Client(**keys | settings) as made:
        made._transport.sleep = lambda _: None
        yield server, made


def listed(past: simulator.History, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the frames of everything there is, without HTTP, client and paging."""
    flattener = Flattener()
    for instance in past.instances:
        for body in simulator.dump(past, instance.instance_id, 100):
            flattener.add(wire.decode_page(body).sets, instance.instance_id)
    return flattener.frames(**{"download_checked": False} | options)


@cache
def all_listed(instances: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    return listed(history(instances))


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    if not one.equals(other):  # the fast way to say yes; this one says what is different
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def assert_whole(sets: ob.BackupSets, past: simulator.History, **options: Any) -> None:
    clusters, tenants = listed(past, **options) if options else all_listed(len(past.instances))
    assert_same(sets.clusters, clusters)
    assert_same(sets.tenants, tenants)


def of_page(server: simulator.SimulatorServer, number: int) -> int:
    """Count how often a page of sets was asked for by somebody who was let in."""
    asked = (r for r in server.requests if r.path.endswith("/sets") and r.status != 401)
    return sum(request.query["pageNumber"] == str(number) for request in asked)


def signature(request: simulator.server.Request) -> dict[str, str]:
    """Return the parts of a request's signature."""
    header = request.headers.get("Authorization", "")
    return {name: quoted or plain for name, quoted, plain in PART.findall(header)}


# What passes: the fetch goes on, and nothing is missing or twice.

PASSING = {
    "503": {"kind": "status"},
    "502": {"kind": "status", "status": 502},
    "504 twice": {"kind": "status", "status": 504, "times": 2},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}},
    "gateway's HTML": {"kind": "html"},
    "reset": {"kind": "reset", "times": 2},
    "cut": {"kind": "cut", "times": 2},
    "half gzip": {"kind": "half_gzip", "times": 2},
    "empty": {"kind": "empty", "times": 2},
    "truncated": {"kind": "truncated", "times": 2},
    "total once more": {"kind": "total", "value": 1},
    "total once absent": {"kind": "total", "value": "absent"},
    "no list once": {"kind": "no_list"},
    "no date once": {"kind": "no_date"},
}
ONLY_LATER = {  # on the first page these are no trouble, or another case
    "no data once": {"kind": "no_data"},
    "repeated once": {"kind": "repeat"},
    "endless once": {"kind": "endless"},
}


@pytest.mark.parametrize("page", [1, 2, 4])
@pytest.mark.parametrize("name", [*PASSING, *ONLY_LATER])
def test_trouble_that_passes_loses_nothing(name: str, page: int) -> None:
    if page == 1 and name in ONLY_LATER:
        page = 3
    fault = simulator.Fault(**{"page": page} | (PASSING | ONLY_LATER)[name])
    with service(faults=[fault]) as (_, client):
        sets = ob.load(ONE, client=client)
    assert fault.times <= 0, "the fault never struck"
    assert_whole(sets, history())
    assert sets.as_of == pd.Timestamp(NOW)


def test_the_wait_that_the_server_asks_for_is_kept_and_others_grow_within_bounds() -> None:
    faults = [
        simulator.Fault("status", page=1, status=429, headers={"Retry-After": "7"}),
        simulator.Fault("status", page=2, times=4),
    ]
    waits: list[float] = []
    with service(faults=faults, client={"workers": 1}) as (_, client):
        client._transport.sleep = waits.append
        client._transport.uniform = lambda _, most: most
        assert_whole(ob.load(ONE, client=client), history())
    assert waits == [7, 1, 2, 4, 8]


def test_every_attempt_is_a_call_of_its_own() -> None:
    with service(faults=[simulator.Fault("status", page=2, times=2)]) as (server, client):
        ob.load(ONE, client=client)
    ids = [request.query["requestId"] for request in server.requests]
    assert len(set(ids)) == len(ids)
    signed = [signature(request) for request in server.requests if request.signed]
    pairs = {(each["nonce"], each["nc"]) for each in signed}
    assert len(pairs) == len(signed) > 6, "a nonce count was sent twice"
    assert {request.headers["X-Ob-Project-Id"] for request in server.requests} == {"p"}


# What does not pass: one error that says what, where, how far, and what to do.

FATAL: dict[str, tuple[dict[str, Any], type[ObanalyticsError], str, dict[str, Any]]] = {
    "400": (
        {"kind": "status", "status": 400},
        ApiError,
        f"{LIST} .* status 400: E001R000 Unknown Error; check the arguments .*1 of 4 pages",
        {"status": 400, "code": "E001R000", "retryable": False},
    ),
    "403": (
        {"kind": "status", "status": 403, "value": "no permission"},
        ApiError,
        f"{LIST} .* no permission; .* ask its owner, or send the right project_id .*1 of 4 pages",
        {"status": 403, "code": "E001R000", "retryable": False},
    ),
    "404": (
        {"kind": "status", "status": 404},
        ApiError,
        r"may be in another project \(p\) or at another endpoint .*1 of 4 pages",
        {"status": 404, "retryable": False},
    ),
    "500": (
        {"kind": "status", "status": 500},
        ApiError,
        f"{LIST} .* status 500: .*; try again later .*1 of 4 pages",
        {"status": 500, "retryable": True},
    ),
    "503": (
        {"kind": "status", "times": ALWAYS},
        ApiError,
        rf"{LIST} \(page 2\) .* status 503: .* gave up after 6 attempts: try again later.*1 of 4 p",
        {"status": 503, "code": "E001R000", "retryable": True},
    ),
    "reset": (
        {"kind": "reset", "times": ALWAYS},
        ApiError,
        rf"{LIST} \(page 2\) .* closed connection .* gave up after 6 .* another endpoint",
        {"status": None, "retryable": True},
    ),
    "cut": (
        {"kind": "cut", "times": ALWAYS},
        ApiError,
        rf"{LIST} \(page 2\) .* bytes read, .* more expected\); gave up after 6 attempts",
        {"retryable": True},
    ),
    "half gzip": (
        {"kind": "half_gzip", "times": ALWAYS},
        ApiError,
        rf"{LIST} \(page 2\) .* half a gzip body; gave up after 6 attempts",
        {"retryable": True},
    ),
    "empty": (
        {"kind": "empty", "times": ALWAYS},
        ApiError,
        rf"{LIST} \(page 2\) .* the body is empty; gave up after 6 attempts",
        {"status": 200, "retryable": True},
    ),
    "truncated": (
        {"kind": "truncated", "times": ALWAYS},
        ApiError,
        rf"{LIST} \(page 2\) .* the body is cut; gave up after 6 attempts",
        {"status": 200, "retryable": True},
    ),
    "html": (
        {"kind": "html", "status": 200},
        DataError,
        f"instance {ONE}, page 2: not JSON: .*The gateway is busy.*1 of 4 pages",
        {"retryable": False},
    ),
    "html 404": (
        {"kind": "html", "status": 404},
        ApiError,
        f"{LIST} .* status 404: .*The gateway is busy",
        {"status": 404},
    ),
    "unsuccessful": (
        {"kind": "unsuccessful"},
        ApiError,
        "status 200, but no success: E1 not today .*check instance and project.*1 of 4 pages",
        {"status": 200, "code": "E1", "retryable": False},
    ),
    "redirect": (
        {"kind": "redirect", "value": "https://elsewhere.example/api"},
        ApiError,
        f"{LIST} .* a redirect to elsewhere.example was not followed: check the endpoint",
        {"status": 302, "retryable": False},
    ),
    "field": (
        {"kind": "field", "name": "dataBackupSize", "value": "big"},
        DataError,
        f'instance {ONE}, page 2, set bak-\\w+-1002, field dataBackupSize: impossible value "big"',
        {"retryable": False},
    ),
    "time": (
        {"kind": "field", "name": "startTime", "value": "yesterday"},
        DataError,
        f"instance {ONE}, page 2, set bak-\\w+-1002: field startTime is impossible: 'yesterday'",
        {},
    ),
    "huge": (
        {"kind": "huge", "value": 10**9},
        ApiError,
        r"larger than 1000000 bytes \(1000000000\); it was not read.*1 of 4 pages",
        {"retryable": False},
    ),
    "bomb": (
        {"kind": "bomb", "value": 10**7},
        ApiError,
        "larger than 1000000 bytes; the rest was not read.*1 of 4 pages",
        {"retryable": False},
    ),
}


@pytest.mark.parametrize("name", FATAL)
def test_trouble_that_stays_is_one_error_that_says_it_all(name: str) -> None:
    options, kind, words, attributes = FATAL[name]
    fault = simulator.Fault(**{"page": 2} | options)
    with service(faults=[fault]) as (server, client):
        client._transport.max_body = 10**6
        with pytest.raises(ObanalyticsError, match=words) as caught:
            ob.load(ONE, client=client)
    assert type(caught.value) is kind
    assert caught.value.instance_id == ONE
    assert {each: getattr(caught.value, each) for each in attributes} == attributes
    assert of_page(server, 2) == (6 if "gave up after 6" in words else 1)


PAGING = {
    "too large a total": ({"kind": "total", "value": 5}, f"{DAYS} different .* says {DAYS + 5} "),
    "one page for all": ({"kind": "repeat"}, f"10 different rows, the server says {DAYS} "),
    "endless": ({"kind": "endless"}, "endless: more than 8 pages, 800 .* server says 101 "),
    "no list": ({"kind": "no_list"}, f"0 different rows, the server says {DAYS} "),
    "no list later": ({"kind": "no_list", "page": 3}, f"different rows, the server says {DAYS} "),
}


@pytest.mark.parametrize("name", PAGING)
def test_a_list_that_never_adds_up_is_an_error_with_both_counts(name: str) -> None:
    options, words = PAGING[name]
    with service(faults=[simulator.Fault(times=ALWAYS, **options)]) as (server, client):
        client.max_pages = 8
        with pytest.raises(PagingError, match=f"{LIST}: .*{words}.*nothing was kept") as caught:
            ob.load(ONE, client=client)
    assert caught.value.instance_id == ONE
    assert caught.value.retryable is (name != "endless")  # another time it has no end either
    assert len(server.requests) < 100


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"kind": "total", "value": "absent"}, None),
        ({"kind": "total", "value": None}, None),
        ({"kind": "total", "value": str(DAYS)}, None),
        ({"kind": "total", "value": "many"}, "total 'many' is no count"),
        ({"kind": "total", "value": -7}, f"says {DAYS - 7} rows and sent {DAYS}; all were kept"),
        ({"kind": "no_success"}, "do not say success"),
    ],
    ids=lambda value: str(value.get("value", value["kind"])) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("page_size", [10, 7])
def test_a_list_is_read_to_its_end_whatever_is_wrong_with_the_count(
    options: dict[str, Any], warning: str | None, page_size: int
) -> None:
    fault = simulator.Fault(times=ALWAYS, **options)
    with service(faults=[fault], client={"page_size": page_size}) as (_, client):
        if warning is None:
            sets = ob.load(ONE, client=client)
        else:
            with pytest.warns(ClientWarning, match=warning) as caught:
                sets = ob.load(ONE, client=client)
            assert len(caught) == 1, "one thing is said once"
    assert_whole(sets, history())


@pytest.mark.parametrize(
    "options", [{"kind": "no_data"}, {"kind": "no_list"}], ids=lambda options: options["kind"]
)
def test_an_instance_without_sets_is_empty_frames(options: dict[str, Any]) -> None:
    faults = [simulator.Fault(times=ALWAYS, **options), simulator.Fault("total", times=ALWAYS)]
    faults[1].value = "absent"
    with service(faults=faults if options["kind"] == "no_list" else faults[:1]) as (_, client):
        sets = ob.load(ONE, client=client)
    assert len(sets) == len(sets.tenants) == 0
    assert list(sets.clusters) == [column.name for column in COLUMNS["clusters"]]
    check(sets.clusters, "clusters")
    check(sets.tenants, "tenants")
    assert sets.source.instances == (ONE,)


def test_a_field_nobody_knows_is_kept() -> None:
    fault = simulator.Fault("field", page=2, name="novel", value=[1, {"a": 2}], times=ALWAYS)
    with service(faults=[fault]) as (_, client), pytest.warns(DataWarning, match="does not know"):
        sets = ob.load(ONE, client=client)
    extra = sets.tenants["extra"].dropna()
    assert extra.tolist() == ['{"novel":[1,{"a":2}]}']
    pd.testing.assert_frame_equal(
        sets.tenants.drop(columns="extra"), all_listed()[1].drop(columns="extra")
    )


def test_without_the_servers_clock_the_newest_time_in_the_data_is_taken() -> None:
    with service(faults=[simulator.Fault("no_date", times=ALWAYS)]) as (_, client):
        sets = ob.load(ONE, client=client)
    newest = max(row["endTime"] for row in history().sets(ONE))  # a cluster set ends last
    assert sets.as_of == pd.Timestamp(newest)


def test_every_kind_of_fault_is_tried() -> None:
    tried = [*PASSING.values(), *ONLY_LATER.values(), *(each[0] for each in PAGING.values())]
    tried += [each[0] for each in FATAL.values()]
    assert {each["kind"] for each in tried} | {"no_success"} == set(KINDS)


# Sign-in.


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("policy", simulator.POLICIES)
def test_every_nonce_policy_with_many_workers_loses_no_page(policy: str, algorithm: str) -> None:
    past = history(instances=4)
    options = {"nonce_policy": policy, "algorithm": algorithm, "latency": 0.002}
    with service(past, client={"workers": 8, "page_size": 5}, **options) as (server, client):
        sets = ob.load("all", client=client)
    assert_whole(sets, past)
    refused = sum(request.status == 401 for request in server.requests)
    let_in = len(server.requests) - refused
    # Every thread has to be challenged once; what the policy costs comes on top.
    most = {"one_time": let_in + 8, "expiring": let_in / 10 + 2 * 8}.get(policy, 8)
    assert refused <= most


@pytest.mark.parametrize("policy", ["reuse", "one_time"])
@pytest.mark.parametrize("qop", ["auth", ""])
@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess"])
def test_every_algorithm_and_qop(algorithm: str, qop: str, policy: str) -> None:
    options = {"algorithm": algorithm, "qop": qop, "nonce_policy": policy}
    with service(**options) as (server, client):
        assert_whole(ob.load(ONE, client=client), history())
    for signed in (signature(request) for request in server.requests if request.signed):
        assert signed["algorithm"] == algorithm
        assert signed.get("qop", "") == qop
        assert ("nc" in signed) == bool(qop)


@pytest.mark.parametrize(("algorithm", "qop"), [("MD5", "auth"), ("SHA-256", "")])
def test_a_wrong_key_is_refused_at_once_and_says_how(algorithm: str, qop: str) -> None:
    waits: list[float] = []
    settings = {"access_key_secret": "not the secret"}
    with service(client=settings, algorithm=algorithm, qop=qop) as (server, client):
        client._transport.sleep = waits.append
        with pytest.raises(AuthenticationError) as caught:
            ob.load(ONE, client=client)
    text = str(caught.value)
    assert f"Digest, algorithm {algorithm}, qop {qop or 'none'}, stale no" in text
    assert server.url in text
    assert caught.value.status == 401
    assert not caught.value.retryable
    assert caught.value.instance_id == ONE
    assert waits == []
    assert [request.signed for request in server.requests] == [False, True]
    assert signature(server.requests[-1])["response"] not in text
    assert not re.search(r"\b[0-9a-f]{32}", text), "no hash of any kind is shown"


# Paging.


@pytest.mark.parametrize("skip_by_asked_size", [False, True])
@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
def test_a_page_size_that_is_cut_silently_loses_nothing(
    order: str,
    skip_by_asked_size: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    options = {"page_limit": 50, "over_limit": 20, "skip_by_asked_size": skip_by_asked_size}
    with service(client={"page_size": 100}, order=order, **options) as (server, client):
        pages = list(client.backup_sets(ONE))
        assert_whole(ob.load(ONE, client=client), history())
    assert server.requests[1].query["pageSize"] == "100"
    assert [len(page) for page in pages] == [20, 15]
    assert [page.total for page in pages] == [DAYS, DAYS]


@pytest.mark.parametrize("page_size", [1, 5, 7, 34, 35, 36, 100])
def test_every_page_size_gives_the_same(page_size: int) -> None:
    with service(client={"page_size": page_size}) as (_, client):
        assert_whole(ob.load(ONE, client=client), history())


def test_a_short_page_in_the_middle_is_not_the_end() -> None:
    cuts = (0, 10, 13, 23, 33, DAYS)
    with service() as (server, client):
        plain = server.answer

        def uneven(path: str, query: dict[str, str]) -> Any:
            answer = plain(path, query | {"pageNumber": "1", "pageSize": "100"})
            data, number = answer.document["data"], int(query["pageNumber"])
            begin, end = (*cuts, *[DAYS] * 99)[number - 1 : number + 1]
            data["dataList"] = data["dataList"][begin:end]
            return answer

        server.answer = uneven  # type: ignore[method-assign]
        assert_whole(ob.load(ONE, client=client), history())


def new_set(rows: Rows, number: int = 0) -> dict[str, Any]:
    """Return a set that was not there before, one day after the newest."""
    row = copy.deepcopy(max(rows, key=lambda each: each["startTime"]))
    for each in (row, *row["tenantBackupSetList"]):
        each["backupSetId"] = each["backupSetId"].replace("bak-", f"bak-new{number}-")
        for name in ("startTime", "endTime", "checkpoint"):
            moved = dt.datetime.fromisoformat(each[name]) + DAY
            each[name] = f"{moved:%Y-%m-%dT%H:%M:%SZ}"
    return row


SHIFTS: dict[str, tuple[str, Callable[[Rows], Rows]]] = {
    "one appears before the others": ("newest", lambda rows: [new_set(rows), *rows]),
    "one appears after the others": ("oldest", lambda rows: [*rows, new_set(rows)]),
    "one expires before the others": ("oldest", lambda rows: rows[1:]),
    "one expires after the others": ("newest", lambda rows: rows[:-1]),
    "one expires, one appears before": ("newest", lambda rows: [new_set(rows), *rows[:-1]]),
    "one expires, one appears after": ("oldest", lambda rows: [*rows[1:], new_set(rows)]),
    "fifteen expire": ("oldest", lambda rows: rows[15:]),
}


@pytest.mark.parametrize("when", range(1, 8))
@pytest.mark.parametrize("name", SHIFTS)
def test_a_list_that_moves_while_it_is_paged_is_whole(name: str, when: int) -> None:
    """Whenever it happens: what was there all the time comes exactly once."""
    order, shift = SHIFTS[name]
    edit = lambda rows, number: shift(rows) if number >= when else rows  # noqa: E731
    with service(order=order, edit=edit) as (_, client):
        pages = list(client.backup_sets(ONE))
    found = Counter(row.backup_set_id for page in pages for row in page)
    rows = history().sets(ONE)
    after = shift(rows if order == "newest" else rows[::-1])
    always = {row["backupSetId"] for row in rows} & {row["backupSetId"] for row in after}
    assert len(always) >= 20
    assert {each: found[each] for each in always} == dict.fromkeys(always, 1)
    assert max(found.values()) == 1


def test_a_swap_that_leaves_the_count_as_it_was_is_seen_and_the_list_read_again() -> None:
    """The set at the end of page 1 slips by unseen, and all counts agree."""
    edit = lambda rows, number: [*rows[1:], new_set(rows)] if number >= 1 else rows  # noqa: E731
    with service(order="oldest", edit=edit) as (server, client):
        sets = ob.load(ONE, client=client)
    slipped = history().sets(ONE)[::-1][10]["backupSetId"]
    ids = list(sets.clusters["backup_set_id"])
    assert ids.count(slipped) == 1
    assert len(ids) == len(set(ids)) == DAYS
    assert of_page(server, 1) == 4, "two walks, and page 1 read once more after each"


@pytest.mark.parametrize(
    "edit",
    [
        lambda rows, number: [new_set(rows, number), *rows],
        lambda rows, number: rows[number % 2 :],
        lambda rows, number: rows[number % DAYS :] + rows[: number % DAYS],
    ],
    ids=["another one each time", "one comes and goes", "another order each time"],
)
def test_a_list_that_never_holds_still_is_an_error(edit: Callable[[Rows, int], Rows]) -> None:
    words = "try again when no backup starts or expires"
    with (
        service(edit=edit, client={"workers": 1}) as (_, client),
        pytest.raises(PagingError, match=words),
    ):
        ob.load(ONE, client=client)


def test_of_a_row_that_changes_meanwhile_the_later_copy_is_kept() -> None:
    def edit(rows: Rows, number: int) -> Rows:
        done = rows[0] | {"status": "DONE" if number >= 4 else "DOING"}
        return [done, *rows[1:]]

    with service(edit=edit) as (_, client):
        sets = ob.load(ONE, client=client)
    assert sets.clusters["state"].iloc[-1] == "done"


# Windows.


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
@pytest.mark.parametrize("rule", ["start", "end", "overlap", "ignore"])
def test_a_window_is_the_same_whatever_the_server_selects_by(rule: str, order: str) -> None:
    rows = history().sets(ONE)[::-1]
    # Bounds that are starts of sets: the first is inside, the second is not.
    start, end = rows[20]["startTime"], rows[30]["startTime"]
    with service(window_rule=rule, order=order) as (_, client):
        sets = ob.load(ONE, start, end, client=client, lookback="6D")
    window = Window(pd.Timestamp(start), pd.Timestamp(end))
    since = pd.Timestamp(start) - pd.Timedelta("6D")
    assert sets.window == window
    assert_whole(sets, history(), window=window, since=since)
    inside = sets.clusters["in_window"]
    ids = sets.clusters["backup_set_id"]
    assert list(ids[inside]) == [row["backupSetId"] for row in rows[20:30]]
    before = [row["backupSetId"] for row in rows[:20] if row["startTime"] >= since.isoformat()]
    assert list(ids[~inside]) == before
    assert 5 <= len(before) <= 6
    kept = sets.tenants.groupby("cluster_backup_set_id")["in_window"].agg(["all", "any"])
    assert (kept["all"] == kept["any"]).all(), "tenant sets follow their cluster set"
    assert set(kept.index[kept["all"]]) == set(ids[inside])


def test_the_server_is_asked_for_two_days_more_on_both_sides() -> None:
    with service() as (server, client):
        ob.load(ONE, "2026-10-20", "2026-10-25T12:00", client=client, lookback="5D")
    asked = {(r.query["startTime"], r.query["endTime"]) for r in server.requests}
    assert asked == {("2026-10-13T00:00:00Z", "2026-10-27T12:00:00Z")}


def test_a_window_with_one_bound_leaves_the_other_side_open() -> None:
    rows = history().sets(ONE)[::-1]
    with service() as (server, client):
        early = ob.load(ONE, end=rows[9]["startTime"], client=client)
        late = ob.load(ONE, rows[25]["startTime"], client=client, lookback="0D")
    assert len(early) == 9
    assert early.clusters["in_window"].all()
    assert len(late) == DAYS - 25
    assert late.window == (pd.Timestamp(rows[25]["startTime"]), None)
    assert {frozenset(r.query) & {"startTime", "endTime"} for r in server.requests} == {
        frozenset({"endTime"}),
        frozenset({"startTime"}),
    }


# What `load` brings home.


@pytest.mark.parametrize("workers", [1, 8])
def test_all_instances(workers: int) -> None:
    past = history(instances=3)
    with service(past, client={"workers": workers}) as (server, client):
        sets = ob.load("all", client=client)
    ids = [instance.instance_id for instance in past.instances]
    assert_whole(sets, past)
    assert list(sets.source.instances) == ids
    assert sets.source.endpoint == server.url
    assert sets.source.failed == {}
    assert sets.window is None
    assert sets.restorable is sets.inventory is None


def test_some_instances_each_once() -> None:
    past = history(instances=3)
    first, _, third = (instance.instance_id for instance in past.instances)
    with service(past) as (server, client):
        sets = ob.load([third, first, third], client=client)
    assert sets.source.instances == (third, first)
    assert set(sets.clusters["instance_id"]) == {first, third}
    assert sum(r.path == "/api/v2/instances" for r in server.requests) == 0
    whole = all_listed(3)[1]
    pd.testing.assert_frame_equal(
        sets.tenants.astype({"instance_id": "str", "tenant_id": "str"}),
        whole[whole["instance_id"].isin([first, third])]
        .reset_index(drop=True)
        .astype({"instance_id": "str", "tenant_id": "str"}),
    )


def test_as_of_is_the_servers_clock() -> None:
    clock = NOW - 3 * DAY - dt.timedelta(hours=8)
    with service(clock=lambda: clock) as (_, client):
        sets = ob.load(ONE, client=client)
    assert sets.as_of == pd.Timestamp(clock)
    assert len(sets) == len(history().sets(ONE, clock)) < DAYS


def test_of_all_answers_the_newest_date_counts() -> None:
    late = {"Date": "Sun, 01 Nov 2026 06:10:00 GMT"}
    past = history(instances=2)
    path = f"/{past.instances[0].instance_id}/backup"
    fault = simulator.Fault("no_date", path=path, page=2, times=ALWAYS, headers=late)
    with service(past, faults=[fault]) as (_, client):
        sets = ob.load("all", client=client)
    assert sets.as_of == pd.Timestamp("2026-11-01T06:10Z")


def test_the_optional_tables() -> None:
    past = history(instances=2)
    with service(past) as (_, client):
        sets = ob.load("all", client=client, restorable=True, inventory=True)
    assert sets.restorable is not None
    assert sets.inventory is not None
    check(sets.restorable, "restorable")
    check(sets.inventory, "inventory")
    expected = {
        (instance.instance_id, row["tenantId"], span["startTime"], span["endTime"])
        for instance in past.instances
        for row in past.restorable(instance.instance_id)
        for span in row["timeIntervalList"]
    }
    form = "%Y-%m-%dT%H:%M:%SZ"
    spans = sets.restorable.assign(
        start=sets.restorable["start"].dt.strftime(form),
        end=sets.restorable["end"].dt.strftime(form),
    )
    found = spans[["instance_id", "tenant_id", "start", "end"]].itertuples(index=False, name=None)
    assert set(found) == expected
    assert len(sets.restorable) == len(expected) == 4
    names = sets.inventory[["instance_name", "tenant_id", "tenant_name", "tenant_status"]]
    assert set(names.itertuples(index=False, name=None)) == {
        (instance.name, tenant.tenant_id, tenant.name, "ONLINE")
        for instance in past.instances
        for tenant in instance.tenants
    }


def test_downloads_are_checked_only_when_asked() -> None:
    with service() as (server, client):
        plain = ob.load(ONE, client=client)
        asked = [r.query.get("checkBackupSetDownloadEnable") for r in server.requests]
        checked = ob.load(ONE, client=client, check_download=True)
    again = [r.query.get("checkBackupSetDownloadEnable") for r in server.requests[len(asked) :]]
    assert set(asked) == {None}
    assert set(again) == {"true"}
    assert plain.tenants["download_enabled"].isna().all()
    assert checked.tenants["download_enabled"].all()


def failing(past: simulator.History, which: int, kind: str, **options: Any) -> simulator.Fault:
    path = f"/{past.instances[which].instance_id}/backup/data"
    return simulator.Fault(kind, path=path, times=ALWAYS, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "status", "status": 403}, "status 403"),
        ({"kind": "field", "page": 3, "name": "dataBackupSize", "value": "big"}, "page 3"),
        ({"kind": "field", "page": 3, "name": "endTime", "value": "soon"}, "'soon'"),
        ({"kind": "total", "value": 3}, "do not add up"),
    ],
    ids=["403", "bad type", "bad time", "paging"],
)
def test_an_instance_that_fails_is_named_and_the_others_are_whole(
    options: dict[str, Any], words: str
) -> None:
    past = history(instances=3)
    first, broken, third = (instance.instance_id for instance in past.instances)
    with service(past, faults=[failing(past, 1, **options)]) as (_, client):
        sets = ob.load("all", client=client, on_error="collect", restorable=True)
    assert sets.source.instances == (first, third)
    assert list(sets.source.failed) == [broken]
    assert words in sets.source.failed[broken]
    clusters, tenants = all_listed(3)
    for frame, whole in ((sets.clusters, clusters), (sets.tenants, tenants)):
        others = whole[whole["instance_id"] != broken].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame, others, check_categorical=False)
    assert sets.restorable is not None
    assert set(sets.restorable["instance_id"]) == {first, third}
    assert broken in repr(sets)


def test_the_first_failure_is_raised_and_the_client_goes_on() -> None:
    past = history(instances=3)
    fault = failing(past, 1, "status", status=403)
    with service(past, faults=[fault]) as (_, client):
        with pytest.raises(ApiError) as caught:
            ob.load("all", client=client)
        fault.times = 0
        assert_whole(ob.load("all", client=client), past)
    assert caught.value.instance_id == past.instances[1].instance_id


def test_optional_tables_that_are_refused() -> None:
    fault = simulator.Fault("status", path="/restore/tenants", status=403, times=ALWAYS)
    with service(faults=[fault]) as (_, client):
        sets = ob.load(ONE, client=client, restorable=True, inventory=True, on_error="collect")
        with pytest.raises(ApiError, match="status 403"):
            ob.load(ONE, client=client, restorable=True)
    assert_whole(sets, history())
    assert sets.restorable is None
    assert sets.inventory is not None
    assert [
        note for note in sets.source.notes if f"no restorable table of instance {ONE}: GET" in note
    ]


def test_progress_is_told_in_the_callers_thread() -> None:
    past = history(instances=3)
    told: list[tuple[str, int, int]] = []
    threads = set()

    def progress(instance_id: str, pages: int, expected: int) -> None:
        threads.add(threading.get_ident())
        told.append((instance_id, pages, expected))

    with service(past) as (_, client):
        ob.load("all", client=client, progress=progress)
    assert threads == {threading.get_ident()}
    for instance in past.instances:
        steps = [each[1:] for each in told if each[0] == instance.instance_id]
        assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(told) == 12


def test_an_interrupt_in_the_callers_code_ends_the_fetch() -> None:
    def progress(*_: object) -> None:
        raise KeyboardInterrupt

    with service(history(instances=3), latency=0.01) as (server, client):
        with pytest.raises(KeyboardInterrupt):
            ob.load("all", client=client, progress=progress)
        client.close()
        asked = len(server.requests)
    assert asked < 3 * 6, "the pages that nobody waits for were fetched all the same"


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_requests_are_in_flight_than_there_are_workers(workers: int) -> None:
    past = history(instances=4)
    with service(past, client={"workers": workers}, access_key_secret=None) as (server, client):
        together = threading.Barrier(workers)
        answer, now, most = server.answer, 0, 0
        lock = threading.Lock()

        def counted(path: str, query: dict[str, str]) -> Any:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
                is_early = len(server.requests) < workers
            if is_early:  # breaks, and so fails the test, unless this many come together
                together.wait(timeout=5)
            time.sleep(0.002)
            with lock:
                now -= 1
            return answer(path, query)

        server.answer = counted  # type: ignore[method-assign]
        ids = [instance.instance_id for instance in past.instances]
        assert_whole(ob.load(ids, client=client), past)
    assert most == workers


def test_when_the_deadline_comes_what_is_complete_is_kept() -> None:
    past = history(instances=3)
    one, two, three = (each.instance_id for each in past.instances)
    with service(past) as (server, client):
        hold, answer = threading.Event(), server.answer

        def held(path: str, query: dict[str, str]) -> Any:
            if three in path:
                hold.wait(20)
            return answer(path, query)

        server.answer = held  # type: ignore[method-assign]
        try:
            sets = ob.load(
                [one, two, three],
                client=client,
                deadline="2s",
                on_error="collect",
                restorable=True,
                inventory=True,
            )
            assert sets.source.instances == (one, two)
            assert sets.source.failed == {three: "not complete when the deadline came"}
            notes = [each for each in sets.source.notes if "deadline" in each]
            late = "table: the deadline came first"
            assert notes == [f"no {name} {late}" for name in ("restorable", "inventory")]
            assert set(sets.tenants["instance_id"]) == {one, two}
            with pytest.raises(
                ApiError, match=rf"came when 0 of 3 instances were complete; the next one is {one}"
            ):
                ob.load("all", client=client, deadline="0s")
        finally:
            hold.set()
        with pytest.raises(ValueError, match="deadline is no duration"):
            ob.load("all", client=client, deadline="soon")
        assert_whole(ob.load("all", client=client, deadline="10min"), past)


def test_what_was_fetched_is_saved_and_read_back_whole(tmp_path: Path) -> None:
    past = history(instances=2)
    fault = failing(past, 1, "status", status=404)
    with service(past, faults=[fault]) as (_, client):
        sets = ob.load(
            "all",
            "2026-10-20",
            client=client,
            on_error="collect",
            restorable=True,
            inventory=True,
            check_download=True,
        )
    sets.save(tmp_path / "saved")
    back = ob.read(tmp_path / "saved")
    for name in ("clusters", "tenants", "restorable", "inventory"):
        assert len(getattr(sets, name))
        pd.testing.assert_frame_equal(getattr(back, name), getattr(sets, name))
    assert (back.window, back.as_of, back.source) == (sets.window, sets.as_of, sets.source)
    assert repr(back) == repr(sets)


def test_keys_and_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulator.SimulatorServer(history()) as server:
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_ID", simulator.KEY[0])
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", f" {simulator.KEY[1]}\n")
        monkeypatch.setenv("OCEANBASE_ENDPOINT", server.url + "/")
        monkeypatch.setenv("OCEANBASE_PROJECT_ID", "from-env")
        assert_whole(ob.load(ONE), history())
    assert {r.headers["X-Ob-Project-Id"] for r in server.requests} == {"from-env"}


def test_without_a_project_there_is_one_warning() -> None:
    with (
        service(client={"project_id": None}) as (server, client),
        pytest.warns(ClientWarning, match="no project_id") as caught,
    ):
        ob.load(ONE, client=client)
    assert len(caught) == 1
    assert all("X-Ob-Project-Id" not in request.headers for request in server.requests)


def test_the_other_lists_and_the_single_set() -> None:
    past = history(instances=12)
    with service(past, client={"page_size": 5}) as (_, client):
        instances = client.instances()
        tenants = client.tenants(past.instances[3].instance_id)
        newest = past.sets(past.instances[3].instance_id)[0]
        one = client.backup_set(past.instances[3].instance_id, newest["backupSetId"])
        with pytest.raises(ApiError, match="status 404: E404 no such backup set"):
            client.backup_set(past.instances[3].instance_id, "bak/none?")
    ids = [instance.instance_id for instance in past.instances]
    assert [row["instanceId"] for row in instances] == ids
    assert [row["tenantName"] for row in tenants] == ["orders", "billing"]
    assert one == newest


def test_times_of_the_optional_tables_come_in_every_form() -> None:
    past = history()
    with service(past) as (server, client):
        plain = server._of_instance

        def odd(instance: Any, rest: list[str], query: dict[str, str]) -> Any:
            answer = plain(instance, rest, query)
            if rest == ["tenants"]:
                for number, row in enumerate(answer.document["data"]["dataList"]):
                    row["createTime"] = ("2025-01-01T00:00:00.5Z", "0", None, "")[number % 4]
            if rest[-2:] == ["restore", "tenants"]:
                answer.document["data"][0]["timeIntervalList"] = [
                    {
                        "startTime": "2026-01-01'T'00:00:00.000'Z'",
                        "endTime": "2026-01-02T08:00:00+0800",
                    }
                ]
            return answer

        server._of_instance = odd  # type: ignore[method-assign]
        sets = ob.load(ONE, client=client, restorable=True, inventory=True)
    assert sets.inventory is not None
    assert sets.inventory["created_time"].iloc[0] == pd.Timestamp("2025-01-01T00:00:00.5Z")
    assert sets.inventory["created_time"].iloc[1:].isna().all()
    assert sets.restorable is not None
    assert sets.restorable["start"].iloc[0] == pd.Timestamp("2026-01-01T00:00Z")
    assert sets.restorable["end"].iloc[0] == pd.Timestamp("2026-01-02T00:00Z")


@pytest.mark.parametrize("wrong", [["x"], {"startTime": 1}, [{"startTime": "soon"}]])
def test_intervals_that_are_none_are_our_error_and_cost_only_their_table(wrong: Any) -> None:
    with service() as (server, client):
        plain = server._of_instance

        def odd(instance: Any, rest: list[str], query: dict[str, str]) -> Any:
            answer = plain(instance, rest, query)
            if rest[-2:] == ["restore", "tenants"]:
                answer.document["data"][0]["timeIntervalList"] = wrong
            return answer

        server._of_instance = odd  # type: ignore[method-assign]
        with pytest.raises(DataError, match=f"{ONE}"):
            ob.load(ONE, client=client, restorable=True)
        sets = ob.load(ONE, client=client, restorable=True, on_error="collect")
    assert_whole(sets, history())
    assert any("no restorable table" in note for note in sets.source.notes)


def test_named_instances_are_read_where_the_list_of_instances_is_refused() -> None:
    fault = simulator.Fault("status", path="/api/v2/instances", status=403, times=1)
    with service(faults=[fault]) as (_, client):
        sets = ob.load(ONE, client=client, inventory=True, on_error="collect")
    assert_whole(sets, history())
    assert sets.inventory is None
    assert any(note.startswith("no inventory table: ") for note in sets.source.notes)


def test_all_of_nothing_is_an_error() -> None:
    past = history()
    past.instances.clear()
    with (
        service(past) as (_, client),
        pytest.raises(ApiError, match="lists no instances: check the"),
    ):
        ob.load("all", client=client)
