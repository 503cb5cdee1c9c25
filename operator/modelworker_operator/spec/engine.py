"""What a spec says of vLLM: from the words of the CRD to those of the worker."""

from collections.abc import Collection, Mapping
from posixpath import join
from typing import Any, Final

from pydantic import ValidationError

from modelworker_api import engine, kube, rewards
from modelworker_api.adapters import Adapter
from modelworker_operator.errors import InvalidSpec
from modelworker_operator.quantities import quantity
from modelworker_operator.spec.reader import Reader
from modelworker_operator.spec.sources import folder_of, token_of
from modelworker_operator.spec.values import HuggingFaceSource, ModelSpec, VLLMSpec

BACKENDS: Final = ("Transformers", "VLLM")
LOGPROBS: Final = {"Raw": "raw_logprobs", "Processed": "processed_logprobs"}
FIELDS: Final = ("parallelism", "vllm", "lora", "sharedMemory")
"""The fields of a spec that are for backend VLLM alone."""


def engine_of(
    spec: Reader, model: ModelSpec, taken: Collection[str], *, gpus: int
) -> VLLMSpec | None:
    """How vLLM runs the model; None for another backend.

    Args:
        spec: the whole spec.
        model: what it serves.
        taken: the names that requests reach the model by, which no adapter can have.
        gpus: GPUs of one worker.

    Raises:
        InvalidSpec: a field is out of range, or is for another backend.
    """
    if spec.choice("backend", *BACKENDS) != "VLLM":
        if given := [field for field in FIELDS if spec.has(field)]:
            raise InvalidSpec(
                f"{spec.path}.{given[0]} is for backend VLLM: remove it, or set backend to VLLM"
            )
        return None
    if model.gguf_file:
        raise InvalidSpec(
            f"{spec.path}.model.ggufFile cannot be loaded with backend VLLM: remove it and name a "
            "source with safetensors, or set backend to Transformers"
        )
    config = _config(spec)
    ranks = config.tensor_parallel_size * config.pipeline_parallel_size
    if ranks > max(1, gpus):
        raise InvalidSpec(
            f"{spec.path}.parallelism needs tensor * pipeline = {ranks} GPUs, gpu.count is {gpus}; "
            f"set gpu.count to {ranks}, or lower tensor or pipeline"
        )
    tuning = spec.child("vllm")
    return VLLMSpec(
        config=config,
        development_token=token_of(tuning.child("developmentRoutes"))
        if tuning.has("developmentRoutes")
        else None,
        shared_memory=spec.quantity("sharedMemory") or (f"{ranks}Gi" if ranks > 1 else None),
        adapters=_adapters(spec.child("lora"), model, taken) if spec.has("lora") else None,
    )


def check_scoring(spec: Reader, scoring: rewards.ScoringConfig) -> None:
    """Not every reward model gives the same scores on vLLM, which has a cache of its own.

    Raises:
        InvalidSpec: the backend is VLLM and does not score like this.
    """
    if spec.choice("backend", *BACKENDS) != "VLLM":
        return
    if scoring.family not in rewards.VLLM_FAMILIES:
        raise InvalidSpec(
            f"{spec.path}.scoring.family {scoring.family} is not served exactly by backend VLLM; "
            "set backend to Transformers"
        )
    if scoring.cache_tokens:
        raise InvalidSpec(
            f"{spec.path}.scoring.cache is for backend Transformers; vLLM keeps what its KV cache "
            "holds; remove it"
        )


def _config(spec: Reader) -> engine.VLLMConfig:
    parallelism, tuning, lora = (spec.child(key) for key in ("parallelism", "vllm", "lora"))
    cache = tuning.quantity("kvCacheMemory")
    arguments = tuning.texts("extraArgs")
    if flag := engine.reserved_in(arguments):
        raise InvalidSpec(
            f"{tuning.path}.extraArgs may not hold {flag}: the worker or another field sets it, "
            "or it is unsafe in a pod; remove it"
        )
    given: Mapping[str, Any] = {
        "tensor_parallel_size": parallelism.number("tensor", 1, least=1),
        "pipeline_parallel_size": parallelism.number("pipeline", 1, least=1),
        "gpu_memory_utilization": tuning.positive("gpuMemoryUtilization"),
        "kv_cache_memory_bytes": int(quantity(cache)) if cache else None,
        "enable_prefix_caching": tuning.flag("enablePrefixCaching", default=True),
        "quantization": tuning.text("quantization"),
        "logprobs_mode": LOGPROBS[tuning.choice("logprobsMode", *LOGPROBS)],
        "max_logprobs": tuning.number("maxLogprobs", 20, least=-1),
        "enforce_eager": tuning.flag("enforceEager"),
        "tool_call_parser": tuning.text("toolCallParser"),
        "reasoning_parser": tuning.text("reasoningParser"),
        "max_lora_rank": lora.number("maxRank", 16, least=1) if spec.has("lora") else None,
        "max_loras": lora.number("maxLoaded", 4, least=1),
        "development_routes": tuning.has("developmentRoutes"),
        "extra_args": arguments,
    }
    try:
        return engine.VLLMConfig(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSpec(f"{tuning.path}: {where}: {first['msg']}; correct it") from error


def _adapters(lora: Reader, model: ModelSpec, taken: Collection[str]) -> tuple[Adapter, ...]:
    found = tuple(
        _adapter(Reader(item, f"{lora.path}.adapters[]"), model)
        for item in lora.objects("adapters")
    )
    for adapter in found:
        if adapter.name in taken:
            raise InvalidSpec(
                f"{lora.path}.adapters[].name {adapter.name!r} is a name of the model itself; "
                "give the adapter another one"
            )
    return found


def _adapter(adapter: Reader, model: ModelSpec) -> Adapter:
    name = adapter.required("name")
    if adapter.has("path") == adapter.has("huggingFace"):
        raise InvalidSpec(f"{adapter.path} needs exactly one of path and huggingFace; set one")
    if adapter.has("huggingFace"):
        hub = adapter.child("huggingFace")
        repo, revision = hub.required("repo"), hub.required("revision")
        return Adapter(name=name, source="huggingFace", location=repo, revision=revision)
    if isinstance(model.source, HuggingFaceSource):
        raise InvalidSpec(
            f"{adapter.path}.path is a folder of the model's volume, and a model of the hub has "
            "none; set huggingFace"
        )
    folder = join(kube.MODEL_DIR, folder_of(adapter)).rstrip("/")
    return Adapter(name=name, source="local", location=folder)
