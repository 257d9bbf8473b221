"""The two frames as a value: merging, windows, selections, saving, what was known when."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import cluster_set, page, tenant_set
from pandas.testing import assert_frame_equal

from obanalytics import schema, wire
from obanalytics.errors import ArchiveError, DataError, DataWarning
from obanalytics.flatten import Flattener
from obanalytics.schema import BackupSets, Source, Window

if TYPE_CHECKING:
    from pathlib import Path


def instant(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def history(
    days: range, *, as_of: str = "2025-12-31", instance_id: str = "ob1", **fields: Any
) -> BackupSets:
    """Return one cluster set a day with two tenants."""
    rows = []
    for day in days:
        times = {
            "startTime": f"2025-12-{day:02}T01:00:00Z",
            "checkpoint": f"2025-12-{day:02}T02:00:00Z",
            "endTime": f"2025-12-{day:02}T03:00:00Z",
        }
        tenants = [
            tenant_set(**(times | {"tenantId": t, "tenantName": t, "backupSetId": f"c{day}-{t}"}))
            for t in ("t1", "t2")
        ]
        rows.append(cluster_set(*tenants, **(times | {"backupSetId": f"c{day}"} | fields)))
    flattener = Flattener()
    flattener.add(wire.decode_page(page(*rows)).sets, instance_id)
    clusters, tenants_frame = flattener.frames()
    return BackupSets(
        clusters, tenants_frame, as_of=instant(as_of), source=Source((instance_id,), "https://x")
    )


def same(one: BackupSets, other: BackupSets) -> None:
    for level in ("clusters", "tenants"):
        assert_frame_equal(getattr(one, level), getattr(other, level), check_categorical=False)


@pytest.mark.parametrize(
    "value",
    [
        "2026-05-01",
        "2026-05-01T08:00+08:00",
        dt.date(2026, 5, 1),
        np.datetime64("2026-05-01"),
        dt.datetime(2026, 5, 1),  # noqa: DTZ001
        pd.Timestamp("2026-05-01", tz="UTC"),
    ],
)
def test_instants_in_every_form_and_naive_ones_as_utc(value: Any) -> None:
    assert schema.as_instant(value, "start") == instant("2026-05-01")


@pytest.mark.parametrize("wrong", [3, 3.5, None, "yesterday", "", "NaT", pd.NaT])
def test_what_is_no_instant_names_the_argument(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="start"):
        schema.as_instant(wrong, "start")


@pytest.mark.parametrize("wrong", [26, None, "soon", "-1h", "NaT", pd.Timedelta("-1s")])
def test_what_is_no_duration_names_the_argument(wrong: Any) -> None:
    assert schema.as_duration("26h", "rpo") == pd.Timedelta("26h")
    assert schema.as_duration("1d 2h", "rpo") == pd.Timedelta("26h")
    with pytest.raises(ValueError, match="rpo has no unit: '26'"):
        schema.as_duration("26", "rpo")
    with pytest.raises((TypeError, ValueError), match="rpo"):
        schema.as_duration(wrong, "rpo")


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        ((1, 5), (5, 9), (1, 9)),
        ((5, 9), (1, 6), (1, 9)),
        ((None, 5), (3, 9), (None, 9)),
        ((1, None), (3, 9), (1, None)),
        ((1, 9), (3, 5), (1, 9)),
        (None, (3, 9), None),
        (None, None, None),
    ],
)
def test_windows_join_where_they_leave_no_hole(one: Any, other: Any, joined: Any) -> None:
    def window(bounds: Any) -> Window | None:
        if bounds is None:
            return None
        return Window(*(None if b is None else instant(f"2025-12-{b:02}") for b in bounds))

    merged = BackupSets(
        schema.empty("clusters"), schema.empty("tenants"), window(one)
    ) + BackupSets(schema.empty("clusters"), schema.empty("tenants"), window(other))
    assert merged.window == window(joined)


def test_windows_with_a_hole_between_them_are_not_one_and_nothing_is_lost() -> None:
    early = history(range(1, 5), as_of="2025-12-05").between("2025-12-01", "2025-12-05")
    late = history(range(9, 13)).between("2025-12-09", "2025-12-13")
    for one, other in ((early, late), (late, early)):
        with pytest.warns(DataWarning, match=r"the parts cover 2025-12-01 .* look at 2025-12-09"):
            merged = one + other
        assert merged.window == late.window
        assert len(merged) == 8
        assert merged.clusters["in_window"].tolist() == [False] * 4 + [True] * 4
        assert merged.tenants["in_window"].sum() == 8
        assert any("the parts cover" in note for note in merged.source.notes)


def test_windows_of_other_instances_are_looked_at_where_they_meet() -> None:
    one = history(range(1, 9)).between("2025-12-01", "2025-12-09")
    other = history(range(5, 13), instance_id="ob2").between("2025-12-05", "2025-12-13")
    with pytest.warns(DataWarning, match="look at 2025-12-05 00:00 UTC to 2025-12-09 00:00 UTC"):
        merged = one + other
    assert merged.clusters["in_window"].sum() == 8
    assert len(merged) == 16


def test_a_window_can_be_narrowed_and_not_widened() -> None:
    sets = history(range(1, 13)).between("2025-12-03", "2025-12-09")
    assert sets.between("2025-12-05", None).window == Window(
        *map(instant, ("2025-12-05", "2025-12-09"))
    )
    assert sets.between("2025-12-01", "2025-12-31").window == sets.window
    with pytest.raises(ValueError, match="nothing of start 2025-12-20, end None is in the window"):
        sets.between("2025-12-20", None)


def test_an_instance_that_failed_later_has_failed() -> None:
    early, late = history(range(1, 4), as_of="2025-12-05"), history(range(1, 4), instance_id="ob2")
    late = replace(late, source=replace(late.source, failed={"ob1": "timeout"}))
    for merged in (early + late, late + early):
        assert merged.source.failed == {"ob1": "timeout"}
        assert set(merged.source.instances) == {"ob1", "ob2"}


def test_tenants_of_several_instances_are_chosen_by_instance_and_id() -> None:
    one, other = history(range(1, 3)), history(range(1, 3), instance_id="ob2")
    swapped = other.tenants.assign(
        tenant_name=other.tenants["tenant_name"].cat.rename_categories({"t1": "t2", "t2": "t1"})
    )
    both = one + replace(other, tenants=swapped)
    chosen = both.select(tenants="t1").tenants
    found = set(zip(chosen["instance_id"], chosen["tenant_id"], strict=True))
    assert found == {("ob1", "t1"), ("ob2", "t1"), ("ob2", "t2")}  # by id, or by name


def test_between_keeps_the_lookback_and_is_half_open() -> None:
    sets = history(range(1, 9)).between("2025-12-03T01:00", "2025-12-06T01:00")
    assert sets.clusters["in_window"].tolist() == [False, False, True, True, True]
    assert sets.tenants["in_window"].sum() == 6
    assert sets.window == Window(instant("2025-12-03T01:00"), instant("2025-12-06T01:00"))
    with pytest.raises(ValueError, match="ends before"):
        sets.between("2025-12-03", "2025-12-01")


def test_select_by_instance_and_by_tenant() -> None:
    sets = history(range(1, 4)) + history(range(1, 4), instance_id="ob2")
    one = sets.select(instance_ids="ob2", tenants=["t1"])
    assert set(one.tenants["instance_id"]) == {"ob2"}
    assert set(one.tenants["tenant_id"]) == {"t1"}
    assert one.tenants["tenant_id"].cat.categories.tolist() == ["t1"]
    assert one.source.instances == ("ob2",)
    for wrong in ({"instance_ids": "ob9"}, {"tenants": "t9"}):
        with pytest.raises(ValueError, match="there is: "):
            sets.select(**wrong)


def test_saving_is_a_round_trip(tmp_path: Path) -> None:
    sets = history(range(1, 4), newField=[1]).between("2025-12-02", None)
    sets.save(tmp_path / "saved")
    back = schema.load_saved(tmp_path / "saved")
    same(sets, back)
    for level in ("clusters", "tenants"):
        assert (getattr(back, level).dtypes == getattr(sets, level).dtypes).all()
    assert (back.window, back.as_of, back.source) == (sets.window, sets.as_of, sets.source)
    sets.save(tmp_path / "saved")
    same(sets, schema.load_saved(tmp_path / "saved"))


def test_saving_never_replaces_what_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArchiveError, match="nothing was written"):
        history(range(1, 3)).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: Any) -> None:
    old = history(range(1, 3))
    old.save(tmp_path / "saved")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(ArchiveError, match=r"No space left.*old content is intact"):
        history(range(1, 9)).save(tmp_path / "saved")
    monkeypatch.undo()
    same(schema.load_saved(tmp_path / "saved"), old)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("damage", ["manifest", "parquet", "format", "missing"])
def test_damaged_saves_are_refused(tmp_path: Path, damage: str) -> None:
    history(range(1, 3)).save(tmp_path / "s")
    manifest = tmp_path / "s" / "obanalytics.json"
    if damage == "manifest":
        manifest.write_text("{")
    elif damage == "format":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    elif damage == "parquet":
        (tmp_path / "s" / "tenants.parquet").write_bytes(b"PAR1")
    else:
        (tmp_path / "s" / "tenants.parquet").unlink()
    with pytest.raises(ArchiveError):
        schema.load_saved(tmp_path / "s")


def test_facts_of_an_earlier_instant() -> None:
    sets = history(range(1, 9))
    known = schema.facts(sets, "2025-12-05T02:30")
    assert known.as_of == instant("2025-12-05T02:30")
    assert known.clusters is not None
    assert known.clusters["state"].tolist() == ["done"] * 4 + ["running"]
    last = known.tenants.iloc[-1]
    assert last["state"] == "running"
    assert last[["end_time", "checkpoint", "duration", "size_gib", "validity"]].isna().all()
    assert sets.tenants["state"].eq("done").all(), "the argument must not change"


def test_facts_of_a_plain_frame_changed_by_pandas() -> None:
    frame = history(range(1, 9)).tenants
    loose = frame.astype({"instance_id": "str", "state": "object", "full": "object"})
    loose = loose.drop(columns=["in_window", "extra", "tenant_name"]).assign(mine=1)
    known = schema.facts(loose)
    schema.check(known.tenants[frame.columns], "tenants")
    assert known.tenants["mine"].eq(1).all()
    text = frame.assign(end_time=frame["end_time"].map(lambda t: t.isoformat()))
    assert schema.facts(text).tenants["end_time"].tolist() == frame["end_time"].tolist()
    with pytest.raises(DataError, match=r"end_time is no .* numbers are no instants"):
        schema.facts(frame.assign(end_time=frame["end_time"].astype("int64")))
    numbered = schema.facts(frame.assign(tenant_id=range(len(frame)))).tenants["tenant_id"]
    assert numbered.tolist() == [str(number) for number in range(len(frame))]
    without = schema.facts(frame.drop(columns="duration")).tenants["duration"]
    assert without.tolist() == frame["duration"].tolist()
    assert known.as_of == frame["end_time"].max()
    assert known.clusters is None


@pytest.mark.parametrize("wrong", [{"a": [1]}, {}])
def test_a_frame_that_is_no_tenants_frame(wrong: Any) -> None:
    with pytest.raises(DataError, match=r"column instance_id is missing.*state is missing"):
        schema.facts(pd.DataFrame(wrong))
    with pytest.raises(TypeError, match="expected BackupSets"):
        schema.facts(3)  # type: ignore[arg-type]


def test_span_defaults() -> None:
    sets = history(range(1, 9))
    known = schema.facts(sets.between("2025-12-03", None))
    assert schema.span(known) == (instant("2025-12-03"), instant("2025-12-31"))
    assert schema.span(known, "2025-12-01", "2027-01-01")[1] == instant("2027-01-01")
    assert schema.span(schema.facts(sets)) == (None, instant("2025-12-31"))
    with pytest.raises(ValueError, match="ends before"):
        schema.span(known, "2025-12-04", "2025-12-01")


def test_check_lists_every_problem() -> None:
    frame = history(range(1, 3)).tenants
    bad = pd.concat([frame.drop(columns="extra"), frame.drop(columns="extra")])
    with pytest.raises(DataError, match="column extra is missing"):
        schema.check(bad.astype({"size_gib": "str"}), "tenants")
    twice = schema.conform(pd.concat([frame, frame], ignore_index=True), "tenants")
    with pytest.raises(DataError, match="4 rows repeat a key"):
        schema.check(twice, "tenants")
    odd = frame.assign(state=pd.Categorical(["odd"] * len(frame)))
    with pytest.raises(DataError, match="state is none of"):
        schema.check(odd, "tenants")


def test_repr_is_one_screen_and_escapes() -> None:
    sets = history(range(1, 4), instance_id="<b>&")
    failing = BackupSets(
        sets.clusters,
        sets.tenants,
        source=Source(failed={f"<i>{n}": "403" for n in range(20)}),
    )
    text = repr(failing)
    assert len(text.splitlines()) <= 24
    assert "and 15 more" in text
    assert "6 done" in text
    assert "<i>" not in failing._repr_html_()


def test_backup_sets_cannot_be_changed_and_can_be_pickled() -> None:
    sets = history(range(1, 3))
    with pytest.raises(AttributeError):
        sets.as_of = None  # type: ignore[misc]
    same(pickle.loads(pickle.dumps(sets)), sets)  # noqa: S301


@settings(max_examples=examples(160))
@given(st.sets(st.integers(1, 12)), st.sets(st.integers(1, 12)))
def test_merge_is_a_union_and_idempotent(one: set[int], other: set[int]) -> None:
    a, b = (history(sorted(days)) for days in (one, other))  # type: ignore[arg-type]
    merged = a + b
    assert set(merged.clusters["backup_set_id"]) == {f"c{day}" for day in one | other}
    same(merged + b, merged)
