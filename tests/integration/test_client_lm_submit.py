"""LM.submit: prompts under way in the background, on stand-ins for workers."""

import asyncio
from typing import Any

import pytest

from modelworker import LM, Cancelled, InvalidRequest, ModelWorkerError, PartialBatch
from tests.client_support import Reply, Request, completion, error, good, hang, lm, workers
from tests.support import eventually


async def refusing(request: Request) -> Reply:
    """A worker that refuses the prompt `bad`."""
    if request.body["prompt"] == "bad":
        return error(400, "no", "invalid_request_error")
    return completion(request)


def test_results_come_in_order_and_as_they_come() -> None:
    async def slow_first(request: Request) -> Reply:
        if request.body["prompt"] == "p0":
            while len(running[0].seen) < 9:  # noqa: ASYNC110 - the state polled has no event
                await asyncio.sleep(0.002)
        return completion(request)

    with workers(slow_first) as running, lm(running, max_in_flight=2) as client:
        batch = client.submit([f"p{index}" for index in range(9)], n=2, max_tokens=5)
        order = [index for index, _ in batch.as_completed()]
        assert sorted(order) == list(range(9))
        assert set(order[-2:]) == {0, 8}  # the last one is sent when the others are known
        assert [one.texts for one in batch.result(20)] == [
            [f"ok p{index}"] * 2 for index in range(9)
        ]
        assert (len(batch), batch.done, batch.errors) == (9, 9, {})
        assert running[0].most_busy == 2


def test_failed_prompts_do_not_stop_the_others() -> None:
    with workers(refusing) as running, lm(running) as client:
        with pytest.raises(PartialBatch) as caught:
            client.submit(["a", "bad", "c"]).result(20)
        assert (sorted(caught.value.results), sorted(caught.value.errors)) == ([0, 2], [1])
        returned = client.submit(["a", "bad"], on_error="return").result(20)
        assert isinstance(returned[1], InvalidRequest)


def test_cancelling_ends_the_requests() -> None:
    with workers(hang) as running, lm(running) as client:
        batch = client.submit(["a", "b", "c"], on_error="return")
        eventually(lambda: running[0].busy, until=lambda busy: busy == 3)
        batch.cancel([1])
        eventually(lambda: running[0].gone, until=lambda gone: gone == 1)
        batch.cancel()
        assert [type(one) for one in batch.result(20)] == [Cancelled] * 3
        eventually(lambda: running[0].gone, until=lambda gone: gone == 3)
        eventually(client.in_flight, until=lambda calls: calls == {})


def test_one_prompt_is_a_batch_of_one_and_none_an_empty_one() -> None:
    with workers(good) as running, lm(running) as client:
        assert [one.text for one in client.submit("a").result(20)] == ["ok a"]
        assert len(client.submit([7, 8]).result(20)) == 1
        assert client.submit([]).result(20) == []


def test_no_worker_is_an_error_of_every_item() -> None:
    with workers(good) as running:
        running[0].stop()
        with lm(running, timeout=0.2) as client:
            errors = client.submit(["a", "b"], on_error="return").result(20)
            assert all(isinstance(one, ModelWorkerError) for one in errors)


CALLS: dict[str, Any] = {
    "generate": lambda client, **options: client.generate("a", **options),
    "chat": lambda client, **options: client.chat([{"role": "user", "content": "a"}], **options),
    "stream": lambda client, **options: client.stream("a", **options),
    "stream_chat": lambda client, **options: client.stream_chat(
        [{"role": "user", "content": "a"}], **options
    ),
    "submit": lambda client, **options: client.submit(["a"], **options),
    "submit_chat": lambda client, **options: client.submit_chat(
        [{"role": "user", "content": "a"}], **options
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"session": ""}, "session must be", id="session"),
        pytest.param({"session": 3}, "session must be", id="session-number"),
        pytest.param({"timeout": 0}, "timeout must be", id="timeout"),
        pytest.param({"max_token": 3}, "unknown argument max_token", id="typo"),
    ],
)
def test_refused_before_anything_is_sent(name: str, options: dict[str, Any], message: str) -> None:
    with workers(good) as running, lm(running) as client:
        with pytest.raises(InvalidRequest, match=message):
            CALLS[name](client, **options)
        assert running[0].seen == []


@pytest.mark.parametrize("name", ["submit", "submit_chat"])
def test_on_error_is_one_of_two_words(name: str) -> None:
    with pytest.raises(InvalidRequest, match="on_error must be"):
        CALLS[name](LM("policy", endpoints=["http://h"]), on_error="drop")
