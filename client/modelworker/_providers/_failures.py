"""What a provider's SDK raises -> errors of ours. Pure, and without the SDKs.

Their classes are alike (one generator makes both packages): an error with `status_code` came
from the server, one whose name says `Timeout` or `Connection` did not get there.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from modelworker import _errors
from modelworker._errors import ModelWorkerError

_OVERLOADED: Final = 529
"""Anthropic's status for an API that is over its limit as a whole."""
_STATUS_OF_TYPE: Final = {
    "invalid_request_error": HTTPStatus.BAD_REQUEST,
    "authentication_error": HTTPStatus.UNAUTHORIZED,
    "permission_error": HTTPStatus.FORBIDDEN,
    "not_found_error": HTTPStatus.NOT_FOUND,
    "rate_limit_error": HTTPStatus.TOO_MANY_REQUESTS,
    "rate_limit_exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "timeout_error": HTTPStatus.GATEWAY_TIMEOUT,
    "overloaded_error": _OVERLOADED,
}
"""For errors inside a stream, which began with a status of success."""
_NO_MODEL: Final = {"model_not_found", "NotFoundError", "not_found_error"}
_CONTEXT_WORDS: Final = ("maximum context length", "prompt is too long")
_COMPLETIONS: Final = "/v1/completions"
_LONGEST: Final = 500
"""Characters of a server's words that a message repeats."""


class Where(NamedTuple):
    """Who was asked for what."""

    provider: str
    url: str
    path: str


def translated(error: Exception, where: Where, secrets: Sequence[str]) -> ModelWorkerError | None:
    """The error of ours that an SDK's stands for, without secrets; None if it is a bug.

    Args:
        error: what was raised while a request was sent or its answer read.
        where: who was asked for what.
        secrets: keys that neither message may repeat: the SDK's is changed in place, for it
            is the cause, and part of every traceback.
    """
    if isinstance(error, ModelWorkerError):
        return None
    _redact(error, secrets)
    found = _translated(error, where)
    if found is not None:
        found.worker = where.url
    return found


def _translated(error: Exception, where: Where) -> ModelWorkerError | None:
    name, who = type(error).__name__, f"provider {where.provider!r} at {where.url}"
    said = _message(error)
    status = getattr(error, "status_code", None)
    found: ModelWorkerError | None = None
    if name == "APIResponseValidationError" or isinstance(error, ValueError):
        found = _errors.WorkerFailed(f"{who} gave an answer that is none: {said}")
    elif status is not None or isinstance(getattr(error, "body", None), Mapping):
        found = _of_answer(error, status, said, where, who)
    elif name == "EndedEarly":
        found = _errors.Unavailable(f"{who} ended the stream without its last event")
    elif name.startswith(("APIConnection", "APITimeout")) or "httpx" in type(error).__module__:
        found = _of_connection(error, who)
    elif _is_missing_key(error):
        found = _errors.AccessDenied(
            f"no key for {who}: set {where.provider.upper()}_API_KEY, or pass api_key=...; any "
            "text will do for a server that asks for none"
        )
    elif type(error).__module__.split(".")[0] == where.provider:
        found = _errors.WorkerFailed(f"{who}: {said}")
    return found


def _of_connection(error: Exception, who: str) -> ModelWorkerError:
    reason = error.__cause__ or error
    said = str(reason) or type(reason).__name__
    if type(reason).__name__.startswith("Connect"):
        return _errors.Unreachable(f"no connection to {who}: {said}")
    return _errors.Unavailable(f"the connection to {who} broke: {said}")


def _of_answer(
    error: Any, status: int | None, said: str, where: Where, who: str
) -> ModelWorkerError:
    """The error that an answer of the server stands for."""
    detail = _detail(error)
    words = {str(detail.get(name)) for name in ("code", "type")}
    if status is None or _errors.is_success(status):
        status = next((_STATUS_OF_TYPE[word] for word in words if word in _STATUS_OF_TYPE), 500)
    headers = getattr(getattr(error, "response", None), "headers", {})
    found = _of_status(status, words, said, where, who)
    if isinstance(found, _errors.WorkerFailed) and headers.get("x-should-retry") == "true":
        found = _errors.Unavailable(f"{who} failed for now: {said}")
    found.retry_after = _errors.seconds_of(headers.get("retry-after"))
    return found


def _of_status(status: int, words: set[str], said: str, where: Where, who: str) -> ModelWorkerError:
    found: ModelWorkerError
    if status == HTTPStatus.UNAUTHORIZED:
        found = _errors.AccessDenied(f"{who} does not accept the key: {said}; check api_key")
    elif status == HTTPStatus.FORBIDDEN:
        found = _errors.AccessDenied(f"{who} refused: {said}")
    elif status == HTTPStatus.PAYMENT_REQUIRED or "insufficient_quota" in words:
        found = _errors.AccessDenied(f"{who} wants to be paid first: {said}")
    elif status in {HTTPStatus.TOO_MANY_REQUESTS, _OVERLOADED}:
        found = _errors.Overloaded(
            f"{who} is over its limit: {said}; lower max_in_flight, or raise timeout to wait longer"
        )
    elif status in {HTTPStatus.REQUEST_TIMEOUT, *_errors.GATEWAY}:
        found = _errors.Unavailable(f"{who} is not serving: {said}")
    elif "context_length_exceeded" in words or any(part in said for part in _CONTEXT_WORDS):
        found = _errors.ContextTooLong(said)
    elif status == HTTPStatus.NOT_FOUND and words & _NO_MODEL:
        found = _errors.ModelNotServed(f"{who} does not serve this model: {said}")
    elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        step = "use chat" if where.path == _COMPLETIONS else "check base_url"
        found = _errors.Unsupported(f"{who} does not do that: {said}; {step}")
    elif status == HTTPStatus.NOT_IMPLEMENTED:
        found = _errors.Unsupported(f"{who} does not do that: {said}")
    elif HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        found = _errors.InvalidRequest(f"{who} refused the request: {said}")
    else:
        found = _errors.WorkerFailed(f"{who} failed with HTTP {status}: {said}")
    return found


def _is_missing_key(error: Exception) -> bool:
    """Whether the SDK found no key: OpenAI's client cannot be made, Anthropic's cannot send."""
    said = str(error)
    return "api_key" in said and (type(error).__name__ == "OpenAIError" or "auth" in said)


def _detail(error: Any) -> Mapping[str, Any]:
    """The error object of an answer, inside `error` or by itself."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    return inner if isinstance(inner, Mapping) else body


def _message(error: Any) -> str:
    """The server's words if there are any, else the SDK's."""
    detail = _detail(error) if hasattr(error, "body") else {}
    said = detail.get("message") or detail.get("detail") or getattr(error, "message", None)
    return str(said or error)[:_LONGEST]


def _redact(error: Any, secrets: Sequence[str]) -> None:
    """Take the keys out of what an SDK's error says, for servers that repeat them."""
    error.args = tuple(_without(secrets, argument) for argument in error.args)
    for name in ("message", "body"):
        if hasattr(error, name):
            setattr(error, name, _without(secrets, getattr(error, name)))


def _without(secrets: Sequence[str], value: Any) -> Any:
    """The same without the keys: texts, and texts in mappings."""
    if isinstance(value, Mapping):
        return {name: _without(secrets, item) for name, item in value.items()}
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
    return value
