"""Fetch what an archive does not know yet, and commit it batch by batch."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from obanalytics.besides import Inventories, inventories
from obanalytics.dataset import (
    PAD,
    ids_of,
    instances_of,
    is_all,
    watch,
)
from obanalytics.errors import ApiError, DataError, ObanalyticsError
from obanalytics.flatten import Flattener
from obanalytics.frames import cluster_start
from obanalytics.inventories import KIND as INVENTORY
from obanalytics.inventories import REFUSED, WRITTEN, packed
from obanalytics.lake import bucket_of
from obanalytics.lakefiles import LABELS, SCHEMA
from obanalytics.ledger import CONTENT, FACTS, LEVELS, NAT, Asked, news, no_facts
from obanalytics.recall import DELISTED, FETCH, micros
from obanalytics.schema import as_instant
from obanalytics.turns import Before

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from obanalytics.client import Client, Page
    from obanalytics.lake import Lake, Snapshot
    from obanalytics.ledger import News
    from obanalytics.progress import Progress
    from obanalytics.turns import Plan
    from obanalytics.wire import ClusterSet

_log = logging.getLogger(__name__)

BATCH_ROWS, BATCH_INSTANCES = 200_000, 2_000
"""So many are committed at once; with fewer in all a run is one commit."""
PART_INSTANCES = 2_000
"""A new archive is dealt out so that about so many instances lie together."""
_UTC = SCHEMA.field("seen").type


@dataclass(frozen=True)
class Sync:
    """Tell how a run went.

    Parameters
    ----------
    run : int
        Its number in the list of fetches.
    as_of : Timestamp or None
        The newest answer's instant [UTC]; None where nobody answered.
    instances : tuple of str
        Who answered.
    failed : dict of str to str
        Who did not, each with the reason.
    resumed : tuple of str
        Whom an interrupted run had asked shortly before; they were not asked again.
    left : tuple of str
        Whose turn did not come before the deadline; the next run begins with them.
    delisted : tuple of str
        Who answered once, and is not listed by the project any more: said once.
    new, changed, went : int
        How many rows of cluster and tenant sets.
    sets, tenant_rows : int
        How many rows were listed.
    """

    run: int
    as_of: pd.Timestamp | None = None
    instances: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    resumed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    delisted: tuple[str, ...] = ()
    new: int = 0
    changed: int = 0
    went: int = 0
    sets: int = 0
    tenant_rows: int = 0

    def __str__(self) -> str:
        """Return one line for a log."""
        when = "never" if self.as_of is None else self.as_of.strftime("%Y-%m-%d %H:%M:%S UTC")
        total = sum(map(len, (self.instances, self.failed, self.resumed, self.left)))
        parts = [f"{len(self.instances)} of {total} instances answered, as of {when}"]
        parts += [f"{self.sets:,} cluster sets and {self.tenant_rows:,} tenant sets listed"]
        parts += [f"{self.new:,} new, {self.changed:,} changed, {self.went:,} gone"]
        for names, what in (
            (self.failed, "failed"),
            (self.resumed, "asked shortly before"),
            (self.left, "left for the next run"),
            (self.delisted, "not listed any more"),
        ):
            if names:
                parts.append(f"{len(names)} {what}")
        return "; ".join(parts)


@dataclass
class _Came:
    """What one instance answered."""

    pages: list[Page]
    seen: int


class Run:
    """One run of `Archive.sync`.

    Parameters
    ----------
    lake : Lake
        The archive's table; this process is its only writer.
    client : Client
        Whom to ask.
    plan : Plan
        What for.
    """

    def __init__(self, lake: Lake, client: Client, plan: Plan) -> None:
        self.lake, self.client, self.plan = lake, client, plan
        self.snapshot: Snapshot | None = lake.snapshot() if lake.exists else None
        self.number = 0 if self.snapshot is None else self.snapshot.version + 1
        self.parts = 1 if self.snapshot is None else self.snapshot.parts
        self.planned = 0
        self.ends = None if plan.seconds is None else monotonic() + plan.seconds
        self.failed: dict[str, str] = {}
        self.came: dict[str, _Came] = {}
        self.rows = 0
        self.committed: list[pd.DataFrame] = []
        self.since: dict[str, pd.Timestamp | None] = {}
        self.delisted: list[str] = []

    def go(
        self,
        wanted: str | Collection[str],
        progress: Progress | bool | None,  # noqa: FBT001
    ) -> Sync:
        """Ask every instance and commit what it answers.

        Parameters
        ----------
        wanted : str or collection of str
            The instances, or ``"all"``.
        progress : callable, bool or None
            As in `load`.

        Returns
        -------
        Sync
            How it went.
        """
        listed: Any = []
        if is_all(wanted) or self.plan.inventory:
            listed = instances_of(self.client, must=is_all(wanted))
        self.listed = listed
        ids = sorted(ids_of(wanted, listed, self.client))
        if self.snapshot is None:
            self.parts = power_of_two(len(ids) / PART_INSTANCES)
        ids.sort(key=lambda each: bucket_of(each, self.parts))  # a batch is of few parts
        before = self.before = Before.of(self.snapshot)
        if not self.plan.new_endpoint:
            before.check_endpoint(self.client.endpoint, ids, self.lake.root)
        if is_all(wanted):
            self.delisted = before.delisted(set(ids))
        self.since = before.starts(self.plan.since, ids)
        done = before.done(self.plan, set(ids))
        pending = [each for each in ids if each not in done]
        if not pending:  # everybody had a turn: whose is the longest ago comes first
            pending, done = sorted(ids, key=done.__getitem__), {}
        with ExitStack() as stack:
            told = watch(progress, len(pending), stack)
            self._walk(pending, told)
            said = [c.loc[c["ok"], "seen"].max() for c in self.committed if c["ok"].any()]
            newest = max(said, default=self.plan.now)
            # Where nobody said what time it is, nobody knows that their answers are fresh.
            stale = [
                each
                for each in ids
                if each in done and (newest is None or done[each] < newest - self.plan.resume)
            ]
            stale.sort(key=done.__getitem__)
            self._walk(stale, told)
        return self._result(ids, done)

    def _walk(self, ids: list[str], progress: Progress | None) -> None:
        """Ask some instances, side by side; those that are asked for as much, together."""
        self.planned += len(ids)
        for start in dict.fromkeys(self.since[each] for each in ids):
            self._ask([each for each in ids if self.since[each] == start], start, progress)

    def _ask(self, ids: list[str], start: pd.Timestamp | None, progress: Progress | None) -> None:
        """Ask some instances, side by side."""
        since, check = None if start is None else start - PAD, self.plan.check_download
        walk = self.client.walk(
            ids, since, None, check_download=check, on_page=progress, until=self.ends
        )
        try:
            for instance_id, pages in walk:
                self._take(instance_id, pages)
                if self.rows >= BATCH_ROWS or len(self.came) >= BATCH_INSTANCES:
                    self._commit()
        except KeyboardInterrupt:
            self._commit()  # the next run goes on from here
            raise
        finally:
            walk.close()
        self._commit()

    def _take(self, instance_id: str, pages: list[Page] | ObanalyticsError) -> None:
        """Keep what an instance answered until the next commit."""
        if isinstance(pages, ObanalyticsError):
            self.failed[instance_id] = str(pages)
            return
        dates = [as_instant(p.reply.date, "Date") for p in pages if p.reply.date is not None]
        if not dates and self.plan.now is None:
            self.failed[instance_id] = (
                "the service does not say when it answered (no Date header): give now="
            )
            return
        seen = max(dates) if dates else self.plan.now
        self.came[instance_id] = _Came(pages, micros(seen))
        self.rows += sum(1 + len(s.tenant_backup_set_list or ()) for p in pages for s in p.sets)

    def _commit(self) -> None:
        """Commit what came since the last one, all of it or nothing."""
        flattener = Flattener()
        for instance_id in list(self.came):
            mark = flattener.mark()
            try:
                for page in self.came[instance_id].pages:
                    flattener.add(page.sets, instance_id, f"page {page.number}")
            except DataError as error:
                flattener.rollback(mark)
                self.failed[instance_id] = str(error)
                del self.came[instance_id]
        if not self.came and not self._unsaid():
            return
        asked = {
            each: Asked(
                micros(self.since[each]), NAT, came.seen, untold(p.sets for p in came.pages)
            )
            for each, came in self.came.items()
        }
        frames = flattener.frames(download_checked=self.plan.check_download)
        facts, counts = merged(self.snapshot, frames, asked, self.number, self.parts)
        besides = self._besides(sorted(asked))
        fetches = self._fetches(frames, counts, besides)
        rows: dict[tuple[str, str], pa.Table] = {}
        tables = {**facts, "fetch": fetches, INVENTORY: besides.rows}
        if self.plan.keep_responses:
            tables["page"] = self._pages()
        for kind, table in tables.items():
            for bucket, part in dealt(table, self.parts):
                rows[kind, bucket] = part
        self.snapshot = self.lake.commit(rows, self.snapshot)
        self.committed.append(fetches.to_pandas())
        self.came, self.rows = {}, 0
        _log.debug("run %d: %d instances committed", self.number, len(asked))

    def _unsaid(self) -> list[str]:
        """Return who failed, or is listed no more, and is not in the list of fetches yet."""
        said = {each for table in self.committed for each in table["instance_id"]}
        return [each for each in (*self.failed, *self.delisted) if each not in said]

    def _besides(self, ids: list[str]) -> Inventories:
        """Ask for the tenants of instances, where that is wanted and there is time."""
        if not self.plan.inventory:
            return Inventories(packed([], self.number), {}, {})
        listed = self.listed
        if self.ends is not None and monotonic() >= self.ends:
            listed = ApiError("the deadline came first")
        return inventories(
            self.client, ids, listed, self.snapshot, self.before.fetches, self.number
        )

    def _fetches(
        self, frames: tuple[pd.DataFrame, pd.DataFrame], counts: pd.DataFrame, besides: Inventories
    ) -> pa.Table:
        """Return a row per instance that was asked."""
        ids = [*self.came, *self._unsaid()]
        errors = dict.fromkeys(self.delisted, DELISTED) | self.failed
        good = np.array([each in self.came for each in ids])
        seen = [self.came[each].seen if each in self.came else NAT for each in ids]
        if self.plan.now is not None:
            seen = [micros(self.plan.now) if each == NAT else each for each in seen]
        pages = [len(self.came[each].pages) if each in self.came else 0 for each in ids]
        listed = [frame["instance_id"].value_counts() for frame in frames]
        moment = pa.array(np.array(seen, np.int64), mask=np.array(seen) == NAT).cast(_UTC)
        whole = {name: counts[name].reindex(ids, fill_value=0) for name in counts}
        columns = {
            "run": pa.array([self.number] * len(ids), pa.int64()),
            "instance_id": pa.array(ids, pa.string()),
            "seen": moment,
            "asked_start": pa.array([self.since.get(each) for each in ids], _UTC),
            "asked_end": pa.nulls(len(ids), _UTC),
            "download_checked": pa.array([self.plan.check_download] * len(ids)),
            "ok": pa.array(good),
            "error": pa.array([errors.get(each) for each in ids], pa.string()),
            "endpoint": pa.array([self.client.endpoint] * len(ids), pa.string()),
            "planned": pa.array([self.planned] * len(ids), pa.int64()),
            "pages": pa.array(pages, pa.int64()),
            "sets": pa.array(listed[0].reindex(ids, fill_value=0).to_numpy(), pa.int64()),
            "tenant_rows": pa.array(listed[1].reindex(ids, fill_value=0).to_numpy(), pa.int64()),
            **{name: pa.array(values.to_numpy(), pa.int64()) for name, values in whole.items()},
        }
        columns[WRITTEN] = pa.array([besides.runs.get(each) for each in ids], pa.int64())
        columns[REFUSED] = pa.array([besides.refused.get(each) for each in ids], pa.string())
        return pa.table(columns).select(FETCH)

    def _pages(self) -> pa.Table:
        """Return the responses as they came."""
        every = [(i, came.seen, p) for i, came in self.came.items() for p in came.pages]
        moments = pa.array([seen for _, seen, _ in every], pa.int64()).cast(_UTC)
        return pa.table(
            {
                "run": pa.array([self.number] * len(every), pa.int64()),
                "instance_id": pa.array([i for i, _, _ in every], pa.string()),
                "seen": moments,
                "page": pa.array([p.number for _, _, p in every], pa.int64()),
                "body": pa.array([p.reply.body for _, _, p in every], pa.binary()),
            }
        )

    def _result(self, ids: list[str], done: dict[str, pd.Timestamp]) -> Sync:
        """Say how the run went."""
        nothing = pd.DataFrame(columns=list(FETCH))
        told = pd.concat(self.committed, ignore_index=True) if self.committed else nothing
        good = told[told["ok"].astype(bool)]
        seen = good["seen"].max() if len(good) else None
        said = set(told["instance_id"])
        sums = {n: int(told[n].sum()) for n in ("new", "changed", "went", "sets", "tenant_rows")}
        return Sync(
            run=self.number,
            as_of=seen,
            instances=tuple(sorted(good["instance_id"])),
            failed=dict(sorted(self.failed.items())),
            resumed=tuple(each for each in sorted(done) if each not in said),
            left=tuple(sorted(set(ids) - said - set(done))),
            delisted=tuple(self.delisted),
            **sums,
        )


def untold(pages: Iterable[Iterable[ClusterSet]]) -> frozenset[str]:
    """Return the cluster sets that came without a word on their tenants, which is not: without any.

    Parameters
    ----------
    pages : iterable of iterable of ClusterSet
        What an instance answered.

    Returns
    -------
    frozenset of str
        Their ids.
    """
    return frozenset(
        each.backup_set_id
        for sets in pages
        for each in sets
        if each.tenant_backup_set_list is None and each.backup_set_id
    )


def merged(
    snapshot: Snapshot | None,
    frames: tuple[pd.DataFrame, pd.DataFrame],
    asked: dict[str, Asked],
    run: int,
    parts: int,
) -> tuple[dict[str, pa.Table], pd.DataFrame]:
    """Compare what came with what an archive knows.

    Parameters
    ----------
    snapshot : Snapshot or None
        The archive's table; None where there is none yet.
    frames : tuple of DataFrame
        What came: cluster and tenant sets.
    asked : dict of str to Asked
        What was asked of whom.
    run : int
        The number of the run.
    parts : int
        How many parts the instances are dealt out to.

    Returns
    -------
    facts : dict of str to pyarrow.Table
        The new facts by kind.
    counts : DataFrame
        By instance: `new`, `changed`, `went`.
    """
    begun = _oldest(frames, asked)
    known = {kind: _known(snapshot, kind, asked, parts, begun) for kind in LEVELS}
    found = facts_against(known, frames, asked, run)
    if begun is not None and any(each.counts["went"].any() for each in found.values()):
        # What seems to be gone may have a newer fact, of another start, that was passed by.
        known = {kind: _known(snapshot, kind, asked, parts, None) for kind in LEVELS}
        found = facts_against(known, frames, asked, run)
    counts = pd.concat([each.counts for each in found.values()])
    return {kind: each.facts for kind, each in found.items()}, counts.groupby(level=0).sum()


def _known(
    snapshot: Snapshot | None, kind: str, asked: dict[str, Asked], parts: int, begun: int | None
) -> pa.Table:
    """Read the facts of who was asked, of sets that began late enough."""
    if snapshot is None:
        return no_facts(kind)
    buckets = {bucket_of(each, parts) for each in asked}
    files = snapshot.of(kind, instance_ids=asked.keys(), buckets=buckets)
    return snapshot.read(files, FACTS[kind], instance_ids=asked.keys(), begun=begun)


def facts_against(
    known: dict[str, pa.Table],
    frames: tuple[pd.DataFrame, pd.DataFrame],
    asked: dict[str, Asked],
    run: int,
) -> dict[str, News]:
    """Compare both frames with what is known.

    Parameters
    ----------
    known : dict of str to pyarrow.Table
        Facts by kind.
    frames, asked, run
        As in `merged`.

    Returns
    -------
    dict of str to News
        By kind.
    """
    came = facts_of(*frames)
    return {kind: news(known[kind], came[kind], asked, kind, run) for kind in LEVELS}


def facts_of(clusters: pd.DataFrame, tenants: pd.DataFrame) -> dict[str, pa.Table]:
    """Return the content of two frames as Arrow tables.

    Parameters
    ----------
    clusters, tenants : DataFrame
        The two frames.

    Returns
    -------
    dict of str to pyarrow.Table
        By kind; without when they were seen.
    """
    made = {}
    for kind, frame in (("cluster", clusters), ("tenant", tenants)):
        columns = {name: _column(frame[name], name) for name in CONTENT[kind]}
        begun = frame["start_time"] if kind == "cluster" else cluster_start(clusters, tenants)
        made[kind] = pa.table({**columns, "begun": _column(begun, "begun")})
    return made


def _column(values: pd.Series, name: str) -> pa.Array:
    """Return one column of a frame as Arrow."""
    if name in LABELS:
        numbers = values.cat.codes.to_numpy().astype(np.int32)
        names = pa.array(values.cat.categories.astype("object"), pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(numbers, mask=numbers < 0), names)
    made = pa.Array.from_pandas(values)
    if isinstance(made, pa.ChunkedArray):
        made = made.combine_chunks()
    return made.cast(SCHEMA.field(name).type)


def _oldest(frames: tuple[pd.DataFrame, pd.DataFrame], asked: dict[str, Asked]) -> int | None:
    """Return from when on what is known matters; None: all of it."""
    asked_from = min((each.start for each in asked.values()), default=NAT)
    if asked_from == NAT:
        return None
    # A service that does not heed the window returns sets from before it: they are known, too.
    came = [
        micros(frame["start_time"].min()) for frame in frames if frame["start_time"].notna().any()
    ]
    return min([asked_from, *came])


def dealt(table: pa.Table, parts: int) -> Iterable[tuple[str, pa.Table]]:
    """Deal rows out to the parts that their instances lie in.

    Parameters
    ----------
    table : pyarrow.Table
        Rows with an `instance_id`.
    parts : int
        How many parts there are.

    Yields
    ------
    bucket : str
        The part.
    rows : pyarrow.Table
        Its rows, in their order.
    """
    if parts == 1:
        yield bucket_of("", 1), table
        return
    names = table["instance_id"].combine_chunks()
    if not pa.types.is_dictionary(names.type):
        names = names.dictionary_encode()
    if isinstance(names, pa.ChunkedArray):
        names = names.unify_dictionaries().combine_chunks()
    buckets = [bucket_of(each, parts) for each in names.dictionary.to_pylist()]
    which = sorted(set(buckets))
    number = np.array([which.index(each) for each in buckets], np.int64)
    of = number[names.indices.to_numpy(zero_copy_only=False)] if len(names) else np.empty(0)
    for place, bucket in enumerate(which):
        yield bucket, table.filter(pa.array(of == place))


def power_of_two(value: float) -> int:
    """Return the smallest power of two that is not less.

    Parameters
    ----------
    value : float
        Any number.

    Returns
    -------
    int
        At least 1.
    """
    return 1 << max(0, int(np.ceil(np.log2(max(value, 1)))))
