"""From a configuration to a reward model in memory, or a reason why not."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from modelworker_api.rewards import ScoringConfig
from modelworker_api.wire import FailureReason, LoadState
from modelworker_server.errors import LoadError, WorkerError
from modelworker_server.scoring.batching import Backbone
from modelworker_server.scoring.values import CheckpointFacts, HeadKind, Scorer, Tokenizer
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.loading import (
    cache_layers,
    dtype_name,
    find_files,
    load_failure,
    longest_input,
    read_config,
)
from modelworker_server.workers.reward import internlm2
from modelworker_server.workers.reward.checkpoint import open_checkpoint
from modelworker_server.workers.reward.heads import ReadHead, labels_of
from modelworker_server.workers.reward.parts import Source, build, build_pair, other_vocabulary
from modelworker_server.workers.reward.tokens import RewardTokens, load_tokenizer
from modelworker_server.workers.tokens import Tokens

Report = Callable[[LoadState, int | None], None]

_PROBE: Final = "Step 1: 12 + 30 = 42.\n\nSo the answer is 42."
"""A text that two different tokenizers hardly cut alike."""


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
class Bound:
    """A recipe that fits a checkpoint, before the checkpoint's weights are read."""

    source: Source
    scorer: Scorer
    tokenizer: Any
    """The tokenizer of transformers; `tokens` is the same for the routes."""
    tokens: Tokens
    max_model_len: int
    """Tokens of the longest input."""


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


def load_reward(config: ModelConfig, report: Report, bind: Bind) -> LoadedReward:
    """Fetch, bind the recipe, and load; the recipe is checked before the weights are read.

    Raises:
        LoadError: with the reason and the next step.
    """
    with explained():
        return _load(config, report, bind)


@contextmanager
def explained() -> Iterator[None]:
    """Turns whatever loading ends with into a `LoadError` that says why, and what to do.

    Raises:
        LoadError: for any error of the block.
    """
    try:
        yield
    except LoadError:
        raise
    except WorkerError as error:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED, f"the recipe does not fit the model: {error.message}"
        ) from error
    except Exception as error:
        raise load_failure(error) from error


def bind_recipe(config: ModelConfig, report: Report, bind: Bind) -> Bound:
    """Fetch a checkpoint and bind the recipe to it; its weights are not read yet.

    Args:
        config: what to load; its `scoring` is given.
        report: told how far the download is.
        bind: see `recipes.bind`.

    Raises:
        LoadError: the files are not there, or the recipe does not fit them.
    """
    scoring = config.scoring
    assert scoring is not None  # noqa: S101 - what makes the configuration a reward model's
    source = _open(config, report)
    tokenizer = load_tokenizer(config, source.folder)
    tokens = Tokens(tokenizer)
    limit = longest_input(config, source.model_config, tokenizer)
    scorer = bind(scoring, facts_of(source), RewardTokens(tokenizer, tokens), max_tokens=limit)
    return Bound(source, scorer, tokenizer, tokens, limit)


def _load(config: ModelConfig, report: Report, bind: Bind) -> LoadedReward:
    bound = bind_recipe(config, report, bind)
    source, scorer, limit = bound.source, bound.scorer, bound.max_model_len
    if scorer.head.kind is HeadKind.LOG_RATIO:
        reference = _open_reference(config, report, bound)
        parts = build_pair(source, reference, tokens=len(bound.tokenizer))
    else:
        parts = build(source, scorer.head)
    return LoadedReward(
        backbones=tuple(Backbone(model, layers=layers) for model, layers in parts.models),
        head=parts.head,
        scorer=scorer,
        tokens=bound.tokens,
        revision=source.revision,
        dtype=dtype_name(parts.models[0][0]),
        max_model_len=limit,
        vocab_size=parts.models[0][0].get_input_embeddings().weight.shape[0],
    )


def _open(config: ModelConfig, report: Report) -> Source:
    folder, revision = find_files(config, report)
    checkpoint = None if config.gguf_file else open_checkpoint(folder)
    if checkpoint is not None and checkpoint.config.get("model_type") == internlm2.MODEL_TYPE:
        model_config: Any = internlm2.llama_config(checkpoint.config)
    else:
        model_config = read_config(config, folder)
    return Source(
        config=config,
        folder=folder,
        revision=revision,
        model_config=model_config,
        checkpoint=checkpoint,
        layers=cache_layers(model_config, own_code=config.trust_remote_code),
    )


def _open_reference(config: ModelConfig, report: Report, bound: Bound) -> Source:
    reference = config.scoring.reference if config.scoring else None
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
        max_model_len=bound.max_model_len,
        scoring=None,
        trust_remote_code=False,  # it was allowed for the reward model's commit alone
    )
    source = _open(other, report)
    tokenizer = load_tokenizer(other, source.folder)
    longest_input(other, source.model_config, tokenizer)
    if Tokens(tokenizer).encode(_PROBE, add_special_tokens=False) != bound.tokens.encode(
        _PROBE, add_special_tokens=False
    ):
        raise other_vocabulary("another tokenizer")
    return source


def facts_of(source: Source) -> CheckpointFacts:
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
