"""What a worker's /metrics says -> one row of `top`. Pure."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^}]*\})?\s+(\S+)")
_RUNNING: Final = "modelworker_requests_running"
_WAITING: Final = "modelworker_requests_waiting"
_SCORED: Final = "modelworker_scored_tokens_total"
# vLLM's own count each token when it is made, the worker's when its answer is over.
_TOKENS: Final = ("vllm:generation_tokens_total", "modelworker_completion_tokens_total")
_PROMPT: Final = ("vllm:prompt_tokens_total", "modelworker_prompt_tokens_total")
_KV_CACHE: Final = ("vllm:kv_cache_usage_perc",)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a worker, at a time in seconds; tokens count from its start."""

    at: float
    running: int
    waiting: int
    kv_cache: float | None
    tokens: float
    prompt_tokens: float


@dataclass(frozen=True, slots=True)
class Usage:
    """How busy a worker is; rates are None until there are two looks."""

    running: int
    waiting: int
    kv_cache: float | None
    tokens_per_second: float | None
    prompt_tokens_per_second: float | None


def sample_of(text: str, load: str | None, at: float) -> Sample:
    """One look, from Prometheus' text format and the load header of the same answer.

    Raises:
        ValueError: if the text is not that of a worker.
    """
    found = _sums(text)
    if _RUNNING not in found:
        raise ValueError("its /metrics are not those of a worker")
    return Sample(
        at=at,
        running=int(found[_RUNNING]),
        waiting=int(found.get(_WAITING, 0)),
        kv_cache=_share(load) if load else _first(found, _KV_CACHE),
        tokens=(_first(found, _TOKENS) or 0.0) + found.get(_SCORED, 0.0),
        prompt_tokens=_first(found, _PROMPT) or 0.0,
    )


def usage_of(sample: Sample, before: Sample | None = None) -> Usage:
    """What is shown; a worker that was started again since has no rates yet."""
    rates: tuple[float | None, float | None] = (None, None)
    if before is not None and sample.at > before.at and sample.tokens >= before.tokens:
        seconds = sample.at - before.at
        rates = (
            (sample.tokens - before.tokens) / seconds,
            max(0.0, sample.prompt_tokens - before.prompt_tokens) / seconds,
        )
    return Usage(sample.running, sample.waiting, sample.kv_cache, *rates)


def _sums(text: str) -> Mapping[str, float]:
    """Each metric, summed over its labels."""
    found: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        matched = _SAMPLE.match(line)
        if matched and not line.startswith("#"):
            try:
                found[matched[1]] += float(matched[2])
            except ValueError:
                continue
    return found


def _share(load: str) -> float | None:
    """The share of the KV cache in the load header: `running waiting share`."""
    words = load.split()
    try:
        return float(words[2])
    except (IndexError, ValueError):
        return None


def _first(found: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((found[name] for name in names if name in found), None)
