"""Charts along time hold the numbers of the frames that ride on a result."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from charts import (
    BEGIN,
    DARK,
    HOSTILE,
    check_contrast,
    check_look,
    check_texts,
    labels,
    make_changes,
    make_durations,
    make_growth,
    make_sized,
    make_timed,
    marks_of,
    note_of,
    riding,
    shown_title,
    who,
)
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.dates import date2num
from matplotlib.figure import Figure

import obanalytics as ob
from obanalytics.canvas import png
from obanalytics.carry import carried
from obanalytics.lanes import plot_durations, plot_growth, plot_throughput
from obanalytics.strips import MAX_LANES
from obanalytics.ticks import MAX_ROWS, MODES, UP

ALL = (True, False, None)
COLORS = [color for *_, color, _ in MODES]


def growth(count: int, ax: Any = None, names: tuple[str, ...] = (), **more: Any) -> Any:
    return plot_growth(make_sized(count, names, **more), ax)


def durations(count: int, ax: Any = None, names: tuple[str, ...] = (), **more: Any) -> Any:
    return plot_durations(make_timed(count, names, **more), ax, changes=make_changes(count))


def throughput(count: int, ax: Any = None, names: tuple[str, ...] = (), **more: Any) -> Any:
    return plot_throughput(make_timed(count, names, **more), ax, changes=make_changes(count))


PLOTS: dict[str, Any] = {"growth": growth, "durations": durations, "throughput": throughput}
every_plot = pytest.mark.parametrize("kind", PLOTS)


def at(moments: Any) -> Any:
    return date2num(pd.Series(moments).dt.tz_convert(None).to_numpy())


def rider(frame: pd.DataFrame, name: str, place: int, number: int = 0) -> pd.DataFrame:
    found: Any = carried(frame, name)
    full = found["full"]
    chosen = full.isna() if place == 2 else full.eq(place == 0).fillna(value=False)
    mine = found[chosen.astype(bool) & found["tenant_id"].eq(f"t{number}")]
    return mine.sort_values("start_time" if "start_time" in mine else "start")


def dots_of(ax: Any, place: int) -> list[Any]:
    marker = MODES[place][3]
    found = [line for line in ax.lines if line.get_color() == COLORS[place]]
    return [line for line in found if line.get_marker() == marker and len(line.get_xdata())]


def lines_of(ax: Any, place: int) -> list[Any]:
    found = [line for line in ax.lines if line.get_color() == COLORS[place]]
    kept = [line for line in found if line.get_marker() == "None" and not line.is_dashed()]
    return [line for line in kept if len(line.get_xdata()) > 0]


def marks(ax: Any) -> list[Any]:
    return [line for line in ax.lines if line.is_dashed() and len(line.get_xdata()) == 2]


def bars_of(ax: Any) -> Any:
    lines = [c for c in ax.collections if isinstance(c, LineCollection)]
    (bars,) = [c for c in lines if to_hex(c.get_color()[0]) == COLORS[1].lower()]
    return np.array(bars.get_segments())


# --- the numbers of one tenant -----------------------------------------------------------------


def test_sizes_of_one_tenant() -> None:
    frame = make_sized(2).iloc[2:]  # a slice carries what the whole did
    ax = plot_growth(frame)
    full, small = (rider(frame, "points", place, 1) for place in (0, 1))
    (line,) = lines_of(ax, 0)
    np.testing.assert_array_equal(line.get_xdata(), at(full["start_time"]))
    np.testing.assert_array_equal(line.get_ydata(), full["size_gib"])
    bars = bars_of(ax)
    np.testing.assert_array_equal(bars[:, 0, 0], at(small["start_time"]))
    heights = bars[:, 1, 1] - bars[:, 0, 1]
    np.testing.assert_allclose(heights / heights.max(), small["size_gib"] / small["size_gib"].max())
    assert bars[:, 1, 1].max() < 0  # under what is of full sets, not among it
    assert shown_title(ax) == (
        "tenant_1: full sets grow +5.6 % in 30 days (+4.6 to +6.4); the last 114 GiB; "
        "a step \N{MULTIPLICATION SIGN}1.80 on 2026-03-05"
    )
    assert marks_of(ax) == [
        "full: +0.093 GiB a day, +5.6 % in 30 days (+4.6 to +6.4)",
        "incremental: +0.0028 GiB a day, +5.6 % in 30 days (+4.6 to +6.4)",
    ]
    check_look(ax)


def test_the_ticks_of_both_scales_say_what_is_drawn() -> None:
    ax = plot_growth(make_sized(1))
    ax.figure.draw_without_rendering()
    bars, small = bars_of(ax), rider(make_sized(1), "points", 1)["size_gib"].to_numpy()
    for place, text in zip(ax.get_yticks(), labels(ax), strict=True):
        if place >= 0:
            assert float(text) == place
        else:
            unit = (bars[0, 1, 1] - bars[0, 0, 1]) / small[0]
            assert (place - bars[0, 0, 1]) / unit == pytest.approx(float(text))


def test_a_step_is_marked_where_it_was() -> None:
    frame = make_sized(2).iloc[2:]
    ax = plot_growth(frame)
    (mark,) = marks(ax)
    assert set(mark.get_xdata()) == set(at([BEGIN + pd.Timedelta(24 * 63 + 2, "h")]))
    assert mark.get_color() == COLORS[0]
    assert [
        text.get_text() for text in ax.texts if "\N{MULTIPLICATION SIGN}" in text.get_text()
    ] == ["\N{MULTIPLICATION SIGN}1.80"]
    assert not marks(plot_growth(make_sized(1)))


@pytest.mark.parametrize("modes", [(False,), (None,), ALL])
def test_any_modes(modes: Any) -> None:
    for draw in (growth, durations):
        ax = draw(1, modes=modes, length=60)
        check_look(ax)
        names = [mark.split(":")[0] for mark in marks_of(ax)]
        wanted = [name for full, name, *_ in MODES if full in modes]
        assert names[: len(modes)] == wanted
        check_look(draw(3, modes=modes, length=60))
    ax = plot_growth(make_sized(1, modes=(False,)))
    assert bars_of(ax)[:, 0, 1].max() == 0  # on the scale of the axis itself
    small = rider(make_sized(1, modes=(False,)), "points", 1)
    assert bars_of(ax)[0, 1, 1] == small["size_gib"].iloc[0]


def test_runs_of_one_tenant() -> None:
    frame = make_timed(1)
    ax = plot_durations(frame, changes=make_changes(1))
    for place in (0, 1):
        runs = rider(frame, "points", place)
        done = runs[~runs["running"]]
        (dots,) = dots_of(ax, place)
        np.testing.assert_array_equal(dots.get_xdata(), at(done["start_time"]))
        np.testing.assert_allclose(dots.get_ydata(), done["duration"].dt.total_seconds())
    running = rider(frame, "points", 0).query("running")
    (arrow,) = [li for li in ax.lines if li.get_marker() is UP and len(li.get_xdata())]
    assert list(arrow.get_ydata()) == list(running["duration"].dt.total_seconds())
    assert list(arrow.get_xdata()) == list(at(running["start_time"]))
    assert arrow.get_markerfacecolor() == "none"
    assert ax.get_yscale() == "log"
    assert "not over: at least so long" in marks_of(ax)


def test_weekly_medians_are_steps_and_the_band_reaches_the_p95() -> None:
    frame = make_timed(1, modes=(False,))
    weekly: Any = carried(frame, "weekly")
    frame = riding(frame, {"weekly": weekly.drop(index=weekly.index[5:7])})  # nothing known of two
    ax, weeks = plot_durations(frame), rider(frame, "weekly", 1)
    (line,) = lines_of(ax, 1)
    x, y = (np.asarray(each, float) for each in line.get_data())
    assert np.isnan(y).sum() == 1
    assert len(x) == 2 * len(weeks) + 1
    for begin, p50 in zip(at(weeks["start"]), weeks["p50"].dt.total_seconds(), strict=True):
        (mine,) = np.flatnonzero(np.isclose(x, begin) & np.isclose(y, p50))[-1:]
        np.testing.assert_allclose((x[mine + 1] - begin, y[mine + 1]), (7, p50))
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    highest = max(path.vertices[:, 1].max() for path in band.get_paths())
    assert highest == pytest.approx(weeks["p95"].dt.total_seconds().max())


def test_changes_are_numbered_and_told() -> None:
    changes = make_changes(4, each=6)
    ax = plot_durations(make_timed(1), changes=changes)
    mine = changes[changes["tenant_id"] == "t0"].sort_values("at", ascending=False)
    drawn = sorted({mark.get_xdata()[0] for mark in marks(ax)}, reverse=True)
    assert drawn == list(at(mine["at"]))
    told = [mark.replace("\n", " ") for mark in marks_of(ax) if mark[0].isdigit()]
    assert told == [f"{n}: {text}" for n, text in enumerate(mine["sentence"].head(4), 1)]
    assert marks_of(ax)[-1] == "and 2 earlier"
    title = shown_title(ax)
    assert "; full \N{MULTIPLICATION SIGN}1.90 as long since 2026-03-05, slower per GiB;" in title
    assert title.endswith("; 1 run unfinished now")
    check_look(ax)
    check_texts(ax)
    ax = plot_durations(make_timed(3).iloc[2:4], changes=changes)  # that tenant did not change
    assert not marks(ax)


def test_throughput_of_one_tenant() -> None:
    frame = make_timed(1)
    points: Any = carried(frame, "points").copy()
    points.loc[points.index[:3], "size_gib"] = [0.09, 0.1, np.nan]
    frame = riding(frame, {"points": points})
    ax = plot_throughput(frame, changes=make_changes(1))
    for place in (0, 1):
        runs = rider(frame, "points", place)
        good = runs[~runs["running"] & (runs["size_gib"] >= 0.1)]
        (dots,) = dots_of(ax, place)
        hours = good["duration"].dt.total_seconds() / 3600
        np.testing.assert_allclose(dots.get_ydata(), good["size_gib"] / hours)
        np.testing.assert_array_equal(dots.get_xdata(), at(good["start_time"]))
    assert len(dots_of(ax, 0)[0].get_xdata()) == len(rider(frame, "points", 0)) - 3
    assert (
        "full \N{MULTIPLICATION SIGN}0.53 the throughput since 2026-03-05, slower per GiB"
        in shown_title(ax)
    )
    bigger = make_changes(1).assign(cause="size", throughput_factor=1.0)
    assert not marks(plot_throughput(frame, changes=bigger))  # no slower per GiB


# --- lanes -------------------------------------------------------------------------------------


def test_every_lane_has_its_own_scale() -> None:
    frame = make_sized(4)
    ax = plot_growth(frame)
    assert [label.split(" · ")[0] for label in labels(ax)] == [f"tenant_{n}" for n in range(4)]
    for y, line in enumerate(lines_of(ax, 0)):
        sizes = rider(frame, "points", 0, y)["size_gib"].to_numpy()
        heights = y + 0.41 - np.asarray(line.get_ydata())
        assert 0 < heights.min() < heights.max() < 0.83
        down = np.diff(line.get_ydata()) / np.diff(sizes)
        np.testing.assert_allclose(down, down[0])  # a scale, and larger is higher
        assert down[0] < 0
    texts = [text.get_text() for text in ax.texts]
    for row in frame[frame["full"]].itertuples():
        assert f"{row.percent_per_30d:+.1f} %" in texts
    assert {"last full", "50.7 GiB", "\N{MULTIPLICATION SIGN}1.80"} <= set(texts)
    assert shown_title(ax).endswith("; 1 series with a step")


def test_what_sticks_out_does_not_crush_a_lane() -> None:
    frame = make_sized(2)
    points: Any = carried(frame, "points").copy()
    points.loc[points["tenant_id"].eq("t1").idxmax(), "size_gib"] = 1e5
    ax = plot_growth(riding(frame, {"points": points}))
    line = lines_of(ax, 0)[1]
    heights = np.sort(np.asarray(line.get_ydata()))
    assert heights[0] == pytest.approx(1 - 0.41)  # cut at the top of its lane
    assert np.ptp(heights[1:]) > 0.1
    alone = riding(frame.iloc[2:], {"points": points})
    assert plot_growth(alone).get_ylim()[1] > 1e5  # not where it has an axis


def test_lanes_of_durations() -> None:
    ax = plot_durations(make_timed(4), changes=make_changes(4))
    assert labels(ax)[0].startswith("tenant_3")  # the longest p95
    rows = [round(float(np.mean(mark.get_ydata()))) for mark in marks(ax)]
    assert sorted(rows) == [labels(ax).index("tenant_3 · ob0abcdefgh"), 1]
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("\N{MULTIPLICATION SIGN}1.90") == 2
    assert {"full p95", "full last", "1 h 35 min"} <= set(texts)
    assert shown_title(ax).endswith("; 2 changes found")
    texts = [text.get_text() for text in throughput(4).texts]
    assert texts.count("\N{MULTIPLICATION SIGN}0.53") == 2
    assert "42.8 GiB/h" in texts


@pytest.mark.parametrize("by", ["cluster", "fleet"])
def test_series_of_clusters_and_of_the_fleet(by: str) -> None:
    frame = make_sized(3 if by == "cluster" else 1)
    gone = ["tenant_id", "tenant_name"] + ["instance_id"] * (by == "fleet")
    frames = {}
    for name in ("points", "steps"):
        found: Any = carried(frame, name)
        frames[name] = found.assign(**dict.fromkeys(gone, pd.NA))
    made = frame.assign(**dict.fromkeys(gone, pd.NA))
    made.attrs = {"by": by}
    ax = plot_growth(riding(made, frames))
    if by == "fleet":
        assert shown_title(ax).startswith("fleet: full sets grow")
        assert len(lines_of(ax, 0)[0].get_xdata()) == len(rider(frame, "points", 0))
    else:
        assert labels(ax) == ["ob0abcdefgh", "ob1abcdefgh", "ob2abcdefgh"]
        assert "grow in 3 of 3 clusters; fastest: ob0abcdefgh" in shown_title(ax)
    check_look(ax)
    check_look(plot_growth(made.assign(steps=0)))


# --- many, and what was lost on the way --------------------------------------------------------


@every_plot
@pytest.mark.parametrize("count", [MAX_LANES, MAX_LANES + 1, 31])
def test_lanes_or_rows(kind: str, count: int) -> None:
    ax = PLOTS[kind](count, length=40)
    assert len(labels(ax)) == min(count, MAX_ROWS)
    is_dates = ax.get_xlabel() == "time [UTC]"
    assert is_dates == (count <= MAX_LANES)
    assert (f"Shown: {MAX_ROWS} of {count} tenants." in note_of(ax)) == (count > MAX_ROWS)


def test_without_its_riders_a_frame_is_drawn_as_rows() -> None:
    for made, draw in (
        (make_sized(1), plot_growth),
        (make_timed(1), plot_durations),
        (make_timed(1), plot_throughput),
    ):
        ax = draw(pd.DataFrame(made.to_dict("list")).astype({"full": "boolean"}))
        assert ax.get_xlabel() != "time [UTC]"
        assert len(labels(ax)) == 1
    assert plot_growth(make_growth(2)).get_xlabel().startswith("change of set size")
    assert plot_durations(make_durations(2)).get_xlabel().startswith("duration; bar")
    empty = riding(make_sized(1), {"points": rider(make_sized(1), "points", 0, 9)})
    assert plot_growth(empty).get_xlabel().startswith("change of set size")


def rings(ax: Any) -> set[tuple[float, int]]:
    found = [line for line in ax.lines if line.get_marker() == "D"]
    return {(float(line.get_xdata()[0]), round(float(line.get_ydata()[0]))) for line in found}


def test_series_with_steps_and_changes_have_a_ring() -> None:
    frame = make_sized(12, length=70)
    ax, names = plot_growth(frame), [f"tenant_{number}" for number in range(12)]
    stepped = frame[frame["steps"] > 0]
    expected = {(row.percent_per_30d, names.index(row.tenant_name)) for row in stepped.itertuples()}
    assert rings(ax) == expected
    assert "with a step" in marks_of(ax)
    timed, changes = make_timed(12, length=40), make_changes(12)
    for draw in (plot_durations, plot_throughput):
        drawn: Any = draw
        assert len(rings(drawn(timed, changes=changes))) == 4
        assert "with a change" in marks_of(drawn(timed, changes=changes))
        assert "with a change" not in marks_of(drawn(timed))


def test_throughput_of_many_is_slowest_first() -> None:
    frame = make_timed(12, length=40)
    ax = plot_throughput(frame)
    drawn = {float(line.get_xdata()[0]) for place in (0, 1) for line in dots_of(ax, place)}
    assert drawn == set(frame["throughput_gib_per_h"])
    lowest = frame.groupby("tenant_name")["throughput_gib_per_h"].min().sort_values()
    assert [label.split(" · ")[0] for label in labels(ax)] == list(lowest.index)
    slow = frame.loc[frame["throughput_gib_per_h"].idxmin()]
    assert shown_title(ax).endswith(f"the slowest: {slow['tenant_name']}, incremental")


# --- manners -----------------------------------------------------------------------------------


@every_plot
@pytest.mark.parametrize("count", [1, 8])
def test_nothing_is_cut_and_nothing_overlaps(kind: str, count: int) -> None:
    ax = PLOTS[kind](count, length=70)
    check_look(ax)
    check_texts(ax)


@every_plot
@pytest.mark.parametrize(
    ("size", "count"), [((6.4, 4.8), 1), ((6.4, 4.8), 4), ((3.2, 2.4), 1), ((14.0, 3.0), 1)]
)
def test_a_users_own_ax(kind: str, size: tuple[float, float], count: int) -> None:
    figure = Figure(figsize=size)
    axes = figure.subplots(1, 2 if size[0] > 10 else 1, squeeze=False).ravel()
    for ax in axes:
        assert PLOTS[kind](count, ax) is ax
    for ax in axes:
        check_look(ax, inside=(2.0, 2.0))
        check_texts(ax)
        assert ax.bbox.width > 0.25 * figure.bbox.width / len(axes)


@pytest.mark.parametrize(("kind", "layout"), [("growth", "constrained"), ("durations", "tight")])
def test_a_managed_figure(kind: str, layout: Any) -> None:
    check_look(PLOTS[kind](4, Figure(figsize=(9, 6), layout=layout).subplots()), inside=(2.0, 2.0))


@every_plot
def test_hostile_names_are_only_text(kind: str) -> None:
    for some in (HOSTILE[:6], HOSTILE[6:]):
        ax = PLOTS[kind](len(some), None, some, length=20)
        check_look(ax)
        assert len(set(labels(ax))) == len(some)
    for name in HOSTILE[:2]:
        check_look(PLOTS[kind](1, None, (name,), length=30))


def test_hostile_sentences_are_only_text() -> None:
    for text in HOSTILE[:5]:
        changes = make_changes(1).assign(sentence=text)
        ax = plot_durations(make_timed(1, length=80), changes=changes)
        ax.figure.draw_without_rendering()
        assert not any(each.get_parse_math() for each in ax.get_legend().get_texts())


@pytest.mark.parametrize(
    ("kind", "count"),
    [("growth", 1), ("growth", 4), ("durations", 1), ("durations", 4), ("throughput", 4)],
)
def test_light_and_dark(kind: str, count: int) -> None:
    check_contrast(PLOTS[kind](count), face="#ffffff", inside="#ffffff")
    with mpl.rc_context(DARK):
        made = PLOTS[kind](count)
    check_contrast(made, face="#101418", inside="#181c22")
    ax = Figure(figsize=(9, 6)).subplots(subplot_kw={"facecolor": "black"})
    check_contrast(PLOTS[kind](count, ax), face="#ffffff", inside="#000000")


@every_plot
def test_same_bytes_and_no_trace(kind: str) -> None:
    before = dict(mpl.rcParams)
    first, second = (png(lambda: PLOTS[kind](3)) for _ in range(2))
    assert first == second
    PLOTS[kind](3).figure.savefig(BytesIO(), format="png")
    assert dict(mpl.rcParams) == before


def test_inputs_are_left_alone() -> None:
    sized, timed, changes = make_sized(3), make_timed(3), make_changes(3)
    riders = [carried(sized, "points"), carried(timed, "points"), carried(timed, "weekly")]
    frames: Any = [sized, timed, changes, *riders]
    copies = [frame.copy(deep=True) for frame in frames]
    plot_growth(sized)
    plot_durations(timed, changes=changes)
    plot_throughput(timed, changes=changes)
    for frame, copy in zip(frames, copies, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda ax: plot_growth(make_sized(1).head(0), ax), "Too little history"),
        (lambda ax: plot_growth(make_growth(1).assign(percent_per_30d=np.nan), ax), "Too little"),
        (lambda ax: plot_durations(make_timed(1).head(0), ax), "No finished backup set has"),
        (lambda ax: plot_durations(make_durations(2).assign(p50=pd.NaT), ax), "No finished"),
        (lambda ax: plot_throughput(make_timed(1).head(0), ax), "No finished backup set of 0.1"),
        (
            lambda ax: plot_throughput(make_timed(2).assign(throughput_gib_per_h=np.nan), ax),
            "No finished backup set of 0.1 GiB or more",
        ),
    ],
)
def test_nothing_to_draw_is_said(draw: Any, text: str) -> None:
    mine = Figure().subplots()
    assert draw(mine) is mine
    for ax in (mine, draw(None)):
        assert [each.get_text() for each in ax.texts if text in each.get_text()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_growth(make_timed(1)), None),
        (lambda: plot_growth(make_durations(1)), "growth must be .* size_growth returned"),
        (lambda: plot_durations(make_growth(1)), "durations must be .* duration_trends"),
        (lambda: plot_throughput(make_growth(1)), "duration_trends returned; it has no through"),
        (lambda: plot_throughput(None), "duration_trends returned, not NoneType"),  # type: ignore[arg-type]
        (
            lambda: plot_durations(make_timed(1), changes=make_growth(1)),
            "changes must be .* duration_changes returned; it has no at",
        ),
    ],
)
def test_other_frames_are_refused(call: Any, message: str | None) -> None:
    if message is None:
        return
    with pytest.raises(ValueError, match=message):
        call()


def test_sizes_without_a_rate_are_drawn() -> None:
    frame = make_sized(1, length=10).assign(
        **dict.fromkeys(("percent_per_30d", "percent_per_30d_low", "gib_per_day"), np.nan),
        verdict="too_little_history",
    )
    ax = plot_growth(frame)
    assert "full sets have too little history for a rate; the last" in shown_title(ax)
    check_look(ax)


@every_plot
def test_few_sets(kind: str) -> None:
    for count, length in ((1, 1), (2, 1), (1, 8)):
        check_look(PLOTS[kind](count, length=length, modes=(True,)))


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e6])
def test_any_size(value: float) -> None:
    frame = make_sized(2, length=30)
    points: Any = carried(frame, "points")
    frame = riding(frame, {"points": points.assign(size_gib=value)}).assign(last_size_gib=value)
    check_look(plot_growth(frame))
    check_look(plot_growth(frame.iloc[:2]))
    wild = frame.assign(
        percent_per_30d=1e300, percent_per_30d_high=1e300, percent_per_30d_low=-100.0
    )
    check_look(plot_growth(wild.iloc[:2]))


@pytest.mark.parametrize("seconds", [0, 40, 30_000_000])
def test_any_duration(seconds: int) -> None:
    frame, span = make_timed(2, length=30), pd.Timedelta(seconds, "s")
    points: Any = carried(frame, "points")
    weekly: Any = carried(frame, "weekly")
    spans = dict.fromkeys(("p50", "p95"), span)
    frame = riding(
        frame, {"points": points.assign(duration=span), "weekly": weekly.assign(**spans)}
    )
    frame = frame.assign(**spans, max=span, last=span)
    for rows in (frame, frame.iloc[:2]):
        check_look(plot_durations(rows))
        check_look(plot_throughput(rows))


def test_five_hundred_tenants_and_long_histories_are_drawn_in_a_second() -> None:
    sized, timed = (make(1).to_dict("records") for make in (make_sized, make_timed))
    many = pd.DataFrame([row | who(number) for number in range(500) for row in sized]).astype(
        {"full": "boolean"}
    )
    slow = pd.DataFrame([row | who(number) for number in range(500) for row in timed]).astype(
        {"full": "boolean"}
    )
    changes, took = make_changes(60), []
    eight = make_timed(8, length=200)
    for draw in (
        lambda: plot_growth(many),
        lambda: plot_durations(slow, changes=changes),
        lambda: plot_throughput(slow, changes=changes),
        lambda: plot_durations(eight, changes=make_changes(8)),
    ):
        begin = time.process_time()
        draw()
        took.append(time.process_time() - begin)
    assert max(took) < 1.5, took  # under one where nothing else runs


def test_riders_that_are_partly_lost_and_changes_that_are_none() -> None:
    frame, none = make_timed(2, length=40), make_changes(1).head(0)
    for draw in (plot_durations, plot_throughput):
        drawn: Any = draw
        for rows in (frame, frame.iloc[:2]):
            assert not marks(drawn(rows, changes=none))
            bare = rows.copy()
            bare.attrs = {"points": frame.attrs["points"]}  # no weeks
            ax = drawn(bare, changes=none)
            assert dots_of(ax, 0)
            assert not lines_of(ax, 0)
            check_look(ax)
    grown = make_sized(2, length=40)
    bare = grown.copy()
    bare.attrs = {"points": grown.attrs["points"]}  # no steps
    assert len(lines_of(plot_growth(bare), 0)) == 2


def test_real_results_are_taken() -> None:
    sets = ob.sample()
    growth, durations = ob.size_growth(sets), ob.duration_trends(sets)
    for draw, frame in (
        (plot_growth, growth),
        (plot_durations, durations),
        (plot_throughput, durations),
    ):
        rows = frame[frame["tenant_name"] == "identity"]
        for chosen in (rows[rows["instance_id"] == rows["instance_id"].iloc[0]], rows):
            ax = draw(chosen)
            check_look(ax)
            assert ax.get_xlabel() == "time [UTC]"
        assert draw(frame).get_xlabel() != "time [UTC]"  # twelve tenants
