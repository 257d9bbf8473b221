"""One call: signed, bounded, tried again when that can help, and never a secret in an error."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import threading
import time
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_mock import ANY, Mocker

from obanalytics.errors import ApiError, AuthenticationError, DataError
from obanalytics.settings import Secret, Settings
from obanalytics.simulator.digest import POLICIES, DigestGate
from obanalytics.transport import MAX_SIGN_INS, MAX_WAIT, Reply, Transport
from obanalytics.wire import decode_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obanalytics.errors import ObanalyticsError

HOST = "https://api.test"
KEY, SECRET = "key-id-of-ours", "s3cret-of-ours"
GOOD = {"content": b'{"data":[],"success":true}'}
PATH = "/api/v2/instances"


class Waits(list[float]):
    """The waits of a transport that never waits, each the longest that it may choose."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        transport.sleep = self.append
        transport.uniform = self.longest
        self.shortest: set[float] = set()

    def longest(self, low: float, high: float) -> float:
        self.shortest.add(low)
        return high


def make(*, max_attempts: int = 6, **changes: Any) -> Transport:
    changes = {"endpoint": HOST, **changes}
    return Transport(
        Settings(KEY, Secret(SECRET), **changes), timeout=(3, 7), max_attempts=max_attempts
    )


@pytest.fixture
def mock() -> Iterator[Mocker]:
    with Mocker() as started:
        yield started


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = make()
    Waits(made)
    yield made
    made.close()


def envelope(reply: Reply) -> Any:
    return decode_envelope(reply.body)


def get(transport: Transport, **params: str) -> Any:
    return transport.get(PATH, params, envelope, "ob1")


def serve(mock: Mocker, *answers: dict[str, Any]) -> None:
    """Give these answers, the last one for ever."""
    mock.get(ANY, list(answers))


def failure(status: int, **headers: str) -> dict[str, Any]:
    body = {"success": False, "errorCode": "E1", "errorMessage": "not today", "requestId": "theirs"}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"status_code": status, "json": body, "headers": names}


def raw(
    body: bytes | io.RawIOBase | io.BytesIO, status: int = 200, **headers: str
) -> dict[str, Any]:
    """Return an answer that checks its length as one from the network does."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    body = io.BytesIO(body) if isinstance(body, bytes) else body
    return {
        "raw": urllib3.HTTPResponse(
            body, names, status, preload_content=False, request_method="GET"
        )
    }


def queries(mock: Mocker) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(each.url).query) for each in mock.request_history]


def failed(transport: Transport, kind: type[ObanalyticsError] = ApiError) -> ObanalyticsError:
    """Make a call that fails, and return its error after a look at what it gives away."""
    with pytest.raises(kind) as caught:
        get(transport)
    error = caught.value
    assert type(error) is kind
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    trace, shown = error.__traceback__, str(error)
    while trace is not None:
        frame = trace.tb_frame
        assert "site-packages" not in frame.f_code.co_filename
        shown += repr(list(frame.f_locals.values()))
        trace = trace.tb_next
    assert SECRET not in shown
    assert "response=" not in shown
    return error


# What is sent


def test_call_is_sent_as_the_api_wants_it(mock: Mocker) -> None:
    serve(mock, GOOD)
    transport = make(project_id="proj-1", endpoint=HOST + "/base")
    answer = transport.get(PATH, {"startTime": "2026-05-01T00:00:00Z"}, envelope)
    assert answer == {"data": [], "success": True}
    (sent,) = mock.request_history
    assert sent.url.startswith(f"{HOST}/base{PATH}?startTime=2026-05-01T00%3A00%3A00Z&requestId=")
    assert sent.headers["X-Ob-Project-Id"] == "proj-1"
    assert sent.headers["Accept-Encoding"] == "gzip"
    assert sent.timeout == (3, 7)
    transport.close()


def test_no_project_is_sent_where_none_is_set(mock: Mocker, transport: Transport) -> None:
    serve(mock, GOOD)
    get(transport)
    assert "X-Ob-Project-Id" not in mock.last_request.headers


def test_every_request_has_a_request_id_of_its_own(mock: Mocker, transport: Transport) -> None:
    challenge = {"status_code": 401, "headers": {"WWW-Authenticate": 'Digest nonce="n"'}}
    serve(mock, challenge, failure(503), GOOD)
    get(transport)
    get(transport)
    ids = [uuid.UUID(query["requestId"][0]) for query in queries(mock)]
    assert len(set(ids)) == 4
    assert {each.version for each in ids} == {4}


@pytest.mark.parametrize("bundle", [None, "/etc/our-certificates.pem"])
def test_certificates_are_always_checked(
    mock: Mocker, bundle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/the/environment")
    challenge = {"status_code": 401, "headers": {"WWW-Authenticate": 'Digest nonce="n"'}}
    serve(mock, challenge, failure(503), GOOD)
    transport = make(ca_bundle=bundle)
    Waits(transport)
    get(transport)
    assert [each.verify for each in mock.request_history] == [bundle or True] * 3
    transport.close()


def test_library_takes_nothing_from_the_environment(
    mock: Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path.home()
    home.mkdir(parents=True, exist_ok=True)
    (home / ".netrc").write_text("machine api.test login somebody password else\n")
    (home / ".netrc").chmod(0o600)
    assert requests.utils.get_netrc_auth(HOST) == ("somebody", "else")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    serve(mock, GOOD)
    for proxies in ({}, {"https": "http://ours.test:2"}):
        transport = make(proxies=proxies)
        get(transport)
        assert "Authorization" not in mock.last_request.headers
        assert mock.last_request.proxies == proxies
        transport.close()


# Signing in


class Gated:
    """A service that lets in who signs with the key."""

    def __init__(self, mock: Mocker, policy: str = "reuse", **gate: str) -> None:
        self.gate = DigestGate(KEY, SECRET, policy=policy, **gate)
        self.answers: list[int] = []
        self.headers: list[str] = []
        mock.get(ANY, json=self._answer)

    def _answer(self, request: Any, context: Any) -> Any:
        signed = request.headers.get("Authorization", "")
        self.headers.append(signed)
        let_in, context.headers = self.gate.judge(signed, "GET", request.path_url)
        status = self.answers.pop(0) if self.answers and let_in else 200
        context.status_code = status if let_in else 401
        return {"success": context.status_code == 200, "data": []}

    @property
    def unsigned(self) -> int:
        return self.headers.count("")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256-sess"])
def test_every_policy_on_nonces_lets_threads_in(
    mock: Mocker, transport: Transport, policy: str, algorithm: str
) -> None:
    service = Gated(mock, policy, algorithm=algorithm)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: get(transport), range(24)))
    assert len(done) == 24
    assert service.unsigned <= 4


def test_signed_in_thread_signs_at_once(mock: Mocker, transport: Transport) -> None:
    service = Gated(mock)
    for _ in range(5):
        get(transport)
    assert len(service.headers) == 6
    assert service.unsigned == 1


def test_passing_error_is_not_taken_for_a_wrong_key(mock: Mocker, transport: Transport) -> None:
    service = Gated(mock, "strict")
    service.answers = [503, 200, 502, 429, 200]
    get(transport)
    get(transport)
    counts = [header.split("nc=")[1][:8] for header in service.headers[1:]]
    assert counts == ["00000001", "00000002", "00000003", "00000004", "00000005"]


@settings(max_examples=100)
@given(
    # The client refuses ids of dots: on the way they would lead to another path.
    st.lists(st.text(min_size=1, max_size=5).filter(lambda t: t.strip(".")), max_size=3),
    st.text(max_size=5),
)
def test_address_that_is_signed_is_the_address_that_is_sent(names: list[str], value: str) -> None:
    path = "".join("/" + quote(name, safe="", errors="replace") for name in names)
    value = value.encode(errors="replace").decode()
    with Mocker() as mock:
        service = Gated(mock)
        transport = make(endpoint=HOST + "/base")
        transport.get(path, {"q": value}, envelope)
        transport.close()
        assert mock.last_request.path_url in service.headers[-1]
        assert parse_qs(urlsplit(mock.last_request.url).query).get("q", [""]) == [value]


def test_wrong_key_is_refused_after_one_try_and_the_message_says_what_to_check(
    mock: Mocker, transport: Transport
) -> None:
    service = Gated(mock, algorithm="SHA-256")
    service.gate.secret = "another"  # noqa: S105 - of a test
    error = failed(transport, AuthenticationError)
    assert len(service.headers) == 2
    for part in (
        HOST,
        "refused key key-…",
        "Digest, algorithm SHA-256, qop auth, stale no",
        "check that id and secret belong together",
        "https://api-cloud-cn.oceanbase.com",
    ):
        assert part in str(error)
    assert service.headers[-1].split('response="')[1][:32] not in str(error)
    assert (error.status, error.instance_id, error.retryable) == (401, "ob1", False)
    assert error.request_id == queries(mock)[-1]["requestId"][0]


@pytest.mark.parametrize(
    ("header", "offer"),
    [("Basic realm=x", "Basic"), ('Digest nonce="n", qop="auth-int"', "Digest"), (None, "none")],
)
def test_sign_in_that_is_no_digest_is_named(
    mock: Mocker, transport: Transport, header: str | None, offer: str
) -> None:
    serve(mock, failure(401, **({"WWW-Authenticate": header} if header else {})))
    error = failed(transport, AuthenticationError)
    assert f"did not ask for a digest sign-in that we know (it offers: {offer})" in str(error)
    assert (error.status, error.code, error.request_id) == (401, "E1", "theirs")
    assert mock.call_count == 1


def test_nonces_that_are_stale_for_ever_end_in_an_error(mock: Mocker, transport: Transport) -> None:
    serve(mock, failure(401, **{"WWW-Authenticate": 'Digest nonce="n", stale=true'}))
    assert "stale yes" in str(failed(transport, AuthenticationError))
    assert mock.call_count == MAX_SIGN_INS


def test_nonces_that_expire_without_being_called_stale_do_not_end_a_long_fetch(
    mock: Mocker, transport: Transport
) -> None:
    service = Gated(mock, "one_time")
    service.gate.challenge = lambda **_: DigestGate.challenge(service.gate)  # type: ignore[method-assign]
    for _ in range(20):
        get(transport)


# What is tried again


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_status_is_tried_again_with_growing_waits(mock: Mocker, status: int) -> None:
    transport = make(max_attempts=9)
    waits = Waits(transport)
    serve(mock, *[failure(status)] * 8, GOOD)
    get(transport)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert waits.shortest == {0}
    transport.close()


def test_call_that_never_succeeds_is_given_up(mock: Mocker, transport: Transport) -> None:
    waits = Waits(transport)
    serve(mock, failure(503))
    error = failed(transport)
    assert mock.call_count == 6
    assert len(waits) == 5
    assert "status 503: E1 not today; gave up after 6 attempts: try again later" in str(error)
    assert (error.status, error.code, error.retryable) == (503, "E1", True)
    assert (error.request_id, error.instance_id) == ("theirs", "ob1")


NOW = "Wed, 25 Nov 2026 06:00:00 GMT"


@pytest.mark.parametrize(
    ("after", "now", "wait"),
    [
        ("7", NOW, 7),
        ("0", None, 0),
        ("86400", None, MAX_WAIT),
        ("9" * 5000, None, MAX_WAIT),
        ("Wed, 25 Nov 2026 06:00:09 GMT", NOW, 9),
        ("Wed, 25 Nov 2026 06:00:09", NOW, 9),
        ("Wed, 25 Nov 2026 07:00:09 +0100", NOW, 9),
        ("Wed, 25 Nov 2026 05:00:00 GMT", NOW, 0),
        ("Fri, 25 Dec 2026 06:00:00 GMT", NOW, MAX_WAIT),
        ("Wed, 25 Nov 2026 06:00:09 GMT", None, 1),
        ("Wed, 25 Nov 2026 06:00:09 GMT", "yesterday", 1),
        ("soon", NOW, 1),
        ("-5", NOW, 1),
        ("1.5", NOW, 1),
        ("\xb2", NOW, 1),
        ("", NOW, 1),
    ],
)
def test_server_that_says_when_is_asked_then_within_a_bound(
    mock: Mocker,
    transport: Transport,
    after: str,
    now: str | None,
    wait: float,
) -> None:
    waits = Waits(transport)
    dated = {"Date": now} if now else {}
    serve(mock, failure(429, Retry_After=after, **dated), GOOD)
    get(transport)
    assert waits == [wait]


def whole_and_half() -> tuple[bytes, bytes]:
    whole = json.dumps({"data": [{"x": i} for i in range(200)], "success": True}).encode()
    return whole, whole[: len(whole) // 2]


WHOLE, HALF = whole_and_half()
PACKED = gzip.compress(WHOLE)


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: {"exc": requests.exceptions.ConnectionError("refused")},
        lambda: {"exc": requests.exceptions.ConnectTimeout("too slow")},
        lambda: {"exc": requests.exceptions.ReadTimeout("too slow")},
        lambda: {"exc": requests.exceptions.ChunkedEncodingError("broken")},
        lambda: {"exc": urllib3.exceptions.ProtocolError("reset")},
        lambda: {"exc": ConnectionResetError("reset")},
        lambda: raw(HALF, Content_Length=str(len(WHOLE))),
        lambda: {"content": HALF},
        lambda: raw(PACKED[: len(PACKED) // 2], Content_Encoding="gzip"),
        lambda: raw(PACKED[:-8], Content_Encoding="gzip"),
        lambda: raw(PACKED[:10], Content_Encoding="gzip"),
        lambda: raw(WHOLE, Content_Encoding="gzip"),
        lambda: {"content": b""},
        lambda: {"content": b" \n"},
    ],
    ids=[
        *("refused", "connect timeout", "read timeout", "chunk", "protocol", "reset"),
        *("cut", "cut and undeclared", "half gzip", "gzip without its end", "gzip head"),
        *("no gzip at all", "empty", "blank"),
    ],
)
def test_broken_answer_is_asked_for_again(
    mock: Mocker,
    transport: Transport,
    trouble: Callable[[], dict[str, Any]],
) -> None:
    waits = Waits(transport)
    serve(mock, trouble(), trouble(), {"content": WHOLE})
    assert get(transport) == json.loads(WHOLE)
    assert waits == [1, 2]


def test_broken_connection_names_what_happened_and_the_other_addresses(
    mock: Mocker, transport: Transport
) -> None:
    reason = urllib3.exceptions.NameResolutionError("api.test", object(), OSError("no such host"))  # type: ignore[arg-type]
    pool = urllib3.HTTPSConnectionPool("api.test")
    cause = urllib3.exceptions.MaxRetryError(pool, "/?requestId=x", reason)
    serve(mock, {"exc": requests.exceptions.ConnectionError(cause)})
    error = failed(transport)
    for part in (
        f"GET {PATH} at {HOST}: ConnectionError: Failed to resolve 'api.test'",
        "gave up after 6 attempts",
        "another endpoint (https://api-cloud.oceanbase.com, ",
    ):
        assert part in str(error)
    assert (error.status, error.code, error.retryable) == (None, None, True)
    assert error.request_id == queries(mock)[-1]["requestId"][0]


# What is not tried again


@pytest.mark.parametrize(
    ("status", "advice", "retryable"),
    [
        (400, "check the arguments", False),
        (403, "the account may not see this", False),
        (404, "may be in another project (not sent: the server chose) or at another", False),
        (405, "check the arguments", False),
        (500, "try again later", True),
        (501, "try again later", True),
        (204, "check the arguments", False),
    ],
)
def test_final_status_is_an_error_with_advice(
    mock: Mocker,
    transport: Transport,
    status: int,
    advice: str,
    retryable: bool,  # noqa: FBT001 - a column of the table
) -> None:
    waits = Waits(transport)
    serve(mock, failure(status), GOOD)
    error = failed(transport)
    assert waits == []
    assert mock.call_count == 1
    assert f"GET {PATH} at {HOST}: status {status}: E1 not today; " in str(error)
    assert advice in str(error)
    assert (error.status, error.code, error.retryable) == (status, "E1", retryable)
    assert (error.request_id, error.instance_id) == ("theirs", "ob1")
    assert queries(mock)[0]["requestId"][0] in str(error)


def test_project_that_was_sent_is_named_when_nothing_is_found(
    mock: Mocker,
) -> None:
    serve(mock, failure(404))
    transport = make(project_id="proj-1")
    assert "another project (proj-1)" in str(failed(transport))
    transport.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>\n<p>gateway   says no</p></html>", "<html> <p>gateway says no</p></html>"),
        (b"", "no explanation"),
        (b"\xff\xfe", "\ufffd"),
        (b'{"message":"in other words"}', "in other words"),
        (b'{"errorCode":7,"msg":"m"}', "7 m"),
        (b"[" * 100_000, "[[["),
        (b"x" * 10_000, "x" * 200 + ";"),
    ],
)
def test_whatever_a_refusal_holds_is_quoted_briefly(
    mock: Mocker, transport: Transport, body: bytes, said: str
) -> None:
    serve(mock, {"status_code": 400, "content": body})
    error = failed(transport)
    assert f"status 400: {said}" in str(error)
    assert len(str(error)) < 600
    assert error.request_id == queries(mock)[0]["requestId"][0]


@pytest.mark.parametrize("body", [b'{"data":', b"[1,", b' {"data":[{"a":"b'])
def test_json_that_stops_is_asked_for_again_until_given_up(
    mock: Mocker, transport: Transport, body: bytes
) -> None:
    serve(mock, {"content": body})
    error = failed(transport)
    assert mock.call_count == 6
    assert "the body is cut; gave up" in str(error)
    assert error.status == 200


@pytest.mark.parametrize("body", [b"[1]", b"3", b"<html>busy</html>", b'"text"', b"null"])
def test_whole_answer_that_is_wrong_is_not_asked_for_again(
    mock: Mocker, transport: Transport, body: bytes
) -> None:
    serve(mock, {"content": body})
    error = failed(transport, DataError)
    assert mock.call_count == 1
    assert (error.instance_id, error.status) == ("ob1", 200)
    assert error.request_id == queries(mock)[0]["requestId"][0]


def test_untrusted_certificate_is_final(mock: Mocker, transport: Transport) -> None:
    serve(mock, {"exc": requests.exceptions.SSLError("self-signed certificate")})
    error = failed(transport)
    assert mock.call_count == 1
    assert "no trusted connection: self-signed certificate; if a proxy" in str(error)
    assert error.request_id == queries(mock)[0]["requestId"][0]


def test_address_that_is_none_is_final(mock: Mocker) -> None:
    serve(mock, GOOD)
    transport = make(endpoint="https://*.test")
    assert "https://*.test: no address to call" in str(failed(transport))
    assert mock.call_count == 0
    transport.close()


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://evil.test/api?x=1", "a redirect to evil.test was not followed"),
        ("//evil.test", "a redirect to evil.test was not followed"),
        ("https://user:password@evil.test/", "a redirect to evil.test was not followed"),
        ("/elsewhere", "a redirect to another path was not followed"),
        ("http://[", "a redirect to another path was not followed"),
        (None, "a redirect to another path was not followed"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_named_and_not_followed(
    mock: Mocker,
    transport: Transport,
    location: str | None,
    named: str,
    status: int,
) -> None:
    challenge = {"status_code": 401, "headers": {"WWW-Authenticate": 'Digest nonce="n"'}}
    serve(mock, challenge, failure(status, **({"Location": location} if location else {})))
    error = failed(transport)
    assert named in str(error)
    assert "check the endpoint" in str(error)
    assert "password" not in str(error)
    assert (error.status, error.retryable) == (status, False)
    assert [each.hostname for each in mock.request_history] == ["api.test"] * 2


# How much is read


class Endless(io.RawIOBase):
    """A body without end, which counts what is taken of it."""

    taken = 0

    def readinto(self, buffer: Any) -> int:
        self.taken += len(buffer)
        buffer[:] = b" " * len(buffer)
        return len(buffer)

    def readable(self) -> bool:
        return True


@pytest.mark.parametrize("status", [200, 302, 400, 401, 503])
@pytest.mark.parametrize("declared", [{}, {"Content_Length": "1001"}, {"Content_Length": "9" * 99}])
def test_body_without_end_is_not_read_to_its_end(
    mock: Mocker,
    transport: Transport,
    status: int,
    declared: dict[str, str],
) -> None:
    transport.max_body = 1000
    body = Endless()
    serve(mock, raw(body, status, **declared, Location="https://evil.test/"))
    error = failed(transport)
    assert "larger than 1000 bytes" in str(error)
    assert body.taken <= (0 if declared else 1 << 17)
    assert mock.call_count == 1
    assert (error.status, error.instance_id, error.retryable) == (status, "ob1", False)
    assert error.request_id == queries(mock)[0]["requestId"][0]


def test_body_of_the_largest_size_is_read(mock: Mocker, transport: Transport) -> None:
    transport.max_body = len(WHOLE)
    declared = {"Content_Length": str(len(PACKED)), "Content_Encoding": "gzip"}
    serve(mock, raw(PACKED, **declared), {"content": WHOLE})
    assert get(transport) == get(transport) == json.loads(WHOLE)
    transport.max_body -= 1
    serve(mock, raw(PACKED, **declared), {"content": WHOLE})
    for _ in range(2):
        failed(transport)


def test_bomb_is_not_unpacked(mock: Mocker, transport: Transport) -> None:
    transport.max_body = 100_000
    serve(mock, raw(gzip.compress(bytes(30_000_000), 1), Content_Encoding="gzip"))
    tracemalloc.start()
    try:
        error = failed(transport)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert "larger than 100000 bytes" in str(error)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x" * 10_000])
def test_encoding_that_was_not_asked_for_is_refused(
    mock: Mocker, transport: Transport, encoding: str
) -> None:
    serve(mock, raw(PACKED, Content_Encoding=encoding))
    error = failed(transport)
    assert "only gzip was asked for" in str(error)
    assert len(str(error)) < 300
    assert mock.call_count == 1


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip "])
def test_gzip_is_unpacked(mock: Mocker, transport: Transport, encoding: str) -> None:
    serve(mock, raw(PACKED, Content_Encoding=encoding))
    assert get(transport) == json.loads(WHOLE)


# The server's clock, and closing


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (NOW, dt.datetime(2026, 11, 25, 6, tzinfo=dt.UTC)),
        ("Wed, 25 Nov 2026 07:00:00 +0100", dt.datetime(2026, 11, 25, 6, tzinfo=dt.UTC)),
        ("Wed, 25 Nov 2026 06:00:00 -0000", dt.datetime(2026, 11, 25, 6, tzinfo=dt.UTC)),
        ("Fri, 31 Dec 9999 23:00:00 -1200", None),
        ("today", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_date_is_the_servers_clock_wherever_we_are(
    date: str | None, expected: dt.datetime | None, zone: str
) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TZ", zone)
        time.tzset()
        found = Reply(200, {"Date": date} if date else {}, b"", "id").date
    time.tzset()
    assert found == expected


def test_close_ends_a_call_that_waits_and_sends_nothing_more(
    mock: Mocker,
) -> None:
    transport = make()
    answered = threading.Event()

    def busy(_: object, context: Any) -> Any:
        context.status_code, context.headers["Retry-After"] = 503, "60"
        answered.set()
        return {}

    serve(mock, {"json": busy})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, transport)
        assert answered.wait(5)
        transport.close()
        with pytest.raises(ApiError, match="the client was closed"):
            waiting.result(5)
    with pytest.raises(ApiError, match="the client was closed"):
        get(transport)
    assert mock.call_count == 1
