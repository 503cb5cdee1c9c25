"""Which family a checkpoint is of, from its configuration, tensors and vocabulary."""

from collections.abc import Callable
from typing import Final

from modelworker_api.rewards import Family
from modelworker_api.wire import FailureReason
from modelworker_server.errors import BadRequest, LoadError
from modelworker_server.scoring.families.process import MATH_SYSTEM
from modelworker_server.scoring.values import CheckpointFacts, Tokenizer

_STEP_TAG: Final = "<extra_0>"
_HEADLESS: Final = ("Model", "RewardModel")
"""How the architectures end that OpenRLHF writes, which keeps the base model's name."""


def detect(facts: CheckpointFacts, tokenizer: Tokenizer) -> Family:
    """The one family that the checkpoint can be of.

    A language model with nothing added may have been trained by any of several recipes, and
    a wrong one gives numbers that look right: then, and in every doubt, it has to be stated.

    Raises:
        LoadError: there are several families, which it names, or none.
    """
    candidates = _candidates(facts, tokenizer)
    if len(candidates) == 1:
        return candidates[0]
    seen = f"architectures {list(facts.architectures)}, {facts.num_labels} labels"
    if not candidates:
        raise LoadError(
            FailureReason.MODEL_UNSUPPORTED,
            f"no recipe is known for this checkpoint ({seen}); state spec.scoring.family, or "
            "describe it with family Custom",
        )
    raise LoadError(
        FailureReason.MODEL_UNSUPPORTED,
        f"this checkpoint ({seen}) may be of the families {', '.join(candidates)}; state the "
        "one that it was trained for in spec.scoring.family",
    )


def _candidates(facts: CheckpointFacts, tokenizer: Tokenizer) -> tuple[Family, ...]:
    for family, says in _SIGNS:
        if says(facts):
            return (family,)
    if _has(facts, "score.0.weight"):
        return _qwen_step_models(tokenizer)
    if _named(facts, "ForTokenClassification"):
        return (Family.PURE_PRM, Family.TRL_PRM) if facts.num_labels == 2 else ()
    if _named(facts, "ForSequenceClassification"):
        return (Family.SEQUENCE_CLASSIFIER,) if facts.num_labels == 1 else ()
    if _named(facts, *_HEADLESS) and facts.num_labels == 1:
        return (Family.OPENRLHF_RM,)
    return _language_models(tokenizer) if _named(facts, "ForCausalLM") else ()


def _qwen_step_models(tokenizer: Tokenizer) -> tuple[Family, ...]:
    """Of Qwen's class: told apart by what the chat template says without a system message."""
    if tokenizer.id_of(_STEP_TAG) is None:
        return ()
    try:
        rendered = tokenizer.render((("user", "1 + 1 = ?"),))
    except BadRequest:
        return ()
    if MATH_SYSTEM in rendered:
        return (Family.QWEN_MATH_PRM,)
    return (Family.QWEN_MATH_PRM, Family.REASONFLUX_PRM)


def _language_models(tokenizer: Tokenizer) -> tuple[Family, ...]:
    """The recipes that read a language model's own head, as far as the vocabulary allows."""
    families = [
        family
        for family, tag in (
            (Family.MATH_SHEPHERD, "ки"),
            (Family.MATH_PSA, " \n\n\n\n\n"),
        )
        if len(tokenizer.encode(tag)) == 1
    ]
    return (
        *families,
        Family.RLHFLOW_PRM_MISTRAL,
        Family.RLHFLOW_PRM_DEEPSEEK,
        Family.RLHFLOW_ORM_MISTRAL,
        Family.RLHFLOW_ORM_DEEPSEEK,
        Family.EURUS_PRM,
        Family.IMPLICIT_PRM,
        Family.LLEMMA_PRM,
        Family.VERDICT,
    )


def _named(facts: CheckpointFacts, *endings: str) -> bool:
    return any(name.endswith(endings) for name in facts.architectures)


def _has(facts: CheckpointFacts, *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in facts.weights)


_SIGNS: Final[tuple[tuple[Family, Callable[[CheckpointFacts], bool]], ...]] = (
    (Family.ARMO_RM, lambda facts: _has(facts, "reward_transform_matrix")),
    (Family.INTERNLM2_REWARD, lambda facts: _named(facts, "InternLM2ForRewardModel")),
    (Family.SKYWORK_PRM, lambda facts: _has(facts, "v_head.summary.")),
    (Family.REASONEVAL, lambda facts: _has(facts, "score_head.")),
    (Family.REASONFLUX_ORM, lambda facts: _has(facts, "reward_head.")),
    (Family.OPENRLHF_RM, lambda facts: facts.mean is not None),
    (
        Family.QWEN_MATH_RM,
        lambda facts: _has(facts, "score.0.weight") and facts.num_labels == 1,
    ),
)
"""Families that have something that no other one has."""
