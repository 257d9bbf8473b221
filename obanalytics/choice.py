"""Say what an explorer looks at: a plain state that can be kept, read back, and written as code."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from obanalytics.schema import as_duration, as_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obanalytics.schema import BackupSets

MODES = ("all", "full", "incremental")
LEVELS = ("tenant", "cluster", "fleet")
TABS = (
    *("coverage", "calendar", "growth", "forecast", "durations", "parity", "findings"),
    "what-if",
)
WHAT_IF = ("full_every", "incremental_every", "retention_days", "price_per_gib_month")
_CHOICES = {"mode": MODES, "by": LEVELS, "tab": TABS}


@dataclass(frozen=True, slots=True)
class Choice:
    """What is looked at, and how.

    Parameters
    ----------
    instances : tuple of str
        Ids; none means all.
    tenants : tuple of tuple of str
        Instance and tenant ids; none means all of the instances.
    start, end : str or None
        The window [UTC]; None is that of the facts.
    rpo : str
        How much may be lost.
    mode : str
        Which sets growth, forecasts and durations show: all, full or incremental.
    by : str
        Whose series: tenant, cluster or fleet.
    as_of : str or None
        The instant to look from [UTC]; None is that of the facts.
    tab : str
        Which view.
    what_if : tuple of tuple
        Pairs of a name in `WHAT_IF` and a value: what to replay the history with.
    """

    instances: tuple[str, ...] = ()
    tenants: tuple[tuple[str, str], ...] = ()
    start: str | None = None
    end: str | None = None
    rpo: str = "26h"
    mode: str = "all"
    by: str = "tenant"
    as_of: str | None = None
    tab: str = "coverage"
    what_if: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Check every value; a ValueError names the one that is wrong."""
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r} is none of {', '.join(known)}")
        if as_duration(self.rpo, "rpo") <= pd.Timedelta(0):
            raise ValueError(f"rpo: {self.rpo!r} is not above zero")
        for name in ("start", "end", "as_of"):
            if getattr(self, name) is not None:
                as_instant(getattr(self, name), name)
        if (
            self.start
            and self.end
            and as_instant(self.end, "end") <= as_instant(self.start, "start")
        ):
            raise ValueError(f"the window ends before it starts: {self.start} to {self.end}")
        for name, _ in self.what_if:
            if name not in WHAT_IF:
                raise ValueError(f"what_if: {name!r} is none of {', '.join(WHAT_IF)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data.

        Returns
        -------
        dict
            What `from_dict` takes; any JSON writer takes it, too.
        """
        made = {each.name: getattr(self, each.name) for each in fields(self)}
        lists: dict[str, Any] = {
            "instances": list(self.instances),
            "tenants": [list(each) for each in self.tenants],
            "what_if": dict(self.what_if),
        }
        return made | lists

    def changed(self, state: Mapping[str, Any]) -> Choice:
        """Return the same with some values changed.

        Parameters
        ----------
        state : mapping
            Values by name, as `to_dict` returns them.

        Returns
        -------
        Choice
            A ValueError names what is wrong.
        """
        known = {each.name for each in fields(self)}
        for name in state:
            if name not in known:
                raise ValueError(f"{name!r} is none of {', '.join(sorted(known))}")
        made = dict(state)
        if "instances" in made:
            made["instances"] = tuple(map(str, made["instances"]))
        if "tenants" in made:
            made["tenants"] = tuple((str(one), str(tenant)) for one, tenant in made["tenants"])
        if "what_if" in made:
            given = dict(made["what_if"])
            made["what_if"] = tuple((name, given[name]) for name in WHAT_IF if name in given)
            for name in given:
                if name not in WHAT_IF:
                    raise ValueError(f"what_if: {name!r} is none of {', '.join(WHAT_IF)}")
        return replace(self, **made)

    def part(self, sets: BackupSets) -> BackupSets:
        """Return the facts that are looked at.

        Parameters
        ----------
        sets : BackupSets
            All of them.

        Returns
        -------
        BackupSets
            As `part_code` says.
        """
        instances, tenants = self._named()
        if tenants or instances:
            sets = sets.select(instance_ids=instances or None, tenants=tenants or None)
        if self.start or self.end:
            sets = sets.between(self.start, self.end)
        return sets

    def part_code(self) -> list[str]:
        """Return the code that makes the facts that are looked at.

        Returns
        -------
        list of str
            Lines that make `part` of `sets`.
        """
        instances, tenants = self._named()
        calls = ""
        if tenants or instances:
            given = {"instance_ids": instances, "tenants": tenants}
            told = ", ".join(f"{name}={value!r}" for name, value in given.items() if value)
            calls += f".select({told})"
        if self.start or self.end:
            calls += f".between({self.start!r}, {self.end!r})"
        return [f"part = sets{calls}"]

    def _named(self) -> tuple[list[str], list[str]]:
        """Return the instances and the tenants to select."""
        if not self.tenants:
            return list(self.instances), []
        instances = list(dict.fromkeys(one for one, _ in self.tenants))
        return instances, list(dict.fromkeys(tenant for _, tenant in self.tenants))
