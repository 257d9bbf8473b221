"""Changes of duration by hand, and against what the simulator planted."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_coverage import sets_of

import obanalytics as ob
from obanalytics import simulator
from obanalytics.changes import duration_changes
from obanalytics.frames import conform, empty
from obanalytics.simulator import Plant

T0 = pd.Timestamp("2026-01-01", tz="UTC")
MINUTE, HOUR, DAY = pd.Timedelta("1min"), pd.Timedelta("1h"), pd.Timedelta("1D")
NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
COLUMNS = [
    *("instance_id", "tenant_id", "tenant_name", "full", "at", "last_before", "factor", "before"),
    *("after", "n_before", "n_after", "size_factor", "throughput_factor", "cause"),
    *("tenants_changed", "tenants_in_cluster", "set_before", "set_after", "sentence"),
]


def run(day: float, minutes: float, size: float, **changes: Any) -> dict[str, Any]:
    """Return a full set that is done, with some fields changed."""
    start = T0 + day * DAY
    row = {
        "instance_id": "ob1",
        "tenant_id": "t1",
        "tenant_name": "orders",
        "backup_set_id": f"s{day:05.1f}",
        "full": True,
        "state": "done",
        "start_time": start,
        "end_time": start + minutes * MINUTE,
        "size_gib": size,
        "storage_class": "standard",
        "in_window": True,
    }
    return row | changes


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    made = pd.DataFrame(rows)
    made["full"] = made["full"].astype("boolean")
    made["duration"] = made["end_time"] - made["start_time"]
    return conform(made, "tenants")


def daily(minutes: Any, sizes: Any, **changes: Any) -> list[dict[str, Any]]:
    pairs = enumerate(zip(minutes, sizes, strict=True))
    return [run(day, took, size, **changes) for day, (took, size) in pairs]


def level(before: float, after: float, count: int = 20) -> list[float]:
    """Return runs around two levels, 2 % above and below by turns."""
    return [each * (1.02 if n % 2 else 0.98) for each in (before, after) for n in range(count)]


def one(rows: list[dict[str, Any]], **options: Any) -> Any:
    table = duration_changes(frame_of(rows), **options)
    assert len(table) == 1
    return table.iloc[0]


# --- by hand -------------------------------------------------------------------------------------


def test_a_change_by_hand() -> None:
    # 60 minutes become 120, and 100 GiB become 150. factor = 120 / 60 = 2; of that size is
    # 150 / 100 = 1.5, and what is left, 2 / 1.5 = 4/3, is more time per GiB: from 60 / 100 = 0.6 to
    # 120 / 150 = 0.8 minutes. ln 1.5 / ln 2 = 0.585: neither carries two thirds of it.
    row = one(daily(level(60, 120), level(100, 150)))
    assert row["factor"] == pytest.approx(2.0)
    assert row["size_factor"] == pytest.approx(1.5)
    assert row["throughput_factor"] == pytest.approx(4 / 3)
    assert row["cause"] == "both"
    assert (row["before"], row["after"]) == (HOUR, 2 * HOUR)
    assert (row["n_before"], row["n_after"]) == (14, 14)
    assert (row["at"], row["last_before"]) == (T0 + 20 * DAY, T0 + 19 * DAY)
    assert (row["set_before"], row["set_after"]) == ("s019.0", "s020.0")
    assert (row["tenants_changed"], row["tenants_in_cluster"]) == (1, 1)
    assert row["sentence"] == (
        "orders, full: 2 x slower since 2026-01-21 (1 h -> 2 h), 1.33 x slower per GiB, "
        "1.5 x larger; last set before s019.0, first after s020.0"
    )


@pytest.mark.parametrize(
    ("after", "size", "cause", "size_factor", "throughput_factor"),
    [
        (120, 200, "size", 2.0, 1.0),
        (120, 100, "throughput", 1.0, 2.0),
        (120, 160, "size", 1.6, 1.25),  # ln 1.6 / ln 2 = 0.678, more than 2/3
        (120, 125, "throughput", 1.25, 1.6),  # ln 1.25 / ln 2 = 0.322, less than 1/3
        (120, 50, "throughput", 0.5, 4.0),  # smaller, and longer nevertheless
        (30, 50, "size", 0.5, 1.0),
        (30, 100, "throughput", 1.0, 0.5),
        (120, 0.05, "unknown", math.nan, math.nan),  # under 0.1 GiB
        (120, math.nan, "unknown", math.nan, math.nan),
    ],
)
def test_the_cause_is_what_carries_two_thirds(
    after: float, size: float, cause: str, size_factor: float, throughput_factor: float
) -> None:
    row = one(daily(level(60, after), level(100, size)))
    assert row["cause"] == cause
    assert row["size_factor"] == pytest.approx(size_factor, nan_ok=True)
    assert row["throughput_factor"] == pytest.approx(throughput_factor, nan_ok=True)
    assert row["factor"] == pytest.approx(after / 60)


def test_sentences_say_what_is_unchanged_and_what_is_not_known() -> None:
    def said(after: float, size: float) -> Any:
        return one(daily(level(60, after), level(100, size)))["sentence"].split("), ")[1]

    assert said(120, 100).startswith("2 x slower per GiB, size unchanged;")
    assert said(30, 50).startswith("as fast per GiB, 2 x smaller;")
    assert said(120, math.nan).startswith("sizes too small or unknown to say why;")
    faster = one(daily(level(60, 15), level(100, 100)))["sentence"]
    assert faster.startswith(
        "orders, full: 4 x faster since 2026-01-21 (1 h -> 15 min), 4 x faster"
    )


def test_medians_are_of_the_runs_next_to_the_change() -> None:
    # 2 % more every day for 60 days, and twice as long from day 30: 14 runs on either side are 14
    # days apart, so that the factor is 2 times 1.02^14 = 2.639, and not that of 30 days, 3.623.
    minutes = [60 * 1.02**day * (2 if day >= 30 else 1) for day in range(60)]
    rng = np.random.default_rng(1)
    minutes = [each * math.exp(rng.normal(0, 0.02)) for each in minutes]
    row = one(daily(minutes, [100.0] * 60))
    assert row["at"] == T0 + 30 * DAY
    assert row["factor"] == pytest.approx(2.639, rel=0.03)


def test_a_change_under_the_least_effect_is_none() -> None:
    rows = daily(level(60, 66), [100.0] * 40)
    assert duration_changes(frame_of(rows)).empty
    assert one(rows, min_effect=0.05)["factor"] == pytest.approx(1.1)


def test_two_changes_of_one_series() -> None:
    minutes = [*level(60, 120), *level(40, 40, 10)]
    table = duration_changes(frame_of(daily(minutes, [100.0] * 60)))
    assert table["factor"].tolist() == pytest.approx([2.0, 1 / 3])
    assert table["n_after"].tolist() == [14, 14]


def test_a_stuck_run_is_no_change() -> None:
    minutes = level(60, 60)
    minutes[10], minutes[25], minutes[39] = 900.0, 700.0, 600.0
    assert duration_changes(frame_of(daily(minutes, [100.0] * 40))).empty


def test_full_and_incremental_and_unknown_are_never_pooled() -> None:
    full = daily(level(60, 60), [100.0] * 40)
    part = daily(level(6, 6), [10.0] * 40, full=False)
    odd = daily(level(6, 12), [10.0] * 40, full=None)
    for name, rows in (("i", part), ("u", odd)):
        for row in rows:
            row["backup_set_id"] = name + row["backup_set_id"]
    # Full sets that end where incrementals begin would be a step, if they were one series.
    assert duration_changes(frame_of([*full[:20], *part[20:]])).empty
    row = one([*full, *part, *odd])
    assert pd.isna(row["full"])
    assert row["sentence"].startswith("orders, unknown mode: 2 x slower")


@pytest.mark.parametrize(
    "change", [{"state": "failed"}, {"state": "running"}, {"in_window": False}]
)
def test_only_done_runs_of_the_window_count(change: dict[str, Any]) -> None:
    rows = daily(level(60, 120), [100.0] * 40)
    spoilt = [row | change if number < 20 else row for number, row in enumerate(rows)]
    assert duration_changes(frame_of(spoilt)).empty


def test_runs_without_a_start_or_an_end_are_passed_by() -> None:
    rows = daily(level(60, 120), [100.0] * 40)
    for number in (3, 30):
        rows.append(rows[number] | {"backup_set_id": f"x{number}", "end_time": pd.NaT})
        rows.append(rows[number] | {"backup_set_id": f"y{number}", "start_time": pd.NaT})
    assert one(rows)["at"] == T0 + 20 * DAY


def test_tenants_that_change_together_are_counted() -> None:
    rows = []
    for number in range(5):
        late = {0: 0, 1: 5, 2: 6}.get(number)
        minutes = [60.0 * (1.02 if n % 2 else 0.98) for n in range(50)]
        for day in range(50):
            after = late is not None and day >= 20 + late
            minutes[day] *= 2 if after else 0.5 if number == 3 and day >= 21 else 1
        who = {"tenant_id": f"t{number}", "tenant_name": f"name{number}"}
        rows += [
            row | who | {"backup_set_id": f"{number}-{row['backup_set_id']}"}
            for row in daily(minutes, [100.0] * 50)
        ]
    other = {"instance_id": "ob2", "tenant_id": "t9"}
    rows += [
        row | other | {"backup_set_id": "z" + row["backup_set_id"]}
        for row in daily(level(60, 120), [100.0] * 40)
    ]
    table = duration_changes(frame_of(rows)).set_index("tenant_id")
    # t0, t1 and t2 got slower within a week; t3 got faster; t4 did not change; t9 is elsewhere.
    assert table["tenants_changed"].to_dict() == {"t0": 3, "t1": 3, "t2": 3, "t3": 1, "t9": 1}
    assert table["tenants_in_cluster"].to_dict() == {"t0": 5, "t1": 5, "t2": 5, "t3": 5, "t9": 1}
    assert "; 3 of 5 tenants changed in the same week;" in table["sentence"]["t1"]


# --- the table -----------------------------------------------------------------------------------


def test_an_empty_result_has_the_same_columns() -> None:
    full = duration_changes(frame_of(daily(level(60, 120), [100.0] * 40)))
    calm = duration_changes(frame_of(daily(level(60, 60), [100.0] * 40)))
    for none in (duration_changes(empty("tenants")), calm):
        assert list(none) == list(full) == COLUMNS
        assert [str(each) for each in none.dtypes] == [str(each) for each in full.dtypes]
        assert none.empty
    assert full["cause"].cat.categories.tolist() == ["throughput"]
    numbers = full.select_dtypes("number", exclude="timedelta").columns
    assert set(full.attrs["units"]) == set(numbers) - {"full"}


def test_the_table_survives_files_and_slices(tmp_path: Any) -> None:
    table = duration_changes(frame_of(daily(level(60, 120), [100.0] * 40)))
    table.to_parquet(tmp_path / "changes.parquet")
    back = pd.read_parquet(tmp_path / "changes.parquet")
    assert back["sentence"].tolist() == table["sentence"].tolist()
    assert json.loads(json.dumps(table.attrs)) == table.attrs
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(table)), table)  # noqa: S301 - its own
    assert table[table["factor"] > 3].head().empty


@pytest.mark.parametrize("options", [{"min_effect": -0.1}, {"min_size": 1}, {"alpha": 2.0}])
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        duration_changes(empty("tenants"), **options)


# --- truth ---------------------------------------------------------------------------------------


@cache
def planted() -> list[tuple[Any, pd.DataFrame]]:
    """Return histories of two tenants, one slower and one larger since then, and their changes."""
    made = []
    for seed in range(6):
        plants = (
            Plant("slower", 0, 0, 45.0, 45.0, 1.8),
            Plant("step", 0, 1, 30.0, 30.0, 2.0),
            Plant("stuck", 0, None, 70.2, 1.0, 14.0),
        )
        scenario = simulator.Scenario(
            NOW, seed, days=120, tenants=4, full_every=2, plants=plants, growth_per_30d=(0.0, 0.03)
        )
        history = simulator.simulate(scenario)
        made.append((history, duration_changes(sets_of(history))))
    return made


def test_planted_changes_are_found_with_their_time_and_cause() -> None:
    strange = 0
    for history, table in planted():
        truth = {each.kind: each for each in history.truth if each.kind != "stuck"}
        for kind, cause in (("slower", "throughput"), ("step", "size")):
            plant = truth[kind]
            row = table[table["tenant_id"].eq(plant.tenant_id) & table["full"]].iloc[0]
            assert row["cause"] == cause
            away = (row["at"] - pd.Timestamp(plant.start)) / DAY
            assert -4 <= away <= 6  # two full runs, of one every two days, from the first after it
            part = row["throughput_factor"] if kind == "slower" else row["size_factor"]
            assert part == pytest.approx(plant.factor, rel=0.15)
            if 0 <= away < 2:
                assert row["set_after"] in plant.backup_set_ids
                assert row["set_before"] not in plant.backup_set_ids
        strange += len(table[~table["tenant_id"].isin([each.tenant_id for each in truth.values()])])
    assert strange <= 1  # of 24 series


def test_the_sample_shows_what_was_planted_and_no_more() -> None:
    table = duration_changes(ob.sample())
    # Of `simulator.demo`: slower in the first cluster 60 days ago, 1.8 times; a step in size 180
    # days ago in the third, 1.6 times; full and incremental each. The stuck run is none.
    assert table["cause"].value_counts().to_dict() == {"size": 2, "throughput": 2}
    slower, larger = (table[table["cause"] == each] for each in ("throughput", "size"))
    assert slower["throughput_factor"].to_numpy() == pytest.approx(1.8, rel=0.1)
    assert larger["size_factor"].to_numpy() == pytest.approx(1.6, rel=0.2)
    assert (table["size_factor"] * table["throughput_factor"]).to_numpy() == pytest.approx(
        table["factor"].to_numpy(), rel=1e-14
    )
