"""The engine's own HTTP application, behind this package's door and without another hop."""

import hmac
from collections.abc import Callable
from contextlib import nullcontext

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelworker_server.edge import error_response
from modelworker_server.engine.errors import ERROR_EVENT, translated, translated_event
from modelworker_server.engine.requests import check_body
from modelworker_server.engine.routes import Access, EngineRoute, route_of
from modelworker_server.errors import (
    Unauthorized,
    WorkerError,
    is_error,
    route_not_found,
)
from modelworker_server.parsing import read_body, require_json
from modelworker_server.state import ServerState


class EngineApi:
    """Sends what is for the engine's own application there, and the rest to ours.

    Args:
        app: The application with this package's routes.
        server: The worker, whose `api` is the engine's application.
        development_token: Opens the engine's development routes; they are closed if None.
    """

    def __init__(self, app: ASGIApp, server: ServerState, development_token: str | None) -> None:
        self._app = app
        self._server = server
        self._token = development_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        api = self._server.engine_api
        route = route_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if api is None or route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await self._serve(api, route, scope, receive, send)
        except WorkerError as error:
            await error_response(error)(scope, receive, send)
        except ClientDisconnect:
            return

    async def _serve(
        self, api: ASGIApp, route: EngineRoute, scope: Scope, receive: Receive, send: Send
    ) -> None:
        server = self._server
        headers = Headers(scope=scope)
        if route.access is Access.DEVELOPMENT:
            _require_token(self._token, route.path, headers.get("authorization"))
        server.lifecycle.require_ready()
        body = b""
        if scope["method"] == "POST":
            length = headers.get("content-length")
            stream = Request(scope, receive).stream()
            body = await read_body(stream, length, server.reader.max_body_bytes)
            if body:
                require_json(headers.get("content-type"))
                check_body(body, scope["path"], server.worker.info.vocab_size)
        exchange = _Exchange(scope["path"], body, receive, send, server.alive)
        with server.limiter.admit(1) if route.access is Access.WORK else nullcontext():
            await api(scope, exchange.receive, exchange.send)


class _Exchange:
    """A request that was read already, and an answer whose errors are put into our shape."""

    def __init__(
        self, path: str, body: bytes, receive: Receive, send: Send, alive: Callable[[], bool]
    ) -> None:
        self._path = path
        self._body: bytes | None = body
        self._receive = receive
        self._send = send
        self._alive = alive
        self._failed: Message | None = None
        self._said = b""
        self._gone = False

    async def receive(self) -> Message:
        """The body, once, and then what the server says: that the client left."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = await self._receive()
        self._gone = self._gone or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on; nothing to a client that left."""
        if self._gone:
            return
        if message["type"] == "http.response.start" and is_error(message["status"]):
            self._failed = message
        elif self._failed is None:
            if message.get("body", b"").startswith(ERROR_EVENT):
                event = translated_event(message["body"], self._path, alive=self._alive())
                message = {**message, "body": event}
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._said += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_error(self._failed)

    async def _send_error(self, start: Message) -> None:
        body = translated(start["status"], self._said, self._path).model_dump_json().encode()
        kept = [
            (name, value)
            for name, value in start["headers"]
            if name.lower() not in (b"content-length", b"content-type")
        ]
        kept.append((b"content-type", b"application/json"))
        kept.append((b"content-length", str(len(body)).encode()))
        await self._send({**start, "headers": kept})
        await self._send({"type": "http.response.body", "body": body})


def _require_token(token: str | None, path: str, authorization: str | None) -> None:
    if token is None:
        raise route_not_found(path)
    scheme, _, given = (authorization or "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise Unauthorized(
            f"{path} needs the development token: send `Authorization: Bearer` and the value of "
            "MODELWORKER_DEVELOPMENT_TOKEN"
        )
