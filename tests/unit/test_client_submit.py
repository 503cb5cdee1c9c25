"""Batches: results as they come, in order, and failures; no network."""

import asyncio
from collections.abc import Sequence

import pytest

from modelworker import (
    CallTimeout,
    NotReady,
    PartialBatch,
    Unavailable,
)
from tests.client_batch_support import Group, Played, play
from tests.client_support import until


def test_starts_at_once_and_gives_results_as_they_come() -> None:
    async def scenario() -> None:
        played = Played((0, 1), (2,), (3,))
        played.hold(0, 2, 3)
        batch = played.batch()
        assert (len(batch), batch.done, batch.errors) == (4, 0, {})
        came: list[int] = []

        async def follow() -> None:
            async for index, outcome in batch.as_completed():
                assert outcome == f"r{index}"
                came.append(index)

        following = asyncio.create_task(follow())
        for first, expected in ((2, [2]), (0, [2, 0, 1]), (3, [2, 0, 1, 3])):
            await until(lambda: len(played.asked) == 3)
            played.held[first].set()
            await until(lambda expected=expected: came == expected)  # type: ignore[misc]
        await following
        assert [index async for index, _ in batch.as_completed()] == [2, 0, 1, 3]
        assert await batch.result() == ["r0", "r1", "r2", "r3"]
        assert [one async for one in batch] == ["r0", "r1", "r2", "r3"]
        assert batch.done == 4

    play(scenario)


def test_iterating_gives_each_result_once_those_before_it_are_known() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,))
        played.hold(1)
        batch = played.batch()
        played.free.set()
        results = aiter(batch)
        assert await anext(results) == "r0"
        played.held[1].set()
        assert await anext(results) == "r1"

    play(scenario)


def test_failed_items_do_not_stop_the_others() -> None:
    async def scenario() -> None:
        played = Played((0, 1), (2,), (3,))
        played.failures = {1: Unavailable("gone"), 3: Unavailable("too")}
        played.free.set()
        batch = played.batch()
        with pytest.raises(PartialBatch, match=r"2 of 4 items failed.*Unavailable: gone") as caught:
            await batch.result()
        assert caught.value.results == {0: "r0", 2: "r2"}
        assert caught.value.errors == batch.errors == played.failures
        assert [type(one) async for _, one in batch.as_completed()].count(Unavailable) == 2
        with pytest.raises(Unavailable, match="gone"):
            _ = [one async for one in batch]

        returned = played.batch("return")
        assert list(map(str, await returned.result())) == ["r0", "gone", "r2", "too"]
        assert [str(one) async for one in returned] == ["r0", "gone", "r2", "too"]

    play(scenario)


def test_a_request_that_fails_is_an_error_of_each_of_its_items() -> None:
    async def scenario() -> None:
        played = Played((0, 1), (2,))

        async def ask(group: Group) -> Sequence[str]:
            if 0 in group:
                raise Unavailable("gone")
            return ["r2"]

        played.ask = ask  # type: ignore[method-assign]
        outcomes = await played.batch("return").result()
        assert list(map(str, outcomes)) == ["gone", "gone", "r2"]

    play(scenario)


def test_no_ready_worker_is_an_error_of_every_item() -> None:
    async def scenario() -> None:
        played = Played((0, 1))

        async def ready() -> None:
            raise NotReady("nobody")

        played.session.ready = ready  # type: ignore[method-assign]
        assert list(map(str, await played.batch("return").result())) == ["nobody"] * 2
        assert not played.asked

    play(scenario)


def test_a_wait_that_is_over_leaves_the_batch_running() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,))
        played.hold(1)
        batch = played.batch()
        played.free.set()
        with pytest.raises(CallTimeout, match=r"1 of 2 items are done after 0\.05 s"):
            await batch.result(0.05)
        played.held[1].set()
        assert await batch.result(5) == ["r0", "r1"]

    play(scenario)


def test_heavy_requests_wait_for_one_another() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,), (2,), weight=3)
        played.hold(0, 1, 2)
        batch = played.batch()
        for index in range(3):
            await until(lambda index=index: len(played.asked) == index + 1)  # type: ignore[misc]
            played.held[index].set()
        assert await batch.result() == ["r0", "r1", "r2"]

    play(scenario)


def test_nothing_is_done_at_once() -> None:
    async def scenario() -> None:
        batch = Played().batch()
        assert await batch.result() == []
        assert [one async for one in batch] == []
        assert [one async for one in batch.as_completed()] == []

    play(scenario)


def test_a_bug_is_raised_to_everyone_who_waits() -> None:
    async def scenario() -> None:
        played = Played((0,), (1,))
        played.failures = {1: ZeroDivisionError("bug")}
        batch = played.batch("return")
        waits = [asyncio.create_task(batch.result()), asyncio.create_task(batch.whole())]
        await until(lambda: len(played.asked) == 2)
        played.free.set()
        for wait in waits:
            with pytest.raises(ZeroDivisionError):
                await wait
        with pytest.raises(ZeroDivisionError):
            _ = [one async for one in played.batch("return").as_completed()]

    play(scenario)
