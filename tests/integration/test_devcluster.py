"""The devcluster on real binaries: what it gives, and that it leaves nothing behind."""

import json
import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from modelworker_devcluster import DevCluster, DevClusterError, KubectlFailed
from tests.support import eventually

SLOWEST_START_S = 30.0
"""A start takes about 4 s on two idle cores; tests may run beside other work."""


def agents(cluster: DevCluster, agent: str) -> list[dict[str, str]]:
    """The audit events of the clients whose user agent begins with `agent`."""
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    return [event for event in events if event.get("userAgent", "").startswith(agent)]


# What a cluster is


def test_a_second_cluster_starts_in_time_beside_the_first_and_knows_nothing_of_it(
    control_plane: DevCluster,
) -> None:
    control_plane.kubectl("create", "configmap", "only-here")
    steps: list[str] = []
    second = DevCluster("second", kubelet=False)
    began = time.monotonic()
    second.start(steps.append)
    try:
        assert time.monotonic() - began < SLOWEST_START_S
        assert steps[0] == "starting etcd"
        assert second.server != control_plane.server
        assert second.kubectl("config", "current-context").strip() == "devcluster-second"
        assert "only-here" not in second.kubectl("get", "configmap", "-o=name")
        folder, pids = second.directory, second.pids
        with pytest.raises(DevClusterError, match="runs already"):
            second.start()
    finally:
        second.stop()
    second.stop()
    assert not folder.exists()
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
    assert control_plane.kubectl("get", "configmap", "only-here", "-o=name")
    with pytest.raises(DevClusterError, match="does not run"):
        second.kubectl("version")


def test_the_folder_of_a_cluster_is_not_taken_for_another(tmp_path: Path) -> None:
    (tmp_path / "etcd").mkdir()
    with pytest.raises(DevClusterError, match="holds a cluster already"):
        DevCluster(kubelet=False, directory=tmp_path).start()


def test_kubectl_is_the_servers_own_version(control_plane: DevCluster) -> None:
    done = subprocess.run(
        [control_plane.binaries / "kubectl", "version", "-o=json"],
        env={**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=True,
    )
    versions = json.loads(done.stdout)
    assert versions["clientVersion"]["gitVersion"] == versions["serverVersion"]["gitVersion"]
    assert done.stderr == ""


def test_pods_and_volumes_can_be_asked_for_at_once(control_plane: DevCluster) -> None:
    classes = json.loads(control_plane.kubectl("get", "storageclass", "-o=json"))["items"]
    assert [(c["metadata"]["name"], c["provisioner"], c["volumeBindingMode"]) for c in classes] == [
        ("devcluster", "devcluster.modelworker.dev/folder", "Immediate")
    ]
    annotations = classes[0]["metadata"]["annotations"]
    assert annotations["storageclass.kubernetes.io/is-default-class"] == "true"
    control_plane.kubectl("run", "p", "--image=local/x", "--dry-run=server")


def test_kubectl_fails_with_what_it_said(control_plane: DevCluster) -> None:
    with pytest.raises(KubectlFailed, match="`kubectl get pod nobody` ended with") as failed:
        control_plane.kubectl("get", "pod", "nobody")
    assert (failed.value.returncode, '"nobody" not found' in failed.value.stderr) == (1, True)
    assert control_plane.kubectl("get", "pod", "nobody", check=False) == ""


def test_requests_can_be_counted_by_user_agent(control_plane: DevCluster) -> None:
    before = len(agents(control_plane, "kubectl"))
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counted"}}
    control_plane.kubectl("create", "-f", "-", "--validate=false", stdin=json.dumps(manifest))
    new = agents(control_plane, "kubectl")[before:]
    assert [event["stage"] for event in new if event["verb"] == "create"] == ["ResponseComplete"]
    assert all(event["level"] == "Metadata" for event in new)
    assert "RequestReceived" not in control_plane.audit_log.read_text()


def test_an_api_server_that_was_killed_comes_back_with_its_port_and_data() -> None:
    with DevCluster(kubelet=False) as cluster:
        cluster.kubectl("create", "configmap", "kept")
        server, pid = cluster.server, cluster.pids["kube-apiserver"]
        cluster.stop_apiserver()
        assert not psutil.pid_exists(pid)
        with pytest.raises(KubectlFailed, match="refused"):
            cluster.kubectl("get", "configmap", "kept")
        cluster.start_apiserver()
        assert cluster.server == server
        assert cluster.kubectl("get", "configmap", "kept", "-o=name") == "configmap/kept\n"
        with pytest.raises(DevClusterError, match="kube-apiserver runs already"):
            cluster.start_apiserver()
        # The others were left alone and go on with it.
        cluster.kubectl("create", "namespace", "later")
        eventually(
            lambda: cluster.kubectl("get", "serviceaccount", "default", "-n=later", "-o=name"),
            what="service account, made by the controller-manager",
        )


def test_the_node_has_the_capacity_that_was_asked_for(cluster: DevCluster) -> None:
    node = json.loads(cluster.kubectl("get", "node", "devcluster", "-o=json"))
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "2"
    assert node["spec"].get("taints", []) == []
