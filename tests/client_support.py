"""A stand-in for workers on real sockets, with behaviour that a test chooses."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from modelworker import LM
from modelworker_api import wire


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer; `parts` are sent one by one as a stream, `cut` ends it without its end."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: AsyncIterator[bytes] | None = None
    cut: bool = False


class Drop(Exception):
    """Raised by a behaviour: close the connection without an answer."""


Behaviour = Callable[[Request], Awaitable[Reply]]


def error(status: int, message: str, kind: str, **headers: str) -> Reply:
    """An error as the worker words it."""
    detail = wire.ErrorDetail(message=message, type=kind, code=status)
    body = wire.ErrorResponse(message=message, code=status, error=detail)
    return Reply(body.model_dump(), status, headers)


def completion(request: Request, text: str = "ok") -> Reply:
    """A completion of the documented shape: `n` samples of two tokens."""
    choices = [
        {
            "index": index,
            "text": f"{text} {request.body['prompt']}",
            "finish_reason": "stop",
            "stop_reason": None,
            "token_ids": [7, 8 + index],
            "prompt_token_ids": [1, 2, 3],
            "logprobs": {
                "tokens": ["a", "b"],
                "token_logprobs": [-0.5, -0.25],
                "top_logprobs": [None, None],
                "text_offset": [0, 1],
            },
        }
        for index in range(request.body["n"])
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2 * len(choices), "total_tokens": 5}
    body = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "policy",
        "choices": choices,
        "usage": usage,
    }
    return Reply(wire.CompletionResponse.model_validate(body).model_dump())


async def good(request: Request) -> Reply:
    """A worker that answers."""
    return completion(request)


def wanting(*tokens: str, then: Behaviour | None = None) -> Behaviour:
    """A worker that wants one of these tokens, by either header; without any, just a token."""

    async def behave(request: Request) -> Reply:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = token or request.headers.get(wire.HEADER_API_KEY, "")
        if not token or (tokens and token not in tokens):
            refusal = {"www-authenticate": "Bearer"}
            return error(401, "it wants a token", "unauthorized", **refusal)
        return await (then or good)(request)

    return behave


async def hang(request: Request) -> Reply:
    """A worker that never answers."""
    await asyncio.sleep(600)
    return completion(request)


def chunk(text: str, token: int, finish_reason: str | None = None) -> bytes:
    """One event of a completion stream."""
    choice = {"index": 0, "text": text, "token_ids": [token], "finish_reason": finish_reason}
    event = {"id": "cmpl-1", "created": 1, "model": "policy", "choices": [choice]}
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


async def parts(
    *events: bytes, then: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[bytes]:
    """A stream of these events."""
    for event in events:
        yield event
    if then is not None:
        await then()


class StubWorker:
    """An HTTP server of one behaviour, in its own thread.

    Any behaviour answers /healthz. `seen` are the other requests, `gone` counts those whose
    client went away before the answer was complete.
    """

    def __init__(
        self, behaviour: Behaviour, name: str = "pod-a", port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.behaviour = behaviour
        self.name = name
        self.seen: list[Request] = []
        self.gone = 0
        self.connections = 0
        self.busy = 0
        self.most_busy = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connection, host, port))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.address = f"{host}:{self.port}"

    def stop(self) -> None:
        """Cut every connection, as a killed process does, and listen no more."""
        if self._loop.is_closed():
            return
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await self._request(reader):
                if request.path == "/healthz":
                    writer.write(_head(200, {wire.HEADER_WORKER: self.name, "content-length": "0"}))
                    continue
                self.seen.append(request)
                if not await self._serve(request, reader, writer):
                    break
        except (Drop, asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader) -> Request | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(first.split()[1], headers, json.loads(body or b"{}"))

    async def _serve(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer, unless the client goes away first."""
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        answering = asyncio.ensure_future(self._answer(request, writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                self.gone += 1
                return False
            return await answering
        finally:
            self.busy -= 1
            answering.cancel()
            leaving.cancel()
            # Not awaited one by one under a suppress: that would swallow our own cancellation.
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        reply = await self.behaviour(request)
        headers = {
            wire.HEADER_WORKER: self.name,
            wire.HEADER_REVISION: "rev-1",
            wire.HEADER_DTYPE: "float32",
            **reply.headers,
        }
        if reply.parts is None:
            content = json.dumps(reply.body).encode()
            headers["content-length"] = str(len(content))
            writer.write(_head(reply.status, headers) + content)
            await writer.drain()
            return True
        headers["transfer-encoding"] = "chunked"
        writer.write(_head(reply.status, headers))
        async for part in reply.parts:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
        if reply.cut:
            raise Drop
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def until(probe: Callable[[], bool], timeout: float = 10.0) -> None:
    """Let the event loop run until `probe` holds.

    Raises:
        TimeoutError: after `timeout` seconds.
    """
    async with asyncio.timeout(timeout):
        while not probe():  # noqa: ASYNC110 - the state polled has no event
            await asyncio.sleep(0.002)


def lm(running: list[StubWorker], **options: Any) -> LM:
    """A client of these workers."""
    return LM("policy", endpoints=[one.url for one in running], **options)


@contextmanager
def workers(*behaviours: Behaviour) -> Iterator[list[StubWorker]]:
    """A stub worker for each behaviour, named pod-0, pod-1, …"""
    running = [StubWorker(one, name=f"pod-{i}") for i, one in enumerate(behaviours)]
    try:
        yield running
    finally:
        for one in running:
            one.stop()
