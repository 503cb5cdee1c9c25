"""The only module that talks to the API server. Every write passes the leader's gate."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from modelworker_api import kube
from modelworker_operator.config import Config
from modelworker_operator.errors import (
    ClusterUnavailable,
    NoCredentials,
    NotFound,
    NotLeading,
    error_of_answer,
)
from modelworker_operator.resources import (
    CHILD_SELECTOR,
    CHILDREN,
    OWNERS,
    Resource,
    resource_of,
)

CONNECT_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 30.0

_PAGE: Final = 100
_APPLY: Final = "application/apply-patch+yaml"
_JSON_PATCH: Final = "application/json-patch+json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_TOKEN_REVIEWS: Final = Resource("TokenReview", "authentication.k8s.io", "v1", "tokenreviews")
_EVENTS: Final = Resource("Event", "events.k8s.io", "v1", "events")


class Gate(Protocol):
    """Says for how many seconds writes may still be sent; 0 when they may not."""

    def remaining(self) -> float:
        """Seconds, possibly infinite."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What the API server says of a token; `user` is empty when it is not accepted."""

    user: str
    audiences: tuple[str, ...]
    extra: Mapping[str, Sequence[str]]
    error: str


async def connect(config: Config, user_agent: str) -> ApiClient:
    """A client by the settings: the given kubeconfig, else in-cluster, else the usual places.

    Raises:
        NoCredentials: none of them can be used; the message says what to set.
    """
    configuration = Configuration()
    try:
        if config.kubeconfig is None and config.context is None:
            try:
                load_incluster_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
            except ConfigException:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(config.kubeconfig) if config.kubeconfig else None,
                context=config.context,
                client_configuration=configuration,
            )
        client = ApiClient(configuration)
    except Exception as error:
        raise NoCredentials(
            f"cannot use a kubeconfig ({error}); set KUBECONFIG or --kubeconfig to the file "
            "that kubectl uses, and --context to one of its contexts"
        ) from error
    client.user_agent = user_agent
    return client


class Cluster:
    """Reads, applies and reviews; see each method for what it needs the right to.

    `on_contact` is told of every answer and every failure to get one (True, False).
    """

    def __init__(
        self,
        client: ApiClient,
        gate: Gate,
        *,
        namespaces: Sequence[str] = (),
        on_contact: Callable[[bool], None] = lambda _: None,
        on_request: Callable[[str, str, int], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._gate = gate
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._on_contact = on_contact
        self._on_request = on_request

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._client.configuration.host)

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """One object as it is now; None if there is none."""
        try:
            return await self._request("GET", resource.plural, resource.path(namespace, name))
        except NotFound:
            return None

    async def missing_kinds(self) -> tuple[kube.Kind, ...]:
        """Our kinds that the API server does not serve."""
        resource = OWNERS[kube.MODELWORKER]
        try:
            found = await self._request("GET", resource.plural, resource.path().rpartition("/")[0])
        except NotFound:
            return kube.KINDS
        served = {one["name"] for one in found["resources"]}
        return tuple(kind for kind in kube.KINDS if kind.plural not in served)

    async def list_versions(self, resource: Resource) -> tuple[dict[str, int], int]:
        """Every object that the operator watches: uid to version, and the list's own version."""
        versions: dict[str, int] = {}
        taken: list[int] = []
        for namespace in self._namespaces:
            query = {"limit": str(_PAGE)}
            if resource in CHILDREN:
                query["labelSelector"] = CHILD_SELECTOR
            while True:
                page = await self._request(
                    "GET", resource.plural, resource.path(namespace), query=query, accept=_METADATA
                )
                for item in page["items"] or ():
                    meta = item["metadata"]
                    versions[meta["uid"]] = int(meta["resourceVersion"])
                if not page["metadata"].get("continue"):
                    break
                query["continue"] = page["metadata"]["continue"]
            taken.append(int(page["metadata"]["resourceVersion"]))
        return versions, min(taken)

    async def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of one child, by force on the fields that it names."""
        meta = manifest["metadata"]
        resource = resource_of(manifest)
        path = resource.path(meta["namespace"], meta["name"])
        return await self._apply(resource, path, manifest)

    async def apply_status(
        self, raw: Mapping[str, Any], status: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make `status` the whole status of the object `raw`, whatever others wrote into it."""
        reference = reference_to(raw)
        metadata = {key: reference.pop(key) for key in ("name", "namespace", "uid")}
        resource = resource_of(raw)
        path = resource.path(metadata["namespace"], metadata["name"], "status")
        written = await self._apply(
            resource, path, {**reference, "metadata": metadata, "status": status}
        )
        if written.get("status") == status:
            return written
        # An apply leaves the entries that others added to lists, and clients call such workers.
        whole = [{"op": "replace", "path": "/status", "value": status}]
        return await self._request("PATCH", resource.plural, path, body=whole, sent=_JSON_PATCH)

    async def published(self, path: str) -> dict[str, Any]:
        """A document of the API server itself, such as the keys that tokens are checked with."""
        return await self._request("GET", "documents", path, accept="*/*")

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Create an `events.k8s.io/v1` Event."""
        await self._request("POST", _EVENTS.plural, _EVENTS.path(namespace), body=event)

    async def review_token(self, token: str, audience: str) -> Reviewed:
        """Ask who a token belongs to."""
        body = {"spec": {"token": token, "audiences": [audience]}}
        answer = await self._request(
            "POST", _TOKEN_REVIEWS.plural, _TOKEN_REVIEWS.path(), body=body
        )
        status = answer.get("status") or {}
        user = status.get("user") or {}
        return Reviewed(
            user=user.get("username", "") if status.get("authenticated") else "",
            audiences=tuple(status.get("audiences") or ()),
            extra=user.get("extra") or {},
            error=status.get("error", ""),
        )

    async def watch_session(self) -> aiohttp.ClientSession:
        """A new HTTP session for the watches, with the present credentials."""
        trace = aiohttp.TraceConfig()

        async def answered(*_: Any) -> None:
            self._on_contact(True)

        async def failed(*_: Any) -> None:
            self._on_contact(False)

        trace.on_request_end.append(answered)
        trace.on_request_exception.append(failed)
        headers = {"User-Agent": self._client.user_agent}
        auth = await self._client.configuration.auth_settings()
        if "BearerToken" in auth:
            headers["Authorization"] = auth["BearerToken"]["value"]
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._client.rest_client.ssl_context),
            headers=headers,
            proxy=self._client.configuration.proxy,
            trace_configs=[trace],
        )

    async def _apply(
        self, resource: Resource, path: str, manifest: Mapping[str, Any]
    ) -> dict[str, Any]:
        query = {"fieldManager": kube.FIELD_MANAGER, "force": "true"}
        return await self._request(
            "PATCH", resource.plural, path, query=query, body=manifest, sent=_APPLY
        )

    async def _request(
        self,
        method: str,
        what: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        sent: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        seconds = REQUEST_SECONDS
        if method != "GET":
            # A write must be over before another process can take the lease.
            seconds = min(seconds, self._gate.remaining())
            if seconds <= 0:
                raise NotLeading(
                    f"{method} {path} held back: the lease was not renewed in time; "
                    "it is sent again if the lease can be renewed"
                )
        try:
            request = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": accept, "Content-Type": sent},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(
                *request,
                _request_timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=min(seconds, CONNECT_SECONDS)
                ),
            )
            data = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._on_contact(False)
            raise ClusterUnavailable(
                f"no answer from the API server at {self.server} to {method} {path} "
                f"({type(error).__name__}: {error}); the request is repeated"
            ) from error
        self._on_contact(True)
        self._on_request(method, what, response.status)
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            answer: dict[str, Any] = json.loads(data)
            return answer
        raise error_of_answer(response.status, f"{method} {path}", data)


def reference_to(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What names the object `raw` and no other, in the form of an ObjectReference."""
    named = {key: raw[key] for key in ("apiVersion", "kind")}
    return named | {key: raw["metadata"][key] for key in ("name", "namespace", "uid")}
