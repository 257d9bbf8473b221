"""The workbook: what it holds is what the tables hold, and no name in it can act."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import math
import re
import subprocess
import sys
import time
import unicodedata
import zipfile
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import openpyxl
import pandas as pd
import pytest
from browser import tool

import obanalytics as ob
from obanalytics import errors, simulator, workbook
from obanalytics.schema import BackupSets, Source, empty
from obanalytics.wording import plain

if TYPE_CHECKING:
    from pathlib import Path

    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
HOSTILE = (
    '=HYPERLINK("http://evil.example","z")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    ' "=1+1"',
    "\uff1d1+1",
    "\u22121",
    "x;=1+1",
    "'=1",
    "<script>alert(1)</script>",
    "<r><t>rich</t></r>",
    "_x0041_",
    "http://evil.example",
    "mailto:a@evil.example",
    "internal:Sheet1!A1",
    "{=1+1}",
    "中文" * 100,
    "🦀",
    "",
    "   ",
    "a\nb\r\n# c",
    "\ud800 half",
    "\x00\x07\x1b[31m",
    "\ufffe\uffff",
    "\u202egnp.exe",
    "12",
    "1e5",
    "TRUE",
    "2026-01-01",
    "#REF!",
    "&lt;b&gt;",
    "]]>",
)
NAMED = {"instance_id", "instance_name", "tenant_id", "tenant_name"}
book_of = cache(workbook.render_workbook)


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
        kept = name in {"severity", "kind", "presence", "rpo_state"}
        if (
            kept
            or pd.api.types.is_numeric_dtype(frame[name].dtype)
            or frame[name].dtype.kind in "mM"
        ):
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


@pytest.fixture(scope="module")
def one_set(tmp_path_factory: pytest.TempPathFactory) -> ob.Review:
    scenario = simulator.Scenario(NOW, 3, 10, instances=1, tenants=1)
    sets = simulated(tmp_path_factory.mktemp("one"), scenario)
    alone = sets.tenants.sort_values("start_time").head(1).reset_index(drop=True)
    return ob.review(dataclasses.replace(sets, tenants=alone), rpo="26h")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> ob.Review:
    plants = (simulator.Plant("silent", 3, None, 12.0, 4.0),)
    scenario = simulator.Scenario(NOW, 3, 25, instances=50, tenants=10, plants=plants)
    return ob.review(simulated(tmp_path_factory.mktemp("big"), scenario), rpo="26h")


ALL = ("sample", "hostile", "nothing", "single", "one_set", "big")


@cache
def read(review: ob.Review) -> Workbook:
    return openpyxl.load_workbook(io.BytesIO(book_of(review)))


def parts(review: ob.Review) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(book_of(review))) as files:
        return {name: files.read(name) for name in files.namelist()}


def title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def body(sheet: Worksheet) -> tuple[list[str], list[list[Any]]]:
    """Return a sheet's head and its rows, as somebody else reads them."""
    _, head, *rows = sheet.iter_rows(values_only=True)
    return list(head), [list(row) for row in rows]


def shown(name: str, review: ob.Review) -> pd.DataFrame:
    frame = review.tables[name]
    return frame[frame["presence"] != "present"] if name == "parity" else frame


# --- the numbers -------------------------------------------------------------------------------


def is_live(text: str) -> bool:
    """Whether a spreadsheet may take a text, or what is behind a semicolon, for a formula."""
    for part in text.split(";"):
        bare = unicodedata.normalize("NFKC", part.lstrip(' \t\r\n"\u201c\u201d\u00a0'))
        if bare[:1] in {"=", "+", "-", "@", "\t", "\r", "\u2212"}:
            return True
    return False


def check_text(cell: Any, value: Any, name: str) -> None:
    if isinstance(value, tuple):
        value = "; ".join(value)
        if not value:
            assert cell is None
            return
    elif pd.isna(value) or (name not in NAMED and not str(value).strip()):
        assert cell is None
        return
    assert isinstance(cell, str)
    assert cell.replace("'", "") == plain(value).replace("'", "")
    assert not is_live(cell)
    assert cell.isprintable()
    if not is_live(plain(value)) and value not in {"<r><t>rich</t></r>", "'=1"}:
        assert cell == plain(value)


def check_cell(cell: Any, value: Any, column: pd.Series) -> None:
    kind = column.dtype.kind
    if kind not in "mMbif":
        check_text(cell, value, str(column.name))
    elif pd.isna(value):
        assert cell is None
    elif kind == "m":
        assert math.isclose(cell * 3600, value.total_seconds(), rel_tol=1e-13)
    elif kind == "M":
        assert abs(cell.replace(tzinfo=dt.UTC) - value) <= dt.timedelta(milliseconds=1)
    elif kind == "b":
        assert cell is bool(value)
    elif math.isinf(value):
        assert cell == "unbounded"
    else:
        assert not isinstance(cell, bool)
        assert math.isclose(cell, value, rel_tol=1e-14)


@pytest.mark.parametrize("which", ALL)
def test_every_cell_is_that_of_the_table(which: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(which)
    book = read(review)
    names = ["Summary", "Findings", "Charts", *map(title, review.tables)]
    assert book.sheetnames == names
    for name in review.tables:
        frame = shown(name, review)
        head, rows = body(book[title(name)])
        assert len(head) == len(set(head)) == len(frame.columns), name
        assert len(rows) == len(frame), name
        for place, key in enumerate(frame):
            for row, value in zip(rows, frame[key], strict=True):
                check_cell(row[place], value, frame[key])


HEADS = {
    "severity": "Severity",
    "kind": "Kind",
    "title": "Title",
    "tenant_name": "Tenant",
    "instance_id": "Instance",
    "start": "Start [UTC]",
    "end": "End [UTC]",
    "measured": "Measured",
    "limit": "Limit",
    "unit": "Unit",
    "sentence": "Sentence",
    "backup_set_ids": "Evidence",
    "certainty": "Certainty",
    "acknowledged": "Acknowledged",
    "instance_name": "Instance name",
    "tenant_id": "Tenant ID",
    "limit_origin": "Limit origin",
}


@pytest.mark.parametrize("which", ALL)
def test_findings_are_all_there_gravest_first(which: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(which)
    found = review.findings
    head, rows = body(read(review)["Findings"])
    assert head == list(HEADS.values())
    assert len(rows) == len(found)
    told = {key: [row[place] for row in rows] for place, key in enumerate(HEADS)}
    ranks = [("critical", "warning", "info").index(each) for each in told["severity"]]
    assert ranks == sorted(ranks)
    order = found["severity"].astype("object").map(["critical", "warning", "info"].index)
    order = found.iloc[order.argsort(kind="stable")] if len(found) else found
    for key in found:
        for cell, value in zip(told[key], order[key], strict=True):
            check_cell(cell, value, found[key])
    units = [found.attrs["units"][kind] for kind in told["kind"]]
    assert told["unit"] == units
    assert all(told["title"])


def test_findings_are_sorted_whatever_their_order(sample: ob.Review) -> None:
    turned = sample.findings.iloc[::-1]
    turned.attrs = sample.findings.attrs
    rows = body(read(dataclasses.replace(sample, findings=turned))["Findings"])[1]
    order = {"critical": 0, "warning": 1, "info": 2}
    assert [order[row[0]] for row in rows] == sorted(order[row[0]] for row in rows)
    assert [row[10] for row in rows if row[0] == "critical"] == [
        plain(text) for text in turned.loc[turned["severity"] == "critical", "sentence"]
    ]


def test_heads_say_what_is_measured_in_what(sample: ob.Review) -> None:
    book = read(sample)
    heads = {name: body(book[title(name)])[0] for name in sample.tables}
    assert heads["gaps"][3:7] == ["Gap start [UTC]", "Gap end [UTC]", "Gap [h]", "Unknown [h]"]
    assert "Last size [GiB]" in heads["growth"]
    assert "Change [% in 30 days]" in heads["growth"]
    assert "Change per day [GiB/day]" in heads["growth"]
    assert "Throughput [GiB/h]" in heads["durations"]
    assert "RPO state" in heads["coverage"]
    for name, frame in sample.tables.items():
        for head, key in zip(heads[name], frame, strict=True):
            kind = frame[key].dtype.kind
            assert head.endswith({"m": " [h]", "M": " [UTC]"}.get(kind, "")), head
            assert head[0].isupper() or head[0].isdigit() or head in {"z", "q value"}
            assert "_" not in head


def test_formats_fit_what_is_shown(sample: ob.Review) -> None:
    book = read(sample)
    for name in sample.tables:
        sheet, frame = book[title(name)], shown(name, sample)
        for place, key in enumerate(frame, 1):
            formats = {
                cell.number_format
                for (cell,) in sheet.iter_rows(3, min_col=place, max_col=place)
                if cell.value is not None
            }
            assert len(formats) <= 1
            if frame[key].dtype.kind == "M" and formats:
                assert formats == {"yyyy-mm-dd hh:mm:ss"}
            if key.startswith("time_in_rpo"):
                assert formats == {"[=1]0%;0.0000%"}
    assert book["Stored"]["G3"].number_format == "#,##0.00"


def test_summary_has_every_number_and_says_how_to_read_it(sample: ob.Review) -> None:
    sheet = read(sample)["Summary"]
    rows = {row[0]: row[1] for row in sheet.iter_rows(values_only=True) if row[0]}
    summary = sample.summary
    assert rows["Tenants"] == summary["tenants"]
    assert math.isclose(rows["Time in RPO [%]"], summary["time_in_rpo"], rel_tol=1e-14)
    assert math.isclose(rows["Longest gap [h]"], summary["longest_gap"] / pd.Timedelta("1h"))
    newest = rows["Newest restore point [UTC]"].replace(tzinfo=dt.UTC)
    assert newest == summary["newest_restore_point"].floor("ms")
    assert math.isclose(rows["Stored [GiB]"], summary["stored_gib"], rel_tol=1e-14)
    for key in ("critical", "warnings", "gaps", "acknowledged", "not_judged", "sets"):
        assert rows[key.replace("_", " ").capitalize()] is not None
    assert rows["Outside RPO now"] == "1 of 12 tenants"
    assert rows["Worst tenant: Tenant"] == summary["worst_tenant"]["tenant_name"]
    assert rows["rpo"] == "26h"
    whole = " ".join(str(value) for row in sheet.iter_rows(values_only=True) for value in row)
    assert "apostrophe" in whole
    assert "26 h is assumed" in whole
    assert "dates in UTC" in whole
    assert sheet["A1"].value == "Backup review of 3 instances, 12 tenants"


def test_parity_lists_absences_and_counts_the_rest(sample: ob.Review) -> None:
    line = read(sample)["Parity"]["A1"].value
    present = int((sample.tables["parity"]["presence"] == "present").sum())
    assert f"{present:,} more where it was present" in line
    assert f" {len(sample.tables['parity']) - present:,} rows." in line


def test_a_long_table_is_cut_and_says_so(
    sample: ob.Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workbook.MOST == 100_000
    monkeypatch.setattr(workbook, "MOST", 50)
    book = openpyxl.load_workbook(io.BytesIO(workbook.render_workbook(sample)))
    whole = len(sample.tables["forecast"])
    assert f"The first 50 of {whole:,} rows" in book["Forecast"]["A1"].value
    assert len(body(book["Forecast"])[1]) == 50
    assert len(body(book["Gaps"])[1]) == len(sample.tables["gaps"])


def test_what_a_sheet_cannot_hold_is_told(sample: ob.Review) -> None:
    long = {"=" + "a" * 40_000, "🦀" * 20_000}
    gaps = sample.tables["gaps"].head(2).assign(causes=pd.Series(sorted(long), dtype="object"))
    far = pd.Timestamp("1700-01-01", tz="UTC").as_unit("us")
    coverage = (
        sample.tables["coverage"]
        .head(2)
        .assign(
            rpo_ratio=[math.inf, 1e300],
            last_attempt=pd.Series([far, pd.NaT], dtype="datetime64[us, UTC]"),
        )
    )
    tables = {**sample.tables, "gaps": gaps, "coverage": coverage}
    book = read(dataclasses.replace(sample, tables=tables))
    for row, text in zip(body(book["Gaps"])[1], sorted(long), strict=True):
        cell = row[list(gaps).index("causes")]
        assert len(cell.encode("utf-16-le")) // 2 <= 32_767
        assert re.search(r"… cut: [\d,]+ more characters$", cell)
        assert cell.lstrip("'").startswith(text[:1000])
    head, rows = body(book["Coverage"])
    assert [row[head.index("RPO ratio [x RPO]")] for row in rows] == ["unbounded", 1e300]
    attempts = [row[head.index("Last attempt [UTC]")] for row in rows]
    assert attempts == ["1700-01-01T00:00:00Z", None]


# --- hostile names -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ALL)
def test_nothing_in_the_file_can_act(which: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(which)
    for name, content in parts(review).items():
        assert not name.endswith((".bin", ".vml"))
        if not name.endswith((".xml", ".rels")):
            raise AssertionError(name)
        tree = ET.fromstring(content)  # noqa: S314 - our own
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not tags & {"hyperlink", "hyperlinks", "externalReference", "oleObject", "ddeLink"}
        assert "f" not in tags or name.startswith("xl/charts/"), name
        assert not ({"r", "rPh"} & tags and name.endswith("sharedStrings.xml"))
        assert b'TargetMode="External"' not in content
    for sheet in read(review):
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type in "snbd"
                assert cell.hyperlink is None
                if cell.data_type == "s" and cell.value:
                    assert not is_live(cell.value)
                    assert cell.value.isprintable()


def exported(review: ob.Review, folder: Path) -> dict[str, list[list[str]]]:
    """Return every sheet as LibreOffice has it, its numbers with all their digits."""
    (folder / "review.xlsx").write_bytes(book_of(review))
    profile = (folder / "profile").as_uri()
    how = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
    command = [tool("soffice"), f"-env:UserInstallation={profile}", "--headless"]
    command += ["--convert-to", how, "--outdir", str(folder), str(folder / "review.xlsx")]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    sheets = {}
    for path in folder.glob("review-*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            sheets[path.stem.removeprefix("review-")] = list(csv.reader(file))
    return sheets


def check_exported(text: str, value: Any, column: pd.Series) -> None:
    kind = column.dtype.kind
    if kind not in "mMbif":
        check_text(text or None, value, str(column.name))
    elif pd.isna(value):
        assert not text
    elif kind == "M":
        assert abs(pd.Timestamp(text, tz="UTC") - value) < pd.Timedelta("1s")  # it cuts them off
    elif kind == "b":
        assert text == str(int(value))
    elif kind in "if" and math.isinf(value):
        assert text == "unbounded"
    else:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        expected = value / pd.Timedelta("1h") if kind == "m" else value
        assert math.isclose(number, expected, rel_tol=1e-11, abs_tol=1e-18)


@pytest.mark.parametrize("which", ["sample", "hostile"])
def test_libreoffice_opens_it_and_computes_nothing(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    review: ob.Review = request.getfixturevalue(which)
    sheets = exported(review, tmp_path)
    assert set(sheets) == set(read(review).sheetnames)
    for name in review.tables:
        frame, rows = shown(name, review), sheets[title(name)][2:]
        assert len(rows) == len(frame)
        for place, key in enumerate(frame):
            for row, value in zip(rows, frame[key], strict=True):
                check_exported(row[place], value, frame[key])


# --- how it looks ------------------------------------------------------------------------------


def test_sheets_are_fit_to_be_read(sample: ob.Review) -> None:
    book = read(sample)
    for name in ("findings", *sample.tables):
        sheet = book[title(name)]
        _, rows = body(sheet)
        last = openpyxl.utils.get_column_letter(sheet.max_column)
        assert sheet.auto_filter.ref == f"A2:{last}{len(rows) + 2}"
        assert sheet.freeze_panes in {"A3", "B3", "C3", "D3", "E3"}
        assert sheet.print_title_rows == "$2:$2"
        for place in range(1, sheet.max_column + 1):
            width = sheet.column_dimensions[openpyxl.utils.get_column_letter(place)].width
            assert 4 < width <= 81
    assert book["Gaps"].freeze_panes == "D3"
    # A narrower column than a date is shown as #####.
    assert book["Gaps"].column_dimensions["D"].width > 19


def test_states_are_coloured_and_stay_words(sample: ob.Review) -> None:
    book = read(sample)
    for name, key, words in (
        ("Findings", "Severity", {"critical", "warning", "info"}),
        ("Coverage", "RPO state", {"inside", "outside", "unknown"}),
    ):
        sheet = book[name]
        head, rows = body(sheet)
        place = head.index(key)
        assert {row[place] for row in rows} <= words
        letter = openpyxl.utils.get_column_letter(place + 1)
        (area,) = sheet.conditional_formatting
        assert str(area.sqref) == f"{letter}3:{letter}{len(rows) + 2}"
        assert {f'"{word}"' for word in words} <= {rule.formula[0] for rule in area.rules}


CHART = {
    "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "d": "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing",
}


def charts(review: ob.Review) -> list[ET.Element]:
    files = parts(review)
    names = sorted(name for name in files if re.match(r"xl/charts/chart\d+\.xml", name))
    return [ET.fromstring(files[name]) for name in names]  # noqa: S314


def drawn(chart: ET.Element, what: str) -> list[str]:
    found = chart.findall(f".//c:ser/c:{what}//c:pt/c:v", CHART)
    return [str(each.text) for each in found]


def test_charts_show_the_numbers_and_name_their_axes(sample: ob.Review) -> None:
    severities, shares = charts(sample)
    for chart, names in (
        (severities, {"Findings by severity", "Severity", "Findings"}),
        (shares, {"Time inside the RPO, all 12 tenants", "Tenant", "Time inside the RPO"}),
    ):
        titles = {"".join(each.itertext()) for each in chart.findall(".//c:title/c:tx", CHART)}
        assert titles == names
    counts = sample.findings["severity"].value_counts()
    kinds = ["critical", "warning", "info"]
    assert drawn(severities, "cat")[:3] == kinds
    assert [int(v) for v in drawn(severities, "val")] == [*(counts[k] for k in kinds), 0, 0, 0]
    coverage = sample.tables["coverage"]
    worst = coverage[coverage["instance_id"].notna()]["time_in_rpo"].sort_values()
    drawn_shares = [float(v) for v in drawn(shares, "val")]
    assert drawn_shares == pytest.approx(worst.tolist(), rel=1e-14)
    assert len(set(drawn(shares, "cat"))) == len(worst)
    files = parts(sample)
    tree = ET.fromstring(files["xl/drawings/drawing1.xml"])  # noqa: S314
    tops = [int(str(e.text)) for e in tree.findall(".//d:from/d:row", CHART)]
    ends = [int(str(e.text)) for e in tree.findall(".//d:to/d:row", CHART)]
    left = [int(str(e.text)) for e in tree.findall(".//d:from/d:col", CHART)]
    assert ends[0] < tops[1]
    assert min(left) > 2  # behind the data


def test_only_the_worst_tenants_are_drawn(big: ob.Review) -> None:
    shares = charts(big)[-1]
    texts = {"".join(each.itertext()) for each in shares.findall(".//c:title/c:tx", CHART)}
    assert "Time inside the RPO, the worst 20 of 500 tenants" in texts
    coverage = big.tables["coverage"]
    worst = coverage[coverage["instance_id"].notna()]["time_in_rpo"].sort_values().head(20)
    assert [float(v) for v in drawn(shares, "val")] == pytest.approx(worst.tolist(), rel=1e-14)


def test_nothing_to_draw_is_said(nothing: ob.Review) -> None:
    assert not [name for name in parts(nothing) if "chart" in name and nothing.findings.empty]
    texts = [row[0] for row in read(nothing)["Charts"].iter_rows(values_only=True)]
    assert "nothing to draw" in texts
    summary = [row[1] for row in read(nothing)["Summary"].iter_rows(values_only=True)]
    assert any("nothing to judge" in str(text) for text in summary)


# --- the file ----------------------------------------------------------------------------------


def test_same_review_same_bytes(sample: ob.Review) -> None:
    assert workbook.render_workbook(sample) == book_of(sample)
    assert workbook.render_workbook(ob.review(ob.sample())) == book_of(sample)
    about = read(sample).properties
    assert sample.as_of is not None
    assert about.created.replace(tzinfo=dt.UTC) == sample.as_of.floor("s")
    assert about.title == "Backup review of 3 instances, 12 tenants"
    assert about.creator == "obanalytics"


def test_large_fleets_are_written_in_good_time(big: ob.Review) -> None:
    start = time.perf_counter()
    content = workbook.render_workbook(big)
    assert time.perf_counter() - start < 60
    assert len(content) < 20_000_000


def test_without_the_package_it_says_what_to_install(
    nothing: ob.Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'obanalytics\[excel\]'"):
        workbook.render_workbook(nothing)
