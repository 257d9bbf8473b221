"""The page in a real browser: for every reader, in light and dark, wide and narrow, on paper."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
import subprocess
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import html5lib
import pytest
from browser import accessibility, chromium, invalid, tool, visit  # noqa: F401 - a fixture

import obanalytics as ob
from obanalytics import report, simulator
from obanalytics.schema import BackupSets, Source, empty

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
NAMES = ("sample", "nothing", "one", "hostile", "big")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(2)</script>",
    "javascript:alert(3)",
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
    "' autofocus onfocus='alert(4)",
    "<style>*{display:none}</style>",
)
NO_ROOM = "nothing may be wider than the window"
TIMES = {"y": 365 * 86_400, "d": 86_400, "h": 3600, "min": 60, "s": 1}
OTHERS = {"sets": "sets", "set": "sets", "slots": "slots", "slot": "slots", "GiB": "size", "%": "%"}
OTHERS |= {"": "number"}

# A section's rows, shown and folded: each cell's text and what it is sorted by.
ROWS = """(key) => Array.from(document.querySelectorAll(`[id="${key}"] tbody tr`),
  (row) => Array.from(row.cells, (cell) => [cell.textContent, cell.dataset.sort ?? null]))"""
HEADS = """(key) => Array.from(document.querySelector(`[id="${key}"] thead tr`).cells,
  (cell) => [cell.textContent, cell.classList.contains("num")])"""
KEYS = """() => Array.from(document.querySelectorAll("section.part"))
  .filter((part) => part.querySelectorAll("tbody tr").length > 1).map((part) => part.id)"""
SIZES = """(key) => Array.from(document.querySelectorAll(`[id="${key}"] tbody`),
  (body) => body.rows.length)"""
FITS = "() => document.documentElement.scrollWidth <= window.innerWidth"
OPEN = "() => document.querySelectorAll('details').forEach((each) => { each.open = true; })"


def simulated(folder: Path, scenario: simulator.Scenario) -> ob.BackupSets:
    for path, body in simulator.pages_as_files(simulator.simulate(scenario)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return ob.read(folder)


def hostile(folder: Path) -> ob.BackupSets:
    plants = (
        simulator.Plant("silent", 0, None, 20.0, 4.0),
        simulator.Plant("dropped", 1, 1, 9.0),
        simulator.Plant("failed", 1, 4, 20.0, 5.0),
    )
    scenario = simulator.Scenario(NOW, 3, 30, instances=2, tenants=8, plants=plants)
    sets = simulated(folder, scenario)
    ids = sorted(sets.tenants["tenant_id"].unique())
    called = {each: HOSTILE[number % len(HOSTILE)] for number, each in enumerate(ids)}
    names = sets.tenants["tenant_id"].astype("object").map(called).astype("category")
    source = dataclasses.replace(
        sets.source,
        notes=(*sets.source.notes, *HOSTILE),
        failed={name: f"refused: {name}" for name in HOSTILE if name},
        path=HOSTILE[1],
    )
    return dataclasses.replace(sets, tenants=sets.tenants.assign(tenant_name=names), source=source)


def history(name: str, folder: Path) -> Any:
    if name == "sample":
        return ob.sample()
    if name == "nothing":
        return BackupSets(empty("clusters"), empty("tenants"), source=Source(("ob1",)))
    if name == "one":
        sets = ob.sample().select(instance_ids="obnwqwwvume0", tenants="billing")
        return sets.tenants[sets.tenants["state"] == "done"].tail(1)
    if name == "hostile":
        return hostile(folder)
    plants = (
        simulator.Plant("silent", 3, None, 12.0, 4.0),
        simulator.Plant("dropped", 4, 1, 9.0),
    )
    return simulated(
        folder, simulator.Scenario(NOW, 3, 25, instances=50, tenants=10, plants=plants)
    )


class Pages(dict[str, "Path"]):
    """Pages by name, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        data = self.folder / name
        data.mkdir()
        review = ob.review(history(name, data), rpo="26h")
        self[name] = self.folder / f"{name}.html"
        self[name].write_text(report.render_html(review), encoding="utf-8")
        return self[name]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return Pages(tmp_path_factory.mktemp("pages"))


# --- for every reader --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [
        *product(("sample", "hostile"), ("light", "dark"), (1280, 390)),
        *(("nothing", "light", 390), ("nothing", "dark", 1280)),
        *(("one", "light", 1280), ("one", "dark", 390)),
        *(("big", "light", 1280), ("big", "dark", 390)),
    ],
)
def test_accessible_and_alone(
    browser: Browser, pages: Pages, name: str, scheme: Any, width: int
) -> None:
    with visit(browser, pages[name], width=width, color_scheme=scheme) as seen:
        assert seen.page.evaluate(FITS), NO_ROOM
        if name != "big":  # its folded tables are like those that are shown, and cost minutes
            seen.page.evaluate(OPEN)
        assert seen.page.evaluate(FITS), NO_ROOM
        assert accessibility(seen.page) == []
    assert (seen.requests, seen.dialogs, seen.complaints) == ([], [], [])


def test_the_judges_do_judge(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html><head><title>x</title></head><body><img src='https://evil.example/x.png'>"
        "<p style='color:#ccc;background:#fff'>pale</p>" + "<p>text</p>" * 5 + "<table><td></div>"
        "<script>alert(1); missing()</script></body></html>",
        encoding="utf-8",
    )
    with visit(browser, bad) as seen:
        found = " ".join(accessibility(seen.page))
        for rule in ("image-alt", "html-has-lang", "color-contrast"):
            assert rule in found
    assert seen.requests == ["https://evil.example/x.png"]
    assert seen.dialogs == ["1"]
    assert any("missing" in each for each in seen.complaints)
    assert len(invalid(bad)) > 2


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour.lstrip("#")[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_pair_of_colours_can_be_told_apart(
    browser: Browser, pages: Pages, scheme: Any
) -> None:
    # The checker is silent where a shade lies behind the text, as in every table.
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card")]
    pairs += [
        (look, ground) for look in ("bad", "warn", "good") for ground in ("card", f"{look}-bg")
    ]
    pairs += [("ink", "note")]
    with visit(browser, pages["nothing"], color_scheme=scheme) as seen:
        style = {
            name: seen.page.evaluate(
                "(name) => getComputedStyle(document.documentElement).getPropertyValue(name)",
                f"--{name}",
            ).strip()
            for name in {each for pair in pairs for each in pair}
        }
    assert len(set(style.values())) > 10
    for one, other in pairs:
        dark, light = sorted((luminance(style[one]), luminance(style[other])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (one, other)


@pytest.mark.parametrize("name", ["sample", "hostile", "big"])
def test_what_was_found_can_be_read_without_scrolling(
    browser: Browser, pages: Pages, name: str
) -> None:
    with visit(browser, pages[name]) as seen:
        row = seen.page.locator("#findings tbody tr").first
        widths = row.evaluate("(row) => Array.from(row.cells, (cell) => cell.offsetWidth)")
        box = row.locator("td.says").bounding_box()
        assert box is not None
        assert max(widths) == round(box["width"])
        assert widths.count(max(widths)) == 1
        assert box["x"] + box["width"] <= 1280 - 40
    with visit(browser, pages[name], width=390) as seen:
        for each in ("td.says", ".pill"):
            box = seen.page.locator(f"#findings tbody tr:first-child {each}").first.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        severe = seen.page.locator("#findings .pill").all_inner_texts()
        assert set(severe) <= {"critical", "warning", "info", "note"}
        assert severe


@pytest.mark.parametrize("width", [1280, 390])
def test_large_text_needs_no_scrolling(browser: Browser, pages: Pages, width: int) -> None:
    size = "() => parseFloat(getComputedStyle(document.querySelector('.sentence')).fontSize)"
    for name in ("sample", "hostile"):
        with visit(browser, pages[name], width=width) as seen:
            before = seen.page.evaluate(size)
            seen.page.add_style_tag(content="html { font-size: 200%; }")
            assert seen.page.evaluate(size) == pytest.approx(2 * before)
            assert seen.page.evaluate(FITS), NO_ROOM


def test_nothing_moves(browser: Browser, pages: Pages) -> None:
    with visit(browser, pages["sample"]) as seen:
        moving = """() => Array.from(document.querySelectorAll("*"), (e) => getComputedStyle(e))
          .filter((s) => s.animationName !== "none" || parseFloat(s.transitionDuration) > 0
            || s.scrollBehavior !== "auto").length"""
        assert seen.page.evaluate(moving) == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(browser: Browser, pages: Pages, name: str) -> None:
    with visit(browser, pages[name]) as seen:
        ids = seen.page.evaluate("() => Array.from(document.querySelectorAll('[id]'), e => e.id)")
        links = seen.page.evaluate(
            "() => Array.from(document.querySelectorAll('[href]'), e => e.getAttribute('href'))"
        )
        parts = seen.page.evaluate(
            "() => Array.from(document.querySelectorAll('main > section'), e => e.id)"
        )
        contents = seen.page.evaluate(
            "() => Array.from(document.querySelectorAll('nav a'), e => e.getAttribute('href'))"
        )
    assert len(ids) == len(set(ids))
    assert {link[:1] for link in links} == {"#"}
    assert {link[1:] for link in links} <= set(ids)
    assert contents == [f"#{part}" for part in parts]
    assert len(parts) > 10


def test_skip_link_and_focus(browser: Browser, pages: Pages) -> None:
    where = "() => { const e = document.activeElement; return [e.tagName, e.className, e.id]; }"
    ring = """() => { const s = getComputedStyle(document.activeElement);
      return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; }"""
    with visit(browser, pages["sample"]) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate(where)[:2] == ["A", "skip"]
        box = page.locator(".skip").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        page.keyboard.press("Enter")
        assert page.evaluate(where)[2] == "main"
        visited = []
        while "BUTTON" not in visited:
            page.keyboard.press("Tab")
            visited.append(page.evaluate(where)[0])
            assert page.evaluate(ring), visited
            assert len(visited) < 20
        # A head sorts by the keyboard alone: by Enter, and by the space bar.
        turns = []
        for key in ("Enter", "Space", "Enter"):
            page.keyboard.press(key)
            turns.append(page.evaluate("document.activeElement.parentNode.ariaSort"))
        assert turns == ["ascending", "descending", None]


def test_validator_is_content(pages: Pages) -> None:
    assert invalid(*[pages[name] for name in NAMES]) == []


# --- sorting -----------------------------------------------------------------------------------


def quantity(text: str) -> tuple[str, float] | None:
    """Return what a cell says, as a reader understands it; None where it says nothing."""
    text = text.replace("\u00a0", " ").replace("\u2212", "-").replace(",", "")
    text = text.removeprefix("≥ ").removeprefix("x ").strip()
    if text in {"n/a", "", "none"}:
        return None
    if text == "unbounded":
        return "time", math.inf
    if re.search(r"\d (to|of) ", text):
        return "two numbers", math.nan
    found = re.findall(r"([-+]?[\d.]+) ?([a-zA-Z%]*)", text)
    assert found, text
    assert {unit for _, unit in found} <= {*TIMES, *OTHERS}, text
    measure = "time" if found[0][1] in TIMES else OTHERS[found[0][1]]
    return measure, sum(float(number) * TIMES.get(unit, 1) for number, unit in found)


def readable(said: list[tuple[str, float] | None]) -> bool:
    """Tell whether what rows say never falls, as far as rounded values of one measure can tell."""
    ranks: dict[str, list[float]] = {}
    for measure, amount in filter(None, said):
        ranks.setdefault(measure, []).append(amount)
    return all(
        low <= high + 0.01 * max(abs(low), abs(high))
        for measure, row in ranks.items()
        if measure != "two numbers"
        for low, high in pairwise(row)
        if high < math.inf
    )


def in_order(rows: list[Any], column: int, *, number: bool, reverse: bool) -> list[Any]:
    """Sort rows as they should be sorted: stable, what is unknown last."""
    keys = [row[column][0] if row[column][1] is None else row[column][1] for row in rows]
    known = [(float(key) if number else key, n) for n, key in enumerate(keys) if key.strip()]
    order = [n for _, n in sorted(known, key=lambda pair: pair[0], reverse=reverse)]
    return [rows[n] for n in (*order, *sorted({*range(len(rows))} - {*order}))]


def press(page: Page, key: str, column: int) -> str | None:
    """Click a head; return how its column is sorted then."""
    head = page.locator(f'[id="{key}"] thead').first.locator("th").nth(column)
    head.locator("button").click()
    return head.get_attribute("aria-sort")


PRESS = """([key, column]) => {
  const head = document.querySelector(`[id="${key}"] thead`).rows[0].cells[column];
  head.querySelector("button").click();
  return head.getAttribute("aria-sort");
}"""


def press_at_once(page: Page, key: str, column: int) -> str | None:
    """Click a head without a pointer: there are many, and other tests use one."""
    sorted_now: str | None = page.evaluate(PRESS, [key, column])
    return sorted_now


def check_number_column(page: Page, key: str, column: int, head: str) -> None:
    came = after = page.evaluate(ROWS, key)
    sizes = page.evaluate(SIZES, key)
    for state, reverse in (("descending", True), ("ascending", False)):
        before = after
        assert press_at_once(page, key, column) == state
        after = page.evaluate(ROWS, key)
        assert after == in_order(before, column, number=True, reverse=reverse), (key, head)
        assert page.evaluate(SIZES, key) == sizes
        said = [quantity(row[column][0]) for row in after]
        assert readable(said[::-1] if reverse else said), (key, head)
        blanks = [each is None for each in said]
        assert blanks == sorted(blanks), (key, head)
    assert press_at_once(page, key, column) is None
    assert page.evaluate(ROWS, key) == came


def test_numbers_of_every_table_come_in_order(browser: Browser, pages: Pages) -> None:
    seen_columns = 0
    with visit(browser, pages["sample"]) as seen:
        seen.page.evaluate(OPEN)
        keys = seen.page.evaluate(KEYS)
        assert {"findings", "coverage", "gaps", "growth", "durations"} <= set(keys)
        for key in keys:
            for column, (head, number) in enumerate(seen.page.evaluate(HEADS, key)):
                if number:
                    check_number_column(seen.page, key, column, head)
                    seen_columns += 1
    assert seen_columns > 40
    assert seen.complaints == []


def test_sorting_reaches_the_folded_rows(browser: Browser, pages: Pages) -> None:
    with visit(browser, pages["big"]) as seen:
        page = seen.page
        heads = [head for head, _ in page.evaluate(HEADS, "coverage")]
        shown, folded = page.evaluate(SIZES, "coverage")
        assert (shown, shown + folded) == (report.FOLD, 500)
        assert page.locator("#coverage tbody tr:visible").count() == report.FOLD
        check_number_column(page, "coverage", heads.index("Gap total"), "Gap total")
        before = page.evaluate(ROWS, "coverage")
        foot = page.locator("#coverage tfoot").inner_text()
        assert press(page, "coverage", 0) == "ascending"
        after = page.evaluate(ROWS, "coverage")
        names = [row[0][0] for row in after]
        assert names == sorted(names)
        assert sorted(before) == sorted(after)
        # Sorted by another column, rows that are alike stay as they stood: by name.
        assert press(page, "coverage", heads.index("Gaps")) == "descending"
        rows = page.evaluate(ROWS, "coverage")
        alike = [row[0][0] for row in rows if row[heads.index("Gaps")][0] == "0"]
        assert len(alike) > 100
        assert alike == sorted(alike)
        assert page.locator("#coverage [aria-sort]").count() == 2  # the folded table's head too
        assert page.locator("#coverage tfoot").inner_text() == foot


def test_texts_and_instants_come_in_order(browser: Browser, pages: Pages) -> None:
    with visit(browser, pages["sample"]) as seen:
        heads = [head for head, _ in seen.page.evaluate(HEADS, "gaps")]
        start = heads.index("Start [UTC]")
        assert press(seen.page, "gaps", start) == "ascending"
        told = [row[start][0] for row in seen.page.evaluate(ROWS, "gaps")]
        assert len(set(told)) > 10
        assert told == sorted(told)
        assert press(seen.page, "gaps", start) == "descending"
        told = [row[start][0] for row in seen.page.evaluate(ROWS, "gaps")]
        assert told == sorted(told, reverse=True)


# --- without a script, and against one ---------------------------------------------------------


def parsed(path: Path) -> Any:
    """Read a page by the rules of the HTML standard."""
    return html5lib.parse(path.read_text("utf-8"), namespaceHTMLElements=False)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("name", ["sample", "hostile", "big"])
def test_readable_without_a_script(browser: Browser, pages: Pages, name: str) -> None:
    tree = parsed(pages[name])
    with visit(browser, pages[name], java_script_enabled=False) as seen:
        assert seen.page.locator("button").count() == 0
        for summary in seen.page.locator("summary").all():
            summary.click()
        shown = seen.page.locator("body").inner_text()
        assert all(
            squeezed("".join(each.itertext())) in squeezed(shown)
            for tag in ("h1", "h2", "p", "caption", "li", "dt", "dd")
            for each in tree.iter(tag)
            if "hint" not in each.get("class", "")
        )
        rows = ["".join(map(squeezed, row.itertext())) for row in tree.iter("tr")]
        text = squeezed(shown)
        assert len(rows) > 40
        assert [row for row in rows if row not in text] == []


def test_hostile_names_do_nothing(browser: Browser, pages: Pages) -> None:
    tags = "() => Array.from(document.querySelectorAll('*'), (e) => e.tagName).sort()"
    with visit(browser, pages["hostile"]) as seen:
        page = seen.page
        page.evaluate(OPEN)
        before = page.evaluate(tags)
        for key in page.evaluate(KEYS):
            for column in range(len(page.evaluate(HEADS, key))):
                press(page, key, column)
        assert page.evaluate(tags) == before
        known = {each.upper() for each in {e.tag for e in parsed(pages["sample"]).iter()}}
        assert set(before) <= known | {"BUTTON"}
        assert before.count("SCRIPT") == 1
        assert before.count("STYLE") == 1
        wrong = """() => Array.from(document.querySelectorAll("*"), (e) => e.getAttributeNames())
          .flat().filter((name) => name.startsWith("on") || name === "style")"""
        assert page.evaluate(wrong) == []
        words = page.locator("#coverage").inner_text()
        for name in HOSTILE[:4]:
            assert name in words
    assert (seen.requests, seen.dialogs, seen.complaints) == ([], [], [])


def test_no_other_script_may_run(browser: Browser, pages: Pages, tmp_path: Path) -> None:
    # As if escaping had failed: the policy alone must hold.
    text = pages["sample"].read_text("utf-8")
    attack = (
        '<main id="main" tabindex="-1"><script>alert(1)</script><img src=x onerror=\'alert(2)\'>'
        "<script src='https://evil.example/x.js'></script><link rel=stylesheet "
        "href='https://evil.example/x.css'><iframe src='https://evil.example/'></iframe>"
        "<a id=trap href='javascript:alert(3)'>x</a><base href='https://evil.example/'>"
        "<form action='https://evil.example/'><button id=send>x</button></form>"
    )
    changed = text.replace('<main id="main" tabindex="-1">', attack)
    assert changed != text
    path = tmp_path / "attacked.html"
    path.write_text(changed, encoding="utf-8")
    with visit(browser, path) as seen:
        for each in ("trap", "send"):
            seen.page.evaluate("(id) => { document.getElementById(id).click(); }", each)
            seen.page.wait_for_timeout(200)
        assert seen.page.url == path.as_uri()
        assert seen.page.locator("thead button").count() > 0  # the page's own script runs
    assert (seen.requests, seen.dialogs) == ([], [])
    assert sum("Content Security Policy" in each for each in seen.complaints) >= 6


# --- on paper ----------------------------------------------------------------------------------


def printed(browser: Browser, path: Path, target: Path, **options: Any) -> None:
    with visit(browser, path, **options) as seen:
        seen.page.pdf(path=target, prefer_css_page_size=True)


def said_by(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [tool(program), *arguments], capture_output=True, check=True, text=True, timeout=120
    )
    return done.stdout


@pytest.mark.parametrize("name", ["sample", "hostile", "big"])
def test_paper_holds_every_row(browser: Browser, pages: Pages, tmp_path: Path, name: str) -> None:
    target = tmp_path / "page.pdf"
    printed(browser, pages[name], target, color_scheme="dark")
    assert re.search(r"Page size: +84\d\S* x 59\d\S* pts \(A4\)", said_by("pdfinfo", str(target)))
    text = squeezed(said_by("pdftotext", "-raw", str(target), "-"))
    rows = ["".join(map(squeezed, row.itertext())) for row in parsed(pages[name]).iter("tr")]
    plain = [row for row in rows if row.isascii()]
    assert len(plain) > 40
    missing = [row for row in plain if row not in text]
    assert missing == []
    if name == "sample":  # every page that a table runs on to has its head again
        said = said_by("pdftotext", "-layout", str(target), "-").split("\f")
        start, end = (
            next(n for n, page in enumerate(said) if re.search(rf"^ *{title}$", page, re.MULTILINE))
            for title in ("Findings", "Coverage")
        )
        assert end > start + 1
        assert all("Acknowledged" in page for page in said[start:end])
    boxes = said_by("pdftotext", "-bbox", str(target), "-")
    widths = [float(each) for each in re.findall(r'<page width="([\d.]+)"', boxes)]
    rights = [float(each) for each in re.findall(r'xMax="([\d.]+)"', boxes)]
    assert len(rights) > 1000
    assert max(rights) <= min(widths) - 20, "text runs out of the paper"
