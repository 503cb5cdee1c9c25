"""Who refused a request, and what is shown next; no network."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from modelworker import (
    AccessDenied,
    ClusterUnavailable,
    ModelWorkerError,
    Overloaded,
    Unavailable,
    Unreachable,
)
from modelworker import _settings as settings_module
from modelworker._endpoints import Home
from modelworker._http import Pool
from modelworker._settings import Access
from modelworker._tokens import GivenToken
from modelworker._ways import Direct
from tests.client_ways import SERVER, WORKER, World, run

Handler = Callable[[httpx.Request], httpx.Response]
STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings_module.ENV_ACCESS, raising=False)
    monkeypatch.delenv(settings_module.ENV_SERVICE_ACCOUNT, raising=False)


def status(code: int, message: str, **headers: str) -> httpx.Response:
    """An answer of the API server's own."""
    return httpx.Response(code, json={**STATUS, "message": message, "code": code}, headers=headers)


def from_worker(code: int, **headers: str) -> httpx.Response:
    """An answer that a worker gave."""
    named = {"x-modelworker-worker": "pod-a", **headers}
    return httpx.Response(code, json={"error": {"message": "said"}}, headers=named)


async def asked(ways: Any, handler: Handler) -> Any:
    """The answer to one request."""
    pool = Pool(ways, transports=lambda _: httpx.MockTransport(handler))
    try:
        return (await pool.post(WORKER, "/v1/completions", b"{}")).payload
    finally:
        await pool.aclose()


@pytest.mark.parametrize("access", ["direct", "proxy"])
def test_a_worker_that_wants_a_token_gets_one_and_is_asked_again(access: Access) -> None:
    async def scenario(world: World) -> None:
        world.found.home = Home(f"{SERVER}/{access}", "ns", in_cluster=False)
        requests: list[httpx.Request] = []

        def handler(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            ours = request.headers.get("x-api-key") or request.headers.get("authorization", "")
            return from_worker(200 if ours.endswith("issued-1") else 401)

        await asked(world.ways(access, token=None), handler)
        assert len(requests) == 2
        assert world.cluster.accounts == [None]
        await asked(world.ways(access, token=None), handler)
        assert len(requests) == 3, "another client of the object has it from the start"

    run(scenario)


@pytest.mark.parametrize(
    ("ways", "words"),
    [
        pytest.param(lambda _: None, "does not accept no token: said.*api_key=", id="none"),
        pytest.param(
            lambda _: Direct(GivenToken("mine")), "the token given as api_key: said", id="given"
        ),
        pytest.param(lambda world: world.ways("proxy"), "given as api_key: said", id="proxied"),
        pytest.param(
            lambda world: world.ways("direct", token=None),
            "service account ns/default",
            id="issued",
        ),
    ],
)
def test_a_token_that_is_not_accepted(ways: Callable[[World], Any], words: str) -> None:
    async def scenario(world: World) -> None:
        world.found.home = Home(f"{SERVER}/refused", "ns", in_cluster=False)
        with pytest.raises(AccessDenied, match=words) as caught:
            await asked(ways(world), lambda _: from_worker(401))
        assert "mine" not in str(caught.value)
        assert caught.value.worker == WORKER

    run(scenario)


def test_credentials_that_ran_out_are_read_anew() -> None:
    async def scenario(world: World) -> None:
        world.cluster.credentials = ["Bearer old", "Bearer new"]

        def handler(request: httpx.Request) -> httpx.Response:
            good = request.headers["authorization"] == "Bearer new"
            return from_worker(200) if good else status(401, "Unauthorized")

        await asked(world.ways("proxy"), handler)
        assert world.cluster.opened == world.cluster.closed == 2

        with pytest.raises(AccessDenied, match="does not accept the credentials: Unauthorized"):
            await asked(world.ways("proxy"), lambda _: status(401, "Unauthorized"))

    run(scenario)


NO_POD = "error trying to reach service: dial tcp 10.0.0.1:8000: connect: connection refused"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        pytest.param(
            status(403, 'cannot create resource "pods/proxy"'),
            AccessDenied,
            "create role .* -n ns --verb=create --resource=pods/proxy",
            id="no-right",
        ),
        pytest.param(status(404, 'pods "pod-a" not found'), Unreachable, "is gone", id="no-pod"),
        pytest.param(status(503, NO_POD), Unreachable, "does not reach worker", id="no-connection"),
        pytest.param(status(400, "address not allowed"), Unreachable, "kubectl get", id="address"),
        pytest.param(
            status(503, "shutting down"), ClusterUnavailable, "answered 503", id="api-server-ends"
        ),
        pytest.param(status(429, "too many"), ClusterUnavailable, "429", id="api-server-is-full"),
        pytest.param(from_worker(503), Unavailable, "is not serving: said", id="worker-503"),
        pytest.param(from_worker(429), Overloaded, "over its limit: said", id="worker-429"),
        pytest.param(from_worker(403), AccessDenied, "worker .* refused", id="worker-403"),
        pytest.param(
            httpx.ConnectError("refused"), ClusterUnavailable, "no connection to the API", id="away"
        ),
        pytest.param(
            httpx.ReadError("reset"), Unavailable, "through the API server .* broke", id="broke"
        ),
    ],
)
def test_who_failed_on_the_way_through_the_api_server(
    answer: httpx.Response | Exception, kind: type[ModelWorkerError], words: str
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario(world: World) -> None:
        with pytest.raises(kind, match=words) as caught:
            await asked(world.ways("proxy"), handler)
        assert type(caught.value) is kind
        assert caught.value.worker == WORKER

    run(scenario)
