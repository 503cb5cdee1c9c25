"""An engine's own application behind our door: admission, tokens, errors, disconnects."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from modelworker_api import wire
from modelworker_server.app import create_app
from modelworker_server.state import ServerState
from tests.fake_worker import FakeWorker
from tests.server_support import state_for

COMPLETIONS = "/v1/completions"


class EngineFake(FakeWorker):
    """A worker with an application of its own, which answers when `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.bodies: list[bytes] = []
        self.app = Starlette(
            routes=[
                Route(COMPLETIONS, self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/score", self._score, methods=["POST"]),
                Route("/pause", self._pause, methods=["POST"]),
            ]
        )

    @property
    def api(self) -> ASGIApp | None:
        return self.app

    async def _complete(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(body)
        self.began.set()
        await self.gate.wait()
        asked = json.loads(body)
        if asked.get("stream"):
            return StreamingResponse(iter([b"data: 1\n\n"]), media_type="text/event-stream")
        if status := asked.get("fail"):
            error = {"message": "no", "type": "BadRequestError", "param": "x", "code": status}
            return JSONResponse({"error": error}, status, headers={"x-kept": "1"})
        if asked.get("crash"):
            raise RuntimeError("secret")
        return JSONResponse({"echo": asked})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"data": ["theirs"]})

    async def _score(self, _: Request) -> Response:
        return JSONResponse({"detail": "Not Found"}, 404)

    async def _pause(self, _: Request) -> Response:
        return JSONResponse({"paused": True})


Script = Callable[[httpx.AsyncClient, EngineFake, ServerState], Awaitable[Any]]


def behind(script: Script, *, token: str | None = None, **limits: Any) -> Any:
    async def run() -> Any:
        worker = EngineFake()
        state = state_for(worker, **limits)
        transport = httpx.ASGITransport(create_app(state, token), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            return await script(client, worker, state)

    return asyncio.run(run())


def test_the_engine_gets_the_body_as_it_was_sent() -> None:
    async def script(client: httpx.AsyncClient, worker: EngineFake, _: ServerState) -> None:
        async def chunks() -> Any:
            yield b'{"prompt":'
            yield b' "x"}'

        headers = {"content-type": "application/json"}
        response = await client.post(COMPLETIONS, content=chunks(), headers=headers)
        assert response.json() == {"echo": {"prompt": "x"}}
        assert response.headers[wire.HEADER_WORKER] == "policy-0"
        assert response.headers[wire.HEADER_LOAD] == "0 0 -"
        assert worker.bodies == [b'{"prompt": "x"}']

    behind(script)


def test_routes_of_both_are_served() -> None:
    async def script(client: httpx.AsyncClient, _: EngineFake, __: ServerState) -> None:
        assert (await client.get("/v1/models")).json() == {"data": ["theirs"]}
        assert (await client.get("/healthz")).json() == {"state": "Ready"}
        assert (await client.get("/health")).json() == {"state": "Ready"}
        rewards = await client.post("/v1/rewards", json={"inputs": []})
        assert rewards.status_code in (400, 501)
        missing = await client.get("/docs")
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found")

    behind(script)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "kind"),
    [
        pytest.param(b"{}", "text/plain", 415, "unsupported_media_type", id="no-json"),
        pytest.param(b"[]", "application/json", 400, "invalid_request_error", id="no-object"),
        pytest.param(
            b'"' + b"x" * 70_000 + b'"', "application/json", 413, "body_too_large", id="too-large"
        ),
        pytest.param(
            b'{"fail": 400}', "application/json", 400, "BadRequestError", id="engine-refuses"
        ),
        pytest.param(b'{"fail": 503}', "application/json", 503, "unavailable", id="engine-is-out"),
        pytest.param(b'{"crash": 1}', "application/json", 500, "internal_error", id="engine-bug"),
    ],
)
def test_errors_are_ours(content: bytes, content_type: str, status: int, kind: str) -> None:
    async def script(client: httpx.AsyncClient, _: EngineFake, state: ServerState) -> None:
        headers = {"content-type": content_type}
        response = await client.post(COMPLETIONS, content=content, headers=headers)
        error = wire.ErrorResponse.model_validate_json(response.content)
        assert (response.status_code, error.code, error.error.type) == (status, status, kind)
        assert int(response.headers["content-length"]) == len(response.content)
        assert "secret" not in response.text
        if kind == "BadRequestError":
            assert response.headers["x-kept"] == "1"
        counted = state.metrics.exposition().decode()
        assert f'code="{status}",route="{COMPLETIONS}"' in counted

    behind(script)


def test_a_route_that_the_model_does_not_have_is_named() -> None:
    async def script(client: httpx.AsyncClient, _: EngineFake, __: ServerState) -> None:
        response = await client.post("/score", json={})
        assert response.status_code == 404
        assert "/score" in response.json()["message"]

    behind(script)


def test_a_full_queue_refuses_and_the_rest_is_answered() -> None:
    async def script(client: httpx.AsyncClient, worker: EngineFake, state: ServerState) -> None:
        worker.gate.clear()
        posts = [
            asyncio.create_task(client.post(COMPLETIONS, json={"number": number}))
            for number in range(9)
        ]
        await asyncio.wait_for(worker.began.wait(), 5)
        waiting: set[asyncio.Task[httpx.Response]] = set(posts)
        while len(waiting) > 5:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert (state.limiter.running, state.limiter.waiting) == (2, 3)
        # What takes no place in the queue is answered.
        assert (await client.get("/v1/models")).status_code == 200
        worker.gate.set()
        codes = sorted([response.status_code for response in await asyncio.gather(*posts)])
        assert codes == [200] * 5 + [429] * 4
        refused = next(one.result() for one in posts if one.result().status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "overloaded"

    behind(script, max_running=2, max_queued=3)


def test_a_worker_that_drains_takes_nothing_new() -> None:
    async def script(client: httpx.AsyncClient, worker: EngineFake, state: ServerState) -> None:
        worker.gate.clear()
        open_one = asyncio.create_task(client.post(COMPLETIONS, json={}))
        await asyncio.wait_for(worker.began.wait(), 5)
        state.lifecycle.drain()
        assert (await client.post(COMPLETIONS, json={})).status_code == 503
        assert (await client.get("/v1/models")).status_code == 503
        worker.gate.set()
        assert (await open_one).status_code == 200

    behind(script)


def test_before_it_is_loaded_our_own_routes_say_so() -> None:
    async def script(client: httpx.AsyncClient, _: EngineFake, __: ServerState) -> None:
        for path in (COMPLETIONS, "/v1/chat/completions", "/tokenize"):
            response = await client.post(path, json={})
            assert (response.status_code, response.json()["error"]["type"]) == (503, "unavailable")

    behind(script, ready=False)


@pytest.mark.parametrize(
    ("token", "given", "status"),
    [
        pytest.param(None, "Bearer right", 404, id="closed"),
        pytest.param("right", None, 401, id="nothing"),
        pytest.param("right", "Bearer wrong", 401, id="wrong"),
        pytest.param("right", "right", 401, id="no-scheme"),
        pytest.param("right", "Basic right", 401, id="other-scheme"),
        pytest.param("right", "Bearer r\u00efght", 401, id="not-ascii"),
        pytest.param("right", "Bearer ", 401, id="empty"),
        pytest.param("right", "Bearer right", 200, id="right"),
        pytest.param("right", "bearer right", 200, id="scheme-in-lower-case"),
    ],
)
def test_development_routes_need_the_token(
    token: str | None, given: str | None, status: int
) -> None:
    async def script(client: httpx.AsyncClient, _: EngineFake, state: ServerState) -> None:
        headers = [] if given is None else [(b"authorization", given.encode("latin-1"))]
        response = await client.post("/pause", headers=headers)
        assert response.status_code == status
        if status == 401:
            assert response.headers["www-authenticate"] == "Bearer"
        state.lifecycle.require_ready()  # a pause is not the end

    behind(script, token=token)


def test_a_client_that_leaves_is_seen_by_the_engine_and_counted() -> None:
    async def run() -> None:
        worker = EngineFake()
        worker.gate.clear()
        left: list[str] = []

        async def watch(request: Request) -> Response:
            await request.body()
            left.append((await request.receive())["type"])
            return JSONResponse(None)  # as vLLM does: to nobody

        worker.app = Starlette(routes=[Route(COMPLETIONS, watch, methods=["POST"])])
        state = state_for(worker)
        messages = [
            {"type": "http.request", "body": b"{}", "more_body": False},
            {"type": "http.disconnect"},
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": COMPLETIONS, "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        await create_app(state)(scope, receive, send)
        assert (left, sent) == (["http.disconnect"], [])
        assert f'code="499",route="{COMPLETIONS}"' in state.metrics.exposition().decode()
        assert state.limiter.running == 0

    asyncio.run(run())


def test_a_client_that_leaves_while_it_sends_is_no_failure() -> None:
    async def run() -> None:
        worker = EngineFake()
        state = state_for(worker)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        scope = {
            "type": "http", "method": "POST", "path": COMPLETIONS, "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        await create_app(state)(scope, receive, send)
        assert worker.bodies == []

    asyncio.run(run())


def test_metrics_of_two_registries_have_each_name_once() -> None:
    async def run() -> None:
        state = state_for(FakeWorker())
        other = CollectorRegistry()
        Gauge("vllm:seen", "theirs", registry=other).set(1)
        Gauge("modelworker_requests_running", "theirs", registry=other).set(77)
        state.metrics.add(other)
        text = state.metrics.exposition().decode()
        assert "vllm:seen 1.0" in text
        assert "modelworker_requests_running 0.0" in text
        types = [line for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(types) == len(set(types))

    asyncio.run(run())
