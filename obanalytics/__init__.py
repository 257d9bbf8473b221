"""Answer the questions of whoever runs OceanBase Cloud backups.

Are our backups there? Since when not? What could we restore to? How fast do they grow, and are
they getting slower?

Everything public is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obanalytics.anomaly import anomalies
    from obanalytics.archive import Archive
    from obanalytics.bars import plot_what_if
    from obanalytics.blast import blast_radius
    from obanalytics.changes import duration_changes
    from obanalytics.client import Client
    from obanalytics.compliance import rpo_compliance
    from obanalytics.coverage import coverage_gaps, exposure
    from obanalytics.dataset import load, read, sample
    from obanalytics.days import coverage_calendar
    from obanalytics.duration import duration_trends
    from obanalytics.explore import explore
    from obanalytics.fan import plot_forecast, plot_stored_size
    from obanalytics.findings import findings
    from obanalytics.forecast import forecast_size
    from obanalytics.grids import plot_parity, plot_schedule
    from obanalytics.growth import size_growth
    from obanalytics.lanes import plot_durations, plot_growth, plot_throughput
    from obanalytics.parity import tenant_parity
    from obanalytics.plotting import plot_exposure
    from obanalytics.policy import Policy
    from obanalytics.restore import restore_options, restore_points
    from obanalytics.retention import coverage_after_expiry, retention
    from obanalytics.review import Review, review
    from obanalytics.schedule import missed_runs, schedule, schedule_compliance
    from obanalytics.schema import BackupSets
    from obanalytics.stored import stored_size
    from obanalytics.timeline import plot_coverage, plot_coverage_calendar
    from obanalytics.whatif import what_if

__version__ = "0.1.0"

_HOME = {
    "Archive": "archive",
    "BackupSets": "schema",
    "Client": "client",
    "Policy": "policy",
    "Review": "review",
    "anomalies": "anomaly",
    "blast_radius": "blast",
    "coverage_after_expiry": "retention",
    "coverage_calendar": "days",
    "coverage_gaps": "coverage",
    "duration_changes": "changes",
    "duration_trends": "duration",
    "explore": "explore",
    "exposure": "coverage",
    "findings": "findings",
    "forecast_size": "forecast",
    "load": "dataset",
    "missed_runs": "schedule",
    "plot_coverage": "timeline",
    "plot_coverage_calendar": "timeline",
    "plot_durations": "lanes",
    "plot_exposure": "plotting",
    "plot_forecast": "fan",
    "plot_growth": "lanes",
    "plot_parity": "grids",
    "plot_schedule": "grids",
    "plot_stored_size": "fan",
    "plot_throughput": "lanes",
    "plot_what_if": "bars",
    "read": "dataset",
    "restore_options": "restore",
    "restore_points": "restore",
    "retention": "retention",
    "review": "review",
    "rpo_compliance": "compliance",
    "sample": "dataset",
    "schedule": "schedule",
    "schedule_compliance": "schedule",
    "size_growth": "growth",
    "stored_size": "stored",
    "tenant_parity": "parity",
    "what_if": "whatif",
}

__all__ = [
    "Archive",
    "BackupSets",
    "Client",
    "Policy",
    "Review",
    "anomalies",
    "blast_radius",
    "coverage_after_expiry",
    "coverage_calendar",
    "coverage_gaps",
    "duration_changes",
    "duration_trends",
    "explore",
    "exposure",
    "findings",
    "forecast_size",
    "load",
    "missed_runs",
    "plot_coverage",
    "plot_coverage_calendar",
    "plot_durations",
    "plot_exposure",
    "plot_forecast",
    "plot_growth",
    "plot_parity",
    "plot_schedule",
    "plot_stored_size",
    "plot_throughput",
    "plot_what_if",
    "read",
    "restore_options",
    "restore_points",
    "retention",
    "review",
    "rpo_compliance",
    "sample",
    "schedule",
    "schedule_compliance",
    "size_growth",
    "stored_size",
    "tenant_parity",
    "what_if",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first asked for."""
    if name == "distributed":
        return import_module("obanalytics.distributed")
    if name not in _HOME:
        raise AttributeError(f"module 'obanalytics' has no attribute {name!r}")
    value = getattr(import_module(f"obanalytics.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what completion should offer."""
    return sorted([*__all__, "__version__", "distributed", "errors"])


class _Package(ModuleType):
    """The package: where a function and its module share a name, the name is the function's."""

    def __setattr__(self, name: str, value: object) -> None:
        """Take what importing a submodule sets, or the function of that name in it."""
        if name in _HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
