"""The replay of tenants' own histories under another policy, beside the house's own numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from effort import examples
from histories import crowds, frame
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import obanalytics as ob
from obanalytics.frames import STATES, check, conform, empty
from obanalytics.recovery import NAT
from obanalytics.replay import frame_of
from obanalytics.schema import BackupSets
from obanalytics.whatif import ASSUMPTIONS, COLUMNS, Replay, what_if

T0 = pd.Timestamp("2026-03-01T00:00Z")
MINUTE = pd.Timedelta("1min")
DAY = 1440  # minutes
WAS, THEN = "as it was", "what if"
KEY = ["instance_id", "tenant_id"]


def run(
    start: float, length: float, size: float | None, *, full: bool, **more: Any
) -> dict[str, Any]:
    """Return a run [minutes, GiB]; its checkpoint is 2 minutes before its end."""
    return {"start": start, "length": length, "full": full, "size": size, **more}


def history(*tenants: list[dict[str, Any]], as_of: float | None = None) -> BackupSets:
    """Return the sets of tenants t0, t1, … of one instance."""
    rows = []
    for number, runs in enumerate(tenants):
        for turn, each in enumerate(runs):
            state = each.get("state", "done")
            ended = state == "done"
            end = T0 + (each["start"] + each["length"]) * MINUTE if ended else pd.NaT
            lag = each.get("lag", 2) * MINUTE
            rows.append(
                {
                    "instance_id": "ob1",
                    "tenant_id": f"t{number}",
                    "tenant_name": f"tenant {number}",
                    "backup_set_id": f"{number}-{turn:05}",
                    "full": each["full"],
                    "state": state,
                    "validity": each.get("validity", "VALID") if ended else None,
                    "start_time": T0 + each["start"] * MINUTE,
                    "end_time": end,
                    "checkpoint": end - lag if ended else pd.NaT,
                    "size_gib": each["size"] if ended else None,
                    "trigger_mode": each.get("trigger", "SCHEDULED"),
                    "storage_class": "standard",
                }
            )
    made = pd.DataFrame(rows)
    made["size_gib"] = made["size_gib"].astype("float64")
    for name in ("end_time", "checkpoint", "start_time"):
        made[name] = pd.to_datetime(made[name], utc=True).astype("datetime64[us, UTC]")
    made = conform(made, "tenants")
    now = made["end_time"].max() if as_of is None else T0 + as_of * MINUTE
    return BackupSets(empty("clusters"), made, as_of=now)


def daily(days: int, *, fail: tuple[int, ...] = (), gone: tuple[int, ...] = ()) -> list[Any]:
    """Return a run a day at midnight: a full of 100 GiB a week, else 0.1 GiB for each hour."""
    made, last = [], -1
    for day in range(days):
        if day in gone:
            continue
        full = day % 7 == 0
        state = "failed" if day in fail else "done"
        size = 100.0 if full else 2.4 * (day - last)
        made.append(run(day * DAY, 60 if full else 10, size, full=full, state=state))
        last = last if day in fail else day
    return made


def plain(values: pd.Series) -> list[Any]:
    """Return values, None for what is missing."""
    return [None if pd.isna(each) else each for each in values]


def pair(made: pd.DataFrame, tenant: str = "t0") -> tuple[pd.Series, pd.Series]:
    """Return a tenant's two rows."""
    mine = made[made["tenant_id"] == tenant].set_index("scenario")
    return mine.loc[WAS], mine.loc[THEN]


def stored_by_day(sets: Any, **options: Any) -> pd.DataFrame:
    """Return what `stored_size` says of every tenant, modes and storage classes added up."""
    table = ob.stored_size(sets, **options)
    by = [table["instance_id"].astype(str), table["tenant_id"].astype(str), table["time"]]
    wide = table["stored_gib"].groupby(by).sum().unstack(fill_value=0.0)  # noqa: PD010 - no margins
    # A series begins with its first set: before that it holds nothing.
    return wide.reindex(
        columns=np.sort(ob.stored_size(sets, by="fleet", **options)["time"].unique())
    )


def check_house(rows: pd.DataFrame, sets: Any, rpo: Any, **options: Any) -> None:
    """Compare rows with `rpo_compliance` and `stored_size`."""
    limit = dict(
        zip(zip(rows["instance_id"], rows["tenant_id"], strict=True), rows["rpo"], strict=True)
    )
    assert rpo is None or (rows["rpo"] == pd.Timedelta(rpo)).all()
    coverage = ob.rpo_compliance(sets, limit)
    for name in (*KEY, "tenant_name", "time_in_rpo", "worst_exposure", "gaps"):
        assert plain(rows[name]) == plain(coverage[name]), name
    stored = stored_by_day(sets, **options)
    written = ob.stored_size(sets, **options)
    sums = written["written_gib"].groupby(written["tenant_id"].astype(str)).sum()
    if not len(stored.columns):  # nothing has ended yet
        assert rows["stored_gib"].isna().all()
        return
    late = stored.columns >= stored.columns[-1] - (stored.columns[-1] - stored.columns[0]) / 4
    for _, row in rows.iterrows():
        if pd.isna(row["stored_gib"]):  # no size is known of any
            continue
        key = (row["instance_id"], row["tenant_id"])
        # Of whom no set has ended nothing is in store.
        mine = stored.reindex([key]).iloc[0].fillna(0.0)
        assert row["stored_gib_end"] == pytest.approx(mine.iloc[-1], rel=1e-12, abs=1e-9)
        assert row["stored_gib_max"] == pytest.approx(mine.max(), rel=1e-12, abs=1e-9)
        assert row["stored_gib"] == pytest.approx(mine[late].mean(), rel=1e-12, abs=1e-9)
        assert row["written_gib"] == pytest.approx(
            sums.get(row["tenant_id"], 0.0), rel=1e-12, abs=1e-9
        )


# --- what was ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample() -> BackupSets:
    return ob.sample()


@pytest.fixture(scope="module")
def replay(sample: BackupSets) -> Replay:
    return Replay(sample)


def test_as_it_was_is_what_the_house_says(sample: BackupSets, replay: Replay) -> None:
    made = replay.at(full_every="3D", incremental_every="12h", retention_days=20)
    check_house(made[made["scenario"] == WAS].reset_index(drop=True), sample, None)
    for scenario in (WAS, THEN):
        rows = Replay(sample, rpo="25h").at(rpo=None)
        check_house(rows[rows["scenario"] == scenario].reset_index(drop=True), sample, "25h")


def test_retention_and_rpo_alone_are_what_the_house_says(
    sample: BackupSets, replay: Replay
) -> None:
    made = replay.at(rpo="13h", retention_days=30, price_per_gib_month=0.5)
    then = made[made["scenario"] == THEN].reset_index(drop=True)
    check_house(then, sample, "13h", retention_days=30)
    assert (then["basis"] == "modelled").all()
    assert then["cost_per_month"].tolist() == pytest.approx((then["stored_gib"] * 0.5).tolist())


@settings(max_examples=examples(60), deadline=None, phases=[Phase.generate])
@given(crowds(3))
def test_as_it_was_of_any_history(tenants: list[Any]) -> None:
    facts = frame(*tenants)
    made = what_if(facts, full_every="9h", incremental_every="3h", retention_days=1)
    assert list(made.columns) == list(COLUMNS)
    was = made[made["scenario"] == WAS].reset_index(drop=True)
    assert len(made) == 2 * len(was) == 2 * sum(bool(each) for each in tenants)
    if len(was):
        check_house(was, facts, None)
    then = made[made["scenario"] == THEN]
    assert then["time_in_rpo"].dropna().between(0, 1).all()


def test_the_own_cadence_brings_the_own_history_back(sample: BackupSets, replay: Replay) -> None:
    # All of it: outages, clocks that change, a cadence that moved, sizes, and what 12 tenants hold.
    made = replay.at(full_every="7D", incremental_every="1D")
    was, then = (made[made["scenario"] == each].reset_index(drop=True) for each in (WAS, THEN))
    by_hand = sample.tenants[sample.tenants["trigger_mode"] == "BACKUP_NOW"]["tenant_id"].unique()
    regular = was.index[~was["tenant_id"].isin(by_hand)]
    assert len(regular) >= 8
    alike = ["sets", "time_in_rpo", "worst_exposure", "gaps", "chain_max", "restore_gib"]
    pd.testing.assert_frame_equal(was.loc[regular, alike], then.loc[regular, alike], rtol=1e-9)
    for name in ("written_gib", "stored_gib"):
        assert then.loc[regular, name].tolist() == pytest.approx(
            was.loc[regular, name].tolist(), rel=1e-4
        )


# --- by hand -------------------------------------------------------------------------------------


def test_a_history_by_hand() -> None:
    # 4 weeks and a day: fulls of 100 GiB on days 0, 7, 14, 21, 28, else 2.4 GiB: 0.1 GiB an hour.
    sets = history(daily(29), as_of=28 * DAY + 120)
    made = what_if(
        sets,
        rpo="12.5h",
        full_every="14D",
        incremental_every="12h",
        retention_days=7,
        price_per_gib_month=2,
    )
    was, then = pair(made)
    assert (was["rpo"], was["full_every"], was["incremental_every"]) == tuple(
        pd.Timedelta(each) for each in ("26h", "7D", "1D")
    )
    assert pd.isna(was["retention_days"])
    assert (was["sets"], was["chain_max"], was["restore_gib"]) == (29, 7, 100.0)
    assert was["written_gib"] == was["stored_gib_end"] == pytest.approx(5 * 100 + 24 * 2.4)
    assert was["worst_exposure"] == pd.Timedelta("24h") + 52 * MINUTE
    # Fulls on days 0, 14 and 28; of 57 runs the others write 1.2 GiB each.
    assert (then["sets"], then["chain_max"], then["basis"]) == (57, 28, "replayed")
    assert then["written_gib"] == pytest.approx(3 * 100 + 54 * 1.2)
    assert then["restore_gib"] == pytest.approx(100.0)
    # From a checkpoint to the end of the next run it is 12 h and 2 min, 50 min more before a full:
    # over the RPO for 22 minutes each on days 14 and 28.
    assert then["worst_exposure"] == pd.Timedelta("12h") + 52 * MINUTE
    assert then["gaps"] == 2
    assert then["time_in_rpo"] == pytest.approx(1 - 2 * 22 / (28 * DAY + 120), abs=1e-12)
    # Day 14's full ended more than 7 days ago: it and all behind it stay, and day 28's.
    assert then["stored_gib_end"] == pytest.approx(100 + 27 * 1.2 + 100)
    # It lets the first chain go 7 days after its end: on day 21 that is still there at midnight.
    assert then["stored_gib_max"] == pytest.approx(200 + (27 + 13) * 1.2)
    assert then["cost_per_month"] == pytest.approx(2 * then["stored_gib"])
    assert made.attrs["assumptions"] == list(ASSUMPTIONS)
    assert all(each.endswith(".") and "\n" not in each for each in ASSUMPTIONS)
    assert made.attrs["model"] == "point"


def test_an_incremental_is_never_larger_than_a_full() -> None:
    busy = [run(d * DAY, 60, 100.0 if d % 7 == 0 else 40.0, full=d % 7 == 0) for d in range(29)]
    _, then = pair(what_if(history(busy), incremental_every="7D", full_every="28D"))
    assert then["sets"] == 5
    assert then["written_gib"] == pytest.approx(500.0)  # 280 GiB by what changes in a week


def test_fulls_alone_when_they_are_not_less_often() -> None:
    sets = history(daily(29))
    for full in ("1h", "12h"):
        _, then = pair(what_if(sets, full_every=full, incremental_every="12h"))
        assert (then["chain_max"], then["written_gib"]) == (1, pytest.approx(57 * 100.0))


# --- minute by minute ----------------------------------------------------------------------------


def slow(
    days: int, bad: tuple[int, ...], every: int, full: int, keep: int, rpo: int
) -> dict[str, Any]:
    """Live through a replay of `daily` minute by minute; all in minutes, midnight to midnight."""
    end, runs, last, owed = days * DAY, [], 0, None
    for at in range(0, end + 1, every):
        due = (at - 21 * DAY) // full  # the newest full of its own was on day 21
        is_full, owed = owed is None or due > owed, due
        if at // DAY in bad:
            continue
        size = 100.0 if is_full else min(100.0, 0.1 * (at - last) / 60)
        last = at
        if at + (60 if is_full else 10) <= end:
            runs.append((at + (60 if is_full else 10), is_full, size))
    out, newest, waiting, based = 0, 0, list(runs), False
    stored: list[float] = []
    for minute in range(end + 1):
        while waiting and waiting[0][0] <= minute:
            done, is_full, _ = waiting.pop(0)
            based = based or is_full
            newest = done - 2 if based else newest
        if minute < end:
            out += minute + 0.5 - newest > rpo
        if minute % DAY == 0 and minute:
            old = [done for done, is_full, _ in runs if is_full and done <= minute - keep]
            since = max(old, default=0)
            stored.append(sum(size for done, _, size in runs if since <= done <= minute))
    return {"time_in_rpo": 1 - out / end, "stored": stored, "written": sum(r[2] for r in runs)}


@pytest.mark.parametrize(
    ("bad", "every", "full", "keep", "rpo"),
    [
        ((), 480, 3 * DAY, 5 * DAY, 490),
        ((10, 11), 480, 3 * DAY, 5 * DAY, 490),
        ((5,), 2 * DAY, 4 * DAY, 3 * DAY, 3000),
        ((9, 10, 11, 12), 360, DAY, DAY, 400),
    ],
)
@pytest.mark.parametrize("how", ["fail", "gone"])
def test_minute_by_minute(
    bad: tuple[int, ...], every: int, full: int, keep: int, rpo: int, how: str
) -> None:
    days = 28
    runs = daily(days, **{how: bad})
    expected = slow(days, bad, every, full, keep, rpo)
    made = what_if(
        history(runs, as_of=days * DAY),
        rpo=rpo * MINUTE,
        full_every=full * MINUTE,
        incremental_every=every * MINUTE,
        retention_days=keep / DAY,
    )
    _, then = pair(made)
    stored = expected["stored"]
    assert then["time_in_rpo"] == pytest.approx(expected["time_in_rpo"], abs=1e-12)
    assert then["written_gib"] == pytest.approx(expected["written"])
    assert then["stored_gib_end"] == pytest.approx(stored[-1])
    assert then["stored_gib_max"] == pytest.approx(max(stored))
    assert then["stored_gib"] == pytest.approx(np.mean(stored[-7:]), rel=0.05)


# --- what must hold of any -----------------------------------------------------------------------


@st.composite
def healthy(draw: Any) -> BackupSets:
    """Draw tenants without an outage: daily runs whose lengths, lags and sizes differ."""
    tenants = []
    for _ in range(draw(st.integers(1, 3))):
        raw = draw(st.binary(min_size=40, max_size=40))
        hour = draw(st.integers(0, 20)) * 60
        tenants.append(
            [
                run(
                    day * DAY + hour + byte % 13,
                    90 + byte % 60 if day % 7 == 0 else 10 + byte % 30,
                    80.0 + byte if day % 7 == 0 else 1 + byte / 10,
                    full=day % 7 == 0,
                    lag=byte % 8,
                )
                for day, byte in enumerate(raw)
            ]
        )
    return history(*tenants)


def then_of(replay: Replay, **policy: Any) -> pd.DataFrame:
    made = replay.at(**policy)
    return made[made["scenario"] == THEN].reset_index(drop=True)


@settings(max_examples=examples(60), deadline=None)
@given(healthy(), st.data())
def test_what_only_goes_one_way(sets: BackupSets, data: Any) -> None:
    replay = Replay(sets)
    policy = {
        "full_every": data.draw(st.sampled_from([None, "2D", "7D", "14D"])),
        "incremental_every": data.draw(st.sampled_from([None, "6h", "1D", "2D"])),
    }
    less, more = sorted(data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40))))
    short, long = (then_of(replay, **policy, retention_days=each) for each in (less, more))
    for name in ("stored_gib", "stored_gib_end", "stored_gib_max"):
        assert (long[name] >= short[name] - 1e-9).all()
    strict, lax = (then_of(replay, **policy, rpo=f"{6 * each}h") for each in (less, more))
    assert (lax["time_in_rpo"] >= strict["time_in_rpo"]).all()


@settings(max_examples=examples(60), deadline=None)
@given(healthy(), st.sampled_from([None, "7D", "14D"]), st.integers(4, 60))
def test_a_shorter_cadence_covers_no_less(sets: BackupSets, full: Any, hours: int) -> None:
    replay = Replay(sets)
    # Each has all runs of the one before, and more; none begins while another one runs.
    covered = [
        then_of(replay, full_every=full, incremental_every=each, rpo=f"{hours}h")["time_in_rpo"]
        for each in ("4D", "2D", "1D", "12h", "4h")
    ]
    for longer, shorter in pairwise(covered):
        assert (shorter >= longer - 1e-12).all()


@settings(max_examples=examples(60), deadline=None)
@given(
    st.integers(3, 20),
    st.integers(1, 5),
    st.sampled_from([15, 60, 360, 1440]),
    st.sampled_from(["fail", "gone"]),
)
def test_an_outage_stays_an_outage(first: int, long: int, every: int, how: str) -> None:
    bad = tuple(range(first, first + long))
    runs = daily(29, **{how: bad})
    made = what_if(history(runs), incremental_every=every * MINUTE, full_every="1D", rpo="26h")
    was, then = pair(made)
    assert then["worst_exposure"] >= pd.Timedelta(days=long)
    assert was["time_in_rpo"] < 1
    assert then["time_in_rpo"] < 1 or long == 1
    assert "outage" in then["notes"]


# --- edges ---------------------------------------------------------------------------------------


def test_nothing_to_replay() -> None:
    for nothing in (empty("tenants"), BackupSets(empty("clusters"), empty("tenants"))):
        made = what_if(nothing, rpo="1D", full_every="7D", incremental_every="1D", retention_days=7)
        assert made.empty
        assert list(made.columns) == list(COLUMNS)
        assert made["stored_gib"].dtype == "float64"
        assert made["rpo"].dtype == "timedelta64[us]"


def test_tenants_without_a_rhythm_stand_as_they_are() -> None:
    two, never = daily(2), daily(10, fail=tuple(range(10)))
    sets = history(daily(29), two, never, as_of=29 * DAY)
    made = what_if(sets, full_every="2D", incremental_every="6h", rpo="12h")
    for tenant in ("t1", "t2"):
        was, then = pair(made, tenant)
        assert "its own sets stand" in then["notes"]
        assert then["basis"] == "modelled"
        assert then["sets"] == was["sets"]
        assert then["written_gib"] == was["written_gib"]
    assert pair(made, "t0")[1]["basis"] == "replayed"
    assert pair(made, "t0")[1]["sets"] > 100


def test_unknown_sizes_stay_unknown() -> None:
    nothing = [each | {"size": None} for each in daily(29)]
    no_full = [each | {"size": None} if each["full"] else each for each in daily(29)]
    some = [each | ({"size": None} if at in (7, 9) else {}) for at, each in enumerate(daily(29))]
    made = what_if(history(nothing, no_full, some), incremental_every="12h", retention_days=7)
    sizes = ["written_gib", "stored_gib", "stored_gib_end", "stored_gib_max"]
    for tenant in ("t0", "t1"):
        was, then = pair(made, tenant)
        assert then[sizes].isna().all()
        assert "GiB not known" in then["notes"]
        assert "size" in was["notes"]
    was, then = pair(made, "t0")
    assert was[sizes].isna().all()
    assert pd.isna(was["restore_gib"])
    assert pd.isna(then["restore_gib"])
    was, then = pair(made, "t2")
    assert "2 sets without a size count as nothing" in was["notes"]
    assert then["written_gib"] == pytest.approx(5 * 100 + 52 * 1.2)  # the fulls around it tell


def test_retention_is_told_by_what_went() -> None:
    sets = history(daily(29), as_of=28 * DAY + 120)
    table = sets.tenants.copy()
    # A chain goes 5 days after the next full ended, and is found gone up to three hours later.
    chain = np.arange(29) // 7
    gone = [T0 + ((c + 1) * 7 * DAY + 60 + 5 * DAY + 180) * MINUTE for c in chain]
    table["gone_time"] = pd.Series(gone).astype("datetime64[us, UTC]").mask(chain > 1).to_numpy()
    table["gone_time"] = pd.to_datetime(table["gone_time"], utc=True).astype("datetime64[us, UTC]")
    sets = replace(sets, tenants=conform(table, "tenants"))
    made = what_if(sets, incremental_every="12h")
    was, then = pair(made)
    assert was["retention_days"] == then["retention_days"] == 5
    assert was["stored_gib_end"] == pytest.approx(300 + 12 * 2.4)
    assert then["stored_gib_end"] == pytest.approx(2 * 100 + 13 * 1.2)
    # A longer one brings back what went.
    _, longer = pair(what_if(sets, retention_days=1000))
    assert longer["stored_gib_end"] == pytest.approx(500 + 24 * 2.4)


def test_a_run_waits_for_none_and_is_left_out() -> None:
    long = [run(d * DAY, 300, 50.0, full=d % 7 == 0) for d in range(29)]
    _, then = pair(what_if(history(long), incremental_every="2h", full_every="2h"))
    # 5 hours each: every third of the slots, 6 hours apart.
    assert then["sets"] == 28 * 4 + 1
    assert then["worst_exposure"] == pd.Timedelta("6h") + 2 * MINUTE


def test_runs_by_hand_and_repeats_are_no_rhythm() -> None:
    runs = daily(29)
    extra = [*runs, run(10 * DAY + 300, 60, 100.0, full=True, trigger="BACKUP_NOW")]
    again = [
        *daily(29, fail=(9,)),
        run(9 * DAY + 90, 10, 2.4, full=False),
    ]
    made = what_if(
        history(sorted(extra, key=lambda e: e["start"]), sorted(again, key=lambda e: e["start"])),
        incremental_every="1D",
    )
    assert [pair(made, each)[1]["sets"] for each in ("t0", "t1")] == [29, 29]


def test_days_of_rest_are_no_outage() -> None:
    # 2026-03-01 is a Sunday: Monday to Friday, the full on Mondays.
    runs = [each for d, each in enumerate(daily(57)) if d % 7 not in (0, 6)]
    runs = [each | {"full": (each["start"] // DAY) % 7 == 1} for each in runs]
    runs = [each | {"size": 100.0 if each["full"] else 2.4} for each in runs]
    _, then = pair(what_if(history(runs), incremental_every="1D", full_every="7D", rpo="26h"))
    assert then["sets"] == 7 * 8 - 2
    assert then["time_in_rpo"] == 1
    assert "outage" not in then["notes"]


def test_a_broken_set_breaks_its_chain_in_the_replay_too() -> None:
    runs = daily(29)
    runs[9] |= {"validity": "INVALID"}
    made = what_if(history(runs), incremental_every="12h", rpo="26h")
    was, then = pair(made)
    assert was["worst_exposure"] > pd.Timedelta("5D")
    assert then["worst_exposure"] > pd.Timedelta("5D")
    _, healed = pair(what_if(history(runs), full_every="1D", rpo="26h"))
    assert healed["worst_exposure"] < pd.Timedelta("3D")


def test_unknown_validity_is_unknown_time() -> None:
    runs = daily(29)
    for at in range(20, 29):
        runs[at] |= {"validity": None}
    made = what_if(history(runs), incremental_every="12h", rpo="26h")
    was, then = pair(made)
    assert was["time_in_rpo"] == then["time_in_rpo"] == 1
    assert then["worst_exposure"] > pd.Timedelta("8D")


def test_a_full_of_no_use_lets_the_last_one_go() -> None:
    # The server counts it: with a day of retention nothing can be restored until the next one.
    runs = daily(29)
    runs[14] |= {"validity": "INVALID"}
    sets = history(runs)
    kept, gone = (pair(what_if(sets, retention_days=each, rpo="26h"))[1] for each in (30, 1))
    assert kept["gaps"] == gone["gaps"] == 1
    assert kept["worst_exposure"] < gone["worst_exposure"] or pd.isna(gone["worst_exposure"])


def test_what_the_vendor_says_of_logs_stays(sample: BackupSets) -> None:
    one = sample.tenants.iloc[0]
    listed = pd.DataFrame(
        {
            "instance_id": [one["instance_id"]],
            "tenant_id": [one["tenant_id"]],
            "start": [pd.Timestamp("2025-11-05", tz="UTC")],
            "end": [sample.as_of],
            "storage_class": ["standard"],
        }
    )
    sets = replace(sample, restorable=conform(listed, "restorable"))
    made = what_if(sets, incremental_every="2D", full_every="14D", rpo="1h")
    assert made.attrs["model"] == "mixed"
    was, then = pair(made, one["tenant_id"])
    # By backup sets alone it would be less than a twentieth; the first base comes two days later.
    assert was["time_in_rpo"] == pytest.approx(then["time_in_rpo"], abs=0.01)
    assert then["time_in_rpo"] > 0.98


def test_an_earlier_instant_and_a_window(sample: BackupSets) -> None:
    early = what_if(sample, incremental_every="1D", as_of="2026-03-01", rpo="26h")
    was = early[early["scenario"] == WAS].reset_index(drop=True)
    coverage = ob.rpo_compliance(sample, was["rpo"].iloc[0], as_of="2026-03-01")
    assert was["time_in_rpo"].iloc[0] == coverage["time_in_rpo"].iloc[0]
    narrow = sample.between("2026-02-01", "2026-05-01")
    made = what_if(narrow, incremental_every="1D")
    was, then = (made[made["scenario"] == each].reset_index(drop=True) for each in (WAS, THEN))
    check_house(was, narrow, None)
    assert then["sets"].tolist() == was["sets"].tolist()
    assert then["time_in_rpo"].tolist() == pytest.approx(was["time_in_rpo"].tolist())


def test_limits_by_tenant_and_asking_again() -> None:
    sets = history(daily(29), daily(29))
    replay = Replay(sets, rpo={"t0": "26h", "t1": "25h"})
    first = replay.at(rpo={"t0": "13h", "t1": "30h"}, incremental_every="12h")
    assert plain(first["rpo"]) == [pd.Timedelta(each) for each in ("26h", "13h", "25h", "30h")]
    replay.at(full_every="1D", retention_days=2)
    again = replay.at(rpo={"t0": "13h", "t1": "30h"}, incremental_every="12h")
    pd.testing.assert_frame_equal(first, again)
    with pytest.raises(ValueError, match="no rpo for tenant 't1'"):
        replay.at(rpo={"t0": "1D"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rpo", "0h"),
        ("rpo", "-1h"),
        ("full_every", "0h"),
        ("full_every", "-3D"),
        ("incremental_every", "0s"),
        ("incremental_every", "-1h"),
        ("incremental_every", "80000D"),
        ("incremental_every", "1us"),
        ("retention_days", 0),
        ("retention_days", -1),
        ("retention_days", float("nan")),
        ("retention_days", float("inf")),
        ("retention_days", "7"),
        ("retention_days", True),
        ("price_per_gib_month", -0.1),
        ("price_per_gib_month", float("nan")),
        ("price_per_gib_month", {"standard": -1}),
    ],
)
def test_nonsense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        what_if(history(daily(15)), **{name: value})


def test_prices_by_storage_class() -> None:
    sets = history(daily(15))
    for price, expected in (({"standard": 2.0, "archive": 9.0}, 2.0), (2, 2.0)):
        was, _ = pair(what_if(sets, price_per_gib_month=price))
        assert was["cost_per_month"] == pytest.approx(expected * was["stored_gib"])
    was, then = pair(what_if(sets, price_per_gib_month={"archive": 9.0}, incremental_every="12h"))
    assert pd.isna(was["cost_per_month"])
    assert pd.isna(then["cost_per_month"])


def test_the_replayed_frame_is_a_tenants_frame(sample: BackupSets, replay: Replay) -> None:
    course = replay._course
    slots = course.under(NAT, 6 * 3_600_000_000, replay._last)
    made = conform(frame_of(slots, replay._frame, replay._newest, replay._bounds), "tenants")
    check(made, "tenants")
    done = made[made["state"] == "done"]
    assert (done["start_time"] <= done["checkpoint"]).all()
    assert (done["checkpoint"] <= done["end_time"]).all()
    assert set(made["state"].unique()) <= set(STATES)
    assert sample.tenants["tenant_id"].nunique() == made["tenant_id"].nunique()
