"""The command line: what is printed where, and what a script can rely on."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests
from requests.auth import HTTPDigestAuth

import obanalytics as ob
from obanalytics import cli, outputs, simulator
from obanalytics.errors import ArchiveError, DataError, PagingError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
COMMANDS = (
    *(
        "demo",
        "fetch",
        "sync",
        "changes",
        "archive",
        "review",
        "gaps",
        "findings",
        "dashboard",
        "policy",
    ),
    *("growth", "forecast", "durations", "anomalies", "instances", "simulate"),
)
FINE, FOUND, USAGE, NETWORK, BAD_DATA = range(5)
Run = tuple[int, str, str]


@cache
def history() -> simulator.History:
    plants = (simulator.Plant("dropped", 1, 0, 6.0), simulator.Plant("silent", 0, 1, 9.0, 3.0))
    return simulator.simulate(simulator.Scenario(NOW, 4, 14, instances=2, tenants=2, plants=plants))


def ids() -> list[str]:
    return [instance.instance_id for instance in history().instances]


def a_page(past: simulator.History | None = None) -> bytes:
    """All of one instance, as one saved response."""
    past = past or history()
    (body,) = simulator.dump(past, past.instances[0].instance_id, 100)
    return body


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[simulator.SimulatorServer]:
    with simulator.SimulatorServer(history()) as started:
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_ID", simulator.KEY[0])
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", simulator.KEY[1])
        monkeypatch.setenv("OCEANBASE_ENDPOINT", started.url)
        monkeypatch.setenv("OCEANBASE_PROJECT_ID", "p")
        yield started


class Shell:
    """Runs a command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Run:
        self.capsys.readouterr()
        try:
            code = cli.main([str(each) for each in arguments])
        except SystemExit as left:  # argparse's way
            code = int(left.code or 0)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fetch` saves, and the pages as somebody's script saved them."""
    folder = tmp_path_factory.mktemp("saved")
    for path, body in simulator.pages_as_files(history()):
        target = folder / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    ob.read(folder / "pages").save(folder / "sets")
    return folder


def only_line(text: str) -> str:
    """The one line that an error is."""
    assert text.count("\n") == 1, text
    assert text.startswith("obanalytics: ")
    return text.strip()


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "obanalytics", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# --- help --------------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    whole = cli.parser()
    return dict(next(each for each in whole._actions if each.choices).choices or {})  # type: ignore[arg-type]


def test_help_of_all(run: Shell) -> None:
    code, out, err = run("--help")
    assert (code, err) == (FINE, "")
    assert all(f"\n    {name}" in out for name in COMMANDS)
    assert "exit codes: 0 fine, 1 something" in out
    assert tuple(commands()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each(run: Shell, name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (FINE, "")
    for action in commands()[name]._actions:
        assert action.help, action
        for option in action.option_strings:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", out.split("\n\n", 1)[1])
    assert "exit codes:" in out
    assert not re.search("secret[ =]<|--.*secret", out)  # others can read command lines


def test_version(run: Shell) -> None:
    assert run("--version") == (FINE, f"obanalytics {ob.__version__}\n", "")
    assert process("--version").stdout == f"obanalytics {ob.__version__}\n"


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; begin = time.perf_counter(); from obanalytics import cli\n"
        "try: cli.main(['review', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pandas', 'numpy', 'matplotlib', 'requests', 'scipy', 'jinja2', 'deltalake'}\n"
        "print(sorted(heavy & set(sys.modules)), time.perf_counter() - begin, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, seconds = done.stderr.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(seconds) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("review",),
        ("review", "sample", "--fail-on", "sometimes"),
        ("fetch", "x", "--workers", "many"),
        ("demo", "--nonsense"),
        ("review", "sample", "--access-key-secret", "x"),
    ],
)
def test_wrong_arguments(run: Shell, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (USAGE, "")
    assert "usage: obanalytics" in err


# --- demo --------------------------------------------------------------------------------------


def test_demo(run: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obanalytics.transport.Transport._wait", lambda *_: 0.0)
    code, out, err = run("demo", "--out", tmp_path / "a" / "demo", "--rpo", "25h")
    assert (code, err) == (FINE, "")
    folder = tmp_path / "a" / "demo"
    assert sorted(each.name for each in folder.iterdir()) == ["report.html", "report.md", "sets"]
    sets = ob.read(folder / "sets")
    assert f"Fetched {len(sets):,} cluster sets with {len(sets.tenants):,} tenant sets" in out
    assert "WHAT WAS PLANTED" in out
    assert "RPO 25 h" in " ".join(out.split())
    for name in ("report.html", "report.md", "sets"):
        assert f"saved: {folder / name}" in out
    # What was planted was found: the dropped tenant is the one that is outside now.
    dropped = next(line for line in out.splitlines() if "  dropped  " in line).split("  ")[-1]
    name, instance = dropped.strip().split(" · ")
    assert f"Worst tenant          {name}  ({instance})" in out
    before = (folder / "report.html").stat().st_mtime_ns
    code, out, err = run("demo", "--out", folder, "--json", "--seed", "8")  # once more, over it
    assert (code, err) == (FINE, "")
    assert json.loads(out)["summary"]["tenants"] == 12
    assert (folder / "report.html").stat().st_mtime_ns > before


# --- fetch, instances --------------------------------------------------------------------------


def test_fetch_and_review(run: Shell, server: simulator.SimulatorServer, tmp_path: Path) -> None:
    out_folder = tmp_path / "backups"
    code, out, err = run("fetch", "all", "--out", out_folder, "--quiet")
    assert (code, err) == (FINE, "")
    assert f"saved     {out_folder}" in out
    assert ob.read(out_folder).source.instances == tuple(ids())
    code, out, err = run(
        *("fetch", ids()[0], "--out", out_folder, "--start", "2026-04-25", "--json", "--quiet"),
        *("--end", "2026-04-28", "--lookback", "5D", "--check-download", "--workers", "2"),
    )
    assert (code, err) == (FINE, "")
    told = json.loads(out)
    assert told["instances"] == [ids()[0]]
    assert told["saved"] == str(out_folder)
    assert told["window"] == ["2026-04-25T00:00:00+00:00", "2026-04-28T00:00:00+00:00"]
    sets = ob.read(out_folder)
    assert told["tenant_sets"] == len(sets.tenants)
    assert sets.tenants["start_time"].min().day == 20
    assert sets.tenants["download_enabled"].notna().all()
    assert any(r.query.get("checkBackupSetDownloadEnable") == "true" for r in server.requests)
    code, out, err = run("review", ids()[1], "--rpo", "26h", "--json", "--quiet")
    assert (code, err) == (FINE, "")
    assert json.loads(out)["summary"]["tenants_outside"] == 1


def test_instances(run: Shell, server: simulator.SimulatorServer) -> None:
    code, out, err = run("instances")
    assert (code, err) == (FINE, "2 instances\n")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["instance", *ids()]
    code, out, err = run("instances", "--json")
    assert (code, err) == (FINE, "")
    assert [row["instanceId"] for row in json.loads(out)] == ids()
    assert len(server.requests) >= 2


def test_hostile_instance_names(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    past = simulator.simulate(simulator.Scenario(NOW, 4, 2, instances=3, tenants=1))
    names = ("\x1b[31mred\x07\nnew line", "中文" * 20, "\u202egnp.exe")
    for instance, name in zip(past.instances, names, strict=True):
        instance.name = name
    with simulator.SimulatorServer(past) as started:
        monkeypatch.setenv("OCEANBASE_ENDPOINT", started.url)
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_ID", simulator.KEY[0])
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", simulator.KEY[1])
        monkeypatch.setenv("OCEANBASE_PROJECT_ID", "p")
        code, out, _ = run("instances")
    assert code == FINE
    assert len(out.splitlines()) == 4
    assert all(line.isprintable() for line in out.splitlines())
    assert r"\x1b[31mred\x07\nnew line" in out
    assert r"\u202egnp.exe" in out


@pytest.mark.usefixtures("server")
def test_one_of_several_instances_fails(run: Shell, tmp_path: Path) -> None:
    code, out, err = run("fetch", ids()[0], "obnope", "--out", tmp_path / "b", "--quiet")
    assert code == NETWORK
    assert only_line(err).startswith("obanalytics: saved without: obnope: ")
    assert "saved" in out
    assert ob.read(tmp_path / "b").source.instances == (ids()[0],)
    code, out, err = run("fetch", ids()[0], "obnope", "--out", tmp_path / "b", "--quiet", "--json")
    assert (code, list(json.loads(out)["failed"])) == (NETWORK, ["obnope"])
    code, out, err = run("review", ids()[0], "obnope", "--quiet", "--fail-on", "critical")
    assert code == NETWORK  # what could not be read is worse than what was found
    assert only_line(err).startswith("obanalytics: reviewed without: obnope: ")
    assert "Not read" in out
    stop = ("--out", tmp_path / "c", "--quiet", "--on-error", "raise")
    code, out, err = run("fetch", ids()[0], "obnope", *stop)
    assert (code, out) == (NETWORK, "")
    assert "obnope" in only_line(err)
    code, out, err = run("fetch", "obnope", "--out", tmp_path / "c", "--quiet")
    assert (code, out) == (NETWORK, "")
    assert "nothing was saved" in only_line(err)
    assert not (tmp_path / "c").exists()


@pytest.mark.usefixtures("server")
def test_bad_key(run: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", "wr0ng-secret")
    for arguments in (
        ("instances",),
        ("fetch", "all", "--out", tmp_path / "x", "--quiet"),
        ("review", ids()[0], "--quiet"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (NETWORK, "")
        assert "wr0ng" not in only_line(err)
    assert not (tmp_path / "x").exists()


def test_no_keys(run: Shell) -> None:
    for arguments in (("instances",), ("fetch", "all"), ("review", "obxxxx")):
        code, out, err = run(*arguments, "--endpoint", "http://127.0.0.1:9", "--project-id", "p")
        assert (code, out) == (USAGE, "")
        assert "OCEANBASE_ACCESS_KEY_ID" in only_line(err)
    assert "no file here is called obxxxx: taken for an instance id" in err
    code, _, err = run("instances", "--profile", "nobody")
    assert code == USAGE
    assert "nobody" in only_line(err)


def test_nobody_answers(
    run: Shell, server: simulator.SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obanalytics.transport.Transport._wait", lambda *_: 0.0)
    url = server.url
    server.stop()
    code, out, err = run("instances", "--endpoint", url)
    assert (code, out) == (NETWORK, "")
    only_line(err)


# --- review ------------------------------------------------------------------------------------


def test_review_of_everything_there_is(run: Shell, saved: Path) -> None:
    code, out, err = run("review", saved / "sets", "--rpo", "26h")
    assert (code, err) == (FINE, "")
    assert out == ob.review(ob.read(saved / "sets"), rpo="26h").to_text()
    code, out, err = run("review", saved / "pages", "--json", "--as-of", "2026-04-29")
    assert (code, err) == (FINE, "")
    assert json.loads(out)["as_of"] == "2026-04-29T00:00:00Z"
    code, out, _ = run("review", "sample")
    assert (code, out) == (FINE, ob.review(ob.sample()).to_text())
    code, out, err = run("review", "sample", saved / "sets", "--json")
    assert (code, err) == (FINE, "")
    assert json.loads(out)["summary"]["instances"] == 5
    code, out, _ = run("review", "sample", "--start", "2026-08-01", "--end", "2026-09-01", "--json")
    assert json.loads(out)["window"] == {
        "start": "2026-08-01T00:00:00Z",
        "end": "2026-09-01T00:00:00Z",
    }


def test_review_to_several_files(run: Shell, saved: Path, tmp_path: Path) -> None:
    names = ("r.html", "r.md", "r.json", "R.HTM", "r.pdf", "r.xlsx", "r.prom", "r.csv")
    files = [tmp_path / name for name in names]
    options = [each for path in files for each in ("--out", path)]
    code, out, err = run("review", saved / "sets", "--json", *options)
    assert code == FINE
    assert err == "".join(f"written: {path}\n" for path in files)
    review = ob.review(ob.read(saved / "sets"))
    assert json.loads(out) == json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert json.loads(out) == review.to_json()
    assert (tmp_path / "r.html").read_bytes() == (tmp_path / "R.HTM").read_bytes()
    assert (tmp_path / "r.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "r.md").read_text("utf-8").startswith("# Backup review of 2 instances")
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF-")
    assert (tmp_path / "r.xlsx").read_bytes().startswith(b"PK")
    assert "obanalytics_last_run_timestamp_seconds" in (tmp_path / "r.prom").read_text("utf-8")
    assert (tmp_path / "r.csv" / "findings.csv").is_file()


def test_review_by_a_policy_and_since_an_earlier_one(
    run: Shell, saved: Path, tmp_path: Path
) -> None:
    policy, earlier = tmp_path / "p.toml", tmp_path / "e.json"
    policy.write_text('rpo = "2D"\nretention_days = 7\n')
    asked = ("review", saved / "sets", "--policy", policy)
    code, out, _ = run(*asked, "--as-of", "2026-04-20", "--out", earlier, "--fail-on", "critical")
    first = ob.review(ob.read(saved / "sets"), policy=ob.Policy.load(policy), as_of="2026-04-20")
    assert out == first.to_text()
    assert code == (FOUND if first.summary["critical"] else FINE)
    page = tmp_path / "r.html"
    code, out, err = run(*asked, "--compare", earlier, "--out", page, "--out", tmp_path / "r.md")
    assert (code, err.count("written")) == (FINE, 2)
    now = ob.review(ob.read(saved / "sets"), policy=ob.Policy.load(policy))
    compared = now.compare(json.loads(earlier.read_text("utf-8")))
    assert out == f"{now.to_text()}\n{compared.to_text()}"
    for path in (page, tmp_path / "r.md"):
        assert "Since the earlier review" in path.read_text("utf-8")
    code, out, _ = run(*asked, "--compare", earlier, "--json")
    compared = now.compare(earlier)
    assert json.loads(out) == now.to_json() | {"compared": compared.to_json()}
    for content in ("", "[1, 2]", '{"format": 1}', "\x00"):
        earlier.write_text(content)
        code, out, err = run(*asked, "--compare", earlier)
        assert (code, out) == (BAD_DATA, "")
        assert "e.json" in only_line(err)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("r.pdf", "weasyprint", "pdf"),
        ("r.xlsx", "xlsxwriter", "excel"),
        ("r.prom", "prometheus_client", "prometheus"),
    ],
)
def test_what_an_extra_writes_says_what_to_install(
    run: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, module: str, extra: str
) -> None:
    monkeypatch.setattr(outputs, "find_spec", lambda asked: None if asked == module else asked)
    code, out, err = run("review", "sample", "--out", tmp_path / name)
    assert (code, out) == (USAGE, "")
    assert f"pip install 'obanalytics[{extra}]'" in only_line(err)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("review", "sample", "--out", "r.doc"),
            "must end in one of .html, .htm, .pdf, .xlsx, .md",
        ),
        (("review", "sample", "--out", "r.md", "--out", "./r.md"), "a file is named twice"),
        (("review", "sample", "--policy", "none.toml"), "none.toml"),
        (("review", "sample", "--compare", "none.json"), "none.json"),
        (("review", "sample", "--out", "no/such/r.html"), "there is no folder"),
        (("review", "sample", "--rpo", "soon"), "rpo is no duration: 'soon'"),
        (("review", "sample", "--rpo=-2h"), "rpo must be a duration of zero or more"),
        (("review", "sample", "--as-of", "noon"), "as_of is no instant"),
        (("review", "sample", "--start", "2026-13-01"), "start is no instant"),
        (
            ("review", "sample", "--start", "2026-02-01", "--end", "2026-01-01"),
            "the window ends before it starts",
        ),
        (("review", "typo/sets"), "no such file or folder: typo/sets"),
        (("review", "saved.json"), "no such file or folder: saved.json"),
        (("review", "sample", "typo.zip"), "no such file or folder: typo.zip"),
        (("simulate", "--nonce-policy", "odd"), "no nonce policy 'odd'; there is: "),
        (("simulate", "--fault", "odd"), "no fault 'odd'; there is: "),
        (("simulate", "--now", "today"), "--now is no instant: 'today'"),
    ],
)
def test_usage(
    run: Shell,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (USAGE, "")
    assert message in only_line(err)
    assert not [*tmp_path.iterdir()]


def test_damaged_files(run: Shell, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b'{"data": {"dataList": [{"backupSetId": 7')
    code, out, err = run("review", tmp_path / "r.json")
    assert (code, out) == (BAD_DATA, "")
    assert "r.json" in only_line(err)
    body = json.loads(a_page())
    body["data"]["dataList"][0]["startTime"] = "\x1b[31mred\n"
    (tmp_path / "r.json").write_text(json.dumps(body))
    code, out, err = run("review", tmp_path / "r.json")
    assert (code, out) == (BAD_DATA, "")
    assert only_line(err).isprintable()
    ob.read(saved / "sets").save(tmp_path / "sets")
    for file in (tmp_path / "sets").glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:100])
    code, out, err = run("review", tmp_path / "sets")
    assert (code, out) == (BAD_DATA, "")
    only_line(err)


@pytest.mark.parametrize(
    ("plants", "options", "codes"),
    [
        ((), ("--rpo", "26h"), (FINE, FINE, FINE)),
        (("dropped",), ("--rpo", "26h"), (FOUND, FOUND, FOUND)),
        (("silent",), ("--rpo", "26h"), (FINE, FOUND, FOUND)),
    ],
)
def test_fail_on(
    run: Shell,
    plants: tuple[str, ...],
    options: tuple[str, ...],
    codes: tuple[int, int, int],
    tmp_path: Path,
) -> None:
    kinds = tuple(simulator.Plant(kind, 0, 0, 6.0, 3.0) for kind in plants)
    past = simulator.simulate(simulator.Scenario(NOW, 4, 14, tenants=2, plants=kinds))
    (tmp_path / "r.json").write_bytes(a_page(past))
    ob.read(tmp_path / "r.json", instance_id="ob1").save(tmp_path / "sets")
    for severity, expected in zip(("critical", "warning", "any"), codes, strict=True):
        code, out, err = run("review", tmp_path / "sets", *options, "--fail-on", severity)
        assert (code, err) == (expected, ""), severity
        assert out
    code, _, _ = run("review", tmp_path / "sets", *options)
    assert code == FINE  # findings are no failure unless that was asked for
    code, _, _ = run("review", tmp_path / "r.json", *options, "--fail-on", "any")
    assert code == FOUND  # a note was made: which instance it is was not said


def test_nothing_to_judge_is_no_good_news(run: Shell, tmp_path: Path) -> None:
    body = {"data": {"dataList": [], "total": 0}, "success": True}
    (tmp_path / "r.json").write_text(json.dumps(body))
    code, out, _ = run("review", tmp_path / "r.json", "--fail-on", "critical")
    assert code == FOUND
    assert "there is nothing to judge" in out


def test_a_tenant_that_was_never_backed_up_is_critical_and_named(
    run: Shell, server: simulator.SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = server.history.instances[0].tenants[0]

    def without(rows: list[dict[str, Any]], _: int) -> list[dict[str, Any]]:
        return [
            row
            | {
                "tenantBackupSetList": [
                    each
                    for each in row["tenantBackupSetList"]
                    if each["tenantId"] != forgotten.tenant_id
                ]
            }
            for row in rows
        ]

    monkeypatch.setattr(server, "edit", without)
    code, out, _ = run("review", "all", "--rpo", "3D", "--fail-on", "critical", "--quiet")
    assert code == FOUND
    assert "1 more without any set" in out
    assert f"in the inventory, but in no backup set: {forgotten.name} of" in out


def test_nothing_never_replaces_what_was_saved(
    run: Shell, server: simulator.SimulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    assert run("fetch", "all", "--out", kept, "--quiet")[0] == FINE
    before = len(ob.read(kept))
    monkeypatch.setattr(server, "edit", lambda rows, _: rows[:0])
    code, _, err = run("fetch", "all", "--out", kept, "--quiet")
    assert (code, "is kept" in err) == (NETWORK, True)
    monkeypatch.setattr(server.history, "instances", [])
    code, _, err = run("fetch", "all", "--out", kept, "--quiet")
    assert (code, "lists no instances" in err) == (NETWORK, True)
    assert len(ob.read(kept)) == before > 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    server.requests.clear()
    code, _, err = run("fetch", "all", "--out", tmp_path / "full", "--quiet")
    assert (code, "holds something else" in err, server.requests) == (USAGE, True, [])


def test_warnings_are_one_line_on_stderr(run: Shell, tmp_path: Path) -> None:
    body = json.loads(a_page())
    body["data"]["total"] = 99
    (tmp_path / "r.json").write_text(json.dumps(body))
    code, out, err = run("review", tmp_path / "r.json", "--json")
    assert code == FINE
    json.loads(out)
    assert only_line(err).startswith("obanalytics: warning: ")
    assert "pages are missing" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("bad\n\x1b[31mrow"), BAD_DATA),
        (ArchiveError("locked"), BAD_DATA),
        (PagingError("3 of 4"), NETWORK),
        (OSError("disk"), USAGE),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line(
    run: Shell, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr("obanalytics.dataset.sample", fail)
    found, out, err = run("review", "sample")
    assert (found, out) == (code, "")
    assert only_line(err).isprintable()


def test_bugs_are_not_hidden(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise KeyError("a bug of ours")

    monkeypatch.setattr("obanalytics.dataset.sample", fail)
    with pytest.raises(KeyError):
        run("review", "sample")


# --- as processes ------------------------------------------------------------------------------


def test_module_and_script(saved: Path) -> None:
    done = process("review", str(saved / "sets"), "--json", "--fail-on", "warning")
    assert (done.returncode, done.stderr) == (FOUND, "")
    assert json.loads(done.stdout)["format"] == 2
    script = Path(sys.executable).with_name("obanalytics")
    again = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert again.stdout.startswith("obanalytics ")


def test_ascii_terminals_are_no_obstacle(saved: Path, tmp_path: Path) -> None:
    plain_terminal = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = process("review", str(saved / "sets"), env=plain_terminal)
    assert (done.returncode, done.stderr) == (FINE, "")
    assert r"orders \xb7 " in done.stdout
    body = json.loads(a_page())
    body["data"]["dataList"][0]["tenantBackupSetList"][0]["tenantName"] = "é中🦀"
    (tmp_path / "r.json").write_text(json.dumps(body))
    done = process("review", str(tmp_path / "r.json"), "--json", env=plain_terminal)
    assert done.returncode == FINE
    assert "é中🦀" in {row["tenant_name"] for row in json.loads(done.stdout)["tables"]["coverage"]}


def test_reader_that_has_seen_enough() -> None:
    command = [sys.executable, "-m", "obanalytics", "review", "sample"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()  # as `head -0` does
        errors = writer.stderr.read()
        code = writer.wait(30)
    assert (code, errors) == (FINE, "")


def test_interrupt_while_fetching(server: simulator.SimulatorServer, tmp_path: Path) -> None:
    server.latency = 0.5
    command = [sys.executable, "-m", "obanalytics", "fetch", "all", "--out", str(tmp_path / "x")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as fetching:
        for _ in range(300):
            if server.requests:
                break
            time.sleep(0.05)
        fetching.send_signal(signal.SIGINT)
        _, err = fetching.communicate(timeout=30)
    assert fetching.returncode == 130
    assert err.strip().splitlines()[-1] == "obanalytics: interrupted"
    assert "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_simulate_serves_until_it_is_interrupted() -> None:
    arguments = ("--port", "0", "--now", "2026-05-01", "--algorithm", "SHA-256", "--fault", "503")
    command = [sys.executable, "-m", "obanalytics", "simulate", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serving:
        try:
            assert serving.stdout is not None
            first = serving.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", first)
            assert url is not None
            lines = [serving.stdout.readline() for _ in range(8)]
            said = "".join(lines)
            assert f"export OCEANBASE_ENDPOINT={url[0]}" in said
            listing = re.search(r"/api/v2/instances/\w+/backup/data/sets", said)
            assert listing is not None
            address, sign_in = url[0] + listing[0], HTTPDigestAuth(*simulator.KEY)
            with requests.Session() as session:
                assert session.get(address).status_code == 401
                answers = [session.get(address, auth=sign_in, params={"pageSize": 2}) for _ in "ab"]
            assert [answer.status_code for answer in answers] == [503, 200]
            data = answers[1].json()["data"]
            assert len(data["dataList"]) == 2
            assert data["dataList"][0]["startTime"] < "2026-05-01"
            serving.send_signal(signal.SIGINT)
            _, err = serving.communicate(timeout=30)
        finally:
            serving.kill()
    assert (serving.returncode, err) == (FINE, "")


def test_simulate_writes(run: Shell, tmp_path: Path) -> None:
    options = ("--write", tmp_path / "pages", "--now", "2026-05-01T06:00+02:00")
    code, out, err = run("simulate", *options)
    assert (code, out, err) == (FINE, f"written: {tmp_path / 'pages'}\n", "")
    sets = ob.read(tmp_path / "pages")
    assert sets.tenants["start_time"].max() <= pd.Timestamp("2026-05-01T04:00Z")
    assert len(sets.source.instances) == 3


def test_places_that_cannot_be_written_are_told_at_once(run: Shell, tmp_path: Path) -> None:
    (tmp_path / "x.html").mkdir()
    (tmp_path / "x.csv").write_text("mine")
    (tmp_path / "y.csv").mkdir()
    (tmp_path / "y.csv" / "mine.txt").write_text("mine")
    for name, told in (
        ("x.html", "there is a folder of that name"),
        ("x.csv", "there is something else"),
        ("y.csv", "there is something else"),
    ):
        first = tmp_path / "first.json"
        code, out, err = run("review", "sample", "--out", first, "--out", tmp_path / name)
        assert (code, out) == (USAGE, "")
        assert told in only_line(err)
        assert not first.exists()
    code, _, err = run("review", "sample", "--policy", tmp_path / "none.toml")
    assert (code, only_line(err)) == (
        USAGE,
        f"obanalytics: {tmp_path / 'none.toml'}: No such file or directory",
    )
