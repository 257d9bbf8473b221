"""List every gap for cron and CI: as text, as JSON, and as a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from obanalytics.asjson import jsonable
from obanalytics.coverage import coverage_gaps
from obanalytics.examine import DEFAULT_RPO, without_sets
from obanalytics.lines import aligned, window_sentence
from obanalytics.schema import Window, as_duration, as_instant, facts, span
from obanalytics.wording import (
    cause_of,
    format_instant,
    format_span,
    model_sentence,
    plain,
    plural,
    tenant_labels,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obanalytics.schema import BackupSets, Facts

FORMAT = 1
"""The version of what `GapLog.to_json` returns."""
_WIDTH = 100
_NAME = 60  # a log is whole: only a monstrous name is cut
_INDENT = " " * 4
_WHOSE = ["instance_id", "tenant_id", "tenant_name"]
_HEAD = ("Tenant", "Start UTC", "End UTC", "Gap", "Worst", "Runs")
_RIGHT = (False, False, False, True, True, False)


class Terms(NamedTuple):
    """What a gap is measured by."""

    rpo: pd.Timedelta
    rpo_origin: str
    grace: pd.Timedelta
    as_of: pd.Timestamp | None
    trust_unknown: bool


@dataclass(frozen=True, eq=False, slots=True)
class GapLog:
    """Hold every gap of some backup sets, and what must be known to judge them.

    Parameters
    ----------
    terms : Terms
        What a gap is measured by.
    gaps : DataFrame
        What `coverage_gaps` returned.
    tenants : DataFrame
        `instance_id`, `tenant_id`, `tenant_name`: a row per tenant that has a set.
    unjudged : tuple of str
        Tenants of which nothing can be said: without any set, or without any start.
    as_of : Timestamp or None
        The instant at which the facts were true [UTC].
    window : Window
        What was looked at [UTC]; a start of None is each tenant's first known set.
    model : str or None
        point, log or mixed; None where the analysis does not say.
    notes : tuple of str
        What else a reader should know.
    failed : dict of str to str
        The instances that could not be read, each with the reason.
    """

    terms: Terms
    gaps: pd.DataFrame
    tenants: pd.DataFrame
    unjudged: tuple[str, ...]
    as_of: pd.Timestamp | None
    window: Window
    model: str | None
    notes: tuple[str, ...]
    failed: dict[str, str]

    def is_found(self, severity: str) -> bool:
        """Tell whether there is something at or above a severity.

        Parameters
        ----------
        severity : str
            critical, warning or any.

        Returns
        -------
        bool
            Nothing to judge is no good news: it is found at every severity.
        """
        is_known = self.gaps["unknown"] < self.gaps["gap"]
        if self.tenants.empty or self.unjudged or (is_known & _is_open(self.gaps)).any():
            return True
        if severity == "critical":
            return False
        return bool(is_known.any() or (severity == "any" and (len(self.gaps) or self.notes)))

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            format, rpo, rpo_origin, grace, trust_unknown, as_of, window, model, tenants (how many),
            gaps (the rows of `coverage_gaps`), notes, failed. Durations are seconds, instants
            ISO 8601 in UTC with Z, NA null.
        """
        whole = {
            "format": FORMAT,
            "rpo": self.terms.rpo,
            "rpo_origin": self.terms.rpo_origin,
            "grace": self.terms.grace,
            "trust_unknown": self.terms.trust_unknown,
            "as_of": self.as_of,
            "window": {"start": self.window.start, "end": self.window.end},
            "model": self.model,
            "tenants": len(self.tenants),
            "gaps": self.gaps.to_dict("records"),
            "notes": self.notes,
            "failed": self.failed,
        }
        return {name: jsonable(value) for name, value in whole.items()}

    def to_text(self) -> str:
        """Return every gap for a terminal or a log: the open ones first, then the longest.

        Returns
        -------
        str
            Lines of at most 100 cells, but where names are long.
        """
        lines = wrapped(_headline(self) + ".", _WIDTH)
        lines += wrapped(f"{window_sentence(self.window, self.as_of)}. {_limits(self)}", _WIDTH)
        lines += [model_sentence(self.gaps)] if self.model else []
        told = [f"Not read: {plain(name)}: {plain(why, 200)}" for name, why in self.failed.items()]
        for note in [*told, *map(plain, self.notes)]:
            lines += wrapped(note, _WIDTH, first="Note  ", rest=" " * 6)
        return "\n".join([*lines, *_table(self)]) + "\n"


def terms(rpo: str | None, grace: str, as_of: str | None, *, trust_unknown: bool) -> Terms:
    """Settle what a gap is measured by, before anything is read.

    Parameters
    ----------
    rpo : str or None
        How much may be lost, such as 26h; None assumes 26 hours.
    grace : str
        How much more is let pass.
    as_of : str or None
        The instant to look from; None takes that of the facts [UTC].
    trust_unknown : bool
        As in `restore_points`.

    Returns
    -------
    Terms
        A ValueError tells which of them cannot be read.
    """
    return Terms(
        as_duration(DEFAULT_RPO if rpo is None else rpo, "rpo"),
        "default" if rpo is None else "given",
        as_duration(grace, "grace"),
        None if as_of is None else as_instant(as_of, "as_of"),
        trust_unknown,
    )


def gap_log(sets: BackupSets, by: Terms) -> GapLog:
    """Find every gap.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    by : Terms
        What a gap is measured by.

    Returns
    -------
    GapLog
        The gaps, and what must be known to judge them.

    Raises
    ------
    ValueError
        When the window holds no time.
    """
    known, source = facts(sets, by.as_of), sets.source
    window = Window(*span(known))
    if window.start is not None and window.start == window.end:
        raise ValueError(f"the window is empty: it starts and ends at {window.start}")
    gaps = coverage_gaps(
        sets, by.rpo, as_of=by.as_of, grace=by.grace, trust_unknown=by.trust_unknown
    )
    tenants = known.tenants[_WHOSE].drop_duplicates(_WHOSE[:2], keep="last")
    missing, undated = without_sets(known, by.rpo), _undated(known, window)
    return GapLog(
        terms=by,
        gaps=gaps,
        tenants=tenants.reset_index(drop=True),
        unjudged=(*missing, *undated),
        as_of=known.as_of,
        window=window,
        model=gaps.attrs.get("model"),
        notes=(*source.notes, *_notes(known, missing, undated)),
        failed=dict(source.failed),
    )


def _undated(known: Facts, window: Window) -> list[str]:
    """Name the tenants that no gap can be found of: they have no window and no start."""
    if window.start is not None:
        return []
    has_start = known.tenants["start_time"].notna()
    rows = known.tenants[_WHOSE].assign(dated=has_start)
    # One row per tenant, one with a start where there is one.
    rows = rows.sort_values("dated", ascending=False, kind="stable").drop_duplicates(_WHOSE[:2])
    names = rows.loc[~rows["dated"], _WHOSE].itertuples(index=False, name=None)
    return [f"{name} of {one}" for one, _, name in names]


def _notes(known: Facts, missing: list[str], undated: list[str]) -> list[str]:
    """Say what the gaps cannot show."""
    notes = []
    if missing:
        notes.append(f"in the inventory, but in no backup set: {', '.join(missing)}")
    if undated:
        notes.append(f"no set of theirs has a start, they cannot be judged: {', '.join(undated)}")
    end = known.window.end
    if end is not None and known.as_of is not None and end > known.as_of:
        notes.append("the window ends after the facts do: what comes after them counts as a gap")
    return notes


def _is_open(gaps: pd.DataFrame) -> pd.Series:
    """Tell of every gap whether it lasts to the end of the window."""
    return gaps["position"].isin(["tail", "whole"])


def _headline(log: GapLog) -> str:
    """Say in one sentence what was found."""
    gaps, count = log.gaps, len(log.tenants)
    if not count:
        return "No tenant has a backup set in this window: there is nothing to judge"
    if gaps.empty:
        return f"No gap in {plural(count, 'tenant')}"
    having = len(gaps.drop_duplicates(_WHOSE[:2]))
    unknown, still_open = gaps["unknown"].sum(), int(_is_open(gaps).sum())
    doubt = f" ({format_span(unknown)} of it not known)" if unknown else ""
    return (
        f"{plural(len(gaps), 'gap')} in {having:,} of {plural(count, 'tenant')}, "
        f"{format_span(gaps['gap'].sum())} in all{doubt}; {still_open:,} open at the end"
    )


def _limits(log: GapLog) -> str:
    """Say what the gaps were measured by."""
    by = log.terms
    parts = [f"RPO {format_span(by.rpo)}"]
    parts[0] += " (assumed: none was given)" if by.rpo_origin == "default" else ""
    parts += [f"grace {format_span(by.grace)}"] if by.grace else []
    parts += ["sets of unknown soundness trusted"] if by.trust_unknown else []
    return ", ".join(parts) + "."


def _table(log: GapLog) -> list[str]:
    """Return every gap: a line of numbers, and its cause and its sets below."""
    if log.gaps.empty:
        return []
    is_open = _is_open(log.gaps)
    order = log.gaps.assign(open=is_open).sort_values(["open", "gap"], ascending=False).index
    gaps = log.gaps.loc[order]
    texts = [_cells(row) for row in gaps.itertuples()]
    rows = [(name, *text) for name, text in zip(_labels(log, gaps), texts, strict=True)]
    head, *lines = aligned([_HEAD, *rows], _RIGHT)
    blocks = [[line, *_evidence(row)] for line, row in zip(lines, gaps.itertuples(), strict=True)]
    split = int(is_open.sum())
    return [
        *_part(f"OPEN AT {format_instant(log.window.end)} UTC", head, blocks[:split]),
        *_part("CLOSED", head, blocks[split:]),
    ]


def _part(title: str, head: str, blocks: Sequence[list[str]]) -> list[str]:
    """Return one part of the table; nothing where it has no gap."""
    if not blocks:
        return []
    return ["", f"{title} ({len(blocks):,})", head, *(line for block in blocks for line in block)]


def _labels(log: GapLog, gaps: pd.DataFrame) -> list[str]:
    """Name the tenants of gaps, told from all other tenants and not only from those with gaps."""
    both = pd.concat([each[_WHOSE].astype("string") for each in (gaps, log.tenants)])
    return tenant_labels(both, _NAME)[: len(gaps)]


def _cells(gap: Any) -> list[str]:  # noqa: ANN401 - a row of `coverage_gaps`
    """Return what the table shows of a gap behind its tenant."""
    return [
        format_instant(gap.gap_start),
        format_instant(gap.gap_end),
        format_span(gap.gap),
        "unbounded" if gap.unbounded else format_span(gap.worst_exposure),
        f"{gap.attempts:,}" + (f", {gap.failed:,} failed" if gap.attempts else ""),
    ]


def _evidence(gap: Any) -> list[str]:  # noqa: ANN401 - a row of `coverage_gaps`
    """Say why there was a gap, and name the sets around it."""
    causes = cause_of(gap._replace(cause=gap.causes.replace(",", ", ")))
    last, closing = (
        None if pd.isna(name) else plain(name, _NAME)
        for name in (gap.last_backup_set_id, gap.next_backup_set_id)
    )
    sets = f"last {last or 'none'}, {f'closed by {closing}' if closing else 'not closed'}"
    return wrapped(f"{causes}; {sets}", _WIDTH, first=_INDENT, rest=_INDENT)
