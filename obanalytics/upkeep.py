"""Look after an archive: put facts together, look for what is wrong, make facts anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from obanalytics.errors import ArchiveError
from obanalytics.flatten import Flattener
from obanalytics.inventories import KIND as INVENTORY
from obanalytics.inventories import STORED
from obanalytics.lake import bucket_of
from obanalytics.ledger import FACTS, LEVELS, Asked, Book, arranged, ints, no_facts
from obanalytics.recall import FETCH, fetches_of, micros
from obanalytics.syncing import dealt, facts_against, power_of_two, untold
from obanalytics.wire import decode_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obanalytics.lake import Key, Lake, Snapshot, Tables
    from obanalytics.lakefiles import File

PART_ROWS = 2_000_000
"""About so many tenant rows lie in one part."""
PAGE_BYTES = 64 << 20
"""Files of responses grow up to about this size."""
_PAGE = ("run", "instance_id", "seen", "page", "body")


def compacted(lake: Lake, snapshot: Snapshot, parts: int | None) -> Snapshot:
    """Put the facts of every part into one sorted file; this process is the only writer.

    The facts of one part are in memory at a time; where there shall be fewer parts, of one new one.

    Parameters
    ----------
    lake : Lake
        The archive's table.
    snapshot : Snapshot
        Its newest state.
    parts : int or None
        How many parts there shall be; None chooses by the number of rows.

    Returns
    -------
    Snapshot
        The table after it; the same facts.
    """
    if parts is None:
        rows = sum(each.rows for each in snapshot.files if each.kind == "tenant")
        parts = power_of_two(rows / PART_ROWS)
    kinds: list[str] = []
    replaced: list[File] = []
    for kind in (*LEVELS, "fetch", INVENTORY):
        files = snapshot.of(kind)
        whole = parts == snapshot.parts and len(files) == len({each.bucket for each in files})
        if whole and (kind not in LEVELS or all(each.keyed for each in files)):
            continue
        kinds.append(kind)
        replaced += files
    pages = _small_pages(snapshot)
    replaced += [each for files in pages.values() for each in files]

    def together() -> Iterator[tuple[Key, Tables]]:
        for kind in kinds:
            for bucket, table in _regrouped(snapshot, kind, parts):
                yield (kind, bucket), table
        for bucket, files in pages.items():
            yield ("page", bucket), snapshot.scan(files, _PAGE)

    after = snapshot
    if replaced:
        after = lake.commit(together(), snapshot, replaced=replaced, keyed=True)
    lake.tidy(snapshot)
    return after


def loose(snapshot: Snapshot) -> int:
    """Return how many files `compacted` would put together.

    Parameters
    ----------
    snapshot : Snapshot
        The archive's newest state.

    Returns
    -------
    int
        The number of files.
    """
    pages = sum(map(len, _small_pages(snapshot).values()))
    return pages + sum(not e.keyed for e in snapshot.files if e.kind != "page")


def _small_pages(snapshot: Snapshot) -> dict[str, list[File]]:
    """Return the files of responses, part by part, that are small enough to be put together."""
    found: dict[str, list[File]] = {}
    for file in snapshot.of("page"):
        small = found.setdefault(file.bucket, [])
        if file.size < PAGE_BYTES and sum(e.size for e in small) < PAGE_BYTES:
            small.append(file)
    return {bucket: files for bucket, files in found.items() if len(files) > 1}


def _regrouped(snapshot: Snapshot, kind: str, parts: int) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of every new part, sorted."""
    columns = ({"fetch": FETCH, INVENTORY: STORED} | FACTS)[kind]
    for buckets in _related(snapshot, kind, parts):
        table = snapshot.read(snapshot.of(kind, buckets=buckets), columns)
        for bucket, part in dealt(table, parts):
            if not len(part):
                continue
            if kind not in LEVELS:
                names = part["instance_id"].cast(pa.string())
                by = {"run": part["run"], "instance_id": names}
                order = pc.sort_indices(pa.table(by), [(name, "ascending") for name in by])
                yield bucket, part.take(order)
            else:
                yield bucket, part.take(pa.array(arranged(Book(part, kind))))


def _related(snapshot: Snapshot, kind: str, parts: int) -> list[set[str]]:
    """Return old parts that must be read together, since their rows go to the same new ones."""
    there = sorted({each.bucket for each in snapshot.of(kind)})
    if parts % snapshot.parts == 0:  # each old part is split
        return [{each} for each in there]
    if snapshot.parts % parts == 0:  # old parts become one
        by_new: dict[int, set[str]] = {}
        for each in there:
            by_new.setdefault(int(each.partition("of")[0]) % parts, set()).add(each)
        return list(by_new.values())
    return [set(there)]


# --- what is wrong -------------------------------------------------------------------------------


def problems(lake: Lake, snapshot: Snapshot) -> pd.DataFrame:
    """List what is wrong with an archive.

    Parameters
    ----------
    lake : Lake
        The archive's table.
    snapshot : Snapshot
        The state to look at.

    Returns
    -------
    DataFrame
        Columns `severity`, `file`, `problem`.
    """
    found: list[tuple[str, str, str]] = []
    for file in snapshot.files:
        if not (snapshot.root / file.path).exists() and lake.snapshot().version != snapshot.version:
            raise FileNotFoundError(file.path)  # replaced meanwhile: `reading` looks again
        found += [("error", file.path, what) for what in _file_problems(snapshot, file)]
    known = {each.path for each in snapshot.files}
    left = "not in the log: replaced, or left by a process that died; compact() deletes it in time"
    found += [("note", path, left) for path in lake.data_files() if path not in known]
    if not any(severity == "error" for severity, _, _ in found):
        found += [("error", "", what) for what in _fact_problems(snapshot)]
    return pd.DataFrame(found, columns=["severity", "file", "problem"]).astype("string")


def _file_problems(snapshot: Snapshot, file: File) -> list[str]:
    """Return what is wrong with one data file."""
    whole = snapshot.root / file.path
    if not whole.exists():
        return ["the log knows it, and it is not there: bring it back from a backup"]
    if (size := whole.stat().st_size) != file.size:
        return [f"has {size} bytes, not {file.size}: bring it back from a backup"]
    try:
        rows = pq.ParquetFile(whole, page_checksum_verification=True)
        for group in range(rows.num_row_groups):
            rows.read_row_group(group)
    except Exception as error:  # noqa: BLE001 - a reader fails in any way on what is damaged
        return [f"cannot be read ({error}): bring it back from a backup"]
    count = rows.metadata.num_rows
    return [] if count == file.rows else [f"has {count} rows, not {file.rows}"]


def _fact_problems(snapshot: Snapshot) -> list[str]:
    """Return what does not fit together in the facts of a sound table."""
    found = []
    fetches = fetches_of(snapshot)
    told = set(zip(fetches["run"], fetches["instance_id"].astype(str), strict=True))
    parts = snapshot.parts
    for kind in (*LEVELS, INVENTORY):
        for file in snapshot.of(kind):
            table = snapshot.read([file], (FACTS | {INVENTORY: STORED})[kind])
            names = table["instance_id"].cast(pa.string()).to_pylist()
            runs = ints(table["run"]).tolist()
            if strange := sorted(set(zip(runs, names, strict=True)) - told):
                run, name = strange[0]
                found.append(
                    f"{file.path}: facts of run {run}, instance {name}, which no fetch tells of"
                )
            if any(bucket_of(each, parts) != file.bucket for each in set(names)):
                found.append(f"{file.path}: holds instances that belong to another part")
            if file.keyed and kind in LEVELS:
                book = Book(table, kind, keyed=True)
                if int(book.head.sum()) != int(Book(table, kind).head.sum()):
                    found.append(f"{file.path}: facts of one set do not stand side by side")
    return found


# --- facts made anew -----------------------------------------------------------------------------


def rebuilt(lake: Lake, snapshot: Snapshot) -> int:
    """Make all facts anew out of the responses; this process is the only writer.

    Parameters
    ----------
    lake : Lake
        The archive's table.
    snapshot : Snapshot
        Its newest state.

    Returns
    -------
    int
        How many facts there are now.

    Raises
    ------
    ArchiveError
        When the responses of a fetch were not kept.
    """
    fetches = fetches_of(snapshot)
    fetches = fetches[fetches["ok"]]
    replaced = [each for kind in LEVELS for each in snapshot.of(kind)]
    count = 0

    def anew() -> Iterator[tuple[Key, Tables]]:
        nonlocal count
        for bucket, groups in _by_part(fetches, snapshot.parts).items():
            found: dict[str, list[pa.Table]] = {kind: [] for kind in LEVELS}
            for ids in groups:
                files = snapshot.of("page", instance_ids=ids)
                pages = snapshot.read(files, _PAGE, instance_ids=ids)
                mine = fetches[fetches["instance_id"].isin(ids)]
                for kind, table in _replayed(lake, mine, pages).items():
                    found[kind].append(table)
            for kind, tables in found.items():
                whole = pa.concat_tables(tables, promote_options="permissive")
                count += len(whole)
                yield (kind, bucket), whole

    lake.commit(anew(), snapshot, replaced=replaced)
    return count


def _by_part(fetches: pd.DataFrame, parts: int) -> dict[str, list[list[str]]]:
    """Return the instances of every part, in groups whose responses fit into memory."""
    listed = fetches.groupby(fetches["instance_id"].astype(str))[["sets", "tenant_rows"]].sum()
    dealt_out: dict[str, list[list[str]]] = {}
    room: dict[str, int] = {}
    for name, rows in listed.sum(axis=1).sort_index().items():
        bucket = bucket_of(str(name), parts)
        groups = dealt_out.setdefault(bucket, [[]])
        if groups[-1] and rows > room[bucket]:
            groups.append([])
        room[bucket] = (room[bucket] if groups[-1] else PART_ROWS) - rows
        groups[-1].append(str(name))
    return dealt_out


def _replayed(lake: Lake, fetches: pd.DataFrame, responses: pa.Table) -> dict[str, pa.Table]:
    """Return the facts that some instances' responses tell, fetch after fetch."""
    bodies: dict[tuple[int, str], list[tuple[int, bytes]]] = {}
    numbers = ints(responses["run"]).tolist()
    columns = (responses[name].to_pylist() for name in ("instance_id", "page", "body"))
    rows = zip(numbers, *columns, strict=True)
    for run, instance_id, number, body in rows:
        bodies.setdefault((run, instance_id), []).append((number, body))
    known = {kind: no_facts(kind) for kind in LEVELS}
    for run, group in fetches.groupby("run", sort=True):
        flattener = Flattener()
        asked = {}
        for row in group.to_dict("records"):
            instance_id = str(row["instance_id"])
            kept = sorted(bodies.get((run, instance_id), []))
            if len(kept) != row["pages"]:
                raise ArchiveError(
                    f"the archive {lake.root} cannot be rebuilt: of run {run}, instance "
                    f"{instance_id}, {len(kept)} of {row['pages']} responses were kept"
                )
            pages = [(number, decode_page(body).sets) for number, body in kept]
            for number, sets in pages:
                flattener.add(sets, instance_id, f"run {run}, page {number}")
            start, end = (micros(row[name]) for name in ("asked_start", "asked_end"))
            asked[instance_id] = Asked(start, end, micros(row["seen"]), untold(p for _, p in pages))
        checked = bool(group["download_checked"].all())
        frames = flattener.frames(download_checked=checked)
        for kind, found in facts_against(known, frames, asked, int(run)).items():
            known[kind] = pa.concat_tables([known[kind], found.facts], promote_options="permissive")
    return known
