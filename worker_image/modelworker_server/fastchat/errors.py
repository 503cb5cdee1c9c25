"""Errors as FastChat's protocol tells them: status 200, the code in the body."""

import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, ClassVar, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from modelworker_api.fastchat import FRAME_END, ErrorCode, Failure
from modelworker_server.edge import STATUS_MEANT
from modelworker_server.errors import (
    BadRequest,
    BodyTooLarge,
    ClientGone,
    ContextTooLong,
    Forbidden,
    ModelNotServed,
    NotJson,
    OutOfMemory,
    Overloaded,
    Unauthorized,
    Unsupported,
    UnsupportedParameter,
    WorkerError,
    bug,
)

_log = logging.getLogger(__name__)


class OutOfRange(BadRequest):
    """A parameter of the right type with a value that is not allowed."""


_CODES: Final[tuple[tuple[type[WorkerError], ErrorCode], ...]] = (
    (ContextTooLong, ErrorCode.CONTEXT_OVERFLOW),
    (OutOfRange, ErrorCode.PARAM_OUT_OF_RANGE),
    (UnsupportedParameter, ErrorCode.PARAM_OUT_OF_RANGE),
    (BodyTooLarge, ErrorCode.PARAM_OUT_OF_RANGE),
    (BadRequest, ErrorCode.VALIDATION_TYPE_ERROR),
    (NotJson, ErrorCode.VALIDATION_TYPE_ERROR),
    (ModelNotServed, ErrorCode.INVALID_MODEL),
    (Unsupported, ErrorCode.INVALID_MODEL),
    (Unauthorized, ErrorCode.INVALID_AUTH_KEY),
    (Forbidden, ErrorCode.NO_PERMISSION),
    (Overloaded, ErrorCode.ENGINE_OVERLOADED),
    (OutOfMemory, ErrorCode.OUT_OF_MEMORY),
)
"""The first class that an error is of decides; anything else is an internal error."""


def failure(error: WorkerError) -> Failure:
    """What the client is told."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    return Failure(text=error.message, error_code=code or ErrorCode.INTERNAL_ERROR)


def known_error(error: Exception) -> WorkerError:
    """The error as one that may be told; one that nobody expected is logged."""
    if isinstance(error, WorkerError):
        return error
    _log.error("a FastChat request failed", exc_info=error)
    return bug(error)


class FailureRoute(APIRoute):
    """A route that answers every error with a `Failure`."""

    end: ClassVar[bytes] = b""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, its errors caught: also those of what it depends on."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except ClientGone:
                raise
            except Exception as error:
                known = known_error(error)
                request.scope[STATUS_MEANT] = int(known.status)
                return self.told(known)

        return handler

    @classmethod
    def told(cls, error: WorkerError, status: int = HTTPStatus.OK) -> Response:
        """The answer to a request that this route could not serve."""
        content = failure(error).model_dump_json().encode() + cls.end
        return Response(
            content,
            status_code=status,
            headers=dict(error.headers()),
            media_type="application/json",
        )


class FrameFailureRoute(FailureRoute):
    """The same for a stream: the failure is its only frame."""

    end = FRAME_END
