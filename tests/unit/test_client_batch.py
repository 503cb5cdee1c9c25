"""Bounded, ordered fan-out."""

import asyncio
import random

import pytest

from modelworker import CallTimeout, InvalidRequest, ModelWorkerError, Unavailable
from modelworker._batch import Gate, in_order
from tests.client_support import until


def quiet() -> None:
    """Progress that nobody sees."""


def test_order_and_bound() -> None:
    async def scenario() -> None:
        running = most = 0
        luck = random.Random(1)
        gate = Gate(lambda: 5)

        async def call(index: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(luck.random() / 200)
            running -= 1
            return index

        done = await in_order(200, call, gate, on_error="raise", advance=quiet)
        assert done == list(range(200))
        assert most == 5
        assert gate._inside == 0

    asyncio.run(scenario())


def test_the_bound_follows_the_limit() -> None:
    async def scenario() -> None:
        limit = 1
        most: dict[int, int] = {1: 0, 4: 0}
        running = 0

        async def call(index: int) -> None:
            nonlocal limit, running
            limit = 1 if index < 10 else 4
            running += 1
            most[limit] = max(most[limit], running)
            await asyncio.sleep(0.001)
            running -= 1

        await in_order(60, call, Gate(lambda: limit), on_error="raise", advance=quiet)
        assert most == {1: 1, 4: 4}

    asyncio.run(scenario())


def test_first_error_cancels_the_rest_and_is_raised() -> None:
    async def scenario() -> None:
        started: list[int] = []
        cancelled: list[int] = []
        gate = Gate(lambda: 4)

        async def call(index: int) -> None:
            started.append(index)
            if index == 2:
                raise InvalidRequest("wrong") from KeyError("cause")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append(index)
                raise

        with pytest.raises(InvalidRequest, match="wrong") as caught:
            await in_order(100, call, gate, on_error="raise", advance=quiet)
        assert isinstance(caught.value.__cause__, KeyError)
        assert len(started) < 10
        assert set(cancelled) == set(started) - {2}
        await asyncio.sleep(0)
        assert gate._inside == 0

    asyncio.run(scenario())


def test_errors_in_their_place() -> None:
    async def scenario() -> None:
        async def call(index: int) -> int:
            if index % 2:
                raise Unavailable(str(index))
            return index

        done = await in_order(5, call, Gate(lambda: 2), on_error="return", advance=quiet)
        assert [str(one) for one in done] == ["0", "1", "2", "3", "4"]
        assert [isinstance(one, ModelWorkerError) for one in done] == [False, True] * 2 + [False]

    asyncio.run(scenario())


def test_a_programming_error_is_raised_even_where_errors_are_returned() -> None:
    async def scenario() -> None:
        async def call(index: int) -> int:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await in_order(3, call, Gate(lambda: 2), on_error="return", advance=quiet)

    asyncio.run(scenario())


def test_cancelling_a_batch_ends_its_calls_and_frees_the_gate() -> None:
    async def scenario() -> None:
        gate = Gate(lambda: 3)
        ended = 0

        async def call(index: int) -> None:
            nonlocal ended
            try:
                await asyncio.sleep(30)
            finally:
                ended += 1

        batch = asyncio.create_task(in_order(10, call, gate, on_error="raise", advance=quiet))
        await until(lambda: gate._inside == 3)
        await asyncio.sleep(0)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        assert ended == 3
        await asyncio.sleep(0)
        assert (gate._inside, len(gate._waiting)) == (0, 0)

    asyncio.run(scenario())


def test_waiting_for_a_place_counts_towards_the_calls_time() -> None:
    async def scenario() -> None:
        gate = Gate(lambda: 1)
        await gate.enter()
        now = asyncio.get_running_loop().time()
        with pytest.raises(CallTimeout, match="max_in_flight"):
            async with gate.place(now + 0.02):
                pass
        gate.leave()
        async with gate.place(now + 30):
            assert gate._inside == 1
        assert gate._inside == 0

    asyncio.run(scenario())


def test_weights_add_up_and_a_heavy_one_goes_alone() -> None:
    async def scenario() -> None:
        gate = Gate(lambda: 4)
        await gate.enter(3)
        heavy = asyncio.create_task(gate.enter(9))
        light = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        assert not heavy.done()
        assert not light.done(), "first come, first served"
        gate.leave(3)
        await heavy
        await asyncio.sleep(0)
        assert not light.done()
        gate.leave(9)
        await light
        assert gate._inside == 1

    asyncio.run(scenario())


def test_one_that_stops_waiting_lets_the_next_in() -> None:
    async def scenario() -> None:
        gate = Gate(lambda: 4)
        await gate.enter(3)
        heavy = asyncio.create_task(gate.enter(2))
        light = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        heavy.cancel()
        await light
        assert (gate._inside, len(gate._waiting)) == (4, 0)

    asyncio.run(scenario())
