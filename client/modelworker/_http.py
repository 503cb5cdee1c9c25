"""HTTP to workers: the only module that knows the HTTP library.

It speaks to httpx's transport rather than to its client: the client's cookies, redirects,
proxies and authentication have no place between us and a pod, and cost 0.2 ms a call.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final, cast

import httpx

from modelworker import _errors, _events, _outcomes
from modelworker._answers import Answer
from modelworker._tokens import NoToken
from modelworker._way import Gateway, Way
from modelworker._ways import Direct, Ways

CONNECT_SECONDS: Final = 5.0
KEEPALIVE_SECONDS: Final = 30.0
"""Shorter than the 75 s after which a worker closes an idle connection."""
SWEEP_SECONDS: Final = 10.0

Lanes = Gateway | str
"""What shares connections; see `Way.lanes`."""

_HEADERS: Final = (
    (b"accept", b"*/*"),
    (b"user-agent", b"modelworker"),
    (b"content-type", b"application/json"),
)
_EXTENSIONS: Final[dict[str, object]] = {
    "timeout": {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": None}
}
"""No read timeout: the caller's deadline cancels the whole exchange."""


def _keepalive_options() -> Iterable[tuple[int, int, int]]:
    """Socket options that find a silently dead peer within a minute."""
    yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            yield socket.IPPROTO_TCP, getattr(socket, name), value


class _Transports:
    """Makes a transport that holds one connection; TLS roots are read once, if at all."""

    def __init__(self) -> None:
        self._plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls: ssl.SSLContext | None = None
        self._options = list(_keepalive_options())

    def __call__(self, way: Way) -> httpx.AsyncBaseTransport:
        context = self._plain
        if way.gateway is not None:
            context = way.gateway.tls
        elif way.url.startswith("https:"):
            context = self._tls = self._tls or httpx.create_ssl_context(trust_env=False)
        return httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            proxy=None if way.gateway is None else way.gateway.proxy,
            limits=httpx.Limits(
                max_connections=1,
                max_keepalive_connections=1,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
            socket_options=self._options,
        )


class Pool:
    """Kept-alive connections to all workers, for one event loop.

    The HTTP library's own pool looks at every connection for every request (8 ms a call
    with 64 under way); here each connection is a lane of its own, the last used first.
    """

    def __init__(
        self,
        ways: Ways | None = None,
        transports: Callable[[Way], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        self._ways = ways or Direct(NoToken())
        self._make = transports or _Transports()
        self._clock = asyncio.get_running_loop().time
        self._idle: dict[Lanes, deque[tuple[float, httpx.AsyncBaseTransport]]] = {}
        self._busy: set[httpx.AsyncBaseTransport] = set()
        self._swept = self._clock()
        self._urls: dict[tuple[str, str], tuple[httpx.URL, bytes]] = {}

    async def aclose(self) -> None:
        """Close every connection; calls under way end with an error."""
        idle = [lane for lanes in self._idle.values() for _, lane in lanes]
        self._idle.clear()
        for lane in [*idle, *self._busy]:
            await lane.aclose()
        await self._ways.aclose()

    async def post(self, base_url: str, path: str, body: bytes) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            Unreachable: no connection.
            Unavailable: the connection broke before the answer was complete.
            ModelWorkerError: what an error answer stands for.
        """
        async with self._answered(base_url, path, body) as (way, response):
            content = await _whole(response)
        if not _errors.is_success(response.status_code):
            raise self._failed(way, response, content)
        return Answer(_outcomes.decoded(content), way.worker, *_outcomes.origin(response.headers))

    @asynccontextmanager
    async def stream(
        self, base_url: str, path: str, body: bytes
    ) -> AsyncIterator[AsyncGenerator[Answer, None]]:
        """Send a request and yield the server-sent events of its answer.

        Leaving the context closes the connection, which ends the request on the worker.

        Raises:
            Unreachable, Unavailable, ModelWorkerError: as for `post`; `Unavailable` also
                when the stream ends without its last event.
        """
        async with self._answered(base_url, path, body) as (way, response):
            if not _errors.is_success(response.status_code):
                raise self._failed(way, response, await _whole(response))
            async with aclosing(_answers(way, response)) as events:
                yield events

    @asynccontextmanager
    async def _answered(
        self, worker: str, path: str, body: bytes
    ) -> AsyncIterator[tuple[Way, httpx.Response]]:
        """An exchange; where it is refused for what it shows, one more that shows another."""
        way = await self._ways.to(worker)
        async with self._exchange(way, path, body) as response:
            if not _errors.is_unauthorized(response.status_code):
                yield way, response
                return
            content = await _whole(response)
        way = await self._ways.after(
            way,
            _outcomes.failure(way, response.status_code, response.headers, content),
            by_gateway=_outcomes.by_gateway(way, response.headers, _outcomes.decoded(content)),
        )
        async with self._exchange(way, path, body) as response:
            yield way, response

    @asynccontextmanager
    async def _exchange(self, way: Way, path: str, body: bytes) -> AsyncIterator[httpx.Response]:
        url, host = self._target(way.url, path)
        length = (b"content-length", b"%d" % len(body))
        request = httpx.Request(
            "POST",
            url,
            headers=[(b"host", host), *_HEADERS, *way.headers, length],
            stream=httpx.ByteStream(body),
            extensions=_extensions(way),
        )
        lane = self._take(way)
        complete = False
        try:
            with self._translated(way):
                response = await lane.handle_async_request(request)
                try:
                    yield response
                finally:
                    await response.aclose()
            complete = True
        finally:
            self._busy.discard(lane)
            if complete:
                self._idle.setdefault(way.lanes, deque()).append((self._clock(), lane))
            else:
                await lane.aclose()
        await self._sweep()

    @contextmanager
    def _translated(self, way: Way) -> Iterator[None]:
        """The HTTP library's errors as ours."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            self._ways.lost(way)
            raise _outcomes.no_connection(way, error) from error
        except httpx.TransportError as error:
            raise _outcomes.broken(way, error) from error

    def _failed(
        self, way: Way, response: httpx.Response, content: bytes
    ) -> _errors.ModelWorkerError:
        error = _outcomes.failure(way, response.status_code, response.headers, content)
        if isinstance(error, _errors.Unreachable):
            self._ways.lost(way)
        return error

    def _take(self, way: Way) -> httpx.AsyncBaseTransport:
        lanes = self._idle.get(way.lanes)
        lane = lanes.pop()[1] if lanes else self._make(way)
        self._busy.add(lane)
        return lane

    async def _sweep(self) -> None:
        """Close what has been idle for too long, to workers that are gone above all."""
        now = self._clock()
        if now < self._swept + SWEEP_SECONDS:
            return
        self._swept = now
        for shared, lanes in list(self._idle.items()):
            while lanes and lanes[0][0] < now - KEEPALIVE_SECONDS:
                await lanes.popleft()[1].aclose()
            if not lanes:
                self._idle.pop(shared, None)

    def _target(self, base_url: str, path: str) -> tuple[httpx.URL, bytes]:
        key = (base_url, path)
        if key not in self._urls:
            url = httpx.URL(base_url + path)
            self._urls[key] = (url, url.netloc)
        return self._urls[key]


def _extensions(way: Way) -> dict[str, object]:
    """How long what may take, and whose certificate the server must show."""
    if way.gateway is None or way.gateway.server_name is None:
        return _EXTENSIONS
    return {**_EXTENSIONS, "sni_hostname": way.gateway.server_name}


def _body(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it comes; nothing to decode, as no encoding was asked for."""
    return cast("httpx.AsyncByteStream", response.stream)


async def _whole(response: httpx.Response) -> bytes:
    return b"".join([part async for part in _body(response)])


async def _parts(way: Way, response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in _body(response):
            yield part
    except httpx.TransportError as error:
        raise _outcomes.broken(way, error) from error


async def _answers(way: Way, response: httpx.Response) -> AsyncGenerator[Answer, None]:
    """The JSON of each event, until the last one."""
    origin = _outcomes.origin(response.headers)
    async for data in _events.data(_parts(way, response)):
        if data == _events.DONE:
            return
        payload = _outcomes.decoded(data)
        if isinstance(payload, dict) and (error := _outcomes.failed_event(way, payload)):
            raise error
        yield Answer(payload, way.worker, *origin)
    raise _outcomes.ended_early(way)
