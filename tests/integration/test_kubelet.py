"""The process kubelet on a real API server: one namespace of small pods, each showing one thing."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from modelworker_devcluster import DevCluster
from tests.integration.kubelet_pods import AUDIENCE, claim_volume, mount, objects, pod
from tests.integration.kubelet_world import World
from tests.support import eventually

Object = dict[str, Any]


@pytest.fixture(scope="module")
def world(cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All pods, applied at once."""
    shared = tmp_path_factory.mktemp("host")
    namespace = f"kubelet-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    found = World(cluster, namespace, shared)
    eventually(lambda: found.kubectl("get", "serviceaccount/default"), what="service account")
    everything = {"apiVersion": "v1", "kind": "List", "items": objects(shared)}
    found.kubectl("apply", "-f", "-", stdin=json.dumps(everything))
    yield found
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_environment(world: World) -> None:
    status = world.phase("env", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", world.log("env")
    report = json.loads(world.log("env"))
    env, work = report["env"], f"{world.folder('env')}/volumes/work"
    expected = {
        "VALUE": "plain",
        "EXPANDED": "plain/$(VALUE)/$(MISSING)",
        "POD": "env",
        "UID": world.get("pod", "env")["metadata"]["uid"],
        "LABEL": "env",
        "ANNOTATION": "hello",
        "NODE": "devcluster",
        "ACCOUNT": "default",
        "IP": status["podIP"],
        "HOST": "127.0.0.1",
        "CPUS": "1",
        "KEY": "blue",
        "PASSWORD": "s3cret",
        "CFG_color": "blue",
        "CFG_size": "9",
        "PATH_IN_POD": f"{work}/file",
        "CUDA_VISIBLE_DEVICES": "",
        "HOSTNAME": "env",
    }
    assert {key: env.get(key) for key in expected} == expected
    assert "ABSENT" not in env
    assert report["argv"] == ["plain", f"{work}/arg", "$(VALUE)", "/scratchpad"]
    # Nothing of the host's environment but what a container has, too.
    assert "PYTHONPATH" not in env
    assert env["HOME"] == f"{world.folder('env')}/home"


def test_files_and_token(world: World) -> None:
    assert world.phase("files", "Succeeded", "Failed")["phase"] == "Succeeded", world.log("files")
    token, *rest = json.loads(world.log("files"))
    assert rest == ["blue", "s3cret", 'app="files"', "9", "blue", "s3cret"]
    secret = world.folder("files") / "volumes/login/password"
    assert secret.stat().st_mode & 0o777 == 0o400

    def review(*audiences: str) -> Object:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        answer = world.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request))
        status: Object = json.loads(answer)["status"]
        return status

    status = review(AUDIENCE)
    assert status["authenticated"] is True
    assert status["audiences"] == [AUDIENCE]
    extra = status["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["files"]
    uid = world.get("pod", "files")["metadata"]["uid"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    assert not review("somebody-else").get("authenticated")


def test_claim_keeps_data_from_pod_to_pod_until_it_is_deleted(world: World) -> None:
    world.phase("writer", "Succeeded")
    world.kubectl("delete", "pod", "writer")
    reader = pod(
        "reader",
        *("cat", "/data/file"),
        spec={"volumes": [claim_volume()]},
        volumeMounts=[mount("data", "/data")],
    )
    world.kubectl("apply", "-f", "-", stdin=json.dumps(reader))
    world.phase("reader", "Succeeded")
    assert world.log("reader") == "kept\n"
    folder = world.cluster.directory / "kubelet/volumes" / world.namespace / "data"
    assert (folder / "file").exists()
    world.kubectl("delete", "pod/reader", "pvc/data")
    eventually(lambda: not folder.exists(), what="removal of the claim's folder")


def test_init_containers_run_in_order(world: World) -> None:
    status = world.phase("init", "Succeeded")
    assert world.log("init") == "first\nsecond\n"
    assert [one["state"]["terminated"]["reason"] for one in status["initContainerStatuses"]] == [
        "Completed",
        "Completed",
    ]


def condition(status: Object, kind: str) -> Object:
    found: Object = next(one for one in status.get("conditions", []) if one["type"] == kind)
    return found


def test_readiness_follows_its_probe(world: World) -> None:
    world.container("ready", "running")
    go = world.folder("ready") / "volumes/work/go"

    def becomes(status: str) -> None:
        eventually(
            lambda: condition(world.get("pod", "ready")["status"], "Ready"),
            until=lambda one: one["status"] == status,
            what=f"Ready={status}",
        )

    becomes("False")
    go.touch()
    becomes("True")
    go.unlink()
    becomes("False")
    assert any("statuscode: 503" in message for message in world.events("ready"))


@pytest.mark.parametrize(
    ("name", "kind", "output"),
    [
        pytest.param("sick", "liveness", "Liveness probe failed", id="liveness"),
        pytest.param("slow", "startup", "Startup probe failed: not yet", id="startup"),
    ],
)
def test_failed_probe_restarts_the_container(
    world: World, name: str, kind: str, output: str
) -> None:
    status = eventually(
        lambda: world.get("pod", name)["status"]["containerStatuses"][0],
        until=lambda one: one["restartCount"] >= 1 and "lastState" in one,
        what=f"restart of {name}",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 143
    events = eventually(
        lambda: world.events(name), until=lambda seen: len(seen) >= 2, what=f"events of {name}"
    )
    assert f"Container c failed {kind} probe, will be restarted" in events
    assert any(message.startswith(output) for message in events)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        pytest.param("crash", 3, "last words\n", id="file"),
        pytest.param("crash-log", 4, "first\nthe reason\n", id="log"),
    ],
)
def test_crash_backs_off_and_says_why(world: World, name: str, code: int, message: str) -> None:
    status = world.container(name, "waiting", "CrashLoopBackOff")
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting")
    last = status["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (code, "Error", message)
    assert status["restartCount"] == 1
    assert (world.folder(name) / "c.previous.log").exists()


def test_on_failure_tries_again(world: World) -> None:
    status = world.phase("again", "Succeeded")
    assert status["containerStatuses"][0]["restartCount"] == 1


def test_killed_process_is_started_again(world: World) -> None:
    world.container("victim", "running")
    pid = int((world.folder("victim") / "c.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    status = eventually(
        lambda: world.get("pod", "victim")["status"]["containerStatuses"][0],
        until=lambda one: one["restartCount"] == 1 and "running" in one["state"],
        what="restart after SIGKILL",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 137


def test_stubborn_container_is_killed_after_its_grace_period(world: World) -> None:
    assert world.log("stubborn") == "ready\n"
    pid = int((world.folder("stubborn") / "c.pid").read_text())
    began = time.monotonic()
    world.kubectl("delete", "pod", "stubborn", "--wait=true")
    assert 3 <= time.monotonic() - began < 15
    assert not Path(f"/proc/{pid}").exists()


def test_pre_stop_comes_before_sigterm_and_post_start_before_all(world: World) -> None:
    assert world.log("hook") == "ready\n"
    assert (world.shared / "started").exists()
    began = time.time()
    world.kubectl("delete", "pod", "hook", "--wait=true")
    told = float((world.shared / "hook").read_text())
    assert 2 <= told - began < 15


def test_gpus_are_exclusive(world: World) -> None:
    devices = {
        json.loads(world.log(name))["env"]["CUDA_VISIBLE_DEVICES"] for name in ("gpu-a", "gpu-b")
    }
    assert devices == {"0", "1"}
    world.kubectl("delete", "pod", "gpu-a", "gpu-b", "--grace-period=1", "--wait=true")


def test_unsupported_fields_are_refused_by_name(world: World) -> None:
    status = world.phase("unsupported", "Failed")
    assert status["reason"] == "NotSupportedByDevcluster"
    assert "spec.hostPID" in status["message"]
    assert "spec.containers[c].stdin" in status["message"]


def test_unknown_image(world: World) -> None:
    status = world.container("image", "waiting", "ImagePullBackOff")
    assert "local/*" in status["state"]["waiting"]["message"]


def test_container_without_command(world: World) -> None:
    status = world.container("command", "waiting", "CreateContainerConfigError")
    assert "set `command`" in status["state"]["waiting"]["message"]


def test_program_that_does_not_exist(world: World) -> None:
    status = world.container("program", "terminated", "StartError")["state"]["terminated"]
    assert (status["exitCode"], world.get("pod", "program")["status"]["phase"]) == (128, "Failed")
    assert "no-such-program" in status["message"]


def test_container_waits_for_its_secret(world: World) -> None:
    status = world.container("config", "waiting", "CreateContainerConfigError")
    assert status["state"]["waiting"]["message"] == 'secret "later" not found'
    world.kubectl("create", "secret", "generic", "later", "--from-literal=k=here")
    world.phase("config", "Succeeded")
    assert world.log("config") == "here\n"


def test_what_is_not_enforced_is_said(world: World) -> None:
    status = world.phase("limits", "Running")
    isolation = condition(status, "devcluster.modelworker.dev/IsolationEnforced")
    assert isolation["status"] == "False"
    assert "spec.containers[c].resources.limits.memory" in isolation["message"]
    assert "spec.containers[c].securityContext.runAsNonRoot" in isolation["message"]


def test_deployment_becomes_available(world: World) -> None:
    world.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
    pods = json.loads(world.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    addresses = {one["status"]["podIP"] for one in pods}
    # Both listen on port 8000.
    assert len(addresses) == 2
    world.kubectl("delete", "deployment", "web", "--wait=false")
