"""The command for cron and CI: its verdicts, its JSON, and a log that is whole."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from test_cli import (
    BAD_DATA,
    FINE,
    FOUND,
    NETWORK,
    NOW,
    USAGE,
    Shell,
    a_page,
    history,
    ids,
    only_line,
    process,
)

import obanalytics as ob
from obanalytics import gaplog, simulator
from obanalytics.wording import cells, format_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SEVERITIES = ("critical", "warning", "any")
Codes = tuple[int, int, int]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[simulator.SimulatorServer]:
    with simulator.SimulatorServer(history()) as started:
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_ID", simulator.KEY[0])
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", simulator.KEY[1])
        monkeypatch.setenv("OCEANBASE_ENDPOINT", started.url)
        monkeypatch.setenv("OCEANBASE_PROJECT_ID", "p")
        yield started


def kept(folder: Path, *plants: simulator.Plant, spoil: Callable[[Any], None] | None = None) -> str:
    """Save a history of one instance and two tenants as `fetch` does."""
    past = simulator.simulate(simulator.Scenario(NOW, 4, 14, tenants=2, plants=plants))
    body = json.loads(a_page(past))
    for row in body["data"]["dataList"] if spoil else ():
        for each in row["tenantBackupSetList"]:
            spoil(each)  # type: ignore[misc] - there is one
    (folder / "r.json").write_text(json.dumps(body))
    ob.read(folder / "r.json", instance_id="ob1").save(folder / "sets")
    return str(folder / "sets")


def of_unknown_validity(first: str, last: str) -> Callable[[Any], None]:
    """Say of the sets of these days not whether they are valid."""

    def spoil(each: dict[str, Any]) -> None:
        if first <= each["startTime"][:10] <= last:
            each["validity"] = ""

    return spoil


def codes(run: Shell, *arguments: object) -> Codes:
    """The exit code at each severity; without one it is fine."""
    found = []
    for severity in SEVERITIES:
        code, out, err = run("gaps", *arguments, "--fail-on", severity)
        assert (err, bool(out)) == ("", True)
        found.append(code)
    assert run("gaps", *arguments)[0] == FINE  # gaps are no failure unless that was asked for
    return tuple(found)  # type: ignore[return-value]


# --- the verdict -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plants", "expected"),
    [
        ((), (FINE, FINE, FINE)),
        ((simulator.Plant("silent", 0, 0, 6.0, 3.0),), (FINE, FOUND, FOUND)),
        ((simulator.Plant("dropped", 0, 0, 6.0),), (FOUND, FOUND, FOUND)),
    ],
    ids=["clean", "closed", "open"],
)
def test_fail_on(
    run: Shell, tmp_path: Path, plants: tuple[simulator.Plant, ...], expected: Codes
) -> None:
    folder = kept(tmp_path, *plants)
    assert codes(run, folder, "--rpo", "26h") == expected
    # A note was made: which instance it is was not said. Everything else stays as it is.
    assert codes(run, tmp_path / "r.json", "--rpo", "26h") == (*expected[:2], FOUND)


@pytest.mark.parametrize(("first", "last"), [("2026-04-24", "2026-04-27"), ("2026-04-28", "9")])
def test_what_nobody_knows_is_found_by_any_alone(
    run: Shell, tmp_path: Path, first: str, last: str
) -> None:
    folder = kept(tmp_path, spoil=of_unknown_validity(first, last))
    gaps = ob.coverage_gaps(ob.read(folder), "26h")
    assert set(gaps["certainty"]) == {"unknown"}
    assert (gaps["position"] == "tail").any() == (last == "9")
    assert codes(run, folder, "--rpo", "26h") == (FINE, FINE, FOUND)
    assert "(not known)" in run("gaps", folder, "--rpo", "26h")[1]
    # Who trusts them has no gap, and reads that they were trusted.
    assert codes(run, folder, "--rpo", "26h", "--trust-unknown") == (FINE, FINE, FINE)
    assert "sets of unknown soundness trusted" in run("gaps", folder, "--trust-unknown")[1]


def test_a_gap_that_is_known_in_part_is_a_gap(run: Shell, tmp_path: Path) -> None:
    plant = simulator.Plant("dropped", 0, 0, 4.0)
    folder = kept(tmp_path, plant, spoil=of_unknown_validity("2026-04-25", "2026-04-26"))
    gaps = ob.coverage_gaps(ob.read(folder), "26h")
    assert dict(zip(gaps["certainty"], gaps["position"], strict=True)) == {
        "unknown": "interior",
        "partly": "tail",
    }
    assert codes(run, folder, "--rpo", "26h") == (FOUND, FOUND, FOUND)


def test_nothing_to_judge_is_no_good_news(run: Shell, tmp_path: Path) -> None:
    body = {"data": {"dataList": [], "total": 0}, "success": True}
    (tmp_path / "r.json").write_text(json.dumps(body))
    ob.read(tmp_path / "r.json", instance_id="ob1").save(tmp_path / "sets")
    assert codes(run, tmp_path / "sets") == (FOUND, FOUND, FOUND)
    assert "there is nothing to judge" in run("gaps", tmp_path / "sets")[1]
    told = json.loads(run("gaps", tmp_path / "sets", "--json")[1])
    assert (told["tenants"], told["gaps"]) == (0, [])
    # A window before the first set, and a look from before it.
    assert codes(run, "sample", "--end", "2020-01-01") == (FOUND, FOUND, FOUND)
    assert codes(run, "sample", "--as-of", "2020-01-01") == (FOUND, FOUND, FOUND)


def test_a_tenant_without_any_start_is_not_taken_for_covered(run: Shell, tmp_path: Path) -> None:
    names: list[str] = []

    def spoil(each: dict[str, Any]) -> None:
        names.append(each["tenantId"])
        if each["tenantId"] == names[0]:
            each["startTime"] = ""

    folder = kept(tmp_path, spoil=spoil)
    assert ob.coverage_gaps(ob.read(folder), "26h").empty
    assert codes(run, folder, "--rpo", "26h") == (FOUND, FOUND, FOUND)
    out = run("gaps", folder, "--rpo", "26h")[1]
    assert "no set of theirs has a start, they cannot be judged: " in out


def test_a_tenant_that_was_never_backed_up_is_critical_and_named(
    run: Shell, server: simulator.SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = server.history.instances[0].tenants[0]

    def without(rows: list[dict[str, Any]], _: int) -> list[dict[str, Any]]:
        name = "tenantBackupSetList"
        spared = [[t for t in row[name] if t["tenantId"] != forgotten.tenant_id] for row in rows]
        return [row | {name: each} for row, each in zip(rows, spared, strict=True)]

    monkeypatch.setattr(server, "edit", without)
    options = ("--rpo", "6D", "--quiet", "--fail-on", "critical")
    code, out, err = run("gaps", ids()[0], *options)
    assert (code, err) == (FOUND, "")
    assert f"in the inventory, but in no backup set: {forgotten.name} of" in out
    code, again, _ = run("gaps", ids()[0], *options, "--json")
    assert (code, json.loads(again)["gaps"]) == (FOUND, [])
    assert forgotten.name in json.loads(again)["notes"][-1]


@pytest.mark.usefixtures("server")
def test_an_instance_that_fails_is_worse_than_a_gap(run: Shell) -> None:
    code, out, err = run("gaps", ids()[1], "obnope", "--quiet", "--fail-on", "any")
    assert code == NETWORK
    assert only_line(err).startswith("obanalytics: judged without: obnope: ")
    assert "Not read: obnope: " in " ".join(out.split())
    code, out, err = run("gaps", ids()[1], "obnope", "--quiet", "--json")
    assert (code, list(json.loads(out)["failed"])) == (NETWORK, ["obnope"])
    code, out, err = run("gaps", "obnope", "--quiet")
    assert (code, out) == (NETWORK, "")
    only_line(err)
    code, out, err = run("gaps", *ids(), "obnope", "--quiet", "--on-error", "raise")
    assert (code, out) == (NETWORK, "")
    only_line(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "--rpo", "soon"), "rpo is no duration: 'soon'"),
        (("sample", "--rpo", "26"), "rpo has no unit: '26'"),
        (("sample", "--rpo", ""), "rpo must be a duration of zero or more, not ''"),
        (("sample", "--rpo=-2h"), "rpo must be a duration of zero or more"),
        (("sample", "--grace", "soon"), "grace is no duration: 'soon'"),
        (("sample", "--as-of", "noon"), "as_of is no instant"),
        (("sample", "--start", "2026-13-01"), "start is no instant"),
        (("sample", "--start", "2026-09-01", "--end", "2026-08-01"), "ends before it starts"),
        (("sample", "--start", "2026-09-01", "--end", "2026-09-01"), "the window is empty"),
        (("typo/sets",), "no such file or folder: typo/sets"),
        (("sample", "saved.json"), "no such file or folder: saved.json"),
    ],
)
def test_usage(run: Shell, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("gaps", *arguments, "--fail-on", "any")
    assert (code, out) == (USAGE, "")
    assert message in only_line(err)


def test_arguments_that_argparse_refuses(run: Shell) -> None:
    for arguments in ((), ("sample", "--fail-on", "sometimes"), ("sample", "--out", "x.html")):
        code, out, err = run("gaps", *arguments)
        assert (code, out) == (USAGE, "")
        assert "usage: obanalytics" in err


def test_a_slip_is_told_before_anything_is_fetched(
    run: Shell, server: simulator.SimulatorServer
) -> None:
    assert run("gaps", "all", "--rpo", "soon", "--quiet")[0] == USAGE
    assert run("gaps", "all", "--as-of", "noon", "--quiet")[0] == USAGE
    assert not server.requests


def test_no_keys(run: Shell) -> None:
    code, out, err = run("gaps", "obxxxx", "--endpoint", "http://127.0.0.1:9", "--project-id", "p")
    assert (code, out) == (USAGE, "")
    assert "no file here is called obxxxx: taken for an instance id" in only_line(err)


def test_damaged_files(run: Shell, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b'{"data": {"dataList": [{"backupSetId": 7')
    code, out, err = run("gaps", tmp_path / "r.json", "--fail-on", "any")
    assert (code, out) == (BAD_DATA, "")
    assert "r.json" in only_line(err)
    body = json.loads(a_page())
    body["data"]["dataList"][0]["startTime"] = "\x1b[31mred\n"
    (tmp_path / "r.json").write_text(json.dumps(body))
    code, out, err = run("gaps", tmp_path / "r.json")
    assert (code, out) == (BAD_DATA, "")
    assert only_line(err).isprintable()


# --- for machines ------------------------------------------------------------------------------


def plain_value(value: Any) -> Any:
    """A cell as JSON must have it, said another way than the package says it."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Timedelta):
        return value / pd.Timedelta(seconds=1)
    if isinstance(value, pd.Timestamp):
        return value.isoformat().replace("+00:00", "Z")
    return value.item() if hasattr(value, "item") else value


@pytest.mark.parametrize("rpo", ["26h", "27h", "5D", "200D"])
def test_json_is_the_frame_value_by_value(run: Shell, rpo: str) -> None:
    sets = ob.sample()
    window = {"start": "2026-06-01", "end": "2026-10-01"}
    asked = ("--start", window["start"], "--end", window["end"])
    for options, given in (((), {}), (asked, window), (("--grace", "90min"), {"grace": "90min"})):
        code, out, err = run("gaps", "sample", "--rpo", rpo, "--json", *options)
        assert (code, err) == (FINE, "")
        told = json.loads(out)
        part = sets.between(**given) if given is window else sets
        gaps = ob.coverage_gaps(part, rpo, grace=given.get("grace", "0h"))
        assert len(told["gaps"]) == len(gaps)
        for row, (_, gap) in zip(told["gaps"], gaps.iterrows(), strict=True):
            assert row == {name: plain_value(gap[name]) for name in gaps.columns}
        assert told["tenants"] == len(ob.rpo_compliance(part, rpo))


def test_json_says_what_was_asked(run: Shell) -> None:
    told = json.loads(run("gaps", "sample", "--json")[1])
    gaps = ob.coverage_gaps(ob.sample(), "26h")
    assert list(told) == [
        *("format", "rpo", "rpo_origin", "grace", "trust_unknown", "as_of", "window", "model"),
        *("tenants", "gaps", "notes", "failed"),
    ]
    assert (told["format"], told["rpo"], told["rpo_origin"]) == (1, 26 * 3600.0, "default")
    assert (told["grace"], told["trust_unknown"]) == (0.0, False)
    assert told["as_of"] == "2026-11-01T06:00:00Z"
    assert told["window"] == {"start": None, "end": "2026-11-01T06:00:00Z"}
    assert told["model"] == gaps.attrs.get("model")
    assert (told["notes"], told["failed"]) == ([*ob.sample().source.notes], {})
    options = ("--rpo", "1D", "--grace", "2h", "--trust-unknown", "--as-of", "2026-08-01T12:00")
    told = json.loads(run("gaps", "sample", "--json", *options, "--start", "2026-07-01")[1])
    assert (told["rpo"], told["rpo_origin"], told["grace"]) == (86400.0, "given", 7200.0)
    assert told["trust_unknown"] is True
    assert told["as_of"] == told["window"]["end"] == "2026-08-01T12:00:00Z"
    assert told["window"]["start"] == "2026-07-01T00:00:00Z"
    expected = ob.coverage_gaps(
        *(ob.sample().between("2026-07-01"), "1D"),
        as_of="2026-08-01T12:00",
        grace="2h",
        trust_unknown=True,
    )
    assert [row["gap"] for row in told["gaps"]] == [*expected["gap"].dt.total_seconds()]


# --- for people --------------------------------------------------------------------------------


def records(out: str) -> list[str]:
    """The gaps of a log: a line that begins with a name, and what is indented below it."""
    found: list[str] = []
    for line in out.split("\n\n", 1)[1].splitlines():
        if line.startswith("    "):
            found[-1] += " " + line.strip()
        elif line and not line.startswith(("Tenant ", "OPEN AT ", "CLOSED ")):
            found.append(line)
    return found


@pytest.mark.parametrize("rpo", ["26h", "27h"])
def test_log_is_whole_and_in_order(run: Shell, rpo: str) -> None:
    code, out, err = run("gaps", "sample", "--rpo", rpo)
    assert (code, err) == (FINE, "")
    assert all(cells(line) <= 100 for line in out.splitlines())
    gaps = ob.coverage_gaps(ob.sample(), rpo)
    gaps["open"] = gaps["gap_end"] == ob.sample().as_of
    gaps = gaps.sort_values(["open", "gap"], ascending=False, kind="stable")
    told = records(out)
    assert len(told) == len(gaps)
    for text, gap in zip(told, gaps.itertuples(), strict=True):
        assert text.startswith(f"{gap.tenant_name} · {gap.instance_id}")
        spans = [gap.gap, gap.worst_exposure]
        for part in (
            *(f"{moment:%Y-%m-%d %H:%M}" for moment in (gap.gap_start, gap.gap_end)),
            *("unbounded" if pd.isna(each) else format_span(each) for each in spans),
            *(f"  {gap.attempts}", gap.causes.replace("_", " ")),
            f"last {'none' if pd.isna(gap.last_backup_set_id) else gap.last_backup_set_id}, ",
            "not closed" if gap.open else f"closed by {gap.next_backup_set_id}",
        ):
            assert part in text, (part, text)
        assert (f"{gap.failed} failed" in text) == (gap.attempts > 0)
    head = out.splitlines()[0]
    having = len(gaps.groupby(["instance_id", "tenant_id"], observed=True))
    assert head.startswith(f"{len(gaps)} gaps in {having} of 12 tenants, ")
    assert f"{format_span(gaps['gap'].sum())} in all" in head
    assert f"({format_span(gaps['unknown'].sum())} of it not known)" in head
    assert f"; {gaps['open'].sum()} open at the end." in head
    assert f"RPO {rpo[:-1]} h." in out
    assert "assumed" not in out


def test_a_clean_history_is_said_in_a_few_lines(run: Shell, tmp_path: Path) -> None:
    code, out, err = run("gaps", kept(tmp_path))
    assert (code, err) == (FINE, "")
    assert out.startswith("No gap in 2 tenants.\nFrom each tenant's first known set to ")
    assert "RPO 26 h (assumed: none was given)." in " ".join(out.split())
    assert "OPEN" not in out
    assert "CLOSED" not in out


def test_an_instance_of_the_service(run: Shell, server: simulator.SimulatorServer) -> None:
    code, out, err = run("gaps", ids()[1], "--rpo", "26h", "--quiet", "--fail-on", "critical")
    assert (code, err) == (FOUND, "")
    dropped = server.history.instances[1].tenants[0]
    (record,) = records(out)
    assert record.startswith(f"{dropped.name}  ")  # of one instance, which needs no name
    assert "; 1 open at the end." in out.splitlines()[0]
    code, every, err = run("gaps", "all", "--rpo", "26h", "--quiet")
    assert (code, err) == (FINE, "")
    gaps = ob.coverage_gaps(ob.load("all", restorable=True, progress=False), "26h")
    named = [record.split(" · ")[1].split()[0] for record in records(every)]
    assert sorted(named) == sorted(gaps["instance_id"])
    assert not any(key in text for key in simulator.KEY for text in (out, every))


def test_a_tenant_is_told_from_those_without_a_gap(run: Shell, tmp_path: Path) -> None:
    """Both instances have an `orders`, only one has a gap: its line says which."""
    plants = (simulator.Plant("silent", 0, 0, 6.0, 3.0),)
    past = simulator.simulate(simulator.Scenario(NOW, 4, 14, instances=2, tenants=1, plants=plants))
    for path, body in simulator.pages_as_files(past):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    (record,) = records(run("gaps", tmp_path, "--rpo", "26h")[1])
    assert past.instances[0].instance_id in record


@pytest.mark.usefixtures("server")
def test_secret_is_nowhere(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", "wr0ng-secret")
    for options in ((), ("--json",)):
        code, out, err = run("gaps", ids()[0], "--quiet", *options)
        assert (code, out) == (NETWORK, "")
        assert "wr0ng" not in only_line(err)


def test_names_cannot_act(run: Shell, tmp_path: Path) -> None:
    def spoil(each: dict[str, Any]) -> None:
        each["tenantName"] = f"\x1b[31mred\x07\nnew \u202e{each['tenantId']}" + "中" * 80

    folder = kept(tmp_path, simulator.Plant("silent", 0, 0, 6.0, 3.0), spoil=spoil)
    code, out, _ = run("gaps", folder, "--rpo", "26h")
    assert code == FINE
    assert all(line.isprintable() for line in out.splitlines())
    assert r"\x1b[31mred\x07\nnew \u202e" in out
    assert len(records(out)) == 2


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("point", "Point model: log backups not considered.\n"),
        ("log", "Log model: the vendor's restorable intervals.\n"),
        ("mixed", "Log model where the vendor lists intervals, point model elsewhere.\n"),
        (None, None),
    ],
)
def test_model_is_said_where_it_is_known(
    run: Shell, monkeypatch: pytest.MonkeyPatch, model: str | None, sentence: str | None
) -> None:
    def found(*arguments: Any, **options: Any) -> pd.DataFrame:
        gaps = ob.coverage_gaps(*arguments, **options)
        gaps.attrs = {} if model is None else {"model": model}
        return gaps

    monkeypatch.setattr(gaplog, "coverage_gaps", found)
    out = run("gaps", "sample", "--rpo", "27h")[1]
    assert (sentence in out) if sentence else ("odel" not in out)
    assert json.loads(run("gaps", "sample", "--json")[1])["model"] == model


def test_window_beyond_the_facts_is_noted(run: Shell) -> None:
    later = (ob.sample().as_of + pd.Timedelta("40D")).isoformat()  # type: ignore[operator]
    code, out, _ = run("gaps", "sample", "--rpo", "27h", "--end", later, "--fail-on", "critical")
    assert code == FOUND
    assert "Note  the window ends after the facts do" in out


# --- as a process ------------------------------------------------------------------------------


def test_as_cron_runs_it(tmp_path: Path) -> None:
    done = process("gaps", "sample", "--rpo", "26h", "--fail-on", "any")
    assert (done.returncode, done.stderr) == (FOUND, "")
    assert done.stdout.startswith("31 gaps in ")
    done = process("gaps", kept(tmp_path), "--rpo", "26h", "--fail-on", "any")
    assert (done.returncode, done.stderr) == (FINE, "")


def test_help_and_slips_load_nothing_heavy() -> None:
    code = (
        "import sys, time; begin = time.perf_counter(); from obanalytics import cli\n"
        "try: cli.main(['gaps', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pandas', 'numpy', 'matplotlib', 'requests', 'scipy', 'jinja2', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)), time.perf_counter() - begin, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, seconds = done.stderr.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(seconds) < 0.5


def test_terms_are_settled_once() -> None:
    by = gaplog.terms(None, "30min", "2026-05-01", trust_unknown=False)
    assert by == (pd.Timedelta("26h"), "default", pd.Timedelta("30min"), by.as_of, False)
    assert by.as_of == pd.Timestamp(dt.datetime(2026, 5, 1, tzinfo=dt.UTC))
