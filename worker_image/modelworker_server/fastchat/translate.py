"""From FastChat's requests to what a worker is asked; pure but for the worker's tokenizer."""

from dataclasses import dataclass
from typing import Final

from modelworker_api import fastchat, tokens, wire
from modelworker_server.errors import BadRequest, ContextTooLong, UnsupportedParameter
from modelworker_server.fastchat.conversation import conversation
from modelworker_server.fastchat.errors import OutOfRange
from modelworker_server.openai import translate
from modelworker_server.openai.sampling import GREEDY_BELOW, sampling_params
from modelworker_server.openai.translate import EmbeddingJob, require_served
from modelworker_server.parsing import shortened
from modelworker_server.workers.base import BaseModelWorker, ModelInfo, SamplingParams

DEFAULT_NEW_TOKENS: Final = 256
LEAST_TOP_P: Final = 1e-5
"""What a smaller `top_p` is taken for, as FastChat does."""

_OPENR_KEYS: Final = frozenset({"n", "include_stop_str_in_output"})


@dataclass(frozen=True, slots=True)
class Generation:
    """What `/worker_generate` and `/worker_generate_stream` ask for, checked."""

    prompt: tuple[int, ...]
    params: SamplingParams
    echoed: str
    """What the text of each answer begins with: the prompt or nothing."""
    lists: bool
    """Whether the answer has OpenR's shape."""


def generation(request: fastchat.GenerateRequest, worker: BaseModelWorker) -> Generation:
    """What a generation request asks for.

    `max_new_tokens` is cut to what the context has room for: FastChat's clients ask for
    more without looking.

    Raises:
        BadRequest: for an empty prompt.
        ContextTooLong: for a prompt that leaves no room for an answer.
        ModelNotServed: for another model.
        OutOfRange: for a value that is not allowed.
        UnsupportedParameter: for what these routes do not do.
    """
    info = worker.info
    require_served(request.model, info)
    lists = bool(_OPENR_KEYS & request.model_fields_set)
    echo = request.echo is not False
    _refuse_unsupported(request, lists=lists, echo=echo)
    asked = DEFAULT_NEW_TOKENS if request.max_new_tokens is None else request.max_new_tokens
    if asked < 1:
        raise OutOfRange(
            f"max_new_tokens must be at least 1; got {shortened(asked)}", param="max_new_tokens"
        )
    prompt = _prompt(request.prompt, worker)
    params = _sampling(
        request,
        max_tokens=min(asked, _room(prompt, info)),
        logprobs=0 if lists else request.logprobs,
        vocab_size=info.vocab_size,
    )
    return Generation(
        prompt=prompt, params=params, echoed=request.prompt if echo else "", lists=lists
    )


def embeddings(request: fastchat.EmbeddingsRequest, worker: BaseModelWorker) -> EmbeddingJob:
    """What `/worker_get_embeddings` asks for; raises as `translate.embedding_job` does."""
    return translate.embedding_job(
        tokens.EmbeddingRequest(
            input=request.input, model=request.model, encoding_format=request.encoding_format
        ),
        worker,
    )


def count(request: fastchat.CountRequest, worker: BaseModelWorker) -> fastchat.CountAnswer:
    """Tokens of a text.

    Raises:
        ModelNotServed: for another model.
    """
    require_served(request.model, worker.info)
    return fastchat.CountAnswer(count=worker.count_tokens(request.prompt), error_code=0)


def details(request: fastchat.ModelRequest, worker: BaseModelWorker) -> fastchat.DetailsAnswer:
    """What `/model_details` tells; raises as `count` does."""
    require_served(request.model, worker.info)
    return fastchat.DetailsAnswer(context_length=worker.info.max_model_len)


def conv_template(
    request: fastchat.ModelRequest, worker: BaseModelWorker
) -> fastchat.ConversationAnswer:
    """What `/worker_get_conv_template` tells; raises as `count` does."""
    require_served(request.model, worker.info)

    def encode(text: str) -> list[int]:
        return worker.encode(text, add_special_tokens=False)

    return fastchat.ConversationAnswer(conv=conversation(worker.conversation_template(), encode))


def _refuse_unsupported(request: fastchat.GenerateRequest, *, lists: bool, echo: bool) -> None:
    if request.use_beam_search:
        raise UnsupportedParameter(
            "use_beam_search is not supported; sample n and choose", param="use_beam_search"
        )
    if request.images:
        raise UnsupportedParameter("images are not supported; send text", param="images")
    if request.logprobs is not None and (lists or echo):
        beside = "echo, which is on unless it is false" if echo else "n"
        raise UnsupportedParameter(
            f"logprobs is not supported together with {beside}; ask /v1/completions for them",
            param="logprobs",
        )


def _prompt(text: str, worker: BaseModelWorker) -> tuple[int, ...]:
    if not text:
        raise BadRequest("prompt is empty; send a text", param="prompt")
    return tuple(worker.encode(text))


def _room(prompt: tuple[int, ...], info: ModelInfo) -> int:
    """Tokens that an answer may have."""
    room = info.max_model_len - len(prompt)
    if room < 1:
        raise ContextTooLong(
            f"this model's maximum context length is {info.max_model_len} tokens; the prompt has "
            f"{len(prompt)} and leaves no room for an answer: shorten it",
            param="prompt",
        )
    return room


def _sampling(
    request: fastchat.GenerateRequest, *, max_tokens: int, logprobs: int | None, vocab_size: int
) -> SamplingParams:
    """How to sample, by FastChat's rules for values at the edges of their ranges."""
    temperature, top_p = request.temperature, request.top_p
    if temperature is not None and 0 <= temperature <= GREEDY_BELOW:
        temperature, top_p = 0.0, 1.0
    elif top_p is not None and 0 <= top_p < LEAST_TOP_P:
        top_p = LEAST_TOP_P
    plain = wire.SamplingRequest(
        temperature=temperature,
        top_p=top_p,
        top_k=request.top_k or -1,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        n=request.n,
        stop=request.stop or None,
        stop_token_ids=request.stop_token_ids,
        include_stop_str_in_output=bool(request.include_stop_str_in_output),
    )
    try:
        return sampling_params(
            plain, max_tokens=max_tokens, logprobs=logprobs, vocab_size=vocab_size
        )
    except UnsupportedParameter:
        raise
    except BadRequest as error:
        raise OutOfRange(error.message, param=error.param) from error
