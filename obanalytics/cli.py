"""Run from a shell: options in, calls, prints; an error becomes one line and an exit code."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obanalytics.errors import (
    ApiError,
    ArchiveError,
    AuthenticationError,
    ObanalyticsError,
    PagingError,
)
from obanalytics.options import make_parser
from obanalytics.sources import (
    SECRET,
    failures,
    fetched,
    gathered,
    looked_from,
    make_client,
    opened,
    writable,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from obanalytics.schema import BackupSets
    from obanalytics.simulator import History, SimulatorServer
    from obanalytics.statlog import Told

FINE, FOUND, USAGE, NETWORK, BAD_DATA, INTERRUPTED = 0, 1, 2, 3, 4, 130
_EPILOG = f"""exit codes: {FINE} fine, {FOUND} something at or above --fail-on was found,
{USAGE} usage (no keys, no such file), {NETWORK} service or network (or somebody else is writing the
archive), {BAD_DATA} bad data (or an archive that cannot be read or written)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str or None
        The command line; None takes the process's own.

    Returns
    -------
    int
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may know fewer characters than a name has
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            code: int = options.run(options)
        sys.stdout.flush()
    except ObanalyticsError as error:
        return _fail(str(error), _code_of(error))
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            return _fail(f"{error.filename}: {error.strerror}", USAGE)
        if isinstance(error, BrokenPipeError):
            # The reader has seen enough; what Python would still write at exit goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FINE
        return _fail(str(error), USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return code


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line.

    Returns
    -------
    argparse.ArgumentParser
        With a sub-command for everything that can be done.
    """
    return make_parser(
        {
            "demo": _demo,
            "fetch": _fetch,
            "sync": _sync,
            "changes": _changes,
            "archive check": _archive_check,
            "archive compact": _archive_compact,
            "archive rebuild": _archive_rebuild,
            "review": _review,
            "gaps": _gaps,
            "findings": _findings,
            "dashboard": _dashboard,
            "policy init": _policy_init,
            "policy check": _policy_check,
            "growth": _growth,
            "forecast": _forecast,
            "durations": _durations,
            "anomalies": _anomalies,
            "instances": _instances,
            "simulate": _simulate,
        },
        found=FOUND,
        epilog=_EPILOG,
    )


def _fetch(options: argparse.Namespace) -> int:
    """Fetch and save; an earlier save is not replaced by nothing."""
    from obanalytics.store import is_free, is_saved  # noqa: PLC0415

    if not is_free(options.out):
        raise FileExistsError(f"--out {options.out}: holds something else; name a new folder")
    sets = fetched(options, options.instance)
    if not len(sets) and not len(sets.tenants) and is_saved(options.out):
        raise ApiError(f"no backup set was listed; what was saved in {options.out} is kept")
    sets.save(options.out)
    if options.json:
        _print_json(_described(sets) | {"saved": str(options.out)})
    else:
        print(sets)
        print(f"{'saved':<10}{options.out}  (next: obanalytics review {options.out})")
    if sets.source.failed:
        return _fail(f"saved without: {failures(sets)}", NETWORK)
    return FINE


def _described(sets: BackupSets) -> dict[str, Any]:
    """Return what was fetched, for machines."""
    window = sets.window or (None, None)
    return {
        "instances": list(sets.source.instances),
        "failed": dict(sets.source.failed),
        "cluster_sets": len(sets.clusters),
        "tenant_sets": len(sets.tenants),
        "window": [None if bound is None else bound.isoformat() for bound in window],
        "as_of": None if sets.as_of is None else sets.as_of.isoformat(),
        "notes": list(sets.source.notes),
    }


def _sync(options: argparse.Namespace) -> int:
    """Bring an archive up to date."""
    from obanalytics.archivelog import sync_json, unseen  # noqa: PLC0415

    archive = writable(options.archive)
    ids = list(options.instance)
    with make_client(options) as client:
        done = archive.sync(
            client,
            "all" if ids in ([], ["all"]) else ids,
            options.since,
            check_download=options.check_download,
            inventory=not options.no_inventory,
            keep_responses=not options.no_responses,
            deadline=options.deadline,
            resume=options.resume,
            wait=options.wait,
            now=dt.datetime.now(dt.UTC),
            new_endpoint=options.new_endpoint,
            progress=False if options.quiet else None,
        )
    if options.json:
        _print_json(sync_json(options.archive, done))
    elif not options.quiet:
        print(f"{options.archive}: {done}")
    missing = unseen(done)
    for line in missing:
        _fail(f"{options.archive}: {line}", NETWORK)
    return NETWORK if missing else FINE


def _changes(options: argparse.Namespace) -> int:
    """List what happened to the sets of an archive."""
    from obanalytics.archivelog import Asked, change_log, kinds_of  # noqa: PLC0415

    kinds = kinds_of(options.what)
    asked = Asked(options.since, options.until, whole=options.all)
    archive = opened(options.archive)
    found = change_log(archive, options.archive, asked, options.instance, kinds)
    _show(options, found)
    return FINE


def _archive_check(options: argparse.Namespace) -> int:
    """Look whether an archive is sound."""
    from obanalytics.archivelog import check_log  # noqa: PLC0415

    found = check_log(opened(options.archive), options.archive)
    _show(options, found)
    return BAD_DATA if found.errors else FINE


def _archive_compact(options: argparse.Namespace) -> int:
    """Put the facts of an archive together."""
    count = opened(options.archive).compact(wait=options.wait)
    print(f"{options.archive}: {count:,} files now")
    return FINE


def _archive_rebuild(options: argparse.Namespace) -> int:
    """Make the facts of an archive anew."""
    count = opened(options.archive).rebuild(wait=options.wait)
    print(f"{options.archive}: {count:,} facts now, made of the responses")
    return FINE


def _review(options: argparse.Namespace) -> int:
    """Review what is there."""
    import pandas as pd  # noqa: PLC0415 - commands pay for what they use

    from obanalytics.earlier import side_of  # noqa: PLC0415
    from obanalytics.outputs import Beside, check_outputs, write_output  # noqa: PLC0415
    from obanalytics.policy import Policy  # noqa: PLC0415
    from obanalytics.review import review  # noqa: PLC0415

    # A slip in an option or a file is told before anything is fetched.
    check_outputs(options.out)
    policy = None if options.policy is None else Policy.load(options.policy)
    if options.compare is not None:
        side_of(options.compare, options.compare)
    sets = gathered(options)
    found = review(sets, rpo=options.rpo, policy=policy, as_of=looked_from(options))
    compared = None if options.compare is None else found.compare(options.compare)
    beside = Beside(compared, pd.Timestamp(dt.datetime.now(dt.UTC)))
    for path in options.out:
        write_output(found, path, beside)
        print(f"written: {path}", file=sys.stderr)
    if options.json:
        more = {} if compared is None else {"compared": compared.to_json()}
        _print_json(found.to_json() | more)
    else:
        print(found.to_text() + ("" if compared is None else f"\n{compared.to_text()}"), end="")
    if sets.source.failed:
        return _fail(f"reviewed without: {failures(sets)}", NETWORK)
    return FOUND if options.fail_on and found.is_found(options.fail_on) else FINE


def _gaps(options: argparse.Namespace) -> int:
    """List the gaps of what is there."""
    from obanalytics.gaplog import gap_log, terms  # noqa: PLC0415

    # A slip in an option is told before anything is fetched.
    by = terms(
        options.rpo, options.grace, looked_from(options), trust_unknown=options.trust_unknown
    )
    sets = gathered(options)
    found = gap_log(sets, by)
    _show(options, found)
    if sets.source.failed:
        return _fail(f"judged without: {failures(sets)}", NETWORK)
    return FOUND if options.fail_on and found.is_found(options.fail_on) else FINE


def _findings(options: argparse.Namespace) -> int:
    """List the findings of what is there."""
    from obanalytics.findlog import find_log, settled  # noqa: PLC0415

    # A slip in a policy or an option is told before anything is fetched.
    policy, as_of = settled(options.policy, options.rpo, looked_from(options))
    sets = gathered(options)
    found = find_log(sets, policy, as_of)
    _show(options, found)
    if sets.source.failed:
        return _fail(f"judged without: {failures(sets)}", NETWORK)
    return FOUND if options.fail_on and found.is_found(options.fail_on) else FINE


def _dashboard(options: argparse.Namespace) -> int:
    """Explore what is there on a page of this machine."""
    from obanalytics.dashboard import check_extra, run  # noqa: PLC0415
    from obanalytics.findlog import settled  # noqa: PLC0415

    check_extra()
    settled(options.policy, options.rpo, None)  # a slip is told before anything is fetched
    return run(
        gathered(options),
        rpo=options.rpo,
        policy=options.policy,
        port=options.port,
        open_browser=not options.no_open,
    )


def _growth(options: argparse.Namespace) -> int:
    """Tell how fast backups grow."""
    from obanalytics.statlog import growth_told  # noqa: PLC0415

    asked = {
        "by": options.by,
        "as_of": looked_from(options),
        "retention_days": options.retention_days,
        "price_per_gib_month": _price(options.price),
        "free_gib": options.free,
    }
    return _tell(options, growth_told, asked)


def _forecast(options: argparse.Namespace) -> int:
    """Tell how large backups will be."""
    from obanalytics.statlog import forecast_told  # noqa: PLC0415

    names = ("horizon", "level", "threshold", "retention_days", "by")
    asked = {name: getattr(options, name) for name in names} | {"as_of": looked_from(options)}
    return _tell(options, forecast_told, asked)


def _durations(options: argparse.Namespace) -> int:
    """Tell how long backups take."""
    from obanalytics.statlog import durations_told  # noqa: PLC0415

    return _tell(options, durations_told, {"by": options.by, "as_of": looked_from(options)})


def _anomalies(options: argparse.Namespace) -> int:
    """Tell which sets are unlike those before them."""
    from obanalytics.statlog import anomalies_told  # noqa: PLC0415

    return _tell(options, anomalies_told, {"as_of": looked_from(options)})


def _tell(
    options: argparse.Namespace,
    tell: Callable[[BackupSets, dict[str, Any]], Told],
    asked: dict[str, Any],
) -> int:
    """Measure what is there and print it."""
    sets = gathered(options)
    told = tell(sets, asked)
    _show(options, told)
    if sets.source.failed:
        return _fail(f"measured without: {failures(sets)}", NETWORK)
    return FINE


def _price(texts: list[str]) -> float | dict[str, float] | None:
    """Return the price, or the prices by storage class; a ValueError names what is none."""
    prices: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            prices[name] = float(number)
        except ValueError:
            raise ValueError(f"--price {text}: expected 0.02 or standard=0.02") from None
    if "" in prices and len(texts) > 1:
        raise ValueError(f"--price {' '.join(texts)}: give one price, or one by storage class")
    return None if not prices else prices.get("", prices)


def _policy_init(options: argparse.Namespace) -> int:
    """Print or write a policy."""
    from obanalytics.draft import draft  # noqa: PLC0415

    path = None if options.out is None else Path(options.out)
    if path is not None and path.exists():
        raise FileExistsError(f"--out {path}: there is a file already; name a new one")
    text = draft(gathered(options) if options.source or options.archive else None, tz=options.tz)
    if path is None:
        print(text, end="")
        return FINE
    from obanalytics.files import write  # noqa: PLC0415

    write(path, text)
    print(f"written: {path}", file=sys.stderr)
    return FINE


def _policy_check(options: argparse.Namespace) -> int:
    """Say what a policy means."""
    from obanalytics.policy import Policy  # noqa: PLC0415

    policy = Policy.load(options.file)
    if options.json:
        _print_json(policy.to_dict())
    else:
        print(policy)
    return FINE


def _instances(options: argparse.Namespace) -> int:
    """List instances."""
    from obanalytics.lines import aligned  # noqa: PLC0415

    with make_client(options) as client:
        rows = client.instances()
    if options.json:
        _print_json(rows)
        return FINE
    names = ("instanceId", "instanceName", "status", "version", "cloudProvider", "region")
    table = [["instance", "name", "status", "version", "provider", "region"]]
    table += [[_cell(row.get(name)) for name in names] for row in rows]
    print("\n".join(aligned(table, [False] * len(names))))
    print(f"{len(rows)} instances" if len(rows) != 1 else "1 instance", file=sys.stderr)
    return FINE


def _cell(value: object) -> str:
    """Return a value that was sent as text for a terminal, without what would act there."""
    from obanalytics.wording import plain  # noqa: PLC0415

    return "" if value is None else plain(value, 60)


def _demo(options: argparse.Namespace) -> int:
    """Run the main job on a simulator, over real HTTP."""
    from obanalytics import simulator  # noqa: PLC0415
    from obanalytics.client import Client  # noqa: PLC0415
    from obanalytics.dataset import load  # noqa: PLC0415
    from obanalytics.review import review  # noqa: PLC0415

    history = simulator.demo(_now(None), options.seed)
    faults = [
        simulator.Fault("status", page=2, status=503),
        simulator.Fault("cut", page=3),
        simulator.Fault("reset", page=4),
    ]
    # The service may replace a page size that it finds too large without a word: so does this one.
    server = simulator.SimulatorServer(
        history, page_limit=50, over_limit=20, nonce_policy="strict", faults=faults
    )
    client = Client(*simulator.KEY, endpoint=server.url, project_id="demo")
    with server, client:
        sets = load("all", client=client, restorable=True, inventory=True)
    folder = Path(options.out)
    sets.save(folder / "sets")
    found = review(sets, rpo=options.rpo)
    found.to_html(folder / "report.html")
    found.to_markdown(folder / "report.md")
    if options.json:
        _print_json(found.to_json())
        return FINE
    print(_told(server, sets))
    print(found.to_text())
    print(_planted(history))
    for name, what in _SAVED:
        print(f"saved: {folder / name!s:<34}  {what}")
    return FINE


_SAVED = (
    ("report.html", "open it in a browser"),
    ("report.md", "the same as Markdown"),
    ("sets", "read it back: sets = obanalytics.read(…)"),
)


def _told(server: SimulatorServer, sets: BackupSets) -> str:
    """Say what the demonstration did."""
    lists = [r for r in server.requests if r.path.endswith("/backup/data/sets")]
    refused = sum(request.status == 401 for request in server.requests)  # noqa: PLR2004 - HTTP's
    return (
        f"Simulator at {server.url}: {len(server.history.instances)} made-up clusters, a year.\n"
        f"Fetched {len(sets):,} cluster sets with {len(sets.tenants):,} tenant sets over HTTP: "
        f"{len(server.requests)} requests,\n{len(lists)} of them for pages of sets, {refused} to "
        "be given a sign-in nonce. A 503, a cut body and a broken\nconnection were planted on the "
        "way; nothing was lost.\n"
    )


def _planted(history: History) -> str:
    """Say what was planted in the history."""
    names = {
        (instance.instance_id, tenant.tenant_id): tenant.name
        for instance in history.instances
        for tenant in instance.tenants
    }
    lines = ["WHAT WAS PLANTED IN THIS HISTORY (the truth, to compare with what was found)"]
    for fact in sorted(history.truth, key=lambda each: each.start):
        who = "all tenants" if fact.tenant_id is None else names[fact.instance_id, fact.tenant_id]
        lasted = (fact.end - fact.start).total_seconds() / 86400
        length = "" if lasted < 1 else f" for {lasted:.0f} d"
        begin = f"{fact.start:%Y-%m-%d %H:%M} UTC"
        lines.append(f"{begin}{length:<10}  {fact.kind:<8}  {who} · {fact.instance_id}")
    return "\n".join(lines) + "\n"


def _simulate(options: argparse.Namespace) -> int:
    """Serve until interrupted, or write files."""
    from obanalytics import simulator  # noqa: PLC0415

    history = simulator.demo(_now(options.now), options.seed)
    if options.write:
        for path, body in simulator.pages_as_files(history):
            target = Path(options.write) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        print(f"written: {options.write}")
        return FINE
    if options.nonce_policy not in simulator.POLICIES:
        raise ValueError(
            f"no nonce policy {options.nonce_policy!r}; there is: {', '.join(simulator.POLICIES)}"
        )
    server = simulator.SimulatorServer(
        history,
        latency=options.latency,
        algorithm=options.algorithm,
        qop="" if options.no_qop else "auth",
        nonce_policy=options.nonce_policy,
        faults=[_fault(kind) for kind in options.fault],
        port=options.port,
    )
    with server:
        print(_invitation(server, history), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    return FINE


def _fault(kind: str) -> Any:  # noqa: ANN401 - a Fault, which this module imports late
    """Return a fault by its kind, or a status by its number."""
    from obanalytics.simulator import Fault  # noqa: PLC0415

    return Fault("status", status=int(kind)) if kind.isdigit() else Fault(kind)


def _invitation(server: SimulatorServer, history: History) -> str:
    """Say how to try the simulator."""
    first = history.instances[0].instance_id
    from obanalytics.simulator import KEY  # noqa: PLC0415

    return f"""serving {len(history.instances)} made-up clusters at {server.url} (end with Ctrl-C)

export OCEANBASE_ACCESS_KEY_ID={KEY[0]} {SECRET}={KEY[1]}
export OCEANBASE_ENDPOINT={server.url} OCEANBASE_PROJECT_ID=demo
obanalytics instances
obanalytics review {first} --start 2026-05-01

curl --digest -u {":".join(KEY)} -G \\
  {server.url}/api/v2/instances/{first}/backup/data/sets -d pageSize=2"""


def _now(text: str | None) -> dt.datetime:
    """Return the instant that was given, else that of this machine's clock, to the minute [UTC]."""
    if text is None:
        return dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--now is no instant: {text!r} (expected e.g. 2026-05-01)") from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _show(options: argparse.Namespace, found: Any) -> None:  # noqa: ANN401 - what tells itself
    """Print a result as text, or for machines."""
    if options.json:
        _print_json(found.to_json())
    else:
        print(found.to_text(), end="")


def _print_json(value: Any) -> None:  # noqa: ANN401 - any JSON
    """Print a result for machines."""
    is_ascii = (sys.stdout.encoding or "ascii").replace("-", "").lower() != "utf8"
    print(json.dumps(value, indent=1, ensure_ascii=is_ascii, allow_nan=False))


def _show_warning(message: Warning | str, *_: object) -> None:
    """Print a warning as one line."""
    print(f"obanalytics: warning: {_one_line(str(message))}", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    """Print an error as one line and return the exit code."""
    print(f"obanalytics: {_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """Return a message as one line, without what would act in a terminal."""
    line = " ".join(message.split())
    if line.isprintable():
        return line
    from obanalytics.wording import plain  # noqa: PLC0415 - pandas, for the few that need it

    return plain(line)


def _code_of(error: ObanalyticsError) -> int:
    """Return the exit code of an error of ours."""
    is_busy = isinstance(error, ArchiveError) and error.retryable
    if is_busy or isinstance(error, ApiError | AuthenticationError | PagingError):
        return NETWORK
    return USAGE if type(error).__name__ in _USAGE_ERRORS else BAD_DATA


_USAGE_ERRORS = {"CredentialsError", "MissingExtraError"}
