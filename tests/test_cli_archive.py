"""The archive from a shell: runs as cron makes them, what they print, what scripts rely on."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from test_cli import BAD_DATA, FINE, FOUND, NETWORK, USAGE, Shell, only_line

import obanalytics as ob
from obanalytics import simulator
from obanalytics.gaplog import gap_log, terms
from obanalytics.lakefiles import SCHEMA
from obanalytics.wording import cells

if TYPE_CHECKING:
    from collections.abc import Iterator

END = dt.datetime(2026, 5, 1, 6, tzinfo=dt.UTC)
NIGHTS = 9


@cache
def history() -> simulator.History:
    plants = (simulator.Plant("silent", 0, 1, 6.0, 3.0),)
    return simulator.simulate(
        simulator.Scenario(END, 5, 20, instances=2, tenants=2, retention_days=7, plants=plants)
    )


def ids() -> list[str]:
    return sorted(instance.instance_id for instance in history().instances)


class Service(simulator.SimulatorServer):
    """A service of which the clock is set by hand."""

    def __init__(self, past: simulator.History | None = None, **more: Any) -> None:
        self.now = END - dt.timedelta(days=8)
        super().__init__(past or history(), clock=lambda: self.now, **more)

    def client(self) -> ob.Client:
        return ob.Client(*simulator.KEY, endpoint=self.url, project_id="p")


def keys_for(patch: pytest.MonkeyPatch, url: str) -> None:
    patch.setenv("OCEANBASE_ACCESS_KEY_ID", simulator.KEY[0])
    patch.setenv("OCEANBASE_ACCESS_KEY_SECRET", simulator.KEY[1])
    patch.setenv("OCEANBASE_ENDPOINT", url)
    patch.setenv("OCEANBASE_PROJECT_ID", "p")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr("obanalytics.transport.Transport._wait", lambda *_: 0.0)
    with Service() as started:
        keys_for(monkeypatch, started.url)
        yield started


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ob.BackupSets]]:
    """An archive of several nights, and what was listed in each."""
    folder = tmp_path_factory.mktemp("kept") / "history"
    archive, listed = ob.Archive(folder), []
    with Service() as service, service.client() as client:
        for _ in range(NIGHTS):
            archive.sync(client, "all")
            listed.append(ob.load("all", client=client))
            service.now += dt.timedelta(days=1)
    return folder, listed


def keys_of(sets: ob.BackupSets) -> set[tuple[str, ...]]:
    """Name every set of both levels."""
    found: set[tuple[str, ...]] = set()
    for level, frame in (("cluster", sets.clusters), ("tenant", sets.tenants)):
        names = frame[["instance_id", "tenant_id", "backup_set_id"]].astype("str")
        found |= {(level, *row) for row in names.itertuples(index=False, name=None)}
    return found


# --- sync --------------------------------------------------------------------------------------


def test_nights_of_cron(run: Shell, service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "history"
    code, out, err = run("sync", folder)
    assert (code, err) == (FINE, "")
    assert out.startswith(f"{folder}: 2 of 2 instances answered, as of 2026-04-23 06:00:00 UTC; ")
    assert out.count("\n") == 1
    assert ob.Archive(folder).load().as_of == pd.Timestamp(service.now)
    with service.client() as client:
        before = keys_of(ob.load("all", client=client))
        service.now += dt.timedelta(days=7)
        after = keys_of(ob.load("all", client=client))
    assert run("sync", folder, "--quiet") == (FINE, "", "")
    code, out, err = run("changes", folder, "--since", "2026-04-23T06:00", "--json")
    assert (code, err) == (FINE, "")
    told = json.loads(out)
    found = {
        what: {
            (row["level"], row["instance_id"], row["tenant_id"], row["backup_set_id"])
            for row in told["changes"]
            if row["what"] == what
        }
        for what in ("new", "gone")
    }
    assert found == {"new": after - before, "gone": before - after}
    assert all(found.values())
    assert sum(told["counts"]["gone"].values()) == len(before - after)
    service.now += dt.timedelta(days=1)
    code, out, err = run("sync", folder, "all", "--json", "--check-download", "--workers", "2")
    assert (code, err) == (FINE, "")
    told = json.loads(out)
    assert (told["format"], told["archive"], told["instances"]) == (1, str(folder), ids())
    assert (told["as_of"], told["failed"], told["left"]) == ("2026-05-01T06:00:00Z", {}, [])
    last = ob.Archive(folder).fetches().query("run == @told['run']")
    assert told["sets"] == last["sets"].sum() > 0
    assert last["download_checked"].all()
    code, out, err = run("sync", folder, ids()[1], "--since", "2026-04-25", "--quiet")
    assert (code, out, err) == (FINE, "", "")
    (asked,) = ob.Archive(folder).fetches().tail(1).to_dict("records")
    assert (asked["instance_id"], asked["asked_start"].day) == (ids()[1], 25)
    assert run("archive", "check", folder)[0] == FINE


def test_a_set_that_was_running_is_told_once_with_what_it_became(
    run: Shell, service: Service, tmp_path: Path
) -> None:
    instance = min(history().instances, key=lambda each: each.instance_id)
    job = next(r for r in instance.runs if r["start"] > service.now)
    service.now = max(child["start"] for child in job["children"]) + dt.timedelta(seconds=20)
    folder = tmp_path / "history"
    assert run("sync", folder, instance.instance_id, "--quiet")[0] == FINE
    service.now = job["end"] + dt.timedelta(hours=1)
    assert run("sync", folder, instance.instance_id, "--quiet")[0] == FINE
    code, out, err = run("changes", folder, "--what", "changed")
    assert (code, err) == (FINE, "")
    children = len(job["children"])
    assert out.endswith(f": changed: 1 cluster set and {children} tenant sets.\n")
    text = " ".join(out.split())
    assert text.count("status DOING -> DONE;") == 1 + children
    child = job["children"][0]
    assert f"{child['id']} {child['start']:%Y-%m-%d %H:%M} " in text
    assert f"size_gib n/a -> {child['size']:,.2f}" in text
    assert f"end_time n/a -> {child['end']:%Y-%m-%d %H:%M}" in text


def test_who_is_not_asked_any_more_is_unknown_and_no_gap(
    run: Shell, service: Service, tmp_path: Path
) -> None:
    folder, (kept, dropped) = tmp_path / "h", ids()
    assert run("sync", folder)[0] == FINE
    for _ in range(3):
        service.now += dt.timedelta(days=1)
        assert run("sync", folder, kept)[0] == FINE
    code, out, err = run("review", folder, "--json")
    assert code == NETWORK
    assert f"reviewed without: {dropped}: answered last at 2026-04-23 06:00 UTC" in only_line(err)
    assert {row["instance_id"] for row in json.loads(out)["tables"]["coverage"]} == {kept, None}
    told = [row for row in json.loads(out)["findings"] if row["instance_id"] == dropped]
    assert [row["kind"] for row in told] == ["G30"], "nothing is known of it"
    assert run("sync", folder)[0] == FINE
    code, out, err = run("review", folder, "--json")
    assert (code, err) == (FINE, "")
    assert {row["instance_id"] for row in json.loads(out)["tables"]["coverage"]} > {kept, dropped}


def test_an_instance_that_fails_is_a_line_and_the_rest_is_kept(
    run: Shell, service: Service, tmp_path: Path
) -> None:
    bad, good = ids()
    service.faults.append(simulator.Fault("status", path=f"/{bad}/backup", times=99, status=500))
    code, out, err = run("sync", tmp_path / "h", "--quiet")
    assert (code, out) == (NETWORK, "")
    line = only_line(err)
    assert line.startswith(f"obanalytics: {tmp_path / 'h'}: instance {bad} failed: ")
    assert "500" in line
    archive = ob.Archive(tmp_path / "h")
    assert archive.load().source.instances == (good,)
    assert set(archive.load().source.failed) == {bad}
    code, out, err = run("review", tmp_path / "h")
    assert code == NETWORK
    assert f"reviewed without: {bad}" in only_line(err)
    service.faults.clear()
    code, out, err = run("sync", tmp_path / "h")
    assert (code, err) == (FINE, "")
    assert out.startswith(f"{tmp_path / 'h'}: 2 of 2 instances answered")
    assert archive.load().source.instances == (bad, good)


def test_a_deadline_leaves_some_for_the_next_run(
    run: Shell, service: Service, tmp_path: Path
) -> None:
    code, out, err = run("sync", tmp_path / "h", "--deadline", "0s")
    assert code == NETWORK
    assert "2 left for the next run" in out
    assert "the deadline came: 2 instances left" in only_line(err)
    code, out, err = run("sync", tmp_path / "h", "--deadline", "20min", "--json")
    assert (code, err) == (FINE, "")
    assert json.loads(out)["instances"] == ids()
    assert len(service.requests) > 2


def test_a_service_without_a_date_is_dated_by_this_clock(
    run: Shell, service: Service, tmp_path: Path
) -> None:
    service.faults.append(simulator.Fault("no_date", times=999))
    before = dt.datetime.now(dt.UTC)
    assert run("sync", tmp_path / "h", "--quiet") == (FINE, "", "")
    as_of = ob.Archive(tmp_path / "h").load().as_of
    assert as_of is not None
    assert before <= as_of <= dt.datetime.now(dt.UTC)


def test_two_at_once(run: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "h"
    with Service(latency=0.4) as slow:
        keys_for(monkeypatch, slow.url)
        command = [sys.executable, "-m", "obanalytics", "sync", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as first:
            until = time.monotonic() + 20
            while not (folder / ".writer").exists() and time.monotonic() < until:
                time.sleep(0.01)
            code, out, err = run("sync", folder, "--quiet")
            assert (code, out) == (NETWORK, "")
            assert f"process {first.pid} on " in only_line(err)
            slow.latency = 0.0
            code, out, err = run("sync", folder, "--wait", "30s")
            assert (code, err) == (FINE, "")
            assert "0 new, 0 changed, 0 gone" in out
            told, _ = first.communicate(timeout=30)
    assert first.returncode == FINE
    assert "2 of 2 instances answered" in told
    assert len(ob.Archive(folder).fetches()) == 4


def test_waiting_ends(run: Shell, service: Service, tmp_path: Path) -> None:
    import filelock  # noqa: PLC0415 - only here

    assert run("sync", tmp_path / "h", "--quiet")[0] == FINE
    lock = filelock.FileLock(tmp_path / "h" / ".lock", thread_local=False)
    lock.acquire()
    for arguments in (("sync", tmp_path / "h"), ("archive", "compact", tmp_path / "h")):
        code, out, err = run(*arguments, "--wait", "0.1s")
        assert (code, out) == (NETWORK, "")
        assert "is writing the archive" in only_line(err)
    assert run("changes", tmp_path / "h")[0] == FINE  # who reads need not wait
    threading.Timer(0.2, lock.release).start()
    assert run("sync", tmp_path / "h", "--wait", "20s", "--quiet") == (FINE, "", "")
    assert len(service.requests) > 4


@pytest.mark.usefixtures("service")
def test_wrong_folders_and_arguments(run: Shell, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", "utf-8")
    ob.sample().save(tmp_path / "saved")
    for arguments, expected, words in (
        (("sync", "all"), USAGE, "folder comes first"),
        (("sync", ""), USAGE, "folder comes first"),
        (("sync", tmp_path / "saved"), USAGE, "holds what fetch saved"),
        (("sync", tmp_path / "other" / "notes.txt"), USAGE, "is a file"),
        (("sync", tmp_path / "other"), BAD_DATA, "notes.txt"),
        (("sync", tmp_path / "h", "--since", "soon"), USAGE, "since is no instant"),
        (("sync", tmp_path / "h", "--deadline", "soon"), USAGE, "deadline is no duration"),
        (("sync", tmp_path / "h", "--wait", "soon"), USAGE, "wait is no duration"),
        (("sync", tmp_path / "h", "--resume", "soon"), USAGE, "resume is no duration"),
        (("changes", tmp_path / "nothing"), USAGE, "no such folder"),
        (("changes", tmp_path / "saved"), USAGE, "holds no archive"),
        (("changes", tmp_path / "h", "--what", "gone,lost"), USAGE, "'lost' is none of"),
        (("archive", "check", tmp_path / "other"), USAGE, "holds no archive"),
        (("review", "--archive", tmp_path / "nothing"), USAGE, "no such folder"),
        (("review", "--archive", tmp_path / "saved"), USAGE, "holds no archive"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (expected, ""), arguments
        assert words in only_line(err), arguments
    assert not (tmp_path / "h").exists()
    code, out, err = run("review", "sample", "--archive", tmp_path / "h")
    assert (code, out) == (USAGE, "")
    assert "not allowed with" in err


def test_no_keys_leave_nothing_and_no_file_holds_one(
    run: Shell, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("sync", tmp_path / "good", "--quiet")[0] == FINE
    for file in (tmp_path / "good").rglob("*"):
        assert file.is_dir() or simulator.KEY[1].encode() not in file.read_bytes()
    monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", "wrong-and-secret")
    code, out, err = run("sync", tmp_path / "h")
    assert (code, out) == (NETWORK, "")
    assert "wrong-and-secret" not in only_line(err)
    monkeypatch.delenv("OCEANBASE_ACCESS_KEY_SECRET")
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, err = run("sync", tmp_path / "new")
    assert (code, out) == (USAGE, "")
    assert not (tmp_path / "new").exists()
    assert service.url not in only_line(err)


# --- changes -----------------------------------------------------------------------------------


def test_changes_for_a_reader(run: Shell, kept: tuple[Path, list[ob.BackupSets]]) -> None:
    folder, listed = kept
    code, whole, err = run("changes", folder, "--all")
    assert (code, err) == (FINE, "")
    assert all(cells(line) <= 100 for line in whole.split("\n\n")[0].splitlines())
    body = whole.split("\n\n")[0].splitlines()[1:]
    assert body == sorted(body, key=lambda line: line[:16])  # the newest last
    code, short, _ = run("changes", folder)
    assert code == FINE
    shown = short.split("\n\n")[0].splitlines()
    assert len(shown) == 52  # what is not shown, the head, and fifty
    assert shown[0].startswith(f"… {len(body) - 50} earlier lines are not shown")
    squeezed = [" ".join(line.split()) for line in (*shown[2:], *body[-50:])]
    assert squeezed[:50] == squeezed[50:]
    news = [keys_of(after) - keys_of(before) for before, after in itertools.pairwise(listed)]
    ever = keys_of(listed[0]).union(*news)
    clusters = sum(level == "cluster" for level, *_ in ever)
    assert f": new: {clusters} cluster sets and {len(ever) - clusters} tenant sets; " in whole
    one = listed[-2].as_of
    assert one is not None
    asked = ("--since", one.isoformat(), "--instance", ids()[0], "--what", "new, moved")
    code, out, _ = run("changes", folder, *asked)
    assert code == FINE
    assert "gone" not in out
    assert ids()[1] not in out
    assert {line[:10] for line in out.split("\n\n")[0].splitlines()[1:]} == {"2026-05-01"}
    code, out, _ = run("changes", folder, "--until", "2026-04-01")
    assert (code, out) == (FINE, f"{folder}: nothing has changed up to 2026-04-01 00:00 UTC.\n")
    code, out, err = run("changes", folder, "--instance", "obnever")
    assert (code, out) == (USAGE, "")
    assert "never asked for instance obnever" in only_line(err)


def test_changes_for_a_machine(run: Shell, kept: tuple[Path, list[ob.BackupSets]]) -> None:
    folder, _ = kept
    code, out, err = run("changes", folder, "--json")
    assert (code, err) == (FINE, "")
    rows = pd.DataFrame(json.loads(out)["changes"])
    expected = ob.Archive(folder).changes()
    assert list(rows.columns) == list(expected.columns)
    assert len(rows) == len(expected)
    assert rows["backup_set_id"].tolist() == expected["backup_set_id"].tolist()
    assert pd.to_datetime(rows["seen"]).tolist() == expected["seen"].tolist()


def test_hostile_names(run: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = simulator.simulate(simulator.Scenario(END, 4, 10, instances=1, tenants=3))
    names = ("\x1b[31mred\x07\nnew line", "中文" * 100, "\u202egnp.exe")
    for tenant, name in zip(past.instances[0].tenants, names, strict=True):
        tenant.names[:] = [(since, name) for since, _ in tenant.names] or [(END, name)]
        tenant.name = name
    with Service(past) as started:
        keys_for(monkeypatch, started.url)
        assert run("sync", tmp_path / "h", "--quiet") == (FINE, "", "")
    code, out, err = run("changes", tmp_path / "h")
    assert (code, err) == (FINE, "")
    assert all(line.isprintable() for line in out.splitlines())
    assert r"\x1b[31mred\x07\nnew line" in out
    assert all(cells(line) <= 110 for line in out.splitlines())


# --- an archive as a source --------------------------------------------------------------------


def test_review_of_an_archive(run: Shell, kept: tuple[Path, list[ob.BackupSets]]) -> None:
    folder, listed = kept
    then = listed[2].as_of
    assert then is not None
    # Between what was known and the instant that is given nobody looked: no gap is made of it.
    between = (then + pd.Timedelta("20h")).isoformat()
    sets = ob.Archive(folder).load(as_of=then)
    expected = json.loads(json.dumps(ob.review(sets, rpo="26h").to_json()))
    for source in ((folder,), ("--archive", folder)):
        code, out, err = run("review", *source, "--as-of", between, "--rpo", "26h", "--json")
        assert (code, err) == (FINE, "")
        assert json.loads(out) == expected
    code, out, err = run("review", "--archive", folder)
    assert (code, err) == (FINE, "")
    assert "as known at 2026-05-01 06:00 UTC" in out


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"start": "2026-04-20", "end": "2026-04-26"},
        {"lookback": "2D", "start": "2026-04-25"},
        {"instance_ids": "1"},
    ],
)
def test_a_part_of_an_archive(
    run: Shell, kept: tuple[Path, list[ob.BackupSets]], given: dict[str, str]
) -> None:
    folder, _ = kept
    if "instance_ids" in given:
        given = {"instance_ids": ids()[1]}
    options = [f"--{name.removesuffix('_ids')}={text}" for name, text in given.items()]
    expected = gap_log(
        ob.Archive(folder).load(**given), terms("26h", "0h", None, trust_unknown=False)
    )
    for source in ((folder,), ("--archive", folder)):
        code, out, err = run("gaps", *source, *options, "--rpo", "26h", "--json")
        assert (code, err) == (FINE, "")
        assert json.loads(out) == expected.to_json()


@pytest.mark.parametrize(
    "name", ["gaps", "findings", "growth", "forecast", "durations", "anomalies"]
)
def test_every_command_takes_an_archive(
    run: Shell, kept: tuple[Path, list[ob.BackupSets]], name: str
) -> None:
    folder, listed = kept
    then = listed[1].as_of
    assert then is not None
    code, out, err = run(name, "--archive", folder, "--as-of", then.isoformat(), "--json")
    assert (code, err) == (FINE, "")
    assert json.loads(out)["as_of"] == then.strftime("%Y-%m-%dT%H:%M:%SZ")
    code, out, err = run(name, folder, "--as-of", "2020-01-01")
    assert (code, out) == (BAD_DATA, "")
    assert "knows nothing of 2020-01-01 00:00 UTC" in only_line(err)


def test_archives_beside_other_sources(run: Shell, kept: tuple[Path, list[ob.BackupSets]]) -> None:
    folder, _ = kept
    code, out, err = run("gaps", folder, "sample", "--rpo", "26h", "--json")
    assert (code, err) == (FINE, "")
    assert json.loads(out)["tenants"] == 4 + 12
    code, out, err = run("policy", "init", "--archive", folder)
    assert (code, err) == (FINE, "")
    assert out.startswith("# What is owed")
    code, out, err = run("gaps", folder, "--rpo", "26h", "--fail-on", "any")
    assert (code, err) == (FOUND, "")


# --- upkeep ------------------------------------------------------------------------------------


def test_check_compact_rebuild(run: Shell, service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "h"
    for _ in range(3):
        assert run("sync", folder, "--quiet")[0] == FINE
        service.now += dt.timedelta(days=1)
    before = ob.Archive(folder).load()
    code, out, err = run("archive", "check", folder)
    assert (code, out, err) == (FINE, f"{folder}: sound; instances were asked 6 times in all\n", "")
    for what in ("compact", "rebuild", "compact"):
        code, out, err = run("archive", what, folder)
        assert (code, err) == (FINE, "")
        assert out.startswith(f"{folder}: ")
    pd.testing.assert_frame_equal(ob.Archive(folder).load().tenants, before.tenants)
    files = sorted(folder.glob("kind=tenant/*/*.parquet"))
    files[-1].write_bytes(files[-1].read_bytes()[:-9])
    code, out, err = run("archive", "check", folder)
    assert (code, err) == (BAD_DATA, "")
    assert out.startswith("error: kind=tenant/")
    assert "bring it back from a backup" in out
    assert f"{folder}: 1 error found" in out
    code, out, err = run("archive", "check", folder, "--json")
    assert (code, err) == (BAD_DATA, "")
    assert json.loads(out)["errors"] == 1
    assert json.loads(out)["problems"][0]["file"].startswith("kind=tenant/")


@pytest.mark.usefixtures("service")
def test_without_responses_nothing_can_be_rebuilt(run: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "h"
    assert run("sync", folder, "--no-responses", "--no-inventory", "--quiet") == (FINE, "", "")
    assert ob.Archive(folder).load().inventory is None
    assert not list(folder.glob("kind=page/*/*.parquet"))
    code, out, err = run("archive", "rebuild", folder)
    assert (code, out) == (BAD_DATA, "")
    assert "responses were kept" in only_line(err)
    assert run("archive", "check", folder)[0] == FINE


def test_another_host_is_refused_unless_it_is_the_same_service(
    run: Shell, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "h"
    assert run("sync", folder, "--quiet") == (FINE, "", "")
    assert set(ob.Archive(folder).load().inventory["instance_id"]) == set(ids())
    monkeypatch.setenv("OCEANBASE_ENDPOINT", service.url.replace("127.0.0.1", "localhost"))
    code, out, err = run("sync", folder)
    assert (code, out) == (BAD_DATA, "")
    assert "2 of 2 instances" in only_line(err)
    assert "--new-endpoint" in err
    for more in (["--new-endpoint"], []):
        code, out, err = run("sync", folder, "--quiet", *more)
        assert (code, out, err) == (FINE, "", "")


# --- what is written of it -----------------------------------------------------------------------


def test_other_engines_read_it_as_the_page_says(
    kept: tuple[Path, list[ob.BackupSets]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listed = kept
    page = (Path(__file__).parent.parent / "docs" / "archive.md").read_text(encoding="utf-8")
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(codes) == 2
    monkeypatch.chdir(folder.parent)
    found: dict[str, Any] = {}
    for code in codes:
        exec(compile(code, "archive.md", "exec"), found)  # noqa: S102 - our own page
    tenants = listed[-1].tenants
    by = tenants.groupby(["instance_id", "tenant_name"], observed=True)["size_gib"]
    expected = [(*names, len(rows), pytest.approx(rows.sum())) for names, rows in by]
    assert found["by_duckdb"] == expected
    assert found["by_polars"].rows() == expected


def test_the_page_tells_every_column() -> None:
    page = (Path(__file__).parent.parent / "docs" / "archive.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (`.*?`) \| (?:all|facts|cluster|tenant|fetch|page|inventory) \|", page, re.MULTILINE
    )
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted([*told, "kind", "bucket"]) == sorted(SCHEMA.names)


def test_help_of_these_loads_nothing_heavy() -> None:
    for name in (["sync"], ["changes"], ["archive", "check"]):
        code = (
            "import sys; from obanalytics import cli\n"
            f"try: cli.main({[*name, '--help']})\n"
            "except SystemExit: pass\n"
            "heavy = {'pandas', 'pyarrow', 'deltalake', 'filelock', 'requests', 'tqdm'}\n"
            "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stderr.strip() == "[]"
