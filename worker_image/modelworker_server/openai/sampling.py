"""The sampling parameters of a request, checked."""

from typing import Any, Final, TypeVar

from modelworker_api import wire
from modelworker_server.errors import BadRequest
from modelworker_server.parsing import shortened
from modelworker_server.workers.base import SamplingParams

_T = TypeVar("_T")

MAX_LOGPROBS: Final = 20
MAX_STOP_CHARACTERS: Final = 1024
MAX_FACTOR: Final = 100.0
"""Largest temperature and repetition penalty: beyond it float32 only loses digits."""
MAX_BIAS: Final = 100.0
MAX_BIASED: Final = 1024
"""Tokens of a `logit_bias`."""
MAX_SEED: Final = 2**63 - 1
GREEDY_BELOW: Final = 1e-5
"""Temperatures under it are greedy, as in vLLM and FastChat: dividing by them overflows."""


def sampling_params(
    request: wire.SamplingRequest, *, max_tokens: int, logprobs: int | None, vocab_size: int
) -> SamplingParams:
    """How to sample.

    Args:
        request: What both kinds of generation have in common; null means the default.
        max_tokens: Already fitted to the context.
        logprobs: Alternatives wanted beside each sampled token, None for none at all.
        vocab_size: Token ids are below it.

    Raises:
        BadRequest: naming the parameter that is out of range and the range.
    """
    temperature = _or(request.temperature, 1.0)
    top_p = _or(request.top_p, 1.0)
    top_k = _or(request.top_k, -1)
    min_p = _or(request.min_p, 0.0)
    penalty = _or(request.repetition_penalty, 1.0)
    presence = _or(request.presence_penalty, 0.0)
    frequency = _or(request.frequency_penalty, 0.0)
    n = _or(request.n, 1)
    _check("temperature", temperature, 0 <= temperature <= MAX_FACTOR, f"from 0 to {MAX_FACTOR:g}")
    _check("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1")
    _check("top_k", top_k, top_k == -1 or top_k >= 1, "-1 (all tokens) or at least 1")
    _check("min_p", min_p, 0 <= min_p <= 1, "from 0 to 1")
    _check(
        "repetition_penalty", penalty, 0 < penalty <= MAX_FACTOR, f"above 0, up to {MAX_FACTOR:g}"
    )
    for field, value in (("presence_penalty", presence), ("frequency_penalty", frequency)):
        _check(field, value, -2 <= value <= 2, "from -2 to 2")
    _check("n", n, 1 <= n <= wire.MAX_N, f"from 1 to {wire.MAX_N}")
    if request.seed is not None:
        _check("seed", request.seed, 0 <= request.seed <= MAX_SEED, f"from 0 to {MAX_SEED}")
    for field, top in (("logprobs", logprobs), ("prompt_logprobs", request.prompt_logprobs)):
        if top is not None:
            _check(field, top, 0 <= top <= MAX_LOGPROBS, f"from 0 to {MAX_LOGPROBS}")
    check_token_ids("stop_token_ids", request.stop_token_ids or [], vocab_size)
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=0.0 if temperature < GREEDY_BELOW else temperature,
        top_p=top_p,
        # More candidates than tokens are all tokens.
        top_k=-1 if top_k >= vocab_size else top_k,
        min_p=min_p,
        repetition_penalty=penalty,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=_logit_bias(request.logit_bias or {}, vocab_size),
        n=n,
        seed=request.seed,
        stop=_stops(request.stop),
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        include_stop_str_in_output=request.include_stop_str_in_output,
        ignore_eos=request.ignore_eos,
        logprobs=logprobs,
        skip_special_tokens=request.skip_special_tokens,
    )


def _logit_bias(bias: dict[int, float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    check_token_ids("logit_bias", list(bias), vocab_size)
    if len(bias) > MAX_BIASED:
        raise BadRequest(
            f"logit_bias has {len(bias)} tokens; at most {MAX_BIASED} are allowed",
            param="logit_bias",
        )
    for value in bias.values():
        _check("logit_bias", value, abs(value) <= MAX_BIAS, f"from {-MAX_BIAS:g} to {MAX_BIAS:g}")
    return tuple(bias.items())


def include_usage(options: dict[str, Any] | None, *, stream: bool) -> bool:
    """Whether a stream ends with a chunk of token counts.

    Args:
        options: `stream_options` of the request.
        stream: Whether a stream is asked for.

    Raises:
        BadRequest: for options without a stream, or ones that are not known.
    """
    if options is None:
        return False
    if not stream:
        raise BadRequest("stream_options needs stream: true", param="stream_options")
    wanted = options.get("include_usage") or False
    if not isinstance(wanted, bool):
        raise BadRequest("stream_options.include_usage must be a boolean", param="stream_options")
    if options.get("continuous_usage_stats"):
        raise BadRequest(
            "stream_options.continuous_usage_stats is not supported", param="stream_options"
        )
    return wanted


def check_token_ids(field: str, ids: list[int], vocab_size: int) -> None:
    """Return when all ids are tokens of the model.

    Raises:
        BadRequest: naming the field.
    """
    if ids and not (min(ids) >= 0 and max(ids) < vocab_size):
        wrong = next(i for i in ids if not 0 <= i < vocab_size)
        raise BadRequest(
            f"{field} must be token ids from 0 to {vocab_size - 1}; got {shortened(wrong)}",
            param=field,
        )


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _check(field: str, value: float, holds: bool, says: str) -> None:
    if not holds:
        raise BadRequest(f"{field} must be {says}; got {shortened(value)}", param=field)


def _stops(stop: wire.Stop) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > wire.MAX_STOPS:
        raise BadRequest(
            f"stop has {len(stops)} strings; at most {wire.MAX_STOPS} are allowed", param="stop"
        )
    if any(not 1 <= len(text) <= MAX_STOP_CHARACTERS for text in stops):
        raise BadRequest(
            f"stop strings must have 1 to {MAX_STOP_CHARACTERS} characters", param="stop"
        )
    return tuple(dict.fromkeys(stops))
