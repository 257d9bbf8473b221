"""The commands `growth`, `forecast`, `durations`, `anomalies`: text, JSON, slips."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from test_cli import BAD_DATA, FINE, USAGE, Shell, only_line

import obanalytics as ob
from obanalytics.asjson import jsonable
from obanalytics.wording import cells

if TYPE_CHECKING:
    from pathlib import Path

ASKED: dict[str, tuple[str, ...]] = {
    "growth": ("--price", "0.02", "--retention-days", "30"),
    "forecast": ("--horizon", "40D", "--threshold", "500", "--retention-days", "30"),
    "durations": (),
    "anomalies": (),
}
NOTHING = {"data": {"dataList": [], "total": 0}, "success": True}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a year of the sample's smallest cluster."""
    sets = ob.sample().select(instance_ids="obrsmp4aklq0").between("2026-04-01", None)
    path = tmp_path_factory.mktemp("saved") / "sets"
    sets.save(path)
    return path


def as_json(run: Shell, *arguments: object) -> dict[str, Any]:
    code, out, _ = run(*arguments, "--json")
    assert code == FINE
    made: dict[str, Any] = json.loads(out)
    return made


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """Return rows as JSON has them, in an order that does not depend on theirs."""
    rows = [jsonable(row) for row in frame.to_dict("records")]
    return sorted(json.loads(json.dumps(rows)), key=json.dumps)


@pytest.mark.parametrize("command", ASKED)
def test_text_fits_a_terminal_and_begins_with_what_was_found(
    run: Shell, folder: Path, command: str
) -> None:
    code, out, err = run(command, folder, *ASKED[command])
    assert (code, err) == (FINE, "")
    lines = out.splitlines()
    assert max(map(cells, lines)) <= 118
    assert lines[0][0].isupper() or lines[0][0].isdigit()
    assert "From " in out
    assert not re.search(r"\b(NaT|nan|None)\b", out)


@pytest.mark.parametrize(
    ("command", "name", "make"),
    [
        ("growth", "growth", ob.size_growth),
        ("durations", "durations", ob.duration_trends),
        ("durations", "changes", ob.duration_changes),
        ("anomalies", "anomalies", ob.anomalies),
    ],
)
def test_json_has_the_rows_of_the_analysis(
    run: Shell, folder: Path, command: str, name: str, make: Any
) -> None:
    told = as_json(run, command, folder)
    assert told["format"] == 1
    expected = make(ob.read(folder))
    assert sorted(told[name], key=json.dumps) == rows_of(expected)
    assert told["units"][name] == expected.attrs["units"]
    assert {"asked", "as_of", "window", "notes", "failed"} <= set(told)


def test_the_store_and_its_cost(run: Shell, folder: Path) -> None:
    told = as_json(run, "growth", folder, "--price", "0.5", "--free", "100", "--by", "cluster")
    stored = ob.stored_size(ob.read(folder), price_per_gib_month=0.5, free_gib=100, by="cluster")
    now = stored[stored["time"] == stored["time"].max()]
    assert sorted(told["stored"], key=json.dumps) == rows_of(now)
    text = run("growth", folder, "--price", "0.5", "--free", "100")[1]
    assert f"for {now['cost_per_month'].sum():,.2f} a month" in " ".join(text.split())


def test_forecasts_tell_the_end_and_keep_every_step(run: Shell, folder: Path) -> None:
    options = ("--horizon", "40D", "--threshold", "500", "--retention-days", "30")
    told = as_json(run, "forecast", folder, *options)
    steps = pd.DataFrame(told["forecast"])
    ends = steps[~steps.duplicated(["tenant_id", "what"], keep="last")]
    assert len(told["ends"]) == len(ends)
    assert sorted(row["time"] for row in told["ends"]) == sorted(ends["time"])
    assert all(row["now_gib"] > 0 for row in told["ends"])
    assert {row["what"] for row in told["ends"]} == {"full_size", "incremental_size", "stored"}
    text = run("forecast", folder, *options)[1]
    assert "more likely than not to cross 500.0 GiB" in " ".join(text.split())
    assert re.search(r"crosses the threshold", text)


def test_what_is_not_forecast_is_listed_with_the_reason(run: Shell, folder: Path) -> None:
    code, out, _ = run("forecast", folder, "--horizon", "400D")
    assert code == FINE
    assert "NOT FORECAST (" in out
    assert re.search(r"sets allow a horizon of \d+ days at most", out)
    assert "retention_days is not given" in out


def test_what_was_planted_is_told(run: Shell) -> None:
    """The sample is that of the demonstration: slower, a step, a stuck run, a small set."""
    text = " ".join(run("durations", "sample")[1].split())
    assert re.search(r"billing · obrsmp4aklq0, full: 1\.\d+ x slower since 2026-09-", text)
    assert "4 changes of pace" in text
    text = " ".join(run("growth", "sample")[1].split())
    assert re.search(r"step on 2026-05-0\d \d\d:\d\d UTC: x 1\.\d+", text)
    text = " ".join(run("anomalies", "sample")[1].split())
    assert re.search(r"orders · \S+ 1 incremental slow 49 min 3 min x 14\.\d+ 20", text)
    assert re.search(
        r"catalog_v2 · \S+ \d+ incremental size small 0\.32 GiB 1\.\d+ GiB x 0\.2", text
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("growth", "sample", "--price", "cheap"), "expected 0.02 or standard=0.02"),
        (("growth", "sample", "--price", "1", "--price", "standard=2"), "give one price"),
        (("growth", "sample", "--price", "moon=2"), "standard"),
        (("growth", "sample", "--retention-days", "0"), "retention_days"),
        (("forecast", "sample", "--level", "90"), "level must be between 0 and 1"),
        (("forecast", "sample", "--horizon", "soon"), "horizon"),
        (("forecast", "sample", "--threshold", "-1"), "threshold"),
        (("durations", "sample", "--as-of", "never"), "as_of"),
        (("anomalies", "nowhere/"), "nowhere"),
    ],
)
def test_slips_are_one_line(run: Shell, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (USAGE, "")
    assert told in only_line(err)


@pytest.mark.parametrize("command", ASKED)
def test_nothing_to_measure_says_so(run: Shell, tmp_path: Path, command: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(NOTHING))
    ob.read(tmp_path / "r.json", instance_id="ob1").save(tmp_path / "sets")
    code, out, _ = run(command, tmp_path / "sets")
    assert code == FINE
    assert "there is nothing to measure" in out
    told = as_json(run, command, tmp_path / "sets")
    assert all(value == [] for value in told.values() if isinstance(value, list))
    (tmp_path / "bad.json").write_text("{")
    assert run(command, tmp_path / "bad.json")[0] == BAD_DATA


def test_odd_names_act_on_no_terminal(run: Shell, tmp_path: Path) -> None:
    sets = ob.sample().select(instance_ids="obrsmp4aklq0")
    odd = {name: f"{name}\x1b[31m\n" for name in sets.tenants["tenant_name"].cat.categories}
    sets.tenants["tenant_name"] = sets.tenants["tenant_name"].cat.rename_categories(odd)
    sets.save(tmp_path / "sets")
    for command in ("growth", "durations", "anomalies"):
        out = run(command, tmp_path / "sets")[1]
        assert "\x1b" not in out, command
