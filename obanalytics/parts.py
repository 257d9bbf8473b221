"""Deal the instances of an archive out into parts that are read one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from obanalytics.errors import ArchiveError
from obanalytics.frames import instant_text
from obanalytics.inventories import KIND as INVENTORY
from obanalytics.inventories import WRITTEN, listed, written_by
from obanalytics.inventories import frame_of as inventory_of
from obanalytics.lake import bucket_of
from obanalytics.ledger import NAT, frame_of, ints
from obanalytics.recall import DELISTED, STALE, book_of, left_out, micros
from obanalytics.schema import BackupSets, Source, stand_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from obanalytics.lake import Snapshot
    from obanalytics.schema import Window

PART_ROWS = 1_000_000
"""About so many tenant rows are in memory at once."""
_NAMED = 5  # instances that an error names
_KINDS = ("cluster", "tenant")
_READ = frozenset({*_KINDS, INVENTORY})


@dataclass(frozen=True, slots=True)
class Asked:
    """Which facts of an archive are read.

    Parameters
    ----------
    as_of : Timestamp or None
        The instant; None is the newest fetch's [UTC].
    window : Window or None
        Bounds on the start of the cluster sets.
    lookback : Timedelta
        How far before the window sets are kept.
    instance_ids : frozenset of str or None
        The instances; None is all.
    stale : Timedelta or None
        Instances that answered last so much before the newest answer, or whose newest fetch failed,
        are left out; None keeps all.
    """

    as_of: pd.Timestamp | None
    window: Window | None
    lookback: pd.Timedelta
    instance_ids: frozenset[str] | None
    stale: pd.Timedelta | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Some whole instances of an archive, as one commit left it; small, and sent to workers.

    Parameters
    ----------
    name : str
        What errors call it.
    snapshot : Snapshot
        The files of its bucket, and no others.
    only : tuple of str or None
        The instances; None is every one of the bucket.
    answers : dict of str to Timestamp
        Those that answered, with when they last did [UTC].
    failed : dict of str to str
        Those that never did, or not for too long, with what they said last.
    newest : Timestamp
        The newest answer's instant, of the whole archive [UTC].
    inventory : dict of str to int, or None
        By which run the tenants of each instance were written; None where nobody asked.
    endpoint : str or None
        Who was asked.
    asked : Asked
        Which facts are read.
    """

    name: str
    snapshot: Snapshot
    only: tuple[str, ...] | None
    answers: dict[str, pd.Timestamp]
    failed: dict[str, str]
    newest: pd.Timestamp
    inventory: dict[str, int] | None
    endpoint: str | None
    asked: Asked

    def __str__(self) -> str:
        """Name it and its instances."""
        names = sorted([*self.answers, *self.failed])
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return f"part {self.name} (instances {', '.join(names[:_NAMED])}{more})"

    def load(self) -> BackupSets:
        """Read the facts.

        Returns
        -------
        BackupSets
            Those of the part's instances, as `Archive.load` returns them, of the whole's `as_of`.
        """
        asked, since, start, end = self.asked, NAT, NAT, NAT
        until = None if asked.as_of is None else micros(asked.as_of)
        rule = "no window: all that was ever seen"
        if asked.window is not None:
            start, end = micros(asked.window.start), micros(asked.window.end)
            if asked.window.start is not None:
                since = micros(asked.window.start - asked.lookback)
            rule = "cluster sets by start_time in [start, end); their tenant sets follow"
            if since != NAT:
                rule += f"; lookback to {pd.Timestamp(since, unit='us', tz='UTC').isoformat()}"
        clusters, tenants = (
            frame_of(book_of(self.snapshot, kind, self.only, until=until), since, start, end)
            for kind in _KINDS
        )
        known = self.inventory
        inventory = None if known is None else inventory_of(listed(self.snapshot, known))
        source = Source(
            instances=tuple(self.answers),
            endpoint=self.endpoint,
            path=str(self.snapshot.root),
            window_rule=rule,
            failed=self.failed,
        )
        told = {"window": asked.window, "as_of": self.newest, "source": source}
        return stand_in(BackupSets(clusters, tenants, inventory=inventory, **told))


def parts_of(
    snapshot: Snapshot, asked: Asked, count: int | None = None, *, at_least: int = 1
) -> list[Part]:
    """Deal the instances of an archive out.

    Parameters
    ----------
    snapshot : Snapshot
        The archive's table.
    asked : Asked
        Which facts are read.
    count : int or None
        Into how many parts, about; None chooses.
    at_least : int
        Into how many at least, where there are so many instances and it is left open.

    Returns
    -------
    list of Part
        Every instance that was asked is in one of them.

    Raises
    ------
    ArchiveError
        When nothing was answered by then.
    ValueError
        When an instance was never asked, or the count is no whole number above 0.
    """
    if count is not None and (not isinstance(count, int) or count < 1):
        raise ValueError(f"partitions must be a whole number from 1 on, not {count!r}")
    rolls = _rolls(snapshot, asked)
    newest = max(roll["seen"].max() for roll in rolls.values() if roll["seen"].notna().any())
    left = _left(rolls.values(), newest, asked)
    failed = _failed(rolls.values(), newest, asked)
    failed |= {name: why for name, why in left.items() if DELISTED not in why}
    endpoints = sorted({e for roll in rolls.values() for e in roll["endpoint"].dropna()})
    told = {"newest": newest, "endpoint": "; ".join(endpoints) or None, "asked": asked}
    shares = _shares(snapshot, rolls, count, at_least)
    asks = any({*roll.attrs["inventory"]} - {*left} for roll in rolls.values())
    parts: list[Part] = []
    for bucket, roll in rolls.items():
        files = tuple(f for f in snapshot.files if f.bucket == bucket and f.kind in _READ)
        mine = replace(snapshot, files=files)
        for number, rows in enumerate(np.array_split(np.arange(len(roll)), shares[bucket])):
            some = roll.iloc[rows]
            out = some["instance_id"].isin(left)
            good = some["seen"].notna() & ~out
            alone = len(some) == len(roll) and asked.instance_ids is None and not out.any()
            answered = set(some.loc[good, "instance_id"])
            parts.append(
                Part(
                    name=bucket if shares[bucket] == 1 else f"{bucket}, {number + 1}",
                    snapshot=mine,
                    only=None if alone else tuple(some.loc[~out, "instance_id"]),
                    answers=dict(some.loc[good, ["instance_id", "seen"]].itertuples(index=False)),
                    failed={n: failed[n] for n in some["instance_id"] if n in failed},
                    inventory=_of(answered, roll.attrs["inventory"]) if asks else None,
                    **told,
                )
            )
    parts = [each for each in parts if each.answers or each.failed]
    return sorted(parts, key=lambda each: not each.answers)  # what is typical comes first


def _rolls(snapshot: Snapshot, asked: Asked) -> dict[str, pd.DataFrame]:
    """Return the instances of every bucket in which some are that were asked for."""
    buckets = {f.bucket for f in snapshot.files if f.kind == "fetch"}
    if asked.instance_ids is not None:
        buckets &= {bucket_of(each, snapshot.parts) for each in asked.instance_ids}
    rolls = {each: _roll(snapshot, each, asked) for each in sorted(buckets)}
    _check_rolls(snapshot, asked, list(rolls.values()))
    return rolls


def _of(names: Collection[str], runs: dict[str, int]) -> dict[str, int]:
    """Return the runs of some instances."""
    return {name: run for name, run in runs.items() if name in names}


def _shares(
    snapshot: Snapshot, rolls: dict[str, pd.DataFrame], count: int | None, at_least: int
) -> dict[str, int]:
    """Return into how many parts each bucket is split."""
    rows = dict.fromkeys(rolls, 0)
    for file in snapshot.of("tenant", buckets=rolls):
        rows[file.bucket] += file.rows
    target = at_least if count is None else count
    each = math.ceil(target / max(len(rolls), 1))
    most = {bucket: max(len(roll), 1) for bucket, roll in rolls.items()}
    if count is None:
        return {b: min(max(each, math.ceil(rows[b] / PART_ROWS)), most[b]) for b in rolls}
    return {bucket: min(each, most[bucket]) for bucket in rolls}


_ROLL = ("run", "instance_id", "seen", "ok", "error", "endpoint", WRITTEN)


def _roll(snapshot: Snapshot, bucket: str, asked: Asked) -> pd.DataFrame:
    """Return the instances of a bucket: when each answered last, or what it said last."""
    ids = asked.instance_ids
    files = snapshot.of("fetch", instance_ids=ids, buckets=[bucket])
    table = snapshot.read(files, _ROLL, instance_ids=ids)
    seen = ints(table["seen"])
    if asked.as_of is not None:  # who was asked later only is not known yet
        early = seen <= micros(asked.as_of)  # `NAT` is: a fetch that failed has no instant
        table, seen = table.filter(pa.array(early)), seen[early]
    frame = table.select([n for n in _ROLL if n not in {"seen", "ok"}]).to_pandas()
    ok = table["ok"].to_numpy().astype(bool)
    frame = frame.assign(
        instance_id=frame["instance_id"].astype("object"), seen=np.where(ok, seen, NAT)
    )
    frame["endpoint"] = frame["endpoint"].where(ok)
    frame = frame.sort_values("run", kind="stable")
    by = frame.groupby("instance_id", sort=True)
    made = pd.DataFrame({"seen": by["seen"].max(), "endpoint": by["endpoint"].max()})
    made["seen"] = _instants(made["seen"])
    made = made.reset_index()
    some = frame[frame["seen"] != NAT]
    late = some[some["seen"] >= some["seen"].max() - STALE // pd.Timedelta(1, "us")]
    silent = frame[~frame["instance_id"].isin(set(some["instance_id"].unique()))]
    made.attrs = {
        "last_run": some["run"].max(),
        "recent": pd.DataFrame({"run": late["run"], "seen": _instants(late["seen"])}),
        "silent": silent[["instance_id", "run", "error"]],
        "told": frame[["instance_id", "run", "error"]],
        "inventory": written_by(some.drop_duplicates("instance_id", keep="last")),
    }
    return made


def _failed(rolls: Collection[pd.DataFrame], newest: pd.Timestamp, asked: Asked) -> dict[str, str]:
    """Return who never answered, and what they said; without those given up long ago."""
    recent = pd.concat([roll.attrs["recent"] for roll in rolls])
    silent = pd.concat([roll.attrs["silent"] for roll in rolls])
    keep = silent["run"] >= recent.loc[recent["seen"] >= newest - STALE, "run"].min()
    if asked.as_of is not None:  # what failed later is not known yet
        keep &= silent["run"] <= np.nanmax([roll.attrs["last_run"] for roll in rolls])
    last = silent[keep].drop_duplicates("instance_id", keep="last")
    errors = last["error"].astype("object").fillna("unknown")
    return dict(zip(last["instance_id"], errors, strict=True))


def _left(rolls: Collection[pd.DataFrame], newest: pd.Timestamp, asked: Asked) -> dict[str, str]:
    """Return of whom nobody knows how they are now, and what is the matter with them."""
    if asked.stale is None:
        return {}
    last_run = np.nanmax([roll.attrs["last_run"] for roll in rolls])
    answered = []
    for roll in rolls:
        told = roll.attrs["told"]
        if asked.as_of is not None:  # what failed later is not known yet
            told = told[told["run"] <= last_run]
        errors = told.drop_duplicates("instance_id", keep="last").set_index("instance_id")["error"]
        some = roll.loc[roll["seen"].notna(), ["instance_id", "seen"]]
        answered.append(some.assign(error=some["instance_id"].map(errors)))
    whole = pd.concat(answered)
    old = whole["seen"] < newest - asked.stale
    out = old | whole["error"].notna()
    # Where nobody answered any more, the newest answers are what there is to look from.
    rows = whole[old if out.all() else out]
    return {name: left_out(seen, why) for name, seen, why in rows.itertuples(index=False)}


def _instants(values: pd.Series) -> pd.DatetimeIndex:
    """Return microseconds since 1970 as instants."""
    return pd.DatetimeIndex(values.to_numpy(np.int64).view("M8[us]")).tz_localize("UTC")


def _check_rolls(snapshot: Snapshot, asked: Asked, rolls: list[pd.DataFrame]) -> None:
    """Refuse what `Archive.load` refuses."""
    if asked.instance_ids is not None:
        known = snapshot.read(
            snapshot.of("fetch", instance_ids=asked.instance_ids),
            ("instance_id",),
            instance_ids=asked.instance_ids,
        )
        strange = sorted(asked.instance_ids - set(known["instance_id"].unique().to_pylist()))
        if strange:
            raise ValueError(
                f"the archive {snapshot.root} never asked for instance {', '.join(strange)}; "
                "sync it first"
            )
    if not any(roll["seen"].notna().any() for roll in rolls):
        what = "holds no fetch that was answered"
        if asked.as_of is not None:
            what = f"knows nothing of {instant_text(asked.as_of)}: no fetch was answered by then"
        raise ArchiveError(f"the archive {snapshot.root} {what}")
