"""Run every analysis once and hold the result as data, whatever it is shown as."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pandas as pd

from obanalytics import __version__
from obanalytics.asjson import jsonable
from obanalytics.compare import comparison
from obanalytics.coverage import exposure
from obanalytics.csvfiles import csv_files, write_csv
from obanalytics.examine import (
    found_of,
    kept,
    notes_of,
    owed_of,
    summary_of,
    tables_of,
    titled,
    without_logs,
    without_sets,
)
from obanalytics.files import write
from obanalytics.metrics import render_metrics
from obanalytics.report import (
    render_html,
    render_markdown,
    render_pdf,
    render_summary,
    render_text,
)
from obanalytics.restore import restore_points
from obanalytics.schema import BackupSets, Source, Window, facts, newest_time, span
from obanalytics.wording import worst_first
from obanalytics.workbook import render_workbook

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from obanalytics.compare import Comparison
    from obanalytics.curve import Limits
    from obanalytics.explore import Explorer
    from obanalytics.policy import Policy
    from obanalytics.schema import Facts, Instant

FORMAT = 2
"""The version of what `Review.to_json` returns."""
_DRAWN = 30  # tenants whose restore points are kept for the chart
_POINT = [
    *("instance_id", "tenant_id", "full", "state", "start_time", "checkpoint"),
    *("restorable", "reason", "chain_id"),
]


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Review:
    """Hold everything that was computed of some backup sets.

    Parameters
    ----------
    findings : DataFrame
        Every fault, the gravest first, as `findings` returns them.
    tables : dict of str to DataFrame
        coverage (`rpo_compliance` with the fleet's row, and rpo_state: inside, outside, unknown),
        gaps (`coverage_gaps`), growth (`size_growth`), stored (`stored_size` by cluster and week),
        forecast (`forecast_size` of sizes for 90 days, by the quick methods), durations
        (`duration_trends`), changes (`duration_changes`), anomalies, parity (`tenant_parity`),
        schedule, not_judged (kind, title, reason: the kinds of findings that this data or policy
        cannot judge).
    summary : dict
        instances, tenants, sets (of tenants, in the window, copies counted once), restore_points,
        time_in_rpo (of the fleet, weighted by time; NaN where not known), time_in_rpo_worst (with
        what is not known counted as out), tenants_inside, tenants_outside and tenants_unknown (at
        `as_of`, or at the end of a window that ends before;
        unknown: would be inside if sets of unknown soundness were sound), tenants_without_sets (in
        the inventory for longer than the RPO, and in no backup set; None without an inventory),
        gaps, longest_gap [timedelta; without what of it is unknown],
        worst_tenant (dict of instance_id, tenant_id, tenant_name; None where no tenant has a gap or
        is outside), newest_restore_point [UTC], running (unfinished runs), failed_instances (ids),
        critical, warnings, notes_found (findings by severity that nobody has acknowledged),
        acknowledged, stored_gib (in store at `as_of`; NaN where no set has a size), unsized (sets
        in store without a size), tenants_measured, tenants_growing,
        fastest_growth [%/30 d], slower (changes to slower runs), newest_slower [UTC], anomalies,
        not_judged (kinds), excluded (tenants), model (point, log or mixed: what exposure is
        measured by), without_logs (dict of time_in_rpo, gaps, tenants_outside: by backup sets
        alone; None in the point model).
    policy : Policy
        What findings were held against; every limit knows whether it is a default.
    rpo : Timedelta or limits by tenant
        The limit.
    grace : Timedelta or limits by tenant
        How much more is let pass before a time is a gap.
    rpo_origin : str
        given, policy or default.
    as_of : Timestamp or None
        The instant at which the facts were true [UTC].
    window : Window
        What was looked at [UTC]; a start of None is each tenant's first known set.
    provenance : dict
        instances, endpoint (the host), path, window_rule, failed, notes, versions.
    points : DataFrame
        The backup sets of the worst tenants, restorable or not, for the timeline.
    steps : DataFrame
        The stretches within which they can be restored to any instant (none in the point model).
    sets : BackupSets or DataFrame
        The facts.
    has_policy : bool
        Whether a policy was given; without one gaps are over the RPO alone.
    """

    findings: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]
    policy: Policy
    rpo: Any
    grace: Any
    rpo_origin: str
    as_of: pd.Timestamp | None
    window: Window
    provenance: dict[str, Any]
    points: pd.DataFrame = field(repr=False)
    steps: pd.DataFrame = field(repr=False)
    sets: BackupSets | pd.DataFrame = field(repr=False)
    has_policy: bool = field(repr=False)

    def __repr__(self) -> str:
        """Return the text."""
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        return render_summary(self)

    def compare(self, earlier: Review | Mapping[str, Any] | str | os.PathLike[str]) -> Comparison:
        """Tell what has changed since an earlier review.

        Parameters
        ----------
        earlier : Review, dict or path
            The earlier review, the dict of its `to_json`, or a file that `write_json` wrote.

        Returns
        -------
        Comparison
            What is new, worse, better, closed, the same, or cannot be known.

        Raises
        ------
        DataError
            When what is given is no review of a format that is known.
        ValueError
            When both are of entirely other instances, or `earlier` is the later one.
        """
        return comparison(self, earlier)

    def explore(self) -> Explorer:
        """Explore the facts with controls, in a notebook or on a page.

        Returns
        -------
        Explorer
            It starts with this review's RPO and policy; show it as the last line of a cell.
        """
        from obanalytics.explore import Explorer  # noqa: PLC0415 - a file needs no widgets

        rpo = self.rpo if isinstance(self.rpo, pd.Timedelta) else None
        return Explorer(self.sets, rpo=rpo, policy=self.policy if self.has_policy else None)

    def to_html(self, path: str | os.PathLike[str], *, compared: Comparison | None = None) -> None:
        """Write one self-contained page: no network and no script needed to read it.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        compared : Comparison or None
            What has changed since an earlier review, to tell it too.
        """
        write(path, render_html(self, compared))

    def to_pdf(self, path: str | os.PathLike[str], *, compared: Comparison | None = None) -> None:
        """Write the page as a PDF.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        compared : Comparison or None
            What has changed since an earlier review, to tell it too.

        Raises
        ------
        MissingExtraError
            When `obanalytics[pdf]` is not installed.
        """
        write(path, render_pdf(self, compared))

    def to_excel(self, path: str | os.PathLike[str]) -> None:
        """Write a workbook: the summary, the findings, a sheet per table, charts.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.

        Raises
        ------
        MissingExtraError
            When `obanalytics[excel]` is not installed.
        """
        write(path, render_workbook(self))

    def to_markdown(
        self, path: str | os.PathLike[str], *, compared: Comparison | None = None
    ) -> None:
        """Write the summary and all tables as Markdown.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        compared : Comparison or None
            What has changed since an earlier review, to tell it too.
        """
        write(path, render_markdown(self, compared))

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Write the summary, the findings and every table as files of comma-separated values.

        Parameters
        ----------
        folder : path
            The folder; an earlier export there is replaced when the new one is complete.

        Raises
        ------
        ArchiveError
            When the folder holds something else.
        """
        write_csv(folder, csv_files(self))

    def to_prometheus(
        self, path: str | os.PathLike[str], *, at: pd.Timestamp | None = None
    ) -> None:
        """Write metrics for the textfile collector of Prometheus' node exporter.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        at : Timestamp or None
            When it is made, to be told; None does not tell it.

        Raises
        ------
        MissingExtraError
            When `obanalytics[prometheus]` is not installed.
        """
        write(path, render_metrics(self, at))

    def to_text(self) -> str:
        """Return the summary and the worst rows of every table for a terminal.

        Returns
        -------
        str
            Lines of at most 100 cells.
        """
        return render_text(self)

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            As `obanalytics/schemas/review.json`, a JSON Schema, says: format, summary, rpo, grace,
            rpo_origin, policy (value and origin of every limit), as_of, window, provenance,
            findings (rows, with the kind's title and unit), and tables as lists of rows (of parity
            those of tenants that were not present). Durations are seconds, instants ISO 8601 in UTC
            with Z, NA and infinity null.
        """
        parity = self.tables["parity"]
        tables = self.tables | {"parity": parity[parity["presence"] != "present"]}
        about = self.findings.attrs["policy"].items()
        whole = {
            "format": FORMAT,
            "summary": self.summary,
            "rpo": self.rpo,
            "grace": self.grace,
            "rpo_origin": self.rpo_origin,
            "policy": {key: {"value": value, "origin": origin} for key, (value, origin) in about},
            "as_of": self.as_of,
            "window": {"start": self.window.start, "end": self.window.end},
            "provenance": self.provenance,
            "findings": titled(self.findings).to_dict("records"),
            "tables": {name: frame.to_dict("records") for name, frame in tables.items()},
        }
        return {name: jsonable(value) for name, value in whole.items()}

    def write_json(
        self, path: str | os.PathLike[str], *, compared: Comparison | None = None
    ) -> None:
        """Write `to_json` as a file, which `compare` reads.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        compared : Comparison or None
            What has changed since an earlier review, to be written under `compared`.
        """
        more = {} if compared is None else {"compared": compared.to_json()}
        text = json.dumps(self.to_json() | more, indent=1, ensure_ascii=False, allow_nan=False)
        # A name may hold half a character, which no file can.
        write(path, text.encode("utf-8", "backslashreplace") + b"\n")

    def is_found(self, severity: str) -> bool:
        """Tell whether there is something at or above a severity that nobody has acknowledged.

        Parameters
        ----------
        severity : str
            critical, warning or any.

        Returns
        -------
        bool
            Nothing to judge is no good news: it is found at every severity. any takes in what a
            reader must know of the data, too.
        """
        count = self.summary
        middling = count["warnings"] if severity != "critical" else 0
        noted = severity == "any" and (count["notes_found"] or self.provenance["notes"])
        return bool(not count["tenants"] or count["critical"] or middling or noted)


def review(
    sets: BackupSets | pd.DataFrame,
    *,
    rpo: Limits | None = None,
    policy: Policy | None = None,
    as_of: Instant | None = None,
) -> Review:
    """Run every analysis once.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration, mapping or Series of durations by tenant, or None
        How much may be lost; it counts more than the policy's. None takes the policy's, and without
        one assumes 26 hours, a daily backup and two hours, and says so.
    policy : Policy or None
        What is owed. With one, gaps are what is over its RPO and grace; without, what is over the
        RPO alone, while findings keep the default grace of 2 hours.
    as_of : instant or None
        The instant to look from; None takes that of `sets` [UTC].

    Returns
    -------
    Review
        The findings, the tables, the numbers that matter, and where they come from.

    Raises
    ------
    TypeError
        When the policy is none.
    ValueError
        When the RPO is no duration, or a schedule cannot be read.
    DataError
        When a plain frame is no tenants frame.
    """
    whole, is_dated = sets, as_of is not None
    if isinstance(sets, BackupSets) and sets.as_of is None and not is_dated:
        as_of = newest_time(sets.tenants, sets.clusters)  # put together by hand: it knows no now
    owed = owed_of(facts(sets, as_of), rpo, policy)
    found = found_of(sets, owed, as_of)
    sets = kept(sets, owed.excluded)
    known = facts(sets, as_of)
    tables = tables_of(sets, owed, found, as_of)
    source = sets.source if isinstance(sets, BackupSets) else Source()
    unprotected = without_sets(known, owed.rpo)
    coverage = tables["coverage"]
    alone = without_logs(sets, coverage, owed, as_of)
    notes = notes_of(known, coverage, unprotected, found)
    knows_now = isinstance(sets, BackupSets) and sets.as_of is not None
    if not is_dated and not knows_now and known.as_of is not None:
        newest = f"{known.as_of:%Y-%m-%d %H:%M} UTC"
        told = f"it is not known when these facts were true: their newest time, {newest}, is taken"
        notes += (f"{told}; as_of= gives another",)
    return Review(
        findings=found,
        tables=tables,
        summary=summary_of(known, tables, found, source, unprotected) | alone,
        policy=owed.policy,
        rpo=owed.rpo,
        grace=owed.grace,
        rpo_origin=owed.origin,
        as_of=known.as_of,
        window=Window(*span(known)),
        provenance=_provenance(known, source, notes),
        points=_of_shown(restore_points(sets, as_of=as_of)[_POINT], coverage),
        steps=_flat(sets, coverage, as_of),
        sets=whole,
        has_policy=policy is not None,
    )


def _flat(
    sets: BackupSets | pd.DataFrame, coverage: pd.DataFrame, as_of: Instant | None
) -> pd.DataFrame:
    """Return when the tenants that the timeline shows could be restored to any instant."""
    steps = exposure(sets, as_of=as_of)
    zero = steps["exposure_end"].eq(pd.Timedelta(0)) & (steps["end"] > steps["start"])
    return _of_shown(steps[zero], coverage)


def _of_shown(rows: pd.DataFrame, coverage: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the tenants that the timeline shows."""
    shown = worst_first(coverage[coverage["instance_id"].notna()]).head(_DRAWN)
    keys = pd.MultiIndex.from_frame(shown[["instance_id", "tenant_id"]].astype("string"))
    mine = pd.MultiIndex.from_frame(rows[["instance_id", "tenant_id"]].astype("string"))
    return rows.loc[mine.isin(keys)].reset_index(drop=True)


def _provenance(known: Facts, source: Source, notes: tuple[str, ...]) -> dict[str, Any]:
    """Say where the facts come from and what computed on them; the endpoint without its keys."""
    instances = source.instances or tuple(known.tenants["instance_id"].dropna().unique())
    endpoint = source.endpoint
    if endpoint is not None:
        endpoint = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname
    libraries = {name: version(name) for name in ("numpy", "pandas", "scipy")}
    return {
        "instances": tuple(map(str, instances)),
        "endpoint": endpoint,
        "path": source.path,
        "window_rule": source.window_rule,
        "failed": dict(source.failed),
        "notes": (*source.notes, *notes),
        "versions": {"obanalytics": __version__, "python": platform.python_version(), **libraries},
    }
