"""LoRA adapters and a change of backend on a real API server, with workers that only report."""

from collections.abc import Iterator
from typing import Any

import pytest

from modelworker_devcluster import DevCluster
from tests.operator_pods import bind, post, run, token
from tests.operator_support import Audit, Objects, OperatorProcess, install_crds, operator
from tests.support import eventually

NAMESPACE = "adapters"
MATH = {"name": "math", "path": "adapters/math"}
CODE = {"name": "code", "huggingFace": {"repo": "org/code", "revision": "v1"}}


@pytest.fixture(scope="module")
def running(control_plane: DevCluster) -> Iterator[OperatorProcess]:
    """An operator for the namespace of this module."""
    install_crds(control_plane)
    control_plane.kubectl("create", "namespace", NAMESPACE)
    with operator(control_plane, NAMESPACE, environment={"LEADER_ELECT": "false"}) as process:
        yield process


@pytest.fixture
def objects(running: OperatorProcess) -> Objects:
    return Objects(running.cluster, NAMESPACE)


def the_pod(objects: Objects, name: str) -> str:
    """The name of an object's one pod."""
    found = eventually(
        lambda: objects.get("pods", "-l", objects.selector(name))["items"], what="a pod"
    )
    return str(found[0]["metadata"]["name"])


class FakeWorker:
    """The worker in a pod: it serves at once whatever it is told, unless it cannot."""

    def __init__(self, process: OperatorProcess, bearer: str) -> None:
        self._process = process
        self._bearer = bearer
        self._adapters: list[dict[str, Any]] = []

    def beat(self, *, failing: str = "") -> list[str] | None:
        """Report and obey; returns the names that the operator told, None if it told none."""
        answer = eventually(
            lambda: post(
                self._process, self._bearer, {"state": "Ready", "adapters": self._adapters}
            ),
            until=lambda seen: seen.status_code != 429,
            what="a heartbeat that is taken",
        )
        assert answer.status_code == 200, answer.text
        told = answer.json().get("adapters")
        if told is None:
            return None
        self._adapters = [
            {
                **{key: one[key] for key in ("name", "location", "revision") if key in one},
                **(
                    {"state": "Failed", "message": "no such folder"}
                    if one["name"] == failing
                    else {"state": "Loaded"}
                ),
            }
            for one in told
        ]
        return [one["name"] for one in told]


def test_adapters_come_and_go_without_a_new_pod(running: OperatorProcess, objects: Objects) -> None:
    def state() -> tuple[dict[str, str], str | None]:
        status = objects.status("tuned")
        entries = {one["name"]: one["state"] for one in status.get("adapters", ())}
        conditions = {one["type"]: one for one in status.get("conditions", ())}
        return entries, conditions.get("AdaptersLoaded", {}).get("reason")

    def apply(*adapters: dict[str, Any]) -> None:
        objects.apply_worker("tuned", backend="VLLM", lora={"adapters": list(adapters)})
        objects.wait_reconciled("tuned")

    def wait(entries: dict[str, str], reason: str | None) -> None:
        eventually(state, until=lambda seen: seen == (entries, reason), what=f"adapters {entries}")

    apply(MATH)
    pod = the_pod(objects, "tuned")
    bind(objects, pod)
    run(objects, pod, ready=True)
    eventually(
        lambda: objects.status("tuned").get("readyReplicas"),
        until=lambda count: count == 1,
        what="a ready worker",
    )
    deployment = objects.children("tuned")["Deployment"]["metadata"]
    worker = FakeWorker(running, token(objects, pod))

    wait({"math": "Loading"}, "AdaptersLoading")
    assert worker.beat() == ["math"]
    worker.beat()
    wait({"math": "Loaded"}, "AdaptersLoaded")

    apply(MATH, CODE)
    wait({"math": "Loaded", "code": "Loading"}, "AdaptersLoading")
    assert worker.beat(failing="code") == ["math", "code"]
    worker.beat(failing="code")
    wait({"math": "Loaded", "code": "Failed"}, "AdapterFailed")
    assert "no such folder" in objects.condition("tuned", "AdaptersLoaded")["message"]
    assert objects.condition("tuned", "Available")["status"] == "True"

    apply(CODE)
    worker.beat()
    worker.beat()
    wait({"code": "Loaded"}, "AdaptersLoaded")

    apply()
    wait({}, None)
    assert worker.beat() == []

    after = objects.children("tuned")["Deployment"]["metadata"]
    assert (after["uid"], after["generation"]) == (deployment["uid"], deployment["generation"])
    assert the_pod(objects, "tuned") == pod

    # What the engine has to be started with is another matter.
    objects.apply_worker("tuned", backend="VLLM", lora={"maxRank": 64})
    eventually(
        lambda: objects.children("tuned")["Deployment"]["metadata"]["generation"],
        until=lambda generation: generation > deployment["generation"],
        what="a new template",
    )


def test_a_change_of_backend_replaces_the_worker_once_the_new_one_is_ready(
    objects: Objects,
) -> None:
    def backends() -> dict[str, int]:
        """Pods by the backend that they are told."""
        found: dict[str, int] = {}
        for pod in objects.get("pods", "-l", objects.selector("moved"))["items"]:
            (container,) = pod["spec"]["containers"]
            env = {item["name"]: item.get("value") for item in container["env"]}
            word = str(env["MODELWORKER_BACKEND"])
            found[word] = found.get(word, 0) + 1
        return found

    objects.apply_worker("moved")
    before = the_pod(objects, "moved")
    bind(objects, before)
    run(objects, before, ready=True)
    objects.apply_worker("moved", backend="VLLM")
    eventually(
        backends,
        until=lambda seen: seen == {"transformers": 1, "vllm": 1},
        what="the new worker beside the old one",
    )
    row = objects.kubectl("get", "mw", "moved", "--no-headers").split()
    assert "VLLM" in row
    ready = eventually(
        lambda: objects.condition("moved", "Ready"),
        until=lambda seen: seen.get("reason") != "AllReplicasReady",
        what="a rollout that goes on",
    )
    assert ready["status"] == "False"
    assert objects.condition("moved", "Available")["status"] == "True"


def test_every_field_of_vllm_is_written_once(running: OperatorProcess, objects: Objects) -> None:
    """What the API server writes in its own words is not taken for somebody's edit."""
    passes = 'controller_runtime_reconcile_total{controller="modelworker",result="success"}'
    objects.apply_worker(
        "whole",
        backend="VLLM",
        gpu={"count": 2},
        parallelism={"tensor": 2},
        sharedMemory="2048Mi",
        vllm={
            "gpuMemoryUtilization": 0.5,
            "kvCacheMemory": "1024Mi",
            "developmentRoutes": {"tokenSecretRef": {"name": "trainer"}},
            "extraArgs": ["--seed", "1"],
        },
        lora={"adapters": [MATH, CODE]},
    )
    objects.wait_reconciled("whole")
    eventually(
        lambda: objects.condition("whole", "Ready").get("reason"),
        until=lambda seen: seen in ("InsufficientGPU", "Unschedulable"),
        what="a settled status",
    )
    audit, before = Audit(objects.cluster), running.metric(passes)
    objects.kubectl("annotate", "mw", "whole", "poke=1")
    eventually(
        lambda: running.metric(passes), until=lambda seen: seen > before, what="another pass"
    )
    assert audit.brief("operator-a") == []
