"""Metrics: Prometheus' own tools judge the text, its parser reads back every number and label."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

import pandas as pd
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from test_report import HOSTILE, NOW, renamed, simulated

import obanalytics as ob
from obanalytics import simulator
from obanalytics.clauses import Acknowledged, Exclude, Override
from obanalytics.errors import MissingExtraError
from obanalytics.metrics import METRICS, render_metrics
from obanalytics.schema import BackupSets, Source, empty

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent.parent / "docs"
NAMES = (
    *HOSTILE,
    "\\",
    '"',
    "\n",
    "\\n",
    'a\\"',
    "\r",
    "\x00\x1f\x7f\u2028",
    " ",
    "+1",
    "-1",
    "@a",
    "\ta",
    "same",
)
LABELS = ("instance_id", "tenant_id", "tenant")
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def but(review: Any, **fields: Any) -> Any:
    """Return a review with other fields, as a renderer sees it."""
    names = ("findings", "tables", "summary", "rpo", "grace", "rpo_origin", "as_of")
    names = (*names, "window", "provenance")
    return SimpleNamespace(**{name: getattr(review, name) for name in names} | fields)


def table(review: Any, name: str, frame: pd.DataFrame) -> Any:
    return but(review, tables={**review.tables, name: frame})


def parsed(text: bytes) -> Series:
    """Read the text; no series may be there twice."""
    found: Series = {}
    for family in text_string_to_metric_families(text.decode("utf-8")):
        assert family.type == "gauge"
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            assert not math.isnan(sample.value), key
            assert sample.timestamp is None
            found[key] = sample.value
    return found


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} must be there in CI"
        pytest.skip(f"{name} is not installed")
    return found


def promtool(*words: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    called = [program("promtool"), *words]
    return subprocess.run(called, input=text, capture_output=True, check=False)


def accepted(text: bytes) -> None:
    done = promtool("check", "metrics", text=text)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert not done.stderr


@pytest.fixture(scope="module")
def sample() -> Any:
    return ob.review(ob.sample())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Any:
    plants = (
        simulator.Plant("silent", 0, None, 20.0, 4.0),
        simulator.Plant("dropped", 1, 1, 9.0),
        simulator.Plant("failed", 1, 4, 20.0, 5.0),
    )
    scenario = simulator.Scenario(NOW, 3, 30, instances=3, tenants=11, plants=plants)
    sets = renamed(simulated(tmp_path_factory.mktemp("hostile"), scenario), NAMES)
    failed = {name: f"refused: {name}" for name in NAMES if name}
    source = dataclasses.replace(sets.source, failed=failed)
    return ob.review(dataclasses.replace(sets, source=source), rpo="26h")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    plants = (simulator.Plant("silent", 3, None, 12.0, 4.0),)
    scenario = simulator.Scenario(NOW, 3, 25, instances=50, tenants=10, plants=plants)
    return ob.review(simulated(tmp_path_factory.mktemp("big"), scenario), rpo="26h")


@pytest.fixture(scope="module")
def nothing() -> Any:
    return ob.review(BackupSets(empty("clusters"), empty("tenants"), source=Source(("ob1",))))


def rich(review: Any) -> bytes:
    """Return the text with every metric in it."""
    window = (pd.Timestamp("2026-01-01", tz="UTC"), review.window.end)
    told = {**review.summary, "tenants_without_sets": 2}  # an inventory was read
    whole = but(review, window=window, summary=told)
    return render_metrics(whole, pd.Timestamp("2026-11-01 07:00", tz="UTC"))


# --- the judges --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sample", "hostile", "nothing", "big"])
def test_promtool_takes_the_text(name: str, request: pytest.FixtureRequest) -> None:
    accepted(render_metrics(request.getfixturevalue(name)))


def test_promtool_refuses_what_is_wrong(sample: Any) -> None:
    text = render_metrics(sample)
    assert promtool("check", "metrics", text=text.replace(b"_gaps", b"_gapsTotal")).returncode
    line = text.splitlines(keepends=True)[-1]
    assert promtool("check", "metrics", text=text + line.replace(b" ", b"{ ")).returncode


@contextmanager
def served(text: bytes) -> Iterator[str]:
    """Serve the text on this machine, as the node exporter does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def asked(port: int, path: str) -> Any:
    direct = build_opener(ProxyHandler({}))  # whatever proxy the environment names
    with direct.open(f"http://127.0.0.1:{port}/api/v1/{path}") as answer:
        return json.load(answer)["data"]


def scraped(text: bytes, folder: Path) -> tuple[Any, list[Any]]:
    """Let Prometheus itself read the text; return how that went, and its series."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(text) as address:
        job = {"job_name": "j", "static_configs": [{"targets": [address]}]}
        every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        config = folder / "prometheus.yml"
        config.write_text(json.dumps({"scrape_configs": [job | every]}))
        words = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}")
        called = [program("prometheus"), *words, f"--web.listen-address=127.0.0.1:{port}"]
        with subprocess.Popen(called, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            try:
                until = time.monotonic() + 60
                targets: list[Any] = []
                while not targets or targets[0]["health"] == "unknown":
                    assert time.monotonic() < until, "Prometheus did not scrape in a minute"
                    time.sleep(0.2)
                    with suppress(OSError):
                        targets = asked(port, "targets")["activeTargets"]
                found = asked(port, "query?query=%7B__name__%3D~%22obanalytics_.%2B%22%7D")
                return targets[0], found["result"]
            finally:
                run.terminate()


def test_prometheus_itself_reads_every_series(hostile: Any, tmp_path: Path) -> None:
    text = render_metrics(hostile)
    target, series = scraped(text, tmp_path)
    assert (target["health"], target["lastError"]) == ("up", "")
    told: Series = {}
    for each in series:
        labels = each["metric"]
        assert labels.pop("job") == "j"
        assert labels.pop("instance") == target["labels"]["instance"]
        told[labels.pop("__name__"), frozenset(labels.items())] = float(each["value"][1])
    assert len(told) == len(series)
    # An empty label is none to Prometheus.
    wanted = {
        (name, frozenset((key, value) for key, value in labels if value)): number
        for (name, labels), number in parsed(text).items()
    }
    assert told == wanted


# --- the numbers -------------------------------------------------------------------------------


def seconds(value: Any) -> float:
    if isinstance(value, pd.Timestamp):
        return (value - pd.Timestamp(0, tz="UTC")) / pd.Timedelta("1s")
    return value / pd.Timedelta("1s")


def mode_of(full: Any) -> str:
    return {True: "full", False: "incremental"}.get(full, "unknown")


def put(found: Series, name: str, labels: dict[str, str], value: Any, turn: Any = float) -> None:
    if not pd.isna(value):
        found["obanalytics_" + name, frozenset(labels.items())] = turn(value)


def tenant_of(row: Any) -> dict[str, str]:
    name = "" if pd.isna(row["tenant_name"]) else row["tenant_name"]
    return dict(zip(LABELS, (row["instance_id"], row["tenant_id"], name), strict=True))


def expected_tenants(review: Any) -> Series:
    found: Series = {}
    for _, row in review.tables["coverage"].iloc[:-1].iterrows():
        who = tenant_of(row)
        put(found, "tenant_time_in_rpo_ratio", who, row["time_in_rpo"])
        put(found, "tenant_rpo_seconds", who, review.rpo, seconds)
        put(found, "tenant_grace_seconds", who, review.grace, seconds)
        endless = row["rpo_ratio"] == math.inf
        put(found, "tenant_exposure_unbounded", who, endless)
        exposure = math.inf if endless else seconds(row["exposure_now"])
        put(found, "tenant_exposure_seconds", who, exposure)
        instant = row["last_checkpoint"]
        put(found, "tenant_last_checkpoint_timestamp_seconds", who, instant, seconds)
        put(found, "tenant_restore_points", who, row["restore_points"])
        put(found, "tenant_gaps", who, row["gaps"])
        put(found, "tenant_gap_seconds", who, row["gap_total"], seconds)
        put(found, "tenant_unknown_seconds", who, row["unknown"], seconds)
        for state in ("inside", "outside", "unknown"):
            put(found, "tenant_rpo_state", {**who, "state": state}, row["rpo_state"] == state)
    return found


def expected_backups(review: Any) -> Series:
    found: Series = {}
    for _, row in review.tables["growth"].iterrows():
        who = {**tenant_of(row), "mode": mode_of(row["full"])}
        size = row["last_size_gib"]
        put(found, "backup_last_size_bytes", who, size, lambda gib: float(round(gib * 2**30)))
    for _, row in review.tables["durations"].iterrows():
        who = {**tenant_of(row), "mode": mode_of(row["full"])}
        put(found, "backup_last_duration_seconds", who, row["last"], seconds)
        points = review.tables["durations"].attrs["points"].frame
        mine = points[points["instance_id"].eq(row["instance_id"]) & ~points["running"]]
        mine = mine[mine["tenant_id"].eq(row["tenant_id"]) & mine["full"].eq(row["full"])]
        end = (mine["start_time"] + mine["duration"]).max()
        put(found, "backup_last_success_timestamp_seconds", who, end, seconds)
    return found


def expected_rest(review: Any) -> Series:
    found: Series = {}
    summary, stored = review.summary, review.tables["stored"]
    put(found, "build_info", {"version": ob.__version__}, 1)
    put(found, "review_info", {"model": summary["model"], "rpo_origin": review.rpo_origin}, 1)
    put(found, "as_of_timestamp_seconds", {}, review.as_of, seconds)
    put(found, "window_start_timestamp_seconds", {}, review.window.start, seconds)
    put(found, "window_end_timestamp_seconds", {}, review.window.end, seconds)
    put(found, "tenants_without_sets", {}, summary["tenants_without_sets"])
    put(found, "tenants_excluded", {}, summary["excluded"])
    put(found, "running_runs", {}, summary["running"])
    put(found, "fleet_time_in_rpo_ratio", {}, summary["time_in_rpo"])
    put(found, "kinds_not_judged", {}, len(review.tables["not_judged"]))
    for state in ("inside", "outside", "unknown"):
        put(found, "tenants", {"state": state}, summary[f"tenants_{state}"])
    for instance in review.provenance["instances"]:
        put(found, "instance_not_read", {"instance_id": instance}, 0)
    for instance in review.provenance["failed"]:
        put(found, "instance_not_read", {"instance_id": instance}, 1)
    for _, row in stored[stored["time"].eq(stored["time"].max())].iterrows():
        shelf = {"mode": mode_of(row["full"]), "storage_class": row["storage_class"]}
        who = {"instance_id": row["instance_id"], **shelf}
        put(found, "stored_bytes", who, row["stored_gib"], lambda gib: float(round(gib * 2**30)))
        put(found, "stored_unsized_sets", who, row["unsized"])
    rows = [tuple(map(str, each)) for each in review.findings[["kind", "severity"]].to_numpy()]
    known = ["true" if each else "false" for each in review.findings["acknowledged"]]
    all_of = [(kind, severity, each) for (kind, severity), each in zip(rows, known, strict=True)]
    for each in set(all_of):
        labels = dict(zip(("kind", "severity", "acknowledged"), each, strict=True))
        put(found, "kind_findings", labels, all_of.count(each))
    for severity in ("critical", "warning", "info"):
        for each in ("true", "false"):
            count = sum(row[1:] == (severity, each) for row in all_of)
            put(found, "findings", {"severity": severity, "acknowledged": each}, count)
    return found


@pytest.mark.parametrize("name", ["sample", "hostile", "nothing"])
def test_every_number_is_the_one_of_the_review(name: str, request: pytest.FixtureRequest) -> None:
    review = request.getfixturevalue(name)
    told = parsed(render_metrics(review))
    wanted = expected_tenants(review) | expected_backups(review) | expected_rest(review)
    assert told == wanted


def values(text: bytes, name: str) -> dict[frozenset[tuple[str, str]], float]:
    whole = "obanalytics_" + name
    return {labels: value for (each, labels), value in parsed(text).items() if each == whole}


def test_sums_are_those_of_the_summary(sample: Any) -> None:
    text = render_metrics(sample)
    assert sum(values(text, "tenants").values()) == sample.summary["tenants"]
    assert sum(values(text, "tenant_gaps").values()) == sample.summary["gaps"] == 31
    states = [v for k, v in values(text, "tenant_rpo_state").items() if ("state", "outside") in k]
    assert sum(states) == sample.summary["tenants_outside"] == 1
    newest = max(values(text, "tenant_last_checkpoint_timestamp_seconds").values())
    assert newest == seconds(sample.summary["newest_restore_point"])
    assert sum(values(text, "findings").values()) == len(sample.findings)
    assert sum(values(text, "kind_findings").values()) == len(sample.findings)
    found = values(text, "findings")
    for severity, name in (
        ("critical", "critical"),
        ("warning", "warnings"),
        ("info", "notes_found"),
    ):
        labels = frozenset({("severity", severity), ("acknowledged", "false")})
        assert found[labels] == sample.summary[name]
    assert sum(values(text, "stored_bytes").values()) == pytest.approx(
        sample.summary["stored_gib"] * 2**30, abs=10
    )
    assert values(text, "kinds_not_judged") == {frozenset(): sample.summary["not_judged"]}


def test_every_tenant_has_its_series_and_five_hundred_take_no_second(big: Any) -> None:
    render_metrics(big)  # the points of the durations are made once
    start = time.perf_counter()
    text = render_metrics(big)
    assert time.perf_counter() - start < 1
    tenants = {(row.instance_id, row.tenant_id) for row in big.tables["coverage"][:-1].itertuples()}
    assert len(tenants) == 500
    for name, metric in METRICS.items():
        if metric.labels == LABELS:
            found = [dict(labels) for labels in values(text, name.removeprefix("obanalytics_"))]
            assert len(found) == 500, name
            assert {(each["instance_id"], each["tenant_id"]) for each in found} == tenants


def test_limits_by_tenant_are_told(sample: Any) -> None:
    coverage = sample.tables["coverage"].iloc[:-1]
    keys = list(zip(coverage["instance_id"], coverage["tenant_id"], strict=True))
    rpo = {tenant: pd.Timedelta("1h") for _, tenant in keys[1:]}
    rpo[keys[-1]] = pd.Timedelta("2h")
    told = values(render_metrics(but(sample, rpo=rpo)), "tenant_rpo_seconds")
    by_id = {(dict(k)["instance_id"], dict(k)["tenant_id"]): value for k, value in told.items()}
    assert by_id == dict.fromkeys(keys[1:-1], 3600.0) | {keys[-1]: 7200.0}


def test_a_policy_is_told(sample: Any) -> None:
    rows = sample.tables["coverage"].iloc[:-1]
    one, tenant = rows.iloc[0][["instance_id", "tenant_id"]]
    critical = sample.findings[sample.findings["severity"].eq("critical")].iloc[0]
    left_out = (rows.iloc[1]["instance_id"], rows.iloc[1]["tenant_id"])
    policy = ob.Policy(
        rpo="30h",
        grace="1h",
        override=(Override(tenant=tenant, instance=one, rpo="7h"),),
        exclude=(Exclude(tenant=left_out[1], instance=left_out[0], reason="a test"),),
        acknowledge=(
            Acknowledged(
                tenant=critical["tenant_id"],
                kind=critical["kind"],
                until="2027-01-01",
                reason="known",
            ),
        ),
    )
    review = ob.review(ob.sample(), policy=policy)
    text = render_metrics(review)
    accepted(text)
    limits = {dict(k)["tenant_id"]: v for k, v in values(text, "tenant_rpo_seconds").items()}
    assert limits.pop(tenant) == 7 * 3600
    assert len(limits) == 10
    assert set(limits.values()) == {30 * 3600}
    assert set(values(text, "tenant_grace_seconds").values()) == {3600}
    assert values(text, "tenants_excluded") == {frozenset(): 1}
    assert left_out[1].encode() not in text
    known = {
        k: v for k, v in values(text, "kind_findings").items() if ("acknowledged", "true") in k
    }
    assert sum(known.values()) == review.summary["acknowledged"] > 0


# --- what is not known -------------------------------------------------------------------------


def test_what_is_unknown_has_no_series(sample: Any) -> None:
    coverage = sample.tables["coverage"].copy()
    coverage.loc[0, ["time_in_rpo", "rpo_ratio"]] = math.nan
    coverage.loc[0, ["exposure_now", "last_checkpoint", "gap_total", "unknown"]] = pd.NaT
    growth = sample.tables["growth"].assign(last_size_gib=math.nan)
    durations = sample.tables["durations"].assign(last=pd.NaT)
    stored = sample.tables["stored"]
    stored = stored.assign(unsized=stored["sets"])
    tables = {"coverage": coverage, "growth": growth, "durations": durations, "stored": stored}
    summary = {**sample.summary, "time_in_rpo": math.nan}
    unknown = but(sample, tables={**sample.tables, **tables}, summary=summary)
    text = render_metrics(unknown)
    accepted(text)
    gone = ("time_in_rpo_ratio", "exposure_seconds", "exposure_unbounded", "gap_seconds")
    gone = (*gone, "unknown_seconds", "last_checkpoint_timestamp_seconds")
    tenant = ("tenant_id", coverage.loc[0, "tenant_id"])
    for name in gone:
        before, after = (
            values(render_metrics(sample), f"tenant_{name}"),
            values(text, f"tenant_{name}"),
        )
        assert set(before) - set(after) == {labels for labels in before if tenant in labels}, name
        assert len(before) - len(after) == 1
    for name in ("backup_last_size_bytes", "backup_last_duration_seconds", "stored_bytes"):
        assert name.encode() not in text
    assert b"fleet_time_in_rpo_ratio" not in text
    assert sum(values(text, "stored_unsized_sets").values()) > 0


def test_without_an_instant_nothing_is_said_of_now(sample: Any) -> None:
    text = render_metrics(but(sample, as_of=None))
    accepted(text)
    assert b"as_of" not in text
    assert b"exposure_seconds" not in text
    assert b"exposure_unbounded" not in text


def test_an_empty_history_is_no_zeros(nothing: Any) -> None:
    text = render_metrics(nothing).decode()
    assert 'obanalytics_instance_not_read{instance_id="ob1"} 0.0' in text
    for name in ("as_of", "ratio", "bytes", "_tenant_"):
        assert name not in text


def test_endless_exposure_is_more_than_every_limit(sample: Any) -> None:
    coverage = sample.tables["coverage"].copy()
    coverage.loc[0, "exposure_now"], coverage.loc[0, "rpo_ratio"] = pd.NaT, math.inf
    coverage.loc[1, "rpo_ratio"] = math.inf  # an RPO of zero: what would be lost is known
    text = render_metrics(table(sample, "coverage", coverage))
    accepted(text)
    exposure, unbounded = (
        values(text, "tenant_exposure_seconds"),
        values(text, "tenant_exposure_unbounded"),
    )
    assert sum(value == math.inf for value in exposure.values()) == 1
    assert sum(unbounded.values()) == 1
    assert all((exposure[labels] == math.inf) == value for labels, value in unbounded.items())
    assert b"} +Inf\n" in text


# --- names -------------------------------------------------------------------------------------


def test_names_come_back_as_they_were(hostile: Any) -> None:
    told = {dict(each)["tenant"] for each in values(render_metrics(hostile), "tenant_gaps")}
    assert told == set(NAMES)


def other(frame: pd.DataFrame, ids: dict[str, str]) -> pd.Series:
    """Return other ids, as objects: pandas' own texts hold no half of a surrogate pair."""
    made = [ids.get(each, each) for each in frame["tenant_id"]]
    return pd.Series(made, dtype="object", index=frame.index)


def with_ids(review: Any, ids: dict[str, str], name: str) -> Any:
    """Return a review whose first tenants have other ids, and all tenants one name."""
    tables = dict(review.tables)
    for each in ("coverage", "growth", "durations"):
        frame = tables[each]
        names = pd.Series([name] * len(frame), dtype="object", index=frame.index)
        tables[each] = frame.assign(tenant_id=other(frame, ids), tenant_name=names)
    points = review.tables["durations"].attrs["points"].frame
    carried = SimpleNamespace(frame=points.assign(tenant_id=other(points, ids)))
    tables["durations"].attrs = {"points": carried}
    return but(review, tables=tables)


@pytest.mark.parametrize("name", ["same", "x\udc80y", "\ud83e", ""])
def test_no_two_tenants_share_a_series(sample: Any, name: str) -> None:
    coverage = sample.tables["coverage"]
    one = coverage.loc[0, "instance_id"]
    old = coverage.loc[coverage["instance_id"].eq(one), "tenant_id"].astype("str").tolist()
    new = ["a\\udc80", "a\udc80", "a\\udc80 (2)", "a"]
    review = with_ids(sample, dict(zip(old, new, strict=True)), name)
    text = render_metrics(review)
    accepted(text)
    told = [dict(labels) for labels in values(text, "tenant_gaps")]
    assert len(told) == 12
    assert {each["tenant"] for each in told} == {name.encode("utf-8", "backslashreplace").decode()}
    ids = {each["tenant_id"] for each in told if each["instance_id"] == one}
    assert ids == {"a\\udc80", "a\\udc80 (2)", "a\\udc80 (3)", "a"}
    sums = [
        values(each, "backup_last_success_timestamp_seconds")
        for each in (text, render_metrics(sample))
    ]
    assert sorted(sums[0].values()) == sorted(sums[1].values())


def test_no_two_instances_share_a_series(sample: Any) -> None:
    failed = {"a\udc80": "gone", "a\\udc80": "gone", "": "gone"}
    text = render_metrics(but(sample, provenance={**sample.provenance, "failed": failed}))
    accepted(text)
    told = {dict(k)["instance_id"]: v for k, v in values(text, "instance_not_read").items()}
    assert {name for name, value in told.items() if value == 1} == {"a\\udc80", "a\\udc80 (2)", ""}
    assert sum(value == 0 for value in told.values()) == 3


def test_reasons_of_a_failure_stay_out(hostile: Any) -> None:
    assert b"refused" not in render_metrics(hostile)


# --- the text ----------------------------------------------------------------------------------


def test_the_same_review_gives_the_same_bytes(hostile: Any) -> None:
    text = render_metrics(hostile)
    assert render_metrics(hostile) == text
    tables = dict(hostile.tables)
    for name in ("coverage", "growth", "stored", "not_judged"):
        tables[name] = tables[name].iloc[::-1]
    found = hostile.findings.iloc[::-1]
    assert render_metrics(but(hostile, tables=tables, findings=found)) == text


def test_lines_are_sorted_and_nothing_else_is_there(sample: Any) -> None:
    text = rich(sample).decode()
    assert "_created" not in text
    assert "python_info" not in text
    assert text.endswith("\n")
    heads = re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
    assert heads == list(METRICS)
    for name in METRICS:
        ours = [each for each in parsed(text.encode()) if each[0] == name]
        order = METRICS[name].labels
        keys = [tuple(dict(labels)[each] for each in order) for _, labels in ours]
        assert keys == sorted(keys), name


def test_the_moment_of_the_run_is_told(sample: Any) -> None:
    at = pd.Timestamp("2026-11-01 07:00:00.25")
    told = values(render_metrics(sample, at), "last_run_timestamp_seconds")
    assert told == {frozenset(): dt.datetime(2026, 11, 1, 7, tzinfo=dt.UTC).timestamp() + 0.25}
    with pytest.raises(ValueError, match="at is no instant"):
        render_metrics(sample, pd.NaT)


def test_nothing_is_left_behind(
    sample: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    code = (
        "import obanalytics as ob, sys; from obanalytics import metrics;"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    before = {family.name for family in REGISTRY.collect()}
    render_metrics(sample)
    assert {family.name for family in REGISTRY.collect()} == before
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_message_says_what_to_install(
    sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'obanalytics\[prometheus\]'"):
        render_metrics(sample)


# --- the documents -----------------------------------------------------------------------------


def rows_of(heading: str, text: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    body = re.search(
        rf"^## {heading}\n.*?^\|[-|]+\n(.*?)\n\n", text + "\n", re.MULTILINE | re.DOTALL
    )
    assert body
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in body[1].split("\n")]


def test_the_document_lists_what_is_written(sample: Any) -> None:
    rows = rows_of("Metrics", (DOCS / "metrics.md").read_text())
    emitted = {name for name, _ in parsed(rich(sample))}
    assert {row[0] for row in rows} == emitted == set(METRICS)
    assert len(rows) == len(METRICS)
    units = {
        "_seconds": "s",
        "_bytes": "bytes",
        "_ratio": "ratio",
        "_timestamp_seconds": "s since 1970",
    }
    for name, kind, unit, labels, meaning in rows:
        assert kind == "gauge"
        assert labels == (", ".join(METRICS[name].labels) or "\u2013")
        assert meaning
        suffix = next((each for each in reversed(units) if name.endswith(each)), None)
        assert suffix is None or unit == units[suffix], name


def test_the_rules_are_rules_over_what_is_written() -> None:
    done = promtool("check", "rules", str(DOCS / "alerts.yml"))
    assert done.returncode == 0, done.stderr
    text = (DOCS / "alerts.yml").read_text()
    used = set(re.findall(r"\bobanalytics_\w+", text))
    assert used
    assert used <= set(METRICS)
    alerts = re.findall(r"- alert: (\w+)", text)
    rows = rows_of("Alerts", (DOCS / "metrics.md").read_text())
    severities = re.findall(r"^          severity: (\w+)", text, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        list(pair) for pair in zip(alerts, severities, strict=True)
    ]


def test_every_rule_has_a_case_that_fires_and_one_that_does_not() -> None:
    done = promtool("test", "rules", str(DOCS / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    text = (DOCS / "alerts_test.yml").read_text()
    cases = re.findall(r"alertname: (\w+)\n\s+exp_alerts:(.*)", text)
    alerts = set(re.findall(r"- alert: (\w+)", (DOCS / "alerts.yml").read_text()))
    assert {name for name, rest in cases if not rest} == alerts
    # The last case is of every rule at once: all is well.
    assert "count(ALERTS)" in text


MUTANTS: tuple[tuple[str, str], ...] = (
    ("< +Inf", "< 60"),
    ("and ignoring (state)", "or ignoring (state)"),
    ('state="outside"', 'state="inside"'),
    ("exposure_unbounded == 1", "exposure_unbounded == 0"),
    ("for: 30m", "for: 5m"),
    ("without_sets > 0", "without_sets > 3"),
    ("without_sets > 0", "without_sets >= 0"),
    ('acknowledged="false"', 'acknowledged=~".*"'),
    ('{severity="critical", ', "{"),
    ("not_read == 1", "not_read == 0"),
    ("3 * 3600", "2 * 3600"),
    ("3 * 3600", "4 * 3600"),
    ("(obanalytics_tenants) == 0", "(obanalytics_tenants) == 1"),
    ("(obanalytics_tenants) == 0", "(obanalytics_tenants) >= 0"),
    ("for: 15m", "for: 90m"),
    ("for: 15m", "for: 1m"),
)


@pytest.mark.parametrize(("old", "new"), MUTANTS)
def test_the_cases_notice_a_wrong_rule(old: str, new: str, tmp_path: Path) -> None:
    text = (DOCS / "alerts.yml").read_text()
    assert old in text
    (tmp_path / "alerts.yml").write_text(text.replace(old, new))
    (tmp_path / "alerts_test.yml").write_text((DOCS / "alerts_test.yml").read_text())
    assert promtool("test", "rules", str(tmp_path / "alerts_test.yml")).returncode


def test_the_rules_speak_over_the_text_itself(sample: Any, tmp_path: Path) -> None:
    coverage = sample.tables["coverage"].copy()
    coverage.loc[0, "exposure_now"], coverage.loc[0, "rpo_ratio"] = pd.NaT, math.inf
    coverage.loc[0, "rpo_state"] = "outside"
    text = render_metrics(table(sample, "coverage", coverage)).decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
    outside = coverage.index[coverage["rpo_state"].eq("outside")][:-1]  # the last is the fleet
    samples = [
        {"labels": labels_of(coverage.loc[row], alert), "value": 1}
        for row in outside
        for alert in [f"ObanalyticsTenant{'NoRestorePoint' if row == 0 else 'OutsideRpo'}"]
    ]
    assert len(samples) == 2
    case = {
        "interval": "1m",
        "input_series": [{"series": key, "values": f"{value} {value}"} for key, value in lines],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertname=~"ObanalyticsTenant[NO].*"}',
                "eval_time": "1m",
                "exp_samples": samples,
            }
        ],
    }
    shutil.copy(DOCS / "alerts.yml", tmp_path)
    whole = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "test.yml").write_text(json.dumps(whole))
    done = promtool("test", "rules", str(tmp_path / "test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def labels_of(row: Any, alert: str) -> str:
    who = {**tenant_of(row), "alertname": alert, "alertstate": "firing", "severity": "critical"}
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in who.items()) + "}"
