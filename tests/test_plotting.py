"""Charts hold the numbers of the frames they are given, and nothing of anybody else's."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import time
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from charts import (
    BEGIN,
    DARK,
    HOSTILE,
    PLOTS,
    ROWS,
    check_contrast,
    check_look,
    in_sight,
    labels,
    make_calendar,
    make_durations,
    make_gaps,
    make_growth,
    make_points,
    make_shares,
    make_steps,
    marks_of,
    note_of,
    shown_title,
)
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import obanalytics as ob
from obanalytics.canvas import png
from obanalytics.letters import drawable
from obanalytics.plotting import MAX_LINES
from obanalytics.ticks import MAX_ROWS
from obanalytics.wording import cells

if TYPE_CHECKING:
    from collections.abc import Callable

every_plot = pytest.mark.parametrize("kind", PLOTS)
every_rows = pytest.mark.parametrize("kind", ROWS)

# --- the numbers -------------------------------------------------------------------------------


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


# --- exposure ----------------------------------------------------------------------------------


def curve_of(ax: Any, name: str) -> Any:
    return next(line for line in ax.lines if str(line.get_label()).startswith(name))


def hours_at(line: Any) -> list[tuple[float, float]]:
    days = np.asarray(line.get_xdata(), float) - mpl.dates.date2num(BEGIN.tz_convert(None))
    return [
        (round(24 * x, 6), round(y / 3600, 6)) for x, y in zip(days, line.get_ydata(), strict=True)
    ]


def shades(ax: Any) -> list[Any]:
    found = [c for c in ax.collections if isinstance(c, PolyCollection)]
    return [c for c in found if to_hex(c.get_facecolor()[0]) == "#d55e00" and len(c.get_paths())]


def test_teeth_are_where_the_frame_says() -> None:
    steps = make_steps(4)
    ax = ob.plot_exposure(steps, rpo="26h")
    for name, mine in steps[~steps["unbounded"]].groupby("tenant_name"):
        expected = []
        for row in mine.itertuples():
            for moment, height in (
                (row.start, row.exposure_start),
                (row.end, row.exposure_end),
            ):
                hour = pd.Timedelta(1, "h")
                expected.append((round((moment - BEGIN) / hour, 6), round(height / hour, 6)))
        drawn = [each for each in hours_at(curve_of(ax, name)) if not np.isnan(each[1])]
        assert [each for n, each in enumerate(drawn) if not n or each != drawn[n - 1]] == expected
    assert marks_of(ax)[-3:] == ["over the RPO", "RPO 26 h", "no restore point"]
    assert len({to_hex(line.get_color()) for line in ax.lines[:4]}) == 4


def test_steps_that_do_not_touch_are_not_joined() -> None:
    steps = make_steps(1).drop(index=4)
    drawn = hours_at(curve_of(ob.plot_exposure(steps), "tenant_0"))
    assert sum(np.isnan(y) for _, y in drawn) == 1  # the hole
    shuffled = steps.sample(frac=1, random_state=1)
    again = hours_at(curve_of(ob.plot_exposure(shuffled), "tenant_0"))
    np.testing.assert_array_equal(np.array(drawn), np.array(again))


def test_what_is_over_the_rpo_is_shaded_and_nothing_else() -> None:
    ax = ob.plot_exposure(make_steps(3), rpo="26h")
    assert len(shades(ax)) == 1  # tenant 2: from 26 hours after its checkpoint to its next point
    outline = np.concatenate([path.vertices for path in shades(ax)[0].get_paths()])
    x = (outline[:, 0] - mpl.dates.date2num(BEGIN.tz_convert(None))) * 24
    assert (x.min(), x.max()) == pytest.approx((29 + 25, 125))
    assert (outline[:, 1].min() / 3600, outline[:, 1].max() / 3600) == pytest.approx((26, 97))
    assert not shades(ob.plot_exposure(make_steps(3), rpo="5D"))
    assert not shades(ob.plot_exposure(make_steps(3)))


def test_the_share_over_the_rpo_is_that_of_the_minutes() -> None:
    steps, minute = make_steps(3), pd.Timedelta(1, "min")
    over = whole = 0
    for row in steps.itertuples():
        for count in range(int((row.end - row.start) / minute)):
            whole += 1
            over += row.unbounded or row.exposure_start + (count + 0.5) * minute > 26 * 60 * minute
    title = shown_title(ob.plot_exposure(steps, rpo="26h"))
    found = float(title.split(" for ")[-1].split(" ")[0])
    assert found == pytest.approx(100 * over / whole, abs=0.02)
    assert title.startswith("No restore point for 4 h (tenant_1); else worst exposure 4 d 1 h (")


@pytest.mark.parametrize(
    ("rpo", "title"),
    [
        (None, "Worst exposure 26 h (tenant_0)"),
        ("26h", "Worst exposure 26 h (tenant_0), never over the RPO of 26 h"),
        ({"t0": "26h", "t3": "3D"}, "Worst exposure 26 h (tenant_0), never over the RPOs"),
        (pd.Timedelta("25h59min59s"), "Worst exposure 26 h (tenant_0); over the RPO of 26 h"),
    ],
)
def test_titles_of_exposure(rpo: Any, title: str) -> None:
    steps = make_steps(4)
    steps = steps[steps["tenant_id"].isin(["t0", "t3"])]
    steps.loc[3, "exposure_end"] = pd.Timedelta("26h")
    shown = shown_title(ob.plot_exposure(steps, rpo=rpo))
    assert shown.startswith(title)
    if isinstance(rpo, pd.Timedelta):
        assert shown.endswith("for less than 0.01 % of the time")


def test_each_tenant_has_its_own_rpo() -> None:
    steps = make_steps(3)
    limits = {"t0": "26h", ("ob1abcdefgh", "t1"): "30h", "t1": "1h", "t2": "2D"}
    for given in (limits, pd.Series(limits)):
        ax = ob.plot_exposure(steps, rpo=given)
        heights = [line.get_ydata()[0] / 3600 for line in ax.lines if line.is_dashed()]
        assert heights == [26, 30, 48]
        assert "RPO 26 h, 30 h, 2 d" in marks_of(ax)
        assert (
            np.concatenate([p.vertices for p in shades(ax)[0].get_paths()])[:, 1].min() == 48 * 3600
        )
    many = {f"t{number}": f"{20 + number}h" for number in range(9)}
    assert "RPO 20 h to 28 h" in marks_of(ob.plot_exposure(make_steps(9), rpo=many))


def test_no_restore_point_is_hatched_and_not_zero() -> None:
    steps = make_steps(3)
    ax = ob.plot_exposure(steps, rpo="26h")
    (strip,) = [c for c in ax.collections if c.get_hatch()]
    corners = strip.get_paths()[0].vertices
    days = (corners[:, 0] - mpl.dates.date2num(BEGIN.tz_convert(None))) * 24
    assert (days.min(), days.max()) == pytest.approx((0, 4))
    assert corners[:, 1].max() <= 1  # of the ax
    top = ax.transAxes.transform((0, corners[:, 1].min()))[1]
    finite = steps["exposure_end"].dropna().dt.total_seconds().max()
    assert ax.transData.transform((0, finite))[1] < top
    assert to_hex(strip.get_edgecolor()[0]) == to_hex(curve_of(ax, "tenant_1").get_color())
    assert all(x >= 4 for x, y in hours_at(curve_of(ax, "tenant_1")) if not np.isnan(y))
    ax = ob.plot_exposure(steps.assign(unbounded=True))
    assert shown_title(ax) == "No restore point for 9 d (tenant_0)"
    assert len([c for c in ax.collections if c.get_hatch()]) == 3
    check_look(ax)


def test_logarithmic_where_the_worst_is_many_times_the_typical() -> None:
    steps = make_steps(2, days=12)
    assert ob.plot_exposure(steps).get_yscale() == "linear"
    steps.loc[9, "end"] += pd.Timedelta(30, "D")
    steps.loc[9, "exposure_end"] += pd.Timedelta(30, "D")
    steps = steps.drop(index=range(10, 13))
    ax = ob.plot_exposure(steps, rpo="26h")
    assert ax.get_yscale() == "symlog"
    assert ax.get_ylim()[0] == 0
    drawn = [each for each in hours_at(curve_of(ax, "tenant_0")) if not np.isnan(each[1])]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(drawn) if b[0] - a[0] > 1e-3]
    assert slopes == pytest.approx([1] * len(slopes), rel=1e-3)  # an hour is lost in an hour
    assert len(drawn) > 12 * 9
    check_look(ax)


def slow_peak(mine: pd.DataFrame, begin: pd.Timestamp, end: pd.Timestamp) -> float:
    most = np.nan
    for row in mine.itertuples():
        first, last = max(row.start, begin), min(row.end, end)
        if last > first:
            part = (last - row.start) / (row.end - row.start)
            grown = row.exposure_end - row.exposure_start
            height = (row.exposure_start + grown * part).total_seconds()
            most = np.nanmax([most, np.inf if row.unbounded else height])
    return most


@pytest.mark.parametrize(("days", "log"), [(9, False), (200, False), (9, True), (200, True)])
def test_many_tenants_are_summarised(days: int, *, log: bool) -> None:
    steps = make_steps(9, days=days)
    if log:  # any instant can be restored but in every third step
        some = (steps.index % 3 > 0) & ~steps["unbounded"]
        steps.loc[some, ["exposure_start", "exposure_end"]] = pd.Timedelta(0)
    steps = steps.drop(steps[steps["tenant_id"] == "t4"].index[-3:])  # one ends early
    ax = ob.plot_exposure(steps, rpo="26h")
    x = mpl.dates.num2date(np.asarray(curve_of(ax, "median").get_xdata())[::2])
    last = mpl.dates.num2date(curve_of(ax, "median").get_xdata()[-1])
    bounds = [*map(pd.Timestamp, x), pd.Timestamp(last)]
    groups = [mine for _, mine in steps.groupby("tenant_id")]
    top = ax.get_ylim()[1]
    some = list(enumerate(pairwise(bounds)))[:: max(len(bounds) // 25, 1)]
    for number, (begin, end) in some:
        peaks = sorted(p for p in (slow_peak(m, begin, end) for m in groups) if not np.isnan(p))
        if not peaks:
            continue
        finite = [peak for peak in peaks if np.isfinite(peak)]
        median = peaks[-(-len(peaks) // 2) - 1]
        drawn = curve_of(ax, "median").get_ydata()[2 * number]
        assert drawn == pytest.approx(min(median, top), abs=1), (begin, end)
        highest = curve_of(ax, "highest").get_ydata()[2 * number]
        assert highest == pytest.approx(max(finite, default=np.nan), abs=1, nan_ok=True)
    assert {"median", "10 to 90 % of tenants", "highest", "RPO 26 h"} <= set(marks_of(ax))
    assert "Summary of 9 tenants, and the worst 2." in note_of(ax) or log
    worst = [mark for mark in marks_of(ax) if mark.startswith("tenant_")]
    assert worst[0].split(" · ")[0] == "tenant_1"
    check_look(ax)


def test_teeth_too_close_are_their_peaks() -> None:
    steps = make_steps(3, days=300)
    ax = ob.plot_exposure(steps, rpo="26h")
    line = curve_of(ax, "tenant_2")
    assert len(line.get_xdata()) < 1000
    assert np.nanmax(line.get_ydata()) == pytest.approx(97 * 3600)
    assert np.nanmin(line.get_ydata()[:-2]) > 20 * 3600
    assert "Peak of each" in note_of(ax)


@pytest.mark.parametrize("count", [MAX_LINES, MAX_LINES + 1])
def test_a_line_each_or_a_summary(count: int) -> None:
    ax = ob.plot_exposure(make_steps(count))
    assert len([m for m in marks_of(ax) if m.startswith("tenant_")]) == min(count, 6) - 4 * (
        count > 6
    )
    assert ("median" in marks_of(ax)) == (count > MAX_LINES)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("point", "Point model: log backups not considered."),
        ("log", "Log model: the vendor's restorable intervals."),
        ("mixed", "Log model where the vendor lists intervals, point model elsewhere."),
        (None, "Model not recorded in this table."),
    ],
)
def test_every_chart_says_which_model_it_shows(model: str | None, text: str) -> None:
    frames = [make_gaps(3), make_steps(3), make_calendar(3)]
    for frame in frames:
        frame.attrs.pop("model", None)
        frame.attrs |= {"model": model} if model else {}
    gaps, steps, calendar = frames
    charts = [ob.plot_coverage(gaps), ob.plot_exposure(steps), ob.plot_coverage_calendar(calendar)]
    for ax in [*charts, ob.plot_coverage(make_gaps(3), steps=steps)]:
        assert text in note_of(ax)


def test_log_model_is_zero_where_any_instant_can_be_restored() -> None:
    steps, none = make_steps(1), pd.Timedelta(0)
    steps.loc[2:6, ["exposure_start", "exposure_end"]] = none
    drawn = hours_at(curve_of(ob.plot_exposure(steps), "tenant_0"))
    assert {y for x, y in drawn if 27 < x < 147} == {0}
    flat = steps.assign(exposure_start=none, exposure_end=none)
    ax = ob.plot_exposure(flat, rpo="0h")
    assert shown_title(ax) == "Worst exposure 0 s (tenant_0), never over the RPO of 0 s"
    check_look(ax)


def test_a_year_of_five_hundred_tenants_is_drawn_in_a_second() -> None:
    steps = make_steps(50, days=365)
    parts = [
        steps.assign(instance_id=f"ob{n}", tenant_id=steps["tenant_id"] + f"-{n}")
        for n in range(10)
    ]
    whole = pd.concat(parts, ignore_index=True)
    names = dict.fromkeys(("instance_id", "tenant_id", "tenant_name"), "category")
    whole = whole.astype(names)
    took = []
    for _ in range(2):
        begin = time.process_time()
        ob.plot_exposure(whole, rpo="26h")
        took.append(time.process_time() - begin)
    assert min(took) < 1.5  # about 0.3 where nothing else runs


# --- manners -----------------------------------------------------------------------------------


@every_rows
@pytest.mark.parametrize("count", [1, 12, 500])
def test_no_more_rows_than_can_be_read(kind: str, count: int) -> None:
    ax = PLOTS[kind](count)
    assert len(set(labels(ax))) == len(labels(ax))
    if kind == "calendar":
        assert len(labels(ax)) == min(count, 41)
        assert ("The worst 40 of 500 tenants, and the rest." in note_of(ax)) == (count > 60)
        return
    assert len(labels(ax)) == min(count, MAX_ROWS)
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
        (lambda ax: ob.plot_exposure(make_steps(1).head(0), ax), "No tenant has a backup set"),
        (lambda ax: ob.plot_exposure(make_steps(1).head(0), ax, rpo={}), "No tenant has"),
        (lambda ax: ob.plot_coverage_calendar(make_calendar(1).head(0), ax), "No tenant has a day"),
        (lambda ax: ob.plot_coverage_calendar(make_gaps(1).head(0), ax), "No tenant has a gap"),
    ],
)
def test_nothing_to_draw_is_said(draw: Callable[[Any], Any], text: str) -> None:
    mine = Figure().subplots()
    assert draw(mine) is mine
    for ax in (mine, draw(None)):
        assert [each.get_text() for each in ax.texts if text in each.get_text()]


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


def test_inputs_are_left_alone() -> None:
    frames = {
        "gaps": make_gaps(3),
        "growth": make_growth(3),
        "durations": make_durations(3),
        "compliance": make_shares(3),
        "points": make_points(3).assign(chain_id="a", state="done"),
        "steps": make_steps(3),
        "calendar": make_calendar(3),
    }
    copies = {name: frame.copy(deep=True) for name, frame in frames.items()}
    limits = {"t0": "4h", "t1": "5h", ("ob2abcdefgh", "t2"): "6h"}
    gaps, steps = frames["gaps"], frames["steps"]
    ob.plot_coverage(gaps)
    ob.plot_coverage(gaps, compliance=frames["compliance"], points=frames["points"], steps=steps)
    ob.plot_coverage_calendar(frames["calendar"])
    ob.plot_coverage_calendar(gaps)
    ob.plot_durations(frames["durations"])
    ob.plot_exposure(steps, rpo=limits)
    ob.plot_growth(frames["growth"])
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, copies[name])
        assert frame.attrs == copies[name].attrs
    assert limits == {"t0": "4h", "t1": "5h", ("ob2abcdefgh", "t2"): "6h"}


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
        (lambda: ob.plot_coverage(make_gaps(1), steps=make_gaps(1)), "steps must be .* exposure"),
        (lambda: ob.plot_exposure(make_gaps(1)), "steps must be .* exposure returned; it has no"),
        (lambda: ob.plot_exposure(make_steps(2), rpo={"t0": "1h"}), "no rpo for tenant 't1'"),
        (lambda: ob.plot_exposure(make_steps(1), rpo="-1h"), "not negative, not '-1h'"),
        (lambda: ob.plot_exposure(make_steps(1), rpo=pd.NaT), "not negative, not NaT"),
        (lambda: ob.plot_coverage_calendar(make_shares(1)), "calendar must be .* coverage_calend"),
        (lambda: ob.plot_coverage_calendar(3), "coverage_calendar returned, not int"),  # type: ignore[arg-type]
    ],
)
def test_other_frames_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_results_of_the_analyses_are_taken() -> None:
    sets = ob.sample()
    short = sets.select(tenants="billing").between("2026-10-31")
    growth = ob.size_growth(short)
    growth.attrs = {}  # lost on the way, else sizes are drawn
    assert "Too little history" in ob.plot_growth(growth).texts[0].get_text()
    ax = ob.plot_exposure(ob.exposure(sets), rpo="26h")
    assert shown_title(ax).startswith("Worst exposure 70 d 9 h (identity); over the RPO of 26 h")


# --- what a reader sees ------------------------------------------------------------------------


@every_plot
@pytest.mark.parametrize("count", [1, 6, 7, 12, 30, 500])
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
        *((kind, size) for size in user_figures() for kind in ("exposure", "calendar")),
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
    if kind not in ROWS:
        return
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


def test_any_name_is_in_the_legend() -> None:
    ax = ob.plot_exposure(make_steps(4, ("_x_", "$a$ and $b$", "<b>&", "🦀")))
    shown = [mark.strip().split(" · ")[0] for mark in marks_of(ax)]
    assert shown[:4] == ["$a$ and $b$", "<b>&", "_x_", "t3"]
    ax.figure.draw_without_rendering()
    assert not any(text.get_parse_math() for text in ax.get_legend().get_texts())
    check_look(ax)


def test_names_without_glyphs_become_ids() -> None:
    ax = ob.plot_growth(make_growth(2, ("🦀", "orders")))
    assert {label.split(" · ")[0] for label in labels(ax)} == {"t0", "orders"}
    assert "🦀" not in shown_title(ax)


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


# --- light and dark ----------------------------------------------------------------------------


@every_plot
def test_light_is_white_and_dark_stays_dark(kind: str) -> None:
    check_contrast(PLOTS[kind](9), face="#ffffff", inside="#ffffff")
    with mpl.rc_context(DARK):
        made = PLOTS[kind](9)
        mine = PLOTS[kind](9, Figure(figsize=(9, 6)).subplots())
    for ax in (made, mine):  # outside of the user's style, as in a later savefig
        check_contrast(ax, face="#101418", inside="#181c22")
    ax = Figure(figsize=(9, 6), facecolor="black").subplots(subplot_kw={"facecolor": "black"})
    check_contrast(PLOTS[kind](9, ax), face="#000000", inside="#000000")


@every_plot
def test_a_dark_ax_in_a_light_figure(kind: str) -> None:
    ax = Figure(figsize=(9, 6)).subplots(subplot_kw={"facecolor": "black"})
    check_contrast(PLOTS[kind](9, ax), face="#ffffff", inside="#000000")


def test_a_report_is_light_whatever_the_users_style() -> None:
    light = png(lambda: PLOTS["growth"](3))
    with mpl.rc_context(DARK):
        assert png(lambda: PLOTS["growth"](3)) == light
        dark = PLOTS["growth"](3)
    assert dark._repr_png_() != light
    with mpl.rc_context({"figure.facecolor": "none", "axes.facecolor": "none"}):
        assert PLOTS["growth"](3)._repr_png_() == light
