"""An archive of a million rows: appending a day, loading, size; beside plain Parquet and DuckDB."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
import test_coverage_speed as fleets

import obanalytics as ob
from obanalytics.lake import Lake
from obanalytics.lakefiles import SCHEMA
from obanalytics.ledger import NAT, Asked
from obanalytics.recall import FETCH, micros
from obanalytics.syncing import merged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from obanalytics.lake import Snapshot

DAYS, PER_RUN = 100, 10
APPEND, LOAD, COMPACT, BYTES = 0.2, 4.0, 1.5, 40.0
PART = "00of01"
BOUNDS = [fleets.BEGIN + pd.Timedelta(days=n) for n in range(0, DAYS + 1, PER_RUN)]
_UTC = pa.timestamp("us", tz="UTC")


def fetch_rows(ids: list[str], run: int, seen: int) -> pa.Table:
    """Return a row of the list of fetches for each instance."""
    count = len(ids)
    known: dict[str, Any] = {
        "run": pa.array([run] * count, pa.int64()),
        "instance_id": ids,
        "seen": pa.array([seen] * count, pa.int64()).cast(_UTC),
        "ok": [True] * count,
        "download_checked": [False] * count,
        "planned": pa.array([count] * count, pa.int64()),
    }
    nothing = {n: pa.nulls(count, SCHEMA.field(n).type) for n in FETCH if n not in known}
    return pa.table({**known, **nothing}).select(FETCH)


def came(sets: ob.BackupSets, start: pd.Timestamp, end: pd.Timestamp) -> tuple[Any, Any]:
    """Return the two frames of what began in a window."""
    clusters = sets.clusters
    clusters = clusters[(clusters["start_time"] >= start) & (clusters["start_time"] < end)]
    tenants = sets.tenants
    tenants = tenants[tenants["cluster_backup_set_id"].isin(clusters["backup_set_id"])]
    return clusters.reset_index(drop=True), tenants.reset_index(drop=True)


def add(
    lake: Lake, snapshot: Snapshot | None, frames: tuple[Any, Any], start: Any, seen: Any
) -> Snapshot:
    """Merge and commit what came, as a sync does once it has the frames."""
    ids = list(frames[0]["instance_id"].cat.categories)
    run = 0 if snapshot is None else snapshot.version + 1
    asked = dict.fromkeys(ids, Asked(micros(start), NAT, micros(seen)))
    facts, _ = merged(snapshot, frames, asked, run, 1)
    rows = {**facts, "fetch": fetch_rows(ids, run, micros(seen))}
    return lake.commit({(kind, PART): table for kind, table in rows.items()}, snapshot)


def best(*calls: Callable[[], object], rounds: int = 7) -> list[float]:
    """Return the best time of each [s], one after the other in every round."""
    times = [float("inf")] * len(calls)
    for _ in range(rounds):
        for number, call in enumerate(calls):
            gc.collect()
            begun = perf_counter()
            call()
            times[number] = min(times[number], perf_counter() - begun)
    return times


def facts(days: int) -> ob.BackupSets:
    """Return the sets of a fleet; its cluster sets say what they are, too."""
    sets = fleets.fleet(days)
    count = len(sets.clusters)
    columns = {"status": "DONE", "data_backup_mode": "FULL_BACKUP"}
    values = {n: pd.Categorical.from_codes([0] * count, [v]) for n, v in columns.items()}
    return replace(sets, clusters=sets.clusters.assign(**values))


def archived(folder: Path, whole: ob.BackupSets) -> ob.Archive:
    """Return an archive of all days but the last, synced every ten days."""
    lake, snapshot = Lake(folder), None
    with lake.writing():
        for start, end in pairwise(BOUNDS):
            snapshot = add(lake, snapshot, came(whole, start, end), start, end)
    return ob.Archive(folder)


@pytest.mark.benchmark
def test_loading(tmp_path: Path) -> None:
    whole = facts(DAYS)
    archive = archived(tmp_path / "a", whole)
    plain = [tmp_path / "clusters.parquet", tmp_path / "tenants.parquet"]
    for path, frame in zip(plain, (whole.clusters, whole.tenants), strict=True):
        frame.to_parquet(path)
    columns = ["instance_id", "tenant_id", "backup_set_id", "start_time", "end_time", "size_gib"]
    sets = archive.load()
    rows = len(sets.tenants)
    assert rows == 1_000_000
    pd.testing.assert_frame_equal(sets.tenants[columns], whole.tenants[columns])
    del sets, whole

    def pandas() -> None:
        for path in plain:
            pd.read_parquet(path)

    def duck() -> None:
        for path in plain:
            duckdb.read_parquet(str(path)).df()

    print(f"\n{rows:,} tenant rows; seconds, and times pandas.read_parquet of the same rows")
    lake = Lake(archive.path)
    for what, limit in (("as synced, 10 runs", LOAD), ("compacted", COMPACT)):
        base, other, ours = best(pandas, duck, archive.load)
        told = f"load {what}: {ours:.3f} s = {ours / base:.2f} x (at most {limit})"
        print(f"{told}; pandas {base:.3f} s; DuckDB to frames {other / base:.2f} x")
        size = sum(f.size for f in lake.snapshot().files if f.kind != "page") / rows
        print(f"size {what}: {size:.1f} bytes a tenant row with its cluster sets (at most {BYTES})")
        assert ours <= limit * base
        assert size <= BYTES
        archive.compact()


@pytest.mark.benchmark
def test_appending_a_day(tmp_path: Path) -> None:
    whole = facts(DAYS + 1)
    archive = archived(tmp_path / "a", whole)
    start = BOUNDS[-1]
    day = came(whole, start, start + pd.Timedelta(days=1))
    assert len(day[1]) == 10_000
    for what in ("as synced", "compacted"):
        times = []
        for number in range(5):
            copy = tmp_path / f"{what}-{number}"
            shutil.copytree(archive.path, copy)
            target = Lake(copy)
            begun = perf_counter()
            with target.writing():
                add(target, target.snapshot(), day, start, start + pd.Timedelta(days=1))
            times.append(perf_counter() - begun)
            assert len(ob.Archive(copy).load().tenants) == 1_010_000
        print(f"\nappend 10,000 rows to a million, {what}: {min(times):.3f} s (at most {APPEND})")
        assert min(times) <= APPEND
        archive.compact()
