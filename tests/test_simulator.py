"""The simulator by itself: what it plants is in its rows, and its rows look like the service's."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from obanalytics import cli, simulator
from obanalytics.simulator import Plant, Scenario, expired, simulate
from obanalytics.simulator.digest import response

NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
DATA = Path(__file__).resolve().parent.parent / "data"
Row = dict[str, Any]
Rows = list[Row]


def scenario(*plants: Plant, **options: Any) -> Scenario:
    return Scenario(NOW, **{"seed": 11, "days": 40, "tenants": 3, "plants": plants} | options)


PLAIN = simulate(scenario())
ONE = PLAIN.instances[0].instance_id
TENANT = PLAIN.instances[0].tenants[1].tenant_id


def planted(kind: str, tenant: int | None = 1, **options: Any) -> tuple[simulator.Planted, Rows]:
    """Return the truth about one plant, and the rows with it, oldest first."""
    history = simulate(scenario(Plant(kind, 0, tenant, **{"days_ago": 20.2} | options)))
    (fact,) = history.truth
    assert (fact.kind, fact.instance_id) == (kind, ONE)
    assert fact.tenant_id == (None if tenant is None else TENANT)
    return fact, history.sets(ONE)[::-1]


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def took(row: Row) -> float:
    return (at(row["endTime"]) - at(row["startTime"])).total_seconds()


def children(rows: Rows, tenant: str = TENANT) -> dict[str, Row]:
    """Return a tenant's sets by the id of their cluster set."""
    return {
        row["backupSetId"]: child
        for row in rows
        for child in row["tenantBackupSetList"]
        if child["tenantId"] == tenant
    }


ROWS = PLAIN.sets(ONE)[::-1]
OWN = children(ROWS)


def within(fact: simulator.Planted) -> set[str]:
    """Return the cluster sets that began while a fault held."""
    return {r["backupSetId"] for r in ROWS if fact.start <= at(r["startTime"]) < fact.end}


def changed(rows: Rows, tenant: str = TENANT) -> set[str]:
    """Return the cluster sets in which a tenant's set is not what it would be without a plant."""
    here, plain = children(rows, tenant), children(ROWS, tenant)
    return {each for each in here | plain if here.get(each) != plain.get(each)}


# What is planted.


def test_silence_is_no_run_at_all() -> None:
    fact, rows = planted("silent", None, days=5)
    starts = [at(row["startTime"]) for row in rows]
    assert len(rows) == len(ROWS) - 5
    assert not [start for start in starts if fact.start <= start < fact.end]
    assert max(later - start for start, later in pairwise(starts)) > 5 * DAY


def test_a_missing_tenant_is_in_no_set_of_those_days_and_in_no_sum() -> None:
    fact, rows = planted("missing", days=6)
    gone = within(fact)
    assert len(gone) == 6
    assert changed(rows) == gone
    assert not gone & set(children(rows))
    assert set(fact.backup_set_ids) == {OWN[each]["backupSetId"] for each in gone}
    for row, plain in zip(rows, ROWS, strict=True):
        assert row["status"] == "DONE"
        assert len(row["tenantBackupSetList"]) == 3 - (row["backupSetId"] in gone)
        assert (row["dataBackupSize"] < plain["dataBackupSize"]) == (row["backupSetId"] in gone)


def test_a_tenants_failed_runs_have_no_size_checkpoint_or_validity() -> None:
    fact, rows = planted("failed", days=3)
    assert changed(rows) == within(fact)
    assert len(fact.backup_set_ids) == 3
    for row in children(rows).values():
        is_failed = row["backupSetId"] in fact.backup_set_ids
        assert row["status"] == ("FAILED" if is_failed else "DONE")
        if is_failed:
            assert (row["checkpoint"], row["dataBackupSize"], row["validity"]) == (None, 0, None)
            assert row["endTime"] is not None
    assert {row["status"] for row in rows} == {"DONE"}, "the others' sets are there"
    assert changed(rows, PLAIN.instances[0].tenants[0].tenant_id) == set()


def test_a_failed_run_of_everybody_is_a_failed_cluster_set() -> None:
    fact, rows = planted("failed", None, days=2)
    assert len(fact.backup_set_ids) == 2
    assert {r["backupSetId"] for r in rows if r["status"] == "FAILED"} == set(fact.backup_set_ids)
    failed = [row for row in rows if row["status"] == "FAILED"]
    assert {child["status"] for row in failed for child in row["tenantBackupSetList"]} == {"FAILED"}
    assert {(row["dataBackupSize"], row["checkpoint"]) for row in failed} == {(0, None)}


def test_an_invalid_set_is_done_and_not_valid() -> None:
    fact, rows = planted("invalid", days=4)
    assert changed(rows) == within(fact)
    for row in children(rows).values():
        is_hit = row["backupSetId"] in fact.backup_set_ids
        assert (row["status"], row["validity"]) == ("DONE", "INVALID" if is_hit else "VALID")


def test_a_stuck_run_takes_its_factor_longer() -> None:
    fact, rows = planted("stuck", None, factor=14)
    (stuck,) = fact.backup_set_ids
    assert changed(rows) == {stuck} == within(fact)
    assert took(children(rows)[stuck]) == pytest.approx(14 * took(OWN[stuck]), abs=14)
    assert children(rows)[stuck]["dataBackupSize"] == OWN[stuck]["dataBackupSize"]


def test_a_slower_tenant_stays_slower() -> None:
    fact, rows = planted("slower", factor=1.8)
    later = {r["backupSetId"] for r in ROWS if at(r["startTime"]) >= fact.start}
    assert fact.end == NOW
    assert changed(rows) == later
    assert len(later) == len(fact.backup_set_ids) == 20
    for each in later:
        assert took(children(rows)[each]) == pytest.approx(1.8 * took(OWN[each]), abs=2)
        assert children(rows)[each]["dataBackupSize"] == OWN[each]["dataBackupSize"]


@pytest.mark.parametrize(("kind", "sets"), [("step", 20), ("anomaly", 2)])
def test_size_changes_for_good_or_for_some_days(kind: str, sets: int) -> None:
    fact, rows = planted(kind, factor=1.6, days=2)
    assert changed(rows) == within(fact)
    assert len(fact.backup_set_ids) == sets
    for each in changed(rows):
        size = children(rows)[each]["dataBackupSize"]
        assert size == pytest.approx(1.6 * OWN[each]["dataBackupSize"], abs=0.02)
        assert took(children(rows)[each]) > took(OWN[each])


def test_a_tenant_is_created_with_a_full_set_whatever_the_run() -> None:
    fact, rows = planted("created")
    born = [row for row in rows if at(row["startTime"]) >= fact.start]
    assert set(children(rows)) == {row["backupSetId"] for row in born}
    first = children(rows)[born[0]["backupSetId"]]
    assert (born[0]["dataBackupMode"], first["dataBackupMode"]) == (
        "INCREMENTAL_BACKUP",
        "FULL_BACKUP",
    )
    assert fact.backup_set_ids == (first["backupSetId"],)


def test_a_dropped_tenant_is_in_no_later_set() -> None:
    fact, rows = planted("dropped")
    before = {row["backupSetId"] for row in rows if at(row["startTime"]) < fact.start}
    assert set(children(rows)) == before
    assert 0 < len(before) < len(rows)


def test_a_renamed_tenant_keeps_its_id() -> None:
    fact, rows = planted("renamed")
    names = {
        (at(row["startTime"]) >= fact.start, row["tenantName"]) for row in children(rows).values()
    }
    assert names == {(False, "billing"), (True, "billing_v2")}


def test_a_run_by_hand_is_one_more_full_one() -> None:
    fact, rows = planted("by_hand", None, days=0)
    assert len(rows) == len(ROWS) + 1
    (more,) = [row for row in rows if row["triggerMode"] == "BACKUP_NOW"]
    assert fact.backup_set_ids == (more["backupSetId"],)
    assert at(more["startTime"]) == fact.start
    assert {each["dataBackupMode"] for each in (more, *more["tenantBackupSetList"])} == {
        "FULL_BACKUP"
    }


def test_a_running_set_has_no_end_and_no_checkpoint() -> None:
    fact, rows = planted("running", None, days_ago=0.02, days=0)
    newest = rows[-1]
    assert fact.backup_set_ids == (newest["backupSetId"],)
    for each in (newest, *newest["tenantBackupSetList"]):
        assert (each["status"], each["endTime"], each["checkpoint"]) == ("DOING", None, None)
        assert each["dataBackupSize"] == 0
    assert {row["status"] for row in rows[:-1]} == {"DONE"}


def test_orphans_are_left_without_their_full_set() -> None:
    fact, rows = planted("orphaned", days=8)
    gone = {each for each in within(fact) if OWN[each]["dataBackupMode"] == "FULL_BACKUP"}
    assert len(gone) == 1
    assert changed(rows) == gone
    assert not gone & set(children(rows))
    assert set(fact.backup_set_ids) == {OWN[each]["backupSetId"] for each in gone}


def intervals(history: simulator.History, tenant: str = TENANT) -> list[tuple[dt.datetime, ...]]:
    (row,) = (row for row in history.restorable(ONE) if row["tenantId"] == tenant)
    return [(at(each["startTime"]), at(each["endTime"])) for each in row["timeIntervalList"]]


def fulls(history: simulator.History) -> list[dt.datetime]:
    """Return the checkpoints of the tenant's full sets that are listed."""
    rows = children(history.sets(ONE)[::-1]).values()
    return [at(row["checkpoint"]) for row in rows if row["dataBackupMode"] == "FULL_BACKUP"]


def test_without_a_break_everything_since_the_first_full_can_be_restored() -> None:
    assert intervals(PLAIN) == [(fulls(PLAIN)[0], NOW - dt.timedelta(minutes=2))]


def test_after_a_break_of_the_log_only_the_next_full_can_be_restored() -> None:
    history = simulate(scenario(Plant("log_break", 0, 1, 20.2, 2.5)))
    (fact,) = history.truth
    after = min(each for each in fulls(history) if each > fact.end)
    end = NOW - dt.timedelta(minutes=2)
    start = fact.start.replace(microsecond=0)
    assert intervals(history) == [(fulls(history)[0], start), (after, end)]
    assert len(intervals(history, PLAIN.instances[0].tenants[0].tenant_id)) == 1
    assert history.sets(ONE) == PLAIN.sets(ONE), "the sets themselves are as they were"


def test_a_break_that_covers_the_first_full_leaves_nothing_before_the_next() -> None:
    history = simulate(scenario(Plant("log_break", 0, 1, 41, 3)))
    (fact,) = history.truth
    first, *later = fulls(history)
    assert fact.start < first < fact.end < later[0]
    assert [begin for begin, _ in intervals(history)] == [later[0]]


def test_every_kind_of_plant_is_tried_above() -> None:
    above = Path(__file__).read_text(encoding="utf-8").split("def test_every_kind_of_plant")[0]
    tried = {*re.findall(r'(?:planted|Plant)\("(\w+)"', above), "step", "anomaly"}
    assert tried == set(simulator.PLANTS)


def test_what_would_plant_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no plant 'silence'; there is: created"):
        Plant("silence")
    with pytest.raises(ValueError, match="dropped happens to one tenant: say which"):
        Plant("dropped")


# What is listed.


def bodies(history: simulator.History) -> dict[str, bytes]:
    return dict(simulator.pages_as_files(history, 7))


def test_the_same_seed_makes_the_same_bytes_and_another_makes_others() -> None:
    plants = (Plant("failed", 0, 1, 20, 3), Plant("running", 0, None, 0.02, 0))
    first = bodies(simulate(scenario(*plants)))
    assert first == bodies(simulate(scenario(*plants)))
    other = bodies(simulate(scenario(*plants, seed=12)))
    assert not set(first.values()) & set(other.values())


def test_no_id_is_given_twice() -> None:
    history = simulate(scenario(instances=4, tenants=9))
    rows = [row for each in history.instances for row in history.sets(each.instance_id)]
    ids = [each["backupSetId"] for row in rows for each in (row, *row["tenantBackupSetList"])]
    assert len(ids) == len(set(ids)) == 4 * 40 * 10
    tenants = [tenant.tenant_id for each in history.instances for tenant in each.tenants]
    assert len(set(tenants)) == len(tenants)


def json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "text", list: "list", dict: "object"}
    return names[type(value)]


def shape(row: Row) -> dict[str, str]:
    """Return the type of every field; a size may happen to be whole."""
    return {name: json_type(value) for name, value in row.items()} | {"dataBackupSize": "number"}


def test_rows_look_like_the_documented_example() -> None:
    example = json.loads((DATA / "example-response.json").read_text(encoding="utf-8"))
    page = json.loads(simulator.dump(PLAIN, ONE, 100)[0])
    assert {k: json_type(v) for k, v in page.items()} == {
        k: json_type(v) for k, v in example.items()
    }
    assert set(page["data"]) == set(example["data"])
    assert page["data"]["total"] == len(page["data"]["dataList"]) == 40
    (wanted,) = example["data"]["dataList"]
    for row in page["data"]["dataList"]:
        assert shape(row) == shape(wanted)
        for child in row["tenantBackupSetList"]:
            assert shape(child) == shape(wanted["tenantBackupSetList"][0])
            assert child["backupSetId"].rsplit("-", 1)[0] == row["backupSetId"]
            assert row["startTime"] <= child["startTime"] < child["checkpoint"] < child["endTime"]
            assert child["endTime"] <= row["endTime"]
        assert (row["tenantId"], row["tenantName"]) == ("sys", "*")
        assert row["startTime"] < row["checkpoint"] <= row["endTime"]


def test_unfinished_rows_have_the_same_fields() -> None:
    _, rows = planted("running", None, days_ago=0.02, days=0)
    assert set(rows[-1]) == set(rows[0])
    assert set(rows[-1]["tenantBackupSetList"][0]) == set(rows[0]["tenantBackupSetList"][0])


@pytest.mark.parametrize("kind", ["missing", "failed", "orphaned", "step"])
def test_the_clusters_size_is_the_sum_of_its_tenants(kind: str) -> None:
    _, rows = planted(kind, days=9)
    for row in rows:
        sizes = [child["dataBackupSize"] for child in row["tenantBackupSetList"]]
        assert row["dataBackupSize"] == round(sum(sizes), 2)


def test_sets_are_listed_newest_first() -> None:
    starts = [row["startTime"] for row in PLAIN.sets(ONE)]
    assert starts == sorted(starts, reverse=True)


def test_the_list_of_an_earlier_instant_shows_what_ran_then() -> None:
    run = PLAIN.instances[0].runs[20]
    first, _, last = run["children"]
    moment = run["start"] + dt.timedelta(seconds=13)
    row = PLAIN.sets(ONE, moment)[0]
    assert (row["backupSetId"], row["status"], row["endTime"]) == (run["id"], "DOING", None)
    assert [c["status"] for c in row["tenantBackupSetList"]] == ["DOING", "DOING"], "one to come"
    by_end = sorted(run["children"], key=lambda child: child["end"])
    row = PLAIN.sets(ONE, by_end[0]["end"])[0]
    states = {c["backupSetId"]: c["status"] for c in row["tenantBackupSetList"]}
    assert states == {first["id"]: "DOING", by_end[1]["id"]: "DOING", last["id"]: "DOING"} | {
        by_end[0]["id"]: "DONE"
    }
    assert row["dataBackupSize"] == round(by_end[0]["size"], 2)
    assert PLAIN.sets(ONE, run["end"])[0]["status"] == "DONE"
    assert PLAIN.sets(ONE, run["start"] - DAY / 86400)[0]["backupSetId"] != run["id"]


def test_what_is_done_never_changes_afterwards() -> None:
    final = {row["backupSetId"]: row for row in PLAIN.sets(ONE)}
    for hours in range(0, 40 * 24, 7):
        rows = PLAIN.sets(ONE, NOW - dt.timedelta(hours=hours))
        done = [row for row in rows if row["status"] == "DONE"]
        assert all(row == final[row["backupSetId"]] for row in done)
        assert len(done) >= len(rows) - 1


# What expires.


def run(number: int, day: int, mode: str = "FULL_BACKUP", status: str = "DONE") -> Row:
    end = dt.datetime(2026, 1, day, 12, tzinfo=dt.UTC)
    return {"id": str(number), "end": end, "mode": mode, "status": status}


INC = "INCREMENTAL_BACKUP"
GOLDEN = [run(1, 1), run(2, 4, INC), run(3, 7), run(4, 11, INC), run(5, 14)]


def january(day: int, hour: int = 12) -> dt.datetime:
    return dt.datetime(2026, 1, day, hour, tzinfo=dt.UTC)


def test_the_vendors_example_of_retention() -> None:
    assert expired(GOLDEN, january(15), 7) == {"1", "2"}


@pytest.mark.parametrize(
    ("moment", "days", "gone"),
    [
        (january(14, 11), 7, set()),  # set 3 ended less than 7 days ago: 1 has to stay
        (january(14, 12), 7, {"1", "2"}),  # to the hour: the bound is inclusive
        (january(15), None, set()),
        (january(31), 7, {"1", "2", "3", "4"}),  # the last good one stays for ever
        (january(18), 7, {"1", "2"}),  # an incremental after the kept full stays
    ],
)
def test_the_bounds_of_retention(moment: dt.datetime, days: int | None, gone: set[str]) -> None:
    assert expired(GOLDEN, moment, days) == gone


def test_a_failed_set_is_no_base_and_goes() -> None:
    runs = [run(1, 1), run(2, 5, status="FAILED"), run(3, 6, INC), run(4, 20)]
    assert expired(runs, january(21), 7) == {"2"}
    assert expired(runs, january(10), 7) == set(), "it ended less than 7 days ago"


def test_what_a_history_lists_obeys_its_recovery_window() -> None:
    """Kept is the newest good full that ended at or before the window's start, and what follows."""
    whole = simulate(scenario(days=60))
    short = simulate(scenario(days=60, retention_days=10))
    for days_ago in range(0, 60, 3):
        moment = NOW - days_ago * DAY
        rows = whole.sets(ONE, moment)
        bound = f"{moment - 10 * DAY:%Y-%m-%dT%H:%M:%SZ}"
        old = [r for r in rows if (r["endTime"] or "~") <= bound]
        base = next((r for r in old if r["dataBackupMode"] == "FULL_BACKUP"), rows[-1])
        assert short.sets(ONE, moment) == rows[: rows.index(base) + 1]


# What is served.


def test_the_digest_is_that_of_the_standards_own_examples() -> None:
    parts = {
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
    }
    identity, request = "Mufasa:http-auth@example.org:Circle of Life", "GET:/dir/index.html"
    assert response(parts, "MD5", identity, request) == "8ca523f5e9506fed4657c9700eebdbec"
    assert (
        response(parts, "SHA-256", identity, request)
        == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    )
    older = {"nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093"}
    identity = "Mufasa:testrealm@host.com:CircleOfLife"
    assert response(older, "MD5", identity, request) == "1949323746fe6a43ef61f9606e7febea"


def signed(gate: simulator.DigestGate, count: int, nonce: str, **changes: str) -> str:
    parts = {"nonce": nonce, "nc": f"{count:08x}", "cnonce": "c", "qop": "auth"}
    identity = f"{gate.user}:{gate.realm}:{gate.secret}"
    parts["response"] = response(parts, gate.algorithm, identity, "GET:/a")
    parts |= {"username": gate.user, "realm": gate.realm, "uri": "/a"} | changes
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in parts.items())


def nonce_of(headers: dict[str, str], name: str = "WWW-Authenticate") -> str:
    match = re.search(r'nonce="(\w+)"', headers[name])
    assert match is not None
    return match[1]


@pytest.mark.parametrize(
    ("policy", "counts", "let_in"),
    [
        ("reuse", [1, 1, 5, 2], "yyyy"),
        ("strict", [1, 3, 2, 3, 4], "yynny"),
        ("strict_shared", [1, 3, 2, 3], "yyyn"),
        ("window", [2, 1, 1, 3], "yyny"),
        ("expiring", [*range(1, 12)], "yyyyyyyyyyn"),
        ("one_time", [1, 2], "yn"),
        ("one_time_nextnonce", [1, 2], "yn"),
    ],
)
def test_nonce_policies(policy: str, counts: list[int], let_in: str) -> None:
    gate = simulator.DigestGate("u", "s", policy=policy)
    nonce = nonce_of({"WWW-Authenticate": gate.challenge()})
    judged = [gate.judge(signed(gate, count, nonce), "GET", "/a") for count in counts]
    assert "".join("y" if good else "n" for good, _ in judged) == let_in
    for good, headers in judged:
        assert ("stale=true" in headers.get("WWW-Authenticate", "")) == (not good)
        following = headers.get("Authentication-Info", "")
        assert ("nextnonce" in following) == (good and policy == "one_time_nextnonce")
    if policy == "one_time_nextnonce":
        following = nonce_of(judged[0][1], "Authentication-Info")
        assert gate.judge(signed(gate, 1, following), "GET", "/a")[0]


def test_what_is_not_signed_with_the_key_is_refused_and_not_called_stale() -> None:
    gate = simulator.DigestGate("u", "s")
    nonce = nonce_of({"WWW-Authenticate": gate.challenge()})
    good = signed(gate, 1, nonce)
    assert gate.judge(good, "GET", "/a")[0]
    for header, method, target in (
        ("", "GET", "/a"),
        ("Basic dTpz", "GET", "/a"),
        (signed(replace(gate, secret="x"), 2, nonce), "GET", "/a"),  # noqa: S106 - it opens nothing
        (signed(gate, 2, nonce, username="v"), "GET", "/a"),
        (signed(gate, 2, nonce, realm="elsewhere"), "GET", "/a"),
        (good, "GET", "/b"),
        (good, "POST", "/a"),
    ):
        let_in, headers = gate.judge(header, method, target)
        assert not let_in
        assert "stale" not in headers["WWW-Authenticate"]
    invented, headers = gate.judge(signed(gate, 1, "f" * 24), "GET", "/a")
    assert not invented
    assert "stale=true" in headers["WWW-Authenticate"], "the key is right, the nonce is not ours"


SETS = f"/api/v2/instances/{ONE}/backup/data/sets"


def asked(query: dict[str, str], **options: Any) -> tuple[list[str], int]:
    """Return the ids on a page, and the total."""
    with simulator.SimulatorServer(PLAIN, **options) as server:
        data = server.answer(SETS, query).document["data"]
    return [row["backupSetId"] for row in data["dataList"]], data["total"]


IDS = [row["backupSetId"] for row in PLAIN.sets(ONE)]


@pytest.mark.parametrize(
    ("query", "options", "begin", "end"),
    [
        ({}, {}, 0, 10),
        ({"pageSize": "7", "pageNumber": "3"}, {}, 14, 21),
        ({"pageSize": "7", "pageNumber": "6"}, {}, 35, 40),
        ({"pageSize": "7", "pageNumber": "7"}, {}, 40, 40),
        ({"pageSize": "31", "pageNumber": "2"}, {"page_limit": 30}, 20, 40),
        (
            {"pageSize": "31", "pageNumber": "2"},
            {"page_limit": 30, "skip_by_asked_size": True},
            31,
            40,
        ),
    ],
)
def test_pages(query: dict[str, str], options: dict[str, Any], begin: int, end: int) -> None:
    assert asked(query, **options) == (IDS[begin:end], 40)


@pytest.mark.parametrize("rule", ["start", "end", "overlap", "ignore"])
def test_window_rules(rule: str) -> None:
    rows = PLAIN.sets(ONE)
    start, end = rows[9]["endTime"], rows[3]["startTime"]
    window = {"startTime": start, "endTime": end, "pageSize": "100"}
    expected = {"start": IDS[3:9], "end": IDS[4:10], "overlap": IDS[3:10], "ignore": IDS}[rule]
    assert asked(window, window_rule=rule) == (expected, len(expected))


def test_what_there_is_not() -> None:
    with simulator.SimulatorServer(PLAIN) as server:
        for path in ("/", "/api/v2/instances/nobody", f"{SETS}/nothing", f"{SETS}/a/b"):
            answer = server.answer(path, {})
            assert (answer.status, answer.document["success"]) == (404, False)


def curl(*arguments: str) -> str:
    program = shutil.which("curl")
    if program is None and os.environ.get("CI"):
        pytest.fail("curl is not installed (Debian package: curl)")
    if program is None:
        pytest.skip("curl is not installed (Debian package: curl)")
    options = ("--silent", "--show-error", "--noproxy", "*", "--digest")
    done = subprocess.run(
        (program, *options, *arguments), capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


@pytest.mark.parametrize("policy", ["reuse", "one_time"])
@pytest.mark.parametrize("qop", ["auth", ""])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_curl_can_read_it(algorithm: str, qop: str, policy: str) -> None:
    options = {"algorithm": algorithm, "qop": qop, "nonce_policy": policy}
    with simulator.SimulatorServer(PLAIN, **options) as server:
        query = ("-G", "-d", "pageSize=2", "--data-urlencode", "endTime=2026-10-20T00:00:00Z")
        page = json.loads(curl("-u", ":".join(simulator.KEY), *query, server.url + SETS))
        status = curl("-u", "demo-key-id:wrong", "-w", "%{http_code}", server.url + SETS)
    listed = [row["backupSetId"] for row in page["data"]["dataList"]]
    assert page["success"] is True
    assert (
        listed == [r["backupSetId"] for r in PLAIN.sets(ONE) if r["startTime"] < "2026-10-20"][:2]
    )
    assert status.endswith("401")
    assert [request.status for request in server.requests] == [401, 200, 401, 401]
    assert "%3A" in server.requests[1].headers["Authorization"].upper()


# What is bundled.


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): gzip.decompress(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_bundled_sample_is_what_its_command_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = re.search("```\nobanalytics (.*)\n```", (DATA / "README.md").read_text("utf-8"))
    assert command is not None
    words = command[1].split()
    assert words == ["simulate", "--now", "2026-11-01T06:00Z", "--write", "data/sample"]
    assert cli.main([*words[:-1], str(tmp_path / "sample")]) == 0
    assert "written" in capsys.readouterr().out
    written, bundled = contents(tmp_path / "sample"), contents(DATA / "sample")
    assert list(written) == list(bundled)
    assert [name for name in written if written[name] != bundled[name]] == []


WORDS = {
    "log_break": "no logs, {days} days "
    "(only the list of restorable intervals shows it, which files have not)",
    "stuck": "a run takes {factor} times as long",
    "step": "its data is {factor} times as large from then on",
    "failed": "its runs fail, {days} days",
    "created": "the tenant is created",
    "renamed": "the tenant gets another name",
    "silent": "no run at all, {days} days",
    "dropped": "the tenant is dropped",
    "slower": "throughput divided by {factor} from then on",
    "invalid": "done, but not valid, {days} days",
    "anomaly": "its set is {factor} times as large, one day",
    "missing": "the tenant is in no cluster set, {days} days",
    "by_hand": "one more full run, by hand",
    "running": "the newest run is not finished",
    "orphaned": "its full set is gone from the list, its incrementals are not, {days} day",
}


def described(fact: simulator.Planted, names: dict[str, str]) -> tuple[str, str, str]:
    """Return one line of the table as it should be."""
    days = f"{(fact.end - fact.start) / DAY:g}"
    what = WORDS[fact.kind].format(factor=f"{fact.factor:g}", days=days)
    who = "all tenants" if fact.tenant_id is None else names[fact.tenant_id]
    return f"{fact.start:%Y-%m-%d %H:%M}", what, f"{who} of `{fact.instance_id}`"


def test_the_readme_of_the_sample_tells_the_truth() -> None:
    text = (DATA / "README.md").read_text(encoding="utf-8")
    table = text.split("| from [UTC] | what | where |\n|---|---|---|\n")[1].split("\n\n")[0]
    told = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()
    ]
    history = simulator.demo(NOW)
    names = {t.tenant_id: t.name for each in history.instances for t in each.tenants}
    facts = sorted(history.truth, key=lambda fact: fact.start)
    assert told == [described(fact, names) for fact in facts]
    assert {each.instance_id for each in history.instances} == {
        path.name for path in (DATA / "sample").iterdir()
    }
