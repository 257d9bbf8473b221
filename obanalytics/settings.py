"""Find keys and settings: argument, environment, profile file, prompt; nobody else looks."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import re
import stat
import sys
import tomllib
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from obanalytics.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

HOSTS = {
    "global": "https://api-cloud.oceanbase.com",
    "china": "https://api-cloud-cn.oceanbase.com",
}
OTHER_HOSTS = (*HOSTS.values(), "https://g-api-cloud.oceanbase.com")
PROFILES = "obanalytics/credentials.toml"
_NAMES = {
    "access_key_id": "OCEANBASE_ACCESS_KEY_ID",
    "access_key_secret": "OCEANBASE_ACCESS_KEY_SECRET",
    "project_id": "OCEANBASE_PROJECT_ID",
    "endpoint": "OCEANBASE_ENDPOINT",
}
_CA_NAMES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Secret:
    """Hold the access key secret and show it to nobody but the one who asks for it by name.

    Parameters
    ----------
    value : str
        The secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret; called where requests are signed, and nowhere else.

        Returns
        -------
        str
            The secret.
        """
        return self._value

    def __repr__(self) -> str:
        """Return a mask."""
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Return a mask, whatever the format."""
        return format(repr(self), spec)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled or copied."""
        raise TypeError("the access key secret is not for pickling or copying")


@dataclass(frozen=True)
class Settings:
    """What a client needs to know before its first call.

    Parameters
    ----------
    access_key_id : str
        The key's id: the user name of the digest sign-in.
    access_key_secret : Secret
        The key's secret.
    endpoint : str
        The service's address, without a slash at its end.
    project_id : str or None
        The project; None lets the server choose.
    proxies : dict of str to str
        Proxy by scheme.
    ca_bundle : str or None
        A file of certificates to trust; None trusts the usual ones.
    origins : dict of str to str
        Where each setting came from.
    """

    access_key_id: str
    access_key_secret: Secret
    endpoint: str
    project_id: str | None = None
    proxies: dict[str, str] = field(default_factory=dict, repr=False)
    ca_bundle: str | None = None
    origins: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return every setting with where it came from; the secret is masked.

        Returns
        -------
        str
            One line a setting.
        """
        lines = []
        for name in (*_NAMES, "proxies", "ca_bundle"):
            value = getattr(self, name)
            shown = abbreviate(value) if name == "access_key_id" else str(value)
            if name == "proxies":
                shown = ", ".join(re.sub("//.*@", "//…@", each) for each in value.values())
            lines.append(f"{name:<18} {shown:<40} {self.origins.get(name, 'default')}")
        return "\n".join(lines)

    @classmethod
    def resolve(
        cls,
        arguments: Mapping[str, str | Secret | None],
        *,
        profile: str | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_bundle: str | None = None,
    ) -> Settings:
        """Look for every setting in its places.

        Parameters
        ----------
        arguments : mapping
            What was passed for `access_key_id`, `access_key_secret`, `project_id` and `endpoint`;
            None where nothing was.
        profile : str or None
            The profile in the credentials file; given, it comes before the environment.
        proxies : mapping or None
            Proxy by scheme; None takes the usual environment variables, never for loopback.
        ca_bundle : str or None
            A file of certificates; None takes REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE.

        Returns
        -------
        Settings
            Complete settings.

        Raises
        ------
        CredentialsError
            When no keys are found, or the file that holds them is open to others.
        ValueError
            When a setting cannot be what it is.
        """
        values, secret, origins = _look_everywhere(arguments, profile)
        endpoint = endpoint_of(values.get("endpoint") or "global")
        missing = ["access_key_id"] * (not values.get("access_key_id"))
        missing += ["access_key_secret"] * (secret is None)
        if missing and not _somebody_can_answer():
            variables = " and ".join(_NAMES[name] for name in missing)
            raise CredentialsError(
                f"no keys found: pass {' and '.join(missing)}, or set {variables}, or write them "
                f"under [{profile or 'default'}] in ~/.config/{PROFILES} (chmod 600)"
            )
        if "access_key_id" in missing:
            values["access_key_id"] = _ask("access key id").reveal()
        origins |= dict.fromkeys(missing, "prompt")
        for name, value in values.items():
            if not value.isprintable() or (name != "endpoint" and not value.isascii()):
                raise ValueError(f"{name} holds a control character or another that no key holds")
        route = _proxies(endpoint) if proxies is None else dict(proxies)
        if route or proxies is not None:
            origins["proxies"] = "environment" if proxies is None else "argument"
        bundle, origins["ca_bundle"] = _bundle(ca_bundle)
        return cls(
            values["access_key_id"],
            secret or _ask("access key secret"),
            endpoint,
            values.get("project_id") or None,
            route,
            bundle,
            origins,
        )


def abbreviate(key_id: str) -> str:
    """Return enough of a key's id to tell which it is.

    Parameters
    ----------
    key_id : str
        The access key id.

    Returns
    -------
    str
        Its first four characters.
    """
    return f"{key_id[:4]}…" if len(key_id) > 4 else key_id[:1] + "…"  # noqa: PLR2004


def endpoint_of(value: str) -> str:
    """Return the address that an alias or URL stands for.

    Parameters
    ----------
    value : str
        ``"global"``, ``"china"`` or a URL.

    Returns
    -------
    str
        The address, without a slash at its end.

    Raises
    ------
    ValueError
        When it is no address, holds keys, or would send them in the clear.
    """
    address = HOSTS.get(value.strip().lower(), value.strip()).rstrip("/")
    if "@" in address:
        raise ValueError("the endpoint must not hold keys: pass them as arguments or environment")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    plain = not (parts.query or parts.fragment or re.search(r"\s", address))
    if parts.scheme not in {"http", "https"} or not host or not plain:
        raise ValueError(f'endpoint must be "global", "china" or a URL with https, not {value!r}')
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            f"endpoint {address} would send the sign-in in the clear: http is for loopback only"
        )
    return address


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, without asking a name server.

    Parameters
    ----------
    host : str
        A host's name or address.

    Returns
    -------
    bool
        True for localhost, 127.0.0.0/8 and ::1.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _look_everywhere(
    arguments: Mapping[str, str | Secret | None], profile: str | None
) -> tuple[dict[str, str], Secret | None, dict[str, str]]:
    """Return the settings, the secret, and where each was found.

    No local name here ever holds the plain secret: tracebacks may show locals.
    """
    given = {
        name: (_guarded(name, arguments[name]), "argument")
        for name in _NAMES
        if arguments.get(name) is not None
    }
    environment = {
        name: (_guarded(name, os.environ[variable]), f"environment {variable}")
        for name, variable in _NAMES.items()
        if os.environ.get(variable, "").strip()
    }
    found = environment | given
    # The file is not opened, nor its permissions judged, when the keys are there without it.
    if profile is not None or not {"access_key_id", "access_key_secret"} <= found.keys():
        origin = f"profile {profile or 'default'}"
        saved = {name: (value, origin) for name, value in _read_profile(profile).items()}
        found = saved | found if profile is None else environment | saved | given
    origins = {name: origin for name, (_, origin) in found.items()}
    secret, _ = found.pop("access_key_secret", (None, ""))
    values = {name: value for name, (value, _) in found.items() if isinstance(value, str)}
    # An empty secret is none.
    return values, secret if isinstance(secret, Secret) and secret.reveal() else None, origins


def _guarded(name: str, value: object) -> str | Secret:
    """Return a setting without blanks around it, the secret in its wrapping."""
    if isinstance(value, Secret):
        return value
    return Secret(str(value).strip()) if name == "access_key_secret" else str(value).strip()


def _read_profile(profile: str | None) -> dict[str, str | Secret]:
    """Return the settings of a profile; none where there is no file and none was named."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / PROFILES
    if not path.is_file():
        if profile is None:
            return {}
        raise CredentialsError(f"profile {profile!r} was asked for, and there is no file {path}")
    open_to = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if os.name == "posix" and open_to:
        raise CredentialsError(f"{path} can be read by others; run: chmod 600 {path}")
    profiles = _parse_profiles(path)
    if profiles is None:
        raise CredentialsError(f"{path} is no valid TOML file")
    if profile is None:
        return profiles.get("default", {})
    if profile not in profiles:
        names = ", ".join(sorted(profiles)) or "none"
        raise CredentialsError(f"no profile {profile!r} in {path}; there is: {names}")
    return profiles[profile]


def _parse_profiles(path: Path) -> dict[str, dict[str, str | Secret]] | None:
    """Return every profile of a file; None when it is no TOML.

    The parser's own error may quote the line that holds the secret, so it goes no further.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    return {
        profile: {name: _guarded(name, table[name]) for name in _NAMES if table.get(name)}
        for profile, table in tables.items()
        if isinstance(table, dict)
    }


def _ask(what: str) -> Secret:
    """Ask the person at the terminal or notebook."""
    answer = None
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        answer = Secret(getpass.getpass(f"OceanBase {what}: ").strip())
    if answer is None or not answer.reveal():
        raise CredentialsError(f"no {what} was given")
    return answer


def _somebody_can_answer() -> bool:
    """Tell whether a question would reach a person."""
    if os.environ.get("CI"):
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if type(shell).__name__ == "ZMQInteractiveShell":
        kernel = getattr(shell, "kernel", None)
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _bundle(argument: str | None) -> tuple[str | None, str]:
    """Return the file of certificates to trust, and where its name was found."""
    if argument:
        return argument, "argument"
    named = next((name for name in _CA_NAMES if os.environ.get(name)), None)
    return (os.environ[named], f"environment {named}") if named else (None, "default")


def _proxies(endpoint: str) -> dict[str, str]:
    """Return the proxies that the environment names for an address; none for this machine."""
    host = urlsplit(endpoint).hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return {}
    found = urllib.request.getproxies()
    return {scheme: found[scheme] for scheme in ("http", "https") if scheme in found}
