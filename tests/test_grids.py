"""Cells hold the numbers of the frames they are given, and none of what is bad is lost in them."""

from __future__ import annotations

import time
from io import BytesIO
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from charts import BEGIN, HOSTILE, check_look, labels, marks_of, note_of, shown_title, who
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from obanalytics.canvas import png
from obanalytics.grids import MAX_CELL_ROWS, OUTCOMES, PRESENCE, plot_parity, plot_schedule

DAY = pd.Timedelta(1, "D")
LABELS = ("instance_id", "tenant_id", "tenant_name")
PRESENCES = ("present", "new", "gone", "running", "unknown", "failed", "missing")  # worst last
RESULTS = ("met", "pending", "late", "missed")


def make_parity(
    count: int, sets: int, *, names: tuple[str, ...] = (), clean: bool = False, instances: int = 3
) -> pd.DataFrame:
    """Return daily cluster sets: the higher a tenant's number, the more it is missing."""
    rows = []
    for number in range(count):
        for place in range(sets):
            kind = "missing" if (place * 7 + number) % 50 < number % 5 else "present"
            row = who(number, names) | {
                "instance_id": f"ob{number % instances}abcdefgh",
                "cluster_backup_set_id": f"c{number % instances}-{place}",
                "start_time": BEGIN + place * DAY + pd.Timedelta(2 + number % instances, "h"),
                "presence": "present" if clean else kind,
                "cluster_state": "done",
            }
            rows.append(row)
    categories = (*LABELS, "presence", "cluster_state")
    return pd.DataFrame(rows).astype(dict.fromkeys(categories, "category"))


def make_slots(
    count: int, days: int, *, names: tuple[str, ...] = (), modes: tuple[str, ...] = ("any", "full")
) -> pd.DataFrame:
    """Return slots, daily and for full sets weekly: of every fourth tenant some are missed."""
    rows = []
    for number in range(count):
        for mode in modes:
            for day in range(0, days, 7 if mode == "full" else 1):
                is_missed = number % 4 == 1 and day % 14 in {7, 8, 9}
                outcome = "missed" if is_missed else "late" if (day + number) % 11 == 5 else "met"
                row = who(number, names) | {
                    "mode": mode,
                    "slot": BEGIN + day * DAY + pd.Timedelta(2 + number % 5, "h"),
                    "outcome": outcome,
                    "origin": "inferred",
                }
                rows.append(row)
    return pd.DataFrame(rows).astype(dict.fromkeys((*LABELS, "mode", "outcome"), "category"))


def make_schedule(count: int, **more: Any) -> pd.DataFrame:
    """Return a daily cadence and a weekly one of full sets for each tenant."""
    rows = []
    for number in range(count):
        for mode, days, weekdays in (("any", 1, "Mon Tue Wed Thu Fri Sat Sun"), ("full", 7, "Sat")):
            row = who(number) | {
                "mode": mode,
                "since": BEGIN,
                "every": days * DAY,
                "weekdays": weekdays,
                "hour": 2 + 1 / 6,
                "tz": "Asia/Shanghai",
                "cron": pd.NA,
            }
            rows.append(row | more)
    return pd.DataFrame(rows)


def cells_of(ax: Any, kinds: Any) -> list[tuple[int, float, float, str, float]]:
    """Return row, left, right, label and height of every cell, without what marks are put on."""
    found: dict[tuple[int, float, int], tuple[int, float, float, str, float]] = {}
    collections = [c for c in ax.collections if isinstance(c, PolyCollection)]
    for collection in sorted(collections, key=lambda c: c.get_zorder()):
        label = str(collection.get_label())
        assert label in {kind.label for kind in kinds}
        for path in collection.get_paths():
            x, y = path.vertices[:, 0], path.vertices[:, 1]
            cell = (round(float(y.mean())), x.min(), x.max(), label, float(np.ptp(y)))
            center = round(float((x.min() + x.max()) / 2), 5)
            found[cell[0], center, int(collection.get_zorder())] = cell
    return list(found.values())


def at(moments: pd.Series) -> Any:
    return date2num(moments.dt.tz_convert(None).to_numpy())


def slow_cells(ax: Any, frame: pd.DataFrame, column: str, moment: str, order: Any) -> list[Any]:
    """Say of every cell drawn what the worst is of those things that are nearest to it."""
    cells = cells_of(ax, PRESENCE if column == "presence" else OUTCOMES)
    rows = sorted({cell[0] for cell in cells})
    ids = ids_of_rows(ax, frame)
    made = []
    for row in rows:
        mine = sorted(((a + b) / 2, kind) for y, a, b, kind, _ in cells if y == row)
        centers = [center for center, _ in mine]
        held: list[list[str]] = [[] for _ in mine]
        chosen = frame[(frame["instance_id"] + frame["tenant_id"]) == ids[row]]
        for when, kind in zip(at(chosen[moment]), chosen[column], strict=True):
            away = [abs(center - when) for center in centers]
            nearest = max(n for n, each in enumerate(away) if each <= min(away) + 1e-6)
            held[nearest].append(str(kind))
        for (_, kind), inside in zip(mine, held, strict=True):
            worst = max(inside, key=order.index)
            made.append((kind.replace("not known", "unknown"), worst))
    return made


def ids_of_rows(ax: Any, frame: pd.DataFrame) -> list[str]:
    """Tell whose each row is, by its label."""
    found = {}
    several = len(set(frame["instance_id"])) > 1
    for row in frame.itertuples():
        name = f"{row.tenant_name} · {row.instance_id}" if several else row.tenant_name
        found[name] = f"{row.instance_id}{row.tenant_id}"
    return [found[label] for label in labels(ax)]


# --- cells -------------------------------------------------------------------------------------


def test_every_set_is_a_cell_where_it_began() -> None:
    parity = make_parity(5, 20)
    parity["presence"] = [PRESENCES[n * 5 % 7] for n in range(len(parity))]
    ax = plot_parity(parity)
    ids = ids_of_rows(ax, parity)
    cells = cells_of(ax, PRESENCE)
    assert len(cells) == len(parity)
    expected = sorted(zip(at(parity["start_time"]), parity["presence"], strict=True))
    drawn = sorted(
        ((a + b) / 2, kind.replace("not known", "unknown")) for _, a, b, kind, _ in cells
    )
    assert [kind for _, kind in drawn] == [kind for _, kind in expected]
    assert [x for x, _ in drawn] == pytest.approx([x for x, _ in expected], abs=1e-6)
    for row in parity.itertuples():
        place = ids.index(f"{row.instance_id}{row.tenant_id}")
        when = at(pd.Series([row.start_time]))[0]
        (kind,) = [k for y, a, b, k, _ in cells if y == place and a < when < b]
        assert kind.replace("not known", "unknown") == row.presence
    assert "the worst of" not in note_of(ax)
    words = [kind.label for kind in PRESENCE]
    assert marks_of(ax) == words


@pytest.mark.parametrize("sets", [365, 2000])
def test_one_missing_set_of_thousands_is_seen(sets: int) -> None:
    parity = make_parity(2, sets, clean=True, instances=1)
    parity["presence"] = parity["presence"].cat.set_categories(["present", "missing"])
    parity.loc[parity.index[sets // 2], "presence"] = "missing"
    ax = plot_parity(parity)
    (cell,) = [cell for cell in cells_of(ax, PRESENCE) if cell[3] == "missing"]
    assert cell[0] == 0
    when = at(parity["start_time"].iloc[[sets // 2]])[0]
    assert cell[1] <= when <= cell[2]
    per_inch = np.ptp(ax.get_xlim()) / (ax.bbox.width / ax.figure.dpi)
    assert (cell[2] - cell[1]) / per_inch > 1 / 37
    band = max(c[4] for c in cells_of(ax, PRESENCE) if c[3] == "present")
    assert cell[4] > band
    title = "1 of 2 tenants is missing from a cluster set that says done: tenant_0 (1 set)"
    assert shown_title(ax) == title
    assert ("the worst of up to 7 sets in 7 d" in note_of(ax)) == (sets == 2000)
    image = mpl.image.imread(BytesIO(png(lambda: plot_parity(parity))))
    blue = np.abs(image[:, :, :3] - to_rgba("#0072B2")[:3]).max(axis=2) < 0.02
    rows, columns = np.nonzero(blue[: int(0.8 * len(blue))])  # without the legend
    assert len(rows) > 20
    assert np.ptp(columns) < 6


times = st.integers(0, 4_000_000) | st.integers(0, 900).map(lambda n: n * 60)
things = st.tuples(st.integers(0, 3), times, st.integers(0, 6))


@settings(max_examples=60)
@given(st.lists(things, min_size=1, max_size=60), st.sampled_from([1, 60, 3600]))
def test_the_worst_of_a_cell_is_drawn(rows: list[tuple[int, int, int]], scale: int) -> None:
    """Whatever the times: every cell has the worst of what is in it, and nothing has no cell."""
    tenant, second, kind = (np.array(each) for each in zip(*rows, strict=True))
    parity = pd.DataFrame(
        {
            "instance_id": [f"ob{n % 2}" for n in tenant],
            "tenant_id": [f"t{n}" for n in tenant],
            "tenant_name": [f"name_{n}" for n in tenant],
            "cluster_backup_set_id": [f"c{n % 2}-{s}" for n, s in zip(tenant, second, strict=True)],
            "start_time": BEGIN + pd.to_timedelta(second * scale, unit="s"),
            "presence": [PRESENCES[n] for n in kind],
            "cluster_state": "done",
        }
    )
    ax = plot_parity(parity)
    made = slow_cells(ax, parity, "presence", "start_time", PRESENCES)
    assert [drawn for drawn, _ in made] == [worst for _, worst in made]
    runs = parity.rename(columns={"start_time": "slot"}).assign(
        mode="any", outcome=[RESULTS[n % 4] for n in kind]
    )
    made = slow_cells(plot_schedule(runs), runs, "outcome", "slot", RESULTS)
    assert [drawn for drawn, _ in made] == [worst for _, worst in made]


def test_cells_of_one_lane_do_not_overlap() -> None:
    parity = make_parity(3, 30, instances=1)
    minutes = pd.to_timedelta((np.arange(len(parity)) ** 2) % 1300, unit="min")
    for shift in (minutes, minutes * 0, minutes * 40):
        moved = parity.assign(start_time=parity["start_time"] + shift)
        cells = sorted(cells_of(plot_parity(moved), PRESENCE))
        for one, two in pairwise(cells):
            if one[0] == two[0] and (one[3], two[3]) == ("present", "present"):
                assert one[2] <= two[1] + 1e-9


def test_sets_that_jitter_about_midnight_leave_no_holes() -> None:
    """A cell is about the usual time of its instance, so every day has its own."""
    parity = make_parity(2, 40, clean=True, instances=2)
    shift = np.where(np.arange(len(parity)) % 3 == 0, -20, 20)
    parity["start_time"] = parity["start_time"].dt.normalize() + pd.to_timedelta(shift, unit="min")
    noon = parity["instance_id"] == "ob1abcdefgh"
    parity["start_time"] += pd.to_timedelta(np.where(noon, 12, 0), unit="h")
    by_hand = parity.iloc[[7]].assign(
        start_time=parity["start_time"].iloc[7] + pd.Timedelta(1, "min"), cluster_backup_set_id="x"
    )
    ax = plot_parity(pd.concat([parity, by_hand]))
    cells = cells_of(ax, PRESENCE)
    assert [sum(cell[0] == row for cell in cells) for row in (0, 1)] == [40, 40]
    assert "Each cell: the worst of up to 2 sets in 24 h." in note_of(ax)


def test_a_full_slot_beside_another_takes_no_room_from_it() -> None:
    runs = make_slots(2, 60).astype({"mode": "object"})
    is_full = runs["mode"] == "full"
    runs["slot"] += pd.to_timedelta(np.where(is_full, 5, 0), unit="min")
    centers = sorted((a + b) / 2 for _, a, b, _, _ in cells_of(plot_schedule(runs), OUTCOMES))
    assert centers == pytest.approx(sorted(at(runs["slot"])), abs=1e-6)


def test_full_slots_are_long_and_others_short_on_the_same_row() -> None:
    runs = make_slots(4, 40)
    ax = plot_schedule(runs)
    cells = cells_of(ax, OUTCOMES)
    assert len(cells) == len(runs)
    whole = {"met", "missed"}
    heights = sorted({round(c[4], 3) for c in cells if c[3] in whole})
    assert heights == [0.42, 0.84]
    for mode, height in (("any", 0.42), ("full", 0.84)):
        mine = runs[(runs["mode"] == mode) & (runs["outcome"] == "missed")]
        drawn = [c for c in cells if c[3] == "missed" and round(c[4], 3) == height]
        centers = sorted((a + b) / 2 for _, a, b, _, _ in drawn)
        assert centers == pytest.approx(sorted(at(mine["slot"])), abs=1e-6)
    assert marks_of(ax)[-2:] == ["long: full slot", "short: any other slot"]
    only = plot_schedule(runs[runs["mode"] == "any"])
    assert not {"long: full slot", "short: any other slot"} & set(marks_of(only))
    assert marks_of(only) == ["met", "late", "missed"]


def test_late_is_a_mark_on_a_met_slot_and_pending_is_hollow() -> None:
    runs = make_slots(1, 12, modes=("any",))
    runs["outcome"] = ["met", "late", *["met"] * 9, "pending"]
    ax = plot_schedule(runs)
    held = {c.get_label(): c for c in ax.collections if isinstance(c, PolyCollection)}
    assert {name: len(c.get_paths()) for name, c in held.items()} == {
        "met": 11,
        "late": 1,
        "pending": 1,
    }
    assert not len(held["pending"].get_facecolor())
    upper = [path.vertices[:, 1].max() for path in held["met"].get_paths()]
    lower = held["late"].get_paths()[0].vertices[:, 1]
    assert lower.min() == 0
    assert lower.max() == upper[0]
    assert shown_title(ax) == "None of 11 slots missed, 1 late, in 1 of 1 tenant"
    assert [text.get_text() for text in ax.texts][:4] == ["0 of 11", "missed", "1", "late"]


def test_kinds_differ_by_more_than_their_colour() -> None:
    for kinds in (PRESENCE, OUTCOMES):
        assert len({(kind.top, kind.low, kind.fill) for kind in kinds[1:]}) == len(kinds) - 1
        shapes = [(kind.top, kind.low, kind.fill) for kind in kinds]
        assert shapes.count(shapes[0]) == (2 if kinds is OUTCOMES else 1)  # met and missed
        for dark in (False, True):
            assert len({kind.dark if dark else kind.light for kind in kinds}) == len(kinds)


def test_a_label_that_is_none_is_not_known() -> None:
    parity = make_parity(1, 3, clean=True)
    parity["presence"] = ["present", None, "a new one"]
    ax = plot_parity(parity)
    assert [cell[3] for cell in sorted(cells_of(ax, PRESENCE))] == [
        *("present", "not known", "not known")
    ]
    title = "No tenant is known to be missing from a cluster set: 1 tenant, 3 cluster sets"
    assert shown_title(ax) == f"{title}; 1 not known"
    runs = make_slots(1, 3, modes=("any",)).assign(outcome=["met", None, "a new one"])
    title = "No slot is known to be missed: 1 of 3 slots met"
    assert shown_title(plot_schedule(runs)) == title


# --- rows --------------------------------------------------------------------------------------


def test_the_worst_are_on_top_by_instance() -> None:
    parity = make_parity(12, 100)
    ax = plot_parity(parity)
    missing = (parity["presence"] == "missing").groupby(parity["tenant_id"], observed=True).sum()
    ids = ids_of_rows(ax, parity)
    assert len(ids) == 12
    instances = [each[:11] for each in ids]
    assert len(list(dict.fromkeys(instances))) == 3
    assert instances == sorted(instances, key=list(dict.fromkeys(instances)).index)
    tops = []
    for instance in dict.fromkeys(instances):
        counts = [missing[each[11:]] for each in ids if each.startswith(instance)]
        assert counts == sorted(counts, reverse=True)
        tops.append(counts[0])
    assert tops == sorted(tops, reverse=True)
    assert len([line for line in ax.lines if len(line.get_xdata()) == 2]) == 2
    texts = [text.get_text() for text in ax.texts]
    for each in ids:
        assert f"{missing[each[11:]]} of 100" in texts
    gone = make_parity(3, 9, clean=True, instances=1)
    gone["presence"] = np.where(gone["tenant_id"] == "t2", "gone", gone["presence"])
    ax = plot_parity(gone)
    assert labels(ax)[0] == "tenant_2"
    assert "n/a" in [text.get_text() for text in ax.texts]  # it owes nothing
    title = "No tenant is missing from a cluster set: 3 tenants, 9 cluster sets; 1 gone"
    assert shown_title(ax) == title
    gone.loc[10, "presence"] = "failed"
    assert labels(plot_parity(gone))[:2] == ["tenant_1", "tenant_2"]


def test_failures_have_numbers_of_their_own() -> None:
    parity = make_parity(3, 9, clean=True, instances=1)
    parity["presence"] = ["failed"] * 4 + ["missing"] * 3 + ["new", "running"] + ["present"] * 18
    ax = plot_parity(parity)
    texts = [text.get_text() for text in ax.texts]
    assert texts[:8] == ["3 of 8", "0 of 9", "0 of 9", "missing", "4", "0", "0", "failed"]
    title = "1 of 3 tenants is missing from or failed in cluster sets that say done"
    assert shown_title(ax) == f"{title}: tenant_0 (7 sets)"


def test_a_tenant_has_the_name_it_had_last() -> None:
    parity = make_parity(1, 4, clean=True)
    parity["tenant_name"] = ["old", "old", "new", "new"]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert labels(plot_parity(parity.iloc[order])) == ["new"]


@pytest.mark.parametrize("kind", ["parity", "schedule"])
def test_the_order_of_rows_tells_nothing(kind: str) -> None:
    frame = make_parity(9, 40) if kind == "parity" else make_slots(9, 40)
    draw, kinds = (plot_parity, PRESENCE) if kind == "parity" else (plot_schedule, OUTCOMES)
    before = frame.copy()
    whole = draw(frame)
    pd.testing.assert_frame_equal(frame, before)
    for seed in (1, 2):
        again = draw(frame.sample(frac=1, random_state=seed))
        assert sorted(cells_of(again, kinds)) == sorted(cells_of(whole, kinds))
        assert labels(again) == labels(whole)
        assert [t.get_text() for t in again.texts] == [t.get_text() for t in whole.texts]
        assert shown_title(again) == shown_title(whole)


@pytest.mark.parametrize("kind", ["parity", "schedule"])
def test_what_has_no_time_is_not_drawn_and_told(kind: str) -> None:
    if kind == "parity":
        frame, draw, kinds = make_parity(2, 5, clean=True), plot_parity, PRESENCE
        frame.loc[[1, 2], "start_time"] = pd.NaT
    else:
        frame, draw, kinds = make_slots(2, 5, modes=("any",)), plot_schedule, OUTCOMES
        frame.loc[[1, 2], "slot"] = pd.NaT
    ax = draw(frame)
    assert len(cells_of(ax, kinds)) == 8
    assert "Without a time, not drawn: 2." in note_of(ax)
    frame["slot" if kind == "schedule" else "start_time"] = pd.Series(
        pd.NaT, frame.index, "datetime64[us, UTC]"
    )
    ax = draw(frame)
    assert not cells_of(ax, kinds)
    assert "not drawn: 10." in note_of(ax)


# --- words -------------------------------------------------------------------------------------


def test_titles_of_parity_say_what_was_found() -> None:
    clean = make_parity(12, 8, clean=True)
    assert shown_title(plot_parity(clean)) == "All 12 tenants are in all 24 cluster sets"
    partly = shown_title(plot_parity(clean.iloc[1:]))
    assert partly == "All 12 tenants are in all of 24 cluster sets that should hold them"
    one = make_parity(1, 1, clean=True)
    assert shown_title(plot_parity(one)) == "The only tenant is in the only cluster set"
    assert shown_title(plot_parity(make_parity(1, 4, clean=True))) == (
        "The only tenant is in all 4 cluster sets"
    )
    bad = make_parity(6, 10, clean=True, instances=1).astype({"presence": "object"})
    bad = bad.astype({"cluster_state": "object"})
    bad.loc[[0, 1, 2, 10, 11, 20, 30, 40], "presence"] = "missing"
    assert shown_title(plot_parity(bad)) == (
        "5 of 6 tenants are missing from cluster sets that say done: tenant_0 (3 sets), "
        "tenant_1 (2 sets), tenant_2 (1 set), …"
    )
    bad.loc[[0, 1, 2, 10, 11, 20], "cluster_state"] = "failed"
    bad.loc[50, "presence"] = "gone"
    assert shown_title(plot_parity(bad)) == (
        "2 of 6 tenants are missing from a cluster set that says done: tenant_3 (1 set), "
        "tenant_4 (1 set); 3 more in sets that do not; 1 gone"
    )
    bad["cluster_state"] = None
    title = shown_title(plot_parity(bad))
    assert title.startswith("5 of 6 tenants are missing from cluster sets: tenant_0 (3 sets), ")
    assert title.endswith(", …; none of them says done; 1 gone")
    failed = make_parity(2, 1, clean=True, instances=1).assign(
        presence=["failed", "present"], cluster_state="running"
    )
    assert shown_title(plot_parity(failed)) == (
        "1 of 2 tenants is failed in a cluster set: tenant_0 (1 set); it does not say done"
    )
    shared = make_parity(6, 10, names=("orders",)).assign(presence="missing")
    assert "orders · ob1abcdefgh (10 sets)" not in shown_title(plot_parity(shared))  # two of them
    assert "t0 · ob0abcdefgh (10 sets)" in shown_title(plot_parity(shared))


def test_titles_of_schedules_say_what_was_missed() -> None:
    runs = make_slots(3, 30, modes=("any",)).astype({"outcome": "object"})
    runs["outcome"] = "met"
    assert shown_title(plot_schedule(runs)) == "All 90 slots met"
    runs.loc[[3, 40], "outcome"] = "missed"
    title = "2 of 90 slots missed, in 2 of 3 tenants; never two in a row"
    assert shown_title(plot_schedule(runs)).startswith(title)
    runs.loc[[41, 42, 44, 70], "outcome"] = ["missed", "pending", "missed", "late"]
    # What is pending is no slot that was due yet; 43 was met.
    first = runs["slot"][40]
    title = "4 of 89 slots missed, 1 late, in 3 of 3 tenants; longest: tenant_1 · ob1abcdefgh, 2"
    assert shown_title(plot_schedule(runs)) == f"{title} in a row from {first:%Y-%m-%d}"
    late = pd.Timestamp(runs["slot"][40]).tz_convert("Pacific/Kiritimati")
    ax = plot_schedule(runs, tz="Pacific/Kiritimati")
    assert shown_title(ax).endswith(f"in a row from {late:%Y-%m-%d}")
    assert ax.get_xlabel() == "time [Pacific/Kiritimati]"
    ax.figure.draw_without_rendering()
    assert {round(x % 1 * 24, 6) for x in ax.get_xticks()} == {10}  # its midnights, in UTC
    pending = runs.assign(outcome="pending")
    assert shown_title(plot_schedule(pending)) == "No slot was due yet: 90 pending"
    both = make_slots(1, 30).assign(outcome="met").astype({"mode": "object"})
    both.loc[[4, 5, 6], "outcome"] = "missed"
    both.loc[both["mode"] == "full", "outcome"] = "missed"  # five in a row of their own
    assert shown_title(plot_schedule(both)).endswith("5 in a row from 2026-01-01")


@settings(max_examples=40)
@given(st.lists(st.sampled_from(RESULTS), min_size=1, max_size=30))
def test_the_longest_row_is_counted(outcomes: list[str]) -> None:
    runs = make_slots(1, len(outcomes), modes=("any",)).assign(outcome=outcomes)
    title = shown_title(plot_schedule(runs))
    text = "".join("x" if each == "missed" else "." for each in outcomes if each != "pending")
    most = max(map(len, text.split("."))) if text else 0
    assert ("never two in a row" in title) == (most == 1)
    assert (f", {most} in a row from " in title) == (most > 1)
    count = outcomes.count("missed")
    assert title.startswith(f"{count} of {len(text)} slot") == (count > 0)


def test_the_cadence_stands_beside_the_row() -> None:
    runs, schedule = make_slots(2, 20), make_schedule(2)
    texts = [text.get_text() for text in plot_schedule(runs, schedule=schedule).texts]
    assert texts.count("daily 02:10, full Sat") == 2
    assert "cadence [Asia/Shanghai]" in texts
    newer = schedule.assign(since=BEGIN + DAY, hour=23.999, weekdays="Mon Thu")
    newer = newer[(newer["tenant_id"] == "t0") & (newer["mode"] == "any")]
    for both in (pd.concat([schedule, newer]), pd.concat([newer, schedule])):
        texts = [text.get_text() for text in plot_schedule(runs, schedule=both).texts]
        assert "Mon Thu 00:00, full Sat 02:10" in texts or "Mon Thu 00:00, full Sat 02:…" in texts
        assert "daily 02:10, full Sat" in texts
    for change, expected in (
        ({"every": pd.Timedelta(6, "h"), "weekdays": "", "hour": np.nan}, "every 6 h"),
        ({"every": 7 * DAY, "weekdays": None, "hour": np.nan}, "weekly"),
        ({"every": pd.NaT, "cron": "10 2 * * 6"}, "10 2 * * 6"),
        ({"every": pd.NaT}, "not known"),
    ):
        other = make_schedule(2, **change)
        other = other[other["mode"] == "any"]
        other["every"] = pd.array(list(other["every"]), "timedelta64[us]")
        texts = [text.get_text() for text in plot_schedule(runs, schedule=other).texts]
        assert texts.count(expected) == 2
    texts = [t.get_text() for t in plot_schedule(runs, schedule=schedule.head(0)).texts]
    assert texts.count("none known") == 2
    assert "cadence" in texts


def test_it_is_said_where_the_schedule_is_from() -> None:
    runs = make_slots(2, 20)
    assert note_of(plot_schedule(runs)).startswith("Schedule inferred from the sets.")
    for other in (runs.assign(origin="given"), runs.drop(columns="origin")):
        assert note_of(plot_schedule(other)) == "Most missed first, by instance."


def test_nothing_to_draw_is_said() -> None:
    for ax in (None, Figure().subplots()):
        for drawn, text in (
            (plot_parity(make_parity(1, 1).head(0), ax), "No cluster set in this window"),
            (plot_schedule(make_slots(1, 1).head(0), ax), "No slot is expected in this window"),
        ):
            assert text in [each.get_text() for each in drawn.texts]
            assert ax is None or drawn is ax


def test_what_is_no_such_frame_is_refused() -> None:
    must = "parity must be the frame that tenant_parity returned"
    with pytest.raises(ValueError, match=f"{must}, not list"):
        plot_parity([])
    with pytest.raises(ValueError, match=f"{must}; it has no presence"):
        plot_parity(make_parity(1, 1).drop(columns="presence"))
    with pytest.raises(ValueError, match="runs must be the frame that missed_runs returned"):
        plot_schedule(make_parity(1, 1))
    with pytest.raises(ValueError, match="schedule must be the frame that schedule returned"):
        plot_schedule(make_slots(1, 1), schedule=make_slots(1, 1))
    for zone in ("Mars/Olympus", "../etc", ""):
        with pytest.raises(ValueError, match="tz is no time zone"):
            plot_schedule(make_slots(1, 1), tz=zone)


# --- looks -------------------------------------------------------------------------------------

_LARGE: dict[tuple[str, int, int], pd.DataFrame] = {}


def large(kind: str, count: int, length: int) -> pd.DataFrame:
    """Return a frame that takes long to make, made once; all names are nasty."""
    if (kind, count, length) not in _LARGE:
        make = make_parity if kind == "parity" else make_slots
        _LARGE[kind, count, length] = make(count, length, names=HOSTILE)
    return _LARGE[kind, count, length]


SIZES = [(1, 1), (1, 3), (4, 30), (12, 365), (30, 30), (90, 12), (2, 2000), (500, 3)]


@pytest.mark.parametrize("kind", ["parity", "schedule"])
@pytest.mark.parametrize(("count", "length"), SIZES)
def test_nothing_is_cut_and_nothing_overlaps(kind: str, count: int, length: int) -> None:
    frame = large(kind, count, length)
    if kind == "parity":
        ax = plot_parity(frame)
    else:
        ax = plot_schedule(frame, schedule=make_schedule(count), tz="America/New_York")
    assert len(labels(ax)) == min(count, MAX_CELL_ROWS)
    assert (f"Shown: {MAX_CELL_ROWS} of {count} tenants." in note_of(ax)) == (count > 60)
    check_look(ax)
    assert len([c for c in ax.collections if isinstance(c, PolyCollection)]) <= 10
    rows = {cell[0] for cell in cells_of(ax, PRESENCE if kind == "parity" else OUTCOMES)}
    assert rows == set(range(len(labels(ax))))


@pytest.mark.parametrize("kind", ["parity", "schedule"])
@pytest.mark.parametrize("size", [(3.2, 2.4), (3.2, 3), (6.4, 4.8), (14, 6)])
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_an_ax_of_the_users(kind: str, size: tuple[float, float], layout: str | None) -> None:
    ax = Figure(figsize=size, layout=layout).subplots()
    frame = large(kind, 30, 30)
    if kind == "parity":
        assert plot_parity(frame, ax) is ax
    else:
        assert plot_schedule(frame, ax, schedule=make_schedule(30)) is ax
    assert 1 < len(labels(ax)) <= 30
    check_look(ax, inside=(3.0, 3.0))
    if size[0] > 12:
        texts = [text.get_text() for text in ax.texts]
        assert ("missing" if kind == "parity" else "cadence [Asia/Shanghai]") in texts


def test_dark_is_dark() -> None:
    with mpl.rc_context({"figure.facecolor": "#111111", "axes.facecolor": "#111111"}):
        ax = plot_parity(make_parity(6, 20))
    colors = {c.get_label(): c.get_facecolor()[0] for c in ax.collections}
    for kind in PRESENCE:
        if kind.label in colors:
            assert tuple(colors[kind.label]) == to_rgba(kind.dark)
    assert {"present", "missing"} <= set(colors)
    check_look(ax)
    assert shown_title(ax) in ax._repr_html_()


def test_a_year_of_five_hundred_tenants_is_drawn_in_a_second() -> None:
    parity, runs = make_parity(50, 365), make_slots(50, 365)
    many = []
    for frame in (parity, runs):
        parts = [
            frame.assign(tenant_id=frame["tenant_id"].astype(str) + f"-{n}") for n in range(10)
        ]
        whole = pd.concat(parts, ignore_index=True)
        many.append(whole.astype(dict.fromkeys(LABELS, "category")))
    took: dict[str, list[float]] = {"parity": [], "schedule": []}
    for _ in range(2):
        for name, draw, frame in zip(took, (plot_parity, plot_schedule), many, strict=True):
            begin = time.process_time()
            draw(frame)
            took[name].append(time.process_time() - begin)
    assert min(took["parity"]) < 1.5  # about 0.4 where nothing else runs
    assert min(took["schedule"]) < 1.5
