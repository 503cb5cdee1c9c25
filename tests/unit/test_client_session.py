"""The way of one call to a worker: choice, retries, deadline; no network."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from modelworker import (
    CallTimeout,
    ContextTooLong,
    NotReady,
    Overloaded,
    Unavailable,
    Unreachable,
    WorkerFailed,
    _session,
)
from modelworker._endpoints import Show
from modelworker._http import Pool
from modelworker._session import Session
from modelworker._settings import Settings
from tests.client_support import until

Handler = Callable[[httpx.Request], Coroutine[Any, Any, httpx.Response]]


class PlayedEndpoints:
    """Workers that a test sets."""

    given = False
    model = "ns/policy"

    def __init__(self, *workers: str, service: str | None = None) -> None:
        self.workers = workers
        self.service = service
        self.waits = 0
        self.come: tuple[str, ...] = ()

    async def ready(self, until: float, show: Show | None = None) -> None:
        self.waits += 1
        await asyncio.sleep(0)
        if not self.workers:
            self.workers = self.come
        if not self.workers:
            raise NotReady("nobody came")

    async def aclose(self) -> None:
        pass


def ok(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"from": request.url.host})


def session(handler: Handler, endpoints: PlayedEndpoints, **options: Any) -> Session:
    return Session(
        Settings("policy", **options),
        endpoints=endpoints,
        pool=Pool(transports=lambda _: httpx.MockTransport(handler)),
        luck=lambda: 0.0,
    )


def post(made: Session, timeout: float = 5.0) -> Coroutine[Any, Any, Any]:
    return made.post("/v1/completions", {"prompt": "x"}, made.until(timeout))


def test_a_failing_worker_is_left_for_another() -> None:
    async def scenario() -> None:
        tried: list[str] = []

        async def handler(request: httpx.Request) -> httpx.Response:
            tried.append(request.url.host)
            if request.url.host == "a":
                raise httpx.ReadError("reset")
            return ok(request)

        made = session(handler, PlayedEndpoints("http://a", "http://b"))
        for _ in range(10):
            assert (await post(made)).payload == {"from": "b"}
        assert Counter(tried) == {"a": 10, "b": 10}
        assert made.in_flight == {}

    asyncio.run(scenario())


def test_an_unreachable_worker_is_avoided_by_later_calls() -> None:
    async def scenario() -> None:
        tried: list[str] = []

        async def handler(request: httpx.Request) -> httpx.Response:
            tried.append(request.url.host)
            if request.url.host == "a":
                raise httpx.ConnectError("refused")
            return ok(request)

        made = session(handler, PlayedEndpoints("http://a", "http://b"))
        for _ in range(10):
            await post(made)
        assert Counter(tried)["a"] == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(httpx.ConnectError("refused"), Unreachable, id="connect"),
        pytest.param(httpx.ConnectTimeout("slow"), Unreachable, id="connect-timeout"),
        pytest.param(httpx.ReadError(""), Unavailable, id="read"),
        pytest.param(httpx.RemoteProtocolError("closed"), Unavailable, id="protocol"),
        pytest.param(503, Unavailable, id="503"),
        pytest.param(502, Unavailable, id="502"),
        pytest.param(504, Unavailable, id="504"),
        pytest.param(429, Overloaded, id="429"),
    ],
)
def test_a_single_worker_is_tried_again_until_the_deadline(
    fault: Exception | int, kind: type[Exception]
) -> None:
    async def scenario() -> None:
        tries = 0

        async def handler(request: httpx.Request) -> httpx.Response:
            nonlocal tries
            tries += 1
            if isinstance(fault, Exception):
                raise fault
            return httpx.Response(fault, json={"error": {"message": "no"}})

        made = session(handler, PlayedEndpoints("http://a"))
        with pytest.raises(kind) as caught:
            await post(made, timeout=0.2)
        assert tries > 2
        assert f"gave up after {tries} attempts" in caught.value.__notes__[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        pytest.param(500, "a bug", WorkerFailed, id="500"),
        pytest.param(400, "the maximum context length is 8", ContextTooLong, id="context"),
    ],
)
def test_a_final_error_is_not_tried_again(status: int, message: str, kind: type[Exception]) -> None:
    async def scenario() -> None:
        tries = 0

        async def handler(request: httpx.Request) -> httpx.Response:
            nonlocal tries
            tries += 1
            return httpx.Response(status, json={"message": message})

        made = session(handler, PlayedEndpoints("http://a", "http://b"))
        with pytest.raises(kind):
            await post(made)
        assert tries == 1

    asyncio.run(scenario())


def test_a_slow_answer_ends_at_the_deadline_and_is_not_repeated() -> None:
    async def scenario() -> None:
        ended = tries = 0

        async def handler(request: httpx.Request) -> httpx.Response:
            nonlocal ended, tries
            tries += 1
            try:
                await asyncio.sleep(30)
            finally:
                ended += 1
            return ok(request)

        made = session(handler, PlayedEndpoints("http://a", "http://b"))
        with pytest.raises(CallTimeout, match="had not answered"):
            await post(made, timeout=0.05)
        assert (tries, ended, made.in_flight) == (1, 1, {})

    asyncio.run(scenario())


def test_the_service_is_the_way_when_no_pod_can_be_reached() -> None:
    async def scenario() -> None:
        async def handler(request: httpx.Request) -> httpx.Response:
            if request.url.host != "svc":
                raise httpx.ConnectError("no route")
            return ok(request)

        endpoints = PlayedEndpoints("http://a", "http://b", service="http://svc")
        assert (await post(session(handler, endpoints))).payload == {"from": "svc"}

    asyncio.run(scenario())


def test_the_service_is_no_way_around_a_pod_that_answers() -> None:
    async def scenario() -> None:
        tried: set[str] = set()

        async def handler(request: httpx.Request) -> httpx.Response:
            tried.add(request.url.host)
            return httpx.Response(429, json={})

        endpoints = PlayedEndpoints("http://a", service="http://svc")
        with pytest.raises(Overloaded):
            await post(session(handler, endpoints), timeout=0.1)
        assert tried == {"a"}

    asyncio.run(scenario())


def test_a_call_waits_for_a_worker_to_come_back() -> None:
    async def scenario() -> None:
        endpoints = PlayedEndpoints("http://a")

        async def handler(request: httpx.Request) -> httpx.Response:
            if request.url.host == "a":
                endpoints.workers, endpoints.come = (), ("http://b",)
                raise httpx.ReadError("killed")
            return ok(request)

        assert (await post(session(handler, endpoints))).payload == {"from": "b"}
        assert endpoints.waits == 1

    asyncio.run(scenario())


def test_a_worker_that_leaves_the_list_between_attempts() -> None:
    async def scenario() -> None:
        endpoints = PlayedEndpoints("http://a", "http://b")
        tries = 0

        async def handler(request: httpx.Request) -> httpx.Response:
            nonlocal tries
            tries += 1
            other = "http://b" if request.url.host == "a" else "http://a"
            if tries == 1:
                asyncio.get_running_loop().call_soon(setattr, endpoints, "workers", (other,))
                raise httpx.ReadError("killed")
            return ok(request)

        await post(session(handler, endpoints))
        assert tries == 2

    asyncio.run(scenario())


def test_mistyped_endpoints_fail_after_a_while_not_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async def handler(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        endpoints = PlayedEndpoints("http://a")
        endpoints.given = True
        async with asyncio.timeout(5):
            with pytest.raises(Unreachable):
                await post(session(handler, endpoints), timeout=600)

    monkeypatch.setattr(_session, "GIVEN_CONTACT_SECONDS", 0.2)
    asyncio.run(scenario())


def test_concurrent_calls_spread_evenly() -> None:
    async def scenario() -> None:
        seen: Counter[str] = Counter()
        release = asyncio.Event()

        async def handler(request: httpx.Request) -> httpx.Response:
            seen[request.url.host] += 1
            await release.wait()
            return ok(request)

        made = session(handler, PlayedEndpoints("http://a", "http://b", "http://c"))
        calls = [asyncio.create_task(post(made)) for _ in range(30)]
        await until(lambda: sum(seen.values()) == 30)
        assert seen == {"a": 10, "b": 10, "c": 10}
        assert made.in_flight == {"http://a": 10, "http://b": 10, "http://c": 10}
        release.set()
        await asyncio.gather(*calls)
        assert made.in_flight == {}

    asyncio.run(scenario())


def sse(*events: str) -> bytes:
    return b"".join(f"data: {event}\n\n".encode() for event in events)


def test_a_stream_is_split_at_newlines_alone() -> None:
    async def scenario() -> None:
        said = {"text": "a\u2028b\x85c\x0bd"}

        async def handler(request: httpx.Request) -> httpx.Response:
            event = json.dumps(said, ensure_ascii=False)
            return httpx.Response(200, content=b": hello\n\n" + sse(event, "[DONE]"))

        made = session(handler, PlayedEndpoints("http://a"))
        async with made.stream("/v1/completions", {}, 5.0) as events:
            assert [event.payload async for event in events] == [said]

    asyncio.run(scenario())


def test_an_error_before_the_first_event_is_tried_elsewhere() -> None:
    async def scenario() -> None:
        async def handler(request: httpx.Request) -> httpx.Response:
            if request.url.host == "a":
                error = {"error": {"message": "draining", "code": 503}}
                return httpx.Response(200, content=sse(json.dumps(error)))
            return httpx.Response(200, content=sse('{"n": 1}', "[DONE]"))

        made = session(handler, PlayedEndpoints("http://a", "http://b"))
        for _ in range(4):
            async with made.stream("/v1/completions", {}, 5.0) as events:
                assert [event.url async for event in events] == ["http://b"]
        assert made.in_flight == {}

    asyncio.run(scenario())


def test_a_stream_without_its_last_event_is_an_error() -> None:
    async def scenario() -> None:
        async def handler(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=sse('{"n": 1}'))

        made = session(handler, PlayedEndpoints("http://a"))
        async with made.stream("/v1/completions", {}, 5.0) as events:
            assert (await anext(events)).payload == {"n": 1}
            with pytest.raises(Unavailable, match="without its last event"):
                await anext(events)

    asyncio.run(scenario())
