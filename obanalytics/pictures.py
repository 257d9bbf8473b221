"""Draw the figures of a report, with the words that stand for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from obanalytics.canvas import png
from obanalytics.fan import plot_forecast, plot_stored_size
from obanalytics.grids import plot_parity
from obanalytics.lanes import plot_durations, plot_growth
from obanalytics.timeline import plot_coverage

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.overview import ReviewData


class Picture(NamedTuple):
    """A figure."""

    data: bytes
    """A PNG."""
    what: str
    """What it shows, in a few words: its sentence says the rest."""


def pictures(review: ReviewData) -> dict[str, Picture]:
    """Draw the figures; none where there is nothing to draw.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    dict of str to Picture
        By the key of their section.
    """
    return {key: Picture(png(draw), what) for key, (what, draw) in _drawings(review).items()}


def _drawings(review: ReviewData) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Return what draws each figure."""
    tables = review.tables
    draw: dict[str, tuple[str, Callable[[], Any]]] = {}
    if tables["coverage"]["instance_id"].notna().any():
        draw["coverage"] = (
            "A line of time per tenant with its restore points and its gaps",
            lambda: plot_coverage(
                tables["gaps"],
                compliance=tables["coverage"],
                points=review.points,
                steps=review.steps,
                window=review.window,
            ),
        )
    if tables["growth"]["percent_per_30d"].notna().any():
        draw["growth"] = (
            "Sizes of backup sets along time with their trends, a lane per series",
            lambda: plot_growth(tables["growth"]),
        )
    stored = tables["stored"]
    if stored["stored_gib"].gt(0).any() and stored["time"].nunique() > 1:  # a point is no course
        draw["stored"] = (
            "GiB in store along time by cluster, and GiB written per week",
            lambda: plot_stored_size(tables["stored"]),
        )
    if tables["forecast"]["median_gib"].notna().any():
        draw["forecast"] = (
            "Past sizes, forecasts and their bands, a lane per series",
            lambda: plot_forecast(tables["forecast"]),
        )
    if tables["durations"]["p50"].notna().any() and tables["durations"]["sets"].max() > 1:
        draw["durations"] = (
            "Durations of runs along time, a lane per series, changes of pace marked",
            lambda: plot_durations(tables["durations"], changes=tables["changes"]),
        )
    if tables["parity"]["presence"].ne("present").any():
        draw["parity"] = (
            "Which tenants were in which cluster sets",
            lambda: plot_parity(tables["parity"]),
        )
    return draw
