"""Every notebook runs from top to bottom and shows what is stored with it."""

from __future__ import annotations

import ast
import base64
import copy
import io
import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from matplotlib.image import imread
from notebooks_tool import FOLDER, METADATA, as_stored, execute

from obanalytics.simulator import KEY

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [
    *("01_quickstart", "02_coverage", "03_growth_and_cost", "04_durations"),
    *("05_fleet_and_scripting", "06_your_own_analysis"),
]
LARGEST = 1_500_000  # bytes: what a code host still shows
LONGEST = 12  # lines of a cell
AGAIN = "the notebook shows something else than what is stored: run python3 dev.py notebooks"
# What no reader needs and no other machine has; keys are looked for by themselves.
PRIVATE = re.compile(
    r"(?<![\w.])/(?:tmp|home|root|work|Users|usr|opt|var)/|[A-Z]:\\\\"
    r"|(?:127\.0\.0\.1|localhost):\d+|0x[0-9a-f]{6,}|LTAI\w|AKIA\w|\bpid\b"
)
NUMBER = re.compile(r"(?<![\w.])\d{3,}(?:\.\d+)?(?![\w])|(?<![\w.])\d+\.\d+(?!\w)")
BYTES = re.compile(r'(?<=base64,)[^"]+')
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def stored(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def codes(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in codes(notebook) for output in cell.outputs]


def shown(notebook: Any) -> list[list[Any]]:
    """Return what a reader gets of every code cell; of pictures their alt texts."""
    cells = []
    for cell in codes(notebook):
        rows = []
        for output in cell.outputs:
            data = {
                kind: "a picture" if kind.startswith("image/") else BYTES.sub("…", str(value))
                for kind, value in output.get("data", {}).items()
            }
            text = output.get("text")
            rows.append(
                (
                    output.output_type,
                    output.get("name"),
                    text,
                    data,
                    copy.deepcopy(output.get("metadata")),
                )
            )
        cells.append(rows)
    return cells


def test_there_are_six_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == NAMES


@every
def test_notebook_shows_what_is_stored(path: Path, tmp_path: Path) -> None:
    notebook = execute(path, tmp_path)
    kept = stored(path)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in kept.cells]
    for cell, now, before in zip(codes(kept), shown(notebook), shown(kept), strict=True):
        assert now == before, f"{AGAIN}\nin the cell\n{cell.source}"
    assert [cell.execution_count for cell in codes(kept)] == list(range(1, len(codes(kept)) + 1))


@every
def test_nothing_went_wrong(path: Path) -> None:
    for output in outputs(stored(path)):
        assert output.output_type in {"stream", "display_data", "execute_result"}
        assert output.get("name") != "stderr", output


@every
def test_pictures_say_what_they_show(path: Path) -> None:
    pictures = [out for out in outputs(stored(path)) if "image/png" in out.get("data", {})]
    assert pictures
    for output in pictures:
        alt = output.metadata["image/png"]["alt"]
        assert 20 <= len(alt) <= 300, alt
        picture = imread(io.BytesIO(base64.b64decode(output.data["image/png"])))
        assert min(picture.shape[:2]) > 150
        assert picture.std() > 0.02, "an empty picture"
    html = "".join(str(out.get("data", {}).get("text/html", "")) for out in outputs(stored(path)))
    assert html.count("<img ") == len(re.findall(r'<img alt="[^"]{20,}"', html))


@every
def test_notebook_reads_well(path: Path) -> None:
    notebook = stored(path)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(prose) >= 0.5 * len(codes(notebook))
    for cell in codes(notebook):
        assert len(cell.source.splitlines()) <= LONGEST, cell.source
        assert cell.source.strip()


@every
def test_numbers_in_prose_are_in_the_outputs(path: Path) -> None:
    """A number of three digits and more that is told is one that can be seen."""
    notebook = stored(path)
    seen = " ".join(cell.source for cell in codes(notebook))
    for output in outputs(notebook):
        data = output.get("data", {})
        seen += (
            f" {output.get('text', '')} {data.get('text/plain', '')} {data.get('text/html', '')}"
        )
    known = set(NUMBER.findall(seen.replace(",", "")))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            told = re.sub(r"```.*?```|`[^`]*`|\(.*?\.ipynb\)", "", cell.source, flags=re.DOTALL)
            for number in NUMBER.findall(told.replace(",", "")):
                assert number in known, f"{number} in {cell.source}"


@every
def test_code_is_public_and_knows_no_now(path: Path) -> None:
    source = "\n".join(cell.source for cell in codes(stored(path)))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
            assert node.attr not in {"now", "today", "utcnow", "time_ns"}, node.attr
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("obanalytics"):
            assert node.module in {"obanalytics", "obanalytics.cli"}, node.module


@every
def test_file_is_small_and_stable(path: Path) -> None:
    notebook = stored(path)
    assert path.stat().st_size <= LARGEST
    assert notebook.metadata == METADATA
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    tidy = nbformat.writes(as_stored(notebook, path.stem), version=4).rstrip("\n") + "\n"
    assert tidy == path.read_text(encoding="utf-8"), AGAIN


@every
def test_nothing_private_is_in_it(path: Path) -> None:
    notebook = stored(path)
    texts = [cell.source for cell in notebook.cells]
    for output in outputs(notebook):
        data = output.get("data", {})
        texts += [str(value) for kind, value in data.items() if not kind.startswith("image/")]
        texts.append(output.get("text", ""))
    for text in texts:
        bare = BYTES.sub("…", text)
        assert not PRIVATE.search(bare), PRIVATE.search(bare)
        assert not any(key in bare for key in KEY)


def test_what_differs_is_told() -> None:
    """The comparison sees a changed text, alt text and a picture that is missing."""
    kept = stored(NOTEBOOKS[0])
    first = shown(kept)
    picture = next(out for out in outputs(kept) if "image/png" in out.get("data", {}))
    picture.data["image/png"] = "iVBORw0KGgo="
    assert shown(kept) == first
    picture.metadata["image/png"]["alt"] += "!"
    assert shown(kept) != first
    changed = stored(NOTEBOOKS[0])
    del codes(changed)[-1].outputs[-1:]
    assert shown(changed) != first
