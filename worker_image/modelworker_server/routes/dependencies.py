"""What the routes are given: the server's state, and what a request asks for, checked."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from modelworker_api import wire
from modelworker_server.openai.answers import Envelope
from modelworker_server.reading import has_body
from modelworker_server.state import ServerState
from modelworker_server.workers.base import BaseModelWorker

T = TypeVar("T")
ShapeT = TypeVar("ShapeT", bound=wire.Wire)


def server_state(request: Request) -> ServerState:
    """The state that `create_app` was given."""
    state: ServerState = request.app.state.server
    return state


def ready_server(request: Request) -> ServerState:
    """The same, of a worker that takes new work; raises `Unavailable` otherwise."""
    server = server_state(request)
    server.lifecycle.require_ready()
    return server


def asked(
    shape: type[ShapeT], translate: Callable[[ShapeT, BaseModelWorker], T]
) -> Callable[[Request], Awaitable[T]]:
    """A dependency that gives what the request asks for, from a worker that is ready."""

    async def read(request: Request) -> T:
        server = ready_server(request)
        return await server.reader.read(request, shape, translate, server.worker)

    return read


def asked_or_nothing(
    shape: type[ShapeT], translate: Callable[[ShapeT, BaseModelWorker], T]
) -> Callable[[Request], Awaitable[T]]:
    """The same where a request without a body asks for what the shape's defaults say."""
    with_body = asked(shape, translate)

    async def read(request: Request) -> T:
        if has_body(request.headers):
            return await with_body(request)
        return translate(shape(), ready_server(request).worker)

    return read


def envelope(kind: str, server: ServerState) -> Envelope:
    """What the parts of an answer of this kind have in common, from now on."""
    return Envelope(
        id=f"{kind}-{server.new_id()}", created=int(server.now()), model=server.worker.info.name
    )


Server = Annotated[ServerState, Depends(server_state)]
ReadyServer = Annotated[ServerState, Depends(ready_server)]
