"""The HTTP application: routes, errors as wire shapes, and what every answer carries."""

import logging

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelworker_server.errors import CLIENT_CLOSED, WorkerError, bug, from_routing
from modelworker_server.routes import fastchat, health, openai, openrlhf, rewards, tokens
from modelworker_server.state import ServerState

_log = logging.getLogger(__name__)


def create_app(server: ServerState) -> FastAPI:
    """The application of one worker. It has no schema or documentation routes.

    Args:
        server: The worker and what surrounds it; nothing else is read from anywhere.
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.server = server
    for routes in (openai, rewards, fastchat, openrlhf, tokens, health):
        app.include_router(routes.router)
    app.add_middleware(Edge, server=server)

    @app.exception_handler(WorkerError)
    async def refusal(_: Request, error: WorkerError) -> Response:
        return _response(error)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        response = _response(from_routing(error.status_code, request.method, request.url.path))
        response.headers.update(error.headers or {})
        return response

    return app


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
                await _response(bug(error))(scope, receive, exchange.send)
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
        code = self.code if self.code is not None and self._complete else CLIENT_CLOSED
        self._server.metrics.answered(self._route(), code, self._seconds())

    def _seconds(self) -> float:
        return self._server.timer() - self._began

    def _route(self) -> str:
        # Not the path of the request: a scan of paths must not make a metric of each.
        return getattr(self._scope.get("route"), "path", "other")


def _response(error: WorkerError) -> Response:
    return Response(
        error.body().model_dump_json(),
        status_code=error.status,
        headers=dict(error.headers()),
        media_type="application/json",
    )
