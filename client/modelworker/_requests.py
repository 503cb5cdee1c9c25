"""What callers ask for -> checked request bodies, in the words of `modelworker_api.wire`.

Pure, and without pydantic: this runs on every call. The bodies are held against the wire
shapes by tests.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Final, Literal, TypedDict

from modelworker._errors import InvalidRequest

Prompt = str | Sequence[int]
Message = Mapping[str, Any]
Body = dict[str, Any]
Pooling = Literal["mean", "last"]

DEFAULT_MAX_TOKENS: Final = 256
_MAX_SEED: Final = 2**63 - 1


class StepOptions(TypedDict, total=False):
    """The keyword arguments of `step`; see `Sampling`."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    stop_token_ids: Sequence[int] | None
    seed: int | None
    ignore_eos: bool
    extra: Mapping[str, Any] | None


class SamplingOptions(StepOptions, total=False):
    """The keyword arguments of `generate`, `chat` and the streams; see `Sampling`."""

    n: int
    stop: str | Sequence[str] | None
    include_stop_str_in_output: bool
    logprobs: int | None


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
            known = ", ".join(f.name for f in fields(Sampling))
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


def tokenize(item: str | Sequence[Message], *, model: str, add_special_tokens: bool) -> Body:
    """Body of `POST /tokenize`; a conversation's special tokens are those of its template."""
    if isinstance(item, str):
        return {"model": model, "prompt": item, "add_special_tokens": bool(add_special_tokens)}
    return {
        "model": model,
        "messages": list(item),
        "add_generation_prompt": True,
        "add_special_tokens": False,
    }


def echo(prompt: Sequence[int], completion: Sequence[int], *, model: str) -> Body:
    """Body of `POST /v1/completions` that scores a continuation and generates nothing."""
    return {
        "model": model,
        "prompt": [*prompt, *completion],
        "n": 1,
        "max_tokens": 0,
        "temperature": 1.0,
        "echo": True,
        "logprobs": 0,
    }


def _finish(body: Body, params: Sampling, *, stream: bool) -> Body:
    if stream:
        body["stream"] = True
    if params.extra:
        if taken := sorted(set(params.extra) & (body.keys() | SamplingOptions.__annotations__)):
            raise InvalidRequest(f"extra repeats {', '.join(taken)}; give it as an argument")
        body.update(params.extra)
    return body


# --- single values -------------------------------------------------------------------


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
