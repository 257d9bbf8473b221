"""Hold the facts: the frames with their window and source, and what was known at an instant."""

from __future__ import annotations

import datetime as dt
import html
import re
import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.errors import DataWarning
from obanalytics.frames import (
    COLUMNS,
    KEY,
    STAND_IN,
    STATES,
    Level,
    Source,
    Window,
    apply_window,
    arrange,
    check,
    cluster_start,
    concat,
    conform,
    empty,
    instant_text,
    is_inside,
    join,
    joined_window,
    merge,
    newest_time,
    overlap,
)
from obanalytics.store import read_folder, write_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

__all__ = [
    "COLUMNS",
    "KEY",
    "STAND_IN",
    "STATES",
    "BackupSets",
    "Duration",
    "Facts",
    "Instant",
    "Level",
    "Source",
    "Window",
    "as_duration",
    "as_instant",
    "check",
    "conform",
    "empty",
    "facts",
    "newest_time",
    "span",
    "window_of",
]

Instant: TypeAlias = str | dt.date | dt.datetime | np.datetime64 | pd.Timestamp
Duration: TypeAlias = str | dt.timedelta | np.timedelta64 | pd.Timedelta


def as_instant(value: Instant, name: str) -> pd.Timestamp:
    """Return a UTC instant of microsecond resolution.

    Naive datetimes are read as UTC; a date without a time is midnight UTC.

    Parameters
    ----------
    value : str, date, datetime, numpy.datetime64 or pandas.Timestamp
        The instant.
    name : str
        The argument's name, for the error message.

    Returns
    -------
    pandas.Timestamp
        The instant, in UTC, floored to the microsecond.

    Raises
    ------
    TypeError, ValueError
        When the value is no instant. Numbers are refused: their unit would be a guess.
    """
    if not isinstance(value, str | dt.date | np.datetime64):
        raise TypeError(
            f"{name} must be a date, a datetime or an ISO 8601 string, not {type(value).__name__}: "
            f"{value!r}"
        )
    try:
        stamp = pd.Timestamp(value)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        stamp = stamp.as_unit("us", round_ok=True)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"{name} is no instant: {value!r} (expected e.g. 2026-05-01)") from error
    if pd.isna(stamp):
        raise ValueError(f"{name} is no instant: {value!r} (expected e.g. 2026-05-01)")
    return stamp


def as_duration(value: Duration, name: str) -> pd.Timedelta:
    """Return a duration that is not negative.

    Parameters
    ----------
    value : str, timedelta, numpy.timedelta64 or pandas.Timedelta
        Anything `pandas.Timedelta` takes, except bare numbers: their unit would be a guess.
    name : str
        The argument's name, for the error message.

    Returns
    -------
    pandas.Timedelta
        The duration, in microseconds.

    Raises
    ------
    TypeError, ValueError
        When the value is no duration, or is negative.
    """
    if not isinstance(value, str | dt.timedelta | np.timedelta64):
        raise TypeError(
            f"{name} must be a duration such as '26h', not {type(value).__name__}: {value!r}"
        )
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", value):
        raise ValueError(f"{name} has no unit: {value!r} (expected e.g. '26h')")
    # pandas is giving up 1d for 1D; people are not.
    text = re.sub(r"(?<=[\d ])d(?![a-zA-Z])", "D", value) if isinstance(value, str) else value
    try:
        duration = pd.Timedelta(text)
        duration = duration if pd.isna(duration) else duration.as_unit("us", round_ok=True)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} is no duration: {value!r} (expected e.g. '26h')") from error
    if pd.isna(duration) or duration < pd.Timedelta(0):
        raise ValueError(f"{name} must be a duration of zero or more, not {value!r}")
    return duration


def window_of(start: Instant | None, end: Instant | None) -> Window | None:
    """Return a window of two bounds; a ValueError where it ends before it starts.

    Parameters
    ----------
    start, end : instant or None
        The bounds.

    Returns
    -------
    Window or None
        None without bounds.
    """
    given = ((start, "start"), (end, "end"))
    first, last = (None if each is None else as_instant(each, name) for each, name in given)
    if first is not None and last is not None and last < first:
        raise ValueError(f"the window ends before it starts: start {first}, end {last}")
    return None if first is None and last is None else Window(first, last)


class Facts(NamedTuple):
    """What an analysis works on; `clusters` is None where a plain tenants frame was given."""

    tenants: pd.DataFrame
    clusters: pd.DataFrame | None
    as_of: pd.Timestamp | None
    window: Window
    restorable: pd.DataFrame | None
    inventory: pd.DataFrame | None


def facts(sets: BackupSets | pd.DataFrame, as_of: Instant | None = None) -> Facts:
    """Return what was known at an instant, from backup sets or a plain tenants frame.

    An `as_of` before the facts drops the sets that started later and turns those that ended later
    into running ones.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    as_of : instant or None
        The instant; None takes `sets.as_of`, or the newest time in a plain frame [UTC].

    Returns
    -------
    Facts
        The frames and the instant they are true for.

    Raises
    ------
    DataError
        When a plain frame is no tenants frame.
    TypeError
        When `sets` is neither.
    """
    if isinstance(sets, BackupSets):
        frame, newest, window = sets.tenants, sets.as_of, sets.window or Window(None, None)
        others = (sets.clusters, sets.restorable, sets.inventory)
    elif isinstance(sets, pd.DataFrame):
        frame, window = conform(sets, "tenants"), Window(None, None)
        newest, others = newest_time(frame), (None,) * 3
    else:
        raise TypeError(f"expected BackupSets or a tenants frame, not {type(sets).__name__}")
    now = newest if as_of is None else as_instant(as_of, "as_of")
    clusters, restorable, inventory = others
    if now is not None:
        frame = _known_at(frame, now)
        clusters = None if clusters is None else _known_at(clusters, now)
    return Facts(frame, clusters, now, window, restorable, inventory)


def span(
    known: Facts, start: Instant | None = None, end: Instant | None = None
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return the bounds that an analysis covers.

    Parameters
    ----------
    known : Facts
        What `facts` returned.
    start, end : instant or None
        What the caller asked for; None takes the window of the facts [UTC].

    Returns
    -------
    start : Timestamp or None
        None means: from each tenant's first known row.
    end : Timestamp or None
        `as_of` where no end was given anywhere; None only where there is no `as_of` either.

    Raises
    ------
    ValueError
        When the end is before the start.
    """
    first = known.window.start if start is None else as_instant(start, "start")
    last = known.window.end if end is None else as_instant(end, "end")
    last = known.as_of if last is None else last
    if first is not None and last is not None and last < first:
        end_is_given = end is not None or known.window.end is not None
        name = "end" if end_is_given else "as_of, where it ends if no end is given,"
        raise ValueError(f"the window ends before it starts: start {first}, {name} {last}")
    return first, last


def _known_at(frame: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Return the rows as they were known at an instant; the frame itself when nothing was later."""
    later = frame["start_time"] > now
    if later.any():
        frame = frame[~later]
    open_then = frame["end_time"] > now
    if open_then.any():
        frame = frame.copy()
        frame["state"] = frame["state"].cat.set_categories(list(STATES))
        frame.loc[open_then, "state"] = "running"
        frame.loc[open_then, ["end_time", "checkpoint", "duration"]] = pd.NaT
        frame.loc[open_then, "size_gib"] = float("nan")
        frame.loc[open_then, "validity"] = None
    if "gone_time" in frame:
        gone_later = frame["gone_time"] > now
        if gone_later.any():
            frame = frame.assign(gone_time=frame["gone_time"].mask(gone_later))
    return frame


@dataclass(frozen=True, eq=False, slots=True)
class BackupSets:
    """Hold the backup sets of one or more instances, at both levels.

    `len()` counts cluster backup sets. `a + b` merges: of a set that both hold, the fact of the
    later `as_of` wins.

    Parameters
    ----------
    clusters : DataFrame
        One row per cluster backup set and storage class.
    tenants : DataFrame
        One row per tenant backup set and storage class.
    window : Window or None
        The start and end that were asked for [UTC].
    restorable : DataFrame or None
        The vendor's restorable intervals; None unless asked for.
    inventory : DataFrame or None
        Instances and tenants with names and status; None unless asked for.
    as_of : Timestamp or None
        The instant at which the facts were true [UTC].
    source : Source
        Where they come from, and what failed.
    """

    clusters: pd.DataFrame
    tenants: pd.DataFrame
    window: Window | None = None
    restorable: pd.DataFrame | None = None
    inventory: pd.DataFrame | None = None
    as_of: pd.Timestamp | None = None
    source: Source = field(default_factory=Source)

    def __len__(self) -> int:
        """Return the number of cluster backup sets."""
        return len(self.clusters)

    def __add__(self, other: BackupSets) -> BackupSets:
        """Merge with other facts: of a set in both, the fact of the later `as_of` wins."""
        if not isinstance(other, BackupSets):
            return NotImplemented
        in_order = self.as_of is None or (other.as_of is not None and self.as_of <= other.as_of)
        early, late = (self, other) if in_order else (other, self)
        same = set(early.source.instances) == set(late.source.instances)
        window, note = joined_window(early.window, late.window, same_instances=same)
        clusters = arrange(merge(early.clusters, late.clusters))
        tenants = arrange(merge(_without_stand_ins(early), _without_stand_ins(late)))
        source = early.source + late.source
        if note:
            warnings.warn(note, DataWarning, stacklevel=2)
            source = replace(source, notes=(*source.notes, note))
            begun = cluster_start(clusters, tenants)
            clusters = clusters.assign(in_window=is_inside(clusters["start_time"], window))
            tenants = tenants.assign(in_window=is_inside(begun, window))
        merged = replace(
            late,
            clusters=clusters,
            tenants=tenants,
            window=window,
            restorable=join(early.restorable, late.restorable),
            inventory=join(early.inventory, late.inventory),
            as_of=late.as_of if late.as_of is not None else early.as_of,
            source=source,
        )
        return stand_in(merged)

    def between(self, start: Instant | None = None, end: Instant | None = None) -> BackupSets:
        """Return the sets of a window, with what came before it as base of its chains.

        Parameters
        ----------
        start, end : instant or None
            Half-open bounds on the cluster set's `start_time`; tenant sets follow their cluster
            set; None, and what is outside of it, takes the window that was asked for [UTC].

        Returns
        -------
        BackupSets
            Rows from `end` on are left out; rows before `start` stay with `in_window` False.

        Raises
        ------
        ValueError
            When the end is before the start, or the window asked for has nothing of it.
        """
        first = None if start is None else as_instant(start, "start")
        last = None if end is None else as_instant(end, "end")
        if first is not None and last is not None and last < first:
            raise ValueError(f"the window ends before it starts: start {first}, end {last}")
        if self.window is not None:  # of what is beyond it nothing is known
            first, last = overlap(Window(first, last), self.window)
            if first is not None and last is not None and last < first:
                asked = " to ".join(map(instant_text, self.window))
                raise ValueError(f"nothing of start {start}, end {end} is in the window {asked}")
        begun = cluster_start(self.clusters, self.tenants)
        clusters = apply_window(self.clusters, self.clusters["start_time"], first, last)
        tenants = apply_window(self.tenants, begun, first, last)
        return replace(self, clusters=clusters, tenants=tenants, window=Window(first, last))

    def select(
        self,
        *,
        instance_ids: str | Collection[str] | None = None,
        tenants: str | Collection[str] | None = None,
    ) -> BackupSets:
        """Return the sets of some instances, or of some tenants.

        Parameters
        ----------
        instance_ids : str, collection of str, or None
            The instances to keep; None keeps all.
        tenants : str, collection of str, or None
            The ids or names of the tenants to keep; None keeps all. Cluster rows stay as they
            are for every instance that has one of them: their sizes are those of all tenants.

        Returns
        -------
        BackupSets
            The selection, in the same window; a ValueError where one is not in the data.
        """
        chosen = self
        if instance_ids is not None:
            known = {*self.clusters["instance_id"].dropna(), *self.tenants["instance_id"].dropna()}
            known |= {*self.source.instances, *self.source.failed}
            ids = _named(instance_ids, known, "instance")
            chosen = _only(chosen, "instance_id", ids)
        if tenants is not None:
            frame = chosen.tenants
            labels = {*frame["tenant_id"].dropna(), *frame["tenant_name"].dropna()}
            wanted = _named(tenants, labels, "tenant")
            hit = frame["tenant_id"].isin(wanted) | frame["tenant_name"].isin(wanted)
            pairs = set(frame.loc[hit, _TENANT].itertuples(index=False, name=None))
            chosen = _only(chosen, "instance_id", {instance for instance, _ in pairs})
            chosen = _only(chosen, "tenant_id", pairs)
        return chosen

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write everything into a folder: Parquet files and a small JSON, all or nothing.

        `obanalytics.read(folder)` gives back the same facts.

        Parameters
        ----------
        folder : path
            A new or empty folder, or one that holds an earlier save.

        Raises
        ------
        ArchiveError
            When the folder holds something else, or cannot be written.
        DataError
            When the frames are not valid, which `read` would refuse.
        """
        for level in ("clusters", "tenants"):
            check(getattr(self, level), level)  # what could not be read back is not written
        names = ("clusters", "tenants", "restorable", "inventory")
        frames = {n: f for n in names if (f := getattr(self, n)) is not None}
        manifest = {
            "as_of": None if self.as_of is None else self.as_of.isoformat(),
            "window": None
            if self.window is None
            else [None if bound is None else bound.isoformat() for bound in self.window],
            "source": asdict(self.source),
        }
        write_folder(folder, frames, manifest)

    def __repr__(self) -> str:
        """Return one screen of text."""
        return "\n".join(f"{name:<10}{text}" for name, text in _summary(self))

    def _repr_html_(self) -> str:
        """Return the same as a small table, for notebooks."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in _summary(self)
        )
        return f"<table><caption>obanalytics backup sets</caption><tbody>{rows}</tbody></table>"


def load_saved(folder: str | os.PathLike[str]) -> BackupSets:
    """Read back what `BackupSets.save` wrote.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    BackupSets
        The same facts.

    Raises
    ------
    ArchiveError
        When the folder is no complete save.
    DataError
        When its frames are not what this version expects.
    """
    frames, manifest = read_folder(folder)
    full: dict[str, Any] = {name: conform(frame, name) for name, frame in frames.items()}  # type: ignore[arg-type]
    for level in ("clusters", "tenants"):
        check(full[level], level)
    bounds = manifest["window"]
    source = manifest["source"]
    for name in ("instances", "notes"):
        source[name] = tuple(source[name])
    return BackupSets(
        **full,
        window=None
        if bounds is None
        else Window(*(None if b is None else as_instant(b, "window") for b in bounds)),
        as_of=None if manifest["as_of"] is None else as_instant(manifest["as_of"], "as_of"),
        source=Source(**source),
    )


def stand_in(sets: BackupSets) -> BackupSets:
    """Let cluster sets stand in as tenant `sys` where an instance lists no tenants at all.

    Parameters
    ----------
    sets : BackupSets
        The facts.

    Returns
    -------
    BackupSets
        The same where every instance lists tenants; a note in `source` names the others.
    """
    listing = set(sets.tenants["instance_id"].unique()) | set(
        sets.clusters.loc[sets.clusters["tenant_sets"] > 0, "instance_id"].unique()
    )
    lone = sets.clusters[~sets.clusters["instance_id"].isin(listing)]
    if lone.empty:
        return sets
    rows = conform(lone.drop(columns="tenant_sets"), "tenants")
    rows = rows.assign(
        cluster_backup_set_id=rows["backup_set_id"],
        tenant_id=pd.Categorical([STAND_IN] * len(rows)),
    )
    names = ", ".join(sorted(set(lone["instance_id"])))
    note = f"no cluster set lists tenants, so cluster sets stand in as tenant sys: {names}"
    notes = tuple(dict.fromkeys((*sets.source.notes, note)))
    tenants = arrange(concat([sets.tenants, rows[list(sets.tenants.columns)]]))
    return replace(sets, tenants=tenants, source=replace(sets.source, notes=notes))


def _without_stand_ins(sets: BackupSets) -> pd.DataFrame:
    """Return the tenant rows that are not cluster sets in disguise."""
    frame = sets.tenants
    disguised = (frame["tenant_id"] == STAND_IN) & (
        frame["backup_set_id"] == frame["cluster_backup_set_id"]
    ).fillna(value=False)
    return frame[~disguised] if disguised.any() else frame


_TENANT = ["instance_id", "tenant_id"]


def _only(sets: BackupSets, column: str, values: set[Any]) -> BackupSets:
    """Return the rows of some instances, or of pairs of an instance and a tenant."""
    changes: dict[str, Any] = {}
    for name in ("clusters", "tenants", "restorable", "inventory"):
        frame = getattr(sets, name)
        if frame is None or (column == "tenant_id" and name == "clusters"):
            continue
        if column == "tenant_id":
            whose = pd.MultiIndex.from_frame(frame[_TENANT].astype("object"))
            inside = whose.isin(list(values)) if len(frame) else np.zeros(0, bool)
        else:
            inside = frame[column].isin(values).to_numpy()
        keep = frame[inside].reset_index(drop=True)
        changes[name] = keep.assign(
            **{
                c: keep[c].cat.remove_unused_categories()
                for c in ("instance_id", "tenant_id", "tenant_name")
                if c in keep and isinstance(keep[c].dtype, pd.CategoricalDtype)
            }
        )
    if column == "instance_id":
        ids = tuple(i for i in sets.source.instances if i in values)
        failed = {i: why for i, why in sets.source.failed.items() if i in values}
        changes["source"] = replace(sets.source, instances=ids, failed=failed)
    return replace(sets, **changes)


def _named(wanted: str | Collection[str], known: set[str], what: str) -> set[str]:
    """Return the wanted names as a set, or say which of them are not there."""
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    if strange := sorted(names - known):
        there = ", ".join(sorted(known)[:20]) or "none"
        raise ValueError(
            f"no {what} {', '.join(map(repr, strange))} in the data; there is: {there}"
        )
    return names


def _summary(sets: BackupSets) -> list[tuple[str, str]]:
    """Return the few lines that describe the facts."""
    clusters, tenants = sets.clusters, sets.tenants
    pairs = len(tenants[["instance_id", "tenant_id"]].drop_duplicates())
    states = tenants["state"].value_counts()
    shown = ", ".join(f"{states[s]:,} {s}" for s in STATES if states.get(s, 0))
    outside = int((~tenants["in_window"]).sum())
    starts = tenants["start_time"]
    lines = [
        (
            "sets",
            f"{len(clusters):,} cluster sets, {len(tenants):,} tenant sets ({shown or 'none'})",
        ),
        ("of", f"{clusters['instance_id'].nunique()} instances, {pairs} tenants"),
        ("started", f"{instant_text(starts.min())} to {instant_text(starts.max())}"),
        (
            "window",
            "not limited" if sets.window is None else " to ".join(map(instant_text, sets.window)),
        ),
        ("as of", instant_text(sets.as_of)),
        ("from", sets.source.endpoint or sets.source.path or "memory"),
    ]
    if outside:
        lines.insert(1, ("lookback", f"{outside:,} of the tenant sets began before the window"))
    lines += [("failed", f"{name}: {why}") for name, why in list(sets.source.failed.items())[:5]]
    if (more := len(sets.source.failed) - 5) > 0:
        lines.append(("", f"and {more} more instances failed"))
    return lines + [("note", note) for note in sets.source.notes[:5]]
