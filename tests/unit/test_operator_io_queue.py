"""The queue: each key once, one pass per key at a time, nothing lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from modelworker_operator.queue import KeyedQueue, backoff_seconds


@contextlib.asynccontextmanager
async def running(
    handle: Callable[[str], Awaitable[bool]], workers: int = 2
) -> AsyncIterator[KeyedQueue[str]]:
    queue: KeyedQueue[str] = KeyedQueue(handle, workers=workers)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(reached: Callable[[], object]) -> None:
    for _ in range(2000):
        if reached():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not reached")


async def settle(queue: KeyedQueue[str]) -> None:
    await until(lambda: queue.idle)


@pytest.mark.parametrize(
    ("failures", "jitter", "seconds"),
    [(1, 1.0, 0.25), (1, 0.0, 0.125), (4, 1.0, 2.0), (9, 1.0, 30.0), (5000, 1.0, 30.0)],
)
def test_backoff(failures: int, jitter: float, seconds: float) -> None:
    assert backoff_seconds(failures, lambda: jitter) == seconds


def test_nothing_is_handed_out_before_open_and_each_key_once() -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def handle(key: str) -> bool:
            seen.append(key)
            return True

        async with running(handle) as queue:
            for key in ("a", "b", "a", "a"):
                queue.add(key)
            await asyncio.sleep(0.02)
            assert (seen, len(queue), queue.opened) == ([], 2, False)
            queue.open()
            await settle(queue)
            assert seen == ["a", "b"]

    asyncio.run(scenario())


def test_a_key_added_during_its_pass_is_handled_after_it_not_beside_it() -> None:
    async def scenario() -> None:
        passes = most = now = 0

        async def handle(key: str) -> bool:
            nonlocal passes, most, now
            passes, now = passes + 1, now + 1
            most = max(most, now)
            if passes == 1:
                queue.add(key)
                queue.add(key)
            await asyncio.sleep(0.01)
            now -= 1
            return True

        async with running(handle, workers=4) as queue:
            queue.open()
            queue.add("a")
            await settle(queue)
        assert (passes, most) == (2, 1)

    asyncio.run(scenario())


def test_passes_at_once_are_bounded() -> None:
    async def scenario() -> None:
        most = now = 0

        async def handle(_: str) -> bool:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1
            return True

        async with running(handle, workers=3) as queue:
            queue.open()
            for number in range(20):
                queue.add(str(number))
            await settle(queue)
        assert most == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("fail", ["returns-false", "raises"])
def test_a_failed_key_comes_back_and_others_go_on(fail: str) -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def handle(key: str) -> bool:
            seen.append(key)
            if key == "bad" and seen.count("bad") < 2:
                if fail == "raises":
                    raise RuntimeError("poison")
                return False
            return True

        async with running(handle, workers=1) as queue:
            queue.open()
            queue.add("bad")
            queue.add("good")
            await settle(queue)
            assert seen == ["bad", "good", "bad"]

    asyncio.run(scenario())


@pytest.mark.parametrize("wake", ["add", "retry_delayed"])
def test_a_delayed_key_can_be_woken(wake: str) -> None:
    async def scenario() -> None:
        passes = 0

        async def handle(_: str) -> bool:
            nonlocal passes
            passes += 1
            return passes > 8  # The delay would be half a minute by then.

        async with running(handle) as queue:
            queue.open()
            queue.add("a")
            for _ in range(8):
                await until(lambda: queue.delayed)
                queue.add("a") if wake == "add" else queue.retry_delayed()
            await settle(queue)
        assert passes == 9

    asyncio.run(scenario())
