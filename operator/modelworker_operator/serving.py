"""Serves an application on a port until cancelled."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from modelworker_operator.errors import CannotListen

_BIND_SECONDS: Final = 0.25

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, host: str, port: int, what: str) -> None:
    """Serve `app` until cancelled.

    The port may still belong to the leader before this one: it is tried until it is free.

    Raises:
        CannotListen: the address is not one of this machine, or the port needs other rights.
    """
    listening = await _bind(host, port, what)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    _log.info("%s on %s port %d", what, *listening.getsockname()[:2])
    try:
        await server.serve(sockets=[listening])
    finally:
        listening.close()


async def _bind(host: str, port: int, what: str) -> socket.socket:
    family = socket.AF_INET6 if _is_v6(host) else socket.AF_INET
    waiting = False
    while True:
        try:
            listening = socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CannotListen(
                    f"{what}: cannot listen on {host} port {port} ({error}); "
                    f"set --{what}-host to an address of this machine, --{what}-port to a free port"
                ) from error
            if not waiting:
                _log.warning("%s: %s port %d is in use; waiting for it", what, host, port)
                waiting = True
            await asyncio.sleep(_BIND_SECONDS)
        else:
            # Connections inherit it; asyncio sets it on none of a listener it did not make.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
