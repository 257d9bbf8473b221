"""Write named frames and a small manifest into a folder, all or nothing, and read them back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from obanalytics.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "obanalytics.json"
FORMAT = 1


def write_folder(
    folder: str | os.PathLike[str], frames: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any]
) -> Path:
    """Write frames as Parquet files and a manifest beside them.

    Everything is written into a neighbour of the folder first and moved into place at the end, so
    that a crash leaves the old content or the new one.

    Parameters
    ----------
    folder : path
        Where to write. It must not exist, be empty, or hold an earlier save.
    frames : mapping of str to DataFrame
        One Parquet file each.
    manifest : mapping
        What else to keep; JSON values only.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ArchiveError
        When the folder holds something else, or cannot be written.
    """
    target = Path(os.path.realpath(Path(folder).expanduser()))
    if not is_free(target):
        raise ArchiveError(
            f"{target} holds something that was not saved by obanalytics; nothing was written: "
            "choose a new or empty folder"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _fill(scratch, frames, manifest)
            swap(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, ValueError, TypeError) as error:  # a column that Parquet cannot hold, too
        raise ArchiveError(f"cannot write {target}: {error}; the old content is intact") from error
    return target


def read_folder(folder: str | os.PathLike[str]) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Read what `write_folder` wrote.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    frames : dict of str to DataFrame
        The frames by name.
    manifest : dict
        The manifest.

    Raises
    ------
    ArchiveError
        When the folder is no save, is incomplete, damaged, or of a newer format.
    """
    source = Path(folder).expanduser()
    try:
        manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise ArchiveError(
                f"{source} has format {manifest.get('format')!r}, this version reads {FORMAT}: "
                "use the obanalytics that saved it, or a newer one"
            )
        frames = {name: pd.read_parquet(source / f"{name}.parquet") for name in manifest["frames"]}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ArchiveError(f"{source} is no complete save: {error}") from error
    return frames, manifest


def is_saved(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder was written by `write_folder`.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    bool
        True when it holds a manifest.
    """
    return (Path(folder) / MANIFEST).is_file()


def is_free(folder: str | os.PathLike[str]) -> bool:
    """Tell whether `write_folder` would write there.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    bool
        True when it does not exist, is empty, or holds an earlier save.
    """
    target = Path(folder).expanduser()
    return not target.exists() or (target.is_dir() and _replaceable(target))


def _replaceable(folder: Path) -> bool:
    """Tell whether a folder is empty or an earlier save and nothing else."""
    names = {entry.name for entry in folder.iterdir()}
    if MANIFEST not in names:
        return not names
    return all(name == MANIFEST or name.endswith(".parquet") for name in names)


def _fill(folder: Path, frames: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any]) -> None:
    """Write all files and see them safe on the disk."""
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", engine="pyarrow", compression="zstd")
    text = json.dumps(
        {"format": FORMAT, "frames": sorted(frames), **manifest}, indent=1, ensure_ascii=False
    )
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    folder.chmod(0o755)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def swap(scratch: Path, target: Path) -> None:
    """Move a new folder into place; an old one is set aside until that is done.

    Parameters
    ----------
    scratch : Path
        The new one, whole, beside the old one.
    target : Path
        Where it belongs. Whatever happens on the way, the old one is put back.
    """
    if not target.exists():
        scratch.replace(target)
        return
    aside = scratch.with_name(scratch.name + "-old")
    target.replace(aside)
    try:
        scratch.replace(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
