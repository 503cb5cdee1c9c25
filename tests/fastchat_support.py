"""What the tests of FastChat's protocols share: requests as its clients send them, read raw."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from modelworker_api.fastchat import FRAME_END
from modelworker_operator.controller.external import Externals
from modelworker_operator.controller.protocol import Controller
from modelworker_operator.controller.server import ControllerServer, Prober, http_client
from modelworker_operator.controller.workers import ClusterModels
from modelworker_operator.serving import serve
from modelworker_operator.store import Store
from tests.operator_support import free_port
from tests.support import eventually

GENERATE = "/worker_generate"
STREAM = "/worker_generate_stream"
EMBEDDINGS = "/worker_get_embeddings"
STATUS = "/worker_get_status"
COUNT = "/count_token"
TEMPLATE = "/worker_get_conv_template"
DETAILS = "/model_details"


def compact(value: Any) -> bytes:
    """JSON as it is sent."""
    return json.dumps(value, separators=(",", ":")).encode()


def ask(url: str, path: str, body: Any = None) -> Any:
    """The JSON of an answer; the status is always 200."""
    response = httpx.post(url + path, json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def frames(url: str, body: Any, path: str = STREAM) -> list[Any]:
    """Each frame of a stream, cut at the NUL bytes as FastChat's clients do."""
    with httpx.stream("POST", url + path, json=body, timeout=60) as response:
        assert response.status_code == 200
        content = b"".join(response.iter_bytes())
    assert content.endswith(FRAME_END)
    return [json.loads(frame) for frame in content.split(FRAME_END) if frame]


def failed(answer: Any) -> int:
    """The code of a failure, which says something in words too."""
    assert set(answer) == {"text", "error_code"}, answer
    assert answer["text"]
    code: int = answer["error_code"]
    return code


@contextmanager
def running_controller(*hosts: str, cluster: ClusterModels | None = None) -> Iterator[str]:
    """A controller on a loopback socket, with its loop in a thread; gives its URL.

    Args:
        hosts: Whose workers may register.
        cluster: The models of the cluster, none by default.
    """
    port = free_port()
    tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def run() -> None:
        models = cluster or ClusterModels(Store(), lambda _: {}, ())
        async with http_client() as client:
            externals = Externals(hosts, Prober(client), time.monotonic)
            app = ControllerServer(Controller(models, externals), client).app()
            serving = asyncio.create_task(serve(app, "127.0.0.1", port, "controller"))
            tasks.append((asyncio.get_running_loop(), serving))
            with suppress(asyncio.CancelledError):
                await serving

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    eventually(
        lambda: httpx.get(f"{url}/test_connection").json() == "success",
        what="listening controller",
        interval=0.02,
    )
    try:
        yield url
    finally:
        loop, serving = tasks[0]
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(10)
        assert not thread.is_alive(), "the controller did not end"
