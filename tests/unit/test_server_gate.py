"""What a worker that asks for tokens answers to whom, on every route, in process."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route

from modelworker_api import kube, wire
from modelworker_server.app import create_app
from modelworker_server.auth import Auth
from modelworker_server.gate import OPEN
from modelworker_server.routes import (
    fastchat,
    health,
    inference,
    openai,
    openrlhf,
    rewards,
    tokens,
)
from modelworker_server.state import ServerState
from tests.fake_worker import FakeWorker
from tests.server_support import client_for, state_for
from tests.token_support import NOW, Issuer

ISSUER = Issuer("key-1", "ES256")
TOKEN = ISSUER.token()
REALM = f'Bearer realm="{kube.INFERENCE_AUDIENCE}"'

OWN = sorted(
    (method, route.path)
    for routes in (openai, inference, rewards, fastchat, openrlhf, tokens, health)
    for route in routes.router.routes
    if isinstance(route, Route)
    for method in route.methods or ()
)
ENGINES = [
    ("POST", "/v1/responses"),
    ("POST", "/pooling"),
    ("POST", "/inference/v1/abort_requests"),
    ("GET", "/version"),
    ("GET", "/v1/responses/resp_1"),
    ("POST", "/update_weights"),
]
"""Some of what the gate is in front of when an engine has an application of its own."""
FAILURES = {
    route.path
    for routes in (fastchat.plain, fastchat.framed)
    for route in routes.routes
    if isinstance(route, Route)
}


class EngineWorker(FakeWorker):
    """A worker with an application of its own, which counts the requests that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = 0
        self._api = FastAPI()

        @self._api.api_route("/{path:path}", methods=["GET", "POST"])
        async def anything(path: str) -> Response:
            self.reached += 1
            return Response("{}", media_type="application/json")

    @property
    def api(self) -> FastAPI:
        return self._api


def guarded(worker: FakeWorker | None = None, *namespaces: str, **more: Any) -> ServerState:
    """A state that asks for tokens, and knows whose to take."""
    state = state_for(worker or FakeWorker(), auth=Auth(lambda: NOW), **more)
    state.trust(ISSUER.trust(*namespaces))
    return state


async def ask(
    state: ServerState, method: str, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    async with client_for(state) as client:
        return await client.request(
            method, path, json={} if method == "POST" else None, headers=headers or {}
        )


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def text_in(response: httpx.Response) -> str:
    """The message of an error, in whichever shape the route has."""
    content = json.loads(response.content.removesuffix(b"\0"))
    message: str = content["text"] if "text" in content else content["error"]["message"]
    return message


@pytest.mark.parametrize(("method", "path"), [*OWN, ("GET", "/no/such/route"), ("PUT", "/v1")])
def test_without_a_token_only_probes_and_metrics_are_answered(method: str, path: str) -> None:
    async def run() -> httpx.Response:
        return await ask(guarded(), method, path)

    response = asyncio.run(run())
    assert (response.status_code == 401) == (path not in OPEN), response.text
    if path in OPEN:
        assert response.status_code == 200
        return
    assert response.headers["www-authenticate"] == REALM
    assert "kubectl create token" in text_in(response)
    assert [response.headers[name] for name in wire.FINGERPRINT_HEADERS] == [
        "policy-0",
        "rev-1",
        "float32",
    ]


@pytest.mark.parametrize(("method", "path"), [one for one in OWN if one[1] not in OPEN])
def test_with_a_token_the_route_answers(method: str, path: str) -> None:
    async def run() -> httpx.Response:
        return await ask(guarded(), method, path, bearer(TOKEN))

    assert asyncio.run(run()).status_code not in {401, 403}


@pytest.mark.parametrize(("method", "path"), ENGINES)
@pytest.mark.parametrize("token", [None, TOKEN], ids=["no-token", "token"])
def test_an_engines_own_routes_are_behind_the_gate(
    method: str, path: str, token: str | None
) -> None:
    async def run() -> tuple[int, int]:
        worker = EngineWorker()
        state = guarded(worker)
        transport = httpx.ASGITransport(create_app(state, "development"))
        headers = {"authorization": "Bearer development"}
        if token is not None:
            headers["x-api-key"] = token
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            body: Any = {"tokens": []} if method == "POST" else None
            response = await client.request(method, path, json=body, headers=headers)
        return response.status_code, worker.reached

    assert asyncio.run(run()) == ((401, 0) if token is None else (200, 1))


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        pytest.param({}, 401, "authentication_error", id="no-token"),
        pytest.param(bearer("x"), 401, "authentication_error", id="no-jwt"),
        pytest.param(bearer(ISSUER.token(exp=NOW - 60)), 401, "authentication_error", id="old"),
        pytest.param(
            bearer(ISSUER.token(about={"namespace": "far"})),
            403,
            "permission_error",
            id="other-namespace",
        ),
        pytest.param(bearer(TOKEN), 200, "", id="token"),
        pytest.param({"x-api-key": TOKEN}, 200, "", id="api-key"),
        pytest.param({**bearer("of-a-proxy"), "x-api-key": TOKEN}, 200, "", id="both"),
    ],
)
def test_who_may_call(headers: dict[str, str], status: int, kind: str) -> None:
    async def run() -> tuple[httpx.Response, str]:
        state = guarded()
        response = await ask(state, "GET", "/v1/models", headers)
        metrics = await ask(state, "GET", "/metrics")
        return response, metrics.text

    response, metrics = asyncio.run(run())
    assert response.status_code == status
    if kind:
        error = wire.ErrorResponse.model_validate_json(response.content)
        assert (error.code, error.error.type) == (status, kind)
        assert f'modelworker_requests_total{{code="{status}",route="other"}} 1.0' in metrics


@pytest.mark.parametrize("path", sorted(FAILURES))
@pytest.mark.parametrize(
    ("namespaces", "token", "status", "code"),
    [
        pytest.param(("lab",), None, 401, 40101, id="no-token"),
        pytest.param(("team",), TOKEN, 403, 40103, id="other-namespace"),
    ],
)
def test_fastchats_clients_read_the_refusal_in_their_shape(
    path: str, namespaces: tuple[str, ...], token: str | None, status: int, code: int
) -> None:
    async def run() -> httpx.Response:
        state = guarded(None, *namespaces)
        return await ask(state, "POST", path, bearer(token) if token else None)

    response = asyncio.run(run())
    assert response.status_code == status
    assert response.content.endswith(b"\0") == path.endswith("_stream")
    answer = json.loads(response.content.removesuffix(b"\0"))
    assert set(answer) == {"text", "error_code"}
    assert answer["error_code"] == code


def test_before_it_knows_whose_tokens_to_take_it_is_not_ready() -> None:
    async def run() -> list[tuple[int, int, wire.LoadState]]:
        state = state_for(FakeWorker(), auth=Auth(lambda: NOW))
        seen = []
        for trust in (None, ISSUER.trust().model_copy(update={"keys": []}), ISSUER.trust()):
            if trust is not None:
                state.trust(trust)
            ready = await ask(state, "GET", "/readyz")
            models = await ask(state, "GET", "/v1/models", bearer(TOKEN))
            if models.status_code == 503:
                assert models.headers["retry-after"] == "1"
                assert "whose tokens" in text_in(models)
                assert "whose tokens" in text_in(ready)
            seen.append((ready.status_code, models.status_code, state.heartbeat().state))
        return seen

    assert asyncio.run(run()) == [
        (503, 503, wire.LoadState.WARMING),
        (503, 503, wire.LoadState.WARMING),
        (200, 200, wire.LoadState.READY),
    ]


def test_trust_alone_does_not_make_it_ready() -> None:
    async def run() -> list[wire.LoadState]:
        state = guarded(None, ready=False)
        states = [state.heartbeat().state]
        state.loaded()
        states.append(state.heartbeat().state)
        state.lifecycle.drain()
        state.trust(ISSUER.trust("team"))
        return [*states, state.heartbeat().state]

    assert asyncio.run(run()) == ["Loading", "Ready", "Draining"]


def test_everybody_may_call_a_worker_that_asks_for_no_token() -> None:
    async def run() -> int:
        state = state_for(FakeWorker())
        state.trust(ISSUER.trust("team"))
        return (await ask(state, "GET", "/v1/models")).status_code

    assert asyncio.run(run()) == 200


# --- bodies that nobody will read -------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "size", "read", "stays"),
    [
        pytest.param({}, 0, 0, True, id="no-body"),
        pytest.param({"content-length": "1000"}, 1000, 0, True, id="short"),
        pytest.param({"content-length": "1000", "expect": "100-continue"}, 0, 0, False, id="waits"),
        pytest.param({"content-length": "1000000"}, 1_000_000, 70_000, False, id="long"),
        pytest.param({"transfer-encoding": "chunked"}, 30_000, 30_000, True, id="chunks"),
        pytest.param({"transfer-encoding": "chunked"}, 10**9, 70_000, False, id="endless"),
        pytest.param(
            {"content-length": "3", "transfer-encoding": "chunked"}, 10**9, 70_000, False, id="two"
        ),
    ],
)
def test_how_much_of_a_refused_body_is_read(
    headers: dict[str, str], size: int, read: int, stays: bool
) -> None:
    part = 10_000
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += part
        return {"type": "http.request", "body": bytes(part), "more_body": taken < size}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def run() -> None:
        # The limit is 64 KiB.
        await create_app(guarded())(scope, receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == 401
    assert taken == read
    assert ((b"connection", b"close") in sent[0]["headers"]) != stays
