"""Know our fonts, and draw a chart that follows a hand: what was drawn before is kept."""

from __future__ import annotations

import gc
import struct
import zlib
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "Noto Emoji"),
)
_SCREEN: Any = {"text.hinting": "none", "figure.dpi": 96}
_MOST = 4096  # texts that are kept
_sizes: dict[Any, Any] = {}
_shapes: dict[Any, Any] = {}
_heights: dict[Any, Any] = {}


_canvas: ContextVar[Any] = ContextVar("_canvas", default=FigureCanvasAgg)
_drawing = RLock()  # matplotlib has one set of settings for all threads


@cache
def families() -> tuple[str, ...]:
    """Return those of our font families that this machine has.

    Returns
    -------
    tuple of str
        At least one.
    """
    there = set(font_manager.get_font_names())
    return tuple(name for name in _FAMILIES if name in there) or ("sans-serif",)


@cache
def glyphs(weight: str = "normal") -> frozenset[int]:
    """Return the characters that our fonts can draw.

    Parameters
    ----------
    weight : {"normal", "bold"}
        Of the fonts: a bold face may have fewer.

    Returns
    -------
    frozenset of int
        Code points.
    """
    faces = (font_manager.FontProperties(family=name, weight=weight) for name in families())
    paths = (font_manager.findfont(face) for face in faces)
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


def drawable(text: str, weight: str = "normal") -> str:
    """Return a text with a box for every character that our fonts lack.

    Parameters
    ----------
    text : str
        The text.
    weight : {"normal", "bold"}
        How it will be written.

    Returns
    -------
    str
        What can be drawn without a warning.
    """
    known = glyphs(weight)
    return "".join(char if ord(char) in known else "□" for char in text)


def _kept(memory: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what was made before, or make it; threads may make the same twice."""
    found = memory.get(key)
    if found is None:
        found = make()
        if len(memory) >= _MOST:
            memory.clear()
        memory[key] = found
    return found


class _Glyphs:
    """Stands in for what draws, and notes the letters that it is given."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, int, int, float]] = []

    def draw_text_image(self, image: Any, x: int, y: int, angle: float, _: Any) -> None:  # noqa: ANN401
        """Note a letter, or a line of them; what it is in may be used again."""
        self.noted.append((np.array(image, np.uint8), x, y, angle))


class _Renderer(RendererAgg):
    """Keeps the sizes of texts and what they look like beyond the figure."""

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:  # noqa: ANN401
        """Return the size of a text."""
        measure: Any = super().get_text_width_height_descent
        key = (s, hash(prop), ismath, self.dpi, _hinting())
        return _kept(_sizes, key, lambda: measure(s, prop, ismath))

    def _get_font_height_metrics(self, prop: Any) -> Any:  # noqa: ANN401
        """Return how high a font's lines are; matplotlib reads it from the file for every text."""
        return _kept(_heights, (hash(prop), self.dpi), lambda: _height(prop, self.dpi))

    def draw_text(  # noqa: PLR0913, PLR0917 - matplotlib's
        self,
        gc: Any,  # noqa: ANN401
        x: float,
        y: float,
        s: str,
        prop: Any,  # noqa: ANN401
        angle: float,
        ismath: Any = False,  # noqa: ANN401, FBT002
        mtext: Any = None,  # noqa: ANN401
    ) -> None:
        """Draw a text, from a whole dot on: so it looks the same wherever it stands."""
        x, y = round(x), round(y)
        draw: Any = super().draw_text
        if ismath:
            draw(gc, x, y, s, prop, angle, ismath, mtext)
            return
        real = self._renderer

        def shaped() -> list[tuple[Any, int, int, float]]:
            """Return the letters, as they stand from the beginning of the text on."""
            self._renderer = glyphs = _Glyphs()
            try:
                draw(gc, x, y, s, prop, angle, ismath, mtext)
            finally:
                self._renderer = real
            return [(image, left - x, low - y, turn) for image, left, low, turn in glyphs.noted]

        more = () if mtext is None else _more(mtext)
        key = (s, hash(prop), angle, self.dpi, _hinting(), gc.get_antialiased(), more)
        for image, left, low, turn in _kept(_shapes, key, shaped):
            real.draw_text_image(image, x + left, y + low, turn, gc)


def _hinting() -> Any:  # noqa: ANN401 - one of several kinds of words
    """Return how letters are fitted to dots."""
    rc: Any = mpl.rcParams
    return rc["text.hinting"]


def _height(prop: Any, dpi: float) -> tuple[float | None, float | None, float]:  # noqa: ANN401
    """Return how far a font's lines reach up and down, and what is between them [pixels]."""
    font: Any = font_manager.get_font(font_manager.fontManager._find_fonts_by_props(prop))  # noqa: SLF001
    for name, *keys in (
        ("OS/2", "sTypoLineGap", "sTypoAscender", "sTypoDescender"),
        ("hhea", "lineGap", "ascent", "descent"),
    ):
        table = font.get_sfnt_table(name)
        if table is not None:
            per = font.get_sfnt_table("head")["unitsPerEm"]
            scale = 1 / per * prop.get_size_in_points() * dpi / 72
            gap, up, down = (table[key] * scale for key in keys)
            return up, -down, gap
    return None, None, 0.0


def _more(text: Any) -> tuple[Any, ...]:  # noqa: ANN401 - an artist
    """Return what else the shape of a text hangs on, where matplotlib knows such things."""
    asked = (getattr(text, name, None) for name in ("get_fontfeatures", "get_language"))
    return tuple(None if ask is None else repr(ask()) for ask in asked)


class QuickCanvas(FigureCanvasAgg):
    """Where a chart is drawn that follows a hand."""

    def get_renderer(self) -> Any:  # noqa: ANN401 - matplotlib ships no types
        """Return what draws.

        Returns
        -------
        RendererAgg
            The same while the size is the same.
        """
        key = (*self.get_width_height(physical=True), self.figure.dpi)
        if self._lastKey != key:
            make: Any = _Renderer
            self.renderer, self._lastKey = make(*key), key
        return self.renderer

    moving: Sequence[Any] = ()
    """What changes while the rest stays: drawn last, by its `zorder`."""
    _ground: Any = None

    def picture(self) -> bytes:
        """Draw the figure; what stays is drawn once.

        Returns
        -------
        bytes
            A PNG, made for speed.
        """
        for artist in self.moving:
            artist.set_animated(True)
        mine: Any = self
        if self._ground is None:
            mine.draw()
        dots = np.asarray(mine.buffer_rgba())
        if self._ground is not None:
            dots[:] = self._ground
        elif self.moving:
            self._ground = dots.copy()
        for artist in sorted(self.moving, key=lambda each: each.get_zorder()):
            artist.draw(self.renderer)
        return encoded(dots)


def is_quick() -> bool:
    """Tell whether what is drawn now is for a screen that is waiting.

    Returns
    -------
    bool
        Within `quickly`.
    """
    return _canvas.get() is QuickCanvas


def new_canvas(figure: Any) -> Any:  # noqa: ANN401 - matplotlib ships no types
    """Give a figure what it is drawn on.

    Parameters
    ----------
    figure : Figure
        The figure.

    Returns
    -------
    FigureCanvasAgg
        A `QuickCanvas` within `quickly`.
    """
    return _canvas.get()(figure)


def picture_of(figure: Any) -> bytes:  # noqa: ANN401
    """Draw a figure for a screen that is waiting.

    Parameters
    ----------
    figure : Figure
        The figure.

    Returns
    -------
    bytes
        A PNG.
    """
    canvas = figure.canvas
    return (canvas if isinstance(canvas, QuickCanvas) else QuickCanvas(figure)).picture()


@contextmanager
def quickly() -> Iterator[None]:
    """Draw for a screen that is waiting, one thread at a time.

    Yields
    ------
    None
        Nothing.
    """
    before = _canvas.set(QuickCanvas)
    try:
        with _drawing, mpl.rc_context(_SCREEN), unhurried():
            yield
    finally:
        _canvas.reset(before)


@contextmanager
def unhurried() -> Iterator[None]:
    """Leave looking for garbage until later: it would take as long as half of a chart.

    Yields
    ------
    None
        Nothing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def encoded(dots: Any) -> bytes:  # noqa: ANN401 - an array
    """Return dots as a PNG.

    Parameters
    ----------
    dots : ndarray of uint8
        Rows of dots with their red, green, blue and opacity, which is left out.

    Returns
    -------
    bytes
        The file.
    """
    high, wide = dots.shape[:2]
    lines = np.zeros((high, 1 + 3 * wide), np.uint8)  # the first byte: as they are, not filtered
    for number in range(3):
        lines[:, 1 + number :: 3] = dots[:, :, number]
    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    """Return a part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
