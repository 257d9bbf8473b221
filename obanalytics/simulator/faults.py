"""Spoil answers to order."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from typing import Any

KINDS = (
    "status",
    "reset",
    "cut",
    "half_gzip",
    "unsuccessful",
    "html",
    "empty",
    "truncated",
    "total",
    "repeat",
    "endless",
    "redirect",
    "field",
    "no_data",
    "no_list",
    "no_date",
    "no_success",
    "huge",
    "bomb",
)
_HTML = b"<html><body>The gateway is busy.</body></html>"


@dataclass
class Fault:
    """One kind of trouble, and when.

    Parameters
    ----------
    kind : str
        One of `KINDS`: another status; a connection that breaks before the answer; a body that
        ends early, or half a gzip stream; ``success: false``; HTML with status `status`; no body;
        JSON that stops in the middle with the right length; another `total`; page 1 for every
        page; pages without end; a redirect to `value`; a field set to `value` on one tenant row
        (`name`, or unknown when `name` is new); ``data: null``; ``dataList: null``; no Date
        header; no `success`; a declared length of `value` bytes; a small gzip of `value` bytes.
    path : str
        Part of the path it is about.
    page : int or None
        The page it is about; None is any.
    times : int
        How many answers it spoils.
    after : int
        How many answers it leaves alone first.
    status : int
        See `kind`.
    value : object
        See `kind`.
    name : str
        The field's name.
    headers : dict of str to str
        Headers to add, such as ``Retry-After``.
    """

    kind: str
    path: str = "/backup/data/sets"
    page: int | None = None
    times: int = 1
    after: int = 0
    status: int = 503
    value: Any = None
    name: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Refuse a kind that there is not."""
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; there is: {', '.join(KINDS)}")

    def strikes(self, path: str, page: int | None) -> bool:
        """Tell whether this answer is to be spoiled, and count it.

        Parameters
        ----------
        path : str
            The request's path.
        page : int or None
            The page asked for.

        Returns
        -------
        bool
            True for `times` matching requests after the first `after`.
        """
        if self.path not in path or (self.page is not None and page != self.page):
            return False
        with self._lock:
            if self.after > 0:
                self.after -= 1
                return False
            self.times -= 1
            return self.times >= 0


@dataclass
class Answer:
    """An answer on its way.

    Parameters
    ----------
    status : int
        The HTTP status.
    document : object
        The JSON to send.
    headers : dict of str to str
        Headers to send.
    body : bytes or None
        What to send instead of the document.
    declared : int or None
        The length to declare instead of the true one [bytes].
    reset : bool
        Break the connection instead of answering.
    dated : bool
        Whether to send the Date header.
    half_gzip : bool
        Compress the body and send half of it, as if that were all.
    """

    status: int
    document: Any
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    declared: int | None = None
    reset: bool = False
    dated: bool = True
    half_gzip: bool = False

    def content(self) -> bytes:
        """Return the bytes to send, before any compression.

        Returns
        -------
        bytes
            The body.
        """
        if self.body is None:
            self.body = json.dumps(self.document, separators=(",", ":")).encode()
        return self.body


def spoil(answer: Answer, fault: Fault) -> None:
    """Do to an answer what a fault does.

    Parameters
    ----------
    answer : Answer
        Is changed.
    fault : Fault
        The fault that strikes.
    """
    answer.headers |= fault.headers
    if fault.kind == "status":
        answer.status = fault.status
        answer.document = {
            "success": False,
            "errorCode": "E001R000",
            "errorMessage": fault.value or "Unknown Error",
            "requestId": "simulated",
        }
    elif fault.kind == "html":
        answer.status, answer.body = fault.status, _HTML
    elif fault.kind == "redirect":
        answer.status, answer.headers["Location"] = 302, str(fault.value)
    elif fault.kind in {"reset", "half_gzip"}:
        setattr(answer, fault.kind, True)
    elif fault.kind == "no_date":
        answer.dated = False
    else:
        _spoil_body(answer, fault)


def _spoil_body(answer: Answer, fault: Fault) -> None:
    """Do to a body what a fault does."""
    document = answer.document
    data = document.get("data") if isinstance(document, dict) else None
    if fault.kind == "unsuccessful":
        answer.document = {"success": False, "errorCode": "E1", "errorMessage": "not today"}
    elif fault.kind == "empty":
        answer.body = b""
    elif fault.kind in {"cut", "truncated"}:
        whole = answer.content()
        answer.body = whole[: len(whole) // 2]
        answer.declared = len(whole) if fault.kind == "cut" else None
    elif fault.kind == "huge":
        answer.declared = fault.value
    elif fault.kind == "bomb":
        answer.body = gzip.compress(b" " * fault.value)
        answer.headers["Content-Encoding"] = "gzip"
    elif fault.kind == "no_data":
        document["data"] = None
    elif fault.kind == "no_success":
        del document["success"]
    elif isinstance(data, dict):
        _spoil_list(data, fault)


def _spoil_list(data: dict[str, Any], fault: Fault) -> None:
    """Do to a list what a fault does."""
    if fault.kind == "no_list":
        data["dataList"] = None
    elif fault.kind == "total":
        data["total"] = data["total"] + fault.value if isinstance(fault.value, int) else fault.value
        if fault.value == "absent":
            del data["total"]
    elif fault.kind == "field":
        rows = [child for row in data["dataList"] for child in row.get("tenantBackupSetList", ())]
        for row in rows[:1] or data["dataList"][:1]:
            row[fault.name] = fault.value
