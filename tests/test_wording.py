"""What people read: names that cannot act, durations, shares, sentences."""

from __future__ import annotations

import unicodedata
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from obanalytics.wording import (
    NAME_CELLS,
    cause_of,
    cells,
    coverage_sentence,
    duration_sentence,
    format_instant,
    format_interval,
    format_number,
    format_share,
    format_span,
    gap_sentence,
    growth_sentence,
    mode_name,
    most_gaps_first,
    plain,
    plural,
    tenant_labels,
    words,
    worst_first,
    wrapped,
)

NAMES = st.text(max_size=40) | st.sampled_from(
    ["$a$", "<script>", "中文" * 100, "🦀", "", " ", "a\nb", "\u202egnp.exe", "e\u0301" * 99]
)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("abc", 3),
        ("中文", 4),
        ("e\u0301", 1),
        ("🦀", 2),
        ("ｱ", 1),
        ("\uff21", 2),
        ("a\u200d", 1),
    ],
)
def test_cells(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("orders", "orders"),
        ("a\nb\t\x1b[31m", r"a\nb\t\x1b[31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028x\ufeff", r"\u2028x\ufeff"),
        ("\ud800", r"\ud800"),
        ("\u00a0", "(no name)"),
        ("", "(no name)"),
        (None, "(no name)"),
        (pd.NA, "(no name)"),
        (float("nan"), "(no name)"),
        ("👩\u200d💻", "👩\u200d💻"),
        (7, "7"),
    ],
)
def test_plain(name: object, shown: str) -> None:
    assert plain(name) == shown


@pytest.mark.parametrize(
    ("name", "limit", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("中文中文", 8, "中文中文"),
        ("中文中文", 7, "中文中…"),
        ("中文中文", 6, "中文…"),
    ],
)
def test_plain_cuts(name: str, limit: int, shown: str) -> None:
    assert plain(name, limit) == shown


@given(NAMES, st.integers(1, 60))
@example("e" + "\u0301" * 10_000, 20)
def test_plain_is_safe(name: str, limit: int) -> None:
    shown = plain(name, limit)
    assert cells(shown) <= limit
    assert len(shown) <= 4 * limit + 1
    assert not [c for c in shown if unicodedata.category(c)[0] == "C" and c != "\u200d"]
    assert "\n" not in shown
    assert shown.strip()


def frame(keys: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(keys, columns=["instance_id", "tenant_id", "tenant_name"], dtype="object")


@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.text(max_size=30), NAMES),
        min_size=1,
        max_size=12,
        unique_by=lambda key: key[:2],
    ),
    st.integers(12, 40),
)
@example([("a", "t" * 40 + "1", "x"), ("a", "t" * 40 + "2", "x")], 12)
@example([("o" * 40 + "1", "t", "x"), ("o" * 40 + "2", "t", "x")], 26)
@example([("a", "b", "c"), ("a", "c", "d"), ("a", "d", "c")], 26)
@example([("a", "1", "中" * 99), ("b", "1", "中" * 99), ("b", "2", "中" * 98 + "文")], 26)
def test_labels_tell_tenants_apart(keys: list[tuple[str, str, str]], limit: int) -> None:
    labels = tenant_labels(frame(keys), limit)
    assert len(set(labels)) == len(keys), labels
    for label in labels:
        assert cells(label) <= limit
        assert not [c for c in label if unicodedata.category(c)[0] == "C" and c != "\u200d"]
    assert labels == tenant_labels(frame(keys), limit)


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        ([("ob1", "t1", "orders"), ("ob1", "t2", "billing")], ["orders", "billing"]),
        ([("ob1", "t1", "x"), ("ob2", "t1", "x")], ["x · ob1", "x · ob2"]),
        ([("ob1", "t1", "x"), ("ob1", "t2", "x"), ("ob1", "t3", "y")], ["t1", "t2", "y"]),
        ([("ob1", "t1", ""), ("ob1", "t2", "")], ["t1", "t2"]),
        (
            [("ob12345678901", "t", "a_long_enough_name"), ("ob98765432109", "t", "b")],
            ["a_long_enough_name · ob123…", "b · ob987…"],
        ),
    ],
)
def test_labels(keys: list[tuple[str, str, str]], labels: list[str]) -> None:
    assert tenant_labels(frame(keys), 27) == labels


def test_a_tenant_has_one_label_in_all_its_rows() -> None:
    rows = frame([("ob1", "t1", "new"), ("ob1", "t1", "old"), ("ob1", "t2", "z")])
    assert tenant_labels(rows) == ["new", "new", "z"]
    assert tenant_labels(rows.head(0)) == []
    assert max(map(cells, tenant_labels(frame([("a", "b", "n" * 99)])))) == NAME_CELLS


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        ("0s", "0 s"),
        ("400ms", "0 s"),
        ("-400ms", "0 s"),
        ("59.4s", "59 s"),
        ("59.5s", "1 min"),
        ("-90s", "-2 min"),
        ("59min29s", "59 min"),
        ("59min30s", "1 h"),
        ("1h5min", "1 h 05 min"),
        ("26h", "26 h"),
        ("47h59min29s", "47 h 59 min"),
        ("47h59min30s", "2 d"),
        ("48h29min", "2 d"),
        ("48h30min", "2 d 1 h"),
        ("3D4h", "3 d 4 h"),
        ("365D", "365 d"),
        (None, "n/a"),
    ],
)
def test_span(span: str | None, shown: str) -> None:
    assert format_span(pd.NaT if span is None else pd.Timedelta(span)) == shown


@given(st.integers(-(10**9), 10**9))
def test_span_is_right_to_its_smaller_unit(seconds: int) -> None:
    parts = format_span(pd.Timedelta(seconds, "s")).lstrip("-").split()
    unit = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    total = sum(int(n) * unit[u] for n, u in zip(parts[::2], parts[1::2], strict=True))
    assert abs(total - abs(seconds)) <= (1800 if abs(seconds) > 172_000 else 30)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (1.0, "100 %"),
        (0.999999, "99.99 %"),
        (0.29, "29.00 %"),
        (0.5, "50.00 %"),
        (0.0, "0.00 %"),
        (0.00009, "0.00 %"),
        (float("nan"), "n/a"),
    ],
)
def test_share(share: float, shown: str) -> None:
    assert format_share(share) == shown


@given(st.floats(0, 1))
@example(1 - 2**-53)
def test_share_never_rounds_up(share: float) -> None:
    assume(share < 1)
    shown = format_share(share)
    assert not shown.startswith("100")
    assert -1e-9 <= share * 100 - float(shown.removesuffix(" %")) < 0.0100001


def test_numbers_and_instants() -> None:
    assert format_number(1234567) == "1,234,567"
    assert format_number(1234.567, 1, sign=True) == "+1,234.6"
    assert format_number(float("nan"), 2) == "n/a"
    assert format_interval(-1.25, 2, 1) == "-1.2 to +2.0"
    assert format_interval(float("nan"), float("nan"), 1) == "n/a"
    assert format_instant(pd.Timestamp("2026-06-01T08:31:59Z")) == "2026-06-01 08:31"
    assert format_instant(pd.NaT) == "n/a"
    assert [plural(n, "gap") for n in (0, 1, 1200)] == ["0 gaps", "1 gap", "1,200 gaps"]
    assert plural(2, "series") == "2 series"
    assert [mode_name(each) for each in (True, False, pd.NA)] == [
        "full",
        "incremental",
        "unknown mode",
    ]
    assert words("missing_from_cluster_set") == "missing from cluster set"
    assert words(None) == "n/a"


@given(st.text(), st.integers(12, 100))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    text = plain(text)
    lines = wrapped(text, width, first="Note  ", rest="      ")
    assert all(cells(line) <= width for line in lines)
    whole = "".join(line[6:] for line in lines)
    assert whole.replace(" ", "") == text.replace(" ", "")


def test_wrapped_keeps_a_number_with_its_unit() -> None:
    assert wrapped("at 2026-11-25 02:02 UTC. RPO 26 h.", 28) == [
        "at 2026-11-25 02:02 UTC.",
        "RPO 26 h.",
    ]
    assert wrapped("the longest 3 d 4 h", 13) == ["the longest", "3 d 4 h"]


def tenants(*rows: tuple[str, float, float]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["tenant_name", "rpo_ratio", "time_in_rpo"])
    made["tenant_id"] = made["tenant_name"]
    made["instance_id"] = "ob1"
    return made


def gaps(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["tenant_name", "gap", "cause", "position"])
    made["certainty"] = "inferred"
    made["unknown"] = pd.Timedelta(0)
    made["gap"] = pd.to_timedelta(made["gap"])
    made["tenant_id"] = made["tenant_name"]
    made["instance_id"] = "ob1"
    return made


SOME = gaps(
    ("a", "2h", "failed", "interior"),
    ("b", "30h", "silent", "interior"),
    ("a", "3D4h", "missing_from_cluster_set", "interior"),
    ("c", "1h", "silent", "tail"),
)


def test_coverage_sentence() -> None:
    fleet = tenants(("a", 3.0, 0.5), ("b", 0.5, 1.0))
    fleet.loc[2] = ["all", 3.0, 0.7, None, None]
    assert coverage_sentence(fleet, SOME) == (
        "1 of 2 tenants outside the RPO now; 4 gaps, the longest 3 d 4 h "
        "(a, missing from cluster set)"
    )
    assert coverage_sentence(tenants(("a", 0.5, 1.0)), SOME.head(0)) == (
        "None of 1 tenant outside the RPO now; no gap in the window"
    )
    assert (
        coverage_sentence(tenants().astype({"rpo_ratio": float}), SOME.head(0))
        == "No tenant has a backup set in this window"
    )


def test_gap_sentence_and_order() -> None:
    assert gap_sentence(SOME) == (
        "3 tenants have 4 gaps, the longest 3 d 4 h (a, missing from cluster set)"
    )
    assert gap_sentence(SOME.iloc[1:2]) == "1 tenant has 1 gap, the longest 30 h (b, silent)"
    assert gap_sentence(SOME.head(0)) == "No tenant was outside its RPO in this window"
    assert list(most_gaps_first(SOME)["tenant_name"]) == ["c", "a", "b"]
    assert most_gaps_first(SOME.head(0)).empty
    doubled = pd.concat([SOME, SOME])  # an index with doubles, as a user's own frame may have
    assert gap_sentence(doubled).startswith("3 tenants have 8 gaps")
    assert list(most_gaps_first(doubled)["tenant_name"]) == ["c", "a", "b"]


def test_worst_first() -> None:
    fleet = tenants(("in", 0.2, 1.0), ("bad", 1.5, 0.9), ("worse", 9.0, 0.95), ("low", 0.9, 0.4))
    fleet.loc[4] = ["all", 9.0, 0.1, None, None]
    fleet.loc[5] = ["none", float("inf"), float("nan"), "none", "ob1"]
    order = worst_first(fleet)
    assert list(order["tenant_name"]) == ["none", "worse", "bad", "low", "in", "all"]
    fleet.index = [0] * 6  # type: ignore[assignment]
    assert list(worst_first(fleet)["tenant_name"]) == list(order["tenant_name"])


def growth(*rows: tuple[str, Any, float, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["tenant_name", "full", "percent_per_30d", "verdict"]).astype(
        {"full": "boolean"}
    )


def test_growth_sentence() -> None:
    nan = float("nan")
    some = growth(
        ("a", True, 3.21, "growing"),
        ("b", True, -1.0, "shrinking"),
        ("c", False, 9.0, "growing"),
        ("d", True, nan, "too_little_history"),
        ("e", None, 50.0, "growing"),
    )
    assert growth_sentence(some) == (
        "Full sets grow in 1 of 2 tenants; fastest: a, +3.2 % in 30 days"
    )
    assert growth_sentence(some.iloc[3:4]) == "Full sets: too little history for a growth rate"
    assert growth_sentence(some.head(0)) == "Full sets: too little history for a growth rate"


def durations(*rows: tuple[str, Any, str | None, float, int]) -> pd.DataFrame:
    names = ["tenant_name", "full", "p95", "percent_per_30d_low", "running"]
    made = pd.DataFrame(rows, columns=names).astype({"full": "boolean", "running": "int64"})
    made["p95"] = pd.to_timedelta(made["p95"])
    return made.assign(p50=made["p95"], percent_per_30d=made["percent_per_30d_low"])


def test_duration_sentence() -> None:
    nan = float("nan")
    some = durations(
        ("a", True, "2h", 1.0, 0), ("b", False, "5min", -1.0, 2), ("c", False, None, nan, 1)
    )
    assert duration_sentence(some) == (
        "1 of 2 series get slower; longest p95: 2 h (a, full); 3 runs unfinished now"
    )
    assert duration_sentence(some.iloc[2:]) == (
        "No finished backup set has a duration; 1 run unfinished now"
    )
    short = durations(("a", None, "90s", nan, 0))
    assert duration_sentence(short) == (
        "Too little history for a trend; longest p95: 2 min (a, unknown mode)"
    )


def test_a_gap_that_may_be_none_says_so() -> None:
    some = SOME.assign(certainty=["inferred", "partly", "unknown", "inferred"])
    assert [cause_of(row) for row in some.itertuples()] == [
        "failed",
        "silent (partly known)",
        "missing from cluster set (not known)",
        "silent",
    ]
    assert gap_sentence(some).endswith("(a, missing from cluster set (not known))")
