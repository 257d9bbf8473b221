"""Run every analysis once, by one set of limits, and sum up what matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.anomaly import anomalies
from obanalytics.changes import duration_changes
from obanalytics.clauses import Override
from obanalytics.compliance import ratios, rpo_compliance, trusted_now
from obanalytics.coverage import coverage_gaps
from obanalytics.curve import limits
from obanalytics.duration import duration_trends
from obanalytics.findings import findings
from obanalytics.forecast import forecast_size
from obanalytics.growth import size_growth
from obanalytics.kinds import KINDS
from obanalytics.parity import tenant_parity
from obanalytics.policy import Policy
from obanalytics.schedule import schedule
from obanalytics.schema import STAND_IN, BackupSets, as_duration, facts
from obanalytics.stored import stored_size
from obanalytics.wording import worst_first

if TYPE_CHECKING:
    from obanalytics.curve import Limits
    from obanalytics.schema import Facts, Instant, Source

DEFAULT_RPO = "26h"
"""A daily backup, and two hours for it to run and to start late."""
HORIZON = "90D"
"""How far ahead a review looks."""
RPO_STATES = ("inside", "outside", "unknown")
TABLES = (
    *("coverage", "gaps", "growth", "stored", "forecast", "durations", "changes"),
    *("anomalies", "parity", "schedule", "not_judged"),
)
"""The tables of a review, in their order."""
_COUNTS = {"critical": "critical", "warnings": "warning", "notes_found": "info"}
_NAMED = 5  # tenants that a note names
_KEYS = ["instance_id", "tenant_id"]
_WHOSE = [*_KEYS, "tenant_name"]
_STORE = "stored"  # the forecast of what is in store needs a retention rule, and seconds


@dataclass(frozen=True, slots=True)
class Owed:
    """State what everybody is held to.

    Parameters
    ----------
    policy : Policy
        What findings are held against.
    rpo, grace : Timedelta or dict of Timedelta by tenant
        What coverage is held against.
    origin : str
        Where the RPO comes from: given, policy or default.
    excluded : frozenset of tuple of str
        The instance and tenant of those that the policy leaves out.
    """

    policy: Policy
    rpo: Any
    grace: Any
    origin: str
    excluded: frozenset[tuple[str, str]]


def owed_of(known: Facts, rpo: Limits | None, policy: Policy | None) -> Owed:
    """Settle what everybody is held to.

    Parameters
    ----------
    known : Facts
        Who there is.
    rpo : duration, mapping or Series of durations by tenant, or None
        The limit; it counts more than the policy's.
    policy : Policy or None
        What is owed; without one, gaps are what is over the RPO alone, without grace.

    Returns
    -------
    Owed
        The limits.

    Raises
    ------
    TypeError
        When the policy is none.
    ValueError
        When the RPO is no duration.
    """
    if not isinstance(policy, Policy | None):
        raise TypeError(f"policy is a Policy (Policy.load reads a file), not {policy!r}")
    given = None if rpo is None else _limit(rpo)
    held = _held(Policy() if policy is None else policy, given)
    if policy is None:
        limit = _limit(DEFAULT_RPO) if given is None else given
        origin = "default" if given is None else "given"
        return Owed(held, limit, pd.Timedelta(0), origin, frozenset())
    origin = "given" if given is not None else held.origins["rpo"]
    if not (held.override or held.exclude):
        return Owed(held, held.rpo, held.grace, origin, frozenset())
    people = _people(known)
    limits = held.limits(people)
    keys = list(people[_KEYS].itertuples(index=False, name=None))
    left_out = frozenset(key for key, out in zip(keys, limits.excluded, strict=True) if out)
    bounds = [_by_tenant(keys, each) for each in (limits.rpo, limits.grace)]
    return Owed(held, bounds[0], bounds[1], origin, left_out)


def _limit(rpo: Any) -> Any:  # noqa: ANN401 - one limit or limits by tenant
    """Return the limit as a duration, or the limits as durations by tenant."""
    if isinstance(rpo, str) or not hasattr(rpo, "items"):
        return as_duration(rpo, "rpo")
    given = {key: value for key, value in rpo.items() if not pd.isna(value)}
    return {key: as_duration(value, f"rpo of tenant {key}") for key, value in given.items()}


def _held(policy: Policy, rpo: Any) -> Policy:  # noqa: ANN401
    """Return the policy with another RPO; that of some tenants goes before all exceptions."""
    if rpo is None:
        return policy
    if isinstance(rpo, pd.Timedelta):
        return replace(policy, rpo=rpo, given=frozenset({*(policy.given or ()), "rpo"}))
    more = []
    for key, value in rpo.items():
        instance, tenant = key if isinstance(key, tuple) else (None, key)
        where = () if instance is None else str(instance)
        more.append(Override(tenant=str(tenant), instance=where, rpo=value))
    return replace(policy, override=(*policy.override, *more))


def _people(known: Facts) -> pd.DataFrame:
    """Return every tenant, of the sets and of the inventory, with the newest names."""
    rows = known.tenants.sort_values("start_time", kind="stable")[_WHOSE]
    parts = [rows.drop_duplicates(_KEYS, keep="last").astype("object")]
    table = known.inventory
    if table is not None:
        parts.append(table.loc[table["tenant_id"].notna(), _WHOSE].astype("object"))
    people = pd.concat(parts, ignore_index=True).drop_duplicates(_KEYS, ignore_index=True)
    names = pd.Series(None, index=people.index, dtype="object")
    if table is not None:
        named = table.dropna(subset="instance_name").drop_duplicates("instance_id", keep="last")
        called = dict(zip(named["instance_id"], named["instance_name"], strict=True))
        names = people["instance_id"].map(called).astype("object")
    return people.assign(instance_name=names.where(names.notna(), None))


def _by_tenant(keys: list[tuple[str, str]], values: Any) -> Any:  # noqa: ANN401 - an array [µs]
    """Return one limit where all tenants have the same, else the limits by tenant."""
    spans = {key: pd.Timedelta(int(value), "us") for key, value in zip(keys, values, strict=True)}
    different = set(spans.values())
    return different.pop() if len(different) == 1 else spans


def kept(sets: BackupSets | pd.DataFrame, excluded: frozenset[tuple[str, str]]) -> Any:  # noqa: ANN401
    """Return the facts without the tenants that a policy leaves out.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    excluded : frozenset of tuple of str
        Who is left out.

    Returns
    -------
    BackupSets or DataFrame
        The same kind.
    """
    if not excluded:
        return sets
    if not isinstance(sets, BackupSets):
        return sets[~_among(sets, excluded)]
    parts: dict[str, Any] = {"tenants": sets.tenants[~_among(sets.tenants, excluded)]}
    for name in ("restorable", "inventory"):
        table = getattr(sets, name)
        if table is not None:
            parts[name] = table[~_among(table, excluded)]
    return replace(sets, **parts)


def _among(frame: pd.DataFrame, keys: frozenset[tuple[str, str]]) -> Any:  # noqa: ANN401 - bools
    """Tell which rows are of some tenants."""
    mine = pd.MultiIndex.from_frame(frame[_KEYS].astype("object"))
    return mine.isin(list(keys))


def coverage_of(
    sets: BackupSets | pd.DataFrame,
    owed: Owed,
    as_of: Instant | None,
    trusted: dict[Any, Any] | None = None,
) -> pd.DataFrame:
    """Measure coverage.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, without who is left out.
    owed : Owed
        The limits.
    as_of : instant or None
        The instant to look from.
    trusted : dict or None
        Where what does not hang on the limits is kept, for more calls with the same facts and
        instant.

    Returns
    -------
    DataFrame
        `rpo_compliance` with the fleet's row, and `rpo_state`: inside, outside, or unknown, where
        that hangs on sets of unknown soundness.
    """
    asked: dict[str, Any] = {"grace": owed.grace, "as_of": as_of, "total": True}
    coverage = rpo_compliance(sets, owed.rpo, **asked)
    asked = {"as_of": as_of, "trusted": {} if trusted is None else trusted}
    return coverage.assign(rpo_state=_rpo_state(coverage, _at_best(sets, coverage, owed, **asked)))


def _at_best(
    sets: BackupSets | pd.DataFrame,
    coverage: pd.DataFrame,
    owed: Owed,
    *,
    as_of: Instant | None,
    trusted: dict[Any, Any],
) -> Any:  # noqa: ANN401 - an array of ratios
    """Return the ratios as they would be if sets of unknown soundness were sound."""
    ratio = coverage["rpo_ratio"].to_numpy(dtype=np.float64).copy()
    outside = np.flatnonzero((ratio > 1) & coverage["instance_id"].notna().to_numpy())
    if not len(outside):
        return ratio
    keys = coverage.iloc[outside][_KEYS].astype("object")
    asked = tuple(keys.itertuples(index=False, name=None))
    if asked not in trusted:
        few = _only(sets, frozenset(asked))
        trusted[asked] = trusted_now(few, as_of or facts(sets).as_of)
    people, exposed = trusted[asked]
    place = {key: n for n, key in enumerate(people[_KEYS].itertuples(index=False, name=None))}
    ratio[outside] = ratios(exposed, limits(owed.rpo, people))[[place[key] for key in asked]]
    is_tenant = coverage["instance_id"].notna().to_numpy()
    ratio[~is_tenant] = ratio[is_tenant].max(initial=-np.inf) if is_tenant.any() else np.nan
    return ratio


def _only(sets: BackupSets | pd.DataFrame, keys: frozenset[tuple[str, str]]) -> Any:  # noqa: ANN401
    """Return the facts of some tenants."""
    if not isinstance(sets, BackupSets):
        return sets[_among(sets, keys)]
    return replace(sets, tenants=sets.tenants[_among(sets.tenants, keys)])


def tables_of(
    sets: BackupSets | pd.DataFrame, owed: Owed, found: pd.DataFrame, as_of: Instant | None
) -> dict[str, pd.DataFrame]:
    """Run every analysis once.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, without who is left out.
    owed : Owed
        The limits.
    found : DataFrame
        The findings.
    as_of : instant or None
        The instant to look from.

    Returns
    -------
    dict of str to DataFrame
        The tables by name.
    """
    ahead = forecast_size(sets, HORIZON, candidates="core", as_of=as_of)
    made = {
        "coverage": coverage_of(sets, owed, as_of),
        "gaps": coverage_gaps(sets, owed.rpo, grace=owed.grace, as_of=as_of),
        "growth": size_growth(sets, as_of=as_of),
        "stored": stored_size(sets, freq="W", by="cluster", as_of=as_of),
        "forecast": ahead[ahead["what"] != _STORE].reset_index(drop=True),
        "durations": duration_trends(sets, as_of=as_of),
        "changes": duration_changes(sets, as_of=as_of),
        "anomalies": anomalies(sets, as_of=as_of),
        "parity": tenant_parity(sets, as_of=as_of),
        "schedule": schedule(sets, owed.policy.schedule, tz=owed.policy.tz, as_of=as_of),
        "not_judged": not_judged_of(found),
    }
    return {name: made[name] for name in TABLES}


def found_of(sets: BackupSets | pd.DataFrame, owed: Owed, as_of: Instant | None) -> pd.DataFrame:
    """Find every fault.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, all of them.
    owed : Owed
        The limits.
    as_of : instant or None
        The instant to look from.

    Returns
    -------
    DataFrame
        What `findings` returns.
    """
    return findings(sets, owed.policy, as_of)


def not_judged_of(found: pd.DataFrame) -> pd.DataFrame:
    """Return the kinds of findings that could not be judged, and why.

    Parameters
    ----------
    found : DataFrame
        The findings.

    Returns
    -------
    DataFrame
        `kind`, `title`, `reason`.
    """
    reasons = found.attrs["not_judged"]
    return pd.DataFrame(
        {
            "kind": pd.Series(list(reasons), dtype="string"),
            "title": pd.Series([KINDS[kind].title for kind in reasons], dtype="string"),
            "reason": pd.Series(list(reasons.values()), dtype="string"),
        }
    )


def _rpo_state(coverage: pd.DataFrame, at_best: Any) -> pd.Categorical:  # noqa: ANN401 - an array
    """Say of every row whether it is inside its RPO; unknown where that hangs on trust."""
    ratio = coverage["rpo_ratio"].to_numpy(dtype=np.float64)
    codes = np.select([ratio <= 1, at_best > 1], [0, 1], default=2)
    return pd.Categorical.from_codes(codes, categories=list(RPO_STATES))


def summary_of(
    known: Facts,
    tables: dict[str, pd.DataFrame],
    found: pd.DataFrame,
    source: Source,
    unprotected: list[str],
) -> dict[str, Any]:
    """Return the numbers that matter.

    Parameters
    ----------
    known : Facts
        The facts, without who is left out.
    tables : dict of str to DataFrame
        The tables.
    found : DataFrame
        The findings.
    source : Source
        Where the facts come from.
    unprotected : list of str
        Who has no set at all.

    Returns
    -------
    dict
        As `Review` documents it.
    """
    coverage, gaps = tables["coverage"], tables["gaps"]
    is_tenant = coverage["instance_id"].notna()
    tenants, fleet = coverage[is_tenant], coverage[~is_tenant]
    states = tenants["rpo_state"].value_counts()
    inside = known.tenants[known.tenants["in_window"].astype(bool)]
    return {
        "instances": len({*source.instances} or {*inside["instance_id"].dropna()}),
        "tenants": len(tenants),
        "sets": int((~inside.duplicated([*_KEYS, "backup_set_id"])).sum()),
        "restore_points": int(tenants["restore_points"].sum()),
        "time_in_rpo": float(fleet["time_in_rpo"].iloc[0]) if len(tenants) else np.nan,
        "time_in_rpo_worst": float(fleet["time_in_rpo_worst"].iloc[0]) if len(tenants) else np.nan,
        "tenants_inside": int(states["inside"]),
        "tenants_outside": int(states["outside"]),
        "tenants_unknown": int(states["unknown"]),
        "gaps": len(gaps),
        "tenants_without_sets": None if known.inventory is None else len(unprotected),
        "longest_gap": (gaps["gap"] - gaps["unknown"]).max() if len(gaps) else pd.NaT,
        "worst_tenant": _worst_tenant(tenants),
        "newest_restore_point": tenants["last_checkpoint"].max() if len(tenants) else pd.NaT,
        "running": int(tables["durations"]["running"].sum()),
        "failed_instances": tuple(source.failed),
        **_counts_of(found),
        **_sizes_of(tables),
        "slower": int((tables["changes"]["factor"] > 1).sum()),
        "newest_slower": _newest_slower(tables["changes"]),
        "anomalies": len(tables["anomalies"]),
        "not_judged": len(tables["not_judged"]),
        "excluded": int(found.attrs["excluded"]),
    }


def _counts_of(found: pd.DataFrame) -> dict[str, int]:
    """Return how many findings there are by severity, without what is acknowledged."""
    fresh = found.loc[~found["acknowledged"], "severity"].value_counts()
    counts = {name: int(fresh.get(severity, 0)) for name, severity in _COUNTS.items()}
    return {**counts, "acknowledged": int(found["acknowledged"].sum())}


def _sizes_of(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return what is in store, and who grows."""
    stored, growth = tables["stored"], tables["growth"]
    now = stored[stored["time"] == stored["time"].max()]
    full = growth["full"].fillna(value=False).astype(bool)
    measured = growth[full & growth["percent_per_30d"].notna()]
    growing = measured.loc[measured["verdict"].eq("growing"), _KEYS].drop_duplicates()
    unsized = int(now["unsized"].sum())
    sized = int(now["sets"].sum()) > unsized
    return {
        "stored_gib": float(now["stored_gib"].sum()) if sized else np.nan,
        "unsized": unsized,
        "tenants_measured": len(measured[_KEYS].drop_duplicates()),
        "tenants_growing": len(growing),
        "fastest_growth": float(measured["percent_per_30d"].max()) if len(measured) else np.nan,
    }


def _newest_slower(changes: pd.DataFrame) -> pd.Timestamp:
    """Return since when the latest change to slower runs holds."""
    slower = changes.loc[changes["factor"] > 1, "at"]
    return slower.max() if len(slower) else pd.NaT


def _worst_tenant(tenants: pd.DataFrame) -> dict[str, Any] | None:
    """Return who is worst off; None where nobody has a gap or is outside now."""
    troubled = tenants[(tenants["gaps"] > 0) | (tenants["rpo_state"] == "outside")]
    if troubled.empty:
        return None
    row = worst_first(troubled).iloc[0]
    return {name: row[name] for name in _WHOSE}


def without_logs(
    sets: BackupSets | pd.DataFrame, coverage: pd.DataFrame, owed: Owed, as_of: Instant | None
) -> dict[str, Any]:
    """Return by what exposure was measured, and what would be so by backup sets alone.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, without who is left out.
    coverage : DataFrame
        The table.
    owed : Owed
        The limits.
    as_of : instant or None
        The instant to look from.

    Returns
    -------
    dict
        model, without_logs.
    """
    model = coverage.attrs["model"]
    if model == "point" or not isinstance(sets, BackupSets):
        return {"model": model, "without_logs": None}
    alone = replace(sets, restorable=None)
    points = rpo_compliance(alone, owed.rpo, grace=owed.grace, as_of=as_of, total=True)
    fleet = points.iloc[-1]
    told = {
        "time_in_rpo": float(fleet["time_in_rpo"]),
        "gaps": int(fleet["gaps"]),
        "tenants_outside": int((points["rpo_ratio"].iloc[:-1] > 1).sum()),
    }
    return {"model": model, "without_logs": told}


def notes_of(
    known: Facts, coverage: pd.DataFrame, unprotected: list[str], found: pd.DataFrame
) -> tuple[str, ...]:
    """Say what the tables cannot show.

    Parameters
    ----------
    known : Facts
        The facts, without who is left out.
    coverage : DataFrame
        The table.
    unprotected : list of str
        Who has no set at all.
    found : DataFrame
        The findings.

    Returns
    -------
    tuple of str
        A sentence each.
    """
    notes = []
    if unprotected:
        notes.append(f"in the inventory, but in no backup set: {_listed(unprotected)}")
    if absent := _absent(known, coverage):
        text = f"outside the RPO, but no longer in the inventory: {_listed(absent)}"
        notes.append(f"{text}; counted all the same")
    if unnamed := _unnamed(known, coverage):
        text = f"the service lists no restorable intervals of {_listed(unnamed)}"
        notes.append(f"{text}: judged by their backup sets alone")
    end = known.window.end
    if end is not None and known.as_of is not None and end > known.as_of:
        notes.append("the window ends after the facts do: what comes after them counts as a gap")
    if left_out := found.attrs["excluded"]:
        many = f"{left_out:,} tenants are" if left_out > 1 else "1 tenant is"
        notes.append(f"{many} left out, as the policy says: in no number, table or finding")
    return (*notes, *found.attrs["notes"])


def _listed(names: list[str]) -> str:
    """Return a few of the names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


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
    seen = set(known.tenants[_KEYS].itertuples(index=False, name=None))
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
    there = set(known.inventory[_KEYS].itertuples(index=False, name=None))
    listed = {instance for instance, _ in there}
    outside = coverage[coverage["rpo_state"].eq("outside") & coverage["instance_id"].isin(listed)]
    rows = outside[_WHOSE].itertuples(index=False, name=None)
    return [f"{name} of {one}" for one, tenant, name in rows if (one, tenant) not in there]


def _unnamed(known: Facts, coverage: pd.DataFrame) -> list[str]:
    """Name the tenants of which the service lists no restorable intervals, but of others."""
    if known.restorable is None or coverage.attrs["model"] != "mixed":
        return []
    there = set(known.restorable[_KEYS].itertuples(index=False, name=None))
    rows = coverage.loc[coverage["instance_id"].notna(), _WHOSE].itertuples(index=False, name=None)
    return [f"{name} of {one}" for one, tenant, name in rows if (one, tenant) not in there]


def titled(found: pd.DataFrame) -> pd.DataFrame:
    """Return findings with what a reader needs who does not know the kinds.

    Parameters
    ----------
    found : DataFrame
        What `findings` returned.

    Returns
    -------
    DataFrame
        With `title` and `unit`.
    """
    titles = {name: kind.title for name, kind in KINDS.items()}
    return found.assign(
        title=found["kind"].map(titles).astype("object"),
        unit=found["kind"].map(found.attrs["units"]).astype("object"),
    )
