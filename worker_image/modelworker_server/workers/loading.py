"""From a configuration to a model in memory, or a reason why not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import LoadError
from modelworker_server.workers.attention import use_grouped_sdpa
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.code import brings_code, commit_of, not_run, require_own
from modelworker_server.workers.files import fingerprint, locate
from modelworker_server.workers.hub import fetch
from modelworker_server.workers.linear import use_few_rows_linear
from modelworker_server.workers.runner import one_line, out_of_memory

_CAUSAL = AutoModelForCausalLM.__name__
_UNLIMITED = 10**6
"""Tokenizers that know no maximum name a number far above this."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and its tokenizer, and what the engine must know of them."""

    model: Any
    tokenizer: Any
    revision: str
    dtype: str
    max_model_len: int
    vocab_size: int
    layers: int
    eos_ids: frozenset[int]


def load_model(config: ModelConfig, report: Callable[[LoadState, int | None], None]) -> Loaded:
    """Fetch, check and load.

    Raises:
        LoadError: with the reason and the next step.
    """
    try:
        folder, revision = find_files(config, report)
        return _load(config, folder, revision)
    except LoadError:
        raise
    except Exception as error:
        raise load_failure(error) from error


def find_files(
    config: ModelConfig, report: Callable[[LoadState, int | None], None]
) -> tuple[Path, str]:
    """The folder of a model, downloaded if need be, and its revision.

    Raises:
        LoadError: with the reason and the next step.
    """
    if config.source == "huggingFace":
        report(LoadState.DOWNLOADING, 0)
        folder, revision = fetch(config, lambda p: report(LoadState.DOWNLOADING, p))
        if config.trust_remote_code:
            require_own(folder)
        report(LoadState.LOADING, None)
        return folder, revision
    report(LoadState.LOADING, None)
    folder = locate(config.model, config.gguf_file)
    return folder, fingerprint(folder, config.gguf_file)


def load_failure(error: BaseException) -> LoadError:
    """The `LoadError` of an error that says no more than that it did not work."""
    if out_of_memory(error):
        return LoadError(
            FailureReason.INSUFFICIENT_MEMORY,
            f"the model does not fit into memory ({one_line(error)}); give the worker more, or "
            "choose a smaller dtype or maxModelLen",
        )
    return LoadError(
        FailureReason.LOAD_FAILED,
        f"loading failed: {one_line(error)}; check that the files are complete",
    )


def _load(config: ModelConfig, folder: Path, revision: str) -> Loaded:
    model_config = read_config(config, folder)
    layers = cache_layers(model_config, own_code=config.trust_remote_code)
    tokenizer = read_tokenizer(config, folder)
    max_model_len = longest_input(config, model_config, tokenizer)
    model = load_weights(
        AutoModelForCausalLM,
        folder,
        **from_files(config),
        dtype=choose_dtype(config, model_config, choose_device()),
    )
    use_grouped_sdpa(model)
    use_few_rows_linear(model)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        revision=revision,
        dtype=dtype_name(model),
        max_model_len=max_model_len,
        vocab_size=model.get_input_embeddings().weight.shape[0],
        layers=layers,
        eos_ids=_eos_ids(model, tokenizer),
    )


def from_files(config: ModelConfig) -> dict[str, Any]:
    """Arguments of `from_pretrained` that read a folder's files, and run no code but allowed."""
    files: dict[str, Any] = {
        "trust_remote_code": config.trust_remote_code,
        "local_files_only": True,
    }
    if config.gguf_file is not None:
        files["gguf_file"] = config.gguf_file
    return files


def read_config(config: ModelConfig, folder: Path) -> Any:
    """The configuration of transformers for a folder.

    Raises:
        LoadError: ModelUnsupported for an architecture that transformers does not know.
    """
    try:
        return AutoConfig.from_pretrained(folder, **from_files(config))
    except (ValueError, KeyError) as error:
        # A damaged GGUF file raises the same types as one of an unknown architecture.
        if config.gguf_file is not None and "not supported" not in str(error):
            raise
        if brings_code(folder) and not config.trust_remote_code:
            raise not_run(commit_of(config, folder)) from error
        raise unsupported(one_line(error)) from error


def read_tokenizer(config: ModelConfig, folder: Path) -> Any:
    """The tokenizer of transformers for a folder.

    Raises:
        LoadError: ModelUnsupported for one that is code of the repository.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, **from_files(config))
    except ValueError as error:
        if brings_code(folder) and not config.trust_remote_code:
            raise not_run(commit_of(config, folder)) from error
        raise


def load_weights(auto: Any, source: Path | None, **options: Any) -> Any:
    """A model for inference on the device.

    Args:
        auto: one of transformers' auto classes.
        source: the folder; None where `options` have the tensors.
        options: what else `from_pretrained` takes.

    Raises:
        LoadError: some of the model's weights are missing, or of another shape.
    """
    if choose_device().type == "cuda":
        options["device_map"] = {"": 0}
    model, found = auto.from_pretrained(
        source,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused below, by name
        **options,
    )
    if wrong := sorted(found["mismatched_keys"]):
        name, there, wanted = wrong[0]
        raise LoadError(
            FailureReason.LOAD_FAILED,
            f"{len(wrong)} of the checkpoint's weights have another shape than its config.json "
            f"says, such as {name}: {tuple(there)} instead of {tuple(wanted)}",
        )
    if missing := sorted(found["missing_keys"]):
        raise LoadError(
            FailureReason.LOAD_FAILED,
            f"the checkpoint lacks {len(missing)} of the model's weights, such as {missing[0]}; "
            "it is incomplete or of another model than its config.json says",
        )
    if getattr(model, "_is_stateful", False):
        raise unsupported(f"{model.config.model_type} keeps a recurrent state")
    return model.eval()


def choose_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_name(model: Any) -> str:
    """The dtype that a model was loaded in, such as `bfloat16`."""
    return str(model.dtype).removeprefix("torch.")


def cache_layers(model_config: Any, *, own_code: bool = False) -> int:
    """The number of cache layers of a model whose rows can be batched.

    Args:
        model_config: transformers' configuration of it.
        own_code: whether its repository may bring the model's class along.

    Raises:
        LoadError: ModelUnsupported for any other model.
    """
    kind = model_config.model_type
    if model_config.is_encoder_decoder:
        raise unsupported(f"{kind} is an encoder-decoder model")
    brought = own_code and _CAUSAL in (getattr(model_config, "auto_map", None) or {})
    known = type(model_config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if not known and not brought:
        raise unsupported(f"{kind} is no causal language model")
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(model_config)] if known else None
    layers = DynamicCache(config=model_config).layers
    simple = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    if not simple or getattr(model_class, "_is_stateful", False):
        raise unsupported(f"{kind} keeps a recurrent state, which cannot be padded")
    return len(layers)


def unsupported(why: str) -> LoadError:
    """The `LoadError` of a model that transformers, or this worker, cannot run."""
    return LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        f"this worker cannot run the model: {why}; it runs decoder-only models with an "
        "attention cache that the installed transformers knows",
    )


def longest_input(config: ModelConfig, model_config: Any, tokenizer: Any) -> int:
    """Tokens of the longest input, prompt and answer together.

    Raises:
        LoadError: the configuration asks for more than the model can, or nobody says it.
    """
    limit = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    if limit is None and tokenizer.model_max_length < _UNLIMITED:
        limit = tokenizer.model_max_length
    if config.max_model_len is None:
        if limit is None:
            raise LoadError(
                FailureReason.MODEL_UNSUPPORTED,
                "the model does not say how long its context is; set maxModelLen",
            )
        return int(limit)
    if limit is not None and config.max_model_len > limit:
        raise LoadError(
            FailureReason.MODEL_TOO_LONG,
            f"maxModelLen {config.max_model_len} is above the model's {limit} tokens; set "
            f"{limit} at most",
        )
    return config.max_model_len


def choose_dtype(config: ModelConfig, model_config: Any, device: torch.device) -> Any:
    """What to give `from_pretrained` as the dtype."""
    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    if config.gguf_file is None and model_config.dtype is not None:
        return "auto"
    # A GGUF file's own format is unpacked, whatever it was.
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids if isinstance(ids, list) else [ids])
