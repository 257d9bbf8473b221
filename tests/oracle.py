"""The definitions of coverage, slow and plain: lists and loops over every unit of time.

Written from the definitions alone; nothing here is taken from the package. All instants and bounds
are whole numbers of a unit, so that within a unit nothing begins or ends: its middle tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

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
    gone: int | None = None
    size: float | None = None
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
    """Fill `found` of every set: reason, usable_from, usable_until, chain."""
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
        ends = [s.gone for s in chain or [] if s.gone is not None]
        each.found = {
            "chain": chain,
            "reason": None if chain is not None else reason,
            "usable_from": None if chain is None else max(s.end for s in chain),  # type: ignore[type-var]
            "usable_until": min(ends, default=None),
        }
        if each.state not in {"running", "failed", "cancelled"}:
            before.append(each)
    return ordered


def known_at(sets: list[Set], now: int) -> list[Set]:
    """Return what was known then: later starts are dropped, later ends are running sets."""
    known = []
    for each in sets:
        if each.start is not None and each.start > now:
            continue
        then = replace(each, found={})
        if then.end is not None and then.end > now:
            then = replace(then, state="running", end=None, checkpoint=None, validity=None)
            then.size = None
        if then.gone is not None and then.gone > now:
            then.gone = None
        known.append(then)
    return known


def rank(each: Set) -> tuple[Any, ...]:
    """Sort the newest first; of equal ones the one that was there, then began, first."""
    return (-(each.checkpoint or 0), each.found["usable_from"], each.start, each.id)


def there(each: Set, at: int) -> bool:
    """Tell whether a set can be restored at an instant."""
    if each.found["chain"] is None or each.found["usable_from"] > at:
        return False
    return each.found["usable_until"] is None or at < each.found["usable_until"]


def best(sets: list[Set], at: int) -> Set | None:
    return min((s for s in sets if there(s, at)), key=rank, default=None)


def kept(sets: list[Set]) -> list[Set]:
    """Return the restorable sets of which nothing is gone."""
    return [s for s in sets if s.found["chain"] is not None and s.found["usable_until"] is None]


def known_since(sets: list[Set]) -> int | None:
    return min((s.start for s in sets if s.start is not None), default=None)


@dataclass
class Ask:
    """What is asked of a tenant; `intervals` are the vendor's, None where it is not named."""

    end: int
    start: int | None = None
    now: int = 1000
    rpo: int = 0
    grace: int = 0
    trust: bool = False
    intervals: list[tuple[int | None, int | None]] | None = None


@dataclass
class Stretch:
    """A vendor's interval, from its base on; both ends belong to it."""

    low: int
    high: int
    base: Set


def united(ask: Ask) -> list[tuple[int, int]]:
    """Return the vendor's intervals as they were then, the touching ones joined."""
    given = [(a, min(b, ask.now)) for a, b in ask.intervals or [] if None not in {a, b}]  # type: ignore[type-var]
    joined: list[tuple[int, int]] = []
    for low, high in sorted((a, b) for a, b in given if a is not None and a <= b):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined


def stretches(sets: list[Set], ask: Ask) -> list[Stretch]:
    """Return what counts of the intervals; where instants are whole, the one second is nothing."""
    counting = []
    for low, high in united(ask):
        bases = [s for s in kept(sets) if low <= (s.checkpoint or 0) <= high]
        if bases:
            first = min(s.checkpoint or 0 for s in bases)
            base = min((s for s in bases if s.checkpoint == first), key=rank)
            counting.append(Stretch(max(low, first), high, base))
    return counting


@dataclass
class Piece:
    """From a whole instant up to the next one: exposure counts from `origin`, None is unbounded."""

    at: int
    origin: int | None
    inside: bool = False
    set: Set | None = None
    checkpoint: int | None = None

    def exposure(self, instant: float) -> float | None:
        if self.inside:
            return 0
        return None if self.origin is None else instant - self.origin

    def over(self, bound: int) -> bool:
        middle = self.exposure(self.at + 0.5)
        return middle is None or middle > bound


def piece(sets: list[Set], ask: Ask, at: int) -> Piece:
    if ask.intervals is not None:
        return log_piece(sets, ask, at)
    newest = best(sets, at)
    if newest is not None:
        return Piece(at, newest.checkpoint, set=newest, checkpoint=newest.checkpoint)
    earlier = any(there(s, moment) for s in sets for moment in moments(s) if moment <= at)
    return Piece(at, None if earlier or ask.start is not None else known_since(sets))


def moments(each: Set) -> list[int]:
    """Return when a set began to be usable, if ever."""
    return [] if each.found["usable_from"] is None else [each.found["usable_from"]]


def log_piece(sets: list[Set], ask: Ask, at: int) -> Piece:
    ended = None
    for each in stretches(sets, ask):
        if each.low <= at < each.high:
            return Piece(at, at, inside=True, set=each.base, checkpoint=each.high)
        if each.high <= at:
            ended = each
    if ended is None:
        return Piece(at, None if ask.start is not None else known_since(sets))
    before = min((s for s in kept(sets) if (s.checkpoint or 0) <= ended.high), key=rank)
    return Piece(at, ended.high, set=before, checkpoint=ended.high)


def begins(sets: list[Set], ask: Ask) -> int:
    first = known_since(sets)
    if ask.start is not None:
        return ask.start
    return min(ask.end if first is None else first, ask.end)


def curve(sets: list[Set], ask: Ask, *, trust: bool | None = None) -> list[Piece]:
    """Return the window, a piece for every unit of time."""
    restore(sets, trust=ask.trust if trust is None else trust)
    return [piece(sets, ask, at) for at in range(begins(sets, ask), ask.end)]


def steps_of(sets: list[Set], ask: Ask) -> list[dict[str, Any]]:
    """Return the curve's steps: pieces side by side of one checkpoint, set and kind are one."""
    steps: list[dict[str, Any]] = []
    for each in curve(sets, ask):
        kind = (each.origin if not each.inside else "inside", each.set.id if each.set else None)
        if not steps or steps[-1]["kind"] != kind:
            steps.append({"kind": kind, "start": each.at, "from": each.exposure(each.at)})
        steps[-1] |= {
            "end": each.at + 1,
            "to": each.exposure(each.at + 1),
            "checkpoint": each.checkpoint,
            "set": each.set.id if each.set else None,
        }
    return steps


def unknown_instants(sets: list[Set], ask: Ask) -> set[int]:
    """Return the pieces outside the RPO of which nothing is known, or that trust would close."""
    bound = ask.rpo + ask.grace
    trusted = {p.at for p in curve(sets, ask, trust=True) if p.over(bound)}
    first = known_since(sets)
    out = [p.at for p in curve(sets, ask) if p.over(bound)]
    return {
        at for at in out if first is None or at < first or (not ask.trust and at not in trusted)
    }


def gaps_of(sets: list[Set], ask: Ask) -> list[dict[str, Any]]:
    """Return every gap with all that is said of it."""
    unknown = unknown_instants(sets, ask)
    gaps: list[list[Piece]] = []
    for each in curve(sets, ask):
        if not each.over(ask.rpo + ask.grace):
            continue
        if gaps and gaps[-1][-1].at + 1 == each.at:
            gaps[-1].append(each)
        else:
            gaps.append([each])
    return [gap_row(sets, ask, gap, unknown) for gap in gaps]


def gap_row(sets: list[Set], ask: Ask, gap: list[Piece], unknown: set[int]) -> dict[str, Any]:
    low, high = gap[0].at, gap[-1].at + 1
    last, closing = gap[0].set, piece(sets, ask, high).set if high < ask.end else None
    since = last.start if last is not None and last.start is not None else -(10**18)
    runs = [s for s in sets if s.start is not None and since < s.start < high and s is not closing]
    peaks = [p.exposure(p.at + 1) for p in gap]
    worst = None if None in peaks else max(p for p in peaks if p is not None)
    nothing_known = len([at for at in unknown if low <= at < high])
    found = causes(runs, low, high, closing)
    if ask.intervals is not None and last is not None:
        found = ["log_break", *(cause for cause in found if cause != "silent")]
    return {
        "gap_start": low,
        "gap_end": high,
        "gap": high - low,
        "unknown": nothing_known,
        "position": position(low == begins(sets, ask), high == ask.end),
        "cause": found[0],
        "causes": ",".join(found),
        "worst_exposure": worst,
        "unbounded": worst is None,
        "excess": None if worst is None else worst - ask.rpo,
        "last_checkpoint": gap[0].checkpoint,
        "last_backup_set_id": last.id if last else None,
        "next_checkpoint": closing.checkpoint if closing else None,
        "next_backup_set_id": closing.id if closing else None,
        "attempts": len(runs),
        "failed": sum(s.state in {"failed", "cancelled"} for s in runs),
        "certainty": certainty(nothing_known, high - low),
    }


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


def compliance(sets: list[Set], ask: Ask, now: int) -> dict[str, Any]:
    """Return a tenant's sums; `now` is the instant of `exposure_now`."""
    gaps, begin = gaps_of(sets, ask), begins(sets, ask)
    window, out = max(0, ask.end - begin), sum(gap["gap"] for gap in gaps)
    unknown = sum(gap["unknown"] for gap in gaps)
    pieces, here = curve(sets, ask), piece(sets, ask, now)
    peaks = [p.exposure(p.at + 1) for p in pieces]
    worst = None if None in peaks or not peaks else max(p for p in peaks if p is not None)
    exposed = here.exposure(now)
    begun = [s.start for s in sets if s.start is not None]
    return {
        "gaps": len(gaps),
        "gap_total": out,
        "unknown": unknown,
        "time_in_rpo": 1 - (out - unknown) / (window - unknown) if window > unknown else None,
        "time_in_rpo_worst": 1 - out / window if window else None,
        "worst_exposure": worst,
        # Where it is unbounded: from when on.
        "worst_at": [p.at + 1 for p in pieces if p.exposure(p.at + 1) == worst]
        if None not in peaks
        else [pieces[peaks.index(None)].at],
        "unbounded": None in peaks,
        "exposure_now": exposed,
        "last_checkpoint": now if here.inside else here.checkpoint,
        "restore_points": sum(
            begin <= (s.start or 0) < ask.end for s in sets if s.found["chain"] is not None
        ),
        "last_attempt": max(begun, default=None),
        "last_attempt_state": [s.state for s in sets if begun and s.start == max(begun)],
    }


def mean_exposure(pieces: list[Piece]) -> float | None:
    """Return the mean by time; None where some of it is unbounded."""
    middles = [p.exposure(p.at + 0.5) for p in pieces]
    known = [middle for middle in middles if middle is not None]
    return sum(known) / len(known) if known and len(known) == len(middles) else None


def p95(pieces: list[Piece]) -> tuple[float, float] | None:
    """Return between what the 95th percentile by time lies; None where it is unbounded."""
    peaks = [p.exposure(p.at + 1) for p in pieces]

    def below(bound: int) -> int:
        return sum(peak is not None and peak <= bound for peak in peaks)

    highest = max((int(peak) for peak in peaks if peak is not None), default=0)
    if not peaks or 20 * below(highest) < 19 * len(peaks):
        return None
    least = 0
    while 20 * below(least) < 19 * len(peaks):
        least += 1
    if 20 * below(least) == 19 * len(peaks):
        # Exactly that share of the time: anything up to the next exposure that there is.
        return least, min((p - 1 for p in peaks if p is not None and p > least), default=least)
    if least == 0:
        return 0, 0
    share = (19 * len(peaks) / 20 - below(least - 1)) / (below(least) - below(least - 1))
    return least - 1 + share, least - 1 + share


def calendar(sets: list[Set], ask: Ask, day_of: Callable[[int], Any]) -> list[dict[str, Any]]:
    """Return the days of a window; `day_of` tells the date of a whole instant, in that zone."""
    unknown, pieces = unknown_instants(sets, ask), curve(sets, ask)
    days: dict[Any, list[Piece]] = {}
    for each in pieces:
        days.setdefault(day_of(each.at), []).append(each)
    rows = []
    for day, own in days.items():
        out = sum(p.over(ask.rpo + ask.grace) for p in own)
        blank = sum(p.at in unknown for p in own)
        peaks = [p.exposure(p.at + 1) for p in own]
        rows.append(
            {
                "day": day,
                "start": own[0].at,
                "end": own[-1].at + 1,
                "gap": out,
                "unknown": blank,
                "time_in_rpo": 1 - (out - blank) / (len(own) - blank) if blank < len(own) else None,
                "worst_exposure": None if None in peaks else max(p for p in peaks if p is not None),
                "unbounded": None in peaks,
                "restore_points": sum(
                    own[0].at <= s.checkpoint <= own[-1].at
                    for s in sets
                    if s.found["chain"] is not None and s.checkpoint is not None
                ),
            }
        )
    return rows


def options_of(sets: list[Set], when: int, ask: Ask) -> list[dict[str, Any]]:
    """Return the answer, then what would have been nearer and why it is not taken."""
    known = restore(known_at(sets, ask.now))
    usable = [s for s in known if there(s, ask.now) and (s.checkpoint or 0) <= when]
    answer = min(usable, key=rank, default=None)
    rows: list[dict[str, Any]] = [
        {"set": None, "reason": "no_restore_point"} if answer is None else {"set": answer.id}
    ]
    if answer is not None and answer.checkpoint is not None:
        held = [high for low, high in united(ask) if low <= answer.checkpoint <= high]
        reached = min(when, held[0]) if held else answer.checkpoint
        rows[0] |= {"restored_to": reached, "loss": when - reached, "reason": None}
        rows[0]["chain"] = [s.id for s in answer.found["chain"]]
        rows[0] |= estimate(answer.found["chain"], known)
    nearer = []
    for each in known:
        instant = each.start if each.checkpoint is None else each.checkpoint
        bound = None if answer is None else answer.checkpoint
        if each is answer or instant is None or (bound is not None and instant <= bound):
            continue
        if instant > when and (each.start is None or each.start > when):
            continue
        reason = each.found["reason"]
        if reason is None:
            reason = "after_when" if instant > when else "gone"
        nearer.append((abs(when - instant), {"set": each.id, "reason": reason}))
    return [*rows, *(row for _, row in sorted(nearer, key=lambda pair: pair[0]))]


SMALL = 0.1


def estimate(chain: list[Set], sets: list[Set]) -> dict[str, Any]:
    """Return the size of a chain and how long it takes to read, at the tenant's own speed."""
    nothing = {"size": None, "low": None, "high": None}
    if any(s.size is None for s in chain):
        return {**nothing, "why": "size_unknown"}
    low = high = 0.0
    size = sum(s.size or 0.0 for s in chain)
    for each in chain:
        runs = [
            (s.size or 0.0, (s.end or 0) - (s.start or 0))
            for s in sets
            if s.found["chain"] is not None and s.full == each.full and s.size is not None
        ]
        runs = [run for run in runs if (run[0] < SMALL) == ((each.size or 0.0) < SMALL)]
        runs = [run for run in runs if run[1] > 0]
        if len(runs) < 3:
            return {**nothing, "size": size, "why": "too_few_runs"}
        if (each.size or 0.0) < SMALL:
            low += float(np.quantile([took for _, took in runs], 0.1))
            high += float(np.quantile([took for _, took in runs], 0.9))
        else:
            speeds = [each_size / took for each_size, took in runs]
            low += (each.size or 0.0) / float(np.quantile(speeds, 0.9))
            high += (each.size or 0.0) / float(np.quantile(speeds, 0.1))
    return {"size": size, "low": low, "high": high, "why": None}
