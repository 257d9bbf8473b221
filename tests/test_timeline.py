"""Timelines and calendars hold the numbers of the frames they are given."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from charts import (
    BEGIN,
    CAUSES,
    PLOTS,
    boxes,
    check_look,
    coverage,
    in_sight,
    labels,
    make_calendar,
    make_gaps,
    make_points,
    make_shares,
    make_steps,
    marks_of,
    note_of,
    shown_title,
    who,
)
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.dates import date2num, num2date
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

import obanalytics as ob
from obanalytics.canvas import dress, new_axes, png
from obanalytics.marks import CAUSE_COLORS
from obanalytics.timeline import MAX_ROWS


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


def test_no_gap_at_all_is_a_chart_too() -> None:
    none = make_gaps(1).head(0)
    ax = ob.plot_coverage(none, compliance=make_shares(2), points=make_points(2))
    assert "no gap in the window" in shown_title(ax)
    assert not list(boxes(ax))
    ax = ob.plot_coverage(none, compliance=make_shares(2))
    assert len(labels(ax)) == 2


def test_every_cause_has_its_own_colour() -> None:
    known = ob.coverage_gaps(ob.sample(), "26h")["cause"].cat.categories
    assert set(known) | set(CAUSES) <= set(CAUSE_COLORS)
    assert "log_break" in CAUSE_COLORS
    assert len(set(CAUSE_COLORS.values())) == len(CAUSE_COLORS)
    assert MAX_ROWS == 30  # what test_nothing_is_cut_and_nothing_overlaps looks at
    gaps = make_gaps(3)
    gaps["cause"] = ["log_break", "a new one", "silent", "silent"]
    ax = ob.plot_coverage(gaps)
    assert marks_of(ax) == ["gap: silent", "gap: log break", "gap: a new one"]
    assert CAUSE_COLORS["log_break"].lower() in {color for color, _ in boxes(ax)}


# --- restore points, chains, failures ----------------------------------------------------------


def make_runs(count: int, days: int = 15) -> pd.DataFrame:
    """Return daily sets: a full one every seventh day, day 3 failed, day 4 done and no use."""
    rows = []
    for number in range(count):
        for day in range(days):
            start = BEGIN + pd.Timedelta(24 * day + number % 5, "h")
            is_good = day % 15 not in {3, 4}
            row = who(number) | {
                "full": day % 7 == 0,
                "state": "failed" if day % 15 == 3 else "done",
                "start_time": start,
                "checkpoint": start + pd.Timedelta(1, "h") if day % 15 != 3 else pd.NaT,
                "restorable": is_good,
                "chain_id": f"full-{day // 7}" if is_good else pd.NA,
                "reason": None if is_good else "not_done",
            }
            rows.append(row)
    made = pd.DataFrame(rows)
    made.loc[(made["state"] == "failed") & (made["tenant_id"] == "t1"), "state"] = "cancelled"
    return made.astype({"state": "category", "full": "boolean", "chain_id": "string"})


def at(moments: pd.Series) -> list[float]:
    return [float(each) for each in date2num(moments.dt.tz_convert(None).to_numpy())]


def row_of(ax: Any, frame: pd.DataFrame) -> list[int]:
    names = [label.split(" · ")[0] for label in labels(ax)]
    return [names.index(name) for name in frame["tenant_name"]]


def lines_of(ax: Any, name: str) -> list[Any]:
    found = [c for c in ax.collections if c.get_label() == name]
    return [line for c in found for line in c.get_segments()]


def spots_of(ax: Any, name: str) -> list[tuple[float, int]]:
    found = [line for line in ax.lines if line.get_label() == name]
    return sorted((x, round(y)) for line in found for x, y in zip(*line.get_data(), strict=True))


def with_runs(points: pd.DataFrame, count: int = 3, **more: Any) -> Any:
    window = (BEGIN, BEGIN + pd.Timedelta(15, "D"))
    return ob.plot_coverage(
        make_gaps(count), compliance=make_shares(count), points=points, window=window, **more
    )


def test_sets_and_chains_are_where_the_frame_says() -> None:
    points = make_runs(3)
    ax, good = with_runs(points), points[points["restorable"]]
    for name, mine, reach in (
        ("full set", good[good["full"]], 0.62),
        ("incremental", good[~good["full"]], 0.24),
    ):
        lines = lines_of(ax, name)
        drawn = sorted((line[0, 0], round(line[:, 1].mean())) for line in lines)
        assert drawn == sorted(zip(at(mine["checkpoint"]), row_of(ax, mine), strict=True))
        assert {round(float(np.ptp(line[:, 1])), 6) for line in lines} == {reach}
    chains = []
    for _, mine in good.groupby(["tenant_id", "chain_id"]):
        if len(mine) > 1:
            moments = at(mine["checkpoint"])
            chains.append((min(moments), max(moments), row_of(ax, mine)[0]))
    drawn = [(line[0, 0], line[1, 0], line[0, 1]) for line in lines_of(ax, "chain")]
    assert sorted(drawn) == sorted(chains)
    assert len(chains) == 6
    assert {"full set", "incremental", "chain"} <= set(marks_of(ax))
    assert "Too close" not in note_of(ax)


def test_failures_are_marked_where_they_began() -> None:
    points = make_runs(3)
    ax = with_runs(points)
    failed = points[points["state"].isin(["failed", "cancelled"])]
    idle = points[(points["state"] == "done") & ~points["restorable"]]
    for name, mine in (("failed or cancelled", failed), ("done, not restorable", idle)):
        drawn = sorted(zip(at(mine["start_time"]), row_of(ax, mine), strict=True))
        assert spots_of(ax, name) == drawn
        assert len(drawn) == 3
        assert name in marks_of(ax)
    heights = {line.get_label(): line.get_ydata()[0] % 1 for line in ax.lines}
    assert len(set(heights.values())) == 2  # two lanes: neither hides the other
    assert "may stand for several" not in note_of(ax)


def test_what_is_crowded_is_left_out_but_failures_are_kept() -> None:
    many = make_runs(3, days=15 * 30)
    many = many.assign(start_time=BEGIN + (many["start_time"] - BEGIN) / 30)
    many["checkpoint"] = many["start_time"] + pd.Timedelta(1, "min")
    many = pd.concat([many, many[many["state"] != "done"]])  # copies of the failed ones
    ax = with_runs(many)
    assert "Too close to draw: incrementals, chains." in note_of(ax)
    assert not lines_of(ax, "incremental")
    assert lines_of(ax, "full set")
    for name in ("failed or cancelled", "done, not restorable"):
        spots = spots_of(ax, name)
        assert len(spots) > 60
        per_row = [[x for x, y in spots if y == row] for row in range(3)]
        least = min(np.diff(row).min() for row in per_row)
        inches = ax.bbox.width / ax.figure.dpi / 15 * least
        assert inches * 72 >= 5.5  # points: wider than a mark
    assert "A mark may stand for several runs." in note_of(ax)
    crowd = pd.concat([many] * 9).assign(full=True)
    assert "Too close to draw: full sets, chains." in note_of(with_runs(crowd))
    one = pd.concat([make_runs(3), many[many["tenant_id"] == "t1"]])
    assert not lines_of(with_runs(one), "incremental")  # in no row, as some have too many


def test_a_frame_with_less_shows_less() -> None:
    points = make_runs(3).drop(columns=["chain_id", "state", "reason"])
    ax = with_runs(points)
    assert not lines_of(ax, "chain")
    assert not {"chain", "failed or cancelled", "done, not restorable"} & set(marks_of(ax))
    assert len(lines_of(ax, "full set")) == points[points["restorable"] & points["full"]].shape[0]
    early = make_runs(3).assign(start_time=lambda f: f["start_time"] - pd.Timedelta(99, "D"))
    assert not spots_of(with_runs(early), "failed or cancelled")  # outside of the window


def test_where_any_instant_can_be_restored_is_a_band() -> None:
    steps = make_steps(3)
    none = pd.Timedelta(0)
    for row in (2, 3, 6):
        steps.loc[row, ["exposure_start", "exposure_end"]] = none
    steps.loc[13, ["exposure_start", "exposure_end"]] = none
    ax = with_runs(make_runs(3), steps=steps)
    bands = [corners for color, corners in boxes(ax) if color == "#7fcdb0"]
    drawn = sorted((c[:, 0].min(), c[:, 0].max(), round(c[:, 1].mean())) for c in bands)
    expected = [
        (steps["start"][2], steps["end"][3], 0),
        (steps["start"][6], steps["end"][6], 0),
        (steps["start"][13], steps["end"][13], 1),
    ]
    names = [label.split(" · ")[0] for label in labels(ax)]
    assert drawn == sorted(
        (*at(pd.Series([begin, end])), names.index(f"tenant_{number}"))
        for begin, end, number in expected
    )
    assert "restorable to any instant" in marks_of(ax)
    assert "restorable to any instant" not in marks_of(with_runs(make_runs(3), steps=make_steps(3)))
    check_look(ax)


def test_all_that_a_timeline_can_show() -> None:
    gaps, steps = make_gaps(30), make_steps(30)
    gaps.loc[5, "cause"] = "log_break"
    gaps.loc[9, "certainty"] = "unknown"
    steps.loc[2, ["exposure_start", "exposure_end"]] = pd.Timedelta(0)
    ax = ob.plot_coverage(gaps, compliance=make_shares(30), points=make_runs(30), steps=steps)
    assert len(marks_of(ax)) == 2 + len(CAUSE_COLORS) + 1 + 5
    check_look(ax)


@pytest.mark.parametrize("days", [0.02, 0.3, 3, 20, 45, 200, 500, 800, 1500, 9000])
def test_any_span_of_time(days: float) -> None:
    window = (BEGIN, BEGIN + pd.Timedelta(days, "D"))
    ax = Figure(figsize=(4, 4)).subplots()
    ob.plot_coverage(make_gaps(2), ax, window=window)
    check_look(ax, inside=(2.0, 2.0))
    assert len(in_sight(ax.get_xticklabels(), ax)) >= 1


# --- calendar ----------------------------------------------------------------------------------

IN, LITTLE, HALF, MOST, ALL = 2, 3, 4, 5, 6


def classes_of(ax: Any) -> np.ndarray:
    (image,) = ax.images
    return np.asarray(image.get_array())


def slow_class(share: float) -> int:
    out = 1 - share
    if out <= 0:
        return IN
    for limit, number in ((0.1, LITTLE), (0.5, HALF)):
        if out <= limit:
            return number
    return ALL if out >= 1 else MOST


def test_every_day_has_the_colour_of_its_share() -> None:
    calendar = make_calendar(12)
    ax = ob.plot_coverage_calendar(calendar)
    names, drawn = [label.split(" · ")[0] for label in labels(ax)], classes_of(ax)
    assert drawn.shape == (12, 20)
    expected = np.zeros_like(drawn)
    for row in calendar.itertuples():
        place = (row.day - pd.Timestamp("2026-03-20")).days
        number = 1 if np.isnan(row.time_in_rpo) else slow_class(row.time_in_rpo)
        expected[names.index(row.tenant_name), place] = number
    np.testing.assert_array_equal(drawn, expected)
    assert set(np.unique(drawn)) == set(range(7))
    (left, right, low, high), image = ax.images[0].get_extent(), ax.images[0]
    assert (low, high) == (11.5, -0.5)
    assert [str(num2date(x).date()) for x in (left, right)] == ["2026-03-20", "2026-04-09"]
    colors = [to_hex(image.cmap(image.norm(number))) for number in range(7)]
    shown = [to_hex(patch.get_facecolor()) for patch in ax.get_legend().get_patches()]
    assert shown == colors
    assert len(set(colors[2:])) == 5


def test_the_worst_tenants_are_on_top() -> None:
    calendar = make_calendar(9)
    known = (calendar["gap"] - calendar["unknown"]).groupby(calendar["tenant_name"]).sum()
    names = [label.split(" · ")[0] for label in labels(ob.plot_coverage_calendar(calendar))]
    totals = [known[name] for name in names]
    assert totals == sorted(totals, reverse=True)
    assert shown_title(ob.plot_coverage_calendar(calendar)) == (
        "Outside the RPO on 34 of 168 tenant days; the worst: tenant_8, 8 days; 3 days not known"
    )


def test_days_of_which_nothing_is_known_are_hatched() -> None:
    calendar = make_calendar(5)
    ax = ob.plot_coverage_calendar(calendar)
    (hatched,) = [c for c in ax.collections if c.get_hatch()]
    drawn = classes_of(ax)
    area = sum(np.ptp(p.vertices[:, 0]) * np.ptp(p.vertices[:, 1]) for p in hatched.get_paths())
    assert area == (drawn == 1).sum() == calendar["time_in_rpo"].isna().sum()
    for path in hatched.get_paths():
        x, y = path.vertices[:, 0] - ax.images[0].get_extent()[0], path.vertices[:, 1]
        row, columns = round(y.mean()), slice(round(x.min()), round(x.max()))
        assert (drawn[row, columns] == 1).all()
    assert {"no data", "not known"} <= set(marks_of(ax))
    perfect = make_calendar(1, days=1)
    assert not {"no data", "not known"} & set(marks_of(ob.plot_coverage_calendar(perfect)))
    unknown = perfect.assign(time_in_rpo=np.nan, unknown=pd.Timedelta(1, "D"))
    title = shown_title(ob.plot_coverage_calendar(unknown))
    assert title == "Nothing is known of 1 tenant day"


@pytest.mark.parametrize("count", [60, 61, 500])
def test_many_tenants_share_a_row(count: int) -> None:
    calendar = make_calendar(count, days=12)
    ax = ob.plot_coverage_calendar(calendar)
    assert len(labels(ax)) == (41 if count > 60 else 60)
    if count == 60:
        return
    assert labels(ax)[-1] == f"{count - 40} others: mean"
    shown = {label.split(" · ")[0] for label in labels(ax)[:-1]}
    rest = calendar[~calendar["tenant_name"].isin(shown)]
    outside = 1 - rest.groupby("day")["time_in_rpo"].mean()
    for share, number in zip(outside, classes_of(ax)[-1], strict=True):
        near = {slow_class(1 - share + nudge) for nudge in (-1e-12 * (share > 0), 0, 1e-12)}
        assert number in near
    check_look(ax)


def test_days_are_those_of_the_display_zone() -> None:
    """One of 23 hours is as wide as the others, and the axis says whose days they are."""
    calendar = make_calendar(3)  # in Berlin clocks change on 29 March
    ax = ob.plot_coverage_calendar(calendar)
    assert ax.get_xlabel() == "day [Europe/Berlin]"
    hours = np.where(calendar["day"] == pd.Timestamp("2026-03-29"), 23, 24)
    local = calendar["day"].dt.tz_localize("Europe/Berlin")
    start = local.dt.tz_convert("UTC")
    end = (
        (calendar["day"] + pd.Timedelta(1, "D"))
        .dt.tz_localize("Europe/Berlin")
        .dt.tz_convert("UTC")
    )
    assert ((end - start) == pd.to_timedelta(hours, unit="h")).all()
    again = ob.plot_coverage_calendar(calendar.assign(start=start, end=end))
    np.testing.assert_array_equal(classes_of(ax), classes_of(again))
    bare = calendar.copy()
    bare.attrs.clear()
    assert "not recorded" in ob.plot_coverage_calendar(bare).get_xlabel()


@pytest.mark.parametrize("days", [1, 2, 5, 10, 11, 40, 365, 1500])
@pytest.mark.parametrize("width", [None, 3.2, 6.4])
def test_any_number_of_days(days: int, width: float | None) -> None:
    calendar = make_calendar(2, names=("a", "b"), days=days)
    ax = None if width is None else Figure(figsize=(width, 4)).subplots()
    ax = ob.plot_coverage_calendar(calendar, ax)
    check_look(ax, inside=(2.0, 2.0))
    ticks = [tick.get_text() for tick in in_sight(ax.get_xticklabels(), ax)]
    assert ticks
    assert not any(":" in tick for tick in ticks)  # days have no hours
    if days <= 60:
        assert set(ticks) <= {str(day.date()) for day in calendar["day"]}
    drawn = classes_of(ax)
    per = -(-days // drawn.shape[1])
    if width is None:  # else the note may be cut
        assert (f"the worst of {per} days" in note_of(ax)) == (per > 1)
    whole = np.zeros((len(labels(ax)), drawn.shape[1] * per), int)
    names = [label.split(" · ")[0] for label in labels(ax)]
    for row in calendar.itertuples():
        place = (row.day - pd.Timestamp("2026-03-20")).days
        number = 1 if np.isnan(row.time_in_rpo) else slow_class(row.time_in_rpo)
        whole[names.index(row.tenant_name), place] = number
    np.testing.assert_array_equal(drawn, whole.reshape(len(whole), -1, per).max(axis=2))


def test_gaps_alone_make_a_calendar_of_utc_days() -> None:
    gaps = make_gaps(5)
    gaps.loc[0, "certainty"] = "unknown"
    gaps.loc[1, "gap_start"] = gaps.loc[1, "gap_start"] - pd.Timedelta(7, "h")
    ax = ob.plot_coverage_calendar(gaps)
    names, drawn = [label.split(" · ")[0] for label in labels(ax)], classes_of(ax)
    first = gaps["gap_start"].min().normalize()
    hours = np.zeros(drawn.shape)
    for row in gaps[gaps["certainty"] != "unknown"].itertuples():
        for hour in pd.date_range(row.gap_start, row.gap_end, freq="h", inclusive="left"):
            hours[names.index(row.tenant_name), (hour - first).days] += 1
    expected = [[slow_class(1 - h / 24) if h else 0 for h in row] for row in hours]
    np.testing.assert_array_equal(drawn, expected)
    assert ax.get_xlabel() == "day [UTC]"
    assert note_of(ax).startswith("Gaps only.")
    assert "no gap" in marks_of(ax)
    assert not {"inside the RPO", "no data"} & set(marks_of(ax))
    whole = ob.plot_coverage_calendar(ob.coverage_gaps(ob.sample(), "27h"))
    assert shown_title(whole).startswith("Gaps on ")
    assert len(labels(whole)) == 8


def test_a_year_of_five_hundred_tenants_is_drawn_in_a_second() -> None:
    calendar = make_calendar(50, days=365)
    parts = [
        calendar.assign(tenant_id=calendar["tenant_id"] + f"-{number}") for number in range(10)
    ]
    names = dict.fromkeys(("instance_id", "tenant_id", "tenant_name"), "category")
    whole = pd.concat(parts, ignore_index=True).astype(names)
    runs = pd.concat([make_runs(50, days=365)] * 10, ignore_index=True)
    runs["tenant_id"] += (runs.index // (50 * 365)).astype(str)
    took: dict[str, list[float]] = {"calendar": [], "timeline": []}
    for _ in range(2):
        for name, draw in (
            ("calendar", lambda: ob.plot_coverage_calendar(whole)),
            ("timeline", lambda: ob.plot_coverage(make_gaps(500), points=runs)),
        ):
            begin = time.process_time()
            draw()
            took[name].append(time.process_time() - begin)
    assert min(took["calendar"]) < 1.5  # about 0.3 where nothing else runs
    assert min(took["timeline"]) < 1.5


TITLE = (
    "Outside the RPO on 4,746 of 173,376 tenant days; the worst: <script>alert(1)</script>0, "
    "70 days; 168 days not known"
)


@pytest.mark.parametrize("cut", range(0, 20, 2))
def test_no_title_leaves_the_saved_picture(cut: int) -> None:
    """Letters are wider at the resolution of a picture than where the room is measured."""

    def draw() -> Any:
        ax = new_axes(3, ["a", "b", "c"])
        dress(ax, TITLE[cut:], TITLE * 2, handles=[], columns=1)
        return ax

    picture = imread(BytesIO(png(draw)))
    assert picture[:, -3:, :3].min() == 1.0
    assert picture[:60, :, :3].min() < 0.5
