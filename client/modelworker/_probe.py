"""Whether workers answer at their own addresses."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Final
from urllib.parse import urlsplit

from modelworker_api import wire

PROBE_SECONDS: Final = 1.0
MOST_PROBED: Final = 8
_HEALTH: Final = "/healthz"
"""Asks for no token, and shows none: what listens at an address of the cluster may be a
stranger where we are."""


class Seen(IntEnum):
    """What was found at an address; the greater, the better."""

    SILENT = 0
    REFUSES = 1
    """Somebody is there who takes no connection, as where a worker restarts."""
    ANSWERS = 2


Probe = Callable[[str], Awaitable[Seen]]


async def best(workers: Sequence[str], probe: Probe) -> Seen:
    """The best that is found at these addresses within a second; one that answers is enough."""
    looks = [asyncio.ensure_future(probe(worker)) for worker in workers[:MOST_PROBED]]
    seen = Seen.SILENT
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                for look in asyncio.as_completed(looks):
                    seen = max(seen, await look)
                    if seen is Seen.ANSWERS:
                        break
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
    return seen


async def probe(worker: str) -> Seen:
    """Ask a worker whether it is one: its answers carry its name."""
    address = urlsplit(worker)
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except ConnectionRefusedError:
        return Seen.REFUSES
    except OSError:
        return Seen.SILENT
    request = f"GET {_HEALTH} HTTP/1.1\r\nhost: {address.netloc}\r\nconnection: close\r\n\r\n"
    try:
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return Seen.SILENT
    finally:
        writer.transport.abort()
    name = f"\r\n{wire.HEADER_WORKER}:".encode()
    return Seen.ANSWERS if name in head.lower() else Seen.SILENT
