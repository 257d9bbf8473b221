"""Every notebook runs from top to bottom, says nothing on stderr, and is stored without outputs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_what_it_promises(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        resources={"metadata": {"path": str(tmp_path)}},
        shutdown_kernel="immediate",
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error::DeprecationWarning:obanalytics"}
    client.execute(env=environment)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        assert cell.outputs, f"nothing to see: {cell.source}"
        said = [out for out in cell.outputs if out.get("name") == "stderr"]
        assert not said, said
    charts = [cell for cell in cells if "ob.plot_" in cell.source]
    assert charts
    for cell in charts:
        shown = cell.outputs[-1]["data"]
        assert shown["image/png"]
        assert re.match(r'<img alt="[^"]{20,}" width="\d+" src="data:', shown["text/html"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
