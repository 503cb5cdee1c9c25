"""The devcluster on real binaries: what it gives, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelworker_devcluster import DevCluster, DevClusterError, KubectlFailed
from tests.support import eventually

CLI = [sys.executable, "-m", "modelworker_devcluster"]
SLOWEST_START_S = 30.0
"""A start takes about 4 s on two idle cores; tests may run beside other work."""


class Shell:
    """The command line with all its files under one folder, by which its processes are known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tmp").mkdir()
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "XDG_STATE_HOME": str(folder / "state"),
            "TMPDIR": str(folder / "tmp"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*CLI, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments],
            env=self.environment | changed,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def processes(self) -> list[str]:
        """The command lines of the processes that work under the folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.folder) in line and process.pid != os.getpid():
                found.append(line)
        return found

    def nothing_is_left(self) -> None:
        eventually(self.processes, until=lambda left: not left, what="end of all processes")
        eventually(
            lambda: list((self.folder / "tmp").iterdir()),
            until=lambda left: not left,
            what="removal of all temporary folders",
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made("down")
    made.nothing_is_left()


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


# The command line


def test_up_is_idempotent_and_down_leaves_nothing(shell: Shell) -> None:
    up = shell("up", "--no-node")
    assert up.returncode == 0, up.stderr
    kubeconfig = shell.folder / "state/modelworker/devcluster/default/kubeconfig"
    assert up.stdout.splitlines()[0] == f"export KUBECONFIG={kubeconfig}"
    assert shell("kubeconfig").stdout.strip() == str(kubeconfig)
    told = subprocess.run(
        ["sh", "-c", f"{up.stdout}\nkubectl get namespace default -o name"],
        env=shell.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "namespace/default\n"

    before = json.loads(shell("status", "-o", "json").stdout)
    assert before["state"] == "Running"
    assert shell("up", "--no-node").stdout == up.stdout
    assert json.loads(shell("status", "-o", "json").stdout) == before
    other = shell("up", "--gpus", "1")
    assert (other.returncode, "runs with no node, not with" in other.stderr) == (1, True)

    assert "kube-apiserver" in shell("logs").stdout.splitlines()
    assert len(shell("logs", "kube-apiserver", "--tail", "3").stdout.splitlines()) == 3

    down = shell("down")
    assert (down.returncode, down.stdout) == (0, "devcluster default: stopped\n")
    shell.nothing_is_left()
    again = shell("down")
    assert (again.returncode, again.stdout) == (0, "devcluster default: nothing was running\n")
    assert json.loads(shell("status", "-o", "json").stdout)["state"] == "Stopped"
    assert shell("kubeconfig").returncode == 1


def test_what_was_killed_is_said_and_cleaned_up(shell: Shell) -> None:
    def status() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(shell("status", "-o", "json").stdout)
        return shown

    assert shell("up", "--no-node").returncode == 0
    psutil.Process(status()["components"]["kube-scheduler"]).kill()
    eventually(lambda: status()["state"], until=lambda state: state == "Degraded")
    psutil.Process(status()["pid"]).kill()
    shell.nothing_is_left()
    assert status()["state"] == "Crashed"
    up = shell("up", "--no-node")
    assert (up.returncode, "ended without `down`" in up.stderr) == (0, True)
    assert status()["state"] == "Running"


def test_run_gives_the_command_a_cluster_and_passes_its_exit_code_on(shell: Shell) -> None:
    done = shell("run", "--no-node", "--", "sh", "-c", "kubectl get ns default -o name; exit 7")
    assert (done.returncode, done.stdout) == (7, "namespace/default\n")
    shell.nothing_is_left()


@pytest.mark.parametrize(
    ("when", "number", "code"),
    [
        pytest.param("starting etcd", signal.SIGINT, 130, id="start-SIGINT"),
        pytest.param("starting kube-apiserver", signal.SIGHUP, 129, id="start-SIGHUP"),
        pytest.param("starting etcd", signal.SIGKILL, -9, id="start-SIGKILL"),
        pytest.param("command runs", signal.SIGINT, 130, id="run-SIGINT"),
        pytest.param("command runs", signal.SIGTERM, 143, id="run-SIGTERM"),
        pytest.param("command runs", signal.SIGKILL, -9, id="run-SIGKILL"),
    ],
)
def test_run_leaves_nothing_when_it_is_ended(
    shell: Shell, when: str, number: signal.Signals, code: int
) -> None:
    script = f"echo command runs; : {shell.folder}; sleep 1000 & wait"
    with shell.start("run", "--no-node", "--", "sh", "-c", script) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith(when):
                break
        run.send_signal(number)
        left = "" if number is signal.SIGKILL else run.stdout.read()
        assert run.wait(60) == code, left
    shell.nothing_is_left()


# What cannot work


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["up", "--name", "Not/A/Name"], "cannot be a cluster's name", id="name"),
        pytest.param(["up", "--gpus", "-1"], "not a whole number", id="gpus"),
        pytest.param(["up", "--capacity", "x"], "RESOURCE=QUANTITY", id="capacity"),
        pytest.param(["up", "--no-node", "--gpus", "1"], "not allowed with", id="no-node-gpus"),
        pytest.param(["up", "--no-node", "--capacity", "x=1"], "drop one", id="no-node-capacity"),
        pytest.param(["logs", "etcd"], "does not run", id="logs-of-nothing"),
        pytest.param(["kubeconfig"], "start it with", id="kubeconfig-of-nothing"),
        pytest.param(["run"], "required: CMD", id="no-command"),
    ],
)
def test_bad_input_is_refused_with_a_next_step(
    shell: Shell, arguments: list[str], message: str
) -> None:
    done = shell(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [["up"], ["run", "--", "true"], ["binaries"]], ids=lambda c: c[0]
)
def test_missing_binaries_are_said_before_anything_starts(shell: Shell, command: list[str]) -> None:
    empty = shell.folder / "empty"
    empty.mkdir()
    done = shell(*command, MODELWORKER_KUBE_BINARIES=str(empty))
    assert done.returncode == 1
    assert done.stderr.startswith(f"MODELWORKER_KUBE_BINARIES names {empty}, which has no execut")
    assert "unset MODELWORKER_KUBE_BINARIES" in done.stderr


def test_a_component_that_cannot_start_says_why(shell: Shell) -> None:
    broken = shell.folder / "broken"
    broken.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"):
        (broken / name).write_text("#!/bin/sh\necho this is no etcd\nexit 4\n")
        (broken / name).chmod(0o755)
    done = shell("up", "--no-node", MODELWORKER_KUBE_BINARIES=str(broken))
    assert done.returncode == 1
    assert "etcd ended with exit code 4" in done.stderr
    assert "this is no etcd" in done.stderr
