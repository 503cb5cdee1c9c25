"""Tokens per second of 8 concurrent callers of one worker, against `generate` one by one.

The baseline calls transformers' `generate` for one prompt after the other in the same run with
the same weights. The worker is called as an object in this process, and over HTTP in one of
its own. Rounds alternate, because a machine that does other work slows all of them. Every
output must equal the baseline's token for token, or the run fails.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import torch
from transformers import AutoModelForCausalLM

from _common import quick, report
from _worker import model_folder, served
from modelworker_server.workers import registry
from modelworker_server.workers.base import BaseModelWorker, ModelConfig, SamplingParams

PROMPTS = (
    "The capital of France is",
    "To bake bread you need flour, water, salt and",
    "Question: What is 12 times 12? Answer:",
    "Once upon a time there was a fox who",
    "The three primary colours are",
    "A haiku about the sea:",
    "Water boils at a temperature of",
    "The largest planet of the solar system is",
)
NO_TOKEN = -1
"""An end that never comes: every answer is as long as it may be."""
SEQUENTIAL, ONE_GENERATE = "8 generate calls, one by one", "1 generate call"
CONCURRENT, HTTP, ONE_CALLER = "8 callers at once", "8 HTTP clients at once", "1 caller"


def generate(model: Any, prompt_ids: list[int], tokens: int) -> list[int]:
    """The new tokens of one greedy call of transformers."""
    with torch.inference_mode():
        ids = torch.tensor([prompt_ids])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=NO_TOKEN,
        )
    new: list[int] = output[0, len(prompt_ids) :].tolist()
    return new


async def ask(worker: BaseModelWorker, prompt_ids: list[int], tokens: int) -> list[int]:
    """The new tokens of one greedy request."""
    params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    (sample,) = await worker.generate(prompt_ids, params)
    return list(sample.token_ids)


async def ask_http(client: httpx.AsyncClient, prompt_ids: list[int], tokens: int) -> list[int]:
    """The same over HTTP."""
    body = {
        "prompt": prompt_ids,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    response = await client.post("/v1/completions", json=body)
    response.raise_for_status()
    ids: list[int] = response.json()["choices"][0]["token_ids"]
    return ids


class Rates:
    """Tokens per second, and per second of this process's CPUs, of each thing measured."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    @contextmanager
    def measure(self, name: str, count: int) -> Iterator[None]:
        """Measure the block, which makes `count` tokens."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall.setdefault(name, []).append(count / (time.perf_counter() - wall))
        self.cpu.setdefault(name, []).append(count / (time.process_time() - cpu))


async def main() -> None:
    short = quick(__doc__)
    tokens, rounds = (24, 2) if short else (64, 3)
    folder, file = model_folder()
    worker = registry.create(
        "transformers",
        ModelConfig(
            source="local",
            model=str(folder),
            gguf_file=file,
            name="smollm2",
            created=0,
            dtype="float32",
        ),
    )
    await worker.load(lambda *_: None)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    prompts = [worker.encode(prompt) for prompt in PROMPTS]
    generate(model, prompts[0], 4)

    count = len(prompts) * tokens
    rates = Rates()
    with served(folder, file) as url:
        client = httpx.AsyncClient(base_url=url, timeout=None)
        for _ in range(rounds):
            with rates.measure(SEQUENTIAL, count):
                expected = [generate(model, prompt, tokens) for prompt in prompts]
            with rates.measure(CONCURRENT, count):
                found = await asyncio.gather(*(ask(worker, prompt, tokens) for prompt in prompts))
            with rates.measure(HTTP, count):
                over = await asyncio.gather(
                    *(ask_http(client, prompt, tokens) for prompt in prompts)
                )
            if not list(found) == list(over) == expected:
                raise SystemExit(f"outputs differ: {expected}, {found} and {over}")
            with rates.measure(ONE_GENERATE, tokens):
                generate(model, prompts[0], tokens)
            with rates.measure(ONE_CALLER, tokens):
                await ask(worker, prompts[0], tokens)
        await client.aclose()
    await worker.close()

    medians = {name: statistics.median(values) for name, values in rates.wall.items()}
    cpu = {name: statistics.median(values) for name, values in rates.cpu.items()}
    value, baseline = medians[CONCURRENT], medians[SEQUENTIAL]
    report(
        list(medians.items()),
        bench="batching",
        value=value,
        unit="tokens/s",
        baseline=baseline,
        ratio=value / baseline,
        goal=4,
        cpu_ratio=cpu[CONCURRENT] / cpu[SEQUENTIAL],
        http_ratio=medians[HTTP] / baseline,
        single_ratio=medians[ONE_CALLER] / medians[ONE_GENERATE],
        outputs_equal=True,
        new_tokens=tokens,
        rounds=rounds,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    asyncio.run(main())
