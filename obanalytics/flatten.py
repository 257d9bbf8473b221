"""Turn decoded pages into the two frames, a column at a time.

All fields that hold few distinct values are taken from a row as one tuple and become one integer
by one look-up; the categories are made once, at the end, from the few hundred distinct tuples.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.errors import DataError
from obanalytics.schema import COLUMNS, STATES
from obanalytics.wire import LABELS, NO_TIME, FieldError, is_full, parse_times, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obanalytics.schema import Level, Window
    from obanalytics.wire import ClusterSet, Integers, SetRow

# The one mapping from the API's fields to columns stands in frames.COLUMNS; a field's name in
# snake_case is its attribute on a decoded row.
_PARTS_OF_A_TENANT = {"DATABASE", "TABLE"}

_INT64 = range(-(2**63), 2**63)
_labels_of = itemgetter(slice(len(LABELS)))
_ids_of = attrgetter("backup_set_id")
_DTYPES = {column.name: column.dtype for column in COLUMNS["tenants"]}
_FIELDS = {column.name: column.field for column in COLUMNS["tenants"]}


class _Codes(dict[tuple[Any, ...], int]):
    """Number each distinct tuple of labels when it is first seen."""

    def __missing__(self, labels: tuple[Any, ...]) -> int:
        """Give the next number to labels that can be stored."""
        for name in ("data_version", "download_task_id"):
            value = labels[LABELS.index(name)]
            if value is not None and value not in _INT64:
                raise FieldError(name, value)
        code = self[labels] = len(self)
        return code


class _Level:
    """The columns of one level so far, in pieces of one page each."""

    def __init__(self) -> None:
        self.codes = _Codes()
        # `link` is the number of tenant sets on a cluster row, and the row number of the cluster
        # set on a tenant row (-1: it has none).
        kinds = ("code", "id", "time", "size", "instance", "link")
        self.pieces: dict[str, list[Any]] = {kind: [] for kind in kinds}
        self.extras: list[tuple[int, str]] = []
        self.rows = 0
        self.zoneless = 0

    def add(self, rows: Sequence[SetRow], instance: int, link: Integers) -> None:
        """Take the columns out of one page's rows."""
        count = len(rows)
        ids = list(map(_ids_of, rows))
        if not all(ids):
            raise FieldError("backup_set_id", None)
        texts = [row.start_time for row in rows]
        texts += [row.end_time for row in rows]
        texts += [row.checkpoint for row in rows]
        times, zoneless = parse_times(texts)
        codes = map(self.codes.__getitem__, map(_labels_of, map(msgspec.structs.astuple, rows)))
        piece = {
            "code": np.fromiter(codes, np.int32, count),
            "id": pa.array(ids, pa.large_string()),
            "time": times.reshape(3, count),
            "size": np.array([row.data_backup_size for row in rows], np.float64),
            "instance": np.full(count, instance, np.int32),
            "link": link,
        }
        for kind, values in piece.items():
            self.pieces[kind].append(values)
        if count and type(rows[0]).extra_fields:
            found = ((self.rows + n, row.extra()) for n, row in enumerate(rows))
            self.extras += [(position, text) for position, text in found if text]
        self.zoneless += zoneless
        self.rows += count


class Flattener:
    """Collect pages of any number of instances and make the two frames of them.

    Pages may come in any order. Top-level rows of a tenant (or of parts of one) go to the tenants
    frame, without a cluster set.
    """

    def __init__(self) -> None:
        self._clusters = _Level()
        self._tenants = _Level()
        self._instances: dict[str, int] = {}
        self.notes: dict[str, int] = {}
        """What a reader should know of the frames made, with the number of rows concerned."""

    def add(self, sets: Sequence[ClusterSet], instance_id: str, where: str = "") -> None:
        """Add one page.

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
        try:
            _require_tenant_ids(tenants)
            self._clusters.add(clusters, instance, counts)
            self._tenants.add(tenants, instance, owners)
        except FieldError as error:
            # A cluster row may well lack a tenant id.
            rows = tenants if error.name == "tenant_id" else [*clusters, *tenants]
            raise _located(error, rows, instance_id, where) from None

    def mark(self) -> tuple[tuple[int, int, int], ...]:
        """Return how far each level is, for `rollback`.

        Returns
        -------
        tuple of tuple
            The number of pieces, of extras and of rows of each level.
        """
        levels = (self._clusters, self._tenants)
        return tuple((len(each.pieces["code"]), len(each.extras), each.rows) for each in levels)

    def rollback(self, mark: tuple[tuple[int, int, int], ...]) -> None:
        """Forget what was added since a mark, such as the first pages of an instance that failed.

        Parameters
        ----------
        mark : tuple of tuple
            What `mark` returned.
        """
        for level, lengths in zip((self._clusters, self._tenants), mark, strict=True):
            count, extras, level.rows = lengths
            for pieces in level.pieces.values():
                del pieces[count:]
            del level.extras[extras:]

    def frames(
        self,
        window: Window | None = None,
        *,
        since: pd.Timestamp | None = None,
        download_checked: bool = True,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Make the two frames of everything that was added, and forget it.

        Rows are sorted by instance, tenant, start and set id. Of rows that repeat a key (instance,
        set id, storage class) the most advanced stays.

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
        clusters, tenants = (_Pieces.join(each) for each in (self._clusters, self._tenants))
        instances = list(self._instances)
        self._clusters, self._tenants = _Level(), _Level()
        has_owner = tenants.link >= 0
        begun = tenants.start.copy()
        begun[has_owner] = clusters.start[tenants.link[has_owner]]
        begun[begun == NO_TIME] = tenants.start[begun == NO_TIME]
        owners = pa.array(tenants.link, mask=~has_owner)
        parents = clusters.ids.take(owners)
        made = []
        for pieces, begins, parent in ((clusters, clusters.start, None), (tenants, begun, parents)):
            columns = _Columns(pieces, instances, parent, self.notes)
            columns.choose(begins, since, None if window is None else window.end)
            inside = None if window is None else window.start
            made.append(columns.frame(begins, inside, download_checked=download_checked))
        return made[0], made[1]


def _require_tenant_ids(tenants: Sequence[SetRow]) -> None:
    """Refuse tenant sets that belong to nobody."""
    if not all(row.tenant_id for row in tenants):
        raise FieldError("tenant_id", None)


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
    if kind == "TENANT" or kind in _PARTS_OF_A_TENANT:
        return True
    return row.tenant_id not in {None, "", "sys"} and row.tenant_name != "*"


@dataclass(slots=True)
class _Pieces:
    """One level's pieces, put together."""

    labels: list[tuple[Any, ...]]
    code: Any
    ids: Any
    start: Integers
    end: Integers
    checkpoint: Integers
    size: Any
    instance: Any
    link: Integers
    extras: list[tuple[int, str]]
    zoneless: int

    @classmethod
    def join(cls, level: _Level) -> _Pieces:
        """Put a level's pieces together; each list dies when it was used."""
        times = level.pieces.pop("time")
        start, end, checkpoint = (_joined([t[row] for t in times], np.int64) for row in range(3))
        ids = pa.chunked_array(level.pieces.pop("id"), pa.large_string()).combine_chunks()
        return cls(
            list(level.codes),
            _joined(level.pieces.pop("code"), np.int32),
            ids,
            start,
            end,
            checkpoint,
            _joined(level.pieces.pop("size"), np.float64),
            _joined(level.pieces.pop("instance"), np.int32),
            _joined(level.pieces.pop("link"), np.int64),
            level.extras,
            level.zoneless,
        )


class _Columns:
    """The columns of one level, made of its pieces."""

    def __init__(
        self,
        pieces: _Pieces,
        instances: list[str],
        parents: Any,  # noqa: ANN401 - an Arrow array
        notes: dict[str, int],
    ) -> None:
        self.pieces = pieces
        self.instances = instances
        self.parents = parents
        self.notes = notes
        self.rows: Integers = np.arange(len(pieces.code))
        by_name = zip(*pieces.labels, strict=True) if pieces.labels else [()] * len(LABELS)
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
        level: Level = "clusters" if self.parents is None else "tenants"
        rows = self.rows
        columns = self._timed(rows) | self._labelled(rows, download_checked=download_checked)
        columns["size_gib"] = self._size(rows)
        columns["backup_set_id"] = _strings(self.pieces.ids.take(pa.array(rows)))
        if self.parents is not None:
            columns["cluster_backup_set_id"] = _strings(self.parents.take(pa.array(rows)))
        columns["instance_id"] = self._category(self.instances, self.pieces.instance[rows])
        columns["tenant_sets"] = self.pieces.link[rows]
        before = NO_TIME if start is None else _microseconds(start)
        columns["in_window"] = (begun[rows] >= before) | (begun[rows] == NO_TIME)
        columns["extra"] = self._extra(rows)
        self._note(rows)
        return pd.DataFrame({c.name: columns.pop(c.name) for c in COLUMNS[level]}, copy=False)

    def _order(self) -> Integers:
        """Return the rows to keep, by instance, tenant, start and set id."""
        pieces = self.pieces
        kept = self._unique()
        start = np.where(pieces.start == NO_TIME, np.iinfo(np.int64).max, pieces.start)[kept]
        ranks = _ranks(self.table["tenant_id"])[pieces.code[kept]]
        group = _ranks(self.instances)[pieces.instance[kept]] * (len(ranks) + 1) + ranks
        order = np.lexsort((start, group))
        group, start = group[order], start[order]
        if ((group[1:] == group[:-1]) & (start[1:] == start[:-1])).any():
            ids = pieces.ids.take(pa.array(kept[order]))
            by_id = pc.rank(ids, sort_keys="ascending", tiebreaker="dense").to_numpy()
            storage = _ranks(self.table["storage_class"])[pieces.code[kept[order]]]
            order = order[np.lexsort((storage, by_id, start, group))]
        return kept[order]

    def _unique(self) -> Integers:
        """Return the rows that are the most advanced of their key."""
        pieces = self.pieces
        rows = np.arange(len(pieces.code))
        storage = (_ranks(self.table["storage_class"]) + 1)[pieces.code]
        texts = pieces.ids.dictionary_encode()
        key = storage * len(self.instances) + pieces.instance
        key = key * (len(texts.dictionary) + 1) + texts.indices.to_numpy()
        if len(pd.unique(key)) == len(key):
            return rows
        # Equal content must win however the pages came: labels decide by their text.
        labels = _ranks([repr(labels) for labels in pieces.labels])[pieces.code]
        running = np.array([state == "running" for state in self.states])[pieces.code]
        size = np.nan_to_num(pieces.size, nan=-1.0)
        order = np.lexsort(
            (labels, size, pieces.start, pieces.checkpoint, pieces.end, ~running, key)
        )
        last = np.append(key[order][1:] != key[order][:-1], [True])
        self.notes["rows that repeat a set, of which the most advanced was kept"] = int(
            (~last).sum()
        )
        return np.sort(order[last])

    def _labelled(self, rows: Integers, *, download_checked: bool) -> dict[str, Any]:
        """Make the columns that come out of the shared codes."""
        table, code = self.table, self.pieces.code[rows]
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
        pieces = self.pieces
        start, end = pieces.start[rows], pieces.end[rows]
        known = (start != NO_TIME) & (end != NO_TIME)
        return {
            "start_time": _instants(start),
            "end_time": _instants(end),
            "checkpoint": _instants(pieces.checkpoint[rows]),
            "duration": np.where(known, end - start, NO_TIME).view("m8[us]"),
        }

    def _size(self, rows: Integers) -> Any:  # noqa: ANN401 - a float array
        """Make the size; nothing is known of a set that is not done and says 0."""
        size = self.pieces.size[rows]
        done = np.array([state == "done" for state in self.states], bool)[self.pieces.code[rows]]
        size[(size == 0) & ~done] = np.nan
        if negative := int((size < 0).sum()):
            self._count("sizes below zero, read as unknown", negative)
            size[size < 0] = np.nan
        return size

    def _extra(self, rows: Integers) -> Any:  # noqa: ANN401 - an extension array
        """Make the column of unknown fields."""
        if not self.pieces.extras:
            return _strings(pa.nulls(len(rows), pa.large_string()))
        self._count("sets with fields this version does not know", len(self.pieces.extras))
        texts = dict(self.pieces.extras)
        return _strings(pa.array([texts.get(row) for row in rows.tolist()], pa.large_string()))

    def _note(self, rows: Integers) -> None:
        """Count the rows that a reader should know of."""
        if self.pieces.zoneless:
            self._count("times without a zone, read as UTC", self.pieces.zoneless)
        times = np.bincount(self.pieces.code[rows], minlength=len(self.states))
        modes = self.table["data_backup_mode"]
        known = zip(self.table["status"], self.states, modes, times, strict=True)
        for status, state, mode, count in known:
            if state == "unknown" and count:
                self._count(f"sets whose status {status!r} is not recognised", int(count))
            if is_full(mode) is None and count:
                self._count(f"sets whose mode {mode!r} is not recognised", int(count))

    def _count(self, note: str, rows: int) -> None:
        """Add to the number of rows that a note is about."""
        self.notes[note] = self.notes.get(note, 0) + rows


def _ranks(values: Sequence[Any]) -> Integers:
    """Return the place of each value among the sorted ones; what is missing comes first."""
    place = {value: rank for rank, value in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([place.get(value, -1) for value in values], np.int64)


def _microseconds(instant: pd.Timestamp) -> int:
    """Return an instant as microseconds since 1970."""
    return int(instant.as_unit("us").asm8.astype(np.int64))


def _joined(pieces: list[Any], dtype: Any) -> Any:  # noqa: ANN401 - any numpy dtype
    """Return pieces as one array."""
    return np.concatenate(pieces) if pieces else np.empty(0, dtype)


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
