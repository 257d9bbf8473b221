"""Say what the command line takes: commands and their options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from obanalytics import __version__
from obanalytics.sources import add_client, add_service, add_source, add_window

if TYPE_CHECKING:
    from collections.abc import Mapping

SEVERITIES = ("critical", "warning", "any")


def make_parser(runs: Mapping[str, Any], *, found: int, epilog: str) -> argparse.ArgumentParser:
    """Return what reads the command line.

    Parameters
    ----------
    runs : mapping of str to callable
        What each command does, by its name.
    found : int
        The exit code when something is found.
    epilog : str
        What stands below every help.

    Returns
    -------
    argparse.ArgumentParser
        With a sub-command for everything that can be done.
    """
    whole = argparse.ArgumentParser(
        "obanalytics",
        description="Are our OceanBase Cloud backups there, and since when not?",
        epilog=epilog,
    )
    whole.add_argument("--version", action="version", version=f"obanalytics {__version__}")
    added = whole.add_subparsers(required=True, metavar="command")
    commands = _Commands(added, runs, found, epilog)
    _add_demo(commands)
    _add_fetch(commands)
    _add_sync(commands)
    _add_changes(commands)
    _add_archive(commands)
    _add_review(commands)
    _add_gaps(commands)
    _add_findings(commands)
    _add_dashboard(commands)
    _add_policy(commands)
    _add_growth(commands)
    _add_forecast(commands)
    _add_durations(commands)
    _add_anomalies(commands)
    _add_instances(commands)
    _add_simulate(commands)
    return whole


class _Commands:
    """The commands, and what each does."""

    def __init__(
        self,
        added: Any,  # noqa: ANN401 - argparse's own
        runs: Mapping[str, Any],
        found: int,
        epilog: str,
        above: str = "",
    ) -> None:
        self.added, self.runs, self.found, self.epilog = added, runs, found, epilog
        self.above = above

    def add(self, name: str, text: str) -> argparse.ArgumentParser:
        """Add a command."""
        made: argparse.ArgumentParser = self.added.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=self.epilog
        )
        made.set_defaults(run=self.runs[f"{self.above}{name}"])
        return made

    def within(self, name: str, text: str) -> _Commands:
        """Add a command that has commands of its own."""
        made = self.added.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=self.epilog
        )
        parts = made.add_subparsers(required=True, metavar="what", help="what to do with it")
        return _Commands(parts, self.runs, self.found, self.epilog, f"{name} ")


def _add_demo(commands: _Commands) -> None:
    """Add `demo`."""
    made = commands.add("demo", "fetch a made-up fleet from a simulator on loopback and review it")
    made.add_argument("--out", default="obanalytics-demo", metavar="FOLDER", help="where to save")
    made.add_argument("--seed", type=int, default=7, help="another seed, another history")
    made.add_argument("--rpo", default=None, metavar="DURATION", help="such as 26h (default: 26h)")
    _add_json(made)


def _add_fetch(commands: _Commands) -> None:
    """Add `fetch`."""
    made = commands.add("fetch", "fetch backup sets and save them in a folder")
    made.add_argument("instance", nargs="+", help="instance ids, or all")
    made.add_argument("--out", default="backups", metavar="FOLDER", help="where to save")
    made.add_argument(
        "--check-download", action="store_true", help="ask which sets can be downloaded; slower"
    )
    add_window(made)
    add_service(made)
    _add_json(made)


def _add_sync(commands: _Commands) -> None:
    """Add `sync`."""
    made = commands.add("sync", "ask the service and keep what is new, changed or gone; for cron")
    made.add_argument("archive", help="the archive's folder; a new one is made")
    made.add_argument("instance", nargs="*", default=(), help="instance ids (default: all)")
    made.add_argument(
        "--since",
        metavar="INSTANT",
        help="ask only for sets that began from here on: of earlier ones nothing is learned "
        "(default: everything that is listed)",
    )
    made.add_argument(
        "--check-download", action="store_true", help="ask which sets can be downloaded; slower"
    )
    made.add_argument(
        "--no-inventory",
        action="store_true",
        help="do not ask for the tenants of each instance: one request less, and a tenant without "
        "any backup set is not seen",
    )
    made.add_argument(
        "--no-responses",
        action="store_true",
        help="do not keep the responses: smaller, and archive rebuild cannot be used",
    )
    _add_turns(made)
    _add_wait(made)
    group = add_client(made)
    group.add_argument(
        "--quiet", action="store_true", help="no progress bar, and no word when all is well"
    )
    _add_json(made)


def _add_turns(made: argparse.ArgumentParser) -> None:
    """Add what decides whose turn it is, and how long."""
    made.add_argument(
        "--deadline",
        metavar="DURATION",
        help="stop asking after so long, such as 20min; the next run begins with who is left",
    )
    made.add_argument(
        "--resume",
        default="6h",
        metavar="DURATION",
        help="whom an interrupted run asked not longer ago is not asked again (default: 6h)",
    )
    made.add_argument(
        "--new-endpoint",
        action="store_true",
        help="another host answered for these instances before, and it is the same service",
    )


def _add_changes(commands: _Commands) -> None:
    """Add `changes`."""
    made = commands.add("changes", "list which sets of an archive came, went, moved or changed")
    made.add_argument("archive", help="the archive's folder")
    made.add_argument("--since", metavar="INSTANT", help="what was seen after it (UTC)")
    made.add_argument("--until", metavar="INSTANT", help="what was seen up to it (UTC)")
    made.add_argument(
        "--instance", action="append", default=[], metavar="ID", help="only of it; repeatable"
    )
    made.add_argument(
        "--what", metavar="KINDS", help="some of new,changed,gone,back,moved (default: all)"
    )
    made.add_argument("--all", action="store_true", help="every line, not only the newest 50")
    _add_json(made)


def _add_archive(commands: _Commands) -> None:
    """Add `archive`."""
    parts = commands.within("archive", "look after an archive")
    check = parts.add("check", "look whether everything is there and fits together")
    check.add_argument("archive", help="the archive's folder")
    _add_json(check)
    compact = parts.add("compact", "put every part into one sorted file: faster, nothing is lost")
    rebuild = parts.add("rebuild", "make all facts anew out of the responses that were kept")
    for made in (compact, rebuild):
        made.add_argument("archive", help="the archive's folder")
        _add_wait(made)


def _add_wait(made: argparse.ArgumentParser) -> None:
    """Add the option of how patient a writer is."""
    made.add_argument(
        "--wait",
        default="0s",
        metavar="DURATION",
        help="how long to wait for another process that is writing, such as 5min (default: 0s)",
    )


def _add_review(commands: _Commands) -> None:
    """Add `review`."""
    made = commands.add("review", "say how much time was inside the RPO, and what else matters")
    made.add_argument("--policy", metavar="FILE", help="what is owed (make one: policy init)")
    made.add_argument(
        "--rpo", metavar="DURATION", help="how much may be lost; counts more than the policy's"
    )
    made.add_argument(
        "--as-of", metavar="INSTANT", help="look from here (default: the newest fact)"
    )
    made.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=".html, .pdf, .xlsx, .md, .json, .prom, or .csv (a folder); repeatable",
    )
    made.add_argument(
        "--compare", metavar="FILE", help="tell what has changed since this .json of a review"
    )
    made.add_argument(
        "--fail-on",
        choices=SEVERITIES,
        help=f"exit with {commands.found} when there is a finding of this severity or a graver one "
        "that the policy does not acknowledge, or nothing to judge; any, or a note was made",
    )
    add_source(made)
    _add_json(made)


def _add_gaps(commands: _Commands) -> None:
    """Add `gaps`."""
    made = commands.add("gaps", "list every time in which more than the RPO would have been lost")
    made.add_argument(
        "--rpo", metavar="DURATION", help="how much may be lost, such as 26h (default: 26h)"
    )
    made.add_argument(
        "--grace", default="0h", metavar="DURATION", help="how much more is let pass (default: 0h)"
    )
    made.add_argument(
        "--trust-unknown",
        action="store_true",
        help="count sets as sound of which validity, mode or base is not known",
    )
    made.add_argument(
        "--as-of", metavar="INSTANT", help="look from here (default: the newest fact)"
    )
    made.add_argument(
        "--fail-on",
        choices=SEVERITIES,
        help=f"exit with {commands.found} when: critical, a tenant is in a gap at the end of the "
        "window or has no set, or there is nothing to judge; warning, or there was a gap; any, or "
        "there may have been one, or a note was made",
    )
    add_source(made)
    _add_json(made)


def _add_findings(commands: _Commands) -> None:
    """Add `findings`."""
    made = commands.add("findings", "list every fault that the backup sets prove, by kind")
    made.add_argument("--policy", metavar="FILE", help="what is owed (make one: policy init)")
    made.add_argument(
        "--rpo", metavar="DURATION", help="how much may be lost; counts more than the policy's"
    )
    made.add_argument(
        "--as-of", metavar="INSTANT", help="look from here (default: the newest fact)"
    )
    made.add_argument(
        "--fail-on",
        choices=SEVERITIES,
        help=f"exit with {commands.found} when there is a finding of this severity or a graver one "
        "that the policy does not acknowledge, or there is nothing to judge; any takes in notes",
    )
    add_source(made)
    _add_json(made)


def _add_dashboard(commands: _Commands) -> None:
    """Add `dashboard`."""
    made = commands.add("dashboard", "explore such a SOURCE on a page of this machine")
    made.add_argument("--policy", metavar="FILE", help="what is owed (make one: policy init)")
    made.add_argument(
        "--rpo", metavar="DURATION", help="how much may be lost; counts more than the policy's"
    )
    made.add_argument("--port", type=int, default=0, help="0 takes a free one (default: 0)")
    made.add_argument("--no-open", action="store_true", help="do not open a browser")
    add_source(made)


def _add_policy(commands: _Commands) -> None:
    """Add `policy`."""
    parts = commands.within("policy", "make a policy, or check one")
    text = "print a commented policy, with what can be inferred from backup sets"
    init = parts.add("init", text)
    init.add_argument("--out", metavar="FILE", help="write it there; an earlier file is kept")
    init.add_argument("--tz", default="UTC", metavar="ZONE", help="such as Asia/Shanghai")
    add_source(init, needed=False)
    check = parts.add("check", "say what a policy means, defaults and all")
    check.add_argument("file", help="the policy")
    _add_json(check)


def _add_growth(commands: _Commands) -> None:
    """Add `growth`."""
    made = commands.add("growth", "say how fast backups grow, and what is in store")
    _add_by(made)
    _add_retention(made)
    made.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="PRICE",
        help="of a GiB and month: 0.02, or by storage class: standard=0.02; repeatable",
    )
    made.add_argument(
        "--free", type=float, metavar="GIB", help="what each instance may store without charge"
    )
    add_source(made)
    _add_json(made)


def _add_forecast(commands: _Commands) -> None:
    """Add `forecast`."""
    made = commands.add("forecast", "say how large backups will be, with bands and their record")
    made.add_argument(
        "--horizon", default="90D", metavar="DURATION", help="how far ahead (default: 90D)"
    )
    made.add_argument(
        "--level", type=float, default=0.9, metavar="SHARE", help="of the bands (default: 0.9)"
    )
    made.add_argument(
        "--threshold", type=float, metavar="GIB", help="say how likely it is crossed, and when"
    )
    _add_by(made)
    _add_retention(made)
    add_source(made)
    _add_json(made)


def _add_durations(commands: _Commands) -> None:
    """Add `durations`."""
    made = commands.add("durations", "say how long backups take, and since when they take longer")
    _add_by(made, fleet=False)
    add_source(made)
    _add_json(made)


def _add_anomalies(commands: _Commands) -> None:
    """Add `anomalies`."""
    made = commands.add("anomalies", "list sets that are too small, too large or too slow")
    _add_as_of(made)
    add_source(made)
    _add_json(made)


def _add_by(made: argparse.ArgumentParser, *, fleet: bool = True) -> None:
    """Add the options of whose series are looked at, and from when."""
    levels = ("tenant", "cluster", "fleet") if fleet else ("tenant", "cluster")
    made.add_argument("--by", choices=levels, default="tenant", help="whose series")
    _add_as_of(made)


def _add_as_of(made: argparse.ArgumentParser) -> None:
    """Add the option of the instant to look from."""
    made.add_argument(
        "--as-of", metavar="INSTANT", help="look from here (default: the newest fact)"
    )


def _add_retention(made: argparse.ArgumentParser) -> None:
    """Add the option of the server's recovery window."""
    made.add_argument(
        "--retention-days",
        type=float,
        metavar="DAYS",
        help="the server's recovery window: what is in store is let go by its rule",
    )


def _add_instances(commands: _Commands) -> None:
    """Add `instances`."""
    made = commands.add("instances", "list the project's instances")
    add_service(made)
    _add_json(made)


def _add_simulate(commands: _Commands) -> None:
    """Add `simulate`."""
    made = commands.add("simulate", "serve a made-up fleet on loopback, to try clients on")
    made.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: 8765)")
    made.add_argument("--now", metavar="INSTANT", help="the end of the history (default: now)")
    made.add_argument("--seed", type=int, default=7, help="another seed, another history")
    made.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="per answer")
    made.add_argument(
        "--algorithm", default="MD5", choices=("MD5", "SHA-256"), help="of the digest sign-in"
    )
    made.add_argument("--no-qop", action="store_true", help="the older form of digest sign-in")
    made.add_argument(
        "--nonce-policy", default="reuse", metavar="POLICY", help="such as strict or one_time"
    )
    made.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND",
        help="spoil the next list of sets: 503, 429, cut, reset, html, empty, …; repeatable",
    )
    made.add_argument("--write", metavar="FOLDER", help="write the pages as files and do not serve")


def _add_json(made: argparse.ArgumentParser) -> None:
    """Add the option for machines."""
    made.add_argument("--json", action="store_true", help="print the result as JSON")
