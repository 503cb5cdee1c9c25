"""From the bytes of a request to a checked shape; every fault is a `BadRequest` that names it."""

import reprlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from modelworker_api import wire
from modelworker_server.errors import BadRequest, BodyTooLarge, NotJson
from modelworker_server.openai.refused import refuse_unsupported

ShapeT = TypeVar("ShapeT", bound=wire.Wire)

_PROMPTS: Final = "must be a text, a list of texts, a list of token ids, or a list of such lists"
_UNIONS: Final[Mapping[str, str]] = {
    "prompt": _PROMPTS,
    "input": _PROMPTS,
    "input_str": "must be a text or a list of texts",
    "stop": "must be a text or a list of texts",
    "content": "must be a text or a list of text parts",
}
"""What fields of several shapes may be; pydantic lists one error for each shape."""


def require_json(content_type: str | None) -> None:
    """Refuse what is not declared as JSON, so that no web page can post it unasked.

    Raises:
        NotJson: for another or no content type.
    """
    media_type = (content_type or "").split(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise NotJson(
            f"Content-Type is {reprlib.repr(media_type)}; send the body as application/json"
        )


async def read_body(chunks: AsyncIterator[bytes], declared: str | None, limit: int) -> bytes:
    """The whole body, chunked or not.

    Raises:
        BodyTooLarge: as soon as it is known to be longer than `limit` bytes.
    """
    too_large = BodyTooLarge(
        f"the body has more than {limit} bytes, which is the limit; send a smaller batch"
    )
    if declared is not None and declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def parse(shape: type[ShapeT], body: bytes) -> ShapeT:
    """The request in a body.

    Raises:
        BadRequest: no JSON object, or a field that is missing, wrong or not supported.
    """
    try:
        # NaN and Infinity, invalid UTF-8, lone surrogates and deep nesting end here.
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    refuse_unsupported(shape, data)
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False, include_input=False)) from None


def _explain(problems: list[ErrorDetails]) -> BadRequest:
    lines = dict.fromkeys(_sentence(problem) for problem in problems)
    return BadRequest("; ".join(lines), param=_param(problems[0]["loc"]))


def _param(place: tuple[int | str, ...]) -> str:
    """The field at fault; among the inputs of a reward request, that of the input."""
    first, *rest = place
    if first != "inputs" or not rest:
        return str(first)
    index, *field = rest
    return f"inputs[{index}]" + (f".{field[0]}" if field else "")


def _sentence(problem: ErrorDetails) -> str:
    path: list[str] = []
    *_, last = problem["loc"]
    for part in problem["loc"]:
        if isinstance(part, int):
            path.append(f"[{part}]")
        elif part.isidentifier() and part != "str":
            path.append(f".{part}" if path else part)
            if part in _UNIONS and part != last:
                return f"{''.join(path)}: {_UNIONS[part]}"
    if problem["type"] == "model_type":
        return f"{''.join(path)}: must be an object"
    return f"{''.join(path)}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def shortened(value: Any) -> str:
    """A value as a message may show it, however long it is."""
    return reprlib.repr(value)
