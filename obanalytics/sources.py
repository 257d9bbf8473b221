"""Bring in what the command line names as sources: its options, and the backup sets they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from obanalytics.errors import ApiError, ObanalyticsError

if TYPE_CHECKING:
    import argparse

    from obanalytics.client import Client
    from obanalytics.schema import BackupSets

SECRET = "OCEANBASE_ACCESS_KEY_SECRET"  # noqa: S105 - the variable's name


def add_source(made: argparse.ArgumentParser, *, needed: bool = True) -> None:
    """Add the sources, and the options of their window and their service.

    Parameters
    ----------
    made : argparse.ArgumentParser
        The command.
    needed : bool
        Whether there must be one.
    """
    made.add_argument(
        "source",
        nargs="+" if needed else "*",
        help="what fetch saved, saved responses (file, folder, zip), sample, instance ids, or all",
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
    """Add the options of the service; the secret is never one: others can read command lines.

    Parameters
    ----------
    made : argparse.ArgumentParser
        The command.
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
    group.add_argument(
        "--on-error",
        choices=("collect", "raise"),
        default="collect",
        help="of several instances keep the rest and exit with 3, or stop at the first",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


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
        Files, folders, the sample and instances as one, in the window that was asked for.
    """
    from obanalytics.dataset import read, sample  # noqa: PLC0415

    parts, ids = [], []
    for each in options.source:
        if Path(each).exists():
            parts.append(read(each))
        elif each == "sample":
            parts.append(sample())
        elif "/" in each or "\\" in each or "." in each:
            raise FileNotFoundError(f"no such file or folder: {each}")
        else:
            ids.append(each)
    window = options.start is not None or options.end is not None
    parts = [part.between(options.start, options.end) for part in parts] if window else parts
    if ids:
        try:
            parts.append(fetched(options, ids))
        except ObanalyticsError as error:
            named = ", ".join(ids)
            error.args = (f"{error} (no file here is called {named}: taken for an instance id)",)
            raise
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


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
