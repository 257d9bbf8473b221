"""Tell what changed between two looks at the same sets: facts, the newest of each, and who went.

A fact is a row as it was first seen that way. A set that is not there any more has a last fact that
says so. Facts are Arrow tables; labels are dictionary-encoded.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.frames import ARCHIVED, COLUMNS, STATES, TIME
from obanalytics.lakefiles import LABELS, empty
from obanalytics.packing import by_two
from obanalytics.wire import is_full, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obanalytics.schema import Level

Ints: TypeAlias = Any  # int64 arrays: numpy's stubs lose track of them

NAT = int(np.iinfo(np.int64).min)
NEVER = int(np.iinfo(np.int64).max)  # later than every time
LEVELS: dict[str, Level] = {"cluster": "clusters", "tenant": "tenants"}
"""The kinds of facts, with the frame that each is a row of."""
# Made anew from the rest whenever facts are read.
_DERIVED = frozenset({"full", "state", "duration", "in_window"})
CONTENT = {
    kind: tuple(c.name for c in COLUMNS[level] if c.name not in _DERIVED)
    for kind, level in LEVELS.items()
}
"""What is kept of a row."""
_OWN = ("run", "seen", "gone")
FACTS = {kind: (*_OWN, "begun", *content) for kind, content in CONTENT.items()}
"""The columns of a fact; `begun` is the start of the cluster set."""
_THREADS = 2
_UTC = pa.timestamp("us", tz="UTC")
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


class Asked(NamedTuple):
    """What a fetch of one instance asked for, and when it was answered [µs since 1970]."""

    start: int
    """Sets that began from here on; `NAT`: all."""
    end: int
    """And before here; `NAT`: all."""
    seen: int
    untold: frozenset[str] = frozenset()
    """The cluster sets that came without a word on their tenants."""


# --- numbers out of Arrow ------------------------------------------------------------------------


def ints(column: pa.ChunkedArray) -> Ints:
    """Return times or numbers as integers.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Timestamps or integers.

    Returns
    -------
    ndarray of int
        `NAT` where there is none.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = whole.view(pa.int64()) if pa.types.is_timestamp(whole.type) else whole.cast(pa.int64())
    return (whole.fill_null(NAT) if whole.null_count else whole).to_numpy(zero_copy_only=False)


def codes(column: pa.ChunkedArray, *, exact: bool = False) -> tuple[Ints, list[str]]:
    """Return labels as numbers.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Dictionary-encoded text.
    exact : bool
        Whether every label of the dictionary is known to be there.

    Returns
    -------
    codes : ndarray of int
        The place of each among the labels; -1 where there is none. Of the smallest dtype.
    labels : list of str
        The labels, sorted; each is there.
    """
    if not len(column):
        return np.empty(0, np.int8), []
    if not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array([column])
    chunks = column.unify_dictionaries().chunks
    names = chunks[0].dictionary.to_pylist()
    if len(names) == 1 and not column.null_count:
        return np.zeros(len(column), np.int8), names
    numbers = [_indices(chunk) for chunk in chunks]
    there = np.full(len(names) + 1, exact)
    for each in () if exact else numbers:
        there[each] = True
    labels = sorted(name for name, is_there in zip(names, there[:-1], strict=True) if is_there)
    place = {name: rank for rank, name in enumerate(labels)}
    ranks = np.array([*(place.get(name, -1) for name in names), -1])
    ranks = ranks.astype(np.min_scalar_type(-max(len(labels), 1)))
    made = np.empty(len(column), ranks.dtype)
    begin = 0
    for each in numbers:
        np.take(ranks, each, out=made[begin : begin + len(each)], mode="wrap")
        begin += len(each)
    return made, labels


def _indices(chunk: Any) -> Ints:  # noqa: ANN401 - a dictionary array
    """Return the indices of a dictionary array; -1 where there is none."""
    numbers = chunk.indices
    return (numbers.fill_null(-1) if numbers.null_count else numbers).to_numpy(zero_copy_only=False)


def _times(values: Ints) -> pa.Array:
    """Return integers as times."""
    return pa.array(values, pa.int64(), mask=values == NAT).cast(_UTC)


# --- facts by set --------------------------------------------------------------------------------


class Book:
    """Facts of one kind, set by set, each set's in the order in which they were seen.

    Parameters
    ----------
    table : pyarrow.Table
        The facts; those that were committed later stand below.
    kind : str
        ``cluster`` or ``tenant``.
    keyed : bool
        Whether facts of one set are known to stand side by side.
    in_order : bool
        Whether they are known to be in the order of `arranged`, too.
    whole : bool
        Whether nothing was left out of what was read.
    sort : bool
        Whether to make `sorted` at once.
    """

    def __init__(
        self,
        table: pa.Table,
        kind: str,
        *,
        keyed: bool = False,
        in_order: bool = False,
        whole: bool = False,
        sort: bool = False,
    ) -> None:
        self.table, self.kind, self.in_order, self.whole = table, kind, in_order, whole
        self.order: Ints | None = None
        """The rows, set by set; None: as they stand."""
        self._codes: dict[str, tuple[Ints, list[str]]] = {}
        names = ["instance_id", "storage_class", *(["tenant_id"] if kind == "tenant" else [])]
        parts = [self.codes(name) for name in names]
        seen = ints(table["seen"])
        if keyed:
            self.head = _new_set(table, [numbers for numbers, _ in parts])
        else:
            with ThreadPoolExecutor(1) as pool:  # each takes as long: side by side
                ids = pool.submit(_numbered, table["backup_set_id"])
                if sort:
                    self.sorted = _in_order(self)
                key = _packed(*ids.result(), parts)
            # What was asked last is the newest, whatever the service's clock said then.
            if not (key[1:] > key[:-1]).all():
                self.order = np.argsort(key, kind="stable")
            if self.order is not None:
                key, seen = key[self.order], seen[self.order]
            self.head = np.append([True], key[1:] != key[:-1])[: len(key)]
        self.seen = seen
        self.single = bool(self.head.all())
        """Whether there is one fact of each set."""

    def codes(self, name: str) -> tuple[Ints, list[str]]:
        """Return a column of labels as numbers, as `codes` does."""
        if name not in self._codes:
            self._codes[name] = codes(self.table[name], exact=self.whole)
        return self._codes[name]

    @cached_property
    def sorted(self) -> Ints:
        """The rows by instance, tenant, start, set id and storage class."""
        return _in_order(self)

    @cached_property
    def first(self) -> Ints:
        """Where each set's facts begin, in the order of the book."""
        return np.flatnonzero(self.head)

    @cached_property
    def last(self) -> Ints:
        """Where each set's newest fact stands, in the order of the book."""
        return np.append(self.first[1:], len(self.head))[: len(self.first)] - 1

    def rows(self, places: Ints) -> Ints:
        """Return the rows of the table at some places of the book."""
        return places if self.order is None else self.order[places]


def _new_set(table: pa.Table, parts: list[Ints]) -> Any:  # noqa: ANN401 - booleans
    """Tell where the next set begins, in facts that stand set by set."""
    if not len(table):
        return np.empty(0, bool)
    ids = table["backup_set_id"].combine_chunks()
    fresh = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    for numbers in parts:
        fresh |= numbers[1:] != numbers[:-1]
    return np.append([True], fresh)


def _numbered(ids: pa.ChunkedArray) -> tuple[Ints, int]:
    """Return a number for each id, equal where the ids are, and how many there are."""
    if not len(ids):
        return np.empty(0, np.int64), 0
    made = ids.combine_chunks().dictionary_encode()
    return made.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(made.dictionary)


def _packed(key: Ints, size: int, parts: list[tuple[Ints, list[str]]]) -> Ints:
    """Return a number for each row that is equal where the set is."""
    for numbers, labels in parts:
        width = len(labels) + 1
        if size * width > NEVER >> 1:
            key, found = pd.factorize(key)
            size = len(found)
        key = key * width + numbers + 1
        size *= width
    return key


def no_facts(kind: str) -> pa.Table:
    """Return a table of no facts.

    Parameters
    ----------
    kind : str
        ``cluster`` or ``tenant``.

    Returns
    -------
    pyarrow.Table
        No rows.
    """
    return empty(FACTS[kind])


# --- what came, against what was known -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """What a fetch brought.

    Parameters
    ----------
    facts : pyarrow.Table
        The new facts.
    counts : DataFrame
        By instance: `new`, `changed`, `went`.
    """

    facts: pa.Table
    counts: pd.DataFrame


def news(known: pa.Table, came: pa.Table, asked: Mapping[str, Asked], kind: str, run: int) -> News:
    """Compare what came with what was known.

    Parameters
    ----------
    known : pyarrow.Table
        Facts of one kind; of instances that were not asked, too.
    came : pyarrow.Table
        What the instances that were asked hold now, as of `facts_of`; each set once.
    asked : mapping of str to Asked
        The instances that were asked and answered.
    kind : str
        ``cluster`` or ``tenant``.
    run : int
        The number of this run.

    Returns
    -------
    News
        A set that is new, is otherwise than it was, or is missing though its window was asked for,
        each is one new fact.
    """
    book = Book(known, kind)
    state = known.take(pa.array(book.rows(book.last)))
    content = ["begun", *CONTENT[kind]]
    both = pa.concat_tables(
        [state.select(content), came.select(content)], promote_options="permissive"
    )
    count = len(state)
    names = ["instance_id", "storage_class", *(["tenant_id"] if kind == "tenant" else [])]
    parts = [codes(both[name]) for name in names]
    key = _packed(*_numbered(both["backup_set_id"]), parts)
    order = np.argsort(key, kind="stable")  # of a set in both, what was known comes first
    pair = np.flatnonzero(key[order][1:] == key[order][:-1])
    old, new = order[pair], order[pair + 1]
    gone = state["gone"].to_numpy(zero_copy_only=False).astype(bool) if count else np.zeros(0, bool)
    both = _with_download(both, old, new)
    differs = gone[old] | _differs(both, old, new, content)
    fate = np.zeros(len(both), np.int8)
    fate[count:] = _NEW
    fate[new] = np.where(differs, np.where(gone[old], _NEW, _CHANGED), 0)
    matched = np.zeros(count, bool)
    matched[old] = True
    numbers, instances = parts[0]
    looked = [asked.get(each, _NOT_ASKED) for each in instances]
    would = _would_be_found(state, numbers[:count], looked)
    fate[:count][~matched & ~gone & would] = _WENT
    rows = np.flatnonzero(fate)
    seen = np.array([each.seen for each in looked], np.int64)[numbers[rows]]
    facts = both.take(pa.array(rows))
    own = {"run": pa.array(np.full(len(rows), run)), "seen": _times(seen)}
    own["gone"] = pa.array(fate[rows] == _WENT)
    table = pa.table({**own, **{name: facts[name] for name in content}}).select(FACTS[kind])
    return News(table, _counts(fate[rows], numbers[rows], instances))


_NEW, _CHANGED, _WENT = 1, 2, 3
_NOT_ASKED = Asked(NEVER, NAT + 1, NAT)


def _would_be_found(state: pa.Table, numbers: Ints, looked: list[Asked]) -> Any:  # noqa: ANN401
    """Tell which sets the fetch of their instance would have found if they were there."""
    start, end = (np.array([each[side] for each in looked], np.int64)[numbers] for side in (0, 1))
    begun, ended = ints(state["begun"]), ints(state["end_time"])
    # By what the service selects is not documented: one that did not begin or end yet is surely
    # found by who asks for everything alone.
    would = np.where(
        (begun == NAT) | (ended == NAT),
        (start == NAT) & (end == NAT),
        ((start == NAT) | (begun >= start)) & ((end == NAT) | (begun < end)),
    )
    untold = {(n, each) for n, asked in enumerate(looked) for each in asked.untold}
    if untold and "cluster_backup_set_id" in state.column_names:
        owners = zip(numbers.tolist(), state["cluster_backup_set_id"].to_pylist(), strict=True)
        would &= np.array([owner not in untold for owner in owners], bool)
    return would


def _with_download(both: pa.Table, old: Ints, new: Ints) -> pa.Table:
    """Keep what is known of downloads where nobody asked this time."""
    name = "download_enabled"
    values = both[name].combine_chunks()
    if values.null_count == len(values):
        return both
    source = np.arange(len(both))
    unasked = values.is_null().to_numpy(zero_copy_only=False)[new]
    source[new[unasked]] = old[unasked]
    kept = values.take(pa.array(source))
    return both.set_column(both.column_names.index(name), name, kept)


def _differs(both: pa.Table, old: Ints, new: Ints, content: list[str]) -> Any:  # noqa: ANN401
    """Tell which rows are otherwise than they were."""
    found = np.zeros(len(old), bool)
    before, after = pa.array(old), pa.array(new)
    for name in content:
        column = both[name]
        if name in LABELS:
            numbers, _ = codes(column)
            found |= numbers[old] != numbers[new]
            continue
        one, other = column.take(before), column.take(after)
        unequal = pc.not_equal(one, other).fill_null(False)  # noqa: FBT003 - Arrow's way
        lone = pc.xor(one.is_null(), other.is_null())
        found |= pc.or_(unequal, lone).to_numpy().astype(bool)
    return found


def _counts(fate: Ints, numbers: Ints, instances: list[str]) -> pd.DataFrame:
    """Count what happened, by instance."""
    columns = {}
    for name, which in (("new", _NEW), ("changed", _CHANGED), ("went", _WENT)):
        columns[name] = np.bincount(numbers[fate == which], minlength=len(instances))
    return pd.DataFrame(columns, index=pd.Index(instances, dtype="str"))


# --- frames out of facts -------------------------------------------------------------------------


def known_by(facts: pa.Table, instant: int) -> pa.Table:
    """Return the facts that were known at an instant.

    Parameters
    ----------
    facts : pyarrow.Table
        Facts.
    instant : int
        The instant [µs since 1970].

    Returns
    -------
    pyarrow.Table
        Those seen by then; the same table where that is all.
    """
    early = ints(facts["seen"]) <= instant
    return facts if early.all() else facts.filter(pa.array(early))


def frame_of(book: Book, since: int = NAT, start: int = NAT, end: int = NAT) -> pd.DataFrame:
    """Make a frame of the newest fact of every set.

    Parameters
    ----------
    book : Book
        The facts.
    since, start, end : int
        The lookback's start and the window, by the start of the cluster set; `NAT`: no limit
        [µs since 1970].

    Returns
    -------
    DataFrame
        Columns as in `COLUMNS`, with `first_seen` and `gone_time`; sorted by instance, tenant,
        start and set id.
    """
    as_is = book.single and book.order is None
    rows = None if as_is else book.rows(book.last)
    begun = ints(book.table["begun"])
    went = book.table["gone"].combine_chunks().to_numpy(zero_copy_only=False)
    own = {"first_seen": book.seen, "gone_time": book.seen}
    if rows is not None:
        begun, went = begun[rows], went[rows]
        own = {"first_seen": book.seen[book.first], "gone_time": book.seen[book.last]}
    own["gone_time"] = np.where(went, own["gone_time"], NAT)
    never = begun == NAT
    own["in_window"] = never | (begun >= start)
    if since != NAT or end != NAT:
        keep = never | ((begun >= since) & ((end == NAT) | (begun < end)))
        rows = np.arange(len(keep)) if rows is None else rows
        rows, own = rows[keep], {name: values[keep] for name, values in own.items()}
    if (order := _needed_order(book, rows)) is not None:
        rows = order if rows is None else rows[order]
        own = {name: values[order] for name, values in own.items()}
    return _frame(book, rows, own)


def arranged(book: Book) -> Ints:
    """Return all facts, set by set, the sets in the order of a frame.

    Parameters
    ----------
    book : Book
        The facts.

    Returns
    -------
    ndarray of int
        Rows of the book's table; facts of one set in the order in which they were seen.
    """
    counts = np.diff(np.append(book.first, len(book.head)))
    last = book.rows(book.last)
    order = np.arange(len(last)) if (order := _needed_order(book, last)) is None else order
    counts, begins = counts[order], book.first[order]
    ends = np.cumsum(counts)
    steps = np.arange(len(book.head)) - np.repeat(ends - counts, counts)
    return book.rows(np.repeat(begins, counts) + steps)


def _needed_order(book: Book, rows: Ints | None) -> Ints | None:
    """Return the order that some sets must be brought into; None: they are in order."""
    if book.in_order:
        return None
    order = book.sorted
    if rows is not None:
        place = np.full(len(order), -1)
        place[rows] = np.arange(len(rows))
        order = place[order]
        order = order[order >= 0]
    return None if (order[1:] > order[:-1]).all() else order


def _in_order(book: Book) -> Ints:
    """Return the rows by instance, tenant, start, set id and storage class."""
    start = ints(book.table["start_time"])
    start = np.where(start == NAT, NEVER, start)
    group = book.codes("instance_id")[0].astype(np.int64)
    if book.kind == "tenant":
        tenant, names = book.codes("tenant_id")
        group = group * (len(names) + 1) + tenant
    order = by_two(group, start, in_runs=True)
    group, start = group[order], start[order]
    if not ((group[1:] == group[:-1]) & (start[1:] == start[:-1])).any():
        return order
    ids = book.table["backup_set_id"].combine_chunks().take(pa.array(order))
    rank = pc.rank(ids, sort_keys="ascending", tiebreaker="dense").to_numpy()
    storage, _ = book.codes("storage_class")
    return order[np.lexsort((storage[order], rank, start, group))]


def _frame(book: Book, rows: Ints | None, own: dict[str, Any]) -> pd.DataFrame:
    """Make every column of a frame, in order and in its dtype."""
    chosen = None if rows is None else pa.array(rows)
    columns: dict[str, Any] = {"in_window": own["in_window"]}
    columns |= {name: _instants(own[name]) for name in ("first_seen", "gone_time")}

    def column(name: str) -> Any:  # noqa: ANN401 - an array
        if chosen is None and name in LABELS:
            return _categorical(*book.codes(name))
        values = book.table[name] if chosen is None else book.table[name].take(chosen)
        return _categorical(*codes(values)) if name in LABELS else _values(values, name)

    with ThreadPoolExecutor(_THREADS) as pool:  # numpy and Arrow let go of the interpreter
        columns |= zip(CONTENT[book.kind], pool.map(column, CONTENT[book.kind]), strict=True)
    columns["state"] = _states(columns["status"])
    columns["full"] = _fulls(columns["data_backup_mode"])
    begun, ended = (columns[name].asi8 for name in ("start_time", "end_time"))
    known = (begun != NAT) & (ended != NAT)
    columns["duration"] = np.where(known, ended - begun, NAT).view("m8[us]")
    names = [column.name for column in (*COLUMNS[LEVELS[book.kind]], *ARCHIVED)]
    return pd.DataFrame({name: columns[name] for name in names}, copy=False)


_NUMBERS = {"data_version": "Int64", "download_task_id": "Int64", "download_enabled": "boolean"}


def _values(column: pa.ChunkedArray, name: str) -> Any:  # noqa: ANN401 - an array
    """Return a column's values as a frame holds them."""
    if name in _NUMBERS:
        return _masked(column, _NUMBERS[name])
    if pa.types.is_timestamp(column.type):
        return _instants(ints(column))
    if name == "size_gib":
        return column.to_numpy()
    if name == "tenant_sets":
        return ints(column)
    return pd.array(column.cast(pa.large_string()), dtype=pd.StringDtype("pyarrow"))


def _masked(column: pa.ChunkedArray, dtype: str) -> Any:  # noqa: ANN401 - an array
    """Return numbers or booleans of which some are missing."""
    made = pd.arrays.BooleanArray if dtype == "boolean" else pd.arrays.IntegerArray
    if column.null_count == len(column):
        whole = np.zeros(len(column), bool if dtype == "boolean" else np.int64)
        return made(whole, np.ones(len(column), bool))
    missing = column.is_null().to_numpy()
    nothing = pa.scalar(0, pa.int64()).cast(column.type)
    return made(column.fill_null(nothing).to_numpy().copy(), missing.copy())


def _categorical(numbers: Ints, labels: list[str]) -> pd.Categorical:
    """Make a categorical from codes that are known to be right."""
    dtype = pd.CategoricalDtype(pd.Index(labels, dtype="str"))
    return pd.Categorical.from_codes(numbers, dtype=dtype, validate=False)


def _states(status: pd.Categorical) -> pd.Categorical:
    """Return the state of every status."""
    of = [STATES.index(state_of(each)) for each in (*status.categories, None)]
    return _categorical(np.array(of, np.int8)[status.codes], list(STATES))


def _fulls(mode: pd.Categorical) -> Any:  # noqa: ANN401 - an extension array
    """Return whether each is a full set."""
    full = [is_full(each) for each in (*mode.categories, None)]
    values, missing = np.array([bool(e) for e in full]), np.array([e is None for e in full])
    return pd.arrays.BooleanArray(values[mode.codes], missing[mode.codes])


def _instants(values: Ints) -> Any:  # noqa: ANN401 - an extension array
    """Return UTC instants."""
    return pd.array(values, dtype=TIME)
