"""Read reviews from their JSON, and tell which finding of one is which of the other."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pandas as pd

from obanalytics.errors import DataError
from obanalytics.kinds import HOUR, SEVERITIES
from obanalytics.policy import Policy
from obanalytics.policyfile import KEYS
from obanalytics.recovery import NAT
from obanalytics.wording import format_instant, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obanalytics.policy import PolicyLimits

READS = 2
"""The version of what `Review.to_json` returns that can be read."""
_NAMED = 5  # names that a message tells
_WANTED = f"a review, its to_json(), or a .json file with it, of format {READS}"
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("instance_id", "instance_name", "tenant_id", "tenant_name"), str),
    **dict.fromkeys(("title", "sentence", "unit", "limit_origin", "certainty"), str),
    **dict.fromkeys(("rpo_state", "last_checkpoint"), str),
    "measured": (int, float),
    "limit": (int, float),
    "acknowledged": bool,
}
_ABSENT = 3  # cluster sets in a row without a tenant: it does not appear, it goes
_COUNTED = ("max_chain", "min_redundancy")
Whose = tuple[str | None, str | None]
"""An instance and a tenant; no tenant where it is of the whole instance."""


class Row(NamedTuple):
    """A finding of one review.

    Parameters
    ----------
    told : mapping
        It as the JSON tells it.
    kind : str
        Its kind.
    whose : tuple of str or None
        Its instance and tenant.
    start, end : datetime or None
        Its times [UTC].
    first, last : float
        From when to when it is taken to have been [s].
    lasts : bool
        Whether it was not over when it was reviewed.
    ids : frozenset of str
        The sets that prove it.
    key : str
        All of it, to tell rows apart in any order.
    """

    told: Mapping[str, Any]
    kind: str
    whose: Whose
    start: dt.datetime | None
    end: dt.datetime | None
    first: float
    last: float
    lasts: bool
    ids: frozenset[str]
    key: str

    @property
    def gist(self) -> str:
        """Its sentence without numbers."""
        return "".join(c for c in str(self.told.get("sentence")) if not c.isdigit())

    @property
    def grade(self) -> int:
        """Its severity as a position."""
        return SEVERITIES.index(self.told["severity"])


class Side:
    """A review as its JSON tells it.

    Parameters
    ----------
    name : str
        What messages call it.
    data : mapping
        What `Review.to_json` returned.
    """

    def __init__(self, name: str, data: Mapping[str, Any]) -> None:
        self.name, self.data = name, data
        window, source = data["window"], data["provenance"]
        self.as_of = _instant(data.get("as_of"), name, "as_of")
        self.begin = _instant(window.get("start"), name, "window.start")
        self.end = _instant(window.get("end"), name, "window.end")
        self.until = min((each for each in (self.as_of, self.end) if each), default=None)
        self.failed = {str(each) for each in source.get("failed") or ()}
        newest = data["summary"].get("newest_restore_point")
        self.newest = _instant(newest, name, "summary.newest_restore_point")
        self.asked = {str(each) for each in source.get("instances") or ()} | self.failed
        self.coverage = {
            (each["instance_id"], each.get("tenant_id")): each
            for each in data["tables"]["coverage"]
            if each.get("instance_id") is not None
        }
        lacks = data["tables"].get("not_judged") or ()
        self.not_judged = {each["kind"]: plain(each.get("reason")) for each in lacks}
        self.rows = [self._row(*each) for each in enumerate(data["findings"])]
        about = data.get("policy") or {}
        self.texts = {str(key): str(each.get("value")) for key, each in about.items()}
        self.policy = _policy(about)
        self.version = plain((source.get("versions") or {}).get("obanalytics"), 20)
        self.limits: PolicyLimits | None = None
        self.place: dict[Whose, int] = {}

    def _row(self, at: int, told: Mapping[str, Any]) -> Row:
        """Return a finding."""
        where = f"findings[{at}]."
        whose = told.get("instance_id"), told.get("tenant_id")
        start, end = (_instant(told.get(key), self.name, where + key) for key in ("start", "end"))
        lasts = end is None or (self.until is not None and end >= self.until)
        if told["kind"] == "G24" and end is not None:  # it ends with the last set that lacks it
            lasts = not self._is_back(whose, end)
        last = end or self.until
        return Row(
            told,
            told["kind"],
            whose,
            start,
            end,
            start.timestamp() if start else -math.inf,
            last.timestamp() if last else math.inf,
            lasts,
            frozenset(told.get("backup_set_ids") or ()),
            json.dumps(told, sort_keys=True, default=str),
        )

    def _is_back(self, whose: Whose, end: dt.datetime) -> bool:
        """Tell whether a tenant has a restore point after an instant."""
        newest = self.coverage.get(whose, {}).get("last_checkpoint")
        moment = _instant(newest, self.name, "last_checkpoint in coverage")
        return moment is not None and moment > end

    @property
    def dropped(self) -> set[Whose]:
        """The tenants of which G25 says that the inventory has them no longer."""
        return {
            row.whose
            for row in self.rows
            if row.kind == "G25"
            and row.told["severity"] == "info"
            and row.told.get("certainty") == "proved"
            and (row.told.get("measured") or 0) >= _ABSENT
        }

    def about(self) -> dict[str, Any]:
        """Return what it is.

        Returns
        -------
        dict
            name, as_of and window.
        """
        spans = (None if each is None else pd.Timestamp(each) for each in (self.begin, self.end))
        window = dict(zip(("start", "end"), spans, strict=True))
        as_of = None if self.as_of is None else pd.Timestamp(self.as_of)
        return {"name": self.name, "as_of": as_of, "window": window}

    def settle(self, people: pd.DataFrame) -> None:
        """Work out what each of some tenants owes.

        Parameters
        ----------
        people : DataFrame
            A row per tenant of either review, with its ids and names.
        """
        if self.policy is not None:
            keys = people[["instance_id", "tenant_id"]].itertuples(index=False, name=None)
            self.place = {key: at for at, key in enumerate(keys)}
            self.limits = self.policy.limits(people)

    def excludes(self, whose: Whose) -> bool:
        """Tell whether its policy says nothing about a tenant.

        Parameters
        ----------
        whose : tuple of str or None
            The instance and the tenant.

        Returns
        -------
        bool
            False where the policy is not known.
        """
        at = self.place.get(whose)
        return self.limits is not None and at is not None and bool(self.limits.excluded[at])

    def limit(self, key: str, whose: Whose) -> float | None:
        """Return a limit of a tenant.

        Parameters
        ----------
        key : str
            The limit, as `PolicyLimits` calls it.
        whose : tuple of str or None
            The instance and the tenant.

        Returns
        -------
        float or None
            Hours or a count; NaN where there is none, None where that is not known.
        """
        at = self.place.get(whose)
        if self.limits is None or at is None:
            return None
        value = int(getattr(self.limits, key)[at])
        if key in _COUNTED:
            return math.nan if value < 0 else float(value)
        return math.nan if value == NAT else value / HOUR

    def said(self, word: str) -> dict[str, str]:
        """Return what its policy says of something, as text.

        Parameters
        ----------
        word : str
            What: it is in the key, or in the text of an override.

        Returns
        -------
        dict of str to str
            Texts by their keys.
        """
        return {key: text for key, text in self.texts.items() if word in key or word in text}


class Sides(NamedTuple):
    """Both reviews.

    Parameters
    ----------
    before, now : Side
        The earlier and the later one.
    """

    before: Side
    now: Side


def side_of(given: Any, role: str) -> Side:  # noqa: ANN401 - whatever was given
    """Read a review.

    Parameters
    ----------
    given : Review, dict or path
        The review, the dict of its `to_json`, or a JSON file that holds it.
    role : str
        What messages call it where it is no file.

    Returns
    -------
    Side
        What is compared of it.

    Raises
    ------
    OSError
        When the file cannot be read.
    DataError
        When it is no review of a format that is known.
    """
    name, data = role, given
    if hasattr(given, "to_json"):
        data = given.to_json()
    elif isinstance(given, str | os.PathLike):
        name = plain(os.fspath(given))
        data = _loaded(Path(given).expanduser(), name)
    if not isinstance(data, Mapping):
        _fail(name, f"found {type(data).__name__}")
    if data.get("format") != READS:
        _fail(name, f"found format {plain(json.dumps(data.get('format'), default=str), 40)}")
    _must_be_whole(name, data)
    try:
        return Side(name, data)
    except (AttributeError, KeyError, TypeError) as error:
        why = f"a part of it is no text, row or list as it has to be ({plain(str(error), 60)})"
        raise DataError(f"{name}: expected {_WANTED}; {why}") from error


def _loaded(path: Path, name: str) -> Any:  # noqa: ANN401 - whatever is in the file
    """Return what is in a JSON file."""
    content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        why = plain(str(error), 80)
        raise DataError(f"{name}: expected the JSON of a review, but it is none ({why})") from error


def _fail(name: str, found: str) -> NoReturn:
    """Refuse what is no review."""
    raise DataError(f"{name}: expected {_WANTED}; {found}")


def _must_be_whole(name: str, data: Mapping[str, Any]) -> None:
    """Refuse what says that it is a review, but lacks what is compared."""
    for key in ("summary", "window", "provenance", "tables"):
        if not isinstance(data.get(key), Mapping):
            _fail(name, f"{key} is not there, or no object")
    tables = {"findings": data.get("findings"), "coverage": data["tables"].get("coverage")}
    tables["not_judged"] = data["tables"].get("not_judged", [])
    for key, rows in tables.items():
        if not isinstance(rows, list) or not all(isinstance(each, Mapping) for each in rows):
            _fail(name, f"{key} is not there, or no list of rows")
    for at, row in enumerate(tables["findings"]):
        if not isinstance(row.get("kind"), str) or row.get("severity") not in SEVERITIES:
            _fail(name, f"findings[{at}] has no kind, or no severity that is known")
    for key in ("findings", "coverage"):
        for at, row in enumerate(tables[key]):
            if column := next((each for each in _TYPES if not _fits(row, each)), ""):
                _fail(name, f"{column} of {key}[{at}] is of another type")


def _fits(row: Mapping[str, Any], column: str) -> bool:
    """Tell whether what stands in a column may stand there."""
    value = row.get(column)
    return value is None or isinstance(value, _TYPES[column])


def _instant(text: Any, name: str, where: str) -> dt.datetime | None:  # noqa: ANN401
    """Return an instant of a JSON."""
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        _fail(name, f"{where} is {plain(repr(text), 40)}, no instant such as 2026-06-01T00:00:00Z")
    return moment.astimezone(dt.UTC)


def _policy(about: Any) -> Policy | None:  # noqa: ANN401 - a part of a JSON
    """Return what a review was held against; None where its texts do not tell."""
    values: dict[str, Any] = {}
    if not about:
        return None
    try:
        for key, entry in about.items():
            text, (table, _, number) = entry["value"], key.partition(" ")
            if number:
                values.setdefault(table, []).append(tomllib.loads(f"it = {{{text}}}")["it"])
            elif key != "schedule" and text != KEYS[key].none:
                values[key] = _LIKE.get(key, str)(text)
        return Policy(**values)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


_LIKE: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("retention_days", "export_within_days"), float),
    **dict.fromkeys(("min_redundancy", "max_chain"), int),
    "copies": lambda text: tuple(text.split(", ")),
}


def settle(sides: Sides) -> None:
    """Refuse reviews that cannot be compared, and work out what was owed in both.

    Parameters
    ----------
    sides : Sides
        The reviews. A ValueError tells why they cannot be compared.
    """
    before, now = sides
    if before.asked and now.asked and not before.asked & now.asked:
        raise ValueError(
            f"{before.name}: expected a review of the same instances; "
            f"it is of {listed(before.asked)}, {now.name} of {listed(now.asked)}"
        )
    if before.until and now.until and before.until > now.until:
        raise ValueError(
            f"{before.name}: expected an earlier review; it is as of "
            f"{format_instant(before.until)} UTC, {now.name} as of {format_instant(now.until)} UTC"
        )
    people: dict[Any, tuple[Any, Any]] = {}
    for side in sides:
        for row in side.coverage.values():
            people[row["instance_id"], row.get("tenant_id")] = row.get("tenant_name"), None
    for side in sides:
        for each in side.rows:
            people[each.whose] = each.told.get("tenant_name"), each.told.get("instance_name")
    columns = ["instance_id", "tenant_id", "tenant_name", "instance_name"]
    rows = [(*whose, *names) for whose, names in people.items()]
    frame = pd.DataFrame(rows, columns=columns, dtype="object")
    for side in sides:
        side.settle(frame)


def listed(names: Iterable[str]) -> str:
    """Return a few of some names, and how many more there are.

    Parameters
    ----------
    names : iterable of str
        The names, in any order.

    Returns
    -------
    str
        On one line.
    """
    told = [plain(name, 40) for name in sorted(names)]
    more = f" and {len(told) - _NAMED:,} more" if len(told) > _NAMED else ""
    return ", ".join(told[:_NAMED]) + more
