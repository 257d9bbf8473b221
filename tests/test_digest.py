"""The sign-in: published examples, a second implementation, and whose fault a refusal is."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.auth import HTTPDigestAuth

from obanalytics.errors import AuthenticationError
from obanalytics.settings import Secret
from obanalytics.simulator.digest import response as response_by_the_simulator
from obanalytics.transport import LATER_REFUSALS, _Challenge, _Digest, _strongest

if TYPE_CHECKING:
    from obanalytics.transport import _Answer

TARGET = "/api/v2/instances?pageNumber=1&requestId=0b7c"
RFC_7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


def digest(key: str = "Circle of Life") -> _Digest:
    return _Digest("Mufasa", Secret(key))


def strongest(header: str) -> _Challenge:
    challenge = _strongest(header)
    assert challenge is not None
    return challenge


def answered(state: _Digest, header: str, target: str = TARGET) -> _Answer:
    """Challenge a state that was not asked yet, and return its answer."""
    state.challenged(None, header)
    answer = state.answer("GET", target)
    assert answer is not None
    return answer


def fields(header: str) -> dict[str, str]:
    pairs = re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', header)
    return {name: quoted or plain for name, quoted, plain in pairs}


# Published examples


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_worked_example_of_rfc_7616(algorithm: str, expected: str) -> None:
    challenge = strongest(RFC_7616.replace("SHA-256", algorithm))
    client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    request = ("GET", "/dir/index.html")
    assert digest()._response(challenge, "00000001", client_nonce, request) == expected


def test_example_of_rfc_2617() -> None:
    challenge = strongest(
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    state = digest(key="Circle Of Life")
    response = state._response(challenge, "00000001", "0a4f113b", ("GET", "/dir/index.html"))
    assert response == "6629fae49393a05397450978507c4ef1"


def test_older_form_of_rfc_2069_sends_neither_count_nor_client_nonce() -> None:
    # The response of erratum 749: the one printed in the RFC is wrong.
    header = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    answer = answered(digest(key="CircleOfLife"), header, "/dir/index.html")
    sent = fields(answer.header)
    assert sent["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert sent.keys().isdisjoint({"qop", "nc", "cnonce", "opaque"})


# The header that is sent


def test_header_holds_what_the_server_needs_and_quotes_what_the_rfc_quotes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    answer = answered(digest(), RFC_7616, "/dir/index.html")
    response = fields(answer.header)["response"]
    assert answer.header == (
        'Digest username="Mufasa", realm="http-auth@example.org", '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", uri="/dir/index.html", '
        f'response="{response}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", '
        f'algorithm=SHA-256, qop=auth, nc=00000001, cnonce="{"0" * 32}"'
    )


def test_client_nonce_is_new_each_time() -> None:
    state = digest()
    state.challenged(None, RFC_7616)
    headers = [state.answer("GET", TARGET) for _ in range(20)]
    assert len({fields(each.header)["cnonce"] for each in headers if each}) == 20


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "MD5-sess", "sha-256-SESS"])
@pytest.mark.parametrize("qop", ["auth", ""])
def test_simulator_computes_the_same_response(algorithm: str, qop: str) -> None:
    offer = f', qop="{qop}"' if qop else ""
    header = f'Digest realm="a b", nonce="n/1==", algorithm={algorithm}{offer}'
    sent = fields(answered(digest(), header).header)
    expected = response_by_the_simulator(
        sent, algorithm, "Mufasa:a b:Circle of Life", f"GET:{TARGET}"
    )
    assert sent["response"] == expected
    assert ("cnonce" in sent) == (qop == "auth" or algorithm.lower().endswith("-sess"))


def test_sha_512_256_by_hand() -> None:
    def hashed(text: str) -> str:
        return hashlib.new("sha512_256", text.encode()).hexdigest()

    header = 'Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth"'
    sent = fields(answered(digest(), header).header)
    first, second = hashed("Mufasa:r:Circle of Life"), hashed(f"GET:{TARGET}")
    assert sent["response"] == hashed(f"{first}:n:00000001:{sent['cnonce']}:auth:{second}")


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
UNQUOTED = PLAIN.filter(lambda text: not set(text) & set('"\\'))


@settings(max_examples=200)
@given(
    user=UNQUOTED,
    secret=st.text(max_size=12).filter(lambda text: text.isprintable()),
    realm=UNQUOTED,
    nonce=UNQUOTED,
    algorithm=st.sampled_from(["MD5", "SHA-256", "MD5-SESS", None]),
    qop=st.sampled_from(["auth", "auth,auth-int", None]),
    target=st.sampled_from([TARGET, "/", "/api/v2/instances/ob%2F1/tenants?a=1%3A2"]),
)
def test_library_for_requests_computes_the_same_response(
    *,
    user: str,
    secret: str,
    realm: str,
    nonce: str,
    algorithm: str | None,
    qop: str | None,
    target: str,
) -> None:
    other = HTTPDigestAuth(user, secret)
    other.init_per_thread_state()
    offered = {"realm": realm, "nonce": nonce, "algorithm": algorithm, "qop": qop}
    other._thread_local.chal = {name: value for name, value in offered.items() if value}
    theirs = fields(other.build_digest_header("GET", f"https://api.test{target}") or "")
    header = ", ".join(f'{name}="{value}"' for name, value in other._thread_local.chal.items())
    ours = _Digest(user, Secret(secret))._response(
        strongest(f"Digest {header}"),
        theirs.get("nc", ""),
        # Their header leaves the client nonce out where -sess needs it without a qop.
        theirs.get("cnonce", ""),
        ("GET", target),
    )
    if qop or algorithm != "MD5-SESS":
        assert ours == theirs["response"]


@settings(max_examples=200)
@given(realm=PLAIN, nonce=PLAIN, opaque=PLAIN)
def test_quoted_values_come_back_as_they_were_sent(realm: str, nonce: str, opaque: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = f"Digest realm={quoted(realm)}, nonce={quoted(nonce)}, opaque={quoted(opaque)}"
    challenge = strongest(header)
    assert (challenge.realm, challenge.nonce, challenge.opaque) == (realm, nonce, opaque)
    sent = answered(digest(), header).header
    for name, value in {"realm": realm, "nonce": nonce, "opaque": opaque}.items():
        assert f"{name}={quoted(value)}" in sent


# Choosing among challenges


@pytest.mark.parametrize(
    ("header", "nonce"),
    [
        ('Digest nonce="a", algorithm=MD5, Digest nonce="b", algorithm=SHA-256', "b"),
        ('Digest nonce="b", algorithm=SHA-256, Digest nonce="a", algorithm=MD5', "b"),
        ('Digest nonce="a", algorithm=SHA-256, Digest nonce="b", algorithm=SHA-512-256', "b"),
        ('Digest nonce="a", algorithm=SHA-512, Digest nonce="b", algorithm=MD5', "b"),
        ('Digest nonce="a", algorithm=SHA-256-sess, Digest nonce="b", algorithm=MD5', "a"),
        ('Digest nonce="a", algorithm=SHA-256, qop="auth-int", Digest nonce="b", qop="auth"', "b"),
        ('Digest nonce="a", Digest nonce="b"', "a"),
        ('Basic realm="x, y", Digest realm="r", nonce="b"', "b"),
        ('Digest realm="r", nonce="b", Basic realm="x", charset="UTF-8"', "b"),
        ('Negotiate, Digest realm="r", nonce="b"', "b"),
        ('NTLM TlRMTVNTUAAC=, Digest realm="r", nonce="b"', "b"),
        ('Digest realm="a, Digest nonce=x, b", nonce="b"', "b"),
        ('Digest realm="a \\", nonce=\\"x", nonce="b"', "b"),
        ('dIgEsT NONCE = "b" , Algorithm = md5', "b"),
        ("Digest nonce=b,realm=r,qop=auth,algorithm=MD5", "b"),
    ],
)
def test_strongest_usable_challenge_is_chosen(header: str, nonce: str) -> None:
    assert strongest(header).nonce == nonce


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Digest",
        'Basic realm="x"',
        'Basic realm="Digest nonce=x"',
        'Digest realm="r", nonce="n", qop="auth-int"',
        'Digest realm="r", nonce="n", algorithm=SHA-1',
        'Digest realm="r", qop="auth"',
        'Bearer nonce="n"',
        '","=" Digest',
    ],
)
def test_what_cannot_be_answered_is_no_challenge(header: str) -> None:
    assert _strongest(header) is None


def test_every_part_of_a_challenge_is_read() -> None:
    header = 'Digest realm="a, b", nonce="n", opaque="o", algorithm=MD5, qop="x, AUTH", stale=TRUE'
    assert strongest(header) == _Challenge("a, b", "n", "o", "MD5", "auth", stale=True)
    plain = _Challenge("", "n", "", "MD5", "", stale=False)
    assert strongest('Digest nonce="n", qop="", stale=no') == plain


@settings(max_examples=300)
@given(st.text(st.sampled_from('Digest Basic,="\\ nonce qop auth algorithm MD5\t'), max_size=60))
def test_no_header_makes_anything_but_a_challenge_or_none(header: str) -> None:
    challenge = _strongest(header)
    assert challenge is None or challenge.hash("")


# Nonces and counts


def test_nothing_is_answered_before_a_challenge() -> None:
    assert digest().answer("GET", TARGET) is None


def test_counts_of_a_nonce_grow_by_one() -> None:
    state = digest()
    state.challenged(None, RFC_7616)
    answers = [state.answer("GET", TARGET) for _ in range(3)]
    assert [answer.count for answer in answers if answer] == [1, 2, 3]
    assert [fields(a.header)["nc"] for a in answers if a] == ["00000001", "00000002", "00000003"]
    assert answered(state, RFC_7616.replace("7ypf", "other")).count == 1
    assert answered(state, RFC_7616).count == 4


def test_threads_never_send_one_count_of_a_nonce_twice() -> None:
    state = digest()
    together = threading.Barrier(8)

    def some(_: int) -> list[int]:
        state.challenged(None, RFC_7616)
        together.wait()
        return [answer.count for _ in range(100) if (answer := state.answer("GET", TARGET))]

    with ThreadPoolExecutor(8) as pool:
        counts = [count for part in pool.map(some, range(8)) for count in part]
    assert sorted(counts) == list(range(1, 801))


def test_every_thread_keeps_the_nonce_it_was_given() -> None:
    state = digest()
    answered(state, RFC_7616)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(state.answer, "GET", TARGET).result() is None
        other = pool.submit(answered, state, RFC_7616.replace("7ypf", "other")).result()
    assert other.count == 1
    mine = state.answer("GET", TARGET)
    assert mine is not None
    assert mine.challenge.nonce.startswith("7ypf")


def test_counts_of_old_nonces_are_forgotten() -> None:
    state = digest()
    for number in range(1000):
        answered(state, f'Digest nonce="{number}"')
    assert len(state._counts) <= 256


def test_next_nonce_takes_the_place_of_the_old_one() -> None:
    state = digest()
    first = answered(state, RFC_7616)
    state.accepted(first, 'qop=auth, rspauth="00", nextnonce="n, 2"')
    second = state.answer("GET", TARGET)
    assert second is not None
    assert (second.challenge.nonce, second.count) == ("n, 2", 1)
    assert second.challenge.opaque == first.challenge.opaque
    state.accepted(second, "")
    third = state.answer("GET", TARGET)
    assert third is not None
    assert (third.challenge.nonce, third.count) == ("n, 2", 2)


# Whose fault a refusal is


def refused(state: _Digest, header: str = RFC_7616) -> bool:
    """Have an answer refused with a challenge, and tell whether it is worth another try."""
    answer = state.answer("GET", TARGET)
    challenge = state.challenged(answer, header)
    assert challenge is not None
    return state.worth_another_try(answer, challenge)


def accepted(state: _Digest) -> None:
    state.accepted(state.answer("GET", TARGET), "")


def test_first_challenge_is_answered_and_a_wrong_key_is_final() -> None:
    state = digest()
    assert refused(state)
    assert not refused(state)


def test_stale_nonces_are_no_ones_fault() -> None:
    state = digest()
    assert refused(state)
    assert all(refused(state, RFC_7616 + ", stale=true") for _ in range(20))
    assert not refused(state)


def test_refusals_after_a_success_are_taken_for_the_nonces_a_few_times() -> None:
    state = digest()
    assert refused(state)
    accepted(state)
    assert [refused(state) for _ in range(LATER_REFUSALS + 1)] == [True] * LATER_REFUSALS + [False]


def test_key_that_works_between_refusals_is_not_given_up() -> None:
    state = digest()
    assert refused(state)
    for _ in range(20):
        accepted(state)
        assert refused(state)


def test_success_in_one_thread_counts_for_the_others() -> None:
    state = digest()
    answered(state, RFC_7616)
    accepted(state)
    with ThreadPoolExecutor(1) as pool:
        tries = [pool.submit(refused, state).result() for _ in range(LATER_REFUSALS + 2)]
    assert tries == [True] * (LATER_REFUSALS + 1) + [False]


# What may be shown


def test_no_repr_shows_a_response_or_the_secret() -> None:
    state = digest(key="s3cret-of-ours")
    answer = answered(state, RFC_7616)
    response = fields(answer.header)["response"]
    shown = f"{answer!r} {answer} {answer.challenge!r} {answer.challenge.describe()} {state!r}"
    assert response not in shown
    assert "s3cret-of-ours" not in shown


def test_description_of_a_challenge() -> None:
    assert strongest(RFC_7616).describe() == "Digest, algorithm SHA-256, qop auth, stale no"
    stale = strongest('Digest nonce="n", stale=true')
    assert stale.describe() == "Digest, algorithm MD5, qop none, stale yes"


def test_machine_that_refuses_the_algorithm_is_an_error_without_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr(hashlib, "new", refuse)
    with pytest.raises(AuthenticationError, match="cannot compute SHA-256") as caught:
        answered(digest(key="s3cret-of-ours"), RFC_7616)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "s3cret-of-ours" not in str(caught.value)
