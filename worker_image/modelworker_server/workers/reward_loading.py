"""From a configuration to a reward model in memory, or a reason why not. No remote code runs."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModel, AutoModelForCausalLM, LlamaModel

from modelworker_api.rewards import ReferenceModel, ScoringConfig
from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import LoadError, WorkerError
from modelworker_server.scoring.batching import Backbone
from modelworker_server.scoring.values import CheckpointFacts, Head, HeadKind, Scorer, Tokenizer
from modelworker_server.workers import internlm2
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.checkpoint import WRAPPED, Checkpoint, open_checkpoint
from modelworker_server.workers.heads import (
    LanguageHead,
    LinearHead,
    LogRatioHead,
    ReadHead,
    classifier_head,
    labels_of,
    objectives_head,
    value_head,
)
from modelworker_server.workers.loading import (
    cache_layers,
    choose_device,
    choose_dtype,
    dtype_name,
    find_files,
    from_files,
    load_failure,
    load_weights,
    longest_input,
    read_config,
    unsupported,
)
from modelworker_server.workers.reward_tokens import RewardTokens, load_tokenizer
from modelworker_server.workers.tokens import Tokens

Report = Callable[[LoadState, int | None], None]

_GATE_TEMPERATURE = 10.0
"""ArmoRM's where config.json has no `gating_temperature`."""
_PROBE = "Step 1: 12 + 30 = 42.\n\nSo the answer is 42."
"""A text that two different tokenizers hardly cut alike."""
_SOME = 64
"""Tokens whose logits are compared."""
_LOGITS_DIFFER = 0.05
"""Of the largest logit: far above what rounding does, far below what a scale does."""


class Bind(Protocol):
    """Binds the recipe that a configuration asks for to a checkpoint; see `recipes.bind`."""

    def __call__(
        self,
        config: ScoringConfig,
        facts: CheckpointFacts,
        tokenizer: Tokenizer,
        /,
        *,
        max_tokens: int,
    ) -> Scorer:
        """The scorer; raises `LoadError` where the recipe does not fit the checkpoint."""


@dataclass(frozen=True, slots=True)
class LoadedReward:
    """A reward model, and what the worker must know of it."""

    backbones: tuple[Backbone, ...]
    """The transformer; of an implicit reward also the reference's."""
    head: ReadHead
    scorer: Scorer
    tokens: Tokens
    revision: str
    dtype: str
    max_model_len: int
    vocab_size: int


@dataclass(frozen=True, slots=True)
class _Source:
    """A model's files, read as far as the recipe needs them."""

    config: ModelConfig
    folder: Path
    revision: str
    model_config: Any
    checkpoint: Checkpoint | None
    """None for a GGUF file."""
    layers: int


@dataclass(frozen=True, slots=True)
class _Parts:
    """Models with their numbers of cache layers, and what reads their hidden states."""

    models: tuple[tuple[Any, int], ...]
    head: ReadHead


def load_reward(config: ModelConfig, report: Report, bind: Bind) -> LoadedReward:
    """Fetch, bind the recipe, and load; the recipe is checked before the weights are read.

    Raises:
        LoadError: with the reason and the next step.
    """
    try:
        return _load(config, report, bind)
    except LoadError:
        raise
    except WorkerError as error:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED, f"the recipe does not fit the model: {error.message}"
        ) from error
    except Exception as error:
        raise load_failure(error) from error


def _load(config: ModelConfig, report: Report, bind: Bind) -> LoadedReward:
    scoring = config.scoring
    assert scoring is not None  # noqa: S101 - what makes the configuration a reward model's
    source = _open(config, report)
    tokenizer = load_tokenizer(config, source.folder)
    tokens = Tokens(tokenizer)
    limit = longest_input(config, source.model_config, tokenizer)
    scorer = bind(scoring, facts_of(source), RewardTokens(tokenizer, tokens), max_tokens=limit)
    if scorer.head.kind is HeadKind.LOG_RATIO:
        reference = _open_reference(config, scoring.reference, report, tokens, limit)
        parts = _implicit(source, reference, tokens=len(tokenizer))
    elif scorer.head.kind in (HeadKind.CANDIDATES, HeadKind.VOCABULARY_MEAN):
        parts = _language(source, scorer.head)
    else:
        parts = _classifier(source, scorer.head)
    return LoadedReward(
        backbones=tuple(Backbone(model, layers=layers) for model, layers in parts.models),
        head=parts.head,
        scorer=scorer,
        tokens=tokens,
        revision=source.revision,
        dtype=dtype_name(parts.models[0][0]),
        max_model_len=limit,
        vocab_size=parts.models[0][0].get_input_embeddings().weight.shape[0],
    )


def _open(config: ModelConfig, report: Report) -> _Source:
    folder, revision = find_files(config, report)
    checkpoint = None if config.gguf_file else open_checkpoint(folder)
    if checkpoint is not None and checkpoint.config.get("model_type") == internlm2.MODEL_TYPE:
        model_config: Any = internlm2.llama_config(checkpoint.config)
    else:
        model_config = read_config(config, folder)
    return _Source(
        config=config,
        folder=folder,
        revision=revision,
        model_config=model_config,
        checkpoint=checkpoint,
        layers=cache_layers(model_config),
    )


def _open_reference(
    config: ModelConfig,
    reference: ReferenceModel | None,
    report: Report,
    tokens: Tokens,
    limit: int,
) -> _Source:
    if reference is None:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            "an implicit reward is the ratio of two models; set spec.scoring.reference",
        )
    other = dataclasses.replace(
        config,
        source=reference.source,
        model=reference.model,
        revision=reference.revision,
        gguf_file=reference.gguf_file,
        max_model_len=limit,
        scoring=None,
    )
    source = _open(other, report)
    tokenizer = load_tokenizer(other, source.folder)
    longest_input(other, source.model_config, tokenizer)
    if Tokens(tokenizer).encode(_PROBE, add_special_tokens=False) != tokens.encode(
        _PROBE, add_special_tokens=False
    ):
        raise _other_vocabulary("another tokenizer")
    return source


def _other_vocabulary(what: str) -> LoadError:
    return LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        f"the reference model has {what}, so its log-probabilities and the reward model's "
        "cannot be compared; set spec.scoring.reference to the model that it was trained from",
    )


def facts_of(source: _Source) -> CheckpointFacts:
    """What detection may look at."""
    checkpoint = source.checkpoint
    if checkpoint is None:
        causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(source.model_config)]
        return CheckpointFacts(
            architectures=(causal.__name__,),
            model_type=source.model_config.model_type,
            weights=frozenset({"lm_head.weight"}),
        )
    config = checkpoint.config
    return CheckpointFacts(
        architectures=tuple(config.get("architectures") or ()),
        model_type=str(config.get("model_type", "")),
        num_labels=labels_of(checkpoint),
        weights=checkpoint.names,
        mean=config.get("mean"),
        std=config.get("std"),
    )


def _implicit(source: _Source, reference: _Source, *, tokens: int) -> _Parts:
    model, own = _language_model(source)
    other, theirs = _language_model(reference)
    if len(theirs.weight) < tokens:
        raise _other_vocabulary(f"{len(theirs.weight)} tokens instead of {tokens}")
    models = ((model, source.layers), (other, reference.layers))
    return _Parts(models, LogRatioHead(own, theirs))


def _language(source: _Source, head: Head) -> _Parts:
    model, language = _language_model(source)
    models = ((model, source.layers),)
    if head.kind is HeadKind.CANDIDATES:
        return _Parts(models, LinearHead((language.rows_of(head.token_ids),), cap=language.cap))
    if language.cap is not None:
        raise unsupported("the mean over logits with a soft cap is no linear layer")
    return _Parts(models, LinearHead((language.mean(),)))


def _classifier(source: _Source, head: Head) -> _Parts:
    checkpoint = source.checkpoint
    if checkpoint is None:
        raise unsupported(f"a GGUF file holds no {head.kind} head")
    model = _base_model(source, checkpoint)
    models = ((model, source.layers),)
    hidden = source.model_config.get_text_config().hidden_size
    if head.kind is HeadKind.CLASSIFIER:
        return _Parts(models, classifier_head(checkpoint, hidden, model.device))
    if head.kind is HeadKind.VALUE:
        return _Parts(models, value_head(checkpoint, hidden, model.device))
    temperature = float(checkpoint.config.get("gating_temperature", _GATE_TEMPERATURE))
    on_top = objectives_head(checkpoint, hidden, model.device, temperature=temperature)
    return _Parts(models, on_top)


def _base_model(source: _Source, checkpoint: Checkpoint) -> Any:
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
    return load_weights(AutoModel, source.folder, **from_files(source.config), **options)


def _language_model(source: _Source) -> tuple[Any, LanguageHead]:
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
