"""Series of sets against plain loops, whatever the order of the rows, the copies and the ties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coverage import sets_of
from test_growth import T0, at, done_set, frame_of, history

from obanalytics.frames import empty
from obanalytics.recovery import NAT
from obanalytics.schema import STATES
from obanalytics.series import DONE, runs_of, spans

RANK = {"done": 0, "failed": 1, "cancelled": 1}
ROW = st.fixed_dictionaries(
    {
        "instance_id": st.sampled_from(["ob1", "ob0"]),
        "tenant_id": st.sampled_from(["t1", "t0"]),
        "number": st.integers(0, 12),
        "state": st.sampled_from(["done", "done", "done", "failed", "running", "unknown"]),
        "hour": st.one_of(st.none(), *[st.integers(0, 9)] * 5),
        "took": st.one_of(st.none(), st.integers(0, 4)),
        "size_gib": st.sampled_from([math.nan, 1.0, 2.5]),
        "classes": st.sampled_from([("standard",), ("standard",), ("archive", "standard")]),
    }
)


def rows_of(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per copy; a set has one id, its copies differ in state, times and size."""
    made, seen = [], set()
    for each in drawn:
        key = (each["instance_id"], each["tenant_id"], each["number"])
        if key in seen:
            continue
        seen.add(key)
        for turn, storage in enumerate(each["classes"]):
            row = done_set(
                0,
                each["size_gib"] + turn,
                **{
                    name: each[name]
                    for name in ("instance_id", "tenant_id", "state", "hour", "took")
                },
            )
            row |= {
                "backup_set_id": f"s{each['number']}",
                "full": (True, False, None)[each["number"] % 3],
                "tenant_name": f"n{each['hour']}",
                "storage_class": storage,
            }
            if turn:
                row |= {"state": "done" if each["number"] % 2 else each["state"]}
            made.append(row)
    return made


def plain(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[Any]]:
    """Return the sets of every series in order, each by its best copy: dicts and loops only."""
    copies: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        start, took = row["hour"], row["took"]
        end = math.inf if start is None or took is None else start + took
        size = math.inf if math.isnan(row["size_gib"]) else row["size_gib"]
        order = (RANK.get(row["state"], 2), math.inf if start is None else start, end, size)
        key = (row["instance_id"], row["tenant_id"], row["backup_set_id"])
        copies.setdefault(key, []).append((order, row["state"], row["full"], row["tenant_name"]))
    series: dict[tuple[str, str, int], list[Any]] = {}
    for (instance, tenant, name), held in copies.items():
        (_, start, _, size), state, full, named = min(held, key=lambda each: each[0])
        mode = 2 if full is None else int(not full)
        series.setdefault((instance, tenant, mode), []).append((start, name, state, size, named))
    return {key: sorted(series[key]) for key in sorted(series)}


@settings(max_examples=60)
@given(st.lists(ROW, max_size=16), st.randoms(use_true_random=False))
def test_series_agree_with_plain_loops(drawn: list[Any], random: Any) -> None:
    rows = rows_of(drawn)
    frame = frame_of(rows)
    expected = plain(rows)
    for each in (frame, frame.sample(frac=1, random_state=random.randrange(10**6))):
        runs = runs_of(each, at(1000))
        heads = runs.heads.to_dict("records")
        found = {}
        for head, low, high in zip(heads, runs.bounds, runs.bounds[1:], strict=False):
            mode = 2 if pd.isna(head["full"]) else int(not head["full"])
            part = slice(low, high)
            hours = [math.inf if s == NAT else hours_of(s) for s in runs.start[part].tolist()]
            sizes = [math.inf if math.isnan(s) else s for s in runs.size[part].tolist()]
            states = [STATES[s] for s in runs.state[part]]
            ids = list(runs.column("backup_set_id")[part])
            found[head["instance_id"], head["tenant_id"], mode] = [
                list(each) for each in zip(hours, ids, states, sizes, strict=True)
            ]
            own = expected[head["instance_id"], head["tenant_id"], mode]
            # A set without a start is the newest of all.
            newest = {entry[4] for entry in own if entry[0] == own[-1][0]}
            assert head["tenant_name"] in newest
        assert list(found) == list(expected)
        assert found == {key: [list(e[:4]) for e in own] for key, own in expected.items()}


def hours_of(micro: int) -> float:
    return (pd.Timestamp(micro, unit="us", tz="UTC") - T0) / pd.Timedelta("1h")


def test_entries_are_chosen_and_series_stay() -> None:
    rows = [done_set(day, day + 1.0) for day in range(4)]
    rows += [done_set(9, 3.0, tenant_id="t2", state="failed")]
    runs = runs_of(frame_of(rows))
    done = runs.where_state(DONE)
    assert np.diff(done.bounds).tolist() == [4, 0]
    assert done.without_empty().heads["tenant_id"].tolist() == ["t1"]
    assert done.series.tolist() == [0] * 4
    assert (runs.length == 3600 * 10**6).all()
    assert runs.where(np.ones(5, bool)) is runs


def test_an_end_before_the_start_is_no_length() -> None:
    runs = runs_of(frame_of([done_set(1, 2.0, took=-1.0), done_set(2, 2.0, took=None)]))
    assert (runs.length == NAT).all()
    assert spans(runs.length).isna().all()


def test_nothing_gives_no_series() -> None:
    runs = runs_of(empty("tenants"))
    assert (len(runs.heads), runs.bounds.tolist(), len(runs.start)) == (0, [0], 0)


def test_clusters_have_no_tenant() -> None:
    sets = sets_of(history(1, days=30, instances=2, tenants=3))
    runs = runs_of(sets, level="cluster")
    assert runs.heads["tenant_id"].isna().all()
    assert len(runs.rows) == len(sets.clusters)
    whole = sets.clusters.groupby(["instance_id", "full"], observed=True).size()
    assert sorted(np.diff(runs.bounds).tolist()) == sorted(whole.tolist())
    with pytest.raises(ValueError, match="a plain tenants frame has no cluster sets"):
        runs_of(sets.tenants, level="cluster")
