"""What a policy says, that a file's faults are told with their lines, and who is excepted when."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import fnmatch
import json
import pickle
import re
import tomllib
from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obanalytics.clauses import CHECKS, LIMITS, SELECTORS, WEEKDAYS, Selector
from obanalytics.clock import rules_of
from obanalytics.policy import Acknowledged, Exclude, Maintenance, Override, Policy
from obanalytics.policyfile import KEYS, key_parts, lines_of, span_text, unknown_key
from obanalytics.quiet import NAT, Pieces, merged, without
from obanalytics.schema import as_duration

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3_600_000_000
DAY = 24 * HOUR
UTC = dt.UTC


def us(text: str, zone: str = "UTC") -> int:
    moment = dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (moment.astimezone(UTC) - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(
        microseconds=1
    )


def roster(*rows: tuple[str, str, str | None], instances: dict[str, str] | None = None) -> Any:
    columns = dict(
        zip(("instance_id", "tenant_id", "tenant_name"), zip(*rows, strict=True), strict=True)
    )
    frame = pd.DataFrame({k: pd.Categorical(v) for k, v in columns.items()})
    if instances is not None:
        frame["instance_name"] = pd.Categorical(frame["instance_id"].map(instances))
    return frame


FLEET = roster(
    ("ob1", "t1", "pay"),
    ("ob1", "t2", "Pay"),
    ("ob1", "t3", None),
    ("ob2", "t1", "pay_eu"),
    ("ob2", "t4", "report[1]"),
    instances={"ob1": "Berlin", "ob2": "上海"},
)


# --- defaults and what was given ---------------------------------------------------------------


def test_the_defaults_are_stated() -> None:
    policy = Policy()
    assert policy.rpo == pd.Timedelta("26h")
    assert policy.grace == pd.Timedelta("2h")
    assert (policy.min_redundancy, policy.tz, policy.copies) == (1, "UTC", ())
    said = {key: (value, origin) for key, value, origin in policy.describe()}
    assert list(said) == list(KEYS)
    assert {origin for _, origin in said.values()} == {"default"}
    assert said["rpo"] == ("26h", "default")
    assert said["full_every"] == ("not checked", "default")
    for key in KEYS:
        assert re.search(rf"^  {key} .*\(default\)$", repr(policy), re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rpo", "26h"), ("grace", dt.timedelta(hours=2)), ("min_redundancy", 1), ("tz", "UTC")],
)
def test_a_default_that_was_given_is_given(key: str, value: Any) -> None:
    policy = Policy(**{key: value})
    assert policy == Policy()
    assert policy.origins == {each: "policy" if each == key else "default" for each in KEYS}
    text = f"{key} = {json.dumps(value) if key != 'grace' else json.dumps('2h')}"
    assert Policy.parse(text).origins == policy.origins


def test_what_was_given_survives_copies() -> None:
    policy = Policy.parse('rpo = "26h"\ncopies = []\n')
    assert policy.origins["copies"] == policy.origins["rpo"] == "policy"
    other = dataclasses.replace(policy, rto="4h")
    for each in (other, pickle.loads(pickle.dumps(other)), copy.deepcopy(other)):  # noqa: S301
        assert each == other
        assert {k for k, v in each.origins.items() if v == "policy"} == {"rpo", "copies", "rto"}
        assert dataclasses.replace(each, grace="1h").origins["tz"] == "default"


def test_it_is_frozen_equal_and_hashable() -> None:
    one = Policy(rpo="1D", schedule={"full": "7D"}, override=[Override(tenant="a", rpo="1h")])
    two = Policy(rpo="24h", schedule={"full": "7D"}, override=[{"tenant": ["a"], "rpo": "60min"}])
    assert one == two
    assert hash(one) == hash(two)
    assert one != dataclasses.replace(two, schedule={"full": "6D"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.rpo = "2h"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.override[0].rpo = "2h"  # type: ignore[misc]


def test_it_does_not_hold_on_to_its_arguments() -> None:
    schedule, overrides = {"full": "7D"}, [Override(tenant="a", rpo="1h")]
    policy = Policy(schedule=schedule, override=overrides)
    schedule["full"] = "nonsense"
    overrides.clear()
    assert policy.schedule == {"full": "7D"}
    assert len(policy.override) == 1


# --- values ------------------------------------------------------------------------------------


def each_of(keys: tuple[str, ...], values: list[str]) -> dict[str, list[str]]:
    return {key: [*values] for key in keys}


BAD: dict[str, list[str]] = {
    **each_of(
        ("rpo", "rto", "full_every", "max_running", "copy_within"),
        ["26", "true", '"26"', '"-1h"', '"0h"', '"soon"', '""', '"200000D"', "[]", "2026-01-01"],
    ),
    **each_of(("grace", "checkpoint_lag"), ["0", '"-1h"', '"x"', '"nat"', "{}"]),
    **each_of(
        ("retention_days", "export_within_days"),
        ["0", "-1", '"7D"', "inf", "nan", "true", "1e300", "36526", "[7]"],
    ),
    **each_of(("min_redundancy", "max_chain"), ["-1", "1.5", '"2"', "true", "1000001"]),
    "copies": ["1", '""', "[1]", '["a", ""]', "{a = 1}"],
    "schedule": [
        "7",
        '"x"',
        "{}",
        '"26"',
        "[]",
        '"1s"',
        '{full = "0 2 * *"}',
        '{full = "0 25 * * *"}',
        "{full = 7}",
        '{weekly = "7D"}',
        '{full = "7D", incremental = ""}',
    ],
    "tz": ["1", '""', '"Mars"', '"Europe/berlin"', '"../UTC"', '"America"', '"a\\u0000b"'],
}
ENTRY = {
    "maintenance": "start = 2026-01-01\nend = 2026-01-02\n",
    "exclude": 'tenant = "t"\n',
    "override": 'tenant = "t"\nrpo = "1h"\n',
    "acknowledge": 'kind = "G7"\nuntil = 2027-01-01\n',
}
BAD_IN: dict[str, dict[str, list[str]]] = {
    "override": {key: BAD[key] for key in LIMITS if key != "rpo"},
    "exclude": {key: ["1", '""', "[]", '["a", 1]', "{}"] for key in SELECTORS if key != "tenant"}
    | {"reason": ["1", '""', '["a"]']},
    "maintenance": {
        "weekdays": ['"funday"', "[]", "1", '["mon", ""]'],
        "from": ['"25:00"', '"24:00"', "22", '"\\u0662\\u0662:00"', '"22:00:60"', "12:00:00.5"],
        "to": ['"24:01"', '"noon"', "[]"],
    },
    "acknowledge": {
        "start": ['"yesterday"', "1", "1969-01-01", "12:00:00", "9999-12-31", "true"],
        "end": ['""', "[2026-01-01]"],
        "instance": ["1", '""'],
    },
}
NOISE = """\
# until = "a comment", rpo = 3
"tz" = '''UTC''' # quoted
copies = [ # [[override]]
  "a]b", 'c#d',
  \"\"\"e\\
    f = [\"\"\",
]  # the end
"""


def told(text: str, name: str = "policy.toml") -> str:
    with pytest.raises(ValueError, match=r"\A") as caught:
        Policy.parse(text, name)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in BAD.items() for v in values])
def test_an_impossible_value_is_told_with_its_line(key: str, value: str) -> None:
    noise = "\n".join(line for line in NOISE.splitlines() if "tz" not in line or key != "tz")
    noise = re.sub(r"copies = ", "" if key == "copies" else "copies = ", noise)
    if key == "copies":
        noise = "# a comment"
    before = f'{noise}\n\n"r\\u0074o" = "1h"\n' if key != "rto" else noise + "\n"
    message = told(f"{before}{key} = {value}\nmax_chain_ = 1\n[[override]]\nx = 1\n")
    assert message.startswith(f"policy.toml, line {before.count(chr(10)) + 1}: {key}")
    assert ": expected " in message or "unknown key 'weekly'" in message
    assert told(f"{before}{key} = {value}\n".replace("\n", "\r\n")) == message
    raw = tomllib.loads(f"v = {value}")["v"]
    with pytest.raises(ValueError, match=f"^{key}"):
        Policy(**{key: raw})


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [(t, k, v) for t, keys in BAD_IN.items() for k, values in keys.items() for v in values],
)
def test_in_the_second_entry_too(table: str, key: str, value: str) -> None:
    before = f"{NOISE}\n[[{table}]]\n{ENTRY[table]}\n# [[{table}]]\n  [[ {table} ]] # second\n"
    before += ENTRY[table] + "reason = '''[[x]]\n[[y]]'''\n" * (table != "override")
    if key == "reason":
        before = before.replace("reason = '''[[x]]\n[[y]]'''\n", "")
    message = told(f"{before}{key} = {value}\n\n[[{table}]]\nrpq = 1\n")
    line = before.count("\n") + 1
    assert message.startswith(f"policy.toml, line {line}: {table} 2: {key}")
    assert ": expected " in message or "unknown key 'weekly'" in message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("\n\nrpo_ = 1", 3, "unknown key 'rpo_': did you mean rpo?"),
        ("rop = '1h'", 1, "did you mean rpo?"),
        ("[schedule]\nful = '7D'", 2, "unknown key 'ful': did you mean full?"),
        ("schedule.full = '7D'\nschedule.incremental = 'x'", 2, "schedule.incremental = 'x'"),
        ("[schedule]\nfull = '7D'\n\nincremental = [\n]", 4, "schedule.incremental = []"),
        ("[[overrides]]\ntenant='t'", 1, "did you mean override?"),
        ("[[override]]\nname='a'\nretention_day = 3", 3, "did you mean retention_days?"),
        ("[[exclude]]\nname='a'\n[[exclude]]\nname='b'\nrpo='1h'", 5, "unknown key 'rpo'"),
        ("[[override]]\nname='a'\ntz='UTC'", 3, "override 1: unknown key 'tz'"),
        ("zzzzz = 1", 1, "expected one of rpo, rto"),
        ("'a\\nb\u202e' = 1", 1, r"unknown key 'a\\nb\u202e'"),
        ("[override]\nname = 'a'", 1, "expected tables that begin with [[override]]"),
        ("override = 3", 1, "override = 3: expected tables"),
        ("exclude = [\n 1\n]", 1, "exclude = [1]: expected tables"),
        ("override = [\n {name='a', rpo='1h'},\n {name='b', rpo='x'}]", 3, "override 2: rpo = 'x'"),
        ("[[override]]\nname='a'\nrpo='1h'\n\n[[override]]\nrpo='1h'", 5, "there is no selector"),
        ("\n[[override]]\nname='a'", 2, "there is no limit"),
        ("[[exclude]]\nreason='r'", 1, "there is no selector"),
        ("[[acknowledge]]\nname='a'\nuntil=2027-01-01", 1, "there is no kind"),
        ("[[acknowledge]]\nkind='G7'", 1, "there is no until"),
        ("[[acknowledge]]\nkind='any'\nuntil=2027-01-01", 1, "there is no selector"),
        ("[[acknowledge]]\nkind='G7'\nuntil=9999-12-31", 3, "until = 9999-12-31: expected a date"),
        ("[[acknowledge]]\nuntil=2027-01-01\nkind=['G7', 'G35']", 3, "kind = 'G35'"),
        ("[[acknowledge]]\nuntil=2027-01-01\nkind='g7'", 3, "kind = 'g7'"),
        ("[[maintenance]]\nname = 'a'", 1, "either start and end, or weekdays"),
        ("[[maintenance]]\nstart=2026-01-01", 1, "both start and end"),
        ("[[maintenance]]\nto='01:00'", 1, "both from and to"),
        ("[[maintenance]]\nfrom='1:00'\nto=01:00:00", 1, "a time with a length"),
        ("[[maintenance]]\nstart=2026-01-02\nend=2026-01-02", 1, "expected one after start"),
        ("[[maintenance]]\nstart=2026-01-02\nend=2026-01-03T00:00:00Z", 1, "both, or neither"),
        ("[[maintenance]]\nstart=2026-01-02\nend=2026-01-03\nfrom='1:00'\nto='2:00'", 1, "either"),
        ("rpo = '1h'\nrpo = '2h'", 2, "Cannot overwrite"),
        ("rpo = '1h'\n\nrto = ", 3, "this is no TOML"),
        ("rpo = '1h'\n\nrto = [\n1,\n\n", 4, "(at end of document)"),
        ("\nmax_chain = " + "9" * 5000, 2, "thousands of digits"),
        ("\nmax_chain = 0x" + "9" * 5000, 2, "thousands of digits"),
        ("\ncopies = '" + "x" * 5000 + "'\nmax_chain = -1", 3, "max_chain"),
    ],
)
def test_faults_of_a_file(text: str, line: int, words: str) -> None:
    message = told(text)
    assert message.startswith(f"policy.toml, line {line}: ")
    assert words in message


@pytest.mark.parametrize(("late", "early"), [*permutations(ENTRY, 2)])
def test_the_first_fault_in_the_file_is_told(late: str, early: str) -> None:
    good = f"[[{late}]]\n{ENTRY[late]}"
    text = f"{good}[[{early}]]\n{ENTRY[early]}zz = 1\nyy = 1\n[[{late}]]\nxx = 1\n"
    line = text.split("\n").index("zz = 1") + 1
    assert told(text).startswith(f"policy.toml, line {line}: {early} 1: unknown key 'zz'")


def test_a_message_holds_nothing_invisible() -> None:
    message = told('tz = "\\u001b[2J\\u202e\\n"', "a\nb\x1b.toml")
    assert message.startswith(r"a\nb\x1b.toml, line 1: tz = '\x1b[2J\u202e\n': expected")
    assert len(told(f'tz = "{"x" * 9999}"')) < 250


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes('\ufeff# 中文\r\nrpo = "4h"\r\n'.encode())
    assert Policy.load(path).rpo == pd.Timedelta("4h")
    path.write_bytes(b"# a\n\n# \xff\n")
    with pytest.raises(ValueError, match=r"p\.toml, line 3: this is no UTF-8"):
        Policy.load(str(path))
    path.write_text("rpx = 1\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 1: unknown key")):
        Policy.load(path)
    with pytest.raises(FileNotFoundError):
        Policy.load(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="nested too deeply"):
        Policy.parse("a = " + "[" * 5000 + "]" * 5000)


def test_direct_construction_names_the_entry() -> None:
    with pytest.raises(ValueError, match=r"^override 2: unknown key 'rpp': did you mean rpo\?$"):
        Policy(override=[Override(name="a", rpo="1h"), {"name": "b", "rpp": "1h"}])
    with pytest.raises(ValueError, match=r"^exclude 1: 'a' is no Exclude$"):
        Policy(exclude=["a"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^exclude 1: .* is no Exclude$"):
        Policy(exclude=[Override(name="a", rpo="1h")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^exclude = Exclude.*: expected a list of Exclude$"):
        Policy(exclude=Exclude(name="a"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a text that is not empty"):
        Exclude(name="\ud800")
    with pytest.raises(ValueError, match=r"^rpo = None: expected a duration"):
        Policy(rpo=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^until = NaT: expected a date"):
        Acknowledged(kind="G7", until=pd.NaT)


def test_values_are_kept_in_one_form() -> None:
    policy = Policy(
        rto=np.timedelta64(4, "h"),
        retention_days=np.float64(7.0),
        max_chain=np.int64(6),
        copies=["a", "b", "a"],
        schedule="0 2 * * 6",
        maintenance=[
            Maintenance(weekdays=["Sunday", "SAT"], from_=dt.time(22), to="4:00"),
            Maintenance(start=dt.date(2026, 1, 1), end="2026-01-02"),
            Maintenance(start=pd.Timestamp("2026-01-01", tz="Asia/Tokyo"), end="2026-01-02T00Z"),
        ],
    )
    assert (policy.rto, policy.retention_days, policy.max_chain) == (pd.Timedelta("4h"), 7, 6)
    assert type(policy.retention_days) is type(policy.max_chain) is int
    assert (policy.copies, policy.schedule) == (("a", "b"), {"any": "0 2 * * 6"})
    weekly, once, aware = policy.maintenance
    assert (weekly.weekdays, weekly.from_, weekly.to) == (("sat", "sun"), "22:00", "04:00")
    assert (once.start, once.end) == (dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2))  # noqa: DTZ001
    assert aware.start == dt.datetime(2025, 12, 31, 15, tzinfo=UTC)


SLOTS = ["0 2 * * 6", "*/5 * * * *", "7D", "1D 2h", "26h", "0 0 29 2 *", ("0 2 * * 1", "0 4 * * 6")]


@pytest.mark.parametrize("slot", [*SLOTS, "0 0 30 2 *", "", "26", "x", "1s", "0 2 * *", [], 7])
@pytest.mark.parametrize("mode", ["any", "full", "incremental", None])
def test_a_schedule_is_one_that_slots_can_be_made_of(slot: Any, mode: str | None) -> None:
    schedule = slot if mode is None else {mode: slot}
    if slot not in SLOTS:
        with pytest.raises(ValueError, match="schedule"):
            Policy(schedule=schedule)
        with pytest.raises((ValueError, TypeError)):
            rules_of(schedule)
        return
    kept = Policy(schedule=schedule).schedule
    assert rules_of(kept) == rules_of(schedule)


# --- lines -------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b-c", '"q.r"', "'s t'", '"\\u0061b"', "1", "a . b", 'x."y]".z'])
VALUES = st.sampled_from(
    [
        "1",
        "1979-05-27 07:32:00 # late",
        '"a # b = [" # c',
        "'it = {'",
        '"""a\n"" \\""" b = 1\n"""""',
        "'''\n[[x]]\n'' '''''",
        "[1,\n 2, # ]\n [3,\n]]",
        "[ # [\n '''\n''', \"]\" ]",
        '{k = 1, "l m" = [\n1], n.o = {p = "}"}}',
        "[{k = 1},\n\n {k = 2}]",
    ]
)
FILLER = st.sampled_from(["", "\n", "# [x] = '''\n", "   \n\t\n", "  # c\n\n"])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Any, int]]:
    """A TOML text, and the line of every key as it was written."""
    text, expected, counts = "", {}, {}
    table: tuple[Any, ...] = ()
    for number in range(draw(st.integers(1, 8))):
        text += draw(FILLER)
        what = draw(st.sampled_from(["key", "key", "table", "array"]))
        name = draw(NAMES)
        line = text.count("\n") + 1
        unique = f"k{number}"
        if what == "key":
            parts = (*parts_of(name), unique)
            text += f"{' ' * draw(st.integers(0, 2))}{unique}.{name} = {draw(VALUES)}\n"
            expected[(*table, parts[-1], *parts[:-1])] = line
        elif what == "table":
            table = (unique, *parts_of(name))
            text += f"[ {unique}.{name} ]{draw(st.sampled_from(['', ' # x']))}\n"
            expected[table] = line
        else:
            group = draw(st.sampled_from(["g", "h.i"]))
            path = tuple(group.split("."))
            at = counts.get(path, 0)
            counts[path] = at + 1
            table = (*path, at)
            text += f"[[{group}]]\n"
            expected[table] = line
            if draw(st.booleans()):
                line = text.count("\n") + 1
                text += f"[{group}.sub]\nv = 1\n"
                expected[(*table, "sub")], expected[(*table, "sub", "v")] = line, line + 1
                table = (*table, "sub")
    return text, expected


def parts_of(name: str) -> tuple[str, ...]:
    known = {
        '"q.r"': ("q.r",),
        "'s t'": ("s t",),
        '"\\u0061b"': ("ab",),
        "a . b": ("a", "b"),
        'x."y]".z': ("x", "y]", "z"),
    }
    return known.get(name, (name,))


@given(documents())
def test_lines_are_those_of_the_text(document: tuple[str, dict[Any, int]]) -> None:
    text, expected = document
    tomllib.loads(text)  # it is TOML
    lines = lines_of(text)
    assert {path[:4]: line for path, line in expected.items() if len(path) <= 4} == {
        path: lines[path] for path in expected if len(path) <= 4
    }


def test_lines_within_values() -> None:
    lines = lines_of('a = [\n {k = 1},\n {k = 2,\n "l" = """\n""", m.n = [1,\n2]}]\nb = 1')
    assert lines["a",] == 1
    assert (lines["a", 0], lines["a", 1]) == (2, 3)
    assert (lines["a", 0, "k"], lines["a", 1, "l"], lines["a", 1, "m", "n"]) == (2, 4, 5)
    assert (lines["a", 1, "m", "n", 1], lines["b",]) == (6, 7)


@pytest.mark.parametrize("name", ["a", "a.b", '"a.b".c', "'\\'.d", '"\\t"', '""', "a . b"])
def test_parts_of_keys(name: str) -> None:
    inner, parts = tomllib.loads(f"{name} = 0"), []
    while isinstance(inner, dict):
        parts += inner
        inner = next(iter(inner.values()))
    assert key_parts(name.replace(" ", "")) == parts


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(list("[]{}=\"'\n#,. arpoe1_-\\x\r\x00\ud7ff中")), max_size=60))
@example("rpo='''''''\n")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Policy.parse(text)
    except ValueError as error:
        assert re.match(r"policy\.toml(, line \d+)?: ", str(error))  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017


# --- round trips -------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    [
        '"""',
        "'''",
        "\\",
        "a\nb",
        "\r\n",
        "\x00\x7f\x1b[2J",
        "支付*",
        "# x",
        "]]",
        "\u2028",
        "\u202e",
    ]
)
SPAN = st.integers(1, 36525 * DAY).map(lambda n: pd.Timedelta(n, "us")) | st.sampled_from(
    ["26h", "1D 2h", "90min", dt.timedelta(days=2)]
)
TEXTS = TEXT | st.lists(TEXT, min_size=1, max_size=3)
MOMENT = st.datetimes(
    dt.datetime(1971, 1, 1),  # noqa: DTZ001
    dt.datetime(2198, 1, 1),  # noqa: DTZ001
)
ZONED = MOMENT.map(lambda m: m.replace(tzinfo=UTC)) | MOMENT.map(
    lambda m: m.replace(tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45)))
)
SCHEDULE = st.dictionaries(
    st.sampled_from(["any", "full", "incremental"]), st.sampled_from(SLOTS), min_size=1
)
DAYS = st.integers(1, 36525) | st.floats(1e-6, 36525)
LIMIT = {
    **dict.fromkeys(("rpo", "rto", "full_every", "max_running", "copy_within"), SPAN),
    **dict.fromkeys(("grace", "checkpoint_lag"), SPAN | st.just("0s")),
    **dict.fromkeys(("retention_days", "export_within_days"), DAYS),
    **dict.fromkeys(("min_redundancy", "max_chain"), st.integers(0, 1_000_000)),
    "copies": st.lists(TEXT, max_size=3),
    "schedule": SCHEDULE,
}
SELECTOR = dict.fromkeys(SELECTORS, TEXTS)
CLOCK = st.times().map(lambda t: t.replace(microsecond=0)) | st.sampled_from(["1:05", "23:59:59"])


def some(needed: dict[str, Any], optional: dict[str, Any]) -> Any:
    return st.fixed_dictionaries(
        needed, optional={key: value for key, value in optional.items() if key not in needed}
    )


def pair(moments: Any) -> Any:
    return st.lists(moments, min_size=2, max_size=2, unique=True).map(sorted)


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {k: v for part in parts for k, v in part.items()}


BOUNDS = (pair(MOMENT) | pair(ZONED)).map(lambda p: {"start": p[0], "end": p[1]})
WEEKLY = st.fixed_dictionaries(
    {}, optional={"weekdays": st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=7)}
)
CLOCKS = st.lists(CLOCK, min_size=2, max_size=2, unique_by=lambda c: str(c)[-5:]).map(
    lambda p: {"from_": p[0], "to": p[1]}
)
REASON = {"reason": TEXT}
POLICY = some(
    {},
    {
        **LIMIT,
        "tz": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Shanghai"]),
        "override": st.lists(
            st.tuples(
                some({"tenant": TEXTS}, SELECTOR),
                some({"rpo": SPAN}, LIMIT) | some({"copies": TEXTS}, {}),
            ).map(lambda p: Override(**joined(p))),
            max_size=3,
        ),
        "exclude": st.lists(some({"name": TEXTS}, SELECTOR | REASON).map(lambda d: Exclude(**d))),
        "maintenance": st.lists(
            st.tuples(
                some({}, SELECTOR | REASON), BOUNDS | st.tuples(WEEKLY, CLOCKS).map(joined)
            ).map(lambda p: Maintenance(**joined(p))),
            max_size=3,
        ),
        "acknowledge": st.lists(
            st.tuples(
                some(
                    {"kind": st.sampled_from(["G7", ["G1", "G34"]]), "until": MOMENT | ZONED},
                    SELECTOR | REASON,
                ),
                st.just({}) | BOUNDS,
            ).map(lambda p: Acknowledged(**joined(p))),
            max_size=2,
        ),
    },
).map(lambda d: Policy(**d))
REMARKS = st.dictionaries(st.sampled_from(list(KEYS)), TEXT)


@settings(max_examples=100, deadline=None)
@given(POLICY, REMARKS)
def test_toml_reads_back_as_an_equal_policy(policy: Policy, remarks: dict[str, str]) -> None:
    text = policy.to_toml(remarks)
    again = Policy.parse(text)
    assert again == policy
    assert again.to_toml(remarks) == text
    lines = text.split("\n")
    for entry in (*again.override, *again.exclude, *again.maintenance, *again.acknowledge):
        assert entry.line is not None
        assert lines[entry.line - 1].startswith("[[")


@settings(max_examples=100, deadline=None)
@given(POLICY)
def test_everything_it_shows_is_safe(policy: Policy) -> None:
    assert all(line.isprintable() for line in repr(policy).split("\n"))
    assert all(part.isprintable() for row in policy.describe() for part in row)
    shown = re.sub(
        r"</?(table|caption|tbody|tr|td)( style='text-align:left')?>", "", policy._repr_html_()
    )
    assert "<" not in shown
    values = json.loads(json.dumps(policy.to_dict()))
    origins = values.pop("origins")
    again = Policy(**{key: value for key, value in values.items() if value is not None})
    assert again == policy
    assert origins == policy.origins


@given(st.integers(0, 36525 * DAY))
@example(0)
@example(2 * DAY - 1)
def test_spans_read_back(number: int) -> None:
    span = pd.Timedelta(number, "us")
    assert as_duration(span_text(span), "x") == span


def test_every_example_in_the_file_can_be_taken() -> None:
    text = Policy().to_toml({"rto": "as\nin May\x07"})
    assert '# rto = "4h"  # as\\nin May\\x07\n' in text
    taken = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
    policy = Policy.parse(taken)
    assert all(origin == "policy" for origin in policy.origins.values())
    assert policy.acknowledge
    assert policy.override
    assert policy.exclude
    assert policy.maintenance
    with pytest.raises(ValueError, match="unknown key 'rpp'"):
        Policy().to_toml({"rpp": "x"})


def test_entries_are_described_with_their_line() -> None:
    policy = Policy.parse('rpo = "1h"\n[[override]]\nname = "a"\nrto = "2h"\n')
    assert policy.describe()[-1] == ("override 1", 'name = ["a"], rto = "2h"', "policy, line 2")
    other = Policy(exclude=[Exclude(name="a"), Exclude(tenant="t", reason="x")])
    assert other.describe()[-2:] == [
        ("exclude 1", 'name = ["a"]', "policy"),
        ("exclude 2", 'tenant = ["t"], reason = "x"', "policy"),
    ]
    assert repr(other).endswith('  exclude 2           tenant = ["t"], reason = "x"  (policy)')


def test_every_limit_has_a_meaning_a_check_and_an_array() -> None:
    names = {each.name for each in dataclasses.fields(Policy)}
    assert [*LIMITS, "tz"] == list(KEYS)
    assert set(KEYS) <= names & set(CHECKS)
    assert set(LIMITS) == set(Policy().limits(FLEET).origins)
    overridable = {each.name for each in dataclasses.fields(Override)}
    assert overridable - {each.name for each in dataclasses.fields(Selector)} == set(LIMITS)


# --- limits ------------------------------------------------------------------------------------


def test_limits_without_exceptions() -> None:
    limits = Policy(retention_days=1.5, copies=["a"], schedule="1D").limits(FLEET)
    assert limits.rpo.tolist() == [26 * HOUR] * 5
    assert limits.grace.tolist() == [2 * HOUR] * 5
    assert limits.retention.tolist() == [36 * HOUR] * 5
    assert limits.rto.tolist() == limits.export_within.tolist() == [NAT] * 5
    assert limits.min_redundancy.tolist() == [1] * 5
    assert limits.max_chain.tolist() == [-1] * 5
    assert limits.copies == [("a",)] * 5
    assert limits.schedule == [{"any": "1D"}] * 5
    assert not limits.excluded.any()
    assert set(limits.origins["rpo"]) == {"default"}
    assert set(limits.origins["retention_days"]) == {"policy"}


def test_selectors_must_all_match() -> None:
    def hits(**selector: Any) -> list[int]:
        policy = Policy(exclude=[Exclude(**selector)])
        return np.flatnonzero(policy.limits(FLEET).excluded).tolist()

    assert hits(instance="ob1") == [0, 1, 2]
    assert hits(tenant="t1") == [0, 3]
    assert hits(tenant="t1", instance=["ob2", "ob3"]) == [3]
    assert hits(name="pay*") == [0, 3]
    assert hits(name="?ay") == [0, 1]
    assert hits(name="ay*") == hits(name="*pa") == hits(name="pay_") == []
    assert hits(name="*ay*") == [0, 1, 3]
    assert hits(name="*") == [0, 1, 2, 3, 4]
    assert hits(name="?*") == [0, 1, 3, 4]
    assert hits(name="report[[]1]") == [4]
    assert hits(name="report[1]") == []
    assert hits(name=["PAY", "Pay"]) == [1]
    assert hits(instance_name="上*", name="*y*") == [3]
    assert hits(tenant="t") == []


def test_names_may_be_unknown() -> None:
    bare = pd.DataFrame({"instance_id": ["a", "b"], "tenant_id": ["t", None]})
    policy = Policy(exclude=[Exclude(name="x*")], override=[Override(instance_name="*", rpo="1h")])
    limits = policy.limits(bare)
    assert limits.excluded.tolist() == [False, False]
    assert limits.rpo.tolist() == [HOUR, HOUR]
    assert Policy(exclude=[Exclude(tenant="None")]).limits(bare).excluded.tolist() == [False, False]
    assert Policy(override=[Override(tenant="t", rto="1h")]).limits(bare[:0]).rto.tolist() == []


LABELS = st.sampled_from(["a", "ab", "b*", "b", "a\nb", "[a]", "aab", "支", "A"])
PATTERNS = st.sampled_from(
    [
        "a",
        "a*",
        "*b",
        "*a*",
        "*",
        "?",
        "[ab]*",
        "[!a]",
        "a*b",
        "**",
        "[",
        "b[*]",
        "支*",
        "*\n*",
        "a?*",
    ]
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(LABELS, LABELS, st.none() | LABELS, st.none() | LABELS), max_size=6),
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from(["instance", "tenant"]), st.lists(LABELS, min_size=1, max_size=2)
            ),
            st.dictionaries(
                st.sampled_from(["name", "instance_name"]),
                st.lists(PATTERNS, min_size=1, max_size=2),
            ),
            some(
                {},
                {k: LIMIT[k] for k in ("rpo", "retention_days", "max_chain", "copies", "schedule")},
            ),
        ).filter(lambda p: (p[0] or p[1]) and p[2]),
        max_size=5,
    ),
    st.booleans(),
)
def test_overrides_against_one_tenant_at_a_time(rows: Any, overrides: Any, as_labels: bool) -> None:  # noqa: FBT001
    columns = ["instance_id", "tenant_id", "tenant_name", "instance_name"]
    frame = pd.DataFrame(rows, columns=columns, dtype="category" if as_labels else "object")
    policy = Policy(
        rpo="30h", override=[Override(**ids, **names, **o) for ids, names, o in overrides]
    )
    limits = policy.limits(frame)
    for at, (instance, tenant, name, instance_name) in enumerate(rows):
        expected: dict[str, Any] = dict.fromkeys(LIMITS)
        expected |= {"rpo": pd.Timedelta("30h"), "copies": (), "min_redundancy": 1}
        origin = dict.fromkeys(LIMITS, "default") | {"rpo": "policy"}
        for number, (ids, names, _) in enumerate(overrides):
            values = {"instance": instance, "tenant": tenant}
            fits = all(values[key] in wanted for key, wanted in ids.items())
            texts = {"name": name or "", "instance_name": instance_name or ""}
            fits &= all(
                any(fnmatch.fnmatchcase(texts[key], pattern) for pattern in wanted)
                for key, wanted in names.items()
            )
            if fits:
                entry = policy.override[number]
                for key in LIMITS:
                    if getattr(entry, key) is not None:
                        expected[key], origin[key] = getattr(entry, key), f"override {number + 1}"
        assert limits.rpo[at] == expected["rpo"] // pd.Timedelta(1, "us")
        days = expected["retention_days"]
        assert limits.retention[at] == (NAT if days is None else max(1, round(days * DAY)))
        assert limits.max_chain[at] == (
            -1 if expected["max_chain"] is None else expected["max_chain"]
        )
        assert (limits.copies[at], limits.schedule[at]) == (
            expected["copies"],
            expected["schedule"],
        )
        assert {key: texts[at] for key, texts in limits.origins.items()} == origin


# --- times of rest -----------------------------------------------------------------------------


def covered(policy: Policy, low: int, high: int, tenants: Any = FLEET, row: int = 0) -> set[int]:
    """Return the minutes of a span that are not owed."""
    left = policy.uncovered(tenants, np.array([row]), np.array([low]), np.array([high]))
    step = 60_000_000
    every = set(range(low, high, step))
    for start, end in zip(left.start.tolist(), left.end.tolist(), strict=True):
        assert start % step == end % step == low % step
        every -= set(range(start, end, step))
    return every


def by_the_clock(zone: str, weekdays: Any, since: str, till: str, low: int, high: int) -> set[int]:
    """Return the minutes of a span that are in a weekly time, by looking at the clock."""
    step, margin = 60_000_000, 3 * DAY
    minutes = list(range(low - margin, high + margin, step))
    tz, epoch = ZoneInfo(zone), dt.datetime(1970, 1, 1, tzinfo=UTC)
    walls = [
        (epoch + dt.timedelta(microseconds=m)).astimezone(tz).replace(tzinfo=None) for m in minutes
    ]
    first = walls[0].date()
    found: set[int] = set()
    for number in range(1, (walls[-1].date() - first).days - 1):
        midnight = dt.datetime.combine(first + dt.timedelta(days=number), dt.time())
        if WEEKDAYS[midnight.weekday()] not in weekdays:
            continue
        begin, end = (
            midnight + dt.timedelta(hours=int(t[:2]), minutes=int(t[3:])) for t in (since, till)
        )
        end += dt.timedelta(days=1) if end <= begin else dt.timedelta()
        # From the first minute that shows the beginning or later ...
        opens = next(m for m, wall in zip(minutes, walls, strict=True) if wall >= begin)
        # ... to the last one that shows less than the end.
        closes = next(
            m for m, wall in zip(reversed(minutes), reversed(walls), strict=True) if wall < end
        )
        found |= set(range(opens, closes + step, step))
    return {m for m in found if low <= m < high}


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("Europe/Dublin", "2026-10-25"),
        ("America/New_York", "2026-03-08"),
        ("America/Havana", "2026-11-01"),
        ("Australia/Lord_Howe", "2026-04-05"),
        ("Antarctica/Troll", "2026-03-29"),
        ("Pacific/Apia", "2011-12-30"),
        ("Pacific/Chatham", "2026-04-05"),
        ("Asia/Shanghai", "2026-05-01"),
    ],
)
@pytest.mark.parametrize(
    ("since", "till"),
    [
        ("22:00", "04:00"),
        ("02:30", "03:30"),
        ("02:15", "02:45"),
        ("22:00", "02:30"),
        ("00:30", "00:15"),
        ("00:00", "24:00"),
        ("01:45", "02:00"),
    ],
)
def test_weekly_times_on_days_when_clocks_change(
    zone: str, day: str, since: str, till: str
) -> None:
    low = us(f"{day}T00:00") - DAY
    for weekdays in (WEEKDAYS, ("sat", "sun"), ("fri",)):
        policy = Policy(tz=zone, maintenance=[Maintenance(weekdays=weekdays, from_=since, to=till)])
        expected = by_the_clock(zone, weekdays, since, till, low, low + 3 * DAY)
        assert covered(policy, low, low + 3 * DAY) == expected


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"])
@pytest.mark.parametrize("hour", range(0, 24, 5))
def test_weekly_times_reach_into_short_spans(zone: str, hour: int) -> None:
    policy = Policy(tz=zone, maintenance=[Maintenance(from_="22:30", to="22:00")])
    low = us(f"2026-05-06T{hour:02}:00")
    expected = by_the_clock(zone, WEEKDAYS, "22:30", "22:00", low, low + HOUR)
    assert covered(policy, low, low + HOUR) == expected
    assert covered(policy, low, low + 30 * HOUR) == by_the_clock(
        zone, WEEKDAYS, "22:30", "22:00", low, low + 30 * HOUR
    )


def test_a_night_in_berlin_by_hand() -> None:
    policy = Policy(
        tz="Europe/Berlin",
        maintenance=[Maintenance(weekdays="sat", from_="22:00", to="04:00", reason="patches")],
    )
    for day, after, hours in (("03-28", "03-29", 5), ("10-24", "10-25", 7), ("05-02", "05-03", 6)):
        low = us(f"2026-{day}T00:00")
        times = policy.quiet(low, low + 2 * DAY)
        assert times.start.tolist() == [us(f"2026-{day}T22:00", "Europe/Berlin")]
        assert times.end.tolist() == [us(f"2026-{after}T04:00", "Europe/Berlin")]
        assert times.end[0] - times.start[0] == hours * HOUR


def test_two_years_of_weekends() -> None:
    policy = Policy(tz="Europe/Berlin", maintenance=[Maintenance(weekdays=["sat", "sun"])])
    low, high = us("2025-01-01T00:00", "Europe/Berlin"), us("2027-01-01T00:00", "Europe/Berlin")
    left = policy.uncovered(FLEET, np.array([0]), np.array([low]), np.array([high]))
    days = [dt.date(2025, 1, 1) + dt.timedelta(days=n) for n in range(730)]
    mondays = [d for d in days if d.weekday() == 0]
    assert left.start.tolist() == [low, *(us(f"{d}T00:00", "Europe/Berlin") for d in mondays)]
    assert len(left.end) == len(mondays) + 1
    worked = sum(d.weekday() < 5 for d in days)
    shifted = int((left.end - left.start).sum())
    assert shifted == worked * DAY  # clocks change on Sundays


def test_once_in_the_zone_of_the_policy() -> None:
    naive = Maintenance(start="2026-05-01", end="2026-05-02T12:00")
    aware = Maintenance(start="2026-05-01T00:00Z", end="2026-05-01T06:00+02:00")
    policy = Policy(tz="Asia/Tokyo", maintenance=[naive, aware])
    times = policy.quiet(0, us("2030-01-01T00:00"))
    assert times.index.tolist() == [0, 1]
    assert times.start.tolist() == [us("2026-04-30T15:00"), us("2026-05-01T00:00")]
    assert times.end.tolist() == [us("2026-05-02T03:00"), us("2026-05-01T04:00")]
    assert policy.quiet(us("2026-05-02T03:00"), us("2026-06-01T00:00")).index.tolist() == []
    assert Policy().quiet(0, DAY).start.tolist() == []


def test_times_are_for_whom_they_are_for() -> None:
    policy = Policy(
        maintenance=[
            Maintenance(start="2026-05-01", end="2026-05-02", instance="ob1"),
            Maintenance(start="2026-05-01T12:00", end="2026-05-03", name="pay*"),
        ]
    )
    low = us("2026-05-01T00:00")
    row = np.array([4, 0, 3, 1, 0])
    start = np.full(5, low)
    start[4] = low - HOUR
    left = policy.uncovered(FLEET, row, start, np.full(5, low + 3 * DAY))
    assert list(zip(*(each.tolist() for each in left), strict=True)) == [
        (0, low, low + 3 * DAY),
        (1, low + 2 * DAY, low + 3 * DAY),
        (2, low, low + DAY // 2),
        (2, low + 2 * DAY, low + 3 * DAY),
        (3, low + DAY, low + 3 * DAY),
        (4, low - HOUR, low),
        (4, low + 2 * DAY, low + 3 * DAY),
    ]
    none = np.empty(0, np.int64)
    assert policy.uncovered(FLEET, none, none, none).index.tolist() == []


INTERVALS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=5)


@example([(5, 0), (3, 0), (2, 0), (5, 2)], [(3, 2)])
@given(INTERVALS, INTERVALS.map(lambda pairs: [(a, b + 1) for a, b in pairs]))
def test_what_is_left_against_points(intervals: Any, times: Any) -> None:
    def columns(pairs: Any) -> tuple[Any, Any]:
        start = np.array([a for a, _ in pairs], np.int64)
        return start, start + np.array([b for _, b in pairs], np.int64)

    out = {p for a, b in times for p in range(a, a + b)}
    since, till = merged(*columns(times))
    assert (since[1:] > till[:-1]).all()
    assert {p for a, b in zip(since, till, strict=True) for p in range(a, b)} == out
    start, end = columns(intervals)
    left = without(Pieces(np.arange(len(start)), start, end), since, till)
    for at, (a, length) in enumerate(intervals):
        mine = left.index == at
        pieces = list(zip(left.start[mine].tolist(), left.end[mine].tolist(), strict=True))
        if length == 0:
            assert pieces == ([] if a in out else [(a, a)])
            continue
        points = [p for first, last in pieces for p in range(first, last)]
        assert points == [p for p in range(a, a + length) if p not in out]
        assert all(last < first for (_, last), (first, _) in pairwise(pieces))


# --- what is known -----------------------------------------------------------------------------


def found(*rows: tuple[str, str, str | None, str | None]) -> pd.DataFrame:
    kinds, instances, tenants, starts = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "kind": pd.Categorical(kinds),
            "instance_id": pd.Categorical(instances),
            "tenant_id": pd.Categorical(tenants),
            "tenant_name": pd.Categorical([None if t is None else f"name {t}" for t in tenants]),
            "start": pd.to_datetime(pd.Series(starts), utc=True).astype("datetime64[us, UTC]"),
        }
    )


FOUND = found(
    ("G7", "ob1", "t1", "2026-05-01T00:00"),
    ("G7", "ob1", "t2", "2026-05-02T00:00"),
    ("G14", "ob1", "t1", None),
    ("G34", "ob2", None, "2026-05-01T00:00"),
)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"kind": "G7"}, [0, 1]),
        ({"kind": ["G7", "G34"], "instance": "ob2"}, [3]),
        ({"kind": "any", "tenant": "t1"}, [0, 2]),
        ({"kind": "any", "name": "name t?"}, [0, 1, 2]),
        ({"kind": "any", "name": "*"}, [0, 1, 2, 3]),
        ({"kind": "any", "tenant": "nan"}, []),
        ({"kind": "G7", "start": "2026-05-02"}, [1]),
        ({"kind": "G7", "end": "2026-05-02"}, [0]),
        ({"kind": ["G7", "G14"], "start": "2026-04-01", "end": "2026-05-03"}, [0, 1]),
        ({"kind": "any", "instance": "ob1", "end": "2026-05-03"}, [0, 1]),
        ({"kind": "any", "instance": "ob1", "start": "1971-01-01"}, [0, 1]),
        ({"kind": "G1"}, []),
    ],
)
def test_which_findings_are_known(entry: dict[str, Any], expected: list[int]) -> None:
    policy = Policy(acknowledge=[Acknowledged(until="2027-01-01", reason="r", **entry)])
    known, reasons = policy.acknowledged(FOUND, "2026-06-01")
    assert np.flatnonzero(known).tolist() == expected
    assert reasons == ["r" if at in expected else "" for at in range(4)]
    none, said = policy.acknowledged(FOUND[:0], "2026-06-01")
    assert (none.tolist(), said) == ([], [])


def test_the_first_that_knows_it_says_why() -> None:
    policy = Policy(
        acknowledge=[
            Acknowledged(kind="G7", until="2026-05-01", reason="over"),
            Acknowledged(kind="G7", tenant="t1", until="2027-01-01", reason="first"),
            Acknowledged(kind="G7", until="2027-01-01"),
        ]
    )
    known, reasons = policy.acknowledged(FOUND, "2026-06-01")
    assert known.tolist() == [True, True, False, False]
    assert reasons == ["first", "", "", ""]
    assert policy.acknowledged(FOUND, "2026-04-01")[1][:2] == ["over", "over"]


@pytest.mark.parametrize(
    ("until", "runs_out"),
    [
        (dt.date(2026, 5, 1), "2026-04-30T22:00"),
        ("2026-05-01T00:00", "2026-04-30T22:00"),
        ("2026-05-01T00:00Z", "2026-05-01T00:00"),
        ("2026-10-25T02:30", "2026-10-25T00:30"),
        ("2026-03-29T02:30", "2026-03-29T01:00"),
    ],
)
def test_an_acknowledgement_runs_out(until: Any, runs_out: str) -> None:
    policy = Policy(tz="Europe/Berlin", acknowledge=[Acknowledged(kind="G7", until=until)])
    last = pd.Timestamp(runs_out, tz="UTC").as_unit("us")
    before = last - pd.Timedelta(1, "us")
    assert policy.acknowledged(FOUND, before)[0].any()
    assert not policy.acknowledged(FOUND, last)[0].any()
    assert policy.expired(before) == ()
    (sentence,) = policy.expired(last)
    assert sentence.startswith('acknowledge 1 (kind = ["G7"], until = ')
    assert " ran out on 2026-" in sentence
    assert sentence.endswith("UTC" if "Z" in str(until) else "Europe/Berlin")


def test_expired_ones_are_told_safely() -> None:
    policy = Policy(
        acknowledge=[
            {"kind": "any", "name": "a\x1b\u202e", "until": "2026-05-01", "reason": "x\ny"}
        ]
    )
    (sentence,) = policy.expired("2026-05-01")
    assert sentence.isprintable()
    assert sentence.endswith("ran out on 2026-05-01 00:00 UTC")


def test_suggestions_prefer_letters_that_changed_places() -> None:
    assert unknown_key("rop", ["rto", "rpo"]).endswith("did you mean rpo?")
    assert "expected one of a, b" in unknown_key("zzz", ["a", "b"])
