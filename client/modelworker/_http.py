"""HTTP to workers: the only module that knows the HTTP library.

It speaks to httpx's transport rather than to its client: the client's cookies, redirects,
proxies and authentication have no place between us and a pod, and cost 0.2 ms a call.
"""

import asyncio
import json
import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final, cast

import httpx

from modelworker import _errors
from modelworker._answers import Answer
from modelworker_api import wire

CONNECT_SECONDS: Final = 5.0
KEEPALIVE_SECONDS: Final = 30.0
"""Shorter than the 75 s after which a worker closes an idle connection."""
SWEEP_SECONDS: Final = 10.0

_HEADERS: Final = (
    (b"accept", b"*/*"),
    (b"user-agent", b"modelworker"),
    (b"content-type", b"application/json"),
)
_EXTENSIONS: Final = {
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

    def __call__(self, base_url: str) -> httpx.AsyncBaseTransport:
        context = self._plain
        if base_url.startswith("https:"):
            context = self._tls = self._tls or httpx.create_ssl_context(trust_env=False)
        return httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
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

    def __init__(self, transports: Callable[[str], httpx.AsyncBaseTransport] | None = None) -> None:
        self._make = transports or _Transports()
        self._clock = asyncio.get_running_loop().time
        self._idle: dict[str, deque[tuple[float, httpx.AsyncBaseTransport]]] = {}
        self._busy: set[httpx.AsyncBaseTransport] = set()
        self._swept = self._clock()
        self._urls: dict[tuple[str, str], tuple[httpx.URL, bytes]] = {}

    async def aclose(self) -> None:
        """Close every connection; calls under way end with an error."""
        idle = [lane for lanes in self._idle.values() for _, lane in lanes]
        self._idle.clear()
        for lane in [*idle, *self._busy]:
            await lane.aclose()

    async def post(self, base_url: str, path: str, body: bytes) -> Answer:
        """Send a request and read the whole answer.

        Raises:
            Unreachable: no connection.
            Unavailable: the connection broke before the answer was complete.
            ModelWorkerError: what an error answer stands for.
        """
        async with self._exchange(base_url, path, body) as response:
            content = await _whole(response)
        return _answer(base_url, response, content)

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
        async with self._exchange(base_url, path, body) as response:
            if not _errors.is_success(response.status_code):
                _answer(base_url, response, await _whole(response))
            async with aclosing(_events(base_url, response)) as events:
                yield events

    @asynccontextmanager
    async def _exchange(
        self, base_url: str, path: str, body: bytes
    ) -> AsyncIterator[httpx.Response]:
        url, host = self._target(base_url, path)
        length = b"%d" % len(body)
        request = httpx.Request(
            "POST",
            url,
            headers=[(b"host", host), *_HEADERS, (b"content-length", length)],
            stream=httpx.ByteStream(body),
            extensions=_EXTENSIONS,
        )
        lane = self._take(base_url)
        complete = False
        try:
            with _translated(base_url):
                response = await lane.handle_async_request(request)
                try:
                    yield response
                finally:
                    await response.aclose()
            complete = True
        finally:
            self._busy.discard(lane)
            if complete:
                self._idle.setdefault(base_url, deque()).append((self._clock(), lane))
            else:
                await lane.aclose()
        await self._sweep()

    def _take(self, base_url: str) -> httpx.AsyncBaseTransport:
        lanes = self._idle.get(base_url)
        lane = lanes.pop()[1] if lanes else self._make(base_url)
        self._busy.add(lane)
        return lane

    async def _sweep(self) -> None:
        """Close what has been idle for too long, to workers that are gone above all."""
        now = self._clock()
        if now < self._swept + SWEEP_SECONDS:
            return
        self._swept = now
        for base_url, lanes in list(self._idle.items()):
            while lanes and lanes[0][0] < now - KEEPALIVE_SECONDS:
                await lanes.popleft()[1].aclose()
            if not lanes:
                self._idle.pop(base_url, None)

    def _target(self, base_url: str, path: str) -> tuple[httpx.URL, bytes]:
        key = (base_url, path)
        if key not in self._urls:
            url = httpx.URL(base_url + path)
            self._urls[key] = (url, url.netloc)
        return self._urls[key]


@contextmanager
def _translated(base_url: str) -> Iterator[None]:
    """The HTTP library's errors as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        unreachable = _errors.Unreachable(f"no connection to worker {base_url}: {error}")
        raise _lost(unreachable, base_url) from error
    except httpx.TransportError as error:
        broke = _errors.Unavailable(
            f"the connection to worker {base_url} broke: {error or type(error).__name__}"
        )
        raise _lost(broke, base_url) from error


def _lost(error: _errors.ModelWorkerError, base_url: str) -> _errors.ModelWorkerError:
    error.worker = base_url
    return error


def _parts(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it comes; nothing to decode, as no encoding was asked for."""
    return cast("httpx.AsyncByteStream", response.stream)


async def _whole(response: httpx.Response) -> bytes:
    return b"".join([part async for part in _parts(response)])


def _decoded(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _answer(base_url: str, response: httpx.Response, content: bytes) -> Answer:
    payload = _decoded(content)
    if not _errors.is_success(response.status_code):
        raise _errors.from_answer(
            response.status_code,
            payload,
            worker=base_url,
            retry_after=response.headers.get("retry-after"),
        )
    return Answer(payload, base_url, *_origin(response))


def _origin(response: httpx.Response) -> tuple[str | None, ...]:
    """What the headers say of who answered: the rest of `Answer`, in its order."""
    get = response.headers.get
    return (
        get(wire.HEADER_WORKER),
        get(wire.HEADER_REVISION),
        get(wire.HEADER_DTYPE),
        get(wire.HEADER_LOAD),
    )


async def _events(base_url: str, response: httpx.Response) -> AsyncGenerator[Answer, None]:
    """The JSON of each `data:` line, until `[DONE]`."""
    origin = _origin(response)
    async for line in _lines(base_url, response):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        payload = _decoded(data)
        if isinstance(payload, dict) and (error := payload.get("error")):
            code = error.get("code") if isinstance(error, dict) else None
            raise _errors.from_answer(_errors.as_status(code), payload, worker=base_url)
        yield Answer(payload, base_url, *origin)
    raise _lost(
        _errors.Unavailable(f"worker {base_url} ended the stream without its last event"), base_url
    )


async def _lines(base_url: str, response: httpx.Response) -> AsyncIterator[bytes]:
    r"""Lines ended by `\n`; httpx's own also end at U+2028 and others, inside JSON strings."""
    rest = b""
    with _translated(base_url):
        async for part in _parts(response):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line
