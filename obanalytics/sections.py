"""Say what the parts of a report say, whatever it is written as: sentences and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from obanalytics import columns
from obanalytics.kinds import KINDS, SEVERITIES
from obanalytics.overview import when
from obanalytics.wording import (
    coverage_sentence,
    duration_sentence,
    format_instant,
    format_number,
    format_share,
    format_span,
    growth_sentence,
    plain,
    plural,
    tenant_labels,
    words,
    worst_first,
)

if TYPE_CHECKING:
    from obanalytics.columns import Column
    from obanalytics.compare import Comparison
    from obanalytics.overview import ReviewData

_KEYS = ["instance_id", "tenant_id"]
_SHORT = {"critical": "critical finding", "warning": "warning", "info": "note"}
_NOTHING = "There is nothing to judge"
_SILENT = ("gaps", "changes", "anomalies")  # they would say that all is well
_REASONS = 3  # why series are not forecast
_REFUSED = 20  # rows of series that are not forecast
_PRESENCES = ("present", "failed", "missing", "gone", "new", "running", "unknown")


class Section(NamedTuple):
    """One part of a report: a sentence, its table, its figure."""

    key: str
    title: str
    sentence: str
    caption: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    """The rows as they are shown, the worst first."""
    foot: pd.DataFrame


def sections(review: ReviewData, compared: Comparison | None = None) -> list[Section]:
    """Return the parts of a report.

    Parameters
    ----------
    review : ReviewData
        The review.
    compared : Comparison or None
        What has changed since an earlier one.

    Returns
    -------
    list of Section
        What has changed, if that is known; findings; then a part per table.
    """
    made = [
        *([] if compared is None else [_changed(compared)]),
        findings_section(review.findings, review.summary["tenants"], review.tables["coverage"]),
        coverage_section(review.tables["coverage"], review.tables["gaps"], when(review)),
        _gaps(review.tables["gaps"]),
        growth_section(review.tables["growth"]),
        _stored(review.tables["stored"]),
        forecast_section(review.tables["forecast"]),
        durations_section(review.tables["durations"]),
        _changes(review.tables["changes"]),
        _anomalies(review.tables["anomalies"]),
        parity_section(review.tables["parity"]),
        _schedule(review.tables["schedule"]),
        _not_judged(review.tables["not_judged"]),
    ]
    if review.summary["tenants"]:
        return made
    return [each._replace(sentence=_NOTHING) if each.key in _SILENT else each for each in made]


def _changed(compared: Comparison) -> Section:
    """Return what has changed since an earlier review."""
    told = compared.findings[compared.findings["change"] != "same"]
    counts = ", ".join(f"{count:,} {name}" for name, count in compared.counts.items())
    since = format_instant(compared.when("earlier"))
    return Section(
        *("compared", "Since the earlier review", f"Findings since {since} UTC: {counts}"),
        "What is new, worse, better, closed or no longer known. The worst news first.",
        *(columns.CHANGED, told, told.head(0)),
    )


def findings_section(
    found: pd.DataFrame, tenants: int, coverage: pd.DataFrame | None = None
) -> Section:
    """Return what was found.

    Parameters
    ----------
    found : DataFrame
        What `findings` returned.
    tenants : int
        How many were looked at.
    coverage : DataFrame or None
        What `rpo_compliance` returned: then the worst tenant's come first among the equally grave.

    Returns
    -------
    Section
        The gravest first, what is acknowledged last.
    """
    place = dict[tuple[str, str], int]()
    if coverage is not None:
        keys = worst_first(coverage)[_KEYS].astype("object").itertuples(index=False, name=None)
        place = {key: number for number, key in enumerate(keys)}
    whose = found[_KEYS].astype("object").itertuples(index=False, name=None)
    rank = pd.Series([place.get(key, len(place)) for key in whose], index=found.index)
    grade = found["severity"].astype("object").map(SEVERITIES.index)
    by = pd.DataFrame({"known": found["acknowledged"], "grade": grade, "rank": rank})
    order = found.loc[by.sort_values(["known", "grade", "rank"], kind="stable").index]
    return Section(
        *("findings", "Findings", finding_sentence(found, tenants)),
        "Every fault that the backup sets prove or make likely. Gravest first.",
        *(columns.FINDINGS, order, found.head(0)),
    )


def finding_sentence(found: pd.DataFrame, tenants: int) -> str:
    """Say in one sentence what was found.

    Parameters
    ----------
    found : DataFrame
        What `findings` returned.
    tenants : int
        How many were looked at.

    Returns
    -------
    str
        How many findings of which severity, and of how many tenants.
    """
    fresh = found[~found["acknowledged"]]
    counts = fresh["severity"].value_counts()
    told = [plural(int(counts[name]), _SHORT[name]) for name in SEVERITIES if counts.get(name, 0)]
    known = int(found["acknowledged"].sum())
    more = f"; {known:,} more acknowledged" if known else ""
    if not told:
        return ("Nothing found" if tenants else _NOTHING) + more
    people = len(fresh.loc[fresh["tenant_id"].notna(), _KEYS].drop_duplicates())
    return f"{', '.join(told)}, of {plural(people, 'tenant')}{more}"


def coverage_section(coverage: pd.DataFrame, gaps: pd.DataFrame, moment: str = "now") -> Section:
    """Return who was inside the RPO, and how long.

    Parameters
    ----------
    coverage, gaps : DataFrame
        What `rpo_compliance` (with the fleet's row, and `rpo_state`) and `coverage_gaps` returned.
    moment : str
        How the instant of the state is called.

    Returns
    -------
    Section
        The worst first.
    """
    coverage = worst_first(coverage)
    is_tenant = coverage["instance_id"].notna()
    fleet = coverage[~is_tenant & (is_tenant.sum() > 1)]
    return Section(
        *("coverage", "Coverage", coverage_sentence(coverage, gaps, moment)),
        "How long each tenant was inside its RPO, and what would be lost now. Worst first.",
        *(columns.COVERAGE, coverage[is_tenant], fleet),
    )


def _gaps(gaps: pd.DataFrame) -> Section:
    """Return when more than the RPO would have been lost."""
    order = gaps.sort_values(["unbounded", "gap"], ascending=False)
    return Section(
        *("gaps", "Gaps", _cause_sentence(gaps)),
        "Every time in which more than the RPO would have been lost. Longest first.",
        *(columns.GAPS, order, gaps.head(0)),
    )


def _cause_sentence(gaps: pd.DataFrame) -> str:
    """Say in one sentence why there were gaps."""
    if gaps.empty:
        return "No tenant was outside its RPO in this window"
    counts = gaps["cause"].value_counts()
    shown = ", ".join(f"{count:,} {words(cause)}" for cause, count in counts.items() if count)
    open_now = int(gaps["position"].isin(["tail", "whole"]).sum())
    unsure, partly = (int((gaps["certainty"] == name).sum()) for name in ("unknown", "partly"))
    tail = f"; of {unsure:,} it is not known whether it was one" if unsure else ""
    tail += f"; of {partly:,} a part is not known" if partly else ""
    return f"{plural(len(gaps), 'gap')} by cause: {shown}; {open_now} still open at the end{tail}"


def growth_section(growth: pd.DataFrame) -> Section:
    """Return how fast sets grow.

    Parameters
    ----------
    growth : DataFrame
        What `size_growth` returned.

    Returns
    -------
    Section
        The sentence and the table.
    """
    order = growth.sort_values("percent_per_30d", ascending=False, kind="stable")
    return Section(
        *("growth", "Growth", growth_sentence(growth)),
        "How fast backup sets grow, full and incremental apart. Fastest first.",
        *(columns.GROWTH, order, growth.head(0)),
    )


def _stored(stored: pd.DataFrame) -> Section:
    """Return what is in store now."""
    now = stored[stored["time"] == stored["time"].max()]
    order = now.sort_values("stored_gib", ascending=False, kind="stable")
    unsized = int(now["unsized"].sum())
    more = f"; of {plural(unsized, 'set')} the size is not known" if unsized else ""
    sized = int(now["sets"].sum()) - unsized
    total = format_number(now["stored_gib"].sum(), 2)
    told = f"{total} GiB in {plural(sized, 'set')}, by what is listed{more}"
    return Section(
        *("stored", "In store", told if len(now) else "No backup set is listed"),
        "What each cluster's sets hold now. What went earlier is not listed: the past is at least "
        "what the chart shows.",
        *(columns.STORED, order, stored.head(0)),
    )


def forecast_ends(forecast: pd.DataFrame) -> pd.DataFrame:
    """Return the last step of every series, and those that were refused.

    Parameters
    ----------
    forecast : DataFrame
        What `forecast_size` returned.

    Returns
    -------
    DataFrame
        A row per series, the largest first, those that were refused last.
    """
    ends = forecast[~forecast.duplicated([*_KEYS, "what"], keep="last")]
    return ends.sort_values("median_gib", ascending=False, kind="stable")


def _refusals(refused: pd.Series) -> str:
    """Say why series are not forecast, the commonest reason first."""
    counts = refused.value_counts()
    told = [f"{plain(why, 100)} ({count:,})" for why, count in counts.head(_REASONS).items()]
    more = f"; other reasons ({counts.iloc[_REASONS:].sum():,})" if len(counts) > _REASONS else ""
    return f"; not forecast: {'; '.join(told)}{more}" if told else ""


def forecast_section(forecast: pd.DataFrame) -> Section:
    """Return how large sets will be.

    Parameters
    ----------
    forecast : DataFrame
        What `forecast_size` returned.

    Returns
    -------
    Section
        The sentence and the table.
    """
    ends = forecast_ends(forecast)
    refused = ends["refused"].notna()
    told = int((~refused).sum())
    horizon = forecast.attrs.get("horizon")
    ahead = "" if horizon is None else f" {format_span(pd.Timedelta(horizon))} ahead"
    sentence = f"The next sets' sizes of {told:,} of {plural(len(ends), 'series')} forecast{ahead}"
    sentence += _refusals(ends.loc[refused, "refused"])
    if refused.sum() > _REFUSED:  # a table of what is not known says nothing
        ends = ends[~refused]
    level = format_share(forecast.attrs.get("level", float("nan")))
    return Section(
        *("forecast", "Forecast", sentence if len(forecast) else "There is no series to forecast"),
        f"The size of a set at the end of the horizon, with a band that should hold {level} of "
        "cases. MASE: error on the past against one step of the last value. Largest first.",
        *(columns.FORECAST, ends, forecast.head(0)),
    )


def durations_section(durations: pd.DataFrame) -> Section:
    """Return how long runs took.

    Parameters
    ----------
    durations : DataFrame
        What `duration_trends` returned.

    Returns
    -------
    Section
        The sentence and the table.
    """
    order = durations.sort_values("p95", ascending=False, kind="stable")
    return Section(
        *("durations", "Durations", duration_sentence(durations)),
        "How long runs took, unfinished ones at least their age. Longest p95 first.",
        *(columns.DURATIONS, order, durations.head(0)),
    )


def _changes(changes: pd.DataFrame) -> Section:
    """Return since when runs take longer or shorter."""
    slower = int((changes["factor"] > 1).sum())
    told = f"{plural(len(changes), 'change')} of pace, {slower:,} to slower runs"
    if slower:
        newest = changes[changes["factor"] > 1].sort_values("at", kind="stable").iloc[-1]
        label = plain(newest["tenant_name"], 40)
        told += f"; newest: {label}, x {newest['factor']:.2f} since {newest['at']:%Y-%m-%d}"
    return Section(
        *("changes", "Changes of pace", told if len(changes) else "No change of pace was found"),
        "Since when runs take longer or shorter, and what changed with them. Newest first.",
        columns.CHANGES,
        changes.sort_values("at", ascending=False, kind="stable"),
        changes.head(0),
    )


def _anomalies(made: pd.DataFrame) -> Section:
    """Return which sets are unlike those before them."""
    counts = made["kind"].value_counts()
    told = ", ".join(f"{count:,} {words(kind)}" for kind, count in counts.items() if count)
    sentence = f"{plural(len(made), 'set')} unlike those before: {told}"
    return Section(
        *("anomalies", "Anomalies", sentence if len(made) else "No set is unlike those before it"),
        "Sets that are far smaller, larger or slower than those before them. Worst first.",
        *(columns.ANOMALIES, made, made.head(0)),
    )


def roll_call(parity: pd.DataFrame) -> pd.DataFrame:
    """Count in how many cluster sets each tenant was, or should have been.

    Parameters
    ----------
    parity : DataFrame
        What `tenant_parity` returned.

    Returns
    -------
    DataFrame
        A row per tenant: `expected` (cluster sets), a count per presence, `last_present` [UTC];
        who was missing most comes first.
    """
    names = parity.drop_duplicates(_KEYS, keep="last").set_index(_KEYS)["tenant_name"]
    keys = pd.MultiIndex.from_frame(parity[_KEYS].astype("object"))
    whose, people = keys.factorize()
    counts = {
        name: pd.Series(whose[(parity["presence"] == name).to_numpy()])
        .value_counts()
        .reindex(range(len(people)), fill_value=0)
        .to_numpy()
        for name in _PRESENCES
    }
    there = parity["start_time"].where(parity["presence"] == "present")
    last = there.groupby(whose).max().reindex(range(len(people)))
    names.index = pd.MultiIndex.from_frame(names.index.to_frame().astype("object"))
    table = pd.DataFrame(
        {
            "instance_id": people.get_level_values(0),
            "tenant_id": people.get_level_values(1),
            "tenant_name": names.astype("object").reindex(people).to_numpy(),
            "expected": sum(counts.values()) - counts["gone"],
            **counts,
            "last_present": last.array,
        }
    )
    trouble = table["missing"] + table["failed"] + table["gone"]
    return table.loc[trouble.sort_values(ascending=False, kind="stable").index]


def parity_section(parity: pd.DataFrame) -> Section:
    """Return who was in the cluster sets.

    Parameters
    ----------
    parity : DataFrame
        What `tenant_parity` returned.

    Returns
    -------
    Section
        The sentence and the table.
    """
    table = roll_call(parity)
    absent = table[(table["missing"] + table["failed"]) > 0]
    gone = int((parity.drop_duplicates(_KEYS, keep="last")["presence"] == "gone").sum())
    whole = plural(len(table), "tenant")
    told = f"{len(absent) or 'None'} of {whole} missing or failed in a cluster set"
    tail = f"; {plural(gone, 'tenant')} gone from the newest" if gone else ""
    return Section(
        *("parity", "Tenants in cluster sets", f"{told}{tail}" if len(table) else "No cluster set"),
        "In how many cluster sets each tenant was, or should have been. Most often missing first.",
        *(columns.PARITY, table, table.head(0)),
    )


def what_if_section(replayed: pd.DataFrame, sentence: str) -> Section:
    """Return what another policy would have meant.

    Parameters
    ----------
    replayed : DataFrame
        What `what_if` returned.
    sentence : str
        What it says.

    Returns
    -------
    Section
        Two rows per tenant.
    """
    return Section(
        *("what-if", "What if", sentence),
        "Each tenant's own history as it was, and replayed under the other policy.",
        *(columns.WHAT_IF, replayed, replayed.head(0)),
    )


def _schedule(schedule: pd.DataFrame) -> Section:
    """Return when backups are due."""
    known = schedule[schedule["every"].notna()]
    inferred = int((known["origin"] == "inferred").sum())
    whole = plural(len(schedule), "cadence")
    sentence = f"{len(known):,} of {whole} known, {inferred:,} of them inferred"
    return Section(
        *("schedule", "Schedule", sentence if len(schedule) else "No cadence is known"),
        "When backups of each tenant are due, as given or as their starts say.",
        *(columns.SCHEDULE, schedule, schedule.head(0)),
    )


def _not_judged(not_judged: pd.DataFrame) -> Section:
    """Return what could not be judged."""
    count, whole = len(not_judged), len(KINDS)
    return Section(
        *("not-judged", "Not judged", f"{count} of {whole} kinds of fault could not be judged"),
        "What this data or this policy cannot tell, and why.",
        *(columns.NOT_JUDGED, not_judged, not_judged.head(0)),
    )


def row_texts(section: Section, frame: pd.DataFrame) -> list[list[str]]:
    """Return the texts of a section's rows; the fleet's row says that it is one.

    Parameters
    ----------
    section : Section
        The part.
    frame : DataFrame
        Its rows, or some of them, or its foot.

    Returns
    -------
    list of list of str
        The cells of every row; two tenants of an instance with one name show their ids.
    """
    if frame is section.foot and len(frame):
        frame = frame.assign(tenant_name="all tenants", instance_id="all")
    texts = [[c.show(row) for c in section.columns] for row in frame.itertuples()]
    if section.columns[0].head != "Tenant":
        return texts
    mine = section.frame[["instance_id", "tenant_id", "tenant_name"]].drop_duplicates()
    shared = mine[mine.duplicated(["instance_id", "tenant_name"], keep=False)]
    shared = shared[shared["tenant_id"].notna()]
    ids = set(zip(shared["instance_id"], shared["tenant_id"], strict=True))
    for text, row in zip(texts, frame.itertuples(), strict=True):
        if (row.instance_id, row.tenant_id) in ids:
            text[0] += f" ({plain(row.tenant_id, 40)})"
    return texts


def names_of(frame: pd.DataFrame, room: int) -> list[str]:
    """Return what each row is of, cut so that it fits.

    Parameters
    ----------
    frame : DataFrame
        Rows of tenants, of whole instances, or of clusters.
    room : int
        The most cells.

    Returns
    -------
    list of str
        Names.
    """
    if "tenant_id" not in frame or frame["tenant_id"].isna().all():
        return [plain(each, room) for each in frame["instance_id"]]
    whole = frame["tenant_id"].isna()
    if not whole.any():
        return tenant_labels(frame, room)
    labels = iter(tenant_labels(frame[~whole], room))
    ids = zip(frame["instance_id"], whole, strict=True)
    return [plain(one, room) if is_whole else next(labels) for one, is_whole in ids]
