"""The shapes of the worker's answers, in process."""

import base64
import struct
from typing import Any

import pytest

from tests.fake_worker import FakeWorker, text_of, token_at
from tests.server_support import call, post, stream


def test_a_completion_has_openais_shape() -> None:
    assert post("/v1/completions", {"prompt": "ab", "max_tokens": 3, "model": "lab/policy"}) == {
        "id": "cmpl-id0",
        "object": "text_completion",
        "created": 1_700_000_123,
        "model": "policy",
        "choices": [
            {
                "index": 0,
                "text": text_of("ab", 0, 3),
                "finish_reason": "length",
                "stop_reason": None,
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }


def test_choices_are_prompt_major_with_ids_and_logprobs_of_one_length() -> None:
    body = {
        "prompt": [[97], [98, 99]],
        "n": 3,
        "max_tokens": 2,
        "logprobs": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    answer = post("/v1/completions", body)
    choices = answer["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert [choice["prompt_token_ids"] for choice in choices[::3]] == [[97], [98, 99]]
    ids = [token_at([98, 99], 2, 0), token_at([98, 99], 2, 1)]
    assert choices[5]["token_ids"] == ids
    assert choices[5]["logprobs"] == {
        "tokens": [f"token_id:{i}" for i in ids],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{f"token_id:{ids[0]}": -0.5}, {f"token_id:{ids[1]}": -1.0}],
        "text_offset": [0, 1],
    }
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}


def test_logprobs_hold_the_sampled_token_and_the_alternatives() -> None:
    body = {"prompt": "a", "max_tokens": 1, "logprobs": 2}
    logprobs = post("/v1/completions", body)["choices"][0]["logprobs"]
    sampled = text_of("a", 0, 1)
    assert logprobs["tokens"] == [sampled]
    assert logprobs["top_logprobs"] == [{sampled: -0.5, "A": -1.0, "B": -2.0}]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        pytest.param("ab", ["ab"], id="text"),
        pytest.param(["ab", "c"], ["ab", "c"], id="texts"),
        pytest.param([97, 98], ["ab"], id="ids"),
        pytest.param([[97, 98], [99]], ["ab", "c"], id="lists-of-ids"),
    ],
)
@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
def test_every_form_of_prompt(prompt: Any, texts: list[str], echo: bool) -> None:
    body = {"prompt": prompt, "max_tokens": 4, "n": 2, "echo": echo}
    expected = [
        (text if echo else "") + text_of(text, index, 4) for text in texts for index in range(2)
    ]
    choices = post("/v1/completions", body)["choices"]
    assert [choice["text"] for choice in choices] == expected
    streamed = [""] * len(expected)
    for event in stream("/v1/completions", body):
        streamed[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert streamed == expected


def test_a_stream_of_several_prompts_carries_everything_once() -> None:
    body = {
        "prompt": ["ab", "c"],
        "n": 2,
        "max_tokens": 3,
        "logprobs": 1,
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }
    *events, last = stream("/v1/completions", body)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}
    assert {event["id"] for event in events} == {"cmpl-id0"}
    for index in range(4):
        parts = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
        prompt = [list(b"ab"), list(b"c")][index // 2]
        assert [part.get("prompt_token_ids") for part in parts] == [prompt, None, None]
        assert [part["token_ids"] for part in parts] == [
            [token_at(prompt, index % 2, position)] for position in range(3)
        ]
        assert [part["logprobs"]["text_offset"] for part in parts] == [[0], [1], [2]]
        assert [part["finish_reason"] for part in parts] == [None, None, "length"]


def test_a_chat_has_openais_shape() -> None:
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_completion_tokens": 2,
        "logprobs": True,
        "top_logprobs": 1,
        "return_token_ids": True,
    }
    text = text_of("user:hi", 0, 2)
    answer = post("/v1/chat/completions", body)
    assert answer["object"] == "chat.completion"
    assert answer["prompt_token_ids"] == list(b"user:hi")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length",
            "stop_reason": None,
            "logprobs": {
                "content": [
                    {
                        "token": character,
                        "logprob": -0.5 * (position + 1),
                        "bytes": list(character.encode()),
                        "top_logprobs": [
                            {"token": "A", "logprob": -1.0, "bytes": [65], "top_logprobs": []}
                        ],
                    }
                    for position, character in enumerate(text)
                ]
            },
            "token_ids": list(text.encode()),
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def test_a_chat_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    body = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2,
        "n": 2,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    *events, last = stream("/v1/chat/completions", body)
    assert events[0]["object"] == "chat.completion.chunk"
    assert [event.get("prompt_token_ids") for event in events] == [
        list(b"user:hi"),
        None,
        None,
        None,
    ]
    for index in range(2):
        parts = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
        text = text_of("user:hi", index, 2)
        assert [part["delta"] for part in parts] == [
            {"role": "assistant", "content": text[0]},
            {"content": text[1]},
        ]
        assert [part["finish_reason"] for part in parts] == [None, "length"]
    assert last["usage"]["completion_tokens"] == 4


def test_a_chat_without_a_limit_may_use_the_rest_of_the_context() -> None:
    worker = FakeWorker()
    post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, worker)
    assert worker.seen[0].max_tokens == 512 - len("user:hi")


def test_a_completion_without_a_limit_has_16_tokens_or_what_is_left() -> None:
    worker = FakeWorker()
    post("/v1/completions", {"prompt": "a"}, worker)
    post("/v1/completions", {"prompt": "a" * 505}, worker)
    assert [params.max_tokens for params in worker.seen] == [16, 7]


def test_null_means_the_default() -> None:
    worker = FakeWorker()
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "n", "stop", "seed")
    body = {"prompt": "a", "max_tokens": 1}
    post("/v1/completions", body | dict.fromkeys(names), worker)
    post("/v1/completions", body, worker)
    assert worker.seen[0] == worker.seen[1]


def test_what_is_asked_for_reaches_the_worker() -> None:
    worker = FakeWorker()
    body = {
        "prompt": "a",
        "max_tokens": 3,
        "temperature": 1e-9,
        "top_p": 0.5,
        "top_k": 1000,
        "min_p": 0.1,
        "repetition_penalty": 1.5,
        "n": 2,
        "seed": 7,
        "stop": ["x", "y", "x"],
        "stop_token_ids": [3, 3],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "skip_special_tokens": False,
        "extra_body": {"unknown": 1},
        "best_of": 2,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "use_beam_search": False,
        "presence_penalty": 0,
    }
    post("/v1/completions", body, worker)
    (params,) = worker.seen
    assert params.temperature == 0, "a temperature that float32 cannot divide by is greedy"
    assert params.top_k == -1, "more candidates than tokens are all tokens"
    assert params.stop == ("x", "y")
    assert params.stop_token_ids == frozenset({3})
    assert (params.top_p, params.min_p, params.repetition_penalty) == (0.5, 0.1, 1.5)
    assert (params.n, params.seed, params.ignore_eos) == (2, 7, True)
    assert params.include_stop_str_in_output
    assert not params.skip_special_tokens


def test_a_final_message_is_continued() -> None:
    worker = FakeWorker()
    body = {
        "messages": [
            {"role": "user", "content": "q", "name": "ann"},
            {"role": "assistant", "content": "step\n\n"},
        ],
        "continue_final_message": True,
        "max_tokens": 1,
    }
    post("/v1/chat/completions", body, worker)
    ((messages, _, continues),) = worker.conversations
    assert messages[0].extra == {"name": "ann"}
    assert messages[1].content == "step\n\n"
    assert continues


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(encoding: str) -> None:
    body = {"input": ["abc", "d"], "encoding_format": encoding, "pooling": "last"}
    answer = post("/v1/embeddings", body)
    vectors = [entry["embedding"] for entry in answer["data"]]
    if encoding == "base64":
        vectors = [list(struct.unpack("<3f", base64.b64decode(text))) for text in vectors]
    assert vectors == [[3.0, 0.5, -1.0], [1.0, 0.5, -1.0]]
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 4


def test_tokens_there_and_back() -> None:
    assert post("/tokenize", {"prompt": "ab"}) == {
        "count": 2,
        "max_model_len": 512,
        "tokens": [97, 98],
    }
    chat = post("/tokenize", {"messages": [{"role": "user", "content": "x"}]})
    assert chat["tokens"] == list(b"user:x")
    assert post("/detokenize", {"tokens": [97, 98]}) == {"prompt": "ab"}
    assert post("/detokenize", {"tokens": []}) == {"prompt": ""}


def test_models_lists_every_name_the_own_one_first() -> None:
    answer = call(lambda client: client.get("/v1/models")).json()
    assert [card["id"] for card in answer["data"]] == ["policy", "lab/policy", "org/policy-1b"]
    assert answer["data"][0]["max_model_len"] == 512
