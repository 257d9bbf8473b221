"""Charts hold the numbers of the frames they are given, and nothing of anybody else's."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.dates import num2date
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import obanalytics as ob
from obanalytics import coverage as coverage_module
from obanalytics.canvas import drawable, png, style
from obanalytics.plotting import CAUSE_COLORS, MAX_ROWS
from obanalytics.wording import cells

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
}
every_plot = pytest.mark.parametrize("kind", PLOTS)


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


# --- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coverage", "gaps"])
def test_gaps_are_where_the_frame_says(kind: str) -> None:
    ax, gaps = PLOTS[kind](12), make_gaps(12)
    rows = [label.split(" · ")[0] for label in labels(ax)]
    drawn = sorted(
        (
            rows[round(float(corners[:, 1].mean()))],
            pd.Timestamp(num2date(corners[:, 0].min())).round("ms"),
            pd.Timestamp(num2date(corners[:, 0].max())).round("ms"),
            color,
        )
        for color, corners in boxes(ax)
    )
    expected = sorted(
        (row.tenant_name, row.gap_start, row.gap_end, CAUSE_COLORS[row.cause].lower())
        for row in gaps.itertuples()
    )
    assert drawn == expected
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {f"gap: {cause.replace('_', ' ')}" for cause in CAUSES} <= legend


def test_unknown_time_is_hatched_and_tiny_gaps_can_be_seen() -> None:
    gaps = make_gaps(2)
    gaps.loc[0, "certainty"] = "unknown"
    gaps.loc[1, "gap_end"] = gaps.loc[1, "gap_start"] + pd.Timedelta(1, "s")
    ax = ob.plot_coverage(gaps)
    hatches = [c.get_hatch() for c in ax.collections if isinstance(c, PolyCollection)]
    assert sorted(map(str, hatches)) == ["////", "None"]
    span = ax.get_xlim()[1] - ax.get_xlim()[0]
    assert min(np.ptp(corners[:, 0]) for _, corners in boxes(ax)) > span / 400
    assert "gap: not known" in {text.get_text() for text in ax.get_legend().get_texts()}


def test_coverage_shows_all_tenants_with_their_shares_worst_first() -> None:
    ax = coverage(12)
    assert [label.split(" · ")[0] for label in labels(ax)][:2] == ["tenant_2", "tenant_11"]
    texts = [text.get_text() for text in ax.texts]
    assert "unbounded" in texts
    assert "99.80 %" in texts
    assert "100 %" in texts
    assert "9 d" not in texts  # the fleet's row is no tenant
    assert shown_title(ax) == (
        "1 of 12 tenants outside the RPO now; 18 gaps, the longest 21 h (tenant_11, late)"
    )
    assert "inside RPO" in {text.get_text() for text in ax.get_legend().get_texts()}


def test_restore_points_are_where_the_frame_says() -> None:
    ax, points = coverage(3), make_points(3)
    good = points[points["restorable"]]
    ticks = [c for c in ax.collections if isinstance(c, LineCollection)]
    drawn = sorted(float(path[0, 0]) for c in ticks for path in c.get_segments())
    expected = sorted(mpl.dates.date2num(good["checkpoint"].dt.tz_convert(None).to_numpy()))
    first, last = ax.get_xlim()
    assert drawn == pytest.approx([x for x in expected if first <= x <= last])
    reach = [float(np.ptp(c.get_segments()[0][:, 1])) for c in ticks]
    assert max(reach) > 2 * min(reach)  # full sets stand out
    crowd = pd.concat([good[~good["full"]]] * 60)
    crowd["checkpoint"] = BEGIN + pd.to_timedelta(np.linspace(0, 14, len(crowd)), unit="D")
    ax = ob.plot_coverage(make_gaps(3), points=crowd)
    assert not [c for c in ax.collections if isinstance(c, LineCollection)]
    assert "restore point" not in {text.get_text() for text in ax.get_legend().get_texts()}


def test_gaps_alone_show_the_tenants_that_have_gaps() -> None:
    ax = ob.plot_coverage(make_gaps(4))
    assert [label.split(" · ")[0] for label in labels(ax)] == [
        *("tenant_1", "tenant_3", "tenant_2", "tenant_0")  # 1 is in a gap at the end
    ]
    assert shown_title(ax) == "4 tenants have 6 gaps, the longest 13 h (tenant_3, running)"
    texts = {text.get_text() for text in ax.texts} | {
        text.get_text() for text in ax.get_legend().get_texts()
    }
    assert not texts & {"in RPO", "inside RPO", "exposed now"}


def test_window_is_what_the_chart_spans() -> None:
    window = (BEGIN - pd.Timedelta(9, "D"), BEGIN + pd.Timedelta(40, "D"))
    ax = ob.plot_coverage(make_gaps(3), window=window)
    assert [pd.Timestamp(num2date(x)) for x in ax.get_xlim()] == list(window)
    bars = [p for p in ax.patches if isinstance(p, Rectangle)]
    assert [bar.get_x() for bar in bars] == [ax.get_xlim()[0]] * 3


def test_growth_markers_and_intervals() -> None:
    ax, growth = ob.plot_growth(make_growth(5)), make_growth(5)
    lines = [line for line in ax.lines if line.get_marker() != "None" or len(line.get_xdata()) == 2]
    marks = [line for line in lines if line.get_marker() in ("o", "^")]
    rows = [label.split(" · ")[0] for label in labels(ax)]
    drawn = {
        (rows[round(float(line.get_ydata()[0]))], line.get_marker() == "o"): line.get_xdata()[0]
        for line in marks
    }
    assert drawn == {
        (row.tenant_name, row.full): row.percent_per_30d for row in growth.itertuples()
    }
    assert len({to_hex(line.get_color()) for line in marks}) == 2
    intervals = sorted(tuple(line.get_xdata()) for line in lines if line.get_marker() == "None")
    expected = growth[["percent_per_30d_low", "percent_per_30d_high"]].to_numpy().tolist()
    assert intervals == sorted([*map(tuple, expected), (0, 0)])  # and the line at 0
    assert rows == ["tenant_4", "tenant_3", "tenant_2", "tenant_1", "tenant_0"]


def test_growth_says_what_it_leaves_out() -> None:
    growth = make_growth(4)
    growth.loc[0:2, "percent_per_30d"] = float("nan")
    note = note_of(ob.plot_growth(growth))
    assert note == "Fastest first. Without 3 series of too little history."
    wide = make_growth(4)
    wide.loc[3, "percent_per_30d_high"] = 1e6
    assert ob.plot_growth(wide).get_xlim()[1] < 10  # one wide interval does not dwarf the others


@pytest.mark.parametrize(("scale", "axis"), [(1.0, "log"), (0.001, "linear")])
def test_durations(scale: float, axis: str) -> None:
    durations = make_durations(3, scale=scale)
    if axis == "linear":
        durations = durations[durations["full"]]
    ax = ob.plot_durations(durations)
    seconds = {
        name: sorted(durations[name].dt.total_seconds().clip(lower=1))
        for name in ("p50", "p95", "max", "last")
    }
    drawn: dict[str, list[float]] = {name: [] for name in seconds}
    for line in ax.lines:
        x = [float(each) for each in line.get_xdata()]
        if line.get_marker() in ("o", "^"):
            drawn["p50"] += x
        elif line.get_marker() == "|":
            drawn["last"] += x
        elif line.get_linewidth() > 2:
            drawn["p95"].append(x[1])
        else:
            drawn["max"].append(x[1])
    assert {name: sorted(values) for name, values in drawn.items()} == seconds
    assert ax.get_xscale() == axis
    assert "last run" in {text.get_text() for text in ax.get_legend().get_texts()}


def test_every_cause_has_its_own_colour() -> None:
    assert set(CAUSE_COLORS) == set(coverage_module.CAUSES) == set(CAUSES)
    assert len(set(CAUSE_COLORS.values())) == len(CAUSE_COLORS)
    assert MAX_ROWS == 30  # what test_nothing_is_cut_and_nothing_overlaps looks at


# --- manners -----------------------------------------------------------------------------------


@every_plot
@pytest.mark.parametrize("count", [1, 12, 500])
def test_no_more_rows_than_can_be_read(kind: str, count: int) -> None:
    ax = PLOTS[kind](count)
    assert len(labels(ax)) == min(count, MAX_ROWS)
    assert len(set(labels(ax))) == len(labels(ax))
    assert (f"Shown: {MAX_ROWS} of {count} tenants." in note_of(ax)) == (count > MAX_ROWS)


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda ax: ob.plot_coverage(make_gaps(1).head(0), ax), "No tenant was outside its RPO"),
        (
            lambda ax: ob.plot_coverage(make_gaps(1), ax, compliance=make_shares(0)),
            "No tenant has a backup set",
        ),
        (
            lambda ax: ob.plot_growth(make_growth(2).assign(percent_per_30d=np.nan), ax),
            "Too little history",
        ),
        (lambda ax: ob.plot_growth(make_growth(1).head(0), ax), "Too little history"),
        (lambda ax: ob.plot_durations(make_durations(2).assign(p50=pd.NaT), ax), "No finished"),
    ],
)
def test_nothing_to_draw_is_said(draw: Callable[[Any], Any], text: str) -> None:
    mine = Figure().subplots()
    assert draw(mine) is mine
    for ax in (mine, draw(None)):
        assert [each.get_text() for each in ax.texts if text in each.get_text()]


def test_no_gap_at_all_is_a_chart_too() -> None:
    none = make_gaps(1).head(0)
    ax = ob.plot_coverage(none, compliance=make_shares(2), points=make_points(2))
    assert "no gap in the window" in shown_title(ax)
    assert not list(boxes(ax))
    ax = ob.plot_coverage(none, compliance=make_shares(2))
    assert len(labels(ax)) == 2


@every_plot
def test_draws_where_it_is_told(kind: str) -> None:
    figure = Figure(figsize=(9, 5))
    first, second = figure.subplots(1, 2)
    assert PLOTS[kind](3, second) is second
    assert not first.lines
    assert not first.patches
    assert figure.axes == [first, second]


@every_plot
def test_leaves_no_trace(kind: str) -> None:
    before = dict(mpl.rcParams)
    ax = PLOTS[kind](3)
    ax.figure.savefig(io.BytesIO(), format="png")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_even_imported() -> None:
    code = (
        "import sys, obanalytics as ob; s = ob.sample();"
        "ax = ob.plot_coverage(ob.coverage_gaps(s, '26h')); ob.plot_growth(ob.size_growth(s));"
        "ob.plot_durations(ob.duration_trends(s)); assert 'matplotlib.pyplot' not in sys.modules;"
        "print(ax.get_title(loc='left'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "tenants have" in done.stdout


@every_plot
def test_inputs_are_left_alone(kind: str) -> None:
    frames = {
        "gaps": make_gaps(3),
        "growth": make_growth(3),
        "durations": make_durations(3),
        "compliance": make_shares(3),
        "points": make_points(3),
    }
    copies = {name: frame.copy(deep=True) for name, frame in frames.items()}
    if kind == "coverage":
        ob.plot_coverage(frames["gaps"], compliance=frames["compliance"], points=frames["points"])
    else:
        {"gaps": ob.plot_coverage, "growth": ob.plot_growth, "durations": ob.plot_durations}[kind](
            frames[kind]
        )
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, copies[name])


@every_plot
def test_same_frame_same_bytes(kind: str) -> None:
    first, second = (png(lambda: PLOTS[kind](5)) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Matplotlib" not in first


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ob.plot_coverage(make_shares(1)), "gaps must be .* coverage_gaps returned"),
        (lambda: ob.plot_coverage(ob.sample()), "coverage_gaps returned, not BackupSets"),  # type: ignore[arg-type]
        (
            lambda: ob.plot_coverage(make_gaps(1), compliance=make_gaps(1)),
            "compliance must be .* rpo_compliance returned; it has no time_in_rpo",
        ),
        (
            lambda: ob.plot_coverage(make_gaps(1), points=make_gaps(1)),
            "points must be .* restore_points returned",
        ),
        (lambda: ob.plot_growth(make_durations(1)), "growth must be .* size_growth returned"),
        (lambda: ob.plot_durations(make_growth(1)), "durations must be .* duration_trends"),
        (lambda: ob.plot_durations(None), "duration_trends returned, not NoneType"),  # type: ignore[arg-type]
    ],
)
def test_other_frames_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_results_of_the_analyses_are_taken() -> None:
    sets = ob.sample()
    gaps, compliance = ob.coverage_gaps(sets, "26h"), ob.rpo_compliance(sets, "26h")
    ax = ob.plot_coverage(gaps, compliance=compliance, points=ob.restore_points(sets))
    assert len(labels(ax)) == len(compliance)
    assert len(list(boxes(ax))) == len(gaps)
    short = sets.select(tenants="billing").between("2026-10-31")
    assert "Too little history" in ob.plot_growth(ob.size_growth(short)).texts[0].get_text()


# --- what a reader sees ------------------------------------------------------------------------


def texts_of(ax: Any) -> list[Any]:
    legend = ax.get_legend()
    kept = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts, ax.xaxis.label]
    kept += [ax.title, ax._left_title, *(legend.get_texts() if legend else [])]
    return [text for text in kept if text.get_text() and text.get_visible()]


def in_sight(ticks: list[Any], ax: Any) -> list[Any]:
    low, high = ax.bbox.x0 - 1, ax.bbox.x1 + 1
    found = [(tick.get_window_extent(), tick) for tick in ticks if tick.get_text()]
    return [tick for box, tick in found if low <= (box.x0 + box.x1) / 2 <= high]


def check_look(ax: Any, *, inside: tuple[float, float] = (0.0, 0.0)) -> None:
    """No text leaves the figure, no two labels of an axis touch, no row covers another."""
    with style():
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


@every_plot
@pytest.mark.parametrize("count", [1, 12, 30])
def test_nothing_is_cut_and_nothing_overlaps(kind: str, count: int) -> None:
    check_look(PLOTS[kind](count))


@cache
def user_figures() -> dict[str, tuple[float, float, dict[str, Any], tuple[int, int]]]:
    return {
        "default": (6.4, 4.8, {}, (1, 1)),
        "narrow": (4.5, 5.0, {}, (1, 1)),
        "small": (3.2, 2.4, {}, (1, 1)),
        "wide": (14.0, 6.0, {}, (1, 2)),
        "constrained": (9.0, 6.0, {"layout": "constrained"}, (1, 1)),
        "tight": (9.0, 6.0, {"layout": "tight"}, (1, 1)),
    }


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((kind, "default") for kind in PLOTS),
        *((kind, size) for size in user_figures() for kind in ("coverage", "durations")),
    ],
)
def test_a_users_own_ax(kind: str, size: str) -> None:
    width, height, options, grid = user_figures()[size]
    figure = Figure(figsize=(width, height), **options)
    axes = figure.subplots(*grid, squeeze=False).ravel()
    for ax in axes:
        PLOTS[kind](12, ax)
    for ax in axes:
        check_look(ax, inside=(2.0, 2.0))
        assert ax.bbox.width > 0.25 * figure.bbox.width / grid[1]
    for ax, other in pairwise(axes):
        assert ax.get_tightbbox().x1 <= other.get_tightbbox().x0 + 2


def test_part_of_a_figure() -> None:
    figure = Figure(figsize=(12, 5))
    left, right = figure.subfigures(1, 2)
    ob.plot_growth(make_growth(4), right.subplots())
    ax = right.axes[0]
    figure.draw_without_rendering()
    assert ax.get_tightbbox().x0 >= right.bbox.x0
    assert ax._left_title.get_window_extent().x1 <= right.bbox.x1
    assert not left.axes


@pytest.mark.parametrize(
    ("kind", "names"),
    [*((kind, HOSTILE) for kind in PLOTS), *(("growth", (name,)) for name in HOSTILE)],
)
def test_hostile_names_are_only_text(kind: str, names: tuple[str, ...]) -> None:
    ax = PLOTS[kind](len(names), None, names)
    check_look(ax)  # a missing glyph or mathematics would warn or raise
    for label in labels(ax):
        assert label.strip()
        assert cells(label) <= 26
        assert label.isprintable()
        assert drawable(label) == label
    assert len(set(labels(ax))) == len(names)


def test_dollars_are_not_mathematics() -> None:
    ax = ob.plot_growth(make_growth(1, ("$x_1$ and $y$",)))
    assert labels(ax) == ["$x_1$ and $y$"]
    assert "$x_1$ and $y$" in shown_title(ax)
    ax.figure.draw_without_rendering()  # outside of our style, as in a user's savefig
    assert not any(text.get_parse_math() for text in [*ax.get_yticklabels(), ax._left_title])


def test_names_without_glyphs_become_ids() -> None:
    ax = ob.plot_growth(make_growth(2, ("🦀", "orders")))
    assert {label.split(" · ")[0] for label in labels(ax)} == {"t0", "orders"}
    assert "🦀" not in shown_title(ax)


@pytest.mark.parametrize("days", [0.02, 0.3, 3, 20, 45, 200, 500, 800, 1500, 9000])
def test_any_span_of_time(days: float) -> None:
    window = (BEGIN, BEGIN + pd.Timedelta(days, "D"))
    ax = Figure(figsize=(4, 4)).subplots()
    ob.plot_coverage(make_gaps(2), ax, window=window)
    check_look(ax, inside=(2.0, 2.0))
    assert len(in_sight(ax.get_xticklabels(), ax)) >= 1


@pytest.mark.parametrize(
    ("seconds", "ratio"),
    [(1, 1), (40, 3), (600, 14), (600, 16), (9000, 1), (3_000_000, 3), (1, 10_000_000)],
)
def test_any_duration(seconds: float, ratio: float) -> None:
    durations = make_durations(2)
    for name in ("p50", "p95", "max", "last"):
        durations[name] = pd.to_timedelta([seconds, seconds, seconds * ratio, seconds], unit="s")
    ax = ob.plot_durations(durations)
    check_look(ax)
    assert len(in_sight(ax.get_xticklabels(), ax)) >= 2


def test_a_chart_shows_itself_in_a_notebook_with_its_title_as_text() -> None:
    gaps = ob.coverage_gaps(ob.sample(), "27h")
    ax = ob.plot_coverage(gaps)
    for shown in (ax, ax.figure):
        assert shown._repr_png_() == png(lambda: ax)
        html = shown._repr_html_()
        assert 'alt="8 tenants have 9 gaps, the longest 69 d 6 h' in html
        assert base64.b64encode(png(lambda: ax)).decode() in html
    nothing = ob.plot_coverage(gaps.head(0))
    assert nothing._repr_png_().startswith(b"\x89PNG")
