"""The explorer in plain Python: every control over its range, what is shown, the code for it."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import HOSTILE, renamed

import obanalytics as ob
from obanalytics.choice import LEVELS, MODES, TABS, WHAT_IF, Choice
from obanalytics.policy import Exclude, Override
from obanalytics.schema import BackupSets, empty
from obanalytics.views import VIEWS

IMAGE = re.compile(r'<img alt="([^"]+)" style="[^"]*" src="data:image/png;base64,[\w+/=]+">')


@pytest.fixture(scope="module")
def sets() -> ob.BackupSets:
    """Return some months of two clusters: enough to draw and to forecast, quick to judge."""
    whole = ob.sample().select(instance_ids=["ob7f8bc13geh", "obnwqwwvume0"])
    return whole.between("2026-05-01", "2026-10-15")


@pytest.fixture
def explorer(sets: ob.BackupSets) -> Any:
    return ob.explore(sets)


def ran(explorer: Any, **more: Any) -> pd.DataFrame:
    """Return what the shown code makes."""
    names: dict[str, Any] = {"sets": explorer.sets, **more}
    exec(explorer.code(), names)  # noqa: S102 - that is what it is for
    return names["result"]


def alt_of(explorer: Any) -> str:
    """Return the words for the figure that is shown."""
    found = IMAGE.fullmatch(explorer.shown.picture.value)
    assert found, explorer.shown.picture.value[:200]
    return html.unescape(found[1])


# --- what is shown is what the functions return --------------------------------------------------


@pytest.mark.parametrize("tab", [*VIEWS])
def test_a_view_shows_what_its_code_makes(explorer: Any, tab: str) -> None:
    explorer.state = {"tab": tab}
    assert explorer.last_error is None
    pd.testing.assert_frame_equal(ran(explorer), explorer.frame)
    assert len(explorer.frame)
    if tab == "findings":
        assert explorer.shown.png == b""
    else:
        assert explorer.shown.png.startswith(b"\x89PNG")
        assert alt_of(explorer).startswith(f"{VIEWS[tab].title}: ")
    assert html.escape(explorer.made.sentence) in explorer.shown.sentence.value


def test_the_frame_follows_every_control(explorer: Any, sets: ob.BackupSets) -> None:
    explorer.rpo.value = 12
    assert explorer.rpo_slider.value == 12
    pd.testing.assert_frame_equal(explorer.frame, ob.coverage_gaps(sets, "12h"))
    explorer.rpo_slider.value = 30
    assert explorer.rpo.value == 30
    pd.testing.assert_frame_equal(explorer.frame, ob.coverage_gaps(sets, "30h"))
    explorer.instances.value = ("obnwqwwvume0",)
    one = sets.select(instance_ids="obnwqwwvume0")
    pd.testing.assert_frame_equal(explorer.frame, ob.coverage_gaps(one, "30h"))
    assert {key[0] for _, key in explorer.tenants.options} == {"obnwqwwvume0"}
    key = explorer.tenants.options[0][1]
    explorer.tenants.value = (key,)
    alone = sets.select(instance_ids=key[0], tenants=key[1])
    pd.testing.assert_frame_equal(explorer.frame, ob.coverage_gaps(alone, "30h"))
    explorer.everybody.click()
    assert explorer.state["tenants"] == []
    explorer.start.value, explorer.end.value = dt.date(2026, 8, 1), dt.date(2026, 8, 31)
    part = one.between("2026-08-01", "2026-09-01")
    pd.testing.assert_frame_equal(explorer.frame, ob.coverage_gaps(part, "30h"))
    assert explorer.window.value == (dt.date(2026, 8, 1), dt.date(2026, 8, 31))
    explorer.as_of.value = dt.datetime(2026, 8, 20, 12)  # noqa: DTZ001 - the widget's own
    expected = ob.coverage_gaps(part, "30h", as_of="2026-08-20 12:00")
    pd.testing.assert_frame_equal(explorer.frame, expected)
    explorer.state = {"tab": "growth"}
    explorer.mode.value = "full"
    growth = ob.size_growth(part, as_of="2026-08-20 12:00")
    pd.testing.assert_frame_equal(explorer.frame, growth[growth["full"].fillna(value=False)])
    assert explorer.last_error is None


def test_the_window_slider_and_the_dates_say_the_same(explorer: Any) -> None:
    days = [day for _, day in explorer.window.options]
    explorer.window.value = (days[3], days[40])
    assert (explorer.start.value, explorer.end.value) == (days[3], days[40])
    assert explorer.state["start"] == str(days[3])
    assert explorer.state["end"] == str(days[40] + dt.timedelta(1))  # its last day is in it
    explorer.window.value = (days[0], days[-1])
    assert (explorer.state["start"], explorer.state["end"]) == (None, None)
    explorer.end.value = days[5]
    assert explorer.window.value == (days[0], days[5])
    explorer.start.value = None
    assert explorer.state["start"] is None


def test_searching_lists_those_that_match_and_those_that_are_chosen(explorer: Any) -> None:
    every = [key for _, key in explorer.tenants.options]
    explorer.search.value = "ORDERS"
    assert explorer.tenants.options
    assert all("orders" in label for label, _ in explorer.tenants.options)
    chosen = explorer.tenants.options[0][1]
    explorer.tenants.value = (chosen,)
    explorer.search.value = "no such tenant"
    assert [key for _, key in explorer.tenants.options] == [chosen]
    assert explorer.state["tenants"] == [list(chosen)]
    explorer.search.value = every[-1][1]  # an id is found, too
    assert every[-1] in [key for _, key in explorer.tenants.options]
    explorer.search.value = ""
    assert [key for _, key in explorer.tenants.options] == every
    assert explorer.tenants.value == (chosen,)


@pytest.mark.parametrize("tab", ["findings", "calendar"])
def test_picking_narrows_every_view(explorer: Any, tab: str) -> None:
    explorer.state = {"tab": tab}
    pick = explorer.picks[tab]
    assert pick.options[0][1] is None
    label, key = pick.options[1]
    pick.value = key
    assert explorer.state["tenants"] == [list(key)]
    assert explorer.tenants.value == (key,)
    name = explorer.sets.tenants.set_index("tenant_id")["tenant_name"].loc[key[1]].iloc[-1]
    assert name in label
    for each in VIEWS:
        explorer.state = {"tab": each}
        assert set(explorer.frame["tenant_id"].dropna()) <= {key[1]}
        assert explorer.last_error is None


def test_tabs(explorer: Any) -> None:
    for at, name in enumerate(TABS[: len(explorer.tabs.children)]):
        explorer.tabs.selected_index = at
        assert explorer.state["tab"] == name
        assert explorer.tabs.get_title(at)
        assert explorer.last_error is None


# --- every control over its whole range ----------------------------------------------------------


def test_every_value_of_every_control(explorer: Any) -> None:
    for tab in ("coverage", "durations"):
        explorer.state = {"tab": tab}
        for hours in (1, 26, 336):
            explorer.rpo_slider.value = hours
        for hours in (0.01, 0.5, 87_600):
            explorer.rpo.value = hours
            assert explorer.state["rpo"].endswith(("h", "s"))
        for mode in MODES:
            explorer.mode.value = mode
            for by in LEVELS:
                explorer.by.value = by
        assert explorer.last_error is None
    days = [day for _, day in explorer.window.options]
    for low in range(0, len(days), 50):
        for high in range(low, len(days), 45):
            explorer.window.value = (days[low], days[high])
            assert explorer.last_error is None, explorer.state


MOMENTS = (pd.Timestamp("2026-06-01").to_pydatetime(), pd.Timestamp("2027-01-01").to_pydatetime())
ACTIONS = st.one_of(
    st.tuples(st.just("rpo_slider"), st.integers(1, 336)),
    st.tuples(st.just("rpo"), st.floats(0.02, 500)),
    st.tuples(st.just("mode"), st.sampled_from(MODES)),
    st.tuples(st.just("by"), st.sampled_from(LEVELS)),
    st.tuples(st.just("tab"), st.integers(0, len(VIEWS) - 1)),
    st.tuples(st.just("search"), st.sampled_from(["", "ord", "x", "ob7"])),
    st.tuples(st.just("window"), st.tuples(st.integers(0, 105), st.integers(0, 105))),
    st.tuples(st.just("start"), st.dates(dt.date(2025, 12, 1), dt.date(2026, 12, 1))),
    st.tuples(st.just("end"), st.none() | st.dates(dt.date(2025, 12, 1), dt.date(2026, 12, 1))),
    st.tuples(st.just("as_of"), st.none() | st.datetimes(*MOMENTS)),
    st.tuples(st.just("tenants"), st.sets(st.integers(0, 9), max_size=3)),
    st.tuples(st.just("instances"), st.sets(st.integers(0, 1))),
    st.tuples(st.just("everybody"), st.none()),
    st.tuples(st.just("pick"), st.integers(0, 5)),
)


def act(explorer: Any, name: str, value: Any) -> None:
    """Do what a user does."""
    if name == "everybody":
        explorer.everybody.click()
    elif name == "pick":
        pick = explorer.picks.get(explorer.state["tab"])
        if pick is not None:
            pick.value = pick.options[value % len(pick.options)][1]
    elif name == "tab":
        explorer.tabs.selected_index = value
    elif name == "tenants":
        options = [key for _, key in explorer.tenants.options]
        explorer.tenants.value = tuple(options[n] for n in sorted(value) if n < len(options))
    elif name == "instances":
        explorer.instances.value = tuple(explorer.instances.options[n] for n in sorted(value))
    elif name == "window":
        days = [day for _, day in explorer.window.options]
        low, high = sorted(min(n, len(days) - 1) for n in value)
        explorer.window.value = (days[low], days[high])
    else:
        getattr(explorer, name).value = value


@settings(max_examples=6, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=8))
def test_any_sequence_of_moves(actions: list[tuple[str, Any]]) -> None:
    whole = ob.sample().select(instance_ids=["ob7f8bc13geh", "obnwqwwvume0"])
    sets = whole.between("2026-07-01", "2026-10-15")
    explorer: Any = ob.explore(sets)
    for name, value in actions:
        act(explorer, name, value)
        # What is wrong is told; what is right is the result of what the state says.
        told = explorer.message.value
        if explorer.last_error is not None:
            assert isinstance(explorer.last_error, ValueError), explorer.last_error
            assert html.escape(str(explorer.last_error)) in told
            continue
        assert told == ""
        pd.testing.assert_frame_equal(ran(explorer), explorer.frame)
        again: Any = ob.explore(sets)
        again.state = json.loads(json.dumps(explorer.state))
        assert again.state == explorer.state
        assert again.shown.picture.value == explorer.shown.picture.value


# --- state ---------------------------------------------------------------------------------------


def test_state_is_plain_and_can_be_set(explorer: Any, sets: ob.BackupSets) -> None:
    tenant = ["ob7f8bc13geh", sets.select(instance_ids="ob7f8bc13geh").tenants["tenant_id"].iloc[0]]
    wanted = {
        "instances": ["ob7f8bc13geh"],
        "tenants": [tenant],
        "start": "2026-08-01",
        "end": "2026-09-15",
        "rpo": "30h",
        "mode": "full",
        "by": "tenant",
        "as_of": "2026-09-10 06:00:00",
        "tab": "durations",
        "what_if": {},
    }
    explorer.state = wanted
    assert explorer.last_error is None
    assert explorer.state == wanted
    assert json.loads(json.dumps(explorer.state)) == wanted
    assert explorer.rpo.value == 30
    assert explorer.mode.value == "full"
    assert explorer.window.value == (dt.date(2026, 8, 1), dt.date(2026, 9, 14))
    assert explorer.tenants.value == (tuple(tenant),)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"tab": "moon"}, "tab: 'moon' is none of coverage"),
        ({"mode": 7}, "mode: 7 is none of all"),
        ({"rpo": "soon"}, "rpo is no duration: 'soon'"),
        ({"rpo": "0h"}, "rpo: '0h' is not above zero"),
        ({"start": "yesterday"}, "start is no instant"),
        ({"start": "2026-09-01", "end": "2026-08-01"}, "the window ends before it starts"),
        ({"colour": "red"}, "'colour' is none of as_of, by"),
        ({"what_if": {"moon": 1}}, "what_if: 'moon' is none of full_every"),
    ],
)
def test_a_state_that_is_none_is_refused(explorer: Any, state: Any, message: str) -> None:
    before = explorer.state
    with pytest.raises(ValueError, match=re.escape(message)):
        explorer.state = state
    assert explorer.state == before


def test_a_choice_is_written_as_code(sets: ob.BackupSets) -> None:
    keys = sets.tenants[["instance_id", "tenant_id"]].drop_duplicates().head(2)
    tenants = [tuple(row) for row in keys.itertuples(index=False)]
    choice = Choice().changed({"tenants": tenants, "start": "2026-08-01"})
    names: dict[str, Any] = {"sets": sets}
    exec("\n".join(choice.part_code()), names)  # noqa: S102
    pd.testing.assert_frame_equal(names["part"].tenants, choice.part(sets).tenants)
    assert Choice().part_code() == ["part = sets"]
    assert set(WHAT_IF) == {
        *("full_every", "incremental_every", "retention_days", "price_per_gib_month")
    }


# --- errors, policy, hostile names ---------------------------------------------------------------


def test_an_error_is_one_line_and_what_was_there_stays(explorer: Any) -> None:
    before = explorer.shown.picture.value
    explorer.start.value = dt.date(2030, 1, 1)
    assert isinstance(explorer.last_error, ValueError)
    assert "role='alert'" in explorer.message.value
    assert "Traceback" not in explorer.message.value
    assert explorer.shown.picture.value == before
    explorer.start.value = dt.date(2026, 8, 1)
    assert explorer.last_error is None
    assert explorer.message.value == ""


def test_a_policy_counts(sets: ob.BackupSets) -> None:
    policy = ob.Policy(
        rpo="25h",
        grace="1h",
        exclude=(Exclude(name="identity", reason="theirs"),),
        override=(Override(name="orders", rpo="12h"),),
    )
    explorer: Any = ob.explore(sets, policy=policy)
    assert explorer.state["rpo"] == "25h"
    review = ob.review(sets, rpo="25h", policy=policy)
    pd.testing.assert_frame_equal(explorer.frame, review.tables["gaps"])
    pd.testing.assert_frame_equal(ran(explorer, policy=policy), explorer.frame)
    for tab in ("calendar", "findings"):
        explorer.state = {"tab": tab}
        assert explorer.last_error is None
        made = ran(explorer, policy=policy).astype(explorer.frame.dtypes)  # fewer categories
        pd.testing.assert_frame_equal(made, explorer.frame)
    given_rpo: Any = ob.explore(sets, rpo="20h", policy=policy)
    assert given_rpo.state["rpo"] == "20h"


def test_from_a_review(sets: ob.BackupSets) -> None:
    review = ob.review(sets, rpo="20h")
    explorer: Any = review.explore()
    assert explorer.state["rpo"] == "20h"
    pd.testing.assert_frame_equal(explorer.frame, review.tables["gaps"])
    held = ob.review(sets, policy=ob.Policy(rpo="30h", grace="0h")).explore()
    assert held.state["rpo"] == "30h"


def test_names_do_nothing(sets: ob.BackupSets) -> None:
    explorer: Any = ob.explore(renamed(sets, HOSTILE))
    for tab in VIEWS:
        explorer.state = {"tab": tab}
        assert explorer.last_error is None
        shown = explorer.shown
        for part in (shown.sentence.value, shown.table.value, shown.picture.value):
            assert "<script" not in part
            assert "<img src=x" not in part
            assert "onerror=alert(1)>" not in part
    explorer.show_code.value = True
    assert "<script" not in explorer.code_box.value


def test_what_if_replays_the_history(explorer: Any, sets: ob.BackupSets) -> None:
    explorer.state = {"tab": "what-if"}
    same = explorer.frame
    explorer.what_if["retention_days"].value = 30
    explorer.what_if["full_every"].value = 14
    explorer.what_if["price_per_gib_month"].value = 0.02
    assert explorer.last_error is None
    assert explorer.state["what_if"] == {
        "full_every": "14D",
        "retention_days": 30,
        "price_per_gib_month": 0.02,
    }
    pd.testing.assert_frame_equal(ran(explorer), explorer.frame)
    told = explorer.frame[explorer.frame["scenario"] == "what if"]
    expected = ob.what_if(
        sets, rpo="26h", full_every="14D", retention_days=30, price_per_gib_month=0.02
    )
    expected = expected[expected["scenario"] == "what if"]
    for name in ("sets", "written_gib", "time_in_rpo", "stored_gib", "cost_per_month"):
        assert told[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)
    assert told["stored_gib"].sum() < same["stored_gib"].iloc[::2].sum()
    explorer.rpo.value = 20
    assert set(explorer.frame["rpo"]) == {pd.Timedelta("20h")}
    explorer.state = {"what_if": {}}
    assert explorer.what_if["retention_days"].value == 0
    explorer.state = {"what_if": {"incremental_every": "12h"}}
    assert explorer.what_if["incremental_every"].value == 12


@pytest.mark.parametrize("hours", [1, 6, 24, 168])
@pytest.mark.parametrize("days", [1, 7, 35])
def test_every_cadence(explorer: Any, hours: int, days: int) -> None:
    one = explorer.tenants.options[0][1]
    explorer.state = {"tab": "what-if", "tenants": [one]}
    explorer.what_if["incremental_every"].value = hours
    explorer.what_if["full_every"].value = days
    explorer.what_if["retention_days"].value = 365
    assert explorer.last_error is None
    assert len(explorer.frame) == 2


@pytest.mark.parametrize("kind", ["nothing", "one set", "a frame", "no instant"])
def test_little_or_nothing(sets: ob.BackupSets, kind: str) -> None:
    facts: Any = {
        "nothing": BackupSets(empty("clusters"), empty("tenants")),
        "one set": sets.tenants.head(1),
        "a frame": sets.tenants,
        "no instant": replace(sets, as_of=None),
    }[kind]
    explorer: Any = ob.explore(facts)
    for tab in VIEWS:
        explorer.state = {"tab": tab}
        assert explorer.last_error is None, (tab, explorer.last_error)


# --- static, and lasting -------------------------------------------------------------------------


def test_where_nothing_is_alive_a_picture_stands(explorer: Any) -> None:
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<img alt=" in data["text/html"]
    assert data["image/png"].startswith(b"\x89PNG")
    explorer.state = {"tab": "findings"}
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "<table" in data["text/html"]
    assert "image/png" not in data


def test_many_moves_keep_nothing(explorer: Any) -> None:
    import gc  # noqa: PLC0415

    from matplotlib.figure import Figure  # noqa: PLC0415

    def figures() -> int:
        gc.collect()
        return sum(isinstance(each, Figure) for each in gc.get_objects())

    explorer.rpo_slider.value = 3
    before = figures()
    for hours in range(4, 30):
        explorer.rpo_slider.value = hours
    assert figures() <= before
    assert len(explorer.kept) <= 24


def test_going_back_shows_the_same(explorer: Any) -> None:
    first = explorer.shown.picture.value
    explorer.rpo_slider.value = 50
    assert explorer.shown.picture.value != first
    explorer.rpo_slider.value = 26
    assert explorer.shown.picture.value == first


def test_a_moved_explorer_shows_what_a_new_one_shows() -> None:
    """What is kept between two moves leaves no trace, neither in numbers nor in dots."""
    sets = ob.sample()
    moved = ob.explore(sets)
    for hours in (27, 300, 28, 9, 10):
        moved.rpo.value = hours
        new = ob.explore(sets, rpo=f"{hours}h")
        assert moved.last_error is new.last_error is None
        assert moved.shown.png == new.shown.png
        assert moved.shown.sentence.value == new.shown.sentence.value
        assert moved.shown.table.value == new.shown.table.value
        pd.testing.assert_frame_equal(moved.frame, new.frame)
