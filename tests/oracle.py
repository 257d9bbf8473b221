"""The definitions of coverage, slow and plain: lists and loops over every piece of time.

Written from the definitions alone; nothing here is taken from the package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

ORDER = (
    *("not_done", "expired", "state_unknown", "no_end", "no_checkpoint", "bad_times"),
    *("not_valid", "validity_unknown", "mode_unknown", "base_missing", "chain_broken"),
)
TRUSTED = ("validity_unknown", "mode_unknown", "base_missing")


@dataclass
class Set:
    """One backup set; instants are whole numbers."""

    id: str
    state: str = "done"
    full: bool | None = True
    validity: str | None = "VALID"
    start: int | None = 0
    end: int | None = 0
    checkpoint: int | None = 0
    cluster: str | None = None
    found: dict[str, Any] = field(default_factory=dict)


def own_reason(each: Set) -> str | None:  # noqa: PLR0911 - one return a reason
    if each.state in {"running", "failed", "cancelled"}:
        return "not_done"
    if each.state in {"expired", "unknown"}:
        return "expired" if each.state == "expired" else "state_unknown"
    if each.end is None or each.checkpoint is None:
        return "no_end" if each.end is None else "no_checkpoint"
    if each.start is None or not each.start <= each.checkpoint <= each.end:
        return "bad_times"
    if each.validity is None:
        return "validity_unknown"
    if each.validity != "VALID":
        return "not_valid"
    return "mode_unknown" if each.full is None else None


def restore(sets: list[Set], *, trust: bool = False) -> list[Set]:
    """Fill `found` of every set: reason, usable_from, chain."""
    ordered = sorted(sets, key=lambda s: (s.start is None, s.start or 0, s.id))
    before: list[Set] = []
    for each in ordered:
        reason = own_reason(each)
        sound = reason is None or (trust and reason in TRUSTED)
        chain: list[Set] | None = None
        if sound and each.full:
            chain = [each]
        elif sound:
            parent = before[-1] if before else None
            if parent is not None and parent.found["chain"] is not None:
                chain = [*parent.found["chain"], each]
            elif parent is None and trust:
                chain = [each]
            elif not trust and not any(b.full and b.state == "done" for b in before):
                reason = "base_missing"
            else:
                reason = "chain_broken"
                if trust and not before:
                    reason = "base_missing"
        each.found = {
            "chain": chain,
            "reason": None if chain is not None else reason,
            "usable_from": None if chain is None else max(s.end for s in chain),  # type: ignore[type-var]
        }
        if each.state not in {"running", "failed", "cancelled"}:
            before.append(each)
    return ordered


def best(sets: list[Set], at: int) -> Set | None:
    """Return the newest set there is; of equal ones the one that was there, then began, first."""
    usable = [s for s in sets if s.found["chain"] is not None and s.found["usable_from"] <= at]
    return min(
        usable,
        key=lambda s: (-(s.checkpoint or 0), s.found["usable_from"], s.start, s.id),
        default=None,
    )


def known_since(sets: list[Set]) -> int | None:
    return min((s.start for s in sets if s.start is not None), default=None)


def gap_pieces(
    sets: list[Set], rpo: int, start: int | None, end: int
) -> tuple[list[tuple[int, int]], int]:
    """Return maximal gaps, and where the window begins.

    Exposure is a straight line between events, so a piece between two neighbours of all instants
    at which anything happens is either all gap or all not; its middle tells.
    """
    first = known_since(sets)
    begin = start if start is not None else min(end if first is None else first, end)
    marks = {begin, end}
    for each in sets:
        if each.found["chain"] is not None:
            marks |= {each.found["usable_from"], (each.checkpoint or 0) + rpo}
    if start is None and first is not None:
        marks.add(first + rpo)
    inside = sorted(mark for mark in marks if begin <= mark <= end)
    gaps: list[tuple[int, int]] = []
    for low, high in pairwise(inside):
        newest = best(sets, low)
        origin = newest.checkpoint if newest else (first if start is None else None)
        if origin is None or (low + high) / 2 - origin > rpo:
            if gaps and gaps[-1][1] == low:
                gaps[-1] = (gaps[-1][0], high)
            else:
                gaps.append((low, high))
    return gaps, begin


def measure(gaps: list[tuple[int, int]], low: int, high: int) -> int:
    return sum(max(0, min(b, high) - max(a, low)) for a, b in gaps)


def gaps_of(
    sets: list[Set], rpo: int, start: int | None, end: int, *, trust: bool = False
) -> list[dict[str, Any]]:
    """Return every gap with all that is said of it."""
    restore(sets, trust=True)
    trusted, _ = gap_pieces(sets, rpo, start, end)
    restore(sets, trust=trust)
    gaps, begin = gap_pieces(sets, rpo, start, end)
    first = known_since(sets)
    rows = []
    for low, high in gaps:
        before_known = max(0, min(high, end if first is None else first) - low)
        rest = max(low, low + before_known)
        unknown = before_known
        if not trust:
            unknown += (high - rest) - measure(trusted, rest, high)
        last, closing = best(sets, low), best(sets, high) if high < end else None
        since = last.start if last is not None and last.start is not None else -(10**18)
        runs = [
            s for s in sets if s.start is not None and since < s.start < high and s is not closing
        ]
        worst = None if first_origin(sets, low, start) is None else 0
        if worst is not None:
            for at in sorted({s.found["usable_from"] for s in sets if s.found["chain"]} | {high}):
                if low < at <= high:
                    worst = max(worst, at - (first_origin(sets, at - 1, start) or 0))
        rows.append(
            {
                "gap_start": low,
                "gap_end": high,
                "unknown": unknown,
                "position": position(low == begin, high == end),
                "causes": causes(runs, low, high, closing),
                "worst": worst,
                "last": last.id if last else None,
                "next": closing.id if closing else None,
                "attempts": len(runs),
                "failed": sum(s.state in {"failed", "cancelled"} for s in runs),
                "certainty": certainty(unknown, high - low),
            }
        )
    return rows


def first_origin(sets: list[Set], at: int, start: int | None) -> int | None:
    newest = best(sets, at)
    if newest is not None:
        return newest.checkpoint
    return None if start is not None else known_since(sets)


def position(at_start: bool, at_end: bool) -> str:  # noqa: FBT001
    return {(1, 1): "whole", (1, 0): "head", (0, 1): "tail"}.get((at_start, at_end), "interior")


def certainty(unknown: int, length: int) -> str:
    if unknown == 0:
        return "inferred"
    return "unknown" if unknown == length else "partly"


def causes(runs: list[Set], low: int, high: int, closing: Set | None) -> list[str]:
    found = []
    if any(s.state == "done" and s.found["chain"] is None for s in runs):
        found.append("unusable")
    if any(s.state in {"failed", "cancelled"} for s in runs):
        found.append("failed")
    if any(
        (s.state == "running" and s.end is None) or (s.end is not None and s.end > high)
        for s in runs
    ):
        found.append("running")
    if any(s.state in {"unknown", "expired"} for s in runs):
        found.append("state_unknown")
    good_inside = any(
        s.found["chain"] is not None and s.end is not None and low < s.end <= high for s in runs
    )
    if good_inside or (closing is not None and closing.start is not None and closing.start < low):
        found.append("late")
    return found or ["silent"]


def mean_and_p95(
    sets: list[Set], start: int | None, begin: int, end: int
) -> tuple[float | None, float | None, int | None]:
    """Return mean, 95th percentile and highest exposure, by a grid of every half unit."""
    values = []
    for at in range(begin, end):
        origin = first_origin(sets, at, start)
        values.append(None if origin is None else at + 0.5 - origin)
    if not values or None in values:
        return None, None, None
    known = sorted(v for v in values if v is not None)
    return sum(known) / len(known), known[int(0.95 * len(known))], int(max(known) + 0.5)
