"""Batches of RMCall against servers on real sockets: a killed worker, cancelling, limits."""

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from modelworker import (
    CallTimeout,
    Cancelled,
    PartialBatch,
    RMCall,
    Score,
)
from tests.client_reward_support import (
    batch_of,
    expected,
    questions,
    rm,
    scoring,
    slowly,
)
from tests.client_support import Drop, Reply, Request, hang, workers
from tests.support import eventually


def test_a_worker_killed_in_the_middle_loses_no_score_and_doubles_none() -> None:
    inputs = batch_of(2000)
    with workers(slowly(0.1), slowly(0.1)) as running, rm(running) as client:

        def kill() -> None:
            eventually(lambda: running[0].busy, what="a request", interval=0.005)
            running[0].stop()

        killer = threading.Thread(target=kill)
        killer.start()
        batch = client.submit(inputs)
        came = [index for index, _ in batch.as_completed()]
        killer.join()
        assert sorted(came) == list(range(2000))
        assert [score.step_scores for score in batch.result()] == expected(inputs)
        answered = Counter(score.worker for score in batch)
        assert set(answered) == {"pod-1"}, "no request of the killed one was answered"


def test_as_completed_and_cancel_end_the_requests_on_the_worker() -> None:
    async def some_hang(request: Request) -> Reply:
        if "q0" in questions(request):
            return await scoring(request)
        return await hang(request)

    inputs = [(f"q{i}", "a" * 30_000) for i in range(4)]
    with workers(some_hang) as running, rm(running) as client:
        batch = client.submit(inputs, on_error="return")
        index, first = next(batch.as_completed())
        assert (index, type(first)) == (0, Score)
        assert repr(batch) == "Batch(1 of 4 done, 0 failed)"
        eventually(lambda: running[0].busy == 3, what="the others under way")
        batch.cancel([1])
        eventually(lambda: running[0].gone == 1, what="one request ended")
        batch.cancel()
        eventually(lambda: running[0].gone == 3, what="all requests ended")
        assert [type(one) for one in batch.result()] == [Score, Cancelled, Cancelled, Cancelled]
        assert [type(one) for one in batch] == [Score, Cancelled, Cancelled, Cancelled]
        assert client.in_flight() == {}


def test_submit_never_blocks() -> None:
    with workers(hang) as running, rm(running, timeout=0.3) as client:
        batch = client.submit([("q", "a"), ("q", "b")])
        assert (len(batch), batch.done) == (2, 0)
        with pytest.raises(CallTimeout, match="0 of 2 items are done"):
            batch.result(0.01)
        with pytest.raises(PartialBatch, match="CallTimeout"):
            batch.result()
        assert {type(one) for one in batch.errors.values()} == {CallTimeout}


def test_a_temporary_client_lives_as_long_as_its_batch() -> None:
    inputs = batch_of(40)
    with workers(slowly(0.02)) as (running,):
        batch = RMCall("prm", endpoints=[running.url]).submit(inputs)
        assert [score.step_scores for score in batch] == expected(inputs)


def test_the_first_error_cancels_the_rest_of_a_score() -> None:
    async def one_wrong(request: Request) -> Reply:
        if "q2" in questions(request):
            raise Drop
        return await hang(request)

    with workers(one_wrong) as running, rm(running, timeout=0.5) as client:
        with pytest.raises(Exception, match="connection"):
            client.score([(f"q{i}", "a" * 30_000) for i in range(4)])
        eventually(lambda: running[0].busy == 0, what="no request left")
        assert client.in_flight() == {}


def test_max_in_flight_bounds_requests_and_waiting_costs_no_time() -> None:
    inputs = [(f"q{i}", ["a" * 40_000]) for i in range(8)]
    with workers(slowly(0.1)) as running, rm(running, max_in_flight=1, timeout=0.5) as client:
        assert [score.step_scores for score in client.score(inputs)] == expected(inputs)
        assert running[0].most_busy == 1


def test_both_faces_give_the_same() -> None:
    inputs = batch_of(30)

    async def awaited(client: RMCall) -> list[Any]:
        async with client.aio as rewards:
            batch = rewards.submit(inputs)
            completed = sorted([pair async for pair in batch.as_completed()])
            return [
                await rewards([("q", "a\n\nb")]),
                await rewards.score(inputs[0]),
                await rewards.score(inputs),
                await batch.result(),
                completed,
                [score async for score in batch],
                await rewards.workers(),
            ]

    with workers(scoring) as running, rm(running) as client:
        batch = client.submit(inputs)
        waited = [
            client([("q", "a\n\nb")]),
            client.score(inputs[0]),
            client.score(inputs),
            batch.result(),
            sorted(batch.as_completed()),
            list(batch),
            client.workers(),
        ]
        assert asyncio.run(awaited(client)) == waited
        assert len(running[0].seen) > 6
