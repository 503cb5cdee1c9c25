"""What a reward model on vLLM may be told, and the command line of its engine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelworker_api.engine import VLLMConfig
from modelworker_api.rewards import VLLM_FAMILIES, Family, ReferenceModel, ScoreType, ScoringConfig
from modelworker_api.wire import FailureReason
from modelworker_server.errors import LoadError
from modelworker_server.scoring.values import Head, HeadKind
from modelworker_server.workers.base import ModelConfig
from modelworker_server.workers.reward.loading import Bound, bind_recipe
from modelworker_server.workers.vllm.engine import parse
from modelworker_server.workers.vllm.reward_flags import (
    engine_flags,
    require_untouched,
    require_usable,
)
from modelworker_server.workers.vllm.reward_heads import WHY_NOT, engine_head
from tests.engine_support import config, save
from tests.reward_checkpoints import one, two
from tests.reward_support import CANDIDATES, PROCESS, TinyScorer, binder, random, rewrite, with_head

CLASSIFIER = Head(HeadKind.CLASSIFIER)


def settings(folder: Path, **changes: Any) -> ModelConfig:
    return config(folder, **{"scoring": PROCESS, **changes})


def bound(settings: ModelConfig, head: Head) -> Bound:
    return bind_recipe(settings, lambda *_: None, binder(TinyScorer(head)))


# --- before a file is fetched --------------------------------------------------------------


def test_every_family_is_served_or_has_a_reason() -> None:
    assert set(WHY_NOT) == set(Family) - VLLM_FAMILIES


@pytest.mark.parametrize("family", sorted(WHY_NOT))
def test_a_refused_family_says_why_and_what_to_do(family: Family) -> None:
    scoring = ScoringConfig(
        type=ScoreType.PROCESS,
        family=family,
        reference=ReferenceModel(source="local", model="other"),
    )
    with pytest.raises(LoadError) as raised:
        require_usable(settings(Path("model"), scoring=scoring))
    assert raised.value.reason is FailureReason.MODEL_UNSUPPORTED
    assert WHY_NOT[family] in raised.value.message
    assert raised.value.message.endswith("use backend Transformers")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"gguf_file": "model.gguf"}, "GGUF", id="gguf"),
        pytest.param(
            {"scoring": PROCESS.model_copy(update={"cache_tokens": 1})}, "scoring.cache", id="cache"
        ),
        pytest.param({"vllm": VLLMConfig(max_lora_rank=8)}, "spec.lora", id="lora"),
        pytest.param({"vllm": VLLMConfig(tool_call_parser="hermes")}, "toolCallParser", id="tools"),
        pytest.param({"vllm": VLLMConfig(reasoning_parser="x")}, "reasoningParser", id="reasoning"),
        pytest.param({"vllm": VLLMConfig(development_routes=True)}, "development", id="routes"),
    ],
)
def test_an_option_without_effect_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError, match=said):
        require_usable(settings(Path("model"), **changes))


def test_everything_else_is_taken() -> None:
    for family in VLLM_FAMILIES:
        scoring = PROCESS.model_copy(update={"family": family, "max_batch_tokens": 512})
        require_usable(settings(Path("model"), scoring=scoring))


# --- with the checkpoint's files ---------------------------------------------------------


def checkpoint(folder: Path, kind: str, head: dict[str, Any], **changes: Any) -> Path:
    return with_head(folder, kind, head, **changes) if head else save(folder, kind)


@pytest.mark.parametrize(
    ("kind", "head", "tensors", "expected"),
    [
        pytest.param(
            "llama",
            CANDIDATES,
            {},
            {"classifier_from_token": ["d", "f"], "method": "no_post_processing"},
            id="two-tokens",
        ),
        pytest.param(
            "llama",
            CLASSIFIER,
            one("score", 3, bias=True)[0],
            {"architectures": ["LlamaForSequenceClassification"], "num_labels": 3},
            id="labels",
        ),
        pytest.param(
            "mistral-window",
            Head(HeadKind.VALUE),
            one("score", 1, bias=False)[0],
            {"architectures": ["MistralForSequenceClassification"], "num_labels": 1},
            id="value",
        ),
        pytest.param(
            "qwen2",
            CLASSIFIER,
            two(2)[0],
            {"architectures": ["Qwen2ForProcessRewardModel"]},
            id="two-layers",
        ),
        pytest.param(
            "qwen2",
            CLASSIFIER,
            two(1)[0],
            {"architectures": ["Qwen2ForRewardModel"]},
            id="two-layers-one-label",
        ),
    ],
)
def test_how_a_head_is_read(
    tmp_path: Path, kind: str, head: Head, tensors: dict[str, Any], expected: dict[str, Any]
) -> None:
    told = settings(checkpoint(tmp_path, kind, tensors))
    found = engine_head(bound(told, head), tensor_parallel=1)
    assert found.overrides == expected
    assert tuple(found.candidates.values()) == head.token_ids


@pytest.mark.parametrize(
    ("kind", "head", "tensors", "said"),
    [
        pytest.param("bloom", CANDIDATES, {}, "logits of bloom", id="logits"),
        pytest.param("llama", CLASSIFIER, two(2)[0], "two layers with 2", id="two-layers-of-llama"),
        pytest.param("qwen2", CLASSIFIER, two(3)[0], "two layers with 3", id="three-labels"),
        pytest.param(
            "llama", CLASSIFIER, one("v_head", 1, bias=True)[0], "another name", id="value-head"
        ),
        pytest.param(
            "llama", CLASSIFIER, one("classifier", 2, bias=True)[0], "another name", id="classifier"
        ),
    ],
)
def test_a_head_that_would_be_read_otherwise_is_refused(
    tmp_path: Path, kind: str, head: Head, tensors: dict[str, Any], said: str
) -> None:
    told = settings(checkpoint(tmp_path, kind, tensors))
    with pytest.raises(LoadError, match=said) as raised:
        engine_head(bound(told, head), tensor_parallel=1)
    assert raised.value.message.endswith("use backend Transformers")


def test_a_language_head_with_a_bias_is_refused(tmp_path: Path) -> None:
    rewrite(save(tmp_path, "llama"), add={"lm_head.bias": random(264)})
    with pytest.raises(LoadError, match="bias"):
        engine_head(bound(settings(tmp_path), CANDIDATES), tensor_parallel=1)


def test_a_trainers_prefix_is_refused(tmp_path: Path) -> None:
    rewrite(save(tmp_path, "llama"), rename=lambda name: f"pretrained_model.{name}")
    with pytest.raises(LoadError, match="prefix"):
        engine_head(bound(settings(tmp_path), CANDIDATES), tensor_parallel=1)


def test_candidates_have_to_be_in_the_first_gpus_part(tmp_path: Path) -> None:
    """Of 264 tokens two GPUs have 132 each, four have 66, and the candidates are 75 and 77."""
    made = bound(settings(save(tmp_path, "llama")), CANDIDATES)
    assert engine_head(made, tensor_parallel=2).candidates
    with pytest.raises(LoadError, match="tensor 4"):
        engine_head(made, tensor_parallel=4)


def test_the_soft_cap_is_kept(tmp_path: Path) -> None:
    made = bound(settings(save(tmp_path, "gemma2")), CANDIDATES)
    assert engine_head(made, tensor_parallel=1).cap == 30.0


# --- the command line --------------------------------------------------------------------


def parsed(told: ModelConfig) -> Any:
    made = bound(told, CANDIDATES)
    head = engine_head(made, tensor_parallel=1)
    arguments = parse(engine_flags(told, made, head))
    require_untouched(told, head, arguments)
    return arguments


def test_vllm_takes_the_flags(tmp_path: Path) -> None:
    scoring = PROCESS.model_copy(update={"max_batch_tokens": 640})
    told = settings(save(tmp_path, "llama"), scoring=scoring, max_model_len=300)
    found = parsed(replace(told, source="local"))
    assert (found.runner, found.convert) == ("pooling", "classify")
    assert found.pooler_config.tok_pooling_type == "ALL"
    assert found.hf_overrides["classifier_from_token"] == ["d", "f"]
    assert found.model == str(tmp_path)
    assert found.max_model_len == 300
    assert found.max_num_batched_tokens == 640


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        pytest.param("auto", "float32", id="the-checkpoints-own"),
        pytest.param("bfloat16", "bfloat16", id="stated"),
    ],
)
def test_the_dtype_is_that_of_the_other_backend(tmp_path: Path, dtype: str, expected: str) -> None:
    assert parsed(settings(save(tmp_path, "llama"), dtype=dtype)).dtype == expected


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        pytest.param(("--hf-overrides", '{"num_labels": 1}'), "hf-overrides", id="head"),
        pytest.param(("--max-num-batched-tokens", "64"), "not both", id="batch"),
    ],
)
def test_further_flags_may_not_change_the_recipe(
    tmp_path: Path, extra: tuple[str, ...], said: str
) -> None:
    scoring = PROCESS.model_copy(update={"max_batch_tokens": 640})
    vllm = VLLMConfig(extra_args=extra)
    with pytest.raises(LoadError, match=said):
        parsed(settings(save(tmp_path, "llama"), scoring=scoring, vllm=vllm))
