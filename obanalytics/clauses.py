"""Hold what a policy is made of: what each key may be, and its entries for some tenants."""

from __future__ import annotations

import datetime as dt
import fnmatch
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from cronsim import CronSim, CronSimError

from obanalytics.policyfile import quoted, shown, span_text, unknown_key
from obanalytics.schema import as_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.schema import Duration

Texts: TypeAlias = str | Sequence[str]
Moment: TypeAlias = str | dt.date
Schedule: TypeAlias = str | Sequence[str] | Mapping[str, Texts]

SELECTORS = ("instance", "tenant", "name", "instance_name")
LIMITS = (
    "rpo",
    "rto",
    "full_every",
    "retention_days",
    "min_redundancy",
    "max_running",
    "grace",
    "max_chain",
    "checkpoint_lag",
    "export_within_days",
    "copies",
    "copy_within",
    "schedule",
)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MODES = ("any", "full", "incremental")
_FIELDS = 5  # of a cron text
_LONGEST = "a duration of 100 years at most"
_CENTURY = 36525  # days: beyond it instants plus limits would leave what numbers hold
_YEARS = (1970, 2199)
_MOST = 1_000_000
_COLUMNS = dict(
    zip(SELECTORS, ("instance_id", "tenant_id", "tenant_name", "instance_name"), strict=True)
)


def _fail(key: str, value: object, wanted: str) -> NoReturn:
    """Raise the error of a value that cannot be."""
    raise ValueError(f"{key} = {quoted(value)}: expected {wanted}")


def _duration(value: Any, key: str, *, zero: bool = False) -> pd.Timedelta:  # noqa: ANN401
    """Return a duration of a century at most."""
    try:
        span = as_duration(value, key)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error.__cause__ or error, pd.errors.OutOfBoundsTimedelta | OverflowError):
            _fail(key, value, _LONGEST)
        _fail(key, value, "a duration such as '26h' or '7D'")
    if not zero and not span:
        _fail(key, value, "a duration of more than zero, such as '26h'")
    if span > dt.timedelta(_CENTURY):
        _fail(key, value, _LONGEST)
    return span


def _days(value: Any, key: str) -> float:  # noqa: ANN401
    """Return a number of days, an int where it is one."""
    try:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        days = float(value) if number else 0.0
    except OverflowError:
        days = math.inf
    if not 0 < days <= _CENTURY:  # as neither infinity nor NaN is
        _fail(key, value, f"a number of days above 0 and up to {_CENTURY}")
    return int(days) if days.is_integer() else days


def _count(value: Any, key: str) -> int:  # noqa: ANN401
    """Return a whole number of zero or more."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not 0 <= value <= _MOST:
        _fail(key, value, f"a whole number from 0 to {_MOST}")
    return int(value)


def _text(value: Any, key: str) -> str:  # noqa: ANN401
    """Return a text that any file can hold."""
    try:
        if isinstance(value, str) and value.encode():
            return str(value)
    except UnicodeEncodeError:  # half a character
        pass
    _fail(key, value, "a text that is not empty")


def _texts(value: Any, key: str, *, empty: bool = False) -> tuple[str, ...]:  # noqa: ANN401
    """Return texts, each once; one text is a list of one."""
    if isinstance(value, str):
        return (_text(value, key),)
    if not isinstance(value, list | tuple) or not (value or empty):
        _fail(key, value, "a text, or a list of texts")
    return tuple(dict.fromkeys(_text(each, key) for each in value))


def _schedule(value: Any, key: str) -> dict[str, Any]:  # noqa: ANN401
    """Return when backups of each mode are due; what is given without a mode is for any."""
    if not isinstance(value, Mapping):
        return {"any": _slots(value, key)}
    if not value:
        _fail(key, value, f"a table with {', '.join(_MODES)}")
    for mode in value:
        if mode not in _MODES:
            raise ValueError(f"{key}: {unknown_key(mode, _MODES)}")
    return {mode: _slots(value[mode], f"{key}.{mode}") for mode in _MODES if mode in value}


def _slots(value: Any, key: str) -> str | tuple[str, ...]:  # noqa: ANN401
    """Return when backups of a mode are due: a cron text, several, or the time between two."""
    several = isinstance(value, list | tuple)
    faults = [_cron_fault(each) for each in (value if several else [value])]
    if faults and not any(faults):
        return tuple(value) if several else str(value)
    try:
        span = _duration(value, key)
    except ValueError:
        span = pd.Timedelta(0)
    if span < pd.Timedelta(1, "min"):
        why = next((f" ({each})" for each in faults if each and each != _NO_CRON), "")
        _fail(key, value, f"a cron text such as '0 2 * * 6', or a duration such as '7D'{why}")
    return value if isinstance(value, str) else span_text(span)


_NO_CRON = "it has not five fields"


def _cron_fault(text: object) -> str:
    """Say why something is no cron text of five fields whose time comes; nothing where it is."""
    if not isinstance(text, str) or len(text.split()) != _FIELDS:
        return _NO_CRON
    try:
        next(CronSim(" ".join(text.split()), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    except CronSimError as error:
        return f"{shown(str(error))} in {quoted(text)}"
    except StopIteration:
        return f"its time never comes: {quoted(text)}"
    return ""


def _zone(value: Any, key: str) -> str:  # noqa: ANN401
    """Return the name of a time zone that is known here."""
    try:
        return ZoneInfo(_text(value, key)).key
    except (KeyError, ValueError, OSError):
        _fail(key, value, "the name of a time zone, such as 'Europe/Berlin' or 'UTC'")


def _moment(value: Any, key: str) -> dt.datetime:  # noqa: ANN401
    """Return a datetime, in UTC where it has an offset, else naive; a date is its midnight."""
    moment = value
    try:
        if isinstance(moment, str):
            moment = dt.datetime.fromisoformat(moment)
        if isinstance(moment, pd.Timestamp):
            moment = moment.as_unit("us", round_ok=True).to_pydatetime()
        if isinstance(moment, dt.date) and not isinstance(moment, dt.datetime):
            moment = dt.datetime.combine(moment, dt.time())
        if isinstance(moment, dt.datetime) and _YEARS[0] < moment.year < _YEARS[1]:
            return moment.replace(fold=0) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        pass
    years = "between {} and {}".format(*_YEARS)
    _fail(key, value, f"a date or a datetime {years}, such as 2026-05-01T22:00:00")


def _clock(value: Any, key: str, *, midnight: bool = False) -> str:  # noqa: ANN401
    """Return a time of day as text; 24:00 is the end of the day."""
    text = value.isoformat() if isinstance(value, dt.time) else value
    if isinstance(text, str):
        found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?", text)
        if found:
            hour, minute, second = (int(each or 0) for each in found.groups())
            return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")
        if midnight and text == "24:00":
            return text
    _fail(key, value, "a time of day such as '22:00'")


def _weekdays(value: Any, key: str) -> tuple[str, ...]:  # noqa: ANN401
    """Return days of the week, in their order."""
    names = {name.lower() for name in _texts(value, key)}
    if unknown := names - {*WEEKDAYS, *_DAYS}:
        _fail(key, min(unknown), f"days of the week out of {', '.join(WEEKDAYS)}")
    return tuple(s for s, name in zip(WEEKDAYS, _DAYS, strict=True) if {s, name} & names)


def _kinds(value: Any, key: str) -> tuple[str, ...]:  # noqa: ANN401
    """Return kinds of findings."""
    kinds = _texts(value, key)
    for kind in kinds:
        if kind != "any" and not re.fullmatch(r"G([1-9]|[12][0-9]|3[0-4])", kind):
            _fail(key, kind, "kinds of findings from 'G1' to 'G34', or 'any'")
    return kinds


CHECKS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("rpo", "rto", "full_every", "max_running", "copy_within"), _duration),
    **dict.fromkeys(("grace", "checkpoint_lag"), partial(_duration, zero=True)),
    **dict.fromkeys(("retention_days", "export_within_days"), _days),
    **dict.fromkeys(("min_redundancy", "max_chain"), _count),
    **dict.fromkeys(SELECTORS, _texts),
    **dict.fromkeys(("start", "end", "until"), _moment),
    "from": _clock,
    "to": partial(_clock, midnight=True),
    "copies": partial(_texts, empty=True),
    "schedule": _schedule,
    "tz": _zone,
    "reason": _text,
    "weekdays": _weekdays,
    "kind": _kinds,
}
"""What returns the value of a key as it is kept, or raises the ValueError that says why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Select tenants; all that is given must match.

    Parameters
    ----------
    instance, tenant : str or sequence of str
        Ids.
    name, instance_name : str or sequence of str
        Patterns on the name of the tenant or the instance, as of a shell: ``*``, ``?``, ``[ab]``,
        ``[!ab]``; upper and lower case differ. A name that is missing counts as empty.
    line : int or None
        Where it stands in a file.
    """

    instance: Texts = ()
    tenant: Texts = ()
    name: Texts = ()
    instance_name: Texts = ()
    line: int | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check every field that was given."""
        settle(self)

    @property
    def selects(self) -> bool:
        """Whether it selects at all, or is for everyone."""
        return any(getattr(self, key) for key in SELECTORS)

    def given(self) -> dict[str, Any]:
        """Return what was given.

        Returns
        -------
        dict
            Values by their keys in a file.
        """
        return {
            key_of(each.name): value
            for each in fields(self)
            if each.compare and (value := getattr(self, each.name)) != each.default
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Override(Selector):
    """Change limits for some tenants; of several the last one counts, key by key.

    Parameters
    ----------
    rpo, rto, full_every, max_running, grace, checkpoint_lag, copy_within : duration or None
        As in a policy; None changes nothing.
    retention_days, export_within_days : float or None
        As in a policy [days].
    min_redundancy, max_chain : int or None
        As in a policy.
    copies : str, sequence of str, or None
        As in a policy; empty requires none.
    schedule : mapping, str, or None
        As in a policy; it replaces the whole schedule.
    """

    rpo: Duration | None = None
    rto: Duration | None = None
    full_every: Duration | None = None
    retention_days: float | None = None
    min_redundancy: int | None = None
    max_running: Duration | None = None
    grace: Duration | None = None
    max_chain: int | None = None
    checkpoint_lag: Duration | None = None
    export_within_days: float | None = None
    copies: Texts | None = None
    copy_within: Duration | None = None
    schedule: Schedule | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Check every field, and that there is something to do."""
        settle(self)
        _must_select(self)
        if all(getattr(self, key) is None for key in LIMITS):
            raise ValueError(f"there is no limit: expected one of {', '.join(LIMITS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclude(Selector):
    """Leave some tenants out of every judgement.

    Parameters
    ----------
    reason : str
        Why.
    """

    reason: str = ""

    def __post_init__(self) -> None:
        """Check every field."""
        settle(self)
        _must_select(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance(Selector):
    """A time in which nothing is owed: once, or every week; without a selector for everyone.

    Parameters
    ----------
    start, end : date, datetime, str, or None
        A half-open time [start, end). Without an offset it is in the policy's time zone; a date
        is its midnight.
    weekdays : str or sequence of str
        The days on which a weekly time begins, ``mon`` to ``sun``; none: every day.
    from_, to : str, datetime.time, or None
        Its bounds by the clock on the wall in the policy's time zone, ``from`` and ``to`` in a
        file; one that ends before it begins passes midnight. ``24:00`` is the end of the day.
        None of both: the whole day. An hour that the clock shows twice is in it twice; what the
        clock skips has no length.
    reason : str
        Why.
    """

    start: Moment | None = None
    end: Moment | None = None
    weekdays: Texts = ()
    from_: str | dt.time | None = None
    to: str | dt.time | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """Check every field, and that they are one time."""
        settle(self)
        once = self.start is not None or self.end is not None
        weekly = bool(self.weekdays) or self.from_ is not None or self.to is not None
        if once == weekly:
            raise ValueError("expected either start and end, or weekdays, from and to")
        if once and (self.start is None or self.end is None):
            raise ValueError("expected both start and end")
        if weekly and (self.from_ is None) != (self.to is None):
            raise ValueError("expected both from and to")
        if weekly and self.from_ is not None and self.from_ == self.to:
            raise ValueError(
                f"from = to = {quoted(self.to)}: expected a time with a length; for a whole day "
                "leave both out"
            )
        _must_follow(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(Selector):
    """Findings that are known, up to a date.

    Parameters
    ----------
    kind : str or sequence of str
        ``G1`` to ``G34``, or ``any`` of the tenants that are selected.
    until : date, datetime or str
        When it runs out: it counts while "now" is before that. Without an offset in the policy's
        time zone; a date is its midnight.
    start, end : date, datetime, str, or None
        Only findings that began in [start, end).
    reason : str
        Why.
    """

    kind: Texts = ()
    until: Moment | None = None
    start: Moment | None = None
    end: Moment | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """Check every field, and that it is about something, for some time."""
        settle(self)
        if not self.kind:
            raise ValueError("there is no kind: expected one such as 'G7'")
        if "any" in self.kind:
            _must_select(self)
        if self.until is None:
            raise ValueError("there is no until: expected the date on which it runs out")
        _must_follow(self.start, self.end)


def settle(entry: Any) -> None:  # noqa: ANN401 - a frozen dataclass of this package
    """Check what was given to a frozen dataclass, and keep it in its one form.

    Parameters
    ----------
    entry : dataclass
        Its fields that have a check and are not the default itself are replaced.
    """
    for each in fields(entry):
        value, key = getattr(entry, each.name), key_of(each.name)
        if key in CHECKS and value is not each.default:
            object.__setattr__(entry, each.name, CHECKS[key](value, key))


def key_of(name: str) -> str:
    """Return the key in a file of a field.

    Parameters
    ----------
    name : str
        The field: ``from_`` is ``from``, which Python keeps to itself.

    Returns
    -------
    str
        The key.
    """
    return name.removesuffix("_")


def keys_of(entry: type[Selector]) -> dict[str, Callable[[Any, str], Any]]:
    """Return the keys of a kind of entry, each with its check.

    Parameters
    ----------
    entry : type
        The kind.

    Returns
    -------
    dict
        Checks by key.
    """
    return {key: CHECKS[key] for each in fields(entry) if (key := key_of(each.name)) in CHECKS}


def make(entry: type[Selector], values: Mapping[str, Any], line: int | None = None) -> Selector:
    """Make an entry of what a table holds.

    Parameters
    ----------
    entry : type
        The kind.
    values : mapping
        Values by key.
    line : int or None
        Where it stands in a file.

    Returns
    -------
    Selector
        The entry.

    Raises
    ------
    ValueError
        When a key is unknown, or a value is impossible.
    """
    names = {key_of(each.name): each.name for each in fields(entry) if each.compare}
    for key in values:
        if key not in names:
            raise ValueError(unknown_key(key, names))
    return entry(**{names[key]: value for key, value in values.items()}, line=line)


def _must_select(entry: Selector) -> None:
    """Raise where an entry would be for everyone."""
    if not entry.selects:
        raise ValueError(f"there is no selector: expected one of {', '.join(SELECTORS)}")


def _must_follow(start: Any, end: Any) -> None:  # noqa: ANN401 - datetimes by now
    """Raise where an end is not after its start."""
    if start is None or end is None:
        return
    if (start.tzinfo is None) != (end.tzinfo is None):
        raise ValueError("start and end need an offset both, or neither")
    if end <= start:
        raise ValueError(f"end = {quoted(end)}: expected one after start = {quoted(start)}")


class Names:
    """The ids and names of a frame's rows, for selectors to be matched with.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id and tenant_id; tenant_name and instance_name where they are known.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.found: dict[str, tuple[Any, list[str]]] = {}

    def labels(self, column: str) -> tuple[Any, list[str]]:
        """Return a column as numbers and what they stand for.

        Parameters
        ----------
        column : str
            Its name.

        Returns
        -------
        codes : ndarray of int
            Positions in the labels; -1 is the last: missing.
        labels : list of str
            The distinct ones, and an empty one at the end.
        """
        if column not in self.found:
            if column not in self.frame:
                codes, labels = np.full(len(self.frame), -1), []
            elif isinstance(self.frame[column].dtype, pd.CategoricalDtype):
                array = self.frame[column].array
                codes, labels = array.codes, array.categories.tolist()
            else:
                codes, labels = pd.factorize(self.frame[column])
            self.found[column] = codes, [*map(str, labels), ""]
        return self.found[column]

    def matching(self, entry: Selector) -> Any:  # noqa: ANN401 - an array
        """Tell which rows an entry selects.

        Parameters
        ----------
        entry : Selector
            The entry.

        Returns
        -------
        ndarray of bool
            A row each.
        """
        chosen = np.ones(len(self.frame), bool)
        for key in SELECTORS:
            if wanted := getattr(entry, key):
                codes, labels = self.labels(_COLUMNS[key])
                hits = (
                    _alike(labels, wanted)
                    if key in {"name", "instance_name"}
                    else np.fromiter(map(set(wanted).__contains__, labels), bool, len(labels))
                )
                chosen &= hits[codes]
        return chosen


def _alike(labels: list[str], patterns: tuple[str, ...]) -> Any:  # noqa: ANN401 - an array
    """Tell which texts match one of some patterns."""
    hits = np.zeros(len(labels), bool)
    for pattern in patterns:
        piece = pattern.strip("*")
        if not set(piece) & set("*?["):  # stars around a text: no need to match at length
            before, after = pattern.startswith("*"), pattern.endswith("*")
            found = map(_FIND[before, after], labels, repeat(piece))
        else:
            found = map(bool, map(re.compile(fnmatch.translate(pattern)).match, labels))
        hits |= np.fromiter(found, bool, len(labels))
    return hits


_FIND: dict[tuple[bool, bool], Callable[[str, str], bool]] = {
    (False, False): str.__eq__,
    (False, True): str.startswith,
    (True, False): str.endswith,
    (True, True): str.__contains__,
}
