"""Make what an explorer shows: per view an analysis, its figure, its table, and the code for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from obanalytics.bars import plot_what_if, what_if_sentence
from obanalytics.changes import duration_changes
from obanalytics.coverage import coverage_gaps
from obanalytics.days import coverage_calendar
from obanalytics.duration import duration_trends
from obanalytics.examine import coverage_of, kept, owed_of
from obanalytics.fan import plot_forecast
from obanalytics.findings import findings
from obanalytics.forecast import forecast_size
from obanalytics.grids import plot_parity
from obanalytics.growth import size_growth
from obanalytics.lanes import plot_durations, plot_growth
from obanalytics.marks import marks_of
from obanalytics.parity import tenant_parity
from obanalytics.restore import restore_points
from obanalytics.schema import facts, span
from obanalytics.sections import (
    coverage_section,
    durations_section,
    findings_section,
    forecast_section,
    growth_section,
    parity_section,
    what_if_section,
)
from obanalytics.timeline import plot_coverage, plot_coverage_calendar
from obanalytics.whatif import Replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.choice import Choice
    from obanalytics.marks import Marks
    from obanalytics.policy import Policy
    from obanalytics.schema import BackupSets
    from obanalytics.sections import Section

MOST_DAYS = 90
"""How far ahead a forecast looks."""
_WHAT = {"full": "full_size", "incremental": "incremental_size"}


class Made(NamedTuple):
    """What a view shows."""

    frame: pd.DataFrame
    """The analysis' result."""
    sentence: str
    """What it says."""
    section: Section | None
    """Its table."""
    draw: Callable[[], Any] | None
    """Draws its figure; None where there is nothing to draw."""


class View(NamedTuple):
    """One view."""

    title: str
    make: Callable[[Any, Choice, Policy | None], Made]
    """Takes the facts, or what `prepare` made of them."""
    code: Callable[[Choice, bool, BackupSets], list[str]]
    """Returns lines that make `result` of `part`; the second says whether there is a policy."""
    hangs_on: tuple[str, ...]
    """What of the choice, beside the facts, the result depends on."""
    prepare: Callable[[BackupSets, Choice, Policy | None], Any] | None = None
    """Makes what stays the same while the rest changes."""
    ready_on: tuple[str, ...] = ("as_of",)
    """What of the choice that depends on."""


class _Facts(NamedTuple):
    """What coverage is measured of."""

    whole: BackupSets
    part: BackupSets
    """Without whom the policy leaves out."""
    points: Marks
    trusted: dict[Any, Any]
    """What of coverage does not hang on the RPO."""


def _facts_of(part: BackupSets, choice: Choice, policy: Policy | None) -> _Facts:
    """Return what coverage is measured of."""
    owed = owed_of(facts(part, choice.as_of), choice.rpo, policy)
    left = kept(part, owed.excluded)
    return _Facts(part, left, marks_of(restore_points(left, as_of=choice.as_of)), {})


def _coverage(of: _Facts, choice: Choice, policy: Policy | None) -> Made:
    """Measure coverage."""
    owed, part, points = (
        owed_of(facts(of.whole, choice.as_of), choice.rpo, policy),
        of.part,
        of.points,
    )
    coverage = coverage_of(part, owed, choice.as_of, of.trusted)
    gaps = coverage_gaps(part, owed.rpo, grace=owed.grace, as_of=choice.as_of)
    window = span(facts(part, choice.as_of))
    section = coverage_section(coverage, gaps)
    is_there = coverage["instance_id"].notna().any()
    return Made(
        gaps,
        section.sentence,
        section,
        (lambda: plot_coverage(gaps, compliance=coverage, points=points, window=window))
        if is_there
        else None,
    )


def _coverage_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how coverage is measured."""
    more = _as_of(choice)
    if has_policy:
        return [
            f"review = ob.review(part, rpo={choice.rpo!r}, policy=policy{more})",
            'result, coverage = review.tables["gaps"], review.tables["coverage"]',
            f"points = ob.restore_points(part{more})",
            "ob.plot_coverage(result, compliance=coverage, points=points, window=review.window)",
        ]
    return [
        f"result = ob.coverage_gaps(part, {choice.rpo!r}{more})",
        f"coverage = ob.rpo_compliance(part, {choice.rpo!r}, total=True{more})",
        f"points = ob.restore_points(part{more})",
        "ob.plot_coverage(result, compliance=coverage, points=points)",
    ]


def _calendar(part: BackupSets, choice: Choice, policy: Policy | None) -> Made:
    """Show every tenant's days."""
    owed = owed_of(facts(part, choice.as_of), choice.rpo, policy)
    part = kept(part, owed.excluded)
    zone = owed.policy.tz
    made = coverage_calendar(
        part, owed.rpo, grace=_longest(owed.grace), as_of=choice.as_of, tz=zone
    )
    known = made["time_in_rpo"].notna()
    bad, unsure = int((made["time_in_rpo"] < 1).sum()), int((~known).sum())
    told = f"Outside the RPO on {bad:,} of {int(known.sum()):,} tenant days"
    told += f"; {unsure:,} days not known" if unsure else ""
    draw = (lambda: plot_coverage_calendar(made)) if len(made) else None
    return Made(made, told, None, draw)


def _longest(grace: Any) -> Any:  # noqa: ANN401 - one limit or limits by tenant
    """Return one grace for all."""
    return grace if isinstance(grace, pd.Timedelta) else max(grace.values())


def _calendar_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how the calendar is made."""
    limits = "rpo, grace=grace, tz=policy.tz" if has_policy else repr(choice.rpo)
    lines = [f"result = ob.coverage_calendar(part, {limits}{_as_of(choice)})"]
    if has_policy:
        lines = [
            f"review = ob.review(part, rpo={choice.rpo!r}, policy=policy{_as_of(choice)})",
            "rpo, grace = review.rpo, review.grace  # without whom the policy leaves out:",
            'part = part.select(tenants=[*review.tables["coverage"]["tenant_id"].dropna()])',
            *lines,
        ]
    return [*lines, "ob.plot_coverage_calendar(result)"]


def _growth(part: BackupSets, choice: Choice, policy: Policy | None) -> Made:  # noqa: ARG001
    """Measure growth."""
    made = _of_mode(size_growth(part, by=choice.by, as_of=choice.as_of), choice)
    section = growth_section(made) if choice.by == "tenant" else None
    told = section.sentence if section else _growing(made, choice.by)
    rated = made["percent_per_30d"].notna().any()
    return Made(made, told, section, (lambda: plot_growth(made)) if rated else None)


def _growing(growth: pd.DataFrame, by: str) -> str:
    """Say in one sentence how clusters or the fleet grow."""
    rated = growth[growth["percent_per_30d"].notna()]
    if rated.empty:
        return "Too little history for a growth rate"
    top = rated["percent_per_30d"].max()
    count = int((rated["verdict"] == "growing").sum())
    return f"{count} of {len(rated)} series of the {by} grow; fastest: {top:+.1f} % in 30 days"


def _growth_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how growth is measured."""
    lines = [f"result = ob.size_growth(part, by={choice.by!r}{_as_of(choice)})"]
    return [*lines, *_mode_code(choice), "ob.plot_growth(result)"]


def _forecast(part: BackupSets, choice: Choice, policy: Policy | None) -> Made:  # noqa: ARG001
    """Forecast sizes."""
    asked: dict[str, Any] = {"by": choice.by, "candidates": "core", "as_of": choice.as_of}
    made = forecast_size(part, _horizon(part), **asked)
    wanted = [_WHAT[choice.mode]] if choice.mode != "all" else list(_WHAT.values())
    made = made[made["what"].isin(wanted)]
    section = forecast_section(made)
    told = made["median_gib"].notna().any()
    return Made(
        made,
        section.sentence,
        section if choice.by == "tenant" else None,
        (lambda: plot_forecast(made)) if told else None,
    )


def _horizon(part: BackupSets) -> str:
    """Return how far ahead: 90 days, or two fifths of the history: it tells at most a half."""
    tenants = part.tenants
    starts = tenants.loc[tenants["in_window"].astype(bool), "start_time"]
    days = 0 if starts.isna().all() else (starts.max() - starts.min()).days
    return f"{min(MOST_DAYS, max(days * 2 // 5, 1))}D"


def _forecast_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how sizes are forecast."""
    wanted = [_WHAT[choice.mode]] if choice.mode != "all" else list(_WHAT.values())
    asked = f'{_horizon(part)!r}, by={choice.by!r}, candidates="core"{_as_of(choice)}'
    return [
        f"result = ob.forecast_size(part, {asked})",
        f'result = result[result["what"].isin({wanted!r})]',
        "ob.plot_forecast(result)",
    ]


def _durations(part: BackupSets, choice: Choice, policy: Policy | None) -> Made:  # noqa: ARG001
    """Measure durations."""
    by = _level(choice)
    made = _of_mode(duration_trends(part, by=by, as_of=choice.as_of), choice)
    section = durations_section(made)
    changes = None
    if by == "tenant":
        changes = _of_mode(duration_changes(part, as_of=choice.as_of), choice)
    timed = made["p50"].notna().any()
    return Made(
        made,
        section.sentence if by == "tenant" else f"Durations of {len(made)} series of clusters",
        section if by == "tenant" else None,
        (lambda: plot_durations(made, changes=changes)) if timed else None,
    )


def _level(choice: Choice) -> str:
    """Return whose durations are measured: a fleet has none."""
    return "cluster" if choice.by == "fleet" else choice.by


def _durations_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how durations are measured."""
    by = _level(choice)
    lines = [f"result = ob.duration_trends(part, by={by!r}{_as_of(choice)})", *_mode_code(choice)]
    if by == "cluster":
        return [*lines, "ob.plot_durations(result)"]
    lines.append(f"changes = ob.duration_changes(part{_as_of(choice)})")
    lines += [line.replace("result", "changes") for line in _mode_code(choice)]
    return [*lines, "ob.plot_durations(result, changes=changes)"]


def _parity(part: BackupSets, choice: Choice, policy: Policy | None) -> Made:  # noqa: ARG001
    """Call the roll."""
    made = tenant_parity(part, as_of=choice.as_of)
    section = parity_section(made)
    draw = (lambda: plot_parity(made)) if len(made) else None
    return Made(made, section.sentence, section, draw)


def _parity_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how the roll is called."""
    return [f"result = ob.tenant_parity(part{_as_of(choice)})", "ob.plot_parity(result)"]


def _findings(part: BackupSets, choice: Choice, policy: Policy | None) -> Made:
    """Find every fault."""
    owed = owed_of(facts(part, choice.as_of), choice.rpo, policy)
    made = findings(part, owed.policy, choice.as_of)
    people = part.tenants[["instance_id", "tenant_id"]].drop_duplicates()
    section = findings_section(made, len(people))
    return Made(made, section.sentence, section, None)


def _findings_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how faults are found."""
    held = "replace(policy, rpo={rpo!r})" if has_policy else "ob.Policy(rpo={rpo!r})"
    told = f"result = ob.findings(part, {held.format(rpo=choice.rpo)}{_as_of(choice)})"
    first = ["from dataclasses import replace"] if has_policy else []
    return [*first, told]


def _replay_of(part: BackupSets, choice: Choice, policy: Policy | None) -> Replay:  # noqa: ARG001
    """Return the history that is replayed."""
    return Replay(part, rpo=choice.rpo, as_of=choice.as_of)


def _what_if(replay: Replay, choice: Choice, policy: Policy | None) -> Made:  # noqa: ARG001
    """Replay the history under another policy."""
    made = replay.at(**dict(choice.what_if))
    told = what_if_sentence(made)
    draw = (lambda: plot_what_if(made)) if len(made) else None
    return Made(made, told, what_if_section(made, told), draw)


def _what_if_code(choice: Choice, has_policy: bool, part: BackupSets) -> list[str]:  # noqa: ARG001, FBT001
    """Return how the history is replayed."""
    told = ", ".join(f"{name}={value!r}" for name, value in choice.what_if)
    return [
        "from obanalytics.whatif import Replay",
        f"result = Replay(part, rpo={choice.rpo!r}{_as_of(choice)}).at({told})",
        "ob.plot_what_if(result)",
    ]


def _of_mode(made: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Return the rows of the sets that are looked at."""
    return made if choice.mode == "all" else made[made["full"].eq(choice.mode == "full")]


def _mode_code(choice: Choice) -> list[str]:
    """Return how the sets that are looked at are chosen."""
    if choice.mode == "all":
        return []
    return [f'result = result[result["full"].eq({choice.mode == "full"})]']


def _as_of(choice: Choice) -> str:
    """Return the argument of the instant to look from."""
    return "" if choice.as_of is None else f", as_of={choice.as_of!r}"


VIEWS = {
    "coverage": View("Coverage", _coverage, _coverage_code, ("rpo", "as_of"), _facts_of),
    "calendar": View("Calendar", _calendar, _calendar_code, ("rpo", "as_of")),
    "growth": View("Growth", _growth, _growth_code, ("mode", "by", "as_of")),
    "forecast": View("Forecast", _forecast, _forecast_code, ("mode", "by", "as_of")),
    "durations": View("Durations", _durations, _durations_code, ("mode", "by", "as_of")),
    "parity": View("Parity", _parity, _parity_code, ("as_of",)),
    "findings": View("Findings", _findings, _findings_code, ("rpo", "as_of")),
    "what-if": View(
        "What if",
        _what_if,
        _what_if_code,
        ("rpo", "as_of", "what_if"),
        _replay_of,
        ("as_of", "rpo"),
    ),
}
"""What an explorer can show, by the name of its tab."""


def code_of(choice: Choice, sets: BackupSets, *, has_policy: bool) -> str:
    """Return the code that makes a view.

    Parameters
    ----------
    choice : Choice
        What is looked at.
    sets : BackupSets
        The facts.
    has_policy : bool
        Whether a policy is given.

    Returns
    -------
    str
        Lines that need `sets`, and `policy` where one is given; `result` is the analysis' result.
    """
    lines = ["import obanalytics as ob", "", *choice.part_code()]
    part = choice.part(sets) if choice.tab == "forecast" else sets
    return "\n".join([*lines, *VIEWS[choice.tab].code(choice, has_policy, part)]) + "\n"
