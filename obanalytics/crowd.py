"""Put findings together: whose they are, what proves them, in one table."""

from __future__ import annotations

from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from obanalytics.curve import micro, newest_at
from obanalytics.kinds import CERTAINTIES, KINDS, ORIGINS, SEVERITIES, Standing
from obanalytics.presence import first_rows
from obanalytics.recovery import NAT, REASONS, labels, times
from obanalytics.retention import hopes_of
from obanalytics.wording import plain

if TYPE_CHECKING:
    from obanalytics.curve import Scene, View
    from obanalytics.kinds import Claims
    from obanalytics.phrases import Texts
    from obanalytics.presence import Lives
    from obanalytics.recovery import Bools, Ints
    from obanalytics.schema import Facts

_SECOND = 1_000_000  # [µs]
_EXPIRED = REASONS.index("expired")


class Crowd:
    """Everybody a finding can be of: tenants with sets, tenants without, and whole instances.

    Parameters
    ----------
    scene : Scene
        The tenants that have sets.
    lives : Lives
        The tenants that have none.
    failed : list of str
        Instances that could not be read.
    """

    def __init__(self, scene: Scene, lives: Lives, failed: list[str]) -> None:
        self.scene, tenants, rest = scene, scene.tenants, lives.unprotected
        clusters = scene.known.clusters
        ids = [tenants["instance_id"], rest["instance_id"]]
        ids += [] if clusters is None else [clusters["instance_id"].cat.categories.to_series()]
        named = [pd.Index(each.astype("object").unique()) for each in ids]
        self.instances = named[0].append([*named[1:], pd.Index(failed, dtype="object")]).unique()
        whole = pd.DataFrame({"instance_id": self.instances})
        parts = [tenants, rest[["instance_id", "tenant_id", "tenant_name"]], whole]
        self.whole = pd.concat([each.astype("object") for each in parts], ignore_index=True)
        self.first = len(tenants) + len(rest)
        self.instance = self.instances.get_indexer(self.whole["instance_id"])
        by = np.lexsort(
            (np.arange(len(self.whole)), self.instances.argsort().argsort()[self.instance])
        )
        self.rank = np.empty(len(by), np.int64)
        """The place of each among all: by instance, then tenant."""
        self.rank[by] = np.arange(len(by))
        self.newest: Ints | None = None

    def numbers(self, instances: Any) -> Ints:  # noqa: ANN401 - an array of ids
        """Return the numbers of whole instances.

        Parameters
        ----------
        instances : array of str
            Their ids.

        Returns
        -------
        ndarray of int
            One each.
        """
        return self.instances.get_indexer(np.asarray(instances, object)) + self.first

    def frame(self, *, named: bool) -> pd.DataFrame:
        """Return everybody, a row each.

        Parameters
        ----------
        named : bool
            Whether the names are needed; they are the newest.

        Returns
        -------
        DataFrame
            `instance_id`, `tenant_id`, `tenant_name`, `instance_name`.
        """
        if not named:
            return self.whole
        made, tenants = self.whole, self.scene.tenants
        if self.newest is None:
            self.newest = first_rows(self.scene, np.arange(len(tenants)), newest=True)
        names = made["tenant_name"].to_numpy(dtype=object, copy=True)
        names[: len(tenants)] = self.scene.known.tenants["tenant_name"].array.take(self.newest)
        return made.assign(tenant_name=names, instance_name=self.instance_names[self.instance])

    @property
    def instance_names(self) -> Any:  # noqa: ANN401 - an array of texts
        """The name of every instance by the inventory; None where it is not known."""
        table = self.scene.known.inventory
        if table is None:
            return np.full(len(self.instances), None, object)
        known = table.dropna(subset="instance_name").drop_duplicates("instance_id", keep="last")
        named = known.set_index(known["instance_id"].astype("object"))["instance_name"]
        return named.astype("object").reindex(self.instances, fill_value=None).to_numpy()

    def columns(self, tenant: Ints) -> dict[str, Any]:
        """Return who some findings are of.

        Parameters
        ----------
        tenant : ndarray of int
            Numbers.

        Returns
        -------
        dict of str to Series
            `instance_id`, `instance_name`, `tenant_id`, `tenant_name`.
        """
        named, whose = self.frame(named=True), np.flatnonzero(np.bincount(tenant))
        return {
            name: pd.Series(_categories(named[name], whose, tenant))
            for name in ("instance_id", "instance_name", "tenant_id", "tenant_name")
        }

    def labels(self, tenant: Ints) -> Texts:
        """Return how some are called in a sentence.

        Parameters
        ----------
        tenant : ndarray of int
            Numbers.

        Returns
        -------
        array of str
            Such as ``orders of prod-1``; with its id where two would read the same.
        """
        return self._called.take(pa.array(tenant))

    @cached_property
    def _called(self) -> Texts:
        """How everybody is called."""
        named, join = self.frame(named=True), pc.binary_join_element_wise
        names, ids = named["tenant_name"], named["tenant_id"]
        here = self._places.take(pa.array(self.instance))
        # A whole instance has no tenant, and a tenant may have no name.
        alone = pa.array(ids.isna())
        name = _texts(names.where(names.notna(), ids).fillna("-"))
        called = pc.if_else(alone, here, join(name, here, pa.scalar(" of ")))
        if (twice := _repeated(called)).any():
            one = _texts(ids.fillna("-"))
            longer = join(name, pa.scalar(" ("), one, pa.scalar(") of "), here, pa.scalar(""))
            called = pc.if_else(pc.and_not(pa.array(twice), alone), longer, called)
        return called

    @cached_property
    def _places(self) -> Texts:
        """How every instance is called: by its name, with its id where two have one."""
        names, ids = pd.Series(self.instance_names, dtype="object"), pd.Series(self.instances)
        called, own = _texts(names.where(names.notna(), ids)), _texts(ids)
        join = pc.binary_join_element_wise
        longer = join(called, pa.scalar(" ("), own, pa.scalar(")"), pa.scalar(""))
        return pc.if_else(pa.array(_repeated(called)), longer, called)


def _repeated(texts: Texts) -> Bools:
    """Tell which texts are there more than once."""
    return pd.Series(texts.to_pylist(), dtype="object").duplicated(keep=False).to_numpy()


def _texts(values: pd.Series) -> Texts:
    """Return names without what would act in a terminal."""
    place, names = pd.factorize(values)
    return pa.array([_shown(each) for each in names], pa.string()).take(pa.array(place))


def _shown(text: Any) -> str:  # noqa: ANN401 - a name as it was sent
    """Return a name without what would act in a terminal."""
    return text if text.isprintable() and text.strip() else plain(text)


def _categories(values: pd.Series, whose: Ints, tenant: Ints) -> pd.Categorical:
    """Return labels of some, as categories; `whose` are those that are among them."""
    codes, names = pd.factorize(values.iloc[whose], sort=True)
    of = np.full(len(values), -1)
    of[whose] = codes
    dtype = pd.CategoricalDtype(pd.Index(names, dtype="str"))
    return pd.Categorical.from_codes(of[tenant], dtype=dtype)


class Told:
    """What is told of every tenant while the views pass.

    Parameters
    ----------
    crowd : Crowd
        Everybody.
    count : int
        How many tenants have sets.
    """

    def __init__(self, crowd: Crowd, count: int) -> None:
        self.crowd = crowd
        self.never = np.ones(count, bool)
        """Who has never had a restore point."""
        self.newest = np.full(count, NAT)
        """The newest instant that each could be restored to [µs]."""
        self.best = np.full(count, -1)
        """The row of the newest set that can be restored; -1 where there is none."""
        self.hoped = np.full(count, NAT)
        """The newest instant, if all were well that is not known of sets [µs]."""
        rows = len(crowd.scene.known.tenants)
        self.hopes, self.lapsed = np.zeros(rows, bool), np.zeros(rows, bool)
        """Of every row, whether its set can be restored only then; and whether it has expired."""
        self.had = np.zeros(count, bool)
        """Of whom a full set has expired that may have been restorable."""
        crowd.newest = np.full(count, -1)

    def standing(self) -> Standing:
        """Return what each tenant could be restored to now.

        Returns
        -------
        Standing
            When all views have passed.
        """
        newest, never, spent = self.newest, self.never, self.had & self.never
        known = newest, never & ~spent, self.best
        return Standing(*known, self.hoped, self.hopes, self.lapsed, spent)

    def hear(self, view: View) -> None:
        """Take what is to be known of some tenants.

        Parameters
        ----------
        view : View
            The tenants.
        """
        chains, first = view.certain, view.part.first
        mine = slice(first, first + view.part.count)
        if self.crowd.newest is not None:
            self.crowd.newest[mine] = view.newest_row
        good = np.flatnonzero(chains.restorable)
        group, point = chains.group[good], chains.checkpoint[good]
        if not (np.diff(point) > 0)[np.diff(group) == 0].all():
            by = np.lexsort((point, group))
            good, group = good[by], group[by]
        last = np.flatnonzero(np.append(np.diff(group) != 0, [True]))[: len(group)]
        who, sets = group[last] + first, good[last]
        if view.vendor is None and chains.usable_until is None:
            self.newest[who], self.never[who] = chains.checkpoint[sets], False
            self.best[who] = view.part.rows_of(sets)
        else:
            newest, self.never[mine], sets = newest_at(view, chains, view_now(view))
            self.newest[mine], self.best[mine] = newest, view.part.rows_of(sets)
        self.hoped[mine] = self.newest[mine]
        self._hope(view)
        self._mourn(view)

    def _hope(self, view: View) -> None:
        """Note what could be restored besides, if what is not known of sets were well."""
        more = hopes_of(view)
        if not len(more):
            return
        other, first = view.trusting, view.part.first
        self.hopes[view.part.rows_of(more)] = True
        if view.vendor is None and other.usable_until is None:
            np.maximum.at(self.hoped, other.group[more] + first, other.checkpoint[more])
        else:
            mine = slice(first, first + view.part.count)
            best = newest_at(view, other, view_now(view))[0]
            self.hoped[mine] = np.maximum(self.hoped[mine], best)

    def _mourn(self, view: View) -> None:
        """Note which sets have expired that may have been restorable before."""
        chains = view.certain
        over = np.flatnonzero(chains.own == _EXPIRED)
        if not len(over):
            return
        rows = view.part.rows_of(over)
        validity = view.scene.known.tenants["validity"].array
        fine = [str(each).strip().upper() in {"", "VALID"} for each in validity.categories]
        fit = np.array([*fine, True])[validity.codes[rows]]
        self.lapsed[rows[fit]] = True
        self.had[chains.group[over[fit & chains.full[over]]] + view.part.first] = True


def view_now(view: View) -> int:
    """Return the instant of which it is asked.

    Parameters
    ----------
    view : View
        Some tenants.

    Returns
    -------
    int
        Since 1970 [µs]; `NAT` where there is none.
    """
    now = view.scene.known.as_of
    return NAT if now is None else micro(now)


def table_of(claims: list[Claims], known: Facts, crowd: Crowd) -> pd.DataFrame:
    """Put what was found into one table, the gravest first.

    Parameters
    ----------
    claims : list of Claims
        What every rule found.
    known : Facts
        The facts that prove it.
    crowd : Crowd
        Whose it is.

    Returns
    -------
    DataFrame
        As `findings` documents it.
    """
    # What was found by one rule is written out together.
    claims = sorted(claims, key=lambda each: repr(each.text.shape()))
    kinds = [*KINDS]
    counts = [len(each) for each in claims]
    kind = np.repeat([kinds.index(each.kind) for each in claims], counts).astype(np.int8)
    tenant = _whole([each.tenant for each in claims], np.int64)
    start = _whole([each.start for each in claims], np.int64)
    grade = _whole([each.grades for each in claims], np.int8)
    order = _order(grade, crowd.rank[tenant], start, kind)
    sentences = _sentences(claims, tenant, order, crowd)
    tenant, floats = tenant[order], (np.float64, order)
    made = {
        "kind": labels(kind[order], tuple(kinds)),
        "severity": labels(grade[order], SEVERITIES),
        **crowd.columns(tenant),
        "start": times(start[order]),
        "end": times(_whole([each.end for each in claims], np.int64)[order]),
        "sentence": sentences,
        "measured": _floats(claims, "measured", *floats),
        "limit": _floats(claims, "limit", *floats),
        "limit_origin": _origins(claims, order),
        "backup_set_ids": _proofs(claims, known, order),
        "certainty": labels(_whole([each.surety for each in claims], np.int8)[order], CERTAINTIES),
        "acknowledged": np.zeros(len(order), bool),
    }
    return pd.DataFrame(made)


def _order(grade: Ints, rank: Ints, start: Ints, kind: Ints) -> Ints:
    """Return the order of findings: the gravest first, then by whom, when and what."""
    known = start[start != NAT]
    low = int(known.min()) if len(known) else 0
    seconds = np.where(start == NAT, 0, (start - low) // _SECOND + 1)
    width = int(seconds.max(initial=0)) + 1
    if (int(rank.max(initial=0)) + 1) * width >= 1 << 54:
        return np.lexsort((kind, start, rank, grade))
    key = (grade.astype(np.int64) << 60) + (rank * np.int64(width) + seconds) * 64 + kind
    return np.argsort(key, kind="stable")


def _whole(parts: list[Any], kind: Any) -> Any:  # noqa: ANN401 - arrays
    """Join arrays; none make an empty one."""
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind, copy=False)


def _floats(claims: list[Claims], name: str, kind: Any, order: Ints) -> Any:  # noqa: ANN401
    """Return a column of numbers."""
    return _whole([each.floats(name) for each in claims], kind)[order]


def _origins(claims: list[Claims], order: Ints) -> pd.Series:
    """Return where the limits come from."""
    known: dict[str, int] = {name: code for code, name in enumerate(ORIGINS)}
    codes = []
    for each in claims:
        if isinstance(each.origin, str):
            texts, place = np.array([each.origin], object), np.zeros(len(each), np.int64)
        else:
            place, texts = pd.factorize(np.asarray(each.origin, object))
        mine = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
        codes.append(mine[place])
    return labels(_whole(codes, np.int64)[order], tuple(known))


def _sentences(claims: list[Claims], whose: Ints, order: Ints, crowd: Crowd) -> pd.Series:
    """Return the sentences, each with the name of whom it is of."""
    names, texts, done = crowd.labels(whose), [], 0
    for _, alike in groupby(claims, lambda each: each.text.shape()):
        first, *others = [each.text for each in alike]
        phrase = first.join(others)
        size = len(phrase)
        texts.append(phrase.write(before=(names.slice(done, size), ": ")))
        done += size
    whole = pa.chunked_array(texts, pa.string()).combine_chunks()
    return pd.Series(pd.array(whole.take(pa.array(order)), dtype="string"))


def _proofs(claims: list[Claims], known: Facts, order: Ints) -> pd.Series:
    """Return the ids of the sets that prove each, as tuples."""
    sizes = _whole([each.sizes for each in claims], np.int64)
    rows = _whole([each.rows for each in claims], np.int64)
    counts = [len(each.rows) for each in claims]
    of_clusters = np.repeat(np.array([each.clusters for each in claims], bool), counts)
    names = np.empty(len(rows), object)
    for frame, mine in ((known.tenants, ~of_clusters), (known.clusters, of_clusters)):
        if frame is not None and mine.any():
            names[mine] = frame["backup_set_id"].array.take(rows[mine]).to_numpy(dtype=object)
    begins = np.cumsum(sizes) - sizes
    proofs = np.empty(len(sizes), object)
    for size in np.unique(sizes):  # tuples of one length are made at once
        some = np.flatnonzero(sizes == size)
        columns = [names[begins[some] + place].tolist() for place in range(size)]
        proofs[some] = _tuples(columns, len(some))
    return pd.Series(proofs[order], dtype="object")


def _tuples(columns: list[list[str]], count: int) -> Any:  # noqa: ANN401 - an array
    """Return the rows of columns as tuples."""
    made = np.empty(count, object)
    made[:] = [*zip(*columns, strict=True)] if columns else [()] * count
    return made
