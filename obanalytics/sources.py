"""Bring in what the command line names as sources: its options, and the backup sets they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from obanalytics.errors import ApiError, ObanalyticsError

if TYPE_CHECKING:
    import argparse

    from obanalytics.archive import Archive
    from obanalytics.client import Client
    from obanalytics.schema import BackupSets

SECRET = "OCEANBASE_ACCESS_KEY_SECRET"  # noqa: S105 - the variable's name
_STALE = "1D"
"""How much older than the newest an instance's last answer in an archive may be."""


def add_source(made: argparse.ArgumentParser, *, needed: bool = True) -> None:
    """Add the sources, and the options of their window and their service.

    Parameters
    ----------
    made : argparse.ArgumentParser
        The command.
    needed : bool
        Whether there must be one.
    """
    either = made.add_mutually_exclusive_group(required=needed)
    either.add_argument(
        "source",
        nargs="*",
        default=(),
        help="an archive, what fetch saved, saved responses (file, folder, zip), sample, instance "
        "ids, or all",
    )
    either.add_argument("--archive", metavar="FOLDER", help="the archive that sync writes")
    made.add_argument(
        "--instance",
        action="append",
        default=[],
        metavar="ID",
        help="only this one of an archive's, or of a file's; repeatable",
    )
    add_window(made)
    add_service(made)


def add_window(made: argparse.ArgumentParser) -> None:
    """Add the options of the time that is looked at.

    Parameters
    ----------
    made : argparse.ArgumentParser
        The command.
    """
    group = made.add_argument_group("window")
    group.add_argument("--start", metavar="INSTANT", help="first instant, such as 2026-05-01 (UTC)")
    group.add_argument("--end", metavar="INSTANT", help="first instant after it")
    group.add_argument(
        "--lookback", default="35D", metavar="DURATION", help="for chains' bases (default: 35D)"
    )


def add_service(made: argparse.ArgumentParser) -> None:
    """Add the options of the service, and what happens when some instances fail.

    Parameters
    ----------
    made : argparse.ArgumentParser
        The command.
    """
    group = add_client(made)
    group.add_argument(
        "--on-error",
        choices=("collect", "raise"),
        default="collect",
        help="of several instances keep the rest and exit with 3, or stop at the first",
    )
    group.add_argument(
        "--deadline",
        metavar="DURATION",
        help="stop asking after so long, such as 20min; who is not complete then has failed",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def add_client(made: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of the service; the secret is never one: others can read command lines.

    Parameters
    ----------
    made : argparse.ArgumentParser
        The command.

    Returns
    -------
    argparse._ArgumentGroup
        Those options.
    """
    group = made.add_argument_group(
        "service",
        f"keys come from the environment (OCEANBASE_ACCESS_KEY_ID, {SECRET}) or a profile",
    )
    group.add_argument("--endpoint", help='"global", "china" or a URL')
    group.add_argument("--project-id", metavar="ID", help="the project")
    group.add_argument(
        "--profile", metavar="NAME", help="in ~/.config/obanalytics/credentials.toml"
    )
    group.add_argument("--workers", type=int, default=8, metavar="N", help="requests in flight")
    return group


def make_client(options: argparse.Namespace) -> Client:
    """Make the client that the options describe.

    Parameters
    ----------
    options : argparse.Namespace
        Those of `add_service`.

    Returns
    -------
    Client
        It asks nothing yet.
    """
    from obanalytics.client import Client  # noqa: PLC0415 - commands pay for what they use

    return Client(
        endpoint=options.endpoint,
        project_id=options.project_id,
        profile=options.profile,
        workers=options.workers,
    )


def fetched(options: argparse.Namespace, ids: list[str]) -> BackupSets:
    """Fetch instances with both optional tables.

    Parameters
    ----------
    options : argparse.Namespace
        Those of `add_window` and `add_service`.
    ids : list of str
        The instances; or all.

    Returns
    -------
    BackupSets
        What was listed; an ApiError where no instance could be read.
    """
    from obanalytics.dataset import load  # noqa: PLC0415

    with make_client(options) as client:
        sets = load(
            "all" if ids == ["all"] else ids,
            options.start,
            options.end,
            client=client,
            lookback=options.lookback,
            check_download=getattr(options, "check_download", False),
            on_error=options.on_error,
            restorable=True,
            inventory=True,
            deadline=options.deadline,
            progress=False if options.quiet else None,
        )
    if sets.source.failed and not sets.source.instances:
        raise ApiError(f"no instance could be read, nothing was saved: {failures(sets)}")
    return sets


def gathered(options: argparse.Namespace) -> BackupSets:
    """Bring in every source and put them together.

    Parameters
    ----------
    options : argparse.Namespace
        Those of `add_source`.

    Returns
    -------
    BackupSets
        Archives, files, folders, the sample and instances as one, in the window that was asked for.
    """
    from obanalytics.dataset import read, sample  # noqa: PLC0415

    parts, ids = [], []
    for each in _named(options):
        if _is_archive(each):
            parts.append(_recalled(each, options))
        elif Path(each).exists():
            parts.append(_within(read(each), options))
        elif each == "sample":
            parts.append(_within(sample(), options))
        elif "/" in each or "\\" in each or "." in each:
            raise FileNotFoundError(f"no such file or folder: {each}")
        else:
            ids.append(each)
    if ids:
        try:
            parts.append(_fetched(options, ids))
        except ObanalyticsError as error:
            named = ", ".join(ids)
            error.args = (f"{error} (no file here is called {named}: taken for an instance id)",)
            raise
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def _fetched(options: argparse.Namespace, ids: list[str]) -> BackupSets:
    """Fetch instances, only those that were asked for."""
    if options.instance and ids == ["all"]:
        ids = options.instance
    sets = fetched(options, ids)
    return sets.select(instance_ids=options.instance) if options.instance else sets


def looked_from(options: argparse.Namespace) -> str | None:
    """Return the instant that an analysis is to look from.

    Parameters
    ----------
    options : argparse.Namespace
        Those of `add_source`, and `as_of`.

    Returns
    -------
    str or None
        What was given; None where every source is an archive: what it knew then comes with the
        instant at which it was true, and between that and the one given nobody looked.
    """
    as_of: str | None = options.as_of
    return None if all(map(_is_archive, _named(options))) else as_of


def opened(path: str) -> Archive:
    """Open an archive that is there.

    Parameters
    ----------
    path : str
        Its folder.

    Returns
    -------
    Archive
        A FileNotFoundError where there is no such folder, a ValueError where it holds none.
    """
    from obanalytics.archive import Archive  # noqa: PLC0415

    if not Path(path).exists():
        raise FileNotFoundError(f"no such folder: {path} (an archive is made by: obanalytics sync)")
    if not _is_archive(path):
        raise ValueError(f"{path} holds no archive (one is made by: obanalytics sync)")
    return Archive(path)


def writable(path: str) -> Archive:
    """Return an archive to write, which need not be there yet.

    Parameters
    ----------
    path : str
        Its folder.

    Returns
    -------
    Archive
        A ValueError or an OSError where the name is none for an archive.
    """
    from obanalytics.archive import Archive  # noqa: PLC0415
    from obanalytics.store import is_saved  # noqa: PLC0415

    if path in ("", "all", "sample"):
        raise ValueError("the archive's folder comes first: obanalytics sync FOLDER [INSTANCE …]")
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{path} is a file; name a folder for the archive")
    if is_saved(folder):
        raise FileExistsError(f"{path} holds what fetch saved; name a new folder for the archive")
    return Archive(path)


def _named(options: argparse.Namespace) -> list[str]:
    """Return what was named as sources."""
    if options.archive is not None:
        opened(options.archive)
        return [options.archive]
    return list(options.source)


def _is_archive(name: str) -> bool:
    """Tell whether a source is an archive."""
    if not Path(name).is_dir():
        return False
    from obanalytics.lake import is_lake  # noqa: PLC0415

    return is_lake(name)


def _recalled(path: str, options: argparse.Namespace) -> BackupSets:
    """Return what an archive knew."""
    return opened(path).load(
        getattr(options, "as_of", None),
        start=options.start,
        end=options.end,
        instance_ids=options.instance or None,
        lookback=options.lookback,
        stale=_STALE,  # how those are now is not known: they are no gap, and not well either
    )


def _within(sets: BackupSets, options: argparse.Namespace) -> BackupSets:
    """Return what was asked for of what a file holds."""
    if options.start is not None or options.end is not None:
        sets = sets.between(options.start, options.end)
    return sets.select(instance_ids=options.instance) if options.instance else sets


def failures(sets: BackupSets) -> str:
    """Say which instances failed and why.

    Parameters
    ----------
    sets : BackupSets
        What was gathered.

    Returns
    -------
    str
        Empty where none failed.
    """
    return "; ".join(f"{name}: {why}" for name, why in sets.source.failed.items())
