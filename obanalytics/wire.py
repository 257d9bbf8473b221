"""Give the API's JSON its typed shape, and decode it once, for paging and for flattening."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias, cast

import msgspec
import numpy as np

from obanalytics.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Only text can be a time; a plain 0 is what an unfinished set may carry instead of one.
Time: TypeAlias = str | int | None
# More new field names than this and a page pays for its own decoder: names made of ids would
# otherwise grow the shared one without end.
MAX_SHARED_EXTRAS = 64
# A field with more words than this takes any text.
MAX_WORDS = 32
# Characters of an impossible value that an error message shows.
MAX_SHOWN = 80
# Characters of the server's own message, or of a body that is none of its own.
MAX_EXCERPT = 200


Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

NO_TIME = int(np.iinfo(np.int64).min)
"""What stands for no time among integers, as in numpy."""
_UNIX = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_REAL_TIME = (dt.datetime(1971, 1, 1, tzinfo=dt.UTC) - _UNIX) // dt.timedelta(microseconds=1)


class SetRow(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """What a cluster backup set and a tenant backup set have in common.

    Every field is optional, so that null and absent are alike; numbers are strict; times, ids and
    names stay text until whole columns of them are read at once.
    """

    # (attribute, API name) of the fields that this version does not know, see `_row_type`.
    extra_fields: ClassVar[tuple[tuple[str, str], ...]] = ()

    # The fields of few distinct values come first: flattening takes them as one slice, see LABELS.
    tenant_id: str | None = None
    tenant_name: str | None = None
    data_backup_mode: str | None = None
    status: str | None = None
    validity: str | None = None
    backup_mode: str | None = None
    backup_object_type: str | None = None
    trigger_mode: str | None = None
    storage_class: str | None = None
    data_version: int | None = None
    download_enabled: bool | None = None
    download_task_id: int | None = None
    backup_set_id: str | None = None
    checkpoint: Time = None
    data_backup_size: float | None = None
    end_time: Time = None
    start_time: Time = None

    def extra(self) -> str | None:
        """Return the unknown fields as JSON text, or None where there are none."""
        parts = [
            f"{json.dumps(name, ensure_ascii=False)}:{bytes(raw).decode()}"
            for attribute, name in self.extra_fields
            if (raw := getattr(self, attribute))
        ]
        return "{" + ",".join(parts) + "}" if parts else None


LABELS = SetRow.__struct_fields__[:12]
"""The fields of few distinct values, in the order of a row's tuple."""


class TenantSet(SetRow, rename="camel", gc=False, kw_only=True, forbid_unknown_fields=True):
    """One tenant's backup set; it holds no sets of its own."""

    tenant_backup_set_list: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


class ClusterSet(SetRow, rename="camel", gc=False, kw_only=True, forbid_unknown_fields=True):
    """One top-level row: a cluster backup set with its tenant sets, or a tenant set by itself."""

    tenant_backup_set_list: list[TenantSet] | None = None


class SetsPage(NamedTuple):
    """One decoded page of the list of backup sets."""

    sets: list[ClusterSet]
    total: object
    """What the server says the whole list holds, as it came."""
    success: bool | None
    """The envelope's `success`; None where it was absent."""
    has_data: bool
    """Whether the response had a payload: a `data` key, or the sets themselves."""
    error: str | None
    """The envelope's error code and message, when it had either."""
    request_id: str | None


def decode_page(body: bytes, *, instance_id: str | None = None, where: str = "") -> SetsPage:
    """Decode one response of the list of backup sets, or a file in which one was saved.

    Besides the envelope of the list (`data.dataList`, `data.total`) this takes the envelope of a
    single set, the payload without its envelope, a bare list of sets, and one set by itself.

    Parameters
    ----------
    body : bytes
        The JSON text.
    instance_id : str or None
        The instance, for error messages.
    where : str
        The page or file, for error messages, such as ``page 3``.

    Returns
    -------
    SetsPage
        The top-level rows and what the envelope says.

    Raises
    ------
    DataError
        When the body is no JSON, holds nothing known, or a known field has an impossible type; the
        message names instance, page, set, field and value.
    """
    try:
        return _decode(body, instance_id, where)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(
            f"{_place(instance_id, where)}: not JSON: {error} ({len(body)} bytes, beginning "
            f"{body[:60]!r})",
            instance_id=instance_id,
        ) from None


class _Vocabulary(NamedTuple):
    """What the pages so far have taught: unknown fields, and the words of fields that hold few.

    A known word is decoded to one and the same string each time, which is faster to make, to hash
    and to compare. A field that turns out to hold many words takes any.
    """

    extras: frozenset[str] = frozenset()
    words: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: object) -> _Vocabulary:
        """Return both."""
        extras, words = cast("_Vocabulary", other)
        return _Vocabulary(self.extras | extras, self.words | words)


def _decode(body: bytes, instance_id: str | None, where: str) -> SetsPage:
    """Decode with what is known so far; meet new fields and words by learning them once."""
    known = _shared
    while True:
        try:
            return _unwrap(_decoders(known).top.decode(body), body, known)
        except msgspec.ValidationError as error:
            is_new = str(error).startswith(("Object contains unknown field", "Invalid enum value"))
            found = known | _taught_by(body) if is_new else known
            if found == known:
                raise _located(str(error), body, instance_id, where) from None
            known = _remember(found)


class _Payload(msgspec.Struct, rename="camel", gc=False):
    """What `data` holds for the list of sets; `rows` has the type of this version's decoder."""

    data_list: list[ClusterSet] | msgspec.UnsetType | None = msgspec.UNSET
    total: Any = None
    backup_set_id: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct, rename="camel", gc=False):
    """What every response is wrapped in, and the payload's own keys for files without it."""

    data: _Payload | list[ClusterSet] | msgspec.UnsetType | None = msgspec.UNSET
    success: Any = None
    error_code: Any = None
    error_message: Any = None
    request_id: Any = None
    data_list: list[ClusterSet] | msgspec.UnsetType | None = msgspec.UNSET
    total: Any = None
    backup_set_id: msgspec.Raw = msgspec.Raw(b"")


class _SingleSet(msgspec.Struct):
    """The envelope of one set."""

    data: ClusterSet


class _Decoders(NamedTuple):
    """The decoders that know one collection of new field names."""

    top: msgspec.json.Decoder[Any]
    single: msgspec.json.Decoder[Any]
    bare: msgspec.json.Decoder[Any]


# Attribute -> API name, and the words to begin with.
_WORDED: dict[str, tuple[str, ...]] = {
    "data_backup_mode": ("dataBackupMode", "FULL_BACKUP", "INCREMENTAL_BACKUP"),
    "status": ("status", "DONE", "DOING", "FAILED", "CANCELED"),
    "validity": ("validity", "VALID"),
    "backup_mode": ("backupMode", "PHYSICAL_BACKUP"),
    "backup_object_type": ("backupObjectType", "CLUSTER", "TENANT"),
    "trigger_mode": ("triggerMode", "BACKUP_NOW"),
    "storage_class": ("storageClass", "standard", "archive"),
    "tenant_id": ("tenantId", "sys"),
    "tenant_name": ("tenantName", "*"),
}
_shared = _Vocabulary(words=frozenset((n, w) for n, (_, *words) in _WORDED.items() for w in words))


def _remember(known: _Vocabulary) -> _Vocabulary:
    """Keep what was learned for the next pages, unless it is too much to be names of fields.

    Of a field with too many words no more are kept than tell that it has.
    """
    global _shared  # noqa: PLW0603 - a cache: results do not depend on it
    known |= _shared  # another thread may have learned as well
    of_field = (sorted(w for n, w in known.words if n == name) for name in _WORDED)
    kept = zip(_WORDED, of_field, strict=True)
    words = frozenset((name, word) for name, words in kept for word in words[: MAX_WORDS + 1])
    known = _Vocabulary(known.extras, words)
    if len(known.extras) <= MAX_SHARED_EXTRAS:
        _shared = known
    return known


@lru_cache(maxsize=16)
def _decoders(known: _Vocabulary) -> _Decoders:
    """Build the decoders that take the given unknown fields as raw JSON, and the given words."""
    tenant = _row_type(TenantSet, known, [])
    nested = ("tenant_backup_set_list", list[tenant] | None, None)  # type: ignore[valid-type]
    cluster = _row_type(ClusterSet, known, [nested])
    data_list = ("data_list", list[cluster] | msgspec.UnsetType | None, msgspec.UNSET)  # type: ignore[valid-type]
    payload = msgspec.defstruct("Payload", [data_list], bases=(_Payload,), rename="camel", gc=False)
    data = ("data", payload | list[cluster] | msgspec.UnsetType | None, msgspec.UNSET)  # type: ignore[valid-type]
    envelope = msgspec.defstruct(
        "Envelope", [data, data_list], bases=(_Envelope,), rename="camel", gc=False
    )
    single = msgspec.defstruct("SingleSet", [("data", cluster)], bases=(_SingleSet,))
    return _Decoders(
        msgspec.json.Decoder(envelope | list[cluster]),  # type: ignore[valid-type]
        msgspec.json.Decoder(single),
        msgspec.json.Decoder(cluster),
    )


def _row_type(base: type[Any], known: _Vocabulary, fields: list[Any]) -> type[Any]:
    """Return a row type that knows a vocabulary."""
    names = {f"extra_{number}": name for number, name in enumerate(sorted(known.extras))}
    raw = [(attribute, msgspec.Raw, msgspec.Raw(b"")) for attribute in names]
    worded = []
    for attribute in _WORDED:
        words = tuple(sorted(word for name, word in known.words if name == attribute))
        if len(words) <= MAX_WORDS:
            worded.append((attribute, Literal[words] | None, None))
    encoded = {f.name: f.encode_name for f in msgspec.structs.fields(base)}
    return msgspec.defstruct(
        base.__name__,
        fields + worded + raw,
        bases=(base,),
        rename=encoded | names,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=True,
        namespace={"extra_fields": tuple(names.items())},
    )


def _unwrap(top: _Envelope | list[ClusterSet], body: bytes, known: _Vocabulary) -> SetsPage:
    """Find the rows in any of the shapes that hold them."""
    if isinstance(top, list):
        return SetsPage(top, None, success=None, has_data=True, error=None, request_id=None)
    payload, total = top.data, None
    rows: object = payload
    if isinstance(payload, _Payload):
        rows, total = payload.data_list, payload.total
        if payload.backup_set_id:
            rows = [_decoders(known).single.decode(body).data]
    elif top.backup_set_id:
        rows = [_decoders(known).bare.decode(body)]
    elif payload is msgspec.UNSET:
        rows, total = top.data_list, top.total
    return SetsPage(
        rows if isinstance(rows, list) else [],
        total,
        success=top.success if isinstance(top.success, bool) else None,
        has_data=rows is not msgspec.UNSET,
        error=" ".join(str(part) for part in (top.error_code, top.error_message) if part) or None,
        request_id=top.request_id if isinstance(top.request_id, str) else None,
    )


def _rows_of(document: object) -> list[Any]:
    """Find the top-level rows in a document decoded without types."""
    if isinstance(document, dict):
        payload = document.get("data", document)
        document = payload.get("dataList", [payload]) if isinstance(payload, dict) else payload
    return document if isinstance(document, list) else []


def _taught_by(body: bytes) -> _Vocabulary:
    """Collect the field names and words on a page's rows."""
    encoded = {f.encode_name for f in msgspec.structs.fields(ClusterSet)}
    names: set[str] = set()
    words: set[tuple[str, str]] = set()
    for row in _rows_of(_untyped(body)):
        nested = row.get("tenantBackupSetList") if isinstance(row, dict) else None
        for each in [row, *(nested if isinstance(nested, list) else [])]:
            if isinstance(each, dict):
                names.update(each)
                pairs = ((name, each.get(field)) for name, (field, *_) in _WORDED.items())
                words.update((name, word) for name, word in pairs if isinstance(word, str))
    return _Vocabulary(frozenset(names - encoded), frozenset(words))


def _untyped(body: bytes) -> object:
    """Decode without types, to look for what the typed decoder tripped over."""
    return msgspec.json.decode(body)


def _place(instance_id: str | None, where: str) -> str:
    """Name the place of a fault as far as it is known."""
    parts = [f"instance {instance_id}" if instance_id else "", where]
    return ", ".join(part for part in parts if part) or "response"


_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def _located(message: str, body: bytes, instance_id: str | None, where: str) -> DataError:
    """Turn a decoder's message with its path into ours, with set, field and value."""
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "$") if match else (message, "$")
    value, set_id, field = _look_up(_untyped(body), path)
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "..."
    parts = [_place(instance_id, where), f"set {set_id}" if set_id else "", f"field {field}"]
    return DataError(
        f"{', '.join(part for part in parts if part)}: impossible value {shown}: "
        f"{what.replace('`', '')} (at {path})",
        instance_id=instance_id,
    )


def _look_up(document: object, path: str) -> tuple[object, str | None, str]:
    """Return the value at a decoder's path, the id of the innermost set on the way, the field."""
    set_id, field = None, "(top level)"
    value: Any = document
    for name, index in _STEP.findall(path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            break
        field = name or field
        if isinstance(value, dict) and isinstance(value.get("backupSetId"), str):
            set_id = value["backupSetId"]
    return value, set_id, field


def decode_envelope(body: bytes) -> dict[str, Any]:
    """Decode a response of which nothing is known but its envelope.

    Parameters
    ----------
    body : bytes
        The JSON text.

    Returns
    -------
    dict
        The envelope.

    Raises
    ------
    DataError
        When the body is no JSON object.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"not JSON: {error}: {envelope_error(body)[1]!r}") from None
    if not isinstance(document, dict):
        raise DataError("the answer is no envelope with data in it")
    return document


def count_of(total: object) -> int | None:
    """Return the server's count of a list; None where there is none, or none that can be.

    Parameters
    ----------
    total : object
        The `total` as it came.

    Returns
    -------
    int or None
        The count.
    """
    if isinstance(total, str) and total.isdecimal() and len(total) < 20:  # noqa: PLR2004 - 64 bits
        total = int(total)
    is_count = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    return total if is_count else None  # type: ignore[return-value]


def envelope_error(body: bytes) -> tuple[str | None, str]:
    """Return the error code and message that a body holds, in any of the shapes seen.

    Parameters
    ----------
    body : bytes
        A response's body.

    Returns
    -------
    code : str or None
        The `errorCode`.
    message : str
        The message, or the beginning of a body that is no envelope.
    """
    document = _object(body)
    if document is None:
        return None, " ".join(body[:MAX_EXCERPT].decode(errors="replace").split())
    code = document.get("errorCode")
    named = (document.get(name) for name in ("errorMessage", "message", "msg"))
    message = next((str(text) for text in named if text), "")
    return None if code is None else str(code), message[:MAX_EXCERPT]


def envelope_request_id(body: bytes) -> str | None:
    """Return the server's own id of a request, for its support to look up.

    Parameters
    ----------
    body : bytes
        A response's body.

    Returns
    -------
    str or None
        The `requestId`; None where there is none.
    """
    found = (_object(body) or {}).get("requestId")
    return found[:MAX_EXCERPT] if isinstance(found, str) and found else None


def _object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a body is; None where it is none."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return document if isinstance(document, dict) else None


class FieldError(Exception):
    """A field holds what its column cannot; the place is known to the caller.

    Parameters
    ----------
    name : str
        The field's attribute, or `time` for any of the three times.
    value : object
        What it holds; None where it is missing.
    """

    def __init__(self, name: str, value: object) -> None:
        super().__init__(name, value)
        self.name = name
        self.value = value


def parse_times(texts: Sequence[Time]) -> tuple[Integers, int]:
    """Read the API's times.

    Takes `YYYY-MM-DDThh:mm:ssZ`, offsets with and without colon, fractions, the quoted
    ``'T'`` … ``'Z'`` form, and times without a zone, which are read as UTC. What is empty, zero or
    in 1970 or before is no time.

    Parameters
    ----------
    texts : sequence of str, int or None
        The times as they came.

    Returns
    -------
    times : ndarray of int64
        Since 1970 [µs, UTC]; `NO_TIME` where there is none.
    zoneless : int
        How many of them had no zone.

    Raises
    ------
    FieldError
        When one is no time; holds the value.
    """
    import pyarrow as pa  # noqa: PLC0415 - 0.1 s, and paging does without

    zoneless = 0
    try:
        read = pa.array(texts, pa.string()).cast(pa.timestamp("us", "UTC"))
        times = read.to_numpy(zero_copy_only=False).view(np.int64)  # NaT is NO_TIME
        times = times if times.flags.writeable else times.copy()
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        found = [_parse_one(text) for text in texts]
        times = np.array([time for time, _ in found], np.int64)
        zoneless = sum(1 for time, has_zone in found if time >= _FIRST_REAL_TIME and not has_zone)
    times[times < _FIRST_REAL_TIME] = NO_TIME
    return times, zoneless


@lru_cache(maxsize=65536)
def _parse_one(text: Time) -> tuple[int, bool]:
    """Read one time of any of the forms that were seen, and tell whether it had a zone."""
    if not text:
        return NO_TIME, True
    if not isinstance(text, str):
        raise FieldError("time", text)
    plain = text.replace("'", "").strip()
    if not plain.strip("0") or plain.startswith("0000"):
        return NO_TIME, True
    try:
        moment = dt.datetime.fromisoformat(plain)
        has_zone = moment.tzinfo is not None
        moment = moment if has_zone else moment.replace(tzinfo=dt.UTC)
        return (moment - _UNIX) // dt.timedelta(microseconds=1), has_zone
    except (ValueError, OverflowError):
        raise FieldError("time", text) from None


STATE_OF_STATUS = {
    **dict.fromkeys(("DONE", "COMPLETED", "SUCCESS", "SUCCESSFUL"), "done"),
    **dict.fromkeys(("BEGINNING", "INIT", "INITIALIZING", "DOING", "RUNNING"), "running"),
    **dict.fromkeys(("CANCELING", "CANCELLING"), "running"),
    "FAILED": "failed",
    **dict.fromkeys(("CANCELED", "CANCELLED"), "cancelled"),
    "OVERDUE": "expired",
}
# The engine's phases of a running job, such as BACKUP_DATA_MINOR or BEFORE_BACKUP_LOG.
_PHASE = re.compile(r"BACKUP_(SYS|USER|META|DATA|LOG|FUSE|PREPARE)|BEFORE_BACKUP|PREPARE_BACKUP")


def state_of(status: str | None) -> str:
    """Return the state that a raw status stands for.

    Parameters
    ----------
    status : str or None
        The API's `status`, in any case.

    Returns
    -------
    str
        One of `STATES`; `unknown` for whatever is not recognised.
    """
    word = (status or "").strip().upper()
    if word in STATE_OF_STATUS:
        return STATE_OF_STATUS[word]
    return "running" if _PHASE.search(word) else "unknown"


def is_full(mode: str | None) -> bool | None:
    """Tell a full set from an incremental one by its raw mode.

    Parameters
    ----------
    mode : str or None
        The API's `dataBackupMode`, in any case.

    Returns
    -------
    bool or None
        None where the mode is not recognised.
    """
    word = (mode or "").strip().upper()
    if word.startswith("FULL") or word == "D":
        return True
    return False if word.startswith("INC") or word == "I" else None
