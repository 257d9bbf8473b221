"""Explore backup sets in a notebook or on a local page: controls over our own functions."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import pandas as pd

from obanalytics.choice import LEVELS, MODES, Choice
from obanalytics.letters import unhurried
from obanalytics.panel import Panel, h
from obanalytics.schema import (
    BackupSets,
    as_duration,
    as_instant,
    empty,
    facts,
    newest_time,
)
from obanalytics.views import VIEWS, code_of
from obanalytics.wording import format_span, plain, tenant_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obanalytics.policy import Policy
    from obanalytics.views import Made

_KEPT = 24  # results that are kept: going back to one shows it at once
_MOST_HOURS = 24 * 14  # where the slider ends; the field beside it takes more
_HOUR = pd.Timedelta("1h")
_WIDE, _SIDE = widgets.Layout(width="auto"), widgets.Layout(flex="1 1 300px", max_width="420px")


def explore(
    sets: BackupSets | pd.DataFrame, *, rpo: Any = None, policy: Policy | None = None
) -> Explorer:
    """Explore backup sets with controls.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration or None
        How much may be lost; it counts more than the policy's. None takes the policy's, else 26
        hours.
    policy : Policy or None
        What is owed.

    Returns
    -------
    Explorer
        Show it as the last line of a cell.

    Raises
    ------
    TypeError
        When the RPO is no single duration.
    """
    with unhurried():
        return Explorer(sets, rpo=rpo, policy=policy)


class Explorer(widgets.VBox):  # type: ignore[misc]
    """Controls, and views that follow them.

    Parameters
    ----------
    sets : BackupSets or DataFrame
        The facts, or a tenants frame.
    rpo : duration or None
        How much may be lost.
    policy : Policy or None
        What is owed.
    """

    def __init__(
        self,
        sets: BackupSets | pd.DataFrame,
        *,
        rpo: Any = None,
        policy: Policy | None = None,
    ) -> None:
        if not isinstance(sets, BackupSets):
            sets = BackupSets(empty("clusters"), facts(sets).tenants)
        if sets.as_of is None:  # facts put together by hand know no now: their newest time is it
            sets = replace(sets, as_of=newest_time(sets.tenants, sets.clusters))
        self.sets, self.policy = sets, policy
        if rpo is None:
            rpo = "26h" if policy is None else policy.rpo
        self.choice = Choice(rpo=_hours_text(as_duration(rpo, "rpo")))
        self.last_error: Exception | None = None
        """What went wrong last; None where nothing did."""
        self.made: Made | None = None
        """What is shown."""
        self.kept: OrderedDict[Any, Any] = OrderedDict()
        self._held = False
        self._people = _people(sets)
        super().__init__([])
        self._build()
        self._listen()
        self._show()
        self.children = [self._controls, self._status, self.tabs, self.code_box]
        self.add_class("obanalytics")

    # --- what it can be asked -------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """What is looked at, as plain data; set it, or some of it, to go there."""
        return self.choice.to_dict()

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._go(self.choice.changed(state))

    @property
    def frame(self) -> pd.DataFrame | None:
        """The result of the analysis that is shown."""
        return None if self.made is None else self.made.frame

    @property
    def shown(self) -> Panel:
        """The view that is shown: its sentence, picture, table."""
        panel: Panel = self._panels[self.choice.tab]
        return panel

    def code(self) -> str:
        """Return the code that makes what is shown.

        Returns
        -------
        str
            Lines that need `sets`, and `policy` where one was given; `result` is the frame.
        """
        return code_of(self.choice, self.sets, has_policy=self.policy is not None)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the live view, and the chart as a picture where nothing is alive."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        panel = self._panels[self.choice.tab]
        if data and panel.png:
            data["text/html"] = f"{panel.sentence.value}{panel.image()}{panel.table.value}"
            data["image/png"] = panel.png
        elif data:
            data["text/html"] = f"{panel.sentence.value}{panel.table.value}"
        return bundle

    # --- how it is built ------------------------------------------------------------------------

    def _build(self) -> None:
        """Make the controls and the views."""
        self._build_controls(_days(self.sets))
        self._build_views()
        left = widgets.VBox([self.search, self.instances, self.tenants, self.everybody])
        left.layout = _SIDE
        dates = widgets.HBox([self.start, self.end, self.as_of], layout=_FLOW)
        limits = widgets.HBox([self.rpo, self.mode, self.by], layout=_FLOW)
        right = widgets.VBox([self.window, dates, self.rpo_slider, limits])
        right.layout = widgets.Layout(flex="1 1 480px", min_width="320px")
        self._controls = widgets.HBox([left, right], layout=_FLOW)
        self._list_tenants()

    def _build_controls(self, days: list[tuple[str, dt.date]]) -> None:
        """Make what is moved."""
        names = {row.instance_id for row in self._people.itertuples()}
        side: Any = {"layout": _WIDE, "style": {"description_width": "70px"}}
        self.search = widgets.Text(description="Find", placeholder="part of a name or id", **side)
        self.instances = widgets.SelectMultiple(
            description="Instances", options=sorted(names), rows=min(max(len(names), 2), 6), **side
        )
        self.tenants = widgets.SelectMultiple(description="Tenants", rows=8, **side)
        self.everybody = widgets.Button(
            description="Show everybody", icon="users", layout=widgets.Layout(width="max-content")
        )
        self.window = widgets.SelectionRangeSlider(
            description="Window",
            options=days,
            index=(0, len(days) - 1),
            continuous_update=True,
            readout=False,  # the dates below say it
            layout=widgets.Layout(width="auto"),
        )
        self.start = widgets.DatePicker(description="From", value=days[0][1])
        self.end = widgets.DatePicker(description="To", value=days[-1][1])
        hours = _hours(self.choice.rpo)
        self.rpo_slider = widgets.IntSlider(
            description="RPO [h]",
            value=min(round(hours), _MOST_HOURS),
            min=1,
            max=_MOST_HOURS,
            readout=False,  # the field below says it
            layout=widgets.Layout(width="auto"),
        )
        self.rpo = widgets.BoundedFloatText(
            description="RPO [h]", value=hours, min=0.01, max=87_600, step=1
        )
        self.mode = widgets.ToggleButtons(description="Sets", options=MODES)
        self.by = widgets.ToggleButtons(description="By", options=LEVELS)
        self.as_of = widgets.NaiveDatetimePicker(description="As of [UTC]")
        for toggles in (self.mode, self.by):
            toggles.style.button_width = "auto"
            toggles.style.description_width = "40px"
            toggles.layout = widgets.Layout(display="flex", width="max-content")

    def _build_views(self) -> None:
        """Make the views, what narrows them, and the line that tells what is going on."""
        self._panels = {name: Panel(view.title) for name, view in VIEWS.items()}
        self.picks = {
            name: widgets.Select(description=text, rows=6, layout=_WIDE)
            for name, text in (("findings", "Look into"), ("calendar", "Look into"))
        }
        for pick in self.picks.values():
            pick.options = [("—", None)]
        self.what_if = {
            "full_every": widgets.IntSlider(description="Full every [d]", max=35),
            "incremental_every": widgets.IntSlider(description="Run every [h]", max=168),
            "retention_days": widgets.IntSlider(description="Keep for [d]", max=365),
            "price_per_gib_month": widgets.BoundedFloatText(
                description="A GiB and month", max=1e6, step=0.005
            ),
        }
        for control in self.what_if.values():
            control.style.description_width = "130px"
        pages = []
        for name, panel in self._panels.items():
            above = [self.picks[name]] if name in self.picks else []
            if name == "what-if":
                hint = widgets.HTML("<p>0 leaves it as it was.</p>")
                above = [widgets.HBox([*self.what_if.values()], layout=_FLOW), hint]
            pages.append(widgets.VBox([*above, panel]))
        self.tabs = widgets.Tab(pages)
        for at, view in enumerate(VIEWS.values()):
            self.tabs.set_title(at, view.title)
        self.message = widgets.HTML()
        self.show_code = widgets.ToggleButton(
            description="Show the code", icon="code", layout=widgets.Layout(width="max-content")
        )
        self._status = widgets.HBox([self.show_code, self.message], layout=_FLOW)
        self.code_box = widgets.HTML()

    def _listen(self) -> None:
        """Follow the controls."""
        for name in ("instances", "tenants", "rpo", "rpo_slider", "mode", "by", "as_of"):
            getattr(self, name).observe(self._changed, "value")
        for name in ("window", "start", "end"):
            getattr(self, name).observe(self._moved, "value")
        self.search.observe(lambda _: self._list_tenants(), "value")
        self.everybody.on_click(lambda _: self._go(self.choice.changed({"tenants": []})))
        self.tabs.observe(self._turned, "selected_index")
        self.show_code.observe(lambda _: self._tell_code(), "value")
        for pick in self.picks.values():
            pick.observe(self._picked, "value")
        for control in self.what_if.values():
            control.observe(self._supposed, "value")

    # --- what happens when a control is moved ---------------------------------------------------

    def _changed(self, change: Any) -> None:
        """Take over what a control says."""
        if self._held:
            return
        owner, value = change["owner"], change["new"]
        told: dict[str, Any]
        if owner is self.rpo or owner is self.rpo_slider:
            told = {"rpo": _hours_text(value * _HOUR)}
        elif owner is self.instances:
            told = {"instances": list(value), "tenants": []}
        elif owner is self.tenants:
            told = {"tenants": [list(each) for each in value]}
        elif owner is self.as_of:
            told = {"as_of": None if value is None else value.isoformat(sep=" ")}
        else:
            told = {"mode" if owner is self.mode else "by": value}
        self._try(told)

    def _moved(self, change: Any) -> None:
        """Take over a window."""
        if self._held:
            return
        if change["owner"] is self.window:
            first, last = self.window.value
        else:
            first, last = self.start.value, self.end.value
        days = [day for _, day in self.window.options]
        whole = {"start": (first, days[0]), "end": (last, days[-1])}
        told = {
            name: None if day in (None, edge) else _day_text(day, name)
            for name, (day, edge) in whole.items()
        }
        self._try(told)

    def _turned(self, _: Any) -> None:
        """Show another view."""
        if not self._held:
            self._try({"tab": list(VIEWS)[self.tabs.selected_index or 0]})

    def _supposed(self, _: Any) -> None:
        """Suppose another policy."""
        if self._held:
            return
        units = {"full_every": "D", "incremental_every": "h"}
        told = {
            name: f"{control.value}{units[name]}" if name in units else control.value
            for name, control in self.what_if.items()
            if control.value
        }
        self._try({"what_if": told})

    def _picked(self, change: Any) -> None:
        """Narrow every view to the tenant that was picked."""
        if not self._held and change["new"] is not None:
            self._try({"tenants": [list(change["new"])]})

    def _try(self, told: Mapping[str, Any]) -> None:
        """Go where a control says; what is wrong with that is told in place."""
        try:
            choice = self.choice.changed(told)
        except Exception as error:  # noqa: BLE001 - a callback's errors are seen nowhere else
            self._complain(error)
            return
        self._go(choice)

    def _go(self, choice: Choice) -> None:
        """Look at something else."""
        self.choice = choice
        self._set_controls()
        self._show()

    def _set_controls(self) -> None:
        """Let every control say what is looked at."""
        with self._hold():
            choice, hours = self.choice, _hours(self.choice.rpo)
            self.instances.value = tuple(
                each for each in choice.instances if each in self.instances.options
            )
            self._list_tenants()
            self.rpo.value = hours
            self.rpo_slider.value = min(max(round(hours), 1), _MOST_HOURS)
            self.mode.value, self.by.value = choice.mode, choice.by
            days = [day for _, day in self.window.options]
            first = days[0] if choice.start is None else as_instant(choice.start, "start").date()
            last = days[-1] if choice.end is None else _last_day(choice.end)
            self.start.value, self.end.value = first, last
            low = min(max(first, days[0]), days[-1])
            self.window.value = (low, max(low, min(last, days[-1])))
            moment = None if choice.as_of is None else as_instant(choice.as_of, "as_of")
            self.as_of.value = None if moment is None else moment.tz_localize(None).to_pydatetime()
            self.tabs.selected_index = list(VIEWS).index(choice.tab)
            given = dict(choice.what_if)
            for name, control in self.what_if.items():
                control.value = _amount(name, given.get(name))

    @contextmanager
    def _hold(self) -> Iterator[None]:
        """Set controls without following them."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def _list_tenants(self) -> None:
        """List the tenants that are searched for, and those that are chosen."""
        people, choice = self._people, self.choice
        if choice.instances:
            people = people[people["instance_id"].isin(choice.instances)]
        wanted = self.search.value.strip().casefold()
        chosen = {tuple(each) for each in choice.tenants}
        rows = [
            (row.label, (row.instance_id, row.tenant_id))
            for row in people.itertuples()
            if wanted in row.found or (row.instance_id, row.tenant_id) in chosen
        ]
        with self._hold():
            self.tenants.options = rows
            self.tenants.value = tuple(key for _, key in rows if key in chosen)

    # --- what is shown --------------------------------------------------------------------------

    def _show(self) -> None:
        """Show the view; an error becomes one line, and what was there stays."""
        self.message.value = "<span role='status'>working …</span>"
        try:
            with unhurried():  # until everything is sent
                made = self._result()
                self._panels[self.choice.tab].show(made.sentence, made.draw, made.section)
                self._fill_pick(made)
        except Exception as error:  # noqa: BLE001 - a callback's errors are seen nowhere else
            self._complain(error)
            return
        self.made, self.last_error = made, None
        self.message.value = ""
        self._tell_code()

    def _complain(self, error: Exception) -> None:
        """Tell an error in one line; the controls go back to what is shown."""
        self.last_error = error
        text = str(error) or type(error).__name__
        self.message.value = f"<span role='alert' style='color:#a33b00'><b>{h(text)}</b></span>"

    def _result(self) -> Made:
        """Return what is shown; what was shown before is kept for a while."""
        choice = self.choice
        view = VIEWS[choice.tab]
        where = (choice.instances, choice.tenants, choice.start, choice.end)
        part = self._keep(("part", where), lambda: choice.part(self.sets))
        if view.prepare is not None:
            prepare, facts_of = view.prepare, part
            on = tuple(getattr(choice, name) for name in view.ready_on)
            ready = ("ready", choice.tab, where, on)
            part = self._keep(ready, lambda: prepare(facts_of, choice, self.policy))
        how = tuple(getattr(choice, name) for name in view.hangs_on)
        key = (choice.tab, where, how)
        found: Made = self._keep(key, lambda: view.make(part, choice, self.policy))
        return found

    def _keep(self, key: Any, make: Any) -> Any:
        """Return what was made before, or make it."""
        if key not in self.kept:
            self.kept[key] = make()
        self.kept.move_to_end(key)
        while len(self.kept) > _KEPT:
            self.kept.popitem(last=False)
        return self.kept[key]

    def _fill_pick(self, made: Made) -> None:
        """Offer to look into what a view names."""
        pick = self.picks.get(self.choice.tab)
        if pick is None:
            return
        with self._hold():
            pick.options = [("—", None), *_picks(made, self.choice.tab)]
            pick.value = None

    def _tell_code(self) -> None:
        """Show the code, if that is asked for."""
        text = self.code() if self.show_code.value else ""
        self.code_box.value = f"<pre tabindex='0'>{_html(text)}</pre>" if text else ""


_FLOW = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
_EPOCH = pd.Timestamp(0, tz="UTC")  # where nothing is dated
_PICKS = 200  # findings or tenants that are offered


def _amount(name: str, value: Any) -> Any:
    """Return what a control says of a supposition; 0 leaves it as it was."""
    if value is None:
        return 0
    if name == "price_per_gib_month":
        return float(value)
    if name == "retention_days":
        return round(float(value))
    unit = pd.Timedelta(1, "D" if name == "full_every" else "h")
    return round(as_duration(value, name) / unit)


def _html(text: str) -> str:
    """Return lines that are safe to stand in a widget."""
    return "\n".join(h(line) if line.strip() else "" for line in text.splitlines())


def _people(sets: BackupSets) -> pd.DataFrame:
    """Return every tenant: ids, a label, and the text in which it is found."""
    keys = ["instance_id", "tenant_id", "tenant_name"]
    rows = sets.tenants.sort_values("start_time", kind="stable")[keys]
    people = rows.drop_duplicates(keys[:2], keep="last").astype("object")
    people = people.sort_values(["instance_id", "tenant_id"], ignore_index=True)
    found = people["tenant_name"].fillna("").astype(str)
    found = found + " " + people["instance_id"].astype(str) + " " + people["tenant_id"].astype(str)
    labels = tenant_labels(people, 60) if len(people) else []
    return people.assign(label=labels, found=found.str.casefold())


def _days(sets: BackupSets) -> list[tuple[str, dt.date]]:
    """Return the days that a window may begin or end with: those that were asked for."""
    known = facts(sets)
    starts = known.tenants.loc[known.tenants["in_window"].astype(bool), "start_time"].dropna()
    start, end = known.window
    now = _EPOCH if known.as_of is None else known.as_of
    first = start if start is not None else starts.min() if len(starts) else now
    last = now if end is None else end - pd.Timedelta(1, "us")
    days = pd.date_range(first.date(), max(last.date(), first.date() + dt.timedelta(1)), freq="D")
    return [(str(each.date()), each.date()) for each in days]


def _day_text(day: dt.date, name: str) -> str:
    """Return a bound of the window: its last day is within it."""
    return str(day + dt.timedelta(1) if name == "end" else day)


def _last_day(end: str) -> dt.date:
    """Return the last day of a window that ends before an instant."""
    day: dt.date = (as_instant(end, "end") - pd.Timedelta(1, "us")).date()
    return day


def _hours(rpo: str) -> float:
    """Return an RPO in hours."""
    return float(as_duration(rpo, "rpo") / _HOUR)


def _hours_text(rpo: pd.Timedelta) -> str:
    """Return an RPO as a text that reads as it is."""
    hours = rpo / _HOUR
    return f"{hours:g}h" if pd.Timedelta(f"{hours:g}h") == rpo else f"{rpo.total_seconds():g}s"


def _picks(made: Made, tab: str) -> list[tuple[str, tuple[str, str]]]:
    """Return what can be looked into: findings, or tenants, the worst first."""
    if tab == "findings":
        rows = made.frame[made.frame["tenant_id"].notna()].head(_PICKS)
        return [
            (
                f"{n}. {row.severity} {row.kind}: {plain(row.sentence, 110)}",
                (row.instance_id, row.tenant_id),
            )
            for n, row in enumerate(rows.itertuples(), 1)
        ]
    keys = ["instance_id", "tenant_id"]
    sums = made.frame.groupby(keys, observed=True, sort=False)["gap"].sum()
    worst = sums.sort_values(ascending=False, kind="stable").head(_PICKS)
    names = made.frame.drop_duplicates(keys).set_index(keys)["tenant_name"]
    people = names.loc[worst.index].reset_index().astype("object")
    labels = tenant_labels(people) if len(people) else []
    told = zip(labels, people[keys].itertuples(index=False, name=None), worst, strict=True)
    return [(f"{label}: {format_span(gap)} outside", key) for label, key, gap in told]
