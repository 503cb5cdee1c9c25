"""FastChat's worker protocol byte for byte, over real sockets, in both of its shapes."""

import asyncio
import base64
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelworker_api.rewards import ScoreType
from tests.fake_worker import FakeWorker, text_of
from tests.fastchat_support import (
    COUNT,
    DETAILS,
    EMBEDDINGS,
    GENERATE,
    STATUS,
    STREAM,
    TEMPLATE,
    ask,
    compact,
    failed,
    frames,
)
from tests.reward_server_support import reward_server
from tests.server_support import Running, running_server
from tests.support import eventually

FASTCHAT: dict[str, Any] = {
    "model": "policy",
    "prompt": "ab",
    "temperature": 0.7,
    "logprobs": None,
    "top_p": 1.0,
    "top_k": -1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "max_new_tokens": 3,
    "echo": False,
    "stop": [],
    "stop_token_ids": None,
    "use_beam_search": False,
    "best_of": None,
}
"""As FastChat's API server sends it."""

OPENR: dict[str, Any] = {
    "model": "policy",
    "prompt": "ab",
    "temperature": 0.7,
    "n": 2,
    "top_p": 1,
    "top_k": -1,
    "stop_token_ids": None,
    "max_new_tokens": 3,
    "stop": None,
    "echo": False,
    "include_stop_str_in_output": True,
}
"""As OpenR sends it."""

USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(FakeWorker()) as running:
        yield running


def raw(server: Running, path: str, body: Any = None) -> bytes:
    response = httpx.post(server.url + path, json=body)
    assert response.status_code == 200, response.text
    return response.content


def test_fastchat_gets_one_text(server: Running) -> None:
    assert raw(server, GENERATE, FASTCHAT) == compact(
        {"text": text_of("ab", 0, 3), "error_code": 0, "usage": USAGE, "finish_reason": "length"}
    )


@pytest.mark.parametrize("n", [1, 2])
def test_openr_gets_lists_also_of_one(server: Running, n: int) -> None:
    assert raw(server, GENERATE, {**OPENR, "n": n}) == compact(
        {
            "text": [text_of("ab", index, 3) for index in range(n)],
            "error_code": 0,
            "usage": {
                "prompt_tokens": 2,
                "completion_tokens": 3 * n,
                "total_tokens": 2 + 3 * n,
            },
            "cumulative_logprob": [-3.0] * n,
            "output_token_len": [3] * n,
            "finish_reason": ["length"] * n,
        }
    )


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        pytest.param({}, str, id="neither-key"),
        pytest.param({"n": None}, list, id="n-null"),
        pytest.param({"n": 1}, list, id="n-1"),
        pytest.param({"include_stop_str_in_output": False}, list, id="stop-string-dropped"),
        pytest.param({"best_of": 1, "unknown": 2}, str, id="other-keys"),
    ],
)
def test_the_request_chooses_the_shape(server: Running, more: Any, shape: type) -> None:
    body = {**FASTCHAT, **more}
    assert isinstance(ask(server.url, GENERATE, body)["text"], shape)
    assert all(isinstance(frame["text"], shape) for frame in frames(server.url, body))


def test_frames_hold_the_text_so_far_and_the_last_one_comes_twice(server: Running) -> None:
    response = httpx.post(server.url + STREAM, json={**FASTCHAT, "max_new_tokens": 2})
    assert "content-type" not in response.headers
    text = text_of("ab", 0, 2)
    told = [(text[:1], 1, None), (text, 2, None), (text, 2, "length")]
    assert response.content == b"".join(
        compact(
            {
                "text": text,
                "error_code": 0,
                "usage": {
                    "prompt_tokens": 2,
                    "completion_tokens": tokens,
                    "total_tokens": 2 + tokens,
                },
                "finish_reason": reason,
            }
        )
        + b"\0"
        for text, tokens, reason in told
    )


def test_every_frame_of_openr_holds_every_sample(server: Running) -> None:
    seen = frames(server.url, OPENR)
    assert [frame["output_token_len"] for frame in seen] == [
        [1, 0], [1, 1], [2, 1], [2, 2], [3, 2], [3, 3],
    ]  # fmt: skip
    assert seen[-2]["finish_reason"] == ["length", None]
    assert seen[-1] == ask(server.url, GENERATE, OPENR)


@pytest.mark.parametrize("echo", [True, None], ids=["true", "null"])
def test_the_prompt_is_echoed_unless_told_otherwise(server: Running, echo: Any) -> None:
    for body in ({**FASTCHAT, "echo": echo}, {"prompt": "ab", "max_new_tokens": 3}):
        assert ask(server.url, GENERATE, body)["text"] == "ab" + text_of("ab", 0, 3)
        assert [one["text"][:3] for one in frames(server.url, body)] == [
            "ab" + text_of("ab", 0, 1)
        ] * 4
    lists = ask(server.url, GENERATE, {**OPENR, "echo": echo})
    assert lists["text"] == ["ab" + text_of("ab", index, 3) for index in range(2)]


def test_logprobs_are_openais(server: Running) -> None:
    answer = ask(server.url, GENERATE, {**FASTCHAT, "logprobs": 1, "max_new_tokens": 2})
    first, second = list(text_of("ab", 0, 2))
    assert answer["cumulative_logprob"] == [-1.5]
    assert answer["logprobs"] == {
        "tokens": [first, second],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{first: -0.5, "A": -1.0}, {second: -1.0, "A": -1.0}],
        "text_offset": [0, 1],
    }


def seen_by_worker(**fields: Any) -> Any:
    worker = FakeWorker()
    with running_server(worker) as running:
        ask(running.url, GENERATE, {**FASTCHAT, "max_new_tokens": 1, **fields})
    (params,) = worker.seen
    return params


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        pytest.param({"top_p": 0}, {"top_p": 1e-5}, id="top-p-0"),
        pytest.param({"top_p": 1e-9}, {"top_p": 1e-5}, id="top-p-tiny"),
        pytest.param(
            {"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 1}, id="temperature-0"
        ),
        pytest.param(
            {"temperature": 1e-5, "top_p": 0.5}, {"temperature": 0, "top_p": 1}, id="at-the-edge"
        ),
        pytest.param(
            {"temperature": 1.1e-5, "top_p": 0.5}, {"temperature": 1.1e-5, "top_p": 0.5}, id="above"
        ),
        pytest.param({"top_k": -1.0}, {"top_k": -1}, id="top-k-as-a-float"),
        pytest.param({"top_k": 0}, {"top_k": -1}, id="top-k-0-is-all"),
        pytest.param({"top_k": 10**9}, {"top_k": -1}, id="top-k-beyond-the-vocabulary"),
        pytest.param({"stop": ""}, {"stop": ()}, id="no-stop"),
        pytest.param({"stop": "x"}, {"stop": ("x",)}, id="one-stop"),
        pytest.param({"stop": ["x", "y", "x"]}, {"stop": ("x", "y")}, id="stops"),
        pytest.param({"stop_token_ids": [3, 2]}, {"stop_token_ids": {2, 3}}, id="stop-ids"),
        pytest.param({"n": 3}, {"n": 3, "logprobs": 0}, id="openr-wants-logprobs"),
        pytest.param({}, {"n": 1, "logprobs": None}, id="fastchat-does-not"),
        pytest.param(
            {"include_stop_str_in_output": True}, {"include_stop_str_in_output": True}, id="kept"
        ),
        pytest.param({"max_new_tokens": None}, {"max_tokens": 256}, id="default-length"),
        pytest.param({"max_new_tokens": 510}, {"max_tokens": 510}, id="whole-context"),
        pytest.param({"max_new_tokens": 10**30}, {"max_tokens": 510}, id="cut-to-the-context"),
        pytest.param({"presence_penalty": 0.5}, {"presence_penalty": 0.5}, id="presence"),
        pytest.param({"frequency_penalty": -2}, {"frequency_penalty": -2}, id="frequency"),
        pytest.param({"repetition_penalty": 1.2}, {"repetition_penalty": 1.2}, id="repetition"),
        pytest.param(
            dict.fromkeys(("temperature", "top_p", "top_k", "repetition_penalty", "stop")),
            {"temperature": 1, "top_p": 1, "top_k": -1, "repetition_penalty": 1, "stop": ()},
            id="null-is-the-default",
        ),
    ],
)
def test_what_reaches_the_worker(given: Any, seen: dict[str, Any]) -> None:
    params = seen_by_worker(**given)
    assert {name: getattr(params, name) for name in seen} == seen


@pytest.mark.parametrize("model", [None, "policy", "lab/policy", "org/policy-1b"])
def test_every_name_of_the_model_is_served(server: Running, model: Any) -> None:
    body = {**FASTCHAT, "model": model}
    assert ask(server.url, GENERATE, body)["error_code"] == 0
    assert ask(server.url, DETAILS, {"model": model}) == {"context_length": 512}
    assert ask(server.url, COUNT, {"model": model, "prompt": "abc"})["count"] == 3


@pytest.mark.parametrize("body", [None, {}, {"model": "policy"}], ids=["none", "empty", "model"])
def test_what_needs_no_body(server: Running, body: Any) -> None:
    assert raw(server, DETAILS, body) == b'{"context_length":512}'
    assert raw(server, STATUS, body) == compact(
        {"model_names": ["policy", "lab/policy", "org/policy-1b"], "speed": 1, "queue_length": 0}
    )
    assert set(ask(server.url, TEMPLATE, body)) == {"conv"}


def test_tokens_are_counted_with_the_special_ones(server: Running) -> None:
    assert raw(server, COUNT, {"prompt": "abc"}) == b'{"count":3,"error_code":0}'
    assert raw(server, COUNT, {"prompt": ""}) == b'{"count":0,"error_code":0}'


def test_embeddings_are_floats_or_little_endian_float32(server: Running) -> None:
    body = {"model": "policy", "input": ["abc", "d"], "encoding_format": None}
    assert raw(server, EMBEDDINGS, body) == compact(
        {"embedding": [[3.0, 0.5, 1.0], [1.0, 0.5, 1.0]], "token_num": 4}
    )
    packed = ask(server.url, EMBEDDINGS, {**body, "encoding_format": "base64"})["embedding"]
    assert [struct.unpack("<3f", base64.b64decode(text)) for text in packed] == [
        (3.0, 0.5, 1.0),
        (1.0, 0.5, 1.0),
    ]


def test_a_reward_model_answers_what_it_can() -> None:
    with reward_server(ScoreType.PROCESS) as running:
        assert ask(running.url, STATUS)["model_names"]
        assert ask(running.url, DETAILS) == {"context_length": 512}
        assert ask(running.url, COUNT, {"prompt": "abc"})["error_code"] == 0
        assert "conv" in ask(running.url, TEMPLATE)
        assert failed(ask(running.url, GENERATE, {"prompt": "a"})) == 40301
        assert failed(frames(running.url, {"prompt": "a"})[0]) == 40301
        assert failed(ask(running.url, EMBEDDINGS, {"input": ["a"]})) == 40301


def test_the_queue_length_is_the_load() -> None:
    worker = FakeWorker()
    worker.step = lambda: asyncio.sleep(0.01)
    with (
        running_server(worker) as running,
        httpx.stream("POST", running.url + STREAM, json={"prompt": "a", "max_new_tokens": 400}),
    ):
        assert ask(running.url, STATUS)["queue_length"] == 1
    eventually(lambda: worker.active == 0, what="ended stream", interval=0.01)
