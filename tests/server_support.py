"""What the tests of the worker's HTTP face share: a state, an in-process client, a real server."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from modelworker_server.app import create_app
from modelworker_server.auth import Auth
from modelworker_server.http_server import server_for
from modelworker_server.lifecycle import Lifecycle
from modelworker_server.limits import Limiter
from modelworker_server.reading import Reader
from modelworker_server.state import ServerState
from tests.fake_worker import FakeWorker
from tests.support import eventually


def state_for(
    worker: FakeWorker,
    *,
    ready: bool = True,
    max_running: int = 4,
    max_queued: int = 8,
    max_body_bytes: int = 64 * 1024,
    auth: Auth | None = None,
) -> ServerState:
    """The state of a server with this worker, loaded if `ready`; call it inside a loop."""
    ticks = count()
    numbers = count()
    state = ServerState(
        lifecycle=Lifecycle(awaits_trust=auth is not None),
        limiter=Limiter(
            max_running=max_running, max_queued=max_queued, timer=lambda: float(next(ticks))
        ),
        registry=CollectorRegistry(),
        pod_name="policy-0",
        reader=Reader(
            max_body_bytes=max_body_bytes,
            limiter=Limiter(max_running=1, max_queued=1, timer=lambda: float(next(ticks))),
            executor=ThreadPoolExecutor(max_workers=1),
        ),
        now=lambda: 1_700_000_123.9,
        timer=lambda: float(next(ticks)),
        new_id=lambda: f"id{next(numbers)}",
        auth=auth,
    )
    state.attach(worker)
    if ready:
        state.loaded()
    return state


def client_for(state: ServerState) -> httpx.AsyncClient:
    """A client that calls the application in this process."""
    transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://worker")


Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def call(request: Call, worker: FakeWorker | None = None, **state: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client_for(state_for(worker or FakeWorker(), **state)) as client:
            return await request(client)

    return asyncio.run(run())


def post(path: str, body: dict[str, Any], worker: FakeWorker | None = None) -> Any:
    response = call(lambda client: client.post(path, json=body), worker)
    assert response.status_code == 200, response.text
    return response.json()


def stream(path: str, body: dict[str, Any], worker: FakeWorker | None = None) -> list[Any]:
    response = call(lambda client: client.post(path, json={**body, "stream": True}), worker)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done = events_of(response.text)
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


def events_of(text: str) -> list[str]:
    """The data of each server-sent event."""
    blocks = text.split("\n\n")
    assert blocks.pop() == "", "a stream ends with an empty line"
    assert all(block.startswith("data: ") for block in blocks), text
    return [block.removeprefix("data: ") for block in blocks]


@dataclass
class Running:
    """A server on a loopback socket, with its loop in a thread."""

    url: str
    worker: FakeWorker
    state: ServerState
    loop: asyncio.AbstractEventLoop


@contextmanager
def running_server(worker: FakeWorker, *, native: bool = False, **limits: Any) -> Iterator[Running]:
    """Serve a worker over real sockets while the block runs."""
    started: list[Running] = []

    async def serve() -> None:
        state = state_for(worker, **limits)
        listener = socket.create_server(("127.0.0.1", 0))
        server = server_for(create_app(state), native=native)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started.append(Running(url, worker, state, asyncio.get_running_loop()))
        stopped.append(lambda: setattr(server, "should_exit", True))
        await server.serve(sockets=[listener])

    stopped: list[object] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    eventually(lambda: started and stopped, what="listening server", interval=0.01)
    running = started[0]
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(stopped[0])  # type: ignore[arg-type]
        thread.join(10)
        assert not thread.is_alive(), "the server did not end"
