"""Tokens per second through our vLLM worker against vLLM's own API server.

Both run the same engine with the same flags and the same weights (SmolLM2, float32), as two
processes on this machine; rounds alternate, and only one of them works at a time. Every way
of asking is measured on both: completions of one sample, of 16 samples, streams, and FastChat's
route of the worker against completions of the server. Greedy answers must be equal, or the run
fails. `ratio` is the lowest of the four.
"""

import asyncio
import json
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from _common import quick, report
from _vllm import KV_CACHE_BYTES, MAX_MODEL_LEN, MAX_RUNNING, worker_flags
from _worker import safetensors_folder, server, worker
from modelworker_api.engine import VLLMConfig
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.vllm.arguments import serving_flags

NAME = "smollm2"
PROMPTS = [
    f"{topic}, told by {who}:"
    for topic in ("A short history of bread", "How the tide works", "The rules of chess")
    for who in ("a child", "a poet", "a judge", "a cook")
]
SAMPLES = 16
Texts = list[str]
Ask = Callable[[httpx.AsyncClient, int], Awaitable[Texts]]
"""Sends the work of one round, answers of so many tokens; the greedy texts."""


def body(prompt: str, tokens: int, **more: object) -> dict[str, Any]:
    """A completion request whose answer has exactly so many tokens."""
    fixed = {"model": NAME, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    return {**fixed, "temperature": 0, **more}


async def completions(client: httpx.AsyncClient, tokens: int) -> Texts:
    """All prompts at once, one sample each."""
    return await _completions(client, [body(prompt, tokens) for prompt in PROMPTS])


async def stopping(client: httpx.AsyncClient, tokens: int) -> Texts:
    """The same, but an answer may end before its last token, as by FastChat's route."""
    return await _completions(
        client, [body(prompt, tokens, ignore_eos=False) for prompt in PROMPTS]
    )


async def _completions(client: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> Texts:
    async def one(asked: dict[str, Any]) -> str:
        answer = await client.post("/v1/completions", json=asked)
        return str(answer.raise_for_status().json()["choices"][0]["text"])

    return list(await asyncio.gather(*map(one, bodies)))


async def samples(client: httpx.AsyncClient, tokens: int) -> Texts:
    """One prompt, 16 samples: as many tokens as 16 prompts."""
    asked = body(PROMPTS[0], tokens, n=SAMPLES, temperature=1, seed=7)
    answer = await client.post("/v1/completions", json=asked)
    if len(answer.raise_for_status().json()["choices"]) != SAMPLES:
        raise SystemExit(f"not {SAMPLES} samples: {answer.text[:500]}")
    return []


async def streams(client: httpx.AsyncClient, tokens: int) -> Texts:
    """All prompts at once, each read event by event."""

    async def one(prompt: str) -> str:
        text = ""
        request = client.stream("POST", "/v1/completions", json=body(prompt, tokens, stream=True))
        async with request as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
        return text

    return list(await asyncio.gather(*map(one, PROMPTS)))


async def fastchat(client: httpx.AsyncClient, tokens: int) -> Texts:
    """All prompts at once by FastChat's route; its answers stop at the end of the text."""

    async def one(prompt: str) -> str:
        asked = {"model": NAME, "prompt": prompt, "max_new_tokens": tokens, "temperature": 0}
        asked |= {"n": 1, "echo": False}
        answer = await client.post("/worker_generate", json=asked)
        found = answer.raise_for_status().json()
        if found.get("error_code"):
            raise SystemExit(f"/worker_generate: {found}")
        return str(found["text"][0])

    return list(await asyncio.gather(*map(one, PROMPTS)))


WAYS: dict[str, tuple[Ask, Ask, int]] = {
    # What is asked of the worker, of vLLM's server, and how many answers it makes.
    "completions, n=1": (completions, completions, len(PROMPTS)),
    "completions, n=16": (samples, samples, SAMPLES),
    "streams": (streams, streams, len(PROMPTS)),
    "FastChat": (fastchat, stopping, len(PROMPTS)),
}


def baseline_command(port: int) -> list[str]:
    """vLLM's own server with the flags that our worker gives its engine."""
    engine = VLLMConfig(kv_cache_memory_bytes=KV_CACHE_BYTES, enforce_eager=True)
    config = ModelConfig(
        source="local",
        model=str(safetensors_folder()),
        name=NAME,
        created=0,
        dtype="float32",
        max_model_len=MAX_MODEL_LEN,
        max_running=MAX_RUNNING,
        vllm=engine,
    )
    module = "vllm.entrypoints.launchers.api_server.entry"
    where = ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    return [sys.executable, "-m", module, *serving_flags(config), *where]


async def measure(ours: str, theirs: str, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Tokens per second of each way on each side, round by round."""
    rates: dict[str, list[float]] = {}
    async with (
        httpx.AsyncClient(base_url=ours, timeout=None) as worker_client,
        httpx.AsyncClient(base_url=theirs, timeout=None) as server_client,
    ):
        for round_ in range(rounds + 1):  # the first warms both up
            for way, (of_worker, of_server, answers) in WAYS.items():
                sides = [("worker", worker_client, of_worker), ("vLLM", server_client, of_server)]
                texts = []
                for side, client, ask in sides if round_ % 2 else reversed(sides):
                    began = time.perf_counter()
                    texts.append(await ask(client, tokens))
                    if round_:
                        rate = answers * tokens / (time.perf_counter() - began)
                        rates.setdefault(f"{way}: {side}", []).append(rate)
                if texts[0] != texts[1]:
                    raise SystemExit(f"{way}: answers differ: {texts[0]} and {texts[1]}")
    return rates


def main() -> None:
    short = quick(__doc__)
    tokens, rounds = (24, 4) if short else (48, 10)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listening = r"Starting vLLM server on (http://\S+\d)"
    with (
        worker("--name", NAME, *worker_flags()) as ours,
        server(baseline_command(port), listening=listening, ready="/health") as theirs,
    ):
        rates = asyncio.run(measure(ours, theirs, tokens, rounds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {way: medians[f"{way}: worker"] / medians[f"{way}: vLLM"] for way in WAYS}
    worst = min(ratios, key=lambda way: ratios[way])
    report(
        list(medians.items()),
        bench="vllm_throughput",
        value=medians[f"{worst}: worker"],
        unit="tokens/s",
        baseline=medians[f"{worst}: vLLM"],
        ratio=ratios[worst],
        goal=0.98,
        ratios=ratios,
        tokens=tokens,
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
