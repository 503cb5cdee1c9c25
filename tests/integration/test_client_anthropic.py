"""LM over Anthropic's API: the real SDK against a stand-in on a loopback socket."""

import asyncio
import traceback
from typing import Any

import pytest

from modelworker import (
    AccessDenied,
    ContextTooLong,
    InvalidRequest,
    ModelNotServed,
    ModelWorkerError,
    Overloaded,
    StreamInterrupted,
    Usage,
    WorkerFailed,
)
from tests.client_support import Drop, Reply, Request, workers
from tests.provider_support import (
    EVENTS,
    HI,
    JSON,
    KEY,
    anthropic_error,
    anthropic_event,
    anthropic_events,
    anthropic_lm,
    anthropic_message,
)
from tests.support import eventually


async def good(request: Request) -> Reply:
    return Reply(anthropic_message(), headers=JSON)


def test_chat_gives_what_the_api_gives_and_none_for_the_rest() -> None:
    with workers(good) as (server,), anthropic_lm(server) as lm:
        messages = [{"role": "system", "content": "be brief"}, *HI]
        got = lm.chat(messages, max_tokens=5, temperature=0.5, top_k=3, stop=["\n", "x"])
        assert (got.texts, got.finish_reasons) == (["hello"], ["stop"])
        assert (got.token_ids, got.prompt_token_ids, got.cumulative_logprobs) == (
            None,
            None,
            [None],
        )
        assert (got.model, got.worker) == ("claude-2026-01-01", server.url)
        # The tokens that went into the API's cache are the prompt's too.
        assert got.usage == Usage(9, 3)
        assert server.seen[0].path == "/v1/messages"
        # Which header has the key is the SDK's matter, and has changed.
        assert any(KEY in value for value in server.seen[0].headers.values())
        assert server.seen[0].body == {
            "model": "claude",
            "system": "be brief",
            "messages": HI,
            "max_tokens": 5,
            "stop_sequences": ["\n", "x"],
            "temperature": 0.5,
            "top_k": 3,
        }


def test_defaults_are_not_sent() -> None:
    with workers(good) as (server,), anthropic_lm(server) as lm:
        lm.chat(HI)
        assert server.seen[0].body == {"model": "claude", "messages": HI, "max_tokens": 256}


def test_samples_are_requests_at_once() -> None:
    async def answer(request: Request) -> Reply:
        while server.most_busy < 3:  # noqa: ASYNC110 - the state polled has no event
            await asyncio.sleep(0.002)
        return Reply(anthropic_message(), headers=JSON)

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        got = lm.chat(HI, n=3)
        assert got.texts == ["hello"] * 3
        assert got.usage == Usage(27, 9)
        assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("keep", "text"), [pytest.param(False, "ab", id="cut"), pytest.param(True, "ab\n\n", id="kept")]
)
def test_the_stop_string_is_known(keep: bool, text: str) -> None:
    async def answer(request: Request) -> Reply:
        if request.body.get("stream"):
            events = anthropic_events(["a", "b"], "stop_sequence", "\n\n")
            return Reply(headers=EVENTS, parts=events)
        return Reply(anthropic_message("ab", "stop_sequence", "\n\n"), headers=JSON)

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        sample = lm.chat(HI, stop="\n\n", include_stop_str_in_output=keep).samples[0]
        assert (sample.text, sample.finish_reason, sample.stop_reason) == (text, "stop", "\n\n")
        parts = list(lm.stream_chat(HI, stop="\n\n", include_stop_str_in_output=keep))
        assert "".join(part.text for part in parts) == text
        assert (parts[-1].finish_reason, parts[-1].stop_reason) == ("stop", "\n\n")


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        pytest.param(False, "without its last event", id="ended"),
        pytest.param(True, "the connection to provider 'anthropic' at .* broke", id="cut"),
    ],
)
def test_a_stream_that_breaks_is_interrupted(cut: bool, message: str) -> None:
    async def answer(request: Request) -> Reply:
        return Reply(headers=EVENTS, parts=anthropic_events(["a", "b"], ended=False), cut=cut)

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        with pytest.raises(StreamInterrupted, match=message) as caught:
            list(lm.stream_chat(HI))
        assert (caught.value.text, len(server.seen)) == ("ab", 1)


def test_an_error_inside_a_stream() -> None:
    async def answer(request: Request) -> Reply:
        async def parts() -> Any:
            async for part in anthropic_events(["a"], ended=False):
                yield part
            error = {"type": "overloaded_error", "message": "too many"}
            yield anthropic_event({"type": "error", "error": error})

        return Reply(headers=EVENTS, parts=parts())

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        with pytest.raises(StreamInterrupted, match="over its limit: too many") as caught:
            list(lm.stream_chat(HI))
        assert isinstance(caught.value.__cause__, Overloaded)
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        pytest.param(
            anthropic_error(401, "authentication_error", f"invalid x-api-key {KEY}"),
            AccessDenied,
            r"does not accept the key: invalid x-api-key \*\*\*;",
            id="401",
        ),
        pytest.param(anthropic_error(403, "permission_error", "no"), AccessDenied, "no", id="403"),
        pytest.param(
            anthropic_error(404, "not_found_error", "model: claude"),
            ModelNotServed,
            "model: claude",
            id="404",
        ),
        pytest.param(
            anthropic_error(400, "invalid_request_error", "prompt is too long: 9 > 5"),
            ContextTooLong,
            "too long",
            id="context",
        ),
        pytest.param(
            anthropic_error(400, "invalid_request_error", "temperature is gone"),
            InvalidRequest,
            "temperature is gone",
            id="400",
        ),
        pytest.param(anthropic_error(500, "api_error", "oh"), WorkerFailed, "oh", id="500"),
        pytest.param(
            anthropic_error(529, "overloaded_error", "full", {"retry-after": "1000"}),
            Overloaded,
            "full",
            id="529",
        ),
        pytest.param(Reply({"content": 3}, 200, JSON), WorkerFailed, "is none", id="shape"),
    ],
)
def test_errors_are_ours_with_their_cause(
    reply: Reply, kind: type[ModelWorkerError], message: str
) -> None:
    async def answer(request: Request) -> Reply:
        return reply

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        with pytest.raises(kind, match=message) as caught:
            lm.chat(HI, n=2)
        assert type(caught.value) is kind
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__cause__ is not None


def test_what_passes_is_tried_again() -> None:
    async def answer(request: Request) -> Reply:
        if len(server.seen) == 1:
            raise Drop
        if len(server.seen) == 2:
            return anthropic_error(529, "overloaded_error", "full")
        return await good(request)

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        assert lm.chat(HI).text == "hello"
        assert len(server.seen) == 3


def test_closing_a_stream_ends_the_request() -> None:
    async def answer(request: Request) -> Reply:
        async def forever() -> Any:
            async for part in anthropic_events(["a"], ended=False):
                yield part
            await asyncio.sleep(600)

        return Reply(headers=EVENTS, parts=forever())

    with workers(answer) as (server,), anthropic_lm(server) as lm:
        stream = lm.stream_chat(HI)
        assert next(stream).text == "a"
        stream.close()
        eventually(lambda: server.gone, until=lambda gone: gone == 1)


def test_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with workers(good) as (server,), anthropic_lm(server, api_key=None) as lm:
        with pytest.raises(AccessDenied, match="set ANTHROPIC_API_KEY, or pass api_key"):
            lm.chat(HI)
        assert server.seen == []
