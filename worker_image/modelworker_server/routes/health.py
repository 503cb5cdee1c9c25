"""Probes and metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from modelworker_server.errors import Unavailable
from modelworker_server.routes.dependencies import Server

router = APIRouter()


@router.get("/health")
@router.get("/healthz")
async def healthz(server: Server) -> dict[str, str]:
    """200 from the moment the server listens until the engine dies."""
    if not server.alive():
        raise Unavailable("the engine died; restart this worker")
    return {"state": server.lifecycle.state.value}


@router.get("/readyz")
async def readyz(server: Server) -> dict[str, str]:
    """200 while the worker takes work: not while it loads or drains, nor after a failure."""
    server.lifecycle.require_ready()
    return await healthz(server)


@router.get("/metrics")
async def metrics(server: Server) -> Response:
    """Prometheus' text format."""
    return Response(server.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
