"""Recipes of which every part is given, each against a reference of its own."""

from modelworker_api.rewards import CustomRecipe, Family, Link, Position, ScoreType
from tests import golden_models as models
from tests import golden_outcome as outcome
from tests import golden_process as process
from tests.golden_cases import Case, labels

CUSTOM = (
    Case(
        family=Family.CUSTOM,
        name="at-tag",
        lay=process.lay_math_shepherd,
        score=process.candidates("+ -"),
        tokenizer="mistral",
        model_type="mistral",
        architecture="MistralForCausalLM",
        scoring={
            "custom": CustomRecipe(
                text="{question} {response}",
                step_tag="ки",
                step_format="{step} {tag}\n",
                positive_token="+",
                negative_token="-",
                position=Position.TAG,
                link=Link.SOFTMAX,
            )
        },
    ),
    Case(
        family=Family.CUSTOM,
        name="before-tag",
        lay=process.lay_before_tags,
        score=process.second_label,
        tokenizer="internlm2",
        model_type="llama",
        architecture="LlamaForTokenClassification",
        heads=models.linear("score", 2, bias=True),
        config=labels(2),
        scoring={
            "custom": CustomRecipe(
                step_tag="<|reward|>",
                label_index=1,
                position=Position.BEFORE_TAG,
                link=Link.SOFTMAX,
            )
        },
    ),
    Case(
        family=Family.CUSTOM,
        name="end-of-step",
        lay=process.lay_step_ends,
        score=process.second_label,
        tokenizer="mistral",
        model_type="llama",
        architecture="LlamaForTokenClassification",
        heads=models.linear("score", 2, bias=True),
        config=labels(2),
        scoring={
            "custom": CustomRecipe(
                text="Q: {question}\nA: {response}",
                label_index=1,
                position=Position.LAST_TOKEN_OF_STEP,
                link=Link.SOFTMAX,
            )
        },
    ),
    Case(
        family=Family.CUSTOM,
        name="last-token",
        lay=outcome.lay_chat,
        score=outcome.first_sigmoid,
        tokenizer="internlm2",
        type=ScoreType.OUTCOME,
        model_type="llama",
        architecture="LlamaForSequenceClassification",
        heads=models.linear("score", 2, bias=False),
        config=labels(2),
        scoring={
            "custom": CustomRecipe(label_index=0, position=Position.LAST_TOKEN, link=Link.SIGMOID)
        },
    ),
)
