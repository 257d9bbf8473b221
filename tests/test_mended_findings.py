"""Faults of the findings that were found once from outside, each with what is right instead."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from findings_oracle import Row, facts, found, number

import obanalytics as ob
from obanalytics.findlog import find_log
from obanalytics.policy import Policy

if TYPE_CHECKING:
    from findings_oracle import Found

DAY = 24


def sentences(sets: Any, kind: str, policy: Policy | None = None) -> list[str]:
    table = ob.findings(sets, policy)
    return table.loc[table["kind"] == kind, "sentence"].astype("object").tolist()


def of(sets: Any, kind: str, policy: Policy | None = None) -> list[Found]:
    return [each for each in found(sets, policy) if each.kind == kind]


def sure(each: Found) -> tuple[str, str, str]:
    return each.kind, each.severity, each.certainty


# --- what is not known is not stated as a fact ---------------------------------------------------


def unchecked(first: int, count: int = 12, **more: Any) -> list[Row]:
    return [
        Row(DAY * day, **({"validity": None} if day >= first else {}), **more)
        for day in range(count)
    ]


DOUBTFUL = {
    "validity": facts(unchecked(10), 288),
    "base": facts([Row(DAY * day, full=False) for day in range(5)], 120),
    "mode": facts([Row(DAY * day, full=None) for day in range(20)], 480),
    "no validity at all": facts(unchecked(0), 288),
    "mid-week": facts([Row(DAY * d, full=d % 7 == 0) for d in range(36, 40)], 960, start=864),
}


@pytest.mark.parametrize("case", DOUBTFUL)
@pytest.mark.parametrize("days", [None, 1, 7])
def test_what_hangs_on_the_unknown_is_unknown_and_never_critical(case: str, days: Any) -> None:
    told = found(DOUBTFUL[case], Policy(retention_days=days))
    kinds = [each for each in told if each.kind != "G15"]  # what is old is old
    assert kinds, "it is told"
    for each in kinds:
        assert each.severity != "critical", each
        assert each.certainty in {"unknown", "partly"}, each
        assert each.certainty == "unknown" or each.kind in {"G2", "G4", "G6"}, each


def test_what_would_be_lost_now_hangs_on_sets_of_unknown_validity() -> None:
    (lost,) = of(DOUBTFUL["validity"], "G21")
    assert sure(lost) == ("G21", "warning", "unknown")
    assert lost.measured == 288 - 217
    (text,) = sentences(DOUBTFUL["validity"], "G21")
    assert text.endswith("of some sets it is not known whether they can be restored")


def test_what_is_over_the_limit_either_way_is_critical_and_only_partly_known() -> None:
    sets = facts(unchecked(10), 24 * 20)
    kinds = {each.kind: sure(each)[1:] for each in found(sets)}
    assert kinds["G3"] == ("critical", "partly")
    assert kinds["G21"] == ("critical", "partly")


def test_what_lasts_only_if_the_unknown_is_bad_is_a_warning() -> None:
    # Four days of nothing are sure; that it is still so is not.
    rows = [Row(0), Row(96, validity=None), Row(110, validity=None)]
    kinds = {each.kind: sure(each)[1:] for each in found(facts(rows, 120))}
    assert kinds["G3"] == ("warning", "unknown")
    assert kinds["G5"] == ("warning", "unknown")


def test_who_was_never_protected_for_certain_but_is_too_late_either_way_is_critical() -> None:
    rows = [Row(0, validity=None)]
    kinds = {each.kind: sure(each)[1:] for each in found(facts(rows, 480))}
    assert "G1" not in kinds
    assert kinds["G3"] == ("critical", "partly")


def test_sound_sets_are_judged_as_ever() -> None:
    kinds = {each.kind: sure(each)[1:] for each in found(facts([Row(0)], 120))}
    assert kinds["G3"] == kinds["G21"] == ("critical", "inferred")
    kinds = {each.kind: sure(each)[1:] for each in found(facts([Row(0, validity="BAD")], 120))}
    assert kinds["G1"] == kinds["G13"] == ("critical", "inferred")


def test_too_few_fulls_is_sure_where_the_unknown_would_not_do() -> None:
    (few,) = of(facts(unchecked(10), 288), "G13", Policy(min_redundancy=13))
    assert sure(few) == ("G13", "critical", "inferred")
    (few,) = of(facts(unchecked(10), 288), "G13", Policy(min_redundancy=12))
    assert sure(few) == ("G13", "warning", "unknown")


def test_a_full_of_unknown_validity_may_be_new_enough() -> None:
    sets = facts(unchecked(3, 9), 216)
    (old,) = of(sets, "G9", Policy(full_every="48h"))
    assert old.certainty == "unknown"
    (old,) = of(facts([Row(0), Row(24, validity="BAD")], 216), "G9", Policy(full_every="48h"))
    assert old.certainty == "inferred"


def test_a_copy_and_a_download_of_unknown_validity_may_be_there() -> None:
    rows = [Row(0, downloadable=False), Row(24, validity=None, downloadable=True)]
    policy = Policy(copies=["standard"], copy_within="20h", export_within_days=1.5)
    told = {each.kind: each.certainty for each in found(facts(rows, 30), policy)}
    assert (told["G26"], told["G27"]) == ("unknown", "unknown")


def test_a_long_fault_that_is_sure_counts_more_than_a_longer_one_that_is_not() -> None:
    rows = [Row(DAY * day, validity=None) for day in range(12)]
    (kept,) = of(facts(rows, 288), "G31", Policy(retention_days=7))
    assert kept.certainty == "unknown"
    rows = [Row(0), *(Row(DAY * day, state="failed") for day in range(1, 12))]
    (kept,) = of(facts(rows, 288), "G31", Policy(retention_days=7))
    assert kept.certainty == "inferred"


def test_whether_automatic_sets_would_have_done_may_not_be_known() -> None:
    rows = [Row(DAY * n) for n in range(20) if n not in (8, 9)]
    rows += [Row(DAY * n + 5, trigger="BACKUP_NOW", cluster=f"m{n}") for n in (8, 9)]
    (rescued,) = of(facts(rows, 480), "G28")
    assert rescued.certainty == "inferred"
    rows += [Row(DAY * n, validity=None, cluster=f"a{n}") for n in (8, 9)]
    (rescued,) = of(facts(rows, 480), "G28")
    assert rescued.certainty == "unknown"


def test_sets_of_unknown_mode_are_no_measure_for_incrementals() -> None:
    sizes = [10.0] * 9 + [1.0] * 3
    rows = [Row(DAY * n, full=None, size=size) for n, size in enumerate(sizes)]
    assert not of(facts(rows, 288), "G29")


# --- sentences that were not true ----------------------------------------------------------------


def test_a_silent_gap_is_closed_by_a_run_that_began_in_it() -> None:
    rows = [Row(DAY * n + (8 if n == 5 else 0)) for n in range(9)]
    (text,) = sentences(facts(rows, 216), "G6")
    assert "no run was begun but the one that ended it, from" in text


def test_a_silent_gap_that_lasts_has_no_such_run() -> None:
    (text,) = sentences(facts([Row(0)], 120), "G6")
    assert "no run was begun, from" in text


def test_a_failed_gap_is_closed_by_a_run_that_began_in_it() -> None:
    rows = [Row(DAY * n, state="failed" if n in (4, 5) else "done") for n in range(9)]
    rows[6] = Row(DAY * 6 + 1)
    (text,) = sentences(facts(rows, 216), "G5")
    told = "2 runs begun beside the one that ended it, 2 of them failed, none can be restored, from"
    assert told in text


def test_what_only_runs_has_not_failed() -> None:
    rows = [*(Row(DAY * n) for n in range(9)), Row(216, state="running")]
    (text,) = sentences(facts(rows, 222), "G5")
    assert ": 1 run begun, 1 of them unfinished, none can be restored, from" in text
    assert "failed" not in text


def test_what_is_done_and_of_no_use_has_not_failed() -> None:
    rows = [Row(0), Row(24, validity="BAD"), Row(48, validity="BAD"), Row(72, state="cancelled")]
    (text,) = sentences(facts(rows, 96), "G5")
    told = "3 runs begun, 1 of them failed, 2 of them done and of no use, none can be restored"
    assert told in text


def test_what_the_lookback_holds_could_be_restored() -> None:
    rows = [Row(DAY * day) for day in range(30) if day not in (10, 11, 12)]
    sets = facts(rows, 720).between("2026-01-12", "2026-01-20")
    (text,) = sentences(sets, "G2")
    assert "up to 4 d would have been lost as the time looked at begins, from" in text


def test_a_tenant_that_appears_in_the_window_has_no_gap_as_the_window_begins() -> None:
    rows = [Row(DAY * n, "old") for n in range(20)]
    rows += [Row(DAY * n, "new", state="failed" if n < 13 else "done") for n in range(10, 20)]
    (text,) = sentences(facts(rows, 480, start=24), "G2")
    assert ": nothing of a new tenant could be restored, from" in text


def test_of_a_new_tenant_without_a_base_nothing_is_known() -> None:
    rows = [Row(DAY * n, "old", full=n % 7 == 0) for n in range(28)]
    rows += [Row(DAY * n, "new", full=n % 7 == 0) for n in range(10, 28)]
    told = {each.kind for each in found(facts(rows, 672, start=24)) if each.tenant == "new"}
    assert told.isdisjoint({"G1", "G2", "G5"})
    assert "G30" in told


def test_without_anything_before_nothing_could_be_restored_as_the_window_begins() -> None:
    rows = [Row(0, state="failed"), *(Row(DAY * n) for n in range(3, 9))]
    (text,) = sentences(facts(rows, 216, start=0), "G2")
    assert ": nothing could be restored as the time looked at begins, from" in text


def test_now_is_the_end_of_a_window_that_ends_before() -> None:
    rows = [Row(DAY * n) for n in range(30) if not 10 <= n < 16]
    sets = facts(rows, 720).between("2026-01-01", "2026-01-15")
    then = "at the end of the window (2026-01-15 00:00 UTC)"
    (stale,), (lost,) = sentences(sets, "G3"), sentences(sets, "G21")
    assert f"would be lost {then}: the newest" in stale
    assert f"if everything had failed {then}, " in lost
    (few,) = sentences(sets, "G13", Policy(min_redundancy=99))
    assert f"can be restored {then}; at least" in few
    for text in ob.findings(sets)["sentence"]:
        assert not re.search(r"\bnow\b", text)
    (lost,) = sentences(facts([Row(0)], 120), "G21")
    assert "if everything failed now, " in lost


# --- sets that have expired ----------------------------------------------------------------------


def test_what_has_expired_could_be_restored_once() -> None:
    sets = facts([Row(DAY * n, state="expired", validity="VALID") for n in range(12)], 288)
    kinds = {each.kind: sure(each)[1:] for each in found(sets)}
    assert "G1" not in kinds
    assert kinds["G3"] == ("critical", "partly")
    (text,) = sentences(sets, "G3")
    assert ": nothing can be restored any more: what could be has expired" in text
    (text,) = sentences(sets, "G5")
    assert "12 runs begun, 12 of them expired, none can be restored any more, from" in text


def test_what_expired_without_having_been_sound_could_never_be_restored() -> None:
    sets = facts([Row(DAY * n, state="expired", validity="BAD") for n in range(12)], 288)
    assert of(sets, "G1")
    assert not of(sets, "G3")


def test_whether_there_was_a_gap_before_sets_expired_is_not_known() -> None:
    rows = [Row(DAY * n, state="expired" if n < 8 else "done", validity="VALID") for n in range(12)]
    for each in found(facts(rows, 288)):
        assert (each.severity, each.certainty) == ("warning", "unknown"), each


# --- a full that runs, or is only just late ------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "last", "full", "gone"),
    [
        (1008.9, Row(1008, state="running"), 1009, 1009),
        (1009.1, Row(1008, state="running"), 1009.1, 1009.1),
        (1009.2, Row(1008, end=1009.15), 1009.15 + 168, 1009.15),
        (1009.1, None, 1009.1, 1009.1),
        (1030, None, 1009 + 168, 1009 + 168),
        # One that has been running for days is no full to wait for.
        (1100, Row(1008, state="running"), 1009 + 168, 1009 + 168),
    ],
)
def test_the_full_that_is_due_now_is_not_skipped(
    now: float, last: Row | None, full: float, gone: float
) -> None:
    rows = [Row(DAY * n, full=n % 7 == 0) for n in range(42)]
    sets = facts([*rows, *([last] if last else [])], now)
    (expected,) = ob.coverage_after_expiry(sets, 7)["next_full_expected"]
    assert number(expected) == pytest.approx(full, abs=1e-3)
    kept = ob.retention(sets, 7).set_index("backup_set_id")
    assert number(kept.loc["t0@840"].expires_at) == pytest.approx(gone + 168, abs=1e-3)


# --- errors, and what a policy says --------------------------------------------------------------


@pytest.mark.parametrize("days", [1e9, 36526])
def test_a_window_beyond_a_century_is_an_error_of_its_own(days: float) -> None:
    sets = facts([Row(DAY * n) for n in range(40)], 960)
    for ask in (ob.retention, ob.coverage_after_expiry):
        with pytest.raises(ValueError, match=rf"retention_days must be .*36525.*not {days!r}"):
            ask(sets, days)
        with pytest.raises(ValueError, match="full_every must be 100 years at most, not '40000D'"):
            ask(sets, 7, full_every="40000D")


def test_a_duration_that_no_number_holds_is_too_long() -> None:
    for text in ("200000D", "40000D"):
        with pytest.raises(ValueError, match="expected a duration of 100 years at most"):
            Policy(grace=text)
    with pytest.raises(ValueError, match="expected a duration such as '26h'"):
        Policy(grace="soon")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 2 31 2 *", "Bad day-of-month"),
        ("60 2 * * *", "Bad minute"),
        ("0 2 * * 9", "Bad day-of-week"),
    ],
)
def test_a_cron_text_that_cannot_be_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape("schedule.full = ")) as error:
        Policy(schedule={"full": text})
    assert why in str(error.value)
    with pytest.raises(ValueError, match=why):
        Policy(schedule={"full": ["0 2 * * 6", text]})


def test_the_head_of_the_list_says_until_when_something_is_acknowledged() -> None:
    policy = Policy(
        acknowledge=[
            {
                "kind": "any",
                "name": "identity",
                "instance": "obnwqwwvume0",
                "until": "2027-01-01",
                "reason": "dropped",
            }
        ],
        exclude=[{"tenant": "t9", "reason": "a test, and a long reason for it, longer than that"}],
        maintenance=[{"weekdays": ["sat"], "reason": "the weekend"}],
    )
    text = find_log(facts([Row(0)], 20), policy, None).to_text()
    head = " ".join(text.split("NOT JUDGED")[0].split())
    assert "2027-01-01" in head
    assert "dropped" in head
    assert "longer than that" in head
    assert "…" not in head


# --- sizes and chains ----------------------------------------------------------------------------


def test_full_sets_of_size_zero_are_hollow() -> None:
    rows = [Row(DAY * n, size=0.0) for n in range(12)]
    (hollow,) = of(facts(rows, 288), "G29")
    assert (hollow.measured, hollow.limit, len(hollow.ids)) == (0, 0.01, 12)
    assert sure(hollow) == ("G29", "warning", "inferred")
    (text,) = sentences(facts(rows, 288), "G29")
    assert "12 full sets of status done and of 0.00 GiB, from" in text


def test_full_sets_that_fall_to_zero_stay_hollow() -> None:
    rows = [Row(DAY * n, size=10.0 if n < 12 else 0.0) for n in range(30)]
    hollow = of(facts(rows, 720), "G29")
    assert [len(each.ids) for each in hollow] == [18]
    rows += [Row(720, size=10.0), Row(744, size=0.0)]
    assert [len(each.ids) for each in of(facts(rows, 768), "G29")] == [18, 1]


def test_incrementals_of_size_zero_are_none() -> None:
    rows = [Row(DAY * n, full=n == 0, size=10.0 if n == 0 else 0.0) for n in range(12)]
    assert not of(facts(rows, 288), "G29")


def test_a_chain_that_is_too_deep_and_too_slow_is_one_finding() -> None:
    rows = [
        Row(DAY * n, full=n % 7 == 0, end=DAY * n + (5 if n % 7 == 0 else 1)) for n in range(20)
    ]
    sets = facts(rows, 480)
    (deep,) = of(sets, "G10", Policy(rto="6h", max_chain=2))
    assert (deep.measured, deep.limit, deep.origin) == (5, 2, "policy")
    (text,) = sentences(sets, "G10", Policy(rto="6h", max_chain=2))
    assert "needs 5 incrementals" in text
    assert "took 10 h to write" in text
    (slow,) = of(sets, "G10", Policy(rto="6h"))
    assert slow.measured == 6
    (slow,) = of(sets, "G10", Policy(rto="6h", max_chain=9))
    assert slow.measured == 6


# --- the rule by which the unknown is judged, the slow way ---------------------------------------


def drawn(seed: int) -> list[Row]:
    """Draw a tenant's days: most are done, of some the validity is not known, some are missing."""
    draw = random.Random(seed)
    rows = []
    for day in range(draw.randint(3, 16)):
        fate = draw.choices(["done", "doubt", "bad", "failed", "none"], [5, 4, 1, 1, 2])[0]
        if fate == "none":
            continue
        validity = {"done": "VALID", "doubt": None, "bad": "INVALID", "failed": None}[fate]
        state = "failed" if fate == "failed" else "done"
        full = draw.random() < 0.4
        rows.append(Row(DAY * day, full=full, state=state, validity=validity))
    return rows


def judged(rows: list[Row], now: float, good: str | None) -> dict[str, Found]:
    """Return what is found, if every validity that is not known is this."""
    settled = [
        replace(row, validity=good) if row.validity is None and row.state == "done" else row
        for row in rows
    ]
    told = found(facts(settled, now), Policy(min_redundancy=2))
    return {"G3" if each.kind == "G1" else each.kind: each for each in told}


@pytest.mark.parametrize("seed", range(40))
def test_critical_is_what_is_so_whatever_the_unknown_is(seed: int) -> None:
    rows = drawn(seed)
    # What hangs on no full in the data is not known either: here there is one.
    rows = [Row(-DAY, id="first"), *rows]
    now = DAY * 16 + random.Random(seed).choice([2, 20, 40])
    told, worst, best = (judged(rows, now, each) for each in (None, "INVALID", "VALID"))
    for kind in ("G3", "G13", "G21"):
        grave = [kind in each and each[kind].severity == "critical" for each in (told, worst, best)]
        assert grave[0] == (grave[1] and grave[2]), kind
        if kind in worst and kind not in best:
            assert told[kind].certainty == "unknown", kind
        if kind not in worst and kind not in best:
            assert kind not in told, kind
