"""Find backup sets that are unlike those before them: too small, too large, too slow."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.phrases import counted, either, numbered, say, spelled, words_of
from obanalytics.recovery import NAT, PART_ROWS
from obanalytics.schema import BackupSets, conform
from obanalytics.series import DONE, RUNNING, runs_of
from obanalytics.windows import median_mad, smallest
from obanalytics.wording import mode_name, plain, tenant_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obanalytics.phrases import Phrase
    from obanalytics.schema import Instant
    from obanalytics.series import Runs

    Floats: TypeAlias = Any
    Ints: TypeAlias = Any
    Bools: TypeAlias = Any

KINDS = ("size_small", "size_large", "slow", "running_long", "overlaps_merge")
WINDOW, MIN_N, THRESHOLD = 28, 8, 4.5
FLOOR = 0.2
"""What differs less than by this share is no anomaly, however regular the sets are."""
FLOOR_GIB = 0.1
"""Nor is a size that differs by less than this [GiB]."""
FLOOR_TIME = 300.0
"""Nor a duration that is longer by less than this [s]."""
LEAST_MAD = 0.02
"""Sets that are all alike count as spread by this share: nothing is infinitely unusual."""
MERGE_TIME = 3600.0
"""How long a major compaction is taken to last: its length is not told [s]."""
_SMALL, _LARGE, _SLOW, _LONG, _MERGE = range(len(KINDS))
_ROUNDED = (0.01, 1.0)  # the service tells sizes to this [GiB] and times to this [s]
_LOG_FLOOR = float(np.log1p(FLOOR))
_TO_SIGMA = 0.6745  # the MAD of a normal distribution, in standard deviations
_LEAST_Z = 2.0
_WORTH = 0.37  # the MAD is as good as the standard deviation of so large a share of the values
_PLAIN = re.compile(r"[\w-]+", re.ASCII)
_SECOND, _DAY = 1_000_000, 86_400_000_000  # [µs]
_UNITS = {
    "rank": "1",
    "observed": "as in unit",
    "usual": "as in unit",
    "factor": "1",
    "z": "1",
    "q_value": "1",
    "n": "sets",
}


class Rule(NamedTuple):
    """What a set is compared with, and what is unusual."""

    window: int
    min_n: int
    threshold: float

    @property
    def least_z(self) -> float:
        """What is kept for the q-values of others; p is 1 below."""
        return min(self.threshold, _LEAST_Z)

    def recurs(self, n: Ints) -> Ints:
        """Return how many sets make a level usual: more than a tenth of the window."""
        return np.minimum(n, self.window) // 10 + 1


@dataclass(slots=True)
class Found:
    """Runs that differ from those before them, by more than the floors.

    Parameters
    ----------
    entry : ndarray of int
        Which of the runs.
    kind : ndarray of int
        Position in `KINDS`.
    observed, usual : ndarray of float
        In GiB or seconds.
    apart : ndarray of float
        How many times the one is the other, as a logarithm.
    z : ndarray of float
        Modified z.
    n : ndarray of int
        How many sets it was compared with.
    """

    entry: Ints
    kind: Ints
    observed: Floats
    usual: Floats
    apart: Floats
    z: Floats
    n: Ints

    def take(self, keep: Ints) -> Found:
        """Return some of them."""
        return Found(*(getattr(self, each.name)[keep] for each in fields(self)))


@dataclass(slots=True)
class Line:
    """The sizes or the durations of some series, as far as they are known: sets that are done.

    Parameters
    ----------
    entries : ndarray of int
        Which of the runs have one.
    bounds : ndarray of int
        Where each series begins among them.
    logs : ndarray of float
        Logarithms of GiB or seconds.
    rounded : float
        What they are rounded to [GiB or s].
    """

    entries: Ints
    bounds: Ints
    logs: Floats
    rounded: float

    @property
    def begin(self) -> Ints:
        """Where the series of each begins."""
        return np.repeat(self.bounds[:-1], np.diff(self.bounds))

    def compare(self, observed: Floats, low: Ints, high: Ints) -> tuple[Floats, Floats, Ints]:
        """Return how far logs are above a stretch's median, its MAD with its floor, and its n."""
        median, mad, n = median_mad(self.logs, low, high)
        # What is rounded may differ by half of it on either side.
        least = np.maximum(LEAST_MAD, self.rounded / np.exp(median))
        return observed - median, np.maximum(mad, least), n


def anomalies(
    sets: BackupSets | pd.DataFrame,
    *,
    window: int = WINDOW,
    min_n: int = MIN_N,
    threshold: float = THRESHOLD,
    as_of: Instant | None = None,
    fdr: float | None = None,
) -> pd.DataFrame:
    """Find backup sets whose size or duration is unlike those before them.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    window : int
        How many sets before it each set is compared with, at most [sets].
    min_n : int
        The fewest sets that a set is compared with, at least 4: the first ones of a series are not
        judged [sets].
    threshold : float
        The least modified z.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].
    fdr : float or None
        The share of false ones to accept among those that are returned; None returns all.

    Returns
    -------
    DataFrame
        One row per anomaly, the largest factor first: rank (1 is the worst), instance_id,
        tenant_id, tenant_name (at the time), backup_set_id, storage_class, full (NA: unknown mode),
        start_time, kind, observed and usual (the median of the sets before it), both in unit (GiB,
        or s for durations), factor (observed / usual), z, q_value, n (sets it was compared with),
        sentence. `attrs`: units, window, min_n, threshold, judged (how many sizes, durations and
        unfinished runs had enough sets before them).

    Raises
    ------
    ValueError
        When an argument is out of its range.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    A set is compared with the `window` done sets before it of the same tenant, mode and storage
    class. Copies of one set in two classes are judged once, in the class of the copy that is done
    (of several: that started, then ended, first, is smaller, comes first by the class's name). Sets
    of before the window are compared with and not judged, but for unfinished ones. z = 0.6745 (x -
    median) / MAD on logarithms; the MAD is at least 0.02 (2 %) and the service's rounding (0.01
    GiB, 1 s), and nothing counts as half of that. An anomaly has |z| >= `threshold`, and both hold:

    - it is at least 1.2 times, and 0.1 GiB or 5 minutes, from the median;
    - it is at least 1.2 times beyond all but a tenth of the window (of 28: all but 2). A level that
      comes up more often is usual: weekends, and what follows a step. Of a step, or of anomalies in
      a row, only the first 1 to 3 are found: the rest is for change points.

    Kinds: `size_small`, `size_large`. `slow`: the run took longer, and longer than a larger size
    explains: z is of the duration / max(1, size / usual size). A run that took long as it wrote
    more is `size_large`; one that is slow per GiB and still short hurts nobody. `running_long`: not
    finished, and its age is already an anomaly among durations. `overlaps_merge`: a slow run that
    was at work in the hour after the start of the daily major compaction (its length is not known;
    only with an inventory), while most runs that it is compared with were not. It takes the place
    of `slow`, so that a set is told once; where the schedule lies in the compaction it does not
    come up. Fast runs are not suspicious; failed and cancelled ones are not judged.

    The q-value is Benjamini and Hochberg's over all that was judged; p is that of Student's t with
    0.37 (n - 1) degrees of freedom (what a MAD of n values is worth), of two sides for sizes, and 1
    where |z| < 2 (or `threshold`, if that is less) or one of the other conditions does not hold.

    References
    ----------
    Iglewicz, B. and Hoaglin, D. C. (1993). How to detect and handle outliers. ASQC Quality Press.
    Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the
    Royal Statistical Society B 57, 289-300.
    """
    rule = checked(window, min_n, threshold, fdr)
    return suspects(sets, rule, as_of, fdr).drop(columns=["apart", "called"])


def suspects(
    sets: BackupSets | pd.DataFrame, rule: Rule, as_of: Instant | None, fdr: float | None
) -> pd.DataFrame:
    """Find anomalies, and tell what they are ranked by.

    Parameters
    ----------
    sets, as_of, fdr
        As in `anomalies`.
    rule : Rule
        What a set is compared with.

    Returns
    -------
    DataFrame
        As `anomalies` returns it, `apart`, |log factor|, and `called`, the newest name.
    """
    runs = _by_class(sets, as_of)
    clocks = _clocks(sets, runs)
    parts, judged = [], 0
    for series in _parts(runs.bounds):
        sizes = _sizes(runs, series)
        lengths = _lengths(runs, series)
        for found, count in (
            _odd_sizes(runs, sizes, rule),
            _slow(runs, sizes, lengths, rule, clocks),
            _running(runs, series, lengths, rule),
        ):
            parts.append(found)
            judged += count
    found = _joined(parts)
    q_value = q_values(found, judged)
    keep = np.abs(found.z) >= rule.threshold
    keep &= q_value <= (1.0 if fdr is None else fdr)
    made = _table(runs, found.take(keep), q_value[keep], clocks)
    made.attrs = {"units": dict(_UNITS), **rule._asdict(), "fdr": fdr, "judged": judged}
    return made


def checked(window: int, min_n: int, threshold: float, fdr: float | None) -> Rule:
    """Return what was asked for, as `anomalies` takes it; refuse what is out of range."""
    if min_n < 4:  # noqa: PLR2004 - the MAD of three says nothing
        raise ValueError(f"min_n must be at least 4, not {min_n!r}")
    if window < min_n:
        raise ValueError(f"window must be at least min_n, {min_n}, not {window!r}")
    if not threshold > 0:
        raise ValueError(f"threshold must be more than 0, not {threshold!r}")
    if fdr is not None and not 0 < fdr <= 1:
        raise ValueError(f"fdr must be between 0 and 1, not {fdr!r}")
    return Rule(window, min_n, threshold)


# --- series --------------------------------------------------------------------------------------


def _by_class(sets: BackupSets | pd.DataFrame, as_of: Instant | None) -> Runs:
    """Sort sets into series of one tenant, mode and storage class each."""
    runs = runs_of(sets, as_of)
    codes = runs.frame["storage_class"].array.codes
    if len(runs.rows) < len(codes) and codes.min() != codes.max():
        # Of copies that are alike the first one is taken: let that be the same in any order.
        if isinstance(sets, BackupSets):
            sets = replace(sets, tenants=_in_order_of_class(sets.tenants))
        else:
            sets = _in_order_of_class(conform(sets, "tenants"))
        runs = runs_of(sets, as_of)
    storage = runs.frame["storage_class"].array
    codes = storage.codes[runs.rows]
    if not len(codes) or codes.min() == codes.max():
        return runs
    place = runs.series * np.int64(len(storage.categories) + 1) + codes + 1
    order = np.argsort(place, kind="stable")
    opens = np.flatnonzero(np.diff(place[order], prepend=-1))
    names = ("rows", "start", "end", "state", "size", "inside")
    parts = {name: getattr(runs, name)[order] for name in names}
    heads = runs.heads.take(runs.series[order][opens]).reset_index(drop=True)
    return replace(runs, heads=heads, bounds=np.append(opens, len(order)), **parts)


def _in_order_of_class(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by the name of their storage class."""
    storage = frame["storage_class"].array
    rank = np.argsort(np.argsort(storage.categories.astype("str")))
    return frame.take(np.argsort(np.append(rank, len(rank))[storage.codes], kind="stable"))


def _parts(bounds: Ints) -> Iterator[slice]:
    """Yield some series at a time."""
    cuts = np.flatnonzero(np.diff(bounds[:-1] // PART_ROWS, prepend=-1))
    for first, after in pairwise([*cuts.tolist(), len(bounds) - 1]):
        yield slice(first, after)


def _line(runs: Runs, series: slice, known: Bools, logs: Callable[[Ints], Floats]) -> Line:
    """Return the numbers of the runs of some series that have one."""
    bounds = runs.bounds[series.start : series.stop + 1]
    entries = np.flatnonzero(known) + bounds[0]
    return Line(entries, np.searchsorted(entries, bounds), logs(entries), 0.0)


def _sizes(runs: Runs, series: slice) -> Line:
    """Return the sizes of some series."""
    part = slice(runs.bounds[series.start], runs.bounds[series.stop])
    known = (runs.state[part] == DONE) & (runs.start[part] != NAT) & (runs.size[part] >= 0)
    known &= np.isfinite(runs.size[part])
    line = _line(runs, series, known, lambda at: _log(runs.size[at], _ROUNDED[0]))
    return replace(line, rounded=_ROUNDED[0])


def _lengths(runs: Runs, series: slice) -> Line:
    """Return the durations of some series."""
    part = slice(runs.bounds[series.start], runs.bounds[series.stop])
    start, end = runs.start[part], runs.end[part]
    known: Any = (runs.state[part] == DONE) & (start != NAT) & (end >= start)
    line = _line(runs, series, known, lambda at: _log(_took(runs, at), _ROUNDED[1]))
    return replace(line, rounded=_ROUNDED[1])


def _took(runs: Runs, entries: Ints) -> Floats:
    """Return how long runs took that are over [s]."""
    return (runs.end[entries] - runs.start[entries]) / _SECOND


def _log(values: Floats, rounded: float) -> Floats:
    """Return logarithms; of nothing, that of half of what is rounded to."""
    return np.log(np.maximum(values, rounded / 2))


def _usual(logs: Floats, apart: Floats) -> Floats:
    """Return medians that logs are apart from; 10 and not 10.000000000000002 [GiB or s]."""
    return np.round(np.exp(logs - apart), 9)


# --- judging -------------------------------------------------------------------------------------


def _odd_sizes(runs: Runs, line: Line, rule: Rule) -> tuple[Found, int]:
    """Find sizes unlike those before them, and count those that were judged."""
    place = np.arange(len(line.logs)) - line.begin
    judged = (place >= rule.min_n) & runs.inside[line.entries]
    parts = []
    for kind, sign in ((_SMALL, -1), (_LARGE, 1)):
        at = _beyond(line, sign, rule, place, judged)
        low = at - np.minimum(place[at], rule.window)
        apart, mad, n = line.compare(line.logs[at], low, at)
        observed = runs.size[line.entries[at]]
        usual = _usual(line.logs[at], apart)
        found = Found(
            entry=line.entries[at],
            kind=np.full(len(at), kind),
            observed=observed,
            usual=usual,
            apart=apart,
            z=_TO_SIGMA * apart / mad,
            n=n,
        )
        keep = (np.abs(observed - usual) >= FLOOR_GIB) & (np.abs(found.z) >= rule.least_z)
        parts.append(found.take(keep))
    return _joined(parts), int(judged.sum())


def _beyond(line: Line, sign: int, rule: Rule, place: Ints, judged: Bools) -> Ints:
    """Return which values are beyond all but a tenth of those before them, by the floor."""
    keep = int(rule.recurs(rule.window))
    away = -sign * line.logs
    edges = smallest(away, line.bounds, window=rule.window, keep=keep)
    edge = edges[0]
    for rank in range(2, keep + 1):
        edge = np.where(rule.recurs(place) >= rank, edges[rank - 1], edge)
    return np.flatnonzero(judged & (away <= edge - _LOG_FLOOR))


def _slow(
    runs: Runs, sizes: Line, line: Line, rule: Rule, clocks: Ints | None
) -> tuple[Found, int]:
    """Find runs that took longer than those before them, by more than their size explains."""
    place = np.arange(len(line.logs)) - line.begin
    judged = (place >= rule.min_n) & runs.inside[line.entries]
    at = _beyond(line, 1, rule, place, judged)
    low = at - np.minimum(place[at], rule.window)
    apart, mad, n = line.compare(line.logs[at], low, at)
    beyond = apart - _larger(sizes, line.entries[at], rule)
    observed, usual = _took(runs, line.entries[at]), _usual(line.logs[at], apart)
    kind = np.full(len(at), _SLOW)
    if clocks is not None:
        kind[_met_alone(runs, line, clocks, low, at)] = _MERGE
    found = Found(line.entries[at], kind, observed, usual, apart, _TO_SIGMA * beyond / mad, n)
    keep = (observed - usual >= FLOOR_TIME) & (beyond >= _LOG_FLOOR) & (found.z >= rule.least_z)
    return found.take(keep), int(judged.sum())


def _larger(sizes: Line, entries: Ints, rule: Rule) -> Floats:
    """Return how much larger runs are than those before them, as logarithms; 0 if not known."""
    more = np.zeros(len(entries))
    at: Ints = np.searchsorted(sizes.entries, entries)
    some = np.flatnonzero(np.append(sizes.entries, -1)[at] == entries)
    at = at[some]
    low = np.maximum(at - rule.window, sizes.begin[at])
    apart, _, n = sizes.compare(sizes.logs[at], low, at)
    more[some] = np.where(n >= rule.min_n, np.maximum(apart, 0), 0)
    return more


def _running(runs: Runs, series: slice, line: Line, rule: Rule) -> tuple[Found, int]:
    """Find unfinished runs that are older than those before them took."""
    part = slice(runs.bounds[series.start], runs.bounds[series.stop])
    now = NAT if runs.as_of is None else int(runs.as_of.as_unit("us").asm8.astype(np.int64))
    unfinished = (runs.state[part] == RUNNING) & (runs.start[part] != NAT)
    entries = np.flatnonzero(unfinished & (runs.start[part] < now)) + part.start
    at = np.searchsorted(line.entries, entries)
    mine = np.searchsorted(runs.bounds, entries, "right") - 1 - series.start
    low = np.maximum(at - rule.window, line.bounds[mine])
    some = np.flatnonzero(at - low >= rule.min_n)
    entries, at, low = entries[some], at[some], low[some]
    observed = (now - runs.start[entries]) / _SECOND
    logs = _log(observed, _ROUNDED[1])
    apart, mad, n = line.compare(logs, low, at)
    usual = _usual(logs, apart)
    kind = np.full(len(entries), _LONG)
    found = Found(entries, kind, observed, usual, apart, _TO_SIGMA * apart / mad, n)
    keep = (observed - usual >= FLOOR_TIME) & (apart >= _LOG_FLOOR) & (found.z >= rule.least_z)
    some = np.flatnonzero(keep)
    reached = logs[some] - _LOG_FLOOR
    as_long = [
        np.count_nonzero(line.logs[first:after] > least)
        for least, first, after in zip(reached, low[some], at[some], strict=True)
    ]
    return found.take(some[np.array(as_long, int) < rule.recurs(n[some])]), len(entries)


def _joined(parts: list[Found]) -> Found:
    """Put findings together."""
    if not parts:
        none = np.zeros(0)
        return Found(none.astype(np.int64), none.astype(np.int64), *(none,) * 4, none)
    columns = (np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Found))
    return Found(*columns)


def q_values(found: Found, judged: int) -> Floats:
    """Return the share of false ones among all that are no less unusual than each of `judged`."""
    from scipy.special import stdtr  # noqa: PLC0415 - importing scipy costs; most commands need none

    sides = np.where(found.kind <= _LARGE, 2, 1)
    p_value = sides * stdtr(_WORTH * (found.n - 1), -np.abs(found.z))
    order = np.argsort(p_value, kind="stable")
    ratio = p_value[order] * judged / np.arange(1, len(order) + 1)
    q_value = np.empty(len(order))
    q_value[order] = np.minimum.accumulate(ratio[::-1])[::-1]
    return np.minimum(q_value, 1.0)


# --- the daily major compaction ------------------------------------------------------------------


def _clocks(sets: BackupSets | pd.DataFrame, runs: Runs) -> Ints | None:
    """Return when each series' cluster compacts, since midnight [µs]; None where none is known."""
    if not isinstance(sets, BackupSets) or sets.inventory is None:
        return None
    known = sets.inventory.dropna(subset=["data_merge_time"])
    key = ["instance_id", "tenant_id"]
    told = {
        (row[0], row[1]): _clock(row[2])
        for row in known[[*key, "data_merge_time"]].itertuples(index=False, name=None)
    }
    whose = zip(runs.heads["instance_id"], runs.heads["tenant_id"], strict=True)
    clocks = np.array([told.get(each, NAT) for each in whose], np.int64)
    return clocks if (clocks != NAT).any() else None


def _clock(text: str) -> int:
    """Read a time of day such as 18:00Z; `NAT` where it is none [µs]."""
    form = r"\s*(\d\d?):(\d\d)(?::\d\d)?\s*(?:Z|UTC|([+-])(\d\d):?(\d\d))?\s*"
    found = re.fullmatch(form, text, re.IGNORECASE)
    if found is None:
        return NAT
    hour, minute, sign, east, more = found.groups()
    minutes = 60 * int(hour) + int(minute)
    if sign:
        minutes -= (60 * int(east) + int(more)) * (-1 if sign == "-" else 1)
    return minutes * 60 * _SECOND % _DAY


def _met_alone(runs: Runs, line: Line, clocks: Ints, low: Ints, at: Ints) -> Bools:
    """Tell which runs met the compaction while most of those before them did not."""
    if not len(at):
        return np.zeros(0, bool)
    series = np.searchsorted(runs.bounds, line.entries, "right") - 1
    clock, start = clocks[series], runs.start[line.entries]
    length = runs.end[line.entries] - start
    known = clock != NAT
    to_it = np.where(known, clock - start, 0) % _DAY
    met = known & ((to_it < length) | (_DAY - to_it < MERGE_TIME * _SECOND))
    before = np.concatenate([[0], np.cumsum(met)])
    # What takes a day meets it anyway.
    return met[at] & (length[at] < _DAY) & (2 * (before[at] - before[low]) < at - low)


# --- telling -------------------------------------------------------------------------------------


def _table(runs: Runs, found: Found, q_value: Floats, clocks: Ints | None) -> pd.DataFrame:
    """Return the result, the worst first."""
    ids = runs.frame["backup_set_id"].array
    names = ids.take(runs.rows[found.entry]).astype(object)
    ties = np.unique(names, return_inverse=True)[1] if len(names) else found.entry
    series: Ints = np.searchsorted(runs.bounds, found.entry, "right") - 1
    order = np.lexsort((ties, series, -np.abs(found.z), -np.abs(found.apart)))
    found, q_value, series = found.take(order), q_value[order], series[order]
    rows = runs.frame.take(runs.rows[found.entry]).reset_index(drop=True)
    columns: dict[str, Any] = {"rank": np.arange(1, len(rows) + 1)}
    for name in ("instance_id", "tenant_id", "tenant_name", "backup_set_id", "storage_class"):
        columns[name] = rows[name]
    columns |= {"full": rows["full"], "start_time": rows["start_time"]}
    columns["kind"] = pd.Categorical.from_codes(found.kind, pd.Index(KINDS, dtype="str"))
    columns |= {"observed": found.observed, "usual": found.usual}
    timed = (found.kind > _LARGE).astype(np.int8)
    columns["unit"] = pd.Categorical.from_codes(timed, pd.Index(["GiB", "s"], dtype="str"))
    columns |= {"factor": found.observed / found.usual, "z": found.z, "q_value": q_value}
    columns |= {"n": found.n.astype(np.int64), "apart": np.abs(found.apart)}
    columns["called"] = runs.heads["tenant_name"].array.take(series)
    made = pd.DataFrame(columns)
    for name in made.columns[made.dtypes == "category"]:
        made[name] = made[name].cat.remove_unused_categories()
    texts = _sentences(runs, found, series, clocks).write() if len(made) else []
    return made.assign(sentence=pd.array(texts, dtype="string"))


def _sentences(runs: Runs, found: Found, series: Ints, clocks: Ints | None) -> Phrase:
    """Say of each set what is unusual."""
    there, place = np.unique(series, return_inverse=True)
    heads = runs.heads.take(there)
    modes = [mode_name(each) for each in heads["full"]]
    names = [f"{a}, {b} set " for a, b in zip(tenant_labels(heads), modes, strict=True)]
    ids = runs.frame["backup_set_id"].array.take(runs.rows[found.entry]).astype(object)
    # Most are plain as they are.
    ids = [each if _PLAIN.fullmatch(each) else plain(each) for each in ids]
    times = np.exp(np.abs(found.apart))
    compared = say(
        numbered(times, 1),
        words_of(found.kind, [" x smaller", " x larger", *[" x longer"] * 3]),
        " than the median of the ",
        counted(found.n, "set"),
        " before it)",
    )
    small = np.minimum(found.observed, found.usual) < 10  # noqa: PLR2004 - GiB: two digits tell
    sized = say(_gib(found.observed, small), ", usually ", _gib(found.usual, small), " (", compared)
    timed = say(
        words_of((found.kind == _LONG).astype(np.int64), ["took ", "has been running for "]),
        spelled(np.round(found.observed * _SECOND).astype(np.int64)),
        ", usually ",
        spelled(np.round(found.usual * _SECOND).astype(np.int64)),
        " (",
        compared,
    )
    start = words_of(place, names), words_of(np.arange(len(ids)), ids), ": "
    what = either(found.kind <= _LARGE, sized, timed)
    if clocks is None:
        return say(*start, what)
    hours = np.where(found.kind == _MERGE, clocks[series], 0) // (60 * _SECOND)
    clock = [f"{minute // 60:02}:{minute % 60:02} UTC" for minute in range(1440)]
    met = say("; unlike most of them it met the daily major compaction at ", words_of(hours, clock))
    return say(*start, what, either(found.kind == _MERGE, met, ""))


def _gib(values: Floats, small: Bools) -> Phrase:
    """Write sizes, small ones to the hundredth."""
    return say(either(small, numbered(values, 2), numbered(values, 1)), " GiB")
