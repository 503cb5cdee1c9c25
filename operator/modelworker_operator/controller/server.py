"""The controller over HTTP: FastChat's routes, and the proxy among them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeVar

import httpx
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from modelworker_api import fastchat, wire
from modelworker_operator.controller.protocol import Controller

LONGEST_BODY: Final = 16 * 1024
LONGEST_PROMPT: Final = 4 * 1024 * 1024
"""Bytes of a request that is passed on to a worker."""
MOST_STREAMS: Final = 256
PROBE_SECONDS: Final = 5.0
"""In which a worker has to tell its status; FastChat's."""
SILENCE_SECONDS: Final = 100.0
"""Between two parts of a worker's answer; FastChat's."""

ShapeT = TypeVar("ShapeT", bound=wire.Wire)

_log = logging.getLogger(__name__)


class _Refused(Exception):
    """A request that is put together wrongly; the message says how."""


def http_client() -> httpx.AsyncClient:
    """The client by which workers are called: no proxy of the environment, no redirects."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=PROBE_SECONDS),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        trust_env=False,
    )


@dataclass(slots=True)
class Prober:
    """Asks a worker for its status."""

    client: httpx.AsyncClient

    async def __call__(self, url: str) -> fastchat.WorkerStatus | None:
        """What the worker says; None, logged, where it gives no proper answer."""
        try:
            async with (
                asyncio.timeout(PROBE_SECONDS),
                self.client.stream("POST", f"{url}/worker_get_status") as response,
            ):
                body = await _read(response.aiter_bytes(), LONGEST_BODY)
                if response.status_code == HTTPStatus.OK:
                    return fastchat.WorkerStatus.model_validate_json(body)
                problem = f"status {response.status_code}"
        except ValidationError as error:
            problem = _first_error(error)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _Refused) as error:
            problem = f"{type(error).__name__} {error}"
        _log.warning("external worker %s does not tell its status: %s", url, problem)
        return None


@dataclass(slots=True)
class ControllerServer:
    """The routes of the controller protocol."""

    controller: Controller
    client: httpx.AsyncClient
    _streams: int = field(default=0, init=False)
    _refreshing: asyncio.Task[None] | None = field(default=None, init=False)

    def app(self) -> Starlette:
        """The application."""
        routes: Sequence[tuple[str, Callable[..., object]]] = (
            ("/register_worker", self._register),
            ("/receive_heart_beat", self._heartbeat),
            ("/refresh_all_workers", self._refresh),
            ("/list_models", self._models(None)),
            ("/list_language_models", self._models(False)),
            ("/list_multimodal_models", self._models(True)),
            ("/get_worker_address", self._address),
            ("/worker_get_status", self._status),
            ("/worker_generate_stream", self._generate),
        )
        return Starlette(
            routes=[
                *(Route(path, endpoint, methods=["POST"]) for path, endpoint in routes),
                Route("/test_connection", _test, methods=["GET"]),
            ],
            exception_handlers={_Refused: _refusal, ClientDisconnect: _left},
        )

    async def _register(self, request: Request) -> Response:
        await self.controller.register(await _parsed(request, fastchat.RegisterRequest))
        return JSONResponse(None)

    async def _heartbeat(self, request: Request) -> Response:
        told = await _parsed(request, fastchat.HeartbeatRequest)
        return _json(fastchat.HeartbeatAnswer(exist=self.controller.heartbeat(told)))

    async def _refresh(self, _: Request) -> Response:
        # Every GET /v1/models of FastChat's API server asks for it: once at a time is enough.
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self.controller.refresh())
        await asyncio.shield(self._refreshing)
        return JSONResponse(None)

    def _models(self, multimodal: bool | None) -> Callable[..., object]:
        async def models(_: Request) -> Response:
            return _json(
                fastchat.ModelsAnswer(models=self.controller.models(multimodal=multimodal))
            )

        return models

    async def _address(self, request: Request) -> Response:
        asked = await _parsed(request, fastchat.AddressRequest)
        return _json(fastchat.AddressAnswer(address=self.controller.address(asked.model)))

    async def _status(self, _: Request) -> Response:
        return _json(self.controller.status())

    async def _generate(self, request: Request) -> Response:
        try:
            body = await _read(request.stream(), LONGEST_PROMPT)
            model = _parse(body, fastchat.AddressRequest).model
        except _Refused as error:
            return _frames(_one(str(error), fastchat.ErrorCode.VALIDATION_TYPE_ERROR))
        if self._streams >= MOST_STREAMS:
            busy = f"{self._streams} streams pass through this controller, which is the limit"
            return _frames(_one(busy, fastchat.ErrorCode.ENGINE_OVERLOADED))
        address = self.controller.address(model)
        if not address:
            nobody = f"no ready worker serves {model:.200}; /list_models lists what is served"
            return _frames(_one(nobody, fastchat.ErrorCode.CONTROLLER_NO_WORKER))
        return _frames(self._passed_on(f"{address}/worker_generate_stream", body))

    async def _passed_on(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """A worker's frames; a worker that fails is told of in the last one."""
        self._streams += 1
        headers = {"content-type": "application/json"}
        try:
            async with self.client.stream("POST", url, content=body, headers=headers) as response:
                if response.status_code == HTTPStatus.OK:
                    async for part in response.aiter_raw():
                        yield part
                    return
                problem = f"status {response.status_code}"
        except httpx.HTTPError as error:
            problem = type(error).__name__
        finally:
            self._streams -= 1
        _log.warning("%s: %s", url, problem)
        failed = f"the worker did not answer ({problem}); send the request again"
        yield _failure(failed, fastchat.ErrorCode.CONTROLLER_WORKER_TIMEOUT)


async def _test(_: Request) -> Response:
    return JSONResponse("success")


async def _parsed(request: Request, shape: type[ShapeT]) -> ShapeT:
    return _parse(await _read(request.stream(), LONGEST_BODY), shape)


def _parse(body: bytes, shape: type[ShapeT]) -> ShapeT:
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        raise _Refused(_first_error(error)) from error


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"


async def _read(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """The body, of which no more than the longest allowed is ever held."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise _Refused(f"the body is over {limit} bytes")
    return bytes(body)


def _json(answer: wire.Wire) -> Response:
    return JSONResponse(answer.model_dump())


async def _refusal(_: Request, error: Exception) -> Response:
    """FastChat names no answer for what none of its clients sends."""
    code = HTTPStatus.BAD_REQUEST.value
    detail = wire.ErrorDetail(message=str(error), type="invalid_request_error", code=code)
    body = wire.ErrorResponse(message=str(error), code=code, error=detail)
    return JSONResponse(body.model_dump(), code)


async def _left(_: Request, __: Exception) -> Response:
    """Nobody is there to read it."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _failure(text: str, code: fastchat.ErrorCode) -> bytes:
    content = fastchat.Failure(text=text, error_code=code).model_dump_json().encode()
    return content + fastchat.FRAME_END


async def _one(text: str, code: fastchat.ErrorCode) -> AsyncIterator[bytes]:
    yield _failure(text, code)


def _frames(frames: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(frames)
