"""What a chart keeps while an RPO is moved: every picture is that of a chart drawn from scratch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import obanalytics as ob
from obanalytics import canvas, letters
from obanalytics.marks import marks_of
from obanalytics.timeline import _Drawn

HOURS = [*range(20, 40), 3, 400, 41, 26, 9000, 42, 43]


def drawing(sets: ob.BackupSets, points: Any, hours: float) -> Any:
    rpo = f"{hours}h"
    gaps = ob.coverage_gaps(sets, rpo)
    coverage = ob.rpo_compliance(sets, rpo, total=True)
    return lambda: ob.plot_coverage(gaps, compliance=coverage, points=points)


def pictures(sets: ob.BackupSets, hours: list[float]) -> tuple[list[bytes], list[bytes]]:
    """Return pictures of charts that keep what stays, and of such as keep nothing."""
    points = ob.restore_points(sets)
    marked = marks_of(points)
    kept = [canvas.png(drawing(sets, marked, each), quick=True) for each in hours]
    return kept, [canvas.png(drawing(sets, points, each), quick=True) for each in hours]


def test_a_chart_that_is_kept_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    again = _Drawn.again
    monkeypatch.setattr(_Drawn, "again", lambda self, *told: (kept.append(1), again(self, *told)))
    one, other = pictures(ob.sample(), HOURS)
    assert one == other
    assert len(set(one)) > len(HOURS) - 4
    assert len(HOURS) > len(kept) > 15


@pytest.mark.parametrize("start", ["2026-08-20", "2026-09-25", "2026-06-01"])
def test_so_it_is_in_any_window(start: str) -> None:
    one, other = pictures(ob.sample().between(start, "2026-10-01"), [26, 27, 28, 60, 61, 2, 3])
    assert one == other


def test_a_picture_has_every_dot_of_the_chart_that_is_saved() -> None:
    """The canvas that keeps nothing knows of no artists that move."""
    sets = ob.sample()
    points = ob.restore_points(sets)
    marked = marks_of(points)
    for hours in (26, 27, 28):
        picture = canvas.png(drawing(sets, marked, hours), quick=True)
        with letters.quickly(), canvas.style(light=True):
            figure = drawing(sets, points, hours)().figure
            figure.canvas.draw()
            whole = np.asarray(figure.canvas.buffer_rgba())[:, :, :3]
        assert (np.asarray(Image.open(io.BytesIO(picture))) == whole).all()


def test_a_file_of_marks_is_that_of_the_points() -> None:
    sets = ob.sample()
    points = ob.restore_points(sets)
    marked = marks_of(points)
    canvas.png(drawing(sets, marked, 26), quick=True)
    assert canvas.png(drawing(sets, marked, 27)) == canvas.png(drawing(sets, points, 27))
    assert len(marked.drawn) == 1
    first, second = drawing(sets, marked, 27)(), drawing(sets, marked, 27)()
    assert first is not second


def test_marks_of_nothing() -> None:
    sets = ob.sample()
    points = ob.restore_points(sets).head(0)
    marked = marks_of(points)
    assert marked.keys == ()
    one = canvas.png(drawing(sets, marked, 26), quick=True)
    assert one == canvas.png(drawing(sets, points, 26), quick=True)


def test_marks_tell_whose_each_is() -> None:
    points = ob.restore_points(ob.sample())
    marked = marks_of(points)
    told = [marked.keys[number] for number in marked.whose]
    assert told == list(zip(points["instance_id"], points["tenant_id"], strict=True))
    rows = {key: n for n, key in enumerate(marked.keys[:-1])}
    heights = marked.heights(rows)
    assert heights[:-2].tolist() == list(range(len(rows)))
    assert np.isnan(heights[-2:]).all()
    good = points[points["restorable"]]
    first, last, begins = marked.known(rows)
    assert first == canvas.day(good["start_time"].min())
    assert last == canvas.day(good["checkpoint"].max())
    assert len(begins) == len(rows)
    chains = (
        points[points["restorable"]]
        .groupby(["instance_id", "tenant_id", "chain_id"], observed=True)
        .size()
    )
    assert len(marked.chain_of) == (chains > 1).sum()
