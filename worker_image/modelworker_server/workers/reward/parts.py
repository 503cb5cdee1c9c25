"""A reward model's transformers and head, from the files of its checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import MODEL_MAPPING, AutoModel, AutoModelForCausalLM, LlamaModel

from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring.values import Head, HeadKind
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.loading import (
    choose_device,
    choose_dtype,
    from_files,
    load_weights,
    unsupported,
)
from modelworker_server.workers.reward import internlm2
from modelworker_server.workers.reward.checkpoint import WRAPPED, Checkpoint
from modelworker_server.workers.reward.heads import (
    LanguageHead,
    LinearHead,
    LogRatioHead,
    ReadHead,
    classifier_head,
    objectives_head,
    value_head,
)

_GATE_TEMPERATURE: Final = 10.0
"""ArmoRM's where config.json has no `gating_temperature`."""
_SOME: Final = 64
"""Tokens whose logits are compared."""
_LOGITS_DIFFER: Final = 0.05
"""Of the largest logit: far above what rounding does, far below what a scale does."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files, read as far as the recipe needs them."""

    config: ModelConfig
    folder: Path
    revision: str
    model_config: Any
    checkpoint: Checkpoint | None
    """None for a GGUF file."""
    layers: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Models with their numbers of cache layers, and what reads their hidden states."""

    models: tuple[tuple[Any, int], ...]
    head: ReadHead


def build(source: Source, head: Head) -> Parts:
    """The transformer and the head of a recipe that reads one model.

    Raises:
        LoadError: the checkpoint has no such head, or a tensor is missing or does not fit.
    """
    if head.kind in (HeadKind.CANDIDATES, HeadKind.VOCABULARY_MEAN):
        return _language(source, head)
    return _classifier(source, head)


def build_pair(source: Source, reference: Source, *, tokens: int) -> Parts:
    """The two transformers and the head of an implicit reward.

    Args:
        source: the reward model.
        reference: the model that it is compared with.
        tokens: size of the tokenizer.

    Raises:
        LoadError: a tensor is missing or does not fit, or the reference knows fewer tokens.
    """
    model, own = _language_model(source)
    other, theirs = _language_model(reference)
    if len(theirs.weight) < tokens:
        raise other_vocabulary(f"{len(theirs.weight)} tokens instead of {tokens}")
    models = ((model, source.layers), (other, reference.layers))
    return Parts(models, LogRatioHead(own, theirs))


def _language(source: Source, head: Head) -> Parts:
    model, language = _language_model(source)
    models = ((model, source.layers),)
    if head.kind is HeadKind.CANDIDATES:
        return Parts(models, LinearHead((language.rows_of(head.token_ids),), cap=language.cap))
    if language.cap is not None:
        raise unsupported("the mean over logits with a soft cap is no linear layer")
    return Parts(models, LinearHead((language.mean(),)))


def _classifier(source: Source, head: Head) -> Parts:
    checkpoint = source.checkpoint
    if checkpoint is None:
        raise unsupported(f"a GGUF file holds no {head.kind} head")
    model = _base_model(source, checkpoint)
    models = ((model, source.layers),)
    hidden = source.model_config.get_text_config().hidden_size
    if head.kind is HeadKind.CLASSIFIER:
        return Parts(models, classifier_head(checkpoint, hidden, model.device))
    if head.kind is HeadKind.VALUE:
        return Parts(models, value_head(checkpoint, hidden, model.device))
    temperature = float(checkpoint.config.get("gating_temperature", _GATE_TEMPERATURE))
    on_top = objectives_head(checkpoint, hidden, model.device, temperature=temperature)
    return Parts(models, on_top)


def _base_model(source: Source, checkpoint: Checkpoint) -> Any:
    device = choose_device()
    options: dict[str, Any] = {
        "config": source.model_config,
        "dtype": choose_dtype(source.config, source.model_config, device),
    }
    if checkpoint.config.get("model_type") == internlm2.MODEL_TYPE:
        tensors = internlm2.llama_tensors(checkpoint, source.model_config)
        return load_weights(LlamaModel, None, state_dict=tensors, **options)
    if checkpoint.wrapped:
        options["key_mapping"] = {f"^{WRAPPED}": ""}
    files = from_files(source.config)
    if type(source.model_config) in MODEL_MAPPING:
        # Code of the repository would be the model with its head, which is read apart.
        files["trust_remote_code"] = False
    return load_weights(AutoModel, source.folder, **files, **options)


def _language_model(source: Source) -> tuple[Any, LanguageHead]:
    """The base model and the language model's head."""
    options = from_files(source.config)
    if checkpoint := source.checkpoint:
        if checkpoint.config.get("model_type") == internlm2.MODEL_TYPE:
            raise unsupported("of internlm2 only the reward models are known, not the others")
        if checkpoint.wrapped:
            options["key_mapping"] = {f"^{WRAPPED}": ""}
    model = load_weights(
        AutoModelForCausalLM,
        source.folder,
        **options,
        dtype=choose_dtype(source.config, source.model_config, choose_device()),
    )
    layer = model.get_output_embeddings()
    cap = getattr(source.model_config.get_text_config(), "final_logit_softcapping", None)
    language = LanguageHead(weight=layer.weight.detach(), bias=_detached(layer.bias), cap=cap)
    _check_logits(model, language)
    return model.base_model, language


def _check_logits(model: Any, language: LanguageHead) -> None:
    """Check that the logits are a linear layer's; some models scale them besides."""
    some = torch.linspace(0, len(language.weight) - 1, _SOME, dtype=torch.long).tolist()
    ids = torch.tensor([some[:4]], device=model.device)
    with torch.inference_mode():
        wanted = model(input_ids=ids, use_cache=False).logits[0, :, some].float()
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        head = LinearHead((language.rows_of(some),), cap=language.cap)
        difference = (head([states], ids[0]) - wanted).abs().max()
    if difference > _LOGITS_DIFFER * wanted.abs().max():
        raise unsupported("its logits are more than a linear layer over its hidden states")


def _detached(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.detach()


def other_vocabulary(what: str) -> LoadError:
    """The `LoadError` of a reference model that does not go with the reward model."""
    return LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        f"the reference model has {what}, so its log-probabilities and the reward model's "
        "cannot be compared; set spec.scoring.reference to the model that it was trained from",
    )
