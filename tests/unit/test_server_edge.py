"""What every answer carries, how failures leave, and how work is bounded, in process."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworker_api import inference, tokens, wire
from tests.fake_worker import FakeWorker
from tests.server_support import call, client_for, post, state_for, stream
from tests.support import eventually


@pytest.mark.parametrize(
    ("length", "aside"),
    [pytest.param(10, False, id="short"), pytest.param(20_000, True, id="long")],
)
def test_a_long_text_is_read_beside_the_event_loop(length: int, aside: bool) -> None:
    worker = FakeWorker()
    assert post("/tokenize", {"prompt": "a" * length}, worker)["count"] == length
    assert worker.encoded_in.isdisjoint({threading.current_thread()}) == aside


def test_only_so_many_long_texts_wait() -> None:
    async def run() -> list[int]:
        gate = threading.Event()

        class Slow(FakeWorker):
            def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
                gate.wait(10)
                return super().encode(text)

        state = state_for(Slow())
        async with client_for(state) as client:
            body = {"prompt": "a" * 20_000}
            taken = [asyncio.create_task(client.post("/tokenize", json=body)) for _ in "ab"]
            limiter = state.reader.limiter
            await asyncio.to_thread(
                eventually, lambda: limiter.running + limiter.waiting == 2, interval=0.001
            )
            refused = await client.post("/tokenize", json=body)
            gate.set()
            return [(await task).status_code for task in taken] + [refused.status_code]

    assert asyncio.run(run()) == [200, 200, 429]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"prompt": "a", "max_tokens": 1}, id="whole"),
        pytest.param({"prompt": "a", "max_tokens": 1, "stream": True}, id="stream"),
        pytest.param({"prompt": ""}, id="refused"),
    ],
)
def test_every_answer_says_who_gave_it(body: dict[str, Any]) -> None:
    headers = call(lambda client: client.post("/v1/completions", json=body)).headers
    assert [headers[name] for name in wire.FINGERPRINT_HEADERS] == ["policy-0", "rev-1", "float32"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
SHAPES: dict[str, type[wire.Wire]] = {
    "/v1/completions": wire.CompletionRequest,
    "/v1/chat/completions": wire.ChatCompletionRequest,
    "/v1/embeddings": tokens.EmbeddingRequest,
    "/tokenize": tokens.TokenizeRequest,
    "/detokenize": tokens.DetokenizeRequest,
    "/inference/v1/generate": inference.TokensRequest,
}
GOOD = {
    "prompt": "a",
    "messages": [{"role": "user", "content": "a"}],
    "input": "a",
    "tokens": [1],
    "token_ids": [1],
    "sampling_params": {"max_tokens": 2},
    "max_tokens": 2,
}


@settings(max_examples=300, deadline=None)
@given(data=st.data(), path=st.sampled_from(sorted(SHAPES)))
def test_no_value_of_any_field_is_a_500(data: st.DataObject, path: str) -> None:
    shape = SHAPES[path]
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(shape.model_fields)), JSON))
    good = {name: value for name, value in GOOD.items() if name in shape.model_fields}
    # Not `json=`: httpx refuses infinity, which is one of the values to try.
    body = json.dumps(good | fields)
    headers = {"content-type": "application/json"}
    response = call(lambda client: client.post(path, content=body, headers=headers))
    assert response.status_code in {200, 400, 404}, response.text


@pytest.mark.parametrize("path", ["/v1/models", "/readyz"])
def test_nothing_is_answered_before_the_model_is_there(path: str) -> None:
    response = call(lambda client: client.get(path), ready=False)
    assert response.status_code == 503
    assert "/readyz" in response.json()["error"]["message"]
    assert call(lambda client: client.get("/healthz"), ready=False).status_code == 200


def test_a_dead_engine_is_unhealthy() -> None:
    worker = FakeWorker()
    worker.living = False
    for path in ("/healthz", "/readyz"):
        response = call(lambda client, path=path: client.get(path), worker)  # type: ignore[misc]
        assert response.status_code == 503, path


def test_an_error_in_the_middle_of_a_stream_is_its_last_event() -> None:
    worker = FakeWorker()
    worker.fail_at = 2
    first, second, error = stream("/v1/completions", {"prompt": "a", "max_tokens": 5}, worker)
    assert [len(event["choices"]) for event in (first, second)] == [1, 1]
    assert error["error"]["message"] == "the engine stumbled"
    assert worker.active == 0


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_a_bug_is_a_typed_500_without_its_text(streams: bool) -> None:
    worker = FakeWorker()
    worker.fail_at = 0
    worker.failure = RuntimeError("a secret prompt")
    body = {"prompt": ["a", "b"], "stream": streams}
    response = call(lambda client: client.post("/v1/completions", json=body), worker)
    assert response.status_code == 500
    assert "RuntimeError" in response.json()["error"]["message"]
    assert "secret" not in response.text
    assert worker.active == 0


def test_a_full_queue_is_429_with_retry_after() -> None:
    async def run() -> tuple[list[int], httpx.Response]:
        worker = FakeWorker()
        gate = asyncio.Event()
        worker.step = gate.wait
        state = state_for(worker, max_running=1, max_queued=1)
        async with client_for(state) as client:
            body = {"prompt": "a", "max_tokens": 1}
            taken = [asyncio.create_task(client.post("/v1/completions", json=body)) for _ in "ab"]
            await asyncio.to_thread(eventually, lambda: worker.active == 2, interval=0.001)
            refused = await client.post("/v1/completions", json=body)
            gate.set()
            return [(await task).status_code for task in taken], refused

    taken, refused = asyncio.run(run())
    assert taken == [200, 200]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "overloaded"


def test_metrics_count_answers_tokens_and_time() -> None:
    async def run() -> str:
        worker = FakeWorker()
        async with client_for(state_for(worker)) as client:
            body = {"prompt": "abc", "max_tokens": 4}
            await client.post("/v1/completions", json=body)
            await client.post("/v1/completions", json={**body, "stream": True})
            await client.post("/v1/completions", json={**body, "n": 0})
            await client.get("/not/a/route")
            return (await client.get("/metrics")).text

    text = asyncio.run(run())
    for line in (
        'modelworker_requests_total{code="200",route="/v1/completions"} 2.0',
        'modelworker_requests_total{code="400",route="/v1/completions"} 1.0',
        'modelworker_requests_total{code="404",route="other"} 1.0',
        'modelworker_request_duration_seconds_count{route="/v1/completions"} 3.0',
        'modelworker_time_to_first_token_seconds_count{route="/v1/completions"} 1.0',
        "modelworker_prompt_tokens_total 6.0",
        "modelworker_completion_tokens_total 8.0",
        "modelworker_requests_running 0.0",
        "modelworker_requests_waiting 0.0",
        (
            'modelworker_model_info{dtype="float32",max_model_len="512",model="policy",'
            'revision="rev-1"} 1.0'
        ),
    ):
        assert line in text.splitlines(), line
