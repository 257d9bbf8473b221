"""The explorer in a real browser: the dashboard's page, a notebook, and a page without a kernel."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from browser import Visit, absent, accessibility, chromium  # noqa: F401 - a fixture
from test_dashboard import ask, served, until

import obanalytics as ob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page
    from test_dashboard import Served

HOSTILE = "<img src=x onerror=alert(1)>"
WORST = "obnwqwwvume0"  # the instance whose tenant is outside its RPO at the end
RPO = 30  # hours, with which the page is opened
SHOWN = "img[alt]:visible"
LONG = 60_000  # milliseconds: two cores may be shared with others
TOLD = re.compile(
    r"Coverage: (None|\d+) of (\d+) tenants? outside the RPO now; "
    r"(?:(no gap) in the window|(\d+) gaps?, .*)\.",
    re.DOTALL,
)
CONTROLS = (
    *("Find", "Instances", "Tenants", "Show everybody", "Window", "From", "To", "As of [UTC]"),
    *("RPO [h]", "all", "full", "incremental", "tenant", "cluster", "fleet", "Show the code"),
)
FOCUSED = """() => {
  const on = document.activeElement;
  if (!on || on === document.body) return null;
  const box = on.closest('.lm-Widget');
  const label = box && box.querySelector('.widget-label');
  if (on.matches('button, [role=tab]')) return on.textContent.trim();
  return label ? label.textContent.trim() : on.tagName;
}"""
COUNT = (
    "() => [document.querySelectorAll('img[alt]').length, document.querySelectorAll('*').length]"
)


# --- what is looked at, and with what ------------------------------------------------------------


@pytest.fixture(scope="module", name="sets")
def half_a_year() -> ob.BackupSets:
    """Return half a year of the sample; the worst tenant has a name that would like to act."""
    sets = ob.sample().between("2026-05-01", None)
    worst = ob.rpo_compliance(sets, "26h").sort_values("rpo_ratio").iloc[-1]
    assert worst["instance_id"] == WORST
    tenants = sets.tenants
    is_worst = tenants["instance_id"].eq(WORST) & tenants["tenant_id"].eq(worst["tenant_id"])
    names = tenants["tenant_name"].astype("object").mask(is_worst, HOSTILE).astype("category")
    return ob.BackupSets(
        sets.clusters, tenants.assign(tenant_name=names), as_of=sets.as_of, window=sets.window
    )


@pytest.fixture(scope="module")
def saved(sets: ob.BackupSets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save them."""
    folder = tmp_path_factory.mktemp("saved") / "sets"
    sets.save(folder)
    return folder


@pytest.fixture(scope="module")
def address(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the dashboard's page."""
    with served(saved, tmp_path_factory.mktemp("page")) as made:
        yield token_of(made)


def token_of(made: Served) -> str:
    """Return the address of a page, with its token."""
    return f"http://127.0.0.1:{made.port}/?token={made.token}"


@contextmanager
def opened(browser: Browser, url: str, *, width: int = 1280) -> Iterator[Visit]:
    """Open an address in a context of its own; nothing but this machine answers."""
    context = browser.new_context(viewport={"width": width, "height": 1000})
    try:
        seen = Visit(context.new_page())
        context.route("**/*", seen.abort)
        context.set_default_timeout(LONG)
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))

        def dismiss(dialog: Any) -> None:
            seen.dialogs.append(dialog.message)
            dialog.dismiss()

        seen.page.on("dialog", dismiss)
        seen.page.goto(url)
        yield seen
    finally:
        context.close()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """Open the dashboard's page."""
    with opened(browser, address) as seen:
        seen.page.wait_for_selector(SHOWN)
        yield seen
        assert not seen.dialogs
        assert not seen.requests
        assert seen.page.locator("img[src='x']").count() == 0


def box(page: Page, label: str, kind: str) -> Locator:
    """Return a control by its label."""
    exact = re.compile(rf"^{re.escape(label)}$")
    own = page.locator(".widget-label:visible").filter(has_text=exact)
    return page.locator(f".lm-Widget:has({kind})").filter(has=own).last.locator(kind)


def slider(page: Page) -> Locator:
    """Return the handle of the RPO."""
    return box(page, "RPO [h]", ".noUi-handle")


def alt(page: Page) -> str:
    """Return the words for the picture that is shown."""
    text = page.locator(SHOWN).get_attribute("alt")
    assert text is not None
    return text


def options(select: Locator) -> list[str]:
    """Return what can be chosen; ipywidgets writes spaces that do not break."""
    return [text.replace("\xa0", " ") for text in select.locator("option").all_text_contents()]


def choose(select: Locator, begins: str) -> None:
    """Choose by the beginning of a text: labels are cut where names are long."""
    (number,) = [n for n, text in enumerate(options(select)) if text.startswith(begins)]
    select.select_option(index=number)


def told(page: Page) -> tuple[int, int, int]:
    """Return how many tenants are outside, how many there are, and how many gaps."""
    found = TOLD.fullmatch(alt(page))
    assert found, alt(page)
    outside, tenants, none, gaps = found.groups()
    return 0 if outside == "None" else int(outside), int(tenants), 0 if none else int(gaps)


def expected(sets: ob.BackupSets, hours: float) -> tuple[int, int, int]:
    """Compute the same here."""
    found = ob.rpo_compliance(sets, f"{hours}h")
    return int((found["rpo_ratio"] > 1).sum()), len(found), len(ob.coverage_gaps(sets, f"{hours}h"))


def comes(page: Page, what: tuple[int, int, int]) -> None:
    """Wait until the picture says so."""

    def is_there() -> bool:
        page.wait_for_timeout(20)
        return told(page) == what

    assert until(is_there, 30), (alt(page), what)


def turn(page: Page, name: str) -> None:
    """Turn to a tab, and wait for what it shows."""
    page.locator(".widget-tab [role=tab]").filter(has_text=re.compile(f"^{name}$")).click()
    if name != "Findings":
        page.wait_for_selector(f"img[alt^='{name}: ']:visible")
    else:
        page.wait_for_selector("table:visible >> text=Acknowledged")


def shown_code(page: Page) -> str:
    """Return the code that is shown."""
    return page.locator("pre:visible").filter(has_text="import obanalytics").inner_text()


def ran(page: Page, sets: ob.BackupSets) -> Any:
    """Run the code that the page shows; return its result."""
    names: dict[str, Any] = {"sets": sets}
    exec(shown_code(page), names)  # noqa: S102 - that is what it is for
    return names["result"]


# --- the dashboard's page ------------------------------------------------------------------------


def test_the_rpo_by_keyboard(visit: Visit, sets: ob.BackupSets) -> None:
    page = visit.page
    comes(page, expected(sets, RPO))
    first = page.locator(SHOWN).get_attribute("src")
    slider(page).focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    comes(page, expected(sets, RPO - 4))
    assert expected(sets, RPO - 4) != expected(sets, RPO), "the test sees no difference"
    assert page.locator(SHOWN).get_attribute("src") != first
    field = box(page, "RPO [h]", "input[type=number]")
    assert field.input_value() == str(RPO - 4)
    field.fill("24.5")
    field.press("Enter")
    comes(page, expected(sets, 24.5))
    page.get_by_role("button", name="Show the code").click()
    page.wait_for_selector("pre:visible >> text=24.5h")
    assert len(ran(page, sets)) == told(page)[2]


def test_a_tenant_a_window_and_everybody_again(visit: Visit, sets: ob.BackupSets) -> None:
    page = visit.page
    page.get_by_role("button", name="Show the code").click()
    box(page, "Instances", "select").select_option("ob7f8bc13geh")
    part = sets.select(instance_ids="ob7f8bc13geh")
    comes(page, expected(part, RPO))
    choose(box(page, "Tenants", "select"), "orders · ")
    page.wait_for_selector("pre:visible >> text=tenants=")
    one = ran(page, sets)
    assert set(one["tenant_name"]) == {"orders"}
    assert told(page)[1:] == (1, len(one))
    page.get_by_role("button", name="Show everybody").click()
    comes(page, expected(part, RPO))
    box(page, "From", "input[type=date]").fill("2026-06-01")
    box(page, "To", "input[type=date]").fill("2026-06-30")
    page.keyboard.press("Tab")
    page.wait_for_selector("pre:visible >> text=.between('2026-06-01', '2026-07-01')")
    comes(page, expected(part.between("2026-06-01", "2026-07-01"), RPO))
    box(page, "Window", ".noUi-handle-lower").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("pre:visible >> text=2026-06-02")
    assert box(page, "From", "input[type=date]").input_value() == "2026-06-02"
    comes(page, expected(part.between("2026-06-02", "2026-07-01"), RPO))


def test_tabs_and_a_finding_that_narrows_every_view(visit: Visit, sets: ob.BackupSets) -> None:
    page = visit.page
    for name in ("Growth", "Durations", "Parity", "Calendar"):
        turn(page, name)
        assert alt(page).startswith(f"{name}: ")
        assert page.locator(SHOWN).count() == 1
    turn(page, "Findings")
    found = ob.findings(sets, ob.Policy(rpo=f"{RPO}h"))
    critical = int((found["severity"] == "critical").sum())
    page.wait_for_selector(f"b:visible >> text=/^{critical} critical findings?, /")
    pick = box(page, "Look into", "select")
    offered = options(pick)
    assert len(offered) == 1 + int(found["tenant_id"].notna().sum())
    assert HOSTILE in offered[1]
    pick.select_option(index=1)
    worst = found.iloc[0]
    part = sets.select(instance_ids=worst["instance_id"], tenants=worst["tenant_id"])
    few = len(ob.findings(part, ob.Policy(rpo=f"{RPO}h")))
    page.wait_for_function(
        "n => [...document.querySelectorAll('select')]"
        ".some(s => s.offsetParent && s.options.length === n && s.options[0].text === '—')",
        arg=1 + few,
    )
    turn(page, "Coverage")
    comes(page, expected(part, RPO))
    page.get_by_role("button", name="Show the code").click()
    page.wait_for_selector("pre:visible >> text=tenants=")
    assert set(ran(page, sets)["tenant_id"]) == {worst["tenant_id"]}


def test_a_name_with_html_does_nothing(visit: Visit) -> None:
    page = visit.page
    assert HOSTILE[:20] in alt(page)
    cells = page.locator("td:visible").all_text_contents()
    assert HOSTILE in cells
    box(page, "Find", "input").fill("<IMG")
    tenants = box(page, "Tenants", "select")
    page.wait_for_function(
        "n => [...document.querySelectorAll('select')].some("
        "s => s.multiple && s.options.length === 1)",
        arg=1,
    )
    (label,) = options(tenants)
    assert label.startswith(HOSTILE[:12])
    tenants.select_option(index=0)
    page.wait_for_function(
        "() => [...document.querySelectorAll('img[alt]')].some(i => i.alt.includes('of 1 tenant '))"
    )
    turn(page, "Calendar")
    offered = page.locator("select:visible:not([multiple]) option")
    offered.filter(has_text=HOSTILE[:12]).first.wait_for(state="attached")  # after the picture
    page.get_by_role("button", name="Show the code").click()
    page.wait_for_selector("pre:visible")
    assert page.locator("img").count() == page.locator("img[alt][src^='data:image/png']").count()


def test_what_is_wrong_is_one_line(visit: Visit, sets: ob.BackupSets) -> None:
    page = visit.page
    comes(page, expected(sets, RPO))
    box(page, "To", "input[type=date]").fill("2026-06-30")
    page.keyboard.press("Tab")
    comes(page, expected(sets.between(None, "2026-07-01"), RPO))
    box(page, "From", "input[type=date]").fill("2026-09-01")
    page.keyboard.press("Tab")
    alert = page.locator("[role=alert]:visible")
    alert.wait_for()
    assert "the window ends before it starts" in alert.inner_text()
    assert alert.bounding_box()["height"] < 40  # type: ignore[index] - it is visible
    assert "Traceback" not in page.locator("body").inner_text()
    assert told(page) == expected(sets.between(None, "2026-07-01"), RPO), "what was there stays"
    box(page, "From", "input[type=date]").fill("2026-06-01")
    page.keyboard.press("Tab")
    comes(page, expected(sets.between("2026-06-01", "2026-07-01"), RPO))
    assert alert.count() == 0
    # A window in which a tenant has nothing is no error.
    tenants = box(page, "Tenants", "select")
    choose(tenants, "identity · obrsm")
    page.wait_for_selector("text=No tenant has a backup set in this window")
    assert page.locator(SHOWN).count() == 0
    assert alert.count() == 0


def test_the_tab_key_reaches_every_control(visit: Visit) -> None:
    page = visit.page
    turn(page, "Findings")
    page.evaluate("() => document.activeElement.blur()")
    reached = set()
    for _ in range(90):  # past the end it goes on with the first
        page.keyboard.press("Tab")
        reached.add(page.evaluate(FOCUSED))
    assert [name for name in (*CONTROLS, "Coverage", "Look into") if name not in reached] == []
    # In the row of tabs the arrow keys lead on, as in every such row.
    for _ in range(90):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == "Coverage":
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("img[alt^='Growth: ']:visible")


def test_the_checker_of_accessibility_finds_nothing_new(visit: Visit) -> None:
    page = visit.page
    faults = accessibility(page)
    turn(page, "Findings")
    faults += accessibility(page)
    # ipywidgets gives the handles of sliders no name; a field beside each says the same. Its tabs
    # that are not chosen have the theme's colours: 4.47 to 1, where 4.5 is wanted.
    known = ("aria-input-field-name: ", "color-contrast: ['#tab-key-")
    assert [each for each in faults if not each.startswith(known)] == []


def test_many_moves_leave_one_picture(visit: Visit, sets: ob.BackupSets) -> None:
    page = visit.page
    slider(page).focus()
    page.keyboard.press("ArrowRight")
    comes(page, expected(sets, RPO + 1))
    before = page.evaluate(COUNT)
    page.evaluate(WATCH)
    for _ in range(250):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    comes(page, expected(sets, RPO))
    settled(page)
    after = page.evaluate(COUNT)
    assert after[0] == before[0] == 1
    assert abs(after[1] - before[1]) < 50  # rows of the table come and go


WATCH = """() => {
  window.pictures = 0;
  new MutationObserver(() => { window.pictures += 1; }).observe(
    document.querySelector('img[alt]').closest('.widget-html-content'), {childList: true});
}"""


def settled(page: Page) -> int:
    """Wait until nothing changes any more; return how many pictures came."""
    count = -1
    while count != (count := page.evaluate("() => window.pictures")):
        page.wait_for_timeout(700)
    return count


def test_a_burst_settles_on_the_last_value(visit: Visit, sets: ob.BackupSets) -> None:
    page = visit.page
    comes(page, expected(sets, RPO))
    page.evaluate(WATCH)
    slider(page).focus()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    comes(page, expected(sets, RPO + 60))
    count = settled(page)
    assert told(page) == expected(sets, RPO + 60)
    assert box(page, "RPO [h]", "input[type=number]").input_value() == str(RPO + 60)
    assert 1 <= count < 60


def test_a_narrow_window(browser: Browser, address: str) -> None:
    for width in (1280, 800):
        with opened(browser, address, width=width) as seen:
            seen.page.wait_for_selector(SHOWN)
            wide = seen.page.evaluate(
                "() => [document.documentElement.scrollWidth, window.innerWidth]"
            )
            assert wide[0] <= wide[1]


# --- a notebook ----------------------------------------------------------------------------------


def notebook(folder: Path, saved: Path, name: str = "explore.ipynb") -> Path:
    """Write a notebook that explores."""
    import nbformat.v4 as nb  # noqa: PLC0415 - it comes with the servers

    source = f"import obanalytics as ob\nob.explore(ob.read({str(saved)!r}), rpo='{RPO}h')"
    made = nb.new_notebook(cells=[nb.new_code_cell(source, id="explore")])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    path = folder / name
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


@contextmanager
def lab(folder: Path) -> Iterator[Callable[[str], str]]:
    """Serve a folder with JupyterLab; give what makes the address of a notebook."""
    if importlib.util.find_spec("jupyterlab") is None:
        absent("jupyterlab is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = folder / ".own"
    quiet = own / "CONFIG" / "labconfig" / "page_config.json"
    quiet.parent.mkdir(parents=True)
    silent = {"@jupyterlab/apputils-extension:announcements": True}  # it would ask about news
    quiet.write_text(json.dumps({"disabledExtensions": silent}), encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "OCEANBASE_"))}
    env |= {f"JUPYTER_{each}_DIR": str(own / each) for each in ("CONFIG", "DATA", "RUNTIME")}
    env |= {"IPYTHONDIR": str(own / "ipython"), "JUPYTER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    command += ["--KernelManager.shutdown_wait_time=1"]
    with (folder / ".log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:

            def is_up() -> bool:
                assert process.poll() is None, (folder / ".log").read_text()
                with suppress(OSError):
                    status = ask(port, f"/api?token={TOKEN}")[0]
                    return status == 200
                return False

            assert until(is_up, 60)
            yield lambda name: f"http://127.0.0.1:{port}/doc/tree/{name}?reset&token={TOKEN}"
        finally:
            process.terminate()
            process.wait(30)


TOKEN = "of-the-tests-alone"  # noqa: S105 - of a server on loopback that lives for seconds


@pytest.fixture(scope="module")
def lab_address(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a notebook with JupyterLab."""
    folder = tmp_path_factory.mktemp("lab")
    path = notebook(folder, saved)
    with lab(folder) as addressed:
        yield addressed(path.name)


def run_all(page: Page) -> None:
    """Run the notebook that is open, once its kernel is there."""
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.wait_for_selector(SHOWN)


def test_in_a_notebook(browser: Browser, lab_address: str, sets: ob.BackupSets) -> None:
    with opened(browser, lab_address) as seen:
        page = seen.page
        run_all(page)
        comes(page, expected(sets, RPO))
        slider(page).focus()
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        comes(page, expected(sets, RPO - 4))
        box(page, "Instances", "select").select_option("ob7f8bc13geh")
        comes(page, expected(sets.select(instance_ids="ob7f8bc13geh"), RPO - 4))
        turn(page, "Growth")
        turn(page, "Findings")
        assert page.locator("img[src='x']").count() == 0
        assert page.locator(".jp-OutputArea-output:has-text('Traceback')").count() == 0
        assert not seen.dialogs
        assert not seen.requests


# --- without a kernel ----------------------------------------------------------------------------


def test_what_is_stored_shows_a_picture(
    browser: Browser, saved: Path, tmp_path: Path, sets: ob.BackupSets
) -> None:
    for name in ("nbclient", "nbconvert"):
        if importlib.util.find_spec(name) is None:
            absent(f"{name} is not installed")
    path = notebook(tmp_path, saved)
    env = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", "--no-input"]
    command += ["--ExecutePreprocessor.store_widget_state=False", str(path)]
    subprocess.run(command, check=True, capture_output=True, env=env, timeout=120)
    html = path.with_suffix(".html")
    with opened(browser, html.as_uri()) as seen:
        page = seen.page
        assert page.locator(SHOWN).count() == 1
        comes(page, expected(sets, RPO))
        assert page.evaluate("() => document.querySelector('img[alt]').naturalWidth") > 400
        assert page.locator("table:visible").count() == 1
        assert HOSTILE in page.locator("table").inner_text()
        assert page.locator("img[src='x']").count() == 0
        assert not seen.dialogs
