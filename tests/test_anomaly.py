"""Anomalies by hand, against plain loops, and against the truth of planted histories."""

from __future__ import annotations

import json
import math
import pickle
import statistics
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coverage import NOW, sets_of

from obanalytics import anomaly
from obanalytics.anomaly import anomalies
from obanalytics.errors import DataError
from obanalytics.frames import conform, empty
from obanalytics.schema import STATES, BackupSets
from obanalytics.simulator import Plant, Scenario, demo, simulate
from obanalytics.windows import median_mad

T0 = pd.Timestamp("2026-01-01", tz="UTC")
MINUTE = pd.Timedelta("1min")
DAY = 1440
COLUMNS = [
    *("rank", "instance_id", "tenant_id", "tenant_name", "backup_set_id", "storage_class", "full"),
    *("start_time", "kind", "observed", "usual", "unit", "factor", "z", "q_value", "n", "sentence"),
]


def one_set(number: int, **changes: Any) -> dict[str, Any]:
    """Return a daily incremental set of 10 GiB and 30 minutes, with some fields changed."""
    row = {
        "instance_id": "ob1",
        "tenant_id": "t1",
        "tenant_name": "billing",
        "backup_set_id": f"s{number:04}",
        "full": False,
        "state": "done",
        "minute": DAY * number,
        "took": 30.0,
        "size_gib": 10.0,
        "storage_class": "standard",
        "in_window": True,
    }
    return row | changes


def daily(sizes: Any, **changes: Any) -> list[dict[str, Any]]:
    return [one_set(n, size_gib=float(size), **changes) for n, size in enumerate(sizes)]


def lasting(minutes: Any, **changes: Any) -> list[dict[str, Any]]:
    return [one_set(n, took=float(each), **changes) for n, each in enumerate(minutes)]


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        return empty("tenants")
    made = pd.DataFrame(rows).drop(columns=["minute", "took"])
    made["full"] = made["full"].astype("boolean")
    made["state"] = pd.Categorical(made["state"], categories=pd.Index(STATES, dtype="str"))
    start = [pd.NaT if r["minute"] is None else T0 + r["minute"] * MINUTE for r in rows]
    took = [pd.NaT if r["took"] is None else r["took"] * MINUTE for r in rows]
    made["start_time"] = pd.Series(start, dtype="datetime64[us, UTC]")
    made["end_time"] = made["start_time"] + pd.Series(took, dtype="timedelta64[us]")
    return conform(made, "tenants")


def found(rows: list[dict[str, Any]], **options: Any) -> list[tuple[str, str]]:
    """Return which sets are anomalies, and of which kind, in the order of their ids."""
    made = anomalies(frame_of(rows), **options)
    return sorted(zip(made["backup_set_id"], made["kind"], strict=True))


# --- by hand -------------------------------------------------------------------------------------


def test_modified_z_by_hand() -> None:
    sizes = [8.0, 8.0, 10.0, 10.0, 10.0, 12.5, 12.5, 12.5, 10.0, 40.0]
    made = anomalies(frame_of(daily(sizes)), threshold=4)
    row = made.iloc[0]
    # Of the nine before it the median is 10. Distances of logarithms: four of 0, five of
    # ln 1.25 = 0.22314; the fifth smallest is 0.22314. z = 0.6745 ln 4 / ln 1.25 = 4.1904.
    assert len(made) == 1
    assert anomalies(frame_of(daily(sizes)), threshold=4.2).empty
    assert row["z"] == pytest.approx(0.6745 * math.log(4) / math.log(1.25))
    assert row["z"] == pytest.approx(4.1904, abs=1e-4)
    assert (row["observed"], row["usual"], row["factor"]) == (40, 10, 4)
    assert (row["backup_set_id"], row["kind"], row["unit"]) == ("s0009", "size_large", "GiB")
    assert (row["rank"], row["n"]) == (1, 9)
    # Student's t with 0.37 * 8 degrees of freedom, of two sides; two sizes (and durations) of the
    # ten have eight before them, so four were judged and this is the least likely: q = 4 p.
    from scipy.stats import t as student  # noqa: PLC0415 - as in the package

    assert row["q_value"] == pytest.approx(4 * 2 * student.sf(row["z"], 0.37 * 8))


def test_the_median_of_an_even_number_is_that_of_logarithms() -> None:
    row = anomalies(frame_of(daily([10.0] * 4 + [12.1] * 4 + [100.0]))).iloc[0]
    # Between ln 10 and ln 12.1 lies ln 11; every distance is ln 1.1.
    assert row["usual"] == pytest.approx(11)
    assert row["z"] == pytest.approx(0.6745 * math.log(100 / 11) / math.log(1.1))
    assert row["n"] == 8


def test_sets_that_are_all_alike_have_a_spread_of_two_percent() -> None:
    made = anomalies(frame_of(daily([10.0] * 20 + [12.5])))
    assert made["z"].tolist() == pytest.approx([0.6745 * math.log(1.25) / 0.02])
    # 0.01 GiB of rounding is more than that: of 0.2 GiB it is 5 %.
    made = anomalies(frame_of(daily([0.2] * 20 + [0.4])))
    assert made["z"].tolist() == pytest.approx([0.6745 * math.log(2) / 0.05])


@pytest.mark.parametrize(
    ("usual", "odd", "kind"),
    [
        (10, 12.1, "size_large"),
        (10, 11.9, None),  # less than 1.2 times
        (10, 8.3, "size_small"),
        (10, 8.4, None),
        (0.2, 0.31, "size_large"),
        (0.2, 0.29, None),  # less than 0.1 GiB more
        (0.05, 0.0, None),
        (10, 0.0, "size_small"),  # nothing at all
    ],
)
def test_floors_of_sizes(usual: float, odd: float, kind: str | None) -> None:
    expected = [] if kind is None else [("s0012", kind)]
    assert found(daily([usual] * 12 + [odd, usual])) == expected


def test_nothing_at_all_is_told_as_such() -> None:
    row = anomalies(frame_of(daily([10.0] * 12 + [0.0]))).iloc[0]
    assert (row["observed"], row["factor"]) == (0, 0)
    assert row["z"] == pytest.approx(-0.6745 * math.log(10 / 0.005) / 0.02)


@pytest.mark.parametrize(
    ("usual", "odd", "slow"),
    [(30, 37, True), (30, 35.5, False), (4, 8.9, False), (4, 9.1, True), (30, 1, False)],
)
def test_floors_of_durations_and_fast_runs(usual: float, odd: float, *, slow: bool) -> None:
    assert found(lasting([usual] * 12 + [odd, usual])) == [("s0012", "slow")] * slow


def test_what_a_larger_size_explains_is_not_slow() -> None:
    usual = [one_set(n) for n in range(12)]
    larger = one_set(12, size_gib=40.0, took=120.0)  # four times the size in four times the time
    assert found([*usual, larger]) == [("s0012", "size_large")]
    longer = one_set(12, size_gib=40.0, took=180.0)  # 1.5 times as long as that
    assert found([*usual, longer]) == [("s0012", "size_large"), ("s0012", "slow")]
    made = anomalies(frame_of([*usual, longer])).set_index("kind")
    assert made.loc["slow", "z"] == pytest.approx(0.6745 * math.log(1.5) / 0.02)
    assert made.loc["slow", "factor"] == pytest.approx(6)  # the whole duration
    # Slow per GiB, but not longer than ever: only the size is told.
    assert found([*usual, one_set(12, size_gib=2.0)]) == [("s0012", "size_small")]
    unsized = one_set(12, size_gib=math.nan, took=120.0)
    assert found([*usual, unsized]) == [("s0012", "slow")]


def test_unfinished_runs_are_as_long_as_they_are_old() -> None:
    usual = [one_set(n) for n in range(12)]
    run = one_set(12, state="running", took=None, size_gib=math.nan)
    frame = frame_of([*usual, run])
    begun = T0 + 12 * DAY * MINUTE
    assert len(anomalies(frame, as_of=begun + 37 * MINUTE)) == 1
    assert anomalies(frame, as_of=begun + 35 * MINUTE).empty
    row = anomalies(frame, as_of=begun + 300 * MINUTE).iloc[0]
    assert (row["kind"], row["unit"], row["n"]) == ("running_long", "s", 12)
    assert (row["observed"], row["usual"]) == pytest.approx((18_000, 1_800))
    assert row["z"] == pytest.approx(0.6745 * math.log(10) / 0.02)
    assert row["sentence"] == (
        "billing, incremental set s0012: has been running for 5 h, usually 30 min "
        "(10.0 x longer than the median of the 12 sets before it)"
    )
    # One that ended later was running then.
    ended = frame_of([*usual, one_set(12, took=400.0)])
    assert anomalies(ended, as_of=begun + 300 * MINUTE)["kind"].tolist() == ["running_long"]
    assert anomalies(ended)["kind"].tolist() == ["slow"]
    # A run of before the window is one too, if it is still there.
    before = frame_of([*usual, run | {"in_window": False}])
    assert len(anomalies(before, as_of=begun + 300 * MINUTE)) == 1


def test_long_runs_that_come_up_often_are_usual_for_unfinished_ones_too() -> None:
    # Of sixteen before it, one may be as long: more would be over a tenth.
    run = one_set(16, state="running", took=None)
    now = T0 + (16 * DAY + 300) * MINUTE
    for often, told in (((3, 7), []), ((3,), ["running_long"])):
        long = [one_set(n, took=300.0 if n in often else 30.0) for n in range(16)]
        made = anomalies(frame_of([*long, run]), as_of=now)
        assert made[made["backup_set_id"] == "s0016"]["kind"].tolist() == told


def test_sentences() -> None:
    made = anomalies(frame_of(daily([4.5] * 28 + [0.9])))
    assert made.loc[0, "sentence"] == (
        "billing, incremental set s0028: 0.90 GiB, usually 4.50 GiB "
        "(5.0 x smaller than the median of the 28 sets before it)"
    )
    made = anomalies(frame_of(daily([1000.0] * 28 + [3500.0], full=True)))
    assert made.loc[0, "sentence"] == (
        "billing, full set s0028: 3,500.0 GiB, usually 1,000.0 GiB "
        "(3.5 x larger than the median of the 28 sets before it)"
    )
    made = anomalies(frame_of(lasting([4.0] * 28 + [42.0], tenant_name="a\nb", full=None)))
    assert made.loc[0, "sentence"] == (
        "a\\nb, unknown mode set s0028: took 42 min, usually 4 min "
        "(10.5 x longer than the median of the 28 sets before it)"
    )


def test_tenants_of_several_clusters_are_told_apart() -> None:
    rows = daily([10.0] * 12 + [50.0]) + daily([10.0] * 12 + [40.0], instance_id="ob2")
    made = anomalies(frame_of(rows))
    assert [text.split(",")[0] for text in made["sentence"]] == ["billing · ob1", "billing · ob2"]


# --- what a set is compared with -----------------------------------------------------------------


def test_the_first_eight_are_not_judged() -> None:
    assert found(daily([10.0] * 7 + [100.0])) == []
    assert found(daily([10.0] * 8 + [100.0])) == [("s0008", "size_large")]
    assert found(daily([10.0] * 4 + [100.0]), min_n=4) == [("s0004", "size_large")]
    assert anomalies(frame_of(daily([10.0] * 8))).attrs["judged"] == 0
    assert anomalies(frame_of(daily([10.0] * 9))).attrs["judged"] == 2  # a size, a duration


def test_only_the_window_counts() -> None:
    sizes = [100.0] * 30 + [10.0] * 28 + [100.0]
    assert ("s0058", "size_large") in found(daily(sizes))
    assert ("s0058", "size_large") not in found(daily(sizes), window=40)


def test_modes_tenants_and_instances_are_apart() -> None:
    rows = daily([10.0] * 12)
    for changes in ({"full": True}, {"full": None}, {"tenant_id": "t2"}, {"instance_id": "ob2"}):
        rows.append(one_set(12, size_gib=100.0, **changes))
    assert found(rows) == []
    assert found([*rows, one_set(13, size_gib=100.0)]) == [("s0013", "size_large")]


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired", "unknown", "running"])
def test_only_done_sets_are_judged_and_compared_with(state: str) -> None:
    odd = [one_set(n, state=state, size_gib=99.0, took=900.0) for n in range(8)]
    rest = [one_set(n) for n in range(8, 15)]
    assert found([*odd, *rest, one_set(15, size_gib=100.0)]) == []
    rows = [one_set(n) for n in range(8)] + [one_set(8, state=state, size_gib=99.0, took=None)]
    assert found(rows, as_of=T0 + (8 * DAY + 30) * MINUTE) == []


def test_sets_of_before_the_window_are_compared_with_and_not_judged() -> None:
    before = [one_set(n, in_window=False) for n in range(12)]
    before[10]["size_gib"] = 100.0
    assert found([*before, one_set(12, size_gib=40.0)]) == [("s0012", "size_large")]


def test_sets_without_a_size_or_a_start_take_no_place_in_a_window() -> None:
    rows = daily([10.0] * 8)
    gaps = [one_set(n, size_gib=math.nan, took=None) for n in range(8, 60)]
    late = [one_set(60, size_gib=100.0), one_set(61, minute=None, took=None, size_gib=100.0)]
    assert found([*rows, *gaps, *late]) == [("s0060", "size_large")]
    backwards = [one_set(n, took=-5.0) for n in range(8)]
    assert found([*backwards, one_set(8, took=900.0)]) == []


def test_storage_classes_are_apart_and_copies_are_judged_once() -> None:
    standard = daily([10.0] * 12)
    cold = [
        one_set(n, backup_set_id=f"c{n:04}", storage_class="ia", size_gib=30.0) for n in range(12)
    ]
    # A cold set of 30 GiB is as usual, a standard one is not.
    assert found([*standard, *cold, one_set(12, storage_class="ia", size_gib=30.0)]) == []
    odd = one_set(12, size_gib=30.0)
    assert found([*standard, *cold, odd]) == [("s0012", "size_large")]
    # Its copy is the same set; where only one of the two is done, it is judged as that one.
    assert found([*standard, *cold, odd, odd | {"storage_class": "zz"}]) == [
        ("s0012", "size_large")
    ]
    failed = odd | {"state": "failed", "storage_class": "ia"}
    made = anomalies(frame_of([*standard, *cold, failed, odd]))
    assert made["storage_class"].tolist() == ["standard"]
    assert found([*standard, *cold, failed, odd | {"storage_class": "ia"}]) == []


def test_copies_that_are_alike_are_judged_in_the_class_that_comes_first_by_name() -> None:
    rows = [
        row | {"storage_class": name}
        for row in daily([10.0] * 12 + [30.0])
        for name in ("standard", "ia")
    ]
    frame = frame_of(rows)
    sets = BackupSets(empty("clusters"), frame, as_of=T0 + 20 * DAY * MINUTE)
    for facts in (frame, frame.sample(frac=1, random_state=1), sets):
        made = anomalies(facts)
        assert made[["backup_set_id", "storage_class"]].to_numpy().tolist() == [["s0012", "ia"]]


# --- what is no anomaly --------------------------------------------------------------------------


def test_after_a_step_only_the_first_three_are_unusual() -> None:
    step = daily([10.0] * 40 + [16.0] * 60)
    assert [name for name, _ in found(step)] == ["s0040", "s0041", "s0042"]
    early = daily([10.0] * 9 + [16.0] * 60)
    assert [name for name, _ in found(early)] == ["s0009", "s0010"]  # of ten, two are a tenth


def test_weekends_are_no_anomalies() -> None:
    sizes = [7.0 if n % 7 in (2, 3) else 10.0 for n in range(200)]
    assert found(daily(sizes)) == []
    # Nor where the fulls are made on one of the two days.
    rows = daily(sizes)
    assert found([row | {"full": n % 7 == 3} for n, row in enumerate(rows)])[1:] == []


def test_growth_is_no_anomaly() -> None:
    for share in (0.06, -0.06):
        rows = daily(100 * (1 + share) ** (7 * np.arange(60) / 30), full=True)
        assert found([row | {"minute": 7 * row["minute"]} for row in rows]) == []


# --- the daily major compaction ------------------------------------------------------------------


def with_merge(rows: list[dict[str, Any]], text: Any = "18:00Z") -> BackupSets:
    inventory = empty("inventory").reindex(range(1))
    inventory["instance_id"], inventory["tenant_id"] = "ob1", "t1"
    inventory["data_merge_time"] = pd.Series([text], dtype="string")
    return BackupSets(
        empty("clusters"),
        frame_of(rows),
        inventory=conform(inventory, "inventory"),
        as_of=T0 + 99 * DAY * MINUTE,
    )


def evening(hour: float, odd: float, took: float, usual: float = 30.0) -> list[dict[str, Any]]:
    rows = [one_set(n, minute=DAY * n + 60 * hour, took=usual) for n in range(20)]
    return [*rows, one_set(20, minute=DAY * 20 + 60 * odd, took=took)]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (evening(16, 16, 130), "overlaps_merge"),  # 16:00 to 18:10
        (evening(16, 16, 110), "slow"),  # to 17:50
        (evening(16, 18.5, 130), "overlaps_merge"),  # began within the hour
        (evening(16, 19, 130), "slow"),
        (evening(17.75, 17.75, 130), "slow"),  # as every day
        (evening(16, 16, 1500), "slow"),  # what takes a day meets everything
    ],
)
def test_slow_runs_that_met_the_compaction(rows: list[dict[str, Any]], kind: str) -> None:
    made = anomalies(with_merge(rows))
    assert made["kind"].tolist() == [kind]
    assert anomalies(with_merge(rows).tenants)["kind"].tolist() == ["slow"]
    tail = "; unlike most of them it met the daily major compaction at 18:00 UTC"
    assert made["sentence"].str.endswith(tail).tolist() == [kind == "overlaps_merge"]


def test_runs_that_are_not_slow_are_not_told_whatever_they_meet() -> None:
    assert anomalies(with_merge(evening(17.75, 17.75, 30))).empty


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        ("18:00Z", 1080),
        ("18:00", 1080),
        ("02:30:00z", 150),
        ("02:00+08:00", 1080),
        ("16:00-0200", 1080),
        ("nightly", None),
        ("", None),
    ],
)
def test_times_of_the_compaction(text: str, minute: int | None) -> None:
    assert anomaly._clock(text) == (anomaly.NAT if minute is None else minute * 60_000_000)
    met = minute == 1080
    made = anomalies(with_merge(evening(16, 16, 130), text))
    assert made["kind"].tolist() == (["overlaps_merge"] if met else ["slow"])
    assert anomalies(with_merge(evening(16, 16, 130), None))["kind"].tolist() == ["slow"]


# --- ranks and q-values --------------------------------------------------------------------------


def test_the_largest_factor_comes_first() -> None:
    rows = daily([10.0] * 12 + [40.0, 1.0, 30.0, 10.0])
    rows += daily([10.0] * 12 + [40.0], tenant_id="t2", full=True)
    made = anomalies(frame_of(rows))
    assert made["factor"].round(2).tolist() == [0.1, 4.0, 4.0, 3.0]
    assert made["rank"].tolist() == [1, 2, 3, 4]
    assert made["tenant_id"].tolist() == ["t1", "t1", "t2", "t1"]
    again = anomalies(frame_of(rows).sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(again, made)


def test_q_values_are_those_of_scipy() -> None:
    from scipy.stats import false_discovery_control  # noqa: PLC0415
    from scipy.stats import t as student  # noqa: PLC0415

    chance = np.random.default_rng(5)
    rows = []
    for tenant in range(40):
        sizes = 10 * np.exp(chance.standard_t(3, 60) * 0.1)
        rows += daily(sizes, tenant_id=f"t{tenant}")
    made = anomalies(frame_of(rows), threshold=1e-9)
    assert len(made) > 40
    p_value = 2 * student.sf(np.abs(made["z"]), 0.37 * (made["n"] - 1))
    judged = made.attrs["judged"]
    assert judged == 2 * 40 * 52
    whole = np.append(p_value, np.ones(judged - len(made)))  # the others are within the floors
    wanted = false_discovery_control(whole, method="bh")[: len(made)]
    np.testing.assert_allclose(made["q_value"], wanted, rtol=1e-9)
    few = anomalies(frame_of(rows), fdr=0.05)
    kept = made[(made["q_value"] <= 0.05) & (made["z"].abs() >= 4.5)]
    assert few["backup_set_id"].tolist() == kept["backup_set_id"].tolist()
    assert 0 < len(few) < len(anomalies(frame_of(rows)))


@pytest.mark.parametrize("n", [8, 12, 28])
def test_p_is_about_what_regular_sets_have(n: int) -> None:
    from scipy.stats import t as student  # noqa: PLC0415

    chance, many = np.random.default_rng(n), 100_000
    low = np.arange(many) * n
    median, mad, _ = median_mad(chance.normal(size=many * n), low, low + n)
    z = 0.6745 * np.abs(chance.normal(size=many) - median) / mad
    for least in (3.5, 5.0):
        share, told = np.mean(z >= least), 2 * student.sf(least, 0.37 * (n - 1))
        assert 0.7 * told - 2e-4 < share < 1.15 * told + 2e-4


# --- against plain loops -------------------------------------------------------------------------


ODD_SIZES = st.sampled_from([0.0, 0.2, 1.0, 7.9, 8.4, 9.5, 10.0, 10.0, 10.5, 12.1, 35.0, math.nan])
ODD_TIMES = st.sampled_from([0.0, 1.0, 20.0, 30.0, 30.0, 31.0, 34.0, 38.0, 90.0, 400.0, None, -5.0])
ODD_STATES = st.sampled_from(
    ["done"] * 8 + ["running", "failed", "cancelled", "expired", "unknown"]
)


@st.composite
def histories(draw: Any) -> list[dict[str, Any]]:
    """Draw some series of sets that are mostly alike."""
    rows = []
    for number in range(draw(st.integers(0, 2))):
        count = draw(st.integers(0, 34))
        own = {"tenant_id": f"t{number % 2}", "storage_class": f"c{draw(st.integers(0, 1))}"}
        own["full"] = draw(st.sampled_from([True, False, None]))
        odd = draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=8))
        for n in range(count):
            row = one_set(n, **own) | {"backup_set_id": f"{number}-{n:03}"}
            row["size_gib"] += n % 3 / 2
            if n in odd:
                row["size_gib"], row["took"] = draw(ODD_SIZES), draw(ODD_TIMES)
                row["state"], row["in_window"] = draw(ODD_STATES), draw(st.booleans())
            if row["state"] == "running":
                row["took"] = None
            rows.append(row)
    return rows


def plain_z(log: float, held: list[float], rounded: float) -> tuple[float, float]:
    middle = statistics.median(held)
    spread = statistics.median(abs(each - middle) for each in held)
    return log - middle, max(spread, 0.02, rounded / math.exp(middle))


def plain_measures(row: dict[str, Any], now: float) -> list[tuple[str, float]]:
    """Return what a set has: a size, a duration, an age."""
    size, took, made = row["size_gib"], row["took"], []
    if row["state"] == "done" and size >= 0:
        made.append(("size", size))
    if row["state"] == "done" and took is not None and took >= 0:
        made.append(("slow", took * 60))
    if row["state"] == "running" and row["minute"] < now:
        made.append(("running_long", (now - row["minute"]) * 60))
    return made


def plain_verdict(
    what: tuple[str, float], held: list[float], larger: float, threshold: float
) -> tuple[float, float, int] | None:
    """Return z, factor and n of an anomaly."""
    kind, observed = what
    rounded, least = (0.01, 0.1) if kind == "size" else (1.0, 300)
    log = math.log(max(observed, rounded / 2))
    apart, spread = plain_z(log, held, rounded)
    left = apart - larger if kind == "slow" else apart
    side = 1 if apart > 0 else -1
    beyond = sum(side * (log - each) >= math.log(1.2) for each in held)
    usual = math.exp(log - apart)
    conditions = (
        kind == "size" or side > 0,
        abs(observed - usual) >= least,
        abs(left) >= math.log(1.2),
        left * side > 0,
        len(held) - beyond <= len(held) // 10,
        abs(0.6745 * left / spread) >= threshold,
    )
    return (0.6745 * left / spread, observed / usual, len(held)) if all(conditions) else None


def plain_anomalies(
    rows: list[dict[str, Any]], now: float, rule: tuple[int, int, float]
) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Return z, factor and n of every anomaly: loops only."""
    window, min_n, threshold = rule
    past: dict[Any, list[float]] = {}
    made = {}
    for row in sorted(rows, key=lambda each: (each["minute"], each["backup_set_id"])):
        larger, key = 0.0, tuple(row[name] for name in ("tenant_id", "full", "storage_class"))
        for kind, observed in plain_measures(row, now):
            line = past.setdefault((key, kind == "size"), [])
            held = line[-window:]
            log = math.log(max(observed, 0.005 if kind == "size" else 0.5))
            judged = len(held) >= min_n and (row["in_window"] or kind == "running_long")
            found = plain_verdict((kind, observed), held, larger, threshold) if judged else None
            if kind == "size" and len(held) >= min_n:
                larger = max(plain_z(log, held, 0.01)[0], 0.0)
            if found is not None:
                name = "size_large" if found[1] > 1 else "size_small"
                made[row["backup_set_id"], name if kind == "size" else kind] = found
            if kind != "running_long":
                line.append(log)
    return made


@settings(max_examples=60)
@given(
    histories(),
    st.sampled_from([(28, 8, 4.5), (12, 5, 2.0), (9, 9, 4.5)]),
    st.sampled_from([1, 40, 1 << 17]),
)
def test_anomalies_agree_with_plain_loops(
    rows: list[dict[str, Any]], rule: tuple[int, int, float], part: int
) -> None:
    window, min_n, threshold = rule
    now = 40 * DAY
    frame = frame_of(rows)
    before = frame.copy(deep=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anomaly, "PART_ROWS", part)
        made = anomalies(
            frame, window=window, min_n=min_n, threshold=threshold, as_of=T0 + now * MINUTE
        )
    pd.testing.assert_frame_equal(frame, before)
    wanted = plain_anomalies(rows, now, rule)
    got = made.set_index(["backup_set_id", "kind"])[["z", "factor", "n"]].T.to_dict("list")
    assert sorted(got) == sorted(wanted)
    for name, numbers in wanted.items():
        assert got[name] == pytest.approx(numbers, rel=1e-8)
    assert made["rank"].tolist() == list(range(1, len(made) + 1))


# --- the result ----------------------------------------------------------------------------------


def test_columns_and_dtypes_are_those_of_an_empty_result() -> None:
    full = anomalies(frame_of(daily([10.0] * 12 + [50.0])))
    for none in (anomalies(empty("tenants")), anomalies(frame_of(daily([10.0] * 12)))):
        assert list(none.columns) == list(full.columns) == COLUMNS
        assert len(none) == 0
        assert none.dtypes.astype(str).tolist() == full.dtypes.astype(str).tolist()
        for name in none.columns[none.dtypes == "category"]:
            assert list(none[name].cat.categories) == []
    assert list(full["kind"].cat.categories) == ["size_large"]
    assert list(full["unit"].cat.categories) == ["GiB"]
    assert set(full.select_dtypes("number").columns) == set(full.attrs["units"])
    assert full.attrs["judged"] == 2 * 5


def test_the_result_survives_files_pickles_and_slices(tmp_path: Any) -> None:
    made = anomalies(frame_of(daily([10.0] * 12 + [50.0, 1.0])))
    json.dumps(made.attrs)
    made.to_parquet(tmp_path / "a.parquet")
    back = pd.read_parquet(tmp_path / "a.parquet")
    assert back["sentence"].tolist() == made["sentence"].tolist()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(made)), made)  # noqa: S301 - our own
    assert made[made["factor"] < 1].attrs == made.head(1).attrs == made.attrs


def test_what_is_out_of_range_is_refused() -> None:
    frame = frame_of(daily([10.0]))
    for options, text in (
        ({"min_n": 3}, "min_n must be at least 4, not 3"),
        ({"window": 7}, "window must be at least min_n, 8, not 7"),
        ({"threshold": 0}, "threshold must be more than 0, not 0"),
        ({"threshold": math.nan}, "threshold must be more than 0, not nan"),
        ({"fdr": 0}, "fdr must be between 0 and 1, not 0"),
        ({"fdr": 5}, "fdr must be between 0 and 1, not 5"),
    ):
        with pytest.raises(ValueError, match=text):
            anomalies(frame, **options)
    with pytest.raises(DataError):
        anomalies(pd.DataFrame({"a": [1]}))
    with pytest.raises(TypeError):
        anomalies("sets")  # type: ignore[arg-type]


# --- against planted truth -----------------------------------------------------------------------


@cache
def planted_sizes(*, full: bool, factor: float | None, density: float) -> tuple[Any, Any, Any]:
    """Return factors and anomalies of a fleet of 500 series, and which sets were found.

    Each series has one planted size of the factor; or, with a density, many of either factor.
    """
    chance = np.random.default_rng(11)
    count, n = 500, 52 if full else 365

    def each(low: float, high: float) -> Any:
        return chance.uniform(low, high, count)[:, None]

    day = np.arange(n) * (7 if full else 1)
    sizes = each(20, 200) * (1 + each(0, 0.06)) ** (day / 30)
    sizes *= np.exp(each(0.03, 0.12) * chance.normal(size=(count, n)))
    if not full:
        weekend = (day + chance.integers(0, 7, count)[:, None]) % 7 >= 5
        sizes *= each(0.02, 0.08) * (1 - each(0.1, 0.3) * weekend)
    planted = np.ones((count, n))
    if factor is None:
        planted[chance.random((count, n)) < density / 2] = 0.2
        planted[chance.random((count, n)) < density / 2] = 3.5
        planted[:, :8] = 1.0  # the first eight cannot be judged
    else:
        planted[np.arange(count), chance.integers(8, n, count)] = factor
    start = T0 + pd.to_timedelta(np.tile(day, count), unit="D")
    rows = {
        "instance_id": "ob1",
        "tenant_id": np.repeat([f"t{i:03}" for i in range(count)], n),
        "tenant_name": "billing",
        "backup_set_id": [str(i) for i in range(count * n)],
        "full": pd.array(np.full(count * n, full), dtype="boolean"),
        "state": "done",
        "storage_class": "standard",
        "start_time": start,
        "end_time": start + 30 * MINUTE,
        "size_gib": np.round((planted * sizes).ravel(), 2),
    }
    made = anomalies(conform(pd.DataFrame(rows), "tenants"))
    flagged = np.zeros(count * n, bool)
    flagged[made["backup_set_id"].astype(int)] = True
    return planted.ravel(), made, flagged


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("factor", "density"), [(0.2, 0.0), (3.5, 0.0), (None, 0.03)], ids=["small", "large", "many"]
)
def test_planted_sizes_are_found(*, full: bool, factor: float | None, density: float) -> None:
    planted, made, flagged = planted_sizes(full=full, factor=factor, density=density)
    assert flagged[planted != 1].mean() >= 0.98
    assert flagged[planted == 1].mean() <= 0.005
    true = made[planted[made["backup_set_id"].astype(int)] != 1]
    kind = np.where(planted[true["backup_set_id"].astype(int)] < 1, "size_small", "size_large")
    assert true["kind"].tolist() == kind.tolist()


def test_a_clean_simulated_history_has_almost_none() -> None:
    scenario = Scenario(NOW, seed=8, days=365, instances=5, tenants=10)
    sets = sets_of(simulate(scenario))
    assert len(sets.tenants) > 18_000
    assert len(anomalies(sets)) <= 0.001 * len(sets.tenants)
    noisy = sets_of(simulate(Scenario(NOW, 9, 365, 5, 10, noise=0.12, season=0.3)))
    assert len(anomalies(noisy)) <= 0.005 * len(noisy.tenants)


@cache
def planted_history() -> tuple[Any, BackupSets, pd.DataFrame]:
    plants = [Plant("anomaly", 0, t, 40.2 + 9 * t, 1.0, 0.2) for t in range(4)]
    plants += [Plant("anomaly", 1, t, 43.2 + 9 * t, 1.0, 3.5) for t in range(4)]
    plants += [Plant("stuck", 2, t, 100.2 + 3 * t, 1.0, 14.0) for t in range(4)]
    plants += [Plant("running", 3, None, 0.5, 0.0)]
    history = simulate(Scenario(NOW, seed=4, instances=4, tenants=4, plants=tuple(plants)))
    sets = sets_of(history)
    return history, sets, anomalies(sets)


def test_the_simulators_plants_are_found_and_nothing_else() -> None:
    history, sets, made = planted_history()
    kind_of = {"stuck": "slow", "running": "running_long"}
    wanted = set()
    for fact in history.truth:
        ids = fact.backup_set_ids
        if fact.tenant_id is None:
            ids = sets.tenants[sets.tenants["cluster_backup_set_id"].isin(ids)]["backup_set_id"]
        for each in ids:
            size = "size_small" if fact.factor < 1 else "size_large"
            wanted.add((each, kind_of.get(fact.kind, size)))
    assert len(wanted) == 20  # two runs of a cluster are not finished
    assert set(zip(made["backup_set_id"], made["kind"], strict=True)) == wanted
    for fact in history.truth[:8]:
        row = made[made["backup_set_id"] == fact.backup_set_ids[0]].iloc[0]
        assert row["tenant_id"] == fact.tenant_id
        assert row["factor"] == pytest.approx(fact.factor, rel=0.25)
    assert (made["q_value"] < 1e-3).all()


def test_a_plant_among_the_first_eight_cannot_be_told() -> None:
    plant = Plant("anomaly", 0, 0, 363.5, 1.0, 0.2)
    history = simulate(Scenario(NOW, seed=4, tenants=1, plants=(plant,)))
    assert history.truth[0].backup_set_ids
    assert len(anomalies(sets_of(history))) == 0


def test_the_demonstration_shows_what_was_planted() -> None:
    history = demo(NOW)
    sets = sets_of(history)
    made = anomalies(sets)
    truth = {fact.kind: fact for fact in history.truth}
    small = made[made["kind"] == "size_small"]
    assert small["backup_set_id"].tolist() == list(truth["anomaly"].backup_set_ids)
    stuck = sets.tenants[sets.tenants["cluster_backup_set_id"] == truth["stuck"].backup_set_ids[0]]
    assert set(stuck["backup_set_id"]) <= set(made.loc[made["kind"] == "slow", "backup_set_id"])
    step = made[made["kind"] == "size_large"]  # the first three of each mode
    assert set(step["tenant_id"]) == {truth["step"].tenant_id}
    assert len(step) <= 6
    # Before the history's end it is as if what came later were not there.
    early = anomalies(sets, as_of=truth["anomaly"].start)
    assert set(early["backup_set_id"]) < set(made["backup_set_id"])
