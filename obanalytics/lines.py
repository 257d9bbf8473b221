"""Lay out what a terminal shows: tables, and the window that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obanalytics.wording import cells, format_instant

if TYPE_CHECKING:
    from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Return the rows of a table as lines with their columns under each other.

    Parameters
    ----------
    rows : list of list of str
        The texts, the head first.
    right : list of bool
        Which columns stand to the right, as numbers do.

    Returns
    -------
    list of str
        A line per row, two spaces between columns.
    """
    wide = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        spaces = [" " * (width - cells(text)) for width, text in zip(wide, row, strict=True)]
        parts = zip(row, spaces, right, strict=True)
        lines.append("  ".join(s + text if end else text + s for text, s, end in parts).rstrip())
    return lines


def window_sentence(window: tuple[Any, Any], as_of: object) -> str:
    """Say what was looked at, and from when.

    Parameters
    ----------
    window : Window
        The start and the end [UTC]; a start of None is each tenant's first known set.
    as_of : Timestamp or None
        The instant at which the facts were true [UTC].

    Returns
    -------
    str
        Such as ``From 2026-05-01 00:00 UTC to 2026-06-01 00:00 UTC, as known at …``.
    """
    if window[1] is None and as_of is None:
        return "Of no instant: nothing is dated"
    first, until, now = (
        "n/a" if moment is None else f"{format_instant(moment)} UTC" for moment in (*window, as_of)
    )
    begin = "each tenant's first known set" if window[0] is None else first
    return f"From {begin} to {until}, as known at {now}"
