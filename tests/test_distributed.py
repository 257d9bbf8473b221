"""What is computed part by part is what is computed at once."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import pickle
import shutil
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import html5lib
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import obanalytics as ob
from obanalytics import distributed
from obanalytics.carry import Carried
from obanalytics.distributed import map_instances
from obanalytics.errors import ArchiveError, MissingExtraError, ObanalyticsError
from obanalytics.lake import Lake
from obanalytics.lakefiles import SCHEMA
from obanalytics.ledger import FACTS
from obanalytics.parts import Asked, parts_of
from obanalytics.recall import FETCH
from obanalytics.simulator import KEY, Plant, Scenario, SimulatorServer, simulate
from obanalytics.syncing import facts_of
from tests import archives
from tests.archives import past, service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVERYTHING = Asked(None, None, pd.Timedelta(0), None)
END = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
UNKNOWN = "nosuch1", "nosuch2"
PLANTS = (
    Plant("failed", 1, 0, 30.2, 3.0),
    Plant("silent", 2, None, 30.0, 5.0),
    Plant("slower", 3, 1, 20.0, 60.0, 2.0),
    Plant("anomaly", 4, 2, 22.1, 1.0, 5.0),
    Plant("anomaly", 0, 1, 25.1, 1.0, 4.0),
    Plant("anomaly", 6, 0, 20.1, 1.0, 0.2),
    Plant("stuck", 5, 1, 21.1, 1.0, 9.0),
    Plant("invalid", 7, 1, 21.1, 3.0),
    Plant("missing", 8, 2, 12.0, 12.0),
)
ANALYSES: dict[str, Callable[[Any], pd.DataFrame]] = {
    "exposure": ob.exposure,
    "gaps": partial(ob.coverage_gaps, rpo="26h"),
    "compliance": partial(ob.rpo_compliance, rpo="26h"),
    "compliance with the fleet": partial(ob.rpo_compliance, rpo="26h", total=True, grace="1h"),
    "calendar": partial(ob.coverage_calendar, rpo="26h", tz="Asia/Kathmandu"),
    "changes": ob.duration_changes,
    "durations": ob.duration_trends,
    "durations of clusters": partial(ob.duration_trends, by="cluster"),
    "findings": ob.findings,
    "findings of a policy": partial(
        ob.findings, policy=ob.Policy(rpo="12h", retention_days=10, full_every="3D")
    ),
    "forecast": partial(ob.forecast_size, horizon="20D", candidates="core"),
    "missed": ob.missed_runs,
    "points": ob.restore_points,
    "retention": partial(ob.retention, retention_days=21),
    "after expiry": partial(ob.coverage_after_expiry, retention_days=21),
    "schedule": ob.schedule,
    "schedule compliance": ob.schedule_compliance,
    "growth": ob.size_growth,
    "growth of clusters": partial(ob.size_growth, by="cluster"),
    "stored": ob.stored_size,
    "stored, priced": partial(
        ob.stored_size, by="cluster", freq="W", price_per_gib_month=0.1, free_gib=5.0
    ),
    "parity": ob.tenant_parity,
    "blast": ob.blast_radius,
    "anomalies": ob.anomalies,
    "anomalies by share": partial(ob.anomalies, threshold=1.8, fdr=0.4),
}
LOADS: dict[str, dict[str, Any]] = {
    "all": {},
    "past": {"as_of": "2026-10-20"},
    "before some were known": {"as_of": "2026-10-13"},
    "window": {"start": "2026-10-01", "end": "2026-10-25", "lookback": "10D"},
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> ob.Archive:
    """Sync nine clusters over three weeks: sets go, runs end, two never answer, one is given up."""
    made = ob.Archive(tmp_path_factory.mktemp("archive"))
    history = simulate(
        Scenario(now=END, days=60, instances=9, tenants=3, retention_days=21, seed=3, plants=PLANTS)
    )
    ids = [each.instance_id for each in history.instances]
    moments = [END - dt.timedelta(days=20)]
    with SimulatorServer(history, clock=lambda: moments[0]) as server:
        client = ob.Client(*KEY, endpoint=server.url, project_id="p")
        for number in range(4):
            asked = [*ids[:6], *UNKNOWN] if number == 0 else ids
            made.sync(client, [*asked, UNKNOWN[0]] if number == 3 else asked)
            moments[0] += dt.timedelta(days=6, hours=5)
    return made


def same(given: pd.DataFrame, wanted: pd.DataFrame, *, deep: bool = False) -> None:
    """Compare two results, perhaps with what rides on them, to the last bit."""
    pd.testing.assert_frame_equal(given, wanted, check_exact=True)
    assert list(given.attrs) == list(wanted.attrs)
    for name, value in wanted.attrs.items():
        if not isinstance(value, Carried):
            assert given.attrs[name] == value, name
        elif deep:
            pd.testing.assert_frame_equal(given.attrs[name].frame, value.frame, check_exact=True)


@pytest.fixture(scope="module", params=LOADS)
def load(request: pytest.FixtureRequest) -> dict[str, Any]:
    return LOADS[request.param]


@pytest.fixture(scope="module")
def whole(archive: ob.Archive, load: dict[str, Any]) -> ob.BackupSets:
    return archive.load(**load)


@pytest.mark.parametrize("name", ANALYSES)
def test_parts_equal_the_whole(
    name: str, archive: ob.Archive, load: dict[str, Any], whole: ob.BackupSets
) -> None:
    wanted = ANALYSES[name](whole)
    if not load:
        assert len(wanted)  # there is something to compare
    for count in (1, 4, 16) if not load else (5,):
        given = map_instances(ANALYSES[name], archive, partitions=count, **load)
        same(given, wanted, deep=count == 4)


def test_every_public_analysis_is_compared() -> None:
    given = {getattr(each, "func", each).__name__ for each in ANALYSES.values()}
    others = {"Archive", "BackupSets", "Client", "Policy", "Review", "explore", "load", "read"}
    others |= {"review", "sample", "restore_options", "what_if"}  # see below, and the docs
    assert given == {e for e in ob.__all__ if e not in others and not e.startswith("plot_")}


# --- what a part is ------------------------------------------------------------------------------


def test_parts_hold_every_instance_once_and_read_their_own_files_only(
    archive: ob.Archive, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(archive.path, copy)
    made = ob.Archive(copy)
    made.compact(8)
    parts = parts_of(Lake(copy).snapshot(), EVERYTHING)
    names = [name for part in parts for name in (*part.answers, *part.failed)]
    asked = set(made.fetches()["instance_id"])
    assert sorted(names) == sorted(asked - {UNKNOWN[1]})
    assert len(parts) > 3
    wanted = {str(part): set(part.answers) for part in parts}
    for part in parts:
        for other in (copy / file.path for file in Lake(copy).snapshot().files):
            if f"bucket={part.name}" not in str(other):
                other.rename(other.with_suffix(".away"))
        try:
            sets = part.load()
        finally:
            for away in copy.rglob("*.away"):
                away.rename(away.with_suffix(".parquet"))
        assert set(sets.clusters["instance_id"]) == set(sets.tenants["instance_id"])
        assert set(sets.tenants["instance_id"]) == wanted[str(part)]
        assert sets.as_of == made.load().as_of


def test_compacted_into_many_parts_is_the_same(archive: ob.Archive, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(archive.path, copy)
    ob.Archive(copy).compact(16)
    wanted = ob.rpo_compliance(archive.load(), "20h", total=True)
    same(distributed.coverage(copy, "20h"), wanted)
    same(distributed.coverage(str(copy), "20h", partitions=40), wanted)


def test_some_instances(archive: ob.Archive) -> None:
    fetches = archive.fetches()
    ids = [*fetches.loc[fetches["ok"], "instance_id"].unique()[[5, 2]], UNKNOWN[0]]
    wanted = ob.findings(archive.load(instance_ids=ids))
    for count in (1, 3):
        same(map_instances(ob.findings, archive, instance_ids=ids, partitions=count), wanted)
    one = map_instances(ob.size_growth, archive, instance_ids=ids[0])
    same(one, ob.size_growth(archive.load(instance_ids=ids[0])), deep=True)


def test_as_of_is_that_of_the_whole_archive(archive: ob.Archive) -> None:
    seen = map_instances(told_as_of, archive, partitions=16)
    assert set(seen["as_of"]) == {archive.load().as_of}
    assert len(seen) == 9


def told_as_of(sets: ob.BackupSets) -> pd.DataFrame:
    names = [*sets.source.instances]
    return pd.DataFrame({"instance_id": pd.Categorical(names), "as_of": [sets.as_of] * len(names)})


def test_loading_arguments_are_not_handed_on(archive: ob.Archive) -> None:
    bounds = {"start": "2026-10-05", "end": "2026-10-20"}
    wanted = ob.exposure(archive.load(**bounds))
    same(map_instances(ob.exposure, archive, **bounds), wanted)
    bound = partial(ob.exposure, **bounds)
    wanted = bound(archive.load())
    same(map_instances(bound, archive, partitions=4), wanted)


def test_cluster_sets_stand_in_where_an_instance_lists_no_tenants(tmp_path: Path) -> None:
    sets = ob.sample()
    lone = sets.tenants["instance_id"].unique()[1]
    clusters, tenants = sets.clusters, sets.tenants
    clusters = clusters.assign(
        tenant_sets=clusters["tenant_sets"].where(clusters["instance_id"] != lone, 0)
    )
    write(tmp_path, clusters, tenants[tenants["instance_id"] != lone], sets.as_of)
    whole = ob.Archive(tmp_path).load()
    assert any("stand in as tenant sys" in note for note in whole.source.notes)
    for run in (partial(ob.coverage_gaps, rpo="20h"), ob.size_growth, ob.findings):
        for count in (1, 3):
            same(map_instances(run, tmp_path, partitions=count), run(whole))


def write(folder: Path, clusters: pd.DataFrame, tenants: pd.DataFrame, seen: Any) -> None:
    """Put facts into an archive as one sync would."""
    rows: dict[tuple[str, str], pa.Table] = {}
    for kind, table in facts_of(clusters, tenants).items():
        count = len(table)
        own = {"run": [1] * count, "seen": [seen] * count, "gone": [False] * count}
        columns = own | dict(zip(table.column_names, table.columns, strict=True))
        rows[kind, "00of01"] = pa.table({n: columns[n] for n in FACTS[kind]}, typed(FACTS[kind]))
    names = sorted(clusters["instance_id"].unique())
    told: dict[str, Any] = {"run": 1, "seen": seen, "ok": True, "download_checked": False}
    fetch = [told | {"instance_id": name, "endpoint": "here"} for name in names]
    rows["fetch", "00of01"] = pa.Table.from_pylist(fetch, typed(FETCH))
    Lake(folder).commit(rows, None)


def typed(names: Any) -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in names])


# --- where it runs -------------------------------------------------------------------------------


def test_executors(archive: ob.Archive) -> None:
    wanted = ob.coverage_gaps(archive.load(), "20h")
    assert len(wanted) > 5
    with ThreadPoolExecutor(2) as pool:
        same(distributed.gaps(archive, "20h", pool), wanted)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        same(distributed.gaps(archive, "20h", pool, partitions=3), wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_two_workers_of_dask(archive: ob.Archive) -> None:
    from distributed import Client, LocalCluster  # noqa: PLC0415 - it takes a while

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        sets = archive.load()
        same(
            distributed.coverage(archive, "20h", client), ob.rpo_compliance(sets, "20h", total=True)
        )
        same(distributed.growth(archive, client), ob.size_growth(sets), deep=True)
        same(distributed.durations(archive, client), ob.duration_trends(sets))
        with pytest.raises(ObanalyticsError, match=r"fails_on_one failed on part .*instances"):
            map_instances(fails_on_one, archive, client, bad=sets.source.instances[4])
        address = cluster.scheduler_address
        same(distributed.gaps(archive.path, "20h", address), ob.coverage_gaps(sets, "20h"))


def test_only_small_results_move(archive: ob.Archive) -> None:
    """What rides on a result would take all facts along."""
    pool = Pickling()
    made = distributed.growth(archive, pool, partitions=2)
    assert len(pool.sizes) == 2
    assert max(pool.sizes) < 40_000
    assert len(made.attrs["points"].frame) > 900


class Pickling:
    """An executor that runs at once and sends as others do."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, func: Any, *args: Any) -> Future[Any]:
        func, args = pickle.loads(pickle.dumps((func, args)))  # noqa: S301
        data = pickle.dumps(func(*args))
        self.sizes.append(len(data))
        future: Future[Any] = Future()
        future.set_result(pickle.loads(data))  # noqa: S301
        return future


def test_what_is_no_client(archive: ob.Archive) -> None:
    with pytest.raises(TypeError, match="client is a Dask client"):
        distributed.gaps(archive, "1d", 7)


def test_an_address_needs_dask(archive: ob.Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"obanalytics\[distributed\]"):
        distributed.gaps(archive, "1d", "tcp://127.0.0.1:1")


# --- what goes wrong -----------------------------------------------------------------------------


def fails_on_one(sets: ob.BackupSets, bad: str) -> pd.DataFrame:
    if bad in sets.source.instances:
        raise Broken(bad, reason=len(sets))
    return ob.size_growth(sets)


class Broken(Exception):  # noqa: N818 - as others name theirs
    """An error that does not come back from being sent."""

    def __init__(self, name: str, *, reason: int) -> None:
        super().__init__(f"no luck with {name}: {reason}")


def test_a_failure_names_the_instances(archive: ob.Archive) -> None:
    bad = archive.load().source.instances[4]
    with pytest.raises(ObanalyticsError) as raised:
        map_instances(fails_on_one, archive, partitions=4, bad=bad)
    text = str(raised.value)
    assert text.startswith("fails_on_one failed on part 00of01, ")
    assert bad in text
    assert f"Broken: no luck with {bad}" in text
    with pytest.raises(ObanalyticsError, match="coverage_gaps failed on part") as raised:
        map_instances(ob.coverage_gaps, archive, rpo="often")
    assert isinstance(raised.value.__cause__, ValueError)


def test_what_parts_cannot_tell(archive: ob.Archive) -> None:
    with pytest.raises(ValueError, match="adds up instances"):
        map_instances(ob.size_growth, archive, by="fleet")
    with pytest.raises(ValueError, match="adds up instances"):
        map_instances(partial(ob.stored_size, by="fleet"), archive)
    with pytest.raises(ValueError, match="last quarter of the whole fleet"):
        map_instances(ob.what_if, archive, rpo="1d")
    with pytest.raises(ValueError, match="no column instance_id"):
        map_instances(lambda sets: sets.tenants[["tenant_id"]], archive)
    with pytest.raises(ValueError, match="rows of no instance"):
        map_instances(with_total, archive)
    with pytest.raises(TypeError, match="returned no frame on a part, but int"):
        map_instances(len, archive)
    with pytest.raises(TypeError, match="cannot be called"):
        map_instances("gaps", archive)  # type: ignore[arg-type]


def with_total(sets: ob.BackupSets) -> pd.DataFrame:
    return ob.rpo_compliance(sets, "1d", total=True)


def test_what_an_archive_refuses(archive: ob.Archive, tmp_path: Path) -> None:
    for asked in ({"instance_ids": ["never"]}, {"start": "2026-10-02", "end": "2026-10-01"}):
        for read in (archive.load, partial(map_instances, ob.exposure, archive)):
            with pytest.raises(ValueError, match=r"never asked for instance never|ends before"):
                read(**asked)
    for read in (archive.load, partial(map_instances, ob.exposure, archive)):
        with pytest.raises(ArchiveError, match="knows nothing of 2026-10-01"):
            read(as_of="2026-10-01")
    with pytest.raises(ArchiveError, match="is no archive"):
        map_instances(ob.exposure, tmp_path / "none")
    with pytest.raises(ValueError, match="partitions must be a whole number"):
        map_instances(ob.exposure, archive, partitions=0)


# --- while somebody writes -----------------------------------------------------------------------


def test_all_parts_are_of_one_version(archive: ob.Archive, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(archive.path, copy)
    made = ob.Archive(copy)
    wanted = ob.rpo_compliance(made.load(), "20h", total=True)
    ids = made.load().source.instances
    calls = []

    class Meddling(Pickling):
        def submit(self, func: Any, *args: Any) -> Future[Any]:
            calls.append(1)
            if len(calls) == 2:  # a commit in the midst, and the files of before put together
                history = simulate(Scenario(now=END + dt.timedelta(days=9), instances=1, seed=9))
                with SimulatorServer(history) as server:
                    client = ob.Client(*KEY, endpoint=server.url, project_id="p")
                    made.sync(client, [history.instances[0].instance_id])
                made.compact()
            return super().submit(func, *args)

    same(distributed.coverage(made, "20h", Meddling(), partitions=4), wanted)
    assert len(calls) == 4
    after = made.load()
    assert len(after.source.instances) == len(ids) + 1
    same(distributed.coverage(made, "20h"), ob.rpo_compliance(after, "20h", total=True))


def test_it_begins_anew_where_files_went_meanwhile(archive: ob.Archive, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(archive.path, copy)
    made = ob.Archive(copy)
    wanted = ob.rpo_compliance(made.load(), "20h", total=True)
    calls = []

    class Deleting(Pickling):
        def submit(self, func: Any, *args: Any) -> Future[Any]:
            calls.append(1)
            if len(calls) == 2:
                made.compact(2)
                made.compact(4)  # deletes what the first one has replaced
            return super().submit(func, *args)

    same(distributed.coverage(made, "20h", Deleting(), partitions=4), wanted)
    assert len(calls) > 4


# --- the fleet's review --------------------------------------------------------------------------


POLICY = """
rpo = "20h"
retention_days = 10
full_every = "3D"

[[override]]
name = "orders"
rpo = "40h"

[[exclude]]
name = "catalog"
reason = "made anew every week"
"""


@pytest.mark.parametrize("how", ["nothing given", "an RPO", "a policy", "a window"])
def test_fleet_review_is_the_review(how: str, archive: ob.Archive) -> None:
    asked: dict[str, Any] = {
        "nothing given": {},
        "an RPO": {"rpo": "30h"},
        "a policy": {"policy": ob.Policy.parse(POLICY)},
        "a window": {"rpo": "20h"},
    }[how]
    bounds = LOADS["window"] if how == "a window" else {}
    whole = ob.review(archive.load(**bounds), **asked)
    for count in (1, 6):
        made = distributed.review(archive, **asked, partitions=count, **bounds)
        pd.testing.assert_frame_equal(made.findings, whole.findings, check_exact=True)
        assert made.findings.attrs == whole.findings.attrs
        for name, table in made.tables.items():
            pd.testing.assert_frame_equal(table, whole.tables[name], check_exact=True, obj=name)
        assert made.summary.keys() == whole.summary.keys()
        for name, value in whole.summary.items():
            assert made.summary[name] == value or pd.isna(made.summary[name]) is pd.isna(value), (
                name
            )
        assert (made.rpo, made.as_of, made.window) == (whole.rpo, whole.as_of, whole.window)
        assert (made.rpo_origin, made.policy) == (whole.rpo_origin, whole.policy)
        assert made.failed == whole.provenance["failed"]
        ranks_fit(made, archive.load(**bounds), whole)


def ranks_fit(made: distributed.FleetReview, sets: ob.BackupSets, whole: ob.Review) -> None:
    """Compare every cluster's row with the review of that cluster alone."""
    fresh = whole.findings[~whole.findings["acknowledged"]]
    coverage, gaps = whole.tables["coverage"], whole.tables["gaps"]
    out = {(r.instance_id, r.tenant_id) for r in coverage.iloc[:-1].itertuples()}
    for row in made.clusters.to_dict("records"):
        name = row["instance_id"]
        mine = fresh[fresh["instance_id"] == name]["severity"].value_counts()
        counts = [row[each] for each in ("critical", "warnings", "notes")]
        assert counts == [mine.get(each, 0) for each in ("critical", "warning", "info")]
        if name == UNKNOWN[0]:
            assert row["tenants"] == 0
            assert pd.isna(row["last_answer"])
            assert pd.isna(row["time_in_rpo"])
            continue
        one = sets.select(instance_ids=name)
        one = replace(one, tenants=one.tenants[[k in out for k in keys_of(one.tenants)]])
        fleet = ob.rpo_compliance(one, whole.rpo, grace=whole.grace, total=True).iloc[-1]
        for column in SAME:
            assert row[column] == fleet[column] or pd.isna(row[column]) is pd.isna(fleet[column])
        mine = coverage[coverage["instance_id"].eq(name)]["rpo_state"].value_counts()
        assert row["tenants"] == mine.sum()
        assert row["tenants_outside"] == mine["outside"]
        assert row["tenants_unknown"] == mine["unknown"]
        mine = gaps[gaps["instance_id"] == name]
        longest = (mine["gap"] - mine["unknown"]).max()
        assert row["longest_gap"] == longest or (pd.isna(longest) and pd.isna(row["longest_gap"]))
        assert row["last_answer"] == sets.as_of
    ratio = made.clusters["rpo_ratio"]
    outside = ratio[ratio > 1]
    assert list(outside.index) == [*range(len(outside))]
    assert outside.is_monotonic_decreasing
    assert list(made.tenants["rank"]) == [*range(1, len(coverage))]
    assert (
        made.tenants["critical"].sum()
        == (fresh["severity"].eq("critical") & fresh["tenant_id"].notna()).sum()
    )


SAME = ["time_in_rpo", "time_in_rpo_worst", "gaps", "gap_total", "unknown", "worst_exposure"]
SAME += ["unbounded", "exposure_now", "restore_points", "last_checkpoint", "rpo_ratio"]


def keys_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return [*frame[["instance_id", "tenant_id"]].itertuples(index=False, name=None)]


@pytest.mark.parametrize("then", [None, 3])
def test_who_answers_no_more_is_left_out_where_that_is_asked_for(
    tmp_path: Path, then: int | None
) -> None:
    told = service(past(), archives.END - 10 * archives.DAY)
    archive, (_, dead, dropped) = ob.Archive(tmp_path), told.ids
    for day in range(6):
        told.failing = {dead} if day > 1 else set()
        archive.sync(told, "all" if day < 2 else [each for each in told.ids if each != dropped])
        told.now += archives.DAY
    as_of = None if then is None else archive.fetches()["seen"].dropna().unique()[then]
    whole = archive.load(as_of, stale="1D")
    assert set(whole.source.failed) == {dead, dropped}
    assert "it was not asked since" in whole.source.failed[dropped]
    assert "since then: " in whole.source.failed[dead]
    for count in (1, 3):
        bounds: dict[str, Any] = {"as_of": as_of, "stale": "1D", "partitions": count}
        for run in (ob.findings, partial(ob.coverage_gaps, rpo="5h"), ob.exposure):
            same(map_instances(run, archive, **bounds), run(whole))
        made = distributed.review(archive, "5h", **bounds)
        assert made.failed == whole.source.failed
        pd.testing.assert_frame_equal(made.findings, ob.review(whole, rpo="5h").findings)
    everybody = map_instances(ob.exposure, archive, as_of=as_of)
    assert set(everybody["instance_id"]) == set(told.ids)


def test_fleet_review_fits_a_screen(archive: ob.Archive) -> None:
    made = distributed.review(archive, "20h")
    lines = repr(made).splitlines()
    assert lines[0].startswith("Fleet review of 9 instances, 27 tenants, as of 2026-10-30 21:00")
    assert len(lines) < 45
    assert max(map(len, lines)) <= 110
    assert any(line.startswith("failed") and line.endswith("nosuch1") for line in lines)
    worst = made.clusters["instance_id"].iloc[0]
    assert any(line.split()[:2] == ["1", worst] for line in lines)
    page = html5lib.parse(made._repr_html_(), namespaceHTMLElements=False)
    assert len(page.findall(".//table")) == 3
    assert len(page.findall(".//table[2]//tr")) == 11
    with pytest.raises(TypeError, match="policy is a Policy"):
        distributed.review(archive, policy="20h")  # type: ignore[arg-type]


# --- other engines -------------------------------------------------------------------------------


def test_other_engines_read_the_archive(archive: ob.Archive) -> None:
    files = [str(archive.path / each.path) for each in Lake(archive.path).snapshot().of("tenant")]
    newest = """
        SELECT count(*), count(*) FILTER (gone), sum(size_gib) FROM (
            SELECT *, row_number() OVER (
                PARTITION BY instance_id, tenant_id, backup_set_id, storage_class
                ORDER BY seen DESC, run DESC) AS place
            FROM read_parquet(?)) WHERE place = 1
    """
    in_sql = duckdb.execute(newest, [files]).fetchone()
    key = ["instance_id", "tenant_id", "backup_set_id", "storage_class"]
    in_polars = (
        pl.scan_delta(str(archive.path))
        .filter(pl.col("kind") == "tenant")
        .sort("seen", "run")
        .group_by(key)
        .agg(pl.col("size_gib", "gone").last())
        .select(pl.len(), pl.col("gone").sum(), pl.col("size_gib").sum().alias("gib"))
        .collect()
    )
    ours = archive.load().tenants
    wanted = len(ours), int(ours["gone_time"].notna().sum()), float(ours["size_gib"].sum())
    assert wanted[1] > 100
    assert in_sql == pytest.approx(wanted)
    assert in_polars.row(0) == pytest.approx(wanted)
