"""Show how far a long fetch is, where somebody looks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress(Protocol):
    """What is told how far a fetch is."""

    def __call__(self, instance_id: str, pages: int, expected: int) -> None:
        """Take the pages read and expected so far of one instance."""


class Bar:
    """Draw one bar over the pages of all instances, on standard error or in a notebook.

    Parameters
    ----------
    total : int
        The number of instances.
    """

    def __init__(self, total: int) -> None:
        from tqdm.auto import tqdm  # noqa: PLC0415 - only who watches pays for it

        self._known: dict[str, tuple[int, int]] = {}
        self._total = total
        self._bar = tqdm(total=total, unit="page", desc="backup sets", leave=False)

    def __call__(self, instance_id: str, pages: int, expected: int) -> None:
        """Move the bar; instances not asked yet count as one page."""
        self._known[instance_id] = (pages, max(pages, expected))
        waiting = self._total - len(self._known)
        self._bar.total = sum(most for _, most in self._known.values()) + waiting
        self._bar.n = sum(done for done, _ in self._known.values())
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def somebody_looks() -> bool:
    """Tell whether a bar would be seen: in a terminal, or in a notebook.

    Returns
    -------
    bool
        False in pipes, cron jobs and CI.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell: Callable[[], object] | None = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and type(shell()).__name__ == "ZMQInteractiveShell"
