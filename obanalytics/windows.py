"""Measure what was usual before each value of many series: trailing medians and deviations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = Any  # float64 arrays: numpy's stubs lose track of them
Ints: TypeAlias = Any

_BLOCK = 1 << 13  # so many windows are sorted side by side: what they need stays in the cache


def trailing(
    values: Floats, bounds: Ints, *, window: int, least: int = 1
) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Measure the values before each value of many series, without the value itself.

    Parameters
    ----------
    values : ndarray of float
        The series, one behind the other, each in order; what is not finite is skipped.
    bounds : ndarray of int
        Where each series begins among the values, and the number of values behind the last.
    window : int
        How far each window reaches back [values]; skipped ones count.
    least : int
        The fewest values that say something [values].

    Returns
    -------
    median, mad : ndarray of float
        Median of the window, and median of the distances from it; NaN under `least` values.
    count : ndarray of int
        How many values each window holds.

    Raises
    ------
    ValueError
        When `window` or `least` is less than 1.

    Notes
    -----
    Windows that lie side by side share most of their values. All windows of 2 are sorted at once by
    one comparison of the values with their neighbours, those of 4 by merging each window of 2 with
    the one behind it, and so on; a window of 28 is merged of 16, 8 and 4. Merging is Batcher's
    odd-even network, so that every step is a minimum and a maximum of whole arrays. In a sorted
    window of c the k-th smallest distance from m is the least max(m - s[i], s[i+k-1] - m) over i.
    Windows that reach before their series or hold something to skip are sorted one by one.

    References
    ----------
    Batcher, K. E. (1968). Sorting networks and their applications. AFIPS Spring Joint Computer
    Conference 32, 307-314.
    """
    if window < 1 or least < 1:
        raise ValueError(f"window and least must be at least 1, not {window!r} and {least!r}")
    known = np.asarray(values, np.float64)
    bounds = np.asarray(bounds, np.int64)
    if not np.isfinite(known).all():
        known = np.where(np.isfinite(known), known, np.nan)
    median, mad = np.full(len(known), np.nan), np.full(len(known), np.nan)
    count = np.full(len(known), window, np.int32)
    if window >= least:
        for first in range(window, len(known), _BLOCK):
            after = min(first + _BLOCK, len(known))
            order = _sorted_windows(known[first - window : after - 1], window)
            median[first:after], mad[first:after] = _middle(order)
    # Of these the window is shorter, or has less in it.
    begin = np.repeat(bounds[:-1], np.diff(bounds))
    rest = np.arange(len(known)) - begin < window
    rest |= np.isnan(median)
    odd = np.flatnonzero(rest)
    low = np.maximum(odd - window, begin[odd])
    median[odd], mad[odd], count[odd] = median_mad(known, low, odd, least=least)
    return median, mad, count


def median_mad(
    values: Floats, low: Ints, high: Ints, *, least: int = 1
) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Measure some stretches of values.

    Parameters
    ----------
    values : ndarray of float
        The values; what is not finite is skipped.
    low, high : ndarray of int
        Where each stretch begins, and where the next value behind it is.
    least : int
        The fewest values that say something [values].

    Returns
    -------
    median, mad : ndarray of float
        Median, and median of the distances from it; NaN under `least` values.
    count : ndarray of int
        How many values each stretch holds.
    """
    median, mad = np.full(len(low), np.nan), np.full(len(low), np.nan)
    count = np.zeros(len(low), np.int32)
    for first in range(0, len(low), _BLOCK):
        some = slice(first, first + _BLOCK)
        begin, size = low[some], high[some] - low[some]
        places = np.arange(size.max(initial=0))
        inside = places < size[:, None]
        held = values[np.where(inside, begin[:, None] + places, 0)] if len(values) else inside * 1.0
        held = np.where(inside & np.isfinite(held), held, np.nan)
        count[some] = np.isfinite(held).sum(axis=1)
        enough = np.flatnonzero(count[some] >= max(least, 1))
        held, n = held[enough], count[some][enough]
        middle = _middle_of_rows(held, n)
        median[first + enough] = middle
        mad[first + enough] = _middle_of_rows(np.abs(held - middle[:, None]), n)
    return median, mad, count


def smallest(values: Floats, bounds: Ints, *, window: int, keep: int) -> Floats:
    """Return the smallest values before each value of many series.

    Parameters
    ----------
    values : ndarray of float
        The series, one behind the other, each in order; what is NaN is skipped.
    bounds : ndarray of int
        Where each series begins among the values, and the number of values behind the last.
    window : int
        How far each window reaches back [values]; skipped ones count.
    keep : int
        How many of them [values].

    Returns
    -------
    ndarray of float
        A row for the smallest of each window, one for the second smallest, and so on, as far as a
        window may hold; infinite where a window holds fewer.

    Raises
    ------
    ValueError
        When `window` or `keep` is less than 1.
    """
    if window < 1 or keep < 1:
        raise ValueError(f"window and keep must be at least 1, not {window!r} and {keep!r}")
    bounds = np.asarray(bounds, np.int64)
    counts = np.diff(bounds)
    # Before each series stands as much of nothing as a window holds: no window sees another series.
    place = np.arange(len(values)) + window * np.repeat(np.cumsum(counts > 0), counts)
    padded = np.full(int(place[-1]) + 1 if len(place) else 0, np.inf)
    padded[place] = values
    padded[np.isnan(padded)] = np.inf
    found = np.empty((min(keep, window), len(padded)))
    for first in range(window, len(padded), _BLOCK):
        after = min(first + _BLOCK, len(padded))
        order = _sorted_windows(padded[first - window : after - 1], window, keep)
        for row, least in zip(found, order, strict=True):
            row[first:after] = least
    return found[:, place]


def _middle_of_rows(rows: Floats, count: Ints) -> Floats:
    """Return each row's median; NaN come last when they are sorted."""
    order = np.sort(rows, axis=1)
    each = np.arange(len(order))
    # As half of each: their sum may be beyond all numbers.
    return order[each, (count - 1) // 2] * 0.5 + order[each, count // 2] * 0.5


def _sorted_windows(values: Floats, window: int, keep: int | None = None) -> list[Floats]:
    """Return all windows, sorted: the smallest of each, the second smallest of each, and so on."""
    size, these = 1, [values]
    done: list[Floats] = []
    places = len(values) - window + 1
    left = window
    while left:
        if window & size:
            left -= size
            part = [each[left : left + places] for each in these]
            done = _merged(part, done, keep)
        if left:
            both = [each[:-size] for each in these], [each[size:] for each in these]
            these = _merged(*both, keep)
            size *= 2
    return done


def _merged(one: list[Floats], other: list[Floats], keep: int | None = None) -> list[Floats]:
    """Merge sorted values with sorted values, in many places at once; of them the smallest."""
    keep = len(one) + len(other) if keep is None else keep
    one, other = one[:keep], other[:keep]
    if not one or not other:
        return one or other
    if len(one) == len(other) == 1:
        less = np.minimum(one[0], other[0])
        return [less] if keep == 1 else [less, np.maximum(one[0], other[0])]
    even = _merged(one[::2], other[::2], keep // 2 + 1)
    odd = _merged(one[1::2], other[1::2], keep // 2)
    # In turn: the first of the even ones is the smallest of all, the others come in pairs.
    made = [even[0]]
    for low, high in zip(even[1:], odd, strict=False):
        made.append(np.minimum(low, high))
        if len(made) < keep:
            made.append(np.maximum(low, high))
    return made + even[1 + len(odd) :] + odd[len(even) - 1 :]


def _middle(order: list[Floats]) -> tuple[Floats, Floats]:
    """Return the median of sorted windows, and the median distance from it."""
    count = len(order)
    median = order[(count - 1) // 2] * 0.5 + order[count // 2] * 0.5
    below = [median - each for each in order[: count // 2 + 1]]
    above = {place: order[place] - median for place in range((count - 1) // 2, count)}
    ranks = sorted({(count + 1) // 2, count // 2 + 1})
    nearest = [_nearest(below, above, rank, count) for rank in ranks]
    return median, nearest[0] * 0.5 + nearest[-1] * 0.5


def _nearest(below: list[Floats], above: dict[int, Floats], rank: int, count: int) -> Floats:
    """Return the distance within which so many values lie."""
    found = np.maximum(below[0], above[rank - 1])
    reach = np.empty_like(found)
    for first in range(1, count - rank + 1):
        np.maximum(below[first], above[first + rank - 1], out=reach)
        np.minimum(found, reach, out=found)
    return found
