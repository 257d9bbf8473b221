"""Draft a policy: what is owed by default, with what can be inferred from backup sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.policy import Policy
from obanalytics.schedule import schedule
from obanalytics.schema import facts
from obanalytics.wording import format_span, plain, plural

if TYPE_CHECKING:
    from obanalytics.schema import BackupSets, Facts, Instant

_SURE = 0.5
"""A cadence of less confidence is not taken for one."""
_RESTS = 1.5  # so many periods from run to run, of every tenth, are a day of rest
_MOST = 0.9
"""So many of the tenants must share what is proposed for all."""
_HOUR, _DAY = pd.Timedelta(1, "h"), pd.Timedelta(1, "D")
_P95 = 0.95


def draft(
    sets: BackupSets | pd.DataFrame | None = None,
    *,
    tz: str = "UTC",
    as_of: Instant | None = None,
) -> str:
    """Draft a policy as commented TOML.

    Parameters
    ----------
    sets : BackupSets, DataFrame or None
        What to infer from; None drafts the defaults.
    tz : str
        The display time zone.
    as_of : instant or None
        The instant to look from; None takes that of the facts [UTC].

    Returns
    -------
    str
        `Policy.parse` reads it. A limit is proposed where nine in ten tenants share what it is
        inferred from; else the comment says what was seen.

    Raises
    ------
    ValueError
        When there is no such time zone.
    """
    if sets is None:
        return Policy(tz=tz).to_toml()
    known = facts(sets, as_of)
    if known.tenants.empty:
        return Policy(tz=tz).to_toml({"rpo": "there is no backup set to infer anything from"})
    cadence = schedule(sets, tz=tz, as_of=as_of)
    cadence = cadence[cadence["confidence"] >= _SURE]
    earlier = cadence[cadence["until"].notna()]
    cadence = cadence[cadence["until"].isna()]
    usual = {mode: _shared(cadence[cadence["mode"] == mode]) for mode in ("any", "full")}
    took = known.tenants.loc[known.tenants["state"] == "done", "duration"]
    limits = _limits(_allowed(usual, earlier, known.tenants), took)
    remarks = _remarks(known, cadence, usual, took)
    return Policy(**limits, tz=tz).to_toml(remarks)


def _shared(cadence: pd.DataFrame) -> pd.Timedelta | None:
    """Return the period that nearly all tenants share; None where there is none."""
    every = cadence["every"].dropna()
    if every.empty:
        return None
    counts = every.value_counts()
    return counts.index[0] if counts.iloc[0] >= _MOST * len(every) else None


def _allowed(
    usual: dict[str, pd.Timedelta | None], earlier: pd.DataFrame, tenants: pd.DataFrame
) -> dict[str, pd.Timedelta | None]:
    """Return the periods that limits are made from: days of rest and the past are no faults."""
    made = dict(usual)
    for mode, every in usual.items():
        if every is None:
            continue
        before = earlier.loc[earlier["mode"] == mode, "every"]
        made[mode] = max([every, *before])
        rows = tenants if mode == "any" else tenants[tenants["full"].fillna(value=False)]
        rows = rows[rows["start_time"].notna()].sort_values("start_time")
        apart = rows.groupby(["instance_id", "tenant_id"], observed=True)["start_time"].diff()
        longest = apart.groupby([rows["instance_id"], rows["tenant_id"]], observed=True).quantile(
            _MOST
        )
        if len(longest) and longest.median() > _RESTS * every:
            made[mode] = max(made[mode], longest.median())
    return made


def _limits(usual: dict[str, pd.Timedelta | None], took: pd.Series) -> dict[str, Any]:
    """Return the limits that are proposed."""
    longest = took.quantile(_P95) if took.notna().any() else pd.Timedelta(0)
    limits: dict[str, Any] = {}
    runs, fulls = usual["any"], usual["full"]
    if runs is not None:
        # A run may start as late as it takes, and an hour.
        limits["rpo"] = (runs + longest).ceil("h") + _HOUR
    if fulls is not None:
        limits["full_every"] = (fulls + longest).ceil("D")
    return limits


def _remarks(
    known: Facts,
    cadence: pd.DataFrame,
    usual: dict[str, pd.Timedelta | None],
    took: pd.Series,
) -> dict[str, str]:
    """Return what was seen, by the key that it matters to."""
    remarks = {
        "rpo": f"inferred: runs come {_often(cadence, usual, 'any')}, and {_taken(took)}",
        "full_every": f"inferred: full sets come {_often(cadence, usual, 'full')}",
        "max_running": f"seen: {_taken(took)}",
        # A period alone would owe slots on days of rest and before a change of cadence.
        "schedule": "inferred for each tenant: {}; full {}".format(
            *(_often(cadence, usual, mode) for mode in ("any", "full"))
        ),
    }
    if known.as_of is not None and known.tenants["end_time"].notna().any():
        age = known.as_of - known.tenants["end_time"].min()
        remarks["retention_days"] = f"seen: the oldest set in the list ended {format_span(age)} ago"
    classes = sorted({plain(each, 40) for each in known.tenants["storage_class"].dropna()})
    if classes:
        remarks["copies"] = f"seen: {', '.join(classes)}"
    return remarks


def _often(cadence: pd.DataFrame, usual: dict[str, pd.Timedelta | None], mode: str) -> str:
    """Say how often runs come."""
    rows = cadence[cadence["mode"] == mode]
    every = usual[mode]
    if rows.empty:
        return "too seldom to tell how often"
    if every is None:
        seen = rows["every"].value_counts()
        told = [f"{format_span(each)} ({count:,})" for each, count in seen.head(3).items()]
        return f"differently often: every {', '.join(told)}"
    same = int((rows["every"] == every).sum())
    hours = rows["hour"].dropna()
    at = ""
    if len(hours) and every >= _DAY and np.ptp(hours) < 1:
        minutes = round(float(hours.median()) * 60)
        at = f" at about {minutes // 60:02}:{minutes % 60:02} {plain(rows['tz'].iloc[0], 40)}"
    return f"every {format_span(every)}{at} ({same:,} of {plural(len(rows), 'tenant')})"


def _taken(took: pd.Series) -> str:
    """Say how long runs take."""
    if not took.notna().any():
        return "none has ended"
    longest, usual = took.max(), took.quantile(_P95)
    return f"95 % of them take up to {format_span(usual)}, the longest took {format_span(longest)}"
