"""A whole review and its page: a cluster of 10 tenants, and 500 tenants, a year of daily backups.

Each in a process of its own on one core, as cron runs it: the seconds of each part, and the most
memory that the process held.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# What the process does: it builds the facts by the simulator first, which is not counted.
PROGRAM = """
import datetime as dt, json, resource, sys, time
from pathlib import Path
import obanalytics as ob
from obanalytics import simulator

instances, tenants, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
plants = (
    simulator.Plant("silent", 0, None, 20.0, 4.0),
    simulator.Plant("dropped", 0, 1, 9.0),
    simulator.Plant("failed", 0, 3, 30.0, 5.0),
)
now = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
scenario = simulator.Scenario(now, 3, 365, instances=instances, tenants=tenants, plants=plants)
if not (folder / "sets").exists():
    for path, body in simulator.pages_as_files(simulator.simulate(scenario)):
        target = folder / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    ob.read(folder / "pages").save(folder / "sets")
    sys.exit()
spent, last = {}, time.process_time()
def lap(name):
    global last
    spent[name], last = time.process_time() - last, time.process_time()
from obanalytics.review import review
lap("imports")
sets = ob.read(folder / "sets")
lap("read")
found = review(sets, rpo="26h")
lap("analyses")
from obanalytics import pictures, report
drawn = pictures.pictures(found)
lap("figures")
pictures.pictures = lambda _: drawn
found.to_html(folder / "r.html")
lap("page")
spent["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
spent["rows"] = len(sets.tenants)
spent["page MB"] = (folder / "r.html").stat().st_size / 1e6
print(json.dumps(spent))
"""
PARTS = ("imports", "read", "analyses", "figures", "page")
# Instances, tenants of each; the most of all parts together and of the analyses [s], of memory.
SIZES = {"10 tenants": (1, 10, 6.0, 1.0, 1024), "500 tenants": (50, 10, 30.0, 25.0, 1024)}


@pytest.mark.benchmark
@pytest.mark.parametrize("name", SIZES)
def test_review_to_a_page(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    instances, tenants, most, analyses, memory = SIZES[name]
    folder = tmp_path_factory.mktemp("review")
    command = [sys.executable, "-c", PROGRAM, str(instances), str(tenants), str(folder)]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, check=True)
    best: dict[str, float] = {}
    for _ in range(3):  # a noisy neighbour may spoil one; CPU time tells little of those
        done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **one})
        spent = json.loads(done.stdout)
        if not best or sum(spent[p] for p in PARTS) < sum(best[p] for p in PARTS):
            best = spent
    whole = sum(best[part] for part in PARTS)
    print(
        f"\nreview of {name}, a year, {best['rows']:,} rows, to a page of {best['page MB']:.1f} MB"
    )
    for part in PARTS:
        print(f"  {part:<10} {best[part]:7.2f} s   {best[part] / whole:6.1%}")
    print(f"  whole      {whole:7.2f} s   (at most {most})")
    print(f"  memory     {best['MiB']:7.0f} MiB (at most {memory})")
    assert whole <= most
    assert best["analyses"] <= analyses
    assert best["MiB"] <= memory
    assert best["page MB"] < 5
