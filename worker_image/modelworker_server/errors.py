"""The worker's errors and the one table that maps them to HTTP."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from modelworker_api import wire

CLIENT_CLOSED: Final = 499
"""What logs and metrics say of a request whose client went away (nginx's number)."""

DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""What a model hub answers when a token is missing or has no access."""


class WorkerError(Exception):
    """Base of what a request can end with; the message says the next step."""

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    type: str = "internal_error"
    step: int | None = None
    """Index of the step at fault, if one is."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> wire.ErrorResponse:
        """The answer's body."""
        return wire.ErrorResponse(
            message=self.message,
            code=int(self.status),
            error=wire.ErrorDetail(
                message=self.message, type=self.type, code=int(self.status), param=self.param
            ),
        )

    def headers(self) -> Mapping[str, str]:
        """Headers that belong to the answer."""
        return {}


class BadRequest(WorkerError):
    """The request is wrong and will be wrong again."""

    status = HTTPStatus.BAD_REQUEST
    type = "invalid_request_error"


class ContextTooLong(BadRequest):
    """Prompt and answer do not fit into the model's context."""

    type = "context_length_exceeded"


class StepMismatch(BadRequest):
    """An answer's steps cannot be told apart in its tokens; `step` is the index of the first."""

    type = "step_mismatch"

    def __init__(self, message: str, *, step: int, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.step = step


class NoSteps(BadRequest):
    """There is nothing in an answer to score."""

    type = "no_steps"


class NonFiniteScore(WorkerError):
    """The model gave NaN or infinity for the step of that index; without one, their aggregate."""

    type = "non_finite_score"

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class UnsupportedParameter(BadRequest):
    """A known parameter that this worker does not implement: refused, never ignored."""

    type = "unsupported"


class ModelNotServed(WorkerError):
    """Another model was asked for."""

    status = HTTPStatus.NOT_FOUND
    type = "model_not_found"


class Unauthorized(WorkerError):
    """The token that a route needs is missing or wrong."""

    status = HTTPStatus.UNAUTHORIZED
    type = "authentication_error"

    def __init__(self, message: str, *, challenge: str = "Bearer") -> None:
        super().__init__(message)
        self.challenge = challenge

    def headers(self) -> Mapping[str, str]:
        """The scheme that is asked for."""
        return {"www-authenticate": self.challenge}


class Forbidden(WorkerError):
    """It is known who calls, and they may not."""

    status = HTTPStatus.FORBIDDEN
    type = "permission_error"


class RouteNotFound(WorkerError):
    """No such path."""

    status = HTTPStatus.NOT_FOUND
    type = "not_found"


class MethodNotAllowed(WorkerError):
    """The path exists, the method does not."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    type = "method_not_allowed"


class BodyTooLarge(WorkerError):
    """More bytes than one request may have."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "body_too_large"


class NotJson(WorkerError):
    """The body is not declared as JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    type = "unsupported_media_type"


class Unsupported(WorkerError):
    """This worker does not do that."""

    status = HTTPStatus.NOT_IMPLEMENTED
    type = "unsupported"


class Overloaded(WorkerError):
    """The queue is full; try again after `retry_after` seconds."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "overloaded"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def headers(self) -> Mapping[str, str]:
        """`Retry-After` in whole seconds, at least 1."""
        return {"retry-after": str(max(1, math.ceil(self.retry_after)))}


class Unavailable(WorkerError):
    """Not ready, draining, or the engine died: another worker may answer."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    type = "unavailable"


class NotReady(Unavailable):
    """The model is not loaded yet."""


class NoTrust(Unavailable):
    """It is not known yet whose tokens to take."""

    def headers(self) -> Mapping[str, str]:
        """`Retry-After`: the next heartbeat may bring it."""
        return {"retry-after": "1"}


class OutOfMemory(Unavailable):
    """This worker has not enough memory for the request alone; another one may."""


class InputFailed(WorkerError):
    """An element of a request failed that is answered as a whole: the cause, with its place."""

    def __init__(self, cause: WorkerError, where: str) -> None:
        super().__init__(f"{where}: {cause.message}", param=where)
        self.status = cause.status
        self.type = cause.type


class ClientGone(WorkerError):
    """The client closed its connection; nobody reads the answer."""

    status = CLIENT_CLOSED
    type = "client_closed"


class LoadError(Exception):
    """The model cannot be loaded: why, and what to do."""

    def __init__(self, reason: wire.FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def bug(error: Exception) -> WorkerError:
    """What a caller is told of an error that nobody expected: no text of it, as it may quote."""
    return WorkerError(f"the worker has a bug ({type(error).__name__}); its log says where")


def is_error(status: int) -> bool:
    """Whether an HTTP status says that a request was not answered."""
    return status >= HTTPStatus.BAD_REQUEST


def route_not_found(path: str) -> RouteNotFound:
    """The error for a path that nothing is served at."""
    return RouteNotFound(
        f"no route {path}; a ModelWorker has POST /v1/completions, a RewardModel has "
        "POST /v1/rewards, and both have GET /v1/models"
    )


def from_routing(status: int, method: str, path: str) -> WorkerError:
    """The error for a request that no route took."""
    if status == HTTPStatus.NOT_FOUND:
        return route_not_found(path)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"{path} does not take {method}; see the Allow header")
    return BadRequest(f"{method} {path} was not understood")
