"""Say what a report says first: its title, its numbers, its notes, where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from obanalytics.lines import window_sentence
from obanalytics.wording import (
    format_instant,
    format_number,
    format_share,
    format_span,
    model_sentence,
    plain,
    plural,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obanalytics.schema import Window


class Told(Protocol):
    """What a comparison says beside its tables."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else differs."""


class ReviewData(Protocol):
    """What a review holds, as far as it is shown."""

    @property
    def findings(self) -> pd.DataFrame:
        """Every fault, the gravest first."""

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The results by name."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """The numbers that matter."""

    @property
    def rpo(self) -> object:
        """The limit, or limits by tenant."""

    @property
    def grace(self) -> object:
        """How much more is let pass, or that by tenant."""

    @property
    def rpo_origin(self) -> str:
        """Where the limit comes from."""

    @property
    def as_of(self) -> pd.Timestamp | None:
        """The instant at which the facts were true."""

    @property
    def window(self) -> Window:
        """What was looked at."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the facts come from."""

    @property
    def points(self) -> pd.DataFrame:
        """The backup sets that a chart shows."""

    @property
    def steps(self) -> pd.DataFrame:
        """When any instant could be restored to, as a chart shows it."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as data."""


def heading(review: ReviewData) -> str:
    """Return the report's title.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        What it is of.
    """
    summary = review.summary
    what = f"{plural(summary['instances'], 'instance')}, {plural(summary['tenants'], 'tenant')}"
    return f"Backup review of {what}"


def lead(review: ReviewData) -> str:
    """Say what was looked at, from when, and what was owed.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        Two sentences.
    """
    grace = "" if review.grace == pd.Timedelta(0) else f", grace {format_rpo(review.grace)}"
    window = window_sentence(review.window, review.as_of)
    return f"{window}. RPO {format_rpo(review.rpo)}{grace}."


def format_rpo(rpo: object) -> str:
    """Return the limit as text.

    Parameters
    ----------
    rpo : Timedelta or limits by tenant
        The limit.

    Returns
    -------
    str
        Such as ``26 h``, or that it differs.
    """
    return format_span(rpo) if isinstance(rpo, pd.Timedelta) else "by tenant"


def cards(review: ReviewData) -> list[dict[str, str]]:
    """Return the numbers that matter.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    list of dict of str to str
        label, value, note, look: ten, and one more where an instance could not be read.
    """
    made = [*_state_cards(review), *_size_cards(review)]
    failed = review.summary["failed_instances"]
    if failed:
        names = ", ".join(plain(each, 40) for each in failed[:5])
        made.append(("Instances not read", format_number(len(failed)), names, "bad"))
    return [dict(zip(("label", "value", "note", "look"), card, strict=True)) for card in made]


_Card = tuple[str, str, str, str]


def _state_cards(review: ReviewData) -> list[_Card]:
    """Return how well covered the tenants are."""
    s = review.summary
    outside, unknown = s["tenants_outside"], s["tenants_unknown"]
    worst = s["worst_tenant"]
    who, where = ("none", "no gap") if s["tenants"] else ("n/a", "there is nothing to judge")
    if worst is not None:
        who, where = plain(worst["tenant_name"], 30), plain(worst["instance_id"], 40)
    newest = format_instant(s["newest_restore_point"])
    newest = newest if newest == "n/a" else f"{newest} UTC"
    fine = "good" if s["tenants"] else ""
    grade = "bad" if outside or s["tenants_without_sets"] else fine
    known = f", {unknown} not known" if unknown else ""
    if s["tenants_without_sets"]:
        known += f", {s['tenants_without_sets']} more without any set"
    graver = "bad" if s["critical"] else "warn" if s["warnings"] else fine
    found = f"{s['critical']:,} critical, {plural(s['warnings'], 'warning')}"
    if not s["critical"] and not s["warnings"]:
        found = "none" if s["tenants"] else "n/a"
    rest = f"{plural(s['notes_found'], 'note')}, {s['acknowledged']:,} acknowledged"
    share, worst_share = format_share(s["time_in_rpo"]), format_share(s["time_in_rpo_worst"])
    of_time = "all tenants, weighted by time"
    if share != worst_share:
        of_time = f"of the time that is known; at worst {worst_share}"
    return [
        ("Time inside RPO", share, of_time, ""),
        (
            f"Outside RPO {when(review)}",
            f"{outside} of {plural(s['tenants'], 'tenant')}" if s["tenants"] else "n/a",
            f"{s['tenants_inside']} inside{known}",
            grade,
        ),
        ("Findings", found, rest, graver),
        (
            "Gaps",
            format_number(s["gaps"]) if s["tenants"] else "n/a",
            f"longest {format_span(s['longest_gap'])}" + _doubt(review),
            "bad" if s["gaps"] else fine,
        ),
        ("Worst tenant", who, where, ""),
        ("Newest restore point", newest, f"{format_number(s['restore_points'])} in the window", ""),
    ]


def _doubt(review: ReviewData) -> str:
    """Say that gaps may be longer than what of them is known."""
    gaps = review.tables["gaps"]
    unsure = int((gaps["unknown"] > pd.Timedelta(0)).sum())
    return f", without what is not known of {unsure:,}" if unsure else ""


def _size_cards(review: ReviewData) -> list[_Card]:
    """Return how much there is, and how it changes."""
    s = review.summary
    slower, since = s["slower"], format_instant(s["newest_slower"])
    measured = s["tenants_measured"]
    rate = format_number(s["fastest_growth"], 1, sign=True)
    unsized = s["unsized"]
    held = f"without {plural(unsized, 'set')} of no known size" if unsized else "all listed sets"
    store = "n/a" if pd.isna(s["stored_gib"]) else f"{format_number(s['stored_gib'], 2)} GiB"
    return [
        (
            "Tenant backup sets",
            format_number(s["sets"]),
            f"{s['running']} unfinished {when(review)}",
            "",
        ),
        ("In store now" if when(review) == "now" else "Sizes of these sets", store, held, ""),
        (
            "Growing full sets",
            f"{s['tenants_growing']} of {plural(measured, 'tenant')}" if measured else "n/a",
            "too little history" if rate == "n/a" else f"fastest {rate} % in 30 d",
            "",
        ),
        (
            "Runs got slower",
            plural(slower, "change") if slower else "none" if s["tenants"] else "n/a",
            f"newest since {since} UTC" if slower else "by changes of pace",
            "warn" if slower else "",
        ),
    ]


def when(review: ReviewData) -> str:
    """Say of which instant a state is.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    str
        ``now``, or ``at 2026-06-01 00:00 UTC`` where a window ended before the facts did.
    """
    end = review.window[1]
    if end is None or review.as_of is None or end >= review.as_of:
        return "now"
    return f"at {format_instant(end)} UTC"


def notes(review: ReviewData, compared: Told | None = None) -> list[str]:
    """Return what a reader must know to read the numbers rightly.

    Parameters
    ----------
    review : ReviewData
        The review.
    compared : Comparison or None
        What has changed since an earlier one.

    Returns
    -------
    list of str
        A sentence or two each.
    """
    made = []
    if review.rpo_origin == "default":
        made.append(
            f"No RPO was given: {format_rpo(review.rpo)} is assumed, a daily backup and two hours."
        )
    alone = review.summary["without_logs"]
    if alone is not None:
        outside = plural(alone["tenants_outside"], "tenant")
        made.append(
            f"{model_sentence(review.tables['coverage'])} By backup sets alone, without log "
            f"backups, it would be {format_share(alone['time_in_rpo'])} inside the RPO, "
            f"{plural(alone['gaps'], 'gap')}, {outside} outside now."
        )
    if not review.summary["tenants"]:
        made.append("No tenant has a backup set in this window: there is nothing to judge.")
    source = review.provenance
    made += [
        f"Not read: {plain(name, 40)}: {plain(why, 200)}" for name, why in source["failed"].items()
    ]
    made += [plain(note, 300) for note in source["notes"]]
    if compared is not None:
        made += [f"Since the earlier review: {plain(note, 300)}" for note in compared.notes]
    return made


def provenance(review: ReviewData) -> list[tuple[str, str]]:
    """Return where the facts come from, and what was owed.

    Parameters
    ----------
    review : ReviewData
        The review.

    Returns
    -------
    list of tuple of str
        Pairs of a name and a text.
    """
    source = review.provenance
    names = source["instances"]
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""  # noqa: PLR2004 - a line
    limits = review.findings.attrs["policy"].items()
    given = [f"{key} {plain(value, 60)}" for key, (value, origin) in limits if origin != "default"]
    return [
        ("Instances", ", ".join(plain(name, 40) for name in names[:20]) + more or "none"),
        ("Service", plain(source["endpoint"], 100) if source["endpoint"] else "not asked"),
        ("Files", plain(source["path"], 200) if source["path"] else "none"),
        ("Window", plain(source["window_rule"], 200) if source["window_rule"] else lead(review)),
        ("RPO", f"{format_rpo(review.rpo)} ({review.rpo_origin})"),
        ("Policy", ", ".join(given) or "none was given: defaults"),
        ("Model", model_sentence(review.tables["coverage"])),
        ("Made with", ", ".join(f"{k} {v}" for k, v in source["versions"].items())),
    ]
