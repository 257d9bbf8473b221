"""What importing costs: nothing that is not used."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

import pytest

ROUNDS = 5


def seconds(code: str) -> float:
    begun = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return perf_counter() - begun


@pytest.mark.benchmark
def test_import_and_help() -> None:
    codes = {
        "pass": "pass",
        "import pandas": "import pandas",
        "import obanalytics": "import obanalytics",
        "both": "import pandas, obanalytics",
        "first use of sample()": "import obanalytics as ob; ob.sample",
        "--help": "import obanalytics.cli as c; c.parser().format_help()",
    }
    best = dict.fromkeys(codes, float("inf"))
    for _ in range(ROUNDS):
        for name, code in codes.items():
            best[name] = min(best[name], seconds(code))
    pandas = best["import pandas"]
    print()
    for name, took in best.items():
        print(f"  {name:<22} {took * 1e3:6.0f} ms   {took / pandas:5.2f} x import pandas")
    print("  import obanalytics is to be at most 1.15 x import pandas")
    assert best["import obanalytics"] <= 1.15 * pandas
    assert best["both"] <= 1.15 * pandas
