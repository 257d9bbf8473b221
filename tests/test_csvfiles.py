"""CSV files: what they hold is what the tables hold, no name acts, and no crash leaves half."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import errno
import io
import json
import math
import os
import subprocess
import unicodedata
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pytest
from browser import tool

import obanalytics as ob
from obanalytics import csvfiles, errors, simulator
from obanalytics.csvfiles import csv_files, guarded, write_csv
from obanalytics.schema import BackupSets, Source, empty
from obanalytics.wording import plain

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
LIVE = (
    *("=1+1", "+1+1", "-2+3", "@SUM(1)", " =1", "\u00a0=1", '"=1', "'=1", "''=1", '" = 1'),
    *("\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "\ufe661", "\ufe621", "\u22121", "\u201c=1"),
    *("x;=1", "x; =1", 'x;"=1', "=1;=2", ";;=1", "\uff07=1", "`=1"),
)
HARMLESS = (
    *("a=b", "a-b", "1-2", "x, =1", "a; b", "", "中文" * 100, "🦀", "<b>", '"quoted", and so', "'"),
    *("https://a.example/?a=b", "12", "1e5", "true", "NULL", "\\N", "#REF!", "a'b", ";", "don't"),
)
HOSTILE = (*LIVE, *HARMLESS, "\t=1", "\r=1", "\n=1", "a\r\n=1", "\ud800", "\x00", "\u202ex", "   ")
NAMED = {"instance_id", "instance_name", "tenant_id", "tenant_name"}


def simulated(folder: Path, scenario: simulator.Scenario) -> ob.BackupSets:
    for path, body in simulator.pages_as_files(simulator.simulate(scenario)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return ob.read(folder)


def poisoned(frame: pd.DataFrame) -> pd.DataFrame:
    """Put a hostile text wherever a frame holds one that no code of ours made."""
    hurt = frame.copy()
    for shift, name in enumerate(frame):
        if name in {"severity", "kind", "presence"} or csvfiles.kind_of(frame[name]) != "text":
            continue
        texts = [HOSTILE[(row + shift) % len(HOSTILE)] for row in range(len(frame))]
        if name == "backup_set_ids":
            hurt[name] = pd.Series([(text, "=2") for text in texts], frame.index, dtype="object")
        else:
            hurt[name] = pd.Series(texts, frame.index, dtype="object").where(frame[name].notna())
    hurt.attrs = frame.attrs
    return hurt


@pytest.fixture(scope="module")
def sample() -> ob.Review:
    return ob.review(ob.sample())


@pytest.fixture(scope="module")
def hostile(sample: ob.Review) -> ob.Review:
    worst = dict.fromkeys(("instance_id", "tenant_id", "tenant_name"), HOSTILE[0])
    failed = {name: f"refused: {name}" for name in HOSTILE}
    told = {"notes": HOSTILE, "failed": failed, "path": HOSTILE[0], "instances": HOSTILE}
    return dataclasses.replace(
        sample,
        findings=poisoned(sample.findings),
        tables={name: poisoned(frame) for name, frame in sample.tables.items()},
        summary={**sample.summary, "worst_tenant": worst, "failed_instances": HOSTILE},
        provenance={**sample.provenance, **told},
    )


@pytest.fixture(scope="module")
def nothing() -> ob.Review:
    return ob.review(BackupSets(empty("clusters"), empty("tenants"), source=Source(("ob1",))))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> ob.Review:
    scenario = simulator.Scenario(NOW, 3, 40, instances=1, tenants=1)
    return ob.review(simulated(tmp_path_factory.mktemp("single"), scenario), rpo="26h")


ALL = ("sample", "hostile", "nothing", "single")


def rows_of(content: bytes) -> list[dict[str, str]]:
    text = content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


# --- the numbers -------------------------------------------------------------------------------


def is_live(text: str) -> bool:
    """Whether a spreadsheet may take a text, or what is behind a semicolon, for a formula."""
    for part in text.split(";"):
        bare = unicodedata.normalize("NFKC", part.lstrip(' \t\r\n"`\u201c\u201d\u00a0'))
        if bare[:1] in {"=", "+", "-", "@", "\t", "\r", "\u2212"}:
            return True
    return False


def check_text(field: str, value: Any, name: str) -> None:
    if isinstance(value, tuple):
        value = "; ".join(value)
    if pd.isna(value) or (name not in NAMED and not value.strip()):
        assert field == ""
    else:
        assert field.replace("'", "") == plain(value).replace("'", "")
        assert not is_live(field)
        assert field.isprintable()


def check_field(field: str, value: Any, column: pd.Series) -> None:
    kind = csvfiles.kind_of(column)
    if kind == "text":
        check_text(field, value, str(column.name))
    elif pd.isna(value):
        assert field == ""
    elif kind == "duration":
        assert float(field) == value.total_seconds()
    elif kind == "instant":
        assert field.endswith("Z")
        assert pd.Timestamp(field) == value
        assert dt.datetime.fromisoformat(field) == value
    elif kind == "flag":
        assert field == str(bool(value)).lower()
    else:
        assert float(field) == value


@pytest.mark.parametrize("which", ALL)
def test_every_field_is_that_of_the_table(which: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(which)
    files = csv_files(review)
    assert list(files) == [
        "summary.csv",
        "findings.csv",
        *(f"{name}.csv" for name in review.tables),
    ]
    for name, frame in review.tables.items():
        rows = rows_of(files[f"{name}.csv"])
        assert len(rows) == len(frame)
        heads = files[f"{name}.csv"].decode("utf-8-sig").split("\r\n")[0].split(",")
        assert len(heads) == len(set(heads)) == len(frame.columns)
        for head, key in zip(heads, frame, strict=True):
            is_span = csvfiles.kind_of(frame[key]) == "duration"
            assert head == (f"{key}_seconds" if is_span else key)
            for row, value in zip(rows, frame[key], strict=True):
                check_field(row[head], value, frame[key])


@pytest.mark.parametrize("which", ALL)
def test_findings_have_titles_and_units(which: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(which)
    found, rows = review.findings, rows_of(csv_files(review)["findings.csv"])
    assert len(rows) == len(found)
    order = {"critical": 0, "warning": 1, "info": 2}
    ranks = [order[row["severity"]] for row in rows]
    assert ranks == sorted(ranks)
    if len(found):
        found = found.iloc[found["severity"].astype("object").map(order).argsort(kind="stable")]
    for key in found:
        for row, value in zip(rows, found[key], strict=True):
            check_field(row[key], value, found[key])
    assert [row["unit"] for row in rows] == [found.attrs["units"][row["kind"]] for row in rows]
    assert all(row["title"] for row in rows)


def test_findings_are_sorted_whatever_their_order(sample: ob.Review) -> None:
    turned = sample.findings.iloc[::-1]
    turned.attrs = sample.findings.attrs
    rows = rows_of(csv_files(dataclasses.replace(sample, findings=turned))["findings.csv"])
    order = {"critical": 0, "warning": 1, "info": 2}
    ranks = [order[row["severity"]] for row in rows]
    assert ranks == sorted(ranks)
    assert ranks != [order[each] for each in turned["severity"]]


@pytest.mark.parametrize("which", ALL)
def test_another_reader_reads_the_same(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files = csv_files(request.getfixturevalue(which))
    write_csv(tmp_path / "out", files)
    with duckdb.connect() as base:
        for name, content in files.items():
            path = str(tmp_path / "out" / name)
            texts = base.execute(
                "select * from read_csv(?, header=true, all_varchar=true, strict_mode=true, "
                "quote='\"', escape='\"', delim=',')",
                [path],
            )
            heads = [each[0] for each in texts.description]
            rows = [[value or "" for value in row] for row in texts.fetchall()]
            assert rows == [list(row.values()) for row in rows_of(content)], name
            assert heads == content.decode("utf-8-sig").split("\r\n")[0].split(",")


def test_another_reader_finds_numbers_and_instants(sample: ob.Review, tmp_path: Path) -> None:
    out = write_csv(tmp_path / "out", csv_files(sample))
    gaps = sample.tables["gaps"]
    with duckdb.connect() as base:
        base.execute("set timezone = 'UTC'")
        read = base.execute(
            "select count(*), sum(gap_seconds), min(gap_start)::timestamptz::varchar, "
            "count(next_checkpoint) from read_csv(?)",
            [str(out / "gaps.csv")],
        ).fetchone()
    assert read is not None
    assert read[0] == len(gaps)
    assert read[1] == pytest.approx(gaps["gap"].dt.total_seconds().sum(), rel=1e-12)
    assert pd.Timestamp(read[2]) == gaps["gap_start"].min()
    assert read[3] == gaps["next_checkpoint"].notna().sum()


def test_infinity_is_not_unknown(sample: ob.Review) -> None:
    coverage = sample.tables["coverage"].head(3).assign(rpo_ratio=[math.inf, math.nan, 1 / 3])
    tables = {**sample.tables, "coverage": coverage}
    rows = rows_of(csv_files(dataclasses.replace(sample, tables=tables))["coverage.csv"])
    assert [row["rpo_ratio"] for row in rows] == ["inf", "", "0.3333333333333333"]


def test_summary_has_every_number(sample: ob.Review) -> None:
    rows = rows_of(csv_files(sample)["summary.csv"])
    told = {row["name"]: row["value"] for row in rows if row["part"] == "number"}
    summary = sample.summary
    assert float(told["time_in_rpo"]) == summary["time_in_rpo"]
    assert float(told["longest_gap_seconds"]) == summary["longest_gap"].total_seconds()
    assert pd.Timestamp(told["newest_restore_point"]) == summary["newest_restore_point"]
    assert told["worst_tenant.tenant_name"] == summary["worst_tenant"]["tenant_name"]
    assert told["failed_instances"] == "none"
    for key in ("tenants", "sets", "gaps", "critical", "warnings", "acknowledged", "not_judged"):
        assert int(told[key]) == summary[key]
    parts = {row["part"] for row in rows}
    assert parts == {
        *("heading", "lead", "card", "note", "number", "policy", "provenance", "reading")
    }
    cards = {row["name"]: row["value"] for row in rows if row["part"] == "card"}
    assert cards["Outside RPO now"] == "1 of 12 tenants"
    policy = {row["name"]: (row["value"], row["note"]) for row in rows if row["part"] == "policy"}
    assert policy["rpo"] == ("26h", "default")
    assert any("apostrophe" in row["value"] for row in rows)


def test_what_is_not_known_is_empty_under_the_same_name(
    nothing: ob.Review, sample: ob.Review
) -> None:
    told = [
        {row["name"]: row["value"] for row in rows_of(csv_files(each)["summary.csv"])}
        for each in (nothing, sample)
    ]
    for name in ("longest_gap_seconds", "newest_restore_point", "time_in_rpo"):
        assert told[0][name] == ""
        assert told[1][name]
    assert told[0]["tenants"] == "0"


# --- the format --------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ALL)
def test_files_are_as_the_standard_says(which: str, request: pytest.FixtureRequest) -> None:
    for name, content in csv_files(request.getfixturevalue(which)).items():
        assert content.startswith(b"\xef\xbb\xbf"), name
        text = content[3:].decode("utf-8")
        assert "\ufeff" not in text
        assert text.endswith("\r\n")
        lines = text.split("\r\n")
        assert not [line for line in lines if "\n" in line or "\r" in line]
        widths = {len(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)}
        assert len(widths) == 1


def test_same_review_same_bytes(sample: ob.Review) -> None:
    assert csv_files(sample) == csv_files(ob.review(ob.sample()))


# --- hostile names -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", LIVE)
def test_what_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    safe = guarded(text)
    assert safe != text
    assert not is_live(safe)
    for part in safe.split(";"):
        if part.strip(" \"`'\u00a0\u201c\uff07") != part.lstrip("x"):
            assert part.startswith(("'", "x")) or not part


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts_are_left_alone(text: str) -> None:
    assert guarded(text) == text


def test_no_two_texts_become_one() -> None:
    texts = {*LIVE, *HARMLESS, *(guarded(text) for text in LIVE)}
    assert len({guarded(text) for text in texts}) == len(texts)


def test_no_field_of_a_text_is_live(hostile: ob.Review) -> None:
    files = csv_files(hostile)
    for name, content in files.items():
        frame = hostile.tables.get(name.removesuffix(".csv"), hostile.findings)
        numbers = {key for key in frame if csvfiles.kind_of(frame[key]) == "number"}
        for row in rows_of(content):
            for key, field in row.items():
                if key not in numbers and not (name == "summary.csv" and row["part"] == "number"):
                    assert not is_live(field), (name, key, field)
                assert field.isprintable()


def test_spreadsheets_compute_nothing(hostile: ob.Review, tmp_path: Path) -> None:
    out = write_csv(tmp_path / "out", csv_files(hostile))
    profile = (tmp_path / "profile").as_uri()
    for sign, extra in ((",", "44"), (";", "59")):
        made = tmp_path / f"made{extra}"
        command = [tool("soffice"), f"-env:UserInstallation={profile}", "--headless"]
        command += [f"--infilter=CSV:{extra},34,76,1,,1033,false,true", "--convert-to", "fods"]
        files = [str(out / name) for name in ("coverage.csv", "gaps.csv", "findings.csv")]
        subprocess.run(
            [*command, "--outdir", str(made), *files], check=True, capture_output=True, timeout=180
        )
        pages = list(made.glob("*.fods"))
        assert len(pages) == 3
        for page in pages:
            text = page.read_text("utf-8")
            assert "table:formula=" not in text, (sign, page.name)
            assert len(text) > 10_000


# --- all or nothing ----------------------------------------------------------------------------

OLD = {"a.csv": b"old", "b.csv": b"old"}
NEW = {"a.csv": b"new", "c.csv": b"new"}


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_export_replaces_an_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    assert write_csv(target, OLD) == target
    assert json.loads((target / csvfiles.MARKER).read_text())["files"] == ["a.csv", "b.csv"]
    write_csv(target, NEW)
    found = content_of(target)
    del found[csvfiles.MARKER]
    assert found == NEW
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_and_a_link_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert write_csv(tmp_path / "link", OLD) == tmp_path / "real"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.csv").read_bytes() == b"old"


@pytest.mark.parametrize("stranger", ["notes.txt", "mine.csv", "obanalytics.json", ".hidden"])
def test_what_is_not_ours_is_never_touched(stranger: str, tmp_path: Path) -> None:
    for first in (False, True):
        target = tmp_path / f"out{first}"
        if first:
            write_csv(target, OLD)
        target.mkdir(exist_ok=True)
        (target / stranger).write_text("precious")
        before = content_of(target)
        with pytest.raises(errors.ArchiveError, match=r"nothing was written: choose"):
            write_csv(target, NEW)
        assert content_of(target) == before


@pytest.mark.parametrize("marker", [b"", b"[]", b"{}", b'{"files": 1}', b"\xff", b"null"])
def test_a_damaged_marker_is_no_licence(marker: bytes, tmp_path: Path) -> None:
    (tmp_path / csvfiles.MARKER).write_bytes(marker)
    (tmp_path / "a.csv").write_bytes(b"precious")
    with pytest.raises(errors.ArchiveError, match="nothing was written"):
        write_csv(tmp_path, NEW)
    assert (tmp_path / "a.csv").read_bytes() == b"precious"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(errors.ArchiveError):
        write_csv(tmp_path / "out", NEW)
    with pytest.raises(errors.ArchiveError):
        write_csv(tmp_path / "out" / "below", NEW)
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "call"),
    [*(("fsync", call) for call in range(1, 5)), ("replace", 1), ("replace", 2)],
)
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_crash_leaves_the_old_content(
    name: str,
    call: int,
    kind: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = write_csv(tmp_path / "out", OLD)
    before, real, calls = content_of(target), getattr(os, name), []

    def failing(*args: Any) -> None:
        calls.append(args)
        if len(calls) == call:
            raise kind(errno.ENOSPC, "no space left")
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        wanted = errors.ArchiveError if kind is OSError else kind
        with pytest.raises(wanted, match="no space left"):
            write_csv(target, NEW)
    assert len(calls) == call
    assert content_of(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    write_csv(target, NEW)
    assert (target / "a.csv").read_bytes() == b"new"


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_crash_leaves_no_folder_where_there_was_none(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def failing(number: int) -> None:
        calls.append(number)
        if len(calls) == call:
            raise OSError(errno.EIO, "bad disk")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(errors.ArchiveError, match="bad disk"):
        write_csv(tmp_path / "out", NEW)
    assert not list(tmp_path.iterdir())
