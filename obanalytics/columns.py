"""Say how the columns of every table are shown: their heads, their text, what they sort by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from obanalytics.kinds import KINDS, SEVERITIES
from obanalytics.wording import (
    cause_of,
    format_instant,
    format_interval,
    format_number,
    format_share,
    format_span,
    mode_name,
    plain,
    words,
)

Show = Callable[[Any], str]
"""Takes a row of the frame, a named tuple."""
_NEWS = {"new": "bad", "worse": "bad", "unknown": "warn", "better": "good", "closed": "good"}
_SETS = 3  # set ids that a cell names


class Column(NamedTuple):
    """How a column of a table is shown."""

    head: str
    show: Show
    of: str = ""
    """The frame's column that it is sorted by; empty: by its text."""
    number: bool = True
    short: str = ""
    """Its head in the terminal's text; empty: not shown there."""
    look: Show = lambda _: ""
    """How it is coloured, beside its word: bad, warn, good or nothing."""
    wide: bool = False
    """Whether it holds sentences."""
    by: Show | None = None
    """What it is sorted by, where that is no column of the frame."""


def sort_key(row: Any, column: Column) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Return what a cell is sorted by.

    Parameters
    ----------
    row : named tuple
        The row.
    column : Column
        The column.

    Returns
    -------
    str
        A number, a text, or nothing where it is not known.
    """
    if column.by is not None:
        return column.by(row)
    value = getattr(row, column.of) if column.of else column.show(row)
    if pd.isna(value):
        return ""
    if isinstance(value, pd.Timedelta):
        value = value.total_seconds()
    elif isinstance(value, pd.Timestamp):
        value = value.timestamp()
    return str(float(value)) if column.number else plain(value)


def set_name(value: object) -> str:
    """Return a backup set's id.

    Parameters
    ----------
    value : str or NA
        The id.

    Returns
    -------
    str
        The id, or that there is none.
    """
    return "none" if pd.isna(value) else plain(value, 60)


def measure(value: float, unit: str) -> str:
    """Return what was measured, or a limit.

    Parameters
    ----------
    value : float
        The value; NaN where it has no bound.
    unit : str
        Of its kind: h, sets, slots, GiB.

    Returns
    -------
    str
        Such as ``26 h 35 min``.
    """
    if pd.isna(value):
        return "n/a"
    if unit == "h":
        return format_span(pd.Timedelta(float(value), "h"))
    one = unit.removesuffix("s") if value == 1 else unit
    return f"{format_number(value, 2 if value % 1 else 0)} {one}"


def _bounded(span: object, *, unbounded: bool) -> str:
    """Return an exposure, which may have no bound."""
    return "unbounded" if unbounded else format_span(span)


def _length(span: object, *, unbounded: bool) -> str:
    """Return what an exposure, which may have no bound, is sorted by."""
    if unbounded:
        return "Infinity"
    return str(span.total_seconds()) if isinstance(span, pd.Timedelta) else ""


def _state_look(row: Any) -> str:  # noqa: ANN401
    """Return how a tenant's state is coloured."""
    return {"outside": "bad", "inside": "good"}.get(row.rpo_state, "")


def _grade(row: Any) -> str:  # noqa: ANN401
    """Return how a finding's severity is coloured."""
    return {"critical": "bad", "warning": "warn"}.get(row.severity, "plain")


def _unit(row: Any) -> str:  # noqa: ANN401
    """Return the unit of a finding."""
    return KINDS[str(row.kind)].unit


def _evidence(row: Any) -> str:  # noqa: ANN401
    """Name the first sets that prove a finding."""
    ids = row.backup_set_ids
    more = f" and {len(ids) - _SETS:,} more" if len(ids) > _SETS else ""
    return ", ".join(plain(each, 60) for each in ids[:_SETS]) + more or "none"


def _amount(row: Any, value: float) -> str:  # noqa: ANN401
    """Return a size or a duration."""
    if row.unit == "s":
        return format_span(pd.Timedelta(value, "s"))
    return f"{format_number(value, 2)} GiB"


def _factor(value: object) -> str:
    """Return how many times as much."""
    return "n/a" if pd.isna(value) else f"x {value:.2f}"


def _at(name: str) -> Show:
    """Return what shows an instant."""
    return lambda row: format_instant(getattr(row, name))


def _span(name: str) -> Show:
    """Return what shows a duration."""
    return lambda row: format_span(getattr(row, name))


def _number(name: str, digits: int = 0, *, sign: bool = False) -> Show:
    """Return what shows a number."""
    return lambda row: format_number(getattr(row, name), digits, sign=sign)


def _share(name: str) -> Show:
    """Return what shows a share."""
    return lambda row: format_share(getattr(row, name))


def _words(name: str) -> Show:
    """Return what shows a label."""
    return lambda row: words(getattr(row, name))


def _text(name: str) -> Show:
    """Return what shows a text."""
    return lambda row: "n/a" if pd.isna(getattr(row, name)) else plain(getattr(row, name), 80)


def _set(name: str) -> Show:
    """Return what shows a set's id."""
    return lambda row: set_name(getattr(row, name))


def _interval(name: str, digits: int) -> Show:
    """Return what shows the bounds of a number."""
    return lambda row: format_interval(
        getattr(row, f"{name}_low"), getattr(row, f"{name}_high"), digits
    )


def _mode(row: Any) -> str:  # noqa: ANN401
    """Return the mode of a row's sets."""
    return mode_name(row.full)


def _tenant(row: Any) -> str:  # noqa: ANN401
    """Return a tenant's name."""
    return "the whole instance" if pd.isna(row.tenant_id) else plain(row.tenant_name, 60)


_INSTANCE = Column("Instance", lambda r: plain(r.instance_id, 40), "instance_id", number=False)
_WHO = (
    Column("Tenant", lambda r: plain(r.tenant_name, 60), number=False, short="Tenant"),
    _INSTANCE,
)
_MODE = Column("Mode", _mode, number=False, short="Mode")

FINDINGS = (
    Column("Tenant", _tenant, number=False, short="Tenant"),
    Column(
        "Severity",
        _words("severity"),
        number=False,
        short="Severity",
        look=_grade,
        by=lambda r: str(SEVERITIES.index(r.severity)),
    ),
    Column("Kind", lambda r: f"{r.kind} {KINDS[str(r.kind)].title}", number=False, short="Kind"),
    Column("Finding", lambda r: plain(r.sentence), number=False, wide=True),
    Column("Start [UTC]", _at("start"), "start", number=False, short="Start UTC"),
    Column("End [UTC]", _at("end"), "end", number=False),
    Column("Measured", lambda r: measure(r.measured, _unit(r)), "measured", short="Measured"),
    Column("Limit", lambda r: measure(r.limit, _unit(r)), "limit", short="Limit"),
    Column("Certainty", _words("certainty"), number=False),
    _INSTANCE,
    Column("Backup sets", _evidence, number=False),
    Column("Limit from", lambda r: plain(r.limit_origin, 40), number=False),
    Column("Acknowledged", lambda r: "yes" if r.acknowledged else "no", number=False),
)
CHANGED = (
    Column("Tenant", _tenant, number=False),
    _INSTANCE,
    Column("Change", _words("change"), number=False, look=lambda r: _NEWS.get(r.change, "")),
    Column(
        "Severity",
        lambda r: words(r.severity if pd.notna(r.severity) else r.severity_before),
        number=False,
    ),
    Column("Kind", lambda r: f"{r.kind} {r.title}", number=False),
    Column(
        "Finding",
        lambda r: plain(r.sentence if pd.notna(r.sentence) else r.sentence_before),
        number=False,
        wide=True,
    ),
    Column("Why", lambda r: plain(r.why) if r.why and pd.notna(r.why) else "", number=False),
    Column("Was", lambda r: measure(r.measured_before, r.unit), "measured_before"),
    Column("Is", lambda r: measure(r.measured, r.unit), "measured"),
    Column("Limit", lambda r: measure(r.limit, r.unit), "limit"),
    Column("Start [UTC]", _at("start"), "start", number=False),
    Column("End [UTC]", _at("end"), "end", number=False),
)
COVERAGE = (
    *_WHO,
    Column("RPO now", _words("rpo_state"), number=False, short="Now", look=_state_look),
    Column(
        "Exposed now",
        lambda r: _bounded(r.exposure_now, unbounded=pd.isna(r.exposure_now)),
        short="Exposed",
        by=lambda r: _length(r.exposure_now, unbounded=pd.isna(r.exposure_now)),
    ),
    Column("Time in RPO", _share("time_in_rpo"), "time_in_rpo", short="In RPO"),
    Column("At worst", _share("time_in_rpo_worst"), "time_in_rpo_worst"),
    Column("Gaps", _number("gaps"), "gaps", short="Gaps"),
    Column("Gap total", _span("gap_total"), "gap_total", short="Total"),
    Column("Not known", _span("unknown"), "unknown"),
    Column(
        "Worst exposure",
        lambda r: _bounded(r.worst_exposure, unbounded=r.unbounded),
        by=lambda r: _length(r.worst_exposure, unbounded=r.unbounded),
        short="Worst",
    ),
    Column("Worst at [UTC]", _at("worst_at"), "worst_at", number=False),
    Column("Restore points", _number("restore_points"), "restore_points"),
    Column(
        "Newest restore point [UTC]",
        _at("last_checkpoint"),
        "last_checkpoint",
        number=False,
        short="Restorable to UTC",
    ),
    Column("Last attempt [UTC]", _at("last_attempt"), "last_attempt", number=False),
    Column("Its state", _words("last_attempt_state"), number=False),
)
GAPS = (
    *_WHO,
    Column("Cause", cause_of, number=False, short="Cause"),
    Column("Start [UTC]", _at("gap_start"), "gap_start", number=False, short="Start UTC"),
    Column("End [UTC]", _at("gap_end"), "gap_end", number=False, short="End UTC"),
    Column("Gap", _span("gap"), "gap", short="Gap"),
    Column("Position", _words("position"), number=False),
    Column(
        "Worst exposure",
        lambda r: _bounded(r.worst_exposure, unbounded=r.unbounded),
        by=lambda r: _length(r.worst_exposure, unbounded=r.unbounded),
    ),
    Column("Attempts", _number("attempts"), "attempts", short="Runs"),
    Column("Failed", _number("failed"), "failed"),
    Column("Last good set", _set("last_backup_set_id"), number=False),
    Column("Closed by", _set("next_backup_set_id"), number=False),
    Column("Certainty", _words("certainty"), number=False),
)
GROWTH = (
    *_WHO,
    _MODE,
    Column("Verdict", _words("verdict"), number=False, short="Verdict"),
    Column("Sets", _number("sets"), "sets", short="Sets"),
    Column("Span", _span("span"), "span"),
    Column("First [GiB]", _number("first_size_gib", 2), "first_size_gib"),
    Column("Last [GiB]", _number("last_size_gib", 2), "last_size_gib", short="Last GiB"),
    Column("GiB/day", _number("gib_per_day", 3, sign=True), "gib_per_day", short="GiB/day"),
    Column("95 % interval", _interval("gib_per_day", 3), "gib_per_day_low"),
    Column(
        "% in 30 d", _number("percent_per_30d", 1, sign=True), "percent_per_30d", short="%/30 d"
    ),
    Column("95 % interval", _interval("percent_per_30d", 1), "percent_per_30d_low"),
    Column("Steps", _number("steps"), "steps"),
    Column("Newest step [UTC]", _at("step_at"), "step_at", number=False),
)
STORED = (
    _INSTANCE,
    _MODE,
    Column("Storage class", lambda r: plain(r.storage_class, 40), number=False),
    Column("In store [GiB]", _number("stored_gib", 2), "stored_gib", short="GiB"),
    Column("Sets", _number("sets"), "sets", short="Sets"),
    Column("Without a size", _number("unsized"), "unsized"),
    Column("At [UTC]", _at("time"), "time", number=False),
    Column("Basis", _words("basis"), number=False),
)
FORECAST = (
    *_WHO,
    Column("Series", _words("what"), number=False, short="Series"),
    Column("Until [UTC]", _at("time"), "time", number=False),
    Column("Median [GiB]", _number("median_gib", 2), "median_gib", short="Median GiB"),
    Column("From [GiB]", _number("lower_gib", 2), "lower_gib", short="from"),
    Column("To [GiB]", _number("upper_gib", 2), "upper_gib", short="to"),
    Column("Method", _words("method"), number=False),
    Column("MASE", _number("mase", 2), "mase"),
    Column("MASE of naive", _number("mase_naive", 2), "mase_naive"),
    Column("Past values in band", _share("coverage"), "coverage", short="In band"),
    Column("Values", _number("n"), "n"),
    Column("Why not", lambda r: "" if pd.isna(r.refused) else plain(r.refused), number=False),
)
DURATIONS = (
    *_WHO,
    _MODE,
    Column("Sets", _number("sets"), "sets", short="Sets"),
    Column("Median", _span("p50"), "p50", short="Median"),
    Column("p95", lambda r: ("≥ " if r.at_least else "") + format_span(r.p95), "p95", short="p95"),
    Column("Longest", lambda r: ("≥ " if r.at_least else "") + format_span(r.max), "max"),
    Column("Last", _span("last"), "last", short="Last"),
    Column(
        "% in 30 d", _number("percent_per_30d", 1, sign=True), "percent_per_30d", short="%/30 d"
    ),
    Column("95 % interval", _interval("percent_per_30d", 1), "percent_per_30d_low"),
    Column("GiB/h", _number("throughput_gib_per_h", 1), "throughput_gib_per_h", short="GiB/h"),
    Column("Running", _number("running"), "running", short="Running"),
    Column("Oldest running", _span("oldest_running"), "oldest_running"),
    Column("Untimed", _number("untimed"), "untimed"),
)
CHANGES = (
    *_WHO,
    _MODE,
    Column("Since [UTC]", _at("at"), "at", number=False, short="Since UTC"),
    Column("Duration", lambda r: _factor(r.factor), "factor", short="Factor"),
    Column("Before", _span("before"), "before", short="Before"),
    Column("After", _span("after"), "after", short="After"),
    Column("Size", lambda r: _factor(r.size_factor), "size_factor"),
    Column("Throughput", lambda r: _factor(r.throughput_factor), "throughput_factor"),
    Column("Cause", _words("cause"), number=False, short="Cause"),
    Column(
        "Tenants changed",
        lambda r: f"{r.tenants_changed:,} of {r.tenants_in_cluster:,}",
        "tenants_changed",
    ),
    Column("Last set before", _set("set_before"), number=False),
    Column("First set after", _set("set_after"), number=False),
)
ANOMALIES = (
    *_WHO,
    _MODE,
    Column("What", _words("kind"), number=False, short="What"),
    Column("Started [UTC]", _at("start_time"), "start_time", number=False, short="Start UTC"),
    Column("Observed", lambda r: _amount(r, r.observed), "observed", short="Observed"),
    Column("Usual", lambda r: _amount(r, r.usual), "usual", short="Usual"),
    Column("Times the usual", lambda r: _factor(r.factor), "factor", short="Factor"),
    Column("Sets before", _number("n"), "n"),
    Column("Backup set", _set("backup_set_id"), number=False),
)
PARITY = (
    *_WHO,
    Column("Cluster sets", _number("expected"), "expected"),
    Column("Present", _number("present"), "present", short="Present"),
    Column("Failed", _number("failed"), "failed", short="Failed"),
    Column("Missing", _number("missing"), "missing", short="Missing"),
    Column("Gone", _number("gone"), "gone", short="Gone"),
    Column("New", _number("new"), "new"),
    Column("Running", _number("running"), "running"),
    Column("Not known", _number("unknown"), "unknown"),
    Column(
        "Last present [UTC]",
        _at("last_present"),
        "last_present",
        number=False,
        short="Last present UTC",
    ),
)
WHAT_IF = (
    *_WHO,
    Column("Scenario", _words("scenario"), number=False),
    Column("RPO", _span("rpo"), "rpo"),
    Column("Full every", _span("full_every"), "full_every"),
    Column("Run every", _span("incremental_every"), "incremental_every"),
    Column("Kept [d]", _number("retention_days", 1), "retention_days"),
    Column("Time in RPO", _share("time_in_rpo"), "time_in_rpo"),
    Column("Gaps", _number("gaps"), "gaps"),
    Column("In store [GiB]", _number("stored_gib", 2), "stored_gib"),
    Column("Most [GiB]", _number("stored_gib_max", 2), "stored_gib_max"),
    Column("Cost a month", _number("cost_per_month", 2), "cost_per_month"),
    Column("Sets", _number("sets"), "sets"),
    Column("Written [GiB]", _number("written_gib", 2), "written_gib"),
    Column("Deepest chain", _number("chain_max"), "chain_max"),
    Column("To restore [GiB]", _number("restore_gib", 2), "restore_gib"),
    Column("Basis", _words("basis"), number=False),
    Column("Note", lambda r: plain(r.notes) if r.notes else "", number=False),
)
SCHEDULE = (
    *_WHO,
    Column("Mode", _words("mode"), number=False, short="Mode"),
    Column("Every", _span("every"), "every", short="Every"),
    Column(
        "Days",
        lambda r: "n/a" if pd.isna(r.weekdays) else plain(r.weekdays, 40),
        number=False,
        short="Days",
    ),
    Column(
        "Cron",
        lambda r: "none" if pd.isna(r.cron) else plain(r.cron, 80),
        number=False,
        short="Cron",
    ),
    Column("Zone", lambda r: plain(r.tz, 40), number=False),
    Column("Origin", _words("origin"), number=False),
    Column("Runs", _number("runs"), "runs"),
    Column("Confidence", _share("confidence"), "confidence"),
    Column("Spread", _span("dispersion"), "dispersion"),
    Column("Since [UTC]", _at("since"), "since", number=False),
    Column("Until [UTC]", _at("until"), "until", number=False),
)
NOT_JUDGED = (
    Column("Kind", lambda r: f"{r.kind} {r.title}", number=False),
    Column("Why not", lambda r: plain(r.reason), number=False, wide=True),
)
