"""Bring back from an archive what was known at an instant."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from obanalytics.errors import ArchiveError, DataWarning
from obanalytics.frames import Source, instant_text
from obanalytics.inventories import REFUSED, WRITTEN, lacking, listed, written_by
from obanalytics.inventories import frame_of as inventory_of
from obanalytics.lakefiles import SCHEMA
from obanalytics.ledger import FACTS, LEVELS, NAT, Book, frame_of, known_by
from obanalytics.schema import BackupSets, stand_in

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from obanalytics.frames import Window
    from obanalytics.lake import Lake, Snapshot

FETCH = (
    "run",
    "instance_id",
    "seen",
    "asked_start",
    "asked_end",
    "download_checked",
    "ok",
    "error",
    "endpoint",
    "planned",
    "pages",
    "sets",
    "tenant_rows",
    "new",
    "changed",
    "went",
    WRITTEN,
    REFUSED,
)
"""The columns of the list of fetches."""
STALE = pd.Timedelta(days=1)
"""How much older than the newest an instance's last answer may be without a note."""
DELISTED = "the project lists it no more"
"""What the list of fetches says of an instance that answered once and is not there any more."""
_MAX_NOTES = 5


def micros(instant: pd.Timestamp | None) -> int:
    """Return an instant as microseconds since 1970.

    Parameters
    ----------
    instant : Timestamp or None
        The instant [UTC].

    Returns
    -------
    int
        `NAT` for None.
    """
    return (
        NAT if instant is None or pd.isna(instant) else int(instant.as_unit("us").asm8.view("i8"))
    )


def book_of(
    snapshot: Snapshot,
    kind: str,
    instance_ids: Collection[str] | None = None,
    *,
    until: int | None = None,
    buckets: Collection[str] | None = None,
) -> Book:
    """Read the facts of one kind.

    Parameters
    ----------
    snapshot : Snapshot
        The archive's table.
    kind : str
        ``cluster`` or ``tenant``.
    instance_ids : collection of str or None
        The instances; None is all.
    until : int or None
        Only what was seen by then [µs since 1970]; None is all.
    buckets : collection of str or None
        The parts; None is all.

    Returns
    -------
    Book
        The facts, set by set.
    """
    files = snapshot.of(kind, instance_ids=instance_ids, buckets=buckets)
    # One file of each part, sorted: nothing can be elsewhere.
    keyed = all(f.keyed for f in files) and len({f.bucket for f in files}) == len(files)
    columns = [name for name in FACTS[kind] if name != "run"]
    facts = snapshot.read(files, columns, instance_ids=instance_ids)
    whole = until is None and instance_ids is None
    if until is not None:
        facts = known_by(facts, until)
    in_order = keyed and until is None and len(files) == 1
    return Book(facts, kind, keyed=keyed, in_order=in_order, whole=whole, sort=True)


def fetches_of(
    snapshot: Snapshot, instance_ids: Collection[str] | None = None, *, must: bool = False
) -> pd.DataFrame:
    """Return which fetch of which instance asked for what, and how it went.

    Parameters
    ----------
    snapshot : Snapshot
        The archive's table.
    instance_ids : collection of str or None
        The instances; None is all.
    must : bool
        Whether to raise a ValueError where one of them was never asked.

    Returns
    -------
    DataFrame
        A row per fetch of an instance, by `run` and `instance_id`; columns as in `FETCH`.
    """
    files = snapshot.of("fetch", instance_ids=instance_ids)
    table = snapshot.read(files, FETCH, instance_ids=instance_ids)
    frame = table.to_pandas()
    names = frame["instance_id"].astype("category").cat
    frame["instance_id"] = names.reorder_categories(names.categories.sort_values())
    for name in FETCH:
        kind = SCHEMA.field(name).type
        if pa.types.is_timestamp(kind):
            frame[name] = frame[name].astype("datetime64[us, UTC]")
        elif pa.types.is_boolean(kind):
            frame[name] = frame[name].astype("bool")
        elif name == WRITTEN:
            frame[name] = frame[name].astype("Int64")
        elif pa.types.is_integer(kind):
            frame[name] = frame[name].fillna(0).astype("int64")
        elif name != "instance_id":
            frame[name] = frame[name].astype("string")
    strange = sorted(set(instance_ids or ()) - set(frame["instance_id"].unique())) if must else []
    if strange:
        raise ValueError(
            f"the archive {snapshot.root} never asked for instance {', '.join(strange)}; sync it "
            "first"
        )
    return frame.sort_values(["run", "instance_id"], ignore_index=True)


def recall(
    lake: Lake,
    as_of: pd.Timestamp | None = None,
    window: Window | None = None,
    lookback: pd.Timedelta | None = None,
    instance_ids: Sequence[str] | None = None,
    stale: pd.Timedelta | None = None,
) -> BackupSets:
    """Return the sets as they were known at an instant.

    Parameters
    ----------
    lake : Lake
        The archive's table.
    as_of : Timestamp or None
        The instant [UTC]; None is the newest fetch's.
    window : Window or None
        The half-open window, by the start of the cluster set.
    lookback : Timedelta or None
        How far before the window sets are kept as base of chains; None keeps all.
    instance_ids : sequence of str or None
        The instances; None is all that were ever asked.
    stale : Timedelta or None
        Instances that answered last so much before the newest answer, or whose newest fetch failed,
        are left out; None keeps all.

    Returns
    -------
    BackupSets
        Every set that was seen by then, with `first_seen` and `gone_time`.

    Raises
    ------
    ArchiveError
        When there is no archive, or nothing was fetched by then.
    ValueError
        When an instance was never asked.
    """
    made: BackupSets = lake.reading(
        lambda snapshot: _recall(snapshot, as_of, window, lookback, instance_ids, stale)
    )
    return made


def _recall(
    snapshot: Snapshot,
    as_of: pd.Timestamp | None,
    window: Window | None,
    lookback: pd.Timedelta | None,
    instance_ids: Sequence[str] | None,
    stale: pd.Timedelta | None,
) -> BackupSets:
    """Read one snapshot."""
    fetches, answered = _answered(snapshot, as_of, instance_ids)
    failed = _failed(fetches, answered)
    left = _left(fetches, answered, stale)
    dropped = tuple(
        f"instance {name} is left out: {why}" for name, why in left.items() if DELISTED in why
    )
    if left:
        fetches, answered = (f[~f["instance_id"].isin(left)] for f in (fetches, answered))
        failed |= {name: why for name, why in left.items() if DELISTED not in why}
        instance_ids = sorted(answered["instance_id"].unique())
    since, start, end = NAT, NAT, NAT
    rule = "no window: all that was ever seen"
    if window is not None:
        start, end = micros(window.start), micros(window.end)
        rule = "cluster sets by start_time in [start, end); their tenant sets follow"
        if window.start is not None and lookback is not None:
            since = micros(window.start - lookback)
            rule += f"; lookback to {(window.start - lookback).isoformat()}"
    until = None if as_of is None else micros(as_of)

    def frame(kind: str) -> pd.DataFrame:
        return frame_of(book_of(snapshot, kind, instance_ids, until=until), since, start, end)

    with ThreadPoolExecutor(len(LEVELS)) as pool:
        frames: dict[str, Any] = dict(zip(LEVELS.values(), pool.map(frame, LEVELS), strict=True))
    last = answered.drop_duplicates("instance_id", keep="last")
    frames["inventory"], untold = _inventory(snapshot, last)
    told = _notes(fetches, answered, window)
    notes = (*dropped, *told, *untold, *_unrecognised(frames))
    source = Source(
        instances=tuple(sorted(answered["instance_id"].unique())),
        endpoint="; ".join(sorted(answered["endpoint"].dropna().unique())) or None,
        path=str(snapshot.root),
        window_rule=rule,
        failed=dict(sorted(failed.items())),
        notes=notes,
    )
    newest = last["seen"].max()
    return stand_in(BackupSets(**frames, window=window, as_of=newest, source=source))


def _inventory(
    snapshot: Snapshot, last: pd.DataFrame
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Return who there was by the newest fetch of each instance, and of whom it is not known."""
    runs = written_by(last)
    notes = [f"no inventory table of instance {name}: {why}" for name, why in lacking(last).items()]
    if len(notes) > _MAX_NOTES:
        notes[_MAX_NOTES:] = [f"nor of {len(notes) - _MAX_NOTES} more instances"]
    return inventory_of(listed(snapshot, runs)) if runs else None, tuple(notes)


def _answered(
    snapshot: Snapshot, as_of: pd.Timestamp | None, instance_ids: Sequence[str] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the fetches up to an instant, and those of them that were answered."""
    fetches = fetches_of(snapshot, instance_ids, must=True)
    answered = fetches[fetches["ok"]]
    if answered.empty:
        raise ArchiveError(f"the archive {snapshot.root} holds no fetch that was answered")
    if as_of is None:
        return fetches, answered
    known = answered[answered["seen"] <= as_of]
    if known.empty:
        raise ArchiveError(
            f"the archive {snapshot.root} knows nothing of {instant_text(as_of)}: its first "
            f"answered fetch is of {instant_text(answered['seen'].min())}"
        )
    # A fetch that failed has no instant: those of later runs are not known yet.
    failed = fetches["seen"].isna() & (fetches["run"] <= known["run"].max())
    return fetches[failed | (fetches["seen"] <= as_of)], known


def _failed(fetches: pd.DataFrame, answered: pd.DataFrame) -> dict[str, str]:
    """Return who never answered, and what they said; without those given up long ago."""
    never = fetches[~fetches["instance_id"].isin(set(answered["instance_id"].unique()))]
    runs = answered.loc[answered["seen"] >= answered["seen"].max() - STALE, "run"]
    last = never[never["run"] >= runs.min()].drop_duplicates("instance_id", keep="last")
    return dict(zip(last["instance_id"], last["error"].fillna("unknown"), strict=True))


def _left(
    fetches: pd.DataFrame, answered: pd.DataFrame, stale: pd.Timedelta | None
) -> dict[str, str]:
    """Return of whom nobody knows how they are now, and what is the matter with them."""
    if stale is None:
        return {}
    last = answered.groupby("instance_id", observed=True)["seen"].max()
    tail = fetches.drop_duplicates("instance_id", keep="last").set_index("instance_id")
    errors = tail["error"].reindex(last.index)
    old = last < last.max() - stale
    out = old | errors.notna()
    # Where nobody answered any more, the newest answers are what there is to look from.
    out = old if out.all() else out
    return {str(name): left_out(last[name], errors[name]) for name in last.index[out]}


def left_out(seen: pd.Timestamp, error: Any) -> str:  # noqa: ANN401 - text or none
    """Say what is the matter with an instance that answers no more.

    Parameters
    ----------
    seen : Timestamp
        Its last answer [UTC].
    error : str or NA
        What its last fetch failed of.

    Returns
    -------
    str
        One line.
    """
    why = "it was not asked since" if pd.isna(error) else f"since then: {error}"
    return f"answered last at {instant_text(seen)}; {why}"


def _notes(fetches: pd.DataFrame, answered: pd.DataFrame, window: Window | None) -> tuple[str, ...]:
    """Say of which instances the archive does not know everything that a reader expects."""
    newest = answered["seen"].max()
    last = answered.groupby("instance_id", observed=True)["seen"].max()
    notes = [
        f"instance {name} answered last at {instant_text(seen)}: what happened since was not "
        "asked, and is no gap by itself"
        for name, seen in last[last < newest - STALE].items()
    ]
    full = answered[answered["asked_start"].isna()]
    whole = full.groupby("instance_id", observed=True)["seen"].max()
    notes += [
        f"instance {name} was last asked for everything at {instant_text(seen)}: older sets that "
        "went since still count as there"
        for name, seen in whole[whole < last.reindex(whole.index) - STALE].items()
    ]
    tail = fetches.drop_duplicates("instance_id", keep="last")
    bad = tail[~tail["ok"] & tail["instance_id"].isin(set(last.index))]
    notes += [
        f"the newest fetch of instance {name} failed: {error}"
        if error != DELISTED
        else f"instance {name}: {DELISTED}"
        for name, error in zip(bad["instance_id"], bad["error"], strict=True)
    ]
    first = answered.assign(low=answered["asked_start"].fillna(pd.Timestamp(0, tz="UTC")))
    low = first.groupby("instance_id", observed=True)["low"].min()
    start = None if window is None else window.start
    notes += [
        f"instance {name} was asked for sets from {instant_text(since)} on only"
        for name, since in low.items()
        if since > pd.Timestamp(0, tz="UTC") and (start is None or since > start)
    ]
    if len(notes) > _MAX_NOTES:
        notes[_MAX_NOTES:] = [f"and {len(notes) - _MAX_NOTES} more notes of this kind"]
    return tuple(notes)


def _unrecognised(frames: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    """Count the rows of statuses and modes that this version does not know, as `load` does."""
    found: dict[str, int] = {}
    for frame in (frames[level] for level in LEVELS.values()):
        columns = {
            "status": frame.loc[frame["state"] == "unknown", "status"],
            "mode": frame.loc[frame["full"].isna(), "data_backup_mode"],
        }
        for what, values in columns.items():
            for value, count in values.value_counts(dropna=False).items():
                name = None if pd.isna(value) else value
                note = f"sets whose {what} {name!r} is not recognised"
                found[note] = found.get(note, 0) + (int(count) if count else 0)
    texts = tuple(f"{count} {note}" for note, count in found.items() if count)
    for text in texts:
        warnings.warn(text, DataWarning, stacklevel=2)
    return texts
