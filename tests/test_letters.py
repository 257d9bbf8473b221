"""The chart that follows a hand: the same dots with and without what is kept of the last one."""

from __future__ import annotations

import gc
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends import backend_agg
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from PIL import Image

import obanalytics as ob
from obanalytics import canvas, letters


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    letters._sizes.clear()
    letters._shapes.clear()


@pytest.fixture(scope="module")
def charts() -> list[Any]:
    """Return functions that draw different charts."""
    sets = ob.sample()
    points = ob.restore_points(sets)
    made = []
    for rpo in ("20h", "26h", "31h"):
        gaps = ob.coverage_gaps(sets, rpo)
        coverage = ob.rpo_compliance(sets, rpo, total=True)
        made.append(
            lambda gaps=gaps, coverage=coverage: ob.plot_coverage(
                gaps, compliance=coverage, points=points
            )
        )
    growth, parity = ob.size_growth(sets), ob.tenant_parity(sets)
    return [*made, lambda: ob.plot_growth(growth), lambda: ob.plot_parity(parity)]


def dots(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


class Plain(RendererAgg):
    """Draws texts from whole dots on, and keeps nothing."""

    def draw_text(self, gc: Any, x: float, y: float, *told: Any, **more: Any) -> None:
        super().draw_text(gc, round(x), round(y), *told, **more)


def test_a_picture_is_the_same_whatever_is_kept(
    charts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [canvas.png(draw, quick=True) for draw in charts]
    assert letters._sizes
    assert letters._shapes
    assert [canvas.png(draw, quick=True) for draw in reversed(charts)] == first[::-1]
    assert len(set(first)) == len(charts)
    monkeypatch.setattr(letters, "_Renderer", Plain)
    assert [canvas.png(draw, quick=True) for draw in charts] == first


def test_a_picture_is_what_matplotlib_draws(
    charts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_agg, "RendererAgg", Plain)
    for draw in charts:
        with canvas.style(light=True), mpl.rc_context(letters._SCREEN):
            buffer = io.BytesIO()
            draw().figure.savefig(buffer, format="png", dpi=96)
        assert (dots(canvas.png(draw, quick=True)) == dots(buffer.getvalue())).all()


def test_many_threads_draw_the_same(charts: list[Any]) -> None:
    alone = [canvas.png(draw, quick=True) for draw in charts]
    letters._shapes.clear()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda draw: canvas.png(draw, quick=True), charts * 3))
    assert together == alone * 3


def test_not_everything_is_kept(charts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = canvas.png(charts[0], quick=True)
    monkeypatch.setattr(letters, "_MOST", 5)
    assert canvas.png(charts[0], quick=True) == whole
    assert canvas.png(charts[1], quick=True) != whole
    assert len(letters._shapes) <= 5


def test_a_file_is_drawn_as_ever(charts: list[Any]) -> None:
    before = canvas.png(charts[0])
    canvas.png(charts[0], quick=True)
    assert canvas.png(charts[0]) == before
    assert type(charts[0]().figure.canvas) is FigureCanvasAgg
    assert Image.open(io.BytesIO(before)).size[0] == 1152


def test_an_error_leaves_nothing_behind() -> None:
    def wrong() -> Any:
        assert not gc.isenabled()
        raise ValueError("wrong")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="wrong"):
        canvas.png(wrong, quick=True)
    assert gc.isenabled()
    assert letters._canvas.get() is FigureCanvasAgg
    gc.disable()
    try:
        canvas.png(lambda: canvas.nothing(None, "nothing"), quick=True)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_two_looks_of_one_text_are_two_shapes() -> None:
    pictures = set()
    for look in ({}, {"rotation": 30}, {"weight": "bold"}, {"size": 12}, {"antialiased": False}):

        def draw(look: Any = look) -> Any:
            ax = canvas.nothing(None, "")
            ax.text(0.5, 0.5, "tenant", **look)
            return ax

        pictures.add(canvas.png(draw, quick=True))
    assert len(pictures) == 5


def test_a_png_holds_every_dot() -> None:
    given = np.random.default_rng(5).integers(0, 256, (37, 53, 4), np.uint8)
    made = Image.open(io.BytesIO(letters.encoded(given)))
    made.verify()
    assert made.mode == "RGB"
    assert (dots(letters.encoded(given)) == given[:, :, :3]).all()
