"""List what happened to the sets of an archive: which came, went or moved, and what changed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.ledger import CONTENT, NAT, NEVER, Book

CHANGES = {
    "seen": "datetime64[us, UTC]",
    "instance_id": "string",
    "tenant_id": "string",
    "tenant_name": "string",
    "level": "string",
    "backup_set_id": "string",
    "storage_class": "string",
    "start_time": "datetime64[us, UTC]",
    "what": "string",
    "field": "string",
    "before": "string",
    "after": "string",
}
"""The columns of `changes_of`, with their dtypes."""


def changes_of(book: Book, since: int = NAT, until: int = NEVER) -> pd.DataFrame:
    """List what happened to the sets.

    Parameters
    ----------
    book : Book
        The facts.
    since, until : int
        Only what was seen after `since` and not after `until` [µs since 1970].

    Returns
    -------
    DataFrame
        A row per set that came, went or moved, and per field that changed; columns as in `CHANGES`.
    """
    late = (book.seen > since) & (book.seen <= until)
    places = np.flatnonzero(late)
    rows = book.rows(places)
    facts = book.table.take(pa.array(rows)).to_pandas()
    earlier = book.table.take(pa.array(book.rows(np.maximum(places - 1, 0)))).to_pandas()
    head = book.head[places]
    gone, was_gone = facts["gone"].to_numpy(bool), earlier["gone"].to_numpy(bool) & ~head
    made = []
    fates = {"new": head & ~gone, "gone": gone & ~was_gone, "back": was_gone & ~gone}
    for what, mask in fates.items():
        made.append(_events(facts[mask], book.kind, what))
    same = ~head & ~gone & ~was_gone
    for name in CONTENT[book.kind]:
        before, after = (f.loc[same, name].astype("string") for f in (earlier, facts))
        hit = ((before != after).fillna(value=False) | (before.isna() != after.isna())).to_numpy()
        events = _events(facts[same][hit], book.kind, "changed")
        made.append(events.assign(field=name, before=before[hit].array, after=after[hit].array))
    table = pd.concat([each for each in made if len(each)] or [made[0]], ignore_index=True)
    return _moves(table.astype(CHANGES), book)


def _events(facts: pd.DataFrame, kind: str, what: str) -> pd.DataFrame:
    """Return a row per fact that says what happened."""
    table = facts.reindex(columns=list(CHANGES)).astype(CHANGES)
    return table.assign(level=kind, what=what)


def _moves(table: pd.DataFrame, book: Book) -> pd.DataFrame:
    """Tell sets that changed their storage class from sets that went."""
    went = table[table["what"] == "gone"]
    if went.empty:
        return table
    who = ["instance_id", "tenant_id", "backup_set_id"]
    ids = pa.array(went["backup_set_id"].unique().tolist(), pa.string())
    some = np.flatnonzero(pc.is_in(book.table["backup_set_id"], ids).to_numpy())
    part = Book(book.table.take(pa.array(some)), book.kind)
    copies = part.table.take(pa.array(part.rows(np.arange(len(part.head))))).to_pandas()
    copies = copies.astype(dict.fromkeys([*who, "storage_class"], "string"))
    there = copies[[*who, "storage_class", "seen", "gone"]]
    pairs = went.reset_index(names="event").merge(there, on=who, suffixes=("", "_of"))
    known = pairs[pairs["seen_of"] <= pairs["seen"]]
    # What was known last of each copy; a book's facts are in the order in which they were seen.
    known = known.drop_duplicates(["event", "storage_class_of"], keep="last")
    is_other = (known["storage_class"] != known["storage_class_of"]).fillna(value=True)
    moved = known[is_other & ~known["gone"].astype(bool)].drop_duplicates("event")
    if moved.empty:
        return table
    at = moved["event"].to_numpy()
    table.loc[at, "what"] = "moved"
    table.loc[at, "field"] = "storage_class"
    table.loc[at, "before"] = table.loc[at, "storage_class"]
    table.loc[at, "after"] = moved["storage_class_of"].array
    # One line is enough where it came into the other class in the same look.
    said = moved.assign(storage_class=moved["storage_class_of"])
    same = ["seen", *who, "storage_class"]
    repeats = table[same].merge(said[same].drop_duplicates(), on=same, how="left", indicator=True)
    came = table["what"].isin(["new", "back"]).to_numpy()
    return table[~came | (repeats["_merge"] == "left_only").to_numpy()].reset_index(drop=True)
