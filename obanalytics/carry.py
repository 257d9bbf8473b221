"""Let a frame ride on another one's `attrs`: what its rows were made of, for charts and readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


class Carried(dict[str, Any]):
    """A frame among the `attrs` of another, made when it is first asked for.

    pandas copies `attrs` deeply with every slice, compares them when frames are put together and
    writes them as JSON into Parquet files: a frame would be copied, raise, and raise. This one is
    never copied, is equal to itself only, and is an empty object in JSON.

    Parameters
    ----------
    make : callable
        Returns the frame; called once. A partial of a function of a module, so that it pickles.
    """

    def __init__(self, make: Callable[[], pd.DataFrame]) -> None:
        super().__init__()
        self._make: Callable[[], pd.DataFrame] | None = make
        self._frame: pd.DataFrame | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """The frame."""
        if self._frame is None:
            assert self._make is not None  # noqa: S101 - one of the two is always there
            self._frame, self._make = self._make(), None
        return self._frame

    def __repr__(self) -> str:
        """Say what it is, and not the frame."""
        return "<a frame; see .frame>"

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same."""
        return self is other

    def __ne__(self, other: object) -> bool:
        """Tell whether it is another."""
        return self is not other

    __hash__ = None

    def __copy__(self) -> Carried:
        """Return itself."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Carried:
        """Return itself."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the frame if it was made, else what makes it."""
        return _restored, (self._make, self._frame)


def _restored(make: Callable[[], pd.DataFrame] | None, frame: pd.DataFrame | None) -> Carried:
    """Return what was pickled."""
    made = Carried.__new__(Carried)
    made._make, made._frame = make, frame  # noqa: SLF001 - its own module
    return made


def carried(table: pd.DataFrame, name: str) -> pd.DataFrame | None:
    """Return a frame that rides on another.

    Parameters
    ----------
    table : DataFrame
        What an analysis returned, or a slice of it.
    name : str
        The name among its `attrs`.

    Returns
    -------
    DataFrame or None
        None where it was lost on the way (a merge, a file).
    """
    found = table.attrs.get(name)
    return found.frame if isinstance(found, Carried) else None
