"""The gate of a worker that asks its callers for a token, before any route and any body."""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modelworker_server.auth import Auth
from modelworker_server.errors import WorkerError
from modelworker_server.reading import has_body

OPEN: Final = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
"""What the kubelet and Prometheus ask for, who have no token."""
DRAIN_SECONDS: Final = 5.0
"""Longest wait for the rest of a body that nobody will read."""


class Gate:
    """Lets a request in if its sender may call, and refuses it before its body is read.

    Args:
        app: What is behind the gate.
        auth: Judges the callers.
        tell: The answer to a request for a path that is refused with an error.
        max_body_bytes: How much of a refused body is taken in to keep its connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        auth: Auth,
        tell: Callable[[str, WorkerError], Response],
        *,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._auth = auth
        self._tell = tell
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        error = self._auth.refusal(scope["headers"])
        if error is None:
            await self._app(scope, receive, send)
            return
        response = self._tell(scope["path"], error)
        if not await self._may_stay(Headers(scope=scope), receive):
            response.headers["connection"] = "close"
        await response(scope, receive, send)

    async def _may_stay(self, headers: Headers, receive: Receive) -> bool:
        """Whether the connection can be used again: what is left of the body will end soon."""
        if not has_body(headers):
            return True
        if "expect" in headers:  # the client waits, and may send its body or not
            return False
        length = headers.get("content-length", "")
        told = length.isdecimal() and "transfer-encoding" not in headers
        if told and int(length) <= self._max_body_bytes:
            return True  # the server drops it when it comes
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                return await _ends(receive, self._max_body_bytes)
        except TimeoutError:
            return False


async def _ends(receive: Receive, limit: int) -> bool:
    """Whether a body ends within so many bytes, none of which is kept."""
    seen = 0
    while seen <= limit:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            return True
    return False
