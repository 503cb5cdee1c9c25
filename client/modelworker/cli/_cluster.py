"""The API server: the one module of the command line that talks to it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from modelworker.cli._failures import Code, Failure, Refused, one_line
from modelworker_api import kube, wire

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 1.0
HEALTH_PATH: Final = "/healthz"
"""What a worker answers without a token."""
_JSON: Final = "application/json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Asks for the metadata of an object without what is in it, such as a Secret's data."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster and namespace, as kubectl's flags say."""

    namespace: str | None = None
    everywhere: bool = False
    context: str | None = None
    kubeconfig: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as text, with its headers in lower case."""

    text: str
    headers: Mapping[str, str]


class Cluster(Protocol):
    """What the commands need of an API server."""

    server: str
    namespace: str
    """The one that was asked for, else that of the context."""
    in_cluster: bool

    def get(self, path: str, *, accept: str = _JSON, **query: str) -> Any:
        """The JSON at a path."""

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that answers a body."""

    def fetch(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """The text at a path."""

    def lines(self, path: str, **query: str) -> Iterator[str]:
        """The lines at a path, as they come; closing the iterator ends the request."""

    def answers(self, address: str) -> bool:
        """Whether a worker answers at `host:port` from here."""


def objects_path(kind: kube.Kind, namespace: str | None, name: str = "") -> str:
    """Path of the objects of a kind, in one namespace or in all."""
    return _path(f"/apis/{kube.API_VERSION}", kind.plural, namespace, name)


def core_path(plural: str, namespace: str | None, name: str = "") -> str:
    """Path of objects of the core group."""
    return _path("/api/v1", plural, namespace, name)


def proxy_path(namespace: str, pod: str, path: str) -> str:
    """Path of a worker behind the API server's proxy."""
    return f"{core_path('pods', namespace)}/http:{pod}:{kube.WORKER_PORT}/proxy{path}"


def _path(root: str, plural: str, namespace: str | None, name: str) -> str:
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{place}/{plural}" + (f"/{name}" if name else "")


def connect(target: Target) -> Cluster:
    """The cluster of the kubeconfig, or the one this pod runs in.

    Raises:
        Failure: if there is neither, or the kubeconfig cannot be used.
    """
    import kubernetes.client  # noqa: PLC0415 - half a second, for the commands that need it
    import kubernetes.config  # noqa: PLC0415
    import urllib3  # noqa: PLC0415
    from kubernetes.config import kube_config  # noqa: PLC0415

    client: Any = kubernetes.client
    config: Any = kubernetes.config
    urllib3.disable_warnings()  # of insecure-skip-tls-verify, which kubectl says nothing of
    files = target.kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    known = any(Path(file).expanduser().is_file() for file in files.split(":") if file)
    configuration = client.Configuration()
    configuration.retries = False
    in_cluster = not (known or target.kubeconfig or target.context)
    try:
        if in_cluster:
            own = _pod_namespace(files)
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                target.kubeconfig,
                target.context,
                client_configuration=configuration,
                persist_config=False,
            )
            own = _context_namespace(config, target)
    except Exception as error:
        raise Failure(_no_cluster(target, files, error), Code.NO_ACCESS) from error
    return ApiServer(
        client.ApiClient(configuration),
        namespace=target.namespace or own or "default",
        in_cluster=in_cluster,
    )


def contexts_of(kubeconfig: str | None) -> list[str]:
    """Names of the contexts of a kubeconfig; none where it cannot be read."""
    import kubernetes.config  # noqa: PLC0415

    config: Any = kubernetes.config
    try:
        return [one["name"] for one in config.list_kube_config_contexts(kubeconfig)[0]]
    except config.ConfigException:
        return []


def _context_namespace(config: Any, target: Target) -> str | None:
    contexts, current = config.list_kube_config_contexts(target.kubeconfig)
    chosen = next((one for one in contexts if one["name"] == target.context), current)
    namespace: str | None = (chosen or {}).get("context", {}).get("namespace")
    return namespace


def _pod_namespace(files: str) -> str | None:
    """The namespace of the pod that this runs in.

    Raises:
        FileNotFoundError: if it runs in none.
    """
    from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME  # noqa: PLC0415

    file = Path(SERVICE_TOKEN_FILENAME).with_name("namespace")
    if not file.is_file():
        raise FileNotFoundError(f"there is no kubeconfig at {files}, and this is no pod")
    return file.read_text().strip() or None


def _no_cluster(target: Target, files: str, error: Exception) -> str:
    said = one_line(str(error)).rstrip(".")
    if target.kubeconfig or target.context or not isinstance(error, FileNotFoundError):
        chosen = f" with context {target.context!r}" if target.context else ""
        return (
            f"the kubeconfig {files}{chosen} cannot be used: {said}; "
            "`kubectl config get-contexts` shows what it has"
        )
    return f"no cluster: {said}; set KUBECONFIG, pass --kubeconfig, or run inside a pod"


class ApiServer:
    """A real one, through the Kubernetes client."""

    def __init__(self, api: Any, *, namespace: str, in_cluster: bool) -> None:
        self._api = api
        self.namespace = namespace
        self.in_cluster = in_cluster
        self.server: str = api.configuration.host

    def get(self, path: str, *, accept: str = _JSON, **query: str) -> Any:
        """The JSON at a path.

        Raises:
            Failure: if the API server does not answer, or refuses.
        """
        return self._json(path, self._send("GET", path, {"Accept": accept}, query=query))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that answers a body.

        Raises:
            Failure: if the API server does not answer, or refuses.
        """
        headers = {"Accept": _JSON, "Content-Type": _JSON}
        return self._json(path, self._send("POST", path, headers, body=body))

    def fetch(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """The text at a path.

        Raises:
            Failure: if the API server does not answer, or refuses.
        """
        response = self._send("GET", path, {"Accept": "*/*", **(headers or {})})
        with self._translated():
            return Reply(
                response.data.decode(errors="replace"),
                {name.lower(): text for name, text in response.headers.items()},
            )

    def lines(self, path: str, **query: str) -> Iterator[str]:
        """The lines at a path, as they come; closing the iterator ends the request.

        Raises:
            Failure: if the API server does not answer, or refuses.
        """
        response = self._send("GET", path, {"Accept": "*/*"}, query=query, patience=None)
        rest = b""
        try:
            with self._translated():
                for part in response.stream(None, decode_content=True):
                    *whole, rest = (rest + part).split(b"\n")
                    yield from (line.decode(errors="replace") for line in whole)
                if rest:
                    yield rest.decode(errors="replace")
        finally:
            response.close()

    def answers(self, address: str) -> bool:
        """Whether a worker answers at `host:port` within a second: its answers carry its name.

        It is shown no token: what listens at an address of the cluster may be a stranger here.
        """
        place = urlsplit(f"//{address}")
        connection = HTTPConnection(place.hostname or "", place.port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", HEALTH_PATH)
            return connection.getresponse().headers.get(wire.HEADER_WORKER) is not None
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _json(self, path: str, response: Any) -> Any:
        with self._translated():
            try:
                return json.loads(response.data)
            except ValueError as error:
                raise Failure(f"{self.server}{path} gave something that is no JSON") from error

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        patience: float | None = READ_SECONDS,
    ) -> Any:
        with self._translated():
            request = self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=dict(headers),
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(*request, _request_timeout=(CONNECT_SECONDS, patience))
            response = answer.response
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise Refused(answer.status, _words(response.data, response.reason), path)
            return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import urllib3  # noqa: PLC0415 - it is loaded by now
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415

        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            raise Failure(
                f"the API server {self.server} does not answer: {one_line(str(error))}; "
                "`kubectl get --raw /readyz` with the same kubeconfig shows whether it runs",
                Code.NO_ACCESS,
            ) from error


def _words(body: bytes, reason: str | None) -> str:
    """The server's own words: those of its Status, else the text or the HTTP reason."""
    try:
        said = json.loads(body)
    except ValueError:
        said = body.decode(errors="replace")[:500]
    if isinstance(said, Mapping):
        said = said.get("message") or said.get("reason")
    return one_line(str(said or reason or "no reason given"))
