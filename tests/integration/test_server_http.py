"""The HTTP server under clients that send too much, or two things at once."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from modelworker_server.http_server import MAX_HEADER_BYTES
from tests.fake_worker import FakeWorker
from tests.server_support import Running, running_server


@pytest.fixture(params=[False, True], ids=["h11", "native"], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    if request.param:
        pytest.importorskip("httptools")
    with running_server(FakeWorker(), native=request.param) as running:
        yield running


def talk(server: Running, *parts: bytes) -> bytes:
    """Everything that the server sends until it closes."""
    url = urlsplit(server.url)
    said = b""
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65536):
                said += data
        except ConnectionError:
            pass  # it closed before everything was sent
    return said


def get(*headers: bytes) -> bytes:
    lines = (b"GET /healthz HTTP/1.1", b"Host: worker", *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def test_requests_of_one_connection_are_answered_one_by_one(server: Running) -> None:
    body = b'{"prompt": "' + b"a" * 100 + b'", "max_tokens": 1, "user": "' + b"u" * 40_000 + b'"}'
    post = (
        b"POST /v1/completions HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    # Bodies count for nothing in the limit of a head.
    said = talk(server, get(), post + body, post + body, post + body, get(b"Connection: close"))
    assert said.count(b"HTTP/1.1 200 ") == 5


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((get(b"X: " + b"a" * (MAX_HEADER_BYTES + 70_000)),), id="one-header"),
        pytest.param((get(*[b"X-%d: %s" % (i, b"a" * 999) for i in range(200)]),), id="many"),
        pytest.param(
            (b"GET / HTTP/1.1\r\nX: ", *[b"a" * 9000 for _ in range(40)]), id="without-end"
        ),
        pytest.param((b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",), id="path"),
    ],
)
def test_a_head_that_is_too_long_is_refused(server: Running, parts: tuple[bytes, ...]) -> None:
    said = talk(server, *parts)
    assert b" 200 " not in said.split(b"\r\n")[0]
    assert b'"state"' not in said


def test_a_request_with_two_lengths_is_refused_by_the_native_parser() -> None:
    # h11 reads it as RFC 9112 allows: the chunks count, and the second request is one.
    pytest.importorskip("httptools")
    smuggled = (
        b"POST /v1/completions HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\n"
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get()
    )
    with running_server(FakeWorker(), native=True) as server:
        said = talk(server, smuggled)
    assert b" 400 " in said.split(b"\r\n")[0]
    assert b'"state"' not in said
