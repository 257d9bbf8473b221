"""Write a review as Prometheus reads it: text for the node exporter's textfile collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from obanalytics.errors import MissingExtraError
from obanalytics.schema import as_instant

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from obanalytics.overview import ReviewData

    Sample = tuple[str, tuple[str, ...], Any]
    Key = tuple[str, str]

_GIB = 2**30  # [bytes]
_STATES = ("inside", "outside", "unknown")
_SEVERITIES = ("critical", "warning", "info")
_TENANT = ("instance_id", "tenant_id", "tenant")
_MODE = (*_TENANT, "mode")
_SHELF = ("instance_id", "mode", "storage_class")
_KIND = ("severity", "acknowledged")


class Metric(NamedTuple):
    """A metric: all of ours are gauges, for a review is taken anew every time."""

    help: str
    labels: tuple[str, ...] = ()


METRICS = {
    "obanalytics_build_info": Metric("1, with the version that wrote this.", ("version",)),
    "obanalytics_review_info": Metric(
        "1, with what exposure is measured by and where the RPO comes from.",
        ("model", "rpo_origin"),
    ),
    "obanalytics_as_of_timestamp_seconds": Metric("When the facts were true."),
    "obanalytics_last_run_timestamp_seconds": Metric("When the review was made."),
    "obanalytics_window_start_timestamp_seconds": Metric("When the window begins."),
    "obanalytics_window_end_timestamp_seconds": Metric("When the window ends."),
    "obanalytics_instance_not_read": Metric(
        "1 where an instance was asked for and could not be read, else 0.", ("instance_id",)
    ),
    "obanalytics_tenants": Metric("Tenants by where they are now.", ("state",)),
    "obanalytics_tenants_without_sets": Metric("Tenants of the inventory that no set is of."),
    "obanalytics_tenants_excluded": Metric("Tenants that the policy leaves out."),
    "obanalytics_running_runs": Metric("Unfinished runs, all tenants and modes together."),
    "obanalytics_fleet_time_in_rpo_ratio": Metric("Time in RPO of all tenants, by time."),
    "obanalytics_tenant_time_in_rpo_ratio": Metric("Time in RPO in the window.", _TENANT),
    "obanalytics_tenant_rpo_seconds": Metric("The RPO: how much may be lost.", _TENANT),
    "obanalytics_tenant_grace_seconds": Metric(
        "What is let pass above the RPO before it is a gap.", _TENANT
    ),
    "obanalytics_tenant_rpo_state": Metric(
        "1 for where the tenant is now, 0 for the other states.", (*_TENANT, "state")
    ),
    "obanalytics_tenant_exposure_seconds": Metric(
        "What would be lost now; +Inf where nothing can be restored.", _TENANT
    ),
    "obanalytics_tenant_exposure_unbounded": Metric(
        "1 where nothing can be restored now, else 0.", _TENANT
    ),
    "obanalytics_tenant_last_checkpoint_timestamp_seconds": Metric(
        "The newest instant that a backup set restores to.", _TENANT
    ),
    "obanalytics_tenant_restore_points": Metric("Restorable sets of the window.", _TENANT),
    "obanalytics_tenant_gaps": Metric("Gaps in the window.", _TENANT),
    "obanalytics_tenant_gap_seconds": Metric(
        "Time in gaps in the window, with what of it is unknown.", _TENANT
    ),
    "obanalytics_tenant_unknown_seconds": Metric(
        "Time in gaps that may be none: what is known does not tell.", _TENANT
    ),
    "obanalytics_backup_last_size_bytes": Metric("Size of the newest done set.", _MODE),
    "obanalytics_backup_last_duration_seconds": Metric(
        "Duration of the newest done and timed set.", _MODE
    ),
    "obanalytics_backup_last_success_timestamp_seconds": Metric(
        "The newest end of a done and timed set.", _MODE
    ),
    "obanalytics_stored_bytes": Metric("Held in store, sets of known size.", _SHELF),
    "obanalytics_stored_unsized_sets": Metric("Held in store, but of unknown size.", _SHELF),
    "obanalytics_findings": Metric("Findings by severity, of the kinds that were judged.", _KIND),
    "obanalytics_kind_findings": Metric("Findings by kind, where there are any.", ("kind", *_KIND)),
    "obanalytics_kinds_not_judged": Metric("Kinds of findings that could not be judged."),
}
"""Every metric by its name, in the order in which they are written."""


def render_metrics(review: ReviewData, at: pd.Timestamp | None = None) -> bytes:
    """Return the numbers of a review as Prometheus reads them.

    Parameters
    ----------
    review : ReviewData
        What was computed.
    at : Timestamp or None
        When the review was made; None leaves that metric out [UTC].

    Returns
    -------
    bytes
        The text format 0.0.4 in UTF-8; the same for the same review. What is unknown has no
        series.

    Raises
    ------
    MissingExtraError
        When prometheus_client is not installed.
    ValueError
        When `at` is no instant.
    """
    names = _Names(review)
    values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in METRICS}
    parts = (_run(review, at), _fleet(review), _instances(review, names), _tenants(review, names))
    more = (_backups(review, names), _stored(review, names), _findings(review))
    for part in (*parts, *more):
        for name, labels, value in part:
            if (number := _number(value)) is not None:
                values[name].setdefault(labels, number)
    return _text(values)


def _text(values: dict[str, dict[tuple[str, ...], float]]) -> bytes:
    """Write numbers by metric and labels; a metric without any is left out."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - extra
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - extra
        from prometheus_client.registry import Collector  # noqa: PLC0415 - extra
    except ImportError as error:
        raise MissingExtraError(
            "metrics need the package prometheus_client, which is not installed: "
            "run pip install 'obanalytics[prometheus]'"
        ) from error

    # Not a Gauge: that one would go to files where PROMETHEUS_MULTIPROC_DIR is set.
    class Held(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            for name, (text, labels) in METRICS.items():
                family = GaugeMetricFamily(name, text, labels=labels)
                for each in sorted(values[name]):
                    family.add_metric(each, values[name][each])
                if family.samples:
                    yield family

    registry = CollectorRegistry()
    registry.register(Held())
    return generate_latest(registry)


class _Names:
    """The labels of instances and tenants: no two have the same ones."""

    def __init__(self, review: ReviewData) -> None:
        coverage = review.tables["coverage"]
        frames = [coverage, review.tables["growth"], review.tables["durations"]]
        rows = [row for frame in frames for row in _rows(frame, "instance_id", "tenant_id")]
        keys = {(str(one), str(tenant)) for one, tenant in rows if not pd.isna(one)}
        stored = review.tables["stored"]["instance_id"].dropna().unique()
        given = (*review.provenance["instances"], *review.provenance["failed"])
        self.instances = _distinct({key[0] for key in keys} | {*map(str, (*stored, *given))})
        self._ids: dict[Key, str] = {}
        for one in {key[0] for key in keys}:
            mine = _distinct({tenant for whose, tenant in keys if whose == one})
            self._ids |= {(one, tenant): label for tenant, label in mine.items()}
        # A tenant may have had several names: the one of the coverage is the newest of all.
        self._called: dict[Key, str] = {}
        for frame in frames:
            for one, tenant, name in _rows(frame, "instance_id", "tenant_id", "tenant_name"):
                self._called.setdefault((str(one), str(tenant)), _label(name))

    def tenant(self, instance: object, tenant: object) -> tuple[str, ...]:
        """Return instance_id, tenant_id and tenant."""
        key = (str(instance), str(tenant))
        return (self.instances[key[0]], self._ids[key], self._called[key])


def _distinct(texts: Iterable[str]) -> dict[str, str]:
    """Return labels by text, numbered where two would look the same once they are UTF-8."""
    made: dict[str, str] = {}
    # In this order what stays as it is comes before what looks like it: a backslash is before the
    # surrogates.
    for text in sorted(texts):
        label, number = _label(text), 1
        taken = set(made.values()) if label != text else set()
        while label in taken:
            number += 1
            label = f"{_label(text)} ({number})"
        made[text] = label
    return made


def _label(text: object) -> str:
    """Return a text as UTF-8 holds it: half a surrogate pair becomes visible, NA is empty."""
    return "" if pd.isna(text) else str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever a table holds
    """Return a value in base units; None where it is not known."""
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timedelta):
        return float(value.total_seconds())
    return float(value.timestamp() if isinstance(value, pd.Timestamp) else value)


def _rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Return some columns row by row."""
    return zip(*(frame[name].astype("object") for name in columns), strict=True)


def _mode(full: object) -> str:
    """Return a mode as a label."""
    return "unknown" if pd.isna(full) else "full" if full else "incremental"


def _bytes(gib: float) -> float:
    """Return a size in whole bytes; NaN stays."""
    return float(np.round(gib * _GIB))


def _run(review: ReviewData, at: pd.Timestamp | None) -> Iterator[Sample]:
    """Say what was looked at, when and by what."""
    version = review.provenance["versions"]["obanalytics"]
    yield "obanalytics_build_info", (_label(version),), 1
    model, origin = review.summary["model"], review.rpo_origin
    yield "obanalytics_review_info", (_label(model), _label(origin)), 1
    made = None if at is None else as_instant(at, "at")
    start, end = review.window
    window = {"window_start": start, "window_end": end}
    instants = {"as_of": review.as_of, "last_run": made, **window}
    for name, instant in instants.items():
        yield f"obanalytics_{name}_timestamp_seconds", (), instant


def _fleet(review: ReviewData) -> Iterator[Sample]:
    """Count tenants and runs."""
    summary = review.summary
    for state in _STATES:
        yield "obanalytics_tenants", (state,), summary[f"tenants_{state}"]
    yield "obanalytics_tenants_without_sets", (), summary["tenants_without_sets"]
    yield "obanalytics_tenants_excluded", (), summary["excluded"]
    yield "obanalytics_running_runs", (), summary["running"]
    yield "obanalytics_fleet_time_in_rpo_ratio", (), summary["time_in_rpo"]


def _instances(review: ReviewData, names: _Names) -> Iterator[Sample]:
    """Tell which instances could not be read."""
    failed = {str(each) for each in review.provenance["failed"]}
    for instance in {*map(str, review.provenance["instances"])} | failed:
        labels = (names.instances[instance],)
        yield "obanalytics_instance_not_read", labels, instance in failed


_COVERAGE = {
    "time_in_rpo": "obanalytics_tenant_time_in_rpo_ratio",
    "last_checkpoint": "obanalytics_tenant_last_checkpoint_timestamp_seconds",
    "restore_points": "obanalytics_tenant_restore_points",
    "gaps": "obanalytics_tenant_gaps",
    "gap_total": "obanalytics_tenant_gap_seconds",
    "unknown": "obanalytics_tenant_unknown_seconds",
}


def _tenants(review: ReviewData, names: _Names) -> Iterator[Sample]:
    """Tell how every tenant is covered."""
    coverage = review.tables["coverage"]
    coverage = coverage[coverage["instance_id"].notna()]
    columns = ("instance_id", "tenant_id", "exposure_now", "rpo_ratio", "rpo_state")
    rows = _rows(coverage, *columns, *_COVERAGE)
    for instance, tenant, exposure, ratio, state, *values in rows:
        labels = names.tenant(instance, tenant)
        for name, value in zip(_COVERAGE.values(), values, strict=True):
            yield name, labels, value
        yield "obanalytics_tenant_rpo_seconds", labels, _limit(review.rpo, (instance, tenant))
        yield "obanalytics_tenant_grace_seconds", labels, _limit(review.grace, (instance, tenant))
        # A ratio is endless of an RPO of zero too: there, the exposure is known.
        unbounded = pd.isna(exposure) and ratio == np.inf
        if review.as_of is not None and (unbounded or not pd.isna(exposure)):
            yield "obanalytics_tenant_exposure_unbounded", labels, unbounded
            yield "obanalytics_tenant_exposure_seconds", labels, np.inf if unbounded else exposure
        for each in () if pd.isna(state) else _STATES:
            yield "obanalytics_tenant_rpo_state", (*labels, each), each == state


def _limit(limit: Any, key: tuple[Hashable, Hashable]) -> Any:  # noqa: ANN401 - one or by tenant
    """Return what a tenant is held to."""
    return limit.get(key, limit.get(key[1])) if hasattr(limit, "items") else limit


def _backups(review: ReviewData, names: _Names) -> Iterator[Sample]:
    """Tell size, duration and end of the newest sets, mode by mode."""
    growth, durations = review.tables["growth"], review.tables["durations"]
    columns = ("instance_id", "tenant_id", "full")
    for instance, tenant, full, gib in _rows(growth, *columns, "last_size_gib"):
        labels = (*names.tenant(instance, tenant), _mode(full))
        yield "obanalytics_backup_last_size_bytes", labels, _bytes(gib)
    for instance, tenant, full, last in _rows(durations, *columns, "last"):
        labels = (*names.tenant(instance, tenant), _mode(full))
        yield "obanalytics_backup_last_duration_seconds", labels, last
    for instance, tenant, full, end in _rows(_ends(durations), *columns, "end"):
        labels = (*names.tenant(instance, tenant), _mode(full))
        yield "obanalytics_backup_last_success_timestamp_seconds", labels, end


def _ends(durations: pd.DataFrame) -> pd.DataFrame:
    """Return the newest end of a done set by tenant and mode."""
    columns = ["instance_id", "tenant_id", "full"]
    points = durations.attrs["points"].frame
    done = points[~points["running"].astype(bool)]
    ends = done[columns].assign(end=done["start_time"] + done["duration"])
    return ends.sort_values("end", kind="stable").drop_duplicates(columns, keep="last")


def _stored(review: ReviewData, names: _Names) -> Iterator[Sample]:
    """Tell what every instance holds at the end."""
    stored = review.tables["stored"]
    columns = ["instance_id", "full", "storage_class"]
    newest = stored.sort_values("time", kind="stable").drop_duplicates(columns, keep="last")
    numbers = ("stored_gib", "sets", "unsized")
    for instance, full, shelf, gib, sets, unsized in _rows(newest, *columns, *numbers):
        labels = (names.instances[str(instance)], _mode(full), _label(shelf))
        # The sum over no sizes at all is no size.
        if not sets or sets > unsized:
            yield "obanalytics_stored_bytes", labels, _bytes(gib)
        yield "obanalytics_stored_unsized_sets", labels, unsized


def _findings(review: ReviewData) -> Iterator[Sample]:
    """Count what was found; of what was not judged nothing is known but that."""
    yield "obanalytics_kinds_not_judged", (), len(review.tables["not_judged"])
    totals = {(each, known): 0 for each in _SEVERITIES for known in ("false", "true")}
    kinds: dict[tuple[str, ...], int] = {}
    for kind, severity, known in _rows(review.findings, "kind", "severity", "acknowledged"):
        labels = (str(severity), "true" if known else "false")
        totals[labels] += 1
        kinds[(str(kind), *labels)] = kinds.get((str(kind), *labels), 0) + 1
    for labels, count in totals.items():
        yield "obanalytics_findings", labels, count
    for by_kind, count in kinds.items():
        yield "obanalytics_kind_findings", by_kind, count
