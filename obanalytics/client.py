"""Ask the OceanBase Cloud API for lists, page by page, losing nothing."""

from __future__ import annotations

import datetime as dt
import logging
import queue
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar
from urllib.parse import quote

from obanalytics.errors import ApiError, ClientWarning, DataError, ObanalyticsError
from obanalytics.paging import MAX_PAGES, Paging, Read
from obanalytics.settings import Secret, Settings, abbreviate
from obanalytics.transport import CLOSED, Transport
from obanalytics.wire import (
    count_of,
    decode_envelope,
    decode_page,
    envelope_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from obanalytics.paging import Key
    from obanalytics.transport import Reply
    from obanalytics.wire import ClusterSet

_log = logging.getLogger(__name__)
_Row = TypeVar("_Row")
_Result = TypeVar("_Result")
When: TypeAlias = str | dt.date

MAX_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an instance's backup sets.

    Parameters
    ----------
    instance_id : str
        The instance.
    number : int
        The page's number, from 1.
    sets : list of ClusterSet
        Its top-level rows; a set stands on one page only.
    total : int or None
        How many sets the server says the whole list holds.
    reply : Reply
        The response: `body` as received, unpacked; `date`, the server's clock; `request_id`.
    """

    instance_id: str
    number: int
    sets: list[ClusterSet]
    total: int | None
    reply: Reply

    def __len__(self) -> int:
        """Return the number of top-level rows."""
        return len(self.sets)

    def __iter__(self) -> Iterator[ClusterSet]:
        """Go through the top-level rows."""
        return iter(self.sets)


class Client:
    """Talk to one OceanBase Cloud service with one key.

    Keys and settings come from the arguments, else from the environment
    (``OCEANBASE_ACCESS_KEY_ID``, ``OCEANBASE_ACCESS_KEY_SECRET``, ``OCEANBASE_PROJECT_ID``,
    ``OCEANBASE_ENDPOINT``), else from a profile in ``~/.config/obanalytics/credentials.toml``, else
    from a prompt where a person can answer one.

    Parameters
    ----------
    access_key_id, access_key_secret : str or None
        The AccessKey.
    endpoint : str or None
        ``"global"``, ``"china"`` or a URL; None takes the environment's or the profile's, else
        ``"global"``. Plain http is for loopback only.
    project_id : str or None
        The project; without one the server takes the one this account used last.
    page_size : int
        Rows to ask for at once, at most 100.
    workers : int
        How many requests may be in flight.
    timeout : tuple of float
        To connect, and between two pieces of an answer [s].
    max_attempts : int
        How often one call is tried.
    profile : str or None
        The profile in the credentials file; given, it comes before the environment.
    proxies : dict or None
        Proxy by scheme; None takes the usual environment variables.
    ca_bundle : str or None
        A file of certificates to trust. Certificates are always checked.

    Raises
    ------
    CredentialsError
        When no keys are found.
    ValueError
        When a setting cannot be what it is.

    Notes
    -----
    Every call raises an `ObanalyticsError` when it fails for good, and is tried again when it may
    not; a list is returned whole or not at all.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        access_key_id: str | None = None,
        access_key_secret: str | Secret | None = None,
        *,
        endpoint: str | None = None,
        project_id: str | None = None,
        page_size: int = MAX_PAGE_SIZE,
        workers: int = 8,
        timeout: tuple[float, float] = (10, 60),
        max_attempts: int = 6,
        profile: str | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        # Wrapped before anything can fail: a traceback may show this frame's names.
        if isinstance(access_key_secret, str):
            access_key_secret = Secret(access_key_secret.strip())
        limits = {"page_size": (page_size, MAX_PAGE_SIZE), "workers": (workers, 256)}
        limits["max_attempts"] = (max_attempts, 100)
        for name, (value, most) in limits.items():
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name} must be a whole number from 1 to {most}, not {value!r}")
        arguments = {"access_key_id": access_key_id, "access_key_secret": access_key_secret}
        arguments |= {"endpoint": endpoint, "project_id": project_id}
        self.settings = Settings.resolve(
            arguments, profile=profile, proxies=proxies, ca_bundle=ca_bundle
        )
        self.page_size = page_size
        self.workers = workers
        self.max_pages = MAX_PAGES
        self._transport = Transport(self.settings, timeout=timeout, max_attempts=max_attempts)
        self._requests = ThreadPoolExecutor(workers, "obanalytics-request")
        self._walkers = ThreadPoolExecutor(workers, "obanalytics-walk")
        self._warned: set[str] = set()
        self._lock = Lock()

    @property
    def endpoint(self) -> str:
        """The service's address."""
        return self.settings.endpoint

    def __repr__(self) -> str:
        """Return address, key and project, and no secret."""
        if not hasattr(self, "settings"):  # a debugger may look before there are any
            return "<Client>"
        key = abbreviate(self.settings.access_key_id)
        project = self.settings.project_id or "chosen by the server"
        return f"<Client {self.endpoint} key {key} project {project}>"

    def __enter__(self) -> Self:
        """Return the client; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """End what is under way and close every connection."""
        self._transport.closing.set()
        self._requests.shutdown(cancel_futures=True)
        # Walks that wait for a thread are not cancelled: somebody waits for their last word.
        self._walkers.shutdown()
        self._transport.close()

    def instances(self) -> list[dict[str, Any]]:
        """List the project's instances.

        Returns
        -------
        list of dict
            The rows as the API sends them.
        """
        return self._list("/api/v2/instances", "instanceId", None)

    def tenants(self, instance_id: str) -> list[dict[str, Any]]:
        """List the tenants of an instance.

        Parameters
        ----------
        instance_id : str
            The instance.

        Returns
        -------
        list of dict
            The rows as the API sends them.
        """
        return self._list(f"{_path(instance_id)}/tenants", "tenantId", instance_id)

    def backup_set(self, instance_id: str, backup_set_id: str) -> dict[str, Any]:
        """Fetch one backup set.

        Parameters
        ----------
        instance_id, backup_set_id : str
            The instance and the set.

        Returns
        -------
        dict
            The set as the API sends it.
        """
        path = f"{_path(instance_id)}/backup/data/sets/{_quoted(backup_set_id, 'a backup set id')}"
        data = self._alone(path, self._payload, instance_id)
        if not isinstance(data, dict):
            raise ApiError(f"GET {path}: no set in the answer", instance_id=instance_id)
        return data

    def restorable_windows(self, instance_id: str) -> list[dict[str, Any]]:
        """List the tenants of an instance with the intervals that they can be restored to.

        Parameters
        ----------
        instance_id : str
            The instance.

        Returns
        -------
        list of dict
            The rows as the API sends them; the intervals are in `timeIntervalList`.
        """
        path = f"{_path(instance_id)}/backup/restore/tenants"
        read: Read[dict[str, Any]] = self._alone(
            path, lambda reply: self._plain(reply, None, instance_id, path), instance_id
        )
        return list(read.rows.values())

    def side_by_side(
        self, call: Callable[[str], _Result], instance_ids: Iterable[str]
    ) -> list[_Result | ObanalyticsError]:
        """Make one call for each of several instances, as many at once as there are workers.

        Parameters
        ----------
        call : callable
            Takes an instance id, such as `tenants`.
        instance_ids : iterable of str
            The instances.

        Returns
        -------
        list
            What each call returned, or the error it ended with, in the order of the instances.
        """

        def kept(instance_id: str) -> _Result | ObanalyticsError:
            try:
                return call(instance_id)
            except ObanalyticsError as error:
                return error

        futures = [self._submit(self._walkers, kept, each) for each in instance_ids]
        return [future.result() for future in futures]

    def backup_sets(
        self,
        instance_id: str,
        start: When | None = None,
        end: When | None = None,
        *,
        check_download: bool = False,
    ) -> Iterator[Page]:
        """Go through the pages of an instance's backup sets.

        Nothing is yielded before the whole list was read and checked, so a set that was there all
        the time stands on exactly one page.

        Parameters
        ----------
        instance_id : str
            The instance.
        start, end : datetime, date, str or None
            What to ask the server for; naive times are read as UTC. Which sets it selects by them
            is not documented.
        check_download : bool
            Ask the server to check which sets can be downloaded.

        Yields
        ------
        Page
            The pages, in order.

        Raises
        ------
        PagingError
            When the pages do not add up to what the server says there is.
        ObanalyticsError
            When a call fails.
        """
        walk = self.walk([instance_id], start, end, check_download=check_download)
        for _, pages in walk:
            if isinstance(pages, ObanalyticsError):
                raise pages
            yield from pages

    def walk(
        self,
        instance_ids: Iterable[str],
        start: When | None = None,
        end: When | None = None,
        *,
        check_download: bool = False,
        on_page: Callable[[str, int, int], object] | None = None,
        until: float | None = None,
    ) -> Generator[tuple[str, list[Page] | ObanalyticsError]]:
        """Read the backup sets of several instances side by side.

        Parameters
        ----------
        instance_ids : iterable of str
            The instances.
        start, end : datetime, date, str or None
            What to ask the server for; naive times are read as UTC.
        check_download : bool
            Ask the server to check which sets can be downloaded.
        on_page : callable or None
            Called in this thread with instance id, pages read, and pages expected.
        until : float or None
            Stop at this instant of `time.monotonic` [s]; who is not complete then is not yielded.

        Yields
        ------
        instance_id : str
            An instance, as soon as it is complete.
        pages : list of Page, or ObanalyticsError
            Its pages, or why there are none.
        """
        params = {"startTime": _utc(start, "start"), "endTime": _utc(end, "end")}
        params["checkBackupSetDownloadEnable"] = "true" if check_download else ""
        asked = {name: value for name, value in params.items() if value}
        events: queue.SimpleQueue[tuple[str, Any, int]] = queue.SimpleQueue()
        stop = Event()
        ids = list(instance_ids)
        for instance_id in ids:
            _path(instance_id)  # refused here: in a thread of its own nobody would hear of it
        futures: list[Future[None]] = []
        try:
            for instance_id in ids if until is None or monotonic() < until else ():
                walk = (self._walk_one, instance_id, asked, events, stop)
                futures.append(self._submit(self._walkers, *walk))
            waiting = len(futures)
            while waiting:
                left = None if until is None else until - monotonic()
                try:  # whatever the server does, nobody waits for it any longer
                    instance_id, news, expected = events.get(left is None or left > 0, left)
                except queue.Empty:
                    return
                if isinstance(news, int):
                    if on_page is not None:
                        on_page(instance_id, news, expected)
                    continue
                waiting -= 1
                if isinstance(news, Exception) and not isinstance(news, ObanalyticsError):
                    raise news
                yield instance_id, news
        finally:
            stop.set()
            for future in futures:
                future.cancel()

    def _walk_one(
        self,
        instance_id: str,
        params: dict[str, str],
        events: queue.SimpleQueue[tuple[str, Any, int]],
        stop: Event,
    ) -> None:
        """Read one instance's list and report how it went; runs in a thread of its own."""
        path = f"{_path(instance_id)}/backup/data/sets"

        def fetch(number: int, size: int) -> Read[ClusterSet]:
            if stop.is_set():
                raise ApiError("the fetch was given up", instance_id=instance_id)
            read: Read[ClusterSet] = self._call(
                path,
                params | {"pageNumber": str(number), "pageSize": str(size)},
                lambda reply: self._sets(reply, instance_id, f"page {number}"),
                instance_id,
            )
            return read

        def told(pages: int, expected: int) -> None:
            events.put((instance_id, pages, expected))

        try:
            reads = self._read(fetch, path, instance_id, told)
            pages = [
                Page(instance_id, number, list(read.rows.values()), read.total, read.reply)
                for number, read in sorted(reads.items())
            ]
            _log.debug("instance %s: %d pages read", instance_id, len(pages))
            events.put((instance_id, pages, len(pages)))
        except Exception as error:  # noqa: BLE001 - goes on to the thread that waits
            events.put((instance_id, error, 0))

    def _list(self, path: str, key: str, instance_id: str | None) -> list[dict[str, Any]]:
        """Read a whole list of untyped rows."""

        def fetch(number: int, size: int) -> Read[dict[str, Any]]:
            params = {"pageNumber": str(number), "pageSize": str(size)}
            read: Read[dict[str, Any]] = self._call(
                path,
                params,
                lambda reply: self._plain(reply, key, instance_id, f"{path}, page {number}"),
                instance_id,
            )
            return read

        reads = self._read(fetch, path, instance_id, lambda *_: None)
        return [row for _, read in sorted(reads.items()) for row in read.rows.values()]

    def _read(
        self,
        fetch: Callable[[int, int], Read[_Row]],
        path: str,
        instance_id: str | None,
        told: Callable[[int, int], None],
    ) -> dict[int, Read[_Row]]:
        """Read a list whole, by its pages."""
        submit = partial(self._submit, self._requests)
        paging = Paging(fetch, submit, 2 * self.workers, told, f"GET {path}", self.max_pages)
        try:
            reads = paging.read(self.page_size)
        except ObanalyticsError as error:
            error.instance_id = error.instance_id or instance_id
            raise
        except CancelledError:
            raise ApiError(f"GET {path}: {CLOSED}", instance_id=instance_id) from None
        total = reads[1].total
        if total is not None and (sent := sum(len(read.rows) for read in reads.values())) > total:
            self._warn(f"{path}: the server says {total} rows and sent {sent}; all were kept")
        return reads

    def _submit(
        self, pool: ThreadPoolExecutor, call: Callable[..., _Result], *arguments: object
    ) -> Future[_Result]:
        """Have a call run in a pool; an error of ours when the client was closed."""
        try:
            return pool.submit(call, *arguments)
        except RuntimeError:
            if not self._transport.closing.is_set():
                raise
        raise ApiError(CLOSED)

    def _alone(self, path: str, decode: Callable[[Reply], Any], instance_id: str) -> Any:  # noqa: ANN401 - what `decode` returns
        """Make a call that is no part of a list, within the same bound on requests in flight."""
        try:
            waiting = self._submit(self._requests, self._call, path, {}, decode, instance_id)
            return waiting.result()
        except CancelledError:
            raise ApiError(f"GET {path}: {CLOSED}", instance_id=instance_id) from None

    def _call(
        self,
        path: str,
        params: Mapping[str, str],
        decode: Callable[[Reply], Any],
        instance_id: str | None,
    ) -> Any:  # noqa: ANN401 - what `decode` returns
        """Make one call; warn once when the server will choose the project."""
        if self.settings.project_id is None:
            self._warn(
                "no project_id: the server takes the project this account used last, which may be "
                "another one tomorrow; pass project_id or set OCEANBASE_PROJECT_ID"
            )
        return self._transport.get(path, params, decode, instance_id)

    def _warn(self, text: str) -> None:
        """Warn of one thing once."""
        with self._lock:
            is_new = text not in self._warned
            self._warned.add(text)
        if is_new:
            warnings.warn(text, ClientWarning, stacklevel=4)

    def _sets(self, reply: Reply, instance_id: str, place: str) -> Read[ClusterSet]:
        """Decode one page of backup sets."""
        page = decode_page(reply.body, instance_id=instance_id, where=place)
        self._judge(reply, success=page.success, has_data=page.has_data)
        rows: dict[Key, ClusterSet] = {}
        for position, row in enumerate(page.sets):
            if not row.backup_set_id:
                where = f"instance {instance_id}, {place}, row {position}"
                raise DataError(f"{where}: field backupSetId is missing", instance_id=instance_id)
            rows[row.backup_set_id, row.storage_class, row.tenant_id] = row
        return Read(rows, len(page.sets), self._count(page.total), reply)

    def _plain(
        self, reply: Reply, key: str | None, instance_id: str | None, place: str
    ) -> Read[dict[str, Any]]:
        """Decode one page of a list of which nothing is known but its key, if it has one."""
        data = self._payload(reply)
        total, listed = None, data
        if isinstance(data, dict):
            total, listed = data.get("total", data.get("totalCount")), data.get("dataList")
        if not isinstance(listed, list | None):
            raise DataError(f"{place}: no list, but {listed!r:.40}", instance_id=instance_id)
        rows: dict[Key, dict[str, Any]] = {}
        for position, row in enumerate(listed or []):
            if not isinstance(row, dict):
                what = f"{place}, row {position}: no object, but {row!r:.40}"
                raise DataError(what, instance_id=instance_id)
            name = position if key is None else row.get(key)
            if key is not None and not (isinstance(name, str) and name):
                what = f"{place}, row {position}: field {key} is missing"
                raise DataError(what, instance_id=instance_id)
            rows[name,] = row
        return Read(rows, len(listed or []), self._count(total), reply)

    def _payload(self, reply: Reply) -> Any:  # noqa: ANN401 - any JSON
        """Return the `data` of an envelope."""
        document = decode_envelope(reply.body)
        success = document.get("success")
        known = success if isinstance(success, bool) else None
        self._judge(reply, success=known, has_data="data" in document)
        return document.get("data")

    def _judge(self, reply: Reply, *, success: bool | None, has_data: bool) -> None:
        """Refuse an answer that says it failed, or holds nothing; warn when it does not say."""
        if success is not True and not (success is None and has_data):
            code, message = envelope_error(reply.body)
            said = " ".join(filter(None, (code, message))) or "no explanation"
            raise ApiError(
                f"{self.endpoint}: status 200, but no success: {said} ({reply.ids}); check "
                "instance and project",
                request_id=reply.known_as,
                status=reply.status,
                code=code,
            )
        if success is None:
            self._warn("the server's answers do not say success; they hold data and were taken")

    def _count(self, total: object) -> int | None:
        """Return the server's count; warn when it is none, and the list is read to its end."""
        count = count_of(total)
        if count is None and total is not None:
            self._warn(f"the server's total {total!r:.40} is no count; lists are read to their end")
        return count


def _path(instance_id: str) -> str:
    """Return an instance's path."""
    return f"/api/v2/instances/{_quoted(instance_id, 'an instance id')}"


def _quoted(name: str, what: str) -> str:
    """Return an id as a part of a path; dots alone would lead to another."""
    if not isinstance(name, str) or not name.strip() or not name.strip("."):
        raise ValueError(f"{what} is a text that is not empty, not {name!r}")
    return quote(name, safe="")


def _utc(moment: When | None, name: str) -> str:
    """Return an instant as the API takes it: UTC, whole seconds; a window is never narrowed."""
    if moment is None:
        return ""
    try:
        text = moment if isinstance(moment, str) else moment.isoformat()
        utc = dt.datetime.fromisoformat(text)
    except (AttributeError, ValueError):
        kind = ValueError if isinstance(moment, str) else TypeError
        raise kind(f"{name} must be a datetime, a date or ISO 8601 text, not {moment!r}") from None
    utc = (utc if utc.tzinfo else utc.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    if name == "end" and utc.microsecond:
        utc += dt.timedelta(seconds=1)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")
