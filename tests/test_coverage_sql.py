"""Coverage once more, in SQL: window functions over the same rows, written from the definitions."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import replace
from typing import Any

import duckdb
import pandas as pd
import pytest
from oracle import Set
from test_coverage import NOW, at, frame, hours, sets_of

import obanalytics as ob
from obanalytics import simulator
from obanalytics.simulator import Plant

MICRO = pd.Timedelta(1, "us")

# Every instant and duration is a whole number of microseconds; $start may be NULL.
CURVE = """
WITH sets AS (
    SELECT instance_id::VARCHAR AS instance, tenant_id::VARCHAR AS tenant, backup_set_id AS id,
           "full" AS is_full, state::VARCHAR AS state, epoch_us(start_time) AS s,
           epoch_us(end_time) AS e, epoch_us(checkpoint) AS c,
           coalesce(state = 'done' AND validity = 'VALID' AND s <= c AND c <= e, false) AS sound
    FROM tenants
), links AS (
    -- Failed, cancelled and running sets write no link.
    SELECT *, row_number() OVER (PARTITION BY instance, tenant ORDER BY s, id) AS n
    FROM sets WHERE state NOT IN ('failed', 'cancelled', 'running')
), chained AS (
    SELECT *, max(n) FILTER (sound AND is_full) OVER before AS base,
           coalesce(max(n) FILTER (NOT sound) OVER before, 0) AS broken
    FROM links
    WINDOW before AS (PARTITION BY instance, tenant ORDER BY n ROWS UNBOUNDED PRECEDING)
), usable AS (
    SELECT *, max(e) OVER (PARTITION BY instance, tenant, base ORDER BY n) AS usable_from
    FROM chained WHERE sound AND base > broken
), windows AS (
    SELECT instance, tenant, min(s) AS first_known, coalesce($start, min(s)) AS begins,
           $end::BIGINT AS ends
    FROM sets GROUP BY ALL
), events AS (
    SELECT instance, tenant, usable_from AS since, c FROM usable
    UNION ALL SELECT instance, tenant, begins, first_known FROM windows
), steps AS (
    SELECT instance, tenant, since, max(c) OVER until_then AS origin,
           lead(since) OVER (PARTITION BY instance, tenant ORDER BY since) AS following
    FROM events
    WINDOW until_then AS (PARTITION BY instance, tenant ORDER BY since RANGE UNBOUNDED PRECEDING)
), curve AS (
    SELECT instance, tenant, origin, greatest(since, begins) AS low,
           least(coalesce(following, ends), ends) AS high
    FROM steps JOIN windows USING (instance, tenant)
    WHERE greatest(since, begins) < least(coalesce(following, ends), ends)
), over AS (
    SELECT *, greatest(low, origin + $rpo) AS a FROM curve
    WHERE greatest(low, origin + $rpo) < high
), marked AS (
    SELECT *, (a > coalesce(lag(high) OVER (PARTITION BY instance, tenant ORDER BY a), a - 1))
              ::INTEGER AS opens
    FROM over
), numbered AS (
    SELECT *, sum(opens) OVER (PARTITION BY instance, tenant ORDER BY a) AS number FROM marked
), gaps AS (
    SELECT instance, tenant, min(a) AS gap_start, max(high) AS gap_end,
           max(high - origin) AS worst
    FROM numbered GROUP BY instance, tenant, number
)
"""
GAPS = "SELECT * FROM gaps ORDER BY instance, tenant, gap_start"
COMPLIANCE = """
, totals AS (
    SELECT instance, tenant, count(*) AS gaps, sum(gap_end - gap_start) AS out FROM gaps
    GROUP BY ALL
)
SELECT instance, tenant, coalesce(gaps, 0)::BIGINT AS gaps, coalesce(out, 0)::BIGINT AS out,
       1 - coalesce(out, 0) / (any_value(ends) - any_value(begins)) AS time_in_rpo,
       max(high - origin) AS worst, arg_max(high, high - origin) AS worst_at,
       sum(((low + high) / 2 - origin) * (high - low)) / sum(high - low) AS mean,
       (SELECT count(*) FROM usable u
        WHERE (u.instance, u.tenant) = (curve.instance, curve.tenant)
          AND u.s >= any_value(begins) AND u.s < any_value(ends)) AS points
FROM curve JOIN windows USING (instance, tenant) LEFT JOIN totals USING (instance, tenant)
GROUP BY instance, tenant, gaps, out ORDER BY instance, tenant
"""
FINISH_TO_FINISH = """
SELECT max(apart) FROM (
    SELECT epoch_us(end_time) - lag(epoch_us(end_time)) OVER (ORDER BY end_time) AS apart
    FROM tenants WHERE state = 'done' AND tenant_id::VARCHAR = $tenant
)
"""


def ask(parts: list[str], tenants: pd.DataFrame, **parameters: Any) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.register("tenants", tenants)
        return connection.execute(" ".join(parts), parameters).fetchall()


def micro(value: Any) -> int | None:
    """Return an instant or a duration as SQL has it."""
    if value is None or pd.isna(value):
        return None
    return (
        value - pd.Timestamp(0, tz="UTC") if isinstance(value, pd.Timestamp) else value
    ) // MICRO


PLANTS = (
    Plant("silent", 0, None, 40.2, 3.0),
    Plant("failed", 0, 1, 33.2, 2.0),
    Plant("failed", 0, None, 17.2, 2.0),
    Plant("invalid", 0, 2, 26.2, 6.0),
    Plant("missing", 0, 3, 12.2, 5.0),
    Plant("stuck", 0, 0, 8.2, 1.0, 40.0),
    Plant("silent", 1, None, 3.2, 9.0),
    Plant("invalid", 1, None, 55.2, 3.0),
    Plant("invalid", 1, 1, 30.2, 1.0),
    Plant("failed", 1, 0, 28.2, 9.0),
    Plant("missing", 1, 2, 50.2, 20.0),
    Plant("by_hand", 1, None, 20.4, 0.0),
    Plant("slower", 1, 3, 30.0, 30.0, 30.0),
)


def fleet(seed: int, plants: tuple[Plant, ...] = PLANTS, spoilt: float = 0.02) -> ob.BackupSets:
    """Return two months of two clusters that run daily, with most of what goes wrong.

    The API tells whole seconds; here every instant of a set gets microseconds, the same for all
    three so that their order stays. With odd seeds the restore point is the start of a set, as in
    version 3 of the server. Some are after the end of their set, which makes it worthless.
    """
    scenario = simulator.Scenario(NOW, seed=seed, days=62, instances=2, tenants=4, plants=plants)
    sets = sets_of(simulator.simulate(scenario))
    chance = random.Random(seed)
    parts = pd.Series([chance.randrange(10**6) * MICRO for _ in range(len(sets.tenants))])
    times = {name: sets.tenants[name] + parts for name in ("start_time", "end_time", "checkpoint")}
    if seed % 2:
        times["checkpoint"] = times["start_time"].where(times["checkpoint"].notna())
    late = pd.Series([chance.random() < spoilt for _ in range(len(sets.tenants))])
    times["checkpoint"] = times["checkpoint"].mask(late, times["end_time"] + MICRO)
    return replace(sets, tenants=sets.tenants.assign(**times))


# Without a start the window begins with every tenant's first row; with one, 40 days before the end.
STARTS = {"own start": None, "given start": pd.Timestamp(NOW) - pd.Timedelta("40D")}
CASES = [
    pytest.param(seed, start, rpo, id=f"{seed}, {name}, {rpo}")
    for seed in range(5)
    for name, start in STARTS.items()
    for rpo in ("6h", "26h")
]


@pytest.mark.parametrize(("seed", "start", "rpo"), CASES)
def test_gaps_agree_with_sql_to_the_microsecond(seed: int, start: Any, rpo: str) -> None:
    sets = fleet(seed)
    limit = micro(pd.Timedelta(rpo))
    theirs = ask([CURVE, GAPS], sets.tenants, rpo=limit, start=micro(start), end=micro(sets.as_of))
    mine = ob.coverage_gaps(sets, rpo, start=start)
    assert [
        (
            row["instance_id"],
            row["tenant_id"],
            micro(row["gap_start"]),
            micro(row["gap_end"]),
            micro(row["worst_exposure"]),
        )
        for row in mine.to_dict("records")
    ] == theirs
    assert len(theirs) >= 10
    assert [micro(each) for each in mine["gap"]] == [row[3] - row[2] for row in theirs]
    assert [micro(each) for each in mine["excess"]] == [row[4] - limit for row in theirs]


@pytest.mark.parametrize(("seed", "start", "rpo"), CASES)
def test_compliance_agrees_with_sql_to_the_microsecond(seed: int, start: Any, rpo: str) -> None:
    sets = fleet(seed)
    limit = micro(pd.Timedelta(rpo))
    theirs = ask(
        [CURVE, COMPLIANCE], sets.tenants, rpo=limit, start=micro(start), end=micro(sets.as_of)
    )
    mine = ob.rpo_compliance(sets, rpo, start=start).to_dict("records")
    assert len(mine) == len(theirs) == 8
    for row, (instance, tenant, gaps, out, share, worst, worst_at, mean, points) in zip(
        mine, theirs, strict=True
    ):
        assert (row["instance_id"], row["tenant_id"]) == (instance, tenant)
        assert (row["gaps"], micro(row["gap_total"])) == (gaps, out)
        assert micro(row["worst_exposure"]) == worst
        assert micro(row["worst_at"]) == worst_at
        assert row["time_in_rpo"] == pytest.approx(share, abs=1e-12)
        assert row["time_in_rpo_worst"] == row["time_in_rpo"]
        assert micro(row["exposure_mean"]) == pytest.approx(mean, abs=1)
        assert row["restore_points"] == points
    assert any(row["gaps"] for row in mine)


@pytest.mark.parametrize("seed", range(3))
def test_the_total_row_sums_what_sql_sums(seed: int) -> None:
    sets = fleet(seed)
    theirs = ask(
        [CURVE, COMPLIANCE],
        sets.tenants,
        rpo=micro(pd.Timedelta("26h")),
        start=None,
        end=micro(sets.as_of),
    )
    fleet_row = ob.rpo_compliance(sets, "26h", total=True).iloc[-1]
    first = sets.tenants.groupby("tenant_id", observed=True)["start_time"].min()
    watched = sum(micro(sets.as_of - first[tenant]) or 0 for _, tenant, *_ in theirs)
    assert micro(fleet_row["gap_total"]) == sum(row[3] for row in theirs)
    assert fleet_row["gaps"] == sum(row[2] for row in theirs)
    assert micro(fleet_row["worst_exposure"]) == max(row[5] for row in theirs)
    # Weighted by time: not the mean of the tenants' shares.
    assert fleet_row["time_in_rpo"] == pytest.approx(1 - sum(r[3] for r in theirs) / watched)


def test_finish_to_finish_understates_what_would_be_lost() -> None:
    """The number that sp_BlitzBackups calls the worst case, beside ours.

    Three days of a backup that starts at midnight; on the second day it takes 10 hours instead of
    one, on the third it is done and cannot be restored, on the fourth all is well. The restore
    point is the start.
    """
    rows = frame(
        [
            Set("a", start=0, checkpoint=0, end=1),
            Set("b", start=24, checkpoint=24, end=34),
            Set("c", start=48, checkpoint=48, end=49, validity="INVALID"),
            Set("d", start=72, checkpoint=72, end=73),
        ]
    )
    ((theirs,),) = ask([FINISH_TO_FINISH], rows, tenant="t0")
    # Their ends are 1, 34, 49, 73: at most 33 hours apart, between the first two.
    assert theirs == micro(pd.Timedelta("33h"))
    # At 34:00 the newest point is that of 0:00, 34 hours lost; at 73:00 that of 24:00, 49 hours.
    table = ob.rpo_compliance(rows, "40h", as_of=at(74))
    assert hours(table["worst_exposure"].iloc[0]) == 49
    assert hours(table["worst_at"].iloc[0]) == 73
    gaps = ob.coverage_gaps(rows, "40h", as_of=at(74))
    # An RPO of 40 hours is kept by their number; by ours it is broken from 64:00 to 73:00.
    assert [hours(gaps[c].iloc[0]) for c in ("gap_start", "gap_end", "excess")] == [64, 73, 9]
    # Without the spoilt set it is the length of the run that their number leaves out.
    ((theirs,),) = ask([FINISH_TO_FINISH], rows.iloc[:2], tenant="t0")
    mine = ob.rpo_compliance(rows.iloc[:2], "40h", as_of=at(34))["worst_exposure"].iloc[0]
    assert (theirs / micro(pd.Timedelta("1h")), hours(mine)) == (33, 34)


@pytest.mark.parametrize("seed", range(5))
def test_finish_to_finish_never_says_more_and_often_less(seed: int) -> None:
    """Measured over five fleets of eight tenants: short by more than a day for 24 of 40 tenants."""
    sets = fleet(seed)
    mine = ob.rpo_compliance(sets, "26h").set_index("tenant_id")["worst_exposure"]
    short = []
    for tenant, worst in mine.items():
        ((theirs,),) = ask([FINISH_TO_FINISH], sets.tenants, tenant=tenant)
        assert micro(worst) >= theirs
        short.append(micro(worst) - theirs > micro(pd.Timedelta("1D")))
    assert sum(short) >= 3


# --- the server's own rule -----------------------------------------------------------------------


def server_restore(sets: list[dict[str, Any]], target: pd.Timestamp) -> list[str]:
    """Return the sets that the server would restore for a target time (`ob_backup_data_store`).

    Sets in order: stop at the first whose restore point is later than the target; skip what is not
    successful and available; a full clears what was collected and is the base; an incremental
    joins when its previous full and its previous set are both there.
    """
    collected: list[str] = []
    previous: str | None = None  # what was successful when the next run began
    previous_full: str | None = None
    for each in sets:
        if each["state"] != "done":
            continue
        if each["checkpoint"] > target:
            break
        available, name = each["validity"] == "VALID", each["backup_set_id"]
        if available and each["full"]:
            collected = [name]
        elif available and {previous, previous_full} <= set(collected):
            collected.append(name)
        previous = name
        previous_full = name if each["full"] else previous_full
    return collected


@pytest.mark.parametrize("seed", range(4))
def test_restore_points_are_those_of_the_servers_rule(seed: int) -> None:
    """For every instant the chain that we name is the list of sets that the server would take."""
    # The rule goes by the order of ids: of runs that overlap it may stop before the older point.
    plants = tuple(each for each in PLANTS if each.kind not in {"slower", "stuck"})
    sets = fleet(seed, plants, spoilt=0.0)
    points = ob.restore_points(sets)
    instants = pd.date_range(sets.as_of - pd.Timedelta("61D"), sets.as_of, freq="13h")
    checked = 0
    for _, own in points.groupby("tenant_id", observed=True):
        listed = own.sort_values("start_time").to_dict("records")
        for target in instants:
            wanted = server_restore(listed, target)
            there = [r for r in listed if r["restorable"] and r["checkpoint"] <= target]
            newest = max(there, key=lambda row: row["checkpoint"], default=None)
            if newest is None:
                assert wanted == []
                continue
            chain = [r for r in there if r["chain_id"] == newest["chain_id"]]
            assert [row["backup_set_id"] for row in chain] == wanted
            assert newest["chain_depth"] == len(wanted) - 1
            checked += 1
    assert checked > 700


GOLDEN = {1: (1, True), 2: (4, False), 3: (7, True), 4: (11, False), 5: (14, True)}
"""OceanBase's example of expiry: full 1 on January 1, incremental 2 on January 4, and so on."""


def test_the_vendors_example_of_what_can_be_restored() -> None:
    """On January 15 with a recovery window of 7 days sets 3, 4 and 5 are kept; 1 and 2 go."""
    runs = [
        {
            "id": str(number),
            "mode": "FULL_BACKUP" if full else "INCREMENTAL_BACKUP",
            "status": "DONE",
            "end": dt.datetime(2026, 1, day, tzinfo=dt.UTC),
        }
        for number, (day, full) in GOLDEN.items()
    ]
    gone = simulator.expired(runs, dt.datetime(2026, 1, 15, tzinfo=dt.UTC), 7)
    assert gone == {"1", "2"}
    kept = [
        Set(str(number), full=full, start=h, checkpoint=h, end=h)
        for number, (day, full) in GOLDEN.items()
        if str(number) not in gone
        for h in [24 * (day - 1)]  # hours since January 1
    ]
    rows = frame(kept)
    points = ob.restore_points(rows, as_of=at(24 * 14))
    assert points["restorable"].all()
    assert points["chain_id"].tolist() == ["0-3", "0-3", "0-5"]
    # From January 8 on every instant is covered: nothing is unbounded, and with a goal of four
    # days nothing is outside; the worst is January 11, just before set 4: four days after set 3.
    week = {"start": "2026-01-08", "end": "2026-01-15", "as_of": at(24 * 14)}
    table = ob.rpo_compliance(rows, "4D", **week).iloc[0]
    assert (table["time_in_rpo"], table["unbounded"]) == (1.0, False)
    assert (table["worst_exposure"], table["worst_at"]) == (pd.Timedelta("4D"), at(24 * 10))
    # With a goal of three days January 10 is outside, and no other day of the seven.
    gap = ob.coverage_gaps(rows, "3D", **week)
    assert [hours(each) for each in (*gap["gap_start"], *gap["gap_end"])] == [24 * 9, 24 * 10]
    table = ob.rpo_compliance(rows, "3D", **week).iloc[0]
    assert table["time_in_rpo"] == pytest.approx(6 / 7)
    # Before January 7 nothing that is kept can be restored.
    early = ob.rpo_compliance(rows, "4D", start="2026-01-05", end="2026-01-15", as_of=at(24 * 14))
    assert early["unbounded"].iloc[0]


def test_without_the_full_the_vendors_incremental_is_nothing() -> None:
    """Sets 2, 4 and 5 alone: an incremental whose full is gone cannot be restored."""
    sets = [
        Set(str(number), full=full, start=24 * day, checkpoint=24 * day + 1, end=24 * day + 2)
        for number, (day, full) in GOLDEN.items()
        if number in {2, 4, 5}
    ]
    points = ob.restore_points(frame(sets), as_of=at(999))
    assert points["restorable"].tolist() == [False, False, True]
    assert points["reason"].tolist()[:2] == ["base_missing", "base_missing"]
