"""Answer digest challenges (RFC 7616), from any number of threads."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obanalytics.errors import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obanalytics.settings import Secret

# Strongest first.
ALGORITHMS = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
# Refusals that are not called stale are final before the first success, and are taken for a
# nonce's trouble a few times after it.
LATER_REFUSALS = 3
_KEPT_NONCES = 256
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)\s+(?=[\w-]+\s*=)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a server asks for.

    Parameters
    ----------
    realm, nonce, opaque : str
        As sent; `opaque` empty where absent.
    algorithm : str
        As sent, such as ``MD5`` or ``SHA-256-sess``.
    qop : str
        ``auth``, or empty for the older form without one.
    stale : bool
        Whether the server says that only the nonce was wrong.
    """

    realm: str
    nonce: str
    opaque: str
    algorithm: str
    qop: str
    stale: bool

    def describe(self) -> str:
        """Return scheme, algorithm, qop and staleness, and nothing that was computed.

        Returns
        -------
        str
            For an error message.
        """
        stale = "yes" if self.stale else "no"
        return f"Digest, algorithm {self.algorithm}, qop {self.qop or 'none'}, stale {stale}"

    def hash(self, text: str) -> str:
        """Hash with the challenge's algorithm.

        Parameters
        ----------
        text : str
            What to hash, as UTF-8.

        Returns
        -------
        str
            The digest, in hexadecimal.
        """
        name = ALGORITHMS[self.algorithm.upper().removesuffix("-SESS")]
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a challenge."""

    challenge: Challenge
    count: int
    header: str

    def __repr__(self) -> str:
        """Return what may be shown: an answer can be guessed from, at leisure."""
        return f"<digest answer {self.count}>"


class Digest:
    """Sign requests with one key.

    Every thread keeps the challenge it was given, so that requests of one nonce arrive in the order
    of their counts, as strict servers demand; the counts themselves are kept by nonce, for servers
    that hand the same nonce to everybody.

    Parameters
    ----------
    user : str
        The access key id.
    secret : Secret
        The access key secret.
    """

    def __init__(self, user: str, secret: Secret) -> None:
        self._user = user
        self._secret = secret
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._local = threading.local()
        self._ever_accepted = False

    def answer(self, method: str, target: str) -> Answer | None:
        """Return the answer to this thread's challenge.

        Parameters
        ----------
        method : str
            The HTTP method.
        target : str
            The request target exactly as it will be sent.

        Returns
        -------
        Answer or None
            None where this thread was not challenged yet.
        """
        challenge: Challenge | None = getattr(self._local, "challenge", None)
        if challenge is None:
            return None
        with self._lock:
            count = self._counts[challenge.nonce] = self._counts.get(challenge.nonce, 0) + 1
            self._counts.move_to_end(challenge.nonce)
            while len(self._counts) > _KEPT_NONCES:
                self._counts.popitem(last=False)
        return Answer(challenge, count, self._header(challenge, count, method, target))

    def accepted(self, answer: Answer | None, info: str) -> None:
        """Note that the server let a request pass, and the nonce it wants next.

        Parameters
        ----------
        answer : Answer or None
            What the request was signed with.
        info : str
            The `Authentication-Info` header.
        """
        if answer is None:
            return
        self._ever_accepted = True
        following = dict(_parameters(info)).get("nextnonce")
        if following:
            old = answer.challenge
            self._local.challenge = Challenge(
                old.realm, following, old.opaque, old.algorithm, old.qop, stale=False
            )

    def challenged(self, answer: Answer | None, header: str) -> Challenge | None:
        """Note a challenge.

        Parameters
        ----------
        answer : Answer or None
            What the refused request was signed with.
        header : str
            The `WWW-Authenticate` header.

        Returns
        -------
        Challenge or None
            The strongest one that can be answered; None where there is none.
        """
        challenge = strongest(header)
        self._local.challenge = challenge
        if answer is None:
            self._local.refusals = 0
        elif challenge is not None and not challenge.stale:
            self._local.refusals = getattr(self._local, "refusals", 0) + 1
        return challenge

    def worth_another_try(self, answer: Answer | None, challenge: Challenge) -> bool:
        """Tell whether a refusal may be about the nonce and not about the keys.

        Parameters
        ----------
        answer : Answer or None
            What the refused request was signed with.
        challenge : Challenge
            What the refusal asks for.

        Returns
        -------
        bool
            True for the first challenge and for stale nonces. A refusal that does not say stale is
            final, unless the keys were good before.
        """
        if answer is None or challenge.stale:
            return True
        return self._ever_accepted and self._local.refusals <= LATER_REFUSALS

    def _header(self, challenge: Challenge, count: int, method: str, target: str) -> str:
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
        self, challenge: Challenge, count: str, client_nonce: str, request: tuple[str, str]
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


def strongest(header: str) -> Challenge | None:
    """Return the strongest digest challenge of a header that can be answered.

    Parameters
    ----------
    header : str
        A `WWW-Authenticate` header, several of them joined by commas.

    Returns
    -------
    Challenge or None
        None where no challenge is a digest of a known algorithm with `qop` ``auth`` or none.
    """
    found: list[tuple[int, Challenge]] = []
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
        challenge = Challenge(
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
    ends = [match.start() for match in starts[1:]] + [len(header)]
    for match, end in zip(starts, ends, strict=True):
        yield match[1], header[match.end() : end]


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of one challenge."""
    for match in _PARAMETER.finditer(text):
        value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        yield match[1].lower(), value


def _quoted(text: str) -> str:
    """Escape a value for a quoted string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
