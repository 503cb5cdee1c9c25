"""Which reward models vLLM reads exactly as their recipes say, and how it is told to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from modelworker_api.rewards import Family
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring.values import HeadKind
from modelworker_server.workers.reward.checkpoint import Checkpoint
from modelworker_server.workers.reward.heads import labels_of
from modelworker_server.workers.reward.loading import Bound

_OWN_HEAD: Final = "its head is {}, which no class of vLLM loads"
_TWO_MODELS: Final = "it compares two models, and an engine runs one"

WHY_NOT: Final[Mapping[Family, str]] = {
    Family.SKYWORK_PRM: _OWN_HEAD.format("v_head.summary"),
    Family.EURUS_PRM: _TWO_MODELS,
    Family.IMPLICIT_PRM: _TWO_MODELS,
    Family.REASONEVAL: _OWN_HEAD.format("score_head"),
    Family.LLEMMA_PRM: "it reads the mean of all logits, which the engine does not give",
    Family.REASONFLUX_ORM: _OWN_HEAD.format("in reward_head.pt"),
    Family.ARMO_RM: "its gate reads a second position, which no class of vLLM does",
    Family.INTERNLM2_REWARD: "its configuration is code of the checkpoint, which is never run",
}
"""The families that are refused, each with the reason."""

_PLAIN_LOGITS: Final = frozenset(
    {
        "gemma",
        "gemma2",
        "gemma3_text",
        "llama",
        "mistral",
        "mixtral",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
    }
)
"""Model types whose logits are a linear layer, or that under a soft cap: others scale them."""
_QWEN_HEADS: Final = {1: "Qwen2ForRewardModel", 2: "Qwen2ForProcessRewardModel"}
"""vLLM's classes for a head of two layers, by its number of labels."""


@dataclass(frozen=True, slots=True)
class EngineHead:
    """What vLLM puts on the hidden states of every token, in float32."""

    overrides: Mapping[str, Any]
    """Of the checkpoint's config.json, for `--hf-overrides`."""
    candidates: Mapping[str, int] = field(default_factory=dict)
    """Of a language model's head the tokens by their names in the vocabulary, and their ids."""
    cap: float | None = None
    """The language model's soft cap, which vLLM leaves out here."""


def require_served(family: Family) -> None:
    """Refuse a family that vLLM cannot score exactly.

    Raises:
        LoadError: with the reason.
    """
    if (why := WHY_NOT.get(family)) is not None:
        raise _refused(f"family {family}: {why}")


def engine_head(bound: Bound, *, tensor_parallel: int) -> EngineHead:
    """How vLLM reads the head of a recipe that is bound to its checkpoint.

    Args:
        bound: the recipe with its checkpoint.
        tensor_parallel: GPUs that the model is spread over.

    Raises:
        LoadError: vLLM has no such head, or would give other numbers.
    """
    require_served(bound.scorer.info.family)
    checkpoint = bound.source.checkpoint
    if checkpoint is None:
        raise _refused("a GGUF file is read by the other backend alone")
    if checkpoint.wrapped:
        raise _refused("its tensors carry a trainer's prefix, pretrained_model.")
    if bound.scorer.head.kind is HeadKind.CANDIDATES:
        return _candidates(bound, checkpoint, tensor_parallel)
    return _classifier(bound, checkpoint)


def _candidates(bound: Bound, checkpoint: Checkpoint, tensor_parallel: int) -> EngineHead:
    config = bound.source.model_config
    if config.model_type not in _PLAIN_LOGITS:
        raise _refused(f"the logits of {config.model_type} may be more than a linear layer")
    if "lm_head.bias" in checkpoint.names:
        raise _refused("its language model's head has a bias, which vLLM leaves out")
    ids = bound.scorer.head.token_ids
    # vLLM takes the rows from the first GPU's part of the vocabulary.
    if max(ids) >= config.vocab_size // tensor_parallel:
        raise _refused(
            f"token {max(ids)} is not in the first GPU's part of the vocabulary with "
            f"spec.parallelism.tensor {tensor_parallel}; set that to 1"
        )
    names = bound.tokenizer.convert_ids_to_tokens(list(ids))
    return EngineHead(
        overrides={"classifier_from_token": names, "method": "no_post_processing"},
        candidates=dict(zip(names, ids, strict=True)),
        cap=getattr(config, "final_logit_softcapping", None),
    )


def _classifier(bound: Bound, checkpoint: Checkpoint) -> EngineHead:
    labels = labels_of(checkpoint)
    config = bound.source.model_config
    if {"score.0.weight", "score.2.weight"} <= checkpoint.names:
        if config.model_type != "qwen2" or labels not in _QWEN_HEADS:
            raise _refused(
                f"a head of two layers with {labels} labels on {config.model_type}; vLLM has one "
                "for qwen2 with 1 or 2"
            )
        return EngineHead({"architectures": [_QWEN_HEADS[labels]]})
    if "score.weight" not in checkpoint.names:
        raise _refused("its head has another name than score, so no class of vLLM loads it")
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    architecture = causal.__name__.replace("ForCausalLM", "ForSequenceClassification")
    return EngineHead({"architectures": [architecture], "num_labels": labels})


def _refused(why: str) -> LoadError:
    return LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        f"vLLM cannot score this model exactly: {why}; use backend Transformers",
    )
