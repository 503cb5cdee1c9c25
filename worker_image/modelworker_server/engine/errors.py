"""The errors of an engine's own application in the shape that all clients parse: pure."""

import json
from http import HTTPStatus
from typing import Any, Final

from modelworker_api import wire

CONTEXT: Final = "maximum context length"
"""Clients look for these words to tell that a prompt was too long."""
ERROR_EVENT: Final = b'data: {"error"'
"""How an error begins that comes after the answer has begun."""
_TOO_LONG: Final = (CONTEXT, "max_model_len", "maximum model length", "longer than the maximum")
_TYPES: Final = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.NOT_IMPLEMENTED: "unsupported",
}
"""The types that this package gives errors with these statuses."""


def translated(status: int, body: bytes, path: str) -> wire.ErrorResponse:
    """The body of this package's shape for an error of the engine's application.

    Args:
        status: The answer's status, 400 or above.
        body: The answer's body, whatever it is.
        path: The path of the request.
    """
    detail = _detail(body)
    message, param = _text(detail.get("message")), detail.get("param")
    kind = _text(detail.get("type"))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TYPES:
        message, kind = "the engine failed at this request; the worker's log says why", ""
    elif status == HTTPStatus.NOT_FOUND and not message:
        message = f"the model that is served here has no route {path}; GET /v1/models names it"
    elif status == HTTPStatus.NOT_FOUND and (param == "model" or message.startswith("The model ")):
        kind = "model_not_found"
    elif status == HTTPStatus.BAD_REQUEST and any(words in message for words in _TOO_LONG):
        kind = "context_length_exceeded"
        message = message if CONTEXT in message else f"above the {CONTEXT}: {message}"
    else:
        kind = _TYPES.get(HTTPStatus(status), kind)
    message = message or HTTPStatus(status).phrase
    kind = kind or _TYPES.get(HTTPStatus(status), "") or _by_class(status)
    return wire.ErrorResponse(
        message=message,
        code=status,
        error=wire.ErrorDetail(
            message=message,
            type=kind,
            code=status,
            param=param if isinstance(param, str) else None,
        ),
    )


def translated_event(event: bytes, path: str, *, alive: bool) -> bytes:
    """The same for an error that comes as an event of a stream.

    Args:
        event: The event, which begins with `ERROR_EVENT`.
        path: The path of the request.
        alive: Whether the engine is; what a dead one leaves undone another worker can do.
    """
    body = event.removeprefix(b"data: ").strip()
    code = _detail(body).get("code")
    status = code if isinstance(code, int) else HTTPStatus.INTERNAL_SERVER_ERROR
    if not alive:
        status = HTTPStatus.SERVICE_UNAVAILABLE
    return b"data: " + translated(status, body, path).model_dump_json().encode() + b"\n\n"


def _detail(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(data, dict):
        return {}
    error = data.get("error")
    return error if isinstance(error, dict) else {"message": error} if error else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _by_class(status: int) -> str:
    return (
        "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal_error"
    )
