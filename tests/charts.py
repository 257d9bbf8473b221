"""Frames to draw and eyes to look at charts with, for the tests of all that draws."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

import obanalytics as ob
from obanalytics.canvas import style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOSTILE = (
    "$x$ and $y$",
    "$\\frac{",
    "<script>alert(1)</script>",
    "中文" * 100,
    "🦀🔥",
    "",
    "a\nb\tc\x00d",
    "\u202egnp.exe",
    '=HYPERLINK("http://x.y","z")',
    "e\u0301" * 300,
    "%s {} {{ x }}",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
)
BEGIN = pd.Timestamp("2026-01-01", tz="UTC")
CAUSES = (
    *("silent", "failed", "unusable", "running", "late"),
    *("missing_from_cluster_set", "state_unknown"),
)
MODES = (True, False)


def who(number: int, names: tuple[str, ...] = ()) -> dict[str, Any]:
    name = names[number % len(names)] if names else f"tenant_{number}"
    return {
        "instance_id": f"ob{number % 3}abcdefgh",
        "tenant_id": f"t{number}",
        "tenant_name": name,
    }


def make_gaps(count: int, names: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = []
    for number in range(count):
        for gap in range(1 + number % 2):
            start = BEGIN + pd.Timedelta(5 * gap + number % 7 + 1, "D")
            length = pd.Timedelta(10 + number, "h")
            row = who(number, names) | {
                "gap_start": start,
                "gap_end": start + length,
                "gap": length,
                "position": "tail" if number == 1 and gap else "interior",
                "cause": CAUSES[number % 7],
                "certainty": "inferred",
                "unknown": pd.Timedelta(0),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def make_shares(count: int, names: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = [
        who(number, names)
        | {
            "time_in_rpo": 1 - number / 1000,
            "exposure_now": pd.NaT if number == 2 else pd.Timedelta(number, "h"),
            "rpo_ratio": float("inf") if number == 2 else number / 26,
        }
        for number in range(count)
    ]
    fleet = dict.fromkeys(who(0)) | {
        "time_in_rpo": 0.9,
        "exposure_now": pd.Timedelta(9, "D"),
        "rpo_ratio": 9.0,
    }
    return pd.DataFrame([*rows, fleet])


def make_points(count: int, names: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = [
        who(number, names)
        | {
            "full": day % 7 == 0,
            "start_time": BEGIN + pd.Timedelta(day, "D"),
            "checkpoint": BEGIN + pd.Timedelta(24 * day + 1, "h"),
            "restorable": day != 3,
        }
        for number in range(count)
        for day in range(15)
    ]
    return pd.DataFrame(rows)


def make_growth(count: int, names: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = [
        who(number, names)
        | {
            "full": full,
            "percent_per_30d": number * 0.5 - 1 + full,
            "percent_per_30d_low": number * 0.5 - 2 + full,
            "percent_per_30d_high": number * 0.5 + 0.5 + full,
            "verdict": "growing",
        }
        for number in range(count)
        for full in MODES
    ]
    return pd.DataFrame(rows)


def make_durations(count: int, names: tuple[str, ...] = (), scale: float = 1.0) -> pd.DataFrame:
    rows = [
        who(number, names)
        | {
            "full": full,
            "p50": pd.Timedelta(scale * (100 + number) * (30 if full else 1), "s"),
            "p95": pd.Timedelta(scale * (150 + number) * (30 if full else 1), "s"),
            "max": pd.Timedelta(scale * (400 + number) * (30 if full else 1), "s"),
            "last": pd.Timedelta(scale * (90 + number) * (30 if full else 1), "s"),
            "running": number % 2,
            "percent_per_30d": 1.0,
            "percent_per_30d_low": 0.5,
        }
        for number in range(count)
        for full in MODES
    ]
    return pd.DataFrame(rows)


def make_steps(count: int, names: tuple[str, ...] = (), days: int = 9) -> pd.DataFrame:
    """Return daily steps; tenant 1 has none at first, tenant 2 a hole, the last ends early."""
    hour = pd.Timedelta(1, "h")
    rows = []
    for number in range(count):
        cuts = [0, *(24 * day + 3 + number % 5 for day in range(days)), 24 * days]
        if number == 2:
            del cuts[3:6]
        for place, (start, end) in enumerate(pairwise(cuts)):
            is_open, low = number == 1 and not place, (1 if place else 0) * hour
            row = who(number, names) | {
                "start": BEGIN + start * hour,
                "end": BEGIN + end * hour,
                "exposure_start": pd.NaT if is_open else low,
                "exposure_end": pd.NaT if is_open else low + (end - start) * hour,
                "unbounded": is_open,
            }
            rows.append(row)
    made = pd.DataFrame(rows)
    times = dict.fromkeys(("exposure_start", "exposure_end"), "timedelta64[us]")
    return made.astype(times)


def make_calendar(count: int, names: tuple[str, ...] = (), days: int = 20) -> pd.DataFrame:
    """Return days of tenants of which the higher numbers are the worse; day 1 is not known."""
    whole, rows = pd.Timedelta(1, "D"), []
    for number in range(count):
        for day in range(number % 3, days):
            out = (
                (0.0, 0.05, 0.3, 0.75, 1.0)[(number * day) % 5] if day > days - number - 2 else 0.0
            )
            unknown = day == 1 and number % 2 == 0
            row = who(number, names) | {
                "day": pd.Timestamp("2026-03-20") + pd.Timedelta(day, "D"),
                "gap": whole if unknown else whole * out,
                "unknown": whole if unknown else pd.Timedelta(0),
                "time_in_rpo": np.nan if unknown else 1 - out,
            }
            rows.append(row)
    made = pd.DataFrame(rows)
    made.attrs |= {"tz": "Europe/Berlin", "model": "point"}
    return made


def coverage(count: int, ax: Any = None, names: tuple[str, ...] = ()) -> Any:
    return ob.plot_coverage(
        make_gaps(count, names),
        ax,
        compliance=make_shares(count, names),
        points=make_points(count, names),
    )


PLOTS: dict[str, Callable[..., Any]] = {
    "coverage": coverage,
    "gaps": lambda count, ax=None, names=(): ob.plot_coverage(make_gaps(count, names), ax),
    "growth": lambda count, ax=None, names=(): ob.plot_growth(make_growth(count, names), ax),
    "durations": lambda count, ax=None, names=(): ob.plot_durations(
        make_durations(count, names), ax
    ),
    "exposure": lambda count, ax=None, names=(): ob.plot_exposure(
        make_steps(count, names), ax, rpo="26h"
    ),
    "calendar": lambda count, ax=None, names=(): ob.plot_coverage_calendar(
        make_calendar(count, names), ax
    ),
}
ROWS = tuple(kind for kind in PLOTS if kind != "exposure")
"""What has a row per tenant."""


def labels(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def shown_title(ax: Any) -> str:
    return str(ax.get_title(loc="left")).replace("\n", " ")


def note_of(ax: Any) -> str:
    return next(t.get_text() for t in ax.texts if t.get_text().endswith("."))


def boxes(ax: Any) -> Iterator[tuple[str, Any]]:
    for collection in ax.collections:
        if isinstance(collection, PolyCollection):
            for path in collection.get_paths():
                yield to_hex(collection.get_facecolor()[0], keep_alpha=False), path.vertices


def marks_of(ax: Any) -> list[str]:
    legend = ax.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def texts_of(ax: Any) -> list[Any]:
    legend = ax.get_legend()
    kept = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts, ax.xaxis.label]
    kept.append(ax.yaxis.label)
    kept += [ax.title, ax._left_title, *(legend.get_texts() if legend else [])]
    return [text for text in kept if text.get_text() and text.get_visible()]


def in_sight(ticks: list[Any], ax: Any) -> list[Any]:
    low, high = ax.bbox.x0 - 1, ax.bbox.x1 + 1
    found = [(tick.get_window_extent(), tick) for tick in ticks if tick.get_text()]
    return [tick for box, tick in found if low <= (box.x0 + box.x1) / 2 <= high]


def check_look(ax: Any, *, inside: tuple[float, float] = (0.0, 0.0)) -> None:
    """No text leaves the figure, no two labels of an axis touch, no row covers another."""
    with style(ax):
        ax.figure.draw_without_rendering()
        width, height = ax.figure.bbox.width, ax.figure.bbox.height
        x_labels = in_sight(ax.get_xticklabels(), ax)
        for text in [*x_labels, *(t for t in texts_of(ax) if t not in ax.get_xticklabels())]:
            box = text.get_window_extent()
            assert box.x0 >= -inside[0], (text.get_text(), box)
            assert box.y0 >= -inside[1], (text.get_text(), box)
            assert box.x1 <= width + inside[0], (text.get_text(), box)
            assert box.y1 <= height + inside[1], (text.get_text(), box)
        for ticks in (x_labels, [t for t in ax.get_yticklabels() if t.get_text()]):
            found = [tick.get_window_extent() for tick in ticks]
            for number, box in enumerate(found):
                for other in found[number + 1 :]:
                    assert not box.overlaps(other), [t.get_text() for t in ticks]
        legend, title = ax.get_legend(), ax._left_title.get_window_extent()
        assert title.y0 > ax.bbox.y1
        if legend is not None:
            assert legend.get_window_extent().y1 < ax.xaxis.label.get_window_extent().y0
        note = next(t for t in ax.texts if t.get_text().endswith((".", "…")))
        assert not note.get_window_extent().overlaps(title)
        if ax.get_ylabel():
            beside = ax.yaxis.label.get_window_extent()
            assert not beside.overlaps(note.get_window_extent())
            assert beside.x1 <= min(tick.get_window_extent().x0 for tick in ax.get_yticklabels())
