"""The flags of vLLM that a worker is started with: pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from modelworker_server.workers.base import ModelConfig

_DOMAINS: Final = "--allowed-media-domains"
_NOWHERE: Final = "nowhere.invalid"
"""A domain that cannot exist; no domain at all would mean every one."""


def serving_flags(config: ModelConfig) -> tuple[str, ...]:
    """The flags for a language model, in the words of vLLM's own parser."""
    return (*_common(config), *_frontend(config), *config.vllm.extra_args)


def pooling_flags(config: ModelConfig, pooling: Sequence[str]) -> tuple[str, ...]:
    """The flags for a reward model; `pooling` says how the engine reads its hidden states."""
    return (*_common(config), "--runner", "pooling", *pooling, *config.vllm.extra_args)


def _common(config: ModelConfig) -> Iterator[str]:
    engine = config.vllm
    yield from ("--model", config.model)
    yield from ("--served-model-name", config.name, *sorted(config.aliases))
    yield from ("--dtype", config.dtype)
    yield from ("--max-num-seqs", str(config.max_running))
    yield from ("--tensor-parallel-size", str(engine.tensor_parallel_size))
    yield from ("--pipeline-parallel-size", str(engine.pipeline_parallel_size))
    if config.revision is not None and config.source == "huggingFace":
        yield from ("--revision", config.revision, "--code-revision", config.revision)
    if config.trust_remote_code:
        yield "--trust-remote-code"
    if config.max_model_len is not None:
        yield from ("--max-model-len", str(config.max_model_len))
    if engine.gpu_memory_utilization is not None:
        yield from ("--gpu-memory-utilization", str(engine.gpu_memory_utilization))
    if engine.kv_cache_memory_bytes is not None:
        yield from ("--kv-cache-memory-bytes", str(engine.kv_cache_memory_bytes))
    yield (
        "--enable-prefix-caching" if engine.enable_prefix_caching else "--no-enable-prefix-caching"
    )
    if engine.quantization is not None:
        yield from ("--quantization", engine.quantization)
    if engine.enforce_eager:
        yield "--enforce-eager"


def _frontend(config: ModelConfig) -> Iterator[str]:
    engine = config.vllm
    yield from ("--logprobs-mode", engine.logprobs_mode)
    yield from ("--max-logprobs", str(engine.max_logprobs))
    # Token-in, token-out and the tokenizer's facts: trainers and lm-eval need them, and
    # vLLM answers 403 or 404 without these flags.
    yield "--enable-scale-out"
    yield "--enable-tokenizer-info-endpoint"
    yield "--disable-fastapi-docs"
    # What a request leaves out is OpenAI's default, not what the model's authors prefer.
    yield from ("--generation-config", "vllm")
    if not any(argument.startswith(_DOMAINS) for argument in engine.extra_args):
        # A request could make the worker fetch from inside the cluster: it fetches from nowhere.
        yield from (_DOMAINS, _NOWHERE)
    if engine.tool_call_parser is not None:
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", engine.tool_call_parser)
    if engine.reasoning_parser is not None:
        yield from ("--reasoning-parser", engine.reasoning_parser)
    if engine.max_lora_rank is not None:
        yield from ("--enable-lora", "--max-lora-rank", str(engine.max_lora_rank))
        yield from ("--max-loras", str(engine.max_loras))
