"""Put names, durations and findings into words that are safe to show anywhere."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pandas as pd

NAME_CELLS = 26
"""The most columns that a tenant's label takes."""
_LEAST_TAIL = 5  # characters of an instance id that a label keeps


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
    shown = "".join(_escape(char) for char in whole) if whole.strip() else "(no name)"
    if limit is None or cells(shown) <= limit:
        return shown
    kept, room = "", limit - 1
    for char in shown:
        room -= _width(char)
        if room < 0:
            break
        kept += char
    return kept + "…"


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
    sign, seconds = ("-" if value < pd.Timedelta(0) else ""), abs(value.total_seconds())
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
    return f"{int(share * 1e4 + 1e-9) / 100:.2f} %"


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
    keys = list(zip(frame["instance_id"], frame["tenant_id"], frame["tenant_name"], strict=True))
    tails = _tails(keys, limit)
    names = {key: _label(plain(key[2]), tails[key[0]], limit) for key in keys}
    counts = Counter(names.values())
    own = {
        key: _label(plain(key[1]), tails[key[0]], limit)
        for key, name in names.items()
        if counts[name] > 1
    }
    return [own.get(key, names[key]) for key in keys]


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


def coverage_sentence(coverage: pd.DataFrame, gaps: pd.DataFrame) -> str:
    """Say in one sentence what the coverage tables show.

    Parameters
    ----------
    coverage, gaps : DataFrame
        What `rpo_compliance` and `coverage_gaps` returned.

    Returns
    -------
    str
        How many tenants are outside their RPO now, and the longest gap.
    """
    tenants = coverage[coverage["instance_id"].notna()]
    outside, count = int((tenants["rpo_ratio"] > 1).sum()), len(tenants)
    head = f"{outside or 'None'} of {plural(count, 'tenant')} outside the RPO now"
    if gaps.empty:
        return f"{head}; no gap in the window"
    longest = gaps.loc[gaps["gap"].idxmax()]
    size = f"{plural(len(gaps), 'gap')}, the longest {format_span(longest['gap'])}"
    return (
        f"{head}; {size} ({plain(longest['tenant_name'], NAME_CELLS)}, {words(longest['cause'])})"
    )


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
    top = rated.loc[rated["percent_per_30d"].idxmax()]
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
    top = timed.loc[timed["p95"].idxmax()]
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
    ratio = coverage["rpo_ratio"]
    keys = pd.DataFrame(
        {
            "fleet": coverage["instance_id"].isna(),
            "ratio": -ratio.where(ratio > 1, 0.0),
            "share": coverage["time_in_rpo"].fillna(-1.0),
        }
    )
    return coverage.loc[keys.sort_values(list(keys), kind="stable").index]


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


def _tails(keys: list[tuple[object, object, object]], limit: int) -> dict[object, str]:
    """Return what tells the instances apart behind a name; nothing where there is but one.

    Where it would not fit, an instance id is cut to as few characters as tell it from the others.
    """
    whole = {instance: plain(instance) for instance, _, _ in keys}
    if len(whole) < 2:  # noqa: PLR2004 - one needs no telling apart
        return dict.fromkeys(whole, "")
    longest = max(cells(plain(name)) + 3 + cells(whole[instance]) for instance, _, name in keys)
    if longest <= limit:
        return whole
    size = _LEAST_TAIL
    while len({text[:size] for text in whole.values()}) < len(set(whole.values())):
        size += 1
    return {key: plain(text, min(size + 1, limit // 2)) for key, text in whole.items()}


def _label(text: str, tail: str, limit: int) -> str:
    """Return a name with what tells its instance."""
    return f"{plain(text, limit - cells(tail) - 3)} · {tail}" if tail else plain(text, limit)
