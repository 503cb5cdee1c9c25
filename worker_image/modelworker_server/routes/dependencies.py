"""What the routes are given: the server's state, and bodies that were parsed and checked."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from modelworker_api import wire
from modelworker_server.parsing import parse, read_body, require_json
from modelworker_server.state import ServerState

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


def body_of(shape: type[ShapeT]) -> Callable[[Request], Awaitable[ShapeT]]:
    """A dependency that gives the request's body in this shape, once the worker is ready."""

    async def parsed(request: Request) -> ShapeT:
        server = ready_server(request)
        require_json(request.headers.get("content-type"))
        length = request.headers.get("content-length")
        body = await read_body(request.stream(), length, server.max_body_bytes)
        return parse(shape, body)

    return parsed


Server = Annotated[ServerState, Depends(server_state)]
ReadyServer = Annotated[ServerState, Depends(ready_server)]
