"""Turn decoded pages into the two frames, a column at a time.

All fields that hold few distinct values are taken from a row as one tuple and become one integer
by one look-up; the categories are made once, at the end, from the few hundred distinct tuples.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.errors import DataError
from obanalytics.frames import COLUMNS, PARTS_OF_A_TENANT, STATES
from obanalytics.packing import by_two
from obanalytics.wire import LABELS, NO_TIME, FieldError, is_full, parse_times, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obanalytics.schema import Level, Window
    from obanalytics.wire import ClusterSet, Integers, SetRow

# The one mapping from the API's fields to columns stands in frames.COLUMNS; a field's name in
# snake_case is its attribute on a decoded row.

_INT64 = range(-(2**63), 2**63)
_labels_of = itemgetter(slice(len(LABELS)))
_ids_of = attrgetter("backup_set_id")
_DTYPES = {column.name: column.dtype for column in COLUMNS["tenants"]}
_FIELDS = {column.name: column.field for column in COLUMNS["tenants"]}


class _Codes(dict[tuple[Any, ...], int]):
    """Number each distinct tuple of labels when it is first seen."""

    def __init__(self, *, need_tenant: bool) -> None:
        super().__init__()
        self.need_tenant = need_tenant

    def __missing__(self, labels: tuple[Any, ...]) -> int:
        """Give the next number to labels that can be stored; a tenant set belongs to a tenant."""
        if self.need_tenant and not labels[0]:
            raise FieldError("tenant_id", None)
        for name in ("data_version", "download_task_id"):
            value = labels[LABELS.index(name)]
            if value is not None and value not in _INT64:
                raise FieldError(name, value)
        code = self[labels] = len(self)
        return code


class _Growing:
    """A column that grows page by page in one block, so that putting it together copies nothing."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.block = bytearray()

    def add(self, values: Any) -> None:  # noqa: ANN401 - whatever numpy takes
        """Add values at the end."""
        self.block += np.ascontiguousarray(values, self.dtype).data

    def cut(self, count: int) -> None:
        """Keep the first values."""
        del self.block[count * self.dtype.itemsize :]

    def array(self) -> Any:  # noqa: ANN401 - an array of the column's dtype
        """Return the values; the block cannot grow from here on."""
        return np.frombuffer(self.block, self.dtype)


class _GrowingText:
    """The same for text that is nowhere missing."""

    def __init__(self) -> None:
        self.block = bytearray()
        self.lengths = _Growing("i4")

    def add(self, texts: list[str]) -> None:
        """Add texts at the end."""
        whole = "".join(texts)
        is_ascii = whole.isascii()
        lengths = map(len, texts) if is_ascii else (len(text.encode()) for text in texts)
        self.lengths.add(np.fromiter(lengths, np.int32, len(texts)))
        self.block += whole.encode()

    def cut(self, count: int) -> None:
        """Keep the first texts."""
        self.lengths.cut(count)
        del self.block[int(np.frombuffer(bytes(self.lengths.block), np.int32).sum()) :]

    def array(self) -> Any:  # noqa: ANN401 - an Arrow array
        """Return the texts."""
        lengths = self.lengths.array()
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        blocks = [pa.py_buffer(offsets), pa.py_buffer(self.block)]
        return pa.LargeStringArray.from_buffers(len(lengths), *blocks)


# `link` is the number of tenant sets on a cluster row, and the row number of the cluster set on a
# tenant row (-1: it has none). `hash` is of the set id: where none repeats, no set does.
# `time` is three: start, end, checkpoint. `instance` is one for all rows of a page.
_KINDS = {"time": "i8", "link": "i8", "hash": "i8", "code": "i4", "size": "f8"}


class _Level:
    """The columns of one level so far."""

    def __init__(self, *, need_tenant: bool = False) -> None:
        self.codes = _Codes(need_tenant=need_tenant)
        self.columns: dict[str, _Growing] = {
            name: _Growing(dtype) for name, dtype in _KINDS.items()
        }
        self.ids = _GrowingText()
        self.instances: list[tuple[int, int]] = []
        self.extras: list[tuple[int, str]] = []
        self.rows = 0

    def add(self, rows: Sequence[SetRow], times: Any, instance: int, link: Integers) -> None:  # noqa: ANN401 - an array
        """Take the columns out of one page's rows, all or none."""
        count = len(rows)
        ids = list(map(_ids_of, rows))
        if not all(ids):
            raise FieldError("backup_set_id", None)
        codes = map(self.codes.__getitem__, map(_labels_of, map(msgspec.structs.astuple, rows)))
        values = {
            "code": np.fromiter(codes, np.int32, count),
            "time": times,
            "size": [row.data_backup_size for row in rows],
            "link": link,
            "hash": np.fromiter(map(hash, ids), np.int64, count),
        }
        for name, column in self.columns.items():
            column.add(values[name])
        self.ids.add(cast("list[str]", ids))
        self.instances.append((instance, count))
        if count and type(rows[0]).extra_fields:
            found = ((self.rows + n, row.extra()) for n, row in enumerate(rows))
            self.extras += [(position, text) for position, text in found if text]
        self.rows += count

    def cut(self, rows: int) -> None:
        """Forget what came after the first rows."""
        self.ids.cut(rows)
        for name, column in self.columns.items():
            column.cut(rows * (3 if name == "time" else 1))
        ends = np.cumsum([count for _, count in self.instances])
        del self.instances[int(np.searchsorted(ends, rows, "right")) :]
        self.extras = [(position, text) for position, text in self.extras if position < rows]
        self.rows = rows


class Flattener:
    """Collect pages of any number of instances and make the two frames of them.

    Pages may come in any order. Top-level rows of a tenant (or of parts of one) go to the tenants
    frame, without a cluster set.
    """

    def __init__(self) -> None:
        self._clusters = _Level()
        self._tenants = _Level(need_tenant=True)
        self._instances: dict[str, int] = {}
        self._zoneless = 0
        self.notes: dict[str, int] = {}
        """What a reader should know of the frames made, with the number of rows concerned."""

    def add(self, sets: Sequence[ClusterSet], instance_id: str, where: str = "") -> None:
        """Add one page, all of it or nothing.

        Parameters
        ----------
        sets : sequence of ClusterSet
            The decoded top-level rows.
        instance_id : str
            The instance that they belong to.
        where : str
            The page or file, for error messages.

        Raises
        ------
        DataError
            When a row has no set id, a tenant row no tenant id, a time is no time, or a number
            does not fit; names instance, page, set, field and value.
        """
        clusters, lone = _split(sets)
        nested = [row.tenant_backup_set_list or () for row in clusters]
        counts = np.array([len(rows) for rows in nested], np.int64)
        tenants: list[SetRow] = [row for rows in nested for row in rows]
        owners = np.repeat(self._clusters.rows + np.arange(len(counts)), counts)
        owners = np.concatenate([owners, np.full(len(lone), -1)])
        tenants += lone
        instance = self._instances.setdefault(instance_id, len(self._instances))
        every: list[SetRow] = [*clusters, *tenants]
        texts = [row.start_time for row in every]
        texts += [row.end_time for row in every]
        texts += [row.checkpoint for row in every]
        mark = self.mark()
        try:
            # Both levels at once: reading a few hundred costs hardly less than a few thousand.
            times, zoneless = parse_times(texts)
            by_row = times.reshape(3, len(every)).T
            self._clusters.add(clusters, by_row[: len(clusters)], instance, counts)
            self._tenants.add(tenants, by_row[len(clusters) :], instance, owners)
            self._zoneless += zoneless
        except FieldError as error:
            self.rollback(mark)
            # A cluster row may well lack a tenant id.
            rows = tenants if error.name == "tenant_id" else every
            raise _located(error, rows, instance_id, where) from None

    def mark(self) -> tuple[int, int, int]:
        """Return how far this is, for `rollback`.

        Returns
        -------
        tuple of int
            The number of cluster rows, of tenant rows, and of times without a zone.
        """
        return self._clusters.rows, self._tenants.rows, self._zoneless

    def rollback(self, mark: tuple[int, int, int]) -> None:
        """Forget what was added since a mark, such as the first pages of an instance that failed.

        Parameters
        ----------
        mark : tuple of int
            What `mark` returned.
        """
        clusters, tenants, self._zoneless = mark
        self._clusters.cut(clusters)
        self._tenants.cut(tenants)

    def frames(
        self,
        window: Window | None = None,
        *,
        since: pd.Timestamp | None = None,
        download_checked: bool = True,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Make the two frames of everything that was added, and forget it.

        Rows are sorted by instance, tenant, start and set id. Of rows that repeat a key (instance,
        tenant, set id, storage class) the most advanced stays.

        Parameters
        ----------
        window : Window or None
            The half-open window that was asked for, by the start of the cluster set [UTC]. Sets
            that began at its end or later are left out; those before it get `in_window` False.
        since : Timestamp or None
            Where the lookback before the window begins; sets that began earlier are left out [UTC].
        download_checked : bool
            Whether the server was asked to check downloads; if not, its `false` says nothing.

        Returns
        -------
        clusters : DataFrame
            One row per cluster backup set, columns as in `schema.COLUMNS["clusters"]`.
        tenants : DataFrame
            One row per tenant backup set, columns as in `schema.COLUMNS["tenants"]`.
        """
        clusters, tenants = (_Rows.of(each) for each in (self._clusters, self._tenants))
        instances = list(self._instances)
        self._clusters, self._tenants = _Level(), _Level(need_tenant=True)
        if self._zoneless:
            self.notes["times without a zone, read as UTC"] = self._zoneless
        has_owner = tenants.link >= 0
        begun = tenants.start.copy()
        begun[has_owner] = clusters.start[tenants.link[has_owner]]
        begun[begun == NO_TIME] = tenants.start[begun == NO_TIME]
        levels = ((clusters, clusters.start, None), (tenants, begun, clusters.ids))
        made = []
        for came, begins, owners in levels:
            columns = _Columns(came, instances, owners, self.notes)
            columns.choose(begins, since, None if window is None else window.end)
            inside = None if window is None else window.start
            made.append(columns.frame(begins, inside, download_checked=download_checked))
        return made[0], made[1]


def _split(sets: Sequence[ClusterSet]) -> tuple[Sequence[ClusterSet], list[ClusterSet]]:
    """Tell cluster rows from tenant rows that stand at the top by themselves."""
    kinds = {row.backup_object_type for row in sets if not row.tenant_backup_set_list}
    if kinds <= {"CLUSTER"}:
        return sets, []
    lone = [row for row in sets if _is_tenant_row(row)]
    if not lone:
        return sets, []
    return [row for row in sets if not _is_tenant_row(row)], lone


def _is_tenant_row(row: ClusterSet) -> bool:
    """Tell whether a top-level row is itself a tenant's (or a part of a tenant's) backup set."""
    if row.tenant_backup_set_list:
        return False
    kind = (row.backup_object_type or "").strip().upper()
    if kind == "CLUSTER":
        return False
    if kind == "TENANT" or kind in PARTS_OF_A_TENANT:
        return True
    return row.tenant_id not in {None, "", "sys"} and row.tenant_name != "*"


@dataclass(slots=True)
class _Rows:
    """One level's columns as they came."""

    labels: list[tuple[Any, ...]]
    ids: Any
    start: Integers
    end: Integers
    checkpoint: Integers
    link: Integers
    hash: Integers
    code: Any
    instance: Any
    size: Any
    extras: list[tuple[int, str]]

    @classmethod
    def of(cls, level: _Level) -> _Rows:
        """Take a level's columns over."""
        columns = {name: column.array() for name, column in level.columns.items()}
        start, end, checkpoint = columns.pop("time").reshape(-1, 3).T
        of_page = np.array(level.instances, np.int32).reshape(-1, 2).T
        return cls(
            list(level.codes),
            level.ids.array(),
            start,
            end,
            checkpoint,
            instance=np.repeat(*of_page),
            extras=level.extras,
            **columns,
        )


class _Columns:
    """The columns of one level, in order and in their dtypes."""

    def __init__(
        self,
        came: _Rows,
        instances: list[str],
        owners: Any,  # noqa: ANN401 - an Arrow array: the ids of the cluster sets, in their order
        notes: dict[str, int],
    ) -> None:
        self.came = came
        self.instances = instances
        self.owners = owners
        self.notes = notes
        self.rows: Integers = np.arange(len(came.code))
        by_name = zip(*came.labels, strict=True) if came.labels else [()] * len(LABELS)
        self.table = {name: list(values) for name, values in zip(LABELS, by_name, strict=True)}
        self.states = [state_of(status) for status in self.table["status"]]

    def choose(
        self, begun: Integers, since: pd.Timestamp | None, until: pd.Timestamp | None
    ) -> None:
        """Settle which rows are kept, in order; one that never began cannot be left out."""
        rows = self._order()
        keep = np.ones(len(rows), bool)
        if since is not None:
            keep &= begun[rows] >= _microseconds(since)
        if until is not None:
            keep &= begun[rows] < _microseconds(until)
        self.rows = rows[keep | (begun[rows] == NO_TIME)]

    def frame(
        self, begun: Integers, start: pd.Timestamp | None, *, download_checked: bool
    ) -> pd.DataFrame:
        """Make every column of the chosen rows."""
        level: Level = "clusters" if self.owners is None else "tenants"
        rows = self.rows
        # Text first: it is half of what came, and let go before the rest is made.
        columns: dict[str, Any] = {"backup_set_id": _strings(self.came.ids.take(pa.array(rows)))}
        self.came.ids = None
        link = self.came.link[rows]
        if self.owners is None:
            columns["tenant_sets"] = link
        else:
            numbers = pa.array(link, mask=link < 0)
            columns["cluster_backup_set_id"] = _strings(self.owners.take(numbers))
        del link
        columns |= self._timed(rows) | self._labelled(rows, download_checked=download_checked)
        columns["size_gib"] = self._size(rows)
        columns["instance_id"] = self._category(self.instances, self.came.instance[rows])
        before = NO_TIME if start is None else _microseconds(start)
        columns["in_window"] = (begun[rows] >= before) | (begun[rows] == NO_TIME)
        columns["extra"] = self._extra(rows)
        self._note(rows)
        return pd.DataFrame({c.name: columns.pop(c.name) for c in COLUMNS[level]}, copy=False)

    def _order(self) -> Integers:
        """Return the rows to keep, by instance, tenant, start and set id."""
        came = self.came
        kept = self._unique()
        start = np.where(came.start == NO_TIME, np.iinfo(np.int64).max, came.start)[kept]
        ranks = _ranks(self.table["tenant_id"])[came.code[kept]]
        group = _ranks(self.instances)[came.instance[kept]] * (len(ranks) + 1) + ranks
        order = by_two(group, start)
        group, start = group[order], start[order]
        if ((group[1:] == group[:-1]) & (start[1:] == start[:-1])).any():
            ids = came.ids.take(pa.array(kept[order]))
            by_id = pc.rank(ids, sort_keys="ascending", tiebreaker="dense").to_numpy()
            storage = _ranks(self.table["storage_class"])[came.code[kept[order]]]
            order = order[np.lexsort((storage, by_id, start, group))]
        return kept[order]

    def _unique(self) -> Integers:
        """Return the rows that are the most advanced of their key."""
        came = self.came
        rows = np.arange(len(came.code))
        ordered = np.sort(came.hash)
        if not (ordered[1:] == ordered[:-1]).any():
            return rows
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        suspects = np.flatnonzero(np.isin(came.hash, repeated))
        code = came.code[suspects]
        texts = came.ids.take(pa.array(suspects)).dictionary_encode()
        storage = (_ranks(self.table["storage_class"]) + 1)[code]
        key = storage * len(self.instances) + came.instance[suspects]
        key = key * (len(texts.dictionary) + 1) + texts.indices.to_numpy()
        if self.owners is not None:  # rows of different tenants are never one set
            tenants = _ranks(self.table["tenant_id"])
            key = key * (len(tenants) + 1) + tenants[code]
        # Equal content must win however the pages came: labels decide by their text.
        labels = _ranks([repr(labels) for labels in came.labels])[code]
        running = np.array([state == "running" for state in self.states])[code]
        by = (np.nan_to_num(came.size, nan=-1.0), came.start, came.checkpoint, came.end)
        order = np.lexsort((labels, *(column[suspects] for column in by), ~running, key))
        earlier = np.append(key[order][1:] == key[order][:-1], [False])
        dropped = suspects[order[earlier]]
        note = "rows that repeat a set, of which the most advanced was kept"
        self._count(note, len(dropped))
        return np.delete(rows, dropped)

    def _labelled(self, rows: Integers, *, download_checked: bool) -> dict[str, Any]:
        """Make the columns that come out of the shared codes."""
        table, code = self.table, self.came.code[rows]
        made: dict[str, Any] = {
            name: self._category(table[name], code)
            for name in LABELS
            if _DTYPES[name] == "category"
        }
        numbers = np.array([STATES.index(state) for state in self.states], np.int8)[code]
        made["state"] = _categorical(numbers, STATES)
        tasks = [None if task == -1 else task for task in table["download_task_id"]]
        # Without the check the server says false for every set; only a true means something.
        enabled = [flag if flag or download_checked else None for flag in table["download_enabled"]]
        full = [is_full(mode) for mode in table["data_backup_mode"]]
        made["full"] = pd.array(full, "boolean").take(code)
        made["data_version"] = pd.array(table["data_version"], "Int64").take(code)
        made["download_task_id"] = pd.array(tasks, "Int64").take(code)
        made["download_enabled"] = pd.array(enabled, "boolean").take(code)
        return made

    def _category(self, values: list[Any], code: Any) -> pd.Categorical:  # noqa: ANN401 - integers
        """Make a categorical column, categories sorted, of the values that codes stand for."""
        present = np.flatnonzero(np.bincount(code, minlength=len(values)))
        names = sorted({values[c] for c in present if values[c] is not None})
        number = {value: position for position, value in enumerate(names)}
        numbers = np.array([number.get(value, -1) for value in values], np.int64)
        return _categorical(numbers.astype(np.min_scalar_type(-max(len(names), 1)))[code], names)

    def _timed(self, rows: Integers) -> dict[str, Any]:
        """Make the three times and the duration."""
        came = self.came
        start, end = came.start[rows], came.end[rows]
        known = (start != NO_TIME) & (end != NO_TIME)
        return {
            "start_time": _instants(start),
            "end_time": _instants(end),
            "checkpoint": _instants(came.checkpoint[rows]),
            "duration": np.where(known, end - start, NO_TIME).view("m8[us]"),
        }

    def _size(self, rows: Integers) -> Any:  # noqa: ANN401 - a float array
        """Make the size; nothing is known of a set that is not done and says 0."""
        size = self.came.size[rows]
        done = np.array([state == "done" for state in self.states], bool)[self.came.code[rows]]
        size[(size == 0) & ~done] = np.nan
        if negative := int((size < 0).sum()):
            self._count("sizes below zero, read as unknown", negative)
            size[size < 0] = np.nan
        return size

    def _extra(self, rows: Integers) -> Any:  # noqa: ANN401 - an extension array
        """Make the column of unknown fields."""
        if not self.came.extras:
            return _strings(pa.nulls(len(rows), pa.large_string()))
        self._count("sets with fields this version does not know", len(self.came.extras))
        texts = dict(self.came.extras)
        return _strings(pa.array([texts.get(row) for row in rows.tolist()], pa.large_string()))

    def _note(self, rows: Integers) -> None:
        """Count the rows that a reader should know of."""
        times = np.bincount(self.came.code[rows], minlength=len(self.states))
        modes = self.table["data_backup_mode"]
        known = zip(self.table["status"], self.states, modes, times, strict=True)
        for status, state, mode, count in known:
            if state == "unknown" and count:
                self._count(f"sets whose status {status!r} is not recognised", int(count))
            if is_full(mode) is None and count:
                self._count(f"sets whose mode {mode!r} is not recognised", int(count))

    def _count(self, note: str, rows: int) -> None:
        """Add to the number of rows that a note is about."""
        if rows:
            self.notes[note] = self.notes.get(note, 0) + rows


def _ranks(values: Sequence[Any]) -> Integers:
    """Return the place of each value among the sorted ones; what is missing comes first."""
    place = {value: rank for rank, value in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([place.get(value, -1) for value in values], np.int64)


def _microseconds(instant: pd.Timestamp) -> int:
    """Return an instant as microseconds since 1970."""
    return int(instant.as_unit("us").asm8.astype(np.int64))


def _categorical(codes: Any, names: Sequence[str]) -> pd.Categorical:  # noqa: ANN401 - integers
    """Make a categorical from codes that are known to be right."""
    dtype = pd.CategoricalDtype(pd.Index(names, dtype="str"))
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)


def _instants(microseconds: Integers) -> pd.DatetimeIndex:
    """Return UTC instants."""
    return pd.DatetimeIndex(microseconds.view("M8[us]")).tz_localize("UTC")


def _strings(values: Any) -> Any:  # noqa: ANN401 - an Arrow array in, an extension array out
    """Return text as pandas' string dtype."""
    return pd.array(pa.chunked_array([values]), dtype=pd.StringDtype("pyarrow"))


def _located(error: FieldError, rows: Sequence[SetRow], instance_id: str, where: str) -> DataError:
    """Say where a value stands that its column cannot hold."""
    names = ("start_time", "end_time", "checkpoint") if error.name == "time" else (error.name,)
    for row in rows:
        for name in names:
            value = getattr(row, name)
            if value == error.value or (error.value is None and not value):
                place = ", ".join(filter(None, (f"instance {instance_id}", where)))
                field = _FIELDS[name]
                problem = "is missing" if error.value is None else f"is impossible: {value!r:.80}"
                return DataError(
                    f"{place}, set {row.backup_set_id or '(no id)'}: field {field} {problem}",
                    instance_id=instance_id,
                )
    raise AssertionError("the value that was refused is in none of the rows")
