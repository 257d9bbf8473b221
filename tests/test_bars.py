"""The chart of another policy: its marks are the frame's numbers, its title what they sum up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_report import HOSTILE, renamed

import obanalytics as ob
from obanalytics.bars import what_if_sentence
from obanalytics.canvas import png
from obanalytics.strips import MAX_LANES
from obanalytics.whatif import Replay

if TYPE_CHECKING:
    import pandas as pd


@pytest.fixture(scope="module")
def replayed() -> pd.DataFrame:
    return Replay(ob.sample(), rpo="26h").at(
        full_every="14D", retention_days=30, price_per_gib_month=0.02
    )


def marks(ax: Any) -> list[np.ndarray[Any, Any]]:
    """Return the amounts that are marked: as it was, and as it would be."""
    lines = [line for line in ax.lines if line.get_marker() == "o"]
    return [np.asarray(line.get_xdata(), float) for line in lines]


def test_marks_are_the_numbers_and_the_largest_change_is_on_top(replayed: pd.DataFrame) -> None:
    was, now = (
        replayed[replayed["scenario"] == name]["stored_gib"].to_numpy()
        for name in ("as it was", "what if")
    )
    order = np.argsort(-np.abs(now - was), kind="stable")[:MAX_LANES]
    drawn = marks(ob.plot_what_if(replayed))
    assert drawn[0] == pytest.approx(was[order])
    assert drawn[1] == pytest.approx(now[order])


def test_the_title_sums_up(replayed: pd.DataFrame) -> None:
    rows = replayed.to_dict("records")
    sums = {
        (name, column): sum(row[column] for row in rows if row["scenario"] == name)
        for name in ("as it was", "what if")
        for column in ("stored_gib", "cost_per_month")
    }
    told = what_if_sentence(replayed)
    for column, digits in (("stored_gib", 0), ("cost_per_month", 2)):
        was, now = sums["as it was", column], sums["what if", column]
        assert f"{was:,.{digits}f} → {now:,.{digits}f}" in told
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    more = sum(now["time_in_rpo"] > was["time_in_rpo"] + 1e-6 for was, now in pairs)
    less = sum(now["time_in_rpo"] < was["time_in_rpo"] - 1e-6 for was, now in pairs)
    assert f"{less} tenant" in told
    assert told.endswith(f"{more} more")
    title = ob.plot_what_if(replayed).get_title(loc="left")
    assert " ".join(title.split()) == told


def test_without_a_price_there_is_no_cost(replayed: pd.DataFrame) -> None:
    free = replayed.assign(cost_per_month=np.nan)
    assert "a month" not in what_if_sentence(free)
    texts = [text.get_text() for text in ob.plot_what_if(free).texts]
    assert "a month" not in texts
    assert "in RPO" in texts


def test_little_nothing_and_what_is_no_replay(replayed: pd.DataFrame) -> None:
    assert "No tenant" in " ".join(t.get_text() for t in ob.plot_what_if(replayed.head(0)).texts)
    unknown = replayed.assign(stored_gib=np.nan)
    assert png(lambda: ob.plot_what_if(unknown)).startswith(b"\x89PNG")
    assert "n/a" in what_if_sentence(unknown)
    with pytest.raises(ValueError, match="what_if"):
        ob.plot_what_if(replayed.drop(columns="scenario"))


def test_names_are_drawn_as_they_are() -> None:
    named = Replay(renamed(ob.sample(), HOSTILE), rpo="26h").at(retention_days=30)
    assert png(lambda: ob.plot_what_if(named)).startswith(b"\x89PNG")
