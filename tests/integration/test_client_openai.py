"""LM over an OpenAI-compatible server: the real SDK against a stand-in on a loopback socket."""

import asyncio
import pickle
import threading
from typing import Any

import pytest

from modelworker import (
    LM,
    AccessDenied,
    CallTimeout,
    StreamInterrupted,
    Unreachable,
    Usage,
)
from tests.client_support import Reply, Request, hang, workers
from tests.provider_support import (
    EVENTS,
    HI,
    JSON,
    KEY,
    openai_chat,
    openai_error,
    openai_events,
    openai_lm,
)
from tests.support import eventually


async def good(request: Request) -> Reply:
    return openai_chat(request)


def test_chat_gives_what_the_server_gives_and_none_for_the_rest() -> None:
    with workers(good) as (server,), openai_lm(server) as lm:
        got = lm.chat(HI, n=2, max_tokens=5, stop="\n", seed=3, temperature=0.5)
        assert got.texts == ["hello 0", "hello 1"]
        assert got.finish_reasons == ["stop", "stop"]
        assert (got.token_ids, got.prompt_token_ids, got.cumulative_logprobs) == (
            None,
            None,
            [None, None],
        )
        assert (got.model, got.worker) == ("gpt-2026-01-01", f"{server.url}/v1")
        assert (got.revision, got.dtype, got.usage) == (None, None, Usage(9, 4))
        assert (server.seen[0].path, server.seen[0].headers["authorization"]) == (
            "/v1/chat/completions",
            f"Bearer {KEY}",
        )
        assert server.seen[0].body == {
            "model": "gpt",
            "messages": HI,
            "n": 2,
            "max_tokens": 5,
            "temperature": 0.5,
            "top_p": 1.0,
            "stop": ["\n"],
            "seed": 3,
        }


def test_log_probabilities_come_if_they_are_asked_for() -> None:
    async def answer(request: Request) -> Reply:
        token = {"token": "a", "logprob": -0.5, "bytes": None}
        tops = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]
        return openai_chat(request, logprobs={"content": [{**token, "top_logprobs": tops}]})

    with workers(answer) as (server,), openai_lm(server) as lm:
        sample = lm.chat(HI, logprobs=2).samples[0]
        assert (sample.logprobs, sample.token_ids) == ((-0.5,), None)
        assert (sample.cumulative_logprob, sample.mean_logprob) == (-0.5, -0.5)
        assert sample.top_logprobs == ({"a": -0.5, "b": -1.5},)
        assert server.seen[0].body["logprobs"] is True
        assert server.seen[0].body["top_logprobs"] == 2


def test_token_ids_of_a_server_that_gives_them() -> None:
    async def answer(request: Request) -> Reply:
        return openai_chat(request, token_ids=[5, 6], stop_reason="\n")

    with workers(answer) as (server,), openai_lm(server) as lm:
        sample = lm.chat(HI, extra={"return_token_ids": True, "top_k": 5}).samples[0]
        assert (sample.token_ids, sample.stop_reason) == ((5, 6), "\n")
        assert server.seen[0].body["return_token_ids"] is True
        assert server.seen[0].body["top_k"] == 5


def test_generate_takes_the_legacy_completions() -> None:
    async def answer(request: Request) -> Reply:
        choice = {"index": 0, "text": " there", "finish_reason": "length", "logprobs": None}
        body = {"id": "1", "object": "text_completion", "created": 1, "model": "m"}
        return Reply({**body, "choices": [choice]}, headers=JSON)

    with workers(answer) as (server,), openai_lm(server) as lm:
        got = lm.generate([[1, 2]], max_tokens=3)[0]
        assert (got.text, got.finish_reasons) == (" there", ["length"])
        assert got.usage == Usage(None, None)
        assert got.usage.total_tokens is None
        assert server.seen[0].path == "/v1/completions"
        assert server.seen[0].body["prompt"] == [1, 2]


def test_lists_and_batches_keep_their_order() -> None:
    async def answer(request: Request) -> Reply:
        said = request.body["messages"][0]["content"]
        if said == "bad":
            return openai_error(400, "no")
        return openai_chat(request, text=said)

    def asked(*words: str) -> list[list[dict[str, Any]]]:
        return [[{"role": "user", "content": word}] for word in words]

    with workers(answer) as (server,), openai_lm(server, max_in_flight=2) as lm:
        words = [str(number) for number in range(9)]
        assert [one.text for one in lm.chat(asked(*words))] == [f"{word} 0" for word in words]
        assert server.most_busy <= 2
        mixed = lm.chat(asked("a", "bad", "c"), on_error="return")
        assert [type(one).__name__ for one in mixed] == [
            "Generation",
            "InvalidRequest",
            "Generation",
        ]
        batch = lm.submit_chat(asked("a", "bad", "c"), on_error="return")
        assert [str(getattr(one, "text", "failed")) for one in batch.result(20)] == [
            "a 0",
            "failed",
            "c 0",
        ]
        assert sorted(batch.errors) == [1]


def test_stream() -> None:
    async def answer(request: Request) -> Reply:
        return Reply(
            headers=EVENTS,
            parts=openai_events(
                {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
                {"index": 0, "delta": {"content": "a"}, "finish_reason": None},
                {"index": 0, "delta": {"content": "b"}, "finish_reason": None},
                {"index": 0, "delta": {}, "finish_reason": "stop"},
            ),
        )

    with workers(answer) as (server,), openai_lm(server) as lm:
        parts = list(lm.stream_chat(HI))
        assert [part.text for part in parts] == ["a", "b", ""]
        assert [part.token_ids for part in parts] == [None, None, ()]
        assert parts[-1].finish_reason == "stop"
        assert server.seen[0].body["stream"] is True


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        pytest.param(False, "without its last event", id="ended"),
        pytest.param(True, "the connection to provider 'openai' at .* broke", id="cut"),
    ],
)
def test_a_stream_that_breaks_is_interrupted_and_not_repeated(cut: bool, message: str) -> None:
    async def answer(request: Request) -> Reply:
        first = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
        return Reply(headers=EVENTS, parts=openai_events(first, done=False), cut=cut)

    with workers(answer) as (server,), openai_lm(server) as lm:
        with pytest.raises(StreamInterrupted, match=message) as caught:
            list(lm.stream_chat(HI))
        assert (caught.value.text, caught.value.token_ids) == ("a", ())
        assert len(server.seen) == 1


def test_no_connection_and_no_answer() -> None:
    with workers(hang) as (server,):
        with openai_lm(server, timeout=0.3) as lm, pytest.raises(CallTimeout):
            lm.chat(HI)
        eventually(lambda: server.gone, until=lambda gone: gone == 1)
        server.stop()
        with openai_lm(server, timeout=0.3) as lm, pytest.raises(Unreachable):
            lm.chat(HI)


def test_closing_a_stream_and_cancelling_end_the_request() -> None:
    async def first_only(request: Request) -> Reply:
        async def forever() -> Any:
            async for part in openai_events(
                {"index": 0, "delta": {"content": "a"}, "finish_reason": None}, done=False
            ):
                yield part
            await asyncio.sleep(600)

        if not request.body.get("stream"):
            await asyncio.sleep(600)
        return Reply(headers=EVENTS, parts=forever())

    with workers(first_only) as (server,), openai_lm(server) as lm:
        stream = lm.stream_chat(HI)
        assert next(stream).text == "a"
        stream.close()
        eventually(lambda: server.gone, until=lambda gone: gone == 1)
        batch = lm.submit_chat([HI, HI])
        eventually(lambda: server.busy, until=lambda busy: busy == 2)
        batch.cancel()
        eventually(lambda: server.gone, until=lambda gone: gone == 3)
        assert [type(error).__name__ for error in batch.errors.values()] == ["Cancelled"] * 2
        eventually(lm.in_flight, until=lambda calls: calls == {})


def test_any_loop_any_thread_and_a_copy() -> None:
    with workers(good) as (server,), openai_lm(server) as lm:
        assert lm.chat(HI).text == "hello 0"
        copied: LM = pickle.loads(pickle.dumps(lm))
        texts: list[str] = []

        def elsewhere() -> None:
            texts.append(lm.chat(HI).text)
            texts.append(asyncio.run(_once(copied)).text)
            texts.append(asyncio.run(_once(copied)).text)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(30)
        assert texts == ["hello 0"] * 3
        assert lm.workers() == (f"{server.url}/v1",)


async def _once(lm: LM) -> Any:
    async with lm.aio as aio:
        return await aio.chat(HI)


def test_the_sdks_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with workers(good) as (server,):
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with LM("gpt", provider="openai") as lm:
            with pytest.raises(AccessDenied, match="set OPENAI_API_KEY, or pass api_key"):
                lm.chat(HI)
            monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
            assert lm.chat(HI).worker == f"{server.url}/v1"
        assert server.seen[0].headers["authorization"] == "Bearer sk-of-the-environment"
        # OpenAI's own models refuse what they do not know even where it changes nothing.
        assert server.seen[0].body == {
            "model": "gpt",
            "messages": HI,
            "n": 1,
            "max_completion_tokens": 256,
        }
