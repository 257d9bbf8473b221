"""Follow what the vendor says could be restored to: intervals in which logs are without a break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from obanalytics.recovery import NAT, NEVER, integers, search

if TYPE_CHECKING:
    from obanalytics.recovery import Bools, Chains, Ints, Roll

_ROUNDED = 1_000_000  # the service tells whole seconds [µs]


@dataclass(slots=True)
class Intervals:
    """Stretches of time within which every instant can be restored to, joined and sorted [µs].

    Parameters
    ----------
    group, start, end : ndarray of int
        Whose, from when to when.
    named : ndarray of bool
        Which tenants the vendor has in its list; of the others it says nothing.
    """

    group: Ints
    start: Ints
    end: Ints
    named: Bools

    def of(self, first: int, count: int) -> Intervals:
        """Return those of some tenants, counted from the first.

        Parameters
        ----------
        first, count : int
            Which tenants.

        Returns
        -------
        Intervals
            Theirs.
        """
        low, high = np.searchsorted(self.group, [first, first + count])
        here = slice(low, high)
        named = self.named[first : first + count]
        return Intervals(self.group[here] - first, self.start[here], self.end[here], named)

    def holds(self, group: Ints, moment: Ints) -> Bools:
        """Tell which instants lie in an interval, its ends included.

        Parameters
        ----------
        group, moment : ndarray of int
            Tenants and instants [µs].

        Returns
        -------
        ndarray of bool
            False of `NAT`.
        """
        if not len(self.group):
            return np.zeros(len(group), bool)
        at = search(self.group, self.start, group, moment, "right") - 1
        mine = (at >= 0) & (self.group[at] == group) & (moment != NAT)
        return mine & (moment <= self.end[at])


def intervals_of(restorable: pd.DataFrame, as_of: pd.Timestamp | None, roll: Roll) -> Intervals:
    """Return what the vendor says can be restored to, as far as it had come by then.

    Parameters
    ----------
    restorable : DataFrame
        The vendor's intervals.
    as_of : Timestamp or None
        The instant of which it is asked [UTC].
    roll : Roll
        The tenants.

    Returns
    -------
    Intervals
        Those of all storage classes together.
    """
    keys = [
        pd.MultiIndex.from_frame(each[["instance_id", "tenant_id"]].astype("str"))
        for each in (roll.tenants, restorable)
    ]
    group = keys[0].get_indexer(keys[1])
    named = np.zeros(len(roll.tenants), bool)
    named[group[group >= 0]] = True
    start, end = integers(restorable["start"]), integers(restorable["end"])
    if as_of is not None:
        end = np.minimum(end, as_of.as_unit("us").asm8.astype(np.int64))
    keep = np.flatnonzero((group >= 0) & (start != NAT) & (end != NAT) & (start <= end))
    keep = keep[np.lexsort((start[keep], group[keep]))]
    group, start, end = group[keep].astype(np.int64), start[keep], end[keep]
    if not len(group):
        return Intervals(group, start, end, named)
    # Where one begins inside an earlier one, or where that ends, they are one.
    reach = pd.Series(end).groupby(group).cummax().to_numpy()
    opens = np.append([True], (group[1:] != group[:-1]) | (start[1:] > reach[:-1]))
    heads = np.flatnonzero(opens)
    tails = np.append(heads[1:] - 1, len(group) - 1)
    return Intervals(group[heads], start[heads], reach[tails], named)


def log_course(vendor: Intervals, chains: Chains) -> tuple[Ints, Ints, Ints, Bools, Ints]:
    """Return the course of tenants whose restorable intervals the vendor names.

    Parameters
    ----------
    vendor : Intervals
        The intervals.
    chains : Chains
        The tenants' sets.

    Returns
    -------
    tuple of ndarray
        Tenant, when, newest restorable instant [µs], whether exposure is zero from then on, set;
        for each interval its beginning, then its end.

    Notes
    -----
    An interval counts from the first set in it that can be restored: logs before it have no base.
    Within an interval exposure is zero, behind it it counts from its end.
    """
    good = np.flatnonzero(chains.restorable & vendor.named[chains.group])
    good = good[chains.until[good] == NEVER]
    # Of equal checkpoints the one that was there first, then the one that began first.
    by = np.lexsort((good, chains.usable_from[good], chains.checkpoint[good], chains.group[good]))
    good = good[by]
    group, checkpoint = chains.group[good], chains.checkpoint[good]
    low = search(group, checkpoint, vendor.group, vendor.start - _ROUNDED)
    high = search(group, checkpoint, vendor.group, vendor.end, "right")
    based = np.flatnonzero(low < high)
    newest = search(group, checkpoint, vendor.group[based], checkpoint[high[based] - 1])
    base, newest = good[low[based]], good[newest]
    start = np.maximum(vendor.start[based], chains.checkpoint[base])
    end = vendor.end[based]

    def both(inside: Ints, behind: Ints) -> Ints:
        """Return a value of each interval and one of the time behind it, in turn."""
        return np.column_stack([inside, behind]).ravel()

    flat = both(np.ones(len(based), bool), np.zeros(len(based), bool))
    whose = np.repeat(vendor.group[based], 2)
    return whose, both(start, end), both(end, end), flat, both(base, newest)
