"""Bring in the facts, from the service or from files: where input and frames meet."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import re
import warnings
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from obanalytics.besides import inventory_rows, restorable_rows
from obanalytics.errors import ApiError, DataError, DataWarning, ObanalyticsError
from obanalytics.flatten import Flattener
from obanalytics.lake import Lake, is_lake
from obanalytics.progress import Bar, somebody_looks
from obanalytics.recall import recall
from obanalytics.schema import (
    BackupSets,
    Source,
    as_duration,
    as_instant,
    conform,
    empty,
    load_saved,
    newest_time,
    stand_in,
    window_of,
)
from obanalytics.store import MANIFEST, is_saved
from obanalytics.wire import decode_page

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator

    from obanalytics.client import Client, Page
    from obanalytics.progress import Progress
    from obanalytics.schema import Duration, Instant, Window

_log = logging.getLogger(__name__)

# What `startTime` and `endTime` select is not documented: a set may be chosen by its start, its
# end or any overlap. So the server is asked for more, by the longest plausible backup.
PAD = pd.Timedelta(days=2)
MAX_NOTES = 5
"""How many instances without an optional table are named, each with the reason."""
# When the bundled sample ends; its README says how it was made.
_SAMPLE_AS_OF = "2026-11-01T06:00Z"
_SUFFIXES = (".json", ".jsonl", ".ndjson")
_ID = re.compile(r"ob[0-9a-z]{3,}")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def load(  # noqa: PLR0913 - each is a question that only the caller can answer
    instance_ids: str | Collection[str],
    start: Instant | None = None,
    end: Instant | None = None,
    *,
    client: Client | None = None,
    lookback: Duration = "35D",
    check_download: bool = False,
    on_error: Literal["raise", "collect"] = "raise",
    restorable: bool = False,
    inventory: bool = False,
    deadline: Duration | None = None,
    progress: Progress | bool | None = None,
) -> BackupSets:
    """Fetch the backup sets of one or more instances.

    Parameters
    ----------
    instance_ids : str or collection of str
        One instance id, several, or ``"all"`` for every instance of the project.
    start, end : instant or None
        Half-open window on the start of the cluster backup sets; None leaves that side open. Naive
        times are read as UTC.
    client : Client or None
        The client; None makes one from the environment or the profile file, and closes it.
    lookback : duration
        How far before `start` to look for the sets that chains are based on; these rows stay in
        the frames with `in_window` False.
    check_download : bool
        Ask the server to check which sets can be downloaded; slower.
    on_error : {"raise", "collect"}
        Raise at the first instance that fails, or keep the rest and say in `.source.failed` which
        failed and why.
    restorable, inventory : bool
        Fetch the vendor's restorable intervals, and the names and status of instances and tenants.
    deadline : duration or None
        Stop asking after so long: instances that are not complete then count as failed. To go on
        where an earlier run stopped, keep what is fetched in an `Archive`.
    progress : callable, bool or None
        Called with instance id, pages read and pages expected; True draws a bar, False does not,
        None draws one where somebody looks.

    Returns
    -------
    BackupSets
        Both frames, the window, and where they come from. `as_of` is the newest response's `Date`.

    Raises
    ------
    ObanalyticsError
        When an instance fails, or the deadline comes first, and `on_error` is "raise".
    ValueError
        When an argument is no id, instant, duration or choice.

    Notes
    -----
    What the service's own time filter selects is not documented, so it is asked for two more days
    on both sides, and the window is applied here.

    Examples
    --------
    >>> sets = ob.load("ob5xxxx", start="2026-05-01", client=client)  # doctest: +SKIP
    """
    window = window_of(start, end)
    since = None
    if window is not None and window.start is not None:
        since = window.start - as_duration(lookback, "lookback")
    if on_error not in {"raise", "collect"}:
        raise ValueError(f'on_error must be "raise" or "collect", not {on_error!r}')
    limit = None if deadline is None else as_duration(deadline, "deadline")
    with ExitStack() as stack:
        until = None if limit is None else monotonic() + limit.total_seconds()
        service = client or stack.enter_context(_own_client())
        collect = on_error == "collect"
        everything: list[dict[str, Any]] | ObanalyticsError = []
        if is_all(instance_ids) or inventory:
            everything = instances_of(service, must=is_all(instance_ids) or not collect)
        ids = ids_of(instance_ids, everything, service)
        fetch = _Fetch(service, ids, window, since, collect=collect, until=until)
        fetch.sets(check_download=check_download, progress=watch(progress, len(ids), stack))
        sets = fetch.facts(check_download=check_download)
        if restorable:
            sets = fetch.table(sets, "restorable", restorable_rows)
        if inventory and isinstance(everything, ObanalyticsError):
            sets = _noted(sets, f"no inventory table: {everything}")
        elif inventory and isinstance(everything, list):
            by_id = {str(each.get("instanceId")): each for each in everything}
            sets = fetch.table(sets, "inventory", lambda c, i: inventory_rows(c, i, by_id))
    return sets


def instances_of(service: Client, *, must: bool) -> list[dict[str, Any]] | ObanalyticsError:
    """Return the project's instances; or why they cannot be had, where that can be borne."""
    try:
        return service.instances()
    except ObanalyticsError as error:
        if must:
            raise
        return error


def _noted(sets: BackupSets, *notes: str) -> BackupSets:
    """Return the sets with notes."""
    return replace(sets, source=replace(sets.source, notes=(*sets.source.notes, *notes)))


def _own_client() -> Client:
    """Make a client from the environment or the profile file."""
    from obanalytics.client import Client  # noqa: PLC0415 - reading files needs no network library

    return Client()


class _Fetch:
    """One call of `load`: what is asked, and what came back so far."""

    def __init__(
        self,
        client: Client,
        ids: list[str],
        window: Window | None,
        since: pd.Timestamp | None,
        *,
        collect: bool,
        until: float | None = None,
    ) -> None:
        self.until = until
        self.client = client
        self.ids = ids
        self.window = window
        self.since = since
        self.collect = collect
        self.flattener = Flattener()
        self.failed: dict[str, str] = {}
        self.dates: list[Any] = []

    def sets(self, *, check_download: bool, progress: Progress | None) -> None:
        """Fetch and flatten the sets of all instances, each as soon as it is complete."""
        begin = None if self.since is None else self.since - PAD
        end = None if self.window is None or self.window.end is None else self.window.end + PAD
        walk = self.client.walk(
            self.ids, begin, end, check_download=check_download, on_page=progress, until=self.until
        )
        left = dict.fromkeys(self.ids)
        for instance_id, pages in walk:
            del left[instance_id]
            failure = pages if isinstance(pages, ObanalyticsError) else None
            failure = failure or self._flatten(instance_id, pages)  # type: ignore[arg-type]
            if failure is not None and not self.collect:
                walk.close()
                raise failure
            if failure is not None:
                self.failed[instance_id] = str(failure)
        if left and not self.collect:
            raise ApiError(
                f"the deadline came when {len(self.ids) - len(left)} of {len(self.ids)} instances "
                f"were complete; the next one is {next(iter(left))}. Give more time, keep what is "
                'complete with on_error="collect", or sync into an Archive: it goes on next time'
            )
        self.failed |= dict.fromkeys(left, "not complete when the deadline came")

    def _flatten(self, instance_id: str, pages: list[Page]) -> ObanalyticsError | None:
        """Add an instance's pages, all or none."""
        mark = self.flattener.mark()
        try:
            for page in pages:
                self.flattener.add(page.sets, instance_id, f"page {page.number}")
        except DataError as error:
            self.flattener.rollback(mark)
            return error
        self.dates += [page.reply.date for page in pages if page.reply.date is not None]
        _log.debug("instance %s: %d pages", instance_id, len(pages))
        return None

    def facts(self, *, check_download: bool) -> BackupSets:
        """Make the frames of what was fetched."""
        clusters, tenants = self.flattener.frames(
            self.window, since=self.since, download_checked=check_download
        )
        dates = self.dates
        as_of = as_instant(max(dates), "Date") if dates else newest_time(clusters, tenants)
        rule = "cluster sets by start_time in [start, end); their tenant sets follow"
        if self.since is not None:
            rule += f"; lookback to {self.since.isoformat()}"
        source = Source(
            instances=tuple(i for i in self.ids if i not in self.failed),
            endpoint=self.client.endpoint,
            window_rule=rule
            if self.window is not None
            else "no window: all that the service lists",
            failed=dict(self.failed),
            notes=_told(self.flattener.notes),
        )
        return _warn_stand_in(
            BackupSets(clusters, tenants, self.window, as_of=as_of, source=source)
        )

    def table(self, sets: BackupSets, name: str, rows_of: Any) -> BackupSets:  # noqa: ANN401
        """Fetch one of the optional tables; where it is refused the sets go on without it."""
        ids = sets.source.instances
        if self.until is not None and monotonic() >= self.until:
            return _noted(sets, f"no {name} table: the deadline came first")
        found = self.client.side_by_side(partial(rows_of, self.client), ids)
        refused = {i: e for i, e in zip(ids, found, strict=True) if isinstance(e, ObanalyticsError)}
        if refused and not self.collect:
            raise next(iter(refused.values()))
        notes = [f"no {name} table of instance {i}: {error}" for i, error in refused.items()]
        if len(notes) > MAX_NOTES:
            notes[MAX_NOTES:] = [f"nor of {len(notes) - MAX_NOTES} more instances"]
        sets = _noted(sets, *notes)
        if ids and len(refused) == len(ids):
            return sets
        rows = [row for each in found if not isinstance(each, ObanalyticsError) for row in each]
        frame = pd.DataFrame(rows) if rows else empty(name)  # type: ignore[arg-type]
        return replace(sets, **{name: conform(frame, name)})  # type: ignore[arg-type]


def read(
    path: str | os.PathLike[str],
    instance_id: str | None = None,
    as_of: Instant | None = None,
) -> BackupSets:
    """Read backup sets from files.

    Parameters
    ----------
    path : path
        What `BackupSets.save` wrote; or an archive; or a JSON response as saved by curl, a list of
        sets, JSON lines, any of them gzipped; or a folder or zip of such files.
    instance_id : str or None
        The instance that the responses are of: they do not say it themselves. None takes the
        first folder on the way to a file that looks like an id (``ob…``), else the one it lies in,
        else the name of `path`, and says so in `.source.notes`.
    as_of : instant or None
        The instant at which the facts were true [UTC]; None takes what was saved, else the newest
        time in the data. Of an archive: what was known at that instant.

    Returns
    -------
    BackupSets
        Both frames; `window` is None for responses.

    Raises
    ------
    FileNotFoundError
        When there is no such file or folder.
    DataError
        When a file holds no backup sets, or an impossible value; names file, set, field and value.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"no such file or folder: {source}")
    if source.is_dir() and is_saved(source):
        sets = load_saved(source)
        return sets if as_of is None else replace(sets, as_of=as_instant(as_of, "as_of"))
    if source.is_dir() and is_lake(source):
        then = None if as_of is None else as_instant(as_of, "as_of")
        return recall(
            Lake(source), then, instance_ids=None if instance_id is None else [instance_id]
        )
    reading = _Reading(source, instance_id)
    for name, folder, body in _files(source):
        reading.add(name, folder, body)
    return reading.facts(None if as_of is None else as_instant(as_of, "as_of"))


class _Reading:
    """One call of `read` on responses: what was found so far."""

    def __init__(self, source: Path, instance_id: str | None) -> None:
        self.source = source
        self.instance_id = instance_id
        self.flattener = Flattener()
        self.files = 0
        self.guessed = False
        self.totals: dict[str, int] = {}

    def add(self, name: str, folder: str, body: bytes) -> None:
        """Add one file's sets."""
        instance = self.instance_id
        if instance is None:
            instance = folder or self.source.name.split(".")[0]
            self.guessed = True
        if Path(name).name == MANIFEST:
            place = (self.source / name).parent if self.source.is_dir() else self.source
            raise DataError(f"{place} was saved by obanalytics: read it by itself, unpacked")
        for where, text in _documents(name, body):
            page = decode_page(text, instance_id=instance, where=where)
            if page.success is False or not page.has_data:
                what = f"an error response: {page.error}" if page.error else "no backup sets in it"
                raise DataError(f"{where}: {what}", instance_id=instance)
            if isinstance(page.total, int):
                self.totals[instance] = max(page.total, self.totals.get(instance, 0))
            self.flattener.add(page.sets, instance, where)
        self.files += 1

    def facts(self, as_of: pd.Timestamp | None) -> BackupSets:
        """Make the frames of what was read."""
        if not self.files:
            raise DataError(
                f"{self.source} holds no {', '.join(_SUFFIXES)} file (gzipped or not) and was not "
                "saved by obanalytics"
            )
        clusters, tenants = self.flattener.frames()
        notes = list(_told(self.flattener.notes))
        if self.guessed:
            notes.append("instance ids are names of folders or files: no instance_id was given")
        notes += self._incomplete(clusters, tenants)
        named = {*clusters["instance_id"].dropna(), *tenants["instance_id"].dropna(), *self.totals}
        sets = BackupSets(
            clusters,
            tenants,
            as_of=as_of or newest_time(clusters, tenants),
            source=Source(tuple(sorted(named)), path=str(self.source), notes=tuple(notes)),
        )
        return _warn_stand_in(sets)

    def _incomplete(self, clusters: pd.DataFrame, tenants: pd.DataFrame) -> list[str]:
        """Say which instances' files hold fewer sets than the service said there are."""
        alone = tenants[tenants["cluster_backup_set_id"].isna()]
        found = pd.concat([clusters["instance_id"], alone["instance_id"]]).value_counts()
        notes = [
            f"instance {instance}: the service said {total} sets, the files hold "
            f"{found.get(instance, 0)}: pages are missing"
            for instance, total in self.totals.items()
            if found.get(instance, 0) < total
        ]
        for note in notes:
            warnings.warn(note, DataWarning, stacklevel=4)
        return notes


def sample() -> BackupSets:
    """Return the bundled history: a few clusters, a year; no network.

    Returns
    -------
    BackupSets
        Made by the simulator, with faults planted in it; the instances and what to find there are
        described in `data/README.md`.
    """
    here = Path(__file__).resolve().parent
    places = (here / "data" / "sample", here.parent / "data" / "sample")
    folder = next((place for place in places if place.is_dir()), places[0])
    sets = read(folder, as_of=_SAMPLE_AS_OF)
    notes = tuple(note for note in sets.source.notes if not note.startswith("instance ids are"))
    return replace(sets, source=replace(sets.source, path="the bundled sample", notes=notes))


def is_all(wanted: object) -> bool:
    """Tell whether all instances of the project are asked for."""
    return isinstance(wanted, str) and wanted == "all"


def ids_of(
    wanted: str | Collection[str],
    everything: list[dict[str, Any]] | ObanalyticsError,
    service: Client,
) -> list[str]:
    """Return the instance ids to ask, each once."""
    if is_all(wanted):
        listed = [] if isinstance(everything, ObanalyticsError) else everything
        ids = [str(each["instanceId"]) for each in listed if each.get("instanceId")]
        if not ids:
            raise ApiError(
                f"{service!r} lists no instances: check the project, and whether the key may see "
                "any; or name them"
            )
        return ids
    ids = [wanted] if isinstance(wanted, str) else list(dict.fromkeys(wanted))
    strange = [each for each in ids if not isinstance(each, str) or not each.strip()]
    if strange or not ids:
        raise ValueError(f'instance_ids must be an instance id, several, or "all", not {wanted!r}')
    return ids


def watch(
    progress: Progress | bool | None,  # noqa: FBT001 - the public argument as it came
    total: int,
    stack: ExitStack,
) -> Progress | None:
    """Return what to tell how far the fetch is; a bar goes away with the stack."""
    if callable(progress):
        return progress
    if progress is False or (progress is None and not somebody_looks()):
        return None
    bar = Bar(total)
    stack.callback(bar.close)
    return bar


def _told(notes: dict[str, int]) -> tuple[str, ...]:
    """Return the notes on rows as text, and warn of them."""
    texts = tuple(f"{count} {note}" for note, count in notes.items())
    for text in texts:
        warnings.warn(text, DataWarning, stacklevel=4)
    return texts


def _warn_stand_in(sets: BackupSets) -> BackupSets:
    """Let cluster sets stand in for tenants where none are listed, and warn."""
    whole = stand_in(sets)
    for note in whole.source.notes[len(sets.source.notes) :]:
        warnings.warn(note, DataWarning, stacklevel=4)
    return whole


def _files(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, subfolder and content of every file to read, in the order of their names."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            inner = path.relative_to(source)
            if path.is_file() and _wanted(inner):
                yield str(inner), _folder_of(inner), path.read_bytes()
    elif zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    inner = Path(name)
                    if not name.endswith("/") and _wanted(inner):
                        yield f"{source.name}/{name}", _folder_of(inner), archive.read(name)
        except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise DataError(f"file {source.name}: damaged or locked zip: {error}") from None
    else:
        yield source.name, "", source.read_bytes()


def _folder_of(inner: Path) -> str:
    """Return the folder that names a file's instance: one that looks like an id, else its own."""
    folders = inner.parts[:-1]
    return next((each for each in folders if _ID.fullmatch(each)), folders[-1] if folders else "")


def _wanted(inner: Path) -> bool:
    """Tell whether a file of a folder is one to read: no hidden ones, no other kinds."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in inner.parts)
    return not hidden and inner.name.lower().removesuffix(".gz").endswith(_SUFFIXES)


def _documents(name: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the JSON documents of a file with their place: one, or one a line."""
    if body[:2] == b"\x1f\x8b":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"file {name}: damaged gzip: {error}") from None
    for mark, encoding in _MARKS.items():
        if body.startswith(mark):
            try:
                body = body.decode(encoding).encode()
            except UnicodeDecodeError as error:
                raise DataError(f"file {name}: not {encoding}: {error}") from None
    if _SLURPED.match(body):  # several responses in one list, as jq -s writes them
        with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is said below
            for number, each in enumerate(json.loads(body), 1):
                yield f"file {name} response {number}", json.dumps(each).encode()
            return
    lines = [line for line in body.splitlines() if line.strip()]
    # A document that is complete after its first line is followed by others: JSON lines.
    if len(lines) > 1 and all(line.strip()[:1] + line.strip()[-1:] in _WHOLE for line in lines):
        for number, line in enumerate(lines, 1):
            yield f"file {name} line {number}", line
    else:
        yield f"file {name}", body


_WHOLE = {b"{}", b"[]"}
_SLURPED = re.compile(rb'\s*\[\s*\{\s*"(data|requestId|success)"\s*:')
