"""Tell which finding of one review is which of another, and what has become of each."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.kinds import KINDS
from obanalytics.wording import format_span, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obanalytics.earlier import Row, Side, Sides

CHANGES = ("new", "worse", "unknown", "better", "closed", "same")
"""What may have become of a finding."""
# One gap is of one of these kinds at a time: while it lasts, once it is over, at the window's head.
_GAPS = frozenset({"G1", "G2", "G3", "G4"})
# What is so now, once a tenant: its times move with "now", and no set may be there to prove it.
_STANDING = frozenset({"G13", "G14", "G15", "G17", "G26", "G27"})

# What is told of several runs or sets in a row; what of them tells two findings of a tenant apart.
_REPEATED, _SOON = frozenset({"G7", "G24"}), 1.5
_SUBJECT = {
    **dict.fromkeys(("G7", "G8"), re.compile(r"(?:[\d,]+|the) (\w+ )?runs? due ")),
    "G26": re.compile(r"copy in (.+?)(?: that)? can be restored"),
}
_LESS = frozenset({"G13", "G14", "G29"})  # less of what is measured is worse
# The limit that a kind is held against, as the policy's limits call it.
_LIMIT = {
    **dict.fromkeys(("G1", "G2", "G3", "G4", "G5", "G6", "G21", "G28"), "rpo"),
    **dict.fromkeys(("G14", "G15", "G17", "G31"), "retention"),
    "G8": "grace",
    "G9": "full_every",
    "G10": "max_chain",
    "G13": "min_redundancy",
    "G18": "max_running",
    "G20": "checkpoint_lag",
    "G26": "copy_within",
    "G27": "export_within",
}
_UNLIKE = frozenset({"G15", "G17"})  # what they measure is not what the limit limits
_HOURS, _AGES = 72, 1e6  # up to the one hours are told as such, from the other on they are no time
_GRACED = frozenset({"G1", "G2", "G3", "G4", "G5", "G6", "G9"})
_EPSILON = 1e-9  # two ways of one number
Pair = tuple["Row | None", "Row | None"]
"""A finding of the earlier review, and the same one of the later."""


def matched(before: list[Row], now: list[Row]) -> list[Pair]:
    """Pair the findings of two reviews, each with one at most, the likest first.

    Parameters
    ----------
    before, now : list of Row
        The findings of the earlier and of the later review, in any order.

    Returns
    -------
    list of tuple of Row or None
        Every finding of both, once; with None where the other review has not got it.
    """
    pairs: list[Pair] = []
    for sort in (_sort, _gap_or_sort):  # a gap that is over is told as another kind than before
        found = _paired(before, now, sort)
        before, now = _without(found, before, now)
        pairs += found
    return [*pairs, *((row, None) for row in before), *((None, row) for row in now)]


def _sort(row: Row) -> tuple[str, str]:
    """Return the kind of a finding, and what tells apart those that a tenant may have at a time."""
    told = _SUBJECT[row.kind].findall(str(row.told.get("sentence"))) if row.kind in _SUBJECT else ()
    return row.kind, told[-1] if told else ""


def _gap_or_sort(row: Row) -> tuple[str, str]:
    """Return the same; all kinds of gaps are one."""
    return ("gap", "") if row.kind in _GAPS else _sort(row)


def _without(pairs: list[Pair], before: list[Row], now: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return the findings that are in no pair."""
    taken = {id(row) for pair in pairs for row in pair}
    rest = ([row for row in rows if id(row) not in taken] for rows in (before, now))
    return next(rest), next(rest)


def _paired(before: list[Row], now: list[Row], sort: Callable[[Row], Any]) -> list[Pair]:
    """Pair findings of one sort, instance and tenant."""
    groups: dict[Any, tuple[list[Row], list[Row]]] = {}
    for side, rows in enumerate((before, now)):
        for row in rows:
            groups.setdefault((sort(row), row.whose), ([], []))[side].append(row)
    return [pair for group in groups.values() for pair in _best(*group)]


def _best(before: list[Row], now: list[Row]) -> list[Pair]:
    """Pair findings that may be the same, the likest first."""
    found = _plainly(before, now)
    before, now = _without(found, before, now)
    if not before or not now:
        return found
    taken: set[int] = set()
    liked = [(_likeness(a, b), a, b) for a, b in _near(before, now)]
    ranked = [(score, sorted((a.key, b.key)), a, b) for score, a, b in liked if score]
    for _, _, a, b in sorted(ranked, key=lambda each: each[:2]):
        if id(a) not in taken and id(b) not in taken:
            taken |= {id(a), id(b)}
            found.append((a, b))
    return found


def _plainly(before: list[Row], now: list[Row]) -> list[Pair]:
    """Pair what begins at one instant and is proved by the same sets, where that is one each."""
    sides = []
    for rows in (before, now):
        by: dict[Any, list[Row]] = {}
        for row in rows:
            if row.start is not None and row.ids:
                by.setdefault((row.start, row.ids), []).append(row)
        sides.append({key: each[0] for key, each in by.items() if len(each) == 1})
    return [(row, sides[1][key]) for key, row in sides[0].items() if key in sides[1]]


def _near(before: list[Row], now: list[Row]) -> Iterable[tuple[Row, Row]]:
    """Return the pairs that may be one: all others have neither times nor sets in common."""
    first, last = (np.array([getattr(row, key) for row in now]) for key in ("first", "last"))
    slack = max((_pace(row) for row in (*before, *now)), default=0.0) * _SOON
    named: dict[str, list[int]] = {}
    for at, row in enumerate(now):
        for name in row.ids:
            named.setdefault(name, []).append(at)
    for row in before:
        near = (first <= row.last + slack) & (last >= row.first - slack) | (first == row.first)
        places = set(np.flatnonzero(near | (row.kind in _STANDING)).tolist())
        places.update(at for name in row.ids for at in named.get(name, ()))
        yield from ((row, now[at]) for at in sorted(places))


def _pace(row: Row) -> float:
    """Return the time from one missed run, or one set, to the next [s]; 0 where it is not known."""
    many = number(row.told.get("measured")) or 0.0
    known = row.kind in _REPEATED and many > 1 and math.isfinite(row.last - row.first)
    return (row.last - row.first) / (many - 1) if known else 0.0


def _goes_on(a: Row, b: Row) -> bool:
    """Tell whether what is missed or absent is so from one finding to the other without a break."""
    return 0 < b.first - a.last <= _SOON * max(_pace(a), _pace(b))


def _likeness(a: Row, b: Row) -> tuple[Any, ...] | None:
    """Return how alike two findings are, less is more; None where they are two."""
    begun = a.start is not None and a.start == b.start
    shared = len(a.ids & b.ids)
    over = min(a.last, b.last) - max(a.first, b.first)
    instant = a.first == a.last or b.first == b.last
    touch = over > 0 or (over == 0 and instant)
    stand = a.kind in _STANDING and a.lasts and b.lasts
    if not (begun or shared or touch or stand or _goes_on(a, b) or _goes_on(b, a)):
        return None
    apart = math.inf if a.start is None or b.start is None else abs(a.first - b.first)
    share = shared / len(a.ids | b.ids) if shared else 0.0
    return not begun, -share, a.gist != b.gist, not touch, -max(over, 0.0), apart


def verdict(pair: Pair, sides: Sides) -> tuple[str, str]:
    """Return what has become of a finding, and why that is said.

    Parameters
    ----------
    pair : tuple of Row or None
        The finding in the earlier and in the later review.
    sides : Sides
        The reviews.

    Returns
    -------
    change : str
        One of `CHANGES`.
    why : str
        Empty where it says itself.
    """
    before, now = pair
    if now is not None:
        return ("new", _why_new(now, sides)) if before is None else _step(before, now)
    return _lost(before, sides) if before is not None else ("same", "")


def _step(before: Row, now: Row) -> tuple[str, str]:
    """Tell of a finding that both have which way it went."""
    notes = _moved_limit(before, now) + _heard(before, now)
    if before.kind != now.kind:
        notes.insert(0, f"{before.kind} {title(before)} before")
    over = before.lasts and not now.lasts
    if over or (now.kind == "G7" and before.ids < now.ids):  # a set that was made ends missed runs
        return "closed", "; ".join(["ended", *notes])
    if _goes_on(before, now):  # the window has cut it in two
        return "worse", "; ".join(["it goes on", *notes])
    if before.kind != now.kind and not now.lasts and not before.lasts:
        return "same", "; ".join(notes)
    if before.grade != now.grade:
        notes.insert(0, f"{now.told['severity']}, was {before.told['severity']}")
        return "worse" if now.grade < before.grade else "better", "; ".join(notes)
    limits = [number(row.told.get("limit")) for row in (before, now)]
    # Against another limit the same is neither better nor worse: then only what was measured is.
    scaled = not _moved_limit(before, now) and all(each is not None and each > 0 for each in limits)
    was, bad = _badness(before, scaled=scaled), _badness(now, scaled=scaled)
    if was == bad or math.isclose(was, bad, rel_tol=_EPSILON):
        return "same", "; ".join(notes)
    amounts = [_amount(row.told.get("measured"), row.told.get("unit")) for row in (now, before)]
    if amounts[0] != amounts[1]:
        notes.insert(0, f"{amounts[0]}, was {amounts[1]}")
    return "worse" if bad > was else "better", "; ".join(notes)


def _badness(row: Row, *, scaled: bool) -> float:
    """Return how bad what was measured is: more is worse."""
    measured, limit = (number(row.told.get(key)) for key in ("measured", "limit"))
    if measured is None:
        return math.inf
    if row.kind == "G34" and limit is not None:
        measured, scaled = abs(measured - limit), False
    value = measured / limit if scaled and limit else measured
    return -value if row.kind in _LESS else value


def _moved_limit(before: Row, now: Row) -> list[str]:
    """Say that a limit which somebody sets has changed."""
    was, limit = (number(row.told.get("limit")) for row in (before, now))
    inferred = {"data", "inferred"} & {row.told.get("limit_origin") for row in (before, now)}
    if was is None or limit is None or inferred or math.isclose(was, limit, rel_tol=_EPSILON):
        return []
    unit = now.told.get("unit")
    return [f"the limit was {_amount(was, unit)}, is {_amount(limit, unit)}"]


def _heard(before: Row, now: Row) -> list[str]:
    """Say that somebody has acknowledged a finding, or no longer does."""
    was, known = (bool(row.told.get("acknowledged")) for row in (before, now))
    return [] if was == known else ["acknowledged since" if known else "no longer acknowledged"]


def _why_new(row: Row, sides: Sides) -> str:
    """Say why a finding may be new though what it tells is not."""
    before, now = sides
    if reason := _unseen(row, before, "before"):
        return reason
    if row.whose[1] is not None and row.whose not in before.coverage and row.whose in now.coverage:
        return "its tenant was not known before"
    if row.start is not None and before.begin is not None and row.start < before.begin:
        return "it began before the earlier window"
    return _only_limit(row, before, sides)


def _lost(row: Row, sides: Sides) -> tuple[str, str]:
    """Tell of a finding that only the earlier review has what has become of it."""
    now = sides.now
    if not row.lasts and row.end is not None and now.begin is not None and row.end < now.begin:
        return "closed", "past the window"
    if reason := _unseen(row, now, "now"):
        return "unknown", reason
    why = _only_limit(row, now, sides)
    if row.whose in now.dropped:
        why = "its tenant was dropped"
    elif not why and row.whose[1] is not None and row.whose not in now.coverage:
        why = "its tenant has no sets now" if row.whose in sides.before.coverage else ""
    return "closed", f"no longer found: {why}" if why else "no longer found"


def _unseen(row: Row, other: Side, when: str) -> str:
    """Say why a review could not have found what the other one found."""
    instance = row.whose[0]
    if instance in other.failed:
        return f"its instance could not be read {when}"
    if instance is not None and other.asked and instance not in other.asked:
        return f"its instance was not asked for {when}"
    if other.excludes(row.whose):
        return f"the policy {'left' if when == 'before' else 'leaves'} its tenant out {when}"
    if row.kind in other.not_judged:
        return f"could not be judged {when}: {other.not_judged[row.kind]}"
    return ""


def _only_limit(row: Row, other: Side, sides: Sides) -> str:
    """Say that a finding would be in both reviews, or in none, had its limit stayed the same."""
    if row.kind == "G7":
        differ = any(side.said("schedule") != other.said("schedule") for side in sides)
        return "the policy's schedule has changed" if differ else ""
    key = _LIMIT.get(row.kind)
    was, limit = (None if key is None else side.limit(key, row.whose) for side in sides)
    if was is None or limit is None:
        return ""
    graces = [(side.limit("grace", row.whose) or 0.0) * (row.kind in _GRACED) for side in sides]
    if not alike(was, limit):
        unit = "sets" if key in {"max_chain", "min_redundancy"} else "h"
        told = [_amount(each, unit, "none") for each in (was, limit)]
        text = f"the limit was {told[0]}, is {told[1]}"
    elif not alike(*graces):
        text = f"the grace was {_amount(graces[0], 'h')}, is {_amount(graces[1], 'h')}"
    else:
        return ""
    at = sides.index(other)
    return text if _keeps(row, (was, limit)[at] + graces[at]) else ""


def _keeps(row: Row, bound: float) -> bool:
    """Tell whether what a finding measured is within a limit."""
    measured = number(row.told.get("measured"))
    if row.kind in _UNLIKE or math.isnan(bound):
        return True
    if measured is None:
        return False
    return measured >= bound if row.kind in _LESS else measured <= bound


def alike(one: float, other: float) -> bool:
    """Tell whether two numbers are the same, or both are not there.

    Parameters
    ----------
    one, other : float
        The numbers; NaN is not there.

    Returns
    -------
    bool
        True where they differ by rounding only.
    """
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=_EPSILON)


def number(value: Any) -> float | None:  # noqa: ANN401 - whatever a JSON holds
    """Return a number of a JSON.

    Parameters
    ----------
    value : object
        Whatever stands there.

    Returns
    -------
    float or None
        None where it is no number.
    """
    known = isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124
    return float(value) if known else None


def _amount(value: Any, unit: Any, none: str = "unbounded") -> str:  # noqa: ANN401
    """Return what was measured, or a limit, with its unit."""
    given = number(value)
    if given is None or not math.isfinite(given):
        return none
    if unit == "h" and given < _AGES and (given != int(given) or given > _HOURS):
        return format_span(pd.Timedelta(given * 3600, "s"))
    name = plain(unit, 20) if unit else ""
    name = name.removesuffix("s") if given == 1 else name
    return f"{given:,.10g} {name}".rstrip()


def title(row: Row) -> str:
    """Return the title of a finding's kind.

    Parameters
    ----------
    row : Row
        The finding.

    Returns
    -------
    str
        That of the review itself where the kind is not known here.
    """
    kind = KINDS.get(row.kind)
    return plain(row.told.get("title"), 60) if kind is None else kind.title
