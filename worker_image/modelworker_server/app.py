"""The HTTP application: routes, and errors as wire shapes."""

from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from modelworker_server.edge import Edge, error_response
from modelworker_server.engine.app import EngineApi
from modelworker_server.errors import WorkerError, bug, from_routing
from modelworker_server.fastchat.errors import FailureRoute
from modelworker_server.gate import Gate
from modelworker_server.routes import (
    fastchat,
    health,
    inference,
    openai,
    openrlhf,
    rewards,
    tokens,
)
from modelworker_server.state import ServerState

_FASTCHAT: Final = {
    route.path: route
    for routes in (fastchat.plain, fastchat.framed)
    for route in routes.routes
    if isinstance(route, FailureRoute)
}
"""The routes whose clients read errors in a shape of their own."""


def create_app(server: ServerState, development_token: str | None = None) -> ASGIApp:
    """The application of one worker. It has no schema or documentation routes.

    Args:
        server: The worker and what surrounds it; nothing else is read from anywhere.
        development_token: Opens the development routes of the worker's engine to those who
            send it; they are closed if None.
    """
    app: ASGIApp = EngineApi(_routes(server), server, development_token)
    if server.auth is not None:
        app = Gate(app, server.auth, _refusal, max_body_bytes=server.reader.max_body_bytes)
    return Edge(app, server)


def _refusal(path: str, error: WorkerError) -> Response:
    """The answer to a request that no route gets."""
    route = _FASTCHAT.get(path)
    return error_response(error) if route is None else route.told(error, error.status)


def _routes(server: ServerState) -> FastAPI:
    """This package's own routes."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.server = server
    for routes in (openai, inference, rewards, fastchat, openrlhf, tokens, health):
        app.include_router(routes.router)

    @app.exception_handler(WorkerError)
    async def refusal(_: Request, error: WorkerError) -> Response:
        return error_response(error)

    @app.exception_handler(Exception)
    async def failure(_: Request, error: Exception) -> Response:
        # It is raised again behind this answer, for the log.
        return error_response(bug(error))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        response = error_response(from_routing(error.status_code, request.method, request.url.path))
        response.headers.update(error.headers or {})
        return response

    return app
