"""Sign in to a server that nobody here wrote: Apache httpd, in front of the simulator's JSON."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pandas as pd
import pytest

import obanalytics as ob
from obanalytics import simulator
from obanalytics.errors import ApiError, AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
KEY = ("apache-key", "apache secret: é")
LIFETIME = 2  # how long a nonce is good [s]; Apache counts in whole seconds
MODULES = ("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_digest")
MODULES += ("proxy", "proxy_http")
CONFIG = """
ServerRoot "{folder}"
DefaultRuntimeDir "{folder}"
PidFile "{folder}/pid"
Mutex "file:{folder}" default
ErrorLog "{folder}/error.log"
{modules}
{user}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
StartServers 1
LogFormat "%>s %r %{{Authorization}}i" signed
CustomLog "{folder}/access.log" signed
<Location "/api/">
  AuthType Digest
  AuthName "obcloud"
  AuthDigestProvider file
  AuthUserFile "{folder}/users"
  AuthDigestDomain /api/
  AuthDigestQop auth
  AuthDigestAlgorithm MD5
  AuthDigestNonceLifetime {lifetime}
  Require valid-user
  ProxyPass "{backend}/api/"
</Location>
"""


def history(instances: int = 1) -> simulator.History:
    return simulator.simulate(simulator.Scenario(NOW, 5, 35, instances, tenants=2))


class Request(NamedTuple):
    """One line of Apache's log."""

    status: int
    target: str
    signature: dict[str, str]


class Apache:
    """A running server."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Stop the process that was started here."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def requests(self, let_in: int, refused: int = 0) -> list[Request]:
        """Return what came, in order; a line may be written a moment after its answer."""
        deadline = time.monotonic() + 5
        while True:
            found = self._logged()
            counts = Counter(request.status == 401 for request in found)
            if counts[False] >= let_in and counts[True] >= refused:
                return found
            assert time.monotonic() < deadline, f"{counts} in the log"
            time.sleep(0.01)

    def _logged(self) -> list[Request]:
        """Return what the log holds."""
        found = []
        for line in (self.folder / "access.log").read_text(encoding="utf-8").splitlines():
            status, _, target, _, header = line.split(" ", 4)
            parts = re.findall(r'(\w+)=(?:\\"(.*?)\\"|([^\s,]+))', header)
            signature = {name: quoted or plain for name, quoted, plain in parts}
            found.append(Request(int(status), target, signature))
        return found


def missing(what: str) -> NoReturn:
    reason = f"{what} is not installed (Debian package: apache2)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def programs() -> tuple[str, Path]:
    """Return Apache's program and the folder of its modules."""
    program = shutil.which("apache2", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    modules = Path("/usr/lib/apache2/modules")
    if program is None:
        missing("apache2")
    if not (modules / "mod_auth_digest.so").is_file():
        missing("Apache's mod_auth_digest")
    return program, modules


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(backend: str) -> Iterator[Apache]:
    """Run Apache in front of a backend; works as root and as anybody else."""
    program, modules = programs()
    # Not in tmp_path: as root, Apache serves as nobody, who may not look into root's folders.
    with tempfile.TemporaryDirectory(prefix="obanalytics-apache-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Apache(folder, free_port())
        identity = hashlib.md5(f"{KEY[0]}:obcloud:{KEY[1]}".encode(), usedforsecurity=False)
        users = f"{KEY[0]}:obcloud:{identity.hexdigest()}\n"
        (folder / "users").write_text(users, encoding="utf-8")
        text = CONFIG.format(
            folder=folder,
            port=server.url.rsplit(":", 1)[1],
            lifetime=LIFETIME,
            backend=backend,
            modules="\n".join(f'LoadModule {m}_module "{modules}/mod_{m}.so"' for m in MODULES),
            user="User nobody\nGroup #65534" if os.geteuid() == 0 else "",
        )
        (folder / "httpd.conf").write_text(text, encoding="utf-8")
        with (folder / "output").open("wb") as output:
            command = (program, "-f", str(folder / "httpd.conf"), "-DFOREGROUND")
            server.process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until_it_answers(server)
            yield server
        finally:
            server.stop()


def wait_until_it_answers(server: Apache) -> None:
    """Wait for the port; a server that ended instead says why."""
    address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if server.process is not None and server.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(address) == 0:
                return
        time.sleep(0.01)
    logs = [(server.folder / each) for each in ("output", "error.log")]
    raise AssertionError("\n".join(log.read_text() for log in logs if log.is_file()))


@contextmanager
def service(
    past: simulator.History, *, secret: str = KEY[1], client: dict[str, Any], **options: Any
) -> Iterator[tuple[Apache, ob.Client, simulator.SimulatorServer]]:
    """Run the simulator unlocked, Apache with the lock before it, and a client."""
    settings = {"project_id": "p", "page_size": 5} | client
    with (
        simulator.SimulatorServer(past, access_key_secret=None, **options) as backend,
        running(backend.url) as server,
        ob.Client(KEY[0], secret, endpoint=server.url, **settings) as made,
    ):
        made._transport.sleep = lambda _: None
        yield server, made, backend


def direct(past: simulator.History, *arguments: Any, **options: Any) -> ob.BackupSets:
    """Fetch without Apache."""
    with (
        simulator.SimulatorServer(past) as server,
        ob.Client(*simulator.KEY, endpoint=server.url, project_id="p") as client,
    ):
        return ob.load(*arguments, client=client, **options)


def assert_same(sets: ob.BackupSets, other: ob.BackupSets) -> None:
    for name in ("clusters", "tenants", "restorable", "inventory"):
        one, two = getattr(sets, name), getattr(other, name)
        assert (one is None) == (two is None)
        if one is not None:
            pd.testing.assert_frame_equal(one, two)
    assert (sets.window, sets.as_of) == (other.window, other.as_of)


def counts_by_nonce(requests: list[Request]) -> dict[str, list[int]]:
    """Return the nonce counts that were let in, in order."""
    counts: dict[str, list[int]] = defaultdict(list)
    for request in requests:
        if request.status == 200:
            counts[request.signature["nonce"]].append(int(request.signature["nc"], 16))
    return counts


def test_everything_comes_whole_through_apache_with_many_workers() -> None:
    past = history(instances=3)
    options: dict[str, Any] = {"restorable": True, "inventory": True}
    window = ("2026-10-12T00:00:00+08:00", "2026-10-30T09:30")
    with service(past, client={"workers": 8}) as (server, client, backend):
        sets = ob.load("all", *window, client=client, **options)
        requests = server.requests(len(backend.requests))
    assert_same(sets, direct(past, "all", *window, **options))
    assert len(sets) > 3 * 17
    refused = [request for request in requests if request.status != 200]
    assert {request.status for request in refused} == {401}
    assert {bool(request.signature) for request in refused} == {False}, "each signature was good"
    assert len(refused) <= 8, "one challenge for each worker"
    for counts in counts_by_nonce(requests).values():
        assert counts == list(range(1, len(counts) + 1))


def test_a_nonce_that_goes_stale_between_two_pages_costs_one_more_request() -> None:
    past = history()
    pause = pause_at(3)
    instance_id = past.instances[0].instance_id
    with service(past, client={"workers": 1}, edit=pause) as (server, client, backend):
        sets = ob.load(instance_id, client=client)
        requests = server.requests(len(backend.requests))
    assert_same(sets, direct(past, instance_id))
    pages = [re.search(r"pageNumber=(\d+)", request.target) for request in requests]
    seen = [
        (request.status, int(page[1]))
        for request, page in zip(requests, pages, strict=True)
        if page
    ]
    # 35 sets, 5 a page; the pause is in the answer to the third, so the fourth is stale.
    assert seen[:6] == [(401, 1), (200, 1), (200, 2), (200, 3), (401, 4), (200, 4)]
    stale, again = requests[4:6]
    assert stale.signature["nonce"] == requests[1].signature["nonce"]
    assert int(stale.signature["nc"], 16) == 4
    assert again.signature["nonce"] != stale.signature["nonce"]
    assert sum(request.status == 401 for request in requests) == 2
    first, second = counts_by_nonce(requests).values()
    assert first == [1, 2, 3]
    assert second == list(range(1, len(second) + 1))
    assert len(second) >= 5


def pause_at(number: int) -> Callable[[Any, int], Any]:
    """Return what lets the nonce go stale while a list is answered."""

    def edit(rows: Any, so_far: int) -> Any:
        if so_far == number - 1:
            time.sleep(LIFETIME + 0.2)
        return rows

    return edit


def test_a_wrong_secret_is_refused_at_once() -> None:
    past = history()
    with service(past, secret="wrong", client={}) as (server, client, _):  # noqa: S106 - it opens nothing
        with pytest.raises(AuthenticationError) as caught:
            ob.load(past.instances[0].instance_id, client=client)
        requests = server.requests(0, refused=2)
    assert "algorithm MD5, qop auth, stale no" in str(caught.value)
    assert [(r.status, bool(r.signature)) for r in requests] == [(401, False), (401, True)]
    assert requests[1].signature["response"] not in str(caught.value)


@pytest.mark.parametrize("instance_id", ["ob é+1", "ob%41", "a&b=c;d", "日本"])
def test_what_has_to_be_percent_encoded_is_signed_as_it_is_sent(instance_id: str) -> None:
    past = history()
    past.instances[0].instance_id = instance_id
    with service(past, client={"workers": 1}) as (server, client, backend):
        sets = ob.load(instance_id, "2026-10-20", client=client, inventory=True)
        one = client.backup_set(instance_id, sets.clusters["backup_set_id"].iloc[-1])
        with pytest.raises(ApiError, match="status 404"):
            client.backup_set(instance_id, 'é "quoted" \\ 100%')
        requests = server.requests(len(backend.requests))
    assert_same(sets, direct(past, instance_id, "2026-10-20", inventory=True))
    assert one["backupSetId"] == past.sets(instance_id)[0]["backupSetId"]
    signed_at_first = [bool(request.signature) for request in requests if request.status == 401]
    assert signed_at_first == [False], "one challenge: every call goes through the one worker"
    assert any("startTime=2026-09-13T00%3A00%3A00Z" in request.target for request in requests)
