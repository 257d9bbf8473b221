"""Forecasts and stocks are drawn as their frames have them."""

from __future__ import annotations

import time
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from charts import (
    DARK,
    HOSTILE,
    check_contrast,
    check_look,
    check_texts,
    labels,
    make_forecast,
    make_growth,
    make_stored,
    marks_of,
    note_of,
    shown_title,
    who,
)
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from obanalytics.canvas import png
from obanalytics.carry import carried
from obanalytics.fan import plot_forecast, plot_stored_size
from obanalytics.strips import MAX_LANES
from obanalytics.ticks import LIMIT

BOTH = ("full_size", "incremental_size")


def forecast(count: int, ax: Any = None, names: tuple[str, ...] = (), **more: Any) -> Any:
    return plot_forecast(make_forecast(count, names, **more), ax)


def stored(count: int, ax: Any = None, names: tuple[str, ...] = (), **more: Any) -> Any:
    more = {"length": 40} | more
    return plot_stored_size(make_stored(count, names, **more), ax)


PLOTS: dict[str, Any] = {"forecast": forecast, "stored": stored}
every_plot = pytest.mark.parametrize("kind", PLOTS)


def at(moments: Any) -> Any:
    return date2num(pd.Series(moments).dt.tz_convert(None).to_numpy())


def limits_of(ax: Any, marker: str = "None") -> list[Any]:
    return [li for li in ax.lines if li.get_color() == LIMIT and li.get_marker() == marker]


# --- forecasts ---------------------------------------------------------------------------------


def test_history_median_band_threshold_and_crossings() -> None:
    frame = make_forecast(3)[lambda f: f["tenant_id"] == "t2"]
    ax, past = plot_forecast(frame), carried(frame, "history")
    assert past is not None
    past = past[past["tenant_id"] == "t2"]
    history, median = (li for li in ax.lines if to_hex(li.get_color()) == "#009e73")
    np.testing.assert_array_equal(history.get_xdata(), at(past["time"]))
    np.testing.assert_array_equal(history.get_ydata(), past["gib"])
    np.testing.assert_array_equal(median.get_xdata()[1:], at(frame["time"]))
    np.testing.assert_array_equal(median.get_ydata()[1:], frame["median_gib"])
    assert (median.get_xdata()[0], median.get_ydata()[0]) == (
        history.get_xdata()[-1],
        history.get_ydata()[-1],
    )
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    corners = band.get_paths()[0].vertices
    for x, low, high in zip(at(frame["time"]), frame["lower_gib"], frame["upper_gib"], strict=True):
        assert {low, high} <= set(corners[corners[:, 0] == x, 1])
    assert [set(line.get_ydata()) for line in limits_of(ax)] == [{400.0}]
    row = frame.iloc[-1]
    dates = [row["cross_10"], row["cross_50"], row["cross_90"]]
    assert [line.get_xdata()[0] for line in limits_of(ax, "v")] == list(at(dates))
    text = ", ".join(
        f"{n} % by {when:%Y-%m-%d}" for n, when in zip((10, 50, 90), dates, strict=True)
    )
    shown = [mark.replace("\n", " ") for mark in marks_of(ax)]
    assert f"crossed: {text}, not within the horizon: 0 %" in shown
    assert {"in store: history", "90 % band", "threshold 400 GiB"} <= set(shown)


def test_the_back_test_is_stated() -> None:
    ax = forecast(1)
    assert note_of(ax) == (
        "Back-test: MASE 0.71 (seasonal naive 1.02), 91 % inside its 90 % band, 31 origins, "
        "method anchored theil sen."
    )
    assert shown_title(ax) == (
        "tenant_0, in store: 497 GiB now, 632 GiB on 2026-10-18 (90 %: 582 to 683); "
        "over 400 GiB by then: 100 %"
    )
    bare = make_forecast(1).assign(mase=np.nan)
    assert "No back-test; method" in note_of(plot_forecast(bare))


def test_a_threshold_far_above_does_not_crush_the_forecast() -> None:
    frame = make_forecast(1).copy()
    frame.attrs |= {"threshold": 1e6}
    ax = plot_forecast(frame)
    assert ax.get_ylim()[1] < 1000
    assert not limits_of(ax)
    assert "threshold 1,000,000 GiB, above what is drawn" in marks_of(ax)


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        (500.0, 500.0),
        ({"t0": 450}, 450.0),
        ({("ob0abcdefgh", "t0"): 460, "t0": 1}, 460.0),
        (pd.Series({"t0": 470.0}), 470.0),
        ({"t9": 5}, None),
        (None, None),
    ],
)
def test_each_series_has_its_own_threshold(given: Any, limit: float | None) -> None:
    frame = make_forecast(1).copy()
    frame.attrs |= {"threshold": given}
    drawn = [float(line.get_ydata()[0]) for line in limits_of(plot_forecast(frame))]
    assert drawn == ([] if limit is None else [limit])


def test_several_series_have_lanes_the_likeliest_on_top() -> None:
    frame = make_forecast(12)
    ax = plot_forecast(frame)
    last = frame.drop_duplicates("tenant_id", keep="last")
    order = last.sort_values("p_crossed", ascending=False, kind="stable")["p_crossed"]
    texts = [text.get_text() for text in ax.texts]
    assert len(labels(ax)) == MAX_LANES
    chances = [last.set_index("tenant_name")["p_crossed"][lb.split(" · ")[0]] for lb in labels(ax)]
    assert chances == list(order.head(MAX_LANES))
    assert "Shown: 8 of 12." in note_of(ax)
    assert {"now [GiB]", "threshold", "then [GiB]", "P(crossed)"} <= set(texts)
    assert "91 % in the 90 % bands" in note_of(ax)
    calm = plot_forecast(make_forecast(4, threshold=None, whats=BOTH))
    assert shown_title(calm) == (
        "Fastest growing: tenant_0, full sets, from 497 to 632 GiB (+27 %) by 2026-10-18"
    )
    falling = make_forecast(2, threshold=None).assign(median_gib=9.0, lower_gib=8.0)
    assert shown_title(plot_forecast(falling)).startswith("No growth forecast by 2026-10-18; ten")
    assert labels(calm)[:2] == ["tenant_0 · ob0abcdefgh · full", "tenant_0 · ob0abcdefgh · incr."]
    assert not limits_of(calm)


def test_what_was_refused_is_said() -> None:
    assert "No forecast: 2." in note_of(forecast(4, refused=2))
    ax = forecast(3, refused=3)
    assert [t.get_text() for t in ax.texts] == ["No forecast: 12 points: at least 20 are needed"]
    some = make_forecast(3, refused=3).copy()
    some.loc[some.index[0], "refused"] = "$x$ and $y$"
    (text,) = [t.get_text() for t in plot_forecast(some).texts]
    assert text == "No forecast: 12 points: at least 20 are needed (2 of 3 series)"
    (text,) = [t.get_text() for t in plot_forecast(some.head(0)).texts]
    assert text == "No series to forecast"


def test_without_its_history_a_forecast_is_drawn() -> None:
    for count in (1, 3):
        frame = make_forecast(count).copy()
        frame.attrs.pop("history")
        ax = plot_forecast(frame)
        check_look(ax)
        assert "in store: history" not in marks_of(ax)
        frame.attrs.clear()
        check_look(plot_forecast(frame))


def test_old_history_does_not_crush_the_forecast() -> None:
    frame = make_forecast(1)
    soon = frame[frame["time"] <= frame["time"].min() + pd.Timedelta(9, "D")]
    first, last = plot_forecast(soon).get_xlim()
    assert last - first < 80  # of 200 days of history 6 times the horizon


# --- stock -------------------------------------------------------------------------------------


def areas(ax: Any) -> list[Any]:
    found = [c for c in ax.collections if isinstance(c, PolyCollection)]
    return [c for c in found if c.get_alpha() == 0.45]


def heights(area: Any, x: float) -> tuple[float, float]:
    corners = np.concatenate([path.vertices for path in area.get_paths()])
    y = corners[np.isclose(corners[:, 0], x), 1]
    return float(y.min()), float(y.max())


def test_modes_of_one_tenant_are_stacked() -> None:
    frame = make_stored(1, length=40)
    ax = plot_stored_size(frame)
    moment = frame["time"].max()
    newest = frame[frame["time"] == moment].set_index("full")["stored_gib"]
    low, high = (heights(area, at([moment])[0]) for area in areas(ax))
    assert low == pytest.approx((0, newest[True]))
    assert high == pytest.approx((newest[True], newest.sum()))
    (line,) = [li for li in ax.lines if len(li.get_xdata()) == 40]
    totals = frame.groupby("time")["stored_gib"].sum()
    np.testing.assert_allclose(line.get_ydata(), totals)
    bars = next(c for c in ax.collections if isinstance(c, LineCollection))
    drawn = np.array(bars.get_segments())
    written = frame.groupby("time")["written_gib"].sum()
    share = (drawn[:, 1, 1] - drawn[:, 0, 1]) / np.ptp(drawn[:, :, 1])
    np.testing.assert_allclose(share, written / written.max())
    assert marks_of(ax) == ["full", "incremental", "at least so much", "written in a day"]


def test_a_lower_bound_is_pale_hatched_and_said() -> None:
    frame = make_stored(1, length=40)
    ax = plot_stored_size(frame)
    assert note_of(ax) == "Before 2026-02-10 a lower bound: expired sets are not listed."
    assert [c.get_hatch() for c in ax.collections if c.get_hatch()] == ["////"]
    strong = [c for c in ax.collections if c.get_alpha() == 0.85]
    assert not any(np.ptp(path.vertices[:, 0]) for c in strong for path in c.get_paths())
    ax = stored(1, basis="exact")
    assert note_of(ax).startswith("Exact: every set is known")
    assert not [c for c in ax.collections if c.get_hatch()]
    half = make_stored(1, length=40).copy()
    half.loc[half["time"] >= pd.Timestamp("2026-01-21", tz="UTC"), "basis"] = "exact"
    ax = plot_stored_size(half)
    assert note_of(ax).startswith("Before 2026-01-21 a lower bound")
    strong = [c for c in ax.collections if c.get_alpha() == 0.85 and len(c.get_paths())]
    first = min(path.vertices[:, 0].min() for c in strong for path in c.get_paths())
    assert first == at([pd.Timestamp("2026-01-21", tz="UTC")])[0]


def test_the_model_and_the_cost_are_said() -> None:
    frame = make_stored(2, length=40, basis="modelled", price=0.5).copy()
    frame.attrs |= {"retention_days": 30}
    ax = plot_stored_size(frame)
    assert note_of(ax) == "Modelled: sets are let go by the retention of 30 days."
    total = frame[frame["time"] == frame["time"].max()]["stored_gib"].sum()
    assert f"{0.5 * total:,.2f} a month at the given prices" in shown_title(ax)
    assert "modelled" in marks_of(ax)
    assert "month" not in shown_title(stored(2))


@pytest.mark.parametrize(("count", "areas_"), [(2, 2), (6, 6), (7, 7), (8, 7), (40, 7)])
def test_the_largest_tenants_and_the_others(count: int, areas_: int) -> None:
    frame = make_stored(count, length=10)
    ax = plot_stored_size(frame)
    assert len(areas(ax)) == areas_
    assert (f"{count - 6} others" in marks_of(ax)) == (count > 7)
    newest = frame[frame["time"] == frame["time"].max()]
    sums = newest.groupby("tenant_name")["stored_gib"].sum().sort_values(ascending=False)
    shown = [mark.split(" · ")[0] for mark in marks_of(ax)][: min(count, 6)]
    assert [sums[name] for name in shown] == list(sums.head(6))
    top = heights(areas(ax)[-1], at([frame["time"].max()])[0])[1]
    assert top == pytest.approx(sums.sum())


def test_storage_classes_of_one_tenant() -> None:
    ax = stored(1, shelves=("STANDARD", "$IA$"))
    assert marks_of(ax)[:2] == ["full, $IA$", "full, STANDARD"]
    check_look(ax)


@pytest.mark.parametrize("by", ["cluster", "fleet"])
def test_clusters_and_the_fleet(by: str) -> None:
    gone: Any = dict.fromkeys(["tenant_id", "tenant_name"] + ["instance_id"] * (by == "fleet"))
    frame = make_stored(3, length=10).assign(**gone)
    ax = plot_stored_size(frame)
    check_look(ax)
    first = marks_of(ax)[0]
    assert first == ("full" if by == "fleet" else "ob2abcdefgh")
    rows = make_forecast(3 if by == "cluster" else 1)
    check_look(plot_forecast(rows.assign(**gone)))


# --- manners -----------------------------------------------------------------------------------


@every_plot
@pytest.mark.parametrize("count", [1, 8])
def test_nothing_is_cut_and_nothing_overlaps(kind: str, count: int) -> None:
    ax = PLOTS[kind](count)
    check_look(ax)
    check_texts(ax)


@every_plot
@pytest.mark.parametrize("size", [(6.4, 4.8), (3.2, 2.4)])
@pytest.mark.parametrize("count", [1, 4])
def test_a_users_own_ax(kind: str, size: tuple[float, float], count: int) -> None:
    figure = Figure(figsize=size)
    axes = figure.subplots(1, 2 if size[0] > 10 else 1, squeeze=False).ravel()
    for ax in axes:
        assert PLOTS[kind](count, ax) is ax
    for ax in axes:
        check_look(ax, inside=(2.0, 2.0))
        check_texts(ax)


@every_plot
def test_hostile_names_are_only_text(kind: str) -> None:
    for some in (HOSTILE[:6], HOSTILE[6:]):
        ax = PLOTS[kind](len(some), None, some)
        check_look(ax)
        assert not any(text.get_parse_math() for text in ax.get_legend().get_texts())
    for name in HOSTILE[:2]:
        check_look(PLOTS[kind](1, None, (name,)))


@every_plot
@pytest.mark.parametrize("count", [1, 4])
def test_light_and_dark(kind: str, count: int) -> None:
    check_contrast(PLOTS[kind](count), face="#ffffff", inside="#ffffff")
    with mpl.rc_context(DARK):
        made = PLOTS[kind](count)
    check_contrast(made, face="#101418", inside="#181c22")
    ax = Figure(figsize=(9, 6)).subplots(subplot_kw={"facecolor": "black"})
    check_contrast(PLOTS[kind](count, ax), face="#ffffff", inside="#000000")


@every_plot
def test_same_bytes_no_trace_and_inputs_left_alone(kind: str) -> None:
    before = dict(mpl.rcParams)
    frame = make_forecast(3) if kind == "forecast" else make_stored(3, length=40)
    copy = frame.copy(deep=True)
    first, second = (png(lambda: PLOTS[kind](3)) for _ in range(2))
    assert first == second
    assert dict(mpl.rcParams) == before
    pd.testing.assert_frame_equal(frame, copy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_forecast(make_growth(1)), "forecast must be .* forecast_size returned"),
        (lambda: plot_forecast(3), "forecast_size returned, not int"),  # type: ignore[arg-type]
        (lambda: plot_stored_size(make_growth(1)), "stored must be .* stored_size returned"),
    ],
)
def test_other_frames_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_in_store() -> None:
    mine = Figure().subplots()
    assert plot_stored_size(make_stored(1).head(0), mine) is mine
    assert [t.get_text() for t in mine.texts] == ["No backup set is known to be in store"]
    check_look(stored(1, length=1))
    check_look(plot_stored_size(make_stored(2, length=10).assign(stored_gib=0.0, written_gib=0.0)))
    check_look(plot_stored_size(make_stored(2, length=10).assign(stored_gib=np.nan)))


def test_five_hundred_tenants_are_drawn_in_a_second() -> None:
    one, stock = make_forecast(1), make_stored(1, length=90)
    many = pd.concat([one.assign(**who(number)) for number in range(500)], ignore_index=True)
    held = pd.concat([stock.assign(**who(number)) for number in range(500)], ignore_index=True)
    kinds = dict.fromkeys(("instance_id", "tenant_id", "tenant_name"), "category")
    many.attrs = one.attrs
    took = []
    for draw in (
        lambda: plot_forecast(many.astype(kinds)),
        lambda: plot_stored_size(held.astype(kinds)),
    ):
        begin = time.process_time()
        draw()
        took.append(time.process_time() - begin)
    assert max(took) < 1.5, took  # under one where nothing else runs
