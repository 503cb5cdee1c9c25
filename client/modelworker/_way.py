"""The way of a request: values, made by `_ways` and travelled by `_http`.

A worker is known by its own base URL wherever it is chosen, counted or named in an error. A
`Way` says where its requests go, and what they show.
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from modelworker._tokens import NoToken

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Gateway:
    """The API server as a proxy to the pods of a namespace."""

    server: str
    namespace: str
    tls: ssl.SSLContext
    authorization: Callable[[], Awaitable[str | None]] = field(repr=False)
    """The present value of the header, for a server that wants one."""
    server_name: str | None = None
    """Name in the server's certificate, where it is not that of its address."""
    proxy: str | None = None
    """An HTTP proxy in front of the API server."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """Where the requests to a worker go, and what they show."""

    worker: str
    url: str
    headers: tuple[Header, ...] = field(default=(), repr=False)
    token: str | None = field(default=None, repr=False)
    shown: str = NoToken.source
    gateway: Gateway | None = None

    @property
    def lanes(self) -> Gateway | str:
        """What shares connections: requests to one worker, or through one gateway."""
        return self.gateway or self.worker
