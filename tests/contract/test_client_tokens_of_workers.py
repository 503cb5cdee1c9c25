"""LM against the worker's own check of tokens."""

import threading
import time
from collections.abc import Iterator

import pytest

from modelworker import LM, AccessDenied, Unavailable
from modelworker_server.auth import Auth
from tests.fake_worker import FakeWorker, text_of
from tests.server_support import Running, running_server
from tests.token_support import Issuer

ISSUER = Issuer("key-1", "ES256")
STRANGER = Issuer("key-1", "ES256")
ELSEWHERE = {"namespace": "elsewhere", "serviceaccount": {"name": "runner", "uid": "0000"}}


@pytest.fixture
def untold() -> Iterator[Running]:
    """A worker that has not heard yet whose tokens to take."""
    with running_server(FakeWorker(), auth=Auth(time.time)) as running:
        yield running


def tell(server: Running) -> None:
    server.loop.call_soon_threadsafe(server.state.trust, ISSUER.trust())


@pytest.fixture
def server(untold: Running) -> Running:
    tell(untold)
    return untold


def lm(server: Running, token: str | None) -> LM:
    return LM("policy", endpoints=[server.url], api_key=token, timeout=20)


def test_a_token_is_taken_by_calls_and_streams(server: Running) -> None:
    with lm(server, ISSUER.token(now=time.time())) as client:
        assert client.generate("ab", max_tokens=3).text == text_of("ab", 0, 3)
        parts = [part.text for part in client.stream("ab", max_tokens=3)]
        assert "".join(parts) == text_of("ab", 0, 3)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        pytest.param(None, "does not accept no token: .*kubectl create token", id="none"),
        pytest.param("nonsense", "does not accept the token given as api_key: ", id="no-token"),
        pytest.param(STRANGER.token(now=time.time()), "given as api_key: ", id="stranger"),
        pytest.param(ISSUER.token(now=time.time() - 7200), "expired", id="expired"),
        pytest.param(
            ISSUER.token(now=time.time(), about=ELSEWHERE), "refused.*elsewhere", id="namespace"
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 3_000_000], ids=["small", "large"])
def test_what_the_worker_says_comes_out(
    server: Running, token: str | None, words: str, size: int
) -> None:
    with lm(server, token) as client, pytest.raises(AccessDenied, match=words) as caught:
        client.generate("x" * size)
    assert token is None or token not in str(caught.value)


def test_a_worker_that_has_not_heard_yet_is_asked_again(untold: Running) -> None:
    with lm(untold, ISSUER.token(now=time.time())) as client:
        with pytest.raises(Unavailable, match="not serving"):
            client.generate("ab", timeout=0.5)
        come = threading.Timer(0.5, tell, (untold,))
        come.start()
        assert client.generate("ab", max_tokens=3).text == text_of("ab", 0, 3)
        come.join()
