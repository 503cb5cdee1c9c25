"""The operator as a process, for tests on a real API server."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.support import eventually

ROOT = Path(__file__).parents[1]
WRITES = ("create", "update", "patch", "delete", "deletecollection")


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def install_crds(cluster: DevCluster) -> None:
    """Install the custom resource definitions and wait until they are served."""
    cluster.kubectl("apply", "-f", str(ROOT / "crds"))
    eventually(
        lambda: cluster.kubectl("api-resources", "--api-group=modelworker.dev", "-o=name").split(),
        until=lambda served: len(served) == len(kube.KINDS),
        what="served kinds",
    )


@dataclass
class OperatorProcess:
    """One `python -m modelworker_operator` that serves one namespace of a cluster."""

    cluster: DevCluster
    namespace: str
    identity: str = "operator-a"
    environment: dict[str, str] = field(default_factory=dict)
    heartbeat_port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="operator-", suffix=".log")
        self.log = Path(name)
        settings = {
            "NAMESPACES": self.namespace,
            "NAMESPACE": self.namespace,
            "IDENTITY": self.identity,
            "HEARTBEAT_HOST": "127.0.0.1",
            "HEARTBEAT_PORT": str(self.heartbeat_port),
            # Part of the children: the same for every operator of a test.
            "HEARTBEAT_URL": "http://heartbeats.example",
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self.health_port),
            "KUBECONFIG": str(self.cluster.kubeconfig),
            **self.environment,
        }
        with os.fdopen(handle, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelworker_operator"],
                env={
                    **os.environ,
                    **{f"MODELWORKER_OPERATOR_{key}": text for key, text in settings.items()},
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.cluster.guard(self.process.pid)

    def get(self, path: str) -> httpx.Response:
        """Answer of the health listener."""
        return httpx.get(f"http://127.0.0.1:{self.health_port}{path}", timeout=5)

    def metric(self, name: str) -> float:
        """One sample of /metrics; `name` includes its labels."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def leads(self) -> bool:
        """Whether this process leads and knows every object."""
        answer = self.get("/readyz")
        return answer.status_code == httpx.codes.OK and answer.text == "leading\n"

    def wait_leading(self, timeout: float = 60.0) -> "OperatorProcess":
        """Until it leads and knows every object."""
        eventually(self._leads_or_log, timeout=timeout, interval=0.05, what="leading operator")
        return self

    def _leads_or_log(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.leads()

    def wait_ended(self, timeout: float = 15.0) -> int:
        """The exit code."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """End it by SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def operator(cluster: DevCluster, namespace: str, **options: Any) -> Iterator[OperatorProcess]:
    """An operator that leads, for a block."""
    process = OperatorProcess(cluster, namespace, **options)
    try:
        yield process.wait_leading()
    finally:
        process.stop()
        process.log.unlink()


@dataclass(frozen=True)
class Objects:
    """Shorthand for the objects of one kind in one namespace of a cluster."""

    cluster: DevCluster
    namespace: str
    kind: kube.Kind = kube.MODELWORKER

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Output of kubectl in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    def get(self, *names: str) -> dict[str, Any]:
        """Objects as JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *names, "-o", "json"))
        return found

    def apply(self, manifest: dict[str, Any]) -> None:
        """Apply a manifest of any kind."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def apply_worker(self, name: str, **spec: Any) -> None:
        """Apply an object of the kind; `spec` is added to a small valid one."""
        scoring = {"scoring": {"type": "Process"}} if self.kind == kube.REWARDMODEL else {}
        self.apply(
            {
                "apiVersion": kube.API_VERSION,
                "kind": self.kind.kind,
                "metadata": {"name": name},
                "spec": {
                    "replicas": 1,
                    "gpu": {"count": 0},
                    "image": "local/worker",
                    "model": {"source": {"hostPath": {"path": "/models/none"}}},
                    **scoring,
                    **spec,
                },
            }
        )

    def status(self, name: str) -> dict[str, Any]:
        """Status of an object; empty while it has none."""
        found: dict[str, Any] = self.get(self.kind.short, name).get("status", {})
        return found

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """One condition of an object; empty while there is none."""
        conditions = self.status(name).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def wait_reconciled(self, name: str, timeout: float = 15.0) -> dict[str, Any]:
        """The object once its status speaks of its newest generation."""

        def seen() -> dict[str, Any]:
            found = self.get(self.kind.short, name)
            current = found.get("status", {}).get("observedGeneration")
            return found if current == found["metadata"]["generation"] else {}

        return eventually(seen, timeout=timeout, what=f"reconciled {name}")

    def selector(self, name: str) -> str:
        """Label selector of an object's children."""
        return f"{kube.LABEL_KIND}={self.kind.kind},{kube.LABEL_NAME}={name}"

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        """Deployment and Service of an object, by their kind, as far as they exist."""
        listed = self.get("deployments,services", "-l", self.selector(name))
        return {item["kind"]: item for item in listed["items"]}

    def wait_children(self, name: str, timeout: float = 15.0) -> dict[str, dict[str, Any]]:
        """Deployment and Service of an object once both exist."""
        return eventually(
            lambda: self.children(name),
            until=lambda found: set(found) == {"Deployment", "Service"},
            timeout=timeout,
            what=f"children of {name}",
        )


@dataclass
class Audit:
    """The writes in the API server's audit log since this was made, by the user agent."""

    cluster: DevCluster

    def __post_init__(self) -> None:
        self._start = self.cluster.audit_log.stat().st_size

    def writes(self, agent: str, *, leases: bool = False) -> list[dict[str, Any]]:
        """Writes whose user agent contains `agent`, token reviews not counted."""
        with self.cluster.audit_log.open() as log:
            log.seek(self._start)
            events = [json.loads(line) for line in log if line.endswith("\n")]
        return [
            event
            for event in events
            if event["verb"] in WRITES
            and event["stage"] == "ResponseComplete"
            and agent in event.get("userAgent", "")
            and event.get("objectRef", {}).get("resource") != "tokenreviews"
            and (leases or event.get("objectRef", {}).get("resource") != "leases")
        ]

    def brief(self, agent: str) -> list[tuple[str, str, int]]:
        """The writes as verb, resource and status code."""
        return [
            (
                event["verb"],
                "/".join(
                    filter(
                        None,
                        (event["objectRef"]["resource"], event["objectRef"].get("subresource")),
                    )
                ),
                event["responseStatus"]["code"],
            )
            for event in self.writes(agent)
        ]
