"""What callers may ask for, and the bodies that workers get."""

import math
from typing import Any

import numpy as np
import pytest

from modelworker import LM, InvalidRequest, _json, _prompts, _requests
from modelworker_api import tokens, wire

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"n": 0}, "n must be an integer of at least 1, not 0", id="n-0"),
        pytest.param({"n": 1.5}, "n must be an integer", id="n-fraction"),
        pytest.param({"n": True}, "n must be an integer", id="n-bool"),
        pytest.param({"max_tokens": 0}, "max_tokens must be", id="max-tokens-0"),
        pytest.param({"max_tokens": None}, "max_tokens must be", id="max-tokens-none"),
        pytest.param(
            {"temperature": -1}, "temperature must be a finite number at least 0", id="t-1"
        ),
        pytest.param({"temperature": math.nan}, "temperature must be", id="temperature-nan"),
        pytest.param({"temperature": math.inf}, "temperature must be", id="temperature-inf"),
        pytest.param({"temperature": "hot"}, "temperature must be", id="temperature-text"),
        pytest.param(
            {"top_p": 0}, "top_p must be a finite number above 0 and at most 1", id="top-p-0"
        ),
        pytest.param({"top_p": 1.1}, "top_p must be", id="top-p-over-1"),
        pytest.param({"top_k": -2}, "top_k must be", id="top-k"),
        pytest.param({"min_p": -0.1}, "min_p must be", id="min-p"),
        pytest.param({"repetition_penalty": 0}, "repetition_penalty must be", id="penalty-0"),
        pytest.param({"stop": ""}, "stop must hold strings that are not empty", id="stop-empty"),
        pytest.param({"stop": ["a", ""]}, "stop must hold", id="stop-list-with-empty"),
        pytest.param({"stop": [3]}, "stop must hold", id="stop-number"),
        pytest.param({"stop": 3}, "wrong type", id="stop-no-list"),
        pytest.param({"stop_token_ids": [-1]}, "stop_token_ids must be", id="stop-id"),
        pytest.param({"seed": -1}, "seed must be", id="seed-negative"),
        pytest.param({"seed": 2**63}, "at most", id="seed-too-large"),
        pytest.param({"logprobs": -1}, "logprobs must be", id="logprobs"),
        pytest.param({"ignore_eos": 1}, "ignore_eos must be True or False", id="ignore-eos"),
        pytest.param({"extra": [1]}, "extra must be a mapping", id="extra-list"),
        pytest.param(
            {"max_token": 5}, "unknown argument max_token; known are n, max_tokens", id="typo"
        ),
    ],
)
def test_sampling_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        _requests.sampling(options)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        pytest.param("", "the prompt is empty", id="empty-text"),
        pytest.param(["a", ""], "prompt 1 is empty", id="empty-text-in-list"),
        pytest.param([[1], []], "prompt 1 is empty", id="empty-ids-in-list"),
        pytest.param([1, "a"], "the prompt holds 'a'", id="mixed"),
        pytest.param([1, True], "the prompt holds True", id="bool"),
        pytest.param([1, -2], "negative token id -2", id="negative"),
        pytest.param([1.0], "the prompt holds 1.0", id="float"),
        pytest.param(["a", 1], "prompt 1 must be", id="mixed-in-list"),
        pytest.param(b"abc", "not a bytes", id="bytes"),
        pytest.param(None, "not a NoneType", id="none"),
        pytest.param({"role": "user"}, "not a dict", id="mapping"),
    ],
)
def test_prompt_refused(prompt: Any, message: str) -> None:
    with (
        LM("policy", endpoints=["http://127.0.0.1:1"]) as lm,
        pytest.raises(InvalidRequest, match=message),
    ):
        lm.generate(prompt)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        pytest.param("hi", "messages must be a list", id="text"),
        pytest.param([[]], "conversation 0 must be a list", id="empty-conversation"),
        pytest.param([{"content": "x"}], "message 0 of the conversation must be", id="no-role"),
        pytest.param([MESSAGES, ["x"]], "message 0 of conversation 1 must be", id="text-message"),
    ],
)
def test_messages_refused(messages: Any, message: str) -> None:
    with (
        LM("policy", endpoints=["http://127.0.0.1:1"]) as lm,
        pytest.raises(InvalidRequest, match=message),
    ):
        lm.chat(messages)


def test_streams_refuse_before_they_are_iterated() -> None:
    lm = LM("policy", endpoints=["http://127.0.0.1:1"])
    with pytest.raises(InvalidRequest, match="temperature"):
        lm.stream("hi", temperature=-1)
    with pytest.raises(InvalidRequest, match="the prompt holds 'a'"):
        lm.stream(["a", "b"])  # type: ignore[list-item]


ALL_OPTIONS = {
    "n": 2,
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 3,
    "min_p": 0.1,
    "repetition_penalty": 1.2,
    "stop": ("\n\n",),
    "stop_token_ids": (7,),
    "include_stop_str_in_output": True,
    "seed": 1,
    "logprobs": 2,
    "ignore_eos": True,
    "extra": {"priority": 1},
}


def test_a_plain_body_says_only_what_it_must() -> None:
    body = _requests.completion("hi", _requests.sampling({}), model="ns/policy")
    assert body == {
        "model": "ns/policy",
        "prompt": "hi",
        "n": 1,
        "max_tokens": 256,
        "temperature": 1.0,
        "return_token_ids": True,
        "logprobs": 0,
    }


def test_every_option_is_a_field_of_the_wire() -> None:
    params = _requests.sampling(ALL_OPTIONS)
    completion = _requests.completion([1, 2], params, model="policy", stream=True)
    chat = _requests.chat(
        MESSAGES, params, model="policy", continue_final_message=True, stream=True
    )
    embedding = _requests.embedding(["a"], model="policy", pooling="last", normalize=False)
    tokenize = _requests.tokenize("a", model="policy", add_special_tokens=False)
    template = _requests.tokenize(MESSAGES, model="policy", add_special_tokens=True)
    echo = _requests.echo([1], [2], model="policy")
    for body, shape in (
        (completion, wire.CompletionRequest),
        (chat, wire.ChatCompletionRequest),
        (embedding, tokens.EmbeddingRequest),
        (tokenize, tokens.TokenizeRequest),
        (template, tokens.TokenizeRequest),
        (echo, wire.CompletionRequest),
    ):
        read = shape.model_validate(body)
        assert set(body) - {"priority"} == read.model_fields_set
    assert completion["priority"] == 1
    request = wire.CompletionRequest.model_validate(completion)
    assert (request.stop, request.stop_token_ids, request.logprobs) == (["\n\n"], [7], 2)
    assert wire.ChatCompletionRequest.model_validate(chat).top_logprobs == 2


def test_extra_may_not_repeat_an_argument() -> None:
    with pytest.raises(InvalidRequest, match="extra repeats temperature"):
        _requests.completion(
            "hi", _requests.sampling({"extra": {"temperature": 0}}), model="policy"
        )


def test_numbers_of_numpy_become_json() -> None:
    params = _requests.sampling({"n": np.int64(2), "temperature": np.float32(0.5)})
    prompt = _prompts.checked_prompt([np.int32(5)])
    body = _json.encode(_requests.completion(prompt, params, model="policy"))
    assert b'"prompt":[5]' in body
    assert b'"n":2' in body
    assert b'"temperature":0.5' in body


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="object"),
        pytest.param(math.nan, id="nan"),
        pytest.param("\ud800", id="lone-surrogate"),
    ],
)
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="cannot be sent as JSON"):
        _json.encode({"extra": value})
