"""Scored prompts over HTTP on a real engine: the numbers of transformers in every shape."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from modelworker_server.workers.base import BaseModelWorker
from tests.engine_support import config, load, running, save
from tests.server_support import client_for, events_of, state_for

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
GENERATE = "/inference/v1/generate"
PROMPT = "Grüße, 世界"


@dataclass
class Engine:
    """A loaded worker behind its routes, and the same model by transformers."""

    runner: asyncio.Runner
    worker: BaseModelWorker
    model: Any

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        async def call() -> Any:
            async with client_for(state_for(self.worker)) as client:  # type: ignore[arg-type]
                if body is None:
                    return await client.get(path)
                return await client.post(path, json=body, timeout=60)

        response = self.runner.run(call())
        assert response.status_code == 200, response.text
        if body is not None and body.get("stream"):
            *events, done = events_of(response.text)
            assert done == "[DONE]"
            return [json.loads(event) for event in events]
        return response.json()

    def rows(self, token_ids: list[int]) -> torch.Tensor:
        """Log-probabilities after each token, by transformers."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model(torch.tensor([token_ids])).logits[0]
        return logits.log_softmax(-1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = save(tmp_path_factory.mktemp("tiny"))
    with running(config(folder, max_running=4)) as (runner, worker):
        yield Engine(runner, worker, load(folder))


def values(engine: Engine, token_ids: list[int]) -> list[float]:
    """What each token from the second one on gets."""
    rows = engine.rows(token_ids)
    return [float(rows[i, token]) for i, token in enumerate(token_ids[1:])]


@pytest.mark.parametrize("tokens", [0, 1, 6], ids=str)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("as_ids", [False, True], ids=["text", "ids"])
def test_an_echo(engine: Engine, tokens: int, stream: bool, as_ids: bool) -> None:
    ids = engine.worker.encode(PROMPT)
    body = {
        "prompt": ids if as_ids else PROMPT,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "skip_special_tokens": False,
        "echo": True,
        "logprobs": 2,
        "return_token_ids": True,
        "return_tokens_as_token_ids": as_ids,
        "stream": stream,
    }
    answer = engine.ask(COMPLETIONS, body)
    choices = [event["choices"][0] for event in answer] if stream else answer["choices"]
    text = "".join(choice["text"] for choice in choices)
    generated = [token for choice in choices for token in choice["token_ids"]]
    found = {
        name: [entry for choice in choices for entry in choice["logprobs"][name]]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    }
    echo = engine.worker.decode(ids) if as_ids else PROMPT
    assert text.startswith(echo)
    assert len(generated) == tokens
    whole = ids + generated
    names = [f"token_id:{token}" if as_ids else engine.worker.token_text(token) for token in whole]
    assert found["tokens"] == names
    assert found["token_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(values(engine, whole), abs=1e-4)
    assert found["top_logprobs"][0] is None
    for row, top, name, own in zip(
        engine.rows(whole),
        found["top_logprobs"][1:],
        found["tokens"][1:],
        found["token_logprobs"][1:],
        strict=False,
    ):
        assert top[name] == own
        # By their texts, the parts of a character cannot be told apart.
        assert not as_ids or max(top.values()) == pytest.approx(float(row.max()), abs=1e-4)
    for place, token in zip(found["text_offset"], ids, strict=False):
        piece = engine.worker.token_text(token)
        assert "\ufffd" in piece or token == 1 or text.startswith(piece, place)
    assert found["text_offset"][len(ids) :][:1] == [len(echo)][:tokens]


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, GENERATE])
def test_prompt_logprobs(engine: Engine, path: str) -> None:
    user = {"role": "user", "content": PROMPT}
    sampling = {"max_tokens": 1, "prompt_logprobs": 3}
    ids = engine.worker.encode(PROMPT)
    body: dict[str, Any] = {"prompt": PROMPT, **sampling}
    if path == CHAT:
        ids = engine.ask("/tokenize", {"messages": [user]})["tokens"]
        body = {"messages": [user], **sampling}
    elif path == GENERATE:
        body = {"token_ids": ids, "sampling_params": sampling}
    answer = engine.ask(path, body)
    first, *listed = (answer["choices"][0] if path == COMPLETIONS else answer)["prompt_logprobs"]
    assert first is None
    rows = engine.rows(ids)
    for row, token, entries in zip(rows, ids[1:], listed, strict=False):
        own, *others = entries.items()
        assert own[0] == str(token), "the prompt's own token comes first"
        assert own[1]["logprob"] == pytest.approx(float(row[token]), abs=1e-4)
        assert own[1]["decoded_token"] == engine.worker.token_text(token)
        assert len(others) in {2, 3}
        best = row.topk(3).values.tolist()
        for _, entry in others:
            assert entry["logprob"] == pytest.approx(best[entry["rank"] - 1], abs=1e-4)
    assert len(listed) == len(ids) - 1


def test_tokens_in_and_out_equal_a_completion(engine: Engine) -> None:
    ids = engine.worker.encode(PROMPT)
    sampling = {"max_tokens": 12, "n": 3, "seed": 5, "logprobs": 1, "temperature": 0.8}
    tokens = engine.ask(GENERATE, {"token_ids": ids, "sampling_params": sampling})
    completion = engine.ask(
        COMPLETIONS, {"prompt": ids, "return_token_ids": True, "stream": False, **sampling}
    )
    for choice, same in zip(tokens["choices"], completion["choices"], strict=True):
        assert choice["token_ids"] == same["token_ids"]
        assert choice["finish_reason"] == same["finish_reason"]
        content = choice["logprobs"]["content"]
        assert [entry["token_id"] for entry in content] == choice["token_ids"]
        assert [entry["logprob"] for entry in content] == pytest.approx(
            same["logprobs"]["token_logprobs"], abs=1e-4
        )
    assert tokens["usage"] == completion["usage"]


def test_a_prompt_that_fills_the_context_can_be_scored(engine: Engine) -> None:
    body = {"prompt": [5] * 512, "max_tokens": 0, "echo": True, "logprobs": 0}
    (choice,) = engine.ask(COMPLETIONS, body)["choices"]
    assert len(choice["logprobs"]["tokens"]) == 512


def test_penalties_change_what_is_generated(engine: Engine) -> None:
    ids = engine.worker.encode(PROMPT)
    body = {"prompt": ids, "max_tokens": 40, "temperature": 0, "return_token_ids": True}
    texts = [
        engine.ask(COMPLETIONS, body | changes)["choices"][0]["token_ids"]
        for changes in ({}, {"presence_penalty": 2}, {"frequency_penalty": 2})
    ]
    plain, *penalised = texts
    for tokens in penalised:
        assert len(set(tokens)) / len(tokens) >= len(set(plain)) / len(plain)
    banned = engine.ask(COMPLETIONS, body | {"logit_bias": {str(plain[0]): -100}})
    assert plain[0] not in banned["choices"][0]["token_ids"]


def test_what_lm_eval_asks_before_it_scores(engine: Engine) -> None:
    info = engine.ask("/tokenizer_info")
    assert (info["eos_token"], info["bos_token"]) == ("</s>", "<s>")
    assert "<assistant>" in info["chat_template"]
    asked = engine.ask("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False})
    assert asked["tokens"] == [2]
    skipped = engine.ask("/detokenize", {"tokens": [1, 105, 2], "skip_special_tokens": True})
    kept = engine.ask("/detokenize", {"tokens": [1, 105, 2]})
    assert kept["prompt"] == f"<s>{skipped['prompt']}</s>"
