"""Fit robust lines through many series at once, and test whether there is a trend at all.

Slopes between pairs of points are worked in blocks of series of like length, as tables that stay in
a processor's cache. Pairs may be held within strata (the weekdays of a daily series, the stretches
between two steps): what differs between strata is then no slope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

METHODS = ("plain", "autocorrelated", "seasonal")
_PAIRS = 1 << 18  # slopes that are worked at a time: they stay in a cache
_ALIKE = 0.94  # the shortest series of a block, as a share of its longest
_SORTED = 700  # rows of fewer slopes are sorted, all at once
_SAMPLED = 4000  # of rows of more
_STRIDE = 16  # every so many are looked at first, to see where the wanted ones are
_SURELY = 1.6  # a correlation so many standard errors above zero is hardly one by chance
_LAGS = 60  # correlations farther apart than this do not count
_SERIAL = ("none", "ar1", "hamed_rao")


class Fits(NamedTuple):
    """A robust line per series; NaN where there is none."""

    slope: Floats
    """Units of the values per unit of time."""
    low: Floats
    """Lower bound of the slope's interval."""
    high: Floats
    """Upper bound of the slope's interval."""
    intercept: Floats
    """Value at time zero."""


class Trends(NamedTuple):
    """Robust slopes of many series, and what a test for a trend needs."""

    slope: Floats
    """Units of the values per unit of time; NaN where there is none."""
    low: Floats
    """Lower bound of the slope's interval."""
    high: Floats
    """Upper bound of the slope's interval."""
    s: Floats
    """Kendall's S: how many pairs rise, less those that fall."""
    variance: Floats
    """That of S, times `factor`."""
    factor: Floats
    """By what correlation between neighbours inflated it."""
    intercept: Floats
    """Value at time zero."""

    def test(self) -> tuple[Floats, Floats]:
        """Return z and the two-sided p of the Mann-Kendall test.

        Returns
        -------
        z : array of float
            (S - sign S) / sigma; NaN where sigma is zero.
        p : array of float
            Two-sided.
        """
        from scipy.special import ndtr  # noqa: PLC0415 - importing scipy costs

        sigma = np.sqrt(self.variance)
        known = sigma > 0
        z = np.where(known, (self.s - np.sign(self.s)) / np.where(known, sigma, 1.0), np.nan)
        return z, np.asarray(2.0 * ndtr(-np.abs(z)), np.float64)


class Tests(NamedTuple):
    """A Mann-Kendall test per series."""

    s: Floats
    """How many pairs rise, less those that fall."""
    z: Floats
    """NaN where S cannot vary."""
    p: Floats
    """Two-sided."""
    method: Ints
    """Position in `METHODS`."""


def theil_sen_many(
    times: Floats,
    values: Floats,
    bounds: Ints,
    *,
    strata: Ints | None = None,
    level: float = 0.95,
    factor: Floats | None = None,
) -> Fits:
    """Fit a line through each of many series by the median of all pairwise slopes.

    Parameters
    ----------
    times, values : array of float
        The points of the series behind each other, without NaN, each series in order of time.
    bounds : array of int
        Where each series begins, and the number of points behind the last.
    strata : array of int or None
        Only pairs of one stratum count; None takes all pairs.
    level : float
        Confidence level of the intervals.
    factor : array of float or None
        By what the variance of Kendall's S is inflated in each series.

    Returns
    -------
    Fits
        NaN where a series has no pair of different times.

    Notes
    -----
    The interval's bounds are the slopes of rank (N ± z sigma) / 2, N the number of pairs and sigma²
    the variance of S, summed over the strata, corrected for ties, times `factor`. The intercept is
    median(y) - slope median(t).

    References
    ----------
    Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. Journal of
    the American Statistical Association 63, 1379-1389. Hirsch, R. M. & Slack, J. R. (1984). A
    nonparametric trend test for seasonal data with serial dependence. Water Resources Research 20,
    727-732.
    """
    made = _fitted(times, values, bounds, strata, level, factor)
    return Fits(made.slope, made.low, made.high, made.intercept)


def trends_many(
    times: Floats,
    values: Floats,
    bounds: Ints,
    *,
    strata: Ints | None = None,
    level: float = 0.95,
) -> Trends:
    """Fit a line through each of many series, its interval widened where neighbours are alike.

    Parameters
    ----------
    times, values, bounds, strata, level
        As in `theil_sen_many`.

    Returns
    -------
    Trends
        NaN where a series has no pair of different times.

    Notes
    -----
    `factor` is Hamed and Rao's, 1 + 2 / (n (n - 1) (n - 2)) sum of (n - k) (n - k - 1) (n - k - 2)
    r_k, with the correlations r_k = r^k of a first-order autoregression: a correlation of each lag
    by itself is known too badly in short series. r is that of the ranks of what the line and the
    medians of the strata leave, freed of the bias that fitting them brings (simulated), and counts
    only where it is significant; independent neighbours leave the factor at 1.

    References
    ----------
    Hamed, K. H. & Rao, A. R. (1998). A modified Mann-Kendall trend test for autocorrelated data.
    Journal of Hydrology 204, 182-196. Yue, S. & Wang, C. (2004). The Mann-Kendall test modified by
    effective sample size to detect trend in serially correlated hydrological series. Water
    Resources Management 18, 201-218.
    """
    return _fitted(times, values, bounds, strata, level, "ar1")


def mann_kendall_many(
    times: Floats,
    values: Floats,
    bounds: Ints,
    *,
    strata: Ints | None = None,
    serial: str = "ar1",
) -> Tests:
    """Test each of many series for a trend.

    Parameters
    ----------
    times, values, bounds : array
        As in `theil_sen_many`.
    strata : array of int or None
        Only pairs of one stratum count, the seasons of a seasonal test; None takes all pairs.
    serial : {"ar1", "hamed_rao", "none"}
        What is done about correlation between neighbours: as in `trends_many`; the significant
        correlations of all lags, as Hamed and Rao do; nothing.

    Returns
    -------
    Tests
        S, z, p, and the method: seasonal where a series has several strata, else autocorrelated
        where its variance was corrected, else plain.

    Raises
    ------
    ValueError
        When `serial` is something else.

    References
    ----------
    Mann, H. B. (1945). Nonparametric tests against trend. Econometrica 13, 245-259. Hirsch, R. M. &
    Slack, J. R. (1984). A nonparametric trend test for seasonal data with serial dependence. Water
    Resources Research 20, 727-732.
    """
    if serial not in _SERIAL:
        raise ValueError(f"serial must be one of {', '.join(_SERIAL)}, not {serial!r}")
    made = _fitted(times, values, bounds, strata, 0.95, None if serial == "none" else serial)
    several = np.zeros(len(bounds) - 1, bool)
    if strata is not None and len(strata):
        series = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        other = (strata[1:] != strata[:-1]) & (series[1:] == series[:-1])
        several[series[1:][other]] = True
    method = np.where(several, 2, np.where(made.factor != 1.0, 1, 0))
    return Tests(made.s, *made.test(), method)


def medians(values: Floats, bounds: Ints) -> Floats:
    """Return the median of each series.

    Parameters
    ----------
    values : array of float
        Without NaN.
    bounds : array of int
        As in `theil_sen_many`.

    Returns
    -------
    array of float
        NaN where a series is empty.
    """
    counts = np.diff(bounds)
    made = np.full(len(counts), np.nan)
    for each in _blocks(counts, 1):
        own, wide = counts[each], np.arange(int(counts[each[0]]))
        table = values[np.minimum(bounds[each][:, None] + wide, bounds[each + 1][:, None] - 1)]
        table[wide >= own[:, None]] = np.inf
        table.sort(axis=1)
        row = np.arange(len(each))
        made[each] = (table[row, (own - 1) // 2] + table[row, own // 2]) / 2
    return made


def _fitted(
    times: Floats,
    values: Floats,
    bounds: Ints,
    strata: Ints | None,
    level: float,
    factor: Floats | str | None,
) -> Trends:
    """Fit all series, a block at a time."""
    from scipy.special import ndtri  # noqa: PLC0415

    z = -float(ndtri((1.0 - level) / 2.0))
    made = np.full((7, len(bounds) - 1), np.nan)
    made[3:5], made[5] = 0.0, 1.0
    room = _Room()
    for each in _blocks(np.diff(bounds)):
        block = _Block((times, values, strata), bounds, each, room)
        inflated = None if factor is None or isinstance(factor, str) else factor[each]
        made[:5, each] = block.fit(z, inflated)
        made[6, each] = block.intercept(made[0, each])
        if isinstance(factor, str):
            widened = block.inflation(made[0, each], factor)
            other = np.flatnonzero(widened != 1.0)
            if len(other):
                made[1:3, each[other]] = block.ends(other, z, widened[other])
                made[4, each] *= widened
                made[5, each] = widened
        elif inflated is not None:
            made[4, each] *= inflated
            made[5, each] = inflated
    return Trends(*made)


def _blocks(counts: Ints, least: int = 2) -> Iterator[Ints]:
    """Yield the series of so many points or more, a few of about one length at a time."""
    order = np.argsort(-counts, kind="stable")
    order = order[: int(np.count_nonzero(counts >= least))]
    lengths = -counts[order]
    low = 0
    while low < len(order):
        longest = -int(lengths[low])
        most = low + max(_PAIRS // max(longest * (longest - 1) // 2, 1), 1)
        alike = int(np.searchsorted(lengths, -max(int(_ALIKE * longest), least), "right"))
        yield order[low : min(most, alike)]
        low = min(most, alike)


class _Room:
    """Memory that is used again and again: to be given new pages takes longer than to fill them."""

    def __init__(self) -> None:
        self._room = np.empty((2, 0))

    def of(self, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        """Return two tables whose values are arbitrary."""
        cells = shape[0] * shape[1]
        if self._room.shape[1] < cells:
            self._room = np.empty((2, cells))
        one, other = self._room[:, :cells]
        return one.reshape(shape), other.reshape(shape)


class _Block:
    """Some series of about one length, as tables: a row each, in it a line for every stratum.

    Lines that are shorter than the longest are filled up with NaN, which no slope comes out of.
    """

    def __init__(
        self,
        points: tuple[Floats, Floats, Ints | None],
        bounds: Ints,
        series: Ints,
        room: _Room,
    ) -> None:
        times, values, strata = points
        self.counts = bounds[series + 1] - bounds[series]
        wide = int(self.counts.max())
        place = bounds[series][:, None] + np.arange(wide)
        self.place: Any = None
        """Where each point, in order of time, stands in its row; None: there."""
        if strata is not None:
            strata = strata[np.minimum(place, (bounds[series + 1] - 1)[:, None])]
            strata = None if (strata == strata[:, :1]).all() else strata
        if strata is None and int(self.counts.min()) == wide:
            self.sizes = self.counts[:, None]
            self.t, self.y = (each[place][:, None, :] for each in (times, values))
        else:
            place = np.minimum(place, (bounds[series + 1] - 1)[:, None])
            self._arrange(times[place], values[place], strata)
        self.slopes = self._pairs(room)
        self.sorted = self.slopes.shape[1] <= _SORTED

    def _arrange(self, t: Floats, y: Floats, strata: Ints | None) -> None:
        """Put the points of each row into lines, one a stratum."""
        rows, wide = t.shape
        if strata is None:
            group = np.zeros(t.shape, np.int16)
        else:
            group = strata - strata.min(axis=1, keepdims=True)
            if int(group.max()) < np.iinfo(np.int16).max:
                group = group.astype(np.int16)  # these are sorted by counting
        there = np.arange(wide) < self.counts[:, None]
        group[~there] = np.iinfo(group.dtype).max
        order = np.argsort(group, axis=1, kind="stable")
        group = np.take_along_axis(group, order, 1)
        new = np.ones(group.shape, bool)
        new[:, 1:] = group[:, 1:] != group[:, :-1]
        line = np.cumsum(new, axis=1) - 1
        first = np.maximum.accumulate(np.where(new, np.arange(wide), 0), axis=1)
        there = np.take_along_axis(there, order, 1)
        lines, row = int(line[there].max()) + 1, np.arange(rows)[:, None]
        counted = np.bincount((row * (lines + 1) + np.minimum(line, lines))[there])
        counted = np.append(counted, np.zeros(rows * (lines + 1) - len(counted), np.int64))
        self.sizes = counted.reshape(rows, lines + 1)[:, :lines]
        longest = int(self.sizes.max())
        spot = np.where(there, line * longest + np.arange(wide) - first, lines * longest)
        self.t, self.y = (self._filled(each, order, spot, (lines, longest)) for each in (t, y))
        self.place = np.empty(order.shape, np.int64)
        np.put_along_axis(self.place, order, spot, 1)

    def _filled(self, values: Floats, order: Ints, spot: Ints, shape: tuple[int, int]) -> Floats:
        """Return a table of values in lines, NaN where there is none."""
        rows, cells = len(values), shape[0] * shape[1]
        made = np.full((rows, cells + 1), np.nan)  # what is filled up goes to the last
        np.put_along_axis(made, spot, np.take_along_axis(values, order, 1), 1)
        return made[:, :cells].reshape(rows, *shape)

    def _pairs(self, room: _Room) -> Floats:
        """Return the slopes of all pairs of each row, NaN where there is none."""
        rows, lines, wide = self.t.shape
        self.pairs, self.together = np.zeros(rows, np.int64), False
        if wide == 1:
            return np.full((rows, 1), np.nan)
        made, spans = room.of((rows * lines, wide * (wide - 1) // 2))
        t, y = self.t.reshape(-1, wide), self.y.reshape(-1, wide)
        low = 0
        for apart in range(1, wide):
            high = low + wide - apart
            np.subtract(y[:, apart:], y[:, :-apart], out=made[:, low:high])
            np.subtract(t[:, apart:], t[:, :-apart], out=spans[:, low:high])
            low = high
        self.pairs = (self.sizes * (self.sizes - 1) // 2).sum(axis=1)
        self.together = bool((self.t[..., 1:] == self.t[..., :-1]).any())
        if self.together:
            none = spans == 0
            self.pairs = self.pairs - np.count_nonzero(none.reshape(rows, -1), axis=1)
            made[none], spans[none] = np.nan, 1.0
        made /= spans
        return made.reshape(rows, -1)

    def fit(self, z: float, factor: Floats | None) -> Floats:
        """Return slope, low, high, S and the plain variance of S of each row."""
        made = np.empty((5, len(self.counts)))
        ordered = np.sort(self.y, axis=2)
        tied = (ordered[..., 1:] == ordered[..., :-1]).any(axis=(1, 2))
        made[3] = self.pairs - 2.0 * np.count_nonzero(self.slopes < 0, axis=1)
        if tied.any():
            made[3, tied] -= np.count_nonzero(self.slopes[tied] == 0, axis=1)
        self.variance = made[4] = self._variance(ordered, tied)
        if self.sorted:
            self.slopes.sort(axis=1)
        low, high = self._ranks(z, factor, slice(None))
        ranks = np.stack([low, (self.pairs - 1) // 2, self.pairs // 2, high])
        made[1], below, above, made[2] = self._taken(ranks)
        made[0] = (below + above) / 2
        return made

    def intercept(self, slope: Floats) -> Floats:
        """Return the value at time zero of each row."""
        count, row = self.counts, np.arange(len(self.counts))
        flat = (np.sort(each.reshape(len(row), -1), axis=1) for each in (self.t, self.y))
        t, y = ((x[row, (count - 1) // 2] + x[row, count // 2]) / 2 for x in flat)
        return np.asarray(y - slope * t, np.float64)

    def ends(self, rows: Ints, z: float, factor: Floats) -> Floats:
        """Return the bounds of the intervals of some rows, widened."""
        return self._taken(self._ranks(z, factor, rows), rows)

    def _ranks(self, z: float, factor: Floats | None, rows: Any) -> Ints:  # noqa: ANN401
        """Return the ranks of the slopes that bound the intervals."""
        variance, pairs = self.variance[rows], self.pairs[rows]
        reach = z * np.sqrt(variance if factor is None else variance * factor)
        low = np.maximum(np.round((pairs - reach) / 2).astype(np.int64) - 1, 0)
        high = np.minimum(np.round((pairs + reach) / 2).astype(np.int64), pairs - 1)
        return np.stack([low, np.maximum(high, low)])

    def _taken(self, ranks: Ints, rows: Any = None) -> Floats:  # noqa: ANN401
        """Return the slopes of some ranks, which ascend from one row of `ranks` to the next."""
        rows = np.arange(len(self.slopes)) if rows is None else rows
        there = self.pairs[rows] > 0
        ranks = np.where(there, ranks, 0)
        if self.sorted:
            found = self.slopes[rows, ranks]
        else:
            found = np.empty(ranks.shape)
            for number, row in enumerate(rows.tolist()):
                found[:, number] = _select(self.slopes[row], ranks[:, number])
        return np.where(there, found, np.nan)

    def _variance(self, ordered: Floats, tied: NDArray[np.bool_]) -> Floats:
        """Return the variance of S of each row, corrected for ties."""
        whole = _weight(self.sizes).sum(axis=1)
        if tied.any():
            whole[tied] -= _ties(ordered[tied])
        if self.together:
            whole -= _ties(self.t)
        return np.asarray(np.maximum(whole, 0.0) / 18.0, np.float64)

    def inflation(self, slope: Floats, how: str) -> Floats:
        """Return by what correlation between neighbours inflates the variance of S."""
        rest, alone = self._rest(np.nan_to_num(slope)[:, None, None])
        # A few ties, at the medians, do not matter to one correlation.
        off = self._off_middle(rest, 0.0 if how == "hamed_rao" else 0.25)
        n = self.counts.astype(np.float64)
        power = (off * off).sum(axis=1)
        good = (power > 0) & (n > 3)  # noqa: PLR2004 - two lags need as many
        power, n = np.where(power > 0, power, 1.0), np.maximum(n, 4.0)
        if how == "hamed_rao":
            return np.where(good, _measured(off, power, n), 1.0)
        r = (off[:, 1:] * off[:, :-1]).sum(axis=1) / power
        # Fitted lines and medians take away some of the correlation (as in `breaks`).
        r = r + (0.6 + 1.6 * alone) / n
        alike = np.flatnonzero(good & (r > _SURELY / np.sqrt(n)))
        r = np.minimum(r / np.maximum(1.0 - 8.5 / n, 0.4), 0.9)
        made = np.ones(len(n))
        made[alike] = _autoregressive(r[alike], n[alike])
        return made

    def _rest(self, slope: Floats) -> tuple[Floats, Floats]:
        """Return what slope and medians leave, by time, and how much of it neighbours share."""
        rest = self.y - slope * (self.t - self.t[:, :1, :1])
        rows = len(rest)
        ordered = np.append(np.sort(rest, axis=2), np.full((*rest.shape[:2], 1), np.nan), axis=2)
        low, high = (np.maximum(each, 0) for each in ((self.sizes - 1) // 2, self.sizes // 2))
        middle = sum(np.take_along_axis(ordered, each[..., None], 2) for each in (low, high)) / 2
        tiny = 1e-12 * np.fmax.reduce(np.abs(self.y).reshape(rows, -1), axis=1)
        rest = (rest - middle).reshape(rows, -1)
        rest = np.where(np.abs(rest) < tiny[:, None], 0.0, rest)
        if self.place is None:
            return rest, (self.counts - 1.0) / self.counts
        rest = np.append(rest, np.full((rows, 1), np.nan), axis=1)
        line, lines = self.place // self.t.shape[2], self.t.shape[1]
        near = (line[:, 1:] == line[:, :-1]) & (line[:, 1:] < lines)
        spot = (np.arange(rows)[:, None] * lines + line[:, 1:])[near]
        pairs = np.bincount(spot, minlength=rows * lines).reshape(rows, lines)
        alone = (pairs / np.maximum(self.sizes, 1)).cumsum(axis=1)[:, -1]
        return np.take_along_axis(rest, self.place, 1), alone

    def _off_middle(self, rest: Floats, share: float) -> Floats:
        """Return how far each rank is from the middle one of its row; filling is 0.

        Ties get the mean of their ranks where there are more than a share of them.
        """
        wide = rest.shape[1]
        # Of ties the earlier comes first, however much filling stands behind: a series' answer is
        # not to depend on which others are fitted with it.
        order = np.argsort(rest, axis=1, kind="stable")
        ordered = np.take_along_axis(rest, order, 1)
        ranks = np.empty(rest.shape)
        np.put_along_axis(ranks, order, np.arange(wide, dtype=np.float64)[None, :], 1)
        tied = np.count_nonzero(ordered[:, 1:] == ordered[:, :-1], axis=1) > share * self.counts
        if tied.any():
            from scipy.stats import rankdata  # noqa: PLC0415

            ranks[tied] = rankdata(np.nan_to_num(rest[tied], nan=np.inf), axis=1) - 1.0
        there = np.arange(wide) < self.counts[:, None]
        return np.where(there, ranks - (self.counts[:, None] - 1) / 2, 0.0)


def _select(slopes: Floats, ranks: Ints) -> Floats:
    """Return the slopes of some ranks, which ascend and lie close together.

    Of many slopes a sample tells between which two they are; only what is there is sorted out.
    """
    if len(slopes) > _SAMPLED:
        sample = slopes[::_STRIDE].copy()
        off = 1.2 * np.sqrt(len(sample))
        low = int(max(ranks[0] / _STRIDE - off, 0))
        high = int(min(ranks[-1] / _STRIDE + off, len(sample) - 1))
        sample.partition([low, high])
        first, last = sample[low], sample[high]
        # A little more than between them, whatever the rounding.
        half = (last - first) * 0.500001 + 1e-12 * max(abs(first), abs(last))
        part = slopes.compress(np.abs(slopes - (first + last) / 2) <= half)
        below = np.count_nonzero(slopes < first) - np.count_nonzero(part < first)
        wanted = ranks - below
        if wanted[0] >= 0 and wanted[-1] < len(part):
            part.partition(sorted(set(wanted.tolist())))
            return np.asarray(part[wanted], np.float64)
    slopes.partition(sorted(set(ranks.tolist())))
    return slopes[ranks]


def _weight(sizes: Ints) -> Floats:
    """Return k (k - 1) (2k + 5): whole numbers, of which sums are exact."""
    k = sizes.astype(np.float64)
    return np.asarray(k * (k - 1) * (2 * k + 5), np.float64)


def _ties(ordered: Floats) -> Floats:
    """Return what ties take from 18 times the variance of S of each row."""
    rows, wide = len(ordered), ordered.shape[-1]
    new = np.ones(ordered.shape, bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]  # NaN is unlike NaN
    heads = np.flatnonzero(new)
    sizes = np.diff(np.append(heads, new.size))
    row = heads // (new.size // rows)
    del wide
    return np.asarray(np.bincount(row, _weight(sizes), rows), np.float64)


def _autoregressive(r: Floats, n: Floats) -> Floats:
    """Return Hamed and Rao's factor of a first-order autoregression."""
    made, power = np.zeros(len(r)), np.ones(len(r))
    for lag in range(1, _LAGS):
        power = power * r
        if lag >= n.max(initial=0.0) - 2:
            break
        left = np.maximum(n - lag, 2.0)
        made += left * (left - 1) * (left - 2) * power
    return np.asarray(1.0 + 2.0 * made / (n * (n - 1) * (n - 2)), np.float64)


def _measured(off: Floats, power: Floats, n: Floats) -> Floats:
    """Return Hamed and Rao's factor of the significant correlations of all lags."""
    least = 1.959963984540054 / np.sqrt(n)
    made = np.zeros(len(n))
    for lag in range(1, off.shape[1]):
        r = (off[:, lag:] * off[:, :-lag]).sum(axis=1) / power
        left = np.maximum(n - lag, 2.0)
        made += np.where(np.abs(r) > least, left * (left - 1) * (left - 2) * r, 0.0)
    return np.asarray(np.maximum(1.0 + 2.0 * made / (n * (n - 1) * (n - 2)), 1e-3), np.float64)
