"""Say what was found in sentences, row by row; they are written out when all rows are known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.recovery import NAT
from obanalytics.wording import format_span, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obanalytics.recovery import Bools, Ints

Texts: TypeAlias = Any  # arrays of texts: pyarrow has no types
_MINUTE = 60_000_000  # [µs]
_HOUR = 60 * _MINUTE
_CLOCK = "".join(f" {hour:02}:{minute:02}" for hour in range(24) for minute in range(60))
_TIMES = np.frombuffer(_CLOCK.encode(), np.uint8).reshape(1440, 6)


class Phrase(ABC):
    """A part of a sentence, one for each of some rows."""

    @abstractmethod
    def take(self, keep: Ints) -> Phrase:
        """Return the phrase of some rows.

        Parameters
        ----------
        keep : ndarray of int
            Which.

        Returns
        -------
        Phrase
            Of these.
        """

    @abstractmethod
    def shape(self) -> tuple[Any, ...]:
        """Return what is the same for all rows: phrases of one shape can be joined.

        Returns
        -------
        tuple
            Hashable.
        """

    @abstractmethod
    def join(self, others: Sequence[Any]) -> Phrase:
        """Put phrases of one shape together.

        Parameters
        ----------
        others : sequence of Phrase
            What comes behind.

        Returns
        -------
        Phrase
            Of all rows.
        """

    @abstractmethod
    def write(self) -> Texts:
        """Write it out.

        Returns
        -------
        array of str
            A text a row.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return how many rows it has."""


@dataclass(slots=True)
class Said(Phrase):
    """Texts and phrases, one behind the other."""

    pieces: tuple[str | Phrase, ...]

    def take(self, keep: Ints) -> Said:
        """Return the phrase of some rows."""
        return Said(tuple(p if isinstance(p, str) else p.take(keep) for p in self.pieces))

    def shape(self) -> tuple[Any, ...]:
        """Return what is the same for all rows."""
        return tuple(p if isinstance(p, str) else p.shape() for p in self.pieces)

    def join(self, others: Sequence[Any]) -> Said:
        """Put phrases of one shape together."""
        columns = zip(self.pieces, *(each.pieces for each in others), strict=True)
        return Said(tuple(p if isinstance(p, str) else p.join(rest) for p, *rest in columns))

    def write(self, before: Sequence[Texts | str] = ()) -> Texts:
        """Write it out, perhaps behind other texts."""
        parts = [pa.scalar(p) if isinstance(p, str) else p for p in before]
        parts += [pa.scalar(p) if isinstance(p, str) else p.write() for p in self.pieces]
        return pc.binary_join_element_wise(*parts, pa.scalar(""))

    def __len__(self) -> int:
        """Return how many rows it has."""
        return max((len(p) for p in self.pieces if not isinstance(p, str)), default=0)


@dataclass(slots=True)
class Either(Phrase):
    """One phrase where a flag is set, another where it is not."""

    flags: Bools
    one: str | Phrase
    other: str | Phrase

    def take(self, keep: Ints) -> Either:
        """Return the phrase of some rows."""
        sides = [p if isinstance(p, str) else p.take(keep) for p in (self.one, self.other)]
        return Either(self.flags[keep], *sides)

    def shape(self) -> tuple[Any, ...]:
        """Return what is the same for all rows."""
        return "either", *(p if isinstance(p, str) else p.shape() for p in (self.one, self.other))

    def join(self, others: Sequence[Any]) -> Either:
        """Put phrases of one shape together."""
        flags = np.concatenate([self.flags, *(each.flags for each in others)])
        one, other = (
            mine if isinstance(mine, str) else mine.join([getattr(each, name) for each in others])
            for name, mine in (("one", self.one), ("other", self.other))
        )
        return Either(flags, one, other)

    def write(self) -> Texts:
        """Write it out, each side only where it is wanted."""
        there, flags = np.flatnonzero(self.flags), np.asarray(self.flags, bool)
        if len(there) in (0, len(flags)):
            side = self.one if len(there) else self.other
            return pa.repeat(side, len(flags)) if isinstance(side, str) else side.write()
        one, other = (
            side
            if isinstance(side, str)
            else pc.replace_with_mask(
                pa.repeat("", len(flags)), pa.array(where), side.take(np.flatnonzero(where)).write()
            )
            for side, where in ((self.one, flags), (self.other, ~flags))
        )
        return pc.if_else(pa.array(flags), one, other)

    def __len__(self) -> int:
        """Return how many rows it has."""
        return len(self.flags)


@dataclass(slots=True)
class Filled(Phrase):
    """Numbers, each written by a rule; every distinct one once."""

    filling: Any
    rule: tuple[Any, ...]
    """A name, and what it needs."""

    def take(self, keep: Ints) -> Filled:
        """Return the phrase of some rows."""
        return Filled(self.filling[keep], self.rule)

    def shape(self) -> tuple[Any, ...]:
        """Return what is the same for all rows."""
        return self.rule

    def join(self, others: Sequence[Any]) -> Filled:
        """Put phrases of one shape together."""
        return Filled(np.concatenate([self.filling, *(each.filling for each in others)]), self.rule)

    def write(self) -> Texts:
        """Write it out."""
        name, *needs = self.rule
        if name == "words":
            return _take(needs[0], self.filling)
        if name == "dated":
            return _dates(self.filling, needs[0])
        place, distinct = pd.factorize(self.filling)
        form = _FORMS[name]
        return _take([form(each, *needs) for each in distinct.tolist()], place)

    def __len__(self) -> int:
        """Return how many rows it has."""
        return len(self.filling)


@dataclass(frozen=True, slots=True)
class Zone:
    """Write instants on the wall clock of a time zone.

    Parameters
    ----------
    name : str
        Such as ``Asia/Shanghai``.
    end : int or None
        The end of the window, where more is known than up to it; None: "now" is now [µs].
    """

    name: str
    end: int | None = None

    def when(self, now: str, then: str = "") -> str:
        """Say of which instant something is.

        Parameters
        ----------
        now : str
            What is said where it is "now".
        then : str
            What is said before the end of the window, where that is earlier.

        Returns
        -------
        str
            Such as ``at the end of the window (2026-08-01 00:00 UTC)``.
        """
        if self.end is None:
            return now
        text = self.at(np.array([self.end])).write()[0].as_py()
        return f"{then}at the end of the window ({text})"

    def dated(self, moments: Ints) -> Phrase:
        """Return instants to the minute.

        Parameters
        ----------
        moments : ndarray of int
            Since 1970 [µs].

        Returns
        -------
        Phrase
            Such as ``2026-06-01 08:31``; ``n/a`` where there is none.
        """
        return Filled(moments, ("dated", self.name))

    def between(self, start: Ints, end: Ints) -> Phrase:
        """Return ``from … to … UTC``.

        Parameters
        ----------
        start, end : ndarray of int
            Instants [µs].

        Returns
        -------
        Phrase
            A text for each.
        """
        return say("from ", self.dated(start), " to ", self.dated(end), f" {self.name}")

    def at(self, moments: Ints) -> Phrase:
        """Return instants with the zone behind.

        Parameters
        ----------
        moments : ndarray of int
            Instants [µs].

        Returns
        -------
        Phrase
            A text for each.
        """
        return say(self.dated(moments), f" {self.name}")


def say(*pieces: str | Phrase) -> Phrase:
    """Join texts, row by row.

    Parameters
    ----------
    *pieces : str or Phrase
        What each sentence is made of; a text is in all of them.

    Returns
    -------
    Phrase
        A sentence a row.
    """
    flat: list[str | Phrase] = []
    for piece in pieces:
        flat += piece.pieces if isinstance(piece, Said) else [piece]
    return Said(tuple(flat))


def either(flags: Bools, one: str | Phrase, other: str | Phrase) -> Phrase:
    """Return one phrase where a flag is set, and another where it is not.

    Parameters
    ----------
    flags : ndarray of bool
        The flags.
    one, other : str or Phrase
        The phrases.

    Returns
    -------
    Phrase
        A text a row.
    """
    return Either(flags, one, other)


def spelled(lengths: Ints) -> Phrase:
    """Write durations in their two largest units.

    Parameters
    ----------
    lengths : ndarray of int
        Durations [µs].

    Returns
    -------
    Phrase
        As `wording.format_span` has them.
    """
    size = np.abs(lengths)
    # As they are shown: to the second, the minute or the hour.
    step = np.where(size < 2 * _MINUTE, _MINUTE // 60, np.where(size < 48 * _HOUR, _MINUTE, _HOUR))
    return Filled((lengths + step // 2) // step * step, ("span",))


def numbered(values: Any, digits: int = 0) -> Phrase:  # noqa: ANN401 - any numbers
    """Write numbers with their thousands apart.

    Parameters
    ----------
    values : array of int or float
        The numbers.
    digits : int
        Behind the point.

    Returns
    -------
    Phrase
        Such as ``1,234.5``.
    """
    return Filled(np.round(np.asarray(values), digits), ("number", digits))


def counted(values: Ints, noun: str) -> Phrase:
    """Write how many of something.

    Parameters
    ----------
    values : ndarray of int
        How many.
    noun : str
        In the singular.

    Returns
    -------
    Phrase
        Such as ``3 sets``.
    """
    return Filled(np.asarray(values), ("count", noun))


def times_over(measured: Any, limit: Any) -> Phrase:  # noqa: ANN401 - arrays of numbers
    """Write how many times a limit was reached.

    Parameters
    ----------
    measured, limit : array of float
        In one unit.

    Returns
    -------
    Phrase
        Such as ``, 3.8 times as much``; nothing where there is no limit to divide by.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(np.asarray(limit) > 0, np.asarray(measured) / np.asarray(limit), np.nan)
    return Filled(np.round(np.where(np.isfinite(factor), factor, 0.0), 1), ("times",))


def words_of(codes: Ints, names: Sequence[str]) -> Phrase:
    """Return a text for every code.

    Parameters
    ----------
    codes : ndarray of int
        Positions in `names`.
    names : sequence of str
        The texts.

    Returns
    -------
    Phrase
        A text each.
    """
    return Filled(np.asarray(codes, np.int64), ("words", tuple(names)))


def says(phrase: str | Phrase, word: str) -> Bools:
    """Tell in which rows one of the texts of `words_of` is this one.

    Parameters
    ----------
    phrase : str or Phrase
        Where to look: in all of it, whatever is written in the end.
    word : str
        The whole text.

    Returns
    -------
    ndarray of bool
        One each.
    """
    if isinstance(phrase, Filled):
        if phrase.rule[0] != "words":
            return np.zeros(len(phrase), bool)
        return np.array([each == word for each in phrase.rule[1]], bool)[phrase.filling]
    parts: tuple[str | Phrase, ...] = ()
    if isinstance(phrase, Said):
        parts = phrase.pieces
    elif isinstance(phrase, Either):
        parts = phrase.one, phrase.other
    found = np.zeros(len(phrase) if parts else 1, bool)
    for part in parts:
        found = found | says(part, word)
    return found


@lru_cache(maxsize=1 << 14)
def _span_text(length: int) -> str:
    """Write a duration [µs]."""
    return format_span(pd.Timedelta(length, "us"))


def _dates(moments: Ints, zone: str) -> Texts:
    """Write instants to the minute, on the clock of a zone."""
    known = moments != NAT
    index = pd.DatetimeIndex(np.where(known, moments, 0).view("M8[us]"))
    if zone != "UTC":
        index = index.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    minutes = index.asi8 // _MINUTE
    place, days = pd.factorize(minutes // 1440)
    # Every day and every minute of a day is written once.
    day = np.datetime_as_string(days.astype("M8[D]")).astype("S10")
    letters = np.empty((len(minutes), 16), np.uint8)
    letters[:, :10] = day.view(np.uint8).reshape(-1, 10)[place]
    letters[:, 10:] = _TIMES[minutes % 1440]
    ends = np.arange(len(minutes) + 1, dtype=np.int32) * 16
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(letters)]
    texts = pa.Array.from_buffers(pa.string(), len(minutes), buffers)
    return texts if known.all() else pc.if_else(pa.array(known), texts, "n/a")


def _take(texts: Sequence[str], place: Ints) -> Texts:
    """Return texts by their places."""
    return pa.array(texts, pa.string()).take(pa.array(place))


_FORMS: dict[str, Callable[..., str]] = {
    "span": _span_text,
    "number": lambda value, digits: f"{value:,.{digits}f}",
    "count": plural,
    "times": lambda factor: f", {factor:,.1f} times as much" if factor > 0 else "",
}
