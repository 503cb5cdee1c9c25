"""From wire requests to what a worker is asked; pure but for the worker's tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelworker_api import tokens, wire
from modelworker_server.conversation import plain_messages
from modelworker_server.errors import BadRequest, ContextTooLong, ModelNotServed
from modelworker_server.openai.sampling import check_token_ids, include_usage, sampling_params
from modelworker_server.parsing import shortened
from modelworker_server.workers.base import BaseModelWorker, ModelInfo, SamplingParams

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for completions; a chat may use the rest of the context."""
MAX_PROMPT_LOGPROBS: Final = 2**20
"""Of one answer: each takes about 100 bytes of memory while the answer is put together."""


@dataclass(frozen=True, slots=True)
class Job:
    """A generation request, checked: what the worker does and how the answer looks."""

    prompts: tuple[tuple[int, ...], ...]
    params: SamplingParams
    stream: bool
    include_usage: bool
    return_token_ids: bool
    tokens_as_ids: bool
    echo: tuple[str, ...] | None = None
    """The prompts as texts where the answer repeats them."""
    prompt_logprobs: int | None = None
    """The likeliest tokens to list at each position of the prompts; None for no such list."""

    @property
    def score_top(self) -> int | None:
        """The likeliest tokens wanted at each position of the prompts; None to score none."""
        echoed = None if self.echo is None else self.params.logprobs
        wanted = [top for top in (echoed, self.prompt_logprobs) if top is not None]
        return max(wanted, default=None)

    @property
    def sequences(self) -> int:
        """Sequences that the worker decodes for it."""
        return len(self.prompts) * self.params.n

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(map(len, self.prompts))


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """An embedding request, checked."""

    inputs: tuple[tuple[int, ...], ...]
    pooling: str
    normalize: bool
    base64: bool


def require_served(model: str | None, info: ModelInfo) -> None:
    """Return when `model` names what this worker serves; no name is any model.

    Raises:
        ModelNotServed: listing what is served.
    """
    if model is None or model == info.name or model in info.aliases:
        return
    served = ", ".join(sorted({info.name, *info.aliases}))
    raise ModelNotServed(
        f"model {shortened(model)} is not served here; served are: {served}", param="model"
    )


def completion_job(request: wire.CompletionRequest, worker: BaseModelWorker) -> Job:
    """What `POST /v1/completions` asks for.

    Raises:
        BadRequest: for a value out of range.
        ContextTooLong: for a prompt without room for its answer.
        ModelNotServed: for another model.
    """
    info = worker.info
    require_served(request.model, info)
    prompts = _token_lists(
        "prompt", request.prompt, worker, add_special_tokens=request.add_special_tokens
    )
    longest = max(map(len, prompts))
    params = sampling_params(
        request,
        max_tokens=max_tokens(
            request.max_tokens,
            longest,
            info.max_model_len,
            field="prompt",
            default=DEFAULT_COMPLETION_TOKENS,
            least=0 if request.echo else 1,
        ),
        logprobs=request.logprobs,
        vocab_size=info.vocab_size,
    )
    return checked(
        Job(
            prompts=prompts,
            params=params,
            stream=request.stream,
            include_usage=include_usage(request.stream_options, stream=request.stream),
            return_token_ids=request.return_token_ids,
            tokens_as_ids=request.return_tokens_as_token_ids,
            echo=_echoes(request.prompt, prompts, worker) if request.echo else None,
            prompt_logprobs=request.prompt_logprobs,
        )
    )


def chat_job(request: wire.ChatCompletionRequest, worker: BaseModelWorker) -> Job:
    """What `POST /v1/chat/completions` asks for; raises as `completion_job` does."""
    info = worker.info
    require_served(request.model, info)
    limits = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise BadRequest(
            "max_tokens and max_completion_tokens differ; give one of them", param="max_tokens"
        )
    logprobs = request.top_logprobs or 0 if request.logprobs else None
    if request.top_logprobs is not None and not request.logprobs:
        raise BadRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    prompt = _conversation(request, worker)
    params = sampling_params(
        request,
        max_tokens=max_tokens(
            next(iter(limits), None),
            len(prompt),
            info.max_model_len,
            field="messages",
            default=info.max_model_len,
        ),
        logprobs=logprobs,
        vocab_size=info.vocab_size,
    )
    return checked(
        Job(
            prompts=(prompt,),
            params=params,
            stream=request.stream,
            include_usage=include_usage(request.stream_options, stream=request.stream),
            return_token_ids=request.return_token_ids,
            tokens_as_ids=request.return_tokens_as_token_ids,
            prompt_logprobs=request.prompt_logprobs,
        )
    )


def checked(job: Job) -> Job:
    """The job, if what it asks of its prompts can be given.

    Raises:
        BadRequest: it would fill the memory, or a stream has no place for it.
    """
    if job.stream and job.prompt_logprobs is not None:
        raise BadRequest(
            "prompt_logprobs are not part of a stream; leave out stream, or use echo with "
            "logprobs in /v1/completions",
            param="prompt_logprobs",
        )
    if job.score_top is None:
        return job
    numbers = job.prompt_tokens * (job.score_top + 1) * job.params.n
    if numbers > MAX_PROMPT_LOGPROBS:
        raise BadRequest(
            f"the answer would hold {numbers} log-probabilities of prompts; at most "
            f"{MAX_PROMPT_LOGPROBS} are allowed: send fewer prompts, or ask for fewer alternatives",
            param="logprobs" if job.prompt_logprobs is None else "prompt_logprobs",
        )
    return job


def embedding_job(request: tokens.EmbeddingRequest, worker: BaseModelWorker) -> EmbeddingJob:
    """What `POST /v1/embeddings` asks for; raises as `completion_job` does."""
    info = worker.info
    require_served(request.model, info)
    inputs = _token_lists("input", request.input, worker, add_special_tokens=True)
    _require_fit("input", max(map(len, inputs)), info.max_model_len)
    return EmbeddingJob(
        inputs=inputs,
        pooling=request.pooling,
        normalize=request.normalize,
        base64=request.encoding_format == "base64",
    )


def _token_lists(
    field: str, given: wire.Prompts, worker: BaseModelWorker, *, add_special_tokens: bool
) -> tuple[tuple[int, ...], ...]:
    items = _items(given)
    if not items:
        raise BadRequest(f"{field} is empty; give at least one", param=field)
    if len(items) > wire.MAX_PROMPTS:
        raise BadRequest(
            f"{field} has {len(items)} entries; at most {wire.MAX_PROMPTS} are allowed, "
            "split the batch",
            param=field,
        )
    lists = []
    for item in items:
        if isinstance(item, str):
            tokens = worker.encode(item, add_special_tokens=add_special_tokens) if item else []
        else:
            tokens = item
            check_token_ids(field, tokens, worker.info.vocab_size)
        if not tokens:
            raise BadRequest(f"{field} holds an empty text or token list", param=field)
        lists.append(tuple(tokens))
    return tuple(lists)


def _items(given: wire.Prompts) -> Sequence[str | list[int]]:
    """One entry for each prompt: a lone list of ids is one prompt."""
    if isinstance(given, str):
        return [given]
    ids = [item for item in given if isinstance(item, int)]
    return [ids] if ids else [item for item in given if not isinstance(item, int)]


def _echoes(
    given: wire.Prompts, prompts: Sequence[Sequence[int]], worker: BaseModelWorker
) -> tuple[str, ...]:
    return tuple(
        item if isinstance(item, str) else worker.decode(ids)
        for item, ids in zip(_items(given), prompts, strict=True)
    )


def _require_fit(field: str, tokens: int, max_model_len: int, *, answer: int = 0) -> None:
    if tokens + answer > max_model_len:
        asks = f" and asks for {answer} more" if answer else ""
        raise ContextTooLong(
            f"this model's maximum context length is {max_model_len} tokens; the request has "
            f"{tokens} in its {field}{asks}: shorten it",
            param=field,
        )


def max_tokens(
    asked: int | None, prompt: int, max_model_len: int, *, field: str, default: int, least: int = 1
) -> int:
    """Tokens of the answer; one that was asked for is never shortened to fit.

    Args:
        asked: `max_tokens` of the request.
        prompt: Tokens of the longest prompt, which is in the request's `field`.
        max_model_len: Tokens of prompt and answer together.
        field: Named by an error.
        default: Where none is asked for; less if the context ends before.
        least: That may be asked for.

    Raises:
        BadRequest: for less than `least`.
        ContextTooLong: for more than there is room for.
    """
    if asked is not None and asked < least:
        hint = "" if least == 0 else "; 0 needs echo in /v1/completions"
        raise BadRequest(
            f"max_tokens must be at least {least}{hint}; got {shortened(asked)}",
            param="max_tokens",
        )
    _require_fit(field, prompt, max_model_len, answer=1 if asked is None else asked)
    return min(default, max_model_len - prompt) if asked is None else asked


def _conversation(request: wire.ChatCompletionRequest, worker: BaseModelWorker) -> tuple[int, ...]:
    messages = plain_messages(request.messages)
    if request.continue_final_message:
        if messages[-1].role != "assistant":
            raise BadRequest(
                "continue_final_message needs an assistant message at the end", param="messages"
            )
        if request.add_generation_prompt and "add_generation_prompt" in request.model_fields_set:
            raise BadRequest(
                "add_generation_prompt and continue_final_message exclude each other",
                param="add_generation_prompt",
            )
    return tuple(
        worker.encode_chat(
            messages,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
        )
    )
