"""The shapes of FastChat's worker and controller protocols, and of OpenR's form of the former.

Both protocols answer 200 to everything: what went wrong is an `error_code` in the body.
Unknown fields are ignored, as FastChat does.
"""

from enum import IntEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from modelworker_api.wire import CompletionLogprobs, Stop, Texts, TokenIds, Usage, Wire

FRAME_END: Final = b"\0"
"""What ends each JSON object of a stream."""


class ErrorCode(IntEnum):
    """FastChat's error codes, those that are in use here."""

    OK = 0
    VALIDATION_TYPE_ERROR = 40001
    INVALID_AUTH_KEY = 40101
    NO_PERMISSION = 40103
    INVALID_MODEL = 40301
    PARAM_OUT_OF_RANGE = 40302
    CONTEXT_OVERFLOW = 40303
    ENGINE_OVERLOADED = 42903
    INTERNAL_ERROR = 50001
    OUT_OF_MEMORY = 50002
    CONTROLLER_NO_WORKER = 50005
    CONTROLLER_WORKER_TIMEOUT = 50006


class Failure(Wire):
    """The answer to a request that failed, and the last frame of a stream that did."""

    text: str
    """What went wrong, and the next step."""
    error_code: int


# --- a worker ------------------------------------------------------------------------


class GenerateRequest(Wire):
    """`POST /worker_generate` and `/worker_generate_stream`; null means the default.

    `n` and `include_stop_str_in_output` are OpenR's: with one of these keys, whatever its
    value, the answer is an `OpenRAnswer`.
    """

    prompt: str
    model: str | None = None
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    top_k: int | None = -1
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    repetition_penalty: float | None = 1.0
    max_new_tokens: int | None = 256
    stop: Stop = None
    stop_token_ids: TokenIds | None = None
    echo: bool | None = True
    """Whether the text begins with the prompt."""
    logprobs: int | None = None
    use_beam_search: bool | None = False
    images: list[Any] | None = None
    n: int | None = 1
    include_stop_str_in_output: bool | None = False


class FastChatAnswer(Wire):
    """The answer to `/worker_generate`, and a frame of its stream: the text so far."""

    text: str
    error_code: Literal[0] = 0
    usage: Usage
    finish_reason: str | None
    cumulative_logprob: list[float] | None = None
    """Of the one sample; sent where log-probabilities were asked for, as is `logprobs`."""
    logprobs: CompletionLogprobs | None = None


class OpenRAnswer(Wire):
    """The same in OpenR's shape: each list has an element for each of the `n` samples."""

    text: list[str]
    error_code: Literal[0] = 0
    usage: Usage
    cumulative_logprob: list[float]
    output_token_len: list[int]
    finish_reason: list[str | None]


class EmbeddingsRequest(Wire):
    """`POST /worker_get_embeddings`."""

    input: str | Texts
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None


class EmbeddingsAnswer(Wire):
    """L2-normalised vectors: floats, or little-endian float32 in base64."""

    embedding: list[list[float]] | list[str]
    token_num: int


class CountRequest(Wire):
    """`POST /count_token`."""

    prompt: str
    model: str | None = None


class CountAnswer(Wire):
    """Tokens of a prompt, special ones included."""

    count: int
    error_code: Literal[0] = 0


class ModelRequest(Wire):
    """`POST /worker_get_conv_template` and `/model_details`; the body may be empty."""

    model: str | None = None


class DetailsAnswer(Wire):
    """Longest prompt and answer together, in tokens."""

    context_length: int


class Conversation(Wire):
    """How a conversation becomes a prompt: FastChat's dataclass of that name."""

    name: str
    system_template: str
    system_message: str
    system_message_vision: str
    roles: list[str]
    """The user's, then the assistant's."""
    messages: list[list[str]]
    offset: int
    sep_style: int
    sep: str
    sep2: str | None
    stop_str: str | list[str] | None
    stop_token_ids: list[int] | None
    max_image_size_mb: int | None


class ConversationAnswer(Wire):
    """`POST /worker_get_conv_template`."""

    conv: Conversation


class WorkerStatus(Wire):
    """`POST /worker_get_status` of a worker, and of a controller that poses as one."""

    model_names: Annotated[list[str], Field(max_length=256, fail_fast=True)]
    speed: Annotated[int, Field(ge=0)]
    queue_length: Annotated[int, Field(ge=0)]


# --- a controller --------------------------------------------------------------------


class RegisterRequest(Wire):
    """`POST /register_worker`: `worker_name` is the worker's base URL."""

    worker_name: Annotated[str, Field(max_length=512)]
    check_heart_beat: bool = True
    multimodal: bool = False


class HeartbeatRequest(Wire):
    """`POST /receive_heart_beat`."""

    worker_name: Annotated[str, Field(max_length=512)]
    queue_length: Annotated[int, Field(ge=0)]


class HeartbeatAnswer(Wire):
    """Whether the worker is known; one that is not has to register."""

    exist: bool


class AddressRequest(Wire):
    """`POST /get_worker_address`, and what a controller reads of a stream that it passes on."""

    model: str


class AddressAnswer(Wire):
    """The base URL of a worker; empty where none serves the model."""

    address: str


class ModelsAnswer(Wire):
    """`POST /list_models`."""

    models: list[str]
