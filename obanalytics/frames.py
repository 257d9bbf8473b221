"""Say what is in every frame: columns, dtypes, units, key, meaning; make and check frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import pandas as pd
from pandas.api.types import union_categoricals

from obanalytics.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME = "datetime64[us, UTC]"
SPAN = "timedelta64[us]"
STATES = ("done", "running", "failed", "cancelled", "expired", "unknown")
# A set is one row per storage class that holds a copy of it.
KEY = ("instance_id", "backup_set_id", "storage_class")
# Rows of different tenants are never one set, whatever their ids.
KEYS = {"clusters": KEY, "tenants": (*KEY, "tenant_id")}
# Backup sets of these bring no tenant back.
PARTS_OF_A_TENANT = frozenset({"DATABASE", "TABLE"})
# The tenant that cluster sets stand in for where an instance lists no tenants.
STAND_IN = "sys"

Level: TypeAlias = Literal["clusters", "tenants", "restorable", "inventory"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a frame.

    Parameters
    ----------
    name : str
        The column's name, with the unit in it where there is one.
    dtype : str
        The pandas dtype.
    field : str
        The API's field, empty where the column is made here.
    meaning : str
        One sentence.
    """

    name: str
    dtype: str
    field: str = ""
    meaning: str = ""


_COMMON = (
    Column("instance_id", "category", "", "the cluster (instance) that was asked"),
    Column("cluster_backup_set_id", "string", "", "the cluster set that this tenant set is in"),
    Column("backup_set_id", "string", "backupSetId", "copies in two storage classes share it"),
    Column("tenant_id", "category", "tenantId", "join on this; cluster rows carry sys"),
    Column("tenant_name", "category", "tenantName", "a label; may change, may be shared"),
    Column("data_backup_mode", "category", "dataBackupMode", "raw value"),
    Column("full", "boolean", "", "True: full, False: incremental, NA: unknown mode"),
    Column("status", "category", "status", "raw value"),
    Column("state", "category", "", f"one of {', '.join(STATES)}"),
    Column("validity", "category", "validity", "raw value; only VALID is sound"),
    Column("start_time", TIME, "startTime", "when the run started [UTC]"),
    Column("end_time", TIME, "endTime", "when it ended [UTC]; NA while unfinished"),
    Column("checkpoint", TIME, "checkpoint", "the instant it restores to [UTC]"),
    Column("duration", SPAN, "", "end_time - start_time; NA while unfinished"),
    Column("size_gib", "float64", "dataBackupSize", "size [GiB], rounded by the server to 0.01"),
    Column("backup_mode", "category", "backupMode", "raw value"),
    Column("backup_object_type", "category", "backupObjectType", "raw value"),
    Column("trigger_mode", "category", "triggerMode", "raw value; BACKUP_NOW is by hand"),
    Column("storage_class", "category", "storageClass", "raw value"),
    Column("data_version", "Int64", "dataVersion", "not comparable between the two levels"),
    Column("download_enabled", "boolean", "downloadEnabled", "NA unless the check was asked for"),
    Column("download_task_id", "Int64", "downloadTaskId", "NA: no download task"),
    Column("tenant_sets", "int64", "tenantBackupSetList", "number of tenant sets listed in it"),
    Column("in_window", "bool", "", "False: before the window, kept as base of chains"),
    Column("extra", "string", "", "fields this version does not know, as JSON text"),
)
ARCHIVED = (
    Column("first_seen", TIME, "", "when an archive first saw the set [UTC]"),
    Column("gone_time", TIME, "", "when it was found gone [UTC]; NA while there"),
)
COLUMNS: dict[Level, tuple[Column, ...]] = {
    "clusters": tuple(c for c in _COMMON if c.name != "cluster_backup_set_id"),
    "tenants": tuple(c for c in _COMMON if c.name != "tenant_sets"),
    "restorable": (
        Column("instance_id", "category", "", "the instance that was asked"),
        Column("tenant_id", "category", "tenantId", "the tenant"),
        Column("start", TIME, "startTime", "the earliest restorable instant [UTC]"),
        Column("end", TIME, "endTime", "the latest restorable instant [UTC]"),
        Column("storage_class", "category", "storageType", "raw value"),
    ),
    "inventory": (
        Column("instance_id", "category", "instanceId", "the instance"),
        Column("instance_name", "string", "instanceName", "its label"),
        Column("instance_status", "category", "status", "raw value"),
        Column("tenant_id", "category", "tenantId", "NA where the instance has no tenant"),
        Column("tenant_name", "string", "tenantName", "its label"),
        Column("tenant_status", "category", "status", "raw value"),
        Column("created_time", TIME, "createTime", "when the tenant was created [UTC]"),
        Column("data_merge_time", "string", "dataMergeTime", "daily major compaction, as sent"),
    ),
}


def empty(level: Level) -> pd.DataFrame:
    """Return a frame without rows that has a level's columns and dtypes.

    Parameters
    ----------
    level : {"clusters", "tenants", "restorable", "inventory"}
        Which frame.

    Returns
    -------
    DataFrame
        No rows; the columns and dtypes of `COLUMNS[level]`.
    """
    return pd.DataFrame({c.name: _empty_column(c) for c in COLUMNS[level]})


def _empty_column(column: Column) -> pd.Series:
    """Return a column without values."""
    if column.dtype == "category":
        names = list(STATES) if column.name == "state" else []
        return pd.Series(pd.Categorical([], categories=pd.Index(names, dtype="str")))
    return pd.Series([], dtype=column.dtype)


def conform(frame: pd.DataFrame, level: Level) -> pd.DataFrame:
    """Return a frame with a level's dtypes, from one that ordinary pandas has changed.

    Columns that are missing are added as NA (`in_window` as True), except those without which
    nothing can be said: `instance_id`, `backup_set_id`, `tenant_id`, `state`, `start_time`.

    Parameters
    ----------
    frame : DataFrame
        A slice, a concatenation, or a frame read back from a file.
    level : {"clusters", "tenants", "restorable", "inventory"}
        Which frame it is.

    Returns
    -------
    DataFrame
        The same rows in the same order; the argument itself when nothing is to be changed.

    Raises
    ------
    DataError
        Names every column that is missing or cannot have its dtype.
    """
    wanted = COLUMNS[level]
    extra = [c for c in ARCHIVED if c.name in frame.columns]
    if all(c.name in frame.columns and _fits(frame[c.name], c) for c in (*wanted, *extra)):
        return frame
    problems: list[str] = []
    columns: dict[str, pd.Series] = {}
    for column in (*wanted, *extra):
        if column.name not in frame.columns:
            if column.name in {"instance_id", "backup_set_id", "tenant_id", "state", "start_time"}:
                problems.append(f"column {column.name} is missing")
                continue
            columns[column.name] = _missing_column(column, frame.index)
            continue
        try:
            columns[column.name] = _cast(frame[column.name], column)
        except (ValueError, TypeError) as error:
            problems.append(f"column {column.name} is no {column.dtype}: {error}")
    if problems:
        raise DataError(f"this is no {level} frame: " + "; ".join(problems))
    if "duration" not in frame.columns and "duration" in columns:
        columns["duration"] = (columns["end_time"] - columns["start_time"]).astype(SPAN)
    own = {name: frame[name] for name in frame.columns if name not in columns}
    return pd.DataFrame(columns | own, index=frame.index)


def check(frame: pd.DataFrame, level: Level) -> None:
    """Raise unless a frame is a valid frame of a level.

    Parameters
    ----------
    frame : DataFrame
        The frame.
    level : {"clusters", "tenants", "restorable", "inventory"}
        Which frame it should be.

    Raises
    ------
    DataError
        Lists every problem: columns missing, of another dtype, out of order; states that are none;
        ids that are missing; keys that occur twice.
    """
    wanted = COLUMNS[level]
    problems = [f"column {c.name} is missing" for c in wanted if c.name not in frame.columns]
    problems += [
        f"column {c.name} is {frame[c.name].dtype}, not {c.dtype}"
        for c in wanted
        if c.name in frame.columns and not _fits(frame[c.name], c)
    ]
    if not problems and [n for n in frame.columns if n in {c.name for c in wanted}] != [
        c.name for c in wanted
    ]:
        problems.append("columns are out of order")
    if not problems and level in {"clusters", "tenants"}:
        problems += _row_problems(frame, level)
    if problems:
        raise DataError(f"this is no {level} frame: " + "; ".join(problems))


def _row_problems(frame: pd.DataFrame, level: Level) -> list[str]:
    """List what is wrong with the rows of a frame whose columns are right."""
    problems = [
        f"{int(missing)} rows without {name}"
        for name in (
            "instance_id",
            "backup_set_id",
            *(("tenant_id",) if level == "tenants" else ()),
        )
        if (missing := frame[name].isna().sum())
    ]
    strange = frame["state"].isna() | ~frame["state"].isin(STATES)
    if strange.any():
        problems.append(f"{int(strange.sum())} rows whose state is none of {', '.join(STATES)}")
    if twice := int(frame.duplicated(list(KEYS[level])).sum()):
        problems.append(f"{twice} rows repeat a key ({', '.join(KEYS[level])})")
    return problems


def _fits(values: pd.Series, column: Column) -> bool:
    """Tell whether a column already has its dtype."""
    if column.dtype == "category":
        labels = getattr(values.dtype, "categories", None)
        return labels is not None and (not len(labels) or labels.inferred_type == "string")
    if column.dtype == "string":  # pandas has two kinds of text; ours has NA, not NaN
        return isinstance(values.dtype, pd.StringDtype) and values.dtype.na_value is pd.NA
    return bool(values.dtype == column.dtype)


def _cast(values: pd.Series, column: Column) -> pd.Series:
    """Return a column in its dtype; naive times are read as UTC."""
    if _fits(values, column):
        return values
    if column.dtype == TIME:
        if pd.api.types.is_numeric_dtype(values.dtype) and values.notna().any():
            raise TypeError("numbers are no instants: their unit would be a guess")
        form = {} if values.dtype.kind == "M" else {"format": "ISO8601"}
        return pd.to_datetime(values, utc=True, **form).astype(TIME)
    if column.dtype == "category":  # ids read back from CSV may be numbers
        made = values.astype("string").astype("category").cat
        return made.rename_categories(made.categories.astype("str"))
    return values.astype(column.dtype)


def _missing_column(column: Column, index: pd.Index) -> pd.Series:
    """Return a column of NA, or of what absence means."""
    if column.name == "in_window":
        return pd.Series(data=True, index=index)
    if column.name == "tenant_sets":
        return pd.Series(0, index=index, dtype="int64")
    if column.dtype == "category":
        return pd.Series(pd.Categorical([None] * len(index)), index=index)
    return pd.Series(pd.NA if column.dtype != "float64" else float("nan"), index, column.dtype)


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put frames of one level under each other, keeping categories categories.

    Parameters
    ----------
    frames : sequence of DataFrame
        At least one frame; all of the same level.

    Returns
    -------
    DataFrame
        All rows, numbered from 0.
    """
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    whole: dict[str, pd.Series] = {}
    for name in dict.fromkeys(name for frame in frames for name in frame.columns):
        parts = [
            f[name] if name in f else pd.Series(pd.NaT, f.index, TIME)  # archive's columns only
            for f in frames
        ]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            whole[name] = pd.Series(union_categoricals(parts, sort_categories=name != "state"))
        else:
            whole[name] = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(whole)


def arrange(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort a frame by instance, tenant, start and set id, rows without a start last.

    Parameters
    ----------
    frame : DataFrame
        A clusters or tenants frame.

    Returns
    -------
    DataFrame
        The same rows, numbered from 0.
    """
    by = ["instance_id", "tenant_id", "start_time", "backup_set_id", "storage_class"]
    keys = {
        name: frame[name].cat.reorder_categories(frame[name].cat.categories.sort_values())
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
        else frame[name]
        for name in by
    }
    codes = {
        n: k.cat.codes if isinstance(k.dtype, pd.CategoricalDtype) else k for n, k in keys.items()
    }
    order = pd.DataFrame(codes).sort_values(by, kind="stable").index
    return frame.reindex(order).reset_index(drop=True)


def merge(early: pd.DataFrame, late: pd.DataFrame) -> pd.DataFrame:
    """Merge two frames of one level.

    Parameters
    ----------
    early, late : DataFrame
        Two clusters or two tenants frames.

    Returns
    -------
    DataFrame
        All keys; of a key in both the row of `late`, inside the window if either was.
    """
    both = concat([early, late])
    keys = list(KEYS["clusters" if "tenant_sets" in both else "tenants"])
    inside = both.groupby(keys, observed=True, dropna=False)["in_window"].transform("max")
    both["in_window"] = inside.astype(bool)
    return both[~both.duplicated(keys, keep="last")]


def join(early: pd.DataFrame | None, late: pd.DataFrame | None) -> pd.DataFrame | None:
    """Put two optional tables together.

    Parameters
    ----------
    early, late : DataFrame or None
        Two restorable or two inventory tables.

    Returns
    -------
    DataFrame or None
        An instance's rows come from the later table that has the instance.
    """
    if early is None or late is None:
        return late if early is None else early
    rest = early[~early["instance_id"].isin(set(late["instance_id"]))]
    return concat([rest, late])


def cluster_start(clusters: pd.DataFrame, tenants: pd.DataFrame) -> pd.Series:
    """Return when the cluster set of every tenant row started.

    Parameters
    ----------
    clusters, tenants : DataFrame
        The two frames.

    Returns
    -------
    Series
        Instants along `tenants` [UTC]; a row's own start where it has no cluster set.
    """
    keys = ["instance_id", "backup_set_id"]
    starts = clusters.groupby(keys, observed=True)["start_time"].min()
    wanted = pd.MultiIndex.from_arrays(
        [tenants["instance_id"].astype("str"), tenants["cluster_backup_set_id"].astype("str")]
    )
    starts.index = pd.MultiIndex.from_arrays(
        [starts.index.get_level_values(k).astype("str") for k in keys]
    )
    found = starts.reindex(wanted)
    return pd.Series(found.array, index=tenants.index).fillna(tenants["start_time"])


def moved_in(frame: pd.DataFrame) -> pd.Series:
    """Return when copies came into their storage class after an archive had seen the set elsewhere.

    Parameters
    ----------
    frame : DataFrame
        A tenants frame.

    Returns
    -------
    Series
        `first_seen` of such copies alone, by their place in the frame [UTC]; empty where no archive
        looked.
    """
    if "first_seen" not in frame or len(frame["storage_class"].cat.categories) <= 1:
        return pd.Series([], pd.Index([], dtype="int64"), TIME)
    keys = ["instance_id", "tenant_id", "backup_set_id"]
    table = frame[[*keys, "first_seen"]].reset_index(drop=True)
    copies = table[table.duplicated(keys, keep=False)]
    first = copies.groupby(keys, observed=True)["first_seen"].transform("min")
    return copies.loc[copies["first_seen"] > first, "first_seen"]


def apply_window(
    frame: pd.DataFrame,
    begun: pd.Series,
    first: pd.Timestamp | None,
    last: pd.Timestamp | None,
) -> pd.DataFrame:
    """Drop what began after a window and mark what began before it.

    Parameters
    ----------
    frame : DataFrame
        A clusters or tenants frame.
    begun : Series
        When each row's cluster set started [UTC]; rows without a start count as inside.
    first, last : Timestamp or None
        The half-open bounds [UTC].

    Returns
    -------
    DataFrame
        The rows before `last`, with `in_window` telling which are not before `first`.
    """
    keep = pd.Series(data=True, index=frame.index) if last is None else ~(begun >= last)
    inside = True if first is None else ~(begun < first)[keep]
    return frame[keep].assign(in_window=inside).reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class Source:
    """Say where the facts come from and what is not among them.

    Parameters
    ----------
    instances : tuple of str
        The instances that were asked and answered.
    endpoint : str or None
        The service's address, when a service was asked.
    path : str or None
        The file or folder, when one was read.
    window_rule : str
        How the window was applied.
    failed : dict of str to str
        The instances that failed, each with the reason.
    notes : tuple of str
        What else a reader should know, such as a table that was refused.
    """

    instances: tuple[str, ...] = ()
    endpoint: str | None = None
    path: str | None = None
    window_rule: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __add__(self, other: Source) -> Source:
        """Return what both say, this one first; who failed the later time has failed."""
        instances = tuple(dict.fromkeys((*self.instances, *other.instances)))
        failed = {k: v for k, v in self.failed.items() if k not in other.instances} | other.failed
        return Source(
            instances,
            _both(self.endpoint, other.endpoint) or None,
            _both(self.path, other.path) or None,
            _both(self.window_rule, other.window_rule),
            failed,
            tuple(dict.fromkeys((*self.notes, *other.notes))),
        )


def _both(one: str | None, other: str | None) -> str:
    """Return two texts as one, without saying anything twice."""
    return "; ".join(dict.fromkeys(filter(None, (one, other))))


class Window(NamedTuple):
    """A half-open window; a bound that was not asked for is None."""

    start: pd.Timestamp | None
    end: pd.Timestamp | None


def joined_window(
    one: Window | None, other: Window | None, *, same_instances: bool
) -> tuple[Window | None, str]:
    """Return the window of facts that were merged of two.

    Parameters
    ----------
    one, other : Window or None
        What the earlier and the later facts cover; None is not limited.
    same_instances : bool
        Whether both are of the same instances.

    Returns
    -------
    window : Window or None
        What both cover together.
    note : str
        Where they leave a hole, or cover different instances differently, what one part covers
        and the other does not would look like a gap: then what both cover, else what the later
        covers, is the window, and this says so. Empty otherwise.
    """
    if one is None or other is None or one == other:
        return (one if one == other else None), ""
    first, second = sorted((one, other), key=lambda w: (w.start is not None, w.start or 0))
    touch = first.end is None or second.start is None or first.end >= second.start
    if touch and same_instances:
        ends = [w.end for w in (first, second)]
        end = None if None in ends else max(e for e in ends if e is not None)
        return Window(first.start, end), ""
    both = overlap(one, other)
    if both.start is not None and both.end is not None and both.end <= both.start:
        both = other
    texts = [" to ".join(map(instant_text, window)) for window in (one, other, both)]
    return both, "the parts cover {} and {}; analyses look at {}".format(*texts)


def overlap(one: Window, other: Window) -> Window:
    """Return what two windows share.

    Parameters
    ----------
    one, other : Window
        The windows.

    Returns
    -------
    Window
        Ends before it starts where they share nothing.
    """
    starts = [bound for bound in (one.start, other.start) if bound is not None]
    ends = [bound for bound in (one.end, other.end) if bound is not None]
    return Window(max(starts, default=None), min(ends, default=None))


def is_inside(begun: pd.Series, window: Window | None) -> pd.Series:
    """Tell which sets began in a window.

    Parameters
    ----------
    begun : Series
        When each row's cluster set started [UTC]; rows without a start count as inside.
    window : Window or None
        The window; None is not limited.

    Returns
    -------
    Series
        Booleans.
    """
    start, end = window or Window(None, None)
    inside = pd.Series(data=True, index=begun.index)
    if start is not None:
        inside &= ~(begun < start)
    if end is not None:
        inside &= ~(begun >= end)
    return inside


def newest_time(*frames: pd.DataFrame) -> pd.Timestamp | None:
    """Return the newest start, end or checkpoint in frames.

    Parameters
    ----------
    *frames : DataFrame
        Clusters or tenants frames.

    Returns
    -------
    Timestamp or None
        None where no row has a time.
    """
    columns = ["start_time", "end_time", "checkpoint"]
    found = [newest for each in frames if pd.notna(newest := each[columns].max().max())]
    return max(found, default=None)


def instant_text(value: pd.Timestamp | None) -> str:
    """Return an instant as text, or a dash.

    Parameters
    ----------
    value : Timestamp or None
        The instant [UTC].

    Returns
    -------
    str
        To the minute.
    """
    return "—" if value is None or pd.isna(value) else value.strftime("%Y-%m-%d %H:%M UTC")
