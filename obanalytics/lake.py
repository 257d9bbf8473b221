"""Keep rows in an append-only Delta Lake table: one commit is seen whole or not at all.

Files are written by pyarrow and put into the log by one commit, so that a process that dies leaves
files that nobody knows of, and nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from obanalytics.errors import ArchiveError
from obanalytics.lakefiles import (
    LABELS,
    PARTITIONS,
    SCHEMA,
    empty,
    file_of,
    read_some,
    read_whole,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from obanalytics.lakefiles import File

    Key: TypeAlias = tuple[str, str]
    Tables: TypeAlias = pa.Table | Iterable[pa.Table]
    Rows: TypeAlias = Mapping[Key, Tables] | Iterable[tuple[Key, Tables]]

FORMAT = 2
"""The version of the layout; kept in the table's description."""
NAME = "obanalytics archive"
_LOG, _LOCK, _WRITER = "_delta_log", ".lock", ".writer"
_FIRST = f"{0:012}-"  # how the files of the first commit begin
_THREADS, _TRIES = 4, 3


@dataclass(frozen=True)
class Snapshot:
    """The table as one commit left it.

    Parameters
    ----------
    root : pathlib.Path
        The table's folder.
    version : int
        The commit.
    files : tuple of File
        Its data files, in the order in which they were committed.
    """

    root: Path
    version: int
    files: tuple[File, ...]

    @property
    def parts(self) -> int:
        """How many parts the instances are dealt out to; they are all of one count."""
        dealt = (e.bucket for e in self.files if e.kind == "fetch")  # responses stay where they are
        return int(next(dealt, "00of01").partition("of")[2])

    def of(
        self,
        kind: str,
        *,
        instance_ids: Collection[str] | None = None,
        buckets: Collection[str] | None = None,
    ) -> list[File]:
        """Return the files that can hold rows of a kind, of some instances.

        Parameters
        ----------
        kind : str
            ``cluster``, ``tenant``, ``fetch`` or ``page``.
        instance_ids : collection of str or None
            The instances; None is all.
        buckets : collection of str or None
            The parts; None is all.

        Returns
        -------
        list of File
            In the order in which they were committed.
        """
        found = [each for each in self.files if each.kind == kind]
        if buckets is not None:
            found = [each for each in found if each.bucket in buckets]
        if instance_ids is not None:
            found = [each for each in found if each.may_hold("instance_id", instance_ids)]
        return found

    def read(
        self,
        files: Sequence[File],
        columns: Sequence[str],
        *,
        instance_ids: Collection[str] | None = None,
        begun: int | None = None,
    ) -> pa.Table:
        """Read columns of some files under each other.

        Parameters
        ----------
        files : sequence of File
            The files.
        columns : sequence of str
            The columns.
        instance_ids : collection of str or None
            Keep the rows of these instances; None keeps all.
        begun : int or None
            Keep the rows of sets that began from here on, or not yet [µs since 1970]; None keeps
            all.

        Returns
        -------
        pyarrow.Table
            Labels are dictionary-encoded.
        """
        one = len(files) == 1
        wanted = None if instance_ids is None else pa.array(sorted(instance_ids), pa.string())

        def table(file: File) -> pa.Table:
            labels = [name for name in columns if name in LABELS]
            with self._named(file):
                rows = pq.ParquetFile(self.root / file.path, read_dictionary=labels)
                if wanted is None and begun is None:
                    return read_whole(rows, list(columns), use_threads=one)
                return read_some(rows, list(columns), wanted, begun)

        if one:
            return table(files[0])
        if not files:
            return empty(columns)
        with ThreadPoolExecutor(_THREADS) as pool:
            return pa.concat_tables(list(pool.map(table, files)), promote_options="permissive")

    @contextmanager
    def _named(self, file: File) -> Iterator[None]:
        """Name the file that cannot be read; one that is missing may have been replaced."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ArchiveError(
                f"the archive {self.root} cannot be read: {file.path}: {error}; bring the file "
                "back from a backup, or see `obanalytics archive check`"
            ) from error

    def scan(self, files: Sequence[File], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read columns of some files piece by piece: one is in memory at a time.

        Parameters
        ----------
        files : sequence of File
            The files.
        columns : sequence of str
            The columns.

        Yields
        ------
        pyarrow.Table
            Some rows, in their order; text is plain.
        """
        for file in files:
            rows = pq.ParquetFile(self.root / file.path)
            for group in range(rows.num_row_groups):
                yield rows.read_row_group(group, list(columns)).select(list(columns))


class Lake:
    """An append-only table of rows in one folder.

    Parameters
    ----------
    path : path
        The folder; it need not exist before the first commit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.realpath(Path(path).expanduser()))

    @property
    def exists(self) -> bool:
        """Whether the table has been made."""
        return is_lake(self.root)

    @property
    def _library(self) -> Any:  # noqa: ANN401 - a module
        """The Delta library; loading it takes a while."""
        import deltalake  # noqa: PLC0415 - only who has an archive pays for it

        return deltalake

    def _table(self) -> Any:  # noqa: ANN401 - a DeltaTable
        """Open the table."""
        if not self.exists:
            raise ArchiveError(f"{self.root} is no archive: nothing was synced into it yet")
        try:
            table = self._library.DeltaTable(str(self.root))
        except self._library.exceptions.DeltaError as error:
            raise ArchiveError(f"the archive {self.root} cannot be opened: {error}") from error
        if (said := _format_of(self.root, table.metadata())) < FORMAT:
            raise ArchiveError(
                f"the archive {self.root} has format {said}; the next sync, or `obanalytics "
                f"archive compact`, brings it to format {FORMAT}"
            )
        return table

    def snapshot(self) -> Snapshot:
        """Return the table as the newest commit left it.

        Returns
        -------
        Snapshot
            It stays what it is, whatever is committed later.
        """
        table = self._table()
        actions = pa.table(table.get_add_actions(flatten=False)).to_pylist()
        files = sorted(map(file_of, actions), key=lambda each: Path(each.path).name)
        return Snapshot(self.root, table.version(), tuple(files))

    def reading(self, use: Callable[[Snapshot], Any]) -> Any:  # noqa: ANN401 - what `use` returns
        """Do something with the newest snapshot; again where its files were replaced meanwhile.

        Parameters
        ----------
        use : callable
            Takes the snapshot.

        Returns
        -------
        object
            What `use` returns.
        """
        for attempt in range(_TRIES):
            snapshot = self.snapshot()
            try:
                return use(snapshot)
            except FileNotFoundError as error:
                if attempt == _TRIES - 1 or self.snapshot().version == snapshot.version:
                    raise _lacks(self.root, error) from error
        raise AssertionError

    @contextmanager
    def writing(self, wait: float = 0.0) -> Iterator[None]:
        """Be the only writer.

        Parameters
        ----------
        wait : float
            How long to wait for another one to end [s].

        Raises
        ------
        ArchiveError
            When another one is still writing.
        """
        import filelock  # noqa: PLC0415 - readers need none

        with _told(self.root, "written"):
            self.root.mkdir(parents=True, exist_ok=True)
            if not self.exists:
                self._must_be_free()
        lock = filelock.FileLock(self.root / _LOCK)
        try:
            lock.acquire(timeout=wait)
        except filelock.Timeout:
            raise ArchiveError(
                f"{_writer(self.root)} is writing the archive {self.root}; wait for it to end, or "
                "give a time to wait",
                retryable=True,
            ) from None
        except OSError as error:
            raise ArchiveError(
                f"the archive {self.root} cannot be written: {error}; what it held before is intact"
            ) from error
        try:
            if self.exists:
                self._migrate()
            with _told(self.root, "written"):
                who = {"pid": os.getpid(), "host": socket.gethostname()}
                (self.root / _WRITER).write_text(json.dumps(who), "utf-8")
            yield
        except FileNotFoundError as error:
            raise _lacks(self.root, error) from error
        finally:
            (self.root / _WRITER).unlink(missing_ok=True)
            lock.release()

    def _must_be_free(self) -> None:
        """Refuse a folder without a log in which a new table would spoil something."""
        if strange := _strangers(self.root):
            raise ArchiveError(
                f"{self.root} holds something that is no archive ({strange[0]}); nothing was "
                "written: choose a new or empty folder"
            )
        # A process that died in its first run leaves files of that run, and no log.
        if not all(Path(each).name.startswith(_FIRST) for each in self.data_files()):
            raise ArchiveError(
                f"{self.root} holds the files of an archive, and not its log: bring {_LOG} back "
                "from a backup; nothing was written"
            )

    def _migrate(self) -> None:
        """Bring the table to the newest format, step by step."""
        table = self._library.DeltaTable(str(self.root))
        for version in range(_format_of(self.root, table.metadata()), FORMAT):
            MIGRATIONS[version](self)
            table.update_incremental()
            table.alter.set_table_description(json.dumps({"format": version + 1}))

    def add_columns(self) -> None:
        """Add the columns that the table does not have: in files without them they are null."""
        table = self._library.DeltaTable(str(self.root))
        there = {each.name for each in table.schema().fields}
        new = pa.schema([field for field in SCHEMA if field.name not in there])
        if len(new):
            table.alter.add_columns(self._library.Schema.from_arrow(new).fields)

    def commit(
        self,
        rows: Rows,
        before: Snapshot | None,
        *,
        replaced: Sequence[File] = (),
        keyed: bool = False,
    ) -> Snapshot:
        """Write rows and put them into the log in one go.

        Parameters
        ----------
        rows : mapping, or iterable of pairs
            Tables by kind and bucket; each has columns of `SCHEMA`, and can be an iterable of
            tables, too. Of what is iterated over one table at a time is in memory.
        before : Snapshot or None
            The newest snapshot; None makes the table.
        replaced : sequence of File
            Files whose rows stand in `rows` now.
        keyed : bool
            Whether facts of one set stand side by side, in the order of the sets.

        Returns
        -------
        Snapshot
            The table after it.

        Raises
        ------
        ArchiveError
            When it cannot be written: nothing has changed then.
        """
        version = 0 if before is None else before.version + 1
        made: list[File] = []
        with _told(self.root, "written"):
            try:
                for key, table in _pairs(self.root, rows):
                    tables = [table] if isinstance(table, pa.Table) else table
                    file = write_file(self.root, key, tables, version, keyed=keyed)
                    made += [] if file is None else [file]
            except BaseException:  # nobody knows of them yet
                for each in made:
                    (self.root / each.path).unlink(missing_ok=True)
                raise
            self._log(made, replaced, before)
        gone = {each.path for each in replaced}
        kept = () if before is None else before.files
        return Snapshot(
            self.root, version, (*(each for each in kept if each.path not in gone), *made)
        )

    def _log(self, made: list[File], gone: Sequence[File], before: Snapshot | None) -> None:
        """Commit files that were written."""
        lake = self._library
        schema = lake.Schema.from_arrow(SCHEMA)
        adds = [_addition(lake, each, self.root, is_new=not gone) for each in made]
        try:
            if before is None:
                lake.transaction.create_table_with_add_actions(
                    str(self.root),
                    schema,
                    adds,
                    mode="error",
                    partition_by=list(PARTITIONS),
                    name=NAME,
                    description=json.dumps({"format": FORMAT}),
                )
                return
            table = lake.DeltaTable(str(self.root))
            if table.version() != before.version:
                raise ArchiveError(
                    f"somebody else wrote the archive {self.root} meanwhile (version "
                    f"{table.version()}, not {before.version}); nothing was written: try again",
                    retryable=True,
                )
            removes = [_removal(lake, each, self.root) for each in gone]
            table.create_write_transaction(
                [*adds, *removes], "append", schema, partition_by=list(PARTITIONS)
            )
        except lake.exceptions.DeltaError as error:
            raise OSError(str(error)) from error

    def tidy(self, before: Snapshot) -> int:
        """Delete data files that neither the newest commit nor an earlier snapshot knows.

        Parameters
        ----------
        before : Snapshot
            Its files stay too: somebody may be reading them.

        Returns
        -------
        int
            How many files were deleted.
        """
        table = self._table()
        table.create_checkpoint()
        known = {each.path for each in (*self.snapshot().files, *before.files)}
        unknown = [each for each in self.data_files() if each not in known]
        for each in unknown:
            (self.root / each).unlink(missing_ok=True)
        return len(unknown)

    def data_files(self) -> list[str]:
        """Return the data files that lie in the folder, whether the log knows them or not.

        Returns
        -------
        list of str
            Paths below the folder.
        """
        found = self.root.glob(f"{PARTITIONS[0]}=*/{PARTITIONS[1]}=*/*.parquet")
        return sorted(each.relative_to(self.root).as_posix() for each in found)


MIGRATIONS: dict[int, Callable[[Lake], object]] = {1: Lake.add_columns}
"""What brings a table of each earlier format to the next one. It commits once, or changes nothing,
and may be done twice."""


def is_lake(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds an archive.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    bool
        Whether it has a log.
    """
    log = Path(folder).expanduser() / _LOG
    return log.is_dir() and any(log.glob("*.json"))


def bucket_of(instance_id: str, parts: int) -> str:
    """Return the part that an instance's rows lie in.

    Parameters
    ----------
    instance_id : str
        The instance.
    parts : int
        How many parts there are.

    Returns
    -------
    str
        Number and count, such as ``03of16``.
    """
    return f"{zlib.crc32(instance_id.encode()) % parts:02}of{parts:02}"


def _addition(lake: Any, file: File, root: Path, *, is_new: bool) -> Any:  # noqa: ANN401
    """Return what the log says of a file that came."""
    moment = int((root / file.path).stat().st_mtime * 1000)
    values = {"kind": file.kind, "bucket": file.bucket}
    return lake.transaction.AddAction(
        file.path, file.size, values, moment, is_new, json.dumps(file.stats)
    )


def _removal(lake: Any, file: File, root: Path) -> Any:  # noqa: ANN401
    """Return what the log says of a file whose rows stand elsewhere now."""
    moment = int((root / file.path).stat().st_mtime * 1000)
    values = {"kind": file.kind, "bucket": file.bucket}
    return lake.transaction.RemoveAction(
        file.path,
        data_change=False,
        deletion_timestamp=moment,
        size=file.size,
        partition_values=values,
    )


def _format_of(root: Path, metadata: Any) -> int:  # noqa: ANN401 - Delta's metadata
    """Return the format of an archive; refuse what is none, or one of a later version."""
    try:
        said = int(json.loads(metadata.description or "{}")["format"])
    except (ValueError, KeyError, TypeError):
        raise ArchiveError(f"{root} is a Delta table, but no archive of obanalytics") from None
    if said > FORMAT:
        raise ArchiveError(
            f"the archive {root} has format {said}; this version reads up to {FORMAT}: "
            "install a newer obanalytics"
        )
    return said


def _strangers(root: Path) -> list[str]:
    """Return what lies in a folder and is not ours."""
    ours = {_LOCK, _WRITER, _LOG}
    return sorted(
        each.name
        for each in root.iterdir()
        if each.name not in ours and not each.name.startswith(f"{PARTITIONS[0]}=")
    )


def _writer(root: Path) -> str:
    """Say who is writing, as far as is known."""
    try:
        who = json.loads((root / _WRITER).read_text("utf-8"))
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _lacks(root: Path, error: FileNotFoundError) -> ArchiveError:
    """Say which file is missing."""
    return ArchiveError(
        f"the archive {root} lacks a file: {error.filename or error}; bring the folder back from a "
        "backup, or see `obanalytics archive check`"
    )


def _pairs(root: Path, rows: Rows) -> Iterator[tuple[Key, Tables]]:
    """Yield what is to be written; it may be read only now."""
    try:
        yield from sorted(rows.items()) if isinstance(rows, Mapping) else rows
    except FileNotFoundError as error:
        raise _lacks(root, error) from error


@contextmanager
def _told(root: Path, done: str) -> Iterator[None]:
    """Turn errors of the file system into one that says what is the matter."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(
            f"the archive {root} cannot be {done}: {error}; what it held before is intact"
        ) from error
