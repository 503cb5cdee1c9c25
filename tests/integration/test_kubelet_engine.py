"""A container whose process has an engine in a process of its own, as a worker of vLLM has."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from modelworker_devcluster import DevCluster
from tests.integration.kubelet_pods import mount, pod
from tests.integration.kubelet_world import World
from tests.support import eventually

# In a session of its own, so that no signal to a group reaches it.
CHILD = """
import pathlib, signal, sys, time

signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[1], "engine-was-told").touch())
while True:
    time.sleep(600)
"""
# After SIGTERM the engine has to go on for as long as requests are finished; then it is left.
WORKER = """
import os, pathlib, signal, subprocess, sys, time
from multiprocessing.shared_memory import SharedMemory

folder = pathlib.Path(sys.argv[1])
block = SharedMemory(create=True, size=4096)
assert pathlib.Path(os.environ["SHARED"], block.name).exists()
block.close()
block.unlink()
engine = subprocess.Popen(
    [sys.executable, "-c", sys.argv[2], str(folder)], start_new_session=True
)

def end(*_):
    time.sleep(1)
    (folder / "engine-at-the-end").write_text(str(engine.poll()))
    os._exit(0)

signal.signal(signal.SIGTERM, end)
(folder / f"engine-{os.getpid()}").write_text(str(engine.pid))
while True:
    time.sleep(600)
"""


@pytest.fixture
def world(cluster: DevCluster, tmp_path: Path) -> Iterator[World]:
    """A namespace with the one pod, which has its shared memory bounded."""
    namespace = f"engine-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    found = World(cluster, namespace, tmp_path)
    eventually(lambda: found.kubectl("get", "serviceaccount/default"), what="service account")
    volumes: list[dict[str, Any]] = [
        {"name": "host", "hostPath": {"path": str(tmp_path), "type": "Directory"}},
        {"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    worker = pod(
        "worker",
        *("python", "-c", WORKER, "/host", CHILD),
        spec={"restartPolicy": "Always", "volumes": volumes},
        env=[{"name": "SHARED", "value": "/dev/shm"}],
        volumeMounts=[mount("host", "/host"), mount("shared", "/dev/shm")],
    )
    found.kubectl("apply", "-f", "-", stdin=json.dumps(worker))
    yield found
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def pids(world: World, *, restarts: int) -> tuple[int, int]:
    """The process of the container after so many restarts, and its engine's."""

    def seen() -> tuple[int, int]:
        (status,) = world.get("pod", "worker")["status"]["containerStatuses"]
        assert status["restartCount"] == restarts
        process = int((world.folder("worker") / "c.pid").read_text())
        return process, int((world.shared / f"engine-{process}").read_text())

    return eventually(seen, what="a worker with an engine", timeout=30)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_an_engine_ends_with_its_worker(world: World) -> None:
    worker, engine = pids(world, restarts=0)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not alive(engine), what="the end of the engine")

    worker, engine = pids(world, restarts=1)
    world.kubectl("delete", "pod", "worker", "--wait=true")
    assert not alive(worker)
    assert not alive(engine)
    # Only the worker was told to end; its engine worked until it had.
    assert (world.shared / "engine-at-the-end").read_text() == "None"
    assert not (world.shared / "engine-was-told").exists()


def test_the_size_of_shared_memory_is_not_enforced_and_that_is_said(world: World) -> None:
    status = world.phase("worker", "Running")
    (isolation,) = [
        one["message"]
        for one in status["conditions"]
        if one["type"] == "devcluster.modelworker.dev/IsolationEnforced"
    ]
    assert "spec.volumes[shared].emptyDir.sizeLimit" in isolation
