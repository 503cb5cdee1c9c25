"""The devcluster's command line on real binaries: what it does, and that it leaves nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import eventually

CLI = [sys.executable, "-m", "modelworker_devcluster"]


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
    assert (other.returncode, "runs with no node and no operator, not with" in other.stderr) == (
        1,
        True,
    )

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


def test_pods_have_logs_and_die_with_the_cluster_they_are_in(shell: Shell) -> None:
    script = f"echo hello; touch {shell.folder}/file; exec tail -f {shell.folder}/file"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "containers": [
                {"name": "main", "image": "local/x", "command": ["sh", "-c", script]},
            ]
        },
    }
    up = shell("up", "--gpus", "1")
    assert up.returncode == 0, up.stderr
    subprocess.run(
        ["sh", "-c", f"{up.stdout}\nkubectl apply -f -"],
        input=json.dumps(pod),
        text=True,
        env=shell.environment,
        check=True,
    )
    eventually(
        lambda: shell("logs", "p").stdout, until=lambda log: log == "hello\n", what="the pod's log"
    )
    assert "p -n default" in shell("logs").stdout.splitlines()
    eventually(
        shell.processes,
        until=lambda lines: any(line.startswith("tail -f") for line in lines),
        what="the pod's process",
    )
    psutil.Process(json.loads(shell("status", "-o", "json").stdout)["pid"]).kill()
    shell.nothing_is_left()


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
    (shell.folder / "file").touch()
    script = f"tail -f {shell.folder}/file & echo command runs; wait"
    with shell.start("run", "--no-node", "--", "sh", "-c", script) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith(when):
                break
        run.send_signal(number)
        said = run.stdout.read()  # until nobody is left who could write
        assert run.wait(60) == code, said
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
