"""What a worker remembers of the tokens that it was shown, and for how long."""

import logging
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from modelworker_api import kube, wire
from modelworker_server.auth import (
    MAX_TOKEN_BYTES,
    REMEMBER_REFUSED_SECONDS,
    REMEMBER_SECONDS,
    REMEMBERED,
    Auth,
)
from modelworker_server.errors import Forbidden, NoTrust, Unauthorized, WorkerError
from tests.token_support import NOW, Issuer

RSA, OTHER = Issuer(), Issuer()
TRUST = RSA.trust("lab", "team")


class Clock:
    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


def showing(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"worker"), (b"authorization", f"Bearer {token}".encode())]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature was looked at."""
    seen: list[str] = []

    def decode(token: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(token)
        return original(token, *args, **kwargs)

    original = jwt.decode
    monkeypatch.setattr(jwt, "decode", decode)
    return seen


@pytest.mark.parametrize(
    ("token", "kept"),
    [
        pytest.param(RSA.token(), REMEMBER_SECONDS, id="good"),
        pytest.param(RSA.token(exp=NOW + 20), 20, id="good-to-its-end"),
        pytest.param(OTHER.token(), REMEMBER_REFUSED_SECONDS, id="wrong"),
        pytest.param(
            RSA.token(about={"namespace": "far"}),
            REMEMBER_REFUSED_SECONDS,
            id="may-not",
        ),
    ],
)
def test_a_verdict_is_remembered_for_a_while(token: str, kept: float, checks: list[str]) -> None:
    clock = Clock()
    auth = Auth(clock)
    auth.take(TRUST)
    first = auth.refusal(showing(token))
    clock.now += kept - 0.5
    assert auth.refusal(showing(token)) is first
    assert len(checks) == 1
    clock.now += 0.5
    auth.refusal(showing(token))
    assert len(checks) == 2


def test_a_token_in_its_leeway_is_checked_each_time(checks: list[str]) -> None:
    auth = Auth(lambda: NOW)
    auth.take(TRUST)
    for _ in range(2):
        assert auth.refusal(showing(RSA.token(exp=NOW - 5))) is None
    assert len(checks) == 2


def shut_out(trust: wire.Trust) -> wire.Trust:
    return trust.model_copy(update={"namespaces": ["team"]})


def other_keys(trust: wire.Trust) -> wire.Trust:
    return trust.model_copy(update={"keys": [OTHER.jwk]})


@pytest.mark.parametrize(
    ("change", "now"),
    [
        pytest.param(shut_out, Forbidden, id="namespaces"),
        pytest.param(other_keys, Unauthorized, id="keys"),
    ],
)
def test_a_change_of_trust_counts_at_once(
    change: Callable[[wire.Trust], wire.Trust], now: type[WorkerError]
) -> None:
    auth = Auth(lambda: NOW)
    token = RSA.token()
    auth.take(TRUST)
    assert auth.refusal(showing(token)) is None
    auth.take(change(TRUST))
    assert isinstance(auth.refusal(showing(token)), now)
    auth.take(TRUST)
    assert auth.refusal(showing(token)) is None


def test_the_same_trust_again_changes_nothing(checks: list[str]) -> None:
    auth = Auth(lambda: NOW)
    for _ in range(3):
        assert auth.take(TRUST.model_copy(deep=True))
        auth.refusal(showing(RSA.token()))
    assert len(set(checks)) == len(checks) == 1


def test_keys_that_are_no_good_do_not_replace_those_that_are() -> None:
    auth = Auth(lambda: NOW)
    auth.take(TRUST)
    assert not auth.take(TRUST.model_copy(update={"keys": []}))
    assert auth.refusal(showing(RSA.token())) is None


def test_wrong_tokens_drive_out_no_good_one_and_are_not_kept_for_ever(checks: list[str]) -> None:
    auth = Auth(lambda: NOW)
    auth.take(TRUST)
    good = RSA.token()
    auth.refusal(showing(good))
    for number in range(REMEMBERED + 1):
        auth.refusal(showing(f"wrong-{number}"))
    auth.refusal(showing(good))
    assert checks == [good]
    assert len(auth._refused._verdicts) == REMEMBERED


def test_a_token_that_is_too_long_is_not_looked_at(checks: list[str]) -> None:
    auth = Auth(lambda: NOW)
    auth.take(TRUST)
    refusal = auth.refusal(showing("a" * (MAX_TOKEN_BYTES + 1)))
    assert isinstance(refusal, Unauthorized)
    assert "8192 bytes" in refusal.message
    assert checks == []


def test_no_token_and_no_trust_are_told_apart() -> None:
    auth = Auth(lambda: NOW)
    untrusting = auth.refusal(showing(RSA.token()))
    assert isinstance(untrusting, NoTrust)
    assert untrusting.headers() == {"retry-after": "1"}
    auth.take(TRUST)
    missing = auth.refusal([])
    assert isinstance(missing, Unauthorized)
    assert missing.headers() == {"www-authenticate": f'Bearer realm="{kube.INFERENCE_AUDIENCE}"'}


def test_nothing_of_a_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        auth = Auth(lambda: NOW)
        auth.take(TRUST)
        for token in ("canary-secret", OTHER.token(), RSA.token()):
            auth.refusal(showing(token))
    assert caplog.text == ""
