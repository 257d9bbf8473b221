"""Serve a history on loopback as the service would: digest sign-in, paging, faults to order."""

from __future__ import annotations

import contextlib
import copy
import email.utils
import gzip
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from obanalytics.simulator.digest import DigestGate
from obanalytics.simulator.faults import Answer, spoil
from obanalytics.simulator.rows import stamp

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Sequence

    from obanalytics.simulator.faults import Fault
    from obanalytics.simulator.history import History, Instance

_DEFAULT_SIZE = 10
KEY = ("demo-key-id", "demo-key-secret")
"""The key that a simulator lets in unless told otherwise; it opens nothing else."""


class Request(NamedTuple):
    """One request as it came, for tests to look at."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int

    @property
    def signed(self) -> bool:
        """Whether it had an Authorization header."""
        return "Authorization" in self.headers


class SimulatorServer:
    """Serve a history on loopback, in threads.

    Parameters
    ----------
    history : History
        What to serve.
    access_key_id, access_key_secret : str or None
        The key that is let in; without a secret everybody is.
    page_limit, over_limit : int
        A larger `pageSize` than `page_limit` is replaced by `over_limit`, silently.
    skip_by_asked_size : bool
        Whether a page that was cut to `over_limit` still begins where the asked size says.
    order : str
        ``newest``, ``oldest`` or ``shuffled``.
    window_rule : str
        What `startTime` and `endTime` select by: ``start``, ``end``, ``overlap`` or ``ignore``.
    latency : float
        How long every answer takes [s].
    algorithm, qop, nonce_policy : str
        How the digest sign-in works, see `DigestGate`.
    faults : sequence of Fault
        Trouble to make.
    clock : callable or None
        Returns the instant of the service's clock [UTC]; None stands still at the history's end.
    edit : callable or None
        Called with the rows of an instance and the number of list requests so far; returns the
        rows to serve: sets appear or go while they are paged.
    port : int
        The port; 0 takes a free one.

    Examples
    --------
    >>> import datetime as dt
    >>> from obanalytics.simulator import SimulatorServer, demo
    >>> history = demo(dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC))
    >>> with SimulatorServer(history) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(  # noqa: PLR0913 - each is a way in which services differ
        self,
        history: History,
        *,
        access_key_id: str = KEY[0],
        access_key_secret: str | None = KEY[1],
        page_limit: int = 100,
        over_limit: int = 20,
        skip_by_asked_size: bool = False,
        order: str = "newest",
        window_rule: str = "start",
        latency: float = 0.0,
        algorithm: str = "MD5",
        qop: str = "auth",
        nonce_policy: str = "reuse",
        faults: Sequence[Fault] = (),
        clock: Callable[[], dt.datetime] | None = None,
        edit: Callable[[list[dict[str, Any]], int], list[dict[str, Any]]] | None = None,
        port: int = 0,
    ) -> None:
        self.history = history
        self.page_limit = page_limit
        self.over_limit = over_limit
        self.skip_by_asked_size = skip_by_asked_size
        self.order = order
        self.window_rule = window_rule
        self.latency = latency
        self.faults = list(faults)
        self.clock = clock or (lambda: history.now)
        self.edit = edit
        self.requests: list[Request] = []
        self.gate: DigestGate | None = None
        if access_key_secret is not None:
            self.gate = DigestGate(access_key_id, access_key_secret, algorithm, qop, nonce_policy)
        self._lists = 0
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, dt.datetime], list[dict[str, Any]]] = {}
        self._packed: dict[bytes, bytes] = {}
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.simulator = self
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to give to a client as its endpoint."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close every connection."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def __enter__(self) -> Self:
        """Start serving."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        self.stop()

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        """Return the answer to a request that was let in.

        Parameters
        ----------
        path : str
            The path.
        query : dict of str to str
            The query.

        Returns
        -------
        Answer
            With every fault that strikes.
        """
        page = query.get("pageNumber", "")
        number = int(page) if page.isdigit() else None
        striking = [fault for fault in self.faults if fault.strikes(path, number)]
        shown = dict(query)
        if any(fault.kind == "repeat" for fault in striking):
            shown["pageNumber"] = "1"
        answer = self._plain(path, shown)
        if any(fault.kind == "endless" for fault in striking):
            _make_endless(answer, number or 1)
        for fault in striking:
            if fault.kind not in {"repeat", "endless"}:
                spoil(answer, fault)
        return answer

    def pack(self, body: bytes) -> bytes:
        """Compress a body, each but once.

        Parameters
        ----------
        body : bytes
            The body.

        Returns
        -------
        bytes
            Its gzip form.
        """
        packed = self._packed.get(body)
        if packed is None:
            packed = self._packed[body] = gzip.compress(body, 6, mtime=0)
        return packed

    def _plain(self, path: str, query: dict[str, str]) -> Answer:
        """Return the answer without faults."""
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["api", "v2", "instances"]:
                rows = [_instance_row(each) for each in self.history.instances]
                return self._page(rows, query)
            case ["api", "v2", "instances", instance_id, *rest]:
                instance = self.history.instance(instance_id)
                if instance is not None:
                    return self._of_instance(instance, rest, query)
        return _failure(404, "no such instance or path")

    def _of_instance(self, instance: Instance, rest: list[str], query: dict[str, str]) -> Answer:
        """Return the answer to a request about one instance."""
        match rest:
            case []:
                return _success(_instance_row(instance))
            case ["tenants"]:
                now = self.clock()
                rows = [
                    {
                        "tenantId": tenant.tenant_id,
                        "tenantName": tenant.name_at(now),
                        "tenantMode": "MySQL",
                        "status": "ONLINE",
                        "createTime": stamp(tenant.created),
                    }
                    for tenant in instance.tenants
                    if tenant.lives(now)
                ]
                return self._page(rows, query)
            case ["backup", "data", "sets"]:
                return self._page(self._selected(instance, query), query)
            case ["backup", "data", "sets", set_id]:
                rows = [r for r in self._sets(instance) if r["backupSetId"] == set_id]
                return _success(rows[0]) if rows else _failure(404, "no such backup set")
            case ["backup", "restore", "tenants"]:
                rows = self.history.restorable(instance.instance_id, self.clock())
                return _success(rows)
        return _failure(404, "no such path")

    def _sets(self, instance: Instance) -> list[dict[str, Any]]:
        """Return an instance's sets now, in the server's order."""
        key = (instance.instance_id, self.clock())
        with self._lock:
            if key not in self._rows:
                rows = self.history.sets(*key)
                if self.order == "oldest":
                    rows.reverse()
                elif self.order == "shuffled":
                    random.Random(key[0]).shuffle(rows)  # noqa: S311 - a seed is the point
                self._rows[key] = rows
            rows = self._rows[key]
            if self.edit is not None:
                rows = self.edit(list(rows), self._lists)
            self._lists += 1
        return rows

    def _selected(self, instance: Instance, query: dict[str, str]) -> list[dict[str, Any]]:
        """Return the sets that the query's window selects."""
        rows = self._sets(instance)
        begin, end = query.get("startTime", ""), query.get("endTime", "~")
        checked = query.get("checkBackupSetDownloadEnable") == "true"
        if self.window_rule == "start":
            rows = [row for row in rows if begin <= row["startTime"] <= end]
        elif self.window_rule == "end":
            rows = [row for row in rows if begin <= (row["endTime"] or "~") <= end]
        elif self.window_rule == "overlap":
            rows = [r for r in rows if r["startTime"] <= end and (r["endTime"] or "~") >= begin]
        if checked:
            rows = copy.deepcopy(rows)
            for row in rows:
                for each in (row, *row.get("tenantBackupSetList", ())):
                    each["downloadEnabled"] = each["status"] == "DONE"
        return rows

    def _page(self, rows: list[dict[str, Any]], query: dict[str, str]) -> Answer:
        """Return one page of a list."""
        asked = int(query.get("pageSize") or _DEFAULT_SIZE)
        size = asked if asked <= self.page_limit else self.over_limit
        number = max(int(query.get("pageNumber") or 1), 1)
        begin = (number - 1) * (asked if self.skip_by_asked_size else size)
        shown = copy.deepcopy(rows[begin : begin + size]) if self.faults else rows[begin:][:size]
        return _success({"dataList": shown, "total": len(rows)})


def page_bytes(rows: list[dict[str, Any]], total: int) -> bytes:
    """Write a page as the service sends it.

    Parameters
    ----------
    rows : list of dict
        The page's top-level rows.
    total : int
        How many the whole list has.

    Returns
    -------
    bytes
        The body, the same for the same rows.
    """
    return _success({"dataList": rows, "total": total}).content()


def _success(data: Any) -> Answer:  # noqa: ANN401 - any JSON
    """Wrap data as the service does."""
    return Answer(200, {"data": data, "requestId": "simulated", "success": True})


def _failure(status: int, message: str) -> Answer:
    """Wrap an error as the service does."""
    document = {"success": False, "errorCode": f"E{status}", "errorMessage": message}
    return Answer(status, document | {"requestId": "simulated"})


def _instance_row(instance: Instance) -> dict[str, Any]:
    """Write an instance as the API lists it."""
    return {
        "instanceId": instance.instance_id,
        "instanceName": instance.name,
        "instanceType": "CLUSTER",
        "instanceClass": "4C16G",
        "version": "4.3.5",
        "cloudProvider": "AWS",
        "region": "eu-central-1",
        "status": "ONLINE",
        "createTime": stamp(min(tenant.created for tenant in instance.tenants)),
        "dataMergeTime": "18:00Z",
    }


def _make_endless(answer: Answer, number: int) -> None:
    """Give a page rows that no other page has, and a count that never comes near."""
    data = answer.document["data"]
    rows = data["dataList"] or [{"backupSetId": "x", "status": "DONE"}]
    fresh = [{**rows[0], "backupSetId": f"endless-{number}-{n}"} for n in range(100)]
    data["dataList"], data["total"] = fresh, number * 100 + 1


class _Server(ThreadingHTTPServer):
    """The HTTP server, with the simulator that answers."""

    daemon_threads = True
    block_on_close = False
    simulator: SimulatorServer

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.open: set[socket.socket] = set()  # closing looks at it, also when the port is taken
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - inherited
        """Serve a connection; remember it while it lasts."""
        self.open.add(request)
        # The client may go away, and the server may be stopped under it.
        with contextlib.suppress(ConnectionError, TimeoutError, ValueError, OSError):
            super().finish_request(request, client_address)
        self.open.discard(request)

    def server_close(self) -> None:
        """Close the listening socket and every connection that clients keep open."""
        super().server_close()
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Else every answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        simulator = self.server.simulator
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if simulator.latency:
            time.sleep(simulator.latency)
        let_in, headers = True, dict[str, str]()
        if simulator.gate is not None:
            signature = self.headers.get("Authorization", "")
            let_in, headers = simulator.gate.judge(signature, "GET", self.path)
        answer = simulator.answer(parts.path, query) if let_in else _failure(401, "sign in")
        answer.headers = headers | answer.headers
        simulator.requests.append(Request(parts.path, query, dict(self.headers), answer.status))
        self._send(simulator, answer)

    def _send(self, simulator: SimulatorServer, answer: Answer) -> None:
        """Write an answer, as broken as it is meant to be."""
        if answer.reset:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = answer.content()
        if answer.half_gzip:
            body = gzip.compress(body)
            body, answer.headers["Content-Encoding"] = body[: len(body) // 2], "gzip"
        elif (
            "gzip" in self.headers.get("Accept-Encoding", "")
            and "Content-Encoding" not in answer.headers
            and answer.declared is None
        ):
            body, answer.headers["Content-Encoding"] = simulator.pack(body), "gzip"
        self.send_response_only(answer.status)
        if answer.dated:
            moment = simulator.clock()
            self.send_header("Date", email.utils.format_datetime(moment, usegmt=True))
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(answer.declared or len(body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if answer.declared is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet: `SimulatorServer.requests` has what came."""


def dump(history: History, instance_id: str, size: int) -> list[bytes]:
    """Write all pages of an instance's sets, as the service sends them.

    Parameters
    ----------
    history : History
        The history.
    instance_id : str
        The instance.
    size : int
        Rows a page.

    Returns
    -------
    list of bytes
        The bodies, the same for the same history.
    """
    rows = history.sets(instance_id)
    return [page_bytes(rows[at : at + size], len(rows)) for at in range(0, len(rows), size)]


def pages_as_files(history: History, size: int = 100) -> Iterator[tuple[str, bytes]]:
    """Write all pages of all instances as gzipped files, a folder per instance.

    Parameters
    ----------
    history : History
        The history.
    size : int
        Rows a page.

    Yields
    ------
    path : str
        Such as ``ob1/page-01.json.gz``.
    content : bytes
        The file's content.
    """
    for instance in history.instances:
        for number, body in enumerate(dump(history, instance.instance_id, size), 1):
            packed = gzip.compress(body, 9, mtime=0)
            yield f"{instance.instance_id}/page-{number:02}.json.gz", packed
