"""Shapes that travel over HTTP: the worker's OpenAI-compatible API and the heartbeat.

Names are OpenAI's where OpenAI has one and vLLM's where it has not. Unknown fields
are ignored, as both do. Token ids are `int`, log-probabilities natural logarithms of
the model's distribution before temperature (vLLM's `raw_logprobs`).
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from modelworker_api.adapters import Adapter, AdapterReport
from modelworker_api.logprobs import PromptLogprobs

HEADER_WORKER: Final = "x-modelworker-worker"
HEADER_REVISION: Final = "x-modelworker-revision"
HEADER_DTYPE: Final = "x-modelworker-dtype"
"""Response headers that say which pod answered, with which model revision and dtype."""

HEADER_LOAD: Final = "x-modelworker-load"
"""Response header with the worker's load when the answer began: requests that run, requests
that wait, and the share of the KV cache in use (0 to 1; `-` where there is none), separated
by spaces: `3 0 0.41`."""

HEADER_API_KEY: Final = "x-api-key"
"""Request header with a caller's token where `authorization` does not get through, as behind
the API server's proxy, which keeps that header for itself."""

FINGERPRINT_HEADERS: Final = (HEADER_WORKER, HEADER_REVISION, HEADER_DTYPE)


class Wire(BaseModel):
    """Base of every shape: unknown fields are ignored, NaN and infinity refused."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


# --- heartbeat -----------------------------------------------------------------------


class LoadState(StrEnum):
    """What a worker says of itself."""

    DOWNLOADING = "Downloading"
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


class FailureReason(StrEnum):
    """Why a worker could not load; the same words as in `kube.Reason`."""

    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_UNAUTHORIZED = "ModelUnauthorized"
    MODEL_UNSUPPORTED = "ModelUnsupported"
    MODEL_TOO_LONG = "ModelTooLong"
    DOWNLOAD_FAILED = "DownloadFailed"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    LOAD_FAILED = "LoadFailed"
    # A reward model that does not score as its recipe says.
    TOKEN_NOT_IN_VOCABULARY = "TokenNotInVocabulary"  # noqa: S105 - no password
    SCORE_SHAPE_MISMATCH = "ScoreShapeMismatch"
    NON_FINITE_SCORE = "NonFiniteScore"
    BATCH_MISMATCH = "BatchMismatch"


class ScoringReport(Wire):
    """How a reward worker scores; it is told once the self-test has passed."""

    family: Annotated[str, Field(max_length=64)]
    """The recipe that is used: where `Auto` was asked for, the one that was detected."""
    recipe_hash: Annotated[str, Field(max_length=64)]
    compared: bool
    """Whether the recipe was compared with its reference formula on a real tokenizer."""


class Heartbeat(Wire):
    """POSTed by a worker every few seconds. The pod is known from the token, not from here."""

    state: LoadState
    reason: FailureReason | None = None
    message: Annotated[str, Field(max_length=1024)] = ""
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    """Percent of the present state that is done; None where it is not known."""
    model: Annotated[str, Field(max_length=512)] = ""
    revision: Annotated[str, Field(max_length=128)] = ""
    dtype: Annotated[str, Field(max_length=32)] = ""
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    running: Annotated[int, Field(ge=0)] = 0
    waiting: Annotated[int, Field(ge=0)] = 0
    scoring: ScoringReport | None = None
    """A reward worker's alone."""
    adapters: Annotated[list[AdapterReport], Field(max_length=64)] = []


class Trust(Wire):
    """Whose tokens a worker takes: what it needs to check them by itself.

    A caller's token is a service-account token (a JWT) of this issuer, signed by one of the
    keys, for the audience `kube.INFERENCE_AUDIENCE`, of a service account in one of the
    namespaces.
    """

    issuer: Annotated[str, Field(min_length=1, max_length=1024)]
    keys: Annotated[list[dict[str, Any]], Field(max_length=64)]
    """Public keys, each a JSON Web Key as the API server publishes it."""
    namespaces: Annotated[list[str], Field(max_length=1024)]
    """Namespaces whose service accounts may call; `*` stands for all."""


class HeartbeatReply(Wire):
    """What the operator answers."""

    interval_seconds: FiniteFloat
    adapters: list[Adapter] | None = None
    """The adapters to serve, all of them; None changes nothing."""
    trust: Trust | None = None
    """Whose tokens to take from now on; None changes nothing."""


# --- errors --------------------------------------------------------------------------


class ErrorDetail(Wire):
    """OpenAI's error object."""

    message: str
    type: str
    code: int
    param: str | None = None


class ErrorResponse(Wire):
    """One body that the OpenAI SDK (`error`), FastChat and ms-swift (`object`) all parse."""

    object: Literal["error"] = "error"
    message: str
    code: int
    error: ErrorDetail


# --- generation ----------------------------------------------------------------------

MAX_STOPS: Final = 16
MAX_N: Final = 128
MAX_PROMPTS: Final = 2048
"""Prompts, or inputs of an embedding, of one request."""
MAX_MESSAGES: Final = 4096

# The first wrong element ends the check of a list: a body of millions of them costs nothing.
TokenIds = Annotated[list[int], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True)]
Prompts = str | TokenIds | Texts | Annotated[list[TokenIds], Field(fail_fast=True)]
Stop = str | Texts | None


class SamplingRequest(Wire):
    """What completions and chat have in common."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = -1
    min_p: float | None = 0.0
    repetition_penalty: float | None = 1.0
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    logit_bias: dict[int, float] | None = None
    prompt_logprobs: int | None = None
    """Score the prompt too, with that many of the likeliest tokens at each position."""
    n: int | None = 1
    stop: Stop = None
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    seed: int | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    """Name tokens in log-probabilities `token_id:7` instead of by their text."""
    skip_special_tokens: bool = True


class CompletionRequest(SamplingRequest):
    """`POST /v1/completions`. `logprobs=0` returns the sampled tokens' alone.

    With `echo` the answer begins with the prompt, in its log-probabilities too, and
    `max_tokens=0` asks for nothing more.
    """

    prompt: Prompts
    logprobs: int | None = None
    echo: bool = False
    add_special_tokens: bool = True


class ChatMessage(Wire):
    """One message of a conversation; `content` may be OpenAI's list of text parts."""

    role: str
    content: str | Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    name: str | None = None


Messages = Annotated[list[ChatMessage], Field(fail_fast=True, max_length=MAX_MESSAGES)]


class ChatCompletionRequest(SamplingRequest):
    """`POST /v1/chat/completions`."""

    messages: Messages
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False


class Usage(Wire):
    """Token counts of one response."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class CompletionLogprobs(Wire):
    """OpenAI's legacy log-probabilities; the lists are as long as the tokens of the choice.

    Those are the generated ones, behind the prompt's where it is echoed. The prompt's first
    token has no log-probability.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Wire):
    """One sample. In a stream, the part that is new."""

    index: int
    text: str
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """The stop string or id that ended the sample; None at EOS and at the length limit."""
    logprobs: CompletionLogprobs | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class CompletionResponse(Wire):
    """Answer to `/v1/completions`; choices are prompt-major."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatTokenLogprob(Wire):
    """One token of a chat answer."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list["ChatTokenLogprob"] = []


class ChatLogprobs(Wire):
    """OpenAI's chat log-probabilities."""

    content: list[ChatTokenLogprob] | None = None


class ChatAnswer(Wire):
    """An assistant's message, or in a stream its new part."""

    role: Literal["assistant"] | None = "assistant"
    content: str | None = None


class ChatChoice(Wire):
    """One sample of a chat."""

    index: int
    message: ChatAnswer | None = None
    delta: ChatAnswer | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: ChatLogprobs | None = None
    token_ids: list[int] | None = None


ChatObject = Literal["chat.completion", "chat.completion.chunk"]


class ChatCompletionResponse(Wire):
    """Answer to `/v1/chat/completions`, and each chunk of its stream."""

    id: str
    object: ChatObject = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None
