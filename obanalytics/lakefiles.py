"""Write and read the data files of an archive: their columns, encodings and bounds."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

PARTITIONS = ("kind", "bucket")
_KEYED = "-keyed.parquet"
_ROW_GROUP = 1 << 17
# Written often and compared as one code each; all other text is nearly always another.
LABELS = (
    "instance_id",
    "tenant_id",
    "tenant_name",
    "data_backup_mode",
    "status",
    "validity",
    "backup_mode",
    "backup_object_type",
    "trigger_mode",
    "storage_class",
)
_REPEATED = (*LABELS, "cluster_backup_set_id", "size_gib", "begun", "seen", "run")
_TIMES = ("start_time", "end_time", "checkpoint")


# Every column that any kind of row has; what a kind does not have is null in it.
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("bucket", pa.string()),
        ("run", pa.int64()),
        ("instance_id", pa.string()),
        ("seen", pa.timestamp("us", tz="UTC")),
        # of a cluster or tenant set
        ("gone", pa.bool_()),
        ("begun", pa.timestamp("us", tz="UTC")),
        ("cluster_backup_set_id", pa.string()),
        ("backup_set_id", pa.string()),
        ("tenant_id", pa.string()),
        ("tenant_name", pa.string()),
        ("data_backup_mode", pa.string()),
        ("status", pa.string()),
        ("validity", pa.string()),
        ("start_time", pa.timestamp("us", tz="UTC")),
        ("end_time", pa.timestamp("us", tz="UTC")),
        ("checkpoint", pa.timestamp("us", tz="UTC")),
        ("size_gib", pa.float64()),
        ("backup_mode", pa.string()),
        ("backup_object_type", pa.string()),
        ("trigger_mode", pa.string()),
        ("storage_class", pa.string()),
        ("data_version", pa.int64()),
        ("download_enabled", pa.bool_()),
        ("download_task_id", pa.int64()),
        ("tenant_sets", pa.int64()),
        ("extra", pa.string()),
        # of a fetch of one instance
        ("asked_start", pa.timestamp("us", tz="UTC")),
        ("asked_end", pa.timestamp("us", tz="UTC")),
        ("download_checked", pa.bool_()),
        ("ok", pa.bool_()),
        ("error", pa.string()),
        ("endpoint", pa.string()),
        ("planned", pa.int64()),
        ("pages", pa.int64()),
        ("sets", pa.int64()),
        ("tenant_rows", pa.int64()),
        ("new", pa.int64()),
        ("changed", pa.int64()),
        ("went", pa.int64()),
        # of a response
        ("page", pa.int64()),
        ("body", pa.binary()),
        # since format 2; of a fetch of one instance
        ("inventory_run", pa.int64()),
        ("inventory_error", pa.string()),
        # of a tenant that there is
        ("instance_name", pa.string()),
        ("instance_status", pa.string()),
        ("tenant_status", pa.string()),
        ("created_time", pa.timestamp("us", tz="UTC")),
        ("data_merge_time", pa.string()),
    ]
)


def empty(columns: Sequence[str]) -> pa.Table:
    """Return a table of no rows.

    Parameters
    ----------
    columns : sequence of str
        Its columns.

    Returns
    -------
    pyarrow.Table
        Typed as `SCHEMA`, labels dictionary-encoded.
    """
    fields = []
    for name in columns:
        kind = SCHEMA.field(name).type
        fields.append((name, pa.dictionary(pa.int32(), kind) if name in LABELS else kind))
    return pa.schema(fields).empty_table()


class File(NamedTuple):
    """One data file, as the log knows it."""

    path: str
    kind: str
    bucket: str
    rows: int
    size: int
    stats: dict[str, dict[str, Any]]

    @property
    def keyed(self) -> bool:
        """Whether facts of one set stand side by side in it, in the order of the sets."""
        return self.path.endswith(_KEYED)

    def may_hold(self, name: str, values: Collection[str]) -> bool:
        """Tell whether a text column can hold one of some values, by the log's bounds."""
        low, high = (self.stats.get(side, {}).get(name) for side in ("minValues", "maxValues"))
        return low is None or high is None or any(low <= value <= high for value in values)


def read_whole(rows: pq.ParquetFile, columns: list[str], *, use_threads: bool) -> pa.Table:
    """Read columns; what the file's bounds tell to be the same in every row is not decoded."""
    same = _constants(rows, columns)  # with what a file of an earlier format does not have
    rest = [name for name in columns if name not in same]
    count = rows.metadata.num_rows
    found = rows.read(rest, use_threads=use_threads)
    made = {name: _repeated(name, value, count) for name, value in same.items()}
    return pa.table([made.get(n, found[n] if n in rest else None) for n in columns], names=columns)


def _constants(rows: pq.ParquetFile, columns: list[str]) -> dict[str, Any]:
    """Return the columns whose every row holds one value, with the value; None: nothing at all."""
    meta = rows.metadata
    place = {meta.schema.column(n).name: n for n in range(len(meta.schema))}
    found: dict[str, Any] = {}
    for name in columns:
        if name not in place:
            found[name] = None
            continue
        values = set()
        for group in range(meta.num_row_groups):
            stats = meta.row_group(group).column(place[name]).statistics
            values.add(_only_value(stats, meta.row_group(group).num_rows))
            if len(values) > 1 or _SEVERAL in values:
                break
        if len(values) == 1 and _SEVERAL not in values:
            found[name] = values.pop()
    return found


_SEVERAL = object()


def _only_value(stats: Any, count: int) -> Any:  # noqa: ANN401 - Parquet's statistics; any value
    """Return the value of all rows of a row group, or that there are several."""
    if stats is None:
        return _SEVERAL
    if stats.has_null_count and stats.null_count == count:
        return None
    if stats.has_null_count and not stats.null_count and stats.has_min_max:
        return stats.min if stats.min == stats.max else _SEVERAL
    return _SEVERAL


def _repeated(name: str, value: Any, count: int) -> pa.Array:  # noqa: ANN401 - any value
    """Return a column that holds one value."""
    kind = SCHEMA.field(name).type
    if name in LABELS:
        numbers = pa.array(
            np.zeros(count, np.int32), mask=np.ones(count, bool) if value is None else None
        )
        names = pa.array([] if value is None else [value], kind)
        return pa.DictionaryArray.from_arrays(numbers, names)
    return pa.nulls(count, kind) if value is None else pa.repeat(pa.scalar(value, kind), count)


def read_some(
    rows: pq.ParquetFile, columns: list[str], wanted: pa.Array | None, begun: int | None
) -> pa.Table:
    """Read the rows of some instances, or of what began late enough: only where there are any."""
    groups: list[int] = []
    masks: list[pa.Array] = []
    by = [n for n, asked in (("instance_id", wanted), ("begun", begun)) if asked is not None]
    for group in range(rows.num_row_groups):
        part = rows.read_row_group(group, by)
        mask = None
        if wanted is not None:
            mask = pc.is_in(part["instance_id"], wanted)
        if begun is not None:
            began = part["begun"].combine_chunks().view(pa.int64())
            late = pc.fill_null(pc.greater_equal(began, begun), fill_value=True)
            mask = late if mask is None else pc.and_(mask, late)
        if pc.any(mask).as_py():
            groups.append(group)
            masks += mask.chunks if isinstance(mask, pa.ChunkedArray) else [mask]
    if not groups:
        return empty(columns)
    mask = pa.chunked_array(masks)
    there = set(rows.schema_arrow.names)
    found = rows.read_row_groups(groups, [name for name in columns if name in there])
    if len(there.intersection(columns)) < len(columns):  # a file of an earlier format
        made = {name: _repeated(name, None, len(found)) for name in columns if name not in there}
        found = pa.table([made.get(n, found[n] if n in there else None) for n in columns], columns)
    return found if pc.all(mask).as_py() else found.filter(mask)


def write_file(
    root: Path,
    key: tuple[str, str],
    tables: Iterable[pa.Table],
    version: int,
    *,
    keyed: bool,
) -> File | None:
    """Write one data file, under a name of its own: what is committed is never touched.

    Parameters
    ----------
    root : pathlib.Path
        The table's folder.
    key : tuple of str
        Kind and bucket.
    tables : iterable of pyarrow.Table
        The rows, one table below the other; each is let go of when it is written.
    version : int
        The commit that is to know it.
    keyed : bool
        Whether facts of one set stand side by side, in the order of the sets.

    Returns
    -------
    File or None
        The file; None where there are no rows. Whatever fails, half a file does not stay.
    """
    kind, bucket = key
    ending = _KEYED if keyed else ".parquet"
    path = f"kind={kind}/bucket={bucket}/{version:012}-{uuid4().hex[:12]}{ending}"
    whole = root / path
    told: dict[str, Any] | None = None
    try:
        with ExitStack() as stack:
            for table in tables:
                if not len(table):
                    continue
                bare = table.replace_schema_metadata(None)
                if told is None:
                    whole.parent.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(whole.open("xb"))
                    writer = stack.enter_context(_writer(file, bare.schema))
                writer.write_table(bare, row_group_size=_ROW_GROUP if kind != "page" else 64)
                told = _stats(bare, told)
            if told is not None:
                writer.close()
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        whole.unlink(missing_ok=True)
        raise
    if told is None:
        return None
    return File(path, kind, bucket, told["numRecords"], whole.stat().st_size, told)


def _writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:  # noqa: ANN401 - an open file
    """Return who writes rows into a file."""
    names = schema.names
    pages = "body" in names
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=9 if pages else 1,
        use_dictionary=[n for n in _REPEATED if n in names],
        column_encoding={n: "DELTA_BINARY_PACKED" for n in _TIMES if n in names},
        store_schema=False,
        write_page_checksum=True,  # what `Archive.check` finds rotten bits by
    )


def _stats(table: pa.Table, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return the bounds that readers use to pass a file by."""
    names = table["instance_id"]
    found = pc.min_max(names.cast(pa.string()))
    low, high = found["min"].as_py(), found["max"].as_py()
    count, nulls = len(table), names.null_count
    if before is not None:
        low = min(low, before["minValues"]["instance_id"])
        high = max(high, before["maxValues"]["instance_id"])
        count += before["numRecords"]
        nulls += before["nullCount"]["instance_id"]
    return {
        "numRecords": count,
        "minValues": {"instance_id": low},
        "maxValues": {"instance_id": high},
        "nullCount": {"instance_id": nulls},
    }


def file_of(action: dict[str, Any]) -> File:
    """Return a data file as the log tells of it."""
    partition = action["partition"]
    bounds = {
        "minValues": {k: v for k, v in (action.get("min") or {}).items() if isinstance(v, str)},
        "maxValues": {k: v for k, v in (action.get("max") or {}).items() if isinstance(v, str)},
    }
    rows, size = int(action["num_records"]), int(action["size_bytes"])
    return File(action["path"], partition["kind"], partition["bucket"], rows, size, bounds)
