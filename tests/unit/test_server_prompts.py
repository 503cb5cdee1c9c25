"""Answers that tell of the prompt's own tokens: echo, prompt_logprobs, tokens in and out."""

from collections.abc import Sequence
from typing import Any

import pytest

from modelworker_server.openai.answers_prompts import prompt_logprobs, prompt_offsets
from modelworker_server.workers.base import TokenLogprob
from tests.fake_worker import FakeWorker, text_of, token_at
from tests.server_support import call, post, stream

COMPLETION = "/v1/completions"
CHAT = "/v1/chat/completions"
GENERATE = "/inference/v1/generate"

ECHO: dict[str, list[Any]] = {
    "tokens": ["a", "b", "c"],
    "token_logprobs": [None, -0.25, -0.5],
    "top_logprobs": [None, {"b": -0.25, "A": -0.125}, {"c": -0.5, "A": -0.125}],
    "text_offset": [0, 1, 2],
}
LISTED = [
    None,
    {
        "98": {"logprob": -0.25, "rank": 1, "decoded_token": "b"},
        "65": {"logprob": -0.125, "rank": 1, "decoded_token": "A"},
    },
    {
        "99": {"logprob": -0.5, "rank": 2, "decoded_token": "c"},
        "65": {"logprob": -0.125, "rank": 1, "decoded_token": "A"},
    },
]


def joined(*parts: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [entry for part in parts for entry in part[name]] for name in parts[0]}


def generated(prompt: Sequence[int], index: int, tokens: int, offset: int) -> dict[str, list[Any]]:
    """The log-probabilities of a sample's tokens, with the one likeliest token."""
    texts = [chr(token_at(prompt, index, position)) for position in range(tokens)]
    values = [-0.5 * (position + 1) for position in range(tokens)]
    return {
        "tokens": texts,
        "token_logprobs": values,
        "top_logprobs": [{t: v, "A": -1.0} for t, v in zip(texts, values, strict=True)],
        "text_offset": [offset + position for position in range(tokens)],
    }


@pytest.mark.parametrize("prompt", ["abc", [97, 98, 99]], ids=["text", "ids"])
@pytest.mark.parametrize("tokens", [0, 1, 3], ids=str)
@pytest.mark.parametrize("n", [1, 2], ids=["one", "two"])
def test_an_echo_has_the_prompts_logprobs_before_the_answers(
    prompt: Any, tokens: int, n: int
) -> None:
    body = {"prompt": prompt, "max_tokens": tokens, "n": n, "echo": True, "logprobs": 1}
    answer = post(COMPLETION, body)
    for index, choice in enumerate(answer["choices"]):
        assert choice["text"] == "abc" + text_of("abc", index, tokens)
        assert choice["logprobs"] == joined(ECHO, generated(b"abc", index, tokens, 3))
        assert choice["finish_reason"] == "length"
        assert "prompt_logprobs" not in choice
    assert len(answer["choices"]) == n
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": n * tokens,
        "total_tokens": 3 + n * tokens,
    }


@pytest.mark.parametrize("tokens", [0, 2], ids=str)
def test_a_streams_first_chunk_of_each_choice_has_the_echo(tokens: int) -> None:
    body = {"prompt": ["abc", "xy"], "max_tokens": tokens, "n": 2, "echo": True, "logprobs": 1}
    whole = post(COMPLETION, body)["choices"]
    events = [event["choices"][0] for event in stream(COMPLETION, body)]
    for expected in whole:
        parts = [part for part in events if part["index"] == expected["index"]]
        assert len(parts) == max(1, tokens)
        assert "".join(part["text"] for part in parts) == expected["text"]
        assert joined(*(part["logprobs"] for part in parts)) == expected["logprobs"]
        assert parts[-1]["finish_reason"] == "length"


def test_an_echo_of_ids_that_names_tokens_by_their_ids() -> None:
    body = {
        "prompt": [[97, 98]],
        "max_tokens": 0,
        "echo": True,
        "logprobs": 0,
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
    }
    (choice,) = post(COMPLETION, body)["choices"]
    assert choice["logprobs"] == {
        "tokens": ["token_id:97", "token_id:98"],
        "token_logprobs": [None, -0.25],
        "top_logprobs": [None, {"token_id:98": -0.25}],
        "text_offset": [0, 1],
    }
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([97, 98], [])


def test_the_shape_that_lm_eval_reads() -> None:
    prompt = [[97, 98, 99], [100, 101]]
    body = {
        "prompt": prompt,
        "max_tokens": 1,
        "logprobs": 1,
        "echo": True,
        "seed": 1234,
        "temperature": 0,
    }
    for ids, choice in zip(prompt, post(COMPLETION, body)["choices"], strict=True):
        logprobs = choice["logprobs"]
        assert len(logprobs["token_logprobs"]) == len(ids) + 1
        assert logprobs["token_logprobs"][0] is None
        assert all(logprobs["top_logprobs"][1:])


def test_each_choice_of_a_completion_lists_its_prompt() -> None:
    body = {"prompt": ["abc", "z"], "max_tokens": 1, "n": 2, "prompt_logprobs": 1}
    choices = post(COMPLETION, body)["choices"]
    assert [choice["prompt_logprobs"] for choice in choices] == [LISTED, LISTED, [None], [None]]
    assert [choice["logprobs"] for choice in choices] == [None] * 4
    first, *_ = LISTED[1:]
    assert first is not None
    assert next(iter(first)) == "98", "the prompt's own token comes first"


def test_an_echo_and_a_list_may_have_different_numbers_of_alternatives() -> None:
    body = {"prompt": "ab", "max_tokens": 0, "echo": True, "logprobs": 0, "prompt_logprobs": 2}
    (choice,) = post(COMPLETION, body)["choices"]
    assert choice["logprobs"]["top_logprobs"] == [None, {"b": -0.25}]
    assert list(choice["prompt_logprobs"][1]) == ["98", "65", "66"]


def test_a_chat_lists_its_prompt_once() -> None:
    body = {"messages": [{"role": "u", "content": "c"}], "max_tokens": 1, "prompt_logprobs": 0}
    answer = post(CHAT, body)
    assert [entry and list(entry) for entry in answer["prompt_logprobs"]] == [
        None,
        [str(ord(":"))],
        [str(ord("c"))],
    ]


# --- tokens in, tokens out ------------------------------------------------------------


def test_tokens_in_tokens_out() -> None:
    sampling = {"n": 2, "max_tokens": 2, "logprobs": 1, "prompt_logprobs": 1}
    body = {"token_ids": [97, 98, 99], "sampling_params": sampling, "return_token_ids": True}
    ids = [token_at(b"abc", 1, position) for position in range(2)]
    answer = post(GENERATE, body)
    second = answer["choices"][1]
    assert answer == {
        "request_id": "tokens-id0",
        "created": 1_700_000_123,
        "model": "policy",
        "output_mode": "tokens",
        "choices": [answer["choices"][0], second],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        "prompt_logprobs": LISTED,
        "prompt_token_ids": [97, 98, 99],
    }
    alternative = {"token_id": 65, "token": "token_id:65", "logprob": -1.0, "rank": 1}
    assert second == {
        "index": 1,
        "token_ids": ids,
        "logprobs": {
            "content": [
                {
                    "token_id": token_id,
                    "token": f"token_id:{token_id}",
                    "logprob": -0.5 * (position + 1),
                    "rank": None,
                    "top_logprobs": [alternative],
                }
                for position, token_id in enumerate(ids)
            ]
        },
        "finish_reason": "length",
        "stop_reason": None,
    }


def test_tokens_in_text_out() -> None:
    body = {
        "token_ids": [97],
        "sampling_params": {"max_tokens": 2, "logprobs": 0},
        "output_mode": "text",
    }
    (choice,) = post(GENERATE, body)["choices"]
    assert choice["text"] == text_of("a", 0, 2)
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == list(choice["text"])
    assert [bytes(entry["bytes"]) for entry in choice["logprobs"]["content"]] == [
        character.encode() for character in choice["text"]
    ]


def test_a_stream_of_tokens() -> None:
    body = {
        "token_ids": [97],
        "sampling_params": {"max_tokens": 3, "n": 2},
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }
    *events, last = stream(GENERATE, body)
    assert [event.get("prompt_token_ids") for event in events] == [[97], *[None] * 5]
    for index in range(2):
        parts = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
        assert [part["token_ids"] for part in parts] == [
            [token_at(b"a", index, position)] for position in range(3)
        ]
        assert [part["finish_reason"] for part in parts] == [None, None, "length"]
    assert last["usage"]["completion_tokens"] == 6


def test_without_a_limit_the_rest_of_the_context_may_be_used() -> None:
    worker = FakeWorker()
    post(GENERATE, {"token_ids": [97] * 500, "sampling_params": {}}, worker)
    assert worker.seen[0].max_tokens == 12


def test_what_is_known_of_the_tokenizer() -> None:
    assert call(lambda client: client.get("/tokenizer_info")).json() == {
        "tokenizer_class": "Bytes",
        "eos_token": "</s>",
        "add_bos_token": False,
        "chat_template": None,
    }


def test_detokenize_may_skip_special_tokens() -> None:
    seen: list[bool] = []

    class Asked(FakeWorker):
        def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
            seen.append(skip_special_tokens)
            return super().decode(token_ids)

    for more in ({}, {"skip_special_tokens": True}):
        post("/detokenize", {"tokens": [97], **more}, Asked())
    assert seen == [False, True]


# --- the shapes' functions --------------------------------------------------------------


def test_a_likeliest_token_that_is_the_prompts_own_is_told_once() -> None:
    score = TokenLogprob(7, -0.5, ((7, -0.5), (9, -float("inf"))), 1)
    _, listed = prompt_logprobs([3, 7], [score], 2, str)
    assert listed is not None
    assert [(i, entry.logprob, entry.rank) for i, entry in listed.items()] == [
        (7, -0.5, 1),
        (9, -9999.0, 2),
    ]


PIECES = {
    1: "<s>",
    2: " Hello",
    3: " world",
    4: b"\xc3",
    5: b"\xbc",
    6: "<|end|>",
    7: "x",
    8: b"\xf0\x9f",
    9: b"\x98\x80",
}


def pieces(token_ids: Sequence[int], *, first: bool) -> str:
    data = b"".join(p if isinstance(p, bytes) else p.encode() for p in map(PIECES.get, token_ids))  # type: ignore[union-attr]
    text = data.decode(errors="replace")
    return text.removeprefix(" ") if first else text


@pytest.mark.parametrize(
    ("text", "token_ids", "offsets"),
    [
        pytest.param("x world", [7, 3], [0, 1], id="plain"),
        pytest.param("Hello world", [2, 3], [0, 5], id="first-space-dropped"),
        pytest.param("Hello world", [1, 2, 3], [0, 0, 5], id="bos-not-in-the-text"),
        pytest.param("<s>Hello<|end|>x", [1, 2, 6, 7], [0, 3, 8, 15], id="specials-in-the-text"),
        pytest.param("x\u00fcx", [7, 4, 5, 7], [0, 1, 1, 2], id="a-character-of-two-tokens"),
        pytest.param("\U0001f600x", [8, 9, 7], [0, 0, 1], id="an-emoji"),
        pytest.param("x\u00fc", [7, 4], [0, 1], id="ends-inside-a-character"),
        pytest.param("xx  x", [7, 3, 7], [0, 1, 1], id="a-token-that-is-not-there"),
    ],
)
def test_where_tokens_begin(text: str, token_ids: list[int], offsets: list[int]) -> None:
    found = prompt_offsets(
        text,
        token_ids,
        lambda token_id: pieces([token_id], first=False),
        lambda ids: pieces(ids, first=True),
    )
    assert found == offsets
