"""Make one signed call: digest sign-in, bounded body, retries above the sign-in."""

from __future__ import annotations

import datetime as dt
import email.utils
import random
import threading
import uuid
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import requests
import urllib3

from obanalytics.digest import Digest
from obanalytics.errors import ApiError, AuthenticationError, DataError, ObanalyticsError
from obanalytics.settings import OTHER_HOSTS, abbreviate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obanalytics.digest import Answer, Challenge
    from obanalytics.settings import Settings

RETRIED = frozenset({429, 502, 503, 504})
MAX_BODY = 256 * 1024 * 1024
"""The largest body that is read [bytes, after decompression]."""
MAX_WAIT = 60.0
"""The longest wait before a retry, whatever the server asks for [s]."""
MAX_SIGN_INS = 6
"""How often one call answers a challenge: nonces expire, and strict servers refuse late ones."""
EXCERPT = 200
_CHUNK = 1 << 16
_BACK_OFF = 0.5


class Reply(NamedTuple):
    """One response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str

    @property
    def date(self) -> dt.datetime | None:
        """The server's clock when it answered [UTC]; None where it does not say."""
        try:
            return email.utils.parsedate_to_datetime(self.headers.get("Date", "")).astimezone(
                dt.UTC
            )
        except (ValueError, TypeError):
            return None


class _PassingError(Exception):
    """Something that may be gone at the next attempt."""

    def __init__(self, what: str, wait: float | None = None, reply: Reply | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.wait = wait
        self.reply = reply


class Transport:
    """Send GET requests to one service, from any number of threads.

    Parameters
    ----------
    settings : Settings
        Keys, address and project.
    timeout : tuple of float
        To connect, and between two pieces of an answer [s].
    max_attempts : int
        How often one call is tried.
    """

    def __init__(
        self, settings: Settings, *, timeout: tuple[float, float], max_attempts: int
    ) -> None:
        self.settings = settings
        self.timeout = timeout
        self.max_attempts = max_attempts
        self.max_body = MAX_BODY
        self.closing = threading.Event()
        # Tests replace these: no test waits, and none depends on chance.
        self.sleep: Callable[[float], Any] = self.closing.wait
        self.uniform: Callable[[float, float], float] = random.uniform
        self._digest = Digest(settings.access_key_id, settings.access_key_secret)
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()
        self._headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        if settings.project_id:
            self._headers["X-Ob-Project-Id"] = settings.project_id

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        decode: Callable[[Reply], Any],
        instance_id: str | None = None,
    ) -> Any:  # noqa: ANN401 - what `decode` returns
        """Make one call and return what its answer decodes to.

        Parameters
        ----------
        path : str
            The path, percent-encoded.
        params : mapping of str to str
            The query, besides `requestId`.
        decode : callable
            Turns a reply with status 200 into the result; a `DataError` over a body that is no
            complete JSON counts as a cut body.
        instance_id : str or None
            The instance, for error messages.

        Returns
        -------
        object
            What `decode` returned.

        Raises
        ------
        ApiError, AuthenticationError, DataError
            When the call failed, for good or after the last attempt.
        """
        place = f"GET {path}" + (
            f" (page {params['pageNumber']})" if "pageNumber" in params else ""
        )
        for attempt in range(1, self.max_attempts + 1):
            try:
                return self._attempt(path, params, decode)
            except _PassingError as error:
                passing = error
            except ObanalyticsError as error:
                error.instance_id = error.instance_id or instance_id
                raise
            if self.closing.is_set():
                raise ApiError(f"{place}: the client was closed", instance_id=instance_id)
            if attempt < self.max_attempts:
                self.sleep(self._wait(attempt, passing.wait))
        reply = passing.reply
        raise ApiError(
            f"{place} at {self.settings.endpoint}: {passing.what}; gave up after "
            f"{self.max_attempts} attempts: try again later{self._hint(reply)}",
            instance_id=instance_id,
            request_id=None if reply is None else reply.request_id,
            status=None if reply is None else reply.status,
            code=None if reply is None else envelope_error(reply.body)[0],
            retryable=True,
        )

    def close(self) -> None:
        """Close every connection; calls that wait to be retried end with an error."""
        self.closing.set()
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Return how long to wait [s]: as asked, else at random below a growing bound."""
        if asked is not None:
            return min(asked, MAX_WAIT)
        return self.uniform(0, min(_BACK_OFF * 2**attempt, MAX_WAIT / 2))

    def _hint(self, reply: Reply | None) -> str:
        """Name the service's other addresses when this one did not answer at all."""
        others = [host for host in OTHER_HOSTS if host != self.settings.endpoint]
        return "" if reply is not None else f", or another endpoint ({', '.join(others)})"

    def _attempt(self, path: str, params: Mapping[str, str], decode: Callable[[Reply], Any]) -> Any:  # noqa: ANN401 - what `decode` returns
        """Sign in, send, read and decode, once."""
        reply = self._signed(path, params)
        if reply.status in RETRIED:
            wait = _retry_after(reply)
            raise _PassingError(_said(reply), wait, reply)
        if reply.status != requests.codes.ok:
            raise self._refusal(reply, path)
        if not reply.body.strip():
            raise _PassingError("the body is empty", reply=reply)
        try:
            return decode(reply)
        except DataError as error:
            if reply.body.lstrip()[:1] in {b"{", b"["} and not _is_json(reply.body):
                raise _PassingError("the body is cut", reply=reply) from None
            error.request_id = reply.request_id
            raise

    def _signed(self, path: str, params: Mapping[str, str]) -> Reply:
        """Send, and answer challenges until the server has decided about the keys."""
        challenge: Challenge | None = None
        for _ in range(MAX_SIGN_INS):
            request_id = str(uuid.uuid4())
            query = urlencode({**params, "requestId": request_id}, quote_via=quote)
            base = urlsplit(self.settings.endpoint).path
            target = f"{base}{path}?{query}"
            answer = self._digest.answer("GET", target)
            reply = self._send(target, answer, request_id)
            if reply.status != requests.codes.unauthorized:
                self._digest.accepted(answer, reply.headers.get("Authentication-Info", ""))
                return reply
            challenge = self._digest.challenged(answer, reply.headers.get("WWW-Authenticate", ""))
            if challenge is None or not self._digest.worth_another_try(answer, challenge):
                break
        raise self._refused(reply, challenge)

    def _send(self, target: str, answer: Answer | None, request_id: str) -> Reply:
        """Send one request and read its answer, bounded."""
        parts = urlsplit(self.settings.endpoint)
        request = requests.Request("GET", f"{parts.scheme}://{parts.netloc}{target}")
        session = self._session()
        prepared = session.prepare_request(request)
        if answer is not None:
            prepared.headers["Authorization"] = answer.header
        try:
            with session.send(
                prepared,
                stream=True,
                timeout=self.timeout,
                allow_redirects=False,
                verify=self.settings.ca_bundle or True,
                proxies=self.settings.proxies,
            ) as response:
                body = _read(response, self.max_body)
                return Reply(response.status_code, response.headers, body, request_id)
        except requests.exceptions.SSLError as error:
            problem: Exception = ApiError(
                f"{self.settings.endpoint}: no trusted connection: {_short(error)}; if a proxy "
                "signs with its own certificate, pass ca_bundle="
            )
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as error:
            problem = _PassingError(f"{type(error).__name__}: {_short(error)}")
        # Raised here, outside the handlers: no frame of the network library stays in the traceback.
        raise problem

    def _session(self) -> requests.Session:
        """Return this thread's session."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.headers.update(self._headers)
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    def _refusal(self, reply: Reply, path: str) -> ApiError:
        """Say what a final status other than 200 means."""
        code, _ = envelope_error(reply.body)
        place = f"GET {path} at {self.settings.endpoint}"
        if 300 <= reply.status < 400:  # noqa: PLR2004 - the range of redirects
            host = urlsplit(reply.headers.get("Location", "")).netloc or "another path"
            advice = f"a redirect to {host} was not followed: check the endpoint"
        elif reply.status == requests.codes.not_found:
            project = self.settings.project_id or "not sent: the server chose"
            advice = f"it may be in another project ({project}) or at another endpoint"
        elif reply.status == requests.codes.forbidden:
            advice = "the account may not see this; ask its owner, or send the right project_id"
        else:
            advice = "check the arguments" if reply.status < 500 else "try again later"  # noqa: PLR2004
        return ApiError(
            f"{place}: {_said(reply)}; {advice} (request {reply.request_id})",
            request_id=reply.request_id,
            status=reply.status,
            code=code,
            retryable=reply.status >= 500,  # noqa: PLR2004
        )

    def _refused(self, reply: Reply, challenge: Challenge | None) -> AuthenticationError:
        """Say how the sign-in ended, never with what was sent."""
        key = abbreviate(self.settings.access_key_id)
        others = ", ".join(host for host in OTHER_HOSTS if host != self.settings.endpoint)
        if challenge is None:
            scheme = reply.headers.get("WWW-Authenticate", "").split(" ")[0] or "none"
            what = f"the server did not ask for a digest sign-in that we know (it offers: {scheme})"
        else:
            what = f"the server refused key {key} ({challenge.describe()})"
        return AuthenticationError(
            f"{self.settings.endpoint}: {what}; check that id and secret belong together, that the "
            f"key is enabled, and that the endpoint is right (there are also {others})",
            request_id=reply.request_id,
            status=reply.status,
            code=envelope_error(reply.body)[0],
        )


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
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return None, " ".join(body[:EXCERPT].decode(errors="replace").split())
    code = document.get("errorCode")
    named = (document.get(name) for name in ("errorMessage", "message", "msg"))
    message = next((str(text) for text in named if text), "")
    return None if code is None else str(code), message[:EXCERPT]


def _said(reply: Reply) -> str:
    """Return what the server said."""
    code, message = envelope_error(reply.body)
    words = " ".join(filter(None, (code, message))) or "no explanation"
    return f"status {reply.status}: {words}"


def _short(error: Exception) -> str:
    """Return the last and plainest part of a network library's message."""
    reason = getattr(error, "args", None) or [""]
    inner = getattr(reason[0], "reason", None) or reason[0]
    return str(inner).split(">: ")[-1][:EXCERPT] or type(error).__name__


def _retry_after(reply: Reply) -> float | None:
    """Return how long the server asks to wait [s]; None where it does not say."""
    text = reply.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text).astimezone(dt.UTC)
    except (ValueError, TypeError):
        return None
    # By the server's own clock: ours may be wrong, and is not read.
    return None if reply.date is None else max((until - reply.date).total_seconds(), 0.0)


def _is_json(body: bytes) -> bool:
    """Tell whether a body is complete JSON."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _read(response: requests.Response, limit: int) -> bytes:
    """Read a body of bounded size; raise when it is shorter than declared."""
    declared = response.headers.get("Content-Length", "")
    if declared.isdigit() and int(declared) > limit:
        raise ApiError(f"the answer is larger than {limit} bytes ({declared}); it was not read")
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        raise ApiError(f"the answer has content encoding {encoding!r}; only gzip was asked for")
    # Unpacked here: the library below takes half a gzip stream for a whole one.
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    pieces, size = [], 0
    for chunk in response.raw.stream(_CHUNK, decode_content=False):
        try:
            piece = unpacker.decompress(chunk, limit + 1 - size) if unpacker else chunk
        except zlib.error as error:
            raise _PassingError(f"damaged gzip: {error}") from None
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise ApiError(f"the answer is larger than {limit} bytes; the rest was not read")
    if unpacker is not None and not unpacker.eof and size:
        raise _PassingError("half a gzip body")
    return b"".join(pieces)
