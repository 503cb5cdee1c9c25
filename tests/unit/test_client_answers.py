"""JSON of workers -> results."""

import base64
import pickle
import struct
from typing import Any

import pytest

from modelworker import Generation, Sample, Usage, WorkerFailed, _answers
from modelworker._answers import Answer

CHOICE = {
    "index": 0,
    "text": "ab",
    "finish_reason": "stop",
    "stop_reason": "\n",
    "token_ids": [5, 6],
    "prompt_token_ids": [1, 2, 3],
    "logprobs": {
        "tokens": ["a", "b"],
        "token_logprobs": [-1.0, -0.5],
        "top_logprobs": [{"a": -1.0}, {"b": -0.5}],
        "text_offset": [0, 1],
    },
}
BODY = {
    "model": "policy",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
CHAT_CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": "ab"},
    "finish_reason": "length",
    "token_ids": [5, 6],
    "logprobs": {
        "content": [
            {"token": "a", "logprob": -1.0, "top_logprobs": []},
            {"token": "b", "logprob": -0.5, "top_logprobs": []},
        ]
    },
}


def answer(payload: Any, **headers: str) -> Answer:
    return Answer(payload, "http://10.0.0.1:8000", **headers)


def test_completion() -> None:
    got = _answers.completion(answer(BODY, worker="pod-a", revision="rev-1", dtype="float32"), n=1)
    assert got == Generation(
        samples=(
            Sample(
                index=0,
                text="ab",
                token_ids=(5, 6),
                logprobs=(-1.0, -0.5),
                finish_reason="stop",
                stop_reason="\n",
                top_logprobs=({"a": -1.0}, {"b": -0.5}),
            ),
        ),
        prompt_token_ids=(1, 2, 3),
        usage=Usage(3, 2),
        worker="pod-a",
        model="policy",
        revision="rev-1",
        dtype="float32",
    )
    assert (got.text, got.texts, got.token_ids) == ("ab", ["ab"], (5, 6))
    assert (got.cumulative_logprobs, got.mean_logprobs) == ([-1.5], [-0.75])
    assert (got.finish_reasons, len(got), got.usage.total_tokens) == (["stop"], 1, 5)
    assert pickle.loads(pickle.dumps(got)) == got


def test_samples_come_in_index_order() -> None:
    second = {**CHOICE, "index": 1, "text": "second"}
    got = _answers.completion(answer({**BODY, "choices": [second, CHOICE]}), n=2)
    assert got.texts == ["ab", "second"]


def test_a_server_that_does_not_name_itself_is_its_url() -> None:
    assert _answers.completion(answer(BODY), n=1).worker == "http://10.0.0.1:8000"


def test_chat() -> None:
    body = {**BODY, "choices": [CHAT_CHOICE], "prompt_token_ids": [1, 2, 3]}
    got = _answers.chat(answer(body), n=1)
    assert got.prompt_token_ids == (1, 2, 3)
    assert got.samples[0].logprobs == (-1.0, -0.5)
    assert got.samples[0].top_logprobs is None
    assert got.finish_reasons == ["length"]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("<html>", id="text"),
        pytest.param(None, id="nothing"),
        pytest.param({"model": "policy"}, id="no-choices"),
        pytest.param({**BODY, "choices": []}, id="too-few-samples"),
        pytest.param({**BODY, "choices": [{**CHOICE, "index": 3}]}, id="wrong-index"),
        pytest.param({**BODY, "choices": [{**CHOICE, "token_ids": [5]}]}, id="unequal-lengths"),
        pytest.param(
            {**BODY, "choices": [{**CHOICE, "logprobs": {"token_logprobs": [None, -1.0]}}]},
            id="missing-logprob",
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_the_workers_failure(payload: Any) -> None:
    with pytest.raises(WorkerFailed, match=r"http://10\.0\.0\.1:8000 gave an answer"):
        _answers.completion(answer(payload), n=1)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 token ids but 1 logprobs"):
        Sample(0, "ab", (1, 2), (-1.0,), "stop")


def test_a_sample_without_logprobs_has_no_sums() -> None:
    sample = Sample(0, "ab", (1, 2), None, "stop")
    assert (sample.cumulative_logprob, sample.mean_logprob) == (None, None)
    assert Sample(0, "", (), (), "stop").mean_logprob is None


def test_what_a_server_leaves_out_is_none() -> None:
    left_out = ("token_ids", "prompt_token_ids", "logprobs", "stop_reason")
    choice = {name: value for name, value in CHOICE.items() if name not in left_out}
    got = _answers.completion(answer({"model": "m", "choices": [choice]}), n=1)
    assert got.samples == (Sample(0, "ab", None, None, "stop"),)
    assert (got.prompt_token_ids, got.usage, got.token_ids) == (None, Usage(None, None), None)
    assert got.usage.total_tokens is None


def test_tokens_are_counted_where_the_server_does_not() -> None:
    got = _answers.completion(answer({"model": "m", "choices": [CHOICE]}), n=1)
    assert got.usage == Usage(3, 2)


def test_logprobs_without_token_ids() -> None:
    sample = Sample(0, "ab", None, (-1.0, -0.5), "stop")
    assert (sample.cumulative_logprob, sample.mean_logprob) == (-1.5, -0.75)


@pytest.mark.parametrize(
    ("logprobs", "fits"),
    [
        pytest.param([None, -1.0, -2.0, -3.0], True, id="whole"),
        pytest.param([None, -1.0, -2.0, -3.0, -9.0], True, id="and-a-generated-token"),
        pytest.param([None, -1.0, -2.0], False, id="too-few"),
        pytest.param([None, -1.0, None, -3.0], False, id="a-hole"),
    ],
)
def test_an_echo(logprobs: list[float | None], fits: bool) -> None:
    given = {"token_logprobs": logprobs, "tokens": list("abcde")[: len(logprobs)]}
    echo = answer({"choices": [{"index": 0, "text": "", "logprobs": given}]})
    if not fits:
        with pytest.raises(WorkerFailed, match="not every token"):
            _answers.echoed(echo, prompt=2, completion=[7, 8], text=None)
        return
    sample = _answers.echoed(echo, prompt=2, completion=[7, 8], text=None)
    assert sample == Sample(0, "cd", (7, 8), (-2.0, -3.0), None)
    assert _answers.echoed(echo, prompt=2, completion=[7, 8], text="as given").text == "as given"


def test_chunks() -> None:
    event = {"choices": [{"index": 1, "text": "a", "token_ids": [5], "finish_reason": None}]}
    (part,) = _answers.completion_chunks(answer(event))
    assert (part.index, part.text, part.token_ids) == (1, "a", (5,))
    hidden = {"choices": [{"index": 0, "text": "a", "finish_reason": None}]}
    assert _answers.completion_chunks(answer(hidden))[0].token_ids is None
    ending = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    assert _answers.completion_chunks(answer(ending))[0].token_ids == ()
    opening = {"choices": [{"index": 0, "delta": {"role": "assistant"}}]}
    assert _answers.chat_chunks(answer(opening)) == []
    said = {"choices": [{"index": 0, "delta": {"content": "a"}, "token_ids": [5]}]}
    assert _answers.chat_chunks(answer(said))[0].text == "a"


def test_embeddings_as_floats_or_base64_in_order() -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.5, -0.25)).decode()
    data = [{"index": 1, "embedding": [1, 2.0]}, {"index": 0, "embedding": packed}]
    assert _answers.embeddings(answer({"data": data}), count=2) == [[0.5, -0.25], [1.0, 2.0]]
    with pytest.raises(WorkerFailed, match="1 vectors for 2 inputs"):
        _answers.embeddings(answer({"data": data[1:]}), count=2)


def test_token_count() -> None:
    assert _answers.token_count(answer({"count": 3, "max_model_len": 9, "tokens": [1]})) == 3
