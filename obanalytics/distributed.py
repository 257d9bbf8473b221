"""Run analyses over an archive part by part: in a loop, or on the workers of an engine.

A part holds whole instances, so nothing is shuffled and only results move.
"""

from __future__ import annotations

import pickle
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from obanalytics.archive import Archive
from obanalytics.carry import Carried
from obanalytics.compliance import rpo_compliance
from obanalytics.coverage import coverage_gaps
from obanalytics.duration import duration_trends
from obanalytics.errors import MissingExtraError, ObanalyticsError
from obanalytics.fleet import examined, fleet_review
from obanalytics.frames import empty
from obanalytics.growth import size_growth
from obanalytics.joining import joined, rule_of
from obanalytics.lake import Lake
from obanalytics.parts import Asked, parts_of
from obanalytics.policy import Policy
from obanalytics.schema import BackupSets, Source, as_duration, as_instant, window_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator, Sequence

    from obanalytics.curve import Limits
    from obanalytics.fleet import FleetReview
    from obanalytics.lake import Snapshot
    from obanalytics.parts import Part
    from obanalytics.schema import Duration, Instant

    Place = str | os.PathLike[str] | Archive

_AHEAD = 1  # parts that are read while one is looked at
_FOR_WORKERS = 16  # parts, at least, where there is somebody to deal them out to


def map_instances(  # noqa: PLR0913 - what is run, where, and the arguments of Archive.load
    func: Callable[..., pd.DataFrame],
    archive_or_path: Place,
    client: Any = None,  # noqa: ANN401 - whoever has submit
    *,
    partitions: int | None = None,
    as_of: Instant | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    instance_ids: str | Collection[str] | None = None,
    lookback: Duration = "35D",
    stale: Duration | None = None,
    **kwargs: Any,  # noqa: ANN401 - func's own
) -> pd.DataFrame:
    """Run an analysis over an archive part by part, as if it were over all of it at once.

    Parameters
    ----------
    func : callable
        Takes `BackupSets` and returns a frame with a column `instance_id`, as the analyses do.
    archive_or_path : Archive or path
        The archive. Workers open it by its path: on other machines the folder must be shared.
    client : None, a Dask client, an executor, or str
        Where to run: None is here, one part after the other, while the next one is read; else
        whatever has `submit`, as a `dask.distributed.Client` and the executors of
        `concurrent.futures` do; a str is the address of a Dask scheduler.
    partitions : int or None
        Into how many parts to deal the instances out, about; None takes the archive's own, more
        where one has over a million rows or there are too few for the workers.
    as_of, start, end, instance_ids, lookback, stale
        As in `Archive.load`. They say which facts are read and are never handed to `func`; where
        it has parameters of these names, bind them: ``partial(ob.exposure, start="2026-05-01")``.
    **kwargs
        Handed to `func`.

    Returns
    -------
    DataFrame
        What ``func(archive.load(...), **kwargs)`` returns: the same rows in the same order, with
        the same `attrs`; frames that ride on `attrs` are made when they are asked for.

    Raises
    ------
    ArchiveError
        When nothing was synced, or nothing by `as_of`.
    MissingExtraError
        When a scheduler's address is given and Dask is not installed.
    ObanalyticsError
        When `func` fails on a part; it names the part's instances.
    TypeError
        When the client has no `submit`, or `func` returns no frame.
    ValueError
        When an instance was never asked, an argument is no instant or duration, or `func` is asked
        for what is of no single instance.

    Notes
    -----
    All parts are of one version of the archive and of one `as_of`, whatever is synced meanwhile.
    A function of one's own must look at each instance by itself and return rows by instance.
    """
    rule = rule_of(func, kwargs)
    asked = _asked(as_of, start, end, instance_ids, lookback, stale)
    lake = _lake(archive_or_path)

    def run(snapshot: Snapshot) -> pd.DataFrame:
        parts = parts_of(snapshot, asked, partitions, at_least=_FOR_WORKERS if client else 1)
        found = list(run_parts(rule.run, parts, client, _called(func)))
        made = joined(rule, found)
        return _riding(made, partial(_carried, rule, parts))

    made: pd.DataFrame = lake.reading(run)
    return made


def _asked(
    as_of: Instant | None,
    start: Instant | None,
    end: Instant | None,
    instance_ids: str | Collection[str] | None,
    lookback: Duration,
    stale: Duration | None,
) -> Asked:
    """Return the arguments of a load, checked."""
    ids = None
    if instance_ids is not None:
        ids = frozenset([instance_ids] if isinstance(instance_ids, str) else instance_ids)
    then = None if as_of is None else as_instant(as_of, "as_of")
    old = None if stale is None else as_duration(stale, "stale")
    return Asked(then, window_of(start, end), as_duration(lookback, "lookback"), ids, old)


def _lake(place: Place) -> Lake:
    """Return the archive's table."""
    return Lake(place.path if isinstance(place, Archive) else place)


def _called(func: Any) -> str:  # noqa: ANN401 - whatever can be called
    """Return the name of a function."""
    inner = func.func if isinstance(func, partial) else func
    return str(getattr(inner, "__name__", inner))


# --- running -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a function raised on a part; the reason where it can be sent."""

    text: str
    reason: Exception | None


def run_parts(
    run: Callable[[BackupSets], Any],
    parts: Sequence[Part],
    client: Any,  # noqa: ANN401 - whoever has submit
    name: str,
) -> Iterator[Any]:
    """Run something on every part.

    Parameters
    ----------
    run : callable
        Takes the facts of a part; a function of a module, or a partial of one.
    parts : sequence of Part
        The parts.
    client : None, a Dask client, an executor, or str
        Where.
    name : str
        What errors call it.

    Yields
    ------
    object
        What it returns, part by part, in their order.

    Raises
    ------
    MissingExtraError
        When a scheduler's address is given and Dask is not installed.
    ObanalyticsError
        When it fails on a part.
    TypeError
        When the client has no `submit`.
    """
    if client is None:
        for part, sets in _loaded(parts):
            yield _good(_run(run, sets), part, name)
        return
    if isinstance(client, str):
        with _connected(client) as found:
            yield from run_parts(run, parts, found, name)
        return
    if not callable(getattr(client, "submit", None)):
        raise TypeError(
            "client is a Dask client, an executor with submit, or a scheduler's address, not "
            f"{client!r}"
        )
    futures = [client.submit(_on, run, part) for part in parts]
    try:
        for future, part in zip(futures, parts, strict=True):
            yield _good(future.result(), part, name)
    finally:
        for future in futures:  # of what is done nothing happens
            future.cancel()


def _loaded(parts: Sequence[Part]) -> Iterator[tuple[Part, BackupSets]]:
    """Yield each part with its facts; meanwhile the next ones are read."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        coming = deque(pool.submit(part.load) for part in parts[:_AHEAD])
        try:
            for number, part in enumerate(parts):
                sets = coming.popleft().result()
                if number + _AHEAD < len(parts):
                    coming.append(pool.submit(parts[number + _AHEAD].load))
                yield part, sets
                del sets
        finally:
            for each in coming:
                each.cancel()


def _on(run: Callable[[BackupSets], Any], part: Part) -> Any:  # noqa: ANN401 - what it returns
    """Run something on one part, on a worker."""
    return _run(run, part.load())


def _run(run: Callable[[BackupSets], Any], sets: BackupSets) -> Any:  # noqa: ANN401
    """Return what a function returns, or how it failed."""
    try:
        return _light(run(sets))
    except Exception as error:  # noqa: BLE001 - it is raised where the parts are known
        text = f"{type(error).__name__}: {error}"
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        except Exception:  # noqa: BLE001 - whatever an error's own code does
            return _Failed(text, None)
        return _Failed(text, error)


def _light(result: Any) -> Any:  # noqa: ANN401
    """Let go of the frames that ride on a result: they hold on to the facts of the part."""
    if isinstance(result, pd.DataFrame):
        result.attrs = {
            name: _LATER if isinstance(value, Carried) else value
            for name, value in result.attrs.items()
        }
    return result


def _never() -> pd.DataFrame:
    """Stand for a frame that is made anew where it is asked for."""
    raise AssertionError


_LATER = Carried(_never)


def _good(result: Any, part: Part, name: str) -> Any:  # noqa: ANN401
    """Return a result, or raise what was raised, with the part's instances."""
    if isinstance(result, _Failed):
        raise ObanalyticsError(f"{name} failed on {part}: {result.text}") from result.reason
    return result


def _connected(address: str) -> Any:  # noqa: ANN401 - a Dask client
    """Connect to a Dask scheduler."""
    try:
        from distributed import Client  # noqa: PLC0415 - only who has a cluster needs it
    except ImportError:
        raise MissingExtraError(
            "a scheduler's address needs Dask: pip install 'obanalytics[distributed]'"
        ) from None
    return Client(address)  # type: ignore[no-untyped-call]


# --- ready forms ---------------------------------------------------------------------------------


def coverage(
    archive_or_path: Place,
    rpo: Limits,
    client: Any = None,  # noqa: ANN401 - whoever has submit
    *,
    total: bool = True,
    **options: Any,  # noqa: ANN401 - of map_instances and rpo_compliance
) -> pd.DataFrame:
    """Say of every tenant of an archive how much of the time it was inside its RPO.

    Parameters
    ----------
    archive_or_path, client
        As in `map_instances`.
    rpo, total
        As in `rpo_compliance`; the fleet's row is there unless it is refused.
    **options
        Those of `map_instances`, and `grace` and `trust_unknown`.

    Returns
    -------
    DataFrame
        As `rpo_compliance` returns it. For the gaps: ``map_instances(ob.coverage_gaps, ...)``.
    """
    return map_instances(rpo_compliance, archive_or_path, client, rpo=rpo, total=total, **options)


def gaps(
    archive_or_path: Place,
    rpo: Limits,
    client: Any = None,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> pd.DataFrame:
    """Find the gaps of every tenant of an archive.

    Parameters
    ----------
    archive_or_path, client
        As in `map_instances`.
    rpo
        As in `coverage_gaps`.
    **options
        Those of `map_instances`, and `grace` and `trust_unknown`.

    Returns
    -------
    DataFrame
        As `coverage_gaps` returns it.
    """
    return map_instances(coverage_gaps, archive_or_path, client, rpo=rpo, **options)


def growth(
    archive_or_path: Place,
    client: Any = None,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> pd.DataFrame:
    """Measure how the size of backup sets of an archive changes.

    Parameters
    ----------
    archive_or_path, client
        As in `map_instances`.
    **options
        Those of `map_instances`, and ``by`` ("tenant" or "cluster").

    Returns
    -------
    DataFrame
        As `size_growth` returns it.
    """
    return map_instances(size_growth, archive_or_path, client, **options)


def durations(
    archive_or_path: Place,
    client: Any = None,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> pd.DataFrame:
    """Measure how long the backups of an archive take.

    Parameters
    ----------
    archive_or_path, client
        As in `map_instances`.
    **options
        Those of `map_instances`, and ``by`` and ``freq``.

    Returns
    -------
    DataFrame
        As `duration_trends` returns it.
    """
    return map_instances(duration_trends, archive_or_path, client, **options)


def review(  # noqa: PLR0913 - what is owed, where it runs, and the arguments of Archive.load
    archive_or_path: Place,
    rpo: Limits | None = None,
    policy: Policy | None = None,
    client: Any = None,  # noqa: ANN401
    *,
    partitions: int | None = None,
    as_of: Instant | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    instance_ids: str | Collection[str] | None = None,
    lookback: Duration = "35D",
    stale: Duration | None = None,
) -> FleetReview:
    """Review a fleet, and rank its clusters and tenants.

    Parameters
    ----------
    archive_or_path, client, partitions, as_of, start, end, instance_ids, lookback, stale
        As in `map_instances`.
    rpo, policy
        As in `review`.

    Returns
    -------
    FleetReview
        Every number as `review` has it of all facts at once.

    Raises
    ------
    TypeError
        When the policy is none.
    ObanalyticsError
        As `map_instances`.

    Notes
    -----
    Findings need no instance but their own, so all kinds are judged that `findings` judges of the
    same facts. What `review` has and this has not: what is as long as the facts (parity, schedule,
    points for charts), and the forecast.
    """
    if policy is not None and not isinstance(policy, Policy):
        raise TypeError(f"policy is a Policy (Policy.load reads a file), not {policy!r}")
    asked = _asked(as_of, start, end, instance_ids, lookback, stale)

    def run(snapshot: Snapshot) -> FleetReview:
        parts = parts_of(snapshot, asked, partitions, at_least=_FOR_WORKERS if client else 1)
        found = list(run_parts(partial(examined, rpo=rpo, policy=policy), parts, client, "review"))
        answers = {name: seen for each in parts for name, seen in each.answers.items()}
        failed = {name: why for each in parts for name, why in each.failed.items()}
        source = Source(
            instances=tuple(sorted(answers)),
            path=str(snapshot.root),
            failed={name: failed[name] for name in sorted(failed)},
        )
        nothing = BackupSets(
            empty("clusters"), empty("tenants"), asked.window, as_of=parts[0].newest, source=source
        )
        return fleet_review(found, nothing, answers)

    made: FleetReview = _lake(archive_or_path).reading(run)
    return made


# --- frames that ride on attrs -------------------------------------------------------------------


def _riding(made: pd.DataFrame, again: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Let frames that ride on a result be made anew when they are asked for."""
    for name, value in made.attrs.items():
        if isinstance(value, Carried):
            made.attrs[name] = Carried(partial(again, name))
    return made


def _carried(rule: Any, parts: list[Part], name: str) -> pd.DataFrame:  # noqa: ANN401
    """Make a frame that rides on a result, part by part."""
    run = partial(_ridden, rule.run, name)
    return joined(rule.plain(), list(run_parts(run, parts, None, name)))


def _ridden(run: Callable[[BackupSets], pd.DataFrame], name: str, sets: BackupSets) -> Any:  # noqa: ANN401
    """Return a frame that rides on a result."""
    return run(sets).attrs[name].frame
