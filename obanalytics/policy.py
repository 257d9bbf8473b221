"""State what is owed: limits with their origin, exceptions, times of rest, what is known."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from obanalytics.clauses import (
    CHECKS,
    LIMITS,
    WEEKDAYS,
    Acknowledged,
    Exclude,
    Maintenance,
    Names,
    Override,
    keys_of,
    make,
    settle,
)
from obanalytics.policyfile import (
    KEYS,
    Table,
    entries_toml,
    key_toml,
    quoted,
    read_tables,
    shown,
    span_text,
    toml_lines,
    unknown_key,
    value_text,
)
from obanalytics.quiet import NAT, Pieces, merged, micros, weekly, without
from obanalytics.schema import as_instant

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from obanalytics.clauses import Schedule, Selector, Texts
    from obanalytics.quiet import Bools, Ints
    from obanalytics.schema import Duration, Instant

__all__ = [
    "Acknowledged",
    "Exclude",
    "Maintenance",
    "Override",
    "Pieces",
    "Policy",
    "PolicyLimits",
]

_DAY = 86_400_000_000  # [µs]
_ENTRIES: dict[str, type[Selector]] = {
    "maintenance": Maintenance,
    "exclude": Exclude,
    "override": Override,
    "acknowledge": Acknowledged,
}
_TABLES = {key: Table(keys_of(kind), partial(make, kind)) for key, kind in _ENTRIES.items()}
_DURATIONS = ("rpo", "grace", "rto", "full_every", "max_running", "checkpoint_lag", "copy_within")
_DAYS = {"retention": "retention_days", "export_within": "export_within_days"}


class _Text(str):
    """A default: no text that was given is the same object."""

    __slots__ = ()


class _Number(int):
    """A default: no number that was given is the same object."""

    __slots__ = ()


# As all of these are objects of their own, what was given can be told from what was not.
_RPO, _GRACE = (pd.Timedelta(hours, "h").as_unit("us") for hours in (26, 2))
_ONE, _UTC = _Number(1), _Text("UTC")


class PolicyLimits(NamedTuple):
    """What is owed by each of some tenants, a row each.

    Parameters
    ----------
    rpo, grace, rto, full_every, retention, max_running : ndarray of int
        Limits [µs]; `NAT` where there is none.
    checkpoint_lag, export_within, copy_within : ndarray of int
        The same.
    min_redundancy, max_chain : ndarray of int
        Counts; -1 where there is none.
    copies : list of tuple of str
        The storage classes that must hold a copy.
    schedule : list of dict or None
        When backups are due, by mode: a cron text, several of them, or a duration.
    excluded : ndarray of bool
        Whether nothing is to be said about a tenant.
    origins : dict of str to ndarray of object
        Where each limit comes from, by its key in a policy (such as ``retention_days``):
        ``default``, ``policy``, ``override 2``.
    """

    rpo: Ints
    grace: Ints
    rto: Ints
    full_every: Ints
    retention: Ints
    max_running: Ints
    checkpoint_lag: Ints
    export_within: Ints
    copy_within: Ints
    min_redundancy: Ints
    max_chain: Ints
    copies: list[tuple[str, ...]]
    schedule: list[dict[str, Any] | None]
    excluded: Bools
    origins: dict[str, Any]


@dataclass(frozen=True, slots=True, repr=False)
class Policy:
    """State what is owed, and what is not; every output tells which of it is a default.

    Durations are anything `pandas.Timedelta` takes but bare numbers; after that they are
    Timedeltas. A ValueError names the key, the value and what was expected.

    Parameters
    ----------
    rpo : duration
        The most that may be lost.
    rto : duration or None
        The longest that a restore may take.
    full_every : duration or None
        The oldest that the newest full set may be; None: not checked.
    retention_days : float or None
        How far back a restore must reach [days].
    min_redundancy : int
        How many usable full sets there must be.
    max_running : duration or None
        The longest that a backup may run; None: from the tenant's own past.
    grace : duration
        How late a backup may be before that is a finding.
    max_chain : int or None
        The most incremental sets to be restored on top of a full one.
    checkpoint_lag : duration or None
        The most that a set's end may be after its checkpoint; None: a quarter of the RPO.
    export_within_days : float or None
        A set that can be downloaded must be this new [days].
    copies : sequence of str
        The storage classes that must each hold a copy.
    copy_within : duration or None
        The oldest that the newest copy in each of them may be.
    schedule : mapping, str, or None
        When backups are due, by mode, such as ``{"full": "0 2 * * 6", "incremental": "1D"}``:
        a cron text by the clock in `tz`, several, or the time between two. A text alone is for
        ``any`` mode. None: inferred, if at all.
    tz : str
        The time zone of schedules, of times without an offset, of display.
    maintenance : sequence of Maintenance
        Times in which nothing is owed.
    exclude : sequence of Exclude
        Tenants about which nothing is to be said.
    override : sequence of Override
        Other limits for some tenants; of several the last one counts, key by key.
    acknowledge : sequence of Acknowledged
        Findings that are known, up to a date.
    given : frozenset of str, or None
        The keys that were given; None: those that are arguments here. What has another value
        than the default is always among them.
    """

    rpo: Duration = _RPO
    rto: Duration | None = None
    full_every: Duration | None = None
    retention_days: float | None = None
    min_redundancy: int = _ONE
    max_running: Duration | None = None
    grace: Duration = _GRACE
    max_chain: int | None = None
    checkpoint_lag: Duration | None = None
    export_within_days: float | None = None
    copies: Texts = ()
    copy_within: Duration | None = None
    schedule: Schedule | None = field(default=None, hash=False)
    tz: str = _UTC
    maintenance: Sequence[Maintenance] = ()
    exclude: Sequence[Exclude] = ()
    override: Sequence[Override] = ()
    acknowledge: Sequence[Acknowledged] = ()
    given: frozenset[str] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check every field, and note which were given."""
        defaults = {each.name: each.default for each in fields(self)}
        passed = {key for key in KEYS if getattr(self, key) is not defaults[key]}
        settle(self)
        for key, entry in _ENTRIES.items():
            object.__setattr__(self, key, _entries(key, entry, getattr(self, key)))
        changed = {key for key in KEYS if getattr(self, key) != defaults[key]}
        told = passed if self.given is None else changed.union(self.given) & KEYS.keys()
        object.__setattr__(self, "given", frozenset(told))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy from a TOML file.

        Parameters
        ----------
        path : path
            The file, in UTF-8.

        Returns
        -------
        Policy
            What it says.

        Raises
        ------
        OSError
            When the file cannot be read.
        ValueError
            Names the file, the line, the key, the value and what was expected.
        """
        data = Path(path).read_bytes()
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{shown(str(path))}, line {line}: this is no UTF-8") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str = "policy.toml") -> Policy:
        """Read a policy from TOML.

        Parameters
        ----------
        text : str
            The limits as keys, and the tables ``[schedule]``, ``[[maintenance]]``,
            ``[[exclude]]``, ``[[override]]`` and ``[[acknowledge]]``.
        name : str
            The file's name, for messages.

        Returns
        -------
        Policy
            What it says.

        Raises
        ------
        ValueError
            Names the file, the line, the key, the value and what was expected; of several faults
            the first one in the file.
        """
        checks = {key: CHECKS[key] for key in KEYS}
        values = read_tables(text, name, checks, _TABLES)
        return cls(**values, given=frozenset(values))

    @property
    def origins(self) -> dict[str, str]:
        """Where each limit comes from: ``policy`` where it was given, else ``default``."""
        given = self.given or ()
        return {key: "policy" if key in given else "default" for key in KEYS}

    def limits(self, tenants: pd.DataFrame) -> PolicyLimits:
        """Return what each of some tenants owes.

        Parameters
        ----------
        tenants : DataFrame
            A row per tenant: instance_id and tenant_id; tenant_name and instance_name where
            they are known.

        Returns
        -------
        PolicyLimits
            In the order of the rows.
        """
        names, count = Names(tenants), len(tenants)
        chosen: dict[str, Ints] = {}  # by key: the number of the override that counts, 0 for none
        for number, override in enumerate(self.override, 1):
            rows = names.matching(override)
            for key in LIMITS:
                if getattr(override, key) is not None:
                    which = chosen.setdefault(key, np.zeros(count, np.intp))
                    which[rows] = number
        excluded = np.zeros(count, bool)
        for exclude in self.exclude:
            excluded |= names.matching(exclude)
        spans = {
            name: self._numbers(key, chosen.get(key), count)
            for name, key in (*zip(_DURATIONS, _DURATIONS, strict=True), *_DAYS.items())
        }
        return PolicyLimits(
            **spans,
            min_redundancy=self._numbers("min_redundancy", chosen.get("min_redundancy"), count),
            max_chain=self._numbers("max_chain", chosen.get("max_chain"), count),
            copies=self._objects("copies", chosen.get("copies"), count),
            schedule=self._objects("schedule", chosen.get("schedule"), count),
            excluded=excluded,
            origins={key: self._origin(key, chosen.get(key), count) for key in LIMITS},
        )

    def _values(self, key: str) -> list[Any]:
        """Return the value of a key, and those of the overrides."""
        return [getattr(each, key) for each in (self, *self.override)]

    def _numbers(self, key: str, which: Ints | None, count: int) -> Ints:
        """Return a limit as numbers."""
        if which is None:
            return np.full(count, _number(key, getattr(self, key)), np.int64)
        return np.array([_number(key, each) for each in self._values(key)], np.int64)[which]

    def _objects(self, key: str, which: Ints | None, count: int) -> list[Any]:
        """Return a limit as a list."""
        if which is None:
            return [getattr(self, key)] * count
        values = self._values(key)
        return [values[number] for number in which.tolist()]

    def _origin(self, key: str, which: Ints | None, count: int) -> Any:  # noqa: ANN401 - an array
        """Return where a limit comes from."""
        texts = [self.origins[key], *(f"override {n + 1}" for n in range(len(self.override)))]
        return np.array(texts, object)[np.zeros(count, np.intp) if which is None else which]

    def quiet(self, start: int, end: int) -> Pieces:
        """Return the times in which nothing is owed, of every entry of `maintenance`.

        Parameters
        ----------
        start, end : int
            What the times must touch [µs since 1970].

        Returns
        -------
        Pieces
            `index` is the entry's position; times of one entry are in order, and not cut off at
            the bounds.
        """
        zone, parts = ZoneInfo(self.tz), []
        for at, entry in enumerate(self.maintenance):
            first, last = _times_of(entry, zone, start, end)
            touch = (last > start) & (first < end) & (first < last)
            parts.append((np.full(int(touch.sum()), at), first[touch], last[touch]))
        empty = np.empty(0, np.int64)
        return Pieces(*map(np.concatenate, zip((empty,) * 3, *parts, strict=True)))

    def uncovered(self, tenants: pd.DataFrame, row: Ints, start: Ints, end: Ints) -> Pieces:
        """Return what is left of intervals without the times in which nothing is owed.

        Parameters
        ----------
        tenants : DataFrame
            A row per tenant, as in `limits`.
        row : ndarray of int
            The row of each interval's tenant.
        start, end : ndarray of int
            The intervals [µs since 1970]; of one without a length its instant counts.

        Returns
        -------
        Pieces
            In the order of the intervals, then of time; nothing of what is covered as a whole.
        """
        index = np.arange(len(start))
        if not self.maintenance or not len(start):
            return Pieces(index, start, end)
        quiet = self.quiet(int(start.min()), int(end.max()) + 1)
        names = Names(tenants)
        used = np.array([names.matching(entry) for entry in self.maintenance])[:, row]
        groups, group = np.unique(used, axis=1, return_inverse=True)
        found = []
        for number, entries in enumerate(groups.T):
            mine = np.flatnonzero(group.reshape(-1) == number)
            rest = entries[quiet.index]
            times = merged(quiet.start[rest], quiet.end[rest])
            found.append(without(Pieces(mine, start[mine], end[mine]), *times))
        index, first, last = map(np.concatenate, zip(*found, strict=True))
        order = np.lexsort((first, index))
        return Pieces(index[order], first[order], last[order])

    def acknowledged(self, findings: pd.DataFrame, as_of: Instant) -> tuple[Bools, list[str]]:
        """Tell which findings are known.

        Parameters
        ----------
        findings : DataFrame
            Has kind, instance_id, tenant_id and start; tenant_name and instance_name where they
            are known.
        as_of : instant
            "Now": what has run out by then does not count.

        Returns
        -------
        known : ndarray of bool
            A row each.
        reasons : list of str
            Why, by the first that knows it; empty where it is not known, or no reason was given.
        """
        names, now = Names(findings), self._micros(as_instant(as_of, "as_of"))
        which = np.full(len(findings), -1)
        begun = pd.DatetimeIndex(findings["start"]).as_unit("us").asi8
        codes, kinds = names.labels("kind")
        for at, entry in reversed([*enumerate(self.acknowledge)]):
            if now >= self._micros(entry.until):
                continue
            rows = names.matching(entry)
            if "any" not in entry.kind:
                rows &= np.array([kind in entry.kind for kind in kinds])[codes]
            if entry.start is not None:
                rows &= begun >= self._micros(entry.start)
            if entry.end is not None:
                rows &= (begun < self._micros(entry.end)) & (begun != NAT)
            which[rows] = at
        reasons = [*(entry.reason for entry in self.acknowledge), ""]
        return which >= 0, [reasons[at] for at in which.tolist()]

    def expired(self, as_of: Instant) -> tuple[str, ...]:
        """Return which entries of `acknowledge` have run out.

        Parameters
        ----------
        as_of : instant
            "Now".

        Returns
        -------
        tuple of str
            A sentence each.
        """
        now = self._micros(as_instant(as_of, "as_of"))
        return tuple(
            f"acknowledge {number} ({_told(entry)}) ran out on {self._moment_text(entry.until)}"
            for number, entry in enumerate(self.acknowledge, 1)
            if now >= self._micros(entry.until)
        )

    def _micros(self, moment: Any) -> int:  # noqa: ANN401 - a datetime
        """Return a moment as an instant [µs]; without an offset in the policy's zone."""
        return int(micros([moment], ZoneInfo(self.tz))[0])

    def _moment_text(self, moment: Any) -> str:  # noqa: ANN401 - a datetime
        """Return a moment as text, with its zone."""
        return f"{moment:%Y-%m-%d %H:%M} {'UTC' if moment.tzinfo else self.tz}"

    def describe(self) -> list[tuple[str, str, str]]:
        """Return everything it says.

        Returns
        -------
        list of tuple of str
            Key, value and origin (``policy`` or ``default``); where there is no value, what that
            means.
        """
        origins = self.origins
        rows = [(key, value_text(key, getattr(self, key)), origins[key]) for key in KEYS]
        for key in _ENTRIES:
            for number, entry in enumerate(getattr(self, key), 1):
                line = "" if entry.line is None else f", line {entry.line}"
                rows.append((f"{key} {number}", _told(entry), f"policy{line}"))
        return rows

    def __repr__(self) -> str:
        """Return a block of text: a line per key."""
        rows = self.describe()
        wide = max(len(key) for key, _, _ in rows)
        return "\n".join(["Policy", *(f"  {k:<{wide}}  {v}  ({origin})" for k, v, origin in rows)])

    def _repr_html_(self) -> str:
        """Return the same as a small table, for notebooks."""
        cell = "<td style='text-align:left'>{}</td>"
        rows = "".join(
            f"<tr>{''.join(cell.format(html.escape(each)) for each in row)}</tr>"
            for row in self.describe()
        )
        return f"<table><caption>obanalytics policy</caption><tbody>{rows}</tbody></table>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it.

        Returns
        -------
        dict
            Values by key, durations and moments as texts; ``origins`` by key.
        """
        values = {key: _plain(getattr(self, key)) for key in KEYS}
        entries = {
            key: [{k: _plain(v) for k, v in each.given().items()} for each in getattr(self, key)]
            for key in _ENTRIES
        }
        return {**values, **entries, "origins": self.origins}

    def to_toml(self, comments: Mapping[str, str] | None = None) -> str:
        """Return it as TOML that reads back as an equal policy.

        Parameters
        ----------
        comments : mapping of str to str, or None
            Remarks by key, such as what a value was inferred from.

        Returns
        -------
        str
            A comment and a line per key; what has no value is an example in a comment.

        Raises
        ------
        ValueError
            When a remark is on a key that there is not.
        """
        remarks = comments or {}
        for key in remarks:
            if key not in KEYS:
                raise ValueError(unknown_key(key, KEYS))
        parts = ["# What is owed, for obanalytics. A line that begins with # says nothing."]
        ordered = sorted(KEYS, key="schedule".__eq__)  # a table ends the keys at the top
        parts += [key_toml(key, getattr(self, key), remarks.get(key, "")) for key in ordered]
        parts += [
            entries_toml(key, [entry.given() for entry in getattr(self, key)]) for key in _ENTRIES
        ]
        return "\n\n".join(parts) + "\n"


def _entries(key: str, kind: type[Selector], given: Any) -> tuple[Selector, ...]:  # noqa: ANN401
    """Return entries of a kind; mappings are read as tables in a file."""
    if not isinstance(given, list | tuple):
        raise ValueError(f"{key} = {quoted(given)}: expected a list of {kind.__name__}")  # noqa: TRY004
    made = []
    for number, each in enumerate(given, 1):
        try:
            if isinstance(each, Mapping):
                made.append(make(kind, each))
            elif isinstance(each, kind):
                made.append(each)
            else:
                raise ValueError(f"{quoted(each)} is no {kind.__name__}")  # noqa: TRY301, TRY004
        except ValueError as error:
            raise ValueError(f"{key} {number}: {error}") from error
    return tuple(made)


def _number(key: str, value: Any) -> int:  # noqa: ANN401 - what a limit may be
    """Return a limit as a number: durations and days [µs]."""
    if value is None:
        return -1 if key in {"min_redundancy", "max_chain"} else NAT
    if isinstance(value, pd.Timedelta):
        return int(value // pd.Timedelta(1, "us"))
    return max(round(value * _DAY), 1) if key in _DAYS.values() else int(value)


def _seconds(clock: str) -> int:
    """Return a time of day in seconds."""
    hour, minute, second = (int(each) for each in f"{clock}:00".split(":")[:3])
    return hour * 3600 + minute * 60 + second


def _times_of(entry: Any, zone: ZoneInfo, start: int, end: int) -> tuple[Ints, Ints]:  # noqa: ANN401
    """Return the times of a maintenance, at least all that touch a span [µs]."""
    if entry.start is not None:
        return micros([entry.start], zone), micros([entry.end], zone, end=True)
    days = [WEEKDAYS.index(each) for each in entry.weekdays or WEEKDAYS]
    clock = _seconds(entry.from_ or "00:00"), _seconds(entry.to or "24:00")
    return weekly(days, clock, zone, start, end)


def _plain(value: Any) -> Any:  # noqa: ANN401 - what a policy holds
    """Return a value as JSON has it."""
    if isinstance(value, pd.Timedelta):
        return span_text(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, _Text):
        return str(value)
    if isinstance(value, _Number):
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def _told(entry: Selector) -> str:
    """Return an entry in one line."""
    return shown(", ".join(toml_lines(entry.given())))
