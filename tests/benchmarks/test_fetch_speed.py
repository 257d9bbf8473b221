"""Over HTTP with latency: how near to the bound, and whether every policy on nonces keeps pages."""

from __future__ import annotations

import datetime as dt
from time import perf_counter

import pytest

import obanalytics as ob
from obanalytics import simulator

LATENCY, WORKERS, INSTANCES, PAGES, SIZE = 0.05, 8, 8, 8, 50
NOW = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def history() -> simulator.History:
    """Eight instances of eight pages each; what is imported once is imported."""
    ob.load  # noqa: B018 - loads its module
    ob.sample()
    days = PAGES * SIZE - 1
    return simulator.simulate(
        simulator.Scenario(NOW, days=days, instances=INSTANCES, tenants=2, season=0.0)
    )


def make_pages(server: simulator.SimulatorServer, ids: list[str]) -> None:
    """Let the simulator make and pack its pages before the clock runs."""
    for each in ids:
        for number in range(1, PAGES + 2):
            query = {"pageNumber": str(number), "pageSize": str(SIZE)}
            answer = server.answer(f"/api/v2/instances/{each}/backup/data/sets", query)
            server.pack(answer.content())


def fetch(server: simulator.SimulatorServer, ids: list[str]) -> ob.BackupSets:
    with ob.Client(
        *simulator.KEY, endpoint=server.url, project_id="p", workers=WORKERS, page_size=SIZE
    ) as client:
        return ob.load(ids, client=client, progress=False)


@pytest.mark.benchmark
@pytest.mark.parametrize("policy", simulator.POLICIES)
def test_fetch_at_fifty_milliseconds(history: simulator.History, policy: str) -> None:
    server = simulator.SimulatorServer(history, nonce_policy=policy, latency=LATENCY)
    ids = [instance.instance_id for instance in history.instances]
    make_pages(server, ids)
    with server:
        begun = perf_counter()
        sets = fetch(server, ids)
        took = perf_counter() - begun
    pages = sum(-(-len(history.sets(each)) // SIZE) for each in ids)
    trips = len(server.requests)
    read = sum(request.status == 200 for request in server.requests)
    share = trips / took / (WORKERS / LATENCY)
    print(
        f"\n{policy:<20} {pages} pages, {read - pages} read again to see that nothing moved: "
        f"{trips} round trips in {took:.2f} s, {trips / read:.2f} a page read (at most 1.15), "
        f"{share:.0%} of workers / latency (at least 70 %)"
    )
    assert len(sets) == sum(len(history.sets(each)) for each in ids)
    # A server that takes every nonce once and does not name the next makes every page two trips.
    assert trips / read <= 1.15 or policy == "one_time"
    assert share >= 0.70 * 0.85
