"""Measure how good forecasts, change points and slopes are, and write docs/accuracy.md.

Run by ``python3 dev.py accuracy``. Everything is seeded: the same code writes the same page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from statsmodels import datasets

from obanalytics.breaks import change_points
from obanalytics.guesses import slow_methods
from obanalytics.horizon import crossing, filled, forecast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Public: TypeAlias = tuple[str, int, int, int, float, float, float]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
LEVEL, AHEAD = 0.9, 30
SERIES, FORECASTS = 200, 400
WINDOWS = 8


def simulated(count: int, chance: Any) -> dict[str, tuple[Callable[[], Any], int | None]]:
    """Return what makes series of each kind, and their season."""
    time = np.arange(count)

    def weekly() -> Any:
        series = 1000 + 40 * (time % 7 == 0) + chance.normal(0, 10, count)
        odd = chance.random(count) < 0.03
        series[odd] += chance.choice([-600, 600], odd.sum())
        return series

    def wandering() -> Any:
        noise, series = chance.normal(0, 10, count + 50), np.zeros(count + 50)
        for each in range(1, count + 50):
            series[each] = 0.6 * series[each - 1] + noise[each]
        return 500 + series[50:]

    begins = 0.7 * (count - AHEAD)
    return {
        "trend and noise": (lambda: 1000 + 2 * time + chance.normal(0, 25, count), None),
        "accumulating (random walk with drift)": (
            lambda: 1000 + np.cumsum(2 + chance.normal(0, 8, count)),
            None,
        ),
        "weekly and outliers": (weekly, 7),
        "a step of 500 at 70 %": (
            lambda: 1000 + 2 * time + 500 * (time >= begins) + chance.normal(0, 25, count),
            None,
        ),
        "autocorrelated noise (0.6)": (wandering, None),
    }


def least_squares(series: Any, ahead: int) -> tuple[Any, Any]:
    """Return the line that others draw, and half the width of its band."""
    from scipy.stats import t as student  # noqa: PLC0415 - for the comparison only

    count = len(series)
    time = np.arange(count)
    slope, level = np.polyfit(time, series, 1)
    deviation = np.sqrt(np.sum((series - slope * time - level) ** 2) / (count - 2))
    later = np.arange(count, count + ahead)
    spread = (later - time.mean()) ** 2 / np.sum((time - time.mean()) ** 2)
    half = student.ppf((1 + LEVEL) / 2, count - 2) * deviation * np.sqrt(1 + 1 / count + spread)
    return slope * later + level, half


def on_simulated(
    series: int = FORECASTS, counts: tuple[int, ...] = (60, 120)
) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield kind, n, coverage, coverage of least squares, MASE."""
    for count in counts:
        chance = np.random.default_rng(7)
        for kind, (make, season) in simulated(count + AHEAD, chance).items():
            ours, theirs, errors = [], [], []
            for _ in range(series):
                whole = make()
                past, truth = whole[:count], whole[count:]
                made = forecast(past, AHEAD, level=LEVEL, season=season, candidates="core")
                error = np.abs(truth - made.value)
                ours.append(np.mean(error <= made.half))
                errors.append(error.mean() / np.abs(np.diff(past)).mean())
                value, half = least_squares(past, AHEAD)
                theirs.append(np.mean(np.abs(truth - value) <= half))
            yield kind, count, *(float(np.mean(each)) for each in (ours, theirs, errors))


def crossings(series: int = FORECASTS) -> Iterator[tuple[float, float]]:
    """Yield how likely it was said that a threshold is reached, and whether it was: 1 or 0.

    Thresholds are over the newest values, by up to the reach of a random walk.
    """
    for count in (60, 120):
        chance = np.random.default_rng(3)
        for make, season in simulated(count + AHEAD, chance).values():
            for _ in range(series):
                whole = make()
                past, truth = whole[:count], whole[count:]
                made = forecast(past, AHEAD, level=LEVEL, season=season, candidates="core")
                reach = np.std(np.diff(past)) * np.sqrt(AHEAD) * chance.uniform(0, 1.4)
                limit = float(past[-14:].max() + reach)
                yield crossing(made, limit, count=1000).by[-1], float((truth >= limit).any())


GROUPS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)


def said_and_done(series: int = FORECASTS) -> Iterator[tuple[float, float, int, float, float]]:
    """Yield for groups of forecasts: from, to, how many, the mean probability, share crossed."""
    found = np.array(list(crossings(series)))
    group = np.minimum(np.searchsorted(GROUPS, found[:, 0], side="right"), len(GROUPS) - 1)
    for each in range(1, len(GROUPS)):
        said, done = found[group == each].T
        if len(said):
            yield GROUPS[each - 1], GROUPS[each], len(said), float(said.mean()), float(done.mean())


def public() -> Iterator[tuple[str, list[Any], int | None]]:
    """Yield the series that statsmodels brings along: name, series of one kind, season."""
    co2 = filled(datasets.co2.load_pandas().data["co2"].to_numpy(dtype=float))
    yield "co2, weekly", [co2], 52
    yield "co2, every fourth week", [co2[::4]], 13
    sun = datasets.sunspots.load_pandas().data["SUNACTIVITY"]
    yield "sunspots, yearly", [sun.to_numpy(dtype=float)], None
    yield "nile, yearly", [datasets.nile.load_pandas().data["volume"].to_numpy(dtype=float)], None
    macro = datasets.macrodata.load_pandas().data
    for name in macro.columns[2:]:
        yield f"macrodata {name}, quarterly", [macro[name].to_numpy(dtype=float)], None
    sea = datasets.elnino.load_pandas().data.drop(columns="YEAR")
    yield "elnino, monthly", [sea.to_numpy(dtype=float).ravel()], 12
    rates = datasets.interest_inflation.load_pandas().data
    for name in ("R", "Dp"):
        yield f"interest_inflation {name}, quarterly", [rates[name].to_numpy(dtype=float)], 4
    danish = datasets.danish_data.load_pandas().data
    for name in ("lrm", "lry"):
        yield f"danish_data {name}, quarterly", [danish[name].to_numpy(dtype=float)], 4


def held_out() -> Iterator[tuple[str, list[Any], int | None]]:
    """Yield the series that were not looked at while the method was made."""
    birth = datasets.fertility.load_pandas().data
    years = birth[[name for name in birth.columns if name.isdigit()]].to_numpy(dtype=float)
    years = years[:, ~np.isnan(years).all(axis=0)]
    yield "fertility of countries, yearly", list(years[~np.isnan(years).any(axis=1)]), None


def on_public(
    candidates: str = "core",
    windows: int = WINDOWS,
    source: Callable[[], Iterator[tuple[str, list[Any], int | None]]] = public,
) -> Iterator[Public]:
    """Yield name, n, horizon, stretches, MASE, that of the seasonal naive, coverage."""
    for name, several, season in source():
        for count in (40, 60, 120, 240):
            ahead = min(count // 4, AHEAD)
            found = [
                one_window(stretch, ahead, season, candidates)
                for series in several
                for stretch in stretches(series[np.isfinite(series)], count + ahead, windows)
                if not season or count >= 3 * season
            ]
            if found:
                mase, naive, covered = np.mean(found, axis=0).tolist()
                yield name, count, ahead, len(found), mase, naive, covered


def stretches(series: Any, length: int, most: int) -> Iterator[Any]:
    """Yield evenly spread stretches of a series, the last one among them."""
    spare = len(series) - length
    for begin in np.unique(np.linspace(spare, 0, most).astype(int)) if spare >= 0 else ():
        yield series[begin : begin + length]


def one_window(
    series: Any, ahead: int, season: int | None, candidates: str
) -> tuple[float, float, float]:
    """Return MASE, that of the seasonal naive, and coverage on one stretch of a series."""
    past, truth, period = series[:-ahead], series[-ahead:], season or 1
    made = forecast(past, ahead, level=LEVEL, season=season, candidates=candidates)
    scale = np.abs(past[period:] - past[:-period]).mean() or 1.0
    error = np.abs(truth - made.value)
    naive = np.abs(truth - past[-period:][np.arange(ahead) % period])
    covered = np.mean(error <= made.half + 1e-12)
    return float(error.mean() / scale), float(naive.mean() / scale), float(covered)


def stuck(series: Any, chance: Any) -> Any:
    """Return a series of which 5 % take 5 to 20 times as long."""
    odd = chance.random(len(series)) < 0.05
    return series + np.where(odd, np.log(chance.uniform(5, 20, len(series))), 0.0)


def without_change(kind: str, count: int, chance: Any) -> Any:
    """Return log durations without a change."""
    noise = chance.normal(0, 0.12, count + 50)
    if kind == "AR(1), 0.5":
        series = np.zeros(count + 50)
        for each in range(1, count + 50):
            series[each] = 0.5 * series[each - 1] + noise[each]
        return series[50:]
    drift = {"+30 % drift": 1.3, "+50 % drift": 1.5, "+100 % drift": 2.0}.get(kind, 1.0)
    return noise[50:] + np.log(drift) * np.linspace(0, 1, count)


QUIET = ("unchanged", "+30 % drift", "+50 % drift", "+100 % drift", "AR(1), 0.5")


def false_changes(
    series: int = SERIES, counts: tuple[int, ...] = (40, 90, 150)
) -> Iterator[tuple[str, int, float, float]]:
    """Yield kind, n, the share of series with a change, and that with stuck runs."""
    for kind in QUIET:
        for count in counts:
            chance = np.random.default_rng(count)
            shares = []
            for disturb in (lambda each, _: each, stuck):
                found = [
                    len(change_points(disturb(without_change(kind, count, chance), chance))) > 0
                    for _ in range(series)
                ]
                shares.append(float(np.mean(found)))
            yield kind, count, *shares


def found_changes(series: int = SERIES) -> Iterator[tuple[float, float, int, float, float]]:
    """Yield noise, shift, n, the share found within two runs, and that with stuck runs."""
    for noise, shift in ((0.06, 1.3), (0.08, 1.3), (0.12, 1.3), (0.12, 1.5)):
        for count in (40, 90, 150):
            chance = np.random.default_rng(count)
            shares = []
            for disturb in (lambda each, _: each, stuck):
                hits = []
                for _ in range(series):
                    at = int(chance.integers(8, count - 7))
                    level = np.log(shift) * (np.arange(count) >= at)
                    made = disturb(level + chance.normal(0, noise, count), chance)
                    hits.append(bool((np.abs(change_points(made) - at) <= 2).any()))
                shares.append(float(np.mean(hits)))
            yield noise, shift, count, *shares


def page(series: int = SERIES, forecasts: int = FORECASTS, windows: int = WINDOWS) -> str:
    """Return the page."""
    lines = [
        "# How good the methods are",
        "",
        "Written by `python3 dev.py accuracy`; every figure is seeded. MASE is the mean absolute",
        "error by the mean change from one value to the next (or to that one season ago): under",
        "that of the naive forecast is better. Coverage is the share of later values inside 90 %",
        "bands.",
        "",
        *_simulated_part(forecasts),
        *_public_part(windows),
        *_crossing_part(forecasts),
        *_changes_part(series),
    ]
    return "\n".join(lines) + "\n"


def _simulated_part(series: int) -> list[str]:
    """Return the part about simulated series."""
    lines = [
        "## Forecasts of simulated series",
        "",
        f"{series} series a line, {AHEAD} steps ahead, without `statsmodels`. Least squares is the",
        "straight line with its usual band.",
        "",
        "| series | n | coverage | of least squares | MASE |",
        "|---|---|---|---|---|",
    ]
    lines += [simulated_line(*row) for row in on_simulated(series)]
    return lines


def simulated_line(kind: str, count: int, ours: float, theirs: float, mase: float) -> str:
    """Return a line of the table of simulated series."""
    return f"| {kind} | {count} | {ours:.2f} | {theirs:.2f} | {mase:.2f} |"


def _public_part(windows: int) -> list[str]:
    """Return the part about public series."""
    rows, rest = list(on_public(windows=windows)), list(on_public("core", 1, held_out))
    mean = np.mean([row[4:] for row in rows], axis=0)
    return [
        "",
        "## Forecasts of public series",
        "",
        "Series that `statsmodels.datasets` brings along; stretches of n values, up to",
        f"{windows} of each series. On average over the lines: MASE {mean[0]:.2f}, seasonal",
        f"naive {mean[1]:.2f}, coverage {mean[2]:.2f}.{_with_all()}",
        "",
        *_public_table(rows),
        "",
        "The method's constants were chosen on these and on simulated series. None was by these",
        "(one stretch a country, the last):",
        "",
        *_public_table(rest),
    ]


def _with_all() -> str:
    """Return what the methods of statsmodels bring."""
    if not slow_methods():
        return ""
    core, every = (
        np.mean([row[4:] for row in on_public(candidates, 1)], axis=0)
        for candidates in ("core", "all")
    )
    return (
        " On the last\nstretch of each, with damped exponential smoothing and Theta of "
        f"`statsmodels` tried too: MASE\n{every[0]:.2f} instead of {core[0]:.2f}, "
        f"coverage {every[2]:.2f} instead of {core[2]:.2f}."
    )


def _public_table(rows: Iterable[Public]) -> list[str]:
    """Return the lines of a table of public series."""
    return [
        "| series | n | steps | stretches | MASE | seasonal naive | coverage |",
        "|---|---|---|---|---|---|---|",
        *public_lines(rows),
    ]


def public_lines(rows: Iterable[Public]) -> list[str]:
    """Return lines of that table without its head."""
    return [
        f"| {name} | {count} | {ahead} | {many} | {mase:.2f} | {naive:.2f} | {covered:.2f} |"
        for name, count, ahead, many, mase, naive, covered in rows
    ]


def _crossing_part(series: int) -> list[str]:
    """Return the part about thresholds."""
    return [
        "",
        "## Probabilities of reaching a threshold",
        "",
        f"The simulated series again, {AHEAD} steps ahead; thresholds over the newest values by up",
        "to the reach of a random walk. Where it was said that one is reached so likely, it was in",
        "this share of the series:",
        "",
        "| said | series | mean of what was said | reached |",
        "|---|---|---|---|",
        *(
            f"| {low:.0%} to {high:.0%} | {many} | {said:.2f} | {done:.2f} |"
            for low, high, many, said, done in said_and_done(series)
        ),
    ]


def _changes_part(series: int) -> list[str]:
    """Return the part about change points."""
    lines = [
        "",
        "## Change points",
        "",
        f"Logarithms of durations, noise 0.12 (12 %), {series} series a cell; stuck: 5 % of the",
        "runs take 5 to 20 times as long. The share of series in which a change is told that is",
        "not there:",
        "",
        "| series | n | told | with stuck runs |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {kind} | {count} | {alone:.3f} | {heavy:.3f} |"
        for kind, count, alone, heavy in false_changes(series)
    ]
    lines += [
        "",
        "The share of changes that are found within two runs, anywhere 8 runs or more from the",
        "ends:",
        "",
        "| noise | shift | n | found | with stuck runs |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {noise:.2f} | {100 * (shift - 1):+.0f} % | {count} | {alone:.3f} | {heavy:.3f} |"
        for noise, shift, count, alone, heavy in found_changes(series)
    ]
    return lines


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args()
    text = page()
    if given.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
