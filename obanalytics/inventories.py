"""Keep in an archive which instances and tenants there are.

What an instance lists is written once for as long as it lists the same: the list of fetches tells
by which run it was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from obanalytics.frames import COLUMNS, conform, empty
from obanalytics.lakefiles import SCHEMA
from obanalytics.ledger import ints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obanalytics.lake import Snapshot

KIND: Final = "inventory"
"""What the rows are called in the archive's table."""
WRITTEN, REFUSED = "inventory_run", "inventory_error"
"""The columns of the list of fetches: by which run an instance's rows were written; or why none."""
_NAMES = tuple(column.name for column in COLUMNS["inventory"])
STORED = ("run", *_NAMES)
"""The columns in the archive's table."""


def packed(rows: Sequence[dict[str, Any]], run: int) -> pa.Table:
    """Return what instances list as rows of an archive.

    Parameters
    ----------
    rows : sequence of dict
        Keys as the columns of `BackupSets.inventory`.
    run : int
        The number of the run.

    Returns
    -------
    pyarrow.Table
        Columns as in `STORED`.
    """
    frame = conform(pd.DataFrame(rows), KIND) if rows else empty(KIND)
    columns = {"run": pa.array(np.full(len(frame), run), pa.int64())}
    for name in _NAMES:
        values = frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.astype("string")
        made = pa.Array.from_pandas(values)
        made = made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
        columns[name] = made.cast(SCHEMA.field(name).type)
    return pa.table(columns)


def listed(snapshot: Snapshot, runs: Mapping[str, int]) -> pa.Table:
    """Read what instances listed.

    Parameters
    ----------
    snapshot : Snapshot
        The archive's table.
    runs : mapping of str to int
        By which run the rows of each instance were written.

    Returns
    -------
    pyarrow.Table
        Columns as in `STORED`; by instance, the rows of each in the order in which they came.
    """
    files = snapshot.of(KIND, instance_ids=runs.keys())
    table = snapshot.read(files, STORED, instance_ids=runs.keys())
    if not len(table):
        return table
    names = pd.Categorical(table["instance_id"].cast(pa.string()).to_pandas())
    wanted = np.array([runs.get(each, -1) for each in names.categories], np.int64)
    rows = np.flatnonzero(wanted[names.codes] == ints(table["run"]))
    return table.take(pa.array(rows[np.argsort(names.codes[rows], kind="stable")]))


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return rows of an archive as `BackupSets.inventory` holds them.

    Parameters
    ----------
    table : pyarrow.Table
        As of `listed`.

    Returns
    -------
    DataFrame
        Columns and dtypes as in `COLUMNS`.
    """
    if not len(table):
        return empty(KIND)
    plain = [
        table[name].cast(pa.string()) if pa.types.is_dictionary(table[name].type) else table[name]
        for name in _NAMES
    ]
    return conform(pa.table(plain, names=list(_NAMES)).to_pandas(), KIND)


def by_instance(table: pa.Table) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of each instance as plain values, to compare them.

    Parameters
    ----------
    table : pyarrow.Table
        As of `packed` or `listed`.

    Returns
    -------
    dict of str to list of tuple
        Without the run.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    place = _NAMES.index("instance_id")
    for row in zip(*(table[name].to_pylist() for name in _NAMES), strict=True):
        found.setdefault(row[place], []).append(row)
    return found


def written_by(fetches: pd.DataFrame) -> dict[str, int]:
    """Return by which run the rows were written that instances listed last.

    Parameters
    ----------
    fetches : DataFrame
        The newest fetch of each instance.

    Returns
    -------
    dict of str to int
        Of those whose newest fetch has them.
    """
    told = fetches[fetches[WRITTEN].notna()]
    runs = told[WRITTEN].astype("int64")
    return dict(zip(told["instance_id"].astype("str"), runs.tolist(), strict=True))


def lacking(fetches: pd.DataFrame) -> dict[str, str]:
    """Return whose newest fetch lacks what was asked for, of them or of others, and why.

    Parameters
    ----------
    fetches : DataFrame
        The newest fetch of each instance.

    Returns
    -------
    dict of str to str
        Why, by instance.
    """
    bare = fetches[fetches[WRITTEN].isna()]
    if len(bare) == len(fetches) and bare[REFUSED].isna().all():
        return {}
    why = bare[REFUSED].fillna("its newest fetch did not ask for it")
    return dict(zip(bare["instance_id"].astype("str"), why, strict=True))
