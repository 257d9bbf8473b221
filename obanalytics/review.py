"""Run every analysis once and hold the result as data, whatever it is shown as."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from obanalytics import __version__
from obanalytics.asjson import jsonable
from obanalytics.compliance import rpo_compliance
from obanalytics.coverage import coverage_gaps, exposure
from obanalytics.duration import duration_trends
from obanalytics.growth import size_growth
from obanalytics.report import (
    render_html,
    render_markdown,
    render_summary,
    render_text,
    write,
)
from obanalytics.restore import restore_points
from obanalytics.schema import STAND_IN, BackupSets, Source, Window, as_duration, facts, span
from obanalytics.wording import worst_first

if TYPE_CHECKING:
    import os

    from obanalytics.curve import Limits
    from obanalytics.schema import Facts, Instant

DEFAULT_RPO = "26h"
"""A daily backup, and two hours for it to run and to start late."""
FORMAT = 1
"""The version of what `Review.to_json` returns."""
RPO_STATES = ("inside", "outside", "unknown")
_NAMED = 5  # tenants that a note names
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
    tables : dict of str to DataFrame
        coverage (`rpo_compliance` with the fleet's row, and rpo_state: inside, outside, unknown),
        gaps (`coverage_gaps`), growth (`size_growth`), durations (`duration_trends`).
    summary : dict
        instances, tenants, sets (of tenants, in the window, copies counted once), restore_points,
        time_in_rpo (of the fleet, weighted by time; NaN where not known), tenants_inside,
        tenants_outside and tenants_unknown (at `as_of`, or at the end of a window that ends before;
        unknown: would be inside if sets of unknown soundness were sound), tenants_without_sets (in
        the inventory for longer than the RPO, and in no backup set), gaps, longest_gap [timedelta;
        without what of it is unknown],
        worst_tenant (dict of instance_id, tenant_id, tenant_name; None where no tenant has a gap or
        is outside), newest_restore_point [UTC], running (unfinished runs), failed_instances (ids),
        model (point, log or mixed: what exposure is measured by), without_logs (dict of
        time_in_rpo, gaps, tenants_outside: by backup sets alone; None in the point model).
    rpo : Timedelta or limits by tenant
        The limit.
    rpo_origin : str
        given or default.
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
    """

    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]
    rpo: Any
    rpo_origin: str
    as_of: pd.Timestamp | None
    window: Window
    provenance: dict[str, Any]
    points: pd.DataFrame = field(repr=False)
    steps: pd.DataFrame = field(repr=False)

    def __repr__(self) -> str:
        """Return the text."""
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        return render_summary(self)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page: no network and no script needed to read it.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        """
        write(path, render_html(self))

    def to_markdown(self, path: str | os.PathLike[str]) -> None:
        """Write the summary and all tables as Markdown.

        Parameters
        ----------
        path : path
            The file; an earlier one is replaced when the new one is complete.
        """
        write(path, render_markdown(self))

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
            format, summary, rpo, rpo_origin, as_of, window, provenance, and tables as lists of
            rows. Durations are seconds, instants ISO 8601 in UTC with Z, NA and infinity null.
        """
        whole = {
            "format": FORMAT,
            "summary": self.summary,
            "rpo": self.rpo,
            "rpo_origin": self.rpo_origin,
            "as_of": self.as_of,
            "window": {"start": self.window.start, "end": self.window.end},
            "provenance": self.provenance,
            "tables": {name: frame.to_dict("records") for name, frame in self.tables.items()},
        }
        return {name: jsonable(value) for name, value in whole.items()}


def review(
    sets: BackupSets | pd.DataFrame,
    *,
    rpo: Limits | None = None,
    policy: None = None,
    as_of: Instant | None = None,
) -> Review:
    """Run every analysis once.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration, mapping or Series of durations by tenant, or None
        How much may be lost; None assumes 26 hours, a daily backup and two hours, and says so.
    policy : None
        Not there yet.
    as_of : instant or None
        The instant to look from; None takes that of `sets` [UTC].

    Returns
    -------
    Review
        The tables, the numbers that matter, and where they come from.

    Raises
    ------
    ValueError
        When a policy is given, or the RPO is no duration.
    DataError
        When a plain frame is no tenants frame.
    """
    if policy is not None:
        raise ValueError("policies are not supported yet: leave policy=None and give rpo=")
    origin = "default" if rpo is None else "given"
    limit = _limit(DEFAULT_RPO if rpo is None else rpo)
    known = facts(sets, as_of)
    coverage = rpo_compliance(sets, limit, as_of=as_of, total=True)
    trusted = coverage
    if (coverage["rpo_ratio"] > 1).any():
        trusted = rpo_compliance(sets, limit, as_of=as_of, trust_unknown=True, total=True)
    tables = {
        "coverage": coverage.assign(rpo_state=_rpo_state(coverage, trusted)),
        "gaps": coverage_gaps(sets, limit, as_of=as_of),
        "growth": size_growth(sets, as_of=as_of),
        "durations": duration_trends(sets, as_of=as_of),
    }
    source = sets.source if isinstance(sets, BackupSets) else Source()
    unprotected = without_sets(known, limit)
    alone = _without_logs(sets, coverage, limit, as_of)
    return Review(
        tables=tables,
        summary=_summary(known, tables, source, unprotected) | alone,
        rpo=limit,
        rpo_origin=origin,
        as_of=known.as_of,
        window=Window(*span(known)),
        provenance=_provenance(known, source, _notes(known, tables, unprotected)),
        points=_of_shown(restore_points(sets, as_of=as_of)[_POINT], tables["coverage"]),
        steps=_flat(sets, tables["coverage"], as_of),
    )


def _limit(rpo: Any) -> Any:  # noqa: ANN401 - one limit or limits by tenant
    """Return the limit as a duration, or the limits as durations by tenant."""
    if isinstance(rpo, str) or not hasattr(rpo, "items"):
        return as_duration(rpo, "rpo")
    given = {key: value for key, value in rpo.items() if not pd.isna(value)}
    return {key: as_duration(value, f"rpo of tenant {key}") for key, value in given.items()}


def _rpo_state(coverage: pd.DataFrame, trusted: pd.DataFrame) -> pd.Categorical:
    """Say of every row whether it is inside its RPO; unknown where that hangs on trust."""
    ratio = coverage["rpo_ratio"].to_numpy(dtype=np.float64)
    at_best = trusted["rpo_ratio"].to_numpy(dtype=np.float64)
    codes = np.select([ratio <= 1, at_best > 1], [0, 1], default=2)
    return pd.Categorical.from_codes(codes, categories=list(RPO_STATES))


def _summary(
    known: Facts, tables: dict[str, pd.DataFrame], source: Source, unprotected: list[str]
) -> dict[str, Any]:
    """Return the numbers that matter."""
    coverage, gaps = tables["coverage"], tables["gaps"]
    is_tenant = coverage["instance_id"].notna()
    tenants, fleet = coverage[is_tenant], coverage[~is_tenant]
    states = tenants["rpo_state"].value_counts()
    inside = known.tenants[known.tenants["in_window"].astype(bool)]
    keys = ["instance_id", "tenant_id", "backup_set_id"]
    return {
        "instances": len({*source.instances} or {*inside["instance_id"].dropna()}),
        "tenants": len(tenants),
        "sets": int((~inside.duplicated(keys)).sum()),
        "restore_points": int(tenants["restore_points"].sum()),
        "time_in_rpo": float(fleet["time_in_rpo"].iloc[0]) if len(tenants) else np.nan,
        "tenants_inside": int(states["inside"]),
        "tenants_outside": int(states["outside"]),
        "tenants_unknown": int(states["unknown"]),
        "gaps": len(gaps),
        "tenants_without_sets": len(unprotected),
        "longest_gap": (gaps["gap"] - gaps["unknown"]).max() if len(gaps) else pd.NaT,
        "worst_tenant": _worst_tenant(tenants),
        "newest_restore_point": tenants["last_checkpoint"].max() if len(tenants) else pd.NaT,
        "running": int(tables["durations"]["running"].sum()),
        "failed_instances": tuple(source.failed),
    }


def _worst_tenant(tenants: pd.DataFrame) -> dict[str, Any] | None:
    """Return who is worst off; None where nobody has a gap or is outside now."""
    troubled = tenants[(tenants["gaps"] > 0) | (tenants["rpo_state"] == "outside")]
    if troubled.empty:
        return None
    row = worst_first(troubled).iloc[0]
    return {name: row[name] for name in ("instance_id", "tenant_id", "tenant_name")}


def _without_logs(
    sets: BackupSets | pd.DataFrame, coverage: pd.DataFrame, limit: Limits, as_of: Instant | None
) -> dict[str, Any]:
    """Return by what exposure was measured, and what would be so by backup sets alone."""
    model = coverage.attrs["model"]
    if model == "point" or not isinstance(sets, BackupSets):
        return {"model": model, "without_logs": None}
    points = rpo_compliance(replace(sets, restorable=None), limit, as_of=as_of, total=True)
    fleet = points.iloc[-1]
    alone = {
        "time_in_rpo": float(fleet["time_in_rpo"]),
        "gaps": int(fleet["gaps"]),
        "tenants_outside": int((points["rpo_ratio"].iloc[:-1] > 1).sum()),
    }
    return {"model": model, "without_logs": alone}


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


def _notes(
    known: Facts, tables: dict[str, pd.DataFrame], unprotected: list[str]
) -> tuple[str, ...]:
    """Say what the tables cannot show."""
    notes = []
    if unprotected:
        notes.append(f"in the inventory, but in no backup set: {_listed(unprotected)}")
    if absent := _absent(known, tables["coverage"]):
        text = f"outside the RPO, but no longer in the inventory: {_listed(absent)}"
        notes.append(f"{text}; counted all the same")
    if unnamed := _unnamed(known, tables["coverage"]):
        text = f"the service lists no restorable intervals of {_listed(unnamed)}"
        notes.append(f"{text}: judged by their backup sets alone")
    end = known.window.end
    if end is not None and known.as_of is not None and end > known.as_of:
        notes.append("the window ends after the facts do: what comes after them counts as a gap")
    return tuple(notes)


def _listed(names: list[str]) -> str:
    """Return a few of the names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


_WHOSE = ["instance_id", "tenant_id", "tenant_name"]


def without_sets(known: Facts, limit: Any) -> list[str]:  # noqa: ANN401 - one limit or several
    """Name the tenants of the inventory that no set is of, though one is due.

    Parameters
    ----------
    known : Facts
        What was known at an instant.
    limit : Timedelta or limits by tenant
        The RPO: one limit gives a new tenant so long for its first set.

    Returns
    -------
    list of str
        Names with their instances; none where there is no inventory.
    """
    if known.inventory is None:
        return []
    ids = known.inventory["tenant_id"]
    listed = known.inventory[ids.notna() & (ids != STAND_IN)]
    seen = set(known.tenants[_WHOSE[:2]].itertuples(index=False, name=None))
    whole = {instance for instance, tenant in seen if tenant == STAND_IN}  # lists no tenants
    bounds = [each for each in (known.as_of, known.window.end) if each is not None]
    if bounds:
        grace = limit if isinstance(limit, pd.Timedelta) else pd.Timedelta(0)
        listed = listed[~(listed["created_time"] > min(bounds) - grace)]
    rows = listed[_WHOSE].itertuples(index=False, name=None)
    return [
        f"{tenant if pd.isna(name) else name} of {instance}"
        for instance, tenant, name in rows
        if (instance, tenant) not in seen and instance not in whole
    ]


def _absent(known: Facts, coverage: pd.DataFrame) -> list[str]:
    """Name the tenants that are outside and not in the inventory: dropped, perhaps."""
    if known.inventory is None:
        return []
    there = set(known.inventory[_WHOSE[:2]].itertuples(index=False, name=None))
    listed = {instance for instance, _ in there}
    outside = coverage[coverage["rpo_state"].eq("outside") & coverage["instance_id"].isin(listed)]
    rows = outside[_WHOSE].itertuples(index=False, name=None)
    return [f"{name} of {one}" for one, tenant, name in rows if (one, tenant) not in there]


def _unnamed(known: Facts, coverage: pd.DataFrame) -> list[str]:
    """Name the tenants of which the service lists no restorable intervals, but of others."""
    if known.restorable is None or coverage.attrs["model"] != "mixed":
        return []
    there = set(known.restorable[_WHOSE[:2]].itertuples(index=False, name=None))
    rows = coverage.loc[coverage["instance_id"].notna(), _WHOSE].itertuples(index=False, name=None)
    return [f"{name} of {one}" for one, tenant, name in rows if (one, tenant) not in there]


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
