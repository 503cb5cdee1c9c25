"""The process kubelet ends and starts again: on a node of its own that nothing is scheduled to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelworker_devcluster import DevCluster
from tests.support import eventually

Object = dict[str, Any]
NODE = "second"


class Node:
    """A kubelet of its own on the shared cluster."""

    def __init__(self, cluster: DevCluster, namespace: str, directory: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "kubelet.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "modelworker_devcluster.kubelet"),
                    *("--kubeconfig", str(self._cluster.kubeconfig)),
                    *("--directory", str(self._directory)),
                    *("--node-name", NODE, "--image", "local/*", "--backoff-seconds", "0.1"),
                ],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGTERM)

    def apply(self, name: str, policy: str, *command: str) -> None:
        spec = {
            "nodeName": NODE,
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "local/test", "command": list(command)}],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self._kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def pid(self, name: str) -> int:
        def read() -> int:
            (file,) = self._directory.glob(f"pods/{self._namespace}_{name}_*/c.pid")
            return int(file.read_text())

        return eventually(read, what=f"process of {name}")

    def status(self, name: str) -> Object:
        found: Object = json.loads(self._kubectl("get", "pod", name, "-o", "json"))["status"]
        return found

    def container(self, name: str) -> Object:
        found: Object = self.status(name)["containerStatuses"][0]
        return found

    def delete(self, name: str) -> None:
        self._kubectl("delete", "pod", name, "--wait=false")

    def pods(self) -> str:
        return self._kubectl("get", "pods", "-o", "name")

    def _kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self._cluster.kubectl("-n", self._namespace, *args, stdin=stdin)


@pytest.fixture
def node(cluster: DevCluster, namespace: str, tmp_path: Path) -> Iterator[Node]:
    blank = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    unschedulable = blank | {"spec": {"unschedulable": True}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(unschedulable))
    found = Node(cluster, namespace, tmp_path)
    found.start()
    yield found
    found.close()
    cluster.kubectl("delete", "node", NODE)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def running(container: Object) -> bool:
    return "running" in container["state"]


def test_killed_kubelet_leaves_no_process_and_comes_back(node: Node) -> None:
    node.apply("stays", "Always", "sleep", "600")
    node.apply("once", "Never", "sleep", "600")
    node.apply("deleted", "Always", "sleep", "600")
    names = ("stays", "once", "deleted")
    pids = [node.pid(name) for name in names]
    for name in names:
        eventually(lambda n=name: node.container(n), until=running, what=f"{name} running")  # type: ignore[misc]
    node.end(signal.SIGKILL)
    eventually(lambda: all(map(gone, pids)), what="end of all processes")
    node.delete("deleted")

    node.start()
    stays = eventually(
        lambda: node.container("stays"),
        until=lambda one: running(one) and one["restartCount"] == 1,
        what="restart",
    )
    assert stays["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    addresses = node.status("stays")["podIPs"]
    assert addresses == [{"ip": node.status("stays")["podIP"]}]
    once = eventually(
        lambda: node.status("once"), until=lambda one: one["phase"] == "Failed", what="Failed"
    )
    assert once["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    eventually(lambda: "deleted" not in node.pods(), what="end of the deleted pod")


def test_sigterm_ends_the_kubelet_and_its_processes(node: Node) -> None:
    node.apply("stays", "Always", "sh", "-c", "setsid sleep 600 & trap '' TERM; sleep 600; sleep 9")
    pid = node.pid("stays")
    assert node.end(signal.SIGTERM) == 0
    assert gone(pid)
    # For the API server it is a node that is away: the pod stays as it was.
    assert "pod/stays" in node.pods()


def test_pods_run_on_without_an_api_server(cluster: DevCluster, node: Node) -> None:
    node.apply("stays", "Always", "sleep", "600")
    eventually(lambda: node.container("stays"), until=running, what="stays running")
    pid = node.pid("stays")
    cluster.stop_apiserver()
    try:
        os.kill(pid, signal.SIGKILL)
        again = eventually(lambda: node.pid("stays"), until=lambda now: now != pid, what="restart")
    finally:
        cluster.start_apiserver()
    status = eventually(
        lambda: node.container("stays"), until=lambda one: one["restartCount"] == 1, what="status"
    )
    assert running(status)
    assert not gone(again)
    node.delete("stays")
    eventually(lambda: "stays" not in node.pods(), what="deletion")


def test_owner_does_not_flood_the_cluster_with_refused_pods(
    cluster: DevCluster, namespace: str, node: Node
) -> None:
    template = {
        "metadata": {"labels": {"app": "refused"}},
        "spec": {
            "nodeName": NODE,
            "hostNetwork": True,
            "containers": [{"name": "c", "image": "local/test", "command": ["true"]}],
        },
    }
    replica_set = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "refused"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "refused"}},
            "template": template,
        },
    }
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(replica_set))
    waiting = "{.items[*].status.containerStatuses[*].state.waiting.message}"
    eventually(
        lambda: cluster.kubectl("-n", namespace, "get", "pods", "-o", f"jsonpath={waiting}"),
        until=lambda text: text == "not supported by devcluster: spec.hostNetwork",
        what="refusal in the status of the one pod",
    )
    assert len(node.pods().split()) == 1


def test_crash_loop_backs_off_longer_and_longer(node: Node) -> None:
    node.apply("crash", "Always", "sh", "-c", "exit 1")
    message = eventually(
        lambda: node.container("crash")["state"]["waiting"]["message"],
        until=lambda text: text.startswith("back-off 1.6s"),
        what="the fifth delay",
    )
    assert "restarting failed container=c pod=crash" in message
    assert node.container("crash")["restartCount"] >= 5
