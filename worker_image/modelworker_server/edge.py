"""What every answer of the worker carries, and what is counted of it."""

import logging
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelworker_server.errors import CLIENT_CLOSED, WorkerError, bug
from modelworker_server.state import ServerState

STATUS_MEANT: Final = "modelworker.status"
"""In a request's scope: the status to count, where its protocol has every answer be a 200."""

_log = logging.getLogger(__name__)


class Edge:
    """Signs, times and counts every answer, and turns a bug into a typed 500."""

    def __init__(self, app: ASGIApp, server: ServerState) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._server)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception as error:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if exchange.code is None:
                await error_response(bug(error))(scope, receive, exchange.send)
        finally:
            exchange.close()


class _Exchange:
    """One request and what was sent of its answer."""

    def __init__(self, scope: Scope, send: Send, server: ServerState) -> None:
        self.code: int | None = None
        self._scope = scope
        self._send = send
        self._server = server
        self._began = server.timer()
        self._streams = False
        self._complete = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, signed."""
        if message["type"] == "http.response.start":
            self.code = message["status"]
            headers = [*message["headers"]]
            self._streams = (b"content-type", b"text/event-stream; charset=utf-8") in headers
            for name, value in self._server.fingerprint().items():
                headers.append((name.encode(), value.encode("latin-1", "replace")))
            message = {**message, "headers": headers}
        elif self._streams and message.get("body"):
            self._streams = False
            self._server.metrics.first_token(self._route(), self._seconds())
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._complete = True

    def close(self) -> None:
        """Count it."""
        sent = self._scope.get(STATUS_MEANT, self.code)
        code = sent if sent is not None and self._complete else CLIENT_CLOSED
        self._server.metrics.answered(self._route(), code, self._seconds())

    def _seconds(self) -> float:
        return self._server.timer() - self._began

    def _route(self) -> str:
        # Not the path of the request: a scan of paths must not make a metric of each.
        return getattr(self._scope.get("route"), "path", "other")


def error_response(error: WorkerError) -> Response:
    """An error as an HTTP answer."""
    return Response(
        error.body().model_dump_json(),
        status_code=error.status,
        headers=dict(error.headers()),
        media_type="application/json",
    )
