"""Sort by two columns at once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Ints: TypeAlias = Any  # int64 arrays: numpy's stubs lose track of them

_NEVER = int(np.iinfo(np.int64).max)


def by_two(high: Ints, low: Ints, *, in_runs: bool = False) -> Ints:
    """Return the order by two columns; by one sort of both packed into 64 bits where they fit.

    Parameters
    ----------
    high : ndarray of int
        What comes first; not negative.
    low : ndarray of int
        What decides among equals; the largest number there is comes last.
    in_runs : bool
        Whether long stretches are in order already: another way of sorting makes use of that.

    Returns
    -------
    ndarray of int
        The rows in order.
    """
    if not len(low):
        return np.arange(0)
    never = low == _NEVER
    if never.any():
        low = np.where(never, low.min() if never.all() else low[~never].max() + 1, low)
    bits = int(low.max() - low.min()).bit_length()
    if bits + int(high.max()).bit_length() > 63:  # noqa: PLR2004 - and the sign
        return np.lexsort((low, high))
    packed = (high << bits) | (low - low.min())
    return np.argsort(packed, kind="stable" if in_runs else "quicksort")
