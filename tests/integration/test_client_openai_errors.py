"""What an OpenAI-compatible server answers instead of an answer: errors of ours, and retries."""

import traceback

import pytest

from modelworker import (
    AccessDenied,
    ContextTooLong,
    InvalidRequest,
    ModelNotServed,
    ModelWorkerError,
    Overloaded,
    Unavailable,
    Unsupported,
    WorkerFailed,
)
from tests.client_support import Drop, Reply, Request, workers
from tests.provider_support import HI, JSON, KEY, openai_chat, openai_error, openai_lm


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        pytest.param(
            openai_error(401, f"Incorrect API key provided: {KEY}"),
            AccessDenied,
            r"does not accept the key: Incorrect API key provided: \*\*\*",
            id="401",
        ),
        pytest.param(openai_error(403, "no"), AccessDenied, "refused: no", id="403"),
        pytest.param(
            openai_error(429, "pay", code="insufficient_quota"),
            AccessDenied,
            "paid first: pay",
            id="quota",
        ),
        pytest.param(
            openai_error(400, "too much", code="context_length_exceeded"),
            ContextTooLong,
            "too much",
            id="context-by-code",
        ),
        pytest.param(
            openai_error(400, "This model's maximum context length is 5"),
            ContextTooLong,
            "maximum context length",
            id="context-by-words",
        ),
        pytest.param(
            openai_error(404, "no gpt", code="model_not_found"),
            ModelNotServed,
            "no gpt",
            id="model-openai",
        ),
        pytest.param(
            openai_error(404, "no gpt", type="NotFoundError"),
            ModelNotServed,
            "no gpt",
            id="model-vllm",
        ),
        pytest.param(
            Reply({"detail": "Not Found"}, 404, JSON), Unsupported, "check base_url", id="route"
        ),
        pytest.param(openai_error(422, "bad n"), InvalidRequest, "bad n", id="422"),
        pytest.param(openai_error(500, "oh"), WorkerFailed, "HTTP 500: oh", id="500"),
        pytest.param(openai_error(501, "oh"), Unsupported, "oh", id="501"),
        pytest.param(Reply("<html>", 200, JSON), WorkerFailed, "does not fit", id="text"),
        pytest.param(
            Reply({"choices": None}, 200, JSON), WorkerFailed, "does not fit", id="no-choices"
        ),
    ],
)
def test_errors_are_ours_with_their_cause(
    reply: Reply, kind: type[ModelWorkerError], message: str
) -> None:
    async def answer(request: Request) -> Reply:
        return reply

    with workers(answer) as (server,), openai_lm(server) as lm:
        with pytest.raises(kind, match=message) as caught:
            lm.chat(HI)
        assert type(caught.value) is kind
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert (caught.value.worker or "").startswith(server.url)
        assert caught.value.__cause__ is not None
        assert len(server.seen) == 1


def test_a_completion_of_a_chat_model_says_so() -> None:
    async def answer(request: Request) -> Reply:
        return openai_error(404, "This is a chat model", type="invalid_request_error")

    with (
        workers(answer) as (server,),
        openai_lm(server) as lm,
        pytest.raises(Unsupported, match="This is a chat model; use chat"),
    ):
        lm.generate("hi")


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(openai_error(429, "slow", {"retry-after": "0.01"}), id="429"),
        pytest.param(openai_error(503, "down"), id="503"),
        pytest.param(openai_error(408, "slow"), id="408"),
        pytest.param(openai_error(500, "now", {"x-should-retry": "true"}), id="500"),
        pytest.param(None, id="dropped"),
    ],
)
def test_what_passes_is_tried_again(first: Reply | None) -> None:
    async def answer(request: Request) -> Reply:
        if len(server.seen) > 2:
            return openai_chat(request)
        if first is None:
            raise Drop
        return first

    with workers(answer) as (server,), openai_lm(server) as lm:
        assert lm.chat(HI).text == "hello 0"
        assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [pytest.param(429, Overloaded, id="429"), pytest.param(503, Unavailable, id="503")],
)
def test_a_pause_that_is_longer_than_the_calls_time_ends_it(
    status: int, kind: type[ModelWorkerError]
) -> None:
    async def answer(request: Request) -> Reply:
        return openai_error(status, "later", {"retry-after": "1000"})

    with workers(answer) as (server,), openai_lm(server) as lm:
        with pytest.raises(kind, match="later") as caught:
            lm.chat(HI)
        assert caught.value.retry_after == 1000
        assert any("gave up after 1 attempts" in note for note in caught.value.__notes__)
