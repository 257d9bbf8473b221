"""What reads a page for the tests: a real browser, an accessibility checker, an HTML checker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

ROOT = Path(__file__).resolve().parent.parent
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LOCAL = {"", "localhost", "127.0.0.1", "::1"}
GRAVE = {"serious", "critical"}
# The checker does not know that a scheme alone allows pictures that are in the page itself, and
# takes the hash of a script longer than its buffer of a part of it. What Chromium makes of them is
# tested: the script runs, and nothing is refused.
FALSE_ALARMS = (
    "Resource violates Content Security Policy (meta tag): image “data:image/png;base64,",
    "Inline script violates Content Security Policy (meta tag): blocked by “script-src” directive",
)


def absent(what: str) -> NoReturn:
    """Skip the test for want of a tool; on the project's own machines that is a fault."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and must be there where CI is set")
    pytest.skip(what)


def tool(name: str) -> str:
    """Return where a program is."""
    return shutil.which(name) or absent(f"{name} is not installed")


def node_file(name: str) -> Path:
    """Return a file of the npm packages that the tests use."""
    given = os.environ.get("OBANALYTICS_NODE_MODULES")
    folder = Path(given) if given else ROOT / ".venv" / "node_modules"
    path = folder / name
    package = name.split("/", maxsplit=1)[0]
    return path if path.is_file() else absent(f"the npm package {package} is not there")


@dataclass
class Visit:
    """A page that is open, and what it tried."""

    page: Page
    requests: list[str] = field(default_factory=list)
    """Addresses outside this machine that were asked for; none was reached."""
    dialogs: list[str] = field(default_factory=list)
    """Texts of alerts and the like."""
    complaints: list[str] = field(default_factory=list)
    """Errors of the console, such as a script that was refused."""

    def abort(self, route: Route) -> None:
        """Let files through, and nothing else."""
        address = urlsplit(route.request.url)
        if address.scheme == "file" or address.hostname in LOCAL:
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@contextmanager
def visit(browser: Browser, path: Path, *, width: int = 1280, **options: Any) -> Iterator[Visit]:
    """Open a file in a context of its own, cut off from every network."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    try:
        seen = Visit(context.new_page())
        context.route("**/*", seen.abort)
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on(
            "console",
            lambda said: said.type == "error" and seen.complaints.append(said.text),
        )

        def dismiss(dialog: Any) -> None:
            seen.dialogs.append(dialog.message)
            dialog.dismiss()

        seen.page.on("dialog", dismiss)
        seen.page.goto(path.as_uri())
        yield seen
    finally:
        context.close()


# Not for the whole session: while it is open, the thread has a running event loop, and tests of
# other modules that start their own would fail.
@pytest.fixture(scope="module", name="browser")
def chromium() -> Iterator[Browser]:
    """Give the system's Chromium."""
    program = tool("chromium")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it may be absent
    except ImportError:
        absent("playwright is not installed")
    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=program, args=list(FLAGS))
        yield launched
        launched.close()


def accessibility(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical."""
    page.evaluate(node_file("axe-core/axe.min.js").read_text("utf-8") + "; true")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["testEngine"]["name"] == "axe-core"
    assert len(found["passes"]) > 5, "axe-core looked at nothing"
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in GRAVE
        for node in each["nodes"]
    ]


def invalid(*paths: Path) -> list[str]:
    """Return what the HTML checker of the W3C says against pages."""
    jar = node_file("vnu-jar/build/dist/vnu.jar")
    command = [tool("java"), "-jar", str(jar), "--format", "json", "--exit-zero-always"]
    done = subprocess.run(
        [*command, *map(str, paths)], capture_output=True, check=True, timeout=120
    )
    said = json.loads(done.stderr or done.stdout)
    return [
        f"{Path(each['url']).name}:{each.get('lastLine')}: {each['message']}"
        for each in said["messages"]
        if not each["message"].startswith(FALSE_ALARMS)
    ]
