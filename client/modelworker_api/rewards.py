"""Rewards over HTTP: how a model scores, `POST /v1/rewards`, and the routes of OpenR and OpenRLHF.

Positions are half-open ranges: characters of the response that was scored, tokens of the
model's whole input. Scores are what the recipe's link function gives, without rounding.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelworker_api.wire import Messages, Texts, Usage, Wire

MAX_INPUTS: Final = 2048
"""Inputs of one request."""
MAX_STEPS: Final = 4096
"""Steps of one input."""


# --- how a model scores: the operator tells the worker -------------------------------


class ScoreType(StrEnum):
    """One score for each step, or one for the whole answer."""

    PROCESS = "Process"
    OUTCOME = "Outcome"


class Family(StrEnum):
    """The named recipes; `Custom` gives every part itself, `Auto` reads the checkpoint."""

    AUTO = "Auto"
    CUSTOM = "Custom"
    # Process
    MATH_SHEPHERD = "MathShepherd"
    MATH_PSA = "MathPSA"
    RLHFLOW_PRM_MISTRAL = "RLHFlowPRMMistral"
    RLHFLOW_PRM_DEEPSEEK = "RLHFlowPRMDeepseek"
    SKYWORK_PRM = "SkyworkPRM"
    QWEN_MATH_PRM = "QwenMathPRM"
    PURE_PRM = "PUREPRM"
    REASONFLUX_PRM = "ReasonFluxPRM"
    EURUS_PRM = "EurusPRM"
    IMPLICIT_PRM = "ImplicitPRM"
    REASONEVAL = "ReasonEval"
    LLEMMA_PRM = "LlemmaPRM"
    TRL_PRM = "TRLPRM"
    # Outcome
    RLHFLOW_ORM_MISTRAL = "RLHFlowORMMistral"
    RLHFLOW_ORM_DEEPSEEK = "RLHFlowORMDeepseek"
    QWEN_MATH_RM = "QwenMathRM"
    REASONFLUX_ORM = "ReasonFluxORM"
    OPENRLHF_RM = "OpenRLHFRM"
    SEQUENCE_CLASSIFIER = "SequenceClassifier"
    ARMO_RM = "ArmoRM"
    INTERNLM2_REWARD = "InternLM2Reward"
    VERDICT = "Verdict"


VLLM_FAMILIES: Final = frozenset(
    {
        Family.AUTO,
        Family.CUSTOM,
        Family.MATH_SHEPHERD,
        Family.MATH_PSA,
        Family.RLHFLOW_PRM_MISTRAL,
        Family.RLHFLOW_PRM_DEEPSEEK,
        Family.QWEN_MATH_PRM,
        Family.PURE_PRM,
        Family.REASONFLUX_PRM,
        Family.TRL_PRM,
        Family.RLHFLOW_ORM_MISTRAL,
        Family.RLHFLOW_ORM_DEEPSEEK,
        Family.QWEN_MATH_RM,
        Family.OPENRLHF_RM,
        Family.SEQUENCE_CLASSIFIER,
        Family.VERDICT,
    }
)
"""What a resource with `backend: VLLM` may state; of `Auto` and `Custom` the worker sees the
checkpoint's head when it loads, and refuses one that vLLM does not read."""


class Aggregation(StrEnum):
    """From the scores of the steps to one."""

    MIN = "min"
    LAST = "last"
    PROD = "prod"
    MEAN = "mean"
    SUM = "sum"


class Overflow(StrEnum):
    """What happens to an input beyond the model's length."""

    ERROR = "error"
    TRUNCATE_LEFT = "truncate_left"
    """Tokens are dropped from its beginning, never a position that is read; the answer says so."""


class Position(StrEnum):
    """Which token's hidden state a `Custom` recipe reads."""

    TAG = "Tag"
    """The tag after each step."""
    BEFORE_TAG = "BeforeTag"
    """The token before it, which predicts it."""
    LAST_TOKEN_OF_STEP = "LastTokenOfStep"  # noqa: S105 - no password
    LAST_TOKEN = "LastToken"  # noqa: S105 - no password
    """The input's last token: one score for the whole answer."""


class Link(StrEnum):
    """From what the head gives to a score."""

    SOFTMAX = "Softmax"
    """Probability of the positive token among the two, or of the label among all."""
    SIGMOID = "Sigmoid"
    IDENTITY = "Identity"
    DIFFERENCE = "Difference"
    """Probability of the positive one minus that of the other; of two candidates only."""


class Config(BaseModel):
    """Base of what configures a worker: an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CustomRecipe(Config):
    """Every part of a recipe. CEL in the CRD and the worker check what belongs together."""

    text: str | None = None
    """Template with `{question}` and `{response}`; None for the model's chat template."""
    system: str | None = None
    """System message for the chat template."""
    step_tag: str | None = None
    """What marks the end of a step; it has to be one token for the positions on tags."""
    step_format: str = "{step}{tag}"
    """How each step is written, with `{step}` and `{tag}`."""
    positive_token: str | None = None
    """With `negative_token`: two tokens of a language model's head."""
    negative_token: str | None = None
    label_index: int | None = None
    """Else a label of a classification head."""
    position: Position
    link: Link


class ReferenceModel(Config):
    """The second model of an implicit reward; its source is given as the first one's."""

    source: Literal["huggingFace", "local"]
    model: str
    revision: str | None = None
    gguf_file: str | None = None


class ScoringConfig(Config):
    """`spec.scoring` of a RewardModel as the worker gets it, in JSON (`--scoring`)."""

    type: ScoreType
    family: Family = Family.AUTO
    step_separator: str | None = None
    """What splits a response into steps; None for the recipe's own."""
    aggregation: Aggregation | None = None
    """None for the recipe's own."""
    overflow: Overflow = Overflow.ERROR
    max_batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of one forward pass; None for a default by device."""
    cache_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens whose keys, values and scores are kept for later requests; 0 keeps none."""
    normalize: bool = False
    """`(score - mean) / std` with the checkpoint's own mean and std (OpenRLHF)."""
    beta: float | None = None
    """Factor of an implicit reward; None for the recipe's own."""
    cumulative: bool = True
    """Implicit rewards: q (sum up to the step) or else r (the step's own part)."""
    reference: ReferenceModel | None = None
    custom: CustomRecipe | None = None


# --- POST /v1/rewards ----------------------------------------------------------------


class RewardInput(Wire):
    """One answer to score.

    Either `question` with `response` (and `separator`) or with `steps`; or `messages`
    that end with the assistant's; or `text`, a whole input that was templated already.
    """

    question: str | None = None
    response: str | None = None
    separator: str | None = None
    """What splits `response` or the last message into steps; by default the model's."""
    steps: Annotated[list[str], Field(fail_fast=True, max_length=MAX_STEPS)] | None = None
    messages: Messages | None = None
    text: str | None = None


class RewardRequest(Wire):
    """`POST /v1/rewards`. An empty list is answered with an empty list."""

    model: str | None = None
    inputs: Annotated[list[RewardInput], Field(fail_fast=True, max_length=MAX_INPUTS)]
    aggregation: Aggregation | None = None


class StepReward(Wire):
    """The score of one step, and where the step is."""

    score: float
    start_char: int
    end_char: int
    start_token: int
    end_token: int
    details: dict[str, float] | None = None
    """What the model says besides, such as ReasonEval's redundancy."""


class Reward(Wire):
    """One input's score: `steps` aggregated, or the model's one score."""

    score: float
    steps: list[StepReward]
    """One for each step; of an outcome model one for the whole answer."""
    aggregation: Aggregation
    truncated: bool
    token_count: int


class RewardError(Wire):
    """Why one input has no score."""

    type: str
    message: str
    step: int | None = None
    """Index of the step at fault, if one is."""


class RewardResult(Wire):
    """One of `reward` and `error`."""

    index: int
    object: Literal["reward"] = "reward"
    reward: Reward | None = None
    error: RewardError | None = None


class RewardResponse(Wire):
    """Answer to `/v1/rewards`; `data` is in the order of the inputs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    recipe: Family
    recipe_hash: str
    revision: str
    data: list[RewardResult]
    usage: Usage


# --- other systems' routes -----------------------------------------------------------


class ValueInferenceRequest(Wire):
    """OpenR's `POST /worker_value_inference`: texts with the recipe's step tags in them."""

    model: str | None = None
    input_str: str | Texts


class ValueInferenceResponse(Wire):
    """One list of step scores, or for a list of texts one for each."""

    input: str | list[str]
    value: list[float] | list[list[float]]


class GetRewardRequest(Wire):
    """OpenRLHF's `POST /get_reward`: whole texts, templated already."""

    query: Texts
    prompts: Texts | None = None
    labels: Any = None
    """Never read; whatever the caller's data set holds."""


class GetRewardResponse(Wire):
    """One score for each query, in order."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]
