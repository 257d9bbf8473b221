"""Tell what a run brought to an archive, what has changed there and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from obanalytics.asjson import jsonable
from obanalytics.lines import aligned
from obanalytics.schema import as_instant
from obanalytics.wording import (
    format_instant,
    format_number,
    plain,
    plural,
    tenant_labels,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from obanalytics.archive import Archive
    from obanalytics.syncing import Sync

FORMAT = 1
"""The version of what the `to_json` methods return."""
KINDS = ("new", "changed", "gone", "back", "moved")
_SHOWN = 50
_WIDTH, _NAME, _VALUE = 100, 30, 60
_INDENT = " " * 4
_HEAD = ("Seen UTC", "What", "Whose", "Set", "Began UTC")
_WHO = ["seen", "instance_id", "level", "tenant_id", "what"]
_SET = ["backup_set_id", "storage_class"]
_TIMES = frozenset({"start_time", "end_time", "checkpoint"})


# --- a run ---------------------------------------------------------------------------------------


def sync_json(path: str, done: Sync) -> dict[str, Any]:
    """Return how a run went as data that any JSON writer takes.

    Parameters
    ----------
    path : str
        The archive.
    done : Sync
        The run.

    Returns
    -------
    dict
        format, archive, and the fields of `Sync`; instants ISO 8601 in UTC with Z, NA null.
    """
    whole = {"format": FORMAT, "archive": path, **asdict(done)}
    return {name: jsonable(value) for name, value in whole.items()}


def unseen(done: Sync) -> list[str]:
    """Say whom a run did not hear of.

    Parameters
    ----------
    done : Sync
        The run.

    Returns
    -------
    list of str
        A line per instance that failed, and one for those whose turn did not come.
    """
    lines = [f"instance {plain(name)} failed: {why}" for name, why in done.failed.items()]
    if done.left:
        count = plural(len(done.left), "instance")
        lines.append(f"the deadline came: {count} left; the next run begins with them")
    return lines


# --- what has changed ----------------------------------------------------------------------------


class Asked(NamedTuple):
    """What was asked for."""

    since: str | None
    """After which instant; None is no limit [UTC]."""
    until: str | None
    """And up to which."""
    whole: bool = False
    """Every line, not only the newest."""


@dataclass(frozen=True, eq=False, slots=True)
class ChangeLog:
    """Hold what happened to the sets of an archive.

    Parameters
    ----------
    path : str
        The archive.
    asked : Asked
        Which of it.
    changes : DataFrame
        What `Archive.changes` returned, or some of its rows.
    """

    path: str
    asked: Asked
    changes: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            format, archive, since, until, counts (sets by kind and level), changes (the rows of
            `Archive.changes`). Instants are ISO 8601 in UTC with Z, NA null.
        """
        counts: dict[str, dict[str, int]] = {kind: {"cluster": 0, "tenant": 0} for kind in KINDS}
        for (what, level), count in self._counts().items():
            counts[what][level] = int(count)
        whole = {
            "format": FORMAT,
            "archive": self.path,
            "since": _instant(self.asked.since, "since"),
            "until": _instant(self.asked.until, "until"),
            "counts": counts,
            "changes": self.changes.to_dict("records"),
        }
        return {name: jsonable(value) for name, value in whole.items()}

    def to_text(self) -> str:
        """Return what happened for a terminal or a log: the newest last, and what it comes to.

        Returns
        -------
        str
            The newest 50 entries, or all that were asked for; of at most 100 cells, but where
            names are long. Sets of one tenant to which the same happened in one look are one.
        """
        if self.changes.empty:
            return f"{self.path}: nothing has changed{self._when()}.\n"
        one = self.changes["what"].isin(["changed", "moved"])
        keys = self.changes[_WHO].join(self.changes[_SET].where(one, ""))
        number = keys.groupby([*_WHO, *_SET], sort=False, dropna=False).ngroup()
        count = int(number.max()) + 1
        first = 0 if self.asked.whole else max(0, count - _SHOWN)
        shown = self.changes[number >= first]
        groups = [each for _, each in shown.groupby(number[number >= first], sort=True)]
        lines = []
        if first:
            lines.append(f"… {first:,} earlier lines are not shown: --all shows them")
        head, *rest = aligned([_HEAD, *_rows(shown, groups)], [False] * len(_HEAD))
        lines.append(head)
        for line, group in zip(rest, groups, strict=True):
            lines += [line, *_details(group)]
        return "\n".join([*lines, "", self._summary()]) + "\n"

    def _counts(self) -> pd.Series[int]:
        """Count sets by what happened and level; one that changed in several fields is one."""
        sets = self.changes.drop_duplicates([*_WHO, *_SET])
        counts: pd.Series[int] = sets.groupby(["what", "level"]).size()
        return counts

    def _summary(self) -> str:
        """Say what it comes to."""
        counts = self._counts()
        parts = []
        for kind in KINDS:
            found = [
                plural(int(counts[kind, level]), f"{level} set")
                for level in ("cluster", "tenant")
                if (kind, level) in counts.index
            ]
            parts += [f"{kind}: {' and '.join(found)}"] if found else []
        return f"{self.path}{self._when()}: {'; '.join(parts)}."

    def _when(self) -> str:
        """Say which part of the time was asked for."""
        words = (("after", self.asked.since, "since"), ("up to", self.asked.until, "until"))
        return "".join(
            f" {word} {format_instant(_instant(text, name))} UTC"
            for word, text, name in words
            if text is not None
        )


def kinds_of(text: str | None) -> tuple[str, ...]:
    """Return the kinds of change that are asked for.

    Parameters
    ----------
    text : str or None
        Names with commas between; None is all.

    Returns
    -------
    tuple of str
        The kinds; a ValueError names what is none.
    """
    if text is None:
        return KINDS
    names = tuple(each.strip() for each in text.split(","))
    for each in names:
        if each not in KINDS:
            raise ValueError(f"--what {text}: {each!r} is none of {', '.join(KINDS)}")
    return names


def change_log(
    archive: Archive,
    path: str,
    asked: Asked,
    instances: Collection[str],
    kinds: Collection[str],
) -> ChangeLog:
    """List what happened to the sets of an archive.

    Parameters
    ----------
    archive : Archive
        The archive.
    path : str
        What it is called.
    asked : Asked
        Which of it.
    instances : collection of str
        The instances; empty is all. A ValueError tells of one that was never asked.
    kinds : collection of str
        As of `kinds_of`.

    Returns
    -------
    ChangeLog
        To be printed.
    """
    if strange := sorted(set(instances) - set(archive.fetches()["instance_id"])):
        raise ValueError(f"{path} never asked for instance {', '.join(strange)}")
    changes = archive.changes(asked.since, asked.until, instance_ids=instances or None)
    changes = changes[changes["what"].isin(kinds)].reset_index(drop=True)
    return ChangeLog(path, asked, changes)


def _instant(text: str | None, name: str) -> pd.Timestamp | None:
    """Return an instant that was given."""
    return None if text is None else as_instant(text, name)


def _rows(shown: pd.DataFrame, groups: Sequence[pd.DataFrame]) -> list[list[str]]:
    """Return the cells of every group."""
    labels = pd.Series(pd.NA, index=shown.index, dtype="object")
    of_tenants = shown["level"] == "tenant"
    labels[of_tenants] = tenant_labels(shown[of_tenants], _NAME)
    rows = []
    for group in groups:
        row = group.iloc[0]
        is_tenant = row["level"] == "tenant"
        whose = labels[group.index[0]] if is_tenant else f"cluster {plain(row['instance_id'], 28)}"
        sets = group.drop_duplicates(_SET)
        name = plain(row["backup_set_id"], 24) if len(sets) == 1 else plural(len(sets), "set")
        ends = (sets["start_time"].min(), sets["start_time"].max())
        first, last = map(format_instant, ends)
        begun = first if first == last else f"{first[:10]} to {last[:10]}"
        rows.append([format_instant(row["seen"]), row["what"], whose, name, begun])
    return rows


def _details(group: pd.DataFrame) -> list[str]:
    """Say which fields of a set changed, and how."""
    told = [
        f"{row.field} {_value(row.field, row.before)} -> {_value(row.field, row.after)}"
        for row in group[group["field"].notna()].itertuples()
    ]
    return wrapped("; ".join(told), _WIDTH, first=_INDENT, rest=_INDENT) if told else []


def _value(field: str, text: Any) -> str:  # noqa: ANN401 - text or NA
    """Return what a field held."""
    if pd.isna(text):
        return "n/a"
    if field in _TIMES:
        return format_instant(pd.Timestamp(text))
    return format_number(float(text), 2) if field == "size_gib" else plain(text, _VALUE)


# --- what is wrong -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class CheckLog:
    """Hold what is wrong with an archive.

    Parameters
    ----------
    path : str
        The archive.
    problems : DataFrame
        What `Archive.check` returned.
    fetches : int
        How many fetches of instances it tells of.
    """

    path: str
    problems: pd.DataFrame
    fetches: int

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return int((self.problems["severity"] == "error").sum())

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            format, archive, fetches, errors (how many), problems (the rows of `Archive.check`).
        """
        return {
            "format": FORMAT,
            "archive": self.path,
            "fetches": self.fetches,
            "errors": self.errors,
            "problems": jsonable(self.problems.to_dict("records")),
        }

    def to_text(self) -> str:
        """Return every problem for a terminal or a log.

        Returns
        -------
        str
            A line per problem, and one for the whole; of several files with the same, the first.
        """
        lines = []
        for (severity, problem), same in self.problems.groupby(["severity", "problem"], sort=False):
            files = [plain(each) for each in same["file"] if each]
            more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
            lines.append(f"{severity}: {f'{files[0]}{more}: ' if files else ''}{plain(problem)}")
        state = f"{plural(self.errors, 'error')} found" if self.errors else "sound"
        notes = len(self.problems) - self.errors
        more = f", {plural(notes, 'note')}" if notes else ""
        looks = f"instances were asked {plural(self.fetches, 'time')} in all"
        return "\n".join([*lines, f"{self.path}: {state}{more}; {looks}"]) + "\n"


def check_log(archive: Archive, path: str) -> CheckLog:
    """Look whether an archive is sound.

    Parameters
    ----------
    archive : Archive
        The archive.
    path : str
        What it is called.

    Returns
    -------
    CheckLog
        To be printed.
    """
    problems = archive.check()
    is_sound = not (problems["severity"] == "error").any()
    return CheckLog(path, problems, len(archive.fetches()) if is_sound else 0)
