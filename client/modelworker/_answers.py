"""JSON that workers send -> results. Pure; what does not fit raises `WorkerFailed`.

What another server leaves out, such as token ids, is None in the result.
"""

import array
import base64
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from modelworker._errors import WorkerFailed
from modelworker._results import Chunk, Generation, Sample, TopLogprobs, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """The decoded body of a successful answer, and who gave it."""

    payload: Any
    url: str
    worker: str | None = None
    revision: str | None = None
    dtype: str | None = None
    load: str | None = None
    """The worker's load, in the words of `wire.HEADER_LOAD`."""


def completion(answer: Answer, *, n: int) -> Generation:
    """Result of `POST /v1/completions` for one prompt and `n` samples.

    Raises:
        WorkerFailed: if the answer has not the documented shape.
    """
    return read(answer, lambda body: _generation(answer, body, _completion_sample, n))


def chat(answer: Answer, *, n: int) -> Generation:
    """Result of `POST /v1/chat/completions` for `n` samples.

    Raises:
        WorkerFailed: if the answer has not the documented shape.
    """
    return read(answer, lambda body: _generation(answer, body, _chat_sample, n))


def completion_chunks(answer: Answer) -> list[Chunk]:
    """The parts in one event of a completion stream."""
    return read(answer, lambda body: [_completion_chunk(c) for c in body["choices"]])


def chat_chunks(answer: Answer) -> list[Chunk]:
    """The parts in one event of a chat stream; an event that only opens a message has none."""
    return read(
        answer,
        lambda body: [
            chunk
            for chunk in map(_chat_chunk, body["choices"])
            if chunk.text or chunk.token_ids or chunk.finish_reason
        ],
    )


def embeddings(answer: Answer, *, count: int) -> list[list[float]]:
    """Vectors of `POST /v1/embeddings`, in the order of the inputs."""

    def vectors(body: Mapping[str, Any]) -> list[list[float]]:
        data = sorted(body["data"], key=lambda item: item["index"])
        if [item["index"] for item in data] != list(range(count)):
            raise ValueError(f"{len(data)} vectors for {count} inputs")
        return [_vector(item["embedding"]) for item in data]

    return read(answer, vectors)


def token_count(answer: Answer) -> int:
    """Number of tokens that `POST /tokenize` found."""
    return read(answer, lambda body: int(body["count"]))


def tokens(answer: Answer) -> list[int]:
    """The token ids that `POST /tokenize` found."""
    return read(answer, lambda body: [int(token) for token in body["tokens"]])


def echoed(answer: Answer, *, prompt: int, completion: Sequence[int], text: str | None) -> Sample:
    """The scored continuation in an echo of `prompt` tokens and those of `completion`.

    Args:
        answer: that of `POST /v1/completions` with `echo` and `logprobs`.
        prompt: number of tokens before the continuation.
        completion: the continuation's token ids.
        text: the continuation as it was given; None to put it together from its tokens.

    Raises:
        WorkerFailed: if the answer does not score every token of the continuation.
    """

    def sample(body: Mapping[str, Any]) -> Sample:
        (choice,) = body["choices"]
        logprobs = choice["logprobs"]
        values = logprobs["token_logprobs"][prompt : prompt + len(completion)]
        if len(values) != len(completion) or None in values:
            raise ValueError("not every token of the continuation has a log-probability")
        return Sample(
            index=0,
            text="".join(logprobs["tokens"][prompt:][: len(values)]) if text is None else text,
            token_ids=tuple(completion),
            logprobs=tuple(values),
            finish_reason=None,
        )

    return read(answer, sample)


# --- the shapes ----------------------------------------------------------------------


def read(answer: Answer, parse: Callable[[Mapping[str, Any]], T]) -> T:
    """What `parse` makes of the body.

    Raises:
        WorkerFailed: if the body does not fit.
    """
    try:
        return parse(answer.payload)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        failed = WorkerFailed(
            f"worker {answer.url} gave an answer that does not fit: {error!r}; "
            "do its version and this client's go together?"
        )
        failed.worker = answer.url
        raise failed from error


def _generation(
    answer: Answer,
    body: Mapping[str, Any],
    sample: Callable[[Mapping[str, Any]], Sample],
    n: int,
) -> Generation:
    choices = sorted(body["choices"], key=lambda choice: choice["index"])
    if [choice["index"] for choice in choices] != list(range(n)):
        raise ValueError(f"{len(choices)} samples where {n} were asked for")
    prompt_ids = choices[0].get("prompt_token_ids") or body.get("prompt_token_ids")
    samples = tuple(map(sample, choices))
    return Generation(
        samples=samples,
        prompt_token_ids=None if prompt_ids is None else tuple(prompt_ids),
        usage=_usage(body.get("usage") or {}, prompt_ids, samples),
        worker=answer.worker or answer.url,
        model=body["model"],
        revision=answer.revision,
        dtype=answer.dtype,
    )


def _usage(
    usage: Mapping[str, Any], prompt_ids: Sequence[int] | None, samples: Sequence[Sample]
) -> Usage:
    counted = [len(sample.token_ids) for sample in samples if sample.token_ids is not None]
    return Usage(
        usage.get("prompt_tokens", None if prompt_ids is None else len(prompt_ids)),
        usage.get("completion_tokens", sum(counted) if len(counted) == len(samples) else None),
    )


def _completion_sample(choice: Mapping[str, Any]) -> Sample:
    logprobs, top = _completion_logprobs(choice.get("logprobs"))
    return Sample(
        index=choice["index"],
        text=choice["text"],
        token_ids=_ids(choice),
        logprobs=logprobs,
        top_logprobs=top,
        finish_reason=choice["finish_reason"],
        stop_reason=choice.get("stop_reason"),
    )


def _chat_sample(choice: Mapping[str, Any]) -> Sample:
    logprobs, top = _chat_logprobs(choice.get("logprobs"))
    return Sample(
        index=choice["index"],
        text=choice["message"].get("content") or "",
        token_ids=_ids(choice),
        logprobs=logprobs,
        top_logprobs=top,
        finish_reason=choice["finish_reason"],
        stop_reason=choice.get("stop_reason"),
    )


def _completion_chunk(choice: Mapping[str, Any]) -> Chunk:
    logprobs, _ = _completion_logprobs(choice.get("logprobs"))
    return Chunk(
        index=choice["index"],
        text=choice["text"],
        token_ids=_new_ids(choice, choice["text"]),
        logprobs=logprobs,
        finish_reason=choice.get("finish_reason"),
        stop_reason=choice.get("stop_reason"),
    )


def _chat_chunk(choice: Mapping[str, Any]) -> Chunk:
    logprobs, _ = _chat_logprobs(choice.get("logprobs"))
    text = (choice.get("delta") or {}).get("content") or ""
    return Chunk(
        index=choice["index"],
        text=text,
        token_ids=_new_ids(choice, text),
        logprobs=logprobs,
        finish_reason=choice.get("finish_reason"),
        stop_reason=choice.get("stop_reason"),
    )


def _ids(choice: Mapping[str, Any]) -> tuple[int, ...] | None:
    ids = choice.get("token_ids")
    return None if ids is None else tuple(ids)


def _new_ids(choice: Mapping[str, Any], text: str) -> tuple[int, ...] | None:
    """The ids of a part; a part without text may have none, text without ids hides them."""
    return _ids(choice) or (None if text and choice.get("token_ids") is None else ())


def _completion_logprobs(
    logprobs: Mapping[str, Any] | None,
) -> tuple[tuple[float, ...] | None, TopLogprobs | None]:
    if logprobs is None:
        return None, None
    values = tuple(logprobs["token_logprobs"])
    if None in values:
        raise ValueError("a generated token without its log-probability")
    top = logprobs.get("top_logprobs")
    return values, tuple(top) if top and all(top) else None


def _chat_logprobs(
    logprobs: Mapping[str, Any] | None,
) -> tuple[tuple[float, ...] | None, TopLogprobs | None]:
    if logprobs is None or logprobs.get("content") is None:
        return None, None
    content = logprobs["content"]
    values = tuple(token["logprob"] for token in content)
    tops = tuple(
        {top["token"]: top["logprob"] for top in token.get("top_logprobs") or ()}
        for token in content
    )
    return values, tops if tops and all(tops) else None


def _vector(embedding: str | list[float]) -> list[float]:
    """Floats as they are, or little-endian float32 in base64."""
    if not isinstance(embedding, str):
        return [float(value) for value in embedding]
    values = array.array("f", base64.b64decode(embedding, validate=True))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
