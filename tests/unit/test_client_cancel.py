"""How batches end before their time: cancelled, closed, given up; no network."""

import asyncio
from typing import Any

import pytest

from modelworker import (
    AsyncBatch,
    Cancelled,
    Unavailable,
)
from tests.client_batch_support import Played, play
from tests.client_support import until


def test_whole_raises_the_first_error_and_ends_the_rest() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,), (2,))
        played.hold(2)
        played.failures = {2: Unavailable("gone")}
        waiting = asyncio.create_task(played.batch().whole())
        await until(lambda: len(played.asked) == 3)
        played.held[2].set()
        with pytest.raises(Unavailable, match="gone"):
            await waiting
        await until(lambda: len(played.ended) == 3)

    play(scenario)


def test_a_cancelled_wait_for_the_whole_ends_its_requests() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,))
        waiting = asyncio.create_task(played.batch().whole())
        await until(lambda: len(played.asked) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: len(played.ended) == 2)

    play(scenario)


def test_cancel_all() -> None:
    async def scenario() -> None:
        played = Played(*((index,) for index in range(9)))
        played.hold(0)
        batch = played.batch("return")
        await until(lambda: len(played.asked) == 4)
        played.held[0].set()
        await until(lambda: batch.done == 1)
        batch.cancel()
        assert batch.done == 9
        first, *rest = await batch.result()
        assert first == "r0"
        assert {type(one) for one in rest} == {Cancelled}
        await until(lambda: len(played.ended) == len(played.asked))
        asked = len(played.asked)
        played.free.set()
        await asyncio.sleep(0)
        assert len(played.asked) == asked, "nothing is sent after it"
        assert played.session.token_gate._inside == 0
        batch.cancel()

    play(scenario)


def test_cancel_some() -> None:
    async def scenario() -> None:
        played = Played((0, 1), (2, 3), (4,), (5,), (6, 7))
        batch = played.batch("return")
        await until(lambda: len(played.asked) == 4)
        batch.cancel([1, 2, 3, 6])
        await until(lambda: played.ended == [(2, 3)])
        played.free.set()
        outcomes = await batch.result()
        kept = ["r0", None, None, None, "r4", "r5", None, "r7"]
        assert [one if isinstance(one, str) else None for one in outcomes] == kept
        assert sorted(batch.errors) == [1, 2, 3, 6]
        assert played.asked[-1] == (7,), "a cancelled item is not asked for"
        with pytest.raises(IndexError, match="no item 8 in a batch of 8"):
            batch.cancel([8])

    play(scenario)


def test_closing_the_session_cancels_its_batches() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,))
        batch = played.batch("return")
        await until(lambda: len(played.asked) == 2)
        await played.session.aclose()
        assert {type(one) for one in await batch.result()} == {Cancelled}

    play(scenario)


def test_it_belongs_to_its_event_loop() -> None:
    async def submitted() -> AsyncBatch[Any]:
        batch = Played((0,)).batch()
        await asyncio.sleep(0)
        return batch

    async def used_elsewhere(batch: AsyncBatch[Any]) -> None:
        for use in (batch.result, batch.whole, aiter(batch).__anext__):
            with pytest.raises(RuntimeError, match="submit the items again here"):
                await use()
        with pytest.raises(RuntimeError, match="submit the items again here"):
            batch.cancel()

    loop = asyncio.new_event_loop()
    batch = loop.run_until_complete(submitted())
    asyncio.run(used_elsewhere(batch))

    async def end() -> None:
        batch.cancel()
        await asyncio.sleep(0.01)

    loop.run_until_complete(end())
    loop.close()
    assert {type(one) for one in batch.errors.values()} == {Cancelled}


def test_the_end_of_the_event_loop_cancels_what_is_left() -> None:
    made: list[AsyncBatch[Any]] = []

    async def scenario() -> None:
        made.append(Played((0,)).batch())

    play(scenario)
    assert {type(one) for one in made[0].errors.values()} == {Cancelled}
