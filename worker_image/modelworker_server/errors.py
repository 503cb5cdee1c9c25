"""The worker's errors and the one table that maps them to HTTP."""

from http import HTTPStatus
from typing import ClassVar

from modelworker_api import wire


class WorkerError(Exception):
    """Base of what a request can end with; the message says the next step."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    type: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> wire.ErrorResponse:
        """The answer's body."""
        return wire.ErrorResponse(
            message=self.message,
            code=self.status.value,
            error=wire.ErrorDetail(
                message=self.message, type=self.type, code=self.status.value, param=self.param
            ),
        )


class BadRequest(WorkerError):
    """The request is wrong and will be wrong again."""

    status = HTTPStatus.BAD_REQUEST
    type = "invalid_request_error"


class ContextTooLong(BadRequest):
    """Prompt and answer do not fit into the model's context."""

    type = "context_length_exceeded"


class ModelNotServed(WorkerError):
    """Another model was asked for."""

    status = HTTPStatus.NOT_FOUND
    type = "model_not_found"


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


class Unavailable(WorkerError):
    """Not ready, draining, or the engine died: another worker may answer."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    type = "unavailable"


class NotReady(Unavailable):
    """The model is not loaded yet."""


class LoadError(Exception):
    """The model cannot be loaded: why, and what to do."""

    def __init__(self, reason: wire.FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
