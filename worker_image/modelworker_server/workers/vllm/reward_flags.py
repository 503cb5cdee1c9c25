"""The flags of the engine of a reward model: pure."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.loading import choose_device, choose_dtype
from modelworker_server.workers.reward.loading import Bound
from modelworker_server.workers.vllm.arguments import pooling_flags
from modelworker_server.workers.vllm.reward_heads import EngineHead, require_served


def require_usable(config: ModelConfig) -> None:
    """Refuse what is known to be wrong before a file is fetched.

    Raises:
        LoadError: the family is not served, or an option has no effect here.
    """
    assert config.scoring is not None  # noqa: S101 - what makes it a reward model's
    require_served(config.scoring.family)
    if config.gguf_file is not None:
        raise _wrong("a GGUF file is not read by this backend; use backend Transformers")
    if config.scoring.cache_tokens:
        raise _wrong(
            "spec.scoring.cache is of backend Transformers; leave it out: the engine keeps what "
            "its memory holds, unless spec.vllm.enablePrefixCaching is false"
        )
    for name in _of_language_models(config):
        raise _wrong(f"{name} is of language models and has no use here; leave it out")


def engine_flags(config: ModelConfig, bound: Bound, head: EngineHead) -> tuple[str, ...]:
    """The command line of the engine, in the words of vLLM's own parser."""
    scoring = config.scoring
    local: dict[str, Any] = {
        "source": "local",
        "model": str(bound.source.folder),
        "revision": None,
        "max_model_len": bound.max_model_len,
        "dtype": _dtype(config, bound),
    }
    pooling = [
        "--convert",
        "classify",
        # A row for each token: the recipe knows which of them it reads.
        "--pooler-config",
        json.dumps({"tok_pooling_type": "ALL"}),
        "--hf-overrides",
        json.dumps(dict(head.overrides)),
    ]
    if scoring is not None and scoring.max_batch_tokens is not None:
        pooling += ["--max-num-batched-tokens", str(scoring.max_batch_tokens)]
    return pooling_flags(replace(config, **local), pooling)


def require_untouched(config: ModelConfig, head: EngineHead, parsed: Namespace) -> None:
    """Refuse further flags that change what the recipe was bound to.

    Raises:
        LoadError: `extra_args` override the head, or the size of a batch.
    """
    wanted = config.scoring and config.scoring.max_batch_tokens
    if parsed.hf_overrides != dict(head.overrides):
        raise _wrong(
            "spec.vllm.extraArgs may not have --hf-overrides: the recipe gives the head; remove it"
        )
    if wanted is not None and parsed.max_num_batched_tokens != wanted:
        raise _wrong(
            "give --max-num-batched-tokens in spec.vllm.extraArgs or else "
            "spec.scoring.batching.maxTokens, not both"
        )


def _of_language_models(config: ModelConfig) -> Iterator[str]:
    engine = config.vllm
    if engine.max_lora_rank is not None:
        yield "spec.lora"
    if engine.tool_call_parser is not None:
        yield "spec.vllm.toolCallParser"
    if engine.reasoning_parser is not None:
        yield "spec.vllm.reasoningParser"
    if engine.development_routes:
        yield "spec.vllm.developmentRoutes"


def _dtype(config: ModelConfig, bound: Bound) -> str:
    # vLLM's own choice for a float32 checkpoint is half of its precision.
    model_config = bound.source.model_config
    chosen = choose_dtype(config, model_config, choose_device())
    return str(model_config.dtype if chosen == "auto" else chosen).removeprefix("torch.")


def _wrong(message: str) -> LoadError:
    return LoadError(FailureReason.MODEL_UNSUPPORTED, message)
