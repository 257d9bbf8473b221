"""Frames to draw and eyes to look at charts with, for the tests of all that draws."""

from __future__ import annotations

from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgb

import obanalytics as ob
from obanalytics.canvas import style
from obanalytics.carry import Carried

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
UTC = "datetime64[us, UTC]"


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


# --- frames with riders ------------------------------------------------------------------------


def is_run(full: Any, day: int) -> bool:
    """Full sets weekly, incremental ones on the other days, sets of unknown mode monthly."""
    return day % 30 == 5 if full is None else (day % 7 == 0) == full


@cache
def make_sized(
    count: int, names: tuple[str, ...] = (), *, length: int = 120, modes: Any = MODES
) -> pd.DataFrame:
    """Return growth that carries its sets; every third tenant's full sets have a step."""
    heads, points, steps = [], [], []
    for number in range(count):
        for full in modes:
            key = who(number, names) | {"full": pd.NA if full is None else full}
            size = (40 + 10 * number) * (0.03 if full is False else 1.0)
            has_step = bool(full) and number % 3 == 1
            chosen = [day for day in range(length) if is_run(full, day)]
            sizes = [
                size
                * (1 + 0.002 * day + 0.01 * ((day * 7) % 5))
                * (1.8 if has_step and day > 60 else 1)
                for day in chosen
            ]
            points += [
                key
                | {
                    "backup_set_id": f"s{day}",
                    "start_time": BEGIN + pd.Timedelta(24 * day + 2, "h"),
                    "size_gib": value,
                }
                for day, value in zip(chosen, sizes, strict=True)
            ]
            at = BEGIN + pd.Timedelta(24 * 63 + 2, "h") if has_step else pd.NaT
            if has_step:
                steps.append(key | {"at": at, "factor": 1.8, "gib": size * 0.8})
            rate = 6.0 - number * 0.4
            heads.append(
                key
                | {
                    "n": len(sizes),
                    "last_size_gib": sizes[-1] if sizes else np.nan,
                    "gib_per_day": rate * size / 3000,
                    "percent_per_30d": rate,
                    "percent_per_30d_low": rate - 1,
                    "percent_per_30d_high": rate + 0.8,
                    "steps": int(has_step),
                    "step_at": at,
                    "step_factor": 1.8 if has_step else np.nan,
                    "thinned": False,
                    "verdict": "growing" if rate > 1 else "flat",
                }
            )
    made = pd.DataFrame(heads).astype({"full": "boolean"})
    columns = [*who(0), "full", "at", "factor", "gib"]
    frames = {
        "points": pd.DataFrame(
            points, columns=[*who(0), "full", "backup_set_id", "start_time", "size_gib"]
        ),
        "steps": pd.DataFrame(steps, columns=columns),
    }
    return riding(made, frames)


def riding(made: pd.DataFrame, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Let frames ride on a copy of another."""
    made = made.copy()
    for name, frame in frames.items():
        kinds: dict[str, Any] = dict.fromkeys(("instance_id", "tenant_id"), "category")
        typed = frame.astype(kinds | ({"full": "boolean"} if "full" in frame else {}))
        made.attrs[name] = Carried(partial(pd.DataFrame.copy, typed))
    return made


@cache
def make_timed(
    count: int, names: tuple[str, ...] = (), *, length: int = 120, modes: Any = MODES
) -> pd.DataFrame:
    """Return durations that carry their runs and weeks; every third tenant's changed, one runs."""
    heads, points, weeks = [], [], []
    for number in range(count):
        for full in modes:
            key = who(number, names) | {"full": pd.NA if full is None else full}
            usual, size = (1500 + 300 * number) * (0.1 if full is False else 1.0), 40.0 + number
            chosen = [day for day in range(length) if is_run(full, day)]
            mine = []
            for day in chosen:
                slower = 1.9 if number % 3 == 0 and full and day > 60 else 1
                stuck = 6 if day % 41 == 40 else 1
                mine.append(usual * (1 + 0.05 * ((day * 7) % 6)) * slower * stuck)
            rows = [
                key
                | {
                    "backup_set_id": f"s{day}",
                    "start_time": BEGIN + pd.Timedelta(24 * day + 2, "h"),
                    "duration": pd.Timedelta(value, "s"),
                    "size_gib": size * (0.04 if full is False else 1.0),
                    "running": False,
                }
                for day, value in zip(chosen, mine, strict=True)
            ]
            runs = bool(full) and number % 4 == 0
            if runs:
                begun = BEGIN + pd.Timedelta(length, "D")
                more = {"start_time": begun, "duration": pd.Timedelta(2.5 * usual, "s")}
                rows.append(rows[-1] | more | {"size_gib": np.nan, "running": True})
            points += rows
            frame = pd.DataFrame(rows)
            begins = BEGIN + (frame["start_time"] - BEGIN) // pd.Timedelta(7, "D") * pd.Timedelta(
                7, "D"
            )
            for begin, part in frame[~frame["running"]].groupby(begins):
                took = part["duration"]
                hours = took.dt.total_seconds() / 3600
                weeks.append(
                    key
                    | {
                        "start": begin,
                        "n": len(part),
                        "p50": took.quantile(0.5),
                        "p95": took.quantile(0.95),
                        "throughput_gib_per_h": float((part["size_gib"] / hours).median()),
                    }
                )
            took = frame.loc[~frame["running"], "duration"]
            rate = frame["size_gib"] / (frame["duration"].dt.total_seconds() / 3600)
            heads.append(
                key
                | {
                    "p50": took.quantile(0.5),
                    "p95": took.quantile(0.95),
                    "max": took.max(),
                    "last": took.iloc[-1],
                    "at_least": runs,
                    "percent_per_30d": 3.0 - number,
                    "percent_per_30d_low": 2.0 - number,
                    "percent_per_30d_high": 4.0 - number,
                    "throughput_gib_per_h": float(rate.median()),
                    "running": int(runs),
                    "verdict": "slower" if number < 2 else "steady",
                }
            )
    made = pd.DataFrame(heads).astype({"full": "boolean"})
    return riding(made, {"points": pd.DataFrame(points), "weekly": pd.DataFrame(weeks)})


@cache
def make_changes(count: int, *, each: int = 1) -> pd.DataFrame:
    """Return changes of every third tenant's full sets."""
    rows = [
        {
            **who(number),
            "full": True,
            "at": BEGIN + pd.Timedelta(24 * (63 - 14 * place) + 2, "h"),
            "factor": 1.9 - 0.1 * place,
            "size_factor": 1.0,
            "throughput_factor": 1.9 - 0.1 * place,
            "cause": "throughput",
            "sentence": (
                f"Full sets of tenant_{number} take 1.9 times as long since 2026-03-05 "
                "(25 min before, 48 min after): slower per GiB, between sets s56 and s63; "
                "4 of 11 tenants of the cluster changed in the same week."
            ),
        }
        for number in range(0, count, 3)
        for place in range(each)
    ]
    made = pd.DataFrame(rows).astype({"full": "boolean", "cause": "category"})
    return made.astype(dict.fromkeys(("instance_id", "tenant_id"), "category"))


@cache
def make_forecast(
    count: int,
    names: tuple[str, ...] = (),
    *,
    whats: tuple[str, ...] = ("stored",),
    threshold: Any = 400.0,
    refused: int = 0,
) -> pd.DataFrame:
    """Return forecasts over 90 days after 200 of history; the lower numbers grow faster."""
    rows, past, steps = [], [], np.arange(1, 91)
    origin = BEGIN + pd.Timedelta(200, "D")
    for number in range(count):
        for what in whats:
            key = who(number, names) | {"what": what}
            if number >= count - refused:
                why = "12 points: at least 20 are needed"
                rows.append(key | {"time": pd.NaT, "refused": why})
                continue
            level, slope = 200.0 + 3 * number, 1.5 / (1 + 0.3 * number)
            days = np.arange(201)
            gib = level + slope * days + 4 * np.sin(days / 3)
            past += [
                key | {"time": BEGIN + pd.Timedelta(int(day), "D"), "gib": value}
                for day, value in zip(days, gib, strict=True)
            ]
            for step in steps:
                middle, reach = gib[-1] + slope * step, 3 + 5 * np.sqrt(step)
                over = float(np.clip((middle + reach - 400) / (2 * reach), 0, 1))
                rows.append(
                    key
                    | {
                        "time": origin + pd.Timedelta(int(step), "D"),
                        "median_gib": middle,
                        "lower_gib": middle - reach,
                        "upper_gib": middle + reach,
                        "p_crossed": np.nan if threshold is None else over,
                        "method": "anchored_theil_sen",
                        "n": 201,
                        "origins": 31,
                        "mase": 0.71 + 0.01 * number,
                        "mase_naive": 1.02,
                        "coverage": 0.91,
                    }
                )
    columns = [*who(0), "what", "time", "median_gib", "lower_gib", "upper_gib", "p_crossed"]
    columns += ["method", "n", "origins", "mase", "mase_naive", "coverage"]
    columns += ["cross_10", "cross_50", "cross_90", "p_not_crossed", "refused"]
    made = pd.DataFrame(rows, columns=columns)
    made["time"] = pd.to_datetime(made["time"], utc=True).astype(UTC)
    made["refused"] = made["refused"].astype("string")
    whose = pd.MultiIndex.from_frame(made[["tenant_id", "what"]])
    for name, share in (("cross_10", 0.1), ("cross_50", 0.5), ("cross_90", 0.9)):
        first = made[made["p_crossed"] >= share].groupby(["tenant_id", "what"])["time"].min()
        made[name] = pd.Series(first.reindex(whose).array, made.index).astype(UTC)
    made["p_not_crossed"] = 1 - made.groupby(["tenant_id", "what"])["p_crossed"].transform("max")
    made.attrs |= {"level": 0.9, "threshold": threshold, "horizon": "90D"}
    history = pd.DataFrame(past, columns=[*who(0), "what", "time", "gib"]).astype({"time": UTC})
    return riding(made, {"history": history})


@cache
def make_stored(
    count: int,
    names: tuple[str, ...] = (),
    *,
    length: int = 120,
    basis: str = "lower_bound",
    shelves: tuple[str, ...] = ("STANDARD",),
    price: float | None = None,
) -> pd.DataFrame:
    """Return what is in store each day, by tenant, mode and storage class; exact at the end."""
    rows = []
    for number in range(count):
        for full in (True, False):
            for shelf in shelves:
                for day in range(length):
                    gib = (40.0 + 5 * (number % 9)) * (1 + day / 60) * (1.0 if full else 0.2)
                    rows.append(
                        who(number, names)
                        | {
                            "full": full,
                            "storage_class": shelf,
                            "time": BEGIN + pd.Timedelta(day + 1, "D"),
                            "stored_gib": gib,
                            "sets": 3,
                            "unsized": 0,
                            "written_gib": (8.0 if day % 7 == 0 else 0.0) if full else 0.4,
                            "basis": "exact" if day == length - 1 else basis,
                            "cost_per_month": np.nan if price is None else price * gib,
                        }
                    )
    made = pd.DataFrame(rows).astype({"full": "boolean"}).sort_values("time", kind="stable")
    made = made.astype(dict.fromkeys(("instance_id", "tenant_id", "basis"), "category"))
    made.attrs |= {"by": "tenant", "freq": "D", "retention_days": None}
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


DARK = {
    "figure.facecolor": "#101418",
    "axes.facecolor": "#181c22",
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "white"),
    "axes.edgecolor": "white",
}


def contrast(one: Any, other: Any) -> float:
    """Return the ratio of two colours' luminances as WCAG has it."""
    levels = []
    for color in (one, other):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        levels.append(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05)
    return max(levels) / min(levels)


def check_contrast(ax: Any, *, face: str, inside: str) -> None:
    ax.figure.draw_without_rendering()
    assert to_hex(ax.figure.get_facecolor()) == face
    assert to_hex(ax.get_facecolor()) == inside
    legend = ax.get_legend().get_texts() if ax.get_legend() else []
    for text in texts_of(ax):
        box, its = text.get_window_extent(), ax.bbox
        within = its.x0 <= box.x0 and box.x1 <= its.x1 and its.y0 <= box.y0 and box.y1 <= its.y1
        behind = inside if text in legend or within else face
        assert contrast(text.get_color(), behind) > 4.5, (text.get_text(), text.get_color())
    lines = [*ax.get_xgridlines(), *ax.get_ygridlines()]
    grid = [line.get_color() for line in lines if line.get_visible()]
    assert all(1.15 < contrast(color, inside) < 4 for color in grid)
    for line in ax.lines:
        if line.get_linestyle() != "None" and to_hex(line.get_color()) != inside:
            assert contrast(line.get_color(), inside) > 1.9, line.get_label()


def check_texts(ax: Any) -> None:
    """No text that stands in or beside an ax touches another, or a label of an axis."""
    with style(ax):
        ax.figure.draw_without_rendering()
        free = [text for text in ax.texts if text.get_text() and text.get_visible()]
        ticks = [*in_sight(ax.get_xticklabels(), ax), *ax.get_yticklabels()]
        placed = [(t.get_text(), t.get_window_extent()) for t in [*free, *ticks] if t.get_text()]
        for number, (text, box) in enumerate(placed):
            for other, its in placed[number + 1 :]:
                assert not box.padded(-0.5).overlaps(its), (text, other)
