"""Render a review into files and text: HTML, PDF, Markdown, a terminal, a notebook."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from obanalytics.columns import sort_key
from obanalytics.errors import MissingExtraError
from obanalytics.lines import aligned
from obanalytics.overview import cards, heading, lead, notes, provenance
from obanalytics.sections import findings_section, names_of, row_texts, sections
from obanalytics.wording import cells, model_sentence, plain, wrapped

if TYPE_CHECKING:
    from obanalytics.compare import Comparison
    from obanalytics.overview import ReviewData
    from obanalytics.pictures import Picture
    from obanalytics.sections import Section

WIDTH = 100
"""The most cells a line of the terminal's text takes."""
FOLD = 50
"""Rows of a table that the page shows; the rest are folded."""
MOST = {"findings": 1000, "coverage": 1000}
"""Rows of a table that the page holds; the data has them all."""
MOST_ELSE = 300
"""The same for all other tables."""
PRINTED = 100
"""Rows of a table that a PDF holds; the page, the workbook and the data have more."""
_TEXT_ROWS = 15
_TOP = 5  # findings that a notebook shows


def render_html(
    review: ReviewData, compared: Comparison | None = None, *, most: int | None = None
) -> str:
    """Render a review as one page that needs no network and no script.

    Parameters
    ----------
    review : ReviewData
        The review.
    compared : Comparison or None
        What has changed since an earlier one.
    most : int or None
        Rows of each table, none of them folded; None takes what suits a screen.

    Returns
    -------
    str
        The page, the same for the same review. Its one script sorts tables; without it the page
        reads as well.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only here

    from obanalytics.pictures import pictures  # noqa: PLC0415 - text needs no matplotlib

    environment = Environment(
        loader=PackageLoader("obanalytics", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = pictures(review)
    parts = sections(review, compared)
    shown = [_html_section(section, drawn.get(section.key), most) for section in parts]
    script = files("obanalytics").joinpath("templates/sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        heading=heading(review),
        lead=lead(review),
        model=model_sentence(review.tables["coverage"]),
        cards=cards(review),
        notes=notes(review, compared),
        sections=shown,
        provenance=provenance(review),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _html_section(section: Section, picture: Picture | None, most: int | None) -> dict[str, Any]:
    """Return what the template needs of a section."""
    frame = section.frame.head(MOST.get(section.key, MOST_ELSE) if most is None else most)
    fold = FOLD if most is None else most
    made = [
        [
            {"text": text, "look": c.look(row), "sort": sort_key(row, c)}
            for text, c in zip(texts, section.columns, strict=True)
        ]
        for texts, row in zip(row_texts(section, frame), frame.itertuples(), strict=True)
    ]
    return {
        "key": section.key,
        "title": section.title,
        "sentence": section.sentence,
        "caption": section.caption,
        "columns": section.columns,
        "rows": made[:fold],
        "folded": made[fold:],
        "left_out": len(section.frame) - len(frame),
        "foot": row_texts(section, section.foot),
        "picture": base64.b64encode(picture.data).decode() if picture else "",
        "alt": f"{picture.what}. {section.sentence}." if picture else "",
    }


def render_pdf(review: ReviewData, compared: Comparison | None = None) -> bytes:
    """Render the page as a PDF; of long tables it holds the first 100 rows.

    Parameters
    ----------
    review : ReviewData
        The review.
    compared : Comparison or None
        What has changed since an earlier one.

    Returns
    -------
    bytes
        The file, the same for the same review.

    Raises
    ------
    MissingExtraError
        When WeasyPrint, or a library of the system that it needs, is not installed.
    """
    try:
        from weasyprint import HTML, URLFetcher  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("a PDF needs WeasyPrint: pip install 'obanalytics[pdf]'") from None
    except OSError as error:  # it is there, and its library for text is not
        raise MissingExtraError(
            f"WeasyPrint cannot start ({error}); on Debian and Ubuntu it needs: apt install "
            "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        ) from None
    pictures_only = URLFetcher(allowed_protocols=("data",), fail_on_errors=True)
    page = render_html(review, compared, most=PRINTED)
    made: bytes = HTML(string=page, url_fetcher=pictures_only).write_pdf(pdf_tags=True)
    return made


def render_markdown(review: ReviewData, compared: Comparison | None = None) -> str:
    """Render a review as Markdown, every row of its tables.

    Parameters
    ----------
    review : ReviewData
        The review.
    compared : Comparison or None
        What has changed since an earlier one.

    Returns
    -------
    str
        GitHub-flavoured Markdown in which no name can act.
    """
    lines = [f"# {_md(heading(review))}", "", _md(lead(review)), ""]
    lines += [
        f"- **{_md(c['label'])}:** {_md(c['value'])} ({_md(c['note'])})" for c in cards(review)
    ]
    lines += ["", *(f"> {_md(note)}  " for note in notes(review, compared)), ""]
    for section in sections(review, compared):
        lines += [f"## {section.title}", "", _md(section.sentence), ""]
        if section.frame.empty:
            continue
        lines.append("| " + " | ".join(_md(c.head) for c in section.columns) + " |")
        lines.append("|" + "|".join("---:" if c.number else ":---" for c in section.columns) + "|")
        for row in row_texts(section, section.frame) + row_texts(section, section.foot):
            lines.append("| " + " | ".join(_md(text) for text in row) + " |")
        lines.append("")
    lines += ["## Where this comes from", ""]
    lines += [f"- {_md(name)}: {_md(text)}" for name, text in provenance(review)]
    return "\n".join(lines) + "\n"


_MD = re.compile(r"([\\`*_\[\]|~$#!@])")


def _md(text: str) -> str:
    """Return text that Markdown shows as it is."""
    safe = _MD.sub(r"\\\1", html.escape(text, quote=False))
    return safe.replace("://", "\\://").replace("www.", "www\\.")


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
    lines = [heading(review), *wrapped(lead(review), WIDTH), ""]
    told = cards(review)
    head = max(cells(card["label"]) for card in told) + 2
    lines += [f"{c['label']:<{head}}{c['value']}  ({c['note']})" for c in told]
    for note in notes(review):
        lines += wrapped(note, WIDTH, first=f"{'Note':<{head}}", rest=" " * head)
    for section in sections(review):
        lines += ["", section.title.upper(), *wrapped(section.sentence + ".", WIDTH)]
        lines += _text_table(section)
    return "\n".join(_cut(line) for line in lines) + "\n"


def _text_table(section: Section) -> list[str]:
    """Return a section's worst rows as aligned lines, names cut so that they fit."""
    columns = [c for c in section.columns if c.short]
    if section.frame.empty or not columns:
        return []
    frame = section.frame.head(_TEXT_ROWS)
    rows = list(frame.itertuples())
    named = columns[0].head in {"Tenant", "Instance"}
    head = columns[0].short if named else "Instance"
    rest = [[c.short, *map(c.show, rows)] for c in (columns[1:] if named else columns)]
    room = WIDTH - sum(max(map(cells, column)) + 2 for column in rest)
    names = names_of(frame, max(min(room, 40), 12))
    table = [*zip([head, *names], *rest, strict=True)]
    numbers = [False, *(c.number for c in (columns[1:] if named else columns))]
    more = len(section.frame) - len(frame)
    return [*aligned(table, numbers), *([f"… and {more:,} more"] if more else [])]


def _cut(line: str) -> str:
    """Return a line that fits the terminal."""
    return plain(line, WIDTH) if line.strip() else ""


def render_summary(review: ReviewData) -> str:
    """Render a review as a small table for a notebook.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        HTML: the numbers that matter, the gravest findings, and one sentence from every table.
    """
    left = "style='text-align:left;vertical-align:top'"
    lines = [(c["label"], f"{c['value']} ({c['note']})") for c in cards(review)]
    fresh = findings_section(review.findings, review.summary["tenants"], review.tables["coverage"])
    fresh = fresh.frame[~fresh.frame["acknowledged"]]
    lines += [
        (f"{row.severity}: {row.kind}", plain(row.sentence, 300))
        for row in fresh.head(_TOP).itertuples()
    ]
    lines += [(section.title, section.sentence) for section in sections(review)]
    lines += [("Note", note) for note in notes(review)]
    rows = "".join(
        f"<tr><th scope='row' {left}>{html.escape(name)}</th>"
        f"<td {left}>{html.escape(text)}</td></tr>"
        for name, text in lines
    )
    caption = html.escape(f"{heading(review)}. {lead(review)}")
    return (
        f"<table><caption style='text-align:left'>{caption}</caption><tbody>{rows}</tbody></table>"
    )
