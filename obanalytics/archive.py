"""Keep what the service said, and when: it forgets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pandas as pd

from obanalytics.lake import Lake
from obanalytics.ledger import NAT
from obanalytics.movements import changes_of
from obanalytics.recall import book_of, fetches_of, micros, recall
from obanalytics.schema import as_duration, as_instant, window_of
from obanalytics.syncing import Run
from obanalytics.turns import Plan
from obanalytics.upkeep import compacted, loose, problems, rebuilt

if TYPE_CHECKING:
    from collections.abc import Collection

    from obanalytics.client import Client
    from obanalytics.lake import Snapshot
    from obanalytics.progress import Progress
    from obanalytics.schema import BackupSets, Duration, Instant
    from obanalytics.syncing import Sync

_AUTO_FILES = 200
"""With so many files a part that could be put together a sync ends with `compact`."""


class Archive:
    """A local history of what the service said, and when.

    Parameters
    ----------
    path : path
        Its folder; it need not exist before the first `sync`.

    Notes
    -----
    The folder is an append-only Delta Lake table that other engines read without this package. One
    process writes at a time, any number read meanwhile and see whole commits only.

    Examples
    --------
    >>> archive = ob.Archive("backups/")  # doctest: +SKIP
    >>> print(archive.sync(client, "all"))  # doctest: +SKIP
    >>> sets = archive.load(as_of="2026-05-01")  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.fspath(path):
            raise ValueError("an archive's path must name a folder")
        self._lake = Lake(path)

    @property
    def path(self) -> Any:  # noqa: ANN401 - a pathlib.Path
        """The archive's folder."""
        return self._lake.root

    def _must_exist(self) -> None:
        """Refuse a folder that is not there, instead of making it."""
        if not self.path.is_dir():
            self._lake.snapshot()

    def __repr__(self) -> str:
        """Return the folder, and what was asked when."""
        if not self._lake.exists:
            return f"<Archive {self.path}: nothing synced yet>"
        fetches = self.fetches()
        good = fetches[fetches["ok"]]
        if good.empty:
            return f"<Archive {self.path}: no fetch was answered yet>"
        first, last = (
            f"{each:%Y-%m-%d %H:%M}" for each in (good["seen"].min(), good["seen"].max())
        )
        instances = good["instance_id"].nunique()
        return f"<Archive {self.path}: {instances} instances, {first} to {last} UTC>"

    def sync(  # noqa: PLR0913 - each is a question that only the caller can answer
        self,
        client: Client,
        instance_ids: str | Collection[str],
        since: Instant | None = None,
        *,
        check_download: bool = False,
        inventory: bool = False,
        keep_responses: bool = True,
        deadline: Duration | None = None,
        resume: Duration = "6h",
        wait: Duration = "0s",
        now: Instant | None = None,
        new_endpoint: bool = False,
        progress: Progress | bool | None = None,
    ) -> Sync:
        """Ask the service, and keep what is new, what changed, and what is not there any more.

        Parameters
        ----------
        client : Client
            Whom to ask.
        instance_ids : str or collection of str
            One instance id, several, or ``"all"`` for every instance of the project.
        since : instant or None
            Ask only for sets that began from here on; None asks for everything, since any set may
            have changed or gone. What began earlier is neither seen nor missed. An instance whose
            last answer is older is asked from two days before that on: no time is left out.
        check_download : bool
            Ask the server to check which sets can be downloaded; slower.
        inventory : bool
            Ask for the names and status of instances and tenants, too, so that those without any
            backup set are known: one more request of each instance.
        keep_responses : bool
            Keep the responses, compressed, so that `rebuild` can read them anew.
        deadline : duration or None
            Stop asking after so long; the next run goes on with whose turn did not come.
        resume : duration
            Whom a run that was interrupted asked not longer ago than this is not asked again.
        wait : duration
            How long to wait for another writer.
        now : instant or None
            The instant to note where the service does not say when it answered.
        new_endpoint : bool
            Take the answers though another host answered for these instances before.
        progress : callable, bool or None
            As in `load`.

        Returns
        -------
        Sync
            Who answered, who failed and why, and how many rows came, changed and went.

        Raises
        ------
        ArchiveError
            When another process is writing, the folder cannot be written, or another host answered
            for an instance before: what the folder held is intact.
        ObanalyticsError
            When the list of instances cannot be had; an instance that fails is in the result.
        ValueError
            When an argument is no id, instant or duration.

        Notes
        -----
        Instances are committed together, 2,000 or about 200,000 rows at a time: a commit is
        seen whole or not at all.
        """
        plan = Plan(
            since=None if since is None else as_instant(since, "since"),
            check_download=check_download,
            keep_responses=keep_responses,
            resume=as_duration(resume, "resume"),
            seconds=None if deadline is None else as_duration(deadline, "deadline").total_seconds(),
            now=None if now is None else as_instant(now, "now"),
            new_endpoint=new_endpoint,
            inventory=inventory,
        )
        if plan.since is not None and plan.now is not None and plan.since > plan.now:
            raise ValueError(f"since lies ahead: {since!r}, and now is {plan.now.isoformat()}")
        patience = as_duration(wait, "wait").total_seconds()
        with self._lake.writing(patience):
            run = Run(self._lake, client, plan)
            result = run.go(instance_ids, progress)
            state = run.snapshot
            if state is not None and loose(state) > _AUTO_FILES * state.parts:
                compacted(self._lake, state, state.parts)
        return result

    def load(
        self,
        as_of: Instant | None = None,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        instance_ids: str | Collection[str] | None = None,
        lookback: Duration = "35D",
        stale: Duration | None = None,
    ) -> BackupSets:
        """Return every set that was seen, as it was known at an instant.

        Parameters
        ----------
        as_of : instant or None
            The instant; None is the newest fetch's [UTC].
        start, end : instant or None
            Half-open window on the start of the cluster backup sets, as in `obanalytics.load`.
        instance_ids : str, collection of str, or None
            The instances; None is all that were ever asked.
        lookback : duration
            How far before `start` sets are kept as base of chains, with `in_window` False.
        stale : duration or None
            Leave instances out that answered last so much before the newest answer, or whose newest
            fetch failed, and name them in `.source.failed`: nobody knows how they are now. (Those
            that the project lists no more are named in the notes: they did not fail.) None keeps
            every set that was seen; analyses look at all of them from one instant, so that time in
            which an instance was not asked looks like a gap.

        Returns
        -------
        BackupSets
            With `first_seen` and `gone_time`: sets that went stay, with when they were found gone.
            `as_of` is the newest answer's instant that is not later than the one asked for.

        Raises
        ------
        ArchiveError
            When nothing was synced, or nothing by then.
        ValueError
            When an instance was never asked, or an argument is no instant.
        """
        ids = None
        if instance_ids is not None:
            ids = [instance_ids] if isinstance(instance_ids, str) else list(instance_ids)
        then = None if as_of is None else as_instant(as_of, "as_of")
        back = as_duration(lookback, "lookback")
        old = None if stale is None else as_duration(stale, "stale")
        return recall(self._lake, then, window_of(start, end), back, ids, old)

    def changes(
        self,
        since: Instant | None = None,
        until: Instant | None = None,
        *,
        instance_ids: str | Collection[str] | None = None,
    ) -> pd.DataFrame:
        """List which sets came, went, moved or changed.

        Parameters
        ----------
        since, until : instant or None
            What was seen after `since` and not after `until` [UTC]; None is no limit.
        instance_ids : str, collection of str, or None
            The instances; None is all.

        Returns
        -------
        DataFrame
            A row per event, by `seen`: `what` is ``new``, ``changed``, ``gone``, ``back`` or
            ``moved`` (to another storage class); a change has `field`, `before` and `after`.
        """
        ids = [instance_ids] if isinstance(instance_ids, str) else instance_ids
        ids = None if ids is None else list(ids)
        low = NAT if since is None else micros(as_instant(since, "since"))
        high = {} if until is None else {"until": micros(as_instant(until, "until"))}

        def read(snapshot: Snapshot) -> pd.DataFrame:
            fetches_of(snapshot, ids, must=True)
            tables = [
                changes_of(book_of(snapshot, kind, ids), low, **high)
                for kind in ("cluster", "tenant")
            ]
            whole = pd.concat(tables, ignore_index=True)
            by = ["seen", "instance_id", "level", "tenant_id", "start_time", "backup_set_id"]
            return whole.sort_values(by, kind="stable", ignore_index=True)

        made: pd.DataFrame = self._lake.reading(read)
        return made

    def fetches(self) -> pd.DataFrame:
        """List which run asked which instance for what, and how it went.

        Returns
        -------
        DataFrame
            A row per run and instance: `seen`, when it answered; `asked_start` and `asked_end`, NA
            where the fetch had no limit; `ok`, `error`; how many rows were listed, new, changed
            and went.
        """
        made: pd.DataFrame = self._lake.reading(fetches_of)
        return made

    def check(self) -> pd.DataFrame:
        """Look whether everything is there and fits together; change nothing.

        Returns
        -------
        DataFrame
            A row per problem: `severity` (``error`` or ``note``), `file`, `problem`. Sound
            archives have no error.
        """
        made: pd.DataFrame = self._lake.reading(lambda snapshot: problems(self._lake, snapshot))
        return made

    def compact(self, parts: int | None = None, *, wait: Duration = "0s") -> int:
        """Put the facts of every part into one file, sorted: smaller, and faster to read.

        Nothing is forgotten. Files that are not needed any more go with the next `compact`, so
        that whoever reads meanwhile can go on.

        Parameters
        ----------
        parts : int or None
            Into how many parts to deal the instances out; None chooses by the number of rows.
        wait : duration
            How long to wait for another writer.

        Returns
        -------
        int
            How many files the archive has now.
        """
        if parts is not None and (not isinstance(parts, int) or not 1 <= parts <= 4096):  # noqa: PLR2004
            raise ValueError(f"parts must be a whole number from 1 to 4096, not {parts!r}")
        self._must_exist()
        with self._lake.writing(as_duration(wait, "wait").total_seconds()):
            return len(compacted(self._lake, self._lake.snapshot(), parts).files)

    def rebuild(self, *, wait: Duration = "0s") -> int:
        """Make all facts anew out of the responses that were kept, in one go.

        Parameters
        ----------
        wait : duration
            How long to wait for another writer.

        Returns
        -------
        int
            How many facts there are now.

        Raises
        ------
        ArchiveError
            When responses were not kept: nothing has changed then.
        """
        self._must_exist()
        with self._lake.writing(as_duration(wait, "wait").total_seconds()):
            return rebuilt(self._lake, self._lake.snapshot())
