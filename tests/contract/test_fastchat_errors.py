"""Whatever is wrong: status 200, and in the body a code and what to do, as FastChat reads them."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from modelworker_api import wire
from modelworker_server.errors import OutOfMemory, Unavailable
from modelworker_server.lifecycle import Lifecycle
from tests.fake_worker import FakeWorker
from tests.fastchat_support import (
    COUNT,
    DETAILS,
    EMBEDDINGS,
    GENERATE,
    STATUS,
    STREAM,
    TEMPLATE,
    ask,
    failed,
    frames,
)
from tests.server_support import Running, call, running_server
from tests.support import eventually

TYPE, MODEL, RANGE, CONTEXT = 40001, 40301, 40302, 40303
BUSY, INTERNAL, MEMORY = 42903, 50001, 50002


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(FakeWorker(), max_body_bytes=200_000) as running:
        yield running


def generation(field: str, value: Any, code: int, *, id: str, **more: Any) -> Any:  # noqa: A002
    return pytest.param({"prompt": "hi", field: value, **more}, field, code, id=id)


BAD_FIELDS = [
    generation("prompt", None, TYPE, id="prompt-null"),
    generation("prompt", 3, TYPE, id="prompt-number"),
    generation("prompt", ["a"], TYPE, id="prompt-list"),
    generation("prompt", "", TYPE, id="prompt-empty"),
    generation("prompt", "x" * 512, CONTEXT, id="prompt-without-room"),
    generation("prompt", "x" * 100_000, CONTEXT, id="prompt-long"),
    generation("model", "gpt-4", MODEL, id="model-unknown"),
    generation("model", "", MODEL, id="model-empty"),
    generation("model", 3, TYPE, id="model-number"),
    generation("temperature", -1, RANGE, id="temperature-negative"),
    generation("temperature", 1e308, RANGE, id="temperature-huge"),
    generation("temperature", "hot", TYPE, id="temperature-text"),
    generation("temperature", [], TYPE, id="temperature-list"),
    generation("top_p", -0.1, RANGE, id="top-p-negative"),
    generation("top_p", 1.01, RANGE, id="top-p-above-1"),
    generation("top_p", {}, TYPE, id="top-p-object"),
    generation("top_k", -2, RANGE, id="top-k-minus-2"),
    generation("top_k", 1.5, TYPE, id="top-k-fraction"),
    generation("repetition_penalty", 0, RANGE, id="repetition-penalty-0"),
    generation("repetition_penalty", "x", TYPE, id="repetition-penalty-text"),
    generation("presence_penalty", 2.1, RANGE, id="presence-penalty-above-2"),
    generation("presence_penalty", "x", TYPE, id="presence-penalty-text"),
    generation("frequency_penalty", -2.1, RANGE, id="frequency-penalty-below-minus-2"),
    generation("frequency_penalty", [1], TYPE, id="frequency-penalty-list"),
    generation("max_new_tokens", 0, RANGE, id="length-0"),
    generation("max_new_tokens", -(10**300), RANGE, id="length-300-digits"),
    generation("max_new_tokens", 1.5, TYPE, id="length-fraction"),
    generation("max_new_tokens", "many", TYPE, id="length-text"),
    generation("stop", ["a", ""], RANGE, id="stop-with-empty"),
    generation("stop", ["x"] * 17, RANGE, id="stop-17"),
    generation("stop", "x" * 2000, RANGE, id="stop-long"),
    generation("stop", [1], TYPE, id="stop-number"),
    generation("stop", {"a": 1}, TYPE, id="stop-object"),
    generation("stop_token_ids", [256], RANGE, id="stop-id-outside"),
    generation("stop_token_ids", [-1], RANGE, id="stop-id-negative"),
    generation("stop_token_ids", [None], TYPE, id="stop-id-null"),
    generation("stop_token_ids", "1", TYPE, id="stop-ids-text"),
    generation("echo", "perhaps", TYPE, id="echo-text"),
    generation("logprobs", 21, RANGE, id="logprobs-21", echo=False),
    generation("logprobs", -1, RANGE, id="logprobs-negative", echo=False),
    generation("logprobs", 1, RANGE, id="logprobs-with-echo"),
    generation("logprobs", 1, RANGE, id="logprobs-in-lists", echo=False, n=1),
    generation("logprobs", "x", TYPE, id="logprobs-text"),
    generation("use_beam_search", True, RANGE, id="beam-search"),
    generation("use_beam_search", 7, TYPE, id="beam-search-number"),
    generation("best_of", 2, RANGE, id="best-of"),
    generation("images", ["x"], RANGE, id="images"),
    generation("images", "x", TYPE, id="images-text"),
    generation("n", 0, RANGE, id="n-0"),
    generation("n", 129, RANGE, id="n-129"),
    generation("n", 10**300, RANGE, id="n-300-digits"),
    generation("n", [1], TYPE, id="n-list"),
    generation("include_stop_str_in_output", "x", TYPE, id="keep-stop-text"),
]


@pytest.mark.parametrize(("body", "field", "code"), BAD_FIELDS)
def test_a_bad_field_is_named(server: Running, body: Any, field: str, code: int) -> None:
    answer = ask(server.url, GENERATE, body)
    assert failed(answer) == code, answer
    assert field in answer["text"]
    assert frames(server.url, body) == [answer]


BAD_BODIES = [
    pytest.param(b"", "application/json", id="empty"),
    pytest.param(b"hello", "application/json", id="no-json"),
    pytest.param(b"null", "application/json", id="null"),
    pytest.param(b"[]", "application/json", id="list"),
    pytest.param(b'"text"', "application/json", id="text"),
    pytest.param(b"{}", "application/json", id="nothing-in-it"),
    pytest.param(b'{"prompt": "a", "temperature": NaN}', "application/json", id="nan"),
    pytest.param(b'{"prompt": "a", "top_p": Infinity}', "application/json", id="infinity"),
    pytest.param(b'{"prompt": 1e400, "input": 1e400}', "application/json", id="beyond-float"),
    pytest.param(b'{"prompt": "\\ud800"}', "application/json", id="lone-surrogate"),
    pytest.param(b'{"prompt": "\xff"}', "application/json", id="no-utf-8"),
    pytest.param(b'{"prompt": ' + b"[" * 50_000, "application/json", id="deep"),
    pytest.param(b'{"prompt": "a"}', "text/plain", id="other-type"),
]


@pytest.mark.parametrize("path", [GENERATE, STREAM, EMBEDDINGS, COUNT])
@pytest.mark.parametrize(("content", "kind"), BAD_BODIES)
def test_a_bad_body_is_told_of(server: Running, path: str, content: bytes, kind: str) -> None:
    response = httpx.post(
        server.url + path, content=content, headers={"content-type": kind}, timeout=10
    )
    assert response.status_code == 200
    assert failed(json.loads(response.content.rstrip(b"\0"))) == TYPE
    assert response.content.endswith(b"\0") is (path == STREAM)


@pytest.mark.parametrize("path", [TEMPLATE, DETAILS])
@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"hello", TYPE, id="no-json"),
        pytest.param(b'{"model": 3}', TYPE, id="model-number"),
        pytest.param(b'{"model": "x"}', MODEL, id="model-unknown"),
    ],
)
def test_an_optional_body_is_read_as_well(
    server: Running, path: str, content: bytes, code: int
) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(server.url + path, content=content, headers=headers)
    assert response.status_code == 200
    assert failed(response.json()) == code


def test_a_body_over_the_limit_is_refused(server: Running) -> None:
    answer = ask(server.url, GENERATE, {"prompt": "x" * 200_001})
    assert failed(answer) == RANGE
    assert "200000" in answer["text"]


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        pytest.param({"input": []}, "input", TYPE, id="empty"),
        pytest.param({"input": [""]}, "input", TYPE, id="empty-text"),
        pytest.param({"input": [3]}, "input", TYPE, id="number"),
        pytest.param({"input": None}, "input", TYPE, id="null"),
        pytest.param({"input": ["x" * 513]}, "input", CONTEXT, id="long"),
        pytest.param({"input": ["x"], "model": "x"}, "model", MODEL, id="model"),
        pytest.param(
            {"input": ["x"], "encoding_format": "f"}, "encoding_format", TYPE, id="format"
        ),
    ],
)
def test_bad_embedding_requests(server: Running, body: Any, field: str, code: int) -> None:
    answer = ask(server.url, EMBEDDINGS, body)
    assert failed(answer) == code, answer
    assert field in answer["text"]


# --- the state of the worker -----------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(OutOfMemory("this request alone is too large"), MEMORY, id="memory"),
        pytest.param(Unavailable("the engine died; this worker restarts"), INTERNAL, id="dead"),
        pytest.param(RuntimeError("secret"), INTERNAL, id="bug"),
    ],
)
def test_a_failure_of_the_engine(failure: Exception, code: int) -> None:
    worker = FakeWorker()
    worker.fail_at, worker.failure = 1, failure
    with running_server(worker) as running:
        answer = ask(running.url, GENERATE, {"prompt": "a"})
        assert failed(answer) == code
        assert "secret" not in answer["text"]
        begun, last = frames(running.url, {"prompt": "a"})
        assert begun["error_code"] == 0
        assert last == answer
        eventually(lambda: running.state.limiter.running == 0, what="free place", interval=0.01)


NEEDS_READY = [
    (GENERATE, {"prompt": "a"}),
    (STREAM, {"prompt": "a"}),
    (EMBEDDINGS, {"input": ["a"]}),
    (COUNT, {"prompt": "a"}),
    (TEMPLATE, None),
    (DETAILS, None),
]


def loading(_: Lifecycle) -> None:
    """A worker begins so."""


def draining(lifecycle: Lifecycle) -> None:
    lifecycle.loaded()
    lifecycle.drain()


def broken(lifecycle: Lifecycle) -> None:
    lifecycle.fail(wire.FailureReason.LOAD_FAILED, "no such file")


@pytest.mark.parametrize("state", [loading, draining, broken])
def test_a_worker_that_takes_no_work_says_why_and_names_no_model(state: Any) -> None:
    with running_server(FakeWorker(), ready=False) as running:
        state(running.state.lifecycle)
        for path, body in NEEDS_READY:
            response = httpx.post(running.url + path, json=body)
            assert response.status_code == 200
            assert failed(json.loads(response.content.rstrip(b"\0"))) == INTERNAL
        assert ask(running.url, STATUS) == {"model_names": [], "speed": 1, "queue_length": 0}


def test_over_the_limit_a_request_is_refused_at_once_and_the_others_are_answered() -> None:
    worker = FakeWorker()
    worker.step = lambda: asyncio.sleep(0.01)
    with (
        running_server(worker, max_running=2, max_queued=2) as running,
        ThreadPoolExecutor(12) as pool,
    ):
        body = {"prompt": "a", "max_new_tokens": 30}
        answers = [*pool.map(lambda number: ask_either(running.url, body, number % 2), range(12))]
        codes = [answer["error_code"] for answer in answers]
        assert set(codes) == {0, BUSY}
        assert all(failed(answer) == BUSY for answer in answers if answer["error_code"])
        assert all(answer["finish_reason"] for answer in answers if not answer["error_code"])
        assert running.state.limiter.running == running.state.limiter.waiting == 0


def test_what_is_counted_is_what_is_meant() -> None:
    with running_server(FakeWorker()) as running:
        ask(running.url, GENERATE, {"prompt": "a", "model": "x"})
        ask(running.url, GENERATE, {"prompt": "a", "top_p": 2})
        frames(running.url, {"prompt": ""})
        ask(running.url, GENERATE, {"prompt": "a"})
        meant = [(404, GENERATE), (400, GENERATE), (400, STREAM), (200, GENERATE)]
        lines = [f'{{code="{code}",route="{route}"}} 1.0' for code, route in meant]
        # They are counted behind the last byte.
        eventually(
            lambda: running.state.metrics.exposition().decode(),
            until=lambda text: all(line in text for line in lines),
            timeout=5,
            interval=0.01,
            what="one of each",
        )


def ask_either(url: str, body: Any, streamed: int) -> Any:
    return frames(url, body)[-1] if streamed else ask(url, GENERATE, body)


def test_a_refusal_says_when_to_come_again() -> None:
    response = call(
        lambda client: client.post(GENERATE, json={"prompt": "a"}), max_running=0, max_queued=0
    )
    assert response.json()["error_code"] == BUSY
    assert int(response.headers["retry-after"]) >= 1
