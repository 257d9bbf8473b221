"""Render a review into files and text: HTML, Markdown, a terminal. Everything is formatted here."""

from __future__ import annotations

import base64
import html
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pandas as pd

from obanalytics.lines import aligned, window_sentence
from obanalytics.wording import (
    cause_of,
    cells,
    coverage_sentence,
    duration_sentence,
    format_instant,
    format_interval,
    format_number,
    format_share,
    format_span,
    growth_sentence,
    mode_name,
    model_sentence,
    plain,
    plural,
    tenant_labels,
    words,
    worst_first,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WIDTH = 100
"""The most cells a line of the terminal's text takes."""
FOLD = 50
"""Rows of a table that the page shows; the rest are folded."""
MOST = 1000
"""Rows of a table that a page holds; the data has them all."""
_TEXT_ROWS = 15


class ReviewData(Protocol):
    """What a review holds, as far as it is shown."""

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The results: coverage, gaps, growth, durations."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """The numbers that matter."""

    @property
    def rpo(self) -> object:
        """The limit, or limits by tenant."""

    @property
    def rpo_origin(self) -> str:
        """Where the limit comes from."""

    @property
    def as_of(self) -> pd.Timestamp | None:
        """The instant at which the facts were true."""

    @property
    def window(self) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """What was looked at."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the facts come from."""

    @property
    def points(self) -> pd.DataFrame:
        """The backup sets that a chart shows."""

    @property
    def steps(self) -> pd.DataFrame:
        """When any instant could be restored to, as a chart shows it."""


class _Column(NamedTuple):
    """How a column of a table is shown."""

    head: str
    show: Callable[[Any], str]  # a row of the frame in, the text out
    number: bool = True
    short: str = ""  # its head in the terminal's text; empty: not shown there
    look: Callable[[Any], str] = lambda _: ""


class Section(NamedTuple):
    """One part of a report: a sentence, its table, its figure."""

    key: str
    title: str
    sentence: str
    caption: str
    columns: tuple[_Column, ...]
    frame: pd.DataFrame
    """The rows as they are shown, the worst first."""
    foot: pd.DataFrame


def render_html(review: ReviewData) -> str:
    """Render a review as one page that needs no network and no script.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        The page, the same for the same review.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only here

    environment = Environment(
        loader=PackageLoader("obanalytics", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = _pictures(review)
    shown = [_html_section(section, pictures) for section in sections(review)]
    return environment.get_template("report.html").render(
        heading=_heading(review),
        lead=_lead(review),
        model=model_sentence(review.tables["coverage"]),
        cards=_cards(review),
        notes=_notes(review),
        sections=shown,
        provenance=_provenance(review),
    )


def render_markdown(review: ReviewData) -> str:
    """Render a review as Markdown, every row of its tables.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        GitHub-flavoured Markdown in which no name can act.
    """
    lines = [f"# {_md(_heading(review))}", "", _md(_lead(review)), ""]
    lines += [
        f"- **{_md(c['label'])}:** {_md(c['value'])} ({_md(c['note'])})" for c in _cards(review)
    ]
    lines += ["", *(f"> {_md(note)}  " for note in _notes(review)), ""]
    for section in sections(review):
        lines += [f"## {section.title}", "", _md(section.sentence), ""]
        if section.frame.empty:
            continue
        lines.append("| " + " | ".join(_md(c.head) for c in section.columns) + " |")
        lines.append("|" + "|".join("---:" if c.number else ":---" for c in section.columns) + "|")
        for row in _rows(section, section.frame) + _rows(section, section.foot):
            lines.append("| " + " | ".join(_md(text) for text in row) + " |")
        lines.append("")
    lines += ["## Where this comes from", ""]
    lines += [f"- {_md(name)}: {_md(text)}" for name, text in _provenance(review)]
    return "\n".join(lines) + "\n"


def render_text(review: ReviewData) -> str:
    """Render a review for a terminal.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        Lines of at most 100 cells, the worst rows of every table first.
    """
    lines = [_heading(review), *wrapped(_lead(review), WIDTH), ""]
    cards = _cards(review)
    head = max(cells(card["label"]) for card in cards) + 2
    lines += [f"{c['label']:<{head}}{c['value']}  ({c['note']})" for c in cards]
    for note in _notes(review):
        lines += wrapped(note, WIDTH, first=f"{'Note':<{head}}", rest=" " * head)
    for section in sections(review):
        lines += ["", section.title.upper(), *wrapped(section.sentence + ".", WIDTH)]
        lines += _text_table(section)
    return "\n".join(_cut(line) for line in lines) + "\n"


def render_summary(review: ReviewData) -> str:
    """Render a review as a small table for a notebook.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        HTML: the numbers that matter, and one sentence from every table.
    """
    left = "style='text-align:left;vertical-align:top'"
    lines = [(c["label"], f"{c['value']} ({c['note']})") for c in _cards(review)]
    lines += [(section.title, section.sentence) for section in sections(review)]
    lines += [("Note", note) for note in _notes(review)]
    rows = "".join(
        f"<tr><th scope='row' {left}>{html.escape(name)}</th>"
        f"<td {left}>{html.escape(text)}</td></tr>"
        for name, text in lines
    )
    caption = html.escape(f"{_heading(review)}. {_lead(review)}")
    return (
        f"<table><caption style='text-align:left'>{caption}</caption><tbody>{rows}</tbody></table>"
    )


def write(path: str | os.PathLike[str], text: str) -> None:
    """Write a file, all or nothing.

    Parameters
    ----------
    path : path
        The file; an earlier one stays as it is until the new one is complete.
    text : str
        Its content, written as UTF-8.
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def sections(review: ReviewData) -> list[Section]:
    """Return the parts of a report.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    list of Section
        Coverage, gaps, growth, durations.
    """
    coverage, gaps = worst_first(review.tables["coverage"]), review.tables["gaps"]
    growth, durations = review.tables["growth"], review.tables["durations"]
    is_tenant = coverage["instance_id"].notna()
    return [
        Section(
            *("coverage", "Coverage", coverage_sentence(coverage, gaps)),
            "How long each tenant was inside its RPO, and what would be lost now. Worst first.",
            *(_COVERAGE, coverage[is_tenant], coverage[~is_tenant & (is_tenant.sum() > 1)]),
        ),
        Section(
            *("gaps", "Gaps", _cause_sentence(gaps)),
            "Every time in which more than the RPO would have been lost. Longest first.",
            *(_GAPS, gaps.sort_values(["unbounded", "gap"], ascending=False), gaps.head(0)),
        ),
        Section(
            *("growth", "Growth", growth_sentence(growth)),
            "How fast backup sets grow, full and incremental apart. Fastest first.",
            *(_GROWTH, growth.sort_values("percent_per_30d", ascending=False), growth.head(0)),
        ),
        Section(
            *("durations", "Durations", duration_sentence(durations)),
            "How long runs took, unfinished ones at least their age. Longest p95 first.",
            *(_DURATIONS, durations.sort_values("p95", ascending=False), durations.head(0)),
        ),
    ]


def _cause_sentence(gaps: pd.DataFrame) -> str:
    """Say in one sentence why there were gaps."""
    if gaps.empty:
        return "No tenant was outside its RPO in this window"
    counts = gaps["cause"].value_counts()
    shown = ", ".join(f"{count:,} {words(cause)}" for cause, count in counts.items() if count)
    open_now = int(gaps["position"].isin(["tail", "whole"]).sum())
    unsure = int((gaps["certainty"] == "unknown").sum())
    tail = f"; of {unsure} it is not known whether it was one" if unsure else ""
    return f"{plural(len(gaps), 'gap')} by cause: {shown}; {open_now} still open at the end{tail}"


def _bounded(span: object, *, unbounded: bool) -> str:
    """Return an exposure, which may have no bound."""
    return "unbounded" if unbounded else format_span(span)


def _state_look(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Return how a tenant's state is coloured, beside its word."""
    return {"outside": "bad", "inside": "good"}.get(row.rpo_state, "")


_WHO = (
    _Column("Tenant", lambda r: plain(r.tenant_name, 60), number=False, short="Tenant"),
    _Column("Instance", lambda r: plain(r.instance_id, 40), number=False),
)
_COVERAGE = (
    *_WHO,
    _Column("RPO now", lambda r: words(r.rpo_state), number=False, short="Now", look=_state_look),
    _Column(
        "Exposed now",
        lambda r: _bounded(r.exposure_now, unbounded=pd.isna(r.exposure_now)),
        short="Exposed",
    ),
    _Column("Time in RPO", lambda r: format_share(r.time_in_rpo), short="In RPO"),
    _Column("At worst", lambda r: format_share(r.time_in_rpo_worst)),
    _Column("Gaps", lambda r: format_number(r.gaps), short="Gaps"),
    _Column("Gap total", lambda r: format_span(r.gap_total), short="Total"),
    _Column("Not known", lambda r: format_span(r.unknown)),
    _Column(
        "Worst exposure",
        lambda r: _bounded(r.worst_exposure, unbounded=r.unbounded),
        short="Worst",
    ),
    _Column("Worst at [UTC]", lambda r: format_instant(r.worst_at), number=False),
    _Column("Restore points", lambda r: format_number(r.restore_points)),
    _Column(
        "Newest restore point [UTC]",
        lambda r: format_instant(r.last_checkpoint),
        number=False,
        short="Restorable to UTC",
    ),
    _Column("Last attempt [UTC]", lambda r: format_instant(r.last_attempt), number=False),
    _Column("Its state", lambda r: words(r.last_attempt_state), number=False),
)
_GAPS = (
    *_WHO,
    _Column("Cause", cause_of, number=False, short="Cause"),
    _Column("Start [UTC]", lambda r: format_instant(r.gap_start), number=False, short="Start UTC"),
    _Column("End [UTC]", lambda r: format_instant(r.gap_end), number=False, short="End UTC"),
    _Column("Gap", lambda r: format_span(r.gap), short="Gap"),
    _Column("Position", lambda r: words(r.position), number=False),
    _Column("Worst exposure", lambda r: _bounded(r.worst_exposure, unbounded=r.unbounded)),
    _Column("Attempts", lambda r: format_number(r.attempts), short="Runs"),
    _Column("Failed", lambda r: format_number(r.failed)),
    _Column("Last good set", lambda r: _set_id(r.last_backup_set_id), number=False),
    _Column("Closed by", lambda r: _set_id(r.next_backup_set_id), number=False),
    _Column("Certainty", lambda r: words(r.certainty), number=False),
)
_GROWTH = (
    *_WHO,
    _Column("Mode", lambda r: mode_name(r.full), number=False, short="Mode"),
    _Column("Verdict", lambda r: words(r.verdict), number=False, short="Verdict"),
    _Column("Sets", lambda r: format_number(r.sets), short="Sets"),
    _Column("Span", lambda r: format_span(r.span)),
    _Column("First [GiB]", lambda r: format_number(r.first_size_gib, 2)),
    _Column("Last [GiB]", lambda r: format_number(r.last_size_gib, 2), short="Last GiB"),
    _Column("GiB/day", lambda r: format_number(r.gib_per_day, 3, sign=True), short="GiB/day"),
    _Column("95 % interval", lambda r: format_interval(r.gib_per_day_low, r.gib_per_day_high, 3)),
    _Column("% in 30 d", lambda r: format_number(r.percent_per_30d, 1, sign=True), short="%/30 d"),
    _Column(
        "95 % interval", lambda r: format_interval(r.percent_per_30d_low, r.percent_per_30d_high, 1)
    ),
    _Column("Steps", lambda r: format_number(r.steps)),
    _Column("Newest step [UTC]", lambda r: format_instant(r.step_at), number=False),
)
_DURATIONS = (
    *_WHO,
    _Column("Mode", lambda r: mode_name(r.full), number=False, short="Mode"),
    _Column("Sets", lambda r: format_number(r.sets), short="Sets"),
    _Column("Median", lambda r: format_span(r.p50), short="Median"),
    _Column("p95", lambda r: ("≥ " if r.at_least else "") + format_span(r.p95), short="p95"),
    _Column("Longest", lambda r: ("≥ " if r.at_least else "") + format_span(r.max)),
    _Column("Last", lambda r: format_span(r.last), short="Last"),
    _Column("% in 30 d", lambda r: format_number(r.percent_per_30d, 1, sign=True), short="%/30 d"),
    _Column(
        "95 % interval", lambda r: format_interval(r.percent_per_30d_low, r.percent_per_30d_high, 1)
    ),
    _Column("GiB/h", lambda r: format_number(r.throughput_gib_per_h, 1), short="GiB/h"),
    _Column("Running", lambda r: format_number(r.running), short="Running"),
    _Column("Oldest running", lambda r: format_span(r.oldest_running)),
    _Column("Untimed", lambda r: format_number(r.untimed)),
)


def _set_id(value: object) -> str:
    """Return a backup set's id."""
    return "none" if pd.isna(value) else plain(value, 60)


def _rows(section: Section, frame: pd.DataFrame) -> list[list[str]]:
    """Return the texts of a section's rows; the fleet's row says that it is one."""
    if frame is section.foot and len(frame):
        frame = frame.assign(tenant_name="all tenants", instance_id="all")
    texts = [[c.show(row) for c in section.columns] for row in frame.itertuples()]
    # Two tenants of an instance may have one name.
    mine = section.frame[["instance_id", "tenant_id", "tenant_name"]].drop_duplicates()
    shared = mine[mine.duplicated(["instance_id", "tenant_name"], keep=False)]
    ids = set(zip(shared["instance_id"], shared["tenant_id"], strict=True))
    for text, row in zip(texts, frame.itertuples(), strict=True):
        if (row.instance_id, row.tenant_id) in ids:
            text[0] += f" ({plain(row.tenant_id, 40)})"
    return texts


def _html_section(section: Section, pictures: dict[str, bytes]) -> dict[str, Any]:
    """Return what the template needs of a section."""
    frame = section.frame.head(MOST)
    looks = [[c.look(row) for c in section.columns] for row in frame.itertuples()]
    rows = [
        [{"text": text, "look": look} for text, look in zip(texts, own, strict=True)]
        for texts, own in zip(_rows(section, frame), looks, strict=True)
    ]
    picture = pictures.get(section.key)
    return {
        "key": section.key,
        "title": section.title,
        "sentence": section.sentence,
        "caption": section.caption,
        "columns": section.columns,
        "rows": rows[:FOLD],
        "folded": rows[FOLD:],
        "left_out": len(section.frame) - len(frame),
        "foot": _rows(section, section.foot),
        "picture": base64.b64encode(picture).decode() if picture else "",
    }


def _pictures(review: ReviewData) -> dict[str, bytes]:
    """Draw the figures; none where there is nothing to draw."""
    from obanalytics.canvas import png  # noqa: PLC0415 - text needs no matplotlib
    from obanalytics.lanes import plot_durations, plot_growth  # noqa: PLC0415
    from obanalytics.timeline import plot_coverage  # noqa: PLC0415

    tables = review.tables
    draw: dict[str, Callable[[], Any]] = {}
    if tables["coverage"]["instance_id"].notna().any():
        draw["coverage"] = lambda: plot_coverage(
            tables["gaps"],
            compliance=tables["coverage"],
            points=review.points,
            steps=review.steps,
            window=review.window,
        )
    if tables["growth"]["percent_per_30d"].notna().any():
        draw["growth"] = lambda: plot_growth(tables["growth"])
    if tables["durations"]["p50"].notna().any():
        draw["durations"] = lambda: plot_durations(tables["durations"])
    return {key: png(chart) for key, chart in draw.items()}


def _text_table(section: Section) -> list[str]:
    """Return a section's worst rows as aligned lines, names cut so that they fit."""
    columns = [c for c in section.columns if c.short]
    if section.frame.empty:
        return []
    frame = section.frame.head(_TEXT_ROWS)
    rest = [[c.short, *(c.show(row) for row in frame.itertuples())] for c in columns[1:]]
    room = WIDTH - sum(max(map(cells, column)) + 2 for column in rest)
    names = tenant_labels(frame, max(min(room, 40), 12))
    table = [*zip([columns[0].short, *names], *rest, strict=True)]
    lines = aligned(table, [c.number for c in columns])
    more = len(section.frame) - len(frame)
    return [*lines, *([f"… and {more:,} more"] if more else [])]


def _cut(line: str) -> str:
    """Return a line that fits the terminal."""
    return plain(line, WIDTH) if line.strip() else ""


_MD = re.compile(r"([\\`*_\[\]|~$#!@])")


def _md(text: str) -> str:
    """Return text that Markdown shows as it is."""
    safe = _MD.sub(r"\\\1", html.escape(text, quote=False))
    return safe.replace("://", "\\://").replace("www.", "www\\.")


def _heading(review: ReviewData) -> str:
    """Return the report's title."""
    summary = review.summary
    what = f"{plural(summary['instances'], 'instance')}, {plural(summary['tenants'], 'tenant')}"
    return f"Backup review of {what}"


def _lead(review: ReviewData) -> str:
    """Say what was looked at, and from when."""
    return f"{window_sentence(review.window, review.as_of)}. RPO {format_rpo(review.rpo)}."


def format_rpo(rpo: object) -> str:
    """Return the limit as text.

    Parameters
    ----------
    rpo : Timedelta or limits by tenant
        The limit.

    Returns
    -------
    str
        Such as ``26 h``, or that it differs.
    """
    return format_span(rpo) if isinstance(rpo, pd.Timedelta) else "by tenant"


def _cards(review: ReviewData) -> list[dict[str, str]]:
    """Return the numbers that matter: label, value, note, look."""
    s = review.summary
    outside, unknown, failed = s["tenants_outside"], s["tenants_unknown"], s["failed_instances"]
    worst = s["worst_tenant"]
    who = "none" if worst is None else plain(worst["tenant_name"], 30)
    newest = format_instant(s["newest_restore_point"])
    newest = newest if newest == "n/a" else f"{newest} UTC"
    grade = "bad" if outside or s["tenants_without_sets"] else "good" if s["tenants"] else ""
    known = f", {unknown} not known" if unknown else ""
    if s["tenants_without_sets"]:
        known += f", {s['tenants_without_sets']} more without any set"
    cards = [
        ("Time inside RPO", format_share(s["time_in_rpo"]), "all tenants, weighted by time", ""),
        (
            "Outside RPO now",
            f"{outside} of {plural(s['tenants'], 'tenant')}",
            f"{s['tenants_inside']} inside{known}",
            grade,
        ),
        (
            "Gaps",
            format_number(s["gaps"]),
            f"longest {format_span(s['longest_gap'])}",
            "bad" if s["gaps"] else "good" if s["tenants"] else "",
        ),
        ("Worst tenant", who, "no gap" if worst is None else plain(worst["instance_id"], 40), ""),
        ("Newest restore point", newest, f"{format_number(s['restore_points'])} in the window", ""),
        ("Tenant backup sets", format_number(s["sets"]), f"{s['running']} unfinished now", ""),
    ]
    if failed:
        names = ", ".join(plain(each, 40) for each in failed[:5])
        cards.append(("Instances not read", format_number(len(failed)), names, "bad"))
    return [dict(zip(("label", "value", "note", "look"), card, strict=True)) for card in cards]


def _notes(review: ReviewData) -> list[str]:
    """Return what a reader must know to read the numbers rightly."""
    notes = []
    if review.rpo_origin == "default":
        notes.append(
            f"No RPO was given: {format_rpo(review.rpo)} is assumed, a daily backup and two hours."
        )
    alone = review.summary["without_logs"]
    if alone is not None:
        outside = plural(alone["tenants_outside"], "tenant")
        notes.append(
            f"{model_sentence(review.tables['coverage'])} By backup sets alone, without log "
            f"backups, it would be {format_share(alone['time_in_rpo'])} inside the RPO, "
            f"{plural(alone['gaps'], 'gap')}, {outside} outside now."
        )
    if not review.summary["tenants"]:
        notes.append("No tenant has a backup set in this window: there is nothing to judge.")
    source = review.provenance
    notes += [
        f"Not read: {plain(name, 40)}: {plain(why, 200)}" for name, why in source["failed"].items()
    ]
    return notes + [plain(note, 300) for note in source["notes"]]


def _provenance(review: ReviewData) -> list[tuple[str, str]]:
    """Return where the facts come from, as pairs of text."""
    source = review.provenance
    names = source["instances"]
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""  # noqa: PLR2004 - a line
    return [
        ("Instances", ", ".join(plain(name, 40) for name in names[:20]) + more or "none"),
        ("Service", plain(source["endpoint"], 100) if source["endpoint"] else "not asked"),
        ("Files", plain(source["path"], 200) if source["path"] else "none"),
        ("Window", plain(source["window_rule"], 200) if source["window_rule"] else _lead(review)),
        ("RPO", f"{format_rpo(review.rpo)} ({review.rpo_origin})"),
        ("Model", model_sentence(review.tables["coverage"])),
        ("Made with", ", ".join(f"{k} {v}" for k, v in source["versions"].items())),
    ]
