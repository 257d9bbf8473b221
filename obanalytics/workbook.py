"""Render a review as a workbook that an auditor can sort, filter and keep."""

from __future__ import annotations

import datetime as dt
import io
import math
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from obanalytics.csvfiles import (
    GUARD,
    findings_table,
    kind_of,
    numbers_of,
    policy_of,
    safe,
    texts_of,
)
from obanalytics.errors import MissingExtraError
from obanalytics.overview import cards, heading, lead, notes, provenance
from obanalytics.wording import cells, plain, plural, tenant_labels, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obanalytics.overview import ReviewData

MOST = 100_000
"""Rows of a table that a sheet holds."""
_CELL = 32_000  # UTF-16 units of a text; a cell takes 32,767
_WIDEST = 60  # characters of a column
_WRAPPED = {"sentence": 80, "backup_set_ids": 60, "causes": 30, "refused": 40, "reason": 80}
_MEASURED = 2_000  # rows that a column's width is taken from
_WORST = 20  # tenants of the chart
_NEVER = dt.datetime(1980, 1, 1)  # noqa: DTZ001 - as the files inside are dated
_FIRST, _LAST = np.datetime64("1900-03-01", "us"), np.datetime64("9999-12-31", "us")
_DAY_0 = np.datetime64("1899-12-30", "us")  # as sheets count, that has the number 0
_DAY, _HOUR = np.timedelta64(86_400_000_000, "us"), np.timedelta64(3_600_000_000, "us")

_FINDINGS = [
    *("severity", "kind", "title", "tenant_name", "instance_id", "start", "end", "measured"),
    *("limit", "unit", "sentence", "backup_set_ids", "certainty", "acknowledged"),
]
_ABOUT = {
    "findings": "What is not as it is owed, the gravest first",
    "coverage": "How long each tenant was inside its RPO, and what would be lost now; the row "
    "without a tenant is all of them",
    "gaps": "Every time in which more than the RPO would have been lost",
    "growth": "How fast backup sets grow, full and incremental apart",
    "stored": "What the clusters' backup sets held, and hold",
    "forecast": "How large it will be, with the bounds of the forecast; where none was made, why",
    "durations": "How long runs took, unfinished ones at least their age",
    "changes": "Since when runs have taken longer, or less long",
    "anomalies": "Sets that are not like the ones before them, the strangest first",
    "parity": "Where a tenant was not present in a set of its cluster, and what it was instead",
    "schedule": "When runs begin, as given or as inferred",
    "not_judged": "What could not be judged, and why",
}
# Heads that do not follow from the name. What stands in the name as a unit is in brackets.
_HEADS = {
    "tenant_name": "Tenant",
    "instance_id": "Instance",
    "backup_set_ids": "Evidence",
    "p50": "Median",
    "p95": "95th percentile",
    "max": "Longest",
    "n": "Used",
    "gib_per_day": "Change per day",
    "gib_per_day_low": "Change per day, low",
    "gib_per_day_high": "Change per day, high",
    "percent_per_30d": "Change",
    "percent_per_30d_low": "Change, low",
    "percent_per_30d_high": "Change, high",
    "throughput_gib_per_h": "Throughput",
    "churn_percent_per_day": "Churn",
    "mk_z": "Mann-Kendall z",
    "mk_p": "Mann-Kendall p",
    "mk_method": "Mann-Kendall method",
    "mase": "MASE",
    "mase_naive": "MASE, naive",
    "p_crossed": "Probability crossed",
    "p_not_crossed": "Probability not crossed",
    "z": "z",
    "q_value": "q value",
}
_WORDS = {"rpo": "RPO", "id": "ID", "ids": "IDs", "utc": "UTC", "p95": "95th percentile"}
_UNITS = {
    "hour": "h of the day",
    "time_in_rpo": "%",
    "time_in_rpo_worst": "%",
    "coverage": "%",
    "size_share": "%",
    "growth_share": "%",
    "fleet_share": "%",
    "rpo_ratio": "x RPO",
    "churn_percent_per_day": "% a day",
    "confidence": "%",
    **dict.fromkeys(("mk_p", "q_value", "p_crossed", "p_not_crossed"), "probability"),
    **dict.fromkeys(("measured", "limit", "observed", "usual"), "measured"),
}
_FORMATS = {
    "h": "#,##0.000",
    "GiB": "#,##0.00",
    "GiB/day": "+#,##0.000;-#,##0.000;0.000",
    "GiB/h": "#,##0.0",
    "% in 30 days": "+#,##0.0;-#,##0.0;0.0",
    "%": "[=1]0%;0.0000%",  # 100 % is all of it, and nothing that is only nearly so
    "UTC": "yyyy-mm-dd hh:mm:ss",
    "h of the day": "0.00",
    "count": "#,##0",
    "x RPO": "#,##0.00",
    "measured": "#,##0.00",  # a unit of its own in every row
    "probability": "[<0.0001]0.0E+00;0.0000",
    "% a day": "0.00",
    "other": "#,##0.0000",
}
_LOOKS = {
    "critical": ("#FFC7CE", "#9C0006"),
    "warning": ("#FFEB9C", "#7F4A00"),
    "info": ("#DDEBF7", "#1F4E78"),
    "outside": ("#FFC7CE", "#9C0006"),
    "unknown": ("#E7E6E6", "#404040"),
    "inside": ("#C6EFCE", "#006100"),
}
_FLAG = '"true";"true";"false"'  # for readers that take a flag for a number
_SUMMARY = (34, 78, 52)  # the widths of its columns
_LINE, _LINES = 15, 12  # points, and lines of a row at most
_COLOURED = {"severity", "rpo_state"}


class _Column(NamedTuple):
    """A column as a sheet holds it."""

    head: str
    kind: str
    unit: str
    items: list[Any]
    """None: an empty cell."""


def render_workbook(review: ReviewData) -> bytes:
    """Render a review as an .xlsx workbook.

    A summary, the findings, two charts, and a sheet per table. Instants are dates in UTC,
    durations hours, shares numbers shown in percent; a cell is empty where nothing is known. No
    name can act: texts are written as texts, with an apostrophe before what begins like a formula,
    which would live again where a sheet is saved as CSV.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    bytes
        The file, the same for the same review.

    Raises
    ------
    MissingExtraError
        When XlsxWriter is not installed.
    """
    try:
        from xlsxwriter import Workbook  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(
            "a workbook needs XlsxWriter, which is not installed: pip install 'obanalytics[excel]'"
        ) from error
    file = io.BytesIO()
    with Workbook(file, {"in_memory": True}) as book:
        _describe(book, review)
        _Book(book, review).fill()
    return file.getvalue()


def _describe(book: Any, review: ReviewData) -> None:  # noqa: ANN401 - of an untyped package
    """Set the document's properties; its date is that of the facts."""
    when = next((each for each in (review.as_of, review.window[1]) if each is not None), None)
    book.set_properties(
        {
            "title": plain(heading(review)),
            "subject": plain(lead(review))[:250],  # of 255 that a property may have
            "author": "obanalytics",
            "comments": "Instants are UTC, durations hours; an empty cell is not known.",
            "created": _NEVER if when is None else when.tz_convert("UTC").to_pydatetime(warn=False),
        }
    )


class _Book:
    """Fill a workbook, sheet by sheet."""

    def __init__(self, book: Any, review: ReviewData) -> None:  # noqa: ANN401
        self.book = book
        self.review = review
        self.formats: dict[tuple[tuple[str, Any], ...], Any] = {}
        self.index: list[tuple[str, str]] = []  # names of sheets, and what is in them

    def fill(self) -> None:
        """Write all sheets; the summary is the first, and knows of the others."""
        summary = self.book.add_worksheet("Summary")
        self._table("findings", _findings(self.review))
        self._charts()
        for name, frame in self.review.tables.items():
            self._table(name, frame)
        self._summary(summary)

    def look(self, **given: Any) -> Any:  # noqa: ANN401
        """Return a format; each is made once."""
        key = tuple(sorted(given.items()))
        if key not in self.formats:
            self.formats[key] = self.book.add_format({"valign": "top", **given})
        return self.formats[key]

    def _summary(self, sheet: Any) -> None:  # noqa: ANN401
        """Write what matters, and how the rest is to be read."""
        review, bold, wrap = self.review, self.look(bold=True), self.look(text_wrap=True)
        for place, wide in enumerate(_SUMMARY):
            sheet.set_column(place, place, wide)
        sheet.set_row(0, 26)
        _text(sheet, (0, 0), safe(heading(review)), self.look(bold=True, font_size=16))
        _text(sheet, (1, 0), safe(lead(review)), self.look())
        row = 2
        for title, rows in _parts(review, self.index):
            row += 1
            for column in range(3):
                _text(sheet, (row, column), title if not column else "", self._head())
            row += 1
            for texts in rows:
                for place, each in enumerate(texts):
                    if isinstance(each, _Column):
                        self._number(sheet, (row, place), each)
                    else:
                        _text(sheet, (row, place), each, wrap if place else bold)
                told = [each for each in texts if isinstance(each, str)]
                sheet.set_row(row, _height(zip(told, _SUMMARY, strict=False)))
                row += 1
        self._page(sheet)

    def _number(self, sheet: Any, at: tuple[int, int], column: _Column) -> None:  # noqa: ANN401
        """Write one of the summary's values; nothing where it is not known."""
        number = _FORMATS.get(column.unit, _FLAG if column.kind == "flag" else "General")
        look = self.look(num_format=number, align="left", text_wrap=True)
        if column.items[0] is not None:
            _WRITE[column.kind](sheet, at, column.items[0], look)

    def _table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table into a sheet of its own: a line about it, its head, its rows."""
        title = words(name).capitalize()
        frame, line = _shown(name, frame)
        self.index.append((title, line))
        sheet = self.book.add_worksheet(title)
        _text(sheet, (0, 0), safe(line), self.look(italic=True))
        units = frame.attrs.get("units", {})
        columns = {str(key): _column(frame[key], units) for key in frame}
        for place, (key, column) in enumerate(columns.items()):
            self._fill(sheet, place, column, key)
        sheet.set_row(1, 45)
        long = [key for key in columns if key in _WRAPPED]
        wide = [_WRAPPED[key] for key in long]
        for row, texts in enumerate(zip(*(columns[key].items for key in long), strict=True), 2):
            sheet.set_row(row, _height(zip(texts, wide, strict=True)))
        sheet.freeze_panes(2, len([*takewhile(_IDENTITY.__contains__, frame)][:_FIXED]))
        if len(frame.columns):
            sheet.autofilter(1, 0, 1 + len(frame), len(frame.columns) - 1)
        sheet.repeat_rows(1)
        self._page(sheet)

    def _fill(self, sheet: Any, place: int, column: _Column, key: str) -> None:  # noqa: ANN401
        """Write a column with its head, as wide as what is in it."""
        wrapped = key in _WRAPPED
        number = _FORMATS.get(column.unit, _FLAG)
        look = self.look(num_format=number)
        if column.kind == "text":
            look = self.look(
                text_wrap=wrapped, align="left", indent=1
            )  # numbers before it end at its edge
        sheet.set_column(place, place, _WRAPPED.get(key) or _width(column, number))
        _text(sheet, (1, place), column.head, self._head(column.kind))
        write = _WRITE[column.kind]
        for row, value in enumerate(column.items, 2):
            if value is not None:
                write(sheet, (row, place), value, look)
        if key in _COLOURED:
            self._colour(sheet, (2, place, 1 + max(len(column.items), 1), place))

    def _colour(self, sheet: Any, where: tuple[int, int, int, int]) -> None:  # noqa: ANN401
        """Colour the words of a column; they stay."""
        for word, (back, front) in _LOOKS.items():
            look = self.book.add_format({"bg_color": back, "font_color": front})
            rule = {"type": "cell", "criteria": "==", "value": f'"{word}"', "format": look}
            sheet.conditional_format(*where, rule)

    def _charts(self) -> None:
        """Draw the findings by severity and the tenants that are worst off, beside their data."""
        sheet = self.book.add_worksheet("Charts")
        self.index.append(("Charts", "Findings by severity, and time inside the RPO per tenant"))
        sheet.set_column(0, 0, 44)
        sheet.set_column(1, 2, 22)
        counts = _by_severity(self.review.findings)
        shares = _worst(self.review.tables["coverage"])
        heads = ["Severity", "Open", "Acknowledged"]
        self._block(sheet, 0, heads, [[*row] for row in counts])
        first = max(len(counts) + 3, 20)
        self._block(sheet, first, ["Tenant", "Time inside RPO [%]"], [[*row] for row in shares])
        if any(sum(row[1:]) for row in counts):
            self._severity_chart(sheet, len(counts))
        if shares:
            self._share_chart(sheet, first, len(shares))
        self._page(sheet)

    def _block(self, sheet: Any, first: int, heads: list[str], rows: list[list[Any]]) -> None:  # noqa: ANN401
        """Write what a chart draws."""
        for place, head in enumerate(heads):
            _text(sheet, (first, place), head, self._head("number" if place else ""))
        share = self.look(num_format=_FORMATS["%"])
        for number, (name, *values) in enumerate(rows, first + 1):
            _text(sheet, (number, 0), name, None)
            for place, value in enumerate(values, 1):
                sheet.write_number(number, place, value, share if len(heads) == 2 else None)  # noqa: PLR2004
        if not rows:
            _text(sheet, (first + 1, 0), "nothing to draw", None)

    def _severity_chart(self, sheet: Any, count: int) -> None:  # noqa: ANN401
        """Draw how many findings there are."""
        chart = self.book.add_chart({"type": "column", "subtype": "stacked"})
        colours = ("#1F4E78", "#A6A6A6")
        for place, colour in enumerate(colours, 1):
            chart.add_series(
                {
                    "name": ["Charts", 0, place],
                    "categories": ["Charts", 1, 0, count, 0],
                    "values": ["Charts", 1, place, count, place],
                    "fill": {"color": colour},
                    "gap": 80,
                }
            )
        chart.set_title({"name": "Findings by severity", "overlay": False})
        chart.set_x_axis({"name": "Severity"})
        chart.set_y_axis({"name": "Findings", "min": 0, "num_format": "#,##0"})
        chart.set_legend({"position": "bottom"})
        chart.set_size({"width": 620, "height": 360})
        sheet.insert_chart(0, 4, chart, {"description": "Findings by severity, see column A to C"})

    def _share_chart(self, sheet: Any, first: int, count: int) -> None:  # noqa: ANN401
        """Draw how long the worst tenants were inside their RPO."""
        chart = self.book.add_chart({"type": "bar"})
        chart.add_series(
            {
                "name": ["Charts", first, 1],
                "categories": ["Charts", first + 1, 0, first + count, 0],
                "values": ["Charts", first + 1, 1, first + count, 1],
                "fill": {"color": "#9DC3E6"},
                "data_labels": {
                    "value": True,
                    "num_format": _FORMATS["%"],
                    "position": "inside_base",
                },
                "gap": 40,
            }
        )
        whole = int(self.review.tables["coverage"]["instance_id"].notna().sum())
        whose = (
            f"all {whole} tenants" if whole <= count else f"the worst {count} of {whole:,} tenants"
        )
        chart.set_title({"name": f"Time inside the RPO, {whose}"})
        chart.set_x_axis({"name": "Time inside the RPO", "min": 0, "max": 1, "num_format": "0%"})
        chart.set_y_axis({"name": "Tenant", "reverse": True, "crossing": "max"})
        chart.set_legend({"none": True})
        chart.set_size({"width": 820, "height": max(140 + 22 * count, 240)})
        sheet.insert_chart(first, 4, chart, {"description": "Time inside the RPO by tenant"})

    def _head(self, kind: str = "") -> Any:  # noqa: ANN401
        """Return the look of a table's head: it stands where what is under it does."""
        place: dict[str, dict[str, Any]] = {"text": {"align": "left", "indent": 1}, "": {}}
        colours = {"bg_color": "#1F4E78", "font_color": "#FFFFFF"}
        return self.look(
            bold=True, text_wrap=True, **colours, **place.get(kind, {"align": "right"})
        )

    @staticmethod
    def _page(sheet: Any) -> None:  # noqa: ANN401
        """Set how a sheet is printed: one page wide."""
        sheet.set_landscape()
        sheet.set_paper(8)  # A3
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(0.4, 0.4, 0.5, 0.6)
        sheet.set_footer("&L&A&RPage &P of &N")


_IDENTITY = ["instance_id", "tenant_id", "tenant_name", "severity", "kind", "title", "rank"]
_FIXED = 3  # columns that stay in sight, at most


def _findings(review: ReviewData) -> pd.DataFrame:
    """Return the findings in the order of columns in which they are read."""
    found = findings_table(review)
    rest = [name for name in found if name not in _FINDINGS]
    return found[[*(name for name in _FINDINGS if name in found), *rest]]


def _shown(name: str, frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows that a sheet holds, and the line that says what they are."""
    told = _ABOUT.get(name, words(name).capitalize())
    if name == "parity" and "presence" in frame:
        present = frame["presence"].astype("object").eq("present").to_numpy(dtype=bool)
        told += f"; {int(present.sum()):,} more where it was present are not listed"
        frame = frame[~present]
    whole = len(frame)
    if whole > MOST:
        frame = frame.head(MOST)
        return frame, f"{told}. The first {MOST:,} of {whole:,} rows; the CSV files have all."
    return frame, f"{told}. {plural(whole, 'row')}."


def _column(column: pd.Series, units: Any) -> _Column:  # noqa: ANN401 - a mapping, if any
    """Return a column as a sheet holds it."""
    name, kind = str(column.name), kind_of(column)
    unit = _unit(name, column, units)
    known = column.notna().to_numpy()
    if kind == "text":
        values: list[Any] = texts_of(column)
    elif kind == "duration":
        values = (column.to_numpy() / _HOUR).tolist()
    elif kind == "instant":
        values = _days(column)
    else:
        values = column.tolist()
    if kind != "text":
        values = [
            value if is_known else None for value, is_known in zip(values, known, strict=True)
        ]
    return _Column(_title(name, unit), kind, unit, values)


def _days(column: pd.Series) -> list[Any]:
    """Return instants as sheets count them, in days; as text where they know no date."""
    naive = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    days = ((naive - _DAY_0) / _DAY).tolist()
    dated = (naive >= _FIRST) & (naive <= _LAST)
    texts = naive.astype("datetime64[s]").astype(str)
    return [
        day if is_dated else f"{text}Z"
        for day, is_dated, text in zip(days, dated, texts, strict=True)
    ]


def _unit(name: str, column: pd.Series, units: Any) -> str:  # noqa: ANN401
    """Return the unit of a column: of what it holds, of its name, or as its table says."""
    kind = kind_of(column)
    if kind != "number":
        return {"duration": "h", "instant": "UTC"}.get(kind, "")
    if name in _UNITS:
        return _UNITS[name]
    if name.endswith("_gib"):
        return "GiB"
    if pd.api.types.is_integer_dtype(column.dtype):
        return "count"
    unit = str(units.get(name, "other"))
    return unit if unit in _FORMATS else "other"


def _title(name: str, unit: str) -> str:
    """Return a column's head: its name in words, its unit in brackets."""
    head = _HEADS.get(name)
    if head is None:
        parts = name.removesuffix("_gib").split("_")
        head = " ".join(_WORDS.get(part, part) for part in parts)
        head = head[:1].upper() + head[1:]
    return head if unit in {"", "count", "other", "measured", "probability"} else f"{head} [{unit}]"


def _width(column: _Column, number: str | None) -> float:
    """Return how wide a column is: as its widest text, or as its head on three lines."""
    least: float = max((cells(word) for word in column.head.split()), default=0) + 4
    least = max(least, cells(column.head) / 3 + 3)
    if column.kind == "instant":
        return max(least, 19.5)
    some = [value for value in column.items[:_MEASURED] if value is not None]
    if column.kind == "text":
        widest = math.ceil(1.1 * max(map(cells, some), default=0)) + 3  # fonts differ
    elif column.kind == "flag":
        widest = len("FALSE") + 2
    else:
        digits = max((abs(value) for value in some if np.isfinite(value)), default=0)
        behind = len(number.rpartition(".")[2]) if number and "." in number else 4
        widest = len(f"{digits:,.0f}") + behind + 3
    return float(min(max(least, widest), _WIDEST))


def _height(texts: Iterable[tuple[str | None, int]]) -> float:
    """Return how high a row is whose texts are broken; not every reader measures them."""
    lines = [math.ceil(cells(text) / wide) for text, wide in texts if text]
    return _LINE * min(max(lines, default=1), _LINES)


def _text(sheet: Any, at: tuple[int, int], text: str, look: Any) -> None:  # noqa: ANN401
    """Write a text as a text, whatever it looks like, as long as a cell can be."""
    whole = len(text)
    if len(text.encode("utf-16-le")) > 2 * _CELL:
        text = text[: _CELL // 2] + f"… cut: {whole - _CELL // 2:,} more characters"
    if text.startswith("<r>"):  # which XlsxWriter would take for markup of its own
        text = f"'{text}"
    sheet.write_string(*at, text, look)


def _number(sheet: Any, at: tuple[int, int], value: Any, look: Any) -> None:  # noqa: ANN401
    """Write a number; a sheet knows no infinity."""
    if np.isfinite(value):
        sheet.write_number(*at, value, look)
    else:
        _text(sheet, at, "unbounded" if value > 0 else "unbounded below", look)


def _instant(sheet: Any, at: tuple[int, int], value: Any, look: Any) -> None:  # noqa: ANN401
    """Write an instant as a date, or as the text that stands for it."""
    if isinstance(value, str):
        _text(sheet, at, value, look)
    else:
        sheet.write_number(*at, value, look)


def _flag(sheet: Any, at: tuple[int, int], value: Any, look: Any) -> None:  # noqa: ANN401
    """Write true or false."""
    sheet.write_boolean(*at, bool(value), look)


_WRITE: dict[str, Callable[[Any, tuple[int, int], Any, Any], None]] = {
    "text": _text,
    "number": _number,
    "duration": _number,
    "instant": _instant,
    "flag": _flag,
}


def _parts(review: ReviewData, index: list[tuple[str, str]]) -> list[tuple[str, list[Any]]]:
    """Return the parts of the summary: a title, and rows of a name, a value and a note."""
    numbers = []
    for name, value in numbers_of(review):
        whole, _, part = name.rpartition(".")
        column = _column(value.rename(part), _IN_SUMMARY)
        numbers.append((f"{_title(whole, '')}: {column.head}" if whole else column.head, column))
    shown = [tuple(safe(card[key]) for key in ("label", "value", "note")) for card in cards(review)]
    told = [(f"Note {number}", safe(note)) for number, note in enumerate(notes(review), 1)]
    return [
        ("What matters", shown),
        ("Notes", told or [("Notes", "none")]),
        ("Sheets", [(name, safe(line)) for name, line in index]),
        ("How to read this", [("Texts", GUARD), *_READ]),
        ("All numbers", numbers),
        ("Policy", [tuple(map(safe, row)) for row in policy_of(review)] or [("Policy", "none")]),
        ("Where this comes from", [tuple(map(safe, row)) for row in provenance(review)]),
    ]


_IN_SUMMARY = {"fastest_growth": "% in 30 days"}
_READ = (
    ("Times", "Instants are dates in UTC, durations are numbers of hours."),
    ("Shares", "Numbers from 0 to 1, shown in percent; 100% is all of it, never nearly all."),
    ("Empty cells", "Not known, or does not apply: never zero."),
    ("unbounded", "There is no restore point from which to count."),
)


def _by_severity(found: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Count the findings: open ones, acknowledged ones."""
    rows = []
    for name in ("critical", "warning", "info"):
        own = found[found["severity"].astype("object").eq(name).to_numpy(dtype=bool)]
        known = int(own["acknowledged"].sum())
        rows.append((name, len(own) - known, known))
    return rows


def _worst(coverage: pd.DataFrame) -> list[tuple[str, float]]:
    """Return the tenants that were inside their RPO for the least of the time."""
    known = coverage[coverage["instance_id"].notna() & coverage["time_in_rpo"].notna()]
    worst = known.sort_values("time_in_rpo", kind="stable").head(_WORST)
    names = [safe(label) for label in tenant_labels(worst, 40)]
    return list(zip(names, worst["time_in_rpo"].tolist(), strict=True))
