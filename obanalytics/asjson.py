"""Turn results into what any JSON writer takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable


def jsonable(value: Any) -> Any:  # noqa: ANN401 - whatever a result holds
    """Return a value as JSON has it.

    Parameters
    ----------
    value : object
        A scalar, or mappings and lists of them; pandas' and numpy's kinds too.

    Returns
    -------
    object
        Durations are seconds, instants ISO 8601 in UTC with Z, NA and infinity None.
    """
    if hasattr(value, "items"):
        return {_key(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [jsonable(each) for each in value]
    if pd.isna(value) or (isinstance(value, float) and not np.isfinite(value)):
        return None
    for kind, convert in _JSON.items():
        if isinstance(value, kind):
            return convert(value)
    return str(value)


def _key(key: object) -> str:
    """Return a key as JSON has it: a tenant of an instance as both, with a slash."""
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


# In this order: a bool is an int, and numpy's numbers are not Python's.
_JSON: dict[Any, Callable[[Any], Any]] = {
    pd.Timedelta: lambda value: value.total_seconds(),
    pd.Timestamp: lambda value: value.tz_convert("UTC").tz_localize(None).isoformat() + "Z",
    (bool, np.bool_): bool,
    (int, np.integer): int,
    (float, np.floating): float,
}
