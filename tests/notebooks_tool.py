"""Run every notebook and store what it shows: ``python tests/notebooks_tool.py [NAME ...]``."""

from __future__ import annotations

import base64
import html
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER = Path(__file__).parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
# A picture with its text, as charts and the explorer show themselves.
PICTURE = re.compile(r'<img alt="(?P<alt>[^"]*)"[^>]* src="data:image/png;base64,(?P<data>[^"]+)">')


def execute(path: Path, folder: Path) -> NotebookNode:
    """Run a notebook in an empty folder and return it as it is to be stored."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        shutdown_kernel="immediate",
    )
    # Deprecations are errors in the kernel; nothing of the user's settings or keys gets in.
    keys = {name: text for name, text in os.environ.items() if not name.startswith("OCEANBASE_")}
    client.execute(env={**keys, "PYTHONWARNINGS": "error::DeprecationWarning:obanalytics"})
    return as_stored(notebook, path.stem)


def as_stored(notebook: NotebookNode, name: str) -> NotebookNode:
    """Leave out what differs from run to run; keep a picture once, its text beside it."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"{name[3:].replace('_', '-')}-{number:02}"
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _tidied(cell.outputs)
    return notebook


def _tidied(outputs: list[Any]) -> list[Any]:
    """Make outputs fit to be stored: no live widgets, and pictures as pictures."""
    tidied: list[Any] = []
    for output in outputs:
        before = tidied[-1] if tidied else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            before["text"] += output.text  # where pieces of it end is a matter of time
        elif "data" in output:
            tidied += _pictured(output)
        else:
            tidied.append(output)
    return tidied


def _pictured(output: Any) -> list[Any]:
    """Return an output with its picture taken out of its HTML: code hosts show image/png."""
    data = output.data
    data.pop(WIDGET, None)
    alt = output.metadata.get("image/png", {}).get("alt")
    if alt is not None:  # what IPython's Image says as text has an address of memory
        data["text/plain"] = alt
    found = PICTURE.search(data.get("text/html", ""))
    if found is None:
        return [output]
    alt = html.unescape(found["alt"])
    encoded = _one_line(data.pop("image/png", found["data"]))
    rest = data["text/html"].replace(found[0], "").strip()
    picture = {"image/png": encoded, "text/plain": alt}
    told = {"image/png": {"alt": alt}}
    if not rest:
        output.data, output.metadata = nbformat.from_dict(picture), nbformat.from_dict(told)
        return [output]
    data["text/html"], data["text/plain"] = rest, alt
    return [nbformat.v4.new_output("display_data", picture, metadata=told), output]


def _one_line(encoded: str) -> str:
    """Return a picture's text without line breaks."""
    return base64.b64encode(base64.b64decode(encoded)).decode()


def main(names: list[str]) -> int:
    """Run the notebooks that are named, or all, and store them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        with TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        text = nbformat.writes(notebook, version=4).rstrip("\n") + "\n"
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text) / 1e6:.2f} MB")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
