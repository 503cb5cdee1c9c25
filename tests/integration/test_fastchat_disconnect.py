"""A client of FastChat's routes that goes away ends its work, over real sockets."""

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fake_worker import FakeWorker
from tests.fastchat_support import EMBEDDINGS, GENERATE, STREAM
from tests.server_support import running_server
from tests.support import eventually


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(GENERATE, {"prompt": "a", "max_new_tokens": 400}, id="whole"),
        pytest.param(STREAM, {"prompt": "a", "max_new_tokens": 400}, id="stream"),
        pytest.param(STREAM, {"prompt": "a", "max_new_tokens": 400, "n": 3}, id="stream-of-lists"),
        pytest.param(EMBEDDINGS, {"input": ["a"]}, id="embeddings"),
    ],
)
def test_closing_the_connection_ends_the_work(path: str, body: dict[str, Any]) -> None:
    worker = FakeWorker()
    worker.step = lambda: asyncio.sleep(600 if path == EMBEDDINGS else 0.02)
    with running_server(worker) as server:
        url = urlsplit(server.url)
        content = json.dumps(body).encode()
        connection = socket.create_connection((url.hostname or "", url.port or 0), timeout=10)
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        if path == STREAM:
            assert connection.recv(64).startswith(b"HTTP/1.1 200")
        eventually(
            lambda: (worker.active, server.state.limiter.running),
            until=lambda seen: seen == (1, 1),
            interval=0.01,
            what="running call",
        )
        connection.close()
        eventually(
            lambda: (worker.active, worker.cancelled, server.state.limiter.running),
            until=lambda seen: seen == (0, 1, 0),
            timeout=5,
            interval=0.01,
            what="cancelled call",
        )
