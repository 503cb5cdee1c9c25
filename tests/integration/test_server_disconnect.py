"""A client that goes away ends its work on the worker, over real sockets."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fake_reward_worker import FakeRewardWorker
from tests.fake_worker import FakeWorker
from tests.server_support import Running, running_server
from tests.support import eventually


@pytest.fixture
def server() -> Iterator[Running]:
    worker = FakeWorker()
    worker.step = lambda: asyncio.sleep(0.02)
    with running_server(worker) as running:
        yield running


def send(server: Running, path: str, body: dict[str, Any]) -> socket.socket:
    url = urlsplit(server.url)
    content = json.dumps(body).encode()
    connection = socket.create_connection((url.hostname or "", url.port or 0), timeout=10)
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return connection


def counts(server: Running) -> dict[str, int]:
    return {
        "active": server.worker.active,
        "cancelled": server.worker.cancelled,
        "running": server.state.limiter.running,
        "waiting": server.state.limiter.waiting,
    }


COMPLETION = "/v1/completions"
CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("path", "body", "calls"),
    [
        pytest.param(COMPLETION, {"prompt": "a", "max_tokens": 500}, 1, id="completion"),
        pytest.param(
            COMPLETION, {"prompt": "a", "max_tokens": 500, "stream": True}, 1, id="stream"
        ),
        pytest.param(COMPLETION, {"prompt": ["a", "b", "c"], "max_tokens": 500}, 3, id="batch"),
        pytest.param(
            COMPLETION,
            {"prompt": ["a", "b", "c"], "max_tokens": 500, "stream": True},
            3,
            id="batch-stream",
        ),
        pytest.param(CHAT, {"messages": USER}, 1, id="chat"),
        pytest.param(CHAT, {"messages": USER, "stream": True}, 1, id="chat-stream"),
    ],
)
def test_closing_the_connection_ends_the_work(
    server: Running,
    path: str,
    body: dict[str, Any],
    calls: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = send(server, path, body)
    if body.get("stream"):
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
    eventually(
        lambda: counts(server),
        until=lambda seen: seen["active"] == calls and seen["running"] == 1,
        what="running call",
        interval=0.01,
    )
    connection.close()
    eventually(
        lambda: counts(server),
        until=lambda seen: seen == {"active": 0, "cancelled": calls, "running": 0, "waiting": 0},
        timeout=5,
        what="cancelled call",
        interval=0.01,
    )
    eventually(
        lambda: server.state.metrics.exposition().decode(),
        until=lambda text: f'{{code="499",route="{path}"}} 1.0' in text,
        timeout=5,
        what="count of the request as 499",
    )
    # A client that leaves is no failure of the worker.
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_a_client_that_stops_reading_and_leaves_ends_its_stream(server: Running) -> None:
    server.worker.step = lambda: asyncio.sleep(0)
    body = {"prompt": ["a"] * 64, "max_tokens": 500, "stream": True, "n": 8, "logprobs": 20}
    connection = send(server, COMPLETION, body)
    connection.recv(64)
    eventually(lambda: server.worker.active == 64, what="running call")
    connection.close()
    eventually(
        lambda: counts(server),
        until=lambda seen: seen["active"] == seen["running"] == seen["waiting"] == 0,
        timeout=10,
        what="ended stream",
    )


def test_a_waiting_request_whose_client_left_frees_its_place(server: Running) -> None:
    long = {"prompt": "a", "max_tokens": 500, "n": 4}
    connections = [send(server, COMPLETION, long) for _ in range(3)]
    eventually(
        lambda: counts(server),
        until=lambda seen: (seen["running"], seen["waiting"]) == (1, 2),
        what="one running and two waiting",
        interval=0.01,
    )
    connections[1].close()
    eventually(
        lambda: counts(server),
        until=lambda seen: (seen["running"], seen["waiting"]) == (1, 1),
        timeout=5,
        what="one fewer waiting",
        interval=0.01,
    )
    for connection in connections:
        connection.close()
    eventually(
        lambda: counts(server),
        until=lambda seen: seen["running"] == seen["waiting"] == 0,
        timeout=5,
        what="empty limiter",
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/rewards", {"inputs": [{"question": "q", "steps": ["a"]}]}, id="rewards"),
        pytest.param("/worker_value_inference", {"input_str": ["a #"]}, id="openr"),
        pytest.param("/get_reward", {"query": ["qa"], "prompts": ["q"]}, id="openrlhf"),
    ],
)
def test_closing_the_connection_ends_the_scoring(path: str, body: dict[str, Any]) -> None:
    worker = FakeRewardWorker()
    worker.step = lambda: asyncio.sleep(600)
    with running_server(worker) as server:
        connection = send(server, path, body)
        eventually(
            lambda: counts(server),
            until=lambda seen: seen["active"] == seen["running"] == 1,
            what="running call",
            interval=0.01,
        )
        connection.close()
        eventually(
            lambda: counts(server),
            until=lambda seen: seen == {"active": 0, "cancelled": 1, "running": 0, "waiting": 0},
            timeout=5,
            what="cancelled call",
            interval=0.01,
        )
