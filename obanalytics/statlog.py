"""Tell growth, forecasts, durations and anomalies for a terminal and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from obanalytics.anomaly import anomalies
from obanalytics.asjson import jsonable
from obanalytics.carry import carried
from obanalytics.changes import duration_changes
from obanalytics.duration import duration_trends
from obanalytics.forecast import forecast_size
from obanalytics.growth import size_growth
from obanalytics.lines import aligned, window_sentence
from obanalytics.schema import Window, as_instant, facts, span
from obanalytics.stored import stored_size
from obanalytics.wording import (
    duration_sentence,
    format_instant,
    format_interval,
    format_number,
    format_share,
    format_span,
    growth_sentence,
    mode_name,
    plain,
    plural,
    tenant_labels,
    words,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obanalytics.schema import BackupSets

_SOON = pd.Timedelta(1000, "D")  # what a trend would do later is not told
_SURE = 0.9995  # shown as 100 %
FORMAT = 1
"""The version of what `Told.to_json` returns."""
_WIDTH, _NAME, _INDENT = 100, 24, "      "
_KEYS = ["instance_id", "tenant_id", "tenant_name"]


class Cell(NamedTuple):
    """One column of a table for the terminal."""

    head: str
    show: Callable[[Any], str]
    """Returns the text of a row."""
    right: bool = True
    """Whether it stands to the right, as numbers do."""


class Table(NamedTuple):
    """One table."""

    name: str
    """Its key in the JSON."""
    title: str
    frame: pd.DataFrame
    """All rows, in the order in which they are told."""
    cells: tuple[Cell, ...] = ()
    """What the terminal shows of them; nothing: it shows the sentences below only."""
    below: Callable[[Any], str] = lambda _: ""
    """Returns what stands under a row."""
    told: bool = True
    """Whether the terminal shows it: else it is for machines only."""


@dataclass(frozen=True, eq=False, slots=True)
class Told:
    """Hold what a command tells.

    Parameters
    ----------
    headline : str
        What was found, in one sentence.
    asked : dict
        What was asked for, by the names of the analysis.
    tables : tuple of Table
        The results.
    as_of : Timestamp or None
        The instant at which the facts were true [UTC].
    window : Window
        What was looked at [UTC].
    notes : tuple of str
        What else a reader should know.
    failed : dict
        The instances that could not be read, and why.
    """

    headline: str
    asked: dict[str, Any]
    tables: tuple[Table, ...]
    as_of: pd.Timestamp | None
    window: Window
    notes: tuple[str, ...]
    failed: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return everything as data that any JSON writer takes.

        Returns
        -------
        dict
            format, asked, as_of, window, units (of every table's columns), the tables by name as
            lists of rows, notes, failed. Durations are seconds, instants ISO 8601 in UTC with Z, NA
            null.
        """
        whole = {
            "format": FORMAT,
            "asked": self.asked,
            "as_of": self.as_of,
            "window": {"start": self.window.start, "end": self.window.end},
            "units": {each.name: each.frame.attrs.get("units", {}) for each in self.tables},
            **{each.name: each.frame.to_dict("records") for each in self.tables},
            "notes": self.notes,
            "failed": self.failed,
        }
        return {name: jsonable(value) for name, value in whole.items()}

    def to_text(self) -> str:
        """Return everything for a terminal or a log.

        Returns
        -------
        str
            Lines of at most 100 cells, but where names are long.
        """
        lines = wrapped(self.headline + ".", _WIDTH)
        lines += wrapped(f"{window_sentence(self.window, self.as_of)}.", _WIDTH)
        told = [f"Not read: {plain(name)}: {plain(why, 200)}" for name, why in self.failed.items()]
        for note in [*told, *map(plain, self.notes)]:
            lines += wrapped(note, _WIDTH, first="Note  ", rest=_INDENT)
        for table in self.tables:
            lines += _lines(table)
        return "\n".join(lines) + "\n"


def _lines(table: Table) -> list[str]:
    """Return a table as lines; nothing where it has no row."""
    if table.frame.empty or not table.told:
        return []
    rows = list(table.frame.itertuples())
    below = [
        wrapped(text, _WIDTH, first=_INDENT, rest=_INDENT) if text else []
        for text in map(table.below, rows)
    ]
    lines = ["", f"{table.title} ({len(rows):,})"]
    if not table.cells:
        return lines + [line for block in below for line in block]
    names = _names(table.frame)
    texts = [
        [name, *(c.show(row) for c in table.cells)] for name, row in zip(names, rows, strict=True)
    ]
    head = [_whose(table.frame), *(c.head for c in table.cells)]
    first, *rest = aligned([head, *texts], [False, *(c.right for c in table.cells)])
    lines.append(first)
    for line, block in zip(rest, below, strict=True):
        lines += [line, *block]
    return lines


def _whose(frame: pd.DataFrame) -> str:
    """Say what the first column names."""
    if frame["tenant_id"].notna().any():
        return "tenant"
    return "cluster" if frame["instance_id"].notna().any() else "fleet"


def _names(frame: pd.DataFrame) -> list[str]:
    """Name what each row is of."""
    kind = _whose(frame)
    if kind == "tenant":
        return tenant_labels(frame[_KEYS].astype("string"), _NAME)
    if kind == "cluster":
        return [plain(each, _NAME) for each in frame["instance_id"]]
    return ["all"] * len(frame)


_MODE = Cell("mode", lambda r: mode_name(r.full), right=False)


def _percent(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Return a rate."""
    return format_number(row.percent_per_30d, 1, sign=True)


def _bounds(row: Any) -> str:  # noqa: ANN401
    """Return the interval of a rate."""
    return format_interval(row.percent_per_30d_low, row.percent_per_30d_high, 1)


def _band(row: Any) -> str:  # noqa: ANN401
    """Return a band of sizes."""
    return f"{format_number(row.lower_gib, 1)} to {format_number(row.upper_gib, 1)}"


_GROWTH = (
    _MODE,
    Cell("n", lambda r: format_number(r.n)),
    Cell("last GiB", lambda r: format_number(r.last_size_gib, 2)),
    Cell("GiB/day", lambda r: format_number(r.gib_per_day, 3, sign=True)),
    Cell("%/30 d", _percent),
    Cell("95 %", _bounds),
    Cell("doubles in", lambda r: format_span(r.doubling_time)),
    Cell("verdict", lambda r: words(r.verdict), right=False),
)
_STORED = (
    _MODE,
    Cell("class", lambda r: plain(r.storage_class, 12), right=False),
    Cell("sets", lambda r: format_number(r.sets)),
    Cell("no size", lambda r: format_number(r.unsized)),
    Cell("GiB", lambda r: format_number(r.stored_gib, 2)),
    Cell("cost/month", lambda r: format_number(r.cost_per_month, 2)),
)
_FORECAST = (
    Cell("series", lambda r: words(r.what), right=False),
    Cell("now GiB", lambda r: format_number(r.now_gib, 1)),
    Cell("end GiB", lambda r: format_number(r.median_gib, 1)),
    Cell("band", _band),
    Cell("MASE", lambda r: format_number(r.mase, 2)),
    Cell("naive", lambda r: format_number(r.mase_naive, 2)),
    Cell("in band", lambda r: format_share(r.coverage)),
    Cell("method", lambda r: words(r.method), right=False),
)
_DURATIONS = (
    _MODE,
    Cell("n", lambda r: format_number(r.n)),
    Cell("p50", lambda r: format_span(r.p50)),
    Cell("p95", lambda r: ("≥ " if r.at_least else "") + format_span(r.p95)),
    Cell("longest", lambda r: ("≥ " if r.at_least else "") + format_span(r.max)),
    Cell("%/30 d", _percent),
    Cell("95 %", _bounds),
    Cell("GiB/h", lambda r: format_number(r.throughput_gib_per_h, 1)),
    Cell("headroom", lambda r: format_number(r.headroom, 1)),
    Cell("verdict", lambda r: words(r.verdict), right=False),
)


_ANOMALIES = (
    Cell("#", lambda r: str(r.rank)),
    _MODE,
    Cell("what", lambda r: words(r.kind), right=False),
    Cell("observed", lambda r: _amount(r, r.observed)),
    Cell("usual", lambda r: _amount(r, r.usual)),
    Cell("factor", lambda r: f"x {r.factor:.2f}"),
    Cell("start UTC", lambda r: format_instant(r.start_time), right=False),
    Cell("set", lambda r: plain(r.backup_set_id, 24), right=False),
)


def growth_told(sets: BackupSets, asked: dict[str, Any]) -> Told:
    """Tell how fast backups grow, and what is in store.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    asked : dict
        `by`, `as_of`; `retention_days`, `price_per_gib_month`, `free_gib` as `stored_size` takes
        them.

    Returns
    -------
    Told
        The tables growth, steps and stored (at `as_of`).
    """
    common = {"by": asked["by"], "as_of": _instant(asked["as_of"])}
    money = {name: asked[name] for name in ("retention_days", "price_per_gib_month", "free_gib")}
    growth = size_growth(sets, **common)
    order = growth.sort_values("percent_per_30d", ascending=False, kind="stable")
    stored = stored_size(sets, **common, **money)
    now = stored[stored["time"] == stored["time"].max()]
    now = now.sort_values("stored_gib", ascending=False, kind="stable")
    total = format_number(now["stored_gib"].sum(), 2)
    cost = now["cost_per_month"].sum(min_count=1)
    price = "" if pd.isna(cost) else f" for {format_number(cost, 2)} a month"
    return _told(
        sets,
        asked,
        f"{growth_sentence(growth)}; in store: {total} GiB{price}",
        (
            Table("growth", "GROWTH, fastest first", order, _GROWTH, _step_of),
            Table("stored", "IN STORE NOW, largest first", now, _STORED),
        ),
        stored.attrs.get("notes", ()),
    )


def _step_of(row: Any) -> str:  # noqa: ANN401
    """Tell the newest step of a series."""
    if not row.steps:
        return ""
    more = f" (the newest of {row.steps})" if row.steps > 1 else ""
    change = f"{format_number(row.step_gib, 2, sign=True)} GiB"
    return f"step{more} on {format_instant(row.step_at)} UTC: x {row.step_factor:.2f}, {change}"


def forecast_told(sets: BackupSets, asked: dict[str, Any]) -> Told:
    """Tell how large backups will be.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    asked : dict
        `horizon`, `level`, `threshold`, `retention_days`, `by`, `as_of`, as `forecast_size` takes
        them.

    Returns
    -------
    Told
        The tables ends (the last step of every series), refused, and forecast (all steps).
    """
    given = dict(asked)
    made = forecast_size(sets, given.pop("horizon"), **given | {"as_of": _instant(asked["as_of"])})
    refused = made[made["refused"].notna()]
    done = made[made["refused"].isna()]
    keys = [*_KEYS[:2], "what"]
    last = done[~done.duplicated(keys, keep="last")]
    last = last.assign(now_gib=_newest(made, last))
    count, whole = len(last), len(last) + len(refused)
    order = ["p_not_crossed", "median_gib"]
    last = last.sort_values(order, ascending=[True, False], kind="stable")
    headline = f"{count:,} of {plural(whole, 'series')} forecast {_until(last)}".rstrip()
    if asked["threshold"] is not None:
        likely = int((last["p_not_crossed"] < 0.5).sum())  # noqa: PLR2004 - more likely than not
        headline += f"; {likely:,} more likely than not to cross {asked['threshold']} GiB"
    tables = (
        Table("ends", "FORECAST, at the end of the horizon", last, _FORECAST, _crossing_of),
        Table("refused", "NOT FORECAST", refused, (_WHAT, _REASON)),
        Table("forecast", "ALL STEPS", done, told=False),
    )
    return _told(sets, asked, headline, tables, made.attrs.get("notes", ()))


_WHAT = Cell("series", lambda r: words(r.what), right=False)
_REASON = Cell("why", lambda r: plain(r.refused), right=False)


def _until(last: pd.DataFrame) -> str:
    """Say until when."""
    return "" if last.empty else f"to {format_instant(last['time'].max())} UTC"


def _newest(made: pd.DataFrame, last: pd.DataFrame) -> list[float]:
    """Return the newest known value of each series [GiB]."""
    history = carried(made, "history")
    if history is None:
        return [float("nan")] * len(last)
    keys = [*_KEYS[:2], "what"]
    newest = history[~history.duplicated(keys, keep="last")]
    texts = newest[keys].astype("string").fillna("").itertuples(index=False, name=None)
    found = dict(zip(texts, newest["gib"], strict=True))
    mine = last[keys].astype("string").fillna("").itertuples(index=False, name=None)
    return [float(found.get(key, float("nan"))) for key in mine]


def _crossing_of(row: Any) -> str:  # noqa: ANN401
    """Tell when a series crosses the threshold."""
    if pd.isna(row.p_not_crossed):
        return ""
    if row.p_not_crossed >= _SURE:
        return "the threshold is not reached within the horizon"
    dates = ", ".join(
        f"{share} % by {moment:%Y-%m-%d}"
        for share, moment in ((10, row.cross_10), (50, row.cross_50), (90, row.cross_90))
        if pd.notna(moment)
    )
    if pd.notna(row.cross_90) and row.cross_10 == row.cross_90:
        return f"crosses the threshold by {row.cross_90:%Y-%m-%d}"
    left = f"; not within the horizon: {format_share(row.p_not_crossed)}"
    return f"crosses the threshold: {dates}{left}" if dates else left[2:]


def durations_told(sets: BackupSets, asked: dict[str, Any]) -> Told:
    """Tell how long backups take, and since when they take longer.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    asked : dict
        `by`, `as_of`, as `duration_trends` takes them.

    Returns
    -------
    Told
        The tables durations and changes (of tenants).
    """
    as_of = _instant(asked["as_of"])
    now = facts(sets, as_of).as_of
    made = duration_trends(sets, by=asked["by"], as_of=as_of)
    changed = duration_changes(sets, as_of=as_of)
    order = made.sort_values("p95", ascending=False, kind="stable")
    recent = changed.sort_values("at", ascending=False, kind="stable")
    until = made["headroom_gone"].min() if now is None else now + _SOON
    gone = partial(_gone_of, until=until)
    more = f"; {plural(len(changed), 'change')} of pace" if len(changed) else ""
    return _told(
        sets,
        asked,
        duration_sentence(made) + more,
        (
            Table("durations", "DURATIONS, longest p95 first", order, _DURATIONS, gone),
            Table("changes", "CHANGES, newest first", recent, (), lambda r: plain(r.sentence)),
        ),
    )


def _gone_of(row: Any, until: pd.Timestamp) -> str:  # noqa: ANN401
    """Tell unfinished runs, and when runs would take as long as the time between them."""
    told = []
    if row.running:
        age = format_span(row.oldest_running)
        told.append(f"{plural(row.running, 'run')} unfinished, the oldest for {age}")
    if pd.notna(row.headroom_gone) and row.headroom_gone <= until:
        every = format_span(row.usual_interval)
        told.append(f"p95 reaches the {every} between runs on {format_instant(row.headroom_gone)}")
    return "; ".join(told)


def anomalies_told(sets: BackupSets, asked: dict[str, Any]) -> Told:
    """Tell which sets are unlike those before them.

    Parameters
    ----------
    sets : BackupSets
        The facts.
    asked : dict
        `as_of`, as `anomalies` takes it.

    Returns
    -------
    Told
        The table anomalies, worst first.
    """
    made = anomalies(sets, as_of=_instant(asked["as_of"]))
    counts = made["kind"].value_counts()
    told = ", ".join(f"{count:,} {words(kind)}" for kind, count in counts.items() if count)
    whose = len(made[_KEYS[:2]].drop_duplicates())
    headline = f"{plural(len(made), 'set')} unlike those before: {told}; {plural(whose, 'tenant')}"
    if made.empty:
        headline = "No set is unlike those before it"
    table = Table("anomalies", "ANOMALIES, worst first", made, _ANOMALIES, _merging)
    return _told(sets, asked, headline, (table,))


def _merging(row: Any) -> str:  # noqa: ANN401
    """Tell what numbers do not."""
    return plain(row.sentence) if row.kind == "overlaps_merge" else ""


def _amount(row: Any, value: float) -> str:  # noqa: ANN401
    """Return a size or a duration."""
    if row.unit == "s":
        return format_span(pd.Timedelta(value, "s"))
    return f"{format_number(value, 2)} GiB"


def _instant(text: Any) -> pd.Timestamp | None:  # noqa: ANN401 - what the command line has
    """Return the instant to look from."""
    return None if text is None else as_instant(text, "as_of")


def _told(
    sets: BackupSets,
    asked: dict[str, Any],
    headline: str,
    tables: tuple[Table, ...],
    notes: Sequence[str] = (),
) -> Told:
    """Put together what is told."""
    known = facts(sets, _instant(asked["as_of"]))
    if known.tenants.empty:
        headline = "No tenant has a backup set in this window: there is nothing to measure"
    source = sets.source
    whole = (*source.notes, *notes)
    failed = dict(source.failed)
    return Told(headline, asked, tables, known.as_of, Window(*span(known)), whole, failed)
