"""Durations of a million and ten million tenant rows: how fast beside SQL, in how much memory."""

from __future__ import annotations

import gc
import multiprocessing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from test_coverage_speed import LONG, MILLIONS, SHORT, fleet, interleaved, keeps, memory

from obanalytics import duration
from obanalytics.carry import carried
from obanalytics.duration import duration_trends
from obanalytics.series import runs_of

if TYPE_CHECKING:
    import pyarrow as pa
    from test_coverage_speed import Name

    from obanalytics.schema import BackupSets
    from obanalytics.series import Runs

NAMES = ["instance_id", "tenant_id", "full", "state", "start_time", "end_time"]
MOST_BYTES = 150  # a row
MICRO = pd.Timedelta(1, "us")
TABLE = """
CREATE TABLE sets AS
SELECT tenant_id AS tenant, "full" AS is_full, state, start_time::TIMESTAMP AS begun,
       epoch_us(start_time) AS s, epoch_us(end_time) - epoch_us(start_time) AS took
FROM tenants
"""
# As one asks, and of those that were tried the fastest way: labels as ENUM, times as BIGINT, weeks
# by dividing them, both quantiles of one list.
ASKED = """
SELECT tenant, is_full, date_trunc('week', begun) AS week, count(*) AS n,
       quantile_cont(took, 0.5) AS p50, quantile_cont(took, 0.95) AS p95
FROM sets WHERE state = 'done' GROUP BY ALL
"""
FASTEST = """
SELECT tenant, is_full, (s - 345_600_000_000) // 604_800_000_000 AS week, count(*) AS n,
       quantile_cont(took, [0.5, 0.95]) AS spans
FROM sets WHERE state = 'done' GROUP BY ALL
"""
QUERIES = {"SQL": ASKED, "SQL, fastest": FASTEST}


def table(sets: BackupSets) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("tenants", sets.tenants[NAMES])
    connection.execute(TABLE)
    connection.unregister("tenants")
    return connection


def in_sql(connection: duckdb.DuckDBPyConnection, question: str) -> pa.Table:
    return connection.sql(question).to_arrow_table()


def weekly(runs: Runs) -> dict[str, Any]:
    """Do of `duration_trends` what the query does: the rest is left out."""
    periods = duration._periods(duration._offset("W"), runs.start)
    weeks, own = [], []
    for series in duration._parts(runs.bounds):
        part = duration._part(runs, series)
        number, bounds, counts = duration._periods_of(part, periods)
        own.append(counts)
        weeks.append(
            {
                "start": periods.begin(number),
                "n": np.diff(bounds),
                **duration._spans_of(part, bounds),
            }
        )
    return {"counts": np.concatenate(own), **duration._joined(weeks)}


def assert_same(sets: BackupSets, connection: duckdb.DuckDBPyConnection) -> None:
    """Compare all weeks of all four, to the microsecond."""
    table, runs = duration_trends(sets), runs_of(sets)
    mine, alone = carried(table, "weekly"), weekly(runs)
    assert mine is not None
    for name in ("p50", "p95"):
        assert (mine[name].to_numpy().view(np.int64) == alone[name]).all()
    assert (mine["n"] == alone["n"]).all()
    tenants = runs.heads["tenant_id"].array.repeat(alone["counts"])
    assert (tenants == mine["tenant_id"].array).all()
    key = ["tenant", "is_full", "week"]
    asked, fastest = (
        connection.sql(sql)
        .df()
        .astype({"tenant": str})
        .sort_values(key, ascending=[True, False, True], ignore_index=True)
        for sql in (ASKED, FASTEST)
    )
    assert len(mine) == len(asked)
    assert (mine["tenant_id"].astype(str) == asked["tenant"]).all()
    assert (mine["full"] == asked["is_full"]).all()
    assert (mine["start"].dt.tz_localize(None) == asked["week"]).all()
    assert (mine["n"] == asked["n"]).all()
    for place, name in enumerate(("p50", "p95")):
        assert ((mine[name] / MICRO - asked[name]).abs() <= 0.51).all()
        assert (fastest["spans"].str[place] == asked[name]).all()


def candidates() -> dict[Name, tuple[int, Any]]:
    made: dict[Name, tuple[int, Any]] = {}
    for days in (SHORT, LONG):
        sets, rounds = fleet(days), 2
        connection = table(sets)
        if days == SHORT:
            assert_same(sets, connection)
        made["weekly", days, ""] = rounds, partial(weekly, runs_of(sets))
        for name, question in QUERIES.items():
            made[name, days, ""] = rounds, partial(in_sql, connection, question)
        made["runs_of", days, ""] = rounds, partial(runs_of, sets)
        made["duration_trends", days, ""] = 1, partial(duration_trends, sets)
    return made


@pytest.mark.benchmark
def test_weekly_durations_beside_sql() -> None:
    runs = candidates()
    threads = int(duckdb.sql("SELECT current_setting('threads')").fetchall()[0][0])
    for attempt in range(2):  # a noisy neighbour may spoil one
        best = interleaved(runs)
        print(f"\nweekly p50 and p95, ratios of CPU time; DuckDB with {threads} threads")
        for (who, days, _), spent in best.items():
            name = f"{who}, {MILLIONS[days]} M"
            print(f"  {name:<34} {spent.cpu:7.3f} s CPU  {spent.wall:7.3f} s wall")
        bounds = {}
        for days in (SHORT, LONG):
            ours, whole = best["weekly", days, ""].cpu, best["duration_trends", days, ""].cpu
            for who in QUERIES:
                theirs = best[who, days, ""].cpu
                # What does not grow with the rows is more of a million.
                least = 5 if days == LONG else 3
                where = f"{MILLIONS[days]} M"
                bounds[f"{who} / weekly, {where}"] = theirs / ours, "at least", least
                bounds[f"{who} / duration_trends, {where}"] = theirs / whole, "at least", 0
        for name, (value, how, bound) in bounds.items():
            print(f"  {name:<45} {value:7.2f}   ({how} {bound})")
        if all(keeps(*each) for each in bounds.values()):
            return
        short = [name for name, each in bounds.items() if not keeps(*each, tolerance=1.15)]
        assert attempt == 0 or not short, short


def peaks(answer_to: Any) -> None:
    """Measure in a process of its own, the facts already made."""
    duration_trends(fleet(14))  # what is imported and cached once
    for days in (SHORT, LONG):
        sets = fleet(days)
        gc.collect()
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        made = duration_trends(sets)
        answer_to.put((days, (memory("VmHWM") - before) / len(sets.tenants)))
        del made


@pytest.mark.benchmark
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_of_durations() -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    worker = context.Process(target=peaks, args=(answers,))
    worker.start()
    found = dict(answers.get(timeout=900) for _ in range(2))
    worker.join()
    print()
    for days, most in found.items():
        print(f"  peak of durations, {MILLIONS[days]} M: {most:.0f} bytes a row", end="")
        print(f" (at most {MOST_BYTES})")
    # A million rows are little beside what the fits work in.
    assert found[LONG] <= MOST_BYTES
