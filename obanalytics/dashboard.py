"""Serve the explorer as a page on this machine alone: a token, no other network, no traces."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obanalytics.errors import MissingExtraError, ObanalyticsError
from obanalytics.policy import Policy
from obanalytics.schema import as_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obanalytics.schema import BackupSets

HOST = "127.0.0.1"
NEEDED = ("ipykernel", "voila")
"""Packages of the extra."""
_STARTS_WITHIN, _ENDS_WITHIN = 60.0, 15.0  # seconds
_TRIES = 3  # a free port can be taken by somebody else before the server has it
_READY = "is running at"  # what the server says once the port is its own
_PRIVATE = ("OCEANBASE_", "JUPYTER_", "IPYTHON")  # beginnings of variables that are not passed on
# The server ends when its input does, so it does not outlive this process whatever ends that; and
# it takes the folder along, for the same reason.
_CHILD = """
import os, shutil, signal, sys, threading

def watch():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=watch, daemon=True).start()
from voila.app import main
try:
    main(["obanalytics.ipynb"])
finally:
    os.chdir("..")
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class _Ended(BaseException):
    """The process was asked to end."""


def run(
    sets: BackupSets,
    *,
    rpo: Any = None,  # noqa: ANN401 - whatever is a duration
    policy: str | os.PathLike[str] | None = None,
    port: int = 0,
    open_browser: bool = True,
    told: Callable[[str], object] = print,
) -> int:
    """Serve an explorer of backup sets until Ctrl-C or SIGTERM.

    Parameters
    ----------
    sets : BackupSets
        The facts. They are saved for the server in a folder that only this user can read, and that
        is removed at the end.
    rpo : duration or None
        How much may be lost; None takes the policy's, else 26 hours.
    policy : path or None
        The file that says what is owed.
    port : int
        Where to listen on 127.0.0.1; 0 takes a free port.
    open_browser : bool
        Whether to open the page.
    told : callable
        Takes the line that says where the page is.

    Returns
    -------
    int
        0, once it has ended.

    Raises
    ------
    MissingExtraError
        When what serves the page is not installed.
    ObanalyticsError
        When the page cannot be served.
    """
    check_extra()
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port: {port} is none")
    hours = None if rpo is None else as_duration(rpo, "rpo")
    if policy is not None:
        Policy.load(policy)  # a slip in it is told here, not in a page
    folder = Path(tempfile.mkdtemp(prefix="obanalytics-"))  # 0700
    try:
        with _endings():
            (folder / "tmp").mkdir()
            sets.save(folder / "sets")
            if policy is not None:
                shutil.copyfile(policy, folder / "policy.toml")
            seconds = None if hours is None else f"{hours.total_seconds():g}s"
            _write_notebook(folder, seconds, has_policy=policy is not None)
            with _serving(folder, port) as (process, url):
                told(f"open {url}  (end with Ctrl-C)")
                if open_browser:
                    _open(folder, url)
                code = process.wait()
            raise ObanalyticsError(f"the page's server ended by itself, with code {code}")
    except (KeyboardInterrupt, _Ended):
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_extra() -> None:
    """Raise a MissingExtraError that says what to install, where something is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the dashboard needs {' and '.join(missing)}: pip install 'obanalytics[dashboard]'"
        )


@contextlib.contextmanager
def _endings() -> Iterator[None]:
    """Let the signals that end a process end the page in order."""

    def end(*_: object) -> None:
        raise _Ended

    names = ("SIGTERM", "SIGHUP")
    kinds = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        kinds = []  # Python lets no other thread listen
    before = [(kind, signal.signal(kind, end)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in before:
            signal.signal(kind, handler)


def _write_notebook(folder: Path, rpo: str | None, *, has_policy: bool) -> None:
    """Write what the page shows: a notebook of one call."""
    lines = ["import obanalytics as ob", "", 'sets = ob.read("sets")']
    if has_policy:
        lines.append('policy = ob.Policy.load("policy.toml")')
    lines.append(f"ob.explore(sets, rpo={rpo!r}{', policy=policy' if has_policy else ''})")
    code: dict[str, Any] = {
        "cell_type": "code",
        "id": "explore",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": "\n".join(lines),
    }
    head = {"cell_type": "markdown", "id": "head", "metadata": {}, "source": "# Backup sets"}
    kernel = {"name": "obanalytics", "display_name": "obanalytics", "language": "python"}
    notebook = {
        "cells": [head, code],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / "obanalytics.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    # This very Python: whatever else is registered under a name may have other packages.
    spec = folder / "jupyter" / "kernels" / "obanalytics" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(
        json.dumps({"argv": argv, "display_name": "obanalytics", "language": "python"}),
        encoding="utf-8",
    )


def _configured(folder: Path, port: int, token: str) -> dict[str, Any]:
    """Return how the page is served."""
    # Nothing is loaded from elsewhere, nothing in the data can become a script.
    rules = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "script-src-attr 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        f"font-src 'self' data:; connect-src 'self' ws://{HOST}:{port}; worker-src 'self' blob:; "
        "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
    )
    return {
        "Voila": {
            "ip": HOST,
            "port": port,
            "port_retries": 0,
            "open_browser": False,
            "token": token,
            "connection_dir_root": str(folder),
            "tornado_settings": {
                "allow_remote_access": False,  # the name of another host in a request is refused
                "headers": {"Content-Security-Policy": rules, "Referrer-Policy": "no-referrer"},
            },
        },
        "VoilaConfiguration": {
            "file_allowlist": [],
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "show_tracebacks": False,
        },
        "KernelManager": {"shutdown_wait_time": 1.0},  # it holds nothing that could be lost
        "MappingKernelManager": {"cull_idle_timeout": 3600, "cull_interval": 300},
    }


@contextlib.contextmanager
def _serving(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the server; end it, and its kernels, in any case."""
    token = secrets.token_hex(24)
    for attempt in range(_TRIES):
        place = port or _free_port()
        config = folder / "voila.json"  # in the server's working folder; not on its command line
        config.write_text(json.dumps(_configured(folder, place, token)), encoding="utf-8")
        said: deque[str] = deque(maxlen=20)
        process, is_ready = _start(folder, said)
        try:
            if _is_up(process, is_ready):
                _check_refusal(place)
                yield process, f"http://{HOST}:{place}/?token={token}"
                return
        finally:
            _end(process)
        if port or attempt == _TRIES - 1:
            why = said[-1] if said else "it said nothing"
            raise ObanalyticsError(f"no page could be served on port {place}: {why}")


def _free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as made:
        made.bind((HOST, 0))
        port: int = made.getsockname()[1]
        return port


def _start(folder: Path, said: deque[str]) -> tuple[subprocess.Popen[bytes], threading.Event]:
    """Start the server, and listen to what it says."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(_PRIVATE)}
    given |= {f"JUPYTER_{name}_DIR": str(folder / "jupyter") for name in ("CONFIG", "DATA")}
    given |= {"JUPYTER_RUNTIME_DIR": str(folder / "run"), "IPYTHONDIR": str(folder / "ipython")}
    given |= {"TMPDIR": str(folder / "tmp"), "TEMP": str(folder / "tmp")}  # nothing is left there
    process = subprocess.Popen(  # noqa: S603 - this Python, and code of ours
        [sys.executable, "-c", _CHILD, str(folder)],
        cwd=folder,
        env=given,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=os.name == "posix",  # Ctrl-C is for this process, which ends that one
    )
    is_ready = threading.Event()

    def listen(stream: Any) -> None:  # noqa: ANN401 - a pipe, which is there
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").strip()
                if text:
                    said.append(text)
                if _READY in text:
                    is_ready.set()
        is_ready.set()  # it ended

    threading.Thread(target=listen, args=(process.stderr,), daemon=True).start()
    return process, is_ready


def _is_up(process: subprocess.Popen[bytes], is_ready: threading.Event) -> bool:
    """Wait until the server has its port."""
    is_ready.wait(_STARTS_WITHIN)
    time.sleep(0.05)  # one that failed is about to end
    return is_ready.is_set() and process.poll() is None


def _check_refusal(port: int) -> None:
    """Make sure that nobody sees the page without its token."""

    class Stay(urllib.request.HTTPRedirectHandler):
        """Follow nothing."""

        def redirect_request(self, *_: object) -> None:
            """Stay where we are."""

    ask = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    try:
        with ask.open(f"http://{HOST}:{port}/", timeout=_STARTS_WITHIN):
            raise ObanalyticsError("the page would be shown without its token: it is not served")
    except urllib.error.HTTPError as refusal:
        refusal.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server: it ends its kernels."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_ENDS_WITHIN)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, _Ended):
        process.kill()  # kernels end when they find that it has
        process.wait()


def _open(folder: Path, url: str) -> None:
    """Open the page; the token is not for a browser's command line, which others can read."""
    page = folder / "open.html"
    page.write_text(f'<meta http-equiv="refresh" content="0;url={url}">', encoding="utf-8")
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(page.as_uri())
