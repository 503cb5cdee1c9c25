"""Answers of the Kubernetes API server -> errors, with the right that is missing. Pure."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from modelworker import _errors
from modelworker._errors import AccessDenied, ModelWorkerError
from modelworker_api import kube

_NO_POD: Final = "error trying to reach service"
"""How the API server begins to say that a pod does not take its connection."""


def from_cluster(
    status: int, message: str, *, kind: kube.Kind, namespace: str, server: str
) -> ModelWorkerError:
    """The error that an answer about the objects of a kind stands for."""
    if status == HTTPStatus.FORBIDDEN:
        return AccessDenied(
            f"the API server {server} refused: {message}. Reading workers needs the verbs list "
            f"and watch: `kubectl create role {kind.plural}-reader -n {namespace} "
            f"--verb=get,list,watch --resource={kind.plural}.{kube.GROUP}`, "
            "then bind it"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return _unknown(server, message, f"kubectl get {kind.short}")
    if status == HTTPStatus.NOT_FOUND:
        return _errors.NotInstalled(
            f"the cluster {server} does not know the kind {kind.kind}: "
            "install its CRD with `kubectl apply -f crds/`"
        )
    if status == HTTPStatus.GONE:
        return _errors.Expired(message)
    return _errors.ClusterUnavailable(f"the API server {server} answered {status}: {message}")


def from_token_request(status: int, message: str, *, account: str, server: str) -> ModelWorkerError:
    """The error that an answer to a TokenRequest for an account (`NAMESPACE/NAME`) stands for."""
    namespace, _, name = account.partition("/")
    elsewhere = "; or pass a token as api_key=..., or its file as MODELWORKER_TOKEN_FILE"
    if status == HTTPStatus.FORBIDDEN:
        return AccessDenied(
            f"the workers want a token, and the API server {server} issues none: {message}. "
            f"`kubectl create role modelworker-token -n {namespace} --verb=create "
            f"--resource=serviceaccounts/token --resource-name={name}`, then bind it{elsewhere}"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return _unknown(server, message, f"kubectl auth whoami -n {namespace}")
    if status == HTTPStatus.NOT_FOUND:
        return AccessDenied(
            f"the workers want a token, and there is no service account {account} to issue one "
            f"for: {message}; `kubectl create serviceaccount {name} -n {namespace}` makes it, "
            f"service_account=... names another one{elsewhere}"
        )
    return _errors.ClusterUnavailable(
        f"the API server {server} answered {status} when asked for a token: {message}"
    )


def from_gateway(
    status: int, payload: object, *, worker: str, namespace: str, server: str
) -> ModelWorkerError:
    """The error that the API server's own answer stands for, on the way to a worker."""
    said = payload if isinstance(payload, Mapping) else {}
    message = str(said.get("message") or said.get("reason") or f"HTTP {status}")
    error: ModelWorkerError
    if status == HTTPStatus.FORBIDDEN:
        error = AccessDenied(
            f"worker {worker} is not reachable from here, and the API server {server} does not "
            f"pass calls on: {message}. That needs the verb create on pods/proxy: `kubectl "
            f"create role modelworker-caller -n {namespace} --verb=create "
            "--resource=pods/proxy`, then bind it"
        )
    elif status == HTTPStatus.UNAUTHORIZED:
        error = _unknown(server, message, f"kubectl auth whoami -n {namespace}")
    elif status == HTTPStatus.NOT_FOUND:
        error = _errors.Unreachable(f"worker {worker} is gone: {message}")
    elif status == HTTPStatus.BAD_REQUEST or message.startswith(_NO_POD):
        error = _errors.Unreachable(
            f"the API server {server} does not reach worker {worker}: {message}; `kubectl get "
            f"pods -n {namespace} -o wide` shows its pod, and the network may keep the API "
            "server's machines from the pods"
        )
    else:
        error = _errors.ClusterUnavailable(
            f"the API server {server} answered {status} on the way to worker {worker}: {message}"
        )
    error.worker = worker
    return error


def is_of_api_server(payload: object) -> bool:
    """Whether an error's body is the API server's own."""
    return isinstance(payload, Mapping) and payload.get("kind") == "Status"


def _unknown(server: str, message: str, command: str) -> AccessDenied:
    return AccessDenied(
        f"the API server {server} does not accept the credentials: {message}; "
        f"`{command}` with the same kubeconfig shows whether they work"
    )
