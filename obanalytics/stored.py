"""Measure how much backup sets hold at each instant, how much was written, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from obanalytics.recovery import NAT, NEVER, labels, times
from obanalytics.schema import BackupSets, facts, newest_time, span
from obanalytics.stock import (
    MODES,
    Layout,
    Listing,
    Rule,
    gib,
    held_of,
    numbers,
    parts,
    slices,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from obanalytics.recovery import Ints
    from obanalytics.schema import Facts, Instant
    from obanalytics.stock import Held, Shelves

    Frequency: TypeAlias = str | pd.DateOffset | pd.Timedelta
    Given: TypeAlias = "float | Mapping[Any, float] | pd.Series | None"

BASES = ("exact", "lower_bound", "modelled")
MOST_ROWS = 5_000_000
"""A longer table is refused: nobody reads it, and it may not fit into memory."""
_EXACT, _LOWER_BOUND, _MODELLED = range(3)
_DAY = 86_400_000_000  # [µs]
_CUT = "lookback to"  # so `load` says that it left out what is older
_UNITS = {
    "stored_gib": "GiB",
    "sets": "sets",
    "unsized": "sets",
    "written_gib": "GiB",
    "cost_per_month": "money/month",
}


def stored_size(  # noqa: PLR0913 - what is asked, what is promised and what is paid
    sets: BackupSets | pd.DataFrame,
    *,
    freq: Frequency = "D",
    retention_days: Given = None,
    price_per_gib_month: Given = None,
    free_gib: Given = None,
    by: str = "tenant",
    as_of: Instant | None = None,
) -> pd.DataFrame:
    """Measure how much is in store at each instant, and how much was written, mode by mode.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    freq : str, DateOffset or Timedelta
        How far the instants are apart: "D", "W", "6h", "MS" and the like. Periods are UTC ones: a
        day ends at midnight, a week with Sunday; several days or hours count from 1970.
    retention_days : float, mapping or Series, or None
        The server's recovery window: one, or one by `storage_class`, `tenant_id` or (`instance_id`,
        `tenant_id`) [days]. Sets are then let go by the server's rule, see `retention`; where there
        is none they stay as long as they are listed.
    price_per_gib_month : float, mapping or Series, or None
        What a GiB costs a month: one price, or one by `storage_class` [money/GiB/month].
    free_gib : float, mapping or Series, or None
        What each instance stores for nothing: one number, or one by `instance_id` [GiB].
    by : {"tenant", "cluster", "fleet"}
        Whose sets are added up; those of a cluster and of the fleet are those of its tenants.
    as_of : instant or None
        The last instant; None takes that of `sets` [UTC].

    Returns
    -------
    DataFrame
        A row per series (tenant, mode, storage class) and instant, from its first set on:
        instance_id, tenant_id, tenant_name (the newest), full (NA: unknown mode), storage_class,
        time [UTC; the end of a period, the last one is `as_of`], stored_gib [GiB], sets (held),
        unsized (held, but of unknown size; not in stored_gib), written_gib [GiB; from the instant
        before to this one], basis (exact, lower_bound, modelled), cost_per_month [money/month; NA
        without prices].
        `attrs`: units, by, freq, retention_days, price, free, notes (list of str).

    Raises
    ------
    ValueError
        When an argument is no frequency or number, names what is not in the data, or the table
        would have more than 5 million rows.
    DataError
        When a plain frame is no tenants frame.

    Notes
    -----
    A set is in store from its end (else checkpoint, else start) to its `gone_time`, else to when
    the rule lets it go, else for ever. Running ones count once they have ended, failed ones where
    they have a size, copies in two storage classes twice, sets of databases and tables too (no rule
    lets them go). Sets from before the window are held and not written.

    `exact`: at the instant of the list, and from an archive's first fetch on. `lower_bound`: what
    went before the list was made is not in it; never take these for a trend. `modelled`: by the
    rule, and from an instant on at which whatever it would hold is listed: the window after the
    end of a tenant's first good full; at once for one whose first good full is younger than the
    window where others of its instance have older ones.

    cost = price x max(0, stored - free x stored / all that its instance stores).
    """
    known = facts(sets, as_of)
    if by not in ("tenant", "cluster", "fleet"):
        raise ValueError(f'by must be "tenant", "cluster" or "fleet", not {by!r}')
    offset = _offset(freq)
    held = held_of(known, _listing(sets, known, as_of))
    terms = _Terms(
        _by_shelf(retention_days, held.shelves),
        _prices(price_per_gib_month, held.shelves),
        _free(free_gib, held.shelves),
    )
    instants = _grid(held, offset)
    rule = None if terms.windows is None else Rule(held, terms.windows)
    stock = _stock(held, rule, by, offset, instants)
    finer = stock  # what is free is each instance's
    if by == "fleet" and terms.price is not None and terms.free is not None:
        finer = _stock(held, rule, "cluster", offset, instants)
    made = _table(stock).assign(cost_per_month=_cost(stock, finer, terms))
    made.attrs = {
        "units": dict(_UNITS),
        "by": by,
        "freq": offset.freqstr,
        "retention_days": _plain(retention_days),
        "price": _plain(price_per_gib_month),
        "free": _plain(free_gib),
        "notes": _notes(held, terms, made),
    }
    return made


def _listing(sets: BackupSets | pd.DataFrame, known: Facts, as_of: Instant | None) -> Listing:
    """Return what list the facts are from."""
    made = known.as_of if as_of is None else facts(sets).as_of
    if isinstance(sets, BackupSets):
        made = newest_time(sets.tenants) if made is None else made
        whole, failed = _CUT not in sets.source.window_rule, len(sets.source.failed)
    else:
        whole, failed = True, 0
    now = made if known.as_of is None else known.as_of
    first, last = span(known)
    if now is not None:
        last = now if last is None else min(last, now)
    made_at, until, since = (NAT if e is None else e.value // 1000 for e in (made, last, first))
    return Listing(made_at, until, since, whole, failed)


def _first_fetch(held: Held) -> Ints:
    """Return since when an archive watches each instance; `NEVER`: none does [µs]."""
    shelves = held.shelves
    made = np.full(int(shelves.instance.max()) + 1 if len(shelves.instance) else 0, NEVER)
    for name in ("first_seen", "gone_time"):
        if name in held.frame and (made == NEVER).any():
            instance, seen = shelves.instance[held.shelf // len(shelves.classes)], held.column(name)
            np.minimum.at(made, instance, np.where(seen == NAT, NEVER, seen))
    return made


# --- what the caller says ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Terms:
    """Retention and prices.

    Parameters
    ----------
    windows : ndarray of int or None
        The recovery window of each shelf, `NAT`: it has none [µs]; None: none is given.
    price : ndarray of float or None
        The price by storage class [money/GiB/month].
    free : ndarray of float or None
        What each instance stores for nothing [GiB].
    """

    windows: Ints | None
    price: Any | None
    free: Any | None


def _by_shelf(given: Given, shelves: Shelves) -> Ints | None:
    """Return the recovery window of each shelf."""
    if given is None:
        return None
    if not isinstance(given, Mapping | pd.Series):
        return np.full(len(shelves.there), round(_number(given, "retention_days", 0) * _DAY))
    table, used = dict(given.items()), set()
    made = np.full(len(shelves.there), NAT)
    for number, *whose in _whose(shelves):
        keys = [(whose[0], whose[1]), whose[1], whose[2]]
        found = [key for key in keys if key in table]
        used.update(found)
        if found:
            days = _number(table[found[0]], f"retention_days of {found[0]!r}", 0)
            made[number] = round(days * _DAY)
    _all_there("retention_days", table, used, "a tenant or a storage class", shelves)
    return made


def _whose(shelves: Shelves) -> list[tuple[int, Any, Any, Any]]:
    """Return number, instance, tenant and storage class of every shelf with a set."""
    names = [shelves.tenants[name].astype(object) for name in ("instance_id", "tenant_id")]
    pairs, width = list(zip(*names, strict=True)), len(shelves.classes)
    at = np.flatnonzero(shelves.there).tolist()
    return [(n, *pairs[n // width], shelves.classes[n % width]) for n in at]


def _prices(given: Given, shelves: Shelves) -> Any:  # noqa: ANN401 - an array, or None
    """Return the price of each storage class."""
    if given is None:
        return None
    name = "price_per_gib_month"
    if not isinstance(given, Mapping | pd.Series):
        return np.full(len(shelves.classes), _number(given, name))
    table = dict(given.items())
    there = shelves.there.reshape(-1, len(shelves.classes)).any(axis=0)
    known = [each for each, some in zip(shelves.classes, there, strict=True) if some]
    _all_there(name, table, known, "a storage class", shelves)
    if lacking := [each for each in known if each not in table]:
        raise ValueError(f"{name} has no price for {_list(lacking)}; it has {_list(table)}")
    prices = {each: _number(table[each], f"{name} of {each!r}") for each in known}
    return np.array([prices.get(each, np.nan) for each in shelves.classes])


def _free(given: Given, shelves: Shelves) -> Any:  # noqa: ANN401 - an array, or None
    """Return what each instance stores for nothing."""
    if given is None:
        return None
    ids, first = np.unique(shelves.instance, return_index=True)
    if not isinstance(given, Mapping | pd.Series):
        return np.full(len(ids), _number(given, "free_gib"))
    table = dict(given.items())
    known = shelves.tenants["instance_id"].astype(object).iloc[first].tolist()
    _all_there("free_gib", table, known, "an instance", shelves)
    return np.array([_number(table.get(each, 0), f"free_gib of {each!r}") for each in known])


def _number(value: Any, name: str, above: float | None = None) -> float:  # noqa: ANN401
    """Return a number, not negative, or above a bound."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= value < np.inf or (above is not None and value <= above):
        wanted = "zero or more" if above is None else f"above {above}"
        raise ValueError(f"{name} must be a number {wanted}, not {value!r}")
    return float(value)


def _all_there(
    name: str, table: Mapping[Any, Any], known: Collection[Any], what: str, shelves: Shelves
) -> None:
    """Refuse what names something that is not in the data; of an empty frame nothing is asked."""
    if not shelves.there.any() or not (strange := [key for key in table if key not in known]):
        return
    there = _list(known)
    if name == "retention_days":
        there = _list({each[3] for each in _whose(shelves)}) + " and the tenants"
    raise ValueError(f"{name} names {_list(strange)}, which is not {what} in the data: {there}")


def _list(names: Any) -> str:  # noqa: ANN401 - any collection
    """Return names in words."""
    return ", ".join(sorted(map(repr, names))[:20]) or "none"


def _plain(given: Given) -> Any:  # noqa: ANN401 - what JSON takes
    """Return what was given in a form that every file format takes."""
    if not isinstance(given, Mapping | pd.Series):
        return given if given is None else float(given)
    names = (
        ("/".join(map(str, k)) if isinstance(k, tuple) else str(k), v) for k, v in given.items()
    )
    return {name: float(value) for name, value in names}


# --- when ----------------------------------------------------------------------------------------


def _offset(freq: Frequency) -> pd.DateOffset:
    """Return a frequency as pandas knows it."""
    # pandas is giving up 1d for 1D; people are not.
    text = re.sub(r"(?<![a-zA-Z])d(?![a-zA-Z])", "D", freq) if isinstance(freq, str) else freq
    probe = pd.Timestamp("2026-01-01")
    try:
        offset = pd.tseries.frequencies.to_offset(text)
        step = probe + offset - probe
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"freq must be a frequency such as 'D', 'W' or '6h', not {freq!r}"
        ) from error
    if step < pd.Timedelta(1, "us"):
        raise ValueError(f"freq must be a frequency above zero, not {freq!r}")
    return offset


def _grid(held: Held, offset: pd.DateOffset) -> Ints:
    """Return the ends of the periods, ascending, and the last instant [µs]."""
    last = held.listing.last
    if last == NAT or not len(held.born):
        return np.zeros(0, np.int64)
    first = min(held.listing.first if held.listing.first != NAT else int(held.born.min()), last)
    begin, end = (pd.Timestamp(each, unit="us") for each in (first, last))
    about = (end - begin) / ((begin + 12 * offset - begin) / 12)
    if about > MOST_ROWS:
        raise ValueError(_too_many(int(about), offset))
    if isinstance(offset, pd.offsets.Tick | pd.offsets.Day):
        width = (begin + offset - begin) // pd.Timedelta(1, "us")
        made = np.arange(-(-first // width) * width, last, width)
    else:
        # What pandas calls a week or a month by its last day ends with that day.
        shift = pd.Timedelta(days=1)
        ends = type(offset).__name__.endswith("End") or (
            isinstance(offset, pd.offsets.Week) and offset.weekday is not None
        )
        ends = shift if ends else pd.Timedelta(0)
        days = pd.date_range(begin.normalize() - shift, end, freq=offset, unit="us") + ends
        made = days.as_unit("us").asi8
        made = made[(made >= first) & (made < last)]
    return np.append(made, last)


def _too_many(rows: int, offset: pd.DateOffset) -> str:
    """Say that a table would be too long."""
    return (
        f"the table would have {rows:,} rows, and at most {MOST_ROWS:,} are made: take a coarser "
        f'freq than {offset.freqstr!r}, by="cluster" or by="fleet", fewer tenants or a later window'
    )


# --- the stock -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stock:
    """What is in store; an entry per series and instant, from its first set on.

    Parameters
    ----------
    held : Held
        The sets.
    by : str
        Whose sets are added up.
    shelf, mode : ndarray of int
        A shelf of each series, and its mode.
    layout : Layout
        Where the series' instants stand.
    instants : ndarray of int
        When [µs].
    stored, written : ndarray of float
        [GiB].
    sets, unsized : ndarray of int
        How many are held, and of how many of them the size is not known.
    basis : ndarray of int
        Position in `BASES`.
    """

    held: Held
    by: str
    shelf: Ints
    mode: Ints
    layout: Layout
    instants: Ints
    stored: Any
    written: Any
    sets: Ints
    unsized: Ints
    basis: Ints

    @property
    def series(self) -> Ints:
        """The series of each entry."""
        return np.repeat(np.arange(len(self.shelf)), self.layout.count - self.layout.first)

    @property
    def at(self) -> Ints:
        """The number of the instant of each entry."""
        count, first = self.layout.count, self.layout.first
        return np.arange(len(self.stored)) - np.repeat(
            self.layout.bounds[1:] - count, count - first
        )


def _stock(held: Held, rule: Rule | None, by: str, offset: pd.DateOffset, instants: Ints) -> _Stock:
    """Add up what is in store."""
    since = np.full(len(held.shelves.there) * MODES, NEVER)
    for part in slices(len(held.rows)):
        np.minimum.at(since, held.combo(part), held.born[part])
    # What the window's end cuts off is behind the last instant.
    there = np.flatnonzero(since <= instants[-1]) if len(instants) else np.zeros(0, np.int64)
    whose, of = _series(held.shelves, there, by)
    first = np.full(len(of), len(instants))
    if len(of):
        np.minimum.at(first, whose, numbers(instants, since[there], since[there])[0])
    layout = Layout(first, len(instants))
    if layout.size > MOST_ROWS:
        raise ValueError(_too_many(layout.size, offset))
    number = np.zeros(len(since), np.int64)
    number[there] = whose
    sums = _added_up(held, rule, layout, instants, number)
    stock = _Stock(
        held=held,
        by=by,
        shelf=of // MODES,
        mode=of % MODES,
        layout=layout,
        instants=instants,
        stored=gib(sums["stored"]),
        written=gib(sums["written"]),
        sets=sums["sets"],
        unsized=sums["unsized"],
        basis=np.full(layout.size, _LOWER_BOUND, np.int8),
    )
    _judge(stock, rule, (there, whose, sums["due"]))
    return stock


def _added_up(
    held: Held, rule: Rule | None, layout: Layout, instants: Ints, number: Ints
) -> dict[str, Any]:
    """Return sums of what is held, let go or written, by entry, given each combo's series."""
    amount = parts(held.size)
    inside = held.frame["in_window"].to_numpy(dtype=bool)
    written, stored = (np.zeros(layout.size, amount.dtype) for _ in range(2))
    sets, unsized, due = (np.zeros(layout.size, np.int64) for _ in range(3))
    for part in slices(len(held.rows)):
        series, fact, size = number[held.combo(part)], held.gone[part], amount[part]
        gone = fact if rule is None else np.minimum(rule.goes[part], fact)
        comes, goes = numbers(instants, held.born[part], gone)
        mine = inside[held.rows[part]]
        layout.add(written, series[mine], comes[mine], size[mine])
        layout.add(stored, series, comes, size)
        layout.add(stored, series, goes, -size)
        layout.add(sets, series, comes, 1)
        layout.add(sets, series, goes, -1)
        if (none := np.flatnonzero(~np.isfinite(held.size[part]))).size:
            layout.add(unsized, series[none], comes[none], 1)
            layout.add(unsized, series[none], goes[none], -1)
        if rule is not None:  # it lets go what the facts say is there
            early = np.flatnonzero(gone < fact)
            begins, ends = numbers(instants, gone[early], fact[early])
            layout.add(due, series[early], begins, 1)
            layout.add(due, series[early], ends, -1)
    totals = {"stored": stored, "sets": sets, "unsized": unsized, "due": due}
    return {name: layout.totals(each) for name, each in totals.items()} | {"written": written}


def _series(shelves: Shelves, there: Ints, by: str) -> tuple[Ints, Ints]:
    """Return the series of each shelf and mode that is there, and such a one of each series."""
    shelf, mode = np.divmod(there, MODES)
    tenant, label = np.divmod(shelf, len(shelves.classes))
    owner = {"tenant": tenant, "cluster": shelves.instance[tenant], "fleet": np.zeros_like(tenant)}
    code = (owner[by] * MODES + mode) * len(shelves.classes) + label
    _, first, whose = np.unique(code, return_index=True, return_inverse=True)
    return whose, there[first]


def _judge(stock: _Stock, rule: Rule | None, whose: tuple[Ints, Ints, Ints]) -> None:
    """Say of every entry what its numbers are worth, given which combos are of which series."""
    there, of, due = whose
    held, shelf = stock.held, there // MODES
    if held.listing.failed and stock.by == "fleet":
        return
    count = len(stock.shelf)
    since, known = np.full(count, NAT), np.full(count, NAT)
    tenant = shelf // len(held.shelves.classes)
    np.maximum.at(since, of, _first_fetch(held)[held.shelves.instance[tenant]])
    moment, entry = stock.instants[stock.at], stock.series
    exact = moment >= since[entry]
    if held.listing.whole and held.listing.last >= held.listing.made:
        exact |= stock.at == len(stock.instants) - 1
    if rule is not None:
        np.maximum.at(known, of, rule.known[shelf])
        if held.partial is not None:
            combos = np.unique(held.combo(np.flatnonzero(held.partial)))
            known[of[np.isin(there, combos)]] = NEVER
        stock.basis[moment >= known[entry]] = _MODELLED
        exact &= due == 0
    stock.basis[exact] = _EXACT


# --- the table -----------------------------------------------------------------------------------


def _table(stock: _Stock) -> pd.DataFrame:
    """Return the table."""
    shelves, series = stock.held.shelves, stock.series
    tenant, label = np.divmod(stock.shelf, len(shelves.classes))
    columns: dict[str, Any] = {}
    for name, levels in (
        ("instance_id", ("tenant", "cluster")),
        ("tenant_id", ("tenant",)),
        ("tenant_name", ("tenant",)),
    ):
        names = shelves.tenants[name].array.take(tenant)
        if stock.by not in levels:
            names = names.set_categories([])
        columns[name] = names.remove_unused_categories().take(series)
    mode = stock.mode[series]
    columns["full"] = pd.arrays.BooleanArray(mode == 0, mode == MODES - 1)
    names = pd.Series([shelves.classes[each] for each in label], dtype="str")
    columns["storage_class"] = names.astype("category").array.take(series)
    columns["time"] = times(stock.instants[stock.at])
    columns["stored_gib"] = stock.stored
    columns["sets"], columns["unsized"] = stock.sets, stock.unsized
    columns["written_gib"] = stock.written
    columns["basis"] = labels(stock.basis, BASES)
    return pd.DataFrame(columns, copy=False)


def _cost(stock: _Stock, finer: _Stock, terms: _Terms) -> Any:  # noqa: ANN401 - floats
    """Return what each entry costs a month, given those of the instances; NaN without prices."""
    if terms.price is None:
        return np.full(len(stock.stored), np.nan)
    width, shelves = len(stock.held.shelves.classes), stock.held.shelves
    price = terms.price[finer.shelf % width]
    cost = finer.stored * price[finer.series]
    if terms.free is not None:
        instance = shelves.instance[finer.shelf // width][finer.series]
        total = np.zeros((len(terms.free), len(finer.instants)))
        np.add.at(total, (instance, finer.at), finer.stored)
        paid = np.maximum(total - terms.free[:, None], 0)
        paid /= np.where(total > 0, total, 1)
        cost *= paid[instance, finer.at]
    if finer is stock:
        return cost
    codes = [each.mode * np.int64(width) + each.shelf % width for each in (stock, finer)]
    made = np.zeros(stock.layout.size)
    stock.layout.add(made, np.searchsorted(*codes)[finer.series], finer.at, cost)
    return made


def _notes(held: Held, terms: _Terms, made: pd.DataFrame) -> list[str]:
    """Say what a reader should know."""
    listing, notes = held.listing, []
    if made["basis"].eq("lower_bound").any():
        notes.append(
            "what went before the list was made is not in it: values marked lower_bound may be too "
            "low, and say nothing of a trend"
        )
    if held.running:
        notes.append(f"{held.running:,} sets have not ended; what they hold so far is not listed")
    if unsized := int(np.count_nonzero(~np.isfinite(held.size))):
        notes.append(f"{unsized:,} sets have no size; they count as nothing")
    if not listing.whole:
        notes.append(
            "only sets from the window's lookback on were asked for: older ones may be in store, "
            "so not even the last instant is exact; load without a start"
        )
    if listing.failed:
        notes.append(f"{listing.failed:,} instances failed and are not in it")
    if NAT != listing.last < listing.made and held.rows.size:
        notes.append("sets that went between the last instant and the making of the list lack")
    if terms.windows is not None:
        notes.append("copies in an archive storage class live by rules of their own")
        if held.partial is not None:
            notes.append("no rule lets sets of databases and tables go; they count as they are")
    if terms.free is not None:
        notes.append("log backups are not in the list, and count against what is free as well")
    return notes
