"""Whatever happens to a process that writes, an archive holds the last state or the new one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import obanalytics as ob
from obanalytics.errors import ArchiveError
from tests.archives import (
    DAY,
    END,
    STEP,
    Others,
    assert_same_frames,
    errors_of,
    fleet,
    moment,
    past,
    played,
    service,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork"),
    pytest.mark.filterwarnings("ignore::obanalytics.errors.DataWarning"),
]


@pytest.fixture(scope="module")
def others() -> Iterator[Others]:
    """Have a process that forks children which write."""
    made = Others()
    yield made
    made.close()


@cache
def states() -> list[Any]:
    return played()


def assert_whole(archive: ob.Archive) -> tuple[int, int]:
    """Check that an archive holds whole commits only, and return up to which step.

    The first is the step that every instance is known of, the other the newest of any.
    """
    assert errors_of(archive.check()) == []
    newest = archive.fetches().groupby("instance_id", observed=True)["seen"].max()
    steps = {name: int((seen - pd.Timestamp(moment(0))) / STEP) for name, seen in newest.items()}
    wanted: dict[Any, Any] = {}
    for name, step in steps.items():
        wanted |= {key: value for key, value in states()[step].items() if key[1] == name}
    assert state_of(archive.load()) == wanted
    everybody = len(steps) == len(past().instances)
    return min(steps.values()) if everybody else -1, max(steps.values())


def test_a_process_that_is_killed_leaves_the_last_state_or_the_new_one(
    tmp_path: Path, others: Others
) -> None:
    chance = random.Random(8)
    archive = ob.Archive(tmp_path)
    kept, whole, torn = -1, -1, 0
    for _ in range(50):
        # Of some, every instance is a commit of its own.
        jobs = [str(tmp_path), whole + 1, 20, chance.choice([1, 500])]
        others.begin(("sync", jobs, {"tidy": 4}))
        pid = int(others.line().removeprefix("pid "))
        time.sleep(chance.uniform(0.0, 0.3))
        os.kill(pid, signal.SIGKILL)
        kept = max([kept, *(int(said.removeprefix("kept ")) for said in others.rest())])
        if not archive._lake.exists:
            assert kept == -1
            continue
        whole, newest = assert_whole(archive)
        assert kept <= whole <= newest <= kept + 1
        torn += newest > kept
        kept = whole
        if whole > 50:  # the story is near its end: another archive
            shutil.rmtree(tmp_path)
            kept, whole = -1, -1
    assert torn > 0, "no child was killed between a commit and its word of it"
    # The next one completes it.
    told = service(past(), moment(whole + 1))
    assert archive.sync(told, "all").failed == {}
    assert assert_whole(archive) == (whole + 1, whole + 1)
    archive.compact()
    archive.compact()
    assert archive.check().empty


@pytest.mark.parametrize("most", [0, 300, 1500])
def test_a_full_disk_is_told_of_and_leaves_what_was_there(
    tmp_path: Path, others: Others, most: int
) -> None:
    others.begin(("limited", [str(tmp_path / "new"), 0, most, "sync"], {}))
    assert "ArchiveError" in others.rest()[-1]
    archive = ob.Archive(tmp_path / "old")
    told = service(past(), moment(0))
    for number in range(3):
        told.now = moment(number)
        archive.sync(told, "all")
    before, changes = archive.load(), archive.changes()
    for what in ("sync", "compact", "rebuild"):
        others.begin(("limited", [str(tmp_path / "old"), 3, most, what], {}))
        said = others.rest()[-1]
        assert said.startswith("ArchiveError: the archive"), (what, said)
        assert "cannot be written" in said
        assert "what it held before is intact" in said
        assert_same_frames(archive.load(), before)
        pd.testing.assert_frame_equal(archive.changes(), changes)
        assert errors_of(archive.check()) == []
    told.now = moment(3)
    for folder in ("old", "new"):
        archive = ob.Archive(tmp_path / folder)
        archive.sync(told, "all")
        archive.compact()
        assert errors_of(archive.check()) == []
    assert assert_whole(ob.Archive(tmp_path / "old")) == (3, 3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of few bytes; root can."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = (shutil.which(name) for name in ("mount", "umount"))
    if os.geteuid() or mount is None or umount is None:
        pytest.skip("only root can mount a disk")
    command = [mount, "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("root must not mount here")
    yield folder
    subprocess.run([umount, "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_what_it_has_and_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    archive = ob.Archive(small_disk)
    told = service(past(), moment(0))
    before = None
    with pytest.raises(ArchiveError, match=r"cannot be written: .* before is intact"):  # noqa: PT012
        for number in range(60):
            told.now = moment(number)
            archive.sync(told, "all")
            before = archive.load()
    assert before is not None
    assert_same_frames(archive.load(), before)
    assert errors_of(archive.check()) == []
    subprocess.run(
        [str(shutil.which("mount")), "-o", "remount,size=50m", str(small_disk)], check=True
    )
    archive.sync(told, "all")
    assert assert_whole(archive) == (number, number)


def test_an_archive_that_may_not_be_written_can_be_read(small_disk: Path) -> None:
    archive, told = ob.Archive(small_disk), fleet(2)
    archive.sync(told, "all")
    before = archive.load()
    mount = str(shutil.which("mount"))
    subprocess.run([mount, "-o", "remount,ro", str(small_disk)], check=True)
    for ask in (lambda: archive.sync(told, "all"), archive.compact, archive.rebuild):
        with pytest.raises(ArchiveError, match=r"cannot be written: .*before is intact"):
            ask()
    assert_same_frames(archive.load(), before)
    assert errors_of(archive.check()) == []
    subprocess.run([mount, "-o", "remount,rw", str(small_disk)], check=True)
    archive.sync(told, "all")


def test_a_second_writer_is_refused_by_name_or_waits(tmp_path: Path, others: Others) -> None:
    folder, gate = tmp_path / "archive", tmp_path / "gate"
    archive, told = ob.Archive(folder), service(past(), moment(1))
    others.begin(("hold", [str(folder), 0, str(gate)], {}))
    pid = others.line().removeprefix("pid ")
    assert others.line() == "inside"
    asks = (
        lambda: archive.sync(told, "all"),
        lambda: archive.sync(told, "all", wait="20ms"),
        archive.compact,
        archive.rebuild,
    )
    for ask in asks:
        with pytest.raises(ArchiveError, match=f"process {pid} on .* is writing") as caught:
            ask()
        assert caught.value.retryable
    assert told.asked == [], "who may not write need not ask"
    opener = threading.Timer(0.3, gate.touch)
    opener.start()
    archive.sync(told, "all", wait="30s")
    opener.join()
    assert others.rest() == ["kept"]
    assert archive.fetches()["run"].nunique() == 2
    assert assert_whole(archive) == (1, 1)


def test_a_sync_within_a_sync_is_refused(tmp_path: Path) -> None:
    told = fleet(1)
    refused = []

    def before(_: str) -> None:
        with pytest.raises(ArchiveError, match=f"process {os.getpid()} on .* is writing") as caught:
            ob.Archive(tmp_path).sync(fleet(1), "all")
        refused.append(caught)

    told.before = before
    ob.Archive(tmp_path).sync(told, "all")
    assert refused
    assert len(ob.Archive(tmp_path).fetches()) == 1


def test_a_writer_that_was_killed_keeps_nobody_out(tmp_path: Path, others: Others) -> None:
    others.begin(("hold", [str(tmp_path), 0, str(tmp_path / "never")], {}))
    pid = int(others.line().removeprefix("pid "))
    assert others.line() == "inside"
    os.kill(pid, signal.SIGKILL)
    others.rest()
    archive = ob.Archive(tmp_path)
    archive.sync(service(past(), moment(0)), "all")
    assert assert_whole(archive) == (0, 0)


def test_writers_that_wait_for_each_other_lose_nothing(tmp_path: Path, others: Others) -> None:
    told = fleet(9)
    shares = [told.ids[at::3] for at in range(3)]
    others.begin(*(("share", [str(tmp_path), ids, 4], {}) for ids in shares))
    said = others.rest()
    assert said.count("kept") == 12
    archive = ob.Archive(tmp_path)
    fetches = archive.fetches()
    assert fetches["run"].nunique() == 12
    assert (fetches["instance_id"].value_counts() == 4).all()
    assert fetches["ok"].all()
    assert set(archive.load().tenants["instance_id"]) == set(told.ids)
    assert errors_of(archive.check()) == []


def test_readers_see_whole_commits_only_and_never_fail(tmp_path: Path, others: Others) -> None:
    archive = ob.Archive(tmp_path)
    archive.sync(service(past(), moment(0)), "all")
    others.begin(("sync", [str(tmp_path), 1, 24, 500], {"tidy": 2}))
    others.line()
    seen = []
    newest = -1
    while newest < 24:
        sets = archive.load()
        newest = int((sets.as_of - pd.Timestamp(moment(0))) / STEP)
        assert state_of(sets) == states()[newest], newest
        if len(seen) % 3 == 0:
            assert errors_of(archive.check()) == []
            count = archive.fetches().groupby("run").size()
            assert (count == 3).all()
            changes = archive.changes(until=sets.as_of)
            assert (changes["what"] == "new").sum() == len(states()[newest])
        seen.append(newest)
    others.rest()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3, "the writer was too fast to be watched"


def test_a_slow_reader_goes_on_while_files_are_put_together_or_begins_anew(tmp_path: Path) -> None:
    archive = ob.Archive(tmp_path)
    told = fleet(3)

    def more() -> None:
        told.now += DAY
        archive.sync(told, "all")
        archive.compact()

    archive.sync(told, "all")
    calls = []

    def read(rounds: int) -> Any:
        def use(snapshot: Any) -> int:
            calls.append(snapshot.version)
            if len(calls) == 1:
                for _ in range(rounds):
                    more()
            return len(snapshot.read(snapshot.of("fetch"), ["run"]))

        return archive._lake.reading(use)

    assert read(1) == 3
    assert len(calls) == 1, "what one compact replaces is there until the next"
    calls.clear()
    assert read(3) == 15
    assert len(calls) == 2
    assert archive.load().as_of == pd.Timestamp(END + 4 * DAY)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    archive = ob.Archive(tmp_path)
    archive.sync(fleet(1), "all")
    file = next(tmp_path.glob("kind=tenant/**/*.parquet"))
    file.unlink()
    with pytest.raises(ArchiveError, match="lacks a file") as caught:
        archive.load()
    assert file.name in str(caught.value)
    assert "kind=tenant" in str(caught.value)
