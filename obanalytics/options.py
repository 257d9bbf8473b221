"""Say what the command line takes: commands and their options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from obanalytics import __version__
from obanalytics.sources import add_service, add_source, add_window

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
    _add_review(commands)
    _add_gaps(commands)
    _add_findings(commands)
    _add_policy(commands)
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


def _add_review(commands: _Commands) -> None:
    """Add `review`."""
    made = commands.add("review", "say how much time was inside the RPO, and what else matters")
    made.add_argument("--rpo", metavar="DURATION", help="how much may be lost, such as 26h")
    made.add_argument(
        "--as-of", metavar="INSTANT", help="look from here (default: the newest fact)"
    )
    made.add_argument(
        "--out", action="append", default=[], metavar="FILE", help=".html, .md or .json; repeatable"
    )
    made.add_argument(
        "--fail-on",
        choices=SEVERITIES,
        help=f"exit with {commands.found} when: critical, a tenant is outside its RPO now or has "
        "no set; warning, or there was a gap or something could not be judged; any, or a note was "
        "made",
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
