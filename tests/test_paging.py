"""Lists of every kind of server: whole, or an error; never a row less."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obanalytics.errors import ApiError, PagingError
from obanalytics.paging import MAX_WALKS, Paging, Read
from obanalytics.transport import Reply
from obanalytics.wire import count_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

REPLY = Reply(200, {}, b"", "")
Reads = dict[int, Read[str]]


@dataclass
class Server:
    """A list in memory, served in pages as badly as asked for.

    A larger size than `limit` is replaced by `over`; the pages then begin where the asked size
    says, or where the real one does. `changes` are done to the rows before the request of their
    number, from 1.
    """

    rows: list[int]
    limit: int = 100
    over: int = 100
    by_asked_size: bool = False
    total: Callable[[int], Any] = lambda count: count
    changes: dict[int, Callable[[list[int]], object]] = field(default_factory=dict)
    repeats_last: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.always = set(self.rows)

    def fetch(self, number: int, size: int) -> Read[str]:
        with self.lock:
            self.asked.append((number, size))
            self.changes.get(len(self.asked), len)(self.rows)
            self.always &= set(self.rows)
            return self.page(number, size)

    def page(self, number: int, size: int) -> Read[str]:
        real = size if size <= self.limit else self.over
        step = size if self.by_asked_size else real
        begin = (number - 1) * step
        if self.repeats_last and begin >= len(self.rows):
            begin = max(len(self.rows) - 1, 0) // step * step
        shown = self.rows[begin : begin + real]
        rows = {(row,): f"{row} as of {len(self.asked)}" for row in shown}
        return Read(rows, len(shown), count_of(self.total(len(self.rows))), REPLY)


def at_once(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Run a call at once, in this thread."""
    future: Future[Any] = Future()
    try:
        future.set_result(call(*arguments))
    except ApiError as error:
        future.set_exception(error)
    return future


def read(server: Server, size: int = 10, ahead: int = 3, submit: Any = at_once) -> Reads:
    told: list[tuple[int, int]] = []
    paging: Paging[str] = Paging(
        server.fetch, submit, ahead, lambda *news: told.append(news), "GET /list", max_pages=100
    )
    reads = paging.read(size)
    assert told[0][0] == 1
    assert all(pages <= expected for pages, expected in told)
    return reads


def keys(reads: Reads) -> list[int]:
    assert list(reads) == sorted(reads)
    return [key[0] for page in reads.values() for key in page.rows]


def is_whole(server: Server, **how: Any) -> None:
    """Fail where a row that was there all the time is missing or there twice."""
    found = keys(read(server, **how))
    assert len(found) == len(set(found))
    assert server.always <= set(found)


COUNTS = st.integers(0, 60)
SIZES = st.integers(1, 20)
AHEAD = st.integers(0, 6)


@st.composite
def clamped(draw: st.DrawFn, count: int | None = None) -> Server:
    limit = draw(st.integers(1, 25))
    return Server(
        list(range(draw(COUNTS) if count is None else count)),
        limit,
        draw(st.integers(1, limit)),
        by_asked_size=draw(st.booleans()),
        repeats_last=draw(st.booleans()),
    )


# Lists that hold still


@settings(max_examples=300)
@given(
    clamped(),
    SIZES,
    AHEAD,
    st.sampled_from([lambda n: n, str, lambda _: None, lambda _: "many", lambda _: -1]),
)
def test_list_that_holds_still_is_read_whole_in_its_order(
    server: Server, size: int, ahead: int, total: Callable[[int], Any]
) -> None:
    server.total = total
    found = keys(read(server, size, ahead))
    assert found == server.rows


@settings(max_examples=200)
@given(clamped(), SIZES, st.integers(1, 10**18))
def test_count_that_is_too_large_is_an_error_with_both_counts(
    server: Server, size: int, more: int
) -> None:
    server.total = lambda count: count + more
    with pytest.raises(PagingError) as caught:
        read(server, size)
    count = len(server.rows)
    assert f"{count} different rows, the server says {count + more}" in str(caught.value)
    assert "nothing was kept" in str(caught.value)
    assert caught.value.retryable


@settings(max_examples=300)
@given(clamped(), SIZES, st.integers(1, 60))
def test_count_that_is_too_small_hides_no_row_unless_it_fits_a_short_page(
    server: Server, size: int, less: int
) -> None:
    server.total = lambda count: max(count - less, 0)
    found = keys(read(server, size))
    told = max(len(server.rows) - less, 0)
    # One page of exactly the size that the server names as the whole: nothing gives it away.
    assert found == server.rows or len(found) == told < size


def test_list_of_one_short_page_costs_one_request() -> None:
    for count in (0, 1, 9):
        server = Server(list(range(count)))
        assert keys(read(server)) == server.rows
        assert server.asked == [(1, 10)]


def once_empty(whole: Any, answers: list[int], at: int, number: int, size: int) -> Read[Any]:
    """Answer with nothing when a page is asked for the first time."""
    answers.append(number)
    read = whole(number, size)
    return read._replace(rows={}, listed=0) if number == at and answers.count(at) == 1 else read


def test_a_page_without_anything_is_asked_for_again_where_there_is_no_count() -> None:
    """A server that answers once with nothing, in the middle or at once, loses nothing."""
    for empty in (1, 3):
        server = Server(list(range(28)), total=lambda _: None)
        whole, answers = server.page, list[int]()

        server.page = partial(once_empty, whole, answers, empty)  # type: ignore[method-assign]
        assert keys(read(server, size=5)) == server.rows


@pytest.mark.parametrize(("count", "pages"), [(10, 1), (11, 2), (40, 4), (45, 5)])
def test_longer_list_costs_its_pages_a_look_behind_it_and_a_second_look(
    count: int, pages: int
) -> None:
    server = Server(list(range(count)))
    assert list(read(server)) == list(range(1, pages + 1))
    behind = [pages + 1] if count % 10 == 0 else []
    assert [n for n, _ in server.asked] == [*range(1, pages + 1), *behind, *sorted({1, pages})]


def test_size_that_the_server_gives_is_asked_for_from_then_on() -> None:
    server = Server(list(range(50)), limit=50, over=20, by_asked_size=True)
    assert keys(read(server, 100)) == server.rows
    assert server.asked == [(1, 100), (2, 20), (3, 20), (1, 20), (3, 20)]


@pytest.mark.parametrize("past_the_end", [0, None, "nothing"])
def test_page_behind_the_last_may_say_anything(past_the_end: object) -> None:
    server = Server(list(range(20)))
    told = iter([20, 20, past_the_end, 20, 20])
    server.total = lambda _: next(told)
    assert keys(read(server)) == server.rows
    assert len(server.asked) == 5


def test_short_page_in_the_middle_is_not_the_end_whatever_the_count() -> None:
    for total in (5, 2, 0, None):
        server = Server(list(range(9)), total=lambda _, total=total: total)
        pages = server.page

        def holed(number: int, size: int, pages: Any = pages) -> Read[str]:
            page = pages(number, size)
            shown = {key: row for key, row in page.rows.items() if key[0] not in {3, 4, 8}}
            return page._replace(rows=shown, listed=len(shown))

        server.page = holed  # type: ignore[method-assign]
        assert keys(read(server, 3)) == [0, 1, 2, 5, 6, 7]


def test_count_that_is_another_at_the_second_look_is_looked_into() -> None:
    server = Server(list(range(15)))
    told = iter([15, 15, 15, 16, 15, 15, 15, 15])
    server.total = lambda _: next(told)
    assert keys(read(server)) == server.rows
    assert [number for number, _ in server.asked] == [1, 2, 1, 2, 1, 2, 1, 2]


def test_row_that_is_listed_twice_is_kept_once_in_its_later_copy() -> None:
    server = Server([1, 2, 3, 3, 4, 5], total=lambda _: 5)
    reads = read(server, 3)
    assert keys(reads) == [1, 2, 3, 4, 5]
    assert [list(page.rows) for page in reads.values()] == [[(1,), (2,)], [(3,), (4,), (5,)]]
    assert [page.listed for page in reads.values()] == [3, 3]
    # The last page was read once more at the end.
    assert reads[2].rows[3,] == f"3 as of {len(server.asked)}"


# Lists that are in no order, repeat themselves, or never end


@settings(max_examples=100)
@given(st.integers(0, 30), SIZES, st.randoms(use_true_random=False))
def test_list_that_is_shuffled_at_every_request_loses_nothing(
    count: int, size: int, chance: random.Random
) -> None:
    server = Server(list(range(count)))
    server.changes = dict.fromkeys(range(1, 500), chance.shuffle)
    with contextlib.suppress(PagingError):
        is_whole(server, size=size)


@settings(max_examples=200)
@given(clamped(), SIZES, AHEAD, st.integers(1, 8))
def test_page_that_is_sent_twice_in_place_of_another_costs_no_row(
    server: Server, size: int, ahead: int, when: int
) -> None:
    pages = server.page
    server.page = lambda n, s: pages(1 if len(server.asked) == when else n, s)  # type: ignore[method-assign]
    is_whole(server, size=size, ahead=ahead)


@pytest.mark.parametrize("count", [11, 20, 45])
def test_server_that_knows_one_page_only_is_an_error(count: int) -> None:
    server = Server(list(range(count)))
    pages = server.page
    server.page = lambda _, s: pages(1, s)  # type: ignore[method-assign]
    with pytest.raises(PagingError, match=rf"10 different rows, the server says {count}"):
        read(server)


@pytest.mark.parametrize("total", [lambda _: None, lambda _: 10**9, len])
def test_list_without_end_is_an_error_after_a_bounded_number_of_requests(total: Any) -> None:
    server = Server([])

    def endless(number: int, size: int) -> Read[str]:
        rows = {(number, each): "" for each in range(size)}
        return Read(rows, size, count_of(total(server.asked)), REPLY)

    server.page = endless  # type: ignore[method-assign]
    with pytest.raises(PagingError):
        read(server)
    assert len(server.asked) <= MAX_WALKS * 103


# Lists that change while they are read: four changes leave one walk of five undisturbed

EVENTS = st.dictionaries(
    st.integers(2, 30), st.sampled_from(["appears", "expires", "both"]), max_size=4
)


def change(event: str, *, newest_first: bool) -> Callable[[list[int]], object]:
    """Return what an event does to a list: the oldest set expires, a newer one appears."""

    def done(rows: list[int]) -> None:
        rows.sort()
        if event != "appears" and rows:
            rows.pop(0)
        if event != "expires":
            rows.append(max(rows, default=0) + 1000)
        rows.sort(reverse=newest_first)

    return done


@settings(max_examples=300)
@given(
    clamped(),
    SIZES,
    AHEAD,
    EVENTS,
    st.booleans(),
    st.sampled_from([lambda n: n, lambda _: None]),
)
@example(Server(list(range(40))), 10, 0, {4: "both"}, False, lambda n: n)  # noqa: FBT003
def test_sets_that_appear_and_expire_cost_no_other_set(
    server: Server,
    size: int,
    ahead: int,
    events: dict[int, str],
    newest_first: bool,  # noqa: FBT001 - hypothesis gives it
    total: Callable[[int], Any],
) -> None:
    server.rows.sort(reverse=newest_first)
    server.total = total
    server.changes = {n: change(e, newest_first=newest_first) for n, e in events.items()}
    is_whole(server, size=size, ahead=ahead)


@settings(max_examples=300)
@given(
    clamped(),
    SIZES,
    AHEAD,
    st.booleans(),
    st.dictionaries(st.integers(2, 30), st.integers(0, 60), max_size=4),
)
def test_sets_that_come_or_go_in_the_middle_cost_no_other_set(
    server: Server,
    size: int,
    ahead: int,
    come: bool,  # noqa: FBT001 - hypothesis gives it
    events: dict[int, int],
) -> None:
    def comes(at: int) -> Callable[[list[int]], object]:
        return lambda rows: rows.insert(at % (len(rows) + 1), 1000 + at)

    def goes(at: int) -> Callable[[list[int]], object]:
        return lambda rows: rows and rows.pop(at % len(rows))

    places = {at: n for n, at in events.items()}
    server.changes = {n: (comes if come else goes)(at) for at, n in places.items()}
    is_whole(server, size=size, ahead=ahead)


def test_count_that_stays_while_a_set_goes_and_another_comes_hides_nothing() -> None:
    server = Server(list(range(40)))
    server.changes = {3: change("both", newest_first=False)}
    found = keys(read(server, 10, ahead=0))
    assert found == [*range(1, 40), 1039]
    # The first walk read page 1 before, and pages 2 to 4 after; only another look shows it.
    assert len(server.asked) == 7 + 7


def test_list_that_never_holds_still_is_given_up_after_some_walks() -> None:
    server = Server(list(range(40)))
    server.changes = dict.fromkeys(range(1, 500), change("both", newest_first=True))
    with pytest.raises(PagingError) as caught:
        read(server)
    assert f"GET /list: read {MAX_WALKS} times, and the pages still do not add up" in str(
        caught.value
    )
    assert sum(number == 2 for number, _ in server.asked) == MAX_WALKS


def test_count_that_moves_is_named_with_its_values() -> None:
    server = Server(list(range(20)))
    server.changes = dict.fromkeys(range(2, 500), lambda rows: rows.append(rows[-1] + 1))
    with pytest.raises(PagingError, match=r"its count changed while it was read: \[\d+, "):
        read(server, 10, ahead=0)


# Threads


class Scrambled:
    """Run what was submitted in an order of its own, when a result is wanted."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.waiting: list[tuple[Future[Any], Callable[..., Any], Any]] = []
        self.most = 0

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future = _Wanted(self)
        self.waiting.append((future, call, arguments))
        self.most = max(self.most, len(self.waiting))
        return future

    def run_until(self, wanted: Future[Any]) -> None:
        while not wanted.done():
            self.chance.shuffle(self.waiting)
            future, call, arguments = self.waiting.pop()
            if future.set_running_or_notify_cancel():
                future.set_result(call(*arguments))


class _Wanted(Future[Any]):
    def __init__(self, pool: Scrambled) -> None:
        super().__init__()
        self.pool = pool

    def result(self, timeout: float | None = None) -> Any:
        self.pool.run_until(self)
        return super().result(timeout)


@settings(max_examples=200)
@given(clamped(), SIZES, AHEAD, st.randoms(use_true_random=False))
def test_order_in_which_pages_arrive_does_not_matter(
    server: Server, size: int, ahead: int, chance: random.Random
) -> None:
    pool = Scrambled(chance)
    assert keys(read(server, size, ahead, pool.submit)) == server.rows
    assert pool.most <= max(ahead + 1, 2)


@settings(max_examples=200)
@given(clamped(), SIZES, AHEAD, EVENTS, st.booleans(), st.randoms(use_true_random=False))
def test_changes_between_pages_that_arrive_in_any_order_cost_no_set(
    server: Server,
    size: int,
    ahead: int,
    events: dict[int, str],
    newest_first: bool,  # noqa: FBT001 - hypothesis gives it
    chance: random.Random,
) -> None:
    server.rows.sort(reverse=newest_first)
    server.changes = {n: change(e, newest_first=newest_first) for n, e in events.items()}
    is_whole(server, size=size, ahead=ahead, submit=Scrambled(chance).submit)


@settings(max_examples=100)
@given(clamped(), SIZES, EVENTS)
def test_threads_lose_nothing(server: Server, size: int, events: dict[int, str]) -> None:
    server.changes = {n: change(e, newest_first=False) for n, e in events.items()}
    with ThreadPoolExecutor(3) as pool:
        is_whole(server, size=size, ahead=6, submit=pool.submit)


def test_error_says_how_far_it_got_and_the_pages_ahead_are_not_read() -> None:
    server = Server(list(range(95)))
    pages = server.page

    def fails(number: int, size: int) -> Read[str]:
        if number == 4:
            raise ApiError("busy", instance_id="ob1")
        return pages(number, size)

    server.page = fails  # type: ignore[method-assign]
    running = threading.Event()
    futures: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:

        def submit(call: Any, number: int, size: int) -> Future[Any]:
            def held(*arguments: int) -> Any:
                if number > 4:
                    running.wait(5)
                return call(*arguments)

            futures.append(pool.submit(held, number, size))
            return futures[-1]

        with pytest.raises(ApiError, match=r"busy \[3 of 10 pages were read\]") as caught:
            read(server, 10, ahead=6, submit=submit)
        running.set()
    assert caught.value.instance_id == "ob1"
    assert sum(future.cancelled() for future in futures) == 5
