"""Write files, all or nothing: a crash leaves the old file or the new one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file, all or nothing.

    Parameters
    ----------
    path : path
        The file; an earlier one stays as it is until the new one is complete.
    content : str or bytes
        Its content; text is written as UTF-8.
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
