"""LM against servers on real sockets: failures, order, streams, cancellation."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from modelworker import (
    LM,
    AsyncLM,
    CallTimeout,
    ContextTooLong,
    ModelNotServed,
    Overloaded,
    StreamInterrupted,
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
    chunk,
    completion,
    error,
    parts,
    until,
    workers,
)
from tests.support import eventually

DONE = b"data: [DONE]\n\n"


async def good(request: Request) -> Reply:
    return completion(request)


async def hang(request: Request) -> Reply:
    await asyncio.sleep(600)
    return completion(request)


def lm(running: list[StubWorker], **options: object) -> LM:
    return LM("policy", endpoints=[one.url for one in running], **options)  # type: ignore[arg-type]


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
            "shorten the prompt",
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


# --- streams -------------------------------------------------------------------------


def test_stream_gives_parts_as_they_come() -> None:
    gate = threading.Event()

    async def stream(request: Request) -> Reply:
        assert request.body["stream"] is True

        async def events() -> object:
            yield chunk("a\u2028", 1)
            await asyncio.to_thread(gate.wait, 10)
            yield chunk("b", 2, "stop")
            yield DONE

        return Reply(parts=events())  # type: ignore[arg-type]

    with workers(stream) as running, lm(running) as client:
        received = client.stream("x")
        first = next(received)
        assert (first.text, first.token_ids, first.finish_reason) == ("a\u2028", (1,), None)
        assert client.in_flight() == {running[0].url: 1}
        gate.set()
        assert [part.text for part in received] == ["b"]
        assert client.in_flight() == {}


def test_stream_cut_is_not_repeated_and_keeps_what_came() -> None:
    async def cut(request: Request) -> Reply:
        return Reply(parts=parts(chunk("a", 1), chunk("b", 2)), cut=True)

    with workers(cut, cut) as running, lm(running) as client:
        texts: list[str] = []
        with pytest.raises(StreamInterrupted, match="broke after 2 parts") as caught:
            texts.extend(part.text for part in client.stream("x"))
        assert (caught.value.text, caught.value.token_ids) == ("ab", (1, 2))
        assert sum(len(one.seen) for one in running) == 1


def test_stream_that_fails_before_its_first_part_is_tried_elsewhere() -> None:
    async def cut(request: Request) -> Reply:
        return Reply(parts=parts(), cut=True)

    async def stream(request: Request) -> Reply:
        return Reply(parts=parts(chunk("a", 1, "stop"), DONE))

    with workers(cut, stream) as running, lm(running) as client:
        for _ in range(6):
            assert [part.text for part in client.stream("x")] == ["a"]
        assert len(running[0].seen) > 0


@pytest.mark.parametrize("how", ["close", "drop"])
def test_stream_left_early_ends_on_the_worker(how: str) -> None:
    async def endless(request: Request) -> Reply:
        return Reply(parts=parts(chunk("a", 1), then=lambda: asyncio.sleep(600)))

    with workers(endless) as running, lm(running) as client:
        received = client.stream("x")
        next(received)
        if how == "close":
            received.close()
        else:
            del received
        eventually(lambda: running[0].gone, what="the stream's end on the worker")
        eventually(client.in_flight, until=lambda calls: calls == {}, what="no call in flight")


# --- the async face ------------------------------------------------------------------


def test_cancelled_task_ends_the_call_on_the_worker() -> None:
    async def scenario(running: StubWorker) -> None:
        async with AsyncLM("policy", endpoints=[running.url]) as client:
            call = asyncio.create_task(client.generate("x"))
            await until(lambda: running.busy == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: running.gone == 1)
            assert await client.in_flight() == {}

    with workers(hang) as (running,):
        asyncio.run(scenario(running))


def test_async_stream_left_early_ends_on_the_worker() -> None:
    async def endless(request: Request) -> Reply:
        return Reply(parts=parts(chunk("a", 1), then=lambda: asyncio.sleep(600)))

    async def scenario(running: StubWorker) -> None:
        async with AsyncLM("policy", endpoints=[running.url]) as client:
            received = client.stream("x")
            assert (await anext(received)).text == "a"
            await received.aclose()
            await until(lambda: running.gone == 1)

    with workers(endless) as (running,):
        asyncio.run(scenario(running))


def test_one_async_lm_in_one_event_loop_after_another() -> None:
    with workers(good) as (running,):
        client = AsyncLM("policy", endpoints=[running.url])

        async def call() -> str:
            text = (await client.generate("x")).text
            await client.aclose()
            return text

        assert [asyncio.run(call()) for _ in range(3)] == ["ok x"] * 3
        both = LM("policy", endpoints=[running.url])

        async def mixed() -> tuple[str, str]:
            there = await asyncio.to_thread(both.generate, "sync")
            here = await both.aio.generate("async")
            await both.aio.aclose()
            return there.text, here.text

        assert asyncio.run(mixed()) == ("ok sync", "ok async")
        both.close()
