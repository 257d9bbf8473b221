"""Put what an analysis found of parts of a fleet together, as if it had seen all of it at once."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from obanalytics.anomaly import KINDS, Found, anomalies, checked, q_values, suspects
from obanalytics.carry import Carried
from obanalytics.changes import duration_changes, sentences
from obanalytics.compliance import rpo_compliance, summed, watched
from obanalytics.findings import findings
from obanalytics.growth import shares, size_growth
from obanalytics.stored import stored_size
from obanalytics.whatif import what_if
from obanalytics.wording import mode_name, plain, tenant_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_INSTANCE = "instance_id"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one analysis is run on parts, and how its results are put together.

    Parameters
    ----------
    run : callable
        Takes the facts of a part; pickles.
    name : str
        What errors call it.
    before : tuple of str
        The columns that rows are sorted by before they are by instance: categories in their order,
        numbers from the largest.
    finish : callable or None
        Mends what is of all parts together.
    attrs : callable or None
        Mends `attrs`; takes those of every part.
    """

    run: Callable[..., Any]
    name: str
    before: tuple[str, ...] = ()
    finish: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    attrs: Callable[[Sequence[dict[str, Any]]], dict[str, Any]] | None = None

    def plain(self) -> Rule:
        """Return the rule of frames that ride on its results: by instance, and nothing else."""
        return replace(self, before=(), finish=None, attrs=None)


def rule_of(func: Any, kwargs: dict[str, Any]) -> Rule:  # noqa: ANN401 - whatever can be called
    """Return how a function is run on parts.

    Parameters
    ----------
    func : callable
        An analysis, a partial of one, or a function of one's own.
    kwargs : dict
        Its arguments.

    Returns
    -------
    Rule
        How it is run and joined.

    Raises
    ------
    TypeError
        When it cannot be called.
    ValueError
        When it is asked for what is of no single instance.
    """
    if not callable(func):
        raise TypeError(f"func takes BackupSets and returns a frame; {func!r} cannot be called")
    inner: Any = func
    given, args = dict(kwargs), ()
    while isinstance(inner, partial):
        inner, given, args = inner.func, inner.keywords | given, (*inner.args, *args)
    name = str(getattr(inner, "__name__", inner))
    if given.get("by") == "fleet":
        raise ValueError(
            f"{name}(by='fleet') adds up instances, and no part has all of them: ask by cluster "
            "and add up, or run it on Archive.load()"
        )
    if inner is what_if:
        raise ValueError(
            "what_if tells the last quarter of the whole fleet's time, which no part knows: run it "
            "on Archive.load(), of some instances"
        )
    special = _SPECIAL.get(inner)
    if special is not None and not args:
        return special(given)
    run = partial(func, **kwargs) if kwargs else func
    return replace(_RULES.get(inner, Rule(run, name)), run=run)


def joined(rule: Rule, results: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the results of all parts together.

    Parameters
    ----------
    rule : Rule
        How.
    results : sequence of DataFrame
        What the function returned, part by part; at least one.

    Returns
    -------
    DataFrame
        As the function would have returned of all instances at once.

    Raises
    ------
    TypeError
        When the function returned no frame.
    ValueError
        When a frame has no column `instance_id`, or rows of no instance.
    """
    for each in results:
        _check(rule.name, each)
    if not results:
        raise ValueError(f"{rule.name} was run on no part")
    made = results[0].copy(deep=False)
    if len(results) > 1:
        columns = {name: _column([each[name] for each in results]) for name in made.columns}
        made = _in_order(pd.DataFrame(columns, copy=False), rule.before)
    made.attrs = (rule.attrs or _attrs)([each.attrs for each in results])
    return made if rule.finish is None else rule.finish(made)


def _check(name: str, result: Any) -> None:  # noqa: ANN401 - whatever it returned
    """Refuse what cannot be put together."""
    if not isinstance(result, pd.DataFrame):
        raise TypeError(f"{name} returned no frame on a part, but {type(result).__name__}")
    if _INSTANCE not in result.columns:
        raise ValueError(f"what {name} returns has no column {_INSTANCE}: parts cannot be joined")
    if result[_INSTANCE].isna().any():
        raise ValueError(
            f"{name} returned rows of no instance (a total?): each part would have its own"
        )


def _column(parts: list[pd.Series]) -> Any:  # noqa: ANN401 - an array
    """Put the pieces of a column under each other; of empty ones only the categories count."""
    parts = sorted(parts, key=lambda each: not len(each))
    some = [each for each in parts if len(each)] or parts[:1]
    if not all(isinstance(each.dtype, pd.CategoricalDtype) for each in some):
        return pd.concat(some, ignore_index=True).array
    known = [each.cat.categories for each in parts if isinstance(each.dtype, pd.CategoricalDtype)]
    known = [each for each in known if len(each)] or known[:1]
    if all(known[0].equals(each) for each in known):
        dtype = pd.CategoricalDtype(known[0])
    else:
        names = known[0].append(known[1:]).unique()
        sort = all(each.is_monotonic_increasing for each in known)  # else they have an own order
        dtype = pd.CategoricalDtype(names.sort_values() if sort else names)
    codes = [each.cat.set_categories(dtype.categories).cat.codes.to_numpy() for each in some]
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)


def _in_order(frame: pd.DataFrame, before: tuple[str, ...]) -> pd.DataFrame:
    """Sort rows by instance, and those of one instance as they stand."""
    keys = [frame[_INSTANCE].astype("str").to_numpy(dtype=object)]
    keys = [pd.factorize(keys[0], sort=True)[0], *(_key(frame[n]) for n in reversed(before))]
    order = np.lexsort(keys)
    return frame if (np.diff(order) == 1).all() else frame.take(order).reset_index(drop=True)


def _key(column: pd.Series) -> Any:  # noqa: ANN401 - an array
    """Return what a column is sorted by."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy()
    return -column.abs().to_numpy()


def _attrs(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what all parts say alike; frames are made anew by who knows how."""
    first, *others = parts
    return {
        name: value
        for name, value in first.items()
        if isinstance(value, Carried) or all(_same(value, each.get(name)) for each in others)
    }


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - values of attrs
    """Tell whether two values are alike."""
    try:
        return bool(one == other) or (one is None and other is None)
    except ValueError:  # an array in it
        return False


# --- analyses that look at all instances ---------------------------------------------------------


def _grown(made: pd.DataFrame) -> pd.DataFrame:
    """Return growth with everybody's share in the whole's."""
    made["growth_share"] = shares(made)
    return made


def _changed(made: pd.DataFrame) -> pd.DataFrame:
    """Return changes with sentences in which all tenants can be told apart."""
    made["sentence"] = pd.array(sentences(made), dtype="string")
    return made


def _found(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what must be known to read findings of all parts."""
    made = dict(parts[0])
    # What can be judged anywhere is judged.
    open_ = set.intersection(*(set(each["not_judged"]) for each in parts))
    made["not_judged"] = {k: why for k, why in made["not_judged"].items() if k in open_}
    made["excluded"] = sum(each["excluded"] for each in parts)
    made["notes"] = tuple(dict.fromkeys(note for each in parts for note in each["notes"]))
    return made


def _noted(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what must be known to read sizes in store of all parts: counts in notes add up."""
    counts: dict[str, int] = {}
    for note in (note for each in parts for note in each["notes"]):
        number, text = _COUNTED.fullmatch(note).groups()  # type: ignore[union-attr]
        counts[text] = counts.get(text, 0) + int((number or "0").replace(",", ""))
    place = {text: [text.startswith(each) for each in _NOTES] for text in counts}
    texts = sorted(counts, key=lambda text: [*place[text], True].index(True))
    notes = [f"{counts[text]:,} {text}" if counts[text] else text for text in texts]
    return dict(parts[0]) | {"notes": notes}


_NOTES = (
    "what went before",
    "sets have not ended",
    "sets have no size",
    "only sets from",
    "instances failed",
    "sets that went",
    "copies in an archive",
    "no rule lets",
    "log backups",
)
"""How the notes of `stored_size` begin, in its order."""
_COUNTED = re.compile(r"(?:([\d,]+) )?(.*)", re.DOTALL)


def _odd(given: dict[str, Any]) -> Rule:
    """Return how anomalies are found: whoever has q-values ranks all that was judged."""
    asked = inspect.signature(anomalies).bind(None, **given)
    asked.apply_defaults()
    how, fdr = asked.arguments, asked.arguments["fdr"]
    rule = checked(how["window"], how["min_n"], how["threshold"], fdr)
    low = rule._replace(threshold=rule.least_z)

    def ranked(made: pd.DataFrame) -> pd.DataFrame:
        """Return those that are told, with their place among all."""
        none, z = np.zeros(len(made)), made["z"].to_numpy()
        kind = made["kind"].cat.set_categories(list(KINDS)).cat.codes.to_numpy()
        found = Found(none, kind, none, none, none, z, made["n"].to_numpy())
        q_value = q_values(found, made.attrs["judged"])
        keep = (np.abs(z) >= rule.threshold) & (q_value <= (1.0 if fdr is None else fdr))
        attrs = made.attrs | {**rule._asdict(), "fdr": fdr}
        made = made.assign(q_value=q_value)[keep].reset_index(drop=True)
        made = made.assign(sentence=_renamed(made)).drop(columns=["apart", "called"])
        made["rank"] = np.arange(1, len(made) + 1)
        made["kind"] = made["kind"].cat.set_categories(list(KINDS))
        for name in made.columns[made.dtypes == "category"]:
            made[name] = made[name].cat.remove_unused_categories()
        made.attrs = attrs
        return made

    run = partial(suspects, rule=low, as_of=how["as_of"], fdr=None)
    return Rule(run, "anomalies", before=("apart", "z"), finish=ranked, attrs=_judged)


def _renamed(made: pd.DataFrame) -> Any:  # noqa: ANN401 - an array
    """Return the sentences of anomalies, tenants called so that all can be told apart."""
    keys = ["instance_id", "tenant_id"]
    heads = made[[*keys, "called"]].drop_duplicates(keys).astype("object").sort_values(keys)
    labels = tenant_labels(heads.rename(columns={"called": "tenant_name"})) if len(heads) else []
    label = dict(zip(heads[keys].itertuples(index=False, name=None), labels, strict=True))
    told = []
    for key, full, name, text in zip(
        made[keys].itertuples(index=False, name=None),
        *(made[each] for each in ("full", "backup_set_id", "sentence")),
        strict=True,
    ):
        rest = f", {mode_name(full)} set {plain(name)}: "
        told.append(label[key] + text[text.rindex(rest) :])
    return pd.array(told, dtype="string")


def _judged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many sets were judged in all parts."""
    return parts[0] | {"judged": sum(each["judged"] for each in parts)}


def _complying(given: dict[str, Any]) -> Rule:
    """Return how compliance is measured: the fleet's row is of all parts."""
    asked = dict(given)
    total = asked.pop("total", False)
    times = tuple(asked.pop(name, None) for name in ("start", "end", "as_of"))
    run = partial(watched, asked=times, **asked)
    return Rule(run, "rpo_compliance", finish=partial(summed, total=total))


_SPECIAL: dict[Any, Callable[[dict[str, Any]], Rule]] = {
    anomalies: _odd,
    rpo_compliance: _complying,
}
_RULES: dict[Any, Rule] = {
    size_growth: Rule(size_growth, "size_growth", finish=_grown),
    duration_changes: Rule(duration_changes, "duration_changes", finish=_changed),
    findings: Rule(findings, "findings", before=("severity",), attrs=_found),
    stored_size: Rule(stored_size, "stored_size", attrs=_noted),
}
