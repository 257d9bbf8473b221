"""Reports: what is in the tables is on the page, and no name can act anywhere."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import json
import re
import unicodedata
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt

import obanalytics as ob
from obanalytics import files, report, simulator
from obanalytics.kinds import KINDS
from obanalytics.schema import BackupSets, Source, empty
from obanalytics.wording import (
    cells,
    format_instant,
    format_interval,
    format_number,
    format_share,
    format_span,
    mode_name,
    plain,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
HOSTILE = (
    "$x$ and $y$",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](http://evil.example)|**b** `c` ~~d~~",
    "http://evil.example www.evil.example a@evil.example",
    "中文" * 100,
    "🦀",
    "",
    "a\nb\r\n# c",
    "\u202egnp.exe",
    '=HYPERLINK("http://evil.example","z")',
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&#60;",
    "\x1b[31mred\x07",
    "<!-- --><https://evil.example>",
    "![i](javascript:alert(1))\\",
)
TABLES = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# What GitHub and others make links of without any sign: an address, a host, a mail address.
BARE = re.compile(r"[a-z]://|www\.|\w@\w", re.IGNORECASE)


html_of = cache(report.render_html)


class Page(HTMLParser):
    """What is on a page, read by somebody else's rules."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link"}:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        elif tag == "caption":
            self.captions.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
        elif "caption" in self._open:
            self.captions[-1] += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag in tags]


def simulated(folder: Path, scenario: simulator.Scenario) -> ob.BackupSets:
    for path, body in simulator.pages_as_files(simulator.simulate(scenario)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return ob.read(folder)


def renamed(sets: ob.BackupSets, names: tuple[str, ...]) -> ob.BackupSets:
    ids = sorted(sets.tenants["tenant_id"].unique())
    called = {each: names[number % len(names)] for number, each in enumerate(ids)}
    column = sets.tenants["tenant_id"].astype("object").map(called).astype("category")
    return dataclasses.replace(sets, tenants=sets.tenants.assign(tenant_name=column))


@pytest.fixture(scope="module")
def sample() -> ob.Review:
    return ob.review(ob.sample())


@pytest.fixture(scope="module")
def page(sample: ob.Review) -> str:
    return html_of(sample)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ob.Review:
    plants = (
        simulator.Plant("silent", 0, None, 20.0, 4.0),
        simulator.Plant("dropped", 1, 1, 9.0),
        simulator.Plant("failed", 1, 4, 20.0, 5.0),
    )
    scenario = simulator.Scenario(NOW, 3, 30, instances=2, tenants=8, plants=plants)
    sets = renamed(simulated(tmp_path_factory.mktemp("hostile"), scenario), HOSTILE)
    notes = (*sets.source.notes, *HOSTILE)
    failed = {name: f"refused: {name}" for name in HOSTILE if name}
    source = dataclasses.replace(sets.source, notes=notes, failed=failed, path=HOSTILE[2])
    return ob.review(dataclasses.replace(sets, source=source), rpo="26h")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> ob.Review:
    plants = (
        simulator.Plant("silent", 3, None, 12.0, 4.0),
        simulator.Plant("dropped", 4, 1, 9.0),
    )
    scenario = simulator.Scenario(NOW, 3, 25, instances=50, tenants=10, plants=plants)
    return ob.review(simulated(tmp_path_factory.mktemp("big"), scenario), rpo="26h")


@pytest.fixture(scope="module")
def nothing() -> ob.Review:
    return ob.review(BackupSets(empty("clusters"), empty("tenants"), source=Source(("ob1",))))


# --- the numbers -------------------------------------------------------------------------------


def span_or(span: Any, unbounded: Any) -> str:
    return "unbounded" if unbounded else format_span(span)


def set_id(value: Any) -> str:
    return "none" if pd.isna(value) else str(value)


DOUBT = {"inferred": "", "partly": " (partly known)", "unknown": " (not known)"}
Texts = dict[str, "Callable[[Any], str]"]
WHO: Texts = {
    "Tenant": lambda r: plain(r.tenant_name, 60),
    "Instance": lambda r: plain(r.instance_id, 40),
}
COVERAGE: Texts = WHO | {
    "RPO now": lambda r: str(r.rpo_state),
    "Exposed now": lambda r: span_or(r.exposure_now, r.rpo_ratio == float("inf")),
    "Time in RPO": lambda r: format_share(r.time_in_rpo),
    "At worst": lambda r: format_share(r.time_in_rpo_worst),
    "Gaps": lambda r: f"{r.gaps:,}",
    "Gap total": lambda r: format_span(r.gap_total),
    "Not known": lambda r: format_span(r.unknown),
    "Worst exposure": lambda r: span_or(r.worst_exposure, r.unbounded),
    "Worst at [UTC]": lambda r: format_instant(r.worst_at),
    "Restore points": lambda r: f"{r.restore_points:,}",
    "Newest restore point [UTC]": lambda r: format_instant(r.last_checkpoint),
    "Last attempt [UTC]": lambda r: format_instant(r.last_attempt),
    "Its state": lambda r: words(r.last_attempt_state),
}
GAPS: Texts = WHO | {
    "Cause": lambda r: words(r.cause) + DOUBT[r.certainty],
    "Start [UTC]": lambda r: f"{r.gap_start:%Y-%m-%d %H:%M}",
    "End [UTC]": lambda r: f"{r.gap_end:%Y-%m-%d %H:%M}",
    "Gap": lambda r: format_span(r.gap),
    "Position": lambda r: str(r.position),
    "Worst exposure": lambda r: span_or(r.worst_exposure, r.unbounded),
    "Attempts": lambda r: f"{r.attempts:,}",
    "Failed": lambda r: f"{r.failed:,}",
    "Last good set": lambda r: set_id(r.last_backup_set_id),
    "Closed by": lambda r: set_id(r.next_backup_set_id),
    "Certainty": lambda r: str(r.certainty),
}
GROWTH: Texts = WHO | {
    "Mode": lambda r: mode_name(r.full),
    "Verdict": lambda r: words(r.verdict),
    "Sets": lambda r: f"{r.sets:,}",
    "Span": lambda r: format_span(r.span),
    "First [GiB]": lambda r: format_number(r.first_size_gib, 2),
    "Last [GiB]": lambda r: format_number(r.last_size_gib, 2),
    "GiB/day": lambda r: format_number(r.gib_per_day, 3, sign=True),
    "95 % interval": lambda r: format_interval(r.gib_per_day_low, r.gib_per_day_high, 3),
    "% in 30 d": lambda r: format_number(r.percent_per_30d, 1, sign=True),
    "95 % interval ": lambda r: format_interval(r.percent_per_30d_low, r.percent_per_30d_high, 1),
    "Steps": lambda r: f"{r.steps:,}",
    "Newest step [UTC]": lambda r: format_instant(r.step_at),
}
DURATIONS: Texts = WHO | {
    "Mode": lambda r: mode_name(r.full),
    "Sets": lambda r: f"{r.sets:,}",
    "Median": lambda r: format_span(r.p50),
    "p95": lambda r: ("≥ " if r.at_least else "") + format_span(r.p95),
    "Longest": lambda r: ("≥ " if r.at_least else "") + format_span(r.max),
    "Last": lambda r: format_span(r.last),
    "% in 30 d": lambda r: format_number(r.percent_per_30d, 1, sign=True),
    "95 % interval": lambda r: format_interval(r.percent_per_30d_low, r.percent_per_30d_high, 1),
    "GiB/h": lambda r: format_number(r.throughput_gib_per_h, 1),
    "Running": lambda r: f"{r.running:,}",
    "Oldest running": lambda r: format_span(r.oldest_running),
    "Untimed": lambda r: f"{r.untimed:,}",
}


def measure(value: Any, unit: str) -> str:
    if pd.isna(value):
        return "n/a"
    if unit == "h":
        return format_span(pd.Timedelta(hours=float(value)))
    if value == 1 and unit in {"sets", "slots"}:
        return f"1 {unit[:-1]}"
    return f"{value:,.2f} {unit}" if value % 1 else f"{value:,.0f} {unit}"


def sets_named(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - 3:,} more" if len(ids) > 3 else ""
    return (", ".join(ids[:3]) + more) or "none"


def times(value: Any) -> str:
    return "n/a" if pd.isna(value) else f"x {value:.2f}"


def amount(value: float, unit: str) -> str:
    if unit == "s":
        return format_span(pd.Timedelta(seconds=value))
    return f"{value:,.2f} GiB"


FINDINGS: Texts = {
    "Tenant": lambda r: "the whole instance" if pd.isna(r.tenant_id) else plain(r.tenant_name, 60),
    "Severity": lambda r: str(r.severity),
    "Kind": lambda r: f"{r.kind} {KINDS[r.kind].title}",
    "Finding": lambda r: plain(r.sentence),
    "Start [UTC]": lambda r: format_instant(r.start),
    "End [UTC]": lambda r: format_instant(r.end),
    "Measured": lambda r: measure(r.measured, KINDS[r.kind].unit),
    "Limit": lambda r: measure(r.limit, KINDS[r.kind].unit),
    "Certainty": lambda r: str(r.certainty),
    "Instance": lambda r: plain(r.instance_id, 40),
    "Backup sets": lambda r: sets_named(r.backup_set_ids),
    "Limit from": lambda r: str(r.limit_origin),
    "Acknowledged": lambda r: "yes" if r.acknowledged else "no",
}
STORED: Texts = {
    "Instance": WHO["Instance"],
    "Mode": lambda r: mode_name(r.full),
    "Storage class": lambda r: str(r.storage_class),
    "In store [GiB]": lambda r: f"{r.stored_gib:,.2f}",
    "Sets": lambda r: f"{r.sets:,}",
    "Without a size": lambda r: f"{r.unsized:,}",
    "At [UTC]": lambda r: format_instant(r.time),
    "Basis": lambda r: words(r.basis),
}
FORECAST: Texts = WHO | {
    "Series": lambda r: words(r.what),
    "Until [UTC]": lambda r: format_instant(r.time),
    "Median [GiB]": lambda r: format_number(r.median_gib, 2),
    "From [GiB]": lambda r: format_number(r.lower_gib, 2),
    "To [GiB]": lambda r: format_number(r.upper_gib, 2),
    "Method": lambda r: words(r.method),
    "MASE": lambda r: format_number(r.mase, 2),
    "MASE of naive": lambda r: format_number(r.mase_naive, 2),
    "Past values in band": lambda r: format_share(r.coverage),
    "Values": lambda r: f"{r.n:,}",
    "Why not": lambda r: "" if pd.isna(r.refused) else str(r.refused),
}
CHANGES: Texts = WHO | {
    "Mode": lambda r: mode_name(r.full),
    "Since [UTC]": lambda r: format_instant(r.at),
    "Duration": lambda r: times(r.factor),
    "Before": lambda r: format_span(r.before),
    "After": lambda r: format_span(r.after),
    "Size": lambda r: times(r.size_factor),
    "Throughput": lambda r: times(r.throughput_factor),
    "Cause": lambda r: words(r.cause),
    "Tenants changed": lambda r: f"{r.tenants_changed} of {r.tenants_in_cluster}",
    "Last set before": lambda r: str(r.set_before),
    "First set after": lambda r: str(r.set_after),
}
ANOMALIES: Texts = WHO | {
    "Mode": lambda r: mode_name(r.full),
    "What": lambda r: words(r.kind),
    "Started [UTC]": lambda r: format_instant(r.start_time),
    "Observed": lambda r: amount(r.observed, r.unit),
    "Usual": lambda r: amount(r.usual, r.unit),
    "Times the usual": lambda r: times(r.factor),
    "Sets before": lambda r: f"{r.n:,}",
    "Backup set": lambda r: str(r.backup_set_id),
}
PARITY: Texts = WHO | {
    "Cluster sets": lambda r: f"{r.expected:,}",
    **{
        name.capitalize(): lambda r, name=name: f"{getattr(r, name):,}"
        for name in ("present", "failed", "missing", "gone", "new", "running")
    },
    "Not known": lambda r: f"{r.unknown:,}",
    "Last present [UTC]": lambda r: format_instant(r.last_present),
}
SCHEDULE: Texts = WHO | {
    "Mode": lambda r: words(r.mode),
    "Every": lambda r: format_span(r.every),
    "Days": lambda r: "n/a" if pd.isna(r.weekdays) else str(r.weekdays),
    "Cron": lambda r: "n/a" if pd.isna(r.cron) else str(r.cron),
    "Zone": lambda r: str(r.tz),
    "Origin": lambda r: words(r.origin),
    "Runs": lambda r: f"{r.runs:,}",
    "Confidence": lambda r: format_share(r.confidence),
    "Spread": lambda r: format_span(r.dispersion),
    "Since [UTC]": lambda r: format_instant(r.since),
    "Until [UTC]": lambda r: format_instant(r.until),
}
NOT_JUDGED: Texts = {
    "Kind": lambda r: f"{r.kind} {r.title}",
    "Why not": lambda r: str(r.reason),
}


def roll_call(parity: pd.DataFrame) -> pd.DataFrame:
    """Count every tenant's presences, one row at a time."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in parity.to_dict("records"):
        empty_row = dict.fromkeys(parity["presence"].cat.categories, 0) | {"expected": 0}
        mine = rows.setdefault(
            (row["instance_id"], row["tenant_id"]), empty_row | {"last_present": pd.NaT}
        )
        mine |= {name: row[name] for name in ("instance_id", "tenant_id", "tenant_name")}
        mine["expected"] += row["presence"] != "gone"
        mine[row["presence"]] += 1
        if row["presence"] == "present":
            mine["last_present"] = max(
                row["start_time"],
                mine["last_present"] if pd.notna(mine["last_present"]) else row["start_time"],
            )
    return pd.DataFrame(list(rows.values()))


def shown_frames(review: ob.Review) -> dict[str, pd.DataFrame]:
    """Return what the tables of a report are of."""
    stored, ahead = review.tables["stored"], review.tables["forecast"]
    if ahead["refused"].notna().sum() > 20:  # they are counted instead
        ahead = ahead[ahead["refused"].isna()]
    return {
        **review.tables,
        "findings": review.findings,
        "stored": stored[stored["time"] == stored["time"].max()],
        "forecast": ahead.groupby(
            [ahead[name].astype("object") for name in ("instance_id", "tenant_id", "what")],
            sort=False,
        ).tail(1),
        "parity": roll_call(review.tables["parity"]),
    }


def expected(review: ob.Review) -> dict[str, list[list[str]]]:
    """Every table as it should be read, its rows in no order."""
    coverage = review.tables["coverage"].copy()
    fleet = coverage["instance_id"].isna()
    coverage = coverage.astype({"tenant_name": "object", "instance_id": "object"})
    coverage.loc[fleet, "tenant_name"], coverage.loc[fleet, "instance_id"] = "all tenants", "all"
    frames = {**shown_frames(review), "coverage": coverage}
    told = {
        "findings": FINDINGS,
        "coverage": COVERAGE,
        "gaps": GAPS,
        "growth": GROWTH,
        "stored": STORED,
        "forecast": FORECAST,
        "durations": DURATIONS,
        "changes": CHANGES,
        "anomalies": ANOMALIES,
        "parity": PARITY,
        "schedule": SCHEDULE,
        "not_judged": NOT_JUDGED,
    }
    return {
        name: [
            [head.strip() for head in texts],
            *sorted([show(row) for show in texts.values()] for row in frames[name].itertuples()),
        ]
        for name, texts in told.items()
        if len(frames[name])
    }


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_every_cell_is_a_number_of_the_tables(name: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(name)
    shown = Page(html_of(review)).tables
    shown = [[[text.replace("\u00a0", " ") for text in row] for row in table] for table in shown]
    assert [[table[0], *sorted(table[1:])] for table in shown] == list(expected(review).values())
    coverage = shown[1]
    assert coverage[-1][0] == "all tenants"
    # Theirs is the order of what is worst, outside first, the share of time then.
    outside = [row[2] == "outside" for row in coverage[1:-1]]
    assert outside == sorted(outside, reverse=True)
    inside = [float(row[4].removesuffix(" %")) for row in coverage[1:-1] if row[2] == "inside"]
    assert inside == sorted(inside)


def test_markdown_has_every_row_too(sample: ob.Review, hostile: ob.Review) -> None:
    for review in (sample, hostile):
        tables = Page(TABLES.render(report.render_markdown(review))).tables
        assert [[t[0], *sorted(t[1:])] for t in tables] == [
            [[" ".join(text.split(" ")) for text in row] for row in table]
            for table in expected(review).values()
        ]


def test_summary_is_on_every_face(sample: ob.Review) -> None:
    faces = [
        Page(html_of(sample)).text,
        TABLES.render(report.render_markdown(sample)),
        report.render_text(sample),
        Page(report.render_summary(sample)).text,
    ]
    summary = sample.summary
    for face in faces:
        assert f"{summary['tenants_outside']} of {summary['tenants']} tenants" in face
        assert format_share(summary["time_in_rpo"]) in face
        assert format_span(summary["longest_gap"]) in face
        assert f"{format_instant(summary['newest_restore_point'])} UTC" in face
        assert "26 h is assumed" in face
        assert "Backup review of 3 instances, 12 tenants" in face


# --- the page ----------------------------------------------------------------------------------


def check_page(text: str) -> Page:
    """Readable for everybody, and loading nothing."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("header")) == 1
    assert len(page.all("footer")) == len(page.all("title")) == 1
    assert page.all("nav")[0]["aria-label"] == "Contents"
    tags = {tag for tag, _ in page.tags}
    assert len(page.all("script")) == 1  # it sorts tables; see test_page
    assert page.all("script")[0] == {}
    assert not tags & {
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "svg",
        "video",
    }
    policies = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    script = text.split("<script>", maxsplit=2)[1].split("</script>", maxsplit=1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policies[0]["content"] == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action", "data", "srcset", "poster"):
            value = attrs.get(name)
            if value is not None:
                assert value.startswith(("#", "data:image/png;base64,"))
        for name in ("aria-labelledby",):
            assert attrs.get(name) is None or attrs[name] in ids
    assert {str(a["href"])[1:] for a in page.all("a")} <= set(ids)
    assert "url(" not in text
    assert "@import" not in text
    assert all(image.get("alt") for image in page.all("img"))
    assert all(th.get("scope") in {"row", "col"} for th in page.all("th"))
    assert len(page.captions) == len(page.tables)
    assert all(page.captions)
    for table in page.tables:
        assert len({len(row) for row in table}) == 1
    regions = [a for a in page.all("div") if a.get("role") == "region"]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)
    return page


def test_page_is_readable_and_loads_nothing(page: str) -> None:
    found = check_page(page)
    assert len(found.all("img")) == 6
    sections = [attrs.get("id") for attrs in found.all("section")]
    assert sections == [
        *("summary", "findings", "coverage", "gaps", "growth", "stored", "forecast"),
        *("durations", "changes", "anomalies", "parity", "schedule", "not-judged"),
        *("words", "source"),
    ]
    assert all(
        attrs.get("aria-labelledby") or attrs.get("aria-label") for attrs in found.all("section")
    )
    for rule in (
        *("prefers-color-scheme: dark", "@page", "display: table-header-group"),
        *("break-inside: avoid", "overflow: visible"),
    ):
        assert rule in page


def test_same_review_same_bytes(sample: ob.Review, page: str) -> None:
    assert page == html_of(sample)
    assert report.render_html(ob.review(ob.sample())) == page
    assert report.render_text(sample) == report.render_text(ob.review(ob.sample()))


def test_states_are_words_beside_colours(page: str) -> None:
    found = Page(page)
    looks = [str(attrs.get("class", "")).split()[-1] for attrs in found.all("td")]
    findings, coverage = found.tables[:2]
    grave = sum(row[1] == "critical" for row in findings[1:])
    assert looks.count("bad") == grave + sum(row[2] == "outside" for row in coverage[1:-1])
    assert looks.count("warn") == sum(row[1] == "warning" for row in findings[1:])


# --- hostile names -----------------------------------------------------------------------------


def test_hostile_names_are_inert_on_the_page(hostile: ob.Review) -> None:
    found = check_page(html_of(hostile))
    assert "<script>alert(1)</script>" in found.text  # shown as it is, as text
    assert "{{ 7 * 7 }}" in found.text
    assert "&lt;b&gt;" in found.text
    assert not [c for c in found.text if unicodedata.category(c) == "Cf"]
    assert not [c for c in found.text if unicodedata.category(c) == "Cc" and c != "\n"]


def test_hostile_names_are_inert_in_markdown(hostile: ob.Review) -> None:
    text = report.render_markdown(hostile)
    for parser in (MarkdownIt("commonmark"), TABLES):
        rendered = parser.render(text)
        found = Page(rendered)
        allowed = {"h1", "h2", "p", "ul", "li", "strong", "blockquote", "br"}
        allowed |= {"table", "thead", "tbody", "tr", "th", "td"}
        assert {tag for tag, _ in found.tags} <= allowed
        attributes = {(name, value) for _, attrs in found.tags for name, value in attrs.items()}
        assert {name for name, _ in attributes} <= {"style"}  # the columns' alignment
        assert len(found.all("strong")) == len(re.findall(r"^- \*\*", text, re.MULTILINE))
        assert len(found.all("h2")) == 13
        assert not BARE.search(text)
        for name in HOSTILE[:3]:
            assert plain(name, 60) in found.text


def test_hostile_names_are_inert_in_a_terminal_and_a_notebook(hostile: ob.Review) -> None:
    text = report.render_text(hostile)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    found = Page(hostile._repr_html_())
    assert {tag for tag, _ in found.tags} == {"table", "caption", "tbody", "tr", "th", "td"}
    names = {name for _, attrs in found.tags for name in attrs}
    assert names <= {"style", "scope"}
    assert repr(hostile) == text


@pytest.mark.parametrize("name", ["sample", "hostile", "big", "nothing"])
def test_lines_fit_a_terminal(name: str, request: pytest.FixtureRequest) -> None:
    review: ob.Review = request.getfixturevalue(name)
    text = report.render_text(review)
    assert text.endswith("\n")
    assert max(map(cells, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())


def test_text_tables_are_aligned(sample: ob.Review) -> None:
    lines = report.render_text(sample).splitlines()
    head = next(
        n for n, line in enumerate(lines) if line.startswith("Tenant") and "Exposed" in line
    )
    end = lines[head].index("Exposed") + len("Exposed")
    rows = lines[head + 1 : head + 13]
    assert all(row[end : end + 2] == "  " and row[end - 1] != " " for row in rows)
    assert f"… and {len(sample.tables['gaps']) - 15} more" in lines


# --- none, one, many ---------------------------------------------------------------------------


def test_empty_history(nothing: ob.Review) -> None:
    found = check_page(html_of(nothing))
    assert found.captions == ["What this data or this policy cannot tell, and why."]
    assert not found.all("img")
    for face in (found.text, report.render_markdown(nothing), report.render_text(nothing)):
        assert "there is nothing to judge" in face
        assert "No tenant has a backup set in this window" in face
        assert not re.search(r"\bnan\b|NaT|<NA>|None of 0", face)
    assert "n/a" in nothing._repr_html_()
    json.dumps(nothing.to_json(), allow_nan=False)


def test_one_set_of_one_tenant() -> None:
    sets = ob.sample().select(instance_ids="obnwqwwvume0", tenants="billing")
    last = sets.tenants[sets.tenants["state"] == "done"].tail(1)
    review = ob.review(last, rpo="26h")
    found = check_page(html_of(review))
    assert "Backup review of 1 instance, 1 tenant" in found.text
    shown = [caption.split(".")[0] for caption in found.captions]
    told = ("how long each tenant", "how fast", "what each cluster", "the size of", "how long runs")
    told += ("in how many cluster sets", "when backups", "what this data")
    assert len(shown) == len(told)  # no findings, gaps, changes or anomalies
    for caption, begin in zip(shown, told, strict=True):
        assert caption.lower().startswith(begin)
    assert [len(table) for table in found.tables[:2]] == [2, 2]  # no row for all
    assert "None of 1 tenant outside the RPO now; no gap in the window" in found.text
    assert "too little history for a growth rate" in found.text
    assert not re.search(r"\bnan\b|NaT|<NA>", found.text + report.render_text(review))


def test_500_tenants(big: ob.Review) -> None:
    text = html_of(big)
    assert len(text.encode()) < 5_000_000
    found = check_page(text)
    named = dict(zip(found.captions, found.tables, strict=True))
    coverage = next(table for name, table in named.items() if name.startswith("How long each"))
    rest = named["Coverage, continued"]
    assert len(coverage) == 1 + report.FOLD + 1
    assert len(rest) == 1 + 500 - report.FOLD
    assert coverage[1][2] == "outside"
    shares = [float(row[4].removesuffix(" %")) for row in coverage[2:-1] + rest[1:]]
    assert shares == sorted(shares)
    folded = [name for name in found.captions if name.endswith(", continued")]
    assert len(found.all("details")) == len(folded)
    assert {"Coverage, continued", "Growth, continued"} < {*folded}
    assert "Gaps, continued" not in folded  # 11 need none
    assert "450 more rows" in found.text
    assert [[t[0], *sorted(t[1:])] for t in ([*coverage, *rest[1:]],)] == [
        expected(big)["coverage"]
    ]


def test_more_rows_than_a_page_holds(sample: ob.Review, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST", {"findings": 25})
    monkeypatch.setattr(report, "MOST_ELSE", 20)
    monkeypatch.setattr(report, "FOLD", 5)
    found = check_page(report.render_html(sample))
    for left in (len(sample.findings) - 25, len(sample.tables["gaps"]) - 20):
        assert f"{left} more rows are in the data, not on this page." in found.text
    assert "20 more rows" in found.text
    assert "15 more rows" in found.text


# --- files -------------------------------------------------------------------------------------


def test_write_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.html"
    files.write(target, "old\n")
    with pytest.raises(UnicodeEncodeError):
        files.write(target, "x" * 100_000 + "\ud800")
    assert target.read_text() == "old\n"

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_room)
    with pytest.raises(OSError, match="No space left"):
        files.write(target, "new\n")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(OSError, match="No space left"):
        files.write(target, "new\n")
    assert target.read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "there" / "real.html")
    files.write(link, "a\nb\u2028")
    assert link.is_symlink()
    assert (tmp_path / "there" / "real.html").read_bytes() == "a\nb\u2028".encode()
    files.write(str(link), "c")
    assert link.is_symlink()
    assert link.read_text() == "c"
    assert len([*(tmp_path / "there").iterdir()]) == 1


def test_write_into_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    files.write("~/r.md", "x")
    assert (tmp_path / "r.md").read_text() == "x"
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "no" / "r.md", "x")


def test_review_writes_files(nothing: ob.Review, tmp_path: Path) -> None:
    nothing.to_html(tmp_path / "r.html")
    nothing.to_markdown(str(tmp_path / "r.md"))
    assert (tmp_path / "r.html").read_text("utf-8") == html_of(nothing)
    assert (tmp_path / "r.md").read_text("utf-8") == report.render_markdown(nothing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.md"]


def test_tenants_of_one_name_are_told_apart_by_their_ids() -> None:
    sets = ob.sample()
    one = sets.select(instance_ids="ob7f8bc13geh")
    same = one.tenants.assign(
        tenant_name=pd.Categorical(["same"] * len(one.tenants), categories=["same"])
    )
    found = ob.review(dataclasses.replace(one, tenants=same), rpo="27h")
    html, text = report.render_html(found), report.render_markdown(found)
    for tenant in one.tenants["tenant_id"].cat.categories:
        assert f"same ({tenant})" in html
        assert f"same ({tenant})" in text
    assert "same (" not in report.render_html(ob.review(sets.select(tenants="orders"), rpo="27h"))
