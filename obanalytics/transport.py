"""Make one signed call: digest sign-in, bounded body, retries above the sign-in."""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import os
import random
import re
import threading
import uuid
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import requests
import urllib3

from obanalytics.errors import ApiError, AuthenticationError, DataError, ObanalyticsError
from obanalytics.settings import OTHER_HOSTS, abbreviate
from obanalytics.wire import envelope_error, envelope_request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obanalytics.settings import Secret, Settings

RETRIED = frozenset({429, 502, 503, 504})
MAX_BODY = 256 * 1024 * 1024
"""The largest body that is read [bytes, after decompression]."""
MAX_WAIT = 60.0
"""The longest wait before a retry, whatever the server asks for [s]."""
MAX_SIGN_INS = 6
"""How often one call answers a challenge: nonces expire, and strict servers refuse late ones."""
CLOSED = "the client was closed"
_EXCERPT = 200
_CHUNK = 1 << 16
_BACK_OFF = 0.5
# Strongest first.
ALGORITHMS = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
# Refusals that are not called stale are final before the first success, and are taken for a
# nonce's trouble a few times after it.
LATER_REFUSALS = 3
_KEPT_NONCES = 256
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)\s+(?=[\w-]+\s*=)")


class Reply(NamedTuple):
    """One response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str

    @property
    def date(self) -> dt.datetime | None:
        """The server's clock when it answered [UTC]; None where it does not say."""
        return _moment(self.headers.get("Date", ""))

    @property
    def known_as(self) -> str:
        """The server's id of the request; the one that was sent where it names none."""
        return envelope_request_id(self.body) or self.request_id

    @property
    def ids(self) -> str:
        """What both sides call the request, for messages."""
        theirs = envelope_request_id(self.body)
        return f"request {self.request_id}" + (f", the server's {theirs}" if theirs else "")


class _PassingError(Exception):
    """Something that may be gone at the next attempt."""

    def __init__(self, what: str, wait: float | None = None, reply: Reply | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.wait = wait
        self.reply = reply
        self.request_id = None if reply is None else reply.known_as


class _Session(requests.Session):
    """A session without an eye for redirects: others read their bodies whole, to no end."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - inherited
        """Lead nowhere."""
        return None


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
        self._digest = _Digest(settings.access_key_id, settings.access_key_secret)
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
            if self.closing.is_set():
                raise ApiError(f"{place}: {CLOSED}", instance_id=instance_id)
            try:
                return self._attempt(path, params, decode)
            except _PassingError as error:
                passing = error
            except ObanalyticsError as error:
                error.instance_id = error.instance_id or instance_id
                if isinstance(error, ApiError) and path not in str(error):
                    error.args = (f"{place}: {error}",)
                raise
            if attempt < self.max_attempts:
                self.sleep(self._wait(attempt, passing.wait))
        reply = passing.reply
        raise ApiError(
            f"{place} at {self.settings.endpoint}: {passing.what}; gave up after "
            f"{self.max_attempts} attempts: try again later{self._hint(reply)}",
            instance_id=instance_id,
            request_id=passing.request_id,
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
            error.request_id, error.status = reply.known_as, reply.status
            raise

    def _signed(self, path: str, params: Mapping[str, str]) -> Reply:
        """Send, and answer challenges until the server has decided about the keys."""
        challenge: _Challenge | None = None
        for _ in range(MAX_SIGN_INS):
            request_id = str(uuid.uuid4())
            query = urlencode({**params, "requestId": request_id}, quote_via=quote)
            base = urlsplit(self.settings.endpoint).path
            target = f"{base}{path}?{query}"
            answer = self._digest.answer("GET", target)
            try:
                reply = self._send(target, answer, request_id)
            except (ApiError, _PassingError) as error:
                error.request_id = request_id
                raise
            if reply.status != requests.codes.unauthorized:
                self._digest.accepted(answer, reply.headers.get("Authentication-Info", ""))
                return reply
            challenge = self._digest.challenged(answer, reply.headers.get("WWW-Authenticate", ""))
            if challenge is None or not self._digest.worth_another_try(answer, challenge):
                break
        raise self._refused(reply, challenge)

    def _send(self, target: str, answer: _Answer | None, request_id: str) -> Reply:
        """Send one request and read its answer, bounded."""
        parts = urlsplit(self.settings.endpoint)
        request = requests.Request("GET", f"{parts.scheme}://{parts.netloc}{target}")
        session = self._session()
        try:
            prepared = session.prepare_request(request)
            if answer is not None:
                prepared.headers["Authorization"] = answer.header
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
        except requests.exceptions.InvalidURL as error:
            problem = ApiError(f"{self.settings.endpoint}: no address to call: {_short(error)}")
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
            session = _Session()
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
            host = _host_of(reply.headers.get("Location", "")) or "another path"
            advice = f"a redirect to {host} was not followed: check the endpoint"
        elif reply.status == requests.codes.not_found:
            project = self.settings.project_id or "not sent: the server chose"
            advice = f"it may be in another project ({project}) or at another endpoint"
        elif reply.status == requests.codes.forbidden:
            advice = "the account may not see this; ask its owner, or send the right project_id"
        else:
            advice = "check the arguments" if reply.status < 500 else "try again later"  # noqa: PLR2004
        return ApiError(
            f"{place}: {_said(reply)}; {advice} ({reply.ids})",
            request_id=reply.known_as,
            status=reply.status,
            code=code,
            retryable=reply.status >= 500,  # noqa: PLR2004
        )

    def _refused(self, reply: Reply, challenge: _Challenge | None) -> AuthenticationError:
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
            request_id=reply.known_as,
            status=reply.status,
            code=envelope_error(reply.body)[0],
        )


def _said(reply: Reply) -> str:
    """Return what the server said."""
    code, message = envelope_error(reply.body)
    words = " ".join(filter(None, (code, message))) or "no explanation"
    return f"status {reply.status}: {words}"


def _short(error: Exception) -> str:
    """Return the last and plainest part of a network library's message."""
    reason = getattr(error, "args", None) or [""]
    inner = getattr(reason[0], "reason", None) or reason[0]
    return str(inner).split(">: ")[-1][:_EXCERPT] or type(error).__name__


def _retry_after(reply: Reply) -> float | None:
    """Return how long the server asks to wait [s]; None where it does not say."""
    text = reply.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    # By the server's own clock: ours may be wrong, and is not read.
    until, now = _moment(text), reply.date
    return None if until is None or now is None else max((until - now).total_seconds(), 0.0)


def _moment(text: str) -> dt.datetime | None:
    """Read a header's date [UTC], which it is where it names no zone; None where it is none."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _host_of(address: str) -> str:
    """Return the host of an address, and nothing else of it; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_json(body: bytes) -> bool:
    """Tell whether a body is complete JSON."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


def _read(response: requests.Response, limit: int) -> bytes:
    """Read a body of bounded size; raise when it is shorter than declared."""
    large = f"the answer is larger than {limit} bytes"
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and float(declared) > limit:
        raise ApiError(f"{large} ({declared:.20}); it was not read", status=response.status_code)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        raise ApiError(
            f"the answer has content encoding {encoding!r:.40}; only gzip was asked for",
            status=response.status_code,
        )
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
            raise ApiError(f"{large}; the rest was not read", status=response.status_code)
    if unpacker is not None and not unpacker.eof and size:
        raise _PassingError("half a gzip body")
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Challenge:
    """What a server asks for; `opaque` and `qop` are empty where absent."""

    realm: str
    nonce: str
    opaque: str
    algorithm: str
    qop: str
    stale: bool

    def describe(self) -> str:
        """Return scheme, algorithm, qop and staleness, and nothing that was computed."""
        stale = "yes" if self.stale else "no"
        return f"Digest, algorithm {self.algorithm}, qop {self.qop or 'none'}, stale {stale}"

    def hash(self, text: str) -> str:
        """Hash with the challenge's algorithm, in hexadecimal."""
        name = ALGORITHMS[self.algorithm.upper().removesuffix("-SESS")]
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer to a challenge."""

    challenge: _Challenge
    count: int
    header: str

    def __repr__(self) -> str:
        """Return what may be shown: an answer can be guessed from, at leisure."""
        return f"<digest answer {self.count}>"


class _Digest:
    """Sign requests with one key.

    Every thread keeps the challenge it was given, so that requests of one nonce arrive in the order
    of their counts, as strict servers demand; the counts themselves are kept by nonce, for servers
    that hand the same nonce to everybody.
    """

    def __init__(self, user: str, secret: Secret) -> None:
        self._user = user
        self._secret = secret
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._local = threading.local()
        self._ever_accepted = False

    def answer(self, method: str, target: str) -> _Answer | None:
        """Return the answer to this thread's challenge; None where it was not challenged yet."""
        challenge: _Challenge | None = getattr(self._local, "challenge", None)
        if challenge is None:
            return None
        with self._lock:
            count = self._counts[challenge.nonce] = self._counts.get(challenge.nonce, 0) + 1
            self._counts.move_to_end(challenge.nonce)
            while len(self._counts) > _KEPT_NONCES:
                self._counts.popitem(last=False)
        return _Answer(challenge, count, self._header(challenge, count, method, target))

    def accepted(self, answer: _Answer | None, info: str) -> None:
        """Note that the server let a request pass, and the nonce it wants next."""
        if answer is None:
            return
        self._ever_accepted = True
        self._local.refusals = 0
        following = dict(_parameters(info)).get("nextnonce")
        if following:
            old = answer.challenge
            self._local.challenge = _Challenge(
                old.realm, following, old.opaque, old.algorithm, old.qop, stale=False
            )

    def challenged(self, answer: _Answer | None, header: str) -> _Challenge | None:
        """Note the strongest challenge that can be answered, and return it."""
        challenge = _strongest(header)
        self._local.challenge = challenge
        if answer is None:
            self._local.refusals = 0
        elif challenge is not None and not challenge.stale:
            self._local.refusals = getattr(self._local, "refusals", 0) + 1
        return challenge

    def worth_another_try(self, answer: _Answer | None, challenge: _Challenge) -> bool:
        """Tell whether a refusal may be about the nonce and not about the keys.

        So are the first challenge and stale nonces. A refusal that does not say stale is final,
        unless the keys were good before.
        """
        if answer is None or challenge.stale:
            return True
        return self._ever_accepted and self._local.refusals <= LATER_REFUSALS

    def _header(self, challenge: _Challenge, count: int, method: str, target: str) -> str:
        """Compute the `Authorization` header."""
        client_nonce = os.urandom(16).hex()
        response = self._response(challenge, f"{count:08x}", client_nonce, (method, target))
        if response is None:
            raise AuthenticationError(
                f"this machine cannot compute {challenge.algorithm}, which the server asks for "
                "(FIPS mode?)"
            )
        parts = {"username": self._user, "realm": challenge.realm, "nonce": challenge.nonce}
        parts |= {"uri": target, "response": response}
        if challenge.opaque:
            parts["opaque"] = challenge.opaque
        header = ", ".join(f'{name}="{_quoted(value)}"' for name, value in parts.items())
        header += f", algorithm={challenge.algorithm}"
        if challenge.qop:
            header += f', qop={challenge.qop}, nc={count:08x}, cnonce="{client_nonce}"'
        elif challenge.algorithm.upper().endswith("-SESS"):
            header += f', cnonce="{client_nonce}"'
        return f"Digest {header}"

    def _response(
        self, challenge: _Challenge, count: str, client_nonce: str, request: tuple[str, str]
    ) -> str | None:
        """Compute the response by RFC 7616 §3.4.1; None where the machine refuses the algorithm.

        An error in here must not leave: its frames hold the secret.
        """
        try:
            first = challenge.hash(f"{self._user}:{challenge.realm}:{self._secret.reveal()}")
            if challenge.algorithm.upper().endswith("-SESS"):
                first = challenge.hash(f"{first}:{challenge.nonce}:{client_nonce}")
            second = challenge.hash(":".join(request))
            middle = [count, client_nonce, challenge.qop] if challenge.qop else []
            return challenge.hash(":".join([first, challenge.nonce, *middle, second]))
        except ValueError:
            return None


def _strongest(header: str) -> _Challenge | None:
    """Return the strongest digest challenge of a `WWW-Authenticate` header that can be answered.

    That is one of a known algorithm, with `qop` ``auth`` or none.
    """
    found: list[tuple[int, _Challenge]] = []
    for scheme, text in _challenges(header):
        fields = dict(_parameters(text))
        algorithm = fields.get("algorithm", "MD5")
        name = algorithm.upper().removesuffix("-SESS")
        offered = [
            each.strip().lower() for each in fields.get("qop", "").split(",") if each.strip()
        ]
        if scheme.lower() != "digest" or name not in ALGORITHMS or "nonce" not in fields:
            continue
        if offered and "auth" not in offered:
            continue
        challenge = _Challenge(
            fields.get("realm", ""),
            fields["nonce"],
            fields.get("opaque", ""),
            algorithm,
            "auth" if offered else "",
            fields.get("stale", "").lower() == "true",
        )
        found.append((list(ALGORITHMS).index(name), challenge))
    return min(found, key=lambda each: each[0])[1] if found else None


def _challenges(header: str) -> Iterator[tuple[str, str]]:
    """Yield the scheme and the parameters of every challenge."""
    # Quoted strings may hold anything, so they are blanked out before schemes are looked for.
    plain = re.sub(
        r'"(?:[^"\\]|\\.)*"', lambda match: '"' + "_" * (len(match[0]) - 2) + '"', header
    )
    starts = list(_SCHEME.finditer(plain))
    ends = [*(match.start() for match in starts[1:]), len(header)]
    for match, end in zip(starts, ends, strict=False):
        yield match[1], header[match.end() : end]


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of one challenge."""
    for match in _PARAMETER.finditer(text):
        value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        yield match[1].lower(), value


def _quoted(text: str) -> str:
    """Escape a value for a quoted string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
