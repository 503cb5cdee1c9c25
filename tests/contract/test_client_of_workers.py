"""LM against the worker's own HTTP face: search, scoring, and the same answer by both ways."""

from collections.abc import Iterator
from typing import Any

import pytest

from modelworker import LM, Beam
from modelworker.integrations.openr import OpenRLM
from tests.fake_worker import FakeWorker, text_of
from tests.server_support import Running, running_server

HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
CHAT = "user:hi"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(FakeWorker()) as running:
        yield running


@pytest.fixture(scope="module")
def lm(server: Running) -> Iterator[LM]:
    with LM("policy", endpoints=[server.url]) as client:
        yield client


def test_a_step_of_a_conversation_and_of_a_text(lm: LM) -> None:
    roots = [Beam.start(HI), Beam.start("ab")]
    chat, text = lm.step(roots, n=2, max_tokens=3)
    assert [beam.text for beam in chat] == [text_of(CHAT, index, 3) for index in range(2)]
    assert [beam.text for beam in text] == [text_of("ab", index, 3) for index in range(2)]
    assert chat[0].prompt_token_ids == tuple(CHAT.encode())
    assert (chat[0].token_ids, chat[0].logprobs) == (
        tuple(text_of(CHAT, 0, 3).encode()),
        (-0.5, -1.0, -1.5),
    )
    assert (chat[0].done, chat[0].finish_reason) == (True, "length")


def test_log_probabilities_of_given_continuations(lm: LM) -> None:
    text, ids = lm.logprobs(["ab", "x"], ["cde", [102]])
    assert (text.text, text.token_ids) == ("cde", (99, 100, 101))
    assert (ids.text, ids.token_ids) == ("f", (102,))
    for sample in (text, ids):
        assert sample.logprobs is not None
        assert all(value < 0 for value in sample.logprobs)


def test_openrs_call(lm: LM) -> None:
    class Config:
        n = 2
        temperature = 1.0
        top_p = 1.0
        top_k = -1
        max_new_tokens = 3
        stop_token_ids = None
        stop_str = None
        include_stop_str_in_output = False

    got = OpenRLM(lm)("ab", Config())  # type: ignore[arg-type]
    assert got.text == [text_of("ab", index, 3) for index in range(2)]
    assert (got.prompt_tokens, got.num_tokens, got.completion_tokens) == (2, [3, 3], 6)
    assert (got.cumulative_logprob, got.logp_avg_by_len) == ([-3.0, -3.0], [-1.0, -1.0])


def test_the_same_answer_by_openais_api(server: Running, lm: LM) -> None:
    other = LM("policy", base_url=f"{server.url}/v1", api_key="none")
    with other:
        ours = lm.chat(HI, n=2, max_tokens=4, logprobs=1)
        theirs = other.chat(HI, n=2, max_tokens=4, logprobs=1, extra={"return_token_ids": True})
        assert theirs.samples == ours.samples
        assert (theirs.prompt_token_ids, theirs.usage) == (ours.prompt_token_ids, ours.usage)
        plain = other.generate("ab", max_tokens=4).samples[0]
        assert (plain.text, plain.token_ids, plain.logprobs) == (text_of("ab", 0, 4), None, None)
        streamed = "".join(part.text for part in other.stream_chat(HI, max_tokens=4))
        assert streamed == ours.text
