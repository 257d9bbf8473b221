"""The archive forgets nothing: what it returns of an instant is what the service said then."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import deltalake
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import obanalytics as ob
from obanalytics import lake, ledger, simulator, syncing, upkeep
from obanalytics.errors import ArchiveError, ObanalyticsError
from obanalytics.inventories import STORED
from obanalytics.lake import bucket_of
from obanalytics.lakefiles import SCHEMA
from obanalytics.ledger import FACTS
from obanalytics.recall import FETCH
from tests.archives import (
    DAY,
    EDITS,
    END,
    Oracle,
    Service,
    assert_same_frames,
    errors_of,
    events_of,
    files_of,
    fleet,
    past,
    present,
    service,
    set_row,
    state_of,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    # Instances without tenants, and fields that are not known, are part of the histories.
    "ignore::obanalytics.errors.DataWarning"
)
UTC = dt.UTC
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: nothing crashes here; what does is in another file."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@cache
def history() -> simulator.History:
    return past()


# --- what was known when -------------------------------------------------------------------------

edits = st.lists(
    st.tuples(st.sampled_from(EDITS), st.integers(0, 2), st.integers(0, 9)), max_size=4
)
steps = st.lists(
    st.fixed_dictionaries(
        {
            "hours": st.integers(1, 200),
            "edits": edits,
            "since": st.none() | st.none() | st.integers(0, 400),
            "fails": st.sampled_from([None, None, None, 0, 1]),
            "then": st.sampled_from([None, None, None, None, 1, 4, "rebuild"]),
        }
    ),
    min_size=2,
    max_size=7,
)


class Told:
    """An archive that is told a story, and what else was there to know at every step."""

    def __init__(self, folder: Path) -> None:
        self.archive = ob.Archive(folder)
        self.service = service(history(), END - 25 * DAY, bare={history().instances[2].instance_id})
        self.oracle = Oracle()
        self.fresh: dict[pd.Timestamp, ob.BackupSets] = {}
        self.states: dict[pd.Timestamp, Any] = {}

    def step(self, hours: int, edits: Any, since: int | None, fails: int | None, then: Any) -> None:
        """Let time go by, change what is listed, sync, and look after the archive."""
        told = self.service
        told.now += hours * HOUR
        for kind, instance, place in edits:
            told.edit(kind, instance, place)
        told.failing = set() if fails is None else {told.ids[fails]}
        start = None if since is None else told.now - since * HOUR
        result = self.archive.sync(told, "all", start)
        assert set(result.failed) == told.failing
        answers = {i: told.listing(i) for i in told.ids if i not in told.failing}
        if start is not None:  # the archive asks for two days more
            begins = {i: self.oracle.start(i, start) - 2 * DAY for i in answers}
            answers = {i: told.listing(i, begins[i]) for i in answers}
        self.oracle.look(told.now, start, answers)
        assert result.as_of == pd.Timestamp(told.now)
        self.fresh.pop(result.as_of, None)
        if start is None:
            self.fresh[result.as_of] = ob.load("all", client=told, on_error="collect")
        self.states[result.as_of] = self.oracle.state()
        if then == "rebuild":
            self.archive.rebuild()
        elif then is not None:
            self.archive.compact(then)

    def check(self) -> None:
        """Compare every instant with what was known then."""
        for at, state in self.states.items():
            then = self.archive.load(as_of=at)
            assert state_of(then) == state
            fresh = self.fresh.get(at)
            if fresh is not None:
                assert then.as_of == fresh.as_of == at
                who = fresh.source.instances
                for one, other in zip(present(then, who), present(fresh), strict=True):
                    pd.testing.assert_frame_equal(one, other, check_exact=True)
        assert_same_frames(self.archive.load(), then)
        events = map(str, events_of(self.archive.changes()))
        assert sorted(events) == sorted(map(str, self.oracle.events))
        assert errors_of(self.archive.check()) == []


@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps)
def test_of_every_instant_the_archive_knows_what_a_fresh_load_returned_then(
    tmp_path_factory: pytest.TempPathFactory, story: list[dict[str, Any]]
) -> None:
    told = Told(tmp_path_factory.mktemp("told"))
    for step in story:
        told.step(**step)
    told.check()


def test_over_http_every_instant_is_known_before_and_after_the_archive_is_put_in_order(
    tmp_path: Path,
) -> None:
    (set_id,) = next(each.backup_set_ids for each in history().truth if each.kind == "stuck")
    run = next(each for each in history().instances[0].runs if each["id"] == set_id)
    running = run["start"] + (run["end"] - run["start"]) / 2
    instants = sorted([running, *(END - days * DAY for days in (30, 25, 17, 13, 4))])
    now = [instants[0]]
    broken = simulator.Fault("status", path=history().instances[1].instance_id, times=0)
    archive = ob.Archive(tmp_path / "archive")
    fresh: dict[Any, ob.BackupSets] = {}
    server = simulator.SimulatorServer(history(), clock=lambda: now[0], faults=[broken])
    with (
        server,
        ob.Client(*simulator.KEY, endpoint=server.url, project_id="p", max_attempts=1) as client,
    ):
        for run, now[0] in enumerate(instants):
            broken.times = 10**6 if run == 3 else 0
            result = archive.sync(client, "all")
            fresh[result.as_of] = ob.load("all", client=client, on_error="collect")
            assert len(result.failed) == (run == 3)

    def compare() -> None:
        for at, other in fresh.items():
            then = archive.load(as_of=at)
            for one, two in zip(present(then, other.source.instances), present(other), strict=True):
                pd.testing.assert_frame_equal(one, two, check_exact=True)
        assert errors_of(archive.check()) == []

    compare()
    changes, whole = archive.changes(), archive.load()
    assert {"new", "gone", "changed"} <= set(changes["what"])
    assert "DOING" in set(changes["before"].dropna()), "no set was seen running"
    for tidy in (lambda: archive.compact(4), archive.rebuild):
        tidy()
        compare()
        pd.testing.assert_frame_equal(archive.changes(), changes)
        assert_same_frames(archive.load(), whole)
    assert simulator.KEY[1].encode() not in b"".join(files_of(tmp_path).values())
    assert simulator.KEY[0].encode() not in b"".join(files_of(tmp_path).values())


def test_syncing_twice_changes_nothing(tmp_path: Path) -> None:
    archive, told = ob.Archive(tmp_path), service(history(), END - 20 * DAY)
    first = archive.sync(told, "all")
    assert first.new > 0
    before, changes = archive.load(), archive.changes()
    facts = {name for name in files_of(tmp_path) if "kind=cluster" in name or "kind=tenant" in name}
    second = archive.sync(told, "all")
    assert (second.new, second.changed, second.went) == (0, 0, 0)
    assert (second.sets, second.tenant_rows) == (first.sets, first.tenant_rows)
    assert_same_frames(archive.load(), before)
    pd.testing.assert_frame_equal(archive.changes(), changes)
    now = {name for name in files_of(tmp_path) if "kind=cluster" in name or "kind=tenant" in name}
    assert now == facts
    told.now += HOUR / 60
    third = archive.sync(told, "all")
    assert (third.new, third.changed, third.went) == (0, 0, 0)
    assert_same_frames(archive.load(), before)
    assert archive.load().as_of == pd.Timestamp(told.now)


@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(
    hours=st.lists(st.none() | st.integers(0, 700), min_size=2, max_size=3),
    order=st.randoms(use_true_random=False),
    edits=edits,
)
def test_windows_in_any_order_and_overlap_make_the_same_archive(
    tmp_path_factory: pytest.TempPathFactory, hours: list[int | None], order: Any, edits: Any
) -> None:
    made = []
    shuffled = [*hours, hours[0]]
    order.shuffle(shuffled)
    widest = [None] if None in hours else [max(hours)]  # type: ignore[type-var]
    folder = tmp_path_factory.mktemp("windows")
    told = service(history(), END - 18 * DAY)
    ob.Archive(folder / "before").sync(told, "all")
    told.now += 150 * HOUR
    for kind, *which in edits:
        if kind != "unstart":  # no window finds what begins nowhere
            told.edit(kind, *which)
    for number, windows in enumerate((hours, shuffled, widest)):
        archive = ob.Archive(shutil.copytree(folder / "before", folder / str(number)))
        for window in windows:
            archive.sync(told, "all", None if window is None else told.now - window * HOUR)
        made.append(archive)
    first = made[0].load()
    for other in made[1:]:
        assert_same_frames(other.load(), first)
        pd.testing.assert_frame_equal(other.changes(), made[0].changes())


# --- not there, and not asked --------------------------------------------------------------------


def one(*rows: dict[str, Any], now: dt.datetime = END) -> Service:
    """Serve one instance with these sets; the list can be changed."""
    listed = list(rows)
    made = Service(["ob1"], lambda *_: listed, now)
    made.listed = listed  # type: ignore[attr-defined]
    return made


def later(told: Service, *rows: dict[str, Any], hours: float = 24) -> None:
    """Let time go by; from then on the service lists other sets."""
    told.now += hours * HOUR
    told.listed[:] = rows  # type: ignore[attr-defined]


def test_what_was_not_asked_for_is_not_missed(tmp_path: Path) -> None:
    old, new = (set_row(f"bak-{n}", END - n * DAY, ["t1"]) for n in (9, 1))
    told = one(old, new)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told)
    result = archive.sync(told, "ob1", since=END - 2 * DAY)
    assert result.went == 2  # the young one, at both levels
    gone = archive.load().clusters.set_index("backup_set_id")["gone_time"]
    assert pd.isna(gone["bak-9"])
    assert gone["bak-1"] == pd.Timestamp(told.now)
    told.now += DAY
    assert archive.sync(told, "ob1", since=END - 9 * DAY + HOUR / 3600).went == 0
    assert archive.sync(told, "ob1", since=END - 9 * DAY).went == 2
    fetches = archive.fetches()
    assert fetches["asked_start"].isna().tolist() == [True, False, False, False]
    assert fetches["asked_start"].iloc[-1] == pd.Timestamp(END - 9 * DAY)
    assert fetches["went"].tolist() == [0, 2, 0, 2]
    assert fetches["ok"].all()
    assert any("from 2026" in note for note in archive.load().source.notes) is False


@pytest.mark.parametrize("start", [None, "2026-10-31T06:00:00Z"])
def test_a_set_without_a_start_or_an_end_is_missed_only_by_who_asks_for_everything(
    tmp_path: Path, start: str | None
) -> None:
    told = one(set_row("bak-1", END, ["t1"], startTime=start, endTime=None, status="DOING"))
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told)
    assert archive.sync(told, "ob1", since=END - 900 * DAY).went == 0
    assert archive.load().clusters["gone_time"].isna().all()
    assert archive.sync(told, "ob1").went == 2


def test_a_set_that_comes_back_was_first_seen_at_first(tmp_path: Path) -> None:
    row = set_row("bak-1", END - DAY, ["t1"])
    told = one(row)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told)
    archive.sync(told, "ob1")
    missing = archive.load()
    later(told, row)
    archive.sync(told, "ob1")
    back = archive.load()
    assert missing.tenants["gone_time"].tolist() == [pd.Timestamp(END + DAY)]
    assert back.tenants["gone_time"].isna().all()
    assert back.tenants["first_seen"].tolist() == [pd.Timestamp(END)]
    assert archive.changes()["what"].tolist() == ["new"] * 2 + ["gone"] * 2 + ["back"] * 2
    assert_same_frames(archive.load(as_of=END + DAY), missing)


def test_changes_say_which_field_was_what_and_is_what(tmp_path: Path) -> None:
    running = set_row("bak-1", END, ["t1"], status="DOING", endTime=None, checkpoint=None)
    running["tenantBackupSetList"][0] |= {"validity": None, "dataBackupSize": 0}
    told = one(running)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told, set_row("bak-1", END, ["t1"]))
    archive.sync(told, "ob1")
    changes = archive.changes(since=END)
    assert set(changes["what"]) == {"changed"}
    mine = changes[changes["level"] == "tenant"].set_index("field")
    assert sorted(mine.index) == ["checkpoint", "end_time", "size_gib", "status", "validity"]
    assert mine.loc["status", ["before", "after"]].tolist() == ["DOING", "DONE"]
    assert mine["before"].isna().sum() == 4  # 0 GiB of a running set is not known yet
    assert mine.loc["validity", "after"] == "VALID"
    assert float(mine.loc["size_gib", "after"]) == 10.0
    assert (mine["seen"] == pd.Timestamp(told.now)).all()
    assert (mine["tenant_name"] == "T1").all()
    # after `since`, not after `until`
    assert archive.changes(since=told.now).empty
    assert archive.changes(until=END - HOUR).empty
    assert len(archive.changes(until=END)) == 2
    assert archive.changes(instance_ids="ob1").equals(archive.changes())


# --- a copy in another class ---------------------------------------------------------------------


def moved(folder: Path, *, overlap: bool = False) -> tuple[ob.Archive, Service]:
    """Archive a full of 40 days ago that moves to the archive class, and a younger one."""
    full = set_row("bak-1", END - 40 * DAY, ["t1"])
    young = set_row("bak-2", END - 39 * DAY, ["t1"], dataBackupSize=11.0)
    away = set_row("bak-1", END - 40 * DAY, ["t1"], storageClass="archive")
    told = one(full, young, now=END - 38 * DAY)
    archive = ob.Archive(folder)
    archive.sync(told, "ob1")
    if overlap:
        later(told, full, away, young, hours=9 * 24)
        archive.sync(told, "ob1")
    later(told, away, young, hours=(20 if not overlap else 11) * 24)
    archive.sync(told, "ob1")
    return archive, told


@pytest.mark.parametrize("overlap", [False, True])
def test_a_changed_storage_class_is_a_move_and_no_loss(tmp_path: Path, overlap: bool) -> None:  # noqa: FBT001
    archive, told = moved(tmp_path, overlap=overlap)
    changes = archive.changes(since=END - 38 * DAY)
    assert "gone" not in set(changes["what"])
    moves = changes[changes["what"] == "moved"]
    assert moves["level"].tolist() == ["cluster", "tenant"]
    assert (
        moves[["field", "before", "after"]].to_numpy().tolist()
        == [["storage_class", "standard", "archive"]] * 2
    )
    assert (changes["what"] == "new").sum() == (2 if overlap else 0)
    assert (moves["seen"] == pd.Timestamp(told.now)).all()
    points = ob.restore_points(archive.load())
    assert set(points["backup_set_id"]) == {"bak-1-t1", "bak-2-t1"}
    assert points["restorable"].all()
    assert points["usable_until"].isna().all(), "there is another copy"
    later(told)
    archive.sync(told, "ob1")
    points = ob.restore_points(archive.load())
    assert (points["usable_until"] == pd.Timestamp(told.now)).all()


def test_a_set_that_moves_to_and_fro_moves_each_time(tmp_path: Path) -> None:
    archive, told = moved(tmp_path)
    later(told, set_row("bak-1", END - 40 * DAY, ["t1"]))
    archive.sync(told, "ob1")
    last = archive.changes(since=told.now - HOUR)
    last = last[last["backup_set_id"] == "bak-1-t1"]
    assert last["what"].tolist() == ["moved"]
    assert last[["before", "after"]].to_numpy().tolist() == [["archive", "standard"]]


def test_a_set_of_which_no_copy_was_left_went_though_one_came_back(tmp_path: Path) -> None:
    here = set_row("bak-1", END - DAY, ["t1"])
    away = set_row("bak-1", END - DAY, ["t1"], storageClass="archive")
    told = one(here, away)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    for rows in ([here], [], [away]):
        later(told, *rows)
        archive.sync(told, "ob1")
    changes = archive.changes(since=END)
    changes = changes[changes["level"] == "tenant"]
    assert changes[["what", "storage_class"]].to_numpy().tolist() == [
        ["moved", "archive"],
        ["gone", "standard"],
        ["back", "archive"],
    ]


def test_a_moved_set_is_stored_once_at_a_time(tmp_path: Path) -> None:
    archive, told = moved(tmp_path)
    stored = ob.stored_size(archive.load())
    whole = stored.groupby("time", observed=True)["stored_gib"].sum()
    assert whole.max() == pytest.approx(21.0), "both copies were counted at once"
    at_move = pd.Timestamp(told.now)
    shelf = stored.groupby(["time", "storage_class"], observed=True)["stored_gib"].sum()
    early = shelf[shelf.index.get_level_values("time") < at_move.floor("D")]
    archived = early[early.index.get_level_values("storage_class") == "archive"]
    assert archived.sum() == 0, "the copy was counted before it was there"


def test_growth_sees_a_moved_set_once(tmp_path: Path) -> None:
    kept = [
        set_row(f"bak-{n}", END - n * DAY, ["t1"], dataBackupSize=100.0 + (60 - n))
        for n in range(0, 60, 5)
    ]
    told = one(*kept)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    plain = ob.size_growth(archive.load())
    away = [
        set_row(
            f"bak-{n}",
            END - n * DAY,
            ["t1"],
            dataBackupSize=100.0 + (60 - n),
            **({"storageClass": "archive"} if n > 30 else {}),
        )
        for n in range(0, 60, 5)
    ]
    later(told, *away)
    archive.sync(told, "ob1")
    growth = ob.size_growth(archive.load(), as_of=END)
    assert len(archive.load().tenants) == len(kept) + 5  # 35 to 55 days: two rows each
    wanted = plain.drop(columns=[c for c in plain if "as_of" in c])
    pd.testing.assert_frame_equal(growth[wanted.columns], wanted)


# --- fleets: failures, deadlines, interruptions --------------------------------------------------


def test_an_instance_that_fails_is_told_of_and_the_others_are_kept(tmp_path: Path) -> None:
    told = fleet(3)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all")
    told.now += DAY
    told.failing = {"ob0001"}
    result = archive.sync(told, "all")
    assert result.failed == {"ob0001": "ob0001 is not in the mood"}
    assert result.instances == ("ob0000", "ob0002")
    assert "2 of 3 instances answered" in str(result)
    assert "1 failed" in str(result)
    last = archive.fetches().tail(3).set_index("instance_id")
    assert last["ok"].to_dict() == {"ob0000": True, "ob0001": False, "ob0002": True}
    assert last.loc["ob0001", "error"] == "ob0001 is not in the mood"
    assert pd.isna(last.loc["ob0001", "seen"])
    sets = archive.load()
    assert sets.tenants["gone_time"].isna().all(), "who failed has lost nothing"
    assert set(sets.tenants["instance_id"]) == set(told.ids)
    assert any("ob0001 failed: ob0001 is not in the mood" in note for note in sets.source.notes)
    assert sets.source.failed == {}


def test_who_never_answered_is_named_as_failed(tmp_path: Path) -> None:
    told = fleet(2)
    told.failing = {"ob0001"}
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all")
    assert archive.load().source.failed == {"ob0001": "ob0001 is not in the mood"}
    told.failing = set(told.ids)
    result = archive.sync(told, "all")
    assert (result.as_of, result.instances, len(result.failed)) == (None, (), 2)
    assert archive.load().source.instances == ("ob0000",)


def test_a_failure_of_later_is_none_of_then(tmp_path: Path) -> None:
    told = fleet(1)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all")
    told.now += DAY
    told.failing = {"ob0000"}
    archive.sync(told, "all")
    told.failing = set()
    told.now += DAY
    archive.sync(told, "all")
    for at in (END, END + 2 * DAY):
        assert archive.load(as_of=at).source.notes == (), at


def test_nobody_answered_says_so(tmp_path: Path) -> None:
    told = fleet(2)
    told.failing = set(told.ids)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all")
    with pytest.raises(ArchiveError, match="no fetch that was answered"):
        archive.load()
    assert "no fetch was answered" in repr(archive)
    assert len(archive.fetches()) == 2


def test_without_the_list_of_instances_nothing_is_written(tmp_path: Path) -> None:
    told = fleet(2)
    told.instances = list  # type: ignore[method-assign]
    with pytest.raises(ObanalyticsError, match="lists no instances"):
        ob.Archive(tmp_path).sync(told, "all")
    assert not any(tmp_path.rglob("*.parquet"))


class Interruption(BaseException):
    """What nobody catches, as where the process is told to end."""


def interrupt_after(told: Service, count: int) -> None:
    """Break off when so many more instances were asked; never again after that."""
    told.asked.clear()

    def before(_: str) -> None:
        if len(told.asked) > count:
            told.before = lambda _: None
            raise Interruption

    told.before = before


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Interrupt a run over 60 instances after its second commit."""
    folder = tmp_path_factory.mktemp("half")
    told = fleet(60)
    interrupt_after(told, 55)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("obanalytics.syncing.BATCH_INSTANCES", 25)
        patch.setattr("obanalytics.syncing.PART_INSTANCES", 20)
        with pytest.raises(Interruption):
            ob.Archive(folder).sync(told, "all")
    return folder, set(told.asked[:50])


def test_a_run_goes_on_where_the_last_one_was_interrupted(
    half_done: tuple[Path, set[str]], tmp_path: Path
) -> None:
    folder, kept = half_done
    archive = ob.Archive(shutil.copytree(folder, tmp_path / "archive"))
    assert set(archive.fetches()["instance_id"]) == kept
    told = fleet(60, END + HOUR)
    result = archive.sync(told, "all")
    assert sorted(told.asked) == sorted(set(told.ids) - kept)
    assert set(result.resumed) == kept
    assert len(result.instances) == 10
    assert "50 asked shortly before" in str(result)
    assert set(archive.load().source.instances) == set(told.ids)
    told.asked.clear()
    assert archive.sync(told, "all").resumed == ()
    assert len(told.asked) == 60


def test_what_an_interrupted_run_learned_too_long_ago_is_asked_again(
    half_done: tuple[Path, set[str]], tmp_path: Path
) -> None:
    folder, kept = half_done
    archive = ob.Archive(shutil.copytree(folder, tmp_path / "archive"))
    told = fleet(60, END + 7 * HOUR)
    result = archive.sync(told, "all")
    assert sorted(told.asked) == sorted(told.ids)
    assert set(told.asked[:10]) == set(told.ids) - kept, "whose turn did not come comes first"
    assert result.resumed == ()


def test_what_was_asked_otherwise_is_asked_again(
    half_done: tuple[Path, set[str]], tmp_path: Path
) -> None:
    archive = ob.Archive(shutil.copytree(half_done[0], tmp_path / "archive"))
    told = fleet(60, END + HOUR)
    assert archive.sync(told, "all", check_download=True).resumed == ()
    assert len(told.asked) == 60


def test_who_was_asked_for_more_is_not_asked_for_less(
    half_done: tuple[Path, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = half_done
    archive = ob.Archive(shutil.copytree(folder, tmp_path / "more"))
    assert set(archive.sync(fleet(60, END + HOUR), "all", since=END - DAY).resumed) == kept
    archive = ob.Archive(tmp_path / "less")
    monkeypatch.setattr("obanalytics.syncing.BATCH_INSTANCES", 3)
    told = fleet(60, END + HOUR)
    interrupt_after(told, 7)
    with pytest.raises(Interruption):
        archive.sync(told, "all", since=END - DAY)
    assert archive.sync(fleet(60, END + HOUR), "all", since=END - 2 * DAY).resumed == ()


def test_a_run_that_is_interrupted_twice_asks_nobody_again(
    half_done: tuple[Path, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = half_done
    archive = ob.Archive(shutil.copytree(folder, tmp_path / "archive"))
    monkeypatch.setattr("obanalytics.syncing.BATCH_INSTANCES", 3)
    told = fleet(60, END + HOUR)
    interrupt_after(told, 7)
    with pytest.raises(Interruption):
        archive.sync(told, "all")
    kept = kept | set(told.asked[:6])
    told.asked.clear()
    told.now += HOUR
    result = archive.sync(told, "all")
    assert sorted(told.asked) == sorted(set(told.ids) - kept)
    assert set(result.resumed) == kept


def test_with_a_deadline_everybody_has_a_turn_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = fleet(9)
    clock = [0.0]
    monkeypatch.setattr("obanalytics.syncing.monotonic", lambda: clock[0])

    def before(_: str) -> None:
        clock[0] += 1

    told.before = before
    archive = ob.Archive(tmp_path)
    turns = []
    for _ in range(4):
        result = archive.sync(told, "all", deadline="3.5s")
        assert len(result.instances) == 3
        assert set(result.instances) | set(result.left) | set(result.resumed) == set(told.ids)
        assert f"{len(result.left)} left for the next run" in str(result) or not result.left
        turns.append(set(result.instances))
        told.now += DAY
    assert turns[0] | turns[1] | turns[2] == set(told.ids)
    assert turns[3] == turns[0], "then it begins anew"


def test_with_a_deadline_whose_turn_is_the_longest_ago_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = fleet(5)
    clock = [0.0]
    monkeypatch.setattr("obanalytics.syncing.monotonic", lambda: clock[0])

    def before(_: str) -> None:
        clock[0] += 1

    told.before = before
    archive = ob.Archive(tmp_path)
    for _ in range(9):
        archive.sync(told, "all", deadline="2.5s")
        told.now += DAY
    fetches = archive.fetches()
    assert fetches["run"].value_counts().tolist() == [2] * 9
    assert fetches["instance_id"].value_counts().min() >= 3
    waits = fetches.groupby("instance_id", observed=True)["seen"].diff().dropna()
    assert waits.max() <= 4 * DAY


def test_another_host_that_knows_the_same_ids_is_refused(tmp_path: Path) -> None:
    told = fleet(3)
    told.endpoint = "https://api.example.com"
    archive = ob.Archive(tmp_path)
    archive.sync(told, told.ids[:2])
    before = files_of(tmp_path)
    other = fleet(3)
    other.endpoint, other.now = "https://api.example.cn:8443", told.now + DAY
    with pytest.raises(
        ArchiveError,
        match=rf"example\.cn:8443 is not who .* holds {told.ids[0]} as https://api\.example\.com "
        r"told of it \(2 of 3 instances\)\. Sync into another folder",
    ):
        archive.sync(other, "all")
    assert other.asked == []
    assert files_of(tmp_path).keys() == before.keys()
    assert archive.sync(other, told.ids[2:]).instances == (told.ids[2],)  # of which only it told
    assert archive.load().source.endpoint == "https://api.example.cn:8443; https://api.example.com"
    done = archive.sync(other, "all", new_endpoint=True)
    assert (done.failed, done.went) == ({}, 0)
    other.endpoint, other.now = "https://API.example.cn", other.now + DAY  # the same host
    archive.sync(other, "all")
    told.now = other.now + DAY
    assert archive.sync(told, "all").failed == {}, "both are one service: somebody said so"


def test_that_another_host_is_the_same_service_is_said_once(tmp_path: Path) -> None:
    told, archive = fleet(5), ob.Archive(tmp_path)
    archive.sync(told, "all")
    told.endpoint, told.failing = "https://new.example.com", {told.ids[1]}
    told.now += DAY
    assert set(archive.sync(told, told.ids[:3], new_endpoint=True).failed) == told.failing
    told.now += DAY
    told.failing = set()
    assert archive.sync(told, "all").instances == tuple(told.ids)


def test_no_time_since_the_last_answer_is_left_out(tmp_path: Path) -> None:
    nights = [set_row(f"bak-{n}", END - n * DAY - HOUR, ["t1"]) for n in range(9, 0, -1)]
    told = one(*nights[:4], now=END - 5 * DAY)  # of the days 9 to 6 before the end
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told, *nights, hours=5 * 24)
    assert archive.sync(told, "ob1", since=END - 2 * DAY).new == 2 * 5
    fetches = archive.fetches()
    assert fetches["asked_start"].tolist()[1] == pd.Timestamp(END - 7 * DAY)
    assert ob.coverage_gaps(archive.load(), "26h").empty
    later(told, *nights, hours=1)
    archive.sync(told, "ob1", since=END - 2 * DAY)
    assert archive.fetches()["asked_start"].tolist()[2] == pd.Timestamp(END - 2 * DAY)
    with pytest.raises(ValueError, match="since lies ahead"):
        archive.sync(told, "ob1", since=told.now + DAY, now=told.now)


def test_who_is_asked_alone_takes_nobodys_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, clock = fleet(9), [0.0]
    monkeypatch.setattr("obanalytics.syncing.monotonic", lambda: clock[0])

    def before(_: str) -> None:
        clock[0] += 1

    told.before = before
    archive = ob.Archive(tmp_path)
    for _ in range(4):
        archive.sync(told, "all", deadline="3.5s")
        told.now += 12 * HOUR
        archive.sync(told, told.ids[0])
        told.now += 12 * HOUR
    good = archive.fetches()
    assert set(good.loc[good["ok"], "instance_id"]) == set(told.ids)


def test_who_is_not_listed_any_more_has_not_failed(tmp_path: Path) -> None:
    told, archive = fleet(3), ob.Archive(tmp_path)
    archive.sync(told, "all")
    everybody = list(told.ids)
    del told.ids[1]
    for day in range(3):
        told.now += DAY
        done = archive.sync(told, "all")
        assert done.delisted == ((everybody[1],) if day == 0 else ())
        assert done.failed == {}
    sets = archive.load(stale="1D")
    assert sets.source.failed == {}
    assert sets.source.instances == tuple(told.ids)
    assert any("the project lists it no more" in each for each in sets.source.notes)
    assert set(archive.load().tenants["instance_id"]) == set(everybody)
    made = ob.distributed.map_instances(ob.findings, archive, stale="1D", partitions=2)
    pd.testing.assert_frame_equal(made, ob.findings(sets))
    told.ids[:] = everybody
    told.now += DAY
    archive.sync(told, "all")
    assert archive.load(stale="1D").source.instances == tuple(everybody)


def test_a_service_that_does_not_say_when_needs_an_instant(tmp_path: Path) -> None:
    told = fleet(1)
    told.dated = False
    archive = ob.Archive(tmp_path)
    result = archive.sync(told, "all")
    assert "give now=" in result.failed["ob0000"]
    result = archive.sync(told, "all", now="2026-11-01T07:00")
    assert result.failed == {}
    at = pd.Timestamp("2026-11-01T07:00Z")
    assert archive.load().as_of == result.as_of == at
    assert (archive.load().tenants["first_seen"] == at).all()


# --- what can be asked of an archive -------------------------------------------------------------


def test_a_window_is_that_of_load(tmp_path: Path) -> None:
    told = service(history(), END)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all")
    window = {"start": END - 4 * DAY, "end": END - 1.5 * DAY, "lookback": "3D"}

    def heeded(ids: Any, start: Any = None, end: Any = None, **rest: Any) -> Any:
        assert end is not None
        return type(told).walk(told, ids, start, None, **rest)

    windowed = service(history(), END)
    windowed.walk = heeded  # type: ignore[method-assign]
    fresh = ob.load(told.ids, client=windowed, **window)
    then = archive.load(**window)
    assert 0 < len(fresh.tenants) < len(archive.load().tenants)
    assert not fresh.tenants["in_window"].all()
    for mine, other in zip(present(then), present(fresh), strict=True):
        pd.testing.assert_frame_equal(mine, other, check_exact=True)
    assert then.window == fresh.window
    some = archive.load(instance_ids=told.ids[1])
    assert set(some.clusters["instance_id"]) == {told.ids[1]}
    assert_same_frames(ob.read(tmp_path), archive.load())
    assert_same_frames(ob.read(tmp_path, instance_id=told.ids[1]), some)


def test_questions_that_have_no_answer_are_refused(tmp_path: Path) -> None:
    archive = ob.Archive(tmp_path / "new")
    assert "nothing synced yet" in repr(archive)
    for ask in (archive.load, archive.changes, archive.fetches, archive.check, archive.compact):
        with pytest.raises(ArchiveError, match="nothing was synced into it yet"):
            ask()
    told = fleet(1)
    archive.sync(told, "all")
    with pytest.raises(ArchiveError, match=r"knows nothing of 2026-10-31.* first .*2026-11-01"):
        archive.load(as_of=END - DAY)
    with pytest.raises(ValueError, match="never asked for instance ob7"):
        archive.load(instance_ids="ob7")
    with pytest.raises(ValueError, match="parts must be"):
        archive.compact(0)
    with pytest.raises(ValueError, match="the window ends before it starts"):
        archive.load(start=END, end=END - DAY)


def test_an_instance_that_lists_nothing_and_one_that_left_the_project(tmp_path: Path) -> None:
    told = fleet(2)
    listing = told.rows_of
    told.rows_of = lambda name, at: [] if name == "ob0000" else listing(name, at)
    archive = ob.Archive(tmp_path)
    result = archive.sync(told, "all")
    assert result.instances == ("ob0000", "ob0001")
    assert archive.load().source.instances == ("ob0000", "ob0001")
    assert set(archive.load().tenants["instance_id"]) == {"ob0001"}
    told.ids, told.now = ["ob0000"], END + 3 * DAY
    archive.sync(told, "all")
    sets = archive.load()
    assert sets.tenants["gone_time"].isna().all(), "who was not asked has lost nothing"
    assert any("ob0001 answered last at 2026-11-01" in note for note in sets.source.notes)


def test_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = ["<b>", "=1+1", "文" * 200, "\U0001f600", "a\tb\r", "", "ü", None, "'; drop"]
    row = set_row("bak-ü'1", END - DAY, [f"t{n}" for n in range(len(names))])
    for child, name in zip(row["tenantBackupSetList"], names, strict=True):
        child["tenantName"] = name
    told = one(row)
    told.ids = ["ob'ü 文"]
    archive = ob.Archive(tmp_path / "with space ü")
    archive.sync(told, "all")
    archive.compact(4)
    archive.sync(told, "all")
    fresh = ob.load("all", client=told)
    for mine, other in zip(present(archive.load()), present(fresh), strict=True):
        pd.testing.assert_frame_equal(mine, other, check_exact=True)
    assert errors_of(archive.check()) == []


def test_no_word_on_tenants_says_nothing_of_them(tmp_path: Path) -> None:
    row = set_row("bak-1", END - DAY, ["t1", "t2"])
    told = one(row)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told, row | {"tenantBackupSetList": None})
    assert archive.sync(told, "ob1").went == 0
    assert len(present(archive.load())[1]) == 2
    before = archive.load()
    archive.rebuild()
    assert_same_frames(archive.load(), before)
    later(told, row | {"tenantBackupSetList": row["tenantBackupSetList"][:1]})
    assert archive.sync(told, "ob1").went == 1, "a list without one says that it went"
    later(told)
    assert archive.sync(told, "ob1").went == 2, "and so does a cluster set that is not there"


def test_a_set_whose_start_moved_out_of_the_window_is_not_missed(tmp_path: Path) -> None:
    told = one(set_row("bak-1", END - DAY, ["t1"]))
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told, set_row("bak-1", END - 6 * DAY, ["t1"]))
    archive.sync(told, "ob1")
    later(told)
    assert archive.sync(told, "ob1", since=END - 2 * DAY).went == 0
    assert archive.sync(told, "ob1").went == 2


def test_who_answers_no_more_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    told = fleet(3)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all")
    told.now += 2 * DAY
    told.failing = {told.ids[1]}
    archive.sync(told, told.ids[1:])
    whole, part = archive.load(), archive.load(stale="1D")
    assert list(whole.source.instances) == told.ids
    assert list(part.source.instances) == told.ids[2:]
    assert set(part.clusters["instance_id"]) == set(part.tenants["instance_id"]) == {told.ids[2]}
    assert "was not asked since" in part.source.failed[told.ids[0]]
    assert "since then: " in part.source.failed[told.ids[1]]
    assert part.as_of == whole.as_of
    assert part.tenants["instance_id"].cat.categories.tolist() == told.ids[2:]
    assert list(archive.load(stale="3D").source.failed) == [told.ids[1]], "its newest fetch failed"


def test_where_nobody_answered_any_more_the_last_answers_are_looked_from(tmp_path: Path) -> None:
    told, archive = fleet(3), ob.Archive(tmp_path)
    archive.sync(told, "all")
    before = archive.load(stale="1D")
    told.now += DAY
    told.failing = set(told.ids)
    archive.sync(told, "all")
    sets = archive.load(stale="1D")
    assert_same_frames(sets, before)
    assert (sets.as_of, sets.source.failed) == (before.as_of, {})
    assert sum("newest fetch" in each for each in sets.source.notes) == 3
    told.failing = {told.ids[0]}
    archive.sync(told, told.ids[:2])
    part = archive.load(stale="1h", instance_ids=told.ids[0])
    assert part.source.instances == (told.ids[0],)
    for count, ids in ((1, None), (2, None), (1, told.ids[0])):
        bounds = {"stale": "1h", "instance_ids": ids}
        made = ob.distributed.map_instances(ob.findings, archive, partitions=count, **bounds)
        pd.testing.assert_frame_equal(made, ob.findings(archive.load(**bounds)))


def test_an_instance_that_lists_no_tenants_any_more_has_had_some(tmp_path: Path) -> None:
    told = one(set_row("bak-1", END - DAY, ["t1"]))
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    later(told, set_row("bak-2", END))
    archive.sync(told, "ob1")
    # A fresh load, which knows no better, would let the cluster set stand in as tenant sys.
    assert ob.load("ob1", client=told).tenants["tenant_id"].tolist() == ["sys"]
    clusters, tenants = present(archive.load())
    assert clusters["backup_set_id"].tolist() == ["bak-2"]
    assert tenants.empty
    assert archive.load().tenants["tenant_id"].tolist() == ["t1"]


# --- which tenants there are ---------------------------------------------------------------------


def test_of_every_instant_the_tenants_are_those_of_a_fresh_load(tmp_path: Path) -> None:
    """Tenants come, go and change their name; whose list stays the same is written once."""
    past_of, archive = history(), ob.Archive(tmp_path)
    clock = [END - 21 * DAY]
    fresh = {}
    ids = sorted(each.instance_id for each in past_of.instances)
    with simulator.SimulatorServer(past_of, clock=lambda: clock[0]) as server:
        client = ob.Client(*simulator.KEY, endpoint=server.url, project_id="p")
        for _ in range(5):
            done = archive.sync(client, ids, inventory=True)
            sets = ob.load(ids, client=client, inventory=True)
            assert done.as_of == sets.as_of
            fresh[done.as_of] = sets.inventory
            clock[0] += 5 * DAY
        assert len({len(each) for each in fresh.values()}) > 1
        before = archive.load()
        archive.sync(client, ids)  # and now nobody asks
    assert archive.load().inventory is None
    for tidy in (lambda: archive.compact(4), archive.rebuild, lambda: archive.compact(1)):
        for instant, wanted in fresh.items():
            assert wanted is not None
            pd.testing.assert_frame_equal(archive.load(instant).inventory, wanted)
        tidy()
        assert errors_of(archive.check()) == []
    part = archive.load(before.as_of, instance_ids=ids[1])
    wanted = fresh[before.as_of][fresh[before.as_of]["instance_id"] == ids[1]]
    assert part.inventory["tenant_id"].tolist() == wanted["tenant_id"].tolist()
    rows = sum(each.rows for each in archive._lake.snapshot().of("inventory"))
    assert len(fresh[before.as_of]) < rows < sum(map(len, fresh.values()))
    findings = ob.findings(archive.load(before.as_of))
    for count in (1, 3):
        made = ob.distributed.map_instances(
            ob.findings, archive, as_of=before.as_of, partitions=count
        )
        pd.testing.assert_frame_equal(made, findings)


def test_who_does_not_say_which_tenants_it_has_is_noted(tmp_path: Path) -> None:
    told, archive = fleet(3), ob.Archive(tmp_path)
    told.silent = {told.ids[1]}
    assert archive.sync(told, "all", inventory=True).failed == {}
    sets = archive.load()
    assert set(sets.inventory["instance_id"]) == {told.ids[0], told.ids[2]}
    note = f"no inventory table of instance {told.ids[1]}: tenants of {told.ids[1]} are a secret"
    assert note in sets.source.notes
    told.silent = set(told.ids)
    told.now += DAY
    archive.sync(told, "all", inventory=True)
    sets = archive.load()
    assert sets.inventory is None
    assert sum("no inventory table" in each for each in sets.source.notes) == 3
    told.silent = set()
    told.now += DAY
    archive.sync(told, told.ids[:1])
    assert "inventory" not in str(archive.load(instance_ids=told.ids[0]).source.notes)
    archive.sync(told, told.ids[1:], inventory=True)
    notes = [each for each in archive.load().source.notes if "inventory" in each]
    assert notes == [
        f"no inventory table of instance {told.ids[0]}: its newest fetch did not ask for it"
    ]
    parts = ob.distributed.map_instances(ob.findings, archive, partitions=3)
    pd.testing.assert_frame_equal(parts, ob.findings(archive.load()))


def test_a_tenant_that_has_no_backup_set_at_all_is_found(tmp_path: Path) -> None:
    told, archive = fleet(1), ob.Archive(tmp_path)
    told.tenants_of["ob0000"] = ["t1", "t9"]
    archive.sync(told, "all", inventory=True)
    found = ob.findings(archive.load())
    bare = found[found["tenant_id"] == "t9"]
    assert bare["severity"].tolist() == ["critical"]
    told.now += HOUR
    archive.sync(told, "all")
    assert "t9" not in set(ob.findings(archive.load())["tenant_id"].dropna())


def test_a_run_that_asked_for_less_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, archive = fleet(6), ob.Archive(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "BATCH_INSTANCES", 2)
        interrupt_after(told, 4)
        with pytest.raises(Interruption):
            archive.sync(told, "all")
    told.asked.clear()
    assert archive.sync(told, "all", inventory=True).resumed == ()
    assert sorted(told.asked) == told.ids


# --- looking after it ----------------------------------------------------------------------------


def test_without_responses_nothing_is_rebuilt(tmp_path: Path) -> None:
    told = fleet(2)
    archive = ob.Archive(tmp_path)
    archive.sync(told, "all", keep_responses=False)
    assert not list(tmp_path.glob("kind=page/**/*.parquet"))
    told.now += DAY
    archive.sync(told, "all")
    before, files = archive.load(), files_of(tmp_path)
    with pytest.raises(ArchiveError, match=r"cannot be rebuilt: .*0 of 1 responses were kept"):
        archive.rebuild()
    assert_same_frames(archive.load(), before)
    assert files_of(tmp_path).keys() == files.keys()


def test_what_was_read_wrongly_is_mended_by_reading_the_responses_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = service(history(), END - 20 * DAY)
    right, wrong = ob.Archive(tmp_path / "right"), ob.Archive(tmp_path / "wrong")
    right.sync(told, "all")
    real = Service.pages

    def misread(*arguments: Any) -> Any:
        pages = real(*arguments)
        for page in pages:
            for row in page.sets:
                row.status = "MISREAD"
        return pages

    monkeypatch.setattr(Service, "pages", misread)
    wrong.sync(told, "all")
    assert set(wrong.load().clusters["status"]) == {"MISREAD"}
    wrong.rebuild()
    assert_same_frames(wrong.load(), right.load())


@pytest.mark.parametrize("rows", [1, 150, 10**9])
def test_facts_are_made_anew_of_so_many_instances_at_a_time_as_there_is_room_for(
    tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    archive = ob.Archive(shutil.copytree(sound, tmp_path / "archive"))
    before, changes = archive.load(), archive.changes()
    listed = archive.fetches()[["sets", "tenant_rows"]].to_numpy().sum()
    monkeypatch.setattr(upkeep, "PART_ROWS", rows)
    real, seen = upkeep._replayed, []

    def replayed(lake: Any, fetches: pd.DataFrame, responses: Any) -> Any:
        mine = fetches[["sets", "tenant_rows"]].to_numpy().sum()
        seen.append((fetches["instance_id"].nunique(), mine, set(fetches["instance_id"])))
        return real(lake, fetches, responses)

    monkeypatch.setattr(upkeep, "_replayed", replayed)
    archive.rebuild()
    assert sum(mine for _, mine, _ in seen) == listed
    assert all(mine <= rows or instances == 1 for instances, mine, _ in seen)
    if rows == 10**9:
        assert len(seen) == len({bucket_of(each, 2) for _, _, ids in seen for each in ids})
    assert_same_frames(archive.load(), before)
    pd.testing.assert_frame_equal(archive.changes(), changes)
    assert errors_of(archive.check()) == []


def test_an_archive_without_its_log_is_not_begun_anew(tmp_path: Path, sound: Path) -> None:
    archive = ob.Archive(shutil.copytree(sound, tmp_path / "archive"))
    shutil.rmtree(archive.path / "_delta_log")
    before = files_of(archive.path)
    with pytest.raises(ArchiveError, match="holds the files of an archive, and not its log"):
        archive.sync(fleet(2), "all")
    with pytest.raises(ArchiveError):
        archive.load()
    assert files_of(archive.path) == before


@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, sound: Path, damage: str) -> None:
    archive = ob.Archive(shutil.copytree(sound, tmp_path / "archive"))
    broken = of_kind(archive.path, "cluster", keyed=True)
    if damage == "truncated":
        broken.write_bytes(broken.read_bytes()[:200])
    else:
        broken.unlink()
    told = service(history(), END)
    for ask in (archive.load, archive.changes, lambda: archive.sync(told, "all"), archive.compact):
        with pytest.raises(ArchiveError, match=rf"{broken.name}.* back from a backup"):
            ask()


@pytest.mark.parametrize("done", ["compact", "rebuild"])
def test_what_fails_in_the_middle_leaves_no_file(
    tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    archive = ob.Archive(shutil.copytree(sound, tmp_path / "archive"))
    before, files = archive.load(), files_of(archive.path)
    real, calls = lake.write_file, []

    def written(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments[1])
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(lake, "write_file", written)
    with pytest.raises(ArchiveError, match=r"No space left .* before is intact"):
        getattr(archive, done)()
    assert len(calls) == 3
    assert files_of(archive.path).keys() == files.keys()
    assert_same_frames(archive.load(), before)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an archive of some runs."""
    folder = tmp_path_factory.mktemp("sound")
    told = service(history(), END - 20 * DAY)
    archive = ob.Archive(folder)
    for _ in range(2):
        archive.sync(told, "all")
        told.now += 4 * DAY
    archive.compact(2)
    archive.sync(told, "all")
    return folder


def of_kind(folder: Path, kind: str, *, keyed: bool = False) -> Path:
    """Return a data file that the log knows."""
    known = ob.Archive(folder)._lake.snapshot().of(kind)
    return folder / next(each.path for each in known if each.keyed == keyed)


@pytest.mark.parametrize("kind", ["cluster", "tenant", "fetch", "page"])
@pytest.mark.parametrize("damage", ["deleted", "truncated", "flipped", "emptied"])
def test_damage_is_found(tmp_path: Path, sound: Path, kind: str, damage: str) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    archive = ob.Archive(folder)
    assert errors_of(archive.check()) == []
    file = of_kind(folder, kind)
    body = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    elif damage == "flipped":
        place = len(body) // 3
        rotten = bytes(each ^ 0xFF for each in body[place : place + 64])
        file.write_bytes(body[:place] + rotten + body[place + 64 :])
    else:
        file.write_bytes(body[: len(body) // 2] if damage == "truncated" else b"")
    (found,) = errors_of(archive.check())
    assert str(file.relative_to(folder)) in found


@pytest.mark.parametrize("kind", ["tenant", "page"])
def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path: Path, sound: Path, kind: str) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    archive = ob.Archive(folder)
    file = of_kind(folder, kind)
    body, table = file.read_bytes(), pq.ParquetFile(file).read()
    found = 0
    footer = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    for place in range(4, footer, max(1, footer // 60)):
        file.write_bytes(body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :])
        if errors_of(archive.check()):
            found += 1
        else:
            assert pq.ParquetFile(file).read().equals(table), place
    assert found > 20


def test_files_that_nobody_knows_are_noted_and_go(tmp_path: Path, sound: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    archive = ob.Archive(folder)
    file = of_kind(folder, "tenant")
    orphan = file.with_name("000000000099.parquet")
    orphan.write_bytes(file.read_bytes()[:100])
    before = archive.load()
    problems = archive.check()
    mine = problems[problems["file"] == str(orphan.relative_to(folder))]
    assert mine["severity"].tolist() == ["note"]
    assert errors_of(problems) == []
    assert_same_frames(archive.load(), before)
    archive.compact()
    assert not orphan.exists()
    assert_same_frames(archive.load(), before)


def test_facts_that_belong_elsewhere_are_found(tmp_path: Path, sound: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    archive = ob.Archive(folder)
    lake = archive._lake
    snapshot = lake.snapshot()
    file = of_kind(folder, "cluster")
    known = next(each for each in snapshot.files if str(folder / each.path) == str(file))
    table = snapshot.read([known], ledger.FACTS["cluster"])
    other = next(each.bucket for each in snapshot.of("cluster") if each.bucket != known.bucket)
    lake.commit({("cluster", other): table}, snapshot)
    assert any("belong to another part" in each for each in errors_of(archive.check()))


def test_facts_of_a_run_that_nobody_tells_of_are_found(tmp_path: Path, sound: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    archive = ob.Archive(folder)
    lake = archive._lake
    snapshot = lake.snapshot()
    known = snapshot.of("tenant")[-1]
    table = snapshot.read([known], ledger.FACTS["tenant"])
    strange = table.set_column(0, "run", pa.array([77] * len(table), pa.int64()))
    lake.commit({("tenant", known.bucket): strange}, snapshot)
    assert any("run 77" in each for each in errors_of(archive.check()))


def test_compact_puts_every_part_into_one_file_and_forgets_nothing(
    tmp_path: Path, sound: Path
) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    archive = ob.Archive(folder)
    before, changes, fetches = archive.load(), archive.changes(), archive.fetches()
    for parts in (1, 3, 4, 2):
        archive.compact(parts)
        files = archive._lake.snapshot().files
        facts = [(f.kind, f.bucket) for f in files if f.kind != "page"]
        assert len(set(facts)) == len(facts), "one file a part"
        assert {bucket.partition("of")[2] for _, bucket in facts} == {f"{parts:02}"}
        assert_same_frames(archive.load(), before)
        pd.testing.assert_frame_equal(archive.changes(), changes)
        pd.testing.assert_frame_equal(archive.fetches(), fetches)
        assert errors_of(archive.check()) == []
    archive.compact()
    archive.compact()
    notes = archive.check()
    assert notes.empty, "files that were replaced are gone"


def test_many_small_files_are_put_together_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obanalytics.archive._AUTO_FILES", 12)
    told = fleet(2)
    archive = ob.Archive(tmp_path)
    for _ in range(12):
        told.now += DAY
        archive.sync(told, "all")
    kinds = [each.kind for each in archive._lake.snapshot().files]
    assert kinds.count("fetch") < 12
    assert len(archive.fetches()) == 24
    assert errors_of(archive.check()) == []


def test_a_format_of_the_future_is_refused(tmp_path: Path, sound: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "archive")
    log = folder / "_delta_log"
    for path in log.glob("*.checkpoint.parquet"):
        path.unlink()
    (log / "_last_checkpoint").unlink(missing_ok=True)
    first = log / f"{0:020}.json"
    first.write_text(first.read_text().replace('{\\"format\\": 2}', '{\\"format\\": 3}'))
    archive = ob.Archive(folder)
    before = files_of(folder)
    for ask in (
        archive.load,
        archive.check,
        archive.compact,
        lambda: archive.sync(fleet(1), "all"),
    ):
        with pytest.raises(ArchiveError, match="has format 3; this version reads up to 2"):
            ask()
    kept = {name: body for name, body in files_of(folder).items() if not name.startswith(".")}
    assert kept == {name: body for name, body in before.items() if not name.startswith(".")}


def test_an_archive_of_an_earlier_format_is_brought_to_this_one_by_the_next_writer(
    tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = ob.Archive(shutil.copytree(sound, tmp_path / "archive"))
    before, wanted = archive.load(), archive.fetches()
    done: list[str] = []

    def louder(table: lake.Lake) -> None:
        """Write the endpoints in capitals, as format 3 would have them."""
        state = lake.Snapshot(table.root, *_state(table))
        files = state.of("fetch")
        rows = {}
        for bucket in {each.bucket for each in files}:
            mine = state.read([e for e in files if e.bucket == bucket], FETCH)
            loud = pc.utf8_upper(mine["endpoint"])
            place = mine.column_names.index("endpoint")
            rows["fetch", bucket] = mine.set_column(place, "endpoint", loud)
        done.append("begun")
        table.commit(rows, state, replaced=files)
        done.append("committed")
        if len(done) == 2:
            raise KeyboardInterrupt  # before it is noted that it was done

    def _state(table: lake.Lake) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(lake, "FORMAT", 2)
            known = table.snapshot()
        return known.version, known.files

    monkeypatch.setattr(lake, "FORMAT", 3)
    monkeypatch.setattr(lake, "MIGRATIONS", {2: louder})
    for ask in (archive.load, archive.fetches, archive.check):
        with pytest.raises(ArchiveError, match=r"has format 2; the next sync, .* format 3"):
            ask()
    with pytest.raises(KeyboardInterrupt):
        archive.compact()
    archive.compact()  # does it again, to the end
    archive.compact()
    assert done == ["begun", "committed"] * 2
    assert_same_frames(archive.load(), before)
    wanted["endpoint"] = wanted["endpoint"].str.upper()
    pd.testing.assert_frame_equal(archive.fetches(), wanted)
    assert errors_of(archive.check()) == []
    monkeypatch.setattr(lake, "FORMAT", 2)
    with pytest.raises(ArchiveError, match="has format 3; this version reads up to 2"):
        archive.load()


def test_an_archive_of_format_1_has_no_inventory_until_somebody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, archive = fleet(2), ob.Archive(tmp_path)
    with monkeypatch.context() as patch:
        added = {"inventory_run", "inventory_error", *STORED} - {*FACTS["tenant"], "instance_id"}
        old = pa.schema([field for field in SCHEMA if field.name not in added])
        assert len(SCHEMA) - len(old) == 7
        patch.setattr(lake, "SCHEMA", old)
        patch.setattr(lake, "FORMAT", 1)
        patch.setattr(syncing, "FETCH", tuple(n for n in FETCH if n not in added))
        archive.sync(told, "all")
        before = archive.load()
    with pytest.raises(ArchiveError, match=r"has format 1; the next sync, .* format 2"):
        archive.load()
    told.now += DAY
    archive.sync(told, "all", inventory=True)
    table = deltalake.DeltaTable(tmp_path)
    assert [field.name for field in table.schema().fields] == SCHEMA.names
    assert json.loads(table.metadata().description) == {"format": 2}
    assert archive.fetches()["inventory_run"].isna().tolist() == [True, True, False, False]
    first = archive.fetches()["seen"][0]
    assert archive.load(first).inventory is None
    assert_same_frames(archive.load(first), before)
    for tidy in (archive.load, lambda: archive.compact(2), archive.rebuild, archive.compact):
        tidy()
        assert archive.load().inventory["tenant_name"].tolist() == ["t1 of ob0000", "t1 of ob0001"]
        assert errors_of(archive.check()) == []
    assert_same_frames(archive.load(first), before)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    archive = ob.Archive(tmp_path)
    with pytest.raises(ArchiveError, match=r"holds something that is no archive \(letter.txt\)"):
        archive.sync(fleet(1), "all")
    assert files_of(tmp_path) == {"letter.txt": b"Dear all"}
    (tmp_path / "letter.txt").unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot be written"):
        ob.Archive(tmp_path / "file").sync(fleet(1), "all")


def test_another_table_is_no_archive(tmp_path: Path) -> None:
    deltalake.write_deltalake(str(tmp_path), pa.table({"a": [1]}))
    before = files_of(tmp_path)
    archive = ob.Archive(tmp_path)
    for ask in (archive.load, lambda: archive.sync(fleet(1), "all")):
        with pytest.raises(ArchiveError, match="is a Delta table, but no archive"):
            ask()
    assert before.items() <= files_of(tmp_path).items()


def test_fields_that_are_not_known_are_kept(tmp_path: Path) -> None:
    row = set_row("bak-1", END - DAY, ["t1"], newField={"a": [1, "ü"]})
    archive = ob.Archive(tmp_path)
    archive.sync(one(row), "ob1")
    assert json.loads(archive.load().tenants["extra"][0]) == {"newField": {"a": [1, "ü"]}}


def test_downloads_that_were_not_asked_about_are_as_last_known(tmp_path: Path) -> None:
    told = one(set_row("bak-1", END - DAY, ["t1"]))
    archive = ob.Archive(tmp_path)
    archive.sync(told, "ob1")
    assert archive.load().tenants["download_enabled"].isna().all()
    told.now += DAY
    assert archive.sync(told, "ob1", check_download=True).changed == 2
    told.now += DAY
    assert archive.sync(told, "ob1").changed == 0
    assert archive.load().tenants["download_enabled"].tolist() == [True]
    fields = archive.changes()["field"].dropna().unique().tolist()
    assert fields == ["download_enabled"]
