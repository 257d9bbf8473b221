"""Ten million archived rows: gaps file by file, on two workers, and read by other engines."""

from __future__ import annotations

import gc
import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from test_coverage_speed import CLUSTERS, LONG, RPO, TENANTS, fleet

import obanalytics as ob
from obanalytics import distributed
from obanalytics.lake import Lake, bucket_of
from obanalytics.ledger import FACTS, LEVELS
from obanalytics.recall import FETCH
from obanalytics.syncing import facts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obanalytics.lake import Snapshot
    from obanalytics.schema import BackupSets

PARTS = 16
MOST_MIB = 1_000  # per process, of which the libraries are about 260


# --- an archive ----------------------------------------------------------------------------------


def written(path: Path | str, sets: BackupSets) -> int:
    """Write facts as one sync of all instances and a `compact` would leave them; say how large."""
    lake, snapshot = Lake(path), None
    names = sets.tenants["instance_id"].cat.categories
    buckets = np.array([int(bucket_of(name, PARTS)[:2]) for name in names])
    whole = both(sets)
    for number in range(PARTS):
        rows: dict[tuple[str, str], pa.Table] = {}
        bucket = f"{number:02}of{PARTS:02}"
        frames = [each[number == buckets[each["instance_id"].cat.codes]] for each in whole]
        for kind, table in facts_of(*frames).items():
            rows[kind, bucket] = dated(table, kind, sets.as_of)
        rows["fetch", bucket] = fetched(names[buckets == number], sets.as_of)
        snapshot = lake.commit(rows, snapshot, keyed=True)
    assert snapshot is not None
    return sum(each.size for each in snapshot.files)


def both(sets: BackupSets) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both frames; of cluster sets the benchmark says only who, when and that."""
    told = {"status": "DONE", "data_backup_mode": "FULL_BACKUP"}
    count = len(sets.clusters)
    labels = {name: pd.Categorical([text]).repeat(count) for name, text in told.items()}
    return sets.clusters.assign(**labels), sets.tenants


def dated(table: pa.Table, kind: str, seen: Any) -> pa.Table:
    """Add what a sync notes of each fact."""
    count = len(table)
    own = {
        "run": pa.array(np.ones(count, np.int64)),
        "seen": pa.array([seen.to_pydatetime()], pa.timestamp("us", "UTC")).take([0] * count),
        "gone": pa.array(np.zeros(count, bool)),
    }
    return pa.table({**own, **dict(zip(table.column_names, table.columns, strict=True))}).select(
        FACTS[kind]
    )


def fetched(names: Any, seen: Any) -> pa.Table:
    """Return the list of fetches."""
    count = len(names)
    columns: dict[str, Any] = {name: pa.nulls(count) for name in FETCH}
    columns |= {"instance_id": pa.array(names, pa.string()), "ok": pa.array([True] * count)}
    columns |= {"run": pa.array([1] * count), "endpoint": pa.array(["bench"] * count)}
    columns["seen"] = pa.array([seen.to_pydatetime()] * count, pa.timestamp("us", "UTC"))
    numbers = ("planned", "pages", "sets", "tenant_rows", "new", "changed", "went")
    columns |= {name: pa.array([0] * count) for name in numbers}
    columns |= {
        name: pa.nulls(count, pa.timestamp("us", "UTC")) for name in FETCH if "asked" in name
    }
    columns |= {
        "error": pa.nulls(count, pa.string()),
        "download_checked": pa.array([False] * count),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def archived() -> Iterator[tuple[ob.Archive, BackupSets]]:
    sets = fleet(LONG)
    with TemporaryDirectory() as folder:
        size = written(folder, sets)
        print(f"\n{size / len(sets.tenants):.1f} bytes a row, clusters and fetches too")
        yield ob.Archive(folder), sets


# --- how fast ------------------------------------------------------------------------------------


def least(run: Any, rounds: int = 3) -> tuple[Any, float, float]:
    """Return what something returns, and the least CPU and wall time that it took [s]."""
    best = [float("inf")] * 2
    for _ in range(rounds):
        made = None
        gc.collect()
        cpu, wall = process_time(), perf_counter()
        made = run()
        best = [min(best[0], process_time() - cpu), min(best[1], perf_counter() - wall)]
    return made, *best


@pytest.mark.benchmark
def test_coverage_of_ten_million_archived_rows(
    archived: tuple[ob.Archive, BackupSets],
) -> None:
    archive, sets = archived
    pairs = {
        "coverage": (
            partial(ob.rpo_compliance, sets, RPO, total=True),
            partial(distributed.coverage, archive, RPO),
        ),
        "gaps": (partial(ob.coverage_gaps, sets, RPO), partial(distributed.gaps, archive, RPO)),
    }
    ratio = float("inf")
    for _attempt in range(2):  # a noisy neighbour may spoil one
        for name, (in_memory, in_parts) in pairs.items():
            wanted, cpu, wall = least(in_memory)
            made, parts_cpu, parts_wall = least(in_parts)
            pd.testing.assert_frame_equal(made, wanted, check_exact=True)
            much = parts_wall / wall
            print(f"\n{name} of 10 M rows in memory: {cpu:.2f} s CPU, {wall:.2f} s wall")
            print(f"  archived, part by part: {parts_cpu:.2f} s CPU, {parts_wall:.2f} s wall")
            bound = "at most 2" if name == "coverage" else "told, not promised"
            print(f"  ratio of wall times {much:.2f}   ({bound})")
            ratio = much if name == "coverage" else ratio
        if ratio <= 2:
            return
    assert ratio <= 2 * 1.15


# --- in how much memory --------------------------------------------------------------------------


def peak() -> float:
    """Return the most that this process held, libraries and all [MiB].

    `resource.getrusage` counts what its parent held when it was started.
    """
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def alone(path: str, answer_to: Any) -> None:
    """Measure in a process of its own."""
    idle = peak()
    made = distributed.gaps(path, RPO)
    answer_to.put((idle, peak(), len(made)))


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_two_workers_equal_one_process(archived: tuple[ob.Archive, BackupSets]) -> None:
    from distributed import Client, LocalCluster  # noqa: PLC0415 - it takes a while

    archive, sets = archived
    wanted = distributed.gaps(archive, RPO)
    pd.testing.assert_frame_equal(wanted, ob.coverage_gaps(sets, RPO), check_exact=True)
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=None
    )
    with cluster, Client(cluster) as client:
        distributed.gaps(archive, RPO, client, instance_ids=["ob0000", "ob0001"])  # imports
        idle = client.run(peak).values()
        start = perf_counter()
        made = distributed.gaps(archive, RPO, client)
        took = perf_counter() - start
        peaks = client.run(peak).values()
    pd.testing.assert_frame_equal(made, wanted, check_exact=True)
    queue = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(
        target=alone, args=(str(archive.path), queue)
    )
    process.start()
    before, most, found = queue.get(timeout=300)
    process.join()
    assert found == len(wanted) > CLUSTERS * TENANTS
    texts = ", ".join(f"{each:.0f} (idle {i:.0f})" for each, i in zip(peaks, idle, strict=True))
    print(f"\ntwo workers {took:.2f} s wall; peak MiB of each: {texts}   (at most {MOST_MIB})")
    print(f"one process: peak {most:.0f} MiB (idle {before:.0f})")
    assert max(*peaks, most) <= MOST_MIB


# --- other engines -------------------------------------------------------------------------------


@pytest.mark.benchmark
def test_duckdb_and_polars_agree(archived: tuple[ob.Archive, BackupSets]) -> None:
    archive, sets = archived
    rows = sets.tenants
    wanted = len(rows), int((rows["status"] == "FAILED").sum()), float(rows["size_gib"].sum())
    files = [str(archive.path / each.path) for each in tenant_files(archive)]
    asked = "count(*), count(*) FILTER (status = 'FAILED'), sum(size_gib)"
    query = f"SELECT {asked} FROM read_parquet(?)"  # noqa: S608 - our own
    in_sql, _, sql_took = least(lambda: duckdb.execute(query, [files]).fetchone())
    lazy = pl.scan_delta(str(archive.path)).filter(pl.col("kind") == "tenant")
    lazy = lazy.select(pl.len(), (pl.col("status") == "FAILED").sum(), pl.col("size_gib").sum())
    in_polars, _, polars_took = least(lambda: lazy.collect().row(0))
    assert in_sql == pytest.approx(wanted)
    assert in_polars == pytest.approx(wanted)
    print(f"\ncounts and a sum of 10 M rows: DuckDB {sql_took:.2f} s, Polars {polars_took:.2f} s")


def tenant_files(archive: ob.Archive) -> Any:
    snapshot: Snapshot = Lake(archive.path).snapshot()
    return snapshot.of("tenant")


@pytest.mark.benchmark
def test_what_a_part_costs(archived: tuple[ob.Archive, BackupSets]) -> None:
    """Measure what the docs scale up: every ready form on a part, by a row."""
    archive, sets = archived
    some = [f"ob{number:04}" for number in range(0, CLUSTERS, 20)]
    count = len(some) * TENANTS * LONG
    forms = {
        "loading": lambda: archive.load(instance_ids=some),
        "gaps": lambda: distributed.gaps(archive, RPO, instance_ids=some),
        "coverage": lambda: distributed.coverage(archive, RPO, instance_ids=some),
        "growth": lambda: distributed.growth(archive, instance_ids=some),
        "durations": lambda: distributed.durations(archive, instance_ids=some),
        "review": lambda: distributed.review(archive, RPO, instance_ids=some),
    }
    print()
    for name, run in forms.items():
        _, cpu, wall = least(run, 1)
        print(
            f"{name:<10} {1e6 * cpu / count:6.2f} µs CPU a row, {1e6 * wall / count:6.2f} µs wall"
        )
    assert replace(sets).as_of == archive.load(instance_ids=some).as_of
    assert set(LEVELS) == {"cluster", "tenant"}
