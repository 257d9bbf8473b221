"""Check digest sign-ins as servers do (RFC 7616), with every policy on nonces that was met."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
import threading
from dataclasses import dataclass, field

_HASHES = {"MD5": "md5", "SHA-256": "sha256"}
_PART = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
POLICIES = (
    "reuse",
    "strict",
    "strict_shared",
    "window",
    "expiring",
    "one_time",
    "one_time_nextnonce",
)


@dataclass
class DigestGate:
    """Let signed requests in.

    Parameters
    ----------
    user, secret : str
        The one key that is known.
    algorithm : str
        ``MD5``, ``SHA-256``, or either with ``-sess``.
    qop : str
        ``auth``, or empty for the older form.
    policy : str
        ``reuse`` (any count), ``strict`` (counts of a nonce must grow), ``strict_shared`` (one
        nonce for everybody, no count twice), ``window`` (any order, no count twice), ``expiring``
        (a nonce is good for `uses` requests), ``one_time`` (for one), ``one_time_nextnonce`` (for
        one, and every answer names the next).
    uses : int
        How often a nonce of the policy ``expiring`` may be used.
    realm : str
        The realm.
    """

    user: str
    secret: str
    algorithm: str = "MD5"
    qop: str = "auth"
    policy: str = "reuse"
    uses: int = 10
    realm: str = "obcloud"
    _seen: dict[str, list[int]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def challenge(self, *, stale: bool = False) -> str:
        """Return a `WWW-Authenticate` header with a nonce to be used.

        Parameters
        ----------
        stale : bool
            Whether only the nonce of the refused request was wrong.

        Returns
        -------
        str
            The header's value.
        """
        text = f'Digest realm="{self.realm}", nonce="{self._nonce()}", algorithm={self.algorithm}'
        text += f', qop="{self.qop}"' if self.qop else ""
        return text + (", stale=true" if stale else "")

    def judge(self, header: str, method: str, target: str) -> tuple[bool, dict[str, str]]:
        """Decide about one request.

        Parameters
        ----------
        header : str
            Its `Authorization` header.
        method, target : str
            Its method and request target.

        Returns
        -------
        let_in : bool
            Whether it is signed with the key and a nonce that is still good.
        headers : dict of str to str
            What to send with the answer.
        """
        parts = {name: quoted or plain for name, quoted, plain in _PART.findall(header)}
        if not header.lower().startswith("digest ") or not self._is_right(parts, method, target):
            return False, {"WWW-Authenticate": self.challenge()}
        if not self._is_good(parts["nonce"], int(parts.get("nc", "1"), 16)):
            return False, {"WWW-Authenticate": self.challenge(stale=True)}
        if self.policy == "one_time_nextnonce":
            return True, {"Authentication-Info": f'nextnonce="{self._nonce()}"'}
        return True, {}

    def _nonce(self) -> str:
        """Return a nonce that was handed out."""
        with self._lock:
            number = 0 if self.policy == "strict_shared" else next(self._numbers)
            nonce = hashlib.sha256(f"{self.realm}/{number}".encode()).hexdigest()[:24]
            self._seen.setdefault(nonce, [])
            return nonce

    def _is_right(self, parts: dict[str, str], method: str, target: str) -> bool:
        """Tell whether the response is what the key's holder would have computed."""
        if parts.get("username") != self.user or parts.get("uri") != target:
            return False
        if parts.get("realm") != self.realm or bool(parts.get("qop")) != bool(self.qop):
            return False
        expected = response(
            parts, self.algorithm, f"{self.user}:{self.realm}:{self.secret}", f"{method}:{target}"
        )
        return hmac.compare_digest(expected, parts.get("response", ""))

    def _is_good(self, nonce: str, count: int) -> bool:
        """Tell whether the policy takes this nonce with this count, and remember it."""
        with self._lock:
            seen = self._seen.get(nonce)
            if seen is None:
                return False
            refused = {
                "reuse": False,
                "strict": bool(seen) and count <= max(seen),
                "strict_shared": count in seen,
                "window": count in seen,
                "expiring": len(seen) >= self.uses,
                "one_time": bool(seen),
                "one_time_nextnonce": bool(seen),
            }[self.policy]
            if not refused:
                seen.append(count)
            return not refused


def response(parts: dict[str, str], algorithm: str, identity: str, request: str) -> str:
    """Compute the response of RFC 7616 §3.4.1.

    Parameters
    ----------
    parts : dict of str to str
        Nonce, and nc, cnonce and qop where there is a qop.
    algorithm : str
        ``MD5``, ``SHA-256``, or either with ``-sess``.
    identity : str
        ``user:realm:secret``.
    request : str
        ``method:target``.

    Returns
    -------
    str
        The response, in hexadecimal.
    """

    def digest(text: str) -> str:
        name = _HASHES[algorithm.upper().removesuffix("-SESS")]
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

    first = digest(identity)
    if algorithm.upper().endswith("-SESS"):
        first = digest(f"{first}:{parts['nonce']}:{parts.get('cnonce', '')}")
    middle = [parts["nonce"]]
    if parts.get("qop"):
        middle += [parts.get("nc", ""), parts.get("cnonce", ""), parts["qop"]]
    return digest(":".join([first, *middle, digest(request)]))
