"""The HTTP route that workers post their heartbeats to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelworker_api import kube, wire
from modelworker_operator.errors import HeartbeatRefused, InvalidSpec, OperatorError, TokenRefused
from modelworker_operator.heartbeats import Registry
from modelworker_operator.identity import Identities, PodIdentity
from modelworker_operator.resources import OWNERS, PODS
from modelworker_operator.spec import WorkerSpec, parse
from modelworker_operator.store import Key, Store

LONGEST_BODY: Final = 128 * 1024
"""Bytes; 64 adapters with names, places and messages of full length fit."""
_RETRY_SECONDS: Final = "5"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """Takes heartbeats: `enqueue` is called with each owner whose status may have changed."""

    store: Store
    registry: Registry
    identities: Identities
    enqueue: Callable[[Key], None]
    monotonic: Callable[[], float]
    on_answer: Callable[[int], None] = lambda _: None
    trust: Callable[[str, WorkerSpec], wire.Trust | None] = lambda *_: None
    """Whose calls the workers of a namespace, with such a spec, take; None if anybody's."""

    def app(self) -> Starlette:
        """The application with its one route."""
        return Starlette(routes=[Route(kube.HEARTBEAT_PATH, self._post, methods=["POST"])])

    async def _post(self, request: Request) -> Response:
        try:
            response = await self._take(request)
        except HeartbeatRefused as refused:
            response = _refusal(refused)
        except ClientDisconnect:
            response = Response(status_code=HTTPStatus.BAD_REQUEST)
        self.on_answer(response.status_code)
        return response

    async def _take(self, request: Request) -> Response:
        pod = await self._identify(request)
        owner = self._owner(pod)
        if not self.registry.admits(pod.uid, self.monotonic()):
            raise HeartbeatRefused(
                HTTPStatus.TOO_MANY_REQUESTS, "more than one heartbeat a second; send them slower"
            )
        heartbeat = _parse(await _read(request))
        spec = self._spec(owner)
        news = self.registry.record(
            pod.uid,
            owner,
            heartbeat,
            now=self.monotonic(),
            stale_after=spec.heartbeat.stale_after_seconds,
        )
        if news:
            self.enqueue(owner)
        reply = _reply(spec, heartbeat, self.trust(owner.namespace, spec))
        return JSONResponse(reply.model_dump(exclude_none=True))

    async def _identify(self, request: Request) -> PodIdentity:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise HeartbeatRefused(
                HTTPStatus.UNAUTHORIZED, "send the pod's heartbeat token as a bearer token"
            )
        try:
            return await self.identities.pod_of(token.strip())
        except TokenRefused as error:
            raise HeartbeatRefused(HTTPStatus.UNAUTHORIZED, str(error)) from error
        except OperatorError as error:
            _log.warning("a heartbeat cannot be checked: %s", error)
            raise HeartbeatRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, "the token cannot be checked now; send it again"
            ) from error

    def _owner(self, pod: PodIdentity) -> Key:
        """The object that the pod works for; a pod that is none of ours has no say."""
        entry = self.store.get(PODS, pod.namespace, pod.name)
        if entry is None or entry.uid != pod.uid or entry.owner is None:
            raise HeartbeatRefused(
                HTTPStatus.FORBIDDEN,
                f"pod {pod.namespace}/{pod.name} ({pod.uid}) belongs to no ModelWorker or "
                "RewardModel; only pods of their Deployments report here",
            )
        return entry.owner

    def _spec(self, owner: Key) -> WorkerSpec:
        entry = self.store.get(OWNERS[owner.kind], owner.namespace, owner.name)
        if entry is None:
            raise HeartbeatRefused(HTTPStatus.FORBIDDEN, f"{owner} does not exist any more")
        try:
            return parse(owner.kind, entry.load()).spec
        except InvalidSpec as error:
            raise HeartbeatRefused(HTTPStatus.CONFLICT, f"{owner}: {error}") from error


async def _read(request: Request) -> bytes:
    """The body, of which no more than the longest allowed is ever held."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise HeartbeatRefused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is over {LONGEST_BODY} bytes"
            )
    return body


def _parse(body: bytes) -> wire.Heartbeat:
    try:
        return wire.Heartbeat.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        broken = first["type"] == "json_invalid"
        where = ".".join(map(str, first["loc"])) or "body"
        raise HeartbeatRefused(
            HTTPStatus.BAD_REQUEST if broken else HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{where}: {first['msg']}",
        ) from error


def _reply(
    spec: WorkerSpec, heartbeat: wire.Heartbeat, trust: wire.Trust | None
) -> wire.HeartbeatReply:
    """What a worker is told: a ready one also which adapters to serve, all of them."""
    ready = heartbeat.state is wire.LoadState.READY
    wanted = spec.vllm.adapters if spec.vllm and ready else None
    return wire.HeartbeatReply(
        interval_seconds=spec.heartbeat.interval_seconds,
        adapters=None if wanted is None else list(wanted),
        trust=trust,
    )


def _refusal(refused: HeartbeatRefused) -> Response:
    code = refused.status.value
    detail = wire.ErrorDetail(message=str(refused), type=refused.status.phrase, code=code)
    body = wire.ErrorResponse(message=str(refused), code=code, error=detail)
    headers = {}
    if refused.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = _RETRY_SECONDS
    if refused.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), code, headers)
