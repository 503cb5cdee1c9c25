"""Which routes of an engine are open, which bodies reach it, and how its errors are told."""

import json
from typing import Any

import pytest

from modelworker_server.engine.errors import ERROR_EVENT, translated, translated_event
from modelworker_server.engine.requests import check_body
from modelworker_server.engine.routes import Access, route_of
from modelworker_server.errors import BadRequest, ContextTooLong

COMPLETIONS = "/v1/completions"
VOCABULARY = 100


@pytest.mark.parametrize(
    ("method", "path", "access"),
    [
        ("GET", "/v1/models", Access.READ),
        ("GET", "/tokenizer_info", Access.READ),
        ("POST", COMPLETIONS, Access.WORK),
        ("POST", "/v1/chat/completions/render", Access.WORK),
        ("POST", "/inference/v1/generate", Access.WORK),
        ("POST", "/inference/v1/abort_requests", Access.READ),
        ("POST", "/v2/rerank", Access.WORK),
        ("GET", "/v1/responses/resp_1", Access.READ),
        ("POST", "/v1/responses/resp_1/cancel", Access.READ),
        ("POST", "/pause", Access.DEVELOPMENT),
        ("POST", "/update_weights", Access.DEVELOPMENT),
    ],
)
def test_open_routes(method: str, path: str, access: Access) -> None:
    route = route_of(method, path)
    assert route is not None
    assert route.access is access


@pytest.mark.parametrize(
    "route",
    [
        "GET /",
        "GET /docs",
        "GET /openapi.json",
        "GET /load",
        "GET /ping",
        "GET /metrics",
        "GET /health",
        "POST /invocations",
        "POST /collective_rpc",
        "POST /scale_elastic_ep",
        "POST /start_profile",
        "POST /v1/load_lora_adapter",
        "POST /v1/unload_lora_adapter",
        "POST /v1/models",
        "GET /v1/completions",
        "POST /v1/completions/",
        "POST //v1/completions",
        "POST /V1/completions",
        "GET /v1/responses/a/b",
        "DELETE /v1/responses/a",
    ],
)
def test_every_other_route_is_closed(route: str) -> None:
    assert route_of(*route.split(" ")) is None


def test_a_label_of_metrics_is_no_id() -> None:
    labels = {getattr(route_of("GET", f"/v1/responses/{i}"), "path", None) for i in range(9)}
    assert labels == {"/v1/responses/{response_id}"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "not valid JSON", id="empty"),
        pytest.param(b'{"prompt": "x', "not valid JSON", id="cut-off"),
        pytest.param(b'{"prompt": "\\ud800"}', "not valid JSON", id="lone-surrogate"),
        pytest.param(b'{"prompt": "\xff"}', "not valid JSON", id="invalid-utf8"),
        pytest.param(b'{"temperature": NaN}', "not valid JSON", id="nan"),
        pytest.param(b'{"temperature": -Infinity}', "not valid JSON", id="infinity"),
        pytest.param(b'{"a": ' + b"[" * 10_000, "not valid JSON", id="deep"),
        pytest.param(b"[1]", "must be a JSON object", id="list"),
        pytest.param(b'{"n": 0}', "n is 0", id="n-0"),
        pytest.param(b'{"n": 1000000000}', "between 1 and 128", id="n-huge"),
        pytest.param(b'{"stop": ""}', "empty text", id="stop-empty"),
        pytest.param(b'{"stop": ["a", ""]}', "empty text", id="stop-with-empty"),
        pytest.param(json.dumps({"stop": ["a"] * 17}).encode(), "stop has 17 elements", id="stops"),
        pytest.param(
            json.dumps({"messages": [{}] * 4097}).encode(), "messages has 4097", id="messages"
        ),
        pytest.param(
            json.dumps({"prompt": ["a"] * 2049}).encode(), "prompt has 2049", id="prompts"
        ),
        pytest.param(b'{"logit_bias": {"5": 101}}', "logit_bias of token 5", id="bias"),
        pytest.param(
            json.dumps({"structured_outputs": {"regex": "a" * 70_000}}).encode(),
            "structured_outputs has",
            id="grammar",
        ),
        pytest.param(
            json.dumps({"response_format": {"x": ["y" * 70_000]}}).encode(),
            "response_format has",
            id="schema",
        ),
        pytest.param(b'{"sampling_params": {"n": 0}}', "n is 0", id="nested"),
    ],
)
def test_bodies_that_no_engine_sees(body: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        check_body(body, COMPLETIONS, VOCABULARY)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": list(range(5000)), "n": 128, "stop": ["a"] * 16},
        {"prompt": "x", "n": None, "stop": None, "logit_bias": {"1": -100}, "unknown": [[]]},
        {"messages": [{"role": "user", "content": "hi"}] * 4096, "n": "2", "stop": 3},
    ],
    ids=["nothing", "tokens", "nulls", "left-to-the-engine"],
)
def test_bodies_that_the_engine_sees(body: dict[str, Any]) -> None:
    check_body(json.dumps(body).encode(), COMPLETIONS, VOCABULARY)


def test_token_ids_to_decode_are_below_the_vocabulary() -> None:
    check_body(b'{"tokens": [0, 99, "x"]}', "/detokenize", VOCABULARY)
    check_body(b'{"tokens": 7}', "/detokenize", VOCABULARY)
    with pytest.raises(BadRequest, match="100"):
        check_body(b'{"tokens": [100]}', "/detokenize", VOCABULARY)


def engine_error(**detail: Any) -> bytes:
    return json.dumps({"error": detail}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        pytest.param(
            400,
            engine_error(message="top_p must be in (0, 1]", type="BadRequestError", param="top_p"),
            "BadRequestError",
            "top_p must be",
            id="refusal",
        ),
        pytest.param(
            400,
            engine_error(message="This model's maximum context length is 8 tokens."),
            "context_length_exceeded",
            "This model's maximum context length is 8",
            id="context",
        ),
        pytest.param(
            400,
            engine_error(message="max_tokens cannot be greater than max_model_len=8"),
            "context_length_exceeded",
            "maximum context length: max_tokens",
            id="context-in-other-words",
        ),
        pytest.param(
            404,
            engine_error(message="The model `x` does not exist.", param="model"),
            "model_not_found",
            "The model `x`",
            id="model",
        ),
        pytest.param(
            404,
            engine_error(message="The model `x` does not exist.", type="NotFoundError"),
            "model_not_found",
            "The model `x`",
            id="model-without-param",
        ),
        pytest.param(404, b'{"detail":"Not Found"}', "not_found", "no route /score", id="route"),
        pytest.param(
            500, engine_error(message='File "/x/y.py"'), "internal_error", "log says why", id="500"
        ),
        pytest.param(500, b"<html>", "internal_error", "log says why", id="500-no-json"),
        pytest.param(503, engine_error(message="it died"), "unavailable", "it died", id="503"),
        pytest.param(501, engine_error(message="cannot"), "unsupported", "cannot", id="501"),
        pytest.param(422, b"[]", "invalid_request_error", "Unprocessable", id="422-list"),
        pytest.param(401, b'{"error": "Unauthorized"}', "invalid_request_error", "Unau", id="text"),
    ],
)
def test_errors_of_the_engine_get_our_shape(
    status: int, body: bytes, kind: str, words: str
) -> None:
    answer = translated(status, body, "/score")
    assert (answer.object, answer.code, answer.error.code) == ("error", status, status)
    assert answer.error.type == kind
    assert answer.message == answer.error.message
    assert words in answer.message
    assert ".py" not in answer.message


@pytest.mark.parametrize(
    ("alive", "code", "kind"),
    [
        pytest.param(True, 500, "internal_error", id="a-request-failed"),
        pytest.param(False, 503, "unavailable", id="the-engine-died"),
    ],
)
def test_an_error_in_a_stream_gets_our_shape(alive: bool, code: int, kind: str) -> None:
    event = b"data: " + engine_error(message="m", code=500) + b"\n\n"
    assert event.startswith(ERROR_EVENT)
    told = translated_event(event, "/v1/completions", alive=alive)
    assert told.startswith(b"data: ")
    assert told.endswith(b"}\n\n")
    error = json.loads(told[6:])
    assert (error["object"], error["code"], error["error"]["type"]) == ("error", code, kind)


def test_param_is_kept() -> None:
    assert translated(400, engine_error(message="m", param="n"), "/x").error.param == "n"
    assert translated(400, engine_error(message="m", param=3), "/x").error.param is None
    assert ContextTooLong.type == translated(
        400, engine_error(message="maximum context length"), "/x"
    ).error.type  # fmt: skip
