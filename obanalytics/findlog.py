"""List every finding for cron and CI: as text, as JSON, and as a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from obanalytics.asjson import jsonable
from obanalytics.examine import titled
from obanalytics.findings import findings
from obanalytics.kinds import KINDS, SEVERITIES
from obanalytics.lines import window_sentence
from obanalytics.policy import Policy
from obanalytics.schema import Window, as_instant, facts, span
from obanalytics.wording import model_sentence, plain, plural, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from obanalytics.schema import BackupSets

FORMAT = 1
"""The version of what `FindLog.to_json` returns."""
_WIDTH = 100
_NAMED = 3  # set ids that a line names
_ENTRIES = 20  # of a table of the policy that are told
_SHORT = {"critical": "critical finding", "warning": "warning", "info": "note"}
_WHOSE = ["instance_id", "tenant_id"]
# What a reader must know to read the numbers, whatever the policy says.
_ALWAYS = ("rpo", "grace")


@dataclass(frozen=True, eq=False, slots=True)
class FindLog:
    """Hold every finding of some backup sets, and what must be known to judge them.

    Parameters
    ----------
    found : DataFrame
        What `findings` returned.
    policy : Policy
        What they were held against.
    tenants : int
        How many tenants were looked at.
    as_of : Timestamp or None
        The instant at which the facts were true [UTC].
    window : Window
        What was looked at [UTC].
    notes : tuple of str
        What else a reader should know.
    """

    found: pd.DataFrame
    policy: Policy
    tenants: int
    as_of: pd.Timestamp | None
    window: Window
    notes: tuple[str, ...]

    def is_found(self, severity: str) -> bool:
        """Tell whether there is something at or above a severity that nobody has acknowledged.

        Parameters
        ----------
        severity : str
            critical, warning or any.

        Returns
        -------
        bool
            Nothing to judge is no good news: it is found at every severity.
        """
        if not self.tenants:
            return True
        until = len(SEVERITIES) if severity == "any" else SEVERITIES.index(severity) + 1
        fresh = ~self.found["acknowledged"]
        return bool((fresh & self.found["severity"].isin(SEVERITIES[:until])).any())

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            format, counts (by severity, of what is not acknowledged), acknowledged (how many),
            tenants, excluded, as_of, window, model, policy (value and origin of every limit),
            not_judged (kinds and why), findings (the rows of `findings`, with the kind's `title`
            and `unit`), notes. Instants are ISO 8601 in UTC with Z, NA null.
        """
        about = self.found.attrs
        rows = titled(self.found)
        whole = {
            "format": FORMAT,
            "counts": self._counts(),
            "acknowledged": int(self.found["acknowledged"].sum()),
            "tenants": self.tenants,
            "excluded": about["excluded"],
            "as_of": self.as_of,
            "window": {"start": self.window.start, "end": self.window.end},
            "model": about["model"],
            "policy": {
                key: {"value": value, "origin": origin}
                for key, (value, origin) in about["policy"].items()
            },
            "not_judged": about["not_judged"],
            "findings": rows.to_dict("records"),
            "notes": self.notes,
        }
        return {name: jsonable(value) for name, value in whole.items()}

    def to_text(self) -> str:
        """Return every finding for a terminal or a log, the gravest first.

        Returns
        -------
        str
            Lines of at most 100 cells, but where names are long.
        """
        lines = wrapped(self._headline() + ".", _WIDTH)
        lines += wrapped(f"{window_sentence(self.window, self.as_of)}.", _WIDTH)
        lines += wrapped(model_sentence(self.found), _WIDTH)
        lines += wrapped(self._limits(), _WIDTH, first="Policy  ", rest=" " * 8)
        for entry in self._entries():
            lines += wrapped(entry, _WIDTH, first=" " * 8, rest=" " * 10)
        for note in map(plain, self.notes):
            lines += wrapped(note, _WIDTH, first="Note  ", rest=" " * 6)
        fresh = self.found[~self.found["acknowledged"]]
        for severity in SEVERITIES:
            lines += _part(severity.upper(), fresh[fresh["severity"] == severity])
        lines += _part("ACKNOWLEDGED", self.found[self.found["acknowledged"]])
        return "\n".join([*lines, *self._not_judged()]) + "\n"

    def _counts(self) -> dict[str, int]:
        """Return how many findings there are by severity, without what is acknowledged."""
        found = self.found.loc[~self.found["acknowledged"], "severity"].value_counts()
        return {name: int(found.get(name, 0)) for name in SEVERITIES}

    def _headline(self) -> str:
        """Say in one sentence what was found."""
        if not self.tenants:
            return "No tenant has a backup set in this window: there is nothing to judge"
        counts = self._counts()
        told = [plural(count, _SHORT[name]) for name, count in counts.items() if count]
        fresh = self.found[~self.found["acknowledged"]]
        known = int(self.found["acknowledged"].sum())
        more = f"; {known:,} more acknowledged" if known else ""
        whose = len(fresh.loc[fresh["tenant_id"].notna(), _WHOSE].drop_duplicates())
        whole = plural(self.tenants, "tenant")
        if not told:
            return f"Nothing found in {whole}{more}"
        return f"{', '.join(told)} in {whose:,} of {whole}{more}"

    def _limits(self) -> str:
        """Say what was owed: what was given, and the defaults that always matter."""
        about = self.found.attrs["policy"]
        told = [
            f"{key} {plain(value, 60)}" + (" (default)" if origin == "default" else "")
            for key, (value, origin) in about.items()
            if (origin != "default" or key in _ALWAYS) and " " not in key
        ]
        count = self.found.attrs["excluded"]
        told += [f"{plural(count, 'tenant')} excluded"] if count else []
        return ", ".join(told) + "."

    def _entries(self) -> list[str]:
        """Return what the policy says of some tenants or times: every entry as a whole."""
        about, told = self.found.attrs["policy"], []
        for name, entries in groupby((key for key in about if " " in key), _table_of):
            first, *rest = [f"{key}: {plain(about[key][0])}" for key in entries]
            told += [first, *rest[: _ENTRIES - 1]]
            if more := len(rest[_ENTRIES - 1 :]):
                told.append(f"{name}: {more:,} more")
        return told

    def _not_judged(self) -> list[str]:
        """Say which kinds could not be judged, and why."""
        why: dict[str, list[str]] = {}
        for kind, reason in self.found.attrs["not_judged"].items():
            why.setdefault(reason, []).append(f"{kind} {KINDS[kind].title}")
        lines = ["", "NOT JUDGED"]
        for reason, kinds in why.items():
            lines += wrapped(f"{', '.join(kinds)}: {reason}", _WIDTH, first="  ", rest="    ")
        return lines


def _table_of(key: str) -> str:
    """Return the table of a policy that an entry is in."""
    return key.partition(" ")[0]


def _part(title: str, rows: pd.DataFrame) -> list[str]:
    """Return one part of the list; nothing where it has no finding."""
    if rows.empty:
        return []
    lines = ["", f"{title} ({len(rows):,})"]
    for row in rows.itertuples():
        head = f"{row.kind:<4} {KINDS[str(row.kind)].title}"
        doubt = "" if row.certainty == "proved" else f" [{row.certainty}]"
        lines.append(f"{head}{doubt}")
        lines += wrapped(plain(row.sentence), _WIDTH, first=" " * 5, rest=" " * 5)
        if named := _evidence(row.backup_set_ids):
            lines += wrapped(named, _WIDTH, first=" " * 5, rest=" " * 5)
    return lines


def _evidence(ids: tuple[str, ...]) -> str:
    """Name the first of the sets that prove a finding."""
    names = [plain(each, 60) for each in ids[:_NAMED]]
    more = len(ids) - len(names)
    return f"sets: {', '.join(names)}" + (f" and {more:,} more" if more else "") if names else ""


def settled(path: str | None, rpo: str | None, as_of: str | None) -> tuple[Policy, Any]:
    """Settle what is owed, before anything is read.

    Parameters
    ----------
    path : str or None
        The policy's file; None takes the defaults.
    rpo : str or None
        An RPO that counts more than the policy's.
    as_of : str or None
        The instant to look from [UTC].

    Returns
    -------
    policy : Policy
        A ValueError tells which of it cannot be read.
    as_of : Timestamp or None
        The instant.
    """
    policy = Policy() if path is None else Policy.load(path)
    if rpo is not None:
        policy = replace(policy, rpo=rpo, given=frozenset({*(policy.given or ()), "rpo"}))
    return policy, None if as_of is None else as_instant(as_of, "as_of")


def find_log(sets: BackupSets, policy: Policy, as_of: pd.Timestamp | None) -> FindLog:
    """Find everything.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    policy : Policy
        What is owed.
    as_of : Timestamp or None
        The instant to look from [UTC].

    Returns
    -------
    FindLog
        The findings, and what must be known to judge them.
    """
    known = facts(sets, as_of)
    found = findings(sets, policy, as_of)
    tenants = len(known.tenants[_WHOSE].drop_duplicates())
    notes = (*sets.source.notes, *found.attrs["notes"])
    return FindLog(found, policy, tenants, known.as_of, Window(*span(known)), notes)
