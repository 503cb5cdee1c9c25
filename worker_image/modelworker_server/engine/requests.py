"""Checks of a request before it reaches the engine's own application: pure.

That application reads the same bytes again. These checks are for what it takes too long
for, or fails at without saying why.
"""

from collections.abc import Iterator
from typing import Any, Final

from pydantic_core import from_json

from modelworker_api import wire
from modelworker_server.errors import BadRequest
from modelworker_server.openai.sampling import check_token_ids

_LISTS: Final = {
    "messages": wire.MAX_MESSAGES,
    "stop": wire.MAX_STOPS,
    "stop_sequences": wire.MAX_STOPS,
}
"""Longest lists of a request."""
_MAX_BIAS: Final = 100
"""OpenAI's bound; vLLM would cut off what is above it."""
_MAX_GRAMMAR: Final = 64 * 1024
"""Characters of a schema or grammar: compiling a longer one can take minutes."""


def check_body(body: bytes, path: str, vocab_size: int) -> None:
    """Refuse a body that no engine should see.

    Args:
        body: What was sent.
        path: Where to.
        vocab_size: The model's; token ids are below it.

    Raises:
        BadRequest: what is wrong with it.
    """
    try:
        # NaN and Infinity, invalid UTF-8, lone surrogates and deep nesting end here.
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    for holder in _holders(data):
        _check_fields(holder)
    if path == "/detokenize":
        check_token_ids("tokens", _ids(data.get("tokens")), vocab_size)


def _holders(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects of a request that hold sampling parameters."""
    yield data
    nested = data.get("sampling_params")
    if isinstance(nested, dict):
        yield nested


def _check_fields(data: dict[str, Any]) -> None:
    for field, most in _LISTS.items():
        value = data.get(field)
        if isinstance(value, list) and len(value) > most:
            raise BadRequest(
                f"{field} has {len(value)} elements, at most {most} are taken", param=field
            )
    prompt = data.get("prompt")
    if isinstance(prompt, list) and not _is_tokens(prompt) and len(prompt) > wire.MAX_PROMPTS:
        raise BadRequest(
            f"prompt has {len(prompt)} prompts, at most {wire.MAX_PROMPTS} are taken; "
            "send several requests",
            param="prompt",
        )
    samples = data.get("n")
    if isinstance(samples, int) and not 1 <= samples <= wire.MAX_N:
        raise BadRequest(f"n is {samples}, it must be between 1 and {wire.MAX_N}", param="n")
    _check_stop(data.get("stop"))
    _check_bias(data.get("logit_bias"))
    for field in ("structured_outputs", "response_format"):
        if (length := _characters(data.get(field))) > _MAX_GRAMMAR:
            raise BadRequest(
                f"{field} has {length} characters, at most {_MAX_GRAMMAR} are taken", param=field
            )


def _check_stop(stop: object) -> None:
    if stop == "" or (isinstance(stop, list) and "" in stop):
        raise BadRequest("stop has an empty text; it would end every answer", param="stop")


def _check_bias(bias: object) -> None:
    if not isinstance(bias, dict):
        return
    for token, value in bias.items():
        if isinstance(value, int | float) and abs(value) > _MAX_BIAS:
            raise BadRequest(
                f"logit_bias of token {token} is {value}, it must be between -{_MAX_BIAS} and "
                f"{_MAX_BIAS}",
                param="logit_bias",
            )


def _ids(tokens: object) -> list[int]:
    """The token ids of a list; other elements are the engine's to refuse."""
    return [one for one in tokens if isinstance(one, int)] if isinstance(tokens, list) else []


def _is_tokens(prompt: list[Any]) -> bool:
    return bool(prompt) and isinstance(prompt[0], int)


def _characters(value: object) -> int:
    """Characters of all texts and names inside a JSON value."""
    match value:
        case str():
            return len(value)
        case list():
            return sum(map(_characters, value))
        case dict():
            return sum(len(key) + _characters(inner) for key, inner in value.items())
        case _:
            return 0
