"""What callers ask for -> checked request bodies, in the words of `modelworker_api.wire`.

Pure, and without pydantic: this runs on every call. The bodies are held against the wire
shapes by tests.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Final, Literal, TypedDict, TypeGuard

from modelworker._errors import InvalidRequest

Prompt = str | Sequence[int]
Message = Mapping[str, Any]
Body = dict[str, Any]
Pooling = Literal["mean", "last"]

DEFAULT_MAX_TOKENS: Final = 256
_MAX_SEED: Final = 2**63 - 1


class SamplingOptions(TypedDict, total=False):
    """The keyword arguments of `generate`, `chat` and the streams; see `Sampling`."""

    n: int
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    include_stop_str_in_output: bool
    seed: int | None
    logprobs: int | None
    ignore_eos: bool
    extra: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample, checked.

    `logprobs` is the number of likeliest alternatives wanted for each token; the sampled
    tokens' own log-probabilities always come. `extra` goes into the body as it is, for
    what another server than ours understands.

    Raises:
        InvalidRequest: for a value that no worker accepts.
    """

    n: int = 1
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    include_stop_str_in_output: bool = False
    seed: int | None = None
    logprobs: int | None = None
    ignore_eos: bool = False
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _integer("n", self.n, at_least=1)
        _integer("max_tokens", self.max_tokens, at_least=1)
        _number("temperature", self.temperature, at_least=0.0)
        _number("top_p", self.top_p, above=0.0, at_most=1.0)
        _integer("top_k", self.top_k, at_least=-1)
        _number("min_p", self.min_p, at_least=0.0, at_most=1.0)
        _number("repetition_penalty", self.repetition_penalty, above=0.0)
        if self.seed is not None:
            _integer("seed", self.seed, at_least=0, at_most=_MAX_SEED)
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, at_least=0)
        for stop in self.stops:
            if not isinstance(stop, str) or not stop:
                raise InvalidRequest(f"stop must hold strings that are not empty, not {stop!r}")
        for token in self.stop_token_ids or ():
            _integer("stop_token_ids", token, at_least=0)
        for name in ("include_stop_str_in_output", "ignore_eos"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequest(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.extra is not None and not isinstance(self.extra, Mapping):
            raise InvalidRequest(f"extra must be a mapping, not a {type(self.extra).__name__}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, one or many given."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def body(self) -> Body:
        """What completions and chat have in common."""
        body: Body = {
            "n": self.n,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "return_token_ids": True,
        }
        for name, default in _OMITTED_WHEN_DEFAULT:
            value = getattr(self, name)
            if value != default:
                body[name] = value
        if self.stops:
            body["stop"] = list(self.stops)
        if self.stop_token_ids:
            body["stop_token_ids"] = [operator.index(token) for token in self.stop_token_ids]
        return body


_OMITTED_WHEN_DEFAULT: Final = tuple(
    (f.name, f.default)
    for f in fields(Sampling)
    if f.name
    in {
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "include_stop_str_in_output",
        "seed",
        "ignore_eos",
    }
)


def sampling(options: Mapping[str, Any]) -> Sampling:
    """The checked form of keyword arguments.

    Raises:
        InvalidRequest: for an unknown name or a value that no worker accepts.
    """
    try:
        return Sampling(**options)
    except TypeError as error:
        if unknown := sorted(set(options) - SamplingOptions.__annotations__.keys()):
            known = ", ".join(SamplingOptions.__annotations__)
            raise InvalidRequest(
                f"unknown argument {', '.join(unknown)}; known are {known}; "
                "pass another server's own through extra={...}"
            ) from error
        raise InvalidRequest(f"an argument has the wrong type: {error}") from error


def completion(prompt: Prompt, params: Sampling, *, model: str, stream: bool = False) -> Body:
    """Body of `POST /v1/completions`."""
    body = {"model": model, "prompt": prompt, **params.body(), "logprobs": params.logprobs or 0}
    return _finish(body, params, stream=stream)


def chat(
    messages: Sequence[Message],
    params: Sampling,
    *,
    model: str,
    continue_final_message: bool = False,
    stream: bool = False,
) -> Body:
    """Body of `POST /v1/chat/completions`."""
    body = {"model": model, "messages": messages, **params.body(), "logprobs": True}
    if params.logprobs:
        body["top_logprobs"] = params.logprobs
    if continue_final_message:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return _finish(body, params, stream=stream)


def embedding(inputs: Sequence[Prompt], *, model: str, pooling: Pooling, normalize: bool) -> Body:
    """Body of `POST /v1/embeddings`."""
    if pooling not in {"mean", "last"}:
        raise InvalidRequest(f"pooling must be 'mean' or 'last', not {pooling!r}")
    return {
        "model": model,
        "input": list(inputs),
        "encoding_format": "base64",
        "pooling": pooling,
        "normalize": bool(normalize),
    }


def tokenize(text: str, *, model: str, add_special_tokens: bool) -> Body:
    """Body of `POST /tokenize`."""
    return {"model": model, "prompt": text, "add_special_tokens": bool(add_special_tokens)}


def _finish(body: Body, params: Sampling, *, stream: bool) -> Body:
    if stream:
        body["stream"] = True
    if params.extra:
        if taken := sorted(set(params.extra) & (body.keys() | SamplingOptions.__annotations__)):
            raise InvalidRequest(f"extra repeats {', '.join(taken)}; give it as an argument")
        body.update(params.extra)
    return body


# --- one or many ---------------------------------------------------------------------


def is_one_prompt(prompt: object) -> TypeGuard[Prompt]:
    """Whether this is one prompt (text or token ids) rather than a list of them.

    Raises:
        InvalidRequest: if it is neither.
    """
    if isinstance(prompt, str):
        return True
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise InvalidRequest(
            "the prompt must be a string, a list of token ids, or a list of these, "
            f"not a {type(prompt).__name__}"
        )
    return bool(prompt) and not isinstance(prompt[0], str | Sequence)


def checked_prompt(prompt: object, what: str = "the prompt") -> Prompt:
    """A prompt that is not empty, its token ids as plain integers.

    Raises:
        InvalidRequest: if it is empty or of another type.
    """
    if not isinstance(prompt, str | Sequence) or isinstance(prompt, bytes):
        raise InvalidRequest(
            f"{what} must be a string or a list of token ids, not a {type(prompt).__name__}"
        )
    if not prompt:
        raise InvalidRequest(f"{what} is empty; give at least one token")
    return prompt if isinstance(prompt, str) else _token_ids(prompt, what)


def checked_prompts(prompts: Sequence[object]) -> list[Prompt]:
    """Every prompt of a list, checked; the error names the first wrong one."""
    return [checked_prompt(prompt, f"prompt {i}") for i, prompt in enumerate(prompts)]


def checked_texts(texts: Sequence[object]) -> list[str]:
    """Every text of a list, checked.

    Raises:
        InvalidRequest: if it is no list, or holds something that is no string.
    """
    if isinstance(texts, bytes) or not isinstance(texts, Sequence):
        raise InvalidRequest(
            f"text must be a string or a list of strings, not a {type(texts).__name__}"
        )
    checked = [text for text in texts if isinstance(text, str)]
    if len(checked) != len(texts):
        raise InvalidRequest("text must be a list of strings only")
    return checked


def is_one_conversation(messages: object) -> bool:
    """Whether this is one conversation rather than a list of them.

    Raises:
        InvalidRequest: if it is neither.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise InvalidRequest(
            'messages must be a list of {"role": "user", "content": "..."}, or a list of such '
            f"lists, not a {type(messages).__name__}"
        )
    return bool(messages) and isinstance(messages[0], Mapping)


def checked_conversation(messages: object, what: str = "the conversation") -> list[Message]:
    """A conversation of at least one message, each with a role.

    Raises:
        InvalidRequest: if it is empty or a message is not a mapping with a role.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise InvalidRequest(
            f'{what} must be a list of {{"role": "user", "content": "..."}}, not {messages!r:.80}'
        )
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidRequest(
                f'message {i} of {what} must be {{"role": "user", "content": "..."}}, '
                f"not {message!r:.80}"
            )
    return list(messages)


# --- single values -------------------------------------------------------------------


def _token_ids(ids: Sequence[Any], what: str) -> list[int]:
    wrong = next((t for t in ids if not isinstance(t, Integral) or isinstance(t, bool)), None)
    if wrong is not None:
        raise InvalidRequest(f"{what} holds {wrong!r:.80}; give text, or token ids only")
    plain = [operator.index(token) for token in ids]
    if min(plain) < 0:
        raise InvalidRequest(f"{what} holds the negative token id {min(plain)}")
    return plain


def _integer(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    number = int(value) if whole else at_least - 1
    if number < at_least or (at_most is not None and number > at_most):
        limit = "" if at_most is None else f" and at most {at_most}"
        raise InvalidRequest(
            f"{name} must be an integer of at least {at_least}{limit}, not {value!r}"
        )


def _number(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
) -> None:
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if real and at_least <= value <= at_most and value > above:
        return
    limits = (("at least", at_least), ("above", above), ("at most", at_most))
    words = " and ".join(f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit))
    raise InvalidRequest(f"{name} must be a finite number {words}, not {value!r}")
