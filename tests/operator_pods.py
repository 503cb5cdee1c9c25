"""Pods that only seem to run, and what they report: for tests without a node."""

import json
from typing import Any, Final

import httpx

from tests.operator_support import Objects, OperatorProcess

AUDIENCE: Final = "modelworker.dev/heartbeat"
ADDRESS: Final = "127.0.0.9"


def bind(objects: Objects, name: str) -> None:
    """Bind a pod to a node by hand, as no scheduler would without one."""
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": objects.namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"},
    }
    path = f"/api/v1/namespaces/{objects.namespace}/pods/{name}/binding"
    objects.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))


def token(objects: Objects, pod: str | None, *, audience: str = AUDIENCE) -> str:
    """A token of the default service account, bound to a pod if one is named."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    return objects.kubectl("create", "token", "default", f"--audience={audience}", *bound)


def run(objects: Objects, name: str, *, ready: bool = False) -> None:
    """Have the worker of a bound pod run, and maybe be ready, as its kubelet would say."""
    container = {
        "name": "worker",
        "image": "local/worker",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
    status = {
        "phase": "Running",
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "containerStatuses": [container],
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    objects.kubectl(
        "patch", "pod", name, "--subresource=status", "-p", json.dumps({"status": status})
    )


def post(
    process: OperatorProcess, bearer: str | None, body: dict[str, Any] | bytes | None = None
) -> httpx.Response:
    """POST a heartbeat."""
    return httpx.post(
        f"http://127.0.0.1:{process.heartbeat_port}/v1/heartbeat",
        content=body if isinstance(body, bytes) else json.dumps(body or {"state": "Ready"}),
        headers={"Authorization": f"Bearer {bearer}"} if bearer else {},
        timeout=20,
    )
