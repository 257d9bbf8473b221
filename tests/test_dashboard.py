"""The page's server, asked with plain HTTP: what it refuses, what it leaves behind, how it ends."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from browser import absent

import obanalytics as ob
from obanalytics import dashboard
from obanalytics.errors import DataError, MissingExtraError, ObanalyticsError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "a-secret-that-must-not-be-found"  # noqa: S105 - that is the point
CODE = """
import sys
import obanalytics as ob
from obanalytics import dashboard

policy = sys.argv[2] if len(sys.argv) > 2 else None
sets = ob.read(sys.argv[1])
told = lambda line: print(line, flush=True)
sys.exit(dashboard.run(sets, rpo="30h", policy=policy, open_browser=False, told=told))
"""
PROC = Path("/proc")
REFUSED = {302, 403}
FRESH = 60.0  # seconds in which a server must be up


class Served(NamedTuple):
    """A page that is served."""

    process: subprocess.Popen[str]
    port: int
    token: str
    temporary: Path
    """Where it keeps its folder."""


@contextmanager
def served(saved: Path, temporary: Path, *more: str) -> Iterator[Served]:
    """Serve saved sets as the command does."""
    missing = [name for name in dashboard.NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        absent(f"{' and '.join(missing)}: not installed")
    temporary.mkdir(exist_ok=True)
    env = os.environ | {
        "OCEANBASE_ACCESS_KEY_ID": SECRET,
        "OCEANBASE_ACCESS_KEY_SECRET": SECRET,
        "TMPDIR": str(temporary),
        "JUPYTER_TOKEN": "another",
    }
    command = [sys.executable, "-c", CODE, str(saved), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"open http://127\.0\.0\.1:(\d+)/\?token=([0-9a-f]{48})  \(end with Ctrl-C\)\n", line
        )
        assert found, line
        yield Served(process, int(found[1]), found[2], temporary)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        process.stdout.close()


def ask(port: int, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, str, Any]:
    """Ask with no cookies, no redirects, no proxy."""
    asked = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(host, port, timeout=FRESH)
    try:
        connection.request("GET", path, headers=asked)
        answer = connection.getresponse()
        body = "" if answer.status == 101 else answer.read().decode()
        return answer.status, body, answer.headers
    finally:
        connection.close()


def upgrade(port: int, path: str, origin: str | None = None) -> int:
    """Ask for a websocket."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": "13",
    }
    return ask(port, path, **headers, **({} if origin is None else {"Origin": origin}))[0]


def descendants(pid: int) -> set[int]:
    """Return the processes that a process started, and those they started."""
    found = set()
    for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split():
        found |= {int(child), *descendants(int(child))}
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    with suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until(what: Any, seconds: float = 20.0) -> bool:
    """Wait for something; tell whether it came."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a month of one instance."""
    folder = tmp_path_factory.mktemp("saved") / "sets"
    one = ob.sample().select(instance_ids="obnwqwwvume0").between("2026-09-01", "2026-10-01")
    one.save(folder)
    return folder


@pytest.fixture(scope="module")
def page(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve them."""
    with served(saved, tmp_path_factory.mktemp("page")) as made:
        yield made


@pytest.fixture(scope="module")
def kernel(page: Served) -> str:
    """Open the page, and return the id of its kernel."""
    status, body, headers = ask(page.port, f"/?token={page.token}")
    assert status == 200
    assert "https://cdn" not in headers["Content-Security-Policy"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "application/vnd.jupyter.widget-view+json" in body
    assert "Traceback" not in body
    found = re.search(r'"kernelId": "([0-9a-f-]+)"', body)
    assert found
    return found[1]


# --- who sees the page ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?token=",
        "/?token=another",
        "/?token=" + "0" * 48,
        "/obanalytics.ipynb",
        "/api",
        "/api/status",
        "/api/kernels",
        "/api/contents",
        "/api/sessions",
        "/api/terminals",
        "/voila/tree",
        "/voila/api/contents",
        "/voila/files/obanalytics.ipynb",
        "/voila/files/voila.json",
        "/voila/files/sets/tenants.parquet",
        "/files/voila.json",
        "/lab",
    ],
)
def test_nothing_is_shown_without_the_token(page: Served, path: str) -> None:
    status, body, headers = ask(page.port, path)
    assert status in {*REFUSED, 404}
    assert status != 302 or headers["Location"].startswith("/login?")
    assert "obnwqwwvume0" not in body
    assert "kernelId" not in body
    assert page.token not in body


def test_a_kernel_is_refused_without_the_token(page: Served, kernel: str) -> None:
    path = f"/api/kernels/{kernel}"
    assert ask(page.port, path)[0] == 403
    assert upgrade(page.port, f"{path}/channels") == 403
    assert upgrade(page.port, f"{path}/channels?token=another") == 403
    # The same with the token: what is refused above is there.
    assert ask(page.port, f"{path}?token={page.token}")[0] == 200
    assert upgrade(page.port, f"{path}/channels?token={page.token}") == 101


def test_another_page_cannot_use_the_kernel(page: Served, kernel: str) -> None:
    path = f"/api/kernels/{kernel}/channels"
    login = ask(page.port, f"/api/kernels/{kernel}?token={page.token}")[2]["Set-Cookie"]
    cookie = login.split(";")[0]
    assert ask(page.port, f"/api/kernels/{kernel}", Cookie=cookie)[0] == 200
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": "13",
        "Cookie": cookie,
    }
    assert ask(page.port, path, **headers, Origin=f"http://127.0.0.1:{page.port}")[0] == 101
    assert ask(page.port, path, **headers, Origin="http://evil.example")[0] == 403


def test_no_other_name_and_no_other_address(page: Served, kernel: str) -> None:
    assert kernel
    wrong = ask(page.port, f"/?token={page.token}", Host=f"evil.example:{page.port}")
    assert wrong[0] == 403
    if sys.platform == "linux":  # all of 127/8 is this machine there
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", page.port), timeout=5).close()


def test_files_are_not_shown_to_anybody(page: Served) -> None:
    for path in ("voila.json", "obanalytics.ipynb", "sets/tenants.parquet", "%2e%2e/x", ""):
        assert ask(page.port, f"/voila/files/{path}?token={page.token}")[0] == 403
    # These are no paths of the server: what is not there leads to the files, which are refused.
    for path in ("api/contents", "voila/tree", "voila/api/contents", "api/kernels", "lab"):
        status, body, headers = ask(page.port, f"/{path}?token={page.token}")
        assert (status, headers["Location"]) == (302, f"/voila/files/{path}"), body


# --- what is left, and where ---------------------------------------------------------------------


def test_the_folder_is_for_this_user_alone(page: Served) -> None:
    (folder,) = page.temporary.glob("obanalytics-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    notebook = json.loads((folder / "obanalytics.ipynb").read_text("utf-8"))
    assert 'rpo="30h"' not in json.dumps(notebook)
    assert notebook["cells"][-1]["source"].endswith("ob.explore(sets, rpo='108000s')")


@pytest.mark.skipif(not PROC.is_dir(), reason="there is no /proc to look into")
def test_keys_and_tokens_are_in_no_command_line_and_no_environment(
    page: Served, kernel: str
) -> None:
    assert kernel
    found = descendants(page.process.pid)
    assert len(found) >= 2, "neither a server nor a kernel"
    for pid in found:
        environment = (PROC / str(pid) / "environ").read_bytes()
        assert b"PATH=" in environment
        assert SECRET.encode() not in environment
        assert b"OCEANBASE_" not in environment
        assert b"JUPYTER_TOKEN" not in environment
        assert page.token.encode() not in (PROC / str(pid) / "cmdline").read_bytes()


@pytest.mark.skipif(not PROC.is_dir(), reason="there is no /proc to look into")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_it_ends_with_its_kernels_and_its_folder(saved: Path, tmp_path: Path, how: str) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(ob.Policy(rpo="26h").to_toml(), encoding="utf-8")
    with served(saved, tmp_path / "own", *([str(policy)] if how == "SIGINT" else [])) as page:
        if how != "SIGHUP":  # that page was never opened: no kernel
            status, body, _ = ask(page.port, f"/?token={page.token}")
            assert status == 200
            assert "There was an error when executing cell" not in body
            assert "widget-view+json" in body
        everybody = descendants(page.process.pid)
        assert len(everybody) >= (1 if how == "SIGHUP" else 2)
        page.process.send_signal(getattr(signal, how))
        code = page.process.wait(20)
        assert code == (-signal.SIGKILL if how == "SIGKILL" else 0)
        assert until(lambda: not any(map(is_alive, everybody)))
        assert until(lambda: not [*page.temporary.iterdir()]), [*page.temporary.iterdir()]
        with pytest.raises(ConnectionError):
            ask(page.port, "/")


# --- what cannot be served -----------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary folders made where they can be counted."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("gone", dashboard.NEEDED)
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, nowhere: Path, gone: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == gone else find(name, *more)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'obanalytics\[dashboard\]'") as told:
        dashboard.run(ob.sample())
    assert gone in str(told.value)
    assert not [*nowhere.iterdir()]


def test_slips_are_told_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, nowhere: Path
) -> None:
    monkeypatch.setattr(dashboard, "check_extra", lambda: None)
    with pytest.raises(ValueError, match="port: 70000"):
        dashboard.run(ob.sample(), port=70_000)
    with pytest.raises((ValueError, TypeError), match="rpo"):
        dashboard.run(ob.sample(), rpo="soon")
    with pytest.raises(OSError, match="no-such"):
        dashboard.run(ob.sample(), policy=nowhere / "no-such.toml")
    assert not [*nowhere.iterdir()]
    wrong = nowhere / "wrong.toml"
    wrong.write_text("rpo = [")
    with pytest.raises((DataError, ValueError)):
        dashboard.run(ob.sample(), policy=wrong)
    assert [*nowhere.iterdir()] == [wrong]


def test_a_port_that_is_taken(saved: Path, nowhere: Path) -> None:
    if importlib.util.find_spec("voila") is None:
        absent("voila is not installed")
    told: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ObanalyticsError, match=rf"no page could be served on port {port}: "):
            dashboard.run(ob.read(saved), port=port, open_browser=False, told=told.append)
    assert not told
    assert not [*nowhere.iterdir()]
