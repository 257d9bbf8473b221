"""Write a review as what a file's name says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from obanalytics.csvfiles import is_free
from obanalytics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from obanalytics.compare import Comparison
    from obanalytics.review import Review


class Beside(NamedTuple):
    """What some files tell beside the review."""

    compared: Comparison | None
    """What has changed since an earlier one."""
    at: pd.Timestamp
    """When it was made."""


class Output(NamedTuple):
    """One kind of file."""

    write: Callable[[Review, Path, Beside], None]
    needs: str = ""
    """The module of an extra."""
    extra: str = ""


_PAGE = Output(lambda found, path, beside: found.to_html(path, compared=beside.compared))
OUTPUTS = {
    ".html": _PAGE,
    ".htm": _PAGE,
    ".pdf": Output(
        lambda found, path, beside: found.to_pdf(path, compared=beside.compared),
        "weasyprint",
        "pdf",
    ),
    ".xlsx": Output(lambda found, path, _: found.to_excel(path), "xlsxwriter", "excel"),
    ".md": Output(lambda found, path, beside: found.to_markdown(path, compared=beside.compared)),
    ".json": Output(lambda found, path, beside: found.write_json(path, compared=beside.compared)),
    ".prom": Output(
        lambda found, path, beside: found.to_prometheus(path, at=beside.at),
        "prometheus_client",
        "prometheus",
    ),
    ".csv": Output(lambda found, path, _: found.to_csv(path)),
}
"""By the end of a file's name; .csv is a folder of them."""


def check_outputs(paths: Sequence[str]) -> None:
    """Refuse what cannot be written, before any work is done.

    Parameters
    ----------
    paths : sequence of str
        The files.

    Raises
    ------
    ValueError
        When a name says nothing, or stands there twice.
    FileNotFoundError
        When there is no such folder.
    MissingExtraError
        When what writes it is not installed.
    """
    for path in paths:
        output = OUTPUTS.get(Path(path).suffix.lower())
        if output is None:
            kinds = ", ".join(OUTPUTS)
            raise ValueError(f"--out {path}: the file's name must end in one of {kinds}")
        folder = Path(path).expanduser().absolute().parent
        if not folder.is_dir():
            raise FileNotFoundError(f"--out {path}: there is no folder {folder}")
        _check_place(path)
        if output.needs and find_spec(output.needs) is None:
            raise MissingExtraError(
                f"--out {path} needs {output.needs}: pip install 'obanalytics[{output.extra}]'"
            )
    if len({Path(path).expanduser().absolute() for path in paths}) < len(paths):
        raise ValueError(f"--out {' '.join(paths)}: a file is named twice")


def _check_place(path: str) -> None:
    """Refuse a file where a folder is, and a folder where a file is, or something else in it."""
    target = Path(path).expanduser()
    if target.suffix.lower() != ".csv":
        if target.is_dir():
            raise IsADirectoryError(f"--out {path}: there is a folder of that name")
    elif target.exists() and not is_free(target):
        raise FileExistsError(f"--out {path}: there is something else; a .csv is a folder of ours")


def write_output(found: Review, path: str, beside: Beside) -> None:
    """Write a review.

    Parameters
    ----------
    found : Review
        The review.
    path : str
        The file; its name says what it is.
    beside : Beside
        What some files tell beside it.
    """
    target = Path(path).expanduser()
    OUTPUTS[target.suffix.lower()].write(found, target, beside)
