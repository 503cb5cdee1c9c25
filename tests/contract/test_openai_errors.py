"""Bad requests over real sockets: each is refused with a reason, as the OpenAI SDK reads it."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from modelworker_api import wire
from tests.fake_worker import FakeWorker
from tests.server_support import Running, running_server

COMPLETION = "/v1/completions"
CHAT = "/v1/chat/completions"
EMBEDDING = "/v1/embeddings"
GENERATE = "/inference/v1/generate"
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(FakeWorker(), max_body_bytes=200_000) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def bad(path: str, body: Any, param: str | None, status: int = 400, *, id: str) -> Any:  # noqa: A002
    return pytest.param(path, body, status, param, id=id)


def completion(field: str, value: Any, *, id: str, **more: Any) -> Any:  # noqa: A002
    return bad(COMPLETION, {"prompt": "hi", field: value, **more}, field, id=id)


def chat(field: str, value: Any, *, id: str, **more: Any) -> Any:  # noqa: A002
    return bad(CHAT, {"messages": USER, field: value, **more}, field, id=id)


def generate(field: str, value: Any, status: int = 400, *, id: str) -> Any:  # noqa: A002
    body = {"token_ids": [1], "sampling_params": {}, field: value}
    return bad(GENERATE, body, field, status, id=id)


def sampling(field: str, value: Any, *, id: str, **more: Any) -> Any:  # noqa: A002
    body = {"token_ids": [1], "sampling_params": {field: value}, **more}
    return bad(GENERATE, body, field, id=id)


BAD_FIELDS = [
    completion("temperature", -1, id="temperature-negative"),
    completion("temperature", 1e308, id="temperature-huge"),
    completion("temperature", "hot", id="temperature-text"),
    completion("top_p", 0, id="top-p-0"),
    completion("top_p", 1.01, id="top-p-above-1"),
    completion("top_k", 0, id="top-k-0"),
    completion("top_k", -2, id="top-k-minus-2"),
    completion("min_p", -0.1, id="min-p-negative"),
    completion("min_p", 1.5, id="min-p-above-1"),
    completion("repetition_penalty", 0, id="repetition-penalty-0"),
    completion("repetition_penalty", -1, id="repetition-penalty-negative"),
    completion("n", 0, id="n-0"),
    completion("n", 129, id="n-129"),
    completion("n", 10**300, id="n-300-digits"),
    completion("n", [1], id="n-list"),
    completion("max_tokens", 0, id="max-tokens-0"),
    completion("max_tokens", -5, id="max-tokens-negative"),
    completion("max_tokens", 1.5, id="max-tokens-fraction"),
    completion("stop", "", id="stop-empty"),
    completion("stop", ["a", ""], id="stop-with-empty"),
    completion("stop", ["x"] * 17, id="stop-17"),
    completion("stop", [1], id="stop-number"),
    completion("stop", {"a": 1}, id="stop-object"),
    completion("stop", "x" * 2000, id="stop-long"),
    completion("stop_token_ids", [256], id="stop-id-outside"),
    completion("stop_token_ids", [-1], id="stop-id-negative"),
    completion("stop_token_ids", "1", id="stop-ids-text"),
    completion("seed", -1, id="seed-negative"),
    completion("seed", 2**63, id="seed-too-large"),
    completion("logprobs", -1, id="logprobs-negative"),
    completion("logprobs", 21, id="logprobs-21"),
    completion("max_tokens", -1, echo=True, id="echo-of-minus-1"),
    completion("max_tokens", 0, prompt_logprobs=1, id="max-tokens-0-without-echo"),
    completion("echo", "yes please", id="echo-text"),
    completion("logprobs", 21, echo=True, id="echo-with-21"),
    completion("logprobs", 20, echo=True, prompt="a" * 450, n=128, id="echo-too-much"),
    completion("logit_bias", {"50256": -100}, id="logit-bias-outside"),
    completion("logit_bias", {"-1": 1}, id="logit-bias-negative-id"),
    completion("logit_bias", {"a": 1}, id="logit-bias-of-text"),
    completion("logit_bias", {"7": 101}, id="logit-bias-101"),
    completion("logit_bias", [7], id="logit-bias-list"),
    completion("response_format", {"type": "json_object"}, id="json-mode"),
    completion("best_of", 3, n=2, id="best-of"),
    completion("presence_penalty", 2.5, id="presence-penalty-2.5"),
    completion("presence_penalty", "much", id="presence-penalty-text"),
    completion("frequency_penalty", -2.5, id="frequency-penalty-minus-2.5"),
    completion("guided_regex", "(a+)+$", id="guided-regex"),
    completion("structured_outputs", {"json": {}}, id="structured-outputs"),
    completion("suffix", "end", id="suffix"),
    completion("prompt_logprobs", -1, id="prompt-logprobs-negative"),
    completion("prompt_logprobs", 21, id="prompt-logprobs-21"),
    completion("prompt_logprobs", 1.5, id="prompt-logprobs-fraction"),
    completion("prompt_logprobs", "all", id="prompt-logprobs-text"),
    completion("prompt_logprobs", 10**300, id="prompt-logprobs-300-digits"),
    completion("prompt_logprobs", 0, stream=True, id="prompt-logprobs-in-a-stream"),
    completion(
        "prompt_logprobs", 20, prompt=["a" * 500] * 100, max_tokens=1, id="prompt-logprobs-too-much"
    ),
    completion("truncate_prompt_tokens", 5, id="truncate-prompt"),
    completion("use_beam_search", True, id="beam-search"),
    completion("min_tokens", 3, id="min-tokens"),
    completion("stream_options", {"include_usage": True}, id="options-without-stream"),
    completion("stream_options", {"include_usage": 1}, stream=True, id="usage-number"),
    completion("stream_options", [], stream=True, id="options-list"),
    completion("prompt", "", id="prompt-empty"),
    completion("prompt", [], id="prompt-no-entry"),
    completion("prompt", ["a", ""], id="prompt-with-empty"),
    completion("prompt", [[]], id="prompt-empty-ids"),
    completion("prompt", None, id="prompt-null"),
    completion("prompt", 7, id="prompt-number"),
    completion("prompt", ["a", 1], id="prompt-mixed"),
    completion("prompt", [[1], ["a"]], id="prompt-mixed-lists"),
    completion("prompt", [256], id="prompt-id-outside"),
    completion("prompt", [10**30], id="prompt-id-huge"),
    completion("prompt", ["a"] * 2049, id="prompt-2049"),
    completion("prompt", "a" * 513, id="prompt-too-long"),
    completion("prompt", "a" * 512, id="prompt-fills-the-context"),
    bad(COMPLETION, {"prompt": "a", "max_tokens": 10**9}, "prompt", id="answer-too-long"),
    bad(COMPLETION, {}, "prompt", id="prompt-missing"),
    bad(COMPLETION, {"prompt": "a", "model": "gpt-4"}, "model", 404, id="model-not-served"),
    bad(COMPLETION, {"prompt": "a", "model": ""}, "model", 404, id="model-empty"),
    chat("messages", [], id="messages-empty"),
    chat("messages", None, id="messages-null"),
    chat("messages", "hi", id="messages-text"),
    chat("messages", [{"content": "x"}], id="message-without-role"),
    chat("messages", [{"role": "user"}], id="message-without-content"),
    chat("messages", [{"role": "user", "content": 3}], id="content-number"),
    chat("messages", [{"role": "user", "content": [{"text": "x"}]}], id="part-without-type"),
    chat(
        "messages",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
        id="image",
    ),
    chat("messages", [{**USER[0], "tool_calls": [{}]}], id="message-with-tool-calls"),
    chat("messages", [{"role": "u", "content": "x"}] * 4097, id="messages-4097"),
    chat("messages", [{"role": "user", "content": "x" * 600}], id="conversation-too-long"),
    chat("prompt_logprobs", -1, id="chat-prompt-logprobs-negative"),
    chat("prompt_logprobs", 1, stream=True, id="chat-prompt-logprobs-in-a-stream"),
    chat("echo", True, id="chat-echo"),
    chat("max_tokens", 0, id="chat-max-tokens-0"),
    chat("tools", [{"type": "function"}], id="tools"),
    chat("tool_choice", "required", id="tool-choice"),
    chat("top_logprobs", 3, id="top-logprobs-alone"),
    chat("max_tokens", 3, max_completion_tokens=4, id="two-limits"),
    chat("reasoning_effort", "high", id="reasoning-effort"),
    chat("modalities", ["audio"], id="audio"),
    bad(CHAT, {"messages": USER, "logprobs": True, "top_logprobs": 21}, "logprobs", id="top-21"),
    bad(
        CHAT,
        {"messages": USER, "continue_final_message": True},
        "messages",
        id="continue-a-user",
    ),
    bad(
        CHAT,
        {
            "messages": [{"role": "assistant", "content": "x"}],
            "continue_final_message": True,
            "add_generation_prompt": True,
        },
        "add_generation_prompt",
        id="continue-and-begin",
    ),
    bad(EMBEDDING, {"input": []}, "input", id="input-empty"),
    bad(EMBEDDING, {"input": [""]}, "input", id="input-with-empty"),
    bad(EMBEDDING, {"input": "a" * 513}, "input", id="input-too-long"),
    bad(EMBEDDING, {"input": "a", "pooling": "max"}, "pooling", id="pooling-unknown"),
    bad(EMBEDDING, {"input": "a", "encoding_format": "hex"}, "encoding_format", id="encoding"),
    bad(EMBEDDING, {"input": "a", "dimensions": 8}, "dimensions", id="dimensions"),
    bad("/tokenize", {}, "prompt", id="tokenize-nothing"),
    bad("/tokenize", {"prompt": "a", "messages": USER}, "prompt", id="tokenize-both"),
    bad("/detokenize", {"tokens": [256]}, "tokens", id="detokenize-outside"),
    bad(
        "/detokenize",
        {"tokens": [1], "skip_special_tokens": 7},
        "skip_special_tokens",
        id="detokenize-flag",
    ),
    generate("token_ids", [], id="generate-nothing"),
    generate("token_ids", [256], id="generate-id-outside"),
    generate("token_ids", [-1], id="generate-id-negative"),
    generate("token_ids", ["a"], id="generate-text"),
    generate("token_ids", [1] * 513, id="generate-too-long"),
    generate("token_ids", [1] * 512, id="generate-fills-the-context"),
    generate("sampling_params", None, id="generate-no-sampling"),
    generate("sampling_params", {"n": "x"}, id="generate-n-text"),
    generate("output_mode", "audio", id="generate-output-mode"),
    generate("features", {"mm_hashes": {}}, id="generate-images"),
    generate("stream_options", {"include_usage": True}, id="generate-options-without-stream"),
    generate("model", "gpt-4", 404, id="generate-model"),
    sampling("n", 0, id="generate-n-0"),
    sampling("max_tokens", 0, id="generate-max-tokens-0"),
    sampling("logprobs", 21, id="generate-logprobs-21"),
    sampling("prompt_logprobs", -1, id="generate-prompt-logprobs"),
    sampling("prompt_logprobs", 1, stream=True, id="generate-prompt-logprobs-in-a-stream"),
    sampling("min_tokens", 3, id="generate-min-tokens"),
    sampling("structured_outputs", {"json": {}}, id="generate-structured"),
    bad("/detokenize", {"tokens": ["x"]}, "tokens", id="detokenize-text"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD_FIELDS)
def test_a_bad_field_is_named(
    *,
    server: Running,
    client: openai.OpenAI,
    path: str,
    body: dict[str, Any],
    status: int,
    param: str,
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.post(path, body=body, cast_to=httpx.Response)
    error = caught.value
    assert error.status_code == status
    assert isinstance(error.body, dict)
    assert error.body["code"] == status
    assert error.body["message"] in str(error)
    assert error.param == param, error.body
    assert len(error.body["message"]) < 400, "a message does not echo the request"
    assert (server.worker.active, server.state.limiter.running) == (0, 0)


RAW = [
    pytest.param(b"", 400, "not valid JSON", id="empty"),
    pytest.param(b"{", 400, "not valid JSON", id="cut-off"),
    pytest.param(b'{"prompt": "a"} x', 400, "not valid JSON", id="trailing"),
    pytest.param(b'{"prompt": "\xff"}', 400, "not valid JSON", id="invalid-utf-8"),
    pytest.param(b'{"prompt": "\\ud800"}', 400, "not valid JSON", id="lone-surrogate"),
    pytest.param(b'{"prompt": "a", "temperature": NaN}', 400, "not valid JSON", id="nan"),
    pytest.param(b'{"prompt": "a", "x": Infinity}', 400, "not valid JSON", id="infinity"),
    pytest.param(b'{"prompt": "a", "top_p": 1e999}', 400, "top_p", id="overflow"),
    pytest.param(b'{"prompt": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400, "recursion", id="deep"),
    pytest.param(b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", 400, "range", id="5000-digits"),
    pytest.param(b"[1]", 400, "JSON object", id="list"),
    pytest.param(b'"text"', 400, "JSON object", id="text"),
    pytest.param(b"null", 400, "JSON object", id="null"),
    pytest.param(b'{"prompt": [' + b"null," * 9000 + b"null]}", 400, "prompt", id="nulls"),
    pytest.param(b'{"prompt": "' + b"a" * 210_000 + b'"}', 413, "200000 bytes", id="too-large"),
]


@pytest.mark.parametrize(("body", "status", "says"), RAW)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_bad_body_is_explained(
    server: Running, body: bytes, status: int, says: str, chunked: bool
) -> None:
    chunks = (body[i : i + 8192] for i in range(0, len(body), 8192))
    response = httpx.post(
        server.url + COMPLETION,
        content=chunks if chunked else body,
        headers={"content-type": "application/json"},
    )
    assert response.status_code == status
    refusal = wire.ErrorResponse.model_validate_json(response.content)
    assert says in refusal.message
    assert refusal.error.message == refusal.message
    assert refusal.error.code == refusal.code == status
    assert refusal.object == "error"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "says"),
    [
        pytest.param("POST", "/v1/nothing", {}, 404, "/v1/nothing", id="no-route"),
        pytest.param("POST", "/v1/reward", {}, 404, "POST /v1/rewards", id="nearly-a-route"),
        pytest.param("POST", "/v1/completions/", {}, 404, "no route", id="slash-at-the-end"),
        pytest.param("GET", "/docs", {}, 404, "no route", id="no-docs"),
        pytest.param("GET", COMPLETION, {}, 405, "Allow", id="get"),
        pytest.param("DELETE", "/v1/models", {}, 405, "Allow", id="delete"),
        pytest.param("POST", COMPLETION, {}, 415, "application/json", id="no-type"),
        pytest.param(
            "POST", COMPLETION, {"content-type": "text/plain"}, 415, "text/plain", id="text"
        ),
    ],
)
def test_a_wrong_address_or_type_is_explained(
    *, server: Running, method: str, path: str, headers: dict[str, str], status: int, says: str
) -> None:
    response = httpx.request(method, server.url + path, headers=headers)
    assert response.status_code == status
    assert says in wire.ErrorResponse.model_validate_json(response.content).message
    assert ("allow" in response.headers) == (status == 405)


def test_a_context_overflow_has_the_words_that_callers_look_for(server: Running) -> None:
    response = httpx.post(server.url + COMPLETION, json={"prompt": "a" * 600})
    assert "maximum context length" in response.json()["message"]
    assert response.json()["error"]["type"] == "context_length_exceeded"


def test_an_unknown_model_lists_what_is_served(server: Running) -> None:
    response = httpx.post(server.url + COMPLETION, json={"prompt": "a", "model": "x"})
    for name in ("policy", "lab/policy", "org/policy-1b"):
        assert name in response.json()["message"]
