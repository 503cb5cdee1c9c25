"""LM against servers on real sockets: failures, retries, order, limits."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from modelworker import (
    LM,
    CallTimeout,
    ContextTooLong,
    ModelNotServed,
    Overloaded,
    Unavailable,
    Unreachable,
    WorkerFailed,
)
from tests.client_support import (
    Behaviour,
    Drop,
    Reply,
    Request,
    StubWorker,
    completion,
    error,
    good,
    hang,
    lm,
    workers,
)
from tests.support import eventually


def every(turns: int, fault: Callable[[Request], Reply]) -> Behaviour:
    """A worker that answers badly every so many requests."""
    counter = itertools.count(1)

    async def behave(request: Request) -> Reply:
        await asyncio.sleep(0.001)
        return fault(request) if next(counter) % turns == 0 else completion(request)

    return behave


def drop(request: Request) -> Reply:
    raise Drop


def test_one_call_says_where_it_was_answered() -> None:
    with workers(good) as running, lm(running) as client:
        answer = client.generate("hello", n=2, temperature=0)
        assert answer.texts == ["ok hello", "ok hello"]
        assert (answer.worker, answer.revision, answer.dtype) == ("pod-0", "rev-1", "float32")
        (request,) = running[0].seen
        assert request.path == "/v1/completions"
        assert request.body["model"] == "policy"
        assert request.headers["content-type"] == "application/json"
        assert client.workers() == (running[0].url,)
        assert client.in_flight() == {}


def test_connections_are_kept() -> None:
    with workers(good) as running, lm(running) as client:
        for _ in range(5):
            client.generate("hello")
        assert len(running[0].seen) == 5
        assert running[0].connections == 1


def test_order_over_200_prompts_with_three_flaky_workers() -> None:
    prompts = [f"prompt {i}" for i in range(200)]
    flaky = (
        every(3, drop),
        every(4, lambda _: error(503, "draining", "unavailable")),
        every(5, lambda _: error(429, "full", "overloaded", **{"retry-after": "0.05"})),
    )
    with workers(*flaky) as running, lm(running) as client:
        answers = client.generate(prompts)
        assert [answer.text for answer in answers] == [f"ok {prompt}" for prompt in prompts]
        assert {answer.worker for answer in answers} == {"pod-0", "pod-1", "pod-2"}


def test_worker_killed_while_it_answers_loses_no_answer() -> None:
    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0.05)
        return completion(request)

    with workers(slow, slow) as running, lm(running, max_in_flight=16) as client:

        def kill() -> None:
            eventually(lambda: len(running[0].seen) > 20, what="requests", interval=0.005)
            running[0].stop()

        killer = threading.Thread(target=kill)
        killer.start()
        answers = client.generate([f"p{i}" for i in range(120)])
        killer.join()
        assert [answer.text for answer in answers] == [f"ok p{i}" for i in range(120)]
        assert Counter(answer.worker for answer in answers)["pod-1"] > 60


def test_all_workers_restarting_makes_calls_wait() -> None:
    first = StubWorker(good)
    client = LM("policy", endpoints=[first.url], timeout=30)
    client.generate("warm")
    first.stop()
    restarted: list[StubWorker] = []
    back = threading.Timer(0.7, lambda: restarted.append(StubWorker(good, port=first.port)))
    back.start()
    try:
        assert client.generate(["a", "b"])[1].text == "ok b"
    finally:
        back.join()
        client.close()
        restarted[0].stop()


def test_retry_after_is_honoured() -> None:
    times: list[float] = []

    async def busy_once(request: Request) -> Reply:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            return error(429, "the queue is full", "overloaded", **{"retry-after": "0.5"})
        return completion(request)

    with workers(busy_once) as running, lm(running) as client:
        assert client.generate("x").text == "ok x"
        assert times[1] - times[0] >= 0.5


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        pytest.param(
            error(429, "the queue is full", "overloaded", **{"retry-after": "30"}),
            Overloaded,
            "the queue is full",
            id="429-beyond-the-deadline",
        ),
        pytest.param(error(503, "draining", "unavailable"), Unavailable, "draining", id="503"),
        pytest.param(error(500, "a bug", "internal_error"), WorkerFailed, "a bug", id="500"),
        pytest.param(
            error(400, "maximum context length is 8", "context_length_exceeded"),
            ContextTooLong,
            "maximum context length is 8",
            id="context",
        ),
        pytest.param(
            error(404, "model 'x' is not served here", "model_not_found"),
            ModelNotServed,
            "'x'",
            id="model",
        ),
        pytest.param(Reply({"hello": "world"}), WorkerFailed, "does not fit", id="other-shape"),
    ],
)
def test_error_answers(reply: Reply, kind: type[Exception], words: str) -> None:
    async def behave(request: Request) -> Reply:
        return reply

    with workers(behave) as running, lm(running, timeout=0.5) as client:
        with pytest.raises(kind, match=words) as caught:
            client.generate("x")
        assert caught.value.worker == running[0].url  # type: ignore[attr-defined]
        assert client.in_flight() == {}


def test_first_error_cancels_the_rest_of_the_batch() -> None:
    async def one_wrong(request: Request) -> Reply:
        if request.body["prompt"] == "p3":
            await asyncio.sleep(0.1)
            return error(400, "wrong", "invalid_request_error")
        return await hang(request)

    with workers(one_wrong) as running, lm(running, max_in_flight=8) as client:
        with pytest.raises(ValueError, match="wrong"):
            client.generate([f"p{i}" for i in range(50)])
        eventually(lambda: running[0].gone, until=lambda gone: gone == 7, what="7 calls cancelled")
        assert len(running[0].seen) == 8


def test_errors_in_their_place_of_the_batch() -> None:
    async def some_wrong(request: Request) -> Reply:
        if request.body["prompt"] in {"p1", "p3"}:
            return error(400, "wrong", "invalid_request_error")
        return completion(request)

    with workers(some_wrong) as running, lm(running) as client:
        answers = client.generate([f"p{i}" for i in range(5)], on_error="return")
        assert [type(answer).__name__ for answer in answers] == [
            "Generation",
            "InvalidRequest",
        ] * 2 + ["Generation"]


def test_batches_of_nothing() -> None:
    with LM("policy", endpoints=["http://127.0.0.1:9"]) as client:
        nothing: list[str] = []
        assert client.generate(nothing) == []
        assert client.embed(nothing) == []
        assert client.count_tokens(nothing) == []


def test_max_in_flight_holds_over_threads() -> None:
    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0.01)
        return completion(request)

    with workers(slow) as running, lm(running, max_in_flight=4) as client:
        threads = [
            threading.Thread(target=client.generate, args=([f"{t}-{i}" for i in range(10)],))
            for t in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(running[0].seen) == 60
        assert running[0].most_busy == 4


def test_call_timeout_ends_the_call_on_the_worker() -> None:
    with workers(hang) as running, lm(running) as client:
        with pytest.raises(CallTimeout, match="had not answered"):
            client.generate("x", timeout=0.2)
        eventually(lambda: running[0].gone, what="the call's end on the worker")


def test_nothing_listens_there() -> None:
    gone = StubWorker(good)
    gone.stop()
    with LM("policy", endpoints=[gone.url]) as client, pytest.raises(Unreachable, match=gone.url):
        client.generate("x", timeout=0.5)
