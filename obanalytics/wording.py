"""Put names, durations and findings into words that are safe to show anywhere."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

NAME_CELLS = 26
"""The most columns that a tenant's label takes."""
_LEAST_TAIL = 5  # characters of an instance id that a label keeps
_UNIT = re.compile(
    r"(?<=\d) (?=(?:[dhs%]|min|UTC)\b|%)|(?<=\d{4}-\d\d-\d\d) (?=\d\d:)|(?<=RPO) (?=\d)"
)
_BETWEEN = " · "
_MARKS = 4  # characters per cell, at most: combining ones take no cell, and may be thousands


def cells(text: str) -> int:
    """Count how many columns a text takes in a terminal.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    int
        Its width: two for a wide character, none for a combining one.
    """
    return sum(_width(char) for char in text)


def plain(text: object, limit: int | None = None) -> str:
    r"""Return a name as text that is safe to show: one line, nothing invisible, not too long.

    Parameters
    ----------
    text : object
        A name as it came; NA and the empty text have none.
    limit : int or None
        The most cells it may take.

    Returns
    -------
    str
        Control, direction and format characters as visible escapes such as ``\n``; an ellipsis
        where it was cut; ``(no name)`` where there is none.
    """
    whole = "" if text is None or text is pd.NA or text != text else str(text)  # noqa: PLR0124 - NaN
    shown = whole
    if not whole.strip():
        shown = "(no name)"
    elif not whole.isprintable():
        shown = "".join(_escape(char) for char in whole)
    if limit is None or (cells(shown) <= limit and len(shown) <= _MARKS * limit):
        return shown
    return _fitting(shown, limit - 1) + "…"


def format_span(span: object) -> str:
    """Return a duration in its two largest units.

    Parameters
    ----------
    span : Timedelta or NaT
        The duration.

    Returns
    -------
    str
        Such as ``3 d 4 h``, ``1 h 05 min``, ``44 min``, ``12 s``; ``n/a`` for NA.
    """
    if pd.isna(span):
        return "n/a"
    value = pd.Timedelta(span)
    seconds = abs(value.total_seconds())
    sign = "-" if value < pd.Timedelta(0) and seconds > 0.5 else ""  # noqa: PLR2004 - else 0 s
    if seconds < 59.5:  # noqa: PLR2004 - what would round to a minute
        return f"{sign}{seconds:.0f} s"
    minutes = int(seconds / 60 + 0.5)
    if minutes < 60:  # noqa: PLR2004 - minutes of an hour
        return f"{sign}{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004 - "26 h" is how people say it
        return f"{sign}{hours} h {minutes:02} min" if minutes else f"{sign}{hours} h"
    days, hours = divmod(int(seconds / 3600 + 0.5), 24)
    return f"{sign}{days} d {hours} h" if hours else f"{sign}{days} d"


def format_share(share: float) -> str:
    """Return a share in percent, rounded towards zero: 100 % is all of it.

    Parameters
    ----------
    share : float
        Between 0 and 1; NaN is not known.

    Returns
    -------
    str
        Such as ``99.98 %``; ``n/a`` for NaN.
    """
    if pd.isna(share):
        return "n/a"
    if share >= 1:
        return "100 %"
    # The product may be a hair under what it stands for: 10,000 times 0.29 is 2,899.999….
    return f"{min(int(share * 1e4 + 1e-9), 9999) / 100:.2f} %"


def tenant_labels(frame: pd.DataFrame, limit: int = NAME_CELLS) -> list[str]:
    """Name the tenants of a frame so that a reader can tell them apart.

    Parameters
    ----------
    frame : DataFrame
        Has instance_id, tenant_id and tenant_name.
    limit : int
        The most cells a label may take.

    Returns
    -------
    list of str
        A label per row: the name, with the instance where there are several, with the id where two
        would read the same.
    """
    keys = list(zip(frame["instance_id"], frame["tenant_id"], strict=True))
    called = dict(zip(reversed(keys), reversed([*frame["tenant_name"]]), strict=True))
    tails = _tails(list(called.items()), limit)
    labels = {key: _label(plain(name), tails[key[0]], limit) for key, name in called.items()}
    counts = Counter(labels.values())
    for key, label in labels.items():
        if counts[label] > 1:
            tail = tails[key[0]]
            labels[key] = _label(_ends(plain(key[1]), limit - _taken(tail)), tail, limit)
    labels = _numbered(labels, limit)
    return [labels[key] for key in keys]


def mode_name(full: object) -> str:
    """Return a mode in words.

    Parameters
    ----------
    full : bool or NA
        True for a full set, False for an incremental one.

    Returns
    -------
    str
        ``full``, ``incremental`` or ``unknown mode``.
    """
    return "unknown mode" if pd.isna(full) else "full" if full else "incremental"


def words(label: object) -> str:
    """Return a label of ours in words.

    Parameters
    ----------
    label : object
        A cause, a state, a verdict; NA has none.

    Returns
    -------
    str
        Such as ``missing from cluster set``.
    """
    return "n/a" if pd.isna(label) else plain(label).replace("_", " ")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Parameters
    ----------
    count : int
        How many.
    noun : str
        What, in the singular.

    Returns
    -------
    str
        Such as ``1 gap`` or ``1,200 gaps``.
    """
    return f"{count:,} {noun}" if count == 1 or noun.endswith("s") else f"{count:,} {noun}s"


def coverage_sentence(coverage: pd.DataFrame, gaps: pd.DataFrame, moment: str = "now") -> str:
    """Say in one sentence what the coverage tables show.

    Parameters
    ----------
    coverage, gaps : DataFrame
        What `rpo_compliance` and `coverage_gaps` returned.
    moment : str
        How the instant of the state is called.

    Returns
    -------
    str
        How many tenants are outside their RPO now, and the longest gap.
    """
    tenants = coverage[coverage["instance_id"].notna()]
    is_outside = tenants["rpo_ratio"] > 1
    if "rpo_state" in tenants:  # a review knows which of them hang on what is unknown
        is_outside = tenants["rpo_state"] == "outside"
    outside, count = int(is_outside.sum()), len(tenants)
    if not count:
        return "No tenant has a backup set in this window"
    head = f"{outside or 'None'} of {plural(count, 'tenant')} outside the RPO {moment}"
    if gaps.empty:
        return f"{head}; no gap in the window"
    return f"{head}; {plural(len(gaps), 'gap')}, {_longest(gaps)}"


def gap_sentence(gaps: pd.DataFrame) -> str:
    """Say in one sentence what the gaps show, where nothing else is known.

    Parameters
    ----------
    gaps : DataFrame
        What `coverage_gaps` returned.

    Returns
    -------
    str
        How many tenants have gaps, how many gaps, and the longest.
    """
    if gaps.empty:
        return "No tenant was outside its RPO in this window"
    count = len(gaps.drop_duplicates(["instance_id", "tenant_id"]))
    have = "has" if count == 1 else "have"
    return f"{plural(count, 'tenant')} {have} {plural(len(gaps), 'gap')}, {_longest(gaps)}"


def cause_of(gap: Any) -> str:  # noqa: ANN401 - a row of `coverage_gaps`
    """Say why there was a gap, and whether that is known.

    Parameters
    ----------
    gap : named tuple or Series
        A row of what `coverage_gaps` returned.

    Returns
    -------
    str
        Such as ``silent`` or ``unusable (not known)``.
    """
    doubt = {"unknown": " (not known)", "partly": " (partly known)"}
    return words(gap.cause) + doubt.get(gap.certainty, "")


def _longest(gaps: pd.DataFrame) -> str:
    """Name the longest gap, by that of it which is known; none of it may be."""
    known = gaps["gap"] - gaps["unknown"]
    length = known if (known > pd.Timedelta(0)).any() else gaps["gap"]
    row = gaps.iloc[int(length.argmax())]
    who = f"{plain(row['tenant_name'], NAME_CELLS)}, {cause_of(row)}"
    return f"the longest {format_span(length.max())} ({who})"


def growth_sentence(growth: pd.DataFrame) -> str:
    """Say in one sentence what the growth table shows.

    Parameters
    ----------
    growth : DataFrame
        What `size_growth` returned.

    Returns
    -------
    str
        How many tenants' full sets grow, and the fastest.
    """
    full = growth[growth["full"].fillna(value=False).astype(bool)]
    rated = full[full["percent_per_30d"].notna()]
    if rated.empty:
        return "Full sets: too little history for a growth rate"
    growing, count = int((rated["verdict"] == "growing").sum()), len(rated)
    top = rated.iloc[int(rated["percent_per_30d"].argmax())]
    name, rate = plain(top["tenant_name"], NAME_CELLS), f"{top['percent_per_30d']:+.1f} %"
    return (
        f"Full sets grow in {growing} of {plural(count, 'tenant')}; "
        f"fastest: {name}, {rate} in 30 days"
    )


def duration_sentence(durations: pd.DataFrame) -> str:
    """Say in one sentence what the durations table shows.

    Parameters
    ----------
    durations : DataFrame
        What `duration_trends` returned.

    Returns
    -------
    str
        How many series get slower, the longest p95, and how many runs are unfinished.
    """
    timed = durations[durations["p50"].notna()]
    running = int(durations["running"].sum())
    tail = f"; {plural(running, 'run')} unfinished now" if running else ""
    if timed.empty:
        return f"No finished backup set has a duration{tail}"
    slower, rated = int((timed["percent_per_30d_low"] > 0).sum()), timed["percent_per_30d"].count()
    top = timed.iloc[int(timed["p95"].argmax())]
    trend = f"{slower} of {rated} series get slower" if rated else "Too little history for a trend"
    name = plain(top["tenant_name"], NAME_CELLS)
    return f"{trend}; longest p95: {format_span(top['p95'])} ({name}, {mode_name(top['full'])})" + (
        tail
    )


def worst_first(coverage: pd.DataFrame) -> pd.DataFrame:
    """Sort tenants for a reader: outside the RPO now, then by their time inside it.

    Parameters
    ----------
    coverage : DataFrame
        What `rpo_compliance` returned.

    Returns
    -------
    DataFrame
        Its rows, the worst first; a fleet row last.
    """
    ratio = coverage["rpo_ratio"].to_numpy(np.float64)
    share = coverage["time_in_rpo"].fillna(-1.0).to_numpy(np.float64)
    over = np.where(ratio > 1, -ratio, 0.0)
    return coverage.iloc[np.lexsort((share, over, coverage["instance_id"].isna()))]


def most_gaps_first(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the tenants that have gaps, sorted for a reader.

    Parameters
    ----------
    gaps : DataFrame
        What `coverage_gaps` returned.

    Returns
    -------
    DataFrame
        One of the gaps per tenant: first who is in one at the end, then by the time in gaps.
    """
    keys = ["instance_id", "tenant_id"]
    is_open = gaps["position"].isin(["tail", "whole"])
    rows = gaps.assign(open=is_open, total=gaps["gap"])
    sums = rows.groupby(keys, observed=True, sort=False)[["open", "total"]]
    worst = sums.agg({"open": "max", "total": "sum"}).sort_values(
        ["open", "total"], ascending=False, kind="stable"
    )
    one = gaps.drop_duplicates(keys).set_index(keys, drop=False)
    return one.loc[worst.index].reset_index(drop=True)


def wrapped(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Return a text as lines of so many cells; a number stays with its unit.

    Parameters
    ----------
    text : str
        The text.
    width : int
        The most cells that a line takes.
    first, rest : str
        What the first line and the others begin with.

    Returns
    -------
    list of str
        The lines; a word that is too long for one is cut into several.
    """
    lines: list[str] = []
    line, begin = "", first
    for word in _UNIT.sub("\u00a0", text).split(" "):
        joined = f"{line} {word}" if line else word
        if cells(begin + joined) <= width:
            line = joined
            continue
        if line:
            lines.append(begin + line)
            begin = rest
        line = word
        while cells(begin + line) > width:
            part = _fitting(line, width - cells(begin)) or line[:1]
            lines.append(begin + part)
            begin, line = rest, line[len(part) :]
    lines += [begin + line] if line else []
    return [each.replace("\u00a0", " ") for each in lines]


def format_instant(moment: object) -> str:
    """Return an instant to the minute.

    Parameters
    ----------
    moment : Timestamp or NaT
        The instant [UTC].

    Returns
    -------
    str
        Such as ``2026-06-01 08:31``; ``n/a`` for NA. The head or the sentence says UTC.
    """
    return "n/a" if pd.isna(moment) else f"{pd.Timestamp(moment):%Y-%m-%d %H:%M}"


def format_number(value: object, digits: int = 0, *, sign: bool = False) -> str:
    """Return a number with its thousands apart.

    Parameters
    ----------
    value : int, float or NA
        The number.
    digits : int
        Behind the point.
    sign : bool
        Whether a plus is written.

    Returns
    -------
    str
        Such as ``+1,234.5``; ``n/a`` for NA.
    """
    return "n/a" if pd.isna(value) else f"{value:{'+' if sign else ''},.{digits}f}"


def format_interval(low: object, high: object, digits: int) -> str:
    """Return the bounds of an interval.

    Parameters
    ----------
    low, high : float
        The bounds.
    digits : int
        Behind the point.

    Returns
    -------
    str
        Such as ``+1.2 to +3.4``; ``n/a`` for NA.
    """
    if pd.isna(low):
        return "n/a"
    return f"{format_number(low, digits, sign=True)} to {format_number(high, digits, sign=True)}"


def _width(char: str) -> int:
    """Return how many cells a character takes."""
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def _escape(char: str) -> str:
    """Return a character, or what stands for it where it would act or not be seen."""
    if char.isprintable():
        return char
    return "\u200d" if char == "\u200d" else char.encode("unicode_escape").decode()


def _fitting(text: str, room: int) -> str:
    """Return as much of the beginning of a text as fits into so many cells."""
    kept = ""
    for char in text[: _MARKS * max(room, 0)]:
        room -= _width(char)
        if room < 0:
            break
        kept += char
    return kept


def _ends(text: str, room: int) -> str:
    """Return a text that fits, without its middle: ids differ at their ends."""
    if cells(text) <= room:
        return text
    return _fitting(text, room // 2) + "…" + _fitting(text[::-1], (room - 1) // 2)[::-1]


def _tails(keys: list[tuple[tuple[object, object], object]], limit: int) -> dict[object, str]:
    """Return what tells the instances apart behind a name; nothing where there is but one.

    Where it would not fit, an instance id is cut to as few characters as tell it from the others.
    """
    whole = {instance: plain(instance) for (instance, _), _ in keys}
    if len(whole) < 2:  # noqa: PLR2004 - one needs no telling apart
        return dict.fromkeys(whole, "")
    if max(cells(plain(name)) + _taken(whole[key[0]]) for key, name in keys) <= limit:
        return whole
    most = max(map(len, whole.values()))
    for size in range(_LEAST_TAIL, min(limit // 2 - 1, most) + 1):
        if len({text[:size] for text in whole.values()}) == len(whole):
            return {key: plain(text, size + 1) for key, text in whole.items()}
    return {key: _ends(text, limit // 2) for key, text in whole.items()}


def _taken(tail: str) -> int:
    """Return the cells that what tells an instance takes."""
    return cells(tail) + len(_BETWEEN) if tail else 0


def _label(text: str, tail: str, limit: int) -> str:
    """Return a name with what tells its instance."""
    return plain(text, limit - _taken(tail)) + (_BETWEEN + tail if tail else "")


def _numbered(labels: dict[tuple[Any, Any], str], limit: int) -> dict[tuple[Any, Any], str]:
    """Return labels of which no two are the same: those that still are get a number."""
    counts, used, made = Counter(labels.values()), set(labels.values()), {}
    for key, label in labels.items():
        made[key], number = label, 1
        while counts[label] > 1 and made[key] in used:
            mark = f" #{number}"
            made[key], number = plain(label, limit - len(mark)) + mark, number + 1
        used.add(made[key])
    return made


def model_sentence(*frames: pd.DataFrame | None) -> str:
    """Say by which model a table was made.

    Parameters
    ----------
    *frames : DataFrame or None
        Tables of one model; the first that records it is believed.

    Returns
    -------
    str
        A sentence.
    """
    found = (frame.attrs.get("model") for frame in frames if frame is not None)
    return _MODELS.get(next(filter(None, found), ""), "Model not recorded in this table.")


_MODELS = {
    "point": "Point model: log backups not considered.",
    "log": "Log model: the vendor's restorable intervals.",
    "mixed": "Log model where the vendor lists intervals, point model elsewhere.",
}


def cap_sentence(shown: int, whole: int) -> str:
    """Say how many tenants are not drawn.

    Parameters
    ----------
    shown, whole : int
        How many tenants a chart shows, and how many there are.

    Returns
    -------
    str
        A sentence behind a space, or nothing.
    """
    return f" Shown: {shown} of {whole} tenants." if shown < whole else ""
