"""Where keys come from, what is refused, and that the secret is shown to nobody."""

from __future__ import annotations

import copy
import dataclasses
import getpass
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obanalytics.errors import CredentialsError
from obanalytics.settings import (
    HOSTS,
    PROFILES,
    Secret,
    Settings,
    abbreviate,
    endpoint_of,
    is_loopback,
)

SECRET = "s3cret-of-ours"  # noqa: S105 - of a test
ENVIRONMENT = {
    "access_key_id": "OCEANBASE_ACCESS_KEY_ID",
    "access_key_secret": "OCEANBASE_ACCESS_KEY_SECRET",
    "project_id": "OCEANBASE_PROJECT_ID",
    "endpoint": "OCEANBASE_ENDPOINT",
}


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(sys, "stdin", None)


def resolve(profile: str | None = None, **arguments: Any) -> Settings:
    return Settings.resolve(arguments, profile=profile)


def with_keys(**arguments: Any) -> Settings:
    return resolve(access_key_id="id", access_key_secret=SECRET, **arguments)


def keys(value: str) -> dict[str, str]:
    return {"access_key_id": value, "access_key_secret": value}


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(ENVIRONMENT[name], value)


def write_profiles(text: str, mode: int = 0o600) -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / PROFILES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def someone_answers(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Put a person at the terminal, and return what that person is asked."""
    asked: list[str] = []
    waiting = list(answers)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return waiting.pop(0)

    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(sys, stream, SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(getpass, "getpass", answer)
    return asked


# Where keys are looked for


def test_each_place_comes_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = dict.fromkeys(ENVIRONMENT, "")
    write_profiles(
        '[default]\naccess_key_id="file"\naccess_key_secret="file"\nproject_id="file"\n'
        'endpoint="https://file.test"\n'
    )
    found = resolve()
    assert found.origins == dict.fromkeys(everywhere, "profile default") | {"ca_bundle": "default"}
    assert (found.access_key_id, found.project_id) == ("file", "file")
    assert (found.access_key_secret.reveal(), found.endpoint) == ("file", "https://file.test")
    set_environment(monkeypatch, access_key_id="env", project_id="env")
    found = resolve()
    assert (found.access_key_id, found.project_id) == ("env", "env")
    assert (found.access_key_secret.reveal(), found.endpoint) == ("file", "https://file.test")
    found = resolve(access_key_id="arg")
    assert (found.access_key_id, found.project_id) == ("arg", "env")
    assert found.origins["access_key_id"] == "argument"
    assert found.origins["project_id"] == "environment OCEANBASE_PROJECT_ID"
    assert found.origins["endpoint"] == "profile default"


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_every_setting_is_read_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    values = {"access_key_id": "id", "access_key_secret": SECRET, name: "https://env.test"}
    set_environment(monkeypatch, **values)
    found = getattr(resolve(), name)
    assert (found.reveal() if isinstance(found, Secret) else found) == "https://env.test"


def test_file_is_not_looked_at_when_the_keys_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    write_profiles("no TOML, and open to everybody", 0o666)
    assert with_keys().access_key_id == "id"
    set_environment(monkeypatch, **keys("env"))
    assert resolve().access_key_id == "env"


def test_profile_that_is_named_comes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_profiles('[prod]\naccess_key_id="prod"\naccess_key_secret="prod"\n[default]\n')
    set_environment(monkeypatch, **keys("env"), project_id="env")
    found = resolve("prod")
    assert (found.access_key_id, found.access_key_secret.reveal()) == ("prod", "prod")
    assert found.origins.items() >= keys("profile prod").items()
    assert found.project_id == "env"
    assert resolve("prod", access_key_id="arg").access_key_id == "arg"


def test_environment_fills_what_a_named_profile_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    write_profiles('[prod]\naccess_key_id="prod"\n')
    set_environment(monkeypatch, access_key_secret=SECRET)
    assert resolve("prod").access_key_secret.reveal() == SECRET


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_blank_variables_are_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    set_environment(monkeypatch, **dict.fromkeys(ENVIRONMENT, blank))
    write_profiles('[default]\naccess_key_id="file"\naccess_key_secret="file"\n')
    found = resolve()
    assert (found.access_key_id, found.endpoint) == ("file", HOSTS["global"])
    assert found.project_id is None


def test_blanks_around_settings_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, access_key_id=" env\n", access_key_secret=f"\t{SECRET} \n")
    found = resolve(project_id=" p ")
    assert (found.access_key_id, found.project_id) == ("env", "p")
    assert found.access_key_secret.reveal() == SECRET


# What to do when there are none


def test_message_says_where_keys_can_be_put() -> None:
    with pytest.raises(CredentialsError) as caught:
        resolve()
    for part in (
        "pass access_key_id and access_key_secret",
        "OCEANBASE_ACCESS_KEY_ID and OCEANBASE_ACCESS_KEY_SECRET",
        "[default] in ~/.config/obanalytics/credentials.toml (chmod 600)",
    ):
        assert part in str(caught.value)


def test_message_names_what_is_missing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, access_key_id="env")
    write_profiles("[prod]\n")
    with pytest.raises(CredentialsError, match=r"pass access_key_secret, or set") as caught:
        resolve("prod")
    assert "OCEANBASE_ACCESS_KEY_ID" not in str(caught.value)
    assert "[prod]" in str(caught.value)


@pytest.mark.parametrize("name", ["access_key_id", "access_key_secret"])
@pytest.mark.parametrize("blank", ["", " \n"])
def test_blank_key_is_none(name: str, blank: str) -> None:
    with pytest.raises(CredentialsError, match=f"pass {name}, or"):
        resolve(**(keys(SECRET) | {name: blank}))
    if name == "access_key_secret":
        with pytest.raises(CredentialsError):
            resolve(access_key_id="id", access_key_secret=Secret(""))


# Asking


def test_person_at_the_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = someone_answers(monkeypatch, " typed-id ", f"{SECRET}\n")
    found = resolve()
    assert asked == ["OceanBase access key id: ", "OceanBase access key secret: "]
    assert (found.access_key_id, found.access_key_secret.reveal()) == ("typed-id", SECRET)
    assert found.origins["access_key_id"] == found.origins["access_key_secret"] == "prompt"


def test_person_is_asked_for_what_is_missing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, access_key_id="env")
    asked = someone_answers(monkeypatch, SECRET)
    assert resolve().access_key_id == "env"
    assert asked == ["OceanBase access key secret: "]


def test_answer_that_is_blank_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    someone_answers(monkeypatch, "  ")
    with pytest.raises(CredentialsError, match="no access key id was given"):
        resolve()


@pytest.mark.parametrize("how", [EOFError, KeyboardInterrupt])
def test_person_who_leaves_gives_no_key(
    monkeypatch: pytest.MonkeyPatch, how: type[BaseException]
) -> None:
    def leave(_: str) -> str:
        raise how

    someone_answers(monkeypatch)
    monkeypatch.setattr(getpass, "getpass", leave)
    with pytest.raises(CredentialsError, match="no access key id was given") as caught:
        resolve()
    assert caught.value.__context__ is None


def test_typed_key_is_checked_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    someone_answers(monkeypatch, "a\x00b", SECRET)
    with pytest.raises(ValueError, match="access_key_id holds a control character"):
        resolve()


def notebook(*, answers: bool) -> SimpleNamespace:
    kernel = SimpleNamespace(_allow_stdin=answers)
    shell = type("ZMQInteractiveShell", (), {"kernel": kernel})()
    return SimpleNamespace(get_ipython=lambda: shell)


def test_notebook_is_asked_only_when_it_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = someone_answers(monkeypatch, "id", SECRET)
    monkeypatch.setitem(sys.modules, "IPython", notebook(answers=False))
    with pytest.raises(CredentialsError, match="no keys found"):
        resolve()
    monkeypatch.setitem(sys.modules, "IPython", notebook(answers=True))
    monkeypatch.setattr(sys, "stdin", None)
    assert resolve().access_key_id == "id"
    assert len(asked) == 2


def test_nobody_is_asked_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = someone_answers(monkeypatch, "id", SECRET)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(CredentialsError, match="no keys found"):
        resolve()
    assert asked == []


def test_nobody_is_asked_when_output_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    someone_answers(monkeypatch, "id", SECRET)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(CredentialsError, match="no keys found"):
        resolve()


# The file of profiles


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_file_that_others_can_open_is_refused(mode: int) -> None:
    path = write_profiles(f'[default]\naccess_key_id="id"\naccess_key_secret="{SECRET}"\n', mode)
    with pytest.raises(CredentialsError, match="chmod 600") as caught:
        resolve()
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    path.chmod(0o400)
    assert resolve().access_key_id == "id"


@pytest.mark.parametrize(
    "text",
    [
        f'[default]\naccess_key_secret = "{SECRET}\n',
        f"access_key_secret = {SECRET}",
        f'[default\naccess_key_secret = "{SECRET}"',
        f'a = 1\na = "{SECRET}"',
    ],
)
def test_file_that_is_no_toml_is_named_and_not_quoted(text: str) -> None:
    path = write_profiles(text)
    with pytest.raises(CredentialsError) as caught:
        resolve()
    assert str(caught.value) == f"{path} is no valid TOML file"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    trace = caught.value.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == "settings.py":
            assert SECRET not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next


def test_file_that_is_no_text_is_named() -> None:
    path = write_profiles("")
    path.write_bytes(b"\xff\xfe[default]")
    with pytest.raises(CredentialsError, match="is no valid TOML file"):
        resolve()


def test_unknown_profile_lists_the_others() -> None:
    write_profiles("[prod]\n[dev]\n")
    with pytest.raises(CredentialsError, match=r"no profile 'staging' in .*; there is: dev, prod"):
        resolve("staging")
    write_profiles("")
    with pytest.raises(CredentialsError, match="there is: none"):
        resolve("staging")


def test_profile_without_a_file_is_an_error_that_names_it() -> None:
    with pytest.raises(CredentialsError, match=r"profile 'prod' was asked for.*credentials\.toml"):
        resolve("prod")


def test_rest_of_the_file_is_left_alone() -> None:
    write_profiles(
        'top = 1\n[default]\naccess_key_id = 12345\naccess_key_secret = " x "\nother = [1]\n'
        'project_id = ""\n'
    )
    found = resolve()
    assert (found.access_key_id, found.project_id) == ("12345", None)
    assert found.access_key_secret.reveal() == "x"


def test_file_lies_in_the_home_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    write_profiles('[default]\naccess_key_id="home"\naccess_key_secret="home"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert resolve().access_key_id == "home"


# Addresses


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("global", "https://api-cloud.oceanbase.com"),
        (" Global ", "https://api-cloud.oceanbase.com"),
        ("CHINA", "https://api-cloud-cn.oceanbase.com"),
        ("https://g-api-cloud.oceanbase.com/", "https://g-api-cloud.oceanbase.com"),
        ("HTTPS://api.test:8443/base//", "HTTPS://api.test:8443/base"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("http://LOCALHOST", "http://LOCALHOST"),
    ],
)
def test_address_that_an_alias_or_url_stands_for(value: str, address: str) -> None:
    assert endpoint_of(value) == address
    assert with_keys(endpoint=value).endpoint == address


@pytest.mark.parametrize(
    "value",
    [
        "europe",
        "api-cloud.oceanbase.com",
        "ftp://api.test",
        "https://",
        "https:///path",
        "https://api.test:port",
        "https://api.test:99999",
        "https://[::1",
        "https://api.test?x=1",
        "https://api.test#x",
        "https://api .test",
        "https://api.test/a\tb",
        "https://api.\ntest",
    ],
)
def test_what_is_no_address_is_refused_with_its_value(value: str) -> None:
    with pytest.raises(ValueError, match='"global", "china" or a URL with https, not') as caught:
        endpoint_of(value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        f"https://id:{SECRET}@api.test",
        f"https://id:{SECRET}@api.test:port",
        f"http://id:{SECRET}@127.0.0.1",
        f"ftp://id:{SECRET}@api.test",
        f"id:{SECRET}@api.test",
    ],
)
def test_address_with_keys_is_refused_without_showing_them(value: str) -> None:
    with pytest.raises(ValueError, match="the endpoint must not hold keys") as caught:
        endpoint_of(value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        *("api.test", "localhost.api.test", "127.0.0.1.api.test", "10.0.0.1", "0.0.0.0"),  # noqa: S104 - refused
        *("[2001:db8::1]", "127.1", "2130706433", "localhost.", "[::]"),
    ],
)
def test_plain_http_leaves_this_machine_never(host: str) -> None:
    with pytest.raises(ValueError, match="would send the sign-in in the clear"):
        endpoint_of(f"http://{host}:80")
    assert endpoint_of(f"https://{host}:80") == f"https://{host}:80"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)


@given(st.ip_addresses().filter(lambda a: a.version == 4 or a.ipv4_mapped is None))
def test_other_addresses_are_not_this_machine(address: Any) -> None:
    expected = address.packed[0] == 127 if address.version == 4 else int(address) == 1
    assert is_loopback(str(address)) is expected


# What no setting can be


@pytest.mark.parametrize("name", ["access_key_id", "project_id", "endpoint"])
@pytest.mark.parametrize("mark", ["\n", "\r\nX-Evil: 1", "\x00", "\x7f"])
def test_control_characters_are_refused(name: str, mark: str) -> None:
    values = {"access_key_id": "id", "access_key_secret": SECRET, name: f"https://a.test/{mark}b"}
    with pytest.raises(ValueError, match=rf"{name} (holds a control character|must be)"):
        resolve(**values)


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u00a0", "é", "钥"])
def test_letters_that_no_header_can_carry_are_refused(mark: str) -> None:
    for name in ("access_key_id", "project_id"):
        values = {"access_key_id": "id", "access_key_secret": SECRET, name: f"a{mark}b"}
        with pytest.raises(ValueError, match=f"{name} holds"):
            resolve(**values)


# Proxies and certificates


def test_proxies_are_the_environments_but_never_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    monkeypatch.setenv("http_proxy", "http://proxy.test:2")
    monkeypatch.setenv("ftp_proxy", "http://proxy.test:3")
    found = with_keys()
    assert found.proxies == {"https": "http://proxy.test:1", "http": "http://proxy.test:2"}
    assert found.origins["proxies"] == "environment"
    for address in ("http://127.0.0.1:8080", "http://localhost", "https://[::1]"):
        assert with_keys(endpoint=address).proxies == {}
    monkeypatch.setenv("NO_PROXY", "oceanbase.com")
    assert with_keys().proxies == {}
    assert "proxies" not in with_keys().origins


def test_proxies_that_are_given_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    for proxies in ({}, {"https": "http://ours.test"}):
        found = Settings.resolve(keys(SECRET), proxies=proxies)
        assert found.proxies == proxies
        assert found.origins["proxies"] == "argument"


def test_bundle_of_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (with_keys().ca_bundle, with_keys().origins["ca_bundle"]) == (None, "default")
    monkeypatch.setenv("CURL_CA_BUNDLE", "/curl.pem")
    assert with_keys().ca_bundle == "/curl.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert with_keys().ca_bundle == "/requests.pem"
    assert with_keys().origins["ca_bundle"] == "environment REQUESTS_CA_BUNDLE"
    found = Settings.resolve(keys(SECRET), ca_bundle="/ours.pem")
    assert (found.ca_bundle, found.origins["ca_bundle"]) == ("/ours.pem", "argument")


# The secret


def test_no_way_of_showing_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pr0xy-pass@proxy.test:1")
    found = with_keys()
    assert found.proxies == {"https": "http://user:pr0xy-pass@proxy.test:1"}
    for shown in (
        repr(found),
        str(found),
        f"{found}",
        found.describe(),
        repr(vars(found)["origins"]),
    ):
        assert SECRET not in shown
        assert "pr0xy-pass" not in shown
    assert SECRET not in repr(vars(found))


def test_description_names_every_setting_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, access_key_id="LTAI5tExample", project_id="proj-1")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass@proxy.test:1")
    lines = resolve(access_key_secret=SECRET).describe().splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [
        ["access_key_id", "LTAI…", "environment OCEANBASE_ACCESS_KEY_ID"],
        ["access_key_secret", "<secret>", "argument"],
        ["project_id", "proj-1", "environment OCEANBASE_PROJECT_ID"],
        ["endpoint", "https://api-cloud.oceanbase.com", "default"],
        ["proxies", "http://…@proxy.test:1", "environment"],
        ["ca_bundle", "None", "default"],
    ]


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r:>20}".format,
        "{:>20}".format,
        lambda secret: f"{secret:s}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way must be safe too
        lambda secret: repr([secret]),
    ],
)
def test_secret_is_masked_in_every_text(show: Any) -> None:
    shown = show(Secret(SECRET))
    assert "<secret>" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "copied",
    [pickle.dumps, copy.copy, copy.deepcopy, dataclasses.asdict, dataclasses.astuple],
)
def test_secret_is_not_copied(copied: Any) -> None:
    with pytest.raises(TypeError, match="not for pickling or copying") as caught:
        copied(with_keys() if copied.__module__ == "dataclasses" else Secret(SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_settings_are_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not for pickling"):
        pickle.dumps(with_keys(), protocol)


def test_secret_has_no_dictionary_to_look_into() -> None:
    secret = Secret(SECRET)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        vars(secret)
    assert SECRET not in repr(dir(secret))
    assert secret.reveal() == SECRET


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        with_keys().endpoint = "https://elsewhere.test"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "shown"), [("LTAI5tExample", "LTAI…"), ("abcd", "a…"), ("a", "a…"), ("", "…")]
)
def test_key_id_is_abbreviated(key: str, shown: str) -> None:
    assert abbreviate(key) == shown
