"""From a request's bytes to what is asked; long ones are read beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from modelworker_api import wire
from modelworker_server.connection import while_connected
from modelworker_server.limits import Limiter
from modelworker_server.parsing import parse, read_body, require_json
from modelworker_server.workers.base import BaseModelWorker

ShapeT = TypeVar("ShapeT", bound=wire.Wire)
T = TypeVar("T")

LONG_BODY: Final = 16 * 1024
"""Bytes that a tokenizer takes tens of milliseconds for: streams stand still meanwhile."""


def has_body(headers: Headers) -> bool:
    """Whether a request with these headers has a body (RFC 9112, section 6.3)."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads requests."""

    max_body_bytes: int
    limiter: Limiter
    """Bounds the long bodies that are held in memory."""
    executor: Executor

    async def read(
        self,
        request: Request,
        shape: type[ShapeT],
        translate: Callable[[ShapeT, BaseModelWorker], T],
        worker: BaseModelWorker,
    ) -> T:
        """What `translate` makes of the request's body.

        Raises:
            WorkerError: whatever is wrong with the body or with what it asks for.
        """
        require_json(request.headers.get("content-type"))
        length = request.headers.get("content-length")
        body = await read_body(request.stream(), length, self.max_body_bytes)

        def understand() -> T:
            return translate(parse(shape, body), worker)

        async def understand_aside() -> T:
            return await asyncio.get_running_loop().run_in_executor(self.executor, understand)

        if len(body) <= LONG_BODY:
            return understand()
        with self.limiter.admit(1):
            return await while_connected(request.receive, understand_aside())
