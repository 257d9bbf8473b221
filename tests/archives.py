"""A service without HTTP for tests of the archive, and a slow oracle of what one should know."""

from __future__ import annotations

import copy
import datetime as dt
import email.utils
import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake  # noqa: F401 - children find it loaded
import filelock  # noqa: F401
import pandas as pd

import obanalytics as ob
from obanalytics import simulator, syncing
from obanalytics.client import Page
from obanalytics.errors import ApiError
from obanalytics.transport import Reply
from obanalytics.wire import decode_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Rows = list[dict[str, Any]]
Key = tuple[str, str, str | None, str, str | None]  # level, instance, tenant, set, storage class
END = dt.datetime(2026, 11, 1, 6, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
EDITS = ("hide", "show", "move", "spoil", "unstart", "extra", "grow", "rename", "drop")
PLANTS = (
    simulator.Plant("dropped", 0, 1, 20.0),
    simulator.Plant("created", 1, 0, 22.0),
    simulator.Plant("renamed", 1, 1, 18.0),
    simulator.Plant("failed", 0, None, 24.2, 2.0),
    simulator.Plant("missing", 1, 1, 26.2, 3.0),
    simulator.Plant("stuck", 0, None, 21.2, 1.0, 200.0),
)


def past(**changes: Any) -> simulator.History:
    """Make a small history with tenants that come, go and change their name."""
    wanted = {"now": END, "seed": 5, "days": 45, "instances": 3, "tenants": 2}
    wanted |= {"retention_days": 7, "plants": PLANTS}
    return simulator.simulate(simulator.Scenario(**wanted | changes))


@dataclass
class Service:
    """Answer as the service would: a `Client` as far as `load` and `sync` look.

    The rows come from `rows_of(instance_id, now)`; edits change single sets of them.
    """

    ids: list[str]
    rows_of: Callable[[str, dt.datetime], Rows]
    now: dt.datetime
    page_size: int = 10
    dated: bool = True
    failing: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    """Instances whose sets list no tenants."""
    edits: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    tenants_of: dict[str, list[str]] = field(default_factory=dict)
    """Who lists other tenants than t1."""
    silent: set[str] = field(default_factory=set)
    """Instances that do not say which tenants they have."""
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], object] = lambda _: None
    """Called before an instance is answered; may raise."""
    endpoint: str = "http://127.0.0.1:1"

    def instances(self) -> Rows:
        return [{"instanceId": each, "instanceName": each} for each in self.ids]

    def tenants(self, instance_id: str) -> Rows:
        if instance_id in self.silent:
            raise ApiError(f"tenants of {instance_id} are a secret")
        names = self.tenants_of.get(instance_id, ["t1"])
        return [{"tenantId": each, "tenantName": f"{each} of {instance_id}"} for each in names]

    def side_by_side(self, call: Callable[[str], Any], ids: Iterable[str]) -> list[Any]:
        made: list[Any] = []
        for each in ids:
            try:
                made.append(call(each))
            except ApiError as error:
                made.append(error)
        return made

    def listing(self, instance_id: str, start: Any = None) -> Rows:
        """Return what an instance lists now; of a window, as a server that heeds the start."""
        rows = copy.deepcopy(self.rows_of(instance_id, self.now))
        shown = []
        for row in rows:
            changes = self.edits.get((instance_id, row["backupSetId"]), {})
            if changes.get("hide"):
                continue
            shown.append(self._edited(row, changes))
            if instance_id in self.bare:
                shown[-1]["tenantBackupSetList"] = []
        if start is None:
            return shown
        text = pd.Timestamp(start).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [row for row in shown if (row["startTime"] or "") >= text]

    def _edited(self, row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        children = row["tenantBackupSetList"] or []
        if changes.get("drop") and len(children) > 1:
            del children[0]
        for each in (row, *children):
            if changes.get("move"):
                each["storageClass"] = "archive"
            if changes.get("unstart"):
                each["startTime"] = None
            if changes.get("extra"):
                each["newField"] = {"seen": changes["extra"]}
            each["dataBackupSize"] = round(each["dataBackupSize"] + changes.get("grow", 0), 2)
        for child in children:
            child["tenantName"] = self.names.get(child["tenantId"], child["tenantName"])
            if changes.get("spoil") and child["validity"] is not None:
                child["validity"] = "INVALID"
        return row

    def edit(self, kind: str, instance: int, place: int) -> None:
        """Change one of the sets that an instance lists, by its place from the newest."""
        instance_id = self.ids[instance % len(self.ids)]
        if kind == "show":
            for changes in self.edits.values():
                changes.pop("hide", None)
            return
        rows = self.listing(instance_id)
        if not rows:
            return
        row = rows[place % len(rows)]
        changes = self.edits.setdefault((instance_id, row["backupSetId"]), {})
        if kind == "rename" and row["tenantBackupSetList"]:
            child = row["tenantBackupSetList"][0]
            self.names[child["tenantId"]] = f"{child['tenantName']}x"
        elif kind in {"grow", "extra"}:
            changes[kind] = changes.get(kind, 0) + 1
        else:
            changes[kind] = not changes.get(kind)

    def walk(
        self,
        instance_ids: Iterable[str],
        start: Any = None,
        end: Any = None,
        *,
        check_download: bool = False,
        on_page: Callable[[str, int, int], object] | None = None,
        until: float | None = None,
    ) -> Iterator[tuple[str, list[Page] | ApiError]]:
        assert end is None
        for instance_id in instance_ids:
            self.asked.append(instance_id)
            self.before(instance_id)
            if until is not None and syncing.monotonic() > until:
                return
            if instance_id in self.failing:
                yield instance_id, ApiError(f"{instance_id} is not in the mood")
                continue
            pages = self.pages(self.listing(instance_id, start), instance_id, check_download)
            for number, _ in enumerate(pages, 1):
                if on_page is not None:
                    on_page(instance_id, number, len(pages))
            yield instance_id, pages

    def pages(self, rows: Rows, instance_id: str, check_download: bool) -> list[Page]:  # noqa: FBT001
        """Write rows as bodies, and read them as the client does."""
        if check_download:
            for row in rows:
                for each in (row, *(row["tenantBackupSetList"] or ())):
                    each["downloadEnabled"] = each["status"] == "DONE"
        said = {"Date": email.utils.format_datetime(self.now, usegmt=True)} if self.dated else {}
        size = self.page_size
        made = []
        for number, at in enumerate(range(0, max(len(rows), 1), size), 1):
            body = simulator.page_bytes(rows[at : at + size], len(rows))
            reply = Reply(200, said, body, f"request-{number}")
            made.append(Page(instance_id, number, decode_page(body).sets, len(rows), reply))
        return made


def service(history: simulator.History, now: dt.datetime = END, **changes: Any) -> Service:
    """Serve a history without HTTP."""
    ids = [each.instance_id for each in history.instances]
    return Service(ids, history.sets, now, **changes)


def fleet(count: int, now: dt.datetime = END) -> Service:
    """Serve many instances of one small set each."""

    def rows_of(instance_id: str, at: dt.datetime) -> Rows:  # noqa: ARG001 - it stands still
        return [set_row(f"bak-{instance_id}", now - DAY, ["t1"])]

    return Service([f"ob{number:04}" for number in range(count)], rows_of, now)


def set_row(set_id: str, start: dt.datetime, tenants: Iterable[str] = (), **own: Any) -> Any:
    """Return a cluster set of some tenants, as the API lists it."""
    begin, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (start, start + DAY / 24))
    common = {
        "backupMode": "PHYSICAL_BACKUP",
        "checkpoint": end,
        "dataBackupMode": "FULL_BACKUP",
        "dataBackupSize": 10.0,
        "downloadEnabled": False,
        "downloadTaskId": -1,
        "endTime": end,
        "startTime": begin,
        "status": "DONE",
        "storageClass": "standard",
        "triggerMode": "SCHEDULED",
        "validity": "VALID",
    } | own
    children = [
        common
        | {
            "backupObjectType": "TENANT",
            "backupSetId": f"{set_id}-{tenant}",
            "dataVersion": 123000325,
            "tenantId": tenant,
            "tenantName": tenant.upper(),
        }
        for tenant in tenants
    ]
    return common | {
        "backupObjectType": "CLUSTER",
        "backupSetId": set_id,
        "dataVersion": 1,
        "tenantBackupSetList": children,
        "tenantId": "sys",
        "tenantName": "*",
    }


# --- the oracle ----------------------------------------------------------------------------------

_OWN = ("tenantBackupSetList",)
# What changes() calls each field of the API.
_FIELDS = {
    "status": "status",
    "validity": "validity",
    "startTime": "start_time",
    "endTime": "end_time",
    "checkpoint": "checkpoint",
    "dataBackupSize": "size_gib",
    "tenantName": "tenant_name",
    "dataBackupMode": "data_backup_mode",
    "triggerMode": "trigger_mode",
    "newField": "extra",
    "tenant_sets": "tenant_sets",
}


@dataclass
class Known:
    """What an archive should know of one set."""

    row: dict[str, Any]
    begun: str | None
    first_seen: dt.datetime
    gone_time: dt.datetime | None = None


class Oracle:
    """Follow the listings one by one, with dictionaries."""

    def __init__(self) -> None:
        self.known: dict[Key, Known] = {}
        self.events: list[tuple[Any, ...]] = []
        self.seen: dict[str, dt.datetime] = {}

    def start(self, instance_id: str, since: dt.datetime | None) -> dt.datetime | None:
        """Return from when on an instance must be asked, so that no time is left out."""
        last = self.seen.get(instance_id)
        return since if since is None or last is None or since <= last else last - 2 * DAY

    def look(self, seen: dt.datetime, wanted: dt.datetime | None, answers: dict[str, Rows]) -> None:
        """Take in what some instances list at an instant, asked from `wanted` on or earlier."""
        said: list[tuple[Any, ...]] = []
        for instance_id, rows in answers.items():
            since = self.start(instance_id, wanted)
            self.seen[instance_id] = seen
            there = dict(_flat(instance_id, rows))
            came: dict[Key, str] = {}
            for key, (row, begun) in there.items():
                old = self.known.get(key)
                if old is None:
                    came[key] = "new"
                    self.known[key] = Known(row, begun, seen)
                    continue
                if old.gone_time is not None:
                    came[key] = "back"
                else:
                    fields = [n for a, n in _FIELDS.items() if old.row.get(a) != row.get(a)]
                    said += [(seen, *key, "changed", name) for name in fields]
                self.known[key] = Known(row, begun, old.first_seen)
            for key, old in list(self.known.items()):
                if key[1] != instance_id or key in there or old.gone_time is not None:
                    continue
                if since is not None and (
                    old.begun is None
                    or old.row["endTime"] is None
                    or dt.datetime.fromisoformat(old.begun) < since
                ):
                    continue  # not asked, or not surely
                old.gone_time = seen
                others = [k for k in there if k[:4] == key[:4]]
                what = ("moved", "storage_class") if others else ("gone", None)
                said.append((seen, *key, *what))
                for other in others:
                    came.pop(other, None)
            said += [(seen, *key, what, None) for key, what in came.items()]
        self.events += said

    def state(self) -> dict[Key, tuple[dt.datetime, dt.datetime | None]]:
        """Return when each set was first seen and when it went."""
        return {key: (each.first_seen, each.gone_time) for key, each in self.known.items()}


def _flat(instance_id: str, rows: Rows) -> Iterator[tuple[Key, tuple[dict[str, Any], str | None]]]:
    """Yield every set of both levels with the start of its cluster set."""
    for row in rows:
        children = row["tenantBackupSetList"]
        own = {**row, "tenant_sets": len(children)}
        begun = row["startTime"]
        key = ("cluster", instance_id, "sys", row["backupSetId"], row["storageClass"])
        yield key, (own, begun)
        for child in children:
            ids = (child["tenantId"], child["backupSetId"], child["storageClass"])
            yield ("tenant", instance_id, *ids), (child, begun or child["startTime"])


def state_of(sets: ob.BackupSets) -> dict[Key, tuple[dt.datetime, dt.datetime | None]]:
    """Return what `Oracle.state` does, of an archive; without cluster sets that stand in."""
    found = {}
    for level, frame in (("cluster", sets.clusters), ("tenant", sets.tenants)):
        names = ["instance_id", "tenant_id", "backup_set_id", "storage_class"]
        text = frame[names].astype("object")
        rows = zip(*(text[n] for n in names), frame["first_seen"], frame["gone_time"], strict=True)
        for instance_id, tenant, set_id, storage, first, gone in rows:
            if level == "tenant" and tenant == "sys":
                continue
            key = (level, instance_id, tenant, set_id, storage)
            assert key not in found, f"{key} is there twice"
            went = None if pd.isna(gone) else gone.to_pydatetime()
            found[key] = (first.to_pydatetime(), went)
    return found


def events_of(changes: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the events of `Archive.changes` as the oracle writes them."""
    names = ["level", "instance_id", "tenant_id", "backup_set_id", "storage_class", "what", "field"]
    plain = changes[names].astype("object").where(changes[names].notna(), None)
    seen = [each.to_pydatetime().astimezone(dt.UTC) for each in changes["seen"]]
    return [(at, *row) for at, row in zip(seen, plain.itertuples(index=False), strict=True)]


# --- frames --------------------------------------------------------------------------------------


def present(sets: ob.BackupSets, instances: Iterable[str] | None = None) -> list[pd.DataFrame]:
    """Return both frames less what was gone, without what only an archive knows."""
    made = []
    for frame in (sets.clusters, sets.tenants):
        part = frame
        if "gone_time" in frame:
            part = frame[frame["gone_time"].isna()].drop(columns=["first_seen", "gone_time"])
        if instances is not None:
            part = part[part["instance_id"].isin(list(instances))]
        part = part.reset_index(drop=True)
        for name in part.select_dtypes("category"):
            if name != "state":
                # Where cluster sets stand in, a fresh load's categories are in no order.
                words = part[name].cat.remove_unused_categories().cat
                part[name] = words.reorder_categories(sorted(words.categories))
        made.append(part)
    return made


def assert_same_frames(one: ob.BackupSets, other: ob.BackupSets) -> None:
    """Check that two loads returned the same, to the dtype and the category."""
    for name in ("clusters", "tenants"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def errors_of(problems: pd.DataFrame) -> list[str]:
    """Return what `Archive.check` calls an error."""
    bad = problems[problems["severity"] == "error"]
    return [f"{file}: {what}" for file, what in zip(bad["file"], bad["problem"], strict=True)]


# --- other processes -----------------------------------------------------------------------------

STEP = DAY / 2
BEGIN = END - 40 * DAY


def moment(number: int) -> dt.datetime:
    """Return the instant of a step of the story that the other processes play."""
    return BEGIN + number * STEP


def played(instances: int = 3) -> list[dict[Key, tuple[dt.datetime, dt.datetime | None]]]:
    """Return what an archive should know after each step of the story."""
    history, oracle, states = past(instances=instances), Oracle(), []
    for number in range(80):
        told = service(history, moment(number))
        oracle.look(told.now, None, {each: told.listing(each) for each in told.ids})
        states.append(oracle.state())
    return states


def _sync(
    folder: str, first: int, count: int, batch: int, *, tidy: int = 0, wait: str = "0s"
) -> None:
    """Play steps of the story, and tell of each that is kept."""
    syncing.BATCH_INSTANCES = batch
    told, archive = service(past()), ob.Archive(folder)
    for number in range(first, first + count):
        told.now = moment(number)
        archive.sync(told, "all", wait=wait)
        _say(f"kept {number}")
        if tidy and number % tidy == 0:
            archive.compact(1 + number % 3, wait=wait)


def _limited(folder: str, number: int, most: int, what: str) -> None:
    """Do something while no file may be longer than so many bytes."""
    import resource  # noqa: PLC0415 - not every system has it

    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    archive = ob.Archive(folder)
    try:
        if what == "sync":
            archive.sync(service(past(), moment(number)), "all")
        else:
            getattr(archive, what)()
    except Exception as error:  # noqa: BLE001 - the test judges it
        _say(f"{type(error).__name__}: {error}")
    else:
        _say("no error")


def _hold(folder: str, number: int, gate: str) -> None:
    """Play a step, and wait in the middle of it until a file appears."""
    told = service(past(), moment(number))

    def before(_: str) -> None:
        _say("inside")
        told.before = lambda _: None
        while not os.path.exists(gate):  # noqa: PTH110 - as cheap as can be
            time.sleep(0.005)

    told.before = before
    ob.Archive(folder).sync(told, "all")
    _say("kept")


def _share(folder: str, ids: list[str], rounds: int) -> None:
    """Sync some instances of a fleet again and again, and wait for whoever else does."""
    told = fleet(9)
    for number in range(rounds):
        told.now = END + number * DAY
        ob.Archive(folder).sync(told, ids, wait="60s")
        _say("kept")


_JOBS = {"sync": _sync, "limited": _limited, "hold": _hold, "share": _share}


def _say(text: str) -> None:
    """Write a line in one piece: several processes write to the same pipe."""
    os.write(1, (" ".join(text.split())[:2000] + "\n").encode())


def serve() -> None:
    """Fork a child per job; everything has been imported, and nothing was started yet."""
    for line in sys.stdin:
        children = []
        for name, arguments, options in json.loads(line):
            child = os.fork()
            if child == 0:
                _say(f"pid {os.getpid()}")
                code = 1
                try:
                    _JOBS[name](*arguments, **options)
                    code = 0
                except BaseException:  # noqa: BLE001 - the test hears of it
                    _say(f"broke {traceback.format_exc()[-1500:]}")
                finally:
                    os._exit(code)
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        _say(f"ended {codes}")


class Others:
    """A process that forks others, each in a few milliseconds."""

    def __init__(self) -> None:
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from tests.archives import serve; serve()"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, *jobs: tuple[str, list[Any], dict[str, Any]]) -> None:
        """Fork a child per job."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Return the next line that one of them says."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().rstrip("\n")
        assert said, "the process that forks is gone"
        assert not said.startswith("broke"), said
        return said

    def rest(self) -> list[str]:
        """Return what they say until all have ended."""
        said = []
        while not (line := self.line()).startswith("ended"):
            said.append(line)
        return said

    def close(self) -> None:
        """End the process that forks."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait(20)
