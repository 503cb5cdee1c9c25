"""An LM that falls back to another one: workers and a provider on loopback sockets."""

import asyncio
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from modelworker import (
    LM,
    ContextTooLong,
    InvalidRequest,
    ModelWorkerError,
    NotReady,
    StreamInterrupted,
    Unreachable,
    WorkerFailed,
)
from modelworker._session import Session
from tests import client_support
from tests.client_support import Drop, Reply, Request, StubWorker, chunk, parts, workers
from tests.provider_support import EVENTS, HI, openai_chat, openai_events, openai_lm

SOON = 0.2
"""Seconds that the first LM is waited for."""


async def other(request: Request) -> Reply:
    """The provider that is fallen back to."""
    if request.body.get("stream"):
        choice = {"index": 0, "delta": {"content": "other"}, "finish_reason": "stop"}
        return Reply(headers=EVENTS, parts=openai_events(choice))
    return openai_chat(request, text="other")


async def full(request: Request) -> Reply:
    return client_support.error(429, "full", "overloaded")


async def down(request: Request) -> Reply:
    return client_support.error(503, "draining", "unavailable")


async def gone(request: Request) -> Reply:
    raise Drop


def falling(first: StubWorker, second: StubWorker, **options: Any) -> LM:
    """A client of a worker that falls back to a provider."""
    given = {"ready_timeout": SOON, "fallback": openai_lm(second), **options}
    return LM("policy", endpoints=[first.url], **given)


@pytest.fixture
def provider() -> Iterator[StubWorker]:
    with workers(other) as (server,):
        yield server


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(full, id="full"),
        pytest.param(down, id="not-serving"),
        pytest.param(gone, id="connection-lost"),
        pytest.param(None, id="no-connection"),
    ],
)
def test_who_cannot_answer_now_is_left(first: Any, provider: StubWorker) -> None:
    with workers(first or gone) as (worker,):
        if first is None:
            worker.stop()
        with falling(worker, provider) as lm:
            got = lm.chat(HI)
            assert (got.text, got.model, got.worker) == (
                "other 0",
                "gpt-2026-01-01",
                f"{provider.url}/v1",
            )
            assert [part.text for part in lm.stream_chat(HI)] == ["other"]
            assert [one.text for one in lm.chat([HI, HI])] == ["other 0"] * 2
            assert [one.text for one in lm.submit_chat([HI, HI]).result(30)] == ["other 0"] * 2


def test_who_answers_is_not_left(provider: StubWorker) -> None:
    with workers(client_support.good) as (worker,), falling(worker, provider) as lm:
        assert lm.generate("x").worker == "pod-0"
        assert provider.seen == []


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(
            client_support.error(400, "no", "invalid_request_error"), InvalidRequest, id="invalid"
        ),
        pytest.param(
            client_support.error(400, "long", "context_length_exceeded"),
            ContextTooLong,
            id="too-long",
        ),
        pytest.param(client_support.error(500, "oh", "internal_error"), WorkerFailed, id="failed"),
    ],
)
def test_what_is_wrong_with_a_request_is_not_passed_on(
    reply: Reply, kind: type[ModelWorkerError], provider: StubWorker
) -> None:
    async def answer(request: Request) -> Reply:
        return reply

    with workers(answer) as (worker,), falling(worker, provider) as lm:
        with pytest.raises(kind):
            lm.chat(HI)
        assert provider.seen == []


def test_each_item_of_a_list_is_passed_on_by_itself(provider: StubWorker) -> None:
    async def answer(request: Request) -> Reply:
        if request.body["messages"][0]["content"] == "busy":
            return await full(request)
        body = client_support.completion(Request("", {}, {"n": 1, "prompt": "x"})).body
        choice = {**body["choices"][0], "message": {"content": "own"}, "logprobs": None}
        return Reply({**body, "choices": [choice]})

    asked = [[{"role": "user", "content": word}] for word in ("a", "busy", "b")]
    with workers(answer) as (worker,), falling(worker, provider) as lm:
        assert [one.text for one in lm.chat(asked)] == ["own", "other 0", "own"]
        assert [one.text for one in lm.submit_chat(asked).result(30)] == ["own", "other 0", "own"]
        assert len(provider.seen) == 2


def test_a_stream_that_has_begun_stays(provider: StubWorker) -> None:
    async def answer(request: Request) -> Reply:
        if len(worker.seen) == 1:
            return Reply(parts=parts(chunk("a", 1)), cut=True)
        return await down(request)

    with workers(answer) as (worker,):
        lm = LM("policy", endpoints=[worker.url], timeout=1, fallback=openai_lm(provider))
        with lm, pytest.raises(StreamInterrupted) as caught:
            list(lm.stream("x"))
        assert caught.value.text == "a"
        assert provider.seen == []


def test_an_option_that_the_fallback_lacks_is_refused_at_once(provider: StubWorker) -> None:
    with workers(client_support.good) as (worker,), falling(worker, provider) as lm:
        with pytest.raises(InvalidRequest, match="provider 'openai' has no top_k"):
            lm.generate("x", top_k=5)
        assert worker.seen == []


class Nobody:
    """A ModelWorker without a ready worker; it tells until when it was waited for."""

    model = "ns/policy"
    service = None
    given = False

    def __init__(self, *workers: str) -> None:
        self.workers = workers
        self.waited: list[float] = []

    async def ready(self, until: float, show: Any = None) -> None:
        self.waited.append(until - asyncio.get_running_loop().time())
        raise NotReady("nobody came")

    async def aclose(self) -> None:
        pass


def test_no_worker_in_time(provider: StubWorker) -> None:
    nobody = Nobody()
    lm = LM("policy", ready_timeout=SOON, fallback=openai_lm(provider))
    lm.aio._sessions._new = lambda settings: Session(settings, endpoints=nobody)
    with lm:
        assert lm.chat(HI).text == "other 0"
        assert [one.text for one in lm.chat([HI, HI])] == ["other 0"] * 2
        assert [part.text for part in lm.stream_chat(HI)] == ["other"]
        assert [one.text for one in lm.submit_chat([HI, HI]).result(30)] == ["other 0"] * 2
    assert len(nobody.waited) == 4
    assert max(nobody.waited) <= SOON


def test_workers_that_went_away_are_waited_for_as_long(provider: StubWorker) -> None:
    """Not for the call's whole time, 600 seconds."""
    with workers(client_support.good) as (worker,):
        nobody = Nobody(worker.url)
        lm = LM("policy", ready_timeout=SOON, fallback=openai_lm(provider))
        lm.aio._sessions._new = lambda settings: Session(settings, endpoints=nobody)
        with lm:
            assert lm.generate("x").worker == "pod-0"
            nobody.workers = ()
            assert lm.chat(HI).text == "other 0"
            nobody.workers = (worker.url,)
            worker.stop()
            assert lm.chat(HI).text == "other 0"
        (waited,) = nobody.waited
        assert waited <= SOON


def test_the_last_error_tells_of_those_before_it(provider: StubWorker) -> None:
    provider.stop()
    with workers(full) as (worker,):
        fallback = openai_lm(provider, timeout=SOON)
        lm = falling(worker, provider, fallback=fallback)
        with lm, pytest.raises(Unreachable) as caught:
            lm.chat(HI)
        (note,) = [note for note in caught.value.__notes__ if "fallback" in note]
        assert note.startswith("it was the fallback, after Overloaded: ")


def test_a_copy_has_its_fallback(provider: StubWorker) -> None:
    with workers(full) as (worker,), falling(worker, provider) as lm:
        copied: LM = pickle.loads(pickle.dumps(lm))
        assert (
            repr(copied) == repr(lm) == f"LM('policy', endpoints=['{worker.url}'], fallback='gpt')"
        )

        async def scenario() -> str:
            async with copied.aio as aio:
                return (await aio.chat(HI)).text

        assert asyncio.run(scenario()) == "other 0"
