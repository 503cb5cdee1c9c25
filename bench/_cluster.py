"""What the operator's benchmarks share: a control plane, the operator as a process, a client."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from kubernetes.aio.client.api_client import ApiClient

from _common import ROOT
from modelworker_devcluster import DevCluster
from modelworker_operator.cluster import connect
from modelworker_operator.config import Config

PASSES = 'controller_runtime_reconcile_total{controller="modelworker",result="success"}'
OBJECTS = "/apis/modelworker.dev/v1alpha1/namespaces/default/modelworkers"
WRITES = ("create", "update", "patch", "delete")


@contextlib.contextmanager
def control_plane() -> Iterator[DevCluster]:
    """A cluster without a node, with the custom resource definitions."""
    print("starting a control plane", file=sys.stderr)
    with DevCluster(kubelet=False) as cluster:
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        until(
            lambda: cluster.kubectl(
                "get", "--raw", "/apis/modelworker.dev/v1alpha1", check=False
            ).count("modelworkers"),
            what="served ModelWorkers",
        )
        yield cluster


def until(reached: Callable[[], Any], *, timeout: float = 600.0, what: str) -> Any:
    """Poll until the result is true, and return it.

    Raises:
        TimeoutError: it was not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (result := reached()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout:.0f} s")
        time.sleep(0.05)
    return result


class Operator:
    """One operator process; `stop` ends it by SIGTERM."""

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster
        with contextlib.ExitStack() as sockets:
            self.health, heartbeats = (
                int(sockets.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
                for _ in range(2)
            )
        settings = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "NAMESPACE": "default",
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self.health),
            "HEARTBEAT_HOST": "127.0.0.1",
            "HEARTBEAT_PORT": str(heartbeats),
            "HEARTBEAT_URL": "http://heartbeats.example",
            "LOG_LEVEL": "warning",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelworker_operator"],
            env={
                **os.environ,
                **{f"MODELWORKER_OPERATOR_{key}": text for key, text in settings.items()},
            },
        )
        cluster.guard(self.process.pid)

    def stop(self) -> None:
        """End it, and give the lease back."""
        self.process.terminate()
        self.process.wait(15)

    def metric(self, name: str) -> float:
        """One sample of /metrics; 0 while there is none."""
        with contextlib.suppress(httpx.TransportError):
            text = httpx.get(f"http://127.0.0.1:{self.health}/metrics", timeout=5).text
            for line in text.splitlines():
                if line.startswith(f"{name} "):
                    return float(line.rpartition(" ")[2])
        return 0.0

    def leads(self) -> bool:
        """Whether it leads and knows every object."""
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"http://127.0.0.1:{self.health}/readyz", timeout=5)
            return answer.text == "leading\n" and answer.is_success
        return False

    def rss_mib(self) -> float:
        """Resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Audit:
    """Counts the operator's writes in the audit log from here on, leases not included."""

    def __init__(self, cluster: DevCluster) -> None:
        self._log = cluster.audit_log
        self._offset = self._log.stat().st_size

    def writes(self) -> int:
        """Writes that are complete."""
        with self._log.open() as log:
            log.seek(self._offset)
            events = [json.loads(line) for line in log if line.endswith("\n")]
        return sum(
            event["verb"] in WRITES
            and event["stage"] == "ResponseComplete"
            and event.get("userAgent", "").startswith("modelworker-operator/")
            and event.get("objectRef", {}).get("resource") != "leases"
            for event in events
        )


class Api:
    """A bare client of the API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str
    ) -> Any:
        """One request; PATCH is a server-side apply. Returns the answer's JSON."""
        response = await self._send(method, path, body, query)
        data = await response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
        return json.loads(data)

    async def watch(self, path: str) -> AsyncIterator[Mapping[str, Any]]:
        """Events from now on."""
        version = (await self.request("GET", path, limit="1"))["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version}
        response = await self._send("GET", path, None, query)
        async for line in response.response.content:
            yield json.loads(line)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str]
    ) -> Any:
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*request)


@contextlib.asynccontextmanager
async def api(kubeconfig: Path) -> AsyncIterator[Api]:
    """A bare client for a block."""
    client = await connect(Config(kubeconfig=kubeconfig), "bench")
    async with client:
        yield Api(client)


def worker(name: str, replicas: int) -> dict[str, Any]:
    """A ModelWorker as a user writes it."""
    return {
        "apiVersion": "modelworker.dev/v1alpha1",
        "kind": "ModelWorker",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "gpu": {"count": 0},
            "image": "local/worker",
            "model": {"source": {"hostPath": {"path": "/models/none"}}},
        },
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def create_converged(operator: Operator, number: int) -> None:
    """Create objects with one pod each, and wait until the operator has nothing left to do."""
    print(f"creating {number} objects", file=sys.stderr)

    async def create() -> None:
        async with api(operator.cluster.kubeconfig) as client:
            for index in range(number):
                await client.request("POST", OBJECTS, worker(f"w{index}", 1))

    async def settled() -> bool:
        async with api(operator.cluster.kubeconfig) as client:
            items = (await client.request("GET", OBJECTS))["items"]
        statuses = [item.get("status", {}) for item in items]
        return all(status.get("replicas") == 1 and status.get("workers") for status in statuses)

    asyncio.run(create())
    until(lambda: asyncio.run(settled()), what="a status of every object")

    def quiet() -> bool:
        audit = Audit(operator.cluster)
        time.sleep(5)
        return audit.writes() == 0

    until(quiet, what="an operator at rest")
