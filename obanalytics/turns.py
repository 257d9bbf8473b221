"""Tell by the runs before whom a run asks first, from when on, and of whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.errors import ArchiveError
from obanalytics.inventories import REFUSED, WRITTEN
from obanalytics.lakefiles import empty
from obanalytics.ledger import ints
from obanalytics.recall import DELISTED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from obanalytics.lake import Snapshot

_ASKED = (
    *("run", "instance_id", "seen", "asked_start", "download_checked", "ok", "planned", "error"),
    *("endpoint", WRITTEN, REFUSED),
)
OVERLAP = pd.Timedelta(days=2)
"""So much of the time before an instance's last answer is asked for again where that is needed."""


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Parameters
    ----------
    since : Timestamp or None
        Sets that began earlier are not asked for [UTC].
    check_download : bool
        Whether the server is asked to check downloads.
    keep_responses : bool
        Whether the responses are kept.
    resume : Timedelta
        What an interrupted run learned is not asked again while it is not older than this.
    seconds : float or None
        How long to go on; None is to the end.
    now : Timestamp or None
        The instant, where the service does not say [UTC].
    new_endpoint : bool
        Whether what answers now may answer under another name than before.
    inventory : bool
        Whether to ask for the tenants, too.
    """

    since: pd.Timestamp | None
    check_download: bool
    keep_responses: bool
    resume: pd.Timedelta
    seconds: float | None
    now: pd.Timestamp | None
    new_endpoint: bool = False
    inventory: bool = False


@dataclass(frozen=True)
class Before:
    """The runs before.

    Parameters
    ----------
    fetches : pyarrow.Table
        Whom they asked, for what, and how it went.
    """

    fetches: pa.Table

    @classmethod
    def of(cls, snapshot: Snapshot | None) -> Before:
        """Read them.

        Parameters
        ----------
        snapshot : Snapshot or None
            The archive's table; None where there is none yet.

        Returns
        -------
        Before
            The runs.
        """
        if snapshot is None:
            return cls(empty(_ASKED))
        return cls(snapshot.read(snapshot.of("fetch"), _ASKED).unify_dictionaries())

    def _last(self, *, good: bool) -> pd.DataFrame:
        """Return the newest fetch of each instance, or the newest that was answered."""
        some = self.fetches.filter(self.fetches["ok"]) if good else self.fetches
        frame = some.select(["run", "instance_id", "seen", "error", "endpoint"]).to_pandas()
        frame["instance_id"] = frame["instance_id"].astype("object")
        frame = frame.sort_values("run", kind="stable")
        return frame.drop_duplicates("instance_id", keep="last")

    def check_endpoint(self, endpoint: str, ids: Collection[str], root: Path) -> None:
        """Refuse a service that is not the one that answered before: its sets are others.

        Parameters
        ----------
        endpoint : str
            Who is asked now.
        ids : collection of str
            Of which instances.
        root : pathlib.Path
            The archive's folder.

        Raises
        ------
        ArchiveError
            When another host answered last for one of them, and nobody ever said that both are
            one service.
        """
        here = _host(endpoint)
        known = [each for each in self.fetches["endpoint"].unique().to_pylist() if each is not None]
        if all(_host(each) == here for each in known):
            return
        last = self._last(good=True)
        last = last[last["instance_id"].isin(set(ids))]
        hosts = last["endpoint"].map(_host)
        other = last[~hosts.isin(self._same(here))].sort_values("instance_id")
        if len(other):
            one = other.iloc[0]
            raise ArchiveError(
                f"{endpoint} is not who answered before: the archive {root} holds "
                f"{one['instance_id']} as {one['endpoint']} told of it ({len(other)} of "
                f"{len(ids)} instances). Sync into another folder, or, where this is the same "
                "service under another name, say so: new_endpoint=True, or --new-endpoint"
            )

    def _same(self, here: str) -> set[str]:
        """Return the hosts that were asked of an instance of which this one was asked, too."""
        pairs = self.fetches.select(["instance_id", "endpoint"]).group_by(
            ["instance_id", "endpoint"]
        )
        frame = pairs.aggregate([]).to_pandas().dropna()
        frame = frame.assign(host=frame["endpoint"].map(_host))
        mine = set(frame.loc[frame["host"] == here, "instance_id"])
        return {here, *frame.loc[frame["instance_id"].isin(mine), "host"]}

    def delisted(self, ids: Collection[str]) -> list[str]:
        """Return who answered once, is not listed any more, and of whom that was not noted yet.

        Parameters
        ----------
        ids : collection of str
            Who is listed.

        Returns
        -------
        list of str
            The instances.
        """
        answered = set(self._last(good=True)["instance_id"])
        last = self._last(good=False)
        noted = set(last.loc[last["error"] == DELISTED, "instance_id"])
        return sorted(answered - noted - set(ids))

    def starts(
        self, since: pd.Timestamp | None, ids: Sequence[str]
    ) -> dict[str, pd.Timestamp | None]:
        """Return from when on each instance is asked: no time since its last answer is left out.

        Parameters
        ----------
        since : Timestamp or None
            From when on sets are wanted [UTC]; None is all.
        ids : sequence of str
            The instances.

        Returns
        -------
        dict of str to Timestamp or None
            Not later than wanted.
        """
        if since is None:
            return dict.fromkeys(ids)
        last = self._last(good=True).set_index("instance_id")["seen"].astype("datetime64[us, UTC]")
        late = last[last < since] - OVERLAP
        return {each: late.get(each, since) for each in ids}

    def done(self, plan: Plan, ids: Collection[str]) -> dict[str, pd.Timestamp]:
        """Return whom the runs before asked, as far as they did not come to their end.

        Parameters
        ----------
        plan : Plan
            What is asked now: who was asked for less counts as not asked.
        ids : collection of str
            The instances.

        Returns
        -------
        dict of str to Timestamp
            When each answered [UTC].
        """
        done: dict[str, pd.Timestamp] = {}
        numbers = ints(self.fetches["run"])
        firsts = self._firsts(ids)
        for number in np.unique(numbers)[::-1]:
            run = self.fetches.filter(pa.array(numbers == number)).to_pandas()
            run = run[run["error"] != DELISTED]
            if run.empty or _asked_less(run, plan):
                continue  # such as the hourly runs between two nightly ones
            # Who was asked on purpose alone does not end what the others wait for.
            everybody = {name for name, first in firsts.items() if first <= number}
            whole = len(run) >= run["planned"].max() and everybody <= set(run["instance_id"])
            if whole or done.keys() >= set(ids):
                break
            good = run[run["ok"] & run["instance_id"].isin(set(ids))]
            found = zip(good["instance_id"].astype(str), good["seen"], strict=True)
            done = dict(found) | done
        return done

    def _firsts(self, ids: Collection[str]) -> dict[str, int]:
        """Return the first run that each of some instances answered."""
        some = self.fetches.filter(self.fetches["ok"]).select(["instance_id", "run"])
        first = some.group_by("instance_id").aggregate([("run", "min")])
        names = first["instance_id"].cast(pa.string())
        first = first.filter(pc.is_in(names, pa.array(sorted(ids), pa.string())))
        pairs = zip(first["instance_id"].to_pylist(), first["run_min"].to_pylist(), strict=True)
        return dict(pairs)


def _asked_less(run: pd.DataFrame, plan: Plan) -> bool:
    """Tell whether a run asked for less than is asked for now."""
    starts = run["asked_start"]
    late = starts.notna() if plan.since is None else starts > plan.since
    unasked = run["ok"] & run[WRITTEN].isna() & run[REFUSED].isna()
    other = (run["download_checked"] != plan.check_download).any()
    return bool(late.any() or other or (plan.inventory and unasked.any()))


def _host(endpoint: str) -> str:
    """Return whom an address names; a simulator on this machine has another port each time."""
    return (urlsplit(endpoint).hostname or endpoint).lower()
