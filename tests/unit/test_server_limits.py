"""Concurrency control: what is taken in, what is refused, and that no place is ever lost."""

import asyncio
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelworker_server.errors import Overloaded
from modelworker_server.limits import MAX_RETRY_AFTER, Limiter


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limiter(max_running: int, max_queued: int, clock: Clock | None = None) -> Limiter:
    return Limiter(max_running=max_running, max_queued=max_queued, timer=clock or Clock())


@pytest.mark.parametrize(
    ("max_running", "max_queued", "requests", "running", "waiting", "refused"),
    [
        pytest.param(2, 0, [1, 1], 2, 0, 0, id="full"),
        pytest.param(2, 0, [1, 1, 1], 2, 0, 1, id="no-queue"),
        pytest.param(2, 1, [1, 1, 1, 1], 2, 1, 1, id="one-waits"),
        pytest.param(2, 3, [8], 1, 0, 0, id="larger-than-all"),
        pytest.param(2, 3, [8, 1, 1], 1, 2, 0, id="behind-a-large-one"),
        pytest.param(4, 3, [3, 3, 1], 2, 1, 0, id="one-begins-in-the-last-place"),
        pytest.param(1, 2, [1] * 9, 1, 2, 6, id="burst"),
    ],
)
def test_admission(
    *,
    max_running: int,
    max_queued: int,
    requests: list[int],
    running: int,
    waiting: int,
    refused: int,
) -> None:
    limits = limiter(max_running, max_queued)
    failures = 0
    with ExitStack() as stack:
        for sequences in requests:
            try:
                stack.enter_context(limits.admit(sequences))
            except Overloaded:
                failures += 1
        assert (limits.running, limits.waiting, failures) == (running, waiting, refused)
    assert (limits.running, limits.waiting) == (0, 0)


@given(
    max_running=st.integers(1, 4),
    max_queued=st.integers(0, 4),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 6)), max_size=60),
)
def test_no_place_is_lost_or_given_twice(
    max_running: int, max_queued: int, steps: list[tuple[bool, int, int]]
) -> None:
    limits = limiter(max_running, max_queued)
    held: list[tuple[ExitStack, int]] = []
    for arrives, position, sequences in steps:
        if arrives:
            stack = ExitStack()
            busy = sum(size for _, size in held) >= max_running
            if busy and limits.waiting == max_queued:
                with pytest.raises(Overloaded):
                    stack.enter_context(limits.admit(sequences))
            else:
                stack.enter_context(limits.admit(sequences))
                held.append((stack, sequences))
        elif held:
            held.pop(position % len(held))[0].close()
        assert limits.running + limits.waiting == len(held)
        assert limits.waiting <= max_queued
        # The longest run of requests, in order of arrival, that has a place to begin in.
        sizes = [size for _, size in held]
        begun = [sum(sizes[:i]) < max_running for i in range(len(sizes))]
        assert limits.running == sum(begun)
    for stack, _ in held:
        stack.close()
    assert (limits.running, limits.waiting) == (0, 0)


@pytest.mark.parametrize("failure", [ValueError, asyncio.CancelledError, GeneratorExit])
def test_a_place_is_given_back_however_the_request_ends(failure: type[BaseException]) -> None:
    limits = limiter(1, 0)
    with pytest.raises(failure), limits.admit(1):
        raise failure
    with limits.admit(1):
        assert limits.running == 1


@pytest.mark.parametrize(
    ("services", "seconds"),
    [
        pytest.param([], "1", id="nothing-known"),
        pytest.param([0.2], "1", id="fast"),
        pytest.param([7.5], "8", id="rounded-up"),
        pytest.param([10, 10, 20], "12", id="moving-average"),
        pytest.param([10_000], f"{MAX_RETRY_AFTER:.0f}", id="capped"),
    ],
)
def test_retry_after_follows_the_service_time(services: list[float], seconds: str) -> None:
    clock = Clock()
    limits = limiter(1, 0, clock)
    for service in services:
        with limits.admit(1):
            clock.now += service
    with limits.admit(1), pytest.raises(Overloaded) as refused, limits.admit(1):
        pass
    assert refused.value.headers() == {"retry-after": seconds}


def test_waiting_is_not_service() -> None:
    clock = Clock()
    limits = limiter(1, 1, clock)
    first, second = ExitStack(), ExitStack()
    first.enter_context(limits.admit(1))
    second.enter_context(limits.admit(1))
    clock.now += 30
    first.close()
    clock.now += 30
    second.close()
    assert limits.retry_after() == pytest.approx(30)


def test_idle_returns_once_the_last_one_left() -> None:
    async def run() -> list[str]:
        limits = limiter(2, 2)
        await limits.idle()
        order: list[str] = []

        async def wait() -> None:
            await limits.idle()
            order.append("idle")

        with limits.admit(1):
            with limits.admit(1):
                waiter = asyncio.create_task(wait())
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append("last")
        await waiter
        return order

    assert asyncio.run(run()) == ["last", "idle"]
