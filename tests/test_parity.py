"""Cluster sets against tenants: a slow second way, worked cases, and the simulator's truth."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from effort import examples
from histories import at
from hypothesis import given, settings
from hypothesis import strategies as st
from test_presence import Child, Cluster, History, Listed, histories, numbered, verdicts

import obanalytics as ob
from obanalytics import presence, simulator
from obanalytics.curve import scene_of
from obanalytics.errors import DataError
from obanalytics.frames import empty
from obanalytics.parity import PARITY, PRESENCES, tenant_parity
from obanalytics.schema import BackupSets
from obanalytics.simulator import Plant, Scenario

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["instance_id", "tenant_id", "cluster_backup_set_id"]
Cell = tuple[str, str, str]
NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)


def cells(table: pd.DataFrame) -> dict[Cell, str]:
    keys = table[KEYS].astype("str").itertuples(index=False, name=None)
    made = dict(zip(keys, table["presence"], strict=True))
    assert len(made) == len(table)
    return made


def of(table: pd.DataFrame, tenant: str, instance: str = "ob1") -> list[str]:
    """Return what is said of a tenant, cluster set by cluster set."""
    mine = table[(table["tenant_id"] == tenant) & (table["instance_id"] == instance)]
    return list(mine["presence"])


def parity(history: History, **changes: Any) -> pd.DataFrame:
    return tenant_parity(history.sets(), **(history.asked() | changes))


def daily(days: int, *held: tuple[str, range], **changes: Any) -> History:
    """Return a set a day, and the tenants that are in some of them; the first is a full."""
    clusters = [Cluster(f"c{day}", 24 * day, end=24 * day + 2) for day in range(days)]
    children = [
        Child(f"c{day}", tenant, 24 * day, end=24 * day + 1, full=day == when[0])
        for tenant, when in held
        for day in when
    ]
    return History(clusters, children, **changes)


# --- against the second way ----------------------------------------------------------------------


@settings(max_examples=examples(150), deadline=None)
@given(histories(), st.integers(0, 50))
def test_parity_agrees_with_the_second_way(history: History, seed: int) -> None:
    history.children = numbered(history.children)
    table = tenant_parity(history.sets(seed), **history.asked())
    expected = {
        (*key, row["set"]["id"]): row
        for key, verdict in verdicts(history).items()
        for row in verdict.rows
    }
    assert cells(table) == {key: row["presence"] for key, row in expected.items()}
    for row in table.itertuples():
        key = str(row.instance_id), str(row.tenant_id), str(row.cluster_backup_set_id)
        one, child = expected[key]["set"], expected[key]["child"]
        assert (row.start_time is pd.NaT) == (one["start"] is None)
        assert one["start"] is None or row.start_time == at(one["start"])
        assert row.cluster_state == one["state"]
        if child is None:
            assert pd.isna(row.state)
            assert row.backup_set_id is pd.NA
            assert row.full is pd.NA
        else:
            assert (row.state, row.backup_set_id) == (child.state, child.id)
            assert (None if row.full is pd.NA else row.full) == child.full


@settings(max_examples=examples(100), deadline=None)
@given(histories(), st.integers(0, 50))
def test_the_order_of_rows_and_the_argument_do_not_matter(history: History, seed: int) -> None:
    history.children = numbered(history.children)
    sets = history.sets()
    before = sets.clusters.copy(), sets.tenants.copy()
    table = tenant_parity(sets, **history.asked())
    pd.testing.assert_frame_equal(sets.clusters, before[0])
    pd.testing.assert_frame_equal(sets.tenants, before[1])
    shuffled = tenant_parity(history.sets(seed), **history.asked())
    pd.testing.assert_frame_equal(table, shuffled)
    starts = table["start_time"].fillna(at(9999))
    order = list(zip(starts.isna(), table["instance_id"].astype("str"), starts, strict=True))
    dated = [each for each in order if each[2] != at(9999)]
    assert dated == sorted(dated)


def named(history: History) -> History:
    """Return the cluster sets that the rows of tenants name."""
    kinds = {"DATABASE", "TABLE"}
    groups: dict[tuple[str, str], list[Child]] = {}
    for row in history.children:
        known = row.start is None or row.start <= history.now
        if known and row.cluster is not None and (row.kind or "").upper() not in kinds:
            groups.setdefault((row.instance, row.cluster), []).append(row)
    made = []
    for (instance, name), rows in groups.items():
        states = {
            "running" if row.end is not None and row.end > history.now else row.state
            for row in rows
        }
        order = ("running", "done", "unknown", "expired", "failed", "cancelled")
        state = next(each for each in order if each in states)
        start = min((row.start for row in rows if row.start is not None), default=None)
        hand = any((row.trigger or "").upper() == "BACKUP_NOW" for row in rows)
        made.append(Cluster(name, start, state, instance, trigger="BACKUP_NOW" if hand else None))
    return replace(history, clusters=made, inventory=None)


@settings(max_examples=examples(120), deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_a_plain_frame_has_the_cluster_sets_that_its_rows_name(
    history: History, random: Any
) -> None:
    history.children = numbered(history.children)
    for row in history.children:
        row.trigger = random.choice(["AUTO", "AUTO", None, "backup_now"])
    table = tenant_parity(history.sets().tenants, **history.asked())
    expected = {
        (*key, row["set"]["id"]): row["presence"]
        for key, verdict in verdicts(named(history)).items()
        for row in verdict.rows
    }
    assert cells(table) == expected
    assert table["size_share"].isna().all()


# --- cases worked by hand ------------------------------------------------------------------------


def test_absent_from_two_is_missing_from_three_gone() -> None:
    for absent, word in ((1, "missing"), (2, "missing"), (3, "gone"), (4, "gone")):
        history = daily(6, ("a", range(6)), ("b", range(6 - absent)))
        assert of(parity(history), "b") == ["present"] * (6 - absent) + [word] * absent
        assert of(parity(history), "a") == ["present"] * 6


def test_absent_and_back_again_is_missing_however_long() -> None:
    history = daily(9, ("a", range(9)), ("b", range(9)))
    history.children = [c for c in history.children if c.tenant != "b" or c.start in {0, 192}]
    assert of(parity(history), "b") == ["present", *["missing"] * 7, "present"]


def test_the_inventory_overrides_both_ways() -> None:
    listed = [Listed("a"), Listed("b")]
    history = daily(9, ("a", range(9)), ("b", range(4)), inventory=listed)
    assert of(parity(history), "b")[4:] == ["missing"] * 5
    history = daily(9, ("a", range(9)), ("b", range(8)), inventory=listed[:1])
    assert of(parity(history), "b")[8:] == ["gone"]
    # Where no tenant at all is listed, nothing is known of any.
    history = daily(9, ("a", range(9)), ("b", range(8)), inventory=[Listed(None)])
    assert of(parity(history), "b")[8:] == ["missing"]


@pytest.mark.parametrize("word", ["STOPPED", "stopped", "Offline", "ARREARS_CLOSED"])
def test_what_is_stopped_owes_nothing(word: str) -> None:
    for listed in (Listed("b", instance_status=word), Listed("b", status=word)):
        history = daily(9, ("b", range(4)), inventory=[listed])
        assert of(parity(history), "b") == ["present"] * 4
    for owing in ("ONLINE", "PENDING_STOP", "something new", None):
        history = daily(9, ("b", range(4)), inventory=[Listed("b", status=owing)])
        assert of(parity(history), "b") == ["present"] * 4 + ["missing"] * 5


def test_an_older_as_of_is_not_judged_by_a_newer_inventory() -> None:
    history = daily(9, ("a", range(9)), ("b", range(7)), inventory=[Listed("a")])
    history.children = [c for c in history.children if (c.tenant, c.start) != ("b", 72)]
    assert of(parity(history), "b") == [
        *["present"] * 3,
        "missing",
        *["present"] * 3,
        *["gone"] * 2,
    ]
    then = parity(history, as_of=at(80))  # it is back in the next set
    assert of(then, "b") == [*["present"] * 3, "missing"]


def test_a_set_by_hand_expects_those_that_it_holds() -> None:
    history = daily(4, ("a", range(4)), ("b", range(4)))
    history.clusters.append(Cluster("hand", 30, trigger="backup_now"))
    history.children.append(Child("hand", "b", 30, "failed"))
    table = parity(history)
    assert of(table, "a") == ["present"] * 4
    assert of(table, "b") == ["present", "present", "failed", "present", "present"]
    for one in history.clusters:  # all are by hand: then all tenants are expected
        one.trigger = "BACKUP_NOW"
    assert of(parity(history), "a") == ["present", "present", "missing", "present", "present"]


def test_a_new_tenant_has_grace_until_its_first_full() -> None:
    history = daily(8, ("a", range(8)), ("b", range(3, 8)))
    for child in history.children:
        if child.tenant == "b":
            child.full = child.start == 5 * 24
    history.children = [c for c in history.children if (c.tenant, c.start) != ("b", 96)]
    assert of(parity(history), "b") == ["new", "new", "new", "present", "present"]
    history.inventory = [Listed("a", created=-100), Listed("b", created=40)]
    assert of(parity(history), "b") == ["new", "new", "new", "new", "present", "present"]
    # The inventory proves that it was there before the first set: then it was missing.
    history.inventory = [Listed("a", created=-100), Listed("b", created=-50)]
    assert of(parity(history), "b") == ["missing"] * 3 + ["present", "missing"] + ["present"] * 3


def test_who_was_created_while_a_set_ran_is_not_expected_in_it() -> None:
    history = daily(4, ("a", range(4)), ("b", range(2, 4)))
    history.inventory = [Listed("a"), Listed("b", created=25)]
    assert of(parity(history), "b") == ["new", "present"]


def test_a_rename_is_the_same_tenant() -> None:
    history = daily(8, ("a", range(8)))
    for child in history.children:
        child.name = "old" if (child.start or 0) < 100 else "renamed"
    table = parity(history)
    assert of(table, "a") == ["present"] * 8
    assert set(table["tenant_name"]) == {"renamed"}


def test_dropped_and_created_again_are_two_tenants() -> None:
    history = daily(9, ("x", range(9)), ("old", range(4)), ("young", range(4, 9)))
    for child in history.children:
        child.name = "x" if child.tenant == "x" else "orders"
    table = parity(history)
    assert of(table, "old") == ["present"] * 4 + ["gone"] * 5
    assert of(table, "young") == ["new"] + ["present"] * 4
    found = kernel(history.sets())
    tenants = ["old", "x", "young"]
    assert [tenants[0], tenants[2]] == ["old", "young"]
    assert found.old_tenant.tolist() == [0]
    assert found.again_tenant.tolist() == [2]
    for child in history.children:  # another name, another tenant
        child.name = child.tenant
    assert not len(kernel(history.sets()).old_tenant)


def kernel(sets: BackupSets) -> presence.Presence:
    scene = scene_of(sets, None, None, None)
    found = presence.presence_of(scene, presence.lives_of(scene, sets))
    assert found is not None
    return found


def test_one_cluster_set_tells_nothing_of_who_is_missing() -> None:
    history = daily(1, ("a", range(1)), ("b", range(1)))
    table = parity(history)
    assert list(table["presence"]) == ["present", "present"]
    history.inventory = [Listed("a"), Listed("b"), Listed("c"), Listed("d", created=2000)]
    sets = history.sets()
    scene = scene_of(sets, None, None, at(1000))
    lives = presence.lives_of(scene, sets)
    assert list(lives.unprotected["tenant_id"]) == ["c"]  # d is not created yet


def test_two_clusters_may_share_names_and_ids() -> None:
    one = daily(6, ("a", range(6)), ("b", range(6)))
    other = daily(6, ("a", range(6)), ("b", range(2)))
    for row in (*other.clusters, *other.children):
        row.instance = "ob2"
    history = History(one.clusters + other.clusters, one.children + other.children)
    table = parity(history)
    assert of(table, "b") == ["present"] * 6
    assert of(table, "b", "ob2") == ["present"] * 2 + ["gone"] * 4


def test_an_id_of_another_instance_holds_nothing() -> None:
    history = daily(4, ("a", range(4)), ("b", range(4)))
    history.clusters.append(Cluster("other", 0, instance="ob2"))
    history.children += [Child("other", "z", 0, instance="ob2")]
    history.children = [
        replace(c, cluster="other") if (c.tenant, c.start) == ("b", 24) else c
        for c in history.children
    ]
    assert of(parity(history), "b") == ["present", "missing", "present", "present"]


def test_a_running_set_is_not_judged_and_a_failed_one_expects_nobody() -> None:
    history = daily(4, ("a", range(3)), ("b", range(2)))
    history.clusters[3].state = "running"
    history.children.append(Child("c3", "b", 72, "running"))
    assert of(parity(history), "a") == ["present"] * 3
    assert of(parity(history), "b") == ["present", "present", "missing", "running"]
    history.clusters[3].state = "failed"
    assert of(parity(history), "a") == ["present"] * 3


def test_copies_in_two_storage_classes_are_one_set() -> None:
    history = daily(3, ("a", range(3)), ("b", range(2)))
    history.children = numbered(history.children)
    history.clusters += [replace(c, storage="archive") for c in history.clusters]
    history.children += [replace(c, storage="archive") for c in history.children]
    table = parity(history)
    assert of(table, "a") == ["present"] * 3
    assert of(table, "b") == ["present", "present", "missing"]


def test_sets_of_databases_and_tables_are_no_sets_of_the_tenant() -> None:
    history = daily(4, ("a", range(4)), ("b", range(4)))
    for child in history.children:
        if child.tenant == "b" and child.start in {24, 48}:
            child.kind = "table"
    assert of(parity(history), "b") == ["present", "missing", "missing", "present"]


def test_shares_are_of_the_cluster_sets_size() -> None:
    history = daily(3, ("a", range(3)), ("b", range(2)))
    for child in history.children:
        child.size = 3.0 if child.tenant == "a" else 1.0
    for one, size in zip(history.clusters, (4.0, 0.0, None), strict=True):
        one.size = size
    table = parity(history).fillna({"size_share": -1.0})
    assert list(table["size_share"]) == [0.75, 0.25, -1.0, -1.0, -1.0, -1.0]
    assert list(table["size_gib"][:5]) == [3.0, 1.0, 3.0, 1.0, 3.0]


def test_rows_before_the_window_tell_only_who_was_there() -> None:
    history = daily(8, ("a", range(8)), ("b", range(6)))
    history.children = [c for c in history.children if (c.tenant, c.start) != ("b", 24)]
    late = history.sets().between(at(60), None)
    table = tenant_parity(late)
    assert of(table, "a") == ["present"] * 5  # not new: it was there before
    assert of(table, "b") == ["present"] * 3 + ["missing"] * 2
    part = tenant_parity(history.sets(), start=at(24), end=at(72))
    assert of(part, "a") == ["present", "present"]
    assert of(part, "b") == ["missing", "present"]


def test_empty_frames_have_the_same_columns() -> None:
    table = tenant_parity(ob.sample())
    nothing = (
        tenant_parity(empty("tenants")),
        tenant_parity(BackupSets(empty("clusters"), empty("tenants"))),
        tenant_parity(daily(3, ("a", range(3))).sets(), start=at(500), end=at(600)),
        tenant_parity(History(daily(3).clusters, []).sets()),
    )
    assert [name for name, _ in PARITY] == list(table.columns)
    for made in (table, *nothing):
        assert made.dtypes.astype("str").equals(table.dtypes.astype("str"))
        assert list(made["presence"].cat.categories) == list(PRESENCES)
    assert not any(map(len, nothing))
    with pytest.raises(DataError):
        tenant_parity(pd.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="ends before it starts"):
        tenant_parity(ob.sample(), start="2026-02-01", end="2026-01-01")


# --- the simulator's truth -----------------------------------------------------------------------


def simulated(folder: Path, *plants: Plant, **changes: Any) -> tuple[Any, BackupSets]:
    history = simulator.simulate(Scenario(NOW, 3, **({"days": 90} | changes), plants=plants))
    for path, body in simulator.pages_as_files(history):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return history, ob.read(folder)


def test_a_clean_year_has_nothing_to_say(tmp_path: Path) -> None:
    _, sets = simulated(tmp_path, days=365, tenants=50)
    table = tenant_parity(sets)
    assert len(table) == len(sets.tenants) > 18_000
    assert set(table["presence"]) == {"present"}
    found = kernel(sets)
    for name in ("tenant", "new_tenant", "sized_row", "old_tenant"):
        assert not len(getattr(found, name)), name
    shares = table.groupby("cluster_backup_set_id")["size_share"].sum()
    assert ((shares - 1).abs() < 1e-6).all()


def test_what_was_planted_is_found_and_nothing_else(tmp_path: Path) -> None:
    plants = (
        Plant("missing", 0, 1, 60.2, 5.0),
        Plant("failed", 0, 2, 30.2, 2.0),
        Plant("created", 0, 3, 20.0),
        Plant("dropped", 0, 4, 10.0),
        Plant("renamed", 0, 0, 15.0),
        Plant("by_hand", 0, None, 12.6, 0.0),
    )
    history, sets = simulated(tmp_path, *plants, tenants=6)
    truth = {each.kind: each for each in history.truth}
    ids = [tenant.tenant_id for tenant in history.instances[0].tenants]
    starts = [(run["start"], run["id"], run["trigger"]) for run in history.instances[0].runs]

    def within(kind: str, *, by_hand: bool = False) -> set[str]:
        fact = truth[kind]
        return {
            name
            for start, name, trigger in starts
            if fact.start <= start < fact.end and (by_hand or trigger != "BACKUP_NOW")
        }

    first = min(start for start, _, _ in starts if start >= truth["created"].start)
    expected = {(ids[1], name): "missing" for name in within("missing")}
    expected |= {(ids[2], name): "failed" for name in within("failed")}
    expected |= {(ids[3], name): "new" for start, name, _ in starts if start == first}
    expected |= {(ids[4], name): "gone" for name in within("dropped")}
    table = tenant_parity(sets)
    odd = table[table["presence"] != "present"]
    keys = zip(odd["tenant_id"], odd["cluster_backup_set_id"], strict=True)
    assert dict(zip(keys, odd["presence"], strict=True)) == expected
    assert Counter(expected.values())["missing"] == 5
    newest = table.drop_duplicates("tenant_id", keep="last").set_index("tenant_id")["tenant_name"]
    assert newest[ids[0]].endswith("_v2")
    names = presence.KINDS
    found = kernel(sets)
    whose = sorted(ids)
    runs = {
        (whose[t], names[k]): c
        for t, k, c in zip(found.tenant, found.kind, found.count, strict=True)
    }
    counts = Counter((tenant, what) for (tenant, _), what in expected.items() if what != "new")
    assert runs == counts
    assert [whose[t] for t in found.new_tenant] == [ids[3]]
    assert found.new_full.tolist() == [True]
