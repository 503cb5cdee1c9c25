"""Which family a checkpoint is of, and what a recipe's hash depends on."""

import dataclasses
import re
from typing import Any

import pytest

from modelworker_api.rewards import Family, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring.families.process import MATH_SYSTEM
from modelworker_server.scoring.recipes import RECIPES, detect
from modelworker_server.scoring.values import CheckpointFacts, Scorer
from tests.scoring_support import FakeTokenizer, bound, named

REFERENCE = {"source": "local", "model": "/reference"}

# --- Auto ----------------------------------------------------------------------------


def facts(
    architecture: str, *weights: str, labels: int | None = None, **more: Any
) -> CheckpointFacts:
    return CheckpointFacts((architecture,), num_labels=labels, weights=frozenset(weights), **more)


QWEN_MLP = ("score.0.weight", "score.2.weight")


@pytest.mark.parametrize(
    ("checkpoint", "says", "family"),
    [
        pytest.param(
            facts("LlamaForRewardModelWithGating", "reward_transform_matrix"),
            "",
            Family.ARMO_RM,
            id="armo",
        ),
        pytest.param(
            facts("InternLM2ForRewardModel", "v_head.weight", labels=1),
            "",
            Family.INTERNLM2_REWARD,
            id="internlm2",
        ),
        pytest.param(
            facts("Qwen2ForPrmModel", "v_head.summary.weight", labels=1),
            "",
            Family.SKYWORK_PRM,
            id="skywork",
        ),
        pytest.param(
            facts("ReasonEval_7B", "score_head.weight", labels=3), "", Family.REASONEVAL, id="eval"
        ),
        pytest.param(
            facts("Qwen2ForCausalLM", "reward_head.weight", labels=1),
            "",
            Family.REASONFLUX_ORM,
            id="reasonflux-orm",
        ),
        pytest.param(
            facts("LlamaForSequenceClassification", "score.weight", labels=1, mean=0.1, std=1.0),
            "",
            Family.OPENRLHF_RM,
            id="openrlhf-by-mean",
        ),
        pytest.param(
            facts("LlamaModel", "value_head.weight", labels=1),
            "",
            Family.OPENRLHF_RM,
            id="openrlhf",
        ),
        pytest.param(
            facts("Qwen2ForRewardModel", *QWEN_MLP, labels=1), "", Family.QWEN_MATH_RM, id="qwen-rm"
        ),
        pytest.param(
            facts("Qwen2ForProcessRewardModel", *QWEN_MLP, labels=2),
            MATH_SYSTEM,
            Family.QWEN_MATH_PRM,
            id="qwen-prm",
        ),
        pytest.param(
            facts("LlamaForSequenceClassification", "score.weight", labels=1),
            "",
            Family.SEQUENCE_CLASSIFIER,
            id="classifier",
        ),
    ],
)
def test_family_is_detected(checkpoint: CheckpointFacts, says: str, family: Family) -> None:
    assert detect(checkpoint, FakeTokenizer(says=says)) is family


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        pytest.param(
            facts("LlamaForCausalLM"), ["MathShepherd", "EurusPRM", "Verdict"], id="language-model"
        ),
        pytest.param(
            facts("Qwen2ForTokenClassification", "score.weight", labels=2),
            ["PUREPRM, TRLPRM"],
            id="token-classifier",
        ),
        pytest.param(
            facts("Qwen2ForProcessRewardModel", *QWEN_MLP, labels=2),
            ["QwenMathPRM, ReasonFluxPRM"],
            id="other-system-message",
        ),
        pytest.param(
            facts("LlamaForSequenceClassification", "score.weight", labels=5),
            ["no recipe is known", "Custom"],
            id="five-labels",
        ),
        pytest.param(facts("T5ForConditionalGeneration"), ["no recipe is known"], id="unknown"),
    ],
)
def test_doubt_has_to_be_resolved_by_the_caller(
    checkpoint: CheckpointFacts, words: list[str]
) -> None:
    with pytest.raises(LoadError) as caught:
        detect(checkpoint, FakeTokenizer(says="Another system message."))
    assert caught.value.reason is FailureReason.MODEL_UNSUPPORTED
    assert "spec.scoring.family" in caught.value.message
    assert all(word in caught.value.message for word in words), caught.value.message


def test_auto_binds_the_detected_family() -> None:
    checkpoint = facts("LlamaForSequenceClassification", "score.weight", labels=1)
    scorer = bound(ScoringConfig(type=ScoreType.OUTCOME), FakeTokenizer(), checkpoint)
    assert scorer.info.family is Family.SEQUENCE_CLASSIFIER


# --- the hash ------------------------------------------------------------------------


def hash_of(scorer: Scorer) -> str:
    assert re.fullmatch("[0-9a-f]{16}", scorer.info.recipe_hash)
    return scorer.info.recipe_hash


def test_hash_is_the_same_for_the_same() -> None:
    first, second = (bound(named(Family.MATH_SHEPHERD), FakeTokenizer()) for _ in range(2))
    assert hash_of(first) == hash_of(second)


def test_hashes_of_all_families_differ() -> None:
    families = set(RECIPES) - {Family.ARMO_RM, Family.LLEMMA_PRM}
    hashes = {hash_of(bound(named(family), FakeTokenizer())) for family in families}
    assert len(hashes) == len(families)


@pytest.mark.parametrize(
    ("given", "tokenizer"),
    [
        pytest.param(named(Family.EURUS_PRM, beta=0.5), FakeTokenizer(), id="beta"),
        pytest.param(named(Family.EURUS_PRM, cumulative=False), FakeTokenizer(), id="r"),
        pytest.param(
            named(Family.EURUS_PRM, reference={**REFERENCE, "revision": "b"}),
            FakeTokenizer(),
            id="reference",
        ),
        pytest.param(named(Family.EURUS_PRM, aggregation="sum"), FakeTokenizer(), id="aggregation"),
        pytest.param(named(Family.EURUS_PRM, step_separator="\n"), FakeTokenizer(), id="separator"),
        pytest.param(
            named(Family.EURUS_PRM, overflow="truncate_left"), FakeTokenizer(), id="overflow"
        ),
        pytest.param(named(Family.EURUS_PRM), FakeTokenizer(says="Be kind."), id="template"),
        pytest.param(named(Family.EURUS_PRM), FakeTokenizer(bos=True), id="tokens"),
    ],
)
def test_hash_depends_on_what_changes_a_score(
    given: ScoringConfig, tokenizer: FakeTokenizer
) -> None:
    before = bound(named(Family.EURUS_PRM), FakeTokenizer())
    assert hash_of(before) != hash_of(bound(given, tokenizer))


@pytest.mark.parametrize("option", [{"max_batch_tokens": 64}, {"cache_tokens": 64}])
def test_hash_does_not_depend_on_how_it_runs(option: dict[str, int]) -> None:
    before = bound(named(Family.MATH_SHEPHERD), FakeTokenizer())
    assert hash_of(before) == hash_of(bound(named(Family.MATH_SHEPHERD, **option), FakeTokenizer()))


def test_revision_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bound(named(Family.PURE_PRM), FakeTokenizer())
    changed = dataclasses.replace(RECIPES[Family.PURE_PRM], revision=2)
    monkeypatch.setitem(RECIPES, Family.PURE_PRM, changed)
    assert hash_of(before) != hash_of(bound(named(Family.PURE_PRM), FakeTokenizer()))
