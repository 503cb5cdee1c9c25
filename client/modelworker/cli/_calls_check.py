"""Whether calls from here would get through: the way, the token, and an answer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from modelworker import _settings
from modelworker._settings import Settings
from modelworker.cli._cluster import HEALTH_PATH, Cluster, core_path
from modelworker.cli._facts import Facts, Worker
from modelworker.cli._failures import Failure
from modelworker.cli._findings import Finding, Level
from modelworker.cli._reach import Reach
from modelworker_api import kube, wire

_ACCOUNT: Final = "default"
_TOKEN_SECONDS: Final = 600
"""The shortest life that the API server gives a token."""
_GUARDED_PATH: Final = "/v1/models"
_WORDS: Final = {"direct": "at its own address", "proxy": "through the API server"}


def calls(cluster: Cluster, reach: Reach, facts: Sequence[Facts]) -> Iterator[Finding]:
    """One ready worker of each object is asked, with a token as the client would show it."""
    ready = [(one, worker) for one in facts for worker in one.workers if worker.ready]
    asked = {one.ref: (one, worker) for one, worker in reversed(ready)}
    for one in facts:
        if one.ref not in asked:
            yield Finding(
                "workers",
                Level.WARN,
                f"{one.ref} in {one.namespace} has no ready worker to ask: {one.reason}",
                f"kubectl modelworker status {one.ref} -n {one.namespace}",
            )
    for one, worker in asked.values():
        yield from _call(cluster, reach, one, worker)


def _call(cluster: Cluster, reach: Reach, one: Facts, worker: Worker) -> Iterator[Finding]:
    try:
        reach.fetch(one.namespace, worker, HEALTH_PATH)
    except Failure as error:
        yield Finding(
            "workers",
            Level.FAIL,
            f"{worker.pod} cannot be reached {_WORDS[reach.way(worker)]}: {error}",
            "see the rights to pods/proxy above, network policies, or try --access direct|proxy",
        )
        return
    yield Finding("workers", Level.OK, f"{worker.pod} answers {_WORDS[reach.way(worker)]}")
    try:
        token, whose = _token(cluster, one.namespace)
    except Failure as error:
        yield Finding(
            "token",
            Level.WARN,
            f"no token for workers in {one.namespace}: {error}",
            "get the right to create serviceaccounts/token, or pass api_key= to LM and RMCall",
        )
        return
    try:
        reach.fetch(
            one.namespace,
            worker,
            _GUARDED_PATH,
            direct_headers={"Authorization": f"Bearer {token}"},
            proxy_headers={wire.HEADER_API_KEY: token},
        )
    except Failure as error:
        yield Finding(
            "token",
            Level.FAIL,
            f"{worker.pod} does not take {whose}: {error}",
            "the operator's --worker-auth-namespaces says whose tokens workers take",
        )
    else:
        yield Finding("token", Level.OK, f"{worker.pod} takes {whose}")


def _token(cluster: Cluster, namespace: str) -> tuple[str, str]:
    """The token that calls would show, and whose it is.

    Raises:
        Failure: if there is none to be had.
    """
    mounted = _settings.token_file()
    if mounted is not None:
        return _read(mounted), f"the token in {mounted}"
    named = _settings.service_account_of(Settings(name="doctor")) or _ACCOUNT
    place, _, account = named.rpartition("/")
    path = f"{core_path('serviceaccounts', place or namespace, account)}/token"
    spec = {"audiences": [kube.INFERENCE_AUDIENCE], "expirationSeconds": _TOKEN_SECONDS}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer: Any = cluster.post(path, request)
    return answer["status"]["token"], f"a token of {place or namespace}/{account}"


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
