"""The commands `findings` and `policy`: verdicts, JSON, text, and a policy made from the data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from findings_oracle import Row, facts
from histories import T0
from test_cli import BAD_DATA, FINE, FOUND, NETWORK, NOW, USAGE, Shell, history, only_line
from test_cli_gaps import kept

import obanalytics as ob
from obanalytics import schema, simulator
from obanalytics.draft import draft
from obanalytics.findings import findings
from obanalytics.kinds import KINDS
from obanalytics.policy import Policy
from obanalytics.wording import cells

if TYPE_CHECKING:
    from pathlib import Path

SILENT = simulator.Plant("silent", 0, 0, 6.0, 3.0)
DAY = pd.Timedelta(1, "D")
DROPPED = simulator.Plant("dropped", 0, 0, 6.0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def codes(run: Shell, *arguments: object) -> tuple[int, ...]:
    """The exit code at each severity; without one it is fine."""
    assert run("findings", *arguments)[0] == FINE
    return tuple(
        run("findings", *arguments, "--fail-on", severity)[0]
        for severity in ("critical", "warning", "any")
    )


def a_policy(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- the verdict -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plants", "expected"),
    [
        ((), (FINE, FINE, FINE)),
        ((SILENT,), (FINE, FOUND, FOUND)),
        ((DROPPED,), (FOUND, FOUND, FOUND)),
        ((simulator.Plant("created", 0, 0, 6.0),), (FINE, FINE, FOUND)),
    ],
    ids=["clean", "closed", "open", "note"],
)
def test_fail_on(
    run: Shell, tmp_path: Path, plants: tuple[simulator.Plant, ...], expected: tuple[int, ...]
) -> None:
    assert codes(run, kept(tmp_path, *plants)) == expected


def test_what_is_acknowledged_is_shown_and_does_not_fail(run: Shell, tmp_path: Path) -> None:
    folder = kept(tmp_path, SILENT)
    known = '[[acknowledge]]\nkind = ["G4", "G6", "G7"]\nuntil = {}\nreason = "we know"\n'
    policy = a_policy(tmp_path, known.format("2026-06-01"))
    assert codes(run, folder, "--policy", policy) == (FINE, FINE, FINE)
    text = run("findings", folder, "--policy", policy)[1]
    assert "Nothing found in 2 tenants; " in text
    assert "ACKNOWLEDGED (" in text
    # The day after it has run out it counts again, and a note says so.
    policy = a_policy(tmp_path, known.format("2026-04-01"))
    assert codes(run, folder, "--policy", policy) == (FINE, FOUND, FOUND)
    text = " ".join(run("findings", folder, "--policy", policy)[1].split())
    assert "ran out on 2026-04-01" in text


def test_the_option_counts_more_than_the_policy(run: Shell, tmp_path: Path) -> None:
    folder, policy = kept(tmp_path), a_policy(tmp_path, 'rpo = "12h"\ngrace = "0h"\n')
    assert codes(run, folder, "--policy", policy) == (FINE, FOUND, FOUND)
    assert codes(run, folder, "--policy", policy, "--rpo", "30h") == (FINE, FINE, FINE)
    text = run("findings", folder, "--policy", policy, "--rpo", "30h")[1]
    assert re.search(r"Policy  rpo 30h, grace 0\w+\.", text), text


def test_nothing_to_judge_is_no_good_news(run: Shell, tmp_path: Path) -> None:
    body = {"data": {"dataList": [], "total": 0}, "success": True}
    (tmp_path / "r.json").write_text(json.dumps(body))
    ob.read(tmp_path / "r.json", instance_id="ob1").save(tmp_path / "sets")
    assert codes(run, tmp_path / "sets") == (FOUND, FOUND, FOUND)
    assert "there is nothing to judge" in run("findings", tmp_path / "sets")[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rpo = 26\n", "line 1: rpo"),
        ('grace = "1h"\nrp0 = "1h"\n', "line 2: "),
        ('[[override]]\nname = "a"\nrpo = "never"\n', "line 3: "),
        ("rpo = \n", "line 1"),
    ],
    ids=["no unit", "unknown key", "in a table", "no TOML"],
)
def test_a_slip_in_the_policy_names_its_line(
    run: Shell, tmp_path: Path, text: str, told: str
) -> None:
    code, out, err = run("findings", "sample", "--policy", a_policy(tmp_path, text))
    assert (code, out) == (USAGE, "")
    assert told in only_line(err)
    assert "policy.toml" in err


def test_what_is_not_there_is_told(run: Shell, tmp_path: Path) -> None:
    code, _, err = run("findings", "sample", "--policy", tmp_path / "none.toml")
    assert (code, "none.toml" in only_line(err)) == (USAGE, True)
    (tmp_path / "broken.json").write_text("{")
    assert run("findings", tmp_path / "broken.json")[0] == BAD_DATA


def test_an_instance_that_cannot_be_read_is_a_blind_spot(
    run: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = history()
    there = past.instances[0].instance_id
    with simulator.SimulatorServer(past) as server:
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_ID", simulator.KEY[0])
        monkeypatch.setenv("OCEANBASE_ACCESS_KEY_SECRET", simulator.KEY[1])
        monkeypatch.setenv("OCEANBASE_ENDPOINT", server.url)
        monkeypatch.setenv("OCEANBASE_PROJECT_ID", "p")
        code, out, err = run("findings", "obnope", there, "--quiet", "--json")
    assert (code, "obnope" in only_line(err)) == (NETWORK, True)
    blind = [row for row in json.loads(out)["findings"] if row["kind"] == "G30"]
    assert [(row["instance_id"], row["tenant_id"]) for row in blind] == [("obnope", None)]
    assert blind[0]["severity"] == "warning"


# --- what is shown -----------------------------------------------------------------------------


def test_json_is_the_table(run: Shell) -> None:
    code, out, err = run("findings", "sample", "--json")
    assert (code, err) == (FINE, "")
    made, found = json.loads(out), findings(ob.sample())
    assert made["format"] == 1
    assert [row["sentence"] for row in made["findings"]] == list(found["sentence"])
    assert [row["backup_set_ids"] for row in made["findings"]] == [
        list(each) for each in found["backup_set_ids"]
    ]
    assert all(row["title"] == KINDS[row["kind"]].title for row in made["findings"])
    assert all(row["unit"] == KINDS[row["kind"]].unit for row in made["findings"])
    assert made["counts"] == {
        name: int((found["severity"] == name).sum()) for name in ("critical", "warning", "info")
    }
    assert made["policy"]["rpo"] == {"value": "26h", "origin": "default"}
    assert made["not_judged"]["G33"]
    assert made["window"] == {"start": None, "end": "2026-11-01T06:00:00Z"}


def test_text_is_whole_and_fits(run: Shell) -> None:
    text, found = run("findings", "sample")[1], findings(ob.sample())
    joined = re.sub(r"\s+", " ", text)
    assert all(re.sub(r"\s+", " ", each) in joined for each in found["sentence"])
    assert max(map(cells, text.splitlines())) <= 100
    order = [
        text.index(head) for head in ("\nCRITICAL (2)", "\nWARNING (", "\nINFO (", "\nNOT JUDGED")
    ]
    assert order == sorted(order)
    assert "rpo 26h (default), grace 2h (default)" in text
    assert "G33 never test-restored: " in text


def test_hostile_names_act_nowhere(run: Shell, tmp_path: Path) -> None:
    name = "<b>\x1b[2J\u202e%s{0}\n=1+1"

    def spoil(each: dict[str, Any]) -> None:
        each["tenantName"] = name

    folder = kept(tmp_path, SILENT, spoil=spoil)
    text = run("findings", folder)[1]
    assert "\x1b" not in text
    assert "\u202e" not in text
    found = findings(ob.read(folder))
    assert set(found["tenant_name"]) == {name}
    assert not found["sentence"].str.contains("\n|\x1b|\u202e").any()


# --- policy ------------------------------------------------------------------------------------


def test_a_policy_is_made_and_read_back(run: Shell, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    code, out, err = run("policy", "init", "sample", "--tz", "Asia/Shanghai", "--out", path)
    assert (code, out, "written: " in err) == (FINE, "", True)
    text = path.read_text(encoding="utf-8")
    assert text == draft(ob.sample(), tz="Asia/Shanghai")
    policy = Policy.load(path)
    # Schedules are inferred for each tenant, days of rest and changes of cadence and all.
    assert (policy.tz, policy.schedule) == ("Asia/Shanghai", None)
    assert "inferred for each tenant: every 24 h at about 04:08 Asia/Shanghai" in text
    assert policy.rpo == Policy().rpo  # daily, and up to an hour and a half
    assert "(12 of 12 tenants)" in text
    # What is there is not replaced.
    code, _, err = run("policy", "init", "--out", path)
    assert (code, "there is a file already" in only_line(err)) == (USAGE, True)
    assert path.read_text(encoding="utf-8") == text


def test_a_policy_without_data_is_that_of_the_defaults(run: Shell, tmp_path: Path) -> None:
    code, out, err = run("policy", "init")
    assert (code, err) == (FINE, "")
    assert Policy.parse(out) == Policy()
    assert Policy.parse(draft(ob.sample().tenants.head(0))) == Policy()
    with pytest.raises(ValueError, match="Mars/Olympus"):
        draft(tz="Mars/Olympus")
    shown = run("policy", "check", a_policy(tmp_path, out))[1]
    assert "rpo                 26h" in shown
    assert json.loads(run("policy", "check", tmp_path / "policy.toml", "--json")[1])["rpo"] == "26h"


def test_what_is_drafted_from_a_clean_history_finds_nothing_in_it() -> None:
    past = simulator.simulate(simulator.Scenario(NOW, 5, 90, tenants=3))
    with simulator.SimulatorServer(past) as server:
        client = ob.Client(*simulator.KEY, endpoint=server.url, project_id="p")
        with client:
            sets = ob.load("all", client=client, progress=False)
    policy = Policy.parse(draft(sets))
    assert policy.full_every
    assert findings(sets, policy).empty


@pytest.mark.parametrize(
    "rows",
    [
        [Row(24 * day + 2) for day in range(4, 60) if (T0 + day * DAY).day_of_week < 5],
        [Row(24 * day + (2 if day < 100 else 8), full=day % 7 == 0) for day in range(200)],
        [Row(168 * week + 2) for week in range(20)] + [Row(3362 + 24 * day) for day in range(40)],
    ],
    ids=["weekdays", "another hour", "from weekly to daily"],
)
def test_what_is_drafted_finds_what_no_policy_finds(rows: list[Row]) -> None:
    sets = facts(rows, rows[-1].start + 12)
    wide = Policy(rpo="200h")
    drafted = replace(Policy.parse(draft(sets)), rpo="200h")
    kinds = [set(findings(sets, each)["kind"]) for each in (wide, drafted)]
    assert kinds[0] == kinds[1]


def test_tenants_that_differ_are_told_and_nothing_is_proposed() -> None:
    sets = ob.sample()
    frame = sets.tenants[sets.tenants["full"].fillna(value=False)].copy()
    daily = sets.tenants[sets.tenants["instance_id"] == sets.tenants["instance_id"].iloc[0]]
    # Two in three have a full a week and nothing else.
    mixed = pd.concat([frame[~frame.index.isin(daily.index)], daily])
    text = draft(schema.conform(mixed, "tenants"))
    assert Policy.parse(text).schedule is None or "any" not in (Policy.parse(text).schedule or {})
    assert "differently often: every 7 d" in text
