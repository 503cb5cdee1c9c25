"""Refusals over real sockets: bodies that nobody reads neither hang nor break a connection."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from modelworker_server.auth import Auth
from tests.fake_worker import FakeWorker
from tests.server_support import Running, running_server
from tests.token_support import Issuer

ISSUER = Issuer("key-1", "ES256")
LIMIT = 64 * 1024
"""Of a body, in the servers below."""


@pytest.fixture(params=[False, True], ids=["h11", "native"], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    if request.param:
        pytest.importorskip("httptools")
    with running_server(FakeWorker(), native=request.param, auth=Auth(time.time)) as running:
        running.loop.call_soon_threadsafe(running.state.trust, ISSUER.trust())
        yield running


def good() -> dict[str, str]:
    return {"authorization": f"Bearer {ISSUER.token(now=time.time())}"}


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield bytes(1000)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        pytest.param(bytes, 0, id="empty"),
        pytest.param(bytes, 50_000, id="short"),
        pytest.param(chunks, 50_000, id="chunks"),
    ],
)
def test_a_refused_client_can_go_on_with_a_token(server: Running, content: type, size: int) -> None:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        for _ in range(3):
            refused = client.post("/v1/completions", content=content(size))
            assert refused.status_code == 401
            assert "connection" not in refused.headers
            answer = client.post("/v1/completions", json={"prompt": "a"}, headers=good())
            assert answer.status_code == 200
        metrics = client.get("/metrics")
    assert metrics.is_success


def test_a_long_body_gets_its_answer_and_loses_its_connection(server: Running) -> None:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        refused = client.post("/v1/completions", content=bytes(2 * LIMIT))
        assert refused.status_code == 401
        assert refused.headers["connection"] == "close"
        assert client.get("/healthz").is_success


@pytest.mark.parametrize(
    "length",
    [
        pytest.param(b"Content-Length: 99999999999", id="long"),
        pytest.param(b"Transfer-Encoding: chunked", id="chunked"),
    ],
)
def test_an_endless_body_is_cut_off(server: Running, length: bytes) -> None:
    url = urlsplit(server.url)
    sent, cut_off = 0, False
    piece = b"2710\r\n" + b"a" * 10_000 + b"\r\n"
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: w\r\n" + length + b"\r\n\r\n")
        while not cut_off and sent < 500_000_000:
            try:
                connection.sendall(piece)
                sent += len(piece)
            except ConnectionError:
                cut_off = True
    assert cut_off
    # What was taken in is the limit, and what lay in the buffers of the sockets.
    assert sent < 50_000_000


def test_a_client_that_waits_to_be_asked_for_its_body_is_answered(server: Running) -> None:
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: w\r\nContent-Length: 1000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        said = b""
        while data := connection.recv(65536):
            said += data
    assert said.startswith(b"HTTP/1.1 401 ")
