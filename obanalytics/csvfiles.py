"""Write a review as CSV files that people open in a spreadsheet, all or nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.errors import ArchiveError
from obanalytics.examine import titled
from obanalytics.kinds import SEVERITIES
from obanalytics.overview import cards, heading, lead, notes, provenance
from obanalytics.store import swap
from obanalytics.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obanalytics.overview import ReviewData

MARKER = "obanalytics-csv.json"
"""The file that tells a folder of ours from any other."""
FORMAT = 1
_BOM = b"\xef\xbb\xbf"
_SPANS = {"longest_gap"}  # of the summary
_NAMES = {"instance_id", "instance_name", "tenant_id", "tenant_name"}
# What spreadsheets take for the begin of a formula, full-width and small forms too, at the begin
# of a text or behind a semicolon: where that parts the columns, a comma's quotes protect nothing.
_LIVE = re.compile(
    r"(^|;)(?=[\s\"'`\u2018-\u201f\uff02\uff07]*"
    r"[=+\-@\t\r\u2212\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b])"
)
GUARD = (
    "Text that begins like a formula (= + - @, also behind spaces, quotes or a semicolon) has an "
    "apostrophe before that sign, so that it stays text wherever it is opened or pasted."
)
"""What a reader must know of the texts."""
_READ = (
    "Durations are seconds, instants ISO 8601 in UTC. An empty field is not known, or does not "
    "apply. UTF-8 with a byte order mark, lines end with CR LF."
)


def csv_files(review: ReviewData) -> dict[str, bytes]:
    r"""Return a review as CSV files after RFC 4180.

    They are for people: UTF-8 with a byte order mark, without which spreadsheets show other
    alphabets as rubbish, and with an apostrophe before whatever they would take for a formula.
    Programs had better read the JSON, though both can be undone.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    dict of str to bytes
        summary.csv, findings.csv and a file per table, with all its rows. Durations are seconds,
        in a column whose name ends in ``_seconds``; instants ISO 8601 with Z; NA empty; infinity
        ``inf``; control and direction characters visible escapes such as ``\n``.
    """
    frames = {"findings": findings_table(review), **review.tables}
    files = {"summary.csv": _written(["part", "name", "value", "note"], _summary(review))}
    for name, frame in frames.items():
        shown = {head: texts for key in frame for head, texts in [_column(frame[key])]}
        rows = zip(*shown.values(), strict=True)
        files[f"{name}.csv"] = _written(list(shown), rows)
    return files


def write_csv(folder: str | os.PathLike[str], files: Mapping[str, bytes]) -> Path:
    """Write files into a folder of their own, all or nothing.

    They are written into a neighbour of the folder first, which is moved into place at the end.

    Parameters
    ----------
    folder : path
        Where to write. It must not exist, be empty, or hold an earlier export and nothing else.
    files : mapping of str to bytes
        Names and contents.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ArchiveError
        When the folder holds something else, or cannot be written.
    """
    target = Path(os.path.realpath(Path(folder).expanduser()))
    try:
        if not is_free(target):
            raise ArchiveError(
                f"{target} holds something that is no CSV export of obanalytics; nothing was "
                "written: choose a new or empty folder"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _fill(scratch, files)
            swap(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ArchiveError(f"cannot write {target}: {error}; the old content is intact") from error
    return target


def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        With an apostrophe before what begins like one, there and behind a semicolon. One that was
        there already gets another, so that taking one away gives the text back.
    """
    return _LIVE.sub(r"\1'", text)


def safe(text: object) -> str:
    """Return a text of any origin as a spreadsheet may hold it.

    Parameters
    ----------
    text : object
        A name, a sentence, a value; tuples and lists are joined.

    Returns
    -------
    str
        One line, nothing invisible, no formula; the empty text is ``(no name)``.
    """
    whole = "; ".join(map(str, text)) if isinstance(text, tuple | list) else text
    if isinstance(whole, str) and whole.isprintable() and whole.strip():
        return guarded(whole)  # what `plain` would return, many times as fast
    return guarded(plain(whole))


def texts_of(column: pd.Series) -> list[str | None]:
    """Return a column of texts as a spreadsheet may hold them.

    Parameters
    ----------
    column : Series
        Texts, categories, tuples of texts.

    Returns
    -------
    list of str or None
        None where there is nothing; a name that is empty is ``(no name)``.
    """
    is_name = column.name in _NAMES
    known: dict[Any, str | None] = {}
    for value in column.unique():
        if isinstance(value, tuple | list):
            known[value] = safe(value) if value else None
        elif pd.isna(value):
            continue
        else:
            known[value] = safe(value) if is_name or str(value).strip() else None
    return [known.get(value) for value in column]


def kind_of(column: pd.Series) -> str:
    """Tell what a column holds.

    Parameters
    ----------
    column : Series
        A column of a result.

    Returns
    -------
    str
        duration, instant, flag, number or text.
    """
    kind = column.dtype
    if pd.api.types.is_timedelta64_dtype(kind):
        return "duration"
    if pd.api.types.is_datetime64_any_dtype(kind):
        return "instant"
    if pd.api.types.is_bool_dtype(kind):
        return "flag"
    return "number" if pd.api.types.is_numeric_dtype(kind) else "text"


def findings_table(review: ReviewData) -> pd.DataFrame:
    """Return the findings with what their kinds are called and measured in.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    DataFrame
        The findings, the gravest first, with title and unit.
    """
    found = review.findings
    named = titled(found).astype({"title": "string", "unit": "string"})
    rank = {name: number for number, name in enumerate(SEVERITIES)}
    order = found["severity"].astype("object").map(rank).fillna(len(rank)).to_numpy(np.float64)
    return named.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)


def numbers_of(review: ReviewData) -> Iterator[tuple[str, pd.Series]]:
    """Return every number of a review's summary by its name.

    Parameters
    ----------
    review : ReviewData
        The review.

    Yields
    ------
    str
        The name; that of a part follows that of the whole, with a point between them.
    Series
        The value, as a column of its own.
    """
    for name, value in review.summary.items():
        parts = value.items() if hasattr(value, "items") else [("", value)]
        for part, each in parts:
            full = f"{name}.{part}" if part else name
            if each is pd.NaT:  # which does not tell of what it is none
                kind = "timedelta64[us]" if name in _SPANS else "datetime64[us, UTC]"
                yield full, pd.Series([each], name=full, dtype=kind)
            else:
                told = "none" if isinstance(each, tuple | list) and not each else each
                yield full, pd.Series([told], name=full)


def policy_of(review: ReviewData) -> list[tuple[str, str, str]]:
    """Return the limits that the findings were held against.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    list of tuple of str
        Name, value and origin of each.
    """
    limits = review.findings.attrs.get("policy", {})
    return [(key, str(value), origin) for key, (value, origin) in limits.items()]


def _summary(review: ReviewData) -> Iterator[list[str]]:
    """Return the rows of the summary."""
    yield ["heading", "", guarded(heading(review)), ""]
    yield ["lead", "", guarded(lead(review)), ""]
    for card in cards(review):
        yield ["card", *(safe(card[key]) for key in ("label", "value", "note"))]
    for number, note in enumerate(notes(review), 1):
        yield ["note", str(number), safe(note), ""]
    for _, value in numbers_of(review):
        head, texts = _column(value)
        yield ["number", safe(head), texts[0], ""]
    for name, value, origin in policy_of(review):
        yield ["policy", safe(name), safe(value), safe(origin)]
    for name, text in provenance(review):
        yield ["provenance", safe(name), safe(text), ""]
    yield ["reading", "texts", GUARD, ""]
    yield ["reading", "numbers", _READ, ""]


def _column(column: pd.Series) -> tuple[str, list[str]]:
    """Return a column's head and its fields."""
    kind = kind_of(column)
    name = f"{column.name}_seconds" if kind == "duration" else str(column.name)
    if kind == "text":
        return name, [text or "" for text in texts_of(column)]
    fields = zip(_FIELDS[kind](column), column.notna(), strict=True)
    return name, [field if is_known else "" for field, is_known in fields]


def _instants(column: pd.Series) -> Iterator[str]:
    """Return instants as ISO 8601 in UTC; a fraction only where there is one."""
    naive = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    return (f"{text.removesuffix('.000000')}Z" for text in np.datetime_as_string(naive).tolist())


_FIELDS: dict[str, Callable[[pd.Series], Iterator[str]]] = {
    "duration": lambda column: (
        repr(value).removesuffix(".0") for value in column.dt.total_seconds().tolist()
    ),
    "instant": _instants,
    "flag": lambda column: (str(value).lower() for value in column.tolist()),
    "number": lambda column: map(repr, column.tolist()),
}


def _written(head: list[str], rows: Any) -> bytes:  # noqa: ANN401 - rows of texts
    """Return rows as the bytes of a file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows(rows)
    return _BOM + text.getvalue().encode()


def is_free(folder: Path) -> bool:
    """Tell whether a folder is not there, empty, or an earlier export and nothing else."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    names = {entry.name for entry in folder.iterdir()}
    if MARKER not in names:
        return not names
    try:
        ours = {MARKER, *json.loads((folder / MARKER).read_bytes())["files"]}
    except (ValueError, KeyError, TypeError):
        return False
    return names <= ours


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files and see them safe on the disk."""
    marker = {"format": FORMAT, "files": sorted(files)}
    for name, content in {**files, MARKER: json.dumps(marker, indent=1).encode()}.items():
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    folder.chmod(0o755)
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
