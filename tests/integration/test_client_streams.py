"""Streams and the async face of LM against servers on real sockets."""

import asyncio
import threading

import pytest

from modelworker import LM, AsyncLM, StreamInterrupted
from tests.client_support import (
    Reply,
    Request,
    StubWorker,
    chunk,
    good,
    hang,
    lm,
    parts,
    until,
    workers,
)
from tests.support import eventually

DONE = b"data: [DONE]\n\n"


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
