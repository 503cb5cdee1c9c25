"""What the benchmarks of vLLM share: its settings, and what its metrics say."""

import json
import re

import httpx

from _worker import safetensors_folder

MAX_MODEL_LEN = 2048
KV_CACHE_BYTES = 2**30
MAX_RUNNING = 64


def worker_flags(**engine: object) -> list[str]:
    """Our worker's flags for SmolLM2 on vLLM in float32; `engine` goes into --vllm."""
    settings = {"kv_cache_memory_bytes": KV_CACHE_BYTES, "enforce_eager": True, **engine}
    return [
        *("--backend", "vllm", "--model", str(safetensors_folder()), "--dtype", "float32"),
        *("--max-model-len", str(MAX_MODEL_LEN), "--max-running", str(MAX_RUNNING)),
        *("--vllm", json.dumps(settings)),
    ]


def prefix_cache(url: str) -> tuple[float, ...]:
    """Prompt tokens that a worker's engine looked up in its prefix cache, and that it found."""
    text = httpx.get(f"{url}/metrics").text
    counters = re.findall(r"^vllm:prefix_cache_(\w+)_total{.*} (\S+)$", text, re.MULTILINE)
    return tuple(
        sum(float(value) for name, value in counters if name == what)
        for what in ("queries", "hits")
    )
