"""The calendar of coverage: cut at the midnights of zones, against the slow oracle."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import oracle
import pandas as pd
import pytest
from effort import examples
from histories import at, crowds, facts, frame, intervals, plain, rows_of, who
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Ask, Set
from test_coverage import NOW, sets_of

import obanalytics as ob
from obanalytics import simulator

HALF = pd.Timedelta("30min")
# A zone, and a day on which its clocks change (or its date jumps).
CHANGES = [
    *(("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25")),
    *(("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01")),
    # Half an hour; its midnights are at half past in UTC.
    *(("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04")),
    # No midnight on that day, and one that comes twice.
    *(("America/Sao_Paulo", "2017-10-15"), ("America/Sao_Paulo", "2017-02-19")),
    # That Friday was left out.
    ("Pacific/Apia", "2011-12-30"),
    *(("Asia/Shanghai", "2026-05-01"), ("UTC", "2026-05-01"), ("Asia/Kolkata", "2026-05-01")),
]
DAY = [
    *("day", "start", "end", "gap", "unknown", "time_in_rpo", "worst_exposure", "unbounded"),
    "restore_points",
]


def stretched(sets: list[Set], by: int) -> list[Set]:
    """Return the sets with longer times."""
    names = ("start", "checkpoint", "end", "gone")
    return [
        replace(each, **{name: (v := getattr(each, name)) and v * by for name in names})
        for each in sets
    ]


def longer(lists: list[Any], by: int) -> list[Any]:
    return [each and [(a and a * by, b and b * by) for a, b in each] for each in lists]


def days_of(table: pd.DataFrame, origin: pd.Timestamp) -> dict[Any, list[dict[str, Any]]]:
    assert table["day"].dt.tz is None
    table = table.assign(day=[day.date() for day in table["day"]])
    return rows_of(table, DAY, HALF, origin)


@st.composite
def asks(draw: Any) -> tuple[Ask, bool]:
    """Draw a question in half hours, and whether its end is given."""
    start = draw(st.none() | st.integers(-20, 150))
    end = (30 if start is None else start) + draw(st.integers(0, 150))
    now = draw(st.sampled_from([3000, 3000, 120, end]))
    return Ask(end, start, now, draw(st.integers(0, 40)), trust=draw(st.booleans())), now != end


@settings(max_examples=examples(350), report_multiple_bugs=False)
@given(
    crowds(most=4),
    st.lists(intervals(), min_size=4, max_size=4),
    asks(),
    st.sampled_from(CHANGES),
    st.integers(-2, 0),
)
def test_the_calendar_agrees_with_the_oracle(
    tenants: list[list[Set]],
    lists: list[Any],
    question: tuple[Ask, bool],
    change: tuple[str, str],
    days: int,
) -> None:
    (ask, end_given), (zone, date) = question, change
    tenants, lists = [stretched(sets, 3) for sets in tenants], longer(lists, 3)
    origin = pd.Timestamp(date, tz="UTC") + days * pd.Timedelta("1D")
    begin = origin.to_pydatetime()

    def day_of(instant: int) -> dt.date:
        return (begin + instant * dt.timedelta(minutes=30)).astimezone(ZoneInfo(zone)).date()

    sets = facts(tenants, lists, instances=2, unit=HALF, origin=origin)
    options = {
        "start": None if ask.start is None else origin + ask.start * HALF,
        "end": origin + ask.end * HALF if end_given else None,
        "as_of": origin + ask.now * HALF,
        "trust_unknown": ask.trust,
    }
    table = ob.coverage_calendar(sets, ask.rpo * HALF, tz=zone, **options)
    assert table.attrs["tz"] == zone
    found = days_of(table, origin)
    for number, history in enumerate(tenants):
        if known := oracle.known_at(history, ask.now):
            own = replace(ask, intervals=lists[number])
            expected = oracle.calendar(known, own, day_of)
            assert found.pop(who(number, 2), []) == [
                {**row, "time_in_rpo": row["time_in_rpo"] and pytest.approx(row["time_in_rpo"])}
                for row in expected
            ]
    assert not found


def run(start: int) -> Set:
    return Set(f"s{start}", start=start, checkpoint=start, end=start)


def test_a_gap_over_midnight_is_in_both_days() -> None:
    """By hand: a set at 0:00 on the first day, the next at 9:00 on the second; RPO 20 h."""
    table = ob.coverage_calendar(frame([run(0), run(33)]), "20h", as_of=at(48))
    assert [day.isoformat()[:10] for day in table["day"]] == ["2026-01-01", "2026-01-02"]
    assert plain(table["start"]) == [0, 24]
    assert plain(table["end"]) == [24, 48]
    assert plain(table["gap"]) == [4, 9]
    assert table["time_in_rpo"].tolist() == [pytest.approx(20 / 24), pytest.approx(15 / 24)]
    assert plain(table["worst_exposure"]) == [24, 33]
    assert plain(table["restore_points"]) == [1, 1]
    # In Shanghai the day begins at 16:00 in UTC.
    table = ob.coverage_calendar(frame([run(0), run(33)]), "20h", as_of=at(48), tz="Asia/Shanghai")
    assert plain(table["start"]) == [0, 16, 40]
    assert plain(table["gap"]) == [0, 13, 0]


@pytest.mark.parametrize(
    ("zone", "begin", "lengths"),
    [
        ("Europe/Berlin", "2026-03-27T23:00Z", [24, 23, 24]),
        ("Europe/Berlin", "2026-10-23T22:00Z", [24, 25, 24]),
        ("Australia/Lord_Howe", "2026-04-03T13:00Z", [24, 24.5, 24]),
        ("Australia/Lord_Howe", "2026-10-02T13:30Z", [24, 23.5, 24]),
        ("America/Sao_Paulo", "2017-10-14T03:00Z", [24, 23, 24]),
        ("America/Sao_Paulo", "2017-02-17T02:00Z", [24, 25, 24]),
        ("Pacific/Apia", "2011-12-28T10:00Z", [24, 24, 24]),
        ("UTC", "2026-03-28T00:00Z", [24, 24, 24]),
    ],
)
def test_days_are_as_long_as_they_are_there(zone: str, begin: str, lengths: list[float]) -> None:
    first = pd.Timestamp(begin)
    rows = frame([run(0)], origin=first)
    last = first + pd.Timedelta(sum(lengths), "h")
    table = ob.coverage_calendar(rows, "1h", end=last, as_of=last, tz=zone)
    assert plain(table["end"] - table["start"]) == lengths
    assert plain(table["gap"]) == [lengths[0] - 1, *lengths[1:]]
    expected = [at.tz_convert(zone).date() for at in table["start"]]
    assert [day.date() for day in table["day"]] == expected
    assert table["day"].is_unique


def test_what_is_unknown_is_told_day_by_day() -> None:
    sets = [run(30), Set("u", validity=None, start=40, checkpoint=40, end=40), run(70)]
    table = ob.coverage_calendar(frame(sets), "10h", start=at(0), end=at(72), as_of=at(72))
    # Before the first row all; then what the unknown one would close: 40 to 50.
    assert plain(table["gap"]) == [24, 6 + 8, 22]
    assert plain(table["unknown"]) == [24, 6 + 8, 2]
    assert plain(table["time_in_rpo"]) == [None, 1.0, pytest.approx(1 - 20 / 22)]
    trusted = ob.coverage_calendar(
        frame(sets), "10h", start=at(0), end=at(72), as_of=at(72), trust_unknown=True
    )
    assert plain(trusted["gap"]) == [24, 6, 20]


def test_grace_and_an_rpo_by_tenant() -> None:
    rows = frame([run(0)], [run(0)])
    table = ob.coverage_calendar(rows, {"t0": "5h", "t1": "9h"}, grace="3h", as_of=at(24))
    assert plain(table["gap"]) == [16, 12]
    with pytest.raises(ValueError, match="no rpo for tenant"):
        ob.coverage_calendar(rows, {"t0": "5h"}, as_of=at(24))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match=r"zone|tz"):
        ob.coverage_calendar(frame([run(0)]), "5h", as_of=at(24), tz=zone)


def test_an_empty_calendar_has_columns_and_dtypes() -> None:
    none, some = (
        ob.coverage_calendar(rows, "5h", as_of=at(24)) for rows in (frame(), frame([run(0)]))
    )
    assert none.empty
    assert list(none.columns) == list(some.columns)
    assert [d.kind for d in none.dtypes] == [d.kind for d in some.dtypes]


def test_the_days_of_the_demonstration_add_up_to_its_compliance() -> None:
    sets = sets_of(simulator.demo(NOW))
    table = ob.rpo_compliance(sets, "26h").set_index(["instance_id", "tenant_id"])
    for zone in ("UTC", "America/New_York", "Asia/Shanghai"):
        days = ob.coverage_calendar(sets, "26h", tz=zone)
        by_tenant = days.groupby(["instance_id", "tenant_id"], observed=True)
        for ours, theirs in [("gap", "gap_total"), ("unknown", "unknown")]:
            summed = by_tenant[ours].sum().reindex(table.index)
            assert (summed == table[theirs]).all(), ours
        assert (by_tenant["worst_exposure"].max() == table["worst_exposure"]).all()
        assert (days["end"].iloc[:-1] == days["start"].iloc[1:].to_numpy())[
            days["tenant_id"].iloc[:-1].to_numpy() == days["tenant_id"].iloc[1:].to_numpy()
        ].all()
