"""The secret is shown nowhere: a sentinel is looked for wherever something could be read."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import hashlib
import io
import json
import logging
import pickle
import threading
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow.parquet as pq
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.ultratb import VerboseTB
from IPython.lib.pretty import pretty
from rich.console import Console
from rich.traceback import Traceback

import obanalytics as ob
from obanalytics import simulator
from obanalytics.errors import (
    ApiError,
    AuthenticationError,
    CredentialsError,
    DataError,
)
from obanalytics.settings import Secret, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from obanalytics.errors import ObanalyticsError

KEY_ID = "AKID-for-tests"
SECRET = "sentinel-Xq7vR2"  # noqa: S105 - what is looked for
NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
PAST = simulator.simulate(simulator.Scenario(NOW, 5, 30, tenants=2))
ONE = PAST.instances[0].instance_id
ALWAYS = 10**6


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the keys by the environment: no frame of a test holds them."""
    monkeypatch.setenv("OCEANBASE_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", SECRET)
    monkeypatch.setenv("OCEANBASE_PROJECT_ID", "p")


def locked(*faults: simulator.Fault, **options: Any) -> simulator.SimulatorServer:
    """Return a server that lets the key in."""
    keys = {"access_key_id": KEY_ID, "access_key_secret": SECRET}
    return simulator.SimulatorServer(PAST, faults=faults, **keys | options)


@contextmanager
def service(*faults: simulator.Fault, **options: Any) -> Iterator[ob.Client]:
    server = locked(*faults, **options)
    with server, ob.Client(endpoint=server.url, page_size=10) as client:
        client._transport.sleep = lambda _: None
        yield client


def assert_hidden(text: object) -> None:
    """Fail without showing what was found more than needed."""
    shown = str(text)
    place = shown.find(SECRET)
    assert place < 0, f"the secret stands after: {shown[max(place - 200, 0) : place]}"


def test_the_sentinel_is_found_where_it_is() -> None:
    """What looks for it can find it: in a text, and in each kind of traceback."""
    with pytest.raises(AssertionError):
        assert_hidden(f"before {SECRET} after")

    def leak() -> NoReturn:
        word = str(SECRET)
        raise ValueError(len(word))

    with pytest.raises(ValueError, match="15") as caught:
        leak()
    for render in (by_rich, by_ipython, by_frames):
        assert SECRET in render(caught.value), render


# Texts and pickles of what holds it.


def holders(client: ob.Client) -> list[Any]:
    transport = client._transport
    return [
        client,
        client.settings,
        client.settings.access_key_secret,
        transport,
        transport._digest,
    ]


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r:>40}".format,
        "{0!s}".format,
        lambda each: f"{each}",
        lambda each: "%s %r" % (each, each),  # noqa: UP031 - as loggers do
        pretty,
        lambda each: DisplayFormatter().format(each),
        lambda each: getattr(each, "__dict__", {}),
        lambda each: json.dumps(getattr(each, "__dict__", {}), default=repr),
    ],
)
def test_nothing_that_holds_it_shows_it(show: Callable[[Any], Any]) -> None:
    with service() as client:
        ob.load(ONE, client=client)
        for each in holders(client):
            assert_hidden(show(each))


def test_formats_of_the_secret_itself() -> None:
    secret = Secret(SECRET)
    texts = {repr(secret), str(secret), f"{secret}", f"{secret!s:>12}".strip(), f"{secret:<8}"}
    assert texts == {"<secret>"}
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == SECRET


def test_settings_say_where_each_came_from_and_hide_it() -> None:
    with service() as client:
        told = client.settings.describe()
    assert_hidden(told)
    assert "environment OCEANBASE_ACCESS_KEY_SECRET" in told
    assert "<secret>" in told
    assert KEY_ID not in told + repr(client), "of the id only enough to tell which it is"


@pytest.mark.parametrize(
    "copied",
    [
        *(lambda each, p=p: pickle.dumps(each, p) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
        copy.deepcopy,
        copy.copy,
    ],
)
def test_it_is_not_pickled_or_copied(copied: Callable[[Any], Any]) -> None:
    with service() as client:
        secret = client.settings.access_key_secret
        with pytest.raises(TypeError, match="not for pickling or copying"):
            copied(secret)
        for each in holders(client):
            try:
                made = copied(each)
            except TypeError:
                continue
            assert isinstance(each, ob.Client | Settings) or made is not each
            assert SECRET.encode() not in (made if isinstance(made, bytes) else b"")
        with pytest.raises(TypeError):
            dataclasses.asdict(client.settings)


# Logs.


def test_logs_at_debug_level_are_free_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "obanalytics"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    faults = [simulator.Fault("status", page=2), simulator.Fault("reset", page=3)]
    with service(*faults, nonce_policy="one_time") as client:
        ob.load("all", client=client, restorable=True, inventory=True)
    refused = simulator.SimulatorServer(PAST)
    with refused, ob.Client(endpoint=refused.url) as client, pytest.raises(AuthenticationError):
        ob.load(ONE, client=client)
    loggers = {record.name.split(".")[0] for record in caplog.records}
    assert {"urllib3", "obanalytics"} <= loggers
    for record in caplog.records:
        assert_hidden(record.getMessage())
        assert_hidden(record.__dict__)
        assert 'response="' not in record.getMessage()


# Errors.


def by_rich(error: BaseException) -> str:
    whole: dict[str, Any] = {
        "locals_max_length": None,
        "locals_max_string": None,
        "locals_hide_dunder": False,
    }
    whole |= {"show_locals": True, "width": 5000}
    out = io.StringIO()
    Console(file=out, width=5000, color_system=None).print(
        Traceback.from_exception(type(error), error, error.__traceback__, **whole)
    )
    return out.getvalue()


def by_ipython(error: BaseException) -> str:
    verbose = VerboseTB(theme_name="nocolor", long_header=True, include_vars=True)
    text: str = verbose.text(type(error), error, error.__traceback__)
    return text


def shown(names: dict[str, Any]) -> str:
    """Show names and values, as far as they can be shown: some are half made when all fails."""
    texts = []
    for name, value in names.items():
        try:
            texts.append(f"{name}={value!r}")
        except AttributeError:
            texts.append(f"{name}={getattr(value, '__dict__', '')!r}")
    return "\n".join(texts)


def assert_our_frames_are_clean(error: BaseException) -> None:
    """Look at all frames but the test's own, which may hold what it passes."""
    _, *ours = traceback.walk_tb(error.__traceback__)
    assert ours
    for frame, _ in ours:
        assert_hidden(shown(frame.f_locals))


def by_frames(error: BaseException) -> str:
    """Show the locals of every frame, of suppressed contexts too, as a debugger could."""
    texts, seen = [], set[int]()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += [repr(each), shown(vars(each))]
        waiting += [each.__context__, each.__cause__]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            texts.append(shown(frame.f_locals))
            waiting += [v for v in frame.f_locals.values() if isinstance(v, BaseException)]
    return "\n".join(texts)


def assert_clean(error: BaseException) -> None:
    texts = ["".join(traceback.format_exception(error)), repr(pickle.dumps(error))]
    texts += [render(error) for render in (by_rich, by_ipython, by_frames)]
    for text in texts:
        assert_hidden(text)
        assert 'response="' not in text, "what was computed from it is not shown either"


FAULTS: dict[str, tuple[simulator.Fault, type[ObanalyticsError], str]] = {
    "403": (simulator.Fault("status", status=403, times=ALWAYS), ApiError, "status 403"),
    "500": (simulator.Fault("status", status=500, times=ALWAYS), ApiError, "status 500"),
    "503": (simulator.Fault("status", times=ALWAYS), ApiError, "gave up after"),
    "reset": (simulator.Fault("reset", times=ALWAYS), ApiError, "closed connection"),
    "cut body": (simulator.Fault("cut", times=ALWAYS), ApiError, "more expected"),
    "redirect": (simulator.Fault("redirect", value="https://x.example/"), ApiError, "x.example"),
    "bad field": (
        simulator.Fault("field", name="dataBackupSize", value="big"),
        DataError,
        "field dataBackupSize",
    ),
    "html": (simulator.Fault("html", status=200), DataError, "not JSON"),
    "bomb": (simulator.Fault("bomb", value=10**6), ApiError, "larger than"),
    "not today": (simulator.Fault("unsuccessful"), ApiError, "not today"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_errors_of_the_service_are_free_of_it(name: str) -> None:
    fault, kind, words = FAULTS[name]
    with service(dataclasses.replace(fault)) as client:
        client._transport.max_body = 10**5
        with pytest.raises(kind, match=words) as caught:
            ob.load(ONE, client=client)
        assert_clean(caught.value)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256-sess"])
def test_a_refused_key_is_free_of_it(algorithm: str) -> None:
    with service(access_key_secret="another", algorithm=algorithm) as client:  # noqa: S106
        for call in (lambda: ob.load(ONE, client=client), client.instances):
            with pytest.raises(AuthenticationError, match=f"algorithm {algorithm}") as caught:
                call()
            assert_clean(caught.value)


def test_a_refused_connection_is_free_of_it() -> None:
    server = locked()
    server.start()
    server.stop()
    with ob.Client(endpoint=server.url) as client:
        client._transport.sleep = lambda _: None
        with pytest.raises(ApiError, match="Connection refused") as caught:
            ob.load(ONE, client=client)
        assert_clean(caught.value)


def test_a_machine_that_refuses_to_hash_is_free_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As FIPS mode does; the library's own frame holds user, realm and secret then."""

    def refuse(name: str, *_: object, **__: object) -> NoReturn:
        raise ValueError(f"[digital envelope routines] unsupported: {name}")

    with service() as client:
        monkeypatch.setattr(hashlib, "new", refuse)
        monkeypatch.setattr(hashlib, "md5", refuse)
        with pytest.raises(AuthenticationError, match=r"cannot compute MD5.*FIPS") as caught:
            ob.load(ONE, client=client)
        assert_clean(caught.value)


def test_bad_settings_are_free_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in (
        ({"workers": 0}, "workers must be"),
        ({"page_size": 1000}, "page_size must be"),
        ({"endpoint": "ftp://x"}, "endpoint must be"),
        ({"endpoint": "http://192.0.2.7"}, "in the clear"),
        ({"project_id": "a\nb"}, "control character"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            ob.Client(**options)  # type: ignore[arg-type]
        assert_clean(caught.value)
    monkeypatch.delenv("OCEANBASE_ACCESS_KEY_ID")
    with pytest.raises(CredentialsError, match="no keys found: pass access_key_id,") as missing:
        ob.Client()
    assert_clean(missing.value)


def test_a_secret_that_was_passed_is_wrapped_before_anything_can_fail() -> None:
    given = {"access_key_id": KEY_ID, "access_key_secret": SECRET}
    with pytest.raises(ValueError, match="workers") as caught:
        ob.Client(**given, workers=0)
    assert_hidden(caught.value)
    assert_our_frames_are_clean(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"[default]\naccess_key_id = 'a'\naccess_key_secret = '{SECRET}",
        f"[default]\naccess_key_id = 'a'\naccess_key_secret = {SECRET}",
        f"[other]\naccess_key_id = 'a'\naccess_key_secret = '{SECRET}'",
    ],
)
def test_a_bad_credentials_file_is_free_of_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "obanalytics").mkdir()
    path = tmp_path / "obanalytics" / "credentials.toml"
    path.write_text(text)
    for mode in (0o600, 0o644):
        path.chmod(mode)
        with pytest.raises(CredentialsError, match=str(path)) as caught:
            ob.Client(profile="default")
        assert_hidden("".join(traceback.format_exception(caught.value)))
        assert_our_frames_are_clean(caught.value)


# What is made of what was fetched.


def contents(folder: Path) -> Iterator[bytes]:
    """Yield every file's bytes, and what is packed into Parquet."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield repr((table.schema.metadata, table.to_pylist())).encode()


def test_nothing_that_is_made_of_the_facts_holds_it(tmp_path: Path) -> None:
    fault = simulator.Fault("status", path="/tenants", status=403, times=ALWAYS)
    with service(fault) as client:
        sets = ob.load(ONE, client=client, restorable=True, inventory=True, on_error="collect")
    assert any("status 403" in note for note in sets.source.notes)
    review = ob.review(sets, rpo="26h")
    sets.save(tmp_path / "saved")
    review.to_html(tmp_path / "review.html")
    review.to_markdown(tmp_path / "review.md")
    found = list(contents(tmp_path))
    assert len(found) >= 3 + 2 * 2
    texts = [repr(sets), sets._repr_html_(), repr(sets.source), repr(review), review._repr_html_()]
    texts += [json.dumps(review.to_json()), review.to_text(), repr(review.provenance)]
    texts += [repr(DisplayFormatter().format(each)) for each in (sets, review)]
    for word in (SECRET, KEY_ID):
        assert not [text for text in texts if word in text]
        assert not [body for body in found if word.encode() in body]
        assert word.encode() not in pickle.dumps((sets, review))


# Where it could be sent.


class Recorder(BaseHTTPRequestHandler):
    """Another host, that asks for a sign-in and notes what it is told."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Digest realm="obcloud", nonce="chosen", qop="auth"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def another_host() -> Iterator[tuple[str, list[dict[str, str]]]]:
    seen: list[dict[str, str]] = []
    handler = type("Handler", (Recorder,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"localhost:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("form", ["http://{}/api/v2/instances", "//{}/x"])
@pytest.mark.parametrize("path", ["/backup/data/sets", "/api/v2/instances"])
def test_a_redirect_to_another_host_is_an_error_and_never_followed(form: str, path: str) -> None:
    words = r"a redirect to localhost(:\d+)? was not followed: check the endpoint"
    with another_host() as (host, seen):
        fault = simulator.Fault("redirect", path=path, value=form.format(host), times=ALWAYS)
        with service(fault) as client, pytest.raises(ApiError, match=words) as caught:
            ob.load("all", client=client)
        assert seen == [], "not one request, so no Authorization header either"
    assert caught.value.status == 302
    assert not caught.value.retryable


def test_the_other_host_would_have_noted_a_request() -> None:
    with (
        another_host() as (host, seen),
        ob.Client(endpoint=f"http://{host}") as client,
        pytest.raises(AuthenticationError),
    ):
        client.instances()
    assert [("Authorization" in headers) for headers in seen] == [False, True]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://192.0.2.1",
        "http://api-cloud.oceanbase.com",
        "http://localhost.example.com:8080",
        "http://127.0.0.1.example.com",
        "HTTP://Example.com",
        "http://[2001:db8::1]:80/api",
        "http://0.0.0.0:1",
    ],
)
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_plain_http_is_refused_before_anything_is_sent(
    endpoint: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("OCEANBASE_ENDPOINT", endpoint)
    with pytest.raises(ValueError, match="in the clear: http is for loopback only"):
        ob.Client(endpoint=endpoint if by == "argument" else None)


def test_keys_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must not hold keys") as caught:
        ob.Client(endpoint=f"https://{KEY_ID}:{SECRET}@api-cloud.oceanbase.com")
    assert_hidden(caught.value)


def test_neither_key_nor_secret_stands_in_an_address_or_a_plain_header() -> None:
    server = locked()
    with server, ob.Client(endpoint=server.url) as client:
        ob.load("all", client=client, restorable=True, inventory=True)
    for request in server.requests:
        assert_hidden(request)
        assert KEY_ID not in repr((request.path, request.query))
        others = {k: v for k, v in request.headers.items() if k != "Authorization"}
        assert KEY_ID not in repr(others)
        assert request.headers.get("Authorization", "Digest ").startswith("Digest ")


def test_a_netrc_file_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network library would send what stands there, as plain text, before it is asked to."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password their-word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = locked()
    with server, ob.Client(endpoint=server.url) as client:
        client.instances()
    assert "Authorization" not in server.requests[0].headers
    assert "somebody" not in repr(server.requests)
