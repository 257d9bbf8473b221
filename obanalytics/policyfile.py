"""Write a policy as TOML, and read TOML so that what is wrong is told with its line."""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Path: TypeAlias = tuple[str | int, ...]

_SHOWN = 80  # characters of a key or a value in an error
_TOKEN = re.compile(
    r"""(?P<skip>[ \t]+|\#[^\n]*)
    |(?P<text>"{3}(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}|'{3}(?:[^']|'{1,2}(?!'))*+'{3,5}
        |"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')
    |(?P<mark>[][{},=\n])
    |(?P<bare>[^][{},=\n\ \t\#"']+|.)""",
    re.VERBOSE | re.DOTALL,
)
_UNITS = (("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1))
_DAY = 86_400_000_000  # [µs]
_DEEP = 4  # parts of a dotted key whose lines are found: no key of ours has more
_DELETE = 127  # the control character behind ASCII's letters


class Key(NamedTuple):
    """Say what a key of a policy means.

    Parameters
    ----------
    means : str
        What its value is.
    example : str
        One, as in a file.
    none : str
        What it means that there is none.
    """

    means: str
    example: str
    none: str = "not checked"


KEYS = {
    "rpo": Key("the most that may be lost: the recovery point objective", '"26h"'),
    "rto": Key("the longest that a restore may take: the recovery time objective", '"4h"'),
    "full_every": Key("the oldest that the newest full set may be", '"8D"'),
    "retention_days": Key("how far back a restore must reach, in days", "14"),
    "min_redundancy": Key("how many usable full sets there must be", "1"),
    "max_running": Key("the longest that a backup may run", '"8h"', "each tenant's own past"),
    "grace": Key("how late a backup may be before that is a finding", '"2h"'),
    "max_chain": Key("the most incremental sets to be restored on top of a full one", "6"),
    "checkpoint_lag": Key(
        "the most that a set's end may be after its checkpoint", '"30min"', "a quarter of the RPO"
    ),
    "export_within_days": Key("a set to be downloaded must be this new, in days", "7"),
    "copies": Key(
        "the storage classes that must each hold a copy",
        '["standard", "archive"]',
        "none is asked for",
    ),
    "copy_within": Key(
        "the oldest that the newest copy in each of them may be", '"2D"', "of any age"
    ),
    "schedule": Key(
        "when backups are due: cron by the clock in tz, or the time between two",
        '{"full": "0 2 * * 6", "incremental": "1D"}',
        "inferred from the data, if at all",
    ),
    "tz": Key("the time zone of schedules, of times without an offset, of display", '"UTC"'),
}
_ALWAYS = frozenset({"rpo", "min_redundancy", "grace", "tz"})  # there is no policy without
_SLOTS = {"full": "0 2 * * 6", "incremental": "1D"}
_MEANS = {
    "maintenance": "Times in which nothing is owed: once, or weekly by the clock in tz.",
    "exclude": "Tenants about which nothing is said.",
    "override": "Other limits for some tenants; of several the last one counts, key by key.",
    "acknowledge": "Findings that are known, until a date that has to be given.",
}
_EXAMPLES = {
    "maintenance": '''\
# [[maintenance]]
# weekdays = ["sat", "sun"]
# from = "22:00"
# to = "04:00"''',
    "exclude": '''\
# [[exclude]]
# name = "test_*"
# reason = "can be made again"''',
    "override": '''\
# [[override]]
# name = ["pay*", "ledger"]
# rpo = "4h"''',
    "acknowledge": '''\
# [[acknowledge]]
# kind = "G14"
# instance = "ob1234"
# until = 2027-01-31
# reason = "moved there in December"''',
}


def shown(text: str) -> str:
    """Return a text without anything invisible, for messages and comments.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        Control and format characters as escapes.
    """
    return text if text.isprintable() else repr(text)[1:-1]


def quoted(value: object) -> str:
    """Return a value as a message shows it.

    Parameters
    ----------
    value : object
        Whatever was given.

    Returns
    -------
    str
        One line, cut where it is long.
    """
    try:
        if isinstance(value, dt.date | dt.time):
            text = value.isoformat()
        else:
            text = shown(str(value).lower() if isinstance(value, bool) else repr(value))
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Say that a key is unknown, and what may have been meant.

    Parameters
    ----------
    key : str
        The key.
    known : iterable of str
        The keys that there are.

    Returns
    -------
    str
        The message.
    """
    names = list(known)
    word = str(key)[:_SHOWN].lower()
    near = difflib.get_close_matches(word, names, 3)
    near.sort(key=lambda name: sorted(name) != sorted(word))  # letters that changed places
    told = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    return f"unknown key {quoted(str(key))}: {told}"


def toml_text(value: object) -> str:
    """Return a value as TOML.

    Parameters
    ----------
    value : str, int, float, bool, Timedelta, datetime, or a list or tuple of them
        The value.

    Returns
    -------
    str
        Reads back as the same value; durations are texts.
    """
    if isinstance(value, pd.Timedelta):
        value = span_text(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_text, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    hidden = (f"\\u{ord(c):04x}" if c < " " or ord(c) == _DELETE else c for c in escaped)
    return f'"{"".join(hidden)}"'


def span_text(span: pd.Timedelta) -> str:
    """Return a duration as a short text that reads back as the same duration.

    Parameters
    ----------
    span : Timedelta
        The duration.

    Returns
    -------
    str
        Such as ``7D``, ``26h``, ``1h 30min``.
    """
    left = span // pd.Timedelta(1, "us")
    days = left // _DAY if left >= 2 * _DAY else 0
    left -= days * _DAY
    parts = [f"{days}D"] if days else []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return " ".join(parts) or "0h"


def toml_lines(values: Mapping[str, Any]) -> list[str]:
    """Return keys and values as lines of TOML.

    Parameters
    ----------
    values : mapping of str to object
        The values; of a mapping within every value has a line.

    Returns
    -------
    list of str
        The lines.
    """
    lines = []
    for key, value in values.items():
        inner = value if isinstance(value, dict) else {}
        lines += [f"{key}.{name} = {toml_text(each)}" for name, each in inner.items()]
        lines += [] if inner else [f"{key} = {toml_text(value)}"]
    return lines


def value_text(key: str, value: Any) -> str:  # noqa: ANN401 - what a limit may be
    """Return a limit as text.

    Parameters
    ----------
    key : str
        Its key.
    value : object
        Its value.

    Returns
    -------
    str
        The value on one line; of none what that means.
    """
    if value is None or value == ():
        return KEYS[key].none
    if isinstance(value, pd.Timedelta):
        return span_text(value)
    if isinstance(value, dict):
        slots = ((mode, [each] if isinstance(each, str) else each) for mode, each in value.items())
        value = tuple(f"{mode} {'; '.join(each)}" for mode, each in slots)
    return shown(", ".join(value)) if isinstance(value, tuple) else str(value)


def key_toml(key: str, value: Any, remark: str) -> str:  # noqa: ANN401 - what a limit may be
    """Return a limit as TOML with its meaning.

    Parameters
    ----------
    key : str
        Its key.
    value : object
        Its value; of none an example is written, as a comment.
    remark : str
        A comment to be put behind it.

    Returns
    -------
    str
        Lines.
    """
    known, none = KEYS[key], value is None or value == ()
    means = f"# {known.means[0].upper()}{known.means[1:]}."
    if key not in _ALWAYS:
        means += f" None: {known.none}."
    behind = f"  # {shown(remark)}" if remark else ""
    if key == "schedule":
        lines = [f"[schedule]{behind}", *toml_lines(value or _SLOTS)]
    elif none:
        lines = [f"{key} = {known.example}{behind}"]
    else:
        lines = [f"{line}{behind}" for line in toml_lines({key: value})]
    return "\n".join([means, *(f"# {line}" if none else line for line in lines)])


def entries_toml(key: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """Return entries as tables, with their meaning.

    Parameters
    ----------
    key : str
        Their key.
    entries : sequence of mapping
        Their values by key; of none an example is written, as a comment.

    Returns
    -------
    str
        Lines.
    """
    tables = ["\n".join([f"[[{key}]]", *toml_lines(each)]) for each in entries]
    return "\n".join([f"# {_MEANS[key]}", *(tables or [_EXAMPLES[key]])])


class Table(NamedTuple):
    """Say what tables of one name hold.

    Parameters
    ----------
    keys : mapping of str to callable
        What returns a key's value as it is kept, given the value and the key's name.
    make : callable
        What makes the entry: given a mapping of keys to values, and the line of its head.
    """

    keys: Mapping[str, Callable[[Any, str], Any]]
    make: Callable[[dict[str, Any], int], Any]


def read_tables(
    text: str, name: str, keys: Mapping[str, Callable[[Any, str], Any]], tables: Mapping[str, Table]
) -> dict[str, Any]:
    """Read TOML whose keys and tables are known.

    Parameters
    ----------
    text : str
        The TOML.
    name : str
        The file's name, for messages.
    keys : mapping of str to callable
        The keys at the top, each with what returns its value as it is kept, given the value and
        the key's name, or raises a ValueError.
    tables : mapping of str to Table
        The arrays of tables.

    Returns
    -------
    dict
        The values of the keys that are there; of tables a tuple of what they make.

    Raises
    ------
    ValueError
        Names the file, the line, the key, the value and what was expected; of several faults the
        first one in the file.
    """
    file, text = shown(name), text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        raw = tomllib.loads(text)
        reader = _Reader(lines_of(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}, {_place(str(error), text)}") from error
    except RecursionError as error:
        raise ValueError(f"{file}: values are nested too deeply") from error
    except ValueError as error:
        before = re.split(r"[0-9_]{4300}", text, maxsplit=1)[0]
        told = f"line {before.count(chr(10)) + 1}: a number has thousands of digits"
        raise ValueError(f"{file}, {told}") from error
    values = reader.top(raw, keys, tables)
    if reader.problems:
        line, message = min(reader.problems)
        raise ValueError(f"{file}, line {line}: {message}")
    return values


def _place(message: str, text: str) -> str:
    """Return the message of a TOML error with its line in front."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found is None:  # at the end of the document
        return f"line {text.rstrip().count(chr(10)) + 1}: this is no TOML: {shown(message)}"
    told, line, column = found.groups()
    return f"line {line}: this is no TOML: {shown(told)} (column {column})"


class _Reader:
    """Check the values of a file, and note what is wrong with its line."""

    def __init__(self, lines: dict[Path, int]) -> None:
        self.lines = lines
        self.problems: list[tuple[int, str]] = []

    def line(self, path: Path) -> int:
        """Return the line of a key, or of what it stands in."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def top(
        self,
        raw: dict[str, Any],
        keys: Mapping[str, Callable[[Any, str], Any]],
        tables: Mapping[str, Table],
    ) -> dict[str, Any]:
        """Return everything in a file."""
        plain = {key: value for key, value in raw.items() if key not in tables}
        known = {**keys, **dict.fromkeys(tables)}
        values = self.table(plain, (), known, "")
        for key in tables.keys() & raw.keys():
            entries = raw[key]
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                told = f"{key} = {quoted(entries)}: expected tables that begin with [[{key}]]"
                self.problems.append((self.line((key,)), told))
                continue
            made = (self.entry(each, key, at, tables[key]) for at, each in enumerate(entries))
            values[key] = tuple(made)
        return values

    def entry(self, raw: dict[str, Any], key: str, at: int, table: Table) -> Any:  # noqa: ANN401
        """Return an entry of a kind, or None and a note."""
        path, where, count = (key, at), f"{key} {at + 1}: ", len(self.problems)
        values = self.table(raw, path, table.keys, where)
        if len(self.problems) > count:
            return None
        try:
            return table.make(values, self.line(path))
        except ValueError as error:
            self.problems.append((self.line(path), f"{where}{error}"))
            return None

    def table(
        self, raw: dict[str, Any], path: Path, keys: Mapping[str, Any], where: str
    ) -> dict[str, Any]:
        """Return the values of a table that are right, and note the others."""
        values = {}
        for key, value in raw.items():
            try:
                if key not in keys:
                    raise ValueError(unknown_key(key, keys))  # noqa: TRY301 - noted as all others
                values[key] = keys[key](value, key)
            except ValueError as error:
                line = min(self._inside((*path, key), value, keys.get(key)))
                self.problems.append((line, f"{where}{error}"))
        return values

    def _inside(self, path: Path, value: object, check: Any) -> list[int]:  # noqa: ANN401
        """Return the lines that a faulty value may be told with: in a table the faulty key's."""
        wrong = []
        for key, each in value.items() if isinstance(value, dict) and check else ():
            try:
                check({key: each}, path[-1])
            except ValueError:
                wrong.append(self.line((*path, key)))
        return wrong or [self.line(path)]


def lines_of(text: str) -> dict[Path, int]:
    """Find the lines of the keys of a valid TOML text.

    Parameters
    ----------
    text : str
        TOML that was read without an error, its lines ending in a line feed.

    Returns
    -------
    dict of tuple to int
        The line, from 1, of every key and element by its path: names, and positions in arrays.
    """
    return _Scan(text).lines


class _Scan:
    """Walk over the tokens of a valid TOML text."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, int]] = []
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}
        self.at = 0
        line = 1
        for found in _TOKEN.finditer(text):
            if found.lastgroup != "skip":
                self.tokens.append((found.group(), line))
            line += found.group().count("\n")
        table: Path = ()
        while self.at < len(self.tokens):
            if self.peek() == "[":
                table = self.head()
            elif self.peek() == "\n":
                self.at += 1
            else:
                self.pair(table)

    def peek(self) -> str:
        """Return the token to come; at the end a line feed."""
        return self.tokens[self.at][0] if self.at < len(self.tokens) else "\n"

    def until(self, *stops: str) -> tuple[str, int]:
        """Take tokens up to a mark; return them as one text, and the line of the first."""
        first = self.at
        while self.at < len(self.tokens) and self.peek() not in stops:
            self.at += 1
        line = self.tokens[min(first, len(self.tokens) - 1)][1]
        return "".join(token for token, _ in self.tokens[first : self.at]), line

    def note(self, table: Path, key: str, line: int) -> Path:
        """Note a key, and the tables that a dotted one opens; return its path."""
        path = table
        for name in key_parts(key)[:_DEEP]:
            path = (*path, name)
            self.lines.setdefault(path, line)
            if path in self.counts:  # a table within the last one of an array
                path = (*path, self.counts[path] - 1)
        return path

    def head(self) -> Path:
        """Take the head of a table, or of one of an array; return the path of its keys."""
        self.at += 1
        several = self.peek() == "["
        self.at += several
        key, line = self.until("]")
        self.until("\n")
        if not several:
            return self.note((), key, line)
        *parents, last = key_parts(key)[:_DEEP]
        path: Path = ()
        for name in parents:
            path = (*path, name)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        path = (*path, last)
        number = self.counts.get(path, 0)
        self.counts[path] = number + 1
        self.lines.setdefault(path, line)
        self.lines[(*path, number)] = line
        return (*path, number)

    def pair(self, table: Path) -> None:
        """Take a key and its value."""
        key, line = self.until("=")
        self.at += 1
        self.value(self.note(table, key, line))

    def value(self, path: Path) -> None:
        """Take a value, and note what it holds."""
        mark, number = self.peek(), 0
        if mark not in {"[", "{"}:
            self.until("\n", ",", "]", "}")
            return
        self.at += 1
        while (token := self.peek()) not in {"]", "}"} and self.at < len(self.tokens):
            if token in {"\n", ","}:
                self.at += 1
            elif mark == "{":
                self.pair(path)
            else:
                self.lines[(*path, number)] = self.tokens[self.at][1]
                self.value((*path, number))
                number += 1
        self.at += 1


def key_parts(key: str) -> list[str]:
    r"""Return the parts of a dotted key as TOML has it.

    Parameters
    ----------
    key : str
        Such as ``rpo``, ``schedule.full`` or ``"r\u0070o"``.

    Returns
    -------
    list of str
        Its parts, without quotes.
    """
    if re.fullmatch(r"[A-Za-z0-9_.-]+", key):
        return key.split(".")
    inner: Any = tomllib.loads(f"{key} = 0")
    parts = []
    while isinstance(inner, dict):
        ((name, inner),) = inner.items()
        parts.append(name)
    return parts
