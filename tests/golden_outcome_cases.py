"""The outcome reward models' checkpoints and references."""

import json
from pathlib import Path
from typing import Any

import torch

from modelworker_api.rewards import Family, ScoreType
from tests import golden_models as models
from tests import golden_outcome as outcome
from tests import golden_process as process
from tests.golden_cases import Case, labels, with_language_head
from tests.golden_models import Named, Tiny


def _save_reward_head(folder: Path, model: Tiny) -> None:
    torch.save(model.heads["reward_head"].state_dict(), folder / "reward_head.pt")


def _only_language_head(model: Tiny) -> Named:
    """The weights of ReasonFlux's outcome model: its reward head has a file of its own."""
    named = with_language_head(model)
    return {name: t for name, t in named.items() if not name.startswith("reward_head.")}


def _internlm2_config(folder: Path, model: Tiny) -> None:
    _rewrite_config(
        folder,
        {
            "architectures": ["InternLM2ForRewardModel"],
            "auto_map": {
                "AutoConfig": "configuration_internlm2.InternLM2Config",
                "AutoModel": "modeling_internlm2.InternLM2ForRewardModel",
            },
            "model_type": "internlm2",
            "bias": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "hidden_act": "silu",
            "reward_token_id": model.base.config.vocab_size - 1,
            "rope_theta": model.base.config.rope_parameters["rope_theta"],
            "rope_scaling": {"type": "dynamic", "factor": 2.0},
            **{
                key: getattr(model.base.config, key)
                for key in (
                    "vocab_size",
                    "hidden_size",
                    "intermediate_size",
                    "num_hidden_layers",
                    "num_attention_heads",
                    "num_key_value_heads",
                    "max_position_embeddings",
                    "rms_norm_eps",
                    "initializer_range",
                    "tie_word_embeddings",
                )
            },
        },
    )


def _rewrite_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


OUTCOME = (
    Case(
        family=Family.RLHFLOW_ORM_MISTRAL,
        lay=outcome.lay_orm_mistral,
        score=process.plus_or_minus,
        tokenizer="llama31",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
    Case(
        family=Family.RLHFLOW_ORM_DEEPSEEK,
        lay=outcome.lay_orm_deepseek,
        score=process.plus_or_minus,
        tokenizer="llama31",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
    Case(
        family=Family.QWEN_MATH_RM,
        lay=outcome.lay_qwen_math_rm,
        score=outcome.first_output,
        tokenizer="qwen-math",
        type=ScoreType.OUTCOME,
        model_type="qwen2",
        architecture="Qwen2ForRewardModel",
        heads=models.two_layers("score", 1),
    ),
    Case(
        family=Family.REASONFLUX_ORM,
        lay=outcome.lay_reasonflux_orm,
        score=outcome.sigmoid_output,
        tokenizer="qwen",
        type=ScoreType.OUTCOME,
        heads=models.linear("reward_head", 1, bias=True),
        tensors=_only_language_head,
        finish=_save_reward_head,
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
    ),
    Case(
        family=Family.OPENRLHF_RM,
        lay=outcome.lay_openrlhf,
        score=outcome.first_output,
        tokenizer="qwen",
        type=ScoreType.OUTCOME,
        model_type="qwen2",
        architecture="RewardModel",
        heads=models.linear("score", 1, bias=False),
        config={"mean": 0.25, "std": 1.5, "value_head_prefix": "score"},
    ),
    Case(
        family=Family.SEQUENCE_CLASSIFIER,
        lay=outcome.lay_chat,
        score=outcome.first_output,
        tokenizer="llama31",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="LlamaForSequenceClassification",
        heads=models.linear("score", 1, bias=False),
        config=labels(1),
    ),
    Case(
        family=Family.ARMO_RM,
        lay=outcome.lay_chat,
        score=outcome.armo_score,
        tokenizer="llama3",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="LlamaForRewardModelWithGating",
        heads=outcome.armo_heads,
        config={
            "num_objectives": outcome.OBJECTIVES,
            "gating_temperature": outcome.TEMPERATURE,
            "gating_hidden_dim": 24,
            "gating_n_hidden": 3,
        },
    ),
    Case(
        family=Family.INTERNLM2_REWARD,
        lay=outcome.lay_internlm2,
        score=outcome.first_output,
        tokenizer="internlm2",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="InternLM2ForRewardModel",
        heads=models.linear("v_head", 1, bias=False),
        tensors=models.internlm2_weights,
        finish=_internlm2_config,
    ),
    Case(
        family=Family.VERDICT,
        lay=outcome.lay_verdict,
        score=outcome.yes_or_no,
        tokenizer="smollm2",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
)
