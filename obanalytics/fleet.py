"""Review a fleet part by part: who is worst off, of thousands of clusters, and why."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.anomaly import anomalies
from obanalytics.carry import Carried
from obanalytics.changes import duration_changes
from obanalytics.compliance import summed, watched
from obanalytics.coverage import coverage_gaps
from obanalytics.duration import duration_trends
from obanalytics.examine import (
    RPO_STATES,
    coverage_of,
    found_of,
    kept,
    not_judged_of,
    owed_of,
    summary_of,
)
from obanalytics.findings import findings
from obanalytics.frames import empty
from obanalytics.growth import size_growth
from obanalytics.joining import Rule, joined, rule_of
from obanalytics.lines import aligned
from obanalytics.recovery import integers, spans
from obanalytics.schema import Facts, Window, facts, span
from obanalytics.stored import stored_size
from obanalytics.wording import (
    format_instant,
    format_share,
    format_span,
    plain,
    plural,
    worst_first,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obanalytics.policy import Policy
    from obanalytics.schema import BackupSets, Source

_STORED: dict[str, Any] = {"freq": "W", "by": "cluster"}
_COUNTS = {"critical": "critical", "warnings": "warning", "notes": "info"}
_SEVERITIES = ("critical", "warnings", "notes_found")
_SHOWN = 10  # clusters, and tenants, that a screen has room for
_NAME = 34
_KEYS = ["instance_id", "tenant_id"]


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class FleetReview:
    """Hold who of a fleet is worst off, and every fault.

    Parameters
    ----------
    clusters : DataFrame
        A row per instance, the worst first (as `Review` sorts tenants: outside the RPO now, then by
        the time inside it; of equal ones, more critical findings, then warnings): rank,
        instance_id, tenants (with sets), tenants_outside, tenants_unknown, and as `rpo_compliance`
        has them of all tenants together time_in_rpo, time_in_rpo_worst, gaps, gap_total, unknown,
        worst_exposure, unbounded, exposure_now, restore_points, last_checkpoint, rpo_ratio;
        longest_gap [timedelta, without what of it is unknown], critical, warnings, notes (findings
        that nobody has acknowledged), stored_gib, last_answer [UTC; NA: it never answered].
    tenants : DataFrame
        A row per tenant, the worst first: rank, the columns of `rpo_compliance`, rpo_state, and
        critical, warnings, notes.
    findings : DataFrame
        As `findings` returns them of the whole fleet.
    tables : dict of str to DataFrame
        As in `Review`: coverage (with the fleet's row), gaps, growth, stored, durations, changes,
        anomalies, not_judged. Those that are as long as the facts are left out.
    summary : dict
        As in `Review`; without an inventory tenants_without_sets is None.
    policy : Policy
        What findings were held against.
    rpo : Timedelta or limits by tenant
        The limit.
    rpo_origin : str
        given, policy or default.
    as_of : Timestamp
        The instant at which the facts were true [UTC].
    window : Window
        What was looked at [UTC].
    path : str
        The archive.
    failed : dict of str to str
        The instances that never answered, with what they said last.
    """

    clusters: pd.DataFrame
    tenants: pd.DataFrame
    findings: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]
    policy: Policy
    rpo: Any
    rpo_origin: str
    as_of: pd.Timestamp
    window: Window
    path: str
    failed: dict[str, str]

    def __repr__(self) -> str:
        """Return one screen of text."""
        lines = [_heading(self), "", *(f"{name:<12}{text}" for name, text in _told(self))]
        for title, rows, right in _ranked(self):
            lines += ["", title, *aligned(rows, right)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the same as tables, for notebooks."""
        left, right = ("style='text-align:left'", "style='text-align:right'")
        facts_ = "".join(
            f"<tr><th {left}>{html.escape(name)}</th><td {left}>{html.escape(text)}</td></tr>"
            for name, text in _told(self)
        )
        made = f"<table><caption>{html.escape(_heading(self))}</caption>{facts_}</table>"
        for title, (head, *rows), ends in _ranked(self):
            sides = [right if end else left for end in ends]
            cells = [
                "".join(
                    f"<{tag} {side}>{html.escape(text)}</{tag}>"
                    for text, side in zip(row, sides, strict=True)
                )
                for tag, row in [("th", head), *(("td", row) for row in rows)]
            ]
            body = "".join(f"<tr>{row}</tr>" for row in cells)
            made += f"<table><caption>{html.escape(title)}</caption>{body}</table>"
        return made


# --- on a part -----------------------------------------------------------------------------------


def examined(
    sets: BackupSets,
    rpo: Any = None,  # noqa: ANN401 - as `review` takes it
    policy: Policy | None = None,
) -> dict[str, Any]:
    """Run what a fleet's review needs on some instances.

    Parameters
    ----------
    sets : BackupSets
        Their facts.
    rpo, policy
        As in `review`.

    Returns
    -------
    dict
        Frames by name, the limits, and a few numbers.
    """
    owed = owed_of(facts(sets), rpo, policy)
    found = found_of(sets, owed, None)
    sets = kept(sets, owed.excluded)
    known = facts(sets)
    coverage = coverage_of(sets, owed, None)
    coverage = coverage[coverage["instance_id"].notna()]
    window = watched(sets, owed.rpo, grace=owed.grace)["window"]
    made = {
        "findings": found,
        "coverage": coverage.assign(window=window),
        "gaps": coverage_gaps(sets, owed.rpo, grace=owed.grace),
        **{name: rule.run(sets) for name, rule in _RULES.items() if name != "findings"},
    }
    for frame in made.values():  # what rides on them is as long as the facts
        frame.attrs = {k: v for k, v in frame.attrs.items() if not isinstance(v, Carried)}
    inside = known.tenants[known.tenants["in_window"].astype(bool)]
    sets_ = int((~inside.duplicated([*_KEYS, "backup_set_id"])).sum())
    return {**made, "sets": sets_, "owed": replace(owed, excluded=frozenset())}


_RULES: dict[str, Rule] = {
    "findings": rule_of(findings, {}),
    "growth": rule_of(size_growth, {}),
    "stored": rule_of(stored_size, _STORED),
    "durations": rule_of(duration_trends, {}),
    "changes": rule_of(duration_changes, {}),
    "anomalies": rule_of(anomalies, {}),
}


# --- of all parts --------------------------------------------------------------------------------


def fleet_review(
    results: Sequence[dict[str, Any]], sets: BackupSets, answers: dict[str, pd.Timestamp]
) -> FleetReview:
    """Put together what was found of all parts.

    Parameters
    ----------
    results : sequence of dict
        What `examined` returned, part by part.
    sets : BackupSets
        No facts, but the window, the instant and the source of all of them.
    answers : dict of str to Timestamp
        When each instance answered last [UTC].

    Returns
    -------
    FleetReview
        Every number as `review` has it of all facts at once.
    """
    rules = {name: _RULES.get(name, Rule(watched, name)) for name in _TABLES}
    tables = {name: joined(rule, [each[name] for each in results]) for name, rule in rules.items()}
    found, watched_ = tables.pop("findings"), tables["coverage"]
    tables |= {"coverage": _with_fleet(watched_), "not_judged": not_judged_of(found)}
    known = Facts(empty("tenants"), None, sets.as_of, sets.window or Window(None, None), None, None)
    summary = summary_of(known, tables, found, sets.source, [])
    summary |= {"sets": sum(each["sets"] for each in results)}
    summary |= {"model": tables["coverage"].attrs["model"], "without_logs": None}
    owed = results[0]["owed"]
    assert sets.as_of is not None  # noqa: S101 - an archive has one
    return FleetReview(
        clusters=_clusters(watched_, tables, found, sets.source, answers),
        tenants=_tenants(watched_, found),
        findings=found,
        tables=tables,
        summary=summary,
        policy=owed.policy,
        rpo=_limits(results),
        rpo_origin=owed.origin,
        as_of=sets.as_of,
        window=Window(*span(known)),
        path=str(sets.source.path),
        failed=dict(sets.source.failed),
    )


_TABLES = ("findings", "coverage", "gaps", *(name for name in _RULES if name != "findings"))


def _with_fleet(made: pd.DataFrame) -> pd.DataFrame:
    """Return coverage with the fleet's row."""
    state = made["rpo_state"]
    whole = summed(made.drop(columns="rpo_state"), total=True)
    ratio = whole["rpo_ratio"].iloc[-1]
    # It is as good as the worst tenant; that one is outside for sure, or nobody is.
    fleet = RPO_STATES[0 if ratio <= 1 else 1 if state.eq("outside").any() else 2]
    names = pd.Categorical([*state, fleet], categories=list(RPO_STATES))
    return whole.assign(rpo_state=names)


def _limits(results: Sequence[dict[str, Any]]) -> Any:  # noqa: ANN401 - one limit or several
    """Return one limit where everybody has the same, else the limits by tenant."""
    given = [each["owed"].rpo for each in results]
    if all(isinstance(each, pd.Timedelta) and each == given[0] for each in given):
        return given[0]
    made: dict[Any, Any] = {}
    for limit, each in zip(given, results, strict=True):
        if isinstance(limit, pd.Timedelta):
            keys = each["coverage"][_KEYS].itertuples(index=False, name=None)
            made |= dict.fromkeys(keys, limit)
        else:
            made |= dict(limit.items())
    return made


def _tenants(coverage: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Return the tenants, the worst first."""
    made = worst_first(coverage.drop(columns="window")).reset_index(drop=True)
    keys = pd.MultiIndex.from_frame(made[_KEYS].astype("object"))
    made = made.assign(**_counts(found[found["tenant_id"].notna()], _KEYS, keys))
    made.insert(0, "rank", np.arange(1, len(made) + 1))
    return made


def _counts(found: pd.DataFrame, by: list[str], whose: pd.Index) -> dict[str, Any]:
    """Return how many findings each has that nobody has acknowledged, by severity."""
    fresh = found[~found["acknowledged"]]
    counts = fresh.groupby([*(fresh[n].astype("object") for n in by), "severity"], observed=True)
    table = counts.size().unstack("severity", fill_value=0).reindex(whose, fill_value=0)  # noqa: PD010 - one column for every severity
    none = pd.Series(0, table.index)
    return {n: table.get(s, none).to_numpy(np.int64) for n, s in _COUNTS.items()}


def _clusters(
    coverage: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    found: pd.DataFrame,
    source: Source,
    answers: dict[str, pd.Timestamp],
) -> pd.DataFrame:
    """Return the instances, the worst first."""
    there = coverage["instance_id"].dropna().astype("object").unique()
    names = pd.Index(sorted({*there, *source.instances, *source.failed}), dtype="str")
    made = pd.DataFrame({"instance_id": pd.Categorical(names, categories=names)})
    made = made.assign(**_sums(coverage, names), **_states(coverage, names))
    gaps, stored = tables["gaps"], tables["stored"]
    longest = (gaps["gap"] - gaps["unknown"]).groupby(gaps["instance_id"].astype("object")).max()
    now = stored[stored["time"] == stored["time"].max()]
    held = now["stored_gib"].groupby(now["instance_id"].astype("object")).sum()
    seen = pd.Series(answers, dtype="datetime64[us, UTC]")
    made["longest_gap"] = longest.reindex(names).to_numpy("m8[us]")
    made = made.assign(**_counts(found, ["instance_id"], names))
    made["stored_gib"] = held.reindex(names).to_numpy(np.float64)
    made["last_answer"] = seen.reindex(names).array
    return _worst_clusters(made[[*_COLUMNS]])


_COLUMNS = (
    *("instance_id", "tenants", "tenants_outside", "tenants_unknown"),
    *("time_in_rpo", "time_in_rpo_worst", "gaps", "gap_total", "unknown", "longest_gap"),
    *("worst_exposure", "unbounded", "exposure_now", "restore_points", "last_checkpoint"),
    *("rpo_ratio", *_COUNTS, "stored_gib", "last_answer"),
)


def _worst_clusters(made: pd.DataFrame) -> pd.DataFrame:
    """Sort clusters: outside the RPO now, then by their time inside it, then by findings."""
    ratio = made["rpo_ratio"].to_numpy(np.float64)
    share = made["time_in_rpo"].fillna(-1.0).to_numpy(np.float64)
    over = np.where(ratio > 1, -ratio, 0.0)
    order = np.lexsort((-made["warnings"], -made["critical"], share, over))
    made = made.iloc[order].reset_index(drop=True)
    made.insert(0, "rank", np.arange(1, len(made) + 1))
    return made


def _states(coverage: pd.DataFrame, names: pd.Index) -> dict[str, Any]:
    """Return how many tenants each instance has, and how many are not inside."""
    whose, state = coverage["instance_id"].astype("object"), coverage["rpo_state"]
    masks = {"": state.notna(), "_outside": state == "outside", "_unknown": state == "unknown"}
    sums = {f"tenants{n}": mask.groupby(whose).sum() for n, mask in masks.items()}
    return {n: e.reindex(names, fill_value=0).to_numpy(np.int64) for n, e in sums.items()}


def _sums(coverage: pd.DataFrame, names: pd.Index) -> dict[str, Any]:
    """Return of each instance what compliance tells of all its tenants together."""
    numbers = {n: integers(coverage[n]) for n in ("gap_total", "unknown")}
    numbers["window"] = coverage["window"].to_numpy()
    whose = coverage["instance_id"].astype("object")
    sums = pd.DataFrame(numbers, coverage.index).groupby(whose).sum()
    sums = sums.reindex(names, fill_value=0)
    out, unknown, window = (sums[name].to_numpy(np.int64) for name in numbers)
    by = coverage.groupby(whose)
    unbounded = by["unbounded"].any().reindex(names, fill_value=False).to_numpy(bool)
    worst = by["worst_exposure"].max().reindex(names)
    exposed = by["exposure_now"].agg(["max", "count"]).reindex(names)
    size = by.size().reindex(names, fill_value=0)
    whole = by[["gaps", "restore_points"]].sum().reindex(names, fill_value=0).astype(np.int64)
    oldest = by["last_checkpoint"].agg(["min", "count"]).reindex(names)
    return {
        "time_in_rpo": _share(out - unknown, window - unknown),
        "time_in_rpo_worst": _share(out, window),
        "gaps": whole["gaps"].to_numpy(),
        "gap_total": spans(out),
        "unknown": spans(unknown),
        "worst_exposure": worst.mask(unbounded).to_numpy("m8[us]"),
        "unbounded": unbounded,
        "exposure_now": exposed["max"].mask(exposed["count"] < size).to_numpy("m8[us]"),
        "restore_points": by["restore_points"]
        .sum()
        .reindex(names, fill_value=0)
        .to_numpy(np.int64),
        "last_checkpoint": oldest["min"].mask(oldest["count"] < size).array,
        "rpo_ratio": by["rpo_ratio"].max().reindex(names).to_numpy(np.float64),
    }


def _share(out: Any, whole: Any) -> Any:  # noqa: ANN401 - arrays
    """Return one minus a part of a whole; NA of nothing."""
    return np.where(whole > 0, 1 - out / np.where(whole > 0, whole, 1), np.nan)


# --- telling -------------------------------------------------------------------------------------


def _heading(review: FleetReview) -> str:
    """Say what was reviewed."""
    count = review.summary
    instances, tenants = plural(count["instances"], "instance"), plural(count["tenants"], "tenant")
    return f"Fleet review of {instances}, {tenants}, as of {format_instant(review.as_of)} UTC"


def _told(review: FleetReview) -> list[tuple[str, str]]:
    """Return the few lines that matter."""
    count = review.summary
    rpo = format_span(review.rpo) if isinstance(review.rpo, pd.Timedelta) else "by tenant"
    states = ", ".join(
        f"{count[f'tenants_{name}']:,} {name}" for name in ("inside", "outside", "unknown")
    )
    lines = [
        ("RPO", f"{rpo} ({review.rpo_origin}); tenants: {states}"),
        ("in RPO", f"{format_share(count['time_in_rpo'])} of the time; {count['gaps']:,} gaps"),
        (
            "findings",
            ", ".join(f"{count[n]:,} {n.partition('_')[0]}" for n in _SEVERITIES)
            + f"; {count['not_judged']} kinds not judged",
        ),
        ("in store", "n/a" if np.isnan(count["stored_gib"]) else f"{count['stored_gib']:,.0f} GiB"),
        ("archive", plain(review.path, 80)),
    ]
    if review.failed:
        names = ", ".join(sorted(review.failed)[:5])
        more = f" and {len(review.failed) - 5} more" if len(review.failed) > 5 else ""  # noqa: PLR2004
        lines.append(("failed", f"{plural(len(review.failed), 'instance')}: {names}{more}"))
    return lines


def _ranked(review: FleetReview) -> list[tuple[str, list[list[str]], list[bool]]]:
    """Return the worst clusters and tenants as tables of text."""
    made = []
    for what, frame, keys in (
        ("clusters", review.clusters, ["instance_id"]),
        ("tenants", review.tenants, ["instance_id", "tenant_name"]),
    ):
        names = [name.partition("_")[0] for name in keys]
        rows = [["", *names, "in RPO", "exposed now", "x RPO", "gaps", "critical", "warnings"]]
        rows += [
            [
                str(row["rank"]),
                *(plain(row[key], _NAME // len(keys)) for key in keys),
                format_share(row["time_in_rpo"]),
                format_span(row["exposure_now"]),
                "n/a" if pd.isna(row["rpo_ratio"]) else f"{row['rpo_ratio']:.1f}",
                *(f"{row[name]:,}" for name in ("gaps", "critical", "warnings")),
            ]
            for _, row in frame.head(_SHOWN).iterrows()
        ]
        title = f"The worst of {len(frame):,} {what}"
        made.append((title, rows, [True, *(False for _ in keys), *[True] * 6]))
    return made
