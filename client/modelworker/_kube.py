"""The Kubernetes API: the only module that imports its client, loaded at first discovery."""

import base64
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import kubernetes.aio
import kubernetes.aio.config
import kubernetes.aio.watch
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME

from modelworker import _errors, _refusals
from modelworker._settings import Settings
from modelworker._tokens import Issued
from modelworker._way import Gateway
from modelworker_api import kube

# The Kubernetes client is typed in part only.
client: Any = kubernetes.aio.client
config: Any = kubernetes.aio.config
watch: Any = kubernetes.aio.watch

_SUBJECT: Final = "system:serviceaccount:"
LIST_SECONDS: Final = 15.0
TOKEN_SECONDS: Final = 3600
"""How long an issued token is good for; the API server may decide otherwise."""
WATCH_SECONDS: Final = 240
"""How long the API server keeps one watch open before it is renewed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch. `body` is None when only the version moved."""

    version: str
    body: Mapping[str, Any] | None = None
    deleted: bool = False


class Cluster:
    """Reads the objects of one kind in one namespace. Belongs to one event loop."""

    def __init__(self, api: Any, *, kind: kube.Kind, namespace: str, in_cluster: bool) -> None:
        self._api = api
        self._kind = kind
        self.namespace = namespace
        self.in_cluster = in_cluster
        self.server: str = api.configuration.host

    async def aclose(self) -> None:
        """Close the connections to the API server."""
        await self._api.close()

    async def read(self, name: str) -> tuple[Mapping[str, Any] | None, str]:
        """The object, None if there is none, and the version to watch from.

        Raises:
            ModelWorkerError: if the API server does not answer, or refuses.
        """
        listing = await self._list(field_selector=f"metadata.name={name}")
        return next(iter(listing["items"]), None), listing["metadata"]["resourceVersion"]

    async def names(self) -> list[str]:
        """Names of the objects in the namespace."""
        listing = await self._list()
        return sorted(item["metadata"]["name"] for item in listing["items"])

    async def watch(self, name: str, version: str) -> AsyncGenerator[Event, None]:
        """Changes of the object after `version`, until the server ends the watch.

        Raises:
            Expired: the version is too old to watch from: list again.
            ModelWorkerError: if the API server does not answer, or refuses.
        """
        async with watch.Watch() as stream:
            with self._translated(self._refused):
                async for line in stream.stream(
                    client.CustomObjectsApi(self._api).list_namespaced_custom_object,
                    **self._target(),
                    field_selector=f"metadata.name={name}",
                    resource_version=version,
                    allow_watch_bookmarks=True,
                    timeout_seconds=WATCH_SECONDS,
                    _request_timeout=WATCH_SECONDS + 2 * LIST_SECONDS,
                ):
                    yield _event(line)

    async def issue(self, account: str | None) -> Issued:
        """A token for calls to workers, of a service account.

        Args:
            account: `NAME` in the namespace, or `NAMESPACE/NAME`; by default in a pod its own
                account, elsewhere `default`.

        Raises:
            ModelWorkerError: if the API server does not answer, or refuses.
        """
        whose = account or (_own_account() if self.in_cluster else None) or "default"
        if "/" not in whose:
            whose = f"{self.namespace}/{whose}"
        namespace, _, name = whose.partition("/")
        spec = client.V1TokenRequestSpec(
            audiences=[kube.INFERENCE_AUDIENCE], expiration_seconds=TOKEN_SECONDS
        )

        def refused(status: int, message: str) -> _errors.ModelWorkerError:
            return _refusals.from_token_request(status, message, account=whose, server=self.server)

        with self._translated(refused):
            issued = await client.CoreV1Api(self._api).create_namespaced_service_account_token(
                name,
                namespace,
                client.AuthenticationV1TokenRequest(spec=spec),
                _request_timeout=LIST_SECONDS,
            )
            return Issued(issued.status.token, whose, float(issued.spec.expiration_seconds))

    def gateway(self) -> Gateway:
        """The API server as a proxy to the pods of the namespace."""
        configuration = self._api.configuration

        async def authorization() -> str | None:
            value: str | None = await configuration.get_api_key_with_prefix(
                "BearerToken", alias="authorization"
            )
            return value

        return Gateway(
            server=self.server,
            namespace=self.namespace,
            tls=self._api.rest_client.ssl_context,
            authorization=authorization,
            server_name=configuration.tls_server_name,
            proxy=configuration.proxy,
        )

    async def _list(self, **query: Any) -> Mapping[str, Any]:
        with self._translated(self._refused):
            api = client.CustomObjectsApi(self._api)
            listing: Mapping[str, Any] = await api.list_namespaced_custom_object(
                **self._target(), **query, _request_timeout=LIST_SECONDS
            )
            return listing

    def _target(self) -> dict[str, str]:
        return {
            "group": kube.GROUP,
            "version": kube.VERSION,
            "namespace": self.namespace,
            "plural": self._kind.plural,
        }

    def _refused(self, status: int, message: str) -> _errors.ModelWorkerError:
        return _refusals.from_cluster(
            status, message, kind=self._kind, namespace=self.namespace, server=self.server
        )

    @contextmanager
    def _translated(
        self, refused: Callable[[int, str], _errors.ModelWorkerError]
    ) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            raise refused(error.status, _message(error)) from error
        except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError) as error:
            said = str(error) or type(error).__name__
            raise _errors.ClusterUnavailable(
                f"the API server {self.server} does not answer: {said}; "
                "`kubectl get --raw /readyz` with the same kubeconfig shows whether it runs"
            ) from error


async def connect(settings: Settings) -> Cluster:
    """The cluster that a kubeconfig names, or the one this pod runs in.

    Raises:
        NoCluster: if there is neither, or the kubeconfig cannot be used.
    """
    files = kubeconfig_files(settings.kubeconfig)
    try:
        if files is None and settings.context is None:
            configuration = type.__call__(client.Configuration)
            config.load_incluster_config(client_configuration=configuration)
            api, own = client.ApiClient(configuration=configuration), _pod_namespace()
        else:
            api = await config.new_client_from_config(files, settings.context, persist_config=False)
            own = _context_namespace(files, settings.context)
    except Exception as error:
        raise _errors.NoCluster(_no_cluster(files, settings.context, error)) from error
    return Cluster(
        api,
        kind=settings.kind,
        namespace=settings.namespace or own or "default",
        in_cluster=files is None,
    )


def kubeconfig_files(given: str | None) -> str | None:
    """The kubeconfig that applies, as kubectl finds it; None if there is none.

    An explicit path, then `KUBECONFIG`, then `~/.kube/config` where it exists. Read on
    each use, so that a change of the environment counts.
    """
    if given is not None:
        return str(Path(given).expanduser())
    if named := os.environ.get("KUBECONFIG"):
        return named
    default = Path("~/.kube/config").expanduser()
    return str(default) if default.is_file() else None


def _no_cluster(files: str | None, context: str | None, error: Exception) -> str:
    wrong = "no Kubernetes cluster to find workers in"
    if files is not None:
        chosen = f" with context {context!r}" if context else ""
        wrong = f"the kubeconfig {files}{chosen} cannot be used: {error}"
    return (
        f"{wrong}. Choose one: set KUBECONFIG or pass kubeconfig=..., run inside a pod with a "
        'service account, or name the workers with endpoints=["http://host:8000"]'
    )


def _pod_namespace() -> str | None:
    try:
        return Path(SERVICE_TOKEN_FILENAME).with_name("namespace").read_text().strip() or None
    except OSError:
        return None


def _own_account() -> str | None:
    """The service account of this pod, from the API token that is mounted: `NAMESPACE/NAME`."""
    try:
        claims = Path(SERVICE_TOKEN_FILENAME).read_text().split(".")[1]
        subject = str(json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    namespace, colon, name = subject.removeprefix(_SUBJECT).partition(":")
    return f"{namespace}/{name}" if colon and subject.startswith(_SUBJECT) else None


def _context_namespace(files: str | None, context: str | None) -> str | None:
    contexts, current = config.list_kube_config_contexts(files)
    chosen = next((c for c in contexts if c["name"] == context), current)
    namespace: str | None = chosen["context"].get("namespace")
    return namespace


def _message(error: Any) -> str:
    """The API server's own words: those of its Status, else the HTTP reason."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _event(line: Any) -> Event:
    if not isinstance(line, dict) or "metadata" not in (line.get("raw_object") or {}):
        raise ValueError(f"a watch gave {line!r:.200}")
    body = line["raw_object"]
    version = body["metadata"]["resourceVersion"]
    if line["type"] == "BOOKMARK":
        return Event(version)
    return Event(version, body, deleted=line["type"] == "DELETED")
