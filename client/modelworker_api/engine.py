"""How vLLM runs a model: the operator tells the worker, as JSON in MODELWORKER_VLLM."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

RESERVED_ARGS: Final = frozenset(
    {
        # The worker, or another field of the resource, sets these.
        "model", "served-model-name", "revision", "hf-token", "dtype",
        "max-model-len", "max-num-seqs", "tensor-parallel-size", "pipeline-parallel-size",
        "gpu-memory-utilization", "kv-cache-memory-bytes", "enable-prefix-caching",
        "quantization", "logprobs-mode", "max-logprobs", "enforce-eager", "enable-lora",
        "max-lora-rank", "max-loras", "lora-modules", "tool-call-parser",
        "enable-auto-tool-choice", "reasoning-parser", "runner", "convert", "pooler-config",
        # The HTTP server is the worker's own.
        "host", "port", "uds", "api-key", "root-path", "middleware", "allowed-origins",
        "allowed-methods", "allowed-headers", "allow-credentials", "ssl-keyfile",
        "ssl-certfile", "ssl-ca-certs", "ssl-cert-reqs", "ssl-ciphers", "enable-ssl-refresh",
        "uvicorn-log-level", "log-config-file", "api-server-count", "headless", "grpc",
        "grpc-port", "enable-scale-out", "enable-tokenizer-info-endpoint",
        "enable-offline-docs", "enable-request-id-headers", "tokens-only",
        # They run code, read files, or open the worker to what a request says.
        "config", "trust-remote-code", "worker-cls", "worker-extension-cls",
        "tool-parser-plugin", "reasoning-parser-plugin", "tool-server", "allowed-local-media-path",
        "trust-request-chat-template", "trust-request-mm-kwargs", "logits-processors",
        "enable-prompt-embeds", "io-processor-plugin", "hf-config-path", "download-dir",
        # One pod is one engine.
        "nnodes", "node-rank", "master-addr", "master-port", "data-parallel-size",
        "data-parallel-address", "data-parallel-rpc-port", "data-parallel-rank",
        "data-parallel-start-rank", "data-parallel-size-local", "data-parallel-backend",
        "data-parallel-external-lb", "data-parallel-hybrid-lb",
        "data-parallel-multi-port-external-lb", "distributed-executor-backend",
        "enable-elastic-ep", "enable-fault-tolerance",
    }
)  # fmt: skip
"""Flags of vLLM that `extra_args` may not hold, without their dashes."""


class VLLMConfig(BaseModel):
    """What a resource says of its engine; the model, its dtype and lengths are settings apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    pipeline_parallel_size: Annotated[int, Field(ge=1)] = 1
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the GPU's memory that the engine may use; vLLM's default if None."""
    kv_cache_memory_bytes: Annotated[int, Field(ge=1)] | None = None
    """Size of the KV cache instead of what is left over; also on a CPU."""
    enable_prefix_caching: bool = True
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")] | None = None
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = "raw_logprobs"
    """Before (OpenR) or after (TRL) temperature and the other sampling parameters."""
    max_logprobs: Annotated[int, Field(ge=-1)] = 20
    """Most alternatives that a request may ask for; -1: the whole vocabulary."""
    enforce_eager: bool = False
    tool_call_parser: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    reasoning_parser: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    max_lora_rank: Annotated[int, Field(ge=1)] | None = None
    """Adapters can be loaded if it is set."""
    max_loras: Annotated[int, Field(ge=1)] = 4
    """Adapters that one batch may mix."""
    development_routes: bool = False
    """vLLM's routes to pause, sleep and update weights; MODELWORKER_DEVELOPMENT_TOKEN is theirs."""
    extra_args: tuple[Annotated[str, Field(max_length=4096)], ...] = ()
    """Further flags of vLLM as a command line has them; see `RESERVED_ARGS`."""


def reserved_in(extra_args: tuple[str, ...]) -> str | None:
    """The first flag that may not be there, with its dashes; None if there is none.

    vLLM takes `-` and `_` alike, `--flag=value`, dotted JSON keys (`--flag.key`), and the
    beginning of a long flag where it is unambiguous, so each of these is looked at.
    """
    for argument in extra_args:
        if not argument.startswith("-") or argument.lstrip("-")[:1].isdigit():
            continue
        flag = argument.split("=", 1)[0].split(".", 1)[0].lstrip("-").replace("_", "-")
        positive = flag.removeprefix("no-")
        if not positive or any(name.startswith(positive) for name in RESERVED_ARGS):
            return argument.split("=", 1)[0]
        if not argument.startswith("--"):
            return argument
    return None
