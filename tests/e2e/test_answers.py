"""What comes out of the whole path: the model's own tokens, from pods that say who they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelworker import LM, ModelWorkerError
from tests.e2e.conftest import Platform

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n",
    "Water boils at",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "1, 1, 2, 3, 5, 8,",
)
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def expected(model_folder: Path) -> dict[str, list[int]]:
    """Greedy tokens of `transformers.generate`, called directly on each prompt alone."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder, gguf_file=FILE)
    model: Any = AutoModelForCausalLM.from_pretrained(
        model_folder, gguf_file=FILE, dtype=torch.float32
    )
    found = {}
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        found[prompt] = out[0, inputs.input_ids.shape[1] :].tolist()
    return found


@pytest.fixture(scope="module")
def lm(platform: Platform, two_workers: str) -> Iterator[LM]:
    with platform.lm(two_workers) as made:
        yield made


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_alone_equals_transformers(
    lm: LM, expected: dict[str, list[int]], prompt: str
) -> None:
    answer = lm.generate(prompt, max_tokens=MAX_TOKENS, temperature=0)
    assert answer.token_ids == tuple(expected[prompt])


def test_greedy_batched_with_others_equals_transformers(
    lm: LM, expected: dict[str, list[int]]
) -> None:
    others = [f"Item {index} of a list:" * (1 + index % 5) for index in range(11)]
    mixed = [*others[:4], *PROMPTS, *others[4:]]
    answers = lm.generate(mixed, max_tokens=MAX_TOKENS, temperature=0)
    got = {prompt: answer.token_ids for prompt, answer in zip(mixed, answers, strict=True)}
    assert {prompt: got[prompt] for prompt in PROMPTS} == {
        prompt: tuple(ids) for prompt, ids in expected.items()
    }


def test_answers_say_where_they_come_from(platform: Platform, two_workers: str, lm: LM) -> None:
    answer = lm.generate(PROMPTS[0], max_tokens=4, temperature=0, logprobs=0)
    workers = {one["pod"]: one for one in platform.object(two_workers)["status"]["workers"]}
    assert answer.worker in workers
    assert answer.revision == workers[answer.worker]["revision"]
    assert answer.dtype == "float32"
    sample = answer.samples[0]
    assert sample.logprobs is not None
    assert sample.token_ids is not None
    assert len(sample.logprobs) == len(sample.token_ids) == 4
    assert sample.cumulative_logprob == pytest.approx(sum(sample.logprobs))


def test_calls_spread_over_the_workers(platform: Platform, two_workers: str, lm: LM) -> None:
    answers = lm.generate([f"{n} times two is" for n in range(16)], max_tokens=8, temperature=0)
    assert {answer.worker for answer in answers} == {
        one["pod"] for one in platform.object(two_workers)["status"]["workers"]
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"prompt": "hi " * 9000}, "maximum context length", id="over-the-context"),
        pytest.param({"prompt": "hi", "temperature": -1}, "temperature", id="temperature-1"),
        pytest.param({"prompt": "hi", "temperature": float("nan")}, "temperature", id="nan"),
        pytest.param({"prompt": "hi", "n": 0}, "n must", id="n-0"),
        pytest.param({"prompt": "hi", "stop": ""}, "stop", id="empty-stop"),
        pytest.param({"prompt": "hi", "stop": ["a", ""]}, "stop", id="empty-stop-in-list"),
        pytest.param({"prompt": ""}, "prompt", id="empty-prompt"),
        pytest.param({"prompt": [2**40]}, "token", id="token-out-of-vocabulary"),
        pytest.param({"prompt": "hi", "max_tokens": 10**9}, "max", id="max-tokens-billion"),
    ],
)
def test_bad_input_is_refused_clearly(lm: LM, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelWorkerError, match=message):
        lm.generate(**arguments)
