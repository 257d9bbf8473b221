"""Say of every backup set what could not be restored any more if it were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.curve import scene_of
from obanalytics.recovery import NAT, NEVER, SOUND, search, spans, times
from obanalytics.retention import column_of, told

if TYPE_CHECKING:
    from obanalytics.curve import View
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import BackupSets, Instant

_ROUNDED = 1_000_000  # the vendor's intervals begin at whole seconds, a base just before [µs]


def blast_radius(
    sets: BackupSets | pd.DataFrame,
    *,
    start: Instant | None = None,
    end: Instant | None = None,
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Say of every restorable set what becomes unreachable if it is lost, expires or turns invalid.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    start, end : instant or None
        The half-open window, as in `exposure` [UTC].
    as_of : instant or None
        The instant of which it is asked; None takes that of the facts [UTC].

    Returns
    -------
    DataFrame
        A row per restorable set, by tenant and start, those before the window too: `instance_id`,
        `tenant_id`, `tenant_name`, `backup_set_id`, `full`, `checkpoint` [UTC], `chain_id` (the
        base full's set id), `later_sets` (int64: how many later ones cannot be restored without
        it), `lost` [timedelta], `share` (of the window; NA where it has no length), `newest_lost`
        (bool: the newest restorable checkpoint goes with it), `falls_back_to` (the newest one up to
        its own that is left) [UTC; NA: none], `copies` (int64: its sound rows in the list; with
        several, losing one is not losing the set). `attrs["model"]` as in `exposure`.

    Raises
    ------
    ValueError
        When the window ends before it starts.

    Notes
    -----
    `lost` is the length of all t in the window whose nearest restorable instant up to t is taken
    away: from each checkpoint that goes to the next one of any set. In the log model only what is
    before the first set left in the same interval of the vendor: from there logs are replayed; sets
    outside of its intervals restore nothing. With a set go its copies and the rest of its chain.
    """
    scene = scene_of(sets, start, end, as_of)
    made, whole = told(scene, lambda view: _Blast(view).columns())
    made = made.assign(
        backup_set_id=column_of(scene, "backup_set_id", whole["row"]),
        full=column_of(scene, "full", whole["row"]),
        checkpoint=times(whole["checkpoint"]),
        chain_id=column_of(scene, "backup_set_id", whole["base"]),
        later_sets=whole["later"],
        lost=spans(whole["lost"]),
        share=whole["share"].astype(np.float64),
        newest_lost=whole["newest_lost"].astype(bool),
        falls_back_to=times(whole["back"]),
        copies=whole["copies"],
    )
    made.attrs["model"] = scene.model
    return made


class _Blast:
    """What hangs on each set of some tenants that can be restored."""

    def __init__(self, view: View) -> None:
        self.view, chains = view, view.certain
        self.sets = np.flatnonzero(chains.restorable & (chains.until == NEVER))
        self.group, self.checkpoint = chains.group[self.sets], chains.checkpoint[self.sets]
        self.chain = chains.mark[self.sets].astype(np.int64)
        self.order = np.lexsort((self.checkpoint, self.group))  # by tenant and checkpoint

    def columns(self) -> dict[str, Any]:
        """Return what is told of each set."""
        part, every = self.view.part, np.arange(len(self.sets))
        tail = np.searchsorted(self.chain, self.chain, "right")  # where the chain of each ends
        total = np.append([0], np.cumsum(self._weights()))
        sound = part.own == SOUND
        sound = sound if part.gone is None else sound & (part.gone == NAT)
        copies = np.bincount(part.sets[sound], minlength=len(self.view.certain.group))
        newest_lost, back = self._left()
        lost, window = total[tail] - total[every], self.view.windows[self.group]
        return {
            "tenant": self.group + part.first,
            "row": part.rows_of(self.sets),
            "checkpoint": self.checkpoint,
            "base": part.rows_of(self.chain >> 1),
            "later": tail - every - 1,
            "lost": lost,
            "share": lost / np.where(window > 0, window, np.nan),
            "newest_lost": newest_lost,
            "back": back,
            "copies": copies[self.sets].astype(np.int64),
        }

    def _weights(self) -> Ints:
        """Return how much of the window is lost with each set, but not with the one behind it."""
        order, view = self.order, self.view
        group, when = self.group[order], self.checkpoint[order]
        block = when
        if (vendor := view.vendor) is not None:
            # Where the vendor tells intervals, a set counts only inside of one.
            at = search(vendor.group, vendor.start - _ROUNDED, group, when, "right") - 1
            starts, ends = np.append(vendor.start, [NAT]), np.append(vendor.end, [NAT])
            inside, named = np.append(vendor.group, [-1])[at] == group, vendor.named[group]
            keep = (inside & (when <= ends[at])) | ~named
            block = np.where(named, at, when)[keep]
            when = np.where(named, np.maximum(when, starts[at]), when)[keep]
            order, group = order[keep], group[keep]
        last = np.append(group[1:] != group[:-1], [True])
        until = np.where(last, view.end, np.append(when[1:], [0]))[: len(order)]
        begin, weight = view.begin[group], np.zeros(len(self.sets), np.int64)
        length = np.clip(until, begin, view.end) - np.clip(when, begin, view.end)
        owner = self._owner(order, group, block)
        np.add.at(weight, owner[owner >= 0], length[owner >= 0])
        return weight

    def _owner(self, order: Ints, group: Ints, block: Ints) -> Ints:
        """Return the last set with which all of a block up to each place goes; -1: with none."""
        opens = np.append([True], (group[1:] != group[:-1]) | (block[1:] != block[:-1]))
        opens = opens[: len(order)]
        number = np.cumsum(opens) - 1
        head = np.flatnonzero(opens)[number]
        other = np.append([0], np.cumsum(self.chain[order] != self.chain[order][head]))
        first = order[head]
        if (order < first).any():
            first = pd.Series(order).groupby(number).cummin().to_numpy()
        return np.where(other[1:] == other[head], first, -1)

    def _left(self) -> tuple[Bools, Ints]:
        """Return whether the newest checkpoint goes with each set, and the newest left before."""
        order, sets = self.order, np.arange(len(self.sets))
        group, when = self.group[order], self.checkpoint[order]
        best = self._owner(order, group, when)[np.searchsorted(group, self.group, "right") - 1]
        newest_lost = (best >= 0) & (self.chain[best] == self.chain) & (sets <= best)
        heads = np.searchsorted(group, self.group)
        at = search(group, when, self.group, self.checkpoint, "right") - 1
        # One step for most; more where checkpoints come in another order than the runs began.
        while len(sets):
            found = order[at[sets]]
            sets = sets[(self.chain[found] == self.chain[sets]) & (found >= sets)]
            at[sets] -= 1
            sets = sets[at[sets] >= heads[sets]]
        return newest_lost, np.where(at >= heads, when[at], NAT)
