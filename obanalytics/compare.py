"""Tell what has changed since an earlier review: what is new, worse, better, closed, or unknown."""

from __future__ import annotations

import html
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from obanalytics.asjson import jsonable
from obanalytics.earlier import Sides, listed, settle, side_of
from obanalytics.kinds import KINDS
from obanalytics.lines import aligned
from obanalytics.verdicts import CHANGES, alike, matched, number, title, verdict
from obanalytics.wording import (
    format_instant,
    format_number,
    format_share,
    format_span,
    plain,
    tenant_labels,
    words,
    wrapped,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from obanalytics.earlier import Side, Whose
    from obanalytics.verdicts import Pair

FORMAT = 1
"""The version of what `Comparison.to_json` returns."""
FATES = ("gone", "worse", "new", "unknown", "better", "same")
"""What may have become of a tenant."""
_WIDTH, _SHOWN = 100, 40
_WEIGHT = {"new": 0, "worse": 0, "unknown": 1, "better": 2, "closed": 2, "same": 3}
_ENTRIES = 10  # of a policy that are told
_AGES = 3e9  # a hundred years [s]
_SHARE = 5e-5  # a share that reads the same is the same


class AsJson(Protocol):
    """A review, or whatever else has its JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes."""


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Comparison:
    """Hold what has changed from one review to a later one.

    Parameters
    ----------
    findings : DataFrame
        A row per finding of either, the worst news first: `change` (`new`, `worse`, `unknown`,
        `better`, `closed`, `same`), `kind`, `title`, `severity`, `severity_before`, `instance_id`,
        `instance_name`, `tenant_id`, `tenant_name`, `start`, `end` [UTC], `measured`,
        `measured_before`, `limit`, `limit_before` (in `unit`), `unit`, `acknowledged`,
        `acknowledged_before`, `sentence`, `sentence_before`, `why`. What is of a review that has
        not got it is NA; `start` and `end` are the later review's where it has it.
    tenants : DataFrame
        A row per tenant of either: `change` (`new`, `gone`, `worse`, `better`, `same`, `unknown`),
        `instance_id`, `tenant_id`, `tenant_name`, `rpo_state_before`, `rpo_state_now`,
        `time_in_rpo_before`, `time_in_rpo_now` (shares), `exposure_before`, `exposure_now`
        [timedelta; NA where unbounded or not there].
    summary : DataFrame
        The numbers that matter: `name`, `earlier`, `now`, `change` (`better`, `worse`, `same`,
        `unknown`; empty where more is neither good nor bad).
    counts : dict of str to int
        How many findings there are of each change.
    notes : tuple of str
        What else differs, and what a reader should know.
    about : dict
        `earlier` and `now`: the name, `as_of` and window of both reviews.
    """

    findings: pd.DataFrame
    tenants: pd.DataFrame
    summary: pd.DataFrame
    counts: dict[str, int]
    notes: tuple[str, ...]
    about: dict[str, Any]

    def __repr__(self) -> str:
        """Return the text."""
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        left = "style='text-align:left;vertical-align:top'"
        told = self.findings[self.findings["change"] != "same"]
        lines = [(f"{row.change}: {row.kind} {row.title}", _told(row)) for row in _rows(told)]
        lines = [*lines[:_SHOWN], *_more(len(lines))]
        moved = [(f"tenant {row.change}", text) for row, text in self._moved()]
        lines += [*moved[:_SHOWN], *_more(len(moved))]
        lines += [("Note", plain(note)) for note in self.notes]
        body = "".join(
            f"<tr><th scope='row' {left}>{html.escape(plain(name))}</th>"
            f"<td {left}>{html.escape(text)}</td></tr>"
            for name, text in lines
        )
        caption = f"<caption style='text-align:left'>{html.escape(self._headline())}</caption>"
        return f"<table>{caption}<tbody>{body}</tbody></table>"

    def to_text(self) -> str:
        """Return what has changed for a terminal or a log, the worst news first.

        Returns
        -------
        str
            Lines of at most 100 cells. Findings that are the same are counted only.
        """
        lines = wrapped(self._headline(), _WIDTH)
        for note in map(plain, self.notes):
            lines += wrapped(note, _WIDTH, first="Note  ", rest=" " * 6)
        lines += ["", *aligned(self._numbers(), (False, True, True, False))]
        for change in CHANGES[:-1]:
            lines += _part(change, self.findings[self.findings["change"] == change])
        moved = self._moved()
        lines += ["", f"TENANTS ({len(moved):,})"] if moved else []
        for row, text in moved[:_SHOWN]:
            lines += wrapped(f"{row.change:<8}{text}", _WIDTH, rest=" " * 8)
        return "\n".join([*lines, *(text for _, text in _more(len(moved)))]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            format, earlier, now, counts, summary, tenants, findings, notes. Durations are seconds,
            instants ISO 8601 in UTC with Z, NA null.
        """
        frames = {name: getattr(self, name) for name in ("summary", "tenants", "findings")}
        whole = {
            "format": FORMAT,
            **self.about,
            "counts": self.counts,
            **{name: frame.to_dict("records") for name, frame in frames.items()},
            "notes": self.notes,
        }
        return {name: jsonable(value) for name, value in whole.items()}

    def _headline(self) -> str:
        """Say in one sentence what has changed."""
        whens = [
            f"{format_instant(when)} UTC" if (when := self.when(key)) else "no known time"
            for key in ("earlier", "now")
        ]
        told = [f"{count:,} {name}" for name, count in self.counts.items() if count]
        found = f"findings: {', '.join(told)}" if told else "no findings in either"
        return f"From the review of {whens[0]} to that of {whens[1]}; {found}."

    def when(self, key: str) -> Any:  # noqa: ANN401 - a Timestamp or None
        """Return the instant that a review tells of.

        Parameters
        ----------
        key : str
            earlier or now.

        Returns
        -------
        Timestamp or None
            Its `as_of`, or the end of its window where that is earlier [UTC].
        """
        about = self.about[key]
        known = [each for each in (about["as_of"], about["window"]["end"]) if each is not None]
        return min(known, default=None)

    def _numbers(self) -> list[list[str]]:
        """Return the table of the numbers that matter."""
        rows = [["", "earlier", "now", ""]]
        for row in _rows(self.summary):
            show = _NUMBERS[row.name][1]
            rows.append([_label(row.name), show(row.earlier), show(row.now), row.change])
        return rows

    def _moved(self) -> list[tuple[Any, str]]:
        """Return the tenants that are not the same, and what has become of each."""
        moved = self.tenants[self.tenants["change"] != "same"]
        told = []
        for row, label in zip(_rows(moved), tenant_labels(moved, 40), strict=True):
            states = [_or_none(row.rpo_state_before), _or_none(row.rpo_state_now)]
            shares = [format_share(row.time_in_rpo_before), format_share(row.time_in_rpo_now)]
            spans = [format_span(row.exposure_before), format_span(row.exposure_now)]
            pairs = zip(("", "time in RPO ", "exposure "), (states, shares, spans), strict=True)
            text = ", ".join(f"{name}{_from_to(*pair)}" for name, pair in pairs)
            told.append((row, f"{label}: {text}"))
        return told


def comparison(
    now: AsJson, earlier: AsJson | Mapping[str, Any] | str | os.PathLike[str]
) -> Comparison:
    """Compare a review with an earlier one of the same instances.

    Parameters
    ----------
    now : Review
        The later review.
    earlier : Review, dict or path
        The earlier one, the dict of its `to_json`, or a JSON file that holds it.

    Returns
    -------
    Comparison
        What has changed.

    Raises
    ------
    OSError
        When the file cannot be read.
    DataError
        When what is given, or in the file, is no review of a format that is known.
    ValueError
        When both reviews are of entirely other instances, or `earlier` is the later one.

    Notes
    -----
    A finding of one review is one of the other when kind, instance and tenant are the same and it
    begins at the same instant, or sets that prove it are the same, or its times overlap; of several
    the likest. So is a gap that is told as another kind since it is over (G3, then G4). Everything
    is taken from the JSON of both reviews.
    """
    sides = Sides(side_of(earlier, "the earlier review"), side_of(now, "this review"))
    settle(sides)
    pairs = matched(sides.before.rows, sides.now.rows)
    findings = _findings_frame(pairs, sides)
    counts = Counter(findings["change"])
    about = {"earlier": sides.before.about(), "now": sides.now.about()}
    return Comparison(
        findings=findings,
        tenants=_tenants_frame(sides),
        summary=_summary_frame(sides),
        counts={change: counts[change] for change in CHANGES},
        notes=_notes(sides),
        about=about,
    )


# --- the tables -----------------------------------------------------------------------------------


def _findings_frame(pairs: list[Pair], sides: Sides) -> pd.DataFrame:
    """Return every finding of either review, the worst news first."""
    made = []
    for before, now in pairs:
        row = now or before
        if row is None:
            continue
        change, why = verdict((before, now), sides)
        known = bool(row.told.get("acknowledged"))
        place = int(row.kind[1:]) if row.kind[1:].isdecimal() else len(KINDS) + 1
        whose = tuple(each or "" for each in row.whose)
        order = (_WEIGHT[change], known, row.grade, CHANGES.index(change), place, whose, row.first)
        told: dict[str, Any] = {"change": change, "kind": row.kind, "title": title(row), "why": why}
        told |= {key: row.told.get(key) for key in _OWN} | {"start": row.start, "end": row.end}
        for key in _BOTH:
            told[key], told[f"{key}_before"] = (
                None if each is None else each.told.get(key) for each in (now, before)
            )
        made.append(((*order, row.key), told))
    rows = [told for _, told in sorted(made, key=lambda each: each[0])]
    return _frame(rows, _FINDINGS)


def _tenants_frame(sides: Sides) -> pd.DataFrame:
    """Return every tenant of either review, the worst news first."""
    made = []
    gone = [side.dropped for side in sides]
    for whose in {**sides.before.coverage, **sides.now.coverage}:
        before, now = (side.coverage.get(whose) for side in sides)
        row = now or before or {}
        fate = _fate(whose, before, now, sides)
        if whose in gone[1] and fate != "unknown":  # it owes nothing, however long ago its sets are
            fate = "same" if whose in gone[0] else "gone"
        told = {"change": fate, "instance_id": whose[0]}
        told |= {"tenant_id": whose[1], "tenant_name": row.get("tenant_name")}
        for when, each in (("before", before), ("now", now)):
            told[f"rpo_state_{when}"] = (each or {}).get("rpo_state")
            told[f"time_in_rpo_{when}"] = number((each or {}).get("time_in_rpo"))
            told[f"exposure_{when}"] = _seconds((each or {}).get("exposure_now"))
        made.append(told)
    made.sort(key=lambda told: (FATES.index(told["change"]), *map(str, _key(told))))
    return _frame(made, _TENANTS)


def _key(told: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the instance and the tenant of a row."""
    return told["instance_id"], told["tenant_id"]


def _fate(whose: Whose, before: Any, now: Any, sides: Sides) -> str:  # noqa: ANN401
    """Return what has become of a tenant."""
    for mine, side, fate in ((before, sides.before, "new"), (now, sides.now, "gone")):
        if mine is None:
            known = whose[0] in side.asked - side.failed or not side.asked
            return fate if known and not side.excludes(whose) else "unknown"
    states = [each.get("rpo_state") for each in (before, now)]
    if states[0] != states[1]:
        known = set(states) == {"inside", "outside"}
        return ("worse" if states[1] == "outside" else "better") if known else "unknown"
    if states[0] == "outside":
        was, ratio = (number(each.get("rpo_ratio")) for each in (before, now))
        gone = math.inf if was is None else was, math.inf if ratio is None else ratio
        return "same" if alike(*gone) else "worse" if gone[1] > gone[0] else "better"
    shares = [number(each.get("time_in_rpo")) for each in (before, now)]
    gaps = [number(each.get("gap_total")) or 0.0 for each in (before, now)]
    if shares[0] is None or shares[1] is None or abs(shares[0] - shares[1]) < _SHARE:
        return "same"
    # A share moves with the window alone: only with the time outside it tells of the tenant.
    if shares[1] < shares[0]:
        return "worse" if gaps[1] > gaps[0] else "same"
    return "better" if gaps[1] < gaps[0] else "same"


def _summary_frame(sides: Sides) -> pd.DataFrame:
    """Return the numbers that matter of both reviews."""
    read = [side.asked - side.failed for side in sides]
    owed = [_owed(side) for side in sides]
    rows = []
    for name, (good, _) in _NUMBERS.items():
        if all(name not in side.data["summary"] for side in sides):
            continue
        was, value = (_value(name, side) for side in sides)
        change = _turn(was, value, good) if good else ""
        unlike = read[0] != read[1] or (name in _BY_LIMITS and owed[0] != owed[1])
        if change in {"better", "worse"} and name != "failed_instances" and unlike:
            change = (
                "unknown"  # fewer may be seen only because fewer were looked at, or less is owed
            )
        rows.append({"name": name, "earlier": was, "now": value, "change": change})
    frame = pd.DataFrame(rows, columns=["name", "earlier", "now", "change"], dtype="object")
    return frame.astype({"name": "string", "change": "string"})


# What depends on limits and on whom a policy leaves out.
_BY_LIMITS = {
    *("time_in_rpo", "tenants_inside", "tenants_outside", "tenants_unknown", "gaps"),
    *("longest_gap", "critical", "warnings", "notes_found", "tenants_without_sets", "anomalies"),
}


def _owed(side: Side) -> tuple[Any, ...]:
    """Return what a review held everybody to."""
    data = side.data
    limits = (data.get(key) for key in ("rpo", "grace"))
    return (*limits, side.texts, data["summary"].get("excluded"))


def _value(name: str, side: Side) -> Any:  # noqa: ANN401 - a number of any kind
    """Return a number of a summary as what it is; None where it is not known."""
    summary = side.data["summary"]
    value = summary.get(name)
    if name == "newest_restore_point":
        return None if side.newest is None else pd.Timestamp(side.newest)
    if name == "longest_gap":
        value = 0 if value is None and summary.get("gaps") == 0 else _seconds(value)
        return None if value is None else pd.Timedelta(value, "s")
    return len(value) if isinstance(value, list | tuple) else number(value)


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - whatever a JSON holds
    """Return a duration of a JSON [s]; None where it is none, or longer than any."""
    given = number(value)
    return None if given is None or abs(given) > _AGES else given


def _turn(was: Any, value: Any, good: int) -> str:  # noqa: ANN401 - numbers, or durations
    """Tell whether a number has become better or worse."""
    if was is None or value is None:
        return "same" if was is value else "unknown"
    if was == value:
        return "same"
    return "better" if (value > was) == (good > 0) else "worse"


def _frame(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return rows as a table whose types do not hang on what is in it."""
    made = {}
    for name, kind in columns.items():
        values = [row[name] for row in rows]
        if kind == "span":
            seconds = pd.Series(values, dtype="float64")
            made[name] = pd.to_timedelta(seconds, unit="s").astype("timedelta64[us]")
        else:
            made[name] = pd.Series(values, dtype=kind)
    return pd.DataFrame(made, columns=[*columns])


_UTC = "datetime64[us, UTC]"
_OWN = ("instance_id", "instance_name", "tenant_id", "tenant_name", "unit")
_BOTH = ("severity", "measured", "limit", "acknowledged", "sentence")
_FINDINGS = {
    **dict.fromkeys(("change", "kind", "title", "severity", "severity_before"), "string"),
    **dict.fromkeys(("instance_id", "instance_name", "tenant_id", "tenant_name"), "string"),
    "start": _UTC,
    "end": _UTC,
    **dict.fromkeys(("measured", "measured_before", "limit", "limit_before"), "float64"),
    "unit": "string",
    **dict.fromkeys(("acknowledged", "acknowledged_before"), "boolean"),
    **dict.fromkeys(("sentence", "sentence_before", "why"), "string"),
}
_TENANTS = {
    **dict.fromkeys(("change", "instance_id", "tenant_id", "tenant_name"), "string"),
    **dict.fromkeys(("rpo_state_before", "rpo_state_now"), "string"),
    **dict.fromkeys(("time_in_rpo_before", "time_in_rpo_now"), "float64"),
    **dict.fromkeys(("exposure_before", "exposure_now"), "span"),
}


def _size(value: Any) -> str:  # noqa: ANN401 - a number
    """Return a size."""
    return format_number(value, 2)


def _label(name: str) -> str:
    """Return the name of a number in words."""
    return words(name).replace("rpo", "RPO").replace("gib", "GiB")


def _moment(value: Any) -> str:  # noqa: ANN401 - an instant
    """Return an instant."""
    return format_instant(pd.NaT if value is None else value)


# What is told of a summary: whether more is better (1) or worse (-1) or neither, and how.
_NUMBERS: dict[str, tuple[int, Callable[[Any], str]]] = {
    "time_in_rpo": (1, format_share),
    "tenants_outside": (-1, format_number),
    "tenants_unknown": (-1, format_number),
    "tenants_without_sets": (-1, format_number),
    "critical": (-1, format_number),
    "warnings": (-1, format_number),
    "notes_found": (0, format_number),
    "acknowledged": (0, format_number),
    "gaps": (-1, format_number),
    "longest_gap": (-1, format_span),
    "failed_instances": (-1, format_number),
    "instances": (0, format_number),
    "tenants": (0, format_number),
    "sets": (0, format_number),
    "restore_points": (0, format_number),
    "newest_restore_point": (0, _moment),
    "running": (0, format_number),
    "slower": (-1, format_number),
    "anomalies": (-1, format_number),
    "stored_gib": (0, _size),
    "not_judged": (0, format_number),
    "excluded": (0, format_number),
}


# --- what else differs ----------------------------------------------------------------------------


def _notes(sides: Sides) -> tuple[str, ...]:
    """Say what else differs between two reviews."""
    before, now = sides
    notes = [
        f"{text}: {listed(names)}"
        for text, names in (
            ("not read now, so nothing is known of them", now.failed),
            ("not read earlier, so what is theirs may only seem new", before.failed),
            ("instances of the earlier review only", now.asked and before.asked - now.asked),
            ("instances of this review only", before.asked and now.asked - before.asked),
        )
        if names
    ]
    for text, one, other in (("now", now, before), ("earlier", before, now)):
        if kinds := [kind for kind in one.not_judged if kind not in other.not_judged]:
            notes.append(f"not judged {text}, but in the other review: {', '.join(kinds)}")
    if before.until is None or now.until is None:
        notes.append("one of the reviews has no as_of: which is the later one is not known")
    graces = [side.data.get("grace") for side in sides]
    if graces[0] != graces[1] and all(isinstance(each, int | float) for each in graces):
        told = [format_span(pd.Timedelta(each, "s")) for each in graces]
        notes.append(f"gaps let {told[0]} beyond the RPO pass earlier, {told[1]} now")
    models = [side.data["summary"].get("model") for side in sides]
    if models[0] != models[1]:
        told = [plain(each, 20) for each in models]
        notes.append(f"exposure was measured by the {told[0]} model, now by the {told[1]} one")
    return (*notes, *_window_notes(sides), *_policy_notes(sides))


def _window_notes(sides: Sides) -> list[str]:
    """Say that the reviews did not look at as much time."""
    if (sides.before.begin is None) != (sides.now.begin is None):
        return ["one of the reviews looks at a window, the other at all that there is"]
    spans = [side.end - side.begin for side in sides if side.end and side.begin]
    if len(set(spans)) < 2:  # noqa: PLR2004 - one length, or none
        return []
    told = [format_span(pd.Timedelta(each)) for each in spans]
    return [f"the windows are not of one length: {told[0]} earlier, {told[1]} now"]


def _policy_notes(sides: Sides) -> list[str]:
    """Say that the policies differ."""
    was, version = (side.version for side in sides)
    notes = []
    if was != version:
        notes.append(f"made by obanalytics {was} and {version}: they may judge differently")
    if any(side.policy is None for side in sides):
        notes.append("a policy cannot be read back: whom it leaves out is not told from it")
    if not all(side.texts for side in sides):
        return notes
    olds, news = (side.texts for side in sides)
    keys = [key for key in {**olds, **news} if olds.get(key) != news.get(key)]
    for key in keys[:_ENTRIES]:
        texts = [plain(each[key], 60) if key in each else "not there" for each in (olds, news)]
        notes.append(f"policy, {plain(key, 30)}: was {texts[0]}, is {texts[1]}")
    if more := len(keys[_ENTRIES:]):
        notes.append(f"policy: {more:,} more of its entries differ")
    return notes


# --- what is shown --------------------------------------------------------------------------------


def _rows(frame: pd.DataFrame) -> Iterable[Any]:
    """Return the rows of a table."""
    yield from frame.itertuples(index=False)


def _told(row: Any) -> str:  # noqa: ANN401 - a row of the findings
    """Return a finding in one line."""
    sentence = row.sentence_before if pd.isna(row.sentence) else row.sentence
    return plain(sentence) + (f" ({plain(row.why)})" if row.why else "")


def _part(change: str, rows: pd.DataFrame) -> list[str]:
    """Return one part of the text; nothing where nothing has changed that way."""
    lines = ["", f"{change.upper()} ({len(rows):,})"] if len(rows) else []
    for row in _rows(rows.head(_SHOWN)):
        grade = row.severity_before if pd.isna(row.severity) else row.severity
        known = row.acknowledged_before if pd.isna(row.acknowledged) else row.acknowledged
        marks = f"[{grade}{', acknowledged' if known is True else ''}]"
        lines += wrapped(f"{plain(row.kind, 6):<4} {plain(row.title, 60)} {marks}", _WIDTH)
        sentence = row.sentence_before if pd.isna(row.sentence) else row.sentence
        lines += wrapped(plain(sentence), _WIDTH, first=" " * 5, rest=" " * 5)
        if row.why:
            lines += wrapped(plain(row.why), _WIDTH, first=" " * 5 + "-> ", rest=" " * 8)
    return lines + [f"     {text}" for _, text in _more(len(rows))]


def _more(count: int) -> list[tuple[str, str]]:
    """Say how many are not shown."""
    return [("", f"and {count - _SHOWN:,} more")] if count > _SHOWN else []


def _or_none(state: Any) -> str:  # noqa: ANN401 - a text or NA
    """Return a state in words."""
    return "not there" if pd.isna(state) else words(state)


def _from_to(was: str, value: str) -> str:
    """Return what something was and is; once where it did not change."""
    return value if was == value else f"{was} -> {value}"
