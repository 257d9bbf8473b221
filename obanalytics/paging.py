"""Read a paged list whole, however its server counts and whatever changes meanwhile."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from obanalytics.errors import ObanalyticsError, PagingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from obanalytics.transport import Reply

_log = logging.getLogger(__name__)
_Row = TypeVar("_Row")
Key = tuple[Any, ...]

MAX_WALKS = 5
"""How often a list that moves while it is read is read from the start."""
MAX_PAGES = 10_000
"""Where a list counts as endless."""


class Read(NamedTuple, Generic[_Row]):
    """One page as it was read: rows by key, in order."""

    rows: dict[Key, _Row]
    listed: int
    """How many rows the page has, repeated ones counted."""
    total: int | None
    reply: Reply


class Moved(Exception):  # noqa: N818 - not an error: the list is read again
    """The list was another one at the end than at the beginning."""

    def __init__(self, why: str, page_size: int) -> None:
        super().__init__(why)
        self.page_size = page_size


@dataclass(frozen=True, slots=True)
class Paging(Generic[_Row]):
    """How to read one list.

    Parameters
    ----------
    fetch : callable
        Reads the page of a number and size, in any thread.
    submit : callable
        Runs `fetch` side by side with other requests.
    ahead : int
        How many pages to ask for before the first of them is there.
    told : callable
        Is told how many pages are read and how many there seem to be.
    place : str
        What is read, for error messages.
    max_pages : int
        Where the list counts as endless.
    """

    fetch: Callable[[int, int], Read[_Row]]
    submit: Callable[..., Future[Read[_Row]]]
    ahead: int
    told: Callable[[int, int], None]
    place: str
    max_pages: int = MAX_PAGES

    def read(self, size: int) -> dict[int, Read[_Row]]:
        """Read the list until it holds still.

        The list is walked by its server's own page size, to the page that brings nothing new. Then
        the first and the last page are read once more; if they, or the server's count, are not
        what they were, sets may have slipped between two pages, and the walk is done again.

        Parameters
        ----------
        size : int
            Rows to ask for at once.

        Returns
        -------
        dict of int to Read
            The pages by number; a row stands on one page only.

        Raises
        ------
        PagingError
            When the pages never add up to what the server says there is.
        """
        moved = None
        for _ in range(MAX_WALKS):
            try:
                walk = self._walk(size)
            except Moved as why:
                moved, size = why, why.page_size
                _log.debug("%s: read again: %s", self.place, why)
            else:
                return _each_row_once(walk.reads)
        raise PagingError(
            f"{self.place}: read {MAX_WALKS} times, and the pages still do not add up: {moved}; "
            "nothing was kept: try again when no backup starts or expires, or with a smaller "
            "page_size",
            retryable=True,
        )

    def _walk(self, size: int) -> _Walk[_Row]:
        """Read the list once; raise `Moved` when what was read cannot be all of one list."""
        first = self.submit(self.fetch, 1, size).result()
        # A count below the rows that are there says nothing about those that are not.
        whole = size if first.total is None or first.total < first.listed else first.total
        if 0 < first.listed < min(size, whole):
            # The server gives fewer rows than asked for: from here on ask for what it gives, so
            # that its pages begin where ours do, whichever size it counts with.
            size = first.listed
        walk = _Walk(first, size)
        expected = -(-first.total // size) if first.total and first.listed else 1
        self.told(1, expected)
        self._follow(walk, min(expected, self.max_pages))
        walk.check()
        again = {n: self.submit(self.fetch, n, size) for n in walk.doubtful()}
        for number, future in again.items():
            walk.confirm(number, future.result())
        return walk

    def _follow(self, walk: _Walk[_Row], expected: int) -> None:
        """Read on from the first page to the end, some pages ahead."""
        under_way: dict[int, Future[Read[_Row]]] = {}
        try:
            while walk.goes_on():
                number = len(walk.reads) + 1
                if number > self.max_pages:
                    raise PagingError(
                        f"{self.place}: endless: more than {self.max_pages} pages, "
                        f"{walk.moved('and no end')}; nothing was kept: ask for a shorter window"
                    )
                # Not all at once: the server's count may be nonsense.
                for each in range(number, max(min(expected, number + self.ahead), number) + 1):
                    if each not in under_way:
                        under_way[each] = self.submit(self.fetch, each, walk.size)
                walk.add(number, under_way[number].result())
                self.told(number, max(number, expected))
        except ObanalyticsError as error:
            error.args = (f"{error.args[0]} [{len(walk.reads)} of {expected} pages were read]",)
            raise
        finally:
            for future in under_way.values():
                future.cancel()


class _Walk(Generic[_Row]):
    """One walk through a list: the pages read, and the keys seen."""

    def __init__(self, first: Read[_Row], size: int) -> None:
        self.reads = {1: first}
        self.seen = set(first.rows)
        self.size = size
        self.total = first.total
        self.brought_new = bool(first.rows)

    def add(self, number: int, read: Read[_Row]) -> None:
        """Add a page."""
        self.reads[number] = read
        self.brought_new = not self.seen.issuperset(read.rows)
        self.seen.update(read.rows)

    def goes_on(self) -> bool:
        """Tell whether there may be another page.

        A full last page may have others behind it, whatever the server's count; a short one may
        only when the count is another than that of the rows. A page without rows, or without new
        ones, is the end.
        """
        last = self.reads[len(self.reads)]
        if not last.listed or not self.brought_new:
            return False
        return self.total is None or last.listed >= self.size or len(self.seen) != self.total

    def moved(self, why: str) -> Moved:
        """Return why the walk is worthless, with both counts."""
        said = "does not say how many there are" if self.total is None else f"says {self.total}"
        return Moved(f"{len(self.seen)} different rows, the server {said} ({why})", self.size)

    def check(self) -> None:
        """Raise unless the pages can be all of one list."""
        # A page behind the last may say anything: the list's own pages are looked at again.
        counts = {read.total for n, read in self.reads.items() if read.listed or n == 1}
        totals = sorted(-1 if count is None else count for count in counts)
        if len(totals) > 1:
            raise self.moved(f"its count changed while it was read: {totals}")
        if self.total is not None and len(self.seen) < self.total:
            raise self.moved("rows are missing")

    def doubtful(self) -> list[int]:
        """Return the pages to read once more.

        Of several pages the first and the last; and the empty one that ended the list, where
        nothing else says that it ends there: a server may answer with nothing by mistake.
        """
        last = len(self.reads)
        listed = [number for number, read in self.reads.items() if read.listed]
        pages = {1, max(listed)} if last > 1 else set()
        if not self.reads[last].listed and self.total is None:
            pages.add(last)
        return sorted(pages)

    def confirm(self, number: int, read: Read[_Row]) -> None:
        """Raise unless a page holds what it held before; keep its later copy."""
        before = self.reads[number]
        same_total = read.total == before.total or not before.listed
        if read.rows.keys() != before.rows.keys() or not same_total:
            raise self.moved(f"page {number} changed while it was read")
        self.reads[number] = read


def _each_row_once(reads: dict[int, Read[_Row]]) -> dict[int, Read[_Row]]:
    """Keep of a row that several pages hold the copy of the last one."""
    last = {key: number for number, read in sorted(reads.items()) for key in read.rows}
    return {
        number: read._replace(rows={k: row for k, row in read.rows.items() if last[k] == number})
        for number, read in reads.items()
        if read.listed or number == 1
    }
