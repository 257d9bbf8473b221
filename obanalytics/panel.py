"""Show a chart in a notebook: off screen, with words for it, and errors as one line in place."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from obanalytics.canvas import png
from obanalytics.sections import row_texts
from obanalytics.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from obanalytics.sections import Section

_LOOK = """<style>
.obanalytics-table { overflow-x: auto; line-height: 1.4 }
.obanalytics-table table { width: max-content; border-collapse: collapse }
.obanalytics-table caption { text-align: left; padding: 4px 8px }
.obanalytics-table th, .obanalytics-table td { padding: 2px 8px; vertical-align: top }
.obanalytics-table td { max-width: 36em }
.obanalytics-table th { border-bottom: 1px solid; white-space: nowrap; text-align: left }
.obanalytics .lm-TabBar-tabLabel { color: var(--jp-ui-font-color1, inherit) }
</style>"""
ROWS = 12
"""Rows of a table that stand under a chart."""


def h(text: object) -> str:
    """Return text that is safe to stand in a widget: its HTML would run.

    Parameters
    ----------
    text : object
        Whatever was in the data.

    Returns
    -------
    str
        The text, on one line, with nothing that acts.
    """
    return html.escape(plain(text))


class Panel(widgets.VBox):  # type: ignore[misc]
    """A sentence, a chart and a table, each replaced in place.

    Parameters
    ----------
    label : str
        What it shows, for those who cannot see it.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.sentence = widgets.HTML()
        self.picture = widgets.HTML()
        self.table = widgets.HTML()
        self.png = b""
        """The chart; empty where there is none."""
        self.alt = ""
        """The words for it."""
        super().__init__([self.sentence, self.picture, self.table])

    def show(self, sentence: str, draw: Callable[[], Any] | None, section: Section | None) -> None:
        """Show something else.

        Parameters
        ----------
        sentence : str
            What it says.
        draw : callable or None
            Draws the chart.
        section : Section or None
            The table.
        """
        self.png = b"" if draw is None else png(draw, quick=True)
        self.alt = f"{self.label}: {sentence}."
        self.sentence.value = f"<p style='margin:2px 0;line-height:1.4'><b>{h(sentence)}.</b></p>"
        nothing = "<p>There is nothing to draw.</p>" if section is None else ""
        self.picture.value = self.image() if self.png else nothing
        self.table.value = "" if section is None else table_html(section)

    def image(self) -> str:
        """Return the chart as HTML.

        Returns
        -------
        str
            An image with its words.
        """
        data = base64.b64encode(self.png).decode()
        return (
            f'<img alt="{h(self.alt)}" style="max-width:100%" src="data:image/png;base64,{data}">'
        )


def table_html(section: Section, most: int = ROWS) -> str:
    """Return the first rows of a table.

    Parameters
    ----------
    section : Section
        The table.
    most : int
        How many rows.

    Returns
    -------
    str
        HTML in which no name can act.
    """
    frame = section.frame.head(most)
    if frame.empty:
        return ""
    heads = "".join(f"<th scope='col'>{h(column.head)}</th>" for column in section.columns)
    style = [
        "text-align:right;white-space:nowrap" if column.number else "text-align:left"
        for column in section.columns
    ]
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td style='{look}'>{h(text) if text else ''}</td>"
            for look, text in zip(style, texts, strict=True)
        )
        + "</tr>"
        for texts in row_texts(section, frame)
    )
    more = len(section.frame) - len(frame)
    tail = f"<p>… and {more:,} more rows: <code>explorer.frame</code> has them all.</p>"
    return (
        f"{_LOOK}<div class='obanalytics-table' tabindex='0'><table><caption>"
        f"{h(section.caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
        f"</table></div>{tail if more else ''}"
    )
