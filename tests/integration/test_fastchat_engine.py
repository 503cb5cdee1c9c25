"""FastChat's worker protocol on a real engine: the same answers as by OpenAI's API."""

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from modelworker_server.workers.base import BaseModelWorker
from tests.engine_support import config, running, save
from tests.fastchat_support import (
    COUNT,
    DETAILS,
    EMBEDDINGS,
    GENERATE,
    STATUS,
    STREAM,
    TEMPLATE,
    failed,
)
from tests.server_support import client_for, state_for

COMPLETIONS = "/v1/completions"
PROMPT = "The quick brown fox"


@dataclass
class Engine:
    """A loaded worker behind its routes, all in one process."""

    runner: asyncio.Runner
    worker: BaseModelWorker

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        async def call() -> httpx.Response:
            async with client_for(state_for(self.worker)) as client:  # type: ignore[arg-type]
                return await client.post(path, json=body, timeout=60)

        response = self.runner.run(call())
        assert response.status_code == 200, response.text
        return response

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.post(path, body).json()

    def frames(self, body: dict[str, Any]) -> list[Any]:
        content = self.post(STREAM, body).content
        return [json.loads(frame) for frame in content.split(b"\0")[:-1]]

    def completion(self, **fields: Any) -> Any:
        """The choice that OpenAI's API gives, greedy."""
        body = {"prompt": PROMPT, "temperature": 0, "logprobs": 0, "return_token_ids": True}
        return self.ask(COMPLETIONS, {**body, **fields})["choices"][0]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = save(tmp_path_factory.mktemp("tiny"))
    with running(config(folder, max_running=4)) as (runner, worker):
        yield Engine(runner, worker)


def greedy(**fields: Any) -> dict[str, Any]:
    return {"prompt": PROMPT, "temperature": 0, "echo": False, "max_new_tokens": 12, **fields}


def test_openrs_numbers_are_those_of_openais_api(engine: Engine) -> None:
    choice = engine.completion(max_tokens=12)
    answer = engine.ask(GENERATE, greedy(n=1))
    assert answer["text"] == [choice["text"]]
    assert answer["output_token_len"] == [len(choice["token_ids"])] == [12]
    assert answer["cumulative_logprob"] == [
        pytest.approx(sum(choice["logprobs"]["token_logprobs"]), abs=1e-4)
    ]
    assert answer["finish_reason"] == ["length"]
    assert answer["usage"] == {
        "prompt_tokens": len(choice["prompt_token_ids"]),
        "completion_tokens": 12,
        "total_tokens": len(choice["prompt_token_ids"]) + 12,
    }


@pytest.mark.parametrize("shape", [{}, {"n": 1}], ids=["fastchat", "openr"])
def test_the_last_frame_is_the_whole_answer(engine: Engine, shape: dict[str, Any]) -> None:
    whole = engine.ask(GENERATE, greedy(**shape))
    *earlier, last = engine.frames(greedy(**shape))
    if shape:
        assert last.pop("cumulative_logprob") == [
            pytest.approx(whole.pop("cumulative_logprob")[0], abs=1e-4)
        ]
    assert last == whole
    assert len(earlier) >= 3


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
def test_a_stop_string_ends_with_stop(engine: Engine, kept: bool) -> None:
    text = engine.completion(max_tokens=12)["text"]
    stop = text[4:6]
    end = text.index(stop) + (len(stop) if kept else 0)
    answer = engine.ask(GENERATE, greedy(stop=[stop], include_stop_str_in_output=kept))
    assert answer["text"] == [text[:end]]
    assert answer["finish_reason"] == ["stop"]
    assert engine.frames(greedy(stop=[stop]))[-1]["finish_reason"] == "stop"


def test_a_stop_id_ends_with_stop_too(engine: Engine) -> None:
    ids = engine.completion(max_tokens=12)["token_ids"]
    answer = engine.ask(GENERATE, greedy(stop_token_ids=[ids[3]], n=1))
    assert answer["finish_reason"] == ["stop"]
    assert answer["output_token_len"] == [ids.index(ids[3]) + 1]


def test_samples_differ_and_each_has_its_numbers(engine: Engine) -> None:
    answer = engine.ask(GENERATE, {**greedy(n=5), "temperature": 1.0})
    assert len(set(answer["text"])) > 1
    assert all(value < 0 for value in answer["cumulative_logprob"])
    assert answer["usage"]["completion_tokens"] == sum(answer["output_token_len"])


def test_the_whole_context_may_be_asked_for(engine: Engine) -> None:
    length = engine.ask(DETAILS)["context_length"]
    count = engine.ask(COUNT, {"prompt": PROMPT})["count"]
    answer = engine.ask(GENERATE, {**greedy(max_new_tokens=10**6), "temperature": 1.0})
    assert answer["error_code"] == 0
    assert answer["usage"]["total_tokens"] <= length
    full = {**greedy(), "prompt": "x" * (length - 1)}
    assert failed(engine.ask(GENERATE, full)) == 40303
    assert count == len(PROMPT) + 1, "BOS is counted"


def test_a_prompt_that_was_written_with_bos_gets_no_second_one(engine: Engine) -> None:
    plain = engine.ask(GENERATE, greedy())
    written = engine.ask(GENERATE, {**greedy(), "prompt": f"<s>{PROMPT}"})
    assert written == plain


def test_penalties_change_the_answer(engine: Engine) -> None:
    plain = engine.ask(GENERATE, greedy(max_new_tokens=40))["text"]
    for name in ("presence_penalty", "frequency_penalty"):
        assert engine.ask(GENERATE, greedy(max_new_tokens=40, **{name: 2.0}))["text"] != plain


def test_embeddings_have_length_1(engine: Engine) -> None:
    answer = engine.ask(EMBEDDINGS, {"input": ["one", "another"]})
    assert [math.hypot(*vector) for vector in answer["embedding"]] == [
        pytest.approx(1, abs=1e-5)
    ] * 2
    assert answer["token_num"] == len("oneanother") + 2


def test_the_model_tells_of_itself(engine: Engine) -> None:
    assert engine.ask(STATUS) == {"model_names": ["tiny"], "speed": 1, "queue_length": 0}
    assert engine.ask(TEMPLATE)["conv"]["name"] == "one_shot"
